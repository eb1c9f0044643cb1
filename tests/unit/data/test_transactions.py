"""Transactions cut into windows: what each window tells, who was treated, and that nothing leaks back over the cut."""

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from tests.conftest import ROOT

from wanamaker.data.simulate.transactions_table import STATUSES, TransactionSimulation, simulate_transactions
from wanamaker.data.transactions import TransactionExperimentDataModule
from wanamaker.data.transactions_experiment import TransactionExperiment, build_experiment
from wanamaker.data.transactions_roles import TransactionRoles
from wanamaker.data.transactions_source import Transactions, read_transactions
from wanamaker.data.transactions_treatment import Treatment
from wanamaker.data.transactions_windows import fit_windows, parse_windows
from wanamaker.errors import UserError

PLAIN = {"customer": "who", "date": "day", "amount": "paid"}
FULL = {
    "customer": "Customer",
    "date": "Date",
    "amount": "Amount",
    "order": "Order",
    "operation": {"column": "Operation", "refund": ["Refund"]},
    "status": {"column": "Status", "order": list(STATUSES)},
    "numeric": ["Coins spent", "Coins earned"],
    "categorical": ["Shop"],
}
# Three windows of ten days.
WINDOWS = {
    "feature": ["2022-12-25", "2023-01-03"],
    "treatment": ["2023-01-04", "2023-01-13"],
    "outcome": ["2023-01-14", "2023-01-23"],
}
TREATED = {"kind": "column", "column": "offer", "values": ["yes"]}


def write(folder: Path, lines: Sequence[str], name: str = "sales.csv") -> Path:
    path = folder / name
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def read(path: Path, roles: dict[str, Any], **options: Any) -> Transactions:
    return read_transactions([path], TransactionRoles.from_config(roles), **options)[0]


def experiment(
    folder: Path, lines: Sequence[str], roles: dict[str, Any], treatment: Any, windows: Any = WINDOWS
) -> TransactionExperiment:
    known = TransactionRoles.from_config(roles)
    definition = Treatment.from_config(treatment, known)
    rows = read_transactions([write(folder, lines)], definition.reading(known))[0]
    return build_experiment(rows, parse_windows(windows), definition, known)


# Customers a (treated) and b (control) are plain; the first and the last day of the windows are in.
LINES = [
    "who,day,paid,offer,receipt,kind,coins",
    "a,2022-12-25,10,,r1,buy,2",
    "a,2022-12-31T23:50:00,20,,r2,buy,",
    "a,2023-01-03,6,,r3,buy,1",
    "a,2023-01-03,4,,r3,buy,0",
    "b,2023-01-01,50,,r4,buy,0",
    "b,2023-01-02,50,,r4,back,0",
    "b,2023-01-02,30,,r5,buy,0",
    "c,2023-01-02,9,,r6,buy,0",
    "c,2023-01-03,9,,r6,back,0",
    "a,2023-01-04,5,yes,r7,buy,0",
    "b,2023-01-13,5,no,r8,buy,0",
    "c,2023-01-13,5,no,r9,buy,0",
    "d,2023-01-05,5,yes,r10,buy,0",
    "a,2023-01-14,100,,r11,buy,0",
    "a,2023-01-23,50,,r12,buy,0",
    "a,2023-01-23,50,,r12,back,0",
    "b,2023-01-15,20,,r4,back,0",
]
WITH_ORDERS = {
    **PLAIN,
    "order": "receipt",
    "operation": {"column": "kind", "refund": ["back"]},
    "categorical": ["offer"],
    "numeric": ["coins"],
}


def test_features_are_those_of_the_feature_window(tmp_path: Path) -> None:
    found = experiment(tmp_path, LINES, {**WITH_ORDERS, "categorical": []}, TREATED)
    frame = found.frame.set_index("customer")
    assert list(frame.index) == ["a", "b"]
    a, b = frame.loc["a"], frame.loc["b"]
    # The cut is 2023-01-04: over New Year, recency still counts days.
    assert (a.recency_days, a.purchases, a.spend, a.tenure_days, a.refunds) == (1, 3, 40.0, 10, 0)
    assert a.spend_per_purchase == pytest.approx(40 / 3)
    assert (a["coins sum"], a["coins mean"]) == (3.0, 0.75)
    assert a.favourite_weekday == "Sunday", "of equally frequent days the one that came first"
    # r4 was undone: it is no purchase, and its refund is counted.
    assert (b.recency_days, b.purchases, b.spend, b.tenure_days, b.refunds, b.refunded) == (2, 1, 30.0, 2, 1, 50.0)
    assert found.left_out == {"customers: no purchase in the feature window": 2}, "c undid all, d came later"


def test_outcomes_are_those_of_the_outcome_window(tmp_path: Path) -> None:
    frame = experiment(tmp_path, LINES, WITH_ORDERS, TREATED).frame.set_index("customer")
    assert frame.treatment.to_dict() == {"a": "treated", "b": "not treated"}
    assert frame.loc["a", ["monetary", "conversion", "frequency"]].tolist() == [100.0, 1, 1], "r12 was undone"
    assert frame.loc["b", ["monetary", "conversion", "frequency"]].tolist() == [-20.0, 0, 0], "money back, no purchase"


def test_amounts_below_zero_are_refunds_without_an_operation(tmp_path: Path) -> None:
    lines = ["who,day,paid,offer", "a,2022-12-25,10,", "a,2023-01-02,-4,", "a,2023-01-05,1,yes"]
    lines += ["b,2022-12-25,10,", "b,2023-01-05,1,no", "b,2023-01-23,3,", "b,2023-01-23,-3,"]
    frame = experiment(tmp_path, lines, PLAIN | {"categorical": ["offer"]}, TREATED).frame.set_index("customer")
    assert frame.loc["a", ["purchases", "spend", "refunds", "refunded"]].tolist() == [1, 6.0, 1, 4.0]
    assert frame.loc["b", ["monetary", "frequency"]].tolist() == [0.0, 1], "without order numbers nothing is undone"


@pytest.mark.parametrize("treatment", ["status_ascending", {"kind": "column", "column": "Coins spent"}])
def test_features_do_not_know_what_came_after_the_cut(tmp_path: Path, treatment: Any) -> None:
    """Everything after the cut is changed; every feature of every customer stays what it was."""
    simulated = simulate_transactions(TransactionSimulation(customers=600, window=10))
    start = pd.Timestamp("2023-01-02")
    windows = {
        name: [str((start + pd.Timedelta(days=10 * i)).date()), str((start + pd.Timedelta(days=10 * i + 9)).date())]
        for i, name in enumerate(WINDOWS)
    }
    roles = TransactionRoles.from_config(FULL)

    def build(frame: pd.DataFrame, name: str) -> pd.DataFrame:
        path = tmp_path / f"{name}.parquet"
        frame.to_parquet(path)
        rows = read_transactions([path], roles)[0]
        found = build_experiment(rows, parse_windows(windows), Treatment.from_config(treatment, roles), roles)
        return found.frame.set_index("customer")[list(found.features)]

    frame, draws = simulated.frame, np.random.default_rng(0)
    late = (frame.Date >= start + pd.Timedelta(days=10)).to_numpy()
    assert 0.5 < late.mean() < 0.8
    changed = frame.copy()
    for column in ("Amount", "Coins earned"):
        changed.loc[late, column] = np.round(draws.uniform(1, 1000, late.sum()), 2)
    for column in ("Customer", "Operation", "Shop", "Status", "Order", "Coins spent"):
        changed.loc[late, column] = draws.permutation(changed.loc[late, column].to_numpy())
    before, after = build(frame, "before"), build(changed, "after")
    both = before.index.intersection(after.index)
    assert len(both) > 50
    pd.testing.assert_frame_equal(before.loc[both], after.loc[both])


def test_the_status_is_that_at_the_cut(tmp_path: Path) -> None:
    lines = ["who,day,paid,level", "a,2022-12-25,1,Silver", "a,2022-12-30,1,Gold", "a,2023-01-01,1,"]
    lines += ["a,2023-01-04,1,Silver", "a,2023-01-05,1,Gold", "b,2022-12-30,1,Silver", "b,2023-01-04,1,Silver"]
    lines += ["b,2023-01-05,1,Silver", "b,2023-01-23,1,Gold"]
    roles = PLAIN | {"status": {"column": "level", "order": ["Silver", "Gold"]}}
    frame = experiment(tmp_path, lines, roles, "status_ascending").frame.set_index("customer")
    assert frame.status.to_dict() == {"a": "Gold", "b": "Silver"}
    assert frame.treatment.to_dict() == {"a": "status risen", "b": "status kept"}


PATHS = {
    "rose": ["Bronze", "Bronze", "Silver", "Gold"],
    "kept": ["Silver", "Silver"],
    "fell": ["Gold", "Silver"],
    "both": ["Bronze", "Gold", "Silver"],
    "once": ["Gold"],
    "staff": ["Bronze", "Employee", "Silver"],
    "away": [],
}


@pytest.mark.parametrize(
    ("kind", "arms"),
    [
        ("status_ascending", {"rose": "status risen", "kept": "status kept"}),
        ("status_descending", {"fell": "status fallen", "kept": "status kept"}),
    ],
)
def test_rises_and_falls_of_the_status(tmp_path: Path, kind: str, arms: dict[str, str]) -> None:
    lines = ["who,day,paid,level"] + [f"{who},2023-01-01,1,Bronze" for who in PATHS]
    for who, path in PATHS.items():
        lines += [f"{who},2023-01-{4 + i:02d},1,{level}" for i, level in enumerate(path)]
    lines += ["kept,2022-12-25,1,Bronze", "kept,2023-01-23,1,Bronze"]
    status = {"column": "level", "order": ["Bronze", "Silver", "Gold"], "apart": ["Employee"]}
    found = experiment(tmp_path, lines, PLAIN | {"status": status}, kind)
    assert found.frame.set_index("customer").treatment.to_dict() == arms
    assert found.left_out == {
        "customers: no transaction in the treatment window": 1,
        "customers: a status apart": 1,
        "customers: one transaction in the treatment window, which cannot show a change": 1,
        "customers: the status moved the other way, or both ways": 2,
    }, "nobody who moved the other way, or was away, is a control"


CELLS = {
    "all": ["1", "1"],
    "most": ["1", "1", "0"],
    "tie": ["0", "1"],
    "one": ["0", "0", "1"],
    "none": ["0"],
    "off": [],
}


@pytest.mark.parametrize(
    ("aggregate", "treated"),
    [("any", {"all", "most", "tie", "one"}), ("mode", {"all", "most"}), ("all", {"all"})],
)
@pytest.mark.parametrize("role", ["numeric", "categorical", None])
@pytest.mark.parametrize("inactive", ["exclude", "control"])
def test_any_column_may_tell_the_treatment(
    tmp_path: Path, aggregate: str, treated: set[str], role: str | None, inactive: str
) -> None:
    lines = ["who,day,paid,used"] + [f"{who},2023-01-01,1,0" for who in CELLS]
    for who, cells in CELLS.items():
        lines += [f"{who},2023-01-{4 + i:02d},1,{cell}" for i, cell in enumerate(cells)]
    lines += ["all,2022-12-25,1,0", "all,2023-01-23,1,0"]
    roles = PLAIN | ({role: ["used"]} if role else {"categorical": ["used"]})
    found = experiment(
        tmp_path, lines, roles, {"kind": "column", "column": "used", "aggregate": aggregate, "inactive": inactive}
    )
    arms = found.frame.set_index("customer").treatment
    assert set(arms.index[arms == "treated"]) == treated
    assert ("off" in arms.index) == (inactive == "control")


def test_the_most_frequent_value_may_be_the_arm(tmp_path: Path) -> None:
    lines = ["who,day,paid,sent"] + [f"{who},2023-01-01,1,gift" for who in "abcd"]
    sent = {"a": ["none", "none", "coupon"], "b": ["coupon"], "c": ["notice", "coupon"], "d": ["", ""]}
    lines += [f"{who},2023-01-{4 + i:02d},1,{cell}" for who, cells in sent.items() for i, cell in enumerate(cells)]
    lines += ["a,2022-12-25,1,gift", "a,2023-01-23,1,gift"]
    treatment = {"kind": "column", "column": "sent", "aggregate": "mode", "control": "none"}
    found = experiment(tmp_path, lines, PLAIN | {"categorical": ["sent"]}, treatment)
    assert found.arms == ("none", "coupon", "notice")
    assert found.frame.set_index("customer").treatment.to_dict() == {"a": "none", "b": "coupon", "c": "notice"}
    assert found.left_out == {"customers: no value of sent": 1}


def test_customers_can_be_scored_by_the_feature_window_alone(tmp_path: Path) -> None:
    learnt = experiment(tmp_path, LINES, WITH_ORDERS, TREATED)
    scored = experiment(tmp_path, LINES, WITH_ORDERS, TREATED, {"feature": WINDOWS["feature"]})
    assert scored.arms == ()
    assert list(scored.frame.columns) == ["customer", *scored.features]
    pd.testing.assert_frame_equal(scored.frame, learnt.frame[scored.frame.columns])


def test_equal_thirds_are_whole_days_and_do_not_touch() -> None:
    windows = fit_windows(None, 100, 110)
    assert [(w.first, w.last) for w in (windows.feature, windows.treatment, windows.outcome)] == [
        (100, 104),
        (105, 107),
        (108, 110),
    ]
    with pytest.raises(UserError, match=r"span 2 days.*three days at least"):
        fit_windows(None, 100, 101)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"treatment": ["2023-01-03", "2023-01-13"]}, r"treatment \(2023-01-03.*begins before feature.*2023-01-04"),
        ({"outcome": ["2023-01-10", "2023-01-23"]}, "outcome.*begins before treatment"),
        (
            {"outcome": ["2023-01-14", "2023-01-24"]},
            "outcome .*2023-01-24.* outside the data, 2022-12-25 to 2023-01-23",
        ),
        ({"feature": ["2022-12-01", "2023-01-03"]}, "feature .* outside the data"),
        ({"feature": ["2023-01-03", "2022-12-25"]}, "ends on 2022-12-25, before it begins"),
        ({"feature": "2022-12-25"}, "first and its last day"),
        ({"feature": ["25.12.2022", "2023-01-03"]}, "'25.12.2022' is not a date"),
        ({"past": ["2022-12-25", "2023-01-03"]}, "give feature, treatment and outcome"),
    ],
)
def test_windows_that_overlap_or_lie_outside_are_refused(tmp_path: Path, change: dict, said: str) -> None:
    with pytest.raises(UserError, match=said):
        experiment(tmp_path, LINES, WITH_ORDERS, TREATED, {**WINDOWS, **change})


@pytest.mark.parametrize(
    ("line", "roles", "said"),
    [
        ("a,2023-02-30,1,x,r,buy,0", {}, r"sales.csv, row 19: column 'day' \(date\) is '2023-02-30', which is no date"),
        ("a,31.01.2023,1,x,r,buy,0", {}, r"row 19.*'31.01.2023'.*data.roles.date_format: '%d.%m.%Y'"),
        ("a,,1,x,r,buy,0", {}, r"row 19: column 'day' \(date\) is ''.*Fill in the date"),
        ("a,2023-01-01,1 200 €,x,r,buy,0", {}, r"row 19: column 'paid' \(amount\) is '1 200 €'.*currency sign"),
        ('a,2023-01-01,"1,5",x,r,buy,0', {}, r"row 19: column 'paid'.*'1,5'.*data.decimal=','"),
        ("a,2023-01-01,,x,r,buy,0", {}, r"row 19: column 'paid' \(amount\) is empty"),
        ("a,2023-01-01,1,x,r,buy,few", {}, r"row 19: column 'coins' \(numeric\) is 'few'"),
        ("a,2023-01-01,1,x,r,buy,inf", {}, r"row 19: column 'coins' \(numeric\) is inf, in 1 of 18 rows"),
        ("a,2023-01-01,1,x,r,buy,0", {"date_format": "YYYY-MM-DD"}, "data.roles.date_format='YYYY-MM-DD' tells no"),
        ("a,2023-01-01,1,x,r,buy,0", {"date_format": "%d.%q"}, "data.roles.date_format='%d.%q' tells no whole date"),
        ("a,2023-01-01,1,x,r,buy,0", {"date_format": 3}, "data.roles.date_format=3 tells no whole date"),
        ("a,2023-01-01,1,x,r,buy,0", {"money_unit": ["EUR"]}, r"data.roles.money_unit=\['EUR'\]; give a word"),
        ("a,2023-01-01,1,x,r,buy,0", {"operation": {"column": "kind"}}, "data.roles.operation names no value"),
        ("a,2023-01-01,-5,x,r,buy,0", {}, r"row 19: a purchase of -5.*operation.refund"),
        (
            "a,2023-01-01,5,x,r,buy,0",
            {"operation": {"column": "kind", "refund": ["Back"]}},
            "no row has 'Back'.*'back'",
        ),
        ("a,2023-01-01,5,x,r,buy,0", {"amount": "payd"}, r"column 'payd' \(amount\) is not there.*'paid'"),
        ("a,2023-01-01,5,x,r,buy,0", {"order": "day"}, "column 'day' is both date and order"),
        ("a,2023-01-01,5,x,r,buy,0", {"monye": "x"}, "data.roles.monye does not exist.*'money_unit'"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, line: str, roles: dict, said: str) -> None:
    with pytest.raises(UserError, match=said):
        read(write(tmp_path, [*LINES, line]), {**WITH_ORDERS, **roles})


def test_dates_in_their_declared_format_decimal_commas_and_several_files(tmp_path: Path) -> None:
    one = write(tmp_path, ["who;day;paid", "a;31.12.2022 23:59;1,50", ";01.01.2023 00:10;2"], "one.csv")
    two = write(tmp_path, ["day;who;paid", "01.12.2022 08:00;a;3"], "two.csv")
    roles = TransactionRoles.from_config(PLAIN | {"date_format": "%d.%m.%Y %H:%M"})
    rows, left_out = read_transactions([one, two], roles, delimiter=";", decimal=",")
    assert rows.amount.tolist() == [3.0, 1.5]
    assert rows.day.astype("datetime64[D]").astype(str).tolist() == ["2022-12-01", "2022-12-31"]
    assert left_out == {"rows without a customer": 1}


def test_exports_that_overlap_count_once(tmp_path: Path) -> None:
    head = "who,day,paid"
    one = write(tmp_path, [head, "a,2023-01-01,2", "a,2023-01-02,2", "a,2023-01-02,2"], "one.csv")
    two = write(tmp_path, [head, "a,2023-01-02,2", "a,2023-01-02,2", "a,2023-01-02,3", "b,2023-01-03,2"], "two.csv")
    rows, left_out = read_transactions([one, two], TransactionRoles.from_config(PLAIN))
    assert rows.amount.tolist() == [2.0, 2.0, 2.0, 3.0, 2.0], "equal rows of one file are two purchases"
    assert left_out == {"rows that an earlier file has, too": 2}


def test_times_with_a_zone_are_the_days_that_customers_had(tmp_path: Path) -> None:
    rows = read(write(tmp_path, ["who,day,paid", "a,2023-01-01T00:30:00+03:00,1", "a,2023-01-02 23:30:00Z,1"]), PLAIN)
    assert rows.day.astype("datetime64[D]").astype(str).tolist() == ["2023-01-01", "2023-01-02"]
    stamps = pd.to_datetime(["2023-01-01 00:30", "2023-01-02 23:30"]).tz_localize("Europe/Berlin")
    pd.DataFrame({"who": [7, 8], "day": stamps, "paid": [1, 2]}).to_parquet(tmp_path / "zone.parquet")
    rows = read(tmp_path / "zone.parquet", PLAIN)
    assert rows.day.astype("datetime64[D]").astype(str).tolist() == ["2023-01-01", "2023-01-02"]
    assert rows.customer.names == ("7", "8")


def test_rows_that_are_neither_purchase_nor_refund_are_left_out(tmp_path: Path) -> None:
    lines = ["who,day,paid,kind", "a,2023-01-01,5,buy", "a,2023-01-02,5,gift", "a,2023-01-03,5,back"]
    roles = PLAIN | {"operation": {"column": "kind", "refund": ["back"], "purchase": ["buy"]}}
    rows, left_out = read_transactions([write(tmp_path, lines)], TransactionRoles.from_config(roles))
    assert rows.refund.tolist() == [False, True]
    assert left_out == {"rows that are neither purchase nor refund": 1}


@pytest.mark.parametrize(
    ("treatment", "said"),
    [
        ("status_up", "data.treatment.kind='status_up'; choose from status_ascending"),
        ("status_ascending", "needs data.roles.status"),
        ({"kind": "column"}, "data.treatment.column is missing"),
        ({"kind": "column", "column": "paid"}, "'paid' is the amount already"),
        ({"kind": "column", "column": "offer"}, "column='offer' holds 'maybe', which says neither yes nor no"),
        ({"kind": "column", "column": "offer", "values": ["yess"]}, "no row has 'yess'.*'maybe'"),
        (
            {"kind": "column", "column": "offer", "values": ["yes"], "agregate": "all"},
            "agregate is no option.*aggregate",
        ),
        (
            {"kind": "column", "column": "offer", "values": ["maybe"]},
            "no customer is 'treated' in the treatment window",
        ),
    ],
)
def test_treatments_that_cannot_be_are_refused(tmp_path: Path, treatment: Any, said: str) -> None:
    lines = [*LINES, "a,2023-01-15,1,maybe,r13,buy,0"]
    with pytest.raises(UserError, match=said):
        experiment(tmp_path, lines, WITH_ORDERS, treatment)


def test_a_status_without_a_place_is_refused(tmp_path: Path) -> None:
    lines = ["who,day,paid,level", "a,2022-12-25,1,Silver", "a,2023-01-05,1,Employee", "a,2023-01-23,1,Gold"]
    for order, said in ((["Silver", "Gold"], "'Employee'.*order.*apart"), (["Silver", "Golden"], "lists 'Golden'")):
        with pytest.raises(UserError, match=said):
            experiment(tmp_path, lines, PLAIN | {"status": {"column": "level", "order": order}}, "status_ascending")


def simulated_experiment(folder: Path, **options: Any) -> pd.DataFrame:
    simulated = simulate_transactions(TransactionSimulation(customers=4_000, **options))
    path = folder / "simulated.parquet"
    simulated.frame.to_parquet(path)
    roles = TransactionRoles.from_config(FULL)
    rows = read_transactions([path], roles)[0]
    found = build_experiment(rows, None, Treatment.from_config("status_ascending", roles), roles)
    return found.frame.merge(simulated.truth, on="customer")


@pytest.mark.parametrize("caused", [True, False])
def test_simulated_transactions_have_their_truth(tmp_path: Path, caused: bool) -> None:
    frame = simulated_experiment(tmp_path, caused_by_spending=caused)
    risen = frame.risen.to_numpy()
    np.testing.assert_array_equal(frame.treatment == "status risen", risen)
    for group, column in ((risen, "monetary if risen"), (~risen, "monetary if kept")):
        error = (frame.monetary - frame[column])[group]
        assert abs(error.mean()) < 5 * error.std() / np.sqrt(len(error))
    naive = frame.monetary[risen].mean() - frame.monetary[~risen].mean()
    true = frame.effect[risen].mean()
    if caused:
        assert naive > 2.5 * true, "those who spend rise: a plain comparison credits the status with their habits"
    else:
        assert naive == pytest.approx(true, abs=8.0)


# -- the data module ---------------------------------------------------------------------------------------------------


def loyalty_file(folder: Path, **options: Any) -> Path:
    path = folder / "loyalty.csv"
    simulate_transactions(TransactionSimulation(customers=1_000, **options)).frame.to_csv(path, index=False)
    return path


def loyalty(path: Path | list[str], cache: Path, **options: Any) -> TransactionExperimentDataModule:
    settings: dict[str, Any] = {"roles": FULL, "treatment": "status_ascending", "batch_size": 128}
    given = path if isinstance(path, list) else str(path)
    return TransactionExperimentDataModule(path=given, cache_dir=str(cache), **{**settings, **options})


def test_transactions_are_read_as_an_observational_experiment(tmp_path: Path) -> None:
    data = loyalty(loyalty_file(tmp_path, caused_by_spending=False), tmp_path)
    data.preflight(["fit", "test"])
    data.setup("fit")
    assert data.schema.arms == ("status kept", "status risen")
    assert data.schema.probabilities == (), "nobody was randomised"
    assert [(o.name, o.kind, o.unit) for o in data.schema.outcomes] == [
        ("monetary", "continuous", "money"),
        ("conversion", "binary", ""),
        ("frequency", "continuous", "purchases"),
    ]
    assert data.schema.categorical == ("favourite_weekday", "status", "favourite Shop")
    assert data.schema.numeric[:3] == ("recency_days", "purchases", "spend")
    batch = next(iter(data.train_dataloader()))
    assert batch.outcome.shape == (128, 3)
    assert data.report["customers"] == data.num_rows == sum(data.report["arms"].values())
    assert data.report["windows"]["feature"] == ["2023-01-02", "2023-01-29"]
    assert data.report["left_out"]["customers: no purchase in the feature window"] > 0


def test_the_gates_see_that_spending_raised_the_status(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("WARNING"):
        loyalty(loyalty_file(tmp_path), tmp_path).preflight(["fit"])
    assert "A status moves because of what a customer buys" in caplog.text
    assert "imbalance: feature 'spend' differs" in caplog.text


def test_the_table_is_made_anew_when_a_file_or_an_option_changes(tmp_path: Path) -> None:
    path = loyalty_file(tmp_path, caused_by_spending=False)
    data = loyalty(path, tmp_path)
    with pytest.raises(UserError, match=r"holds no table yet: prepare_data\(\)"):
        data.setup("fit")
    data.prepare_data()
    stamp = data.path.stat().st_mtime_ns
    loyalty(path, tmp_path, seed=3).prepare_data()
    assert data.path.stat().st_mtime_ns == stamp
    assert loyalty(path, tmp_path, outcomes=["conversion"]).path != data.path
    assert loyalty(path, tmp_path, windows={"feature": ["2023-01-02", "2023-01-20"]}).path != data.path
    with path.open("a") as file:
        file.write("C000001,2023-01-10,new,Purchase,5,0,0,North,Bronze\n")
    assert loyalty(path, tmp_path).path != data.path
    assert sum(found.is_dir() for found in (tmp_path / "transactions").iterdir()) == 1, "nothing was left behind"


def test_a_trained_schema_scores_customers_of_today(tmp_path: Path) -> None:
    path = loyalty_file(tmp_path, caused_by_spending=False)
    learnt = loyalty(path, tmp_path, outcomes=["conversion"])
    learnt.preflight(["fit"])
    learnt.setup("fit")
    today = loyalty(path, tmp_path, outcomes=["conversion"], windows={"feature": ["2023-02-27", "2023-03-26"]})
    today.preflight(["predict"])
    today.adopt(learnt.schema)
    today.setup("predict")
    batch = next(iter(today.predict_dataloader()))
    assert (batch.treatment == -1).all()
    assert batch.outcome.isnan().all()
    assert batch.numeric.shape == (today.num_rows, len(learnt.schema.numeric))
    assert today.identifiers(np.array([0]))[0].startswith("C")


def test_mistakes_of_the_data_module_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Data not on disk"):
        loyalty(tmp_path / "none.csv", tmp_path)
    with pytest.raises(UserError, match=r"data.path=\[\]"):
        loyalty([], tmp_path)
    path = loyalty_file(tmp_path)
    with pytest.raises(UserError, match=r"data.outcomes=\['money'\]; choose from monetary"):
        loyalty(path, tmp_path, outcomes=["money"])
    with pytest.raises(UserError, match="feature window alone, which is enough to score"):
        loyalty(path, tmp_path, windows={"feature": ["2023-01-01", "2023-01-31"]}).preflight(["fit", "test"])
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(UserError, match=r"Cannot write the table .*cache_dir"):
        loyalty(path, blocked).prepare_data()


def test_the_configuration_of_transactions_names_every_argument() -> None:
    config = yaml.safe_load((ROOT / "configs" / "data" / "transactions.yaml").read_text())
    arguments = set(inspect.signature(TransactionExperimentDataModule).parameters)
    assert set(config) - {"_target_"} == arguments - {"pin_memory"}
    assert set(config["roles"]) == set(TransactionRoles.__dataclass_fields__)
