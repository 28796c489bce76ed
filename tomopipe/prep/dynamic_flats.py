"""Flats that follow the beam: principal components of the flats, weighed for each projection.

The components are those of the flats' relative differences from their mean. A projection's weights
are those that leave the least total variation in the logarithm of its transmission [1]_, found by
reweighted least squares on whole frames averaged to at most `MOST_PX` pixels. They are the same
whichever rows are corrected, and cost one reading of the scan.

References
----------
.. [1] Van Nieuwenhove, De Beenhouwer, De Carlo, Mancini, Marone, Sijbers, "Dynamic intensity
       normalization using eigen flat fields in X-ray imaging", Opt. Express 23 (2015) 27975.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tomopipe.errors import ScanError
from tomopipe.io.exchange import Scan

MOST_PX = 192  # columns and rows of the averaged frames
_LEAST_TRANSMISSION = 1e-3
_N_ITERATIONS = 12
_SHARPNESS = 1e-3  # of the logarithm: differences below count squared

RowBlocks = list[tuple[int, int]]


def principal_shapes(
    read_flats: Callable[[int, int], NDArray],
    blocks: RowBlocks,
    mean: NDArray[np.float32],
    dark: NDArray[np.float32],
    n_shapes: int,
) -> NDArray[np.float32]:
    """Return the strongest ways in which flats differ from their mean, as a share of its signal.

    Parameters
    ----------
    read_flats : callable
        read_flats(first, last) gives some rows of all flats, (n_flats, last - first, n_cols).
    blocks : list of (int, int)
        Rows to read at a time.
    mean, dark : ndarray of float32, shape (n_rows, n_cols)
        Of flats and darks.
    n_shapes : int
        How many, at most one less than there are flats.

    Returns
    -------
    ndarray of float32, shape (n_shapes, n_rows, n_cols)
        Of mean square 1 where the detector is sound; 0 at dead pixels.
    """

    def changes(rows: tuple[int, int]) -> NDArray[np.float64]:
        some = slice(*rows)
        with np.errstate(invalid="ignore", divide="ignore"):
            values = (read_flats(*rows) - mean[some]) / (mean[some] - dark[some])
        values = np.where(np.isfinite(values) & (mean[some] > dark[some]), values, 0)
        return np.asarray(values.reshape(len(values), -1), dtype=np.float64)

    products = np.sum([part @ part.T for part in map(changes, blocks)], axis=0)
    n_shapes = min(n_shapes, len(products) - 1)
    strengths, vectors = np.linalg.eigh(products)
    chosen = np.argsort(strengths)[::-1][:n_shapes]
    scale = np.sqrt(np.maximum(strengths[chosen], 1e-30) / mean.size)
    # vectors.T @ changes has squared norm `strength`: divided by its root it has mean square 1
    mixing = vectors[:, chosen].T / scale[:, None]
    shapes = np.zeros((n_shapes, *mean.shape), np.float32)
    for rows in blocks:
        part = mixing @ changes(rows)
        shapes[:, slice(*rows)] = part.reshape(n_shapes, -1, mean.shape[1])
    return shapes


def fit_weights(
    scan: Scan,
    mean: NDArray[np.float32],
    dark: NDArray[np.float32],
    shapes: NDArray[np.float32],
    batch_frames: int = 8,
) -> NDArray[np.float32]:
    """Return the weight of each shape in each projection, shape (n_angles, n_shapes)."""
    block = max(1, -(-max(mean.shape) // MOST_PX))
    signal = _average(np.nan_to_num(mean - dark)[None], block)[0]
    if not (signal > 0).any():
        raise ScanError("preprocess.flat_method: pca: the flats are not above the darks")
    lit = signal > 0.05 * np.median(signal[signal > 0])
    small = np.stack([np.where(lit, shape, 0) for shape in _average(shapes, block)])
    weights = np.zeros((scan.n_angles, len(shapes)), np.float32)
    for first in range(0, scan.n_angles, batch_frames):
        frames = range(first, min(first + batch_frames, scan.n_angles))
        raw = np.nan_to_num(scan.read_frames(frames).astype(np.float32) - dark)
        for frame, image in zip(frames, _average(raw, block), strict=True):
            with np.errstate(divide="ignore", invalid="ignore"):
                transmission = np.where(lit, image / signal, 1)
            weights[frame] = least_variation(transmission, small, lit)
    return weights


def least_variation(
    transmission: NDArray[np.float32], shapes: NDArray[np.float32], lit: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return the weights w that leave log(transmission / (1 + sum w shapes)) least variation.

    Parameters
    ----------
    transmission : ndarray, shape (n_rows, n_cols)
        Of one projection, by the mean flat.
    shapes : ndarray, shape (n_shapes, n_rows, n_cols)
    lit : ndarray of bool, shape (n_rows, n_cols)
        Pixels that count.
    """
    log = np.log(np.maximum(transmission, _LEAST_TRANSMISSION)).astype(float)
    weights = np.zeros(len(shapes))
    for _ in range(_N_ITERATIONS):
        beam = 1 + np.tensordot(weights, shapes, axes=1)
        slopes = np.stack([_differences(shape / beam, lit) for shape in shapes], axis=1)
        rough = _differences(log - np.log(np.maximum(beam, _LEAST_TRANSMISSION)), lit)
        trust = 1 / np.hypot(rough, _SHARPNESS)
        normal = slopes.T @ (slopes * trust[:, None])
        normal[np.diag_indices_from(normal)] += 1e-9 * max(np.trace(normal), 1e-30)
        step = np.linalg.solve(normal, slopes.T @ (rough * trust))
        weights += step
        if np.abs(step).max() < 1e-6:
            break
    return weights


def _differences(image: NDArray, lit: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the differences of neighbours, down and across, 0 where one does not count."""
    down = np.where(lit[1:] & lit[:-1], np.diff(image, axis=0), 0)
    across = np.where(lit[:, 1:] & lit[:, :-1], np.diff(image, axis=1), 0)
    return np.concatenate([down.ravel(), across.ravel()]).astype(float)


def _average(images: NDArray, block: int) -> NDArray:
    """Average blocks of pixels; an incomplete one is dropped where there is a complete one."""
    n, n_rows, n_cols = images.shape
    high, wide = min(block, n_rows), min(block, n_cols)
    cut = images[:, : n_rows // high * high, : n_cols // wide * wide]
    return cut.reshape(n, n_rows // high, high, n_cols // wide, wide).mean(axis=(2, 4))
