"""`CocoMetrics` in a Lightning loop: fed by batches, computed and reset per epoch, absent from the checkpoint."""

from __future__ import annotations

from pathlib import Path

import lightning as L
import numpy as np
import pytest
import torch
from coco_cases import Case, random_case
from torch.utils.data import DataLoader

from wanamaker.metrics.coco import CocoMetrics


class Replay(L.LightningModule):
    """Trains one weight; its detections are those of a case, so that the metric's value is known."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.case = case
        self.metric = CocoMetrics(case.num_classes)
        self.results: list[dict] = []

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        return self.layer(batch.to(self.layer.weight.dtype)[:, None]).square().mean()

    def on_validation_epoch_start(self) -> None:
        self.metric.reset()

    def validation_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        picked = self.case.select(batch.tolist())
        self.metric.update(picked.detections, picked.ground_truth, picked.image_ids)

    def on_validation_epoch_end(self) -> None:
        result = self.metric.compute()
        self.results.append(result)
        self.log("val/ap", result["ap"], prog_bar=False)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("precision", ["32-true", "bf16-true"])
def test_each_epoch_counts_its_own_images_and_the_checkpoint_stays_small(precision: str, tmp_path: Path) -> None:
    case = random_case(60)
    module = Replay(case)
    rows = torch.arange(len(case.image_ids))
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=2,
        precision=precision,
        num_sanity_val_steps=1,  # leaves images behind if nobody resets
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    trainer.fit(module, DataLoader(torch.ones(4), batch_size=2), DataLoader(rows, batch_size=4))
    sanity, *epochs = module.results
    np.testing.assert_equal(sanity, case.select([0, 1, 2, 3]).ours())
    assert len(epochs) == 2
    for result in epochs:
        np.testing.assert_equal(result, case.ours())
    assert trainer.callback_metrics["val/ap"].item() == pytest.approx(epochs[-1]["ap"], abs=1e-7)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    state = torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"]
    assert set(state) == {"layer.weight", "layer.bias"}
