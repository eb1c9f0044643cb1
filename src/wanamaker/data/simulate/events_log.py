"""Customers of the simulated log and what they do, piece by piece.

Axis letters: n customers of a piece, E events, A as-of dates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from wanamaker.data.simulate.events_options import (
    AMOUNT,
    DEVICE,
    ID,
    PIECE_CUSTOMERS,
    SINCE,
    TIME,
    TYPE,
    EventSimulation,
)
from wanamaker.data.simulate.events_world import (
    BASKET_OF_LOYALTY,
    GONE,
    NEW,
    NUM_GROUPS,
    NUM_SCRIPTS,
    NUM_STATES,
    RISKS,
    SCRIPTS,
    TYPES,
    is_weekend,
    next_state,
    parts_of,
    script_probability,
)
from wanamaker.data.simulate.media_random import Stream

if TYPE_CHECKING:
    import pyarrow as pa

FIRST_ID = 100_001
PLANS, PLAN_SHARES = ("basic", "plus", "premium"), (0.55, 0.3, 0.15)
REGIONS, REGION_SHARES = ("north", "south", "east", "west"), (0.35, 0.3, 0.2, 0.15)
CHANNELS, CHANNEL_SHARES = ("search", "social", "referral", "shop"), (0.4, 0.3, 0.2, 0.1)
DEVICES = ("web", "app")
AVERAGE_AGE = 42.0
DAY_SECONDS = 86_400


@dataclass(frozen=True)
class Customers:
    """Some customers.

    Attributes:
        id: int64 [n].
        since: int64 [n], day from the start of the log on which they came.
        plan, region, channel: int64 [n], index into the names above.
        age: float64 [n], years; NaN where not known.
        app: float64 [n], share of their events in the app; it tells nothing.
        group: int64 [n], what the traits make of them.
        basket: float64 [n], median amount of a first purchase.
    """

    id: np.ndarray
    since: np.ndarray
    plan: np.ndarray
    region: np.ndarray
    channel: np.ndarray
    age: np.ndarray
    app: np.ndarray
    group: np.ndarray
    basket: np.ndarray


@dataclass(frozen=True)
class Piece:
    """What some customers do.

    Attributes:
        customers: n of them.
        owner: int64 [E], place among the customers; events stand by day, then by customer, then by time.
        second: int64 [E], from the start of the log.
        kind: int64 [E], index into `events_world.TYPES`.
        app: bool [E].
        amount: float64 [E], NaN but for purchases.
        state: int64 [n, A], on the morning of each as-of date; -1 where they had not come before it.
    """

    customers: Customers
    owner: np.ndarray
    second: np.ndarray
    kind: np.ndarray
    app: np.ndarray
    amount: np.ndarray
    state: np.ndarray


class EventLog:
    """All pieces of a log.

    Args:
        options: of the simulation.
    """

    def __init__(self, options: EventSimulation) -> None:
        self.options = options
        probability = script_probability(options)
        self._cumulative = np.cumsum(probability, axis=-1)[..., :-1].reshape(-1, NUM_SCRIPTS - 1)  # [2 * G * S, A - 1]

    def customers(self, number: int) -> Customers:
        """Those of a piece."""
        options, first = self.options, number * PIECE_CUSTOMERS
        count = min(PIECE_CUSTOMERS, options.customers - first)

        def draws(name: str) -> Stream:
            return Stream(options.seed, f"piece/{number}/{name}")

        late = draws("late").uniform(count) >= options.present
        since = np.where(late, draws("since").whole(0, options.days - 1, count), 0)
        plan = _chosen(draws("plan").uniform(count), PLAN_SHARES)
        region = _chosen(draws("region").uniform(count), REGION_SHARES)
        channel = _chosen(draws("channel").uniform(count), CHANNEL_SHARES)
        age = np.clip(np.round(AVERAGE_AGE + 14 * draws("age").normal(count)), 18, 90)
        known = draws("missing").uniform(count) >= options.missing
        acting = np.where(known, age, AVERAGE_AGE)  # an empty cell acts as the average does
        return Customers(
            id=np.arange(FIRST_ID + first, FIRST_ID + first + count),
            since=since,
            plan=plan,
            region=region,
            channel=channel,
            age=np.where(known, age, np.nan),
            app=draws("app").uniform(count),
            group=_group(plan, region, channel, acting),
            basket=options.basket * np.exp(options.traits * _log_basket(plan, region, acting)),
        )

    def piece(self, number: int) -> Piece:
        """Customers `number * PIECE_CUSTOMERS` and after; the same whichever other pieces are made.

        Raises:
            IndexError: there is no such piece.
        """
        options = self.options
        if not 0 <= number < options.num_pieces:
            raise IndexError(f"piece {number} of {options.num_pieces}")
        customers = self.customers(number)
        n, chance = len(customers.id), Stream(options.seed, f"piece/{number}/chance")
        following, snapshots = next_state(), options.snapshots
        morning = np.full((n, len(snapshots)), -1)
        state = np.full(n, NEW)
        days: list[tuple[np.ndarray, ...]] = []
        for day in range(options.days):
            known = customers.since < day
            for a in np.flatnonzero(snapshots == day):
                morning[known, a] = state[known]
            draw = chance.uniform(n)
            there = np.flatnonzero((customers.since <= day) & (state != GONE))
            row = (is_weekend(day, options) * NUM_GROUPS + customers.group[there]) * NUM_STATES + state[there]
            script = (draw[there, None] > self._cumulative[row]).sum(axis=1)
            some = np.flatnonzero(script > 0)
            days.append((np.full(len(some), day), there[some], script[some], state[there[some]]))
            state[there] = following[state[there], script]
        return self._told(number, customers, *map(np.concatenate, zip(*days, strict=True)), morning)

    def _told(
        self,
        number: int,
        customers: Customers,
        day: np.ndarray,
        who: np.ndarray,
        script: np.ndarray,
        state: np.ndarray,
        morning: np.ndarray,
    ) -> Piece:
        """Days with their scripts as single events."""
        options = self.options

        def draws(name: str) -> Stream:
            return Stream(options.seed, f"piece/{number}/{name}")

        length = np.array([len(events) for events in SCRIPTS])[script]
        longest = max(map(len, SCRIPTS))
        codes = np.array(
            [[TYPES.index(kind) for kind in events] + [-1] * (longest - len(events)) for events in SCRIPTS]
        )
        of = np.repeat(np.arange(len(day)), length)
        place = np.arange(len(of)) - np.repeat(np.cumsum(length) - length, length)
        begin = draws("begin").whole(6 * 3600, 22 * 3600, len(day))
        gap = draws("gap").whole(20, 900, len(day))
        second = day[of] * DAY_SECONDS + begin[of] + place * gap[of]
        kind = codes[script[of], place]
        app = (draws("app of day").uniform(len(day)) < customers.app[who])[of]
        bought = np.flatnonzero(kind == TYPES.index("purchase"))
        factor = np.array(BASKET_OF_LOYALTY)[parts_of(state[of[bought]]).loyalty]
        noise = np.exp(options.basket_sd * draws("basket").normal(len(bought)))
        amount = np.full(len(of), np.nan)
        amount[bought] = np.maximum(np.round(customers.basket[who[of[bought]]] * factor * noise, 2), 0.01)
        return Piece(customers, who[of], second, kind, app, amount, morning)


def _chosen(draw: np.ndarray, shares: tuple[float, ...]) -> np.ndarray:
    return np.searchsorted(np.cumsum(shares)[:-1], draw)


def _group(plan: np.ndarray, region: np.ndarray, channel: np.ndarray, age: np.ndarray) -> np.ndarray:
    """0..G-1. Neither activity nor risk is a sum of what the traits say one by one."""
    liveliness = np.array([0.0, 0.5, 1.0])[plan] - ((age - 35) / 20) ** 2 + np.array([0.0, 0.6, 0.3, -0.5])[channel]
    activity = np.searchsorted([-0.8, 0.1, 0.7], liveliness)
    unrest = np.array([0.6, 0.0, -0.6])[plan] + np.array([0.0, 0.7, -0.7, 0.2])[channel] + np.where(age < 30, 0.5, 0.0)
    unrest += np.where((region == 2) & (plan == 2), 1.5, 0.0)
    return activity * RISKS + np.searchsorted([-0.1, 0.8], unrest)


def _log_basket(plan: np.ndarray, region: np.ndarray, age: np.ndarray) -> np.ndarray:
    return np.array([-0.2, 0.2, 0.6])[plan] + np.array([0.1, -0.1, 0.0, 0.2])[region] + 0.012 * (age - AVERAGE_AGE)


def events_table(piece: Piece, options: EventSimulation, order: np.ndarray | slice = slice(None)) -> pa.Table:
    """Events as a file has them: customer, time, type, device, amount.

    Args:
        piece: of the log.
        options: of the simulation.
        order: places of the events that are wanted.
    """
    import pyarrow as pa

    time = options.first_day.astype("datetime64[s]") + piece.second[order].astype("timedelta64[s]")
    return pa.table(
        {
            ID: piece.customers.id[piece.owner[order]],
            TIME: pa.array(time),
            TYPE: _words(piece.kind[order], TYPES),
            DEVICE: _words(piece.app[order].astype(np.int64), DEVICES),
            AMOUNT: pa.array(piece.amount[order], from_pandas=True),  # NaN becomes an empty cell
        }
    )


def customers_table(customers: Customers, options: EventSimulation) -> pa.Table:
    """What is known of customers before any event."""
    import pyarrow as pa

    return pa.table(
        {
            ID: customers.id,
            SINCE: pa.array(options.first_day + customers.since.astype("timedelta64[D]")),
            "plan": _words(customers.plan, PLANS),
            "region": _words(customers.region, REGIONS),
            "channel": _words(customers.channel, CHANNELS),
            "age": pa.array(customers.age, from_pandas=True),
        }
    )


def _words(codes: np.ndarray, names: tuple[str, ...]) -> pa.Array:
    import pyarrow as pa

    return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32)), pa.array(names)).dictionary_decode()
