"""Public tables as peers read them, with the folds that our data modules draw for the same options.

`data.split.folds=K data.split.repeat=r` is scikit-learn's `StratifiedKFold(K, shuffle=True, random_state=r)` over the
rows in the order of the table (customers of CDNOW: by number), stratified by whether the label is above 0. Our fits
check row by row that theirs are these.

Axis letters: N rows, R repeats, K folds.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from propensity_peers.task import About, Task
from sklearn.model_selection import StratifiedKFold

EXPERIMENTS = Path(__file__).resolve().parents[3] / "configs" / "experiment"
FOLDS = 5
RECIPES = {
    "telco": ["experiment=propensity_churn_telco"],
    "shoppers": ["experiment=propensity_conversion_shoppers"],
    "shoppers_derived": ["experiment=propensity_conversion_shoppers"],
    "shoppers_page_values": ["experiment=propensity_conversion_shoppers_page_values"],
    "cdnow": ["experiment=propensity_ltv_cdnow"],
}
"""What makes ours learn the task. The recipe of `shoppers` computes features from columns: peers get the columns alone
in `shoppers`, and in `shoppers_derived` those features too."""
FILES = {
    "telco": "telco_churn/Telco-Customer-Churn.csv",
    "shoppers": "online_shoppers/online_shoppers_intention.csv",
    "shoppers_derived": "online_shoppers/online_shoppers_intention.csv",
    "shoppers_page_values": "online_shoppers/online_shoppers_intention.csv",
    "cdnow": "cdnow/CDNOW_master.txt",
}
AS_OF, WEEKS = pd.Timestamp("1997-10-01"), 39
_NUMBERED = ("SeniorCitizen", "OperatingSystems", "Browser", "Region", "TrafficType")
"""Categories that are written as numbers."""


def folds_of(label: np.ndarray, repeats: int) -> np.ndarray:
    """Fold of each row, int8 [R, N]."""
    found = np.zeros((repeats, len(label)), np.int8)
    for repeat in range(repeats):
        cut = StratifiedKFold(FOLDS, shuffle=True, random_state=repeat)
        for fold, (_, held) in enumerate(cut.split(label, label > 0)):
            found[repeat, held] = fold
    return found


def write_task(name: str, home: Path, repeats: int, folder: Path) -> Path:
    """Write a task of `RECIPES`, if it is not there with as many repeats.

    Args:
        home: folder of the public tables (`FILES`).
    """
    if (folder / "task.json").exists() and len(Task.read(folder).fold) == repeats:
        return folder
    path = home / FILES[name]
    task = _cdnow(path, repeats) if name == "cdnow" else _table(name, path, repeats)
    return task.write(folder)


def _table(name: str, path: Path, repeats: int) -> Task:
    frame = pd.read_csv(path)
    if name == "telco":
        label = frame.pop("Churn") == "Yes"
        ids = frame.pop("customerID").to_numpy().astype(str)
        frame["TotalCharges"] = pd.to_numeric(frame["TotalCharges"], errors="coerce")  # 11 blanks
    else:
        label = frame.pop("Revenue").astype(bool)
        ids = np.arange(len(frame)).astype(str)
        if name != "shoppers_page_values":
            del frame["PageValues"]
        if name == "shoppers_derived":
            recipe = yaml.safe_load((EXPERIMENTS / "propensity_conversion_shoppers.yaml").read_text())
            for column, expression in recipe["data"]["derive"].items():
                frame[column] = frame.eval(expression).astype(np.float64)
    counts = frame.select_dtypes("number").columns.difference(_NUMBERED)
    words = [column for column in frame if column not in counts]
    codes = [pd.factorize(frame[column], sort=True)[0] for column in words]
    numbers = frame.drop(columns=words)
    label = label.to_numpy(np.float64)
    about = About(name, "binary", tuple(numbers), tuple(words))
    columns = numbers.to_numpy(np.float64), np.stack(codes, axis=1).astype(np.int32)
    return Task(about, *columns, label, folds_of(label, repeats), ids, np.zeros((len(frame), 0)))


def _cdnow(path: Path, repeats: int) -> Task:
    """Recency, frequency and money before the moment, what was spent in the 39 weeks after it."""
    names = ["id", "date", "number", "amount"]
    frame = pd.read_csv(path, sep=r"\s+", names=names, skiprows=1, dtype={"id": str})
    frame["date"] = pd.to_datetime(frame["date"], format="%Y%m%d")
    frame = frame.sort_values(["id", "date"], kind="stable")
    after = frame["date"] >= AS_OF
    known, future = frame[~after], frame[after & (frame["date"] < AS_OF + pd.Timedelta(weeks=WEEKS))]
    ids = np.unique(known["id"])
    label = future.groupby("id")["amount"].sum().reindex(ids).fillna(0.0).to_numpy()
    by, end = known.groupby("id"), AS_OF - pd.Timedelta(days=1)
    first, last = by["date"].min(), by["date"].max()
    columns = {
        "orders": by.size(),
        "spend": by["amount"].sum(),
        **{f"{how}_order": by["amount"].agg(how) for how in ("mean", "max", "first", "last")},
        "items": by["number"].sum(),
        "recency": (end - last).dt.days,
        "tenure": (end - first).dt.days,
        "first_to_last": (last - first).dt.days,
    }
    columns["gap"] = columns["first_to_last"] / (columns["orders"] - 1).clip(lower=1)
    for days in (30, 90, 180):
        recent = known[known["date"] > end - pd.Timedelta(days=days)].groupby("id")["amount"]
        columns |= {f"orders_{days}": recent.size(), f"spend_{days}": recent.sum()}
    table = pd.DataFrame(columns).reindex(ids).fillna(0.0).astype(np.float64)
    # Orders of a day are one to these models.
    days = known.groupby(["id", "date"])["amount"].sum().reset_index()
    later = days[days.groupby("id").cumcount() > 0].groupby("id")["amount"]
    history = {
        "orders": later.size(),
        "recency": (last - first).dt.days / 7,
        "age": (end - first).dt.days / 7,
        "mean": later.mean(),
    }
    past = pd.DataFrame(history).reindex(ids).fillna(0.0).to_numpy(np.float64)
    about = About("cdnow", "value", tuple(table), (), float(WEEKS))
    none = np.zeros((len(ids), 0), np.int32)
    return Task(about, table.to_numpy(), none, label, folds_of(label, repeats), ids.astype(str), past)
