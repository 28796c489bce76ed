"""Disk usage of a campaign: volumes, try stacks, stacks for RELION, temporary files."""

import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tomopipe.campaign.campaign import Campaign, InventoryRows, read_inventory
from tomopipe.campaign.results import read_cor_json
from tomopipe.campaign.stacks import Stack, declared_stacks, find_stacks
from tomopipe.cor.collected_rows import MAX_PAIR_ROWS, N_KEPT, N_PAIRS
from tomopipe.cor.cor_value import parse_cor
from tomopipe.errors import ScanError, TomopipeError
from tomopipe.geometry import bin_cor
from tomopipe.prep.half_acquisition import FACTOR, is_half_acquisition
from tomopipe.steps.try_recon import candidates
from tomopipe.volumes.output_size import (
    extent,
    stack_estimate_bytes,
    try_bytes,
    volume_bytes,
    volume_shape,
)

#: Names of the files of each rule.
KINDS = {
    "full_recon": "volumes",
    "stitch": "stitched volumes",
    "try_recon": "try stacks",
    "export_stack": "stacks for RELION",
}
SCRATCH = "temporary, of one volume at a time"


def disk_needed(
    campaign: Campaign, jobs: Iterable[tuple[str, str]], rows: InventoryRows
) -> dict[str, int]:
    """Estimate the disk that jobs need (bytes), by kind of file.

    Parameters
    ----------
    campaign : Campaign
        For the options.
    jobs : iterable of (str, str)
        Rule and scan (stack); rules not in `KINDS` need almost nothing.
    rows : mapping
        The inventory.

    Returns
    -------
    dict of str to int
        The kinds that occur, and `SCRATCH`: the temporary need of a volume, at most, if the chunks
        of its scan span many rows.
    """
    needed: Counter[str] = Counter()
    cors_px = known_cors(campaign)
    stacks = {stack.name: stack.scans for stack in declared_stacks(campaign)}
    for rule, scan in jobs:
        if rule == "stitch":
            needed[KINDS[rule]] += stack_bytes(campaign, stacks[scan], rows)
        if scan not in rows or rule not in KINDS:
            continue
        needed[KINDS[rule]] += output_bytes(campaign, rule, rows[scan], cors_px.get(scan))
        if rule == "full_recon":
            needed[SCRATCH] = max(needed[SCRATCH], int(rows[scan]["bytes"] or 0))
    return dict(needed)


def still_to_make(campaign: Campaign, rows: InventoryRows, stacks: Sequence[Stack]) -> Counter[str]:
    """Estimate the size of what is selected and not there yet (bytes), by kind of file."""
    scans = campaign.selected_scans(rows)
    outputs = [("full_recon", scan, campaign.volume(scan)) for scan in scans]
    # of removable files, the permanent ones beside them count
    outputs += [("try_recon", s, campaign.outputs.rows(s)) for s in scans]
    if campaign.config.export_star.enabled:
        outputs += [("export_stack", scan, campaign.outputs.stack_meta(scan)) for scan in scans]
    each = Counter(dict.fromkeys(KINDS.values(), 0))
    cors_px = known_cors(campaign)
    for rule, scan, path in outputs:
        if not (campaign.directory / path).exists():
            each[KINDS[rule]] += output_bytes(campaign, rule, rows[scan], cors_px.get(scan))
    for stack in stacks:
        made = campaign.files.stitched(stack.name, campaign.config.full_recon.output)
        if not (stack.problem or made.exists()):
            each[KINDS["stitch"]] += stack_bytes(campaign, stack.scans, rows)
    return each


def lack_of_disk(campaign: Campaign, n_bytes: int) -> list[str]:
    """Say that what is still to make does not fit on the disk of the results, if it does not."""
    existing = existing_folder(campaign.results)
    free = shutil.disk_usage(existing).free
    if n_bytes <= free:
        return []
    return [
        f"{existing}: {n_bytes / 1e6:,.1f} MB needed, {free / 1e6:,.1f} MB free. Free some, or set "
        "full_recon.binning, full_recon.dtype, full_recon.rows or export_star.max_stack_gb"
    ]


def disk_warnings(campaign: Campaign) -> list[str]:
    """Return `lack_of_disk` for a run whose inventory is there."""
    rows = read_inventory(campaign.files.inventory)
    return lack_of_disk(
        campaign, still_to_make(campaign, rows, find_stacks(campaign, rows, rows)).total()
    )


def existing_folder(path: Path) -> Path:
    """Return a folder, or the nearest above it that is there."""
    return next(folder for folder in (path, *path.parents) if folder.exists())


def half_notes(campaign: Campaign, scans: Iterable[str], rows: InventoryRows) -> tuple[str, ...]:
    """Say how much more than `disk_needed` volumes may take, if they are four times as large.

    `half_acquisition: auto` is not decided for 360-degree scans without a COR.
    """
    cors_px = known_cors(campaign)
    beyond = [
        output_bytes(campaign, "full_recon", rows[scan], half_unless_known=True)
        - output_bytes(campaign, "full_recon", rows[scan])
        for scan in scans
        if scan in rows and scan not in cors_px
    ]
    n_scans = sum(n > 0 for n in beyond)
    if not n_scans:
        return ()
    return (
        f"up to {sum(beyond) / 1e9:.2f} GB more: {n_scans} scan{'s' * (n_scans > 1)} over 360 "
        "degrees without a COR yet; slices are twice as wide and high where the axis is near an "
        "edge (preprocess.half_acquisition)",
    )


def known_cors(campaign: Campaign) -> dict[str, float]:
    """Return the COR of each scan that has one: of the campaign table, or of the last run."""
    path = campaign.files.cor_table
    resolved: Mapping[str, Any] = {}
    with suppress(TomopipeError):  # a damaged table is made again
        resolved = read_cor_json(path) if path.is_file() else {}
    known = {scan: float(entry["cor_px"]) for scan, entry in resolved.items()}
    manual = {name: parse_cor(scan.manual) for name, scan in campaign.scans.items()}
    return known | {name: cor_px for name, cor_px in manual.items() if cor_px is not None}


def stack_bytes(campaign: Campaign, scans: Iterable[str], rows: InventoryRows) -> int:
    """Estimate the size of a stitched volume (bytes), uncompressed: the sum of its parts."""
    cors_px = known_cors(campaign)
    return sum(
        output_bytes(campaign, "full_recon", rows[s], cors_px.get(s)) for s in scans if s in rows
    )


def output_bytes(
    campaign: Campaign,
    rule: str,
    row: Mapping[str, str],
    cor_px: float | None = None,
    *,
    half_unless_known: bool = False,
) -> int:
    """Estimate the size of a scan's volume, stack or sweep (bytes), uncompressed.

    Parameters
    ----------
    campaign : Campaign
        For the options.
    rule : str
        One of `KINDS` that makes something of one scan.
    row : mapping
        The scan's row of the inventory.
    cor_px : float, optional
        COR of the volume, if known.
    half_unless_known : bool
        Assume half acquisition if only the COR is missing to decide.
    """
    for_scan = campaign.for_scan(row["scan"])
    n_angles, n_rows = int(row["n_angles"]), int(row["n_rows"])
    columns = for_scan.config.input.columns
    first_col, n_cols = _first(columns), extent(columns, int(row["n_cols"]))
    if rule == "try_recon":
        return _sweep_bytes(for_scan, row, n_angles, n_rows, (first_col, n_cols))
    if rule == "full_recon":
        full = for_scan.config.full_recon
        n_voxels = slice_cols(campaign, row, cor_px, half_unless_known=half_unless_known)
        spans = full.model_dump(include={"rows", "crop_y", "crop_x"})
        shape = volume_shape(n_rows, n_voxels, full.binning, **spans)
        return volume_bytes(shape, full.dtype, full.output)
    star = campaign.config.export_star
    tilts = n_angles if star.max_tilts == "all" else min(n_angles, star.max_tilts)
    limit_bytes = int(star.max_stack_gb * 1e9)
    return stack_estimate_bytes(
        (tilts, extent(star.rows, n_rows), n_cols), star.binning, limit_bytes
    )


def slice_cols(
    campaign: Campaign,
    row: Mapping[str, str],
    cor_px: float | None = None,
    *,
    half_unless_known: bool = False,
) -> int:
    """Return the width of a scan's unbinned slices (pixels); arguments as of `output_bytes`."""
    n_cols = extent(campaign.for_scan(row["scan"]).config.input.columns, int(row["n_cols"]))
    half = is_half_volume(campaign, row, cor_px, unless_known=half_unless_known)
    return FACTOR * n_cols if half else n_cols


def is_half_volume(
    campaign: Campaign, row: Mapping[str, str], cor_px: float | None, *, unless_known: bool = False
) -> bool:
    """Tell whether the slices of a scan's volume are twice as wide as the columns in use."""
    for_scan = campaign.for_scan(row["scan"])
    columns = for_scan.config.input.columns
    used = _first(columns), extent(columns, int(row["n_cols"]))
    is_fbp = for_scan.config.full_recon.algorithm == "fbp"
    return is_fbp and _is_half(for_scan, row, used, cor_px, unless_known)


def _is_half(
    campaign: Campaign,
    row: Mapping[str, str],
    columns: tuple[int, int],
    cor_px: float | None,
    unless_known: bool,
) -> bool:
    """Tell whether slices will be twice as wide as the columns in use: their first and number."""
    mode = campaign.config.preprocess.half_acquisition
    if mode != "auto":
        return mode == "yes"
    full_rotation = row.get("full_turn") == "true"
    if cor_px is None:
        return full_rotation and unless_known
    place = float(bin_cor(cor_px, x0=columns[0]))
    return is_half_acquisition(mode, full_rotation=full_rotation, cor_px=place, n_cols=columns[1])


def _sweep_bytes(
    campaign: Campaign,
    row: Mapping[str, str],
    n_angles: int,
    n_rows: int,
    columns: tuple[int, int],
) -> int:
    """Estimate try.tif with rows.h5, and the full-size slices if requested."""
    block = campaign.config.try_recon
    first_col, n_cols = columns
    try:
        grid_px = candidates(block, n_cols, first_col=first_col)
    except ScanError:  # no candidate on the detector: try_recon will report it
        return 0
    middle_px = float(grid_px[0] + grid_px[-1]) / 2
    n_voxels = FACTOR * n_cols if _is_half(campaign, row, columns, middle_px, False) else n_cols
    n_asked = len(block.row) if isinstance(block.row, list) else 1
    n_full = n_asked if block.format == "tiff" else 0
    kept = min(max(N_KEPT, n_asked), n_rows) * n_angles  # rows.h5: rows, and frames of pairs
    kept += 2 * N_PAIRS * min(MAX_PAIR_ROWS, n_rows)
    rows_bytes = 4 * kept * n_cols * (1 + campaign.is_corrected)
    return try_bytes(len(grid_px), n_voxels, block.max_size_px, n_full) + rows_bytes


def _first(span: str | list[int]) -> int:
    return 0 if isinstance(span, str) else span[0]
