"""The detections that were scored, as the COCO results file that pycocotools reads."""

from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from wanamaker.metrics.coco import CocoMetrics
from wanamaker.metrics.coco_files import write_coco_results


class CocoResults(Callback):
    """Writes `coco_results_test.json` after a test: every image once, nothing rounded.

    `pycocotools` on this file and the annotation file of the data gives the metrics that were logged.

    Args:
        output_dir: Where the file goes.
        filename: Its name; `{stage}` becomes `test`.
    """

    def __init__(self, output_dir: str, filename: str = "coco_results_{stage}.json") -> None:
        self.output_dir, self.filename = Path(output_dir), filename

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        datamodule: Any = trainer.datamodule  # type: ignore[attr-defined]
        metric = pl_module.get_submodule("coco")["test"]  # type: ignore[index]
        assert isinstance(metric, CocoMetrics)
        records = metric.evaluated_records()  # None but on rank zero
        if records is not None:
            self.output_dir.mkdir(parents=True, exist_ok=True)
            write_coco_results(self.output_dir / self.filename.format(stage="test"), records, datamodule.category_ids)
