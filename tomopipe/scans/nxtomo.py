"""NXtomo: one stack of frames whose image_key marks projections, flats, darks and invalid ones.

Groups are found by their NeXus class (attribute NX_class), not by their names, which differ from
facility to facility: at the ESRF the entry is `entry0000`, at Diamond `entry1/tomo_entry`. Frames
are read as a detector that is not mirrored would have recorded them: rows from top to bottom,
columns from left to right. A mirrored detector says so by a rotation of 180 degrees among its
transformations, or in `x_flipped` and `y_flipped`.

References
----------
.. [1] NXtomo, application definition, https://manual.nexusformat.org/classes/applications/NXtomo.html.
.. [2] NXtransformations, https://manual.nexusformat.org/classes/base_classes/NXtransformations.html.
.. [3] The ESRF's axes before NXtomo 2.0: x along the beam, z up; since then those of McStas: z
       along the beam, y up.
.. [4] nabu, pipeline/estimators.py: x_rotation_axis_pixel_position is "relative pos in pixels".
"""

import math
import re
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tomopipe.config import InputBlock
from tomopipe.errors import ScanError, ScanFaultError, some_of
from tomopipe.scans.angle_lists import DROPPED, is_angle, planned_frames, to_degrees
from tomopipe.scans.datasets import (
    NOT_RECOGNISED,
    Angles,
    Node,
    attribute_of,
    check_stack,
    degrees_of,
    find_angles,
    find_dataset,
    groups_below,
    list_in,
    need_dataset,
    text_in,
    unit_of,
    unless_configured,
    value_in,
    values_of,
)
from tomopipe.scans.hdf5 import UNREADABLE
from tomopipe.scans.layout import (
    ENERGY_KEV,
    KEYS,
    NEXUS_DISTANCE_MM,
    PIXEL_SIZE_UM,
    PROJECTION,
    Kind,
    Layout,
    Reference,
    checked_keys,
    first_usable,
    frames_of_kind,
    how_to_name,
    invalid_frames,
    mean_height,
    read_times,
    why_aborted,
)
from tomopipe.scans.pixels import Frames, Hdf5Pixels, MirroredPixels
from tomopipe.scans.stated_motion import Positions, read_positions

if TYPE_CHECKING:
    import h5py

_ENTRIES = ("NXentry", "NXsubentry")
_IDS = "NDArrayUniqueId"  # what areaDetector numbers frames by
_EXPOSURES, _SAME_EXPOSURE = "count_time", 0.02  # one for each frame; logarithm of their ratio
_DEEPEST = 4  # groups below an entry that are looked into
_CLASSES = ("NXtransformations", "NX_transformations")  # the second as the ESRF writes it
# what 180 degrees about x, y, z mirror: rows (upside down), columns (left is right)
_MCSTAS = ({"rows"}, {"columns"}, {"rows", "columns"})
_ESRF = ({"rows", "columns"}, {"rows"}, {"columns"})

_TURNED = (
    " turns the frames by 90 degrees, which is not undone: if the axis is horizontal in them, name "
    "the datasets in input.paths, with input.axes: [angle, col, row]"
)

#: A note: half acquisition, which the detector states.
STATED_HALF = "half acquisition, as the file says"
#: In a note: a COR hint, which may be another in each scan; its number.
HINT = re.compile(r"(?<=COR hint )(\S+) px.*?(?= \(not used\))")


def find_entries(file: "h5py.File", options: InputBlock) -> list[str]:
    """List the NXtomo entries of a file in order of name, or that which `input.entry` names."""
    name = "/" + (options.entry or "").strip("/")
    if name != "/" and _is_entry(file, name):
        return [name]
    groups = groups_below(Node("/", file), 2, most=math.inf)  # each may be a scan
    return sorted(node.path for node in groups if _is_tomo(node))


def _is_entry(file: "h5py.File", name: str) -> bool:
    """Tell whether a file has an NXtomo entry of this path."""
    import h5py

    try:
        group = file[name]
    except UNREADABLE:
        return False
    return isinstance(group, h5py.Group) and _is_tomo(Node(name, group))


class NxtomoReader:
    """An NXtomo entry of an open file: the only one of `entries`, or that of `input.entry`."""

    def __init__(self, file: "h5py.File", options: InputBlock, entries: list[str]) -> None:
        self._file, self._options = file, options
        entry, target = self._choose(entries)
        self._groups = [node := Node(entry, file[entry]), *groups_below(node, _DEEPEST)]
        # An entry within an entry: the beamline is described in the outer one.
        outer = entry.rpartition("/")[0]
        around = groups_below(Node(outer, file[outer]), _DEEPEST) if outer else []
        self._everywhere = [*self._groups, *around]
        self._detector, key = self._find_detector(entry, target)
        self._key_name = self._detector.below(key)
        self._name = self._detector.below(_signal_of(self._detector.group))
        data = need_dataset(file, self._name)
        check_stack(data)
        self._stored = Hdf5Pixels(data, file)
        mirrored, location, turned = set[str](), "", ""
        if options.mirrored == "file":
            mirrored, location, turned = _read_mirror(self._detector, node.group)
        self._warnings = (f"{turned}{_TURNED}",) if turned else ()
        self._notes = _read_notes(self._detector, mirrored, location, data.shape[2])
        # mirrored back where the detector mirrored them
        self._pixels = MirroredPixels(self._stored, mirrored) if mirrored else self._stored
        stated = values_of(need_dataset(file, self._key_name))
        remedy = "complete it in a copy of the file, or leave the scan out (`select: no`)"
        planned = checked_keys(stated, len(data), self._key_name, remedy)
        self._planned_keys = planned
        self._planned_index = self._placed(len(data))
        frame_index = np.arange(len(data)) if self._planned_index is None else self._planned_index
        # (n_frames,): kind of each frame that arrived; -1 (alignment) is none of the four
        self._keys: NDArray[np.int64] = planned[frame_index]

    def layout(self) -> Layout:
        """Find projections, angles and instrument."""
        index = np.flatnonzero(self._keys == PROJECTION)
        if not len(index):
            raise ScanFaultError(
                f"{self._key_name} marks no projection (0) in {self._name}: leave the scan out "
                "(`select: no`), or name its datasets in input.paths"
            )
        angles = Angles()
        with unless_configured(self._options):
            angles = self._theta_deg()
        numbers = np.cumsum(self._planned_keys == PROJECTION) - 1
        placed = self._planned_index
        listed = f"keys in {self._key_name}"
        aborted = why_aborted(len(self._keys), len(self._planned_keys), listed)
        sample, detector = _of(self._groups, "NXsample"), [self._detector]
        beam, mono = (_of(self._everywhere, f"NX{name}") for name in ("beam", "monochromator"))
        return Layout(
            file=self._file,
            format="NXtomo",
            projections=Frames(self._pixels, index),
            location=self._location_of(PROJECTION),
            theta_deg=angles.theta_deg,
            theta_location=angles.location,
            pixel_size_um=first_usable(
                [
                    (sample, "x_pixel_size"),
                    (detector, "x_magnified_pixel_size"),
                    (detector, "x_pixel_size"),
                ],
                PIXEL_SIZE_UM,
            ),
            energy_kev=first_usable([(beam, "incident_energy"), (mono, "energy")], ENERGY_KEV),
            distance_mm=first_usable(
                [(sample, "propagation_distance"), (detector, "distance")], NEXUS_DISTANCE_MM
            ),
            # z is up at the ESRF, y in McStas's axes
            height_mm=mean_height([(sample, f"{axis}_translation") for axis in "zy"]),
            **read_times(self._everywhere, "start_time", "end_time"),
            missing_sources=self._stored.missing_sources,
            warnings=(
                *angles.warnings,
                *invalid_frames(self._keys),
                *self._warnings,
                *self._other_exposures(),
            ),
            notes=self._notes,
            aborted=aborted if placed is None else "",  # else it is known which are missing
            n_planned=int(numbers[-1]) + 1,
            positions=None if placed is None else numbers[placed[index]],
            sample_positions=self._sample_positions(index, sample),
        )

    def references(self, kind: Kind) -> list[Reference]:
        """Find the flats or darks."""
        key = KEYS[kind]
        result = frames_of_kind(kind, self._pixels, self._keys, self._location_of(key))
        if not result:
            n_planned, n_frames = len(self._planned_keys), len(self._keys)
            if n := np.count_nonzero(self._planned_keys == key):
                aborted = why_aborted(n_frames, n_planned, f"keys in {self._key_name}")
                text = f"{aborted}, and none of the {n} {kind} ({key}) was written"
            else:
                text = f"{self._key_name} marks no {kind} ({key})"
            raise ScanFaultError(f"{text}; {how_to_name(kind)}")
        return [replace(reference, states_mirror=True) for reference in result]

    def _location_of(self, key: int) -> str:
        """Say where the frames of a kind are."""
        return f"{self._name} ({self._key_name.rpartition('/')[2]} {key})"

    def _theta_deg(self) -> Angles:
        """Return the angles of the projections, where they stand, and what was assumed."""
        is_projection = self._planned_keys == PROJECTION
        n_planned, n_projections = len(is_projection), int(np.count_nonzero(is_projection))
        unit = self._options.angle_unit
        if rotation := self._rotation():
            dataset, location = rotation
            angles, _, warnings, _ = degrees_of(dataset, unit)
        else:
            lengths = {n_planned, n_projections}
            angles, location, warnings, _ = find_angles(self._groups[0], lengths, unit)
        if angles is None:
            return Angles(None, "rotation_angle", warnings)
        if len(angles) == n_projections != n_planned:
            every = np.full(n_planned, np.nan)
            every[is_projection] = angles  # of the projections alone
            angles = every
        if self._planned_index is not None and len(angles) == n_planned:
            warnings = (*warnings, f"{DROPPED}{n_planned - len(self._keys)}")
            angles = angles[self._planned_index]
            is_projection = self._keys == PROJECTION
        n = min(len(angles), len(is_projection))
        # more angles than keys: those beyond are of frames that were never taken
        theta_deg = np.concatenate([angles[:n][is_projection[:n]], angles[n:]])
        return Angles(theta_deg, location, warnings)

    def _other_exposures(self) -> tuple[str, ...]:
        """Warn, at most once, of flats of another exposure than the projections."""
        times, keys = list_in(self._detector.group, _EXPOSURES), self._planned_keys
        if times is None or times.dtype.kind not in "uif" or len(times) != len(keys):
            return ()
        of_kind = [times[keys == key] for key in (PROJECTION, KEYS["flats"])]
        of_projections, of_flats = (float(np.median(t)) if t.size else 0.0 for t in of_kind)
        if not (0 < of_projections < math.inf and 0 < of_flats < math.inf):
            return ()
        off = math.log(of_flats / of_projections)
        if abs(off) < _SAME_EXPOSURE:
            return ()
        return (
            f"the flats of the file were exposed {of_flats / of_projections:.3g} times as long as "
            f"its projections ({self._detector.below(_EXPOSURES)}): unless frames are scaled to "
            f"their exposure, values are too {'large' if off > 0 else 'small'} by {abs(off):.2f} "
            "per line integral (preprocess.air_px, or preprocess.flats of the right exposure)",
        )

    def _sample_positions(
        self, index: NDArray[np.intp], sample: list[Node]
    ) -> tuple[Positions, ...]:
        """Return what the sample's translations state of each projection."""
        placed = self._planned_index
        selections = {
            len(index): np.arange(len(index)),
            len(self._planned_keys): index if placed is None else placed[index],
            len(self._keys): index,
        }
        return tuple(
            positions
            for node in sample
            for axis in "xyz"
            for name in [f"{axis}_translation"]
            for positions in read_positions(node.group, name, node.below(name), selections)
        )

    def _choose(self, entries: list[str]) -> tuple[str, str]:
        """Return the entry to read, and the path that is asked for: of it, or a detector in it."""
        target = "/" + (self._options.entry or "").strip("/")
        for name in entries:
            if target == name or target.startswith(f"{name}/"):
                return name, target
        if len(entries) == 1:
            return entries[0], ""
        listed = f"there are {some_of(entries, 8)}"
        if self._options.entry is None:
            raise ScanFaultError(
                f"{len(entries)} NXtomo entries; {listed}: set input.entry, or, for one scan each, "
                "campaign.scans: [{glob: PATTERN, entries: all}]"
            )
        raise ScanFaultError(f"no NXtomo entry {target} (input.entry); {listed}")

    def _find_detector(self, entry: str, target: str) -> tuple[Node, str]:
        """Return the group with frames and keys, and the name of the keys in it."""
        for nx_class in ("NXdetector", "NXdata"):
            keys = {
                node.path: (node, key)
                for node in _of(self._groups, nx_class)
                for key in ("image_key", "image_key_control")  # the second goes first
                if key in node.group
            }
            if target in keys:
                return keys[target]
            if len(keys) > 1:  # of instruments besides the camera
                images = {path: item for path, item in keys.items() if _has_images(item[0].group)}
                keys = images or keys
            if len(keys) > 1:
                raise ScanFaultError(
                    f"{len(keys)} {nx_class} groups with image_key in {entry}: "
                    f"{', '.join(sorted(keys))}; set input.entry to one of them"
                )
            if keys:
                return keys.popitem()[1]
        raise ScanFaultError(
            f"{entry} has no NXdetector with image_key (or groups lack NX_class); {NOT_RECOGNISED}"
        )

    def _rotation(self) -> "tuple[h5py.Dataset, str] | None":
        """Return the angles and where they stand, if there are any."""
        sample, data = (_of(self._groups, nx_class) for nx_class in ("NXsample", "NXdata"))
        candidates = [
            (node, "rotation_angle")
            for node in [*sample, *data, self._detector]
            if "rotation_angle" in node.group
        ]
        candidates += [(node, name) for node in data for name in _angles_of(node.group)]
        unusable: list[ScanError] = []
        for node, name in candidates:
            try:
                dataset = find_dataset(self._file, node.below(name))
            except ScanError as error:
                if name == "rotation_angle":
                    raise
                unusable.append(error)  # a link to a file that is not there; another may be
                continue
            if dataset is not None and dataset.size > 1:
                return dataset, node.below(name)
        if unusable:
            raise unusable[0]
        return None

    def _placed(self, n_frames: int) -> NDArray[np.intp] | None:
        """Return which planned frames arrived; None if all did, or if that is not known."""
        n_planned = len(self._planned_keys)
        if n_frames == n_planned:
            return None
        numbered = (list_in(node.group, _IDS) for node in self._groups)
        fitting = (ids for ids in numbered if ids is not None and len(ids) == n_frames)
        results = (planned_frames(ids, n_planned) for ids in fitting)
        return next((planned for planned in results if planned is not None), None)


def _of(nodes: list[Node], nx_class: str) -> list[Node]:
    """List the groups of a NeXus class."""
    return [node for node in nodes if node.nx_class == nx_class]


def _is_tomo(node: Node) -> bool:
    """Tell whether a group is declared an NXtomo, or has a detector with image_key."""
    if definition := text_in(node.group, "definition"):
        return definition == "NXtomo"
    if node.nx_class not in _ENTRIES:
        return False
    below = groups_below(node, 2)
    if any(inner.nx_class in _ENTRIES for inner in below):
        return False  # it is one of those
    return any(inner.nx_class == "NXdetector" and "image_key" in inner.group for inner in below)


def _signal_of(group: "h5py.Group") -> str:
    """Return the name of the frames in an NXdetector or NXdata."""
    signal = attribute_of(group, "signal")
    return signal if signal and signal in group else "data"


def _has_images(group: "h5py.Group") -> bool:
    """Tell whether the frames of a group are there, and more than a line each."""
    try:
        shape = getattr(group[_signal_of(group)], "shape", None) or ()
    except UNREADABLE:  # a link to a file that is not there
        return False
    return len(shape) > 2 and sum(n > 1 for n in shape[1:]) == 2


def _angles_of(group: "h5py.Group") -> list[str]:
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


def _read_mirror(detector: Node, entry: "h5py.Group") -> tuple[set[str], str, str]:
    """Read which axes a detector mirrored (`rows`, `columns`), and the location that states it.

    Third is the location of a turn about the beam by 90 degrees, or "".
    """
    mirrored, turned = set[str](), ""
    locations = []
    system = attribute_of(entry, "NeXus_Coordinate_System").lower()
    for node in groups_below(detector, 1):
        if node.nx_class not in _CLASSES:
            continue
        # The ESRF did not name it at first, and put gravity among the transformations.
        is_esrf = system == "esrf" or (not system and "gravity" in node.group)
        for axis, quarters, location in _rotations(node):
            changed = (_ESRF if is_esrf else _MCSTAS)[axis]
            if quarters % 2 == 0:
                mirrored ^= changed
                locations.append(location)
            elif len(changed) == 2:
                turned = location
    if not locations:  # before there were transformations
        for name, kind in (("x_flipped", "columns"), ("y_flipped", "rows")):
            if _number(detector.group, name):
                mirrored.add(kind)
                locations.append(detector.below(name))
    return mirrored, ", ".join(locations), turned


def _rotations(node: Node) -> list[tuple[int, int, str]]:
    """List the rotations by 90, 180 or 270 degrees: the axis, 0 to 2, quarters, and location."""
    results, group = [], node.group
    for name in group:
        value = _number(group, name)
        if value is None or attribute_of(group[name], "transformation_type") != "rotation":
            continue
        degrees = to_degrees(value, unit_of(group[name]))[0][0]
        vector = np.abs(np.asarray(group[name].attrs.get("vector", 0), dtype=float))
        along_axis = vector.shape == (3,) and vector.max() > 0.999 * vector.sum() > 0
        quarters = round(degrees / 90)
        if along_axis and quarters % 4 and abs(degrees - 90 * quarters) < 1:
            results.append((int(vector.argmax()), quarters, node.below(name)))
    return results


def _read_notes(detector: Node, mirrored: set[str], location: str, n_cols: int) -> tuple[str, ...]:
    """Return what else the file states, for people; `mirrored`, `location`: of `_read_mirror`."""
    notes = []
    if mirrored:
        sides = " and ".join(sorted(mirrored, reverse=True))
        notes.append(f"{sides} mirrored back, {location}")
    field_of_view = text_in(detector.group, "field_of_view").lower()
    if field_of_view == "half" or _number(detector.group, "half_acquisition"):
        notes.append(STATED_HALF)
    for name in ("x_rotation_axis_pixel_position", "estimated_cor_from_motor"):
        hint = _number(detector.group, name)
        if hint is not None:
            # not defined: nabu and tomoscan count from the middle of the frames as recorded [4]_
            cor_px = (n_cols - 1) / 2 + (-hint if "columns" in mirrored else hint)
            column = f" (column {cor_px:.1f} if from the middle, as nabu)"
            column *= 0 <= cor_px <= n_cols - 1
            notes.append(f"COR hint {hint:.1f} px{column} (not used), {detector.below(name)}")
            break
    return tuple(notes)


def _number(group: "h5py.Group", name: str) -> float | None:
    """Read an optional number or truth value; None on any error."""
    try:
        number = float(np.asarray(value_in(group, name)).item())
    except (TypeError, ValueError):
        return None
    return number if np.isfinite(number) else None
