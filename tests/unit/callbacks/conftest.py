"""A toy module and the trainers that the callbacks are tried with."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler, TensorDataset


class Blocks(Sampler[int]):
    """Rank r takes its half of every global batch, in order, so that 1 and 2 ranks see the same batches."""

    def __init__(self, count: int, batch: int, rank: int, world: int) -> None:
        share = batch // world
        self.order = [start + rank * share + i for start in range(0, count, batch) for i in range(share)]

    def __iter__(self) -> Any:
        return iter(self.order)

    def __len__(self) -> int:
        return len(self.order)


class ToyModule(LightningModule):
    """Regression with dropout, BatchNorm or neither; remembers what each stage saw."""

    def __init__(self, dropout: float = 0.0, norm: bool = False, lr: float = 0.1) -> None:
        super().__init__()
        torch.manual_seed(5)
        layers: list[nn.Module] = [nn.Linear(4, 8), nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, 1)]
        if norm:
            layers.insert(1, nn.BatchNorm1d(8))
        self.net = nn.Sequential(*layers)
        self.lr = lr
        self.raw: list[Tensor] = []  # first weight after each optimiser step
        self.validated: list[Tensor] = []
        self.tested: list[Tensor] = []
        self.losses: list[float] = []

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        loss = nn.functional.mse_loss(self.net(batch[0]), batch[1])
        self.losses.append(float(loss.detach()))
        self.log("train/loss", loss, on_step=False, on_epoch=True, prog_bar=True, batch_size=len(batch[0]))
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.raw.append(self.net[0].weight.detach().clone())

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        if batch_idx == 0:
            self.validated.append(self.net[0].weight.detach().clone())
        loss = nn.functional.mse_loss(self.net(batch[0]), batch[1])
        self.log("val/loss", loss, prog_bar=True, batch_size=len(batch[0]), sync_dist=True)

    def test_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.tested.append(self.net[0].weight.detach().clone())
        self.log("test/loss", nn.functional.mse_loss(self.net(batch[0]), batch[1]), batch_size=len(batch[0]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.lr, momentum=0.9)

    def _loader(self, batch: int) -> DataLoader[Any]:
        generator = torch.Generator().manual_seed(1)
        x = torch.randn(32, 4, generator=generator)
        data = TensorDataset(x, x.sum(1, keepdim=True) + torch.randn(32, 1, generator=generator))
        world, rank = self.trainer.world_size, self.trainer.global_rank
        return DataLoader(data, batch_size=batch // world, sampler=Blocks(32, batch, rank, world))

    def train_dataloader(self) -> DataLoader[Any]:
        return self._loader(8)

    def val_dataloader(self) -> DataLoader[Any]:
        return self._loader(16)

    def test_dataloader(self) -> DataLoader[Any]:
        return self._loader(16)


@pytest.fixture
def make_trainer(tmp_path: Path) -> Callable[..., Trainer]:
    def make(**options: Any) -> Trainer:
        defaults: dict[str, Any] = {
            "accelerator": "cpu",
            "devices": 1,
            "max_epochs": 3,
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "num_sanity_val_steps": 0,
            "use_distributed_sampler": False,
            "default_root_dir": tmp_path,
            "log_every_n_steps": 1,
        }
        return Trainer(**{**defaults, **options})

    return make


@pytest.fixture
def toy() -> type[ToyModule]:
    return ToyModule
