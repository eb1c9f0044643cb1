"""Figures about a posterior: its chains or its guide, prior beside posterior, and who trades with whom."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from wanamaker.decisions.mix_diagnosis import nearly_positive
from wanamaker.decisions.posterior_checks import KHAT_GOOD, KHAT_USABLE
from wanamaker.predictions.posterior import MixPosterior
from wanamaker.reporting.mix_style import ALARM, axis_numbers, channel_colour, house_grid, short_names, shortened
from wanamaker.reporting.page import WIDE, Figure, picture
from wanamaker.reporting.style import ACCENT, INK, MUTED, PALETTE, RULE, ink_on

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_MOST_PANELS = 15
_MOST_NAMES = 14
_POINTS = 160
_PRIOR = "#8594a4"
_CROWD = "#c3ced9"
_TOLD_APART = 6  # chains; of more only the extreme ones are shown in colour
_GOOD, _USABLE, _REFUSED = "#d5e8f5", "#fdeccd", "#f6d9c8"


def chain_figure(posterior: MixPosterior, worst: pd.DataFrame) -> Figure:
    """Trace and rank plots of the parameters that mixed worst.

    Rank plots are those of Vehtari et al. 2021: ranks of all draws together, counted per chain.

    Args:
        posterior: of a sampler.
        worst: rows of `PosteriorChecks.table`.
    """
    rows = list(worst.itertuples())
    chains = posterior.num_chains
    with house_grid(WIDE, 0.75 + 1.35 * len(rows), len(rows), 2, width_ratios=[1.7, 1]) as (figure, grid):
        for (left, right), row in zip(grid, rows, strict=True):
            values = _entry(posterior, row.parameter, row.of)
            ranks = _ranks(values)
            looks = _chain_looks(ranks)
            for chain, colour, width in looks:
                left.plot(values[chain], color=colour, lw=0.5 * width, alpha=0.9)
            _rank_plot(right, ranks, looks)
            name = f"{row.parameter}, {row.of}" if row.of else row.parameter
            left.set_title(f"{shortened(name, 44)}   R-hat {row.r_hat:.3f}", fontsize=10)
            left.set_xlim(0, posterior.num_draws - 1)
            axis_numbers(left.yaxis)
        grid[0, 1].set_title("ranks by chain", fontsize=10)
        grid[-1, 0].set_xlabel("draw")
        grid[-1, 1].set_xlabel("rank among all draws, %")
        figure.legend(
            handles=_chain_handles(chains), loc="outside lower left", ncols=_TOLD_APART, fontsize=9, handlelength=1.4
        )
        said = ", ".join(f"{r.parameter} {r.of} {r.r_hat:.3f}".replace("  ", " ") for r in rows)
        return picture(
            figure,
            "posterior_chains",
            f"Trace and rank plots of {len(rows)} parameters with the largest R-hat: {said}.",
            "Left: every chain's draws; chains that agree look like one band without steps or trends. Right: each "
            "chain's share of low and high draws; where chains agree, all run along the even one.",
        )


def _entry(posterior: MixPosterior, name: str, labels: str) -> np.ndarray:
    """Draws [chain, draw] of one number of a parameter by its labels."""
    from wanamaker.decisions.posterior_checks import entries

    place = next(place for place, words in entries(posterior, name) if words == labels)
    return posterior.parameters[name][(..., *place)]


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks among all draws in per cent, [chain, draw]."""
    from scipy.stats import rankdata

    return 100 * (rankdata(values).reshape(values.shape) - 0.5) / values.size


def _chain_looks(ranks: np.ndarray) -> list[tuple[int, str, float]]:
    """Chain, colour and width in the order drawn: each in its colour, or of many only the lowest and the highest."""
    chains = len(ranks)
    if chains <= _TOLD_APART:
        return [(chain, PALETTE[chain], 1.3) for chain in range(chains)]
    order = [int(chain) for chain in np.argsort(ranks.mean(axis=1), kind="stable")]
    return [*((chain, _CROWD, 0.7) for chain in order[1:-1]), (order[0], ALARM, 1.4), (order[-1], ACCENT, 1.4)]


def _rank_plot(axes: Axes, ranks: np.ndarray, looks: list[tuple[int, str, float]]) -> None:
    draws = ranks.shape[1]
    bins = int(np.clip(draws // 20, 5, 20))
    edges = np.linspace(0, 100, bins + 1)
    top = 1.6
    for chain, colour, width in looks:
        height = np.histogram(ranks[chain], edges)[0] * bins / draws
        axes.stairs(height, edges, baseline=None, color=colour, lw=width)
        top = max(top, 1.08 * float(height.max()))
    axes.axhline(1, color=MUTED, lw=1.0)
    axes.set_xlim(0, 100)
    axes.set_ylim(0, top)
    axes.set_yticks([0, 1], ["0", "even"])


def _chain_handles(chains: int) -> list[object]:
    from matplotlib.lines import Line2D

    if chains <= _TOLD_APART:
        return [Line2D([], [], color=PALETTE[c], lw=2, label=f"chain {c + 1}") for c in range(chains)]
    words = ((ALARM, "lowest chain"), (ACCENT, "highest chain"), (_CROWD, f"the other {chains - 2}"))
    return [Line2D([], [], color=colour, lw=2, label=word) for colour, word in words]


def khat_figure(posterior: MixPosterior) -> Figure:
    """The k-hat of the guide on its scale."""
    k = posterior.khat
    end = 1.2 if not np.isfinite(k) else max(1.2, 1.15 * k)
    with house_grid(WIDE, 1.35) as (figure, grid):
        axes = grid[0, 0]
        start = min(0.0, k * 1.1) if np.isfinite(k) else 0.0
        zones = ((start, KHAT_GOOD, _GOOD, "good"), (KHAT_GOOD, KHAT_USABLE, _USABLE, "usable"))
        for low, high, colour, word in (*zones, (KHAT_USABLE, end, _REFUSED, "not to be used")):
            axes.axvspan(low, high, color=colour, lw=0)
            axes.text((low + high) / 2, 0.16, word, ha="center", va="center", fontsize=9.5, color=INK)
        if np.isfinite(k):
            axes.axvline(k, 0.34, 1, color=INK, lw=2.4)
            right = k > start + 0.85 * (end - start)
            axes.annotate(
                f"{k:.2f}",
                (k, 0.68),
                (-6 if right else 6, 0),
                textcoords="offset points",
                ha="right" if right else "left",
                va="center",
                fontsize=12,
                fontweight="bold",
                color=INK,
            )
        axes.set_xlim(start, end)
        axes.set_ylim(0, 1)
        axes.set_yticks([])
        axes.set_xticks([t for t in (0, KHAT_GOOD, KHAT_USABLE, 1.0) if start <= t <= end])
        axes.set_xlabel("k-hat")
        axes.grid(visible=False)
        guide = posterior.guide.replace("_", "-") or "no"
        axes.set_title(f"How far the {guide} guide is from the posterior")
        return picture(
            figure,
            "posterior_khat",
            f"k-hat of the guide: {k:.2f}; good up to {KHAT_GOOD}, usable up to {KHAT_USABLE}.",
            "k-hat is the tail index of the weights that would turn draws of the guide into draws of the posterior: "
            "the larger it is, the more of the posterior the guide does not reach.",
        )


def prior_posterior_figure(posterior: MixPosterior, ledger: pd.DataFrame, money: str, pays_in: str) -> Figure:
    """Densities of prior and posterior of every channel's ROI, or contribution where it is organic.

    Args:
        posterior: with draws of both.
        ledger: of `decisions.mix_diagnosis.information_ledger`.
        money: unit of the money.
        pays_in: unit of what comes back, where that is not money; also of contributions.
    """
    shown = ledger.head(_MOST_PANELS)
    columns = min(3, len(shown))
    rows = -(-len(shown) // columns)
    with house_grid(WIDE, 0.6 + 1.75 * rows, rows, columns) as (figure, grid):
        flat = grid.reshape(-1)
        for axes, row in zip(flat, shown.itertuples(), strict=False):
            c = posterior.channels.index(row.channel)
            before, after = posterior.prior[row.quantity][:, c], posterior.flat(row.quantity)[:, c]
            colour = channel_colour(c)
            start, end = _range(before, after)
            x = np.linspace(start, end, _POINTS)
            top = 0.0
            for draws, style in ((before, "prior"), (after, "posterior")):
                y = _density(draws, x)
                top = max(top, float(y.max()))
                if style == "prior":
                    axes.fill_between(x, 0, y, color=_PRIOR, alpha=0.28, lw=0)
                    axes.plot(x, y, color=_PRIOR, lw=1.4, ls=(0, (4, 2)))
                else:
                    axes.fill_between(x, 0, y, color=colour, alpha=0.35, lw=0)
                    axes.plot(x, y, color=colour, lw=1.8)
            axes.plot(
                [row.posterior_low_90, row.posterior_high_90], [0, 0], color=colour, lw=5, clip_on=False, zorder=4
            )
            axes.set_xlim(start, end)
            axes.set_ylim(0, 1.08 * top)
            axes.set_yticks([])
            axes.spines["left"].set_visible(False)
            axes.grid(visible=False)
            axis_numbers(axes.xaxis)
            axes.set_title(shortened(row.channel, 20), fontsize=10)
            axes.set_title(
                "mostly prior" if row.mostly_prior else f"{row.nats:.1f} nats",
                loc="right",
                fontsize=9,
                color=ALARM if row.mostly_prior else MUTED,
                fontweight="bold" if row.mostly_prior else "normal",
            )
            unit = f"{pays_in or money} per {money}" if row.quantity == "roi" else pays_in or money
            axes.set_xlabel(f"{'ROI' if row.quantity == 'roi' else 'contribution'}, {unit}", fontsize=9)
        for axes in flat[len(shown) :]:
            axes.set_visible(False)
        _prior_legend(figure)
        listed = ", ".join(f"{r.channel} {r.nats:.2f} nats" for r in shown.itertuples())
        more = f" The first {_MOST_PANELS} of {len(ledger)}; all are in the tables." if len(ledger) > len(shown) else ""
        return picture(
            figure,
            "prior_posterior",
            f"Prior and posterior by channel; learnt from the data: {listed}.",
            "Grey, dashed: what was assumed before. Colour: what is believed after the data; the thick line is its "
            "90 % interval. Where both look alike, the data said nothing." + more,
        )


def _prior_legend(figure: object) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=_PRIOR, lw=1.4, ls=(0, (4, 2)), label="prior"),
        Line2D([], [], color=INK, lw=1.8, label="posterior (in the channel's colour)"),
    ]
    figure.legend(handles=handles, loc="outside lower left", ncols=2, fontsize=9)  # type: ignore[attr-defined]


def _range(before: np.ndarray, after: np.ndarray) -> tuple[float, float]:
    """What to show: all of the posterior, and of the prior what a figure of it can hold."""
    low, high = np.percentile(after, [0.5, 99.5])
    prior_low, prior_high = np.percentile(before, [2, 95])
    width = max(high - low, 1e-12)
    low = min(low, max(prior_low, low - 6 * width))
    high = max(high, min(prior_high, high + 6 * width))
    room = 0.04 * (high - low)
    if nearly_positive(before) and nearly_positive(after):
        return max(0.0, low - room), high + room
    return low - room, high + room


def _density(draws: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Gaussian kernel density at x; where (nearly) no draw is below 0, what would leak there is folded back.

    The bandwidth is Silverman's with the smaller of standard deviation and scaled interquartile range, which heavy
    tails do not blow up.
    """
    folded = nearly_positive(draws)
    draws = draws[draws > 0] if folded else draws
    quartiles = np.subtract(*np.percentile(draws, [75, 25]))
    spread = min(s for s in (float(draws.std()), float(quartiles) / 1.349, np.inf) if s > 0)
    if not np.isfinite(spread):
        return np.zeros_like(x)
    width = 0.9 * spread * len(draws) ** -0.2

    def kernel(at: np.ndarray) -> np.ndarray:
        return np.exp(-0.5 * np.square((at[:, None] - draws) / width)).sum(axis=1)

    y = kernel(x) + (kernel(-x) if folded else 0)
    return np.where((x < 0) & folded, 0, y) / (len(draws) * width * np.sqrt(2 * np.pi))


def trade_figure(posterior: MixPosterior) -> Figure:
    """Correlation over the draws between the contributions of channels, and of each with the base."""
    C = min(len(posterior.channels), _MOST_NAMES)
    draws = np.column_stack([posterior.flat("contribution")[:, :C], posterior.flat("baseline_share")])
    spread = draws.std(axis=0) > 0
    matrix = np.full((C + 1, C + 1), np.nan)
    if spread.sum() > 1:
        matrix[np.ix_(spread, spread)] = np.corrcoef(draws[:, spread], rowvar=False)
    names = [*short_names(posterior.channels[:C], 16), "base"]
    from matplotlib.colors import LinearSegmentedColormap

    colours = LinearSegmentedColormap.from_list("trade", [ALARM, "#ffffff", PALETTE[0]])
    size = C + 1
    with house_grid(WIDE, 1.3 + 0.34 * size) as (figure, grid):
        axes = grid[0, 0]
        lower = np.where(np.tri(size, k=-1, dtype=bool), matrix, np.nan)[1:, :-1]
        shown = np.ma.masked_invalid(lower)
        image = axes.imshow(
            np.ma.masked_where(np.triu(np.ones_like(lower), 1) > 0, shown), cmap=colours, vmin=-1, vmax=1
        )
        axes.set_aspect("auto")
        for i in range(size - 1):
            for j in range(i + 1):
                if np.isfinite(lower[i, j]):
                    code = colours((lower[i, j] + 1) / 2)
                    ink = ink_on("#" + "".join(f"{round(255 * v):02x}" for v in code[:3]))
                    axes.text(
                        j, i, f"{round(lower[i, j], 2) + 0.0:.2f}", ha="center", va="center", fontsize=8.5, color=ink
                    )
        for i in range(size - 1):  # white out what would only mirror the rest
            for j in range(i + 1, size - 1):
                axes.add_patch(_blank(j, i))
        axes.set_xticks(
            range(size - 1), names[:-1], rotation=30 if size > 7 else 0, ha="right" if size > 7 else "center"
        )
        axes.set_yticks(range(size - 1), names[1:], color=INK)
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        axes.set_title("Who trades with whom: correlation over the draws")
        bar = figure.colorbar(image, ax=axes, shrink=0.9, pad=0.02)
        bar.set_ticks([-1, 0, 1])
        bar.outline.set_visible(False)
        bar.set_label("correlation")
        lowest = float(np.nanmin(lower)) if np.isfinite(lower).any() else float("nan")
        return picture(
            figure,
            "contribution_trades",
            f"Correlations of the channels' contributions over the draws; the lowest is {lowest:.2f}.",
            "Near -1: what one gains in a draw the other loses, so the data know their sum and not the two. The last "
            "row is the share of the base: what would have come without marketing.",
        )


def _blank(column: int, row: int) -> object:
    from matplotlib.patches import Rectangle

    return Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor="white", edgecolor="white", lw=1)


def forest_figure(frame: pd.DataFrame, kpi: str, unit: str) -> Figure:
    """Contributions by method with 90 % intervals, one band per channel.

    Args:
        frame: of `decisions.frequentist.LeastSquares.contributions`.
        kpi, unit: of the KPI.
    """
    methods = list(dict.fromkeys(frame["method"]))
    channels = list(dict.fromkeys(frame["channel"]))
    markers = ("o", "s", "D", "^", "v")
    colours = (INK, PALETTE[0], PALETTE[4], PALETTE[5], PALETTE[1])
    with house_grid(WIDE, 1.3 + len(channels) * (0.2 + 0.155 * len(methods))) as (figure, grid):
        axes = grid[0, 0]
        height = len(methods) + 1.3
        ends = frame[["low_90", "high_90", "contribution"]].to_numpy(float)
        low, high = np.nanmin(ends), np.nanmax(ends)
        for number, channel in enumerate(channels):
            if number % 2 == 0:
                axes.axhspan(number * height - 1.15, (number + 1) * height - 1.15, color="#f5f7f9", lw=0, zorder=0)
            for place, method in enumerate(methods):
                rows = frame[(frame["channel"] == channel) & (frame["method"] == method)]
                if rows.empty or not np.isfinite(rows["contribution"].iloc[0]):
                    continue
                row, y = rows.iloc[0], number * height + place
                axes.plot([row["low_90"], row["high_90"]], [y, y], color=colours[place], lw=1.8, solid_capstyle="butt")
                axes.plot(row["contribution"], y, markers[place], color=colours[place], ms=5)
        axes.axvline(0, color=MUTED, lw=0.8)
        room = 0.03 * (high - low or 1.0)
        axes.set_xlim(min(low - room, 0 - room), high + room)
        axes.set_ylim(len(channels) * height - 1.15, -1.15)
        middle = [number * height + (len(methods) - 1) / 2 for number in range(len(channels))]
        axes.set_yticks(middle, short_names(channels, 24), color=INK)
        axes.grid(axis="y", visible=False)
        axes.grid(axis="x", visible=True, color=RULE)
        axes.spines["left"].set_visible(False)
        axis_numbers(axes.xaxis)
        axes.set_xlabel(f"contribution to {kpi} on training periods, {unit}" if unit else f"contribution to {kpi}")
        from matplotlib.lines import Line2D

        handles = [
            Line2D([], [], color=colours[i], marker=markers[i], lw=1.8, ms=5, label=method)
            for i, method in enumerate(methods)
        ]
        figure.legend(handles=handles, loc="outside upper left", ncols=min(len(methods), 5), fontsize=9)
        first = frame[frame["method"] == methods[0]]
        said = ", ".join(f"{r.channel} {r.contribution:.3g}" for r in first.itertuples())
        return picture(
            figure,
            "least_squares",
            f"Contributions by method with 90 % intervals for {len(channels)} channels; {methods[0]}: {said}.",
            "Lines are 90 % intervals. Raw media: without carry-over and saturation. Fitted curves: with those of the "
            "Bayesian model, so that only prior, pooling and uncertainty of the curves make the difference.",
        )
