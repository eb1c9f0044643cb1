"""`CustomerTableDataModule` on small tables: labels, encoding, dirty cells, ranks, a trained model's names."""

import inspect
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from tests.conftest import ROOT
from tests.unit.data.customer_files import CANCEL, CHURN, SPEND, customer_frame, module
from tests.unit.data.table_cases import TableCase, batches_of_ranks, check_evaluated_once, run_through

from wanamaker.data.customer_table import CustomerTableDataModule
from wanamaker.data.customer_table_split import parse_split
from wanamaker.data.experiment_split import NONE, TEST, TRAIN
from wanamaker.data.leak_gate import parse_checks
from wanamaker.data.propensity_batch import PropensityBatch, PropensitySchema
from wanamaker.errors import UserError

CASE = TableCase(module, customer_frame)
ready, refused, adopted = CASE.ready, CASE.refused, CASE.adopted
changed, with_cell = CASE.changed, CASE.with_cell


def everything(data: CustomerTableDataModule) -> PropensityBatch:
    return PropensityBatch(*(torch.cat(parts) for parts in zip(*data.predict_dataloader(), strict=True)))


# -- what is read ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["customers.csv", "customers.csv.gz", "customers.parquet"])
def test_schema_and_statistics(tmp_path: Path, name: str) -> None:
    frame = customer_frame()
    data = ready(tmp_path, frame, name=name, roles={"tasks": [CHURN, SPEND], "drop": []}, allow=["price"])
    schema = data.schema
    assert schema.id == "customer"
    assert [(task.name, task.kind, task.unit) for task in schema.tasks] == [
        ("churn", "binary", ""),
        ("spend", "value", "EUR"),
    ]
    assert (schema.numeric, schema.categorical) == (("months", "price", "income"), ("region",))
    assert schema.categories == (("north", "south", "west"),)
    assert not schema.has_events
    train = frame[data.split_of(np.arange(600)) == TRAIN]
    assert (data.num_rows, data.num_train_rows, len(train)) == (600, 420, 420)
    stats, columns = data.stats, ["months", "price", "income"]
    np.testing.assert_allclose(stats.mean, train[columns].mean())
    np.testing.assert_allclose(stats.sd, train[columns].std(ddof=0))
    np.testing.assert_allclose(stats.missing, train[columns].isna().mean(), atol=1e-12)
    np.testing.assert_allclose(stats.quantiles[2], np.nanquantile(train["income"], np.linspace(0, 1, 65)), rtol=1e-6)
    left, logs = train["left"] == "Yes", np.log(train["spent"][train["spent"] > 0])
    np.testing.assert_allclose(stats.label_mean, [left.mean(), logs.mean()], rtol=1e-6)
    np.testing.assert_allclose(stats.label_sd, [left.std(ddof=0), logs.std(ddof=0)], rtol=1e-6)
    np.testing.assert_allclose(stats.positive_share, [left.mean(), (train["spent"] > 0).mean()])
    np.testing.assert_allclose(stats.largest, [1, np.quantile(train["spent"], 0.999)], rtol=1e-6)
    assert stats.hazard == ((), ())


def test_batches_hold_the_units_of_the_file(tmp_path: Path) -> None:
    frame = customer_frame()
    frame["weight"], frame["day"] = np.arange(1, 601), pd.Timestamp("2024-01-01") + pd.to_timedelta(range(600), "D")
    data = ready(tmp_path, frame, roles={"weight": "weight", "moment": "day"})
    batch = everything(data)
    assert batch.row.tolist() == list(range(600))
    columns = ["months", "price", "income"]
    np.testing.assert_array_equal(batch.numeric.numpy(), frame[columns].to_numpy(np.float32))
    np.testing.assert_array_equal(batch.categorical[:, 0], frame["region"].map({"north": 1, "south": 2, "west": 3}))
    np.testing.assert_array_equal(batch.label[:, 0], frame["left"] == "Yes")
    np.testing.assert_array_equal(batch.weight, frame["weight"])
    assert torch.isnan(batch.time).all()
    assert (batch.sequence == -1).all()
    assert (batch.seen == 0).all()
    assert [batch.length.shape, batch.event_categorical.shape, batch.event_numeric.shape] == [(0,), (0, 0), (0, 0)]
    floats = ("numeric", "since", "event_numeric", "event_gap", "label", "time", "weight")
    for name, tensor in batch._asdict().items():
        assert tensor.dtype == (torch.float32 if name in floats else torch.int64), name
    assert data.identifiers(np.array([3, 1])).tolist() == ["c00003", "c00001"]
    assert data.moment_of(np.array([31])).tolist() == [pd.Timestamp("2024-02-01")]
    assert np.isnat(ready(tmp_path, roles={}).moment_of(np.arange(2))).all()
    assert ready(tmp_path, roles={"id": None, "drop": ["customer", "spent"]}).identifiers(np.array([5])) == [5]


def test_a_hazard_has_a_time(tmp_path: Path) -> None:
    frame = customer_frame()
    frame.loc[3, "months"], frame.loc[3, "left"] = 0, "No"
    data = ready(tmp_path, frame, roles={"tasks": [CANCEL]})
    assert data.schema.tasks[0].edges == (6.0, 12.0)
    assert "months" not in data.schema.numeric
    batch = everything(data)
    np.testing.assert_array_equal(batch.time[4:, 0], frame["months"][4:])
    assert torch.isnan(batch.label[3])  # observed for no time at all
    assert torch.isnan(batch.time[3])
    assert data.split_of(np.array([3])) == NONE
    # the Kaplan-Meier estimate, counted by hand
    train = frame[data.codes == TRAIN]
    left, survival = train["left"] == "Yes", [1.0]
    for month in range(1, 13):
        at_risk = train["months"] >= month
        survival.append(survival[-1] * (1 - (left & (train["months"] == month)).sum() / at_risk.sum()))
    np.testing.assert_allclose(data.stats.hazard[0], [1 - survival[6], 1 - survival[12] / survival[6]])


def test_decimal_commas(tmp_path: Path) -> None:
    frame = customer_frame()
    text = frame["price"].map(lambda price: f"{price:.1f}".replace(".", ","))
    text[4] = " "
    path = tmp_path / "comma.csv"
    frame.assign(price=text).to_csv(path, sep=";", decimal=",", index=False)
    data = ready(tmp_path, path=path, delimiter=";", decimal=",")
    wanted = frame[["months", "price", "income"]].to_numpy(np.float32)
    wanted[4, 1] = np.nan
    np.testing.assert_array_equal(everything(data).numeric, wanted)


@pytest.mark.parametrize(
    ("no", "yes", "positive"),
    [(0, 1, None), ("no", "Yes", None), ("FALSE", "TRUE", None), (False, True, None), (1, 2, 2), ("a", "b", "b")],
)
@pytest.mark.parametrize("name", ["customers.csv", "customers.parquet"])
def test_words_for_yes(tmp_path: Path, no, yes, positive, name: str) -> None:
    left = (customer_frame()["left"] == "Yes").to_numpy()
    frame = customer_frame().assign(left=[yes if one else no for one in left])
    data = ready(tmp_path, frame, name=name, roles={"tasks": [{"column": "left", "name": "x", "positive": positive}]})
    assert data.schema.tasks[0].kind == "binary"
    np.testing.assert_array_equal(everything(data).label[:, 0], left)


def test_kinds_are_found(tmp_path: Path) -> None:
    frame = customer_frame()
    frame["change"] = np.random.default_rng(1).normal(size=600).round(3)
    tasks = [{"name": "spend", "column": "spent"}, {"name": "change"}, {"name": "churn", "column": "left"}]
    data = ready(tmp_path, frame, roles={"tasks": tasks, "drop": []})
    assert [task.kind for task in data.schema.tasks] == ["value", "regression", "binary"]
    assert (data.schema.numeric, data.schema.categorical) == (("months", "price", "income"), ("region",))


def test_labels_may_be_missing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    frame = customer_frame()
    frame.loc[:9, "left"], frame.loc[5:19, "spent"] = "", np.nan
    data = ready(tmp_path, frame, roles={"tasks": [CHURN, SPEND], "drop": []})
    label = everything(data).label
    assert torch.isnan(label[:10, 0]).all()
    assert torch.isnan(label[5:20, 1]).all()
    assert int(torch.isnan(label).sum()) == 25
    assert (data.split_of(np.arange(5, 10)) == NONE).all()  # nothing known
    assert (data.split_of(np.arange(5)) != NONE).all()
    assert "label 'churn' is not known in 10 rows" in caplog.text


def test_blank_cells_are_missing_and_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    frame = customer_frame().astype({"price": object})
    frame.loc[[4, 9, 300], "price"] = " "
    for name in ("customers.csv", "customers.parquet"):
        caplog.clear()
        data = ready(tmp_path, frame.astype({"price": str}), name=name)
        assert "price" in data.schema.numeric
        assert torch.isnan(everything(data).numeric[:, 1]).nonzero().flatten().tolist() == [4, 9, 300]
        assert caplog.text.count("'price' in 3 rows (the first is row 5)") == 1
    caplog.clear()
    schema = PropensitySchema.from_dict(data.schema.to_dict())
    new = ready(tmp_path, frame[frame.index < 10].drop(columns=["left", "spent"]), "predict", name="new.csv")
    new.adopt(schema)
    assert caplog.text.count("'price' in 2 rows (the first is row 5)") == 1
    message = refused(tmp_path, frame, blank="refuse")
    assert "column 'price' (numeric feature) of customers.csv is blank in row 5 of the table (3 such rows)" in message
    assert message.endswith("read it as missing with data.blank=missing.")
    assert "'income' (numeric feature) of customers.csv is blank in row" in refused(tmp_path, blank="refuse")


def test_survival_feature_is_of_the_training_rows(tmp_path: Path) -> None:
    frame = customer_frame()
    data = ready(tmp_path, frame, survival={"time": "months", "event": "left"})
    assert data.schema.numeric == ("months", "price", "income", "survival(months)")
    train = data.codes == TRAIN
    left, months, survival = (frame["left"] == "Yes") & train, frame["months"], {0: 1.0}
    for month in range(1, 25):
        at_risk = ((months >= month) & train).sum()
        survival[month] = survival[month - 1] * (1 - (left & (months == month)).sum() / at_risk)
    np.testing.assert_allclose(everything(data).numeric[:, 3], months.map(survival), rtol=1e-6)
    # what other rows' labels are changes nothing
    other = frame.copy()
    other.loc[~train, "left"] = "No"
    other["part"] = np.where(train, "train", "test")
    split = {"by": "column", "column": "part"}
    again = ready(tmp_path, other, name="other.csv", survival={"time": "months", "event": "left"}, split=split)
    assert again.schema.survival == data.schema.survival
    # and a table without labels is read by the model's curve
    schema = PropensitySchema.from_dict(data.schema.to_dict())
    new = ready(tmp_path, frame[["customer", "months", "price", "income", "region"]], "predict", name="new.csv")
    new.adopt(schema)
    assert torch.equal(everything(new).numeric.nan_to_num(), everything(data).numeric.nan_to_num())
    assert not new.has_annotations


# -- what users get wrong ----------------------------------------------------------------------------------------------

WRONG = {
    "data.roles.tasks[0].positive='yess' is not among the values of column 'left' (label of 'churn') of customers.csv."
    " Did you mean 'Yes'?": (customer_frame(), {"tasks": [{**CHURN, "positive": "yess"}]}),
    "column 'left' (label of 'churn') of customers.csv is 'No' in every row, and never"
    " data.roles.tasks[0].positive='Yes': there is nothing to learn from labels of one class.": (
        changed(left="No"),
        {},
    ),
    "column 'left' (label of 'churn') of customers.csv is 0 in all 600 rows: there is nothing to learn from labels of"
    " one class. Check data.roles.tasks[0].": (changed(left=0), {"tasks": [{"name": "churn", "column": "left"}]}),
    "column 'left' (label of 'churn') of customers.csv is 1 ('Yes' in every row) in all 600 rows: there is nothing to"
    " learn from labels of one class. Check data.roles.tasks[0].": (changed(left="Yes"), {}),
    "column 'left' (label) of customers.csv holds 'gone' in row 3 of the table: say which of its values ('No', 'Yes',"
    " 'gone') means yes, in data.roles.tasks[0].positive.": (
        with_cell("left", 2, "gone"),
        {"tasks": [{"name": "churn", "column": "left"}]},
    ),
    "column 'left' (label) of customers.csv holds 2 in row 3 of the table; binary labels are 0 and 1: name the value"
    " that means yes in data.roles.tasks[0].positive, or declare kind: value or regression.": (
        changed(left=lambda c: np.where(c.index == 2, 2, c == "Yes")),
        {"tasks": [{"name": "churn", "column": "left", "kind": "binary"}]},
    ),
    "column 'spent' (label of 'spend') of customers.csv is a value but holds -3: amounts are 0 or positive; net out"
    " refunds, or declare kind: regression.": (with_cell("spent", 3, -3.0), {"tasks": [SPEND], "drop": ["left"]}),
    "column 'months' (time of 'cancel') of customers.csv is -1 in row 8 of the table: the time is counted from the"
    " moment of the prediction and lies above 0; correct the row, or take it out.": (
        with_cell("months", 7, -1),
        {"tasks": [CANCEL]},
    ),
    "data.roles.tasks[0].edges=None must list the ends of a hazard's intervals, such as [6, 12, 24]; the last one is"
    " the horizon that is reported.": (customer_frame(), {"tasks": [{**CANCEL, "edges": None}]}),
    "data.roles.tasks[0].time is missing: a hazard needs the column of when it happened, or was last seen.": (
        customer_frame(),
        {"tasks": [{**CANCEL, "time": None}]},
    ),
    "data.roles.tasks is missing: say what is to be foretold, such as [{name: churn, column: Churn}].": (
        customer_frame(),
        {"tasks": []},
    ),
    "data.roles.tasks: two tasks are called 'churn'; give each a name of its own.": (
        customer_frame(),
        {"tasks": [CHURN, CHURN]},
    ),
    "data.roles: column 'left' is declared as label and as drop; keep one of the two.": (
        customer_frame(),
        {"drop": ["left"]},
    ),
    "customers.csv has no column 'lft' (data.roles.tasks[0].column). Did you mean 'left'?": (
        customer_frame(),
        {"tasks": [{"name": "churn", "column": "lft"}]},
    ),
    "customers.csv has no column 'spend' (data.roles.drop). Did you mean 'spent'?": (
        customer_frame(),
        {"drop": ["spend"]},
    ),
    "column 'price' (numeric feature) of customers.csv holds 'unknown' in row 12 of the table: write a number or leave"
    " the cell empty, or list the column in data.roles.categorical if its values are names.": (
        with_cell("price", 11, "unknown"),
        {},
    ),
    "column 'customer' (id) of customers.csv has c00001 in rows 2 and 8 of the table: one row stands for one customer."
    " Join the rows, name another column in data.roles.id, or pass data.allow=[repeated], which keeps the rows of a"
    " customer in one part of the split.": (with_cell("customer", 7, "c00001"), {}),
    "column 'customer' (id) is empty in 1 rows, the first is row 5 of the table: every customer needs an identifier;"
    " data.roles.id=null numbers the rows.": (with_cell("customer", 4, None), {}),
    "column 'price' of customers.csv holds dates, which are no feature: write the days up to the moment of the"
    " prediction instead, or leave it out with data.roles.drop=[price].": (changed(price="2024-01-31"), {}),
    "column 'weight' (weight) of customers.csv is 0 in row 1 of the table: a row stands for more than 0 customers.": (
        customer_frame().assign(weight=0.0),
        {"weight": "weight"},
    ),
}


@pytest.mark.parametrize("message", WRONG, ids=[text[:70] for text in WRONG])
def test_mistakes_are_told_in_one_line(tmp_path: Path, message: str) -> None:
    frame, roles = WRONG[message]
    assert refused(tmp_path, frame, roles=roles) == message


def test_more_mistakes(tmp_path: Path) -> None:
    names = customer_frame().assign(email=[f"{i}@x.org" for i in range(600)])
    assert "has more than 100 different names in 420 training rows" in refused(tmp_path, names, max_categories=100)
    assert "Data not on disk" in refused(tmp_path, path=tmp_path / "nowhere.csv")
    assert "data.blank='skip'; choose from missing, refuse." in refused(tmp_path, blank="skip")
    assert "data.survival.event is missing." in refused(tmp_path, survival={"time": "months"})
    assert "data.allow names 'prize', which is no column. Did you mean 'price'?" in refused(tmp_path, allow=["prize"])
    assert "No row of customers.csv is left to train on" in refused(tmp_path, split={"test": 1.0})
    assert "data.split.test=0.0, or leave" in refused(tmp_path, stage="test", split={"test": 0.0})
    few = customer_frame(40)
    few["left"] = np.where(np.arange(40) == 5, "Yes", "No")
    few["part"] = np.where(np.arange(40) < 10, "test", "train")
    message = refused(tmp_path, few, split={"by": "column", "column": "part"})
    assert "is 0 ('Yes' in no row) in all 30 training rows" in message
    assert message.endswith("Lower data.split.test, or bring more rows.")
    message = refused(tmp_path, customer_frame().assign(left=""), stage="test")
    assert message == "customers.csv has no row with a label to test on: fill in 'left', or pass stages=[predict]."
    leaking = customer_frame()
    leaking["retention_call"] = (leaking["left"] == "Yes") * 3 + np.arange(600) % 2
    message = refused(tmp_path, leaking)
    assert "leak: feature 'retention_call' alone tells 'churn' with an AUC of 1.000 (limit 0.82)" in message
    assert "data.roles.drop=[retention_call]" in message
    assert ready(tmp_path, leaking, allow=["retention_call"]).leaks[0].feature == "retention_call"


def test_repeated_customers_stay_together(tmp_path: Path) -> None:
    frame = customer_frame()
    frame.loc[20:29, "customer"] = "again"
    data = ready(tmp_path, frame, allow=["repeated"])
    assert len(set(data.split_of(np.arange(20, 30)))) == 1
    data = ready(tmp_path, frame, allow=["repeated"], split={"folds": 5, "fold": 1, "val": 0.2})
    assert len(set(data.split_of(np.arange(20, 30)))) == 1
    assert np.bincount(data.codes, minlength=3)[:3] == pytest.approx([384, 96, 120], abs=25)


# -- prediction from a checkpoint --------------------------------------------------------------------------------------


def test_new_customers_are_encoded_by_the_models_names(tmp_path: Path) -> None:
    frame = customer_frame(50, seed=3).drop(columns=["left", "spent"])
    frame.loc[:4, "region"] = ["east", "north", "west", "", "south"]
    data = adopted(tmp_path, frame, roles={"drop": ["spent"]})
    batch = everything(data)
    assert batch.categorical[:5, 0].tolist() == [0, 1, 3, 0, 2]  # east and no region were not seen
    assert torch.isnan(batch.label).all()
    assert batch.label.shape == batch.time.shape == (50, 1)
    assert (data.split_of(np.arange(50)) == NONE).all()
    assert not data.has_annotations
    module(tmp_path, frame, name="new.csv").preflight(["test", "predict"])
    assert module(tmp_path).has_annotations


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda f: f.drop(columns=["income", "region"]),
            "customers.csv lacks features 'income', 'region', which the model was trained with. ",
        ),
        (
            lambda f: f.rename(columns={"income": "incme"}),
            "lacks feature 'income', which the model was trained with. Did you mean 'incme'?",
        ),
        (lambda f: f.assign(price="dear"), "(numeric feature) of customers.csv holds 'dear' in row 1 of the table"),
    ],
)
def test_tables_a_model_cannot_read(tmp_path: Path, change, message: str) -> None:
    assert message in CASE.not_adopted(tmp_path, change(customer_frame(60)))


def test_a_model_of_other_tasks_is_refused(tmp_path: Path) -> None:
    schema = ready(tmp_path).schema
    data = module(tmp_path, roles={"tasks": [SPEND], "drop": ["left"]})
    with pytest.raises(UserError, match=r"data.roles.tasks are \['spend'\], but the model was trained for \['churn'\]"):
        data.adopt(schema)


def test_adopting_its_own_schema_changes_nothing(tmp_path: Path) -> None:
    CASE.check_own_schema(tmp_path)


# -- order -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("passes", [1, 2])
def test_two_ranks_see_the_batches_of_one(tmp_path: Path, passes: int) -> None:
    data = ready(tmp_path, passes_per_epoch=passes)
    whole, _ = batches_of_ranks(data, 7, passes)
    left = (customer_frame()["left"] == "Yes").to_numpy()
    share = left[data.codes == TRAIN].mean()
    assert all(abs(left[batch].mean() - share) < 0.05 for batch in whole)
    check_evaluated_once(data, "val_dataloader", TRAIN)
    check_evaluated_once(data, "test_dataloader", TEST)


def test_a_trainer_runs_through(tmp_path: Path) -> None:
    run_through(module(tmp_path), tmp_path / "ckpt", 420, 180)


def test_the_documented_options_are_the_defaults() -> None:
    text = (ROOT / "configs" / "data" / "customer_table.yaml").read_text(encoding="utf-8")
    written = yaml.safe_load(text)
    defaults = {name: known.default for name, known in inspect.signature(CustomerTableDataModule).parameters.items()}
    for name in ("_target_", "path", "roles", "seed"):
        written.pop(name)
    assert parse_split(written.pop("split")) == parse_split(None)
    assert parse_checks(written.pop("checks")) == parse_checks(None)
    assert written.pop("batch_size") == 512
    for name, value in written.items():
        assert value == (list(defaults[name]) if name == "allow" else defaults[name]), name


def test_a_split_by_time(tmp_path: Path) -> None:
    day = pd.Timestamp("2024-01-01") + pd.to_timedelta(np.random.default_rng(2).permutation(600) // 2, "D")
    frame = customer_frame().assign(day=day.strftime("%Y-%m-%d"))
    options = {"roles": {"moment": "day"}, "split": {"by": "time", "test": 0.2, "val": 0.1, "embargo": 7}}
    data = ready(tmp_path, frame, **options)
    assert "day" not in data.schema.categorical
    parts = [day[data.codes == code] for code in range(4)]
    assert [len(part) for part in parts] == [408, 48, 120, 24]
    assert (parts[1].min() - parts[0].max()).days == (parts[2].min() - parts[1].max()).days == 7
    frame.loc[8, "day"], frame.loc[8, "left"] = "", ""  # not known, so not missed
    assert ready(tmp_path, frame, **options).split_of(np.array([8])) == NONE
    frame.loc[8, "left"] = "No"
    assert refused(tmp_path, frame, **options) == (
        "column 'day' (moment) of customers.csv is empty in row 9 of the table (1 such rows): data.split.by=time needs"
        " a date in each."
    )
    frame.loc[8, "day"] = "soon"
    assert "column 'day' (moment) of customers.csv holds 'soon' in row 9 of the table" in refused(
        tmp_path, frame, **options
    )
    assert "data.split.by=time needs data.roles.moment" in refused(tmp_path, split={"by": "time"})
