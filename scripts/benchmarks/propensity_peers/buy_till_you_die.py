"""BG/NBD for how often customers buy and for how long, Gamma-Gamma for how much: by maximum likelihood, no penalty.

Fader, Hardie & Lee (2005), "Counting your customers" the easy way, Marketing Science 24(2): likelihood of equation 6,
expectation of equation 10. Fader & Hardie (2013), The Gamma-Gamma model of monetary value: equations 1a and 5.

Axis letters: N customers.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize
from scipy.special import gammaln, hyp2f1


def fit_bg_nbd(history: np.ndarray) -> np.ndarray:
    """Parameters r, alpha, a, b.

    Args:
        history: [N, 3 or more]: repeat orders, weeks to the last one, weeks observed.
    """
    x, recency, age = history.T[:3]
    repeat, less = x > 0, np.maximum(x, 1) - 1

    def loss(logs: np.ndarray) -> float:
        r, alpha, a, b = np.exp(logs)
        common = gammaln(r + x) - gammaln(r) + r * logs[1] + gammaln(a + b) + gammaln(b + x)
        common -= gammaln(b) + gammaln(a + b + x)
        alive = -(r + x) * np.log(alpha + age)
        gone = np.where(repeat, logs[2] - np.log(b + less) - (r + x) * np.log(alpha + recency), -np.inf)
        return -float((common + np.logaddexp(alive, gone)).mean())

    return np.exp(_least(loss, np.zeros(4)))


def expected_orders(parameters: np.ndarray, history: np.ndarray, weeks: float) -> np.ndarray:
    """Orders of each customer in the weeks to come, [N]."""
    (r, alpha, a, b), (x, recency, age) = parameters, history.T[:3]
    shrink = ((alpha + age) / (alpha + age + weeks)) ** (r + x)
    alone = hyp2f1(r + x, b + x, a + b + x - 1, weeks / (alpha + age + weeks))
    odds = a / (b + np.maximum(x, 1) - 1) * ((alpha + age) / (alpha + recency)) ** (r + x)
    return (a + b + x - 1) / (a - 1) * (1 - shrink * alone) / (1 + np.where(x > 0, odds, 0.0))


def fit_gamma_gamma(history: np.ndarray) -> np.ndarray:
    """Parameters p, q, gamma, from customers with a repeat order of some amount."""
    x, mean = history[:, 0], history[:, 3]
    some = (x > 0) & (mean > 0)
    x, mean = x[some], mean[some]

    def loss(logs: np.ndarray) -> float:
        p, q, gamma = np.exp(logs)
        value = gammaln(p * x + q) - gammaln(p * x) - gammaln(q) + q * logs[2]
        value += (p * x - 1) * np.log(mean) + p * x * np.log(x) - (p * x + q) * np.log(gamma + x * mean)
        return -float(value.mean())

    return np.exp(_least(loss, np.ones(3)))


def expected_amount(parameters: np.ndarray, history: np.ndarray) -> np.ndarray:
    """Mean amount of an order of each customer, [N]: the population's mean where there was no repeat order."""
    p, q, gamma = parameters
    x, mean = history[:, 0], history[:, 3]
    return p * (gamma + x * mean) / (p * x + q - 1)


def expected_spend(history: np.ndarray, weeks: float) -> np.ndarray:
    """Orders times their amount, [N]."""
    orders = expected_orders(fit_bg_nbd(history), history, weeks)
    return orders * expected_amount(fit_gamma_gamma(history), history)


def _least(loss, start: np.ndarray) -> np.ndarray:
    """Minimum of a smooth function of a few logarithms.

    Raises:
        RuntimeError: the search did not converge.
    """
    found = minimize(loss, start, method="Nelder-Mead", options={"maxiter": 5000, "xatol": 1e-7, "fatol": 1e-11})
    if not found.success:
        raise RuntimeError(found.message)
    return found.x
