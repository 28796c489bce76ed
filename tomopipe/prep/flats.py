"""The beam without a sample, at each projection of a scan.

Dynamic flats (`pca`) are principal components of the flats' relative differences from their mean,
those that stand out from the others [1]_, weighted for each projection. The weights must follow the
beam and never the sample, whose smooth parts look like changes of the beam: they are fitted by
least squares to pixels without sample at any angle (`tomopipe.prep.air`), as in [2]_; a
scan without such pixels is refused. The fit uses whole frames averaged to at most `_MOST_PX`
pixels, so that the weights do not depend on the rows that are corrected; it reads the scan a second
time.

References
----------
.. [1] Van Nieuwenhove, De Beenhouwer, De Carlo, Mancini, Marone, Sijbers, "Dynamic intensity
       normalization using eigen flat fields in X-ray imaging", Opt. Express 23 (2015) 27975.
.. [2] Jailin, Buffiere, Hild, Poncelet, Roux, "On the use of flat-fields for tomographic
       reconstruction", J. Synchrotron Rad. 24 (2017) 220.
"""

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomopipe.arrays import module_of, once
from tomopipe.config import PreprocessBlock
from tomopipe.errors import ScanError
from tomopipe.prep import block_average
from tomopipe.prep.air import Averages
from tomopipe.prep.beam_moves import follow_beam
from tomopipe.prep.wavelets import without_noise
from tomopipe.scans.scan import Scan

_BLOCK_BYTES = 64 * 2**20
_MOST_PX = 192  # largest number of columns and of rows of the averaged frames
_COLUMNS = 64  # that changes are averaged to before their logarithm
_STANDS_OUT = 2.0  # least strength of a component over the mean of the weaker ones
_LEAST_BRIGHT = 0.01  # least share of pixels that flats are brighter at than darks

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Beam:
    """The beam of projection f: dark + (flat - dark) (1 + sum over k of w[f, k] shapes[k])."""

    # (n_rows, n_cols)
    flat: NDArray[np.float32]
    dark: NDArray[np.float32]
    # (n_shapes, n_rows, n_cols): changes of the beam, as a share of the signal of the flat;
    # n_shapes is 0 for a constant beam
    shapes: NDArray[np.float32]
    weights: NDArray[np.float32]  # w, (n_angles, n_shapes)
    warning: str = ""  # that it is not the beam which the recipe asks for

    def divide(self, transmission: Any, frames: tuple[int, int], rows: tuple[int, int]) -> None:
        """Correct transmissions computed with `flat` alone for the changes of the beam, in place.

        They are (n, n_rows, n_cols), NumPy or CuPy, of `frames` and `rows`, the last excluded.
        """
        if not len(self.shapes):
            return
        xp = module_of(transmission)
        used = np.flatnonzero(self.weights[slice(*frames)].any(axis=0))
        shapes, weights = once(xp, _change, self)
        change = xp.ones_like(transmission)
        for k in used.tolist():
            change += weights[slice(*frames), k][:, None, None] * shapes[k, slice(*rows)]
        # below a hundredth of the beam the pixel keeps the transmission by the flat
        transmission /= xp.where(change > 0.01, change, 1)

    def row_changes(
        self, flat: NDArray[np.float32], frames: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Return the mean over columns of the logarithm of the beam over `flat`, (n, n_rows)."""
        with np.errstate(divide="ignore", invalid="ignore"):
            of_flat = np.log((self.flat - self.dark) / (flat - self.dark))
        of_flat[~np.isfinite(of_flat)] = 0
        wide = max(1, self.flat.shape[1] // _COLUMNS)
        shapes = block_average(self.shapes, 1, wide)
        changes = (np.tensordot(self.weights[frame], shapes, 1) for frame in frames.tolist())
        rows = [np.log1p(np.maximum(change, -0.99)).mean(axis=1) for change in changes]
        return np.asarray(of_flat.mean(axis=1) + rows, np.float32)


def _change(beam: Beam) -> tuple[Any, ...]:
    return beam.shapes, beam.weights


def read_beam(scan: Scan, recipe: PreprocessBlock) -> Beam:
    """Read and combine flats by the recipe; ScanError if they are too few, or none has light."""
    _refuse_dark_flats(scan)
    none = np.zeros((0, scan.n_rows, scan.n_cols), np.float32)
    weights = np.zeros((scan.n_angles, 0), np.float32)
    if recipe.flat_method == "mean":
        return Beam(scan.flat, scan.dark, none, weights)
    if recipe.flat_method == "median":
        return Beam(scan.without_stuck(_median(scan)), scan.dark, none, weights)
    if recipe.flat_method == "pca":
        if scan.n_flats < 2:
            raise ScanError(
                f"preprocess.flat_method: pca needs several flats; the scan has {scan.n_flats}. "
                "Set preprocess.flat_method: mean."
            )
        shapes = _principal_shapes(scan, recipe.flat_components)
        return Beam(scan.flat, scan.dark, shapes, _fit_weights(scan, shapes))
    if recipe.flat_method == "register":
        moved = follow_beam(scan, recipe.flat_shift_px, recipe.air_px)
        if not isinstance(moved, str):
            return Beam(moved.flat, scan.dark, moved.shapes, moved.weights)
        warning = f"flats: the mean is used ({moved}; preprocess.flat_method: register)"
        logger.warning("%s", warning)
        return Beam(scan.flat, scan.dark, none, weights, warning)
    positions, means = _sets(scan, recipe.flat_sets)
    flat, shapes = means[0].copy(), means[1:]
    for shape in shapes:  # in place: there may be dozens
        shape[...] = _relative_changes(flat, shape, scan.dark)
    weights = hat_weights(scan.n_angles, positions)[:, 1:]
    return Beam(scan.without_stuck(flat), scan.dark, shapes, weights)


def _refuse_dark_flats(scan: Scan) -> None:
    """Raise a ScanError, before more is read, if hardly a pixel is brighter in flats."""
    if scan.n_flats and np.mean(scan.flat > scan.dark) < _LEAST_BRIGHT:  # half of them, by noise
        flats, darks = scan.stored.flats.location, scan.stored.darks.location
        types = {str(part.pixels.dtype) for part in scan.stored.flats.frames}
        scale = f"; they are {', '.join(types)}, projections {scan.dtype}: of another scale?"
        raise ScanError(
            f"flats ({flats}) are nowhere brighter than darks ({darks}), the medians are "
            f"{np.median(scan.flat):.0f} and {np.median(scan.dark):.0f}: if they are exchanged, "
            "name them by input.paths (data, angles, flats, darks), or preprocess.flats and "
            "preprocess.darks; else set preprocess.flats to another scan"
            f"{scale * (types != {str(scan.dtype)})}"
        )


def hat_weights(n_angles: int, positions: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the weights (n_angles, n_sets) of linear interpolation between sets of flats.

    `positions` (n_sets,), ascending, are the numbers of projections taken before each set; before
    the first set and after the last one only that set counts.
    """
    frames = np.arange(n_angles) + 0.5
    units = np.eye(len(positions))
    return np.stack([np.interp(frames, positions, unit) for unit in units], axis=1).astype("f4")


def during_flats(
    scan: Scan, recipe: PreprocessBlock, values: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return numbers of the flats (n_flats,) combined as the flats of each projection, (n_angles,).

    They are a monitor of the beam, and all flats have their time. The flats of pca and register
    are changes of their mean.
    """
    if recipe.flat_method != "interpolate":
        combine = np.median if recipe.flat_method == "median" else np.mean
        return np.full(scan.n_angles, combine(values))
    positions = scan.flat_positions
    places = np.unique(positions)
    means = [values[positions == place].mean() for place in places]
    return np.interp(np.arange(scan.n_angles) + 0.5, places, means)


def _row_blocks(scan: Scan) -> list[tuple[int, int]]:
    step = max(1, _BLOCK_BYTES // (4 * max(scan.n_flats, 1) * scan.n_cols))
    return [(first, min(first + step, scan.n_rows)) for first in range(0, scan.n_rows, step)]


def _median(scan: Scan) -> NDArray[np.float32]:
    """Return the median of the flats, read some rows at a time; 1 if they are declared absent."""
    flat = np.ones((scan.n_rows, scan.n_cols), np.float32)
    for rows in _row_blocks(scan):
        if scan.n_flats:
            flat[slice(*rows)] = np.median(scan.read_flats(*rows), axis=0)
    return flat


def _sets(scan: Scan, n_sets: int) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Return the position of each set of flats (projections before it), ascending, and its mean."""
    with_time = [flat_set for flat_set in scan.flat_sets if flat_set.position is not None]
    if with_time:
        with_time.sort(key=lambda flat_set: flat_set.position or 0.0)
        positions = np.array([flat_set.position for flat_set in with_time], dtype=float)
        return positions, np.stack([flat_set.mean for flat_set in with_time])
    if scan.n_flats < n_sets:
        raise ScanError(
            f"preprocess.flat_sets: {n_sets} sets of flats were asked for; the scan has "
            f"{scan.n_flats} flats. Set preprocess.flat_method: mean."
        )
    sets = np.array_split(np.arange(scan.n_flats), n_sets)
    means = np.empty((n_sets, scan.n_rows, scan.n_cols), np.float32)
    for rows in _row_blocks(scan):
        frames = scan.read_flats(*rows)
        for mean, members in zip(means, sets, strict=True):
            mean[slice(*rows)] = frames[members].mean(axis=0, dtype=np.float64)
    begin, end = scan.recorded
    return np.linspace(begin, end, n_sets), means


def _relative_changes(
    flat: NDArray[np.float32], others: NDArray, dark: NDArray[np.float32]
) -> NDArray:
    """Return the changes of other flats, as a share of the signal of `flat`; 0 at dead pixels."""
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        changes = (others - flat) / (flat - dark)
    return np.where(np.isfinite(changes) & (flat > dark), changes, 0)


def _principal_shapes(scan: Scan, n_shapes: int) -> NDArray[np.float32]:
    """Return the principal components of the flats that stand out, each of mean square 1."""
    mean, dark, blocks = scan.flat, scan.dark, _row_blocks(scan)

    def changes(rows: tuple[int, int]) -> NDArray[np.float64]:
        row_slice = slice(*rows)
        values = _relative_changes(mean[row_slice], scan.read_flats(*rows), dark[row_slice])
        return np.asarray(values.reshape(len(values), -1), dtype=np.float64)

    products = np.sum([part @ part.T for part in map(changes, blocks)], axis=0)
    strengths, vectors = np.linalg.eigh(products)
    # the mean is subtracted: one strength is 0
    order = np.argsort(strengths)[::-1][: len(products) - 1]
    n_shapes = min(n_shapes, _n_outstanding(strengths[order]))
    chosen = order[:n_shapes]
    scale = np.sqrt(np.maximum(strengths[chosen], 1e-30) / mean.size)
    # vectors.T @ changes has squared norm `strength`: divided by its root it has mean square 1
    mixing = vectors[:, chosen].T / scale[:, None]
    shapes = np.zeros((n_shapes, *mean.shape), np.float32)
    for rows in blocks:
        part = mixing @ changes(rows)
        shapes[:, slice(*rows)] = part.reshape(n_shapes, rows[1] - rows[0], mean.shape[1])
    signal = np.nan_to_num(mean - dark).clip(0)
    for shape in shapes:
        shape[...] = without_noise(shape, signal)
    return shapes


def _n_outstanding(strengths: NDArray[np.float64]) -> int:
    """Count the strengths (descending) that stand out from all weaker ones; a single one does."""
    for n, strength in enumerate(strengths[:-1]):
        if strength <= _STANDS_OUT * strengths[n + 1 :].mean():
            return n
    return max(len(strengths) - 1, 1)


def _fit_weights(scan: Scan, shapes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the weight of each shape in each projection, shape (n_angles, n_shapes)."""
    block = max(1, -(-max(scan.flat.shape) // _MOST_PX))
    # an incomplete block is dropped where there is a complete one
    tall, wide = min(block, scan.n_rows), min(block, scan.n_cols)
    averages = Averages(scan, scan.flat, tall, wide)
    if not len(shapes):
        logger.info("the flats differ by noise alone: their mean is the beam of all projections")
        return np.zeros((scan.n_angles, 0), np.float32)
    small = [np.where(averages.lit, each, 0) for each in block_average(shapes, tall, wide)]
    if (fit := averages.beam_fit(averages.flats(), np.stack(small))) is None:
        raise ScanError(
            "preprocess.flat_method: pca finds no pixels that the beam alone changes: it needs air "
            "at all angles, and 20 or more flats. Set preprocess.flat_method: mean, or interpolate."
        )
    return averages.weights(fit)
