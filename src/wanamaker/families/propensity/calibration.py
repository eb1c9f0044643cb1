"""Calibration of scores on held-out rows, cross-fitted.

Every score has an additive scale: log odds of a probability or of an interval's hazard, log of an amount. There,

- "temperature" is a line with positive slope, fitted by maximum likelihood (Platt 1999; with a bias, because the base
  rate may move, too). For amounts it is a Poisson regression on the log of the expectation: the total becomes right.
- "isotonic" is an increasing step function (Zadrozny & Elkan 2002), fitted to bins and joined linearly, so that nobody
  is given a probability of 0 or 1 and ranks are kept.

Rows are dealt to folds by their key. A fold has a map that was fitted on the other folds: those maps are compared by
the loss of rows they have not seen, and are what calibrated rows themselves are given. All other rows get the map
fitted on all folds.

Axis letters: N rows, T tasks, G folds, C knots, P positions, D intervals of a hazard.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from wanamaker.data.propensity_batch import Task

from .heads import EPS, TINY_AMOUNT, Heads

CALIBRATIONS = ("auto", "temperature", "isotonic", "none")
KNOTS = 40
MANY = 1_000
"""Rows in which it happened (or that are worth something) from which "auto" considers the step function."""
_FEW = 20  # with fewer, or with fewer in which it did not, two numbers are too many
_SLOPE = 1e-3
_NONE, _LINE, _STEPS = 0, 1, 2


class Calibration(nn.Module):
    """Maps of the T tasks for G folds and, last, for rows of no fold; the identity until `take`.

    Args:
        heads: of the tasks.
        folds: G.
    """

    def __init__(self, heads: Heads, folds: int) -> None:
        super().__init__()
        T = len(heads.tasks)
        self.folds = folds
        self.register_buffer("used", torch.zeros(T, dtype=torch.int64))
        self.register_buffer("line", torch.tensor([1.0, 0.0]).repeat(T, folds + 1, 1))
        self.register_buffer("knots", torch.zeros(T, folds + 1, 2, KNOTS))

    @torch.no_grad()
    def take(self, state: dict[str, np.ndarray]) -> None:
        """Maps as `fitted` gives them."""
        for name, value in state.items():
            buffer = getattr(self, name)
            buffer.copy_(torch.as_tensor(value, dtype=buffer.dtype))

    def forward(self, heads: Heads, natural: Tensor, fold: Tensor, own: Tensor) -> Tensor:
        """Calibrated natural outputs, [P, N].

        Args:
            heads: they know the tasks.
            natural: [P, N], of the averaged members.
            fold: int64 [P]. own: bool [P], whether the map was fitted on the row, so that its fold's must be used.
        """
        which = torch.where(own, fold, self.folds)
        parts = []
        for t, (kind, value) in enumerate(zip(heads.kinds, heads.of_natural(natural), strict=True)):
            used = int(self.used[t])
            if used == _NONE:
                parts.append(value)
                continue
            linked = linked_outputs(kind, value)
            mapped = self._line(t, linked, which) if used == _LINE else self._steps(t, linked, which)
            parts.append(_unlinked(kind, mapped))
        return torch.cat(parts, dim=-1)

    def _line(self, task: int, linked: Tensor, which: Tensor) -> Tensor:
        slope, bias = self.line[task, which].unbind(-1)
        return slope[:, None] * linked + bias[:, None]

    def _steps(self, task: int, linked: Tensor, which: Tensor) -> Tensor:
        mapped = torch.stack([_interpolated(linked, own) for own in self.knots[task]])  # [G + 1, P, D]
        return mapped.gather(0, which[None, :, None].expand(1, *linked.shape))[0]


def linked_outputs(kind: str, natural: Tensor) -> Tensor:
    """The scale on which maps work, [P, D]: log odds of the hazards of a survival curve, log odds, log of an amount."""
    if kind == "value":
        return natural.clamp(min=TINY_AMOUNT).log()
    if kind == "hazard":
        before = torch.cat([torch.ones_like(natural[:, :1]), natural[:, :-1]], dim=1)
        return torch.logit(1.0 - natural / before.clamp(min=EPS), eps=EPS)
    return torch.logit(natural, eps=EPS)


def _unlinked(kind: str, linked: Tensor) -> Tensor:
    if kind == "value":
        return linked.exp()
    return (-nn.functional.softplus(linked)).cumsum(-1).exp() if kind == "hazard" else linked.sigmoid()


def _interpolated(linked: Tensor, knots: Tensor) -> Tensor:
    """Linear between the knots [2, C], parallel to the identity beyond them."""
    x, y = knots[0].contiguous(), knots[1]
    place = torch.searchsorted(x, linked.contiguous()).clamp(1, len(x) - 1)
    left, right = x[place - 1], x[place]
    share = ((linked - left) / (right - left).clamp(min=1e-12)).clamp(0, 1)
    inside = y[place - 1] + share * (y[place] - y[place - 1]) + _SLOPE * (linked.clamp(x[0], x[-1]) - x[0])
    return inside + (linked - x[-1]).clamp(min=0) + (linked - x[0]).clamp(max=0)


def fitted(
    tasks: Sequence[Task], rows: Sequence[dict[str, np.ndarray]], folds: int, choice: str
) -> dict[str, np.ndarray]:
    """The buffers of `Calibration`, from rows that the scores have not seen.

    Args:
        tasks: T.
        rows: [T] of ``linked`` (scores on the additive scale), ``label`` (0 or 1; amounts), ``weight``, ``fold``: [N].
            Of a hazard a row is a customer in an interval.
        folds: G.
        choice: of `CALIBRATIONS`. "auto": the one of none, line and, with more than `MANY` positive rows, steps that
            has the least loss on the folds it was not fitted on.
    """
    T = len(tasks)
    state: dict[str, Any] = {
        "used": np.zeros(T, dtype=np.int64),
        "line": np.tile([1.0, 0.0], (T, folds + 1, 1)),
        "knots": np.zeros((T, folds + 1, 2, KNOTS)),
    }
    for t, (task, own) in enumerate(zip(tasks, rows, strict=True)):
        linked, label, weight, fold = (own[name] for name in ("linked", "label", "weight", "fold"))
        linked, label, weight = (value.astype(np.float64) for value in (linked, label, weight))
        amounts = task.kind == "value"
        positive = int(((label > 0) & (weight > 0)).sum())
        other = len(label) if amounts else int(((label == 0) & (weight > 0)).sum())
        if choice == "none" or task.kind == "regression" or min(positive, other) < _FEW:
            continue
        parts = [(fold != g) & (weight > 0) for g in range(folds)] + [weight > 0]
        candidates = {"auto": (_LINE, _STEPS) if positive > MANY else (_LINE,), "temperature": (_LINE,)}
        losses = {_NONE: _loss(linked, label, weight, amounts)} if choice == "auto" else {}
        for kind in candidates.get(choice, (_STEPS,)):
            out_of_fold = np.empty_like(linked)
            for g, part in enumerate(parts):
                table = (linked[part], label[part], weight[part], amounts)
                if kind == _LINE:
                    state["line"][t, g] = _fit_line(*table)
                    mapped = linked * state["line"][t, g, 0] + state["line"][t, g, 1]
                else:
                    state["knots"][t, g] = _fit_steps(*table)
                    mapped = _interpolated(torch.as_tensor(linked), torch.as_tensor(state["knots"][t, g])).numpy()
                out_of_fold = np.where(fold == g, mapped, out_of_fold)
            losses[kind] = _loss(out_of_fold, label, weight, amounts)
        state["used"][t] = min(losses, key=losses.__getitem__)
    return state


def _loss(linked: np.ndarray, label: np.ndarray, weight: np.ndarray, amounts: bool) -> float:
    """Negative log likelihood: of a coin, or (of amounts) of a Poisson variable, which is least at the mean whatever
    the distribution is (a quasi-likelihood; Wedderburn 1974)."""
    cumulant = np.exp(linked) if amounts else np.logaddexp(0.0, linked)
    return float((weight * (cumulant - label * linked)).sum())


def _fit_line(linked: np.ndarray, label: np.ndarray, weight: np.ndarray, amounts: bool) -> np.ndarray:
    """Slope and bias with the least `_loss`; the slope is between 1/20 and 20."""
    from scipy.optimize import minimize
    from scipy.special import expit

    scale = weight.sum() * (max(float(np.average(label, weights=weight)), 1e-12) if amounts else 1.0)

    def loss(numbers: np.ndarray) -> tuple[float, np.ndarray]:
        slope = np.exp(numbers[0])
        mapped = slope * linked + numbers[1]
        if amounts:
            mapped = np.minimum(mapped, 60.0)
        residual = weight * ((np.exp(mapped) if amounts else expit(mapped)) - label)
        gradient = np.array([slope * (residual * linked).sum(), residual.sum()])
        return _loss(mapped, label, weight, amounts) / scale, gradient / scale

    start = np.zeros(2)
    if amounts:  # the level first: amounts may be far from the expectations
        start[1] = np.log((weight * label).sum() / (weight * np.exp(linked)).sum())
    limit = np.log(20.0)
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=[(-limit, limit), (None, None)])
    return np.array([np.exp(found.x[0]), found.x[1]])


def _fit_steps(linked: np.ndarray, label: np.ndarray, weight: np.ndarray, amounts: bool) -> np.ndarray:
    """Knots [2, C] of the increasing function; where there are fewer the last is repeated."""
    from sklearn.isotonic import IsotonicRegression

    bins = int(np.clip((label > 0).sum() // 20, 2, KNOTS))
    order = np.argsort(linked, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    mass = np.array([weight[part].sum() for part in parts])
    x = np.array([np.average(linked[part], weights=weight[part]) for part in parts])
    total = np.array([(weight[part] * label[part]).sum() for part in parts])
    # A bin without a positive row says "rare", not "never": it is given a bit of the rate of all.
    rate = label @ weight / weight.sum()
    y = (total + rate) / (mass + 1.0)
    y = IsotonicRegression().fit(x, y, sample_weight=mass).predict(x)
    logs = np.log(np.maximum(y, TINY_AMOUNT)) if amounts else np.log(y.clip(EPS, 1 - EPS) / (1 - y.clip(EPS, 1 - EPS)))
    knots = np.stack([x, logs])
    knots = np.concatenate([knots, np.repeat(knots[:, -1:], KNOTS - knots.shape[1], axis=1)], axis=1)
    if amounts:  # the total is what the amounts sum up to
        mapped = _interpolated(torch.as_tensor(linked), torch.as_tensor(knots)).numpy()
        knots[1] += np.log((weight * label).sum() / (weight * np.exp(mapped)).sum())
    return knots


def calibration_rows(heads: Heads, rows: dict[str, Tensor]) -> list[dict[str, np.ndarray]]:
    """Rows for `fitted`, of each task.

    Args:
        heads: of the tasks.
        rows: ``natural`` [N, ...], ``label``, ``time`` [N, T], ``weight``, ``fold`` [N].
    """
    from .losses import observed_intervals

    known = heads.known(rows["label"], rows["time"])
    made = []
    for t, (kind, value) in enumerate(zip(heads.kinds, heads.of_natural(rows["natural"]), strict=True)):
        keep = known[:, t]
        linked, label = linked_outputs(kind, value[keep]), rows["label"][keep, t][:, None]
        at_risk = torch.ones_like(linked, dtype=torch.bool)
        if kind == "hazard":
            edges = heads.edges(t).to(label.device)
            survived, label = observed_intervals(edges, label[:, 0], rows["time"][keep, t])
            at_risk = (survived + label) > 0
        spread = {
            name: rows[name][keep][:, None].expand_as(linked)[at_risk].cpu().numpy() for name in ("weight", "fold")
        }
        made.append(spread | {"linked": linked[at_risk].cpu().numpy(), "label": label[at_risk].cpu().numpy()})
    return made
