"""`MixPosterior` and its file."""

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from tests.unit.decisions.mix_example import example
from tests.unit.decisions.posterior_example import fitted_mix

from wanamaker.errors import UserError
from wanamaker.predictions import MixPosterior, MixPredictions, read_predictions


@pytest.fixture(scope="module")
def mix() -> MixPredictions:
    return fitted_mix(organic=1)


def same(a: object, b: object) -> None:
    if isinstance(a, np.ndarray):
        assert isinstance(b, np.ndarray)
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    elif isinstance(a, dict):
        assert set(a) == set(b)
        for name in a:
            same(a[name], b[name])
    else:
        assert a == b or (a != a and b != b)


@pytest.mark.parametrize("engine", ["hmc", "svi"])
def test_round_trip(tmp_path: Path, engine: str) -> None:
    kpi = fitted_mix(seed=1).posterior.observed.copy()
    mix = fitted_mix(seed=1, kpi=kpi, engine=engine, khat=0.4 if engine == "svi" else np.nan, organic=1)
    gaps = mix.posterior.observed.copy()
    gaps[1, 5:8] = np.nan
    posterior = replace(mix.posterior, observed=gaps)
    path = posterior.write(tmp_path)
    assert path == tmp_path / "posterior.nc"
    again = MixPosterior.read(tmp_path)
    for field in fields(MixPosterior):
        same(getattr(posterior, field.name), getattr(again, field.name))
    assert path.stat().st_size < 3_000_000
    assert [p.name for p in tmp_path.iterdir()] == ["posterior.nc"], "no temporary file is left"


def test_the_predictions_keep_it(tmp_path: Path, mix: MixPredictions) -> None:
    mix.write(tmp_path)
    again = read_predictions(tmp_path)
    same(again.posterior.parameters["roi"], mix.posterior.parameters["roi"])
    assert again.posterior.channels == mix.response.channels
    assert again.select(np.arange(5)).posterior is again.posterior
    joined = MixPredictions.concat([mix.select(np.arange(10)), mix.select(np.arange(10, len(mix)))])
    assert joined.posterior is mix.posterior
    other_rank = replace(mix.select(np.arange(10)), posterior=None)
    assert MixPredictions.concat([other_rank, mix.select(np.arange(10, 20))]).posterior is mix.posterior


def test_a_model_without_one(tmp_path: Path, mix: MixPredictions) -> None:
    mix.write(tmp_path)
    example().write(tmp_path)
    assert read_predictions(tmp_path).posterior is None, "the file of another model is not its posterior"


@pytest.mark.filterwarnings("ignore:Estimated shape parameter:UserWarning")
def test_inference_data_is_what_arviz_expects(mix: MixPredictions) -> None:
    import arviz as az

    data = mix.posterior.inference_data()
    assert data.posterior_predictive["kpi"].dims == ("replicate", "series", "time")
    assert list(data.posterior_predictive["series"].values) == list(mix.posterior.series)
    assert data.observed_data["time"].values[0] == mix.posterior.dates[0]
    assert az.rhat(data)["effect"].max() < 1.03
    assert np.isfinite(az.loo(data).elpd_loo)
    assert set(data.attrs) >= {"engine", "khat", "kpi_sum", "finished", "seconds"}


def test_damaged_or_missing_files(tmp_path: Path, mix: MixPredictions) -> None:
    with pytest.raises(UserError, match="No posterior at"):
        MixPosterior.read(tmp_path)
    (tmp_path / "posterior.nc").write_bytes(b"not netCDF")
    with pytest.raises(UserError, match=r"Cannot read .*posterior.nc.*evaluate.py"):
        MixPosterior.read(tmp_path)
    mix.write(tmp_path)
    (tmp_path / "posterior.nc").unlink()
    with pytest.raises(UserError, match="No posterior at"):
        read_predictions(tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda p: {"engine": "laplace"}, "engine='laplace'; choose from svi"),
        (lambda p: {"observed": p.observed[:, 1:]}, r"observed has shape \(4, 109\), expected \(4, 110\)"),
        (lambda p: {"parameters": {k: v for k, v in p.parameters.items() if k != "roi"}}, "lacks roi"),
        (lambda p: {"prior": {k: v for k, v in p.prior.items() if k != "effect"}}, "differ in effect"),
        (lambda p: {"coords": {"channel": p.channels}}, "coords has no series"),
        (lambda p: {"coords": {**p.coords, "series": ("a",) * 4}}, "has a label twice"),
        (lambda p: {"dims": {**p.dims, "roi": ("funnel",)}}, "names 'funnel'"),
        (lambda p: {"replicated_draw": p.replicated_draw + 600}, "but there are 600 draws"),
    ],
)
def test_what_does_not_fit_is_refused(mix: MixPredictions, change: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        replace(mix.posterior, **change(mix.posterior))
