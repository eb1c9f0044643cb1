"""A table and its folds as the peers read them: a folder of NumPy arrays and `task.json`.

- numeric.npy: float64 [N, F], units of the file, NaN where missing. categorical.npy: int32 [N, J], numbers of names.
- label.npy: float64 [N], 0 or 1, or an amount. fold.npy: int8 [R, N], the fold that a row is tested in, by repeat.
- id.npy: [N], what ours calls the rows.
- history.npy: float64 [N, 4] of a value task, else [N, 0]: orders after the first day, weeks from the first to the last
  order day, weeks from the first day to the moment, mean amount of the order days after the first (0 without one).

Axis letters: N rows, F numeric, J categorical columns, R repeats, K folds.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

ARRAYS = ("numeric", "categorical", "label", "fold", "id", "history")


@dataclass(frozen=True)
class About:
    """What `task.json` holds.

    Args:
        name: of the task.
        kind: "binary" or "value".
        numeric, categorical: F and J names.
        weeks: of the label's window, of a value task; else 0.
    """

    name: str
    kind: str
    numeric: tuple[str, ...]
    categorical: tuple[str, ...]
    weeks: float = 0.0


@dataclass(frozen=True)
class Task:
    """A table with its folds; shapes at the top of this module."""

    about: About
    numeric: np.ndarray
    categorical: np.ndarray
    label: np.ndarray
    fold: np.ndarray
    id: np.ndarray
    history: np.ndarray

    @property
    def shape(self) -> tuple[int, int]:
        """R, K."""
        return len(self.fold), int(self.fold.max()) + 1

    def write(self, folder: Path) -> Path:
        """Write it; `task.json` comes last, so that a folder with one is whole."""
        folder.mkdir(parents=True, exist_ok=True)
        for name in ARRAYS:
            np.save(folder / f"{name}.npy", getattr(self, name))
        (folder / "task.json").write_text(json.dumps(asdict(self.about), indent=1))
        return folder

    @classmethod
    def read(cls, folder: Path) -> Task:
        """Read what `write` wrote."""
        content = json.loads((folder / "task.json").read_text())
        about = About(**{name: tuple(v) if isinstance(v, list) else v for name, v in content.items()})
        return cls(about, *(np.load(folder / f"{name}.npy") for name in ARRAYS))
