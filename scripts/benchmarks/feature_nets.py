"""Batched feature nets against a plain loop over them: forward and backward, in one process.

    python scripts/benchmarks/feature_nets.py                       # 10, 37 and 200 features; batches of 156 and 4096
    python scripts/benchmarks/feature_nets.py --features 37 --batches 512,4381 --activation silu --repeats 31
    python scripts/benchmarks/feature_nets.py --device cuda
    python scripts/benchmarks/feature_nets.py --tune                # the sizes of a chunk, for `wanamaker.nn.net_bank`

Both compute the mean square of the outputs of the same [1-32-16-1] nets on the same rows and its gradient in every
weight: `FeatureNets` as one computation, the loop as one `nn.Sequential` per feature. Times are medians over
``--repeats`` turns, in which the two alternate, so that other work on the machine meets both; their ratio is steadier
than either. One thread. "Difference" is the largest over outputs and gradients of the first layer, relative to the
largest value. "Growth" is the exponent b of time ~ features^b between the smallest and the largest number of features:
1 is proportional, below 1 cheaper.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable

import torch

from wanamaker.nn import net_bank
from wanamaker.nn.feature_nets import MODULES, FeatureNets


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--features", default="10,37,200")
    parser.add_argument("--batches", default="156,4096")
    parser.add_argument("--activation", default="gelu", choices=sorted(MODULES))
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--tune", action="store_true", help="try sizes of chunks instead")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    features = [int(value) for value in args.features.split(",")]
    batches = [int(value) for value in args.batches.split(",")]
    if args.tune:
        tune(features, batches, args)
        return
    print(f"{args.activation}, {args.device}, {args.threads} thread(s), median of {args.repeats}; forward + backward")
    print(f"{'features':>8} {'batch':>6} {'loop ms':>9} {'batched ms':>11} {'loop/batched':>13} {'difference':>11}")
    times: dict[tuple[int, int], tuple[float, float]] = {}
    for batch in batches:
        for count in features:
            loop, batched, difference = pair(count, batch, args)
            times[count, batch] = (loop, batched)
            print(f"{count:8d} {batch:6d} {loop:9.2f} {batched:11.2f} {loop / batched:13.2f} {difference:11.1e}")
    low, high = min(features), max(features)
    for batch in batches:
        if low < high:
            growth = [math.log(times[high, batch][i] / times[low, batch][i]) / math.log(high / low) for i in (0, 1)]
            print(f"batch {batch}: growth from {low} to {high} features: loop {growth[0]:.2f}, batched {growth[1]:.2f}")
    worst = min(loop / batched for loop, batched in times.values())
    print(f"smallest ratio: {worst:.2f}" + ("" if worst >= 1 else "  (the loop wins there)"))


def steps(count: int, batch: int, args: argparse.Namespace) -> tuple[Callable[[], None], Callable[[], None], Callable]:
    """One step of the loop, one of the batched nets, and how far apart they are."""
    torch.manual_seed(0)
    nets = FeatureNets(1, count, activation=args.activation).to(args.device)
    with torch.no_grad():
        nets.weights[-1].normal_()
    loop = nets.unbatched()
    loop_parameters = [parameter for net in loop for parameter in net.parameters()]
    x = torch.randn(batch, count, device=args.device)
    outputs: dict[str, torch.Tensor] = {}

    def loop_step() -> None:
        for parameter in loop_parameters:
            parameter.grad = None
        outputs["loop"] = torch.cat([net(x[:, [f]]) for f, net in enumerate(loop)], dim=1)
        outputs["loop"].square().mean().backward()

    def batched_step() -> None:
        nets.zero_grad()
        outputs["batched"] = nets(x)[0]
        outputs["batched"].square().mean().backward()

    def difference() -> float:
        gradients = torch.stack([net[0].weight.grad for net in loop])
        pairs = [(outputs["batched"], outputs["loop"]), (nets.weights[0].grad, gradients)]
        return max(((a - b).abs().max() / b.abs().max()).item() for a, b in pairs)

    return loop_step, batched_step, difference


def pair(count: int, batch: int, args: argparse.Namespace) -> tuple[float, float, float]:
    """Median milliseconds of both, and their difference."""
    loop_step, batched_step, difference = steps(count, batch, args)
    taken: dict[Callable[[], None], list[float]] = {loop_step: [], batched_step: []}
    for turn in range(args.repeats + 2):
        for step, seconds in taken.items():
            elapsed = timed(step, args.device)
            if turn >= 2:
                seconds.append(elapsed)
    loop, batched = (statistics.median(seconds) * 1e3 for seconds in taken.values())
    return loop, batched, difference()


def timed(step: Callable[[], None], device: str) -> float:
    """Seconds of one step."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    started = time.perf_counter()
    step()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter() - started


def tune(features: list[int], batches: list[int], args: argparse.Namespace) -> None:
    """Ratio loop / batched for sizes of chunks, and without any."""
    never = 10**12
    for batch in batches:
        for count in features:
            ratios = {}
            for small in (never, 0):
                net_bank.SMALL_FLOATS = small
                for floats in (64, 128, 192, 256, 384) if small == 0 else (0,):
                    net_bank.CHUNK_FLOATS = floats * 1024
                    loop, batched, _ = pair(count, batch, args)
                    ratios["no chunks" if small else f"{floats}K"] = round(loop / batched, 2)
            print(f"{count} features, batch {batch} ({count * batch * 32:,} floats): {ratios}", flush=True)


if __name__ == "__main__":
    main()
