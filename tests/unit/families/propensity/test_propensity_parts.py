"""Losses, heads, what tasks share, weights of tasks, calibration."""

import math

import numpy as np
import pytest
import torch
from propensity_case import ALL, CHURN, CONVERSION, ORDERS, VALUE, example

from wanamaker.data.propensity_batch import Task
from wanamaker.errors import UserError
from wanamaker.families.propensity import calibration
from wanamaker.families.propensity.heads import Heads
from wanamaker.families.propensity.intervals import interval
from wanamaker.families.propensity.losses import hazard_loss, observed_intervals, ziln_loss
from wanamaker.families.propensity.multitask import STRUCTURES, TaskNet
from wanamaker.families.propensity.weighting import TaskWeights

EDGES = torch.tensor([30.0, 60.0, 90.0])


def test_intervals_count_only_where_it_is_known_what_happened_in_them() -> None:
    label = torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0])
    time = torch.tensor([30.0, 31.0, 200.0, 29.0, 30.0, 75.0, 500.0])
    survived, event = observed_intervals(EDGES, label, time)
    assert survived.tolist() == [[0, 0, 0], [1, 0, 0], [1, 1, 1], [0, 0, 0], [1, 0, 0], [1, 1, 0], [1, 1, 1]]
    assert event.tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0]]


def test_hazard_loss_is_the_likelihood_of_the_curve_and_least_at_kaplan_meier() -> None:
    logits = torch.tensor([[-1.0, 0.5, -2.0]])
    survival = (1 - logits.sigmoid()).cumprod(-1)[0]
    loss = hazard_loss(logits.expand(3, -1), EDGES, torch.tensor([1.0, 0.0, 0.0]), torch.tensor([45.0, 61.0, 90.0]))
    expected = [survival[0] - survival[1], survival[1], survival[2]]
    torch.testing.assert_close(loss, -torch.stack(expected).log())
    made = example(3000, (CHURN,))
    known = Heads([CHURN])
    known.fit(made.stats)
    start = known.start.clone().requires_grad_()
    known.loss(start.expand(3000, -1), made.batch.label, made.batch.time).sum().backward()
    # Kaplan-Meier counts a customer at risk in the interval in which observation ended, the likelihood does not.
    assert start.grad.abs().max() / 3000 < 0.06


def test_ziln_is_a_density_and_its_mean_is_the_expectation() -> None:
    torch.manual_seed(0)
    heads = Heads([VALUE])
    heads.location[0], heads.scale[0] = 3.0, 0.8
    raw = torch.tensor([[0.4, 0.3, 0.1]])
    mean, sd = heads._lognormal(raw)
    grid = torch.linspace(-12, 12, 20001)
    amounts = (heads.location + heads.scale * grid).exp()
    density = (-ziln_loss(raw[:, 0].expand(20001), mean.expand(20001), sd.expand(20001), amounts, grid)).exp()
    assert float(torch.trapezoid(density, grid)) == pytest.approx(float(raw[0, 0].sigmoid()), rel=1e-4)
    drawn = (heads.location + heads.scale * (mean + sd * torch.randn(400_000))).exp() * (
        torch.rand(400_000) < raw[0, 0].sigmoid()
    )
    assert float(heads.natural(raw)) == pytest.approx(float(drawn.mean()), rel=0.02)
    heads.bound[0] = 5.0
    assert float(heads.natural(raw)) == pytest.approx(5.0)


def test_training_begins_at_the_base_rates_and_unknown_labels_cost_nothing() -> None:
    made = example(800, ALL)
    heads = Heads(ALL)
    heads.fit(made.stats)
    score = heads.score(heads.natural(heads.start[None]))[0]
    label = made.batch.label
    assert float(score[0]) == pytest.approx(float(label[:, 0].mean()), abs=1e-4)
    assert float(score[1]) == pytest.approx(1 - math.prod(1 - h for h in made.stats.hazard[1]), abs=1e-4)
    assert float(score[3]) == pytest.approx(float(label[:, 3].mean()), rel=1e-4)
    raw = torch.randn(2, 800, heads.width, generator=torch.Generator().manual_seed(1)).requires_grad_()
    missing = torch.full_like(label, float("nan"))
    loss = heads.loss(raw, missing, missing)
    loss.sum().backward()
    assert not loss.any()
    assert not raw.grad.any()
    assert not heads.known(missing, missing).any()


def test_the_mixture_of_members_is_judged_by_its_own_probability() -> None:
    made = example(50, (CONVERSION, CHURN, ORDERS))
    heads = Heads(made.schema.tasks)
    heads.fit(made.stats)
    raw = torch.randn(3, 50, heads.width, generator=torch.Generator().manual_seed(1))
    use = torch.ones(3, 50, dtype=torch.bool)
    use[0, :25] = False
    loss = heads.mixture_loss(raw, use, made.batch.label, made.batch.time)
    share = (use / use.sum(0))[..., None]
    natural = (heads.natural(raw) * share).sum(0)
    label = made.batch.label
    chosen = torch.where(label[:, 0] > 0, natural[:, 0], 1 - natural[:, 0])
    torch.testing.assert_close(loss[:, 0], -chosen.log())
    wanted = 0.5 * ((natural[:, -1] - label[:, 2]) / heads.scale[2]).square()
    torch.testing.assert_close(loss[:, 2], wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("towers", [(), (5,)])
def test_members_share_nothing_and_start_at_zero(structure: str, towers: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    net = TaskNet(3, 4, [1, 3, 3], structure, (6, 5), towers, experts=2, levels=2, dropout=0.2)
    x, seeds = torch.randn(7, 4), torch.arange(7)
    assert not net(x, seeds).any()
    for value in net.parameters():
        value.data.add_(0.1 * torch.randn_like(value))
    raw = net(x, seeds)
    assert raw.shape == (3, 7, 7)
    raw[1].sum().backward()
    for name, value in net.named_parameters():
        moved = value.grad.reshape(3, -1).abs().sum(1) > 0
        assert not moved[0], name
        assert not moved[2], name
    torch.testing.assert_close(net(x.expand(3, -1, -1), seeds), raw)
    reordered = torch.tensor([3, 1, 6, 0, 2, 5, 4])
    torch.testing.assert_close(net(x[reordered], seeds[reordered]), raw[:, reordered])


@pytest.mark.parametrize("structure", ["mmoe", "ple", "separate"])
def test_a_task_can_be_alone(structure: str) -> None:
    torch.manual_seed(0)
    net = TaskNet(2, 4, [1, 1], structure, (6,), experts=2)
    for value in net.parameters():
        value.data.add_(0.1 * torch.randn_like(value))
    net(torch.randn(5, 4))[..., 0].sum().backward()
    untouched = [name for name, value in net.named_parameters() if value.grad is None or not value.grad.any()]
    assert untouched, "something belongs to the other task alone"


def test_uncertain_tasks_count_less() -> None:
    weights = TaskWeights(["a", "b"], 2, "uncertainty", {"a": 2.0})
    losses = torch.tensor([[0.1, 4.0]]).expand(2, -1)
    known = torch.ones(2, 2, dtype=torch.bool)
    optimizer = torch.optim.Adam(weights.parameters(), lr=0.1)
    for _ in range(200):
        optimizer.zero_grad()
        weights(losses, known).sum().backward()
        optimizer.step()
    torch.testing.assert_close(weights.log_variance.exp(), 2 * losses, rtol=0.02, atol=0.0)
    with pytest.raises(UserError, match="task_weights names 'c'"):
        TaskWeights(["a", "b"], 2, "fixed", {"c": 2.0})


def _rows(count: int, slope: float, bias: float, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    linked = rng.normal(-1, 1.5, count)
    label = rng.random(count) < 1 / (1 + np.exp(-slope * linked - bias))
    return {"linked": linked, "label": label, "weight": np.ones(count), "fold": rng.integers(0, 4, count)}


def test_calibration_finds_the_line_and_leaves_alone_what_is_right() -> None:
    state = calibration.fitted([CONVERSION], [_rows(4000, 0.5, 0.7)], 4, "temperature")
    assert state["used"][0] == 1
    assert state["line"][0, -1] == pytest.approx([0.5, 0.7], abs=0.1)
    state = calibration.fitted([CONVERSION], [_rows(1500, 1.0, 0.0)], 4, "none")
    assert state["used"][0] == 0
    few = _rows(30, 1.0, -3.0)
    assert calibration.fitted([CONVERSION], [few], 4, "isotonic")["used"][0] == 0


def test_isotonic_calibration_mends_a_bend_and_keeps_ranks() -> None:
    rng = np.random.default_rng(1)
    linked = rng.normal(0, 2, 20_000)
    truth = np.where(linked > 0, 0.6, 0.1)
    rows = {"linked": linked, "label": rng.random(20_000) < truth, "weight": np.ones(20_000)}
    rows["fold"] = rng.integers(0, 4, 20_000)
    state = calibration.fitted([CONVERSION], [rows], 4, "auto")
    assert state["used"][0] == 2
    heads = Heads([CONVERSION])
    made = calibration.Calibration(heads, 4)
    made.take(state)
    natural = torch.from_numpy(linked).float().sigmoid().sort().values[:, None]
    own = torch.zeros(20_000, dtype=torch.bool)
    mapped = made(heads, natural, torch.zeros(20_000, dtype=torch.int64), own)
    assert (mapped.diff(dim=0) >= 0).all()
    assert float(mapped[:9000].mean()) == pytest.approx(0.1, abs=0.02)
    assert float(mapped[11000:].mean()) == pytest.approx(0.6, abs=0.02)
    assert 0 < float(mapped.min()) < float(mapped.max()) < 1


@pytest.mark.parametrize("choice", ["temperature", "isotonic"])
def test_calibrated_amounts_have_the_right_total(choice: str) -> None:
    rng = np.random.default_rng(2)
    linked = rng.normal(2, 1, 6000)
    amount = 3 * np.exp(0.6 * linked) * rng.exponential(size=6000) * (rng.random(6000) < 0.5)
    rows = {"linked": linked, "label": amount, "weight": np.ones(6000), "fold": rng.integers(0, 4, 6000)}
    heads = Heads([VALUE])
    made = calibration.Calibration(heads, 4)
    made.take(calibration.fitted([VALUE], [rows], 4, choice))
    natural = torch.from_numpy(np.exp(linked)).float()[:, None]
    mapped = made(heads, natural, torch.from_numpy(rows["fold"]), torch.zeros(6000, dtype=torch.bool))
    assert float(mapped.sum()) == pytest.approx(amount.sum(), rel=0.01)
    out_of_fold = made(heads, natural, torch.from_numpy(rows["fold"]), torch.ones(6000, dtype=torch.bool))
    assert float(out_of_fold.sum()) == pytest.approx(amount.sum(), rel=0.05)


def test_a_calibrated_hazard_is_a_survival_curve() -> None:
    made = example(2000, (CHURN,))
    heads = Heads([CHURN])
    heads.fit(made.stats)
    raw = heads.start + 3 * made.batch.numeric[:, :1]  # far too sure
    natural = heads.natural(raw)
    fold = made.batch.row % 4
    rows = {"natural": natural, "label": made.batch.label, "time": made.batch.time}
    table = calibration.calibration_rows(heads, rows | {"weight": made.batch.weight, "fold": fold})
    state = calibration.fitted([CHURN], table, 4, "auto")
    assert state["used"][0] > 0
    mapping = calibration.Calibration(heads, 4)
    mapping.take(state)
    mapped = mapping(heads, natural, fold, torch.ones(2000, dtype=torch.bool))
    assert (mapped.diff(dim=1) <= 0).all()

    def loss(curve: torch.Tensor) -> float:
        logits = calibration.linked_outputs("hazard", curve)
        return float(hazard_loss(logits, EDGES, made.batch.label[:, 0], made.batch.time[:, 0]).mean())

    assert loss(mapped) < loss(natural)


def test_intervals_of_cross_fitted_members_are_those_of_the_jackknife() -> None:
    """Members that are means without a fold: the delete-a-group jackknife is the variance of the mean."""
    rng = torch.Generator().manual_seed(0)
    heads = Heads((Task("orders", "regression"),))
    K, rows, repeats = 10, 200, 2000
    values = torch.randn(repeats, K, rows // K, generator=rng)
    total = values.sum((1, 2))
    without = (total[:, None] - values.sum(2)) / (rows - rows // K)  # [repeats, K]: each a position
    members = without.T[..., None].repeat(2, 1, 1)
    score = (total / rows)[:, None]
    low, high = interval(heads, members, score, 0.9, 1.0, groups=K)
    assert ((low <= 0) & (high >= 0)).float().mean() == pytest.approx(0.9, abs=0.02)
    narrow, wide = interval(heads, members, score, 0.9, 1.0)
    assert (wide - narrow < high - low).all()
