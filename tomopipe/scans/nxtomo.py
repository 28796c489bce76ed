"""NXtomo: one stack of frames whose image_key marks projections, flats, darks and invalid ones.

Groups are found by their NeXus class (attribute NX_class), not by their names, which differ from
facility to facility: at the ESRF the entry is `entry0000`, at Diamond `entry1/tomo_entry`.

References
----------
.. [1] NXtomo, application definition, https://manual.nexusformat.org/classes/applications/NXtomo.html.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tomopipe.config import InputBlock
from tomopipe.errors import ScanError, some_of
from tomopipe.scans import nxdetector
from tomopipe.scans.angle_lists import DROPPED, planned_frames
from tomopipe.scans.datasets import (
    Angles,
    Path,
    check_stack,
    degrees_of,
    find_angles,
    find_dataset,
    list_in,
    need_dataset,
    unless_given,
    values_of,
)
from tomopipe.scans.dxchange import NOT_RECOGNISED
from tomopipe.scans.instrument import ENERGY_KEV, NEXUS_DISTANCE_MM, PIXEL_SIZE_UM, first_found
from tomopipe.scans.layout import (
    KEYS,
    PROJECTION,
    Kind,
    Layout,
    Reference,
    frames_of_kind,
    how_to_name,
    invalid_frames,
)
from tomopipe.scans.metadata import fewer_frames
from tomopipe.scans.nxdetector import angles_of, has_images
from tomopipe.scans.pixel_views import MirroredPixels
from tomopipe.scans.pixels import Frames, Hdf5Pixels
from tomopipe.scans.tree import class_of, groups_below, text_in

if TYPE_CHECKING:
    import h5py

_ENTRIES = ("NXentry", "NXsubentry")
_IDS = "NDArrayUniqueId"  # what areaDetector numbers frames by
_DEEPEST = 4  # groups below an entry that are looked into


def find_entries(file: "h5py.File") -> list[str]:
    """List the paths of the NXtomo entries of a file, in order of name."""
    return sorted(group.name for group in groups_below(file, 2) if _is_tomo(group))


def choose_entry(names: list[str], entry: str | None, path: Path) -> tuple[str, str]:
    """Return the entry to read, and the detector in it if one is named.

    `names` is from `find_entries`, `entry` one of them or the path of a detector in it; a ScanError
    lists them if there are several and none, or another, was asked for.
    """
    target = "/" + (entry or "").strip("/")
    for name in names:
        if target == name or target.startswith(f"{name}/"):
            return name, target[len(name) :]
    if len(names) == 1:
        return names[0], ""
    listed = f"there are {some_of(names, 8)}"
    if entry is None:
        raise ScanError(f"{path}: {len(names)} NXtomo entries; {listed}: set input.entry")
    raise ScanError(f"{path}: no NXtomo entry {target} (input.entry); {listed}")


class NxtomoReader:
    """The NXtomo entry of an open file: `entry` is one of `find_entries`.

    `detector` is the group of it to read, where several have frames and keys; "": the only one.
    """

    def __init__(
        self, file: "h5py.File", path: Path, known: InputBlock, entry: str, detector: str
    ) -> None:
        self._path, self._known = path, known
        self._groups = [file[entry], *groups_below(file[entry], _DEEPEST)]
        # An entry within an entry: the beamline is described in the outer one.
        outer = file[entry].parent
        around = [] if outer.name == "/" else groups_below(outer, _DEEPEST)
        self._everywhere = [*self._groups, *around]
        self._detector, key = self._find_detector(entry, entry + detector)
        self._key_name = f"{self._detector.name}/{key}"
        signal = nxdetector.signal_of(self._detector)
        self._name = f"{self._detector.name}/{signal}"
        # a group that is a link to another file has the name that it has there
        data = need_dataset(self._detector.file, self._name, path)
        check_stack(data, self._name, path)
        self._stored = Hdf5Pixels(data)
        mirrored, location = set[str](), ""
        if known.mirrored == "file":
            mirrored, location = nxdetector.read_mirror(self._detector, file[entry])
        self._notes = nxdetector.read_notes(self._detector, mirrored, location, data.shape[2])
        # mirrored back where the detector mirrored them
        self._pixels = MirroredPixels(self._stored, mirrored) if mirrored else self._stored
        keys = need_dataset(self._detector.file, self._key_name, path)
        planned = self._planned_keys = values_of(keys, self._key_name, path)
        if len(planned) < len(data):
            raise ScanError(
                f"{path}: {self._key_name} has {len(planned)} keys for {len(data)} frames, "
                "expected one for each: complete it in a copy of the file, or leave the scan out "
                "(`select: no`)"
            )
        self._planned_index = self._placed(len(data))
        frame_index = np.arange(len(data)) if self._planned_index is None else self._planned_index
        # (n_frames,): kind of each frame that arrived; -1 (alignment) is none of the four
        self._keys: NDArray[np.int64] = planned[frame_index].astype(np.int64)

    def layout(self) -> Layout:
        """Find projections, angles and instrument."""
        index = np.flatnonzero(self._keys == PROJECTION)
        if not len(index):
            raise ScanError(
                f"{self._path}: {self._key_name} marks no projection (0) in {self._name}: leave "
                "the scan out (`select: no`), or name its datasets in input.paths"
            )
        theta_deg, location, warnings = unless_given(self._known, self._theta_deg, (None, "", ()))
        numbers = np.cumsum(self._planned_keys == PROJECTION) - 1
        placed = self._planned_index
        aborted = ""
        if self._planned_index is None:  # it is not known which are missing
            n_planned = len(self._planned_keys)
            aborted = fewer_frames(len(self._keys), n_planned, f"keys in {self._key_name}")
        sample, detector = _of(self._groups, "NXsample"), [self._detector]
        beam, mono = (_of(self._everywhere, f"NX{name}") for name in ("beam", "monochromator"))
        return Layout(
            format="NXtomo",
            projections=Frames(self._pixels, index),
            location=self._location_of(PROJECTION),
            theta_deg=theta_deg,
            theta_location=location,
            pixel_size_um=first_found(
                [
                    (sample, "x_pixel_size"),
                    (detector, "x_magnified_pixel_size"),
                    (detector, "x_pixel_size"),
                ],
                PIXEL_SIZE_UM,
            ),
            energy_kev=first_found([(beam, "incident_energy"), (mono, "energy")], ENERGY_KEV),
            distance_mm=first_found(
                [(sample, "propagation_distance"), (detector, "distance")], NEXUS_DISTANCE_MM
            ),
            missing_sources=self._stored.missing_sources,
            warnings=warnings + invalid_frames(self._keys),
            notes=self._notes,
            aborted=aborted,
            n_planned=int(numbers[-1]) + 1,
            positions=None if placed is None else numbers[placed[index]],
        )

    def references(self, kind: Kind) -> list[Reference]:
        """Find the flats or darks."""
        key = KEYS[kind]
        result = frames_of_kind(kind, self._pixels, self._keys, self._location_of(key))
        if not result:
            raise ScanError(
                f"{self._path}: {self._key_name} marks no {kind} ({key}); {how_to_name(kind)}"
            )
        return [replace(reference, states_mirror=True) for reference in result]

    def _location_of(self, key: int) -> str:
        """Say where the frames of a kind are."""
        return f"{self._name} ({self._key_name.rpartition('/')[2]} {key})"

    def _theta_deg(self) -> Angles:
        """Return the angles of the projections, where they stand, and what was assumed."""
        is_projection = self._planned_keys == PROJECTION
        n_planned, n_projections = len(is_projection), int(np.count_nonzero(is_projection))
        unit = self._known.angle_unit
        result: Angles
        if rotation := self._rotation():
            result = degrees_of(*rotation, self._path, unit)
        else:
            result = find_angles(self._groups[0], {n_planned, n_projections}, unit)
        angles, location, warnings = result
        if angles is None:
            return None, "rotation_angle", warnings
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
        return theta_deg, location, warnings

    def _find_detector(self, entry: str, target: str) -> tuple["h5py.Group", str]:
        """Return the group with frames and keys, and the name of the keys in it."""
        for nx_class in ("NXdetector", "NXdata"):
            keys = {
                group.name: (group, key)
                for group in _of(self._groups, nx_class)
                for key in ("image_key", "image_key_control")  # the second goes first
                if key in group
            }
            if target in keys:
                return keys[target]
            if len(keys) > 1:  # of instruments besides the camera
                keys = {name: item for name, item in keys.items() if has_images(item[0])} or keys
            if len(keys) > 1:
                raise ScanError(
                    f"{self._path}: {len(keys)} {nx_class} groups with image_key in {entry}: "
                    f"{', '.join(sorted(keys))}; set input.entry to one of them"
                )
            if keys:
                return keys.popitem()[1]
        raise ScanError(
            f"{self._path}: {entry} has no NXdetector with image_key (or groups lack NX_class); "
            f"{NOT_RECOGNISED}"
        )

    def _rotation(self) -> tuple["h5py.Dataset", str] | None:
        """Return the angles and where they stand, if there are any."""
        sample, data = (_of(self._groups, nx_class) for nx_class in ("NXsample", "NXdata"))
        candidates = [
            (group, "rotation_angle")
            for group in [*sample, *data, self._detector]
            if "rotation_angle" in group
        ]
        candidates += [(group, name) for group in data for name in angles_of(group)]
        unusable: list[ScanError] = []
        for group, name in candidates:
            try:
                dataset = find_dataset(group.file, f"{group.name}/{name}", self._path)
            except ScanError as error:
                if name == "rotation_angle":
                    raise
                unusable.append(error)  # a link to a file that is not there; another may be
                continue
            if dataset is not None and dataset.size > 1:
                return dataset, f"{group.name}/{name}"
        if unusable:
            raise unusable[0]
        return None

    def _placed(self, n_frames: int) -> NDArray[np.intp] | None:
        """Tell which planned frames arrived; None if all did, or if that is not known."""
        n_planned = len(self._planned_keys)
        if n_frames == n_planned:
            return None
        numbered = (list_in(group, _IDS) for group in self._groups)
        fitting = (ids for ids in numbered if ids is not None and len(ids) == n_frames)
        results = (planned_frames(ids, n_planned) for ids in fitting)
        return next((planned for planned in results if planned is not None), None)


def _of(groups: list["h5py.Group"], nx_class: str) -> list["h5py.Group"]:
    """List the groups of a NeXus class."""
    return [group for group in groups if class_of(group) == nx_class]


def _is_tomo(group: "h5py.Group") -> bool:
    """Tell whether a group says that it is an NXtomo, or has a detector with image_key."""
    if definition := text_in(group, "definition"):
        return definition == "NXtomo"
    if class_of(group) not in _ENTRIES:
        return False
    below = groups_below(group, 2)
    if any(class_of(inner) in _ENTRIES for inner in below):
        return False  # it is one of those
    return any(class_of(inner) == "NXdetector" and "image_key" in inner for inner in below)
