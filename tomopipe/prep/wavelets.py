"""Changes of the beam without their noise.

References
----------
.. [1] Van Nieuwenhove, De Beenhouwer, De Carlo, Mancini, Marone, Sijbers, "Dynamic intensity
       normalization using eigen flat fields in X-ray imaging", Opt. Express 23 (2015) 27975.
"""

import numpy as np
from numpy.typing import NDArray

# wavelet, standard deviations, least side in pixels
_WAVELET, _NOISE, _LEAST_SIDE = "sym4", 3.0, 16


def without_noise(shape: NDArray[np.float32], signal: NDArray[np.float32]) -> NDArray[np.float32]:
    """Remove wavelets from a shape (n_rows, n_cols) that are no larger than photon noise.

    `signal` is that of the beam. As in [1]_.
    """
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
