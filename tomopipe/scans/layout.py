"""What the reader of a format finds before any pixel is read: where frames are, of which kinds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from tomopipe.errors import ScanError
from tomopipe.scans.formats import Path
from tomopipe.scans.instrument import StatedNumber
from tomopipe.scans.pixels import Frames, Pixels

Kind = Literal["flats", "darks"]
# kinds of frames, numbered as NXtomo does
PROJECTION, FLAT, DARK, INVALID = range(4)
# what a scan has fewer frames than
COUNTED = "in input.frames (if none is missing, correct it; select: yes counts from the first)"
KEYS: dict[Kind, int] = {"flats": FLAT, "darks": DARK}
_WORDS = {"projection": PROJECTION, "flat": FLAT, "dark": DARK, "invalid": INVALID}


@dataclass(frozen=True, eq=False)
class Layout:
    """Where the parts of a scan are."""

    path: str
    format: str  # DXchange, NXtomo, HDF5 (datasets that the configuration names) or TIFF
    projections: Frames  # without those marked as invalid
    location: str  # where they are, the same for scans recorded in the same way
    theta_deg: NDArray[np.float64] | None  # as found: any number of them, finite or not; None: none
    theta_location: str
    theta_listed: bool = False  # in a list apart from the frames, which may not fit to them
    theta_configured: bool = False  # in that of input.angles, which the reader has read
    pixel_size_um: StatedNumber | None = None
    energy_kev: StatedNumber | None = None
    distance_mm: StatedNumber | None = None
    missing_sources: tuple[str, ...] = ()  # files that belong to the scan and cannot be opened
    warnings: tuple[str, ...] = ()  # what was assumed
    notes: tuple[str, ...] = ()  # what else was found, the same for scans recorded alike
    aborted: str = ""  # why frames are missing, where it is not known which, or ""
    # How many projections were planned, 0: unknown. Where it is known which of them are missing:
    # (n_frames,), which these are, ascending.
    n_planned: int = 0
    positions: NDArray[np.intp] | None = None
    # Where the list is that has as many angles as were planned, if theta_deg is not of it. A range
    # without a list fits to any frames: spread over them it does not show what they cover, either.
    theta_counted: str = ""
    fits_any: bool = False
    is_spread: bool = False
    covered_deg: float | None = None  # of spread angles, by the list; None: nothing tells


@dataclass(frozen=True, eq=False)
class Reference:
    """Flats or darks in one file, written or not."""

    frames: Frames
    location: str
    # (n_frames,): projections of the same file before each; NaN: unknown
    positions: NDArray[np.float64]
    # Of images in a file beside that of the scan, by their name: how many of the scan's frames, of
    # any kind, come before. None: unknown.
    n_before: int | None = None
    states_mirror: bool = False  # its file says if frames are mirrored; else they are as the scan's


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


def counted_keys(order: Sequence[str], n_frames: int, path: Path) -> NDArray[np.int64]:
    """Return the kind of each frame by `input.frames`, "10 darks", ...; raise if there are more."""
    runs = [run.split() for run in order]
    kinds = np.array([_WORDS[word.removesuffix("s")] for _, word in runs], np.int64)
    keys = np.repeat(kinds, [int(number) for number, _ in runs])
    if len(keys) < n_frames:
        raise ScanError(
            f"{path}: {n_frames} frames, input.frames counts {len(keys)}: correct it, for this "
            "scan alone in overrides"
        )
    return keys


def frames_of_kind(
    kind: Kind, pixels: Pixels, keys: NDArray[np.int64], location: str
) -> list[Reference]:
    """Return the flats or darks that keys mark, in the order in which they were taken, if any."""
    index = np.flatnonzero(keys == KEYS[kind])
    occupied = np.cumsum(keys == PROJECTION)[index]
    result = Reference(Frames(pixels, index), location, occupied.astype(float))
    return [result] if len(index) else []


def invalid_frames(keys: NDArray[np.int64]) -> tuple[str, ...]:
    """Warn of frames that keys mark as invalid, if there are any."""
    n_invalid = int(np.count_nonzero(keys == INVALID))
    return (f"frames marked as invalid, and skipped: {n_invalid}",) if n_invalid else ()
