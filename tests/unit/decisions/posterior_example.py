"""A Bayesian mix model small enough to be solved exactly: linear in features that are given, Gaussian everywhere.

`fitted_mix` is the posterior of one data set as any Bayesian family would hand it over; its draws are independent and
exact, so that what the diagnosis finds in them lies in the data.

Axis letters: S draws, G series, T periods, C channels, P columns of the design.
"""

from __future__ import annotations

import numpy as np

from wanamaker.predictions import MixPosterior, MixPredictions, MixResponse

TAPS = 6
DECAY = 0.4
NAMES = ("TV", "Search", "Social", "Radio", "Podcast", "Print", "Video", "Display")
PRIOR_MEAN = 0.14  # of the media coefficients: 0.2 of the level without media, as a share of the level with them
START = np.datetime64("2022-01-03")


def spends(seed: int = 0, geos: int = 4, periods: int = 110, channels: int = 4) -> np.ndarray:
    """Money [G, T + TAPS - 1, C] that follows nothing but its own AR(1) path, partly alike in all series."""
    rng = np.random.default_rng(seed)
    N = periods + TAPS - 1
    paths = []
    for size in (1, geos):
        step = rng.standard_normal((size, N + 20, channels))
        path = np.zeros_like(step)
        for t in range(1, N + 20):
            path[:, t] = 0.6 * path[:, t - 1] + 0.8 * step[:, t]
        paths.append(path[:, 20:])
    mixed = 0.6 * paths[0] + 0.8 * paths[1]
    return 1000.0 * np.exp(0.7 * mixed) * (rng.random((geos, N, channels)) < 0.85)


def carried(spend: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Features [G, T, C] in 0..1 of money [G, T + TAPS - 1, C], and their scale [G, C]."""
    scale = np.maximum(spend.mean(axis=1), 1e-9)
    weights = DECAY ** np.arange(TAPS)
    x, T = spend / scale[:, None], spend.shape[1] - TAPS + 1
    taken = sum(w * x[:, TAPS - 1 - lag : TAPS - 1 - lag + T] for lag, w in enumerate(weights / weights.sum()))
    return 1 - np.exp(-taken), scale


def sales(spend: np.ndarray, seed: int = 0, noise: float = 0.04, demand: np.ndarray | None = None) -> np.ndarray:
    """KPI [G, T]: level, trend, season, media worth 0.12 of the level each, noise, and hidden demand [G, T]."""
    rng = np.random.default_rng(seed + 77)
    features, _ = carried(spend)
    G, T, C = features.shape
    time = np.arange(T)
    relative = 1 + 0.05 * time / T + 0.08 * np.sin(2 * np.pi * time / 52.18) + features @ np.full(C, 0.2)
    relative = relative + noise * rng.standard_normal((G, T)) + (0 if demand is None else demand)
    return 20_000.0 * np.linspace(0.7, 1.5, G)[:, None] * relative


def fitted_mix(
    spend: np.ndarray | None = None,
    kpi: np.ndarray | None = None,
    *,
    seed: int = 0,
    engine: str = "hmc",
    chains: int = 4,
    draws: int = 150,
    shown: int = 60,
    prior_sd: float = 0.25,
    held_out: int = 16,
    link: str = "identity",
    khat: float = np.nan,
    organic: int = 0,
    finished: bool = True,
) -> MixPredictions:
    """Predictions with their posterior.

    Args:
        spend: money [G, T + TAPS - 1, C]; None is `spends(seed)`.
        kpi: [G, T]; None is `sales(spend, seed)`.
        seed: of everything random.
        engine: of `MixPosterior`; "svi" makes one chain.
        chains, draws: of the posterior.
        shown: S, draws in the predictions.
        prior_sd: of the media coefficients, in shares of the level; their prior mean is the truth.
        held_out: so many last periods are test.
        link: "log" fits the logarithm of the KPI.
        khat: of the guide.
        organic: that many of the last channels cost nothing.
        finished: as in `MixPosterior`.
    """
    rng = np.random.default_rng(seed + 5)
    spend = spends(seed) if spend is None else spend
    kpi = sales(spend, seed) if kpi is None else kpi
    features, scale = carried(spend)
    G, T, C = features.shape
    names = NAMES[:C]
    time = np.arange(T)
    train = np.broadcast_to(time < T - held_out, (G, T))
    level = np.nanmean(np.where(train, kpi, np.nan), axis=1) if link == "identity" else np.ones(G)
    y = kpi / level[:, None] if link == "identity" else np.log(kpi)

    angle = 2 * np.pi * time / 52.18
    shared = np.stack([time / T - 0.5, np.sin(angle), np.cos(angle), np.sin(2 * angle), np.cos(2 * angle)], axis=1)
    design = np.concatenate(
        [
            np.broadcast_to(np.eye(G)[:, None], (G, T, G)),
            np.broadcast_to(shared, (G, T, 5)),
            features,
        ],
        axis=2,
    )  # [G, T, P]
    P = design.shape[2]
    rows, target = design[train], y[train]
    mean0 = np.concatenate([np.full(G, y[train].mean()), np.zeros(5), np.full(C, PRIOR_MEAN)])
    sd0 = np.concatenate([np.ones(G), np.full(5, 0.3), np.full(C, prior_sd)])
    residual = target - rows @ np.linalg.lstsq(rows, target, rcond=None)[0]
    # Fewer rows than columns leave no residual but rounding, and a precision that may not be one.
    sigma = max(float(np.sqrt(residual @ residual / max(len(target) - P, 1))), 1e-4 * float(target.std()))
    precision = rows.T @ rows / sigma**2 + np.diag(sd0**-2)
    factor = np.linalg.cholesky(precision)
    mean = np.linalg.solve(precision, rows.T @ target / sigma**2 + mean0 / sd0**2)
    chains = 1 if engine == "svi" else chains
    theta = mean + np.linalg.solve(factor.T, rng.standard_normal((P, chains * draws))).T  # [S, P]
    theta0 = mean0 + sd0 * rng.standard_normal((400, P))
    sigma_draws = sigma * np.sqrt(len(target) / rng.chisquare(len(target), chains * draws))

    def eta(coefficients: np.ndarray) -> np.ndarray:
        return np.einsum("gtp,sp->sgt", design, coefficients)

    def replicate(coefficients: np.ndarray, noise: np.ndarray) -> np.ndarray:
        values = eta(coefficients) + noise[:, None, None] * rng.standard_normal((len(coefficients), G, T))
        return (values * level[:, None] if link == "identity" else np.exp(values)).astype(np.float32)

    paid = np.arange(C) < C - organic
    money = np.where(paid, spend[:, TAPS - 1 :], 0.0)
    train_money = np.where(train[..., None], money, 0).sum(axis=(0, 1))
    height = np.where(train[..., None], features * level[:, None, None], 0).sum(axis=(0, 1))
    if link == "log":
        height = np.where(train[..., None], features * kpi[..., None], 0).sum(axis=(0, 1))

    def estimands(coefficients: np.ndarray) -> dict[str, np.ndarray]:
        media = coefficients[:, G + 5 :]
        contribution = media * height
        total = contribution.sum(axis=1) + (
            coefficients[:, :G] @ (train * level[:, None]).sum(axis=1) if link == "identity" else height.sum()
        )
        roi = np.where(paid, contribution / np.where(paid, train_money, 1.0), np.nan)
        return {
            "contribution": contribution,
            "roi": roi,
            "mroi": 0.6 * roi,
            "baseline_share": 1 - contribution.sum(axis=1) / total,
            "effect": media,
            "level": coefficients[:, :G],
        }

    parameters = estimands(theta) | {"noise": sigma_draws}
    prior = estimands(theta0) | {"noise": np.abs(rng.standard_normal(400)) * 0.2}
    shape = (chains, draws)
    error = (y - eta(theta)) / sigma_draws[:, None, None]
    pointwise = -0.5 * error**2 - np.log(sigma_draws)[:, None, None] - 0.5 * np.log(2 * np.pi)
    pick = rng.choice(chains * draws, min(120, chains * draws), replace=False)
    stats = {
        "diverging": np.zeros(shape, bool),
        "acceptance_rate": np.full(shape, 0.85),
        "energy": rng.standard_normal(shape) * 3 + 50,
        "n_steps": np.full(shape, 15.0),
    }
    dates = START + 7 * time
    posterior = MixPosterior(
        engine=engine,
        guide="low_rank" if engine == "svi" else "",
        finished=finished,
        khat=khat,
        parameters={name: values.reshape(*shape, *values.shape[1:]) for name, values in parameters.items()},
        prior=prior,
        dims={
            "contribution": ("channel",),
            "roi": ("channel",),
            "mroi": ("channel",),
            "baseline_share": (),
            "effect": ("channel",),
            "level": ("series",),
            "noise": (),
        },
        coords={"channel": names, "series": tuple(f"geo {g}" for g in range(G))},
        stats={} if engine == "svi" else stats,
        log_likelihood=np.where(train, pointwise, 0).sum(axis=2).reshape(*shape, G),
        replicated=replicate(theta[pick], sigma_draws[pick]),
        replicated_draw=pick.astype(np.int64),
        prior_replicated=replicate(theta0[:100], prior["noise"][:100]),
        observed=kpi.astype(np.float64),
        train=train.copy(),
        dates=dates.astype("datetime64[D]"),
        kpi_sum=float(kpi[train].sum()),
        seconds=12.0,
        cpu_seconds=11.0,
    )

    few = theta[np.linspace(0, len(theta) - 1, shown).astype(int)]
    parts = np.concatenate(
        [
            np.broadcast_to(few[:, :G, None, None], (shown, G, T, 1)),
            np.broadcast_to((few[:, G : G + 1] * shared[:, 0])[:, None, :, None], (shown, G, T, 1)),
            np.broadcast_to((few[:, G + 1 : G + 5] @ shared[:, 1:].T)[:, None, :, None], (shown, G, T, 1)),
            few[:, None, None, G + 5 :] * features,
        ],
        axis=3,
    )
    parts = parts * level[:, None, None]
    grid = np.broadcast_to(np.linspace(0, 8, 41), (C, 41)).copy()
    weights = DECAY ** np.arange(TAPS)
    zero = np.zeros((G, 0))
    response = MixResponse(
        series=posterior.series,
        channels=names,
        drivers=(),
        link=link,
        kpi="sales",
        kpi_unit="EUR",
        money_unit="EUR",
        price_unit="EUR",
        kpi_value=1.0,
        period="W-MON",
        periods_per_year=52.18,
        paid=paid,
        national=np.zeros(C, bool),
        adstock=np.broadcast_to(weights / weights.sum(), (shown, C, TAPS)).copy(),
        adstock_first=np.ones(C, bool),
        media_scale=scale,
        cost_per_media=np.broadcast_to(paid.astype(float), (G, C)).copy(),
        grid=grid,
        curve=np.broadcast_to(1 - np.exp(-grid), (shown, C, 41)).copy(),
        slope=np.broadcast_to(np.exp(-grid), (shown, C, 41)).copy(),
        amplitude=few[:, None, G + 5 :] * level[:, None],
        media_max=spend.max(axis=1),
        driver_kind=(),
        driver_transform=(),
        driver_reference=zero,
        driver_grid=np.zeros((0, 3)),
        driver_curve=np.zeros((shown, 0, 3)),
        driver_slope=np.zeros((shown, 0, 3)),
        driver_amplitude=np.zeros((shown, G, 0)),
        driver_min=zero,
        driver_max=zero,
        own_price=np.full(G, -1),
        noise_sd=np.full((shown, 1), sigma) * (level if link == "identity" else np.nanmean(kpi, axis=1)),
    )
    return MixPredictions(
        row=np.arange(G * T),
        series=np.repeat(np.arange(G), T),
        date=np.tile(posterior.dates, G),
        split=np.where(train, 0, 2).reshape(-1).astype(np.int64),
        kpi=kpi.reshape(-1).astype(np.float64),
        media=spend[:, TAPS - 1 :].reshape(G * T, C),
        spend=money.reshape(G * T, C),
        driver=np.zeros((G * T, 0)),
        parts=parts.reshape(shown, G * T, -1).astype(np.float32),
        part_names=("level", "trend", "season", *names),
        part_kinds=("baseline", "trend", "season", *["media"] * C),
        response=response,
        lead_in=spend[:, : TAPS - 1],
        posterior=posterior,
    )
