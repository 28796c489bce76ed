"""`tomopipe plan`: the jobs of the next run and their reasons, scan by scan, with their costs."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

from tomopipe.campaign.campaign import Campaign
from tomopipe.campaign.failures import Why, forget
from tomopipe.campaign.files import job_name
from tomopipe.campaign.log import JobStatus, position
from tomopipe.campaign.overlaps import SHARING
from tomopipe.campaign.raw_files import unread_folders
from tomopipe.campaign.results import InventoryRows
from tomopipe.campaign.selection import table_faults, unmatched_overrides
from tomopipe.campaign.step_files import closed_folders
from tomopipe.errors import grouped, scans_named, some_of
from tomopipe.report.collected_records import collect_failures
from tomopipe.report.records import CampaignRecord
from tomopipe.reruns.failed_results import why_again
from tomopipe.reruns.foreign import to_keep
from tomopipe.reruns.parameters import sharing
from tomopipe.reruns.reasons import METADATA_ALONE, MISSING, is_news
from tomopipe.reruns.settle import PlannedJob, Settled
from tomopipe.reruns.target import Target
from tomopipe.resources.disk import disk_needed
from tomopipe.resources.jobs import START_S
from tomopipe.resources.jobs import planned as planned_work
from tomopipe.run.forecast import duration, planned_s
from tomopipe.run.progress import Step
from tomopipe.run.unfinished import skipped_stacks, unused_cors
from tomopipe.storage.atomic import giving_rights, is_protected
from tomopipe.workflow_steps import SEARCH_STEPS, STEPS
from tomopipe.workflow_steps import Step as WorkflowStep

_N_NAMED = 4  # files in a line
_FAILED = "failed before, tried again"
_FAILS_ALIKE = "fails as its COR did, until its file or options change"
_READ_FOR = {rule: step for step, rule in SHARING.items()}


@dataclass(frozen=True)
class Plan:
    """The jobs of the next run, its obstacles, and its costs."""

    jobs: tuple[PlannedJob, ...]
    failures: tuple[str, ...]
    blocked: str = ""
    cpu_s: float = 0.0  # of computing, and of starting each job
    wall_s: float = 0.0  # on the cores of this machine
    n_bytes: int = 0  # of the results
    n_open: int = 0  # volumes that may follow, and count in the costs, as their stacks do
    n_open_stacks: int = 0
    open_tables: tuple[str, ...] = ()  # steps of campaign and stacks that may follow them
    faults: tuple[str, ...] = ()  # of the campaign table
    notes: tuple[str, ...] = ()
    retry: str = ""  # the scans that failures keep out of runs, and what to type

    @property
    def counts(self) -> list[str]:
        """The number of jobs of each rule, and of volumes and stacks that may follow.

        Besides them the steps of the campaign that may run because of these.
        """
        jobs = [f"{n} {rule}" for rule, n in Counter(job.rule for job in self.jobs).items()]
        if not self.n_open:
            return jobs
        numbers = {"volume": self.n_open, "stack": self.n_open_stacks}
        what = " and ".join(f"{n} {name}{'s' * (n > 1)}" for name, n in numbers.items() if n)
        cors = "CORs are" if self.n_open > 1 else "COR is"
        then = f", then {', '.join(self.open_tables)}" if self.open_tables else ""
        return [*jobs, f"up to {what}, whose {cors} not known yet{then}"]

    @property
    def summary(self) -> str:
        """The CORs and volumes to make, and the time: a line without names of rules."""
        if not self.jobs:
            return "Nothing to do."
        n, n_alone = Counter(job.rule for job in self.jobs), sum(map(_is_metadata, self.jobs))
        numbers = {
            "COR": n["predict_cor"],
            "volume": n["full_recon"] - n_alone + self.n_open,
            "stitched volume": n["stitch"],
            "stack": n["export_stack"] + self.n_open_stacks,
        }
        parts = [f"{n} {what}{'s' * (n > 1)}" for what, n in numbers.items() if n]
        parts += [f"metadata of {n_alone} volume{'s' * (n_alone > 1)}"] * bool(n_alone)
        made = ", ".join(parts) or "tables" + " and report" * bool(n["report"])
        return f"{made} to make, about {duration(self.wall_s)}"

    @property
    def exit_status(self) -> int:
        """0: nothing to do, 2: jobs to run, 1: failures remain."""
        if self.failures or self.blocked:
            return 1
        return 2 if self.jobs else 0


def make_plan(
    campaign: Campaign,
    record: CampaignRecord | None = None,
    *,
    settled: Settled | None = None,
) -> Plan:
    """Return the jobs of the next run, or why it cannot start.

    `record` (results of the campaign) and `settled`, the decision on a run of everything or of some
    volumes, may be passed if they exist already.
    """
    result = settled or Settled(campaign)
    rows, volumes_of = result.rows, result.volumes_of
    planned = sorted(set(result.jobs), key=_order)
    of_run = _after_cors(campaign, result)
    may_follow = jobs_to_follow(campaign, result)
    waiting = any(not result.open_scans.isdisjoint(s.scans) for s in result.target.declared())
    keys = ("campaign", "stack") if waiting else ("campaign",)
    tables = {step.name: None for step in of_run if step.key in keys}
    for job in planned:
        tables.pop(job.rule, None)
    jobs = [(job.rule, job.key) for job in planned] + may_follow
    reading = list(_reading(result))
    work = {name: Step() for name, _ in jobs} | {job.rule: Step() for job in reading}
    for step, key in [*jobs, *((job.rule, job.key) for job in reading)]:
        work[step].planned[key] = planned_work(campaign, step, key, rows)
    for job in filter(_is_metadata, planned):
        work[job.rule].planned[job.key] = START_S, 1
    failures = standing_failures(campaign, rows, record)
    if volumes_of:
        failures = [failure for failure in failures if failure.key in volumes_of]
    shown = [*reading, *tried_again(planned, failures)]
    return Plan(
        jobs=tuple(sorted(shown, key=_order)),
        failures=tuple(failure_lines(failures)),
        retry=retry_hint(campaign, failures, lambda *job: result.reasons.get(job, "")),
        blocked=result.blocked or (closed_folders(campaign) if planned else ""),
        cpu_s=sum(seconds or 0.0 for step in work.values() for seconds, _ in step.planned.values()),
        wall_s=planned_s(work, len(os.sched_getaffinity(0))),
        n_bytes=sum(disk_needed(campaign, jobs, rows).values()),
        n_open=len(result.open_scans),
        n_open_stacks=sum(step == "export_stack" for step, _ in may_follow),
        open_tables=tuple(tables) if result.open_scans else (),
        faults=tuple(table_faults(campaign)),
        notes=(
            *unread_folders(campaign.config, campaign.directory),
            *unmatched_overrides(campaign)[1],
            *(
                f"no COR, and so no volume: {scan}"
                for scan in result.without_cor
                if not (result.blocked or volumes_of)
            ),
            *to_keep(result.of_others),
            *unused_cors(campaign, rows),
            *_protected_results(campaign, [(job.rule, job.key) for job in planned]),
            *(() if volumes_of else skipped_stacks(campaign, rows, rows, "will not be")),
        ),
    )


def tried_again(jobs: Sequence[PlannedJob], failures: Iterable[JobStatus]) -> Iterator[PlannedJob]:
    """Yield jobs; the result of one that failed is not just missing."""
    errors = {(job.step, job.key): job.error for job in failures}
    due = {(job.rule, job.key) for job in jobs}
    for job in jobs:
        error = errors.get((job.rule, job.key))
        if error is None or job.reason != MISSING:
            yield job
        else:
            search = {(step, job.key) for step in SEARCH_STEPS} - due
            fails_alike = error in map(errors.get, search)
            yield replace(job, reason=_FAILS_ALIKE if fails_alike else _FAILED)


def failure_lines(failures: Iterable[JobStatus]) -> Iterator[str]:
    """Yield a line for each scan and error, with all steps that failed of it."""
    groups = grouped(((job.key, job.error), job.step) for job in failures)
    return (f"{key}: {', '.join(steps)}: {error}" for (key, error), steps in groups.items())


def _reading(settled: Settled) -> Iterator[PlannedJob]:
    """Yield the jobs that read frames for several windows, which are no steps."""
    for step, rule in SHARING.items():
        for overlap in sharing(settled, step):
            scan = overlap.scans[0]
            why = f"follows {step} of {len(overlap.scans)} time points that overlap"
            yield PlannedJob(rule, scan, settled.campaign.scans[scan].series, why)


def _is_metadata(job: PlannedJob) -> bool:
    return METADATA_ALONE in job.reason


def _order(job: PlannedJob) -> tuple[int, str, str, str]:
    return position(_READ_FOR.get(job.rule, job.rule)), job.series, job.scan, job.stack


@dataclass(frozen=True)
class PlanRow:
    """All jobs of one scan, stack or series, or of the campaign as a whole, and their reasons."""

    of: str  # name of the scan, stack or series
    steps: tuple[str, ...]
    why: str  # the reasons


def _after_cors(campaign: Campaign, settled: Settled) -> list[WorkflowStep]:
    """Return the steps of a run that need CORs."""
    after = (s for s in STEPS.values() if s.is_after_cors and s.is_enabled(campaign))
    return [s for s in after if s.of_runs == "volumes" or not settled.volumes_of]


def jobs_to_follow(campaign: Campaign, settled: Settled) -> list[tuple[str, str]]:
    """Return the jobs, step and scan, that may follow once the CORs that are open are known."""
    steps = [step.name for step in _after_cors(campaign, settled) if step.key == "scan"]
    return list(product(steps, sorted(settled.open_scans)))


def folded(jobs: Iterable[PlannedJob]) -> list[PlanRow]:
    """Combine jobs into one row for each scan."""
    groups = grouped((_of(job), job) for job in sorted(jobs, key=_order))
    return [
        PlanRow(key[1], tuple(job.rule for job in group), "; ".join(_reasons(group)))
        for key, group in sorted(groups.items())
    ]


def _of(job: PlannedJob) -> tuple[int, str]:
    """Return the rank and the name of the row that a job belongs to."""
    series = f"series {job_name(job.rule, job.series)}" if job.rule == "fix_cor" else ""
    names = (job.scan, job.stack, series, "campaign")
    return next((rank, name) for rank, name in enumerate(names) if name)


def _reasons(group: Sequence[PlannedJob]) -> list[str]:
    """Return the reasons of jobs without "another job runs"; if there are none, the first one."""
    parts = [part for job in group for part in job.reason.split("; ")]
    return list(dict.fromkeys(filter(is_news, parts))) or parts[:1]


def retry_hint(campaign: Campaign, failures: Iterable[JobStatus], why: Why) -> str:
    """Name the failed scans that the next run does not try again, and what to type; "" if none.

    `why` tells why the next run makes a result again; a record of a killed job prevents it.
    """

    def is_due(job: JobStatus) -> bool:
        steps = (*SEARCH_STEPS, job.step)
        return job.key not in campaign.failures and any(why(step, job.key) for step in steps)

    failed = [job for job in failures if job.state == "failed" and not is_due(job)]
    scans = forget(campaign.results, dict.fromkeys(job.key for job in failed), dry_run=True)
    killed = [scan for scan in scans if scan in campaign.failures]
    others = [scan for scan in scans if scan not in campaign.failures]
    lines = {
        "Try again with": killed,
        "A failed COR or stack is tried again once files or options of its scan change, "
        "else with": others,
    }
    texts = [f"{how} `tomopipe retry SCAN`: {scans_named(of)}." for how, of in lines.items() if of]
    return " ".join(texts)


def standing_failures(
    campaign: Campaign, rows: InventoryRows, record: CampaignRecord | None = None
) -> list[JobStatus]:
    """Return the remaining failures of selected scans and of stacks."""
    concerned = {*campaign.selected_scans(rows), *campaign.config.stitch.names}
    failures = record.failures if record else collect_failures(campaign, why_again(campaign))
    return [failure for failure in failures if failure.key in concerned]


def _protected_results(campaign: Campaign, jobs: Iterable[tuple[str, str]]) -> list[str]:
    """Name the write-protected results of `jobs` (step and key) in one line."""
    target = Target(campaign)
    paths = dict.fromkeys(path for job in jobs for path in target.outputs(*job))
    results = [path for path in paths if is_protected(campaign.directory / path)]
    if not results:
        return []
    shown = [campaign.directory / path for path in results[:_N_NAMED]]
    how_many = f" ({len(results)})" if len(results) > _N_NAMED else ""
    return [
        f"{some_of(results, _N_NAMED)}{how_many}: write-protected, and kept: a job that is to make "
        f"it again fails, the others run. To have it made: {giving_rights(shown)}"
    ]
