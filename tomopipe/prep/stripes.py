"""Stripes of sinograms (rings of slices): columns that respond differently from their neighbours.

Each function takes one sinogram (n_angles, n_cols) of float32, of NumPy or CuPy, and the options
that are for its method, and returns a new sinogram.

References
----------
.. [1] Vo, Atwood, Drakopoulos, "Superior techniques for eliminating ring artifacts in X-ray
       micro-tomography", Opt. Express 26 (2018) 28396.
.. [2] Muench, Trtik, Marone, Stampanoni, "Stripe and ring artifact removal with combined
       wavelet-Fourier filtering", Opt. Express 17 (2009) 8567.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomopipe.arrays import fft_of, module_of, ndimage_of, on_host
from tomopipe.config.preprocess import StripesBlock
from tomopipe.prep import kernels_of
from tomopipe.prep.bad_pixels import interpolate_columns

_TINY = 1e-5  # the least spread of columns distinguished from none, as a ratio
# Wider medians take more than 2 % of the contrast of grains as wide as they are, and more than 1 %
# of the mean (lab/benchmarks/bench_ring_free.py --defaults).
_SHARE, _MOST_SMALL_PX, _MOST_LARGE_PX = 40, 21, 51
_DEAD_PX = 9  # wider and narrower ones find dead columns in undamaged objects
_MIN_SIZE = 16  # of the coarsest level of wavelets
# Columns per pixel of the coarsest level, and the most levels, unless given: with half as many
# columns up to 4 % of the contrast goes.
_SAFE_SIZE, _MOST_LEVELS = 64, 5


def remove_by_sorting(sinogram: Any, options: StripesBlock = StripesBlock()) -> Any:
    """Smooth across columns the values of equal rank (algorithm 3 of [1])."""
    ranked, order = _sort_columns(sinogram)
    size_px = options.size_px or _safe_size(sinogram, _MOST_SMALL_PX)
    return _unsort_columns(_smooth(ranked, size_px), order)


def remove_by_combination(sinogram: Any, options: StripesBlock = StripesBlock()) -> Any:
    """Remove dead, large and small stripes in this order (algorithms 6, 5 and 3 of [1])."""
    snr, large_px = options.snr, options.large_px
    sinogram = _remove_dead(sinogram, snr, large_px or _DEAD_PX)
    sinogram = _remove_large(sinogram, snr, large_px or _safe_size(sinogram, _MOST_LARGE_PX))
    return remove_by_sorting(sinogram, options)


def remove_by_wavelets(sinogram: Any, options: StripesBlock = StripesBlock()) -> Any:
    """Take out of the details across columns what hardly changes along the angles ([2]).

    Only those details are transformed back, and subtracted: what is no stripe stays as it was.
    Line integrals (n_angles, n_cols), of NumPy or CuPy. `sigma` is a width in frequencies along the
    angles; there are fewer levels where the sinogram is small.
    """
    level, wavelet = options.level, options.wavelet
    xp = module_of(sinogram)
    dwt, idwt = kernels_of(xp).dwt, kernels_of(xp).idwt
    n_angles, n_cols = sinogram.shape
    if level is None:
        level = min(max(int(np.log2(n_cols / _SAFE_SIZE)), 1), _MOST_LEVELS)
    pad = min(150, int(0.1 * min(n_angles, n_cols)))
    padded = xp.pad(sinogram, ((pad, pad), (0, 0)), mode="mean")
    padded = xp.pad(padded, ((0, 0), (pad, pad)), mode="edge").astype(np.float32, copy=False)
    deepest = int(np.log2(min(padded.shape) / _MIN_SIZE)) if min(padded.shape) >= _MIN_SIZE else 0
    rest, stripes = padded, []
    for _ in range(min(level, deepest)):
        low, high = dwt(rest, wavelet, axis=1)
        rest = dwt(low, wavelet, axis=0)[0]
        stripes.append(_slow_part(dwt(high, wavelet, axis=0)[0], options.sigma))
    if not stripes:
        return sinogram
    total: Any = None
    for slow in reversed(stripes):
        high = idwt(slow, None, wavelet, axis=0)
        if total is not None:  # an odd length comes back one longer
            total = idwt(total[: slow.shape[0], : slow.shape[1]], None, wavelet, axis=0)
        total = idwt(total, high, wavelet, axis=1)
    return sinogram - total[pad : pad + n_angles, pad : pad + n_cols]


def _safe_size(sinogram: Any, most_px: int) -> int:
    """Return the odd width of a median that leaves objects as they are."""
    width = min(max(sinogram.shape[1] // _SHARE, 3), most_px)
    return width - 1 + width % 2


def _sort_columns(sinogram: Any) -> tuple[Any, Any]:
    """Sort each column of (n_angles, n_cols); give values, and the angle that each comes from."""
    xp = module_of(sinogram)
    n_angles, n_cols = sinogram.shape
    ranked, order = xp.empty_like(sinogram), xp.empty(sinogram.shape, np.uint32)
    angle = xp.arange(n_angles, dtype=np.uint64)
    step = kernels_of(xp).LINES
    for first in range(0, n_cols, step):
        columns = slice(first, first + step)
        bits = xp.ascontiguousarray(sinogram[:, columns].T).view(np.uint32)
        # Floats as whole numbers of the same order, the angle in the lower half: one fast sort.
        negative = bits >> np.uint32(31)
        ordered = bits ^ ((np.uint32(0) - negative) | np.uint32(0x80000000))
        keys = (ordered.astype(np.uint64) << np.uint64(32)) | angle
        keys.sort(axis=1)
        ordered = (keys >> np.uint64(32)).astype(np.uint32)
        positive = ordered >> np.uint32(31)
        bits = ordered ^ ((positive - np.uint32(1)) | np.uint32(0x80000000))
        ranked[:, columns] = bits.view(np.float32).T
        order[:, columns] = (keys & np.uint64(0xFFFFFFFF)).astype(np.uint32).T
    return ranked, order


def _unsort_columns(ranked: Any, order: Any) -> Any:
    """Put each value of sorted columns back to the angle that it came from."""
    xp = module_of(ranked)
    out = xp.empty_like(ranked)
    columns = xp.arange(ranked.shape[1])
    step = kernels_of(xp).LINES
    for first in range(0, len(ranked), step):
        row_slice = slice(first, first + step)
        out[order[row_slice], columns] = ranked[row_slice]
    return out


def _smooth(ranked: Any, size_px: int) -> Any:
    """Return the running median over columns."""
    return kernels_of(module_of(ranked)).running_median(ranked, size_px)


def _remove_dead(sinogram: Any, snr: float, size_px: int) -> Any:
    """Interpolate columns that vary too little or too much along the angles."""
    xp = module_of(sinogram)
    smooth = ndimage_of(xp).uniform_filter1d(sinogram, 10, axis=0)
    varies = on_host(xp.abs(sinogram - smooth).sum(axis=0, dtype=np.float64))
    usual = ndimage_of(np).median_filter(varies, size_px)
    usual[usual == 0] = np.abs(usual).mean() or 1.0
    result = _widen(_outstanding(varies / usual, snr))
    result[:2] = result[-2:] = False
    if not 0 < np.count_nonzero(result) < len(result) // 3:
        return sinogram
    sinogram = sinogram.copy()
    interpolate_columns(sinogram, result)
    return sinogram


def _remove_large(sinogram: Any, snr: float, size_px: int) -> Any:
    """Scale every column to its neighbours; replace the ones that stand out by smoothed ranks."""
    xp = module_of(sinogram)
    ranked, order = _sort_columns(sinogram)
    smooth = _smooth(ranked, size_px)
    n_drop = int(0.05 * len(ranked))
    inner = slice(n_drop, len(ranked) - n_drop)
    mean, usual = (on_host(a[inner].mean(axis=0, dtype=np.float64)) for a in (ranked, smooth))
    factor = np.divide(mean, usual, out=np.ones_like(mean), where=usual != 0)
    result = xp.asarray(np.flatnonzero(_widen(_outstanding(factor, snr))))
    smooth = _unsort_columns(smooth, order)
    # A factor near 0 belongs to a column without signal: it is replaced, or left as it is.
    factor[np.abs(factor) < _TINY] = 1
    out = sinogram / xp.asarray(factor.astype(np.float32))
    out[:, result] = smooth[:, result]
    return out


def _outstanding(ratio: NDArray[np.float64], snr: float) -> NDArray[np.bool_]:
    """Tell which columns lie outside a line fitted to the sorted ratios (algorithm 4 of [1])."""
    n = len(ratio)
    ranked = np.sort(ratio)
    n_drop = n // 4
    x = np.arange(n, dtype=float)
    inner = slice(n_drop, n - n_drop - 1)
    if n < 8:
        return np.zeros(n, bool)
    slope, low = np.polyfit(x[inner], ranked[inner], 1)
    high = low + slope * x[-1]
    spread = max(abs(high - low), _TINY)
    result = np.zeros(n, bool)
    if abs(ranked[-1] - high) / spread >= snr:
        result |= ratio > high + spread * snr / 2
    if abs(low - ranked[0]) / spread >= snr:
        result |= ratio <= low - spread * snr / 2
    return result


def _widen(result: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Add the neighbours of each column found."""
    wide = result.copy()
    wide[1:] |= result[:-1]
    wide[:-1] |= result[1:]
    return wide


def _slow_part(details: Any, sigma: float) -> Any:
    """Keep what hardly changes along the angles: a Gaussian in frequency."""
    xp = module_of(details)
    fft = fft_of(xp)
    n = len(details)
    # Beyond 6 sigma nothing of single precision is left.
    n_frequencies = min(n // 2 + 1, int(6 * sigma) + 2)
    weight = xp.exp(-0.5 * (xp.arange(n_frequencies, dtype=np.float32) / np.float32(sigma)) ** 2)
    spectrum = fft.rfft(details, axis=0)
    spectrum[:n_frequencies] *= weight[:, None]
    spectrum[n_frequencies:] = 0
    return fft.irfft(spectrum, n=n, axis=0)
