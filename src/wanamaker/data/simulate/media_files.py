"""Simulated panels on disk: panel.parquet, truth.npz and truth.json in a folder that is complete or absent.

The folder is made beside its final place and renamed, and its name carries every option: two processes that want the
same panel make it once, and another option makes another folder.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from wanamaker.data.simulate.cache_lock import only_one
from wanamaker.data.simulate.media_options import PanelSimulation
from wanamaker.data.simulate.media_panel import simulate_media_panel
from wanamaker.data.simulate.media_truth import ARRAYS, SUMMARY
from wanamaker.errors import UserError

TABLE = "panel.parquet"
REMEDY = "Point paths.cache_dir (or WANAMAKER_CACHE_DIR) to a folder with room that you can write."


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
    if is_complete(target):
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with only_one(target, "simulates the panel") as alone:
            if not is_complete(target):
                if alone:  # what a killed process left
                    for leftover in target.parent.glob(f".{target.name}.part-*"):
                        shutil.rmtree(leftover, ignore_errors=True)
                _write(target, options)
    except OSError as error:
        raise UserError(f"Cannot write the simulated panel {target}: {error.strerror or error}. {REMEDY}") from error
    return target


def _write(target: Path, options: PanelSimulation) -> None:
    panel = simulate_media_panel(options)
    partial = Path(tempfile.mkdtemp(prefix=f".{target.name}.part-", dir=target.parent))
    try:
        panel.frame.to_parquet(partial / TABLE, index=False)
        panel.truth.save(partial)
        partial.chmod(0o755)  # mkdtemp makes it private; a cache may be shared
        try:
            partial.rename(target)
        except OSError:
            if not is_complete(target):
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
