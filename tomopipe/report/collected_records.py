"""Collect the existing results of a campaign, complete or not, into one record."""

import os
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tomopipe.campaign.failures import Failure
from tomopipe.campaign.files import TRUTH, Files, Logs
from tomopipe.campaign.job_status import JobStatus
from tomopipe.campaign.series import encode_series
from tomopipe.campaign.state import NOT_SELECTED, State
from tomopipe.cor.outliers import FIX_COLUMNS
from tomopipe.report.alerts import alert_groups
from tomopipe.report.citations import citations
from tomopipe.report.efficiency import allocations, of_jobs
from tomopipe.report.records import CampaignRecord, Note, ScanRecord, SeriesRecord
from tomopipe.report.scan_record import SCAN_STEPS, Sources, refused_records, scan_record
from tomopipe.report.sources import Reader, parse_failure, parse_fix
from tomopipe.report.stitched import read_stacks
from tomopipe.report.times import read_jobs, step_times
from tomopipe.report.versions import versions
from tomopipe.storage.json_files import number, part, text

_INVENTORY = ("scan", "path", "series", "index", "n_angles", "n_rows", "n_cols", "keep", "reason")


def collect(
    results: str | os.PathLike[str],
    logs: str | os.PathLike[str],
    *,
    campaign_name: str,
    scans: Iterable[Mapping[str, Any]],
    config: Mapping[str, Any],
    stacks: Iterable[Mapping[str, Any]] = (),
    unread: str = "",
    points: bool = True,
) -> CampaignRecord:
    """Read the existing results of a campaign; a broken file is noted and skipped.

    Parameters
    ----------
    results, logs : path-like
        The folders of results and of logs; the latter is in the campaign folder.
    campaign_name : str
        The name shown.
    scans : iterable of dict
        The scans of the campaign: scan, path, series, index, select, manual, warnings.
    config : mapping
        The complete config, one block per step.
    stacks : iterable of dict
        The stacks of the campaign: name, scans, problem.
    unread : str
        Why the stacks could not be determined, or empty.
    points : bool
        Whether to read the points of curves, which takes most of the time.

    Returns
    -------
    CampaignRecord
        Everything on the page except the pictures.
    """
    files, log_files = Files(Path(results).absolute()), Logs(Path(logs).absolute())
    base = log_files.folder.parent
    reader = Reader(base)
    if unread:
        reader.notes.append(Note(reader.relative(files.folder), unread, again=True))
    jobs = read_jobs(reader, log_files.status_folder)
    entries = [dict(entry) for entry in scans]
    source = _read_sources(reader, files, log_files, jobs, config, entries)
    records = _scan_records(reader, replace(source, points=points), entries)
    stitched = read_stacks(reader, files, stacks)
    return CampaignRecord(
        name=campaign_name,
        scans=tuple(records),
        series=_series_records(records),
        alerts=alert_groups(records),
        failures=(
            *(f for s in records for f in s.failures),
            *_failed_predictions(reader, source, records),
            *_campaign_failures(reader, log_files, jobs),
        ),
        times=step_times(jobs),
        last_job_end=max((j.end_s for j in jobs if j.end_s is not None), default=None),
        notes=tuple(reader.notes),
        versions=versions(),
        config=config,
        allocations=allocations(jobs),
        efficiency=of_jobs(jobs),
        citations=citations(records, config),
        seed=text((reader.json(base / TRUTH) or {}).get("seed")),
        stacks=stitched,
    )


def collect_scans(
    files: Files[Path],
    logs: Logs[Path],
    scans: Iterable[Mapping[str, Any]],
    config: Mapping[str, Any],
) -> list[ScanRecord]:
    """Read the results of the scans only, curves without points; arguments as for `collect`."""
    reader = Reader(logs.folder.parent)
    entries = [dict(entry) for entry in scans]
    jobs = read_jobs(reader, logs.status_folder)
    source = _read_sources(reader, files, logs, jobs, config, entries)
    return _scan_records(reader, replace(source, points=False), entries)


def _scan_records(
    reader: Reader, source: Sources, entries: list[dict[str, Any]]
) -> list[ScanRecord]:
    records = [scan_record(reader, source, entry) for entry in entries]
    records += refused_records(source, entries)
    return sorted(records, key=lambda s: (s.series, s.index, s.name, s.path))


def _read_sources(
    reader: Reader,
    files: Files[Path],
    logs: Logs[Path],
    jobs: Sequence[JobStatus],
    config: Mapping[str, Any],
    entries: Sequence[Mapping[str, Any]],
) -> Sources:
    rows = {(r["scan"], r["path"]): r for r in reader.tsv(files.inventory, _INVENTORY)}
    fixes = {}
    # Only tables of existing series: those of renamed series may still exist.
    for key in sorted({text(entry.get("series")) for entry in entries}):
        for row in reader.tsv(files.fix_table(encode_series(key)), FIX_COLUMNS):
            fixes[row["scan"]] = parse_fix(row)
    by_name: dict[str, dict[str, JobStatus]] = defaultdict(dict)
    for job in jobs:
        by_name[job.key][job.step] = job
    floor = number(part(config, "predict_cor").get("min_confidence"))
    return Sources(
        files=files,
        logs=logs,
        rows=rows,
        cor=reader.json(files.cor_table),
        fixes=fixes,
        jobs=by_name,
        has_default=number(part(config, "resolve_cor").get("default_px")) is not None,
        min_confidence=0.5 if floor is None else floor,
        volume_form=text(part(config, "full_recon").get("output")),
    )


def _series_records(scans: Sequence[ScanRecord]) -> tuple[SeriesRecord, ...]:
    """Group the selected scans by series."""
    members = defaultdict(list)
    for scan in scans:
        if scan.state is not State.SKIPPED:
            members[scan.series].append(scan)
    found = []
    for key, group in sorted(members.items()):
        fixes = [s.fix for s in group if s.fix is not None and s.state is not State.UNSELECTED]
        before = [f.before_px for f in fixes if f.before_px is not None]
        limits = [f.limit_px for f in fixes if f.limit_px is not None]
        found.append(
            SeriesRecord(
                key=key,
                scans=tuple(group),
                median_px=statistics.median(before) if before else None,
                limit_px=limits[0] if limits else None,
            )
        )
    return tuple(found)


def _failed_predictions(
    reader: Reader, source: Sources, scans: Iterable[ScanRecord]
) -> Iterable[Failure]:
    """Yield the errors that try_recon and predict_cor wrote as their result."""
    for scan in scans:
        if scan.state in NOT_SELECTED or scan.is_by_hand:
            continue
        if scan.prediction is not None and scan.prediction.verdict == "failed":
            reason = scan.prediction.reason
            yield parse_failure(reader, source.logs, "predict_cor", scan.name, reason)


def _campaign_failures(
    reader: Reader, logs: Logs[Path], jobs: Iterable[JobStatus]
) -> tuple[Failure, ...]:
    """Return the failed jobs of a series or of the whole campaign."""
    return tuple(
        parse_failure(reader, logs, job.step, job.key, job.error)
        for job in jobs
        if job.state == "failed" and job.step not in SCAN_STEPS
    )
