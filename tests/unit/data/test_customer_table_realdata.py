"""Public tables through their own configurations: Telco's blanks and hazard, the shoppers' PageValues."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import StratifiedKFold
from tests.unit.data.test_experiment_realdata import options

from wanamaker.data.customer_table import CustomerTableDataModule
from wanamaker.data.experiment_split import TEST, TRAIN
from wanamaker.errors import UserError


@pytest.mark.realdata
def test_telco(data_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    chosen = options("telco_churn", data_dir)
    chosen["split"] = {**chosen["split"], "folds": 5, "fold": 2, "repeat": 1}
    data = CustomerTableDataModule(**{**chosen, "survival": {"time": "tenure", "event": "Churn"}})
    data.setup("fit")
    schema = data.schema
    assert schema.numeric == ("tenure", "MonthlyCharges", "TotalCharges", "survival(tenure)")
    assert len(schema.categorical) == 16
    assert caplog.text.count("'TotalCharges' in 11 rows (the first is row 489)") == 1
    frame = pd.read_csv(chosen["path"])
    left = (frame["Churn"] == "Yes").to_numpy()
    cut = StratifiedKFold(5, shuffle=True, random_state=1).split(frame, left)
    train, test = next(part for fold, part in enumerate(cut) if fold == 2)
    np.testing.assert_array_equal(np.flatnonzero(data.codes == TEST), test)
    assert data.stats.positive_share == (pytest.approx(left[train].mean()),)
    assert data.identifiers(np.array([0]))[0] == "7590-VHVEG"
    # as a hazard: tenure is the time, and TotalCharges, which is tenure times the price, gives it away
    task = {"name": "cancel", "column": "Churn", "positive": "Yes", "time": "tenure", "edges": [1, 6, 12, 24, 72]}
    roles = {**chosen["roles"], "tasks": [{**task, "unit": "months"}]}
    with pytest.raises(UserError, match=r"'TotalCharges' alone explains when 'cancel' happened with an R2 of 0\.9"):
        CustomerTableDataModule(**{**chosen, "roles": roles}).setup("fit")
    data = CustomerTableDataModule(**{**chosen, "roles": {**roles, "drop": ["TotalCharges"]}})
    data.setup("fit")
    assert data.num_rows - (data.codes < 3).sum() == 11  # customers of 0 months
    assert len(data.stats.hazard[0]) == 5


@pytest.mark.realdata
def test_shoppers(data_dir: Path) -> None:
    chosen = options("online_shoppers", data_dir)
    data = CustomerTableDataModule(**chosen)
    data.setup("fit")
    assert "PageValues" not in data.schema.numeric
    assert (len(data.schema.numeric), len(data.schema.categorical)) == (10, 6)
    assert data.leaks == ()
    assert (data.num_rows, (data.codes == TRAIN).sum()) == (12_330, 9864)
    chosen["roles"]["drop"] = []
    with pytest.raises(UserError, match=r"leak: feature 'PageValues' alone tells 'conversion' with an AUC of 0.8"):
        CustomerTableDataModule(**chosen).setup("fit")
    data = CustomerTableDataModule(**{**chosen, "allow": ["PageValues"]})
    data.setup("fit")
    assert [leak.feature for leak in data.leaks] == ["PageValues"]
