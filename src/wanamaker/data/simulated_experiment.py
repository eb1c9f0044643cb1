"""`SimulatedExperimentDataModule`: a campaign whose individual effects are known, made on first use, read as any other.

Axis letters: n rows asked for, K arms (0 is the control), A = K - 1 offers, Y outcomes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from wanamaker.data.experiment import ExperimentDataModule
from wanamaker.data.passed_on import passed_on
from wanamaker.data.simulate.uplift_features import categorical_names, numeric_names
from wanamaker.data.simulate.uplift_files import CAMPAIGNS, table_path
from wanamaker.data.simulate.uplift_options import COST, ID, OUTCOMES, TREATMENT, UpliftSimulation
from wanamaker.data.simulate.uplift_presets import uplift_simulation
from wanamaker.data.simulate.uplift_truth import UpliftTruth
from wanamaker.data.simulated_data import SimulatedData
from wanamaker.errors import UserError

_SMALL = 1_000_000  # rows that are made before anything else is done, a few seconds' work


class SimulatedExperimentDataModule(SimulatedData, ExperimentDataModule):
    """A campaign of `wanamaker.data.simulate.uplift_table`, with its truth beside it.

    Every column has its role already; the probabilities of a randomised campaign are known, those of a confounded one
    have to be estimated.

    Args:
        cache_dir: Where campaigns are kept, in `campaign/`.
        preset: tiny, two_arms, offers, confounded, placebo, null or large; see `uplift_presets.PRESETS`.
        simulation: Options of `UpliftSimulation` to change, nested as they are there; null keeps the preset's value.
            `simulation.seed` seeds the campaign, `seed` the order in which it is learnt.
        outcomes: Those of visit, conversion and spend that are to be learnt, the one to watch first.

    The other arguments say how the table is read and split: see `ExperimentDataModule`.
    """

    kept = CAMPAIGNS

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
        given = locals()
        folder = self.simulated_in(cache_dir, uplift_simulation(preset, simulation, "data.simulation"))
        options = passed_on(
            ExperimentDataModule,
            given,
            path=str(table_path(folder, self.simulation)),
            roles=campaign_roles(self.simulation, outcomes),
        )
        super().__init__(**options)

    @property
    def is_large(self) -> bool:
        return self.simulation.rows > _SMALL

    @cached_property
    def truth(self) -> UpliftTruth:
        """What is true of every customer, by identifier."""
        return UpliftTruth.load(self.complete_dir())

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
