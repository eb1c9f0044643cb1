"""The decision `mix`: what drove the KPI, what media returned, and how far the model can be trusted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wanamaker.decisions.decomposition import check_mix, decompose
from wanamaker.decisions.frequency import frequency_table
from wanamaker.errors import UserError
from wanamaker.predictions import MixPredictions
from wanamaker.predictions.mix import SPLITS
from wanamaker.reporting.export import check_formats
from wanamaker.reporting.mix_numbers import MixNumbers, carry_over_table, curve_tables, work_out
from wanamaker.reporting.mix_page import mix_page
from wanamaker.reporting.mix_walk_forward import walk_forward_scores
from wanamaker.reporting.mix_warnings import mix_warnings
from wanamaker.reporting.outputs import write_outputs
from wanamaker.reporting.posterior_numbers import work_out_posterior
from wanamaker.reporting.training import training_history

if TYPE_CHECKING:
    import pandas as pd


class MixReport:
    """The decision `mix`: reads `MixPredictions`, writes tables, figures and a report.

    In the output folder: `tables/` with contributions, returns, curves, elasticities, scores and predictions in each
    format, `figures/` with every figure as PNG, and `report.html` with all of it in one file. Where the model has a
    posterior, its checks, its diagnosis and a comparison with least squares come on top.

    Args:
        level: What the reader can choose in the figures over time: `series`, or a number k: series whose names agree in
            their first k parts are shown as one.
        top_series: How many of them are shown on their own, largest first.
        start: First day of the window that contributions and returns are about; None is the first of the data.
        end: Last day; None is the last of the data.
        curve_periods: Saturation and ROI curves are about so many periods up to `end`; None is a year.
        walk_forward: Folder of a multirun over folds, whose scores are shown; None leaves them out.
        repeats: Shuffles per part of the permutation importance.
        seed: Of the shuffles, the surrogates and the bootstrap.
        formats: Of the table files: `parquet`, `csv`.

    Raises:
        UserError: an argument out of range.
    """

    reads = MixPredictions.kind

    def __init__(
        self,
        level: str | int = "series",
        top_series: int = 6,
        start: str | None = None,
        end: str | None = None,
        curve_periods: int | None = None,
        walk_forward: str | None = None,
        repeats: int = 5,
        seed: int = 0,
        formats: Iterable[str] = ("parquet", "csv"),
    ) -> None:
        numbers = {
            "top_series": (top_series, 0),
            "repeats": (repeats, 1),
            "curve_periods": (curve_periods, 1),
            "seed": (seed, 0),
        }
        for name, (value, least) in numbers.items():
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
                raise UserError(f"decision.{name}={value!r}: give a whole number, {least} or more.")
        self.level, self.top_series = level, top_series
        self.start, self.end, self.curve_periods = start, end, curve_periods
        self.walk_forward, self.repeats, self.seed = walk_forward, repeats, seed
        self.formats = check_formats(formats)

    def write(
        self,
        predictions: MixPredictions,
        samples: pd.DataFrame | None,
        output_dir: Path,
        metrics: Mapping[str, float],
        run: Mapping[str, Any],
    ) -> list[Path]:
        """Write everything.

        Args:
            predictions: of a mix model, every row of its panel.
            samples: not used; a panel's predictions say all.
            output_dir: folder of the run.
            metrics: by full name (`test/wmape`); scores that are missing are worked out from the rows.
            run: `run_id`, `monitor`, and whatever else should stand in the report. From `checkpoint`, where given, the
                curves of the training are found (`csv/metrics.csv` or `metrics.csv` beside its folder).

        Returns:
            The files written.

        Raises:
            UserError: predictions of another kind, an unknown level or window, a walk-forward folder without runs, or a
                folder that cannot be written. Nothing is written where an argument is wrong.
        """
        predictions = check_mix(predictions, "mix")
        folds = walk_forward_scores(self.walk_forward) if self.walk_forward is not None else None
        history = training_history(run)
        numbers = work_out(
            predictions,
            metrics,
            level=self.level,
            top=self.top_series,
            start=self.start,
            end=self.end,
            curve_periods=self.curve_periods,
            repeats=self.repeats,
            seed=self.seed,
        )
        posterior = work_out_posterior(predictions, seed=self.seed)
        warnings = posterior.warnings() if posterior is not None else []
        warnings += mix_warnings(
            predictions, numbers.channels(), numbers.scores, numbers.break_even, pairs=posterior is None
        )
        page, figures = mix_page(
            numbers, warnings, run, self._settings(), history=history, folds=folds, posterior=posterior
        )
        run_id = str(run["run_id"]) if "run_id" in run else None
        tables = mix_tables(numbers, warnings, folds) | (posterior.tables() if posterior is not None else {})
        return write_outputs(output_dir, tables, figures, page, self.formats, run_id)

    def _settings(self) -> dict[str, Any]:
        return {
            "level": self.level,
            "top_series": self.top_series,
            "start": self.start,
            "end": self.end,
            "curve_periods": self.curve_periods,
            "walk_forward": self.walk_forward,
            "permutation_repeats": self.repeats,
            "seed": self.seed,
        }


def mix_tables(numbers: MixNumbers, warnings: list[str], folds: pd.DataFrame | None) -> dict[str, pd.DataFrame]:
    """The tables of the report by file name."""
    import pandas as pd

    predictions = numbers.predictions
    response = predictions.response
    rows = numbers.rows
    window = (predictions.date >= numbers.start) & (predictions.date <= numbers.end)
    over_time = [
        parts.to_frame().assign(shown=line.name) for line, parts in zip(numbers.lines, numbers.line_parts, strict=True)
    ]
    tables = {
        "contributions": numbers.total.to_frame().assign(unit=response.kpi_unit),
        "contributions_by_series": decompose(predictions, by=("series",), rows=window)
        .to_frame()
        .assign(unit=response.kpi_unit),
        "contributions_over_time": pd.concat(over_time, ignore_index=True).assign(unit=response.kpi_unit),
        "predictions": pd.DataFrame(
            {
                "series": np.array(response.series, dtype=object)[predictions.series],
                "date": predictions.date.astype("datetime64[s]"),
                "split": np.array(SPLITS, dtype=object)[predictions.split],
                "kpi": predictions.kpi,
                "prediction": rows.mean,
                "prediction_low_90": rows.low,
                "prediction_high_90": rows.high,
                "residual": rows.residual,
            }
        ),
        "scores": numbers.scores,
        "scores_by_series": numbers.series_scores,
        "permutation_importance": numbers.importance,
        "warnings": pd.DataFrame({"warning": pd.Series(warnings, dtype="str")}),
        **curve_tables(numbers),
    }
    if response.channels:
        units = {"money_unit": response.money_unit, "kpi_unit": response.kpi_unit}
        tables["channels"] = numbers.channels().assign(**units)
        tables["channels_by_series"] = numbers.channels(by_series=True).assign(**units)
        tables["carry_over"] = carry_over_table(predictions)
    if numbers.curves:
        tables["roi_curves"] = pd.concat([curve.to_frame() for curve in numbers.curves], ignore_index=True)
    if numbers.frequencies:
        tables["frequency"] = frequency_table(numbers.frequencies)
    if numbers.own_elasticity is not None:
        tables["own_price_elasticity"] = numbers.own_elasticity
    if folds is not None:
        tables["walk_forward"] = folds
    return tables
