"""Ring filters, on stripes of sinograms: columns that respond differently from their neighbours.

A filter is a function here, or in a module of its own, and its entry in `STRIPE_FILTERS` of
`tomopipe.config.stripe_filters`.

Each function takes a sinogram (n_angles, n_cols) of float32, of NumPy or CuPy, or several
(n_rows, n_angles, n_cols) of CuPy, and the options that are for its method, and returns new ones.

References
----------
.. [1] Vo, Atwood, Drakopoulos, "Superior techniques for eliminating ring artifacts in X-ray
       micro-tomography", Opt. Express 26 (2018) 28396.
.. [2] Muench, Trtik, Marone, Stampanoni, "Stripe and ring artifact removal with combined
       wavelet-Fourier filtering", Opt. Express 17 (2009) 8567.
.. [3] Jailin, Buffiere, Hild, Poncelet, Roux, "On the use of flat-fields for tomographic
       reconstruction", J. Synchrotron Rad. 24 (2017) 220.
"""

from typing import Any

import numpy as np

from tomopipe.arrays import fft_of, module_of, ndimage_of, some
from tomopipe.config.stripe_filters import GATED_SIZE_PX, StripesBlock
from tomopipe.prep import kernels_of
from tomopipe.prep.bad_pixels import interpolate_columns
from tomopipe.prep.stripes_gated import find_round

_TINY = 1e-5  # least spread of columns distinguished from none, as a ratio
# Wider medians remove more than 2 % of the contrast of grains of their own width, and more than 1 %
# of the mean (lab/benchmarks/bench_ring_free.py --defaults).
_SHARE, _MOST_SMALL_PX, _MOST_LARGE_PX = 40, 21, 51
_DOUBLE_FLAT_PX = 5
_DEAD_PX = 9  # other widths find dead columns in undamaged objects
_MIN_SIZE = 16  # least size of the coarsest level of wavelets
# Columns per pixel of the coarsest level, and largest number of levels, by default: with half as
# many columns up to 4 % of the contrast is lost.
_SAFE_SIZE, _MOST_LEVELS = 64, 5


def remove_by_sorting(sinogram: Any, options: StripesBlock = StripesBlock()) -> Any:
    """Smooth across columns the values of equal rank (algorithm 3 of [1]).

    Parameters
    ----------
    sinogram : array of float32, shape (n_angles, n_cols) or, of CuPy, (n_rows, n_angles, n_cols)
        Detector rows, after the logarithm.
    options : StripesBlock
        Sizes and thresholds, `preprocess.stripes`.

    Returns
    -------
    array of float32, of the same shape
        Rows without stripes.
    """
    ranked, order = _sort_columns(sinogram)
    size_px = options.size_px or _safe_size(sinogram, _MOST_SMALL_PX)
    return _unsort_columns(_smooth(ranked, size_px), order)


def remove_by_combination(sinogram: Any, options: StripesBlock = StripesBlock()) -> Any:
    """Remove dead, large and small stripes in this order (algorithms 6, 5 and 3 of [1]).

    Parameters
    ----------
    sinogram : array of float32, shape (n_angles, n_cols) or, of CuPy, (n_rows, n_angles, n_cols)
        Detector rows, after the logarithm.
    options : StripesBlock
        Sizes and thresholds, `preprocess.stripes`.

    Returns
    -------
    array of float32, of the same shape
        Rows without stripes.
    """
    snr, large_px = options.snr, options.large_px
    sinogram = _remove_dead(sinogram, snr, large_px or _DEAD_PX)
    sinogram = _remove_large(sinogram, snr, large_px or _safe_size(sinogram, _MOST_LARGE_PX))
    return remove_by_sorting(sinogram, options)


def remove_by_wavelets(sinogram: Any, options: StripesBlock = StripesBlock()) -> Any:
    """Remove from the wavelet details across columns what hardly changes along the angles ([2]).

    Only these details are transformed back and subtracted, so that everything else is unchanged.
    `sigma` is a width in frequencies along the angles; small sinograms get fewer levels.
    """
    level, wavelet = options.level, options.wavelet
    xp = module_of(sinogram)
    dwt, idwt = kernels_of(xp).dwt, kernels_of(xp).idwt
    n_angles, n_cols = sinogram.shape[-2:]
    others = ((0, 0),) * (sinogram.ndim - 2)
    if level is None:
        level = min(max(int(np.log2(n_cols / _SAFE_SIZE)), 1), _MOST_LEVELS)
    pad = min(150, int(0.1 * min(n_angles, n_cols)))
    padded = xp.pad(sinogram, (*others, (pad, pad), (0, 0)), mode="mean")
    padded = xp.pad(padded, (*others, (0, 0), (pad, pad)), mode="edge")
    padded = padded.astype(np.float32, copy=False)
    least = min(padded.shape[-2:])
    deepest = int(np.log2(least / _MIN_SIZE)) if least >= _MIN_SIZE else 0
    rest, stripes = padded, []
    for _ in range(min(level, deepest)):
        low, high = dwt(rest, wavelet, axis=-1)
        rest = dwt(low, wavelet, axis=-2)[0]
        stripes.append(_slow_part(dwt(high, wavelet, axis=-2)[0], options.sigma))
    if not stripes:
        return sinogram
    total: Any = None
    for slow in reversed(stripes):
        high = idwt(slow, None, wavelet, axis=-2)
        if total is not None:  # an odd length comes back one longer
            total = total[..., : slow.shape[-2], : slow.shape[-1]]
            total = idwt(total, None, wavelet, axis=-2)
        total = idwt(total, high, wavelet, axis=-1)
    return sinogram - total[..., pad : pad + n_angles, pad : pad + n_cols]


def remove_by_double_flat(sinogram: Any, options: StripesBlock = StripesBlock()) -> Any:
    """Subtract from each column what the mean over all angles has more than its median ([3]).

    Also what is round about the axis is the same at all angles. It is spared where it is wider than
    half of `size_px`, stronger than `limit`, or has a mirror image (`find_round`).

    Parameters
    ----------
    sinogram : array of float32, shape (n_angles, n_cols) or, of CuPy, (n_rows, n_angles, n_cols)
        Detector rows, after the logarithm.
    options : StripesBlock
        Sizes and thresholds, `preprocess.stripes`.

    Returns
    -------
    array of float32, of the same shape
        Rows without stripes.
    """
    xp = module_of(sinogram)
    profile = sinogram.mean(axis=-2, dtype=np.float64, keepdims=True).astype(np.float32)
    offset = profile - _smooth(profile, options.size_px or _DOUBLE_FLAT_PX)
    stay = find_round(offset, profile, GATED_SIZE_PX)[..., None, :]
    stay |= xp.abs(offset) > np.float32(options.limit)
    return sinogram - xp.where(stay, np.float32(0), offset)


def _safe_size(sinogram: Any, most_px: int) -> int:
    """Return the odd width of a median that leaves objects as they are."""
    width = min(max(sinogram.shape[-1] // _SHARE, 3), most_px)
    return width - 1 + width % 2


def _sort_columns(sinogram: Any) -> tuple[Any, Any]:
    """Sort each column; return the values, and the angle that each comes from."""
    xp = module_of(sinogram)
    n_angles, n_cols = sinogram.shape[-2:]
    ranked, order = xp.empty_like(sinogram), xp.empty(sinogram.shape, np.uint32)
    angle = xp.arange(n_angles, dtype=np.uint64)
    step = kernels_of(xp).LINES
    for first in range(0, n_cols, step):
        columns = slice(first, first + step)
        lines = xp.moveaxis(sinogram[..., columns], -1, -2)
        bits = xp.ascontiguousarray(lines).view(np.uint32)
        # Floats as whole numbers of the same order, the angle in the lower half: one fast sort.
        negative = bits >> np.uint32(31)
        ordered = bits ^ ((np.uint32(0) - negative) | np.uint32(0x80000000))
        keys = (ordered.astype(np.uint64) << np.uint64(32)) | angle
        keys.sort(axis=-1)
        ordered = (keys >> np.uint64(32)).astype(np.uint32)
        positive = ordered >> np.uint32(31)
        bits = ordered ^ ((positive - np.uint32(1)) | np.uint32(0x80000000))
        angles = (keys & np.uint64(0xFFFFFFFF)).astype(np.uint32)
        ranked[..., columns] = xp.moveaxis(bits.view(np.float32), -1, -2)
        order[..., columns] = xp.moveaxis(angles, -1, -2)
    return ranked, order


def _unsort_columns(ranked: Any, order: Any) -> Any:
    """Put each value of sorted columns back to the angle that it came from."""
    xp = module_of(ranked)
    out = xp.empty_like(ranked)
    step = kernels_of(xp).LINES
    for first in range(0, ranked.shape[-2], step):
        part = (..., slice(first, first + step), slice(None))
        xp.put_along_axis(out, order[part], ranked[part], axis=-2)
    return out


def _smooth(ranked: Any, size_px: int) -> Any:
    """Return the running median over columns."""
    return kernels_of(module_of(ranked)).running_median(ranked, size_px)


def _remove_dead(sinogram: Any, snr: float, size_px: int) -> Any:
    """Interpolate columns that vary too little or too much along the angles."""
    xp = module_of(sinogram)
    ndimage = ndimage_of(xp)
    smooth = ndimage.uniform_filter1d(sinogram, 10, axis=-2)
    varies = xp.abs(sinogram - smooth).sum(axis=-2, dtype=np.float64)
    usual = ndimage.median_filter(varies, size=(1,) * (varies.ndim - 1) + (size_px,))
    mean = xp.abs(usual).mean(axis=-1, keepdims=True)
    usual = xp.where(usual == 0, xp.where(mean > 0, mean, 1.0), usual)
    dead = _widen(_outstanding(varies / usual, snr))
    dead[..., :2] = dead[..., -2:] = False
    dead &= xp.count_nonzero(dead, axis=-1)[..., None] < dead.shape[-1] // 3
    if not some(dead):
        return sinogram
    sinogram = sinogram.copy()
    interpolate_columns(sinogram, dead)
    return sinogram


def _remove_large(sinogram: Any, snr: float, size_px: int) -> Any:
    """Scale every column to its neighbours; replace the ones that stand out by smoothed ranks."""
    xp = module_of(sinogram)
    ranked, order = _sort_columns(sinogram)
    smooth = _smooth(ranked, size_px)
    n_angles = sinogram.shape[-2]
    inner = slice(int(0.05 * n_angles), n_angles - int(0.05 * n_angles))
    mean, usual = (a[..., inner, :].mean(axis=-2, dtype=np.float64) for a in (ranked, smooth))
    factor = xp.where(usual != 0, mean / xp.where(usual != 0, usual, 1), 1)
    large = _widen(_outstanding(factor, snr))
    smooth = _unsort_columns(smooth, order)
    # A factor near 0 belongs to a column without signal: it is replaced, or left as it is.
    factor = xp.where(xp.abs(factor) < _TINY, 1, factor).astype(np.float32)
    return xp.where(large[..., None, :], smooth, sinogram / factor[..., None, :])


def _outstanding(ratio: Any, snr: float) -> Any:
    """Return which columns lie outside a line fitted to the sorted ratios (algorithm 4 of [1])."""
    xp, n = module_of(ratio), ratio.shape[-1]
    if n < 8:
        return xp.zeros(ratio.shape, bool)
    ranked = xp.sort(ratio, axis=-1)
    n_drop = n // 4
    inner = slice(n_drop, n - n_drop - 1)
    slope, low = _line(ranked[..., inner], n_drop)
    high = low + slope * (n - 1)
    spread = xp.maximum(xp.abs(high - low), _TINY)
    is_above = xp.abs(ranked[..., -1:] - high) / spread >= snr
    is_below = xp.abs(low - ranked[..., :1]) / spread >= snr
    above, below = ratio > high + spread * snr / 2, ratio <= low - spread * snr / 2
    return (is_above & above) | (is_below & below)


def _line(values: Any, first: int) -> tuple[Any, Any]:
    """Return slope and intercept of the line through values at whole numbers from `first` on."""
    xp, n = module_of(values), values.shape[-1]
    if xp is np:
        return tuple(np.polyfit(np.arange(first, first + n, dtype=float), values, 1))
    mean, x = values.mean(axis=-1, keepdims=True), xp.arange(n) - (n - 1) / 2
    slope = (values * x).sum(axis=-1, keepdims=True) * (12 / (n * (n * n - 1.0)))
    return slope, mean - slope * (first + (n - 1) / 2)


def _widen(result: Any) -> Any:
    """Add the neighbours of each marked column."""
    wide = result.copy()
    wide[..., 1:] |= result[..., :-1]
    wide[..., :-1] |= result[..., 1:]
    return wide


def _slow_part(details: Any, sigma: float) -> Any:
    """Keep what hardly changes along the angles: a Gaussian in frequency."""
    xp = module_of(details)
    fft = fft_of(xp)
    n = details.shape[-2]
    # Beyond 6 sigma nothing of single precision is left.
    n_frequencies = min(n // 2 + 1, int(6 * sigma) + 2)
    weight = xp.exp(-0.5 * (xp.arange(n_frequencies, dtype=np.float32) / np.float32(sigma)) ** 2)
    spectrum = fft.rfft(details, axis=-2)
    spectrum[..., :n_frequencies, :] *= weight[:, None]
    spectrum[..., n_frequencies:, :] = 0
    return fft.irfft(spectrum, n=n, axis=-2)
