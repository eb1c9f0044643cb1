"""`ExperimentDataModule` on small tables: names, encoding, what users get wrong, ranks, resume, and a trained model."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tests.unit.data.experiment_files import as_rank, experiment_frame, module, rows_of, write_experiment
from tests.unit.data.table_cases import TableCase, batches_of_ranks, check_evaluated_once, run_through

from wanamaker.data.experiment_sampler import interleaved
from wanamaker.data.experiment_split import TEST, TRAIN
from wanamaker.data.experiment_table import key_of
from wanamaker.data.uplift_batch import UpliftBatch, UpliftSchema
from wanamaker.errors import UserError

CASE = TableCase(module, experiment_frame)
ready, refused, adopted = CASE.ready, CASE.refused, CASE.adopted
changed, with_cell = CASE.changed, CASE.with_cell


# -- what is read ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["campaign.csv", "campaign.csv.gz", "campaign.parquet"])
def test_schema_and_statistics(tmp_path: Path, name: str) -> None:
    frame = experiment_frame()
    data = ready(tmp_path, frame, name=name)
    schema = data.schema
    assert (schema.id, schema.treatment, schema.arms) == ("customer", "arm", ("none", "coupon", "mail"))
    assert [(o.name, o.kind, o.unit) for o in schema.outcomes] == [
        ("visit", "binary", ""),
        ("spend", "zero_inflated", "EUR"),
    ]
    assert (schema.numeric, schema.categorical) == (("age", "recency", "income"), ("region",))
    assert schema.categories == (("north", "south", "west"),)
    assert schema.probabilities == (1 / 3,) * 3
    assert UpliftSchema.from_dict(schema.to_dict()) == schema
    train = frame[data.split_of(np.arange(900)) == TRAIN]
    assert (data.num_rows, data.num_train_rows) == (900, len(train) == 630 and 630)
    stats = data.stats
    np.testing.assert_allclose(stats.mean, train[["age", "recency", "income"]].mean())
    np.testing.assert_allclose(stats.sd, train[["age", "recency", "income"]].std(ddof=0))
    np.testing.assert_allclose(stats.missing, train[["age", "recency", "income"]].isna().mean())
    np.testing.assert_allclose(stats.quantiles[2], np.nanquantile(train["income"], np.linspace(0, 1, 65)))
    by_arm = train.groupby("arm")[["visit", "spend"]]
    np.testing.assert_allclose(stats.outcome_mean, by_arm.mean().loc[list(schema.arms)])
    np.testing.assert_allclose(stats.outcome_sd, by_arm.std(ddof=0).loc[list(schema.arms)])
    np.testing.assert_allclose(stats.arm_share, train["arm"].value_counts(normalize=True)[list(schema.arms)])


def test_batches_hold_the_units_of_the_file(tmp_path: Path) -> None:
    frame = experiment_frame()
    frame["weight"], frame["cost"] = np.arange(1, 901), np.where(frame.arm == "none", np.nan, 0.5)
    data = ready(tmp_path, frame, roles={"weight": "weight", "cost": "cost"})
    batch = UpliftBatch(*(torch.cat(parts) for parts in zip(*data.predict_dataloader(), strict=True)))
    assert batch.row.tolist() == list(range(900))
    np.testing.assert_array_equal(batch.numeric.numpy(), frame[["age", "recency", "income"]].to_numpy(np.float32))
    np.testing.assert_array_equal(batch.categorical[:, 0], frame["region"].map({"north": 1, "south": 2, "west": 3}))
    np.testing.assert_array_equal(batch.treatment, frame["arm"].map({"none": 0, "coupon": 1, "mail": 2}))
    np.testing.assert_array_equal(batch.outcome, frame[["visit", "spend"]].to_numpy(np.float32))
    np.testing.assert_array_equal(batch.weight, frame["weight"])
    assert [tensor.dtype for tensor in batch] == [torch.int64] * 2 + [torch.float32] + [torch.int64] * 2 + [
        torch.float32
    ] * 2
    assert data.identifiers(np.array([3, 1])).tolist() == ["c00003", "c00001"]
    np.testing.assert_array_equal(data.cost_of(np.arange(900)), frame["cost"])
    # every customer once, whatever the file
    other = ready(tmp_path, frame.iloc[::-1], name="reversed.parquet", roles={"weight": "weight", "cost": "cost"})
    keys = dict(
        zip(other.identifiers(np.arange(900)), torch.cat([b.key for b in other.predict_dataloader()]), strict=True)
    )
    assert [int(keys[name]) for name in frame["customer"]] == batch.key.tolist()
    assert len(set(batch.key.tolist())) == 900
    assert batch.key.min() >= 0


def test_identifiers_are_what_the_file_says(tmp_path: Path) -> None:
    frame = experiment_frame(300)
    frame["customer"] = [f"{i:06d}" for i in range(300)]
    data = ready(tmp_path, frame)
    assert data.identifiers(np.array([7]))[0] == "000007"
    frame["customer"] = np.arange(300) + 10**12
    data = ready(tmp_path, frame)
    assert data.identifiers(np.array([7])).dtype == np.int64
    text, whole = np.array(["12", "x", "012"], dtype=object), np.array([12])
    assert key_of(text)[0] == key_of(whole)[0] != key_of(text)[2]
    data = ready(tmp_path, frame, roles={"id": None, "drop": ["customer"]})
    assert data.schema.id == "row"
    assert data.identifiers(np.array([7, 2])).tolist() == [7, 2]


def test_arms_can_be_chosen_and_joined(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = ready(tmp_path, roles={"arms": ["mail"]})
    assert data.schema.arms == ("none", "mail")
    assert data.num_train_rows == 420
    assert (data.codes == 3).sum() == 300  # scored, neither learnt nor tested
    assert "300 rows have no arm, no outcome or an arm that data.roles.arms leaves out" in caplog.text
    treatment = torch.cat([b.treatment for b in data.predict_dataloader()])
    assert torch.bincount(treatment + 1).tolist() == [300, 300, 300]
    data = ready(tmp_path, roles={"arms": {"any": ["mail", "coupon"]}, "probabilities": {"none": 1 / 3, "any": 2 / 3}})
    assert data.schema.arms == ("none", "any")
    assert data.num_train_rows == 630
    np.testing.assert_allclose(data.stats.arm_share, [1 / 3, 2 / 3], atol=0.002)


def test_split_by_hash_and_by_column(tmp_path: Path) -> None:
    frame = experiment_frame()
    data = ready(tmp_path, frame, split={"by": "hash", "test": 0.3})
    kept = ready(tmp_path, frame[::2], name="half.csv", split={"by": "hash", "test": 0.3})
    assert (data.codes[::2] == kept.codes).all()
    frame["part"] = np.where(np.arange(900) < 300, "test", "train")
    data = ready(tmp_path, frame, split={"by": "column", "column": "part", "test": 0.0})
    assert (data.codes == np.where(np.arange(900) < 300, TEST, TRAIN)).all()
    assert "part" not in data.schema.categorical


# -- what users get wrong ----------------------------------------------------------------------------------------------


WRONG = {
    "column 'arm' of campaign.csv has one value, 'none': without treated and untreated customers there is no effect to"
    " learn. Check data.roles.treatment.": (changed(arm="none"), {}),
    "column 'visit' (outcome) of campaign.csv is declared binary but holds 2: write 0 and 1, or declare kind:"
    " continuous or zero_inflated.": (
        with_cell("visit", 5, 2),
        {"outcomes": [{"name": "visit", "kind": "binary"}], "drop": ["spend"]},
    ),
    "column 'customer' (id) of campaign.csv has c00001 in rows 2 and 8 of the table: one row stands for one customer."
    " Join the rows, name another column in data.roles.id, or pass data.allow=[repeated].": (
        with_cell("customer", 7, "c00001"),
        {},
    ),
    "data.roles.control='No mail' is not among the values of column 'arm' of campaign.csv. Did you mean 'mail'?": (
        experiment_frame(),
        {"control": "No mail"},
    ),
    "column 'spend' (outcome) of campaign.csv is empty in row 12 of the table (1 such rows): nothing can be learnt from"
    " it. Fill it in, take the rows out, or let them be scored only with data.allow=[missing].": (
        with_cell("spend", 11, None),
        {},
    ),
    "column 'arm' (treatment) of campaign.csv is empty in row 12 of the table (1 such rows): nothing can be learnt from"
    " it. Fill it in, take the rows out, or let them be scored only with data.allow=[missing].": (
        with_cell("arm", 11, None),
        {},
    ),
    "campaign.csv has no column 'agee' (data.roles: feature). Did you mean 'age'?": (
        experiment_frame(),
        {"features": ["agee"]},
    ),
    "data.roles.treatmnt is no option. Did you mean 'treatment'?": (experiment_frame(), {"treatmnt": "arm"}),
    "column 'visit' (outcome) must hold numbers; it holds text, such as 'yes'.": (changed(visit="yes"), {}),
    "column 'visit' (outcome) of campaign.csv is 1 in all 900 rows: there is nothing to explain. Check"
    " data.roles.outcomes.": (changed(visit=1), {}),
    "column 'age' of campaign.csv holds dates, which are no feature: write the days up to the start of the campaign"
    " instead, or leave it out with data.roles.drop=[age].": (changed(age="2024-01-31"), {}),
    "column 'age' (numeric feature) holds infinite values; write numbers, or leave the cells empty.": (
        with_cell("age", 3, np.inf),
        {},
    ),
    "column 'age' (numeric feature) holds numbers as large as 5e+39, above what can be learnt from; write numbers, or"
    " leave the cells empty.": (with_cell("age", 3, 5e39), {}),
    "column 'spend' (outcome) must hold numbers; it holds text, such as '3,5'. Write numbers without thousands"
    " separators (1234.5), or name their decimal sign (data.decimal=',' or '.').": (changed(spend="3,5"), {}),
    "column 'age' of campaign.csv holds numbers written as '0,5': write them without thousands separators (1234.5), or"
    " name their decimal sign (data.decimal=',' or '.'). If they are names, list the column in"
    " data.roles.categorical.": (
        experiment_frame().assign(age=[f"{n % 40},5" for n in range(900)]),
        {},
    ),
    "column 'age' of campaign.csv holds dates, such as '01.03.2020', which are no feature: write the days up to the"
    " start of the campaign instead, or leave it out with data.roles.drop=[age].": (
        experiment_frame().assign(age=[f"{1 + n % 28:02}.03.2020" for n in range(900)]),
        {},
    ),
    "column 'paid' (cost) must hold numbers; it holds text, such as '1 EUR'.": (
        experiment_frame().assign(paid="1 EUR"),
        {"cost": "paid"},
    ),
    "column 'arm' of campaign.csv has 300 values, such as 'a0' and 'a99': more than there can be offers. Check"
    " data.roles.treatment, or name the offers in data.roles.arms.": (
        experiment_frame().assign(arm=[f"a{n % 300}" for n in range(900)]),
        {"control": "a0"},
    ),
    "column 'spend' (outcome) of campaign.csv is declared zero_inflated but holds -3: amounts are 0 or positive; net"
    " out refunds, or declare kind: continuous.": (
        with_cell("spend", 3, -3.0),
        {"outcomes": [{"name": "spend", "kind": "zero_inflated"}], "drop": ["visit"]},
    ),
    "column 'customer' (id) is empty in 1 rows, the first is row 5 of the table: every customer needs an identifier;"
    " data.roles.id=null numbers the rows.": (with_cell("customer", 4, None), {}),
    "column 'weight' (weight), row 1 of the table is 0: a row stands for more than 0 customers.": (
        experiment_frame().assign(weight=0.0),
        {"weight": "weight"},
    ),
}


@pytest.mark.parametrize("message", WRONG, ids=[text[:60] for text in WRONG])
def test_mistakes_are_told_in_one_line(tmp_path: Path, message: str) -> None:
    frame, roles = WRONG[message]
    assert refused(tmp_path, frame, roles=roles) == message


def test_more_mistakes(tmp_path: Path) -> None:
    few = experiment_frame()
    few = few[(few.arm != "mail") | (np.arange(900) % 30 == 0)]
    message = refused(tmp_path, few, roles={"probabilities": None})
    assert "arm_rows: arm 'mail' has 8" in message
    assert "training rows, fewer than data.checks.arm_rows=30" in message
    names = experiment_frame().assign(email=[f"{i}@x.org" for i in range(900)])
    assert "column 'email' of campaign.csv has more than 100 different names" in refused(
        tmp_path, names, max_categories=100
    )
    assert "Data not on disk" in refused(tmp_path, path=tmp_path / "nowhere.csv")
    (tmp_path / "empty").mkdir()
    assert "holds no .parquet file" in refused(tmp_path, path=tmp_path / "empty")
    assert "data.split.test=0.0, or leave" in refused(tmp_path, stage="test", split={"test": 0.0})
    assert "No row of campaign.csv is left to train on" in refused(tmp_path, split={"test": 1.0})
    assert "data.lanes=0; give a whole number, 1 or more." in refused(tmp_path, lanes=0)
    ragged = write_experiment(tmp_path, experiment_frame(5), "ragged.csv")
    ragged.write_text(ragged.read_text() + "c9,1,2\n")
    assert "row 7 of ragged.csv has 3 cells, the header 8" in refused(tmp_path, path=ragged)


def test_allowed_rows_without_labels_and_repeated_identifiers(tmp_path: Path) -> None:
    frame = with_cell("spend", 11, None)
    frame.loc[12, "arm"] = None
    frame.loc[20:29, "customer"] = "again"
    data = ready(tmp_path, frame, allow=["missing", "repeated"])
    assert data.split_of(np.array([11, 12])).tolist() == [3, 3]
    assert len(set(data.split_of(np.arange(20, 30)))) == 1  # a customer is in one part
    batch = next(iter(data.predict_dataloader()))
    assert torch.isnan(batch.outcome[11, 1])
    assert batch.treatment[12] == -1


# -- prediction from a checkpoint --------------------------------------------------------------------------------------


def test_new_customers_are_encoded_by_the_models_names(tmp_path: Path) -> None:
    frame = experiment_frame(50, seed=3).drop(columns=["arm", "visit", "spend"])
    frame.loc[:4, "region"] = ["east", "north", "west", "", "south"]
    data = adopted(tmp_path, frame)
    batch = next(iter(data.predict_dataloader()))
    assert batch.categorical[:5, 0].tolist() == [0, 1, 3, 0, 2]  # east and no region were not seen
    assert (batch.treatment == -1).all()
    assert torch.isnan(batch.outcome).all()
    assert batch.outcome.shape == (50, 2)
    assert (data.split_of(np.arange(50)) == 3).all()


def test_names_that_look_like_numbers_stay_names(tmp_path: Path) -> None:
    frame = experiment_frame(300)
    frame["shop"] = np.resize(["007", "12", "A3"], 300)
    schema = ready(tmp_path, frame, name="training.csv").schema
    data = ready(tmp_path, frame[frame["shop"] != "A3"], "predict")
    data.adopt(schema)
    codes = torch.cat([batch.categorical for batch in data.predict_dataloader()])[:, 1]
    assert sorted(set(codes.tolist())) == [1, 2]


def test_a_missing_name_seen_in_training_is_a_category(tmp_path: Path) -> None:
    frame = experiment_frame()
    frame.loc[::5, "region"] = None
    assert ready(tmp_path, frame).schema.categories == (("", "north", "south", "west"),)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda f: f.drop(columns=["income", "region"]),
            "campaign.csv lacks features 'income', 'region', which the model was trained with. ",
        ),
        (
            lambda f: f.rename(columns={"income": "incme"}),
            "lacks feature 'income', which the model was trained with. Did",
        ),
        (lambda f: f[:0], "campaign.csv has no rows."),
        (lambda f: f.assign(customer="x"), "has x in rows 1 and 2 of the table: one row stands for one customer"),
        (lambda f: f.assign(age=["1", "old"] * 30), "must hold numbers; it holds text, such as 'old'."),
        (lambda f: f.assign(arm="letter"), "column 'arm' holds arm 'letter', which the model was not trained with"),
        (
            lambda f: f.assign(age="old"),
            "column 'age' (numeric feature) must hold numbers; it holds text, such as 'old'.",
        ),
    ],
)
def test_tables_a_model_cannot_read(tmp_path: Path, change, message: str) -> None:
    assert message in CASE.not_adopted(tmp_path, change(experiment_frame(60)))


def test_customers_to_be_scored_are_looked_at_before_anything_is_written(tmp_path: Path) -> None:
    frame = experiment_frame(60)[["customer", "age"]]
    module(tmp_path, frame).preflight(["predict"])
    for rows, said in ((frame[:0], "has no rows"), (frame.assign(customer=None), r"\(id\) is empty in 60 rows")):
        with pytest.raises(UserError, match=said):
            module(tmp_path, rows).preflight(["predict"])


def test_adopting_its_own_schema_changes_nothing(tmp_path: Path) -> None:
    CASE.check_own_schema(tmp_path)


# -- order -------------------------------------------------------------------------------------------------------------


def test_every_stretch_holds_every_arm_in_proportion() -> None:
    arm = np.repeat([0, 1, 2], [700, 250, 50])
    order = interleaved(arm, seed=3)
    assert sorted(order) == list(range(1000))
    for start in range(0, 1000, 100):
        counts = np.bincount(arm[order[start : start + 100]], minlength=3)
        np.testing.assert_allclose(counts, [70, 25, 5], atol=2)
    assert (order != interleaved(arm, seed=4)).mean() > 0.9


@pytest.mark.parametrize("passes", [1, 2])
def test_two_ranks_see_the_batches_of_one(tmp_path: Path, passes: int) -> None:
    data = ready(tmp_path, passes_per_epoch=passes)
    _, halves = batches_of_ranks(data, 11, passes)
    arms = data._rows.treatment
    assert all(np.bincount(arms[batch], minlength=3).min() >= 8 for half in halves for batch in half)
    check_evaluated_once(data, "val_dataloader", TRAIN)


def test_resume_goes_on_with_the_next_batch(tmp_path: Path) -> None:
    data = ready(tmp_path)
    whole = rows_of(as_rank(data, 0, 1).train_dataloader(), epoch=2)
    assert rows_of(as_rank(data, 0, 1, epoch=2, batch=4).train_dataloader()) == whole[4:]


def test_a_trainer_runs_through(tmp_path: Path) -> None:
    run_through(module(tmp_path), tmp_path / "ckpt", 630, 270)


def test_preflight_finds_mistakes_before_anything_is_built(tmp_path: Path) -> None:
    module(tmp_path).preflight(["fit", "test", "predict"])
    with pytest.raises(UserError, match="one value"):
        module(tmp_path, changed(arm="none")).preflight(["fit"])
    module(tmp_path, experiment_frame(20).drop(columns=["arm", "visit", "spend"])).preflight(["predict"])
    with pytest.raises(UserError, match="has no column 'arm'"):
        module(tmp_path, experiment_frame(20).drop(columns=["arm"])).preflight(["test"])
