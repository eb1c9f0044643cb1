"""`SimulatedPanelDataModule`: a marketing panel whose truth is known, made on first use and read as any other panel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from wanamaker.data.panel import MediaPanelDataModule
from wanamaker.data.passed_on import passed_on
from wanamaker.data.simulate.media_files import PANELS, TABLE
from wanamaker.data.simulate.media_frame import panel_roles
from wanamaker.data.simulate.media_presets import panel_simulation
from wanamaker.data.simulate.media_truth import PanelTruth, load_truth
from wanamaker.data.simulated_data import SimulatedData


class SimulatedPanelDataModule(SimulatedData, MediaPanelDataModule):
    """A panel of `wanamaker.data.simulate.media_panel`, with `truth` beside it.

    Every column has its role already.

    Args:
        cache_dir: Where panels are kept, in `media_panel/`.
        preset: tiny, national, geo, category, daily or large; see `media_presets.PRESETS`.
        simulation: Options of `PanelSimulation` to change, nested as they are there; null keeps the preset's value.
            `simulation.seed` seeds the panel, `seed` the order in which it is learnt.

    The other arguments say how the panel is read and split: see `MediaPanelDataModule`. The number of periods that
    serve as history of media only is `simulation.pre_period`.
    """

    kept = PANELS

    def __init__(
        self,
        *,
        cache_dir: str,
        preset: str = "geo",
        simulation: Mapping[str, Any] | None = None,
        allow: Sequence[Any] = (),
        start: str | None = None,
        end: str | None = None,
        seasonality: Mapping[str, int] | None = None,
        holidays: str | Mapping[str, Any] | None = None,
        events: Mapping[str, Any] | None = None,
        trend: str | Mapping[str, Any] | None = None,
        split: Mapping[str, Any] | None = None,
        max_lag: int = 13,
        mask: Sequence[Any] = (),
        exclude_series: Sequence[str | int] = (),
        twin: Mapping[str, Any] | None = None,
        batch_size: int | None = None,
        batch_unit: str = "rows",
        eval_batch_size: int | None = None,
        passes_per_epoch: int = 1,
        num_workers: int = 0,
        pin_memory: bool | None = None,
        seed: int = 0,
    ) -> None:
        given = locals()
        folder = self.simulated_in(cache_dir, panel_simulation(preset, simulation, "data.simulation"))
        options = passed_on(
            MediaPanelDataModule,
            given,
            path=str(folder / TABLE),
            roles=panel_roles(self.simulation),
            pre_period=self.simulation.pre_period,
        )
        super().__init__(**options)

    @cached_property
    def truth(self) -> PanelTruth:
        """What really happened. Its periods are those of the file: `truth.observed` picks those of `panel`, and where
        `start` or `end` cut the panel, `truth.dates` tell which they are."""
        return load_truth(self.complete_dir())
