"""`SimulatedSessionsDataModule`: a clickstream whose purchase probabilities are known after every event.

Axis letters: n rows asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from wanamaker.data.event_session_features import GROUPS
from wanamaker.data.event_sessions import SessionDataModule
from wanamaker.data.passed_on import passed_on
from wanamaker.data.simulate.events_sessions import session_simulation
from wanamaker.data.simulate.events_sessions_log import (
    CATEGORY,
    CLICKSTREAMS,
    PRICE,
    PRODUCT,
    SESSION,
    TIME,
    TYPE,
    USER,
    SessionTruth,
    sessions_path,
)
from wanamaker.data.simulated_data import SimulatedData

TASK = "conversion"
_SMALL = 2_000_000  # user days that are made before anything else is done, a few seconds' work


class SimulatedSessionsDataModule(SimulatedData, SessionDataModule):
    """A clickstream of `wanamaker.data.simulate.events_sessions`, with its truth beside it.

    Every column has its role already; what is foretold is a purchase later in the session.

    Args:
        cache_dir: Where clickstreams are kept, in `sessions/`; buckets of large ones, too.
        preset: tiny, small or large; see `events_sessions.PRESETS`.
        simulation: Options of `SessionSimulation` to change; null keeps the preset's value. `simulation.seed` seeds the
            clickstream, `seed` the order in which it is learnt.

    The other arguments say how the log is read and split: see `SessionDataModule`.
    """

    kept = CLICKSTREAMS

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
        given = locals()
        folder = self.simulated_in(cache_dir, session_simulation(preset, simulation, "data.simulation"))
        options = passed_on(
            SessionDataModule,
            given,
            path=str(sessions_path(folder, self.simulation)),
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
        )
        super().__init__(**options)

    @property
    def is_large(self) -> bool:
        return self.simulation.users * self.simulation.days > _SMALL

    @cached_property
    def truth(self) -> SessionTruth:
        """What is true of every session after each of its events."""
        return SessionTruth(self.complete_dir())

    def truth_of(self, row: np.ndarray) -> dict[str, np.ndarray]:
        """What is true of some positions: the probability of a purchase later in the session, float64 [n].

        Args:
            row: int64 [n], numbers of positions.

        Returns:
            It, by the name of the task.
        """
        return {TASK: self.truth.probability(self.identifiers(row), self.moment_of(row))}
