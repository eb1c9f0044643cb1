"""`SimulatedEventsDataModule` and `SimulatedSessionsDataModule`: made when asked to prepare, truth at hand."""

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from tests.conftest import ROOT

from wanamaker.data.propensity_batch import PropensityBatch
from wanamaker.data.simulate.events_files import EVENT_LOGS
from wanamaker.data.simulate.events_world import TYPES
from wanamaker.data.simulated_events import SimulatedEventsDataModule
from wanamaker.data.simulated_sessions import SimulatedSessionsDataModule
from wanamaker.errors import UserError

SIGMAS = 4.5


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("logs")


def module(cache: Path, **options: Any) -> SimulatedEventsDataModule:
    data = SimulatedEventsDataModule(cache_dir=str(cache), preset="tiny", **options)
    data.preflight(["fit", "test"])
    data.setup("fit")
    return data


@pytest.fixture(scope="module")
def events(cache: Path) -> SimulatedEventsDataModule:
    return module(cache, batch_size=64)


def everything(data: SimulatedEventsDataModule | SimulatedSessionsDataModule) -> tuple[np.ndarray, ...]:
    """Rows, labels and times of all positions."""
    batches = list(data.predict_dataloader())
    return tuple(np.concatenate([getattr(b, name).numpy() for b in batches]) for name in ("row", "label", "time"))


def test_the_log_is_read_as_it_was_made(events: SimulatedEventsDataModule) -> None:
    assert [(task.name, task.kind) for task in events.schema.tasks] == [
        ("churn", "hazard"),
        ("conversion", "binary"),
        ("ltv", "value"),
    ]
    assert events.schema.event_categorical == ("type", "device")
    assert set(events.schema.event_categories[0]) == set(TYPES) - {"cancel"}, "nobody is asked after cancelling"
    assert {"plan", "region", "channel"} <= set(events.schema.categorical)
    assert "age" in events.schema.numeric
    batch = next(iter(events.train_dataloader()))
    assert isinstance(batch, PropensityBatch)
    assert set(events.moment_of(np.arange(events.num_rows)).astype("datetime64[D]").astype(str)) == {
        "2023-04-02",
        "2023-05-02",
        "2023-06-01",
    }


def test_labels_are_what_the_truth_expects(events: SimulatedEventsDataModule) -> None:
    rows, label, time = everything(events)
    assert sorted(rows) == list(range(events.num_rows))
    truth = events.truth_of(rows)
    assert {name: values.shape for name, values in truth.items()} == {
        "churn": (len(rows), 3),
        "conversion": (len(rows),),
        "ltv": (len(rows),),
    }
    for edge, days in enumerate((30, 60, 90)):
        happened = (label[:, 0] == 1) & (time[:, 0] <= days)
        expected = truth["churn"][:, edge]
        sd = np.sqrt((expected * (1 - expected)).sum())
        # Positions of one customer at several dates look at the same events: up to three times the variance.
        assert abs(happened.sum() - expected.sum()) < SIGMAS * sd * np.sqrt(3)
    for t, name in ((1, "conversion"), (2, "ltv")):
        error = label[:, t] - truth[name]
        assert np.isfinite(error).all()
        assert abs(error.mean()) < SIGMAS * error.std() * np.sqrt(3 / len(error))


def test_other_tasks_have_a_truth_too(cache: Path) -> None:
    tasks = [
        {"name": "lapse", "kind": "binary", "without": "purchase", "within": 30},
        {"name": "orders", "kind": "regression", "event": "purchase", "count": True, "within": 60},
        {"name": "weeks", "kind": "hazard", "event": "cancel", "edges": [2, 4], "unit": "weeks"},
        {"name": "any", "kind": "value", "sum": "amount", "within": 30},
    ]
    data = module(cache, tasks=tasks)
    rows, label, _ = everything(data)
    truth = data.truth_of(rows)
    for t, name in ((0, "lapse"), (1, "orders"), (3, "any")):
        error = label[:, t] - truth[name]
        assert abs(error.mean()) < SIGMAS * error.std() * np.sqrt(4 / len(error)), name
    assert (truth["weeks"][:, 1] > truth["weeks"][:, 0]).all()
    odd = module(cache, tasks=[{**tasks[0], "within": 2.5}])
    with pytest.raises(UserError, match=r"the truth of 'lapse' is known for whole days, not for 2\.5"):
        odd.truth_of(np.arange(3))


def test_a_log_on_disk_in_shards_is_read_bucket_by_bucket(cache: Path, events: SimulatedEventsDataModule) -> None:
    data = module(cache, simulation={"shards": 3}, events_in_memory=1_000, lanes=1)
    assert data.num_rows == events.num_rows
    rows, label, _ = everything(data)
    names = [data.identifiers(rows), data.moment_of(rows)]
    order = np.lexsort((names[1], names[0]))
    other, same, _ = everything(events)
    wanted = np.lexsort((events.moment_of(other), events.identifiers(other)))
    np.testing.assert_allclose(label[order], same[wanted])
    np.testing.assert_allclose(
        data.truth_of(rows)["ltv"][order], events.truth_of(other)["ltv"][wanted], err_msg="the truth goes along"
    )


def test_mistakes_are_said(cache: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.tasks look 200 days ahead.*log of 240 days"):
        module(cache, tasks=[{"name": "far", "kind": "binary", "event": "purchase", "within": 200}])
    with pytest.raises(UserError, match="preset='big' does not exist"):
        SimulatedEventsDataModule(cache_dir=str(cache), preset="big")
    fresh = SimulatedEventsDataModule(cache_dir=str(tmp_path), preset="tiny")
    with pytest.raises(UserError, match="holds no simulated event log yet"):
        fresh.setup("fit")
    large = SimulatedEventsDataModule(cache_dir=str(tmp_path), preset="large")
    large.preflight(["fit"])
    assert not EVENT_LOGS.is_complete(large.simulated_dir), "a large log is made when training starts"


def test_sessions_come_with_their_truth(cache: Path) -> None:
    data = SimulatedSessionsDataModule(cache_dir=str(cache), preset="tiny", batch_size=64)
    with pytest.raises(UserError, match="holds no simulated clickstream yet"):
        data.setup("fit")
    data.preflight(["fit", "test"])
    data.setup("fit")
    rows, label, _ = everything(data)
    truth = data.truth_of(rows)["conversion"]
    known = np.isfinite(label[:, 0])
    assert known.mean() > 0.98
    error = (label[:, 0] - truth)[known]
    per_session = np.bincount(np.unique(data.identifiers(rows[known]), return_inverse=True)[1], error)
    assert abs(per_session.sum()) < SIGMAS * np.sqrt((per_session**2).sum())
    assert np.corrcoef(truth[known], label[known, 0])[0, 1] > 0.2
    assert "purchase" not in data.schema.event_categories[0]


@pytest.mark.parametrize(
    ("name", "kind"),
    [("simulated_events", SimulatedEventsDataModule), ("simulated_sessions", SimulatedSessionsDataModule)],
)
def test_the_config_names_every_option(name: str, kind: type) -> None:
    config = yaml.safe_load((ROOT / "configs" / "data" / f"{name}.yaml").read_text())
    known = inspect.signature(kind).parameters
    given = {key: value for key, value in config.items() if key not in ("_target_", "simulation")}
    assert set(config) - {"_target_"} == set(known) - {"pin_memory"}
    for key, value in given.items():
        default = known[key].default
        if default is not inspect.Parameter.empty and key not in ("seed", "tasks"):
            assert value == (list(default) if isinstance(default, tuple) else default), key
