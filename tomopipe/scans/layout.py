"""Result of the reader of a format, before any pixel is read."""

import os
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from tomopipe.scans.instrument import Found
from tomopipe.scans.pixels import Frames, Pixels

Path = str | os.PathLike[str]
Kind = Literal["flats", "darks"]


@dataclass(frozen=True, eq=False)
class Layout:
    """Where the parts of a scan are."""

    format: str  # DXchange, NXtomo, HDF5 (datasets that the configuration names) or TIFF
    projections: Frames  # without those marked as invalid
    location: str  # where they are, the same for scans recorded in the same way
    theta_deg: NDArray[np.float64] | None  # as found: any number of them, finite or not; None: none
    theta_location: str
    theta_listed: bool = False  # in a list apart from the frames, which may not fit to them
    pixel_size_um: Found | None = None
    energy_kev: Found | None = None
    distance_mm: Found | None = None
    missing_sources: tuple[str, ...] = ()  # files that belong to the scan and cannot be opened
    warnings: tuple[str, ...] = ()  # what was assumed
    notes: tuple[str, ...] = ()  # what else was found, the same for scans recorded alike
    aborted: str = ""  # why frames are missing, where it is not known which, or ""
    # Where it is known which projections are missing: (n_frames,), which of the planned ones these
    # are, ascending; how many were planned; and which are missing, for people.
    places: NDArray[np.intp] | None = None
    n_planned: int = 0
    missing: str = ""


@dataclass(frozen=True, eq=False)
class Reference:
    """Flats or darks in one file, written or not."""

    frames: Frames
    location: str
    # (n_frames,): projections of the same file before each; NaN: unknown
    positions: NDArray[np.float64]


def all_of(pixels: Pixels) -> Frames:
    """Return all frames of a stack."""
    return Frames(pixels, np.arange(pixels.shape[0]))


def without_position(pixels: Pixels, location: str) -> Reference:
    """Return a stack of flats or darks whose time in the scan is not known."""
    return Reference(all_of(pixels), location, np.full(pixels.shape[0], np.nan))


def how_to_name(kind: Kind) -> str:
    """Say what to do about flats or darks that are not there."""
    unless = "if the projections are corrected already" if kind == "flats" else "for 0"
    return f"set preprocess.{kind} to a file that has them, or to none {unless}"


class Reader(Protocol):
    """An open file, or folder, of one format."""

    def layout(self) -> Layout:
        """Find projections, angles and instrument; a ScanError says why they cannot be used."""

    def references(self, kind: Kind) -> list[Reference]:
        """Find the flats or darks, in one dataset or several; or a ScanError says why not."""
