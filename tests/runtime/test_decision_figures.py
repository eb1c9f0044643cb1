"""Pictures of a decision reach the loggers that take them."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
from PIL import Image

from wanamaker.runtime.decide import log_figures


def test_png_files_reach_loggers_that_take_pictures(tmp_path: Path) -> None:
    for name in ("roi.png", "fit.png"):
        Image.fromarray(np.full((4, 6, 3), 200, np.uint8)).save(tmp_path / name)
    images, pixels = [], []
    wandb = SimpleNamespace(log_image=lambda key, images_=None, **given: images.append((key, given["images"])))
    board = SimpleNamespace(
        experiment=SimpleNamespace(add_image=lambda name, array, step, dataformats: pixels.append((name, array.shape)))
    )
    plain = SimpleNamespace(experiment=object())
    written = [tmp_path / "roi.png", tmp_path / "table.csv", tmp_path / "fit.png"]
    log_figures(written, SimpleNamespace(loggers=[wandb, board, plain], global_step=3))  # type: ignore[arg-type]
    assert images == [("decision/roi", [str(written[0])]), ("decision/fit", [str(written[2])])]
    assert pixels == [("decision/roi", (4, 6, 3)), ("decision/fit", (4, 6, 3))]
