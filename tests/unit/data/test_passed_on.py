"""Arguments that are handed on: those that the base has, unless something else is said."""

import inspect

import pytest

from wanamaker.data.event_invoices import InvoiceDataModule
from wanamaker.data.event_log import EventLogDataModule
from wanamaker.data.event_sessions import SessionDataModule
from wanamaker.data.experiment import ExperimentDataModule
from wanamaker.data.panel import MediaPanelDataModule
from wanamaker.data.passed_on import passed_on
from wanamaker.data.simulated_events import SimulatedEventsDataModule
from wanamaker.data.simulated_experiment import SimulatedExperimentDataModule
from wanamaker.data.simulated_panel import SimulatedPanelDataModule
from wanamaker.data.simulated_sessions import SimulatedSessionsDataModule
from wanamaker.data.transactions import TransactionExperimentDataModule


class Base:
    def __init__(self, *, path: str, seed: int = 0, size: int = 1) -> None:
        self.found = {"path": path, "seed": seed, "size": size}


class Special(Base):
    def __init__(self, *, preset: str, seed: int = 5) -> None:
        given = locals()
        path = f"{preset}.csv"
        super().__init__(**passed_on(Base, given, path=path))


def test_what_the_base_has_too_is_handed_on() -> None:
    assert Special(preset="a").found == {"path": "a.csv", "seed": 5, "size": 1}
    assert Special(preset="a", seed=7).found == {"path": "a.csv", "seed": 7, "size": 1}


@pytest.mark.parametrize(
    ("kind", "base", "own"),
    [
        (InvoiceDataModule, EventLogDataModule, {"drop"}),
        (SessionDataModule, EventLogDataModule, {"target", "groups", "timeout"}),
        (SimulatedEventsDataModule, EventLogDataModule, {"preset", "simulation"}),
        (SimulatedSessionsDataModule, SessionDataModule, {"preset", "simulation"}),
        (SimulatedExperimentDataModule, ExperimentDataModule, {"cache_dir", "preset", "simulation", "outcomes"}),
        (TransactionExperimentDataModule, ExperimentDataModule, {"treatment", "windows", "outcomes", "cache_dir"}),
        (SimulatedPanelDataModule, MediaPanelDataModule, {"cache_dir", "preset", "simulation"}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_an_argument_that_the_base_does_not_have_is_meant(kind: type, base: type, own: set[str]) -> None:
    """One that is misspelt would reach nobody."""
    assert set(inspect.signature(kind).parameters) - set(inspect.signature(base).parameters) == own
