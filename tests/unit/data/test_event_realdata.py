"""The public logs through `EventLogDataModule`: CDNOW and a grocer's baskets."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from wanamaker.data.event_log import EventLogDataModule


@pytest.mark.realdata
def test_cdnow(data_dir: Path) -> None:
    path = data_dir / "propensity" / "cdnow" / "CDNOW_master.txt"
    module = EventLogDataModule(
        path=str(path),
        delimiter="whitespace",
        time_format="YYYYMMDD",
        roles={"id": "customer_id", "time": "date", "amount": "dollar_value", "numeric": ["number_of_cds"]},
        as_of="1997-10-01",
        tasks=[{"name": "ltv", "kind": "value", "event": "purchase", "sum": "amount", "within": 273, "unit": "USD"}],
        split={"by": "random", "test": 0.3},
    )
    module.setup("fit")
    assert module.num_rows == 23_570
    label = module.facts.label[:, 0]
    assert np.mean(label == 0) == pytest.approx(0.7006, abs=1e-4)
    frame = pd.read_csv(path, sep=r"\s+", dtype={"customer_id": str})
    later = frame[frame["date"] >= 19971001].groupby("customer_id")["dollar_value"].sum()
    spent = pd.Series(label, module.identifiers(np.arange(module.num_rows)))
    np.testing.assert_allclose(spent.loc[later.index], later, rtol=1e-5)
    assert spent.drop(later.index).sum() == 0
    batch = next(iter(module.train_dataloader()))
    calibration = frame[frame["date"] < 19971001].groupby("customer_id").size()
    np.testing.assert_array_equal(batch.seen, calibration.loc[module.identifiers(batch.row.numpy())])


@pytest.mark.realdata
def test_complete_journey(data_dir: Path) -> None:
    folder = data_dir / "retail" / "complete_journey"
    module = EventLogDataModule(
        path=str(folder / "transactions_sample.parquet"),
        roles={
            "id": "household_id",
            "time": "transaction_timestamp",
            "amount": "sales_value",
            "order": "basket_id",
            "numeric": ["quantity"],
        },
        customers={"path": str(folder / "demographics.parquet")},
        as_of={"first": "2017-04-01", "every": 56},
        tasks=[
            {"name": "lapse", "kind": "binary", "without": "purchase", "within": 28},
            {"name": "spend", "kind": "value", "sum": "amount", "within": 28, "unit": "USD"},
        ],
        split={"by": "time", "test": 0.25, "embargo": 28},
    )
    module.setup("fit")
    dates = np.unique(module.moment_of(np.arange(module.num_rows))).astype("datetime64[D]")
    assert dates.astype(str).tolist() == ["2017-04-01", "2017-05-27", "2017-07-22", "2017-09-16", "2017-11-11"]
    assert not np.isnan(module.facts.label).any()
    assert module.schema.categorical[0] == "age"
    orders = module._encode().numeric[:, module.schema.numeric.index("orders")]
    frame = pd.read_parquet(folder / "transactions_sample.parquet")
    early = frame[frame["transaction_timestamp"] < "2017-04-01"].groupby("household_id")["basket_id"].nunique()
    first = module.moment_of(np.arange(module.num_rows)) == np.datetime64("2017-04-01")
    who = module.identifiers(np.flatnonzero(first)).astype(str)
    np.testing.assert_array_equal(orders[first], early.reindex(who).fillna(0))
