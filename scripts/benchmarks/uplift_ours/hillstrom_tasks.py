"""Hillstrom's experiment as peers read it and as ours does, cut by the same splits.

Every contrast takes the rows of its arms in the order of the file and cuts them by scikit-learn's `train_test_split`,
70 to 30, stratified by arm and by whether the first outcome happened, with the seed as its random state. (The order of
the arms decides what is drawn: the other way round is another ten splits.)

Axis letters: N rows, F features.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from sklearn.model_selection import train_test_split
from uplift_peers.task import About, Task

CONTROL, WOMENS, MENS = "No E-Mail", "Womens E-Mail", "Mens E-Mail"
OUTCOMES = ("visit", "conversion", "spend")


class Contrast(NamedTuple):
    """A question to the experiment.

    Attributes:
        offers: groups of e-mails against none; those of a group are one offer.
        outcomes: that are scored; the first stratifies.
    """

    offers: tuple[tuple[str, ...], ...]
    outcomes: tuple[str, ...] = OUTCOMES[:1]


CONTRASTS = {
    "womens": Contrast(((WOMENS,),)),
    "mens": Contrast(((MENS,),)),
    "any": Contrast(((WOMENS, MENS),)),
    "three": Contrast(((MENS,), (WOMENS,))),
    "sales": Contrast(((MENS,), (WOMENS,)), OUTCOMES[1:]),
}
POLICIES = ("three", "sales")
TEST = 0.3


def features(frame: pd.DataFrame) -> pd.DataFrame:
    """Float32 columns [N, F]: the bands of `history_segment` numbered, a column for each zip code and channel."""
    plain = frame[["recency", "history", "mens", "womens", "newbie"]].copy()
    plain["history_segment"] = frame["history_segment"].str.split(")").str[0].astype(int)
    named = pd.get_dummies(frame[["zip_code", "channel"]])
    return pd.concat([plain, named], axis=1).astype(np.float32)


def arms_of(frame: pd.DataFrame, contrast: str) -> np.ndarray:
    """Arm of every row, int8 [N]: 0 the control, -1 no arm of the contrast."""
    numbers = {CONTROL: 0} | {
        name: number for number, group in enumerate(CONTRASTS[contrast].offers, 1) for name in group
    }
    return frame["segment"].map(numbers).fillna(-1).to_numpy(np.int8)


def is_test(frame: pd.DataFrame, contrast: str, seed: int) -> np.ndarray:
    """Which rows of the contrast are for the test, bool [N]; rows of other arms are not."""
    arm = arms_of(frame, contrast)
    own = np.flatnonzero(arm >= 0)
    strata = arm[own] * 2 + (frame[CONTRASTS[contrast].outcomes[0]].to_numpy()[own] > 0)
    _, held = train_test_split(own, test_size=TEST, random_state=seed, stratify=strata)
    found = np.zeros(len(frame), bool)
    found[held] = True
    return found


def write_task(frame: pd.DataFrame, contrast: str, seed: int, folder: Path) -> Path:
    """Write what the peers read, if it is not there."""
    if (folder / "task.json").exists():
        return folder
    arm = arms_of(frame, contrast)
    own = arm >= 0
    offers, outcomes = CONTRASTS[contrast]
    columns = features(frame)
    about = About(
        name=folder.name,
        features=tuple(columns),
        arms=(CONTROL, *(" or ".join(group) for group in offers)),
        outcomes=outcomes,
        kinds=tuple("binary" if name != "spend" else "zero_inflated" for name in outcomes),
        randomised=True,
    )
    outcome = frame.loc[own, list(outcomes)].to_numpy(np.float64)
    train = ~is_test(frame, contrast, seed)[own]
    return Task(about, columns.to_numpy()[own], arm[own], outcome, train).write(folder)


def write_table(frame: pd.DataFrame, seed: int, path: Path) -> Path:
    """Write the file with a column `split_<contrast>` for each: train, test, or none for arms that it leaves out."""
    if path.exists():
        return path
    copy = frame.copy()
    for contrast in CONTRASTS:
        split = np.where(is_test(frame, contrast, seed), "test", "train")
        copy[f"split_{contrast}"] = np.where(arms_of(frame, contrast) < 0, "none", split)
    path.parent.mkdir(parents=True, exist_ok=True)
    copy.to_csv(path, index=False)
    return path


def overrides(contrast: str, table: Path) -> list[str]:
    """What makes `experiment=x_learner_hillstrom` learn this contrast from `write_table`'s file.

    Of three arms it learns all outcomes together, first the one that is scored.
    """
    offers, outcomes = CONTRASTS[contrast]
    if contrast == "any":
        arms = f"{{any e-mail: [{', '.join(offers[0])}]}}"
    else:
        arms = f"[{', '.join(name for (name,) in offers)}]"
    if contrast in POLICIES:
        outcomes = (*outcomes, *(name for name in OUTCOMES if name not in outcomes))
    listed = [name if name != "spend" else "{name: spend, kind: zero_inflated, unit: USD}" for name in outcomes]
    # The e-mails were drawn in thirds, so that both together are two of them.
    chances = "{No E-Mail: 0.33333333, any e-mail: 0.66666667}" if contrast == "any" else "equal"
    return [
        f"data.path='{table}'",
        f"data.roles.probabilities={chances}",
        "data.split.by=column",
        f"data.split.column=split_{contrast}",
        f"data.roles.arms={arms}",
        f"data.roles.outcomes=[{', '.join(listed)}]",
    ]
