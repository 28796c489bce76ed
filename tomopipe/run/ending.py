"""The end of a run: records of failed jobs, report, what is left open, exit status."""

import os
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace

from tomopipe.campaign.campaign import Campaign
from tomopipe.campaign.failures import forget_running, record_failures
from tomopipe.errors import fault_lines, full_disk, scan_word, scans_named
from tomopipe.reruns.settle import Settled
from tomopipe.run import command_line, hooks, launch, progress, targets
from tomopipe.run.page import renew_page, write_page
from tomopipe.run.temporary_files import removable, remove
from tomopipe.run.unfinished import (
    clipped_volumes,
    is_late,
    outdated_conversions,
    skipped_stacks,
    unfinished_scans,
    warnings_of,
)
from tomopipe.storage import run_folder

_LOOK_S = 0.5  # between two looks for a volume


def obey_stop() -> None:
    """Let another thread do what Snakemake does on SIGTERM, as by `tomopipe stop --finish`."""
    if callable(ends := signal.getsignal(signal.SIGTERM)):
        with suppress(ValueError):  # not in the main thread
            signal.signal(signal.SIGTERM, launch.in_thread(ends))


def after_failure(campaign: Campaign, logs: Iterable[str], *, since: float, is_whole: bool) -> None:
    """Record the jobs that failed finally, and write the report of the existing results.

    The campaign is as read when the run began, at `since` (Unix seconds); `logs` are Snakemake's;
    `is_whole`: the run was of the whole campaign.
    """
    # a job that could not write its error on a full disk is taken for a killed one
    if launch.ended_by_hand(logs):
        forget_running(campaign.logs, since=since)
        hooks.end("stopped")
        return
    if full_disk(campaign.logs.folder):
        hooks.end("failed")
        return
    failures = record_failures(campaign, since=since)
    for line in fault_lines((f"{job.step} {job.error}", job.key) for job in failures):
        progress.say(line)
    if scans := list(dict.fromkeys(job.key for job in failures)):
        progress.say(
            f"{scans_named(scans)}: skipped from the next run on, which finishes all others; "
            f"`tomopipe retry {scan_word(scans[0])}` tries again."
        )
    # the page lists failures, which the next run may mend without another change of the page
    failed = {job.key: job for job in failures}
    campaign = replace(campaign, failures=campaign.failures | failed)
    if campaign.config.report.enabled:
        write_page(campaign)
    if is_whole or _ends_at_cors(campaign):
        _remove_temporary(campaign)
    hooks.end("failed", failures)


def after_success(campaign: Campaign, settled: Settled | None, *, is_whole: bool) -> None:
    """Report what a successful run has left open; exit with 3 if a scan is not finished.

    `settled` is the decision on which the run was based, None on a node; `is_whole`: the run was of
    the whole campaign.
    """
    for line in run_folder.warnings():
        progress.say(line)
    if not is_whole or settled is None:
        if _ends_at_cors(campaign):
            _remove_temporary(campaign)
        asked = settled.volumes_of if settled and command_line.executes() else ()
        for line in (*clipped_volumes(campaign, asked), *outdated_conversions(campaign, asked)):
            progress.say(line)
        hooks.end("finished")
        return
    if command_line.is_remote():
        _wait_for_volumes(campaign, settled)
    renew_page(settled)
    _remove_temporary(campaign)
    lines = skipped_stacks(campaign, settled.rows, settled.cors)
    for line in [*lines, *warnings_of(campaign, settled.rows)]:
        progress.say(line)
    unfinished = unfinished_scans(campaign)
    hooks.end("unfinished" if unfinished else "finished")
    if unfinished:
        for line in unfinished:
            progress.say(line)
        if not progress.is_read():  # else `tomopipe run` names it
            progress.say(f"see {campaign.outputs.report}")
        raise SystemExit(3)


def _ends_at_cors(campaign: Campaign) -> bool:
    """Tell whether the run was of all CORs, without volumes."""
    return command_line.executes() and targets.last_step(campaign) == "resolve_cor"


def _wait_for_volumes(campaign: Campaign, settled: Settled) -> None:
    """Wait for volumes that nodes have made, by their receipts, and this host does not see yet."""
    end_s = time.monotonic() + command_line.latency_s()
    while any(is_late(campaign, scan) for scan in settled.cors) and time.monotonic() < end_s:
        with suppress(OSError):
            os.listdir(campaign.results)  # so NFS asks its server
        time.sleep(_LOOK_S)


def _remove_temporary(campaign: Campaign) -> None:
    """Remove temporary try stacks of accepted scans; stacks for RELION are still needed."""
    try:
        n_bytes = remove(removable(campaign, stacks=False))
    except Exception as error:  # nothing else may suffer
        progress.say(f"temporary files could not be removed: {error}")
        return
    if n_bytes:
        from tomopipe.resources.disk import shown_size  # loads numpy

        kept = "storage.keep_try: true keeps them"
        progress.say(f"removed try stacks of accepted scans, {shown_size(n_bytes)} ({kept})")
