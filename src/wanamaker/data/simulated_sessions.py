"""`SimulatedSessionsDataModule`: a clickstream whose purchase probabilities are known after every event.

Axis letters: n rows asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from wanamaker.data.event_session_features import GROUPS
from wanamaker.data.event_sessions import SessionDataModule
from wanamaker.data.simulate.events_sessions import session_simulation
from wanamaker.data.simulate.events_sessions_log import (
    CATEGORY,
    PRICE,
    PRODUCT,
    SESSION,
    TIME,
    TYPE,
    USER,
    SessionTruth,
    ensure_sessions,
    is_complete,
    sessions_folder,
    sessions_path,
)
from wanamaker.errors import UserError

TASK = "conversion"
_SMALL = 2_000_000  # user days that are made before anything else is done, a few seconds' work


class SimulatedSessionsDataModule(SessionDataModule):
    """A clickstream of `wanamaker.data.simulate.events_sessions`, with its truth beside it.

    A changed option makes a new folder beside the old one. Every column has its role already; what is foretold is a
    purchase later in the session.

    Args:
        cache_dir: Where clickstreams are kept, in `sessions/`; buckets of large ones, too.
        preset: tiny, small or large; see `events_sessions.PRESETS`.
        simulation: Options of `SessionSimulation` to change; null keeps the preset's value. `simulation.seed` seeds the
            clickstream, `seed` the order in which it is learnt.

    The other arguments say how the log is read and split: see `SessionDataModule`.
    """

    def __init__(
        self,
        *,
        cache_dir: str,
        preset: str = "small",
        simulation: Mapping[str, Any] | None = None,
        groups: Sequence[str] = GROUPS,
        history: Mapping[str, Any] | None = None,
        split: Mapping[str, Any] | None = None,
        checks: Mapping[str, float] | None = None,
        allow: Sequence[str] = (),
        max_categories: int = 1000,
        events_in_memory: int = 5_000_000,
        lanes: int = 4,
        batch_size: int = 1024,
        eval_batch_size: int = 8192,
        bucket_batches: int = 50,
        passes_per_epoch: int = 1,
        num_workers: int = 0,
        pin_memory: bool | None = None,
        seed: int = 0,
    ) -> None:
        self.simulation = session_simulation(preset, simulation, "data.simulation")
        self._sessions_cache = Path(cache_dir)
        self.sessions_dir = sessions_folder(cache_dir, self.simulation)
        super().__init__(
            path=str(sessions_path(self.sessions_dir, self.simulation)),
            roles={
                "session": SESSION,
                "time": TIME,
                "type": TYPE,
                "user": USER,
                "product": PRODUCT,
                "price": PRICE,
                "categorical": [CATEGORY],
            },
            tasks=[{"name": TASK, "kind": "binary", "event": "purchase"}],
            groups=groups,
            history=history,
            split=split,
            checks=checks,
            allow=allow,
            max_categories=max_categories,
            events_in_memory=events_in_memory,
            cache_dir=cache_dir,
            lanes=lanes,
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            bucket_batches=bucket_batches,
            passes_per_epoch=passes_per_epoch,
            num_workers=num_workers,
            pin_memory=pin_memory,
            seed=seed,
        )

    def preflight(self, stages: Sequence[str] | None = None) -> None:
        """Make the log, which takes a moment, and check it as any other; a large one is made when training starts.

        Raises:
            UserError: options that cannot be met, a cache that cannot be written, what `SessionDataModule` finds.
        """
        if self.simulation.users * self.simulation.days > _SMALL and not is_complete(self.sessions_dir):
            return
        self.prepare_data()
        super().preflight(stages)

    def prepare_data(self) -> None:
        ensure_sessions(self._sessions_cache, self.simulation)

    def setup(self, stage: str | None = None) -> None:
        self._require_sessions()
        super().setup(stage)

    def _require_sessions(self) -> None:
        if not is_complete(self.sessions_dir):
            raise UserError(
                f"{self.sessions_dir} holds no simulated clickstream yet: prepare_data() makes it; call it first."
            )

    @cached_property
    def truth(self) -> SessionTruth:
        """What is true of every session after each of its events."""
        self._require_sessions()
        return SessionTruth(self.sessions_dir)

    def truth_of(self, row: np.ndarray) -> dict[str, np.ndarray]:
        """What is true of some positions: the probability of a purchase later in the session, float64 [n].

        Args:
            row: int64 [n], numbers of positions.

        Returns:
            It, by the name of the task.
        """
        return {TASK: self.truth.probability(self.identifiers(row), self.moment_of(row))}
