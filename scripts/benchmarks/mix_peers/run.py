"""Run `fit.py` for several tools and panels, one after the other, each with a time limit.

    python scripts/benchmarks/mix_peers/run.py --tools pymc,numpyro --out results --panels panels/small-*
    python scripts/benchmarks/mix_peers/run.py --tools meridian --python env/bin/python --out results --panels panels/*

Writes <tool>-<panel>.json for each. A fit that ends with an error or is not done in time leaves a file with "failed",
the CPU-seconds and the memory it had used by then (Linux). The first limit is on CPU-seconds: machines are shared.
Options of fit.py may follow.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

FIT = Path(__file__).resolve().parent / "fit.py"


def used(process: int) -> tuple[float, int]:
    """CPU-seconds and peak resident bytes of a running process; (0, 0) once it has ended."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
        status = Path(f"/proc/{process}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0, 0
    cpu = sum(int(value) for value in stat[11:15]) / os.sysconf("SC_CLK_TCK")
    peak = next((line for line in status.splitlines() if line.startswith("VmHWM")), "VmHWM: 0 kB")
    return cpu, 1024 * int(peak.split()[1])


@dataclass(frozen=True)
class Limits:
    """What a fit may use before it is stopped.

    Args:
        cpu: seconds, of all threads together.
        wall: seconds.
        memory: peak resident bytes.
    """

    cpu: float
    wall: float
    memory: float


def run_fit(python: str, tool: str, panel: Path, out: Path, limits: Limits, options: list[str]) -> bool:
    """Run one fit in a process of its own; False where it failed.

    Args:
        python: interpreter of the tool's environment.
        tool: "meridian", "pymc" or "numpyro".
        panel: folder written by `data.py` or `simulate.py`.
        out: file of the result.
        limits: a fit beyond one of them is killed.
        options: further arguments of fit.py.
    """
    command = [python, str(FIT), "--tool", tool, "--data", str(panel), "--out", str(out), *options]
    out.unlink(missing_ok=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    cpu, peak, stopped = 0.0, 0, ""
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        started = time.monotonic()
        while process.poll() is None and not stopped:
            time.sleep(0.2)
            now = used(process.pid)
            cpu, peak, wall = max(cpu, now[0]), max(peak, now[1]), time.monotonic() - started
            if cpu > limits.cpu or wall > limits.wall:
                stopped = f"did not finish in {wall:.0f} s"
            elif peak > limits.memory:
                stopped = f"more than {limits.memory / 1e9:g} GB after {wall:.0f} s"
        if stopped:
            process.kill()
        if process.wait() == 0:
            return True
        log.seek(0)
        lines = [] if stopped else log.read().strip().splitlines()[-3:]
    message = stopped or f"exit status {process.returncode}"
    failure = {"tool": tool, "data": panel.name, "failed": f"{message} ({cpu:.0f} CPU-s, {peak / 1e9:.1f} GB)"}
    failure |= {"cpu_seconds": cpu, "peak_rss_bytes": peak, "log": lines, "options": options}
    out.write_text(json.dumps(failure, indent=1))
    return False


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tools", required=True)
    parser.add_argument("--panels", required=True, nargs="+", type=Path)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--limit", type=float, default=600.0, help="CPU-seconds")
    parser.add_argument("--wall", type=float, default=1800.0, help="seconds")
    parser.add_argument("--memory", type=float, default=16.0, help="GB")
    arguments, options = parser.parse_known_args()
    limits = Limits(arguments.limit, arguments.wall, arguments.memory * 1e9)
    for panel in arguments.panels:
        for tool in arguments.tools.split(","):
            out = arguments.out / f"{tool}-{panel.name}.json"
            done = run_fit(arguments.python, tool, panel, out, limits, options)
            print(out, "done" if done else "FAILED", flush=True)


if __name__ == "__main__":
    main()
