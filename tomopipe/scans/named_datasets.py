"""HDF5 files whose datasets have names: those of the configuration, or of a layout."""

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tomopipe.config import InputBlock
from tomopipe.errors import ScanFaultError
from tomopipe.scans.datasets import (
    Angles,
    Node,
    brief_tree,
    degrees_of,
    find_angles,
    find_dataset,
    unless_configured,
    values_of,
)
from tomopipe.scans.layout import (
    COUNTED,
    KEYS,
    PROJECTION,
    Kind,
    Layout,
    Reference,
    checked_keys,
    counted_keys,
    frames_of_kind,
    how_to_name,
    invalid_frames,
    read_numbers,
    why_aborted,
    without_position,
)
from tomopipe.scans.pixels import Frames, Hdf5Pixels, Pixels, images_of, transposed
from tomopipe.scans.stated_motion import named_positions

if TYPE_CHECKING:
    import h5py


class NamedReader:
    """An open HDF5 file whose datasets are named by `input.paths`, or a layout: `data` and others.

    `name` is that of the layout.
    """

    def __init__(self, file: "h5py.File", options: InputBlock, name: str = "HDF5") -> None:
        self._file, self._options, self._root = file, options, Node("/", file)
        self._name = name

    def layout(self) -> Layout:
        """Find projections, angles and instrument."""
        index = np.flatnonzero(self._keys == PROJECTION)
        if not len(index):
            raise ScanFaultError(
                f"{self._stated_by} marks no projection (0); correct input.paths.image_key"
            )
        angles = Angles()
        with unless_configured(self._options):
            angles = self._theta_deg(len(index))
        n_frames, n_planned = len(self._keys), len(self._planned)
        counted = COUNTED if self._options.frames else f"keys in {self._stated_by}"
        return Layout(
            file=self._file,
            format=self._name,
            projections=Frames(self._data, index),
            location=self._data.name,
            theta_deg=angles.theta_deg,
            theta_location=angles.location,
            **read_numbers(self._file),
            missing_sources=self._stack.missing_sources,
            warnings=angles.warnings + invalid_frames(self._keys),
            aborted=why_aborted(n_frames, n_planned, counted),
            n_planned=int(np.count_nonzero(self._planned == PROJECTION)),
            sample_positions=named_positions(
                self._file, {len(index): np.arange(len(index)), n_frames: index}
            ),
        )

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
