"""Small experiments for tests: a frame with an effect, its roles, and files of it."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd

from wanamaker.data.experiment import ExperimentDataModule

ROLES: dict[str, Any] = {
    "id": "customer",
    "treatment": "arm",
    "control": "none",
    "outcomes": ["visit", {"name": "spend", "unit": "EUR"}],
    "probabilities": "equal",
}


def experiment_frame(rows: int = 900, seed: int = 0, confounded: bool = False) -> pd.DataFrame:
    """Three arms, two outcomes, numeric features with gaps, and names."""
    rng = np.random.default_rng(seed)
    age, recency = rng.normal(40, 10, rows).round(1), rng.integers(1, 13, rows)
    arm = rng.permutation(np.resize(["none", "mail", "coupon"], rows))
    if confounded:
        arm = np.where(rng.random(rows) < 1 / (1 + np.exp((age - 40) / 4)), "none", "mail")
    visit = (rng.random(rows) < 0.2 + 0.1 * (arm == "mail") + 0.2 * (arm == "coupon") * (age > 40)).astype(int)
    spend = visit * (rng.random(rows) < 0.5) * rng.gamma(2, 10, rows).round(2)
    income = np.where(rng.random(rows) < 0.1, np.nan, rng.normal(50, 20, rows).round(1))
    return pd.DataFrame(
        {
            "customer": [f"c{i:05d}" for i in range(rows)],
            "age": age,
            "recency": recency,
            "income": income,
            "region": rng.choice(["north", "south", "west"], rows),
            "arm": arm,
            "visit": visit,
            "spend": spend,
        }
    )


def write_experiment(folder: Path, frame: pd.DataFrame, name: str = "campaign.csv") -> Path:
    path = folder / name
    frame.to_parquet(path, index=False) if path.suffix == ".parquet" else frame.to_csv(path, index=False)
    return path


def write_shards(folder: Path, frame: pd.DataFrame, shards: int = 3, group: int = 70) -> Path:
    """A folder of Parquet files with small row groups."""
    path = folder / "shards"
    path.mkdir()
    for i, part in enumerate(np.array_split(np.arange(len(frame)), shards)):
        frame.iloc[part].to_parquet(path / f"part-{i}.parquet", index=False, row_group_size=group)
    return path


def module(folder: Path, frame: pd.DataFrame | None = None, **options: Any) -> ExperimentDataModule:
    """A module on a file of this frame; `roles` change those of `ROLES`."""
    frame = experiment_frame() if frame is None else frame
    path = options.pop("path", None) or write_experiment(folder, frame, options.pop("name", "campaign.csv"))
    roles = {**ROLES, **options.pop("roles", {})}
    return ExperimentDataModule(path=str(path), roles=roles, **{"batch_size": 60, "eval_batch_size": 64, **options})


def as_rank(data: ExperimentDataModule, rank: int, world_size: int, epoch: int = 0, batch: int = 0):
    """The module as a rank of a run sees it that stands before some batch of some epoch."""
    epochs = SimpleNamespace(ready=epoch + (batch > 0), processed=epoch, completed=epoch)
    counter = SimpleNamespace(ready=batch, processed=batch, completed=batch)
    batches = SimpleNamespace(current=counter, total=counter, is_last_batch=False)
    data.trainer = SimpleNamespace(
        global_rank=rank,
        world_size=world_size,
        overfit_batches=0,
        fit_loop=SimpleNamespace(
            epoch_progress=SimpleNamespace(current=epochs), epoch_loop=SimpleNamespace(batch_progress=batches)
        ),
    )
    return data


def rows_of(loader: Any, epoch: int | None = None) -> list[list[int]]:
    """Rows of every batch; of an epoch, where the loader is told one."""
    if epoch is not None:
        (loader.sampler if not hasattr(loader, "batch_sampler") else loader.batch_sampler).set_epoch(epoch)
    return [batch.row.tolist() for batch in loader]


def joined(batches: list[list[int]]) -> list[int]:
    """All rows of some batches, in their order."""
    return [row for batch in batches for row in batch]
