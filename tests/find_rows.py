"""Rows of scans with a known COR, made in memory, for the tests of the finders."""

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tests.phantoms import make_phantom
from tomopipe.cor.collected_rows import Rows
from tomopipe.cor.curves import Curves
from tomopipe.cor.prepared import Prepared
from tomopipe.simulate.phantom import Phantom, project

THETA_180_DEG = np.linspace(0, 180, 181)


def rows_of(
    projections: NDArray, theta_deg: ArrayLike, *, n_kept: int = 3, pairs: bool = True
) -> Rows:
    """What try_recon would keep of projections (n_angles, n_rows, n_cols)."""
    theta_rad = np.deg2rad(np.asarray(theta_deg, float))
    n_rows, n_cols = projections.shape[1:]
    kept = np.unique(np.linspace(0, n_rows - 1, n_kept).round().astype(int))
    frames = np.zeros((0, 2), int)
    if pairs:
        off_180 = np.abs((theta_rad[0] + np.pi - theta_rad + np.pi) % (2 * np.pi) - np.pi)
        frames = np.array([[0, int(np.argmin(off_180))]])
    return Rows(
        sinograms=np.ascontiguousarray(projections[:, kept].swapaxes(0, 1)).astype(np.float32),
        row_index=kept,
        theta_rad=theta_rad,
        pairs=projections[frames].astype(np.float32).reshape(-1, 2, n_rows, n_cols),
        pair_theta_rad=theta_rad[frames],
        n_rows=n_rows,
    )


def curves_of(rows: Rows) -> Curves:
    """The curves of what try_recon kept."""
    return Curves(Prepared(rows))


def scan(
    cor_px: float,
    *,
    n_cols: int = 160,
    n_rows: int = 8,
    theta_deg: ArrayLike = THETA_180_DEG,
    phantom: Phantom | str = "rock",
    counts: float | None = None,
    seed: int = 0,
) -> NDArray[np.float32]:
    """Exact line integrals of a phantom, with the photon noise of a beam of `counts` per pixel."""
    if isinstance(phantom, str):
        phantom = make_phantom(phantom, n_cols, n_rows, seed)
    integrals = project(phantom, np.deg2rad(theta_deg), cor_px, n_rows, n_cols)
    if counts is None:
        return integrals
    beam = np.random.default_rng(seed).poisson(counts * np.exp(-integrals))
    return (-np.log(np.maximum(beam, 0.5) / counts)).astype(np.float32)


def growing_scan(
    cor_px: float,
    stop: float,
    *,
    theta_deg: ArrayLike = THETA_180_DEG,
    counts: float | None = None,
    across: bool = True,
) -> NDArray[np.float32]:
    """Line integrals of a rock that grows evenly to `stop` times its size, or along x only."""
    rock, projections = make_phantom("rock", 160, 8), []
    angles_deg = np.asarray(theta_deg, float)
    for i, at_deg in enumerate(angles_deg):
        along = 1 + (stop - 1) * i / (len(angles_deg) - 1)
        other = along if across else 1.0
        parts = (
            replace(
                part,
                x_px=part.x_px * along,
                y_px=part.y_px * other,
                semi_x_px=part.semi_x_px * along,
                semi_y_px=part.semi_y_px * other,
            )
            for part in rock.ellipsoids
        )
        grown = replace(rock, ellipsoids=tuple(parts))
        projections.append(scan(cor_px, theta_deg=[at_deg], phantom=grown, counts=counts, seed=i))
    return np.concatenate(projections)


def grid(n_cols: int, width_px: float = 30.0) -> NDArray[np.float64]:
    """Return a try grid about the middle, every 0.5 px."""
    return (n_cols - 1) / 2 + np.arange(-width_px, width_px + 0.25, 0.5)
