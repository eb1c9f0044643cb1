"""A diagnosis of a Bayesian mix that names things: which two channels, which channel and the base, what is only prior.

Four questions, each answered per channel with its number, what it does to the results, and what would help:

``pair``        two channels that the data cannot tell apart: what one gains in a draw the other loses;
``intercept``   a channel that runs so evenly that it looks like the base;
``prior``       a channel whose posterior is its prior: the data said nothing;
``demand``      spend that follows demand (`decisions.spend_endogeneity`), so that its return looks too high.

Axis letters: S draws, N rows, G series, C channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from wanamaker.decisions.spend_endogeneity import TOGETHER as ALL_CHANNELS
from wanamaker.decisions.spend_endogeneity import EndogeneityTests, endogeneity_tests
from wanamaker.predictions.mix import SPLITS, MixPredictions
from wanamaker.predictions.posterior import MixPosterior

if TYPE_CHECKING:
    import pandas as pd

KINDS = ("pair", "intercept", "prior", "demand")
SEVERITIES = ("high", "medium", "low")
TIED = -0.7  # correlation of two contributions over the draws
TIED_HARD = -0.85
TOGETHER = 0.85  # correlation of two channels' media within series
EVEN = 0.25  # coefficient of variation of a channel's part within series
LIKE_BASE = -0.7  # correlation of a contribution with the base over the draws
LIKE_PRIOR_SD, LIKE_PRIOR_SHIFT = 0.9, 0.3
_BASE_KINDS = ("baseline", "trend")
_LEAST_SPREAD = 0.1  # of a contribution relative to its size: what is known that well is not in doubt


@dataclass(frozen=True)
class Finding:
    """Something to doubt.

    Attributes:
        kind: of `KINDS`.
        channels: names, two for a pair.
        severity: of `SEVERITIES`.
        numbers: what was measured, by name.
        what: one sentence: what was found and what it does to the results.
        remedy: one sentence: what would help.
    """

    kind: str
    channels: tuple[str, ...]
    severity: str
    numbers: dict[str, float]
    what: str
    remedy: str


@dataclass(frozen=True)
class MixDiagnosis:
    """All findings and the numbers behind them.

    Attributes:
        findings: the gravest first.
        ledger: of `information_ledger`.
        pairs: channel, other, contribution_correlation, media_correlation for every pair.
        demand: of `spend_endogeneity.endogeneity_tests`.
        notes: what this diagnosis cannot see here, in sentences.
    """

    findings: tuple[Finding, ...]
    ledger: pd.DataFrame
    pairs: pd.DataFrame
    demand: EndogeneityTests
    notes: tuple[str, ...]

    def to_frame(self) -> pd.DataFrame:
        """One row per finding: kind, channels, severity, what, remedy, numbers (as text)."""
        import pandas as pd

        rows = [
            {
                "kind": f.kind,
                "channels": " and ".join(f.channels),
                "severity": f.severity,
                "what": f.what,
                "remedy": f.remedy,
                "numbers": ", ".join(f"{name} {value:.3g}" for name, value in f.numbers.items()),
            }
            for f in self.findings
        ]
        return pd.DataFrame(rows, columns=["kind", "channels", "severity", "what", "remedy", "numbers"])


def diagnose(predictions: MixPredictions, *, surrogates: int = 4999, seed: int = 0) -> MixDiagnosis:
    """Diagnose a mix with its posterior.

    Args:
        predictions: of a Bayesian mix model, all rows of its panel.
        surrogates: of the tests for spend that follows demand.
        seed: of the surrogates.

    Raises:
        ValueError: the predictions have no posterior.
    """
    if predictions.posterior is None:
        raise ValueError("A diagnosis needs predictions with a posterior; this model has none.")
    posterior = predictions.posterior
    ledger = information_ledger(posterior, predictions.response.paid)
    pairs = channel_pairs(predictions)
    demand = endogeneity_tests(predictions, surrogates=surrogates, seed=seed)
    found = [*_tied(pairs), *_intercepts(predictions), *_only_prior(ledger), *_chasing(demand)]
    found.sort(key=lambda f: (SEVERITIES.index(f.severity), KINDS.index(f.kind)))
    notes = list(demand.notes)
    if posterior.engine == "svi" and posterior.guide == "normal":
        notes.insert(
            0,
            "The normal guide takes its parameters for independent, so channels that trade places with each other or "
            "with the base may go unseen: fit a low-rank or multivariate guide, or sample with HMC.",
        )
    return MixDiagnosis(tuple(found), ledger, pairs, demand, tuple(notes))


# -- two channels ------------------------------------------------------------------------------------------------------


def channel_pairs(predictions: MixPredictions) -> pd.DataFrame:
    """Correlation over the draws of two contributions, and over time of the media, for every pair of channels."""
    import pandas as pd

    assert predictions.posterior is not None
    names = predictions.response.channels
    draws = predictions.posterior.flat("contribution")
    media = media_within_series(predictions)
    rows = []
    for i in range(len(names)):
        for j in range(i + 1, len(names)):
            rows.append(
                {
                    "channel": names[i],
                    "other": names[j],
                    "contribution_correlation": correlation(draws[:, i], draws[:, j]),
                    "media_correlation": correlation(media[:, i], media[:, j]),
                    "spread": min(_spread(draws[:, i]), _spread(draws[:, j])),
                }
            )
    columns = ["channel", "other", "contribution_correlation", "media_correlation", "spread"]
    return pd.DataFrame(rows, columns=columns)


def media_within_series(predictions: MixPredictions) -> np.ndarray:
    """Media on training rows less the mean of their series, in units of their scale, [n, C]."""
    response = predictions.response
    rows = predictions.split == SPLITS.index("train")
    rows = rows if rows.any() else np.ones(len(predictions), bool)
    series, G = predictions.series[rows], len(response.series)
    count = np.maximum(np.bincount(series, minlength=G), 1)
    scaled = predictions.media[rows] / response.media_scale[series]
    for c in range(scaled.shape[1]):
        scaled[:, c] -= (np.bincount(series, weights=scaled[:, c], minlength=G) / count)[series]
    return scaled


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Of two vectors; NaN where one does not vary."""
    a, b = a - a.mean(), b - b.mean()
    size = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / size if size > 1e-300 else float("nan")


def _spread(draws: np.ndarray) -> float:
    return float(draws.std() / max(abs(float(draws.mean())), 1e-300))


def _tied(pairs: pd.DataFrame) -> list[Finding]:
    found = []
    for _, row in pairs.iterrows():
        draws, media = row["contribution_correlation"], row["media_correlation"]
        tied = draws < TIED and row["spread"] > _LEAST_SPREAD
        if not tied and not media > TOGETHER:
            continue
        a, b = row["channel"], row["other"]
        hard = tied and (draws < TIED_HARD or media > TOGETHER)
        if tied:
            what = (
                f"{a} and {b} cannot be told apart: what one gains in a draw the other loses (correlation of their "
                f"contributions {draws:.2f}, of their media {media:.2f}). Read their sum, not the two numbers."
            )
        else:
            what = (
                f"The media of {a} and {b} rise and fall together (correlation {media:.2f}), so that what tells them "
                f"apart comes from the model's curves and priors; the draws do not trade them off ({draws:.2f})."
            )
        remedy = (
            f"Change the spend of one while the other stays, in some regions or for some weeks, or give an experiment "
            f"on {a} or {b} as a prior; else join them into one channel."
        )
        numbers = {"contribution_correlation": draws, "media_correlation": media}
        found.append(Finding("pair", (a, b), "high" if hard else "medium", numbers, what, remedy))
    return found


# -- a channel and the base --------------------------------------------------------------------------------------------


def _intercepts(predictions: MixPredictions) -> list[Finding]:
    assert predictions.posterior is not None
    found = []
    base = base_draws(predictions)
    for c, name in enumerate(predictions.response.channels):
        contribution, base_ = base[0][:, c], base[1]
        r = correlation(contribution, base_)
        even = evenness(predictions, c)
        if not (even < EVEN and r < LIKE_BASE and _spread(contribution) > _LEAST_SPREAD):
            continue
        what = (
            f"{name} runs so evenly that it looks like the base (its part varies by {100 * even:.0f} % over time; "
            f"correlation of its contribution with the base {r:.2f}): what it brings and what would have come anyway "
            "cannot be told apart."
        )
        remedy = f"Switch {name} off or double it for some weeks in some regions, or give an experiment as a prior."
        severity = "high" if r < TIED_HARD else "medium"
        found.append(Finding("intercept", (name,), severity, {"variation": even, "base_correlation": r}, what, remedy))
    return found


def base_draws(predictions: MixPredictions) -> tuple[np.ndarray, np.ndarray]:
    """Contributions [S, C] and the base [S] of the draws of the parts, on training rows; log units for the log link."""
    rows = predictions.split == SPLITS.index("train")
    rows = rows if rows.any() else np.ones(len(predictions), bool)
    total = np.stack([part[rows].sum(axis=0, dtype=np.float64) for part in predictions.parts])  # [S, K]
    at = [predictions.part_names.index(name) for name in predictions.response.channels]
    base = [k for k, kind in enumerate(predictions.part_kinds) if kind in _BASE_KINDS]
    return total[:, at], total[:, base].sum(axis=1)


def evenness(predictions: MixPredictions, channel: int) -> float:
    """Standard deviation over time within series of a channel's mean part, relative to its size; training rows."""
    rows = predictions.split == SPLITS.index("train")
    rows = rows if rows.any() else np.ones(len(predictions), bool)
    k = predictions.part_names.index(predictions.response.channels[channel])
    part = predictions.parts[:, rows, k].mean(axis=0, dtype=np.float64)
    series, G = predictions.series[rows], len(predictions.response.series)
    count = np.maximum(np.bincount(series, minlength=G), 1)
    mean = np.bincount(series, weights=part, minlength=G) / count
    used = np.abs(mean[series]) > 1e-12
    if not used.any():
        return float("nan")
    return float(np.sqrt(np.mean(np.square(part[used] / mean[series][used] - 1))))


# -- prior and posterior -----------------------------------------------------------------------------------------------


def information_ledger(posterior: MixPosterior, paid: np.ndarray) -> pd.DataFrame:
    """What the data said about every channel, beyond the prior.

    Quantities that are positive in (nearly) all draws are compared on the logarithm, where their distributions are
    nearest to normal. The information is the Kullback-Leibler divergence of the posterior from the prior, both taken
    for normal, in nats: 0 is nothing learnt; halving the standard deviation alone is 0.32.

    Args:
        posterior: with draws of prior and posterior.
        paid: bool [C].

    Returns:
        One row per channel: channel, quantity ("roi", or "contribution" of organic channels), prior, prior_low_90,
        prior_high_90, posterior, posterior_low_90, posterior_high_90, sd_ratio (posterior over prior), shift (of the
        mean, in standard deviations of the prior), overlap (shared area of the two densities, 0..1), nats,
        contribution_nats, mostly_prior.
    """
    import pandas as pd

    rows = []
    for c, name in enumerate(posterior.channels):
        quantity = "roi" if paid[c] else "contribution"
        before, after = posterior.prior[quantity][:, c], posterior.flat(quantity)[:, c]
        sd_ratio, shift, nats = _learnt(before, after)
        row = {"channel": name, "quantity": quantity}
        for word, draws in (("prior", before), ("posterior", after)):
            low, high = np.percentile(draws, [5, 95])
            row |= {word: float(draws.mean()), f"{word}_low_90": low, f"{word}_high_90": high}
        contribution = _learnt(posterior.prior["contribution"][:, c], posterior.flat("contribution")[:, c])
        row |= {"sd_ratio": sd_ratio, "shift": shift, "overlap": overlap(before, after), "nats": nats}
        row |= {
            "contribution_nats": contribution[2],
            "mostly_prior": bool(sd_ratio > LIKE_PRIOR_SD and shift < LIKE_PRIOR_SHIFT),
        }
        rows.append(row)
    return pd.DataFrame(rows)


def _learnt(before: np.ndarray, after: np.ndarray) -> tuple[float, float, float]:
    """Ratio of standard deviations, shift in prior standard deviations, information in nats."""
    if nearly_positive(before) and nearly_positive(after):
        before, after = np.log(before[before > 0]), np.log(after[after > 0])
    sd0, sd1 = float(before.std()), float(after.std())
    if not sd0 > 0:
        return float("nan"), float("nan"), float("nan")
    shift = abs(float(after.mean() - before.mean())) / sd0
    ratio = sd1 / sd0
    nats = -np.log(max(ratio, 1e-12)) + (ratio**2 + shift**2 - 1) / 2
    return ratio, shift, float(nats)


def nearly_positive(draws: np.ndarray) -> bool:
    """Whether at least 99 of 100 draws are above 0: effects of single series may take a sum below it once."""
    return bool(np.mean(draws > 0) >= 0.99)


def overlap(before: np.ndarray, after: np.ndarray) -> float:
    """Area that two densities share, by histograms on quantiles of both together: 1 where they are the same."""
    count = int(np.clip(min(len(before), len(after)) ** 0.5, 5, 20))
    edges = np.unique(np.quantile(np.concatenate([before, after]), np.linspace(0, 1, count + 1)))
    if len(edges) < 3:
        return 1.0
    shares = [np.histogram(draws, edges)[0] / len(draws) for draws in (before, after)]
    return float(np.minimum(*shares).sum())


def _only_prior(ledger: pd.DataFrame) -> list[Finding]:
    found = []
    for _, row in ledger[ledger["mostly_prior"]].iterrows():
        name, word = row["channel"], "ROI" if row["quantity"] == "roi" else "contribution"
        what = (
            f"The {word} of {name} is mostly its prior: the data narrowed it by {100 * max(1 - row['sd_ratio'], 0):.0f}"
            f" % and moved it by {row['shift']:.1f} prior standard deviations ({row['nats']:.2f} nats learnt). What "
            "the report says about it is what was assumed."
        )
        remedy = f"Run an experiment on {name}, or let its spend vary more; until then decide on it as if it were new."
        numbers = {name_: float(row[name_]) for name_ in ("sd_ratio", "shift", "overlap", "nats")}
        found.append(Finding("prior", (name,), "high", numbers, what, remedy))
    return found


# -- spend that follows demand -----------------------------------------------------------------------------------------


def _chasing(demand: EndogeneityTests) -> list[Finding]:
    found = []
    alarms = demand.table[demand.table["alarm"].astype(bool)]
    named = set(alarms.loc[alarms["channel"] != ALL_CHANNELS, "test"])
    for _, row in alarms.iterrows():
        name, r, p = row["channel"], row["correlation"], row["p_holm"]
        if name == ALL_CHANNELS and row["test"] in named:
            continue  # the channels that make it are named already
        numbers = {"correlation": r, "p_holm": p}
        if row["test"] == "past":
            what = (
                f"The spend of {name} follows demand: it rises after weeks that sold more than the model can explain "
                f"(correlation {r:.2f}, p {_p(p)}). Its ROI then is usually too high, because sales that brought the "
                "spend are booked as brought by it."
            )
            remedy = (
                f"Add what the budget of {name} looks at as a control (search volume, traffic, an index of demand), or "
                "run an experiment in which the spend does not follow sales."
            )
            severity = "high"
        else:
            what = (
                f"The spend of {name} rises where season, trend and holidays lift sales anyway (correlation {r:.2f}, "
                f"p {_p(p)}). Its ROI rests on the shape of the season being right; where that is too flat, the ROI is "
                "too high."
            )
            remedy = (
                f"Let the spend of {name} leave the season's pattern in some regions, check the ROI with more or fewer "
                "season terms, or add a proxy of demand as a control."
            )
            severity = "medium"
        found.append(Finding("demand", (name,), severity, numbers, what, remedy))
    return found


def _p(value: float) -> str:
    return "below 0.01" if value < 0.01 else f"{value:.2f}"
