"""Stacks: scans at several heights, and the result of stitching them."""

from collections.abc import Iterable, Mapping
from typing import Any

from tomopipe.campaign.campaign import Campaign, read_inventory
from tomopipe.campaign.failures import plain_error
from tomopipe.campaign.files import VOLUMES
from tomopipe.campaign.job_status import JobStatus
from tomopipe.campaign.results import read_cor_json
from tomopipe.campaign.stacks import Stack, declared_stacks, find_stacks
from tomopipe.errors import TomopipeError, is_of_the_system
from tomopipe.report.records import StackRecord
from tomopipe.report.sources import Reader
from tomopipe.storage.json_files import number, part, texts

_NOT_YET = "no run has come to it yet"


def why_failed(job: JobStatus) -> str:
    """Return the error of a job that stitches, in our words."""
    return plain_error(job.error, job.step) or "the job ended without a result"


def read_stacks(
    reader: Reader, campaign: Campaign, jobs: Iterable[JobStatus] = ()
) -> tuple[StackRecord, ...]:
    """Read the result of each stack; one whose job failed says why."""
    files, found = campaign.files, []
    failed = {
        job.key: why_failed(job)
        for job in jobs
        if job.step == "stitch" and job.state in ("failed", "lost")
    }
    for stack in _stacks(reader, campaign):
        volumes = (files.stitched(stack.name, output) for output in VOLUMES)
        volume = next((path for path in volumes if path.exists()), None)
        data = reader.json(files.shifts(stack.name)) or {} if volume else {}
        shape = data.get("shape")
        problem = stack.problem or failed.get(stack.name) or ("" if volume else _NOT_YET)
        if problem and volume:
            problem += f"; the volume shown was made before{_of_scans(data)}"
        found.append(
            StackRecord(
                name=stack.name,
                scans=stack.scans,
                problem=problem,
                volume=volume,
                shape=tuple(shape) if isinstance(shape, list) else (),
                pairs=tuple(_pair(p) for p in data.get("pairs", []) if isinstance(p, dict)),
            )
        )
    return tuple(found)


def _stacks(reader: Reader, campaign: Campaign) -> list[Stack]:
    """Return the stacks with known reasons against stitching; a system error is noted."""
    if not campaign.config.stitch.stacks:
        return []
    try:
        inventory = read_inventory(campaign.files.inventory)
        return find_stacks(campaign, inventory, read_cor_json(campaign.files.cor_table))
    except (OSError, TomopipeError) as error:
        if is_of_the_system(error):
            reader.note(campaign.results, str(error), error)
        return declared_stacks(campaign)


def _of_scans(data: Mapping[str, Any]) -> str:
    """Return the scans that a volume was stitched from, as the end of a sentence."""
    scans = texts(part(data, "made_from").get("scans"))
    return f", of {', '.join(scans)}" if scans else ""


def _pair(data: Mapping[str, Any]) -> dict[str, Any]:
    first, second = (*texts(data.get("scans")), "", "")[:2]
    keys = ("z_px", "y_px", "x_px", "overlap_rows", "correlation")
    return {"first": first, "second": second} | {key: number(data.get(key)) for key in keys}
