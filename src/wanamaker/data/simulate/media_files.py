"""Simulated panels on disk: panel.parquet, truth.npz and truth.json in a folder that is complete or absent."""

from __future__ import annotations

from pathlib import Path

from wanamaker.data.simulate.kept import KeptSimulation
from wanamaker.data.simulate.media_options import PanelSimulation
from wanamaker.data.simulate.media_panel import simulate_media_panel
from wanamaker.data.simulate.media_truth import ARRAYS, SUMMARY

TABLE = "panel.parquet"


def write_panel(folder: Path, options: PanelSimulation) -> None:
    """Write panel and truth into a folder that is there.

    Raises:
        UserError: options that cannot be met.
    """
    panel = simulate_media_panel(options)
    panel.frame.to_parquet(folder / TABLE, index=False)
    panel.truth.save(folder)


PANELS = KeptSimulation("media_panel", "panel", (TABLE, ARRAYS, SUMMARY), write_panel)
