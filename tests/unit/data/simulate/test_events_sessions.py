"""The simulator of clickstreams: its truth against what happens, and its files."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from wanamaker.data.simulate.events_sessions import (
    CARTED,
    DETERMINED,
    FULL,
    LENGTHS,
    NONE,
    PRESETS,
    REGRET,
    SIZES,
    VIEW,
    basket_after,
    choices,
    purchase_probability,
    session_simulation,
)
from wanamaker.data.simulate.events_sessions_log import (
    CLICKSTREAMS,
    LOG,
    PROBABILITY,
    SHARDS,
    TRUTH,
    TYPES,
    SessionLog,
    SessionTruth,
)
from wanamaker.errors import UserError

SIGMAS = 4.5


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    """Events by session and time, with their truth and `bought` (so far) and `buys` (at all)."""
    piece = SessionLog(replace(PRESETS["small"], users=4_000)).piece(0)
    made = pd.DataFrame({name: getattr(piece, name) for name in ("user", "session", "second", "product", "truth")})
    made["type"] = np.array(TYPES)[piece.kind]
    made = made.sort_values(["session", "second"], ignore_index=True)
    made["bought"] = (made["type"] == "purchase").groupby(made["session"]).cumsum() > 0
    made["buys"] = made["bought"].groupby(made["session"]).transform("any")
    return made


def test_what_is_true_is_what_happens(frame: pd.DataFrame) -> None:
    np.testing.assert_array_equal(frame["truth"].isna(), frame["bought"])
    ahead = frame[~frame["bought"]]
    # One event of each session, since those of a session share what comes of it, and one that does not depend on what
    # comes: the k-th, or the first of its kind.
    number = ahead.groupby("session").cumcount()
    chosen = {f"event {k}": ahead[number == k] for k in (0, 2, 5)}
    chosen |= {kind: ahead[ahead["type"] == kind].drop_duplicates("session") for kind in ("cart", "remove_from_cart")}
    for name, one in chosen.items():
        bins = pd.qcut(one["truth"], 6, labels=False, duplicates="drop")
        for _, group in one.groupby(bins):
            expected = group["truth"].mean()
            error = group["buys"].mean() - expected
            assert abs(error) < SIGMAS * np.sqrt(expected * (1 - expected) / len(group)), name
    assert chosen["event 5"]["truth"].std() > 0.1, "sessions differ"
    assert 0.05 < frame.groupby("session")["buys"].first().mean() < 0.2


def test_sessions_are_ones_that_can_be(frame: pd.DataFrame) -> None:
    first = frame.drop_duplicates("session")
    assert (first["type"] == "view").all()
    assert (frame["second"].diff()[frame["session"].diff() == 0] > 0).all()
    basket = {}
    for session, kind in zip(frame["session"].head(20_000), frame["type"].head(20_000), strict=True):
        before = basket.get(session, NONE)
        assert kind not in ("purchase", "remove_from_cart") or before in FULL, "only what was carted"
        basket[session] = int(basket_after(np.array([before]), np.array([TYPES.index(kind)]))[0])
    ends = frame.groupby("session").agg(user=("user", "first"), begin=("second", "min"), end=("second", "max"))
    ends = ends.sort_values(["user", "begin"])
    gap = ends["begin"].to_numpy()[1:] - ends["end"].to_numpy()[:-1]
    assert (gap[np.diff(ends["user"]) == 0] > 3600).all(), "sessions of a user do not overlap"


def test_the_truth_solves_its_equation_and_knows_the_order() -> None:
    options = PRESETS["small"]
    chance, value = choices(options), purchase_probability(options)
    np.testing.assert_allclose(chance.sum(axis=-1), 1.0, atol=1e-12)
    assert value.shape == SIZES
    assert (value > 0).all()
    assert (value < 1).all()
    start = (0, slice(None), 4, VIEW, 0, 0)  # loyalty, basket, length, last, category, level
    none, carted, regret, determined = value[start]
    assert determined > carted > none > regret, "what came before what"
    assert value[2, CARTED, 4, VIEW, 0, 0] > value[0, CARTED, 4, VIEW, 0, 0], "who has bought before"
    flat = purchase_probability(replace(options, order=0.0))
    np.testing.assert_allclose(flat[:, CARTED], flat[:, DETERMINED], rtol=1e-9)
    np.testing.assert_allclose(flat[:, NONE], flat[:, REGRET], rtol=1e-9)
    # Long sessions: a state that repeats itself, by a sum over how often it does.
    assert value[0, CARTED, LENGTHS - 1, VIEW, 0, 0] > chance[0, CARTED, LENGTHS - 1, VIEW, 0, 0, 4]


def test_files_hold_the_log_and_its_truth(tmp_path: Path) -> None:
    options = PRESETS["tiny"]
    cut = replace(options, shards=3)
    one, many = CLICKSTREAMS.ensure(tmp_path, options), CLICKSTREAMS.ensure(tmp_path, cut)
    log = pd.read_parquet(one / LOG)
    # Made once and written down: other numbers on another machine, or after a change, break caches that are shared.
    assert log["event_type"].value_counts().to_dict() == {
        "view": 5004,
        "cart": 550,
        "remove_from_cart": 194,
        "purchase": 150,
    }
    assert list(log.columns) == [
        "event_time",
        "event_type",
        "product_id",
        "category",
        "price",
        "user_id",
        "user_session",
    ]
    assert log["event_time"].is_monotonic_increasing
    assert log.groupby("product_id")[["price", "category"]].nunique().max().max() == 1
    parts = pd.concat([pd.read_parquet(path) for path in sorted((many / SHARDS).iterdir())])
    keys = ["event_time", "user_session"]
    pd.testing.assert_frame_equal(parts.sort_values(keys, ignore_index=True), log.sort_values(keys, ignore_index=True))
    truth, table = SessionTruth(one), pd.read_parquet(one / TRUTH).sample(300, random_state=0)
    found = truth.probability(table["user_session"].to_numpy(), table["event_time"].to_numpy())
    np.testing.assert_array_equal(found, table[PROBABILITY])
    bought = log[log["event_type"] == "purchase"].iloc[0]
    with pytest.raises(UserError, match=f"knows no truth of session {bought['user_session']} at"):
        truth.probability(np.array([bought["user_session"]]), np.array([bought["event_time"]], "datetime64[s]"))


def test_pieces_do_not_depend_on_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("sessions", "sessions_log"):
        monkeypatch.setattr(f"wanamaker.data.simulate.events_{module}.PIECE_USERS", 100)
    log = SessionLog(PRESETS["tiny"])
    late = log.piece(3)
    again = SessionLog(PRESETS["tiny"]).piece(3)
    np.testing.assert_array_equal(late.second, again.second)
    assert not set(late.session) & set(log.piece(0).session)
    with pytest.raises(IndexError):
        log.piece(4)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"gapp": 2}, r"data\.simulation\.gapp does not exist.*Did you mean 'gap'"),
        ({"gap": 1}, r"data\.simulation\.gap=1: give a number above 1"),
        ({"start": "NaT"}, r"data\.simulation\.start='NaT': write a day"),
        ({"shards": 99}, r"data\.simulation\.shards=99: the log has 60 days"),
    ],
)
def test_wrong_options_are_refused(overrides: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        session_simulation("small", overrides, "data.simulation")
    with pytest.raises(UserError, match=r"preset='big' does not exist"):
        session_simulation("big")
