"""COCO detection metrics over any number of ranks, equal to pycocotools on the written results.

Three things separate this from `torchmetrics.detection.MeanAveragePrecision`. Recall levels are float64 (theirs are
float32 and move AP by 1e-4). Crowd regions and mask areas are always used (without them AP_large moves by .04). An
image counts once, however many ranks saw it. It also gathers one message per rank instead of one per image.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor
from torchmetrics import Metric

from wanamaker.metrics.coco_evaluation import RECALL_LEVELS, evaluate_records, summarize
from wanamaker.metrics.detection_records import (
    DetectionRecords,
    each_image_once,
    join_records,
    records_of_batch,
)
from wanamaker.metrics.rank_zero import on_rank_zero


class PrecisionRecallCurves(NamedTuple):
    """COCO's precision-recall curves at IoU .50, all areas, 100 detections; K classes, R = 101 recall levels."""

    recall: np.ndarray  # float64 [R], 0 to 1
    precision: np.ndarray  # float64 [K, R], interpolated; NaN for a class without ground truth
    scores: np.ndarray  # float64 [K, R], score threshold that reaches the level; 0 where never reached, NaN as above


class CocoMetrics(Metric):
    """AP and AR of box detections as COCO defines them.

    Call `update` per batch, `compute` on **every** rank at the end of the epoch (it is a collective: in
    ``on_validation_epoch_end``, not under ``if trainer.is_global_zero``), and `reset` when the next evaluation starts.
    Each rank keeps flat arrays in CPU memory, about 0.06 kB per box; there are no tensor states, so nothing is moved,
    cast by half precision, or saved in a checkpoint.

    Args:
        num_classes: K. Labels are 1..K; 0 is the background.

    Raises:
        ValueError: ``num_classes`` is not a positive integer.
    """

    is_differentiable = False
    higher_is_better = True

    def __init__(self, num_classes: int) -> None:
        # The base class's cache and sync are off: a rank with a cached value would return at once and leave the others
        # waiting, and its gather is one collective per tensor.
        super().__init__(compute_with_cache=False, sync_on_compute=False)
        if isinstance(num_classes, bool) or not isinstance(num_classes, int) or num_classes < 1:
            raise ValueError(f"CocoMetrics: num_classes is {num_classes!r}; give the number of classes, at least 1.")
        self.num_classes = num_classes
        self._parts: list[DetectionRecords] = []
        self._evaluated: DetectionRecords | None = None
        self._curves: PrecisionRecallCurves | None = None

    def update(
        self,
        detections: Sequence[Mapping[str, Tensor]],
        ground_truth: Sequence[Mapping[str, Tensor]],
        image_ids: Tensor | Sequence[int],
    ) -> None:
        """Add a batch of B images, each with what was found in it and what is there.

        Args:
            detections: per image ``boxes`` [N, 4] xyxy in pixels of the original file, ``scores`` [N], ``labels`` [N]
                in 1..K; any device and floating type. Labels outside 1..K count for nothing, as in pycocotools, and
                `compute` warns of them.
            ground_truth: per image ``boxes`` [M, 4] xywh in pixels of the original file, ``labels`` [M] in 1..K,
                ``area`` [M] in pixels^2 (finite, not negative), ``iscrowd`` [M] 0 or 1. All annotations of the image,
                crowds too.
            image_ids: int [B]. An id seen before, here or on another rank, counts once: the first on the lowest rank.

        Raises:
            ValueError: lengths or shapes disagree, a key is missing, a box or score is not finite, a ground-truth label
                is outside 1..K, an area is negative or not finite, ``iscrowd`` is neither 0 nor 1, ids are no integers.
                Names the image; nothing is added.
        """
        self._parts.append(records_of_batch(detections, ground_truth, image_ids, self.num_classes))
        self._evaluated = self._curves = None

    def compute(self) -> dict[str, float | list[float]]:
        """Evaluate the images of all ranks once, on rank 0; every rank gets the same dict. A collective.

        Returns:
            ``ap`` (IoU .50:.95), ``ap50``, ``ap75``, ``ap_small``, ``ap_medium``, ``ap_large`` (object areas up to
            32^2, 96^2 and above, pixels of the original file), ``ar1``, ``ar10``, ``ar100`` (recall with that many
            detections per image and class), ``ar_small``, ``ar_medium``, ``ar_large``: floats in 0..1. ``ap_class`` and
            ``ap50_class``: lists of K floats, class of label k at k - 1. NaN where there is no ground truth to find
            (pycocotools prints -1); means leave such classes out. No image at all gives NaN throughout.

        Raises:
            ValueError: one image id came with two ground truths; on all ranks.
            RuntimeError: the evaluation failed on rank 0; on the other ranks, quoting its error.
        """
        evaluated: list[DetectionRecords] = []

        def evaluate(
            parts: list[DetectionRecords],
        ) -> tuple[dict[str, float | list[float]], PrecisionRecallCurves]:
            records = each_image_once(join_records(parts))
            self._warn_of_unknown_labels(records)
            evaluation = evaluate_records(records, self.num_classes)
            evaluated.append(records)
            known = evaluation.precision[0, :, :, 0, 2].T
            at_scores = evaluation.scores[0, :, :, 0, 2].T
            curves = PrecisionRecallCurves(
                RECALL_LEVELS, np.where(known > -1, known, np.nan), np.where(known > -1, at_scores, np.nan)
            )
            return summarize(evaluation), curves

        # One joined part per rank: both the message and, from here on, the state.
        self._parts = [join_records(self._parts)]
        summary, self._curves = on_rank_zero(self._parts[0], evaluate)
        self._evaluated = evaluated[0] if evaluated else None
        return summary

    def reset(self) -> None:
        """Forget all images. Call it when an evaluation starts, so that a sanity check leaves nothing behind."""
        super().reset()
        self._parts = []
        self._evaluated = self._curves = None

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Not available: AP of one batch is no estimate of AP, and would be a collective at every step.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(
            "CocoMetrics has no per-batch value: call update() per batch and compute() per epoch."
        )

    def precision_recall_curves(self) -> PrecisionRecallCurves:
        """The curves of the last `compute`, on any rank; no collective.

        Raises:
            RuntimeError: `compute` has not run since the last `update` or `reset`.
        """
        if self._curves is None:
            raise RuntimeError("CocoMetrics: no curves yet; call compute() on all ranks first.")
        return self._curves

    def evaluated_records(self) -> DetectionRecords | None:
        """What the last `compute` evaluated, each image once in id order: on rank 0; None on the others.

        `write_coco_results` and `coco_ground_truth_dict` turn it into files that score the same.
        """
        return self._evaluated

    def _warn_of_unknown_labels(self, records: DetectionRecords) -> None:
        unknown = records.labels[(records.labels < 1) | (records.labels > self.num_classes)]
        if len(unknown):
            warnings.warn(
                f"CocoMetrics: {len(unknown)} of {len(records.labels)} detections have labels outside "
                f"1..{self.num_classes} ({np.unique(unknown)[:5].tolist()}) and count for nothing. Does the head fit?"
            )
