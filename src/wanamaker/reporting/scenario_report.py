"""The decision `scenario`: what would happen under other media, prices and promotions: tables, figures and a page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wanamaker.decisions.decomposition import check_mix
from wanamaker.decisions.intervals import interval_text
from wanamaker.decisions.kpi_money import check_kpi_is
from wanamaker.decisions.scenario import BASELINE, ScenarioResults, compare_scenarios, said
from wanamaker.errors import UserError
from wanamaker.predictions import MixPredictions
from wanamaker.reporting.export import check_formats
from wanamaker.reporting.outputs import write_outputs
from wanamaker.reporting.page import Section, Table, Tile, figures_of, number, render_page
from wanamaker.reporting.scenario_figures import MAX_ROWS, difference_figure, time_figure

if TYPE_CHECKING:
    import pandas as pd

_MAX_TABS = 12
_SURE = 0.8  # chance below which a finding "may" be so


class ScenarioDecision:
    """Compute scenarios and write what differs.

    In the output folder: `tables/scenarios`, `scenario_series`, `scenario_periods`, `scenario_inputs` and, where
    presets did not fit, `scenario_left_out`, in each format; `figures/*.png`; `report.html`.

    Args:
        scenarios: name to changes; how they are written stands in `decisions.scenario_changes`.
        presets: a library of scenarios, written alike.
        use_presets: "all" computes those that fit the panel and says why others do not; "none"; or a list of names,
            each of which must fit.
        names: from a name in scenarios or presets to the panel's name, or names, for it.
        start, end, periods: the window that the scenarios play in; by default the last year of the data.
        kpi_is: "units" or "revenue"; asked for where an own price changes and the KPI's unit does not tell.
        unit_cost: of a unit of the KPI, where units are counted and prices change (`decisions.kpi_money.unit_costs`).
        formats: of the table files: `parquet`, `csv`.
        report: Write `report.html`.

    Raises:
        UserError: an option that is none of these.
    """

    reads = MixPredictions.kind

    def __init__(
        self,
        scenarios: Mapping[str, Any] | None = None,
        presets: Mapping[str, Any] | None = None,
        use_presets: str | Sequence[str] = "all",
        names: Mapping[str, Any] | None = None,
        start: str | None = None,
        end: str | None = None,
        periods: int | None = None,
        kpi_is: str | None = None,
        unit_cost: Any = 0.0,
        formats: Iterable[str] = ("parquet", "csv"),
        report: bool = True,
    ) -> None:
        for key, value in (("scenarios", scenarios), ("presets", presets), ("names", names)):
            if value is not None and not isinstance(value, Mapping):
                raise UserError(
                    f"decision.{key}={value!r} must map names, such as {{tv_up: {{media: {{TV: {{times: 1.2}}}}}}}}."
                )
        check_kpi_is(kpi_is)
        if not scenarios and (use_presets == "none" or not use_presets):
            raise UserError(
                "There is no scenario to compute: add one, such as "
                "'decision.scenarios.more={media: {tv: {times: 1.2}}}', or decision.use_presets=all."
            )
        self.scenarios, self.presets, self.names = dict(scenarios or {}), dict(presets or {}), dict(names or {})
        self.use_presets = use_presets
        self.start, self.end, self.periods = start, end, periods
        self.kpi_is, self.unit_cost = kpi_is, unit_cost
        self.formats, self.report = check_formats(formats), report

    def write(
        self,
        predictions: MixPredictions,
        samples: Any,
        output_dir: Path,
        metrics: Mapping[str, float],
        run: Mapping[str, Any],
    ) -> list[Path]:
        """Write everything; all is computed before the first file is.

        Args:
            predictions: of a mix model, for every row of the panel.
            samples: not used; panels have none.
            output_dir: folder of the run.
            metrics: not used.
            run: `run_id` and whatever else should stand in the report.

        Returns:
            The files written.

        Raises:
            UserError: predictions of another kind, or a scenario that cannot be understood or done.
        """
        results = compare_scenarios(
            check_mix(predictions, "scenario"),
            self.scenarios,
            presets=self.presets,
            use_presets=self.use_presets,
            names=self.names,
            start=self.start,
            end=self.end,
            periods=self.periods,
            kpi_is=self.kpi_is,
            unit_cost=self.unit_cost,
        )
        tables = scenario_tables(results)
        page, figures = scenario_page(results, tables, run, self._settings())
        run_id = str(run.get("run_id", ""))
        written = write_outputs(output_dir, tables, figures, page if self.report else None, self.formats, run_id)
        for preset, reason in results.left_out:
            print(f"Preset {preset} was left out: {reason}", flush=True)
        return written

    def _settings(self) -> dict[str, Any]:
        names = ("scenarios", "use_presets", "names", "start", "end", "periods", "kpi_is", "unit_cost")
        return {name: getattr(self, name) for name in names}


def scenario_tables(results: ScenarioResults) -> dict[str, pd.DataFrame]:
    """The tables of `ScenarioDecision`, by file name."""
    import pandas as pd

    tables = {
        "scenarios": results.to_frame(),
        "scenario_series": results.by_series(),
        "scenario_periods": results.by_period(),
        "scenario_inputs": results.by_input(),
    }
    if results.left_out:
        tables["scenario_left_out"] = pd.DataFrame(results.left_out, columns=["preset", "reason"])
    return tables


def scenario_page(
    results: ScenarioResults, tables: Mapping[str, pd.DataFrame], run: Mapping[str, Any], settings: Mapping[str, Any]
) -> tuple[str, list]:
    """The report as HTML, and its figures."""
    response = results.response
    money, unit = response.money_unit, response.kpi_unit
    table = tables["scenarios"]
    changing = [not outcome.scenario.empty for outcome in results.outcomes]
    ranked = table[changing].sort_values("profit_change", ascending=False, kind="stable")
    differences = difference_figure(ranked, money, response.kpi, unit)
    periods = tables["scenario_periods"]
    shown = ranked["scenario"].head(_MAX_TABS)
    over_time = [
        time_figure(periods[periods["scenario"] == name], name, unit, place)
        for place, name in enumerate(shown, start=1)
    ]
    sections = [
        Section(
            "The scenarios side by side",
            "Every number is a difference to the model's own prediction of the baseline: the same periods with media, "
            "prices and promotions as they were.",
            tables=[_compared(ranked, money, unit, len(results.kpi))],
        ),
        Section(
            "What each scenario changes",
            tables=[_said(results), _inputs(tables["scenario_inputs"])],
        ),
        Section(
            "When it happens",
            "Media work on after they were shown. What falls into the periods after the window is counted.",
            figures=over_time,
        ),
        Section("Where it happens", tables=[_series(tables["scenario_series"], shown, money, unit)], folded=True),
    ]
    if results.left_out:
        left = Table("", tables["scenario_left_out"])
        text = "They were not computed, because the panel lacks something that they need."
        sections.append(Section("Presets that were left out", text, tables=[left]))
    sections.append(Section("How to read this", _how_to_read(results)))
    page = render_page(
        f"Scenarios, run {run.get('run_id', '')}",
        _headline(ranked, money),
        sections,
        run,
        settings,
        eyebrow="Scenario planner",
        lead=_lead(ranked, results),
        tiles=_tiles(ranked, results),
        warnings=_warnings(results),
        first=[differences],
    )
    return page, [differences, *figures_of(sections)]


def _headline(ranked: pd.DataFrame, money: str) -> str:
    best = ranked.iloc[0]
    gain, chance = best["profit_change"], best["probability_better"]
    if gain > 0:
        return f"{best['scenario']} {'may' if chance < _SURE else 'would'} bring {number(gain, money)} more profit"
    if len(ranked) == 1 and gain == 0:
        return f"{best['scenario']} changes nothing"
    if len(ranked) == 1:
        verb = "may" if chance > 1 - _SURE else "would"
        return f"{best['scenario']} {verb} cost {number(-gain, money)} of profit"
    return f"None of {len(ranked)} scenarios beats going on as before; {best['scenario']} comes closest"


def _lead(ranked: pd.DataFrame, results: ScenarioResults) -> list[str]:
    response, window = results.response, results.window
    money, best = response.money_unit, ranked.iloc[0]
    spend, sold = best["spend_change"], best["kpi_change"]
    share = f"{number(abs(sold), response.kpi_unit)} of {response.kpi} ({best['kpi_change_share']:+.1%})"
    effect = f"would have {'brought' if sold >= 0 else 'lost'} {share}"
    cost = " at the same spend"
    if spend:
        cost = f" and {'cost' if spend > 0 else 'saved'} {number(abs(spend), money)} of spend"
    sure = ""
    if len(results.kpi) > 1:
        sure = f" In {best['probability_better']:.0%} of the model's draws it earns more than going on as before."
    return [
        f"{best['scenario']} ({best['changes']}) {effect}{cost}, from {window.dates[0]} to {window.dates[-1]}.{sure}",
        _profit_words(results),
    ]


def _profit_words(results: ScenarioResults) -> str:
    response = results.response
    if response.kpi_unit == response.money_unit and response.kpi_value == 1 and not results.by_price:
        worth = f"Profit here is the additional {response.kpi} less the additional spend"
        return f"{worth}, before the cost of the goods themselves."
    worth = f"Profit here is what the additional {response.kpi} is worth less the additional spend"
    return f"{worth}; a unit is worth {results.unit_value}."


def _tiles(ranked: pd.DataFrame, results: ScenarioResults) -> list[Tile]:
    best, response = ranked.iloc[0], results.response
    money = response.money_unit
    tiles = [
        Tile(number(best["kpi_baseline"], response.kpi_unit), f"{response.kpi}, baseline", _span(results)),
        Tile(number(best["spend_baseline"], money), "media spend, baseline"),
        Tile(number(best["profit_change"], money), f"profit change, {best['scenario']}", _interval(best, money)),
    ]
    if len(results.kpi) > 1:
        tiles.append(Tile(f"{best['probability_better']:.0%}", "chance that it is better"))
    return tiles


def _span(results: ScenarioResults) -> str:
    return f"{results.window.num_periods} periods to {results.window.dates[-1]}"


def _interval(row: pd.Series, money: str) -> str:
    low, high = row["profit_change_low_90"], row["profit_change_high_90"]
    return f"90 %: {number(low)} to {number(high, money)}" if np.isfinite(low) else ""


def _compared(ranked: pd.DataFrame, money: str, unit: str, draws: int) -> Table:
    import pandas as pd

    digits = 0 if ranked[["profit_change", "kpi_change"]].abs().max().max() >= 100 else 2
    frame = pd.DataFrame(
        {
            "scenario": ranked["scenario"],
            "KPI change": [interval_text(row, "kpi_change", digits=digits) for _, row in ranked.iterrows()],
            "in %": 100 * ranked["kpi_change_share"],
            "spend change": ranked["spend_change"],
            "value change": ranked["value_change"],
            "profit change": [interval_text(row, "profit_change", digits=digits) for _, row in ranked.iterrows()],
            "return on it": ranked["return_on_change"],
            "chance better": ranked["probability_better"] if draws > 1 else np.nan,
        }
    )
    return Table(
        "",
        frame,
        note="In brackets the 90 % interval. Return on it: value change per spend change; below 1, and with spend "
        "rising, it does not pay. A dash: spend does not change, or the model has one draw only.",
        formats={"in %": "+.1f", "return on it": ".2f", "chance better": ".0%"},
        units={"KPI change": unit, "spend change": money, "value change": money, "profit change": money},
        max_rows=MAX_ROWS,
    )


def _said(results: ScenarioResults) -> Table:
    import pandas as pd

    rows = [(o.scenario.name, "; ".join(said(o.scenario)) or "nothing", o.scenario.note) for o in results.outcomes]
    frame = pd.DataFrame(rows, columns=["scenario", "change", "note"])
    return Table("As asked", frame if frame["note"].any() else frame.drop(columns="note"))


def _inputs(inputs: pd.DataFrame) -> Table:
    frame = inputs.copy()
    frame["change in %"] = 100 * (frame["with_scenario"] / frame["baseline"].where(frame["baseline"] != 0) - 1)
    frame = frame.rename(columns={"with_scenario": "in the scenario", "baseline": "as it was"})
    formats = {"change in %": "+.1f", "as it was": number, "in the scenario": number}
    return Table("In numbers, over the whole window", frame, formats=formats)


def _series(table: pd.DataFrame, order: pd.Series, money: str, unit: str) -> Table:
    import pandas as pd

    rows = table[table["scenario"].isin(order)]
    frame = pd.DataFrame(
        {
            "scenario": rows["scenario"],
            "series": rows["series"],
            "KPI, baseline": rows["kpi_baseline"],
            "KPI change": rows["kpi_change"],
            "90 % from": rows["kpi_change_low_90"],
            "to": rows["kpi_change_high_90"],
            "spend change": rows["spend_change"],
            "profit change": rows["profit_change"],
        }
    )
    units = {"KPI, baseline": unit, "KPI change": unit, "90 % from": unit, "to": unit}
    return Table("", frame, units=units | {"spend change": money, "profit change": money})


def _warnings(results: ScenarioResults) -> list[str]:
    noted: dict[str, list[str]] = {}
    for outcome in results.outcomes:
        for note in outcome.plan.notes:
            noted.setdefault(note, []).append(outcome.scenario.name)
    warnings = [f"{', '.join(names)}: {note}" for note, names in noted.items()]
    if len(results.kpi) == 1:
        warnings.append("The model has one draw, so no interval can be given: see these numbers as guesses.")
    if results.left_out:
        names = ", ".join(name for name, _ in results.left_out)
        warnings.append(f"Presets left out because the panel lacks what they need: {names}. Reasons stand below.")
    return warnings


def _how_to_read(results: ScenarioResults) -> str:
    base = "" if not any(o.scenario.name == BASELINE for o in results.outcomes) else " It is the preset `baseline`."
    return (
        "- The baseline is the model's prediction for the window as it was, not the sales that were observed: a "
        f"scenario that changes nothing differs by exactly 0.{base}\n"
        "- Intervals show how much the model's curves are in doubt. They leave out the noise of single periods, which "
        "is the same on both sides, and whatever the model does not know: competitors who react, stock that runs out.\n"
        "- What a promotion costs (a discount given, a display paid) is not in the panel and not deducted.\n"
        "- Extrapolates marks media, prices or promotions beyond anything the model has learnt from: the curves are "
        "continued there in a straight line, and no interval is honest about that."
    )
