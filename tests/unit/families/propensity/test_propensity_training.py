"""Fits: what is learned, who judges, what is stored, and what is refused."""

import math
import warnings
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import lightning as L
import numpy as np
import pytest
import torch
from propensity_case import ALL, CHURN, CONVERSION, Example, ExampleData, built, example
from tests.unit.families.quiet_trainer import fit_quietly

from wanamaker.errors import UserError
from wanamaker.families.propensity import PropensityNet
from wanamaker.families.propensity.module import PropensityModule
from wanamaker.families.propensity.rows import HeldOutRows
from wanamaker.predictions import PropensityPredictions


def fitted(made: Example, val: bool = True, epochs: int = 4, rate: float = 0.02, **options) -> tuple:
    """A module after a fit, its trainer and its data."""
    L.seed_everything(0, verbose=False)
    data = ExampleData(made, val)
    net = PropensityNet(**{"hidden": (8,), "replicas": 2, "dropout": 0.0, "reasons": {"steps": 4}, **options})
    module = PropensityModule(net, partial(torch.optim.AdamW, lr=rate), weight_decays={"wide": 0.1})
    return module, fit_quietly(module, data, epochs), data


def quiet(function, *arguments, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*arguments, verbose=False, **options)


def predicted(trainer: L.Trainer, module: PropensityModule, data: ExampleData) -> PropensityPredictions:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return PropensityPredictions.concat(trainer.predict(module, datamodule=data))


def test_all_tasks_are_learned_from_events_and_features_together() -> None:
    made = example(1600, ALL, events=True)
    module, trainer, data = fitted(made, epochs=8, sequence={"hidden": 8}, task_weighting="uncertainty", wide=True)
    logged = trainer.callback_metrics
    assert {f"val/{task.name}/loss" for task in ALL} | {"val/loss", "val/conversion/auc"} <= set(logged)
    assert float(logged["val/loss"]) < 0.95
    mean = np.mean([float(logged[f"val/{task.name}/loss"]) for task in ALL])
    assert float(logged["val/loss"]) == pytest.approx(mean, rel=1e-5)
    (tested,) = quiet(trainer.test, module, datamodule=data)
    assert tested["test/conversion/auc"] > 0.7
    assert tested["test/orders/loss"] < 0.7
    table = predicted(trainer, module, data)
    test = table.split == 2
    assert np.corrcoef(table.score[test, 0], made.probability[test])[0, 1] > 0.8
    assert table.reason.shape == (1600, 4, 3)
    assert table.horizons == (None,) * 4
    assert np.isfinite(table.push).all()


def test_cross_fitted_rows_are_judged_by_members_that_never_saw_them() -> None:
    made = example(400)
    module, _trainer, data = fitted(made, val=False, epochs=2, folds=3)
    net = module.net
    batch = made.batch
    with torch.no_grad():
        before = net(batch, torch.from_numpy(data.split))
        fold = net.fold(batch) == 1
        for member in (0, 2, 3, 5):  # those that learned from fold 1
            for value in net.trunk.towers[0].weights:
                value[member] += 1.0
        after = net(batch, torch.from_numpy(data.split))
        new = net(batch)
    same = torch.isclose(before.raw[:, 0], after.raw[:, 0])
    train = torch.from_numpy(data.split == 0)
    assert same[train & fold].all()
    assert not same[train & ~fold].any()
    assert not torch.isclose(new.raw, after.raw)[train & fold].all()


def test_the_base_rate_scores_one_and_a_fit_is_reproducible() -> None:
    made = example(400, (CONVERSION, CHURN))
    _module, trainer, _data = fitted(made, epochs=1, rate=0.0)
    assert float(trainer.callback_metrics["val/loss"]) == pytest.approx(1.0, abs=1e-6)
    one, two = (fitted(made, epochs=2)[0].state_dict() for _ in range(2))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_calibration_is_stored_and_does_not_change_the_monitor() -> None:
    made = example(1200)
    values = {}
    for choice in ("none", "isotonic"):
        module, trainer, _data = fitted(made, epochs=2, calibration=choice)
        values[choice] = float(trainer.callback_metrics["val/loss"])
        assert bool(module.net.calibration.used[0]) == (choice == "isotonic")
        assert int(module.net.judged_split) == 1
    assert values["none"] == values["isotonic"]


def test_labels_may_be_missing() -> None:
    made = example(400, (CONVERSION, CHURN))
    label = made.batch.label.clone()
    label[::3, 0] = math.nan
    label[:, 1] = math.nan
    _module, trainer, _data = fitted(replace(made, batch=made.batch._replace(label=label)), epochs=2)
    logged = trainer.callback_metrics
    assert math.isfinite(float(logged["val/loss"]))
    assert "val/churn/loss" not in logged
    assert float(logged["val/loss"]) == pytest.approx(float(logged["val/conversion/loss"]))


def test_a_checkpoint_brings_its_own_schema_and_refuses_other_data() -> None:
    made = example(200, ALL)
    module, trainer, data = fitted(made, epochs=1)
    checkpoint: dict = {}
    module.on_save_checkpoint(checkpoint)
    fresh = PropensityModule(PropensityNet(hidden=(8,), replicas=2, dropout=0.0), torch.optim.AdamW)
    fresh.on_load_checkpoint(checkpoint)
    fresh.load_state_dict(module.state_dict())
    (straight,), (rebuilt,) = (quiet(trainer.test, one, datamodule=data) for one in (module, fresh))
    assert straight == rebuilt
    other = PropensityModule(built(example(20, (CONVERSION,))), torch.optim.AdamW)
    with pytest.raises(UserError, match="other tasks"):
        other.on_load_checkpoint(checkpoint)
    with pytest.raises(UserError, match="not one of the propensity family"):
        other.on_load_checkpoint({})


def test_mistakes_are_told() -> None:
    made = example(200)
    with pytest.raises(UserError, match=r"data\.split\.val"):
        fitted(made, val=False, folds=1)
    held = SimpleNamespace(streamed=False, codes=np.array([0, 0, 2]))
    with pytest.raises(UserError, match=r"data\.split\.val"):
        PropensityModule(PropensityNet(folds=1), torch.optim.AdamW).preflight(held, ["fit"])
    PropensityModule(PropensityNet(folds=2), torch.optim.AdamW).preflight(held, ["fit"])
    PropensityModule(PropensityNet(folds=1), torch.optim.AdamW).preflight(held, ["predict"])
    with pytest.raises(UserError, match="not finite"):
        fitted(made, rate=1e25, epochs=3, hidden=(8, 8))
    with pytest.raises(UserError, match=r"model\.weight_decays has \['x'\]"):
        PropensityModule(PropensityNet(), torch.optim.AdamW, weight_decays={"x": 1.0})
    nothing = torch.full_like(made.batch.label, math.nan)
    with pytest.raises(UserError, match="has a known label"):
        fitted(replace(made, batch=made.batch._replace(label=nothing)))


def test_the_sample_of_held_out_rows_does_not_depend_on_batches() -> None:
    row = torch.arange(2000)
    found = []
    for size in (100, 700):
        rows = HeldOutRows(500)
        for part in row.flip(0).split(size):
            rows.add(row=part, value=part * 2)
        assert len(rows.here()["row"]) == 2000
        found.append(rows.together(2000, lambda columns: columns))
    assert 350 < len(found[0]["row"]) < 650
    assert torch.equal(found[0]["row"], found[1]["row"])
    assert torch.equal(found[0]["value"], 2 * found[0]["row"])
