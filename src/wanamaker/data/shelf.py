"""`ShelfDataModule`: the embedded default data set, drawn on first use and read as any COCO data set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wanamaker.data.coco import CocoDataModule
from wanamaker.data.simulate.shelf import PLAIN, ShelfOptions, ensure_shelf


class ShelfDataModule(CocoDataModule):
    """Photos of product shelves with labelled products, from `wanamaker.data.simulate.shelf`.

    Args:
        cache_dir: Where the photos are kept; a changed option draws a new folder beside the old one.
        num_train: Photos to train on.
        num_val: Photos to validate on.
        num_test: Photos to test and predict on.
        image_size: Longer side of the photos, pixels.
        render_seed: Seeds the photos; `seed` seeds the order and the augmentation.
        style: `base`, or `restock` with new designs and two more categories.
        formats: `square`, or `mixed` with landscape and portrait photos.
        num_classes: 8 for `base`, 10 for `restock`; verified.
        **coco: The arguments of `CocoDataModule` that say how the photos are loaded.
    """

    def __init__(
        self,
        *,
        cache_dir: str,
        num_train: int = 2000,
        num_val: int = 200,
        num_test: int = 400,
        image_size: int = 256,
        render_seed: int = 0,
        style: str = "base",
        formats: str = "square",
        num_classes: int = 8,
        categories: Sequence[str] | None = None,
        batch_size: int = 16,
        eval_batch_size: int | None = None,
        num_workers: int = 2,
        prefetch_factor: int = 2,
        pin_memory: bool | None = None,
        seed: int = 0,
        short_side: int | Sequence[int] = 256,
        max_side: int = 1333,
        eval_short_side: int | None = None,
        flip_probability: float = 0.5,
        scale_jitter: Sequence[float] | None = None,
        color_jitter: dict[str, Any] | None = None,
        group_by_aspect: bool = True,
        drop_last: bool = False,
        cache: str = "none",
    ) -> None:
        self.options = ShelfOptions(num_train, num_val, num_test, image_size, render_seed, style, formats)
        root = Path(cache_dir) / "shelf" / self.options.folder_name

        def split(name: str) -> dict[str, Any] | None:
            images, annotations = PLAIN[name]
            present = {"images": str(root / images), "annotations": str(root / annotations), "subset": None}
            return present if self.options.count(name) else None

        super().__init__(
            train=split("train"),
            val=split("val"),
            test=split("test"),
            num_classes=num_classes,
            categories=categories,
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            num_workers=num_workers,
            prefetch_factor=prefetch_factor,
            pin_memory=pin_memory,
            seed=seed,
            short_side=short_side,
            max_side=max_side,
            eval_short_side=eval_short_side,
            flip_probability=flip_probability,
            scale_jitter=scale_jitter,
            color_jitter=color_jitter,
            group_by_aspect=group_by_aspect,
            drop_last=drop_last,
            cache=cache,
            check="off",  # we drew the files ourselves; the annotations are checked all the same
            cache_dir=cache_dir,
        )
        self._photos_dir = Path(cache_dir)

    def preflight(self, stages: Sequence[str] | None = None) -> None:
        """Draw the photos where they are missing, then check as for any COCO data set.

        Raises:
            UserError: when the cache cannot be written, or `num_classes` is not that of the style.
        """
        ensure_shelf(self._photos_dir, self.options)
        super().preflight(stages)
