"""Uplift curves of a randomised comparison, and the areas that packages name Qini and AUUC, each by its own definition.

Customers are taken by descending score. After a cut, n_t and n_c customers of the treated and the control arm have been
taken, with outcomes Y_t and Y_c in sum:

- Qini curve ``q = Y_t - Y_c n_t / n_c`` (Radcliffe 2007): extra outcome among the treated taken so far.
- Gain curve ``g = (Y_t / n_t - Y_c / n_c) (n_t + n_c)`` (Gutierrez & Gerardy 2017): extra outcome if
  all taken were treated.

Areas of these curves that bear the same name differ by package, and cannot be compared:

- ``qini_sklift``, ``auuc_sklift`` (scikit-uplift): area above the straight line to the end, over that of a perfect
  ranking; trapezoids between distinct scores; binary outcomes; random is 0, at most 1.
- ``qini_causalml`` (CausalML): mean of q over customers, over |q at the end|, less 1/2. Random is 0; no upper bound.
- ``auuc_causalml``: mean of g over customers, over |g at the end|. Random is 1/2; no upper bound.
- ``qini_raw``, ``auuc_raw``: mean height of q or g above the straight line, per customer of the table: units of the
  outcome. Stable where the average effect is near 0, which blows up what is divided by it.

All assume that arms were drawn at random; for others use `wanamaker.metrics.doubly_robust`. A weight says how many
customers a row stands for; rows of weight 2 are worth two rows.

Tied scores: with ``ties="shared"`` a curve is straight across customers that share a score, whatever their order.
``ties="package"`` takes them one by one in the order in which the package's sort leaves them, to give its very numbers;
those then depend on the order of the rows. Scikit-uplift's areas are shared by definition.

Axis letters: N rows, P distinct scores.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from wanamaker.metrics.uplift_groups import checked, group_by_score

TIES = ("package", "shared")


class UpliftCurve(NamedTuple):
    """Cumulative sums by descending score, from nobody to everybody.

    Attributes:
        score: float64 [P], of the customers that a cut takes in, descending.
        treated, control: float64 [P + 1], customers taken, n_t and n_c.
        treated_sum, control_sum: float64 [P + 1], their outcomes, Y_t and Y_c.
    """

    score: np.ndarray
    treated: np.ndarray
    control: np.ndarray
    treated_sum: np.ndarray
    control_sum: np.ndarray

    @property
    def taken(self) -> np.ndarray:
        """[P + 1], customers taken."""
        return self.treated + self.control

    @property
    def share(self) -> np.ndarray:
        """[P + 1], customers taken as a share of all, from 0 to 1."""
        return self.taken / self.taken[-1]

    def qini(self) -> np.ndarray:
        """q [P + 1]; the control's part is 0 where no control customer has been taken."""
        return self.treated_sum - self.control_sum * _over(self.treated, self.control)

    def gain(self) -> np.ndarray:
        """g [P + 1]; an arm's mean is 0 where none of it has been taken."""
        means = _over(self.treated_sum, self.treated) - _over(self.control_sum, self.control)
        return means * self.taken


def uplift_curve(
    score: np.ndarray, treated: np.ndarray, outcome: np.ndarray, weight: np.ndarray | None = None
) -> UpliftCurve:
    """The curve of N rows, cut at distinct scores.

    Args:
        score: [N], high for those to be treated first.
        treated: [N], 1 (or True) for the offer, 0 for the control; rows of other arms are left out beforehand.
        outcome: [N].
        weight: [N], customers that a row stands for; None is 1 each.

    Raises:
        ValueError: shapes disagree, a value is not finite, ``treated`` is not 0 and 1, or an arm has no rows.
    """
    score, treated, outcome, weight = _two_arms(score, treated, outcome, weight)
    return curve_of_groups(*group_by_score(score, _columns(treated, outcome, weight)))


def curve_of_groups(score: np.ndarray, sums: tuple[np.ndarray, ...]) -> UpliftCurve:
    """The curve of sums per distinct score (n_t, n_c, Y_t, Y_c), scores descending: rows grouped, or a histogram."""
    return UpliftCurve(score, *(np.concatenate([[0.0], np.cumsum(values)]) for values in sums))


def qini_sklift(
    score: np.ndarray,
    treated: np.ndarray,
    y: np.ndarray,
    negative_effect: bool = True,
    weight: np.ndarray | None = None,
) -> float:
    """Scikit-uplift's ``qini_auc_score``.

    Args:
        score, treated, y, weight: as in `uplift_curve`; ``y`` is 0 or 1.
        negative_effect: whether the perfect ranking may lose customers: True puts control responders last, False
            climbs straight to the end's height and stays there.

    Returns:
        NaN where the perfect ranking is no better than random, or ``negative_effect`` is False and the offer did harm.
    """
    return qini_sklift_of(_binary_curve("qini_sklift", score, treated, y, weight), negative_effect)


def auuc_sklift(score: np.ndarray, treated: np.ndarray, y: np.ndarray, weight: np.ndarray | None = None) -> float:
    """Scikit-uplift's ``uplift_auc_score``; its perfect ranking is another one than Qini's (see `perfect_gain`)."""
    return auuc_sklift_of(_binary_curve("auuc_sklift", score, treated, y, weight))


def qini_causalml(
    score: np.ndarray,
    treated: np.ndarray,
    y: np.ndarray,
    normalize: bool = True,
    weight: np.ndarray | None = None,
    ties: str = "package",
) -> float:
    """CausalML's ``qini_score``; without ``normalize`` in units of the outcome, summed over the treated arm."""
    return qini_causalml_of(_causalml_cuts(score, treated, y, weight, ties), normalize)


def auuc_causalml(
    score: np.ndarray,
    treated: np.ndarray,
    y: np.ndarray,
    normalize: bool = True,
    weight: np.ndarray | None = None,
    ties: str = "package",
) -> float:
    """CausalML's ``auuc_score``; without ``normalize`` in units of the outcome, summed over all customers."""
    return auuc_causalml_of(_causalml_cuts(score, treated, y, weight, ties), normalize)


def qini_raw(score: np.ndarray, treated: np.ndarray, y: np.ndarray, weight: np.ndarray | None = None) -> float:
    """Mean height of the Qini curve above random, units of the outcome per customer of the table."""
    curve = uplift_curve(score, treated, y, weight)
    return raw_area(curve, curve.qini())


def auuc_raw(score: np.ndarray, treated: np.ndarray, y: np.ndarray, weight: np.ndarray | None = None) -> float:
    """Mean height of the gain curve above random, units of the outcome per customer of the table."""
    curve = uplift_curve(score, treated, y, weight)
    return raw_area(curve, curve.gain())


def cumulative_gain(
    score: np.ndarray, treated: np.ndarray, y: np.ndarray, weight: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Share of customers treated [P + 1] and the gain curve there [P + 1], units of the outcome over all customers."""
    curve = uplift_curve(score, treated, y, weight)
    return curve.share, curve.gain()


def uplift_at_k(
    score: np.ndarray,
    treated: np.ndarray,
    y: np.ndarray,
    k: float | int = 0.3,
    strategy: str = "overall",
    weight: np.ndarray | None = None,
    ties: str = "package",
) -> float:
    """Difference of mean outcomes among the customers with the highest scores (scikit-uplift's ``uplift_at_k``).

    Args:
        score, treated, y, weight: as in `uplift_curve`.
        k: share of customers, in (0, 1), rounded down to whole ones; or their number, if an int.
        strategy: "overall" takes the top of both arms together, "by_group" the top of each arm.
        ties: see the top of this module; "shared" takes customers at the limit in parts.

    Returns:
        NaN where the top has no customer of one arm.
    """
    score, treated, y, weight = _two_arms(score, treated, y, weight)
    _one_of("ties", ties, TIES)
    columns = _columns(treated, y, weight)
    if ties == "package":
        order = np.argsort(score, kind="stable")[::-1]  # as scikit-uplift: of tied customers, the last row first
        curve = curve_of_groups(score[order], tuple(column[order] for column in columns))
    else:
        curve = curve_of_groups(*group_by_score(score, columns))
    return uplift_at_k_of(curve, k, strategy)


def perfect_qini(curve: UpliftCurve, negative_effect: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Scikit-uplift's perfect Qini curve for a binary outcome: customers taken, and q.

    Takes treated responders first, then those who did not respond, then control responders (``negative_effect``).
    """
    n_t, n_c, y_t, y_c = _ends(curve)
    end = y_t - y_c * n_t / n_c
    if negative_effect:
        return np.array([0.0, y_t, n_t + n_c - y_c, n_t + n_c]), np.array([0.0, y_t, y_t, end])
    return np.array([0.0, end, n_t + n_c]), np.array([0.0, end, end])


def perfect_gain(curve: UpliftCurve) -> tuple[np.ndarray, np.ndarray]:
    """Scikit-uplift's perfect gain curve for a binary outcome: customers taken, and g.

    Takes treated responders, then control customers who did not respond; then the smaller of the other two last.
    """
    n_t, n_c, y_t, y_c = _ends(curve)
    groups = np.array([[y_t, 0.0, y_t, 0.0], [0.0, n_c - y_c, 0.0, 0.0]])
    rest = np.array([[n_t - y_t, 0.0, 0.0, 0.0], [0.0, y_c, 0.0, y_c]])
    if y_c > n_t - y_t:
        rest = rest[::-1]
    best = curve_of_groups(np.arange(4.0)[::-1], tuple(np.concatenate([groups, rest]).T))
    return best.taken, best.gain()


def perfect_curve(treated: np.ndarray, outcome: np.ndarray, weight: np.ndarray | None = None) -> UpliftCurve:
    """The curve of the hindsight ranking: treated by descending outcome, then control by ascending; any outcome >= 0.

    For a binary outcome its `UpliftCurve.qini` is `perfect_qini`.
    """
    treated, outcome = np.asarray(treated, np.float64), np.asarray(outcome, np.float64)
    return uplift_curve(outcome * treated - outcome * (1.0 - treated), treated, outcome, weight)


def random_line(curve: UpliftCurve, values: np.ndarray) -> np.ndarray:
    """[P + 1], where a random ranking would be: straight from 0 to the last of ``values`` (`qini` or `gain`)."""
    return curve.share * values[-1]


def qini_sklift_of(curve: UpliftCurve, negative_effect: bool = True) -> float:
    """`qini_sklift` of a curve whose outcome is binary."""
    best = perfect_qini(curve, negative_effect)
    if best[1][-1] < 0 and not negative_effect:
        return float("nan")  # the straight climb would run backwards
    return _share_of_perfect((curve.taken, curve.qini()), best)


def auuc_sklift_of(curve: UpliftCurve) -> float:
    """`auuc_sklift` of a curve whose outcome is binary."""
    return _share_of_perfect((curve.taken, curve.gain()), perfect_gain(curve))


def qini_causalml_of(curve: UpliftCurve, normalize: bool = True) -> float:
    """`qini_causalml` of a curve, straight between its cuts."""
    share = np.divide(curve.treated, curve.control, out=np.full(len(curve.control), np.nan), where=curve.control > 0)
    values = _from_zero(curve.taken, curve.treated_sum - curve.control_sum * share)
    area = np.trapezoid(values, curve.taken) - values[-1] * curve.taken[-1] / 2
    return _ratio(area / (curve.taken[-1] + 1), abs(values[-1]) if normalize else 1.0)


def auuc_causalml_of(curve: UpliftCurve, normalize: bool = True) -> float:
    """`auuc_causalml` of a curve, straight between its cuts."""
    both = (curve.treated > 0) & (curve.control > 0)
    lift = np.full(len(both), np.nan)
    lift[both] = (curve.treated_sum[both] / curve.treated[both]) - (curve.control_sum[both] / curve.control[both])
    values = _from_zero(curve.taken, lift) * curve.taken
    # The mean over 0, 1, ..., N customers is the trapezoids' area and half of the end.
    area = np.trapezoid(values, curve.taken) + values[-1] / 2
    return _ratio(area / (curve.taken[-1] + 1), abs(values[-1]) if normalize else 1.0)


def raw_area(curve: UpliftCurve, values: np.ndarray) -> float:
    """Mean height of ``values`` (`qini` or `gain`) above random over all cuts, per customer of the table."""
    return float(np.trapezoid(values - random_line(curve, values), curve.share) / curve.taken[-1])


def uplift_at_k_of(curve: UpliftCurve, k: float | int = 0.3, strategy: str = "overall") -> float:
    """`uplift_at_k` of a curve; straight between its cuts, where the limit falls between two."""
    _one_of("strategy", strategy, ("overall", "by_group"))
    total = curve.taken[-1]
    whole = isinstance(k, (int, np.integer))
    if not 0 < k < (total if whole else 1):
        raise ValueError(f"uplift_at_k: k={k}; give a share in (0, 1), or a whole number below {total:g}.")

    def limit(customers: float) -> float:
        if whole:
            return float(k)
        # Weights that are no counts have no whole customers.
        return float(int(customers * k)) if customers == int(customers) else customers * k

    if strategy == "overall":
        at = limit(total)
        sums = (curve.treated, curve.control, curve.treated_sum, curve.control_sum)
        n_t, n_c, y_t, y_c = (float(np.interp(at, curve.taken, values)) for values in sums)
    else:
        n_t, n_c = limit(curve.treated[-1]), limit(curve.control[-1])
        if n_t > curve.treated[-1] or n_c > curve.control[-1]:
            raise ValueError(f"uplift_at_k: k={k}; the smaller arm has {min(_ends(curve)[:2]):g} customers.")
        y_t = float(np.interp(n_t, curve.treated, curve.treated_sum))
        y_c = float(np.interp(n_c, curve.control, curve.control_sum))
    return _ratio(y_t, n_t) - _ratio(y_c, n_c)


def _causalml_cuts(
    score: np.ndarray, treated: np.ndarray, y: np.ndarray, weight: np.ndarray | None, ties: str
) -> UpliftCurve:
    """The curve to average: a cut at every row in CausalML's order, or at distinct scores."""
    _one_of("ties", ties, TIES)
    given = np.asarray(score)
    score, treated, y, weight = _two_arms(score, treated, y, weight)
    if ties == "shared":
        return uplift_curve(score, treated, y, weight)
    # CausalML sorts by pandas' sort_values(ascending=False): from the last row to the first, with NumPy's default
    # sort, and then back. The dtype is kept, because that sort leaves ties of float32 and of float64 differently.
    order = (len(score) - 1 - np.argsort(given[::-1], kind="quicksort"))[::-1]
    return curve_of_groups(score[order], tuple(column[order] for column in _columns(treated, y, weight)))


def _two_arms(
    score: np.ndarray, treated: np.ndarray, outcome: np.ndarray, weight: np.ndarray | None
) -> tuple[np.ndarray, ...]:
    score, treated, outcome, weight = checked("uplift_curve", score, treated, outcome, weight=weight)
    odd = (treated != 0) & (treated != 1)
    if odd.any():
        raise ValueError(f"uplift_curve: treated has the value {treated[odd][0]:g}; give 1 or 0, two arms at a time.")
    for name, arm in (("treated", treated), ("control", 1.0 - treated)):
        if not (weight * arm).any():
            raise ValueError(f"uplift_curve: no {name} customer among {len(score)} rows; an effect needs both arms.")
    return score, treated, outcome, weight


def _binary_curve(
    name: str, score: np.ndarray, treated: np.ndarray, y: np.ndarray, weight: np.ndarray | None
) -> UpliftCurve:
    odd = ~np.isin(y, (0, 1))
    if odd.any():
        value = np.asarray(y)[odd][0]
        raise ValueError(
            f"{name}: an outcome is {value:g}, but its perfect ranking is known for 0 and 1 only. Use qini_raw, "
            "auuc_raw, or the definitions of CausalML."
        )
    return uplift_curve(score, treated, y, weight)


def _columns(treated: np.ndarray, outcome: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, ...]:
    n_t, n_c = weight * treated, weight * (1.0 - treated)
    return n_t, n_c, n_t * outcome, n_c * outcome


def _ends(curve: UpliftCurve) -> tuple[float, float, float, float]:
    sums = (curve.treated, curve.control, curve.treated_sum, curve.control_sum)
    n_t, n_c, y_t, y_c = (float(values[-1]) for values in sums)
    return n_t, n_c, y_t, y_c


def _share_of_perfect(actual: tuple[np.ndarray, np.ndarray], best: tuple[np.ndarray, np.ndarray]) -> float:
    random = best[0][-1] * best[1][-1] / 2
    above = [float(np.trapezoid(values, count)) - random for count, values in (actual, best)]
    # Rounding leaves about 1e-16 of the areas where the perfect ranking is no better than random.
    if abs(above[1]) <= 1e-12 * max(abs(random), 1.0):
        return float("nan")
    return float(above[0] / above[1])


def _from_zero(count: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Values with 0 for nobody, and straight from there to the first that is defined, as CausalML interpolates."""
    values = values.copy()
    values[0] = 0.0
    known = ~np.isnan(values)
    return np.interp(count, count[known], values[known])


def _over(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0)


def _ratio(numerator: float, denominator: float) -> float:
    return float(numerator / denominator) if denominator != 0 else float("nan")


def _one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{name}={value!r} is not known; give one of {', '.join(known)}.")
