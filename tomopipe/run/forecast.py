"""The time that a run takes: so far, left and in total; and whether the machine is busy.

Before a job of a run is finished, the time left is that of the plan: CPU seconds by the pixels of
each scan (`tomopipe.resources.jobs`), on all cores. Then the CPU seconds that finished jobs took
replace those of the plan, pixel for pixel; those of the first jobs of a step do not, as they also
compile. The time of all on the clock tells what part of the cores this run gets.
"""

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from tomopipe.paths import no_pipe
from tomopipe.run.progress import Job, Progress, Step
from tomopipe.workflow_steps import STEPS

_READ = re.compile(r"\b([1-9]\d*) of (\d+) scans read\b")  # in the log of the inventory
_LONG_S = 60.0  # planned time of a job of which compiling is a small part
_N_RECENT = 8  # finished jobs that tell how busy the machine is
_BUSY = 3.0  # time on the clock / CPU time of a job, from which the machine is busy
_SLOWER = 2.0  # ... / time planned, from which that is shown
_LEAST_LEFT = 0.1  # of the time of a job that should have ended
_AS_LATE = 0.5  # of the time by which it is late
_LATE_S = 20.0  # by which a job is late, so that it is mentioned


def _stages() -> dict[str, int]:
    """Number the steps: those of one number run at the same time, after all of the one before."""
    stages: dict[str, int] = {}
    for name, step in STEPS.items():
        # jobs of a scan follow those of the same scan at once
        waits = {each: (STEPS[each].key, step.key) != ("scan", "scan") for each in step.inputs}
        stages[name] = max((stages[each] + waits[each] for each in waits), default=0)
    return stages


_STAGES = _stages()
_LAST = max(_STAGES.values())


@dataclass(frozen=True)
class Forecast:
    """Time so far, left and in total of a run (s)."""

    elapsed_s: float
    left_s: float | None = None  # None: unknown, for the reason `why`
    planned_s: float | None = None  # of all jobs; None while the scans are not read
    is_plan: bool = True  # whether no CPU time of this run counts yet
    slower: float | None = None  # how many times slower than planned, on a busy machine
    is_late: bool = False  # whether the first job of a step takes longer than planned
    why: str = ""

    @property
    def sentence(self) -> str:
        """The times in one line."""
        so_far, left_s = f"{duration(self.elapsed_s)} so far", self.left_s
        if left_s is None:
            return f"{so_far}, {self.why}"
        end = time.strftime("%H:%M", time.localtime(time.time() + left_s))
        total, plan = duration(self.elapsed_s + left_s), " (plan)" * self.is_plan
        return f"{so_far}, about {duration(left_s)} left, {total} in total, end {end}{plan}"

    @property
    def remark(self) -> str:
        """Why it takes longer than planned; "" if it does not."""
        if self.slower:
            return f"the machine is busy: {self.slower:.0f} times slower than planned"
        return "first jobs are late: they compile, or the machine is busy" * self.is_late

    def facts(self) -> dict[str, Any]:
        """Return the times and their words, for JSON."""
        return asdict(self) | {"sentence": self.sentence, "remark": self.remark}


class _Spent(NamedTuple):
    """What a job took: time on the clock times cores (s), and CPU time (s)."""

    core_s: float
    cpu_s: float


class _Work(NamedTuple):
    """A job that is to do: time on the clock times cores (s), and cores."""

    core_s: float
    threads: int


def forecast(progress: Progress, now_s: float | None = None) -> Forecast | None:
    """Return the time that a run takes, from its events; None if it has no jobs."""
    steps, now_s = progress.steps, time.time() if now_s is None else now_s
    if progress.begun_s is None or not steps:
        return None
    elapsed_s = max(0.0, now_s - progress.begun_s)
    if any(seconds is None for step in steps.values() for seconds, _ in step.planned.values()):
        return Forecast(elapsed_s, why=_reading(progress))
    if "inventory" in steps and not any(step.planned for step in steps.values()):
        return Forecast(elapsed_s, why="time left: not known for these targets")  # grows with it
    cores = progress.facts.get("cores") or _cores_in_use(steps)
    samples = {name: _samples(step) for name, step in steps.items()}
    every = [job for jobs in samples.values() for job in jobs]
    done = {name: _done(step) for name, step in steps.items()}
    every_done = sorted((job for jobs in done.values() for job in jobs), key=_end_s)
    if not cores:
        return Forecast(elapsed_s, why="time left: known once jobs have left the queue")
    plan_s = planned_s(steps, cores)
    is_over = not every_done and elapsed_s > _SLOWER * plan_s
    if is_over or not (every or any(step.planned for step in steps.values())):
        why = f"planned {duration(plan_s)}" if is_over else "time left: known once jobs are done"
        return Forecast(elapsed_s, planned_s=plan_s, why=why, is_late=is_over)
    is_late = False
    stages: dict[int, list[_Work]] = {}
    late: list[_Spent] = []
    for name, step in steps.items():
        cpu_scale = _cpu_scale(samples[name] or every, steps)
        of_step = list(_late(step, cpu_scale, now_s))
        first_s = [job.core_s - job.cpu_s for job in of_step if not samples[name]]
        is_late |= max(first_s, default=0.0) > _LATE_S
        of_step = of_step if samples[name] else []  # the first ones compile
        scale = cpu_scale * _occupancy(done[name] or every_done, of_step)
        stages.setdefault(_STAGES.get(name, _LAST), []).extend(_to_do(step, scale, now_s))
        late += of_step
    occupancy = _occupancy(every_done, late)
    slower = occupancy * _cpu_scale(every, steps)
    is_busy = occupancy >= _BUSY and slower >= _SLOWER
    left_s = _span_s(stages, cores)
    return Forecast(elapsed_s, left_s, plan_s, not every, slower if is_busy else None, is_late)


def _reading(progress: Progress) -> str:
    """Say how far the inventory is, as far as its log tells."""
    running = progress.steps["inventory"].running if "inventory" in progress.steps else {}
    for job in running.values():
        log = progress.log_of("inventory", job.name)
        with suppress(OSError):  # none yet
            found = _READ.findall(no_pipe(log).read_text(errors="replace")) if log else []
            spent_s = log.stat().st_mtime - job.begun_s if log else 0.0
            if found and spent_s > 0:  # else it is of an earlier run
                n, total = map(int, found[-1])
                left = duration(spent_s * (total - n) / n)
                return f"{n} of {total} scans read, about {left} for the others; then the time left"
    return "time left: known once the scans are read"


def _done(step: Step) -> list[Job]:
    """Return the finished jobs of a step in the order of their ends."""
    return sorted((job for job in step.jobs.values() if job.state == "done"), key=_end_s)


def _samples(step: Step) -> list[Job]:
    """Return the finished jobs whose CPU time tells that of others."""
    done = _done(step)
    first_s = min(map(_end_s, done), default=0.0)
    return [j for j in done if j.begun_s >= first_s or (step.plan_of(j.key)[0] or 0.0) >= _LONG_S]


def _end_s(job: Job) -> float:
    return job.begun_s + job.wall_s


def _spent(job: Job) -> _Spent:
    """Return what a finished job took; without a measurement all of it was CPU time."""
    core_s = max(job.wall_s, 0.1) * job.threads
    return _Spent(core_s, core_s if job.cpu_s is None else job.cpu_s)


def _cpu_scale(jobs: Sequence[Job], steps: Mapping[str, Step]) -> float:
    """Return CPU time measured / CPU time planned, of jobs; 1 without jobs."""
    planned_s = sum(steps[job.step].plan_of(job.key)[0] or 0.0 for job in jobs)
    return sum(_spent(job).cpu_s for job in jobs) / planned_s if planned_s else 1.0


def _late(step: Step, cpu_scale: float, now_s: float) -> Iterator[_Spent]:
    """Yield what running jobs took that should have ended on cores of their own."""
    for key, job in step.running.items():
        core_s = job.threads * (now_s - job.begun_s)
        if core_s > (cpu_s := cpu_scale * (step.plan_of(key)[0] or 0.0)):
            yield _Spent(core_s, cpu_s)


def _occupancy(done: Sequence[Job], late: Sequence[_Spent]) -> float:
    """Return time on the clock times cores / CPU time, of the last jobs and late ones."""
    recent = [*map(_spent, done[-_N_RECENT:]), *late]
    cpu_s = sum(job.cpu_s for job in recent)
    return max(1.0, sum(job.core_s for job in recent) / cpu_s) if cpu_s else 1.0


def _to_do(step: Step, scale: float, now_s: float) -> Iterator[_Work]:
    """Yield the jobs of a step that run, or wait."""
    running = step.running
    for key, (seconds, threads) in step.to_do():
        core_s = scale * (seconds or 0.0)
        if job := running.get(key):
            spent_s = job.threads * max(0.0, now_s - job.begun_s)
            late_s = _AS_LATE * (spent_s - core_s)
            core_s = max(core_s - spent_s, _LEAST_LEFT * core_s, late_s)
        yield _Work(core_s, job.threads if job else threads)


def planned_s(steps: Mapping[str, Step], cores: int) -> float:
    """Return the time on the clock that is planned for all jobs."""
    stages: dict[int, list[_Work]] = {}
    for name, step in steps.items():
        works = [_Work(seconds or 0.0, n) for _, (seconds, n) in step.to_do(also_over=True)]
        stages.setdefault(_STAGES.get(name, _LAST), []).extend(works)
    return _span_s(stages, cores)


def _span_s(stages: Mapping[int, Sequence[_Work]], cores: int) -> float:
    """Return the time on the clock of stages that follow each other."""
    return sum(
        sum(work.core_s for work in works) / max(1, min(cores, sum(work.threads for work in works)))
        for works in stages.values()
    )


def _cores_in_use(steps: Mapping[str, Step]) -> int:
    """Return the cores of the jobs that run, as on a cluster."""
    return sum(job.threads for step in steps.values() for job in step.running.values())


def duration(seconds: float | None) -> str:
    """Write a duration for people: 12 s, 3.5 min, 12 min, 2.1 h."""
    if seconds is None:
        return ""
    if seconds < 90:
        return f"{seconds:.0f} s"
    number, unit = (seconds / 60, "min") if seconds < 5400 else (seconds / 3600, "h")
    return f"{number:.0f} {unit}" if number >= 9.95 else f"{number:.1f} {unit}"
