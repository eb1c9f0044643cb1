"""The campaign simulator: its truth against brute force, its options, and its files."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from wanamaker.data.simulate import uplift_options, uplift_table, uplift_truth
from wanamaker.data.simulate.uplift_features import categorical_names, level_names, numeric_names
from wanamaker.data.simulate.uplift_files import CAMPAIGNS, SHARDS, TABLE, table_path
from wanamaker.data.simulate.uplift_options import OUTCOMES, Arm, Columns, UpliftSimulation
from wanamaker.data.simulate.uplift_presets import ARMS, PRESETS, uplift_simulation
from wanamaker.data.simulate.uplift_table import FIRST_ID, UpliftWorld, to_arrow
from wanamaker.data.simulate.uplift_truth import SUMMARY, TRUTH, UpliftTruth
from wanamaker.errors import UserError

SIGMAS = 5.0  # of Monte-Carlo error that a right mean may be off


@pytest.fixture(scope="module")
def offers() -> tuple[UpliftWorld, uplift_table.Piece]:
    world = UpliftWorld(PRESETS["offers"])
    return world, world.piece(0)


def test_what_every_arm_brings_is_its_expectation(offers: tuple[UpliftWorld, uplift_table.Piece]) -> None:
    _, piece = offers
    mean = piece.truth.mean
    for group in (slice(None), mean[:, 0, 0] > np.median(mean[:, 0, 0]), piece.truth.response[:, 2] < -0.3):
        error = piece.outcome[group] - mean[group]
        score = error.mean(axis=0) / (error.std(axis=0) / np.sqrt(len(error)))
        assert np.abs(score).max() < SIGMAS


def test_the_observed_means_by_arm_are_the_expected_ones(offers: tuple[UpliftWorld, uplift_table.Piece]) -> None:
    _, piece = offers
    for k in range(4):
        error = piece.observed[piece.arm == k] - piece.truth.mean[piece.arm == k, k]
        assert (np.abs(error.mean(axis=0)) < SIGMAS * error.std(axis=0) / np.sqrt(len(error))).all()


def test_expected_spend_is_that_of_a_zero_inflated_lognormal(offers: tuple[UpliftWorld, uplift_table.Piece]) -> None:
    _, piece = offers
    truth = piece.truth
    draws = np.random.default_rng(0).normal(size=(200_000, 1))
    some = slice(0, 20)
    brute = (
        truth.visit[some, 1] * truth.purchase[some, 1] * np.exp(truth.log_basket[some, 1] + truth.sd * draws).mean(0)
    )
    np.testing.assert_allclose(truth.mean[some, 1, 2], brute, rtol=0.01)
    visit, conversion, spend = (piece.observed[:, y] for y in range(3))
    assert (visit[conversion == 1] == 1).all(), "only visitors buy"
    np.testing.assert_array_equal(spend > 0, conversion == 1)


def test_rates_shares_and_costs_are_those_asked_for(offers: tuple[UpliftWorld, uplift_table.Piece]) -> None:
    world, piece = offers
    options = world.options
    mean = piece.truth.mean[:, 0].mean(axis=0)
    assert mean[0] == pytest.approx(options.visit_rate, abs=0.005)
    assert mean[1] / mean[0] == pytest.approx(options.conversion_rate, abs=0.01)
    for a, arm in enumerate(options.arms):
        response = piece.truth.response[:, a]
        assert (response > 0.5).mean() == pytest.approx(arm.persuadable, abs=0.02)
        assert (response < -0.5 * arm.backlash).mean() == pytest.approx(arm.sleeping, abs=0.02)
        assert response.min() > -arm.backlash - 1e-9
    coupon, percent, control = piece.arm == 3, piece.arm == 2, piece.arm == 0
    np.testing.assert_allclose(piece.cost[coupon], 0.05 + 5.0 * piece.observed[coupon, 1], atol=1e-9)
    np.testing.assert_allclose(piece.cost[percent], 0.05 + 0.1 * piece.observed[percent, 2], atol=0.0051)
    assert (piece.cost[control] == 0).all()


def test_a_randomised_arm_is_independent_of_the_customer() -> None:
    options = uplift_simulation("two_arms", {"control_share": 2.0})
    assert options.probabilities == pytest.approx((2 / 3, 1 / 3))
    piece = UpliftWorld(options).piece(0)
    assert (piece.arm == 1).mean() == pytest.approx(1 / 3, abs=SIGMAS * 0.47 / np.sqrt(20_000))
    offered = piece.arm == 1
    for values in piece.customers.z.T:
        difference = values[offered].mean() - values[~offered].mean()
        assert abs(difference) < SIGMAS * np.sqrt(1 / offered.sum() + 1 / (~offered).sum())


@pytest.mark.parametrize("strength", [0.5, 2.0])
def test_confounding_keeps_overlap_and_tells_the_true_probability(strength: float) -> None:
    options = uplift_simulation("confounded", {"confounding": strength, "overlap": 0.05})
    assert options.probabilities is None
    piece = UpliftWorld(options).piece(0)
    share = piece.truth.propensity
    assert share.min() >= 0.05
    np.testing.assert_allclose(share.sum(axis=1), 1.0)
    for low, high in ((0.0, 0.3), (0.3, 0.7), (0.7, 1.0)):
        inside = (share[:, 1] >= low) & (share[:, 1] < high)
        drawn = (piece.arm == 1)[inside] - share[inside, 1]
        assert abs(drawn.mean()) < SIGMAS * 0.5 / np.sqrt(inside.sum())
    visit, treated = piece.observed[:, 0], piece.arm == 1
    naive = visit[treated].mean() - visit[~treated].mean()
    true = (piece.truth.mean[:, 1, 0] - piece.truth.mean[:, 0, 0]).mean()
    weighted = np.mean(visit * treated / share[:, 1] - visit * ~treated / share[:, 0])
    assert naive - true > 0.025, "good customers get the offer: a plain comparison flatters it"
    assert abs(weighted - true) < 0.025


def test_a_placebo_and_the_null_change_nothing() -> None:
    for preset, arm in (("placebo", 2), ("null", 1)):
        mean = UpliftWorld(PRESETS[preset]).piece(0).truth.mean
        np.testing.assert_array_equal(mean[:, arm], mean[:, 0])
    assert (UpliftWorld(PRESETS["placebo"]).piece(0).truth.response[:, 1] == 0).all()


def test_heterogeneity_alignment_and_prognostic_strength_do_what_they_say() -> None:
    alike = UpliftWorld(uplift_simulation("two_arms", {"arms": {"offer": {"heterogeneity": 0.0}}})).piece(0).truth.mean
    logit = np.log(alike[..., 0] / (1 - alike[..., 0]))
    np.testing.assert_allclose(logit[:, 1] - logit[:, 0], 1.2)
    flat = UpliftWorld(uplift_simulation("two_arms", {"prognostic": 0.0})).piece(0).truth.mean
    np.testing.assert_allclose(flat[:, 0, 0], 0.15)
    ties = [
        np.corrcoef(truth.response[:, 0], truth.visit[:, 0])[0, 1]
        for truth in (
            UpliftWorld(uplift_simulation("two_arms", {"alignment": value})).piece(0).truth for value in (-0.7, 0.7)
        )
    ]
    assert ties[0] < -0.1
    assert ties[1] > 0.3


def test_features_are_skewed_correlated_missing_and_rare() -> None:
    options = uplift_simulation("two_arms", {"columns": {"missing": 0.1, "rare": 0.01, "correlation": 0.5}})
    piece = UpliftWorld(options).piece(0)
    shown, z = piece.customers.shown, piece.customers.z
    empty = np.isnan(shown).mean(axis=0)
    assert (empty[2::3] > 0.08).all()
    assert np.delete(empty, np.arange(2, 12, 3)).max() == 0
    assert (z[np.isnan(shown[:, 2]), 2] == 0).all(), "an empty cell acts as the average"
    assert np.nanmean(shown[:, 0]) > 1.3 * np.nanmedian(shown[:, 0])
    assert np.corrcoef(z[:, 0], z[:, 1])[0, 1] == pytest.approx(0.5, abs=0.05)
    assert np.corrcoef(z[:, 1], shown[:, 9])[0, 1] > 0.4, "irrelevant and correlated"
    assert abs(np.corrcoef(z[:, 0], shown[:, 10])[0, 1]) < 0.05
    assert (piece.customers.level == 4).mean(axis=0) == pytest.approx([0.01, 0.01], abs=0.005)
    names = (*numeric_names(options.columns), *categorical_names(options.columns))
    assert len(set(names)) == 14
    assert len(level_names(options.columns)) == 5


def test_effects_depend_on_what_the_table_shows() -> None:
    """Customers with the same informative cells have the same truth, whatever the irrelevant ones say."""
    world = UpliftWorld(PRESETS["tiny"])
    customers = world.piece(0).customers
    other = replace(customers, shown=np.zeros_like(customers.shown))
    np.testing.assert_array_equal(world.expect(customers).mean, world.expect(other).mean)


def test_a_piece_is_a_function_of_seed_and_number(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (uplift_options, uplift_table, uplift_truth):
        monkeypatch.setattr(module, "PIECE_ROWS", 500)
    options = uplift_simulation("tiny", {"rows": 1_700})
    assert options.num_pieces == 4
    world, again = UpliftWorld(options), UpliftWorld(options)
    last = world.piece(3)
    assert len(last.id) == 200
    assert last.id[0] == FIRST_ID + 1_500
    world.piece(0)
    second = again.piece(1)
    assert to_arrow(world.piece(1), options).equals(to_arrow(second, options))
    assert not np.array_equal(second.customers.z, world.piece(0).customers.z)
    longer = UpliftWorld(replace(options, rows=5_000))
    assert to_arrow(longer.piece(1), options).equals(to_arrow(second, options)), "more rows change none"
    assert UpliftWorld(replace(options, seed=1)).piece(1).customers.z[0, 0] != second.customers.z[0, 0]


def test_files_hold_table_and_truth_apart(tmp_path: Path) -> None:
    options = PRESETS["tiny"]
    folder = CAMPAIGNS.ensure(tmp_path, options)
    assert folder == CAMPAIGNS.folder(tmp_path, options) == CAMPAIGNS.ensure(tmp_path, options)
    table = pq.read_table(folder / TABLE)
    wanted = ["customer", *numeric_names(options.columns), *categorical_names(options.columns)]
    assert table.column_names == [*wanted, "arm", *OUTCOMES, "cost"]
    truth = UpliftTruth.load(folder)
    assert truth.options == options
    piece = UpliftWorld(options).piece(0)
    some = table.column("customer").to_numpy()[[1999, 3, 3, 0]]
    rows = [1999, 3, 3, 0]
    np.testing.assert_allclose(truth.mean(some), piece.truth.mean[rows], rtol=1e-6)
    np.testing.assert_allclose(
        truth.effect(some), (piece.truth.mean[:, 1:] - piece.truth.mean[:, :1])[rows], rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(truth.propensity(some), 0.5)
    np.testing.assert_allclose(truth.response(some), piece.truth.response[rows], rtol=1e-5, atol=1e-6)
    summary = json.loads((folder / SUMMARY).read_text())
    effect = (piece.truth.mean[:, 1] - piece.truth.mean[:, 0]).mean(axis=0)
    assert list(summary["arms"]["offer"]["effect"].values()) == pytest.approx(list(effect))
    assert not set(table.column_names) & set(pq.read_schema(folder / TRUTH).names) - {"customer"}
    with pytest.raises(KeyError, match="no customer"):
        truth.mean(np.array([5]))


def test_shards_are_the_table_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("uplift_options", "uplift_table", "uplift_truth", "uplift_files"):
        monkeypatch.setattr(f"wanamaker.data.simulate.{module}.PIECE_ROWS", 400)
    options = uplift_simulation("tiny", {"rows": 1_500, "shards": 3})
    folder = CAMPAIGNS.ensure(tmp_path, options)
    assert table_path(folder, options) == folder / SHARDS
    files = sorted((folder / SHARDS).iterdir())
    assert [pq.read_metadata(file).num_rows for file in files] == [400, 400, 700]
    ids = np.concatenate([pq.read_table(file).column("customer").to_numpy() for file in files])
    np.testing.assert_array_equal(ids, FIRST_ID + np.arange(1_500))
    whole = pq.read_table(folder / TRUTH)
    np.testing.assert_array_equal(whole.column("customer").to_numpy(), ids)
    uplift_truth._read_piece.cache_clear()
    visits = UpliftTruth.load(folder).mean(ids[[1_400, 0, 799]])[:, 0, 0]
    np.testing.assert_array_equal(visits, whole.column("visit if control").to_numpy()[[1_400, 0, 799]])


def test_an_option_makes_another_folder_and_leaves_nothing_behind(tmp_path: Path) -> None:
    CAMPAIGNS.ensure(tmp_path, PRESETS["tiny"])
    CAMPAIGNS.ensure(tmp_path, uplift_simulation("tiny", {"seed": 1}))
    assert sum(path.is_dir() for path in (tmp_path / "campaign").iterdir()) == 2
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(UserError, match=r"Cannot write the simulated campaign.*cache_dir"):
        CAMPAIGNS.ensure(blocked, PRESETS["tiny"])


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"visit_rat": 0.1}, "visit_rat does not exist.*visit_rate"),
        ({"visit_rate": 1.5}, "visit_rate=1.5"),
        ({"arms": {"ofer": {}}}, "ofer is no offer.*'offer'"),
        ({"arms": ["coupn"]}, "coupn.*'coupon'"),
        ({"arms": {"offer": {"kind": "coupon"}}}, "cost_per_redemption=0.0: give the value"),
        ({"arms": {"offer": {"persuadable": 0.95}}}, "persuadable=0.95.*sleeping=0.15"),
        ({"arms": [{"name": "p", "kind": "placebo"}]}, "effect=0.5: a placebo changes nothing"),
        ({"arms": [{"name": "p", "discount": 0.1}]}, "discount=0.1.*percent"),
        ({"arms": [{"name": "control"}]}, r"arms=\['control'\]"),
        ({"columns": {"skewed": 9}}, "skewed=9: there are 8"),
        ({"shards": 7}, "shards=7.*at most"),
    ],
)
def test_options_that_make_no_sense_are_refused(overrides: dict, said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        uplift_simulation("two_arms", overrides, "data.simulation")
    assert str(caught.value).startswith("data.simulation")


def test_presets_and_single_changes() -> None:
    with pytest.raises(UserError, match=r"preset='offer'.*'offers'"):
        uplift_simulation("offer")
    assert [arm.kind for arm in PRESETS["offers"].arms] == ["notice", "percent", "coupon"]
    assert PRESETS["large"].rows == 10_000_000
    assert PRESETS["large"].num_pieces == 100
    listed = uplift_simulation("tiny", {"arms": ["notice", {"name": "coupon", "effect": 0.1}, {"name": "new"}]})
    assert listed.arms == (ARMS["notice"], replace(ARMS["coupon"], effect=0.1), Arm("new"))
    assert uplift_simulation("tiny", {"columns": {"missing": 0.0}}).columns == replace(
        PRESETS["tiny"].columns, missing=0.0
    )
    assert uplift_simulation("tiny", {"rows": None}) == PRESETS["tiny"]
    assert isinstance(PRESETS["tiny"].columns, Columns)
    assert isinstance(PRESETS["null"], UpliftSimulation)
