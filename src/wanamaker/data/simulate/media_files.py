"""Simulated panels on disk: panel.parquet, truth.npz and truth.json in a folder that is complete or absent.

The folder is made beside its final place and renamed, and its name carries every option: two processes that want the
same panel make it once, and another option makes another folder.
"""

from __future__ import annotations

from pathlib import Path

from wanamaker.data.simulate.cache_lock import made_once
from wanamaker.data.simulate.media_options import PanelSimulation
from wanamaker.data.simulate.media_panel import simulate_media_panel
from wanamaker.data.simulate.media_truth import ARRAYS, SUMMARY

TABLE = "panel.parquet"


def panel_folder(cache_dir: Path | str, options: PanelSimulation) -> Path:
    """Where the panel of these options lies, or will."""
    return Path(cache_dir) / "media_panel" / options.folder_name


def is_complete(folder: Path) -> bool:
    """Whether a panel and its truth are there. The rename that makes the folder comes last, so they are whole."""
    return all((folder / name).is_file() for name in (TABLE, ARRAYS, SUMMARY))


def ensure_panel(cache_dir: Path | str, options: PanelSimulation) -> Path:
    """The folder with this panel, made now if it is not there yet.

    Safe to call from several processes: the others wait for the first. Where the file system knows no locks each
    makes its own, and the first to finish wins.

    Raises:
        UserError: the folder cannot be written, or the options cannot be met; nothing is left behind.
    """
    target = panel_folder(cache_dir, options)
    return made_once(target, is_complete, lambda folder: _write(folder, options), "panel")


def _write(folder: Path, options: PanelSimulation) -> None:
    panel = simulate_media_panel(options)
    panel.frame.to_parquet(folder / TABLE, index=False)
    panel.truth.save(folder)
