"""`Detections`: the objects a detector found on a set of images.

Axis letters: D detections, I images.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from wanamaker.predictions.artefact import as_array, prediction_kind, read_kind, write_table

if TYPE_CHECKING:  # both cost half a second to import, and the menu of experiments does not need them
    import pandas as pd
    import pyarrow as pa


@prediction_kind
@dataclass(frozen=True)
class Detections:
    """Detected objects of a set of images, flat over all images.

    Attributes:
        image_id: int64 [D], the image of each detection.
        boxes: float32 [D, 4], xyxy in pixels of the original file.
        score: float32 [D], in [0, 1].
        label: int64 [D], 1..K.
        class_names: K names; ``class_names[label - 1]``.
        image_ids_seen: int64 [I], every image that was looked at, each once. An image without a detection is here and
            nowhere else: it still counts in every average.

    Raises:
        ValueError: shapes disagree, a value is not finite, a label has no name, or an image was not seen.
    """

    image_id: np.ndarray
    boxes: np.ndarray
    score: np.ndarray
    label: np.ndarray
    class_names: list[str]
    image_ids_seen: np.ndarray

    kind: ClassVar[str] = "detections"
    schema_version: ClassVar[int] = 1
    file_name: ClassVar[str] = "detections.parquet"

    def __post_init__(self) -> None:
        def keep(name: str, dtype: type, shape: tuple[int, ...]) -> None:
            value = np.asarray(getattr(self, name))
            value = value.astype(dtype, copy=False)
            if value.size == 0:
                value = value.reshape([0 if n < 0 else n for n in shape])
            object.__setattr__(self, name, value)

        keep("image_id", np.int64, (-1,))
        keep("boxes", np.float32, (-1, 4))
        keep("score", np.float32, (-1,))
        keep("label", np.int64, (-1,))
        keep("image_ids_seen", np.int64, (-1,))
        object.__setattr__(self, "class_names", [str(name) for name in self.class_names])
        count = len(self.image_id)
        if self.boxes.shape != (count, 4) or self.score.shape != (count,) or self.label.shape != (count,):
            raise ValueError(
                f"Detections disagree in length: image_id {self.image_id.shape}, boxes {self.boxes.shape}, "
                f"score {self.score.shape}, label {self.label.shape}; expected [D], [D, 4], [D], [D]."
            )
        broken = ~(np.isfinite(self.boxes).all(axis=1) & np.isfinite(self.score))
        if broken.any():
            images = np.unique(self.image_id[broken])[:5].tolist()
            raise ValueError(
                f"{int(broken.sum())} detections have a box or score that is not finite (images {images}). "
                "The weights have probably diverged: look at the training loss, lower the learning rate."
            )
        if count and (self.label.min() < 1 or self.label.max() > len(self.class_names)):
            raise ValueError(
                f"Labels run from {self.label.min()} to {self.label.max()}, but there are {len(self.class_names)} "
                "class names (labels are 1..K; 0 is the background)."
            )
        if len(np.unique(self.image_ids_seen)) != len(self.image_ids_seen):
            raise ValueError(
                "image_ids_seen repeats an image. Build parts with from_outputs and join them with concat."
            )
        unseen = np.setdiff1d(self.image_id, self.image_ids_seen)
        if len(unseen):
            raise ValueError(f"Detections on images that are not in image_ids_seen: {unseen[:5].tolist()}.")

    def __len__(self) -> int:
        return len(self.image_id)

    def to(self, *_device: Any, **_options: Any) -> Detections:
        """Itself, because arrays live on the CPU: Lightning moves what `predict_step` returns, and looks for this."""
        return self

    @classmethod
    def from_outputs(
        cls, outputs: Sequence[Mapping[str, Any]], image_ids: Any, class_names: Sequence[str]
    ) -> Detections:
        """Flatten a detector's output for a batch.

        Args:
            outputs: per image ``{"boxes": [N, 4] xyxy original pixels, "scores": [N], "labels": [N]}``, tensors of any
                device and precision, or arrays.
            image_ids: [B]. An image that comes twice (a padded sampler) is kept once, at its first place.
            class_names: K names.
        """
        ids = as_array(image_ids, np.int64).reshape(-1)
        if len(ids) != len(outputs):
            raise ValueError(f"{len(outputs)} outputs for {len(ids)} image ids; there must be one for each.")
        _, first = np.unique(ids, return_index=True)
        order = np.sort(first)
        boxes = [as_array(outputs[i]["boxes"], np.float32).reshape(-1, 4) for i in order]
        return cls(
            image_id=np.repeat(ids[order], [len(b) for b in boxes]),
            boxes=np.concatenate([np.zeros((0, 4), np.float32), *boxes]),
            score=np.concatenate(
                [np.zeros(0, np.float32), *(as_array(outputs[i]["scores"], np.float32) for i in order)]
            ),
            label=np.concatenate([np.zeros(0, np.int64), *(as_array(outputs[i]["labels"], np.int64) for i in order)]),
            class_names=list(class_names),
            image_ids_seen=ids[order],
        )

    @classmethod
    def from_ground_truth(
        cls, targets: Sequence[Mapping[str, Any]], image_ids: Any, class_names: Sequence[str]
    ) -> Detections:
        """What is annotated, as detections of score 1, so that it can be drawn beside them; crowds are left out.

        Args:
            targets: per image ``boxes`` [M, 4] xywh original pixels, ``labels`` [M], ``iscrowd`` [M], as in
                ``DetectionBatch.ground_truth``.
            image_ids: [B].
            class_names: K names.
        """
        outputs = []
        for target in targets:
            single = as_array(target["iscrowd"], np.int64) == 0
            boxes = as_array(target["boxes"], np.float64).reshape(-1, 4)[single]
            boxes = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
            labels = as_array(target["labels"], np.int64)[single]
            outputs.append({"boxes": boxes, "scores": np.ones(len(labels)), "labels": labels})
        return cls.from_outputs(outputs, image_ids, class_names)

    @classmethod
    def concat(cls, parts: Iterable[Detections]) -> Detections:
        """Join parts (batches, ranks). An image that several parts have seen keeps the detections of the first.

        Raises:
            ValueError: no part, or parts with different class names.
        """
        parts = list(parts)
        if not parts:
            raise ValueError("Nothing to join: concat needs at least one part (did the loader yield no batch?).")
        names = parts[0].class_names
        for number, part in enumerate(parts):
            if part.class_names != names:
                raise ValueError(f"Part {number} has class names {part.class_names[:5]}, part 0 has {names[:5]}.")
        seen_by = np.repeat(np.arange(len(parts)), [len(p.image_ids_seen) for p in parts])
        all_seen = np.concatenate([p.image_ids_seen for p in parts])
        unique, first = np.unique(all_seen, return_index=True)  # first occurrence = earliest part
        owner = seen_by[first]
        image_id = np.concatenate([p.image_id for p in parts])
        part_of = np.repeat(np.arange(len(parts)), [len(p) for p in parts])
        keep = owner[np.searchsorted(unique, image_id)] == part_of if len(image_id) else np.zeros(0, bool)
        return cls(
            image_id=image_id[keep],
            boxes=np.concatenate([p.boxes for p in parts])[keep],
            score=np.concatenate([p.score for p in parts])[keep],
            label=np.concatenate([p.label for p in parts])[keep],
            class_names=names,
            image_ids_seen=all_seen[np.sort(first)],
        )

    def select(self, keep: np.ndarray) -> Detections:
        """The detections at ``keep`` (mask or indices [D']); the images seen stay the same."""
        return Detections(
            self.image_id[keep],
            self.boxes[keep],
            self.score[keep],
            self.label[keep],
            self.class_names,
            self.image_ids_seen,
        )

    def by_image(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yield (image id, indices into the detections, best score first) for every image seen, in that order."""
        order = np.lexsort((-self.score, self.image_id))
        sorted_ids = self.image_id[order]
        start = np.searchsorted(sorted_ids, self.image_ids_seen, side="left")
        stop = np.searchsorted(sorted_ids, self.image_ids_seen, side="right")
        for image_id, a, b in zip(self.image_ids_seen.tolist(), start, stop, strict=True):
            yield image_id, order[a:b]

    def to_frame(self) -> pd.DataFrame:
        """One row per detection: image_id, label, class_name, score, x1, y1, x2, y2 (original pixels)."""
        import pandas as pd

        names = np.array(self.class_names, dtype=object)
        return pd.DataFrame(
            {
                "image_id": self.image_id,
                "label": self.label,
                "class_name": pd.Series(names[self.label - 1] if len(self) else [], dtype="str"),
                "score": self.score,
                **{name: self.boxes[:, i] for i, name in enumerate(("x1", "y1", "x2", "y2"))},
            }
        )

    def coco_results(self, category_ids: Sequence[int]) -> list[dict[str, Any]]:
        """COCO's result list: image_id, category_id, bbox xywh, score.

        Args:
            category_ids: K ids of the annotation file, in label order.

        Widths are differences taken in float64, so that the written list scores exactly as the arrays do.
        """
        if len(category_ids) != len(self.class_names):
            raise ValueError(f"{len(category_ids)} category ids for {len(self.class_names)} class names.")
        boxes = self.boxes.astype(np.float64)
        boxes[:, 2:] -= boxes[:, :2]
        categories = np.asarray(category_ids, dtype=np.int64)[self.label - 1].tolist() if len(self) else []
        columns = (self.image_id.tolist(), categories, boxes.tolist(), self.score.astype(np.float64).tolist())
        return [
            {"image_id": image, "category_id": category, "bbox": box, "score": score}
            for image, category, box, score in zip(*columns, strict=True)
        ]

    def write(self, folder: Path | str) -> Path:
        """Write ``<folder>/detections.parquet`` atomically and return its path."""
        import pyarrow as pa

        return write_table(
            pa.Table.from_pandas(self.to_frame(), preserve_index=False),
            Path(folder) / self.file_name,
            kind=self.kind,
            schema_version=self.schema_version,
            header={"class_names": self.class_names, "image_ids_seen": self.image_ids_seen.tolist()},
        )

    @classmethod
    def read(cls, path: Path | str) -> Detections:
        """Read the file that `write` made, from the file or its folder.

        Raises:
            UserError: not there, damaged, or predictions of another kind.
        """
        return read_kind(cls, path, "a detector")

    @classmethod
    def from_table(cls, table: pa.Table, header: Mapping[str, Any], path: Path | None = None) -> Detections:
        """Rebuild from the columns and the header; `read_predictions` calls this."""
        columns = {name: table[name].to_numpy() for name in ("image_id", "label", "score", "x1", "y1", "x2", "y2")}
        return cls(
            image_id=columns["image_id"],
            boxes=np.stack([columns[name] for name in ("x1", "y1", "x2", "y2")], axis=1),
            score=columns["score"],
            label=columns["label"],
            class_names=list(header["class_names"]),
            image_ids_seen=np.array(header["image_ids_seen"], dtype=np.int64),
        )
