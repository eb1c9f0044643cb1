"""`PropensityScores` against the functions that it is made of, and its histogram against itself."""

import math
import warnings

import numpy as np
import pytest
import torch
from propensity_metric_case import ROWS, TASKS, customers, fed

from wanamaker.data.propensity_batch import Task
from wanamaker.metrics import propensity_classification as classification
from wanamaker.metrics import propensity_value as value
from wanamaker.metrics.propensity_calibration import calibration_errors
from wanamaker.metrics.propensity_scores import PropensityScores
from wanamaker.metrics.survival import concordance, integrated_brier, known_by

ALL = list(range(ROWS))


@pytest.mark.parametrize("weights", [False, True])
def test_scores_are_those_of_the_functions(weights: bool) -> None:
    label, time, score, survival, weight = (tensor.double().numpy() for tensor in customers())
    weight = weight if weights else np.ones(ROWS)
    bought = ~np.isnan(label[:, 1])
    died, share = known_by(time[:, 0], label[:, 0], 90, weight)
    known = share > 0
    yes_no = {
        "churn": (died[known], score[known, 0], share[known]),
        "buy": (label[bought, 1], score[bought, 1], weight[bought]),
    }
    expected = {}
    for task, (came, said, of) in yes_no.items():
        expected |= {
            f"{task}/auc": classification.auc(came, said, of),
            f"{task}/average_precision": classification.average_precision(came, said, of),
            f"{task}/brier": classification.brier(came, said, of),
            f"{task}/log_loss": classification.log_loss(came, said, of),
            f"{task}/calibration_error": calibration_errors(came, said, weight=of).absolute_plain,
            f"{task}/calibration_error_debiased": calibration_errors(came, said, weight=of).absolute,
            f"{task}/total": value.total_bias(came, said, of),
            f"{task}/lift_at_10": classification.lift_at(came, said, 0.1, of),
        }
    curves = time[:, 0], label[:, 0], survival, np.array([30.0, 60, 90]), weight
    expected |= {"churn/concordance": concordance(*curves), "churn/integrated_brier": integrated_brier(*curves)}
    for t, task in ((2, "ltv"), (3, "orders")):
        amounts = label[:, t], score[:, t]
        expected |= {
            f"{task}/kendall": value.kendall_tau_b(*amounts, weight),
            f"{task}/total": value.total_bias(*amounts, weight),
            f"{task}/mae": value.mae(*amounts, weight),
            f"{task}/rmse": value.rmse(*amounts, weight),
        }
    amounts = label[:, 2], score[:, 2]
    expected |= {
        "ltv/gini": value.normalised_gini(*amounts, weight),
        "ltv/decile_error": value.decile_table(*amounts, weight=weight).error,
        "ltv/auc": classification.auc(amounts[0] > 0, amounts[1], weight),
        "orders/r2": value.r2(label[:, 3], score[:, 3], weight),
    }
    found = fed(ALL, weights=weights).compute()
    assert not any(math.isnan(score) for score in found.values())
    assert found == pytest.approx(expected, rel=1e-6)


def test_a_row_counts_once_however_often_and_in_whatever_order_it_comes() -> None:
    alone = fed(ALL).compute()
    assert fed([*range(40, ROWS), *range(90), 3, 3, 3], batch=17).compute() == alone
    assert fed(ALL[::-1]).compute() == alone
    again = fed(ALL)
    again.compute()
    assert again.compute() == alone
    again.reset()
    assert again.to(torch.float16) is again
    again.update(torch.arange(ROWS), *customers())
    assert again.compute() == alone


def test_scores_do_what_they_say() -> None:
    found = fed(ALL).compute()
    assert found["churn/concordance"] > 0.55
    assert found["buy/auc"] > 0.7
    assert found["ltv/gini"] > 0.3
    assert found["churn/total"] == pytest.approx(1, abs=0.2)


def test_the_histogram_is_exact_where_scores_and_times_survive_its_rounding() -> None:
    case = customers()
    # Sixty-fourths are short binary numbers, and whole days have slots of their own.
    short = [tensor.clone() for tensor in case]
    for k in (0, 2, 3):
        short[k] = (short[k] * 64).round().clamp(0, 128) / 64
    short[0] = torch.where(case.label.isnan(), case.label, torch.where(case.label > 1, short[0].round(), case.label))
    short[0][:, 2:] = (case.label[:, 2:] * 8).round().clamp(0, 64) / 8
    short[2][:, 0] = 1 - short[3][:, -1]
    case = case._replace(label=short[0], score=short[2], survival=short[3])
    exact = fed(ALL, case=case).compute()
    assert fed(ALL, max_rows=100, case=case).compute() == pytest.approx(exact, rel=1e-9)
    assert fed(ALL, max_rows=100, case=case, weights=False).compute() == pytest.approx(
        fed(ALL, case=case, weights=False).compute(), rel=1e-9
    )


def test_the_histogram_is_close_where_they_do_not() -> None:
    case = customers(4000, coarse=False)
    exact = fed(list(range(4000)), case=case).compute()
    metric = fed(list(range(4000)), max_rows=1000, case=case)
    rounded = metric.compute()
    assert rounded == pytest.approx(exact, abs=0.004, rel=0.004)
    for name in ("buy/total", "ltv/total"):
        assert rounded[name] == pytest.approx(exact[name], rel=1e-9)
    assert metric.compute() == rounded
    metric.reset()
    metric.update(torch.arange(4000)[:500], *(tensor[:500] for tensor in case))
    assert metric.compute() == fed(list(range(500)), case=case).compute()


def test_one_class_is_said_once_and_the_rest_is_scored() -> None:
    case = customers()
    case.label[:, 1] = 0
    metric = fed(ALL, case=case)
    with pytest.warns(UserWarning, match=r"buy: all 400 known labels are 0, so auc, average_precision, lift_at_10"):
        found = metric.compute()
    assert math.isnan(found["buy/auc"])
    assert found["buy/brier"] > 0
    assert found["churn/auc"] > 0.5
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        metric.compute()


@pytest.mark.parametrize("max_rows", [10, 10_000])
def test_labels_that_nobody_knows_and_predictions_that_diverged(max_rows: int) -> None:
    case = customers()
    case.label[:, 0] = math.nan
    case.score[3, 2] = math.inf
    case.label[:, 3] = 2
    with pytest.warns(UserWarning) as said:  # noqa: PT030
        found = fed(ALL, max_rows, case=case).compute()
    texts = [str(warning.message) for warning in said]
    assert any("churn: no label is known" in text for text in texts)
    assert any("ltv: a prediction is not finite" in text for text in texts)
    for task in ("churn", "ltv"):
        assert all(math.isnan(score) for name, score in found.items() if name.startswith(task))
    assert found["buy/auc"] > 0.5
    assert math.isnan(found["orders/r2"])
    assert math.isnan(found["orders/kendall"])
    assert found["orders/mae"] > 0


@pytest.mark.parametrize("max_rows", [10, 10_000])
def test_amounts_below_0_and_short_observation(max_rows: int) -> None:
    case = customers()
    case.label[5, 2] = -3
    case.time[:, 0].clamp_(max=50)
    with pytest.warns(UserWarning) as said:  # noqa: PT030
        found = fed(ALL, max_rows, case=case).compute()
    texts = [str(warning.message) for warning in said]
    assert any(text.startswith("ltv: 1 of 400 amounts are below 0") or "ltv: 1 of" in text for text in texts)
    assert any("churn: nobody was watched until 90" in text for text in texts)
    assert math.isnan(found["ltv/gini"])
    assert math.isnan(found["churn/integrated_brier"])
    assert found["churn/concordance"] > 0.5
    assert np.isfinite(found["ltv/kendall"])


@pytest.mark.parametrize("max_rows", [10, 10_000])
def test_no_rows_and_weights_of_nothing(max_rows: int) -> None:
    metric = PropensityScores(TASKS, max_rows)
    with pytest.warns(UserWarning, match="no label is known"):
        assert all(math.isnan(score) for score in metric.compute().values())
    case = customers()
    with pytest.warns(UserWarning, match="no label is known"):
        found = fed(ALL, max_rows, case=case._replace(weight=0 * case.weight)).compute()
    assert all(math.isnan(score) for score in found.values())
    half = case._replace(weight=case.weight * (torch.arange(ROWS) < 200))
    expected = fed(list(range(200)), max_rows, case=case).compute()
    assert fed(ALL, max_rows, case=half).compute() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("max_rows", [1, 10_000])
def test_watched_just_to_an_edge_that_single_precision_rounds(max_rows: int) -> None:
    metric = PropensityScores((Task("churn", "hazard", "months", (30.4, 60.8)),), max_rows)
    survival = torch.tensor([[0.9, 0.8], [0.5, 0.3], [0.9, 0.6]])
    metric.update(
        torch.arange(3),
        torch.tensor([[0.0], [1.0], [0.0]]),
        torch.tensor([[60.8], [30.4], [60.8]]),
        1 - survival[:, 1:],
        survival,
    )
    found = metric.compute()
    assert found["churn/total"] == pytest.approx((0.2 + 0.7 + 0.4) / 1)
    assert found["churn/concordance"] == 1
    assert found["churn/brier"] == pytest.approx((0.2**2 + 0.3**2 + 0.4**2) / 3)


def test_half_precision_and_rounding_beyond_1() -> None:
    tasks = (Task("buy", "binary"),)
    metric = PropensityScores(tasks)
    metric.update(torch.arange(2), torch.tensor([[0.0], [1.0]]), None, torch.tensor([[0.25], [1.0]]).bfloat16())
    metric.update(torch.tensor([2]), torch.tensor([[1.0]]), None, torch.tensor([[1.0000002]]))
    assert metric.compute()["buy/brier"] == pytest.approx(0.0625 / 3)
    metric.update(torch.tensor([3]), torch.tensor([[1.0]]), None, torch.tensor([[3.0]]))
    with pytest.raises(ValueError, match=r"buy: predictions run from 0\.25 to 3"):
        metric.compute()


def test_mistakes_of_callers() -> None:
    case = customers()
    metric = PropensityScores(TASKS)
    with pytest.raises(ValueError, match=r"survival has the shape \(400, 2\), expected \(400, 3\)"):
        metric.update(torch.arange(ROWS), *case[:3], case.survival[:, :2])
    with pytest.raises(ValueError, match="time has the shape None"):
        metric.update(torch.arange(ROWS), case.label, None, case.score, case.survival)
    with pytest.raises(ValueError, match="x is of kind 'rank'; take binary, hazard, value, regression"):
        PropensityScores((Task("x", "rank"),))
    with pytest.raises(NotImplementedError, match="update"):
        metric(torch.arange(ROWS), *case)
    conflict = fed([5])
    conflict.update(torch.tensor([5]), *(tensor[[6]] for tensor in case))
    with pytest.raises(ValueError, match="row 5 came with label"):
        conflict.compute()
    for max_rows in (10, 10_000):
        late = case._replace(time=case.time * (torch.arange(ROWS) != 8)[:, None])
        with pytest.raises(ValueError, match="row 8 has the time 0"):
            fed(ALL, max_rows, case=late, batch=ROWS).compute()
