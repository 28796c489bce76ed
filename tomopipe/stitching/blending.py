"""Blending of volumes at several heights, placed on the grid of the first.

In the overlap of two volumes the weight of one falls in equal steps while that of the other rises;
their sum is 1, so that there is no step, and the weight is least next to the end of a volume, where
its data are worst. Where three overlap, the products of these ramps are scaled to a sum of 1.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

HALO_ROWS = 8  # rows further away contribute less than 3e-5 to the cubic spline of a row
BLOCK_ROWS = 8
_STRIP_BYTES = 64 * 2**20
_BEYOND_ROWS = 0.05  # error of shifts: a row outside by less than this counts as inside

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Placed:
    """A volume on the grid of the first one."""

    n_rows: int  # height
    read_slice: Callable[[int], Array]  # read_slice(row): one slice, float32
    # position of its first voxel
    z_px: float = 0.0
    y_px: float = 0.0
    x_px: float = 0.0
    # correction of its values: gain * value + offset
    gain: float = 1.0
    offset: float = 0.0

    @property
    def rows(self) -> range:
        """Rows of the grid that lie within the volume, to the accuracy of its height.

        Otherwise a volume at 43.997 instead of 44 would lose its last row.
        """
        first = math.ceil(self.z_px - _BEYOND_ROWS)
        return range(first, math.floor(self.z_px + self.n_rows - 1 + _BEYOND_ROWS) + 1)


def ramps(placed: Sequence[Placed], rows: range) -> NDArray[np.float64]:
    """Return weights of volumes (n_volumes, n_rows), in any order, in grid rows; their sum is 1."""
    numbers = np.arange(rows.start, rows.stop)
    weights = np.array(
        [(part.rows.start <= numbers) & (numbers < part.rows.stop) for part in placed], float
    )
    order = sorted(range(len(placed)), key=lambda k: placed[k].z_px)
    for upper, lower in pairwise(order):
        first, stop = placed[lower].rows.start, placed[upper].rows.stop
        rising = np.clip((numbers - first + 1) / (stop - first + 1), 0, 1)
        weights[lower] *= rising
        weights[upper] *= 1 - rising
    return weights / weights.sum(axis=0)


class Resampled:
    """A volume read on the grid of another one; slices in use are kept, so that each is read once.

    Cubic splines leave hardly a trace in the result: noise only loses some variance.
    """

    def __init__(self, placed: Placed) -> None:
        self.placed = placed
        self._whole = round(placed.z_px)
        self._part = placed.z_px - self._whole
        halo = HALO_ROWS if abs(self._part) > 1e-6 else 0
        self._halo = halo
        self._slice = lru_cache(maxsize=BLOCK_ROWS + 2 * halo)(self._moved_slice)

    def rows(self, rows: range) -> Array:
        """Return rows of the grid, shape (len(rows), n_y, n_x); they lie within the volume."""
        first, stop = rows.start - self._whole, rows.stop - self._whole
        last = self.placed.n_rows - 1
        # slices are mirrored beyond the ends, as by the spline itself
        rows_read = range(first - self._halo, stop + self._halo)
        slices = [self._slice(last - abs(last - abs(row))) for row in rows_read]
        if not self._halo:
            return np.stack(slices)
        return _between(slices, self._part, self._halo)

    def _moved_slice(self, row: int) -> Array:
        from scipy import ndimage

        placed = self.placed
        image = placed.read_slice(row)
        if abs(placed.y_px) > 1e-6 or abs(placed.x_px) > 1e-6:
            image = ndimage.shift(
                image, (placed.y_px, placed.x_px), order=3, mode="nearest", output=np.float32
            )
        if placed.gain != 1 or placed.offset != 0:
            image = np.float32(placed.gain) * image + np.float32(placed.offset)
        return image


def _between(slices: Sequence[Array], part: float, halo: int) -> Array:
    """Shift slices by a fraction of a row, strip by strip, and drop the halo."""
    from scipy import ndimage

    n_y, n_x = slices[0].shape
    far = np.abs(np.arange(-2.0, 3.0) + part)
    near = (4 - 6 * far**2 + 3 * far**3) / 6
    # of the cubic B-spline of unit knots
    taps = np.where(far < 1, near, np.clip(2 - far, 0, None) ** 3 / 6)
    moved = np.empty((len(slices) - 2 * halo, n_y, n_x), np.float32)
    step = max(1, _STRIP_BYTES // (8 * len(slices) * n_x))
    for y in range(0, n_y, step):
        strip = np.stack([image[y : y + step] for image in slices])
        knots = ndimage.spline_filter1d(strip, 3, axis=0, output=np.float32, mode="mirror")
        inner = knots[halo - 2 : len(slices) - halo + 2]
        moved[:, y : y + step] = ndimage.correlate1d(inner, taps, axis=0)[2:-2]
    return moved


def blended(parts: Sequence[Resampled], rows: range) -> Array:
    """Return rows of the stitched volume, float32, shape (len(rows), n_y, n_x)."""
    weights = ramps([part.placed for part in parts], rows).astype(np.float32)
    total: Array | None = None
    for part, weight in zip(parts, weights, strict=True):
        inside = np.flatnonzero(weight)
        if not len(inside):
            continue
        low, high = int(inside[0]), int(inside[-1]) + 1
        result = part.rows(range(rows.start + low, rows.start + high))
        result *= weight[low:high, None, None]
        if total is None:
            total = np.zeros((len(rows), *result.shape[1:]), np.float32)
        total[low:high] += result
    assert total is not None
    return total
