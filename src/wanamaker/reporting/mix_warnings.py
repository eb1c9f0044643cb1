"""What a reader must know before using the numbers of a mix model: where data cannot carry them.

Axis letters: N rows, G series, C media channels, D drivers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from wanamaker.predictions.mix import SPLITS, MixPredictions
from wanamaker.reporting.mix_style import percent

if TYPE_CHECKING:
    import pandas as pd

_HARDLY_MOVES = 0.1  # coefficient of variation within series
_FEW_LEVELS = 20  # different amounts of spend, over at least three times as many periods
_TOGETHER = 0.85  # correlation
_MOST_NAMED = 4


def mix_warnings(
    predictions: MixPredictions,
    returns: pd.DataFrame,
    scores: pd.DataFrame,
    break_even: float | None,
    *,
    pairs: bool = True,
) -> list[str]:
    """Warnings in plain words, the gravest first.

    Args:
        predictions: of a mix model.
        returns: `decisions.media_return.MediaReturns.to_frame`.
        scores: `mix_scores.score_table`.
        break_even: ROI at which a channel pays for itself; None where it is not known.
        pairs: whether to warn of channels that move together; a diagnosis of the posterior says it better.
    """
    response = predictions.response
    found = [*_fit(scores, response.num_draws), *_unidentified(predictions)]
    if pairs:
        found += _together(predictions)
    found += _unsure(returns, break_even)
    found += _beyond(predictions)
    if break_even is None and len(returns):
        found.append(
            f"Returns are in {response.kpi_unit} per {response.money_unit}, because it is not said what one unit of "
            f"{response.kpi} is worth: set data.roles.kpi_value to see money per money, and which channels pay."
        )
    return found


def _fit(scores: pd.DataFrame, draws: int) -> list[str]:
    found = []
    if draws == 1:
        found.append(
            "The model gave one answer without uncertainty, so no number here has an interval. Train an ensemble or "
            "draw from a posterior before moving money."
        )
    by_split = scores.set_index("split") if len(scores) else scores
    held_out = next((s for s in ("test", "val") if s in by_split.index), None)
    if held_out is None:
        found.append("No period was held out, so nothing shows how well the model predicts what it has not seen.")
        return found
    here = by_split.loc[held_out]
    word = {"test": "test", "val": "validation"}[held_out]
    if "train" in by_split.index:
        there = by_split.loc["train"]
        if here["wmape"] > 2 * there["wmape"] and here["wmape"] > 0.1:
            found.append(
                f"On {word} periods the error is {percent(here['wmape'], 0)} of sales, on training periods "
                f"{percent(there['wmape'], 0)}: the model has learned part of the past by heart, or the "
                "world has changed."
            )
    if here["r2"] < 0:
        found.append(
            f"On {word} periods the model predicts worse than their plain average would (R2 {here['r2']:.2f}). Do not "
            "decide on its numbers before that is understood."
        )
    if here["coverage_90"] < 0.75 and here["rows"] >= 12:
        found.append(
            f"Only {percent(here['coverage_90'], 0)} of the {word} values lie inside the 90 % predictive interval: the "
            "intervals are too narrow, trust them less."
        )
    return found


def _unidentified(predictions: MixPredictions) -> list[str]:
    """Channels whose media hardly move, or take a few values only, in training."""
    response = predictions.response
    training = predictions.split == SPLITS.index("train")
    training = training if training.any() else np.ones(len(predictions), bool)
    media, series = predictions.media[training], predictions.series[training]
    G, C = len(response.series), len(response.channels)
    still, few = [], []
    for c in range(C):
        x = media[:, c]
        count = np.maximum(np.bincount(series, minlength=G), 1)
        mean = np.bincount(series, weights=x, minlength=G) / count
        used = mean[series] > 0
        if not used.any():
            still.append(f"{response.channels[c]} (never used)")
            continue
        relative = (x[used] / mean[series][used]) - 1
        if np.sqrt(np.mean(relative**2)) < _HARDLY_MOVES:
            still.append(response.channels[c])
            continue
        # Consecutive equal values are one level: monthly totals spread over days have twelve a year.
        change = np.diff(x) != 0
        same = np.diff(series) == 0
        levels = int((change & same).sum() / max(len(np.unique(series)), 1)) + 1
        periods = len(x) / max(len(np.unique(series)), 1)
        if levels < _FEW_LEVELS and periods >= 3 * levels and (x > 0).mean() > 0.5:
            few.append(f"{response.channels[c]} ({levels} levels in {periods:.0f} periods)")
    found = []
    if still:
        found.append(
            f"{_named(still)}: spend hardly varies, so the data cannot tell what it does. Its numbers come from the "
            "model's assumptions; vary the spend on purpose, or test it in some regions."
        )
    if few:
        found.append(f"{_named(few)}: spend changes only a few times, so its effect rests on a handful of comparisons.")
    return found


def _together(predictions: MixPredictions) -> list[str]:
    pairs = collinear_pairs(predictions)
    if not pairs:
        return []
    words = [f"{a} and {b} ({r:.2f})" for a, b, r in pairs]
    return [
        f"{_named(words)} rise and fall together (correlation of their media): the model can hardly say which of them "
        "sold. Read their sum, not the two numbers."
    ]


def collinear_pairs(predictions: MixPredictions) -> list[tuple[str, str, float]]:
    """Pairs of channels whose media move together within series, strongest first: names and correlation."""
    response = predictions.response
    series = predictions.series
    G, C = len(response.series), len(response.channels)
    count = np.maximum(np.bincount(series, minlength=G), 1)
    scaled = np.empty((len(predictions), C))
    for c in range(C):
        x = predictions.media[:, c] / response.media_scale[series, c]
        scaled[:, c] = x - (np.bincount(series, weights=x, minlength=G) / count)[series]
    sd = scaled.std(axis=0)
    moving = np.flatnonzero(sd > 1e-9)
    if len(moving) < 2:
        return []
    correlation = np.corrcoef(scaled[:, moving], rowvar=False)
    pairs = [
        (response.channels[moving[i]], response.channels[moving[j]], float(correlation[i, j]))
        for i in range(len(moving))
        for j in range(i + 1, len(moving))
        if correlation[i, j] > _TOGETHER
    ]
    return sorted(pairs, key=lambda pair: -pair[2])


def _unsure(returns: pd.DataFrame, break_even: float | None) -> list[str]:
    if break_even is None:
        return []
    low, high = returns["roi_low_90"], returns["roi_high_90"]
    unsure = returns[(low <= break_even) & (high >= break_even)]
    if unsure.empty:
        return []
    words = [f"{row['channel']} ({row['roi_low_90']:.2f} to {row['roi_high_90']:.2f})" for _, row in unsure.iterrows()]
    return [f"{_named(words)}: the 90 % interval of the ROI includes break-even, so it is open whether the money pays."]


def _beyond(predictions: MixPredictions) -> list[str]:
    """Rows after training in which media, prices or promotions leave the range seen in training."""
    response, series = predictions.response, predictions.series
    later = (predictions.split == SPLITS.index("val")) | (predictions.split == SPLITS.index("test"))
    if not later.any():
        return []
    words = []
    with np.errstate(invalid="ignore"):
        over = (predictions.media > 1.01 * response.media_max[series] + 1e-12)[later].mean(axis=0)
        low, high = response.driver_min[series], response.driver_max[series]
        room = 0.01 * (high - low) + 1e-12
        outside = ((predictions.driver > high + room) | (predictions.driver < low - room))[later].mean(axis=0)
    for name, share in zip((*response.channels, *response.drivers), (*over, *outside), strict=True):
        if share > 0.02:
            words.append(f"{name} ({percent(share, 0)} of the rows)")
    if not words:
        return []
    return [
        f"{_named(words)}: after training, values left the range the model has seen. There it continues its curves "
        "without evidence."
    ]


def _named(words: Sequence[str]) -> str:
    """ "a, b and c", with the number of the rest where there are many."""
    shown = list(words[:_MOST_NAMED])
    if len(words) > _MOST_NAMED:
        return f"{', '.join(shown)} and {len(words) - _MOST_NAMED} more"
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"
