"""Cells as numbers, yes or no, and moments: what is read, and which row is named where it cannot be."""

import numpy as np
import pyarrow as pa
import pytest

from wanamaker.data.customer_table_cells import is_stray_text, moments_in, numbers_in, yes_in
from wanamaker.errors import UserError

NUMBERS = [f"{i}.5" for i in range(30)]


@pytest.mark.parametrize(
    ("cells", "csv", "parquet"),
    [
        ([*NUMBERS, " "], True, True),
        ([*NUMBERS, " ", "unknown"], True, True),  # the word is refused when it is read
        (["12", "24", " "], True, False),
        ([" ", "", None], True, False),
        (["12", "24", "flexible"], False, False),
        ([f"{i:05d}" for i in range(400, 500)], True, False),  # zip codes
        ([f"plan {i}" for i in range(50)], False, False),
    ],
)
def test_numbers_that_are_written_as_text(cells: list[str | None], csv: bool, parquet: bool) -> None:
    column = pa.chunked_array([pa.array(cells, pa.string())])
    assert is_stray_text(column, written=True) == csv
    assert is_stray_text(column, written=False) == parquet


def test_numbers() -> None:
    column = pa.chunked_array([["1,5", " 2 ", None, "NA"]])
    np.testing.assert_array_equal(numbers_in(column, "x", "label", np.arange(4), "t", ","), [1.5, 2, np.nan, np.nan])
    with pytest.raises(UserError) as error:
        numbers_in(pa.chunked_array([["1", "x", "x", "inf"]]), "x", "label", np.arange(10, 14), "t.csv")
    assert str(error.value) == (
        "column 'x' (label) of t.csv holds 'x' in row 12 of the table and other text in 2 more: write a number or leave"
        " the cell empty."
    )


def test_yes_and_no() -> None:
    def read(cells: list, positive: str | None = None) -> list[float]:
        return yes_in(pa.chunked_array([cells]), positive, "x", "data.roles.tasks[0]", np.arange(9), "t")[0].tolist()

    assert read(["yes", "No", "TRUE", " no ", "1"]) == [1, 0, 1, 0, 1]
    assert read(["Lost", "kept", "NA", " "], "lost") == pytest.approx([1, 0, np.nan, np.nan], nan_ok=True)
    assert read([1, 2, None], "2") == pytest.approx([0, 1, np.nan], nan_ok=True)
    assert read([0.5, None]) == pytest.approx([0.5, np.nan], nan_ok=True)


def test_moments() -> None:
    def read(cells: list) -> list[str]:
        return moments_in(pa.chunked_array([cells]), "day", np.arange(9), "t.csv").astype(str).tolist()

    assert read(["2024-01-31", "", "2024-01-31 12:30:00"]) == ["2024-01-31T00:00:00", "NaT", "2024-01-31T12:30:00"]
    assert read(["2024-01-31T01:00:00+02:00", "2024-01-31T01:00:00Z"]) == ["2024-01-30T23:00:00", "2024-01-31T01:00:00"]
    typed = pa.array([1706659200], pa.timestamp("s", tz="Europe/Berlin"))
    assert read(typed) == ["2024-01-31T00:00:00"]
    assert read(pa.array([None, 19753], pa.date32())) == ["NaT", "2024-01-31T00:00:00"]
    for cells, message in (
        (["2024-01-31", "soon"], "column 'day' (moment) of t.csv holds 'soon' in row 2 of the table, which is no date"),
        (["2024-01-31", "2024-01-31T00:00Z", "2024-02-01"], "row 2 of the table has a time zone, other rows have none"),
        ([20240131], "column 'day' (moment) of t.csv holds number; write dates as 2020-01-31."),
    ):
        with pytest.raises(UserError) as error:
            read(cells)
        assert message in str(error.value)
