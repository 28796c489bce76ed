"""What a run has left open: scans without COR, volume or stack, and warnings; a line for each."""

import json
import os
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import product
from pathlib import Path

from tomopipe.campaign.campaign import Campaign
from tomopipe.campaign.files import CONVERTED, MRC_VOLUME, STAR, encode_series
from tomopipe.campaign.log import read_job
from tomopipe.campaign.results import InventoryRows, read_cor_json, read_fixes, read_inventory
from tomopipe.campaign.series import why_not_swept
from tomopipe.campaign.stacks import find_stacks
from tomopipe.config.base import effective
from tomopipe.cor.cor_value import is_valid, off_detector
from tomopipe.errors import TomopipeError, fault_lines, scan_word, scans_named, some_of
from tomopipe.relion.mrc_volumes import mrc_sources, source_of
from tomopipe.relion.relion_set import assumed_numbers, failed_stacks, note_lines
from tomopipe.reruns.receipts import digest, statement_in
from tomopipe.reruns.staleness import Staleness
from tomopipe.reruns.target import Target
from tomopipe.storage.json_files import json_or
from tomopipe.workflow_steps import SEARCH_STEPS

_N_NAMED = 4  # scans in a line


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
        and not campaign.volume(scan).exists()
        and not is_late(campaign, scan)
    ]
    lines = nothing_usable(campaign, inventory)
    if to_come := [scan for scan in without_cor if _is_to_come(campaign, scan)]:
        lines.append(f"no COR yet, the next run makes it: {scans_named(to_come)}")
        without_cor = [scan for scan in without_cor if scan not in to_come]
    if without_cor and campaign.config.resolve_cor.on_missing != "block":  # resolve_cor names them
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
    if any(files.failure(step, scan).exists() for step in SEARCH_STEPS):
        return False
    is_searched = not why_not_swept(campaign, scan)
    prediction = json_or(files.prediction(scan), None) if is_searched else {}
    if prediction is None or prediction.get("cor_px") is not None:
        return True
    table = files.fix_table(encode_series(campaign.scans[scan].series))
    try:
        fix = read_fixes([table]).get(scan)
    except (OSError, TomopipeError):  # made by the next run
        return True
    return fix is None or fix.after_px is not None


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
    staleness = Staleness(Target(campaign, rows, cors))
    no_stack = [scan for scan in cors if staleness.why("export_stack", scan)]
    if not star.exists():
        fault = "not made yet"
    elif no_stack or staleness.why("export_star"):
        fault = "of earlier stacks"
    else:
        return []
    missing = f": missing {some_of(no_stack, _N_NAMED)}" if no_stack else ""
    n = len(cors)
    return [f"{fault}; `tomopipe run` makes it once all {n} scans have stacks{missing}"]


def skipped_stacks(
    campaign: Campaign, rows: InventoryRows, cors: Collection[str], verb: str = "is not"
) -> Iterator[str]:
    """Yield the stacks that a run does not stitch, or that have gaps, and why.

    Before CORs are known `cors` are all scans.
    """
    for stack in find_stacks(campaign, rows, cors):
        if stack.problem:
            made = campaign.files.stitched(stack.name, campaign.config.format_of(stack.name))
            before = f"; {made} is of an earlier run" if made.exists() else ""
            yield f"stack {stack.name} {verb} stitched: {stack.problem}{before}"
        elif stack.gaps:
            yield f"volume in time {stack.name}: {stack.gaps_text}"


def warnings_of(campaign: Campaign, rows: InventoryRows) -> Iterator[str]:
    """Yield warnings on RELION's set, and clipped voxels; other warnings are in the table."""
    yield from note_lines(relion_notes(campaign, rows))
    of_set = campaign.makes_star and read_job(campaign.logs.status("export_star", "campaign"))
    if of_set and of_set.warning:
        yield f"{of_set.warning}; see {of_set.log}"
    scans = campaign.selected_scans(rows)
    yield from (*clipped_volumes(campaign, scans), *outdated_conversions(campaign, scans))


def relion_notes(campaign: Campaign, rows: InventoryRows) -> dict[str, list[str]]:
    """Return warnings about the set for RELION, and the scans that each concerns."""
    result = assumed_numbers(campaign, rows)
    scans = campaign.selected_scans(rows) if campaign.makes_star else []
    for scan, source in mrc_sources(campaign, scans).items():
        path, stated = campaign.outputs.mrc_volume(scan), statement_in(campaign.volume(scan))
        if stated is not None and source != digest(stated):
            result[
                f"{path} is not whole or not of the volume there is now: RELION's set does not "
                f"name it. `tomopipe convert mrc {scan_word(scan)}`, then `tomopipe run`"
            ] = [scan]
    return result


def clipped_volumes(campaign: Campaign, scans: Iterable[str]) -> Iterator[str]:
    """Yield a line with the scans of whose volumes voxels were clipped, if there are any."""
    paths = {
        path.stem: path for path in campaign.logs.status("full_recon", "").parent.glob("*.json")
    }
    jobs = {scan: read_job(paths[scan]) for scan in scans if scan in paths}
    if clipped := [scan for scan, job in jobs.items() if job and job.warning]:
        yield f"voxels outside full_recon.value_range, see the report: {scans_named(clipped)}"


def outdated_conversions(campaign: Campaign, scans: Iterable[str]) -> Iterator[str]:
    """Yield a line with the files of `tomopipe convert` that are of an earlier volume, if any."""
    present = {*os.listdir(campaign.results)} if campaign.results.is_dir() else set()
    endings, outdated = {*CONVERTED.values()}, []
    if campaign.makes_star:  # `relion_notes` has these
        endings.remove(MRC_VOLUME)
    for scan, ending in product(scans, sorted(endings)):
        if (name := f"{scan}{ending}") not in present:
            continue
        path, volume = campaign.results / name, campaign.volume(scan)
        if _is_outdated(path, volume):
            outdated.append(os.path.relpath(path, campaign.directory))
    if outdated:
        files = some_of(outdated, _N_NAMED)
        yield f"converted from an earlier volume: {files}; `tomopipe convert` replaces them"


def _is_outdated(path: Path, volume: Path) -> bool:
    """Tell whether a converted volume is older than that of its scan, and of another one."""
    from tomopipe.volumes.volume_read import read_provenance  # few campaigns have such files

    with suppress(Exception):  # of a foreign or damaged file
        if path.stat().st_mtime_ns > volume.stat().st_mtime_ns:
            return False
        if path.name.endswith(MRC_VOLUME):
            return source_of(path) not in ("", digest(statement_in(volume) or {}))
        source = read_provenance(path)["converted"]["source"]
        return bool(json.loads(source["made_from"]) != statement_in(volume))
    return False


def is_late(campaign: Campaign, scan: str) -> bool:
    """Tell whether a volume was made, by its receipt, and is not seen on this host yet."""
    volume = campaign.volume(scan)
    return not volume.exists() and campaign.files.receipt("full_recon", scan).exists()


def unused_cors(campaign: Campaign, rows: InventoryRows) -> list[str]:
    """Name the CORs by hand, and the default, that are off the detector: they are not used."""
    n_cols = {scan: int(rows[scan]["n_cols"]) for scan in campaign.selected_scans(rows)}
    by_hand = {scan: campaign.scans[scan].manual for scan in n_cols}
    line = {row.scan: row.line for row in campaign.table_rows}
    lines = [
        f"{campaign.table_name}: line {line[scan]}: cor_px of {scan}: {fault} and is not used"
        for scan, cor in by_hand.items()
        if cor.px is not None and (fault := cor.fault(n_cols[scan]))
    ]
    default_px = campaign.config.resolve_cor.default_px
    off = [scan for scan, n in n_cols.items() if not is_valid(default_px, n)]
    if default_px is not None and off:
        lines.append(
            f"resolve_cor.default_px: {off_detector(default_px, n_cols[off[0]])} and is not used "
            f"for {scans_named(off)}"
        )
    return lines


def nothing_usable(
    campaign: Campaign, rows: InventoryRows, *, with_reason: bool = True
) -> list[str]:
    """Report if no scan would be processed, with the first reason."""
    everything = [*campaign.scans, *(scan.name for scan in campaign.refused)]
    if not everything or campaign.selected_scans(rows):
        return []
    unselected = sum(scan.select == "no" for scan in campaign.scans.values())
    reasons = [
        *(rows[s]["reason"] for s in campaign.scans if s in rows and rows[s]["reason"]),
        *(scan.refused for scan in campaign.refused),
    ]
    why = f"; the first reason: {reasons[0]}" if reasons and with_reason else ""
    keys, others = _keys_at_fault(campaign, rows)
    files = "repair the other files" if keys else "Repair the files"
    start = [f"Correct {some_of(keys, _N_NAMED)} in the configuration (config.yaml)"] * bool(keys)
    takes_in = "; select: yes in scans.tsv includes a scan that is only incomplete or undersized"
    takes_in *= others and any(scan.select != "yes" for scan in campaign.scans.values())
    remedy = ", ".join([*start, *[files] * others])
    return [
        f"none of {len(everything)} scans can be used ({unselected} have select: no){why}. {remedy}"
        f", or name others in campaign.scans{takes_in}"
    ]


def _keys_at_fault(campaign: Campaign, rows: InventoryRows) -> tuple[list[str], bool]:
    """Return the options in use that reasons to skip scans name, and whether some name none."""
    keys, others = dict[str, None](), bool(campaign.refused)
    for scan in campaign.scans.keys() & rows.keys():
        config = campaign.for_scan(scan).config
        in_use = [
            key
            for key in re.findall(r"\b(?:input|preprocess)(?:\.[a-z_]+)+", rows[scan]["reason"])
            for block, name in [key.split(".")[:2]]
            if name in effective(getattr(config, block))
        ]
        keys |= dict.fromkeys(in_use)
        others |= not in_use and bool(rows[scan]["reason"])
    return sorted(keys), others or not keys
