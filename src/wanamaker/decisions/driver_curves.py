"""The curves of prices and promotions: their part of the linear predictor, and its exact derivative.

Axis letters: S draws, G series, D drivers, J knots of a curve.
"""

from __future__ import annotations

import numpy as np

from wanamaker.decisions.curves import HermiteCurves
from wanamaker.predictions.mix import MixResponse


def driver_part(
    response: MixResponse, driver: int, values: np.ndarray, series: np.ndarray | int, *, per_draw: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Part of eta that a driver makes at some values, and d part / d value.

    Args:
        response: of a mix model.
        driver: its number, 0..D-1.
        values: [...], units of the file; above 0 for a driver whose transform is log_ratio.
        series: number of each value's series, broadcast against ``values``.
        per_draw: values are [S, ...], another for each draw, and ``series`` is broadcast against [...].

    Returns:
        Two arrays [S, ...]: the part, units of the linear predictor; and its derivative, per unit of the driver.
    """
    values = np.asarray(values, np.float64)
    series = np.broadcast_to(np.asarray(series), values.shape[1:] if per_draw else values.shape)
    reference = response.driver_reference[series, driver]
    transform = response.driver_transform[driver]
    if transform == "log_ratio":
        z, step = np.log(values / reference), 1 / values
    elif transform == "scaled":
        z, step = values / reference, 1 / reference
    else:
        z, step = values - reference, np.ones_like(values)
    curves = HermiteCurves(
        response.driver_grid[driver], response.driver_curve[:, driver], response.driver_slope[:, driver]
    )
    S = response.num_draws
    height, slope = (a.reshape(S, *series.shape) for a in curves(z.reshape(S if per_draw else 1, -1)))
    amplitude = response.driver_amplitude[:, series, driver]
    return amplitude * height, amplitude * slope * step


def own_price_values(response: MixResponse, driver: np.ndarray, series: np.ndarray) -> np.ndarray:
    """The price at which each row's own series sells, NaN where it has none.

    Args:
        response: of a mix model.
        driver: [N, D].
        series: [N].
    """
    number = response.own_price[series]
    if driver.shape[1] == 0:
        return np.full(len(series), np.nan)
    return np.where(number >= 0, driver[np.arange(len(series)), np.maximum(number, 0)], np.nan)
