"""A task as the peers read it: a folder of NumPy arrays and `task.json`, written by `uplift_ours/tasks.py`.

- numeric.npy: float32 [N, F], units of the file, NaN where missing; category names are columns of 0 and 1.
- arm.npy: int8 [N]. outcome.npy: float64 [N, Y]. train.npy: bool [N].
- task.json: names, kinds of outcomes, probabilities of the arms where they are known.

Nothing of the truth is in it.

Axis letters: N rows, F features, K arms (number 0 is the control), A = K - 1 offers, Y outcomes.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

ARRAYS = ("numeric", "arm", "outcome", "train")


@dataclass(frozen=True)
class About:
    """What `task.json` holds.

    Args:
        name: of the task.
        features: F names.
        arms: K names, the control first.
        outcomes: Y names.
        kinds: Y of "binary", "zero_inflated", "continuous".
        randomised: whether arms were drawn at random, in the shares that training rows show.
    """

    name: str
    features: tuple[str, ...]
    arms: tuple[str, ...]
    outcomes: tuple[str, ...]
    kinds: tuple[str, ...]
    randomised: bool


@dataclass(frozen=True)
class Task:
    """A table, split; shapes at the top of this module."""

    about: About
    numeric: np.ndarray
    arm: np.ndarray
    outcome: np.ndarray
    train: np.ndarray

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
