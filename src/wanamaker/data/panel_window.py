"""What of a panel a run uses: series left out, periods that are history only, masked KPIs, divided national spend.

Those functions return a panel and leave the given one alone. Arrays that do not change are shared; cutting periods
makes views.

Axis letters: G series, T periods, C media channels, H periods before the first.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from wanamaker.data.media_panel import Level, MediaPanel, PanelSchema
from wanamaker.errors import UserError


def without_series(panel: MediaPanel, names: Sequence[str], national: np.ndarray) -> MediaPanel:
    """The panel without the named series.

    Args:
        panel: The panel.
        names: Series to leave out.
        national: bool [C], channels whose money is one national amount, divided over the series: the others take over
            what the named ones had of it, in proportion to their own.

    Raises:
        UserError: there is no such series, or none would be left.
    """
    if not names:
        return panel
    schema = panel.schema
    for name in names:
        if name not in schema.series:
            raise UserError(f"data.exclude_series: {_unknown(name, schema.series)}")
    keep = np.array([g for g, name in enumerate(schema.series) if name not in set(names)], np.int64)
    if len(keep) == 0:
        raise UserError("data.exclude_series names every series of the panel; leave at least one.")
    levels = {}
    for level, groups in schema.levels.items():
        kept = [groups.groups[groups.of_series[g]] for g in keep]
        left = tuple(name for name in groups.groups if name in kept)
        levels[level] = Level(left, tuple(left.index(name) for name in kept))
    schema = replace(
        schema,
        series=tuple(schema.series[g] for g in keep),
        levels=levels,
        own_price=tuple(schema.own_price[g] for g in keep) if schema.own_price else (),
    )
    media = panel.media[keep]
    arrays = {name: getattr(panel, name)[keep] for name in ("kpi", "lead_in", "price", "promotion", "control")}
    arrays |= {
        name: None if getattr(panel, name) is None else getattr(panel, name)[keep]
        for name in ("contact_frequency", "lead_in_frequency", "population")
    }
    # Two views of one array where the file has money only.
    one = np.may_share_memory(panel.spend, panel.media) and not national.any()
    spend = media if one else panel.spend[keep]
    if national.any():
        whole, left = (x[..., national].sum(axis=0, dtype=np.float64) for x in (panel.spend, spend))  # [T, national]
        spend[..., national] *= np.divide(whole, left, out=np.ones_like(whole), where=left > 0)
    return replace(panel, schema=schema, media=media, spend=spend, **arrays)


def _unknown(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(str(name), known, n=1)
    hint = f"Did you mean {near[0]!r}?" if near else f"There are: {', '.join(known[:12])}."
    return f"{name!r} is no series of the panel. {hint}"


def with_levels(panel: MediaPanel, levels: Mapping[str, Mapping[str, Sequence[str]]]) -> MediaPanel:
    """The panel with further groupings of its series, coarser than those of the file.

    Args:
        panel: The panel.
        levels: level -> group -> names of series; every series in one group of each level.

    Raises:
        UserError: naming a series that is unknown, in two groups or in none, or a level that is there already.
    """
    if not levels:
        return panel
    schema = panel.schema
    added = {}
    for level, groups in levels.items():
        place = f"data.levels.{level}"
        if level in schema.levels:
            raise UserError(f"{place}: roles.hierarchy names this level too; rename one of the two.")
        group_of: dict[str, str] = {}
        for group, names in groups.items():
            for name in map(str, names):  # YAML reads store 12 as a number
                if name not in schema.series:
                    raise UserError(f"{place}.{group}: {_unknown(name, schema.series)}")
                if group_of.setdefault(name, group) != group:
                    raise UserError(f"{place}: series {name!r} is in {group_of[name]!r} and in {group!r}; choose one.")
        left = [name for name in schema.series if name not in group_of]
        if left:
            raise UserError(
                f"{place}: {len(left)} series are in no group: {', '.join(left[:5])}; add them, or leave them out with"
                " data.exclude_series."
            )
        names = tuple(sorted(groups))
        added[level] = Level(names, tuple(names.index(group_of[series]) for series in schema.series))
    return replace(panel, schema=replace(schema, levels={**added, **schema.levels}))


def history_only(panel: MediaPanel, periods: int) -> MediaPanel:
    """The panel without its first periods, whose media become the lead-in.

    Channels given as reach and frequency enter the lead-in as contacts, with their frequency beside.

    Raises:
        UserError: no period would be left.
    """
    if periods == 0:
        return panel
    if periods >= panel.num_periods:
        raise UserError(
            f"data.pre_period={periods} takes all {panel.num_periods} periods of the panel as history; lower it."
        )
    first = panel.media[:, :periods]
    if panel.contact_frequency is not None:
        first = first * panel.contact_frequency[:, :periods]
    rest = slice(periods, None)
    names = ("kpi", "media", "spend", "price", "promotion", "control")
    arrays: dict[str, Any] = {name: getattr(panel, name)[:, rest] for name in names}
    if panel.contact_frequency is not None:
        arrays["contact_frequency"] = panel.contact_frequency[:, rest]
        known = [panel.lead_in_frequency, panel.contact_frequency[:, :periods]]
        arrays["lead_in_frequency"] = np.concatenate(known, axis=1)
    return replace(panel, dates=panel.dates[rest], lead_in=np.concatenate([panel.lead_in, first], axis=1), **arrays)


def mask_range(entry: Any) -> tuple[np.datetime64, np.datetime64]:
    """First and last day of an entry of `data.mask`: a date, or two.

    Raises:
        UserError: no date, or the last before the first.
    """
    both = list(entry) if isinstance(entry, Sequence) and not isinstance(entry, str) else [entry, entry]
    try:
        first, last = (np.datetime64(str(date), "D") for date in both)
    except ValueError as error:
        raise UserError(f"data.mask: {entry!r} is neither a date nor [first, last]; write 2021-06-30.") from error
    if last < first:
        raise UserError(f"data.mask: [{first}, {last}] ends before it begins; swap the two.")
    return first, last


def masked_kpi(panel: MediaPanel, mask: Sequence[tuple[np.datetime64, np.datetime64]]) -> MediaPanel:
    """The panel with the KPI of some periods taken as not observed; their media stay part of the history.

    Args:
        panel: The panel.
        mask: First and last day; every period that begins between them (both included) is masked for all series.

    Raises:
        UserError: no period begins between the two.
    """
    if not mask:
        return panel
    kpi = panel.kpi.copy()
    for first, last in mask:
        inside = (panel.dates >= first) & (panel.dates <= last)
        if not inside.any():
            raise UserError(
                f"data.mask: no period of the panel ({panel.dates[0]} to {panel.dates[-1]}) begins from {first} to"
                f" {last}; leave it out, or write the days on which the periods begin."
            )
        kpi[:, inside] = np.nan
    return replace(panel, kpi=kpi)


def shared_by_kpi(panel: MediaPanel, channels: Sequence[bool], train: np.ndarray) -> MediaPanel:
    """Divide national spend over the series by their part of the KPI in the training window.

    The total of a period over all series stays what it was. The exposure (`media`) stays the whole national amount in
    every series: people saw all of it.

    Args:
        panel: The panel.
        channels: [C], whether the channel is national.
        train: bool [G, T], rows of the training window.

    Raises:
        UserError: the KPI gives no shares.
    """
    national = np.asarray(channels, bool)
    if not national.any():
        raise UserError(
            "data.share_by_kpi=true, but no channel is national; say so with roles.shared_media or `shared` of a"
            " channel, or leave share_by_kpi out."
        )
    totals = np.where(train, panel.kpi, 0).astype(np.float64).sum(axis=1)  # [G]
    if (totals < 0).any() or not totals.sum() > 0:
        raise UserError(
            "data.share_by_kpi=true, but the KPI of the training window has no positive total for every series; set"
            " data.share_by_kpi=false, and spend is divided as roles say."
        )
    spend = panel.spend.copy()
    whole = spend[..., national].sum(axis=0, dtype=np.float64)  # [T, national]
    spend[..., national] = (totals / totals.sum())[:, None, None] * whole
    return replace(panel, spend=spend)


def require_same_names(found: PanelSchema, trained: PanelSchema, path: Path) -> None:
    """Refuse a panel whose names are not those a model was trained on.

    Raises:
        UserError: naming the first difference.
    """
    kinds = {
        "series": "series",
        "media": "media channels",
        "price": "prices",
        "promotion": "promotions",
        "control": "controls",
    }
    for name, words in kinds.items():
        here, there = getattr(found, name), getattr(trained, name)
        if here == there:
            continue
        missing = [entry for entry in there if entry not in here]
        extra = [entry for entry in here if entry not in there]
        if not missing and not extra:
            raise UserError(
                f"{path}: the {words} stand in another order than the model was trained with, {', '.join(there)};"
                " use its data section."
            )
        parts = []
        if missing:
            near = difflib.get_close_matches(missing[0], extra, n=1)
            parts.append(
                f"lacks {', '.join(missing[:5])}" + (f" (is {near[0]!r} meant to be {missing[0]!r}?)" if near else "")
            )
        if extra:
            parts.append(f"has {', '.join(extra[:5])}, which the model does not know")
        raise UserError(f"{path}: among the {words} the file {' and '.join(parts)}; use the data it was trained for.")
    for name in ("kpi", "period", "paid", "price_direction", "own_price"):
        here, there = getattr(found, name), getattr(trained, name)
        if here != there:
            raise UserError(f"{path}: {name} is {here}, but the model was trained with {there}; use its data section.")
    if {k: v.of_series for k, v in found.levels.items()} != {k: v.of_series for k, v in trained.levels.items()}:
        raise UserError(
            f"{path}: the hierarchy groups the series otherwise than where the model was trained; use its data section."
        )
