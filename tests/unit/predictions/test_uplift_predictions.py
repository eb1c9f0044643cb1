"""Uplift predictions on disk."""

from pathlib import Path

import pytest
from tests.unit.predictions.row_examples import same, uplift_rows

from wanamaker.predictions import read_predictions


@pytest.mark.parametrize("names", [False, True])
def test_what_is_written_is_read(tmp_path: Path, names: bool):
    whole = uplift_rows(names=names)
    assert whole.write(tmp_path) == tmp_path / "uplift.parquet"
    assert same(read_predictions(tmp_path), whole)
