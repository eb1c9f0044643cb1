"""Results as tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from mix_peers.compare import judge


def _name(row: Mapping[str, Any]) -> str:
    return f"{row['tool']}-{row['engine']}" if "engine" in row else str(row["tool"])


def _number(value: float | None, form: str) -> str:
    width = int(form.split(".")[0])
    return "-".rjust(width) if value is None or not math.isfinite(value) else format(value, form)


def truth_table(rows: Sequence[Mapping[str, Any]], known: Mapping[str, Sequence[float]]) -> str:
    """Ours beside the peers, and how many times.

    Args:
        rows: results; peers' may be failures.
        known: true total contributions per panel.
    """
    out = [
        f"{'data':16s} {'tool':9s} {'MAPE':>6s} {'worst':>6s} {'90 %':>5s} {'width':>6s} {'k-hat':>6s} {'CPU-s':>7s} "
        f"{'import':>6s} {'GB':>5s} {'par.':>5s} {'R-hat':>6s} {'bulk':>6s} {'tail':>6s} {'c.ESS':>6s} {'ESS/s':>7s} "
        f"{'div.':>4s}"
    ]
    judged: dict[str, dict[str, dict[str, float]]] = {}
    for row in rows:
        head = f"{row['data']:16s} {_name(row):9s}"
        if "failed" in row:
            out.append(f"{head} {row['failed']}")
            continue
        truth = np.array(known[row["data"]])
        found = judge(dict(row), truth) | {"cpu": row["cpu_seconds"]}
        judged.setdefault(row["data"], {})[_name(row)] = found
        out.append(
            f"{head} {found['mape']:6.1%} {found['worst']:6.1%} {found['covered']:2d}/{len(truth):<2d} "
            f"{found['width']:6.2f} {_number(row.get('khat'), '6.2f')} {row['cpu_seconds']:7.1f} "
            f"{row['import_cpu_seconds']:6.1f} {row['peak_rss_bytes'] / 1e9:5.2f} {row['num_parameters']:5d} "
            f"{_number(row['rhat_max'], '6.3f')} {row['ess_bulk_min']:6.0f} {row['ess_tail_min']:6.0f} "
            f"{row['contribution_ess_min']:6.0f} {found['ess_per_cpu_second']:7.2f} {row['divergences']:4d}"
        )
    return "\n".join([*out, "", *_ratios(judged), "", *_totals(rows, known)])


def _ratios(judged: Mapping[str, Mapping[str, Mapping[str, float]]]) -> list[str]:
    out = ["Ours over the peers: CPU-seconds over the fastest peer's, error over Meridian's, ESS per CPU-second"]
    for data, tools in judged.items():
        peers = {name: found for name, found in tools.items() if not name.startswith("ours")}
        for name, found in tools.items():
            if name in peers or not peers:
                continue
            fastest = min(peers, key=lambda peer: peers[peer]["cpu"])
            best = max(peers, key=lambda peer: peers[peer]["ess_per_cpu_second"])
            line = f"{data:16s} {name:9s} CPU {found['cpu'] / peers[fastest]['cpu']:6.3f} x {fastest}"
            line += f", ESS/s {found['ess_per_cpu_second'] / peers[best]['ess_per_cpu_second']:6.1f} x {best}"
            if "meridian" in peers:
                line += f", error {found['mape'] / peers['meridian']['mape']:5.2f} x meridian"
            out.append(line)
    return out


def _totals(rows: Sequence[Mapping[str, Any]], known: Mapping[str, Sequence[float]]) -> list[str]:
    finished = [row for row in rows if "failed" not in row]
    by_tool = {tool: {row["data"] for row in finished if _name(row) == tool} for tool in map(_name, finished)}
    common = set.intersection(*by_tool.values()) if by_tool else set()
    out = [f"Over the panels that every tool has done: {', '.join(sorted(common)) or 'none'}"]
    for tool in by_tool:
        done = [row for row in finished if _name(row) == tool and row["data"] in common]
        if not done:
            continue
        found = [(judge(dict(row), np.array(known[row["data"]])), len(known[row["data"]])) for row in done]
        channels = sum(count for _, count in found)
        error = sum(one["mape"] * count for one, count in found) / channels
        covered = sum(one["covered"] for one, _ in found)
        cpu = sum(row["cpu_seconds"] for row in done)
        out.append(
            f"{tool:9s} {len(done)} panels, mean error per channel {error:6.1%}, 90 % intervals hold "
            f"{covered}/{channels} = {covered / channels:.0%}, {cpu:.1f} CPU-s"
        )
    return out


def scale_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """One line per size, and the exponent of growth between the smallest and each larger one."""
    out = [
        f"{'geos':>6s} {'weeks':>6s} {'ch.':>4s} {'collapse':>8s} {'k-hat':>6s} {'MAPE':>6s} {'90 %':>5s} "
        f"{'width':>6s} {'CPU-s':>7s} {'GB':>5s} {'mode':>6s} {'curv.':>6s} {'svi':>6s} {'k-hat':>6s} "
        f"{'draws':>6s} {'exp.':>5s}"
    ]
    first = rows[0]
    for row in rows:
        truth = np.array(row["truth"])
        found, marks = judge(dict(row), truth), row["cpu_marks"]
        stages = np.diff([0.0, *(marks[name] for name in ("mode", "curvature", "svi", "khat", "contributions"))])
        grown = row["shape"][0] / first["shape"][0]
        exponent = math.log(row["cpu_seconds"] / first["cpu_seconds"]) / math.log(grown) if grown > 1 else None
        out.append(
            f"{row['shape'][0]:6d} {row['shape'][1]:6d} {row['shape'][2]:4d} {row['collapse']:>8s} {row['khat']:6.2f} "
            f"{found['mape']:6.1%} {found['covered']:2d}/{len(truth):<2d} {found['width']:6.3f} "
            f"{row['cpu_seconds']:7.1f} {row['peak_rss_bytes'] / 1e9:5.2f} "
            f"{' '.join(f'{stage:6.1f}' for stage in stages)} {_number(exponent, '5.2f')}"
            f"{'' if row['khat'] <= 0.7 else '  k-hat above 0.7: not a checked posterior'}"
        )
    return "\n".join(out)


def endogeneity_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Bias per preset and mechanism, without and with the proxy: estimated over true contribution, over seeds."""
    out = [
        f"{'preset':9s} {'mechanism':16s} {'defence':8s} {'mean ratio':>10s} {'most affected':>22s} {'MAPE':>6s} "
        f"{'90 %':>7s} {'k-hat':>6s} {'seeds':>5s}"
    ]
    groups = dict.fromkeys((row["preset"], row["setting"], row["defended"]) for row in rows)
    for preset, setting, defended in sorted(groups, key=lambda g: (g[0], list(groups).index(g))):
        some = [row for row in rows if (row["preset"], row["setting"], row["defended"]) == (preset, setting, defended)]
        truth = np.array([row["truth"] for row in some])
        mean, low, high = (np.array([row[f"contribution_{k}"] for row in some]) for k in ("mean", "q05", "q95"))
        ratio = (mean / truth).mean(0)  # per channel, over seeds
        worst = int(np.abs(np.log(ratio)).argmax())
        held = (low <= truth) & (truth <= high)
        out.append(
            f"{preset:9s} {setting:16s} {'proxy' if defended else 'none':8s} {(mean / truth).mean():10.2f} "
            f"{some[0]['channels'][worst] + f' {ratio[worst]:.2f}':>22s} {np.abs(mean / truth - 1).mean():6.1%} "
            f"{int(held.sum()):3d}/{held.size:<3d} {max(row['khat'] for row in some):6.2f} {len(some):5d}"
        )
    return "\n".join(out)
