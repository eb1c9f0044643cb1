"""Loyalty transactions with known effects: what a rise of status does to later purchases, and why statuses rise.

Three windows of equal length. In the middle one some customers' status rises after a purchase; in the last one those
who rose buy `exp(effect)` times as often, `effect` depending on the customer. With `caused_by_spending` the status
rises because of what was bought, as loyalty programmes have it: good customers rise, and a plain comparison credits
the status with what they would have bought anyway. Without, it rises by lot.

Axis letters: N customers, R rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from wanamaker.data.simulate.media_fields import check_fields, flag, number, whole
from wanamaker.data.simulate.media_random import Stream

if TYPE_CHECKING:
    import pandas as pd

STATUSES = ("Bronze", "Silver", "Gold", "Platinum")
START = np.datetime64("2023-01-02")


@dataclass(frozen=True)
class TransactionSimulation:
    """Options.

    Attributes:
        seed: Seeds everything.
        customers: N.
        window: Days of each of the three windows.
        purchases: Mean number of orders per customer and window.
        spread: Standard deviation of the log of that number over customers.
        basket: Median amount of an order.
        effect: Mean log change of the number of later orders after a rise.
        heterogeneity: Standard deviation of it over customers, told by how often they bought.
        caused_by_spending: Whether a status rises at a threshold of money, or by lot.
        threshold: Money in the middle window at which it rises.
        chance: Share of customers whose status rises by lot.
        refunds: Share of orders that are undone.
    """

    seed: int = whole(0)
    customers: int = whole(1_000, 10)
    window: int = whole(28, 7, 1000)
    purchases: float = number(4.0, 0.1, 100)
    spread: float = number(0.6, 0, 2)
    basket: float = number(20.0, 0, open_low=True)
    effect: float = number(0.3, -3, 3)
    heterogeneity: float = number(0.2, 0, 3)
    caused_by_spending: bool = flag(True)
    threshold: float = number(100.0, 0, open_low=True)
    chance: float = number(0.4, 0, 1)
    refunds: float = number(0.05, 0, 0.5)

    __post_init__ = check_fields


@dataclass(frozen=True)
class SimulatedTransactions:
    """Transactions and their truth.

    Attributes:
        frame: a row per transaction: Customer, Date, Order, Operation, Amount, Coins spent, Coins earned, Shop, Status.
        truth: a row per customer: `customer`, `risen`, `monetary if kept`, `monetary if risen` (expected money of the
            last window, refunds taken off), `effect` (their difference).
    """

    frame: pd.DataFrame
    truth: pd.DataFrame


def simulate_transactions(options: TransactionSimulation) -> SimulatedTransactions:
    """Simulate; a pure function of the options."""
    import pandas as pd

    N = options.customers
    habit = Stream(options.seed, "habit").normal(N)
    rate = options.purchases * np.exp(options.spread * habit - options.spread**2 / 2)
    wealth = 0.3 * Stream(options.seed, "wealth").normal(N)
    log_change = options.effect - options.heterogeneity * np.tanh(habit)
    names = np.array([f"C{n:06d}" for n in range(N)], dtype=object)
    start = np.minimum(Stream(options.seed, "status").whole(0, 2, N), len(STATUSES) - 2)

    past = _orders(options, "past", rate, wealth)
    middle = _orders(options, "middle", rate, wealth)
    rises_at = _rises(options, middle, N)  # place among a customer's orders of the middle window
    risen = rises_at < np.bincount(middle.owner, minlength=N)
    later = _orders(options, "later", rate * np.exp(risen * log_change), wealth)

    parts = []
    for part, place in ((past, 0), (middle, 1), (later, 2)):
        raised = risen[part.owner] & (part.rank >= rises_at[part.owner] if place == 1 else place == 2)
        step = start[part.owner] + raised
        parts.append(_rows(options, part, place, names, step))
    frame = pd.concat(parts).sort_values("Date", kind="stable", ignore_index=True)

    basket = options.basket * np.exp(wealth + 0.4**2 / 2) * (1 - options.refunds)
    kept, raised = rate * basket, rate * np.exp(log_change) * basket
    truth = {"customer": names, "risen": risen, "monetary if kept": kept, "monetary if risen": raised}
    return SimulatedTransactions(frame, pd.DataFrame(truth | {"effect": raised - kept}))


@dataclass(frozen=True)
class _Orders:
    """Orders of one window by customer and time: owner, rank among the owner's, minute and amount, [R] each."""

    owner: np.ndarray
    rank: np.ndarray
    minute: np.ndarray
    amount: np.ndarray
    name: str


def _orders(options: TransactionSimulation, name: str, rate: np.ndarray, wealth: np.ndarray) -> _Orders:
    from scipy.stats import poisson

    count = poisson.ppf(Stream(options.seed, f"{name}/count").uniform(len(rate)), rate).astype(np.int64)
    owner = np.repeat(np.arange(len(rate)), count)
    minute = Stream(options.seed, f"{name}/time").whole(0, options.window * 1440 - 1, len(owner))
    order = np.lexsort((minute, owner))
    noise = Stream(options.seed, f"{name}/amount").normal(len(owner))
    amount = np.maximum(np.round(options.basket * np.exp(wealth[owner] + 0.4 * noise), 2), 0.01)
    rank = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)
    return _Orders(owner, rank, minute[order], amount, name)


def _rises(options: TransactionSimulation, orders: _Orders, customers: int) -> np.ndarray:
    """First order of the middle window with the higher status, int64 [N]; beyond the last one: never seen to rise.

    The status changes after an order, so the first one never has it.
    """
    count = np.bincount(orders.owner, minlength=customers)
    if not options.caused_by_spending:
        lot = Stream(options.seed, "lot").uniform(customers) < options.chance
        place = 1 + np.floor(Stream(options.seed, "lot/place").uniform(customers) * np.maximum(count - 1, 1))
        return np.where(lot, place.astype(np.int64), np.iinfo(np.int64).max)
    total = np.cumsum(orders.amount)
    before = np.repeat((total - orders.amount)[np.flatnonzero(orders.rank == 0)], count[count > 0])
    short = (total - before) < options.threshold
    return np.bincount(orders.owner, short, minlength=customers).astype(np.int64) + 1


def _rows(
    options: TransactionSimulation, orders: _Orders, place: int, names: np.ndarray, step: np.ndarray
) -> pd.DataFrame:
    """The rows of one window, refunds (some minutes after their orders, inside the window) among them."""
    import pandas as pd

    minute = place * options.window * 1440 + orders.minute
    rows = pd.DataFrame(
        {
            "Customer": names[orders.owner],
            "Date": START.astype("datetime64[m]") + minute,
            "Order": [f"{orders.name}-{n}" for n in range(len(minute))],
            "Operation": "Purchase",
            "Amount": orders.amount,
            "Coins spent": np.where(Stream(options.seed, f"{orders.name}/coins").uniform(len(minute)) < 0.1, 1.0, 0.0),
            "Coins earned": np.round(orders.amount * 0.05, 2),
            "Shop": np.array(["North", "South", "East"], dtype=object)[orders.owner % 3],
            "Status": np.array(STATUSES, dtype=object)[step],
        }
    )
    undone = Stream(options.seed, f"{orders.name}/refund").uniform(len(minute)) < options.refunds
    back = rows[undone].assign(Operation="Refund", **{"Coins spent": 0.0, "Coins earned": 0.0})
    return pd.concat([rows, back])  # a refund of the same minute stands after its order
