"""The decision `budget`: the plan as tables, figures and one page."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wanamaker.decisions.budget import BudgetPlan, optimise_budget
from wanamaker.decisions.budget_options import BudgetOptions
from wanamaker.decisions.budget_tables import (
    cell_table,
    channel_table,
    comparison_table,
    constraint_table,
    gain_steps,
    move_table,
    robust_gain,
)
from wanamaker.decisions.intervals import ratio
from wanamaker.errors import UserError
from wanamaker.predictions import MixPredictions
from wanamaker.reporting.budget_figures import channel_figure, curve_figure, gain_figure, timing_figure
from wanamaker.reporting.budget_words import OBJECTIVE_WORDS, headline, lead, money, tiles, warnings
from wanamaker.reporting.export import check_formats
from wanamaker.reporting.mix_style import short_number
from wanamaker.reporting.outputs import write_outputs
from wanamaker.reporting.page import Figure, Section, Table, figures_of, number, render_page

if TYPE_CHECKING:
    import pandas as pd


class BudgetDecision:
    """The decision `budget`: reads `MixPredictions`, writes the best plan, what it brings, and the proof.

    In the output folder: `tables/plan_channels`, `plan_cells` (series x channel x period), `plan_comparison` (with the
    naive plans), `plan_limits` (with shadow prices) and `plan_moves` in each format; `figures/*.png`; `report.html`.

    Args:
        total, ...: the question; see `wanamaker.decisions.budget_options.BudgetOptions`.
        formats: of the table files: `parquet`, `csv`.
        report: write `report.html`.

    Raises:
        UserError: an option out of range, or two that contradict.
    """

    reads = MixPredictions.kind

    def __init__(
        self,
        total: float | None = None,
        target_roi: float | None = None,
        target_mroi: float | None = None,
        periods: int | None = None,
        start: Any = None,
        end: Any = None,
        cost: str = "average",
        resolution: Sequence[str] = ("channel",),
        objective: str = "mean",
        worst: float = 0.1,
        risk: float = 1.0,
        beat: float | None = None,
        spread: float | None = 3.0,
        bounds: Mapping[str, Any] | None = None,
        cell_bounds: Mapping[str, Any] | None = None,
        history_limit: float | None = None,
        hold: Sequence[str] = (),
        groups: Sequence[Mapping[str, Any]] = (),
        change: Mapping[str, Any] | None = None,
        change_of: str = "channel",
        linear: Sequence[Mapping[str, Any]] = (),
        starts: int = 8,
        seed: int = 0,
        max_draws: int = 200,
        tolerance: float = 1e-5,
        robust: float = 0.8,
        formats: Iterable[str] = ("parquet", "csv"),
        report: bool = True,
    ) -> None:
        given = locals()
        self.options = BudgetOptions(**{f.name: given[f.name] for f in fields(BudgetOptions)})
        self.formats, self.report = check_formats(formats), report

    def write(
        self,
        predictions: MixPredictions,
        samples: Any,
        output_dir: Path,
        metrics: Mapping[str, float],
        run: Mapping[str, Any],
    ) -> list[Path]:
        """Find the plan and write everything.

        Args:
            predictions: of a mix model.
            samples: not used; a panel has none.
            output_dir: folder of the run.
            metrics: not used.
            run: `run_id`, and whatever else should stand in the report.

        Returns:
            The files written.

        Raises:
            UserError: predictions of another kind, a question without an answer, or a folder that cannot be written.
        """
        if not isinstance(predictions, MixPredictions):
            raise UserError(
                f"decision=budget reads the predictions of a mix model, not {type(predictions).__name__}. "
                "Choose a checkpoint of a mix model, or another decision."
            )
        plan = optimise_budget(predictions, self.options)
        tables = {
            "plan_channels": channel_table(plan),
            "plan_cells": cell_table(plan),
            "plan_comparison": comparison_table(plan),
            "plan_limits": constraint_table(plan),
            "plan_moves": move_table(plan),
        }
        robust = robust_gain(plan, tables["plan_moves"])
        sections = _sections(plan, tables)
        text = lead(plan, robust)
        print("\n".join([headline(plan, tables["plan_moves"]), *text, *warnings(plan)]), flush=True)
        page = None
        if self.report:
            page = render_page(
                f"Budget plan, run {run.get('run_id', '')}",
                headline(plan, tables["plan_moves"]),
                sections,
                run,
                self.options.to_dict() | {"formats": list(self.formats)},
                eyebrow="Budget plan",
                lead=text,
                tiles=tiles(plan),
                warnings=warnings(plan),
            )
        run_id = str(run["run_id"]) if "run_id" in run else None
        return write_outputs(output_dir, tables, figures_of(sections), page, self.formats, run_id)


def _sections(plan: BudgetPlan, tables: Mapping[str, pd.DataFrame]) -> list[Section]:
    channels, comparison = tables["plan_channels"], tables["plan_comparison"]
    pictures: list[Figure] = [channel_figure(plan, channels)]
    sections = [
        Section("The plan", _plan_text(plan), pictures, [_channel_rows(plan, channels), *_series_rows(plan)]),
        Section("Moves", _move_text(plan), (), [_move_rows(plan, tables["plan_moves"])]),
        Section(
            "How sure",
            f"The goal was {_goal(plan)}. Every plan below costs the same (but the current one, which is as it was).",
            [gain_figure(plan, comparison)],
            [_comparison_rows(plan, comparison)],
        ),
        Section(
            "Response curves",
            "Where a curve is steep more money helps, where it is flat it is wasted. At the best plan, the curves of "
            "all channels that no limit holds are equally steep.",
            [curve_figure(plan, channels)],
        ),
    ]
    if plan.window.num_periods > 1:
        fixed = (
            ""
            if "period" in plan.options.resolution
            else (" The plan keeps the current pattern over time: decision.resolution=[channel,period] frees it.")
        )
        sections.append(Section("Over time", f"All series together.{fixed}", [timing_figure(plan)]))
    sections.append(Section("Limits and their prices", _LIMIT_TEXT, (), [_limit_rows(plan, tables["plan_limits"])]))
    return sections


_LIMIT_TEXT = (
    "The shadow price is what one more unit of a limit would add, everything else unchanged: negative for a minimum "
    "that costs something, zero for a limit that does not matter. A limit with several parts shows the steepest."
)


def _goal(plan: BudgetPlan) -> str:
    o = plan.options
    beat = "the current plan scaled to the total" if o.beat is None else money(o.beat, plan)
    return OBJECTIVE_WORDS[o.objective].format(worst=o.worst, risk=o.risk, beat=beat)


def _plan_text(plan: BudgetPlan) -> str:
    steps = gain_steps(plan)
    text = "Value counts the window and the carry-over after it; carry-over from before is the same for every plan."
    if len(steps) > 1 and not plan.already_optimal:
        parts = ", ".join(f"{money(gain, plan)} from shifting money {name}" for name, gain in steps)
        text += f" Of what the plan brings beyond the scaled current plan, {parts}."
    return text


def _move_text(plan: BudgetPlan) -> str:
    if plan.response.num_draws == 1:
        return (
            "Each move judged on its own, from the current plan scaled to the total. One draw gives no probabilities."
        )
    return (
        "Each move judged on its own, from the current plan scaled to the total. A move is robust if the model's draws "
        f"say that it helps with a probability of at least {plan.options.robust:.2f}."
    )


def _spell(frame: pd.DataFrame, name: str, short: Callable[[float], str] = short_number) -> list[str]:
    """90 % intervals as "a to b", one per row."""
    bounds = zip(frame[f"{name}_low_90"], frame[f"{name}_high_90"], strict=True)
    return [f"{short(low)} to {short(high)}" if np.isfinite([low, high]).all() else "–" for low, high in bounds]


def _channel_rows(plan: BudgetPlan, channels: pd.DataFrame) -> Table:
    import pandas as pd

    unit = plan.response.money_unit
    rows = channels[channels["role"] != "organic"]
    frame = pd.DataFrame(
        {
            "Channel": rows["channel"],
            "Now": rows["current_spend"],
            "Plan": rows["planned_spend"],
            "Change": rows["change_share"],
            "Brings now": rows["current_value"],
            "Brings then": rows["planned_value"],
            "ROI now": rows["current_roi"],
            "ROI then": rows["planned_roi"],
            "90 % interval": _spell(rows, "planned_roi", number),
            "Marginal ROI": rows["planned_marginal_roi"],
            "Against history": rows["highest_against_history"],
        }
    )
    return Table(
        "Per channel",
        frame,
        f"ROI in {unit} per {unit}. Marginal ROI: what one more unit of money brings in the plan. Against history: the "
        "highest planned money of a series and period, relative to the highest ever spent there in one period; above 1 "
        "the model extrapolates.",
        dict.fromkeys(("Now", "Plan", "Brings now", "Brings then"), ",.0f")
        | dict.fromkeys(("ROI now", "ROI then", "Marginal ROI", "Against history"), ".2f")
        | {"Change": "+.1%"},
        dict.fromkeys(("Now", "Plan", "Brings now", "Brings then"), unit),
    )


def _series_rows(plan: BudgetPlan) -> list[Table]:
    """The money of each series, where it is planned, in all and per channel."""
    import pandas as pd

    response, unit = plan.response, plan.response.money_unit
    if "series" not in plan.options.resolution or len(response.series) == 1:
        return []
    now, then = plan.window.spend.sum(axis=1), plan.best.plan.sum(axis=1)  # [G, C]
    busiest = [c for c in np.argsort(-then.sum(axis=0), kind="stable") if response.paid[c]][:8]
    columns = {"Now": now.sum(axis=1), "Plan": then.sum(axis=1)}
    columns["Change"] = ratio(columns["Plan"] - columns["Now"], columns["Now"])
    columns |= {response.channels[c]: then[:, c] for c in busiest}
    frame = pd.DataFrame({"Series": np.array(response.series, object), **columns})
    amounts = [name for name in frame.columns if name not in ("Series", "Change")]
    more = int(response.paid.sum()) - len(busiest)
    note = (
        f"Planned money per channel; {more} more channels are in plan_cells." if more else "Planned money per channel."
    )
    formats = dict.fromkeys(amounts, ",.0f") | {"Change": "+.1%"}
    return [Table("Per series", frame, note, formats, dict.fromkeys(amounts, unit))]


def _move_rows(plan: BudgetPlan, moves: pd.DataFrame) -> Table:
    import pandas as pd

    unit = plan.response.money_unit
    frame = pd.DataFrame(
        {
            "From": moves["from"],
            "To": moves["to"],
            "Money": moves["money"],
            "Brings": moves["brings"],
            "90 % interval": _spell(moves, "brings"),
            "Helps with probability": moves["helps"] if plan.response.num_draws > 1 else np.nan,
            "Robust": moves["robust"].astype(bool),
        }
    )
    note = "" if len(frame) else "No channel's money changes by more than 0.1 % of the total."
    return Table(
        "Moves between channels",
        frame,
        note,
        {"Money": ",.0f", "Brings": ",.0f", "Helps with probability": ".2f"},
        {"Money": unit, "Brings": unit, "90 % interval": unit},
    )


def _comparison_rows(plan: BudgetPlan, comparison: pd.DataFrame) -> Table:
    import pandas as pd

    unit = plan.response.money_unit
    frame = pd.DataFrame(
        {
            "Plan": comparison["plan"],
            "Money": comparison["spend"],
            "Brings": comparison["value"],
            "90 % interval": _spell(comparison, "value"),
            "ROI": comparison["roi"],
            "Optimised brings more": comparison["optimised_brings_more"],
            "90 % interval of that": _spell(comparison, "optimised_brings_more"),
            "Optimised is better": comparison["optimised_better"] if plan.response.num_draws > 1 else np.nan,
            "Made to keep the limits": comparison["adjusted_to_limits"].astype(bool),
        }
    )
    return Table(
        "Against plans that need no optimiser",
        frame,
        "",
        {
            "Money": ",.0f",
            "Brings": ",.0f",
            "ROI": ".2f",
            "Optimised brings more": ",.0f",
            "Optimised is better": ".2f",
        },
        {"Money": unit, "Brings": unit, "Optimised brings more": unit, "Optimised is better": "probability"},
    )


def _limit_rows(plan: BudgetPlan, limits: pd.DataFrame) -> Table:
    import pandas as pd

    limits = _ends_together(limits)
    frame = pd.DataFrame(
        {
            "Limit": limits["limit"],
            "Unit": limits["unit"],
            "Lowest": limits["lowest"],
            "Plan": limits["value"],
            "Highest": limits["highest"],
            "Parts": limits["parts"],
            "Binding": limits["binding_parts"],
            "Shadow price": limits["shadow_price"],
            "In": limits["price_unit"],
        }
    )
    return Table("Limits", frame, "", {"Lowest": ",.0f", "Plan": ",.0f", "Highest": ",.0f", "Shadow price": ".4g"})


def _ends_together(limits: pd.DataFrame) -> pd.DataFrame:
    """A lower and an upper limit of one name as one row; of two that bind, each is held by one price: the steeper."""
    import pandas as pd

    rows = []
    for _, same in limits.groupby("limit", sort=False):
        row = same.iloc[int(same["shadow_price"].abs().argmax())].copy()
        row["lowest"], row["highest"] = same["lowest"].max(), same["highest"].min()
        row["binding_parts"] = same["binding_parts"].sum()
        rows.append(row)
    return pd.DataFrame(rows) if rows else limits
