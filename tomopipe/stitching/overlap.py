"""Registration of two volumes of a sample by the structure in their overlap.

The scans of a stack show the same structure in the rows that they share. Structure that does not
change with height (the outline of a rod) and structure of the detector (rings) carry no information
on shifts, so only changes along z count. Two stages:

1. Slices are averaged to at most 32 x 32 blocks. The normalised cross-correlation along z of all
   blocks together [1]_, over the overlap only, gives a few candidate shifts.
2. At each candidate a box of full resolution is registered in three dimensions: by the peak of its
   cross-correlation [2]_, then by least squares of the difference on the gradient (Gauss-Newton),
   until it converges. The correlation in the box is then the quality; the best shift wins, if no
   other is nearly as good.

References
----------
.. [1] D. Padfield, "Masked object registration in the Fourier domain", IEEE Trans. Image Process.
   21, 2706 (2012).
.. [2] M. Guizar-Sicairos, S. T. Thurman, J. R. Fienup, "Efficient subpixel image registration
   algorithms", Opt. Lett. 33, 156 (2008).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from tomopipe.cor.registration import correlate, likelihood
from tomopipe.errors import TomopipeError
from tomopipe.prep import block_average

MIN_ROWS = 8  # least overlap
# largest overlap, share of the volume with fewer rows: beyond it, detector rings match themselves
MAX_SHARE = 0.9
MIN_QUALITY = 0.5
_SECOND_PEAK = 0.8  # share of the best quality from which another shift makes the result ambiguous
_BLOCKS = 32  # blocks per side of averaged slices
_CANDIDATES = 4
_BOX_ROWS, _BOX_SIDE = 32, 256  # size of the box registered in full resolution
_HALO = 4  # voxels around the box, for interpolation
_MAX_SIDEWAYS = 1 / 8  # share of the width
_SMOOTH_PX = 1.0
_STEPS, _SETTLED_PX = 12, 0.003

Array = NDArray[np.float32]
Box = tuple[range, range, range]  # voxels of the first volume: rows, y, x


@dataclass(frozen=True)
class Part:
    """A volume to be registered."""

    shape: tuple[int, int, int]  # (n_rows, n_y, n_x)
    read_slice: Callable[[int], Array]  # read_slice(row): one slice, float32
    blocks: Array  # ndarray of float32 (n_rows, n_blocks_y, n_blocks_x): from `block_means`


@dataclass(frozen=True)
class Shift:
    """Position of the second volume: its voxel (z, y, x) is (z + z_px, ...) of the first."""

    # in voxels; z_px > 0 where the second continues the first towards higher rows
    z_px: float
    y_px: float
    x_px: float
    overlap_rows: float  # rows that both volumes show
    quality: float  # correlation (at most 1) in the overlap of structure that changes with height


def block_means(image: Array) -> Array:
    """Average a slice to at most 32 x 32 blocks; rows and columns that fill none are skipped."""
    return np.asarray(block_average(image[None], *(-(-n // _BLOCKS) for n in image.shape))[0])


def find_shift(
    first: Part,
    second: Part,
    *,
    names: tuple[str, str],
    direction: str = "auto",
    overlap_rows: float | None = None,
    tolerance_rows: float = 0.0,
) -> Shift:
    """Find the position of the second volume on the grid of the first, which has the same width.

    `direction`: the second continues the first towards higher rows (down) or lower ones (up); auto:
    either. They share `overlap_rows` within `tolerance_rows`; None: unknown. A TomopipeError with
    both `names` if the volumes do not fit at any height, or at several.
    """
    for name, part in zip(names, (first, second), strict=True):
        if part.shape[0] < 2:
            raise TomopipeError(
                f"{name}: its volume has one row, which shows no overlap. Take more "
                "(full_recon.rows), or take the scan out of stitch."
            )
    lags = _candidates(first, second, direction, overlap_rows, tolerance_rows)
    n_rows = min(first.shape[0], second.shape[0])
    limits = f"{MIN_ROWS} to {int(MAX_SHARE * n_rows)} rows"
    near = f", near {overlap_rows:g} of the volume (stitch.overlap_rows)" if overlap_rows else ""
    if not lags:
        raise TomopipeError(
            f"{names[0]} and {names[1]}: no overlap is possible: expected at least {MIN_ROWS} "
            f"rows, and at most nine tenths of {n_rows}, which the smaller volume has{near}. Take "
            "more rows (full_recon.rows, binning), or correct stitch.overlap_rows."
        )
    results: list[Shift] = []
    for lag in lags:
        if any(abs(lag - other.z_px) <= _HALO for other in results):
            continue
        shift = _refined(first, second, lag)
        # candidates that converge to the same shift count once
        if shift and all(abs(shift.z_px - other.z_px) > _HALO for other in results):
            results.append(shift)
    results.sort(key=lambda shift: -shift.quality)
    if not results or results[0].quality < MIN_QUALITY:
        best = f"; the best correlation is {results[0].quality:.2f}" if results else ""
        raise TomopipeError(
            f"{names[0]} and {names[1]}: found no overlap of {limits}{near} in which they show "
            f"the same structure{best}, expected at least {MIN_QUALITY}. If they share fewer, take "
            "more rows (full_recon.rows, binning); else check the order of the stack and "
            "stitch.overlap_rows, or take the scans out of stitch."
        )
    best_shift, *others = results
    if others and others[0].quality > _SECOND_PEAK * best_shift.quality:
        raise TomopipeError(
            f"{names[0]} and {names[1]}: fit with an overlap of {best_shift.overlap_rows:.1f} "
            f"rows at z {best_shift.z_px:+.1f} (correlation {best_shift.quality:.2f}) and of "
            f"{others[0].overlap_rows:.1f} at z {others[0].z_px:+.1f} ({others[0].quality:.2f}). "
            "Set stitch.overlap_rows or stitch.direction."
        )
    return best_shift


def _overlap_rows(z_px: float, n_first: int, n_second: int) -> float:
    """Return the number of rows that two volumes share; the second begins at row z_px."""
    return min(n_first, z_px + n_second) - max(0.0, z_px)


def _candidates(
    first: Part, second: Part, direction: str, overlap_rows: float | None, tolerance_rows: float
) -> list[int]:
    """Return candidate integer shifts along z, the best first."""
    n_first, n_second = first.shape[0], second.shape[0]
    n_rows = max(n_first, n_second)
    first_lines, second_lines = _lines(first.blocks, n_rows), _lines(second.blocks, n_rows)
    correlation, share = correlate(first_lines, second_lines, np.zeros(len(first_lines), np.intp))
    score = likelihood(correlation[-1], share[-1])
    lags = np.arange(1 - n_rows, n_rows)
    shared = np.array([_overlap_rows(int(lag), n_first, n_second) for lag in lags])
    allowed = (shared >= MIN_ROWS) & (shared <= MAX_SHARE * min(n_first, n_second))
    if direction != "auto":
        allowed &= (lags > 0) == (direction == "down")
    if overlap_rows is not None:
        allowed &= np.abs(shared - overlap_rows) <= tolerance_rows
    score = np.where(allowed, score, -np.inf)
    candidates: list[int] = []
    while len(candidates) < _CANDIDATES and np.isfinite(score).any():
        best = int(np.argmax(score))
        candidates.append(int(lags[best]))
        score[max(0, best - 2) : best + 3] = -np.inf
    return candidates


def _lines(blocks: Array, n_rows: int) -> Array:
    """Return each block along z, high-pass filtered and zero-padded to (n_blocks, n_rows)."""
    lines = np.ascontiguousarray(blocks.reshape(len(blocks), -1).T)
    fine = ndimage.gaussian_filter1d(lines, 0.7, axis=1, mode="nearest")
    fine -= ndimage.gaussian_filter1d(lines, max(4.0, n_rows / 16), axis=1, mode="nearest")
    return np.pad(fine, ((0, 0), (0, n_rows - len(blocks))))


def _refined(first: Part, second: Part, lag: int) -> Shift | None:
    """Register both volumes in full resolution from an integer shift along z; None on failure."""
    shift = np.array([lag, 0.0, 0.0])
    limit_px = _MAX_SIDEWAYS * np.array([np.inf, *first.shape[1:]])
    readers = _reader(first), _reader(second)
    for step_of in (_peak, *(_STEPS * [_least_squares])):
        box = _box(first, second, shift)
        if box is None:
            return None
        first_box = _smooth(_read(readers[0], first.shape[0], box, np.zeros(3)))
        second_box = _smooth(_read(readers[1], second.shape[0], box, shift))
        step = step_of(first_box, second_box)
        shift = shift + step
        if not (np.abs(shift) <= limit_px).all() or abs(shift[0] - lag) > _HALO:
            return None
        if step_of is _least_squares and np.abs(step).max() < _SETTLED_PX:
            break
    else:
        return None  # no convergence: too little structure to register
    z_px, y_px, x_px = (float(value) for value in shift)
    overlap_rows = _overlap_rows(z_px, first.shape[0], second.shape[0])
    image, other = _changing(first_box), _changing(second_box)
    product = float(np.sum(image * other, dtype=np.float64))
    norm = np.sqrt(np.sum(image**2, dtype=np.float64) * np.sum(other**2, dtype=np.float64))
    quality = product / float(norm) if norm > 0 else 0.0
    return Shift(z_px, y_px, x_px, overlap_rows, quality)


def _reader(part: Part) -> Callable[[int, range, range], Array]:
    """Return a reader of crops of slices that caches the crops of one box."""

    @lru_cache(maxsize=2 * (_BOX_ROWS + 2 * _HALO))
    def read(row: int, y: range, x: range) -> Array:
        return part.read_slice(row)[y.start : y.stop, x.start : x.stop].copy()

    return read


def _peak(image: Array, other: Array) -> NDArray[np.float64]:
    """Return the step (z, y, x) with the largest cross-correlation of the changing part [2]_."""
    from scipy.signal import windows  # slow to import, and the workflow imports this module

    z, y, x = (windows.tukey(n + 2, 0.5)[1:-1] for n in image.shape)
    window = np.asarray(z[:, None, None] * y[:, None] * x, np.float32)  # 0 at the faces of the box
    # Plain, not phase, correlation, as white noise weakens all frequencies equally.
    product = fft.fftn(window * _changing(image)) * fft.fftn(window * _changing(other)).conj()
    correlation = np.abs(fft.ifftn(product))
    peak = np.unravel_index(np.argmax(correlation), correlation.shape)
    steps = []
    for k, n in zip(peak, image.shape, strict=True):
        # refined to quarters of a voxel by the Fourier sum, one axis after the other
        steps.append((k - n if k > n // 2 else k) + np.arange(-3, 3) / 4)
        waves = np.exp(2j * np.pi * np.outer(steps[-1], fft.fftfreq(n)))
        product = np.tensordot(product, waves, axes=(0, 1))
    best = np.unravel_index(np.argmax(np.abs(product)), product.shape)
    return np.array([at[i] for at, i in zip(steps, best, strict=True)])


def _least_squares(image: Array, other: Array) -> NDArray[np.float64]:
    """Return the step (z, y, x) that explains most of the difference, with a gain and offset."""
    slopes = [np.asarray(np.gradient(other, axis=axis)) for axis in range(3)]
    inner = (slice(1, -1),) * 3
    terms = [*(-slope for slope in slopes), other, np.ones_like(other)]
    table = np.stack([term[inner].ravel() for term in terms])
    target = (image - other)[inner].ravel()
    gram = (table @ table.T).astype(float)
    solved, *_ = np.linalg.lstsq(gram, (table @ target).astype(float), rcond=None)
    return np.clip(solved[:3], -1, 1)


def _box(first: Part, second: Part, shift: NDArray[np.float64]) -> Box | None:
    """Choose the box with most structure in the middle of the overlap; None without room."""
    z = round(shift[0])
    low, high = max(0, z), min(first.shape[0], z + second.shape[0])
    margin = _HALO if high - low >= 4 * _HALO else 2
    low, high = low + margin, high - margin
    if high - low < MIN_ROWS - 4:
        return None
    spare = max(0, high - low - _BOX_ROWS)
    rows = range(low + spare // 2, high - (spare - spare // 2))
    shown = np.ptp(first.blocks[low:high], axis=0) if high > low else first.blocks[0]
    y, x = (_side(first.shape[axis], round(shift[axis]), shown, axis - 1) for axis in (1, 2))
    return None if y is None or x is None else (rows, y, x)


def _side(n: int, move: int, shown: Array, axis: int) -> range | None:
    """Return the columns (rows) of the box: most structure, within the second volume."""
    low, high = max(0, move) + _HALO, n + min(0, move) - _HALO
    length = min(_BOX_SIDE, high - low)
    if length < n // 4:
        return None
    profile = shown.sum(axis=1 - axis)
    middle = float(np.sum(profile * (np.arange(len(profile)) + 0.5)) / max(profile.sum(), 1e-30))
    start = round(middle * n / len(profile) - length / 2)
    start = min(max(start, low), high - length)
    return range(start, start + length)


def _read(
    read: Callable[[int, range, range], Array], n_rows: int, box: Box, shift: NDArray[np.float64]
) -> Array:
    """Read a volume on the voxels of the box, the volume being moved by `shift`."""
    whole = np.rint(shift).astype(int)
    halo = _HALO if shift.any() else 0
    rows, y, x = (
        range(side.start - int(move) - halo, side.stop - int(move) + halo)
        for side, move in zip(box, whole, strict=True)
    )
    # beyond the ends of a volume its last row is repeated
    result = np.stack([read(min(max(row, 0), n_rows - 1), y, x) for row in rows])
    if not halo:
        return result
    moved = np.empty_like(result)
    ndimage.shift(result, shift - whole, output=moved, order=3, mode="nearest")
    return moved[halo:-halo, halo:-halo, halo:-halo]


def _smooth(box: Array) -> Array:
    return np.asarray(ndimage.gaussian_filter(box, _SMOOTH_PX, mode="nearest"))


def _changing(box: Array) -> Array:
    """Return the part that changes with height."""
    return np.asarray(box - box.mean(axis=0))
