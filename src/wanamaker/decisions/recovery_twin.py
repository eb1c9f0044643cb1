"""Recovery twin: does a Bayesian mix find parameters again that it used itself to make a KPI, on the user's own media?

Every replicate of a posterior was made with one of its draws, so the contributions behind it are known. A refit to that
replicate sees the same media, prices and calendar and only another KPI. Its intervals are held against the truth.

The truths come from the posterior and not from the prior, so this is calibration near the user's own answer and not
simulation-based calibration (Talts et al. 2018, arXiv:1804.06788) proper: where the data say little, the prior pulls
every refit the same way, and that shows as bias. It is what the user would get, and so it counts.

Contributions, ROI and marginal ROI are totals over the observed training rows of the panel, which are the same rows in
the original and in every refit. ROI is contribution over money, so that its ranks and coverage are the contribution's.

Axis letters: R twins, K numbers that a parameter consists of, S draws.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from wanamaker.errors import UserError
from wanamaker.predictions.posterior import MixPosterior

if TYPE_CHECKING:
    import pandas as pd

LEVELS = (50, 80, 90)
ALARM = 0.05
"""Coverage is off where Holm's adjusted p-value of an exact binomial test is below this at any level."""
SERIOUS = 0.6
"""Had 90 % intervals held only this share of truths, a test worth its name would have noticed with `ENOUGH`."""
ENOUGH = 0.8
VERDICTS = ("hold", "too few", "too wide", "too narrow")
_SHARED = 1e-3  # of the KPI's standard deviation: how far a replicate may be off after a trip through a file


@dataclass(frozen=True)
class Refit:
    """One twin and what was found in it.

    Attributes:
        replicate: number of the replicate in the original's posterior.
        name: of the run, for tables and messages.
        posterior: of the refit.
    """

    replicate: int
    name: str
    posterior: MixPosterior


@dataclass(frozen=True)
class RecoveryTwin:
    """What the twins say.

    Attributes:
        estimates: one row per twin and number: quantity, of, replicate, run, truth, mean, sd, low_50, high_50, ...,
            low_90, high_90, rank (share of the refit's draws below the truth), z (mean less truth, in sd).
        coverage: per quantity and level: level, held, intervals, share, low, high (where the share would lie in 95 of
            100 cases if intervals kept their word), p_value, p_holm (over the levels of a quantity).
        channels: per channel, of the contribution: truth (mean over twins), error (mean of estimate less truth), bias
            (that over the truth), bias_low_90, bias_high_90, biased (t-test over the twins, adjusted for the number of
            channels), z, held_50, held_80, held_90, twins, width (mean of the
            90 % interval over the truth).
        runs: per twin: replicate, run, engine, khat, finished, held_90, intervals, seconds.
        verdict: of `VERDICTS`, about contributions.
        sentence: the verdict with its numbers.
        power: probability that the test would have noticed coverage of `SERIOUS`.
    """

    estimates: pd.DataFrame
    coverage: pd.DataFrame
    channels: pd.DataFrame
    runs: pd.DataFrame
    verdict: str
    sentence: str
    power: float

    def of(self, quantity: str) -> pd.DataFrame:
        """Estimates of one quantity."""
        return self.estimates[self.estimates["quantity"] == quantity]


def recovery_twin(original: MixPosterior, refits: Sequence[Refit]) -> RecoveryTwin:
    """Hold refits against the draws that made their data.

    Args:
        original: the posterior whose replicates were refitted.
        refits: at least one, each of another replicate; those cut short are listed and not counted.

    Raises:
        UserError: a refit of other channels or of data that this posterior did not make, a replicate twice, or none
            that was finished.
    """
    import pandas as pd

    _check(original, refits)
    counted = [refit for refit in refits if refit.posterior.finished]
    if not counted:
        raise UserError(
            f"decision.runs: all {len(refits)} refits were cut short, so none has a posterior. Train them to their end "
            "(trainer.max_epochs=-1)."
        )
    frame = pd.concat([_of_refit(original, refit) for refit in counted], ignore_index=True)
    coverage = pd.concat([coverage_of(part, str(name)) for name, part in frame.groupby("quantity", sort=False)])
    coverage = coverage.reset_index(drop=True)
    found = frame[frame["quantity"] == "contribution"]
    verdict, power = _verdict(coverage[coverage["quantity"] == "contribution"])
    sentence = _sentence(coverage[coverage["quantity"] == "contribution"].set_index("level"), verdict, power)
    return RecoveryTwin(frame, coverage, _channels(found), _runs(refits, found), verdict, sentence, power)


def _check(original: MixPosterior, refits: Sequence[Refit]) -> None:
    seen: dict[int, str] = {}
    for refit in refits:
        if refit.replicate in seen:
            raise UserError(
                f"decision.runs: {seen[refit.replicate]} and {refit.name} both refit replicate {refit.replicate}; a "
                "truth counts once. Move one of them away."
            )
        seen[refit.replicate] = refit.name
        other = set(refit.posterior.channels) ^ set(original.channels)
        if other or refit.posterior.series != original.series:
            what = f"channels ({', '.join(sorted(other))})" if other else "series"
            raise UserError(
                f"decision.runs: {refit.name} and this model differ in {what}. Refit the same recipe: python train.py "
                "experiment=NAME sweep=twin data.twin.posterior=FILE, with FILE of this model."
            )
        if not _made_by(original, refit):
            raise UserError(
                f"decision.runs: {refit.name} was fitted to another KPI than replicate {refit.replicate} of this "
                "model, so its truth is not known. Give the multirun whose data.twin.posterior is this model's "
                "predictions/posterior.nc, or the checkpoint that this multirun belongs to."
            )


def _made_by(original: MixPosterior, refit: Refit) -> bool:
    """Whether a refit saw a replicate of this posterior."""
    theirs = refit.posterior
    if refit.replicate >= len(original.replicated) or theirs.observed.shape != original.observed.shape:
        return False
    seen = np.isfinite(theirs.observed) & theirs.train
    made = original.replicated[refit.replicate].astype(np.float64)
    if not seen.any() or not np.array_equal(theirs.dates, original.dates):
        return False
    return bool(np.abs(made - theirs.observed)[seen].max() <= _SHARED * max(float(np.std(made[seen])), 1e-30))


def _of_refit(original: MixPosterior, refit: Refit) -> pd.DataFrame:
    import pandas as pd

    draw = int(original.replicated_draw[refit.replicate])
    shares = [0.5 + side * level / 200 for level in LEVELS for side in (-1, 1)]
    parts = []
    for name in original.parameters:
        truth = original.flat(name)[draw]
        if name not in refit.posterior.parameters or refit.posterior.dims[name] != original.dims[name]:
            continue
        found = refit.posterior.flat(name)
        if found.shape[1:] != truth.shape:
            continue
        axes = [original.coords[axis] for axis in original.dims[name]]
        words = [" | ".join(labels) for labels in itertools.product(*axes)]
        columns = found.reshape(len(found), -1)  # [S, K]
        ends = np.quantile(columns, shares, axis=0)
        mean, sd = columns.mean(0), columns.std(0)
        flat = truth.reshape(-1)
        with np.errstate(divide="ignore", invalid="ignore"):
            z = (mean - flat) / sd
        table = {"quantity": name, "of": words, "replicate": refit.replicate, "run": refit.name, "truth": flat}
        table |= {"mean": mean, "sd": sd}
        table |= {f"{side}_{level}": ends[2 * i + j] for i, level in enumerate(LEVELS) for j, side in
                  enumerate(("low", "high"))}  # fmt: skip
        table |= {"rank": (columns < flat).mean(0), "z": z}
        frame = pd.DataFrame(table)
        parts.append(frame[np.isfinite(frame["truth"]) & np.isfinite(frame["mean"])])
    return pd.concat([part for part in parts if len(part)], ignore_index=True)


def held(frame: pd.DataFrame, level: int) -> pd.Series:
    """Whether each row's interval holds its truth."""
    return (frame[f"low_{level}"] <= frame["truth"]) & (frame["truth"] <= frame[f"high_{level}"])


def coverage_of(frame: pd.DataFrame, quantity: str) -> pd.DataFrame:
    """Rows of `RecoveryTwin.coverage` of one quantity."""
    import pandas as pd
    from scipy.stats import binom, binomtest

    n = len(frame)
    rows = []
    for level in LEVELS:
        count = int(held(frame, level).sum())
        low, high = binom.ppf([0.025, 0.975], n, level / 100) / n
        p = float(binomtest(count, n, level / 100).pvalue)
        rows.append((quantity, level, count, n, count / n, low, high, p))
    table = pd.DataFrame(rows, columns=["quantity", "level", "held", "intervals", "share", "low", "high", "p_value"])
    order = np.argsort(table["p_value"].to_numpy(), kind="stable")
    adjusted = np.maximum.accumulate(table["p_value"].to_numpy()[order] * np.arange(len(order), 0, -1)).clip(max=1)
    table.loc[order, "p_holm"] = adjusted
    return table


def _verdict(coverage: pd.DataFrame) -> tuple[str, float]:
    """The verdict, and the power of the test at 90 %."""
    from scipy.stats import binom, binomtest

    n = int(coverage["intervals"].iloc[0])
    refused = np.array([binomtest(k, n, 0.9).pvalue < ALARM for k in range(int(0.9 * n) + 1)], bool)
    power = float(binom.pmf(np.flatnonzero(refused), n, SERIOUS).sum())
    off = coverage[coverage["p_holm"] < ALARM]
    if len(off):
        gravest = off.loc[off["p_holm"].idxmin()]
        return ("too narrow" if gravest["share"] < gravest["level"] / 100 else "too wide"), power
    return ("hold" if power >= ENOUGH else "too few"), power


def _sentence(coverage: pd.DataFrame, verdict: str, power: float) -> str:
    wide = coverage.loc[90]
    said = f"{wide['held']:.0f} of {wide['intervals']:.0f} channels x twins in their 90 % interval"
    if verdict == "hold":
        return f"Intervals hold: {said}"
    if verdict == "too few":
        return f"Too few twins to tell: {said}, where coverage of {SERIOUS:.0%} would be noticed {power:.0%} of times"
    level = int(coverage["p_holm"].idxmin())
    if level != 90:
        said += f", {coverage.loc[level, 'held']:.0f} in their {level} % interval"
    return f"Intervals are {verdict}: {said}"


def _channels(found: pd.DataFrame) -> pd.DataFrame:
    import pandas as pd
    from scipy.stats import t

    rows = []
    channels = found["of"].nunique()
    for name, part in found.groupby("of", sort=False):
        truth, error = part["truth"].to_numpy(), (part["mean"] - part["truth"]).to_numpy()
        scale = float(np.abs(truth).mean()) or np.nan
        n = len(part)
        spread = error.std(ddof=1) / np.sqrt(n) if n > 1 else np.nan
        half = t.ppf(0.95, n - 1) * spread if n > 1 else np.nan
        clear = n > 1 and abs(error.mean()) > t.ppf(1 - ALARM / 2 / channels, n - 1) * spread
        row = {"channel": name, "truth": truth.mean(), "error": error.mean(), "bias": error.mean() / scale}
        row |= {"bias_low_90": (error.mean() - half) / scale, "bias_high_90": (error.mean() + half) / scale}
        row |= {
            "biased": bool(clear),
            "z": part["z"].mean(),
            **{f"held_{level}": int(held(part, level).sum()) for level in LEVELS},
        }
        row |= {"twins": n, "width": float((part["high_90"] - part["low_90"]).mean()) / scale}
        rows.append(row)
    return pd.DataFrame(rows)


def _runs(refits: Sequence[Refit], found: pd.DataFrame) -> pd.DataFrame:
    import pandas as pd

    rows = []
    for refit in sorted(refits, key=lambda refit: refit.replicate):
        part, p = found[found["replicate"] == refit.replicate], refit.posterior
        row = {"replicate": refit.replicate, "run": refit.name, "engine": p.engine, "khat": p.khat}
        row |= {"finished": p.finished, "held_90": int(held(part, 90).sum()), "intervals": len(part)}
        rows.append(row | {"seconds": p.seconds})
    return pd.DataFrame(rows)


def rank_histogram(ranks: np.ndarray, bins: int) -> tuple[np.ndarray, float, float]:
    """Counts [bins] of ranks in 0..1, and the band that 95 of 100 counts lie in where ranks are even."""
    from scipy.stats import binom

    counts = np.histogram(ranks, np.linspace(0, 1, bins + 1))[0]
    low, high = binom.ppf([0.025, 0.975], len(ranks), 1 / bins)
    return counts, float(low), float(high)
