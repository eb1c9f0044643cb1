"""Run a function once, on rank 0, over what every rank holds, and give every rank its result or its error."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, TypeVar

import torch.distributed as dist

Result = TypeVar("Result")

# The gloo group belongs to the default process group it was made beside; a new default group (tests, a second fit in
# one process) needs a new one. A weak reference, so that a destroyed default group is not kept alive from here.
_made_beside: weakref.ref | None = None
_gloo_group: dist.ProcessGroup | None = None


def on_rank_zero(part: Any, function: Callable[[list[Any]], Result]) -> Result:
    """``function(parts of all ranks, in rank order)`` evaluated on rank 0; the result is returned on every rank.

    A collective: every rank must call it, in the same order as its other collectives. Ranks may hold nothing, and
    parts may differ in size by any amount. Objects travel as pickles between the ranks' CPU memory over gloo, so
    nothing touches a GPU, and while rank 0 works, the others wait on gloo: an NCCL watchdog has nothing to time out.
    The wait is bounded by the gloo group's timeout (30 minutes unless the launcher sets another).

    Without a process group, or in one of a single rank, this is ``function([part])``.

    Args:
        part: what this rank contributes; anything that pickles.
        function: called on rank 0 only; its result must pickle.

    Raises:
        Exception: on rank 0, what ``function`` raised, as it is; on the others a ValueError if it was one (a mistake
            the user can mend), else a RuntimeError, quoting it. No rank is left waiting.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return function([part])
    group = gloo_group()
    rank = dist.get_rank()
    parts: list[Any] | None = [None] * dist.get_world_size() if rank == 0 else None
    dist.gather_object(part, parts, dst=0, group=group)
    outcome: list[Any] = [None]
    error: Exception | None = None
    if parts is not None:
        try:
            outcome = [(True, function(parts))]
        except Exception as caught:  # not swallowed: raised below, once the other ranks know
            error = caught
            outcome = [(False, (isinstance(caught, ValueError), f"{type(caught).__name__}: {caught}"))]
    dist.broadcast_object_list(outcome, src=0, group=group)
    if error is not None:
        raise error
    succeeded, value = outcome[0]
    if not succeeded:
        is_value_error, text = value
        raise (ValueError if is_value_error else RuntimeError)(f"On rank 0: {text}")
    return value


def gloo_group() -> dist.ProcessGroup | None:
    """A group of all ranks that carries CPU memory: the default group if it does, else a gloo group made once.

    Making it is itself a collective over the default group; all ranks reach it at the same call of `on_rank_zero`.
    Nothing is made in a run that never asks.
    """
    global _made_beside, _gloo_group
    if default_group_is_gloo():
        return None  # torch.distributed's name for the default group
    default = dist.group.WORLD
    if _made_beside is None or _made_beside() is not default:
        _gloo_group = dist.new_group(backend="gloo")
        _made_beside = weakref.ref(default)
    return _gloo_group


def default_group_is_gloo() -> bool:
    """Whether the default group sends CPU tensors over gloo (as "gloo" and "cpu:gloo,cuda:nccl" do)."""
    return "cpu:gloo" in str(dist.get_backend_config()).lower()
