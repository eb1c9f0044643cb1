"""The sections of a mix report about its posterior: can it be trusted, what did the data say, what to doubt."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from wanamaker.decisions.frequentist import BAYESIAN
from wanamaker.decisions.posterior_checks import ESS_GOOD, KHAT_GOOD, KHAT_USABLE, RHAT_GOOD
from wanamaker.decisions.predictive_checks import PARETO_GOOD, prior_words
from wanamaker.reporting.mix_numbers import MixNumbers
from wanamaker.reporting.mix_style import percent, short_number
from wanamaker.reporting.page import Section, Table, number
from wanamaker.reporting.posterior_figures import (
    chain_figure,
    forest_figure,
    khat_figure,
    prior_posterior_figure,
    trade_figure,
)
from wanamaker.reporting.posterior_numbers import PosteriorNumbers
from wanamaker.reporting.predictive_figures import bands_figure, coverage_figure, discrepancy_figure

if TYPE_CHECKING:
    import pandas as pd

_SEVERITY = {"high": "grave", "medium": "to be watched", "low": "minor"}
_KIND = {
    "pair": "two channels that cannot be told apart",
    "intercept": "a channel that looks like the base",
    "prior": "a result that is mostly prior",
    "demand": "spend that follows demand",
}


def posterior_sections(numbers: MixNumbers, posterior: PosteriorNumbers) -> list[Section]:
    """All of them, in the order of the page."""
    sections = [trust_section(posterior)]
    if numbers.predictions.response.channels:
        sections.append(prior_section(numbers, posterior))
    sections.append(reproduction_section(numbers, posterior))
    if numbers.predictions.response.channels:
        sections += [doubt_section(numbers, posterior), least_squares_section(numbers, posterior)]
    return sections


def trust_section(posterior: PosteriorNumbers) -> Section:
    """The verdict, the draws behind it, and the table of the parameters."""
    p, checks = posterior.posterior, posterior.checks
    said = f"{checks.verdict[0].upper()}{checks.verdict[1:]}."
    if p.engine == "svi":
        said += (
            f"\n\nThe posterior is a Gaussian fitted by variational inference ({p.num_draws:,} draws of it). k-hat "
            f"says how far it is from the true one: up to {KHAT_GOOD} good, up to {KHAT_USABLE} usable, above that its "
            "intervals are not those of the posterior. R-hat and effective sample size have no meaning for it."
        )
        figure = khat_figure(p)
    else:
        word = {"hmc": "Hamiltonian Monte Carlo", "nuts": "the No-U-Turn sampler"}[p.engine]
        said += (
            f"\n\n{p.num_chains} chain{'s' if p.num_chains > 1 else ''} of {p.num_draws:,} draws by {word}, "
            f"{checks.divergences} divergent. R-hat compares the chains (up to {RHAT_GOOD} good); the effective "
            f"sample size is how many independent draws they are worth (from {ESS_GOOD} good)."
        )
        figure = chain_figure(p, checks.worst())
    said += f" The fit took {_duration(p.seconds)}, {_duration(p.cpu_seconds)} of processor time."
    frame = checks.table
    shown = frame.sort_values(["estimand", "r_hat"], ascending=False) if p.engine != "svi" else frame
    columns = {"parameter": shown["parameter"], "of": shown["of"]}
    columns["mean"] = [short_number(v) for v in shown["mean"]]
    columns["90 % interval"] = [
        f"{short_number(low)} to {short_number(high)}"
        for low, high in zip(shown["low_90"], shown["high_90"], strict=True)
    ]
    if p.engine != "svi":
        columns |= {"R-hat": shown["r_hat"], "ESS, bulk": shown["ess_bulk"], "ESS, tail": shown["ess_tail"]}
    columns["error of the mean"] = shown["mcse_share"]
    note = "Error of the mean: Monte Carlo standard error, as a share of the posterior's standard deviation."
    if checks.left_out:
        note += f" {checks.left_out:,} further numbers of large parameters were not checked."
    formats = {"R-hat": ".3f", "ESS, bulk": ",.0f", "ESS, tail": ",.0f", "error of the mean": percent}
    table = Table("Parameters and estimands", _frame(columns), note, formats, max_rows=40)
    return Section("Can this posterior be trusted", said, [figure], [table], folded=True)


def prior_section(numbers: MixNumbers, posterior: PosteriorNumbers) -> Section:
    """Prior and posterior of the returns, and what was learnt."""
    response = numbers.predictions.response
    ledger = posterior.diagnosis.ledger
    learnt = ledger[~ledger["mostly_prior"]]
    kept = ledger.loc[ledger["mostly_prior"], "channel"].tolist()
    said = f"What the data added to what was assumed, for {len(learnt)} of {len(ledger)} channels."
    if kept:
        said = f"The data said nothing about {', '.join(kept)}: there the result is the assumption. " + (
            f"About the other {len(learnt)} they did." if len(learnt) else "So it is for every channel."
        )
    said += (
        " Information is measured in nats: 0 is nothing; a standard deviation that is halved is 0.3, one that is a "
        "tenth of the prior's 1.8. " + prior_words(posterior.prior)
    )
    pays_in = numbers.pays_in or (response.kpi_unit if (ledger["quantity"] == "contribution").any() else "")
    figure = prior_posterior_figure(posterior.posterior, ledger, response.money_unit, pays_in)
    shown = _frame(
        {
            "channel": ledger["channel"],
            "quantity": ledger["quantity"].replace({"roi": "ROI"}),
            "prior": _intervals(ledger, "prior"),
            "posterior": _intervals(ledger, "posterior"),
            "narrowed to": ledger["sd_ratio"],
            "moved by": ledger["shift"],
            "overlap": ledger["overlap"],
            "learnt": ledger["nats"],
            "label": np.where(ledger["mostly_prior"], "mostly prior", ""),
        }
    )
    if not kept:
        shown = shown.drop(columns="label")
    table = Table(
        "Information ledger",
        shown,
        "In brackets: 90 % intervals. Narrowed to: standard deviation of the posterior over that of the prior, of the "
        "logarithm where draws are positive. Moved by: in standard deviations of the prior. Overlap: area that "
        "both densities share.",
        {
            "narrowed to": lambda v: percent(v, 0),
            "overlap": lambda v: percent(v, 0),
            "moved by": ".2f",
            "learnt": ".2f",
        },
        {"learnt": "nats", "moved by": "prior sd", "narrowed to": "of the prior"},
    )
    return Section("Prior and posterior", said, [figure], [table])


def reproduction_section(numbers: MixNumbers, posterior: PosteriorNumbers) -> Section:
    """Posterior predictive checks by series, coverage, discrepancies, leave-one-series-out."""
    response, p = numbers.predictions.response, posterior.posterior
    figures = [
        bands_figure(
            p, line.series, response.kpi, response.kpi_unit, name=f"posterior_predictive_{place + 1}", choice=line.name
        )
        for place, line in enumerate(numbers.lines)
    ]
    tables = []
    if len(posterior.coverage):
        figures.append(coverage_figure(posterior.coverage))
    if len(posterior.discrepancies):
        figures.append(discrepancy_figure(posterior.discrepancies))
    whole = posterior.discrepancies[posterior.discrepancies["series"] == "all"]
    odd = whole.loc[whole["extreme"], "statistic"].tolist()
    said = "The posterior makes the data again, noise included, and the result is laid beside what happened. "
    if odd:
        said += f"It does not reproduce the {' and the '.join(odd)} of the KPI: look there before trusting intervals."
    else:
        said += "Mean, spread, largest values and autocorrelation of the KPI look like those of its replicates."
    loo = posterior.loo
    if loo.reason:
        said += f"\n\nLeave-one-series-out was not worked out: {loo.reason}."
    else:
        said += (
            f"\n\nLeave-one-series-out: expected log density {number(loo.elpd)} (standard error {number(loo.se)}), "
            f"{loo.p_loo:.1f} effective parameters. "
        )
        said += (
            f"{loo.bad} of {len(loo.series)} series have a Pareto k above {PARETO_GOOD}: without one of them the "
            "posterior would be another, and the number is only a hint."
            if loo.bad
            else f"All {len(loo.series)} series have a Pareto k of at most {PARETO_GOOD}: the number can be relied on."
        )
        worst = loo.series.sort_values("pareto_k", ascending=False).head(15)
        shown = worst.rename(columns={"elpd": "log density", "pareto_k": "Pareto k"})
        tables.append(Table("Series that the others predict worst, by Pareto k", shown, formats={"Pareto k": ".2f"}))
    by_series = posterior.discrepancies[
        posterior.discrepancies["extreme"] & (posterior.discrepancies["series"] != "all")
    ]
    if len(by_series):
        shown = by_series.sort_values("p_value")[["series", "statistic", "observed", "replicated", "p_value"]]
        shown = shown.rename(columns={"p_value": "share that shows more"})
        for name in ("observed", "replicated"):
            shown[name] = [short_number(v) for v in shown[name]]
        count = len(posterior.discrepancies) - len(whole)
        note = f"Of {count:,} such numbers about {0.05 * count:.0f} would be here by chance."
        formats = {"share that shows more": ".3f"}
        tables.append(Table("What single series do not show again", shown, note, formats, max_rows=20))
    return Section("Does it reproduce the data", said, figures, tables, folded=True)


def doubt_section(numbers: MixNumbers, posterior: PosteriorNumbers) -> Section:
    """The findings of the diagnosis, gravest first."""
    diagnosis = posterior.diagnosis
    figures = [trade_figure(posterior.posterior)]
    if not diagnosis.findings:
        said = (
            "Nothing was found: no two channels that trade places, none that looks like the base, none that is only "
            "prior, and no spend that visibly follows demand. That does not prove that spend follows nothing: bids "
            "that chase demand of the same period leave no trace in such data."
        )
        tables = []
    else:
        grave = sum(finding.severity == "high" for finding in diagnosis.findings)
        said = (
            f"{len(diagnosis.findings)} finding{'s' if len(diagnosis.findings) > 1 else ''}, "
            f"{grave if grave else 'none'} of them grave.\n\n"
        )
        said += "\n".join(f"- {finding.what} {finding.remedy}" for finding in diagnosis.findings)
        rows = _frame(
            {
                "finding": [_KIND[f.kind] for f in diagnosis.findings],
                "channels": [" and ".join(f.channels) for f in diagnosis.findings],
                "weight": [_SEVERITY[f.severity] for f in diagnosis.findings],
                "numbers": diagnosis.to_frame()["numbers"].str.replace("_", " "),
            }
        )
        tables = [Table("Findings", rows)]
    if diagnosis.notes:
        said += "\n\n" + " ".join(diagnosis.notes)
    demand = diagnosis.demand.table
    if len(demand):
        words = {"past": "sales unexplained before", "same": "season and trend now"}
        shown = _frame(
            {
                "spend of": demand["channel"],
                "against": demand["test"].map(words),
                "correlation": demand["correlation"],
                "p": demand["p_value"],
                "p, adjusted": demand["p_holm"],
                "alarm": np.where(demand["alarm"].astype(bool), "yes", ""),
            }
        )
        note = "p: share of spend paths with random phases that follow it as much; adjusted for the number of channels."
        formats = {"correlation": ".2f", "p": ".3f", "p, adjusted": ".3f"}
        tables.append(Table("Does spend follow demand?", shown, note, formats))
    return Section("What to doubt", said, figures, tables)


def least_squares_section(numbers: MixNumbers, posterior: PosteriorNumbers) -> Section:
    """The Bayesian answer beside that of ordinary least squares and ridge regression."""
    response, result = numbers.predictions.response, posterior.least_squares
    said = (
        "The same rows, explained by plain regression: an intercept per series, a trend, two yearly harmonics, prices, "
        "promotions and controls, and media either as they are or carried over and saturated as the Bayesian model "
        "has them. What only one method sees is what its assumptions add. "
    )
    said += _agreement(result.contributions)
    if result.notes:
        said += "\n\n" + " ".join(result.notes)
    figures = (
        [forest_figure(result.contributions, response.kpi, response.kpi_unit)] if len(result.contributions) else []
    )
    scores = result.scores.pivot(index="method", columns="split", values=["r2", "mape"])
    order = list(dict.fromkeys(result.scores["method"]))
    splits = [s for s in ("train", "held out") if s in set(result.scores["split"])]
    word = {"train": "training", "held out": "held out"}
    columns: dict[str, object] = {"method": order}
    for score, name in (("r2", "R2"), ("mape", "MAPE")):
        columns |= {f"{name}, {word[s]}": scores[score][s].reindex(order).to_numpy() for s in splits}
    formats = {f"R2, {word[s]}": ".3f" for s in splits} | {f"MAPE, {word[s]}": percent for s in splits}
    table = Table("How well each predicts", _frame(columns), formats=formats)
    return Section("Bayesian against least squares", said, figures, [table])


def _agreement(frame: pd.DataFrame) -> str:
    """Channels whose least-squares intervals (fitted curves) do not meet the Bayesian ones, in words."""
    if frame.empty:
        return ""
    ours = frame[frame["method"] == BAYESIAN].set_index("channel")
    theirs = frame[frame["method"] == "OLS, fitted curves"].set_index("channel")
    if theirs.empty:
        return ""
    apart = [
        str(name)
        for name in ours.index
        if theirs.loc[name, "low_90"] > ours.loc[name, "high_90"]
        or theirs.loc[name, "high_90"] < ours.loc[name, "low_90"]
    ]
    negative = [str(name) for name in theirs.index if theirs.loc[name, "contribution"] < 0]
    said = (
        f"With the same curves the 90 % intervals of {', '.join(apart)} do not meet: there prior or pooling decide."
        if apart
        else "With the same curves the 90 % intervals of both meet for every channel."
    )
    if negative:
        said += f" Least squares lets {', '.join(negative)} sell less than nothing."
    return said


def _intervals(frame: pd.DataFrame, name: str) -> list[str]:
    return [
        f"{short_number(row[name])} ({short_number(row[f'{name}_low_90'])} to {short_number(row[f'{name}_high_90'])})"
        for _, row in frame.iterrows()
    ]


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _frame(columns: dict[str, object]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame({name: list(values) for name, values in columns.items()})  # type: ignore[call-overload]
