"""Pixel size and photon energy, where beamlines put them in DXchange files."""

from math import isfinite
from typing import TYPE_CHECKING, Any

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
_UM = {
    **dict.fromkeys(("m", "meter", "meters", "metre", "metres"), 1e6),
    **dict.fromkeys(("mm", "millimeter", "millimeters", "millimetre", "millimetres"), 1e3),
    **dict.fromkeys(("um", "µm", "μm", "micron", "microns", "micrometer", "micrometers"), 1.0),
    **dict.fromkeys(("micrometre", "micrometres"), 1.0),
    **dict.fromkeys(("nm", "nanometer", "nanometers", "nanometre", "nanometres"), 1e-3),
}
_KEV = {"ev": 1e-3, "kev": 1.0, "mev": 1e3}


def read_pixel_size_um(file: "h5py.File") -> float | None:
    """Read the size of a pixel in the sample, in micrometres.

    The first found of

    - `/measurement/instrument/detection_system/objective/resolution`, the size in the sample;
    - `/measurement/instrument/detector/pixel_size`, `pixel_size_x`, `x_pixel_size`,
      `actual_pixel_size_x`, divided by `detection_system/objective/magnification` if there is one
      (the size on the sensor; without a magnification it is taken as the size in the sample).

    The attribute `units` is honoured (m, mm, um, nm); without one a value below 1e-3 is in metres,
    as the DXchange standard has it, any other in micrometres, as beamlines write it.

    Returns
    -------
    float or None
        None if there is no such number, it is not positive, or its unit is not a length.
    """
    size_um = _in_unit(file, _RESOLUTION, _UM, lambda value: 1e6 if value < 1e-3 else 1.0)
    if size_um is not None:
        return size_um
    magnification = _in_unit(file, _MAGNIFICATION, {}, lambda _: 1.0, any_unit=True) or 1.0
    for name in _PIXEL_SIZES:
        size_um = _in_unit(file, name, _UM, lambda value: 1e6 if value < 1e-3 else 1.0)
        if size_um is not None:
            return size_um / magnification
    return None


def read_energy_kev(file: "h5py.File") -> float | None:
    """Read the photon energy, in keV, from `/measurement/instrument/monochromator/energy`.

    The attribute `units` is honoured (eV, keV, MeV); without one a value above 1000 is in eV.

    Returns
    -------
    float or None
        None if there is no such number, it is not positive, or its unit is not an energy.
    """
    return _in_unit(file, _ENERGY, _KEV, lambda value: 1e-3 if value > 1000 else 1.0)


def unit_of(dataset: "h5py.Dataset") -> str:
    """Return the attribute `units` in lower case; "" if there is none that can be read."""
    try:
        unit = dataset.attrs["units"]
        unit = unit.ravel()[0] if hasattr(unit, "ravel") else unit
        return (unit.decode() if isinstance(unit, bytes) else str(unit)).strip().lower()
    except Exception:  # a broken attribute must not cost a scan
        return ""


def _in_unit(
    file: "h5py.File", name: str, factors: dict[str, float], guess: Any, *, any_unit: bool = False
) -> float | None:
    """Read one positive number and convert it; None whatever goes wrong: nothing hangs on it."""
    try:
        dataset = file[name]
        value = dataset[()]
        value = value.ravel()[0] if hasattr(value, "ravel") else value
        number = float(value.decode() if isinstance(value, bytes) else value)
        unit = unit_of(dataset)
    except Exception:
        return None
    factor = guess(number) if any_unit or not unit else factors.get(unit)
    if factor is None or not isfinite(number) or number <= 0:
        return None
    return number * float(factor)
