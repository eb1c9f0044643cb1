"""Price elasticities: exact, per series and weighted, with either link and every transform."""

import dataclasses

import numpy as np
import pytest
from tests.unit.decisions.mix_example import example

from wanamaker.decisions.decomposition import choose_rows
from wanamaker.decisions.driver_curves import driver_part
from wanamaker.decisions.elasticity import driver_elasticity
from wanamaker.decisions.response import driver_parts

LINKS = pytest.mark.parametrize("link", ["identity", "log"])


def test_a_constant_elasticity_is_returned_as_it_is() -> None:
    predictions = example(link="log")
    found = driver_elasticity(predictions, at=[0.8, 1.0, 1.4], relative=True)
    truth = predictions.response.driver_slope[:, 0, 0]
    np.testing.assert_allclose(found.draws, np.broadcast_to(truth[:, None, None], (8, 2, 3)), rtol=1e-9)
    np.testing.assert_allclose(found.total(), np.broadcast_to(truth[:, None], (8, 3)), rtol=1e-9)
    assert found.own.all()
    assert found.driver == ("price", "price")


@LINKS
@pytest.mark.parametrize(
    ("driver", "transform"),
    [("price", "log_ratio"), ("price", "scaled"), ("price", "difference"), ("display", "difference")],
)
def test_elasticities_are_log_derivatives_of_the_predicted_kpi(link: str, driver: str, transform: str) -> None:
    predictions = example(link=link)
    rng = np.random.default_rng(3)
    response = predictions.response
    curve = -np.sort(-rng.standard_normal((8, 2, 21)), axis=2) * 0.3
    response = dataclasses.replace(
        response,
        driver_transform=(transform, "difference"),
        driver_reference=np.array([[1.0, 0.0], [1.0, 0.0]]) if transform == "scaled" else response.driver_reference,
        driver_grid=np.stack([np.linspace(-2, 9, 21)] * 2),
        driver_curve=curve,
        driver_slope=np.gradient(curve, 11 / 20, axis=2),
    )
    values = predictions.driver.reshape(2, 60, 2)
    made = driver_parts(response, values).reshape(8, 120, 2)
    parts = predictions.parts.copy()
    parts[..., 2:4] = made
    predictions = dataclasses.replace(predictions, response=response, parts=parts)
    at = 1.2 if driver == "display" else 5.0
    number = response.drivers.index(driver)

    def sold(value: float) -> np.ndarray:
        changed = values.copy()
        changed[..., number] = value
        eta = predictions.parts.astype(np.float64).reshape(8, 2, 60, -1).copy()
        eta[..., 2 + number] = driver_parts(response, changed)[..., number]
        eta = eta.sum(axis=-1)
        return (np.exp(eta) if link == "log" else eta).sum(axis=2)

    step = 1e-5
    found = driver_elasticity(predictions, None if driver == "price" else driver, at=[at])
    np.testing.assert_allclose(found.kpi[..., 0], sold(at), rtol=1e-6)
    slope = (sold(at * (1 + step)) - sold(at * (1 - step))) / (2 * step)
    np.testing.assert_allclose(found.draws[..., 0], slope / sold(at), rtol=2e-5, atol=1e-7)
    np.testing.assert_allclose(found.total()[:, 0], slope.sum(axis=1) / sold(at).sum(axis=1), rtol=2e-5, atol=1e-7)


def test_values_of_each_draw() -> None:
    response = example().response
    values = np.random.default_rng(0).uniform(8, 12, (8, 2))
    part, slope = driver_part(response, 0, values, np.arange(2), per_draw=True)
    for s in range(8):
        np.testing.assert_allclose(part[s], driver_part(response, 0, values[s], np.arange(2))[0][s])
        np.testing.assert_allclose(slope[s], driver_part(response, 0, values[s], np.arange(2))[1][s])


def test_windows_missing_prices_and_series_without_a_price() -> None:
    predictions = example(link="identity", geos=3)
    driver = predictions.driver.copy()
    driver[5, 0] = np.nan
    response = dataclasses.replace(predictions.response, own_price=np.array([0, -1, 0]))
    predictions = dataclasses.replace(predictions, driver=driver, response=response)
    rows = choose_rows(predictions, end="2023-06-01")
    found = driver_elasticity(predictions, rows=rows)
    assert found.series == ("geo 0", "geo 2")
    known = driver[(predictions.series == 0) & rows, 0]
    assert found.value[0, 0] == pytest.approx(np.nanmean(known))
    assert np.isnan(known).sum() == 1
    frame = found.to_frame()
    assert frame["series"].tolist() == ["geo 0", "geo 2", "all"]
    assert (frame["elasticity"] < 0).all()
    assert (frame["elasticity_low_90"] < frame["elasticity_high_90"]).all()
