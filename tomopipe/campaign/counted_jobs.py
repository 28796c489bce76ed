"""How ended jobs count: by the results that there are now."""

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from itertools import product

from tomopipe.campaign.campaign import Campaign, read_inventory
from tomopipe.campaign.failures import STEPS, is_made
from tomopipe.campaign.job_status import JobStatus
from tomopipe.campaign.relion_set import failed_stacks
from tomopipe.campaign.results import center_by_hand
from tomopipe.campaign.stacks import failed_of_gone_stack
from tomopipe.errors import TomopipeError
from tomopipe.storage.json_files import json_or, text

Why = Callable[[str, str], str]
"""Says why the next run makes a result of a step, and a scan or stack, again; "" if it does not."""
OF_SCANS = ("try_recon", "predict_cor", "full_recon", "export_stack", "sidecar")


def counted(campaign: Campaign, jobs: Iterable[JobStatus], why: Why | None) -> list[JobStatus]:
    """Return the jobs as they count now.

    One that failed to replace a result which is as wanted is done, without a time, if `why` can
    tell; one whose result is an error has failed. Failures of scans and stacks that are not asked
    for are left out, and those of the search for a COR that the campaign table has.
    """
    not_asked, result = set[tuple[str, str]](), []
    with suppress(OSError, TomopipeError):
        rows = read_inventory(campaign.files.inventory)
        selected = campaign.selected_scans(rows)
        with_cor = [scan for scan in selected if not campaign.needs_search(scan, rows[scan])]
        not_asked = {*product(OF_SCANS, {*rows} - {*selected}), *product(STEPS, with_cor)}
    for job in jobs:
        step, scan, has_failed = job.step, job.key, job.state in ("failed", "lost")
        is_asked = (step, scan) not in not_asked
        if has_failed and (failed_of_gone_stack(campaign, job) or not is_asked):
            continue
        if job.state == "done" and is_asked and (error := _error_in_result(campaign, job)):
            result.append(replace(job, state="failed", error=error))
        elif has_failed and why and is_made(campaign.files, step, scan) and not why(step, scan):
            result.append(replace(job, state="done", end_s=None, error=""))
        else:
            result.append(job)
    return result


def _error_in_result(campaign: Campaign, job: JobStatus) -> str:
    """Return the error that a job wrote as its result; "" if none, or a COR by hand replaces it."""
    files, scan = campaign.files, job.key
    if job.step == "export_stack":
        return failed_stacks(campaign, [scan]).get(scan, "")
    if job.step != "predict_cor" or scan not in campaign.scans:
        return ""
    path, content = files.prediction(scan), {}
    with suppress(OSError):
        if b'"failed"' in path.read_bytes():  # in few: parsing takes longer
            content = json_or(path, {})
    by_hand = campaign.scans[scan].manual.px, center_by_hand(files.center(scan), None)
    is_error = content.get("verdict") == "failed" and by_hand == (None, None)
    return text(content.get("reason")) or "prediction failed" if is_error else ""
