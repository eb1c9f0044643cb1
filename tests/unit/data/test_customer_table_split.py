"""Splits of a table of customers: draws that can be reproduced, folds of scikit-learn, time with an embargo."""

from typing import Any

import numpy as np
import pytest
from sklearn.model_selection import StratifiedKFold

from wanamaker.data.customer_table_split import SplitFacts, parse_split, split_rows
from wanamaker.data.experiment_split import NONE, TEST, TRAIN, VAL
from wanamaker.data.experiment_table import key_of
from wanamaker.errors import UserError


def facts(rows: int = 1000, **changes: Any) -> SplitFacts:
    rng = np.random.default_rng(0)
    given = {"usable": rng.random(rows) < 0.9, "positive": rng.random(rows) < 0.2, "key": key_of(np.arange(rows))}
    return SplitFacts(**{**given, **changes})


def codes(found: SplitFacts, **options: Any) -> np.ndarray:
    return split_rows(found, parse_split(options))


def test_a_draw_is_stratified() -> None:
    found = facts()
    code = codes(found, val=0.2, test=0.3)
    assert (code[~found.usable] == NONE).all()
    for part, share in ((TRAIN, 0.5), (VAL, 0.2), (TEST, 0.3)):
        mine = code == part
        assert mine.sum() == pytest.approx(share * found.usable.sum(), abs=1.01)
        assert found.positive[mine].mean() == pytest.approx(found.positive[found.usable].mean(), abs=0.01)
    assert (codes(found, val=0.2, test=0.3) == code).all()
    assert (codes(found, val=0.2, test=0.3, seed=1) != code).mean() > 0.3


def test_a_hash_keeps_customers_where_they_are() -> None:
    whole, half = facts(), facts(500, key=key_of(np.arange(0, 1000, 2)), usable=np.ones(500, bool))
    both = whole.usable[::2]
    assert (codes(whole, by="hash")[::2][both] == codes(half, by="hash")[both]).all()


@pytest.mark.parametrize("repeat", [0, 2])
def test_folds_are_those_of_scikit_learn(repeat: int) -> None:
    found = facts()
    chosen = np.flatnonzero(found.usable)
    label = found.positive[chosen].astype(int)
    cut = StratifiedKFold(5, shuffle=True, random_state=7 + repeat).split(np.zeros((len(label), 1)), label)
    for fold, (rest, test) in enumerate(cut):
        code = codes(found, folds=5, fold=fold, repeat=repeat, seed=7)
        assert (np.flatnonzero(code == TEST) == chosen[test]).all()
        assert (np.flatnonzero(code == TRAIN) == chosen[rest]).all()
    code = codes(found, folds=5, fold=4, repeat=repeat, seed=7, val=0.25)
    assert (np.flatnonzero(code == TEST) == chosen[test]).all()
    assert (code == VAL).sum() == pytest.approx(0.25 * len(rest), abs=1)


def test_repeated_customers_are_in_one_fold() -> None:
    found = facts(key=key_of(np.arange(1000) // 4), repeated=True)
    parts = np.stack([codes(found, folds=4, fold=fold) == TEST for fold in range(4)])
    assert (parts.sum(axis=0) == found.usable).all()
    fold = np.where(found.usable, parts.argmax(axis=0), -1).reshape(-1, 4)
    assert all(len(set(group) - {-1}) <= 1 for group in fold)


def test_time_splits_with_an_embargo() -> None:
    day = np.random.default_rng(1).permutation(np.repeat(np.arange(100), 10))
    moment = np.datetime64("2024-01-01", "s") + day * np.timedelta64(86_400, "s")
    found = facts(usable=np.ones(1000, bool), moment=moment)
    code = codes(found, by="time", val=0.1, test=0.2)
    assert (code == np.select([day >= 80, day >= 70], [TEST, VAL], TRAIN)).all()
    code = codes(found, by="time", val=0.1, test=0.2, embargo=3)
    wanted = np.select([day >= 80, day >= 78, day >= 70, day >= 68], [TEST, NONE, VAL, NONE], TRAIN)
    assert (code == wanted).all()
    code = codes(found, by="time", test=0.195)  # rows of one day are not parted
    assert (code == np.where(day >= 80, TEST, TRAIN)).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"by": "dice"}, "data.split.by='dice'; choose from random, hash, time, column."),
        ({"val": 0.8}, "data.split.val=0.8 and data.split.test=0.3 exceed 1 together; lower one."),
        ({"test": -1}, "data.split.test=-1 must be a share between 0 and 1."),
        ({"folds": 1}, "data.split.folds=1 must be a whole number, 2 or more."),
        ({"folds": 5, "fold": 5}, "data.split.fold=5: of 5 folds the last is number 4."),
        ({"fold": 2}, "data.split.fold=2 belongs to data.split.folds, which is null."),
        ({"embargo": 7}, "data.split.embargo=7 belongs to by: time, not to by: random."),
        ({"folds": 5, "by": "time"}, "data.split.folds=5 draws rows at random, which by: time does not; drop one"),
        ({"by": "column"}, "data.split.by=column and data.split.column=None: a column that holds train, val"),
        ({"tset": 0.2}, "data.split.tset is no option. Did you mean 'test'?"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as error:
        parse_split(options)
    assert message in str(error.value)


def test_too_few_rows_for_the_folds() -> None:
    with pytest.raises(UserError, match="the rarer outcome of the first task has 3 rows"):
        codes(facts(50, usable=np.ones(50, bool), positive=np.arange(50) < 3), folds=5)
