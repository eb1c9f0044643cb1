"""Sessions of a clickstream: every prefix is scored, the purchase is never seen, nothing later is known."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from wanamaker.data.event_sessions import SessionDataModule
from wanamaker.errors import UserError

ROLES = {"session": "s", "time": "t", "type": "e", "user": "u", "product": "p", "price": "price", "categorical": ["c"]}


def clicks(sessions: int = 40, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    rows = []
    for session in range(sessions):
        time = pd.Timestamp("2024-01-01") + pd.Timedelta(hours=float(rng.uniform(0, 200)))
        for _ in range(int(rng.integers(1, 12))):
            product = int(rng.integers(0, 15))
            kind = rng.choice(["view", "cart", "purchase"], p=[0.7, 0.2, 0.1])
            rows.append(
                (f"s{session:03d}", time, kind, f"u{session % 15}", f"p{product}", 5.0 + product, f"c{product % 3}")
            )
            time += pd.Timedelta(seconds=int(rng.integers(1, 300)))
    return pd.DataFrame(rows, columns=["s", "t", "e", "u", "p", "price", "c"])


def module(frame: pd.DataFrame, folder: Path, name: str = "clicks.parquet", **changes: Any) -> SessionDataModule:
    frame.sample(frac=1, random_state=0).to_parquet(folder / name, index=False)
    options: dict[str, Any] = {"path": str(folder / name), "roles": ROLES, "split": {"by": "hash", "test": 0.2}}
    options |= {"checks": {"leak_auc": 1.0}, "batch_size": 16}
    made = SessionDataModule(**{**options, **changes})
    made.setup("fit")
    return made


def prefixes(made: SessionDataModule) -> pd.DataFrame:
    batches = list(made.predict_dataloader())
    row = np.concatenate([batch.row.numpy() for batch in batches])
    table = pd.DataFrame(np.concatenate([batch.numeric.numpy() for batch in batches]), columns=made.schema.numeric)
    table["label"] = np.concatenate([batch.label.numpy() for batch in batches])[:, 0]
    table["seen"] = np.concatenate([batch.seen.numpy() for batch in batches])
    return table.assign(session=made.identifiers(row), moment=made.moment_of(row))


def test_every_prefix_before_the_purchase(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    frame = clicks()
    with caplog.at_level("WARNING"):
        made = module(frame, tmp_path)
    found = prefixes(made).set_index(["session", "seen"])
    expected = left_out = 0
    last = frame["t"].max()
    for session, rows in frame.groupby("s"):
        bought = np.flatnonzero(rows["e"] == "purchase")
        until = bought[0] if len(bought) else len(rows)
        left_out += until == 0
        for k in range(1, until + 1):
            expected += 1
            here, now = found.loc[(session, k)], rows["t"].iloc[k - 1]
            label = float(len(bought) > 0) if last - rows["t"].max() >= pd.Timedelta(minutes=30) else np.nan
            assert here["label"] == label or np.isnan(label) == np.isnan(here["label"]) == True  # noqa: E712
            before = rows.iloc[:k]
            assert here["events so far"] == k
            assert here["products so far"] == before["p"].nunique()
            assert here["times this product so far"] == (before["p"] == before["p"].iloc[-1]).sum()
            assert here["count of cart"] == (before["e"] == "cart").sum()
            assert here["mean price so far"] == pytest.approx(before["price"].mean(), rel=1e-5)
            assert here["highest price so far"] == before["price"].max()
            assert here["minutes so far"] == pytest.approx((now - rows["t"].iloc[0]).total_seconds() / 60, abs=1e-4)
            earlier = frame[(frame["u"] == rows["u"].iloc[0]) & (frame["t"] < rows["t"].iloc[0])]
            starts = frame.groupby("s")["t"].transform("min")
            own = (frame["u"] == rows["u"].iloc[0]) & (starts < rows["t"].iloc[0])
            assert here["earlier sessions"] == frame.loc[own, "s"].nunique()
            assert here["earlier purchase"] == (earlier["e"] == "purchase").sum()
            same = frame[(frame["p"] == before["p"].iloc[-1]) & (frame["t"] < now)]
            for kind in ("view", "cart", "purchase"):
                assert here[f"{kind} of the product before"] == (same["e"] == kind).sum()
    assert made.num_rows == expected
    assert f"{left_out:,} sessions were left out: they begin with 'purchase'" in caplog.text
    assert "purchase" not in made.schema.event_categories[0]
    assert "count of purchase" not in made.schema.numeric


def test_nothing_later_is_known(tmp_path: Path) -> None:
    frame = clicks()
    made = module(frame, tmp_path, split={"by": "hash", "test": 0.2})
    cut = frame["t"].quantile(0.6)
    changed = frame.copy()
    later = changed["t"] >= cut
    changed.loc[later, "p"] = "p3"
    changed.loc[later, "price"] = 1e4
    other = module(changed, tmp_path, "other.parquet")
    a, b = (prefixes(m) for m in (made, other))
    early = a["moment"] < cut
    names = [name for name in made.schema.numeric if name in other.schema.numeric]
    assert names == list(made.schema.numeric)
    pd.testing.assert_frame_equal(a.loc[early, names], b.loc[early, names])


def test_sessions_of_a_user_stay_together(tmp_path: Path) -> None:
    frame = clicks()
    made = module(frame, tmp_path)
    user = frame.groupby("s")["u"].first()
    rows = np.arange(made.num_rows)
    known = made.codes < 3
    codes = pd.Series(made.codes[known]).groupby(user.loc[made.identifiers(rows[known])].to_numpy()).nunique()
    assert (codes == 1).all()
    timed = module(frame, tmp_path, split={"by": "time", "test": 0.3})
    known = timed.codes < 3
    codes = pd.Series(timed.codes[known]).groupby(timed.identifiers(rows[known])).nunique()
    assert (codes == 1).all()


def test_mistakes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"names event 'buy', which column 'e' .* does not have"):
        module(clicks(), tmp_path, target="buy")
    with pytest.raises(UserError, match=r"keep data\.groups="):
        module(clicks(), tmp_path, events_in_memory=10, cache_dir=str(tmp_path))
    with pytest.raises(UserError, match="choose from session, user, product"):
        module(clicks(), tmp_path, groups=["everything"])


def test_streamed_sessions(tmp_path: Path) -> None:
    frame = clicks()
    options = {"groups": ["session"], "lanes": 2}
    large = {"events_in_memory": 10, "cache_dir": str(tmp_path / "cache"), "buckets": 4}
    a, b = (module(frame, tmp_path, **options, **more) for more in ({}, large))
    assert a.schema == b.schema
    assert a.reader.said() == b.reader.said()
    one, other = (prefixes(m).sort_values(["session", "seen"], ignore_index=True) for m in (a, b))
    pd.testing.assert_frame_equal(one, other)
    rows = np.concatenate([batch.row.numpy() for batch in b.train_dataloader()])
    assert set(rows) == set(np.flatnonzero(b.codes == 0))
