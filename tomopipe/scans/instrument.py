"""Pixel size, photon energy and distance, from where beamlines write them, in their units."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from math import isfinite
from typing import TYPE_CHECKING, Any

from tomopipe.scans.datasets import attribute_of, text_of
from tomopipe.scans.hdf5 import UNREADABLE

if TYPE_CHECKING:
    import h5py

_INSTRUMENT = "/measurement/instrument"
_RESOLUTION = f"{_INSTRUMENT}/detection_system/objective/resolution"
_MAGNIFICATION = f"{_INSTRUMENT}/detection_system/objective/magnification"
_PIXEL_SIZES = tuple(
    f"{_INSTRUMENT}/detector/{name}"
    for name in ("pixel_size", "pixel_size_x", "x_pixel_size", "actual_pixel_size_x")
)
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
    """Read pixel size, energy and distance of a DXchange file, each a `StatedNumber`, by its key.

    The size of a pixel is that in the sample: that of the sensor is divided by the magnification,
    if there is one. None where there is no such number; one that is below 0, or whose unit is not
    known, has no value.
    """
    magnification = _read(file, _MAGNIFICATION, _PLAIN)
    sensor = first_usable([([file], name) for name in _PIXEL_SIZES], PIXEL_SIZE_UM)
    if sensor and sensor.value and magnification and magnification.value:
        sensor = replace(sensor, value=sensor.value / magnification.value)
    return {
        "pixel_size_um": _first_usable([_read(file, _RESOLUTION, PIXEL_SIZE_UM), sensor]),
        "energy_kev": first_usable([([file], _ENERGY)], ENERGY_KEV),
        "distance_mm": first_usable([([file], name) for name in _DISTANCES], DXCHANGE_DISTANCE_MM),
    }


def first_usable(
    places: Iterable[tuple[Iterable["h5py.Group"], str]], quantity: Quantity
) -> StatedNumber | None:
    """Return the first number that can be used, of groups and a name in each, else the first."""
    return _first_usable(
        _read(group, name, quantity) for groups, name in places for group in groups
    )


def _first_usable(numbers: Iterable[StatedNumber | None]) -> StatedNumber | None:
    """Return the first number with a value, else the first one."""
    there = [entry for entry in numbers if entry is not None]
    return next((entry for entry in there if entry.value), next(iter(there), None))


def _read(group: "h5py.Group", name: str, quantity: Quantity) -> StatedNumber | None:
    """Read one number and convert it; None whatever goes wrong: nothing depends on it."""
    try:
        dataset = group[name]
        number, unit = _number_and_unit(text_of(dataset[()]))
        unit = unit or attribute_of(dataset, "units")
    except UNREADABLE:
        return None
    has_unit = unit and quantity.factors
    factors = quantity.factors
    factor = factors.get(unit, factors.get(unit.lower())) if has_unit else quantity.guess(number)
    if not isfinite(number) or number == 0:
        return None
    location = name if name.startswith("/") else f"{group.name}/{name}"
    if factor is None or number < 0:
        why = "below 0" if number < 0 else "a unit that is not known"
        return StatedNumber(None, location, f"{number:g}{unit and f' {unit}'} ({why})")
    value = number * float(factor)
    height = _read(group, of_height, quantity) if (of_height := _name_of_height(name)) else None
    return StatedNumber(value, location, ratio=(height.value or value) / value if height else 1.0)


def _name_of_height(name: str) -> str:
    """Name what says of y what a dataset says of x, as y_pixel_size; "" if it is not of x."""
    folder, slash, last = name.rpartition("/")
    other = re.sub("(?<![a-z])x(?![a-z])", "y", last)
    return f"{folder}{slash}{other}" if other != last else ""


def _number_and_unit(text: str) -> tuple[float, str]:
    """Divide "0.65 um"; the unit may be missing."""
    number = re.match(r"[-+.\d]+(e[-+]?\d+)?", text, re.IGNORECASE)
    end = number.end() if number else len(text)
    return float(text[:end]), text[end:].strip()
