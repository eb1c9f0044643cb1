"""Figures of the customers: survival by segment, how scores are spread, what moves them.

Axis letters: N customers, D edges of a hazard, R reasons.
"""

from __future__ import annotations

import numpy as np

from wanamaker.decisions.propensity import PropensityPlan
from wanamaker.decisions.propensity_options import PROBABILITIES
from wanamaker.decisions.propensity_reasons import reason_frame
from wanamaker.decisions.propensity_survival import SegmentSurvival
from wanamaker.reporting.mix_style import axis_numbers, house_grid, percent, short_names, short_number, shortened
from wanamaker.reporting.page import WIDE, Figure, picture
from wanamaker.reporting.propensity_figures import judged_words
from wanamaker.reporting.style import ACCENT, INK, PALETTE

_BANDS = 100
_REASONS = 12


def survival_figure(plan: PropensityPlan, t: int, segments: tuple[SegmentSurvival, ...]) -> Figure:
    """Share of each segment for whom it has not happened: Kaplan-Meier against predicted."""
    p = plan.predictions
    name, unit, edges = p.tasks[t], p.units[t], np.asarray(p.edges[t])
    shades = _RISK if plan.question.options.segment_by is None else PALETTE
    labels = short_names([s.name for s in segments], 24)
    with house_grid(WIDE, 4.4) as (figure, axes):
        axis = axes[0, 0]
        for label, s, colour in zip(labels, segments, shades, strict=False):
            axis.fill_between(s.time, 100 * s.low, 100 * s.high, step="post", color=colour, alpha=0.13, lw=0)
            axis.step(s.time, 100 * s.observed, where="post", color=colour, lw=1.8, label=f"{label} ({s.rows:,})")
            axis.plot(
                np.append(0, edges),
                100 * np.append(1, s.predicted),
                color=colour,
                lw=1.4,
                ls=(0, (3, 2)),
                marker="D",
                ms=5.5,
                mec="white",
            )
        axis.plot([], [], color=INK, lw=1.8, label="observed (Kaplan-Meier)")
        axis.plot([], [], color=INK, lw=1.4, ls=(0, (3, 2)), marker="D", ms=5.5, mec="white", label="predicted")
        axis.set_xlim(0, edges[-1] * 1.01)
        lowest = min(min(s.low.min(), s.predicted.min()) for s in segments)
        axis.set_ylim(100 * max(0.0, lowest - 0.08) if lowest > 0.6 else 0, 101)
        axis.set_xlabel(f"time ({unit})" if unit else "time")
        axis.set_ylabel("not happened yet (%)")
        what = plan.question.options.segment_by or "fifths of predicted risk"
        axis.set_title(f"{shortened(name, 24)}: survival by {shortened(what, 30)}")
        axis.set_xticks(*_ticks(edges))
        figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=9)
        alt = f"{name}: by {edges[-1]:g} {unit} it has not happened to, observed and predicted, " + "; ".join(
            f"{s.name}: {percent(s.observed[-1], 0)} and {percent(s.predicted[-1], 0)}" for s in segments
        )
        caption = (
            "Steps: what was observed (Kaplan-Meier), with censored customers counted while they were watched. "
            "Diamonds: mean of the predicted curves of the same customers."
            f" Shaded: {percent(plan.question.options.level, 0)} intervals. "
            f"Judged on {judged_words(plan.judging)}."
        )
        return picture(figure, f"propensity_survival_{t + 1}", f"{alt}.", caption, choice=name)


_RISK = ("#004c78", "#0072b2", "#56b4e9", "#e69f00", "#d55e00")  # low risk to high, dark blue to red


def _ticks(edges: np.ndarray) -> tuple[list[float], list[str]]:
    """0 and the edges, those that would stand on one another left out."""
    kept = [0.0]
    for edge in edges:
        if edge - kept[-1] >= 0.05 * edges[-1]:
            kept.append(float(edge))
    return kept, [f"{tick:g}" for tick in kept]


def spread_figure(plan: PropensityPlan, t: int) -> Figure:
    """Scores of all customers from the highest to the lowest, with how well each is known."""
    p, name = plan.customers, plan.customers.tasks[t]
    chance = p.kinds[t] in PROBABILITIES
    order = np.argsort(-p.score[:, t], kind="stable")
    scale = 100.0 if chance else 1.0
    pieces = np.array_split(order, min(_BANDS, len(order)))
    middle = 100 * (np.cumsum([len(piece) for piece in pieces]) - [len(piece) / 2 for piece in pieces]) / len(order)
    score, low, high = (
        scale * np.array([float(values[piece, t].mean()) for piece in pieces]) for values in (p.score, p.low, p.high)
    )
    limit = plan.thresholds[t]
    unit = "%" if chance else p.units[t]
    with house_grid(WIDE, 3.6, 1, 2) as (figure, axes):
        left, right = axes[0]
        left.fill_between(middle, low, high, color=ACCENT, alpha=0.18, lw=0, label=f"{percent(p.level, 0)} interval")
        left.plot(middle, score, color=ACCENT, label="score", marker="o" if len(pieces) < 3 else "")
        if limit is not None and np.isfinite(limit.value):
            left.axhline(scale * limit.value, color=INK, lw=1.2, ls=(0, (3, 2)), label="threshold")
        left.set_xlim(0, 100)
        left.set_ylim(bottom=min(0.0, float(low.min())))
        left.set_xlabel("customers, highest score first (%)")
        left.set_ylabel(f"{shortened(name, 24)} ({unit})" if unit else shortened(name, 24))
        left.set_title(f"{shortened(name, 24)}: scores and how sure they are")
        left.legend(loc="upper right", fontsize=9)
        axis_numbers(left.yaxis)
        values = scale * p.score[:, t].astype(np.float64)
        top = float(np.quantile(values, 0.995)) if not chance else float(values.max())
        bottom = min(0.0, float(values.min()))
        edges = np.linspace(bottom, top if top > bottom else bottom + 1.0, 41)
        counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
        right.stairs(counts, edges, fill=True, color=ACCENT, alpha=0.5)
        right.axvline(values.mean(), color=INK, lw=1.2, ls=(0, (1, 2)))
        left_half = values.mean() > (edges[0] + edges[-1]) / 2
        right.annotate(
            f"mean {short_number(values.mean())}{unit and (chr(0xA0) + unit)}",
            (values.mean(), 0.98),
            (-5 if left_half else 5, 0),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            ha="right" if left_half else "left",
            va="top",
            fontsize=9,
            color=INK,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8, "alpha": 0.85},
        )
        right.set_xlabel(f"score ({unit})" if unit else "score")
        right.set_ylabel("customers")
        right.set_title(f"{shortened(name, 24)}: how many have which score")
        right.set_ylim(0, 1.08 * max(counts.max(), 1))
        axis_numbers(right.xaxis)
        axis_numbers(right.yaxis)
        right.yaxis.get_major_locator().set_params(integer=True)  # there is no half customer
        alt = f"{name}: scores from {short_number(score[0])} to {short_number(score[-1])} {unit}, mean "
        alt += f"{short_number(values.mean())} {unit}."
        caption = "The interval says how well the score is known, not how much outcomes vary."
        if not chance:
            caption += " The highest 0.5 % are drawn at the edge on the right."
        return picture(figure, f"propensity_scores_{t + 1}", alt, caption, choice=name)


def reason_figure(plan: PropensityPlan, t: int) -> Figure:
    """Which features move scores most, on average over customers."""
    frame = reason_frame(plan.customers)
    name, kind = plan.customers.tasks[t], plan.customers.kinds[t]
    rows = frame[frame["task"] == name].head(_REASONS)[::-1]
    labels = short_names(rows["feature"].tolist(), 30)
    what = {"value": "log of the amount", "regression": plan.customers.units[t] or "its unit"}.get(kind, "log odds")
    with house_grid(WIDE, 1.2 + 0.3 * max(len(rows), 2), 1, 2, sharey=True) as (figure, axes):
        left, right = axes[0]
        place = np.arange(len(rows))
        left.barh(place, rows["mean_push"], color=ACCENT, height=0.66)
        right.barh(place, -100 * rows["lowers"], color=PALETTE[4], height=0.66, label="lowers the score")
        right.barh(place, 100 * rows["raises"], color=PALETTE[5], height=0.66, label="raises it")
        right.axvline(0, color=INK, lw=1)
        left.set_yticks(place, labels, color=INK)
        left.set_xlabel(f"mean push ({what})")
        left.set_title(f"{shortened(name, 24)}: what moves the score")
        right.set_xlabel("customers (%)")
        right.set_title("... and which way")
        right.xaxis.set_major_formatter(lambda value, _: f"{abs(value):.0f}")
        axis_numbers(left.xaxis)
        for axis in (left, right):
            axis.grid(axis="x")
            axis.grid(visible=False, axis="y")
            axis.set_ylim(-0.6, len(rows) - 0.4)
        figure.legend(*right.get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=9)
        alt = f"{name}: mean push by feature: " + ", ".join(
            f"{f} {short_number(v)}" for f, v in zip(rows["feature"][::-1], rows["mean_push"][::-1], strict=True)
        )
        caption = (
            f"Only the {plan.customers.reason.shape[-1]} strongest reasons of each customer are known, others count as "
            "0. A reason says what the model looks at, not what would change the customer's mind."
        )
        return picture(figure, f"propensity_reasons_{t + 1}", f"{alt}.", caption, choice=name)
