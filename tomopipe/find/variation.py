"""Least total variation: only about the right axis does a simple slice explain the sinogram.

Over less than half a turn no projection has a counterpart, and of a sample that leaves the field of
view some slice explains the sinogram about any axis. But it is simple only about the right one:
half the squared misfit plus the weighted total variation of the best slice without negative values
is least there. A bounded number of steps [1]_ from an empty slice finds it nearly, about all axes
alike; a slice that another axis left to begin with would speak for that axis.

References
----------
.. [1] A. Beck, M. Teboulle, "Fast gradient-based algorithms for constrained total variation image
   denoising and deblurring problems", IEEE Trans. Image Process. 18, 2419 (2009).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tomopipe.find.angles import Turn
from tomopipe.find.clean import bin_columns
from tomopipe.find.evidence import refine_peak
from tomopipe.geometry import bin_cor
from tomopipe.recon.iterative import largest_gain, total_variation, variation_weight
from tomopipe.recon.projector import Projector, about, make_projector

Image = NDArray[np.float32]
_WIDE = 1.6  # side of the slice over the columns: the sample leaves the field of view
_STRENGTH = 3e-3  # of the variation, of the largest value of the backprojected sinogram
_INNER = 5  # steps of the variation in each
_FIRST, _LAST, _PLACES = 0.2, 0.8, 20  # axes that are looked at, of the columns


@dataclass(frozen=True)
class Size:
    """How much of a sinogram is looked at: about so many columns and angles, and steps."""

    columns: int
    angles: int
    steps: int


COARSE, FINE = Size(64, 60, 50), Size(96, 90, 60)


def simplest_place(sinogram: Image, turn: Turn) -> float:
    """Find the axis about which the simplest slice explains a sinogram.

    Parameters
    ----------
    sinogram : ndarray of float32, shape (n_angles, n_cols)
        Line integrals in the order of `turn`, without zingers and stripes.
    turn : Turn
        The angles.

    Returns
    -------
    float
        COR, px, from 0.2 to 0.8 of the columns.
    """
    cor_px = np.linspace(_FIRST, _LAST, _PLACES) * (sinogram.shape[1] - 1)
    cost = least_variation(sinogram, turn, cor_px, COARSE)
    for size, closer in ((COARSE, 3.0), (FINE, 8.0 / 3.0)):
        step_px = float(cor_px[1] - cor_px[0]) / closer
        cor_px = cor_px[int(np.argmin(cost))] + step_px * np.arange(-3, 4)
        cost = least_variation(sinogram, turn, cor_px, size)
    best = refine_peak(-cost, int(np.argmin(cost)))
    return float(np.interp(best, np.arange(len(cor_px)), cor_px))


def least_variation(
    sinogram: Image, turn: Turn, cor_px: NDArray[np.float64], size: Size
) -> NDArray[np.float64]:
    """Misfit and variation of the simplest slice about each axis.

    Parameters
    ----------
    sinogram, turn
        As for `simplest_place`.
    cor_px : ndarray of float, shape (n_cor,)
        Axes, px.
    size : Size
        Columns and angles are averaged until about so many are left.

    Returns
    -------
    ndarray of float, shape (n_cor,)
        Lower is better.
    """
    binning = max(1, round(sinogram.shape[1] / size.columns))
    together = max(1, len(sinogram) // size.angles)
    n_angles = len(sinogram) // together
    used = slice(0, n_angles * together)
    data = bin_columns(sinogram, binning)[used].reshape(n_angles, together, -1).mean(axis=1)
    theta_rad = turn.theta_rad[used].reshape(n_angles, together).mean(axis=1)
    n = 2 * round(_WIDE * data.shape[1] / 2)
    projector = make_projector(theta_rad, n, (n - 1) / 2)
    gain = 1.05 * largest_gain(projector, 8)
    places = bin_cor(cor_px, binning=binning)
    return np.array([_cost(data, projector, float(at), gain, size.steps) for at in places])


def _cost(data: Image, projector: Projector, cor: float, gain: float, steps: int) -> float:
    """What is left of the misfit and the weighted variation after some steps from nothing."""
    n_angles, n = projector.sinogram_shape
    first = int(np.clip(round((n - 1) / 2 - cor), 0, n - data.shape[1]))
    here = slice(first, first + data.shape[1])
    sinogram = np.zeros((n_angles, n), np.float32)
    sinogram[:, here] = data
    # Moved in Fourier space: interpolated columns would be smoother between than at the pixels.
    projector = about(projector, first + cor)
    image = total_variation(
        sinogram, projector, strength=_STRENGTH, n_iterations=steps, least=0.0, gain=gain,
        columns=here, n_inner=_INNER,
    )  # fmt: skip
    misfit = (projector.project(image) - sinogram)[:, here]
    along, across = np.diff(image, axis=0)[:, :-1], np.diff(image, axis=1)[:-1]
    variation = variation_weight(sinogram, projector, _STRENGTH) * float(
        np.sum(np.hypot(along, across))
    )
    return 0.5 * float(np.sum(misfit**2)) + variation
