"""A fit in a test, without a word, a bar or a checkpoint."""

import logging
import warnings

import lightning as L


def fit_quietly(module: L.LightningModule, data: L.LightningDataModule, max_epochs: int) -> L.Trainer:
    """Fit on one CPU; the trainer, for what comes after.

    Args:
        module: to be trained.
        data: that it is trained on.
        max_epochs: -1: until the module stops.
    """
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = L.Trainer(
            max_epochs=max_epochs,
            accelerator="cpu",
            devices=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
        trainer.fit(module, datamodule=data)
    return trainer
