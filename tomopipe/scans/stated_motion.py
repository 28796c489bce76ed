"""Positions of the sample that a file states for each projection, and how far they change."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tomopipe.errors import ScanError, ScanFaultError
from tomopipe.scans.datasets import attribute_of, datasets_in, values_of
from tomopipe.scans.hdf5 import UNREADABLE

if TYPE_CHECKING:
    import h5py

MOVES = "the sample moves by "  # in each sentence
_MOST_PX, _MOST_UM = 1.0, 1.0  # the second without a pixel size
_STEADY = 0.9  # share of the whole way that a straight line covers, and least correlation with it
_SHIFTS = {"x_translation": (0, 1.0), "z_translation": (1, -1.0)}  # column right, row down
# such as sample_x, SampleY, z_translation
_NAME = re.compile(r"(?:^|sample)_?(?:top_?)?[xyz](?:_?(?:translation|position))?$", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class Positions:
    """Positions along one axis."""

    location: str
    values: NDArray[np.float64]  # (n_projections,)
    unit: str  # as the file has it, or ""


def named_positions(
    file: "h5py.File", selections: Mapping[int, NDArray[Any]]
) -> tuple[Positions, ...]:
    """Read what the file has by the names of positions of a sample, as `read_positions` does."""
    names = [entry.name for entry in datasets_in(file, _is_position)]
    results = (read_positions(file, name, name, selections) for name in names)
    return tuple(positions for each in results for positions in each)


def _is_position(path: str) -> bool:
    """Tell whether a dataset of numbers for each frame may be of the sample's position."""
    folder, _, name = path.rpartition("/")
    return bool(_NAME.search(name)) and "sample" in f"{folder}/{name}".lower()


def read_positions(
    group: "h5py.Group", name: str, location: str, selections: Mapping[int, NDArray[Any]]
) -> list[Positions]:
    """Read positions, at most one list of them; none on any error.

    `selections` has for each length that a list may have which of its numbers are of projections.
    """
    try:
        dataset = group[name]
        chosen = selections.get(int(getattr(dataset, "size", None) or 0))
        if chosen is None or dataset.dtype.kind not in "uif":
            return []
        values = values_of(dataset)[chosen].astype(np.float64)
        return [Positions(location, values, attribute_of(dataset, "units"))]
    except (ScanError, *UNREADABLE):
        return []


def describe_motion(
    positions: Iterable[Positions],
    used: NDArray[np.intp],
    pixel_size_um: float | None,
    um_of_units: Mapping[str, float],
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return sentences on stated motion by more than a pixel, and on motion in unknown pixels.

    `used` are the numbers of the projections in use.
    """
    in_px, in_units = [], []
    for item in positions:
        values = item.values[used[used < len(item.values)]]
        values = values[np.isfinite(values)]
        change = float(np.ptp(values)) if len(values) > 1 else 0.0
        if change == 0:
            continue
        to_um = _um_of(item, um_of_units)
        stated = f"{change:.4g} {item.unit or '(no unit)'}"
        if to_um is not None and pixel_size_um:
            size_px = change * to_um / pixel_size_um
            if size_px > _MOST_PX:
                in_px.append(_sentence(item, values, f"{size_px:.1f} px ({stated})"))
        elif to_um is None or change * to_um > _MOST_UM:
            lacks = "set input.pixel_size_um" if to_um else "its unit is not known"
            in_units.append(f"{_sentence(item, values, stated)} (in pixels: {lacks})")
    return tuple(in_px), tuple(in_units)


def shifts_px(
    positions: Iterable[Positions],
    used: NDArray[np.intp],
    pixel_size_um: float | None,
    pixel_ratio: float,
    um_of_units: Mapping[str, float],
) -> NDArray[np.float64]:
    """Return the shifts (n_used, 2) of columns and rows by x_translation and -z_translation.

    Less their medians, so that the COR is that of the usual position.
    """
    result, n_stated = np.zeros((len(used), 2)), 0
    for item in positions:
        axis, sign = _SHIFTS.get(item.location.rpartition("/")[2], (-1, 0.0))
        if axis < 0 or len(item.values) <= used[-1]:
            continue
        to_um, values = _um_of(item, um_of_units), item.values[used]
        fault = "set input.pixel_size_um" if not pixel_size_um else ""
        if to_um is None:
            fault = f"its unit {item.unit!r} is not known"
        elif n_bad := np.count_nonzero(~np.isfinite(values)):
            fault = f"{n_bad} of its values are not finite"
        if fault or not pixel_size_um:
            raise ScanFaultError(f"preprocess.shifts: stated: {item.location}: {fault}")
        size_um = pixel_size_um * (pixel_ratio if axis else 1)
        result[:, axis] = sign * (values - np.median(values)) * (to_um or 0) / size_um
        n_stated += 1
    if not n_stated:
        raise ScanFaultError(
            "preprocess.shifts: stated: expected x_translation or z_translation of the sample, one "
            "number for each projection; found none: name a text file, or leave it out"
        )
    return result


def without_shifts(sentences: Iterable[str]) -> tuple[str, ...]:
    """Return the sentences of `describe_motion` without those on shifts of the image."""
    names = tuple(f"/{name}: {MOVES}" for name in _SHIFTS)
    return tuple(text for text in sentences if not any(name in text for name in names))


def _um_of(item: Positions, um_of_units: Mapping[str, float]) -> float | None:
    return um_of_units.get(item.unit, um_of_units.get(item.unit.lower()))


def _sentence(item: Positions, values: NDArray[np.float64], size: str) -> str:
    """Say how far the sample moves, and whether it does so steadily."""
    way = abs(values[-1] - values[0]) / np.ptp(values)
    steady = way >= _STEADY and abs(np.corrcoef(values, np.arange(len(values)))[0, 1]) >= _STEADY
    name = item.location.rpartition("/")[2]
    helical = steady and not re.search(r"(?<![a-z])x(?![a-z])|X$", name)
    what = ", steadily: a helical scan, which is not supported?" if helical else ""
    return f"{item.location}: {MOVES}{size} during the projections{what}"
