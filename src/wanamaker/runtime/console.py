"""What reaches the terminal: our own lines and real warnings, not the libraries' small talk."""

import logging
import warnings

_SMALL_TALK = (
    r".*LeafSpec.*is deprecated.*",
    r".*does not have many workers.*",
    r".*smaller than the logging interval.*",
    r".*It is recommended to use `self.log\(.*sync_dist=True.*",  # our epoch metrics are synchronised by torchmetrics
    r".*GPU available but not used.*",
    r".*Checkpoint directory .* exists and is not empty.*",
    r".*your dataloader is not resumable.*",  # it is: see wanamaker.data.sampler
    r".*Experiment logs directory .* exists and is not empty.*",
    r".*Starting from v1.9.0, `tensorboardX` has been removed.*",
    r".*find_unused_parameters.*",
)


def quieten() -> None:
    """Silence notices that tell a user nothing to act on; warnings about their run stay."""
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in ("lightning.pytorch", "lightning.fabric", "lightning.fabric.utilities.distributed"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in _SMALL_TALK:
        warnings.filterwarnings("ignore", message=message)
