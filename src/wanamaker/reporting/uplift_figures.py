"""Figures of uplift: gain and Qini curves, effects by decile, calibration, and how effects are spread.

All but the last look only at rows with known outcomes that the model did not learn from.

Axis letters: N rows, K arms (number 0 is the control), A = K - 1 offers.
"""

from __future__ import annotations

from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from wanamaker.decisions.targeting import TargetingPlan
from wanamaker.metrics.uplift_calibration import CalibrationTable, calibration_table
from wanamaker.metrics.uplift_curves import UpliftCurve, perfect_curve, perfect_gain, uplift_curve
from wanamaker.reporting.mix_style import axis_numbers, house_grid, percent, short_number, shortened
from wanamaker.reporting.page import WIDE, Figure, picture
from wanamaker.reporting.style import ACCENT, INK, MUTED
from wanamaker.reporting.targeting_figures import offer_colour

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_POINTS = 300  # of a curve: more would only make the page heavy
_HINDSIGHT = "#8594a4"


def main_unit(plan: TargetingPlan) -> tuple[str, float]:
    """What effects on the main outcome are counted in, and times how much: a rate in points, an amount in its unit."""
    main, p = plan.policy.money.main, plan.customers
    if p.kinds[main] == "binary":
        return "percentage points", 100.0
    return p.units[main] or p.outcomes[main], 1.0


def offer_evidence(plan: TargetingPlan, a: int) -> tuple[np.ndarray, np.ndarray]:
    """Predicted effects [N] and effect scores [N] of an offer on the main outcome, good is positive."""
    judged, main = plan.judged, plan.policy.money.main
    assert judged is not None
    good = float(np.sign(plan.policy.money.value[main]))
    predicted = good * judged.predictions.effect[:, a, main].astype(np.float64)
    return predicted, good * (judged.main[:, a + 1] - judged.main[:, 0])


def gain_figure(plan: TargetingPlan, a: int) -> Figure:
    """Gain and Qini curve of one offer against the control, with random and hindsight."""
    judged, main, offer = plan.judged, plan.policy.money.main, plan.arms[a + 1]
    assert judged is not None
    p = judged.predictions
    good = float(np.sign(plan.policy.money.value[main]))
    two = (p.treatment == 0) | (p.treatment == a + 1)
    treated, outcome = (p.treatment[two] == a + 1).astype(np.int64), good * p.outcome[two, main]
    curve = uplift_curve(good * p.effect[two, a, main].astype(np.float64), treated, outcome, p.weight[two])
    hindsight = perfect_curve(treated, outcome, p.weight[two]) if outcome.min() >= 0 else None
    name = p.outcomes[main]
    unit = f"{name}, {p.units[main]}" if p.units[main] else name
    with house_grid(WIDE, 3.9, 1, 2) as (figure, axes):
        for axis, what in zip(axes[0], ("gain", "qini"), strict=True):
            best = None
            if hindsight is not None:
                binary_gain = what == "gain" and p.kinds[main] == "binary"
                best = perfect_gain(curve) if binary_gain else (hindsight.taken, getattr(hindsight, what)())
            _curve_axis(axis, curve, getattr(curve, what)(), best, what == "qini")
        axes[0, 0].set_title(f"Gain curve: {shortened(offer, 24)}")
        axes[0, 1].set_title(f"Qini curve: {shortened(offer, 24)}")
        axes[0, 0].set_ylabel(f"extra per 1,000 customers ({unit})")
        axes[0, 1].set_ylabel(f"extra per 1,000 treated ({unit})")
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=9)
        end = 1000 * curve.gain()[-1] / curve.taken[-1]
        alt = f"Gain and Qini of {offer}: everybody treated gives {short_number(end)} extra {unit} per 1,000 customers."
        caption = (
            "Customers are taken from the highest predicted effect to the lowest. The more a curve bends above the "
            "random line, the better the ranking. Hindsight orders by what happened, chance included, so no model "
            "comes near; it leaves the picture at the top."
        )
        if not p.randomised:
            caption += " Offers were not drawn at random, so these curves hold what decided about them, too."
        return picture(figure, f"uplift_gain_{a + 1}", alt, caption, choice=offer)


def _curve_axis(
    axis: Axes, curve: UpliftCurve, height: np.ndarray, best: tuple[np.ndarray, np.ndarray] | None, qini: bool
) -> None:
    scale = 1000 / (curve.treated[-1] if qini else curve.taken[-1])
    grid = np.linspace(0, 1, _POINTS + 1)
    shown = scale * np.interp(grid, curve.share, height)
    end = scale * height[-1]
    axis.plot(100 * grid, shown, color=ACCENT, label="the model's ranking")
    axis.plot([0, 100], [0, end], color=INK, lw=1.3, ls=(0, (3, 2)), label="random")
    top, bottom = max(shown.max(), end, 0.0), min(shown.min(), end, 0.0)
    room = (top - bottom) * 0.3 or 1.0
    if best is not None:
        x = np.unique(np.concatenate([grid, best[0] / best[0][-1]]))
        y = scale * np.interp(x, best[0] / best[0][-1], best[1])
        axis.plot(
            100 * x,
            y,
            color=_HINDSIGHT,
            lw=1.4,
            label=f"hindsight, up to {short_number(y.max())}" if not qini else None,
        )
    axis.axhline(0, color=MUTED, lw=0.8)
    axis.set_ylim(bottom - room / 3, top + room)
    axis.set_xlim(0, 100)
    axis.set_xlabel("customers taken (%)")
    axis_numbers(axis.yaxis)


def decile_table(plan: TargetingPlan, a: int, bins: int = 10) -> CalibrationTable:
    """Bins by ascending predicted effect."""
    judged = plan.judged
    assert judged is not None
    return calibration_table(*offer_evidence(plan, a), bins, judged.predictions.weight)


def decile_figures(plan: TargetingPlan, a: int) -> list[Figure]:
    """Observed and predicted effects by decile, and one against the other."""
    table, offer, outcome = decile_table(plan, a), plan.arms[a + 1], plan.customers.outcomes[plan.policy.money.main]
    (unit, scale), level = main_unit(plan), plan.policy.options.level
    half = NormalDist().inv_cdf((1 + level) / 2) * np.nan_to_num(table.standard_error) * scale
    predicted, observed = scale * table.predicted, scale * table.observed
    colour, bins = offer_colour(a), len(predicted)
    with house_grid(WIDE, 3.6, 1, 2) as (figure, axes):
        left, right = axes[0]
        place = np.arange(1, bins + 1)
        left.bar(place, observed[::-1], color=colour, alpha=0.55, width=0.72, label="observed")
        left.errorbar(place, observed[::-1], yerr=half[::-1], fmt="none", ecolor=INK, lw=1.2, capsize=3)
        left.plot(place, predicted[::-1], "D", color=ACCENT, mec="white", ms=7, zorder=5, label="predicted")
        left.axhline(0, color=INK, lw=1)
        left.set_xticks(place)
        left.set_xlabel(
            "tenth of customers, highest prediction first" if bins == 10 else "group, highest prediction first"
        )
        left.set_ylabel(f"effect ({unit})")
        left.set_title(f"{shortened(offer, 20)}: effect on {shortened(outcome, 14)}")
        axis_numbers(left.yaxis)
        right.errorbar(
            predicted, observed, yerr=half, fmt="o", color=colour, ecolor=colour, ms=7, lw=1.4, capsize=3, mec="white"
        )
        ends = [min(predicted.min(), (observed - half).min()), max(predicted.max(), (observed + half).max())]
        span = (predicted.max() - predicted.min()) or (ends[1] - ends[0]) or 1.0
        across = np.array([predicted.min() - 0.1 * span, predicted.max() + 0.1 * span])
        right.plot(across, across, color=INK, lw=1.2, ls=(0, (3, 2)), label="as predicted")
        right.legend(loc="upper left", fontsize=9)
        right.set_xlim(across)
        right.set_xlabel(f"predicted effect ({unit})")
        right.set_ylabel(f"observed effect ({unit})")
        right.set_title(f"{shortened(offer, 20)}: calibration")
        axis_numbers(right.xaxis)
        axis_numbers(right.yaxis)
        handles, labels = left.get_legend_handles_labels()
        left.legend(handles, labels, loc="best", fontsize=9)
        alt = (
            f"{offer}: predicted effects from {short_number(predicted[0])} to {short_number(predicted[-1])} by group, "
            "observed " + ", ".join(short_number(value) for value in observed)
        )
        caption = (
            f"Observed: doubly robust means with {percent(level, 0)} intervals. Left: effects should fall from left to "
            "right. Right: points on the dashed line mean that predicted effects can be taken at their word, in money "
            "too."
        )
        return [picture(figure, f"uplift_deciles_{a + 1}", alt, caption, choice=offer)]


def effect_figure(plan: TargetingPlan) -> Figure:
    """How predicted effects, and net values, are spread over the customers."""
    p, main = plan.customers, plan.policy.money.main
    unit, scale = main_unit(plan)
    panels = (
        (scale * p.effect[:, :, main].astype(np.float64), f"Effect on {shortened(p.outcomes[main], 14)} ({unit})"),
        (plan.offers.net, f"Net value per customer ({plan.unit})"),
    )
    with house_grid(WIDE, 3.4, 1, 2) as (figure, axes):
        for axis, (values, title) in zip(axes[0], panels, strict=True):
            low, high = np.quantile(values, [0.001, 0.999])
            edges = np.linspace(low, high, 61) if high > low else np.linspace(low - 0.5, high + 0.5, 4)
            for a in range(values.shape[1]):
                counts, _ = np.histogram(np.clip(values[:, a], edges[0], edges[-1]), edges)
                share = 100 * counts / len(values)
                axis.stairs(share, edges, color=offer_colour(a), lw=1.8, label=shortened(plan.arms[a + 1]))
                axis.stairs(share, edges, color=offer_colour(a), fill=True, alpha=0.13)
                axis.axvline(values[:, a].mean(), color=offer_colour(a), lw=1.2, ls=(0, (3, 2)))
            axis.axvline(0, color=INK, lw=1)
            axis.set_title(title)
            axis.set_ylim(bottom=0)
            axis_numbers(axis.xaxis)
        axes[0, 0].set_ylabel("customers (%)")
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=min(4, len(labels)), fontsize=9)
        means = "; ".join(
            f"{name} {short_number(value)}"
            for name, value in zip(plan.arms[1:], panels[0][0].mean(axis=0), strict=True)
        )
        caption = "Dashed: the mean of each offer. The outermost thousandths are drawn at the edge."
        return picture(figure, "uplift_effects", f"Mean predicted effects ({unit}): {means}.", caption)


def decile_frame(plan: TargetingPlan) -> pd.DataFrame:
    """Predicted and observed effects by tenth of each offer, highest prediction first; units of the main outcome."""
    import pandas as pd

    frames = []
    for a, offer in enumerate(plan.arms[1:]):
        table = decile_table(plan, a)
        columns = {"offer": offer, "group": np.arange(1, len(table.predicted) + 1)}
        columns |= {
            name: getattr(table, field)[::-1]
            for name, field in (
                ("customers", "weight"),
                ("predicted_effect", "predicted"),
                ("observed_effect", "observed"),
                ("standard_error", "standard_error"),
            )
        }
        frames.append(pd.DataFrame(columns))
    return pd.concat(frames, ignore_index=True)
