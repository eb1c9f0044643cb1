"""What must hold of uplift curves whatever the table; numbers of packages are in test_uplift_golden.py."""

import math

import numpy as np
import pytest

from wanamaker.metrics import uplift_curves as curves

# Six customers, as a reader would check with a pencil: score, treated, bought.
SCORE = np.array([0.9, 0.8, 0.7, 0.7, 0.2, 0.1])
TREATED = np.array([1, 0, 1, 0, 1, 0])
BOUGHT = np.array([1, 0, 1, 1, 0, 1])


def table(seed: int = 0, rows: int = 600) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=rows)
    treated = rng.integers(0, 2, rows)
    y = (rng.random(rows) < np.clip(0.3 + 0.1 * treated * (1 + x), 0, 1)).astype(int)
    return (x + rng.normal(size=rows)).round(1), treated, y


def all_scores(score: np.ndarray, treated: np.ndarray, y: np.ndarray, weight: np.ndarray | None = None) -> list[float]:
    return [
        curves.qini_sklift(score, treated, y, weight=weight),
        curves.qini_sklift(score, treated, y, negative_effect=False, weight=weight),
        curves.auuc_sklift(score, treated, y, weight),
        curves.qini_causalml(score, treated, y, weight=weight, ties="shared"),
        curves.auuc_causalml(score, treated, y, weight=weight, ties="shared"),
        curves.qini_raw(score, treated, y, weight),
        curves.auuc_raw(score, treated, y, weight),
        curves.uplift_at_k(score, treated, y, 0.3, weight=weight, ties="shared"),
        curves.uplift_at_k(score, treated, y, 0.25, "by_group", weight, ties="shared"),
    ]


def test_curve_by_hand() -> None:
    curve = curves.uplift_curve(SCORE, TREATED, BOUGHT)
    assert curve.score.tolist() == [0.9, 0.8, 0.7, 0.2, 0.1]
    assert curve.taken.tolist() == [0, 1, 2, 4, 5, 6]
    assert curve.qini().tolist() == pytest.approx([0, 1, 1, 2 - 1, 2 - 1.5, 2 - 2])
    assert curve.gain().tolist() == pytest.approx([0, 1, 2, (1 - 0.5) * 4, (2 / 3 - 0.5) * 5, 0])
    assert curves.random_line(curve, curve.gain()).tolist() == [0.0] * 6
    # Trapezoids: 0.5 + 1 + 2 + 0.75 + 0.25 over six customers twice; the line to the end is 0.
    assert curves.qini_raw(SCORE, TREATED, BOUGHT) == pytest.approx(4.5 / 36)
    share, gain = curves.cumulative_gain(SCORE, TREATED, BOUGHT)
    assert share.tolist() == pytest.approx([0, 1 / 6, 2 / 6, 4 / 6, 5 / 6, 1])
    assert gain.tolist() == curve.gain().tolist()


def test_constant_score_is_worth_nothing() -> None:
    _, treated, y = table()
    flat = np.full(len(y), 0.4)
    assert curves.qini_sklift(flat, treated, y) == pytest.approx(0.0, abs=1e-12)
    assert curves.auuc_sklift(flat, treated, y) == pytest.approx(0.0, abs=1e-12)
    assert curves.qini_causalml(flat, treated, y, ties="shared") == pytest.approx(0.0, abs=1e-12)
    assert curves.qini_raw(flat, treated, y) == pytest.approx(0.0, abs=1e-12)
    assert curves.uplift_at_k(flat, treated, y, 0.3, ties="shared") == pytest.approx(
        y[treated == 1].mean() - y[treated == 0].mean()
    )
    # Every customer but none: 1/2 and half of one customer's share.
    rows = len(y)
    assert curves.auuc_causalml(flat, treated, y, ties="shared") == pytest.approx(0.5, abs=1 / rows)


def test_perfect_ranking_is_one_and_no_ranking_is_better() -> None:
    score, treated, y = table()
    perfect = y * treated - y * (1 - treated)
    assert curves.qini_sklift(perfect, treated, y) == pytest.approx(1.0, abs=1e-12)
    responders, others = np.where(treated == 1, y, 1 - y), np.where(treated == 1, 1 - treated, y)
    assert (y[treated == 0] == 1).sum() < (y[treated == 1] == 0).sum()  # then control responders come last of all
    assert curves.auuc_sklift(2 * responders - others, treated, y) == pytest.approx(1.0, abs=1e-12)
    assert curves.qini_sklift(-perfect, treated, y) < curves.qini_sklift(score, treated, y) < 1


@pytest.mark.parametrize("rate", [0.2, 0.8])
def test_perfect_curves_in_closed_form_are_those_of_the_ranking(rate: float) -> None:
    rng = np.random.default_rng(3)
    treated, y = rng.integers(0, 2, 500), (rng.random(500) < rate).astype(int)
    best = curves.perfect_curve(treated, y)
    count, qini = curves.perfect_qini(curves.uplift_curve(rng.normal(size=500), treated, y))
    assert count.tolist() == best.taken.tolist()
    assert qini.tolist() == pytest.approx(best.qini().tolist())
    summand = y if (y[treated == 0] == 1).sum() > (y[treated == 1] == 0).sum() else treated
    ranked = curves.uplift_curve(2 * (y == treated) + summand, treated, y)
    count, gain = curves.perfect_gain(ranked)
    assert count.tolist() == ranked.taken.tolist()
    assert gain.tolist() == pytest.approx(ranked.gain().tolist())


def test_order_of_rows_does_not_matter() -> None:
    score, treated, y = table()
    expected = all_scores(score, treated, y)
    assert not any(math.isnan(value) for value in expected)
    order = np.random.default_rng(1).permutation(len(y))
    assert all_scores(score[order], treated[order], y[order]) == pytest.approx(expected, rel=1e-12)


def test_only_the_order_of_scores_matters() -> None:
    score, treated, y = table()
    assert all_scores(np.exp(score) - 5, treated, y) == pytest.approx(all_scores(score, treated, y), rel=1e-12)


def test_a_weight_of_two_is_two_rows() -> None:
    score, treated, y = table()
    weight = np.random.default_rng(2).integers(0, 4, len(y))
    repeated = all_scores(*(np.repeat(column, weight) for column in (score, treated, y)))
    assert all_scores(score, treated, y, weight) == pytest.approx(repeated, rel=1e-9)


def test_packages_own_order_of_ties_depends_on_rows_and_the_shared_one_does_not() -> None:
    treated, y = np.repeat([1, 0], 50), np.tile([1, 1, 0], 40)[:100]
    flat = np.zeros(100)
    backwards = slice(None, None, -1)
    both = [curves.qini_causalml(flat, treated[order], y[order], normalize=False) for order in (slice(None), backwards)]
    assert both[0] != pytest.approx(both[1])
    shared = curves.qini_causalml(flat, treated, y, normalize=False, ties="shared")
    assert shared == pytest.approx(0.0, abs=1e-12)


def test_what_is_not_defined_is_nan() -> None:
    treated = np.array([1, 1, 0, 0])
    assert math.isnan(curves.qini_sklift(np.arange(4.0), treated, np.zeros(4)))
    assert math.isnan(curves.qini_sklift(np.arange(4.0), treated, np.array([0, 1, 1, 1]), negative_effect=False))
    assert math.isnan(curves.uplift_at_k(np.array([4.0, 3, 2, 1]), treated, np.ones(4), k=2))


def test_mistakes_are_named() -> None:
    score, treated, y = table()
    with pytest.raises(ValueError, match=r"an outcome is 2\.5, .* qini_raw"):
        curves.qini_sklift(score, treated, 2.5 * y)
    with pytest.raises(ValueError, match="treated has the value 2; give 1 or 0, two arms at a time"):
        curves.uplift_curve(score, treated * 2, y)
    with pytest.raises(ValueError, match="no control customer among 600 rows"):
        curves.uplift_curve(score, np.ones(600), y)
    with pytest.raises(ValueError, match="row 5 has the value nan"):
        curves.uplift_curve(np.where(np.arange(600) == 5, np.nan, score), treated, y)
    with pytest.raises(ValueError, match=r"shapes are \[\(600,\), \(600,\), \(599,\)"):
        curves.uplift_curve(score, treated, y[:-1])
    with pytest.raises(ValueError, match=r"k=1\.5; give a share in \(0, 1\)"):
        curves.uplift_at_k(score, treated, y, 1.5)
    with pytest.raises(ValueError, match="ties='random' is not known; give one of package, shared"):
        curves.qini_causalml(score, treated, y, ties="random")
