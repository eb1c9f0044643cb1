"""What a user can get wrong about an event log: one message each, with the value, its place and the remedy."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tests.unit.data.event_example import ROLES, TASKS, event_frame, event_module, written

from wanamaker.data.event_log import EventLogDataModule
from wanamaker.errors import UserError


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(event_frame(), tmp_path_factory.mktemp("log"))


LAPSE = [TASKS[0]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"as_of": "2026-01-01"},
            r"data.as_of=2026-01-01 lies after the end of the log, .* choose 2024-04-30 or before",
        ),
        ({"as_of": "2023-01-01"}, r"data.as_of=2023-01-01: all events of the log happened then or later"),
        ({"as_of": "first of May"}, r"data.as_of='first of May' is no date; write it as 2020-01-31"),
        ({"as_of": []}, r"data.as_of is an empty list"),
        ({"as_of": {"first": "2024-02-01", "every": 0}}, r"data.as_of.every=0; give the days"),
        (
            {"as_of": {"first": "2024-04-15", "every": 7}},
            r"the tasks look 30 days ahead .* begin on 2024-03-31 or before",
        ),
        (
            {"as_of": None, "tasks": LAPSE},
            r"data.tasks\[0\] \(lapse\) looks 30 days ahead of 2024-04-30, but the log ends",
        ),
        ({"log_end": "2024-03-01"}, r"data.log_end='2024-03-01', but the log has an event on 2024-04"),
        ({"tasks": [{**TASKS[1], "event": "buy"}]}, r"data.tasks\[0\] names event 'buy', which column 'kind'"),
        ({"purchases": "visits"}, r"data.purchases names event 'visits'.* Did you mean 'visit'"),
        ({"tasks": [{**TASKS[0], "kind": "sometimes"}]}, r"data.tasks\[0\].kind='sometimes'; choose from binary"),
        ({"tasks": [{**TASKS[0], "within": None}]}, r"data.tasks\[0\].within=None; say how many days"),
        ({"tasks": [{**TASKS[0], "horizon": 3}]}, r"data.tasks\[0\].horizon is no option"),
        ({"tasks": [{**TASKS[1], "sum": "price"}]}, r"sum='price' is no number of the log"),
        ({"tasks": [{**TASKS[1], "sum": None}]}, r"a value is the sum of a column"),
        ({"tasks": [{**TASKS[2], "edges": [30, 20]}]}, r"edges=\[30, 20\]; a hazard needs ends of intervals"),
        ({"tasks": [{**TASKS[2], "unit": "moons"}]}, r"unit='moons'; time is counted in hours, days"),
        ({"tasks": [TASKS[0], TASKS[0]]}, r"two tasks are called 'lapse'"),
        ({"tasks": []}, r"data.tasks=\[\]; list what is to be foretold"),
        ({"tasks": [{**TASKS[0], "within": 1e-6}]}, r"is 1 for all .* labels of one class"),
        ({"features": ["rfm", "rmf"]}, r"data.features names 'rmf'; choose from rfm"),
        ({"windows": [7, "week"]}, r"data.windows holds 'week'"),
        ({"history": {"event": 5}}, r"data.history.event is no option"),
        ({"history": {"events": 0}}, r"data.history.events=0; give a whole number above 0"),
        ({"embargo": -1}, r"data.embargo=-1; give a number of days"),
        ({"roles": {**ROLES, "amount": "price"}}, r"column 'price' \(numeric\) is not there"),
        ({"roles": {**ROLES, "amount": "score"}}, r"column 'score' has two roles"),
        ({"roles": {"id": "customer"}}, r"data.roles.time is missing"),
        ({"split": {"by": "column", "column": "kind"}}, r"data.split.by=column: a log has no such column"),
        ({"split": {"val": 1e-9, "test": 0.2}}, r"data.split.val=1e-09 leaves no position to validate on"),
        ({"bucket_batches": 0}, r"data.bucket_batches=0; give a whole number, 1 or more"),
        ({"allow": ["recency"]}, r"data.allow names 'recency', which is no column"),
        ({"customers": {"path": "nowhere.csv"}}, r"Data not on disk: nowhere.csv"),
        ({"as_of": 20240401}, r"data.as_of=20240401 is no date"),
        ({"as_of": {"first": "2024-02-01", "every": np.inf}}, r"data.as_of.every=inf; give the days"),
        ({"as_of": {"first": "2024-02-01", "every": 1e-7}}, r"data.as_of.every=1e-07 .* more than 10,000 as-of dates"),
        ({"embargo": np.nan}, r"data.embargo=nan; give a number of days"),
        ({"history": {"days": np.inf}}, r"data.history.days=inf; give a number above 0"),
        ({"history": {"events": 0.5}}, r"data.history.events=0.5; give a whole number"),
        ({"buckets": -3}, r"data.buckets=-3; give a whole number from 1 up to 512"),
        ({"checks": {"rows": np.inf}}, r"data.checks.rows=inf must be a whole number"),
        ({"split": {"by": "time", "embargo": np.inf}}, r"data.split.embargo=inf must be a number of days"),
        ({"split": {"stratify": "no"}}, r"data.split.stratify='no' must be true or false"),
        ({"split": {"repeat": 2}}, r"data.split.repeat=2 belongs to data.split.folds"),
        ({"roles": {**ROLES, "amount": ["score"]}}, r"data.roles.amount=\['score'\] must be the name of a column"),
        ({"tasks": ["lapse"]}, r"data.tasks\[0\]='lapse' is no mapping"),
        ({"tasks": [{**TASKS[0], "within": np.inf}]}, r"data.tasks\[0\].within=inf; say how many days"),
        ({"tasks": [{**TASKS[0], "name": "id"}]}, r"calls a task 'id', which is a column of the table of scores"),
        ({"tasks": [TASKS[0], {**TASKS[0], "name": "lapse_low"}]}, r"'lapse_low', which is that of task 'lapse'"),
        ({"tasks": [{**TASKS[0], "edges": [3]}]}, r"edges=\[3\] means nothing to kind: binary"),
        ({"tasks": [{**TASKS[0], "once": "maybe"}]}, r"once='maybe'; say true or false"),
        ({"tasks": [{**TASKS[2], "edges": [30, np.inf]}]}, r"edges=\[30, inf\]; a hazard needs ends"),
        ({"tasks": [{**TASKS[2], "edges": [15, 30], "unit": "years"}]}, r"nobody is watched for longer than"),
    ],
)
def test_options(log: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        event_module(log, **changes)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("time", "soon", r"log.csv, row 5: column 'time' \(time\) is 'soon', which is no time"),
        ("time", "", r"log.csv, row 5: column 'time' \(time\) is empty"),
        ("time", "2024-01-05 10:00:00+02:00", r"row 5: column 'time' \(time\) has zone \+02:00, .*row 2 has no zone"),
        ("amount", "ten", r"log.csv, row 5: column 'amount' \(numeric\) is 'ten', which is no number"),
    ],
)
def test_cells(tmp_path: Path, column: str, value: str, message: str) -> None:
    frame = event_frame().astype({"time": str, "amount": object})
    frame.loc[3, column] = value
    with pytest.raises(UserError, match=message):
        event_module(written(frame, tmp_path, "log.csv"))


def test_repeated_customers_are_refused(log: Path, tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text("customer,age\nc001,3\nc002,4\nc001,5\n")
    with pytest.raises(UserError, match=r"c001 stands there twice, again in row 3 of the table"):
        event_module(log, customers={"path": str(tmp_path / "c.csv")})


def test_a_value_below_zero(tmp_path: Path) -> None:
    frame = event_frame()
    frame["amount"] *= -1
    with pytest.raises(UserError, match=r"is a value but adds up to -.* declare kind: regression"):
        event_module(written(frame, tmp_path))


def _events(time: list[str], folder: Path, header: str = "id,t", **options: Any) -> EventLogDataModule:
    rows = "\n".join(f"{i % 4},{t}" for i, t in enumerate(time))
    text = f"{header}\n{rows}\n"
    name = "log.txt" if options.get("delimiter") == "whitespace" else "log.csv"
    (folder / name).write_text(text.replace(",", "   ") if name == "log.txt" else text)
    module = EventLogDataModule(
        path=str(folder / name),
        roles={"id": "id", "time": "t"},
        tasks=[{"name": "back", "kind": "binary", "event": "purchase", "within": 20}],
        as_of="2024-01-20",
        **options,
    )
    module.setup("predict")
    return module


@pytest.mark.parametrize(
    ("form", "options"),
    [
        ("%Y-%m-%d", {}),
        ("%Y%m%d", {"time_format": "YYYYMMDD"}),
        ("%Y%m%d", {"time_format": "YYYYMMDD", "delimiter": "whitespace"}),
        ("%d.%m.%Y", {"time_format": "%d.%m.%Y"}),
        ("s", {"time_format": "s"}),
        ("ms", {"time_format": "ms"}),
        ("%Y-%m-%dT00:00:00Z", {}),
        ("%Y-%m-%d 00:00:00+02:00", {}),
    ],
)
def test_times_are_read_alike(tmp_path: Path, form: str, options: dict[str, Any]) -> None:
    days = pd.date_range("2024-01-01", periods=40)
    seconds = days.to_numpy().astype("datetime64[s]").astype(np.int64)
    scale = {"s": 1, "ms": 1000}
    texts = [str(v * scale[form]) for v in seconds] if form in scale else list(days.strftime(form))
    module = _events(texts, tmp_path, **options)
    history = module.reader.prepare(0).history
    expected = np.sort(days.to_numpy().astype("datetime64[us]").astype(np.int64))
    np.testing.assert_array_equal(np.sort(history.time), expected)
    assert module.num_rows == 4


def test_a_number_that_is_no_time(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"row 3: column 't' \(time\) is 'x', but data.time_format=ms reads numbers"):
        _events(["1704067200000", "x"], tmp_path, time_format="ms")
    with pytest.raises(UserError, match=r"row 2: column 't' \(time\) is '1704067200', which is no time"):
        _events(["1704067200"], tmp_path)
