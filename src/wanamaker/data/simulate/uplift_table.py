"""A campaign table with known individual effects: `UpliftWorld` and the pieces it makes.

The order of making: customers -> probability of each arm -> what each arm would bring -> the arm drawn -> what came.
Spend is zero-inflated lognormal: with `visit` v, purchase given a visit c and log basket N(m, s^2), the expected spend
is v c exp(m + s^2 / 2). One set of uniform numbers decides under every arm, so a customer whose expectation does not
change does not change.

Axis letters: N customers of a piece, K arms (0 is the control), A = K - 1 offers, Y outcomes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from wanamaker.data.simulate.media_fields import refuse
from wanamaker.data.simulate.media_random import Stream
from wanamaker.data.simulate.uplift_features import (
    CALIBRATION,
    Customers,
    Index,
    categorical_names,
    draw_customers,
    level_names,
    numeric_names,
)
from wanamaker.data.simulate.uplift_options import COST, ID, OUTCOMES, PIECE_ROWS, TREATMENT, Arm, UpliftSimulation

if TYPE_CHECKING:
    import pyarrow as pa

FIRST_ID = 1_000_001


@dataclass(frozen=True)
class Expectation:
    """What each arm would bring.

    Attributes:
        visit: float64 [N, K], probability.
        purchase: float64 [N, K], probability given a visit.
        log_basket: float64 [N, K], mean of the log of what is bought, given a purchase.
        propensity: float64 [N, K], probability of each arm.
        response: float64 [N, A], 1 for a persuadable, minus the backlash for a sleeping dog, 0 for others.
        sd: of the log basket.
    """

    visit: np.ndarray
    purchase: np.ndarray
    log_basket: np.ndarray
    propensity: np.ndarray
    response: np.ndarray
    sd: float

    @property
    def mean(self) -> np.ndarray:
        """float64 [N, K, Y] in the order of `OUTCOMES`."""
        conversion = self.visit * self.purchase
        spend = conversion * np.exp(self.log_basket + self.sd**2 / 2)
        return np.stack([self.visit, conversion, spend], axis=-1)


@dataclass(frozen=True)
class Piece:
    """Some rows of the table and what is true of them.

    Attributes:
        id: int64 [N].
        customers: features.
        arm: int64 [N].
        outcome: float64 [N, K, Y], of every arm; a table shows that of `arm`.
        cost: float64 [N], money.
        truth: expectations.
    """

    id: np.ndarray
    customers: Customers
    arm: np.ndarray
    outcome: np.ndarray
    cost: np.ndarray
    truth: Expectation

    @property
    def observed(self) -> np.ndarray:
        """float64 [N, Y]."""
        return self.outcome[np.arange(len(self.arm)), self.arm]


class UpliftWorld:
    """What is fixed before the first customer: indices, borders and intercepts, found on a crowd outside the table.

    Args:
        options: of the simulation.

    Raises:
        UserError: options that cannot be met together.
    """

    def __init__(self, options: UpliftSimulation) -> None:
        self.options = options
        crowd = draw_customers(options.seed, options.columns, "crowd", CALIBRATION)

        def index(name: str, nonlinear: float = options.nonlinear) -> Index:
            return Index(options.seed, name, options.columns, nonlinear, crowd)

        self._loyalty, self._intent, self._wealth = index("visit"), index("conversion"), index("basket")
        self._shared, self._chance = index("persuasion"), index("choice", 0.2)
        self._own = [index(f"persuasion/{a}") for a in range(len(options.arms))]
        self._own_chance = [index(f"choice/{a}", 0.2) for a in range(len(options.arms))]
        # Standard deviations of sums of indices, which may be correlated; 1 until they are known.
        self._spread = {"persuasion": np.ones(len(options.arms)), "choice": np.ones(len(options.arms))}
        self._spread = {
            "persuasion": self._persuasion(crowd).std(axis=0),
            "choice": self._choice(crowd).std(axis=0),
        }
        persuasion = self._persuasion(crowd)
        self._borders = [_borders(arm, persuasion[:, a]) for a, arm in enumerate(options.arms)]
        self._intercept = (0.0, 0.0)
        prognosis = options.prognostic * self._loyalty(crowd)
        visit = _intercept(prognosis, np.ones(len(prognosis)), options.visit_rate)
        visitors = _sigmoid(visit + prognosis)
        intent = self._conversion_logit(crowd)
        self._intercept = (visit, _intercept(intent, visitors, options.conversion_rate))

    def _conversion_logit(self, customers: Customers) -> np.ndarray:
        return self.options.prognostic * (0.6 * self._loyalty(customers) + 0.8 * self._intent(customers))

    def _persuasion(self, customers: Customers) -> np.ndarray:
        """[N, A], how far a customer can be persuaded, standard deviation 1."""
        alignment, similarity = self.options.alignment, self.options.similarity
        loyalty = self._loyalty(customers)
        columns = []
        for own in self._own:
            mixed = np.sqrt(similarity) * self._shared(customers) + np.sqrt(1 - similarity) * own(customers)
            columns.append(alignment * loyalty + np.sqrt(1 - alignment**2) * mixed)
        return np.stack(columns, axis=1) / self._spread["persuasion"]

    def _choice(self, customers: Customers) -> np.ndarray:
        """[N, A], how far a customer looks like one to give the offer to, standard deviation 1."""
        shared = 0.7 * self._loyalty(customers) + 0.5 * self._chance(customers)
        columns = [shared + 0.4 * own(customers) for own in self._own_chance]
        return np.stack(columns, axis=1) / self._spread["choice"]

    def propensity(self, customers: Customers) -> np.ndarray:
        """float64 [N, K], sums to 1."""
        options = self.options
        shares = np.array([options.control_share, *(arm.share for arm in options.arms)])
        shares = shares / shares.sum()
        if not options.confounding:
            return np.broadcast_to(shares, (len(customers.z), len(shares)))
        logit = np.log(shares) + np.pad(options.confounding * self._choice(customers), ((0, 0), (1, 0)))
        odds = np.exp(logit - logit.max(axis=1, keepdims=True))
        return options.overlap + (1 - len(shares) * options.overlap) * odds / odds.sum(axis=1, keepdims=True)

    def response(self, customers: Customers) -> np.ndarray:
        """float64 [N, A], see `Expectation.response`."""
        persuasion = self._persuasion(customers)
        columns = []
        for a, arm in enumerate(self.options.arms):
            if not arm.effect:  # there is nothing to respond to
                columns.append(np.zeros(len(persuasion)))
                continue
            low, high = self._borders[a]
            rise = self._gate(persuasion[:, a] - high)
            columns.append(rise - arm.backlash * self._gate(low - persuasion[:, a]))
        return np.stack(columns, axis=1)

    def _gate(self, beyond: np.ndarray) -> np.ndarray:
        width = self.options.softness
        return _sigmoid(beyond / (0.25 * width)) if width else (beyond > 0).astype(np.float64)

    def expect(self, customers: Customers) -> Expectation:
        """What is true of customers; a function of what the table shows of them."""
        options = self.options
        response = self.response(customers)
        shift = np.stack(
            [
                arm.effect * ((1 - arm.heterogeneity) + arm.heterogeneity * response[:, a])
                for a, arm in enumerate(options.arms)
            ],
            axis=1,
        )
        shift = np.pad(shift, ((0, 0), (1, 0)))  # [N, K], none for the control
        on_conversion = np.array([0.0, *(arm.on_conversion for arm in options.arms)])
        on_basket = np.array([0.0, *(arm.on_basket for arm in options.arms)])
        visit = self._intercept[0] + options.prognostic * self._loyalty(customers)
        purchase = self._intercept[1] + self._conversion_logit(customers)
        basket = np.log(options.basket) + 0.4 * options.prognostic * self._wealth(customers)
        return Expectation(
            visit=_sigmoid(visit[:, None] + shift),
            purchase=_sigmoid(purchase[:, None] + on_conversion * shift),
            log_basket=basket[:, None] + on_basket * shift,
            propensity=self.propensity(customers),
            response=response,
            sd=options.basket_sd,
        )

    def piece(self, number: int) -> Piece:
        """Rows `number * PIECE_ROWS` and after; the same whichever other pieces are made.

        Raises:
            IndexError: there is no such piece.
        """
        options = self.options
        if not 0 <= number < options.num_pieces:
            raise IndexError(f"piece {number} of {options.num_pieces}")
        start = number * PIECE_ROWS
        count = min(PIECE_ROWS, options.rows - start)
        customers = draw_customers(options.seed, options.columns, f"piece/{number}", count)
        truth = self.expect(customers)

        def draws(name: str) -> Stream:
            return Stream(options.seed, f"piece/{number}/{name}")

        edges = np.cumsum(truth.propensity, axis=1)[:, :-1]
        arm = (draws("arm").uniform(count)[:, None] > edges).sum(axis=1)
        visit = draws("visit").uniform(count)[:, None] < truth.visit
        bought = visit & (draws("purchase").uniform(count)[:, None] < truth.purchase)
        basket = np.exp(truth.log_basket + truth.sd * draws("basket").normal(count)[:, None])
        spend = np.where(bought, np.maximum(np.round(basket, 2), 0.01), 0.0)  # a purchase is never free
        outcome = np.stack([visit, bought, spend], axis=-1).astype(np.float64)  # [N, K, Y]
        return Piece(
            id=np.arange(FIRST_ID + start, FIRST_ID + start + count),
            customers=customers,
            arm=arm,
            outcome=outcome,
            cost=np.round(self._cost(arm, outcome[np.arange(count), arm]), 2),
            truth=truth,
        )

    def _cost(self, arm: np.ndarray, outcome: np.ndarray) -> np.ndarray:
        contact, redemption, discount = costs(self.options)
        return contact[arm] + redemption[arm] * outcome[:, 1] + discount[arm] * outcome[:, 2]


def costs(options: UpliftSimulation) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Per contact (money), per redemption (money) and per unit of spend (share) of each arm, float64 [K] each."""
    arms = options.arms
    return tuple(
        np.array([0.0, *(getattr(arm, name) for arm in arms)])
        for name in ("cost_per_contact", "cost_per_redemption", "discount")
    )


def to_arrow(piece: Piece, options: UpliftSimulation) -> pa.Table:
    """A piece as a file has it: identifier, features, arm, outcomes, cost."""
    import pyarrow as pa

    columns: dict[str, pa.Array] = {ID: pa.array(piece.id)}
    for f, name in enumerate(numeric_names(options.columns)):
        columns[name] = pa.array(piece.customers.shown[:, f], from_pandas=True)  # NaN becomes an empty cell
    words = pa.array(level_names(options.columns))
    for j, name in enumerate(categorical_names(options.columns)):
        codes = pa.array(piece.customers.level[:, j].astype(np.int32))
        columns[name] = pa.DictionaryArray.from_arrays(codes, words).dictionary_decode()
    arms = pa.array(options.arm_names)
    columns[TREATMENT] = pa.DictionaryArray.from_arrays(pa.array(piece.arm.astype(np.int32)), arms).dictionary_decode()
    for y, name in enumerate(OUTCOMES):
        values = piece.observed[:, y]
        columns[name] = pa.array(values if name == "spend" else values.astype(np.int8))
    columns[COST] = pa.array(piece.cost)
    return pa.table(columns)


def _borders(arm: Arm, persuasion: np.ndarray) -> tuple[float, float]:
    """Below the first are sleeping dogs, above the second persuadables."""
    low = np.quantile(persuasion, arm.sleeping) if arm.sleeping else -np.inf
    high = np.quantile(persuasion, 1 - arm.persuadable) if arm.persuadable else np.inf
    return float(low), float(high)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    from scipy.special import expit

    return expit(x)


def _intercept(logit: np.ndarray, weight: np.ndarray, rate: float) -> float:
    """The number to add to logits [N] so that their weighted mean rate is `rate`."""
    from scipy.optimize import brentq

    def excess(shift: float) -> float:
        return float((weight * _sigmoid(logit + shift)).sum() / weight.sum()) - rate

    try:
        return float(brentq(excess, -60.0, 60.0))
    except ValueError as error:
        raise refuse("prognostic", None, f"no intercept gives a rate of {rate:g}; lower it.") from error
