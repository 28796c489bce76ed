"""What is scanned, and its shadows: solids of exact shapes, rasters finer than the detector."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tomopipe_lab.suite._kernels import add_shapes, gather, splat

Image = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class View:
    """How a sample is looked at.

    Attributes
    ----------
    theta_rad : ndarray of float, shape (n_angles,)
        True angles.
    cor_px : ndarray of float, shape (n_angles, n_rows)
        Column where the axis of the moving sample is projected, exact.
    swell : ndarray of float, shape (n_angles,)
        Size of the sample over its size at rest.
    height_px : ndarray of float, shape (n_rows,)
        Height of each row along the axis.
    n_cols : int
        Detector columns.
    """

    theta_rad: NDArray[np.float64]
    cor_px: NDArray[np.float64]
    swell: NDArray[np.float64]
    height_px: NDArray[np.float64]
    n_cols: int

    def __getitem__(self, part: tuple[NDArray[np.intp], NDArray[np.intp]]) -> "View":
        """Return the same view of some angles and some rows."""
        angles, rows = part
        return View(
            self.theta_rad[angles],
            self.cor_px[np.ix_(angles, rows)],
            self.swell[angles],
            self.height_px[rows],
            self.n_cols,
        )


class Sample(Protocol):
    """Something with a shadow."""

    def project(self, view: View) -> Image:
        """Return line integrals (n_angles, n_rows, n_cols), averaged over each pixel's width."""


@dataclass(frozen=True, eq=False)
class Solid:
    """Homogeneous shapes: `slice_at(height_px)` gives those of one slice (n, 7)."""

    slice_at: Callable[[float], NDArray[np.float64]]

    def project(self, view: View) -> Image:
        """Return exact line integrals (n_angles, n_rows, n_cols)."""
        lines = np.zeros((*view.cor_px.shape, view.n_cols), dtype=np.float32)
        cos, sin = np.cos(view.theta_rad), np.sin(view.theta_rad)
        for row, height_px in enumerate(view.height_px):
            shapes = np.ascontiguousarray(self.slice_at(float(height_px)))
            cor_px = np.ascontiguousarray(view.cor_px[:, row])
            add_shapes(lines[:, row], shapes, cos, sin, cor_px, view.swell)
        return lines


@dataclass(frozen=True, eq=False)
class Raster:
    """Images [y, x] of attenuation per pixel, `h_px` fine, about (x_px, y_px) from the axis."""

    image_at: Callable[[float], Image]
    h_px: float
    x_px: float
    y_px: float

    def project(self, view: View) -> Image:
        """Return line integrals (n_angles, n_rows, n_cols) of the raster."""
        stack = np.stack([self.image_at(float(z_px)) for z_px in view.height_px], axis=-1)
        reach = np.hypot(self.x_px, self.y_px) / self.h_px + 0.75 * len(stack)
        n_bins = 2 * int(np.ceil(reach)) + 4
        bins = np.zeros((len(view.theta_rad), n_bins, stack.shape[2]), dtype=np.float32)
        cos, sin = np.cos(view.theta_rad), np.sin(view.theta_rad)
        splat(stack, self.x_px, self.y_px, self.h_px, cos, sin, bins)
        lines = np.empty((*view.cor_px.shape, view.n_cols), dtype=np.float32)
        gather(bins, self.h_px, view.cor_px, view.swell, lines)
        return lines
