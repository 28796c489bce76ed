"""Checks of config, data and disk before the first run, for `tomopipe check`."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import chdir, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from tomopipe.campaign.campaign import Campaign, InventoryRows, override_faults, read_inventory
from tomopipe.campaign.counted_jobs import OF_SCANS
from tomopipe.campaign.job_status import STEP_ORDER
from tomopipe.campaign.lock import is_watched
from tomopipe.campaign.raw_files import path_problems
from tomopipe.campaign.series import encode_series, split_name
from tomopipe.campaign.slurm import requests_of, time_limit_min, unknown_names
from tomopipe.campaign.stacks import Stack, declared_stacks, find_stacks
from tomopipe.campaign.table import did_you_mean
from tomopipe.config.blocks import AngleRange
from tomopipe.cost.disk import half_notes, lack_of_disk, shown_size, still_to_make
from tomopipe.errors import ScanError, TomopipeError
from tomopipe.groups import fault_lines, grouped, scans_named
from tomopipe.paths import existing_folder
from tomopipe.reruns.foreign import refuse_foreign
from tomopipe.reruns.option_faults import (
    closed_folders,
    missing_files,
    missing_gpu,
    nothing_usable,
    option_faults,
    protected_results,
)
from tomopipe.reruns.receipts import Receipts
from tomopipe.reruns.relion_notes import note_lines, relion_notes
from tomopipe.reruns.settle import expected_inventory
from tomopipe.scans.angle_lists import CANNOT_BE, OTHER_ANGLES
from tomopipe.scans.metadata import IN_ORDER, NO_ANGLES
from tomopipe.scans.nxdetector import HINT
from tomopipe.scans.raw_scan import RawScan
from tomopipe.stream.source import check_scratch

_STEPS = 1.5  # between ranges of angles that may be meant alike: with the last angle, or without
_LARGE_STEP_DEG = 10.0  # a larger one is of interlaced projections
_VOLUME_MIN = 120  # minutes that the rule full_recon requests first


@dataclass(frozen=True)
class SeriesSummary:
    """The scans of one series."""

    name: str
    n_scans: int
    n_selected: int
    n_skipped: int
    shapes: tuple[str, ...]


@dataclass
class Findings:
    """Findings of `check`; a run can start if there are no errors."""

    series: list[SeriesSummary] = field(default_factory=list)
    # how scans were recorded, and those recorded so, most first
    formats: list[tuple[str, list[str]]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


def examine(campaign: Campaign) -> Findings:
    """Check table, data and disk of a campaign, metadata only."""
    findings = Findings()
    odd_paths = path_problems(campaign.config, campaign.directory)
    if campaign.scans or campaign.refused:
        findings.warnings += odd_paths
    else:
        findings.errors += odd_paths
    _check_table(campaign, findings)
    with tempfile.TemporaryDirectory(prefix="tomopipe-check-") as folder:
        rows = expected_inventory(campaign, Path(folder))
    _summarise(campaign, rows, findings)
    findings.formats = sorted(_recorded(rows), key=lambda item: -len(item[1]))
    findings.errors += missing_files(campaign)
    findings.errors += option_faults(campaign, rows)
    if not findings.errors:
        findings.errors += nothing_usable(campaign, rows)
    findings.warnings += note_lines(relion_notes(campaign, rows))
    _check_angles(campaign, rows, findings)
    stacks = _check_stacks(campaign, rows, findings)
    findings.warnings += fault_lines((scan.refused, scan.path) for scan in campaign.refused)
    _check_disk(campaign, rows, stacks, findings)
    _check_folders(campaign, findings)
    findings.warnings += protected_results(campaign, _jobs(campaign, rows, stacks))
    on_nodes = _slurm_profile(campaign).exists()
    _check_scratch(campaign, on_nodes, findings)
    if not on_nodes and (fault := missing_gpu(campaign, campaign.selected_scans(rows))):
        findings.errors.append(fault)
    _check_queue(_slurm_profile(campaign), findings)
    _check_foreign(campaign, findings)
    _check_left_behind(campaign, rows, findings)
    _check_other_raw_files(campaign, findings)
    return findings


def _recorded(rows: InventoryRows) -> Iterator[tuple[str, list[str]]]:
    """Yield how scans were recorded, and those recorded so; the COR hint of each may differ."""
    result = {scan: row["found"] for scan, row in rows.items() if row.get("found")}
    for scans in grouped((HINT.sub("", text), scan) for scan, text in result.items()).values():
        texts = [result[scan] for scan in scans]
        hints_px = [float(hint[1]) for text in texts for hint in HINT.finditer(text)]
        differ = len(set(texts)) > 1
        hints = f"{min(hints_px):.1f} to {max(hints_px):.1f} px" if differ else ""
        yield HINT.sub(hints, texts[0]) if differ else texts[0], scans


def _check_table(campaign: Campaign, findings: Findings) -> None:
    """Check the table; a row, or an override, of a scan that may still come is a warning.

    Any scan may while the campaign is watched; else the next ones of a series that is there.
    """
    pattern, found = campaign.config.inventory.series_pattern, campaign.scans.values()
    known = {split_name(scan.name, pattern) for scan in found}
    series = {name for name, _ in known}
    rows = [row for row in campaign.table_rows if row.scan and row.scan not in campaign.scans]
    if is_watched(campaign.directory):
        findings.warnings += override_faults(campaign.config, [*found, *campaign.refused])
    else:
        findings.warnings += campaign.override_notes()
        keys = {row.scan: split_name(row.scan, pattern) for row in rows}
        rows = [r for r in rows if keys[r.scan][0] in series and keys[r.scan] not in known]
    findings.errors += campaign.table_faults({row.scan for row in rows})
    findings.warnings += (
        f"{campaign.table_name}: line {row.line}: no scan {row.scan} in the "
        f"campaign yet{did_you_mean(row.scan, campaign.scans)}"
        for row in rows
    )


def _summarise(campaign: Campaign, rows: InventoryRows, findings: Findings) -> None:
    texts: list[tuple[str, str]] = []  # warnings, each with a scan
    known = (scan for scan in rows if scan in campaign.scans)
    for name, scans in grouped((campaign.scans[scan].series, scan) for scan in known).items():
        shapes = {
            f"{rows[s]['n_angles']} x {rows[s]['n_rows']} x {rows[s]['n_cols']}"
            for s in scans
            if rows[s]["n_cols"]
        }
        n_selected = sum(campaign.is_selected(scan, rows[scan]) for scan in scans)
        n_skipped = sum(rows[scan]["keep"] != "true" for scan in scans)
        findings.series.append(
            SeriesSummary(name, len(scans), n_selected, n_skipped, tuple(sorted(shapes)))
        )
        for scan in scans:
            reason = rows[scan]["reason"]
            asks_for_unit = reason.startswith(CANNOT_BE) and campaign.scans[scan].select == "no"
            if reason == NO_ANGLES:
                reason = "; ".join(filter(None, [reason, _likely_angles(campaign, scan)]))
            if reason and not asks_for_unit:  # of a scan that nobody wants
                how = "skipped"
                if campaign.is_selected(scan, rows[scan]):
                    how, reason = "selected in scans.tsv", reason.removesuffix(f"; {IN_ORDER}")
                texts.append((f"{how}: {reason}", scan))
            if rows[scan].get("warnings"):
                texts.append((rows[scan]["warnings"], scan))
    findings.warnings += fault_lines(texts)


def _likely_angles(campaign: Campaign, scan: str) -> str:
    """Say which angles the first and the last projection speak for; "" if they do not."""
    from tomopipe.cor.stated_angles import likely_range  # slow to load
    from tomopipe.prep.normalise import normalise

    raw = campaign.raw_scan(scan)
    half = raw.input.model_copy(update={"angles": AngleRange(start=0, stop=180)})
    try:
        with chdir(campaign.directory), replace(raw, input=half).open() as opened:
            ends = opened.read_frames([0, opened.n_angles - 1])
            return likely_range(normalise(ends, opened.flat, opened.dark))
    except ScanError:
        return ""


def _check_angles(campaign: Campaign, rows: InventoryRows, findings: Findings) -> None:
    """Warn of angles in the configuration that cover another range than those of the file."""
    others = [
        scan
        for scan, row in rows.items()
        if campaign.is_selected(scan, row) and OTHER_ANGLES in (row.get("found") or "")
    ]
    with chdir(campaign.directory):  # the paths in the config are relative to it
        texts = [(_other_range(campaign.raw_scan(scan)), scan) for scan in others]
    findings.warnings += fault_lines((text, scan) for text, scan in texts if text)


def _other_range(raw: RawScan) -> str:
    """Name the angles of configuration and file if their ranges differ by more than a step."""
    alone = replace(raw, input=raw.input.model_copy(update={"angles": None}))
    try:
        used, of_file = raw.metadata(), alone.metadata()
    except ScanError:  # of the file's own angles, which may be why others are given
        return ""
    if used.theta_deg is None or of_file.theta_deg is None:
        return ""
    configured_deg, file_deg = (m[np.isfinite(m)] for m in (used.theta_deg, of_file.theta_deg))
    step_deg = np.median(np.abs(np.diff(file_deg))) if len(file_deg) > 1 else np.inf
    near_deg = _STEPS * min(step_deg, _LARGE_STEP_DEG)
    # whole rotations are counted, or not
    apart_deg = np.abs((used.theta_deg - of_file.theta_deg + 180) % 360 - 180)
    if (
        abs(np.ptp(configured_deg) - np.ptp(file_deg)) <= near_deg
        or np.nanmax(apart_deg, initial=0.0) <= near_deg
    ):
        return ""
    ends = [f"{ends[0]:.6g} to {ends[-1]:.6g} degrees" for ends in (configured_deg, file_deg)]
    return (
        f"input.angles: {ends[0]}, where the file has {ends[1]} ({of_file.theta_location}). If the "
        "file is right, leave input.angles out"
    )


def _check_stacks(campaign: Campaign, rows: InventoryRows, findings: Findings) -> list[Stack]:
    """Check the stacks; one whose scans are not selected is not an error."""
    stacks = find_stacks(campaign, rows, rows)
    for declared, stack in zip(declared_stacks(campaign, rows), stacks, strict=True):
        if declared.problem:
            findings.errors.append(f"stitch.stacks: {stack.name}: {declared.problem}")
        elif stack.problem:
            findings.warnings.append(f"stack {stack.name} will not be stitched: {stack.problem}")
        elif other := _other_pixel_size(rows, stack):
            findings.errors.append(f"stitch.stacks: {stack.name}: {other}")
    return stacks


def _other_pixel_size(rows: InventoryRows, stack: Stack) -> str:
    """Name the scans of a stack that differ in pixel size, or return nothing."""
    sizes_um = [rows[scan]["pixel_size_um"] or "unknown" for scan in stack.scans]
    for scan, size_um in zip(stack.scans, sizes_um, strict=True):
        if size_um != sizes_um[0]:
            return (
                f"the pixels of {stack.scans[0]} have {sizes_um[0]} um and those of {scan} "
                f"{size_um}; expected the same size (input.pixel_size_um sets it)"
            )
    return ""


def _check_disk(
    campaign: Campaign, rows: InventoryRows, stacks: list[Stack], findings: Findings
) -> None:
    scans, each = campaign.selected_scans(rows), still_to_make(campaign, rows, stacks)
    existing = existing_folder(campaign.results)
    free = shutil.disk_usage(existing).free
    kinds = ", ".join(f"{kind} {shown_size(n)}" for kind, n in each.items() if n)
    to_make = "nothing is still to make"
    if kinds:
        to_make = f"what is still to make takes about {shown_size(each.total())} ({kinds})"
    findings.notes.append(
        f"{len(scans)} scan{'s' * (len(scans) != 1)} selected; {to_make}, "
        f"{free / 1e9:.2f} GB are free in {existing}"
    )
    new = [s for s in scans if not (campaign.directory / campaign.volume(s)).exists()]
    findings.notes += half_notes(campaign, new, rows)
    findings.errors += lack_of_disk(campaign, each)


def _check_left_behind(campaign: Campaign, rows: InventoryRows, findings: Findings) -> None:
    """Warn of skipped scans that have a volume, which a run keeps."""
    left = grouped(
        (row["reason"], scan)
        for scan, row in rows.items()
        if row["keep"] != "true" and scan in campaign.scans
        if not campaign.is_selected(scan, row)
        if os.path.lexists(campaign.directory / campaign.volume(scan))
    )
    findings.warnings += [
        f"{scans_named(scans)}: skipped ({reason}), and {campaign.volume(scans[0])}, made before, "
        "stays. Mend the file; if it cannot be, remove volume, stack and sidecar"
        for reason, scans in left.items()
    ]


def _check_other_raw_files(campaign: Campaign, findings: Findings) -> None:
    """Warn of scans whose results are of another raw file, which is still there."""
    rows: InventoryRows = {}
    with suppress(OSError, TomopipeError):  # none yet, or a damaged one, which is made again
        rows = read_inventory(campaign.files.inventory)
    others = {
        scan: row["path"]
        for scan, row in rows.items()
        if scan in campaign.scans and _are_two(campaign, row["path"], campaign.scans[scan].path)
    }
    if others:
        scan = min(others)
        findings.warnings.append(
            f"{scans_named(sorted(others))}: a run replaces the results of other raw files "
            f"({scan}: {campaign.scans[scan].path}, was {others[scan]}). To keep them set "
            "campaign.results to another folder"
        )


def _are_two(campaign: Campaign, *paths: str) -> bool:
    """Tell whether paths are two files that are both there."""
    places = [campaign.directory / path for path in paths]
    return all(place.exists() for place in places) and not places[0].samefile(places[1])


def _check_foreign(campaign: Campaign, findings: Findings) -> None:
    try:
        refuse_foreign(campaign, Receipts(campaign.directory, campaign.outputs))
    except TomopipeError as error:
        findings.errors.append(str(error))


def _check_folders(campaign: Campaign, findings: Findings) -> None:
    if fault := closed_folders(campaign):
        findings.errors.append(fault)
    if campaign.config.storage.sidecars != "beside":
        return
    places = {os.path.dirname(campaign.sidecar(scan)) for scan in campaign.scans}
    sidecars = os.path.dirname(campaign.outputs.sidecar(""))
    if sidecars in places:
        findings.warnings.append(
            f"a folder of the data cannot be written; its sidecars go to "
            f"{sidecars} (storage.sidecars sets it)"
        )


def _jobs(
    campaign: Campaign, rows: InventoryRows, stacks: list[Stack]
) -> Iterator[tuple[str, str]]:
    """Yield all jobs of a campaign, each a step and what it is of."""
    scans, config = campaign.selected_scans(rows), campaign.config
    keys = dict.fromkeys(OF_SCANS, scans) | {"stitch": [stack.name for stack in stacks]}
    keys["fix_cor"] = list({encode_series(campaign.scans[scan].series) for scan in scans})
    off = () if config.export_star.enabled else ("export_stack", "export_star")
    off = off if config.report.enabled else (*off, "report")
    for step in STEP_ORDER:
        if step not in off:
            yield from ((step, key) for key in keys.get(step, ["campaign"]))


def _check_scratch(campaign: Campaign, on_nodes: bool, findings: Findings) -> None:
    try:
        with chdir(campaign.directory):  # the path may be relative to it
            check_scratch(campaign.config.storage.scratch)
    except TomopipeError as error:
        if on_nodes:
            findings.warnings.append(f"on this machine, perhaps not on nodes: {error}")
        else:
            findings.errors.append(str(error))


def _slurm_profile(campaign: Campaign) -> Path:
    return campaign.directory / "slurm" / "profile.yaml"


def _check_queue(path: Path, findings: Findings) -> None:
    """Compare the SLURM profile of a campaign with the cluster's limits for this user."""
    asked = requests_of(path)
    if not asked:
        return
    findings.errors += unknown_names(path)
    for partition in dict.fromkeys(keys.get("slurm_partition", "") for keys in asked):
        limit_min = time_limit_min(partition)
        if limit_min is not None and limit_min < _VOLUME_MIN:
            findings.notes.append(
                f"partition {partition or 'of SLURM'} ends jobs after {limit_min} min: no job asks "
                f"for more (volumes else {_VOLUME_MIN}). set-resources in slurm/profile.yaml names "
                "another"
            )
