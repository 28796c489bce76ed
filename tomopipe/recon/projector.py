"""Projection of slices and its adjoint, for iterative reconstruction from few angles.

Both go through the same half grids as the engine, by one sparse matrix: a projection is a line
through the slice's spectrum (centre slice theorem). The object has to lie inside the slice.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tomopipe.arrays import fft_of
from tomopipe.recon.fbp import checked_cor
from tomopipe.recon.plan import MARGIN, Plan, image_positions, make_plan
from tomopipe.recon.portable import fold, to_images
from tomopipe.recon.sparse import spreading_matrix

Array = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Projector:
    """A scan's geometry as a linear map and its adjoint.

    Attributes
    ----------
    plan : Plan
        Angles, columns and grid; its filter is not used.
    spreading : sparse array, shape (cells of the half grid, n_angles * n_bins)
        Kernel weights; its transpose interpolates.
    phase : ndarray of complex64, shape (n_bins,)
        Moves the axis to 0.
    """

    plan: Plan
    spreading: Any
    phase: NDArray[np.complex64]

    @property
    def sinogram_shape(self) -> tuple[int, int]:
        """(n_angles, n_cols)."""
        return self.plan.n_angles, self.plan.n_cols

    @property
    def slice_shape(self) -> tuple[int, int]:
        """(n_cols, n_cols)."""
        return self.plan.n_cols, self.plan.n_cols

    def project(self, image: Array) -> Array:
        """Return the line integrals of a slice.

        Parameters
        ----------
        image : ndarray of float32, shape (n_cols, n_cols)
            Linear attenuation per pixel, [y, x].

        Returns
        -------
        ndarray of float32, shape (n_angles, n_cols)
            Sinogram.
        """
        sinogram = np.empty(self.sinogram_shape, dtype=np.float32)
        sinogram[self.plan.angle_order] = self.padded_rows(image)[:, : self.plan.n_cols]
        return sinogram

    def padded_rows(self, image: Array) -> Array:
        """Return the line integrals on padded rows, shape (n_angles, P), in the plan's order."""
        plan = self.plan
        grid = _unfold(_half_spectrum(image, plan), plan)
        rays = (self.spreading.T @ grid.ravel()).reshape(plan.n_angles, -1)
        rays = np.where(plan.flipped[:, None], rays.conj(), rays) * self.phase.conj()
        return np.asarray(fft_of(np).irfft(rays, n=plan.n_padded, axis=1))

    def back_project(self, sinogram: Array) -> Array:
        """Return the sum over angles of unfiltered rows: the adjoint of `project`.

        Parameters
        ----------
        sinogram : ndarray of float32, shape (n_angles, n_cols)
            Rows; zero beyond the detector.

        Returns
        -------
        ndarray of float32, shape (n_cols, n_cols)
            Slice.
        """
        plan = self.plan
        rows = np.zeros((plan.n_angles, plan.n_padded), dtype=np.float32)
        rows[:, : plan.n_cols] = sinogram[plan.angle_order]
        rays = fft_of(np).rfft(rows, axis=1) * (self.phase / np.float32(plan.n_padded))
        rays[:, [0, -1]] /= 2  # the engine's convention: the conjugate half repeats these
        rays = np.where(plan.flipped[:, None], rays.conj(), rays)
        grid = (self.spreading @ rays.ravel()).reshape(1, *plan.half_grid_shape)
        return np.asarray(to_images(fold(grid), plan)[0])


def make_projector(theta_rad: ArrayLike, n_cols: int, cor_px: float) -> Projector:
    """Plan projections of slices.

    Parameters
    ----------
    theta_rad : array_like of float, shape (n_angles,)
        Angles, radians.
    n_cols : int
        Detector columns.
    cor_px : float
        COR, unbinned detector pixels.

    Returns
    -------
    Projector
        Takes 200 bytes per angle and column.
    """
    plan = make_plan(theta_rad, n_cols)
    return Projector(plan, spreading_matrix(plan, slice(0, plan.n_angles)), _phase(plan, cor_px))


def about(projector: Projector, cor_px: float) -> Projector:
    """Return the projector of the same scan about another COR, which shares its matrix."""
    return replace(projector, phase=_phase(projector.plan, cor_px))


def _phase(plan: Plan, cor_px: float) -> NDArray[np.complex64]:
    cor = checked_cor(cor_px, 1)[0]
    turn = np.arange(plan.n_padded // 2 + 1) / plan.n_padded * cor
    return np.exp(2j * np.pi * (turn % 1)).astype(np.complex64)


def _half_spectrum(image: Array, plan: Plan) -> NDArray[np.complex64]:
    """Return the upper half of a slice's spectrum on the grid, ready for the kernel."""
    fft = fft_of(np)
    columns, rows = image_positions(plan.n_cols) % plan.n_grid
    correction = plan.correction.astype(np.float32)
    tall = np.zeros((plan.n_grid, plan.n_cols), dtype=np.float32)
    tall[rows] = image * correction[1][:, None] * correction[0]
    half = np.zeros((plan.n_grid // 2 + 1, plan.n_grid), dtype=np.complex64)
    half[:, columns] = fft.rfft(tall, axis=0)
    return np.asarray(fft.fft(half, axis=1))


def _unfold(half: NDArray[np.complex64], plan: Plan) -> NDArray[np.complex64]:
    """Continue the upper half of a spectrum into the margins of the half grid."""
    n_grid, top = plan.n_grid, plan.n_grid // 2
    lines = np.arange(-MARGIN, top + MARGIN + 1)
    whole = np.empty((len(lines), n_grid), dtype=np.complex64)
    for at, line in enumerate(lines):
        if 0 <= line <= top:
            whole[at] = half[line]
        else:  # the conjugate of the mirror image through the origin, in the middle of the columns
            mirror = half[-line if line < 0 else n_grid - line]
            whole[at, 0], whole[at, 1:] = mirror[0].conj(), mirror[:0:-1].conj()
    return np.concatenate([whole[:, -MARGIN:], whole, whole[:, :MARGIN]], axis=1)
