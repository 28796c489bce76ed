"""Stripes by the Fourier-wavelet filter: on NumPy with PyWavelets, on CuPy with the same sums.

References
----------
.. [1] Muench, Trtik, Marone, Stampanoni, "Stripe and ring artifact removal with combined
       wavelet-Fourier filtering", Opt. Express 17 (2009) 8567.
"""

from typing import Any

import numpy as np

from tomopipe.arrays import fft_of, module_of
from tomopipe.config.preprocess import StripesBlock
from tomopipe.prep.dispatch import kernels_of

_MIN_SIZE = 16  # of the coarsest level
# Columns per pixel of the coarsest level, and the most levels, unless given: with half as many
# columns up to 4 % of the contrast goes.
_SAFE_SIZE, _MOST_LEVELS = 64, 5


def remove_by_wavelets(sinogram: Any, options: StripesBlock = StripesBlock()) -> Any:
    """Take out of the details across columns what hardly changes along the angles ([1]).

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


def _slow_part(details: Any, sigma: float) -> Any:
    """Keep what hardly changes along the angles: a Gaussian in frequency."""
    xp = module_of(details)
    fft = fft_of(xp)
    n = len(details)
    # Beyond 6 sigma nothing of single precision is left.
    kept = min(n // 2 + 1, int(6 * sigma) + 2)
    weight = xp.exp(-0.5 * (xp.arange(kept, dtype=np.float32) / np.float32(sigma)) ** 2)
    spectrum = fft.rfft(details, axis=0)
    spectrum[:kept] *= weight[:, None]
    spectrum[kept:] = 0
    return fft.irfft(spectrum, n=n, axis=0)
