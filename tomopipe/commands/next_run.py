"""`tomopipe plan`: the jobs of the next run and their reasons, scan by scan, with their costs."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any
from urllib.parse import unquote

from tomopipe.campaign.campaign import Campaign, InventoryRows
from tomopipe.campaign.failures import STEPS as RECORDED
from tomopipe.campaign.failures import Failure, failed_stack
from tomopipe.campaign.job_status import position
from tomopipe.campaign.raw_files import unread_folders
from tomopipe.campaign.stacks import stack_notes
from tomopipe.config import FullReconBlock
from tomopipe.cost.cost import Cost, costs
from tomopipe.cost.disk import SCRATCH, disk_needed, half_notes
from tomopipe.cost.job_memory import block_rows, full_recon_mb
from tomopipe.errors import some_of
from tomopipe.groups import grouped
from tomopipe.report.collected_records import collect
from tomopipe.report.records import CampaignRecord
from tomopipe.reruns.made_again import why_again
from tomopipe.reruns.option_faults import closed_folders, option_faults, protected_results
from tomopipe.reruns.settle import PlannedJob, Settled
from tomopipe.reruns.words import METADATA_ALONE, MISSING, is_cause, is_news, is_of_cor

_N_NAMED = 3  # scans in a row of several
_FOLLOWING = ("resolve_cor", "export_star", "report")


@dataclass(frozen=True)
class Plan:
    """The jobs of the next run, its obstacles, and its costs; `most`: if all jobs run."""

    jobs: tuple[PlannedJob, ...]
    failures: tuple[str, ...]
    blocked: str = ""
    costs: tuple[Cost, ...] = ()
    most: tuple[Cost, ...] = ()
    disk: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    can_retry: bool = False  # a failure keeps its scan out of runs; other jobs run again anyway

    @property
    def n_bytes(self) -> int:
        """Disk for the results, without temporary files."""
        return sum(n for what, n in self.disk.items() if what != SCRATCH)

    @property
    def counts(self) -> list[str]:
        """The number of jobs of each rule, and how many there are at most."""
        most = Counter(job.rule for job in self.jobs)
        likely = Counter(job.rule for job in self.jobs if job.is_likely)
        return [f"{up_to(str(likely[rule]), str(n))} {rule}" for rule, n in most.items()]

    @property
    def exit_status(self) -> int:
        """0: nothing to do, 2: jobs to run, 1: failures remain."""
        if self.failures or self.blocked:
            return 1
        return 2 if self.jobs else 0


def up_to(likely: str, most: str) -> str:
    """Return a number, and the largest that it may become."""
    if most in (likely, "unknown"):
        return most
    if likely in ("0", "0.00"):
        return f"up to {most.removeprefix('< ')}"
    return f"{likely} (up to {most})"


def make_plan(campaign: Campaign, record: CampaignRecord | None = None) -> Plan:
    """Determine the jobs of the next run of the default target; or say why it stops before.

    `record` are the results of the campaign, if they are read already.
    """
    result = Settled(campaign)
    rows = result.rows
    planned = sorted(set(result.jobs), key=_order)
    work, most = (
        [(job.rule, job.scan or job.stack) for job in planned if job.is_likely or not likely]
        for likely in (True, False)
    )
    metadata = {(j.rule, j.scan or j.stack) for j in planned if METADATA_ALONE in j.reason}
    spent = costs(campaign, work, rows, metadata)
    failures = standing_failures(campaign, rows, record)
    return Plan(
        jobs=tuple(planned),
        failures=tuple(f"{each.scan}: {each.step}: {each.reason}" for each in failures),
        can_retry=any(
            each.step in RECORDED or failed_stack(campaign.files, each.scan) for each in failures
        ),
        blocked=result.blocked or (closed_folders(campaign) if planned else ""),
        costs=spent,
        most=costs(campaign, most, rows, metadata) if most != work else spent,
        disk=disk_needed(campaign, work, rows),
        notes=(
            *unread_folders(campaign.config, campaign.directory),
            *campaign.table_faults(),
            *campaign.override_notes(),
            *(
                f"no COR, and so no volume: {scan}"
                for scan in result.without_cor
                if not result.blocked
            ),
            *option_faults(campaign, rows),
            *protected_results(campaign, [(job.rule, _key(job)) for job in planned]),
            *memory_notes(campaign, planned, rows),
            *half_notes(campaign, [j.scan for j in planned if j.rule == "full_recon"], rows),
            *stack_notes(campaign, rows),
        ),
    )


def _key(job: PlannedJob) -> str:
    return job.scan or job.stack or job.series or "campaign"


def _order(job: PlannedJob) -> tuple[int, str, str, str]:
    return position(job.rule), job.series, job.scan, job.stack


@dataclass(frozen=True)
class PlanRow:
    """All jobs of one scan, stack or series, or of the campaign as a whole, and their reasons."""

    of: str  # name of the scan, stack or series
    # steps that run for certain, and those that run only if the COR changes
    steps: tuple[str, ...]
    perhaps: tuple[str, ...]
    why: str  # the reasons


def folded(jobs: Iterable[PlannedJob]) -> list[PlanRow]:
    """Combine jobs into one row for each scan, for people."""
    jobs = sorted(jobs, key=_order)
    groups = grouped((_of(job), job) for job in jobs)
    return [
        PlanRow(
            of,
            tuple(job.rule for job in group if job.certain),
            tuple(job.rule for job in group if not job.certain),
            "; ".join(_reasons(group, jobs)),
        )
        for (_, of), group in sorted(groups.items())
    ]


def gathered(rows: Iterable[PlanRow]) -> list[PlanRow]:
    """Combine rows, where several have nothing but the same jobs that may run, for one reason."""
    groups = grouped(
        ((row.perhaps, row.why) if row.perhaps and not row.steps else row.of, row) for row in rows
    )
    return [
        replace(group[0], of=f"{len(group)} scans: {some_of([row.of for row in group], _N_NAMED)}")
        if len(group) > 1
        else group[0]
        for group in groups.values()
    ]


def _of(job: PlannedJob) -> tuple[int, str]:
    """Return the rank and the name of the row that a job belongs to."""
    series = f"series {unquote(job.series)}" if job.rule == "fix_cor" else ""
    names = (job.scan, job.stack, series, "campaign")
    return next((rank, name) for rank, name in enumerate(names) if name)


def _reasons(group: Sequence[PlannedJob], jobs: Sequence[PlannedJob]) -> list[str]:
    """Return the reasons, without those that follow from another job of the row."""
    parts = [part for job in group for part in job.reason.split("; ")]
    reasons = list(dict.fromkeys(list(filter(is_news, parts)) or parts))
    follows = any(job.rule in _FOLLOWING and job.reason != MISSING for job in group)
    causes = _causes(jobs) if follows else []
    if not causes:
        return reasons
    more = [f"and {len(causes) - 2} more"] if len(causes) > 2 else []
    own = [part for part in reasons if is_cause(part) and part not in causes]
    return own + causes[:2] + more


def _causes(jobs: Iterable[PlannedJob]) -> list[str]:
    """Name what changed in single scans."""
    result: dict[str, set[str]] = defaultdict(set)
    for job in jobs:
        for part in job.reason.split("; "):
            # of a series only CORs: added and removed scans are in the inventory's reason
            if job.certain and is_cause(part) and (job.scan or is_of_cor(part)):
                result[part].add(job.scan)
    return [
        part if len(scans) > 1 or is_of_cor(part) else f"{min(scans)}: {part}"
        for part, scans in result.items()
    ]


def standing_failures(
    campaign: Campaign, rows: InventoryRows, record: CampaignRecord | None = None
) -> list[Failure]:
    """Return the remaining failures of selected scans and of stacks."""
    concerned = {*campaign.selected_scans(rows), *campaign.config.stitch.stacks}
    record = record or collect(campaign, why=why_again(campaign))
    return [failure for failure in record.failures if failure.scan in concerned]


def memory_notes(
    campaign: Campaign, planned: Iterable[PlannedJob], rows: InventoryRows
) -> tuple[str, ...]:
    """Report corrections that need more rows around a block than a quarter of it, and their memory.

    One line for each scan size and number of rows; up to a quarter no job takes twice the memory.
    """
    needs = set()
    for job in planned:
        if job.rule != "full_recon" or job.scan not in rows:
            continue
        for_scan, row = campaign.for_scan(job.scan), rows[job.scan]
        halo, binning = for_scan.correction_halo(row), for_scan.config.full_recon.binning
        if halo is not None and 4 * halo > block_rows(binning):
            shape = (int(row[key]) for key in ("n_angles", "n_rows", "n_cols"))
            needs.add((*shape, binning, halo))
    notes = []
    for n_angles, n_rows, n_cols, binning, halo in sorted(needs):
        plain, needed = (
            full_recon_mb(
                (n_angles, n_rows, n_cols), FullReconBlock(binning=binning), halo=rows_around
            )
            for rows_around in (None, halo)
        )
        notes.append(
            f"scans of {n_rows} x {n_cols} pixels: corrections need {halo} rows on each side of a "
            f"block of {min(block_rows(binning, halo), n_rows)}; full_recon asks for "
            f"{needed / 1000:.1f} GB instead of {plain / 1000:.1f} (and more with more threads)"
        )
    return tuple(notes)


def as_records(plan: Plan) -> list[dict[str, Any]]:
    """Return the jobs as `--json` prints them."""
    return [asdict(job) for job in plan.jobs]
