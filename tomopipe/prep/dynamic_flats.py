"""Dynamic flats: principal components of the flats, weighted for each projection.

The components are those of the flats' relative differences from their mean that stand out of the
others. A projection's weights must follow the beam and never the sample, whose smooth parts look
like a smooth beam's changes: they are fitted by least squares where no sample is at any angle
(`look_for_air`), as in [2]_; a scan without such a place is refused. All this is done on whole
frames averaged to at most `MOST_PX` pixels; weights are the same whichever rows are corrected, and
cost one reading of the scan.

References
----------
.. [1] Van Nieuwenhove, De Beenhouwer, De Carlo, Mancini, Marone, Sijbers, "Dynamic intensity
       normalization using eigen flat fields in X-ray imaging", Opt. Express 23 (2015) 27975.
.. [2] Jailin, Buffiere, Hild, Poncelet, Roux, "On the use of flat-fields for tomographic
       reconstruction", J. Synchrotron Rad. 24 (2017) 220.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tomopipe.errors import ScanError
from tomopipe.scans.scan import Scan

MOST_PX = 192  # columns and rows of the averaged frames
_WAVELET, _NOISE, _LEAST_SIDE = "sym4", 3.0, 16  # of shapes; in standard deviations; pixels
_STANDS_OUT = 2.0  # strength of a component over the mean of those weaker than it
_BATCH_FRAMES = 8  # projections read at a time
_FLATS_BYTES = 2**26  # of flats read at a time

_N_LOOKED_AT = 48  # projections in which air is looked for
_N_PIXELS = 4096  # that are looked at first
_STEADY = 3e-3  # of the transmission: what changes less than this is steady beside photon noise
_LEAST_AIR = 0.01  # of the pixels
_MOST_CHI2 = 2.0  # of air, over what is expected
_MOST_SPREADS = 8.0  # of a weight, over the spread of those of flats: more is a sample
_OUTLIER = 4.7  # errors, beyond which a pixel of one frame does not count

RowBlocks = list[tuple[int, int]]

logger = logging.getLogger(__name__)


def principal_shapes(
    read_flats: Callable[[int, int], NDArray],
    blocks: RowBlocks,
    mean: NDArray[np.float32],
    dark: NDArray[np.float32],
    n_shapes: int,
) -> NDArray[np.float32]:
    """Return the strongest principal components of the flats, as a share of the mean's signal.

    read_flats(first, last) gives some rows of all flats, (n_flats, last - first, n_cols); `blocks`
    are the rows to read at a time. `mean` and `dark` are those of flats and darks. There are at
    most `n_shapes`, and one less than there are flats; the noise of flats is none. Components
    (n_found, n_rows, n_cols) have mean square 1 where the detector is valid; 0 at dead pixels.
    """

    def changes(rows: tuple[int, int]) -> NDArray[np.float64]:
        row_slice = slice(*rows)
        values = relative_changes(mean[row_slice], read_flats(*rows), dark[row_slice])
        return np.asarray(values.reshape(len(values), -1), dtype=np.float64)

    products = np.sum([part @ part.T for part in map(changes, blocks)], axis=0)
    strengths, vectors = np.linalg.eigh(products)
    order = np.argsort(strengths)[::-1][: len(products) - 1]  # their mean is taken off: one is 0
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


def relative_changes(
    flat: NDArray[np.float32], others: NDArray, dark: NDArray[np.float32]
) -> NDArray:
    """Return how other flats differ, as a share of the signal of `flat`; 0 at dead pixels."""
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        changes = (others - flat) / (flat - dark)
    return np.where(np.isfinite(changes) & (flat > dark), changes, 0)


def _without_noise(shape: NDArray[np.float32], signal: NDArray[np.float32]) -> NDArray[np.float32]:
    """Take out of a shape the wavelets that are no larger than photon noise, as [1]_ does."""
    import pywt  # slow to load; the memory of jobs is worked out without it

    axes = [axis for axis in (0, 1) if shape.shape[axis] >= _LEAST_SIDE]
    if not axes or not signal.any():
        return shape
    scale = np.sqrt(signal)  # with it noise is the same everywhere
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
    """Count the strengths, descending, that stand out of all weaker ones; a single one does."""
    for n, strength in enumerate(strengths[:-1]):
        if strength <= _STANDS_OUT * strengths[n + 1 :].mean():
            return n
    return max(len(strengths) - 1, 1)


def fit_weights(
    scan: Scan,
    mean: NDArray[np.float32],
    dark: NDArray[np.float32],
    shapes: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Return the weight of each shape in each projection, shape (n_angles, n_shapes)."""
    block = max(1, -(-max(mean.shape) // MOST_PX))
    signal = _average(np.nan_to_num(mean - dark)[None], block)[0]
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
        averaged = _average(np.nan_to_num(raw.astype(np.float32) - dark[rows]), block)
        first = (rows.start or 0) // block
        band = slice(first, first + averaged.shape[1])
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(lit[band], averaged / signal[band], 1).astype(np.float32)

    def frames(numbers: list[int]) -> NDArray[np.float32]:
        steps = range(0, len(numbers), _BATCH_FRAMES)
        batches = (scan.read_frames(numbers[i : i + _BATCH_FRAMES]) for i in steps)
        return np.concatenate([transmission(raw) for raw in batches])

    tall = min(block, scan.n_rows)
    n_high = tall * max(1, _FLATS_BYTES // (4 * scan.n_flats * scan.n_cols * tall))
    used = scan.n_rows // tall * tall
    rows = [slice(first, min(first + n_high, used)) for first in range(0, used, n_high)]
    flats = [transmission(scan.read_flats(band.start, band.stop), band) for band in rows]
    spread_out = np.linspace(0, scan.n_angles - 1, min(_N_LOOKED_AT, scan.n_angles))
    looked_at = frames([int(frame) for frame in spread_out])
    small = np.stack([np.where(lit, shape, 0) for shape in _average(shapes, block)])
    fit = look_for_air(looked_at, np.concatenate(flats, axis=1), small, lit, signal)
    for first in range(0, scan.n_angles, _BATCH_FRAMES):
        batch = list(range(first, min(first + _BATCH_FRAMES, scan.n_angles)))
        weights[batch] = fit.weights(frames(batch))
    return weights


@dataclass(frozen=True, eq=False)
class BeamFit:
    """What weights of a scan's frames are fitted with; see `look_for_air`."""

    shapes: NDArray[np.float32]  # (n_shapes, n_rows, n_cols)
    air: NDArray[np.bool_]  # (n_rows, n_cols): those that no sample covers in any frame
    noise: NDArray[np.float32]  # (n_rows, n_cols): expected error of a transmission of 1
    spread: NDArray[np.float64]  # (n_shapes,): of the flats' own weights

    def weights(self, transmissions: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the weights of frames (n, n_rows, n_cols), shape (n, n_shapes)."""
        shapes, values = self.shapes[:, self.air], transmissions[:, self.air]
        precise = 1 / self.noise[self.air] ** 2
        result = np.empty((len(values), len(shapes)))
        for weights, value in zip(result, values, strict=True):
            trust = precise
            for _ in range(5):  # zingers, and thin parts that are there at few angles
                weights[:] = _fit(value[None], shapes, trust, self.spread)[0]
                square = (value - 1 - weights @ shapes) ** 2 * precise / _OUTLIER**2
                trust = precise * np.maximum(1 - square, 0) ** 2
        return result


def look_for_air(
    transmissions: NDArray[np.float32],
    flats: NDArray[np.float32],
    shapes: NDArray[np.float32],
    lit: NDArray[np.bool_],
    signal: NDArray[np.float32],
) -> BeamFit:
    """Find the pixels whose transmission only the beam changes, in all of some frames.

    There 1 + sum w shapes is the transmission, to photon noise. Weights fitted to the edges of the
    frames and to their most transparent part tell which pixels follow; these are fitted again,
    until they stay the same. The largest such set counts.

    `transmissions` are those of projections spread over the scan, by the mean flat; `flats` are the
    flats by their mean; `shapes` are from `principal_shapes`, averaged to the same pixels, 0 where
    not `lit`; all are (n, n_rows, n_cols). `lit` are the pixels that count; `signal`, of the mean
    flat, is that with whose root photon noise goes.
    """
    flat_values, basis = flats[:, lit], shapes[:, lit].astype(np.float64)
    flat_weights = _fit(flat_values, basis, np.ones(basis.shape[1]))
    spread = np.sqrt(np.mean(flat_weights**2, axis=0)) + 1e-6
    n_free = len(flats) - 1 - len(shapes)
    if n_free > 0:
        variance = np.sum((flat_values - 1 - flat_weights @ basis) ** 2, axis=0) / n_free
    else:  # nothing is left: neighbours differ by noise, or by more
        steps = np.diff(np.where(lit, flats - 1, 0), axis=2, append=0)[:, lit]
        variance = np.mean(steps**2, axis=0) / 2 * len(flats) / max(len(flats) - 1, 1)
    photons = np.median(variance * signal[lit])
    noise = np.sqrt(photons / np.maximum(signal, signal[lit].min()) + _STEADY**2)
    values, expected = transmissions[:, lit].astype(np.float64), noise[lit] ** 2
    sampled = np.sort(np.random.default_rng(0).permutation(len(expected))[:_N_PIXELS])
    best = np.zeros(len(expected), bool)
    for start in _starts(transmissions.mean(axis=0), lit):
        sample = values[:, sampled], basis[:, sampled], expected[sampled], start[sampled]
        converged = _converge(*sample, spread)
        if converged is None:
            continue
        weights, kept = converged
        if (np.mean(weights[kept] ** 2, axis=0) > (_MOST_SPREADS * spread) ** 2).any():
            continue
        left = _left(values[kept], basis, expected, weights[kept])
        result = left.mean(axis=0) < _MOST_CHI2
        best = max(best, result, key=np.count_nonzero)
    if best.mean() < _LEAST_AIR:
        raise ScanError(
            "preprocess.flat_method: pca finds no pixels that the beam alone changes: it needs air "
            "at all angles, and 20 or more flats. Set preprocess.flat_method: mean, or interpolate."
        )
    air = np.zeros(lit.shape, bool)
    air[lit] = best
    return BeamFit(shapes, air, noise.astype(np.float32), spread)


def _converge(
    values: NDArray[np.float64],
    shapes: NDArray[np.float64],
    expected: NDArray[np.float64],
    chosen: NDArray[np.bool_],
    spread: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.intp]] | None:
    """Return weights fitted to the pixels that follow them; None if there are none in the end.

    It begins with the pixels chosen, of which the better half counts at first. The weights are
    (n_frames, n_shapes); frames that count are all but the worst tenth, as a beam may fail.
    """
    for n in range(20):
        if not chosen.any():
            return None
        weights = _fit(values, shapes, chosen / expected, spread)
        left = _left(values, shapes, expected, weights)
        order = np.argsort(np.median(left[:, chosen], axis=1), kind="stable")
        remaining = np.sort(order[: len(order) - len(order) // 10])
        chi2 = left[remaining].mean(axis=0)
        limit = max(_MOST_CHI2, np.median(chi2[chosen])) if n < 5 else _MOST_CHI2
        before, chosen = chosen, chi2 < limit
        if n >= 5 and np.array_equal(before, chosen):
            break
    return weights, remaining


def _left(values: NDArray, shapes: NDArray, expected: NDArray, weights: NDArray) -> NDArray:
    """Return the square of what weights leave, over what is expected, (n_frames, n_pixels)."""
    return np.asarray((values - 1 - weights @ shapes) ** 2 / expected)


def _starts(mean: NDArray[np.float32], lit: NDArray[np.bool_]) -> list[NDArray[np.bool_]]:
    """Return where air may be: both sides, one, above, below, where most light comes through."""
    (y, x), (n_rows, n_cols) = np.indices(lit.shape), lit.shape
    aside, high = np.minimum(x, n_cols - 1 - x), n_rows / 8
    left, right = (x < n_cols / 8), (x >= n_cols * 7 / 8)
    clear = mean >= np.quantile(mean[lit], 0.9)
    both = [aside < max(n_cols / part, 1) for part in (8, 16, 32)]
    return [start[lit] for start in (*both, left, right, y < high, y >= n_rows - high, clear)]


def _fit(
    values: NDArray,
    shapes: NDArray,
    trust: NDArray,
    spread: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Return the weights w that leave least of values - 1 - w shapes, squared and weighed.

    Values are (n, n_pixels), shapes (n_shapes, n_pixels); `trust` (n_pixels,) is one over the
    variance of each pixel, `spread` (n_shapes,) that of the weights: what the pixels leave open
    stays near 0.
    """
    weighed = shapes * trust
    normal = weighed @ shapes.T
    if spread is not None:
        normal[np.diag_indices_from(normal)] += 1 / spread**2
    return np.asarray(np.linalg.solve(_regular(normal), weighed @ (values - 1).T).T)


def _regular(normal: NDArray) -> NDArray:
    """Add to the diagonal of a normal matrix, in place, what lets it be inverted."""
    normal[np.diag_indices_from(normal)] += 1e-9 * max(np.trace(normal), 1e-30)
    return normal


def _average(images: NDArray, block: int) -> NDArray:
    """Average blocks of pixels; an incomplete one is dropped where there is a complete one."""
    n, n_rows, n_cols = images.shape
    high, wide = min(block, n_rows), min(block, n_cols)
    cut = images[:, : n_rows // high * high, : n_cols // wide * wide]
    return cut.reshape(n, n_rows // high, high, n_cols // wide, wide).mean(axis=(2, 4))
