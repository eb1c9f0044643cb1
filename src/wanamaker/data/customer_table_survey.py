"""One pass over the features of a table: categories, moments, and a sample of the training rows.

What is kept does not grow with the table: at most `SAMPLE` rows, drawn by a hash of their places.

Axis letters: N rows, F numeric features, J categorical features.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from wanamaker.data.customer_table_rows import Cells, numeric_feature
from wanamaker.data.customer_table_statistics import LabelStats, quantiles_of
from wanamaker.data.customer_table_survival import survival_at
from wanamaker.data.experiment_split import mixed
from wanamaker.data.experiment_survey import QUANTILES, SAMPLE, Moments
from wanamaker.data.experiment_table import text_codes
from wanamaker.data.propensity_batch import PropensityStats, SurvivalFeature
from wanamaker.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa


class FeatureSurvey:
    """Sees the blocks one after the other.

    Args:
        numeric: columns of numbers. categorical: J columns of names.
        curve: a further numeric feature, or None.
        stray: those of the numeric columns that are written as text.
        cells: how they are read.
        max_categories: of one column.
    """

    def __init__(
        self,
        numeric: tuple[str, ...],
        categorical: tuple[str, ...],
        curve: SurvivalFeature | None,
        stray: tuple[str, ...],
        cells: Cells,
        max_categories: int,
    ) -> None:
        self.columns, self.categorical, self.curve, self.cells = numeric, categorical, curve, cells
        self.numeric = numeric if curve is None else (*numeric, curve.name)
        self.max_categories = max_categories
        self.moments = Moments(len(self.numeric))
        self.categories: list[set[str]] = [set() for _ in categorical]
        self.blank = {name: [0, 0] for name in stray}  # column -> count, number of the first row
        self.train_rows = 0
        self.sample: list[tuple[pa.Table, np.ndarray]] = []

    def see(self, table: pa.Table, row: np.ndarray, train: np.ndarray) -> None:
        """Take in the next rows.

        Args:
            table: their columns.
            row: int64 [N], their places.
            train: bool [N], which of them are learnt from.

        Raises:
            UserError: a cell that cannot be read, in any row; too many names.
        """
        values = []
        for name in self.columns:
            numbers = numeric_feature(table, name, row, self.cells)
            if name in self.blank and (empty := np.isnan(numbers)).any():
                count, first = self.blank[name]
                self.blank[name] = [count + int(empty.sum()), first or int(row[empty.argmax()]) + 1]
            values.append(numbers[train])
        if self.curve is not None:
            age = numeric_feature(table, self.curve.column, row, self.cells)
            values.append(survival_at(self.curve, age[train]))
        if values:
            self.moments.add(np.stack(values, axis=1))
        places = np.flatnonzero(train)
        learnt = table if len(places) == len(table) else table.take(places)
        self.train_rows += len(places)
        for j, name in enumerate(self.categorical):
            self.categories[j].update(text_codes(learnt.column(name))[1])
            if len(self.categories[j]) > self.max_categories:
                raise UserError(
                    f"column {name!r} of {self.cells.source} has more than {self.max_categories:,} different names in"
                    f" {self.train_rows:,} training rows: a name that hardly repeats teaches nothing. Leave it out with"
                    f" data.roles.drop=[{name}], or raise data.max_categories."
                )
        self.sample.append((learnt, row[places]))
        if sum(len(part[1]) for part in self.sample) > 2 * SAMPLE:
            self.sample = [self.drawn()]

    def drawn(self) -> tuple[pa.Table, np.ndarray]:
        """The sampled rows and their places [sample]: those with the smallest hashes, in the order of these."""
        import pyarrow as pa

        row = np.concatenate([part[1] for part in self.sample])
        kept = np.argsort(mixed(row), kind="stable")[:SAMPLE]
        table = pa.concat_tables([part[0] for part in self.sample], promote_options="permissive")
        return table.take(kept).combine_chunks(), row[kept]

    def sorted_categories(self) -> tuple[tuple[str, ...], ...]:
        """[J], as `PropensitySchema.categories`."""
        return tuple(tuple(sorted(names)) for names in self.categories)

    def stats(self, sample: np.ndarray, labels: LabelStats) -> PropensityStats:
        """Of the training rows that were seen.

        Args:
            sample: [sample, F], of which quantiles are taken.
            labels: of all training rows.
        """
        return PropensityStats(
            mean=tuple(self.moments.mean.tolist()),
            sd=tuple(self.moments.sd.tolist()),
            missing=tuple((1 - self.moments.count / self.train_rows).tolist()),
            quantiles=tuple(quantiles_of(sample[:, f].astype(np.float64)) for f in range(len(self.numeric))),
            event_mean=(),
            event_sd=(),
            event_missing=(),
            event_quantiles=(),
            gap_quantiles=(0.0,) * (QUANTILES + 1),
            label_mean=labels.label_mean,
            label_sd=labels.label_sd,
            positive_share=labels.positive_share,
            hazard=labels.hazard,
            largest=labels.largest,
        )
