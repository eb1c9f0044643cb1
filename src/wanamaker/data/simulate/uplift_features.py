"""Features of simulated customers, and indices: numbers that a customer's features add up to.

Axis letters: N customers of a piece, P informative features, R irrelevant features, F = P + R, J categorical features,
L levels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wanamaker.data.simulate.media_random import Stream
from wanamaker.data.simulate.uplift_options import Columns

CALIBRATION = 40_000
"""Customers, of no table, on whom indices are brought to mean 0 and standard deviation 1 and intercepts are found."""

_NAMES = (
    "spend_last_year",
    "orders_last_year",
    "basket_last",
    "days_since_visit",
    "tenure_months",
    "age",
    "email_open_rate",
    "discount_share",
    "site_minutes",
    "return_rate",
    "categories_bought",
    "distance_km",
)
_CATEGORICAL = ("channel", "region", "segment", "device")


@dataclass(frozen=True)
class Customers:
    """What is known of some customers, and what it acts as.

    Attributes:
        shown: float32 [N, F], as the table has it; NaN where empty.
        level: int64 [N, J].
        z: float64 [N, P], the informative features as they act: standard normal, 0 where the cell is empty.
    """

    shown: np.ndarray
    level: np.ndarray
    z: np.ndarray


def numeric_names(columns: Columns) -> tuple[str, ...]:
    """F names."""
    count = columns.informative + columns.irrelevant
    return tuple(_NAMES[f] if f < len(_NAMES) else f"feature_{f + 1}" for f in range(count))


def categorical_names(columns: Columns) -> tuple[str, ...]:
    """J names."""
    return tuple(_CATEGORICAL[j] if j < len(_CATEGORICAL) else f"group_{j + 1}" for j in range(columns.categorical))


def level_names(columns: Columns) -> tuple[str, ...]:
    """L names; the last is the rare one."""
    return tuple(chr(ord("a") + n) if columns.levels <= 26 else f"level_{n + 1}" for n in range(columns.levels))


def draw_customers(seed: int, columns: Columns, piece: str, count: int) -> Customers:
    """Features of `count` customers; a function of the seed, the options and the name of the piece."""
    P, R = columns.informative, columns.irrelevant

    def draws(name: str) -> Stream:
        return Stream(seed, f"{piece}/{name}")

    common = draws("common").normal(count)[:, None]
    z = np.sqrt(columns.correlation) * common
    z = z + np.sqrt(1 - columns.correlation) * draws("informative").normal(count, P)
    other = draws("irrelevant").normal(count, R)
    kin = R // 2
    other[:, :kin] = 0.6 * z[:, np.arange(kin) % P] + 0.8 * other[:, :kin]
    z, other = np.round(z, 3), np.round(other, 3)  # what acts is what the table shows, to the last digit

    shown = np.concatenate([_units(z, columns.skewed), other], axis=1).astype(np.float32)  # [N, F]
    if columns.missing:
        holed = np.arange(2, P + R, 3)
        empty = draws("missing").uniform(count, len(holed)) < columns.missing
        shown[:, holed] = np.where(empty, np.nan, shown[:, holed])
        inside = holed < P
        z[:, holed[inside]] = np.where(empty[:, inside], 0.0, z[:, holed[inside]])

    edges = np.cumsum(_level_shares(columns))[:-1]
    level = np.searchsorted(edges, draws("levels").uniform(count, columns.categorical), side="right")
    return Customers(shown, level, z)


def _units(z: np.ndarray, skewed: int) -> np.ndarray:
    """Different means and spreads, the first features lognormal."""
    places = np.arange(z.shape[1])
    bent = np.exp(4.0 + 0.9 * z)
    straight = 10.0 * (1 + places % 5) + (1.0 + places % 4) * z
    return np.where(places < skewed, bent, straight)


def _level_shares(columns: Columns) -> np.ndarray:
    """[L], falling, the last is the rare one."""
    usual = 1.0 / np.arange(1, columns.levels)
    return np.append((1 - columns.rare) * usual / usual.sum(), columns.rare)


class Index:
    """A random function of the features with mean 0 and standard deviation 1 over the population.

    Its linear part is a weighted sum of the informative features and of the levels. Its other part is a sum of bends,
    steps and products of two features.

    Args:
        seed: Of the simulation.
        name: What it is for; equal names give equal functions.
        columns: Which features there are.
        nonlinear: Part of the variance that belongs to the other part.
        crowd: Customers to standardise on.
    """

    def __init__(self, seed: int, name: str, columns: Columns, nonlinear: float, crowd: Customers) -> None:
        draws = Stream(seed, f"index/{name}")
        P, J = columns.informative, columns.categorical
        self._linear = draws.normal(P) * (draws.uniform(P) < 0.7)
        self._linear[draws.whole(0, P - 1, 1)] += 1.0  # never all zero
        self._levels = 0.5 * draws.normal(J, columns.levels)
        terms = max(3, P // 2)
        self._weights = draws.normal(terms) + 0.5
        self._first = draws.whole(0, P - 1, terms)
        self._second = (self._first + draws.whole(1, P - 1, terms)) % P  # never the same feature twice
        self._shape = (np.arange(terms) + draws.whole(0, 3, 1)) % 4
        self._shares = (1 - nonlinear, nonlinear)
        self._scales = tuple(_moments(part) for part in (self._straight(crowd), self._bent(crowd)))
        self._whole = (0.0, 1.0)
        self._whole = _moments(self(crowd))  # the parts may be correlated

    def _straight(self, customers: Customers) -> np.ndarray:
        value = customers.z @ self._linear
        for j, effects in enumerate(self._levels):
            value += effects[customers.level[:, j]]
        return value

    def _bent(self, customers: Customers) -> np.ndarray:
        value = np.zeros(len(customers.z))
        for weight, i, k, shape in zip(self._weights, self._first, self._second, self._shape, strict=True):
            a, b = customers.z[:, i], customers.z[:, k]
            value += weight * (np.tanh(2.0 * a) * b, (a > 0.3) * 2.0, np.abs(a) - a * 0.2, a * b)[shape]
        return value

    def __call__(self, customers: Customers) -> np.ndarray:
        """float64 [N]."""
        parts = (self._straight(customers), self._bent(customers))
        total = np.zeros(len(customers.z))
        for value, (mean, sd), share in zip(parts, self._scales, self._shares, strict=True):
            total += np.sqrt(share) * (value - mean) / sd
        return (total - self._whole[0]) / self._whole[1]


def _moments(values: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation."""
    return float(values.mean()), float(values.std())
