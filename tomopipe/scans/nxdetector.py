"""Frames of NeXus groups: what they are recorded over, and how they are mirrored.

Frames are read as a detector that is not mirrored would have recorded them: rows from top to
bottom, columns from left to right. A mirrored detector says so by a rotation of 180 degrees among
its transformations, or in `x_flipped` and `y_flipped`.

References
----------
.. [1] NXtransformations, https://manual.nexusformat.org/classes/base_classes/NXtransformations.html.
.. [2] The ESRF's axes before NXtomo 2.0: x along the beam, z up; since then those of McStas: z
       along the beam, y up.
.. [3] nabu, pipeline/estimators.py: x_rotation_axis_pixel_position is "relative pos in pixels".
"""

import re
from typing import TYPE_CHECKING

import numpy as np

from tomopipe.scans.angle_lists import is_angle, to_degrees
from tomopipe.scans.datasets import attribute_of, unit_of
from tomopipe.scans.hdf5 import UNREADABLE
from tomopipe.scans.tree import class_of, groups_below, text_in

if TYPE_CHECKING:
    import h5py

_CLASSES = ("NXtransformations", "NX_transformations")  # the second as the ESRF writes it
# what 180 degrees about x, y, z mirror: rows (upside down), columns (left is right)
_MCSTAS = ({"rows"}, {"columns"}, {"rows", "columns"})
_ESRF = ({"rows", "columns"}, {"rows"}, {"columns"})

#: In what `read_notes` says: a COR hint, which may be another in each scan; its number.
HINT = re.compile(r"(?<=COR hint )(\S+) px.*?(?= \(not used\))")


def signal_of(group: "h5py.Group") -> str:
    """Return the name of the frames in an NXdetector or NXdata."""
    signal = attribute_of(group, "signal")
    return signal if signal and signal in group else "data"


def has_images(group: "h5py.Group") -> bool:
    """Tell whether the frames of a group are there, and more than a line each."""
    try:
        shape = getattr(group[signal_of(group)], "shape", None) or ()
    except UNREADABLE:  # a link to a file that is not there
        return False
    return len(shape) > 2 and sum(n > 1 for n in shape[1:]) == 2


def angles_of(group: "h5py.Group") -> list[str]:
    """Name what the frames of an NXdata are taken over, if its unit or its name is of an angle."""
    plotted = attribute_of(group, "axes")
    names = [plotted, *sorted(name[:-8] for name in group.attrs if name.endswith("_indices"))]
    results = []
    for name in dict.fromkeys(filter(None, names)):
        try:
            unit = unit_of(group[name])
        except UNREADABLE:  # a link to a file that is not there, to be named, or nothing
            if group.get(name, getlink=True) is None:
                continue
            unit = ""
        if unit[:3] in ("deg", "rad") or (not unit and is_angle(name)):
            results.append(name)
    return results


def read_mirror(detector: "h5py.Group", entry: "h5py.Group") -> tuple[set[str], str]:
    """Read how a detector mirrored its frames; its NXentry may name the coordinate system.

    Returns what it mirrored, `rows` and `columns`, and where the file says so, or "".
    """
    mirrored = set[str]()
    locations = []
    system = attribute_of(entry, "NeXus_Coordinate_System").lower()
    for group in (below for below in groups_below(detector, 1) if class_of(below) in _CLASSES):
        # The ESRF did not name it at first, and put gravity among the transformations.
        is_esrf = system == "esrf" or (not system and "gravity" in group)
        for axis, location in _rotations_180(group):
            mirrored ^= (_ESRF if is_esrf else _MCSTAS)[axis]
            locations.append(location)
    if not locations:  # before there were transformations
        for name, kind in (("x_flipped", "columns"), ("y_flipped", "rows")):
            if _number(detector, name):
                mirrored.add(kind)
                locations.append(f"{detector.name}/{name}")
    return mirrored, ", ".join(locations)


def _rotations_180(group: "h5py.Group") -> list[tuple[int, str]]:
    """List the rotations by 180 degrees: the axis, 0 to 2, and where it stands."""
    results = []
    for name in group:
        value = _number(group, name)
        if value is None or attribute_of(group[name], "transformation_type") != "rotation":
            continue
        degrees = to_degrees(value, unit_of(group[name]))[0][0]
        vector = np.abs(np.asarray(group[name].attrs.get("vector", 0), dtype=float))
        along_axis = vector.shape == (3,) and vector.max() > 0.999 * vector.sum() > 0
        if along_axis and abs(abs(degrees) % 360 - 180) < 1:
            results.append((int(vector.argmax()), f"{group.name}/{name}"))
    return results


def read_notes(
    detector: "h5py.Group", mirrored: set[str], location: str, n_cols: int
) -> tuple[str, ...]:
    """Say what else the file states, for people; `mirrored`, `location` are from `read_mirror`."""
    notes = []
    if mirrored:
        sides = " and ".join(sorted(mirrored, reverse=True))
        notes.append(f"{sides} mirrored back, {location}")
    field_of_view = text_in(detector, "field_of_view").lower()
    if field_of_view == "half" or _number(detector, "half_acquisition"):
        notes.append("half acquisition, as the file says")
    for name in ("x_rotation_axis_pixel_position", "estimated_cor_from_motor"):
        hint = _number(detector, name)
        if hint is not None:
            column = _column_of_hint(hint, n_cols, "columns" in mirrored)
            notes.append(f"COR hint {hint:.1f} px{column} (not used), {detector.name}/{name}")
            break
    return tuple(notes)


def _column_of_hint(hint_px: float, n_cols: int, mirrored: bool) -> str:
    """Say which column a COR hint means, if it is one of the detector.

    NXdetector does not define the hint. nabu and tomoscan count from the middle of the frames as
    recorded, (N - 1)/2 [3]_; other writers have the column itself.
    """
    cor_px = (n_cols - 1) / 2 + (-hint_px if mirrored else hint_px)
    return f" (column {cor_px:.1f} if from the middle, as nabu)" * (0 <= cor_px <= n_cols - 1)


def _number(group: "h5py.Group", name: str) -> float | None:
    """Read one number or truth value; None whatever goes wrong: nothing depends on it."""
    try:
        number = float(np.asarray(group[name][()]).item())
    except UNREADABLE:
        return None
    return number if np.isfinite(number) else None
