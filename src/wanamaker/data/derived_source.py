"""Columns that are computed from others while a table is read: ratios, sums, logarithms.

    derive: {seconds_per_page: ProductRelated_Duration / ProductRelated}

An expression has names of columns (in backticks where they are no Python names), numbers, + - * / // % **,
comparisons, brackets and functions of `pandas.eval` such as log1p, sqrt and abs. A row in which one of its columns is
blank, or whose result is no finite number (0 / 0), has a missing value.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wanamaker.data.customer_table_cells import numbers_in
from wanamaker.data.experiment_source import ExperimentSource, RowGroup
from wanamaker.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

FUNCTIONS = ("abs", "exp", "expm1", "log", "log10", "log1p", "sqrt", "floor", "ceil")
_QUOTED = re.compile(r"`([^`]+)`")
_NODES = (ast.Expression, ast.BinOp, ast.UnaryOp, ast.Compare, ast.Call, ast.Name, ast.Load, ast.Constant)
_OPERATORS = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow, ast.USub, ast.UAdd)
_ALLOWED = (*_NODES, *_OPERATORS, ast.Gt, ast.GtE, ast.Lt, ast.LtE, ast.Eq, ast.NotEq)


def parse_derive(given: Any) -> dict[str, str]:
    """The option `derive`: name -> expression; an expression of null takes a name away again.

    Raises:
        UserError: it is no mapping.
    """
    if given is not None and not isinstance(given, Mapping):
        raise UserError(f"data.derive={given!r}: give names and expressions, such as {{price: spend / orders}}.")
    return {str(name): str(text) for name, text in (given or {}).items() if text is not None}


class Derived:
    """One column that is computed.

    Args:
        name: of the column.
        expression: see the module text.

    Attributes:
        inputs: the columns that it is computed from.

    Raises:
        UserError: the expression is none.
    """

    def __init__(self, name: str, expression: Any) -> None:
        self.name, self.expression, self.place = str(name), str(expression), f"data.derive.{name}"
        quoted: list[str] = []

        def plain(found: re.Match[str]) -> str:
            quoted.append(found.group(1))
            return f"quoted_{len(quoted) - 1}_"

        try:
            tree = ast.parse(_QUOTED.sub(plain, self.expression).strip(), mode="eval")
        except SyntaxError as error:
            raise UserError(
                f"{self.place}={self.expression!r} is no expression; write one such as `spend / orders`, with names of"
                " columns, numbers and + - * /."
            ) from error
        called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
        for node in ast.walk(tree):
            function = isinstance(node, ast.Call) and not (
                isinstance(node.func, ast.Name) and node.func.id in FUNCTIONS and len(node.args) == 1
            )
            text = isinstance(node, ast.Constant) and (
                isinstance(node.value, bool) or not isinstance(node.value, int | float)
            )
            if not isinstance(node, _ALLOWED) or function or text:
                raise UserError(
                    f"{self.place}={self.expression!r}: {ast.unparse(node)!r} cannot stand in it. It may have columns,"
                    f" numbers, + - * / // % **, comparisons, and {', '.join(FUNCTIONS)} of one argument."
                )
        names = [node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and id(node) not in called]
        known = {f"quoted_{number}_": column for number, column in enumerate(quoted)}
        self.inputs = tuple(dict.fromkeys(known.get(name, name) for name in names))
        if not self.inputs:
            raise UserError(f"{self.place}={self.expression!r} names no column; a constant tells nothing apart.")

    def values(self, table: pa.Table, row: np.ndarray, source: str, decimal: str) -> np.ndarray:
        """The column, float64 [N], NaN where it is missing.

        Args:
            table: has the inputs.
            row: int64 [N], places of the rows in the table, for messages.
            source: name of the file. decimal: sign of numbers that are written as text.

        Raises:
            UserError: an input that holds no numbers.
        """
        import pandas as pd

        numbers = {
            name: numbers_in(table.column(name), name, f"numeric feature of {self.place}", row, source, decimal)
            for name in self.inputs
        }
        with np.errstate(all="ignore"):
            found = pd.DataFrame(numbers).eval(self.expression, engine="python")
        values = np.array(np.broadcast_to(np.asarray(found, np.float64), len(table)))
        blank = np.logical_or.reduce([np.isnan(column) for column in numbers.values()])
        values[blank | ~np.isfinite(values)] = np.nan
        return values


class DerivedSource(ExperimentSource):
    """A table with further columns, which stand behind its own; see `ExperimentSource`.

    Args:
        path: of the table.
        derive: name -> expression.
        forbidden: columns that no expression may use -> why.
        writing: `encoding`, `delimiter` and `decimal`.

    Raises:
        UserError: an expression that is none, an unknown column, a name that the table has already.
    """

    def __init__(
        self,
        path: str | Path,
        derive: Mapping[str, Any] | None = None,
        forbidden: Mapping[str, str] | None = None,
        **writing: Any,
    ) -> None:
        super().__init__(path, **writing)
        self.derived = {str(name): Derived(name, expression) for name, expression in (derive or {}).items()}
        self.stored = list(self.columns)
        for column in self.derived.values():
            if column.name in self.stored:
                raise UserError(f"{column.place}: {self.name} has a column {column.name!r}; choose another name.")
            for name in column.inputs:
                if name not in self.stored:
                    raise UserError(
                        f"{column.place}={column.expression!r}: {self.name} has no column {name!r}. {self.hint(name)}"
                    )
                if name in (forbidden or {}):
                    raise UserError(
                        f"{column.place}={column.expression!r} uses {name!r}, which is {forbidden[name]}: the feature"
                        " would know what is to be foretold. Use columns that are known at the moment."
                    )
        self.columns = [*self.stored, *self.derived]
        if self.kinds:
            self.kinds |= dict.fromkeys(self.derived, "number")

    def read(self, columns: Sequence[str], text: Collection[str] = ()) -> pa.Table:
        """See `ExperimentSource.read`."""
        table = super().read(self._stored(columns), [name for name in text if name not in self.derived])
        return self._completed(table, columns, np.arange(len(table)))

    def read_group(self, group: RowGroup, columns: Sequence[str], rows: int) -> Iterator[pa.RecordBatch]:
        """See `ExperimentSource.read_group`."""
        import pyarrow as pa

        first = group.first
        for batch in super().read_group(group, self._stored(columns), rows):
            row = np.arange(first, first + len(batch))
            first += len(batch)
            yield from self._completed(pa.Table.from_batches([batch]), columns, row).combine_chunks().to_batches()

    def _stored(self, columns: Sequence[str]) -> list[str]:
        """What is read for the named columns."""
        inputs = {name: column.inputs for name, column in self.derived.items()}
        wanted = [name for column in columns for name in inputs.get(column, (column,))]
        return list(dict.fromkeys(wanted))

    def _completed(self, table: pa.Table, columns: Sequence[str], row: np.ndarray) -> pa.Table:
        import pyarrow as pa

        cells = {
            name: pa.chunked_array([self.derived[name].values(table, row, self.name, self.decimal)])
            if name in self.derived
            else table.column(name)
            for name in columns
        }
        return pa.table(cells) if cells else table
