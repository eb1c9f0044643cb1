"""Lift tests as part of the likelihood, on what they measured: a channel, its series, its dates, its carry-over.

A test says by how much the KPI of some series, from `start` to `until`, would differ had a channel's media between
`start` and `end` been something else. Given the non-linear parameters that difference is linear in the coefficients,
whose posterior given the panel is Gaussian and known (`collapsed`); so

    p(panel, tests | theta) = p(panel | theta) N(lift; mean, covariance + diag(se^2)),

with the tests' mean and covariance from the coefficients' posterior: exact for the additive model, and for the log link
exact in the mean and of first order in the coefficients' spread.

Axis letters: N draws, E tests, G series, T periods, Q columns, V shared coefficients.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from wanamaker.data.media_panel import MediaPanel, PanelSchema
from wanamaker.errors import UserError
from wanamaker.families.bayesian_mmm.collapsed import Shared, Solved
from wanamaker.families.bayesian_mmm.panel_tensors import PanelTensors

if TYPE_CHECKING:
    from wanamaker.families.bayesian_mmm.model import MixModel

_KEYS = {"channel", "start", "end", "until", "series", "factor", "media", "lift", "interval", "level", "name"}


@dataclass(frozen=True)
class Experiment:
    """One test as a recipe gives it, checked against the names of the panel.

    Attributes:
        name: for tables.
        channel: number of the channel.
        series: numbers of the series.
        start, end: first and last day of the periods whose media differed.
        until: last day whose KPI counts; None is as long as media carry over.
        factor: media of the comparison over those of the file; None where `media` is given.
        media: media of the comparison, per period and series, media units.
        lift: KPI of the file minus KPI of the comparison, all series and periods together, KPI units.
        se: standard error of `lift`.
    """

    name: str
    channel: int
    series: tuple[int, ...]
    start: np.datetime64
    end: np.datetime64
    until: np.datetime64 | None
    factor: float | None
    media: float | None
    lift: float
    se: float


def parse_experiments(options: Sequence[Mapping[str, Any]], schema: PanelSchema) -> tuple[Experiment, ...]:
    """Check `model.net.experiments`: a list of

        {channel: tv, start: 2022-03-07, end: 2022-04-17, series: [geo_1, geo_2], factor: 0.0,
         lift: 12000, interval: [8000, 16000], level: 0.9, until: null, name: null}

    `series` null is all; `factor` says what the file's media are compared with (0: none at all), or `media` gives that
    amount per period and series; `lift` is KPI of the file minus KPI of the comparison, in total.

    Raises:
        UserError: naming the entry and what is wrong with it.
    """
    made = []
    for i, given in enumerate(options):
        key = f"model.net.experiments[{i}]"
        if not isinstance(given, Mapping):
            raise UserError(f"{key}={given!r}: write a mapping, {{channel: tv, start: 2022-03-07, ...}}.")
        if unknown := sorted(set(map(str, given)) - _KEYS):
            raise UserError(f"{key}: unknown {', '.join(unknown)}; there are {', '.join(sorted(_KEYS))}.")
        if missing := [name for name in ("channel", "start", "end", "lift", "interval") if given.get(name) is None]:
            raise UserError(f"{key} lacks {', '.join(missing)}.")
        if given["channel"] not in schema.media:
            raise UserError(f"{key}.channel={given['channel']!r} is no channel; there are {', '.join(schema.media)}.")
        start, end, until = (_day(given.get(n), f"{key}.{n}") for n in ("start", "end", "until"))
        assert start is not None
        assert end is not None
        if end < start or (until is not None and until < end):
            raise UserError(f"{key}: start {start}, end {end}, until {until} must ascend.")
        factor, media = (_number(given.get(n), f"{key}.{n}") for n in ("factor", "media"))
        if (factor is None) == (media is None) or min(factor or 0.0, media or 0.0) < 0:
            raise UserError(
                f"{key}: give factor (0 compares with no media) or media (an amount), at least 0, not both."
            )
        lift, low, high, level = _measured(given, key)
        if factor is not None and factor > 1 and low > 0:
            raise UserError(
                f"{key}: lift is the KPI of the file minus that of the comparison, and factor={factor:g} compares with "
                f"more media, so interval [{low:g}, {high:g}] has the wrong sign: media do not lower the KPI. Turn the "
                "sign, or compare with less media (0: none)."
            )
        series = _series(given.get("series"), f"{key}.series", schema)
        se = (high - low) / (2 * NormalDist().inv_cdf(0.5 + level / 2))
        name = given.get("name") or f"{given['channel']} {start} to {end}"
        channel = schema.media.index(given["channel"])
        made.append(Experiment(str(name), channel, series, start, end, until, factor, media, lift, se))
    if len({e.name for e in made}) < len(made):
        raise UserError("model.net.experiments: two tests have the same name; give each a name of its own.")
    return tuple(made)


def _measured(given: Mapping[str, Any], key: str) -> tuple[float, float, float, float]:
    """Lift, interval and its level."""
    ends = given["interval"]
    if isinstance(ends, str) or not isinstance(ends, Sequence) or len(ends) != 2:
        raise UserError(f"{key}.interval={ends!r}: write the two ends of the interval, such as [8000, 16000].")
    low, high = (_number(v, f"{key}.interval") for v in ends)
    lift, level = _number(given["lift"], f"{key}.lift"), _number(given.get("level"), f"{key}.level")
    level = 0.9 if level is None else level
    if not 0 < level < 1:
        raise UserError(f"{key}.level={level:g}: give the probability of the interval between 0 and 1, such as 0.9.")
    if low is None or high is None or lift is None or not (low < high and low <= lift <= high):
        raise UserError(f"{key}: interval {list(ends)} must ascend and hold the lift {given['lift']}.")
    return lift, low, high, level


def _series(wanted: Any, key: str, schema: PanelSchema) -> tuple[int, ...]:
    """Numbers of the series of a test; None is all."""
    if wanted is None:
        return tuple(range(len(schema.series)))
    if isinstance(wanted, str) or not isinstance(wanted, Sequence) or not wanted:
        raise UserError(f"{key}={wanted!r}: write a list of series, such as [{schema.series[0]}], or null for all.")
    names = [str(name) for name in wanted]  # a store called 12 is a number in a recipe
    if absent := sorted(set(names) - set(schema.series)):
        raise UserError(
            f"{key}: {', '.join(absent[:5])} is not in the panel, which has {', '.join(schema.series[:5])}"
            f"{', ...' if len(schema.series) > 5 else ''}."
        )
    if len(set(names)) < len(names):
        raise UserError(f"{key}={names}: name each series once.")
    return tuple(schema.series.index(name) for name in names)


def _number(value: Any, key: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UserError(f"{key}={value!r}: give a number.")
    return float(value)


def _day(value: Any, key: str) -> np.datetime64 | None:
    if value is None:
        return None
    text = str(value)[:10]
    try:
        if not re.fullmatch(r"\d{4}-\d\d-\d\d", text):  # numpy would take 2022-03 for its first day
            raise ValueError(text)
        return np.datetime64(text, "D")
    except ValueError as error:
        raise UserError(f"{key}={value!r} is no date; write 2022-03-07.") from error


@dataclass(frozen=True)
class BoundExperiment:
    """A test in the periods and units of a panel.

    Attributes:
        test: as given.
        series: int64 [G'], numbers of its series in the panel.
        counted: float64 [T], 1 where the KPI counts.
        comparison: [G', T + L - 1], scaled media of the comparison.
    """

    test: Experiment
    series: Tensor
    counted: Tensor
    comparison: Tensor


def bind(
    tests: tuple[Experiment, ...], panel: MediaPanel, data: PanelTensors, model: MixModel
) -> list[BoundExperiment]:
    """Place the tests in a panel.

    Raises:
        UserError: a test outside the panel, or one that compares media with themselves.
    """
    bound, dates = [], panel.dates.astype("datetime64[D]")
    lags = model.taps - 1
    for test in tests:
        inside = (dates >= _period_start(test.start, dates)) & (dates <= test.end)
        if not inside.any() or test.end < dates[0] or test.start < dates[0] or test.start > _last_day(dates):
            raise UserError(
                f"model.net.experiments: the test {test.name!r}, {test.start} to {test.end}, lies outside the panel, "
                f"{dates[0]} to {_last_day(dates)}: bring the data of that time, or leave the test out."
            )
        for word, day in (("ends", test.end), ("counts KPI until", test.until)):
            if day is not None and day > _last_day(dates):  # its lift is of more periods than are there
                raise UserError(
                    f"model.net.experiments: the test {test.name!r} {word} {day}, after the panel's last day "
                    f"{_last_day(dates)}: bring the data of that time, or give the lift up to then."
                )
        last = int(np.flatnonzero(inside)[-1])
        until = min(len(dates) - 1, last + lags) if test.until is None else int(np.flatnonzero(dates <= test.until)[-1])
        counted = np.zeros(len(dates))
        counted[int(np.flatnonzero(inside)[0]) : until + 1] = 1.0
        series = torch.tensor(test.series, dtype=torch.long)
        comparison = data.history[series][..., test.channel].clone()
        places = torch.from_numpy(np.flatnonzero(inside)) + lags
        if test.factor is not None:
            comparison[:, places] *= test.factor
        else:
            scale = model.scales.media_scale.double()[series, test.channel]
            comparison[:, places] = (float(test.media or 0.0) / scale)[:, None]
        if torch.equal(comparison, data.history[series][..., test.channel]):
            raise UserError(
                f"model.net.experiments: the test {test.name!r} compares the media of the file with themselves (its "
                "channel did not run in these series and dates); give the amount of the comparison as `media`."
            )
        bound.append(BoundExperiment(test, series, torch.from_numpy(counted), comparison))
    return bound


def _period_start(day: np.datetime64, dates: np.ndarray) -> np.datetime64:
    """First day of the period that holds a day."""
    before = dates[dates <= day]
    return before[-1] if len(before) else day


def _last_day(dates: np.ndarray) -> np.datetime64:
    length = dates[-1] - dates[-2] if len(dates) > 1 else np.timedelta64(1, "D")
    return dates[-1] + length - np.timedelta64(1, "D")


def experiment_log_likelihood(
    model: MixModel,
    theta: Mapping[str, Tensor],
    data: PanelTensors,
    mean: Tensor,
    spread: Tensor,
    solved: Solved | None,
    shared: Shared | None,
) -> Tensor:
    """Log density [N] of all tests given the panel.

    Args:
        model: with bound experiments.
        theta: natural parameters [N, K].
        data: the series at hand: of a rank, whose shares `model.reduce` adds up, or all of the tests'.
        mean: [N, G, Q], posterior means of the coefficients of `data`.
        spread: [N, Q], standard deviations of the series' deviations.
        solved, shared: of the panel; None where coefficients are given, and `mean` is exact.
    """
    gain, white, outer = whitened_lifts(model, theta, data, mean, spread, solved, shared)
    E = gain.shape[-1]
    lift, se = measured(model, gain)
    covariance = torch.diag(se.square()).expand(len(gain), E, E)
    if white is not None:
        covariance = covariance + model.reduce(torch.einsum("ngqe,ngqf->nef", white, white))
    if outer is not None:
        covariance = covariance + outer.mT @ outer
    root, failed = torch.linalg.cholesky_ex(covariance)
    root = torch.where((failed > 0)[:, None, None], torch.nan, root)
    z = torch.linalg.solve_triangular(root, (lift - gain).unsqueeze(-1), upper=False)[..., 0]
    return -0.5 * z.square().sum(-1) - root.diagonal(dim1=-2, dim2=-1).log().sum(-1) - 0.5 * E * np.log(2 * np.pi)


def measured(model: MixModel, like: Tensor) -> tuple[Tensor, Tensor]:
    """Lifts and standard errors of the tests, [E] each."""
    tests = [bound.test for bound in model.bound_experiments]
    return torch.tensor([t.lift for t in tests]).to(like), torch.tensor([t.se for t in tests]).to(like)


def whitened_lifts(
    model: MixModel,
    theta: Mapping[str, Tensor],
    data: PanelTensors,
    mean: Tensor,
    spread: Tensor,
    solved: Solved | None,
    shared: Shared | None,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """The lifts as linear functions of the standard normal numbers that coefficients are drawn from.

    Arguments as of `experiment_log_likelihood`.

    Returns:
        Their means [N, E] over all ranks; slopes [N, G, Q, E] of this rank's numbers of the series; slopes [N, V, E] of
        the shared ones (None where coefficients are given, or nothing is shared).
    """
    gain, slopes = lift_means(model, theta, data, mean)
    gain = model.reduce(gain)
    if solved is None:
        return gain, None, None
    # Deviations of the series, given the shared coefficients.
    own = (slopes * spread[:, None, None]).movedim(1, -1)  # [N, G, Q, E]
    white = torch.linalg.solve_triangular(solved.factor, own, upper=False)
    if shared is None or solved.shared_factor is None or solved.cross is None:
        return gain, white, None
    through = slopes[..., shared.column] * shared.sd[:, None, None]  # [N, E, G, W]
    through = through - torch.einsum("ngqe,ngqw->negw", white, solved.cross)
    flat = through.new_zeros(len(gain), gain.shape[-1], shared.size)
    flat = model.reduce(flat.index_add(-1, shared.place.reshape(-1), through.flatten(2)))
    return gain, white, torch.linalg.solve_triangular(solved.shared_factor, flat.mT, upper=False)


def conditioned(
    model: MixModel,
    theta: Mapping[str, Tensor],
    data: PanelTensors,
    mean: Tensor,
    spread: Tensor,
    solved: Solved,
    shared: Shared | None,
    noise: tuple[Tensor | None, Tensor],
    noise_lifts: Tensor,
) -> tuple[Tensor | None, Tensor]:
    """Standard normal numbers such that the coefficients drawn from them agree with the tests as well as the panel.

    By Matheron's rule: draw everything, the tests' outcomes too, and move the numbers by what the real outcomes differ.

    Args:
        noise: standard normal numbers of the shared coefficients [N, V] (or None) and of the series [N, G, Q]; zeros
            give the conditional mean.
        noise_lifts: [N, E], of the outcomes.
        model, theta, data, mean, spread, solved, shared: as of `experiment_log_likelihood`.
    """
    gain, white, outer = whitened_lifts(model, theta, data, mean, spread, solved, shared)
    assert white is not None
    lift, se = measured(model, gain)
    common, own = noise
    drawn = gain + torch.einsum("ngqe,ngq->ne", white, own) + se * noise_lifts
    covariance = torch.diag(se.square()) + torch.einsum("ngqe,ngqf->nef", white, white)
    if outer is not None and common is not None:
        drawn = drawn + torch.einsum("nve,nv->ne", outer, common)
        covariance = covariance + outer.mT @ outer
    gap = torch.linalg.solve(covariance, (lift - drawn).unsqueeze(-1))[..., 0]  # [N, E]
    if outer is not None and common is not None:
        common = common + torch.einsum("nve,ne->nv", outer, gap)
    return common, own + torch.einsum("ngqe,ne->ngq", white, gap)


def lift_means(
    model: MixModel, theta: Mapping[str, Tensor], data: PanelTensors, coefficients: Tensor
) -> tuple[Tensor, Tensor]:
    """What each test would have found, [N, E], and its derivatives by the coefficients, [N, E, G, Q].

    Args:
        model: with bound experiments.
        theta: natural parameters.
        data: some of the series; tests count those of theirs that are among them.
        coefficients: [N, G, Q].
    """
    P = len(model.columns.fixed)
    place = {int(g): i for i, g in enumerate(data.series)}
    gains, slopes = [], []
    for bound in model.bound_experiments:
        rows = [i for i, g in enumerate(bound.series.tolist()) if g in place]
        slope = torch.zeros_like(coefficients)
        if not rows:
            gains.append(0.0 * coefficients.sum((-2, -1)))  # in the graph, for `over_ranks`
            slopes.append(slope)
            continue
        here = torch.tensor([place[int(bound.series[i])] for i in rows], device=coefficients.device)
        other = data.history[here].clone()
        other[..., bound.test.channel] = bound.comparison.to(other)[rows]
        c = bound.test.channel
        often = data.frequency[here]
        now = model.media.columns(theta, data.history[here], model.taps, frequency=often)[:, :, c]
        then = model.media.columns(theta, other, model.taps, frequency=often)[:, :, c]
        difference = (now - then) * bound.counted.to(now)  # [N, G', T]
        own = coefficients[:, here, P + c]
        if model.link == "log":
            remains = torch.exp(-own.unsqueeze(-1) * difference)
            kpi = data.kpi_level[here]
            gains.append((kpi * (1 - remains)).sum((-2, -1)))
            slope_here = (kpi * remains * difference).sum(-1)
        else:
            slope_here = difference.sum(-1) * data.kpi_scale[here]
            gains.append((slope_here * own).sum(-1))
        column = torch.zeros_like(slope[..., P + c]).index_copy(1, here, slope_here)
        slopes.append(torch.cat([slope[..., : P + c], column.unsqueeze(-1), slope[..., P + c + 1 :]], dim=-1))
    return torch.stack(gains, dim=-1), torch.stack(slopes, dim=1)
