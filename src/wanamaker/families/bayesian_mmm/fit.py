"""`PosteriorFit`: from the model to draws of its parameters, one step at a time, so that a run can be cut and resumed.

Every random number is a function of (seed, step) alone and the same on every rank; ranks share the work (series in the
guide's steps, chains or series in HMC) and add up, so that two ranks take the steps of one.

Axis letters: N draws or chains, D unconstrained numbers, G series, S draws kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as distributed
from torch import Tensor, nn

from wanamaker.errors import UserError
from wanamaker.families.bayesian_mmm.guide import GaussianGuide, pareto_k, refined_mode
from wanamaker.families.bayesian_mmm.hmc import BatchedHMC, HMCState
from wanamaker.families.bayesian_mmm.inference import Inference
from wanamaker.families.bayesian_mmm.model import MixModel
from wanamaker.families.bayesian_mmm.panel_tensors import PanelTensors

MOST_AT_ONCE = 128
"""Draws evaluated at once where no gradient is kept: more would only leave the processor's cache."""
STATS = ("diverging", "acceptance_rate", "energy", "n_steps")


class PosteriorFit(nn.Module):
    """The state of a fit: the guide, the sampler, the draws.

    Args:
        model: not built yet, or built.
        options: of the inference.

    Attributes:
        progress: steps taken.
        khat: of the guide; NaN before it is known.
        guide_draws: [S, D] or None, resampled by importance where k-hat allows.
        chain_draws: [chains, draws, D] or None.
        stats: per chain and draw, [chains, draws] each of `STATS`.
    """

    def __init__(self, model: MixModel, options: Inference) -> None:
        super().__init__()
        self.model, self.options = model, options
        self.guide: Any = nn.Identity()  # no parameters before the data say how many
        self.progress = 0
        self.khat = math.nan
        self.guide_draws: Tensor | None = None
        self.chain_draws: Tensor | None = None
        self.stats: dict[str, Tensor] = {}
        self._hmc: HMCState | None = None
        self._density: Callable[[Tensor], tuple[Tensor, Tensor]] | None = None

    def allocate(self) -> PosteriorFit:
        """Make the guide once the model is built; returns itself."""
        self.guide = GaussianGuide(self.model.flat.dim, self.options.guide, self.options.rank)
        with torch.no_grad():
            self.guide.origin.copy_(self.model.flat.median())
        return self

    # -- stages ----------------------------------------------------------------------------------------------------

    @property
    def stage(self) -> str:
        """Of the next step: mode, svi, hmc, nuts or done."""
        o, t = self.options, self.progress
        if t < o.mode_steps:
            return "mode"
        if t < o.guide_steps:
            return "svi"
        if o.engine == "svi" or (o.engine == "auto" and self.guide_final):
            return "done"
        if o.engine == "nuts":
            return "nuts" if t < o.guide_steps + 1 else "done"
        return "hmc" if t < o.guide_steps + o.warmup + o.draws else "done"

    @property
    def guide_final(self) -> bool:
        """Whether the guide's posterior may be the result."""
        return self.khat <= self.options.khat_limit

    @property
    def engine(self) -> str:
        """What the draws come from: svi, hmc, nuts. Chains that were cut short to keep the guide are no draws."""
        o = self.options
        hmc = self._hmc is not None
        whole = not hmc or self.progress >= o.guide_steps + o.warmup + o.draws  # NUTS samples all in one step
        if self.stage != "done" or o.engine == "svi" or self.chain_draws is None or not whole:
            return "svi"
        return "nuts" if o.engine == "nuts" else "hmc"

    @property
    def total_steps(self) -> int:
        """Steps of a run that samples, and so at most."""
        o = self.options
        extra = {"svi": 0, "nuts": 1}.get(o.engine, o.warmup + o.draws)
        return o.guide_steps + extra

    def learning_rate(self) -> float:
        """Factor of the optimiser's rate for the next step: half a cosine per stage."""
        o, t = self.options, self.progress
        if t < o.mode_steps:
            return 0.5 * (1 + math.cos(math.pi * t / o.mode_steps))
        return o.svi_rate * 0.5 * (1 + math.cos(math.pi * (t - o.mode_steps) / o.svi_steps))

    # -- the guide -------------------------------------------------------------------------------------------------

    def noise(self, count: int, stream: int = 0) -> Tensor:
        """Standard normal [N, noise size] in antithetic pairs, of this step."""
        generator = torch.Generator().manual_seed(
            ((self.options.seed * 1_000_003 + self.progress) * 16 + stream) % 2**62
        )
        half = torch.randn(count // 2, self.guide.noise_size, generator=generator, dtype=torch.float64)
        return torch.cat([half, -half]).to(self.guide.shift.device)

    def loss(self, data: PanelTensors, scale: float = 1.0, base: PanelTensors | None = None) -> Tensor:
        """What this step's gradient descends: minus the log density at the mode, or minus the lower bound.

        Args:
            data: this rank's series of the step.
            scale: all series over those of the step on all ranks.
            base: see `MixModel.pieces`.

        Returns:
            [], per row of the panel.
        """
        model, guide = self.model, self.guide
        if self.stage == "mode":
            u = guide.location().unsqueeze(0)
            bound = model.flat.log_prior(u) + model.log_likelihood(model.flat.constrain(u), data, base, scale)
        else:
            u = guide.draw(self.noise(self.options.particles))
            likelihood = model.log_likelihood(model.flat.constrain(u), data, base, scale)
            bound = model.flat.log_prior(u) + likelihood - guide.log_prob(u, detached=True)
        unused = sum((0.0 * p.sum() for p in guide.parameters()), torch.zeros((), dtype=torch.float64))
        return -bound.mean() + unused

    def begin_svi(self, data: PanelTensors, base: PanelTensors | None = None) -> None:
        """Anchor the guide at the mode with the curvature there; `data` are all series."""
        density = self.value_and_grad(data, base)
        self.guide.anchor(*refined_mode(density, self.guide.location().detach(), chunk=self.chunk(data)))

    @torch.no_grad()
    def finish_guide(self, data: PanelTensors, base: PanelTensors | None = None) -> None:
        """k-hat of the guide and draws from it; `data` are all series.

        Where k-hat allows, draws are resampled by their smoothed importance weights, which takes away most of what a
        normal guide gets wrong (its spread is somewhat too small); otherwise they are the guide's own.
        """
        o = self.options
        u = self.guide.draw(self.noise(2 * (o.khat_draws // 2), stream=1))
        parts = u.split(self.chunk(data, blocked=True))
        value = torch.cat([self.model.log_density(part, data, base) for part in parts])
        self.khat, weights = pareto_k(value - self.guide.log_prob(u))
        generator = torch.Generator().manual_seed(o.seed * 1_000_003 + 17)
        if self.guide_final:
            # Systematic resampling: one uniform, evenly spaced, so that weights decide and chance hardly does.
            places = (torch.rand(1, generator=generator) + torch.arange(o.svi_draws)) / o.svi_draws
            cumulative = weights.exp().cumsum(0)
            chosen = torch.searchsorted(cumulative / cumulative[-1], places.double()).clamp(max=len(u) - 1)
            chosen = chosen[torch.randperm(len(chosen), generator=generator)]
        else:
            chosen = torch.randperm(len(u), generator=generator)[: o.svi_draws]
        self.guide_draws = u[chosen.to(u.device)].cpu()

    def chunk(self, data: PanelTensors, blocked: bool = False) -> int:
        """How many draws are evaluated at once.

        Args:
            data: all series.
            blocked: for work that takes media block by block of series and keeps no gradient: the density itself,
                coefficients and estimands.
        """
        if blocked:
            Q = self.model.num_columns
            fitting = int(self.options.chunk_bytes / (8.0 * data.num_series * Q * (Q + 2) * 8))
            return max(1, min(fitting, MOST_AT_ONCE))
        per_draw = 8.0 * data.num_series * data.y.shape[1] * (data.history.shape[-1] + data.driver.shape[-1] + 1) * 12
        return max(1, int(self.options.chunk_bytes / max(per_draw, 1.0)))

    # -- sampling --------------------------------------------------------------------------------------------------

    def value_and_grad(
        self, data: PanelTensors, base: PanelTensors | None = None, compiled: bool = False
    ) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
        """The log density and its gradient, [N, D] -> [N], [N, D], in parts that fit into memory.

        Compiling pays where the same number of draws is evaluated thousands of times: each other number costs half a
        minute anew.
        """
        chunk = self.chunk(data)

        def density(u: Tensor) -> Tensor:
            return self.model.log_density(u, data, base)

        # The forward pass alone: its gradient is compiled with it, and a gradient taken inside would break the graph.
        made: Any = torch.compile(density, dynamic=False) if compiled else density

        def one(u: Tensor) -> tuple[Tensor, Tensor]:
            with torch.enable_grad():
                u = u.detach().requires_grad_(True)
                value = made(u)
                (gradient,) = torch.autograd.grad(value.sum(), u)
            return value.detach(), gradient

        def all_of(u: Tensor) -> tuple[Tensor, Tensor]:
            parts = [one(part) for part in u.split(chunk)]
            return torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])

        return all_of

    def sample_step(self, data: PanelTensors, base: PanelTensors | None = None) -> None:
        """One transition of every chain; each rank computes its share of the chains and all know all."""
        o = self.options
        sampler = BatchedHMC(o.hmc(), self.model.flat.dim, o.seed)
        if self._density is None:
            self._density = over_ranks_by_rows(self.value_and_grad(data, base, compiled=self.options.compile))
        if self._hmc is None:
            root = self.guide.scale_tril().detach()
            start = self.guide.draw(self.noise(2 * ((o.chains + 1) // 2), stream=2)).detach()[: o.chains]
            self._hmc = sampler.start(start, self.guide.location().detach(), root)
            self.chain_draws = torch.zeros(o.chains, o.kept, self.model.flat.dim, dtype=torch.float64)
            self.stats = {name: torch.zeros(o.chains, o.kept, dtype=torch.float64) for name in STATS}
        self._hmc = sampler.step(self._hmc, self._density)
        place = self.progress - o.guide_steps - o.warmup
        if place >= 0:
            assert self.chain_draws is not None
            kept, at = divmod(place, o.thin)
            state = self._hmc
            if at == o.thin - 1:
                self.chain_draws[:, kept] = state.position.cpu()
                self.stats["acceptance_rate"][:, kept] = state.acceptance.cpu()
                self.stats["energy"][:, kept] = state.energy.cpu()
            self.stats["n_steps"][:, kept] += float(state.leapfrogs)
            self.stats["diverging"][:, kept] = torch.maximum(
                self.stats["diverging"][:, kept], state.diverging.double().cpu()
            )

    def nuts(self, data: PanelTensors, base: PanelTensors | None = None) -> None:
        """Pyro's NUTS on the Pyro model, chain after chain; the reference, for small models."""
        from wanamaker.families.bayesian_mmm.nuts import pyro_nuts

        self.chain_draws, self.stats = pyro_nuts(self.model, self.guide, self.options, data, base)

    def sampling_numbers(self) -> dict[str, float]:
        """Of the last HMC transition, for the log."""
        state = self._hmc
        if state is None:
            return {}
        return {
            "acceptance": float(state.acceptance.mean()),
            "diverging": float(state.diverging.double().mean()),
            "leapfrogs": float(state.leapfrogs),
            "log_density": float(state.log_density.mean()),
        }

    def smallest_ess(self, kept: int) -> float:
        """Smallest bulk effective sample size of any parameter over the first `kept` draws of each chain."""
        import arviz

        assert self.chain_draws is not None
        found = arviz.ess(arviz.convert_to_dataset({"u": self.chain_draws[:, :kept].numpy()}), method="bulk")
        return float(found["u"].min())

    # -- draws -----------------------------------------------------------------------------------------------------

    def draws(self) -> Tensor:
        """The posterior so far, [chains, draws, D]: final draws, or the guide's where the fit was cut short."""
        if self.engine != "svi" and self.chain_draws is not None:
            return self.chain_draws
        if self.guide_draws is not None:
            return self.guide_draws.unsqueeze(0)
        with torch.no_grad():
            if self.stage == "mode":
                return self.guide.location().detach().cpu().expand(1, 4, -1)
            return self.guide.draw(self.noise(64, stream=3)).detach().cpu().unsqueeze(0)

    def some_draws(self, count: int) -> tuple[Tensor, Tensor]:
        """Evenly chosen draws [S, D] and their flat numbers chain * draws + draw, [S]."""
        flat = self.draws().flatten(0, 1)
        places = torch.linspace(0, len(flat) - 1, min(count, len(flat))).round().long()
        return flat[places], places

    # -- checkpoints -----------------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Plain values and tensors, beside the guide's parameters in the state dict."""
        out: dict[str, Any] = {"progress": self.progress, "khat": self.khat, "dim": self.model.flat.dim}
        for name in ("guide_draws", "chain_draws"):
            if getattr(self, name) is not None:
                out[name] = getattr(self, name)
        if self._hmc is not None:
            out["hmc"] = self._hmc.to_dict()
        return out | {"stats": dict(self.stats)}

    def from_dict(self, values: dict[str, Any]) -> None:
        """The inverse of `to_dict`."""
        if values["dim"] != self.model.flat.dim:
            raise UserError(
                f"The checkpoint's posterior has {values['dim']} parameters, this model {self.model.flat.dim}: use the "
                "options of its recipe, or train anew."
            )
        self.progress, self.khat = int(values["progress"]), float(values["khat"])
        self.guide_draws, self.chain_draws = values.get("guide_draws"), values.get("chain_draws")
        self.stats = dict(values["stats"])
        self._hmc = HMCState.from_dict(values["hmc"]) if "hmc" in values else None
        self._density = None


def over_ranks_by_rows(
    density: Callable[[Tensor], tuple[Tensor, Tensor]],
) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """The same density, of which each rank computes some rows (chains) and all ranks get all."""
    if not (distributed.is_available() and distributed.is_initialized()) or distributed.get_world_size() == 1:
        return density
    rank, world = distributed.get_rank(), distributed.get_world_size()

    def shared(u: Tensor) -> tuple[Tensor, Tensor]:
        size = -(-len(u) // world)
        own = torch.arange(rank * size, (rank + 1) * size, device=u.device).clamp(max=len(u) - 1)
        value, gradient = density(u[own])
        both = torch.cat([value.unsqueeze(-1), gradient], dim=-1)
        parts = [torch.empty_like(both) for _ in range(world)]
        distributed.all_gather(parts, both)
        joined = torch.cat(parts)[: len(u)]
        return joined[:, 0], joined[:, 1:]

    return shared
