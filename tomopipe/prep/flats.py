"""The beam without a sample, at each projection of a scan."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomopipe.arrays import module_of
from tomopipe.config import PreprocessBlock
from tomopipe.errors import ScanError
from tomopipe.prep.dynamic_flats import fit_weights, principal_shapes, relative_changes
from tomopipe.scans.scan import Scan

_BLOCK_BYTES = 64 * 2**20


@dataclass(frozen=True, eq=False)
class Beam:
    """The beam of projection f: dark + (flat - dark) (1 + sum over k of w[f, k] shapes[k])."""

    # (n_rows, n_cols)
    flat: NDArray[np.float32]
    dark: NDArray[np.float32]
    # (n_shapes, n_rows, n_cols): how the beam changes, as a share of the signal of the flat; there
    # are none if it does not
    shapes: NDArray[np.float32]
    weights: NDArray[np.float32]  # w, (n_angles, n_shapes)

    def divide(self, transmission: Any, frames: tuple[int, int], rows: tuple[int, int]) -> None:
        """Divide transmissions got with `flat` alone by how the beam differed, in place.

        They are (n, n_rows, n_cols), of NumPy or CuPy, of some frames and rows, the last excluded.
        """
        if not len(self.shapes):
            return
        xp = module_of(transmission)
        weights = self.weights[slice(*frames)]
        used = np.flatnonzero(weights.any(axis=0))
        change = xp.ones_like(transmission)
        for k in used.tolist():
            shape = xp.asarray(self.shapes[k, slice(*rows)])
            change += xp.asarray(weights[:, k])[:, None, None] * shape
        # less than a hundredth of the beam is no beam: the pixel keeps what the flat says
        transmission /= xp.where(change > 0.01, change, 1)


def read_beam(scan: Scan, recipe: PreprocessBlock) -> Beam:
    """Read and combine flats as the recipe says; ScanError if there are fewer than sets of them."""
    none = np.zeros((0, scan.n_rows, scan.n_cols), np.float32)
    weights = np.zeros((scan.n_angles, 0), np.float32)
    if recipe.flat_method == "mean":
        return Beam(scan.flat, scan.dark, none, weights)
    if recipe.flat_method == "median":
        return Beam(scan.without_stuck(_median(scan)), scan.dark, none, weights)
    if recipe.flat_method == "pca":
        return _dynamic(scan, recipe.flat_components)
    positions, means = _sets(scan, recipe.flat_sets)
    shapes = relative_changes(means[0], means[1:], scan.dark)
    return Beam(
        scan.without_stuck(means[0]),
        scan.dark,
        shapes,
        hat_weights(scan.n_angles, positions)[:, 1:],
    )


def _dynamic(scan: Scan, n_shapes: int) -> Beam:
    """Return the beam that follows each projection, by principal components of the flats."""
    if scan.n_flats < 2:
        raise ScanError(
            f"preprocess.flat_method: pca needs several flats; the scan has {scan.n_flats}. Set "
            "preprocess.flat_method: mean."
        )
    flat, dark = scan.flat, scan.dark
    shapes = principal_shapes(scan.read_flats, _row_blocks(scan), flat, dark, n_shapes)
    return Beam(flat, dark, shapes, fit_weights(scan, flat, dark, shapes))


def hat_weights(n_angles: int, positions: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the weights (n_angles, n_sets) of linear interpolation between sets of flats.

    `positions` (n_sets,), ascending, tell how many projections were taken before each set; before
    the first set and after the last one, that set counts alone.
    """
    frames = np.arange(n_angles) + 0.5
    units = np.eye(len(positions))
    return np.stack([np.interp(frames, positions, unit) for unit in units], axis=1).astype("f4")


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
    """Return when each set of flats was taken, ascending, and its mean."""
    known = [flat_set for flat_set in scan.flat_sets if flat_set.position is not None]
    if known:
        known.sort(key=lambda flat_set: flat_set.position or 0.0)
        positions = np.array([flat_set.position for flat_set in known], dtype=float)
        return positions, np.stack([flat_set.mean for flat_set in known])
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
    return np.linspace(0, scan.n_angles, n_sets), means
