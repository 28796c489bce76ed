"""The part of a reconstruction that does not depend on the data or the COR.

The sum behind the engine, with P the padded row length and D the transform of a row,

    f(x, y) = sum_theta w(theta) sum_k H(k)/P D(theta, k) exp(2 pi i k (cor + s) / P),
    s = (x - N//2) cos(theta) - (y - (N//2 - 1)) sin(theta),

is a transform from samples on rays to a grid: the samples are spread on a grid of M x M cells,
the grid is transformed, and the image is divided by the kernel's transform. The image is real,
hence only rays in the upper half plane are spread and the rest follows by symmetry. All bins of
the padded rows are spread: thinning them out far from the spectrum's centre would save a tenth of
the time, but the image then repeats after N pixels and ghosts appear in its corners.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from math import ceil
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tomopipe.arrays import ellipse, fade
from tomopipe.recon.angular_sampling import (
    angle_weights,
    full_rotation_weights,
    is_full_rotation,
    rotation_weights,
    unpaired,
    upper_directions,
)

WIDTH = 5  # taps per axis: 89 dB with the grid 1.125 times the image
DEGREE = 6  # degree of the polynomials of the taps: an error of 7e-7


def beta_of(oversampling: float) -> float:
    """Return the optimal shape parameter for an oversampling.

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


OVERSAMPLING = 1.125  # grid cells per pixel of the image; see WIDTH
BATCH_SIZE = 16  # slices computed at a time where memory allows
CHUNK_BYTES = 8 * 2**20  # bytes of samples between two stages
MARGIN = WIDTH // 2 + 1  # cells around the half grid that catch the kernel's tails

EdgeSlopes = tuple[float, float]  # at the left and the right edge, per column
UNKNOWN: EdgeSlopes = (0.0, 0.0)

Window = Callable[[NDArray[np.float64]], NDArray[np.float64]]

# Functions of frequency / Nyquist frequency, 0..1; all are 1 at 0, which keeps the mean.
_WINDOWS: dict[str, Window] = {
    "ramp": np.ones_like,
    "shepp-logan": lambda f: np.sinc(f / 2),
    "cosine": lambda f: np.cos(np.pi * f / 2),
    "hann": lambda f: 0.5 + 0.5 * np.cos(np.pi * f),
    "hamming": lambda f: 0.54 + 0.46 * np.cos(np.pi * f),
    "parzen": lambda f: np.where(f < 0.5, 1 - 6 * f**2 * (1 - f), 2 * (1 - f) ** 3),
    # of order 2: 1/2 at half the Nyquist frequency
    "butterworth": lambda f: 1 / (1 + (f / 0.5) ** 4),
}
FILTERS: tuple[str, ...] = tuple(_WINDOWS)


@dataclass(frozen=True, eq=False)
class Plan:
    """Geometry, filter and grid of a scan; made by `make_plan`, used for all slices and CORs."""

    theta_rad: NDArray[np.float64]  # (n_angles,) as given
    filter: str  # see `filter_response`
    edge_slopes_per_px: EdgeSlopes | None  # as given
    n_cols: int
    n_padded: int  # P
    n_grid: int  # M
    taper: NDArray[np.float32]  # (P - N,) share of the edge values in each padding column
    beta: float
    gain: NDArray[np.float64]  # (P/2 + 1,) filter at each bin, per P
    angle_order: NDArray[np.int64]  # (n_angles,) by direction in the spectrum
    direction: NDArray[np.float64]  # (n_angles, 2) in that order
    flipped: NDArray[np.bool_]  # (n_angles,) in that order
    weight: NDArray[np.float64]  # (n_angles,) radians, in that order
    full_rotation: bool
    unpaired: NDArray[np.bool_]  # (n_angles,) as given: projections without an opposing one
    correction: NDArray[np.float64]  # (2, n_cols) for x and y: 1 / kernel transform, with sign
    batch_size: int
    xp: ModuleType
    cache: dict[Any, Any] = field(default_factory=dict, repr=False)

    @property
    def n_angles(self) -> int:
        """Projections of the scan."""
        return len(self.weight)

    @property
    def half_grid_shape(self) -> tuple[int, int]:
        """Rows (0 and up, margins) and columns (margins) of the grid of the upper half plane."""
        return half_grid_shape(self.n_grid)


def make_plan(
    theta_rad: ArrayLike,
    n_cols: int,
    *,
    filter: str = "ramp",
    one_sided: bool = False,
    edge_slopes_per_px: EdgeSlopes | None = UNKNOWN,
    xp: ModuleType = np,
    batch_size: int = BATCH_SIZE,
) -> Plan:
    """Plan the reconstruction of a scan, for `reconstruct` and `sweep` with any COR.

    Parameters
    ----------
    theta_rad : array_like of float, shape (n_angles,)
        Finite; any start, order and direction.
    n_cols : int
        Detector columns N, below 32768.
    filter : str
        See `filter_response`.
    one_sided : bool
        Angles are those of a full 360-degree rotation, and most rays are measured from one side.
    edge_slopes_per_px : (float, float) or None
        Share of its edge value that a row loses per column at its left and its right edge: it
        is extrapolated by the ellipse of these slopes. 0, unknown: by a cosine [1]_. None: edge
        values are repeated. See `taper`.
    xp : module
        `numpy` or `cupy`: where the slices are computed.
    batch_size : {4, 8, 16}
        Slices computed at a time; memory is proportional to it.

    Returns
    -------
    Plan
        All that does not depend on sinogram and COR: filter, angles, order of the samples.

    References
    ----------
    .. [1] After B. Ohnesorge et al., "Efficient correction for CT image artifacts caused by
       objects extending outside the scan field of view", Med. Phys. 27, 39 (2000).
    """
    theta = np.asarray(theta_rad, dtype=np.float64)
    if theta.ndim != 1 or not theta.size:
        raise ValueError(f"theta_rad: expected shape (n_angles,), got {theta.shape}")
    if not np.isfinite(theta).all():
        raise ValueError("theta_rad: expected finite angles; correct /exchange/theta of the scan")
    if not 1 <= n_cols < 32768:
        raise ValueError(f"n_cols: expected 1 to 32767, got {n_cols}")
    if batch_size not in (4, 8, 16):
        raise ValueError(f"batch_size: expected 4, 8 or 16, got {batch_size}")
    n_padded, n_grid = padded_and_grid_size(n_cols)
    beta = beta_of(n_grid / n_cols)
    direction, flipped = upper_directions(theta)
    order = np.argsort(np.arctan2(direction[:, 1], direction[:, 0]), kind="stable")
    # one-sided rows are weighted already
    full_rotation = is_full_rotation(theta) and not one_sided
    weights = full_rotation_weights if full_rotation else angle_weights
    weight = (rotation_weights if one_sided else weights)(theta)[order]
    return Plan(
        theta_rad=theta,
        filter=filter,
        edge_slopes_per_px=edge_slopes_per_px,
        n_cols=n_cols,
        n_padded=n_padded,
        n_grid=n_grid,
        taper=taper(n_cols, n_padded, edge_slopes_per_px),
        beta=beta,
        gain=_gain(filter_response(filter, n_padded), n_padded),
        angle_order=order,
        direction=direction[order],
        flipped=flipped[order],
        weight=weight,
        full_rotation=full_rotation,
        unpaired=unpaired(theta),
        correction=_correction(n_cols, n_grid, beta),
        batch_size=batch_size,
        xp=xp,
    )


def ramp_response(n_padded: int) -> NDArray[np.float64]:
    """Return the transform of the band-limited ramp kernel on a padded row [1]_.

    Sampling ``abs(k)`` instead would set the mean of the image to zero: the kernel cut off at the
    ends of the row has a small value at k = 0 that restores it. Shape and unit as for
    `filter_response`.

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
    """Return ramp times window at the bins of a padded row.

    Parameters
    ----------
    name : str
        One of `FILTERS`.
    n_padded : int
        Columns of a padded row; even.

    Returns
    -------
    ndarray of float64, shape (n_padded // 2 + 1,)
        The filter at the frequencies of `numpy.fft.rfft`, in cycles per pixel.

    Raises
    ------
    ValueError
        If the filter is unknown.
    """
    if name not in _WINDOWS:
        raise ValueError(f"filter: expected one of {', '.join(FILTERS)}, got {name!r}")
    ramp = ramp_response(n_padded)
    return ramp * _WINDOWS[name](np.linspace(0.0, 1.0, len(ramp)))


def taper(n_cols: int, n_padded: int, edge_slopes_per_px: EdgeSlopes | None) -> NDArray[np.float32]:
    """Return the share of the edge values in each padding column, (n_padded - n_cols,).

    The line integrals of a uniform disk about the axis are an ellipse, 2 mu sqrt(R^2 - s^2). At an
    edge at s = e they fall by e / (R^2 - e^2) of their value per column: this edge slope gives the
    radius of the disk, and u columns further out the share sqrt(1 - (2 u + u^2 / e) slope) is left.
    The edge slopes of a scan are measured by `tomopipe.prep.correct`.

    Its first half is of the right edge value, going outwards, the second of the left one.
    `edge_slopes_per_px` is the share of its edge value that a row loses per column at its left and
    its right edge; 0, unknown: a cosine, which reaches zero at the end of the padding. None: edge
    values are repeated.
    """
    n_right = (n_padded - n_cols) // 2
    n_left = n_padded - n_cols - n_right
    if edge_slopes_per_px is None:
        return np.ones(n_left + n_right, np.float32)
    left, right = edge_slopes_per_px
    shares = [_beyond(n_right, n_cols, right), _beyond(n_left, n_cols, left)[::-1]]
    return np.concatenate(shares).astype(np.float32)


def binned_edge_slopes(edge_slopes_per_px: EdgeSlopes, binning: int) -> EdgeSlopes:
    """Return the edge slopes of rows averaged over `binning` columns, per column of these."""
    return binning * edge_slopes_per_px[0], binning * edge_slopes_per_px[1]


def _beyond(n: int, n_cols: int, edge_slope_per_px: float) -> NDArray[np.float64]:
    """Return the share of the edge value in each of n columns beyond an edge."""
    shares = ellipse(n, n_cols / 2, edge_slope_per_px) if edge_slope_per_px else fade(n)
    return np.asarray(shares, dtype=np.float64)


def image_positions(n_cols: int) -> NDArray[np.int64]:
    """Return the positions of columns and rows from the axis voxel, pixels, shape (2, n_cols)."""
    index = np.arange(n_cols)
    return np.stack([index - n_cols // 2, index - (n_cols // 2 - 1)])


def padded_and_grid_size(n_cols: int) -> tuple[int, int]:
    """Return P and M, the lengths of padded rows and of the grid, for N columns."""
    return fast_even_size(2 * n_cols), fast_even_size(max(ceil(OVERSAMPLING * n_cols), 8 * MARGIN))


def angles_at_once(n_angles: int, n_bins: int) -> int:
    """Return the number of angles in a chunk, whose samples fit in the caches.

    It does not depend on threads or batch size, as other chunks round sums differently, by up to
    6e-5 of the range of a slice.
    """
    return min(max(CHUNK_BYTES // (8 * BATCH_SIZE * n_bins), 1), n_angles)


def half_grid_shape(n_grid: int) -> tuple[int, int]:
    """Return rows and columns, with margins, of the half grid of `Plan.half_grid_shape`."""
    return n_grid // 2 + 1 + 2 * MARGIN, n_grid + 2 * MARGIN


def fast_even_size(n_least: int) -> int:
    """Return the smallest even length of factors 2, 3 and 5 that is at least `n_least`."""
    return next(n for n in itertools.count(max(n_least + n_least % 2, 2), 2) if _is_fast(n))


def _is_fast(n: int) -> bool:
    """Tell whether a length has only factors 2, 3 and 5, without loading SciPy."""
    for factor in (2, 3, 5):
        while n % factor == 0:
            n //= factor
    return n == 1


def _correction(n_cols: int, n_grid: int, beta: float) -> NDArray[np.float64]:
    position = image_positions(n_cols)
    factor = 1 / kernel_transform(position.astype(float), n_grid, beta)
    factor[0] *= np.where(position[0] % 2, -1, 1)  # the grid's columns begin at -M/2, rows at 0
    return factor


def _gain(response: NDArray[np.float64], n_padded: int) -> NDArray[np.float64]:
    gain = response / n_padded
    gain[[0, -1]] /= 2  # the conjugate half of the spectrum repeats these two
    return gain
