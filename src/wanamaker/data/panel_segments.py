"""Customer segments as a level of a panel: every series learns from those with customers like its own.

    segments:
      path: customers.csv              a row per customer, CSV (UTF-8, commas) or Parquet
      features: [age, annual_income]   columns of numbers to group customers by
      clusters: 5
      scale: minmax                    or standard, none
      key: {geo: city}                 series column of the panel: column of the customers' file
      seed: 42

Customers are grouped by k-means (`segment_customers`), each is joined to the series it belongs to through `key`, and a
series takes the segment that most of its customers are in (of several, the one with the lowest number). With some of
several series columns as the key (a store, of stores x brands), a customer belongs to every series that has its value.

The join is what makes segments mean something. A panel has a row per series and week, a customer file one per person:
row 7 of the one has nothing to do with row 7 of the other, and segments that are joined by row number are noise,
however convincing their coefficients look.

Axis letters: N customers, G series, K segments.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from wanamaker.data.customer_segments import CustomerSegments, check_clustering, segment_customers
from wanamaker.data.media_panel import MediaPanel, PanelSchema
from wanamaker.data.panel_options import options_of
from wanamaker.data.panel_roles import PanelRoles, nearest
from wanamaker.data.panel_source import PanelSource, as_numbers, as_text
from wanamaker.data.panel_window import with_levels
from wanamaker.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

LEVEL = "segment"
_JOIN = " | "  # between the parts of a series' name
_LISTED = 5
_DEFAULTS: dict[str, Any] = {
    "path": None,
    "features": None,
    "clusters": 5,
    "scale": "minmax",
    "key": None,
    "seed": 42,
}


def parse_segments(segments: Mapping[str, Any] | None, roles: PanelRoles) -> dict[str, Any] | None:
    """Check the `segments` of a data config without reading a file.

    Args:
        segments: null, or a mapping as above; `path`, `features` and `key` must be given.
        roles: Of the panel.

    Returns:
        All options, with their defaults; None for no segments.

    Raises:
        UserError: an unknown or missing option, no key, a key that is no series column, or a level of that name.
    """
    if segments is None:
        return None
    options = options_of("data.segments", segments, _DEFAULTS, ("path", "features"))
    check_clustering(options["features"], options["clusters"], options["scale"], options["seed"])
    if LEVEL in roles.hierarchy:
        raise UserError(_CLASH.format("roles.hierarchy"))
    _check_key(options["key"], roles)
    return options


_CLASH = "data.segments adds a level named 'segment', but {} has one of that name; rename that one."


def _check_key(key: Any, roles: PanelRoles) -> None:
    if not roles.series:
        raise UserError(
            "data.segments: the panel is one national series (roles.series=[]), to which every customer belongs:"
            " segments cannot tell anything apart. Bring a panel by geo or store, or set data.segments=null."
        )
    if key is None or key == {}:
        raise UserError(
            "data.segments.key is missing. Customers and the weeks of a series are different things: joining them by"
            " row number, as was done in earlier systems, makes noise look like segments. What is needed is a column"
            " of the customers' file that names each customer's series, and the series column it goes with:"
            f" data.segments.key={{{roles.series[0]}: COLUMN}}. Without such a column, set data.segments=null."
        )
    if not isinstance(key, Mapping):
        raise UserError(
            f"data.segments.key={key!r}; map a series column of the panel to a column of the customers' file, such as"
            f" {{{roles.series[0]}: city}}."
        )
    for column, theirs in key.items():
        if roles.date.column in (column, theirs):
            raise UserError(
                f"data.segments.key={dict(key)}: {roles.date.column!r} is the date of the panel. A customer has no"
                " date: all customers of a day would be given to all series of that day, whoever they are. Name the"
                f" column that says which series ({', '.join(roles.series)}) a customer belongs to."
            )
        if column not in roles.series:
            raise UserError(
                f"data.segments.key names {column!r}, which is no series column of the panel (roles.series)."
                f" {nearest(column, roles.series)}"
            )


def check_customers(options: Mapping[str, Any]) -> None:
    """Make sure that the customers' file is there and has the columns; reads no rows.

    Raises:
        UserError: naming what is missing.
    """
    _source(options)


def _source(options: Mapping[str, Any]) -> PanelSource:
    source = PanelSource(options["path"])
    key = {column: f"key of {ours}" for ours, column in options["key"].items()}
    columns = dict.fromkeys(options["features"], "feature") | key
    lines = source.require(list(columns), columns)
    if lines:
        raise UserError("\n  ".join([f"data.segments.path={source.name} does not have what is needed:", *lines]))
    return source


def read_customers(options: Mapping[str, Any]) -> pd.DataFrame:
    """Features as numbers (NaN where a cell is empty) and keys as text; a row per customer, indexed by the file's row.

    Args:
        options: From `parse_segments`.

    Raises:
        UserError: a missing file or column, no customer, or a feature that is text.
    """
    import pandas as pd

    source = _source(options)
    features, keys = list(options["features"]), list(dict.fromkeys(options["key"].values()))
    both = [name for name in features if name in keys]
    if both:
        raise UserError(f"data.segments: {both[0]!r} is a feature and a key; a name of a series is no number.")
    parts: dict[str, list[np.ndarray]] = {name: [] for name in [*features, *keys]}
    rows = 0
    for batch in source.batches(keys, features, as_text=True):
        for name in keys:
            parts[name].append(np.array(as_text(batch.column(name)).to_pylist(), dtype=object))
        for name in features:
            column = batch.column(name)
            numbers, bad = as_numbers(column)
            if len(bad):
                raise UserError(
                    f"data.segments.features: {name!r} is {column[int(bad[0])].as_py()!r} in row"
                    f" {source.file_row(rows + int(bad[0]))} of {source.name}, which is no number; give 0 or 1 for"
                    " yes-or-no features, and leave other text out."
                )
            parts[name].append(numbers)
        rows += batch.num_rows
    if rows == 0:
        raise UserError(f"data.segments.path={source.name} has a header and no customers.")
    frame = pd.DataFrame({name: np.concatenate(arrays) for name, arrays in parts.items()})
    frame.index = pd.Index([source.file_row(i) for i in range(rows)], name="row")
    return frame


def with_segments(
    panel: MediaPanel, options: Mapping[str, Any], roles: PanelRoles, excluded: Sequence[str] = ()
) -> tuple[MediaPanel, CustomerSegments]:
    """The panel with a level `segment`, and the segments themselves.

    Args:
        panel: The panel.
        options: From `parse_segments`.
        roles: Of the panel.
        excluded: Series of the file that were left out; their customers help to find the segments.

    Raises:
        UserError: customers of unknown series, series without customers, a level of that name, or what
            `segment_customers` and `read_customers` find.
    """
    schema = panel.schema
    if LEVEL in schema.levels:
        raise UserError(_CLASH.format("data.levels"))
    frame = read_customers(options)
    key: Mapping[str, str] = options["key"]
    columns = [column for column in roles.series if column in key]  # in the order of the names' parts
    theirs = frame[key[columns[0]]]
    for column in columns[1:]:
        theirs = theirs + _JOIN + frame[key[column]]
    ours = _key_values(schema.series, columns, roles.series)
    named = " x ".join(repr(key[column]) for column in columns)
    _require_known(theirs, [*ours, *_key_values(excluded, columns, roles.series)], named, options["path"])
    lonely = [name for name, value in zip(schema.series, ours, strict=True) if value not in set(theirs)]
    if lonely:
        raise UserError(
            f"data.segments: {len(lonely)} of {len(ours)} series have no customer in {options['path']} (column"
            f" {named}): {_listed(lonely)}. Bring customers for them, or leave them out with"
            f" data.exclude_series=['{lonely[0]}', ...]."
        )
    found = segment_customers(frame, options["features"], options["clusters"], options["scale"], options["seed"])
    # Customers per key value and segment; argmax takes the first of equals.
    counts = {value: np.zeros(len(found.sizes), np.int64) for value in set(theirs)}
    for value, label in zip(theirs, found.labels, strict=True):
        counts[value][label] += 1
    groups: dict[str, list[str]] = {}
    for name, value in zip(schema.series, ours, strict=True):
        groups.setdefault(found.names[int(counts[value].argmax())], []).append(name)
    return with_levels(panel, {LEVEL: groups}), found


def _key_values(series: Sequence[str], columns: Sequence[str], all_columns: Sequence[str]) -> list[str]:
    """What each series has in the key columns, joined as in a series' name."""
    if len(columns) == len(all_columns):
        return list(series)
    values = []
    for name in series:
        parts = name.split(_JOIN)
        if len(parts) != len(all_columns):
            raise UserError(
                f"data.segments.key: the parts of the series {name!r} cannot be told apart, because one of them holds"
                f" {_JOIN!r}; name all series columns in the key ({', '.join(all_columns)})."
            )
        values.append(_JOIN.join(parts[all_columns.index(column)] for column in columns))
    return values


def _require_known(theirs: pd.Series, known: Sequence[str], named: str, path: str) -> None:
    strangers = theirs[~theirs.isin(set(known))]
    if len(strangers):
        values = list(dict.fromkeys(strangers))
        shown = ", ".join(repr(value) for value in values[:_LISTED])
        more = f" and {len(values) - _LISTED} more" if len(values) > _LISTED else ""
        raise UserError(
            f"data.segments.key: {len(strangers)} of {len(theirs)} customers of {path} belong to no series of the"
            f" panel: {named} is {shown}{more}, first in row {strangers.index[0]}."
            f" {nearest(values[0], dict.fromkeys(known))} Mend the column, or leave these customers out of the file."
        )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_LISTED]) + (f" and {len(names) - _LISTED} more" if len(names) > _LISTED else "")


def tell_segments(found: CustomerSegments, schema: PanelSchema) -> None:
    """Log what the segments are and which series they have the most customers in."""
    level = schema.levels[LEVEL]
    log.info(
        "%d customers in %d segments by %s, silhouette %.2f:",
        *(len(found.labels), len(found.sizes), ", ".join(found.features), found.silhouette),
    )
    for name, size, centroid in zip(found.names, found.sizes, found.centroids, strict=True):
        means = ", ".join(f"{feature} {value:.4g}" for feature, value in zip(found.features, centroid, strict=True))
        theirs = [schema.series[g] for g, group in enumerate(level.of_series) if level.groups[group] == name]
        where = f"most customers of {_listed(theirs)}" if theirs else "nowhere the most customers"
        log.info("  %s: %d customers, %s; %s", name, size, means, where)
    if len(level.groups) == 1:
        log.warning(
            "data.segments: %s has the most customers in every series, so that it groups nothing; try more clusters or"
            " other features.",
            level.groups[0],
        )
