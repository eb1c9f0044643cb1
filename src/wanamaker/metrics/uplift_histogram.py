"""Uplift scores from sums per predicted effect: for tables with more rows than can be brought together on one rank.

Every score of `UpliftScores` is a function of sums over the customers that share a predicted effect, and of sums over
all customers. Effects are rounded to so many binary digits, rows are added to the sums of their effect, and ranks send
their sums: memory and traffic depend on the number of different effects, not of rows. What needs no ranking (losses,
average effects, policy values) is exact; a ranking is exact but for customers whose effects are rounded to the same
number, who share their place.

Axis letters: B batch rows, N rows, K arms (number 0 is the control), A = K - 1 offers, G distinct effects.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from wanamaker.metrics.doubly_robust import average_effect_of, dr_effects, dr_scores, rate_of
from wanamaker.metrics.rank_zero import on_rank_zero
from wanamaker.metrics.uplift_calibration import calibration_error_of, calibration_line_of, calibration_table_of
from wanamaker.metrics.uplift_curves import (
    auuc_causalml_of,
    auuc_sklift_of,
    curve_of_groups,
    qini_causalml_of,
    qini_sklift_of,
    raw_area,
    uplift_at_k_of,
)
from wanamaker.metrics.uplift_groups import ScoreGroups, group_by_score, join_groups, rounded_scores

BINARY_SCORES = ("qini_sklift", "auuc_sklift")
OFFER_SCORES = (
    "qini_causalml",
    "auuc_causalml",
    "qini_raw",
    "auuc_raw",
    "uplift_at_30",
    "autoc",
    "autoc_se",
    "qini_dr",
    "qini_dr_se",
    "average_effect",
    "average_effect_se",
    "calibration_error",
    "calibration_bias",
    "calibration_slope",
)
POLICY_SCORES = ("policy_value", "policy_value_se", "best_arm_value", "gain_over_best_arm", "gain_over_best_arm_se")
_FOLD_ROWS = 1 << 18


class UpliftRows(NamedTuple):
    """Rows of an experiment with what a model says of them; floating arrays keep the precision they came in.

    Attributes:
        row: int64 [N], unique in the table.
        treatment: int16 [N].
        outcome: [N]. mean, propensity: [N, K]. effect: [N, A]. weight: [N].
    """

    row: np.ndarray
    treatment: np.ndarray
    outcome: np.ndarray
    mean: np.ndarray
    propensity: np.ndarray
    effect: np.ndarray
    weight: np.ndarray


class UpliftSums(NamedTuple):
    """What the scores need of any number of rows; sums of parts add up.

    Attributes:
        offers: A groups by predicted effect; sums are n_t, n_c, Y_t, Y_c and those of `effect_moments`.
        loss: float64 [A], w (effect - effect score)^2.
        policy: float64 [3, 1 + 2K], w z, w^2 z and w^2 z^2 of the scores z: of the arm the model chooses, of each arm,
            and of the first less each of the others.
        weight: float64 [2], w and w^2.
        rows: int64 [2], rows, and those whose probability was clipped.
        finite: whether all predictions were; else the other sums are of nothing.
    """

    offers: tuple[ScoreGroups, ...]
    loss: np.ndarray
    policy: np.ndarray
    weight: np.ndarray
    rows: np.ndarray
    finite: bool


class UpliftHistogram(Metric):
    """The scores of `UpliftScores` for more rows than fit; each row must be given once, to one rank.

    Call `update` per batch, `compute` on **every** rank at the end (it is a collective), `reset` before the next
    evaluation. Ranks and batches change the result by rounding only.

    Args:
        arms: K names, the control first.
        binary: whether the outcome is 0 or 1.
        clip: smallest probability to divide by, see `dr_scores`.
        bits: binary digits that effects keep: 10 tells effects apart that differ by a thousandth of themselves.
    """

    is_differentiable = False

    def __init__(self, arms: Sequence[str], binary: bool, clip: float = 0.02, bits: int = 10) -> None:
        # As in ForecastMetrics: ranks are joined in compute, and nothing is a tensor.
        super().__init__(compute_with_cache=False, sync_on_compute=False)
        self.arms, self.binary, self.clip, self.bits = tuple(arms), binary, clip, bits
        self._pending: list[UpliftRows] = []
        self._sums: UpliftSums | None = None

    def update(
        self,
        treatment: Tensor,
        outcome: Tensor,
        mean: Tensor,
        propensity: Tensor,
        effect: Tensor,
        weight: Tensor | None = None,
    ) -> None:
        """Add B rows; arguments as in `UpliftScores.update`."""
        row = torch.arange(len(treatment))
        self.add(rows_of_batch(self.arms, row, treatment, outcome, mean, propensity, effect, weight))

    def add(self, rows: UpliftRows) -> None:
        """Add rows that are arrays."""
        self._pending.append(rows)
        if sum(len(part.row) for part in self._pending) >= _FOLD_ROWS:
            self.fold()

    def fold(self) -> UpliftSums:
        """Sums of this rank's rows so far."""
        parts = [] if self._sums is None else [self._sums]
        if self._pending or not parts:
            parts.append(sums_of_rows(join_rows(self.arms, self._pending), self.clip, self.bits))
        self._sums, self._pending = join_sums(parts), []
        return self._sums

    def compute(self) -> dict[str, float]:
        """Scores over all ranks; names as in `UpliftScores`. A collective."""
        scores, notes = on_rank_zero(self.fold(), lambda parts: scores_of(join_sums(parts), self.arms, self.binary))
        warn_of(notes)
        return scores

    def reset(self) -> None:
        """Forget all rows."""
        super().reset()
        self._pending, self._sums = [], None

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Not available: scores of one batch are no estimate, and would be a collective at every step.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError("Uplift scores have no per-batch value: call update() and compute().")


def rows_of_batch(
    arms: Sequence[str],
    row: Tensor,
    treatment: Tensor,
    outcome: Tensor,
    mean: Tensor,
    propensity: Tensor,
    effect: Tensor,
    weight: Tensor | None,
) -> UpliftRows:
    """The rows of a batch whose arm and outcome are known, as arrays; of several outcomes the first.

    Raises:
        ValueError: shapes disagree with each other or with the arms.
    """
    B, K = len(row), len(arms)
    outcome = outcome[:, 0] if outcome.ndim == 2 else outcome
    mean = mean[..., 0] if mean.ndim == 3 else mean
    effect = effect[..., 0] if effect.ndim == 3 else effect
    weight = torch.ones(B) if weight is None else weight
    tensors = dict(zip(UpliftRows._fields, (row, treatment, outcome, mean, propensity, effect, weight), strict=True))
    expected = {"mean": (B, K), "propensity": (B, K), "effect": (B, K - 1)}
    for name, tensor in tensors.items():
        if tuple(tensor.shape) != expected.get(name, (B,)):
            raise ValueError(
                f"Uplift scores of arms {', '.join(arms)}: {name} has shape {tuple(tensor.shape)}, expected "
                f"{expected.get(name, (B,))}."
            )
    arrays = {name: _array(tensor) for name, tensor in tensors.items()}
    known = (arrays["treatment"] >= 0) & ~np.isnan(arrays["outcome"])
    arrays = {name: array[known] for name, array in arrays.items()}
    if (arrays["treatment"] >= K).any():
        raise ValueError(f"A row has arm {arrays['treatment'].max()}, but there are {K} arms: {', '.join(arms)}.")
    return UpliftRows(**{**arrays, "treatment": arrays["treatment"].astype(np.int16)})


def join_rows(arms: Sequence[str], parts: Sequence[UpliftRows]) -> UpliftRows:
    """All rows of the parts, one after the other."""
    K = len(arms)
    if len(parts) == 1:
        return parts[0]
    empty = {"row": np.zeros(0, np.int64), "treatment": np.zeros(0, np.int16)}
    empty |= {name: np.zeros(0, np.float32) for name in ("outcome", "weight")}
    empty |= {name: np.zeros((0, K), np.float32) for name in ("mean", "propensity")}
    empty["effect"] = np.zeros((0, K - 1), np.float32)
    return UpliftRows(*(np.concatenate(arrays) for arrays in zip(UpliftRows(**empty), *parts, strict=True)))


def sums_of_rows(rows: UpliftRows, clip: float, bits: int | None = None) -> UpliftSums:
    """Sums of rows.

    Args:
        clip: see `dr_scores`.
        bits: binary digits that effects are rounded to; None keeps them as they are.
    """
    A = rows.effect.shape[1]
    K = A + 1
    nothing = UpliftSums(
        tuple(ScoreGroups(np.zeros(0), tuple(np.zeros(0) for _ in range(9))) for _ in range(A)),
        np.zeros(A),
        np.zeros((3, 1 + 2 * K)),
        np.zeros(2),
        np.array([len(rows.row), 0]),
        True,
    )
    if len(rows.row) == 0:
        return nothing
    if not all(np.isfinite(array).all() for array in (rows.mean, rows.propensity, rows.effect)):
        return nothing._replace(finite=False)
    seen = np.empty(rows.effect.shape)
    parts = []
    for start in range(0, len(rows.row), _FOLD_ROWS):
        part = UpliftRows(*(array[start : start + _FOLD_ROWS] for array in rows))
        part_seen, sums = _additive_sums(part, nothing, clip)
        seen[start : start + _FOLD_ROWS] = part_seen
        parts.append(sums)
    offers = []
    for a in range(A):
        score = rows.effect[:, a].astype(np.float64) + 0.0 if bits is None else rounded_scores(rows.effect[:, a], bits)
        offers.append(group_by_score(score, _columns(rows, a + 1, seen[:, a])))
    return join_sums(parts)._replace(offers=tuple(offers))


def join_sums(parts: Sequence[UpliftSums]) -> UpliftSums:
    """The sums of all parts' rows together."""
    if len(parts) == 1:
        return parts[0]
    return UpliftSums(
        offers=tuple(join_groups(offer) for offer in zip(*(part.offers for part in parts), strict=True)),
        loss=sum(part.loss for part in parts),
        policy=sum(part.policy for part in parts),
        weight=sum(part.weight for part in parts),
        rows=sum(part.rows for part in parts),
        finite=all(part.finite for part in parts),
    )


def scores_of(sums: UpliftSums, arms: Sequence[str], binary: bool) -> tuple[dict[str, float], dict[str, str]]:
    """Scores by name, and what a reader must be told, by kind."""
    notes: dict[str, str] = {}
    num_rows, clipped = sums.rows.tolist()
    if clipped:
        notes["clip"] = (
            f"{clipped} of {num_rows} rows got an arm less probable than the clip; their weight in doubly robust "
            "scores is bounded, at the price of some bias."
        )
    usable = sums.finite and sums.weight[0] > 0
    scores = {"dr_loss": float(sums.loss.mean() / sums.weight[0]) if usable else float("nan")}
    scores |= _policy_scores(sums) if usable else dict.fromkeys(POLICY_SCORES, float("nan"))
    names = (BINARY_SCORES if binary else ()) + OFFER_SCORES
    for arm, groups in zip(arms[1:], sums.offers, strict=True):
        found = _offer_scores(groups, binary) if usable else dict.fromkeys(names, float("nan"))
        suffix = f"/{arm}" if len(arms) > 2 else ""
        scores |= {f"{name}{suffix}": found[name] for name in names}
    return scores, notes


def warn_of(notes: dict[str, str]) -> None:
    """Say each note once per place, as warnings do."""
    for text in notes.values():
        warnings.warn(text, stacklevel=2)


def _additive_sums(rows: UpliftRows, nothing: UpliftSums, clip: float) -> tuple[np.ndarray, UpliftSums]:
    """Effect scores [N, A], and all sums but those of the offers."""
    N = np.arange(len(rows.row))
    effect, weight, outcome = (array.astype(np.float64) for array in (rows.effect, rows.weight, rows.outcome))
    arms = dr_scores(rows.treatment, outcome, rows.mean, rows.propensity, clip)
    seen = dr_effects(arms)
    # Nobody is treated who is not expected to gain.
    chosen = np.where(effect.max(axis=1) > 0, effect.argmax(axis=1) + 1, 0)
    value = arms[N, chosen][:, None]
    z = np.concatenate([value, arms, value - arms], axis=1)
    w = weight[:, None]
    return seen, nothing._replace(
        loss=(w * (effect - seen) ** 2).sum(axis=0),
        policy=np.stack([(w * z).sum(axis=0), (w**2 * z).sum(axis=0), ((w * z) ** 2).sum(axis=0)]),
        weight=np.array([weight.sum(), (weight**2).sum()]),
        rows=np.array([len(N), int((rows.propensity[N, rows.treatment] < clip).sum())]),
    )


def _columns(rows: UpliftRows, arm: int, seen: np.ndarray) -> Iterator[np.ndarray]:
    """What is summed per effect, one after the other: a table of ten million rows has no room for nine at once."""
    weight, outcome = rows.weight.astype(np.float64), rows.outcome.astype(np.float64)
    for own in (rows.treatment == arm, rows.treatment == 0):
        yield weight * own
    for own in (rows.treatment == arm, rows.treatment == 0):
        yield weight * own * outcome
    yield weight
    yield weight * seen
    yield weight**2
    yield weight**2 * seen
    yield (weight * seen) ** 2


def _offer_scores(groups: ScoreGroups, binary: bool) -> dict[str, float]:
    moments = ScoreGroups(groups.score, groups.sums[4:])
    autoc, qini = rate_of(moments, "autoc"), rate_of(moments, "qini")
    effect = average_effect_of(moments)
    error = calibration_error_of(calibration_table_of(moments))
    scores = {
        "autoc": autoc.value,
        "autoc_se": autoc.standard_error,
        "qini_dr": qini.value,
        "qini_dr_se": qini.standard_error,
        "average_effect": effect.value,
        "average_effect_se": effect.standard_error,
        "calibration_error": error.absolute,
        "calibration_bias": error.signed,
        "calibration_slope": calibration_line_of(moments).slope.value,
    }
    # Rows of other arms have no part in the curve; without their groups a cut is where it would be without them.
    own = (groups.sums[0] > 0) | (groups.sums[1] > 0)
    curve = curve_of_groups(groups.score[own], tuple(values[own] for values in groups.sums[:4]))
    by_curve = ("qini_causalml", "auuc_causalml", "qini_raw", "auuc_raw", "uplift_at_30", *BINARY_SCORES)
    if curve.treated[-1] == 0 or curve.control[-1] == 0:
        return scores | dict.fromkeys(by_curve, float("nan"))
    scores |= {
        "qini_causalml": qini_causalml_of(curve),
        "auuc_causalml": auuc_causalml_of(curve),
        "qini_raw": raw_area(curve, curve.qini()),
        "auuc_raw": raw_area(curve, curve.gain()),
        "uplift_at_30": uplift_at_k_of(curve, 0.3),
    }
    if binary:
        scores |= {"qini_sklift": qini_sklift_of(curve), "auuc_sklift": auuc_sklift_of(curve)}
    return scores


def _policy_scores(sums: UpliftSums) -> dict[str, float]:
    total, total_sq = sums.weight
    value = sums.policy[0] / total
    error = np.sqrt(np.maximum(sums.policy[2] - 2 * value * sums.policy[1] + value**2 * total_sq, 0.0)) / total
    K = len(value) // 2
    best = int(value[1 : 1 + K].argmax())
    return {
        "policy_value": float(value[0]),
        "policy_value_se": float(error[0]),
        "best_arm_value": float(value[1 + best]),
        "gain_over_best_arm": float(value[1 + K + best]),
        "gain_over_best_arm_se": float(error[1 + K + best]),
    }


def _array(tensor: Tensor) -> np.ndarray:
    tensor = tensor.detach().cpu()
    if not tensor.dtype.is_floating_point:
        return tensor.to(torch.int64).numpy()
    return (tensor if tensor.dtype == torch.float64 else tensor.float()).numpy()
