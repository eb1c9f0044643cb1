"""A small experiment with known effects, and a data module around it.

Axis letters: N customers, F features, K arms.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import lightning as L
import numpy as np
import torch
from torch.utils.data import DataLoader

from wanamaker.data.sampler import EpochBatchSampler, EvaluationBatchSampler
from wanamaker.data.uplift_batch import FeatureStats, Outcome, UpliftBatch, UpliftSchema
from wanamaker.families.x_learner.net import XLearnerNet
from wanamaker.nn.row_hash import mixed


@dataclass
class Example:
    """N customers, their true expected outcomes [N, K], and what a net is built from."""

    batch: UpliftBatch
    mean: np.ndarray
    schema: UpliftSchema
    stats: FeatureStats


def example(
    rows: int = 2000,
    arms: int = 2,
    effect: str = "varied",
    kind: str = "binary",
    probabilities: bool = True,
    seed: int = 0,
) -> Example:
    """Four features; "varied" effects follow the second and third one, "constant" ones are 0.1 for everybody."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 4)).astype(np.float32)
    base = 1 / (1 + np.exp(0.8 - 0.6 * x[:, 0]))
    steps = [np.zeros(rows)]
    for k in range(1, arms):
        varied = 0.1 + 0.1 * k * np.tanh(x[:, 1]) * (x[:, 2] > 0)
        steps.append(varied if effect == "varied" else np.full(rows, 0.1 * k))
    mean = np.clip(base[:, None] + np.stack(steps, 1), 0.01, 0.99)
    treatment = rng.integers(0, arms, rows)
    chosen = mean[np.arange(rows), treatment]
    outcome = (rng.random(rows) < chosen).astype(np.float32)
    if kind == "continuous":
        outcome = (chosen + 0.3 * rng.normal(size=rows)).astype(np.float32)
    elif kind == "zero_inflated":
        outcome = outcome * rng.lognormal(3.0, 1.0, rows).astype(np.float32)
        mean = mean * np.exp(3.5)
    row = torch.arange(rows)
    batch = UpliftBatch(
        row=row,
        key=mixed(row + 1) & ((1 << 62) - 1),
        numeric=torch.from_numpy(x),
        categorical=torch.zeros(rows, 0, dtype=torch.long),
        treatment=torch.from_numpy(treatment),
        outcome=torch.from_numpy(outcome)[:, None],
        weight=torch.ones(rows),
    )
    names = ("none", "mail", "call")[:arms]
    schema = UpliftSchema(
        id="id",
        treatment="offer",
        arms=names,
        outcomes=(Outcome("sale", kind),),
        numeric=("a", "b", "c", "d"),
        probabilities=(1 / arms,) * arms if probabilities else (),
    )
    of_arm = [outcome[treatment == k] for k in range(arms)]
    stats = FeatureStats(
        mean=tuple(x.mean(0).tolist()),
        sd=tuple(x.std(0).tolist()),
        missing=(0.0,) * 4,
        quantiles=tuple(tuple(np.quantile(x[:, f], np.linspace(0, 1, 9)).tolist()) for f in range(4)),
        outcome_mean=tuple((float(values.mean()),) for values in of_arm),
        outcome_sd=tuple((float(values.std()),) for values in of_arm),
        arm_share=tuple(len(values) / rows for values in of_arm),
    )
    return Example(batch, mean, schema, stats)


def built(case: Example, seed: int = 0, **options) -> XLearnerNet:
    """A net for the example, in evaluation mode."""
    torch.manual_seed(seed)
    net = XLearnerNet(**{"hidden": (8,), "dropout": 0.1} | options).build(case.schema)
    net.fit_scales(case.stats)
    return net.eval()


def rows_of(batch: UpliftBatch, rows: np.ndarray | torch.Tensor) -> UpliftBatch:
    """Some rows of a batch."""
    index = torch.as_tensor(rows)
    return UpliftBatch(*(value[index] for value in batch))


class ExampleData(L.LightningDataModule):
    """All rows for training and validation, the last ``held_out`` for the test.

    Args:
        case: the example.
        held_out: rows.
        batch_size: of training.
    """

    def __init__(self, case: Example, held_out: int = 0, batch_size: int = 512) -> None:
        super().__init__()
        self.case, self.batch_size = case, batch_size
        self.schema, self.stats = case.schema, case.stats
        self.num_rows = len(case.batch.row)
        self.num_train_rows = self.num_rows - held_out

    def adopt(self, schema: UpliftSchema) -> None:
        assert schema == self.schema

    def split_of(self, row: np.ndarray) -> np.ndarray:
        return np.where(row < self.num_train_rows, 0, 2)

    def identifiers(self, row: np.ndarray) -> np.ndarray:
        return row

    def cost_of(self, row: np.ndarray) -> np.ndarray:
        return np.full(len(row), np.nan)

    def _loader(self, sampler: object, first: int = 0) -> DataLoader:
        take = partial(rows_of, self.case.batch)
        collate = lambda places: take(np.asarray(places) + first)  # noqa: E731
        return DataLoader(range(self.num_rows), batch_sampler=sampler, collate_fn=collate)  # type: ignore[arg-type]

    def train_dataloader(self) -> DataLoader:
        return self._loader(EpochBatchSampler(self.num_train_rows, self.batch_size))

    def val_dataloader(self) -> DataLoader:
        return self._loader(EvaluationBatchSampler(self.num_train_rows, 4096))

    def predict_dataloader(self) -> DataLoader:
        return self._loader(EvaluationBatchSampler(self.num_rows, 4096))

    def test_dataloader(self) -> DataLoader:
        held_out = self.num_rows - self.num_train_rows
        return self._loader(EvaluationBatchSampler(held_out, 4096), self.num_train_rows)
