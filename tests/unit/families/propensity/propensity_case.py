"""Customers with known churn hazards, conversion probabilities and values, as a batch, and a data module around them.

Axis letters: P positions, F numeric features, E events, T tasks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import lightning as L
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from wanamaker.data.propensity_batch import PropensityBatch, PropensitySchema, PropensityStats, Task
from wanamaker.data.sampler import EpochBatchSampler, EvaluationBatchSampler
from wanamaker.families.propensity.net import PropensityNet
from wanamaker.nn.row_hash import mixed

CONVERSION = Task("conversion", "binary")
CHURN = Task("churn", "hazard", unit="days", edges=(30.0, 60.0, 90.0))
VALUE = Task("ltv", "value", unit="USD")
ORDERS = Task("orders", "regression")
ALL = (CONVERSION, CHURN, VALUE, ORDERS)


@dataclass
class Example:
    """P positions, the true probability of converting [P], and what a net is built from."""

    batch: PropensityBatch
    probability: np.ndarray
    schema: PropensitySchema
    stats: PropensityStats


def example(
    rows: int = 600, tasks: tuple[Task, ...] = (CONVERSION,), events: bool = False, static: bool = True, seed: int = 0
) -> Example:
    """Two numeric features and a category move everything; with events, so does whether the last one is a "b"."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 2)).astype(np.float32)
    group = rng.integers(1, 4, rows)
    seen = rng.integers(0, 7, rows) if events else np.zeros(rows, dtype=np.int64)
    later = rng.integers(0, 3, rows) if events else np.zeros(rows, dtype=np.int64)
    later[seen + later == 0] = 0
    length = (seen + later)[seen + later > 0]
    E = int(length.sum())
    kind = rng.integers(1, 4, (E, 1))
    first = np.cumsum(seen + later) - (seen + later)
    last_b = np.zeros(rows)
    has = seen > 0
    last_b[has] = kind[(first + seen - 1)[has], 0] == 2
    linear = (0.8 * x[:, 0] - 0.5 * (x[:, 1] > 0) + 0.4 * (group == 2)) * static + 1.5 * last_b - 0.5
    probability = 1 / (1 + np.exp(-linear))
    label, time = np.full((rows, len(tasks)), np.nan), np.full((rows, len(tasks)), np.nan)
    for t, task in enumerate(tasks):
        if task.kind == "binary":
            label[:, t] = rng.random(rows) < probability
        elif task.kind == "hazard":
            when, end = rng.exponential(150 * np.exp(-linear)), rng.uniform(20, 150, rows)
            label[:, t], time[:, t] = when <= end, np.minimum(when, end)
        elif task.kind == "value":
            label[:, t] = (rng.random(rows) < probability) * rng.lognormal(3 + 0.5 * linear, 0.7)
        else:
            label[:, t] = 5 + 2 * linear + 0.5 * rng.normal(size=rows)
    row = torch.arange(rows)
    starts = np.zeros(E, dtype=bool)
    starts[np.cumsum(length) - length] = True
    gap = np.where(starts, np.nan, rng.exponential(5, E))
    batch = PropensityBatch(
        row=row,
        key=mixed(row + 1) & ((1 << 62) - 1),
        numeric=torch.from_numpy(x) if static else torch.zeros(rows, 0),
        categorical=torch.from_numpy(group[:, None]) if static else torch.zeros(rows, 0, dtype=torch.int64),
        sequence=torch.from_numpy(np.where(seen + later > 0, np.cumsum(seen + later > 0) - 1, -1)),
        seen=torch.from_numpy(seen),
        since=torch.from_numpy(np.where(has, rng.exponential(5, rows), np.nan)).float(),
        length=torch.from_numpy(length.astype(np.int64)),
        event_categorical=torch.from_numpy(kind) if events else torch.zeros(0, 0, dtype=torch.int64),
        event_numeric=torch.from_numpy(rng.lognormal(size=(E, 1))).float() if events else torch.zeros(0, 0),
        event_gap=torch.from_numpy(gap).float(),
        label=torch.from_numpy(label).float(),
        time=torch.from_numpy(time).float(),
        weight=torch.ones(rows),
    )
    schema = PropensitySchema(
        id="customer",
        tasks=tasks,
        numeric=("recency", "spend") if static else (),
        categorical=("plan",) if static else (),
        categories=(("x", "y", "z"),) if static else (),
        event_categorical=("type",) if events else (),
        event_categories=(("a", "b", "c"),) if events else (),
        event_numeric=("amount",) if events else (),
    )
    return Example(batch, probability, schema, stats_of(batch, schema))


def stats_of(batch: PropensityBatch, schema: PropensitySchema) -> PropensityStats:
    """What a data module would say of these positions."""

    def moments(values: Tensor) -> tuple[tuple, ...]:
        table = values.double().numpy()
        grid = np.nanquantile(table, np.linspace(0, 1, 65), axis=0).T if table.shape[1] else np.zeros((0, 65))
        return (
            tuple(np.nanmean(table, 0)) if table.shape[1] else (),
            tuple(np.nanstd(table, 0)) if table.shape[1] else (),
            tuple(np.isnan(table).mean(0)) if table.shape[1] else (),
            tuple(map(tuple, grid)),
        )

    gaps = batch.event_gap[~batch.event_gap.isnan()]
    label = batch.label.double().numpy()
    mean, sd, share, hazard, largest = [], [], [], [], []
    for t, task in enumerate(schema.tasks):
        own = label[:, t]
        used = np.log(own[own > 0]) if task.kind == "value" else own
        mean.append(float(used.mean()))
        sd.append(float(used.std()))
        share.append(float((own > 0).mean()))
        time, before, rates = batch.time[:, t].numpy(), 0.0, []
        for edge in task.edges:
            risk = time > before
            rates.append(float(((own > 0) & risk & (time <= edge)).sum() / risk.sum()))
            before = edge
        hazard.append(tuple(rates))
        largest.append(float(np.quantile(own, 0.999)))
    return PropensityStats(
        *moments(batch.numeric),
        *moments(batch.event_numeric),
        gap_quantiles=tuple(np.quantile(gaps.numpy(), np.linspace(0, 1, 65))) if len(gaps) else (0.0,) * 65,
        label_mean=tuple(mean),
        label_sd=tuple(sd),
        positive_share=tuple(share),
        hazard=tuple(hazard),
        largest=tuple(largest),
    )


def built(made: Example, seed: int = 0, **options: object) -> PropensityNet:
    """A net for the example, whose last layers are not zero."""
    torch.manual_seed(seed)
    net = PropensityNet(**{"hidden": (8,), "replicas": 2, "dropout": 0.0, **options}).build(made.schema)
    net.fit_scales(made.stats)
    with torch.no_grad():
        for value in net.parameters():
            value.add_(0.3 * torch.randn_like(value))
    return net.eval()


def taken(batch: PropensityBatch, rows: Tensor) -> PropensityBatch:
    """A batch of some positions, in the order of ``rows``, with the sequences that they need."""
    per_position = ("row", "key", "numeric", "categorical", "seen", "since", "label", "time", "weight")
    part = {name: getattr(batch, name)[rows] for name in per_position}
    sequence = batch.sequence[rows]
    needed = list(dict.fromkeys(s for s in sequence.tolist() if s >= 0))
    first = (batch.length.cumsum(0) - batch.length).tolist()
    spans = [torch.arange(first[s], first[s] + int(batch.length[s])) for s in needed]
    events = torch.cat(spans) if spans else torch.zeros(0, dtype=torch.int64)
    number = {s: k for k, s in enumerate(needed)} | {-1: -1}
    return PropensityBatch(
        **part,
        sequence=torch.tensor([number[s] for s in sequence.tolist()], dtype=torch.int64),
        length=batch.length[torch.tensor(needed, dtype=torch.int64)],
        event_categorical=batch.event_categorical[events],
        event_numeric=batch.event_numeric[events],
        event_gap=batch.event_gap[events],
    )


class ExampleData(L.LightningDataModule):
    """The example as a data module: fourth of the rows test; of the rest, validation rows are a third or the same."""

    def __init__(self, made: Example, val: bool, batch_size: int = 100, seed: int = 3) -> None:
        super().__init__()
        self.made, self.batch_size, self.seed = made, batch_size, seed
        self.schema, self.stats, self.num_rows = made.schema, made.stats, len(made.batch.row)
        row = np.arange(self.num_rows)
        self.split = np.where(row % 4 == 3, 2, np.where((row % 4 == 2) & val, 1, 0))
        self.val = 1 if val else 0
        self.num_train_rows = int((self.split == 0).sum())

    def adopt(self, schema: PropensitySchema) -> None:
        assert schema == self.schema

    def split_of(self, row: np.ndarray) -> np.ndarray:
        return self.split[row]

    def identifiers(self, row: np.ndarray) -> np.ndarray:
        return row

    def moment_of(self, row: np.ndarray) -> np.ndarray:
        return np.full(len(row), np.datetime64("NaT"), dtype="datetime64[s]")

    def _loader(self, split: int | None, train: bool = False) -> DataLoader:
        rows = torch.from_numpy(np.flatnonzero(self.split == split) if split is not None else np.arange(self.num_rows))
        size = self.batch_size
        sampler = (
            EpochBatchSampler(len(rows), size, seed=self.seed) if train else EvaluationBatchSampler(len(rows), size)
        )
        return DataLoader(rows, batch_sampler=sampler, collate_fn=partial(_collated, self.made.batch))

    def train_dataloader(self) -> DataLoader:
        return self._loader(0, train=True)

    def val_dataloader(self) -> DataLoader:
        return self._loader(self.val)

    def test_dataloader(self) -> DataLoader:
        return self._loader(2)

    def predict_dataloader(self) -> DataLoader:
        return self._loader(None)


def _collated(batch: PropensityBatch, rows: list[Tensor]) -> PropensityBatch:
    return taken(batch, torch.stack(rows))


def without_last_events(made: Example) -> Example:
    """The same positions, with other events after the ones they have seen."""
    batch = made.batch
    first = batch.length.cumsum(0) - batch.length
    step = torch.arange(int(batch.length.sum())) - torch.repeat_interleave(first, batch.length)
    seen = torch.zeros(len(batch.length), dtype=torch.int64)
    seen[batch.sequence[batch.sequence >= 0]] = batch.seen[batch.sequence >= 0]
    later = step >= torch.repeat_interleave(seen, batch.length)
    kinds = torch.where(later[:, None], 1 + batch.event_categorical % 3, batch.event_categorical)
    amounts = torch.where(later[:, None], batch.event_numeric * 50 + 7, batch.event_numeric)
    return replace(made, batch=batch._replace(event_categorical=kinds, event_numeric=amounts))
