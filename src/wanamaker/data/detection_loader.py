"""Options of detection loaders, and the loader that Lightning's prediction loop accepts."""

from __future__ import annotations

from typing import Any

from torch.utils.data import DataLoader, Dataset

from wanamaker.data.detection_batch import DetectionBatch, collate_detection
from wanamaker.data.detection_sampler import DetectionEvaluationSampler
from wanamaker.data.sampler import SampleKey


def loader_options(num_workers: int, prefetch_factor: int, pin_memory: bool, persistent: bool) -> dict[str, Any]:
    """Keyword arguments of a `DataLoader`; workers stay alive between epochs when `persistent`."""
    options: dict[str, Any] = {
        "num_workers": num_workers,
        "pin_memory": pin_memory,
        "collate_fn": collate_detection,
    }
    if num_workers:
        options |= {"persistent_workers": persistent, "prefetch_factor": prefetch_factor}
    return options


class WholeBatches(Dataset):
    """Takes the keys of a whole batch and returns it collated.

    For prediction Lightning rebuilds the loader and insists on a batch sampler made of (sampler, batch_size,
    drop_last); it leaves alone a plain sampler that hands out whole batches to a dataset without collating.
    """

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, keys: list[SampleKey]) -> DetectionBatch:
        return collate_detection([self.dataset[key] for key in keys])


def prediction_loader(dataset: Dataset, sampler: DetectionEvaluationSampler, options: dict[str, Any]) -> DataLoader:
    """Loader of evaluation batches for `Trainer.predict`; `options` as from `loader_options`."""
    options = {key: value for key, value in options.items() if key != "collate_fn"}
    return DataLoader(WholeBatches(dataset), sampler=sampler, batch_size=None, **options)
