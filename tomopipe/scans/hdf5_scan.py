"""HDF5 layouts: which one a file has, DXchange [1]_, and datasets named in the configuration.

References
----------
.. [1] F. De Carlo et al., J. Synchrotron Rad. 21, 1224-1230 (2014), doi:10.1107/S160057751401604X.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tomopipe.config import InputBlock
from tomopipe.config.blocks import PathsBlock
from tomopipe.errors import ScanFaultError
from tomopipe.scans import nxtomo
from tomopipe.scans.angle_lists import DROPPED, count_periods, planned_frames
from tomopipe.scans.datasets import (
    NOT_RECOGNISED,
    Angles,
    DatasetEntry,
    Node,
    angles_unless_given,
    brief_tree,
    check_stack,
    datasets_in,
    degrees_of,
    find_angles,
    find_dataset,
    list_in,
    shown_axes,
    values_of,
)
from tomopipe.scans.formats import Path
from tomopipe.scans.hdf5 import UNREADABLE, open_hdf5
from tomopipe.scans.layout import (
    COUNTED,
    KEYS,
    PROJECTION,
    Kind,
    Layout,
    Reader,
    Reference,
    all_of,
    checked_keys,
    counted_keys,
    frames_of_kind,
    how_to_name,
    invalid_frames,
    read_numbers,
    without_position,
)
from tomopipe.scans.metadata import why_aborted
from tomopipe.scans.pixels import AXES, Frames, Hdf5Pixels, Pixels, images_of, transposed
from tomopipe.scans.stated_motion import Positions, is_position, read_positions

if TYPE_CHECKING:
    import h5py

DATA, THETA = "/exchange/data", "/exchange/theta"
_PLACES: dict[Kind, str] = {"flats": "/exchange/data_white", "darks": "/exchange/data_dark"}
# Written by the HDF5 plugin of EPICS areaDetector: where each frame went, its number, its time.
_LOCATIONS, _IDS, _TIMES = (
    f"/defaults/{name}" for name in ("HDF5FrameLocation", "NDArrayUniqueId", "NDArrayTimeStamp")
)


def open_reader(path: Path, options: InputBlock, stack: ExitStack) -> Reader:
    """Open an HDF5 file with the reader of its layout; `stack` closes it."""
    file = stack.enter_context(open_hdf5(path))
    if options.paths.data:
        return NamedReader(file, options)
    if tuple(options.axes) != AXES:
        if DATA not in file:
            raise ScanFaultError(
                f"input.axes: {', '.join(options.axes)} is for TIFF files, DXchange files, or "
                "datasets that input.paths names: set input.paths.data"
            )
        return NamedReader(file, options.model_copy(update={"paths": paths_of(file)}))
    if options.frames:
        raise ScanFaultError(
            "input.frames is for TIFF files, or datasets that input.paths names: set "
            "input.paths.data, or leave it out: the file says of what kind its frames are"
        )
    if "exchange" not in file and (entries := nxtomo.find_entries(file)):
        return nxtomo.NxtomoReader(file, options, entries)
    return DxchangeReader(file, options)


def references_in(path: Path, kind: Kind, options: InputBlock, stack: ExitStack) -> list[Reference]:
    """Find the flats or darks in an HDF5 file of their own: named, by layout, or its only stack."""
    target = getattr(options.paths, kind) or (options.paths.image_key and options.paths.data)
    file = stack.enter_context(open_hdf5(path))
    if target and target in file:
        return NamedReader(file, options).references(kind)
    if places(file, kind) or ("exchange" not in file and nxtomo.find_entries(file)):
        result = open_reader(path, InputBlock(mirrored=options.mirrored), stack).references(kind)
        is_turned = options.axes.index("row") > options.axes.index("col")
        return [_turned(part, kind, options.axes) for part in result] if is_turned else result
    datasets = datasets_in(file)
    stacks = [dataset.name for dataset in datasets if len(dataset.shape) == 3]
    images = [] if stacks else _images(datasets, kind)
    if "exchange" in file or (len(stacks) != 1 and not images):
        raise ScanFaultError(
            f"which dataset has the {kind}? It has {brief_tree(file)}; name it in "
            f"input.paths.{kind}"
        )

    def read(name: str) -> Reference:
        alone = InputBlock(paths=PathsBlock(**{kind: name}), axes=options.axes)
        (result,) = NamedReader(file, alone).references(kind)
        folder, _, number = name.rpartition("/")
        if name in stacks or not number.isdecimal():
            return result
        return replace(result, location=f"{folder}/", n_before=int(number))

    return [read(name) for name in images or stacks]


def _images(datasets: Sequence[DatasetEntry], kind: Kind) -> list[str]:
    """Name the only image of a kind, or all that a group has by number, in their order.

    nabu, of the ESRF, stores means of flats and darks by number: entry0000/flats/371 is the mean of
    flats of which frame 371 was the first.
    """
    names = [dataset.name for dataset in datasets if len(dataset.shape) == 2]
    names = [name for name in names if name.split("/")[-2] == kind] or names
    parts = [name.rpartition("/") for name in names]
    if len(names) < 2:
        return names
    is_set = len({folder for folder, *_ in parts}) == 1 and all(n.isdecimal() for *_, n in parts)
    return sorted(names, key=lambda name: int(name.rpartition("/")[2])) if is_set else []


def _turned(reference: Reference, kind: Kind, axes: Sequence[str]) -> Reference:
    """Return flats or darks of a file that is read by itself with the axes of the projections."""
    pixels = reference.frames.pixels
    if not isinstance(pixels, Hdf5Pixels):
        raise ScanFaultError(f"mirrored {kind}, and input.axes: name them in input.paths.{kind}")
    return replace(reference, frames=replace(reference.frames, pixels=images_of(pixels, axes)))


class NamedReader:
    """An open HDF5 file whose datasets the configuration names (`input.paths.data`)."""

    def __init__(self, file: "h5py.File", options: InputBlock) -> None:
        self._file, self._options, self._root = file, options, Node("/", file)

    def layout(self) -> Layout:
        """Find projections, angles and instrument."""
        index = np.flatnonzero(self._keys == PROJECTION)
        if not len(index):
            raise ScanFaultError(
                f"{self._stated_by} marks no projection (0); correct input.paths.image_key"
            )
        theta_deg, location, warnings, positions = angles_unless_given(
            self._options, lambda: self._theta_deg(len(index))
        )
        n_projections = int(np.count_nonzero(self._planned == PROJECTION))
        if theta_deg is not None and positions is not None:
            n_projections, theta_deg = len(theta_deg), theta_deg[positions]
        n_frames, n_planned = len(self._keys), len(self._planned)
        counted = COUNTED if self._options.frames else f"keys in {self._stated_by}"
        return Layout(
            file=self._file,
            format="HDF5",
            projections=Frames(self._data, index),
            location=self._data.name,
            theta_deg=theta_deg,
            theta_location=location,
            **read_numbers(self._file),
            missing_sources=self._stack.missing_sources,
            warnings=warnings + invalid_frames(self._keys),
            aborted=why_aborted(n_frames, n_planned, counted),
            n_planned=n_projections,
            positions=positions,
            sample_positions=self._sample_positions(index),
        )

    def _sample_positions(self, index: NDArray[np.intp]) -> tuple[Positions, ...]:
        """Return what the file states of the sample's position at each projection."""
        selections = {len(index): np.arange(len(index)), len(self._keys): index}
        names = [entry.name for entry in datasets_in(self._file, is_position)]
        results = (read_positions(self._file, name, name, selections) for name in names)
        return tuple(positions for each in results for positions in each)

    def references(self, kind: Kind) -> list[Reference]:
        """Find the flats or darks: a dataset of their own goes before keys."""
        if name := getattr(self._options.paths, kind):
            dataset = self._find(kind, 2, 3)
            order = images_of if dataset.ndim == 2 else transposed
            pixels = order(Hdf5Pixels(dataset, self._file), self._options.axes)
            return [without_position(pixels, name)]
        location = f"{self._stated_by} {KEYS[kind]}"
        result = frames_of_kind(kind, self._data, self._keys, location)
        if not result:
            missing = f"{location}: none" if self._stated_by else f"no {kind} are named"
            raise ScanFaultError(
                f"{missing}; the file has {brief_tree(self._file)}: set input.paths.{kind} to a "
                f"dataset of it, or {how_to_name(kind)}"
            )
        return result

    @cached_property
    def _data(self) -> Pixels:
        return transposed(self._stack, self._options.axes)

    @cached_property
    def _stack(self) -> Hdf5Pixels:
        return Hdf5Pixels(self._find("data", 3), self._file)

    @cached_property
    def _planned(self) -> NDArray[np.int64]:
        """The kind of each frame that was to be taken."""
        n_frames = self._data.shape[0]
        if self._options.frames:
            return counted_keys(self._options.frames, n_frames)
        if self._options.paths.image_key is None:
            return np.full(n_frames, PROJECTION)
        keys = values_of(self._find("image_key", 1))
        return checked_keys(keys, n_frames, self._stated_by, "correct input.paths.image_key")

    @property
    def _stated_by(self) -> str:
        """Where the kinds of the frames stand, "" if nowhere."""
        return "input.frames" if self._options.frames else self._options.paths.image_key or ""

    @property
    def _keys(self) -> NDArray[np.int64]:
        return self._planned[: self._data.shape[0]]

    def _theta_deg(self, n_projections: int) -> Angles:
        """Return the angles of the projections, where they stand, and what was assumed."""
        unit = self._options.angle_unit
        if self._options.paths.angles:
            result = degrees_of(self._find("angles", 1), unit)
        else:
            result = find_angles(self._root, {len(self._planned), n_projections}, unit)
        if result.theta_deg is None or len(result.theta_deg) != len(self._planned):
            return result
        return result._replace(theta_deg=result.theta_deg[self._planned == PROJECTION])

    def _find(self, key: str, *n_dims: int) -> "h5py.Dataset":
        """Return the dataset of a key of `input.paths`; axes of a list of length 1 do not count."""
        name = getattr(self._options.paths, key)
        dataset = find_dataset(self._file, name)
        if dataset is None:
            fault = f"no {name}"
        else:
            is_list = n_dims == (1,)
            used = max(1, sum(n != 1 for n in dataset.shape)) if is_list else dataset.ndim
            if used in n_dims and 0 not in dataset.shape:
                return dataset
            expected = " or ".join(f"{n}-D" for n in n_dims)
            fault = f"{name} has shape {dataset.shape}; expected {expected}, not empty"
            if key in KEYS:
                fault += f" ({how_to_name(key)})"
        raise ScanFaultError(
            f"{fault}; the file has {brief_tree(self._file)}: correct input.paths.{key}, for some "
            "scans only in overrides"
        )


class DxchangeReader(NamedReader):
    """An open DXchange file."""

    def __init__(self, file: "h5py.File", options: InputBlock) -> None:
        super().__init__(file, options.model_copy(update={"paths": PathsBlock()}))

    def layout(self) -> Layout:
        """Find projections, angles and instrument."""
        layout = super().layout()
        theta = THETA if THETA in self._file else layout.theta_location
        return replace(layout, format="DXchange", location=DATA, theta_location=theta)

    def references(self, kind: Kind) -> list[Reference]:
        """Find the flats or darks."""
        return [self._reference(kind, name) for name in places(self._file, kind) or [_PLACES[kind]]]

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
            result = find_angles(self._root, lengths, self._options.angle_unit)
            if result.theta_deg is None or len(result.theta_deg) == n_frames:
                return result
            return result._replace(theta_deg=result.theta_deg[of_data])
        result = degrees_of(theta, self._options.angle_unit)
        angles, _, warnings, _ = result
        if angles is None or len(angles) <= n_frames:
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

    def _of_data(self, n_frames: int) -> NDArray[np.bool_] | None:
        """Return which of all frames are projections; None if the file does not state it."""
        locations = _locations(self._file)
        of_data = None if locations is None else locations == DATA
        return None if of_data is None or np.count_nonzero(of_data) != n_frames else of_data

    @cached_property
    def _stack(self) -> Hdf5Pixels:
        data = find_dataset(self._file, DATA)
        if data is None:
            raise ScanFaultError(
                f"no {DATA} and no NXtomo entry; {NOT_RECOGNISED}; it has {brief_tree(self._file)}"
            )
        check_stack(data)
        return Hdf5Pixels(data, self._file)


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
