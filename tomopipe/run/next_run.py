"""Jobs of the next run and their reasons, scan by scan.

A dry run ends at a checkpoint, whose table does not exist yet. But the tables follow from existing
files: the inventory from the raw files, the CORs from the predictions and the campaign table. So
`plan` computes them as the steps do, into a separate folder, and asks Snakemake for the jobs of a
run in which the checkpoints have already written them.
"""

import tempfile
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import chdir
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from tomopipe.campaign.campaign import Campaign, InventoryRows, read_inventory
from tomopipe.campaign.files import Files
from tomopipe.campaign.stacks import declared_stacks, find_stacks, stack_notes
from tomopipe.config import FullReconBlock
from tomopipe.cor.rules import FIX_COLUMNS
from tomopipe.errors import TomopipeError
from tomopipe.report.collect import collect
from tomopipe.run.campaign_report import what_to_report
from tomopipe.run.cost import Cost, costs
from tomopipe.run.decisions import Decisions
from tomopipe.run.disk import SCRATCH, disk_needed, half_notes
from tomopipe.run.dryrun import Job, dry_run, planner
from tomopipe.run.job_memory import block_rows, full_recon_mb
from tomopipe.run.progress import ORDER
from tomopipe.run.words import MISSING, UNREADABLE, is_cause, is_news, is_of_cor
from tomopipe.steps import fix_cor, inventory, resolve_cor
from tomopipe.storage.atomic import write_json
from tomopipe.storage.tables import write_tsv

# targets, not work
_NO_WORK = {"all", "predictions"}
_AFTER_COR = ("full_recon", "sidecar")
_TAIL = ("export_star", "report")
_FOLLOWING = ("resolve_cor", *_TAIL)


@dataclass(frozen=True)
class PlannedJob:
    """A job that the next run executes, or may execute.

    Attributes
    ----------
    rule, scan, series, stack : str
        The rule and its scan, series or stack; empty if it does not apply.
    reason : str
        Why it runs, in words.
    certain : bool
        False: only if the COR of the scan changes, which a pending prediction decides.
    """

    rule: str
    scan: str
    series: str
    reason: str
    certain: bool
    stack: str = ""


@dataclass(frozen=True)
class Plan:
    """The jobs of the next run, its obstacles, and its costs."""

    jobs: tuple[PlannedJob, ...]
    failures: tuple[str, ...]
    blocked: str = ""
    costs: tuple[Cost, ...] = ()
    disk: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def n_bytes(self) -> int:
        """Disk for the results, without temporary files."""
        return sum(n for what, n in self.disk.items() if what != SCRATCH)

    @property
    def exit_status(self) -> int:
        """0: nothing to do, 2: jobs to run, 1: failures remain."""
        if self.failures or self.blocked:
            return 1
        return 2 if self.jobs else 0


def make_plan(campaign: Campaign, config: Path) -> Plan:
    """Determine the jobs of the next run of the default target.

    Parameters
    ----------
    campaign : Campaign
        The campaign as it is now.
    config : Path
        Its configuration file, for Snakemake.
    """
    with tempfile.TemporaryDirectory(prefix="tomopipe-plan-") as name, planner() as pool:
        folder = Path(name)
        rows = foresee_inventory(campaign, folder)
        targets = ["predictions", campaign.outputs.cor_table]
        jobs = dry_run(pool, campaign.directory, config, targets, planned=folder)
        pending = {job.wildcards["scan"] for job in jobs if job.rule == "predict_cor"}
        try:
            guessed, without_cor = foresee_cors(campaign, rows, folder, pending)
        except TomopipeError as error:
            return _plan(campaign, jobs, rows, pending, set(), blocked=str(error))
        after = dry_run(pool, campaign.directory, config, [], planned=folder, after_cor=True)
        # messages name the tables by their final paths
        results = campaign.config.campaign.results
        jobs += [replace(job, reason=job.reason.replace(name, results)) for job in after]
        return _plan(campaign, jobs, rows, pending, guessed, without_cor=without_cor)


def foresee_inventory(
    campaign: Campaign, folder: Path, wanted: Iterable[str] | None = None
) -> InventoryRows:
    """Write the inventory of the present raw files into `folder`, and return its rows.

    `wanted` names the scans to read; None: all.
    """
    entries = campaign.inventory_entries()
    if wanted is not None:
        entries = [entry for entry in entries if entry["scan"] in set(wanted)]
    with chdir(campaign.directory):  # as in a run: the paths in the config are relative to it
        inventory.inventory(entries, Files(folder).inventory, campaign.config)
    return read_inventory(Files(folder).inventory)


def foresee_cors(
    campaign: Campaign, rows: InventoryRows, folder: Path, pending: set[str]
) -> tuple[set[str], list[str]]:
    """Write the fix tables and cor.json of the next run into `folder`.

    A pending prediction is assumed to give the same COR.

    Returns
    -------
    guessed : set of str
        Scans whose first prediction is pending; cor.json has a placeholder, so that the later jobs
        are listed.
    without_cor : list of str
        Scans that will have no COR.

    Raises
    ------
    TomopipeError
        If a scan will be without a COR and `on_missing` is block.
    """
    fixed = []
    replaced = Decisions(campaign).replaced(rows)
    for series, scans in campaign.selected_series(rows).items():
        table = fix_cor.compute(
            campaign.predicted_files(scans),
            campaign.members(series, rows, replaced),
            campaign.config.fix_cor,
        )
        write_tsv(table, FIX_COLUMNS, Files(folder).fix_table(series))
        fixed += table
    options = campaign.config.resolve_cor
    known, missing = resolve_cor.compute(
        fixed,
        scans=campaign.to_resolve(rows),
        default_px=options.default_px,
    )
    guessed = set(missing) & pending
    # a pending prediction of the series may still fill the gap
    waiting = _waiting(campaign, pending)
    hopeless = [s for s in missing if campaign.scans[s].series not in waiting]
    if hopeless and options.on_missing == "block":
        raise TomopipeError(
            f"no COR for {', '.join(hopeless)}: the run will stop before any volume is made. "
            "Set one with `tomopipe cor set SCAN VALUE`, give resolve_cor.default_px, take the "
            "scan out (select: no), or set resolve_cor.on_missing: skip."
        )
    stand_in = {scan: {"cor_px": -1.0, "source": "default"} for scan in guessed}
    write_json(known | stand_in, Files(folder).cor_table)
    return guessed, hopeless


def _waiting(campaign: Campaign, pending: set[str]) -> set[str]:
    """Return the series that have a pending prediction."""
    return {campaign.scans[scan].series for scan in pending if scan in campaign.scans}


def _plan(
    campaign: Campaign,
    jobs: list[Job],
    rows: InventoryRows,
    pending: set[str],
    guessed: set[str],
    *,
    blocked: str = "",
    without_cor: Iterable[str] = (),
) -> Plan:
    waiting = _waiting(campaign, pending)
    planned = [
        _planned(campaign, job, guessed, waiting) for job in jobs if job.rule not in _NO_WORK
    ]
    if pending:
        planned = [_stitch(campaign, job, planned) for job in planned]
        planned = [_tail(job, planned) if job.rule in _TAIL else job for job in planned]
    if not blocked:
        planned += _perhaps(campaign, rows, pending, planned)
    planned = sorted(set(planned), key=_order)
    work = [(job.rule, job.scan or job.stack) for job in planned]
    return Plan(
        jobs=tuple(planned),
        failures=tuple(standing_failures(campaign, rows)),
        blocked=blocked,
        costs=costs(campaign, work, rows),
        disk=disk_needed(campaign, work, rows),
        notes=(
            *(f"no COR, and so no volume: {scan}" for scan in without_cor),
            *memory_notes(campaign, planned, rows),
            *half_notes(campaign, [j.scan for j in planned if j.rule == "full_recon"], rows),
            *stack_notes(campaign, rows),
        ),
    )


def _order(job: PlannedJob) -> tuple[int, str, str, str]:
    return ORDER.index(job.rule), job.series, job.scan, job.stack


def _planned(campaign: Campaign, job: Job, guessed: set[str], waiting: set[str]) -> PlannedJob:
    scan = job.wildcards.get("scan", "")
    series = job.wildcards.get("series", "")
    if scan in campaign.scans and not series:
        series = campaign.scans[scan].series
    # While a prediction of the series is pending, a COR that seems changed may stay the same.
    stale_sidecar = job.rule == "sidecar" and job.reason not in (MISSING, UNREADABLE)
    only_cor = stale_sidecar or (job.rule == "full_recon" and is_of_cor(job.reason))
    certain = not (scan in guessed or (only_cor and series in waiting))
    stack = job.wildcards.get("stack", "")
    return PlannedJob(job.rule, scan, series, job.reason, certain, stack)


def _stitch(campaign: Campaign, job: PlannedJob, planned: list[PlannedJob]) -> PlannedJob:
    """Tell whether a stack is stitched regardless of pending predictions."""
    if job.rule != "stitch" or job.reason == MISSING:
        return job
    scans = next(s.scans for s in declared_stacks(campaign) if s.name == job.stack)
    volumes = [other for other in planned if other.rule == "full_recon" and other.scan in scans]
    return replace(job, certain=not volumes or any(other.certain for other in volumes))


def _tail(job: PlannedJob, planned: list[PlannedJob]) -> PlannedJob:
    """Tell whether star or report runs regardless of pending predictions."""
    makes = {"export_star": {"export_stack"}, "report": {"full_recon", "stitch", "inventory"}}
    sure = any(other.certain for other in planned if other.rule in makes[job.rule])
    return replace(job, certain=sure or job.reason == MISSING)


@dataclass(frozen=True)
class PlanRow:
    """All jobs of one scan, stack or series, or of the campaign as a whole, and their reasons.

    Attributes
    ----------
    of : str
        Name of the scan, stack or series.
    steps, perhaps : tuple of str
        Steps that run for certain, and those that run only if the COR changes.
    why : str
        The reasons.
    """

    of: str
    steps: tuple[str, ...]
    perhaps: tuple[str, ...]
    why: str


def folded(jobs: Iterable[PlannedJob]) -> list[PlanRow]:
    """Combine jobs into one row for each scan, for people."""
    jobs = sorted(jobs, key=_order)
    groups: dict[tuple[int, str], list[PlannedJob]] = defaultdict(list)
    for job in jobs:
        series = f"series {job.series}" if job.rule == "fix_cor" else ""
        names = (job.scan, job.stack, series, "campaign")
        groups[next((rank, name) for rank, name in enumerate(names) if name)].append(job)
    return [
        PlanRow(
            of,
            tuple(job.rule for job in group if job.certain),
            tuple(job.rule for job in group if not job.certain),
            "; ".join(_reasons(group, jobs)),
        )
        for (_, of), group in sorted(groups.items())
    ]


def _reasons(group: Sequence[PlannedJob], jobs: Sequence[PlannedJob]) -> list[str]:
    """Return the reasons, without those that follow from another job of the row."""
    parts = [part for job in group for part in job.reason.split("; ")]
    reasons = list(dict.fromkeys(list(filter(is_news, parts)) or parts))
    follows = any(job.rule in _FOLLOWING and job.reason != MISSING for job in group)
    causes = _causes(jobs) if follows else []
    if not causes:
        return reasons
    more = [f"and {len(causes) - 2} more"] if len(causes) > 2 else []
    return [part for part in reasons if is_cause(part)] + causes[:2] + more


def _causes(jobs: Iterable[PlannedJob]) -> list[str]:
    """Name what changed in single scans."""
    found: dict[str, set[str]] = defaultdict(set)
    for job in jobs:
        for part in job.reason.split("; "):
            # of a series only CORs: added and removed scans are in the inventory's reason
            if job.certain and is_cause(part) and (job.scan or is_of_cor(part)):
                found[part].add(job.scan)
    return [
        part if len(scans) > 1 or is_of_cor(part) else f"{min(scans)}: {part}"
        for part, scans in found.items()
    ]


def _perhaps(
    campaign: Campaign, rows: InventoryRows, pending: set[str], planned: list[PlannedJob]
) -> list[PlannedJob]:
    """List the jobs of all scans whose series has a pending prediction, unless they run anyway."""
    waiting = _waiting(campaign, pending)
    sure = {(job.rule, job.scan) for job in planned}
    reason = "if its COR changes: a prediction of its series is pending"
    found = [
        PlannedJob(rule, scan, campaign.scans[scan].series, reason, certain=False)
        for scan in campaign.selected_scans(rows)
        if campaign.scans[scan].series in waiting
        for rule in _AFTER_COR
        if (rule, scan) not in sure
    ]
    stitched = {job.stack for job in planned}
    found += [
        PlannedJob("stitch", "", "", reason, certain=False, stack=stack.name)
        for stack in find_stacks(campaign, rows, rows)
        if not stack.problem and stack.name not in stitched
        if any(campaign.scans[scan].series in waiting for scan in stack.scans)
    ]
    tail = {
        "export_star": campaign.config.export_star.enabled,
        "report": campaign.config.report.enabled,
    }
    for rule, enabled in tail.items():
        if pending and enabled and (rule, "") not in sure:
            found.append(PlannedJob(rule, "", "", "if what it shows changes", certain=False))
    return found


def standing_failures(campaign: Campaign, rows: InventoryRows) -> list[str]:
    """Return one line for each remaining failure of a selected scan or stack."""
    concerned = {*campaign.selected_scans(rows), *campaign.config.stitch.stacks}
    failures = collect(**what_to_report(campaign)).failures
    return [f"{f.scan}: {f.step}: {f.reason}" for f in failures if f.scan in concerned]


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
            f"scans of {n_rows} x {n_cols} pixels: corrections need {halo} rows on each side of "
            f"{block_rows(binning, halo)}; full_recon asks for "
            f"{needed / 1000:.1f} GB instead of {plain / 1000:.1f} (and more with more threads)"
        )
    return tuple(notes)


def as_records(plan: Plan) -> list[dict[str, Any]]:
    """Return the jobs as `--json` prints them."""
    return [asdict(job) for job in plan.jobs]
