"""The beam without a sample, at each projection of a scan.

Dynamic flats (`pca`) are principal components of the flats' relative differences from their mean,
those that stand out from the others [1]_, weighted for each projection. The weights must follow the
beam and never the sample, whose smooth parts look like changes of the beam: they are fitted by
least squares to pixels without sample at any angle (`_find_air`), as in [2]_; a scan without such
pixels is refused. The fit uses whole frames averaged to at most `_MOST_PX` pixels, so that the
weights do not depend on the rows that are corrected; it reads the scan a second time.

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
from tomopipe.scans.scan import Scan

_BLOCK_BYTES = 64 * 2**20
_MOST_PX = 192  # largest number of columns and of rows of the averaged frames
# denoising of shapes: wavelet, standard deviations, least side in pixels
_WAVELET, _NOISE, _LEAST_SIDE = "sym4", 3.0, 16
_STANDS_OUT = 2.0  # least strength of a component over the mean of the weaker ones
_BATCH_FRAMES = 8  # projections read at a time
_FLATS_BYTES = 2**26  # flats read at a time

_N_LOOKED_AT = 48  # projections examined to find air
_N_PIXELS = 4096  # pixels of the first search
_STEADY = 3e-3  # change of the transmission that counts as none besides photon noise
_LEAST_AIR = 0.01  # share of the pixels
_MOST_CHI2 = 2.0  # largest reduced chi square of air
_MOST_SPREADS = 8.0  # largest weight over the spread of the flats' weights: beyond it is a sample
_OUTLIER = 4.7  # standard errors beyond which a pixel of one frame does not count

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


def _change(beam: Beam) -> tuple[Any, ...]:
    return beam.shapes, beam.weights


def read_beam(scan: Scan, recipe: PreprocessBlock) -> Beam:
    """Read and combine flats by the recipe; ScanError if there are too few."""
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
    positions, means = _sets(scan, recipe.flat_sets)
    shapes = _relative_changes(means[0], means[1:], scan.dark)
    weights = hat_weights(scan.n_angles, positions)[:, 1:]
    return Beam(scan.without_stuck(means[0]), scan.dark, shapes, weights)


def hat_weights(n_angles: int, positions: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the weights (n_angles, n_sets) of linear interpolation between sets of flats.

    `positions` (n_sets,), ascending, are the numbers of projections taken before each set; before
    the first set and after the last one only that set counts.
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
    return np.linspace(0, scan.n_angles, n_sets), means


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
        shape[...] = _without_noise(shape, signal)
    return shapes


def _without_noise(shape: NDArray[np.float32], signal: NDArray[np.float32]) -> NDArray[np.float32]:
    """Remove wavelets from a shape that are no larger than photon noise, as in [1]_."""
    import pywt  # slow to load, and not needed to estimate memory

    axes = [axis for axis in (0, 1) if shape.shape[axis] >= _LEAST_SIDE]
    if not axes or not signal.any():
        return shape
    scale = np.sqrt(signal)  # makes the noise uniform
    levels = min(pywt.dwtn_max_level([shape.shape[axis] for axis in axes], _WAVELET), 5)
    parts = pywt.wavedecn(shape * scale, _WAVELET, level=levels, axes=axes)
    finest = parts[-1]["d" * len(axes)]
    least = _NOISE * np.median(np.abs(finest)) / 0.6745
    for level in parts[1:]:
        for detail in level.values():
            detail[np.abs(detail) < least] = 0
    size = tuple(map(slice, shape.shape))  # an odd one comes back one longer
    smooth = pywt.waverecn(parts, _WAVELET, axes=axes)[size]
    return np.divide(smooth, scale, out=np.zeros_like(shape), where=scale > 0)


def _n_outstanding(strengths: NDArray[np.float64]) -> int:
    """Count the strengths (descending) that stand out from all weaker ones; a single one does."""
    for n, strength in enumerate(strengths[:-1]):
        if strength <= _STANDS_OUT * strengths[n + 1 :].mean():
            return n
    return max(len(strengths) - 1, 1)


def _fit_weights(scan: Scan, shapes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the weight of each shape in each projection, shape (n_angles, n_shapes)."""
    mean, dark = scan.flat, scan.dark
    block = max(1, -(-max(mean.shape) // _MOST_PX))
    # an incomplete block is dropped where there is a complete one
    tall, wide = min(block, scan.n_rows), min(block, scan.n_cols)
    signal = block_average(np.nan_to_num(mean - dark)[None], tall, wide)[0]
    if not (signal > 0).any():
        raise ScanError(
            "preprocess.flat_method: pca: the flats are not above the darks: are they exchanged "
            "(preprocess.flats, preprocess.darks)?"
        )
    weights = np.zeros((scan.n_angles, len(shapes)), np.float32)
    if not len(shapes):
        logger.info("the flats differ by noise alone: their mean is the beam of all projections")
        return weights
    lit = signal > 0.05 * np.median(signal[signal > 0])

    def transmission(raw: NDArray, rows: slice = slice(None)) -> NDArray[np.float32]:
        averaged = block_average(np.nan_to_num(raw.astype(np.float32) - dark[rows]), tall, wide)
        first = (rows.start or 0) // block
        band = slice(first, first + averaged.shape[1])
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(lit[band], averaged / signal[band], 1).astype(np.float32)

    def frames(numbers: list[int]) -> NDArray[np.float32]:
        steps = range(0, len(numbers), _BATCH_FRAMES)
        batches = (scan.read_frames(numbers[i : i + _BATCH_FRAMES]) for i in steps)
        return np.concatenate([transmission(raw) for raw in batches])

    n_high = tall * max(1, _FLATS_BYTES // (4 * scan.n_flats * scan.n_cols * tall))
    used = scan.n_rows // tall * tall
    rows = [slice(first, min(first + n_high, used)) for first in range(0, used, n_high)]
    flats = [transmission(scan.read_flats(band.start, band.stop), band) for band in rows]
    spread_out = np.linspace(0, scan.n_angles - 1, min(_N_LOOKED_AT, scan.n_angles))
    looked_at = frames([int(frame) for frame in spread_out])
    small = np.stack([np.where(lit, shape, 0) for shape in block_average(shapes, tall, wide)])
    fit = _find_air(looked_at, np.concatenate(flats, axis=1), small, lit, signal)
    for first in range(0, scan.n_angles, _BATCH_FRAMES):
        batch = list(range(first, min(first + _BATCH_FRAMES, scan.n_angles)))
        weights[batch] = fit.weights(frames(batch))
    return weights


@dataclass(frozen=True, eq=False)
class _BeamFit:
    """Input to the fit of weights to frames of a scan (`_find_air`)."""

    shapes: NDArray[np.float32]  # (n_shapes, n_rows, n_cols)
    air: NDArray[np.bool_]  # (n_rows, n_cols): pixels that no sample covers in any frame
    noise: NDArray[np.float32]  # (n_rows, n_cols): expected error of a transmission of 1
    spread: NDArray[np.float64]  # (n_shapes,): spread of the flats' own weights

    def weights(self, transmissions: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the weights of frames (n, n_rows, n_cols), shape (n, n_shapes)."""
        shapes, values = self.shapes[:, self.air], transmissions[:, self.air]
        precise = 1 / self.noise[self.air] ** 2
        result = np.empty((len(values), len(shapes)))
        for weights, value in zip(result, values, strict=True):
            trust = precise
            for _ in range(5):  # excludes zingers, and thin parts visible at few angles
                weights[:] = _fit(value[None], shapes, trust, self.spread)[0]
                square = (value - 1 - weights @ shapes) ** 2 * precise / _OUTLIER**2
                trust = precise * np.maximum(1 - square, 0) ** 2
        return result


def _find_air(
    transmissions: NDArray[np.float32],
    flats: NDArray[np.float32],
    shapes: NDArray[np.float32],
    lit: NDArray[np.bool_],
    signal: NDArray[np.float32],
) -> _BeamFit:
    """Find the pixels whose transmission only the beam changes, in all of some frames.

    In these pixels 1 + sum w shapes is the transmission, except for photon noise. Weights are
    fitted to the edges of the frames, and to their most transparent part; pixels that follow them
    are fitted again until their set does not change. The largest set is returned. `signal` is that
    of the mean flat.
    """
    flat_values, basis = flats[:, lit], shapes[:, lit].astype(np.float64)
    flat_weights = _fit(flat_values, basis, np.ones(basis.shape[1]))
    spread = np.sqrt(np.mean(flat_weights**2, axis=0)) + 1e-6
    n_free = len(flats) - 1 - len(shapes)
    if n_free > 0:
        variance = np.sum((flat_values - 1 - flat_weights @ basis) ** 2, axis=0) / n_free
    else:  # no weights fit: neighbours differ by noise, or by more
        steps = np.diff(np.where(lit, flats - 1, 0), axis=2, append=0)[:, lit]
        variance = np.mean(steps**2, axis=0) / 2 * len(flats) / max(len(flats) - 1, 1)
    photons = np.median(variance * signal[lit])
    noise = np.sqrt(photons / np.maximum(signal, signal[lit].min()) + _STEADY**2)
    values, expected = transmissions[:, lit].astype(np.float64), noise[lit] ** 2
    sampled = np.sort(np.random.default_rng(0).permutation(len(expected))[:_N_PIXELS])
    best = np.zeros(len(expected), bool)
    for start in _starts(transmissions.mean(axis=0), lit):
        sample = values[:, sampled], basis[:, sampled], expected[sampled], start[sampled]
        if (converged := _converge(*sample, spread)) is None:
            continue
        weights, good = converged
        if (np.mean(weights[good] ** 2, axis=0) > (_MOST_SPREADS * spread) ** 2).any():
            continue
        left = _residuals(values[good], basis, expected, weights[good])
        result = left.mean(axis=0) < _MOST_CHI2
        best = max(best, result, key=np.count_nonzero)
    if best.mean() < _LEAST_AIR:
        raise ScanError(
            "preprocess.flat_method: pca finds no pixels that the beam alone changes: it needs air "
            "at all angles, and 20 or more flats. Set preprocess.flat_method: mean, or interpolate."
        )
    air = np.zeros(lit.shape, bool)
    air[lit] = best
    return _BeamFit(shapes, air, noise.astype(np.float32), spread)


def _converge(
    values: NDArray[np.float64],
    shapes: NDArray[np.float64],
    expected: NDArray[np.float64],
    chosen: NDArray[np.bool_],
    spread: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.intp]] | None:
    """Fit weights to the pixels that follow them; also return these frames. None without any."""
    for n in range(20):
        if not chosen.any():
            return None
        weights = _fit(values, shapes, chosen / expected, spread)
        left = _residuals(values, shapes, expected, weights)
        order = np.argsort(np.median(left[:, chosen], axis=1), kind="stable")
        # without the worst tenth, as a beam may fail; at first the better half of the pixels
        remaining = np.sort(order[: len(order) - len(order) // 10])
        chi2 = left[remaining].mean(axis=0)
        limit = max(_MOST_CHI2, np.median(chi2[chosen])) if n < 5 else _MOST_CHI2
        before, chosen = chosen, chi2 < limit
        if n >= 5 and np.array_equal(before, chosen):
            break
    return weights, remaining


def _residuals(values: NDArray, shapes: NDArray, expected: NDArray, weights: NDArray) -> NDArray:
    """Return squared residuals over the expected ones, (n_frames, n_pixels)."""
    return np.asarray((values - 1 - weights @ shapes) ** 2 / expected)


def _starts(mean: NDArray[np.float32], lit: NDArray[np.bool_]) -> list[NDArray[np.bool_]]:
    """Return candidate regions of air: both sides, one side, above, below, the most transparent."""
    (y, x), (n_rows, n_cols) = np.indices(lit.shape), lit.shape
    aside, high = np.minimum(x, n_cols - 1 - x), n_rows / 8
    left, right = (x < n_cols / 8), (x >= n_cols * 7 / 8)
    clear = mean >= np.quantile(mean[lit], 0.9)
    both = [aside < max(n_cols / part, 1) for part in (8, 16, 32)]
    return [start[lit] for start in (*both, left, right, y < high, y >= n_rows - high, clear)]


def _fit(
    values: NDArray, shapes: NDArray, trust: NDArray, spread: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Return the weights w that minimise (values - 1 - w shapes)^2, weighted by `trust`."""
    weighed = shapes * trust
    normal = weighed @ shapes.T
    if spread is not None:  # weights that the pixels do not determine stay near 0
        normal[np.diag_indices_from(normal)] += 1 / spread**2
    # keeps it invertible
    normal[np.diag_indices_from(normal)] += 1e-9 * max(np.trace(normal), 1e-30)
    return np.asarray(np.linalg.solve(normal, weighed @ (values - 1).T).T)
