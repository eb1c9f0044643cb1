"""Two real gloo processes take the steps of one: gradients, fits and chains (rules 1, 3, 5, 7, 8, 13 and 14).

The rules are those of stochastic variational inference under data-parallel training: see test_bayesian_rules.py.

Axis letters: N chains, D unconstrained numbers, G series.
"""

import functools
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from mix_case import built, panel_case, points
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from wanamaker.families.bayesian_mmm.fit import PosteriorFit, over_ranks_by_rows
from wanamaker.families.bayesian_mmm.inference import Inference
from wanamaker.nn.ranks import over_ranks

TEST = {"channel": "tv", "start": "2024-02-04", "end": "2024-03-02", "series": ["s1", "s2"], "factor": 0.0}
COUNTS = {"likelihood": "negative_binomial", "link": "log"}
TEST |= {"lift": 500.0, "interval": [200.0, 800.0]}

# name -> panel, options of the model, series of each rank, batch of the step (None: all series)
CASES = {
    "all": ({"series": 5}, {"collapse": "all"}, ([0, 2, 4], [1, 3]), None),
    "all, coefficient": ({"series": 4}, {"effect": {"kind": "coefficient"}}, ([0, 1], [2, 3]), None),
    "all, mroi": ({"series": 4, "organic": False}, {"effect": {"kind": "mroi"}}, ([0, 1], [2, 3]), None),
    "all, log, by size": ({"series": 4}, {"link": "log", "noise_by_size": True}, ([0, 1], [2, 3]), None),
    "all, empty share": ({"series": 1, "levels": False}, {"collapse": "all"}, ([0], []), None),
    "series": ({"series": 5}, {"collapse": "series"}, ([0, 2, 4], [1, 3]), None),
    "series, empty share": ({"series": 1, "levels": False}, {"collapse": "series"}, ([], [0]), None),
    "series, batch": ({"series": 6}, {"collapse": "series"}, ([0, 4], [5]), 3),
    "none": ({"series": 5}, {"collapse": "none"}, ([0, 2, 4], [1, 3]), None),
    "none, batch": ({"series": 6}, {"likelihood": "student_t"}, ([0, 4], [5]), 3),
    "none, counts": ({"series": 4, "counts": True}, COUNTS, ([0, 1], [2, 3]), None),
    "none, empty share": ({"series": 1, "levels": False}, {"collapse": "none"}, ([0], []), None),
    "all, tests": ({"series": 4}, {"experiments": [TEST]}, ([0, 1, 2], [3]), None),
    "none, tests": ({"series": 4}, {"collapse": "none", "experiments": [TEST]}, ([0, 1, 2], [3]), None),
}  # fmt: skip


class Loss(nn.Module):
    """What DDP wraps: the loss of a step as `forward`."""

    def __init__(self, fit: PosteriorFit) -> None:
        super().__init__()
        self.fit = fit

    def forward(self, *args) -> Tensor:
        return self.fit.loss(*args)


def a_fit(name: str) -> tuple[PosteriorFit, object]:
    panel, options, _, _ = CASES[name]
    panel = panel_case(periods=25, **panel)
    model, data = built(panel, **options)
    fit = PosteriorFit(model, Inference(particles=4, mode_steps=4, svi_steps=4, guide="multivariate")).allocate()
    fit.guide.anchor(points(model, 1)[0], 0.1 * torch.eye(model.flat.dim).double())
    return fit, data


def gradients(fit: PosteriorFit, data, name: str, rank: int | None) -> dict[str, Tensor]:
    """Of one step in the mode stage and one in the svi stage."""
    _, _, shares, batch = CASES[name]
    mine = shares[0] + shares[1] if rank is None else shares[rank]
    base = data if batch is not None else None
    scale = data.num_series / batch if batch is not None else 1.0
    shard = data.select(torch.tensor(mine, dtype=torch.long))
    fit.model.reduce = over_ranks
    loss_of = Loss(fit) if rank is None else DistributedDataParallel(Loss(fit), find_unused_parameters=False)
    found = {}
    for progress in (0, 4):
        fit.progress = progress
        fit.guide.zero_grad()
        loss = loss_of(shard, scale, base)
        loss.backward()
        found[f"loss {progress}"] = loss.detach().reshape(1)
        found |= {f"{n} {progress}": p.grad.clone() for n, p in fit.guide.named_parameters() if p.numel()}
    return found


FITS = {"all": "all", "series": "series"}


def short_fit(name: str, rank: int | None) -> Tensor:
    """The guide's location, then its standard deviations, after a few steps: [2, D]."""
    fit, data = a_fit(name)
    fit.options = Inference(particles=8, mode_steps=40, svi_steps=40, guide="multivariate")
    fit.allocate()
    shares = CASES[name][2]
    shard = data if rank is None else data.select(torch.tensor(shares[rank]))
    fit.model.reduce = over_ranks
    loss_of = Loss(fit) if rank is None else DistributedDataParallel(Loss(fit))
    optimizer = torch.optim.Adam(fit.guide.parameters(), lr=0.05, betas=(0.9, 0.99))
    while fit.stage != "hmc":
        if fit.progress == 40:
            fit.model.reduce, kept = (lambda total: total), fit.model.reduce
            fit.begin_svi(data)
            fit.model.reduce = kept
            optimizer.state.clear()
        optimizer.zero_grad()
        loss_of(shard).backward()
        for group in optimizer.param_groups:
            group["lr"] = 0.05 * fit.learning_rate()
        optimizer.step()
        fit.progress += 1
    guide = fit.guide
    return torch.stack([guide.location(), (guide.scale_tril() @ guide.scale_tril().T).diagonal().sqrt()]).detach()


def chains(rank: int | None) -> dict[str, Tensor]:
    """A few transitions of five chains over both ranks."""
    fit, data = a_fit("all")
    options = Inference(engine="hmc", chains=5, warmup=10, draws=4, mode_steps=1, svi_steps=1, guide="multivariate")
    fit.options = options
    density = over_ranks_by_rows(fit.value_and_grad(data))
    value, gradient = density(points(fit.model, 5))
    fit.progress = 2
    while fit.stage == "hmc":
        fit.sample_step(data)
        fit.progress += 1
    return {"value": value, "gradient": gradient, "draws": fit.chain_draws, **fit.stats}


def run_rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    try:
        torch.manual_seed(100 + rank)  # the global generators of the ranks differ and must not matter
        found = {name: gradients(*a_fit(name), name, rank) for name in CASES}
        found |= {f"fit {name}": {"guide": short_fit(name, rank)} for name in FITS}
        found["chains"] = chains(rank)
        torch.save(found, f"{folder}/{rank}.pt")
    finally:
        dist.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    folder: Path = tmp_path_factory.mktemp("ranks")
    mp.spawn(run_rank, (str(folder),), nprocs=2)
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@functools.cache
def alone(name: str) -> dict[str, Tensor]:
    return gradients(*a_fit(name), name, None)


@pytest.mark.parametrize("name", CASES)
def test_rules_5_and_14_gradients_of_two_ranks_equal_one(ranks: list[dict], name: str) -> None:
    assert float(alone(name)["shift 0"].abs().max()) > 1e-2
    for rank in ranks:
        for key, value in alone(name).items():
            largest = float(value.abs().max())
            torch.testing.assert_close(
                rank[name][key], value, rtol=0, atol=1e-5 * max(1.0, largest), msg=lambda m, k=key: f"{k}: {m}"
            )


@pytest.mark.parametrize("name", FITS)
def test_rule_14_a_fit_on_two_ranks_is_that_of_one(ranks: list[dict], name: str) -> None:
    expected = short_fit(name, None)
    for rank in ranks:
        found = rank[f"fit {name}"]["guide"]
        assert ((found[0] - expected[0]).abs() < 0.1 * expected[1]).all()
        torch.testing.assert_close(found[1], expected[1], rtol=0.05, atol=0)
    assert torch.equal(ranks[0][f"fit {name}"]["guide"], ranks[1][f"fit {name}"]["guide"])


def test_rule_7_chains_over_two_ranks_are_those_of_one(ranks: list[dict]) -> None:
    expected = chains(None)
    assert torch.equal(ranks[0]["chains"]["draws"], ranks[1]["chains"]["draws"])
    torch.testing.assert_close(ranks[0]["chains"]["value"], expected["value"], rtol=1e-12, atol=1e-9)
    torch.testing.assert_close(ranks[0]["chains"]["gradient"], expected["gradient"], rtol=1e-9, atol=1e-8)
    torch.testing.assert_close(ranks[0]["chains"]["draws"], expected["draws"], rtol=1e-5, atol=1e-6)
    assert float(expected["draws"].std()) > 0
