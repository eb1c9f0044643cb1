"""Prices of limits on an audience: what one more unit of money, one more customer, one more offer of a kind is worth.

The Lagrangian of the multiple-choice knapsack: at given prices each customer takes the offer of the highest value less
what its use of the limits costs, or none. The prices that make the sum of these as small as possible, with the limits'
own worth added, give an upper bound that no audience exceeds (Fisher, "The Lagrangian relaxation method", Management
Science 27(1), 1981). There are only A + 2 prices whatever N is: cutting planes find them, each with one pass over the
customers (Kelley 1960, evaluated between the best point and the plane's so that it does not swing).

Axis letters: N customers, A offers, L limits that are finite.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_CUTS = 300
_STALLED = 20  # cuts without progress: the linear programme's own precision is reached
_BETWEEN = 0.4  # of the way from the best point to the cutting planes' minimum


@dataclass(frozen=True)
class Limits:
    """Of an audience: `budget` money, `clients` customers, `caps` [A] customers per offer; inf where there is none."""

    budget: float
    clients: float
    caps: np.ndarray

    def counted(self, customers: int) -> bool:
        """Whether numbers of customers are limited, not only money."""
        return self.clients < customers or bool((self.caps < customers).any())

    def hold(self, arm: np.ndarray, cost: np.ndarray) -> bool:
        """Whether an audience ``arm`` [N] (0 is none) keeps them; ``cost`` is [N, A]."""
        rows = np.flatnonzero(arm)
        counts = np.bincount(arm[rows] - 1, minlength=len(self.caps))
        spent = cost[rows, arm[rows] - 1].sum()
        return bool(spent <= self.budget * (1 + 1e-12) and len(rows) <= self.clients and (counts <= self.caps).all())


@dataclass(frozen=True)
class Prices:
    """Of the limits, each 0 or more, with the bound they prove.

    Attributes:
        money: value per unit of money.
        client: value per customer.
        offer: [A], value per customer who gets the offer.
        bound: value that no audience within the limits exceeds.
    """

    money: float
    client: float
    offer: np.ndarray
    bound: float


def prices(value: np.ndarray, cost: np.ndarray, limits: Limits, tolerance: float = 1e-8) -> Prices:
    """Minimise the Lagrangian dual.

    Args:
        value: [N, A], -inf where an offer is not allowed; each row has at least one above 0.
        cost: [N, A], money, 0 or more.
        limits: at least one is finite.
        tolerance: of the bound, relative to it.
    """
    from scipy.optimize import linprog

    N, A = value.shape
    allowed = value > 0
    which = [n for n, size in enumerate((limits.budget, limits.clients, *limits.caps)) if np.isfinite(size)]
    size = np.array([limits.budget, limits.clients, *limits.caps])[which] / N
    highest = np.empty(2 + A)
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = np.where(allowed & (cost > 0), value / cost, 0.0)
    highest[0], highest[1:] = slope.max(), np.where(allowed, value, 0.0).max()
    unit = np.maximum(highest[which], 1e-300)  # prices are searched in [0, 1]

    def dual(point: np.ndarray) -> tuple[float, np.ndarray]:
        full = np.zeros(2 + A)
        full[which] = point * unit
        reduced = value - full[0] * cost - full[1] - full[2:]
        pick = reduced.argmax(axis=1)
        rows = np.arange(N)
        won = reduced[rows, pick]
        taken = won > 0
        counts = np.bincount(pick[taken], minlength=A) / N
        use = np.concatenate([[cost[rows, pick][taken].sum() / N, taken.sum() / N], counts])[which]
        return float(size * unit @ point + won[taken].sum() / N), (size - use) * unit

    best = np.zeros(len(which))
    upper, slope_here = dual(best)
    cuts, offsets = [slope_here], [upper - slope_here @ best]
    quiet = 0
    for _ in range(_CUTS):
        # min t with t >= offset + slope p for every cut, 0 <= p <= 1
        found = linprog(
            np.append(np.zeros(len(best)), 1.0),
            A_ub=np.column_stack([np.array(cuts), -np.ones(len(cuts))]),
            b_ub=-np.array(offsets),
            bounds=[(0, 1)] * len(best) + [(None, None)],
        )
        if found.status != 0 or upper - found.x[-1] <= tolerance * max(abs(upper), 1e-300) or quiet > _STALLED:
            break
        quiet += 1
        for share in (_BETWEEN, 1.0):  # the plane's own minimum too: it is what proves the end
            point = best + share * (found.x[:-1] - best)
            height, slope_here = dual(point)
            cuts.append(slope_here)
            offsets.append(height - slope_here @ point)
            if height < upper:
                quiet = quiet if upper - height <= tolerance * abs(upper) else 0
                upper, best = height, point
    full = np.zeros(2 + A)
    full[which] = best * unit
    return Prices(float(full[0]), float(full[1]), full[2:], upper * N)


def fill(value: np.ndarray, cost: np.ndarray, price: Prices, limits: Limits) -> np.ndarray:
    """An audience within the limits, by value less what the prices charge; then the few moves that still help.

    Args:
        value, cost: as for `prices`.

    Returns:
        int64 [N]: the offer's number + 1; 0 is none.
    """
    N, A = value.shape
    arm = np.zeros(N, np.int64)
    reduced = value - price.money * cost - price.client - price.offer
    left, clients, caps = limits.budget, limits.clients, limits.caps.astype(np.float64).copy()
    waiting = np.arange(N)
    while len(waiting) and clients >= 1:
        open_ = (value[waiting] > 0) & (cost[waiting] <= left) & (caps >= 1)
        worth = np.where(open_, reduced[waiting], -np.inf)
        pick = worth.argmax(axis=1)
        margin = worth[np.arange(len(waiting)), pick]
        some = np.isfinite(margin)
        waiting, pick, margin = waiting[some], pick[some], margin[some]
        if not len(waiting):
            break
        order = np.lexsort((-value[waiting, pick], -margin))
        waiting, pick = waiting[order], pick[order]
        place = np.empty(len(pick), np.int64)  # among those who want the same offer
        for a in range(A):
            same = pick == a
            place[same] = np.arange(same.sum())
        fits = place < caps[pick]
        fits &= np.cumsum(fits) <= clients
        money = np.cumsum(np.where(fits, cost[waiting, pick], 0.0))
        first_over = int(np.searchsorted(money, left * (1 + 1e-12), side="right"))
        fits[first_over:] = False
        arm[waiting[fits]] = pick[fits] + 1
        left -= float(cost[waiting, pick][fits].sum())
        clients -= int(fits.sum())
        caps -= np.bincount(pick[fits], minlength=A)
        waiting = waiting[~fits]
    return _improve(arm, value, cost, limits, price.bound)


def _improve(arm: np.ndarray, value: np.ndarray, cost: np.ndarray, limits: Limits, bound: float) -> np.ndarray:
    """Single changes of one customer that keep the limits and bring more, the best first, while they matter."""
    N, A = value.shape
    rows = np.arange(N)
    value0 = np.column_stack([np.zeros(N), value])
    cost0 = np.column_stack([np.zeros(N), cost])
    for _ in range(100):
        total = value0[rows, arm].sum()
        if bound - total <= 1e-6 * abs(bound):
            break
        left = limits.budget - cost0[rows, arm].sum()
        counts = np.bincount(arm, minlength=A + 1)
        room = np.append(True, counts[1:] + 1 <= limits.caps)
        room = np.where((arm == 0)[:, None] & (N - counts[0] + 1 > limits.clients), False, room)
        gain = np.where(room & (cost0 - cost0[rows, arm][:, None] <= left), value0 - value0[rows, arm][:, None], 0.0)
        n, to = np.unravel_index(int(gain.argmax()), gain.shape)
        if gain[n, to] <= 0:
            break
        arm[n] = to
    return arm
