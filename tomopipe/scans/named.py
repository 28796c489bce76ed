"""HDF5 files of any layout: the configuration names the datasets (`input.paths`)."""

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tomopipe.config import InputBlock
from tomopipe.errors import ScanError
from tomopipe.scans.datasets import (
    Angles,
    Path,
    degrees_of,
    find_angles,
    find_dataset,
    unless_given,
)
from tomopipe.scans.instrument import read_distance_mm, read_energy_kev, read_pixel_size_um
from tomopipe.scans.layout import (
    COUNTED,
    KEYS,
    PROJECTION,
    Kind,
    Layout,
    Reference,
    counted_keys,
    frames_of_kind,
    how_to_name,
    invalid_frames,
    without_position,
)
from tomopipe.scans.metadata import fewer_frames
from tomopipe.scans.pixel_views import images_of, transposed
from tomopipe.scans.pixels import Frames, Hdf5Pixels, Pixels
from tomopipe.scans.tree import brief_tree

if TYPE_CHECKING:
    import h5py


class NamedReader:
    """An open HDF5 file whose datasets the configuration names (`known.paths.data`)."""

    def __init__(self, file: "h5py.File", path: Path, known: InputBlock) -> None:
        self._file, self._path, self._known = file, path, known

    def layout(self) -> Layout:
        """Find projections, angles and instrument."""
        index = np.flatnonzero(self._keys == PROJECTION)
        if not len(index):
            raise ScanError(
                f"{self._path}: {self._stated_by} marks no projection (0); correct "
                "input.paths.image_key"
            )
        theta_deg, location, warnings = unless_given(
            self._known, lambda: self._theta_deg(len(index)), (None, "", ())
        )
        n_frames, n_planned = len(self._keys), len(self._planned)
        counted = COUNTED if self._known.frames else f"keys in {self._stated_by}"
        return Layout(
            format="HDF5",
            projections=Frames(self._data, index),
            location=self._data.name,
            theta_deg=theta_deg,
            theta_location=location,
            pixel_size_um=read_pixel_size_um(self._file),
            energy_kev=read_energy_kev(self._file),
            distance_mm=read_distance_mm(self._file),
            missing_sources=self._stack.missing_sources,
            warnings=warnings + invalid_frames(self._keys),
            aborted=fewer_frames(n_frames, n_planned, counted),
            n_planned=int(np.count_nonzero(self._planned == PROJECTION)),
        )

    def references(self, kind: Kind) -> list[Reference]:
        """Find the flats or darks: a dataset of their own goes before keys."""
        if name := getattr(self._known.paths, kind):
            dataset = self._find(kind, (2, 3))
            order = images_of if dataset.ndim == 2 else transposed
            return [without_position(order(Hdf5Pixels(dataset), self._known.axes), name)]
        location = f"{self._stated_by} {KEYS[kind]}"
        result = frames_of_kind(kind, self._data, self._keys, location)
        if not result:
            missing = f"{location}: none" if self._stated_by else f"no {kind} are named"
            raise ScanError(
                f"{self._path}: {missing}; the file has {brief_tree(self._file)}: set "
                f"input.paths.{kind} to a dataset of it, or {how_to_name(kind)}"
            )
        return result

    @cached_property
    def _data(self) -> Pixels:
        return transposed(self._stack, self._known.axes)

    @cached_property
    def _stack(self) -> Hdf5Pixels:
        return Hdf5Pixels(self._find("data", (3,)))

    @cached_property
    def _planned(self) -> NDArray[np.int64]:
        """The kind of each frame that was to be taken."""
        n_frames = self._data.shape[0]
        if self._known.frames:
            return counted_keys(self._known.frames, n_frames, self._path)
        if self._known.paths.image_key is None:
            return np.full(n_frames, PROJECTION)
        keys = self._find("image_key", (1,))[()].astype(np.int64).ravel()
        if len(keys) < n_frames:
            raise ScanError(
                f"{self._path}: {self._known.paths.image_key} has {len(keys)} keys for {n_frames} "
                f"frames in {self._data.name}, expected one for each: correct input.paths.image_key"
            )
        return keys

    @property
    def _stated_by(self) -> str:
        """Where the kinds of the frames stand, "" if nowhere."""
        return "input.frames" if self._known.frames else self._known.paths.image_key or ""

    @property
    def _keys(self) -> NDArray[np.int64]:
        return self._planned[: self._data.shape[0]]

    def _theta_deg(self, n_projections: int) -> Angles:
        """Return the angles of the projections, where they stand, and what was assumed."""
        unit = self._known.angle_unit
        result: Angles
        if self._known.paths.angles:
            dataset = self._find("angles", (1,))
            result = degrees_of(dataset, str(dataset.name), self._path, unit)
        else:
            result = find_angles(self._file, {len(self._planned), n_projections}, unit)
        angles, location, warnings = result
        if angles is not None and len(angles) == len(self._planned):
            angles = angles[self._planned == PROJECTION]
        return angles, location, warnings

    def _find(self, key: str, n_dims: tuple[int, ...]) -> "h5py.Dataset":
        """Return the dataset of a key of `input.paths`; axes of a list of length 1 do not count."""
        name = getattr(self._known.paths, key)
        dataset = find_dataset(self._file, name, self._path)
        fault = f"no {name}"
        if dataset is not None:
            is_list = n_dims == (1,)
            used = max(1, sum(n != 1 for n in dataset.shape)) if is_list else dataset.ndim
            if used in n_dims and 0 not in dataset.shape:
                return dataset
            expected = " or ".join(f"{n}-D" for n in n_dims)
            fault = f"{name} has shape {dataset.shape}; expected {expected}, not empty"
            for kind in KEYS:
                if key == kind and 0 in dataset.shape:
                    fault = f"{name} has no frames; {how_to_name(kind)}"
        raise ScanError(
            f"{self._path}: {fault}; the file has {brief_tree(self._file)}: correct "
            f"input.paths.{key}, for some scans only in overrides"
        )
