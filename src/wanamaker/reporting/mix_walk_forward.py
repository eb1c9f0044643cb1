"""Scores of the folds of a walk-forward multirun, read from the folders that the runs left."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wanamaker.errors import UserError
from wanamaker.reporting.mix_scores import SCORES

if TYPE_CHECKING:
    import pandas as pd

_CONFIGS = (".hydra/resolved.yaml", ".hydra/config.yaml")


def walk_forward_scores(folder: Path | str) -> pd.DataFrame:
    """One row per fold: fold, fold_run, then the scores that the runs have (of the test periods where they were tested,
    else of the validation periods), and the split they were taken on.

    Args:
        folder: of `python train.py -m data.split.fold=0,1,2,...`: a subfolder with `metrics.json` for every run.

    Raises:
        UserError: no such folder, no run in it, a damaged file, or no score in any.
    """
    import pandas as pd

    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(
            f"decision.walk_forward={folder}: there is no such folder. Give the folder of a multirun, "
            "for example logs/train/multiruns/RUN_ID."
        )
    files = sorted(folder.glob("*/metrics.json"), key=lambda path: (len(path.parent.name), path.parent.name))
    if not files:
        raise UserError(
            f"decision.walk_forward={folder}: no run with a metrics.json lies in it. Give the folder of a multirun "
            "over the folds (python train.py -m data.split.fold=0,1,2 ...), after its runs have ended."
        )
    rows = []
    for number, path in enumerate(files):
        summary = _read(path)
        metrics = summary.get("metrics") or {}
        split = next((s for s in ("test", "val") if any(k.startswith(f"{s}/") for k in metrics)), None)
        known = {
            label: metrics[f"{split}/{name}"]
            for name, label in SCORES.items()
            if metrics.get(f"{split}/{name}") is not None
        }
        fold = _fold(path.parent)
        rows.append(
            {"fold": number if fold is None else fold, "fold_run": summary.get("run_id", ""), "split": split} | known
        )
    frame = pd.DataFrame(rows)
    if not set(frame.columns) & set(SCORES.values()):
        raise UserError(
            f"decision.walk_forward={folder}: the runs have none of the scores {', '.join(SCORES)}. Were they runs of "
            "a marketing-mix model that were tested (stages=[fit,test])?"
        )
    order = [c for c in ("fold", "fold_run", "split", *SCORES.values()) if c in frame]
    return frame[order].sort_values("fold", ignore_index=True)


def _read(path: Path) -> dict[str, Any]:
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}). Run that fold again, or move its folder away.") from error
    if not isinstance(summary, dict):
        raise UserError(f"{path} is not the summary of a run. Run that fold again, or move its folder away.")
    return summary


def _fold(run: Path) -> int | None:
    """`data.split.fold` of a run; None where its configuration says none."""
    import yaml

    for name in _CONFIGS:
        path = run / name
        if not path.is_file():
            continue
        try:
            config = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        except (OSError, yaml.YAMLError) as error:
            raise UserError(
                f"{path} cannot be read ({error}). Run that fold again, or move its folder away."
            ) from error
        split = (config.get("data") or {}).get("split") or {}
        fold = split.get("fold") if isinstance(split, dict) else None
        if isinstance(fold, int):
            return fold
    return None
