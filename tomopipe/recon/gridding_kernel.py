"""The Kaiser-Bessel gridding kernel: values, transform, and a polynomial for each tap."""

from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

WIDTH = 5  # taps per axis: 89 dB with the grid 1.125 times the image
DEGREE = 6  # of the polynomials that give the taps: an error of 7e-7


def beta_of(oversampling: float) -> float:
    """Return the shape parameter that suits an oversampling.

    References
    ----------
    .. [1] P. J. Beatty, D. G. Nishimura, J. M. Pauly, IEEE Trans. Med. Imaging 24, 799 (2005).
    """
    return float(np.pi * np.sqrt((WIDTH / oversampling * (oversampling - 0.5)) ** 2 - 0.8))


def kernel_values(distance: Any, beta: float, xp: ModuleType = np) -> Any:
    """Return the kernel at distances in grid cells; zero beyond half its width."""
    inside = xp.maximum(1 - (2 * distance / WIDTH) ** 2, 0)
    values = xp.i0(beta * xp.sqrt(inside)) / float(np.i0(beta))
    return xp.where(abs(distance) <= WIDTH / 2, values, 0.0)


def kernel_transform(
    position_px: NDArray[np.float64], n_grid: int, beta: float
) -> NDArray[np.float64]:
    """Return the kernel's Fourier transform at image positions, pixels from the image's centre."""
    root = np.sqrt(beta**2 - (np.pi * WIDTH * position_px / n_grid) ** 2)
    return WIDTH * np.sinh(root) / (root * np.i0(beta))


def tap_polynomials(beta: float) -> NDArray[np.float64]:
    """Fit each tap of the kernel by a polynomial.

    A sample at grid position p touches the cells i, ..., i + WIDTH - 1 with
    i = ceil(p - WIDTH / 2); tap j weighs cell i + j. All depend only on
    t = 2 (i - p + WIDTH / 2) - 1 in [-1, 1). Returns the coefficients of t**0, t**1, ...,
    (DEGREE + 1, WIDTH).
    """
    nodes = np.cos(np.pi * (np.arange(64) + 0.5) / 64)
    taps = np.arange(WIDTH)
    distance = taps[None, :] - WIDTH / 2 + (nodes[:, None] + 1) / 2
    series = np.polynomial.chebyshev.chebfit(nodes, kernel_values(distance, beta), DEGREE)
    return np.stack([np.polynomial.chebyshev.cheb2poly(series[:, j]) for j in taps], axis=1)
