"""Further panels of the param_recovery kind, with known truth.

    python scripts/benchmarks/mix_peers/simulate.py panels --seeds 1,2 --recovery data/mmm/param_recovery

Of that kind means: spend does not react to demand; geometric adstock; a Hill curve of the adstock over the geo's
largest weekly spend; a yearly wave and noise in proportion to the base; controls with linear effects; media make
34 to 44 % of sales. Unlike there, everything that defines a channel is drawn anew per seed (decay, half saturation,
slope, size, pattern of spend), effects differ between geos by about 10 %, and the base has a trend.

Axis letters: G geos, T weeks, C channels, K controls.
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Size:
    """How large a simulated panel is.

    Args:
        geos: number of geos, G.
        weeks: number of weeks, T.
        channels: number of channels, C.
        base: sales per geo and week without media, KPI units.
        wave: amplitude of the year, as a share of the base.
    """

    geos: int
    weeks: int
    channels: int
    base: float
    wave: float


SIZES = {
    "small": Size(1, 104, 4, 5_000.0, 0.2),
    "medium": Size(8, 156, 8, 100_000.0, 0.6),
    "large": Size(100, 156, 8, 100_000.0, 0.6),
}
CONTROLS = 4
GEO_SPREAD = 0.1  # deviation of the logarithm of base, spend and effect between geos
NOISE = 0.1  # of the base


def campaigns(rng: np.random.Generator, weeks: int) -> np.ndarray:
    """An always-on channel that drifts between quiet and busy months: [T], mostly above zero."""
    level = np.zeros(weeks)
    shocks = rng.normal(0.0, 0.8, weeks)
    level[:2] = np.abs(shocks[:2])
    for t in range(2, weeks):
        level[t] = max(0.0, 0.6 * level[t - 1] + 0.3 * level[t - 2] + shocks[t])
    return level


def seasons(rng: np.random.Generator, weeks: int) -> np.ndarray:
    """Campaigns that run in two seasons of the year only: [T]."""
    phase = rng.uniform(0, 2 * np.pi)
    return campaigns(rng, weeks) * np.clip(np.cos(phase + 4 * np.pi * np.arange(weeks) / 52), 0, None)


def late_start(rng: np.random.Generator, weeks: int) -> np.ndarray:
    """A channel opened in the first half of the panel and ramped up over ten weeks: [T]."""
    start = rng.integers(weeks // 8, weeks // 2)
    return campaigns(rng, weeks) * np.clip((np.arange(weeks) - start) / 10, 0, 1)


def bursts(rng: np.random.Generator, weeks: int, probability: float = 0.25, longest: int = 5) -> np.ndarray:
    """Flights of one to `longest` weeks with a pause after each: [T]."""
    level, t = np.zeros(weeks), 0
    while t < weeks:
        if rng.random() < probability:
            length = int(rng.integers(1, longest + 1))
            level[t : t + length] = np.clip(1 + rng.normal(0, 0.6, len(level[t : t + length])), 0.05, None)
            t += length
        t += 1
    return level


PATTERNS = campaigns, seasons, late_start, bursts


def active(pattern, rng: np.random.Generator, weeks: int) -> np.ndarray:
    """A pattern [T] with spend in at least five weeks."""
    while np.count_nonzero(spend := pattern(rng, weeks)) < 5:
        pass
    return spend


def adstock(spend: np.ndarray, decay: np.ndarray) -> np.ndarray:
    """Geometric carry-over, not normalised: spend [G, T, C], decay [C] -> [G, T, C]."""
    stock = np.empty_like(spend)
    carried = np.zeros_like(spend[:, 0])
    for t in range(spend.shape[1]):
        carried = spend[:, t] + decay * carried
        stock[:, t] = carried
    return stock


def simulate(size: Size, seed: int) -> dict[str, np.ndarray]:
    """Draw a panel: spend [G, T, C], control [G, T, K], kpi [G, T] and the true contribution [G, T, C]."""
    rng = np.random.default_rng([20250, seed])
    shape = size.geos, size.weeks, size.channels
    # Every pattern as often as the other, in random order; money per week differs tenfold between channels.
    kinds = rng.permutation([k % len(PATTERNS) for k in range(size.channels)])
    money = np.exp(rng.uniform(np.log(100.0), np.log(1000.0), size.channels))
    between = np.exp(rng.normal(0, GEO_SPREAD, (3, size.geos, size.channels)))
    spend = np.stack([[active(PATTERNS[k], rng, size.weeks) for k in kinds] for _ in range(size.geos)])  # [G, C, T]
    spend = spend.transpose(0, 2, 1) * money * between[0][:, None]

    decay = rng.uniform(0.0, 0.5, size.channels)
    half = rng.uniform(0.4, 1.4, size.channels)
    slope = rng.uniform(0.6, 2.0, size.channels)
    effect = rng.uniform(0.5, 1.4, size.channels)
    stock = adstock(spend / spend.max(1, keepdims=True), decay)
    media = stock**slope / (stock**slope + half**slope) * effect * between[1][:, None]

    weeks = np.arange(size.weeks)
    base = size.base * np.exp(rng.normal(0, GEO_SPREAD, (size.geos, 1)))
    base = base * (1 + rng.uniform(-0.1, 0.15) * weeks / size.weeks + size.wave * np.sin(2 * np.pi * weeks / 52))
    control = [[bursts(rng, size.weeks, 0.15) for _ in range(CONTROLS - 1)] for _ in range(size.geos)]
    drift = np.stack([campaigns(rng, size.weeks) for _ in range(size.geos)])
    control = np.concatenate([np.array(control), drift[:, None]], axis=1).transpose(0, 2, 1)
    control = control * rng.uniform(5, 1000, CONTROLS)
    lift = rng.uniform(0.005, 0.03, CONTROLS) * size.base / control.mean((0, 1))
    lift = lift * np.exp(rng.normal(0, GEO_SPREAD, (size.geos, CONTROLS)))
    other = base + (control * lift[:, None]).sum(-1)

    share = rng.uniform(0.34, 0.44)
    contribution = media * (share / (1 - share) * other.sum() / media.sum())
    assert contribution.shape == shape
    kpi = other + base * rng.normal(0, NOISE, base.shape) + contribution.sum(-1)
    return {"spend": spend, "control": control, "kpi": np.clip(kpi, 0, None), "contribution": contribution}


def write_simulated(preset: str, seed: int, folder: Path) -> Path:
    """Simulate a panel of a preset of `SIZES` and write it as `data.write_frame` does."""
    import pandas as pd

    from mix_peers.data import write_frame

    size = SIZES[preset]
    drawn = simulate(size, seed)
    dates = np.tile(pd.date_range("2020-01-05", periods=size.weeks, freq="W"), size.geos)
    geos = np.repeat([f"geo_{g:03d}" for g in range(size.geos)], size.weeks)
    channels = [f"channel_{c + 1}" for c in range(size.channels)]
    controls = [f"control_{k + 1}" for k in range(CONTROLS)]
    columns = {"date": dates, "geo": geos, "kpi": drawn["kpi"].ravel()}
    columns |= {name: drawn["spend"][..., c].ravel() for c, name in enumerate(channels)}
    columns |= {name: drawn["control"][..., k].ravel() for k, name in enumerate(controls)}
    truth = drawn["contribution"].sum((0, 1))
    return write_frame(pd.DataFrame(columns), folder, channels=channels, controls=controls, truth=truth)


def main() -> None:
    """Parse and write."""
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    from mix_peers.data import write_recovery

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder; one folder per panel is made in it")
    parser.add_argument("--presets", default="small,medium", help=f"of {', '.join(SIZES)}")
    parser.add_argument("--seeds", default="1,2")
    parser.add_argument("--recovery", type=Path, help="folder mmm/param_recovery: its small and medium are written too")
    arguments = parser.parse_args()
    for preset in arguments.presets.split(","):
        for seed in arguments.seeds.split(","):
            print(write_simulated(preset, int(seed), arguments.out / f"{preset}-{seed}"))
    if arguments.recovery:
        for preset in ("small", "medium"):
            print(write_recovery(preset, arguments.recovery, arguments.out / f"{preset}-recovery"))


if __name__ == "__main__":
    main()
