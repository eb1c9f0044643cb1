"""Speed: sequences grouped by length against a padded loop, a log of ten million events, two ranks against one.

Axis letters: P positions, S sequences, E events, L longest sequence, W inputs of an event, U units.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from uplift_peers.run import supervise

from propensity_ours.fits import Plan

LOG = "experiment=propensity_ltv_cdnow"
JOINT = "experiment=propensity_multitask_simulated"
UNITS, BATCHES = 32, 18
RANK_BATCHES = {256: 2, 1024: 5, 4096: 12}
"""Global batch -> epochs of a run."""


def speed(plan: Plan, parts: list[str], events: int, repeats: int) -> str:
    """Measure and return the tables.

    Args:
        parts: of "sequence", "stream", "ranks".
        events: of the streamed log, about.
        repeats: medians of so many.
    """
    known: dict[str, Callable[[], str]] = {
        "sequence": lambda: sequence(plan, repeats),
        "stream": lambda: stream(plan, events),
        "ranks": lambda: ranks(plan, repeats),
    }
    return "\n\n".join(known[part]() for part in parts)


def sequence(plan: Plan, repeats: int) -> str:
    """An epoch of CDNOW's customers through an LSTM, forward and backward, batches in memory."""
    import torch
    from uplift_ours.job import composed

    from wanamaker.families.propensity.lstm import SequenceEncoder, layout_of
    from wanamaker.runtime.build import build_data

    torch.set_num_threads(1)
    torch.manual_seed(0)
    device = torch.device("cpu")
    ways: dict[str, list[float]] = {}
    counts: dict[str, tuple[int, int]] = {}
    held: dict[int, list[Any]] = {}
    for buckets in (1, 50):
        config = composed([LOG, "data.batch_size=1024", f"data.bucket_batches={buckets}"], plan.out / "runs" / "speed")
        data = build_data(config)
        data.setup("fit")
        held[buckets] = [batch for batch, _ in zip(data.train_dataloader(), range(BATCHES), strict=False)]
    net = SequenceEncoder(data.schema, members=1, cell="lstm", hidden=UNITS)
    net.fit(data.stats)
    plain = torch.nn.LSTM(net.encoder.width, UNITS, batch_first=True)
    padded = {buckets: [_padded(net, batch) for batch in batches] for buckets, batches in held.items()}

    def grouped_epoch(buckets: int) -> None:
        for batch in held[buckets]:
            net.zero_grad(set_to_none=True)
            net(batch).square().mean().backward()

    def padded_epoch(buckets: int) -> None:
        for inputs, last in padded[buckets]:
            plain.zero_grad(set_to_none=True)
            states, _ = plain(inputs)
            states[torch.arange(len(last)), last].square().mean().backward()

    runs = {
        "padded nn.LSTM, batches at random": (padded_epoch, 1),
        "padded nn.LSTM, batches by length": (padded_epoch, 50),
        "groups (ours), batches at random": (grouped_epoch, 1),
        "groups (ours), batches by length": (grouped_epoch, 50),
    }
    for _ in range(repeats + 1):
        for name, (run, buckets) in runs.items():
            started = time.process_time()
            run(buckets)
            ways.setdefault(name, []).append(time.process_time() - started)
            steps = sum(inputs.shape[0] * inputs.shape[1] for inputs, _ in padded[buckets])
            real = sum(int(batch.length.sum()) for batch in held[buckets])
            laid = [group.numel() for batch in held[buckets] for group in layout_of(batch.length, device).groups]
            counts[name] = real, steps if run is padded_epoch else sum(laid)
    first = next(iter(runs))
    rates = {name: counts[name][0] / statistics.median(spent[1:]) for name, spent in ways.items()}
    lines = [
        f"CDNOW, batches of 1,024 customers, LSTM of {UNITS} units, forward and backward, one thread, "
        f"median of {repeats}",
        f"{'way':36s} {'events/CPU-s':>12s} {'steps per event':>15s} {'ratio':>6s}",
    ]
    for name, rate in rates.items():
        lines.append(f"{name:36s} {rate:12,.0f} {counts[name][1] / counts[name][0]:15.2f} {rate / rates[first]:6.2f}")
    lines.append(
        "The padded loop's inputs were encoded and padded beforehand; ours encodes and groups within the time."
    )
    return "\n".join(lines)


def _padded(net: Any, batch: Any) -> tuple[Any, Any]:
    """A batch as a plain loop has it: inputs [S, L, W], number of the last event [S]."""
    import torch
    from torch.nn.utils.rnn import pad_sequence

    with torch.no_grad():
        inputs = net.inputs(batch)
    inputs = inputs if inputs.ndim == 2 else inputs[0]
    return pad_sequence(inputs.split(batch.length.tolist()), batch_first=True), batch.length - 1


def stream(plan: Plan, events: int) -> str:
    """Read a large log bucket by bucket: time and memory of one pass, in a process of its own."""
    out = plan.out / "speed-stream.json"
    out.unlink(missing_ok=True)
    job = {"events": events, "cache": str(plan.out / "logs"), "out": str(out)}
    end = supervise([sys.executable, str(Path(__file__).with_name("stream_job.py")), json.dumps(job)], plan.limits)
    if end.failed or not out.exists():
        return f"stream: {end.failed or 'no result'}\n" + "\n".join(end.log)
    found = json.loads(out.read_text())
    return (
        f"A log of {found['events']:,} events of {found['customers']:,} customers, {found['positions']:,} positions\n"
        f"buckets and statistics: {found['setup_cpu_seconds']:,.0f} CPU-s; one pass: {found['pass_cpu_seconds']:,.0f} "
        f"CPU-s, {found['read'] / found['pass_cpu_seconds']:,.0f} events of histories per CPU-s\n"
        f"peak memory {found['peak_rss_bytes'] / 1e9:.2f} GB, of which {found['rss_before_bytes'] / 1e9:.2f} GB before "
        "the data"
    )


def ranks(plan: Plan, repeats: int) -> str:
    """Train the joint recipe with one rank and with two of one thread each, in turn, at several global batches."""
    from ranks import train

    recipe = JOINT.split("=")[1]
    short = ["callbacks.best=null", "callbacks.early_stopping=null", "stages=[fit]"]
    short.append(f"data.cache_dir='{plan.out / 'logs'}'")
    columns = ("batch", "positions/s, 1 rank", "2 ranks", "val/loss, 1 rank", "2 ranks", "efficiency")
    lines = ["  ".join(columns)]
    with tempfile.TemporaryDirectory() as folder:
        train(recipe, 1, Path(folder), [*short, "trainer.max_epochs=1"])  # makes the log; not counted
        for batch, epochs in RANK_BATCHES.items():
            options = [*short, f"data.batch_size={batch}", f"trainer.max_epochs={epochs}"]
            rates: dict[int, list[float]] = {1: [], 2: []}
            losses: dict[int, float] = {}
            for _ in range(repeats):
                for count in (1, 2):
                    metrics = train(recipe, count, Path(folder), options)["metrics"]
                    rates[count].append(metrics["train/samples_per_s"])
                    losses[count] = metrics["val/loss"]
            pairs = [two / (2 * one) for one, two in zip(rates[1], rates[2], strict=True)]
            one, two = (statistics.median(rates[count]) for count in (1, 2))
            numbers = (f"{batch:5d}", f"{one:19,.0f}", f"{two:7,.0f}", f"{losses[1]:16.5f}", f"{losses[2]:7.5f}")
            efficiency = f"{statistics.median(pairs):.3f} ({', '.join(f'{p:.3f}' for p in pairs)})"
            lines.append("  ".join([*numbers, efficiency]))
    return "\n".join([*lines, f"medians of {repeats}; batch: global, in positions; the recipe has 256"])
