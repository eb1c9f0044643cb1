"""A question that cannot be answered gets one message with value, place and remedy."""

import dataclasses

import numpy as np
import pytest
from mix_example import example

from wanamaker.decisions.budget import optimise_budget
from wanamaker.decisions.budget_options import BudgetOptions, amount, pair
from wanamaker.decisions.budget_tables import move_table
from wanamaker.errors import UserError
from wanamaker.predictions import Detections

FULL = ("channel", "series", "period")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"total": -5}, r"decision.total=-5: a budget is money above 0"),
        ({"total": float("nan")}, r"decision.total=nan is not a number"),
        ({"total": "1,000"}, r"decision.total='1,000' is not a number. Write it without unit"),
        ({"total": 5, "target_roi": 2}, "decision.total and decision.target_roi are both given: leave one"),
        ({"target_roi": 0}, "decision.target_roi=0 must be above 0"),
        ({"spread": 0.5}, "decision.spread=0.5 must be above 1"),
        ({"resolution": ["geo"]}, r"decision.resolution names 'geo'.*choose from channel, series, period"),
        ({"resolution": ["serie"]}, r"did you mean 'series'"),
        ({"objective": "median"}, "decision.objective='median': choose from mean, cvar, chance, mean_sd"),
        ({"objective": "chance", "target_roi": 2}, "no return to aim at"),
        ({"worst": 0}, r"decision.worst=0: the share of the worst draws lies in \(0, 1\]"),
        ({"change": {"TV": "10%"}}, "add period to decision.resolution"),
        ({"groups": [{"chanels": ["TV"], "max": 1}]}, r"groups\[0\] has the entry 'chanels' \(did you mean 'channels'"),
        ({"groups": [{"channels": ["TV"]}]}, r"groups\[0\] limits nothing: give one of min, max, min_share, max_share"),
        ({"groups": {"name": "a"}}, "write a list of mappings"),
        ({"linear": [{"name": "a", "max": 1}, {"name": "a", "max": 1}]}, "two entries named 'a'"),
        ({"bounds": ["TV"]}, "write a mapping from channel to value"),
        ({"starts": 0}, "decision.starts=0: a whole number, 1 or more"),
        ({"seed": -1}, "decision.seed=-1: a whole number, 0 or more"),
        ({"beat": 5}, "decision.beat=5 is for decision.objective=chance"),
    ],
)
def test_options_that_cannot_be(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        BudgetOptions(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bounds": {"Serch": [1, 2]}}, r"decision.bounds names the channel 'Serch'.*did you mean 'Search'"),
        ({"bounds": {"Radio": [1, 2]}}, "decision.bounds names 'Radio', which is organic"),
        (
            {"bounds": {"TV": [20, 10]}},
            r"decision.bounds.TV=\[20, 10\]: the lower bound 20.00 is above the upper 10.00",
        ),
        ({"bounds": {"TV": [-1, 10]}}, r"decision.bounds.TV=-1: money is 0 or more"),
        ({"bounds": {"TV": ["half", 10]}}, r"decision.bounds.TV='half': write money as a number, or a part"),
        ({"bounds": {"TV": 7}}, r"decision.bounds.TV=7: write \[min, max\]"),
        ({"bounds": {"TV": {"maximum": 7}}}, "decision.bounds.TV has the entry 'maximum'; it knows min and max"),
        ({"bounds": {"TV": [0, 10]}, "hold": ["TV"]}, "excludes its money .* which is fixed"),
        ({"hold": ["tv"]}, r"decision.hold names the channel 'tv'.*did you mean 'TV'"),
        ({"hold": ["TV", "Search", "Social"]}, "There is nothing to plan"),
        ({"groups": [{"name": "n", "series": ["geo 9"], "max": 1}]}, r"groups 'n' names the series 'geo 9'.*'geo 1'"),
        ({"groups": [{"name": "n", "channels": ["TV"], "max_share": 1.5}]}, r"max_share=1.5: a share of the total"),
        (
            {"groups": [{"name": "n", "channels": ["TV"], "min_share": 0.5, "max_share": 0.4}]},
            "min_share 0.5 is above max_share 0.4",
        ),
        ({"groups": [{"name": "n", "channels": [], "max": 1}]}, "groups 'n' limits nothing: its channels are empty"),
        ({"groups": [{"name": "n", "series": 3, "max": 1}]}, "groups 'n'=3 must be a list of names"),
        ({"linear": [{"name": "co2", "max": 3}]}, "linear 'co2': give coefficients"),
        ({"linear": [{"name": "co2", "coefficients": {}, "max": 3}]}, "linear 'co2': give coefficients"),
        ({"linear": [{"name": "co2", "coefficients": {"TV": "a"}, "max": 3}]}, "coefficients.TV='a' is not a number"),
        ({"periods": 100}, "periods=100.*a window that the data do not have"),
    ],
)
def test_names_and_values_that_the_data_refuse(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        optimise_budget(example(channels=4, organic=1), BudgetOptions(**options))


def test_a_budget_outside_its_bounds_names_the_sums() -> None:
    predictions = example()
    bounds = {"TV": [4_000, 5_000], "Search": [3_000, 4_000], "Social": [2_000, 2_500]}
    for resolution in ("channel", FULL):
        with pytest.raises(UserError, match=r"total=8,000.00 EUR is below the sum of the lower bounds, 9,000.00 EUR"):
            optimise_budget(predictions, BudgetOptions(total=8_000, bounds=bounds, resolution=resolution))
        with pytest.raises(UserError, match=r"total=12,000.00 EUR is above the sum of the upper bounds, 11,500.00 EUR"):
            optimise_budget(predictions, BudgetOptions(total=12_000, bounds=bounds, resolution=resolution))
    with pytest.raises(UserError, match=r"of which [\d,.]+ is fixed: held channels"):
        optimise_budget(predictions, BudgetOptions(total=1_000, hold=["TV"]))


def test_limits_that_contradict_are_named_and_no_others() -> None:
    groups = [
        {"name": "north", "series": ["geo 0"], "min": 7_000},
        {"name": "south", "series": ["geo 1"], "min": 6_000},
        {"name": "harmless", "channels": ["TV"], "min": 10},
    ]
    with pytest.raises(UserError, match=r"contradict each other") as caught:
        optimise_budget(example(), BudgetOptions(total=12_000, groups=groups, resolution=["series"]))
    message = str(caught.value)
    for name in ("total budget (exactly 12,000.00 EUR)", "group north (at least 7,000.00 EUR)", "group south"):
        assert name in message
    assert "harmless" not in message
    shares = [{"name": n, "channels": [n], "min_share": "60%"} for n in ("TV", "Search")]
    with pytest.raises(UserError, match=r"group TV: at least 0.6 of the total.*group Search: at least 0.6"):
        optimise_budget(example(), BudgetOptions(groups=shares))


def test_a_return_that_cannot_be_reached_names_the_best_there_is() -> None:
    with pytest.raises(
        UserError, match=r"target_roi=50 cannot be reached: the best return within the limits is [\d.]+ EUR"
    ):
        optimise_budget(example(), BudgetOptions(target_roi=50, spread=2))
    with pytest.raises(UserError, match=r"target_roi=0\.0001: even 10 times the current spend"):
        optimise_budget(example(), BudgetOptions(target_roi=1e-4))


def test_predictions_that_are_no_plan() -> None:
    nothing = Detections(np.zeros(0), np.zeros((0, 4)), np.zeros(0), np.zeros(0), ["a"], np.array([1]))
    with pytest.raises(UserError, match="predictions of a mix model, not Detections"):
        optimise_budget(nothing)  # type: ignore[arg-type]
    predictions = example()
    spend = predictions.spend.copy()
    spend[100, 2] = np.nan
    with pytest.raises(UserError, match="spend of Social is nan for series 'geo 1'"):
        optimise_budget(dataclasses.replace(predictions, spend=spend))
    free = dataclasses.replace(predictions, spend=np.zeros_like(spend))
    with pytest.raises(UserError, match="There is nothing to plan"):
        optimise_budget(free)


def test_amounts() -> None:
    assert amount("80%", 50.0, "x") == 40.0
    assert amount(7, 50.0, "x") == 7.0
    assert pair({"min": "10%", "max": None}, 50.0, "x") == (5.0, None)


def test_one_draw_has_no_intervals_and_still_makes_tables() -> None:
    """A model of one member, or max_draws=1: a cell of the tables must hold a number, not an array."""
    plan = optimise_budget(example(draws=1), BudgetOptions())
    moves = move_table(plan)
    assert len(moves)
    bounds = moves[[c for c in moves if c.startswith("brings_")]]
    assert bounds.dtypes.eq(np.float64).all()
    assert bounds.isna().all(axis=None)
