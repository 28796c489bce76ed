"""Cost of the next run, step by step: core-hours, GPU-hours and disk.

Estimated from the finished jobs of the campaign: those of scans of the same size, else as a + b
times the work of a scan, which two sizes tell. The cost of a step is unknown until five of its jobs
have finished, and where sizes of which no job has may change the sum by more than a quarter. Jobs
that wrote only metadata, or a failure, tell nothing about others.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from tomopipe.campaign.campaign import Campaign, InventoryRows
from tomopipe.campaign.job_status import usual_job
from tomopipe.cost.disk import KINDS, disk_needed, known_cors, output_bytes
from tomopipe.storage.checksums import quick_state
from tomopipe.storage.json_files import json_or

#: Steps whose jobs count; those of tables take seconds.
STEPS = ("try_recon", "predict_cor", "full_recon", "stitch", "export_stack")
ENOUGH = 5
_SEEN = 40  # scans whose results are measured
_NEARLY_CONSTANT = ("predict_cor",)  # it takes a few rows, of limited width
_MOST_READ = 200  # finished jobs that tell how long another takes
_APART = 1.5  # of two sizes that tell a + b work
_WITHIN = 0.25  # of the sum: else it is unknown
# of a job that writes only metadata, and copies the rest
_START_S = 0.3
_COPIED_BYTES_PER_S = 200e6


@dataclass(frozen=True)
class Cost:
    """Cost of the jobs of a step; None: unknown."""

    step: str
    n_jobs: int
    core_h: float | None
    gpu_h: float | None
    n_bytes: int


def costs(
    campaign: Campaign,
    jobs: Sequence[tuple[str, str]],
    rows: InventoryRows,
    metadata: Collection[tuple[str, str]] = (),
) -> tuple[Cost, ...]:
    """Estimate the cost of jobs (rule, and scan or stack); `metadata` of them write only that."""
    results = []
    for step in STEPS:
        names = [name for rule, name in jobs if rule == step]
        if not names:
            continue
        copied = [name for name in names if (step, name) in metadata]
        computed = [name for name in names if (step, name) not in metadata]
        ended = _ended_jobs(campaign, step)
        core_h, gpu_h = (
            _hours(step, computed, [(name, used_s[n]) for name, used_s in ended], rows)
            for n in (0, 1)
        )
        kind, packed = KINDS.get(step, ""), _packed(campaign, step, rows)
        n_bytes, n_copied = (
            disk_needed(campaign, [(step, name) for name in group], rows).get(kind, 0) * packed
            for group in (names, copied)
        )
        if core_h is not None:
            core_h += (len(copied) * _START_S + n_copied / _COPIED_BYTES_PER_S) / 3600
        results.append(Cost(step, len(names), core_h, gpu_h, round(n_bytes)))
    return tuple(results)


def total(parts: Sequence[Cost]) -> Cost:
    """Sum up the costs of all steps; unknown if that of one step is."""
    core_h, gpu_h = (
        None if None in hours else sum(hour or 0.0 for hour in hours)
        for hours in ([cost.core_h for cost in parts], [cost.gpu_h for cost in parts])
    )
    n_jobs, n_bytes = sum(cost.n_jobs for cost in parts), sum(cost.n_bytes for cost in parts)
    return Cost("all", n_jobs, core_h, gpu_h, n_bytes)


def usual_core_s(campaign: Campaign, step: str, rows: InventoryRows) -> dict[float, float]:
    """Return the usual core-seconds of a step's finished jobs by their work; {}: they are few."""
    ended = [(name, used_s[0]) for name, used_s in _ended_jobs(campaign, step, _MOST_READ)]
    return _usual(step, ended, rows) if _is_enough(step, ended) else {}


def most_core_s(usual: Mapping[float, float], step: str, row: Mapping[str, str] | None) -> float:
    """Return the core-seconds that a job takes at most; `usual` are those of `usual_core_s`."""
    return max(_bounds_s(usual, _work(step, row), step in _NEARLY_CONSTANT))


def _is_enough(step: str, ended: Sequence[tuple[str, float]]) -> bool:
    return len(ended) >= (1 if step == "stitch" else ENOUGH)


def _hours(
    step: str, names: Sequence[str], ended: Sequence[tuple[str, float]], rows: InventoryRows
) -> float | None:
    if not names:
        return 0.0
    if not _is_enough(step, ended):
        return None
    seconds = _sum_s(step, names, _usual(step, ended, rows), rows)
    return None if seconds is None else seconds / 3600


def _usual(
    step: str, ended: Iterable[tuple[str, float]], rows: InventoryRows
) -> dict[float, float]:
    """Return the median seconds of jobs of the same work."""
    by_work: dict[float, list[float]] = defaultdict(list)
    for name, seconds in ended:
        by_work[_work(step, rows.get(name))].append(seconds)
    return {work: median(seconds) for work, seconds in by_work.items()}


def _sum_s(
    step: str, names: Iterable[str], usual: Mapping[float, float], rows: InventoryRows
) -> float | None:
    """Return the seconds of all jobs together; None if they may be off by more than `_WITHIN`."""
    least_s = most_s = 0.0
    for name in names:
        bounds_s = _bounds_s(usual, _work(step, rows.get(name)), step in _NEARLY_CONSTANT)
        least_s, most_s = least_s + min(bounds_s), most_s + max(bounds_s)
    if not most_s:
        return 0.0
    if most_s - least_s > _WITHIN * (most_s + least_s):
        return None
    return 2 * least_s * most_s / (least_s + most_s)  # as far from both, in parts of each


def _bounds_s(
    usual: Mapping[float, float], work: float, nearly_constant: bool
) -> tuple[float, float]:
    """Return two limits of the seconds of a job: as of jobs of equal work, else a + b work."""
    # two sizes or more tell a and b; of one size they lie between b = 0 and a = 0
    if work in usual or not work:
        return (usual.get(work, median(usual.values())),) * 2
    sizes = [size for size in usual if size]
    if sizes and max(sizes) >= _APART * min(sizes):
        return (_fitted_s({size: usual[size] for size in sizes}, work),) * 2
    nearest = min(usual, key=lambda size: abs(size - work))
    ratio = work / nearest if nearest and not nearly_constant else 1.0
    return usual[nearest], usual[nearest] * ratio


def _fitted_s(usual: Mapping[float, float], work: float) -> float:
    """Return a + b work, fitted to the seconds of several sizes, in parts of each."""
    import numpy as np
    from scipy.optimize import nnls

    works, seconds = np.array(list(usual)), np.maximum(list(usual.values()), 1e-3)
    scale = works.max()
    columns = np.stack([1 / seconds, works / scale / seconds], axis=1)
    (a_s, b_s), _ = nnls(columns, np.ones(len(works)))
    return float(a_s + b_s * work / scale)


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
    if step not in ("try_recon", "full_recon", "export_stack"):
        return 1.0
    cors_px = known_cors(campaign)
    expected = made = 0
    known = [scan for scan, row in rows.items() if scan in campaign.scans and row.get("n_cols")]
    for scan in known[:_SEEN]:
        paths = campaign.results_of(step, scan)
        states = [quick_state(campaign.directory / path) for path in paths]
        if all(states):
            expected += output_bytes(campaign, step, rows[scan], cors_px.get(scan))
            made += sum(state[0] for state in states if state)
    return made / expected if expected else 1.0


def _ended_jobs(
    campaign: Campaign, step: str, most: int = 10**9
) -> list[tuple[str, tuple[float, float]]]:
    """Return successful jobs of a step, at most so many: name, and seconds of its CPUs and GPUs."""
    results = []
    paths = list((campaign.logs.status_folder / step).glob("*.json"))
    for path in paths[:: 1 + len(paths) // most]:
        if record := usual_job(json_or(path, {})):
            request = record.get("asked") or {}
            wall_s = float(record["end"]) - float(record["start"])
            used_s = wall_s * int(request.get("cores", 1)), wall_s * int(request.get("gpus", 0))
            results.append((path.name.removesuffix(".json"), used_s))
    return results
