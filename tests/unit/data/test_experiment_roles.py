"""What a user may write in `data.roles` and `data.split`, and what is said of the rest."""

from typing import Any

import numpy as np
import pytest
from tests.unit.data.experiment_files import ROLES

from wanamaker.data.experiment_roles import ExperimentRoles, OutcomeRole
from wanamaker.data.experiment_split import (
    SPLITS,
    TEST,
    TRAIN,
    VAL,
    parse_experiment_split,
    split_by_column,
    split_by_hash,
    split_randomly,
)
from wanamaker.errors import UserError
from wanamaker.predictions import uplift


def roles(**changes: Any) -> ExperimentRoles:
    return ExperimentRoles.from_config({**ROLES, **changes})


def test_roles_are_read() -> None:
    read = roles(control=0, cost="cost", arms={"any": ["a", "b"], "c": 1.0}, categorical=["zip"])
    assert (read.control, read.cost, read.categorical) == ("0", "cost", ("zip",))
    assert read.outcomes == (OutcomeRole("visit"), OutcomeRole("spend", None, "EUR"))
    assert read.arms == {"any": ("a", "b"), "c": ("1",)}
    assert ExperimentRoles.from_config(read) is read
    assert roles(outcomes="visit").outcome_names == ("visit",)
    assert roles(arms=["mail", "none"]).arms == {"mail": ("mail",)}  # the control may be listed, too


MISTAKES = {
    "data.roles.treatmnt is no option. Did you mean 'treatment'?": {"treatmnt": "arm"},
    "data.roles.control is missing: name the value": {"control": None},
    "data.roles.outcomes is missing": {"outcomes": []},
    "data.roles: column 'arm' is declared as treatment and as outcome; keep one": {"outcomes": ["arm"]},
    "data.roles.outcomes[0].kind='count'; choose from binary, continuous, zero_inflated, or null.": {
        "outcomes": [{"name": "visits", "kind": "count"}]
    },
    "data.roles.drop='x' must be a list of columns, such as [x].": {"drop": "x"},
    "data.roles.drop names 'x' twice": {"drop": ["x", "x"]},
    "data.roles.arms: 'none' is the control, too": {"arms": {"any": ["none", "mail"]}},
    "data.roles.arms={'mail': None} leaves an offer without values": {"arms": {"mail": None}},
    "data.roles.arms: 'none' is the control (data.roles.control); give": {"arms": {"none": ["mail"]}},
    "data.roles.arms.mail={'a': 1} must be a value of the treatment column, or a list": {"arms": {"mail": {"a": 1}}},
    "data.roles.categorical names 'arm', which is declared as treatment and so no feature": {"categorical": ["arm"]},
    "data.roles.arms: 'mail' is in two offers": {"arms": {"a": ["mail"], "b": ["mail"]}},
    "data.roles.probabilities='even'; give null (estimate them), equal, or a mapping": {"probabilities": "even"},
    "data.roles.probabilities sum to 0.7": {"probabilities": {"none": 0.5, "mail": 0.2}},
    "data.roles.probabilities.mail=1.5 must be a probability between 0 and 1.": {"probabilities": {"mail": 1.5}},
    "data.roles.categorical names 'regoin', which is not among data.roles.features. Did you mean 'region'?": {
        "features": ["region"],
        "categorical": ["regoin"],
    },
}


@pytest.mark.parametrize("message", MISTAKES)
def test_mistakes_in_roles(message: str) -> None:
    with pytest.raises(UserError) as error:
        roles(**MISTAKES[message])
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_arms_and_their_probabilities() -> None:
    assert roles().arm_values(["none", "b", "a"], "f") == {"none": ("none",), "a": ("a",), "b": ("b",)}
    chosen = roles(arms={"any": ["b", "a"]})
    assert list(chosen.arm_values(["none", "b", "a", "c"], "f")) == ["none", "any"]
    assert roles().arm_probabilities(["none", "a"]) == (0.5, 0.5)
    assert roles(probabilities={"a": 0.75, "none": 0.25}).arm_probabilities(["none", "a"]) == (0.25, 0.75)
    assert roles(probabilities=None).arm_probabilities(["none", "a"]) == ()
    with pytest.raises(UserError, match=r"data.roles.arms: 'd' is not among the values of column 'arm' of f. There"):
        roles(arms=["d"]).arm_values(["none", "b"], "f")
    with pytest.raises(UserError, match=r"'leter' is not among the values of column 'arm' of f. Did you mean 'letter'"):
        roles(arms=["leter"]).arm_values(["none"], "f", ["letter"])
    with pytest.raises(UserError, match=r"There is 'False': put it in quotes \(data.roles.control=\"'False'\"\)"):
        roles(control=False).arm_values(["False", "True"], "f")
    with pytest.raises(UserError, match=r"There is '0.0': put it in quotes"):
        roles(control=0.0).arm_values(["0.0", "1.0"], "f")
    with pytest.raises(UserError, match=r"probabilities lacks arm 'b'"):
        roles(probabilities={"a": 0.75, "none": 0.25}).arm_probabilities(["none", "a", "b"])


# -- split -------------------------------------------------------------------------------------------------------------


def test_split_codes_are_those_of_predictions() -> None:
    assert SPLITS == uplift.SPLITS


def test_random_split_keeps_shares_in_every_stratum() -> None:
    strata = np.repeat([0, 1, 2, 3], [1000, 500, 37, 10])
    options = parse_experiment_split({"val": 0.2, "test": 0.3})
    codes = split_randomly(strata, options)
    for k in range(4):
        counts = np.bincount(codes[strata == k], minlength=3)
        n = (strata == k).sum()
        np.testing.assert_allclose(counts, [0.5 * n, 0.2 * n, 0.3 * n], atol=1.5)
    np.testing.assert_array_equal(codes, split_randomly(strata, options))
    assert (codes != split_randomly(strata, {**options, "seed": 1})).mean() > 0.3
    assert (split_randomly(strata, {**options, "test": 1.0, "val": 0.0}) == TEST).all()
    assert (split_randomly(strata, {**options, "test": 0, "val": 0.0}) == TRAIN).all()


def test_hash_split_follows_the_customer() -> None:
    key = np.random.default_rng(0).integers(0, 2**63 - 1, 20_000)
    options = parse_experiment_split({"val": 0.1, "test": 0.3})
    codes = split_by_hash(key, options)
    np.testing.assert_allclose(np.bincount(codes) / len(key), [0.6, 0.1, 0.3], atol=0.015)
    np.testing.assert_array_equal(codes[::-1], split_by_hash(key[::-1], options))


def test_split_by_column() -> None:
    codes = split_by_column(np.array([0, 1, 2, 0]), ["test", "train", ""], "part", "f.csv")
    assert codes.tolist() == [TEST, TRAIN, 3, TEST]
    with pytest.raises(UserError, match=r"column 'part' of f.csv \(data.split.column\) holds 'tset'.* mean 'test'"):
        split_by_column(np.array([0]), ["tset"], "part", "f.csv")
    assert VAL == 1


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ({"tets": 0.1}, "data.split.tets is no option. Did you mean 'test'?"),
        ({"by": "time"}, "data.split.by='time'; choose from random, hash, column."),
        ({"by": "column"}, "a column that holds train, val and test goes with by: column"),
        ({"test": 30}, "data.split.test=30 must be a share between 0 and 1."),
        ({"val": 0.5, "test": 0.6}, "exceed 1 together"),
    ],
)
def test_mistakes_in_the_split(split: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as error:
        parse_experiment_split(split)
    assert message in str(error.value)


def test_equal_is_about_the_values_in_the_file() -> None:
    given = {"treatment": "segment", "control": "none", "outcomes": ["visit"], "probabilities": "equal"}
    roles = ExperimentRoles.from_config({**given, "arms": {"any e-mail": ["Mens", "Womens"]}})
    assert roles.arm_probabilities(("none", "any e-mail")) == pytest.approx((1 / 3, 2 / 3))
    assert ExperimentRoles.from_config(given).arm_probabilities(("none", "Mens", "Womens")) == pytest.approx(
        (1 / 3,) * 3
    )
