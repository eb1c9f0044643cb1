"""A switch that tells model factories not to fetch pretrained weights.

When a checkpoint is about to overwrite every weight (``evaluate.py``, a resumed run on another machine), fetching
the weights the recipe started from would cost a download, or fail where there is no network.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_skip: ContextVar[bool] = ContextVar("wanamaker_skip_pretrained", default=False)


@contextmanager
def without_pretrained_weights() -> Iterator[None]:
    """Inside this block model factories build the same model but leave its weights as initialised."""
    token = _skip.set(True)
    try:
        yield
    finally:
        _skip.reset(token)


def pretrained_weights_wanted() -> bool:
    """False inside :func:`without_pretrained_weights`."""
    return not _skip.get()
