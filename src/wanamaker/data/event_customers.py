"""What is known of customers beside their events: a table with one row each.

Axis letters: N customers of the table, M customers of a bucket, E events.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from wanamaker.data.customer_table_cells import moments_in, numbers_in
from wanamaker.data.event_bucket import EventBucket
from wanamaker.data.event_history import Names, names_of
from wanamaker.data.event_roles import CustomerRoles
from wanamaker.data.experiment_source import ExperimentSource
from wanamaker.data.experiment_table import feature_kinds, identifiers_of, key_of
from wanamaker.data.propensity_batch import PropensitySchema
from wanamaker.errors import UserError

NEVER = np.iinfo(np.int64).max  # a moment from which a customer of no table is known without an event


class CustomerTable:
    """Features of customers that do not change, and from when each was known.

    Args:
        roles: which column is what.
        id: column of the log that tells customers, where the roles name none.
        encoding, delimiter, decimal: of a CSV file.
        model: whose features are read, as numbers or names as it knows them; None: as the table has them.

    Attributes:
        ids: int64 or objects [N].
        since: int64 [N], microseconds since 1970 from which they were known.
        numeric: column -> float64 [N]. words: column -> names [N].

    Raises:
        UserError: a missing file or column, an empty or repeated identifier, a cell that cannot be read.
    """

    def __init__(
        self,
        roles: CustomerRoles,
        id: str,
        encoding: str = "utf-8",
        delimiter: str | None = None,
        decimal: str = ".",
        model: PropensitySchema | None = None,
    ) -> None:
        source = ExperimentSource(Path(roles.path), encoding, delimiter, decimal)
        key = roles.id or id
        declared = [key, *([roles.since] if roles.since else []), *(roles.features or ())]
        declared += [*roles.categorical, *roles.drop] if model is None else []
        if missing := source.missing(declared):
            raise UserError(f"{source.name} (data.customers) has no column {missing[0]!r}. {source.hint(missing[0])}")
        apart = {key, roles.since, *roles.drop}
        features = roles.features if roles.features is not None else [c for c in source.columns if c not in apart]
        if model is not None:
            features = [c for c in source.columns if c not in apart and c in (*model.numeric, *model.categorical)]
        table = source.read(
            [key, *([roles.since] if roles.since else []), *features], [key, *([roles.since] if roles.since else [])]
        )
        if not len(table):
            raise UserError(f"{source.name} (data.customers) has a header and no rows; export it again.")
        self.ids = identifiers_of(table, key, 0)
        hashed = np.sort(key_of(self.ids))
        if (hashed[1:] == hashed[:-1]).any():
            again = int(np.flatnonzero(np.isin(key_of(self.ids), hashed[1:][hashed[1:] == hashed[:-1]]))[1])
            raise UserError(
                f"{source.name} (data.customers): {self.ids[again]} stands there twice, again in row {again + 1} of the"
                " table; give every customer one row."
            )
        row = np.arange(len(table))
        if roles.since is None:
            self.since = np.full(len(table), np.iinfo(np.int64).min)
        else:
            known = moments_in(table.column(roles.since), roles.since, row, source.name)
            if np.isnat(known).any():
                raise UserError(
                    f"{source.name} (data.customers): column {roles.since!r} (since) is empty in row"
                    f" {int(np.isnat(known).argmax()) + 1} of the table; fill it in or take the customer out."
                )
            self.since = known.astype("datetime64[us]").astype(np.int64)
        if model is None:
            kinds = {name: _kind(table, name) for name in features}
            try:
                numeric, words = feature_kinds(features, kinds, roles.categorical, source.name)
            except UserError as error:  # it knows the roles of another kind of table
                raise UserError(str(error).replace("data.roles.", "data.customers.")) from error
        else:
            numeric = tuple(name for name in features if name in model.numeric)
            words = tuple(name for name in features if name in model.categorical)
        self.numeric = {
            name: numbers_in(table.column(name), name, "numeric feature", row, source.name, decimal) for name in numeric
        }
        self.words = {name: _words(table, name) for name in words}

    def place_of(self, ids: np.ndarray) -> np.ndarray:
        """Row of the table of some customers, int64 [M]; -1 for those it does not have."""
        if not len(self.ids):
            return np.full(len(ids), -1)
        hashed = key_of(self.ids)
        order = np.argsort(hashed)
        wanted = key_of(ids)
        place = np.minimum(np.searchsorted(hashed, wanted, sorter=order), len(order) - 1)
        found = order[place]
        return np.where(hashed[found] == wanted, found, -1)


def _kind(table: object, name: str) -> str:
    from wanamaker.data.experiment_source import kind_of

    return kind_of(table.column(name).type)


def _words(table: object, name: str) -> Names:
    from wanamaker.data.panel_source import as_text

    return names_of(as_text(table.column(name).combine_chunks()))


def with_customers(bucket: EventBucket, ids: np.ndarray) -> EventBucket:
    """A bucket in which customers without events have a place, too.

    Args:
        bucket: of events.
        ids: of customers, those of the bucket among them or not.
    """
    own = bucket.ids
    if own.dtype != ids.dtype:
        own, ids = own.astype(str).astype(object), ids.astype(str).astype(object)
    everyone = np.union1d(own, ids)
    place = np.searchsorted(everyone, own)
    owner = place[bucket.owner]
    order = np.argsort(owner, kind="stable")
    offsets = np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=len(everyone)))]).astype(np.int64)
    if (np.diff(place) > 0).all():  # the order of customers is the same
        return EventBucket(everyone, offsets, bucket.columns)
    return EventBucket(everyone, offsets, {name: column.take(order) for name, column in bucket.columns.items()})
