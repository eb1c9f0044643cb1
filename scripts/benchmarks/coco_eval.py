"""COCO evaluation: time, memory and exactness against pycocotools and torchmetrics.

    python scripts/benchmarks/coco_eval.py                                  # 5,000 images x 100 detections, 80 classes
    python scripts/benchmarks/coco_eval.py --images 500 --repeats 5
    python scripts/benchmarks/coco_eval.py --classes 1 --only ours,ours_2_ranks

The target: 5,000 images x 100 detections in under 30 s and 2 GB, every number within 1e-6 of pycocotools.

The data are seeded: COCO-like box sizes, 1.2 % crowd regions, mask areas below the box's, scores with ties. Each way
runs in a process of its own, ``--repeats`` times, and is charged for what turns detections into numbers: for
`CocoMetrics` and torchmetrics all updates (batches of 16, tensors made on the fly) and the computation; for pycocotools
reading the two files written by `write_coco_results` and `coco_ground_truth_dict`, matching and accumulating. Wall and
CPU seconds are medians; CPU seconds are of all threads. "Peak" is the largest resident size of the whole process over
the repeats, "at start" the part that was there before (imports and the input arrays). "Difference" is the largest over
the twelve COCO numbers, against pycocotools. "Speed" is pycocotools' CPU time over this one's. ``ours_2_ranks`` splits
the images over two gloo processes, with up to 10 images on both; its time and memory are rank 0's, which evaluates.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

WAYS = ("ours", "ours_2_ranks", "pycocotools", "torchmetrics_faster", "torchmetrics_pycocotools")
STATS = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "ar1", "ar10", "ar100")
STATS += ("ar_small", "ar_medium", "ar_large")
TORCHMETRICS_STATS = ("map", "map_50", "map_75", "map_small", "map_medium", "map_large")
TORCHMETRICS_STATS += ("mar_1", "mar_10", "mar_100", "mar_small", "mar_medium", "mar_large")
BATCH = 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--detections", type=int, default=100, help="per image")
    parser.add_argument("--classes", type=int, default=80)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default=",".join(WAYS), help=f"comma-separated, of {', '.join(WAYS)}")
    parser.add_argument("--worker", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        work(args.worker, args.folder, args.classes)
        return
    ways = args.only.split(",")
    if unknown := set(ways) - set(WAYS):
        parser.error(f"--only: unknown {sorted(unknown)}; choose from {', '.join(WAYS)}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_data(folder, args)
        results = {way: [run(way, folder, args) for _ in range(args.repeats)] for way in ways}
    print_table(results, args)


def make_data(folder: Path, args: argparse.Namespace) -> None:
    """Write data.npz (flat arrays) and the two COCO files."""
    from wanamaker.metrics.coco_files import coco_ground_truth_dict, write_coco_results
    from wanamaker.metrics.detection_records import DetectionRecords

    rng = np.random.default_rng(args.seed)
    per_image = np.minimum(rng.poisson(7.3, args.images), args.detections)
    count = int(per_image.sum())
    size = np.exp(rng.normal(np.log(70), 1.0, (count, 2))).clip(3, 600)
    boxes = np.concatenate([rng.uniform(0, 1, (count, 2)) * (640 - size).clip(1), size], axis=1).round(2)
    labels = rng.zipf(1.3, count) % args.classes + 1
    # Detections: every object is shaken ten times, the rest of the image's quota falls anywhere.
    total = args.images * args.detections
    image_of = np.repeat(np.arange(args.images), args.detections)
    starts = np.cumsum(per_image) - per_image
    near = (rng.random(total) < 0.7) & (per_image[image_of] > 0)
    source = np.zeros(total, dtype=np.int64)
    source[near] = starts[image_of[near]] + rng.integers(0, per_image[image_of[near]])
    base = boxes[source] if count else np.zeros((total, 4))
    scale = np.exp(rng.normal(0, 0.15, (total, 2)))
    top_left = base[:, :2] + base[:, 2:] * rng.normal(0, 0.1, (total, 2))
    anywhere = rng.uniform(0, 500, (total, 2))
    anysize = np.exp(rng.normal(np.log(70), 1.0, (total, 2))).clip(3, 600)
    top_left = np.where(near[:, None], top_left, anywhere)
    extent = np.where(near[:, None], base[:, 2:] * scale, anysize)
    found_labels = np.where(
        near & (rng.random(total) < 0.8), labels[source] if count else 1, rng.integers(1, args.classes + 1, total)
    )
    scores = np.where(near, rng.beta(2, 3, total), rng.beta(1, 6, total))
    records = DetectionRecords(
        image_ids=np.sort(rng.choice(10 * args.images, args.images, replace=False)),
        num_detections=np.full(args.images, args.detections),
        boxes=np.concatenate([top_left, top_left + extent], axis=1).astype(np.float32).astype(np.float64),
        scores=scores.round(4).astype(np.float32).astype(np.float64),
        labels=found_labels,
        num_objects=per_image,
        object_boxes=boxes,
        object_areas=(boxes[:, 2] * boxes[:, 3] * rng.uniform(0.4, 1.0, count)).round(2),
        object_labels=labels,
        object_crowd=(rng.random(count) < 0.012).astype(np.int64),
    )
    np.savez(folder / "data.npz", **records._asdict())
    category_ids = range(1, args.classes + 1)
    write_coco_results(folder / "results.json", records, category_ids)
    (folder / "ground_truth.json").write_text(json.dumps(coco_ground_truth_dict(records, category_ids)))


def run(way: str, folder: Path, args: argparse.Namespace) -> dict:
    command = [sys.executable, __file__, "--worker", way, "--folder", str(folder), "--classes", str(args.classes)]
    environment = dict(os.environ)
    environment.setdefault("OMP_NUM_THREADS", "1")
    if way != "ours_2_ranks":
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, text=True)
        return json.loads(done.stdout.splitlines()[-1])
    environment["BENCHMARK_RENDEZVOUS"] = str(folder / f"rendezvous_{time.monotonic_ns()}")
    ranks = [
        subprocess.Popen(command, env=environment | {"BENCHMARK_RANK": str(rank)}, stdout=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    outputs = [rank.communicate()[0] for rank in ranks]
    if any(rank.returncode for rank in ranks):
        raise RuntimeError(f"ours_2_ranks failed: exit codes {[rank.returncode for rank in ranks]}")
    values = [json.loads(output.splitlines()[-1]) for output in outputs]
    if values[0]["stats"] != values[1]["stats"]:
        raise RuntimeError(f"the ranks disagree: {values[0]['stats']} and {values[1]['stats']}")
    return values[0]


def work(way: str, folder: Path, num_classes: int) -> None:
    """One measured run in this process; the last line of stdout is its JSON."""
    if way == "pycocotools":
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval

        def evaluate() -> list[float]:
            truth = COCO(str(folder / "ground_truth.json"))
            evaluator = COCOeval(truth, truth.loadRes(str(folder / "results.json")), "bbox")
            evaluator.evaluate()
            evaluator.accumulate()
            evaluator.summarize()
            return evaluator.stats.tolist()

    elif way.startswith("ours"):
        import torch.distributed as dist

        from wanamaker.metrics.coco import CocoMetrics

        data = dict(np.load(folder / "data.npz"))
        images = np.arange(len(data["image_ids"]))
        if way == "ours_2_ranks":
            rank = int(os.environ["BENCHMARK_RANK"])
            rendezvous = f"file://{os.environ['BENCHMARK_RENDEZVOUS']}"
            dist.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=2)
            images = np.unique(np.concatenate([images[rank::2], images[:10]]))

        def evaluate() -> list[float]:
            metric = CocoMetrics(num_classes)
            for found, truth, image_ids in batches(data, images):
                metric.update(found, truth, image_ids)
            summary = metric.compute()
            return [summary[name] for name in STATS]

    else:
        from torchmetrics.detection import MeanAveragePrecision

        data = dict(np.load(folder / "data.npz"))
        backend = "pycocotools" if way == "torchmetrics_pycocotools" else "faster_coco_eval"

        def evaluate() -> list[float]:
            metric = MeanAveragePrecision(box_format="xyxy", backend=backend)
            for found, truth, _ in batches(data, np.arange(len(data["image_ids"]))):
                for row in truth:
                    row["boxes"][:, 2:] += row["boxes"][:, :2]
                metric.update(found, truth)
            summary = metric.compute()
            return [float(summary[name]) for name in TORCHMETRICS_STATS]

    at_start = resident_mb()
    wall, cpu = time.perf_counter(), time.process_time()
    with contextlib.redirect_stdout(io.StringIO()):
        stats = evaluate()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    result = {"wall": wall, "cpu": cpu, "at_start": at_start, "peak": peak_mb(), "stats": stats}
    if way == "ours_2_ranks":
        dist.barrier()
        dist.destroy_process_group()
    print(json.dumps(result))


def batches(data: dict[str, np.ndarray], images: np.ndarray) -> Iterator[tuple[list[dict], list[dict], list[int]]]:
    import torch

    ends, object_ends = np.cumsum(data["num_detections"]), np.cumsum(data["num_objects"])
    for start in range(0, len(images), BATCH):
        found, truth = [], []
        for i in images[start : start + BATCH]:
            rows = slice(ends[i] - data["num_detections"][i], ends[i])
            objects = slice(object_ends[i] - data["num_objects"][i], object_ends[i])
            found.append(
                {
                    "boxes": torch.from_numpy(data["boxes"][rows].astype(np.float32)),
                    "scores": torch.from_numpy(data["scores"][rows].astype(np.float32)),
                    "labels": torch.from_numpy(data["labels"][rows]),
                }
            )
            truth.append(
                {
                    "boxes": torch.from_numpy(data["object_boxes"][objects].copy()),
                    "labels": torch.from_numpy(data["object_labels"][objects]),
                    "area": torch.from_numpy(data["object_areas"][objects]),
                    "iscrowd": torch.from_numpy(data["object_crowd"][objects]),
                }
            )
        yield found, truth, data["image_ids"][images[start : start + BATCH]].tolist()


def resident_mb() -> float:
    import psutil

    return psutil.Process().memory_info().rss / 1e6


def peak_mb() -> float:
    unit = 1 if sys.platform == "darwin" else 1024  # getrusage counts bytes on macOS, KiB on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def print_table(results: dict[str, list[dict]], args: argparse.Namespace) -> None:
    print(
        f"{args.images} images x {args.detections} detections, {args.classes} classes, {args.repeats} repeats, medians"
    )
    print(f"{'':26}{'wall s':>9}{'CPU s':>9}{'peak MB':>9}{'at start':>9}{'difference':>12}{'speed':>8}")
    reference = results.get("pycocotools")
    for way, runs in results.items():
        median = {name: statistics.median(run[name] for run in runs) for name in ("wall", "cpu", "at_start")}
        peak = max(run["peak"] for run in runs)
        difference, speed = "", ""
        if reference:
            expected = [math.nan if value == -1 else value for value in reference[0]["stats"]]
            found = [math.nan if value == -1 else value for value in runs[0]["stats"]]
            if [math.isnan(v) for v in expected] != [math.isnan(v) for v in found]:
                raise RuntimeError(f"{way} disagrees on what is undefined: {found} against {expected}")
            gaps = [abs(a - b) for a, b in zip(found, expected, strict=True) if not math.isnan(a)]
            difference = f"{max(gaps, default=0.0):.1e}"
            speed = f"{statistics.median(run['cpu'] for run in reference) / median['cpu']:.1f}"
        print(
            f"{way:26}{median['wall']:9.1f}{median['cpu']:9.1f}{peak:9.0f}{median['at_start']:9.0f}{difference:>12}{speed:>8}"
        )
    if "ours" in results:
        print("AP", results["ours"][0]["stats"][0], "AP50", results["ours"][0]["stats"][1])


if __name__ == "__main__":
    main()
