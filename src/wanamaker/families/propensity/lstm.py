"""Sequences of events as states of an LSTM or a GRU, read where each position stands.

Events lie one after the other, [E, ...]. Sequences of like length are run together, padded at their ends: a net that
reads forwards never gets to know it, and torch's kernels for equal lengths are several times as fast as those for
packed sequences, whose backward pass takes time in the square of the length.

Axis letters: P positions, S sequences, E events, C/D categorical and numeric columns of an event, M members, U units.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from wanamaker.data.propensity_batch import PropensityBatch, PropensitySchema, PropensityStats
from wanamaker.errors import UserError
from wanamaker.nn.row_hash import dropped, stream
from wanamaker.nn.tabular import FeatureEncoder

from .counts import check_counts, check_inputs

CELLS = {"lstm": nn.LSTM, "gru": nn.GRU}
POOLS = ("last", "mean", "max")
_INPUT, _OUTPUT = 2_001, 2_002  # streams of the dropout
_LIKE, _SLACK = 0.75, 2
"""Sequences are run together down to this share of the longest one's length, and so many events less."""


class Layout(NamedTuple):
    """Where events go.

    Attributes:
        groups: int64 [L, n] each: the event at each step of the n sequences that are run together; behind the end of a
            sequence its last event again.
        place: int64 [E], where each event's state lies when the groups' outputs are laid flat, one after the other.
        first: int64 [S], number of each sequence's first event.
        sequence, step: int64 [E], of each event: its sequence, and its number within it from 0.
        longest: events of the longest sequence.
    """

    groups: list[Tensor]
    place: Tensor
    first: Tensor
    sequence: Tensor
    step: Tensor
    longest: int


def layout_of(length: Tensor, device: torch.device) -> Layout:
    """Groups of sequences of like length.

    Args:
        length: int64 [S], at least 1 each. On the CPU nothing waits for a device.
        device: of the result.
    """
    length = length.cpu()
    first = length.cumsum(0) - length
    sequence = torch.repeat_interleave(torch.arange(len(length)), length)
    step = torch.arange(int(length.sum())) - first[sequence]
    order = length.argsort(descending=True, stable=True)
    falling = -length[order]
    column, of_group, above = torch.empty_like(length), torch.empty_like(length), []
    groups: list[Tensor] = []
    begin, states = 0, 0
    while begin < len(order):
        top = int(length[order[begin]])
        least = max(1, int(_LIKE * top) - _SLACK)
        end = int(torch.searchsorted(falling, -least, right=True))
        members = order[begin:end]
        steps = torch.minimum(torch.arange(top)[:, None], length[members] - 1)
        column[members], of_group[members] = torch.arange(end - begin), len(groups)
        above.append((states, end - begin))
        groups.append((first[members] + steps).to(device, non_blocking=True))
        begin, states = end, states + top * (end - begin)
    offset, width = torch.tensor(above, dtype=torch.int64).reshape(-1, 2)[of_group].T
    place = offset[sequence] + step * width[sequence] + column[sequence]
    moved = (value.to(device, non_blocking=True) for value in (place, first, sequence, step))
    return Layout(groups, *moved, int(length.max()))


class SequenceEncoder(nn.Module):
    """M recurrent nets over the events that each position has seen.

    Inputs of an event are its categorical columns (one-hot or embedded; one that training never had is the mean of
    those it had), its numeric ones, and log(1 + days since the event before), as `FeatureEncoder` gives them. The
    state after the last event seen is what a position gets: later events cannot move it. A customer without events
    has a learned state of its own.

    Args:
        schema: with events.
        members: M.
        cell: "lstm" or "gru". hidden: units. layers: stacked nets.
        pool: of `POOLS`, side by side: the last state, the mean and the maximum of all states so far.
        dropout: of the states that positions read. input_dropout: of the events' inputs.
        pieces, log, embed_above, embedding: of `FeatureEncoder`, for the events' columns.

    Raises:
        UserError: an option out of range.
    """

    def __init__(
        self,
        schema: PropensitySchema,
        members: int,
        cell: str = "lstm",
        hidden: int = 32,
        layers: int = 1,
        pool: Sequence[str] = ("last",),
        dropout: float = 0.0,
        input_dropout: float = 0.0,
        pieces: int = 0,
        log: str = "auto",
        embed_above: int = 32,
        embedding: int = 8,
    ) -> None:
        super().__init__()
        if cell not in CELLS:
            raise UserError(f"model.net.sequence.cell={cell!r}: choose from {', '.join(CELLS)}.")
        if isinstance(pool, str) or not pool or set(pool) - set(POOLS):
            raise UserError(f"model.net.sequence.pool={pool!r}: give a list of {', '.join(POOLS)}.")
        check_counts("model.net.sequence", {"hidden": (hidden, 1), "layers": (layers, 1)})
        check_inputs("model.net.sequence", pieces, log, embed_above, embedding)
        for name, value in (("dropout", dropout), ("input_dropout", input_dropout)):
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
                raise UserError(f"model.net.sequence.{name}={value!r}: give a probability of at least 0 and below 1.")
        self.members, self.pool, self.dropout, self.input_dropout = members, tuple(pool), dropout, input_dropout
        self.columns = len(schema.event_numeric)
        categories = [len(values) for values in schema.event_categories]
        self.encoder = FeatureEncoder(
            self.columns + 1,
            categories,
            members=members,
            pieces=pieces,
            log=log,
            embed_above=embed_above,
            embedding=embedding,
        )
        self.nets = nn.ModuleList(
            CELLS[cell](self.encoder.width, hidden, layers, batch_first=False) for _ in range(members)
        )
        self.width = hidden * len(self.pool)
        self.start = nn.Parameter(torch.zeros(members, 1, self.width))
        if cell == "lstm":
            for net in self.nets:
                _remember(net)

    def fit(self, stats: PropensityStats) -> None:
        """Take over the statistics of the events."""
        gaps = torch.tensor(stats.gap_quantiles, dtype=torch.float64).clamp(min=0).log1p()
        middle = (gaps[1:] + gaps[:-1]) / 2
        mean, sd = float(middle.mean()), float(middle.std(correction=0)) or 1.0
        self.encoder.fit(
            (*stats.event_mean, mean),
            (*stats.event_sd, sd),
            (*stats.event_missing, 1.0),  # every first event has none
            (*stats.event_quantiles, tuple(gaps.tolist())),
        )

    def inputs(self, batch: PropensityBatch) -> Tensor:
        """Encoded events, [E, width], or [M, E, width] where a column is embedded."""
        gap = batch.event_gap.clamp(min=0).log1p()
        return self.encoder(torch.cat([batch.event_numeric, gap[:, None]], dim=1), batch.event_categorical)

    def forward(self, batch: PropensityBatch, seeds: Tensor | None = None, inputs: Tensor | None = None) -> Tensor:
        """What each position has seen, [M, P, width].

        Args:
            batch: its positions and sequences.
            seeds: int64 [P], needed in training with dropout: the same for all positions of a sequence.
            inputs: of the events, instead of `inputs(batch)`.
        """
        start = self.start.expand(-1, len(batch.row), -1)
        if not len(batch.length):
            # Every parameter takes part on every rank, also where no customer of a batch has an event.
            return start + sum(0.0 * value.sum() for value in (*self.nets.parameters(), *self.encoder.parameters()))
        inputs = self.inputs(batch) if inputs is None else inputs
        layout = layout_of(batch.length, batch.row.device)
        if self.training and self.input_dropout > 0:
            of_sequence = torch.zeros(len(batch.length) + 1, dtype=torch.int64, device=seeds.device)
            of_sequence[batch.sequence] = seeds  # -1, without a sequence, is the place behind the last one
            of_event = stream(of_sequence[layout.sequence], layout.step)
            inputs = dropped(inputs.expand(self.members, -1, -1), of_event, self.input_dropout, _INPUT)
        read = (batch.seen > 0)[:, None]
        states = torch.stack([self._read(m, inputs, layout, batch) for m in range(self.members)])
        states = torch.where(read, states, start)
        if self.training and self.dropout > 0:
            states = dropped(states, seeds, self.dropout, _OUTPUT)
        return states

    def _read(self, member: int, inputs: Tensor, layout: Layout, batch: PropensityBatch) -> Tensor:
        """States of one member where the positions stand, [P, width]; of those that saw nothing anything."""
        own = inputs if inputs.ndim == 2 else inputs[member]
        output = torch.cat([self.nets[member](own[group])[0].flatten(0, 1) for group in layout.groups])
        sequence, last = batch.sequence.clamp(min=0), (batch.seen - 1).clamp(min=0)
        parts = []
        running: Tensor | None = None
        for pool in self.pool:
            if pool == "last":
                parts.append(output[layout.place[layout.first[sequence] + last]])
                continue
            if running is None:
                steps = torch.arange(layout.longest, device=output.device)
                end = len(layout.place) - 1
                running = output[layout.place[(layout.first[:, None] + steps).clamp(max=end)]]  # [S, longest, U]
            if pool == "mean":
                parts.append(running.cumsum(1)[sequence, last] / (last + 1)[:, None])
            else:
                parts.append(running.cummax(1).values[sequence, last])
        return torch.cat(parts, dim=1)


@torch.no_grad()
def _remember(net: nn.LSTM) -> None:
    """Forget gates start open (Jozefowicz et al. 2015, ICML)."""
    for layer in range(net.num_layers):
        bias = getattr(net, f"bias_hh_l{layer}")
        bias[net.hidden_size : 2 * net.hidden_size].fill_(1.0)
