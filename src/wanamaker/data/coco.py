"""`CocoDataModule`: COCO instance files with image folders, as `DetectionBatch`es."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import pandas as pd
import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from torch.utils.data import DataLoader

from wanamaker.data.coco_check import check_coco_once
from wanamaker.data.coco_index import CocoIndex, load_coco
from wanamaker.data.coco_report import CocoReport, raise_errors
from wanamaker.data.detection_dataset import MAX_WORKERS, DetectionDataset
from wanamaker.data.detection_loader import loader_options, prediction_loader
from wanamaker.data.detection_options import CocoSplit, parse_choice, parse_sides, parse_split
from wanamaker.data.detection_sampler import DetectionBatchSampler, DetectionCanvas, DetectionEvaluationSampler
from wanamaker.data.detection_transforms import Augmentation
from wanamaker.data.image_check import CHECK_MODES
from wanamaker.data.sampler import EpochDataLoader, per_rank_batch_size, resume_position
from wanamaker.errors import UserError

log = logging.getLogger(__name__)

_SPLITS = ("train", "val", "test")
_REQUIRED = {"fit": "train", "validate": "val", "test": "test", "predict": "test"}
_USED = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",), "predict": ("test",)}


class CocoDataModule(L.LightningDataModule):
    """Train, validation and test split of COCO instance data.

    Each split is `{images: folder, annotations: file, subset: null or [start, stop]}`; a subset is a range of the
    images in file order, stop not included. A split may be null when no stage needs it; without `val` a fit runs
    without validation. Batch sizes are global: a rank gets `batch_size / world_size` images.

    Args:
        train: Split to train on.
        val: Split to validate on.
        test: Split for test and prediction.
        num_classes: Number of categories K, without background; verified against the files.
        categories: Names to keep, in any order; null keeps all. Labels 1..K follow ascending category ids.
        batch_size: Global training batch.
        eval_batch_size: Global evaluation batch; null takes `batch_size`.
        num_workers: Loader processes per rank; 0 loads in the training process.
        prefetch_factor: Batches that each worker prepares ahead.
        pin_memory: Page-locked batches; null: when there is a CUDA device.
        seed: Seeds the order and every augmentation.
        short_side: Training length of the shorter image side, pixels; a list is multi-scale: one is drawn per batch.
        max_side: Limit of the longer side, pixels.
        eval_short_side: Length of the shorter side in evaluation; null takes the largest of `short_side`.
        flip_probability: Chance of a horizontal flip in training.
        scale_jitter: [low, high] of large-scale jitter in training, or null.
        color_jitter: Arguments of torchvision's v2 ColorJitter in training, or null.
        group_by_aspect: Keep portrait and landscape images in separate batches.
        canvas: Training images are padded to the largest of their `batch`, or to the largest of their orientation in
            the `dataset`: two or three canvases per short side, for models that are compiled for each.
        drop_last: Leave out the last incomplete training batch instead of completing it with other images.
        cache: `ram` keeps all decoded images in memory, shared by the workers of a rank; `none` reads the files.
        check: How the images are checked before training: `full` decodes all, `headers` reads headers and file
            ends, `off` trusts them. The annotation file is always checked.
        box_tolerance: Pixels by which a box may leave its image and is clipped; beyond, it is an error.
        cache_dir: Folder for the parsed index of annotation files and the results of checks; null re-reads them.
        how_to_get: One sentence on how to get this data; part of the message when it is not on disk.
    """

    has_annotations = True

    def __init__(
        self,
        *,
        train: Mapping[str, Any] | None,
        val: Mapping[str, Any] | None,
        test: Mapping[str, Any] | None,
        num_classes: int,
        categories: Sequence[str] | None = None,
        batch_size: int = 16,
        eval_batch_size: int | None = None,
        num_workers: int = 2,
        prefetch_factor: int = 2,
        pin_memory: bool | None = None,
        seed: int = 0,
        short_side: int | Sequence[int] = 800,
        max_side: int = 1333,
        eval_short_side: int | None = None,
        flip_probability: float = 0.5,
        scale_jitter: Sequence[float] | None = None,
        color_jitter: Mapping[str, Any] | None = None,
        group_by_aspect: bool = True,
        canvas: str = "batch",
        drop_last: bool = False,
        cache: str = "none",
        check: str = "headers",
        box_tolerance: float = 2.0,
        cache_dir: str | None = None,
        how_to_get: str | None = None,
    ) -> None:
        super().__init__()
        # A rank without evaluation images is allowed (metrics are computed once per epoch, not per batch).
        self.allow_zero_length_dataloader_with_multiple_devices = True
        self.splits: dict[str, CocoSplit] = {
            name: parse_split(name, spec)
            for name, spec in zip(_SPLITS, (train, val, test), strict=True)
            if spec is not None
        }
        self.num_classes = num_classes
        self.categories = None if categories is None else list(categories)
        self.batch_size = batch_size
        self.eval_batch_size = batch_size if eval_batch_size is None else eval_batch_size
        self.num_workers, self.prefetch_factor = num_workers, prefetch_factor
        self.pin_memory = torch.cuda.is_available() if pin_memory is None else pin_memory
        self.seed = seed
        self.short_sides = parse_sides(short_side, max_side)
        self.max_side = max_side
        self.eval_short_side = max(self.short_sides) if eval_short_side is None else eval_short_side
        parse_sides(self.eval_short_side, max_side, "eval_short_side")
        self.augmentation = Augmentation(flip_probability, scale_jitter, color_jitter)
        self.group_by_aspect, self.drop_last = group_by_aspect, drop_last
        self.canvas = parse_choice("canvas", canvas, ("batch", "dataset"))
        self.cache = parse_choice("cache", cache, ("none", "ram"))
        self.check = parse_choice("check", check, CHECK_MODES)
        if box_tolerance < 0:
            raise UserError(f"data.box_tolerance={box_tolerance} is negative; give pixels, 0 or more.")
        if not 0 <= num_workers < MAX_WORKERS:
            raise UserError(f"data.num_workers={num_workers} is outside 0..{MAX_WORKERS - 1}.")
        for name in ("batch_size", "eval_batch_size"):
            per_rank_batch_size(getattr(self, name), 1, name)
        self.box_tolerance = box_tolerance
        self.cache_dir = None if cache_dir is None else Path(cache_dir)
        self.how_to_get = how_to_get
        self.reports: dict[str, CocoReport] = {}
        self._files: dict[Path, CocoIndex] = {}
        self._indices: dict[str, CocoIndex] = {}
        self._datasets: dict[str, DetectionDataset] = {}

    # -- before training -------------------------------------------------------------------------------------------

    def preflight(self, stages: Sequence[str] | None = None) -> None:
        """Check files, sizes and annotations; in the parent process, before anything is written. Once per split.

        Args:
            stages: Only the splits that these of fit, validate, test and predict need; None: all that are given.

        Raises:
            UserError: with every problem of every split, each with file, ids, count and remedy.
        """
        names = [name for name in self._needed(stages) if name not in self.reports]
        self.check_files(names)
        reports = {}
        for name in names:
            split = self.splits[name]
            whole = self._whole(split.annotations)
            used = whole.narrow(split.subset, self.categories)
            reports[name] = check_coco_once(whole, used, split.images, self.check, self.box_tolerance, self.cache_dir)
        raise_errors(reports.values())
        for name in names:
            self._index(name)
        self.reports |= reports
        for name, report in reports.items():
            if report.findings:
                # Notes alone are no news: the counts of each split are logged when it is set up.
                level = logging.WARNING if report.of("warning") else logging.DEBUG
                log.log(level, "Check of the %s split\n%s", name, report.render())

    def check_files(self, names: Sequence[str] | None = None) -> None:
        """Make sure that folders and annotation files of the named splits (default: all) exist; opens nothing.

        Raises:
            UserError: naming each missing path, how to get the data, and what runs without it.
        """
        wanted = {}
        for split in (self.splits[name] for name in (self.splits if names is None else names)):
            wanted[split.images], wanted[split.annotations] = split.images.is_dir(), split.annotations.is_file()
        missing = [str(path) for path, there in wanted.items() if not there]
        if missing:
            get = self.how_to_get or (
                "Export your data as a COCO instance file and a folder of images; COCO itself comes with"
                " `python scripts/download_coco.py`."
            )
            raise UserError(
                f"Data not on disk: {', '.join(missing)}.\n{get}\nData lying elsewhere: set WANAMAKER_DATA_DIR or"
                " paths.data_dir=... . Without any download runs experiment=faster_rcnn_shelf."
            )

    def _needed(self, stages: Sequence[str] | None) -> list[str]:
        if stages is None:
            return list(self.splits)
        missing = {_REQUIRED[stage] for stage in stages} - set(self.splits)
        if missing:
            raise UserError(f"data.{min(missing)} is null, but this run needs it; give images and annotations for it.")
        used = {name for stage in stages for name in _USED[stage]}
        return [name for name in self.splits if name in used]

    def prepare_data(self) -> None:
        stage = None if self.trainer is None else self.trainer.state.fn
        self.preflight(None if stage is None else [stage.value])

    def setup(self, stage: str | None = None) -> None:
        names = self._needed(None if stage is None else [stage])
        self.check_files(names)
        for name in names:
            self._index(name)

    def _whole(self, annotations: Path) -> CocoIndex:
        if annotations not in self._files:
            self._files[annotations] = load_coco(annotations, self.cache_dir)
        return self._files[annotations]

    def _index(self, name: str) -> CocoIndex:
        """The index of a split, verified against `num_classes` and the categories of the other splits."""
        if name not in self.splits:
            raise UserError(f"data.{name} is null, but this stage needs it; give images and annotations for it.")
        if name in self._indices:
            return self._indices[name]
        annotations = self.splits[name].annotations
        index = self._whole(annotations).narrow(self.splits[name].subset, self.categories)
        found = len(index.category_id)
        if found != self.num_classes:
            chosen = " of data.categories" if self.categories is not None else ""
            raise UserError(
                f"data.num_classes={self.num_classes}, but {annotations} has {found} categories{chosen}; set"
                f" data.num_classes={found} (background not counted), or choose data.categories."
            )
        for other, known in self._indices.items():
            if known.ordered_categories() != index.ordered_categories():
                raise UserError(
                    f"The splits {other} and {name} have different categories: {_difference(known, index)}"
                    " Use files with the same category ids and names."
                )
        self._indices[name] = index
        return index

    # -- what others ask -------------------------------------------------------------------------------------------

    @property
    def class_names(self) -> list[str]:
        """Names in the order of labels 1..K; needs `setup` or `preflight`."""
        return self._any_index().ordered_categories()[1]

    @property
    def category_ids(self) -> list[int]:
        """Ids of the annotation file in the order of labels 1..K."""
        return self._any_index().ordered_categories()[0]

    def _any_index(self) -> CocoIndex:
        if not self._indices:
            raise RuntimeError("Categories are known after setup() or preflight().")
        return next(iter(self._indices.values()))

    def sample_table(self) -> pd.DataFrame:
        """Images of the test split: image_id, file_name, path, width and height in pixels of the file."""
        index = self._index("test")
        folder = self.splits["test"].images
        return pd.DataFrame(
            {
                "image_id": index.image_id,
                "file_name": index.file_name,
                "path": [str(folder / name) for name in index.file_name],
                "width": index.width,
                "height": index.height,
            }
        )

    def dataset_report(self) -> dict[str, dict[str, int]]:
        """Per split in use: images, boxes, crowds, and how many boxes were dropped or clipped, so far."""
        return {name: dataset.report() for name, dataset in self._datasets.items()}

    # -- loaders ---------------------------------------------------------------------------------------------------

    def dataset(self, name: str) -> DetectionDataset:
        """The dataset of a split, made once."""
        if name not in self._datasets:
            self._datasets[name] = DetectionDataset(
                self._index(name),
                self.splits[name].images,
                seed=self.seed,
                max_side=self.max_side,
                augmentation=self.augmentation if name == "train" else None,
                with_ground_truth=name != "train",
                cache=self.cache,
            )
            _announce(name, self._datasets[name].report())
        return self._datasets[name]

    def train_dataloader(self) -> DataLoader:
        dataset = self.dataset("train")
        epoch, batch = resume_position(self.trainer)
        overfit = bool(self.trainer is not None and self.trainer.overfit_batches)
        rank, world_size = self._rank()
        sampler = DetectionBatchSampler(
            DetectionCanvas(dataset.height, dataset.width, self.max_side, self.canvas),
            self.batch_size,
            short_sides=self.short_sides,
            group_by_aspect=self.group_by_aspect,
            seed=self.seed,
            drop_last=self.drop_last,
            rank=rank,
            world_size=world_size,
            start_epoch=0 if overfit else epoch,
            start_batch=0 if overfit else batch,
            freeze_epoch=overfit,
        )
        return EpochDataLoader(dataset, batch_sampler=sampler, **self._loader_options())

    def val_dataloader(self) -> DataLoader | list[DataLoader]:
        if "val" not in self.splits:
            return []  # Lightning's word for training without validation
        dataset = self.dataset("val")
        if len(dataset) < self._rank()[1]:
            # DDP synchronises buffers in the first forward pass after training: a rank without one blocks the rest.
            raise UserError(
                f"data.val has {len(dataset)} images for {self._rank()[1]} ranks; validate on more images or train on"
                " fewer devices."
            )
        return DataLoader(dataset, batch_sampler=self._evaluation_sampler(dataset), **self._loader_options())

    def test_dataloader(self) -> DataLoader:
        dataset = self.dataset("test")
        return DataLoader(
            dataset, batch_sampler=self._evaluation_sampler(dataset), **self._loader_options(persistent=False)
        )

    def predict_dataloader(self) -> DataLoader:
        return prediction_loader(
            self.dataset("test"), self._evaluation_sampler(self.dataset("test")), self._loader_options(persistent=False)
        )

    def _evaluation_sampler(self, dataset: DetectionDataset) -> DetectionEvaluationSampler:
        rank, world_size = self._rank()
        return DetectionEvaluationSampler(
            DetectionCanvas(dataset.height, dataset.width, self.max_side),
            self.eval_batch_size,
            short_side=self.eval_short_side,
            group_by_aspect=self.group_by_aspect,
            rank=rank,
            world_size=world_size,
        )

    def _rank(self) -> tuple[int, int]:
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)

    def _loader_options(self, persistent: bool = True) -> dict[str, Any]:
        return loader_options(self.num_workers, self.prefetch_factor, self.pin_memory, persistent)


def _difference(first: CocoIndex, second: CocoIndex) -> str:
    one, two = (set(zip(*index.ordered_categories(), strict=True)) for index in (first, second))
    only = [f"only in {index.path}: {sorted(rest)[:5]}" for index, rest in ((first, one - two), (second, two - one))]
    return "; ".join(only) + "."


@rank_zero_only
def _announce(name: str, counts: dict[str, int]) -> None:
    log.info("%s split: %s", name, ", ".join(f"{count} {what.replace('_', ' ')}" for what, count in counts.items()))
