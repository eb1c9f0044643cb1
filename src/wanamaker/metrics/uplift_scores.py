"""`UpliftScores`: the scores of an uplift model over any number of ranks, each row counted once.

Effects of offer a are ranked on the rows of offer a and the control (the curves: they assume that arms were drawn at
random), and on all rows by doubly robust scores (the rest). For each offer, definitions in the module named:

- ``qini_sklift``, ``auuc_sklift`` (binary outcomes), ``qini_causalml``, ``auuc_causalml``, ``qini_raw``, ``auuc_raw``,
  ``uplift_at_30`` (top 30 % of both arms together): `uplift_curves`, tied effects sharing their place.
- ``autoc``, ``autoc_se``, ``qini_dr``, ``qini_dr_se``, ``average_effect``, ``average_effect_se``: `doubly_robust`.
- ``calibration_error`` (mean |gap| of ten bins, corrected), ``calibration_bias`` (observed less predicted),
  ``calibration_slope`` (1 if differences are right on average): `uplift_calibration`.

With several offers each name has the offer after it, as in ``autoc/Womens E-Mail``. For all offers together:

- ``dr_loss``: mean over offers; what to stop and choose by. Qini is too noisy for that.
- ``policy_value``: mean outcome per customer if each gets the offer with the largest effect above 0, else none, and its
  ``policy_value_se``. ``best_arm_value``: the same for the best single arm, the control included.
  ``gain_over_best_arm``, ``gain_over_best_arm_se``: their difference, row by row. The best arm is chosen on these rows,
  so the gain errs on the side of the single arm.

A score that is not defined is NaN, never 0; so are all of them if a prediction is not finite.

Axis letters: B batch rows, N rows, K arms (number 0 is the control), A = K - 1 offers, Y outcomes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor
from torchmetrics import Metric

from wanamaker.metrics.rank_zero import on_rank_zero
from wanamaker.metrics.uplift_histogram import (
    UpliftHistogram,
    UpliftRows,
    join_rows,
    join_sums,
    rows_of_batch,
    scores_of,
    sums_of_rows,
    warn_of,
)


class UpliftScores(Metric):
    """The scores above.

    Call `update` per batch, `compute` on **every** rank at the end of the epoch (it is a collective), and `reset` when
    the next evaluation starts. A row that came more than once (padding of a last batch, two ranks) counts once, and the
    result depends neither on batches nor on ranks, to the last bit; with more than ``max_rows`` rows they are summed up
    as `UpliftHistogram` does, and must then be given once. Nothing is a tensor, or saved in a checkpoint.

    Args:
        arms: K names, the control first.
        binary: whether the (first) outcome is 0 or 1.
        clip: smallest probability to divide by, see `dr_scores`.
        max_rows: rows of all ranks together that are kept, and gathered on rank 0, which needs some 300 bytes for each
            while it computes.
        bits: of `UpliftHistogram`, beyond ``max_rows``.
    """

    is_differentiable = False

    def __init__(
        self, arms: Sequence[str], binary: bool, clip: float = 0.02, max_rows: int = 2_000_000, bits: int = 10
    ) -> None:
        super().__init__(compute_with_cache=False, sync_on_compute=False)
        self.arms, self.binary, self.clip, self.max_rows = tuple(arms), binary, clip, max_rows
        self._parts: list[UpliftRows] = []
        self._num_rows = 0
        self._histogram = UpliftHistogram(arms, binary, clip, bits)
        self._overflown = False
        self._warned: set[str] = set()

    def update(
        self,
        row: Tensor,
        treatment: Tensor,
        outcome: Tensor,
        mean: Tensor,
        propensity: Tensor,
        effect: Tensor,
        weight: Tensor | None = None,
    ) -> None:
        """Add B rows; those whose arm is -1 or whose outcome is NaN are left out.

        Args:
            row: int [B], unique per row of the table and the same on every rank.
            treatment: int [B].
            outcome: [B] or [B, Y]; of several outcomes the first counts, here and below.
            mean: [B, K] or [B, K, Y], expected outcome under each arm, by members that did not see the row.
            propensity: [B, K].
            effect: [B, A] or [B, A, Y].
            weight: [B], customers that the row stands for; None is 1 each.

        Raises:
            ValueError: shapes disagree with each other or with the arms.
        """
        rows = rows_of_batch(self.arms, row, treatment, outcome, mean, propensity, effect, weight)
        if self._overflown:
            self._histogram.add(rows)
            return
        self._parts.append(rows)
        self._num_rows += len(rows.row)
        if self._num_rows > self.max_rows:
            self._overflow()

    def compute(self) -> dict[str, float]:
        """Scores of the rows of all ranks; every rank gets the same dict. A collective.

        Raises:
            ValueError: one row came with two arms or outcomes (row numbers that are not unique); on all ranks.
        """
        too_many = on_rank_zero((self._num_rows, self._overflown), self._too_many)
        if too_many:
            self._overflow()
            scores, notes = on_rank_zero(self._histogram.fold(), self._of_sums)
        else:
            # One joined part per rank: both the message and, from here on, the state.
            self._parts = [join_rows(self.arms, self._parts)]
            scores, notes = on_rank_zero(self._parts[0], self._of_rows)
        warn_of({kind: text for kind, text in notes.items() if kind not in self._warned})
        self._warned |= set(notes)
        return scores

    def reset(self) -> None:
        """Forget all rows."""
        super().reset()
        self._histogram.reset()
        self._parts, self._num_rows, self._overflown = [], 0, False

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Not available: scores of one batch are no estimate, and would be a collective at every step.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError("UpliftScores has no per-batch value: call update() and compute().")

    def _overflow(self) -> None:
        """Sum up the rows kept so far; those to come go the same way."""
        if self._parts:
            self._histogram.add(_each_once(join_rows(self.arms, self._parts)))
        self._parts, self._overflown = [], True

    def _too_many(self, parts: list[tuple[int, bool]]) -> bool:
        return any(overflown for _rows, overflown in parts) or sum(rows for rows, _flag in parts) > self.max_rows

    def _of_rows(self, parts: list[UpliftRows]) -> tuple[dict[str, float], dict[str, str]]:
        rows = _each_once(join_rows(self.arms, parts))
        return scores_of(sums_of_rows(rows, self.clip), self.arms, self.binary)

    def _of_sums(self, parts: list[Any]) -> tuple[dict[str, float], dict[str, str]]:
        return scores_of(join_sums(parts), self.arms, self.binary)


def _each_once(rows: UpliftRows) -> UpliftRows:
    """Rows by ascending number, each once.

    Raises:
        ValueError: a row came with two arms or outcomes.
    """
    if (np.diff(rows.row) > 0).all():
        return rows
    _, first, inverse = np.unique(rows.row, return_index=True, return_inverse=True)
    for name in ("treatment", "outcome"):
        values = getattr(rows, name)
        if (differs := values != values[first][inverse]).any():
            number = int(rows.row[differs][0])
            raise ValueError(
                f"UpliftScores: row {number} came with {name} {values[rows.row == number].tolist()}. Row numbers must "
                "be unique in a table."
            )
    return UpliftRows(*(array[first] for array in rows))
