"""The whole model: encoders of table and events, what tasks share, their heads, calibration, intervals and reasons.

Axis letters: P positions, E events, M members, T tasks, Q raw and N natural outputs of all heads, W width of inputs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from inspect import signature
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from wanamaker.data.propensity_batch import PropensityBatch, PropensitySchema, PropensityStats, Task
from wanamaker.errors import UserError
from wanamaker.nn.folds import BOOTSTRAPS, bootstrap_weights, fold_of, held_out, member_mean
from wanamaker.nn.packed import PackedMLP
from wanamaker.nn.rank_columns import RankedFeatureEncoder
from wanamaker.nn.row_hash import stream
from wanamaker.nn.tabular import FeatureEncoder

from .calibration import CALIBRATIONS, Calibration
from .counts import check_counts, check_inputs, check_units
from .heads import Heads
from .intervals import interval
from .lstm import SequenceEncoder
from .multitask import TaskNet
from .reasons import ReasonOptions, References, reason_names
from .weighting import WEIGHTINGS, TaskWeights, check_weights

CALIBRATION_FOLDS = 5
"""Where members are not cross-fitted; else their folds."""
ROWS_AT_ONCE = 2048
"""Positions without events whose layers fit into a processor's cache."""
_LIMIT = 8.0


class Encoded(NamedTuple):
    """Inputs of the nets, before anything is learned but embeddings; what reasons are given for.

    Attributes:
        static: [P, W], or [M, P, W] where a column is embedded; W may be 0.
        events: [E, W], or [M, E, W]; W is 0 without events.
        position: [P, 3]: standardised log(1 + days since the last event), whether there is none, log(1 + events seen);
            [P, 0] without events.
    """

    static: Tensor
    events: Tensor
    position: Tensor


class Propensity(NamedTuple):
    """What is foretold about P positions.

    Attributes:
        score: [P, T], calibrated: probability, probability by the last edge, expected amount, expected number.
        low, high: [P, T], of the score.
        raw: [P, T], before calibration.
        survival: [P, D], calibrated, at the edges of all hazard tasks.
    """

    score: Tensor
    low: Tensor
    high: Tensor
    raw: Tensor
    survival: Tensor


class PropensityNet(nn.Module):
    """Probabilities, survival and amounts of customers, from their features and their events.

    Parameters are made by `build`, when the data are known.

    Args:
        folds: K. With 1, members learn from all training rows, and other rows must be held out for validation. With
            more, member (k, r) never learns from fold k, so that training rows judge the members that never saw them.
        replicas: R members for each fold; M = K x R.
        fold_seed: decides the folds and the bootstrap weights.
        bootstrap: how members see different customers: of `BOOTSTRAPS`; what intervals are made of.
        structure, hidden, tower_hidden, experts, levels, dropout, layer_norm: of `TaskNet`.
        adapted: members of a fold share weights but for cheap adapters (see `AdaptedMLP`).
        wide: a linear map of the features beside the layers (Cheng et al. 2016).
        pieces, log, embed_above, embedding: of `FeatureEncoder`.
        rank: give features as ranks, too (see `RankedFeatureEncoder`).
        sequence: options of `SequenceEncoder`; not looked at where there are no events.
        task_weighting: "fixed" or "uncertainty" (see `TaskWeights`). task_weights: by name of the task.
        calibration: of `CALIBRATIONS`.
        level: of the intervals. interval_scale: see `interval`.
        reasons: ``top`` (how many per score; 0 for none), ``steps``, ``baseline``, ``events``: see `ReasonOptions`.

    Raises:
        UserError: an option out of range.
    """

    def __init__(
        self,
        folds: int = 1,
        replicas: int = 4,
        fold_seed: int = 0,
        bootstrap: str = "poisson",
        structure: str = "shared",
        hidden: Sequence[int] = (64,),
        tower_hidden: Sequence[int] = (),
        experts: int = 4,
        levels: int = 1,
        dropout: float = 0.1,
        layer_norm: bool = False,
        adapted: bool = False,
        wide: bool = False,
        pieces: int = 0,
        log: str = "auto",
        embed_above: int = 32,
        embedding: int = 8,
        rank: bool = True,
        sequence: Mapping[str, Any] | None = None,
        task_weighting: str = "fixed",
        task_weights: Mapping[str, Any] | None = None,
        calibration: str = "auto",
        level: float = 0.9,
        interval_scale: float = 1.0,
        reasons: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        for name, value, choices in (
            ("bootstrap", bootstrap, BOOTSTRAPS),
            ("task_weighting", task_weighting, WEIGHTINGS),
            ("calibration", calibration, CALIBRATIONS),
        ):
            if value not in choices:
                raise UserError(f"model.net.{name}={value!r}: choose from {', '.join(choices)}.")
        check_counts("model.net", {"folds": (folds, 1), "replicas": (replicas, 1)})
        check_units("model.net.hidden", hidden)
        check_units("model.net.tower_hidden", tower_hidden)
        check_inputs("model.net", pieces, log, embed_above, embedding)
        check_weights(task_weights)
        for name, value, good, words in (
            ("dropout", dropout, 0 <= dropout < 1, "a number of at least 0 and below 1"),
            ("level", level, 0 < level < 1, "a number between 0 and 1, such as 0.9"),
            ("interval_scale", interval_scale, 0 < interval_scale < math.inf, "a number above 0"),
        ):
            if not good:
                raise UserError(f"model.net.{name}={value}: give {words}.")
        self.folds, self.members, self.fold_seed, self.bootstrap = folds, folds * replicas, fold_seed, bootstrap
        self.task_options = {
            "structure": structure,
            "hidden": tuple(hidden),
            "tower_hidden": tuple(tower_hidden),
            "experts": experts,
            "levels": levels,
            "dropout": dropout,
            "layer_norm": layer_norm,
            "adapted_folds": folds if adapted else 0,
        }
        self.has_wide, self.sequence_options = wide, dict(sequence or {})
        self.encoder_options = {"pieces": pieces, "log": log, "embed_above": embed_above, "embedding": embedding}
        self.encoder_kind = RankedFeatureEncoder if rank else FeatureEncoder
        self.task_weighting, self.task_weights = task_weighting, task_weights
        self.calibration_choice, self.level, self.interval_scale = calibration, level, interval_scale
        read = [name for name in signature(SequenceEncoder).parameters if name not in ("schema", "members")]
        explained = [field.name for field in fields(ReasonOptions)]
        for place, given, allowed in (("sequence", sequence, read), ("reasons", reasons, explained)):
            if unknown := sorted(set(given or {}) - set(allowed)):
                raise UserError(f"model.net.{place}.{unknown[0]} is no option: choose from {', '.join(allowed)}.")
        self.reasons = ReasonOptions(**(reasons or {}))
        self.schema: PropensitySchema | None = None
        with torch.random.fork_rng(devices=[]):  # the weights to come are what they would be without this
            probe = PropensitySchema("", (Task("any", "binary"),), ("x",), (), (), ("type",), (("a",),))
            self._sequence_of(probe)
            self._trunk_of(1, Heads(probe.tasks))
            self.encoder_kind(1, **self.encoder_options)

    def _sequence_of(self, schema: PropensitySchema) -> SequenceEncoder:
        return SequenceEncoder(schema, self.members, **self.sequence_options)

    def _trunk_of(self, inputs: int, heads: Heads) -> TaskNet:
        return TaskNet(self.members, inputs, heads.raw_widths, **self.task_options)

    @property
    def built(self) -> bool:
        """Whether `build` was called."""
        return self.schema is not None

    def build(self, schema: PropensitySchema) -> PropensityNet:
        """Make the parameters for these data; returns itself.

        Raises:
            UserError: options that do not fit the data.
        """
        self.schema = schema
        self.heads = Heads(schema.tasks)
        M, static = self.members, len(schema.numeric) + len(schema.categorical)
        categories = [len(values) for values in schema.categories]
        self.encoder = (
            self.encoder_kind(len(schema.numeric), categories, members=M, **self.encoder_options) if static else None
        )
        self.sequence = None
        if schema.has_events:
            self.sequence = self._sequence_of(schema)
        elif not static:
            raise UserError("There is neither a feature nor an event to learn from: name some under data.")
        width = self.encoder.width if static else 0
        inputs = width + (self.sequence.width + 3 if schema.has_events else 0)
        self.trunk = self._trunk_of(inputs, self.heads)
        self.wide = PackedMLP(M, width, self.heads.width, (), zero_output=True) if self.has_wide and width else None
        self.weighting = TaskWeights([task.name for task in schema.tasks], M, self.task_weighting, self.task_weights)
        self.calibration = Calibration(self.heads, self.folds if self.folds > 1 else CALIBRATION_FOLDS)
        self.references = References(self)
        self.register_buffer("gap_scale", torch.tensor([0.0, 1.0]))
        # Index into predictions.propensity.SPLITS of the rows that the calibration was fitted on; -1 before that.
        self.register_buffer("judged_split", torch.tensor(-1))
        return self

    def fit_scales(self, stats: PropensityStats) -> None:
        """Take over the statistics of the training positions."""
        if self.encoder is not None:
            self.encoder.fit(stats.mean, stats.sd, stats.missing, stats.quantiles)
        if self.sequence is not None:
            self.sequence.fit(stats)
            self.gap_scale.copy_(torch.stack([self.sequence.encoder.mean[-1], self.sequence.encoder.sd[-1]]))
        self.heads.fit(stats)

    # -- who learns from whom --------------------------------------------------------------------------------------

    def fold(self, batch: PropensityBatch) -> Tensor:
        """Fold of each position, of the members or else of the calibration; int64 [P]."""
        return fold_of(batch.key, self.calibration.folds, self.fold_seed)

    def learning_weight(self, batch: PropensityBatch) -> Tensor:
        """How much each member learns from each position, [M, P]: 0 on the fold it is kept from."""
        weight = bootstrap_weights(batch.key, self.members, self.bootstrap, self.fold_seed) * batch.weight
        return weight if self.folds == 1 else weight * ~held_out(self.fold(batch), self.folds, self.members)

    def may_speak(self, batch: PropensityBatch, seen: Tensor) -> Tensor:
        """The members to ask, bool [M, P]: where training saw a position, those kept from its fold; else all."""
        if self.folds == 1:
            return torch.ones(self.members, len(batch.row), dtype=torch.bool, device=batch.row.device)
        return held_out(self.fold(batch), self.folds, self.members) | ~seen

    # -- the nets --------------------------------------------------------------------------------------------------

    def encode(self, batch: PropensityBatch) -> Encoded:
        """Inputs of the nets."""
        none = batch.numeric.new_zeros(len(batch.row), 0)
        static = none if self.encoder is None else self.encoder(batch.numeric, batch.categorical)
        if self.sequence is None:
            return Encoded(static, batch.numeric.new_zeros(0, 0), none)
        absent = batch.seen == 0
        since = (batch.since.nan_to_num(0.0).clamp(min=0).log1p() - self.gap_scale[0]) / self.gap_scale[1]
        since = torch.where(absent, 0.0, since.clamp(-_LIMIT, _LIMIT))
        seen = batch.seen.to(since.dtype).log1p()
        position = torch.stack([since, absent.to(since.dtype), seen], dim=1)
        return Encoded(static, self.sequence.inputs(batch), position)

    def members_of(self, encoded: Encoded, batch: PropensityBatch, step: int | None = None) -> Tensor:
        """Raw outputs of every member, float32 [M, P, Q].

        Args:
            encoded: of the batch.
            batch: its sequences; features and events are read from ``encoded``.
            step: of training: dropout is a function of it and of the position (of events: and of the customer), the
                same on every rank and after a restart.
        """
        seeds = None if step is None else batch.row * 1_000_003 + step
        x = encoded.static
        if self.sequence is not None:
            own = None if step is None else stream(batch.key, step)
            states = self.sequence(batch, own, encoded.events)  # [M, P, U]
            x = torch.cat([part.expand(self.members, -1, -1) for part in (x, encoded.position)] + [states], dim=-1)
        raw = self.trunk(x, seeds)
        if self.wide is not None:
            raw = raw + self.wide(encoded.static)
        return raw.float() + self.heads.start

    def averaged(self, raw: Tensor, use: Tensor) -> Tensor:
        """Mean of the members that may speak, on the natural scale; [P, N]."""
        return member_mean(self.heads.natural(raw), use)

    def calibrated(self, natural: Tensor, fold: Tensor, split: Tensor) -> Tensor:
        """Calibrated natural outputs, [P, N].

        Args:
            natural: [P, N]. fold: int64 [P].
            split: int64 [P], index into `predictions.propensity.SPLITS`.
        """
        return self.calibration(self.heads, natural, fold, split == self.judged_split)

    @torch.no_grad()
    def forward(self, batch: PropensityBatch, split: Tensor | None = None) -> Propensity:
        """Scores of positions.

        Args:
            batch: P positions; labels are not looked at.
            split: int64 [P], index into `predictions.propensity.SPLITS`: rows that training or calibration saw are
                judged by what did not see them. None for new customers.
        """
        split = torch.full_like(batch.row, -1) - 1 if split is None else split
        if self.sequence is None and len(batch.row) > ROWS_AT_ONCE and batch.row.device.type == "cpu":
            return self._in_parts(batch, split)
        raw = self.members_of(self.encode(batch), batch)
        return self.scores(raw, self.may_speak(batch, split == 0), self.fold(batch), split)

    def scores(self, raw: Tensor, use: Tensor, fold: Tensor, split: Tensor) -> Propensity:
        """Scores from the members' raw outputs [M, P, Q]; see `forward`. use: bool [M, P]."""
        members = self.heads.natural(raw)
        natural = member_mean(members, use)
        mapped = self.calibrated(natural, fold, split)
        score = self.heads.score(mapped)
        groups = self.folds if self.bootstrap == "none" else 1
        low, high = interval(self.heads, self.heads.score(members), score, self.level, self.interval_scale, groups)
        return Propensity(score, low, high, self.heads.score(natural), self.heads.survival(mapped))

    def _in_parts(self, batch: PropensityBatch, split: Tensor) -> Propensity:
        made = []
        for first in range(0, len(batch.row), ROWS_AT_ONCE):
            rows = slice(first, first + ROWS_AT_ONCE)
            made.append(self(batch.some(rows), split[rows]))
        return Propensity(*(torch.cat(values) for values in zip(*made, strict=True)))

    @property
    def reason_names(self) -> tuple[str, ...]:
        """What reasons choose from."""
        return reason_names(self.schema, self.reasons.events)
