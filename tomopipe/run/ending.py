"""The end of a run: records of failed jobs, report, exit status; removal of temporary files."""

import os
import re
import sys
import time
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from tomopipe.campaign.campaign import Campaign, stats_of
from tomopipe.campaign.failures import STEPS, record_failures
from tomopipe.campaign.files import STACK, STAR, VOLUMES
from tomopipe.campaign.log import read_job
from tomopipe.campaign.relion_set import failed_stacks, note_lines
from tomopipe.campaign.results import (
    InventoryRows,
    read_cor_json,
    read_inventory,
    volume_cor_px,
)
from tomopipe.campaign.stacks import find_stacks
from tomopipe.campaign.state import ACCEPTED
from tomopipe.cor.cor_value import same_cor
from tomopipe.errors import (
    TomopipeError,
    fault_lines,
    full_disk,
    is_of_the_system,
    scans_named,
    some_of,
)
from tomopipe.paths import no_pipe
from tomopipe.reruns.option_faults import nothing_usable, unused_cors
from tomopipe.reruns.reasons import why_again
from tomopipe.reruns.receipts import Receipts, digest
from tomopipe.reruns.settle import Settled
from tomopipe.reruns.staleness import relion_notes, statement_in
from tomopipe.reruns.target import Target
from tomopipe.run import launch, progress
from tomopipe.steps.resolve_cor import renew_paths
from tomopipe.storage import run_folder
from tomopipe.storage.atomic import take_away
from tomopipe.storage.checksums import quick_state
from tomopipe.storage.json_files import json_or

_N_NAMED = 4  # scans in a line
_LOOK_S = 0.5  # between two looks for a volume
# lines of Snakemake's log if a person ended the run: then no scan has failed
_ENDED_BY_HAND = re.compile("Terminating processes on user request|Will exit after finishing")


def after_failure(campaign: Campaign, logs: Iterable[str], *, since: float) -> None:
    """Record the jobs that failed finally, and write the report of the existing results.

    The campaign is as read when the run began, at `since` (Unix seconds); `logs` are Snakemake's.
    """
    # a job that could not write its error on a full disk is taken for a killed one
    if ended_by_hand(logs) or full_disk(campaign.logs.folder):
        return
    files = stats_of(campaign.scans.values())
    failures = record_failures(campaign.results, campaign.logs.folder, files, since=since)
    for line in fault_lines((f"{job.step} {job.error}", job.key) for job in failures):
        _print(line)
    if scans := list(dict.fromkeys(job.key for job in failures)):
        _print(
            f"{scans_named(scans)}: skipped from the next run on, which finishes all others; "
            f"`tomopipe retry {scans[0]}` tries again."
        )
    if campaign.config.report.enabled:
        # the page lists failures, which the next run may mend without another change of the page
        failed = {job.key: job for job in failures}
        _write_report(replace(campaign, failures=campaign.failures | failed))


def after_success(campaign: Campaign, settled: Settled | None, *, is_whole: bool) -> None:
    """Report what a successful run has left open; exit with 3 if a scan is not finished.

    `settled` is the decision on which the run was based, None on a node; `is_whole`: the run was of
    the whole campaign.
    """
    for line in run_folder.warnings():
        _print(line)
    if not is_whole or settled is None:
        return
    if launch.is_remote():
        _wait_for_volumes(campaign, settled)
    _renew_report(settled)
    remove_temporary(campaign)
    print_skipped_stacks(campaign, settled.rows, settled.cors)
    print_warnings(campaign, settled.rows)
    if unfinished := unfinished_scans(campaign):
        for line in unfinished:
            _print(line)
        if not progress.is_read():  # else `tomopipe run` names it
            _print(f"see {campaign.outputs.report}")
        raise SystemExit(3)


def _wait_for_volumes(campaign: Campaign, settled: Settled) -> None:
    """Wait for volumes that nodes have made, by their receipts, and this host does not see yet."""
    end_s = time.monotonic() + launch.latency_s()
    while any(_is_late(campaign, scan) for scan in settled.cors) and time.monotonic() < end_s:
        with suppress(OSError):
            os.listdir(campaign.results)  # so NFS asks its server
        time.sleep(_LOOK_S)


def _is_late(campaign: Campaign, scan: str) -> bool:
    """Tell whether a volume was made, by its receipt, and is not seen on this host yet."""
    volume = campaign.directory / campaign.volume(scan)
    return not volume.exists() and campaign.files.receipt("full_recon", scan).exists()


def _renew_report(settled: Settled) -> None:
    """Write the page again if its content has changed since its job, as after a failed stack."""
    campaign = settled.campaign
    if not campaign.config.report.enabled or settled.pending:
        return
    target = settled.target.statement("report", "campaign", settled.cors)
    stated = statement_in(campaign.directory / campaign.outputs.receipt("report"))
    if stated is None or digest(stated) != digest(target):
        _write_report(campaign, settled)


def record_page(campaign: Campaign, settled: Settled | None = None) -> None:
    """Write the receipt of a page that no job has written; without a decision a stale one.

    Errors are ignored, as in the campaign of another user.
    """
    with suppress(OSError, TomopipeError):
        if not campaign.files.report.exists():
            return
        if settled and not settled.pending:
            stated = settled.target.statement("report", "campaign", settled.cors)
        else:
            stated = {"step": "report"}
        receipts = settled.receipts if settled else Receipts(campaign.directory, campaign.outputs)
        receipts.write("report", "campaign", stated, [campaign.outputs.report])
        receipts.save()


def at_exit(campaign: Campaign, receipts: Receipts | None = None) -> None:
    """Save the receipts at the end of a run; `receipts`, if they have been read already."""
    with suppress(OSError, TomopipeError):
        if receipts is None:
            receipts = Receipts(campaign.directory, campaign.outputs)
            receipts.present()  # adds those that jobs have written
        receipts.save()


def renew_rot_cen(settled: Settled) -> None:
    """Write rot_cen.json again for a campaign that was moved, unless a job writes it."""
    campaign, files, key = settled.campaign, settled.campaign.files, ("resolve_cor", "campaign")
    statement = None if key in settled.reasons else settled.staleness.up_to_date.get(key)
    with suppress(OSError, TomopipeError):
        scans = campaign.to_resolve(settled.rows) if statement else {}
        if statement and renew_paths(files.cor_table, files.rot_cen, scans):
            settled.receipts.write(*key, statement, settled.outputs(*key))


def _write_report(campaign: Campaign, settled: Settled | None = None) -> None:
    """Write the report at the end of a run, and its receipt as `record_page` does."""
    try:
        report_campaign(campaign, campaign.files.report)
    except Exception as error:  # Snakemake drops exceptions raised here
        _print(f"the report could not be written: {error}")
    else:
        record_page(campaign, settled)


def has_ended(campaign: Campaign) -> bool:
    """Tell whether the next run has at most to write the page: then no edit is pending."""
    try:
        return all(job.rule == "report" for job in Settled(campaign).jobs)
    except (OSError, TomopipeError):
        return False


def report_campaign(campaign: Campaign, output: str | Path) -> list[str]:
    """Write the report of the existing results; return the files that could not be read."""
    from tomopipe.steps.report import report

    notes, unread = {}, set[str]()
    try:
        notes = relion_notes(campaign, read_inventory(campaign.files.inventory))
    except (OSError, TomopipeError) as error:
        unread = {campaign.outputs.inventory} if is_of_the_system(error) else set()
    return sorted({*unread, *report(output, campaign, notes=notes, why=why_again(campaign))})


def ended_by_hand(logs: Iterable[str]) -> bool:
    """Tell from Snakemake's logs whether a person stopped the run."""
    for log in logs:
        with suppress(OSError):
            text = Path(no_pipe(log)).read_text(encoding="utf-8", errors="replace")
            if _ENDED_BY_HAND.search(text):
                return True
    return False


def unfinished_scans(campaign: Campaign) -> list[str]:
    """List the selected scans without COR, volume or stack; a line for each kind.

    The campaign is as read when the run began.
    """
    files = campaign.files
    if not (files.inventory.exists() and files.cor_table.exists()):
        return []
    try:
        inventory, resolved = read_inventory(files.inventory), read_cor_json(files.cor_table)
    except TomopipeError as error:
        return [str(error)]
    scans = campaign.selected_scans(inventory)
    without_cor = [scan for scan in scans if scan not in resolved]
    without_volume = [
        scan
        for scan in scans
        if scan not in without_cor
        and not os.path.exists(os.path.join(campaign.directory, campaign.volume(scan)))
        and not _is_late(campaign, scan)
    ]
    lines = nothing_usable(campaign, inventory)
    if to_come := [scan for scan in without_cor if _is_to_come(campaign, scan)]:
        lines.append(f"no COR yet, the next run makes it: {scans_named(to_come)}")
        without_cor = [scan for scan in without_cor if scan not in to_come]
    if without_cor:
        default = " set resolve_cor.default_px," * (campaign.config.resolve_cor.default_px is None)
        lines.append(
            f"no COR, and so no volume: {scans_named(without_cor)}. Set one with `tomopipe cor set "
            f"SCAN VALUE`,{default} or take the scan out (select: no)."
        )
        lines += unused_cors(campaign, inventory)
    if without_volume:
        lines.append(f"no volume: {scans_named(without_volume)}")
    return lines + _not_in_set(campaign, [scan for scan in scans if scan in resolved])


def _is_to_come(campaign: Campaign, scan: str) -> bool:
    """Tell whether a scan lacks a COR only because the run ended too early."""
    files = campaign.files
    if any(files.failure(step, scan).exists() for step in STEPS):
        return False
    prediction = json_or(files.prediction(scan), None)
    return prediction is None or prediction.get("cor_px") is not None


def _not_in_set(campaign: Campaign, scans: Sequence[str]) -> list[str]:
    """Return a line with the scans that have no stack for RELION, and the reasons; [] if none."""
    failed = failed_stacks(campaign, scans)
    if not failed:
        return []
    why = some_of(fault_lines((reason, scan) for scan, reason in failed.items()), _N_NAMED)
    return [
        f"RELION's set has {len(scans) - len(failed)} of {len(scans)} tomograms, not {why}. "
        "Correct its file or options, exclude it (select: no), or `tomopipe retry SCAN`."
    ]


def set_remarks(campaign: Campaign) -> list[str]:
    """Return a line if RELION's set is missing or outdated; not for the process of a run."""
    files = campaign.files
    try:
        rows, resolved = read_inventory(files.inventory), read_cor_json(files.cor_table)
    except (OSError, TomopipeError):
        return []
    cors = {scan: resolved[scan] for scan in campaign.selected_scans(rows) if scan in resolved}
    if not (campaign.makes_star and cors):
        return []
    star = files.in_relion(STAR)
    target = Target(campaign, rows)
    no_stack = [scan for scan in cors if target.why_step("export_stack", scan, cors)]
    if not star.exists():
        fault = "not made yet"
    elif no_stack or target.why_export_star(cors):
        fault = "of earlier stacks"
    else:
        return []
    missing = f": missing {some_of(no_stack, _N_NAMED)}" if no_stack else ""
    n = len(cors)
    return [f"{fault}; `tomopipe run` makes it once all {n} scans have stacks{missing}"]


def print_skipped_stacks(campaign: Campaign, rows: InventoryRows, cors: Collection[str]) -> None:
    """Report the stacks that were not stitched because a scan has no volume, and why."""
    for stack in find_stacks(campaign, rows, cors):
        if stack.problem:
            made = campaign.files.stitched(stack.name, campaign.config.full_recon.output)
            before = f"; {made} is of an earlier run" if made.exists() else ""
            _print(f"stack {stack.name} is not stitched: {stack.problem}{before}")


def print_warnings(campaign: Campaign, rows: InventoryRows) -> None:
    """Report warnings on RELION's set, and clipped voxels; other warnings are in the table."""
    for line in note_lines(relion_notes(campaign, rows)):
        _print(line)
    of_set = campaign.makes_star and read_job(campaign.logs.status("export_star", "campaign"))
    if of_set and of_set.warning:
        _print(f"{of_set.warning}; see {of_set.log}")
    jobs = {
        scan: read_job(campaign.logs.status("full_recon", scan))
        for scan in campaign.selected_scans(rows)
    }
    if clipped := [scan for scan, job in jobs.items() if job and job.warning]:
        _print(f"voxels outside full_recon.value_range, see the report: {scans_named(clipped)}")


def remove_temporary(campaign: Campaign) -> None:
    """Remove temporary try stacks of accepted scans; stacks for RELION are still needed."""
    try:
        n_bytes = remove(removable(campaign, stacks=False))
    except Exception as error:  # a successful run must not fail here
        _print(f"temporary files could not be removed: {error}")
        return
    if n_bytes:
        _print(f"removed try stacks of accepted scans, {n_bytes / 1e9:.3f} GB (storage.keep_try)")


def _print(text: str) -> None:
    print(f"tomopipe: {text}", file=sys.stderr)


class Temporary(NamedTuple):
    """A file that may be removed: `try stack`, `try slice`, `RELION stack` or `volume`."""

    kind: str
    path: Path
    n_bytes: int


def removable(campaign: Campaign, *, stacks: bool = True) -> list[Temporary]:
    """List the temporary files of accepted scans; `stacks`: also those for RELION."""
    from tomopipe.volumes.tiff import is_ours, try_slice_paths

    storage, files = campaign.config.storage, campaign.files
    try_stacks, stacks = not storage.keep_try, stacks and not storage.keep_stacks
    paths: list[tuple[str, Path]] = []
    for scan in accepted_scans(campaign) if try_stacks or stacks else ():
        if try_stacks:
            slices = filter(is_ours, try_slice_paths(files.of_scan(scan)))
            paths += [("try stack", files.try_stack(scan)), *(("try slice", p) for p in slices)]
        if stacks:
            paths.append(("RELION stack", files.stack(scan)))
    return [
        Temporary(kind, path, path.lstat().st_size)
        for kind, path in paths
        if path.is_file() and not path.is_symlink()
    ]


def of_removed_scans(campaign: Campaign) -> list[Temporary]:
    """List volumes and stacks for RELION of scans that are no longer in the campaign.

    Also volumes in another format than the present one of a scan: no run makes them again.
    """
    scans = {scan.name for scan in (*campaign.scans.values(), *campaign.refused)}

    def is_leftover(path: Path, ending: str, kind: str) -> bool:
        scan = path.name.removesuffix(ending)
        if kind != "volume" or scan not in campaign.scans:
            return scan not in scans
        target = campaign.directory / campaign.volume(scan)
        return path != target and target.exists()

    folders = [(campaign.results, ending, "volume") for ending in VOLUMES.values()]
    folders.append((campaign.files.stack("").parent, STACK, "RELION stack"))
    return [
        Temporary(kind, path, (quick_state(path) or (0,))[0])
        for folder, ending, kind in folders
        for path in sorted(folder.glob(f"*{ending}"))
        if is_leftover(path, ending, kind)
        and (kind != "volume" or volume_cor_px(path) is not None)  # not of another program
    ]


def remove(files: list[Temporary]) -> int:
    """Remove files; return the number of bytes freed."""
    for file in files:
        try:
            take_away(file.path)
        except OSError as error:
            raise TomopipeError(f"{file.path}: cannot be removed ({error})") from error
    return sum(file.n_bytes for file in files)


def accepted_scans(campaign: Campaign) -> list[str]:
    """List the scans that need no more attention.

    Their COR was set by hand, or predicted, accepted without doubts and not replaced; their volume
    exists and was made at that COR.
    """
    from tomopipe.report.collected_records import collect  # slow to load

    return [
        scan.name
        for scan in collect(campaign, why=why_again(campaign)).scans
        if scan.name in campaign.scans
        and scan.state in ACCEPTED
        and not (scan.failures or scan.is_edited or scan.volume is None or scan.cor_px is None)
        and same_cor(volume_cor_px(scan.volume), scan.cor_px)  # last, as it opens the volume
    ]
