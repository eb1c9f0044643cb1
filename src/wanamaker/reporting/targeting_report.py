"""The decision `targeting`: the audience, the proof that it is worth it (or not), figures and one page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wanamaker.decisions.targeting import TargetingPlan, audience_table, offer_table, plan_targeting
from wanamaker.decisions.targeting_curve import CostCurve, cost_curve, curve_table
from wanamaker.decisions.targeting_options import TargetingOptions
from wanamaker.decisions.targeting_policy import read_question
from wanamaker.decisions.uplift_verdict import RULES, Verdict, policy_table, score_table, uplift_verdict
from wanamaker.errors import UserError
from wanamaker.predictions import UpliftPredictions
from wanamaker.reporting.customer_list import CustomerList, check_predictions
from wanamaker.reporting.page import Figure, Section, Table, figures_of, number, render_page
from wanamaker.reporting.targeting_figures import cost_figure, policy_figure
from wanamaker.reporting.targeting_words import DEFINITIONS, advice, lead, tiles, warnings
from wanamaker.reporting.uplift_figures import decile_figures, decile_frame, effect_figure, gain_figure, main_unit

if TYPE_CHECKING:
    import pandas as pd

_SHOWN = 20  # customers of the audience on the page


class TargetingDecision:
    """The decision `targeting`: reads `UpliftPredictions`, writes whom to treat with what, and whether to do so.

    In the output folder: `tables/audience` (one row per customer who gets an offer, the highest net value first),
    `audience_offers`, `targeting_policies`, `uplift_scores`, `uplift_deciles` and `targeting_curve` in each format;
    `figures/*.png`; `report.html`. With `database`, the audience also goes into a table there.

    Args:
        value, ...: the question; see `wanamaker.decisions.targeting_options.TargetingOptions`.
        database: any SQLAlchemy URL; None writes to none. Passwords are never shown.
        table: name of the table there.
        if_exists: where that table is there already: "fail" refuses before anything is computed, "run" replaces the
            rows of this run, "append" adds rows, "replace" drops the table first. All in one transaction.
        formats: of the table files: `parquet`, `csv`.
        report: write `report.html`.

    Raises:
        UserError: an option out of range, a database URL that is wrong, or whose driver is not installed.
    """

    reads = UpliftPredictions.kind

    def __init__(
        self,
        value: Any = None,
        money_unit: str | None = None,
        costs: Mapping[str, Any] | None = None,
        budget: float | None = None,
        max_clients: int | None = None,
        caps: Mapping[str, Any] | None = None,
        tolerance: float = 0.0,
        tolerance_of: str = "net",
        abstain: float | None = None,
        shrinkage: float | str = "auto",
        evaluate_on: str | Sequence[str] | None = None,
        target: str | Sequence[str] = "all",
        level: float = 0.9,
        power: float = 0.8,
        draws: int = 200,
        seed: int = 0,
        database: str | None = None,
        table: str = "audience",
        if_exists: str = "fail",
        formats: Iterable[str] = ("parquet", "csv"),
        report: bool = True,
    ) -> None:
        given = locals()
        self.options = TargetingOptions(**{f.name: given[f.name] for f in fields(TargetingOptions)})
        self.destination = CustomerList("audience", database, table, if_exists, formats)
        if not list(formats) and database is None and not report:
            raise UserError(
                "decision.formats=[], decision.database=null and decision.report=false: nothing would be written; give "
                "one of them."
            )
        self.report = report

    def check(self, predictions: UpliftPredictions) -> None:
        """Read the question against the names of the predictions, before there are any rows.

        Raises:
            UserError: values, costs or caps do not fit.
        """
        read_question(predictions, self.options)

    def write(
        self,
        predictions: UpliftPredictions,
        samples: Any,
        output_dir: Path,
        metrics: Mapping[str, float],
        run: Mapping[str, Any],
    ) -> list[Path]:
        """Find the audience, judge it, and write everything.

        Args:
            predictions: of an uplift model.
            samples: not used.
            output_dir: folder of the run.
            metrics: not used.
            run: `run_id`, and whatever else should stand in the report.

        Returns:
            The files written.

        Raises:
            UserError: predictions of another kind, a question that does not fit them, a folder or database that cannot
                be written, or a table that is already there.
        """
        check_predictions(predictions, UpliftPredictions, "targeting")
        run_id = self.destination.run_id(run)
        plan = plan_targeting(predictions, self.options)
        verdict, curve = uplift_verdict(plan), cost_curve(plan)
        tables = {"audience": audience_table(plan), "audience_offers": offer_table(plan)}
        if verdict is not None:
            tables |= {"targeting_policies": policy_table(verdict), "uplift_scores": score_table(verdict)}
            tables["uplift_deciles"] = decile_frame(plan)
        if curve is not None:
            tables["targeting_curve"] = curve_table(curve)
        first, sections = _first(plan, verdict), _sections(plan, verdict, curve, tables)
        text, notes = lead(plan, verdict), warnings(plan, verdict)
        print("\n".join([advice(plan, verdict) + ".", *text, *notes]), flush=True)
        page = None
        if self.report:
            page = render_page(
                f"Targeting, run {run.get('run_id', '')}",
                advice(plan, verdict),
                sections,
                run,
                self._settings(plan),
                eyebrow="Is targeting worth it here?",
                lead=text,
                tiles=tiles(plan, verdict),
                warnings=notes,
                first=first,
            )
        return self.destination.write(output_dir, tables, [*first, *figures_of(sections)], page, run_id)

    def _settings(self, plan: TargetingPlan) -> dict[str, Any]:
        return {
            **self.options.to_dict(),
            "shrinkage used": plan.policy.shrinkage,
            **self.destination.settings(),
        }


def _first(plan: TargetingPlan, verdict: Verdict | None) -> list[Figure]:
    return [] if verdict is None else [policy_figure(verdict, plan.unit)]


def _sections(
    plan: TargetingPlan, verdict: Verdict | None, curve: CostCurve | None, tables: Mapping[str, pd.DataFrame]
) -> list[Section]:
    sections = []
    if verdict is not None:
        rules = "\n".join(f"- Rule {n}: {rule}" for n, rule in enumerate(RULES, 1))
        text = (
            "Every policy is judged on the same customers, whose outcomes the model did not learn from. Rule "
            f"{verdict.rule + 1} of these decided:\n{rules}"
        )
        sections.append(Section("Policies compared", text, (), [_policy_rows(plan, verdict)]))
    if curve is not None:
        sections.append(Section("What more budget brings", _curve_text(curve), [cost_figure(curve, plan)]))
    sections.append(
        Section(
            "The audience",
            _audience_text(plan),
            (),
            [_offer_rows(plan, tables["audience_offers"]), _audience_rows(plan, tables["audience"])],
        )
    )
    offers = range(len(plan.arms) - 1)
    if verdict is not None:
        text = (
            "Does the model know whom an offer moves? The outcome looked at is "
            f"{plan.customers.outcomes[plan.policy.money.main]}, the first that has a value."
        )
        figures = [gain_figure(plan, a) for a in offers]
        sections.append(Section("Does the ranking hold", text, figures, [_score_rows(plan, verdict)]))
        figures = [figure for a in offers for figure in decile_figures(plan, a)]
        sections.append(Section("Can the effects be taken at their word", "", figures))
    sections.append(
        Section(
            "How effects are spread",
            "Where the distribution is narrow, customers hardly differ and choosing among them brings little.",
            [effect_figure(plan)],
            [_shrinkage_rows(plan)] if plan.policy.path else [],
            folded=True,
        )
    )
    sections.append(Section("What the words mean", DEFINITIONS))
    return sections


def _curve_text(curve: CostCurve) -> str:
    if curve.contacts:
        return "Offers cost nothing, so the curve counts the customers who get one."
    return "Customers are taken in the order of what they bring per money: where the curve is flat, money is wasted."


def _audience_text(plan: TargetingPlan) -> str:
    options, policy = plan.policy.options, plan.policy
    parts = [f"An offer goes to customers for whom its {'net value' if options.tolerance_of == 'net' else 'effect'} is"]
    parts[0] += f" above {number(options.tolerance)}"
    parts[0] += f", also at its {options.abstain:g} quantile." if options.abstain is not None else "."
    if policy.learnt_from:
        parts.append(
            f"Shrinkage towards the mean of each offer: {policy.shrinkage:g}, "
            + ("chosen on" if options.shrinkage == "auto" else "as set; means from")
            + f" {' and '.join(policy.learnt_from)} rows, like the best single offer ({plan.arms[policy.best]})."
        )
    if options.budget is not None and plan.assignment.price > 0:
        parts.append(
            f"The budget binds: one more {plan.unit} of it would bring {number(plan.assignment.price)} {plan.unit} net."
        )
    parts.append("The whole list is in tables/audience, the highest net value first.")
    return " ".join(parts)


def _spell(low: np.ndarray, high: np.ndarray) -> list[str]:
    return [f"{number(a)} to {number(b)}" for a, b in zip(low, high, strict=True)]


def _policy_rows(plan: TargetingPlan, verdict: Verdict) -> Table:
    import pandas as pd

    rows, unit = policy_table(verdict), f"{plan.unit} per 1,000"
    beyond = rows["beyond_best_single"].where(~rows["best_single"])
    level = f"{verdict.level:.0%} interval"
    frame = pd.DataFrame(
        {
            "Policy": [
                f"{name} (best single offer)" if best else name
                for name, best in zip(rows["policy"], rows["best_single"], strict=True)
            ],
            "Get an offer": rows["treated_share"],
            "Cost": rows["cost_per_1000"],
            "Net value": rows["net_value_per_1000"],
            "Standard error": rows["standard_error"],
            level: _spell(rows["low"], rows["high"]),
            "Against best offer": beyond,
            f"{level} of that": [
                "–" if best else text
                for text, best in zip(_spell(rows["beyond_low"], rows["beyond_high"]), rows["best_single"], strict=True)
            ],
        }
    )
    amounts = ("Cost", "Net value", "Standard error", "Against best offer")
    note = "Net value: after cost, beyond giving nobody anything."
    if verdict.detectable > 0:
        note += (
            f" Against the best offer, {verdict.rows:,} customers show a difference of "
            f"{number(verdict.detectable, plan.unit)} per 1,000 with a probability of {plan.policy.options.power:.0%}."
        )
    return Table(
        "Policies on held-out customers",
        frame,
        note,
        dict.fromkeys(amounts, number) | {"Get an offer": ".0%"},
        dict.fromkeys(amounts, unit),
    )


def _offer_rows(plan: TargetingPlan, offers: pd.DataFrame) -> Table:
    import pandas as pd

    frame = pd.DataFrame(
        {
            "Offer": offers["offer"],
            "Customers": offers["customers"],
            "Share": offers["share"],
            "Cost": offers["cost"],
            "Net value": offers["net_value"],
            "Net value each": offers["net_value_each"],
            "Net value if all got it": offers["mean_net_to_all"],
            "Cost if all got it": offers["cost_per_contact_to_all"],
        }
    )
    note = "The last two columns are per customer. Net value if all got it: measured on training rows."
    if not plan.policy.learnt_from:
        note = "The last two columns are per customer, by the model alone."
    amounts = dict.fromkeys(("Net value each", "Net value if all got it", "Cost if all got it"), number)
    units = dict.fromkeys(("Cost", "Net value", *amounts), plan.unit)
    return Table("By offer", frame, note, {"Share": ".1%", "Cost": ",.0f", "Net value": ",.0f", **amounts}, units)


def _audience_rows(plan: TargetingPlan, audience: pd.DataFrame) -> Table:
    import pandas as pd

    unit, scale = main_unit(plan)
    top, interval = audience.head(_SHOWN), f"{plan.customers.level:.0%} interval"
    frame = pd.DataFrame(
        {
            "Customer": top["id"].astype(str),
            "Offer": top["offer"],
            "Effect": scale * top["effect"],
            interval: _spell(scale * top["low"], scale * top["high"]),
            "Net value": top["net_value"],
            f"{interval} of that": _spell(top["net_low"], top["net_high"]),
            "Cost": top["cost"],
        }
    )
    more = len(audience) - len(top)
    return Table(
        "First of the list",
        frame,
        f"{more:,} more customers are in tables/audience." if more else "",
        {"Effect": number, "Net value": number, "Cost": number},
        {"Effect": unit, "Net value": plan.unit, "Cost": plan.unit},
    )


def _score_rows(plan: TargetingPlan, verdict: Verdict) -> Table:
    import pandas as pd

    unit, scale = main_unit(plan)
    rows = score_table(verdict)
    binary = (
        plan.customers.kinds[plan.policy.money.main] == "binary" and plan.policy.money.value[plan.policy.money.main] > 0
    )
    frame = pd.DataFrame(
        {
            "Offer": rows["offer"],
            "Average effect": [
                f"{number(scale * v)} ({number(scale * a)} to {number(scale * b)})"
                for v, a, b in zip(rows["average_effect"], rows["average_low"], rows["average_high"], strict=True)
            ],
            "Smallest detectable": scale * rows["minimum_detectable_effect"],
            "AUTOC": [
                f"{number(scale * v)} ({number(scale * a)} to {number(scale * b)})"
                for v, a, b in zip(rows["autoc"], rows["autoc_low"], rows["autoc_high"], strict=True)
            ],
            "Qini": rows["qini"] * (1.0 if binary else scale),
            "Uplift at 30 %": scale * rows["uplift_at_30"],
            "Correlation with outcome": rows["correlation_with_outcome"],
            "Calibration error": scale * rows["calibration_error"],
            "Calibration slope": [
                f"{v:.2f} ± {s:.2f}"
                for v, s in zip(rows["calibration_slope"], rows["calibration_slope_se"], strict=True)
            ],
        }
    )
    three = dict.fromkeys(("Smallest detectable", "Qini", "Uplift at 30 %", "Calibration error"), number)
    return Table(
        "Scores of the effects",
        frame,
        f"In {unit}"
        + (", but for Qini (a share of hindsight's), correlation and slope." if binary else ".")
        + f" Brackets: {verdict.level:.0%} intervals; ±: standard error.",
        {**three, "Correlation with outcome": ".2f"},
    )


def _shrinkage_rows(plan: TargetingPlan) -> Table:
    import pandas as pd

    frame = pd.DataFrame(plan.policy.path, columns=["Shrinkage", "Net value", "Standard error"])
    frame["Chosen"] = ["yes" if s == plan.policy.shrinkage else "" for s in frame["Shrinkage"]]
    frame[["Net value", "Standard error"]] *= 1000
    return Table(
        "How much shrinkage",
        frame,
        "On training rows, each predicted by models that did not see it. Chosen is the best, if it beats 1 (everybody "
        "gets the best single offer) by more than one standard error, paired by row; else 1.",
        {"Shrinkage": ".1f", "Net value": number, "Standard error": number},
        dict.fromkeys(("Net value", "Standard error"), f"{plan.unit} per 1,000"),
    )
