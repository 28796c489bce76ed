"""Which rows of the detector get light, and which of them try_recon takes.

A camera that wrote a region of interest into frames of full height, a gap between modules, a beam
lower than the detector: such rows hold no sample, and no COR.
"""

import logging
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tomopipe.config.spans import row_numbers
from tomopipe.errors import ScanError
from tomopipe.scans.metadata import runs_of
from tomopipe.scans.scan import Scan

_LEAST_LIGHT = 0.01  # of that of the brightest row
_DEEPEST = 32  # most projections of a chunk that is read for one of them
_MOST_RUNS = 4  # named in a sentence

logger = logging.getLogger(__name__)


def illuminated_rows(scan: Scan) -> NDArray[np.bool_]:
    """Return which rows get light, (n_rows,), by the flats and by two projections.

    Dark are rows whose flats are above the darks by less than a hundredth of the brightest row, and
    those that hold one value in both projections, below the largest if there are flats (else
    saturated air would count). All False: the flats are not above the darks.
    """
    signal = np.nan_to_num(scan.flat - scan.dark).mean(axis=1, dtype=np.float64)
    by_flats = signal > max(_LEAST_LIGHT * signal.max(), 0)
    if scan.chunks and scan.chunks[0] > _DEEPEST:
        return by_flats  # of sinograms: a projection costs the whole scan
    frames = scan.read_frames(looked_at(scan))
    low, high = np.fmin.reduce(frames, axis=(0, 2)), np.fmax.reduce(frames, axis=(0, 2))
    changes = low < high
    if scan.n_flats:
        changes |= high == np.fmax.reduce(high)
    result: NDArray[np.bool_] = by_flats & changes
    return result if result.any() else by_flats  # nothing is in these projections


def looked_at(scan: Scan) -> list[int]:
    """Return the projections that `illuminated_rows` reads."""
    return [scan.n_angles // 3, 2 * scan.n_angles // 3]


def choose_rows(
    row: float | int | Sequence[float | int], lit: NDArray[np.bool_]
) -> tuple[list[int], list[str]]:
    """Return the detector rows of `try_recon.row`, and sentences on those that are others.

    A fraction of the height means the nearest row with light. A row number stays; the first row,
    which is shown, must have light (ScanError), others without it are left out.
    """
    values = row if isinstance(row, Sequence) else [row]
    rows, notes = [], []
    for value in values:
        (number,) = row_numbers(value, len(lit))
        if lit[number] or not lit.any():
            rows.append(number)
            continue
        where = f"row {number} gets no light ({_dark_rows(lit)})"
        if isinstance(value, float):
            free = np.setdiff1d(np.flatnonzero(lit), rows)
            near = free if len(free) else np.flatnonzero(lit)
            rows.append(int(near[np.argmin(np.abs(near - number))]))
            notes.append(f"{where}: row {rows[-1]} is taken instead (try_recon.row: {value:g})")
        elif not rows:
            raise ScanError(
                f"no signal: {where}: set try_recon.row to one of {_runs(lit)}, or to a fraction "
                "of the height, such as 0.5, which takes the nearest of these"
            )
        else:
            notes.append(f"{where}: it is left out (try_recon.row: {value})")
    return list(dict.fromkeys(rows)), notes


def warn_of_dark_rows(
    dark_rows: NDArray[np.integer], n_rows: int, used: Sequence[int] | Literal["all"]
) -> str:
    """Say that slices of the volume are empty, and which rows are not; "" if none is.

    `dark_rows` have no light, `used` are the first and the last row of the volume, or "all".
    """
    lit = np.ones(n_rows, bool)
    lit[dark_rows] = False
    dark = _dark_rows(lit)
    first, last = (0, n_rows - 1) if isinstance(used, str) else used
    within = lit[first : last + 1]
    if within.all() or not lit.any():
        return ""
    if within.any():
        lit[:first], lit[last + 1 :] = False, False
    spans = sorted(runs_of(np.flatnonzero(lit)), key=lambda span: span[0] - span[1])
    remedy = " or ".join(str([*span]) for span in spans[:_MOST_RUNS])
    return f"{dark}, so their slices show no sample; full_recon.rows: {remedy} leaves them out"


def _dark_rows(lit: NDArray[np.bool_]) -> str:
    one = int(np.count_nonzero(~lit) == 1)
    return f"row{'s' * (1 - one)} {_runs(~lit)} of {len(lit)} get{'s' * one} no light"


def _runs(rows: NDArray[np.bool_]) -> str:
    """Name rows: 0 to 7, 12."""
    runs = [f"{a} to {b}" if a < b else str(a) for a, b in runs_of(np.flatnonzero(rows))]
    return ", ".join(runs[:_MOST_RUNS]) + ", ..." * (len(runs) > _MOST_RUNS)
