"""Which samples make up which batch: a pure function of (seed, epoch, rank, world size, start batch).

Every rank derives the same global batches and takes its own slice, so one rank and two ranks take the same
optimiser steps, and a resumed run continues with exactly the batch that an unbroken run would have seen.

How this meets Lightning 2.6 (read from its fit loop, held by `tests/unit/data/test_sampler_lightning.py`):

* `FitLoop.setup_data` calls `iter(loader)` once *before* any `set_epoch`, and workers prefetch at once; the
  sampler must therefore be built for the right epoch (`resume_position`) and fix its epoch when `iter` is called.
* `_set_sampler_epoch` looks at `loader.sampler` and at `loader.batch_sampler.sampler`, never at the batch sampler
  itself: `EpochBatchSampler.sampler` returns `self`.
* After a restart the fetcher adds the batches already seen to its count and compares with `len(loader)`:
  `len` stays the length of the *whole* epoch, also when the first batches are skipped.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from torch.utils.data import DataLoader

from wanamaker.errors import UserError

SEED_MASK = (1 << 63) - 1


class SampleKey(NamedTuple):
    """What a detection sampler hands to `dataset[...]`; carrying the epoch keeps persistent workers up to date.

    Attributes:
        epoch: Epoch number; with `index` it seeds every random choice about the image.
        index: Row in the dataset.
        short_side: Target length of the shorter image side, pixels.
        canvas_h: Height of the canvas of the global batch, pixels, a multiple of 32.
        canvas_w: Width of the canvas, likewise.
    """

    epoch: int
    index: int
    short_side: int
    canvas_h: int
    canvas_w: int


def stable_seed(*parts: int) -> int:
    """A 63-bit seed from any integers, the same on every platform, Python and library version."""
    text = ",".join(str(int(part)) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") & SEED_MASK


def seeded_permutation(count: int, seed: int) -> np.ndarray:
    """Permutation of `range(count)`, int64 [count].

    Sorts the raw stream of a Philox generator: NumPy promises that stream, but not `Generator.permutation`, to
    stay the same between releases.
    """
    return np.argsort(np.random.Philox(key=seed).random_raw(count), kind="stable")


def per_rank_batch_size(batch_size: int, world_size: int, name: str = "batch_size") -> int:
    """Samples per rank of a global batch.

    Raises:
        UserError: the global batch is not positive or does not divide evenly over the ranks.
    """
    if batch_size < 1:
        raise UserError(f"data.{name}={batch_size}: the global batch needs at least one sample.")
    if batch_size % world_size:
        lower = batch_size // world_size * world_size
        nearest = f"{lower} or {lower + world_size}" if lower else f"{world_size}"
        raise UserError(
            f"data.{name}={batch_size} is the global batch and does not divide over {world_size} ranks;"
            f" use a multiple of {world_size}, such as {nearest}."
        )
    return batch_size // world_size


def resume_position(trainer: Any) -> tuple[int, int]:
    """(epoch, batch) where training goes on, from the loop counters that Lightning restored.

    Mirrors what Lightning does to its own counters on a restart: a batch that was begun and not completed is run
    again, and a finished epoch continues with the next one. (0, 0) without a trainer or for a fresh run.
    """
    if trainer is None:
        return 0, 0
    epochs = trainer.fit_loop.epoch_progress.current
    batches = trainer.fit_loop.epoch_loop.batch_progress
    epoch = epochs.processed
    if epochs.ready <= epochs.processed:  # between two epochs; the batch counters are those of the last one
        return epoch, 0
    done = batches.current.completed
    # A checkpoint written in `on_train_batch_end` holds a batch that is processed but not yet counted as completed.
    done += batches.total.ready == batches.total.processed == batches.total.completed + 1
    if batches.is_last_batch and done == batches.current.ready:
        return epoch + 1, 0
    return epoch, done


def training_order(trainer: Any, rank: int, world_size: int, *, passes: int, seed: int) -> dict[str, Any]:
    """Options of a training sampler that goes on where the trainer stands; a run that overfits repeats its first epoch.

    Args:
        trainer: Lightning's, or None.
        rank, world_size: of this process.
        passes, seed: as in the sampler.
    """
    epoch, batch = resume_position(trainer)
    overfit = bool(trainer is not None and trainer.overfit_batches)
    return {
        "passes": passes,
        "seed": seed,
        "rank": rank,
        "world_size": world_size,
        "start_epoch": 0 if overfit else epoch,
        "start_batch": 0 if overfit else batch,
        "freeze_epoch": overfit,
    }


class EpochBatchSampler:
    """Training batches of a map dataset: global permutation, cut in global batches, this rank's slice of each.

    Every epoch visits each sample once. Every optimiser step sees a full global batch, whatever the number of
    ranks: the last batch is completed with samples from the start of the same epoch (so fewer than `batch_size`
    samples come twice), or left out with `drop_last`. Smaller last batches would make the number of optimiser
    steps, and the weight of a sample, depend on the number of ranks.

    Args:
        num_samples: Rows in the dataset.
        batch_size: Global batch, divisible by `world_size`.
        seed: Seeds the order, together with the epoch.
        shuffle: False keeps the order of the rows.
        drop_last: Leave out the last incomplete global batch instead of completing it.
        rank: This process.
        world_size: Number of processes.
        start_epoch: Epoch of the first iteration.
        start_batch: Batches of `start_epoch` (and of no other epoch) that were seen before the interruption.
        freeze_epoch: Repeat `start_epoch` for ever (used to overfit a few batches).

    Raises:
        UserError: no sample, no full batch with `drop_last`, an uneven split, or a start behind the epoch's end.
    """

    def __init__(
        self,
        num_samples: int,
        batch_size: int,
        *,
        seed: int = 0,
        shuffle: bool = True,
        drop_last: bool = False,
        rank: int = 0,
        world_size: int = 1,
        start_epoch: int = 0,
        start_batch: int = 0,
        freeze_epoch: bool = False,
    ) -> None:
        self.per_rank = per_rank_batch_size(batch_size, world_size)
        if not 0 <= rank < world_size:
            raise ValueError(f"rank {rank} is outside 0..{world_size - 1}.")
        self.num_samples, self.batch_size, self.seed = num_samples, batch_size, seed
        self.shuffle, self.drop_last, self.rank, self.world_size = shuffle, drop_last, rank, world_size
        self.start_epoch, self.start_batch, self.freeze_epoch = start_epoch, start_batch, freeze_epoch
        self.epoch = start_epoch
        if len(self) == 0:
            raise UserError(
                f"{num_samples} training samples make no batch of {batch_size}"
                + ("; lower data.batch_size or set data.drop_last=false." if num_samples else ".")
            )
        if start_batch >= len(self):
            raise UserError(
                f"The checkpoint stands at batch {start_batch} of epoch {start_epoch}, but an epoch has"
                f" {len(self)} batches now: the data set or data.batch_size changed. Resume with the old values."
            )

    @property
    def sampler(self) -> EpochBatchSampler:
        """Itself: Lightning calls `set_epoch` on `batch_sampler.sampler` only."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next `iter`; Lightning calls this at the start of every epoch."""
        if not self.freeze_epoch:
            self.epoch = epoch

    def __len__(self) -> int:
        """Batches of a whole epoch, the same on every rank and independent of `start_batch`."""
        if self.drop_last:
            return self.num_samples // self.batch_size
        return -(-self.num_samples // self.batch_size)

    def order(self, epoch: int) -> np.ndarray:
        """All rows in the order of this epoch, int64 [num_samples]."""
        if not self.shuffle:
            return np.arange(self.num_samples)
        return seeded_permutation(self.num_samples, stable_seed(self.seed, epoch))

    def global_batches(self, epoch: int) -> list[list[int]]:
        """Rows of every global batch of an epoch: lists of `batch_size` indices."""
        order = self.order(epoch).tolist()
        return self._cut(order, order)

    def _cut(self, rows: list[int], order: list[int]) -> list[list[int]]:
        """Cut `rows` in full batches; the missing ones of the last come from `order`, rows not in use first."""
        count = len(rows) // self.batch_size if self.drop_last else -(-len(rows) // self.batch_size)
        missing = count * self.batch_size - len(rows)
        if missing > 0:
            have = set(rows)
            spare = [row for row in order if row not in have] or rows
            rows = rows + (spare * -(-missing // len(spare)))[:missing]
        return [rows[i * self.batch_size : (i + 1) * self.batch_size] for i in range(count)]

    def keys(self, epoch: int, number: int, rows: list[int]) -> list[Any]:
        """What the dataset receives for one global batch; a subclass adds what a row number cannot say."""
        return list(rows)

    def __iter__(self) -> Iterator[list[Any]]:
        # Not a generator function: the epoch is fixed now, not when the first batch is asked for.
        epoch = self.epoch
        skip = self.start_batch if epoch == self.start_epoch and not self.freeze_epoch else 0
        batches = self.global_batches(epoch)
        mine = slice(self.rank * self.per_rank, (self.rank + 1) * self.per_rank)
        return (self.keys(epoch, n, rows)[mine] for n, rows in enumerate(batches) if n >= skip)

    def fingerprint(self) -> dict[str, int]:
        """What decides the order of an epoch; saved with a checkpoint and compared when it is resumed."""
        return {"num_samples": self.num_samples, "batch_size": self.batch_size, "seed": self.seed}


class EvaluationBatchSampler:
    """Evaluation batches: rank r takes every `world_size`-th row, each row once on one rank, nothing padded.

    Ranks may hold a different number of rows, and of batches when fewer rows than ranks are left.

    Args:
        num_samples: Rows in the dataset.
        batch_size: Global batch, divisible by `world_size`.
        rank: This process.
        world_size: Number of processes.
    """

    def __init__(self, num_samples: int, batch_size: int, *, rank: int = 0, world_size: int = 1) -> None:
        self.per_rank = per_rank_batch_size(batch_size, world_size, "eval_batch_size")
        if not 0 <= rank < world_size:
            raise ValueError(f"rank {rank} is outside 0..{world_size - 1}.")
        self.num_samples, self.batch_size = num_samples, batch_size
        self.rank, self.world_size = rank, world_size

    def __len__(self) -> int:
        """Batches of this rank."""
        return -(-len(range(self.rank, self.num_samples, self.world_size)) // self.per_rank)

    def order(self) -> np.ndarray:
        """Rows in evaluation order, int64 [num_samples]; the same on every rank."""
        return np.arange(self.num_samples)

    def keys(self, rows: list[int]) -> list[Any]:
        """What the dataset receives for one global batch."""
        return list(rows)

    def __iter__(self) -> Iterator[list[Any]]:
        rows = self.order().tolist()
        for start in range(0, len(rows), self.batch_size):
            mine = self.keys(rows[start : start + self.batch_size])[self.rank :: self.world_size]
            if mine:
                yield mine


class EpochDataLoader(DataLoader):
    """A `DataLoader` over an `EpochBatchSampler` whose place in the epoch survives a checkpoint.

    The place itself is in Lightning's own counters; what is saved here tells whether it still means the same.
    """

    def state_dict(self) -> dict[str, int]:
        """What the order of the batches depends on."""
        return self.batch_sampler.fingerprint()

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Refuse to go on in the middle of an epoch that is cut differently now.

        Raises:
            UserError: naming what changed. At the start of an epoch every change is allowed.
        """
        sampler = self.batch_sampler
        now = sampler.fingerprint()
        changed = [f"{key} {state[key]} -> {now[key]}" for key in now if key in state and state[key] != now[key]]
        if sampler.start_batch and changed:
            raise UserError(
                f"The checkpoint lies inside epoch {sampler.start_epoch} (after batch {sampler.start_batch}) and the"
                f" batches of that epoch are different now ({', '.join(changed)}). Resume with the old values, or"
                " change them at the end of an epoch."
            )
