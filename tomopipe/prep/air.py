"""Pixels without sample at any angle, and the weights of changes of the beam that they show.

[1]_ fits the beam of a projection to what lies beside the sample. Here the frames are averages over
blocks, and all pixels are air that follow the beam in all of some frames.

References
----------
.. [1] Jailin, Buffiere, Hild, Poncelet, Roux, "On the use of flat-fields for tomographic
       reconstruction", J. Synchrotron Rad. 24 (2017) 220.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tomopipe.prep import block_average
from tomopipe.scans.scan import Scan

_BATCH_FRAMES = 8  # projections read at a time
_FLATS_BYTES = 2**26  # flats read at a time
_N_LOOKED_AT = 48  # projections examined to find air
_N_PIXELS = 4096  # pixels of the first search
_STEADY = 3e-3  # change of the transmission that counts as none besides photon noise
_LEAST_AIR = 0.01  # share of the pixels
_MOST_CHI2 = 2.0  # largest reduced chi square of air
_MOST_SPREADS = 8.0  # largest weight over the spread of the flats' weights: beyond it is a sample
_OUTLIER = 4.7  # standard errors beyond which a pixel of one frame does not count


@dataclass(frozen=True, eq=False)
class Averages:
    """The transmissions of a scan by a flat, averaged over blocks of `tall` by `wide` pixels."""

    scan: Scan
    flat: NDArray[np.float32]  # (n_rows, n_cols)
    tall: int
    wide: int
    margin: int = 0  # first and last blocks of rows that are not used

    @cached_property
    def signal(self) -> NDArray[np.float32]:
        """The averages of the flat, less the dark; an incomplete block is dropped."""
        signal = np.nan_to_num(self.flat - self.scan.dark)
        averages: NDArray[np.float32] = block_average(signal[None], self.tall, self.wide)[0]
        return averages

    @cached_property
    def lit(self) -> NDArray[np.bool_]:
        """Which of them have light."""
        is_above = self.signal > 0
        least = 0.05 * np.median(self.signal[is_above]) if is_above.any() else 0
        lit = self.signal > least
        lit[: self.margin] = lit[len(lit) - self.margin :] = False
        return np.asarray(lit)

    @cached_property
    def looked_at(self) -> NDArray[np.float32]:
        """Some frames from all over the scan."""
        n_angles = self.scan.n_angles
        spread_out = np.linspace(0, n_angles - 1, min(_N_LOOKED_AT, n_angles))
        return self.frames([int(frame) for frame in spread_out])

    def bands(self) -> list[tuple[int, int]]:
        """Return rows of flats to read at a time, each last one excluded."""
        n_bytes = 4 * max(self.scan.n_flats, 1) * self.scan.n_cols * self.tall
        n_high = self.tall * max(1, _FLATS_BYTES // n_bytes)
        used = self.scan.n_rows // self.tall * self.tall
        return [(first, min(first + n_high, used)) for first in range(0, used, n_high)]

    def frames(self, numbers: list[int]) -> NDArray[np.float32]:
        """Read projections."""
        steps = range(0, len(numbers), _BATCH_FRAMES)
        batches = (self.scan.read_frames(numbers[i : i + _BATCH_FRAMES]) for i in steps)
        return np.concatenate([self._of(raw) for raw in batches])

    def flats(self) -> NDArray[np.float32]:
        """Read all flats."""
        bands = (self._of(self.scan.read_flats(*band), band[0]) for band in self.bands())
        return np.concatenate([*bands], axis=1)

    def _of(self, raw: NDArray, row: int = 0) -> NDArray[np.float32]:
        rows = slice(row, row + raw.shape[1])
        above = np.nan_to_num(raw.astype(np.float32) - self.scan.dark[rows])
        averaged = block_average(above, self.tall, self.wide)
        band = slice(row // self.tall, row // self.tall + averaged.shape[1])
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = averaged / self.signal[band]
        return np.where(self.lit[band], ratio, 1).astype(np.float32)

    def beam_fit(
        self,
        flats: NDArray[np.float32],
        shapes: NDArray[np.float32],
        spread: NDArray[np.float64] | None = None,
        stated: NDArray[np.bool_] | None = None,
    ) -> "BeamFit | None":
        """Find the pixels that only the beam changes, by changes (n_shapes, n_rows, n_cols) of it.

        `flats` are those that differ by these changes, and show the noise. `spread` as in
        `BeamFit`; None: that of the flats. `stated`: which pixels are air. None if there are none.
        """
        return _find_air(self.looked_at, flats, shapes, self.lit, self.signal, spread, stated)

    def weights(self, fit: "BeamFit") -> NDArray[np.float32]:
        """Fit the weights (n_angles, n_shapes) of all projections."""
        n_angles = self.scan.n_angles
        weights = np.zeros((n_angles, len(fit.shapes)), np.float32)
        for first in range(0, n_angles, _BATCH_FRAMES):
            batch = list(range(first, min(first + _BATCH_FRAMES, n_angles)))
            weights[batch] = fit.weights(self.frames(batch))
        return weights


@dataclass(frozen=True, eq=False)
class BeamFit:
    """Input to the fit of weights to frames of a scan (`Averages.beam_fit`)."""

    shapes: NDArray[np.float32]  # (n_shapes, n_rows, n_cols)
    air: NDArray[np.bool_]  # (n_rows, n_cols): pixels that no sample covers in any frame
    noise: NDArray[np.float32]  # (n_rows, n_cols): expected error of a transmission of 1
    spread: NDArray[np.float64]  # (n_shapes,): that of weights, such as the flats' own

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
    spread: NDArray[np.float64] | None,
    stated: NDArray[np.bool_] | None,
) -> BeamFit | None:
    """Find the pixels whose transmission only the beam changes, in all of some frames.

    In these pixels 1 + sum w shapes is the transmission, except for photon noise. Weights are
    fitted to the edges of the frames, and to their most transparent part; pixels that follow them
    are fitted again until their set does not change. The largest set is returned. `signal` is that
    of the mean flat.
    """
    flat_values, basis = flats[:, lit], shapes[:, lit].astype(np.float64)
    flat_weights = _fit(flat_values, basis, np.ones(basis.shape[1]))
    if spread is None:
        spread = np.sqrt(np.mean(flat_weights**2, axis=0)) + 1e-6
    n_free = len(flats) - 1 - len(shapes)
    if n_free > 0:
        variance = np.sum((flat_values - 1 - flat_weights @ basis) ** 2, axis=0) / n_free
    else:  # no weights fit: neighbours differ by noise, or by more
        steps = np.diff(np.where(lit, flats - 1, 0), axis=2, append=0)[:, lit]
        variance = np.mean(steps**2, axis=0) / 2 * len(flats) / max(len(flats) - 1, 1)
    photons = np.median(variance * signal[lit])
    noise = np.sqrt(photons / np.maximum(signal, signal[lit].min()) + _STEADY**2)
    if stated is not None:
        return BeamFit(shapes, lit & stated, noise.astype(np.float32), spread)
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
        return None
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
