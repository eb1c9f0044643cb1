"""The twin of a panel: the same media, prices and dates, and a KPI that a fitted model made up itself.

A replicate drawn from the posterior was made with parameters that are known. A fit to it shows whether the method finds
them again on a panel exactly like the user's own: its correlations, its flighting, its length.

Axis letters: G series, T periods, R replicates.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from wanamaker.data.media_panel import MediaPanel
from wanamaker.data.panel_options import options_of
from wanamaker.errors import UserError

_GROUP, _DIMS = "posterior_predictive", ("replicate", "series", "time")
_LISTED = 5


def parse_twin(twin: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Check the `twin` of a data config.

    Args:
        twin: null, or `{posterior: posterior.nc, replicate: 0}`: the file that a Bayesian run writes beside its
            predictions, and which of its replicates to take.

    Raises:
        UserError: an unknown or missing option.
    """
    if twin is None:
        return None
    options = options_of("data.twin", twin, {"posterior": None, "replicate": 0}, ("posterior",))
    replicate = options["replicate"]
    if isinstance(replicate, bool) or not isinstance(replicate, int) or replicate < 0:
        raise UserError(f"data.twin.replicate={replicate!r}; give the number of a replicate, 0 or more.")
    return options


def check_twin(options: Mapping[str, Any]) -> Path:
    """The posterior's path.

    Raises:
        UserError: it is not on disk.
    """
    path = Path(options["posterior"])
    if not path.is_file():
        raise UserError(
            f"data.twin.posterior={path} is not on disk; name the posterior.nc that a Bayesian run writes beside its"
            " predictions."
        )
    return path


def with_twin_kpi(panel: MediaPanel, options: Mapping[str, Any]) -> MediaPanel:
    """The panel with a replicated KPI, matched by the names of series and the dates; NaN stays where it was.

    Args:
        panel: The panel, as the model that made the replicate saw it.
        options: From `parse_twin`.

    Raises:
        UserError: a missing file, one without replicates, a replicate that is not there, or other series or dates.
    """
    path = check_twin(options)
    series, dates, kpi = _replicate(path, options["replicate"])
    strangers = [name for name in panel.schema.series if name not in series]
    if strangers:
        raise UserError(
            f"data.twin.posterior={path} has no replicate of {len(strangers)} series of the panel:"
            f" {', '.join(strangers[:_LISTED])}; it was made for {', '.join(list(series)[:_LISTED])}. Take the data"
            " section it was made with, or leave them out with data.exclude_series."
        )
    known = np.isfinite(panel.kpi)
    needed = known.any(axis=0)
    absent = panel.dates[needed & ~np.isin(panel.dates, dates)]
    if len(absent):
        raise UserError(
            f"data.twin.posterior={path} covers {dates.min()} to {dates.max()}, but not {len(absent)} periods of the"
            f" panel with an observed {panel.schema.kpi}, such as {absent[0]}; take the data section it was made with,"
            " or cut the panel with data.start and data.end."
        )
    g = np.array([series[name] for name in panel.schema.series])
    order = np.argsort(dates)
    t = order[np.searchsorted(dates[order], panel.dates[needed])]
    values = np.full(panel.kpi.shape, np.nan, np.float32)
    values[:, needed] = kpi[np.ix_(g, t)]
    values[~known] = np.nan
    lost = known & ~np.isfinite(values)
    if lost.any():
        first, when = (int(index[0]) for index in np.nonzero(lost))
        raise UserError(
            f"data.twin.posterior={path}: replicate {options['replicate']} has no number for {int(lost.sum())} rows,"
            f" first series {panel.schema.series[first]!r} on {panel.dates[when]}; take another replicate."
        )
    return replace(panel, kpi=values)


def _replicate(path: Path, number: int) -> tuple[dict[str, int], np.ndarray, np.ndarray]:
    """Place of each series, dates datetime64[D] [T], and one replicate [G, T]."""
    import xarray as xr

    not_ours = (
        f"data.twin.posterior={path} holds no replicated KPI (group {_GROUP}, variable kpi over {', '.join(_DIMS)}):"
        " {}. Name the posterior.nc that a Bayesian run writes beside its predictions."
    )
    try:
        with xr.open_dataset(path, group=_GROUP, engine="h5netcdf") as data:
            if "kpi" not in data or set(data["kpi"].dims) != set(_DIMS):
                found = ", ".join(f"{name} over {', '.join(map(str, data[name].dims))}" for name in data.data_vars)
                raise UserError(not_ours.format(f"it has {found or 'no variable'}"))
            kpi = data["kpi"].transpose(*_DIMS)
            if lacking := [axis for axis in _DIMS[1:] if axis not in kpi.coords]:
                raise UserError(not_ours.format(f"its {lacking[0]} has no labels"))
            if number >= len(kpi):
                raise UserError(
                    f"data.twin.replicate={number}, but {path} has {len(kpi)} replicates, 0 to {len(kpi) - 1}."
                )
            dates = kpi["time"].values
            if dates.dtype.kind != "M":
                raise UserError(not_ours.format(f"its time is no date, such as {dates.ravel()[:1]}"))
            names = {str(name): place for place, name in enumerate(kpi["series"].values)}
            return names, dates.astype("datetime64[D]"), kpi[number].values
    except UserError:
        raise
    except (OSError, ValueError) as error:
        raise UserError(not_ours.format(str(error).splitlines()[0] if str(error) else type(error).__name__)) from error
