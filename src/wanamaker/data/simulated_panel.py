"""`SimulatedPanelDataModule`: a marketing panel whose truth is known, made on first use and read as any other panel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from wanamaker.data.panel import MediaPanelDataModule
from wanamaker.data.simulate.media_files import TABLE, ensure_panel, is_complete, panel_folder
from wanamaker.data.simulate.media_frame import panel_roles
from wanamaker.data.simulate.media_presets import panel_simulation
from wanamaker.data.simulate.media_truth import PanelTruth, load_truth
from wanamaker.errors import UserError


class SimulatedPanelDataModule(MediaPanelDataModule):
    """A panel of `wanamaker.data.simulate.media_panel`, with `truth` beside it.

    A changed option makes a new folder beside the old one. Every column has its role already.

    Args:
        cache_dir: Where panels are kept, in `media_panel/`.
        preset: tiny, national, geo, category, daily or large; see `media_presets.PRESETS`.
        simulation: Options of `PanelSimulation` to change, nested as they are there; null keeps the preset's value.
            `simulation.seed` seeds the panel, `seed` the order in which it is learnt.

    The other arguments say how the panel is read and split: see `MediaPanelDataModule`. The number of periods that
    serve as history of media only is `simulation.pre_period`.
    """

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
        exclude_series: Sequence[str] = (),
        twin: Mapping[str, Any] | None = None,
        batch_size: int | None = None,
        batch_unit: str = "rows",
        eval_batch_size: int | None = None,
        passes_per_epoch: int = 1,
        num_workers: int = 0,
        pin_memory: bool | None = None,
        seed: int = 0,
    ) -> None:
        self.simulation = panel_simulation(preset, simulation, "data.simulation")
        self._panel_cache = Path(cache_dir)
        self.panel_dir = panel_folder(cache_dir, self.simulation)
        super().__init__(
            path=str(self.panel_dir / TABLE),
            roles=panel_roles(self.simulation),
            allow=allow,
            start=start,
            end=end,
            seasonality=seasonality,
            holidays=holidays,
            events=events,
            trend=trend,
            split=split,
            max_lag=max_lag,
            pre_period=self.simulation.pre_period,
            mask=mask,
            exclude_series=exclude_series,
            twin=twin,
            batch_size=batch_size,
            batch_unit=batch_unit,
            eval_batch_size=eval_batch_size,
            passes_per_epoch=passes_per_epoch,
            num_workers=num_workers,
            pin_memory=pin_memory,
            seed=seed,
        )

    def preflight(self, stages: Sequence[str] | None = None) -> None:
        """Make the panel, which takes a moment, and check it as any other.

        Raises:
            UserError: options that cannot be met together, a cache that cannot be written, an empty split.
        """
        self.prepare_data()
        super().preflight(stages)

    def prepare_data(self) -> None:
        ensure_panel(self._panel_cache, self.simulation)

    def setup(self, stage: str | None = None) -> None:
        if not is_complete(self.panel_dir):
            raise UserError(f"{self.panel_dir} holds no simulated panel yet: prepare_data() makes it; call it first.")
        super().setup(stage)

    @cached_property
    def truth(self) -> PanelTruth:
        """What really happened. Its periods are those of the file: `truth.observed` picks those of `panel`, and where
        `start` or `end` cut the panel, `truth.dates` tell which they are."""
        return load_truth(self.panel_dir)
