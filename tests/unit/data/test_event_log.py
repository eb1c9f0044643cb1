"""Positions, labels, features and sequences of an event log: right, free of what came later, and of the rows' order."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests.unit.data.event_example import ROLES, TASKS, event_frame, event_module, whole, written

from wanamaker.data.event_log import EventLogDataModule
from wanamaker.data.propensity_batch import PropensitySchema
from wanamaker.errors import UserError

AS_OF = pd.Timestamp("2024-03-15")
END = pd.Timestamp("2024-04-14")


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return event_frame()


@pytest.fixture
def module(frame: pd.DataFrame, tmp_path: Path) -> EventLogDataModule:
    return event_module(written(frame, tmp_path))


def test_labels_are_what_came_after(frame: pd.DataFrame, module: EventLogDataModule) -> None:
    known = sorted(frame.loc[frame["time"] < AS_OF, "customer"].unique())
    assert list(module.identifiers(np.arange(module.num_rows))) == known
    assert set(module.moment_of(np.arange(module.num_rows))) == {np.datetime64("2024-03-15", "s")}
    seen = whole(module)
    for row, customer in enumerate(known):
        after = frame[(frame["customer"] == customer) & (frame["time"] >= AS_OF)]
        bought = after[(after["kind"] == "purchase") & (after["time"] < END)]
        label, time = seen["label"][row], seen["time"][row]
        assert label[0] == (len(bought) == 0)
        assert label[1] == pytest.approx(bought["amount"].sum(), rel=1e-6)
        assert label[3] == len(bought)
        cancelled = after.loc[after["kind"] == "cancel", "time"]
        end = pd.Timestamp(module.reader.span.end, unit="us")
        expected = (cancelled.min() if len(cancelled) else end) - AS_OF
        assert label[2] == (len(cancelled) > 0)
        assert time[2] == pytest.approx(expected / pd.Timedelta(days=1), rel=1e-6)
        assert np.isnan(time[[0, 1, 3]]).all()


def test_features_are_what_came_before(frame: pd.DataFrame, module: EventLogDataModule) -> None:
    seen, names = whole(module), list(module.schema.numeric)

    def feature(name: str, row: int) -> float:
        return float(seen["numeric"][row, names.index(name)])

    day = pd.Timedelta(days=1)
    for row, customer in enumerate(module.identifiers(np.arange(module.num_rows))):
        before = frame[(frame["customer"] == customer) & (frame["time"] < AS_OF)].sort_values("time")
        assert seen["seen"][row] == feature("events", row) == feature("orders", row) == len(before)
        assert feature("tenure_days", row) == pytest.approx((AS_OF - before["time"].min()) / day, rel=1e-5)
        assert seen["since"][row] == pytest.approx((AS_OF - before["time"].max()) / day, rel=1e-5)
        assert feature("spend", row) == pytest.approx(before["amount"].sum(), rel=1e-5)
        recent = before[before["time"] >= AS_OF - 30 * day]
        assert feature("events_30d", row) == len(recent)
        assert feature("spend_30d", row) == pytest.approx(recent["amount"].sum(), rel=1e-5, abs=1e-4)
        gaps = before["time"].diff().dropna() / day
        if len(gaps):
            assert feature("days_between_orders", row) == pytest.approx(gaps.mean(), rel=1e-4)
            slope = np.polyfit(np.arange(len(before)), before["amount"].fillna(0), 1)[0]
            assert feature("order_momentum", row) == pytest.approx(slope, rel=1e-3, abs=1e-3)
        visits = before[before["kind"] == "visit"]
        assert feature("count of visit", row) == len(visits)
        if len(visits):
            assert feature("days since visit", row) == pytest.approx((AS_OF - visits["time"].max()) / day, rel=1e-5)
        assert feature("mean score", row) == pytest.approx(before["score"].mean(), rel=1e-4, abs=1e-5)
        assert feature("different channel", row) == before["channel"].nunique()
        channel = module.schema.categories[0][int(seen["categorical"][row, 0]) - 1]
        assert channel == before["channel"].iloc[-1]


def test_what_comes_later_does_not_matter(frame: pd.DataFrame, module: EventLogDataModule, tmp_path: Path) -> None:
    other = frame.copy()
    later = other["time"] >= AS_OF
    rng = np.random.default_rng(1)
    other.loc[later, "amount"] *= rng.lognormal(size=int(later.sum()))
    other.loc[later, "score"] += 100
    other.loc[later, "channel"] = "fax"
    other.loc[later, "kind"] = rng.choice(["visit", "purchase", "cancel"], int(later.sum()))
    first = other[later].iloc[[0]].assign(time=AS_OF, kind="refund")  # at the very moment, of a new type
    changed = event_module(written(pd.concat([other, first]), tmp_path, "other.parquet"))
    assert changed.schema == module.schema
    assert changed.stats.event_quantiles == module.stats.event_quantiles
    a, b = whole(module), whole(changed)
    for name in ("numeric", "categorical", "seen", "since", "events"):
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)
    assert not np.array_equal(a["label"], b["label"])


def test_events_that_became_known_late(frame: pd.DataFrame, tmp_path: Path) -> None:
    late = frame.assign(told=frame["time"])
    hidden = (late["time"] < AS_OF) & (late["kind"] == "purchase") & (late.index % 2 == 0)
    late.loc[hidden, "told"] = AS_OF + pd.Timedelta(days=3)
    roles = {**event_module(written(frame, tmp_path)).options.roles.__dict__, "available_at": "told"}
    module = event_module(written(late, tmp_path, "late.parquet"), roles=roles)
    without = event_module(written(frame[~hidden], tmp_path, "without.parquet"))
    a, b = whole(module), whole(without)
    who, other = (list(m.identifiers(np.arange(m.num_rows))) for m in (module, without))
    assert who == other
    for name in ("numeric", "seen", "since"):
        np.testing.assert_array_equal(a[name], b[name])
    np.testing.assert_array_equal(a["label"], b["label"])


def test_the_order_of_the_rows_does_not_matter(frame: pd.DataFrame, tmp_path: Path) -> None:
    dates = frame.assign(time=frame["time"].dt.normalize())  # many events of a customer at one time
    shuffled = dates.sample(frac=1, random_state=3)
    a, b = (event_module(written(f, tmp_path, f"{i}.csv")) for i, f in enumerate((dates, shuffled)))
    assert a.reader.span.tick == 86_400_000_000
    assert (a.schema, a.stats.event_quantiles, a.stats.quantiles) == (
        b.schema,
        b.stats.event_quantiles,
        b.stats.quantiles,
    )
    np.testing.assert_array_equal(a.codes, b.codes)
    one, two = whole(a), whole(b)
    for name, values in one.items():
        np.testing.assert_array_equal(values, two[name], err_msg=name)


def test_several_moments_share_one_sequence(frame: pd.DataFrame, tmp_path: Path) -> None:
    path = written(frame, tmp_path)
    module = event_module(path, as_of=["2024-02-01", "2024-03-15"])
    batch = next(iter(module.predict_dataloader()))
    who = module.identifiers(batch.row.numpy())
    assert len(batch.length) == len(np.unique(who)) < len(who)
    for s in range(len(batch.length)):
        assert batch.length[s] == batch.seen[batch.sequence == s].max()
    assert (np.diff(module.moment_of(np.arange(module.num_rows)).astype(np.int64)) != 0).any()
    codes = pd.Series(module.codes).groupby(module.identifiers(np.arange(module.num_rows))).nunique()
    assert (codes == 1).all()  # a customer is never in two parts
    short = event_module(path, as_of=["2024-02-01", "2024-03-15"], history={"events": 3})
    seen = np.concatenate([batch.seen.numpy() for batch in short.predict_dataloader()])
    full = np.concatenate([batch.seen.numpy() for batch in module.predict_dataloader()])
    np.testing.assert_array_equal(seen, np.minimum(full, 3))
    days = event_module(path, history={"days": 10})
    since = np.concatenate([batch.since.numpy() for batch in days.predict_dataloader()])
    assert np.nanmax(since) <= 10


def test_split_by_time_with_embargo(frame: pd.DataFrame, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = written(frame, tmp_path)
    split = {"by": "time", "val": 0.2, "test": 0.2, "embargo": 10}
    tasks = [{"name": "lapse", "kind": "binary", "without": "purchase", "within": 10}]
    module = event_module(path, tasks=tasks, split=split, as_of={"first": "2024-02-01", "every": 5})
    moment = module.moment_of(np.arange(module.num_rows))
    train, val, test = (moment[module.codes == code] for code in range(3))
    assert train.max() + np.timedelta64(10, "D") <= val.min()
    assert val.max() + np.timedelta64(10, "D") <= test.min()
    assert moment.max() <= np.datetime64("2024-04-20")  # the last window that the log holds
    assert "data.split.embargo" not in caplog.text
    event_module(path, tasks=tasks, split={**split, "embargo": 5}, as_of={"first": "2024-02-01", "every": 5})
    assert "data.split.embargo=10 keeps them apart" in caplog.text


def test_windows_beyond_the_log_are_not_known(
    frame: pd.DataFrame, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = written(frame, tmp_path)
    with caplog.at_level("WARNING"):
        module = event_module(path, as_of=["2024-02-01", "2024-04-20"])
    assert "lapse: the window of" in caplog.text
    late = module.moment_of(np.arange(module.num_rows)) > np.datetime64("2024-04-01")
    seen = whole(module)
    assert np.isnan(seen["label"][late][:, [0, 1, 3]]).all()
    assert np.isfinite(seen["label"][late][:, 2]).all()
    assert (seen["time"][late][:, 2] <= 11).all()


def test_once_and_until(frame: pd.DataFrame, tmp_path: Path) -> None:
    path = written(frame, tmp_path)
    gone = frame[(frame["kind"] == "cancel") & (frame["time"] < AS_OF)]["customer"].unique()
    kept = event_module(path, until="cancel")
    assert not set(gone) & set(kept.identifiers(np.arange(kept.num_rows)))
    asked = event_module(path, tasks=[TASKS[0], {**TASKS[2], "once": True}])
    known = np.isfinite(whole(asked)["label"][:, 1])
    assert set(asked.identifiers(np.arange(asked.num_rows))[~known]) == set(gone)


def test_customers_without_events(frame: pd.DataFrame, tmp_path: Path) -> None:
    table = pd.DataFrame(
        {
            "customer": [*sorted(frame["customer"].unique())[5:], "new1", "new2", "later"],
            "age": np.arange(len(frame["customer"].unique()) - 2),
            "plan": "basic",
            "joined": "2023-12-01",
        }
    )
    table.loc[table["customer"] == "later", "joined"] = "2024-03-15"
    table.to_csv(tmp_path / "customers.csv", index=False)
    customers = {"path": str(tmp_path / "customers.csv"), "since": "joined"}
    module = event_module(written(frame, tmp_path), customers=customers)
    who = module.identifiers(np.arange(module.num_rows))
    assert {"new1", "new2"} <= set(who)
    assert "later" not in who
    batch = next(iter(module.predict_dataloader()))
    seen, age = whole(module), list(module.schema.numeric).index("age")
    new = np.flatnonzero(who == "new1")[0]
    assert seen["seen"][new] == 0
    assert np.isnan(seen["since"][new])
    assert seen["numeric"][new, age] == table.set_index("customer").loc["new1", "age"]
    assert np.isnan(seen["numeric"][np.flatnonzero(who < "c005"), age]).all()
    assert int((batch.sequence >= 0).sum()) == int((batch.seen > 0).sum())


def test_a_planted_leak_is_named(frame: pd.DataFrame, tmp_path: Path) -> None:
    after = frame[(frame["time"] >= AS_OF) & (frame["time"] < END) & (frame["kind"] == "purchase")]
    who = sorted(frame["customer"].unique())
    spent = after.groupby("customer")["amount"].sum()
    pd.DataFrame({"customer": who, "future": [spent.get(c, 0) for c in who]}).to_csv(tmp_path / "c.csv", index=False)
    options = {"customers": {"path": str(tmp_path / "c.csv")}, "split": {"by": "hash", "test": 0.0}}
    options["checks"] = {"leak_auc": 0.999}
    path = written(frame, tmp_path)
    with pytest.raises(UserError, match=r"leak: feature 'future' alone .*data.customers.drop"):
        event_module(path, **options)
    event_module(path, **options, allow=["future"])


def test_adopting_the_names_of_a_model(frame: pd.DataFrame, module: EventLogDataModule, tmp_path: Path) -> None:
    schema = PropensitySchema.from_dict(module.schema.to_dict())
    fresh = frame[frame["kind"] != "cancel"].replace({"channel": {"app": "fax"}})
    later = EventLogDataModule(
        path=str(written(fresh, tmp_path, "fresh.parquet")),
        roles=module.options.roles,
        tasks=TASKS,
        features=["rfm", "intervals", "momentum", "recent", "types", "columns"],
    )
    later.adopt(schema)
    later.setup("predict")
    seen = whole(later)
    assert seen["numeric"].shape[1] == len(schema.numeric)
    assert (seen["categorical"] == 0).any()
    assert np.isnan(seen["label"]).all()
    poorer = EventLogDataModule(
        path=str(tmp_path / "fresh.parquet"), roles=module.options.roles, tasks=TASKS, features=["rfm"]
    )
    with pytest.raises(UserError, match="gives no features 'days_between_orders'"):
        poorer.adopt(schema)


def test_static_features_are_read_as_the_model_knows_them(frame: pd.DataFrame, tmp_path: Path) -> None:
    who = sorted(frame["customer"].unique())
    table = pd.DataFrame({"customer": who, "plan": ["basic", "plus"] * (len(who) // 2), "age": range(len(who))})
    table.to_csv(tmp_path / "c.csv", index=False)
    path, customers = written(frame, tmp_path), {"path": str(tmp_path / "c.csv")}
    schema = event_module(path, customers=customers).schema
    # Another month's export: the names look like numbers, and there is a column more.
    table.assign(plan=7, more=1).to_csv(tmp_path / "c.csv", index=False)
    later = EventLogDataModule(
        path=str(path),
        roles=ROLES,
        tasks=TASKS,
        customers=customers,
        features=["rfm", "intervals", "momentum", "recent", "types", "columns"],
    )
    later.adopt(schema)
    later.setup("predict")
    seen = whole(later)
    assert (seen["categorical"][:, schema.categorical.index("plan")] == 0).all()
    ages = table.set_index("customer").loc[later.identifiers(np.arange(later.num_rows)), "age"]
    np.testing.assert_array_equal(seen["numeric"][:, schema.numeric.index("age")], ages)
