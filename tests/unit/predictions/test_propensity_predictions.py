"""Propensity predictions as arrays, frames and files."""

from pathlib import Path

import numpy as np
import pytest
from tests.unit.predictions.row_examples import propensity_rows

from wanamaker.errors import UserError
from wanamaker.predictions import PropensityPredictions, read_predictions


@pytest.mark.parametrize(("R", "traits"), [(2, 1), (0, 0)])
def test_written_and_read_again(tmp_path: Path, R: int, traits: int) -> None:
    made = propensity_rows(R=R, traits=traits)
    made.write(tmp_path)
    again = read_predictions(tmp_path)
    assert isinstance(again, PropensityPredictions)
    for name, value in vars(made).items():
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(getattr(again, name), value, err_msg=name)
        else:
            assert getattr(again, name) == value, name


def test_joined_parts_have_each_row_once() -> None:
    whole = propensity_rows(6)
    parts = [whole.select(np.array([3, 4, 5])), whole.select(np.array([0, 1, 2, 3]))]
    np.testing.assert_array_equal(PropensityPredictions.concat(parts).score, whole.score)


def test_frame_names_tasks_and_reasons() -> None:
    frame = propensity_rows().to_frame()
    assert list(frame.columns[:6]) == ["id", "moment", "split", "churn: observed", "churn: time", "churn"]
    assert set(frame["spend: reason 1"]) == {""}
    assert propensity_rows().survival_of(0).shape == (4, 3)
    assert list(propensity_rows().trait("plan")) == ["(not in training)", "a", "b", "(not in training)"]


def test_broken_values_are_refused(tmp_path: Path) -> None:
    made = propensity_rows()
    with pytest.raises(ValueError, match="score is not all finite"):
        PropensityPredictions(**{**vars(made), "score": made.score * np.nan})
    with pytest.raises(ValueError, match="expected"):
        PropensityPredictions(**{**vars(made), "low": made.low[:, :1]})
    with pytest.raises(UserError, match="propensity"):
        PropensityPredictions.read(tmp_path)
