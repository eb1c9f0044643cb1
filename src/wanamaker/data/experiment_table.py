"""From columns of a table to arrays: labels, identifiers with their hash, and features encoded by a schema.

Axis letters: N rows, F numeric features, J categorical features, K arms, Y outcomes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from wanamaker.data.experiment_roles import ExperimentRoles
from wanamaker.data.experiment_source import kind_of
from wanamaker.data.experiment_split import mixed
from wanamaker.data.panel_roles import nearest
from wanamaker.data.panel_source import as_text
from wanamaker.data.uplift_batch import UpliftSchema
from wanamaker.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

_HASH_KEY = "wanamaker uplift"  # 16 letters; a constant, because folds depend on it
_WHOLE_NUMBER = r"^(0|-?[1-9][0-9]{0,17})$"
_WRITTEN_NUMBER = re.compile(r"[+-]?(\d+([.,]\d+)?|\d{1,3}([.,' \u00a0\u202f]\d{3})+([.,]\d+)?)")


class ExperimentRows(NamedTuple):
    """Rows as arrays; what `UpliftBatch` says, in NumPy, `categorical` as int32."""

    row: np.ndarray
    key: np.ndarray
    numeric: np.ndarray
    categorical: np.ndarray
    treatment: np.ndarray
    outcome: np.ndarray
    weight: np.ndarray

    def take(self, places: np.ndarray | slice) -> ExperimentRows:
        """The rows at some places."""
        return ExperimentRows(*(array[places] for array in self))

    @classmethod
    def joined(cls, parts: Sequence[ExperimentRows]) -> ExperimentRows:
        """All rows of some parts, of this or another kind of rows, in their order."""
        if len(parts) == 1:
            return parts[0]
        return type(parts[0])(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


@dataclass(frozen=True)
class Labels:
    """Who got what, and what came of it.

    Attributes:
        code: int32 [N], index into `values`.
        values: of the treatment column; "" is missing.
        outcome: float64 [N, Y]; NaN where missing.
    """

    code: np.ndarray
    values: list[str]
    outcome: np.ndarray

    def known(self) -> np.ndarray:
        """bool [N]: the arm and all outcomes are there."""
        missing = np.array([value == "" for value in self.values], bool)
        return ~missing[self.code] & np.isfinite(self.outcome).all(axis=1)


def feature_kinds(
    features: Sequence[str], kinds: Mapping[str, str], categorical: Sequence[str], source: str
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the numeric and of the categorical features.

    Args:
        features: columns.
        kinds: column -> kind, see `experiment_source.kind_of`.
        categorical: columns that are categorical whatever their type.
        source: name of the file, for messages.

    Raises:
        UserError: a column that can be neither, such as a date.
    """
    numeric, names = [], []
    for column in features:
        kind = kinds[column]
        if kind == "date":
            raise UserError(
                f"column {column!r} of {source} holds dates, which are no feature: write the days up to the start of"
                f" the campaign instead, or leave it out with data.roles.drop=[{column}]."
            )
        if kind not in ("number", "text", "empty"):
            raise UserError(
                f"column {column!r} of {source} holds {kind}, which is no feature: leave it out with"
                f" data.roles.drop=[{column}]."
            )
        (names if kind == "text" or column in categorical else numeric).append(column)
    return tuple(numeric), tuple(names)


def text_codes(column: pa.ChunkedArray | pa.Array) -> tuple[np.ndarray, list[str]]:
    """A column of names: index of each row's value, int32 [N], and the values; "" is missing."""
    import pyarrow as pa

    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    coded = as_text(array).dictionary_encode()
    return coded.indices.to_numpy(zero_copy_only=False), coded.dictionary.to_pylist()


def number_like(text: str) -> bool:
    """Whether a text is a number as people write it: 3,5 or 1.234,50 or 12 000."""
    return _WRITTEN_NUMBER.fullmatch(text.strip()) is not None


def plain_number(text: str) -> bool:
    """Whether a text is a number as programs write it."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def numbers_of(column: pa.ChunkedArray | pa.Array, name: str, role: str) -> np.ndarray:
    """A column of numbers, float64 [N], NaN where a cell is empty.

    Raises:
        UserError: the column holds something else, or an infinite value.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    kind = kind_of(array.type)
    if kind not in ("number", "empty"):
        texts = [str(value) for value in array.to_pylist() if value is not None]
        shown = next((text for text in texts if not plain_number(text)), next(iter(texts), ""))
        remedy = ""
        if number_like(shown) and not shown.isdigit():
            remedy = (
                " Write numbers without thousands separators (1234.5), or name their decimal sign (data.decimal=',' or"
                " '.')."
            )
        raise UserError(f"column {name!r} ({role}) must hold numbers; it holds {kind}, such as {shown!r}.{remedy}")
    values = pc.cast(array, pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    most = np.nanmax(np.abs(values), initial=0)
    if most > np.finfo(np.float32).max:
        what = "infinite values" if np.isinf(most) else f"numbers as large as {most:.1g}, above what can be learnt from"
        raise UserError(f"column {name!r} ({role}) holds {what}; write numbers, or leave the cells empty.")
    return values


def labels_of(table: pa.Table, roles: ExperimentRoles) -> Labels:
    """Arms and outcomes; a column that the table lacks is missing in every row."""
    there, N = set(table.column_names), len(table)
    if roles.treatment in there:
        code, values = text_codes(table.column(roles.treatment))
    else:
        code, values = np.zeros(N, np.int32), [""]
    outcome = np.full((N, len(roles.outcomes)), np.nan)
    for y, name in enumerate(roles.outcome_names):
        if name in there:
            outcome[:, y] = numbers_of(table.column(name), name, "outcome")
    return Labels(code, values, outcome)


def identifiers_of(table: pa.Table, column: str | None, first: int, whole: bool = True) -> np.ndarray:
    """The customer of each row: int64 [N], or objects [N] where not all of them are whole numbers.

    Args:
        table: some rows.
        column: of the identifier; None: the number of the row.
        first: number of the first row.
        whole: text of whole numbers becomes numbers; False where rows come in parts, which must be alike.

    Raises:
        UserError: an identifier is missing.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if column is None:
        return np.arange(first, first + len(table))
    array = table.column(column).combine_chunks()
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    empty = pc.is_null(array).to_numpy(zero_copy_only=False)
    if not pa.types.is_integer(array.type):
        text = as_text(array)
        empty |= pc.equal(text, "").to_numpy(zero_copy_only=False)
    if empty.any():
        raise UserError(
            f"column {column!r} (id) is empty in {int(empty.sum()):,} rows, the first is row"
            f" {first + int(empty.argmax()) + 1} of the table: every customer needs an identifier;"
            " data.roles.id=null numbers the rows."
        )
    if pa.types.is_integer(array.type):
        return array.cast(pa.int64()).to_numpy()
    if whole and pc.all(pc.match_substring_regex(text, _WHOLE_NUMBER)).as_py() is not False:
        return text.cast(pa.int64()).to_numpy()
    return text.to_numpy(zero_copy_only=False)


def key_of(identifiers: np.ndarray) -> np.ndarray:
    """63-bit hash of each identifier, int64 [N]. It depends on the value alone: 12 and "12" have the same."""
    if identifiers.dtype != object:
        return (mixed(identifiers) >> np.uint64(1)).view(np.int64)
    import pandas as pd
    import pyarrow as pa
    import pyarrow.compute as pc

    key = pd.util.hash_array(identifiers, hash_key=_HASH_KEY, categorize=False)
    whole = pc.match_substring_regex(pa.array(identifiers, pa.string()), _WHOLE_NUMBER).to_numpy(zero_copy_only=False)
    key[whole] = mixed(identifiers[whole].astype(np.int64))
    return (key >> np.uint64(1)).view(np.int64)


def arm_numbers(schema: UpliftSchema, roles: ExperimentRoles) -> dict[str, int]:
    """Value of the treatment column -> number of its arm in the schema.

    Raises:
        UserError: the roles name a control or an offer that the schema, a trained model's, does not have.
    """
    if roles.control != schema.arms[0]:
        raise UserError(
            f"data.roles.control={roles.control!r}, but the model was trained with control {schema.arms[0]!r}: name"
            " that one."
        )
    if roles.arms is None:
        return {name: k for k, name in enumerate(schema.arms)}
    for name in roles.arms:
        if name not in schema.arms:
            raise UserError(
                f"data.roles.arms names {name!r}, which the model was not trained with. {nearest(name, schema.arms)}"
            )
    return {roles.control: 0} | {v: schema.arms.index(name) for name, group in roles.arms.items() for v in group}


def treatment_of(labels: Labels, schema: UpliftSchema, roles: ExperimentRoles) -> np.ndarray:
    """Number of each row's arm, int64 [N]; -1 where it is missing or of a value that `roles.arms` leaves out.

    Raises:
        UserError: an arm that the schema does not have.
    """
    known = arm_numbers(schema, roles)
    present = np.unique(labels.code)
    for value in (labels.values[i] for i in present):
        if value and value not in known and roles.arms is None:
            raise UserError(
                f"column {schema.treatment!r} holds arm {value!r}, which the model was not trained with (it knows"
                f" {', '.join(schema.arms)}): take its rows out, list the arms to keep in data.roles.arms, or train"
                " anew."
            )
    table = np.array([known.get(value, -1) for value in labels.values] or [-1], np.int64)
    return table[labels.code]


def encode(
    table: pa.Table, schema: UpliftSchema, roles: ExperimentRoles, row: np.ndarray, key: np.ndarray
) -> ExperimentRows:
    """Some rows as a model reads them.

    Args:
        table: columns of features, and of labels and weight where there are any.
        schema: whose categories and arms count.
        roles: which column is what.
        row: int64 [N], places of the rows in the whole table.
        key: int64 [N], hashes of their identifiers.

    Returns:
        The rows; a value that training had not is category 0.

    Raises:
        UserError: text where training had numbers, an unknown arm, a weight that is not positive.
    """
    N, labels = len(table), labels_of(table, roles)
    numeric = np.empty((N, len(schema.numeric)), np.float32)
    for f, name in enumerate(schema.numeric):
        numeric[:, f] = numbers_of(table.column(name), name, "numeric feature")
    categorical = np.empty((N, len(schema.categorical)), np.int32)
    for j, name in enumerate(schema.categorical):
        code, values = text_codes(table.column(name))
        numbers = {value: i for i, value in enumerate(schema.categories[j], start=1)}
        categorical[:, j] = np.array([numbers.get(value, 0) for value in values] or [0], np.int32)[code]
    return ExperimentRows(
        row=row,
        key=key,
        numeric=numeric,
        categorical=categorical,
        treatment=treatment_of(labels, schema, roles),
        outcome=labels.outcome.astype(np.float32),
        weight=weight_of(table, roles, row),
    )


def weight_of(table: pa.Table, roles: ExperimentRoles, row: np.ndarray) -> np.ndarray:
    """How many customers each row stands for, float32 [N]; 1 without a column.

    Raises:
        UserError: a weight that is missing or not positive.
    """
    if roles.weight is None or roles.weight not in table.column_names:
        return np.ones(len(table), np.float32)
    values = numbers_of(table.column(roles.weight), roles.weight, "weight")
    bad = ~(values > 0)
    if bad.any():
        raise UserError(
            f"column {roles.weight!r} (weight), row {int(row[bad.argmax()]) + 1} of the table is"
            f" {values[bad.argmax()]:g}: a row stands for more than 0 customers."
        )
    return values.astype(np.float32)


def cost_of(table: pa.Table, roles: ExperimentRoles) -> np.ndarray:
    """Money spent on each row, float64 [N]; NaN where not known."""
    if roles.cost is None or roles.cost not in table.column_names:
        return np.full(len(table), np.nan)
    return numbers_of(table.column(roles.cost), roles.cost, "cost")
