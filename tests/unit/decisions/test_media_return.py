"""ROI and its relatives against a panel evaluated by hand, over curves, and by finite differences."""

import dataclasses

import numpy as np
import pytest
from tests.unit.decisions.mix_example import example

from wanamaker.decisions.elasticity import media_elasticity
from wanamaker.decisions.media_return import by_draws, media_returns, only_channel, returns_window
from wanamaker.decisions.response import ResponseSurface, window_kpi
from wanamaker.decisions.roi_curves import roi_curves
from wanamaker.errors import UserError
from wanamaker.predictions import MixPredictions

LINKS = pytest.mark.parametrize("link", ["identity", "log"])
WINDOW = {"start": "2023-04-03", "end": "2023-09-04"}  # periods 13 to 35 of 60: the tail lies inside the data
INSIDE = slice(13, 36)


def by_hand(predictions: MixPredictions, media: np.ndarray) -> np.ndarray:
    """KPI [S, G, T] of the whole panel under media [G, T, C], by the formulas of the example."""
    response = predictions.response
    L = response.adstock.shape[-1]
    long = np.concatenate([predictions.lead_in, media], axis=1) / response.media_scale[:, None]
    T = media.shape[1]
    taken = np.stack([long[:, L - 1 - lag : L - 1 - lag + T] for lag in range(L)])
    carried = np.einsum("scl,lgtc->sgtc", response.adstock, taken)
    parts = response.amplitude[:, :, None] * -np.expm1(-carried)
    others = predictions.parts[..., [k != "media" for k in predictions.part_kinds]].sum(axis=-1, dtype=np.float64)
    eta = others.reshape(*parts.shape[:3]) + parts.sum(axis=-1)
    return np.exp(eta) if response.link == "log" else eta


@LINKS
def test_roi_counts_what_the_windows_spend_brings_also_after_it(link: str) -> None:
    predictions = example(link=link, cost=2.0, kpi_value=3.0)
    frame = media_returns(predictions, **WINDOW).to_frame().set_index("channel")
    media = predictions.media.reshape(2, 60, 3)
    now = by_hand(predictions, media)
    for c, name in enumerate(predictions.response.channels):
        less, more = media.copy(), media.copy()
        less[:, INSIDE, c] = 0
        more[:, INSIDE, c] *= 1.01
        spend = predictions.spend.reshape(2, 60, 3)[:, INSIDE, c].sum()
        lost = (now - by_hand(predictions, less)).sum(axis=(1, 2))
        assert (now - by_hand(predictions, less))[:, :, 36:].sum() > 0, "some of it lies after the window"
        assert frame.loc[name, "spend"] == pytest.approx(spend)
        assert frame.loc[name, "incremental_kpi"] == pytest.approx(lost.mean(), rel=1e-4)
        assert frame.loc[name, "roi"] == pytest.approx(3 * lost.mean() / spend, rel=1e-4)
        assert frame.loc[name, "roi_low_90"] == pytest.approx(np.percentile(3 * lost / spend, 5), rel=1e-4)
        assert frame.loc[name, "cost_per_unit"] == pytest.approx(spend / lost.mean(), rel=1e-4)
        extra = (by_hand(predictions, more) - now).sum(axis=(1, 2)).mean()
        assert frame.loc[name, "marginal_roi"] == pytest.approx(3 * extra / (0.01 * spend), rel=1e-3)
        assert frame.loc[name, "marginal_roi"] < frame.loc[name, "roi"], "concave curves"


@LINKS
def test_contributions_in_the_table_are_those_of_the_window(link: str) -> None:
    predictions = example(link=link, organic=1)
    returns = media_returns(predictions, **WINDOW)
    frame = returns.to_frame().set_index("channel")
    rows = np.isin(predictions.date, returns.window.dates)
    if link == "identity":
        assert frame.loc["TV", "contribution"] == pytest.approx(predictions.parts[:, rows, 4].sum(axis=1).mean())
    assert frame["share"].sum() < 1
    organic = frame.loc["Social"]
    assert organic["contribution"] > 0
    assert np.isnan(organic["roi"])
    assert np.isnan(organic["incremental_kpi"])
    assert organic["note"].startswith("organic")
    by_series = returns.to_frame(by_series=True)
    assert by_series["incremental_kpi"].sum() == pytest.approx(frame["incremental_kpi"].sum())
    assert list(by_series["series"].unique()) == ["geo 0", "geo 1"]


def test_no_spend_has_no_return_and_no_infinity() -> None:
    predictions = example()
    media, spend = predictions.media.copy(), predictions.spend.copy()
    media[:, 1] = spend[:, 1] = 0
    frame = media_returns(dataclasses.replace(predictions, media=media, spend=spend)).to_frame().set_index("channel")
    row = frame.loc["Search"]
    assert np.isnan(row[["roi", "marginal_roi", "cost_per_unit", "roi_low_90"]].to_numpy(float)).all()
    assert row["note"] == "no spend in this window, so no return can be stated"
    assert np.isfinite(frame.loc["TV", "roi"])
    assert not np.isinf(frame.select_dtypes(float)).any(axis=None)


def test_one_draw_has_no_interval() -> None:
    frame = media_returns(example(draws=1)).to_frame()
    assert frame["roi"].notna().all()
    assert frame["roi_low_90"].isna().all()


@LINKS
def test_few_draws_at_a_time_and_one_channel_alone_are_the_same_problem(link: str) -> None:
    predictions = example(link=link)
    response, window = predictions.response, returns_window(predictions)
    whole = window_kpi(response, window)
    few = [window_kpi(part, piece) for part, piece in by_draws(response, window, at_once=3)]
    assert [len(kpi) for kpi in few] == [3, 3, 2]
    np.testing.assert_allclose(np.concatenate(few), whole, rtol=1e-12)
    one, alone = only_channel(response, window, 1)
    np.testing.assert_allclose(window_kpi(one, alone), whole, rtol=1e-12)
    changed = window.spend.copy()
    changed[:, :, 1] *= 1.7
    np.testing.assert_allclose(
        ResponseSurface(one, alone).kpi(changed[:, :, 1:2]), window_kpi(response, window, changed), rtol=1e-12
    )


@LINKS
def test_media_elasticity_is_the_derivative_of_the_total(link: str) -> None:
    predictions = example(link=link, organic=1, cost=2.0)
    table = media_elasticity(predictions, **WINDOW).set_index("channel")
    media = predictions.media.reshape(2, 60, 3)
    sold = by_hand(predictions, media)[:, :, INSIDE].sum(axis=(1, 2))
    for c, name in enumerate(predictions.response.channels):
        up, down = media.copy(), media.copy()
        up[:, INSIDE, c] *= 1 + 1e-4
        down[:, INSIDE, c] *= 1 - 1e-4
        change = (by_hand(predictions, up) - by_hand(predictions, down)).sum(axis=(1, 2)) / 2e-4 / sold
        assert table.loc[name, "elasticity"] == pytest.approx(change.mean(), rel=2e-3)


@LINKS
@pytest.mark.parametrize("shape", ["concave", "s"])
def test_roi_curves_meet_the_table_and_rise(link: str, shape: str) -> None:
    predictions = example(link=link, shape=shape, cost=2.0, kpi_value=3.0, organic=1)
    table = media_returns(predictions, **WINDOW).to_frame().set_index("channel")
    curves = roi_curves(predictions, points=9, **WINDOW)
    assert [curve.channel for curve in curves] == ["TV", "Search"], "organic channels have no ROI"
    for curve in curves:
        frame = curve.to_frame()
        now = frame[frame["is_current"]].iloc[0]
        assert now["roi"] == pytest.approx(table.loc[curve.channel, "roi"], rel=1e-9)
        assert now["marginal_roi"] == pytest.approx(table.loc[curve.channel, "marginal_roi"], rel=1e-6)
        assert not now["extrapolated"]
        assert frame["extrapolated"].iloc[-1]
        assert frame["value"].iloc[0] == 0
        assert np.isnan(frame["roi"].iloc[0])
        assert (np.diff(curve.value, axis=1) > 0).all()
        assert frame["unit"].eq("EUR").all()
        assert curve.investment[-1] >= 1.99 * curve.current
        middle = (curve.value[:, 3] - curve.value[:, 2]) / (curve.investment[3] - curve.investment[2])
        between = np.sort(curve.marginal_roi[:, 2:4].mean(axis=0))
        assert between[0] * 0.9 < middle.mean() < between[1] * 1.1, "marginal ROI is the slope of value"


def test_historical_mark_is_where_a_tenth_of_the_money_is_above_every_peak() -> None:
    curve = roi_curves(example(), ["TV"])[0]
    window = returns_window(example())
    spend = window.spend[:, :, 0] * curve.historical / curve.current
    above = np.maximum(spend - window.max_spend[:, None, 0], 0).sum() / spend.sum()
    assert above == pytest.approx(0.1, rel=1e-6)


def test_a_channel_unused_in_the_window_is_spread_evenly() -> None:
    predictions = example()
    media, spend = predictions.media.copy(), predictions.spend.copy()
    quiet = predictions.date >= np.datetime64("2023-10-02")
    media[quiet, 0] = spend[quiet, 0] = 0
    predictions = dataclasses.replace(predictions, media=media, spend=spend)
    curve = roi_curves(predictions, ["TV"], start="2023-11-06")[0]
    assert curve.current == 0
    assert curve.historical > 0
    assert (np.diff(curve.value, axis=1) > 0).all()
    assert np.isfinite(curve.marginal_roi).all()


def test_curve_mistakes_are_named() -> None:
    with pytest.raises(UserError, match=r"there is no channel 'tv'\. Did you mean 'TV'"):
        roi_curves(example(), ["tv"])
    with pytest.raises(UserError, match="'Social' is organic"):
        roi_curves(example(organic=1), ["Social"])
    with pytest.raises(UserError, match="reach=0"):
        roi_curves(example(), reach=0)
    with pytest.raises(UserError, match="the data run from 2023-01-02"):
        media_returns(example(), start="1999-01-01")
