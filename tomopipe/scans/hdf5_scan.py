"""HDF5 layouts: which one a file has (DXchange, NXtomo), or datasets named in the configuration."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tomopipe.config import InputBlock
from tomopipe.config.blocks import PathsBlock
from tomopipe.errors import ScanError
from tomopipe.scans import dxchange, nxtomo
from tomopipe.scans.datasets import (
    Angles,
    DatasetEntry,
    angles_unless_given,
    brief_tree,
    datasets_in,
    degrees_of,
    find_angles,
    find_dataset,
)
from tomopipe.scans.hdf5 import open_hdf5
from tomopipe.scans.layout import (
    COUNTED,
    KEYS,
    PROJECTION,
    Kind,
    Layout,
    Path,
    Reader,
    Reference,
    counted_keys,
    frames_of_kind,
    how_to_name,
    invalid_frames,
    read_numbers,
    without_position,
)
from tomopipe.scans.metadata import fewer_frames
from tomopipe.scans.pixels import AXES, Frames, Hdf5Pixels, Pixels, images_of, transposed

if TYPE_CHECKING:
    import h5py


def open_reader(path: Path, options: InputBlock, stack: ExitStack) -> Reader:
    """Open an HDF5 file with the reader of its layout; `stack` closes it."""
    file = stack.enter_context(open_hdf5(path))
    if options.paths.data:
        return NamedReader(file, options)
    if tuple(options.axes) != AXES:
        if dxchange.DATA not in file:
            raise ScanError(
                f"{path}: input.axes: {', '.join(options.axes)} is of TIFF files, DXchange files, "
                "or datasets that input.paths names: set input.paths.data"
            )
        return NamedReader(file, options.model_copy(update={"paths": dxchange.paths_of(file)}))
    if options.frames:
        raise ScanError(
            f"{path}: input.frames is of TIFF files, or datasets that input.paths names: set "
            "input.paths.data, or leave it to the file, which says of what kind its frames are"
        )
    if "exchange" not in file and (entries := nxtomo.find_entries(file)):
        return nxtomo.NxtomoReader(file, options, entries)
    return dxchange.DxchangeReader(file, options)


def references_in(path: Path, kind: Kind, options: InputBlock, stack: ExitStack) -> list[Reference]:
    """Find the flats or darks in an HDF5 file of their own: named, by layout, or its only stack."""
    target = getattr(options.paths, kind) or (options.paths.image_key and options.paths.data)
    file = stack.enter_context(open_hdf5(path))
    if target and target in file:
        return NamedReader(file, options).references(kind)
    if dxchange.places(file, kind) or ("exchange" not in file and nxtomo.find_entries(file)):
        result = open_reader(path, InputBlock(mirrored=options.mirrored), stack).references(kind)
        is_turned = options.axes.index("row") > options.axes.index("col")
        return [_turned(part, kind, options.axes) for part in result] if is_turned else result
    datasets = datasets_in(file)
    stacks = [dataset.name for dataset in datasets if len(dataset.shape) == 3]
    images = [] if stacks else _images(datasets, kind)
    if "exchange" in file or (len(stacks) != 1 and not images):
        raise ScanError(
            f"{path}: which dataset has the {kind}? It has {brief_tree(file)}; name it in "
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

    So nabu, of the ESRF, keeps means of flats and darks: entry0000/flats/10, entry0000/flats/371,
    by the numbers of the first frames that they are of.
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
        raise ScanError(
            f"{pixels.file.filename if pixels.file else pixels.name}: mirrored {kind}, and "
            f"input.axes: name them in input.paths.{kind}"
        )
    return replace(reference, frames=replace(reference.frames, pixels=images_of(pixels, axes)))


class NamedReader:
    """An open HDF5 file whose datasets the configuration names (`input.paths.data`)."""

    def __init__(self, file: "h5py.File", options: InputBlock) -> None:
        self._file, self._path, self._options = file, file.filename, options

    def layout(self) -> Layout:
        """Find projections, angles and instrument."""
        index = np.flatnonzero(self._keys == PROJECTION)
        if not len(index):
            raise ScanError(
                f"{self._path}: {self._stated_by} marks no projection (0); correct "
                "input.paths.image_key"
            )
        theta_deg, location, warnings, _ = angles_unless_given(
            self._options, lambda: self._theta_deg(len(index))
        )
        n_frames, n_planned = len(self._keys), len(self._planned)
        counted = COUNTED if self._options.frames else f"keys in {self._stated_by}"
        return Layout(
            path=self._path,
            format="HDF5",
            projections=Frames(self._data, index),
            location=self._data.name,
            theta_deg=theta_deg,
            theta_location=location,
            **read_numbers(self._file),
            missing_sources=self._stack.missing_sources,
            warnings=warnings + invalid_frames(self._keys),
            aborted=fewer_frames(n_frames, n_planned, counted),
            n_planned=int(np.count_nonzero(self._planned == PROJECTION)),
        )

    def references(self, kind: Kind) -> list[Reference]:
        """Find the flats or darks: a dataset of their own goes before keys."""
        if name := getattr(self._options.paths, kind):
            dataset = self._find(kind, 2, 3)
            order = images_of if dataset.ndim == 2 else transposed
            return [without_position(order(Hdf5Pixels(dataset), self._options.axes), name)]
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
        return transposed(self._stack, self._options.axes)

    @cached_property
    def _stack(self) -> Hdf5Pixels:
        return Hdf5Pixels(self._find("data", 3))

    @cached_property
    def _planned(self) -> NDArray[np.int64]:
        """The kind of each frame that was to be taken."""
        n_frames = self._data.shape[0]
        if self._options.frames:
            return counted_keys(self._options.frames, n_frames, self._path)
        if self._options.paths.image_key is None:
            return np.full(n_frames, PROJECTION)
        keys = self._find("image_key", 1)[()].astype(np.int64).ravel()
        if len(keys) < n_frames:
            raise ScanError(
                f"{self._path}: {self._stated_by} has {len(keys)} keys for {n_frames} frames in "
                f"{self._data.name}, expected one for each: correct input.paths.image_key"
            )
        return keys

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
            result = find_angles(self._file, {len(self._planned), n_projections}, unit)
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
        raise ScanError(
            f"{self._path}: {fault}; the file has {brief_tree(self._file)}: correct "
            f"input.paths.{key}, for some scans only in overrides"
        )
