"""One fit in a process of its own: `python job.py '{"name": ..., "kind": ...}' result.json`; see `bayesian_mmm.py`."""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path
from typing import Any

NET: dict[str, Any] = {
    "link": "identity",
    "likelihood": "normal",
    "adstock": "geometric",
    "saturation": "hill",
    "effect": {"kind": "contribution", "prior": None, "spend_informed": False},
}


def result_of(job: dict[str, Any]) -> dict[str, Any]:
    """Make or read the panel of a job and fit it.

    Args:
        job: name; kind of panel (folder, large, house) with what that needs; inference; possibly batch_size.
    """
    import torch

    from mix_ours.fitting import fit_panel
    from mix_ours.panels import folder_panel, house_panel, large_panel

    torch.set_num_threads(1)
    spent = resource.getrusage(resource.RUSAGE_SELF)
    imported = spent.ru_utime + spent.ru_stime
    if job["kind"] == "folder":
        learnt, truth = folder_panel(Path(job["folder"]))
    elif job["kind"] == "large":
        learnt, truth = large_panel(job["geos"], job["inference"]["seed"])
    else:
        learnt, truth = house_panel(Path(job["cache"]), job["preset"], job["simulation"], tuple(job["ignored"]))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    # As the recipes: evidence on seeds 11 to 13 prefers a kernel that can peak late on this simulator.
    net = NET | {"adstock": "weibull_pdf"} if job["kind"] == "house" else NET
    result = fit_panel(learnt, net, job["inference"], job.get("batch_size"))
    result |= {"data": Path(job.get("folder", job["name"])).name, "job": job, "truth": truth.tolist()}
    return result | {
        "import_cpu_seconds": imported,
        "rss_before_bytes": before,
        "shape": list(learnt.panel.media.shape),
    }


def main() -> None:
    """Read the job, fit, write."""
    job, out = json.loads(sys.argv[1]), Path(sys.argv[2])
    # Not this folder: its modules must not stand before installed packages.
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    out.write_text(json.dumps(result_of(job), indent=1))


if __name__ == "__main__":
    main()
