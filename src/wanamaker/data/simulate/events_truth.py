"""What is true of simulated customers on an as-of date: beside the log and never in it.

Given the state and the group of a customer the future is a Markov chain (see `events_world`), so that probabilities
and expectations over any number of days follow by going back from the last day: exactly, for all states at once.

`truth.parquet` has a row for every customer who had come by an as-of date: `customer`, `as_of`, `cancelled` (before
it), the state and group as numbers, `basket` (expected amount of a first purchase), and what is asked most often.

Axis letters: G groups, S states, A scripts, n customers asked for, D edges.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wanamaker.data.simulate.events_log import DAY_SECONDS, Piece
from wanamaker.data.simulate.events_options import ID, MAX_DAYS, VERSION, EventSimulation
from wanamaker.data.simulate.events_world import (
    BASKET_OF_LOYALTY,
    GONE,
    NUM_STATES,
    TYPES,
    counts_of_types,
    is_weekend,
    next_state,
    parts_of,
    script_probability,
)
from wanamaker.data.simulate.media_fields import restored
from wanamaker.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

TRUTH, SUMMARY = "truth.parquet", "truth.json"
CANCEL_DAYS, PURCHASE_DAYS, SPEND_DAYS = (30, 60, 90), 30, 90


class Outlook:
    """What states and groups can expect.

    Args:
        options: of the simulation.
    """

    def __init__(self, options: EventSimulation) -> None:
        self.options = options
        self._probability = script_probability(options)  # [2, G, S, A]
        self._known: dict[tuple[Any, ...], np.ndarray] = {}
        self._matrices: dict[tuple[float, ...], tuple[Any, Any]] = {}

    def happens(self, events: Sequence[str], first_day: int, days: int) -> np.ndarray:
        """Probability that one of some events happens at least once, float64 [G, S].

        Args:
            events: types; none of them: any event.
            first_day: day from the start of the log on whose morning the state is known.
            days: that are looked at, that one included.
        """
        hit = (self._counts(events) > 0).astype(np.float64)  # [A]
        return self._back(("happens", *events), first_day, days, np.tile(hit, (NUM_STATES, 1)), hit)

    def count(self, events: Sequence[str], first_day: int, days: int) -> np.ndarray:
        """Expected number of some events, float64 [G, S]; arguments as `happens`."""
        counts = self._counts(events)
        return self._back(("count", *events), first_day, days, np.tile(counts, (NUM_STATES, 1)), 0.0 * counts)

    def baskets(self, first_day: int, days: int) -> np.ndarray:
        """Expected spend, in units of the expected amount of a first purchase, float64 [G, S]."""
        factor = np.array(BASKET_OF_LOYALTY)[parts_of(np.arange(NUM_STATES)).loyalty]  # [S]
        counts = self._counts(("purchase",))
        return self._back(("baskets",), first_day, days, factor[:, None] * counts, 0.0 * counts)

    def _counts(self, events: Sequence[str]) -> np.ndarray:
        wanted = [TYPES.index(kind) for kind in events] if events else slice(None)
        return counts_of_types()[:, wanted].sum(axis=1).astype(np.float64)

    def _back(self, what: tuple[str, ...], first_day: int, days: int, gain: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """Sum of gains [S, A] over the days; scripts that end (1 in `ends` [A]) are the last to gain."""
        phase = first_day % 7
        if (key := (*what, phase, days)) not in self._known:
            chance = self._probability
            gained = np.einsum("wgsa,sa->wgs", chance, gain).reshape(len(chance), -1)  # [2, G * S]
            step = self._steps(tuple(ends))
            value = np.zeros(gained.shape[1])
            for day in range(phase + days - 1, phase - 1, -1):
                kind = int(is_weekend(day, self.options))
                value = gained[kind] + step[kind] @ value
            self._known[key] = value.reshape(chance.shape[1:3])
        return self._known[key]

    def _steps(self, ends: tuple[float, ...]) -> tuple[Any, Any]:
        """Probabilities from state to state of the scripts that do not end, sparse [G * S, G * S], by `is_weekend`."""
        if ends not in self._matrices:
            from scipy.sparse import csr_array

            _, G, S, A = self._probability.shape
            target = (np.arange(G)[:, None, None] * S + next_state()).ravel()
            source = np.repeat(np.arange(G * S), A)
            going = self._probability * (1.0 - np.array(ends))
            made = (csr_array((chance.ravel(), (source, target)), shape=(G * S, G * S)) for chance in going)
            self._matrices[ends] = tuple(made)
            for matrix in self._matrices[ends]:
                matrix.eliminate_zeros()
        return self._matrices[ends]


@dataclass(frozen=True)
class Standing:
    """Where customers stood on as-of dates, [n] each.

    Attributes:
        day: int64, as-of date as days from the start of the log.
        group, state: int64; see `events_world`.
        basket: float64, expected amount of a first purchase.
    """

    day: np.ndarray
    group: np.ndarray
    state: np.ndarray
    basket: np.ndarray

    def look_up(self, table: Any) -> np.ndarray:
        """Values of a function of the first day that returns [G, S], float64 [n]."""
        found = np.empty(len(self.day))
        for day in np.unique(self.day):
            rows = self.day == day
            found[rows] = table(int(day))[self.group[rows], self.state[rows]]
        return found


def standing_of(piece: Piece, options: EventSimulation) -> tuple[np.ndarray, Standing]:
    """Customers who had come by each as-of date (places in the piece), and where they stood."""
    who, snapshot = np.nonzero(piece.state >= 0)
    customers = piece.customers
    basket = customers.basket[who] * np.exp(options.basket_sd**2 / 2)
    return who, Standing(options.snapshots[snapshot], customers.group[who], piece.state[who, snapshot], basket)


def truth_table(piece: Piece, outlook: Outlook) -> pa.Table:
    """The rows of a piece in truth.parquet."""
    import pyarrow as pa

    options = outlook.options
    who, at = standing_of(piece, options)
    columns: dict[str, Any] = {
        ID: piece.customers.id[who],
        "as_of": pa.array(options.first_day + at.day.astype("timedelta64[D]")),
        "cancelled": at.state == GONE,
        "state": at.state.astype(np.int16),
        "group": at.group.astype(np.int8),
        "basket": at.basket,
    }
    for days in CANCEL_DAYS:
        columns[f"probability of cancel in {days} days"] = at.look_up(
            lambda day, days=days: outlook.happens(("cancel",), day, days)
        )
    columns[f"probability of purchase in {PURCHASE_DAYS} days"] = at.look_up(
        lambda day: outlook.happens(("purchase",), day, PURCHASE_DAYS)
    )
    columns[f"expected spend in {SPEND_DAYS} days"] = at.basket * at.look_up(
        lambda day: outlook.baskets(day, SPEND_DAYS)
    )
    return pa.table(columns)


def write_summary(folder: Path, options: EventSimulation, events: int, snapshots: list[dict[str, Any]]) -> None:
    """Write truth.json: options, and the averages of every as-of date."""
    content = {"version": VERSION, "options": asdict(options), "events": events, "as_of": snapshots}
    (folder / SUMMARY).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


class EventTruth:
    """The truth of a simulated log, read from its files.

    Args:
        folder: where they lie.

    Attributes:
        options: of the simulation.
        outlook: what states and groups can expect over any number of days.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        content = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
        self.options = restored(EventSimulation, content["options"])
        self.outlook = Outlook(self.options)

    def standing(self, identifiers: np.ndarray, moments: np.ndarray) -> Standing:
        """Where customers stood.

        Args:
            identifiers: int64 [n].
            moments: datetime64 [n], midnight of as-of dates of the simulation.

        Raises:
            UserError: an as-of date without a truth, or a customer who had not come by then.
        """
        when = np.asarray(moments).astype("datetime64[s]")
        second = (when - self.options.first_day.astype("datetime64[s]")).astype(np.int64)
        day, midnight = second // DAY_SECONDS, second % DAY_SECONDS == 0
        order, known = self._keys
        key = np.asarray(identifiers, np.int64) * MAX_DAYS + day
        place = order[np.minimum(np.searchsorted(known, key, sorter=order), len(known) - 1)]
        wrong = (known[place] != key) | ~midnight
        if wrong.any():
            row = int(np.argmax(wrong))
            dates = self.options.first_day + self.options.snapshots.astype("timedelta64[D]")
            shown = ", ".join(map(str, dates[:6])) + (", ..." if len(dates) > 6 else "")
            raise UserError(
                f"{self.folder} knows no truth of customer {identifiers[row]} on {when[row]}: the simulation's as-of"
                f" dates are {shown}; set data.simulation.first_snapshot and data.simulation.every to have others."
            )
        group, state, basket = (self._columns[name][place] for name in ("group", "state", "basket"))
        return Standing(day, group.astype(np.int64), state.astype(np.int64), basket)

    @cached_property
    def _columns(self) -> dict[str, np.ndarray]:
        import pyarrow.parquet as pq

        table = pq.read_table(self.folder / TRUTH, columns=[ID, "as_of", "group", "state", "basket"])
        return {name: table.column(name).to_numpy() for name in table.column_names}

    @cached_property
    def _keys(self) -> tuple[np.ndarray, np.ndarray]:
        """Places in ascending order of (customer, as-of date), and the keys of these in the order of the file."""
        day = (self._columns["as_of"].astype("datetime64[D]") - self.options.first_day).astype(np.int64)
        key = self._columns[ID] * MAX_DAYS + day
        return np.argsort(key), key

    def happens(self, at: Standing, events: Sequence[str], days: int) -> np.ndarray:
        """Probability of at least one of some events within so many days, float64 [n]; () is any event."""
        return at.look_up(lambda day: self.outlook.happens(events, day, days))

    def count(self, at: Standing, events: Sequence[str], days: int) -> np.ndarray:
        """Expected number of some events within so many days, float64 [n]."""
        return at.look_up(lambda day: self.outlook.count(events, day, days))

    def spend(self, at: Standing, days: int) -> np.ndarray:
        """Expected amount of all purchases within so many days, money, float64 [n]."""
        return at.basket * at.look_up(lambda day: self.outlook.baskets(day, days))
