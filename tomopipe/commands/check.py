"""Checks of config, data and disk before the first run, for `tomopipe check`."""

import os
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import chdir, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from tomopipe.campaign.campaign import Campaign
from tomopipe.campaign.needed_files import missing_files
from tomopipe.campaign.option_fit import option_faults
from tomopipe.campaign.raw_files import path_problems
from tomopipe.campaign.reading import raw_scan
from tomopipe.campaign.results import InventoryRows, read_inventory
from tomopipe.campaign.selection import (
    advice_on_skipping,
    former_scans,
    table_faults,
    unmatched_overrides,
    warnings_in_row,
)
from tomopipe.campaign.slurm import unknown_names
from tomopipe.campaign.stacks import Stack, declared_stacks, find_stacks
from tomopipe.campaign.state.sentences import but_selected
from tomopipe.campaign.step_files import closed_folders, sidecar_of
from tomopipe.campaign.table import any_more, did_you_mean
from tomopipe.commands.joined_series import warn_of_single_scans
from tomopipe.commands.next_run import jobs_to_follow
from tomopipe.config import for_one_scan, override_for
from tomopipe.config.base import without_effect
from tomopipe.config.blocks import AngleRange
from tomopipe.config.site_corrections import CORRECTIONS_OF_SITES, of_site
from tomopipe.cor.series_fill import layouts_of
from tomopipe.cor_methods import COR_METHODS, GROUP, method_named
from tomopipe.entry_points import collisions
from tomopipe.errors import ScanError, TomopipeError, fault_lines, grouped, scans_named, some_of
from tomopipe.paths import existing_folder
from tomopipe.prep.half_acquisition import FACTOR
from tomopipe.prep.shifts import STATED
from tomopipe.relion.relion_set import note_lines
from tomopipe.reruns.foreign import to_keep
from tomopipe.reruns.needed import expected_inventory
from tomopipe.reruns.settle import Settled
from tomopipe.reruns.staleness import Staleness
from tomopipe.reruns.target import Target
from tomopipe.resources.disk import (
    disk_needed,
    lack_of_disk,
    may_be_wider,
    shown_size,
    still_to_make,
)
from tomopipe.run.beginning import missing_gpu
from tomopipe.run.unfinished import nothing_usable, relion_notes, unused_cors
from tomopipe.scans.angle_lists import CONTRADICTED, LOOK_LIKE
from tomopipe.scans.layout import KEYS
from tomopipe.scans.metadata import NO_ANGLES
from tomopipe.scans.nxtomo import HINT
from tomopipe.scans.references import UNUSED
from tomopipe.stream.source import check_scratch


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
    # descriptions of how scans were recorded, with these scans, most first
    formats: list[tuple[str, list[str]]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    is_done: bool = False  # whether a run would have no job


def examine(campaign: Campaign) -> Findings:
    """Check table, data and disk of a campaign, metadata only."""
    findings = Findings()
    odd_paths = path_problems(campaign.config, campaign.directory)
    if campaign.scans or campaign.refused:
        findings.warnings += odd_paths
    else:
        findings.errors += odd_paths
    _check_table(campaign, findings)
    rows = _next_inventory(campaign)
    _summarise(campaign, rows, findings)
    findings.notes += _replaced_references(campaign, rows)
    findings.formats = sorted(_recorded(campaign, rows), key=lambda item: -len(item[1]))
    for_some = {block for part in campaign.config.overrides for block in part.model_fields_set}
    findings.warnings += [
        line
        for line in without_effect(campaign.config)
        if line.partition(".")[0] not in for_some  # an override may make use of it
        # volumes in time are OME-Zarr whatever the output is
        if not (campaign.config.stitch.time and line.startswith("full_recon.zarr_version:"))
    ]
    _check_packages(campaign, findings)
    findings.errors += missing_files(campaign)
    findings.errors += [*option_faults(campaign, rows), *unused_cors(campaign, rows)]
    findings.errors += fault_lines(_without_shifts(campaign, rows))
    if not findings.errors:
        findings.errors += nothing_usable(campaign, rows, with_reason=False)  # in the warnings
    with suppress(FileNotFoundError, TomopipeError):  # missing or damaged: a run makes it
        before = read_inventory(campaign.files.inventory)
        present = {row["path"] for row in rows.values()}  # also of other parts of a file
        gone = dict.fromkeys(row["path"] for scan, row in before.items() if scan not in rows)
        if missing := [path for path in gone if path not in present]:
            findings.warnings.append(
                f"{some_of(missing, 3)}: missing since the last run; not in the tables any more, "
                "results stay"
            )
    findings.warnings += note_lines(relion_notes(campaign, rows))
    stacks = _check_stacks(campaign, rows, findings)
    # views by the names of their siblings; the name of a file may be why it is refused
    refused = [
        (s.refused, s.name if s.view and s.view.suffix else s.part_path) for s in campaign.refused
    ]
    findings.warnings += fault_lines(refused)
    n_bytes: Mapping[str, int] = still_to_make(campaign, rows, stacks)
    findings.errors += lack_of_disk(campaign, n_bytes)
    _check_folders(campaign, findings)
    profile = campaign.directory / "slurm" / "profile.yaml"
    on_nodes = profile.exists()
    _check_scratch(campaign, on_nodes, findings)
    if not on_nodes and (fault := missing_gpu(campaign, campaign.selected_scans(rows))):
        findings.errors.append(fault)
    findings.errors += unknown_names(profile)
    if not findings.errors and campaign.files.inventory.exists():
        try:
            settled = Settled(campaign)
        except TomopipeError as error:
            findings.errors.append(str(error))
        else:
            findings.is_done = not settled.jobs
            findings.warnings += to_keep(settled.of_others)
            n_bytes = _to_write(campaign, settled)
    findings.notes += _of_disk(campaign, rows, n_bytes)
    return findings


def _check_packages(campaign: Campaign, findings: Findings) -> None:
    """Name what other packages add to this campaign, and names that several things have."""
    config = campaign.config
    blocks = [config.preprocess.model_extra or {}, *(o.preprocess for o in config.overrides)]
    for key in dict.fromkeys(key for block in blocks for key in block):
        if key not in type(config.preprocess).model_fields and (correction := of_site(key)):
            place = f"before {correction.entry.before}"
            findings.notes.append(f"preprocess.{key}: {place}, of {correction.package}")
    for name in config.predict_cor.methods:
        if package := method_named(name).package:
            findings.notes.append(f"predict_cor.methods: {name}, of {package}")
    ours = type(config.preprocess).model_fields
    findings.warnings += collisions(CORRECTIONS_OF_SITES, ours, "the correction")
    findings.warnings += collisions(GROUP, COR_METHODS, "the method")


def _next_inventory(campaign: Campaign) -> InventoryRows:
    """Return the present inventory if it is up to date; else read all raw files."""
    with suppress(OSError, TomopipeError, LookupError, ValueError):  # then it is made again
        if not Staleness(Target(campaign)).why("inventory"):
            return read_inventory(campaign.files.inventory)
    with tempfile.TemporaryDirectory(prefix="tomopipe-check-") as folder:
        return expected_inventory(campaign, Path(folder))


def _recorded(campaign: Campaign, rows: InventoryRows) -> Iterator[tuple[str, list[str]]]:
    """Yield each description of how scans were recorded, with these scans; COR hints may differ."""
    views = {scan: campaign.scans[scan].view for scan in rows if scan in campaign.scans}
    recorded = {scan: row["found"] for scan, row in rows.items() if row.get("found")}

    def of_any_entry(scan: str) -> str:
        entry = view.entry if (view := views.get(scan)) else ""
        return recorded[scan].replace(f"{entry}/", "*/") if entry else recorded[scan]

    for scans in grouped((HINT.sub("", of_any_entry(scan)), scan) for scan in recorded).values():
        is_one_entry = len({HINT.sub("", recorded[scan]) for scan in scans}) == 1
        texts = [recorded[scan] if is_one_entry else of_any_entry(scan) for scan in scans]
        hints_px = [float(hint[1]) for text in texts for hint in HINT.finditer(text)]
        differ = len(set(texts)) > 1
        hints = f"{min(hints_px):.1f} to {max(hints_px):.1f} px" if differ else ""
        yield HINT.sub(hints, texts[0]) if differ else texts[0], scans


def _check_table(campaign: Campaign, findings: Findings) -> None:
    """Check the table; rows and overrides of scans that may come later are warnings."""
    rows = [row for row in campaign.table_rows if row.scan and row.scan not in campaign.scans]
    for lines in unmatched_overrides(campaign):
        findings.warnings += lines
    findings.errors += table_faults(campaign, {row.scan for row in rows})
    former = former_scans(campaign, {row.scan for row in rows})
    for row in rows:
        hint = f" yet{did_you_mean(row.scan, campaign.scans)}"
        hint = any_more(former[row.scan]) if row.scan in former else hint
        where = f"{campaign.table_name}: line {row.line}"
        findings.warnings.append(f"{where}: no scan {row.scan} in the campaign{hint}")


def _summarise(campaign: Campaign, rows: InventoryRows, findings: Findings) -> None:
    texts: list[tuple[str, str]] = []  # warnings, each with a scan
    names = [scan for scan in rows if scan in campaign.scans]
    others = {s: CONTRADICTED.search(rows[s].get("found") or "") for s in names}
    some_agree = any(rows[s]["keep"] == "true" and not others[s] for s in names)
    for name, scans in grouped((campaign.scans[scan].series, scan) for scan in names).items():
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
        findings.warnings += _other_layouts(campaign, rows, name, scans)
        paths = {scan: campaign.scans[scan].path for scan in scans}
        missing = {s: p for s, p in paths.items() if not os.path.lexists(campaign.directory / p)}
        for scan in scans:
            reason = rows[scan]["reason"]
            if scan in missing:
                reason += f": {some_of(list(missing.values()), 3)}"
            asks_for_unit = reason.startswith(LOOK_LIKE) and campaign.scans[scan].select == "no"
            if reason == NO_ANGLES:
                reason = "; ".join(filter(None, [reason, _likely_angles(campaign, scan)]))
            if reason and not asks_for_unit:  # not of unselected scans
                is_selected = campaign.is_selected(scan, rows[scan])
                text = but_selected(reason) if is_selected else f"skipped: {reason}"
                texts.append((for_one_scan(text, scan) if some_agree else text, scan))
            if other := others[scan]:
                texts.append((_contradiction(other[1], other[2], scan if some_agree else ""), scan))
            if warnings := warnings_in_row(campaign, rows[scan]):
                texts.append(("; ".join(warnings), scan))
    n_scans = Counter(text for text, _ in texts)
    findings.warnings += fault_lines(
        (advice_on_skipping(campaign, scan, text, is_shared=2 * n_scans[text] > len(names)), scan)
        for text, scan in texts
    )
    series = [campaign.scans[scan].series for scan in names]
    single = warn_of_single_scans(names, series, campaign.config.inventory.series_pattern)
    findings.warnings += [single] if single else []


def _other_layouts(
    campaign: Campaign, rows: InventoryRows, series: str, scans: list[str]
) -> list[str]:
    """Return the warning, if any, that columns or pixels change within a series."""
    selected = [rows[scan] for scan in scans if campaign.is_selected(scan, rows[scan])]
    kinds = layouts_of([(int(row["n_cols"]), row.get("pixel_size_um", "")) for row in selected])
    name = f"series {series}" if series else "the series without a name"
    compared = campaign.config.fix_cor.fill == "best"
    remedy = (
        "CORs are compared with those of equal ones alone"
        if compared
        else "its CORs are compared all the same (fix_cor.fill: best compares equal ones alone)"
    )
    return [f"{name} has scans of {kinds}: {remedy}"] if kinds else []


def _replaced_references(campaign: Campaign, rows: InventoryRows) -> Iterator[str]:
    """Name the scans whose own flats or darks are not used, as others are set for all."""
    for kind in KEYS:
        own = grouped(
            (where[1], scan)
            for scan in campaign.selected_scans(rows)
            if (where := re.search(rf"{UNUSED}{kind} ([^;]+)", rows[scan].get("found") or ""))
        )
        source = getattr(campaign.config.preprocess, kind)
        for places, scans in own.items() if source else ():
            yield (
                f"{scans_named(scans)}: own {kind} ({places}) are not used, as preprocess.{kind} "
                "is set for all scans; overrides set it for some alone"
            )


def _contradiction(location: str, apart_deg: str, of_one: str) -> str:
    """Say that `input.angles` is not what the file states; `of_one`: the scan if others agree."""
    remedy = "leave input.angles out"
    if of_one:
        remedy = f"take its angles, {override_for(of_one, 'input: {angles: null}')}"
    return (
        f"input.angles contradicts {location} of the file by up to {apart_deg} degrees: if the "
        f"file is right, {remedy}"
    )


def _likely_angles(campaign: Campaign, scan: str) -> str:
    """Return the angles that the first and last projection suggest, or ""."""
    from tomopipe.cor.stated_angles import likely_range  # slow to load
    from tomopipe.prep.normalise import normalise

    raw = raw_scan(campaign, scan)
    half = raw.input.model_copy(update={"angles": AngleRange(start=0, stop=180)})
    try:
        with chdir(campaign.directory), replace(raw, input=half).open() as opened:
            ends = opened.read_frames([0, opened.n_angles - 1])
            return likely_range(normalise(ends, opened.flat, opened.dark))
    except ScanError:
        return ""


def _without_shifts(campaign: Campaign, rows: InventoryRows) -> Iterator[tuple[str, str]]:
    """Yield why a scan has no translations for `preprocess.shifts: stated`, and the scan."""
    for scan in campaign.selected_scans(rows):
        if campaign.for_scan(scan).config.preprocess.shifts != STATED:
            continue
        raw = raw_scan(campaign, scan)
        try:
            with chdir(campaign.directory), raw.open() as opened:
                opened.stated_shifts_px()
        except ScanError as error:
            yield str(error), scan


def _check_stacks(campaign: Campaign, rows: InventoryRows, findings: Findings) -> list[Stack]:
    """Check the stacks; one whose scans are not selected is not an error."""
    stacks = find_stacks(campaign, rows, rows)
    for declared, stack in zip(declared_stacks(campaign, rows), stacks, strict=True):
        if declared.problem:
            findings.errors.append(f"{stack.option}: {stack.name}: {declared.problem}")
        elif stack.problem:
            findings.warnings.append(f"stack {stack.name} will not be stitched: {stack.problem}")
        elif other := _other_pixel_size(rows, stack):
            findings.errors.append(f"{stack.option}: {stack.name}: {other}")
    return stacks


def _other_pixel_size(rows: InventoryRows, stack: Stack) -> str:
    """Name the scans of a stack that differ in pixel size; "" if none."""
    sizes_um = [rows[scan]["pixel_size_um"] or "unknown" for scan in stack.scans]
    for scan, size_um in zip(stack.scans, sizes_um, strict=True):
        if size_um != sizes_um[0]:
            return (
                f"the pixels of {stack.scans[0]} have {sizes_um[0]} um and those of {scan} "
                f"{size_um}; expected the same size (input.pixel_size_um sets it)"
            )
    return ""


def _to_write(campaign: Campaign, settled: Settled) -> dict[str, int]:
    """Estimate what the next run writes (bytes) by kind of file, also in place of results."""
    jobs = [(job.rule, job.key) for job in settled.jobs] + jobs_to_follow(campaign, settled)
    return disk_needed(campaign, jobs, settled.rows)


def _of_disk(campaign: Campaign, rows: InventoryRows, n_bytes: Mapping[str, int]) -> Iterator[str]:
    scans, existing = campaign.selected_scans(rows), existing_folder(campaign.results)
    free = shutil.disk_usage(existing).free
    sizes = {kind: f"{kind} {shown_size(n)}" for kind, n in n_bytes.items() if n}
    if "try stacks" in sizes and not campaign.config.storage.keep_try:
        sizes["try stacks"] += " until CORs are accepted"
    kinds = ", ".join(sizes.values())
    to_write = f"still to write: about {shown_size(sum(n_bytes.values()))} ({kinds})"
    pending = to_write if kinds else "nothing is left to write"
    yield (
        f"{len(scans)} scan{'s' * (len(scans) != 1)} selected; {pending}; "
        f"{free / 1e9:.2f} GB are free in {existing}"
    )
    if wider := may_be_wider(campaign, rows):
        yield (
            f"{some_of(wider, 3)}: {FACTOR**2} times as much for the volume if the axis is near an "
            "edge (preprocess.half_acquisition)"
        )


def _check_folders(campaign: Campaign, findings: Findings) -> None:
    if fault := closed_folders(campaign):
        findings.errors.append(fault)
    if campaign.config.storage.sidecars != "beside":
        return
    folders = {os.path.dirname(sidecar_of(campaign, scan)) for scan in campaign.scans}
    sidecars = os.path.dirname(campaign.outputs.sidecar(""))
    if sidecars in folders:
        findings.warnings.append(
            f"a folder of the data cannot be written; its sidecars are written to {sidecars} "
            "(storage.sidecars sets the folder)"
        )


def _check_scratch(campaign: Campaign, on_nodes: bool, findings: Findings) -> None:
    try:
        with chdir(campaign.directory):  # the path may be relative to it
            check_scratch(campaign.config.storage.scratch)
    except TomopipeError as error:
        if on_nodes:
            findings.warnings.append(f"on this machine, perhaps not on nodes: {error}")
        else:
            findings.errors.append(str(error))
