"""The ramp filter and its windows, in units that keep a disk of value mu at mu."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Window = Callable[[NDArray[np.float64]], NDArray[np.float64]]

# Of the frequency as a fraction of Nyquist's, 0..1; all are 1 at 0, hence the mean is kept.
_WINDOWS: dict[str, Window] = {
    "ramp": np.ones_like,
    "shepp-logan": lambda f: np.sinc(f / 2),
    "cosine": lambda f: np.cos(np.pi * f / 2),
    "hann": lambda f: 0.5 + 0.5 * np.cos(np.pi * f),
    "hamming": lambda f: 0.54 + 0.46 * np.cos(np.pi * f),
    "parzen": lambda f: np.where(f < 0.5, 1 - 6 * f**2 * (1 - f), 2 * (1 - f) ** 3),
    "butterworth": lambda f: 1 / (1 + (f / 0.5) ** 4),  # of order 2: 1/2 at half of Nyquist's
}
FILTERS: tuple[str, ...] = tuple(_WINDOWS)


def ramp_response(n_padded: int) -> NDArray[np.float64]:
    """Return the transform of the band-limited ramp kernel on a padded row [1]_.

    Sampling ``abs(k)`` instead would put the mean of the image to zero: the kernel cut off at the
    ends of the row has a small value at k = 0 that restores it. Shape and
    unit are those of `filter_response`.

    References
    ----------
    .. [1] A. C. Kak and M. Slaney, Principles of Computerized Tomographic Imaging, eq. 61.
    """
    distance = np.arange(n_padded)
    distance = np.minimum(distance, n_padded - distance)
    odd = distance % 2 == 1
    kernel = np.zeros(n_padded)
    kernel[odd] = -1 / (np.pi * distance[odd]) ** 2
    kernel[0] = 0.25
    return np.asarray(np.fft.rfft(kernel).real)


def filter_response(name: str, n_padded: int) -> NDArray[np.float64]:
    """Return ramp times window, one of `FILTERS`, at the bins of a padded row.

    In cycles per pixel, (n_padded // 2 + 1,); `n_padded` is even. A ValueError says that the filter
    is unknown.
    """
    if name not in _WINDOWS:
        raise ValueError(f"filter: expected one of {', '.join(FILTERS)}, got {name!r}")
    ramp = ramp_response(n_padded)
    return ramp * _WINDOWS[name](np.linspace(0.0, 1.0, len(ramp)))
