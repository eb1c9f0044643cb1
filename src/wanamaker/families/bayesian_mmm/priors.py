"""Prior distributions by name, and the parameters that have them.

A prior is written `[kind, first, second]` in a recipe, or `{default: [...], tv: [...]}` where channels differ:

    [lognormal, median, sigma]     above 0; `sigma` of its logarithm
    [halfnormal, scale]            above 0
    [normal, mean, sd]             any number
    [logitnormal, median, sigma]   in (0, 1); `sigma` of its logit
    [beta, a, b]                   in (0, 1)

Axis letters: N draws or chains, D unconstrained numbers, K entries of one parameter.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from pyro import distributions as dist
from torch import Tensor

from wanamaker.errors import UserError

KINDS = {"lognormal": 2, "halfnormal": 1, "normal": 2, "logitnormal": 2, "beta": 2}
SHARES = ("logitnormal", "beta")
"""Kinds whose values lie in (0, 1)."""
_LOG_2PI = math.log(2 * math.pi)


@dataclass(frozen=True)
class Site:
    """One parameter of the model: a vector of K numbers with independent priors of one kind.

    Attributes:
        name: such as "decay".
        kind: of `KINDS`.
        first, second: float64 [K], parameters of the prior as a user writes them; `second` is 0 where there is none.
        axis: what the K entries are, such as "channel"; "" for a single number.
    """

    name: str
    kind: str
    first: Tensor
    second: Tensor
    axis: str = ""

    @property
    def size(self) -> int:
        """K."""
        return len(self.first)

    def distribution(self) -> Any:
        """The prior as a Pyro distribution with event shape [K]."""
        a, b = self.first, self.second
        if self.kind == "lognormal":
            made = dist.LogNormal(a.log(), b)
        elif self.kind == "halfnormal":
            made = dist.HalfNormal(a)
        elif self.kind == "normal":
            made = dist.Normal(a, b)
        elif self.kind == "logitnormal":
            made = dist.TransformedDistribution(dist.Normal(a.logit(), b), [dist.transforms.SigmoidTransform()])
        else:
            made = dist.Beta(a, b)
        return made.to_event(1)

    def constrain(self, u: Tensor) -> Tensor:
        """Natural scale of unconstrained numbers [..., K]; Pyro's own transforms for these supports."""
        if self.kind in ("lognormal", "halfnormal"):
            return u.exp()
        return u if self.kind == "normal" else u.sigmoid()

    def unconstrain(self, value: Tensor) -> Tensor:
        """The inverse of `constrain`."""
        if self.kind in ("lognormal", "halfnormal"):
            return value.log()
        return value if self.kind == "normal" else value.logit()

    def median(self) -> Tensor:
        """Unconstrained medians of the prior [K], about where a fit may start."""
        if self.kind == "lognormal":
            return self.first.log()
        if self.kind == "halfnormal":
            return (0.6745 * self.first).log()
        if self.kind == "normal":
            return self.first.clone()
        return self.first.logit() if self.kind == "logitnormal" else (self.first / (self.first + self.second)).logit()

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Unconstrained draws from the prior, [N, K]."""
        noise = torch.randn(count, self.size, generator=generator, dtype=torch.float64).to(self.first)
        if self.kind in ("lognormal", "normal", "logitnormal"):
            return self.median() + self.second * noise
        if self.kind == "halfnormal":
            return (self.first * noise.abs()).log()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(torch.randint(2**31, (1,), generator=generator)))
            return torch.distributions.Beta(self.first, self.second).sample((count,)).logit()

    def log_prior(self, u: Tensor) -> Tensor:
        """Log density of unconstrained numbers [..., K] -> [...], Jacobian included."""
        a, b = self.first, self.second
        if self.kind in ("lognormal", "normal", "logitnormal"):
            z = (u - self.median()) / b
            return (-0.5 * z.square() - b.log() - 0.5 * _LOG_2PI).sum(-1)
        if self.kind == "halfnormal":
            z = u.exp() / a
            return (-0.5 * z.square() - a.log() - 0.5 * _LOG_2PI + math.log(2) + u).sum(-1)
        log_p, log_q = torch.nn.functional.logsigmoid(u), torch.nn.functional.logsigmoid(-u)
        norm = torch.lgamma(a) + torch.lgamma(b) - torch.lgamma(a + b)
        return (a * log_p + b * log_q - norm).sum(-1)


def site(
    name: str,
    given: Any,
    labels: Sequence[str],
    axis: str = "",
    where: str = "model.net.priors",
    default: Sequence[Any] | None = None,
) -> Site:
    """A parameter with the prior that a recipe gives, one number per label.

    Args:
        name: of the parameter.
        given: `[kind, ...]`, or a mapping of these by label with an entry `default`.
        labels: of the K entries.
        axis: what they are.
        where: for messages.
        default: the prior of the parameter where nothing is given, whose values are those that it can take; None is
            any number.

    Raises:
        UserError: an unknown kind or label, a wrong number of parameters, or one out of range; a prior of values that
            the parameter cannot take.
    """
    table = dict(given) if isinstance(given, Mapping) else {"default": given}
    unknown = set(table) - {"default", *labels}
    if unknown or ("default" not in table and set(labels) - set(table)):
        wrong = sorted(map(str, unknown)) or sorted(set(labels) - set(table))
        named = [label for label in labels if label]
        there = f"none of {', '.join(named)}." if named else "no part of it, it is one number: write [kind, numbers]."
        raise UserError(
            f"{where}.{name}: {', '.join(wrong)} is " + (there if unknown else "not given, and there is no default.")
        )
    rows = [_parsed(f"{where}.{name}", table.get(label, table.get("default"))) for label in labels]
    kinds = {kind for kind, _ in rows}
    if len(kinds) > 1:
        raise UserError(f"{where}.{name} mixes the kinds {', '.join(sorted(kinds))}: use one kind for all entries.")
    kind = kinds.pop() if kinds else _parsed(f"{where}.{name}", table["default"])[0]
    if default is not None and kind not in (fitting := kinds_like(str(default[0]))):
        lies = "between 0 and 1" if fitting == SHARES else "above 0"
        raise UserError(
            f"{where}.{name}={given!r}: it lies {lies}, and {kind} allows more. Choose from {', '.join(fitting)}, such "
            f"as {list(default)}."
        )
    numbers = torch.tensor([values + [0.0] * (2 - len(values)) for _, values in rows], dtype=torch.float64)
    numbers = numbers.reshape(len(labels), 2)
    return Site(name, kind, numbers[:, 0].contiguous(), numbers[:, 1].contiguous(), axis)


def kinds_like(kind: str) -> tuple[str, ...]:
    """Kinds of prior whose values a parameter can take that has this one by default."""
    if kind == "normal":
        return tuple(KINDS)
    return SHARES if kind in SHARES else tuple(k for k in KINDS if k != "normal")


def _parsed(key: str, given: Any) -> tuple[str, list[float]]:
    if not isinstance(given, Sequence) or isinstance(given, str) or not given or given[0] not in KINDS:
        raise UserError(f"{key}={given!r}: write [kind, numbers], with kind one of {', '.join(KINDS)}.")
    kind, values = given[0], list(given[1:])
    if len(values) != KINDS[kind] or not all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
        raise UserError(f"{key}={given!r}: {kind} takes {KINDS[kind]} number(s).")
    if endless := [v for v in values if math.isinf(v)]:
        raise UserError(f"{key}={given!r}: {endless[0]} is no number of a prior; give a large one instead, such as 10.")
    positive = {"lognormal": [0, 1], "halfnormal": [0], "normal": [1], "logitnormal": [1], "beta": [0, 1]}[kind]
    low = [values[i] for i in positive if not values[i] > 0]
    if low or (kind == "logitnormal" and not 0 < values[0] < 1):
        raise UserError(f"{key}={given!r}: " + ("a median in (0, 1)" if not low else f"{low[0]} must be above 0") + ".")
    return kind, [float(v) for v in values]


class FlatSites:
    """Several parameters packed into one unconstrained vector, in the order Pyro's guides pack them.

    Args:
        sites: in order; names must differ.
    """

    def __init__(self, sites: Sequence[Site]) -> None:
        self.sites = tuple(s for s in sites if s.size)
        self.dim = sum(s.size for s in self.sites)

    def split(self, u: Tensor) -> dict[str, Tensor]:
        """Unconstrained numbers by name: [..., D] -> [..., K] each."""
        parts = u.split([s.size for s in self.sites], dim=-1)
        return {s.name: part for s, part in zip(self.sites, parts, strict=True)}

    def constrain(self, u: Tensor) -> dict[str, Tensor]:
        """Natural values by name, [..., K] each."""
        parts = self.split(u)
        return {s.name: s.constrain(parts[s.name]) for s in self.sites}

    def unconstrain(self, values: Mapping[str, Tensor]) -> Tensor:
        """The inverse of `constrain`, [..., D]."""
        return torch.cat([s.unconstrain(values[s.name]) for s in self.sites], dim=-1)

    def log_prior(self, u: Tensor) -> Tensor:
        """[..., D] -> [...]."""
        parts = self.split(u)
        return sum((s.log_prior(parts[s.name]) for s in self.sites), torch.zeros(u.shape[:-1]).to(u))

    def median(self) -> Tensor:
        """Unconstrained prior medians, [D]."""
        return torch.cat([s.median() for s in self.sites])

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Unconstrained draws from the prior, [N, D]."""
        return torch.cat([s.sample(count, generator) for s in self.sites], dim=-1)

    def names(self, labels: Mapping[str, Sequence[str]]) -> list[str]:
        """A name per unconstrained number, such as "decay[tv]"; `labels` by axis."""
        out: list[str] = []
        for s in self.sites:
            entries = labels.get(s.axis) or [str(k) for k in range(s.size)]
            out += [s.name] if not s.axis and s.size == 1 else [f"{s.name}[{entry}]" for entry in entries]
        return out
