"""Customer segments by k-means: groups of customers who are alike, numbered so that the numbers mean something.

Axis letters: N customers, F features, K segments.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from wanamaker.data.panel_roles import nearest
from wanamaker.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

SCALES = ("minmax", "standard", "none")
_STARTS = 10  # of k-means, of which the best counts
_ELBOW = 10  # largest number of clusters whose WCSS is told
_SILHOUETTE_SAMPLE = 10_000  # customers; the silhouette compares every one with every other


@dataclass(frozen=True)
class CustomerSegments:
    """What `segment_customers` finds.

    Attributes:
        features: F names.
        labels: int64 [N], segment of each customer, 0..K-1.
        centroids: float64 [K, F], mean of each segment's customers in the units of the file; ascending in the first
            feature (then the second, ...), which is what numbers the segments.
        sizes: int64 [K], customers per segment.
        inertia: sum of squared distances to the own centroid, of scaled features.
        silhouette: mean silhouette coefficient (Rousseeuw 1987), -1..1, of scaled features; of a seeded sample where
            there are more than 10,000 customers; NaN where every customer is a segment of its own.
        wcss: float64 [at most 10], the inertia with 1, 2, ... clusters (the "elbow"), as many as there are distinct
            customers.
    """

    features: tuple[str, ...]
    labels: np.ndarray
    centroids: np.ndarray
    sizes: np.ndarray
    inertia: float
    silhouette: float
    wcss: np.ndarray

    @property
    def names(self) -> tuple[str, ...]:
        """K names, `segment_1`, ...; with leading zeros where there are ten or more, so that they sort."""
        width = len(str(len(self.sizes)))
        return tuple(f"segment_{k + 1:0{width}d}" for k in range(len(self.sizes)))


def segment_customers(
    frame: pd.DataFrame, features: Sequence[str], clusters: int = 5, scale: str = "minmax", seed: int = 42
) -> CustomerSegments:
    """Group customers by k-means (Lloyd's algorithm from ten k-means++ starts, scikit-learn).

    Args:
        frame: A row per customer.
        features: Columns of numbers to group by.
        clusters: K, 2 or more.
        scale: `minmax` brings every feature to 0..1, `standard` to mean 0 and standard deviation 1, `none` leaves the
            units of the file, in which the feature with the largest numbers decides.
        seed: Of the starts.

    Raises:
        UserError: a missing column, one that is no number, is empty somewhere or the same for all, or more clusters
            than there are distinct customers.
    """
    from sklearn.cluster import KMeans
    from sklearn.metrics import silhouette_score

    check_clustering(features, clusters, scale, seed)
    values = _numbers(frame, features)  # [N, F]
    distinct = len(np.unique(values, axis=0))
    if clusters > distinct:
        raise UserError(
            f"data.segments.clusters={clusters}, but there are {distinct} distinct customers by {', '.join(features)};"
            f" set data.segments.clusters={distinct} or fewer, or bring more features."
        )
    scaled = _scaled(values, features, scale)
    best = KMeans(clusters, n_init=_STARTS, random_state=seed).fit(scaled)
    centroids = np.stack([values[best.labels_ == k].mean(axis=0) for k in range(clusters)])
    order = np.lexsort(centroids.T[::-1])  # by the first feature, then the second, ...
    number = np.empty(clusters, np.int64)
    number[order] = np.arange(clusters)
    labels = number[best.labels_]
    silhouette = float("nan")
    if clusters < len(values):
        sample = _SILHOUETTE_SAMPLE if len(values) > _SILHOUETTE_SAMPLE else None
        silhouette = float(silhouette_score(scaled, labels, sample_size=sample, random_state=seed))
    wcss = [
        KMeans(k, n_init=_STARTS, random_state=seed).fit(scaled).inertia_ for k in range(1, min(_ELBOW, distinct) + 1)
    ]
    return CustomerSegments(
        features=tuple(features),
        labels=labels,
        centroids=centroids[order],
        sizes=np.bincount(labels, minlength=clusters),
        inertia=float(best.inertia_),
        silhouette=silhouette,
        wcss=np.array(wcss, np.float64),
    )


def check_clustering(features: Sequence[str], clusters: int, scale: str, seed: int) -> None:
    """Check the options of `segment_customers` without a customer.

    Raises:
        UserError: naming the option.
    """
    if isinstance(features, str) or not isinstance(features, Sequence) or not features:
        raise UserError(f"data.segments.features={features!r}; list columns of numbers, such as [age, income].")
    if len(set(features)) < len(features):
        raise UserError(f"data.segments.features={list(features)} names a column twice.")
    if isinstance(clusters, bool) or not isinstance(clusters, int) or clusters < 2:
        raise UserError(f"data.segments.clusters={clusters!r}; give a number of segments, 2 or more.")
    if scale not in SCALES:
        raise UserError(f"data.segments.scale={scale!r}; choose from {', '.join(SCALES)}.")
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise UserError(f"data.segments.seed={seed!r}; give a whole number, 0 or more.")


def _numbers(frame: pd.DataFrame, features: Sequence[str]) -> np.ndarray:
    """Features as float64 [N, F]."""
    import pandas as pd

    missing = [name for name in features if name not in frame.columns]
    if missing:
        raise UserError(f"data.segments.features: {missing[0]!r} is no column. {nearest(missing[0], frame.columns)}")
    columns = []
    for name in features:
        column = pd.to_numeric(frame[name], errors="coerce").to_numpy(np.float64)
        bad = np.flatnonzero(~np.isfinite(column))
        if len(bad):
            cell = frame[name].iloc[bad[0]]
            shown = "an empty cell" if pd.isna(cell) else repr(str(cell))
            raise UserError(
                f"data.segments.features: {name!r} has no number for {len(bad)} of {len(column)} customers, first"
                f" {shown} in row {frame.index[bad[0]]}; complete them, or leave the customers or the feature out. A"
                " guessed value would put them in a segment by guess."
            )
        columns.append(column)
    return np.stack(columns, axis=1)


def _scaled(values: np.ndarray, features: Sequence[str], scale: str) -> np.ndarray:
    spread = np.ptp(values, axis=0)
    if (spread == 0).any():
        name = features[int(np.flatnonzero(spread == 0)[0])]
        raise UserError(f"data.segments.features: {name!r} is the same for all customers; leave it out.")
    if scale == "minmax":
        return (values - values.min(axis=0)) / spread
    if scale == "standard":
        return (values - values.mean(axis=0)) / values.std(axis=0)
    return values
