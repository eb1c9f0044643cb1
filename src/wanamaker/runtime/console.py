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
    r".*all_gather is deprecated.*",
    r".*Total length of `list` across ranks is zero.*",  # no validation: `WithoutValidation` says what follows from it
)


_RANK_ZERO_TALK = (
    "GPU available",
    "TPU available",
    "HPU available",
    "\N{ELECTRIC LIGHT BULB} Tip",
    "`Trainer.",
    "Trainer already configured",
    "Initializing distributed",
    "-----",
    "distributed_backend=",
    "LOCAL_RANK:",
    "Running in `fast_dev_run` mode",
    "Using bfloat16 Automatic Mixed Precision",
    "Using 16bit Automatic Mixed Precision",
    "Restoring states from",
    "Restored all states",
)


def _worth_saying(record: logging.LogRecord) -> bool:
    return not record.getMessage().strip().startswith(_RANK_ZERO_TALK)


def quieten() -> None:
    """Silence notices that tell a user nothing to act on; warnings about their run stay."""
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.rank_zero"):
        logger = logging.getLogger(name)
        if _worth_saying not in logger.filters:
            logger.addFilter(_worth_saying)
    logging.getLogger("lightning.fabric.utilities.distributed").setLevel(logging.WARNING)
    for message in _SMALL_TALK:
        warnings.filterwarnings("ignore", message=message)
