"""The first screen of a mix report: the finding in plain words with units, key figures, and the two main figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from wanamaker.decisions.intervals import interval_columns, ratio
from wanamaker.reporting.mix_figures import returns_figure, waterfall_figure
from wanamaker.reporting.mix_numbers import MixNumbers, part_order
from wanamaker.reporting.mix_style import part_colours, percent, shortened
from wanamaker.reporting.page import Figure, Tile, number

if TYPE_CHECKING:
    import pandas as pd


def headline(numbers: MixNumbers) -> str:
    """The finding in one line."""
    kpi = numbers.predictions.response.kpi
    if numbers.returns is None:
        elasticity = total_elasticity(numbers)
        if elasticity is None:
            return f"What drives {kpi}"
        change = float(elasticity["elasticity"])
        return f"1\u00a0% higher prices bring {abs(change):.1f}\u00a0% {'less' if change < 0 else 'more'} {kpi}"
    share = float(ratio(numbers.total.of_kind("media"), numbers.total.total).mean())
    best = _ranked(numbers, "roi")
    said = f"Media brought {percent(share, 0)} of {kpi}"
    if len(best) > 1:
        name = shortened(best.iloc[0]["channel"], 40)
        said += (
            "; no channel earned back its money"
            if _loses(best, "roi", numbers)
            else f"; {name} returned most for its money"
        )
    return said


def lead(numbers: MixNumbers) -> list[str]:
    """Three sentences with units: where the KPI comes from, what money returned, where the next money belongs."""
    response = numbers.predictions.response
    total = float(numbers.total.total.mean())
    base = sum(numbers.total.of_kind(kind) for kind in ("baseline", "trend", "season", "control"))
    words = [f"{_share(base, numbers)} would have come {'anyway' if numbers.returns is None else 'without marketing'}"]
    for name, kind in (("media", "media"), ("promotions", "promotion"), ("prices", "price")):
        draws = numbers.total.of_kind(kind)
        if np.abs(draws).sum() > 0:
            words.append(f"{name} made {_share(draws, numbers, signed=kind == 'price')}")
    said = number(total, response.kpi_unit)
    what = said if response.kpi.casefold() == response.kpi_unit.casefold() else f"{said} of {response.kpi}"
    first = (
        f"Of {what} that the model sees from {day_words(numbers.start)} "
        f"to {day_words(numbers.end)}, {', '.join(words)}."
    )
    if numbers.returns is None:
        return [first, *_price_words(numbers)]
    return [first, *_return_words(numbers)]


def _return_words(numbers: MixNumbers) -> list[str]:
    """What the money of the paid channels returned, and what a little more would."""
    response = numbers.predictions.response
    unit = f"{numbers.pays_in or response.money_unit} per {response.money_unit}"
    ranked = _ranked(numbers, "roi")
    if ranked.empty:
        return ["Nothing was spent on media in this window, so no return can be stated."]
    best, worst = ranked.iloc[0], ranked.iloc[-1]
    past = f"Money in {best['channel']} returned {_return(best, 'roi')} {unit} spent"
    if len(ranked) > 1:
        past += f", the most of {len(ranked)} paid channels; in {worst['channel']} the least, {_return(worst, 'roi')}"
    more = _ranked(numbers, "marginal_roi")
    best, worst = more.iloc[0], more.iloc[-1]
    future = f"A little more money would bring {_return(best, 'marginal_roi')} {unit} in {best['channel']}"
    if len(more) > 1:
        future += f" and {_return(worst, 'marginal_roi')} in {worst['channel']}"
    low_of_best, high_of_worst = best["marginal_roi_low_90"], worst["marginal_roi_high_90"]
    if _loses(more, "marginal_roi", numbers):
        future += ": nowhere does more money earn itself back"
    elif len(more) > 1 and not np.isfinite(low_of_best):
        future += ": moving money may help, but without intervals nobody can say how surely"
    elif len(more) > 1:
        sure = low_of_best > high_of_worst
        future += f": moving some from there {'is worth planning' if sure else 'may help, though intervals overlap'}"
    return [f"{past}.", f"{future}."]


def tiles(numbers: MixNumbers) -> list[Tile]:
    """Key figures."""
    response = numbers.predictions.response
    observed = float(numbers.total.observed[0])
    what = "observed" if np.isfinite(observed) else "predicted"
    total = observed if np.isfinite(observed) else float(numbers.total.total.mean())
    result = [
        Tile(
            number(total, response.kpi_unit),
            f"{response.kpi} ({what})",
            f"{day_words(numbers.start)} to {day_words(numbers.end)}",
        )
    ]
    share = ratio(numbers.total.of_kind("media"), numbers.total.total)
    elasticity = total_elasticity(numbers)
    if numbers.returns is None and elasticity is not None:
        note = f"{numbers.own_elasticity['series'].ne('all').sum():,} series"
        result.append(Tile(_return(elasticity, "elasticity").split(" (")[0], "own-price elasticity", note))
    if numbers.returns is not None:
        result.append(Tile(percent(float(share.mean())), "brought by media", _between(share[:, 0], as_share=True)))
    spend = 0.0 if numbers.returns is None else float(numbers.returns.spend[:, response.paid].sum())
    if numbers.returns is not None and spend > 0:
        result.append(Tile(number(spend, response.money_unit), "spent on media", "paid channels"))
        value = numbers.returns.incremental[:, :, response.paid].sum(axis=(1, 2)) * response.kpi_value
        unit = f"{numbers.pays_in or response.money_unit} per {response.money_unit}"
        note = _between(value / spend)
        result.append(Tile(number((value / spend).mean()), f"ROI of paid media, {unit}", note))
    scores = numbers.scores.set_index("split")
    held_out = next((s for s in ("test", "val") if s in scores.index), None)
    if held_out is not None:
        words = {"test": "test", "val": "validation"}[held_out]
        note = f"R2 {scores.loc[held_out, 'r2']:.2f} on {int(scores.loc[held_out, 'rows']):,} rows"
        result.append(Tile(percent(scores.loc[held_out, "wmape"]), f"error on {words} periods (wMAPE)", note))
    return result


def _loses(ranked: pd.DataFrame, column: str, numbers: MixNumbers) -> bool:
    """Whether even the best channel surely brings back less than it costs."""
    if numbers.break_even is None:
        return False
    best = ranked[[column, f"{column}_high_90"]].max(axis=1)  # the upper bound where there is one
    return bool((best < numbers.break_even).all())


def total_elasticity(numbers: MixNumbers) -> Mapping[str, Any] | None:
    """The row of own-price elasticities that is about all series together; None where there is no own price."""
    frame = numbers.own_elasticity
    return None if frame is None else frame.iloc[-1]


def _price_words(numbers: MixNumbers) -> list[str]:
    """What a model without media says about prices, in place of returns."""
    total = total_elasticity(numbers)
    if total is None or numbers.own_elasticity is None:
        return []
    kpi = numbers.predictions.response.kpi
    words = [f"Own prices that are 1\u00a0% higher change {kpi} by {_return(total, 'elasticity')}\u00a0%."]
    by_series = numbers.own_elasticity[numbers.own_elasticity["series"] != "all"].sort_values("elasticity")
    if len(by_series) > 1:
        first, last = by_series.iloc[0], by_series.iloc[-1]
        words.append(
            f"The strongest answer is that of {first['series']}, {_return(first, 'elasticity')}; the weakest that of "
            f"{last['series']}, {_return(last, 'elasticity')}."
        )
    return words


def first_figures(numbers: MixNumbers) -> list[Figure]:
    """The waterfall and the returns."""
    response = numbers.predictions.response
    order = part_order(numbers.total)
    frame = numbers.total.to_frame().iloc[order].reset_index(drop=True)
    figures = [
        waterfall_figure(frame, colours_of(numbers), response.kpi, response.kpi_unit, float(numbers.total.observed[0]))
    ]
    paid = numbers.channels()
    paid = paid[paid["roi"].notna()].rename(columns=lambda name: name.replace("marginal_roi", "mroi"))
    if len(paid):
        figures.append(
            returns_figure(paid, response.money_unit, pays_in=numbers.pays_in, break_even=numbers.break_even)
        )
    return figures


def colours_of(numbers: MixNumbers) -> dict[str, str]:
    return part_colours(numbers.total.names, numbers.total.kinds, numbers.predictions.response.channels)


def _ranked(numbers: MixNumbers, column: str) -> pd.DataFrame:
    frame = numbers.channels()
    return frame[frame[column].notna()].sort_values(column, ascending=False)


def _return(row: Mapping[str, Any], column: str) -> str:
    low, high = row[f"{column}_low_90"], row[f"{column}_high_90"]
    return number(row[column]) + (f" ({number(low)} to {number(high)})" if np.isfinite(low) else "")


def _share(draws: np.ndarray, numbers: MixNumbers, *, signed: bool = False) -> str:
    columns = interval_columns("x", ratio(draws, numbers.total.total)[:, 0])
    words = percent(float(columns["x"]), sign=signed)
    low, high = 100 * float(columns["x_low_90"]), 100 * float(columns["x_high_90"])
    return f"{words} ({low:.1f} to {high:.1f})" if np.isfinite(low) else words


def _between(draws: np.ndarray, *, as_share: bool = False) -> str:
    columns = interval_columns("x", draws)
    low, high = float(columns["x_low_90"]), float(columns["x_high_90"])
    if not np.isfinite(low):
        return "no interval: one draw"
    show = percent if as_share else number
    return f"90\u00a0% interval {show(low)} to {show(high)}"


def day_words(date: np.datetime64) -> str:
    day = date.astype("datetime64[D]").item()
    return f"{day.day} {day:%b %Y}"
