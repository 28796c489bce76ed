"""The disk that a campaign takes: volumes, try stacks, stacks for RELION, temporary files."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping

from tomopipe.campaign import Campaign, InventoryRows
from tomopipe.errors import ScanError
from tomopipe.stacks import declared_stacks
from tomopipe.steps.try_recon import candidates

#: What the files of each rule are called.
KINDS = {
    "full_recon": "volumes",
    "stitch": "stitched volumes",
    "try_recon": "try stacks",
    "export_stack": "stacks for RELION",
}
SCRATCH = "temporary, of one volume at a time"
_ITEM_BYTES = {"float32": 4, "float16": 2, "uint16": 2, "uint8": 1}
_KEPT_ROWS, _KEPT_FRAMES, _KEPT_FRAME_ROWS = 5, 6, 256  # of rows.h5, float32


def disk_needed(
    campaign: Campaign, jobs: Iterable[tuple[str, str]], rows: InventoryRows
) -> dict[str, int]:
    """Estimate the disk that jobs take (bytes), by what takes it.

    Parameters
    ----------
    campaign : Campaign
        For the options.
    jobs : iterable of (str, str)
        Rule and scan (stack); others than those of `KINDS` take next to nothing.
    rows : mapping
        The inventory.

    Returns
    -------
    dict of str to int
        `KINDS` that there are, and `SCRATCH`: what a volume needs for a while where the chunks of
        its scan are tall, at most.
    """
    needed: Counter[str] = Counter()
    stacks = {stack.name: stack.scans for stack in declared_stacks(campaign)}
    for rule, scan in jobs:
        if rule == "stitch":
            needed[KINDS[rule]] += stack_bytes(campaign, stacks[scan], rows)
        if scan not in rows or rule not in KINDS:
            continue
        needed[KINDS[rule]] += output_bytes(campaign, rule, rows[scan])
        if rule == "full_recon":
            needed[SCRATCH] = max(needed[SCRATCH], int(rows[scan]["bytes"] or 0))
    return dict(needed)


def stack_bytes(campaign: Campaign, scans: Iterable[str], rows: InventoryRows) -> int:
    """Estimate the size of a tall volume (bytes), uncompressed: at most that of its parts."""
    return sum(output_bytes(campaign, "full_recon", rows[s]) for s in scans if s in rows)


def output_bytes(campaign: Campaign, rule: str, row: Mapping[str, str]) -> int:
    """Estimate the size of a scan's volume, stack or sweep (bytes), uncompressed.

    Parameters
    ----------
    campaign : Campaign
        For the options.
    rule : str
        One of `KINDS` that makes something of one scan.
    row : mapping
        The scan's row of the inventory.
    """
    own = campaign.for_scan(row["scan"])
    n_angles, n_rows, n_cols = (int(row[key]) for key in ("n_angles", "n_rows", "n_cols"))
    n_voxels = 2 * n_cols if own.config.preprocess.half_acquisition == "yes" else n_cols
    if rule == "try_recon":
        return _sweep_bytes(own, n_angles, n_rows, n_cols, n_voxels)
    if rule == "full_recon":
        full = own.config.full_recon
        sizes = (
            _extent(full.rows, n_rows),
            _extent(full.crop_y, n_voxels),
            _extent(full.crop_x, n_voxels),
        )
        return _ITEM_BYTES[full.dtype] * math.prod(max(1, n // full.binning) for n in sizes)
    star = campaign.config.export_star
    tilts = n_angles if star.max_tilts == "all" else min(n_angles, star.max_tilts)
    plain = 4 * tilts * _extent(star.rows, n_rows) * n_cols
    if star.binning == "auto":
        return min(plain, int(star.max_stack_gb * 1e9))
    return plain // star.binning**2


def _sweep_bytes(campaign: Campaign, n_angles: int, n_rows: int, n_cols: int, n_voxels: int) -> int:
    """Estimate try.tif with rows.h5, and the full-size slices if they are wanted."""
    block = campaign.config.try_recon
    try:
        grid_px = candidates(
            n_cols, center_px=block.center_px, width_px=block.width_px, step_px=block.step_px
        )
    except ScanError:  # no candidate on the detector: try_recon will say so
        return 0
    side = n_voxels // -(-n_voxels // block.max_size_px)
    n_asked = len(block.row) if isinstance(block.row, list) else 1
    kept = min(max(_KEPT_ROWS, n_asked), n_rows) * n_angles * n_cols
    kept += _KEPT_FRAMES * min(_KEPT_FRAME_ROWS, n_rows) * n_cols
    slices = 4 * n_asked * n_voxels**2 if block.format == "tiff" else 0
    return len(grid_px) * (2 * side**2 + slices) + 4 * kept * (1 + campaign.is_corrected)


def _extent(span: str | list[int], n: int) -> int:
    return n if isinstance(span, str) else span[1] - span[0] + 1
