"""Cells of a table as numbers, yes or no, and moments, with the row of any that cannot be read.

A column of numbers with a blank or a word in a cell is text to a reader of CSV files. It is read as numbers here; what
is no number is refused by row and value, because a name it cannot have been.

Axis letters: N rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from wanamaker.data.experiment_source import kind_of
from wanamaker.data.experiment_table import number_like, numbers_of, text_codes
from wanamaker.data.panel_source import as_numbers
from wanamaker.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

YES, NO = ("true", "yes", "1", "1.0"), ("false", "no", "0", "0.0")
UNKNOWN = ("", "na", "n/a", "#n/a", "nan", "null", "<na>", "nat")  # cells of a label that say nothing
_MANY, _MOST = 20, 0.9  # so many values of which so many are numbers: a column of numbers with stray cells
_SHOWN = 8  # values in a message


def is_stray_text(column: pa.ChunkedArray, written: bool, decimal: str = ".") -> bool:
    """Whether a column of text is meant to hold numbers.

    Args:
        column: of text.
        written: it comes from a CSV file, whose reader would have seen numbers but for blank cells. Text in a Parquet
            file was meant as text, unless it has many values that are nearly all numbers.
        decimal: decimal sign.
    """
    import pyarrow as pa

    values = [value for value in (text.strip() for text in text_codes(column)[1]) if value]
    if not values:
        return written and len(column) > 0
    numbers, bad = as_numbers(pa.array(values), decimal)
    count = len(values) - len(bad)
    if len(values) >= _MANY and count >= _MOST * len(values):
        # 00417 is a name, such as a zip code
        return written or not any(value[0] == "0" and value[1:].isdigit() for value in values)
    return written and not len(bad) and bool(np.isfinite(numbers).any())


def refuse_written_numbers(column: pa.ChunkedArray, name: str, source: str, decimal: str) -> None:
    """Refuse a feature of many words that are all numbers, in a notation that the file was not said to have.

    Read as names, each 1.234,50 or 19,90 would be a category of its own.

    Raises:
        UserError: naming the column and a cell.
    """
    values = [value for value in (text.strip() for text in text_codes(column)[1]) if value]
    odd = next((value for value in values if not value.isdigit()), None)
    if len(values) >= _MANY and odd is not None and all(map(number_like, values)):
        other = "," if decimal == "." else "."
        raise UserError(
            f"column {name!r} of {source} holds numbers such as {odd!r}, which are none where the decimal sign is"
            f" {decimal!r}: pass data.decimal={other!r} if that is its sign, write them without thousands separators,"
            " or list the column in data.roles.categorical if they are names."
        )


def numbers_in(
    column: pa.ChunkedArray, name: str, role: str, row: np.ndarray, source: str, decimal: str = "."
) -> np.ndarray:
    """A column of numbers, written as such or as text, float64 [N], NaN where a cell is blank.

    Args:
        column: its cells.
        name: of the column. role: "numeric feature", ... . source: name of the file; all for messages.
        row: int64 [N], places of the rows in the table.
        decimal: decimal sign of text.

    Raises:
        UserError: a cell that is no number, with its row.
    """
    import pyarrow as pa

    if kind_of(column.type) != "text":
        return numbers_of(column, name, role)
    code, texts = text_codes(column)
    values, bad = as_numbers(pa.array(texts, pa.string()), decimal)
    bad = np.union1d(bad, np.flatnonzero(np.isinf(values))).astype(np.int64)
    if len(bad):
        hit = np.isin(code, bad)
        first = int(hit.argmax())
        raise UserError(
            f"column {name!r} ({role}) of {source} holds {texts[code[first]]!r} in row {int(row[first]) + 1} of the"
            f" table{f' and other text in {hit.sum() - 1:,} more' if hit.sum() > 1 else ''}: write a number or leave"
            " the cell empty"
            + (", or list the column in data.roles.categorical if its values are names." if "feature" in role else ".")
        )
    return values[code] if len(texts) else np.full(len(code), np.nan)


def yes_in(
    column: pa.ChunkedArray, positive: str | None, name: str, place: str, row: np.ndarray, source: str
) -> tuple[np.ndarray, set[str]]:
    """A column of yes and no as 1 and 0, float64 [N], NaN where a cell is blank; and the values it holds.

    Numbers other than 0 and 1 are left as they are where no value is declared positive: see `customer_table_labels`.

    Args:
        column: its cells.
        positive: the value that means yes; None: 1, true, yes.
        name: of the column. place: of the option. source: name of the file; all for messages.
        row: int64 [N], places of the rows in the table.

    Raises:
        UserError: words of which none is declared positive, with their row.
    """
    code, texts = text_codes(column)
    texts = [text.strip() for text in texts]
    wanted = None if positive is None else positive.strip().casefold()
    texts = ["" if (low := text.casefold()) in UNKNOWN and low != wanted else text for text in texts]
    seen = {text for text in texts if text}
    if wanted is not None:
        known = [float(text.casefold() == wanted) if text else np.nan for text in texts]
    else:
        if kind_of(column.type) in ("number", "empty"):
            return numbers_of(column, name, "label"), seen
        known = [_word(text) for text in texts]
        strange = np.array([value is None for value in known], bool)
        if strange.any():
            first = int(strange[code].argmax())
            values = sorted(seen)
            listed = ", ".join(map(repr, values[:_SHOWN])) + (", ..." if len(values) > _SHOWN else "")
            raise UserError(
                f"column {name!r} (label) of {source} holds {texts[code[first]]!r} in row {int(row[first]) + 1} of the"
                f" table: say which of its values ({listed}) means yes, in {place}.positive."
            )
    return np.array(known or [np.nan], np.float64)[code], seen


def _word(text: str) -> float | None:
    if not text:
        return np.nan
    folded = text.casefold()
    if folded in YES or folded in NO:
        return float(folded in YES)
    try:
        return float(text)
    except ValueError:
        return None


def moments_in(column: pa.ChunkedArray, name: str, row: np.ndarray, source: str) -> np.ndarray:
    """A column of dates or times, datetime64[s] [N] (UTC where it says a zone), NaT where a cell is blank.

    Raises:
        UserError: a cell that is no ISO date, or zones that are mixed, with the row.
    """
    import pandas as pd
    import pyarrow.types as types

    if kind_of(column.type) == "date" and (types.is_timestamp(column.type) or types.is_date(column.type)):
        values = column.to_pandas(date_as_object=False)
        zoned = getattr(values.dt, "tz", None) is not None
        return (values.dt.tz_convert(None) if zoned else values).to_numpy().astype("datetime64[s]")
    place = f"column {name!r} (moment) of {source}"
    if kind_of(column.type) not in ("text", "empty"):
        raise UserError(f"{place} holds {kind_of(column.type)}; write dates as 2020-01-31.")
    code, texts = text_codes(column)
    found = np.full(max(len(texts), 1), np.datetime64("NaT"), "datetime64[s]")
    zones = np.full(len(found), -1)
    for i, text in enumerate(texts):
        if not text.strip():
            continue
        try:
            stamp = pd.Timestamp(pd.to_datetime(text.strip(), format="ISO8601"))
        except ValueError as error:
            first = int((code == i).argmax())
            raise UserError(
                f"{place} holds {text!r} in row {int(row[first]) + 1} of the table, which is no date; write it as"
                " 2020-01-31."
            ) from error
        zones[i] = stamp.tz is not None
        found[i] = np.datetime64((stamp.tz_convert(None) if stamp.tz is not None else stamp).to_datetime64(), "s")
    if {0, 1} <= set(zones.tolist()):
        per_row = zones[code]
        odd = 0 if (per_row == 0).sum() <= (per_row == 1).sum() else 1
        first = int((per_row == odd).argmax())
        raise UserError(
            f"{place}: {texts[code[first]]!r} in row {int(row[first]) + 1} of the table has {'a' if odd else 'no'} time"
            f" zone, other rows have {'none' if odd else 'one'}; write all of them alike."
        )
    return found[code]
