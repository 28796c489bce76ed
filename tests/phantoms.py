"""Scans with known truth, for any test.

truth = write_scan(tmp_path / "sample_001.h5", cor_px=61.3)
truth.slice(2)          # true slice, (n_cols, n_cols), per pixel
truth.projections()     # true line integrals, (n_angles, n_rows, n_cols)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tomopipe.simulate.phantom import KINDS, Ellipsoid, Phantom, project
from tomopipe.simulate.simulated_scan import Beam, ScanFile, simulate_scan


@dataclass(frozen=True)
class Truth:
    """What a written scan shows."""

    path: Path
    cor_px: float
    theta_deg: NDArray[np.float64]  # of the frames in the file
    n_rows: int
    n_cols: int
    phantom: Phantom

    @property
    def theta_rad(self) -> NDArray[np.float64]:
        return np.deg2rad(self.theta_deg)

    def projections(self) -> NDArray[np.float32]:
        return project(self.phantom, self.theta_rad, self.cor_px, self.n_rows, self.n_cols)

    def slice(self, row: float) -> NDArray[np.float32]:
        return slice_truth(self.phantom, row, self.n_cols)

    def volume(self) -> NDArray[np.float32]:
        return np.stack([slice_truth(self.phantom, row, self.n_cols) for row in range(self.n_rows)])


def slice_truth(phantom: Phantom, row: float, n: int) -> NDArray[np.float32]:
    """The true slice at a detector row, averaged over each voxel.

    That is linear attenuation per pixel, (n, n), [y, x], with the axis at [n // 2 - 1, n // 2]; n
    is n_cols of the projections. The average along x is exact (chords of the ellipsoid cut at the
    voxel's borders); along y 8 lines per voxel are taken, along the axis the rule of `project`.
    """
    lines, left = (np.arange(8 * n) + 0.5) / 8 - 0.5 - (n // 2 - 1), np.arange(n) - 0.5
    image = np.zeros((8 * n, n))
    for x, y, centre_row, a, b, c, phi, mu in phantom.table():
        # The boundary: p u**2 + 2 q u v + r v**2 = 1 - height**2, (u, v) from the centre.
        cos, sin = np.cos(phi), np.sin(phi)
        p, q = (cos / a) ** 2 + (sin / b) ** 2, cos * sin * (a**-2 - b**-2)
        r = (sin / a) ** 2 + (cos / b) ** 2
        for node, weight in zip(*np.polynomial.legendre.leggauss(4), strict=True):
            height = (row + node / 2 - centre_row) / c
            root = (q * (lines - y)) ** 2 - p * (r * (lines - y) ** 2 - 1 + height**2)
            at = np.flatnonzero(root > 0)
            middle, half = n // 2 + x - q * (lines[at] - y) / p, np.sqrt(root[at]) / p
            ends = np.minimum(left + 1, (middle + half)[:, None])
            chords = ends - np.maximum(left, (middle - half)[:, None])
            image[at] += weight / 2 * mu * np.clip(chords, 0, None)
    return image.reshape(n, 8, n).mean(axis=1).astype(np.float32)


def sphere(
    x_px: float, y_px: float, row: float, radius_px: float, mu_per_px: float = 0.01
) -> Ellipsoid:
    """A bead at (x_px, y_px) from the axis, that is at voxel [y + n // 2 - 1, x + n // 2]."""
    return Ellipsoid(x_px, y_px, row, radius_px, radius_px, radius_px, 0.0, mu_per_px)


@cache
def make_phantom(kind: str = "rock", n_cols: int = 128, n_rows: int = 4, seed: int = 0) -> Phantom:
    """One of rock, foam, capillary; the same seed gives the same object."""
    return KINDS[kind](n_cols, n_rows, seed)


def write_scan(
    path: str | Path,
    *,
    cor_px: float | None = None,
    n_angles: int = 181,
    n_rows: int = 4,
    n_cols: int = 128,
    theta_deg: ArrayLike | None = None,
    counts: float | None = None,
    seed: int = 0,
    phantom: Phantom | Sequence[Ellipsoid] | str = "rock",
    write_theta: bool = True,
    n_frames: int | None = None,
    beam: dict[str, Any] | None = None,
    **options: Any,
) -> Truth:
    """Write a DXchange scan and return its truth.

    Parameters
    ----------
    cor_px : default 1.7 px right of the middle, (n_cols - 1) / 2.
    theta_deg : default linspace(0, 180, n_angles), ends included.
    counts : photons per pixel of the open beam; None: no noise and float32 counts.
    phantom : a kind, a Phantom, or its ellipsoids (`sphere`).
    write_theta : False leaves /exchange/theta out.
    n_frames : an aborted scan: only that many leading frames, theta complete.
    beam : more options of `Beam`: n_flats, n_darks (0: no dataset), dust, fixed_dust_px, ...
    options : dtype, chunks (False: contiguous), compression, pixel_size_um, energy_kev, n_written
        (frames really written; the rest of the dataset is never allocated).
    """
    if cor_px is None:
        cor_px = (n_cols - 1) / 2 + 1.7
    if theta_deg is None:
        theta_deg = np.linspace(0, 180, n_angles)
    angles_deg = np.asarray(theta_deg, dtype=np.float64)
    if isinstance(phantom, str):
        phantom = make_phantom(phantom, n_cols, n_rows, seed)
    elif not isinstance(phantom, Phantom):
        phantom = Phantom("test", tuple(phantom))
    options.setdefault("dtype", np.float32 if counts is None else np.uint16)
    simulate_scan(
        path,
        phantom,
        angles_deg,
        cor_px,
        (n_rows, n_cols),
        beam=Beam(**{"counts": counts, "n_flats": 3, "n_darks": 3, **(beam or {})}),
        seed=seed,
        file=ScanFile(write_theta=write_theta, n_frames=n_frames, **options),
    )
    return Truth(Path(path), cor_px, angles_deg[:n_frames], n_rows, n_cols, phantom)
