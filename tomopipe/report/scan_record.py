"""The record of one scan, from the files of a campaign."""

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tomopipe.campaign.campaign import Campaign
from tomopipe.campaign.counted_jobs import OF_SCANS, Why
from tomopipe.campaign.failures import Failure, is_made
from tomopipe.campaign.files import VOLUMES
from tomopipe.campaign.job_status import JobStatus
from tomopipe.campaign.raw_files import CampaignScan
from tomopipe.campaign.relion_set import failed_stacks
from tomopipe.campaign.results import (
    Fix,
    Prediction,
    other_cor_px,
)
from tomopipe.campaign.state import ACCEPTED
from tomopipe.cor.robust_line import off_line
from tomopipe.groups import grouped
from tomopipe.report.records import ScanRecord
from tomopipe.report.sources import Reader, parse_failure, parse_prediction
from tomopipe.storage.json_files import number, part, text, texts


@dataclass(frozen=True)
class Sources:
    """Everything read for the whole campaign, by scan."""

    campaign: Campaign
    rows: Mapping[tuple[str, str], Mapping[str, str]]
    cor: Mapping[str, Any] | None
    fixes: Mapping[str, Fix]
    jobs: Mapping[str, Mapping[str, JobStatus]]  # by name, then by step
    notes: Mapping[str, Container[str]]  # warnings, and their scans
    points: bool  # of curves, which take most of the time
    volumes: bool  # whether volumes that may be of another COR are opened
    why: Why  # why results that a job failed to replace are not as wanted


def scan_records(reader: Reader, source: Sources) -> list[ScanRecord]:
    """Return everything known about all scans, by series and index, refused ones included."""
    records = [_scan_record(reader, source, scan) for scan in source.campaign.scans.values()]
    records += _refused_records(source)
    return _compared(sorted(records, key=lambda s: (s.series, s.index, s.name, s.path)))


def _compared(records: list[ScanRecord]) -> list[ScanRecord]:
    """Note which predictions the other trusted CORs of their series contradict."""
    trusted = [
        (scan.series, (number, cor_px))
        for number, scan in enumerate(records)
        if scan.state in ACCEPTED and not (scan.fix and scan.fix.flagged)
        for cor_px in [scan.shown[0] if scan.manual_px is None else scan.manual_px]
        if cor_px is not None
    ]
    for points in grouped(trusted).values():
        numbers, cors_px = zip(*points, strict=True)
        for position, off in off_line(cors_px).items():
            scan = records[numbers[position]]
            text = f"{off.off_px:+.2f} px off the line of its series"
            text += f" (scatter {off.spread_px:.2f} px)"
            records[numbers[position]] = replace(scan, off_series=text)
    return records


def _scan_record(reader: Reader, source: Sources, scan: CampaignScan) -> ScanRecord:
    name, path = scan.name, scan.path
    files, config = source.campaign.files, source.campaign.config
    row = source.rows.get((name, path))
    data = reader.json(files.prediction(name))
    prediction = None if data is None else parse_prediction(data, points=source.points)
    volume = _find_volume(source.campaign, name)
    stack = files.try_stack(name)
    try_tif = stack if stack.exists() else None
    grid = reader.json(files.sweep(name)) or {}
    fix = source.fixes.get(name)
    if prediction is not None and fix is not None and fix.by_file:
        prediction = replace(prediction, method="", confidence=None)  # made at another COR
    cor = part(source.cor or {}, name)
    cor_px = number(cor.get("cor_px"))
    volume_of = "" if volume is None else _other_origin(source, name, volume, cor_px)
    failures = _standing_failures(reader, source, name, path, is_old=bool(volume_of))
    result = ScanRecord(
        name=name,
        path=path,
        series=scan.series,
        index=scan.index,
        reached=_reached(source, name, cor_px, prediction, None if volume_of else volume, failures),
        select=scan.select,
        manual=scan.manual,
        row=row,
        shape=_shape(row),
        cor_px=cor_px,
        source=text(cor.get("source")),
        decided=source.cor is not None,
        has_default=config.resolve_cor.default_px is not None,
        min_confidence=config.predict_cor.min_confidence,
        protect_manual=config.fix_cor.protect_manual,
        prediction=prediction,
        fix=fix,
        failures=failures,
        volume=volume,
        volume_of=volume_of,
        try_tif=try_tif,
        swept="failed" not in grid and (try_tif is not None or files.rows(name).exists()),
    )
    warnings = (
        *_split((row or {}).get("warnings", "")),
        *_remarks(grid),
        *result.warnings_beside,
        *_of_volume(source.jobs.get(name, {}).get("full_recon"), volume),
        *(note for note, scans in source.notes.items() if name in scans),
    )
    return replace(result, warnings=warnings)


def _shape(row: Mapping[str, str] | None) -> tuple[int, int, int] | None:
    """Read (n_angles, n_rows, n_cols) of an inventory row; None if the file could not be read."""
    sizes = [number((row or {}).get(key)) for key in ("n_angles", "n_rows", "n_cols")]
    results = [int(size) for size in sizes if size]
    return (results[0], results[1], results[2]) if len(results) == 3 else None


def _split(cell: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in cell.split(";") if part.strip())


def _remarks(grid: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the remarks of try_recon on a scan, from its try.json."""
    remarks = texts(grid.get("notes"))
    if grid.get("half_acquisition") is True:
        remarks += ("half acquisition: slices twice as wide as the detector",)
    return remarks


def _of_volume(job: JobStatus | None, volume: Path | None) -> tuple[str, ...]:
    return (job.warning,) if job and job.warning and volume else ()


def _find_volume(campaign: Campaign, name: str) -> Path | None:
    """Find the volume of a scan, in the configured format or that of an earlier run."""
    outputs = (campaign.config.full_recon.output, *VOLUMES)
    volumes = (campaign.files.volume(name, output) for output in outputs)
    return next((volume for volume in volumes if volume.exists()), None)


def _other_origin(source: Sources, name: str, volume: Path, cor_px: float | None) -> str:
    """Say what a volume was made from that is not wanted now; "" if nothing is known."""
    if source.volumes:
        other_px = other_cor_px(volume, cor_px, source.campaign.files.cor_table)
        if other_px is not None:
            return f"COR {other_px:.2f}"
    job = source.jobs.get(name, {}).get("full_recon")
    why = source.why("full_recon", name) if job and job.state in ("failed", "lost") else ""
    return f"earlier options or files ({why})" if why else ""


def _standing_failures(
    reader: Reader, source: Sources, name: str, path: str, *, is_old: bool
) -> tuple[Failure, ...]:
    """Return the failures of a scan without a later success, in order of step.

    `is_old`: its volume is not what is wanted now.
    """
    files, found = source.campaign.files, []
    for step in OF_SCANS:
        record = reader.json(files.failure(step, name))
        job = source.jobs.get(name, {}).get(step)
        is_asked = step == "export_stack" and source.campaign.scans[name].select != "no"
        if reason := failed_stacks(source.campaign, [name] if is_asked else []).get(name):
            found.append(parse_failure(reader, source.campaign.logs, step, name, reason))
            continue
        died = record is not None and _counts(record, reader.base / path)
        died = died or (job is not None and job.state == "failed")
        is_other = is_old if step == "full_recon" else died and source.why(step, name)
        if died and (is_other or not is_made(files, step, name)):
            reason = text((record or {}).get("reason")) or (job.error if job else "")
            found.append(parse_failure(reader, source.campaign.logs, step, name, reason))
    return tuple(found)


def _counts(record: Mapping[str, Any], raw: Path) -> bool:
    """Tell whether the raw file is unchanged since the record was made."""
    try:
        status = raw.stat()
    except OSError:
        return True
    return (record.get("bytes"), record.get("mtime_ns")) == (status.st_size, status.st_mtime_ns)


def _reached(
    source: Sources,
    name: str,
    cor_px: float | None,
    prediction: Prediction | None,
    volume: Path | None,
    failures: Iterable[Failure],
) -> str:
    """Return the last step that a scan has completed."""
    # A stack is written in parallel to the report of the same run, which might see it unfinished.
    aside = {failure.step for failure in failures} | {"export_stack"}
    for step, job in source.jobs.get(name, {}).items():
        if job.state == "running" and step in OF_SCANS and step not in aside:
            return f"running {step}"
    if volume is not None:
        return "volume"
    if cor_px is not None:
        return "COR"
    if prediction is not None:
        return "prediction"
    return "try" if source.campaign.files.rows(name).exists() else ""


def _refused_records(source: Sources) -> Iterable[ScanRecord]:
    """Yield the inventory rows that are not a scan of the campaign: invalid or duplicate names."""
    known = {(scan.name, scan.path) for scan in source.campaign.scans.values()}
    config = source.campaign.config
    for (name, path), row in source.rows.items():
        if (name, path) not in known and row["keep"] != "true":
            yield ScanRecord(
                name=name,
                path=path,
                series=row["series"],
                index=int(number(row["index"]) or 0),
                row=row,
                shape=_shape(row),
                warnings=_split(row.get("warnings", "")),
                min_confidence=config.predict_cor.min_confidence,
                protect_manual=config.fix_cor.protect_manual,
            )
