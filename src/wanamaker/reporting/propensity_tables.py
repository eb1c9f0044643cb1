"""Tables of the propensity page: first customers of the list, scores of each task, what each rule would do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from wanamaker.decisions.propensity import PropensityPlan
from wanamaker.decisions.propensity_options import PROBABILITIES
from wanamaker.decisions.propensity_scores import TaskScores
from wanamaker.reporting.mix_style import percent
from wanamaker.reporting.page import Format, Table, number
from wanamaker.reporting.propensity_figures import RULE_WORDS

if TYPE_CHECKING:
    import pandas as pd

_SHOWN = 15  # customers of the list on the page
METRIC_WORDS = {
    "observed": "Observed",
    "predicted": "Predicted",
    "top_tenth_share": "In the top tenth",
    "auc": "AUC",
    "average_precision": "Average precision",
    "brier": "Brier score",
    "log_loss": "Log loss",
    "calibration_error": "Calibration error",
    "calibration_error_debiased": "Calibration error less chance",
    "calibration_error_by_chance": "Calibration error by chance",
    "concordance": "Concordance over time",
    "integrated_brier": "Brier score over time",
    "gini": "Gini",
    "kendall_tau_b": "Kendall's tau-b",
    "total": "Predicted over actual total",
    "mae": "Mean absolute error",
    "rmse": "Root mean squared error",
}
_SHARES = ("top_tenth_share",)
_AMOUNTS = ("observed", "predicted", "mae", "rmse")


def metric_table(plan: PropensityPlan, scores: tuple[TaskScores, ...]) -> Table:
    """One row per metric, one column per task, with intervals."""
    import pandas as pd

    known = [task for task in scores if task.known]
    names = [name for name in METRIC_WORDS if any(name in task.scores for task in known)]
    columns = {"Score": [METRIC_WORDS[name] for name in names]}
    columns |= {task.rows.name: [_cell(task, name) for name in names] for task in known}
    counts = "; ".join(
        f"{task.rows.name}: {len(task.rows):,} rows" + (f", {task.rows.positives:,} with it" * task.rows.is_probability)
        for task in known
    )
    note = (
        f"{counts}. In brackets {plan.question.options.level:.0%} intervals, by drawing customers again; that of the "
        "error by chance is drawn from the scores."
    )
    return Table("Scores of each task", pd.DataFrame(columns), note)


def _cell(task: TaskScores, name: str) -> str:
    """ "0.855 (0.832 to 0.876)"; "" where the task has no such score."""
    if name not in task.scores:
        return ""
    score = task[name]
    share = name in _SHARES or (task.rows.is_probability and name in ("observed", "predicted"))
    unit = task.rows.unit if name in _AMOUNTS and not share else ""

    def shown(value: float, last: bool = True) -> str:
        if share:
            return percent(value) if last else number(100 * value)
        return number(value, unit if last else "")

    if not np.isfinite(score.value):
        return "–"
    return shown(score.value) + (
        f" ({shown(score.low, False)} to {shown(score.high)})" if np.isfinite(score.low) else ""
    )


def threshold_table(plan: PropensityPlan, thresholds: pd.DataFrame) -> Table:
    """One row per task and rule."""
    import pandas as pd

    several = len(set(thresholds["task"])) > 1
    columns: dict[str, object] = {"Task": thresholds["task"]} if several else {}
    columns |= {
        "Rule": [RULE_WORDS[rule] for rule in thresholds["rule"]],
        "Flag from": thresholds["threshold"],
        "Customers": thresholds["customers"],
        "Share": thresholds["share"],
    }
    formats: dict[str, Format] = {"Flag from": _limit, "Customers": ",d", "Share": ".1%"}
    units, own = {}, ""
    for column, name in (("precision", "Precision"), ("recall", "Recall"), ("false_positive_rate", "False alarms")):
        if column in thresholds:
            columns[name], formats[name] = thresholds[column], ".1%"
    if "profit_per_1000" in thresholds:
        columns["Net value"], formats["Net value"] = thresholds["profit_per_1000"], number
        units["Net value"] = f"{plan.unit} per 1,000"
        if len(plan.question.money) > 1:
            own = " Net value counts what the task itself brings, not what the others add."
    note = "Customers and share: of the list's pool."
    if "precision" in thresholds:
        note += (
            f" Rules learn on {' and '.join(plan.learning)} rows; precision, recall and what else follows are judged "
            f"on {' and '.join(plan.judging)} rows."
        )
    return Table("What each rule would do", pd.DataFrame(columns), note + own, formats, units)


def _limit(value: float) -> str:
    return percent(value) if np.isfinite(value) else "nobody"


def customer_table(plan: PropensityPlan, scores: pd.DataFrame) -> Table:
    """The first customers of the list, with the reasons of the first task in words."""
    import pandas as pd

    p = plan.customers
    top = scores.head(_SHOWN)
    columns: dict[str, object] = {"Customer": top["id"].astype(str)}
    formats: dict[str, Format] = {}
    units: dict[str, str] = {}
    level = f"{p.level:.0%} interval"
    for t, name in enumerate(p.tasks):
        chance = p.kinds[t] in PROBABILITIES
        columns[name], formats[name] = top[name], ".1%" if chance else number
        if p.units[t] and not chance:
            units[name] = p.units[t]
        if t == plan.lead:
            scale = 100 if chance else 1
            columns[level] = [
                f"{number(scale * a)} to {number(scale * b)}" + (" %" if chance else "")
                for a, b in zip(top[f"{name}_low"], top[f"{name}_high"], strict=True)
            ]
    if plan.net is not None:
        columns["Net value"], formats["Net value"], units["Net value"] = top["net_value"], number, plan.unit
    columns["Contact"] = np.where(top["contact"], "yes", "no")
    reasons = f"{p.tasks[plan.lead]}_reasons"
    if reasons in top:
        columns["Why"] = [text.replace(" (odds x", " (×").replace(" (amount x", " (×") for text in top[reasons]]
    more = len(scores) - len(top)
    note = f"{more:,} more customers are in tables/scores. " if more else ""
    if reasons in top:
        what = {"value": "the amount", "regression": "the number"}.get(p.kinds[plan.lead], "the odds")
        note += f"Why: the strongest reasons, and by how much each multiplies {what}."
        if p.kinds[plan.lead] == "regression":
            note = note.replace("by how much each multiplies the number", "how much each adds")
    return Table("First of the list", pd.DataFrame(columns), note.strip(), formats, units)
