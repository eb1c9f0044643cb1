"""Contributions: additive to the last digit, removal effects as they are defined, windows and names."""

import dataclasses

import numpy as np
import pytest
from tests.unit.decisions.mix_example import example

from wanamaker.decisions.decomposition import check_mix, choose_rows, decompose, nearest_index
from wanamaker.decisions.intervals import interval_columns, interval_text, probability_above, ratio
from wanamaker.errors import UserError

LINKS = pytest.mark.parametrize("link", ["identity", "log"])


@LINKS
@pytest.mark.parametrize("by", [(), ("series",), ("period",), ("split", "series"), ("series", "period", "split")])
def test_the_split_adds_up_to_the_prediction(link: str, by: tuple[str, ...]) -> None:
    predictions = example(link=link)
    parts = decompose(predictions, by=by)
    np.testing.assert_allclose(parts.draws.sum(axis=2), parts.total, rtol=1e-12)
    np.testing.assert_allclose(parts.total.sum(axis=1), predictions.draws.sum(axis=1), rtol=1e-6)
    groups = {(): 1, ("series",): 2, ("period",): 60, ("split", "series"): 6}.get(by, 120)
    assert parts.draws.shape == (8, groups, 7)
    assert list(parts.keys) == list(by)
    frame = parts.to_frame()
    assert len(frame) == groups * 7
    assert frame["share"].groupby(frame.index // 7).sum().to_numpy() == pytest.approx(1)


def test_with_the_identity_link_the_contributions_are_the_parts() -> None:
    predictions = example()
    rows = choose_rows(predictions, series="geo 1", split="test")
    expected = predictions.parts[:, rows].sum(axis=1, dtype=np.float64)
    for method in ("split", "removal"):
        np.testing.assert_allclose(decompose(predictions, method=method, rows=rows).draws[:, 0], expected, rtol=1e-6)


def test_with_the_log_link_the_split_is_the_logarithmic_mean() -> None:
    predictions = example(link="log")
    one = predictions.select(np.arange(len(predictions)) == 17)
    parts = decompose(one)
    eta = one.parts[:, 0].astype(np.float64)
    y, base = np.exp(eta.sum(axis=1)), np.exp(eta[:, 0])
    mean = (y - base) / np.log(y / base)
    np.testing.assert_allclose(parts.draws[:, 0, 1:], mean[:, None] * eta[:, 1:], rtol=1e-9)
    np.testing.assert_allclose(parts.part("intercept")[:, 0], base)
    without = decompose(one, method="removal")
    np.testing.assert_allclose(without.part("TV")[:, 0], y - np.exp(eta.sum(axis=1) - eta[:, 4]), rtol=1e-9)
    assert not np.allclose(without.draws.sum(axis=2), without.total), "removal effects overlap"


def test_the_split_holds_where_nothing_but_the_baseline_acts() -> None:
    predictions = example(link="log")
    flat = predictions.parts.copy()
    flat[:, :, 1:] = 0
    flat[:, 5, 2] = 1e-12
    parts = decompose(dataclasses.replace(predictions, parts=flat), by=("series", "period"))
    np.testing.assert_allclose(parts.draws.sum(axis=2), parts.total, rtol=1e-14)
    assert not parts.draws[:, 20, 1:].any()


def test_several_baseline_parts_of_a_log_model_are_one_and_none_is_made_up() -> None:
    predictions = example(link="log")
    two = dataclasses.replace(predictions, part_kinds=("baseline", "baseline", *predictions.part_kinds[2:]))
    parts = decompose(two)
    assert parts.names[:2] == ("baseline", "price")
    assert len(parts.names) == 6
    np.testing.assert_allclose(parts.draws.sum(axis=2), parts.total, rtol=1e-12)
    none = dataclasses.replace(predictions, part_kinds=("trend", *predictions.part_kinds[1:]))
    parts = decompose(none)
    assert parts.names[0] == "baseline"
    assert parts.of_kind("baseline")[0, 0] == pytest.approx(120)
    np.testing.assert_allclose(parts.draws.sum(axis=2), parts.total, rtol=1e-12)


def test_rows_are_taken_in_blocks_without_a_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    predictions = example(link="log")
    whole = decompose(predictions, by=("series",))
    monkeypatch.setattr("wanamaker.decisions.decomposition._ROWS_AT_ONCE", 7)
    np.testing.assert_allclose(decompose(predictions, by=("series",)).draws, whole.draws, rtol=1e-12)


def test_a_window_holds_the_periods_its_days_lie_in() -> None:
    predictions = example()
    dates = np.unique(predictions.date[choose_rows(predictions, start="2023-03-08", end="2023-03-20")])
    assert dates.astype(str).tolist() == ["2023-03-06", "2023-03-13", "2023-03-20"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start": "2031-01-01"}, "decision.start=2031-01-01 lies outside the predictions, which go from 2023-01-02"),
        ({"end": "soon"}, "decision.end='soon' is no date"),
        ({"end": "2023-03"}, "decision.end='2023-03' is no date"),
        ({"series": "geo 2"}, "decision.series: there is no series 'geo 2'. Did you mean 'geo"),
        ({"split": ["tset"]}, "Did you mean 'test'"),
        ({"start": "2023-04-01", "end": "2023-03-02"}, "No row of the predictions"),
    ],
)
def test_a_window_that_cannot_be(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        choose_rows(example(), **options)


def test_mistakes_are_named() -> None:
    predictions = example()
    with pytest.raises(UserError, match="by='geo': choose from series"):
        decompose(predictions, by=("geo",))
    with pytest.raises(UserError, match="method='shapley': choose from split, removal"):
        decompose(predictions, method="shapley")
    with pytest.raises(UserError, match=r"there is no part 'Tv'\. Did you mean 'TV'"):
        decompose(predictions).part("Tv")
    with pytest.raises(UserError, match="decision=scenario reads the predictions of a marketing-mix model, not 'str'"):
        check_mix("nothing", "scenario")
    with pytest.raises(UserError, match="There are none"):
        nearest_index("x", [], "channel")


def test_intervals() -> None:
    draws = np.arange(101.0)[:, None] * np.array([1.0, -1.0])
    columns = interval_columns("x", draws)
    assert {name: value[0] for name, value in columns.items()} == {
        "x": 50, "x_low_90": 5, "x_low_50": 25, "x_high_50": 75, "x_high_90": 95
    }  # fmt: skip
    assert columns["x_low_90"][1] == -95
    alone = interval_columns("x", draws[:1])
    assert alone["x"][0] == 0
    assert np.isnan(alone["x_low_90"][0]), "one draw has no interval"
    row = {name: value[0] for name, value in columns.items()}
    assert interval_text(row, "x", digits=1) == "50.0 (5.0 to 95.0)"
    np.testing.assert_array_equal(probability_above(np.array([[1.0, 0], [-1, 0], [2, 0], [3, 0]])), [0.75, 0.5])
    np.testing.assert_array_equal(ratio([1.0, 2.0], [0.0, 4.0]), [np.nan, 0.5])
