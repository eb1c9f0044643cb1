"""One pass over a simulated log that does not fit into memory, in a process of its own.

    python stream_job.py '{"events": 10000000, "cache": FOLDER, "out": FILE}'

The log is made on first use and kept in the cache; the buckets that it is rewritten into count as part of the set-up.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

CUSTOMERS, EVENTS = 100_000, 14_000_000
"""Of the preset "large", about."""


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Set up the data, read every training batch once; what it cost."""
    import torch
    from mix_peers.measure import Clock
    from uplift_ours.job import composed
    from uplift_peers.run import own_peak

    from wanamaker.runtime.build import build_data

    torch.set_num_threads(1)
    out = Path(job["out"])
    options = ["experiment=propensity_multitask_simulated", "data.preset=large", f"data.cache_dir='{job['cache']}'"]
    config = composed([*options, *_size(job["events"])], out.parent / "runs" / "stream")
    before = own_peak()
    data = build_data(config)
    data.prepare_data()
    clock = Clock()
    data.setup("fit")
    setup = clock.read()[1]
    clock, positions, read = Clock(), 0, 0
    for batch in data.train_dataloader():
        positions += len(batch.row)
        read += int(batch.length.sum())
    about = json.loads((data.truth.folder / "truth.json").read_text())
    return {
        "events": about["events"],
        "customers": about["options"]["customers"],
        "positions": positions,
        "read": read,
        "setup_cpu_seconds": setup,
        "pass_cpu_seconds": clock.read()[1],
        "rss_before_bytes": before,
        "peak_rss_bytes": own_peak(),
    }


def _size(events: int) -> list[str]:
    """Overrides for a log of about so many events."""
    customers = round(CUSTOMERS * events / EVENTS)
    return [f"data.simulation.customers={customers}", f"data.events_in_memory={min(events // 2, 5_000_000)}"]


def main() -> None:
    """Read the job, run it, write."""
    job = json.loads(sys.argv[1])
    # Not this folder: its modules must not stand before installed packages.
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    Path(job["out"]).write_text(json.dumps(run(job), indent=1))


if __name__ == "__main__":
    main()
