"""What a fit refuses before it starts."""

from types import SimpleNamespace

import numpy as np
import psutil
import pytest
from mix_case import TAPS, built, panel_case, some_rows

from wanamaker.errors import UserError
from wanamaker.families.bayesian_mmm import memory
from wanamaker.families.bayesian_mmm.inference import Inference


def case(periods: int = 40, learnt: np.ndarray | None = None, **options):
    panel = panel_case(periods=periods)
    learnt = some_rows(panel) if learnt is None else learnt
    model, _ = built(panel, learnt, **options)
    return model, SimpleNamespace(panel=panel, train_mask=learnt, taps=TAPS)


def test_a_fit_that_fits_is_let_through() -> None:
    model, data = case()
    memory.check_memory(model, Inference(), data, 200)
    parts = memory.memory_estimate(model, Inference(), data, 200)
    assert 0.6e9 < sum(parts.values()) < 2e9
    more = memory.memory_estimate(model, Inference(chains=64), data, 400)
    assert more["draws"] > 2 * parts["draws"]
    assert more["predictions"] == 2 * parts["predictions"]


def test_too_large_a_fit_is_refused_with_what_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=0.7e9))
    model, data = case()
    memory.check_memory(model, Inference(), data, 200)
    with pytest.raises(
        UserError,
        match=r"about .* GB of memory and 0.7 GB are free; most is for predictions .*: 4 series, 40 periods, "
        r"100000 draws.*Lower model.draws",
    ):
        memory.check_memory(model, Inference(), data, 100_000)


def test_fewer_rows_than_parameters_are_refused() -> None:
    panel = panel_case(periods=40)
    learnt = np.zeros(panel.kpi.shape, bool)
    learnt[:, 10:18] = True
    model, data = case(learnt=learnt)
    with pytest.raises(
        UserError, match=r"The training window has 32 rows \(4 series\) for 73 parameters.*\(data.trend\)"
    ):
        memory.check_memory(model, Inference(), data, 200)
    model, data = case(learnt=learnt, collapse="series")
    with pytest.raises(UserError, match=r"for \d+ parameters: the result would be the prior"):
        memory.check_memory(model, Inference(), data, 200)


def test_a_series_that_shares_no_period_is_refused() -> None:
    panel = panel_case(periods=40)
    learnt = np.ones(panel.kpi.shape, bool)
    learnt[2, :30] = False
    learnt[[0, 1, 3], 30:] = False
    model, data = case(learnt=learnt)
    with pytest.raises(
        UserError,
        match=r"Series s2 shares no period of training with any other series \(s2 has 2024-08-04 to 2024-10-06\)"
        r".*data.exclude_series=\['s2'\]",
    ):
        memory.check_memory(model, Inference(), data, 200)
