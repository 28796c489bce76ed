"""Collect the existing results of a campaign, complete or not, into one record."""

import os
import platform
import shutil
import subprocess
from collections.abc import Container, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from tomopipe import __version__
from tomopipe.campaign.campaign import Campaign
from tomopipe.campaign.failures import Why, all_right
from tomopipe.campaign.files import TRUTH, VOLUMES, encode_series, title_of
from tomopipe.campaign.log import JobStatus
from tomopipe.campaign.results import read_cor_json, read_inventory
from tomopipe.campaign.series import file_over_time
from tomopipe.campaign.stacks import Stack, declared_stacks, find_stacks
from tomopipe.campaign.state.signs import State
from tomopipe.cor.outliers import finite_median
from tomopipe.cor.over_time import model_of
from tomopipe.errors import TomopipeError, grouped, is_of_the_system
from tomopipe.report.records import (
    CampaignRecord,
    ScanRecord,
    SeriesRecord,
    StackRecord,
    alert_groups,
)
from tomopipe.report.scan_records import Reader, ScanReader, jobs_on_page
from tomopipe.storage.json_files import json_or, number, part, text, texts
from tomopipe.volume_formats import IN_TIME
from tomopipe.workflow_steps import STEPS

_NOT_YET = "not stitched yet"
_PACKAGES = ("snakemake", "numpy", "scipy", "numba", "h5py", "pillow")
_GIT_SECONDS = 10


def collect(
    campaign: Campaign,
    *,
    notes: Mapping[str, Container[str]] | None = None,
    points: bool = False,
    why: Why = all_right,
) -> CampaignRecord:
    """Read the existing results of a campaign; a broken file is noted and skipped.

    The record has everything on the page except pictures and citations, which come from the
    volumes. `notes` are further warnings, with the scans that each concerns; `points`: whether to
    read the points of curves, which takes most of the time; `why` gives the reason if a result
    that a job failed to replace is stale.
    """
    reader = Reader(campaign.directory)
    scans = ScanReader(campaign, reader, why, volumes=True, points=points, notes=notes)
    records, jobs = scans.records(), scans.jobs
    stitched = _read_stacks(reader, campaign, jobs)
    truth = json_or(campaign.directory / TRUTH, {})  # of a simulation, or foreign
    return CampaignRecord(
        name=title_of(campaign.config, campaign.directory),
        scans=tuple(records),
        series=_series_records(campaign, records),
        alerts=alert_groups(records),
        failures=_failures(campaign, jobs, stitched),
        last_job_end=max((j.end_s for j in jobs if j.end_s is not None), default=None),
        notes=tuple(reader.notes),
        versions=_versions(),
        config=campaign.config.model_dump(),
        seed=text(truth.get("seed")) if part(truth, "scans") else "",
        stacks=stitched,
    )


def collect_scans(
    campaign: Campaign,
    reader: Reader | None = None,
    *,
    volumes: bool = False,
    why: Why = all_right,
) -> list[ScanRecord]:
    """Read only the results of the scans, without points of curves; `reader` notes broken files.

    `volumes`: whether to open volumes that may have another COR; `why` as for `collect`.
    """
    reader = reader or Reader(campaign.directory)
    return ScanReader(campaign, reader, why, volumes=volumes).records()


def collect_failures(campaign: Campaign, why: Why = all_right) -> tuple[JobStatus, ...]:
    """Return the failed jobs that `collect` has, without reading results of scans."""
    reader = Reader(campaign.directory)
    jobs = jobs_on_page(campaign, why, reader)
    return _failures(campaign, jobs, _read_stacks(reader, campaign, jobs))


def _series_records(campaign: Campaign, scans: Sequence[ScanRecord]) -> tuple[SeriesRecord, ...]:
    """Group the selected scans by series."""
    members = grouped((scan.series, scan) for scan in scans if scan.state is not State.SKIPPED)
    results = []
    for key, group in sorted(members.items()):
        fixes = [s.fix for s in group if s.fix is not None and s.state is not State.UNSELECTED]
        names = [scan.name for scan in group if scan.name in campaign.scans]
        over_time = None
        if file_over_time(campaign, names):
            over_time = model_of(fixes, campaign.config.fix_cor.over_time)
        limits = [f.limit_px for f in fixes if f.limit_px is not None]
        results.append(
            SeriesRecord(
                key=key,
                scans=tuple(group),
                median_px=finite_median(fix.before_px for fix in fixes),
                limit_px=limits[0] if limits else None,
                model=over_time.line() if over_time else None,
                model_name=over_time.name if over_time else "",
            )
        )
    return tuple(results)


def _failures(
    campaign: Campaign, jobs: Iterable[JobStatus], stacks: Iterable[StackRecord]
) -> tuple[JobStatus, ...]:
    """Return the failed jobs; of stacks, series and the set for RELION only if still needed."""
    problems = {stack.name: stack.problem for stack in stacks}

    def is_needed(job: JobStatus) -> bool:
        step = STEPS.get(job.step)
        if step and step.key == "stack":
            return problems.get(job.key, "").startswith(job.error)
        if step and step.key == "series":
            return any(encode_series(scan.series) == job.key for scan in campaign.scans.values())
        return step is None or step.is_enabled(campaign)

    return tuple(job for job in jobs if job.state == "failed" and is_needed(job))


def _read_stacks(
    reader: Reader, campaign: Campaign, jobs: Iterable[JobStatus] = ()
) -> tuple[StackRecord, ...]:
    """Read the result of each stack, or why its job failed."""
    files, results = campaign.files, []
    failed = {
        job.key: job.error or "the job ended without a result"
        for job in jobs
        if job.step == "stitch" and job.state in ("failed", "lost")
    }
    for stack in _stacks(reader, campaign):
        outputs = (IN_TIME,) if stack.is_time else VOLUMES
        volumes = (files.stitched(stack.name, output) for output in outputs)
        volume = next((path for path in volumes if path.exists()), None)
        data = reader.json(files.shifts(stack.name)) or {} if volume else {}
        shape = data.get("shape")
        problem = stack.problem or failed.get(stack.name) or ("" if volume else _NOT_YET)
        if problem and volume:
            scans = texts(part(data, "made_from").get("scans"))
            problem += "; the volume shown is an earlier one"
            problem += f", of {', '.join(scans)}" if scans else ""
        results.append(
            StackRecord(
                name=stack.name,
                scans=stack.scans,
                problem=problem,
                volume=volume,
                shape=tuple(shape) if isinstance(shape, list) else (),
                pairs=tuple(_pair(p) for p in data.get("pairs", []) if isinstance(p, dict)),
                is_time=stack.is_time,
                gaps=stack.gaps_text,
            )
        )
    return tuple(results)


def _stacks(reader: Reader, campaign: Campaign) -> list[Stack]:
    """Return the stacks, with their problems as far as known; a system error is noted."""
    if not campaign.config.stitch.names:
        return []
    try:
        inventory = read_inventory(campaign.files.inventory)
        return find_stacks(campaign, inventory, read_cor_json(campaign.files.cor_table))
    except (OSError, TomopipeError) as error:
        if is_of_the_system(error):
            reader.note(campaign.results, str(error), error)
        return declared_stacks(campaign)


def _pair(data: Mapping[str, Any]) -> dict[str, Any]:
    first, second = (*texts(data.get("scans")), "", "")[:2]
    keys = ("z_px", "y_px", "x_px", "overlap_rows", "correlation")
    return {"first": first, "second": second} | {key: number(data.get(key)) for key in keys}


def _versions() -> dict[str, str]:
    """List the versions of tomopipe, Python and the packages that affect results."""
    result = {"tomopipe": __version__}
    if git_commit := commit(Path(__file__).parents[2]):
        result["commit"] = git_commit
    result["Python"] = platform.python_version()
    for package in _PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            result[package] = metadata.version(package)
    return result


@cache
def commit(folder: Path) -> str:
    """Return the git commit of a checkout, with "-dirty" for later edits; "" if none."""
    if not (folder / ".git").exists() or shutil.which("git") is None:
        return ""
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        answer = subprocess.run(
            [*command, "--exclude=*"],
            env=os.environ | {"GIT_OPTIONAL_LOCKS": "0"},  # do not lock a checkout in use
            capture_output=True,
            text=True,
            check=False,
            timeout=_GIT_SECONDS,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return answer.stdout.strip()
