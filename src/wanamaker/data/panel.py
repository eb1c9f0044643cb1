"""`MediaPanelDataModule`: a long table of KPI, media, prices and controls, as `MediaBatch`es for the mix models.

Axis letters: G series, T periods, C media channels, S season columns, R trend columns, L adstock taps.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from torch.utils.data import DataLoader, Dataset

from wanamaker.data.customer_segments import CustomerSegments
from wanamaker.data.media_panel import MediaPanel, PanelSchema
from wanamaker.data.panel_calendar import calendar_columns, check_calendar_files, fit_calendar, parse_calendar
from wanamaker.data.panel_dataset import (
    PanelBatchSampler,
    PanelDataset,
    WholePanelBatches,
    evaluation_batch,
    whole_batch,
    whole_panel_batch,
)
from wanamaker.data.panel_roles import PanelRoles
from wanamaker.data.panel_segments import check_customers, parse_segments, tell_segments, with_segments
from wanamaker.data.panel_splits import SPLITS, TimeSplit, choose_split, parse_split, require_rows, split_periods
from wanamaker.data.panel_twin import check_twin, parse_twin, with_twin_kpi
from wanamaker.data.panel_window import (
    history_only,
    mask_range,
    masked_kpi,
    require_same_names,
    shared_by_kpi,
    with_levels,
    without_series,
)
from wanamaker.data.sampler import EpochDataLoader, EvaluationBatchSampler, per_rank_batch_size, training_order
from wanamaker.data.series_sampler import SeriesBatchSampler, SeriesDataset
from wanamaker.errors import UserError

log = logging.getLogger(__name__)

_BATCH_UNITS = ("rows", "series")
_FULL_PREFLIGHT = 512 << 20  # bytes of a file that is read as a whole before anything is written


class MediaPanelDataModule(L.LightningDataModule):
    """A media panel in a CSV or Parquet file, split by time.

    Nothing is scaled here: batches hold the units of the file, and the model keeps its scales in its checkpoint. What
    does depend on data (trend, knots, calendar columns, shares of national spend) sees the training window only.

    After `setup` the attributes below are there. `panel.dates` begins after the periods of `pre_period`.

    Args:
        path: The table, one row per series and period.
        roles: Which column is what; see `PanelRoles`.
        period: Pandas offset of the calendar (`D`, `W-SUN`, `MS`, ...); null finds it in the dates.
        date_format: How dates are written, as for `strptime`; null takes ISO dates.
        on_gap: `error`, or `mask`: periods that a series lacks have no KPI; see `read_panel` for their inputs.
        on_undated: `error`, or `skip`: rows without a date, as spreadsheets leave them, are left out with a warning.
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
        trend: null, `linear`, `{knots: 4}`, or `{hsgp: {lengthscale: 1.0}}`, a smooth curve; see `parse_trend`.
        split: `{scheme, val, test, gap, folds, fold, window, step}`; see `parse_split`.
        max_lag: Periods over which media act after their own; batches hold `max_lag + 1` taps.
        pre_period: First periods of the file that serve as history of media only.
        mask: Dates, or [first, last] dates, of periods whose KPI is not to be learnt or scored; their media still act.
        exclude_series: Series to leave out.
        levels: Groups of series that are no column of the file, `{category: {Audio: [Speaker, HomeAudio]}}`; coarser
            than those of the roles.
        segments: `{path, features, clusters, scale, key, seed}`: customers, whose k-means segments become a level named
            `segment`; see `panel_segments`.
        share_by_kpi: Divide the spend of national channels (`shared` in the roles) over the series by their part of
            the KPI in the training window, instead of as the roles say. Totals stay what they are.
        twin: `{posterior, replicate}`: take the KPI that a fitted model made up instead of the observed one; see
            `panel_twin`. Everything else, the divided spend included, stays as it was.
        batch_size: Global training batch; null takes all training rows, completed to a multiple of 16, or all series.
        batch_unit: What a training batch is cut from: `rows` (`MediaBatch`), or whole `series` (`SeriesBatch`, numbers
            of series only, for models that hold the panel; `batch_size` then counts series, and what does not fill a
            batch sits the pass out). Evaluation is by rows either way.
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
        customer_segments: What `segments` found; None without them.
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
    national: np.ndarray
    customer_segments: CustomerSegments | None = None

    def __init__(
        self,
        *,
        path: str,
        roles: Mapping[str, Any],
        period: str | None = None,
        date_format: str | None = None,
        on_gap: str = "error",
        on_undated: str = "error",
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
        exclude_series: Sequence[str | int] = (),
        levels: Mapping[str, Mapping[str, Sequence[str]]] | None = None,
        segments: Mapping[str, Any] | None = None,
        share_by_kpi: bool = False,
        twin: Mapping[str, Any] | None = None,
        batch_size: int | None = None,
        batch_unit: str = "rows",
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
            "on_undated": on_undated,
            "merge": tuple(merge),
            "allow": tuple(allow),
            "start": start,
            "end": end,
        }
        self.writing = {"encoding": encoding, "delimiter": delimiter, "decimal": decimal}
        self.calendar_options = parse_calendar(seasonality, holidays, events, trend)
        self.split_options = parse_split(split)
        self.segment_options, self.twin_options = parse_segments(segments, self.roles), parse_twin(twin)
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
        if batch_unit not in _BATCH_UNITS:
            raise UserError(f"data.batch_unit={batch_unit!r}; choose rows or series.")
        self.taps, self.pre_period = max_lag + 1, pre_period
        self.mask = [mask_range(entry) for entry in mask]
        self.exclude_series = tuple(map(str, exclude_series))  # YAML reads store 12 as a number
        self.levels, self.share_by_kpi = levels or {}, share_by_kpi
        self.batch_size, self.batch_unit, self.eval_batch_size = batch_size, batch_unit, eval_batch_size
        self.passes_per_epoch, self.num_workers, self.seed = passes_per_epoch, num_workers, seed
        self.pin_memory = torch.cuda.is_available() if pin_memory is None else pin_memory
        self._adopted: PanelSchema | None = None
        self._calendar: dict[str, Any] | None = None
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
        if self.segment_options is not None:
            check_customers(self.segment_options)
        if self.twin_options is not None:
            check_twin(self.twin_options)
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

    def check_model(self, schema: PanelSchema, taps: int) -> None:
        """As `adopt` and `check_taps`, before anything is written; a panel not read yet is judged when it is.

        Args:
            schema: Of a trained model.
            taps: Periods that its carry-over looks at, the current one among them.
        """
        if hasattr(self, "panel"):
            self.adopt(schema)
            self.check_taps(taps)

    def check_taps(self, taps: int) -> None:
        """Refuse a model that was trained with another carry-over; 0 taps are of a model that was not trained yet.

        Raises:
            UserError: naming the model's `data.max_lag`.
        """
        if taps not in (0, self.taps):
            raise UserError(
                f"The checkpoint was trained with data.max_lag={taps - 1}, this run has {self.taps - 1}: set "
                f"data.max_lag={taps - 1}."
            )

    def _read(self) -> MediaPanel:
        from wanamaker.data.panel_table import read_panel  # pyarrow, only where a file is read

        return read_panel(self.path, self.roles, **self.reading, **self.writing)

    def _load(self) -> None:
        """Read the panel, split it, and derive what the training window alone decides; once."""
        if hasattr(self, "panel"):
            return
        self.national = self._national()
        panel = with_levels(without_series(self._read(), self.exclude_series, self.national), self.levels)
        if self.segment_options is not None:
            panel, self.customer_segments = with_segments(panel, self.segment_options, self.roles, self.exclude_series)
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
        if self.twin_options is not None:  # after the shares: the money is what the model that made the twin saw
            panel = with_twin_kpi(panel, self.twin_options)
        national = tuple(bool(flag) for flag in self.national)
        self.panel = replace(panel, schema=replace(panel.schema, national=national))

    def _national(self) -> np.ndarray:
        """bool [C]: declared as shared, or the totals of a merged table that knows no series."""
        tables = [entry for entry in self.reading["merge"] if entry.get("how") == "total" and not entry.get("by")]
        merged = {name for entry in tables for name in entry["columns"].values()}
        return np.array([c.shared is not None or c.spend in merged for c in self.roles.channels], bool)

    def _fitted_calendar(self) -> dict[str, Any]:
        """Of the training window; worked out, and what is odd about it said, once."""
        if self._calendar is None:
            start, stop = self.folds[self.fold].train
            schema = self.panel.schema
            window = self.panel.dates[start:stop]
            self._calendar = fit_calendar(self.calendar_options, schema.period, schema.periods_per_year, window)
        return self._calendar

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
        schema = self.panel.schema
        if stage == "fit" and self.batch_unit == "series":
            SeriesBatchSampler(self.panel.num_series, self.batch_size)  # refuses a batch that cannot be filled
        require_rows(stage, self.folds[self.fold], self.split_of, self.panel.dates, schema.kpi, schema.series)

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
        if self.customer_segments is not None:
            tell_segments(self.customer_segments, self.panel.schema)

    # -- loaders -------------------------------------------------------------------------------------------------------

    def rows(self, name: str) -> np.ndarray:
        """Row numbers (series * T + time) of a split, ascending, int64 [N]."""
        return np.flatnonzero(self.split_of.reshape(-1) == SPLITS.index(name))

    def dataset(self, rows: np.ndarray) -> PanelDataset:
        """Some rows of the panel, as batches."""
        return PanelDataset(self.panel, self.season, self.trend, rows, self.taps)

    def train_dataloader(self) -> DataLoader:
        rank, world_size = self._rank()
        order = training_order(self.trainer, rank, world_size, passes=self.passes_per_epoch, seed=self.seed)
        if self.batch_unit == "series":
            dataset: Dataset = SeriesDataset(self.panel.num_series)
            sampler = SeriesBatchSampler(self.panel.num_series, self.batch_size, **order)
        else:
            rows = self.rows("train")
            dataset = self.dataset(rows)
            size = whole_panel_batch(len(rows), world_size) if self.batch_size is None else self.batch_size
            sampler = PanelBatchSampler(len(rows), size, **order)
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
        size = evaluation_batch(count, world_size) if self.eval_batch_size is None else self.eval_batch_size
        return EvaluationBatchSampler(count, size, rank=rank, world_size=world_size)

    def _rank(self) -> tuple[int, int]:
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)

    def _loader_options(self, persistent: bool) -> dict[str, Any]:
        options: dict[str, Any] = {"num_workers": self.num_workers, "pin_memory": self.pin_memory}
        return options | {"persistent_workers": persistent} if self.num_workers else options
