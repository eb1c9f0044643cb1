"""Lines of invoices: cleaned, counted, summed to purchases; who does not return is worth 0."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from wanamaker.data.event_invoices import InvoiceDataModule
from wanamaker.errors import UserError

ROLES = {
    "customer": "CustomerID",
    "date": "InvoiceDate",
    "invoice": "InvoiceNo",
    "product": "StockCode",
    "quantity": "Quantity",
    "price": "UnitPrice",
    "categorical": ["Country"],
}
TASKS = [{"name": "ltv", "kind": "value", "event": "purchase", "sum": "amount", "within": 60, "unit": "GBP"}]


def lines(customers: int = 40, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    rows = []
    for customer in range(customers):
        for _ in range(int(rng.integers(1, 6))):
            number, day = f"I{rng.integers(10**6)}", rng.integers(0, 180)
            for product in rng.choice(30, int(rng.integers(1, 5)), replace=False):
                rows.append((customer, day, number, f"P{product}", int(rng.integers(1, 9)), rng.integers(1, 900) / 100))
    frame = pd.DataFrame(rows, columns=["CustomerID", "day", "InvoiceNo", "StockCode", "Quantity", "UnitPrice"])
    frame["InvoiceDate"] = pd.Timestamp("2024-01-01 10:30") + pd.to_timedelta(frame.pop("day"), unit="D")
    frame["Country"] = np.where(frame["CustomerID"] % 2, "UK", "France")
    return frame


def module(frame: pd.DataFrame, folder: Path, **changes: Any) -> InvoiceDataModule:
    frame.to_csv(folder / "lines.csv", index=False)
    options: dict[str, Any] = {"path": str(folder / "lines.csv"), "roles": ROLES, "tasks": TASKS, "as_of": "2024-04-01"}
    options |= {"split": {"by": "hash", "test": 0.2}, "checks": {"leak_auc": 1.0}, "batch_size": 8}
    made = InvoiceDataModule(**{**options, **changes})
    made.setup("fit")
    return made


def test_cleaning_and_sums(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    clean = lines()
    dirt = clean.iloc[:7].copy()
    dirt.loc[dirt.index[:2], "Quantity"] *= -1
    dirt.loc[dirt.index[2:4], "UnitPrice"] = 0
    nobody = clean.iloc[:5].assign(CustomerID=pd.array([None] * 5, dtype="Int64"))
    frame = pd.concat([clean.astype({"CustomerID": "Int64"}), dirt, nobody]).sample(frac=1, random_state=0)
    with caplog.at_level("WARNING"):
        made = module(frame, tmp_path)
    assert made.reader.dropped == {
        "quantity or price is empty": 0,
        "the same as an earlier line": 3,
        "quantity is 0 or below": 2,
        "price is 0 or below": 2,
    }
    for text in ("5 rows without 'CustomerID'", "3 lines were left out: the same", "2 lines were left out: quantity"):
        assert text in caplog.text

    clean["amount"] = clean["Quantity"] * clean["UnitPrice"]
    invoices = clean.groupby(["CustomerID", "InvoiceNo"]).agg(
        time=("InvoiceDate", "min"),
        amount=("amount", "sum"),
        quantity=("Quantity", "sum"),
        products=("StockCode", "nunique"),
    )
    cut, end = pd.Timestamp("2024-04-01"), pd.Timestamp("2024-05-31")
    batch = next(iter(made.predict_dataloader()))
    names = list(made.schema.numeric)
    who = made.identifiers(batch.row.numpy())
    zeros = 0
    for row, customer in enumerate(who):
        mine = invoices.loc[customer]
        before, after = mine[mine["time"] < cut], mine[(mine["time"] >= cut) & (mine["time"] < end)]
        assert batch.label[row, 0] == pytest.approx(after["amount"].sum(), rel=1e-5)
        zeros += not len(after)
        assert batch.seen[row] == len(before)
        for name, expected in (
            ("orders", len(before)),
            ("spend", before["amount"].sum()),
            ("smallest_order", before["amount"].min()),
            ("largest_order", before["amount"].max()),
            ("mean quantity", before["quantity"].mean()),
            ("mean products", before["products"].mean()),
        ):
            assert batch.numeric[row, names.index(name)] == pytest.approx(expected, rel=1e-5), name
    assert zeros == int((batch.label[:, 0] == 0).sum()) > 0  # who did not come back is there


def test_cleaning_can_be_turned_off(tmp_path: Path) -> None:
    frame = lines()
    doubled = pd.concat([frame, frame])
    made = module(doubled, tmp_path, drop={"duplicates": False})
    one = next(iter(made.predict_dataloader())).label
    other = next(iter(module(frame, tmp_path).predict_dataloader())).label
    np.testing.assert_allclose(one, 2 * other, rtol=1e-5)
    with pytest.raises(UserError, match=r"data.drop.dupes is no option. Did you mean 'duplicates'"):
        module(frame, tmp_path, drop={"dupes": True})


def test_nothing_left(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no event left: .* lines were left out: quantity is 0 or below"):
        module(lines().assign(Quantity=-1), tmp_path)


def test_streamed_invoices(tmp_path: Path) -> None:
    frame = pd.concat([lines(), lines().iloc[:9]])
    a = module(frame, tmp_path, lanes=2)
    b = module(frame, tmp_path, lanes=2, events_in_memory=10, cache_dir=str(tmp_path / "cache"), buckets=3)
    assert a.reader.dropped == b.reader.dropped
    assert a.reader.dropped["the same as an earlier line"] == 9
    rows = np.arange(a.num_rows)
    labels = [dict(zip(m.identifiers(rows).tolist(), m.facts.label[:, 0].tolist(), strict=True)) for m in (a, b)]
    assert labels[0] == pytest.approx(labels[1], rel=1e-6)
