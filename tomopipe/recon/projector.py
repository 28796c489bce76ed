"""Projection of slices and its adjoint, for iterative reconstruction from few angles.

Both go through the same half grids as the engine, by one sparse matrix: a projection is a line
through the slice's spectrum (centre slice theorem). The object has to lie inside the slice. Slices
that are projected together share the reading of the matrix, half of the time.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tomopipe.arrays import fft_of
from tomopipe.recon.fbp import checked_cor
from tomopipe.recon.plan import MARGIN, Plan, image_positions, make_plan
from tomopipe.recon.portable import fold, spreading_matrix, to_images

Array = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Projector:
    """A scan's geometry as a linear map and its adjoint."""

    plan: Plan  # angles, columns and grid; its filter is not used
    # kernel weights, sparse (cells of the half grid, n_angles * n_bins); its transpose interpolates
    spreading: Any
    # (n_bins,) or (n_slices, 1, n_bins): moves the axis, or that of each slice, to 0
    phase: NDArray[np.complex64]

    @property
    def sinogram_shape(self) -> tuple[int, int]:
        """(n_angles, n_cols)."""
        return self.plan.n_angles, self.plan.n_cols

    @property
    def slice_shape(self) -> tuple[int, int]:
        """(n_cols, n_cols)."""
        return self.plan.n_cols, self.plan.n_cols

    def project(self, images: Array) -> Array:
        """Return the line integrals (..., n_angles, n_cols) of slices (..., n_cols, n_cols)."""
        sinograms = np.empty((*images.shape[:-2], *self.sinogram_shape), dtype=np.float32)
        sinograms[..., self.plan.angle_order, :] = self.padded_rows(images)[..., : self.plan.n_cols]
        return sinograms

    def padded_rows(self, images: Array) -> Array:
        """Return the line integrals on padded rows, (..., n_angles, P), in the plan's order."""
        plan, before = self.plan, images.shape[:-2]
        grids = _unfold(_half_spectra(images.reshape(-1, *self.slice_shape), plan), plan)
        rays = _multiply(self.spreading.T, grids).reshape(*before, plan.n_angles, -1)
        rays = np.where(plan.flipped[:, None], rays.conj(), rays) * self.phase.conj()
        return np.asarray(fft_of(np).irfft(rays, n=plan.n_padded, axis=-1))

    def back_project(self, sinograms: Array) -> Array:
        """Return the sum over angles of unfiltered rows: the adjoint of `project`.

        Rows (..., n_angles, n_cols), zero beyond the detector, give slices (..., n_cols, n_cols).
        """
        plan, before = self.plan, sinograms.shape[:-2]
        rows = np.zeros((*before, plan.n_angles, plan.n_padded), dtype=np.float32)
        rows[..., : plan.n_cols] = sinograms[..., plan.angle_order, :]
        rays = fft_of(np).rfft(rows, axis=-1) * (self.phase / np.float32(plan.n_padded))
        rays[..., [0, -1]] /= 2  # the engine's convention: the conjugate half repeats these
        rays = np.where(plan.flipped[:, None], rays.conj(), rays)
        grids = _multiply(self.spreading, rays.reshape(-1, *rays.shape[-2:]))
        images = to_images(fold(grids.reshape(-1, *plan.half_grid_shape)), plan)
        return np.asarray(images).reshape(*before, *self.slice_shape)


def make_projector(theta_rad: ArrayLike, n_cols: int, cor_px: float) -> Projector:
    """Plan projections of slices about a COR; takes 200 bytes per angle and column."""
    plan = make_plan(theta_rad, n_cols)
    spreading = spreading_matrix(plan, slice(0, plan.n_angles)).tocsr()
    return Projector(plan, spreading, _phase(plan, cor_px))


def about(projector: Projector, cor_px: ArrayLike) -> Projector:
    """Return the projector of the same scan about another COR, or one of each of several slices.

    It shares the matrix.
    """
    return replace(projector, phase=_phase(projector.plan, cor_px))


def _phase(plan: Plan, cor_px: ArrayLike) -> NDArray[np.complex64]:
    cor = checked_cor(cor_px, np.size(cor_px))
    cycles = np.arange(plan.n_padded // 2 + 1) / plan.n_padded * cor[:, None, None]
    phase = np.exp(2j * np.pi * (cycles % 1)).astype(np.complex64)
    return phase if np.ndim(cor_px) else phase[0, 0]


def _multiply(matrix: Any, vectors: NDArray[np.complex64]) -> NDArray[np.complex64]:
    """Multiply a real matrix with vectors (n_vectors, ...), all of them at once."""
    columns = np.ascontiguousarray(vectors.reshape(len(vectors), -1).T)
    products: NDArray[np.float32] = matrix @ columns.view(np.float32)
    return np.ascontiguousarray(products.view(np.complex64).T)


def _half_spectra(images: Array, plan: Plan) -> NDArray[np.complex64]:
    """Return the upper halves of slices' spectra on the grid, ready for the kernel."""
    fft, n_slices = fft_of(np), len(images)
    columns, rows = image_positions(plan.n_cols) % plan.n_grid
    correction = plan.correction.astype(np.float32)
    tall = np.zeros((n_slices, plan.n_grid, plan.n_cols), dtype=np.float32)
    tall[:, rows] = images * (correction[1][:, None] * correction[0])
    half = np.zeros((n_slices, plan.n_grid // 2 + 1, plan.n_grid), dtype=np.complex64)
    half[:, :, columns] = fft.rfft(tall, axis=1)
    return np.asarray(fft.fft(half, axis=2))


def _unfold(half: NDArray[np.complex64], plan: Plan) -> NDArray[np.complex64]:
    """Continue the upper halves of spectra into the margins of the half grid."""
    n_grid, top = plan.n_grid, plan.n_grid // 2
    grids = np.empty((len(half), *plan.half_grid_shape), dtype=np.complex64)
    inner = grids[:, :, MARGIN : MARGIN + n_grid]
    inner[:, MARGIN : MARGIN + top + 1] = half
    for line in (*range(-MARGIN, 0), *range(top + 1, top + MARGIN + 1)):
        # the conjugate of the mirror image through the origin, in the middle of the columns
        mirror = half[:, -line if line < 0 else n_grid - line]
        inner[:, line + MARGIN, 0] = mirror[:, 0].conj()
        inner[:, line + MARGIN, 1:] = mirror[:, :0:-1].conj()
    grids[:, :, :MARGIN] = inner[:, :, -MARGIN:]
    grids[:, :, MARGIN + n_grid :] = inner[:, :, :MARGIN]
    return grids
