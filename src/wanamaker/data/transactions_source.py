"""Reading transactions: files to columns of numbers and codes, with every cell that cannot be read named.

Axis letters: R rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from wanamaker.data.panel_dates import why_not
from wanamaker.data.panel_roles import DateRole
from wanamaker.data.panel_source import NotNumbers, PanelSource, as_numbers, as_text
from wanamaker.data.transactions_roles import Operation, TransactionRoles
from wanamaker.errors import UserError

_ZONE = r"\s?(?:Z|UTC|[+-]\d{2}:?\d{2})$"


@dataclass(frozen=True)
class Coded:
    """A column of names as numbers.

    Attributes:
        code: int64 [R]; -1 where the cell is empty.
        names: sorted.
    """

    code: np.ndarray
    names: tuple[str, ...]

    def take(self, rows: np.ndarray) -> Coded:
        """Some rows; the names stay."""
        return Coded(self.code[rows], self.names)


@dataclass(frozen=True)
class Transactions:
    """Rows in the order of time, those of the same time in the order of the files.

    Attributes:
        customer: who; -1 does not occur.
        day: int64 [R], since 1970-01-01.
        amount: float64 [R], money, 0 or above, also of refunds.
        refund: bool [R].
        order: int64 [R]; equal numbers are one order of one customer.
        status: or None.
        numeric: column to float64 [R].
        categorical: column to names.
    """

    customer: Coded
    day: np.ndarray
    amount: np.ndarray
    refund: np.ndarray
    order: np.ndarray
    status: Coded | None
    numeric: dict[str, np.ndarray]
    categorical: dict[str, Coded]

    def __len__(self) -> int:
        return len(self.day)

    def take(self, rows: np.ndarray) -> Transactions:
        """Some rows (mask or ascending numbers), and nothing of the others."""
        parts = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, dict):
                value = {name: v.take(rows) if isinstance(v, Coded) else v[rows] for name, v in value.items()}
            elif isinstance(value, Coded):
                value = value.take(rows)
            elif value is not None:
                value = value[rows]
            parts[field.name] = value
        return Transactions(**parts)


def read_transactions(
    paths: Sequence[str | Path],
    roles: TransactionRoles,
    encoding: str = "utf-8",
    delimiter: str | None = None,
    decimal: str = ".",
) -> tuple[Transactions, dict[str, int]]:
    """Read files of transactions, one after the other.

    Args:
        paths: CSV or Parquet files with the same columns; rows that stand in two of them count once.
        roles: Which column is what.
        encoding, delimiter, decimal: Of CSV files.

    Returns:
        The transactions, and how many rows were left out, by reason.

    Raises:
        UserError: a missing file or column, a date, an amount or a number that cannot be read, with its row; an
            operation that no row has; no row at all.
    """
    parts = [_File(PanelSource(path, encoding, delimiter, decimal), roles) for path in paths]
    customer = _coded([part.texts[roles.customer] for part in parts])
    day_time = np.concatenate([part.time for part in parts])
    amount = np.concatenate([part.numbers[roles.amount] for part in parts])
    keep = customer.code >= 0
    left_out = {"rows without a customer": int((~keep).sum())}
    again = _again(parts)
    left_out["rows that an earlier file has, too"] = int((keep & again).sum())
    keep &= ~again
    refund = amount < 0
    if roles.operation is not None:
        operation = _coded([part.texts[roles.operation.column] for part in parts])
        refund, known = _refunds(roles.operation, operation)
        left_out["rows that are neither purchase nor refund"] = int((keep & ~known).sum())
        keep &= known
        _refuse_negative(parts, roles, amount, keep & ~refund)
    order = np.arange(len(amount))
    if roles.order is not None:
        number = _coded([part.texts[roles.order] for part in parts])
        # An empty cell is an order of its own. Order numbers may begin anew with every customer.
        own = np.where(number.code >= 0, number.code, len(number.names) + order)
        order = _dense(customer.code, own)
    status = None if roles.status is None else _coded([part.texts[roles.status.column] for part in parts])
    if not keep.any():
        raise UserError(f"{parts[0].source.name} has no transaction to look at: {left_out}. Check data.roles.")
    rows = np.flatnonzero(keep)
    rows = rows[np.argsort(day_time[rows], kind="stable")]
    everything = Transactions(
        customer=customer,
        day=day_time.astype("datetime64[D]").astype(np.int64),
        amount=np.abs(amount),
        refund=refund,
        order=order,
        status=status,
        numeric={name: np.concatenate([part.numbers[name] for part in parts]) for name in roles.numeric},
        categorical={name: _coded([part.texts[name] for part in parts]) for name in roles.categorical},
    )
    return everything.take(rows), {reason: count for reason, count in left_out.items() if count}


class _File:
    """One file as it is read.

    Attributes:
        texts: column to (codes int64 [R], names); "" is an empty cell.
        numbers: column to float64 [R].
        time: datetime64[us] [R].
    """

    def __init__(self, source: PanelSource, roles: TransactionRoles) -> None:
        self.source, self.roles = source, roles
        wanted = roles.columns()
        if lines := source.require([column for column, _ in wanted], dict(wanted)):
            raise UserError(f"{source.name}: {' '.join(lines)}")
        numbers = [roles.amount, *roles.numeric]
        keys = [column for column, _ in wanted if column not in numbers]
        try:
            self._read(keys, numbers, as_text_too=False)
        except NotNumbers:  # once more, as text, to say where
            self._read(keys, numbers, as_text_too=True)
        self._check_amounts()
        self.time = self._times(*self.texts.pop(roles.date))

    def _read(self, keys: list[str], numbers: list[str], as_text_too: bool) -> None:
        import pyarrow as pa
        import pyarrow.compute as pc

        texts: dict[str, list[np.ndarray]] = {name: [] for name in keys}
        values: dict[str, list[np.ndarray]] = {name: [] for name in numbers}
        index: dict[str, dict[str, int]] = {name: {} for name in keys}
        seen = 0
        for batch in self.source.batches(keys, numbers, as_text_too):
            for name in keys:
                column = batch.column(name)
                if pa.types.is_timestamp(column.type):  # whose time of day `as_text` would drop
                    text = (pc.local_timestamp(column) if column.type.tz else column).cast(pa.string())
                else:
                    text = as_text(column)
                text = text if pa.types.is_dictionary(text.type) else text.dictionary_encode()
                place = index[name]
                here = [place.setdefault((t or "").strip(), len(place)) for t in text.dictionary.to_pylist()]
                codes = text.indices.to_numpy(zero_copy_only=False) if not text.null_count else None
                if codes is None:
                    empty = place.setdefault("", len(place))
                    codes = text.indices.fill_null(len(here)).to_numpy(zero_copy_only=False)
                    here.append(empty)
                texts[name].append(np.array(here, np.int64)[codes] if len(codes) else np.empty(0, np.int64))
            for name in numbers:
                column = batch.column(name)
                cells, bad = as_numbers(column, self.source.decimal)
                if len(bad):
                    raise self._not_a_number(name, seen + int(bad[0]), column[int(bad[0])].as_py())
                values[name].append(cells)
            seen += batch.num_rows
        if not seen:
            raise UserError(f"{self.source.name} has a header and no rows; export it again.")
        self.texts = {name: (np.concatenate(texts[name]), list(index[name])) for name in keys}
        self.numbers = {name: np.concatenate(values[name]) for name in numbers}
        for name in self.roles.numeric:
            cells = self.numbers[name]
            bad = np.flatnonzero(np.isinf(cells))
            if len(bad):
                raise UserError(
                    f"{self.place(int(bad[0]))}: column {name!r} (numeric) is {cells[bad[0]]:g}, in {len(bad):,} of "
                    f"{len(cells):,} rows; write a number, or leave the cell empty."
                )
            self.numbers[name] = np.nan_to_num(cells)

    def place(self, number: int) -> str:
        """Where a row stands, as an editor shows it."""
        return f"{self.source.name}, row {self.source.file_row(number)}"

    def _not_a_number(self, column: str, number: int, cell: object) -> UserError:
        role = "amount" if column == self.roles.amount else "numeric"
        other = "," if self.source.decimal == "." else "."
        return UserError(
            f"{self.place(number)}: column {column!r} ({role}) is {str(cell)!r}, which is no number. Write numbers "
            "without a currency sign or thousands separators (1234.50), or pass "
            f"data.decimal={other!r} if that is its sign."
        )

    def _check_amounts(self) -> None:
        amounts = self.numbers[self.roles.amount]
        bad = np.flatnonzero(~np.isfinite(amounts))
        if len(bad):
            raise UserError(
                f"{self.place(int(bad[0]))}: column {self.roles.amount!r} (amount) is empty or not finite in "
                f"{len(bad):,} of {len(amounts):,} rows; fill in what was paid (0 if nothing was) or take the rows out."
            )

    def _times(self, codes: np.ndarray, texts: list[str]) -> np.ndarray:
        """Local times of rows whose dates are texts by number, datetime64[us] [R]."""
        import pandas as pd

        role = DateRole(self.roles.date, self.roles.date_format)
        cells = pd.Series(texts, dtype=object)
        if role.format is None:
            # A zone says how far a clock was from another; what counts is the day that the customer had.
            timed = cells.str.contains(":", regex=False)
            cells = cells.where(~timed, cells.str.replace(_ZONE, "", regex=True))
        times = pd.to_datetime(cells, format=role.format or "ISO8601", errors="coerce").to_numpy()
        bad = np.flatnonzero(np.isnat(times))
        if len(bad):
            row = int(np.flatnonzero(np.isin(codes, bad))[0])
            text = texts[codes[row]]
            remedy = why_not(text, role)
            for name in ("roles.date.format or date_format", "roles.date.format"):
                remedy = remedy.replace(name, "data.roles.date_format")
            raise UserError(f"{self.place(row)}: column {role.column!r} (date) is {text!r}, which is no date. {remedy}")
        return times.astype("datetime64[us]")[codes]


def _coded(parts: Sequence[tuple[np.ndarray, list[str]]]) -> Coded:
    """Join the codes of several files; names sorted, the empty cell -1."""
    names = sorted({name for _, own in parts for name in own} - {""})
    place = {name: code for code, name in enumerate(names)} | {"": -1}
    codes = [np.array([place[name] for name in own], np.int64)[code] for code, own in parts]
    return Coded(np.concatenate(codes), tuple(names))


def _again(parts: Sequence[_File]) -> np.ndarray:
    """Whether a row, the same in every column, stands in an earlier file (exports that overlap), bool [R].

    Equal rows of one file are kept: two coffees on one day may look alike.
    """
    import pandas as pd

    file = np.repeat(np.arange(len(parts)), [len(part.time) for part in parts])
    if len(parts) == 1:
        return np.zeros(len(file), bool)
    columns = {"time": np.concatenate([part.time for part in parts])}
    columns |= {name: _coded([part.texts[name] for part in parts]).code for name in parts[0].texts}
    columns |= {name: np.concatenate([part.numbers[name] for part in parts]) for name in parts[0].numbers}
    alike = pd.DataFrame(columns).groupby(list(columns), sort=False).ngroup().to_numpy()
    first = np.full(alike.max(initial=0) + 1, len(parts))
    np.minimum.at(first, alike, file)
    return file > first[alike]


def _refunds(operation: Operation, column: Coded) -> tuple[np.ndarray, np.ndarray]:
    """Whether rows are refunds, and whether they are refunds or purchases; bool [R] each."""
    for kind in ("refund", "purchase"):
        for value in getattr(operation, kind):
            if value not in column.names:
                known = ", ".join(map(repr, column.names[:12]))
                raise UserError(
                    f"data.roles.operation.{kind}: no row has {value!r} in column {operation.column!r}; it has {known}."
                )

    def among(values: Sequence[str]) -> np.ndarray:
        return np.isin(column.code, [column.names.index(value) for value in values])

    refund = among(operation.refund)
    return refund, refund | (among(operation.purchase) if operation.purchase else True)


def _refuse_negative(parts: Sequence[_File], roles: TransactionRoles, amount: np.ndarray, purchase: np.ndarray) -> None:
    bad = np.flatnonzero(purchase & (amount < 0))
    if not len(bad):
        return
    row = int(bad[0])
    for part in parts:
        if row < len(part.time):
            raise UserError(
                f"{part.place(row)}: a purchase of {part.numbers[roles.amount][row]:g}. Money back is told by "
                "data.roles.operation.refund; list the operation of this row there, or mend its sign."
            )
        row -= len(part.time)


def _dense(*keys: np.ndarray) -> np.ndarray:
    """Equal numbers for equal combinations, int64 [R]."""
    joined = keys[0].astype(np.int64)
    for key in keys[1:]:
        joined = joined * (int(key.max(initial=0)) + 2) + key + 1
    return np.unique(joined, return_inverse=True)[1].astype(np.int64)
