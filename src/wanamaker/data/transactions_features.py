"""What a window of transactions tells of its customers: features before the cut, outcomes after it.

Both functions are given the rows of their own window and nothing else, so nothing can leak from one to the other.

A *purchase* is an order that was not undone: refunds with its number, in the same window, have not reached its amount.
Without order numbers every row is a purchase; refunds lower the money then, and are counted.

Axis letters: R rows of a window, P purchases, C customers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from wanamaker.data.transactions_roles import TransactionRoles
from wanamaker.data.transactions_source import Coded, Transactions

if TYPE_CHECKING:
    import pandas as pd

OUTCOMES = ("monetary", "conversion", "frequency")
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_CENT = 0.005


@dataclass(frozen=True)
class Purchases:
    """Orders that were not undone, by time.

    Attributes:
        customer: int64 [P], code.
        day: int64 [P], of the order's first row.
    """

    customer: np.ndarray
    day: np.ndarray


def purchases(rows: Transactions) -> Purchases:
    """The orders of a window."""
    _, first, order = np.unique(rows.order, return_index=True, return_inverse=True)
    bought = np.bincount(order, rows.amount * ~rows.refund)
    returned = np.bincount(order, rows.amount * rows.refund)
    count = np.bincount(order, ~rows.refund)
    undone = (np.bincount(order, rows.refund) > 0) & (returned >= bought - _CENT)
    kept = np.sort(first[(count > 0) & ~undone])
    return Purchases(rows.customer.code[kept], rows.day[kept])


def past_features(rows: Transactions, cut: int, roles: TransactionRoles) -> tuple[pd.DataFrame, list[str]]:
    """Recency, frequency, money and habits of every customer with a purchase.

    Args:
        rows: Of the feature window.
        cut: The day after it.
        roles: Which further columns become features.

    Returns:
        A frame by customer code with `recency_days` (from the last purchase to the cut), `purchases`, `spend` (refunds
        taken off), `spend_per_purchase`, `tenure_days` (from the first purchase to the cut), `refunds` (how many),
        `refunded` (money), `favourite_weekday`, `status` (the last one known), sum and mean per purchase row of the
        numeric columns, and the most frequent value of the categorical ones; and the names of the columns of words.
    """
    import pandas as pd

    made = purchases(rows)
    count = len(rows.customer.names)
    frequency = np.bincount(made.customer, minlength=count)
    who = np.flatnonzero(frequency)  # [C]
    code = rows.customer.code

    def total(values: np.ndarray) -> np.ndarray:
        return np.bincount(code, values, minlength=count)[who]

    last, first = np.full(count, np.iinfo(np.int64).min), np.full(count, np.iinfo(np.int64).max)
    np.maximum.at(last, made.customer, made.day)
    np.minimum.at(first, made.customer, made.day)
    spend = total(rows.amount * np.where(rows.refund, -1.0, 1.0))
    columns: dict[str, np.ndarray] = {
        "recency_days": cut - last[who],
        "purchases": frequency[who],
        "spend": np.round(spend, 6),
        "spend_per_purchase": np.round(spend / frequency[who], 6),
        "tenure_days": cut - first[who],
        "refunds": total(rows.refund.astype(np.float64)).astype(np.int64),
        "refunded": np.round(total(rows.amount * rows.refund), 6),
    }
    words = {"favourite_weekday": most_frequent(made.customer, Coded((made.day + 3) % 7, WEEKDAYS), count)}
    if rows.status is not None:
        words["status"] = _last(code, rows.status, count)
    bought = ~rows.refund
    for name in roles.categorical:
        values = rows.categorical[name].take(bought)
        words[f"favourite {name}"] = most_frequent(code[bought], values, count)
    lines = total(bought.astype(np.float64))
    for name in roles.numeric:
        columns[f"{name} sum"] = total(rows.numeric[name] * bought)
        columns[f"{name} mean"] = columns[f"{name} sum"] / lines
    frame = pd.DataFrame(columns, index=who)
    for name, values in words.items():
        frame[name] = np.array([*values.names, None], dtype=object)[values.code[who]]  # -1 is the last
    return frame, list(words)


def later_outcomes(rows: Transactions) -> pd.DataFrame:
    """`monetary` (refunds taken off; below 0 where more came back than was bought), `conversion` (any purchase, 0 or 1)
    and `frequency` (purchases) of every customer, by code; of those without a row all 0.

    Args:
        rows: Of the outcome window.
    """
    import pandas as pd

    count = len(rows.customer.names)
    frequency = np.bincount(purchases(rows).customer, minlength=count)
    money = np.bincount(rows.customer.code, rows.amount * np.where(rows.refund, -1.0, 1.0), minlength=count)
    values = (np.round(money, 6), (frequency > 0).astype(np.int64), frequency)
    return pd.DataFrame(dict(zip(OUTCOMES, values, strict=True)))


def most_frequent(owner: np.ndarray, values: Coded, count: int) -> Coded:
    """The value that most rows of an owner have, of several the one that came first; empty cells do not count.

    Args:
        owner: int64 [R], 0..count - 1.
        values: of the rows, in the order of time.
        count: of owners.
    """
    known = np.flatnonzero(values.code >= 0)
    width = len(values.names) or 1
    pair, first, times = np.unique(owner[known] * width + values.code[known], return_index=True, return_counts=True)
    best = np.lexsort((first, -times, pair // width))
    ranked = pair[best]
    leads = np.diff(ranked // width, prepend=-1) != 0
    found = np.full(count, -1, np.int64)
    found[ranked[leads] // width] = ranked[leads] % width
    return Coded(found, values.names)


def _last(owner: np.ndarray, values: Coded, count: int) -> Coded:
    """The last value that is not empty."""
    found = np.full(count, -1, np.int64)
    known = values.code >= 0
    found[owner[known]] = values.code[known]  # of several writes to one place NumPy keeps the last
    return Coded(found, values.names)
