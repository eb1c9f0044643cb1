"""The numbers that a mix report shows about its posterior, worked out once for tables, figures and words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from wanamaker.decisions.frequentist import LeastSquares, compare_with_least_squares
from wanamaker.decisions.mix_diagnosis import MixDiagnosis, diagnose
from wanamaker.decisions.posterior_checks import PosteriorChecks, check_posterior
from wanamaker.decisions.predictive_checks import (
    LooResult,
    coverage_table,
    discrepancy_table,
    leave_one_series_out,
    prior_predictive_table,
)
from wanamaker.predictions.mix import MixPredictions
from wanamaker.predictions.posterior import MixPosterior

if TYPE_CHECKING:
    import pandas as pd

_MOST_NAMED = 3


@dataclass(frozen=True)
class PosteriorNumbers:
    """What is known about the posterior of a mix."""

    posterior: MixPosterior
    checks: PosteriorChecks
    loo: LooResult
    coverage: pd.DataFrame
    discrepancies: pd.DataFrame
    prior: pd.DataFrame
    diagnosis: MixDiagnosis
    least_squares: LeastSquares

    def warnings(self) -> list[str]:
        """What the first screen must say, the gravest first."""
        found = []
        if self.checks.level == "refused":
            found.append(
                f"The posterior is {self.checks.verdict}. The intervals on this page are not to be used, and the means "
                "with care."
            )
        elif self.checks.level == "caution":
            found.append(f"The posterior is to be used with care: {'; '.join(self.checks.reasons)}.")
        findings = self.diagnosis.findings
        grave = [f for f in findings if f.severity == "high" or f.kind == "pair"]
        found += [finding.what for finding in grave[:_MOST_NAMED]]
        if len(grave) > _MOST_NAMED:
            found.append(f"{len(grave) - _MOST_NAMED} more grave doubts stand in the section What to doubt.")
        return found

    def tables(self) -> dict[str, pd.DataFrame]:
        """By file name; without those that have no row."""
        diagnosis = self.diagnosis
        tables = {
            "posterior_checks": self.checks.table,
            "posterior_coverage": self.coverage,
            "posterior_discrepancies": self.discrepancies,
            "posterior_loo": self.loo.series,
            "prior_predictive": self.prior,
            "information_ledger": diagnosis.ledger,
            "diagnosis": diagnosis.to_frame(),
            "channel_pairs": diagnosis.pairs.drop(columns="spread"),
            "spend_endogeneity": diagnosis.demand.table,
            "least_squares_contributions": self.least_squares.contributions,
            "least_squares_scores": self.least_squares.scores,
        }
        return {name: frame for name, frame in tables.items() if len(frame) or name == "diagnosis"}


def work_out_posterior(predictions: MixPredictions, *, seed: int = 0) -> PosteriorNumbers | None:
    """Check, diagnose and compare; None where the model has no posterior.

    Args:
        predictions: of a mix model, all rows of its panel.
        seed: of the surrogates and of the bootstrap.
    """
    posterior = predictions.posterior
    if posterior is None:
        return None
    return PosteriorNumbers(
        posterior=posterior,
        checks=check_posterior(posterior),
        loo=leave_one_series_out(posterior),
        coverage=coverage_table(posterior),
        discrepancies=discrepancy_table(posterior),
        prior=prior_predictive_table(posterior),
        diagnosis=diagnose(predictions, seed=seed),
        least_squares=compare_with_least_squares(predictions, seed=seed),
    )
