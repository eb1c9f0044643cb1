"""The figures a manager reads first: what drives the KPI, what each channel returns, and how it moved over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from wanamaker.decisions.decomposition import Contributions
from wanamaker.decisions.intervals import interval_columns
from wanamaker.reporting.mix_style import (
    ALARM,
    BASE_COLOURS,
    KIND_COLOURS,
    KIND_WORDS,
    apart,
    axis_dates,
    axis_numbers,
    house_grid,
    kpi_label,
    shade_splits,
    short_names,
    short_number,
    shortened,
)
from wanamaker.reporting.page import WIDE, Figure, number, picture
from wanamaker.reporting.style import ACCENT, INK, MUTED, RULE

if TYPE_CHECKING:
    import pandas as pd

_MAX_BARS = 18
_MAX_BANDS = 8
_OTHER = "#9fb0bf"
_CLEAR = {"facecolor": "white", "edgecolor": "none", "pad": 0.6}  # behind letters that may lie on a line


def waterfall_figure(frame: pd.DataFrame, colours: Mapping[str, str], kpi: str, unit: str, observed: float) -> Figure:
    """From the baseline to the predicted total, part by part, with each part's share and interval beside it.

    Args:
        frame: one row per part in the order drawn: part, kind, contribution, contribution_low_90,
            contribution_high_90, share, share_low_90, share_high_90 (`decisions.decomposition.Contributions.to_frame`).
        colours: of the parts.
        kpi, unit: of the KPI.
        observed: total observed; NaN leaves it out.
    """
    frame = _fewer(frame)
    names, values = frame["part"].tolist(), frame["contribution"].to_numpy(float)
    total = float(values.sum())
    ends = np.cumsum(values)
    starts = ends - values
    rows = np.arange(len(names))
    more = ["Predicted total"] + (["Observed total"] if np.isfinite(observed) else [])
    count = len(names) + len(more)
    with house_grid(WIDE, 1.1 + 0.3 * count, 1, 2, sharey=True, width_ratios=[1.55, 1]) as (figure, axes):
        left, right = axes[0]
        for row in rows:
            colour = colours.get(names[row], _OTHER)
            left.barh(row, values[row], left=starts[row], color=colour, height=0.66)
            if row + 1 < count:
                left.plot([ends[row], ends[row]], [row - 0.33, row + 1.33], color=MUTED, lw=0.7, zorder=0)
        left.barh(len(names), total, color=INK, height=0.66)
        if np.isfinite(observed):
            left.barh(len(names) + 1, observed, color="#ffffff", edgecolor=INK, height=0.62, lw=1.2)
        low, high = min(0.0, starts.min(), ends.min()), max(starts.max(), ends.max(), total, np.nan_to_num(observed))
        span = high - low
        left.set_xlim(low - (0.1 * span if low < 0 else 0), high + 0.14 * span)
        for row, value in enumerate([*values, total, observed][:count]):
            end = max(starts[row], ends[row]) if row < len(names) else value
            left.text(end + 0.012 * span, row, short_number(value), va="center", fontsize=9, color=INK)
        left.axvline(0, color=MUTED, lw=0.8)
        labels = short_names(names, 30) + more
        left.set_yticks(np.arange(count), labels, color=INK)
        left.set_ylim(count - 0.4, -0.6)
        left.set_xlabel(kpi_label(kpi, unit))
        left.set_title("From the baseline to the total")
        axis_numbers(left.xaxis)
        _share_panel(right, frame, colours)
        for a in (left, right):
            a.grid(axis="y", visible=False)
            a.grid(axis="x", visible=True)
            a.spines["left"].set_visible(False)
        listed = ", ".join(f"{n} {short_number(v)}" for n, v in zip(names, values, strict=True))
        return picture(
            figure,
            "contribution_waterfall",
            f"Waterfall of the predicted {kpi} in {unit}: {listed}; total {short_number(total)}.",
            "Left: how the model builds up the total; bars to the left of where they start take away. Right: each "
            "part as a share of the predicted total, without the baseline; the thin line is the 90 % interval.",
        )


def _share_panel(axes: object, frame: pd.DataFrame, colours: Mapping[str, str]) -> None:
    """Shares of everything but the baseline on a scale of their own."""
    shown = [row for row, kind in enumerate(frame["kind"]) if kind != "baseline"]
    share = 100 * frame["share"].to_numpy(float)
    low, high = (100 * frame[f"share_{side}_90"].to_numpy(float) for side in ("low", "high"))
    for row in shown:
        colour = colours.get(frame["part"].iloc[row], _OTHER)
        if np.isfinite(low[row]):
            axes.plot([low[row], high[row]], [row, row], color=colour, lw=1.6, solid_capstyle="butt")
        axes.plot(share[row], row, "o", color=colour, ms=6)
    axes.axvline(0, color=MUTED, lw=0.8)
    ends = [np.nanmax([share[row], high[row]]) for row in shown]
    starts = [np.nanmin([share[row], low[row]]) for row in shown]
    reach = max([*ends, 0.0]) - min([*starts, 0.0]) or 1.0
    axes.set_xlim(min([*starts, 0.0]) - 0.04 * reach, max([*ends, 0.0]) + 0.27 * reach)
    for row, end in zip(shown, ends, strict=True):
        axes.text(end + 0.025 * reach, row, f"{share[row]:.1f} %", va="center", fontsize=9, color=INK, bbox=_CLEAR)
    axes.set_xlabel("% of the predicted total")
    axes.set_title("Share, without the baseline")
    axes.tick_params(labelleft=False)


def _fewer(frame: pd.DataFrame) -> pd.DataFrame:
    """At most `_MAX_BARS` parts: the smallest that are not media become one bar, then the smallest media."""
    import pandas as pd

    if len(frame) <= _MAX_BARS:
        return frame
    keep = frame["kind"] == "baseline"
    order = frame["contribution"].abs().where(~keep, np.inf)
    cut = order.sort_values(ascending=False).index[: _MAX_BARS - 1]
    rest = frame.drop(index=cut)
    sums = rest.select_dtypes("number").sum().to_dict()
    # Bounds of a sum are not the sums of bounds, and the draws are not here any more.
    unknown = {name: np.nan for name in sums if "_low_" in name or "_high_" in name}
    joined = {**sums, **unknown, "part": f"{len(rest)} smaller parts", "kind": "other"}
    return pd.concat([frame.loc[frame.index.isin(cut)], pd.DataFrame([joined])], ignore_index=True)


def returns_figure(frame: pd.DataFrame, money: str, *, pays_in: str = "", break_even: float | None = 1.0) -> Figure:
    """ROI and marginal ROI per paid channel with 90 % intervals, best first.

    Args:
        frame: per channel: channel, roi, roi_low_90, roi_high_90, mroi, mroi_low_90, mroi_high_90; other order is fine.
        money: unit of the money.
        pays_in: unit of what comes back per unit of money, where that is not money.
        break_even: where the line is drawn; None draws none (returns in units of the KPI).
    """
    frame = frame.sort_values("roi", ascending=False, na_position="last").reset_index(drop=True)
    names = short_names(frame["channel"], 30)
    unit = f"{pays_in or money} per {money}"
    rows = np.arange(len(frame))
    with house_grid(WIDE, 1.25 + 0.34 * max(len(frame), 2), 1, 2, sharey=True) as (figure, axes):
        for a, column, title in ((axes[0, 0], "roi", "ROI"), (axes[0, 1], "mroi", "Marginal ROI")):
            value = frame[column].to_numpy(float)
            low, high = (frame[f"{column}_{side}_90"].to_numpy(float) for side in ("low", "high"))
            stretch = np.concatenate([value, low, high, [0.0, break_even or 0.0]])
            start, end = float(np.nanmin(stretch)), float(np.nanmax(stretch))
            end = min(end, max(4 * float(np.nanmax([*value, 1e-9])), break_even or 0.0))
            reach = (end - start) or 1.0
            if break_even is not None:
                a.axvline(break_even, color=INK, lw=1.0, ls=(0, (4, 2)), zorder=1)
            for row in rows:
                colour = _verdict(low[row], high[row], value[row], break_even)
                if np.isfinite(low[row]):
                    a.plot([low[row], min(high[row], end)], [row, row], color=colour, lw=2.4, solid_capstyle="butt")
                    if high[row] > end:
                        a.plot(end, row, ">", color=colour, ms=5)
                if np.isfinite(value[row]):
                    a.plot(value[row], row, "o", color=colour, ms=7)
                right = np.nanmax([value[row], min(high[row], end) if np.isfinite(high[row]) else -np.inf, start])
                text = number(value[row]) if np.isfinite(value[row]) else "no spend"
                a.text(right + 0.03 * reach, row, text, va="center", fontsize=9, color=INK, bbox=_CLEAR)
            a.set_xlim(start - 0.04 * reach, end + 0.2 * reach)
            a.set_title(title)
            a.set_xlabel(unit)
            a.grid(axis="y", visible=False)
            a.grid(axis="x", visible=True)
            a.spines["left"].set_visible(False)
        axes[0, 0].set_yticks(rows, names, color=INK)
        axes[0, 0].set_ylim(max(len(frame), 2) - 0.4, -0.75)
        axes[0, 1].tick_params(labelleft=False)
        if break_even is not None:
            _verdict_legend(figure)
        listed = ", ".join(f"{n} {v:.2f}" for n, v in zip(frame["channel"], frame["roi"], strict=True))
        return picture(
            figure,
            "roi",
            f"Return on investment by channel in {unit}: {listed}.",
            "ROI: what all the money of a channel brought back, per unit of money. Marginal ROI: what a little more "
            "money would bring at today's level; budgets should move from low to high marginal ROI. Lines are 90 % "
            "intervals" + ("; the dashed line is break-even." if break_even is not None else "."),
        )


def _verdict(low: float, high: float, value: float, break_even: float | None) -> str:
    if break_even is None:
        return ACCENT
    if not np.isfinite(low):
        low = high = value
    return ACCENT if low > break_even else ALARM if high < break_even else MUTED


def _verdict_legend(figure: object) -> None:
    from matplotlib.lines import Line2D

    words = ((ACCENT, "above break-even"), (MUTED, "cannot be told"), (ALARM, "below break-even"))
    handles = [Line2D([], [], color=colour, marker="o", lw=2.4, label=word) for colour, word in words]
    figure.legend(handles=handles, loc="outside lower left", ncols=3, fontsize=9)


def decomposition_figure(
    date: np.ndarray,
    parts: np.ndarray,
    names: Sequence[str],
    kinds: Sequence[str],
    colours: Mapping[str, str],
    *,
    observed: np.ndarray,
    split: np.ndarray,
    kpi: str,
    unit: str,
    name: str,
    choice: str = "",
    title: str = "",
) -> Figure:
    """Stacked contributions over time: what is not marketing as one grey base, then prices, promotions and channels.

    Args:
        date: datetime64[D] [T].
        parts: [T, K], contributions per period, KPI units; those that go below 0 hang below the base.
        names, kinds: of the parts.
        colours: of the parts.
        observed: [T], drawn as a line; NaN leaves gaps.
        split: [T], index into `predictions.SPLITS`.
        kpi, unit: of the KPI.
        name: of the file.
        choice, title: of the series shown.
    """
    base, bands = _bands(parts, names, kinds, colours)
    with house_grid(WIDE, 4.3) as (figure, grid):
        axes = grid[0, 0]
        shade_splits(axes, date, split)
        axes.fill_between(date, 0, base, color=BASE_COLOURS["baseline"], lw=0)
        top, bottom = base.copy(), base.copy()
        edge_width = 0.4 if len(date) <= 160 else 0.0
        for values, _, colour in bands:
            up, down = np.maximum(values, 0), np.minimum(values, 0)
            for edge, step, hatch in ((top, up, None), (bottom, down, "////")):
                if np.abs(step).sum() > 0:
                    style = {"facecolor": colour, "edgecolor": "white", "lw": edge_width, "hatch": hatch}
                    axes.fill_between(date, edge, edge + step, **style)
                edge += step
        if np.isfinite(observed).any():
            axes.plot(date, observed, color=INK, lw=1.1)
        axes.plot(date, top + bottom - base, color=INK, lw=0.9, ls=(0, (3, 2)))
        reach = np.concatenate([top, bottom, base, observed[np.isfinite(observed)], [0.0]])
        low, high = float(reach.min()), float(reach.max())
        axes.set_ylim(low - (0.02 * (high - low) if low < 0 else 0), high + 0.06 * (high - low or 1.0))
        axes.set_xlim(date[0], date[-1] if len(date) > 1 else date[0] + np.timedelta64(1, "D"))
        axes.set_ylabel(f"{kpi} per period, {unit}" if unit else f"{kpi} per period")
        axis_numbers(axes.yaxis)
        axis_dates(axes)
        if title:
            axes.set_title(shortened(title, 90), pad=18)
        _named_bands(axes, base, bands)
        listed = ", ".join(f"{word} {short_number(values.sum())}" for values, word, _ in bands)
        return picture(
            figure,
            name,
            f"Contributions to {kpi} over time{f', {title}' if title else ''}: base {short_number(base.sum())}, "
            f"{listed}.",
            "Grey: what would have been sold without prices moving, promotions and media (level, trend, season, "
            "controls). Colours: what each adds on top; hatched: what it takes away from the grey. "
            "Solid line: observed; dashed: predicted.",
            choice=choice,
        )


def kinds_figure(date: np.ndarray, parts: Contributions, split: np.ndarray, kpi: str, unit: str) -> Figure:
    """Each kind of part over time on a scale of its own, with its 90 % interval.

    Args:
        date: datetime64[D] [T].
        parts: by period, all series together.
        split: [T], index into `predictions.SPLITS`.
        kpi, unit: of the KPI.
    """
    kinds = [kind for kind in KIND_WORDS if kind in parts.kinds]
    columns = min(2, len(kinds))
    rows = -(-len(kinds) // columns)
    with house_grid(WIDE, 0.5 + 1.75 * rows, rows, columns, sharex=True) as (figure, grid):
        flat, said = grid.reshape(-1), []
        for kind, axes in zip(kinds, flat, strict=False):
            columns_ = interval_columns("x", parts.of_kind(kind))
            shade_splits(axes, date, split, labels=False)
            if np.isfinite(columns_["x_low_90"]).any():
                axes.fill_between(
                    date, columns_["x_low_90"], columns_["x_high_90"], color=KIND_COLOURS[kind], alpha=0.3, lw=0
                )
            axes.plot(date, columns_["x"], color=KIND_COLOURS[kind], lw=1.5 if len(date) <= 160 else 1.0)
            if kind != "baseline":
                axes.axhline(0, color=MUTED, lw=0.8)
            axes.set_title(KIND_WORDS[kind], fontsize=10)
            axes.set_xlim(date[0], date[-1])
            axis_numbers(axes.yaxis)
            axis_dates(axes)
            said.append(
                f"{KIND_WORDS[kind]} {short_number(columns_['x'].min())} to {short_number(columns_['x'].max())}"
            )
        for axes in flat[len(kinds) :]:
            axes.set_visible(False)
            flat[len(kinds) - columns].tick_params(labelbottom=True)
        figure.supylabel(f"{kpi} per period, {unit}" if unit else f"{kpi} per period", fontsize=10, color=MUTED)
        return picture(
            figure,
            "parts_over_time",
            f"Contributions to {kpi} by kind, per period: {'; '.join(said)}.",
            "All series together; bands are 90 % intervals, scales differ. Shaded: validation and test.",
        )


def _bands(
    parts: np.ndarray, names: Sequence[str], kinds: Sequence[str], colours: Mapping[str, str]
) -> tuple[np.ndarray, list[tuple[np.ndarray, str, str]]]:
    """The base [T], and bands of (values [T], name, colour): the largest, and the others of a kind together."""
    grey = [k for k, kind in enumerate(kinds) if kind in BASE_COLOURS]
    base = parts[:, grey].sum(axis=1)
    rest = [k for k in range(len(names)) if k not in grey]
    size = np.abs(parts).sum(axis=0)
    ranked = sorted(rest, key=lambda k: -size[k])
    shown = set(ranked if len(ranked) <= _MAX_BANDS + 1 else ranked[:_MAX_BANDS])
    bands = []
    for kind in ("price", "promotion", "media"):
        mine = sorted((k for k in rest if kinds[k] == kind), key=lambda k: -size[k])
        bands += [(parts[:, k], shortened(names[k], 24), colours[names[k]]) for k in mine if k in shown]
        others = [k for k in mine if k not in shown]
        if len(others) == 1:
            bands.append((parts[:, others[0]], shortened(names[others[0]], 24), colours[names[others[0]]]))
        elif others:
            word = {"price": "prices", "promotion": "promotions", "media": "media"}[kind]
            bands.append((parts[:, others].sum(axis=1), f"{len(others)} other {word}", _OTHER))
    return base, bands


def _named_bands(axes: object, base: np.ndarray, bands: list[tuple[np.ndarray, str, str]]) -> None:
    """Names right of the last period, at the height of their bands, so that no one has to match colours."""
    low, high = axes.get_ylim()
    tail = slice(-max(1, len(base) // 12), None)
    level = float(base[tail].mean())
    at, up, down = [level / 2], level, level
    for values, *_ in bands:
        value = values[tail].mean()
        if value >= 0:
            at.append(up + value / 2)
            up += value
        else:
            at.append(down + value / 2)
            down += value
    words = [("base", MUTED), *((word, colour) for _, word, colour in bands)]
    places = apart(at, 0.052 * (high - low), low + 0.02 * (high - low), high - 0.02 * (high - low))
    for (word, colour), wanted, place in zip(words, at, places, strict=True):
        start, end = ((y - low) / (high - low) for y in (wanted, place))
        beside = {"transform": axes.transAxes, "clip_on": False}
        axes.plot([1.002, 1.016], [start, end], color=RULE, lw=0.8, **beside)
        axes.plot([1.021], [end], "s", ms=6, color=BASE_COLOURS["baseline"] if word == "base" else colour, **beside)
        axes.text(1.031, end, word, va="center", fontsize=9, color=INK, transform=axes.transAxes)
