"""What predictions with one row per customer share: joining, choosing, writing in parts and reading again.

Axis letters: N rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from wanamaker.predictions.artefact import describe, read_kind
from wanamaker.predictions.parts_writer import PartsWriter

if TYPE_CHECKING:
    import pyarrow as pa


class RowPredictions:
    """Arrays with a row per customer, and words that hold for all rows. Subclasses are frozen dataclasses.

    Attributes:
        kind, schema_version, file_name: as `artefact.prediction_kind` wants them.
        maker: what makes this kind, for messages, such as "an uplift model".
        per_row: names of the arrays, [N, ...]; among them ``row``, which ascends, each number once.
        shared: names of what holds for all rows.
        same_model: of `shared`, those in which parts must agree to be joined.
        finite: of `per_row`, those that must be finite.
        whole_numbers: of `per_row`, those with further axes that are int64; the others with such axes are floats.
        few_values: Parquet columns with few different values, which are written as a dictionary; for the others it
            would be tried in vain.
    """

    kind: ClassVar[str]
    schema_version: ClassVar[int]
    file_name: ClassVar[str]
    maker: ClassVar[str]
    per_row: ClassVar[tuple[str, ...]]
    shared: ClassVar[tuple[str, ...]]
    same_model: ClassVar[tuple[str, ...]]
    finite: ClassVar[tuple[str, ...]]
    whole_numbers: ClassVar[tuple[str, ...]] = ()
    few_values: ClassVar[tuple[str, ...]] = ()

    row: np.ndarray

    @classmethod
    def axes(cls, header: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
        """Sizes of the axes behind N, of the arrays that have such axes.

        Args:
            header: as `header` gives it.
        """
        raise NotImplementedError

    def header(self) -> dict[str, Any]:
        """What stands in the file beside its columns: enough to know `axes`."""
        return self._shared()

    @classmethod
    def words(cls, header: Mapping[str, Any]) -> dict[str, Any]:
        """`shared` by name, from a header that was JSON."""
        known = {name: header[name] for name in cls.shared if name in header}
        return {name: tuple(value) if isinstance(value, list) else value for name, value in known.items()}

    def __post_init__(self) -> None:
        """Refuse arrays that do not fit each other.

        Raises:
            ValueError: a shape, rows that do not ascend, numbers that are not finite.
        """
        name = type(self).__name__
        axes = self.axes(self.header())
        for column in self.per_row:
            shape = (len(self.row), *axes.get(column, ()))
            if getattr(self, column).shape != shape:
                raise ValueError(f"{name}.{column} has shape {getattr(self, column).shape}, expected {shape}.")
        if not _ascends(self.row):
            raise ValueError(f"{name}.row must ascend, each row once; join parts with concat.")
        for column in self.finite:
            if not np.isfinite(getattr(self, column)).all():
                raise ValueError(
                    f"{name}.{column} is not all finite. The weights have probably diverged: look at the "
                    "training loss, lower the learning rate."
                )

    def __len__(self) -> int:
        return len(self.row)

    def to(self, *_device: Any, **_options: Any) -> Self:
        """Itself, because arrays live on the CPU: Lightning moves what `predict_step` returns, and looks for this."""
        return self

    @classmethod
    def concat(cls, parts: Iterable[Self]) -> Self:
        """Join parts (batches, ranks); a row that several parts have is taken from the first.

        Raises:
            ValueError: no part, or parts of different models.
        """
        parts = list(parts)
        if not parts:
            raise ValueError("Nothing to join: concat needs at least one part (did the loader yield no batch?).")
        first = parts[0]
        if len(parts) == 1:
            return first
        if any(getattr(part, name) != getattr(first, name) for part in parts[1:] for name in cls.same_model):
            raise ValueError("Parts of different models cannot be joined.")
        joined = {name: np.concatenate([getattr(part, name) for part in parts]) for name in cls.per_row}
        if not _ascends(joined["row"]):
            _, keep = np.unique(joined["row"], return_index=True)
            joined = {name: column[keep] for name, column in joined.items()}
        return cls(**joined, **first._shared())

    def select(self, keep: np.ndarray) -> Self:
        """The rows at ``keep`` (mask or ascending indices)."""
        return type(self)(**{name: getattr(self, name)[keep] for name in self.per_row}, **self._shared())

    def _shared(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.shared}

    # -- files ---------------------------------------------------------------------------------------------------------

    def table(self) -> pa.Table:
        """A row per customer, described by the header; arrays of a customer are lists of fixed length."""
        import pyarrow as pa

        columns: dict[str, Any] = {}
        for name in self.per_row:
            value = getattr(self, name)
            if value.ndim == 1:
                columns[name] = pa.array(value.tolist() if value.dtype == object else value)
            elif width := int(np.prod(value.shape[1:])):  # a list of no numbers has no place in a Parquet file
                flat = np.ascontiguousarray(value).reshape(-1)
                columns[name] = pa.FixedSizeListArray.from_arrays(pa.array(flat), width)
        return describe(pa.table(columns), kind=self.kind, schema_version=self.schema_version, header=self.header())

    def write(self, folder: Path | str) -> Path:
        """Write ``<folder>/<file_name>`` atomically."""
        with self.writer(folder) as writer:
            writer.add(self)
        return writer.path

    @classmethod
    def writer(cls, folder: Path | str) -> PartsWriter:
        """A context to which parts are added in turn; ``<folder>/<file_name>`` is there when it is left."""
        return PartsWriter(cls, folder, dictionary=cls.few_values)

    @classmethod
    def read(cls, path: Path | str) -> Self:
        """Read what `write` wrote, from the Parquet file or its folder.

        Raises:
            UserError: not there, damaged, or predictions of another kind.
        """
        return read_kind(cls, path, cls.maker)

    @classmethod
    def from_table(cls, table: pa.Table, header: Mapping[str, Any], path: Path) -> Self:
        """Rebuild from the rows and the header; `read_predictions` calls this."""
        axes = cls.axes(header)
        columns: dict[str, np.ndarray] = {}
        for name in cls.per_row:
            if name not in axes:
                value = table.column(name).combine_chunks().to_numpy(zero_copy_only=False)
                # Parquet knows no seconds.
                columns[name] = value.astype("datetime64[s]") if value.dtype.kind == "M" else value
                continue
            shape = (len(table), *axes[name])
            if 0 in axes[name]:  # has no column in the file
                columns[name] = np.zeros(shape, np.int64 if name in cls.whole_numbers else np.float32)
                continue
            column = table.column(name).combine_chunks()
            columns[name] = column.flatten().to_numpy(zero_copy_only=False).reshape(shape)
        return cls(**columns, **cls.words(header))


def _ascends(row: np.ndarray) -> bool:
    return bool((np.diff(row) > 0).all())
