"""The checks of a panel: each mistake is found, placed and explained; honest strong drivers pass."""

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from panel_files import ROLES, panel_frame, read

from wanamaker.data.panel_check import check_panel, column_rules, table_schema
from wanamaker.data.panel_leakage import find_leaks
from wanamaker.data.panel_roles import PanelRoles
from wanamaker.data.panel_table import read_panel
from wanamaker.errors import UserError


def test_a_good_panel_has_no_findings(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        panel = read(tmp_path, panel_frame())
    assert caplog.text == ""
    report = check_panel(panel)
    assert report.findings == ()
    assert "nothing found" in report.render()
    report.settle()


def change(frame: pd.DataFrame, row: int, column: str, value: object) -> pd.DataFrame:
    if not isinstance(value, float | int):
        frame = frame.astype({column: object})
    frame.loc[row, column] = value
    return frame


OFF_CALENDAR = "row 6 (series 'north', 2021-02-03) is not the first day of a period of 'W-MON' (that is 2021-02-01)"
TWICE = "row 62 (series 'north', 2021-02-08) has the same date and series as row 7"
SPOILT: dict[str, tuple[Callable[[pd.DataFrame], pd.DataFrame], str]] = {
    "negative spend": (
        lambda f: change(f, 3, "tv", -5.0),
        "column 'tv' (spend of tv), row 5 (series 'north', 2021-01-25) is -5",
    ),
    "price not above 0": (
        lambda f: change(f, 40, "price", 0.0),
        "column 'price' (price own), row 42 (series 'south', 2021-03-15) is 0",
    ),
    "empty cell": (lambda f: change(f, 2, "radio", np.nan), "column 'radio' (spend of radio), row 4"),
    "infinite value": (lambda f: change(f, 2, "radio", np.inf), "column 'radio' (spend of radio), row 4"),
    "value beyond 3.4e+38": (lambda f: change(f, 2, "radio", 1e39), "column 'radio' (spend of radio), row 4"),
    "duplicate key": (lambda f: pd.concat([f, f.iloc[[5]]]), TWICE),
    "gap in the calendar": (lambda f: f.drop(index=5), "no row for series 'north' on 2021-02-08"),
    "mixed frequency": (lambda f: change(f, 4, "date", "2021-02-03"), OFF_CALENDAR),
    "empty series key": (lambda f: change(f, 4, "geo", ""), "row 6"),
    "KPI never observed": (
        lambda f: f.assign(sales=f["sales"].where(f["geo"] == "north")),
        "KPI 'sales' of series 'south' is empty in every period",
    ),
    "constant KPI": (lambda f: f.assign(sales=5.0), "KPI 'sales' is 5 in all 60 rows"),
}


@pytest.mark.parametrize("name", ["panel.csv", "panel.parquet"])
@pytest.mark.parametrize("kind", SPOILT)
def test_errors(tmp_path: Path, kind: str, name: str) -> None:
    spoil, says = SPOILT[kind]
    frame = spoil(panel_frame())
    with pytest.raises(UserError) as raised:
        read(tmp_path, frame, name=name)
    message = str(raised.value)
    says = f"{kind}: {says}"
    if name.endswith("parquet"):  # rows count from 1, without a header
        says = says.split(", row ")[0].split(": row ")[0]
    assert says in message
    assert str(tmp_path / name) in message


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("1,234.5", "It has thousands separators: write 1234.5 instead"),
        ("1'234", "write 1234 instead"),
        ("1.234,5", "It has a decimal comma: write 1234.5 instead"),
        ("€12", "It has a unit"),
        ("many", "Write a number"),
        ("1_000", "Write a number"),
    ],
)
def test_text_in_a_number_column(tmp_path: Path, text: str, says: str) -> None:
    for name in ("panel.csv", "panel.parquet"):
        frame = change(panel_frame().astype({"tv": str}) if name.endswith("t") else panel_frame(), 33, "tv", text)
        with pytest.raises(UserError) as raised:
            read(tmp_path, frame, name=name)
        row = 35 if name.endswith("csv") else 34
        assert f"column 'tv' (spend of tv), row {row} (series 'south', 2021-01-25) is {text!r}" in str(raised.value)
        assert says in str(raised.value)


def test_rows_of_another_length(tmp_path: Path) -> None:
    path = tmp_path / "panel.csv"
    path.write_text(panel_frame().to_csv(index=False).replace("2021-02-01,north,", "2021-02-01,north,1,", 1))
    with pytest.raises(UserError, match=r"row 6 of .* has 7 cells, the header 6.*thousands separators"):
        read_panel(path, ROLES)


def test_everything_is_told_in_one_message_errors_first(tmp_path: Path) -> None:
    frame = panel_frame().assign(copy=lambda f: 2 * f["sales"], flat=1.0, twin=lambda f: f["tv"] * 3)
    frame = change(change(frame, 3, "tv", "abc"), 7, "price", -1.0)
    frame.loc[8, "radio"] = np.nan
    frame.loc[9, "date"] = "2021-13-45"
    frame = pd.concat([frame, frame.iloc[[50]]])
    with pytest.raises(UserError) as raised:
        read(tmp_path, frame, {"control": ["copy", "flat", "twin"]})
    message = str(raised.value)
    heads = [line for line in message.splitlines() if line.startswith(("  error", "  warning"))]
    kinds = [line.split(":")[0].split(None, 1) for line in heads]
    severities = [severity for severity, _ in kinds]
    assert severities == sorted(severities)  # errors before warnings
    assert {kind for _, kind in kinds} >= {
        "date that does not parse",
        "duplicate key",
        "gap in the calendar",
        "text in a number column",
        "price not above 0",
        "empty cell",
        "target leakage",
        "constant input",
    }


def test_series_of_another_frequency(tmp_path: Path) -> None:
    frame = pd.concat([panel_frame(freq="D", periods=60), panel_frame(geos=("west",), periods=8)])
    with pytest.raises(UserError, match="mixed frequency: series 'west' has a row every 7 periods"):
        read(tmp_path, frame)
    with pytest.raises(UserError, match=r"(?s)no row lies on the calendar of 'W-SUN'.*is `frequency`.*right"):
        read(tmp_path, panel_frame(), frequency="W-SUN")


def test_a_mistyped_year_is_not_a_panel_of_gaps(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="far too few rows: 60 rows for 2 series x"):
        read(tmp_path, change(panel_frame(), 4, "date", "9021-01-01"))  # a Monday


def test_hierarchy_must_be_constant(tmp_path: Path) -> None:
    frame = panel_frame().assign(region=["a"] * 40 + ["b"] * 20)
    with pytest.raises(UserError, match=r"row 42: series 'south' is 'b', before 'a' \(first of 20\)"):
        read(tmp_path, frame, {"hierarchy": {"region": "region"}})
    with pytest.raises(UserError, match=r"empty group: column 'region' .hierarchy region., row 12"):
        read(tmp_path, frame.assign(region=["a"] * 10 + [""] + ["a"] * 49), {"hierarchy": {"region": "region"}})


@pytest.mark.parametrize(
    ("add", "roles", "says"),
    [
        ({"flat": 1.0}, {"control": ["flat"]}, "constant input: 'flat' is 1 in every row"),
        ({"flat": [1.0] * 30 + [2.0] * 30}, {"control": ["flat"]}, "constant input: 'flat' does not change in any"),
        ({"twin": "tv"}, {"control": ["twin"]}, "collinear pair: 'tv' and 'twin' correlate by 1.000"),
        ({"radio": np.tile(np.arange(30.0), 2)}, {}, "spend repeated on every series: 'radio'"),
        ({"people": np.arange(60.0) + 5}, {"population": "people"}, "column 'people' changes in series 'north'"),
        ({"geo": ["North"] * 30 + ["north "] * 30}, {}, "'North' and 'north ' are two series"),
    ],
)
def test_warnings_are_logged_and_not_fatal(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, add: dict, roles: dict, says: str
) -> None:
    frame = panel_frame()
    for name, values in add.items():
        frame[name] = frame[values] * 2 + 1 if isinstance(values, str) else values
    with caplog.at_level(logging.WARNING):
        panel = read(tmp_path, frame, roles)
    assert panel.num_series == 2
    assert says in caplog.text


def test_an_unobserved_kpi_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        panel = read(tmp_path, change(panel_frame(), 3, "sales", np.nan))
    assert "KPI not observed: column 'sales', row 5 (series 'north', 2021-01-25)" in caplog.text
    assert np.isnan(panel.kpi[0, 3])
    assert np.isfinite(panel.kpi).sum() == 59


def test_the_schema_says_what_the_rules_say() -> None:
    rules = column_rules(PanelRoles.from_config({**ROLES, "control": ["heat"]}))
    schema = table_schema(rules)
    assert list(schema.columns) == [rule.column for rule in rules] == ["sales", "tv", "radio", "price", "heat"]
    assert [column.nullable for column in schema.columns.values()] == [True, False, False, False, False]
    good = {"sales": [1.0, np.nan], "tv": [0.0, 1.0], "radio": [0.0, 1.0], "price": [0.1, 1.0], "heat": [-4.0, 1.0]}
    schema.validate(pd.DataFrame(good))
    for rule in rules:
        values = np.array(good[rule.column])
        assert rule.clears(values)
        for bad in (np.inf, -np.inf, 1e39, *((-1.0, np.nan) if rule.column in ("tv", "radio", "price") else ())):
            assert not rule.clears(np.append(values, bad))
        assert rule.clears(np.empty(0))


# -- target leakage --------------------------------------------------------------------------------------------------

G, T = 8, 120
GROUPS = {"category": np.arange(G) // 4}


def wander(rng: np.random.Generator, smooth: float) -> np.ndarray:
    """[G, T] autoregression."""
    steps = rng.normal(size=(G, T))
    for t in range(1, T):
        steps[:, t] += smooth * steps[:, t - 1]
    return steps


def market(seed: int, smooth: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Revenue, units and average price [G, T]; the price sold at differs by 5 % from the list price."""
    rng = np.random.default_rng(seed)
    price = np.exp(0.15 * wander(rng, 0.5) + 1)
    units = np.exp(0.4 * wander(rng, smooth) + 5 + rng.normal(size=(G, 1)) - 1.8 * np.log(price))
    return units * price * np.exp(0.05 * rng.normal(size=(G, T))), units, price


def total(values: np.ndarray) -> np.ndarray:
    return np.repeat(values.reshape(2, 4, T).sum(axis=1), 4, axis=0)


def everything(values: np.ndarray) -> np.ndarray:
    return np.repeat(values.sum(axis=0, keepdims=True), G, axis=0)


def noise(values: np.ndarray, share: float) -> np.ndarray:
    return values + share * values.std(axis=1, keepdims=True) * np.random.default_rng(9).normal(size=values.shape)


LEAKS: dict[str, tuple[Callable[[np.ndarray, np.ndarray], np.ndarray], str]] = {
    "copy": (lambda kpi, units: kpi, "is a copy"),
    "scaled": (lambda kpi, units: 7 - 3 * kpi, "is a copy"),
    "indexed": (lambda kpi, units: kpi / kpi.mean(axis=1, keepdims=True), "is a copy"),
    "log": (lambda kpi, units: np.log(kpi), "is a copy"),
    "noisy": (lambda kpi, units: noise(kpi, 0.03), "is a copy"),
    "units": (lambda kpi, units: units, "in another unit"),
    "next": (lambda kpi, units: np.roll(kpi, -1, axis=1), "of the next period"),
    "previous": (lambda kpi, units: np.roll(kpi, 1, axis=1), "of the previous period"),
    "category total": (lambda kpi, units: total(kpi), "total over each group of 'category'"),
    "log of it": (lambda kpi, units: np.log(total(kpi)), "total over each group of 'category'"),
    "market": (lambda kpi, units: everything(kpi), "total over all series"),
    "rest of the market": (lambda kpi, units: everything(kpi) - kpi, "total over all series"),
    "share": (lambda kpi, units: kpi / total(kpi), "share of the KPI"),
}


@pytest.mark.parametrize("smooth", [0.2, 0.7, 0.95])
@pytest.mark.parametrize("name", LEAKS)
def test_planted_leaks_are_found(name: str, smooth: float) -> None:
    leak, says = LEAKS[name]
    for seed in range(3):
        kpi, units, price = market(seed, smooth)
        found = find_leaks(kpi, [("price", price), ("x", leak(kpi, units))], {"price": price}, GROUPS)
        assert [entry.name for entry in found] == ["x"]
        assert says in found[0].how


def test_leaks_are_found_in_ragged_and_in_single_series() -> None:
    kpi, units, price = market(0, 0.7)
    holes = np.random.default_rng(0).random(kpi.shape) < 0.2
    ragged = np.where(holes, np.nan, kpi)
    for x in (units, 2 * kpi, np.repeat(np.nansum(ragged, axis=0, keepdims=True), G, axis=0)):
        assert find_leaks(ragged, [("x", x)], {"price": price}, GROUPS)
    assert find_leaks(kpi[:1], [("x", units[:1])], {"price": price[:1]}, {})
    assert find_leaks(kpi[:1, :6], [("x", 3 * kpi[:1, :6])], {}, {})  # exact, however short


@pytest.mark.parametrize("seed", range(4))
def test_honest_strong_drivers_pass(seed: int) -> None:
    rng = np.random.default_rng(seed)
    media, weeks = np.exp(0.5 * wander(rng, 0.5)), np.arange(T)
    season = np.repeat(np.sin(weeks / 8)[None], G, axis=0)
    demand = np.repeat(np.exp(0.3 * wander(rng, 0.8)[:1]), G, axis=0)  # national, moves all series alike
    kpi, _, price = market(seed, 0.7)
    honest = [
        (100 + 80 * media * np.exp(0.12 * rng.normal(size=(G, T))), media),  # correlation about 0.97
        (100 + 50 * season + 5 * rng.normal(size=(G, T)), season),
        (100 * np.exp(weeks / 40) * np.exp(0.01 * rng.normal(size=(G, T))), np.repeat(weeks[None], G, axis=0)),
        (100 * demand**0.7 * np.exp(0.1 * rng.normal(size=(G, T))), demand),
        (kpi, price),
        (100 + wander(rng, 0.99), 100 + wander(rng, 0.99)),
    ]
    for target, driver in honest:
        assert find_leaks(target, [("x", driver.astype(float))], {"price": price}, GROUPS) == []
    assert find_leaks(kpi[:1, :6], [("x", rng.normal(size=(1, 6)))], {}, {}) == []


def test_a_permitted_leak_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    frame = panel_frame().assign(visits=lambda f: f["sales"] * 3 + 1)
    roles = {"control": {"footfall": {"column": "visits", "direction": "up"}}}
    with pytest.raises(UserError, match=r"target leakage: 'footfall' \(column 'visits'\) is a copy of the KPI 'sales'"):
        read(tmp_path, frame, roles)
    for name in ("footfall", "visits"):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            read(tmp_path, frame, roles, allow=[name])
        assert f"Let through by allow=['{name}']" in caplog.text


def test_spend_that_copies_the_kpi_is_found_beside_an_honest_exposure(tmp_path: Path) -> None:
    frame = panel_frame().assign(cost=lambda f: 0.1 * f["sales"])
    with pytest.raises(UserError, match="'spend of search' is a copy of the KPI"):
        read(tmp_path, frame, {"media": {"search": {"spend": "cost", "exposure": "tv"}, "radio": "radio"}})
