"""`ShelfDataModule`: the embedded default data set, drawn on first use and read as any COCO data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from wanamaker.data.coco import CocoDataModule
from wanamaker.data.simulate.shelf import PLAIN, ShelfOptions, check_cache, ensure_shelf, is_complete, shelf_folder
from wanamaker.errors import UserError


class ShelfDataModule(CocoDataModule):
    """Photos of product shelves with labelled products, from `wanamaker.data.simulate.shelf`.

    `prepare_data` draws the photos where they are missing; a changed option draws a new folder beside the old one.
    Class names and category ids are known before that.

    Args:
        cache_dir: Where the photos are kept, in `shelf/`.
        num_train: Photos to train on.
        num_val: Photos to validate on.
        num_test: Photos to test and predict on.
        image_size: Longer side of the photos, pixels.
        render_seed: Seeds the photos; `seed` seeds the order and the augmentation.
        style: `base`, or `restock` with new designs and two more categories, whose ids follow those of `base`.
        formats: `square`, or `mixed` with landscape and portrait photos.
        num_classes: 8 for `base`, 10 for `restock`, or the number of `categories`; verified.
        categories: Names to keep; null keeps all.

    The other arguments say how the photos are loaded: see `CocoDataModule`.
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
        color_jitter: Mapping[str, Any] | None = None,
        group_by_aspect: bool = True,
        canvas: str = "batch",
        drop_last: bool = False,
        cache: str = "none",
        check: str = "headers",
    ) -> None:
        self.options = ShelfOptions(num_train, num_val, num_test, image_size, render_seed, style, formats)
        self.photos_dir = shelf_folder(cache_dir, self.options)
        self._photos_cache = Path(cache_dir)
        super().__init__(
            train=self._split("train"),
            val=self._split("val"),
            test=self._split("test"),
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
            canvas=canvas,
            drop_last=drop_last,
            cache=cache,
            check=check,
            cache_dir=str(Path(cache_dir) / "coco"),
            how_to_get="prepare_data() draws these photos; it has not run on this machine.",
        )

    def _split(self, name: str) -> dict[str, Any] | None:
        if self.options.count(name) == 0:
            return None
        images, annotations = (str(self.photos_dir / part) for part in PLAIN[name])
        return {"images": images, "annotations": annotations, "subset": None}

    def preflight(self, stages: Sequence[str] | None = None) -> None:
        """Check what can be checked without drawing: the options, and that the cache can take the photos.

        Photos that are there are checked as those of any COCO data set.

        Raises:
            UserError: when the cache cannot be written or has no room, `num_classes` is not that of the style, or a
                file of the cache is damaged.
        """
        found = len(self._names())
        if found != self.num_classes:
            chosen = "data.categories" if self.categories is not None else f"data.style={self.options.style}"
            raise UserError(
                f"data.num_classes={self.num_classes}, but {chosen} has {found} categories; set"
                f" data.num_classes={found} (background not counted)."
            )
        self._needed(stages)
        check_cache(self._photos_cache, self.options)
        if not is_complete(self.photos_dir):
            return
        try:
            super().preflight(stages)
        except UserError as error:
            raise UserError(f"{error}\nThese are drawn photos: remove {self.photos_dir} to have them anew.") from error

    def prepare_data(self) -> None:
        ensure_shelf(self._photos_cache, self.options)
        super().prepare_data()

    @property
    def class_names(self) -> list[str]:
        """Names in the order of labels 1..K."""
        return list(self._names().values())

    @property
    def category_ids(self) -> list[int]:
        """Ids of the annotation files in the order of labels 1..K."""
        return list(self._names())

    def _names(self) -> dict[int, str]:
        """Category id to name, of the categories to keep."""
        names = dict(enumerate(self.options.class_names, start=1))
        if self.categories is None:
            return names
        unknown = sorted(set(self.categories) - set(names.values()))
        if unknown:
            raise UserError(
                f"data.categories: {', '.join(unknown)} not among those of data.style={self.options.style}:"
                f" {', '.join(names.values())}."
            )
        return {number: name for number, name in names.items() if name in self.categories}
