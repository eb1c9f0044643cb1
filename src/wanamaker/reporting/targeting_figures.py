"""Figures of targeting: what each policy brings, and what more budget brings."""

from __future__ import annotations

import numpy as np

from wanamaker.decisions.targeting import TargetingPlan
from wanamaker.decisions.targeting_curve import MODEL as BY_MODEL
from wanamaker.decisions.targeting_curve import RANDOM, SINGLE_RANKED, CostCurve
from wanamaker.decisions.targeting_curve import SINGLE as AT_RANDOM
from wanamaker.decisions.uplift_verdict import MODEL, NOBODY, Verdict
from wanamaker.reporting.mix_style import axis_numbers, house_grid, percent, short_number, shortened
from wanamaker.reporting.page import WIDE, Figure, picture, typeset
from wanamaker.reporting.style import ACCENT, INK, MUTED, PALETTE

_GREY = "#8594a4"
_LINES = {  # colour, dashes
    BY_MODEL: (ACCENT, "-"),
    SINGLE_RANKED: (PALETTE[2], (0, (6, 2))),
    AT_RANDOM: (PALETTE[1], (0, (3, 2))),
    RANDOM: (_GREY, (0, (1, 2))),
}


def offer_colour(a: int) -> str:
    """Colour of offer number a (from 0), the same in every figure; the model's own blue is kept for the model."""
    others = PALETTE[1:]
    return others[a % len(others)]


def policy_figure(verdict: Verdict, unit: str) -> Figure:
    """Net value of every policy, and how much more than the best single offer, with intervals."""
    policies = [p for p in verdict.policies if p.kind != NOBODY]
    place = np.arange(len(policies))[::-1].astype(float)
    names = [
        typeset(p.name.replace(p.offer, shortened(p.offer, 24)) if p.offer else p.name)
        + f"\n{percent(p.share, 0)} get an offer{', best single offer' if p.best else ''}"
        for p in policies
    ]
    level = percent(verdict.level, 0)
    with house_grid(WIDE, 1.5 + 0.62 * len(policies), 1, 2, sharey=True) as (figure, axes):
        parts = (("value", "Net value"), ("beyond", "More than the best single offer"))
        for axis, (what, title) in zip(axes[0], parts, strict=True):
            for y, p in zip(place, policies, strict=True):
                estimate = getattr(p, what)
                colour = ACCENT if p.kind == MODEL else PALETTE[1] if p.best else _GREY
                low, high = verdict.bounds(estimate)
                axis.hlines(y, low, high, color=colour, lw=2.4)
                axis.plot(estimate.value, y, "o", color=colour, mec="white", mew=1, ms=9, zorder=5)
                if what == "value" or p.beyond.standard_error > 0:
                    axis.annotate(
                        short_number(estimate.value),
                        (estimate.value, y),
                        (0, 8),
                        textcoords="offset points",
                        ha="center",
                        fontsize=8.5,
                        color=INK,
                        bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6},
                    )
            axis.axvline(0, color=INK, lw=1)
            axis.set_title(title)
            axis.set_xlabel(f"{unit} per 1,000 customers")
            axis.grid(axis="y", visible=False)
            axis.grid(axis="x", visible=True)
            axis_numbers(axis.xaxis)
            axis.margins(x=0.08)
            axis.set_ylim(-0.6, len(policies) - 0.4)
        axes[0, 0].set_yticks(place, names, color=INK, fontsize=9)
        alt = f"Net value per 1,000 customers in {unit}: " + "; ".join(
            f"{p.name} {short_number(p.value.value)}" for p in policies
        )
        caption = (
            f"Points: doubly robust estimates on {verdict.rows:,} customers with known outcomes; lines: {level} "
            "intervals. Right: the same customers under two policies, so a line beyond 0 is a real difference."
        )
        return picture(figure, "targeting_policies", alt, caption)


def cost_figure(curve: CostCurve, plan: TargetingPlan) -> Figure:
    """Net value against spend for four ways to spend it."""
    unit, options = plan.unit, plan.policy.options
    best = shortened(plan.arms[plan.policy.best], 20)
    words = {
        BY_MODEL: "the model's choice",
        SINGLE_RANKED: f"{best}, best customers first",
        AT_RANDOM: f"{best}, customers at random",
        RANDOM: "any offer at random",
    }
    with house_grid(WIDE, 4.4) as (figure, axes):
        axis = axes[0, 0]
        for name, line in reversed(curve.lines.items()):
            colour, dashes = _LINES[name]
            if name == BY_MODEL:
                axis.fill_between(curve.spend, line.low, line.high, color=colour, alpha=0.15, lw=0)
            axis.plot(
                curve.spend,
                line.value,
                color=colour,
                ls=dashes,
                label=words[name],
                lw=3 if name == BY_MODEL else 1.8,
                zorder=3 if name == BY_MODEL else 4,
            )
            last = np.flatnonzero(np.isfinite(line.value))[-1]
            axis.plot(curve.spend[last], line.value[last], "o", color=colour, ms=6, mec="white", zorder=6)
        axis.axhline(0, color=INK, lw=1)
        if options.budget is not None and not curve.contacts:
            planned = 1000 * options.budget / len(plan.customers)
            if planned <= curve.spend[-1]:
                axis.axvline(planned, color=MUTED, lw=1, ls=(0, (2, 2)))
                left = planned > 0.75 * curve.spend[-1]
                axis.annotate(
                    "budget",
                    (planned, 1),
                    (-4 if left else 4, -3),
                    xycoords=("data", "axes fraction"),
                    textcoords="offset points",
                    ha="right" if left else "left",
                    va="top",
                    fontsize=9,
                    color=MUTED,
                )
        axis.set_xlim(0, curve.spend[-1] * 1.02)
        axis.set_xlabel(
            "customers who get an offer, per 1,000" if curve.contacts else f"spend ({unit} per 1,000 customers)"
        )
        axis.set_ylabel(f"net value ({unit} per 1,000 customers)")
        axis.set_title("Net value against spend" if not curve.contacts else "Net value against customers contacted")
        axis_numbers(axis.xaxis)
        axis_numbers(axis.yaxis)
        handles, labels = axis.get_legend_handles_labels()
        figure.legend(handles[::-1], labels[::-1], loc="outside lower center", ncols=4, fontsize=9)
        model = curve.lines[BY_MODEL]
        top = int(np.nanargmax(model.value))
        alt = (
            f"Net value of the model's choice rises to {short_number(model.value[top])} {unit} per 1,000 customers at "
            f"a spend of {short_number(curve.spend[top])}."
        )
        caption = (
            f"Blue: the model's choice with its {percent(curve.level, 0)} band (bootstrap of customers). Net value is "
            "after the spend. Each line ends where that way has nothing left to spend on. Judged on customers whose "
            "outcomes the model did not learn from."
        )
        return picture(figure, "targeting_cost_curve", alt, caption)
