"""What decides every number of a simulated log of events, and ready logs.

Effects are shifts of logits or of log rates; 1 is as the simulator has it, 0 takes an effect away.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from wanamaker.data.simulate.media_fields import (
    changed_preset,
    check_fields,
    day_of,
    folder_of,
    number,
    refuse,
    text,
    whole,
)

VERSION = 1
"""Raise this when the same options give other numbers: it is part of the folder's name."""

PIECE_CUSTOMERS = 2_000
"""Customers made at a time; a piece is a function of the options and its number, so it belongs to `VERSION`."""

MAX_DAYS = 20_000

ID, TIME, TYPE, AMOUNT, DEVICE, SINCE = "customer", "time", "type", "amount", "device", "since"


@dataclass(frozen=True)
class EventSimulation:
    """A log of events, its customers, and what is true of them at every as-of date.

    Attributes:
        seed: Seeds everything.
        customers: N, all that ever come.
        days: Length of the log.
        start: Its first day.
        present: Share of customers who are there on the first day; the others come evenly over the days.
        activity: Mean number of shop visits per day of an average customer who is engaged.
        purchase: Rate at which visits become purchases, relative to the others.
        service: Contacts with the support per day; complaints are as frequent.
        cancel: Probability per day that an average customer cancels.
        weekend: Change of the log of activity on Saturdays and Sundays.
        traits: How far plan, region, age and channel tell activity, cancelling and the basket.
        engagement: How far it matters how often a customer came of late.
        order: How far it matters in which order things happened, where counts of them are the same.
        basket: Median amount of a purchase of an average customer, money.
        basket_sd: Standard deviation of the log amount that nothing tells.
        missing: Share of customers whose age is not known. They act as those of average age do.
        money_unit: A word.
        first_snapshot: Day of the first as-of date with a truth of its own.
        every: Days from one as-of date to the next.
        shards: Parquet files of the log, each a stretch of time; 0 is one table. Shards are made piece by piece, one
            table is held in memory.
    """

    seed: int = whole(0)
    customers: int = whole(4_000, 10, 100_000_000)
    days: int = whole(365, 30, MAX_DAYS - 1)
    start: str = text("2023-01-02")
    present: float = number(0.4, 0, 1)
    activity: float = number(0.35, 0.001, 10)
    purchase: float = number(1.0, 0.001, 100)
    service: float = number(0.02, 0, 1)
    cancel: float = number(0.002, 1e-6, 0.5)
    weekend: float = number(0.4, -3, 3)
    traits: float = number(1.0, 0, 3)
    engagement: float = number(1.0, 0, 3)
    order: float = number(1.0, 0, 3)
    basket: float = number(40.0, 0, open_low=True)
    basket_sd: float = number(0.5, 0, 2)
    missing: float = number(0.05, 0, 0.9)
    money_unit: str = text("EUR")
    first_snapshot: int = whole(120, 1)
    every: int = whole(30, 1)
    shards: int = whole(0, 0, 500)

    def __post_init__(self) -> None:
        check_fields(self)
        day_of("start", self.start, "2023-01-02")
        if self.first_snapshot >= self.days:
            raise refuse("first_snapshot", self.first_snapshot, f"the log has {self.days} days; take an earlier one.")
        if self.shards > self.days:
            raise refuse("shards", self.shards, f"the log has {self.days} days; a shard needs at least one.")

    @property
    def first_day(self) -> np.datetime64:
        """Of the log."""
        return np.datetime64(self.start, "D")

    @property
    def snapshots(self) -> np.ndarray:
        """As-of dates as days from the start of the log, int64 [A]."""
        return np.arange(self.first_snapshot, self.days, self.every)

    @property
    def num_pieces(self) -> int:
        """How many pieces the customers are made in."""
        return -(-self.customers // PIECE_CUSTOMERS)

    @property
    def folder_name(self) -> str:
        """A name that changes with every option and with the simulator."""
        return folder_of(f"{self.customers}x{self.days}", self, version=VERSION, piece=PIECE_CUSTOMERS)


PRESETS = {
    "tiny": EventSimulation(customers=300, days=240, service=0.04, cancel=0.003, first_snapshot=90, every=30),
    "small": EventSimulation(),
    "medium": EventSimulation(customers=12_000),
    # Everybody comes alike and often, service is frequent and purchases are rare: what tells cancelling and buying is
    # what came before what. AUC of cancelling within 30 days, 30 % of the customers held out: truth .783; boosted trees
    # on the features rfm, intervals, momentum and recent .553 (logistic .555), with counts, shares and days since the
    # last event of each type besides .621 (.611). AUC of buying within 30 days: .731; .555 (.542); .572 (.573).
    "order": EventSimulation(
        customers=6_000,
        days=240,
        present=1.0,
        activity=0.5,
        purchase=0.15,
        service=0.08,
        cancel=0.0004,
        traits=0.15,
        engagement=0.15,
        order=3.0,
        first_snapshot=90,
        every=30,
    ),
    "large": EventSimulation(customers=100_000, days=540, first_snapshot=360, every=90, shards=24),
}
"""Complete logs. In `order` counts say little about who will cancel and who will buy, sequences much."""


def event_simulation(
    preset: str = "small", overrides: Mapping[str, Any] | None = None, place: str = "simulation"
) -> EventSimulation:
    """A preset with single options changed.

    Args:
        preset: A name in `PRESETS`.
        overrides: Options of `EventSimulation` by name; null keeps the preset's value.
        place: Where the overrides stand, for messages.

    Raises:
        UserError: an unknown preset or option, a value out of range, with its place and the choices.
    """
    return changed_preset(PRESETS, preset, overrides, place)
