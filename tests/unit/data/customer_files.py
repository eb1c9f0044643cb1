"""Small tables of customers for tests: a frame with tasks of every kind, its roles, and files of it."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tests.unit.data.experiment_files import write_experiment

from wanamaker.data.customer_table import CustomerTableDataModule

CHURN = {"name": "churn", "column": "left", "positive": "Yes"}
SPEND = {"name": "spend", "kind": "value", "column": "spent", "unit": "EUR"}
CANCEL = {"name": "cancel", "kind": "hazard", "column": "left", "positive": "Yes", "time": "months", "edges": [6, 12]}


def customer_frame(rows: int = 600, seed: int = 0) -> pd.DataFrame:
    """Customers who leave, spend and grow old; numbers with gaps, and names."""
    rng = np.random.default_rng(seed)
    months = rng.integers(1, 25, rows)
    price = rng.normal(50, 10, rows).round(1)
    left = rng.random(rows) < 1 / (1 + np.exp((months - 4) / 10 - (price - 50) / 20))
    return pd.DataFrame(
        {
            "customer": [f"c{i:05d}" for i in range(rows)],
            "months": months,
            "price": price,
            "income": np.where(rng.random(rows) < 0.1, np.nan, rng.normal(50, 20, rows).round(1)),
            "region": rng.choice(["north", "south", "west"], rows),
            "left": np.where(left, "Yes", "No"),
            "spent": ((rng.random(rows) < 0.4) * rng.gamma(2, 10, rows)).round(2),
        }
    )


def module(folder: Path, frame: pd.DataFrame | None = None, **options: Any) -> CustomerTableDataModule:
    """A module on a file of this frame; `roles` change those of the one churn task."""
    frame = customer_frame() if frame is None else frame
    path = options.pop("path", None) or write_experiment(folder, frame, options.pop("name", "customers.csv"))
    roles = {"id": "customer", "tasks": [CHURN], "drop": ["spent"], **options.pop("roles", {})}
    return CustomerTableDataModule(path=str(path), roles=roles, **{"batch_size": 60, "eval_batch_size": 64, **options})
