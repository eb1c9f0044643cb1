"""Simulated campaigns as the peers read them, with the split and the rows that our data module makes.

Axis letters: N rows, F features, A offers, Y outcomes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from uplift_peers.task import About, Task

from wanamaker.data.simulated_experiment import SimulatedExperimentDataModule
from wanamaker.data.uplift_batch import UpliftSchema

TEST = 2  # code of the split
SHARD_ROWS = 500_000


def options(preset: str, seed: int, rows: int | None, outcomes: tuple[str, ...]) -> dict[str, Any]:
    """Arguments of the data module that matter here."""
    simulation: dict[str, Any] = {"seed": seed}
    if rows is not None:
        simulation |= {"rows": rows, "shards": max(1, rows // SHARD_ROWS)}
    return {"preset": preset, "simulation": simulation, "outcomes": list(outcomes)}


def overrides(chosen: dict[str, Any], cache: Path, recipe: str = "x_learner_simulated") -> list[str]:
    """The same for the command line of a recipe on simulated campaigns."""
    listed = [f"data.simulation.{name}={value}" for name, value in chosen["simulation"].items()]
    return [
        f"experiment={recipe}",
        f"data.cache_dir='{cache}'",
        f"data.preset={chosen['preset']}",
        f"data.outcomes=[{', '.join(chosen['outcomes'])}]",
        *listed,
    ]


def write_simulated(chosen: dict[str, Any], cache: Path, folder: Path) -> Path:
    """Make the campaign, write it for the peers, and beside the folder <name>-truth.npy [N, A, Y], if not there yet."""
    if (folder / "task.json").exists():
        return folder
    data = SimulatedExperimentDataModule(cache_dir=str(cache), eval_batch_size=65_536, **chosen)
    data.prepare_data()
    data.setup("fit")
    schema, N = data.schema, data.num_rows
    names = _feature_names(schema)
    numeric = np.empty((N, len(names)), np.float32)
    arm, outcome = np.empty(N, np.int8), np.empty((N, len(schema.outcomes)))
    truth = np.empty((N, schema.num_arms - 1, len(schema.outcomes)), np.float32)
    data.setup("predict")
    for batch in data.predict_dataloader():
        row = batch.row.numpy()
        numeric[row] = _columns(schema, batch.numeric.numpy(), batch.categorical.numpy())
        arm[row], outcome[row] = batch.treatment.numpy(), batch.outcome.numpy()
        truth[row] = data.truth_of(row)[0]
    train = data.split_of(np.arange(N)) != TEST
    folder.parent.mkdir(parents=True, exist_ok=True)
    np.save(folder.with_name(f"{folder.name}-truth.npy"), truth)
    kinds = tuple(item.kind for item in schema.outcomes)
    outcomes = tuple(item.name for item in schema.outcomes)
    about = About(folder.name, names, schema.arms, outcomes, kinds, randomised=bool(schema.probabilities))
    return Task(about, numeric, arm, outcome, train).write(folder)


def truth_of(folder: Path) -> np.ndarray:
    """What `write_simulated` wrote beside a task."""
    return np.load(folder.with_name(f"{folder.name}-truth.npy"))


def _feature_names(schema: UpliftSchema) -> tuple[str, ...]:
    pairs = zip(schema.categorical, schema.categories, strict=True)
    return (*schema.numeric, *(f"{column} is {value!r}" for column, values in pairs for value in values))


def _columns(schema: UpliftSchema, numeric: np.ndarray, categorical: np.ndarray) -> np.ndarray:
    """A column for each number and each category."""
    parts = [numeric]
    for j, values in enumerate(schema.categories):
        parts.append(categorical[:, j, None] == np.arange(1, len(values) + 1))
    return np.concatenate(parts, axis=1).astype(np.float32)
