"""A scenario applied to a window of the data: money, organic media, prices and promotions as they would be.

Axis letters: G series, H periods of the window, C channels, D drivers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wanamaker.decisions.price_links import PriceLink, follow, has_cross_prices
from wanamaker.decisions.response import PlanWindow
from wanamaker.decisions.scenario_changes import Change, Scenario
from wanamaker.errors import UserError
from wanamaker.predictions.mix import MixResponse

EXTRAPOLATES = "Extrapolates:"
"""How a note about the limits of the data begins."""


@dataclass(frozen=True)
class Plan:
    """What a scenario does to a window.

    Attributes:
        spend: float64 [G, H, C], money; 0 for organic channels.
        organic: float64 [G, H, C], media units of organic channels; the window's fixed media elsewhere.
        driver: float64 [G, H, D], units of the file.
        frequency: float64 [G, L - 1 + P, C], contacts per person, as the window has it; None without.
        notes: what the reader must know: changes that touch nothing.
    """

    spend: np.ndarray
    organic: np.ndarray
    driver: np.ndarray
    frequency: np.ndarray | None
    notes: tuple[str, ...]


def apply(scenario: Scenario, window: PlanWindow, response: MixResponse, links: list[PriceLink] | None = None) -> Plan:
    """The window under a scenario; changes are made in the order written.

    Args:
        scenario: of `scenario_changes.read_scenario`.
        window: of `response.plan_window`.
        response: the curves.
        links: of `price_links.price_links`: cross prices that follow the own prices of other series.

    Raises:
        UserError: dates outside the window, spend below 0, or a price that is not above 0.
    """
    spend, organic, driver = window.spend.copy(), window.fixed_media.copy(), window.driver.copy()
    frequency = None if window.frequency is None else window.frequency.copy()
    before_window = window.history.shape[1]
    notes: list[str] = []
    for change in scenario.changes:
        cells = _cells(change, window, len(response.series))
        if change.kind == "media":
            for c in change.numbers:
                amounts = spend[:, :, c] if response.paid[c] else organic[:, :, c]
                before = amounts[cells]
                amounts[cells] = _after(change, before)
                _check_media(change, amounts, c, window, response)
                if change.operation == "times" and not before.any():
                    notes.append(f"{response.channels[c]} was not used in these periods: a multiple changes nothing.")
                if response.paid[c] and (cells & (amounts > 0) & (window.media_per_money[:, :, c] == 0)).any():
                    name = response.channels[c]
                    notes.append(f"What {name} costs is not known in all series: money buys nothing there.")
        elif change.kind == "frequency":
            for c in change.numbers:
                times = frequency[:, before_window : before_window + window.num_periods, c]
                times[cells] = _after(change, times[cells])
                _check_frequency(change, times, window, response)
                notes += _frequency_notes(times[cells], window, c, response)
        else:
            series = np.arange(len(response.series))
            pairs = [np.full(len(series), d) for d in change.numbers] or [response.own_price]
            for numbers in pairs:
                mine = cells & (numbers >= 0)[:, None]
                if not mine.any():
                    notes.append(f"{change.name}: none of the chosen series has a price of its own.")
                values = np.take_along_axis(driver, np.maximum(numbers, 0)[:, None, None], axis=2)[:, :, 0]
                values[mine] = _after(change, values[mine])
                _check_driver(change, values, mine, numbers, window, response)
                for g in series[numbers >= 0]:
                    driver[g, :, numbers[g]] = values[g]
    if scenario.moves_own_price(response):
        driver, moved = follow(links or [], response.own_price, window.driver, driver)
        if moved:
            notes.append(f"{moved} cross prices that consist of the changed prices moved with them.")
        elif has_cross_prices(response):
            notes.append("Cross prices were held fixed: none could be recognised as a price of another series here.")

    def moved_driver(d: int) -> bool:
        return not np.array_equal(driver[:, :, d], window.driver[:, :, d], equal_nan=True)

    promoted = [n for d, n in enumerate(response.drivers) if response.driver_kind[d] == "promotion" and moved_driver(d)]
    if promoted:
        notes.append(f"What {', '.join(promoted)} costs is not in the panel and not deducted.")
    notes += _beyond(window, response, spend, organic, driver)
    return Plan(spend, organic, driver, frequency, tuple(dict.fromkeys(notes)))


def _cells(change: Change, window: PlanWindow, num_series: int) -> np.ndarray:
    """Mask [G, H] of what a change touches."""
    dates = window.dates
    step = dates[1] - dates[0] if len(dates) > 1 else np.timedelta64(1, "D")
    for key, day in (("start", change.start), ("end", change.end)):
        if day is not None and not dates[0] <= day < dates[-1] + step:
            raise UserError(
                f"{change.place}: {key}={day} lies outside the window, {dates[0]} to {dates[-1]}. Choose a day in it, "
                "or another window (decision.start, decision.end)."
            )
    # A period counts when any of its days does.
    following = np.append(dates[1:], dates[-1] + step)
    when = np.ones(len(dates), bool)
    when &= following > change.start if change.start is not None else True
    when &= dates <= change.end if change.end is not None else True
    who = np.ones(num_series, bool)
    if change.series is not None:
        who[:] = False
        who[list(change.series)] = True
    return who[:, None] & when


def _after(change: Change, before: np.ndarray) -> np.ndarray:
    if change.operation == "times":
        return before * change.amount
    if change.operation == "add":
        return before + change.amount
    if change.operation == "set":
        return np.full_like(before, change.amount)
    total = before.sum()
    return before * (change.amount / total) if total > 0 else np.full_like(before, change.amount / before.size)


def _check_media(change: Change, amounts: np.ndarray, c: int, window: PlanWindow, response: MixResponse) -> None:
    if (amounts < 0).any():
        g, h = np.unravel_index(np.argmin(amounts), amounts.shape)
        unit = response.money_unit if response.paid[c] else "media units"
        raise UserError(
            f"{change.place}: {change.said} makes {response.channels[c]} {amounts[g, h]:,.6g} {unit} for series "
            f"{response.series[g]!r} on {window.dates[h]}; it cannot fall below 0. Use times, or limit the dates."
        )


def _check_frequency(change: Change, times: np.ndarray, window: PlanWindow, response: MixResponse) -> None:
    if (times < 1).any() and change.operation != "times":
        raise UserError(
            f"{change.place}: {change.said} makes the frequency {times.min():g}: a person who is reached at all is "
            "reached once. Give 1 or more."
        )
    if (times <= 0).any():
        raise UserError(f"{change.place}: {change.said} leaves no contact per person. Give a multiple above 0.")


def _frequency_notes(times: np.ndarray, window: PlanWindow, c: int, response: MixResponse) -> list[str]:
    """Frequencies that the window's own periods, and those before it, do not have."""
    seen = window.frequency[:, : window.history.shape[1] + window.num_periods, c]
    low, high = float(seen.min()), float(seen.max())
    if times.size and (times.max() > high * (1 + 1e-6) or times.min() < low * (1 - 1e-6)):
        name = response.channels[c]
        return [f"{EXTRAPOLATES} {name} at a frequency outside {low:.1f} to {high:.1f}, which the window has."]
    return []


def _check_driver(
    change: Change,
    values: np.ndarray,
    mine: np.ndarray,
    numbers: np.ndarray,
    window: PlanWindow,
    response: MixResponse,
) -> None:
    price = np.array([number >= 0 and response.driver_kind[number] == "price" for number in numbers])
    wrong = mine & price[:, None] & (values <= 0)
    if wrong.any():
        g, h = np.argwhere(wrong)[0]
        raise UserError(
            f"{change.place}: {change.said} makes {response.drivers[numbers[g]]} {values[g, h]:,.6g} for series "
            f"{response.series[g]!r} on {window.dates[h]}; a price must stay above 0. Use times or a smaller change."
        )


def _beyond(
    window: PlanWindow, response: MixResponse, spend: np.ndarray, organic: np.ndarray, driver: np.ndarray
) -> list[str]:
    """What a plan asks of the curves that the training never saw, in one sentence."""
    said = []
    media = spend * window.media_per_money + organic
    before = window.spend * window.media_per_money + window.fixed_media
    changed = ~np.isclose(media, before, rtol=1e-9, atol=0)
    for c, name in enumerate(response.channels):
        top = np.broadcast_to(response.media_max[:, None, c], media.shape[:2])
        out = changed[:, :, c] & (media[:, :, c] > top * (1 + 1e-6))
        if out.any():
            most = (media[:, :, c][out] / np.where(top[out] > 0, top[out], np.nan)).max()
            how = f", up to {most:.1f} times it" if np.isfinite(most) else ""
            said.append(f"{name} above the most seen in training in {_share(out)} of the periods{how}")
    for d, name in enumerate(response.drivers):
        values = driver[:, :, d]
        low, high = response.driver_min[:, None, d], response.driver_max[:, None, d]
        slack = 1e-6 * np.maximum(np.abs(low), np.abs(high))
        moved = ~np.isclose(values, window.driver[:, :, d], rtol=1e-9, atol=0, equal_nan=True)
        out = moved & ((values < low - slack) | (values > high + slack))
        if out.any():
            said.append(f"{name} outside the range seen in training in {_share(out)} of the periods")
    return [f"{EXTRAPOLATES} {'; '.join(said)}."] if said else []


def _share(cells: np.ndarray) -> str:
    share = cells.mean()
    return f"{100 * share:.0f} %" if share >= 0.005 else "less than 1 %"
