"""The decision `twin`: were the intervals right on KPIs that the model made itself, whose truth is known."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wanamaker.decisions.decomposition import check_mix
from wanamaker.decisions.recovery_twin import ALARM, LEVELS, RecoveryTwin, recovery_twin
from wanamaker.errors import UserError
from wanamaker.predictions import MixPredictions
from wanamaker.predictions.posterior import MixPosterior
from wanamaker.reporting.export import check_formats
from wanamaker.reporting.mix_style import percent, short_number
from wanamaker.reporting.outputs import write_outputs
from wanamaker.reporting.page import Section, Table, Tile, figures_of, render_page
from wanamaker.reporting.twin_figures import bias_figure, coverage_figure, levels_words, rank_figure, truth_figure
from wanamaker.reporting.twin_runs import read_refits, twin_folders

if TYPE_CHECKING:
    import pandas as pd

_WORDS = {
    "contribution": "contribution of the channels",
    "roi": "ROI of the channels",
    "mroi": "marginal ROI of the channels",
    "baseline_share": "share of the base",
}


class TwinReport:
    """The decision `twin`: reads `MixPredictions` with a posterior, and the refits of its replicates.

    In the output folder: `tables/` with twin_estimates, twin_coverage, twin_channels, twin_runs and warnings in each
    format, `figures/` with every figure as PNG, and `report.html`.

    Args:
        runs: Folder of the multirun that refitted the replicates (`sweep=twin`).
        formats: Of the table files: `parquet`, `csv`.

    Raises:
        UserError: a folder without refits, or an unknown format.
    """

    reads = MixPredictions.kind

    def __init__(self, runs: str | None = None, formats: Iterable[str] = ("parquet", "csv")) -> None:
        self.formats = check_formats(formats)
        self.runs, self.lacking = twin_folders(runs)

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
            predictions: of the original, with its posterior.
            samples: not used.
            output_dir: folder of the run.
            metrics: not used.
            run: `run_id`, and whatever else should stand in the report.

        Returns:
            The files written.

        Raises:
            UserError: predictions without a posterior, refits of another model, or a folder that cannot be written.
                Nothing is written where an argument is wrong.
        """
        predictions = check_mix(predictions, "twin")
        original = predictions.posterior
        if original is None:
            raise UserError(
                "decision=twin reads the posterior of a Bayesian mix, and these predictions have none. Choose a "
                "checkpoint of experiment=bayesian_mmm_..., or another decision."
            )
        twin = recovery_twin(original, read_refits(self.runs))
        warnings = warnings_of(twin, original, self.lacking)
        sections = sections_of(twin, predictions)
        page = render_page(
            f"Recovery twin of {predictions.response.kpi}, run {run.get('run_id', '')}",
            f"{twin.sentence}.",
            sections,
            run,
            {"runs": str(self.runs[0].parent), "formats": list(self.formats)},
            eyebrow="Recovery twin: does the model find its own truth again",
            lead=_lead(twin),
            tiles=_tiles(twin),
            warnings=warnings,
        )
        run_id = str(run["run_id"]) if "run_id" in run else None
        return write_outputs(output_dir, tables_of(twin, warnings), figures_of(sections), page, self.formats, run_id)


def tables_of(twin: RecoveryTwin, warnings: list[str]) -> dict[str, pd.DataFrame]:
    """The tables by file name."""
    import pandas as pd

    return {
        "twin_estimates": twin.estimates,
        "twin_coverage": twin.coverage,
        "twin_channels": twin.channels,
        "twin_runs": twin.runs,
        "warnings": pd.DataFrame({"warning": pd.Series(warnings, dtype="str")}),
    }


def warnings_of(twin: RecoveryTwin, original: MixPosterior, lacking: list[str]) -> list[str]:
    """What the reader must know before believing the verdict."""
    said = []
    if twin.verdict == "too narrow":
        said.append(
            "Intervals of this model on media like these are too narrow: read those of its mix report as wider than "
            "they are, and look at the bias below. More pooling, fewer channels or experiments help."
        )
    if twin.verdict == "too wide":
        said.append(
            "Intervals of this model on media like these hold the truth more often than they say: caution, not error."
        )
    if twin.verdict == "too few":
        said.append(
            f"{len(twin.of('contribution'))} intervals cannot show much: a poor coverage would pass unnoticed. Refit "
            "more replicates (data.twin.replicate=0,1,2,...)."
        )
    biased = twin.channels[twin.channels["biased"]]
    if len(biased):
        words = ", ".join(f"{r.channel} {percent(r.bias, 0, sign=True)}" for r in biased.itertuples())
        said.append(
            f"Estimates are off to one side: {words} of the truth on average. The prior pulls there, or these "
            "channels cannot be told from others."
        )
    if not original.finished:
        said.append("The original fit was cut short: its replicates are not those of its posterior.")
    cut = twin.runs.loc[~twin.runs["finished"].astype(bool), "run"].tolist()
    if cut:
        said.append(f"Not counted, because their fit was cut short: {', '.join(cut)}.")
    if lacking:
        said.append(f"Not counted, because they have no posterior: run {', '.join(lacking)}.")
    doubtful = twin.runs[(twin.runs["engine"] == "svi") & (twin.runs["khat"] > 0.7)]
    if len(doubtful):
        said.append(f"The guide of {', '.join(doubtful['run'])} does not fit its posterior (k-hat above 0.7).")
    return said


def _lead(twin: RecoveryTwin) -> list[str]:
    count = int(twin.runs["finished"].sum())
    return [
        f"The fitted model made {count} KPIs on the media, prices and calendar of these data, each with parameters "
        f"that are known, and was fitted again to every one of them.",
        f"True contributions: {levels_words(twin)} interval.",
        "This shows what the intervals are worth if the world is as the model has it. It cannot show that it is.",
    ]


def _tiles(twin: RecoveryTwin) -> list[Tile]:
    rows = twin.coverage[twin.coverage["quantity"] == "contribution"].set_index("level")
    tiles = [
        Tile(
            f"{100 * rows.loc[level, 'share']:.0f} %",
            f"of truths in the {level} % interval",
            f"{100 * rows.loc[level, 'low']:.0f} to {100 * rows.loc[level, 'high']:.0f} % would be chance",
        )
        for level in LEVELS
    ]
    worst = twin.channels.loc[twin.channels["bias"].abs().idxmax()]
    return [*tiles, Tile(percent(worst["bias"], 0, sign=True), "largest mean error", f"{worst['channel']}")]


def sections_of(twin: RecoveryTwin, predictions: MixPredictions) -> list[Section]:
    """The page below its first screen."""
    response = predictions.response
    truth = Section(
        "Found again?",
        "Contributions are totals over the observed training periods of this panel, the same in the original and in "
        "every refit. ROI is the contribution over the same money, so what holds for one holds for the other.",
        [truth_figure(twin, response.kpi, response.kpi_unit)],
        [_channel_rows(twin, response.kpi_unit)],
    )
    ranks = Section(
        "Are the intervals as wide as they should be?",
        f"An exact binomial test of the coverage at {', '.join(map(str, LEVELS[:-1]))} and {LEVELS[-1]} %, adjusted "
        f"for three tests (Holm), calls intervals off below p = {ALARM:g}. Channels of one twin are not independent, "
        "since what one channel gains another loses, so the test is a little too strict.\n\n"
        "The truths are draws from the posterior, near the user's own answer, and not from the prior: where data say "
        "little, the prior pulls every refit the same way, and ranks are then not even although nothing is broken.",
        [coverage_figure(twin), rank_figure(twin)],
        [_coverage_rows(twin)],
        folded=True,
    )
    bias = Section("Bias", "", [bias_figure(twin)], [_run_rows(twin)], folded=True)
    return [truth, ranks, bias]


def _channel_rows(twin: RecoveryTwin, unit: str) -> Table:
    import pandas as pd

    c = twin.channels
    frame = pd.DataFrame({"Channel": c["channel"], "Truth": [short_number(v) for v in c["truth"]]})
    frame["Mean error"] = c["bias"]
    frame["its 90 % interval"] = [
        f"{percent(low, 0, sign=True)} to {percent(high, 0, sign=True)}" if np.isfinite(low) else "–"
        for low, high in zip(c["bias_low_90"], c["bias_high_90"], strict=True)
    ]
    for level in LEVELS:
        frame[f"In {level} %"] = [f"{n}/{twins}" for n, twins in zip(c[f"held_{level}"], c["twins"], strict=True)]
    frame["Width"] = c["width"]
    return Table(
        "By channel",
        frame,
        "Truth: mean over the twins. Mean error: of the estimates, over the truth. Width: of the 90 % interval.",
        {"Mean error": lambda v: percent(v, 1, sign=True), "Width": lambda v: percent(v, 0)},
        {"Truth": unit, "Mean error": "of the truth", "Width": "of the truth"},
    )


def _coverage_rows(twin: RecoveryTwin) -> Table:
    import pandas as pd

    rows = []
    for name, part in twin.coverage.groupby("quantity", sort=False):
        levels = part.set_index("level")
        row = {"Quantity": _WORDS.get(str(name), str(name).replace("_", " ")), "Intervals": levels["intervals"].iloc[0]}
        row |= {f"In {level} %": levels.loc[level, "share"] for level in LEVELS}
        row |= {"Mean z": twin.of(str(name))["z"].mean(), "p": levels["p_holm"].min()}
        rows.append(row)
    return Table(
        "All parameters",
        pd.DataFrame(rows),
        "Mean z: how far estimates lie above the truth, in their standard deviations. p: the smallest of the three "
        "tests, adjusted; with so many parameters some are small by chance.",
        {f"In {level} %": lambda v: percent(v, 0) for level in LEVELS} | {"Mean z": "+.2f", "p": ".3f"},
    )


def _run_rows(twin: RecoveryTwin) -> Table:
    import pandas as pd

    r = twin.runs
    frame = pd.DataFrame({"Replicate": r["replicate"], "Run": r["run"], "Engine": r["engine"], "k-hat": r["khat"]})
    frame["Finished"] = r["finished"].astype(bool)
    frame["In 90 %"] = [f"{h}/{n}" if n else "–" for h, n in zip(r["held_90"], r["intervals"], strict=True)]
    frame["Seconds"] = r["seconds"]
    return Table("Refits", frame, "", {"k-hat": ".2f", "Seconds": ",.0f", "Replicate": "d"})
