"""What would happen: scenarios on media, prices and promotions against the model's own prediction of the baseline.

The baseline is what the model says of the window as it was, never the sales that were observed: the difference between
the two is the model's error, not an effect. A scenario that changes nothing differs from it by exactly 0. Differences
count the periods after the window into which its media carry over. Money out is spend, money in is the KPI times what
a unit is worth: `kpi_value`, or, where units are counted and a scenario moves their price, that price less unit cost.

Intervals are over draws of the curves; noise of single periods is in neither side. Axis letters: S draws, G series,
H periods of the window, P periods with the tail after it, C channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from wanamaker.decisions.decomposition import nearest_index
from wanamaker.decisions.intervals import interval_columns, probability_above, ratio
from wanamaker.decisions.kpi_money import check_kpi_is, kpi_kind, mean_own_price, unit_costs
from wanamaker.decisions.media_return import by_draws
from wanamaker.decisions.price_links import price_links
from wanamaker.decisions.response import PlanWindow, ResponseSurface, driver_parts, plan_window
from wanamaker.decisions.scenario_changes import MissingName, Scenario, known_names, read_scenario
from wanamaker.decisions.scenario_plan import EXTRAPOLATES, Plan, apply
from wanamaker.errors import UserError
from wanamaker.predictions.mix import MixPredictions, MixResponse

if TYPE_CHECKING:
    import pandas as pd

BASELINE = "baseline"


@dataclass(frozen=True)
class Outcome:
    """One scenario computed.

    Attributes:
        scenario: what was asked.
        plan: what it does to the window.
        kpi: float64 [S, G], KPI of the window.
        change: float64 [S, G], KPI more than in the baseline, window and tail.
        change_after: float64 [S, G], the part of it after the window.
        period_change: float64 [S, P], all series.
        value_change: float64 [S, G], money more than in the baseline, before spend.
    """

    scenario: Scenario
    plan: Plan
    kpi: np.ndarray
    change: np.ndarray
    change_after: np.ndarray
    period_change: np.ndarray
    value_change: np.ndarray

    def profit_change(self, window: PlanWindow) -> np.ndarray:
        """[S, G]: value more, less spend more."""
        return self.value_change - (self.plan.spend - window.spend).sum(axis=(1, 2))


@dataclass(frozen=True)
class ScenarioResults:
    """Several scenarios over one window.

    Attributes:
        window: the periods, at each period's own media cost.
        response: names and units.
        kpi: float64 [S, G], the baseline's KPI of the window.
        period_kpi: float64 [S, H], of all series.
        value: float64 [S, G], the baseline's money of the window, before spend.
        unit_value: in words, what a unit of the KPI is worth.
        by_price: whether that is its own price, because prices change and units are counted.
        outcomes: in the order given.
        left_out: preset and reason, for presets that do not fit the panel.
    """

    window: PlanWindow
    response: MixResponse
    kpi: np.ndarray
    period_kpi: np.ndarray
    value: np.ndarray
    unit_value: str
    by_price: bool
    outcomes: tuple[Outcome, ...]
    left_out: tuple[tuple[str, str], ...]

    def to_frame(self) -> pd.DataFrame:
        """One row per scenario.

        Columns: scenario; kpi_baseline; kpi_change, kpi_change_share (of the baseline), value_change, profit_change and
        return_on_change (value change / spend change) with intervals; kpi_change_after (the part after the window);
        spend_baseline, spend, spend_change; value_baseline, profit_baseline; probability_better (of more profit);
        extrapolates; changes and notes in words.
        """
        import pandas as pd

        spend = self.window.spend.sum()
        base_kpi, base_value = self.kpi.sum(axis=1), self.value.sum(axis=1)
        rows = []
        for outcome in self.outcomes:
            kpi, value = outcome.change.sum(axis=1), outcome.value_change.sum(axis=1)
            profit = outcome.profit_change(self.window).sum(axis=1)
            extra = float(outcome.plan.spend.sum() - spend)
            row: dict[str, Any] = {"scenario": outcome.scenario.name, "kpi_baseline": base_kpi.mean()}
            row |= interval_columns("kpi_change", kpi)
            row |= interval_columns("kpi_change_share", ratio(kpi, base_kpi))
            row["kpi_change_after"] = outcome.change_after.sum(axis=1).mean()
            row |= {"spend_baseline": spend, "spend": spend + extra, "spend_change": extra}
            row["value_baseline"] = base_value.mean()
            row |= interval_columns("value_change", value)
            row["profit_baseline"] = base_value.mean() - spend
            row |= interval_columns("profit_change", profit)
            row |= interval_columns("return_on_change", ratio(value, np.full_like(value, extra)))
            row["probability_better"] = float(probability_above(profit))
            row["extrapolates"] = any(note.startswith(EXTRAPOLATES) for note in outcome.plan.notes)
            row["changes"] = "; ".join(said(outcome.scenario)) or "nothing"
            row["notes"] = " ".join(outcome.plan.notes)
            rows.append({k: float(v) if isinstance(v, np.ndarray | np.floating) else v for k, v in row.items()})
        return pd.DataFrame(rows)

    def by_series(self) -> pd.DataFrame:
        """One row per scenario and series: kpi_baseline, kpi_change, value_change, profit_change with intervals."""
        import pandas as pd

        frames = []
        for outcome in self.outcomes:
            columns: dict[str, Any] = {"scenario": outcome.scenario.name, "series": list(self.response.series)}
            columns["kpi_baseline"] = self.kpi.mean(axis=0)
            columns |= interval_columns("kpi_change", outcome.change)
            columns["spend_change"] = (outcome.plan.spend - self.window.spend).sum(axis=(1, 2))
            columns |= interval_columns("value_change", outcome.value_change)
            columns |= interval_columns("profit_change", outcome.profit_change(self.window))
            frames.append(pd.DataFrame(columns))
        return pd.concat(frames, ignore_index=True)

    def by_period(self) -> pd.DataFrame:
        """One row per scenario and period, all series: kpi_baseline, kpi_change with intervals.

        The tail after the window has no baseline of its own (its KPI lies outside the question): NaN.
        """
        import pandas as pd

        dates = _with_tail(self.window)
        base = np.full(len(dates), np.nan)
        base[: self.window.num_periods] = self.period_kpi.mean(axis=0)
        frames = []
        for outcome in self.outcomes:
            columns: dict[str, Any] = {"scenario": outcome.scenario.name, "date": dates.astype("datetime64[s]")}
            columns["after_window"] = np.arange(len(dates)) >= self.window.num_periods
            columns |= {"kpi_baseline": base, **interval_columns("kpi_change", outcome.period_change)}
            frames.append(pd.DataFrame(columns))
        return pd.concat(frames, ignore_index=True)

    def by_input(self) -> pd.DataFrame:
        """What each scenario changes: one row per scenario and channel, price or promotion that differs.

        Columns: scenario, input, kind, unit, baseline and scenario (spend in total; means of the others).
        """
        import pandas as pd

        rows, money = [], self.response.money_unit
        for outcome in self.outcomes:
            plan, name = outcome.plan, outcome.scenario.name
            for c, channel in enumerate(self.response.channels):
                paid = bool(self.response.paid[c])
                before, after = (self.window.spend, plan.spend) if paid else (self.window.fixed_media, plan.organic)
                if (before[:, :, c] != after[:, :, c]).any():
                    unit = f"{money} in total" if paid else "media units in total"
                    rows.append((name, channel, "media", unit, before[:, :, c].sum(), after[:, :, c].sum()))
                if plan.frequency is not None:
                    inside = slice(self.window.history.shape[1], self.window.history.shape[1] + len(self.window.dates))
                    before, after = (x[:, inside, c] for x in (self.window.frequency, plan.frequency))
                    if (before != after).any():
                        row = (name, channel, "frequency", "contacts per person, mean", before.mean(), after.mean())
                        rows.append(row)
            for d, driver in enumerate(self.response.drivers):
                before, after = self.window.driver[:, :, d], plan.driver[:, :, d]
                if not np.array_equal(before, after, equal_nan=True):
                    kind = self.response.driver_kind[d]
                    unit = f"{money}, mean" if kind == "price" else "mean"
                    rows.append((name, driver, kind, unit, np.nanmean(before), np.nanmean(after)))
        return pd.DataFrame(rows, columns=["scenario", "input", "kind", "unit", "baseline", "with_scenario"])


def said(scenario: Scenario) -> list[str]:
    """What a scenario changes, in words."""
    own = {True: "own price"}
    return [f"{own.get(c.kind == 'driver' and not c.numbers, c.name)} {c.said}" for c in scenario.changes]


def compare_scenarios(
    predictions: MixPredictions,
    scenarios: Mapping[str, Any],
    *,
    presets: Mapping[str, Any] | None = None,
    use_presets: str | Sequence[str] = "all",
    names: Mapping[str, str | Sequence[str]] | None = None,
    start: Any = None,
    end: Any = None,
    periods: int | None = None,
    kpi_is: str | None = None,
    unit_cost: Any = 0.0,
) -> ScenarioResults:
    """Compute scenarios over one window.

    Args:
        predictions: of every row of a panel.
        scenarios: name to changes, as `scenario_changes` describes.
        presets: a library of further scenarios.
        use_presets: which of them: "all" takes those that fit the panel and says why others do not; "none"; or names,
            which must then fit.
        names: from a name used in scenarios or presets to the panel's.
        start, end, periods: the window, as in `response.plan_window`; a year by default.
        kpi_is: "units" or "revenue"; only needed where an own price changes, and None tells by the KPI's unit.
        unit_cost: where units are counted and prices change: cost of a unit, as in `kpi_money.unit_costs`.

    Raises:
        UserError: a scenario that cannot be understood or done, nothing to compute, or a window the data do not have.
    """
    response = predictions.response
    check_kpi_is(kpi_is)
    for name, targets in (names or {}).items():
        if not targets or not isinstance(targets, str | list | tuple):
            raise UserError(f"decision.names.{name}={targets!r}: give the panel's name for it, or a list of names.")
        known_names((targets,) if isinstance(targets, str) else targets, response, f"decision.names.{name}")
    asked, left_out = _asked(scenarios, presets or {}, use_presets, names, response)
    window = plan_window(predictions, periods, start=start, end=end, cost="period")
    moving = [scenario.name for scenario in asked if scenario.moves_own_price(response)]
    try:
        by_price = bool(moving) and _worth_by_price(response, kpi_is)
    except UserError as error:
        rest = [scenario for scenario in asked if scenario.name not in moving]
        if use_presets != "all" or set(moving) & set(scenarios) or all(scenario.empty for scenario in rest):
            raise
        # Nobody asked for these presets by name: they do not stand in the way of what was asked.
        left_out += [(name, str(error)) for name in moving]
        asked, moving, by_price = rest, [], False
    moves_price = bool(moving)
    links = price_links(predictions) if moves_price else []
    plans = [apply(scenario, window, response, links) for scenario in asked]
    before = _unit_values(window, window.driver, response, unit_cost, by_price)
    after = [_unit_values(window, plan.driver, response, unit_cost, by_price) for plan in plans]
    base: dict[str, list[np.ndarray]] = {"kpi": [], "period_kpi": [], "value": []}
    changed: list[dict[str, list[np.ndarray]]] = [
        {"kpi": [], "change": [], "change_after": [], "period_change": [], "value_change": []} for _ in asked
    ]
    H = window.num_periods
    for part, few in by_draws(response, window):
        eta = ResponseSurface(part, few).eta(few.spend)
        kpi = _mean(eta, response.link)
        base["kpi"].append(kpi[:, :, :H].sum(axis=2))
        base["period_kpi"].append(kpi[:, :, :H].sum(axis=1))
        base["value"].append((kpi * before)[:, :, :H].sum(axis=2))
        for plan, worth, out in zip(plans, after, changed, strict=True):
            new = _mean(_eta(part, few, plan, eta), response.link)
            difference = new - kpi
            out["kpi"].append(new[:, :, :H].sum(axis=2))
            out["change"].append(difference.sum(axis=2))
            out["change_after"].append(difference[:, :, H:].sum(axis=2))
            out["period_change"].append(difference.sum(axis=1))
            # new * worth - kpi * before, written so that what does not change cancels exactly
            out["value_change"].append((difference * worth + kpi * (worth - before)).sum(axis=2))
    return ScenarioResults(
        window,
        response,
        **{name: np.concatenate(draws) for name, draws in base.items()},
        unit_value=_value_words(response, unit_cost, by_price),
        by_price=by_price,
        outcomes=tuple(
            Outcome(scenario, plan, **{name: np.concatenate(draws) for name, draws in out.items()})
            for scenario, plan, out in zip(asked, plans, changed, strict=True)
        ),
        left_out=tuple(left_out),
    )


def _worth_by_price(response: MixResponse, kpi_is: str | None) -> bool:
    """Whether units of the KPI are worth their price, once prices change."""
    if kpi_kind(response, kpi_is) != "units":
        return False
    if response.price_unit != response.money_unit:
        raise UserError(
            f"A price changes and the KPI counts units: they are then worth their price, which is in "
            f"{response.price_unit}, while spend is in {response.money_unit}. Give both in one unit (roles.price_unit, "
            "roles.money_unit), or say decision.kpi_is=revenue."
        )
    return True


def _asked(
    scenarios: Mapping[str, Any],
    presets: Mapping[str, Any],
    use_presets: str | Sequence[str],
    names: Mapping[str, Any] | None,
    response: MixResponse,
) -> tuple[list[Scenario], list[tuple[str, str]]]:
    strict = not isinstance(use_presets, str) or use_presets not in ("all", "none")
    if strict:
        wanted = [use_presets] if isinstance(use_presets, str) else [str(name) for name in use_presets]
        for name in wanted:
            nearest_index(name, presets, "preset", "decision.use_presets")
    else:
        wanted = list(presets) if use_presets == "all" else []
    found, left_out = [], []
    for name in wanted:
        if name in scenarios:
            continue  # the user's own scenario of that name takes its place
        try:
            found.append(read_scenario(name, presets[name] or {}, response, names=names or {}, allow_empty=True))
        except MissingName as error:
            if strict:
                raise
            left_out.append((name, str(error).removeprefix(f"scenario {name}: ")))
    found += [
        read_scenario(str(name), words, response, names=names, allow_empty=name == BASELINE)
        for name, words in scenarios.items()
    ]
    if any(scenario.name == BASELINE and not scenario.empty for scenario in found):
        raise UserError(
            f"decision.scenarios.{BASELINE} changes something, but is the name of what all others are compared with: "
            "call it something else."
        )
    if not any(not scenario.empty for scenario in found):
        why = (
            " Presets that do not fit this panel: " + " ".join(f"{name}: {reason}" for name, reason in left_out)
            if left_out
            else ""
        )
        raise UserError(
            "There is no scenario to compute: add one, such as "
            f"'decision.scenarios.more={{media: {{{response.channels[0] if response.channels else 'TV'}: "
            f"{{times: 1.2}}}}}}'.{why}"
        )
    return found, left_out


def _eta(response: MixResponse, window: PlanWindow, plan: Plan, current: np.ndarray) -> np.ndarray:
    """Linear predictor [S, G, P] under a plan."""
    eta = current
    same = np.array_equal(plan.spend, window.spend) and np.array_equal(plan.organic, window.fixed_media)
    if not same or (plan.frequency is not None and not np.array_equal(plan.frequency, window.frequency)):
        changed = replace(window, fixed_media=plan.organic, frequency=plan.frequency)
        eta = ResponseSurface(response, changed).eta(plan.spend)
    if not np.array_equal(plan.driver, window.driver, equal_nan=True):
        # Where a price was not known the model has put something in its place: no change can be told there.
        known = np.isfinite(window.driver)
        reference = np.broadcast_to(response.driver_reference[:, None], window.driver.shape)
        new, old = (driver_parts(response, np.where(known, v, reference)) for v in (plan.driver, window.driver))
        eta = eta.copy()
        eta[:, :, : window.num_periods] += (new - old).sum(axis=-1)
    return eta


def _mean(eta: np.ndarray, link: str) -> np.ndarray:
    return np.exp(eta) if link == "log" else eta


def _unit_values(
    window: PlanWindow, driver: np.ndarray, response: MixResponse, unit_cost: Any, by_price: bool
) -> np.ndarray:
    """Money per unit of the KPI, [G, P]; after the window as it was on average in the window."""
    G, P = window.base.shape[1:]
    values = np.full((G, P), response.kpi_value)
    if not by_price:
        return values
    own = np.maximum(response.own_price, 0)
    has = response.own_price >= 0

    usual = mean_own_price(window.driver, response)
    cost = unit_costs(unit_cost, response, usual)
    price = np.take_along_axis(driver, own[:, None, None], axis=2)[:, :, 0]
    price = np.where(np.isfinite(price), price, usual[:, None])
    H = window.num_periods
    values[has, :H] = price[has] - cost[has, None]
    values[has, H:] = (usual - cost)[has, None]
    return values


def _value_words(response: MixResponse, unit_cost: Any, by_price: bool) -> str:
    if by_price:
        free = isinstance(unit_cost, int | float) and unit_cost == 0
        less = " (no unit cost was given, so this is revenue)" if free else " less its unit cost"
        return f"its own price in {response.money_unit}{less}"
    return f"{response.kpi_value:,.6g} {response.money_unit}"


def _with_tail(window: PlanWindow) -> np.ndarray:
    """Dates [P] of the window and of the periods after it."""
    dates = window.dates
    step = int((dates[1] - dates[0]) / np.timedelta64(1, "D")) if len(dates) > 1 else 7
    after = np.arange(1, window.base.shape[2] - len(dates) + 1)
    if step >= 28:  # months, quarters and years are not all equally long
        months = dates[-1].astype("datetime64[M]") + after * round(step / 30.4)
        tail = months.astype("datetime64[D]") + (dates[-1] - dates[-1].astype("datetime64[M]"))
    else:
        tail = dates[-1] + np.timedelta64(step, "D") * after
    return np.concatenate([dates, tail])
