"""Radial distortion of the lens, roll of the detector and shifts, in one resampling.

References
----------
.. [1] Vo, Atwood, Drakopoulos, "Radial lens distortion correction with sub-pixel accuracy for X-ray
       micro-tomography", Opt. Express 23 (2015) 32859.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from types import ModuleType
from typing import Any

import numpy as np

from tomopipe.arrays import module_of
from tomopipe.config import PreprocessBlock
from tomopipe.config.preprocess import DistortionBlock
from tomopipe.prep import kernels_of
from tomopipe.prep.recipe import IndexRange, Part
from tomopipe.prep.shifts import Shifts, shifts_of

_USUAL_DEG = 1.0  # of a roll that is not measured yet


@dataclass(frozen=True)
class Warp:
    """The position in the raw frame of each pixel of a corrected frame."""

    # of the frames
    n_rows: int
    n_cols: int
    # rotation of the detector about its middle: in the raw frames the column of the axis grows by
    # tan(roll) from one row to the next
    roll_deg: float = 0.0
    # backward model of [1]: a pixel at distance r from the centre comes from distance r (k0 + k1 r
    # + k2 r^2 + ...), pixels
    distortion: tuple[float, ...] = ()
    # column and row of the centre of the distortion; None: the middle of the detector
    centre_px: tuple[float, float] | None = None
    # column of the detector that is the first one of the frames; centre and middle are those of the
    # detector
    first_col: int = 0
    detector_cols: int = 0  # columns of the detector; 0: those of the frames
    shifts: Shifts | None = None  # of each projection
    shift_px: tuple[float, float] = (0.0, 0.0)  # dx, dy of one projection

    def source(self, rows: tuple[int, int], xp: ModuleType = np) -> tuple[Any, Any]:
        """Return row and column that each pixel of some rows comes from, within the frames."""
        y = xp.arange(*rows, dtype=float)[:, None] + self.shift_px[1]
        x = xp.arange(self.n_cols, dtype=float) + (self.first_col + self.shift_px[0])
        middle_x = ((self.detector_cols or self.n_cols) - 1) / 2
        middle_y = (self.n_rows - 1) / 2
        angle = np.deg2rad(self.roll_deg)
        y, x = y - middle_y, x - middle_x
        y, x = (
            middle_y + y * np.cos(angle) - x * np.sin(angle),
            middle_x + x * np.cos(angle) + y * np.sin(angle),
        )
        if self.distortion:
            at_x, at_y = self.centre_px or (middle_x, middle_y)
            radius = xp.hypot(x - at_x, y - at_y)
            factor = self.distortion[-1] + radius * 0
            for coefficient in self.distortion[-2::-1]:
                factor = coefficient + factor * radius
            y, x = at_y + factor * (y - at_y), at_x + factor * (x - at_x)
        x -= self.first_col
        return xp.clip(y, 0, self.n_rows - 1), xp.clip(x, 0, self.n_cols - 1)

    def rows_needed(self, rows: tuple[int, int]) -> tuple[int, int]:
        """Return the rows of the frame as taken that some rows come from, the last excluded."""
        extremes = self.shifts.extremes if self.shifts else [self.shift_px]
        sources = [replace(self, shift_px=shift_px).source(rows)[0] for shift_px in extremes]
        first, last = (int(end(y)) for end, y in ((np.min, sources), (np.max, sources)))
        return min(first, rows[0]), max(min(last + 2, self.n_rows), rows[1])


def warp_of(recipe: PreprocessBlock, scan: Any, beam: Any) -> Warp:
    """Return distortion and roll of a scan's detector."""
    coefficients, center_px = recipe.distortion.coefficients, recipe.distortion.center_px
    # a scan that is open has the measured one; else its memory is estimated
    roll_deg = _USUAL_DEG if recipe.roll_deg == "auto" else recipe.roll_deg
    return Warp(
        scan.n_rows,
        scan.n_cols,
        roll_deg,
        tuple(coefficients),
        None if center_px is None else (center_px[0], center_px[1]),
        scan.first_col,
        scan.detector_cols,
        shifts_of(recipe, scan, beam) if recipe.shifts else None,
    )


def rows_of_warp(rows: IndexRange, options: DistortionBlock, warp: Warp) -> IndexRange:
    """Return the rows that some rows come from."""
    return warp.rows_needed(rows)


def straighten(projections: Any, options: DistortionBlock, part: Part) -> Any:
    """Apply `preprocess.distortion` and `preprocess.roll_deg`, and with them `shifts`."""
    warp: Warp = part.fit
    if warp.shifts is None:
        return apply_warp(projections, warp, part.target, part.rows)
    shape = len(projections), part.target[1] - part.target[0], warp.n_cols
    out = module_of(projections).empty(shape, np.float32)
    for i, frame in enumerate(range(*part.frames)):
        shift_px = float(warp.shifts.dx_px[frame]), float(warp.shifts.dy_px[frame])
        of_frame = replace(warp, shift_px=shift_px)
        out[i] = apply_warp(projections[i : i + 1], of_frame, part.target, part.rows)[0]
    return out


def apply_warp(images: Any, warp: Warp, rows: tuple[int, int], source_rows: tuple[int, int]) -> Any:
    """Resample frames to where their pixels belong, linearly.

    `rows` are the detector rows to make, `source_rows` those of the images (n, n_source_rows,
    n_cols), of NumPy or CuPy: at least `warp.rows_needed(rows)`.
    """
    xp = module_of(images)
    n, n_given = images.shape[:2]
    is_kept = xp is np and warp.shifts is None  # else they differ from frame to frame
    above, left, down, across = _host_taps(warp, rows) if is_kept else _taps(warp, rows, xp)
    above = above - source_rows[0]
    # a GPU is not waited for
    if xp is np and (above.min() < 0 or above.max() >= n_given):
        raise ValueError(f"rows {rows} come from {warp.rows_needed(rows)}; got {source_rows}")
    out = xp.empty((n, rows[1] - rows[0], warp.n_cols), np.float32)
    kernels_of(xp).resample(xp.ascontiguousarray(images), above, left, down, across, out)
    return out


def _taps(warp: Warp, rows: tuple[int, int], xp: ModuleType = np) -> tuple[Any, ...]:
    """Return the upper left neighbour of each pixel's source, and the parts below and right."""
    y, x = warp.source(rows, xp)
    above, left = y.astype(np.int32), x.astype(np.int32)
    return above, left, (y - above).astype(np.float32), (x - left).astype(np.float32)


_host_taps = lru_cache(maxsize=8)(_taps)
