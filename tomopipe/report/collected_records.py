"""Collect the existing results of a campaign, complete or not, into one record."""

from collections import defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tomopipe.campaign.campaign import Campaign
from tomopipe.campaign.counted_jobs import OF_SCANS, Why, counted
from tomopipe.campaign.failures import Failure
from tomopipe.campaign.files import TRUTH, Logs
from tomopipe.campaign.job_status import JobStatus
from tomopipe.campaign.series import encode_series
from tomopipe.campaign.state import NOT_SELECTED, State
from tomopipe.cor.outliers import FIX_COLUMNS, known_median
from tomopipe.groups import grouped
from tomopipe.report.alerts import alert_groups
from tomopipe.report.records import CampaignRecord, ScanRecord, SeriesRecord, StackRecord
from tomopipe.report.scan_record import Sources, scan_records
from tomopipe.report.sources import Reader, parse_failure, parse_fix
from tomopipe.report.stitched import read_stacks, why_failed
from tomopipe.report.times import read_jobs, step_times
from tomopipe.report.versions import versions
from tomopipe.storage.json_files import json_or, part, text

_INVENTORY = ("scan", "path", "series", "index", "n_angles", "n_rows", "n_cols", "keep", "reason")


def collect(
    campaign: Campaign,
    *,
    notes: Mapping[str, Container[str]] | None = None,
    points: bool = True,
    why: Why | None = None,
) -> CampaignRecord:
    """Read the existing results of a campaign; a broken file is noted and skipped.

    Everything on the page except the pictures, and the citations, which volumes state. `notes` are
    more warnings, and the scans that each concerns; `points`: whether to read the points of curves,
    which takes most of the time; `why` is asked of results that a job failed to replace.
    """
    reader = Reader(campaign.directory)
    jobs = counted(campaign, read_jobs(reader, campaign.logs.status_folder), why)
    more = {"notes": notes or {}, "points": points, "volumes": True, "why": why or _as_wanted}
    source = _read_sources(reader, campaign, jobs, **more)
    records = scan_records(reader, source)
    stitched = read_stacks(reader, campaign, jobs)
    return CampaignRecord(
        name=campaign.name,
        scans=tuple(records),
        series=_series_records(records),
        alerts=alert_groups(records),
        failures=(
            *(f for s in records for f in s.failures),
            *_failed_predictions(reader, campaign.logs, records),
            *_campaign_failures(reader, campaign, jobs, stitched),
        ),
        times=step_times(jobs),
        last_job_end=max((j.end_s for j in jobs if j.end_s is not None), default=None),
        notes=tuple(reader.notes),
        versions=versions(),
        config=campaign.config.model_dump(),
        seed=_seed(campaign.directory / TRUTH),
        stacks=stitched,
    )


def _seed(path: Path) -> str:
    """Return the seed of a simulation, "" if there is none; the file may be somebody else's."""
    truth = json_or(path, {})
    return text(truth.get("seed")) if part(truth, "scans") else ""


def collect_scans(
    campaign: Campaign,
    reader: Reader | None = None,
    *,
    volumes: bool = False,
    why: Why | None = None,
) -> list[ScanRecord]:
    """Read the results of the scans only, curves without points; `reader` notes broken files.

    `volumes`: whether those that may be of another COR are opened; `why` as for `collect`.
    """
    reader = reader or Reader(campaign.directory)
    jobs = counted(campaign, read_jobs(reader, campaign.logs.status_folder), why)
    more = {"notes": {}, "points": False, "volumes": volumes, "why": why or _as_wanted}
    source = _read_sources(reader, campaign, jobs, **more)
    return scan_records(reader, source)


def _read_sources(
    reader: Reader, campaign: Campaign, jobs: Sequence[JobStatus], **more: Any
) -> Sources:
    files, fixes = campaign.files, {}
    rows = {(r["scan"], r["path"]): r for r in reader.tsv(files.inventory, _INVENTORY)}
    # Only tables of existing series: those of renamed series may still exist.
    for key in sorted({scan.series for scan in campaign.scans.values()}):
        for row in reader.tsv(files.fix_table(encode_series(key)), FIX_COLUMNS):
            fixes[row["scan"]] = parse_fix(row)
    by_name: dict[str, dict[str, JobStatus]] = defaultdict(dict)
    for job in jobs:
        by_name[job.key][job.step] = job
    return Sources(campaign, rows, reader.json(files.cor_table), fixes, by_name, **more)


def _as_wanted(_step: str, _scan: str) -> str:
    return ""


def _series_records(scans: Sequence[ScanRecord]) -> tuple[SeriesRecord, ...]:
    """Group the selected scans by series."""
    members = grouped((scan.series, scan) for scan in scans if scan.state is not State.SKIPPED)
    found = []
    for key, group in sorted(members.items()):
        fixes = [s.fix for s in group if s.fix is not None and s.state is not State.UNSELECTED]
        limits = [f.limit_px for f in fixes if f.limit_px is not None]
        found.append(
            SeriesRecord(
                key=key,
                scans=tuple(group),
                median_px=known_median(fix.before_px for fix in fixes),
                limit_px=limits[0] if limits else None,
            )
        )
    return tuple(found)


def _failed_predictions(
    reader: Reader, logs: Logs[Path], scans: Iterable[ScanRecord]
) -> Iterable[Failure]:
    """Yield the errors that try_recon and predict_cor wrote as their result."""
    for scan in scans:
        if scan.state in NOT_SELECTED or scan.is_by_hand:
            continue
        if scan.prediction is not None and scan.prediction.verdict == "failed":
            reason = scan.prediction.reason
            yield parse_failure(reader, logs, "predict_cor", scan.name, reason)


def _campaign_failures(
    reader: Reader, campaign: Campaign, jobs: Iterable[JobStatus], stacks: Iterable[StackRecord]
) -> tuple[Failure, ...]:
    """Return the failed jobs of a stack, of a series or of the whole campaign, if still wanted."""
    problems = {stack.name: stack.problem for stack in stacks}

    def is_wanted(job: JobStatus) -> bool:
        if job.step == "stitch":
            return problems.get(job.key, "").startswith(why_failed(job))
        if job.step == "fix_cor":
            return any(encode_series(scan.series) == job.key for scan in campaign.scans.values())
        return job.step != "export_star" or campaign.config.export_star.enabled

    return tuple(
        parse_failure(reader, campaign.logs, job.step, job.key, job.error)
        for job in jobs
        if job.state == "failed" and job.step not in OF_SCANS and is_wanted(job)
    )
