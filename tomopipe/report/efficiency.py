"""Efficiency: used share of the CPUs and memory that jobs requested."""

from collections.abc import Iterable, Mapping, Sequence

from tomopipe.campaign.job_status import JobStatus
from tomopipe.campaign.slurm import Usage
from tomopipe.groups import grouped
from tomopipe.report.records import Efficiency


def allocations(jobs: Iterable[JobStatus]) -> dict[str, tuple[str, ...]]:
    """Return the steps of each SLURM job, by its number, in the order of `jobs`.

    A group of jobs is one SLURM job.
    """
    found = grouped((job.slurm_job, job.step) for job in jobs if job.slurm_job)
    return {number: tuple(dict.fromkeys(steps)) for number, steps in found.items()}


def of_jobs(jobs: Iterable[JobStatus]) -> tuple[Efficiency, ...]:
    """Sum up requests and usage of the jobs of each step, from their status files."""
    known = ((job.step, usage) for job in jobs if (usage := _usage(job)))
    return tuple(_summed(step, group) for step, group in grouped(known).items())


def _usage(job: JobStatus) -> Usage | None:
    used, asked = job.used, job.asked
    known = job.wall_s, used.get("cpu_s"), asked.get("mem_mb"), used.get("peak_mb")
    if None in known:
        return None
    wall_s, cpu_s, asked_mb, peak_mb = (value or 0.0 for value in known)
    return Usage(wall_s, cpu_s, int(asked.get("cores") or 1), asked_mb * 1e6, peak_mb * 1e6)


def efficiency(
    steps_of: Mapping[str, Sequence[str]], usages: Mapping[str, Usage]
) -> tuple[Efficiency, ...]:
    """Sum up requests and usage of the jobs of each step, or group of steps, from SLURM.

    `steps_of` and `usages` are by SLURM's numbers; usages are empty without accounting.
    """
    known = ((tuple(steps), usages[n]) for n, steps in steps_of.items() if n in usages)
    return tuple(_summed(" + ".join(steps), group) for steps, group in grouped(known).items())


def _summed(steps: str, group: Sequence[Usage]) -> Efficiency:
    pairs = [(usage.asked_bytes, usage.used_bytes) for usage in group]
    known = [(asked, used) for asked, used in pairs if asked is not None and used is not None]
    asked, used = zip(*known, strict=True) if known else ((), ())
    return Efficiency(
        steps=steps,
        n_jobs=len(group),
        cpu_asked_s=sum(usage.wall_s * usage.n_cpus for usage in group),
        cpu_used_s=sum(usage.cpu_s for usage in group),
        memory_asked_bytes=max(asked, default=None),
        memory_used_bytes=max(used, default=None),
        memory_share=sum(used) / sum(asked) if known else None,
    )
