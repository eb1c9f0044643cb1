"""Training in two stages: who saw what, when a stage ends, and what comes out."""

import math
import warnings
from functools import partial
from itertools import product

import lightning as L
import numpy as np
import pytest
import torch
from tests.unit.families.quiet_trainer import fit_quietly
from x_case import Example, ExampleData, built, example, rows_of

from wanamaker.errors import UserError
from wanamaker.families.x_learner.module import XLearnerModule
from wanamaker.families.x_learner.net import XLearnerNet
from wanamaker.families.x_learner.scoring import DrLoss, best_mixture, relative_loss
from wanamaker.families.x_learner.stages import RateFactors, Stages
from wanamaker.nn.schedules import warmup_cosine
from wanamaker.predictions import UpliftPredictions


def fitted(case: Example, held_out: int = 0, epochs: tuple[int, int] = (4, 4), **options) -> tuple:
    """A module after one fit, its trainer and its data."""
    L.seed_everything(0, verbose=False)
    data = ExampleData(case, held_out)
    net = XLearnerNet(**{"hidden": (8,), "replicas": 2, "bootstrap": "poisson"} | options)
    optimizer = partial(torch.optim.AdamW, lr=0.01, weight_decay=0.01)
    module = XLearnerModule(net, optimizer, nuisance_epochs=epochs[0], effect_epochs=epochs[1])
    return module, fit_quietly(module, data, -1), data


def predicted(trainer: L.Trainer, module: XLearnerModule, data: ExampleData) -> UpliftPredictions:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return UpliftPredictions.concat(trainer.predict(module, datamodule=data))


def train_nuisances(case: Example) -> tuple[XLearnerNet, torch.Tensor]:
    """Some steps of the first stage without Lightning, and out-of-fold expected outcomes [N, K, Y]."""
    net = built(case, replicas=2)
    net.train()
    optimizer = torch.optim.AdamW(net.nuisance.parameters(), lr=0.01)
    for step in range(20):
        batch = rows_of(case.batch, torch.arange(step % 4, 400, 4))
        outcome, arm = net.nuisance.member_loss(net.nuisance(batch, batch.row + 1000 * step), batch)
        weight = net.learning_weight(batch)
        loss = ((weight * (outcome + arm)).sum(1) / weight.sum(1)).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    net.eval()
    seen = torch.ones(len(case.batch.row), dtype=torch.bool)
    return net, net.judge(case.batch, seen).nuisances.mean


def test_out_of_fold_predictions_never_saw_their_row():
    case = example(rows=400)
    net, before = train_nuisances(case)
    row = 17
    outcome = case.batch.outcome.clone()
    outcome[row] = 1 - outcome[row]
    changed = Example(case.batch._replace(outcome=outcome), case.mean, case.schema, case.stats)
    _, after = train_nuisances(changed)
    fold = net.fold(case.batch)
    same = (before == after).flatten(1).all(1)
    assert same[fold == fold[row]].all()  # bit for bit, the row itself among them
    assert not same[fold != fold[row]].any()


def test_a_constant_effect_is_recovered():
    case = example(rows=8000, effect="constant")
    module, trainer, data = fitted(case, epochs=(3, 4))
    effect = predicted(trainer, module, data).effect[:, 0, 0]
    assert effect.mean() == pytest.approx(0.1, abs=0.025)  # two standard errors of the difference of two means
    assert effect.std() < 0.03
    assert module.stages.stage == "done"


@pytest.mark.parametrize("learner", ["x", "stack"])
def test_varied_effects_are_found_and_told_on_new_customers(learner: str):
    case = example(rows=8000, arms=3)
    module, trainer, data = fitted(case, held_out=2000, epochs=(6, 8), learner=learner, effect_head="anchored")
    assert trainer.callback_metrics["val/dr_loss"] < 1
    predictions = predicted(trainer, module, data)
    new = predictions.split == 2
    truth = case.mean[:, 1:] - case.mean[:, :1]
    effect = predictions.effect[..., 0]
    assert np.corrcoef(effect[new, 1], truth[new, 1])[0, 1] > 0.5
    assert np.corrcoef(effect[~new, 1], truth[~new, 1])[0, 1] > 0.5
    assert (predictions.low < predictions.effect).all()
    assert module.net.mixture.sum(0).numpy() == pytest.approx(1.0)


@pytest.mark.parametrize("learner", ["s", "t"])
def test_learners_without_a_second_stage_end_after_the_first(learner: str):
    case = example(rows=6000, kind="continuous")
    module, trainer, data = fitted(case, epochs=(8, 1), learner=learner)
    assert module.stages.stage == "done"
    assert trainer.current_epoch <= 8
    truth = case.mean[:, 1] - case.mean[:, 0]
    assert np.corrcoef(predicted(trainer, module, data).effect[:, 0, 0], truth)[0, 1] > 0.3


def test_an_observational_table_learns_its_propensities():
    case = example(rows=6000, probabilities=False)
    confounded = torch.rand(6000) < torch.sigmoid(1.5 * case.batch.numeric[:, 0])
    case.batch = case.batch._replace(treatment=confounded.long())
    module, trainer, data = fitted(case, epochs=(6, 1), learner="dr")
    propensity = predicted(trainer, module, data).propensity
    truth = torch.sigmoid(1.5 * case.batch.numeric[:, 0]).numpy()
    assert np.corrcoef(propensity[:, 1], truth)[0, 1] > 0.9
    assert propensity.min() >= 0.02


def test_batches_of_validation_and_order_of_rows_do_not_matter():
    case = example(rows=500)
    net = built(case, replicas=2)
    seen = torch.arange(500) % 3 > 0
    whole = net(case.batch, seen).effect
    parts = [net(rows_of(case.batch, range(i, i + 100)), seen[i : i + 100]).effect for i in range(0, 500, 100)]
    torch.testing.assert_close(torch.cat(parts), whole)


def test_a_stage_ends_by_patience_or_length_and_keeps_its_best():
    net = torch.nn.Linear(1, 1)
    stages = Stages((10, 10), patience=2, has_effect_stage=True)
    ended = []
    for epoch, score in enumerate([3.0, 2.0, 2.5, math.nan]):
        net.weight.data.fill_(epoch)
        if stages.better(score):
            stages.keep(score, net)
        ended.append(stages.end_epoch(net, step=7 * (epoch + 1), max_epochs=-1))
    assert ended == [False, False, False, True]
    assert net.weight.item() == 1
    assert (stages.stage, stages.first_step) == ("effect", 28)
    copy = Stages((10, 10), 2, True)
    copy.from_dict(stages.to_dict())
    assert copy.to_dict() == stages.to_dict()


@pytest.mark.parametrize(("bound", "planned"), [(-1, (6, 3)), (9, (6, 3)), (6, (4, 2)), (2, (1, 1)), (1, (1, 0))])
def test_a_bounded_run_shares_its_epochs_out(bound: int, planned: tuple[int, int]):
    assert Stages((6, 3), 1, True).planned(bound) == planned
    assert Stages((6, 3), 1, False).planned(bound)[0] == min(6, bound) or bound == -1
    with pytest.raises(UserError, match="patience=0"):
        Stages((6, 3), 0, True)


def test_each_stage_begins_its_schedule_anew():
    rates = RateFactors(partial(warmup_cosine, warmup_steps=2, final_factor=0.1))
    first = [rates.at(step, 10) for step in range(12)]
    assert first[2] == pytest.approx(1.0)
    assert first[:2] == sorted(first[:2])
    assert first[11] == first[9] < 0.2
    assert [rates.at(step, 10) for step in range(12)] == first
    assert RateFactors(None).at(5, 10) == 1.0


def test_the_mixture_is_the_best_of_all_and_the_loss_is_what_it_says():
    rng = np.random.default_rng(0)
    estimates = rng.normal(size=(3, 400, 1, 1))
    score = 0.6 * estimates[0] + 0.3 * estimates[2] + rng.normal(size=(400, 1, 1))
    loss = DrLoss()
    for part in (slice(0, 150), slice(150, 400)):
        weight = torch.ones(len(score[part]), 1)
        loss.update(torch.from_numpy(estimates[:, part]), torch.from_numpy(score[part]), weight)
    sums = loss.total((3, 1, 1), torch.device("cpu"))
    mixture = best_mixture(sums)
    assert mixture.sum() == pytest.approx(1)
    assert mixture.min() >= 0
    found = relative_loss(sums, mixture)[0, 0]
    direct = np.square(score - np.einsum("e,enay->nay", mixture[:, 0, 0], estimates)).sum()
    assert found == pytest.approx(direct / np.square(score - score.mean()).sum())
    for a, b in product(np.linspace(0, 1, 21), repeat=2):
        if a + b <= 1:
            assert found <= relative_loss(sums, np.array([a, b, 1 - a - b])[:, None, None])[0, 0] + 1e-9
