"""Cost of the next run, step by step: core-hours, GPU-hours and disk.

Estimated from the finished jobs of the campaign: those of scans of the same size, else scaled by
the work of a scan. The cost of a step is unknown until five of its jobs have finished.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from tomopipe.campaign.campaign import Campaign, InventoryRows
from tomopipe.run.disk import KINDS, disk_needed, known_cors, output_bytes

#: Steps whose jobs count; those of tables take seconds.
STEPS = ("try_recon", "predict_cor", "full_recon", "stitch", "export_stack")
ENOUGH = 5
_SEEN = 40  # scans whose results are measured
_START_S = 1.0  # of a job that does almost nothing: Python and its imports


@dataclass(frozen=True)
class Cost:
    """Cost of the jobs of a step; None: unknown."""

    step: str
    n_jobs: int
    core_h: float | None
    gpu_h: float | None
    n_bytes: int


@dataclass(frozen=True)
class _Ended:
    """A successful job: seconds, and its CPUs and GPUs."""

    name: str
    wall_s: float
    n_cores: int
    n_gpus: int


def costs(
    campaign: Campaign, jobs: Sequence[tuple[str, str]], rows: InventoryRows
) -> tuple[Cost, ...]:
    """Estimate the cost of jobs.

    Parameters
    ----------
    campaign : Campaign
        The campaign.
    jobs : sequence of (str, str)
        Rule, and scan or stack.
    rows : mapping
        The inventory.
    """
    ended = _ended_jobs(campaign.logs.status_folder)
    found = []
    for step in STEPS:
        names = [name for rule, name in jobs if rule == step]
        if not names:
            continue
        core_h, gpu_h = _hours(step, names, ended[step], rows)
        disk = disk_needed(campaign, [(step, name) for name in names], rows)
        n_bytes = disk.get(KINDS.get(step, ""), 0) * _packed(campaign, step, rows)
        found.append(Cost(step, len(names), core_h, gpu_h, round(n_bytes)))
    return tuple(found)


def total(parts: Sequence[Cost]) -> Cost:
    """Sum up the costs of all steps; unknown if that of one step is."""
    core_h, gpu_h = (
        None if None in hours else sum(hour or 0.0 for hour in hours)
        for hours in ([one.core_h for one in parts], [one.gpu_h for one in parts])
    )
    n_jobs, n_bytes = sum(one.n_jobs for one in parts), sum(one.n_bytes for one in parts)
    return Cost("all", n_jobs, core_h, gpu_h, n_bytes)


def _hours(
    step: str, names: Iterable[str], ended: Sequence[_Ended], rows: InventoryRows
) -> tuple[float | None, float | None]:
    if (len(ended) < ENOUGH and step != "stitch") or not ended:
        return None, None
    core_s = _sum_s(step, names, [(one.name, one.wall_s * one.n_cores) for one in ended], rows)
    gpu_s = _sum_s(step, names, [(one.name, one.wall_s * one.n_gpus) for one in ended], rows)
    return core_s / 3600, gpu_s / 3600


def _sum_s(
    step: str, names: Iterable[str], known: Sequence[tuple[str, float]], rows: InventoryRows
) -> float:
    by_work: dict[float, list[float]] = defaultdict(list)
    for name, seconds in known:
        by_work[_work(step, rows.get(name))].append(seconds)
    usual = {work: median(seconds) for work, seconds in by_work.items()}
    return sum(_expected_s(usual, _work(step, rows.get(name))) for name in names)


def _expected_s(usual: Mapping[float, float], work: float) -> float:
    """Return the seconds of a job: as of jobs of equal work, else scaled from the nearest."""
    if work in usual:
        return usual[work]
    nearest = min(usual, key=lambda one: abs(one - work))
    start_s = min(_START_S, usual[nearest])
    ratio = work / nearest if nearest else 1.0
    return start_s + (usual[nearest] - start_s) * ratio


def _work(step: str, row: Mapping[str, str] | None) -> float:
    """Return the work of a job, proportional to its time: bytes read, or slices computed."""
    if row is None or not row.get("n_cols"):
        return 0.0
    n_angles, n_rows, n_cols = (float(row[key]) for key in ("n_angles", "n_rows", "n_cols"))
    if step == "full_recon":
        return n_rows * n_cols * (n_angles + n_cols)
    return n_cols * (n_angles + n_cols) if step == "predict_cor" else n_angles * n_rows * n_cols


def _packed(campaign: Campaign, step: str, rows: InventoryRows) -> float:
    """Return compressed over uncompressed size of a step's results, from existing ones."""
    files = campaign.files
    results = {
        "try_recon": files.of_try_recon,
        "full_recon": lambda scan: [campaign.directory / campaign.volume(scan)],
        "export_stack": files.of_export_stack,
    }
    if step not in results:
        return 1.0
    cors_px = known_cors(campaign)
    expected = made = 0
    known = [scan for scan, row in rows.items() if scan in campaign.scans and row.get("n_cols")]
    for scan in known[:_SEEN]:
        paths = results[step](scan)
        if all(path.exists() for path in paths):
            expected += output_bytes(campaign, step, rows[scan], cors_px.get(scan))
            made += sum(map(_n_bytes, paths))
    return made / expected if expected else 1.0


def _n_bytes(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files)


def _ended_jobs(status: Path) -> dict[str, list[_Ended]]:
    found: dict[str, list[_Ended]] = defaultdict(list)
    for step in STEPS:
        for path in (status / step).glob("*.json"):
            record = _read(path)
            if record.get("state") == "done":
                asked = record.get("asked") or {}
                wall_s = float(record["end"]) - float(record["start"])
                cores, gpus = int(asked.get("cores", 1)), int(asked.get("gpus", 0))
                found[step].append(_Ended(path.name.removesuffix(".json"), wall_s, cores, gpus))
    return found


def _read(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}
