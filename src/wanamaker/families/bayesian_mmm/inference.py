"""`Inference`: how the posterior is found, step by step, and what of it is kept.

A run has four stages, counted in steps of the trainer:

    mode     Adam climbs to the mode of the posterior
    svi      the Gaussian guide, started from the curvature at the mode, is fitted by the evidence lower bound
    hmc      batched chains, started and preconditioned from the guide (engines hmc, and auto where k-hat refuses)
    nuts     Pyro's own NUTS, one chain after the other, in one step (engine nuts: a reference for small models)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from wanamaker.errors import UserError
from wanamaker.families.bayesian_mmm.guide import FORMS
from wanamaker.families.bayesian_mmm.hmc import HMCOptions

ENGINES = ("auto", "svi", "hmc", "nuts")


@dataclass(frozen=True)
class Inference:
    """Options of `model.inference`.

    Args:
        engine: "svi" keeps the guide's posterior, whatever its k-hat says (and says so); "hmc" samples; "auto" keeps
            the guide where its k-hat is at most `khat_limit` and samples otherwise; "nuts" is Pyro's sampler.
        guide: "skewed", "multivariate", "low_rank" or "normal"; see `guide.GaussianGuide`.
        rank: of the low-rank guide.
        mode_steps, svi_steps: steps of these stages.
        svi_rate: rate of the svi stage over that of the optimiser, which is the mode's; each falls along half a cosine.
        particles: draws per step of the lower bound, in antithetic pairs.
        khat_draws: draws from the guide that k-hat is computed from.
        khat_limit: the largest k-hat whose posterior is final.
        svi_draws: draws kept of the guide's posterior, resampled by their smoothed importance weights.
        chains, warmup, draws, target_accept, max_leapfrogs: of HMC, see `HMCOptions`; chains over all ranks.
        thin: of HMC, every so many-th draw is kept.
        compile: torch.compile of the density and its gradient for HMC.
        nuts_chains, nuts_warmup, nuts_draws: of Pyro's NUTS.
        chunk_bytes: how large intermediate arrays may become: draws are evaluated in as many parts as that takes.
        seed: of every random number here.
    """

    engine: str = "auto"
    guide: str = "skewed"
    rank: int = 10
    mode_steps: int = 300
    svi_steps: int = 600
    svi_rate: float = 0.1
    particles: int = 8
    khat_draws: int = 4000
    khat_limit: float = 0.7
    svi_draws: int = 1000
    chains: int = 16
    warmup: int = 150
    draws: int = 400
    thin: int = 1
    target_accept: float = 0.8
    max_leapfrogs: int = 256
    compile: bool = False
    nuts_chains: int = 2
    nuts_warmup: int = 300
    nuts_draws: int = 300
    chunk_bytes: int = 512 * 2**20
    seed: int = 0

    def __post_init__(self) -> None:
        for name, known in (("engine", ENGINES), ("guide", FORMS)):
            if getattr(self, name) not in known:
                raise UserError(f"model.inference.{name}={getattr(self, name)!r}: choose from {', '.join(known)}.")
        whole = {
            "rank": 1, "mode_steps": 1, "svi_steps": 1, "particles": 2, "khat_draws": 200, "svi_draws": 10, "thin": 1,
            "nuts_chains": 1, "nuts_warmup": 1, "nuts_draws": 4, "chunk_bytes": 2**20, "seed": 0,
        }  # fmt: skip
        for name, least in whole.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise UserError(f"model.inference.{name}={value!r}: give a whole number of at least {least}.")
        if self.particles % 2:
            raise UserError(f"model.inference.particles={self.particles}: give an even number, they come in pairs.")
        if self.draws % self.thin:
            raise UserError(f"model.inference.thin={self.thin} does not divide draws={self.draws}.")
        for name in ("svi_rate", "khat_limit"):
            value = getattr(self, name)
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not 0 < value < math.inf:
                raise UserError(f"model.inference.{name}={value!r}: give a number above 0.")
        self.hmc()

    def hmc(self) -> HMCOptions:
        """Options of the sampler."""
        return HMCOptions(
            chains=self.chains,
            warmup=self.warmup,
            draws=self.draws,
            target_accept=self.target_accept,
            max_leapfrogs=self.max_leapfrogs,
        )

    @property
    def guide_steps(self) -> int:
        """Steps before any sampling."""
        return self.mode_steps + self.svi_steps

    @property
    def kept(self) -> int:
        """Draws kept per chain of HMC."""
        return self.draws // self.thin
