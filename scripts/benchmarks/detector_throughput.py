"""Training throughput of our Faster R-CNN against a plain torchvision loop, in one process, taking turns.

The baseline is what torchvision's detection reference does: float images in a list, `GeneralizedRCNN` with its own
transform, a default optimiser, the loss read on every step. Same architecture, starting weights, images, batch size
and optimiser as ours. Needs torch and torchvision only.

    python scripts/benchmarks/detector_throughput.py --device cpu --architecture resnet18_fpn --size 256 --batch-size 8
    python scripts/benchmarks/detector_throughput.py --device cuda --precision bf16 --channels-last --compile

Prints the median over the rounds of ours / baseline, images per second, the share of time spent waiting for data, and
the peak memory of each path in a process of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from wanamaker.families.faster_rcnn.architectures import ARCHITECTURES, build_detector
from wanamaker.families.faster_rcnn.finite import FiniteWatch
from wanamaker.families.faster_rcnn.losses import NAMES
from wanamaker.families.faster_rcnn.net import faster_rcnn
from wanamaker.nn.pretrained import without_pretrained_weights

NUM_CLASSES = 80
#: Small enough that random frozen norms do not blow up within a benchmark.
OPTIMISER = {"lr": 1e-6, "momentum": 0.9, "weight_decay": 1e-4}


class Pictures(Dataset):
    """Decoded pictures in memory, 4:3, with seven random boxes each (COCO's average)."""

    def __init__(self, count: int, side: int) -> None:
        generator = torch.Generator().manual_seed(0)
        self.height, self.width = side * 3 // 4 // 32 * 32, side
        shape = (count, 3, self.height, self.width)
        self.images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
        scale = torch.tensor([self.width, self.height])
        corner = torch.rand(count, 7, 2, generator=generator) * 0.6 * scale
        extent = (0.05 + 0.35 * torch.rand(count, 7, 2, generator=generator)) * scale
        self.boxes = torch.cat([corner, corner + extent], dim=2)
        self.labels = torch.randint(1, NUM_CLASSES + 1, (count, 7), generator=generator)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[int, Tensor, Tensor, Tensor]:
        return index, self.images[index], self.boxes[index], self.labels[index]


def plain_collate(rows: list[tuple]) -> tuple:
    """As torchvision's reference: ToTensor per picture, then a tuple per field."""
    images = [image.float() / 255 for _, image, _, _ in rows]
    return images, [{"boxes": boxes, "labels": labels} for _, _, boxes, labels in rows]


def canvas_collate(rows: list[tuple]) -> tuple:
    """As our data modules: one uint8 canvas."""
    images = torch.stack([image for _, image, _, _ in rows])
    sizes = torch.tensor([image.shape[-2:] for _, image, _, _ in rows])
    seeds = torch.tensor([index for index, *_ in rows])
    return images, sizes, [row[2] for row in rows], [row[3] for row in rows], seeds


def plain_step(args: argparse.Namespace, pictures: Pictures) -> Callable[[tuple], float]:
    """torchvision's model and the loop of its reference."""
    torch.manual_seed(0)
    model = build_detector(args.architecture, NUM_CLASSES + 1, args.norm, ARCHITECTURES[args.architecture].sizes)
    short, long = sorted((pictures.height, pictures.width))
    model.transform = GeneralizedRCNNTransform(short, long, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    freeze_like_ours(model, args)
    model.to(args.device).train()
    optimiser = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], **OPTIMISER)

    def step(batch: tuple) -> float:
        images = [image.to(args.device) for image in batch[0]]
        targets = [{key: value.to(args.device) for key, value in target.items()} for target in batch[1]]
        with autocast(args.device, args.baseline_precision):
            loss = sum(model(images, targets).values())
        value = loss.item()
        if not math.isfinite(value):
            raise RuntimeError(f"baseline loss is {value}")
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        return value

    return step


def our_step(args: argparse.Namespace, pictures: Pictures) -> Callable[[tuple], float]:
    """Our net and the body of FasterRCNNModule's training step."""
    torch.manual_seed(0)
    with without_pretrained_weights():  # as if pretrained, so that frozen norms and frozen stages are as in that recipe
        net = faster_rcnn(
            args.architecture,
            NUM_CLASSES,
            weights="imagenet" if args.norm == "frozen" else "none",
            norm=args.norm,
            channels_last=args.channels_last,
            compile_backbone=args.compile,
        )
    net.to(args.device)
    optimiser = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], fused=True, **OPTIMISER)
    watch = FiniteWatch(list(NAMES))

    def step(batch: tuple) -> float:
        if args.device == "cuda":
            images, sizes, boxes, labels, seeds = batch
            counts = [len(one) for one in boxes]
            images, sizes, seeds = (field.to(args.device, non_blocking=True) for field in (images, sizes, seeds))
            boxes = torch.cat(boxes).to(args.device, non_blocking=True).split(counts)
            labels = torch.cat(labels).to(args.device, non_blocking=True).split(counts)
            batch = images, sizes, list(boxes), list(labels), seeds
        with autocast(args.device, args.precision):
            losses = net(*batch)
        terms = torch.stack([losses[name] for name in NAMES])
        watch.check(terms.detach(), 0)
        optimiser.zero_grad()
        terms.sum().backward()
        optimiser.step()
        return 0.0

    return step


def freeze_like_ours(model: nn.Module, args: argparse.Namespace) -> None:
    """The first two stages stay fixed with frozen norms, as both torchvision and we do by default."""
    if args.norm == "frozen":
        from wanamaker.families.faster_rcnn.freezing import freeze

        freeze(model, args.architecture, 3, [])


def autocast(device: str, precision: str) -> contextlib.AbstractContextManager:
    if precision == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(device, {"bf16": torch.bfloat16, "fp16": torch.float16}[precision])


def batches(args: argparse.Namespace, pictures: Pictures, collate: Callable) -> Iterator[tuple]:
    """The same pictures in the same order for ever."""
    loader = DataLoader(
        pictures,
        args.batch_size,
        collate_fn=collate,
        num_workers=args.workers,
        persistent_workers=args.workers > 0,
        pin_memory=args.device == "cuda",
        drop_last=True,
    )
    while True:
        yield from loader


def run(args: argparse.Namespace, step: Callable[[tuple], float], source: Iterator[tuple]) -> tuple[float, float]:
    """Seconds of ``args.steps`` steps and the share of them spent waiting for data."""
    waiting = 0.0
    synchronise(args.device)
    start = time.perf_counter()
    for _ in range(args.steps):
        asked = time.perf_counter()
        batch = next(source)
        waiting += time.perf_counter() - asked
        step(batch)
    synchronise(args.device)
    seconds = time.perf_counter() - start
    return seconds, waiting / seconds


def synchronise(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def peak_memory(args: argparse.Namespace, path: str) -> float:
    """MiB of one path in a process of its own: CUDA allocations, or resident memory on a CPU."""
    command = [sys.executable, __file__, *args.command_line, "--memory-of", path, "--steps", "4"]
    return float(
        json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
    )


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=["cpu", "cuda"])
    parser.add_argument("--architecture", default="resnet50_fpn", choices=list(ARCHITECTURES))
    parser.add_argument("--norm", default="frozen", choices=["frozen", "batch", "group", "sync"])
    parser.add_argument("--size", type=int, default=800, help="long side in px; the short side is 3/4 of it")
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16", "fp16"], help="of our path")
    parser.add_argument("--baseline-precision", default="fp32", choices=["fp32", "bf16", "fp16"])
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--threads", type=int, default=None, help="CPU threads")
    parser.add_argument("--steps", type=int, default=10, help="per turn")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--skip-memory", action="store_true")
    parser.add_argument("--memory-of", choices=["ours", "baseline"], help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.command_line = sys.argv[1:]
    return args


def main() -> None:
    args = parse()
    if args.threads:
        torch.set_num_threads(args.threads)
    pictures = Pictures(4 * args.batch_size, args.size)
    paths = {"baseline": (plain_step, plain_collate), "ours": (our_step, canvas_collate)}
    if args.memory_of:
        make, collate = paths[args.memory_of]
        run(args, make(args, pictures), batches(args, pictures, collate))
        used = torch.cuda.max_memory_allocated() / 2**20 if args.device == "cuda" else peak_rss()
        print(json.dumps(used))
        return
    made = {name: (make(args, pictures), batches(args, pictures, collate)) for name, (make, collate) in paths.items()}
    for step, source in made.values():  # warm-up: allocator, oneDNN and cuDNN choices, compilation
        for _ in range(3):
            step(next(source))
    results: dict[str, list[tuple[float, float]]] = {name: [] for name in made}
    for _ in range(args.rounds):
        for name, (step, source) in made.items():
            results[name].append(run(args, step, source))
    ratios = [b[0] / o[0] for b, o in zip(results["baseline"], results["ours"], strict=True)]
    print(f"torch {torch.__version__}, {args.architecture}, norm {args.norm}, {args.size} px, batch {args.batch_size}")
    for name, rounds in results.items():
        speed = args.steps * args.batch_size / statistics.median(seconds for seconds, _ in rounds)
        idle = statistics.median(share for _, share in rounds)
        memory = "" if args.skip_memory else f", peak memory {peak_memory(args, name):.0f} MiB"
        print(f"{name:9s} {speed:8.2f} images/s, waiting for data {idle:6.1%}{memory}")
    print(f"ratio     {statistics.median(ratios):8.3f} (rounds {min(ratios):.3f} to {max(ratios):.3f})")


def peak_rss() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
