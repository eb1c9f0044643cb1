"""Can the draws of a posterior be used: convergence of the chains, or how well the guide of SVI fits.

R-hat and effective sample sizes are rank-normalised (Vehtari et al. 2021, "Rank-normalization, folding, and
localization: an improved R-hat", doi:10.1214/20-BA1221); k-hat is that of Pareto-smoothed importance sampling with the
guide as proposal (Yao et al. 2018, "Yes, but did it work?", arXiv:1802.02538; Vehtari et al. 2024, arXiv:1507.02646).

Axis letters: P numbers that the parameters consist of.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from wanamaker.predictions.posterior import ESTIMANDS, MixPosterior

if TYPE_CHECKING:
    import pandas as pd

KHAT_GOOD, KHAT_USABLE = 0.5, 0.7
RHAT_GOOD, RHAT_USABLE = 1.01, 1.05
ESS_GOOD, ESS_USABLE = 400, 100
DIVERGENT_USABLE = 0.01
BFMI_LOW = 0.3
LEVELS = ("good", "caution", "refused")
_MOST = 400  # entries of one parameter that are checked; effects of thousands of series take minutes
_FEWEST_DRAWS = 8


@dataclass(frozen=True)
class PosteriorChecks:
    """What the checks found.

    Attributes:
        level: of `LEVELS`, the worst of what was found.
        verdict: one sentence with the numbers behind it.
        reasons: what speaks against the draws, gravest first; empty where nothing does.
        table: one row per number checked: parameter, of (its labels), estimand, mean, sd, low_90, high_90, r_hat,
            ess_bulk, ess_tail, mcse, mcse_share (of the standard deviation). R-hat and ESS are NaN for the independent
            draws of SVI.
        r_hat, ess: the largest and smallest (bulk or tail) of the table; NaN for SVI.
        divergences: number of divergent transitions.
        bfmi: smallest energy fraction of the chains; NaN where there are no energies.
        left_out: numbers that were not checked because a parameter has too many.
    """

    level: str
    verdict: str
    reasons: tuple[str, ...]
    table: pd.DataFrame
    r_hat: float
    ess: float
    divergences: int
    bfmi: float
    left_out: int

    def worst(self, count: int = 4) -> pd.DataFrame:
        """Rows with the largest R-hat, one per parameter first; estimands where there are no chains to compare.

        Multiples of the same draws, such as an effect and its contribution, count once.
        """
        import pandas as pd

        frame = self.table[self.table["sd"] > 0]
        if frame["r_hat"].notna().any():
            frame = frame.sort_values("r_hat", ascending=False)
            frame = frame[~frame[["r_hat", "ess_bulk"]].round(6).duplicated()]
        first = frame.drop_duplicates("parameter").head(count)
        rest = frame.drop(index=first.index).head(count - len(first))
        return pd.concat([first, rest])


def check_posterior(posterior: MixPosterior) -> PosteriorChecks:
    """Check all parameters and the estimands."""
    table, left_out = _summary(posterior)
    divergences = int(np.sum(posterior.stats.get("diverging", 0)))
    bfmi = _bfmi(posterior)
    r_hat = float(table["r_hat"].max())
    ess = float(np.nanmin(table[["ess_bulk", "ess_tail"]].to_numpy(float), initial=np.inf))
    ess = ess if np.isfinite(ess) else float("nan")
    sampled = posterior.engine != "svi"
    found = _chains(posterior, table, r_hat, ess, divergences, bfmi) if sampled else _guide(posterior)
    if not posterior.finished:
        found.insert(0, (2, "the fit was cut short, as debug runs are"))
    found.sort(key=lambda item: -item[0])
    level = LEVELS[max((grade for grade, _ in found), default=0)]
    reasons = tuple(words for _, words in found)
    return PosteriorChecks(
        level, _verdict(posterior, level, reasons, r_hat, ess), reasons, table, r_hat, ess, divergences, bfmi, left_out
    )


def _verdict(posterior: MixPosterior, level: str, reasons: tuple[str, ...], r_hat: float, ess: float) -> str:
    if posterior.engine == "svi":
        said = f"the {_guide_words(posterior)} fits the posterior, k-hat {posterior.khat:.2f}"
    else:
        said = f"converged: R-hat {r_hat:.3f}, min ESS {ess:.0f}, no divergences"
    if level == "good":
        return said
    return f"{'refused' if level == 'refused' else 'use with care'}: {'; '.join(reasons)}"


def _guide_words(posterior: MixPosterior) -> str:
    return f"{posterior.guide.replace('_', '-')} guide" if posterior.guide else "guide"


def _guide(posterior: MixPosterior) -> list[tuple[int, str]]:
    """Grades (0..2) and reasons against draws of a guide."""
    name = _guide_words(posterior)
    if not np.isfinite(posterior.khat):
        return [(2, f"no k-hat could be worked out for the {name}, so nothing shows that it fits")]
    if posterior.khat <= KHAT_GOOD:
        return []
    if posterior.khat <= KHAT_USABLE:
        words = f"k-hat {posterior.khat:.2f} of the {name} (good up to {KHAT_GOOD}, usable up to {KHAT_USABLE})"
        return [(1, f"{words}: means hold, the ends of the intervals less so")]
    words = f"k-hat {posterior.khat:.2f} of the {name} is above {KHAT_USABLE}"
    return [(2, f"{words}: its intervals are not those of the posterior, sample with HMC instead")]


def _chains(
    posterior: MixPosterior, table: pd.DataFrame, r_hat: float, ess: float, divergences: int, bfmi: float
) -> list[tuple[int, str]]:
    """Grades (0..2) and reasons against draws of chains."""
    found = []
    total = posterior.num_chains * posterior.num_draws
    if not np.isfinite(r_hat) or not np.isfinite(ess):
        return [(2, f"{total} draws are too few to check anything: draw at least {ESS_GOOD}")]
    if r_hat > RHAT_GOOD:
        at = _name(table.loc[table["r_hat"].idxmax()])
        grade = 1 if r_hat <= RHAT_USABLE else 2
        what = "chains do not agree" if grade == 2 else "chains hardly agree"
        found.append((grade, f"{what}, R-hat {r_hat:.3f} at {at} (good up to {RHAT_GOOD})"))
    if ess < ESS_GOOD:
        row = table.loc[table[["ess_bulk", "ess_tail"]].min(axis=1).idxmin()]
        words = f"few independent draws, min ESS {ess:.0f} at {_name(row)} (good from {ESS_GOOD})"
        found.append((1 if ess >= ESS_USABLE else 2, words))
    if divergences:
        share = divergences / total
        words = f"{divergences} of {total:,} transitions diverged: a part of the posterior was not reached"
        found.append((1 if share <= DIVERGENT_USABLE else 2, words))
    if bfmi < BFMI_LOW:
        found.append((1, f"chains hardly move between energies, BFMI {bfmi:.2f} (good from {BFMI_LOW})"))
    if posterior.num_chains == 1:
        found.append((1, "one chain only, of which the halves were compared: run four"))
    return found


def _name(row: Any) -> str:
    return f"{row['parameter']} of {row['of']}" if row["of"] else str(row["parameter"])


def entries(posterior: MixPosterior, name: str) -> Iterator[tuple[tuple[int, ...], str]]:
    """Every entry of a parameter: its place on the parameter's own axes, and its labels in words."""
    axes = posterior.dims[name]
    sizes = [range(len(posterior.coords[axis])) for axis in axes]
    for place in itertools.product(*sizes):
        yield place, ", ".join(posterior.coords[axis][i] for axis, i in zip(axes, place, strict=True))


def _summary(posterior: MixPosterior) -> tuple[pd.DataFrame, int]:
    import pandas as pd

    rows, left_out, distinct = [], 0, _distinct(posterior)
    for name in sorted(posterior.parameters, key=lambda n: (n not in ESTIMANDS, n)):
        places = list(entries(posterior, name))
        if len(places) > _MOST:
            left_out += len(places) - _MOST
            places = [places[i] for i in np.linspace(0, len(places) - 1, _MOST).astype(int)]
        for place, labels in places:
            values = np.asarray(posterior.parameters[name][(..., *place)], np.float64)
            if not np.isfinite(values).all():  # the ROI of organic channels
                continue
            sd = float(values.std())
            mcse, r_hat, bulk, tail = _mixing(values, distinct if posterior.engine == "svi" else 0.0)
            low, high = np.percentile(values, [5, 95])
            rows.append(
                {
                    "parameter": name,
                    "of": labels,
                    "estimand": name in ESTIMANDS,
                    "mean": float(values.mean()),
                    "sd": sd,
                    "low_90": low,
                    "high_90": high,
                    "r_hat": r_hat,
                    "ess_bulk": bulk,
                    "ess_tail": tail,
                    "mcse": mcse,
                    "mcse_share": mcse / sd if sd > 0 else np.nan,
                }
            )
    return pd.DataFrame(rows), left_out


def _distinct(posterior: MixPosterior) -> float:
    """How many draws there are, where draws that were resampled several times count for less: n^2 / sum of counts^2."""
    _, counts = np.unique(posterior.flat("baseline_share"), return_counts=True)
    return float(counts.sum() ** 2 / np.square(counts, dtype=np.float64).sum())


def _mixing(values: np.ndarray, independent: float) -> tuple[float, float, float, float]:
    """Monte Carlo error of the mean, R-hat, bulk and tail ESS of draws [chain, draw]; NaN where they have no sense.

    ``independent`` is the number of independent draws where there are no chains, else 0.
    """
    import arviz as az

    nan = float("nan")
    chains, draws = values.shape
    if np.ptp(values) <= 1e-12 * max(float(np.abs(values).max()), 1e-300):  # held fixed
        return 0.0, nan, nan, nan
    if independent:
        return float(values.std() / np.sqrt(independent)), nan, nan, nan
    if draws < _FEWEST_DRAWS:
        return nan, nan, nan, nan
    halves = values[:, : draws // 2 * 2].reshape(2, -1) if chains == 1 else values
    with warnings.catch_warnings():  # a chain that stands still divides by its variance of 0
        warnings.simplefilter("ignore", RuntimeWarning)
        r_hat = float(az.rhat(halves))
    bulk, tail = float(az.ess(values)), float(az.ess(values, method="tail"))
    return float(az.mcse(values)), r_hat, bulk, tail


def _bfmi(posterior: MixPosterior) -> float:
    """Energy Bayesian fraction of missing information (Betancourt 2016, arXiv:1604.00695), of the worst chain."""
    energy = posterior.stats.get("energy")
    if energy is None or posterior.num_draws < _FEWEST_DRAWS or not np.isfinite(energy).all():
        return float("nan")
    variance = energy.var(axis=1)
    steps = np.square(np.diff(energy, axis=1)).mean(axis=1)
    return float(np.min(np.divide(steps, variance, out=np.full(len(variance), np.nan), where=variance > 0)))
