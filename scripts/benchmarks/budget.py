"""The budget optimiser: against known optima, and its time at 50 channels x 52 weeks x 20 geos.

    python scripts/benchmarks/budget.py                      # all
    python scripts/benchmarks/budget.py --only large --draws 16
    python scripts/benchmarks/budget.py --only large --draws 1 --shape s
    python scripts/benchmarks/budget.py --only concave,s_curves,slsqp

Targets: within 0.1 % of the known optimum; 52,000 cells with a total, bounds per channel and group limits in under a
minute on 2 cores.

concave: curves 1 - exp(-x) without carry-over, whose optimum is found by bisection on the price of the budget (the KKT
conditions in closed form); the plan has one variable per cell. s_curves: x^3 / (1 + x^3) for three channels, five
seeds, against brute force over a grid of shares of 1/200; "equal" is what the equal split brings. slsqp: the same
concave problem given to SciPy's SLSQP on unscaled money from the equal split, as other tools do, at channel level.
large: one variable per cell, carry-over of 13 weeks, total, bounds on each of the 50 channels and two groups; "gap" is
the proven relative distance to the best conceivable plan. Seconds are wall seconds of `optimise_budget`, naive plans,
proof and all; evaluations are of the KPI with its gradient. Data are seeded.
"""

from __future__ import annotations

import argparse
import os
import time

import numpy as np
from scipy.optimize import brentq, minimize

from wanamaker.decisions.budget import BudgetPlan, optimise_budget
from wanamaker.decisions.budget_options import BudgetOptions
from wanamaker.decisions.response import ResponseSurface, plan_window
from wanamaker.predictions import MixPredictions, MixResponse

PARTS = ("concave", "s_curves", "slsqp", "large")
FULL = ("channel", "series", "period")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default=",".join(PARTS), help=f"comma-separated, of {', '.join(PARTS)}")
    parser.add_argument("--draws", default="1,16", help="numbers of draws of the large problem")
    parser.add_argument("--shape", choices=("concave", "s"), default="concave", help="of the large problem's curves")
    parser.add_argument("--channels", type=int, default=50)
    parser.add_argument("--geos", type=int, default=20)
    args = parser.parse_args()
    print(f"{os.cpu_count()} cores, OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'unset')}")
    for part in args.only.split(","):
        if part not in PARTS:
            parser.error(f"--only {part}: choose from {', '.join(PARTS)}")
    if "concave" in args.only:
        concave()
    if "s_curves" in args.only:
        s_curves()
    if "slsqp" in args.only:
        slsqp()
    if "large" in args.only:
        for draws in args.draws.split(","):
            large(int(draws), args.channels, args.geos, args.shape)


def concave() -> None:
    for channels, geos in ((3, 1), (8, 5), (20, 10)):
        predictions = panel(channels, geos, draws=1, taps=1)
        window, response = plan_window(predictions), predictions.response
        total = float(window.spend.sum())
        size = np.broadcast_to(response.amplitude[0][:, None], window.spend.shape)
        scale = np.broadcast_to(response.media_scale[:, None], window.spend.shape)

        best, price = closed_form(size, scale, total)
        found, seconds = timed(predictions, BudgetOptions(resolution=FULL))
        print(
            f"concave   {found.variables.count:6,d} cells: below the optimum by {1 - found.best.gain[0] / best:.1e} of "
            f"it, price off by {abs(found.budget_price / price - 1):.1e}; scaled history is "
            f"{1 - reference(found) / best:.1%} below; {seconds:.1f} s"
        )


def closed_form(size: np.ndarray, scale: np.ndarray, total: float) -> tuple[float, float]:
    """Value and price of the budget at the optimum of sum size (1 - exp(-money / scale))."""

    def plan(price: float) -> np.ndarray:
        return scale * np.log(np.maximum(size / scale / price, 1.0))

    price = brentq(lambda p: plan(p).sum() - total, 1e-9, (size / scale).max(), xtol=1e-15, rtol=1e-14)
    return float((size * -np.expm1(-plan(price) / scale)).sum()), price


def s_curves() -> None:
    for seed in range(5):
        predictions = panel(3, 1, draws=1, taps=1, shape="s", seed=seed)
        found, seconds = timed(predictions, BudgetOptions())
        surface = ResponseSurface(found.response, found.window)
        pattern = found.window.spend / found.window.spend.sum(axis=(0, 1))
        steps = 200
        table = np.stack(
            [surface.parts(pattern * found.total * k / steps)[0].sum(axis=(0, 1)) for k in range(steps + 1)]
        )
        best = max(
            table[i, 0] + table[j, 1] + table[steps - i - j, 2] for i in range(steps + 1) for j in range(steps + 1 - i)
        )
        equal = float(found.naive["equal"].gain[0])
        print(
            f"s_curves  seed {seed}: {found.best.gain[0] / best - 1:+.1e} of the brute-force optimum, the equal split "
            f"is {equal / best - 1:+.1%}; from {len(found.starts)} starts, best '{found.start}'; {seconds:.1f} s"
        )


def slsqp() -> None:
    predictions = panel(8, 5, draws=1, taps=1)
    found, seconds = timed(predictions, BudgetOptions())
    surface, window = ResponseSurface(found.response, found.window), found.window
    pattern = window.spend / window.spend.sum(axis=(0, 1))
    nothing = surface.value(0 * window.spend)[0]
    count = pattern.shape[2]
    equal = np.full(count, found.total / count)
    result = minimize(
        lambda money: nothing - surface.value(pattern * money)[0],
        equal,
        method="SLSQP",
        bounds=[(0, found.total)] * count,
        constraints={"type": "eq", "fun": lambda money: money.sum() - found.total},
    )
    print(
        f"slsqp     8 channels: ours brings {found.best.gain[0]:,.1f} in {seconds:.2f} s, SLSQP {-result.fun:,.1f} "
        f"({result.message.strip()}), the equal split {surface.value(pattern * equal)[0] - nothing:,.1f}"
    )


def large(draws: int, channels: int, geos: int, shape: str) -> None:
    predictions = panel(channels, geos, draws=draws, taps=13, shape=shape)
    names, series = predictions.response.channels, predictions.response.series
    options = BudgetOptions(
        resolution=FULL,
        bounds={"default": ["60%", "150%"]},
        groups=[
            {"name": "first eight", "channels": list(names[:8]), "max": "90%"},
            {"name": "first geos", "series": list(series[: max(1, geos // 4)]), "min": "105%"},
        ],
    )
    found, seconds = timed(predictions, options)
    value = found.score["plan"]
    print(
        f"large     {found.variables.count:6,d} variables ({shape}), S = {draws}: {seconds:.1f} s, "
        f"{found.solution.evaluations:,} evaluations; {value / found.score['scaled history'] - 1:+.2%} against the "
        f"scaled history, {value / found.score[found.best_naive] - 1:+.2%} against the best naive plan; gap "
        f"{found.gap / value:.1e}, KKT residual {found.solution.kkt_residual:.1e}, total off by "
        f"{abs(found.best.total - found.window.spend.sum()):.1e}"
    )


def reference(plan: BudgetPlan) -> float:
    return float(plan.naive["scaled history"].gain.mean())


def timed(predictions: MixPredictions, options: BudgetOptions) -> tuple[BudgetPlan, float]:
    start = time.perf_counter()
    found = optimise_budget(predictions, options)
    return found, time.perf_counter() - start


def panel(
    channels: int, geos: int, *, draws: int, taps: int, shape: str = "concave", seed: int = 0, periods: int = 60
) -> MixPredictions:
    """A weekly mix model with known curves, as a family would hand it over."""
    rng = np.random.default_rng(seed)
    S, G, C, T, L = draws, geos, channels, periods, taps
    grid = np.broadcast_to(np.linspace(0, 8, 81), (C, 81)).copy()
    if shape == "concave":
        value, slope = -np.expm1(-grid), np.exp(-grid)
    else:
        value, slope = grid**3 / (1 + grid**3), 3 * grid**2 / (1 + grid**3) ** 2
    size = rng.uniform(0.5, 2.0, (G, 1))
    scale = 50.0 * size * rng.uniform(0.6, 1.8, C)
    adstock = (rng.uniform(0.2, 0.7, C) + 0.02 * rng.standard_normal((S, C)))[..., None] ** np.arange(L)
    media = rng.uniform(0.2, 1.3, (G, T + L - 1, C)) * scale[:, None]
    amplitude = 100.0 * rng.uniform(0.5, 2.0, C) * size * np.exp(0.15 * rng.standard_normal((S, 1, C)) * (S > 1))
    response = MixResponse(
        series=tuple(f"geo {g}" for g in range(G)),
        channels=tuple(f"channel {c}" for c in range(C)),
        drivers=(),
        link="identity",
        kpi="revenue",
        kpi_unit="EUR",
        money_unit="EUR",
        price_unit="EUR",
        national=np.zeros(C, dtype=bool),
        kpi_value=1.0,
        period="W-MON",
        periods_per_year=365.25 / 7,
        paid=np.ones(C, bool),
        adstock=adstock / adstock.sum(axis=-1, keepdims=True),
        adstock_first=np.ones(C, bool),
        media_scale=scale,
        cost_per_media=np.ones((G, C)),
        grid=grid,
        curve=np.broadcast_to(value, (S, C, 81)).copy(),
        slope=np.broadcast_to(slope, (S, C, 81)).copy(),
        amplitude=amplitude,
        media_max=media.max(axis=1),
        driver_kind=(),
        driver_transform=(),
        driver_reference=np.zeros((G, 0)),
        driver_grid=np.zeros((0, 2)),
        driver_curve=np.zeros((S, 0, 2)),
        driver_slope=np.zeros((S, 0, 2)),
        driver_amplitude=np.zeros((S, G, 0)),
        driver_min=np.zeros((G, 0)),
        driver_max=np.zeros((G, 0)),
        own_price=np.full(G, -1),
        noise_sd=np.ones((S, G)),
    )
    rows = media[:, L - 1 :].reshape(G * T, C)
    return MixPredictions(
        row=np.arange(G * T),
        series=np.repeat(np.arange(G), T),
        date=np.tile(np.datetime64("2023-01-02") + 7 * np.arange(T), G).astype("datetime64[D]"),
        split=np.zeros(G * T, np.int64),
        kpi=np.full(G * T, np.nan),
        media=rows,
        spend=rows.copy(),
        driver=np.zeros((G * T, 0)),
        parts=np.full((S, G * T, 1), 1000.0, np.float32),
        part_names=("baseline",),
        part_kinds=("baseline",),
        response=response,
        lead_in=media[:, : L - 1],
    )


if __name__ == "__main__":
    main()
