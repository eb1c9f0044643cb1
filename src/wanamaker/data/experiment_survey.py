"""One pass over a table: which rows are learnt, which arms, outcomes and categories there are, and the statistics.

A table in memory is one block; a streamed one comes block by block, and what is kept does not grow with it but for one
byte per row (its split) and at most `KEYS` hashes to find identifiers that repeat.

Axis letters: N rows, F numeric features, J categorical features, K arms, Y outcomes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from wanamaker.data.experiment_roles import ROW, ExperimentRoles, OutcomeRole
from wanamaker.data.experiment_split import NONE, TRAIN, mixed
from wanamaker.data.experiment_table import (
    Labels,
    cost_of,
    identifiers_of,
    key_of,
    labels_of,
    number_like,
    numbers_of,
    plain_number,
    text_codes,
    weight_of,
)
from wanamaker.data.uplift_batch import FeatureStats, Outcome, UpliftSchema
from wanamaker.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

KEYS = 1 << 24  # hashes kept to find repeated identifiers; of a larger table, those of every n-th customer
SAMPLE = 200_000  # rows of which quantiles are taken
QUANTILES = 64  # intervals between quantiles; 8, 16 and 32 are among them
_MANY, _MOST = 20, 0.9  # so many names of which so many are numbers: a column of numbers with a stray word
_DATE = re.compile(r"(\d{4}[-./]\d{1,2}[-./]\d{1,2}|\d{1,2}[-./]\d{1,2}[-./](\d{4}|\d{2}))(?!\d)")
_SHOWN = 30  # values of a column that a message may name
_RARE = 0.5  # share of zeros from which amounts are zero-inflated


class Moments:
    """Mean and spread of columns over blocks, NaN left out (Chan et al., 1983)."""

    def __init__(self, columns: int) -> None:
        self.count, self.mean, self.m2 = (np.zeros(columns) for _ in range(3))

    def add(self, values: np.ndarray) -> None:
        """Rows [N, columns]."""
        there = np.isfinite(values)
        block = Moments(values.shape[1])
        block.count = there.sum(axis=0)
        block.mean = np.where(there, values, 0).sum(axis=0) / np.maximum(block.count, 1)
        block.m2 = (np.where(there, values - block.mean, 0) ** 2).sum(axis=0)
        self.merge(block)

    def merge(self, other: Moments) -> None:
        """Take in what others counted."""
        total = self.count + other.count
        delta, part = other.mean - self.mean, other.count / np.maximum(total, 1)
        self.m2 = self.m2 + other.m2 + delta**2 * self.count * part
        self.mean = self.mean + delta * part
        self.count = total

    @property
    def sd(self) -> np.ndarray:
        """Standard deviation; 1 where it is not above rounding."""
        sd = np.sqrt(self.m2 / np.maximum(self.count, 1))
        return np.where(sd > 1e-7 * np.abs(self.mean), sd, 1.0)


@dataclass
class Survey:
    """What a pass over the table found.

    Attributes:
        codes: uint8 [N], index into `experiment_split.SPLITS`.
        schema: names; None where features were not looked at.
        stats: over the training rows; None likewise.
        sample: training rows, drawn by hash, at most `SAMPLE`; None likewise.
        sample_row: int64 [sample], their places. sample_key: int64 [sample], hashes of their identifiers.
        arm_count: int64 [K], labelled rows of each arm, all splits.
        train_count: int64 [K], training rows of each arm.
    """

    codes: np.ndarray
    schema: UpliftSchema | None = None
    stats: FeatureStats | None = None
    sample: pa.Table | None = None
    sample_row: np.ndarray | None = None
    sample_key: np.ndarray | None = None
    arm_count: np.ndarray | None = None
    train_count: np.ndarray | None = None


Splitter = Callable[["pa.Table", Labels, np.ndarray, np.ndarray], np.ndarray]


class Surveyor:
    """Sees the blocks one after the other.

    Args:
        roles: which column is what.
        source: name of the file, for messages.
        split: (block, labels, usable [N], key [N]) -> codes uint8 [N].
        numeric: F columns. categorical: J columns.
        allow_missing: rows without arm or outcome are left out instead of refused.
        allow_repeated: identifiers may repeat.
        max_categories: of one column.
    """

    def __init__(
        self,
        roles: ExperimentRoles,
        source: str,
        split: Splitter,
        numeric: tuple[str, ...] = (),
        categorical: tuple[str, ...] = (),
        *,
        allow_missing: bool = False,
        allow_repeated: bool = False,
        max_categories: int = 1000,
    ) -> None:
        self.roles, self.source, self.split = roles, source, split
        self.numeric, self.categorical = numeric, categorical
        self.allow_missing, self.allow_repeated, self.max_categories = allow_missing, allow_repeated, max_categories
        self.codes: list[np.ndarray] = []
        self.keys: list[np.ndarray] = []
        self.moments = Moments(len(numeric))
        self.rows = self.train_rows = self.left_out = 0
        self.categories: list[set[str]] = [set() for _ in categorical]
        self.outcomes = [_OutcomeRange() for _ in roles.outcomes]
        self.per_value: dict[str, tuple[list[int], Moments]] = {}
        self.unnamed: set[str] = set()  # values of the treatment column beside the arms, for messages
        self.sample: list[tuple[pa.Table, np.ndarray, np.ndarray]] = []

    # -- blocks --------------------------------------------------------------------------------------------------------

    def see(self, table: pa.Table, learn: bool = True, every: int = 1) -> None:
        """Take in the next rows.

        Args:
            table: their columns.
            learn: look at features and outcomes, too; otherwise at what decides the split alone.
            every: look for repeated identifiers among every n-th customer; 0 is none.
        """
        labels = labels_of(table, self.roles)
        usable = self._usable(labels)
        key = key_of(identifiers_of(table, self.roles.id, self.rows))
        codes = self.split(table, labels, usable, key)
        codes[~usable] = NONE
        self.codes.append(codes)
        if every and self.roles.id is not None and not self.allow_repeated:
            self.keys.append(key[key % every == 0])
        if learn:
            weight_of(table, self.roles, np.arange(self.rows, self.rows + len(table)))  # refuses what is not positive
            cost_of(table, self.roles)  # and this what is no number
            self._see_labels(labels, usable, codes == TRAIN)
            self._see_features(table, codes == TRAIN, key)
        self.rows += len(table)

    def _usable(self, labels: Labels) -> np.ndarray:
        """bool [N]: rows with an arm that counts and with all outcomes."""
        known = labels.known()
        if self.roles.arms is not None:
            named = {self.roles.control, *(v for group in self.roles.arms.values() for v in group)}
            counts = np.array([value in named or value == "" for value in labels.values], bool)[labels.code]
            self.unnamed.update(value for value in labels.values[:_SHOWN] if value not in named)
        else:
            counts = np.ones(len(known), bool)
        bad = ~known & counts
        if bad.any() and not self.allow_missing:
            first = int(bad.argmax())
            y = np.isfinite(labels.outcome[first]).argmin()
            empty = labels.values[labels.code[first]] == ""
            column = self.roles.treatment if empty else self.roles.outcome_names[y]
            role = "treatment" if empty else "outcome"
            raise UserError(
                f"column {column!r} ({role}) of {self.source} is empty in row {self.rows + first + 1} of the table"
                f" ({int(bad.sum()):,} such rows): nothing can be learnt from it. Fill it in, take the rows out, or let"
                " them be scored only with data.allow=[missing]."
            )
        self.left_out += int((~known | ~counts).sum())
        return known & counts

    def _see_labels(self, labels: Labels, usable: np.ndarray, train: np.ndarray) -> None:
        for y, seen in enumerate(self.outcomes):
            seen.add(labels.outcome[usable, y])
        for code, value in enumerate(labels.values):
            mine = usable & (labels.code == code)
            if mine.any():
                counts, moments = self.per_value.setdefault(value, ([0, 0], Moments(len(self.outcomes))))
                counts[0] += int(mine.sum())
                counts[1] += int((mine & train).sum())
                moments.add(labels.outcome[mine & train])

    def _see_features(self, table: pa.Table, train: np.ndarray, key: np.ndarray) -> None:
        places = np.flatnonzero(train)
        learnt = table if len(places) == len(table) else table.take(places)
        self.train_rows += len(places)
        # Of all rows, so that what cannot be read is told before training.
        values = [numbers_of(table.column(name), name, "numeric feature")[places] for name in self.numeric]
        if values:
            self.moments.add(np.stack(values, axis=1))
        for j, name in enumerate(self.categorical):
            self.categories[j].update(text_codes(learnt.column(name))[1])
            if len(self.categories[j]) > self.max_categories:
                raise UserError(
                    f"column {name!r} of {self.source} has more than {self.max_categories:,} different names in"
                    f" {self.train_rows:,} training rows: a name that hardly repeats teaches nothing. Leave it out with"
                    f" data.roles.drop=[{name}], or raise data.max_categories."
                )
        self._keep_sample(learnt, places + self.rows, key[places])

    def _keep_sample(self, table: pa.Table, row: np.ndarray, key: np.ndarray) -> None:
        self.sample.append((table, row, key))
        if sum(len(part[1]) for part in self.sample) > 2 * SAMPLE:
            self.sample = [self._thinned()]

    def _thinned(self) -> tuple[pa.Table, np.ndarray, np.ndarray]:
        """The sampled rows whose places have the smallest hashes, in the order of these: a random order."""
        import pyarrow as pa

        row = np.concatenate([part[1] for part in self.sample])
        key = np.concatenate([part[2] for part in self.sample])
        kept = np.argsort(mixed(row), kind="stable")[:SAMPLE]
        table = pa.concat_tables([part[0] for part in self.sample], promote_options="permissive")
        return table.take(kept).combine_chunks(), row[kept], key[kept]

    # -- the result ----------------------------------------------------------------------------------------------------

    def split_only(self) -> Survey:
        """Of blocks that were seen with `learn=False`.

        Raises:
            UserError: no rows.
        """
        if self.rows == 0:
            raise UserError(f"{self.source} has no rows.")
        return Survey(np.concatenate(self.codes) if self.codes else np.empty(0, np.uint8))

    def repeated(self) -> int | None:
        """The hash of an identifier that was met twice."""
        key = np.sort(np.concatenate(self.keys)) if self.keys else np.empty(0, np.int64)
        twice = np.flatnonzero(key[1:] == key[:-1])
        return int(key[twice[0]]) if len(twice) else None

    def result(self) -> Survey:
        """What all blocks together say.

        Raises:
            UserError: no rows, arms or outcomes that are not what was declared, an empty training split.
        """
        if self.rows == 0:
            raise UserError(f"{self.source} has no rows.")
        if not self.per_value:
            raise UserError(f"{self.source} has no row with both an arm and all outcomes; there is nothing to learn.")
        arms = self.roles.arm_values(self.per_value, self.source, sorted(self.unnamed))
        if self.train_rows == 0:
            raise UserError(f"No row of {self.source} is left to train on: lower data.split.val and data.split.test.")
        for name, found in zip(self.categorical, self.categories, strict=True):
            if name not in self.roles.categorical:
                _refuse_stray_words(name, found, self.source)
        outcomes = tuple(
            seen.outcome(role, self.source) for seen, role in zip(self.outcomes, self.roles.outcomes, strict=True)
        )
        schema = UpliftSchema(
            id=self.roles.id or ROW,
            treatment=self.roles.treatment,
            arms=tuple(arms),
            outcomes=outcomes,
            numeric=self.numeric,
            categorical=self.categorical,
            categories=tuple(tuple(sorted(names)) for names in self.categories),
            probabilities=self.roles.arm_probabilities(tuple(arms)),
        )
        sample, row, key = self._thinned()
        self.sample = []
        counts = np.array([[sum(self.per_value[v][0][i] for v in group) for group in arms.values()] for i in (0, 1)])
        return Survey(
            codes=np.concatenate(self.codes),
            schema=schema,
            stats=self._stats(arms, sample, counts[1]),
            sample=sample,
            sample_row=row,
            sample_key=key,
            arm_count=counts[0],
            train_count=counts[1],
        )

    def _stats(self, arms: Mapping[str, Iterable[str]], sample: pa.Table, train_count: np.ndarray) -> FeatureStats:
        at = np.linspace(0, 1, QUANTILES + 1)
        quantiles = []
        for name in self.numeric:
            values = numbers_of(sample.column(name), name, "numeric feature")
            values = values[np.isfinite(values)]
            quantiles.append(tuple(np.quantile(values, at).tolist()) if len(values) else (0.0,) * len(at))
        means, sds = [], []
        for group in arms.values():
            joined = Moments(len(self.outcomes))
            for value in group:
                joined.merge(self.per_value[value][1])
            means.append(tuple(joined.mean.tolist()))
            sds.append(tuple(np.where(joined.count > 0, joined.sd, 1.0).tolist()))
        return FeatureStats(
            mean=tuple(self.moments.mean.tolist()),
            sd=tuple(self.moments.sd.tolist()),
            missing=tuple((1 - self.moments.count / self.train_rows).tolist()),
            quantiles=tuple(quantiles),
            outcome_mean=tuple(means),
            outcome_sd=tuple(sds),
            arm_share=tuple((train_count / train_count.sum()).tolist()),
        )


def _refuse_stray_words(column: str, names: set[str], source: str) -> None:
    """A number column with "unknown" in one cell is text to a CSV reader, and its numbers would become mere names."""
    words = sorted(name for name in names if name and not plain_number(name))
    count = len(names - {""})
    if count >= _MANY and all(map(_DATE.match, names - {""})):
        raise UserError(
            f"column {column!r} of {source} holds dates, such as {words[0]!r}, which are no feature: write the days up"
            f" to the start of the campaign instead, or leave it out with data.roles.drop=[{column}]."
        )
    if count >= _MANY and all(map(number_like, names - {""})) and words:
        raise UserError(
            f"column {column!r} of {source} holds numbers written as {words[0]!r}: write them without thousands"
            " separators (1234.5), or name their decimal sign (data.decimal=',' or '.'). If they are names, list the"
            " column in data.roles.categorical."
        )
    if words and count >= _MANY and count - len(words) >= _MOST * count:
        raise UserError(
            f"column {column!r} of {source} holds {words[0]!r} among numbers: leave such cells empty, or list the"
            " column in data.roles.categorical if its numbers are names."
        )


class _OutcomeRange:
    """What values an outcome takes."""

    def __init__(self) -> None:
        self.count = self.zeros = 0
        self.low, self.high = np.inf, -np.inf
        self.other: float | None = None  # the first value beside 0 and 1

    def add(self, values: np.ndarray) -> None:
        if not len(values):
            return
        self.count += len(values)
        self.zeros += int((values == 0).sum())
        self.low, self.high = min(self.low, values.min()), max(self.high, values.max())
        other = (values != 0) & (values != 1)
        if self.other is None and other.any():
            self.other = float(values[other.argmax()])

    def outcome(self, role: OutcomeRole, source: str) -> Outcome:
        """Name and kind.

        Raises:
            UserError: the values are not what was declared, or all the same.
        """
        place = f"column {role.name!r} (outcome) of {source}"
        if self.low == self.high:
            raise UserError(
                f"{place} is {self.low:g} in all {self.count:,} rows: there is nothing to explain. Check"
                " data.roles.outcomes."
            )
        if role.kind == "binary" and self.other is not None:
            raise UserError(
                f"{place} is declared binary but holds {self.other:g}: write 0 and 1, or declare kind: continuous or"
                " zero_inflated."
            )
        if role.kind == "zero_inflated" and self.low < 0:
            raise UserError(
                f"{place} is declared zero_inflated but holds {self.low:g}: amounts are 0 or positive; net out refunds,"
                " or declare kind: continuous."
            )
        found = "binary" if self.other is None else "continuous"
        if found == "continuous" and self.low >= 0 and self.zeros >= _RARE * self.count:
            found = "zero_inflated"
        return Outcome(role.name, role.kind or found, role.unit)
