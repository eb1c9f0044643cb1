"""`MediaPanelDataModule`: a long table of KPI, media, prices and controls, as `MediaBatch`es for the mix models.

Axis letters: G series, T periods, C media channels, S season columns, R trend columns, L adstock taps.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from torch.utils.data import DataLoader

from wanamaker.data.media_panel import MediaPanel, PanelSchema
from wanamaker.data.panel_calendar import calendar_columns, check_calendar_files, fit_calendar, parse_calendar
from wanamaker.data.panel_dataset import PanelBatchSampler, PanelDataset, WholePanelBatches, whole_batch
from wanamaker.data.panel_roles import PanelRoles
from wanamaker.data.panel_splits import SPLITS, TimeSplit, choose_split, parse_split, split_periods
from wanamaker.data.panel_window import (
    history_only,
    masked_kpi,
    naive_scale,
    require_same_names,
    season_length,
    shared_by_kpi,
    with_levels,
    without_series,
)
from wanamaker.data.sampler import EpochDataLoader, EvaluationBatchSampler, per_rank_batch_size, resume_position
from wanamaker.errors import UserError

log = logging.getLogger(__name__)

_ROUND_TO = 16  # rows; a whole-panel batch is completed to a multiple, so that 1, 2, 4, 8 and 16 ranks share it alike
_EVAL_BATCH = 8192
_STAGE_NEEDS = {"fit": "train", "validate": "val", "test": "test"}
_FULL_PREFLIGHT = 512 << 20  # bytes of a file that is read as a whole before anything is written


class MediaPanelDataModule(L.LightningDataModule):
    """A media panel in a CSV or Parquet file, split by time.

    Nothing is scaled here: batches hold the units of the file, and the model keeps its scales in its checkpoint. What
    does depend on data (trend, knots, calendar columns, `naive_scale`, shares of national spend) sees the training
    window only.

    After `setup` the attributes below are there. `panel.dates` begins after the periods of `pre_period`.

    Args:
        path: The table, one row per series and period.
        roles: Which column is what; see `PanelRoles`.
        period: Pandas offset of the calendar (`D`, `W-SUN`, `MS`, ...); null finds it in the dates.
        date_format: How dates are written, as for `strptime`; null takes ISO dates.
        on_gap: `error`, or `mask`: periods that a series lacks have no KPI; see `read_panel` for their inputs.
        merge: Other files to join by date; see `panel_merge`.
        allow: Inputs that may look as if they told the KPI; see `panel_leakage`.
        start: First day of the panel; earlier rows of the file serve as history of media. null takes all.
        end: Last day of the panel.
        encoding: Of a CSV file.
        delimiter: Between the cells of a CSV file; null is a comma (a tab in a .tsv file).
        decimal: Decimal sign of a CSV file.
        seasonality: Harmonics per cycle, `{yearly: 3, monthly: 1, weekly: 3}`.
        holidays: Country code, or `{country, subdivision, groups}`; see `parse_calendar`.
        events: `{path, date, name, date_format, groups}`, a CSV file with a row per day of an event.
        trend: null, `linear`, or `{knots: 4}`.
        split: `{scheme, val, test, gap, folds, fold, window, step}`; see `parse_split`.
        max_lag: Periods over which media act after their own; batches hold `max_lag + 1` taps.
        pre_period: First periods of the file that serve as history of media only.
        mask: Dates, or [first, last] dates, of periods whose KPI is not to be learnt or scored; their media still act.
        exclude_series: Series to leave out.
        levels: Groups of series that are no column of the file, `{category: {Audio: [Speaker, HomeAudio]}}`; coarser
            than those of the roles.
        share_by_kpi: Divide the spend of national channels (`shared` in the roles) over the series by their part of
            the KPI in the training window, instead of as the roles say. Totals stay what they are.
        batch_size: Global training batch; null takes all training rows, completed to a multiple of 16.
        eval_batch_size: Global evaluation batch; null takes all rows of a split, at most 8,192.
        passes_per_epoch: Passes over the training rows in one epoch, each in its own order.
        num_workers: Loader processes per rank; 0 gathers batches in the training process.
        pin_memory: Page-locked batches; null: when there is a CUDA device.
        seed: Seeds the order of the rows.

    Attributes:
        panel: The numbers.
        schema: Names and units, with the calendar columns.
        season: float32 [T, S].
        trend: float32 [T, R].
        taps: L.
        folds: The walk-forward folds, earliest first; one split with holdout.
        fold: Which of them this run uses.
        split_of: int64 [G, T], index into `panel_splits.SPLITS`; `none` where the KPI was not observed.
        train_mask: bool [G, T].
        num_train_rows: Rows to train on.
        naive_scale: float64 [G], see `panel_window.naive_scale`.
        naive_lag: The lag it was taken at, periods.
        national: bool [C], channels whose exposure is one national amount, repeated in every series.
    """

    has_annotations = True

    panel: MediaPanel
    schema: PanelSchema
    season: np.ndarray
    trend: np.ndarray
    folds: list[TimeSplit]
    fold: int
    split_of: np.ndarray
    train_mask: np.ndarray
    num_train_rows: int
    naive_scale: np.ndarray
    naive_lag: int
    national: np.ndarray

    def __init__(
        self,
        *,
        path: str,
        roles: Mapping[str, Any],
        period: str | None = None,
        date_format: str | None = None,
        on_gap: str = "error",
        merge: Sequence[Mapping[str, Any]] = (),
        allow: Sequence[Any] = (),
        start: str | None = None,
        end: str | None = None,
        encoding: str = "utf-8",
        delimiter: str | None = None,
        decimal: str = ".",
        seasonality: Mapping[str, int] | None = None,
        holidays: str | Mapping[str, Any] | None = None,
        events: Mapping[str, Any] | None = None,
        trend: str | Mapping[str, Any] | None = None,
        split: Mapping[str, Any] | None = None,
        max_lag: int = 13,
        pre_period: int = 0,
        mask: Sequence[Any] = (),
        exclude_series: Sequence[str] = (),
        levels: Mapping[str, Mapping[str, Sequence[str]]] | None = None,
        share_by_kpi: bool = False,
        batch_size: int | None = None,
        eval_batch_size: int | None = None,
        passes_per_epoch: int = 1,
        num_workers: int = 0,
        pin_memory: bool | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        # A rank without evaluation rows is allowed (metrics are computed once per epoch, not per batch).
        self.allow_zero_length_dataloader_with_multiple_devices = True
        self.path = Path(path)
        self.roles = PanelRoles.from_config(roles)
        self.reading = {
            "frequency": period,
            "date_format": date_format,
            "on_gap": on_gap,
            "merge": tuple(merge),
            "allow": tuple(allow),
            "start": start,
            "end": end,
        }
        self.writing = {"encoding": encoding, "delimiter": delimiter, "decimal": decimal}
        self.calendar_options = parse_calendar(seasonality, holidays, events, trend)
        self.split_options = parse_split(split)
        for name, value, least in (
            ("max_lag", max_lag, 0),
            ("pre_period", pre_period, 0),
            ("passes_per_epoch", passes_per_epoch, 1),
            ("num_workers", num_workers, 0),
        ):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise UserError(f"data.{name}={value!r}; give a whole number, {least} or more.")
        for name, size in (("batch_size", batch_size), ("eval_batch_size", eval_batch_size)):
            if size is not None:
                per_rank_batch_size(size, 1, name)
        self.taps, self.pre_period = max_lag + 1, pre_period
        self.mask = [_range(entry) for entry in mask]
        self.exclude_series, self.levels, self.share_by_kpi = tuple(exclude_series), levels or {}, share_by_kpi
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.passes_per_epoch, self.num_workers, self.seed = passes_per_epoch, num_workers, seed
        self.pin_memory = torch.cuda.is_available() if pin_memory is None else pin_memory
        self._adopted: PanelSchema | None = None
        self._fits = False

    # -- before training -----------------------------------------------------------------------------------------------

    def preflight(self, stages: Sequence[str] | None = None) -> None:
        """Find the user's mistakes in the parent process, before anything is written.

        The file is read and checked as a whole, because most mistakes are in its rows; of a file above 512 MB the
        header is, and the rest when training starts.

        Args:
            stages: Of fit, validate, test and predict; None: all.

        Raises:
            UserError: a missing file, column, or empty split; what `read_panel` and the calendar find.
        """
        from wanamaker.data.panel_merge import MergeFile
        from wanamaker.data.panel_source import PanelSource
        from wanamaker.data.panel_table import require_columns

        source = PanelSource(self.path, **self.writing)
        merges = [MergeFile.from_config(x, f"merge[{i}]", self.roles) for i, x in enumerate(self.reading["merge"])]
        require_columns(source, self.roles, merges)
        check_calendar_files(self.calendar_options)
        if self.path.stat().st_size > _FULL_PREFLIGHT:
            return
        self._load()
        for stage in ("fit", "validate", "test") if stages is None else stages:
            self._require(stage)
        if stages is None or "fit" in stages:
            self._fitted_calendar()

    def setup(self, stage: str | None = None) -> None:
        self._fits |= stage == "fit"
        self._load()
        if stage is not None:
            self._require(stage)
        if not hasattr(self, "schema"):
            self._add_calendar()
            self._announce()

    def adopt(self, schema: PanelSchema) -> None:
        """Take the calendar of a trained model, and make sure that this panel is one the model can read.

        Args:
            schema: Of the model.

        Raises:
            UserError: naming what the panel has and the model lacks, or the other way round.
        """
        self._adopted = schema
        if hasattr(self, "panel"):
            self._add_calendar()

    def _read(self) -> MediaPanel:
        from wanamaker.data.panel_table import read_panel  # pyarrow, only where a file is read

        return read_panel(self.path, self.roles, **self.reading, **self.writing)

    def _load(self) -> None:
        """Read the panel, split it, and derive what the training window alone decides; once."""
        if hasattr(self, "panel"):
            return
        self.national = self._national()
        panel = with_levels(without_series(self._read(), self.exclude_series, self.national), self.levels)
        panel = masked_kpi(history_only(panel, self.pre_period), self.mask)
        G, T = panel.kpi.shape
        self.folds = split_periods(self.split_options, panel.dates, panel.schema.period)
        self.fold, chosen = choose_split(self.split_options, self.folds)
        codes = np.broadcast_to(chosen.codes(T), (G, T))  # [G, T]
        self.split_of = np.where(np.isfinite(panel.kpi), codes, SPLITS.index("none"))
        self.train_mask = self.split_of == SPLITS.index("train")
        self.num_train_rows = int(self.train_mask.sum())
        if self.share_by_kpi:
            panel = shared_by_kpi(panel, self.national, self.train_mask)
        season = season_length(panel.schema.periods_per_year)
        self.naive_scale, self.naive_lag = naive_scale(panel.kpi, self.train_mask, season)
        national = tuple(bool(flag) for flag in self.national)
        self.panel = replace(panel, schema=replace(panel.schema, national=national))

    def _national(self) -> np.ndarray:
        """bool [C]: declared as shared, or the totals of a merged table that knows no series."""
        tables = [entry for entry in self.reading["merge"] if entry.get("how") == "total" and not entry.get("by")]
        merged = {name for entry in tables for name in entry["columns"].values()}
        return np.array([c.shared is not None or c.spend in merged for c in self.roles.channels], bool)

    def _fitted_calendar(self) -> dict[str, Any]:
        start, stop = self.folds[self.fold].train
        schema = self.panel.schema
        window = self.panel.dates[start:stop]
        return fit_calendar(self.calendar_options, schema.period, schema.periods_per_year, window)

    def _add_calendar(self) -> None:
        schema = self.panel.schema
        if self._adopted is not None:
            require_same_names(schema, self._adopted, self.path)
            self._mark_unlearnt(self._adopted.calendar.get("learnt_to"))
        calendar = self._fitted_calendar() if self._adopted is None else self._adopted.calendar
        columns = calendar_columns(calendar, self.panel.dates)
        self.season, self.trend = columns.season, columns.trend
        self.schema = schema.with_calendar(columns.season_names, columns.trend_names, calendar)

    def _mark_unlearnt(self, last: str | None) -> None:
        """Of data that go on after the model's own, shares and counts put later periods into the training window.

        The model has not learnt them, so they are validation: nothing may be shown as learnt that was not.
        """
        if self._fits or last is None:
            return
        later = (self.panel.dates > np.datetime64(last))[None] & (self.split_of == SPLITS.index("train"))
        self.split_of = np.where(later, SPLITS.index("val"), self.split_of)

    def _require(self, stage: str) -> None:
        """Refuse a stage whose rows are not there."""
        name = _STAGE_NEEDS.get(stage)
        if name is None:
            return
        chosen = self.folds[self.fold]
        wanted = [name] if name != "train" or chosen.val[0] == chosen.val[1] else ["train", "val"]
        for split in wanted:
            start, stop = getattr(chosen, split)
            if start == stop:
                raise UserError(
                    f"data.split.{split} is empty, but stage {stage} needs it; give a number of periods, such as"
                    f" data.split.{split}=8."
                )
            if not (self.split_of == SPLITS.index(split)).any():
                dates = self.panel.dates
                raise UserError(
                    f"The {split} split, {dates[start]} to {dates[stop - 1]}, has no row with an observed"
                    f" {self.panel.schema.kpi}; move data.split, take these periods out of data.mask,"
                    + (" or bring their KPI." if stage == "fit" else " or only predict: stages=[predict].")
                )
        if name == "train":
            self._require_every_series()

    def _require_every_series(self) -> None:
        absent = np.flatnonzero(~self.train_mask.any(axis=1))
        if len(absent):
            names = [self.panel.schema.series[g] for g in absent]
            start, stop = self.folds[self.fold].train
            listed = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
            raise UserError(
                f"{len(names)} of {len(self.panel.schema.series)} series have no observed {self.panel.schema.kpi} in"
                f" the training window {self.panel.dates[start]} to {self.panel.dates[stop - 1]}: {listed}. Nothing can"
                f" be learnt about them: leave them out with data.exclude_series=['{names[0]}', ...], or train on more"
                " periods."
            )

    @rank_zero_only
    def _announce(self) -> None:
        dates, chosen = self.panel.dates, self.folds[self.fold]
        parts = []
        for name in ("train", "val", "test"):
            start, stop = getattr(chosen, name)
            rows = int((self.split_of == SPLITS.index(name)).sum())
            parts.append(f"{name} {dates[start]} to {dates[stop - 1]} ({rows} rows)" if stop > start else f"no {name}")
        if self.split_options["scheme"] != "holdout":
            parts.append(f"fold {self.fold} of {len(self.folds)}")
        G, T = self.split_of.shape
        log.info("%s: %d series x %d periods (%s); %s", self.path.name, G, T, self.schema.period, ", ".join(parts))

    # -- loaders -------------------------------------------------------------------------------------------------------

    def rows(self, name: str) -> np.ndarray:
        """Row numbers (series * T + time) of a split, ascending, int64 [N]."""
        return np.flatnonzero(self.split_of.reshape(-1) == SPLITS.index(name))

    def dataset(self, rows: np.ndarray) -> PanelDataset:
        """Some rows of the panel, as batches."""
        return PanelDataset(self.panel, self.season, self.trend, rows, self.taps)

    def train_dataloader(self) -> DataLoader:
        dataset = self.dataset(self.rows("train"))
        epoch, batch = resume_position(self.trainer)
        overfit = bool(self.trainer is not None and self.trainer.overfit_batches)
        rank, world_size = self._rank()
        sampler = PanelBatchSampler(
            len(dataset),
            self._train_batch(len(dataset), world_size),
            passes=self.passes_per_epoch,
            seed=self.seed,
            rank=rank,
            world_size=world_size,
            start_epoch=0 if overfit else epoch,
            start_batch=0 if overfit else batch,
            freeze_epoch=overfit,
        )
        return EpochDataLoader(dataset, batch_sampler=sampler, collate_fn=whole_batch, **self._loader_options(True))

    def val_dataloader(self) -> DataLoader | list[DataLoader]:
        if self.folds[self.fold].val[0] == self.folds[self.fold].val[1]:
            return []  # Lightning's word for training without validation
        rows = self.rows("val")
        if len(rows) < self._rank()[1]:
            # DDP synchronises buffers in the first forward pass after training: a rank without one blocks the rest.
            raise UserError(
                f"The val split has {len(rows)} rows for {self._rank()[1]} ranks; validate on more periods"
                " (data.split.val) or train on fewer devices."
            )
        return self._evaluation_loader(rows, persistent=True)

    def test_dataloader(self) -> DataLoader:
        return self._evaluation_loader(self.rows("test"), persistent=False)

    def predict_dataloader(self) -> DataLoader:
        """Every row of the panel in row order, also those whose KPI was not observed."""
        dataset = self.dataset(np.arange(self.split_of.size))
        return DataLoader(
            WholePanelBatches(dataset),
            sampler=self._evaluation_sampler(len(dataset)),
            batch_size=None,
            **self._loader_options(False),
        )

    def _evaluation_loader(self, rows: np.ndarray, persistent: bool) -> DataLoader:
        return DataLoader(
            self.dataset(rows),
            batch_sampler=self._evaluation_sampler(len(rows)),
            collate_fn=whole_batch,
            **self._loader_options(persistent),
        )

    def _evaluation_sampler(self, count: int) -> EvaluationBatchSampler:
        rank, world_size = self._rank()
        size = self.eval_batch_size
        if size is None:
            step = math.lcm(_ROUND_TO, world_size)
            size = max(1, -(-min(count, _EVAL_BATCH) // step)) * step
        return EvaluationBatchSampler(count, size, rank=rank, world_size=world_size)

    def _train_batch(self, count: int, world_size: int) -> int:
        if self.batch_size is not None:
            return self.batch_size
        size = -(-count // _ROUND_TO) * _ROUND_TO
        if size % world_size:
            raise UserError(
                f"data.batch_size=null makes one global batch of {size} rows ({count} training rows, completed to a"
                f" multiple of {_ROUND_TO}), which does not divide over {world_size} ranks; use 1, 2, 4, 8 or 16"
                f" devices, or set data.batch_size to a multiple of {world_size}."
            )
        return size

    def _rank(self) -> tuple[int, int]:
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)

    def _loader_options(self, persistent: bool) -> dict[str, Any]:
        options: dict[str, Any] = {"num_workers": self.num_workers, "pin_memory": self.pin_memory}
        return options | {"persistent_workers": persistent} if self.num_workers else options


def _range(entry: Any) -> tuple[np.datetime64, np.datetime64]:
    """First and last day of an entry of `mask`: a date, or two."""
    both = list(entry) if isinstance(entry, Sequence) and not isinstance(entry, str) else [entry, entry]
    try:
        first, last = (np.datetime64(str(date), "D") for date in both)
    except ValueError as error:
        raise UserError(f"data.mask: {entry!r} is neither a date nor [first, last]; write 2021-06-30.") from error
    if last < first:
        raise UserError(f"data.mask: [{first}, {last}] ends before it begins; swap the two.")
    return first, last
