"""The end of a run: records of failed jobs, report, exit status; what is removed then."""

import os
import re
import sys
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from tomopipe.campaign.campaign import Campaign, stats_of
from tomopipe.campaign.failures import STEPS, record_failures
from tomopipe.campaign.files import STACK, STAR, VOLUMES
from tomopipe.campaign.log import read_job
from tomopipe.campaign.relion_set import failed_stacks
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
from tomopipe.reruns.option_faults import nothing_usable, unused_cors
from tomopipe.reruns.reasons import why_again
from tomopipe.reruns.receipts import Receipts, digest
from tomopipe.reruns.relion_notes import note_lines, relion_notes
from tomopipe.reruns.settle import Settled
from tomopipe.reruns.staleness import statement_in
from tomopipe.reruns.target import Target
from tomopipe.run import progress
from tomopipe.steps.resolve_cor import renew_paths
from tomopipe.storage import run_folder
from tomopipe.storage.atomic import take_away
from tomopipe.storage.checksums import quick_state
from tomopipe.storage.json_files import json_or

_N_NAMED = 4  # scans in a line
# Snakemake's words in its log when a person ended the run: then no scan has failed.
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
        _tell(line)
    if scans := list(dict.fromkeys(job.key for job in failures)):
        _tell(
            f"{scans_named(scans)}: skipped from the next call on, which finishes all others; "
            f"`tomopipe retry {scans[0]}` tries again."
        )
    if campaign.config.report.enabled:
        # it names failures, which the next run may mend without a change of what else it shows
        failed = {job.key: job for job in failures}
        _write_report(replace(campaign, failures=campaign.failures | failed))


def after_success(campaign: Campaign, settled: Settled | None, *, is_whole: bool) -> None:
    """Say what a run that made all it should has left open; exit with 3 if a scan is not finished.

    `settled` is the decision that the run went by, None on a node; `is_whole`: the run was of the
    whole campaign.
    """
    for line in run_folder.warnings():
        _tell(line)
    if not is_whole or settled is None:
        return
    _renew_report(settled)
    remove_temporary(campaign)
    say_stacks_skipped(campaign, settled.rows, settled.cors)
    say_warnings(campaign, settled.rows)
    if unfinished := unfinished_scans(campaign):
        for line in unfinished:
            _tell(line)
        if not progress.is_read():  # `tomopipe run` names it
            _tell(f"see {campaign.outputs.report}")
        raise SystemExit(3)


def _renew_report(settled: Settled) -> None:
    """Write the page again if what it shows is not what its job saw, as after a failed stack."""
    campaign = settled.campaign
    if not campaign.config.report.enabled or settled.pending:
        return
    target = settled.target.statement("report", "campaign", settled.cors)
    stated = statement_in(campaign.directory / campaign.outputs.receipt("report"))
    if stated is None or digest(stated) != digest(target):
        _write_report(campaign, settled)


def record_page(campaign: Campaign, settled: Settled | None = None) -> None:
    """Write the receipt of a page that no job has written: what is decided, else the next run will.

    Nothing if it cannot be written, as in a campaign of somebody else.
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
    """End a run, also one that had nothing to do: then `receipts` are as it has read them."""
    with suppress(OSError, TomopipeError):
        if receipts is None:
            receipts = Receipts(campaign.directory, campaign.outputs)
            receipts.present()  # those that jobs have written
        receipts.save()


def renew_rot_cen(settled: Settled) -> None:
    """Write rot_cen.json of a campaign that was moved again, unless a job does."""
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
        _tell(f"the report could not be written: {error}")
    else:
        record_page(campaign, settled)


def has_ended(campaign: Campaign) -> bool:
    """Tell whether the next run has nothing but the page: it shows no edit that may be undone."""
    try:
        return all(job.rule == "report" for job in Settled(campaign).jobs)
    except (OSError, TomopipeError):
        return False


def report_campaign(campaign: Campaign, output: str | Path) -> list[str]:
    """Write the report of the existing results; name what could not be read."""
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
            if _ENDED_BY_HAND.search(Path(log).read_text(encoding="utf-8", errors="replace")):
                return True
    return False


def unfinished_scans(campaign: Campaign) -> list[str]:
    """Name the selected scans without COR, volume or stack; a line for each kind.

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
    ]
    lines = nothing_usable(campaign, inventory)
    if to_come := [scan for scan in without_cor if _is_to_come(campaign, scan)]:
        lines.append(f"no COR yet, the next run goes on with it: {scans_named(to_come)}")
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
    """Tell of a scan without an entry in cor.json whether the run only ended too early for it."""
    files = campaign.files
    if any(files.failure(step, scan).exists() for step in STEPS):
        return False
    prediction = json_or(files.prediction(scan), None)
    return prediction is None or prediction.get("cor_px") is not None


def _not_in_set(campaign: Campaign, scans: Sequence[str]) -> list[str]:
    """Name the scans without a stack for RELION, and why, in one line."""
    failed = failed_stacks(campaign, scans)
    if not failed:
        return []
    why = some_of(fault_lines((reason, scan) for scan, reason in failed.items()), _N_NAMED)
    return [
        f"RELION's set has {len(scans) - len(failed)} of {len(scans)} tomograms, not {why}. "
        "Correct its file or options, exclude it (select: no), or `tomopipe retry SCAN`."
    ]


def set_remarks(campaign: Campaign) -> list[str]:
    """Say whether RELION's set is not made, or of earlier stacks. Not in a run's process."""
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
    none_of = f": there is none of {some_of(no_stack, _N_NAMED)}" if no_stack else ""
    n = len(cors)
    return [f"{fault}; `tomopipe run` makes it when there are stacks of all {n} scans{none_of}"]


def say_stacks_skipped(campaign: Campaign, rows: InventoryRows, cors: Collection[str]) -> None:
    """Name the stacks that were not stitched because a scan has no volume, and why."""
    for stack in find_stacks(campaign, rows, cors):
        if stack.problem:
            made = campaign.files.stitched(stack.name, campaign.config.full_recon.output)
            before = f"; {made} was made before" if made.exists() else ""
            _tell(f"stack {stack.name} is not stitched: {stack.problem}{before}")


def say_warnings(campaign: Campaign, rows: InventoryRows) -> None:
    """Report what is assumed for RELION, and voxels that were cut; all else is in the table."""
    for line in note_lines(relion_notes(campaign, rows)):
        _tell(line)
    jobs = {
        scan: read_job(campaign.logs.status("full_recon", scan))
        for scan in campaign.selected_scans(rows)
    }
    if cut := [scan for scan, job in jobs.items() if job and job.warning]:
        _tell(f"voxels outside full_recon.value_range, see the report: {scans_named(cut)}")


def remove_temporary(campaign: Campaign) -> None:
    """Remove temporary try stacks of accepted scans; stacks for RELION are still needed."""
    try:
        n_bytes = remove(removable(campaign, stacks=False))
    except Exception as error:  # this must not fail a successful run
        _tell(f"temporary files could not be removed: {error}")
        return
    if n_bytes:
        _tell(f"removed try stacks of accepted scans, {n_bytes / 1e9:.3f} GB (storage.keep_try)")


def _tell(text: str) -> None:
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
    found: list[tuple[str, Path]] = []
    for scan in accepted_scans(campaign) if try_stacks or stacks else ():
        if try_stacks:
            slices = filter(is_ours, try_slice_paths(files.of_scan(scan)))
            found += [("try stack", files.try_stack(scan)), *(("try slice", p) for p in slices)]
        if stacks:
            found.append(("RELION stack", files.stack(scan)))
    found = [(kind, path) for kind, path in found if path.is_file() and not path.is_symlink()]
    return [Temporary(kind, path, path.lstat().st_size) for kind, path in found]


def of_gone_scans(campaign: Campaign) -> list[Temporary]:
    """List volumes and stacks for RELION of scans that are not in the campaign, as if renamed.

    And volumes of another format than the one that a scan has now: no run makes them again.
    """
    scans = {scan.name for scan in (*campaign.scans.values(), *campaign.refused)}

    def is_left(path: Path, ending: str, kind: str) -> bool:
        scan = path.name.removesuffix(ending)
        if kind != "volume" or scan not in campaign.scans:
            return scan not in scans
        target = campaign.directory / campaign.volume(scan)
        return path != target and target.exists()

    places = [(campaign.results, ending, "volume") for ending in VOLUMES.values()]
    places.append((campaign.files.stack("").parent, STACK, "RELION stack"))
    return [
        Temporary(kind, path, (quick_state(path) or (0,))[0])
        for folder, ending, kind in places
        for path in sorted(folder.glob(f"*{ending}"))
        if is_left(path, ending, kind)
        and (kind != "volume" or volume_cor_px(path) is not None)  # it is none of others
    ]


def remove(files: list[Temporary]) -> int:
    """Remove files; return the bytes that became free."""
    for file in files:
        try:
            take_away(file.path)
        except OSError as error:
            raise TomopipeError(f"{file.path}: cannot be removed ({error})") from error
    return sum(file.n_bytes for file in files)


def accepted_scans(campaign: Campaign) -> list[str]:
    """Name the scans that need no more attention.

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
