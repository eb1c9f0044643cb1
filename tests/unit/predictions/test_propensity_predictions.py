"""Propensity predictions as arrays, frames and files."""

from pathlib import Path

import numpy as np
import pytest

from wanamaker.errors import UserError
from wanamaker.predictions import PropensityPredictions, read_predictions


def predictions(N: int = 4, R: int = 2, traits: int = 1, seed: int = 0) -> PropensityPredictions:
    """A hazard of three intervals and a value for N customers."""
    random = np.random.default_rng(seed)
    return PropensityPredictions(
        row=np.arange(N) * 2,
        id=np.array([f"c{i}" for i in range(N)], dtype=object),
        moment=np.array(["2024-03-01"] * N, dtype="datetime64[s]"),
        split=np.arange(N) % 4,
        weight=np.ones(N),
        events=np.arange(N),
        label=random.random((N, 2)),
        time=np.stack([random.random(N), np.full(N, np.nan)], 1),
        score=random.random((N, 2), dtype=np.float32),
        low=np.zeros((N, 2), np.float32),
        high=np.ones((N, 2), np.float32),
        raw=random.random((N, 2), dtype=np.float32),
        survival=random.random((N, 3), dtype=np.float32),
        traits=np.arange(N * traits).reshape(N, traits) % 3,
        reason=np.full((N, 2, R), -1),
        push=np.zeros((N, 2, R), np.float32),
        tasks=("churn", "spend"),
        kinds=("hazard", "value"),
        units=("days", "USD"),
        horizons=(None, 90.0),
        edges=((30.0, 60.0, 90.0), ()),
        features=("age",),
        trait_names=("plan",) * traits,
        trait_values=(("a", "b"),) * traits,
    )


@pytest.mark.parametrize(("R", "traits"), [(2, 1), (0, 0)])
def test_written_and_read_again(tmp_path: Path, R: int, traits: int) -> None:
    made = predictions(R=R, traits=traits)
    made.write(tmp_path)
    again = read_predictions(tmp_path)
    assert isinstance(again, PropensityPredictions)
    for name, value in vars(made).items():
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(getattr(again, name), value, err_msg=name)
        else:
            assert getattr(again, name) == value, name


def test_joined_parts_have_each_row_once() -> None:
    whole = predictions(6)
    parts = [whole.select(np.array([3, 4, 5])), whole.select(np.array([0, 1, 2, 3]))]
    np.testing.assert_array_equal(PropensityPredictions.concat(parts).score, whole.score)


def test_frame_names_tasks_and_reasons() -> None:
    frame = predictions().to_frame()
    assert list(frame.columns[:6]) == ["id", "moment", "split", "churn: observed", "churn: time", "churn"]
    assert set(frame["spend: reason 1"]) == {""}
    assert predictions().survival_of(0).shape == (4, 3)
    assert list(predictions().trait("plan")) == ["(not in training)", "a", "b", "(not in training)"]


def test_broken_values_are_refused(tmp_path: Path) -> None:
    made = predictions()
    with pytest.raises(ValueError, match="score is not all finite"):
        PropensityPredictions(**{**vars(made), "score": made.score * np.nan})
    with pytest.raises(ValueError, match="expected"):
        PropensityPredictions(**{**vars(made), "low": made.low[:, :1]})
    with pytest.raises(UserError, match="propensity"):
        PropensityPredictions.read(tmp_path)
