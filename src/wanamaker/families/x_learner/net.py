"""The whole model: cross-fitted outcome and effect nets, a combination of estimates, calibration and intervals.

Axis letters: B batch rows, K arms, A = K - 1 offers, Y outcomes, M members, C effect nets, E estimates.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from wanamaker.data.uplift_batch import FeatureStats, UpliftBatch, UpliftSchema
from wanamaker.errors import UserError
from wanamaker.families.x_learner.calibration import calibrate_rows
from wanamaker.families.x_learner.effect_net import EFFECT_HEADS, EffectNet
from wanamaker.families.x_learner.effects import ESTIMATES, NETS, estimates
from wanamaker.families.x_learner.intervals import SCALES, half_width
from wanamaker.families.x_learner.nuisance import OUTCOME_NETS, NuisanceNet, Nuisances, RawNuisances
from wanamaker.nn.folds import BOOTSTRAPS, bootstrap_weights, fold_of, held_out, member_mean
from wanamaker.nn.tabular import LOG

CALIBRATIONS = ("auto", "isotonic", "none")
KNOTS = 20
MOST_PIECES = 64
"""The quantiles of the training rows that `FeatureStats` has."""
_SEEDS = 2**62
ROWS_AT_ONCE = 24_576
"""Rows times nets whose layers fit into a processor's cache."""


class Judgement(NamedTuple):
    """What the model says about rows before the estimates are combined.

    Attributes:
        raw: of the nuisance members.
        nuisances: their averages.
        estimates: [E, M, B, A, Y], of each member.
        use: bool [M, B], the members that may speak about a row.
        fold: int64 [B].
    """

    raw: RawNuisances
    nuisances: Nuisances
    estimates: Tensor
    use: Tensor
    fold: Tensor


class Uplift(NamedTuple):
    """What is predicted for B rows.

    Attributes:
        mean: [B, K, Y], expected outcomes. propensity: [B, K].
        effect: [B, A, Y], calibrated. half_width: [B, A, Y], of its interval.
        raw_effect: [B, A, Y], before calibration.
    """

    mean: Tensor
    propensity: Tensor
    effect: Tensor
    half_width: Tensor
    raw_effect: Tensor


class XLearnerNet(nn.Module):
    """Meta-learners for the effect of any number of offers on any number of outcomes.

    Parameters are made by `build`, when the experiment is known.

    Args:
        learner: "s", "t", "x", "dr", "r", "proportional" (see `effects`), or "stack": the mixture of x, dr, r, t,
            proportional and one effect for all that has the least held-out loss.
        folds: K folds of cross-fitting, at least 2. replicas: R members for each fold.
        fold_seed: decides the folds and the bootstrap weights.
        bootstrap: how members see different samples: of `BOOTSTRAPS`; needed for intervals, useless with one replica.
        hidden: units of the outcome members' layers. effect_hidden: of the effect members'; None for the same.
        dropout, layer_norm: of `PackedMLP`.
        outcome_net: "shared", "separate" or "single" (see `NuisanceNet`); None for what the learner is known by.
        effect_head: "free" or "anchored" (see `EffectNet`).
        shrink: penalty on how much effects differ from their level; 0 for none.
        clip: least probability of an arm, where it is estimated.
        pieces, log, embed_above, embedding: of `FeatureEncoder`.
        calibration: "isotonic", "none", or "auto": isotonic where that lowers the held-out loss.
        level: of the intervals. interval_scale: see `intervals`; None for what was measured for the effect head.

    Raises:
        UserError: an option out of range.
    """

    def __init__(
        self,
        learner: str = "x",
        folds: int = 4,
        replicas: int = 1,
        fold_seed: int = 0,
        bootstrap: str = "none",
        hidden: Sequence[int] = (32, 32),
        effect_hidden: Sequence[int] | None = None,
        dropout: float = 0.1,
        layer_norm: bool = False,
        outcome_net: str | None = None,
        effect_head: str = "free",
        shrink: float = 0.0,
        clip: float = 0.02,
        pieces: int = 0,
        log: str = "auto",
        embed_above: int = 32,
        embedding: int = 8,
        calibration: str = "auto",
        level: float = 0.9,
        interval_scale: float | None = None,
    ) -> None:
        super().__init__()
        usual = {"s": "single", "t": "separate"}.get(learner, "shared")
        outcome_net = usual if outcome_net is None else outcome_net
        for name, value, choices in (
            ("learner", learner, tuple(NETS)),
            ("bootstrap", bootstrap, BOOTSTRAPS),
            ("outcome_net", outcome_net, OUTCOME_NETS),
            ("effect_head", effect_head, EFFECT_HEADS),
            ("calibration", calibration, CALIBRATIONS),
            ("log", log, LOG),
        ):
            if value not in choices:
                raise UserError(f"model.net.{name}={value!r}: choose from {', '.join(choices)}.")
        if folds < 2 or replicas < 1:
            raise UserError(
                f"model.net.folds={folds}, model.net.replicas={replicas}: cross-fitting needs at least 2 folds and 1 "
                "replica."
            )
        for name, value, low, high in (
            ("clip", clip, 0.0, 0.5),
            ("level", level, 0.0, 1.0),
            ("dropout", dropout, -1e-9, 1.0),
        ):
            if not low < value < high:
                raise UserError(f"model.net.{name}={value}: give a number between {max(low, 0.0):g} and {high:g}.")
        interval_scale = SCALES[effect_head] if interval_scale is None else interval_scale
        if not 0 <= shrink < math.inf or not 0 < interval_scale < math.inf:
            raise UserError(
                f"model.net.shrink={shrink}, model.net.interval_scale={interval_scale}: a penalty is at least 0, and a "
                "scale above 0."
            )
        for name, value, least, most in (
            ("pieces", pieces, 0, MOST_PIECES),
            ("embed_above", embed_above, 0, math.inf),
            ("embedding", embedding, 1, math.inf),
            ("fold_seed", fold_seed, -_SEEDS, _SEEDS),
        ):
            if not least <= value <= most:
                bounds = f"from {least} to {most}" if most < math.inf else f"of at least {least}"
                raise UserError(f"model.net.{name}={value}: give a whole number {bounds}.")
        for name, widths in (("hidden", hidden), ("effect_hidden", effect_hidden or ())):
            if any(width < 1 for width in widths):
                raise UserError(
                    f"model.net.{name}={list(widths)}: a layer has at least 1 unit; [] is none, and linear."
                )
        self.learner, self.folds, self.members, self.fold_seed = learner, folds, folds * replicas, fold_seed
        self.bootstrap, self.outcome_net, self.effect_head = bootstrap, outcome_net, effect_head
        self.hidden, self.effect_hidden = tuple(hidden), tuple(hidden if effect_hidden is None else effect_hidden)
        self.dropout, self.layer_norm, self.shrink, self.clip = dropout, layer_norm, shrink, clip
        self.encoder_options = {"pieces": pieces, "log": log, "embed_above": embed_above, "embedding": embedding}
        self.calibration, self.level, self.interval_scale = calibration, level, interval_scale
        self.nets, self.estimate_names = NETS[learner], ESTIMATES[learner]
        self.schema: UpliftSchema | None = None

    @property
    def built(self) -> bool:
        """Whether `build` was called."""
        return self.schema is not None

    def build(self, schema: UpliftSchema) -> XLearnerNet:
        """Make the parameters for an experiment; returns itself."""
        A, Y, E = schema.num_arms - 1, len(schema.outcomes), len(self.estimate_names)
        common = {"dropout": self.dropout, "layer_norm": self.layer_norm, "encoder": self.encoder_options}
        self.schema = schema
        self.nuisance = NuisanceNet(
            schema, self.members, self.outcome_net, hidden=self.hidden, clip=self.clip, **common
        )
        self.effects = EffectNet(schema, self.nets, self.members, self.effect_head, hidden=self.effect_hidden, **common)
        self.register_buffer("mixture", torch.full((E, A, Y), 1.0 / E))
        self.register_buffer("knots", torch.zeros(A, Y, self.folds, 2, KNOTS))
        self.register_buffer("calibrates", torch.zeros(A, Y, dtype=torch.bool))
        return self

    def check(self, schema: UpliftSchema, num_train_rows: int) -> None:
        """Refuse options that an experiment cannot be learnt with.

        Raises:
            UserError: naming the option.
        """
        if not schema.numeric and not schema.categorical:
            raise UserError(
                "The table has no column that is a feature, and customers are told apart by what was known of them"
                " before: name some in data.roles.features, or take some out of data.roles.drop."
            )
        if not schema.probabilities and self.clip * schema.num_arms >= 1:
            raise UserError(
                f"model.net.clip={self.clip}: {schema.num_arms} arms cannot all be as likely as that, and every "
                f"propensity would be another; give less than {1 / schema.num_arms:.3g}, such as 0.02."
            )
        if self.folds > num_train_rows:
            raise UserError(
                f"model.net.folds={self.folds}, but there are {num_train_rows:,} training rows; 4 folds are usual."
            )

    def fit_scales(self, stats: FeatureStats) -> None:
        """Take over the statistics of the training rows."""
        for encoder in (part.encoder for part in (self.nuisance, self.effects) if hasattr(part, "encoder")):
            encoder.fit(stats.mean, stats.sd, stats.missing, stats.quantiles)
        self.nuisance.heads.fit(stats.outcome_mean, stats.outcome_sd, stats.arm_share)
        if not self.nuisance.known:
            self.nuisance.arm_share.copy_(torch.tensor(stats.arm_share).clamp(min=1e-6))

    def fold(self, batch: UpliftBatch) -> Tensor:
        """Fold of each row, int64 [B]."""
        return fold_of(batch.key, self.folds, self.fold_seed)

    def learning_weight(self, batch: UpliftBatch) -> Tensor:
        """How much each member learns from each row, [M, B]: 0 on the fold it is kept from."""
        drawn = bootstrap_weights(batch.key, self.members, self.bootstrap, self.fold_seed)
        taught = ~held_out(self.fold(batch), self.folds, self.members) & (batch.treatment >= 0)
        return drawn * taught * batch.weight

    def may_speak(self, batch: UpliftBatch, seen: Tensor) -> Tensor:
        """The members to ask about each row, bool [M, B]: those kept from its fold where training saw it, else all."""
        return held_out(self.fold(batch), self.folds, self.members) | ~seen

    @torch.no_grad()
    def judge(self, batch: UpliftBatch, seen: Tensor) -> Judgement:
        """Nuisances and estimates of the effect of rows.

        Args:
            batch: B rows; the treatment and outcome are not looked at.
            seen: bool [B], whether training saw the row.
        """
        fold = self.fold(batch)
        use = held_out(fold, self.folds, self.members) | ~seen
        # The statistics are those of `fit_scales` in both stages.
        fixed = self.nuisance.encoder.fixed(batch.numeric, batch.categorical)
        raw = self.nuisance(batch, fixed=fixed)
        nuisances = self.nuisance.average(raw, use)
        of_net = self.effects(batch, nuisances.mean[:, 0], fixed=fixed).effect
        found = estimates(
            self.estimate_names,
            self.nets,
            of_net,
            nuisances.member_mean,
            nuisances.mean,
            nuisances.propensity,
            self.effects.average,
            self.effects.proportional,
        )
        return Judgement(raw, nuisances, found, use, fold)

    @torch.no_grad()
    def forward(self, batch: UpliftBatch, seen: Tensor | None = None) -> Uplift:
        """Expected outcomes and effects of rows.

        Args:
            batch: B rows.
            seen: bool [B], see `judge`; None for new customers.
        """
        seen = torch.zeros(len(batch.row), dtype=torch.bool, device=batch.row.device) if seen is None else seen
        at_once = max(512, ROWS_AT_ONCE // (self.members * (1 + len(self.nets))))
        if len(batch.row) > at_once and batch.row.device.type == "cpu":
            parts = zip(*(value.split(at_once) for value in (*batch, seen)), strict=True)
            made = [self(UpliftBatch(*part[:-1]), part[-1]) for part in parts]
            return Uplift(*(torch.cat(values) for values in zip(*made, strict=True)))
        judged = self.judge(batch, seen)
        members = judged.estimates * self.mixture[:, None, None]
        members = members[0] if len(members) == 1 else members.sum(0)  # [M, B, A, Y]
        raw_effect = member_mean(members, judged.use)
        effect = raw_effect.clone()
        for a, y in self.calibrates.nonzero().tolist():
            effect[:, a, y] = calibrate_rows(raw_effect[:, a, y], self.knots[a, y], judged.fold, seen)
        half = half_width(members, self.level, self.interval_scale)
        return Uplift(judged.nuisances.mean, judged.nuisances.propensity, effect, half, raw_effect)
