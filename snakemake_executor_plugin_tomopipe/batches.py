"""Batches: the jobs of one submission, and what it asks SLURM for.

The resource `batch` of a rule says how many of its jobs share a submission at most, `cpu_ms` how
long each computes, `wall_s` how long it may take beside others. The other resources are those of
the plugin snakemake-executor-plugin-slurm.
"""

import math
import os
import re
import secrets
import shlex
from argparse import ArgumentParser
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from snakemake_interface_executor_plugins.utils import encode_target_jobs_cli_args

from tomopipe.campaign import slurm

_MOST_CPU_S = 440  # largest CPU time of the jobs of one submission
_START_S = 3.0  # start of a submission: Snakemake and imports, on one core
_USED = 0.6  # least busy share of the cores and time of a submission
_COMMENT = 200  # characters
_LEAST_MIN = 10  # least time request of a job


def members(job: Any) -> list[Any]:
    """Return the jobs of a group in their order, or the job itself."""
    return [each for layer in job.toposorted for each in layer] if job.is_group() else [job]


def is_done(member: Any) -> bool:
    """Tell from its status file whether a job has succeeded in this run."""
    from tomopipe.campaign.log import status_in_run

    return bool(member.log) and status_in_run(member.log[0]).get("state") == "done"


def status_in(member: Any, number: str) -> dict[str, Any]:
    """Return the status that a job wrote in a submission; {} if it did not begin there."""
    from tomopipe.campaign.log import status_in_run

    status = status_in_run(member.log[0]) if member.log else {}
    # one with a process: others say how the cluster ended a job
    return status if status.get("pid") and status.get("slurm_job") == number else {}


def _excluding(places: Sequence[str], nodes: Iterable[str]) -> list[str]:
    """Return the option of sbatch that excludes nodes, and those that the user excludes."""
    if not (ours := sorted(nodes)):
        return []
    parser = ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("-x", "--exclude", action="append", default=[])
    theirs = parser.parse_known_args(places)[0].exclude
    return [f"--exclude={','.join([*theirs, *ours])}"]


def missing_outputs(job: Any) -> list[str]:
    """Return the outputs of a job, or of the last one of a group, that are not there."""
    return [str(path) for path in members(job)[-1].output if not os.path.exists(path)]


def look_again(paths: Iterable[str]) -> None:
    """Open the folders of files that this host does not see yet: NFS then asks its server."""
    for folder in {os.path.dirname(path) or "." for path in paths}:
        with suppress(OSError):
            os.listdir(folder)


def batch_cores(cpu_s: float) -> int:
    """Return the largest number of cores of which the jobs and their start keep 60 % busy.

    The start and the jobs use `start + jobs` of the `n * start + jobs` core-seconds held.
    """
    return max(1, int((cpu_s * (1 / _USED - 1) + _START_S / _USED) / _START_S))


@dataclass
class Need:
    """Resources of one job, or of a chain of jobs of one scan."""

    texts: dict[str, Any]  # of rule or profile; the first member that sets one wins
    threads: int
    mem_mb: int
    runtime_min: int
    wall_s: int  # in a shared submission, without the minimum of `runtime`
    cpu_s: float
    batch: int

    @classmethod
    def of(cls, job: Any) -> "Need":
        """Return the need of a job, from the resources of its members."""
        each = [dict(member.resources.items()) for member in members(job)]
        numbers = {
            name: [value for request in each if isinstance(value := request.get(name), int)]
            for name in ("mem_mb", "runtime", "wall_s", "cpu_ms", "batch")
        }
        # not if another time is requested
        least = numbers["wall_s"] and all(n <= _LEAST_MIN for n in numbers["runtime"])
        texts: dict[str, Any] = {}
        for request in each:
            texts = {name: value for name, value in request.items() if value} | texts
        return cls(
            texts=texts,
            threads=max(member.threads for member in members(job)),
            mem_mb=max(numbers["mem_mb"], default=0),
            runtime_min=(runtime_min := sum(numbers["runtime"])),
            wall_s=sum(numbers["wall_s"]) if least else 60 * runtime_min,
            cpu_s=sum(numbers["cpu_ms"]) / 1000,
            batch=min(numbers["batch"], default=1),
        )

    @property
    def uses_gpu(self) -> bool:
        """Tell whether it needs a GPU, which runs one job at a time."""
        texts = self.texts
        return bool(texts.get("gpu") or texts.get("gpu_model")) or "gpu" in texts.get("gres", "")


@dataclass(eq=False)
class Batch:
    """Jobs of one submission."""

    places: tuple[str, ...]  # options of sbatch except cores, memory and time
    n_cores: int  # largest request
    jobs: list[Any] = field(default_factory=list)
    needs: list[Need] = field(default_factory=list)
    mark: str = field(default_factory=partial(secrets.token_hex, 4))  # begins its comment in SLURM
    number: str = ""  # SLURM's number
    cluster: str = ""  # SLURM's name of it, if not this host's
    may_be_queued: bool = False  # whether sbatch gave no answer, so that the job may be queued
    completed_s: float = 0.0  # when SLURM first said COMPLETED, of the monotonic clock
    n_unknown: int = 0  # number of answers in which SLURM did not know it

    @property
    def members(self) -> list[Any]:
        """The jobs, and those of groups, in their order."""
        return [member for job in self.jobs for member in members(job)]

    @property
    def cpu_s(self) -> float:
        """CPU time of the jobs."""
        return sum(need.cpu_s for need in self.needs)

    @property
    def rules(self) -> str:
        """Its rules, in their order, with a plus between them."""
        return "+".join(dict.fromkeys(member.rule.name for member in self.members))

    @property
    def cores(self) -> int:
        """Cores of a submission: no more than its jobs keep busy."""
        threads = [need.threads for need in self.needs]
        if len(threads) == 1 or self.needs[0].uses_gpu:
            return max(threads)
        n_busy = batch_cores(self.cpu_s)
        return max(*threads, min(n_busy, sum(threads), self.n_cores))

    @property
    def _n_side(self) -> int:
        """Most jobs side by side."""
        if self.needs[0].uses_gpu:
            return 1
        return min(len(self.needs), self.cores // min(need.threads for need in self.needs))

    @property
    def mem_mb(self) -> int:
        """Memory of a submission: at most a node's, with which fewer jobs run side by side."""
        request = sum(sorted((need.mem_mb for need in self.needs), reverse=True)[: self._n_side])
        return min(request, slurm.node_mb(self._partition) or request)

    @property
    def runtime_min(self) -> int:
        """Time of a submission: at most its partition's."""
        n_after_another = math.ceil(len(self.needs) / self._n_side)
        wall_s = n_after_another * max(need.wall_s for need in self.needs)
        request = max(*(need.runtime_min for need in self.needs), math.ceil(wall_s / 60))
        return min(request, slurm.time_limit_min(self._partition) or request)

    @property
    def where(self) -> tuple[str, ...]:
        """The options by which other commands of SLURM find it."""
        return (f"--clusters={self.cluster}",) if self.cluster else ()

    @property
    def _partition(self) -> str:
        named = self.needs[0].texts.get("slurm_partition")
        return str(named or os.environ.get("SBATCH_PARTITION", ""))

    def options(
        self, name: str, log: Path, folder: str | Path, bad_nodes: Iterable[str] = ()
    ) -> list[str]:
        """Return the options of sbatch, with the name of the run in SLURM."""
        texts = self.needs[0].texts
        targets = (target for job in self.members for target in job.get_target_spec())
        subjects = dict.fromkeys(",".join(each.wildcards_dict.values()) for each in targets)
        comment = f"{self.mark} {self.rules}: {' '.join(subjects)}"
        cores = texts.get("cpus_per_task", self.cores)
        per_cpu = texts.get("mem_mb_per_cpu")
        values = {
            "output": str(log.parent).replace("%", "%%") + f"/{log.name}",
            "export": "ALL",
            "chdir": folder,
            "cpus-per-task": cores if cores > 0 and "cpus_per_gpu" not in texts else "",
            "mem": "" if per_cpu else self.mem_mb or "",
            "mem-per-cpu": per_cpu or "",
            "time": self.runtime_min or "",
        }
        # of two the last counts: first the user's, but for those by which it is found
        requested = [f"--{key}={value}" for key, value in values.items() if value]
        named = [f"--job-name={name}", f"--comment={comment[:_COMMENT]}"]
        return [*requested, *self.places, *_excluding(self.places, bad_nodes), *named]

    def arguments(self, jobs: Iterable[Any]) -> list[str]:
        """Return the arguments with which Snakemake runs some of its jobs on a node."""
        targets = [target for job in jobs for target in job.get_target_spec()]
        files = sorted({str(path) for job in self.jobs for path in job.get_wait_for_files()})
        memory = [f"mem_mb={self.mem_mb}"] if self.mem_mb else []
        return [
            *("--target-jobs", *encode_target_jobs_cli_args(targets)),
            *("--allowed-rules", *dict.fromkeys(member.rule.name for member in self.members)),
            *("--cores", str(self.cores), "--attempt", str(self.jobs[0].attempt)),
            *(["--resources", *memory] if memory else []),
            *(["--wait-for-files", *files] if files else []),
        ]


def pack(jobs: Iterable[Any], settings: Any, n_cores: int) -> list[Batch]:
    """Share jobs out to batches, of jobs of the same rules that go to the same place.

    A job that takes long, or is retried, gets a batch of its own. Those that use a GPU follow each
    other, as one process makes them (tomopipe/run/workers.py).
    """
    batches: list[Batch] = []
    open_batches: dict[Any, Batch] = {}
    for job in jobs:
        need = Need.of(job)
        places = tuple(_places(need, settings))
        key = (tuple(dict.fromkeys(each.rule.name for each in members(job))), places)
        size = 1 if job.attempt > 1 else need.batch
        batch = open_batches.get(key)
        if batch is None or len(batch.jobs) >= size or batch.cpu_s + need.cpu_s > _MOST_CPU_S:
            batches.append(batch := Batch(places, n_cores))
            if size > 1:
                open_batches[key] = batch
        batch.needs.append(need)
        batch.jobs.append(job)
    return batches


def _places(need: Need, settings: Any) -> Sequence[str]:
    """Return the options of sbatch that jobs of one submission share."""
    texts = need.texts
    account = str(texts.get("slurm_account") or "")
    gpus = [str(texts[key]) for key in ("gpu_model", "gpu") if texts.get(key)]
    n_tasks = texts.get("tasks") or 1
    values = {
        # only the first of several: sbatch accepts one
        "account": next(iter(re.findall(r"[^,\s]+", account)), ""),
        "partition": texts.get("slurm_partition"),
        "qos": texts.get("qos") or texts.get("slurm_qos") or settings.qos,
        "reservation": settings.reservation,
        "constraint": texts.get("constraint"),
        "nodes": texts.get("nodes"),
        "gres": texts.get("gres"),
        "gpus": ":".join(gpus),
        "cpus-per-gpu": texts.get("cpus_per_gpu"),
        "ntasks": "" if need.uses_gpu else n_tasks,
        "ntasks-per-gpu": texts.get("tasks_per_gpu"),
    }
    options = [f"--{key}={value}" for key, value in values.items() if value]
    return [*options, *shlex.split(str(texts.get("slurm_extra") or ""))]


def by_cluster(batches: Sequence[Batch]) -> list[tuple[tuple[str, ...], list[Batch]]]:
    """Group submissions by the options that name their cluster."""
    wheres = dict.fromkeys(batch.where for batch in batches)
    return [(where, [batch for batch in batches if batch.where == where]) for where in wheres]
