"""A small log of events, and its data module with a few options changed."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from wanamaker.data.event_log import EventLogDataModule

ROLES = {
    "id": "customer",
    "time": "time",
    "type": "kind",
    "amount": "amount",
    "categorical": ["channel"],
    "numeric": ["score"],
}
TASKS = [
    {"name": "lapse", "kind": "binary", "without": "purchase", "within": 30},
    {"name": "ltv", "kind": "value", "event": "purchase", "sum": "amount", "within": 30, "unit": "USD"},
    {"name": "churn", "kind": "hazard", "event": "cancel", "edges": [10, 20, 30]},
    {"name": "orders", "kind": "regression", "event": "purchase", "count": True, "within": 30},
]


def event_frame(customers: int = 60, days: int = 120, seed: int = 0) -> pd.DataFrame:
    """Events of customers c000, c001, ... in random order, from 2024-01-01 on."""
    rng = np.random.default_rng(seed)
    number = rng.integers(1, 25, customers)
    who = np.repeat(np.arange(customers), number)
    count = len(who)
    time = np.datetime64("2024-01-01") + (rng.random(count) * days * 86_400).astype("timedelta64[s]")
    frame = pd.DataFrame(
        {
            "customer": [f"c{i:03d}" for i in who],
            "time": time.astype("datetime64[us]"),
            "kind": rng.choice(["visit", "purchase", "cancel"], count, p=[0.6, 0.3, 0.1]),
            "amount": np.round(rng.lognormal(3, 1, count), 2),
            "channel": rng.choice(["web", "app", "shop"], count),
            "score": rng.normal(size=count),
        }
    )
    frame.loc[frame["kind"] != "purchase", "amount"] = np.nan
    return frame


def written(frame: pd.DataFrame, folder: Path, name: str = "log.parquet") -> Path:
    """The log as a file."""
    path = folder / name
    if path.suffix == ".parquet":
        frame.to_parquet(path, index=False)
    else:
        frame.to_csv(path, index=False)
    return path


def event_module(path: Path, **changes: Any) -> EventLogDataModule:
    """The data module of the example, ready to fit."""
    options: dict[str, Any] = {
        "path": str(path),
        "roles": ROLES,
        "tasks": TASKS,
        "as_of": "2024-03-15",
        "features": ["rfm", "intervals", "momentum", "recent", "types", "columns"],
        "split": {"by": "hash", "val": 0.2, "test": 0.2},
        "checks": {"leak_auc": 1.0},  # by chance, something foretells the fate of so few
        "batch_size": 8,
        "eval_batch_size": 16,
    }
    module = EventLogDataModule(**{**options, **changes})
    module.setup("fit")
    return module


def whole(module: EventLogDataModule) -> dict[str, np.ndarray]:
    """What a model sees of every position, in the order of rows; of its sequence, the sums over its events."""
    parts: dict[str, list[np.ndarray]] = {}
    for batch in module.predict_dataloader():
        values = {name: getattr(batch, name).numpy() for name in ("row", "numeric", "categorical", "seen", "since")}
        values |= {name: getattr(batch, name).numpy() for name in ("label", "time")}
        starts = np.cumsum(batch.length.numpy()) - batch.length.numpy()
        columns = [batch.event_categorical.numpy(), batch.event_numeric.numpy(), batch.event_gap.numpy()[:, None]]
        events = np.nan_to_num(np.concatenate(columns, axis=1), nan=-7.0)
        weighed = events * (1 + np.arange(len(events)) - np.repeat(starts, batch.length.numpy()))[:, None]
        sums = np.concatenate([np.zeros((1, weighed.shape[1])), np.cumsum(weighed, axis=0)])
        begin = np.where(values["seen"] > 0, starts[batch.sequence.numpy()] if len(starts) else 0, 0)
        values["events"] = sums[begin + values["seen"]] - sums[begin]
        for name, value in values.items():
            parts.setdefault(name, []).append(value)
    return {name: np.concatenate(value) for name, value in parts.items()}
