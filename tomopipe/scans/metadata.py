"""Metadata of a scan, and whether it was aborted: the frames or angles that it lacks.

`incomplete` judges one scan by its metadata; `undersized` of `tomopipe.campaign.raw_files` compares
the size of its file with others of its series.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NO_ANGLES = "no angles: set input.angles: {start: 0, stop: 180}"  # a reason begins so
IN_ORDER = "`select: yes` in scans.tsv takes the frames in order, with the first of the angles"
_FEW = 0.01
_LISTED = 20  # ranges of numbers in a sentence


@dataclass(frozen=True, eq=False)
class Metadata:
    """What is known of a scan without reading its pixels."""

    format: str  # DXchange, NXtomo, HDF5 (datasets that the configuration names) or TIFF
    n_angles: int
    n_rows: int
    n_cols: int
    columns: tuple[int, int]  # first and last column in use, the last excluded
    chosen: NDArray[np.intp]  # numbers of the projections in use, 0-based, ascending
    dtype: str  # of the pixels, in the byte order of this machine
    theta_deg: NDArray[np.float64] | None  # as found: any number of them, finite or not; None: none
    theta_location: str  # where they, or those of their number, are in the file, or which list
    theta_listed: bool  # in a list apart from the frames, which may not fit to them
    axes: Sequence[str]  # input.axes
    covered_deg: float | None  # range of the angles, the last step included; None: nothing tells
    n_written: int  # leading projections that were really written, but for those not in use
    data_bytes: int  # projections x rows x columns x item size
    pixel_size_um: float | None  # in the sample: the width of a pixel
    pixel_ratio: float  # of its height to its width
    energy_kev: float | None  # of the photons
    distance_mm: float | None  # from sample to detector
    height_mm: float | None  # of the stage, if recorded
    aborted: str  # why frames of any kind are missing, or ""
    found: str  # what was found where, for people; equal for scans recorded in the same way
    warnings: tuple[str, ...]  # what was assumed
    stated_motion: tuple[str, ...] = ()  # of `warnings`: how far the sample moves, by the file


def axes_hint(axes: Sequence[str]) -> str:
    """Return a hint for the end of an error: the order of the axes may be another one."""
    if axes[0] == "angle":
        return "; are the projections sinograms? Set input.axes: [row, angle, col]"
    return f"; is input.axes: [{', '.join(axes)}] right?"


def why_aborted(n_frames: int, n_expected: int, of_what: str) -> str:
    """Say that a scan was aborted, which has fewer frames than it should; "" if it has not."""
    return f"aborted: {n_frames} frames for {n_expected} {of_what}" * (n_frames < n_expected)


def incomplete(metadata: Metadata) -> str:
    """Say why a scan lacks frames, or finite angles for them: the first reason; "" if complete."""
    reason = _fault_of_angles(metadata) or metadata.aborted
    if not reason and metadata.n_written < metadata.n_angles:
        return f"aborted: the first {metadata.n_written} of {metadata.n_angles} frames were written"
    return reason or NO_ANGLES * (metadata.theta_deg is None)


def _fault_of_angles(metadata: Metadata) -> str:
    n_angles, theta_deg, location = metadata.n_angles, metadata.theta_deg, metadata.theta_location
    if theta_deg is None:
        return ""
    if len(theta_deg) != n_angles:
        is_sinogram = len(theta_deg) == metadata.n_rows
        return _fault_of_number(metadata, theta_deg) + axes_hint(metadata.axes) * is_sinogram
    chosen = metadata.chosen
    if bad := chosen[~np.isfinite(theta_deg[chosen])].tolist():
        n = f"{len(bad)} of {n_angles}"
        return f"{location}: {n} angles not finite or not written{_without(bad, chosen)}"
    if n_angles > 1 and np.ptp(theta_deg) == 0:
        return f"{location}: all {n_angles} angles are {theta_deg[0]:g}"
    return ""


def _without(bad: list[int], chosen: NDArray[np.intp]) -> str:
    """Say how to use a scan without projections whose angles are unknown."""
    first = f", the first is {bad[0]}"
    if 2 * len(bad) >= len(chosen):
        return f"{first}: set input.angles to {{start: 0, stop: 180}}, or to a list"
    if len(runs_of(bad)) > _LISTED:
        return f"{first}: `select: yes` in scans.tsv leaves them out, or set input.angles"
    them = "it" if len(bad) == 1 else "them"
    return f": {skipping(bad)} leaves {them} out, or set input.angles"


def _fault_of_number(metadata: Metadata, theta_deg: NDArray[np.float64]) -> str:
    n_angles, location = metadata.n_angles, metadata.theta_location
    if len(theta_deg) > n_angles and not metadata.theta_listed:
        reason = why_aborted(n_angles, len(theta_deg), f"angles in {location}")
        # So few were dropped, or never taken: those who know can use the scan.
        few = len(theta_deg) - n_angles <= max(1, _FEW * n_angles)
        return reason + f"; {IN_ORDER}" * few
    remedy = f"set input.angles to {{start: 0, stop: 180}}, or to a file of {n_angles} lines"
    if metadata.theta_listed:
        remedy = "correct the list"
        remedy += ", unless the scan was aborted" if len(theta_deg) > n_angles else ""
    return (
        f"{location} has {len(theta_deg)} angles for {n_angles} frames, expected one for each: "
        f"{remedy}"
    )


def skipping(numbers: Sequence[int] | NDArray[np.intp]) -> str:
    """Return the option that skips projections of ascending numbers; many are cut short."""
    ranges = [
        str(first) if first == last else f"[{first}, {last}]" for first, last in runs_of(numbers)
    ]
    return f"input: {{skip_projections: [{listed(ranges)}]}}"


def runs_of(numbers: Sequence[int] | NDArray[np.intp]) -> list[tuple[int, int]]:
    """Return the first and the last of each run of neighbours among ascending numbers."""
    ordered = np.asarray(numbers)
    ends = np.flatnonzero(np.diff(ordered) != 1)
    starts = ordered[np.concatenate([[0], ends + 1])].tolist()
    lasts = ordered[np.concatenate([ends, [len(ordered) - 1]])].tolist()
    return list(zip(starts, lasts, strict=True))


def listed(ranges: Sequence[str]) -> str:
    """Join the first ranges of numbers for a sentence."""
    return ", ".join(ranges[:_LISTED]) + ", ..." * (len(ranges) > _LISTED)
