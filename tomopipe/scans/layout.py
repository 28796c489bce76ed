"""The layout of a file: where its reader finds frames, angles and instrument.

A new HDF5 layout is a reader that fills `Layout`, as in `dxchange.py` and `nxtomo.py`, and a row of
`LAYOUTS` in `hdf5_scan.py`; a new format is a row of `formats.py`.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import product
from math import isfinite
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from tomopipe.errors import ScanFaultError
from tomopipe.scans.datasets import Node, attribute_of, text_of
from tomopipe.scans.hdf5 import UNREADABLE
from tomopipe.scans.pixels import Frames, Pixels
from tomopipe.scans.stated_motion import Positions

if TYPE_CHECKING:
    import h5py

SAME_NUMBER = 0.01  # relative
_INSTRUMENT = "/measurement/instrument"
_RESOLUTION = f"{_INSTRUMENT}/detection_system/objective/resolution"
_MAGNIFICATION = f"{_INSTRUMENT}/detection_system/objective/magnification"
_PIXEL_SIZES = tuple(
    f"{_INSTRUMENT}/detector/{name}"
    for name in ("pixel_size", "pixel_size_x", "x_pixel_size", "actual_pixel_size_x")
)
# of the sample, y up
_HEIGHTS = tuple(
    f"{_INSTRUMENT}/sample_motor_stack/setup/{name}" for name in ("sample_y", "y", "sample_z", "z")
)
_DATES = "/process/acquisition/start_date", "/process/acquisition/end_date"
_ENERGY = f"{_INSTRUMENT}/monochromator/energy"
_DISTANCES = tuple(
    f"{_INSTRUMENT}/{name}"
    for name in (
        "detector_motor_stack/setup/z",
        "detector_motor_stack/setup/camera_distance",
        "camera_motor_stack/setup/camera_distance",
        "detector/distance",
    )
)
_UM = {
    f"{prefix}{unit}": factor
    for prefix, factor in {"": 1e6, "centi": 1e4, "milli": 1e3, "micro": 1.0, "nano": 1e-3}.items()
    for unit in ("meter", "meters", "metre", "metres")
} | {"m": 1e6, "cm": 1e4, "mm": 1e3, "nm": 1e-3}
_UM |= dict.fromkeys(("um", "µm", "μm", "micron", "microns"), 1.0)
_KEV = {
    **dict.fromkeys(("ev", "electronvolt", "electron_volt"), 1e-3),
    **dict.fromkeys(("kev", "kiloelectronvolt", "kiloelectron_volt"), 1.0),
    **dict.fromkeys(("MeV", "mev", "megaelectronvolt", "megaelectron_volt"), 1e3),
    "meV": 1e-6,  # of neutrons
    **dict.fromkeys(("j", "joule", "joules"), 1 / 1.602176634e-16),
}


@dataclass(frozen=True)
class StatedNumber:
    """A number and where it stands in the file."""

    value: float | None  # None: it cannot be used
    location: str
    fault: str = ""  # why not
    ratio: float = 1.0  # of the width of a pixel: its height to it


@dataclass(frozen=True)
class Quantity:
    """How a kind of number is read."""

    factors: Mapping[str, float]  # of units, as written or in lower case; none: units do not count
    guess: Callable[[float], float]  # the factor of a number without a unit


# Without a unit: the DXchange and NeXus standards have metres, beamlines write micrometres.
PIXEL_SIZE_UM = Quantity(_UM, lambda value: 1e6 if value < 1e-3 else 1.0)
# Without a unit: joule are tiny, keV small.
ENERGY_KEV = Quantity(
    _KEV, lambda value: 1e-3 if value > 1000 else _KEV["j"] if value < 1e-9 else 1.0
)
_MM = {unit: factor / 1e3 for unit, factor in _UM.items()}
DXCHANGE_DISTANCE_MM = Quantity(_MM, lambda _: 1.0)
NEXUS_DISTANCE_MM = Quantity(_MM, lambda _: 1e3)
_PLAIN = Quantity({}, lambda _: 1.0)


def read_numbers(file: "h5py.File") -> dict[str, Any]:
    """Read pixel size (in the sample), energy and distance of a DXchange file, by their keys."""
    root = Node("/", file)
    magnification = _read(root, _MAGNIFICATION, _PLAIN)
    sensor = first_usable([([root], name) for name in _PIXEL_SIZES], PIXEL_SIZE_UM)
    if sensor and sensor.value and magnification and magnification.value:
        sensor = replace(sensor, value=sensor.value / magnification.value)
    return {
        "pixel_size_um": first_usable([([root], _RESOLUTION)], PIXEL_SIZE_UM, sensor),
        "energy_kev": first_usable([([root], _ENERGY)], ENERGY_KEV),
        "distance_mm": first_usable([([root], name) for name in _DISTANCES], DXCHANGE_DISTANCE_MM),
        "height_mm": mean_height([([root], name) for name in _HEIGHTS]),
        **read_times([root], *_DATES),
    }


def mean_height(places: Iterable[tuple[Iterable[Node], str]]) -> float | None:
    """Return the height of the stage in mm, of many the mean: the first that can be read.

    Without a unit the number itself, as heights of one campaign are compared.
    """
    for node, name in ((node, name) for nodes, name in places for node in nodes):
        try:
            dataset = node.group[name]
            heights = np.ravel(np.asarray(dataset[()], dtype=float))
            factor = _MM.get(attribute_of(dataset, "units"), 1.0)
        except UNREADABLE:
            continue
        if heights.size and np.isfinite(heights).all():
            return float(heights.mean()) * factor
    return None


def read_times(nodes: Iterable[Node], start: str, end: str) -> dict[str, Any]:
    """Return the recorded times of a start and an end (ISO 8601), as far as they can be read.

    Without a zone they are taken for UTC: times of one campaign are compared.
    """
    result: dict[str, float] = {}
    keys = ("time_s", start), ("end_s", end)
    for node, (key, name) in product(nodes, keys):
        with suppress(*UNREADABLE):
            at = datetime.fromisoformat(text_of(node.group[name][()]))
            at = at if at.tzinfo else at.replace(tzinfo=UTC)
            result.setdefault(key, at.timestamp())
    return result


def first_usable(
    places: Iterable[tuple[Iterable[Node], str]],
    quantity: Quantity,
    last: StatedNumber | None = None,
) -> StatedNumber | None:
    """Return the first number that can be used, of groups and a name in each, else the first."""
    numbers = [_read(node, name, quantity) for nodes, name in places for node in nodes]
    present = [entry for entry in (*numbers, last) if entry is not None]
    return next((entry for entry in present if entry.value), next(iter(present), None))


def _read(node: Node, name: str, quantity: Quantity) -> StatedNumber | None:
    """Read an optional number and convert it; None on any error."""
    try:
        dataset = node.group[name]
        text = text_of(dataset[()])  # such as 0.65 um
        match = re.match(r"[-+.\d]+(e[-+]?\d+)?", text, re.IGNORECASE)
        end = match.end() if match else len(text)
        number, unit = float(text[:end]), text[end:].strip() or attribute_of(dataset, "units")
    except UNREADABLE:
        return None
    factors = quantity.factors
    has_unit = unit and factors
    factor = factors.get(unit, factors.get(unit.lower())) if has_unit else quantity.guess(number)
    if not isfinite(number) or number == 0:
        return None
    location = name if name.startswith("/") else node.below(name)
    if factor is None or number < 0:
        why = "below 0" if number < 0 else "a unit that is not known"
        return StatedNumber(None, location, f"{number:g}{unit and f' {unit}'} ({why})")
    value = number * float(factor)
    # y_pixel_size beside x_pixel_size
    of_height = re.sub(r"(?<![a-z])x(?![a-z])(?=[^/]*$)", "y", name)
    height = _read(node, of_height, quantity) if of_height != name else None
    return StatedNumber(value, location, ratio=(height.value or value) / value if height else 1.0)


Kind = Literal["flats", "darks"]
# kinds of frames, numbered as NXtomo does
PROJECTION, FLAT, DARK, INVALID = range(4)
# what a scan has fewer frames than
COUNTED = "in input.frames (if none is missing, correct it; select: yes counts from the first)"
KEYS: dict[Kind, int] = {"flats": FLAT, "darks": DARK}
_KEYS_OF_FRAMES = (-1, PROJECTION, FLAT, DARK)  # -1: of the alignment
_WORDS = {"projection": PROJECTION, "flat": FLAT, "dark": DARK, "invalid": INVALID}


@dataclass(frozen=True, eq=False)
class Layout:
    """Where the parts of a scan are."""

    file: "h5py.File | None"  # None: TIFF
    format: str  # DXchange, NXtomo, HDF5 (datasets that the configuration names) or TIFF
    projections: Frames  # without those marked as invalid
    location: str  # where they are, the same for scans recorded in the same way
    theta_deg: NDArray[np.float64] | None  # as found: any number of them, finite or not; None: none
    theta_location: str
    theta_listed: bool = False  # in a list apart from the frames, which may not fit to them
    theta_configured: bool = False  # in that of input.angles, which the reader has read
    height_mm: float | None = None  # of the stage
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
    is_spread: bool = False
    covered_deg: float | None = None  # of spread angles, by the list; None: nothing tells
    sample_positions: tuple[Positions, ...] = ()  # stated for each projection
    time_s: float | None = None  # of its start, since 1970 (UTC)
    end_s: float | None = None  # of its last frame
    # of a window: its first projection, and how many there are in all
    first: int = 0
    n_recorded: int = 0


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
    states_mirror: bool = False  # whether its file states the mirroring; else that of the scan


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


def axes_hint(axes: Sequence[str], *, last: bool = False) -> str:
    """Return a hint for the end of an error: the order of the axes may be another one.

    `last`: there are as many columns as angles.
    """
    if axes[0] == "angle":
        if last:
            return "; is the last axis that of the angles? Set input.axes: [col, row, angle]"
        return "; are the projections sinograms? Set input.axes: [row, angle, col]"
    return f"; is input.axes: [{', '.join(axes)}] right?"


def why_aborted(n_frames: int, n_expected: int, of_what: str) -> str:
    """Say that a scan was aborted, which has fewer frames than it should; "" if it has not."""
    return f"aborted: {n_frames} frames for {n_expected} {of_what}" * (n_frames < n_expected)


class Reader(Protocol):
    """An open file, or folder, of one format."""

    def layout(self) -> Layout:
        """Find projections, angles and instrument; a ScanError says why they cannot be used."""

    def references(self, kind: Kind) -> list[Reference]:
        """Find the flats or darks, in one dataset or several; or a ScanError says why not."""


def counted_keys(order: Sequence[str], n_frames: int) -> NDArray[np.int64]:
    """Return the kind of each frame by `input.frames`, "10 darks", ...; raise if there are more."""
    runs = [run.split() for run in order]
    kinds = np.array([_WORDS[word.removesuffix("s")] for _, word in runs], np.int64)
    keys = np.repeat(kinds, [int(number) for number, _ in runs])
    if len(keys) < n_frames:
        raise ScanFaultError(
            f"{n_frames} frames, input.frames counts {len(keys)}: correct it, for this scan alone "
            "in overrides"
        )
    return keys


def checked_keys(
    keys: NDArray[Any], n_frames: int, location: str, remedy: str
) -> NDArray[np.int64]:
    """Return keys, unknown ones as INVALID; raise if a frame has none."""
    if n_missing := int(np.count_nonzero(~np.isfinite(keys))):
        raise ScanFaultError(
            f"{location}: {n_missing} of {len(keys)} keys are no numbers, or were never written; "
            f"expected 0 to 3: {remedy}"
        )
    if len(keys) < n_frames:
        raise ScanFaultError(
            f"{location} has {len(keys)} keys for {n_frames} frames, expected one for each: "
            f"{remedy}"
        )
    return np.where(np.isin(keys, _KEYS_OF_FRAMES), keys, INVALID).astype(np.int64)


def frames_of_kind(
    kind: Kind, pixels: Pixels, keys: NDArray[np.int64], location: str
) -> list[Reference]:
    """Return the flats or darks that keys mark, in the order in which they were taken, if any."""
    index = np.flatnonzero(keys == KEYS[kind])
    n_before = np.cumsum(keys == PROJECTION)[index]
    result = Reference(Frames(pixels, index), location, n_before.astype(float))
    return [result] if len(index) else []


def invalid_frames(keys: NDArray[np.int64]) -> tuple[str, ...]:
    """Warn of frames that keys mark as invalid, if there are any."""
    n_invalid = int(np.count_nonzero(keys == INVALID))
    return (f"frames marked as invalid, and skipped: {n_invalid}",) if n_invalid else ()
