"""The price optimiser against closed forms, traps and bounds."""

import dataclasses

import numpy as np
import pytest
from tests.unit.decisions.mix_example import example
from tests.unit.decisions.mix_prices import shelf

from wanamaker.decisions.price_links import follow, price_links
from wanamaker.decisions.pricing import optimise_prices
from wanamaker.errors import UserError
from wanamaker.predictions import MixPredictions


def test_with_constant_elasticity_the_best_price_is_the_markup_rule() -> None:
    predictions = shelf(own=-2.5, cross=0.0, spread=0.15, draws=5)
    elasticity = predictions.response.driver_slope[:, 0, 0]
    plan = optimise_prices(predictions, unit_cost=1.5, bounds=[1, 9], siblings="held")
    np.testing.assert_allclose(
        plan.price_draws, np.repeat((1.5 * elasticity / (1 + elasticity))[:, None], 6, 1), rtol=1e-5
    )
    frame = plan.to_frame()
    assert np.abs(frame["slope"]).max() < 1e-5, "the exact gradient is 0 there"
    assert (frame["gain"] > 0).all()
    assert (frame["at_bound"] == "").all()
    np.testing.assert_allclose(frame["elasticity_best"], elasticity.mean(), rtol=1e-9)
    assert (frame["price_best_low_90"] < frame["price_best"]).all()


def test_with_a_straight_demand_curve_the_best_price_is_half_way() -> None:
    predictions = example(geos=1, spread=0.0, draws=2)
    grid = np.linspace(0, 40, 21)  # q = rest + 60 * (-8) * (price - reference), a straight line in the price
    response = dataclasses.replace(
        predictions.response,
        driver_transform=("difference", "difference"),
        driver_grid=np.stack([grid - 20, grid]),
        driver_curve=np.stack([-8 * (grid - 20), 0.2 * grid])[None].repeat(2, 0),
        driver_slope=np.stack([np.full(21, -8.0), np.full(21, 0.2)])[None].repeat(2, 0),
        driver_amplitude=np.ones((2, 1, 2)),
    )
    predictions = dataclasses.replace(predictions, response=response)
    rest = (predictions.parts.sum(axis=2, dtype=np.float64) - predictions.parts[:, :, 2]).sum(axis=1)
    plan = optimise_prices(predictions, unit_cost=2.0, bounds=[1, 60], periods=60)
    choke = rest[0] / (60 * 8) + response.driver_reference[0, 0]
    assert plan.price[0] == pytest.approx((choke + 2.0) / 2, rel=1e-5)
    revenue = optimise_prices(predictions, objective="revenue", bounds=[1, 60], periods=60)
    assert revenue.price[0] == pytest.approx(choke / 2, rel=1e-5)
    beyond = revenue.outcome(np.array([choke + 5]))
    assert beyond["kpi"][0, 0] == 0, "no demand below nothing"


def humps(low_peak: float) -> MixPredictions:
    """Demand that falls in two steep steps, so that profit has two humps."""
    predictions = shelf(cross=0.0, stores=1, brands=2)
    grid = np.linspace(-1.5, 1.5, 61)
    steps = -low_peak / (1 + np.exp(-(grid + 0.5) * 25)) - 2.5 / (1 + np.exp(-(grid - 0.6) * 25))
    slope = np.gradient(steps, grid)
    response = predictions.response
    response = dataclasses.replace(
        response,
        driver_grid=np.stack([grid, grid]),
        driver_curve=np.stack([np.broadcast_to(steps, (4, 61)), np.zeros((4, 61))], axis=1),
        driver_slope=np.stack([np.broadcast_to(slope, (4, 61)), np.zeros((4, 61))], axis=1),
    )
    return dataclasses.replace(predictions, response=response)


@pytest.mark.parametrize("low_peak", [0.2, 2.0])
def test_several_humps_do_not_trap_the_search(low_peak: float) -> None:
    predictions = humps(low_peak)
    plan = optimise_prices(predictions, unit_cost=0.2, bounds=[0.6, 6], siblings="held")
    fine = np.exp(np.linspace(np.log(0.6), np.log(6), 200_001))
    for i in range(2):
        at = np.array([i])
        problem = plan.problem
        profit = problem.money(problem.kpi(problem.own_part(fine[None], at)[0], at), fine, at)[:, 0].mean(axis=0)
        best = problem.money(problem.kpi(problem.own_part(plan.price[at], at)[0], at), plan.price[at], at)
        assert best.mean() >= profit.max() * (1 - 1e-9)
        rises = np.diff(profit) > 0
        assert (rises[1:] & ~rises[:-1]).any(), "there is a valley between two humps"


def test_revenue_as_the_kpi_gives_the_same_prices_as_units() -> None:
    units = shelf(own=-2.5, cross=0.0)
    response = units.response
    revenue = dataclasses.replace(
        units,
        response=dataclasses.replace(
            response,
            kpi_unit="EUR",
            driver_curve=response.driver_curve + np.array([1.0, 0.0])[:, None] * response.driver_grid,
            driver_slope=response.driver_slope + np.array([1.0, 0.0])[:, None],
        ),
    )
    one, other = (optimise_prices(p, unit_cost=1.5, bounds=[1, 9], siblings="held") for p in (units, revenue))
    np.testing.assert_allclose(one.price, other.price, rtol=1e-5)
    assert not other.problem.units


@pytest.mark.parametrize(("cross", "corner"), [(0.05, False), (0.8, True)])
def test_prices_of_siblings_are_set_together(cross: float, corner: bool) -> None:
    predictions = shelf(stores=1, brands=2, own=-3.0, cross=cross)
    joint = optimise_prices(predictions, unit_cost=1.0, bounds=[0.5, 8])
    held = optimise_prices(predictions, unit_cost=1.0, bounds=[0.5, 8], siblings="held")
    assert joint.joint
    assert "set together: 2 cross prices" in joint.links
    np.testing.assert_allclose(held.price, 1.5, rtol=1e-5)
    assert (joint.price > 1.5).all(), "what a brand loses its sibling wins"
    assert ("high" in joint.at_bound()) == corner, "strong substitutes: the dear one sells the other"
    grid = np.exp(np.linspace(np.log(0.5), np.log(8), 401))
    a, b = np.meshgrid(grid, grid)
    rest, reference = np.exp(joint.problem.rest[0]), predictions.response.driver_reference
    sold = [
        rest[i] * (mine / reference[i, 0]) ** -3.0 * (other / reference[i, 1]) ** cross
        for i, (mine, other) in enumerate(((a, b), (b, a)))
    ]
    best = ((a - 1) * sold[0] + (b - 1) * sold[1]).max()
    found = joint.outcome(joint.price)["profit"].sum(axis=1).mean()
    assert best * (1 - 1e-9) <= found <= best * 1.001
    assert joint.total()["gain"].iloc[0] == pytest.approx(joint.to_frame()["gain"].sum())
    assert found > joint.outcome(held.price)["profit"].sum(axis=1).mean()
    np.testing.assert_allclose(
        joint.price_draws, np.tile(joint.price, (4, 1)), rtol=0.01, err_msg="all draws are equal"
    )


def test_links_are_found_only_where_the_numbers_agree() -> None:
    predictions = shelf(stores=2, brands=3)
    links = price_links(predictions)
    assert [(link.series, link.of) for link in links] == [
        (0, (1, 2)), (1, (0, 2)), (2, (0, 1)), (3, (4, 5)), (4, (3, 5)), (5, (3, 4))
    ]  # fmt: skip
    assert not price_links(shelf(geometric=False))
    assert [link.of for link in price_links(shelf(stores=1, brands=2))] == [(1,), (0,)]
    assert not price_links(example()), "one price"
    still = predictions.driver.copy()
    still[:] = 2.0
    assert not price_links(dataclasses.replace(predictions, driver=still)), "prices that never move say nothing"
    holes = predictions.driver.copy()
    holes[::5] = np.nan
    assert len(price_links(dataclasses.replace(predictions, driver=holes))) == 6
    before = predictions.driver.reshape(6, 40, 2)
    after = before.copy()
    after[1, :, 0] *= 1.21
    moved, count = follow(links, predictions.response.own_price, before, after)
    assert count == 2
    np.testing.assert_allclose(moved[0, :, 1] / before[0, :, 1], 1.1)
    np.testing.assert_array_equal(moved[3:], before[3:])


def test_bounds_extrapolation_and_losses_are_flagged() -> None:
    predictions = shelf(own=-0.7, cross=0.0, draws=1)
    plan = optimise_prices(predictions, unit_cost="120%", series=["store 0 | brand 1", "store 1 | brand 0"], periods=20)
    frame = plan.to_frame()
    response = predictions.response
    assert frame["series"].tolist() == ["store 0 | brand 1", "store 1 | brand 0"]
    np.testing.assert_allclose(frame["high"], 1.1 * response.driver_max[[1, 3], 0])
    np.testing.assert_allclose(frame["low"], 0.9 * response.driver_min[[1, 3], 0])
    assert frame["at_bound"].tolist() == ["high", "high"]
    assert frame["extrapolates"].all()
    assert frame["note"].str.contains("at its high bound").all()
    assert frame["note"].str.contains("demand is inelastic").all()
    assert frame["note"].str.contains("does not cover the unit cost").all()
    assert frame["price_best_low_90"].isna().all(), "one draw, no interval"
    kept = optimise_prices(predictions, objective="revenue", beyond=0.0, bounds={"store 0 | brand 1": [1, 2]})
    np.testing.assert_allclose(kept.price, np.where(np.arange(6) == 1, 2, response.driver_max[:, 0]))
    assert kept.extrapolates().tolist() == [False, True, False, False, False, False], "2 is below all prices seen"


def test_curves_pass_through_the_recommendation() -> None:
    plan = optimise_prices(shelf(), unit_cost="50%")
    curves = plan.curves(201)
    frame = plan.to_frame().set_index("series")
    held = optimise_prices(shelf(), unit_cost="50%", siblings="held")
    for name, rows in held.curves(201).groupby("series"):
        assert rows["profit"].max() <= held.to_frame().set_index("series").loc[name, "profit_best"] * (1 + 1e-9)
    for name, rows in curves.groupby("series"):
        near = np.interp(frame.loc[name, "price_best"], rows["price"], rows["kpi"])
        assert near == pytest.approx(frame.loc[name, "kpi_best"], rel=1e-3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"unit_cost": None}, "give decision.unit_cost"),
        ({"objective": "margin"}, "decision.objective='margin': choose from profit, revenue"),
        ({"siblings": "both"}, "decision.siblings='both'"),
        ({"series": ["store 9 | brand 9"]}, "there is no series 'store 9 | brand 9'"),
        ({"series": []}, "decision.series is empty"),
        ({"bounds": [3, 2]}, "must be [low, high] with 0 < low < high"),
        ({"bounds": {"store 7": [1, 2]}}, "decision.bounds: there is no series 'store 7'"),
        ({"beyond": -0.1}, "decision.beyond=-0.1"),
        ({"periods": 0}, "decision.periods=0: give a whole number from 1 to 40"),
        ({"start": "2050-01-01"}, "decision.start=2050-01-01 lies outside"),
    ],
)
def test_mistakes_are_named(options: dict, message: str) -> None:
    with pytest.raises(UserError) as error:
        optimise_prices(shelf(), **{"unit_cost": 1.0, **options})
    assert message in str(error.value)


def test_a_panel_without_own_prices_has_nothing_to_price() -> None:
    predictions = shelf()
    response = dataclasses.replace(predictions.response, own_price=np.full(6, -1))
    with pytest.raises(UserError, match="No series of this panel has a price of its own"):
        optimise_prices(dataclasses.replace(predictions, response=response), unit_cost=1.0)
