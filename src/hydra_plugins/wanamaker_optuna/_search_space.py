"""From Hydra's override grammar to Optuna distributions, and from sampled values back to overrides."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, Transformer
from hydra.errors import HydraException
from omegaconf import OmegaConf
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from wanamaker.errors import UserError

EXAMPLE = "'model.optimizer.lr=tag(log,interval(1e-4,1e-1))' or 'data.batch_size=choice(8,16)'"


@dataclass(frozen=True)
class Dimension:
    """One searched option.

    Attributes:
        key: Left side of the override, with a leading `+` or `++` where one was given.
        name: The key without that prefix; Optuna's parameter name.
        distribution: What Optuna samples from.
        values: For choices and ranges, the admissible values in order; empty for an interval.
        texts: The right side of the override for each of `values`.
        grammar: What the user wrote.
    """

    key: str
    name: str
    distribution: BaseDistribution
    values: tuple[Any, ...]
    texts: tuple[str, ...]
    grammar: str

    def override(self, value: Any) -> str:
        """The override that gives a trial this value."""
        if not self.values:
            return f"{self.key}={value!r}"
        return f"{self.key}={self.texts[self._index(value)]}"

    def _index(self, value: Any) -> int:
        if isinstance(self.distribution, CategoricalDistribution):
            return self.values.index(value)
        # Optuna's low + k * step carries rounding again.
        return min(range(len(self.values)), key=lambda i: abs(self.values[i] - value))

    def of_recipe(self, value: Any) -> tuple[Any, ...]:
        """What a value of the recipe is called here (a list among choices is its text); nothing if it has no place."""
        if OmegaConf.is_config(value):
            plain = OmegaConf.to_container(value, resolve=True)
            return tuple(v for v, text in zip(self.values, self.texts, strict=True) if _value_of(text) == plain)
        return (value,) if self._holds(value) else ()

    def _holds(self, value: Any) -> bool:
        if self.values:
            return any(type(value) is type(v) and value == v for v in self.values)
        distribution = self.distribution
        assert isinstance(distribution, IntDistribution | FloatDistribution)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        whole = isinstance(distribution, FloatDistribution) or isinstance(value, int)
        return number and whole and distribution.low <= value <= distribution.high

    def example(self) -> Any:
        """Some value of this dimension."""
        return self.values[0] if self.values else self.distribution.low  # type: ignore[attr-defined]


def read_search_space(
    params: Mapping[str, Any], arguments: Sequence[str], config_loader: ConfigLoader
) -> tuple[list[Dimension], list[str]]:
    """Split a sweep's options into searched dimensions and fixed overrides.

    Args:
        params: The sweeper's `params`, flat or nested.
        arguments: Overrides of the command line; they win over `params`.
        config_loader: Finds the options of a config group for `glob()`.

    Returns:
        The dimensions, and the overrides that every trial gets unchanged.

    Raises:
        UserError: when a line cannot be read, or nothing is left to search.
    """
    lines = [f"{key}={value}" for key, value in _flat(params)]
    entries: dict[str, Dimension | str] = {}
    for line in [*lines, *arguments]:
        override = _parse(line, config_loader)
        name = override.get_key_element().lstrip("+~")
        if override.is_sweep_override():
            entries[name] = _dimension(override, name)
        else:
            entries[name] = line
    dimensions = [entry for entry in entries.values() if isinstance(entry, Dimension)]
    if not dimensions:
        raise UserError(
            f"hydra/sweeper=optuna has nothing to search: give at least one range, such as {EXAMPLE}, "
            "or a search space with sweep=NAME (files in configs/sweep)."
        )
    return dimensions, [entry for entry in entries.values() if isinstance(entry, str)]


def grid(dimensions: Sequence[Dimension]) -> list[dict[str, Any]]:
    """Every combination, the last dimension varying fastest.

    Raises:
        UserError: when a dimension is continuous.
    """
    for dimension in dimensions:
        if not dimension.values:
            raise UserError(
                f"hydra.sweeper.sampler=grid: '{dimension.grammar}' has no finite list of values. "
                "Use choice(...) or range(start,stop,step), or another sampler."
            )
    names = [dimension.name for dimension in dimensions]
    return [dict(zip(names, point, strict=True)) for point in itertools.product(*(d.values for d in dimensions))]


def _flat(params: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in params.items():
        path = f"{prefix}.{key}" if prefix else str(key)
        if isinstance(value, Mapping):
            yield from _flat(value, path)
        elif value is not None:  # null takes an inherited entry out
            yield path, value


def _parse(line: str, config_loader: ConfigLoader) -> Override:
    try:
        return OverridesParser.create(config_loader=config_loader).parse_overrides([line])[0]
    except (HydraException, ValueError, TypeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"The search space entry '{line}' cannot be read ({reason}). Write a range as {EXAMPLE}."
        ) from error


def _value_of(text: str) -> Any:
    """What the right side of an override says."""
    return OverridesParser.create().parse_override(f"x={text}").value()


def _dimension(override: Override, name: str) -> Dimension:
    line = str(override.input_line)
    sweep: Any = override.value()
    unknown = sorted(set(sweep.tags) - {"log"})
    if unknown:
        raise UserError(f"'{line}': the tag '{unknown[0]}' means nothing here; the only tag is log.")
    log = "log" in sweep.tags
    if override.is_interval_sweep():
        return Dimension(override.get_key_element(), name, _interval(sweep, log, line), (), (), line)
    if log:
        raise UserError(f"'{line}': tag(log, ...) goes with interval(low,high), not with a list of values.")
    if sweep.shuffle:
        raise UserError(f"'{line}': shuffle() has no meaning here, the sampler chooses the order.")
    values = tuple(override.sweep_iterator(transformer=Transformer.encode))
    texts = tuple(override.sweep_string_iterator())
    if not values:
        raise UserError(f"'{line}' holds no value at all.")
    if len(set(values)) != len(values):
        raise UserError(f"'{line}' holds the same value twice (1, 1.0 and true count as the same).")
    if override.is_range_sweep():
        # Hydra adds the step up (0.1 + 0.1 + 0.1 > 0.3); twelve digits undo the rounding.
        values = tuple(sorted(v if isinstance(v, int) else float(f"{v:.12g}") for v in values))
        texts = tuple(repr(value) for value in values)
        return Dimension(override.get_key_element(), name, _range(values), values, texts, line)
    return Dimension(override.get_key_element(), name, CategoricalDistribution(values), values, texts, line)


def _interval(sweep: IntervalSweep, log: bool, line: str) -> BaseDistribution:
    low, high = sweep.start, sweep.end
    assert low is not None
    assert high is not None
    if not low < high:
        raise UserError(f"'{line}': the lower end {low} must be below the upper end {high}.")
    if log and low <= 0:
        raise UserError(f"'{line}': a logarithmic interval must start above zero.")
    if isinstance(low, int) and isinstance(high, int):
        return IntDistribution(low, high, log=log)
    return FloatDistribution(float(low), float(high), log=log)


def _range(values: tuple[Any, ...]) -> BaseDistribution:
    low, high = values[0], values[-1]
    step = values[1] - low if len(values) > 1 else 1
    if all(isinstance(value, int) for value in values):
        return IntDistribution(low, high, step=step)
    # The step as written, free of the rounding of a subtraction.
    return FloatDistribution(low, high, step=float(f"{step:.12g}"))
