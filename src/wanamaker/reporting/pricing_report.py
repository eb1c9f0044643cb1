"""The decision `pricing`: the best price of every series, what it brings and how sure that is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wanamaker.decisions.decomposition import check_mix
from wanamaker.decisions.kpi_money import check_kpi_is
from wanamaker.decisions.price_problem import OBJECTIVES
from wanamaker.decisions.pricing import SIBLINGS, PricePlan, optimise_prices
from wanamaker.errors import UserError
from wanamaker.predictions import MixPredictions
from wanamaker.reporting.export import check_formats
from wanamaker.reporting.outputs import write_outputs
from wanamaker.reporting.page import Section, Table, Tile, figures_of, number, render_page
from wanamaker.reporting.scenario_figures import MAX_ROWS, price_change_figure, price_curve_figure

if TYPE_CHECKING:
    import pandas as pd

_MAX_TABS = 12


class PricingDecision:
    """Find the best prices and write them with what they bring.

    In the output folder: `tables/prices` (one row per series), `price_total`, `price_curves` in each format;
    `figures/*.png`; `report.html`.

    Args:
        objective: "profit" or "revenue".
        unit_cost: money per unit of the KPI: a number, a share of the price as text ("60%"), `{margin: 0.4}`, or a
            mapping of series to one of the first two with an entry `default`. Needed for profit.
        kpi_is: "units" or "revenue"; asked for where the KPI's unit does not tell.
        bounds: [low, high] for every price, or a mapping of series to that; None is the range of the training data.
        beyond: how far that range is widened, as a share of its ends.
        series: names of the series to price; None is all with a price of their own.
        siblings: "joint" sets all prices together where the model's cross prices are prices of other series; "held"
            takes each series alone.
        start, end, periods: the window whose demand counts; by default the last year of the data.
        formats: of the table files: `parquet`, `csv`.
        report: Write `report.html`.

    Raises:
        UserError: an option that is none of these.
    """

    reads = MixPredictions.kind

    def __init__(
        self,
        objective: str = "profit",
        unit_cost: Any = None,
        kpi_is: str | None = None,
        bounds: Any = None,
        beyond: float = 0.1,
        series: Iterable[str] | str | None = None,
        siblings: str = "joint",
        start: str | None = None,
        end: str | None = None,
        periods: int | None = None,
        formats: Iterable[str] = ("parquet", "csv"),
        report: bool = True,
    ) -> None:
        for key, value, known in (("objective", objective, OBJECTIVES), ("siblings", siblings, SIBLINGS)):
            if value not in known:
                raise UserError(f"decision.{key}={value!r}: choose from {', '.join(known)}.")
        check_kpi_is(kpi_is)
        if objective == "profit" and unit_cost is None:
            raise UserError(
                "The most profitable price depends on what a unit costs: give decision.unit_cost, a number or a share "
                "of the price such as 60%; or choose decision.objective=revenue."
            )
        if series is not None and not series:
            raise UserError("decision.series is empty: name series, or leave it out for all that have their own price.")
        self.objective, self.unit_cost, self.kpi_is = objective, unit_cost, kpi_is
        self.bounds, self.beyond, self.series, self.siblings = bounds, beyond, series, siblings
        self.start, self.end, self.periods = start, end, periods
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
            predictions: of a mix model.
            samples: not used; panels have none.
            output_dir: folder of the run.
            metrics: not used.
            run: `run_id` and whatever else should stand in the report.

        Returns:
            The files written.

        Raises:
            UserError: predictions of another kind, or a problem that cannot be solved as asked.
        """
        settings = self._settings()
        plan = optimise_prices(check_mix(predictions, "pricing"), **settings)
        prices = plan.to_frame().sort_values("gain", ascending=False, kind="stable", ignore_index=True)
        tables = {"prices": prices, "price_total": plan.total(), "price_curves": plan.curves()}
        page, figures = pricing_page(plan, tables, run, settings)
        run_id = str(run.get("run_id", ""))
        return write_outputs(output_dir, tables, figures, page if self.report else None, self.formats, run_id)

    def _settings(self) -> dict[str, Any]:
        names = (
            "objective",
            "unit_cost",
            "kpi_is",
            "bounds",
            "beyond",
            "series",
            "siblings",
            "start",
            "end",
            "periods",
        )
        return {name: getattr(self, name) for name in names}


def pricing_page(
    plan: PricePlan, tables: Mapping[str, pd.DataFrame], run: Mapping[str, Any], settings: Mapping[str, Any]
) -> tuple[str, list]:
    """The report as HTML, and its figures."""
    response, problem = plan.problem.response, plan.problem
    prices, total = tables["prices"], tables["price_total"].iloc[0]
    money = response.price_unit if problem.units else response.kpi_unit
    words = {"objective": problem.objective, "money": money, "kpi": response.kpi, "unit": response.kpi_unit}
    changes = price_change_figure(prices.head(MAX_ROWS), max(0, len(prices) - MAX_ROWS))
    curves = tables["price_curves"]
    place = {response.series[g]: i for i, g in enumerate(problem.series)}
    tabs = []
    for count, (_, row) in enumerate(prices.head(_MAX_TABS).iterrows(), start=1):
        g, d = (a[place[row["series"]]] for a in (problem.series, problem.driver))
        seen = float(response.driver_min[g, d]), float(response.driver_max[g, d])
        tabs.append(price_curve_figure(curves[curves["series"] == row["series"]], row, seen, words, count))
    first = f" The {_MAX_TABS} series with the largest gain." if len(prices) > _MAX_TABS else ""
    sections = [
        Section("The prices", tables=[_price_table(prices, problem.objective, money)]),
        Section(
            f"{problem.objective.capitalize()} by price",
            f"Each curve moves one price and leaves the others as recommended.{first}",
            figures=tabs,
        ),
        Section("How customers answer to prices", _ELASTICITY, tables=[_elasticities(prices)], folded=True),
        Section("How to read this", _how_to_read(plan)),
    ]
    page = render_page(
        f"Prices, run {run.get('run_id', '')}",
        _headline(total, problem.objective, money, float(prices["extrapolates"].mean())),
        sections,
        run,
        settings,
        eyebrow="Price optimiser",
        lead=_lead(plan, prices, total, money),
        tiles=_tiles(plan, total, money),
        warnings=_warnings(plan, prices),
        first=[changes],
    )
    return page, [changes, *figures_of(sections)]


_SURE = 0.8  # chance below which a finding "may" be so
_ELASTICITY = (
    "An elasticity of -2 says: sales fall by 2 % when the price rises by 1 %. Below -1 (more negative) a higher price "
    "loses revenue, above -1 it gains some."
)


def _headline(total: pd.Series, objective: str, money: str, beyond: float) -> str:
    """The finding; ``beyond`` is the share of the prices that lie outside what the model has seen."""
    gain = total["gain"]
    if gain <= 0:
        return f"No price within the bounds brings more {objective} than today's"
    share = f" ({total['gain_share']:+.1%})" if np.isfinite(total["gain_share"]) else ""
    verb = "may" if total["probability_better"] < _SURE or beyond > 0.5 else "would"
    caution = ", if the model is right about prices it has not seen" if beyond > 0.5 else ""
    return f"Better prices {verb} bring {number(gain, money)} more {objective}{share}{caution}"


def _lead(plan: PricePlan, prices: pd.DataFrame, total: pd.Series, money: str) -> list[str]:
    up, down = int((prices["price_change"] > 0.005).sum()), int((prices["price_change"] < -0.005).sum())
    stay = len(prices) - up - down
    counts = [(up, "higher"), (down, "lower"), (stay, "the same within half a per cent")]
    how = ", ".join(f"{count:,} {word}" for count, word in counts if count)
    sure = ""
    if len(plan.price_draws) > 1:
        low, high = (number(total[f"gain_{end}_90"]) for end in ("low", "high"))
        sure = f" The gain lies between {low} and {high} {money} in 90 % of the model's draws."
    kpi = total["kpi_best"] / total["kpi_current"] - 1 if total["kpi_current"] else np.nan
    sales = plan.problem.response.kpi
    sales = sales[:1].upper() + sales[1:]
    return [
        f"Of {_many(len(prices))}: {how}. {sales} would change by {kpi:+.1%}.{sure}",
        "Compared is one price held over the whole window with today's mean price held as long, both by the model.",
    ]


def _many(count: int) -> str:
    return "1 price" if count == 1 else f"{count:,} prices"


def _tiles(plan: PricePlan, total: pd.Series, money: str) -> list[Tile]:
    what = plan.problem.objective
    tiles = [
        Tile(number(total[f"{what}_current"], money), f"{what} at today's prices"),
        Tile(number(total[f"{what}_best"], money), f"{what} at the best prices"),
    ]
    if len(plan.price_draws) > 1:
        tiles.append(Tile(f"{total['probability_better']:.0%}", "chance that it is better"))
    return tiles


def _price_table(prices: pd.DataFrame, objective: str, money: str) -> Table:
    import pandas as pd

    frame = pd.DataFrame(
        {
            "series": prices["series"],
            "price now": prices["price_current"],
            "best price": prices["price_best"],
            "90 % from": prices["price_best_low_90"],
            "to": prices["price_best_high_90"],
            "change": prices["price_change"],
            f"{objective} now": prices[f"{objective}_current"],
            "gain": prices["gain"],
            "chance better": prices["probability_better"],
            "note": prices["note"],
        }
    )
    digits = ",.2f" if prices["price_best"].median() >= 1 else ",.4f"
    formats = dict.fromkeys(("price now", "best price", "90 % from", "to"), digits)
    units = dict.fromkeys(("price now", "best price", "90 % from", "to", f"{objective} now", "gain"), money)
    return Table(
        "",
        frame,
        note="90 %: the range that holds the best price of 90 % of the draws, the other prices being as recommended.",
        formats=formats | {"change": "+.1%", "chance better": ".0%"},
        units=units,
        max_rows=MAX_ROWS,
    )


def _elasticities(prices: pd.DataFrame) -> Table:
    import pandas as pd

    columns = {"series": prices["series"]}
    for name, words in (("current", "now"), ("best", "at the best price")):
        columns[f"elasticity {words}"] = prices[f"elasticity_{name}"]
        columns[f"90 % from ({words})"] = prices[f"elasticity_{name}_low_90"]
        columns[f"to ({words})"] = prices[f"elasticity_{name}_high_90"]
    return Table("", pd.DataFrame(columns), formats={name: ".2f" for name in columns if name != "series"})


def _warnings(plan: PricePlan, prices: pd.DataFrame) -> list[str]:
    said = []
    bound = prices[prices["at_bound"] != ""]
    if len(bound):
        names = ", ".join(bound["series"].head(5)) + (" and others" if len(bound) > 5 else "")
        said.append(
            f"{len(bound):,} of {len(prices):,} prices end at a bound ({names}): the bound decides, not the model."
        )
    beyond = prices[prices["extrapolates"]]
    if len(beyond):
        names = ", ".join(beyond["series"].head(5)) + (" and others" if len(beyond) > 5 else "")
        said.append(f"{len(beyond):,} prices lie outside what the model has seen ({names}): test them before use.")
    loss = prices["note"].str.contains("does not cover").sum()
    if loss:
        said.append(f"{loss:,} series sell below their unit cost today: check decision.unit_cost and the price's unit.")
    if len(plan.price_draws) == 1:
        said.append("The model has one draw, so no interval can be given: see these prices as guesses.")
    if (not plan.joint and "held" in plan.links) or "stopped" in plan.links:
        said.append(plan.links)
    return said


def _how_to_read(plan: PricePlan) -> str:
    problem = plan.problem
    kpi = "units sold" if problem.units else "revenue"
    profit = ""
    if problem.objective == "profit":
        profit = " Profit is revenue less units times unit cost; media and other costs are the same at every price."
    return (
        f"- The KPI was taken as {kpi}.{profit}\n"
        f"- {plan.links}\n"
        "- Bounds are the prices the model has learnt from, widened by decision.beyond, unless decision.bounds says "
        "otherwise. A demand curve learnt from small price moves says little about large ones.\n"
        "- Prices that followed demand in the past (cut when sales were weak) make demand look less sensitive than it "
        "is. The model cannot know; a price test can.\n"
        "- How competitors answer is not in the model."
    )
