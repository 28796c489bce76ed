"""Result of the reader of a format, before any pixel is read."""

import os
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from tomopipe.scans.instrument import Found
from tomopipe.scans.pixels import Frames

Path = str | os.PathLike[str]
Kind = Literal["flats", "darks"]
NO_THETA = (
    "no theta in the file: try_recon derives the angles from the projections, or set input.angles"
)


@dataclass(frozen=True, eq=False)
class Layout:
    """Where the parts of a scan are.

    Attributes
    ----------
    format : str
        DXchange, NXtomo, HDF5 (datasets that the configuration names) or TIFF.
    projections : Frames
        The projections, without those marked as invalid.
    location : str
        Where they stand, the same for scans recorded in the same way.
    theta_deg : ndarray of float64 or None
        Angles as found, in degrees: any number of them, finite or not. None: there are none.
    theta_location : str
        Where the angles stand.
    theta_listed : bool
        Whether that is a list apart from the frames, which may not fit to them.
    pixel_size_um, energy_kev, distance_mm : Found or None
        Numbers of the instrument.
    missing_sources : tuple of str
        Files that belong to the scan and cannot be opened.
    warnings : tuple of str
        What was assumed.
    notes : tuple of str
        What else was found, the same for scans recorded in the same way.
    aborted : str
        Why frames are missing, and it is not known which, or "".
    """

    format: str
    projections: Frames
    location: str
    theta_deg: NDArray[np.float64] | None
    theta_location: str
    theta_listed: bool = False
    pixel_size_um: Found | None = None
    energy_kev: Found | None = None
    distance_mm: Found | None = None
    missing_sources: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    aborted: str = ""


@dataclass(frozen=True, eq=False)
class Reference:
    """Flats or darks in one file.

    Attributes
    ----------
    frames : Frames
        All of them, written or not.
    location : str
        Where they are.
    positions : ndarray of float64, shape (n_frames,)
        How many projections of the same file were taken before each; NaN where not known.
    """

    frames: Frames
    location: str
    positions: NDArray[np.float64]


def without_position(frames: Frames, location: str) -> Reference:
    """Return flats or darks whose time in the scan is not known."""
    return Reference(frames, location, np.full(len(frames.index), np.nan))


def how_to_name(kind: Kind) -> str:
    """Say what to do about flats or darks that are not there."""
    return f"set preprocess.{kind} to a file that has them, or to none"


class Reader(Protocol):
    """An open file, or folder, of one format."""

    def layout(self) -> Layout:
        """Find projections, angles and instrument.

        Raises
        ------
        ScanError
            If there are no projections, or what is there cannot be used.
        """

    def reference(self, kind: Kind) -> Reference:
        """Find the flats or darks.

        Raises
        ------
        ScanError
            If there are none, or they cannot be used.
        """
