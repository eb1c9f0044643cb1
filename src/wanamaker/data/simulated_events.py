"""`SimulatedEventsDataModule`: a log of events whose probabilities are known, made on first use, read as any other.

Axis letters: n rows asked for, D edges of a hazard.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from wanamaker.data.event_features import WINDOWS
from wanamaker.data.event_log import EventLogDataModule
from wanamaker.data.event_tasks import DAYS_OF, EventTask, parse_tasks
from wanamaker.data.passed_on import passed_on
from wanamaker.data.simulate.events_files import CUSTOMERS, EVENT_LOGS, log_path
from wanamaker.data.simulate.events_options import AMOUNT, DEVICE, ID, SINCE, TIME, TYPE, event_simulation
from wanamaker.data.simulate.events_truth import EventTruth, Standing
from wanamaker.data.simulated_data import SimulatedData
from wanamaker.errors import UserError

TASKS = (
    {"name": "churn", "kind": "hazard", "event": "cancel", "edges": [30, 60, 90], "unit": "days"},
    {"name": "conversion", "kind": "binary", "event": "purchase", "within": 30},
    {"name": "ltv", "kind": "value", "event": "purchase", "sum": "amount", "within": 90, "unit": "EUR"},
)
SNAPSHOTS = "snapshots"
_SMALL = 2_000_000  # customer days that are made before anything else is done, a few seconds' work


class SimulatedEventsDataModule(SimulatedData, EventLogDataModule):
    """A log of `wanamaker.data.simulate.events_log`, with its truth beside it.

    Every column has its role already. Who has cancelled is asked nothing any more.

    Args:
        cache_dir: Where logs are kept, in `event_log/`; buckets of large ones, too.
        preset: tiny, small, medium, order or large; see `events_options.PRESETS`.
        simulation: Options of `EventSimulation` to change; null keeps the preset's value. `simulation.seed` seeds the
            log, `seed` the order in which it is learnt.
        tasks: See `event_tasks.parse_tasks`; types of events are those of `events_world.TYPES`.
        as_of: "snapshots": every as-of date of the simulation whose label windows end within the log; or as in
            `EventLogDataModule`, with a truth for the simulation's dates only.

    The other arguments say how the log is read and split: see `EventLogDataModule`.
    """

    kept = EVENT_LOGS

    def __init__(
        self,
        *,
        cache_dir: str,
        preset: str = "medium",
        simulation: Mapping[str, Any] | None = None,
        tasks: Sequence[Mapping[str, Any]] = TASKS,
        as_of: Any = SNAPSHOTS,
        features: Sequence[str] = ("rfm", "intervals", "momentum", "recent"),
        windows: Sequence[int] = WINDOWS,
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
        folder = self.simulated_in(cache_dir, event_simulation(preset, simulation, "data.simulation"))
        self.asked = parse_tasks(tasks, (AMOUNT,))
        options = passed_on(
            EventLogDataModule,
            given,
            path=str(log_path(folder, self.simulation)),
            roles={"id": ID, "time": TIME, "type": TYPE, "amount": AMOUNT, "categorical": [DEVICE]},
            customers={"path": str(folder / CUSTOMERS), "since": SINCE},
            as_of=self._snapshots() if as_of == SNAPSHOTS else as_of,
            purchases=["purchase"],
            until=["cancel"],
            # Its last day may have no event.
            log_end=str(self.simulation.first_day + np.timedelta64(self.simulation.days, "D")),
        )
        super().__init__(**options)

    def _snapshots(self) -> list[str]:
        options = self.simulation
        longest = max(task.days for task in self.asked)
        days = [int(day) for day in options.snapshots if day + longest <= options.days]
        if not days:
            raise UserError(
                f"data.tasks look {longest:g} days ahead, but after the first as-of date"
                f" (data.simulation.first_snapshot={options.first_snapshot}) the log of {options.days} days has fewer:"
                " ask for less, or raise data.simulation.days."
            )
        return [str(options.first_day + np.timedelta64(day, "D")) for day in days]

    @property
    def is_large(self) -> bool:
        return self.simulation.customers * self.simulation.days > _SMALL

    @cached_property
    def truth(self) -> EventTruth:
        """What is true of every customer on the simulation's as-of dates."""
        return EventTruth(self.complete_dir())

    def truth_of(self, row: np.ndarray) -> dict[str, np.ndarray]:
        """What is true of some positions: what a perfect model would say of them.

        Args:
            row: int64 [n], numbers of positions.

        Returns:
            Of each task by name: of a binary one the probability, of a value or regression the expectation, float64
            [n]; of a hazard the probability that it has happened by each edge, float64 [n, D].

        Raises:
            UserError: a position at another date than the simulation's, or a task whose truth is not known (windows of
                part of a day).
        """
        at = self.truth.standing(self.identifiers(row), self.moment_of(row))
        return {task.task.name: self._truth_of_task(task, at) for task in self.asked}

    def _truth_of_task(self, task: EventTask, at: Standing) -> np.ndarray:
        truth, events = self.truth, task.events
        if task.task.kind == "hazard":
            days = [self._whole_days(task, edge * DAYS_OF[task.task.unit]) for edge in task.task.edges]
            return np.stack([truth.happens(at, events, edge) for edge in days], axis=1)
        days = self._whole_days(task, task.days)
        if task.task.kind == "binary":
            happens = truth.happens(at, events, days)
            return 1.0 - happens if task.without else happens
        if task.sum is None:
            return truth.count(at, events, days)
        # Nothing but a purchase has an amount.
        return truth.spend(at, days) if not events or "purchase" in events else np.zeros(len(at.day))

    def _whole_days(self, task: EventTask, days: float) -> int:
        if days != int(days):
            raise UserError(f"data.tasks: the truth of {task.task.name!r} is known for whole days, not for {days:g}.")
        return int(days)
