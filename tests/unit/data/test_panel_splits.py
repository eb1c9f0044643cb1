"""Splits by time: no date on two sides, folds that fit, and messages when they do not."""

import numpy as np
import pandas as pd
import pytest

from wanamaker.data.panel_splits import SPLITS, TimeSplit, choose_split, parse_split, split_periods
from wanamaker.errors import UserError
from wanamaker.predictions.mix import SPLITS as SPLITS_OF_PREDICTIONS

WEEKS = pd.date_range("2020-01-05", periods=60, freq="W-SUN").to_numpy().astype("datetime64[D]")


def splits(dates: np.ndarray = WEEKS, period: str = "W-SUN", **options) -> list[TimeSplit]:
    return split_periods(parse_split(options), dates, period)


def test_codes_are_those_of_predictions() -> None:
    assert SPLITS == SPLITS_OF_PREDICTIONS


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ((0, 60), (60, 60), (60, 60))),
        ({"val": 8, "test": 8}, ((0, 44), (44, 52), (52, 60))),
        ({"test": 10}, ((0, 50), (50, 50), (50, 60))),
        ({"val": 10}, ((0, 50), (50, 60), (60, 60))),
        ({"val": 8, "test": 8, "gap": 2}, ((0, 40), (42, 50), (52, 60))),
        ({"test": 8, "gap": 2}, ((0, 50), (50, 50), (52, 60))),
        ({"val": 0.1, "test": 0.2}, ((0, 42), (42, 48), (48, 60))),
        ({"val": 0.001}, ((0, 59), (59, 60), (60, 60))),
        ({"val": 8, "test": 8, "window": 20}, ((24, 44), (44, 52), (52, 60))),
        ({"val": "2020-10-04", "test": "2020-12-01"}, ((0, 39), (39, 48), (48, 60))),
        ({"val": "2020-10-04", "test": 6, "gap": 1}, ((0, 38), (39, 53), (54, 60))),
    ],
)
def test_holdout(options: dict, expected: tuple) -> None:
    (split,) = splits(**options)
    assert (split.train, split.val, split.test) == expected


def test_expanding_folds_begin_together_and_test_every_period_once() -> None:
    folds = splits(scheme="expanding", val=4, test=6, window=20)
    assert [fold.train for fold in folds] == [(0, 20), (0, 26), (0, 32), (0, 38), (0, 44), (0, 50)]
    assert folds[0].val == (20, 24)
    tested = [t for fold in folds for t in range(*fold.test)]
    assert tested == list(range(24, 60))


def test_sliding_folds_train_on_the_window() -> None:
    folds = splits(scheme="sliding", test=4, gap=2, window=20, step=2, folds=3)
    assert [fold.train for fold in folds] == [(30, 50), (32, 52), (34, 54)]
    assert [fold.test for fold in folds] == [(52, 56), (54, 58), (56, 60)]
    assert all(fold.val[0] == fold.val[1] for fold in folds)


def test_default_window_of_expanding_folds_is_half() -> None:
    folds = splits(scheme="expanding", test=10)
    assert [fold.train for fold in folds] == [(0, 30), (0, 40), (0, 50)]


@pytest.mark.parametrize("scheme", ["expanding", "sliding"])
@pytest.mark.parametrize("gap", [0, 3])
def test_sides_never_meet(scheme: str, gap: int) -> None:
    for fold in splits(scheme=scheme, val=5, test=5, gap=gap, window=15):
        assert fold.train[0] >= 0
        assert fold.val[0] - fold.train[1] == gap
        assert fold.test[0] - fold.val[1] == gap
        codes = fold.codes(60)
        assert [(codes == code).sum() for code in range(3)] == [fold.train[1] - fold.train[0], 5, 5]
        assert (codes[fold.test[1] :] == SPLITS.index("none")).all(), "later periods of an earlier fold"


def test_a_fold_is_chosen() -> None:
    options = parse_split({"scheme": "expanding", "test": 10, "fold": 1})
    number, fold = choose_split(options, split_periods(options, WEEKS, "W-SUN"))
    assert (number, fold.test) == (1, (40, 50))
    options["fold"] = None
    assert choose_split(options, split_periods(options, WEEKS, "W-SUN"))[0] == 2, "the last"
    options["fold"] = 3
    with pytest.raises(UserError, match=r"data\.split\.fold=3, but the panel has room for 3 folds, 0 to 2"):
        choose_split(options, split_periods(options, WEEKS, "W-SUN"))


def test_counts_meant_as_days_on_a_monthly_panel() -> None:
    """System 2 gave 160/10/10 days to a splitter of months and went on with no fold at all."""
    months = pd.date_range("2015-07-01", periods=12, freq="MS").to_numpy().astype("datetime64[D]")
    with pytest.raises(UserError) as error:
        splits(months, "MS", scheme="expanding", window=160, val=10, test=10)
    message = str(error.value)
    assert "need 180 periods (160 to train + 10 val + 10 test)" in message
    assert "the panel has 12 periods (MS, 2015-07-01 to 2016-06-01)" in message
    assert "periods of the panel, not days" in message


def test_too_many_folds_say_how_many_fit() -> None:
    with pytest.raises(
        UserError, match=r"need 90 periods \(30 to train \+ 0 val \+ 10 test \+ 5 steps of 10\).*folds=3"
    ):
        splits(scheme="expanding", test=10, folds=6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tset": 8}, r"data\.split\.tset is no option. Did you mean 'test'"),
        ({"scheme": "random"}, r"data\.split\.scheme='random'; choose from holdout, expanding, sliding"),
        ({"val": -1}, r"data\.split\.val=-1 is negative"),
        ({"val": 1.5}, r"data\.split\.val=1\.5"),
        ({"val": True}, r"data\.split\.val=True"),
        ({"test": "last month"}, r"data\.split\.test='last month' is neither"),
        ({"gap": -1}, r"data\.split\.gap=-1"),
        ({"gap": None}, r"data\.split\.gap=None"),
        ({"fold": 1}, r"data\.split\.fold=1 needs walk-forward folds"),
        ({"scheme": "expanding"}, r"data\.split\.test is missing"),
        ({"scheme": "sliding", "test": 4}, r"data\.split\.window is missing"),
        ({"scheme": "expanding", "test": "2020-12-01"}, r"is a date; the folds of scheme=expanding move"),
        ({"scheme": "expanding", "test": 4, "folds": 3, "fold": 3}, r"folds count from 0 to 2"),
        ({"test": "2031-01-01"}, r"data\.split\.test=2031-01-01 is outside the panel.*2020-01-05 to 2021-02-21"),
        ({"val": "2019-01-01"}, r"data\.split\.val=2019-01-01 is outside"),
        ({"val": "2021-01-01", "test": "2020-11-01"}, r"val=2021-01-01, test=2020-11-01"),
        ({"val": 40, "test": 30}, r"leaves too few periods to train on"),
        ({"test": 10, "window": 51}, r"window=51\) leaves too few"),
    ],
)
def test_user_errors(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        splits(**options)
