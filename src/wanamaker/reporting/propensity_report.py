"""The decision `propensity`: scores per customer, how good they are, whom to contact, figures and one page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wanamaker.decisions.propensity import PropensityPlan, plan_propensity, score_frame
from wanamaker.decisions.propensity_options import PropensityOptions, ask
from wanamaker.decisions.propensity_profit import ProfitCurve, profit_curve, profit_frame
from wanamaker.decisions.propensity_reasons import reason_frame
from wanamaker.decisions.propensity_scores import TaskScores, decile_frame, judge, metric_frame
from wanamaker.decisions.propensity_survival import segment_survival, survival_frame
from wanamaker.decisions.propensity_thresholds import threshold_frame
from wanamaker.errors import UserError
from wanamaker.predictions import PropensityPredictions
from wanamaker.reporting.customer_list import CustomerList, check_predictions
from wanamaker.reporting.page import Figure, Section, figures_of, render_page
from wanamaker.reporting.propensity_customer_figures import reason_figure, spread_figure, survival_figure
from wanamaker.reporting.propensity_doubts import doubts
from wanamaker.reporting.propensity_figures import (
    calibration_figure,
    lift_figure,
    ranking_figure,
    threshold_figure,
)
from wanamaker.reporting.propensity_tables import customer_table, metric_table, threshold_table
from wanamaker.reporting.propensity_value_figures import amount_figure, profit_figure, ranks_amounts, value_figure
from wanamaker.reporting.propensity_words import DEFINITIONS, advice, lead, tiles

if TYPE_CHECKING:
    import pandas as pd


class PropensityDecision:
    """The decision `propensity`: reads `PropensityPredictions`, writes scores, their quality, and whom to contact.

    In the output folder: `tables/scores` (one row per customer, those to contact first at the front),
    `propensity_metrics`, `propensity_deciles`, `propensity_thresholds`, `propensity_survival`, `propensity_reasons` and
    `propensity_profit` in each format, those that there is something to say in; `figures/*.png`; `report.html`. With
    `database`, the scores also go into a table there.

    Args:
        target, ...: the question; see `wanamaker.decisions.propensity_options.PropensityOptions`.
        database: any SQLAlchemy URL; None writes to none. Passwords are never shown.
        table: name of the table there.
        if_exists: where that table is there already: "fail" refuses, "run" replaces the rows of this run, "append"
            adds rows, "replace" drops the table first. All in one transaction, before any file is written.
        formats: of the table files: `parquet`, `csv`.
        report: write `report.html`.

    Raises:
        UserError: an option out of range, a database URL that is wrong, or whose driver is not installed.
    """

    reads = PropensityPredictions.kind

    def __init__(
        self,
        target: str | Sequence[str] = "all",
        evaluate_on: str | Sequence[str] | None = None,
        rank_by: str | None = None,
        threshold: Any = None,
        top: float | None = None,
        value: Any = None,
        cost: float = 0.0,
        money_unit: str | None = None,
        segment_by: str | None = None,
        level: float = 0.9,
        draws: int = 200,
        seed: int = 0,
        database: str | None = None,
        table: str = "scores",
        if_exists: str = "fail",
        formats: Iterable[str] = ("parquet", "csv"),
        report: bool = True,
    ) -> None:
        given = locals()
        self.options = PropensityOptions(**{f.name: given[f.name] for f in fields(PropensityOptions)})
        self.destination = CustomerList("scores", database, table, if_exists, formats)
        self.report = report

    def check(self, predictions: PropensityPredictions) -> None:
        """Read the question against the names of the predictions, before there are any rows.

        Raises:
            UserError: a task, a trait or a rule that the predictions have not.
        """
        ask(predictions, self.options)

    def write(
        self,
        predictions: PropensityPredictions,
        samples: Any,
        output_dir: Path,
        metrics: Mapping[str, float],
        run: Mapping[str, Any],
    ) -> list[Path]:
        """Sort the customers, judge the scores, and write everything.

        Args:
            predictions: of a propensity model.
            samples: not used.
            output_dir: folder of the run.
            metrics: not used.
            run: `run_id`, `allowed` (findings of the data's checks that were let through), and whatever else should
                stand in the report.

        Returns:
            The files written.

        Raises:
            UserError: predictions of another kind, a question that does not fit them, a folder or database that cannot
                be written, or a table that is already there.
        """
        check_predictions(predictions, PropensityPredictions, "propensity")
        run_id = self.destination.run_id(run)
        if not len(predictions):
            raise UserError("There is no customer in these predictions: nothing to score.")
        plan = plan_propensity(predictions, self.options)
        scores, profit = judge(plan), profit_curve(plan)
        tables = _tables(plan, scores, profit)
        headline, text = advice(plan, scores, profit), lead(plan, scores, profit)
        notes = doubts(plan, scores, profit, run.get("allowed", ()))
        print("\n".join([f"{headline}.", *text, *notes]), flush=True)
        first = _first(plan, scores, profit)
        sections = _sections(plan, scores, tables, first)
        page = None
        if self.report:
            page = render_page(
                f"Propensity, run {run.get('run_id', '')}",
                headline,
                sections,
                run,
                self._settings(plan),
                eyebrow=f"Who will, and what are they worth? {', '.join(predictions.tasks)}",
                lead=text,
                tiles=tiles(plan, scores, profit),
                warnings=notes,
                first=first,
            )
        return self.destination.write(output_dir, tables, [*first, *figures_of(sections)], page, run_id)

    def _settings(self, plan: PropensityPlan) -> dict[str, Any]:
        return {
            **self.options.to_dict(),
            "judged on": list(plan.judging),
            "thresholds found on": list(plan.learning),
            **self.destination.settings(),
        }


def _tables(
    plan: PropensityPlan, scores: tuple[TaskScores, ...], profit: ProfitCurve | None
) -> dict[str, pd.DataFrame]:
    """By file name; those with nothing to say are left out."""
    import pandas as pd

    tables = {"scores": score_frame(plan)}
    thresholds = [
        threshold_frame(plan.question, name, plan.rules[t], plan.judged[t], plan.customers.score[:, t])
        for t, name in enumerate(plan.customers.tasks)
        if plan.rules[t]
    ]
    more = {
        "propensity_metrics": metric_frame(plan, scores),
        "propensity_deciles": decile_frame(scores),
        "propensity_thresholds": pd.concat(thresholds, ignore_index=True) if thresholds else pd.DataFrame(),
        "propensity_survival": survival_frame(plan),
        "propensity_reasons": reason_frame(plan.customers),
        "propensity_profit": profit_frame(profit) if profit is not None else pd.DataFrame(),
    }
    return tables | {name: frame for name, frame in more.items() if len(frame)}


def _first(plan: PropensityPlan, scores: tuple[TaskScores, ...], profit: ProfitCurve | None) -> list[Figure]:
    """The figure of the first screen."""
    task = scores[plan.lead]
    if profit is not None:
        return [profit_figure(plan, profit)]
    if not task.known:
        return []
    if task.rows.is_probability:
        return [lift_figure(plan, task, choice=False)]
    return [value_figure(plan, task, choice=False)] if ranks_amounts(task.rows) else []


def _sections(
    plan: PropensityPlan,
    scores: tuple[TaskScores, ...],
    tables: Mapping[str, pd.DataFrame],
    first: Sequence[Figure],
) -> list[Section]:
    known = [task for task in scores if task.known]
    chances = [task for task in known if task.rows.is_probability]
    on_top = {figure.name for figure in first}
    tasks = range(len(plan.customers.tasks))
    sections = [Section("Whom to contact", _contact_text(plan), (), [customer_table(plan, tables["scores"])])]
    if known:
        figures = [lift_figure(plan, task) for task in chances if f"propensity_lift_{task.rows.task + 1}" not in on_top]
        figures += [ranking_figure(plan, task) for task in chances]
        text = "Do those with high scores have it more often than those with low ones?" if chances else ""
        sections.append(Section("How good is the order", text, figures, [metric_table(plan, scores)]))
    if chances:
        text = (
            "Does a score of 30 % mean that three customers of ten have it? Only then does a score times a value count."
        )
        figures = [calibration_figure(plan, task) for task in chances]
        sections.append(Section("Can probabilities be taken at face value", text, figures))
    if "propensity_thresholds" in tables:
        figures = [threshold_figure(plan, task) for task in chances]
        table = threshold_table(plan, tables["propensity_thresholds"])
        sections.append(Section("Where to draw the line", "", figures, [table]))
    values = [task for task in known if not task.rows.is_probability]
    if values:
        figures = [
            value_figure(plan, task) if ranks_amounts(task.rows) else amount_figure(plan, task)
            for task in values
            if f"propensity_value_{task.rows.task + 1}" not in on_top
        ]
        sections.append(Section("What customers are worth", "Are amounts right, and who brings most of them?", figures))
    curves = [(t, segment_survival(plan, t)) for t in tasks if plan.customers.kinds[t] == "hazard"]
    figures = [survival_figure(plan, t, segments) for t, segments in curves if segments]
    if figures:
        text = "Does the predicted time course hold for customers of different kinds?"
        sections.append(Section("When it happens", text, figures))
    if "propensity_reasons" in tables:
        named = set(tables["propensity_reasons"]["task"])
        figures = [reason_figure(plan, t) for t in tasks if plan.customers.tasks[t] in named]
        text = "What the model looks at. Each customer's own reasons are in tables/scores."
        sections.append(Section("Why", text, figures))
    figures = [spread_figure(plan, t) for t in tasks]
    text = "Where all scores are alike, choosing among customers brings little."
    sections.append(Section("How scores are spread", text, figures))
    sections.append(Section("What the words mean", DEFINITIONS))
    return sections


def _contact_text(plan: PropensityPlan) -> str:
    by = "net value" if plan.question.by_net else f"the score for {plan.customers.tasks[plan.lead]}"
    text = f"Customers are in the order of {by}; the whole list is in tables/scores, with every score and its interval."
    if plan.repeated:
        text += " Each customer is there once, at the latest moment."
    if plan.question.by_net:
        text += (
            " Net value: value of what is expected to happen less the cost of a contact. A score says who will, not "
            "whom a contact changes: give as value what a contact brings on average over those cases."
        )
    return text
