"""Our areas against what scikit-uplift 0.5.1 and causalml 0.18.0 (numpy 2.4.6, pandas 3.1.1) gave for these tables.

The packages are not installed where tests run; scripts/benchmarks/uplift_peers/parity.py compares many more tables with
them, ties in CausalML included, whose order depends on the processor.
"""

import math

import numpy as np
import pandas as pd
import pytest

from wanamaker.metrics.uplift_curves import (
    auuc_causalml,
    auuc_sklift,
    qini_causalml,
    qini_sklift,
    uplift_at_k,
    uplift_curve,
)

# qini_auc_score with negative_effect=True and False, uplift_auc_score, uplift_at_k (overall, by_group; k=0.3).
SKLIFT = {
    "plain": (
        -0.04272473667277882,
        -0.27498367752160835,
        -0.05684914144971972,
        0.11669908307863291,
        0.10000000000000003,
    ),
    "few treated": (
        0.02315738719014033,
        0.25369441833701867,
        0.021461804913819136,
        0.17323775388291512,
        0.14510638297872347,
    ),
    # Without negative effects it raises: its perfect curve would end at -27 customers.
    "harmful": (0.130242917757783, math.nan, 0.1292754340165089, 0.09974993053626008, 0.08333333333333331),
    "ties": (-0.043264861190197595, -0.27846001085180366, -0.05734555289108073, None, None),
}
# qini_score and auuc_score, normalised; the same, not normalised.
CAUSALML = {
    "plain": (-0.1289200283642453, 0.37356993842643066, -3.0940806807418872, 17.93135704446868),
    "few treated": (0.12465508178671962, 0.602898940227604, 0.7391966951811207, 16.628615415550275),
    "harmful": (0.27724888214856414, -0.22480735011451008, 7.48571981801123, -12.139596906183543),
    "spend": (-0.12869574487009092, 0.3718146706239852, -64.60526392478556, 373.3019293064814),
}


def table(kind: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """400 rows by arithmetic, so that no generator of numbers has a say: score, treated, outcome."""
    i = np.arange(400)
    score = (i * 149 % 400) / 400
    treated = (i * i // 7 % (6 if kind == "few treated" else 2) == 0).astype(np.int64)
    chance = 40 + 30 * treated * score - (50 * treated * (1 - score) if kind == "harmful" else 0)
    y = (i * i * 31 % 101 < chance).astype(np.int64)
    if kind == "ties":
        score = np.floor(score * 12) / 12
    if kind == "spend":
        y = y * (i * 17 % 90 + 0.25)
    return score, treated, y


@pytest.mark.parametrize("kind", SKLIFT)
def test_scikit_uplift(kind: str) -> None:
    score, treated, y = table(kind)
    qini, qini_positive, auuc, overall, by_group = SKLIFT[kind]
    for weight in (None, np.ones(400)):
        assert qini_sklift(score, treated, y, weight=weight) == pytest.approx(qini, abs=1e-9)
        positive = qini_sklift(score, treated, y, negative_effect=False, weight=weight)
        assert positive == pytest.approx(qini_positive, abs=1e-9, nan_ok=True)
        assert auuc_sklift(score, treated, y, weight) == pytest.approx(auuc, abs=1e-9)
        if overall is not None:
            assert uplift_at_k(score, treated, y, 0.3, weight=weight) == pytest.approx(overall, abs=1e-9)
            assert uplift_at_k(score, treated, y, 0.3, "by_group", weight) == pytest.approx(by_group, abs=1e-9)


@pytest.mark.parametrize("ties", ["package", "shared"])
@pytest.mark.parametrize("kind", CAUSALML)
def test_causalml(kind: str, ties: str) -> None:
    """These scores are distinct, so that both ways to take ties are the package's."""
    score, treated, y = table(kind)
    for weight in (None, np.ones(400)):
        ours = [
            area(score, treated, y, normalize, weight, ties)
            for normalize in (True, False)
            for area in (qini_causalml, auuc_causalml)
        ]
        assert ours == pytest.approx(CAUSALML[kind], abs=1e-9)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("levels", [1, 2, 7, 60])
def test_tied_scores_are_taken_in_the_order_of_causalml(levels: int, dtype: type) -> None:
    """Its get_qini by pandas, on the same processor: the sort leaves ties differently on others."""
    rng = np.random.default_rng(levels)
    score = rng.integers(0, levels, 1500).astype(dtype)
    treated, y = rng.integers(0, 2, 1500), rng.integers(0, 2, 1500)
    frame = pd.DataFrame({"y": y, "w": treated, "model": score}).sort_values("model", ascending=False)
    taken, outcome = frame["w"].to_numpy(), frame["y"].to_numpy()
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.cumsum(taken) / np.cumsum(1 - taken)
        qini = np.cumsum(taken * outcome) - np.cumsum((1 - taken) * outcome) * share
    values = pd.Series(np.concatenate([[0.0], qini])).interpolate().to_numpy()
    expected = values.mean() - values[-1] / 2
    assert qini_causalml(score, treated, y, normalize=False) == pytest.approx(expected, abs=1e-9)


def test_shared_ties_are_straight_between_cuts() -> None:
    """Mean of the Qini curve over 0 to 400 customers, straight between the twelve cuts."""
    score, treated, y = table("ties")
    curve = uplift_curve(score, treated, y)
    assert len(curve.score) == 12
    everywhere = np.interp(np.arange(401), curve.taken, curve.qini())
    expected = (everywhere.mean() - curve.qini()[-1] / 2) / abs(curve.qini()[-1])
    assert qini_causalml(score, treated, y, ties="shared") == pytest.approx(expected, abs=1e-12)
