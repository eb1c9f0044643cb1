"""Rows of a table of customers that is larger than memory; the order of batches is that of `experiment_stream`.

Axis letters: N rows of the table.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from wanamaker.data.customer_table_roles import TableRoles
from wanamaker.data.customer_table_rows import Cells, CustomerRows, encode_rows, to_batch
from wanamaker.data.experiment_source import ExperimentSource
from wanamaker.data.experiment_stream import RowReader
from wanamaker.data.experiment_table import identifiers_of, key_of
from wanamaker.data.propensity_batch import PropensityBatch, PropensitySchema


class CustomerRowReader(RowReader):
    """Reads and encodes chosen rows of a table.

    Args:
        source: the files.
        columns: that are needed.
        schema, roles: see `customer_table_rows.encode_rows`.
        chosen: bool [N], which rows there are to read.
        cells: how they are read.
    """

    def __init__(
        self,
        source: ExperimentSource,
        columns: Sequence[str],
        schema: PropensitySchema,
        roles: TableRoles,
        chosen: np.ndarray,
        cells: Cells,
    ) -> None:
        super().__init__(source, columns, schema, roles, chosen)
        self.cells = cells

    def strata(self, rows: CustomerRows) -> np.ndarray:
        return rows.strata()

    def to_batch(self, rows: CustomerRows) -> PropensityBatch:
        return to_batch(rows)

    def _encoded(self, table: Any, row: np.ndarray) -> CustomerRows:
        key = key_of(row if self.roles.id is None else identifiers_of(table, self.roles.id, int(row[0]), whole=False))
        return encode_rows(table, self.schema, self.roles, row, key, self.cells)
