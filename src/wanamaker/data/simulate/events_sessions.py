"""How visitors of the simulated shop go from event to event, and how likely a purchase is after each of them.

What a visitor does next depends on what can be read from the log: the session's events so far, in their order, and how
often the user has bought before it. So the probability of a purchase later in the session is known after every event.

The state after an event has six parts:

* loyalty 0..2: sessions before this one in which the user bought, capped;
* basket: NONE; CARTED; REGRET (removed after carting); DETERMINED (carted again after removing). Only who has something
  in the basket (CARTED, DETERMINED) buys, and `cart, remove, cart` means more than `cart, cart`;
* length 1..12: events so far, capped;
* last: view, cart or remove_from_cart;
* category 0..5 and price level 0..2 of the product in view.

Axis letters: L loyalty, K basket, N length, T last type, C category, P price level.
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

PIECE_USERS = 20_000
"""Users that are made at a time; a piece is a function of the options and its number, so it belongs to `VERSION`."""

TYPES = ("view", "cart", "remove_from_cart", "purchase")
VIEW, CART, REMOVE, PURCHASE = range(len(TYPES))
LOYALTIES, BASKETS, LENGTHS, LASTS, CATEGORIES, LEVELS = SIZES = 3, 4, 12, 3, 6, 3
NONE, CARTED, REGRET, DETERMINED = range(BASKETS)
FULL = (CARTED, DETERMINED)
CATEGORY_NAMES = ("skin", "hair", "nails", "makeup", "perfume", "tools")

# Changes of log weights, by part of the state
CART_OF_CATEGORY = (0.4, 0.0, 0.7, 0.2, -0.8, -0.3)
CART_OF_LEVEL = (0.4, 0.0, -0.6)
CART_OF_BASKET = (0.0, 0.2, -0.9, -0.4)
BUY_OF_LOYALTY = (0.0, 0.6, 1.1)
BUY_OF_BASKET = (0.0, 0.0, 0.0, 1.3)
BUY_OF_LEVEL = (0.2, 0.0, -0.4)
LEAVE_OF_BASKET = (0.0, -0.7, 0.6, -1.0)
LEAVE_OF_LAST = (0.0, -0.2, 0.5)
LEAVE_PER_EVENT = 0.06
STAY_IN_CATEGORY, STAY_IN_LEVEL = 0.75, 0.6
FIRST_CATEGORY = (0.25, 0.2, 0.25, 0.15, 0.1, 0.05)
FIRST_LEVEL = (0.4, 0.4, 0.2)
LEAVES, VIEWS, CARTS, REMOVES, BUYS = range(5)  # what can happen next


@dataclass(frozen=True)
class SessionSimulation:
    """A clickstream.

    Attributes:
        seed: Seeds everything.
        users: How many there are.
        days: Length of the log.
        start: Its first day.
        gap: Mean days from one session of a user to the next, above 1.
        cart, remove, purchase, leave: Weights of what can happen next, that of another view being 1.
        order: How far it matters what came before what; 0: only that something lies in the basket counts.
        loyalty: How far earlier purchases matter.
        products: Of each category and price level.
        money_unit: A word.
        shards: Parquet files of the log, each a stretch of time; 0 is one table, held in memory while it is made.
    """

    seed: int = whole(0)
    users: int = whole(8_000, 10, 10_000_000)
    days: int = whole(60, 5, 5_000)
    start: str = text("2024-01-01")
    gap: float = number(15.0, 1, open_low=True)
    cart: float = number(0.11, 0, 100)
    remove: float = number(0.25, 0, 100)
    purchase: float = number(0.15, 0, 100)
    leave: float = number(0.25, 0.01, 100)
    order: float = number(1.0, 0, 3)
    loyalty: float = number(1.0, 0, 3)
    products: int = whole(20, 1, 100_000)
    money_unit: str = text("EUR")
    shards: int = whole(0, 0, 500)

    def __post_init__(self) -> None:
        check_fields(self)
        day_of("start", self.start, "2024-01-01")
        if self.shards > self.days:
            raise refuse("shards", self.shards, f"the log has {self.days} days; a shard needs at least one.")

    @property
    def first_day(self) -> np.datetime64:
        """Of the log."""
        return np.datetime64(self.start, "D")

    @property
    def num_pieces(self) -> int:
        """How many pieces the users are made in."""
        return -(-self.users // PIECE_USERS)

    @property
    def folder_name(self) -> str:
        """A name that changes with every option and with the simulator."""
        return folder_of(f"{self.users}x{self.days}", self, version=VERSION, piece=PIECE_USERS)


PRESETS = {
    "tiny": SessionSimulation(users=400, days=40),
    "small": SessionSimulation(),
    "large": SessionSimulation(users=400_000, days=90, products=100, shards=24),
}
"""Complete clickstreams."""


def session_simulation(
    preset: str = "small", overrides: Mapping[str, Any] | None = None, place: str = "simulation"
) -> SessionSimulation:
    """A preset with single options changed.

    Args:
        preset: A name in `PRESETS`.
        overrides: Options of `SessionSimulation` by name; null keeps the preset's value.
        place: Where the overrides stand, for messages.

    Raises:
        UserError: an unknown preset or option, a value out of range, with its place and the choices.
    """
    return changed_preset(PRESETS, preset, overrides, place)


def choices(options: SessionSimulation) -> np.ndarray:
    """Probability of leaving, another view, cart, remove and purchase after each state, [L, K, N, T, C, P, 5]."""
    o, grid = options, np.ogrid[tuple(slice(size) for size in SIZES)]
    loyalty, basket, length, last, category, level = grid

    def by(values: tuple[float, ...], index: np.ndarray, strength: float = 1.0) -> np.ndarray:
        return strength * np.array(values)[index]

    full = np.isin(basket, FULL)
    weight = np.ones((*SIZES, 5))
    leaving = by(LEAVE_OF_BASKET, basket, o.order) + by(LEAVE_OF_LAST, last, o.order) + LEAVE_PER_EVENT * length
    weight[..., LEAVES] = o.leave * np.exp(leaving)
    carting = by(CART_OF_CATEGORY, category) + by(CART_OF_LEVEL, level) + by(CART_OF_BASKET, basket, o.order)
    weight[..., CARTS] = o.cart * np.exp(carting) * (last == VIEW)  # what is in view is carted once
    weight[..., REMOVES] = o.remove * full
    buying = by(BUY_OF_LOYALTY, loyalty, o.loyalty) + by(BUY_OF_BASKET, basket, o.order) + by(BUY_OF_LEVEL, level)
    weight[..., BUYS] = o.purchase * np.exp(buying) * full
    return weight / weight.sum(axis=-1, keepdims=True)


def next_product() -> tuple[np.ndarray, np.ndarray]:
    """Probability of the next category given this one [C, C], and of the next price level [P, P]."""
    first = np.array(FIRST_CATEGORY), np.array(FIRST_LEVEL)
    stays = STAY_IN_CATEGORY, STAY_IN_LEVEL
    return tuple(stay * np.eye(len(p)) + (1 - stay) * p for stay, p in zip(stays, first, strict=True))


def basket_after(basket: np.ndarray, kind: np.ndarray) -> np.ndarray:
    """The basket after events of some kinds."""
    carted = np.array([CARTED, CARTED, DETERMINED, DETERMINED])[basket]
    return np.select([kind == CART, kind == REMOVE, kind == PURCHASE], [carted, REGRET, NONE], basket)


def purchase_probability(options: SessionSimulation, tolerance: float = 1e-13) -> np.ndarray:
    """Probability of a purchase later in the session after each state, [L, K, N, T, C, P].

    The smallest solution of v = P(purchase) + sum of P(next state) v(next state), found by repetition from 0, which
    converges as fast as visitors leave.
    """
    chance, (category, level) = choices(options), next_product()
    longer = np.minimum(np.arange(1, LENGTHS + 1), LENGTHS - 1)
    baskets = np.arange(BASKETS)
    carted, removed = (basket_after(baskets, np.full(BASKETS, kind)) for kind in (CART, REMOVE))
    value = np.zeros(SIZES)
    while True:
        ahead = value[:, :, longer]  # [L, K, N, T, C, P], one event later
        viewed = np.einsum("lkncp,xc,yp->lknxy", ahead[:, :, :, VIEW], category, level)[:, :, :, None]
        new = chance[..., BUYS] + chance[..., VIEWS] * viewed
        new += chance[..., CARTS] * ahead[:, carted][:, :, :, CART][:, :, :, None]
        new += chance[..., REMOVES] * ahead[:, removed][:, :, :, REMOVE][:, :, :, None]
        if np.abs(new - value).max() < tolerance:
            return new
        value = new
