"""Folds, pseudo-outcomes, heads and calibration: the properties that the method rests on."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from x_case import built, example, rows_of

from wanamaker.errors import UserError
from wanamaker.families.x_learner.calibration import MIN_SLOPE, calibrate_rows, calibrated, cross_fitted_knots
from wanamaker.families.x_learner.effects import NETS, difference, dr_effect, residual, targets
from wanamaker.families.x_learner.module import XLearnerModule
from wanamaker.families.x_learner.net import XLearnerNet
from wanamaker.families.x_learner.outcome_heads import OutcomeHeads
from wanamaker.nn.folds import bootstrap_weights, fold_of, held_out, member_mean
from wanamaker.nn.row_hash import mixed

KEY = mixed(torch.arange(20_000)) & ((1 << 62) - 1)


# -- folds -------------------------------------------------------------------------------------------------------------


def test_folds_are_even_and_a_function_of_the_key():
    fold = fold_of(KEY, 4, 0)
    assert (torch.bincount(fold) - 5000).abs().max() < 250
    order = torch.randperm(len(KEY))
    assert torch.equal(fold_of(KEY[order], 4, 0), fold[order])
    assert 0.2 < (fold_of(KEY, 4, 1) == fold).float().mean() < 0.3


def test_a_member_is_kept_from_one_fold():
    fold = fold_of(KEY, 4, 0)
    kept_from = held_out(fold, 4, 8)
    assert (kept_from.sum(0) == 2).all()
    for m in range(8):
        assert torch.equal(kept_from[m], fold == m % 4)
    values = torch.randn(8, 20_000, 3)
    mean = member_mean(values, kept_from)
    torch.testing.assert_close(mean[0], values[[fold[0], fold[0] + 4], 0].mean(0))


@pytest.mark.parametrize("kind", ["poisson", "bayesian", "none"])
def test_bootstrap_weights_have_mean_and_variance_one(kind: str):
    weights = bootstrap_weights(KEY, 3, kind, 0)
    assert weights.shape == (3, 20_000)
    assert (weights.mean(1) - 1).abs().max() < 0.03
    if kind != "none":
        assert (weights.var(1) - 1).abs().max() < 0.08
        assert torch.corrcoef(weights).sub(torch.eye(3)).abs().max() < 0.03
        assert abs(float(torch.corrcoef(torch.stack([weights[0], fold_of(KEY, 4, 0).float()]))[0, 1])) < 0.03
    with pytest.raises(UserError, match="jackknife"):
        bootstrap_weights(KEY, 3, "jackknife", 0)


# -- pseudo-outcomes ---------------------------------------------------------------------------------------------------


def test_doubly_robust_targets_are_unbiased_with_wrong_outcomes_and_right_probabilities():
    case = example(rows=200_000, arms=3)
    wrong = torch.rand(200_000, 3, 1)
    score, known = dr_effect(wrong, torch.full((200_000, 3), 1 / 3), case.batch.treatment, case.batch.outcome)
    truth = case.mean[:, 1:] - case.mean[:, :1]
    assert known.all()
    for part in (slice(None), case.batch.numeric[:, 1].numpy() > 0.5):
        error = score[part, :, 0].double().numpy().mean(0) - truth[part].mean(0)
        assert np.abs(error).max() < 4 * float(score.std()) / np.sqrt(len(score[part]))


def test_every_target_has_the_sign_and_size_of_the_effect():
    """With the right expected outcomes and no noise every net is shown the effect itself."""
    case = example(rows=3000, arms=3)
    mean = torch.from_numpy(case.mean)[..., None]
    treatment = case.batch.treatment
    exact = mean.gather(1, treatment[:, None, None])[:, 0]
    rest, known = residual(mean, treatment, exact)
    assert rest.abs().max() < 1e-12
    propensity = torch.tensor([0.2, 0.5, 0.3]).double().expand(3000, -1)
    wanted = targets(NETS["stack"], mean, propensity, treatment, rest, known)
    assert wanted.value.shape == (4, 3000, 2, 1)
    torch.testing.assert_close(wanted.value, difference(mean).expand(4, -1, -1, -1))
    rows = {name: wanted.weight[n, :, 0, 0] for n, name in enumerate(NETS["stack"])}
    assert torch.equal(rows["x1"] > 0, treatment == 1)
    assert torch.equal(rows["x0"] > 0, treatment == 0)
    assert (rows["dr"] == 1).all()
    assert torch.equal(rows["r"] > 0, treatment < 2)
    # More sales than expected under the offer speak for it, under the control against it.
    more = targets(NETS["stack"], mean, propensity, treatment, torch.ones_like(rest), known).value - wanted.value
    assert (more[1:, treatment == 1, 0] > 0).all()
    assert (more[[0, 2, 3]][:, treatment == 0, 0] < 0).all()


def test_r_targets_are_the_residuals_of_the_r_loss():
    """(y - m)/(t - g) with weight (t - g)^2, computed as Nie and Wager write it."""
    case = example(rows=500)
    mean = torch.rand(500, 2, 1).double()
    propensity = torch.tensor([0.3, 0.7]).double().expand(500, -1)
    t, y = case.batch.treatment.double(), case.batch.outcome.double()
    rest, known = residual(mean, case.batch.treatment, y)
    wanted = targets(("r",), mean, propensity, case.batch.treatment, rest, known)
    m = 0.7 * mean[:, 1] + 0.3 * mean[:, 0]
    torch.testing.assert_close(wanted.value[0, :, 0], (y - m) / (t - 0.7)[:, None])
    torch.testing.assert_close(wanted.weight[0, :, 0, 0], (t - 0.7).square())


def test_unknown_arms_and_outcomes_say_nothing():
    case = example(rows=20)
    treatment, outcome = case.batch.treatment.clone(), case.batch.outcome.clone()
    treatment[3], outcome[5] = -1, float("nan")
    rest, known = residual(torch.rand(20, 2, 1), treatment, outcome)
    wanted = targets(NETS["stack"], torch.rand(20, 2, 1), torch.full((20, 2), 0.5), treatment, rest, known)
    assert wanted.value.isfinite().all()
    assert (wanted.weight[:, [3, 5]] == 0).all()


# -- effect heads ------------------------------------------------------------------------------------------------------


def test_anchored_effects_stay_within_what_an_outcome_can_do():
    case = example(rows=300, arms=3)
    net = built(case, effect_head="anchored")
    net.effects.mlp.weights[-1].data.normal_(0, 30)
    mu_0 = torch.rand(300, 1)
    effect = net.effects(case.batch, mu_0).effect
    assert (effect >= -mu_0[:, None] - 1e-6).all()
    assert (effect <= 1 - mu_0[:, None] + 1e-6).all()
    assert effect.max() > 0.3
    amounts = example(rows=300, kind="zero_inflated")
    net = built(amounts, effect_head="anchored")
    net.effects.mlp.weights[-1].data.normal_(0, 30)
    assert (net.effects(amounts.batch, 50 * mu_0).effect >= -50 * mu_0[:, None]).all()


@pytest.mark.parametrize("head", ["free", "anchored"])
@pytest.mark.parametrize("kind", ["binary", "zero_inflated", "continuous"])
def test_effects_begin_at_the_average(head: str, kind: str):
    case = example(rows=40_000, effect="constant", kind=kind)
    net = built(case, effect_head=head, learner="stack")
    mean = torch.from_numpy(case.mean)[..., None].float()
    propensity = torch.full((40_000, 2), 0.5)
    with torch.no_grad():
        net.effects.prepare(mean, propensity, case.batch)
        effect = net.effects(case.batch, mean[:, 0]).effect.mean(2)
    error = float((case.batch.outcome.std()) / 100)
    truth = float((case.mean[:, 1] - case.mean[:, 0]).mean())
    assert net.effects.average.item() == pytest.approx(truth, abs=4 * error)
    # The odds of an anchored start are those of the average customer, and so only roughly the average effect.
    assert (effect - truth).abs().max() < 4 * error + (0.15 * truth if head == "anchored" else 0)


@pytest.mark.parametrize("kind", ["binary", "zero_inflated", "continuous"])
def test_proportional_effects_move_all_alike_and_have_the_right_mean(kind: str):
    case = example(rows=4000, arms=3, kind=kind)
    effects = built(case, learner="proportional").effects
    mean = torch.as_tensor(case.mean, dtype=torch.float32).unsqueeze(-1)
    effects.prepare(mean, torch.full((4000, 3), 1 / 3), case.batch)
    found = effects.proportional(mean[:, 0])  # [N, A, 1]
    torch.testing.assert_close(found.mean(0), effects.average, rtol=1e-3, atol=1e-5)
    mu_0 = mean[:, 0].expand(-1, 2)
    if kind == "binary":
        change = torch.logit(found[..., 0] + mu_0) - torch.logit(mu_0)
    elif kind == "zero_inflated":
        change = found[..., 0] / mu_0
    else:
        change = found[..., 0]
    assert change.std(0).max() < 1e-3 * change.abs().max()
    # each member speaks by its own expected outcomes
    several = effects.proportional(torch.stack([mean[:, 0], 0.5 * mean[:, 0]]))
    assert several.shape == (2, 4000, 2, 1)
    torch.testing.assert_close(several[0], found)


def test_winsorised_residuals_keep_their_mean():
    case = example(rows=20_000, kind="zero_inflated")
    net = built(case, learner="dr")
    mean = torch.from_numpy(case.mean)[..., None].float()
    propensity = torch.full((20_000, 2), 0.5)
    net.effects.prepare(mean, propensity, case.batch)
    cut = net.effects.targets(mean, propensity, case.batch).value[0]
    score, _ = dr_effect(mean, propensity, case.batch.treatment, case.batch.outcome)
    assert cut.max() < 0.9 * score.max()
    assert float(cut.mean()) == pytest.approx(float(score.mean()), abs=1e-3 * float(score.std()))


def test_the_second_stage_never_reaches_the_first():
    case = example(rows=200)
    net = built(case, learner="stack", effect_head="anchored").train()
    seen = torch.ones(200, dtype=torch.bool)
    nuisances = net.nuisance.average(net.nuisance.eval()(case.batch), net.may_speak(case.batch, seen))
    wanted = net.effects.targets(nuisances.mean, nuisances.propensity, case.batch)
    output = net.effects(case.batch, nuisances.mean[:, 0], case.batch.row)
    net.effects.row_loss(output, wanted, 0.1).sum().backward()
    assert all(parameter.grad is None for parameter in net.nuisance.parameters())
    assert all((parameter.grad != 0).any() for name, parameter in net.effects.named_parameters() if "-1" in name)
    assert (net.effects.mlp.weights[-1].grad != 0).any()


# -- outcome heads -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["binary", "continuous", "zero_inflated"])
def test_the_loss_is_least_at_the_mean(kind: str):
    """Fitted to a lognormal amount with a long tail, which the gamma likelihood is wrong about, the mean is right."""
    torch.manual_seed(0)
    bought = (torch.rand(50_000) < 0.2).float()
    outcome = {"binary": bought, "continuous": 5 + 2 * torch.randn(50_000)}.get(
        kind, bought * torch.exp(3 + 1.2 * torch.randn(50_000))
    )[:, None]
    heads = OutcomeHeads([kind], 1)
    heads.fit([[float(outcome.mean())]], [[float(outcome.std())]], [1.0])
    raw = heads.start.clone().requires_grad_(True)
    start = float(heads.mean(heads.natural(heads.start)))
    assert start == pytest.approx(float(outcome.mean()), rel=1e-3)
    optimizer = torch.optim.LBFGS([raw], max_iter=60, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = heads.loss(raw.expand(50_000, -1), outcome).mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    assert float(heads.mean(heads.natural(raw.detach()))) == pytest.approx(float(outcome.mean()), rel=2e-3)
    torch.testing.assert_close(heads.raw(heads.natural(raw)), raw)


def test_an_unknown_outcome_costs_nothing():
    heads = OutcomeHeads(["binary", "zero_inflated"], 2)
    loss = heads.loss(torch.randn(3, 2, 3), torch.tensor([[1.0, float("nan")], [float("nan"), 4.0]]))
    assert loss.isfinite().all()
    assert (loss[:, 0, 1] == 0).all()
    assert (loss[:, 1, 0] == 0).all()
    assert (loss[:, 0, 0] > 0).all()


# -- calibration -------------------------------------------------------------------------------------------------------


def test_calibration_undoes_a_wrong_scale_and_keeps_the_order():
    rng = np.random.default_rng(0)
    truth = rng.normal(0.05, 0.05, 40_000)
    effect, score = 3 * truth + 0.1, truth + rng.normal(0, 0.3, 40_000)
    fold = rng.integers(0, 4, 40_000)
    knots = cross_fitted_knots(effect, score, np.ones(40_000), fold, 4, 20)
    assert knots.shape == (4, 2, 20)
    seen = torch.ones(40_000, dtype=torch.bool)
    mapped = calibrate_rows(torch.from_numpy(effect), torch.from_numpy(knots), torch.from_numpy(fold), seen)
    assert np.sqrt(np.mean((mapped.numpy() - truth) ** 2)) < 0.2 * np.sqrt(np.mean((effect - truth) ** 2))
    grid = torch.linspace(-1, 1, 500).double()
    slope = calibrated(grid, torch.from_numpy(knots[0])).diff() / grid.diff()
    assert (slope > 0.9 * MIN_SLOPE).all()


def test_calibration_is_cross_fitted():
    rng = np.random.default_rng(1)
    effect, score, fold = rng.normal(size=2000), rng.normal(size=2000), rng.integers(0, 4, 2000)
    before = cross_fitted_knots(effect, score, np.ones(2000), fold, 4, 10)
    changed = score + 50 * (fold == 2)
    after = cross_fitted_knots(effect, changed, np.ones(2000), fold, 4, 10)
    np.testing.assert_array_equal(after[2], before[2])
    assert (after[[0, 1, 3]] != before[[0, 1, 3]]).any(axis=(1, 2)).all()


def test_calibration_without_any_signal_is_one_number():
    knots = cross_fitted_knots(np.ones(50), np.arange(50.0), np.ones(50), np.arange(50) % 2, 2, 5)
    mapped = calibrated(torch.tensor([0.5, 1.0, 2.0]).double(), torch.from_numpy(knots[0]))
    torch.testing.assert_close(mapped, torch.full((3,), 25.0).double(), atol=2e-3, rtol=0)


# -- the net as a whole ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("learner", ["s", "t", "x", "dr", "r", "proportional", "stack"])
@pytest.mark.parametrize("arms", [2, 3])
def test_every_learner_speaks_in_a_notebook(learner: str, arms: int):
    case = example(rows=50, arms=arms, probabilities=arms == 2)
    net = built(case, learner=learner, replicas=2)
    seen = torch.arange(50) < 30
    output = net(case.batch, seen)
    assert output.mean.shape == (50, arms, 1)
    assert output.propensity.shape == (50, arms)
    assert output.effect.shape == output.half_width.shape == (50, arms - 1, 1)
    part = net(rows_of(case.batch, range(40, 50)))  # new customers: all members speak
    torch.testing.assert_close(part.effect, output.effect[40:])


def test_options_out_of_range_are_refused():
    case = example(rows=20)
    for options, said in (
        ({"learner": "z"}, "choose from s, t, x"),
        ({"folds": 1}, "at least 2 folds"),
        ({"effect_head": "tied"}, "free, anchored"),
        ({"clip": 0.6}, "clip=0.6"),
        ({"bootstrap": "jackknife"}, "poisson"),
        ({"hidden": [0]}, r"model.net.hidden=\[0\]: a layer has at least 1 unit"),
        ({"effect_hidden": [8, -4]}, r"model.net.effect_hidden=\[8, -4\]"),
        ({"pieces": -1}, "model.net.pieces=-1: give a whole number from 0 to 64"),
        ({"pieces": 1000}, "model.net.pieces=1000"),
        ({"log": "autoo"}, "model.net.log='autoo': choose from auto, none"),
        ({"embed_above": -1}, "model.net.embed_above=-1: give a whole number of at least 0"),
        ({"embedding": 0}, "model.net.embedding=0: give a whole number of at least 1"),
        ({"fold_seed": 10**20}, "model.net.fold_seed=1000"),
        ({"shrink": float("nan")}, "model.net.shrink=nan"),
        ({"interval_scale": float("inf")}, "model.net.interval_scale=inf"),
    ):
        with pytest.raises(UserError, match=said):
            built(case, **options)


def test_options_that_an_experiment_cannot_be_learnt_with():
    estimated, known = (example(rows=20, arms=3, probabilities=drawn).schema for drawn in (False, True))
    XLearnerNet(clip=0.4, folds=20).check(known, 20)
    for options, schema, said in (
        ({"clip": 0.4}, estimated, "model.net.clip=0.4: 3 arms cannot all be as likely"),
        ({"folds": 21}, known, "model.net.folds=21, but there are 20 training rows"),
        ({}, replace(known, numeric=()), "no column that is a feature"),
    ):
        with pytest.raises(UserError, match=said):
            XLearnerNet(**options).check(schema, 20)


@pytest.mark.parametrize("decay", [-1.0, float("nan")])
def test_a_weight_decay_that_is_none(decay: float):
    with pytest.raises(UserError, match=r"model\.effect_weight_decay="):
        XLearnerModule(XLearnerNet(), torch.optim.AdamW, effect_weight_decay=decay)
