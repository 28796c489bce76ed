"""DXchange [1]_: projections, flats, darks and angles in /exchange.

References
----------
.. [1] F. De Carlo et al., J. Synchrotron Rad. 21, 1224-1230 (2014), doi:10.1107/S160057751401604X.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tomopipe.config import InputBlock
from tomopipe.config.blocks import PathsBlock
from tomopipe.errors import ScanFaultError
from tomopipe.scans.angle_lists import BY_NAME, DROPPED, by_number, count_periods, planned_frames
from tomopipe.scans.datasets import (
    NOT_RECOGNISED,
    Angles,
    Node,
    brief_tree,
    check_stack,
    degrees_of,
    find_angles,
    find_dataset,
    list_in,
    parts_hint,
    shown_axes,
    unless_configured,
    value_in,
)
from tomopipe.scans.hdf5 import UNREADABLE
from tomopipe.scans.layout import (
    Kind,
    Layout,
    Reference,
    all_of,
    how_to_name,
    read_numbers,
    without_position,
)
from tomopipe.scans.pixels import ConstantPixels, Hdf5Pixels
from tomopipe.scans.stated_motion import named_positions

if TYPE_CHECKING:
    import h5py

MAIN = "/exchange"  # its group; others are /exchange_2 and the like
DATA, THETA = f"{MAIN}/data", f"{MAIN}/theta"
_PLACES: dict[Kind, str] = {"flats": "/exchange/data_white", "darks": "/exchange/data_dark"}
_ROTATION = "/process/acquisition/rotation"  # of tomoscan: what was planned, degrees
_DARK_LEVEL = "/process/acquisition/dark_fields/dark_field_value"  # of tomoscan
# Written by the HDF5 plugin of EPICS areaDetector: where each frame went, its number, its time.
_LOCATIONS, _IDS, _TIMES = (
    f"/defaults/{name}" for name in ("HDF5FrameLocation", "NDArrayUniqueId", "NDArrayTimeStamp")
)


class DxchangeReader:
    """An open DXchange file."""

    def __init__(self, file: "h5py.File", options: InputBlock) -> None:
        self._file, self._options = file, options

    def layout(self) -> Layout:
        """Find projections, angles and instrument."""
        file, data = self._file, find_dataset(self._file, DATA)
        if data is None:
            raise ScanFaultError(
                f"no {DATA} and no NXtomo entry; {NOT_RECOGNISED}; it has {brief_tree(file)}"
                f"{parts_hint(file)}"
            )
        check_stack(data)
        pixels, n_frames = Hdf5Pixels(data, file), len(data)
        missing_sources, angles = pixels.missing_sources, Angles()
        with unless_configured(self._options):
            angles = self._theta_deg(n_frames)
        theta_deg, location, warnings, positions = angles
        n_planned = n_frames
        if theta_deg is not None and positions is not None:
            n_planned, theta_deg = len(theta_deg), theta_deg[positions]
        return Layout(
            file=file,
            format="DXchange",
            projections=all_of(pixels),
            location=DATA,
            theta_deg=theta_deg,
            theta_location=THETA if THETA in file else location,
            **read_numbers(file),
            missing_sources=missing_sources,
            warnings=warnings,
            n_planned=n_planned,
            positions=positions,
            sample_positions=named_positions(file, {n_frames: np.arange(n_frames)}),
        )

    def references(self, kind: Kind) -> list[Reference]:
        """Find the flats or darks."""
        parts = places(self._file, kind)
        if kind == "darks" and (level := self._stated_dark(parts)):
            data = find_dataset(self._file, DATA)
            if data is not None:
                frame = ConstantPixels(Hdf5Pixels(data, self._file), _DARK_LEVEL, level)
                return [without_position(frame, f"{_DARK_LEVEL}, {level:g}")]
        return [self._reference(kind, name) for name in parts or [_PLACES[kind]]]

    def _stated_dark(self, parts: list[str]) -> float:
        """Return the level of all darks that stands for none, or for one of zeros; 0 if none."""
        level = _number_in(self._file, _DARK_LEVEL)
        if not 0 < level < np.inf:
            return 0.0
        is_zero = [
            _count_in(self._file, name) == 1 and not self._file[name][()].any() for name in parts
        ]
        return level if all(is_zero) else 0.0

    def _reference(self, kind: Kind, name: str) -> Reference:
        file, dataset = self._file, find_dataset(self._file, name)
        if dataset is None:
            raise ScanFaultError(
                f"no {name}; {how_to_name(kind)}. The file has {brief_tree(file)}: input.paths "
                "names other datasets"
            )
        if 0 in dataset.shape:
            raise ScanFaultError(f"{name} has no frames; {how_to_name(kind)}")
        check_stack(dataset, or_image=True)
        frames = all_of(Hdf5Pixels(dataset, file))
        locations = _locations(file) if kind == "flats" else None
        if locations is not None and np.count_nonzero(locations == name) == len(frames.index):
            n_before = np.cumsum(locations == DATA)[locations == name]
            return Reference(frames, name, n_before.astype(float))
        n_angles = _count_in(file, DATA) if DATA in file else np.nan
        before = {"pre": 0, "post": n_angles}.get(name.rpartition("_")[2], np.nan)
        return Reference(frames, name, np.full(len(frames.index), before))

    def _theta_deg(self, n_frames: int) -> Angles:
        """Read the planned angles, and which are of the frames, if the camera dropped others."""
        theta = find_dataset(self._file, THETA)
        if theta is None:
            # of the projections, or of all frames in a known order
            of_data = self._of_data(n_frames)
            of_data = np.ones(n_frames, bool) if of_data is None else of_data
            lengths = {n_frames, len(of_data)}
            result = find_angles(Node("/", self._file), lengths, self._options.angle_unit)
            if result.theta_deg is None:
                result = self._by_start_and_step(n_frames) or result
            elif len(result.theta_deg) != n_frames:
                return result._replace(theta_deg=result.theta_deg[of_data])
        else:
            result = degrees_of(theta, self._options.angle_unit)
        angles, _, warnings, _ = result
        if angles is not None and len(angles) == n_frames:
            return self._by_number(result)
        if angles is None or len(angles) < n_frames:
            return result
        parts = (DATA, *places(self._file, "flats"), *places(self._file, "darks"))
        n_all = sum(_count_in(self._file, name) for name in parts)
        if len(angles) == n_all and not _are_even(angles):
            of_data = self._of_data(n_frames)
            if of_data is None or len(of_data) != len(angles):
                raise ScanFaultError(
                    f"{THETA} has {len(angles)} angles, as many as there are "
                    f"projections ({n_frames}), flats and darks, and the file does not tell which "
                    "are of the projections: give these alone, input.angles"
                )
            return result._replace(theta_deg=angles[of_data])
        positions = _planned_frames(self._file, n_frames, len(angles))
        if positions is not None:
            warnings = (*warnings, f"{DROPPED}{len(angles) - n_frames}")
        return result._replace(warnings=warnings, positions=positions)

    def _by_start_and_step(self, n_frames: int) -> Angles | None:
        """Return the angles planned, by their first one and step; None without these."""
        names = "rotation_start", "rotation_step", "num_angles"
        start, step, number = (_number_in(self._file, f"{_ROTATION}/{name}") for name in names)
        if not np.isfinite([start, step]).all() or step == 0:
            return None
        n_planned = int(number) if n_frames <= number <= 2 * n_frames else n_frames
        location = f"{_ROTATION}/{names[0]}"
        warning = f"{BY_NAME}{location} and {names[1]}"
        theta_deg = np.asarray(start + step * np.arange(n_planned), np.float64)
        return Angles(theta_deg, location, (warning,))

    def _by_number(self, result: Angles) -> Angles:
        """Return angles by the numbers of as many frames, if the file has them."""
        angles, ids, locations = result.theta_deg, list_in(self._file, _IDS), _locations(self._file)
        if angles is None or ids is None or ids.dtype.kind not in "uif":
            return result
        located = locations is not None and len(locations) == len(ids)
        of_data = ids[locations == DATA] if located else ids
        theta_deg, warning = by_number(angles, of_data, ids)
        warnings = (*result.warnings, f"{_IDS}: {warning}") if warning else result.warnings
        return result._replace(theta_deg=theta_deg, warnings=warnings)

    def _of_data(self, n_frames: int) -> NDArray[np.bool_] | None:
        """Return which of all frames are projections; None if the file does not state it."""
        locations = _locations(self._file)
        of_data = None if locations is None else locations == DATA
        return None if of_data is None or np.count_nonzero(of_data) != n_frames else of_data


def find_inputs(file: "h5py.File") -> dict[str, dict[str, Any]]:
    """Return keys of `input` for each group that is a scan, as /exchange_2 and /scan_7/exchange.

    Each has projections (`data`), and flats or angles.
    """
    leaves = {"data": "data", "flats": "data_white", "darks": "data_dark", "angles": "theta"}
    result: dict[str, dict[str, Any]] = {}
    for name in sorted(file):
        for group in (f"/{name}", f"/{name}/exchange"):
            named = {key: f"{group}/{leaf}" for key, leaf in leaves.items()}
            paths = {key: path for key, path in named.items() if _ndim(file, path)}
            if len(paths) > 1 and _ndim(file, paths.get("data", "")) == 3:
                result[group] = {} if group == MAIN else {"paths": paths}
    return result


def _ndim(file: "h5py.File", name: str) -> int:
    """Return the number of dimensions of a dataset; 0 if there is none."""
    try:
        return file[name].ndim if name else 0
    except (AttributeError, *UNREADABLE):
        return 0


def places(file: "h5py.File", kind: Kind) -> list[str]:
    """Name the flats or darks of a file: one dataset, or those before and after the scan."""
    name = _PLACES[kind]
    parts = [name] if name in file else [f"{name}_pre", f"{name}_post"]
    present = [part for part in parts if part in file]
    return [part for part in present if _count_in(file, part)] or present


def paths_of(file: "h5py.File") -> PathsBlock:
    """Name the datasets of a file."""
    names = {kind: parts[0] for kind in _PLACES if len(parts := places(file, kind)) == 1}
    return PathsBlock(data=DATA, angles=THETA if THETA in file else None, **names)


def _number_in(file: "h5py.File", name: str) -> float:
    """Read an optional number; NaN where there is none."""
    value = np.ravel(value_in(file, name))
    return float(value[0]) if value.size and value.dtype.kind in "uif" else np.nan


def _count_in(file: "h5py.File", name: str) -> int:
    """Return the number of frames in a dataset; what cannot be opened counts as one."""
    try:
        shape = file[name].shape
        axes = shown_axes(shape)
    except (AttributeError, *UNREADABLE):
        return 1
    return shape[axes[0]] if len(axes) > 2 else 1


def _are_even(angles: NDArray[np.float64]) -> bool:
    """Tell whether steps are equal to a half; they are not where flats or darks were taken."""
    steps = np.diff(angles)
    return bool((np.abs(steps - np.median(steps)) < np.abs(np.median(steps)) / 2).all())


def _planned_frames(file: "h5py.File", n_frames: int, n_planned: int) -> NDArray[np.intp] | None:
    """Return which of the planned frames exist, from their numbers or their times."""
    locations = _locations(file)
    for name in (_IDS, _TIMES):
        values = list_in(file, name)
        if values is None:
            continue
        if locations is not None and len(locations) == len(values):
            values = values[locations == DATA]
        if len(values) != n_frames:
            continue
        ids = values if name == _IDS else count_periods(values)
        planned = None if ids is None else planned_frames(ids, n_planned)
        if planned is not None:
            return planned
    return None


def _locations(file: "h5py.File") -> NDArray[np.str_] | None:
    """Return the dataset that each frame went to, in the order in which they were taken."""
    values = list_in(file, _LOCATIONS)
    if values is None:
        return None
    texts = [v.decode(errors="replace") if isinstance(v, bytes) else str(v) for v in values]
    return np.array(["/" + text.strip("\0 /") for text in texts])
