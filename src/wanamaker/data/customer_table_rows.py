"""Rows of a table of customers as arrays and as `PropensityBatch`es.

Axis letters: N rows, B batch rows, F numeric features, J categorical features, T tasks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from wanamaker.data.customer_table_cells import numbers_in
from wanamaker.data.customer_table_labels import labels_of
from wanamaker.data.customer_table_roles import TableRoles
from wanamaker.data.customer_table_survival import survival_at
from wanamaker.data.experiment_table import text_codes
from wanamaker.data.propensity_batch import PropensityBatch, PropensitySchema
from wanamaker.data.rows_dataset import RowsDataset
from wanamaker.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa


class CustomerRows(NamedTuple):
    """Rows as arrays; what `PropensityBatch` says, in NumPy, `categorical` as int32."""

    row: np.ndarray
    key: np.ndarray
    numeric: np.ndarray
    categorical: np.ndarray
    label: np.ndarray
    time: np.ndarray
    weight: np.ndarray

    def take(self, places: np.ndarray | slice) -> CustomerRows:
        """The rows at some places."""
        return CustomerRows(*(array[places] for array in self))

    def strata(self) -> np.ndarray:
        """What a batch should hold in proportion: whether the first label is above 0, int64 [N]."""
        return (self.label[:, 0] > 0).astype(np.int64)


class Cells(NamedTuple):
    """How the cells of a file are read.

    Attributes:
        source: name of the file, for messages.
        decimal: decimal sign of text.
        refuse_blank: an empty cell of a numeric feature is refused.
    """

    source: str
    decimal: str = "."
    refuse_blank: bool = False


def numeric_feature(table: pa.Table, name: str, row: np.ndarray, cells: Cells) -> np.ndarray:
    """A numeric feature, float64 [N]; NaN where its cell is empty.

    Args:
        table: with its column.
        name: of the column.
        row: int64 [N], places of the rows in the whole table.
        cells: how they are read.

    Raises:
        UserError: a cell that is no number, or one that is empty where that is refused.
    """
    values = numbers_in(table.column(name), name, "numeric feature", row, cells.source, cells.decimal)
    if cells.refuse_blank and len(values) and (empty := np.isnan(values)).any():
        raise UserError(
            f"column {name!r} (numeric feature) of {cells.source} is blank in row {int(row[empty.argmax()]) + 1} of the"
            f" table ({int(empty.sum()):,} such rows): fill it in, or read it as missing with data.blank=missing."
        )
    return values


def encode_rows(
    table: pa.Table, schema: PropensitySchema, roles: TableRoles, row: np.ndarray, key: np.ndarray, cells: Cells
) -> CustomerRows:
    """Some rows as a model reads them.

    Args:
        table: columns of features, and of labels and weight where there are any.
        schema: whose categories count.
        roles: which column is what.
        row: int64 [N], places of the rows in the whole table.
        key: int64 [N], hashes of their identifiers.
        cells: how they are read.

    Returns:
        The rows; a value that training had not is category 0.

    Raises:
        UserError: text where training had numbers, a label that cannot be read, a weight that is not positive.
    """
    N, curve = len(table), schema.survival
    numeric = np.empty((N, len(schema.numeric)), np.float32)
    for f, name in enumerate(schema.numeric):
        if curve is not None and name == curve.name:
            numeric[:, f] = survival_at(curve, numeric_feature(table, curve.column, row, cells))
        else:
            numeric[:, f] = numeric_feature(table, name, row, cells)
    categorical = np.empty((N, len(schema.categorical)), np.int32)
    for j, name in enumerate(schema.categorical):
        code, values = text_codes(table.column(name))
        numbers = {value: i for i, value in enumerate(schema.categories[j], start=1)}
        categorical[:, j] = np.array([numbers.get(value, 0) for value in values] or [0], np.int32)[code]
    labels = labels_of(table, roles.tasks, row, cells.source, cells.decimal)
    return CustomerRows(
        row=row,
        key=key,
        numeric=numeric,
        categorical=categorical,
        label=labels.label,
        time=labels.time,
        weight=weight_of(table, roles.weight, row, cells),
    )


def weight_of(table: pa.Table, column: str | None, row: np.ndarray, cells: Cells) -> np.ndarray:
    """How many customers each row stands for, float32 [N]; 1 without a column.

    Raises:
        UserError: a weight that is missing or not positive.
    """
    if column is None or column not in table.column_names:
        return np.ones(len(table), np.float32)
    values = numbers_in(table.column(column), column, "weight", row, cells.source, cells.decimal)
    bad = ~(values > 0)
    if bad.any():
        raise UserError(
            f"column {column!r} (weight) of {cells.source} is {values[bad.argmax()]:g} in row"
            f" {int(row[bad.argmax()]) + 1} of the table: a row stands for more than 0 customers."
        )
    return values.astype(np.float32)


def to_batch(rows: CustomerRows) -> PropensityBatch:
    """Arrays as tensors, without events."""
    return _batch(*(torch.from_numpy(np.ascontiguousarray(array)) for array in rows))


class CustomerDataset(RowsDataset[PropensityBatch]):
    """Some rows of the table. A batch is one gather per tensor.

    Args:
        rows: the whole table; its arrays are shared, not copied.
        places: int64 [N], which of the rows to serve.
    """

    def __init__(self, rows: CustomerRows, places: np.ndarray) -> None:
        self.rows = tuple(torch.from_numpy(np.ascontiguousarray(array)) for array in rows)
        super().__init__(places)

    def batch(self, chosen: torch.Tensor) -> PropensityBatch:
        return _batch(*(tensor[chosen] for tensor in self.rows))


def _batch(
    row: torch.Tensor,
    key: torch.Tensor,
    numeric: torch.Tensor,
    categorical: torch.Tensor,
    label: torch.Tensor,
    time: torch.Tensor,
    weight: torch.Tensor,
) -> PropensityBatch:
    P = len(row)
    return PropensityBatch(
        row=row,
        key=key,
        numeric=numeric,
        categorical=categorical.long(),
        sequence=torch.full((P,), -1),
        seen=torch.zeros(P, dtype=torch.int64),
        since=torch.full((P,), torch.nan),
        length=torch.empty(0, dtype=torch.int64),
        event_categorical=torch.empty(0, 0, dtype=torch.int64),
        event_numeric=torch.empty(0, 0),
        event_gap=torch.empty(0),
        label=label,
        time=time,
        weight=weight,
    )
