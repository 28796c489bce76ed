"""Opposing lines of a scan, 180 degrees apart: rows of projections, or rows of sinograms."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tomopipe.cor.angle_order import SortedAngles, opposing_rows
from tomopipe.cor.clean_rows import band_pass, bin_columns, finite, remove_zingers
from tomopipe.cor.rows_file import Rows


@dataclass(frozen=True, eq=False)
class OpposingLines:
    """Lines and their counterparts 180 degrees later, flipped left to right."""

    # (n_lines, n_cols): line i of both shows the same part of the sample, mirrored about the axis
    direct: NDArray[np.float32]
    flipped: NDArray[np.float32]
    group: NDArray[np.intp]  # (n_lines,): lines of one group vote together
    motion_px: float  # how far the rim may lie from where it is after exactly 180 degrees

    def binned(self, binning: int) -> "OpposingLines":
        """Average blocks of columns, from the left edge of the detector on both sides."""
        return OpposingLines(
            bin_columns(self.direct, binning),
            bin_columns(self.flipped[:, ::-1], binning)[:, ::-1],
            self.group,
            self.motion_px / binning,
        )

    def band(self, long_px: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Band-pass both sides from 1 px and remove what does not rotate; rounding becomes 0."""
        sides = []
        for lines in (self.direct, self.flipped):
            band = band_pass(lines, 1.0, long_px)
            rounding = 1e-5 * max(float(np.max(np.abs(lines))), 1e-12)
            sides.append(band if np.std(band) > rounding else np.zeros_like(band))
        direct, flipped = sides
        return remove_fixed(direct, flipped)

    @cached_property
    def fine(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Both sides with only fine structure, 1 to 6 px."""
        return self.band(6.0)


def subtract_counterparts(opposing: OpposingLines) -> OpposingLines:
    """Subtract from each line its counterpart before the flip, which removes fixed patterns.

    q(u) = p(u, t) - p(u, t + pi) is odd about the axis, q(2 cor - u) = -q(u): its counterpart is
    -q.
    """
    odd = opposing.direct - opposing.flipped[:, ::-1]
    return replace(opposing, direct=odd, flipped=-odd[:, ::-1])


def remove_fixed(
    direct: NDArray[np.float32], flipped: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Remove what lies in the same columns of both band-passed projections before the flip."""
    unflipped = flipped[:, ::-1]
    norm = np.sqrt(np.sum(direct.astype(float) ** 2) * np.sum(unflipped.astype(float) ** 2))
    if norm == 0 or np.sum(direct.astype(float) * unflipped) / norm < 0.5:
        return direct, flipped
    shared = np.where(
        direct * unflipped > 0, np.sign(direct) * np.minimum(np.abs(direct), np.abs(unflipped)), 0
    ).astype(np.float32)
    return direct - shared, (unflipped - shared)[:, ::-1]


def opposing_projections(rows: Rows, n_bands: int | None = None) -> OpposingLines | None:
    """Return the projection pairs 180 degrees apart to 1 px, else the nearest ones, or None.

    Each of `n_bands` groups holds its rows of all pairs; by default each pair has its own groups,
    up to 8 in all, of at least 8 rows.
    """
    if not (len(rows.pairs) and rows.pairs.shape[2]):
        return None
    # how far the rim moves between exactly 180 degrees and the angle of each pair
    excess_rad = np.diff(rows.pair_theta_rad, axis=1)[:, 0]
    motion_px = np.abs(excess_rad % (2 * np.pi) - np.pi) * rows.pairs.shape[3] / 2
    nearest = motion_px <= max(1.0, float(motion_px.min()))
    pairs = finite(rows.pairs[nearest])
    n_pairs, _, n_rows, n_cols = pairs.shape
    n_each = n_bands or min(max(1, 8 // n_pairs), max(1, n_rows // 8))
    band = np.arange(n_rows) * n_each // n_rows
    first = np.arange(n_pairs) * (0 if n_bands else n_each)
    lines = np.array([[remove_zingers(image) for image in pair] for pair in pairs])
    return OpposingLines(
        direct=lines[:, 0].reshape(-1, n_cols),
        flipped=lines[:, 1, :, ::-1].reshape(-1, n_cols),
        group=(first[:, None] + band).reshape(-1),
        motion_px=float(motion_px[nearest].max()),
    )


def opposing_sinograms(
    sinograms: list[NDArray[np.float32]], angles: SortedAngles, max_parts: int | None = None
) -> OpposingLines | None:
    """Return opposing rows of cleaned sinograms, grouped by sinogram and part, or None.

    By default there are about 8 groups in all, of at least 8 rows each.
    """
    most = max_parts or 8 // len(sinograms)
    direct: list[NDArray[np.float32]] = []
    flipped: list[NDArray[np.float32]] = []
    group: list[NDArray[np.intp]] = []
    for sinogram in sinograms:
        first, second = opposing_rows(sinogram, angles)
        if not len(first):
            return None
        n_parts = max(1, min(len(first) // 8, most))
        group.append(np.arange(len(first)) * n_parts // len(first) + n_parts * len(group))
        direct.append(first)
        flipped.append(second[:, ::-1])
    # An end that was extrapolated by half a step moves by up to step * n_cols / 4.
    motion_px = 0.0 if angles.reaches_180 else angles.step_rad * direct[0].shape[1] / 4
    return OpposingLines(
        np.concatenate(direct), np.concatenate(flipped), np.concatenate(group), motion_px
    )
