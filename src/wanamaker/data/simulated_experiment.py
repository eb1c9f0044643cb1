"""`SimulatedExperimentDataModule`: a campaign whose individual effects are known, made on first use, read as any other.

Axis letters: n rows asked for, K arms (0 is the control), A = K - 1 offers, Y outcomes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from wanamaker.data.experiment import ExperimentDataModule
from wanamaker.data.simulate.uplift_features import categorical_names, numeric_names
from wanamaker.data.simulate.uplift_files import campaign_folder, ensure_campaign, is_complete, table_path
from wanamaker.data.simulate.uplift_options import COST, ID, OUTCOMES, TREATMENT, UpliftSimulation
from wanamaker.data.simulate.uplift_presets import uplift_simulation
from wanamaker.data.simulate.uplift_truth import UpliftTruth
from wanamaker.errors import UserError

_SMALL = 1_000_000  # rows that are made before anything else is done, a few seconds' work


class SimulatedExperimentDataModule(ExperimentDataModule):
    """A campaign of `wanamaker.data.simulate.uplift_table`, with its truth beside it.

    A changed option makes a new folder beside the old one. Every column has its role already; the probabilities of a
    randomised campaign are known, those of a confounded one have to be estimated.

    Args:
        cache_dir: Where campaigns are kept, in `campaign/`.
        preset: tiny, two_arms, offers, confounded, placebo, null or large; see `uplift_presets.PRESETS`.
        simulation: Options of `UpliftSimulation` to change, nested as they are there; null keeps the preset's value.
            `simulation.seed` seeds the campaign, `seed` the order in which it is learnt.
        outcomes: Those of visit, conversion and spend that are to be learnt, the one to watch first.

    The other arguments say how the table is read and split: see `ExperimentDataModule`.
    """

    def __init__(
        self,
        *,
        cache_dir: str,
        preset: str = "two_arms",
        simulation: Mapping[str, Any] | None = None,
        outcomes: Sequence[str] = OUTCOMES,
        split: Mapping[str, Any] | None = None,
        checks: Mapping[str, float] | None = None,
        allow: Sequence[str] = (),
        max_categories: int = 1000,
        rows_in_memory: int = 2_000_000,
        lanes: int = 16,
        batch_size: int = 1024,
        eval_batch_size: int = 8192,
        passes_per_epoch: int = 1,
        num_workers: int = 0,
        pin_memory: bool | None = None,
        seed: int = 0,
    ) -> None:
        self.simulation = uplift_simulation(preset, simulation, "data.simulation")
        self._campaign_cache = Path(cache_dir)
        self.campaign_dir = campaign_folder(cache_dir, self.simulation)
        super().__init__(
            path=str(table_path(self.campaign_dir, self.simulation)),
            roles=campaign_roles(self.simulation, outcomes),
            split=split,
            checks=checks,
            allow=allow,
            max_categories=max_categories,
            rows_in_memory=rows_in_memory,
            lanes=lanes,
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            passes_per_epoch=passes_per_epoch,
            num_workers=num_workers,
            pin_memory=pin_memory,
            seed=seed,
        )

    def preflight(self, stages: Sequence[str] | None = None) -> None:
        """Make the campaign, which takes a moment, and check it as any other; a large one is made when training starts.

        Raises:
            UserError: options that cannot be met together, a cache that cannot be written, what the gates find.
        """
        if self.simulation.rows > _SMALL and not is_complete(self.campaign_dir):
            return
        self.prepare_data()
        super().preflight(stages)

    def prepare_data(self) -> None:
        ensure_campaign(self._campaign_cache, self.simulation)

    def setup(self, stage: str | None = None) -> None:
        self._require_campaign()
        super().setup(stage)

    def _require_campaign(self) -> None:
        if not is_complete(self.campaign_dir):
            raise UserError(
                f"{self.campaign_dir} holds no simulated campaign yet: prepare_data() makes it; call it first."
            )

    @cached_property
    def truth(self) -> UpliftTruth:
        """What is true of every customer, by identifier."""
        self._require_campaign()
        return UpliftTruth.load(self.campaign_dir)

    def truth_of(self, row: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What is true of some rows, for the outcomes in `schema.outcomes`' order.

        Args:
            row: int64 [n], places in the table.

        Returns:
            Effects of the offers against the control, float64 [n, A, Y], and expected outcomes under each arm, float64
            [n, K, Y].
        """
        names = self.identifiers(row)
        known = [OUTCOMES.index(name) for name in self.roles.outcome_names]
        return self.truth.effect(names)[..., known], self.truth.mean(names)[..., known]


def campaign_roles(options: UpliftSimulation, outcomes: Sequence[str]) -> dict[str, Any]:
    """Roles of a simulated table's columns.

    Args:
        options: Of the simulation.
        outcomes: Those to be learnt, in their order; the others are dropped.

    Raises:
        UserError: an outcome that there is not, none, or one twice.
    """
    known = dict(zip(OUTCOMES, ("binary", "binary", "zero_inflated"), strict=True))
    wanted = [outcomes] if isinstance(outcomes, str) else list(outcomes)
    strange = [name for name in wanted if name not in known]
    if strange or not wanted or len(set(wanted)) < len(wanted):
        raise UserError(f"data.outcomes={wanted}; choose from {', '.join(known)}, each once at most.")
    shares = options.probabilities
    return {
        "id": ID,
        "treatment": TREATMENT,
        "control": options.control,
        "arms": [arm.name for arm in options.arms],
        "outcomes": [
            {"name": name, "kind": known[name], "unit": options.money_unit if name == "spend" else ""}
            for name in wanted
        ],
        "features": [*numeric_names(options.columns), *categorical_names(options.columns)],
        "categorical": list(categorical_names(options.columns)),
        "drop": [name for name in known if name not in wanted],
        "cost": COST,
        "probabilities": None if shares is None else dict(zip(options.arm_names, shares, strict=True)),
    }
