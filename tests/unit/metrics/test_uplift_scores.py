"""`UpliftScores` and `UpliftHistogram` against the functions that they are made of."""

import math
import warnings

import numpy as np
import pytest
import torch
from uplift_case import ARMS, ROWS, experiment, fed

from wanamaker.metrics import uplift_curves as curves
from wanamaker.metrics.doubly_robust import autoc, average_effect, dr_effects, dr_loss, dr_scores, rate
from wanamaker.metrics.policy_value import everybody, policy_difference, policy_value
from wanamaker.metrics.uplift_calibration import calibration_error, calibration_line
from wanamaker.metrics.uplift_groups import rounded_scores
from wanamaker.metrics.uplift_histogram import UpliftHistogram
from wanamaker.metrics.uplift_scores import UpliftScores


def arrays() -> tuple[np.ndarray, ...]:
    """The rows whose arm and outcome are known: treatment, outcome, effect [N, A], scores [N, K]."""
    case = experiment()
    known = ((case.treatment >= 0) & ~case.outcome[:, 0].isnan()).numpy()
    treatment, outcome, mean, propensity, effect, _weight = (tensor.numpy().astype(float)[known] for tensor in case)
    treatment = treatment.astype(int)
    return treatment, outcome[:, 0], effect[..., 0], dr_scores(treatment, outcome[:, 0], mean[..., 0], propensity)


def test_scores_are_those_of_the_functions() -> None:
    treatment, outcome, effect, scores = arrays()
    seen = dr_effects(scores)
    found = fed(list(range(ROWS))).compute()
    expected = {"dr_loss": np.mean([dr_loss(effect[:, a], seen[:, a]) for a in (0, 1)])}
    for a, arm in enumerate(ARMS[1:]):
        own = (treatment == 0) | (treatment == a + 1)
        pair = effect[own, a], (treatment[own] == a + 1).astype(int), outcome[own]
        top = autoc(effect[:, a], seen[:, a])
        wide = rate(effect[:, a], seen[:, a], "qini")
        level = average_effect(seen[:, a])
        error = calibration_error(effect[:, a], seen[:, a])
        of_arm = {
            "qini_sklift": curves.qini_sklift(*pair),
            "auuc_sklift": curves.auuc_sklift(*pair),
            "qini_causalml": curves.qini_causalml(*pair, ties="shared"),
            "auuc_causalml": curves.auuc_causalml(*pair, ties="shared"),
            "qini_raw": curves.qini_raw(*pair),
            "auuc_raw": curves.auuc_raw(*pair),
            "uplift_at_30": curves.uplift_at_k(*pair, 0.3, ties="shared"),
            "autoc": top.value,
            "autoc_se": top.standard_error,
            "qini_dr": wide.value,
            "qini_dr_se": wide.standard_error,
            "average_effect": level.value,
            "average_effect_se": level.standard_error,
            "calibration_error": error.absolute,
            "calibration_bias": error.signed,
            "calibration_slope": calibration_line(effect[:, a], seen[:, a]).slope.value,
        }
        expected |= {f"{name}/{arm}": value for name, value in of_arm.items()}
    policy = np.where(effect.max(axis=1) > 0, effect.argmax(axis=1) + 1, 0)
    best = max(range(3), key=lambda arm: scores[:, arm].mean())
    model, single = policy_value(policy, scores), policy_value(everybody(best, len(scores)), scores)
    gain = policy_difference(policy, everybody(best, len(scores)), scores)
    expected |= {"policy_value": model.value, "policy_value_se": model.standard_error, "best_arm_value": single.value}
    expected |= {"gain_over_best_arm": gain.value, "gain_over_best_arm_se": gain.standard_error}
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_a_row_counts_once_however_often_and_in_whatever_order_it_comes() -> None:
    alone = fed(list(range(ROWS))).compute()
    assert fed([*range(40, ROWS), *range(90), 3, 3, 3], batch=17).compute() == alone
    assert fed(list(range(ROWS))[::-1]).compute() == alone
    again = fed(list(range(ROWS)))
    again.compute()
    assert again.compute() == alone
    again.reset()
    again.update(torch.arange(ROWS), *experiment())
    assert again.compute() == alone


def test_a_weight_of_two_is_two_rows() -> None:
    case = experiment()
    weighted = UpliftScores(ARMS, binary=True)
    weighted.update(torch.arange(ROWS), *case[:-1], torch.arange(ROWS) % 3 + 1.0)
    repeated = UpliftScores(ARMS, binary=True)
    twice = torch.arange(ROWS).repeat_interleave(torch.arange(ROWS) % 3 + 1)
    repeated.update(torch.arange(len(twice)), *(tensor[twice] for tensor in case))
    found, expected = weighted.compute(), repeated.compute()
    for name in found:
        if not name.split("/")[0].endswith("_se") and not name.startswith("calibration_error"):
            assert found[name] == pytest.approx(expected[name], rel=1e-6), name


def test_the_histogram_is_exact_where_effects_survive_its_rounding() -> None:
    case = experiment()
    case = case._replace(effect=torch.from_numpy(rounded_scores(case.effect.numpy(), 10)).float())
    exact = fed(list(range(ROWS)), case=case).compute()
    assert fed(list(range(ROWS)), max_rows=100, case=case).compute() == pytest.approx(exact, rel=1e-9, abs=1e-12)
    histogram = UpliftHistogram(ARMS, binary=True)
    for part in torch.arange(ROWS).split(50):
        histogram.update(*(tensor[part] for tensor in case))
        histogram.fold()
    assert histogram.compute() == pytest.approx(exact, rel=1e-9, abs=1e-12)


def test_the_histogram_is_close_where_effects_do_not() -> None:
    case = experiment(3000)
    case = case._replace(effect=case.effect + 0.01 * torch.rand(case.effect.shape, generator=torch.manual_seed(0)))
    exact = fed(list(range(3000)), case=case).compute()
    rounded = fed(list(range(3000)), max_rows=1000, case=case).compute()
    for name in ("dr_loss", "policy_value", "gain_over_best_arm_se", "average_effect/Call", "average_effect_se/Mail"):
        assert rounded[name] == pytest.approx(exact[name], rel=1e-9), name
    for name in ("qini_sklift", "auuc_sklift", "autoc", "uplift_at_30", "calibration_slope"):
        for arm in ARMS[1:]:
            assert rounded[f"{name}/{arm}"] == pytest.approx(exact[f"{name}/{arm}"], abs=0.002), name


def test_rounding_keeps_order_and_a_share() -> None:
    score = np.sort(np.random.default_rng(0).normal(size=5000) * 10.0 ** np.arange(-5, 5).repeat(500))
    for bits in (0, 4, 13):
        rounded = rounded_scores(score, bits)
        assert (np.diff(rounded) >= 0).all()
        assert (np.abs(rounded - score) <= np.abs(score) * 2.0 ** -(bits + 1) * 1.001).all()
    assert len(np.unique(rounded_scores(score[(score > 1) & (score < 2)], 4))) <= 17
    assert rounded_scores(np.array([-0.0, 0.0]), 10).tolist() == [0.0, 0.0]


def test_one_offer_and_an_outcome_in_money_have_plain_names_and_no_binary_scores() -> None:
    case = experiment(arms=2)
    metric = UpliftScores(("none", "Mail"), binary=False)
    metric.update(torch.arange(ROWS), *case)
    scores = metric.compute()
    assert {"autoc", "qini_causalml", "dr_loss", "policy_value"} <= set(scores)
    assert not [name for name in scores if "/" in name or name.endswith("sklift")]
    assert all(math.isfinite(value) for value in scores.values())


def test_what_is_not_defined_is_nan() -> None:
    metric = UpliftScores(ARMS, binary=True)
    metric.update(torch.arange(ROWS), *experiment())
    names = set(metric.compute())
    metric.reset()
    metric.update(torch.arange(0), *(tensor[:0] for tensor in experiment()))
    assert set(metric.compute()) == names
    assert all(math.isnan(value) for value in metric.compute().values())
    case = experiment()
    without_calls = fed(torch.flatten(torch.nonzero(case.treatment != 2)).tolist()).compute()
    assert math.isnan(without_calls["qini_sklift/Call"])
    assert math.isfinite(without_calls["qini_sklift/Mail"])
    case.effect[3] = math.nan
    assert all(math.isnan(value) for value in fed(list(range(ROWS)), case=case).compute().values())
    assert all(math.isnan(value) for value in fed(list(range(ROWS)), max_rows=9, case=case).compute().values())


def test_clipping_is_said_once() -> None:
    case = experiment()
    case.propensity[:] = torch.tensor([0.98, 0.01, 0.01])
    metric = fed(list(range(ROWS)), case=case)
    with pytest.warns(UserWarning, match=r"of 497 rows got an arm less probable than the clip") as seen:
        metric.compute()
    assert len(seen) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        metric.compute()


def test_mistakes_are_named() -> None:
    case = experiment()
    metric = UpliftScores(ARMS[:2], binary=True)
    with pytest.raises(ValueError, match=r"arms none, Mail: mean has shape \(500, 3\), expected \(500, 2\)"):
        metric.update(torch.arange(ROWS), *case)
    metric = fed([0, 1, 2])
    other = case._replace(outcome=1 - case.outcome)
    metric.update(torch.tensor([2]), *(tensor[2:3] for tensor in other))
    with pytest.raises(ValueError, match=r"row 2 came with outcome \[.*\]\. Row numbers must be unique"):
        metric.compute()
    with pytest.raises(NotImplementedError, match="call update"):
        metric(torch.arange(ROWS), *case)
