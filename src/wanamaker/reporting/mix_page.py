"""The page of a mix report: the sections below the first screen, and all of it as HTML."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from wanamaker.decisions.frequency import frequency_table
from wanamaker.reporting.mix_curve_figures import (
    adstock_figure,
    elasticity_figure,
    frequency_figure,
    half_lives,
    price_figures,
    promotion_figure,
    roi_curve_figure,
    saturation_figure,
)
from wanamaker.reporting.mix_figures import decomposition_figure, kinds_figure
from wanamaker.reporting.mix_first_screen import colours_of, day_words, first_figures, headline, lead, tiles
from wanamaker.reporting.mix_fit_figures import (
    bars_figure,
    error_figure,
    fit_figure,
    folds_figure,
    history_figures,
)
from wanamaker.reporting.mix_numbers import MixNumbers, carry_over_table
from wanamaker.reporting.mix_scores import PERCENT, SCORES, error_words
from wanamaker.reporting.mix_style import SPLIT_WORDS, percent, short_number
from wanamaker.reporting.page import Figure, Format, Section, Table, number, render_page
from wanamaker.reporting.posterior_numbers import PosteriorNumbers
from wanamaker.reporting.posterior_sections import posterior_sections

if TYPE_CHECKING:
    import pandas as pd

_SHOWN_PARTS = 20
_INSIDE = "inside 90\u00a0% interval"


def mix_page(
    numbers: MixNumbers,
    warnings: list[str],
    run: Mapping[str, Any],
    settings: Mapping[str, Any],
    *,
    history: pd.DataFrame | None = None,
    folds: pd.DataFrame | None = None,
    posterior: PosteriorNumbers | None = None,
) -> tuple[str, list[Figure]]:
    """The report as HTML, and its figures.

    Args:
        numbers: of `mix_numbers.work_out`.
        warnings: of `mix_warnings.mix_warnings`.
        run, settings: for the footer.
        history: `metrics.csv` of the training; None leaves the section out.
        folds: of `mix_walk_forward.walk_forward_scores`; None leaves the section out.
        posterior: of `posterior_numbers.work_out_posterior`; None leaves its sections out.
    """
    first = first_figures(numbers)
    sections = [channel_section(numbers)] if numbers.returns is not None else []
    sections += [*time_sections(numbers), *curve_sections(numbers), *price_sections(numbers)]
    if posterior is not None:
        sections += posterior_sections(numbers, posterior)
    sections += fit_sections(numbers)
    if folds is not None:
        sections.append(fold_section(folds))
    if history is not None and (figures := history_figures(history, str(run.get("monitor", "")))):
        sections.append(Section("Training", "What the training logged, by epoch.", figures))
    response = numbers.predictions.response
    page = render_page(
        f"Marketing mix of {response.kpi}, run {run.get('run_id', '')}",
        headline(numbers),
        sections,
        run,
        settings,
        eyebrow=f"Marketing mix: what drives {response.kpi}",
        lead=lead(numbers),
        tiles=tiles(numbers),
        warnings=warnings,
        first=first,
    )
    return page, [*first, *(figure for section in sections for figure in section.figures)]


def channel_section(numbers: MixNumbers) -> Section:
    """The table of the channels."""
    import pandas as pd

    response = numbers.predictions.response
    frame = numbers.channels()
    unit = f"{numbers.pays_in or response.money_unit} per {response.money_unit}"
    frame = frame.sort_values("roi", ascending=False, na_position="last")
    shown = pd.DataFrame({"channel": frame["channel"]})
    shown["spend"] = frame["spend"].where(frame["paid"])
    shown["contribution"] = _interval_texts(frame, "contribution", short_number)
    shown["share"] = [percent(v) for v in frame["share"]]
    shown["ROI"] = _interval_texts(frame, "roi", number)
    shown["marginal ROI"] = _interval_texts(frame, "marginal_roi", number)
    if response.kpi_unit != response.money_unit:
        shown["cost per extra unit"] = frame["cost_per_unit"]
    shown["note"] = frame["note"]
    if not (shown["note"] != "").any():
        shown = shown.drop(columns="note")
    text = (
        f"From {day_words(numbers.start)} to {day_words(numbers.end)}. Contribution: {response.kpi} that landed in "
        "these periods, also from spend before them. ROI: what the money of these periods brought, also after them, "
        "beyond what would have come without it, divided by that money"
    )
    text += (
        f"; one unit of {response.kpi} counts as {number(response.kpi_value)} {response.money_unit}. Above 1 a channel "
        "brings in more than it costs."
        if numbers.in_money and response.kpi_value != 1
        else ". Above 1 a channel brings in more than it costs, before the cost of the goods themselves."
        if numbers.in_money
        else "."
    )
    units = {
        "spend": response.money_unit,
        "contribution": response.kpi_unit,
        "share": f"of {response.kpi}",
        "ROI": unit,
        "marginal ROI": unit,
        "cost per extra unit": response.money_unit,
    }
    note = "In brackets: 90 % intervals. What to do with the budget: python evaluate.py ckpt_path=... decision=budget."
    table = Table("What each channel brought and cost", shown, note, {"spend": ",.0f"}, units)
    return Section("Channels", text, tables=[table])


def time_sections(numbers: MixNumbers) -> list[Section]:
    """The stacked decomposition, for the total and the largest series."""
    response = numbers.predictions.response
    colours, figures = colours_of(numbers), []
    for place, (line, parts) in enumerate(zip(numbers.lines, numbers.line_parts, strict=True)):
        figures.append(
            decomposition_figure(
                line.date,
                parts.draws.mean(axis=0),
                parts.names,
                parts.kinds,
                colours,
                observed=line.observed,
                split=line.split,
                kpi=response.kpi,
                unit=response.kpi_unit,
                name=f"decomposition_{place + 1}",
                choice=line.name,
                title=line.name,
            )
        )
    text = f"Each {numbers.period}'s {response.kpi}, taken apart: first stacked, then every kind of part on its own."
    if len(figures) > 1:
        text += f" Choose all series together or one of the largest; all {len(response.series):,} are in the tables."
    whole = numbers.line_parts[0]
    if len(whole.keys["period"]) > 1:
        line = numbers.lines[0]
        figures.append(kinds_figure(line.date, whole, line.split, response.kpi, response.kpi_unit))
    return [Section("Over time", text, figures)]


def curve_sections(numbers: MixNumbers) -> list[Section]:
    """Saturation, ROI over money, carry-over."""
    response = numbers.predictions.response
    sections = []
    if numbers.curves:
        at = [response.channels.index(curve.channel) for curve in numbers.curves]
        _, time = np.unique(numbers.predictions.date, return_inverse=True)
        history = [np.bincount(time, weights=numbers.predictions.spend[:, c]) for c in at]
        periods = numbers.curve_periods
        figures = [
            saturation_figure(numbers.curves, history, at, periods, numbers.period, numbers.pays_in),
            roi_curve_figure(numbers.curves, periods, numbers.period, numbers.pays_in),
        ]
        text = (
            f"What other budgets would have brought in the last {periods} {numbers.period}s. A curve that bends down "
            "says that the channel saturates: each further unit of money brings less than the one before."
        )
        sections.append(Section("Saturation and returns", text, figures))
    if numbers.frequencies:
        sections.append(frequency_section(numbers))
    if response.channels and response.adstock.shape[2] > 1:
        lives = half_lives(response.adstock)
        frame = carry_over_table(numbers.predictions)
        figure = adstock_figure(response.adstock, response.channels, numbers.period, lives)
        slow = frame.loc[frame["half_life"].idxmax()]
        text = (
            f"Media work on after they are paid for; {slow['channel']} works longest, half of its effect has come "
            f"after {slow['half_life']:.1f} {numbers.period}s."
        )
        sections.append(Section("Carry-over", text, [figure]))
    return sections


def frequency_section(numbers: MixNumbers) -> Section:
    """How often to reach a person."""
    import pandas as pd

    curves, response = numbers.frequencies, numbers.predictions.response
    frame = frequency_table(curves)
    shown = pd.DataFrame({"channel": frame["channel"], "today": frame["frequency"]})
    shown["best"] = _interval_texts(frame, "best_frequency", number)
    shown["gain"] = _interval_texts(frame, "gain", percent)
    shown["note"] = ["beyond what was seen" if outside else "" for outside in frame["extrapolated"]]
    most = max(curves, key=lambda curve: float(curve.gain.mean()))
    gain = percent(float(most.gain.mean()))
    text = (
        f"The same contacts can reach many people seldom or few people often. Those of {most.channel} came "
        f"{most.now:.1f} times to a person; at {most.best:.1f} they would count {gain} more. Money is planned at the "
        "frequency of the data."
    )
    at = [response.channels.index(curve.channel) for curve in curves]
    units = {"today": "contacts per person", "best": "contacts per person", "gain": "of what contacts bring"}
    table = Table(
        "How often to reach a person",
        shown,
        "In brackets: 90 % intervals. Gain: what the same number of contacts would bring at the best frequency.",
        {"today": ".2f"},
        units,
    )
    return Section("Frequency", text, [frequency_figure(curves, at, numbers.period)], [table])


def price_sections(numbers: MixNumbers) -> list[Section]:
    """Price curves and elasticities, promotions."""
    kpi = numbers.predictions.response.kpi
    figures = price_figures(numbers.prices, kpi)
    if numbers.promotions:
        figures.append(promotion_figure(numbers.promotions, kpi))
    text = ""
    if numbers.own_elasticity is not None:
        by_series = numbers.own_elasticity[numbers.own_elasticity["series"] != "all"]
        if len(by_series) > 1 and np.ptp(by_series["elasticity"]) > 1e-6:
            figures.append(elasticity_figure(numbers.own_elasticity))
        elif len(by_series) > 1:
            text = "The model gives every series the same own-price elasticity."
    if not figures:
        return []
    title = (
        "Prices and promotions"
        if numbers.prices and numbers.promotions
        else "Prices"
        if numbers.prices
        else "Promotions"
    )
    return [Section(title, text, figures)]


def fit_sections(numbers: MixNumbers) -> list[Section]:
    """Scores, actual against predicted, errors, importance."""
    response = numbers.predictions.response
    table = _score_table(numbers.scores)
    by_split = ", ".join(
        f"{SPLIT_WORDS[row['split']]} wMAPE {percent(row['wmape'])}" for _, row in numbers.scores.iterrows()
    )
    figures = [
        fit_figure(
            line,
            response.kpi,
            response.kpi_unit,
            name=f"fit_{place + 1}",
            choice=line.name,
            note=f"All rows: {by_split}.",
        )
        for place, line in enumerate(numbers.lines)
    ]
    sections = [
        Section(
            "How well it predicts",
            f"Observed against predicted {response.kpi}. Only validation and test periods show what the model can do: "
            "it has not learned from them.",
            figures,
            [table],
        )
    ]
    sections += _error_sections(numbers)
    shown = numbers.importance.head(_SHOWN_PARTS)
    colours = colours_of(numbers)
    figure = bars_figure(
        shown["part"].tolist(),
        shown["importance"].to_numpy(),
        name="permutation_importance",
        title="Permutation importance",
        x_label="fall of R2",
        caption="Whiskers: one standard deviation over the shuffles.",
        spread=shown["sd"].to_numpy(),
        colours=[colours.get(part, "#9fb0bf") for part in shown["part"]],
        wide=True,
    )
    text = (
        "How much R2 falls when a part's values are shuffled over time within each series. It says what the prediction "
        "rests on; it does not say what brings sales: a channel that runs evenly is not missed when shuffled."
    )
    sections.append(Section("What the prediction rests on", text, [figure]))
    return sections


def _error_sections(numbers: MixNumbers) -> list[Section]:
    if numbers.errors is None:
        return []
    e = numbers.errors
    unit = numbers.predictions.response.kpi_unit
    figures = [error_figure(e.residual, e.fitted, e.standardised, e.autocorrelation, e.bound, unit)]
    tables = []
    if len(numbers.series_scores) > 1:
        worst = numbers.series_scores.sort_values("wmape", ascending=False).head(15)
        bias = numbers.series_scores.reindex(
            numbers.series_scores["bias"].abs().sort_values(ascending=False).index
        ).head(15)
        for frame, column, title, x_label in (
            (worst, "wmape", "Largest errors by series", "wMAPE, %"),
            (bias, "bias", "Most biased series", "predicted less observed, % of observed"),
        ):
            figures.append(
                bars_figure(
                    frame["series"].tolist(),
                    100 * frame[column].to_numpy(),
                    name=f"series_{column}",
                    title=title,
                    x_label=x_label,
                    caption="The 15 with the largest errors." if column == "wmape" else "Above 0: predicted too much.",
                    form=".1f",
                )
            )
        shown = _score_columns(numbers.series_scores)
        tables.append(Table("Scores by series, largest first", shown, formats=_score_formats(), max_rows=30))
    return [Section("Errors", error_words(e), figures, tables, folded=True)]


def fold_section(folds: pd.DataFrame) -> Section:
    """Walk-forward scores."""
    known = [label for label in SCORES.values() if label in folds and folds[label].notna().any()]
    shown = [m for m in ("wMAPE", "R2", "MASE", "bias", "RMSE") if m in known][:4] or known[:4]
    split = SPLIT_WORDS.get(str(folds["split"].iloc[0]), "validation")
    text = f"{len(folds)} models, each trained on the past only and scored on the {split} periods that followed."
    summary = folds[["fold", *known]].copy()
    mean = {"fold": "mean"} | {name: folds[name].mean() for name in known}
    sd = {"fold": "sd"} | {name: folds[name].std() for name in known}
    summary = summary.astype({"fold": object})
    for row in (mean, sd):
        summary.loc[len(summary)] = [row[c] for c in summary.columns]
    table = Table("Scores per fold", summary, formats=_score_formats())
    return Section("Walk-forward", text, [folds_figure(folds, shown)], [table])


def _score_table(scores: pd.DataFrame) -> Table:
    shown = _score_columns(scores)
    shown.insert(0, "split", [SPLIT_WORDS[s] for s in scores["split"]])
    shown.insert(2, _INSIDE, scores["coverage_90"].to_numpy())
    note = (
        "R2: share of the variation explained (1 is all, below 0 is worse than the mean). wMAPE: sum of errors over "
        "sum of the KPI; MAPE, sMAPE: mean of per-row errors in per cent. MASE: error relative to a seasonal naive "
        "forecast (below 1 is better than it). bias: predicted less observed total. direction accuracy: how often up "
        "and down is predicted right."
    )
    return Table("Scores by split, on the scale of the KPI", shown, note, _score_formats())


def _score_columns(scores: pd.DataFrame) -> pd.DataFrame:
    columns = ["series"] if "series" in scores else []
    return scores[[*columns, "rows", *SCORES]].rename(columns=SCORES).reset_index(drop=True)


def _score_formats() -> dict[str, Format]:
    shares: dict[str, Format] = dict.fromkeys(PERCENT, percent)
    shares |= {_INSIDE: lambda v: percent(v, 0), "bias": lambda v: percent(v, sign=True)}
    return shares | {"R2": ".3f", "MASE": ".2f", "correlation": ".3f"}


def _interval_texts(frame: pd.DataFrame, name: str, show: Callable[[float], str]) -> list[str | None]:
    texts: list[str | None] = []
    for _, row in frame.iterrows():
        value, low, high = row[name], row[f"{name}_low_90"], row[f"{name}_high_90"]
        if not np.isfinite(value):
            texts.append(None)
            continue
        texts.append(show(value) + (f" ({show(low)} to {show(high)})" if np.isfinite(low) else ""))
    return texts
