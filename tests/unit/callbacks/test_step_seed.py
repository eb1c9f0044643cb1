import random
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, Trainer

from wanamaker.callbacks.step_seed import StepSeed


class Draw(Callback):
    """Somebody else who draws random numbers in between."""

    def on_validation_start(self, trainer: Trainer, pl_module: object) -> None:
        torch.rand(17)


class StopAt(Callback):
    def __init__(self, step: int, path: Path) -> None:
        self.step, self.path = step, path

    def on_train_batch_end(self, trainer: Trainer, *args: object) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)


@pytest.mark.parametrize("step", [2, 4, 7])  # in the middle and at the end of an epoch of 4
def test_a_resumed_run_draws_the_same_dropout(
    make_trainer: Callable[..., Trainer], toy: type, tmp_path: Path, step: int
) -> None:
    torch.manual_seed(0)
    whole = toy(dropout=0.5)
    path = tmp_path / "mid.ckpt"
    make_trainer(callbacks=[StepSeed(0), StopAt(step, path)]).fit(whole)
    torch.manual_seed(99)  # the state of the generators at the start must not matter
    resumed = toy(dropout=0.5)
    # Lightning's loader starts its epoch anew: give it the batches that are left, as our samplers do.
    skip = step % 4
    loader = resumed._loader

    def shortened(batch: int) -> object:
        result = loader(batch)
        if batch == 8 and resumed.trainer.fit_loop.epoch_loop.batch_progress.current.ready:
            order = result.sampler.order
            result.sampler.order = order[skip * 8 :] + order[: skip * 8]
        return result

    resumed._loader = shortened
    make_trainer(callbacks=[StepSeed(0), Draw()], max_epochs=step // 4 + 1).fit(resumed, ckpt_path=path)
    last_epoch_of_it = (step // 4 + 1) * 4
    assert resumed.losses == whole.losses[step:last_epoch_of_it]


def test_seeds_differ_by_epoch_batch_and_rank(make_trainer: Callable[..., Trainer], toy: type) -> None:
    drawn: list[tuple[float, ...]] = []

    class Probe(toy):  # type: ignore[misc]
        def training_step(self, batch: object, batch_idx: int) -> torch.Tensor:
            drawn.append((random.random(), float(np.random.rand()), float(torch.rand(()))))
            return super().training_step(batch, batch_idx)

    make_trainer(callbacks=[StepSeed(0)], max_epochs=2).fit(Probe())
    assert len(set(drawn)) == 8
    first = list(drawn)
    drawn.clear()
    make_trainer(callbacks=[StepSeed(0), Draw()], max_epochs=2).fit(Probe())
    assert drawn == first
    other = [0.0] * 4
    for index in range(4):
        elsewhere = SimpleNamespace(current_epoch=0, global_rank=1)
        StepSeed(0).on_train_batch_start(elsewhere, None, None, index)  # type: ignore[arg-type]
        other[index] = random.random()
    assert not set(other) & {values[0] for values in first}


def test_a_stochastic_validation_repeats(make_trainer: Callable[..., Trainer], toy: type) -> None:
    seen = []

    class Probe(toy):  # type: ignore[misc]
        def validation_step(self, batch: object, batch_idx: int) -> None:
            seen.append(float(torch.rand(())))

    trainer = make_trainer(callbacks=[StepSeed(3)])
    model = Probe()
    trainer.validate(model, verbose=False)
    trainer.validate(model, verbose=False)
    assert seen[:2] == seen[2:]
