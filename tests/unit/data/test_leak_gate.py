"""The leak gate: planted leaks of every kind are named, honest features pass."""

from typing import Any

import numpy as np
import pytest

from wanamaker.data.leak_gate import CHECKS, check_allow, find_leaks, parse_checks, settle_leaks
from wanamaker.data.propensity_batch import PropensitySchema, Task
from wanamaker.errors import UserError

ROWS = 2000
RNG = np.random.default_rng(0)
SIGNAL = RNG.normal(size=ROWS)
EVENT = (RNG.random(ROWS) < 1 / (1 + np.exp(1.5 - SIGNAL))).astype(float)
AMOUNT = np.where(RNG.random(ROWS) < 0.4, np.exp(RNG.normal(3, 1, ROWS)), 0.0)
CHURN, LTV = Task("churn", "binary"), Task("ltv", "value", "USD")


def leaks(values: np.ndarray, task: Task = CHURN, label: np.ndarray = EVENT, *, named: bool = False, **more: Any):
    columns = values.reshape(-1, 1)
    none = np.empty((len(columns), 0))
    schema = PropensitySchema("id", (task,), **({"categorical": ("x",)} if named else {"numeric": ("x",)}))
    time = more.pop("time", np.full(len(columns), np.nan))
    numeric, categorical = (none, columns.astype(int)) if named else (columns, none.astype(int))
    return find_leaks(schema, numeric, categorical, label[:, None], time[:, None], {**CHECKS, **more})


def test_honest_features_pass() -> None:
    assert leaks(SIGNAL) == ()  # AUC about .72
    assert leaks(RNG.integers(1, 500, ROWS), named=True) == ()  # many names, none of which may learn its own row
    assert leaks(np.full(ROWS, np.nan)) == ()
    assert leaks(np.full(ROWS, 3.0)) == ()
    assert leaks(AMOUNT * RNG.gamma(2, 1, ROWS) + RNG.gamma(1, 90, ROWS), LTV, AMOUNT) == ()
    assert leaks(SIGNAL, Task("score", "regression"), SIGNAL + RNG.normal(size=ROWS)) == ()


PLANTED = {
    "rising": EVENT + RNG.normal(0, 0.4, ROWS),
    "falling": -EVENT * 5 + RNG.normal(0, 1, ROWS),
    "only where it happened": np.where(EVENT > 0, RNG.normal(size=ROWS), np.nan),
    "only where it did not": np.where(EVENT > 0, np.nan, RNG.normal(size=ROWS)),
    "in the middle": np.where(EVENT > 0, RNG.uniform(-0.3, 0.3, ROWS), RNG.normal(0, 3, ROWS)),
    "a refund of a tenth of them": np.where((EVENT > 0) & (np.arange(ROWS) % 8 == 0), 12.5, 0.0),
}


@pytest.mark.parametrize("kind", PLANTED)
def test_planted_leaks_are_found(kind: str) -> None:
    (leak,) = leaks(PLANTED[kind])
    assert (leak.feature, leak.task) == ("x", "churn")
    if "refund" in kind:
        assert leak.text.startswith("is 0 or empty but for ")
    else:
        assert leak.score > CHECKS["leak_auc"]


def test_names_can_leak() -> None:
    reason = np.where(EVENT > 0, RNG.integers(2, 6, ROWS), 1)
    assert leaks(reason, named=True)[0].score > 0.99
    rare = np.where((EVENT > 0) & (np.arange(ROWS) % 8 == 0), 2, 1)  # one name that only those have who left
    (leak,) = leaks(rare, named=True)
    assert "has a value that" in leak.text


def test_amounts_and_times_can_be_given_away() -> None:
    assert "tells 'ltv'" in leaks(AMOUNT * 1.2, LTV, AMOUNT)[0].text
    spent = AMOUNT[AMOUNT > 0]
    assert "explains 'ltv' with an R2" in leaks(np.exp(np.log(spent) * 2), LTV, spent)[0].text  # as a logarithm
    time = RNG.integers(1, 60, ROWS).astype(float)
    hazard = Task("cancel", "hazard", "months", (12.0, 24.0))
    (leak,) = leaks(time * 50 + RNG.normal(0, 10, ROWS), hazard, time=time)
    assert "explains when 'cancel' happened" in leak.text


def test_unknown_labels_count_for_nothing() -> None:
    label = np.where(np.arange(ROWS) % 2 == 0, EVENT, np.nan)
    assert leaks(np.where(np.isnan(label), RNG.normal(size=ROWS), EVENT), label=label)[0].score == 1.0
    assert leaks(PLANTED["rising"], label=np.full(ROWS, np.nan)) == ()


def test_what_is_allowed_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    found = leaks(PLANTED["rising"])
    settle_leaks(found, ["x"], "t.csv")
    assert "t.csv: leak (allowed): feature 'x' alone tells 'churn' with an AUC of" in caplog.text
    with pytest.raises(UserError) as error:
        settle_leaks(found, [], "t.csv")
    assert "\n" not in str(error.value)
    assert "data.roles.drop=[x]. If it is known then, data.allow=[x] lets it through." in str(error.value)
    assert leaks(PLANTED["rising"], leak_auc=1.0) == ()


def test_options() -> None:
    assert parse_checks({"leak_auc": 0.9})["leak_auc"] == 0.9
    for checks in ({"leak_auc": 0}, {"leak_r2": 1.2}, {"rows": 0}, {"leak": 0.9}, {"leak_auc": True}):
        with pytest.raises(UserError, match=r"data\.checks"):
            parse_checks(checks)
    assert check_allow(["a"], ["a", "b"]) == ("a",)
    with pytest.raises(UserError, match=r"data.allow='ab' must be a list of features, such as \[ab\]"):
        check_allow("ab", ["a", "b"])
    with pytest.raises(UserError, match=r"data\.allow names 'tenur', which is no column\. Did you mean 'tenure'"):
        check_allow(["tenur"], ["tenure"])
