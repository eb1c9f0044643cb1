"""Sessions of the simulated shop, piece by piece, with what is true after each of their events; and their files.

Axis letters: n users or sessions, E events.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from wanamaker.data.simulate.events_sessions import (
    CART,
    CATEGORIES,
    CATEGORY_NAMES,
    FIRST_CATEGORY,
    FIRST_LEVEL,
    LEAVES,
    LENGTHS,
    LEVELS,
    LOYALTIES,
    NONE,
    PIECE_USERS,
    PURCHASE,
    REMOVE,
    SIZES,
    TYPES,
    VERSION,
    VIEW,
    SessionSimulation,
    basket_after,
    choices,
    next_product,
    purchase_probability,
)
from wanamaker.data.simulate.kept import KeptSimulation, ParquetFiles
from wanamaker.data.simulate.media_fields import restored
from wanamaker.data.simulate.media_random import Stream
from wanamaker.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

USER, SESSION, TIME, TYPE, PRODUCT, CATEGORY, PRICE = (
    "user_id",
    "user_session",
    "event_time",
    "event_type",
    "product_id",
    "category",
    "price",
)
LOG, SHARDS, TRUTH, SUMMARY = "sessions.parquet", "sessions", "truth.parquet", "truth.json"
PROBABILITY = "probability of purchase"
FIRST_USER, FIRST_PRODUCT = 500_001, 5_001
MAX_SESSIONS = 10_000  # of a user, so that the number of a session tells its user
DAY_SECONDS = 86_400
LEVEL_PRICES = ((2.0, 10.0), (10.0, 40.0), (40.0, 200.0))  # bounds of each price level, money
_KIND_OF = np.array([-1, VIEW, CART, REMOVE, PURCHASE])  # of the choices of `events_sessions`
_OVER = 0.6  # chance that a session is over with a purchase


@dataclass(frozen=True)
class SessionPiece:
    """What some users do, event by event.

    Attributes:
        user, session: int64 [E], identifiers. Events stand by step of a session, not by time.
        second: int64 [E], from the start of the log; different for each event of a session.
        kind: int64 [E], index into `TYPES`.
        product: int64 [E], identifier.
        truth: float64 [E], probability of a purchase after the event; NaN from a session's first purchase on.
    """

    user: np.ndarray
    session: np.ndarray
    second: np.ndarray
    kind: np.ndarray
    product: np.ndarray
    truth: np.ndarray


class SessionLog:
    """All pieces of a clickstream.

    Args:
        options: of the simulation.
    """

    def __init__(self, options: SessionSimulation) -> None:
        self.options = options
        self._choice = np.cumsum(choices(options), axis=-1)[..., :-1].reshape(-1, 4)  # [states, 4]
        self._category, self._level = (np.cumsum(p, axis=1)[:, :-1] for p in next_product())
        self._truth = purchase_probability(options).ravel()
        low, high = np.log(np.array(LEVEL_PRICES)).T
        place = Stream(options.seed, "price").uniform(CATEGORIES, LEVELS, options.products)
        self.price = np.round(np.exp(low[:, None] + (high - low)[:, None] * place), 2).ravel()  # [products]

    def piece(self, number: int) -> SessionPiece:
        """Users `number * PIECE_USERS` and after; the same whichever other pieces are made.

        Raises:
            IndexError: there is no such piece.
        """
        options = self.options
        if not 0 <= number < options.num_pieces:
            raise IndexError(f"piece {number} of {options.num_pieces}")
        first = number * PIECE_USERS
        count = min(PIECE_USERS, options.users - first)
        draws = Stream(options.seed, f"piece/{number}")
        # At most one session a day: sessions of a user never overlap.
        day = np.floor(draws.uniform(count) * options.gap).astype(np.int64)
        bought = np.zeros(count, np.int64)
        parts: list[dict[str, np.ndarray]] = []
        for turn in range(MAX_SESSIONS):
            who = np.flatnonzero(day < options.days)
            if not len(who):
                break
            begin = day[who] * DAY_SECONDS + draws.whole(6 * 3600, 22 * 3600, len(who))
            names = {"user": FIRST_USER + first + who, "session": (first + who) * MAX_SESSIONS + turn}
            bought[who] += self._walk(draws, names, np.minimum(bought[who], LOYALTIES - 1), begin, parts)
            wait = np.log(draws.uniform(len(who))) / np.log1p(-1 / options.gap)  # geometric, mean `gap`
            day[who] += 1 + np.floor(wait).astype(np.int64)
        return SessionPiece(**{name: np.concatenate([part[name] for part in parts]) for name in parts[0]})

    def _walk(
        self,
        draws: Stream,
        names: dict[str, np.ndarray],
        loyalty: np.ndarray,
        second: np.ndarray,
        parts: list[dict[str, np.ndarray]],
    ) -> np.ndarray:
        """Sessions from their first view on; appends their events and returns who bought, bool [n]."""
        n = len(loyalty)
        category = _chosen(draws.uniform(n), np.cumsum(FIRST_CATEGORY)[:-1])
        level = _chosen(draws.uniform(n), np.cumsum(FIRST_LEVEL)[:-1])
        product = self._product(category, level, draws.uniform(n))
        basket, length, kind = np.full(n, NONE), np.zeros(n, np.int64), np.full(n, VIEW)
        bought, there = np.zeros(n, bool), np.arange(n)
        while len(there):
            bought[there] |= kind[there] == PURCHASE
            last = np.where(kind == PURCHASE, VIEW, kind)  # who has bought goes on as from a view
            place = (loyalty, basket, length, last, category, level)
            state = np.ravel_multi_index(tuple(part[there] for part in place), SIZES)
            told = {name: values[there] for name, values in names.items()}
            told |= {"second": second[there], "kind": kind[there], "product": product[there]}
            parts.append(told | {"truth": np.where(bought[there], np.nan, self._truth[state])})
            choice = _chosen(draws.uniform(len(there)), self._choice[state])
            over = (kind[there] == PURCHASE) & (draws.uniform(len(there)) < _OVER)
            pause = draws.whole(3, 120, len(there))
            new = np.stack([draws.uniform(len(there)) for _ in range(3)])
            goes = ~over & (choice != LEAVES)
            there, pause, choice, new = there[goes], pause[goes], choice[goes], new[:, goes]
            kind[there] = _KIND_OF[choice]
            second[there] += pause
            length[there] = np.minimum(length[there] + 1, LENGTHS - 1)
            basket[there] = basket_after(basket[there], kind[there])
            views = kind[there] == VIEW
            seen = there[views]
            category[seen] = _chosen(new[0, views], self._category[category[seen]])
            level[seen] = _chosen(new[1, views], self._level[level[seen]])
            product[seen] = self._product(category[seen], level[seen], new[2, views])
        return bought

    def _product(self, category: np.ndarray, level: np.ndarray, draw: np.ndarray) -> np.ndarray:
        cell = (category * LEVELS + level) * self.options.products
        return FIRST_PRODUCT + cell + np.floor(draw * self.options.products).astype(np.int64)

    def table(self, piece: SessionPiece, rows: np.ndarray) -> pa.Table:
        """Events as a file has them."""
        import pyarrow as pa

        product = piece.product[rows] - FIRST_PRODUCT
        category = product // (LEVELS * self.options.products)
        time = self.options.first_day.astype("datetime64[s]") + piece.second[rows].astype("timedelta64[s]")
        return pa.table(
            {
                TIME: pa.array(time),
                TYPE: _words(piece.kind[rows], TYPES),
                PRODUCT: piece.product[rows],
                CATEGORY: _words(category, CATEGORY_NAMES),
                PRICE: self.price[product],
                USER: piece.user[rows],
                SESSION: piece.session[rows],
            }
        )

    def truth(self, piece: SessionPiece) -> pa.Table:
        """Sessions, times and probabilities, by session and time, up to a session's first purchase."""
        import pyarrow as pa

        rows = np.flatnonzero(~np.isnan(piece.truth))
        rows = rows[np.lexsort((piece.second[rows], piece.session[rows]))]
        time = self.options.first_day.astype("datetime64[s]") + piece.second[rows].astype("timedelta64[s]")
        return pa.table({SESSION: piece.session[rows], TIME: pa.array(time), PROBABILITY: piece.truth[rows]})


def sessions_path(folder: Path, options: SessionSimulation) -> Path:
    """The log in such a folder: a file, or a folder of shards."""
    return folder / (SHARDS if options.shards else LOG)


def write_sessions(folder: Path, options: SessionSimulation) -> None:
    """Write log and truth into a folder that is there; with shards a piece at a time, a part of it to every shard."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    log, kept, events, positions, expected = SessionLog(options), [], 0, 0, 0.0
    if options.shards:
        (folder / SHARDS).mkdir()
    with ParquetFiles(folder) as files:
        for number in range(options.num_pieces):
            piece = log.piece(number)
            truth = log.truth(piece)
            files.write(TRUTH, truth)
            events, positions = events + len(piece.user), positions + len(truth)
            expected += float(np.nansum(piece.truth))
            order = np.lexsort((piece.session, piece.second))
            day = np.minimum(piece.second // DAY_SECONDS, options.days - 1)  # some sessions go on after midnight
            shard = day * max(options.shards, 1) // options.days
            for part in range(options.shards):
                files.write(f"{SHARDS}/part-{part:05d}.parquet", log.table(piece, order[shard[order] == part]))
            if not options.shards:
                kept.append(log.table(piece, order))
    if kept:
        table = pa.concat_tables(kept)
        pq.write_table(table.take(np.argsort(table.column(TIME).to_numpy(), kind="stable")), folder / LOG)
    content = {"version": VERSION, "options": asdict(options), "events": events, "positions": positions}
    content[f"mean {PROBABILITY}"] = expected / positions
    (folder / SUMMARY).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


CLICKSTREAMS = KeptSimulation("sessions", "clickstream", (SUMMARY,), write_sessions)


class SessionTruth:
    """The truth of a simulated clickstream, read from its files.

    Args:
        folder: where they lie.

    Attributes:
        options: of the simulation.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        content = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
        self.options = restored(SessionSimulation, content["options"])

    @cached_property
    def _known(self) -> tuple[np.ndarray, np.ndarray]:
        """Keys, ascending, and probabilities."""
        import pyarrow.parquet as pq

        table = pq.read_table(self.folder / TRUTH)
        key = self._key(table.column(SESSION).to_numpy(), table.column(TIME).to_numpy())
        return key, table.column(PROBABILITY).to_numpy()

    def _key(self, session: np.ndarray, time: np.ndarray) -> np.ndarray:
        start = self.options.first_day.astype("datetime64[s]")
        second = (np.asarray(time).astype("datetime64[s]") - start).astype(np.int64)
        return np.asarray(session, np.int64) * (self.options.days + 1) * DAY_SECONDS + second

    def probability(self, session: np.ndarray, time: np.ndarray) -> np.ndarray:
        """Probability of a purchase later in sessions, after their events at some times, float64 [n].

        Raises:
            UserError: there is no such event before the session's first purchase.
        """
        key, known = self._key(session, time), self._known
        place = np.minimum(np.searchsorted(known[0], key), len(known[0]) - 1)
        if (wrong := known[0][place] != key).any():
            row = int(np.argmax(wrong))
            raise UserError(f"{self.folder} knows no truth of session {session[row]} at {time[row]}.")
        return known[1][place]


def _chosen(draw: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Numbers of the intervals that draws [n] fall into; edges [k] or [n, k], ascending."""
    return (draw[:, None] > edges).sum(axis=1)


def _words(codes: np.ndarray, names: tuple[str, ...]) -> pa.Array:
    import pyarrow as pa

    return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32)), pa.array(names)).dictionary_decode()
