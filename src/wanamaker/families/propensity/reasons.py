"""Why a score is what it is: integrated gradients, summed per feature, per type of event or per column of events.

Integrated gradients (Sundararajan, Taly & Yan 2017, arXiv 1703.01365) share the difference between a customer's score
and that of a reference among the inputs: their sum is that difference (completeness), up to the error of the sum over
steps that stands for the integral. The reference has the mean of all encoded inputs over the held-out rows; its
events, as many as the customer's, are all the mean event. What is explained is the score before calibration on its
additive scale: log odds, log of an amount, number.

Axis letters: P positions, E events, M members, T tasks, W width of inputs, R reasons, G names that reasons choose from.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from wanamaker.data.propensity_batch import PropensityBatch, PropensitySchema
from wanamaker.errors import UserError
from wanamaker.nn.folds import member_mean
from wanamaker.nn.rank_columns import RankedFeatureEncoder
from wanamaker.nn.tabular import FeatureEncoder

if TYPE_CHECKING:
    from .net import Encoded, PropensityNet

BASELINES = ("mean", "zero")
EVENTS = ("type", "column")
POSITIONS = ("latest", "all")
EVENTS_AT_ONCE, POSITIONS_AT_ONCE = 1 << 15, 1 << 11
"""Of a portion that is explained together: they bound its memory, however many positions a batch has."""
MOST = 1_000  # reasons of a score, and steps of an integral
SINCE, SEEN, GAP = "time since the last event", "number of events", "time between events"


@dataclass(frozen=True)
class ReasonOptions:
    """How reasons are found.

    Attributes:
        top: how many are given for each score; 0 for none.
        steps: of the integral, by Gauss and Legendre: few are enough.
        baseline: "mean": the reference above. "zero": encoded inputs of 0.
        events: "type": all that an event of a type brings is summed up. "column": all that a column of events brings.
        positions: "latest": of a customer with several in a batch (every event of a session, say) the last one only;
            the others get none. "all": each, at the price of reading its sequence again.
    """

    top: int = 3
    steps: int = 8
    baseline: str = "mean"
    events: str = "type"
    positions: str = "latest"

    def __post_init__(self) -> None:
        for name, least in (("top", 0), ("steps", 1)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= MOST:
                raise UserError(f"model.net.reasons.{name}={value!r}: give a whole number from {least} to {MOST:,}.")
        for name, choices in (("baseline", BASELINES), ("events", EVENTS), ("positions", POSITIONS)):
            if getattr(self, name) not in choices:
                raise UserError(f"model.net.reasons.{name}={getattr(self, name)!r}: choose from {', '.join(choices)}.")


def reason_names(schema: PropensitySchema, events: str) -> tuple[str, ...]:
    """Names that reasons choose from, G of them: features, then what events bring."""
    static = (*schema.numeric, *schema.categorical)
    if not schema.has_events:
        return static
    if events == "column":
        of_events = tuple(f"events: {name}" for name in (*schema.event_numeric, *schema.event_categorical))
    else:
        kind = schema.event_categorical[0]
        of_events = tuple(f"{kind}: {value}" for value in ("(other)", *schema.event_categories[0]))
    return (*static, *of_events, GAP, SINCE, SEEN)


def columns_of(encoder: FeatureEncoder) -> list[int]:
    """For each of an encoder's outputs the number of its column, numeric ones first; W numbers."""
    numeric = list(range(encoder.numeric))
    columns = numeric * 2 + [f for f in numeric for _ in range(encoder.pieces)]
    for j in encoder.one_hot:
        columns += [encoder.numeric + j] * encoder.categories[j]
    if isinstance(encoder, RankedFeatureEncoder):
        columns += numeric
    for j, table in zip(encoder.embedded, encoder.tables, strict=True):
        columns += [encoder.numeric + j] * table.shape[-1]
    return columns


class References(nn.Module):
    """Means of encoded inputs, in buffers.

    Args:
        net: built but for this.
    """

    def __init__(self, net: PropensityNet) -> None:
        super().__init__()

        def zeros(encoder: FeatureEncoder | None) -> Tensor:
            if encoder is None:
                return torch.zeros(1, 1, 0)
            return torch.zeros(encoder.members if encoder.embedded else 1, 1, encoder.width)

        self.register_buffer("static", zeros(net.encoder))
        self.register_buffer("events", zeros(None if net.sequence is None else net.sequence.encoder))
        self.register_buffer("position", torch.zeros(1, 1, 0 if net.sequence is None else 3))

    def sums_of(self, encoded: Encoded) -> Tensor:
        """Sums over a batch and its counts, float64, flat: what ranks can add up."""
        counts = [len(encoded.position), encoded.events.shape[-2], len(encoded.position)]
        parts = [
            torch.cat([value.double().sum(-2).flatten(), value.new_tensor([count], dtype=torch.float64)])
            for value, count in zip((encoded.static, encoded.events, encoded.position), counts, strict=True)
        ]
        return torch.cat(parts)

    @property
    def width(self) -> int:
        """Numbers of `sums_of`."""
        return sum(buffer.numel() + 1 for buffer in self.buffers())

    @torch.no_grad()
    def take(self, sums: Tensor) -> None:
        """Means of sums over all ranks."""
        buffers = (self.static, self.events, self.position)
        parts = sums.split([buffer.numel() + 1 for buffer in buffers])
        for buffer, part in zip(buffers, parts, strict=True):
            buffer.copy_((part[:-1] / part[-1].clamp(min=1)).reshape(buffer.shape))

    def like(self, encoded: Encoded) -> list[Tensor]:
        """A reference for each input, broadcastable to it: static, events, position."""
        values = zip((self.static, self.events, self.position), encoded, strict=True)
        return [mean if value.ndim == 3 else mean[0] for mean, value in values]


def one_sequence_each(batch: PropensityBatch) -> PropensityBatch:
    """The same positions, each with a sequence of its own that ends where it stands: gradients do not mix."""
    length, sequence, seen = batch.length, batch.sequence.to(batch.length.device), batch.seen.to(batch.length.device)
    has = seen > 0
    own = seen[has]
    first = (length.cumsum(0) - length)[sequence[has]]
    begins = own.cumsum(0) - own
    event = torch.arange(int(own.sum()), device=own.device) + torch.repeat_interleave(first - begins, own)
    event = event.to(batch.row.device)
    numbers = torch.where(has, has.cumsum(0) - 1, -1).to(batch.row.device)
    return batch._replace(
        sequence=numbers,
        length=own,
        event_categorical=batch.event_categorical[event],
        event_numeric=batch.event_numeric[event],
        event_gap=batch.event_gap[event],
    )


def latest(batch: PropensityBatch) -> Tensor:
    """Which positions see most of their sequence, one for each, and all that have none; bool [P]."""
    order = torch.argsort(batch.row, stable=True)
    order = order[torch.argsort(batch.seen[order], stable=True)]
    last = torch.zeros(len(batch.length) + 1, dtype=torch.int64, device=batch.row.device)
    last.scatter_reduce_(0, batch.sequence[order] + 1, torch.arange(len(order), device=order.device), "amax")
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order), device=order.device)
    return (batch.sequence < 0) | (last[batch.sequence + 1] == place)


def attributions(net: PropensityNet, batch: PropensityBatch, split: Tensor) -> Tensor:
    """How far each input moved each score from the reference's, [P, T, G].

    Args:
        net: in evaluation.
        batch: P positions.
        split: int64 [P], as in `PropensityNet.forward`.
    """
    recurrent = [] if net.sequence is None else list(net.sequence.nets)
    with torch.inference_mode(False), torch.enable_grad():
        batch = PropensityBatch(*(value.clone() for value in batch))  # inference's tensors have no gradients
        in_training = split.clone() == 0
        found = batch.numeric.new_zeros(len(batch.row), len(net.heads.tasks), len(net.reason_names))
        for part in recurrent:  # cuDNN has gradients in training mode only; nothing else differs
            part.train()
        try:
            for places in portions(batch.seen):
                some = batch.some(places)
                some = some if net.sequence is None else one_sequence_each(some)
                found[places] = _integrated(net, some, net.may_speak(some, in_training[places]))
        finally:
            for part in recurrent:
                part.eval()
    return found


def portions(seen: Tensor) -> Iterator[Tensor]:
    """Places of positions that are explained together, int64 each: gradients keep every state of their events.

    Args:
        seen: int64 [P], events of each; those of like length come together, and at most `EVENTS_AT_ONCE` of them (or
            one position).
    """
    order = seen.argsort(stable=True)
    lengths = seen[order].clamp(min=1).tolist()
    begin, events = 0, 0
    for place, length in enumerate(lengths):
        if place > begin and (events + length > EVENTS_AT_ONCE or place - begin == POSITIONS_AT_ONCE):
            yield order[begin:place]
            begin, events = place, 0
        events += length
    if begin < len(lengths):
        yield order[begin:]


def link_of(net: PropensityNet, encoded: Encoded, batch: PropensityBatch, use: Tensor) -> Tensor:
    """Scores before calibration on their additive scale, [P, T]."""
    natural = member_mean(net.heads.natural(net.members_of(encoded, batch)), use)
    return net.heads.link(net.heads.score(natural))


def _integrated(net: PropensityNet, batch: PropensityBatch, use: Tensor) -> Tensor:
    with torch.no_grad():
        encoded = net.encode(batch)
        reference = net.references.like(encoded)
        if net.reasons.baseline == "zero":
            reference = [torch.zeros_like(value) for value in reference]
        reference = [mean.expand_as(value) for mean, value in zip(reference, encoded, strict=True)]
        change = [value - mean for value, mean in zip(encoded, reference, strict=True)]
    T, steps = len(net.heads.tasks), net.reasons.steps
    total = [[torch.zeros_like(value) for value in encoded] for _ in range(T)]
    places, weights = np.polynomial.legendre.leggauss(steps)  # exact for polynomials up to 2 x steps - 1
    for place, weight in zip(places.tolist(), weights.tolist(), strict=True):
        share = (place + 1) / 2
        point = [(mean + share * gap).requires_grad_() for mean, gap in zip(reference, change, strict=True)]
        linked = link_of(net, type(encoded)(*point), batch, use)
        for t in range(T):
            gradients = torch.autograd.grad(linked[:, t].sum(), point, retain_graph=t + 1 < T, allow_unused=True)
            for sums, gradient in zip(total[t], gradients, strict=True):
                if gradient is not None:
                    sums += gradient * weight / 2
    with torch.no_grad():
        found = [_grouped(net, batch, [gap * sums for gap, sums in zip(change, own, strict=True)]) for own in total]
    return torch.stack(found, dim=1)


def _grouped(net: PropensityNet, batch: PropensityBatch, moved: list[Tensor]) -> Tensor:
    """Sums per name, [P, G]."""
    static, events, position = (value.sum(0) if value.ndim == 3 else value for value in moved)
    schema, P = net.schema, len(batch.row)
    result = static.new_zeros(P, len(net.reason_names))
    if net.encoder is not None:
        result.index_add_(1, torch.tensor(columns_of(net.encoder), device=static.device), static)
    if net.sequence is None:
        return result
    result[:, -2] += position[:, 0] + position[:, 1]  # the last names are GAP, SINCE, SEEN
    result[:, -1] += position[:, 2]
    D, first = len(schema.event_numeric), len(schema.numeric) + len(schema.categorical)
    columns = torch.tensor(columns_of(net.sequence.encoder), device=events.device)
    gap = columns == D  # the encoder's last numeric column
    where = torch.repeat_interleave(batch.length).to(events.device)  # sequence of each event
    owner = torch.where(batch.sequence >= 0)[0][where]  # sequences are numbered in the order of their positions
    result[:, -3].index_add_(0, owner, events[:, gap].sum(1))
    if net.reasons.events == "type":
        kinds = first + batch.event_categorical[:, 0]
        result.index_put_((owner, kinds), events[:, ~gap].sum(1), accumulate=True)
        return result
    of_event = events.new_zeros(len(events), D + len(schema.event_categorical))
    of_event.index_add_(1, columns[~gap] - (columns[~gap] > D).long(), events[:, ~gap])
    result[:, first : first + of_event.shape[1]].index_add_(0, owner, of_event)
    return result


def top_reasons(found: Tensor, top: int) -> tuple[Tensor, Tensor]:
    """The names that moved a score most, and how far: int64 [P, T, R] and [P, T, R]; -1 and 0 for those of no effect.

    Args:
        found: [P, T, G]. top: R; fewer names than that leave places empty.
    """
    P, T, G = found.shape
    size = min(top, G)
    _, place = found.abs().topk(size, dim=-1)
    push = found.gather(-1, place)
    place = torch.where(push == 0, -1, place)
    if size < top:
        place = torch.cat([place, place.new_full((P, T, top - size), -1)], dim=-1)
        push = torch.cat([push, push.new_zeros(P, T, top - size)], dim=-1)
    return place, push
