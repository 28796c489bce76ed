"""Disk that results take, estimated from the sizes of their scans, and whether it is free."""

import math
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from tomopipe.campaign.campaign import Campaign
from tomopipe.campaign.overlaps import Overlap, shared_overlaps
from tomopipe.campaign.results import InventoryRows, read_cor_json, read_inventory
from tomopipe.campaign.series import needs_search
from tomopipe.campaign.stacks import Stack, declared_stacks, find_stacks
from tomopipe.errors import ScanError, TomopipeError
from tomopipe.paths import existing_folder
from tomopipe.prep.half_acquisition import FACTOR, is_half_acquisition
from tomopipe.relion.relion_set import stack_shape
from tomopipe.volumes.output_size import extent, try_bytes, volume_bytes, volume_shape

#: Names of the files of each rule.
KINDS = {
    "full_recon": "volumes",
    "stitch": "stitched volumes",
    "try_recon": "try stacks",
    "export_stack": "stacks for RELION",
}
_SHARED = "frames that volumes share"
_RAW_ITEMSIZE = 2  # bytes of a raw pixel, which the inventory does not have
_OF_VOLUMES = ("full_recon.binning", "full_recon.dtype", "full_recon.rows")
#: Keys that reduce the size of each kind.
_SMALLER = {
    "volumes": _OF_VOLUMES,
    "stitched volumes": _OF_VOLUMES,
    "try stacks": (*("try_recon.width_px", "try_recon.step_px", "try_recon.max_size_px"),),
    "stacks for RELION": (
        *("export_star.enabled: false", "export_star.binning", "export_star.max_stack_gb"),
    ),
    _SHARED: ("storage.share_frames: false",),  # each volume then reads its own
}


def disk_needed(
    campaign: Campaign, jobs: Iterable[tuple[str, str]], rows: InventoryRows
) -> dict[str, int]:
    """Estimate the disk that jobs, (rule, scan or stack), need (bytes), by kind of file.

    Rules not in `KINDS` need almost nothing, and rows that sweeps share a few % of the raw file.
    """
    jobs, needed = list(jobs), Counter[str]()
    volumes = [name for rule, name in jobs if rule == "full_recon" and name in rows]
    for overlap in shared_overlaps(campaign, "full_recon", volumes):
        needed[_SHARED] += _shared_bytes(overlap, rows)
    cors_px = known_cors(campaign)
    stacks = {stack.name: stack.scans for stack in declared_stacks(campaign)}
    for rule, name in jobs:
        is_stack = rule == "stitch"
        step, scans = ("full_recon", stacks[name]) if is_stack else (rule, (name,))
        output = campaign.config.format_of(name) if is_stack else ""
        for scan in scans if rule in KINDS else ():
            if scan in rows and rows[scan]["n_cols"]:
                cor_px = cors_px.get(scan)
                needed[KINDS[rule]] += output_bytes(campaign, step, rows[scan], cor_px, output)
    return dict(needed)


def _shared_bytes(overlap: Overlap, rows: InventoryRows) -> int:
    """Return the size of the frames (bytes) that the volumes of windows share."""
    row = rows[overlap.scans[0]]
    return _RAW_ITEMSIZE * overlap.n_frames * int(row["n_rows"] or 0) * int(row["n_cols"] or 0)


def still_to_make(campaign: Campaign, rows: InventoryRows, stacks: Sequence[Stack]) -> Counter[str]:
    """Estimate the size (bytes) of pending results of selected scans, by kind of file."""
    scans, of = campaign.selected_scans(rows), campaign.paths
    outputs = [("full_recon", s, of.volume(s, campaign.config.full_recon.output)) for s in scans]
    # for removable files, the permanent ones beside them count
    searched = [scan for scan in scans if needs_search(campaign, scan, rows[scan])]
    outputs += [("try_recon", scan, of.rows(scan)) for scan in searched]
    if campaign.makes_star:
        outputs += [("export_stack", scan, of.stack_meta(scan)) for scan in scans]
    names, format_of = [s.name for s in stacks if not s.problem], campaign.config.format_of
    outputs += [("stitch", name, of.stitched(name, format_of(name))) for name in names]
    missing = [out for out in outputs if not os.path.exists(out[2])]
    n_bytes = disk_needed(campaign, [(rule, key) for rule, key, _ in missing], rows)
    return Counter(dict.fromkeys(KINDS.values(), 0) | n_bytes)


def shown_size(n_bytes: float) -> str:
    """Write a number of bytes as GB, or as MB where that would be 0.00."""
    return f"{n_bytes / 1e9:.2f} GB" if n_bytes >= 5e6 else f"{n_bytes / 1e6:.2g} MB"


def lack_of_disk(campaign: Campaign, needed: Mapping[str, int]) -> list[str]:
    """Return an error if the pending results do not fit on the disk, else an empty list.

    `needed`: bytes by kind of file, from `still_to_make`.
    """
    existing, n_bytes = existing_folder(campaign.results), sum(needed.values())
    free = shutil.disk_usage(existing).free
    if n_bytes <= free:
        return []
    fits_unshared = n_bytes - needed.get(_SHARED, 0) <= free
    most = _SHARED if fits_unshared else max(needed, key=lambda kind: needed[kind])
    return [
        f"{existing}: {n_bytes / 1e6:,.1f} MB needed, {free / 1e6:,.1f} MB free. Free some, or "
        f"set {' or '.join(_SMALLER[most])}: {most} take {needed[most] / 1e6:,.1f} MB"
    ]


def disk_refusal(campaign: Campaign) -> list[str]:
    """Return `lack_of_disk` for a run whose inventory exists."""
    with suppress(OSError, TomopipeError, LookupError, ValueError):  # which the run itself reports
        rows = read_inventory(campaign.files.inventory)
        stacks = find_stacks(campaign, rows, rows)
        return lack_of_disk(campaign, still_to_make(campaign, rows, stacks))
    return []


def known_cors(campaign: Campaign) -> dict[str, float]:
    """Return the COR of each scan that has one, from the campaign table or the last run."""
    path = campaign.files.cor_table
    resolved: Mapping[str, Any] = {}
    with suppress(TomopipeError):  # a damaged table is made again
        resolved = read_cor_json(path) if path.is_file() else {}
    cors_px = {scan: float(entry["cor_px"]) for scan, entry in resolved.items()}
    manual = {name: scan.manual.px for name, scan in campaign.scans.items()}
    return cors_px | {name: cor_px for name, cor_px in manual.items() if cor_px is not None}


def output_bytes(
    campaign: Campaign,
    rule: str,
    row: Mapping[str, str],
    cor_px: float | None = None,
    output: str = "",
) -> int:
    """Estimate the size of a scan's volume, stack or sweep (bytes), uncompressed.

    `output`: a volume's format; "": that of the scan.
    """
    for_scan = campaign.for_scan(row["scan"])
    if rule == "try_recon":
        return _sweep_bytes(for_scan, row)
    if rule == "full_recon":
        full = for_scan.config.full_recon
        widening = FACTOR if is_half_volume(campaign, row, cor_px) else 1
        n_voxels = widening * _columns_in_use(for_scan, row)[1]
        spans = full.model_dump(include={"rows", "crop_y", "crop_x"})
        shape = volume_shape(int(row["n_rows"]), n_voxels, full.binning, **spans)
        return volume_bytes(shape, full.dtype, output or full.output)
    star = campaign.config.export_star
    unbinned = 4 * math.prod(stack_shape(campaign, row))
    if star.binning == "auto":
        return min(unbinned, int(star.max_stack_gb * 1e9))
    return unbinned // star.binning**2


def may_be_wider(campaign: Campaign, rows: InventoryRows) -> list[str]:
    """Return the scans whose volumes are `FACTOR` times as wide if the COR is near an edge.

    It is not known yet, and the estimates are of a COR near the middle.
    """
    cors_px, result = known_cors(campaign), []
    for scan in campaign.selected_scans(rows):
        row = rows[scan]
        if scan not in cors_px and row["n_cols"] and not is_half_volume(campaign, row, None):
            first_col, _ = _columns_in_use(campaign.for_scan(scan), row)
            result += [scan] * is_half_volume(campaign, row, float(first_col))
    return result


def is_half_volume(
    campaign: Campaign,
    row: Mapping[str, str],
    cor_px: float | None,
    *,
    mode: str = "",
) -> bool:
    """Tell whether the slices of a scan are twice as wide as the columns in use.

    `mode`: half acquisition mode; "": that of its volume. Some scans have unknown angles.
    """
    campaign, full_turn = campaign.for_scan(row["scan"]), row.get("full_turn")
    config = campaign.config
    mode = mode or config.full_recon.half_acquisition(config.preprocess.half_acquisition)
    if mode != "auto":
        return mode == "yes" and full_turn != "false"
    if cor_px is None:
        return False
    first_col, n_cols = _columns_in_use(campaign, row)
    return is_half_acquisition(
        mode,
        full_rotation=full_turn == "true",
        cor_px=cor_px,
        n_cols=n_cols,
        first_col=first_col,
    )


def _sweep_bytes(campaign: Campaign, row: Mapping[str, str]) -> int:
    """Estimate try.tif with rows.h5, and the full-size slices if requested."""
    # slow to load; the rules ask for widths alone
    from tomopipe.cor.collected_rows import MAX_PAIR_ROWS, N_KEPT, N_PAIRS, most_ends
    from tomopipe.steps.try_recon import try_grid

    block, n_angles, n_rows = campaign.config.try_recon, int(row["n_angles"]), int(row["n_rows"])
    first_col, n_cols = _columns_in_use(campaign, row)
    try:
        grid_px = try_grid(block, n_cols, first_col=first_col)
    except ScanError:  # no candidate on the detector: try_recon will report it
        return 0
    middle_px = float(grid_px[0] + grid_px[-1]) / 2
    mode = campaign.config.preprocess.half_acquisition
    n_voxels = n_cols * (FACTOR if is_half_volume(campaign, row, middle_px, mode=mode) else 1)
    n_of_option = len(block.row) if isinstance(block.row, list) else 1
    n_full = n_of_option if block.format == "tiff" else 0
    # rows.h5: rows, and frames of pairs and ends
    n_values = min(max(N_KEPT, n_of_option), n_rows) * n_angles
    n_values += (2 * N_PAIRS + most_ends(n_angles)) * min(MAX_PAIR_ROWS, n_rows)
    rows_bytes = 4 * n_values * n_cols * (2 - campaign.config.preprocess.is_plain)
    return try_bytes(len(grid_px), n_voxels, block.max_size_px, n_full) + rows_bytes


def _columns_in_use(campaign: Campaign, row: Mapping[str, str]) -> tuple[int, int]:
    """Return the first of the detector columns in use, and their number."""
    columns = campaign.config.input.columns
    first_col = 0 if isinstance(columns, str) else columns[0]
    return first_col, extent(columns, int(row["n_cols"]))
