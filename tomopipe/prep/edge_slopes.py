"""Edge slopes: how fast the rows of a scan fall at the edges of the detector.

The truncation extrapolation uses them (`tomopipe.recon.plan`): one number per side and scan,
the same for sweep, review and volume, as with one per row brightness would change between slices.
They are measured on a sum over angles and rows, since single lines vary with what lies at the edge.
"""

import logging
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomopipe.arrays import evenly_spread, theil_sen
from tomopipe.prep.correct import Corrections
from tomopipe.scans.scan import Scan

_FRAMES = (8, 32)  # projections, a 16th of all within these limits; of each 8 blocks of 8 rows
_N_BLOCKS = 16  # of rows of all projections, where chunks hold many projections
_HIGH = 8  # rows of a block
_SHARE = 20  # the edge is a twentieth of the columns
_LEAST_COLS = 4

logger = logging.getLogger(__name__)


def measure_edge_slopes(scan: Scan, corrections: Corrections) -> tuple[float, float]:
    """Measure the edge slopes of an open scan after its corrections, as of `edge_slopes_of`.

    Some projections are read, or rows where chunks hold many projections. Corrections that need
    neighbouring rows, and stripes, are skipped: they hardly change the slopes.
    """
    slopes = edge_slopes_of(_sum_of_lines(scan, replace(corrections, row_by_row=True)))
    logger.info(
        "rows fall by %.3g %% and %.3g %% per column at the edges", *np.multiply(100, slopes)
    )
    return slopes


def edge_slopes_of(line: NDArray[np.floating[Any]]) -> tuple[float, float]:
    """Return the edge slopes of a line (n_cols,), the mean or sum of many rows of sinograms.

    That is the share of its edge value that it loses per column, at the left and the right edge,
    going outwards, by a robust straight line through a twentieth of the columns (Theil and Sen); 0
    where the line does not fall or is not above 0.
    """
    n = max(_LEAST_COLS, len(line) // _SHARE)
    inwards = np.arange(n) + 0.5  # columns from the edge
    slopes = []
    for side in (line[:n], line[::-1][:n]):
        finite = np.isfinite(side)
        straight = theil_sen(inwards[: len(side)][finite], side[finite])
        slope, at_edge = straight or (0.0, 0.0)
        slopes.append(float(slope / at_edge) if slope > 0 and at_edge > 0 else 0.0)
    return slopes[0], slopes[1]


def _sum_of_lines(scan: Scan, corrections: Corrections) -> NDArray[np.float64]:
    """Sum the corrected lines of some projections, or of some rows."""
    total = np.zeros(scan.n_cols)
    deep, chunk_rows = (scan.stored_chunks or (1, 1))[:2]
    n_frames = min(max(_FRAMES[0], scan.n_angles // 16), _FRAMES[1])
    decoded = n_frames * deep * scan.n_rows, _N_BLOCKS * chunk_rows * scan.n_angles
    if deep == 1 or decoded[0] <= decoded[1]:
        order = np.argsort(scan.theta_rad, kind="stable")
        for frame in order[evenly_spread(scan.n_angles, n_frames)].tolist():
            frames = frame, frame + 1
            raw = scan.read_frames([frame]) if scan.chunks else None
            for rows in _row_blocks(scan.n_rows, _HIGH, _N_BLOCKS // 2):
                block = scan.read_block(frames, rows) if raw is None else raw[:, slice(*rows)]
                total += _sum(corrections.projections(block, frames, rows))
        return total
    for rows in _row_blocks(scan.n_rows, min(chunk_rows, _HIGH), _N_BLOCKS):
        raw = scan.read_rows(*rows)
        total += _sum(corrections.projections(raw, (0, scan.n_angles), rows))
    return total


def _row_blocks(n_rows: int, n_high: int, n_blocks: int) -> list[tuple[int, int]]:
    """Spread blocks of rows over the inner 80 % of the height, as beams fade above and below."""
    margin = n_rows // 10
    first_rows = range(margin, n_rows - margin, n_high)
    chosen = [first_rows[i] for i in evenly_spread(len(first_rows), n_blocks)]
    return [(first, min(first + n_high, n_rows - margin)) for first in chosen]


def _sum(lines: NDArray[np.float32]) -> NDArray[np.float64]:
    """Sum projections over frames and rows, without those lines that are not finite."""
    flat = lines.reshape(-1, lines.shape[-1])
    return np.asarray(flat[np.isfinite(flat).all(axis=1)].sum(axis=0, dtype=np.float64))
