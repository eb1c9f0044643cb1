"""What a fit cost and how good its draws are, the same way for every tool.

CPU-seconds are user plus system time of this process and of its children that ended; memory is the largest resident
set the operating system saw. R-hat and effective sample sizes are ArviZ's (rank-normalised, split).

Axis letters: C channels, S chains, N draws per chain.
"""

import resource
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Fit:
    """What a tool's module returns.

    Args:
        version: of the tool and of its sampler.
        parameters: sampled parameters, each [S, N, ...]; no deterministic ones.
        contribution: total over all geos and weeks, KPI units, [S, N, C].
        divergences: number of diverging draws after warm-up.
    """

    version: str
    parameters: dict[str, np.ndarray]
    contribution: np.ndarray
    divergences: int


def cpu_seconds() -> float:
    """CPU-seconds of this process and its ended children so far."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def peak_rss_bytes() -> int:
    """Largest resident set of this process or of a child so far, bytes (Linux)."""
    return 1024 * max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


@dataclass
class Clock:
    """Wall and CPU-seconds since it was made."""

    wall: float = field(default_factory=time.perf_counter)
    cpu: float = field(default_factory=cpu_seconds)

    def read(self) -> tuple[float, float]:
        """Wall seconds, CPU-seconds."""
        return time.perf_counter() - self.wall, cpu_seconds() - self.cpu


def diagnose(values: np.ndarray) -> dict[str, np.ndarray]:
    """R-hat, bulk and tail effective sample size of every entry of values [S, N, ...]; constants left out.

    A constant is an entry with the same value in all draws of all chains, such as a fixed slope. An entry that is
    stuck within each chain but differs between them is not left out.
    """
    import arviz as az

    flat = values.reshape(*values.shape[:2], -1)
    flat = flat[..., np.ptp(flat, axis=(0, 1)) > 0]
    data = az.convert_to_dataset({"x": flat})
    found = {"rhat": az.rhat(data)["x"].values}
    return found | {kind: az.ess(data, method=kind)["x"].values for kind in ("bulk", "tail")}


def summarise(fit: Fit, spend: np.ndarray) -> dict[str, Any]:
    """The part of the result that comes from draws; spend is the total per channel [C], money."""
    parts = [diagnose(values) for values in fit.parameters.values()]
    found = {kind: np.concatenate([part[kind] for part in parts]) for kind in ("rhat", "bulk", "tail")}
    own = diagnose(fit.contribution)
    draws = fit.contribution.reshape(-1, fit.contribution.shape[-1])
    low, high = np.quantile(draws, [0.05, 0.95], axis=0)
    mean = draws.mean(0)
    return {
        "rhat_max": float(found["rhat"].max()),
        "ess_bulk_min": float(found["bulk"].min()),
        "ess_bulk_median": float(np.median(found["bulk"])),
        "ess_tail_min": float(found["tail"].min()),
        "num_parameters": len(found["rhat"]),
        "divergences": fit.divergences,
        "contribution_rhat_max": float(own["rhat"].max()),
        "contribution_ess_min": float(own["bulk"].min()),
        "contribution_ess_median": float(np.median(own["bulk"])),
        "contribution_mean": mean.tolist(),
        "contribution_q05": low.tolist(),
        "contribution_q95": high.tolist(),
        "roi_mean": (mean / spend).tolist(),
        "roi_q05": (low / spend).tolist(),
        "roi_q95": (high / spend).tolist(),
    }
