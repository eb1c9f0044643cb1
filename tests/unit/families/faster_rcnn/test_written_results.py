"""COCO metrics equal pycocotools on the written results, from a checkpoint, on one rank and on two."""

import contextlib
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.conftest import ROOT, clean_environment

NAMES = ["ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large"]
NAMES += ["ar1", "ar10", "ar100", "ar_small", "ar_medium", "ar_large"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """Logs of a tiny detector, and the environment that finds them."""
    folder = tmp_path_factory.mktemp("written")
    environment = clean_environment(WANAMAKER_LOG_DIR=str(folder / "logs"), OMP_NUM_THREADS="1")
    environment["WANAMAKER_CACHE_DIR"] = str(folder / "cache")
    command = [
        sys.executable,
        "train.py",
        "experiment=faster_rcnn_tiny",
        "run_id=fit",
        "stages=[fit]",
        "trainer.max_epochs=1",
    ]
    subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, timeout=200)
    return folder, environment


@pytest.mark.parametrize("ranks", [1, 2])
def test_pycocotools_on_the_written_file_agrees(trained: tuple[Path, dict[str, str]], ranks: int) -> None:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    folder, environment = trained
    best = folder / "logs/faster_rcnn_tiny/runs/fit/checkpoints/best.ckpt"
    # 61 photos on two ranks: an uneven share; crowds are among them.
    options = ["stages=[test]", "callbacks=[evaluate,coco_results]", "data.num_test=61", "data.eval_batch_size=8"]
    command = [sys.executable, "evaluate.py", f"ckpt_path={best}", *options, f"run_id=e{ranks}"]
    command += ["trainer=ddp_cpu", f"trainer.devices={ranks}"]
    subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, timeout=200)
    output = folder / f"logs/faster_rcnn_tiny/evaluations/e{ranks}"
    logged = json.loads((output / "metrics.json").read_text())["metrics"]
    # The folder of photos is named by a hash of its options: the one with 61 test photos.
    files = folder.glob("cache/shelf/*/annotations/instances_test.json")
    (truth_file,) = [file for file in files if len(json.loads(file.read_text())["images"]) == 61]
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(truth_file))
        found = truth.loadRes(str(output / "coco_results_test.json"))
        reference = COCOeval(truth, found, "bbox")
        reference.evaluate()
        reference.accumulate()
        reference.summarize()
    assert len(truth.getImgIds()) == 61
    assert any(annotation["iscrowd"] for annotation in truth.dataset["annotations"])
    for name, value in zip(NAMES, reference.stats.tolist(), strict=True):
        if value == -1:
            assert logged[f"test/{name}"] is None
        else:
            assert logged[f"test/{name}"] == pytest.approx(value, abs=1e-6), name
