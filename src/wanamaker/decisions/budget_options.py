"""What a user may ask of the budget optimiser, checked as far as that goes without the data."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from wanamaker.decisions.window import COSTS
from wanamaker.errors import UserError

OBJECTIVES = ("mean", "cvar", "chance", "mean_sd")
DIMENSIONS = ("channel", "series", "period")
CHANGE_OF = ("channel", "series")
_GROUP_KEYS = ("name", "channels", "series", "min", "max", "min_share", "max_share")
_LINEAR_KEYS = ("name", "coefficients", "unit", "min", "max")


@dataclass(frozen=True)
class BudgetOptions:
    """The question. An *amount* is a number in money, or a text such as "80%": relative to the current plan.

    Attributes:
        total: money of the whole plan, held and fixed cells included; None is what the current plan costs, unless a
            target is given.
        target_roi: the largest plan whose expected return per money is this; the total is then found.
        target_mroi: spend until one more unit of money brings this much; the total is then found.
        periods, start, end, cost: the window, as in `decisions.response.plan_window`.
        resolution: what may differ from the pattern of the current plan: "channel" (always), "series", "period".
        objective: "mean" is the expected value of the KPI, in money; "cvar" the mean of its worst draws; "chance" the
            probability to bring more than `beat`; "mean_sd" the mean less `risk` standard deviations.
        worst: share of the draws that "cvar" averages, in (0, 1].
        risk: standard deviations that "mean_sd" takes off.
        beat: money that "chance" has to bring beyond no paid media; None: what the current plan, scaled to the total,
            brings in the same draw.
        spread: a channel without bounds of its own gets at most this many times, and at least this part of, its money
            in the current plan scaled to the total (or the current plan, if the total is free). None: from 0 up.
        bounds: {channel: [min, max]}, amounts over the window; "default" for the channels not named.
        cell_bounds: the same for the money of one series in one period.
        history_limit: no cell above this many times the highest spend of its series and channel in one period.
        hold: channels that keep their current plan.
        groups: list of {name, channels, series, min, max, min_share, max_share}: the money of some channels in some
            series (None is all) between two amounts, or between two shares of the total.
        change: {channel: amount}: how much the money of two neighbouring periods may differ; "20%" is of the earlier.
        change_of: whether `change` is meant per "channel" over all series, or per "series".
        linear: list of {name, coefficients, unit, min, max}: a sum over money times a coefficient per channel, a
            number or {series: number, default: number}; "default" for the channels not named, 0 where there is none.
            Its "80%" is relative to the sum under the current plan.
        starts: points from which the search begins where curves are S-shaped.
        seed: of the random ones among them.
        max_draws: draws looked at, evenly spaced over all.
        tolerance: of the KKT residual.
        robust: a move counts as robust from this probability to help.

    Raises:
        UserError: an option out of its range, or two that contradict.
    """

    total: float | None = None
    target_roi: float | None = None
    target_mroi: float | None = None
    periods: int | None = None
    start: Any = None
    end: Any = None
    cost: str = "average"
    resolution: Sequence[str] = ("channel",)
    objective: str = "mean"
    worst: float = 0.1
    risk: float = 1.0
    beat: float | None = None
    spread: float | None = None
    bounds: Mapping[str, Any] = field(default_factory=dict)
    cell_bounds: Mapping[str, Any] = field(default_factory=dict)
    history_limit: float | None = None
    hold: Sequence[str] = ()
    groups: Sequence[Mapping[str, Any]] = ()
    change: Mapping[str, Any] = field(default_factory=dict)
    change_of: str = "channel"
    linear: Sequence[Mapping[str, Any]] = ()
    starts: int = 8
    seed: int = 0
    max_draws: int = 200
    tolerance: float = 1e-5
    robust: float = 0.8

    def __post_init__(self) -> None:
        for name in ("total", "target_roi", "target_mroi", "beat", "spread", "history_limit"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, number(getattr(self, name), f"decision.{name}"))
        for name in ("worst", "risk", "tolerance", "robust"):
            object.__setattr__(self, name, number(getattr(self, name), f"decision.{name}"))
        if self.total is not None and self.total <= 0:
            raise UserError(f"decision.total={self.total:g}: a budget is money above 0; null takes the current spend.")
        given = [name for name in ("total", "target_roi", "target_mroi") if getattr(self, name) is not None]
        if len(given) > 1:
            raise UserError(
                f"{' and '.join('decision.' + n for n in given)} are both given: leave one, the others null."
            )
        for name in ("target_roi", "target_mroi", "spread", "history_limit"):
            value, least = getattr(self, name), 1.0 if name == "spread" else 0.0
            if value is not None and value <= least:
                raise UserError(f"decision.{name}={value:g} must be above {least:g}; null leaves it out.")
        if not 0 < self.worst <= 1:
            raise UserError(
                f"decision.worst={self.worst:g}: the share of the worst draws lies in (0, 1]; 0.1 is usual."
            )
        if self.risk < 0:
            raise UserError(f"decision.risk={self.risk:g}: standard deviations to take off, 0 or more.")
        if not 0 <= self.robust < 1:
            raise UserError(f"decision.robust={self.robust:g}: a probability in [0, 1); 0.8 is usual.")
        if not 0 < self.tolerance < 1:
            raise UserError(f"decision.tolerance={self.tolerance:g}: a small number such as 1e-5.")
        for name, least in (("starts", 1), ("max_draws", 1), ("seed", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise UserError(f"decision.{name}={value!r}: a whole number, {least} or more.")
        for name, choices in (("objective", OBJECTIVES), ("cost", COSTS), ("change_of", CHANGE_OF)):
            if getattr(self, name) not in choices:
                raise UserError(f"decision.{name}={getattr(self, name)!r}: choose from {', '.join(choices)}.")
        resolution = (self.resolution,) if isinstance(self.resolution, str) else tuple(self.resolution)
        for name in resolution:
            if name not in DIMENSIONS:
                raise UserError(
                    f"decision.resolution names {name!r}{nearest(name, DIMENSIONS)}; "
                    f"choose from {', '.join(DIMENSIONS)}."
                )
        object.__setattr__(self, "resolution", tuple(d for d in DIMENSIONS if d in resolution or d == "channel"))
        if self.beat is not None and self.objective != "chance":
            raise UserError(
                f"decision.beat={self.beat:g} is for decision.objective=chance, and has no effect on "
                f"objective={self.objective}: choose that objective, or leave it out."
            )
        if self.objective == "chance" and (self.target_roi or self.target_mroi):
            raise UserError(
                "decision.objective=chance is no money, so it has no return to aim at: give decision.total."
            )
        if self.change and "period" not in self.resolution:
            raise UserError(
                "decision.change limits what differs from period to period, but the plan keeps the current pattern "
                "over time: add period to decision.resolution, such as [channel, period]."
            )
        hold = (self.hold,) if isinstance(self.hold, str) else tuple(self.hold)
        object.__setattr__(self, "hold", hold)
        for name in ("bounds", "cell_bounds", "change"):
            value = getattr(self, name) or {}
            if not isinstance(value, Mapping):
                raise UserError(f"decision.{name}={value!r}: write a mapping from channel to value.")
            object.__setattr__(self, name, dict(value))
        for name, keys in (("groups", _GROUP_KEYS), ("linear", _LINEAR_KEYS)):
            object.__setattr__(self, name, _listed(getattr(self, name), name, keys))

    @property
    def flexible(self) -> bool:
        """Whether the total is to be found."""
        return self.target_roi is not None or self.target_mroi is not None

    def to_dict(self) -> dict[str, Any]:
        """What differs from the defaults, to be shown."""
        return {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) not in (None, (), {})}


def number(value: Any, place: str) -> float:
    """A finite number.

    Raises:
        UserError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UserError(f"{place}={value!r} is not a number. Write it without unit or separators, such as 1000000.")
    return float(value)


def amount(value: Any, current: float, place: str) -> float:
    """Money from a number or from a text such as "80%", relative to ``current``.

    Raises:
        UserError: neither, or negative.
    """
    if isinstance(value, str):
        try:
            if not value.strip().endswith("%"):
                raise ValueError
            result = number(float(value.strip()[:-1]), place) / 100 * current
        except ValueError as error:
            raise UserError(
                f"{place}={value!r}: write money as a number, or a part of the current plan as 80%."
            ) from error
    else:
        result = number(value, place)
    if result < 0:
        raise UserError(f"{place}={value}: money is 0 or more.")
    return result


def pair(value: Any, current: float, place: str) -> tuple[float | None, float | None]:
    """Two amounts from [min, max] or {min, max}, either of which may be None.

    Raises:
        UserError: something else, or the lower is above the upper.
    """
    if isinstance(value, Mapping):
        if unknown := set(value) - {"min", "max"}:
            raise UserError(f"{place} has the entry {sorted(unknown)[0]!r}; it knows min and max.")
        value = [value.get("min"), value.get("max")]
    if isinstance(value, str) or not isinstance(value, Sequence) or len(value) != 2:
        raise UserError(f"{place}={value!r}: write [min, max], such as [50%, 200000]; null is no bound.")
    low, high = (None if v is None else amount(v, current, place) for v in value)
    if low is not None and high is not None and low > high:
        raise UserError(f"{place}={list(value)}: the lower bound {low:,.2f} is above the upper {high:,.2f}. Swap them.")
    return low, high


def nearest(name: str, known: Sequence[str]) -> str:
    """ " (did you mean ...?)", or nothing where nothing is near."""
    lower = {k.lower(): k for k in known}
    near = difflib.get_close_matches(str(name).lower(), list(lower), n=1, cutoff=0.5)
    return f" (did you mean {lower[near[0]]!r}?)" if near else ""


def positions(names: Any, known: Sequence[str], place: str, what: str) -> list[int]:
    """Numbers of names.

    Raises:
        UserError: a name that does not exist, or no list of names.
    """
    names = [names] if isinstance(names, str) else names
    if not isinstance(names, Sequence):
        raise UserError(f"{place}={names!r} must be a list of names ({what}), such as [{known[0]}].")
    for name in names:
        if name not in known:
            some = ", ".join(known[:12]) + (", ..." if len(known) > 12 else "")
            raise UserError(
                f"{place} names the {what} {name!r}, which the model does not know{nearest(name, known)}; "
                f"it knows {some}."
            )
    return [list(known).index(name) for name in names]


def _listed(value: Any, name: str, keys: Sequence[str]) -> tuple[dict[str, Any], ...]:
    """A list of mappings with known keys, each with a name."""
    value = () if value is None else value
    if isinstance(value, Mapping | str) or not isinstance(value, Sequence):
        raise UserError(f"decision.{name}={value!r}: write a list of mappings with {', '.join(keys)}.")
    entries = []
    for i, entry in enumerate(value):
        if not isinstance(entry, Mapping):
            raise UserError(f"decision.{name}[{i}]={entry!r}: write a mapping with {', '.join(keys)}.")
        for key in entry:
            if key not in keys:
                raise UserError(
                    f"decision.{name}[{i}] has the entry {key!r}{nearest(key, keys)}; it knows {', '.join(keys)}."
                )
        if all(entry.get(key) is None for key in keys if key.startswith(("min", "max"))):
            limits = ", ".join(key for key in keys if key.startswith(("min", "max")))
            raise UserError(f"decision.{name}[{i}] limits nothing: give one of {limits}.")
        entries.append({**entry, "name": str(entry.get("name") or f"{name}[{i}]")})
    names = [entry["name"] for entry in entries]
    if twice := {n for n in names if names.count(n) > 1}:
        raise UserError(f"decision.{name} has two entries named {sorted(twice)[0]!r}: give each its own name.")
    return tuple(entries)
