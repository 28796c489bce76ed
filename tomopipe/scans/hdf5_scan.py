"""HDF5 layouts: which one a file has, and where flats and darks in files of their own are."""

from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tomopipe.config import InputBlock
from tomopipe.config.blocks import PathsBlock
from tomopipe.errors import ScanFaultError
from tomopipe.scans import nxtomo
from tomopipe.scans.datasets import DatasetEntry, brief_tree, datasets_in
from tomopipe.scans.dxchange import DATA, MAIN, DxchangeReader, find_inputs, paths_of, places
from tomopipe.scans.formats import Path
from tomopipe.scans.hdf5 import open_hdf5
from tomopipe.scans.layout import Kind, Reader, Reference
from tomopipe.scans.named_datasets import NamedReader
from tomopipe.scans.pixels import AXES, Hdf5Pixels, MirroredPixels, images_of
from tomopipe.scans.raw_identity import entry_content

if TYPE_CHECKING:
    import h5py


@dataclass(frozen=True)
class Hdf5Layout:
    """A layout of HDF5 files."""

    name: str  # `Layout.format` of its scans
    # groups of a file that are scans, or the one that `input.entry` names; none: of another layout
    entries: Callable[["h5py.File", InputBlock], list[str]]
    reader: Callable[["h5py.File", InputBlock, list[str]], Reader]  # the list: these entries
    # keys of `input` that read each scan of a file alone
    inputs: Callable[["h5py.File", list[str]], dict[str, dict[str, Any]]] = lambda _, entries: {
        entry: {"entry": entry} for entry in entries
    }
    # whether a file has flats or darks for other scans; where True, its reader says if it has none
    has_references: Callable[["h5py.File", Kind], bool] = lambda *_: True


LAYOUTS = (
    Hdf5Layout(
        "DXchange",
        entries=lambda file, _: [MAIN] if MAIN in file else [],
        reader=lambda file, options, _: DxchangeReader(file, options),
        inputs=lambda file, _: find_inputs(file),
        has_references=lambda file, kind: bool(places(file, kind)),
    ),
    Hdf5Layout("NXtomo", entries=nxtomo.find_entries, reader=nxtomo.NxtomoReader),
)


def _layout_of(file: "h5py.File", options: InputBlock) -> tuple[Hdf5Layout, list[str]]:
    """Recognise a layout, with its entries; DXchange where none is: its reader says what it has."""
    layouts = ((layout, layout.entries(file, options)) for layout in LAYOUTS)
    return next((match for match in layouts if match[1]), (LAYOUTS[0], []))


def open_reader(path: Path, options: InputBlock, stack: ExitStack) -> Reader:
    """Open an HDF5 file with the reader of its layout; `stack` closes it."""
    # time points are whole once they are listed
    file = stack.enter_context(open_hdf5(path, may_grow=options.window is not None))
    if options.paths.data:
        return NamedReader(file, options)
    if tuple(options.axes) != AXES:
        if DATA not in file:
            raise ScanFaultError(
                f"input.axes: {', '.join(options.axes)} is for TIFF files, DXchange files, or "
                "datasets that input.paths names: set input.paths.data"
            )
        named = options.model_copy(update={"paths": paths_of(file)})
        return NamedReader(file, named, "DXchange")
    if options.frames:
        raise ScanFaultError(
            "input.frames is for TIFF files, or datasets that input.paths names: set "
            "input.paths.data, or leave it out: the file says of what kind its frames are"
        )
    layout, entries = _layout_of(file, options)
    return layout.reader(file, options, entries)


def find_entries(path: Path) -> list[str]:
    """List the entries of an HDF5 file, as `entries_of`."""
    with open_hdf5(path) as file:
        return [*_inputs(file)]


def entries_of(path: Path) -> dict[str, tuple[str, dict[str, Any]]]:
    """Return the groups of an HDF5 file that are scans, in order of name.

    Each with its fingerprint, and the keys of `input` that read it. A ScanError, or what h5py
    raises, if the file cannot be read.
    """
    with open_hdf5(path) as file:
        instrument = [file["measurement"]] if "measurement" in file else []
        return {
            entry: (entry_content(file[entry], *instrument), keys)
            for entry, keys in _inputs(file).items()
        }


def mirrored_sides(path: Path, options: InputBlock) -> tuple[Collection[str], tuple[int, ...]]:
    """Return which sides of frames are mirrored back (rows, columns), and the shape of all frames.

    The first of several entries decides. A ScanError, or what h5py raises, if the file cannot be
    read.
    """
    if not options.entry and len(entries := find_entries(path)) > 1:
        options = options.model_copy(update={"entry": entries[0]})
    with ExitStack() as stack:
        pixels = open_reader(path, options, stack).layout().projections.pixels
        return pixels.sides if isinstance(pixels, MirroredPixels) else (), pixels.shape


def _inputs(file: "h5py.File") -> dict[str, dict[str, Any]]:
    """Return keys of `input` that read each entry of a file."""
    layout, entries = _layout_of(file, InputBlock())
    return layout.inputs(file, entries)


def references_in(path: Path, kind: Kind, options: InputBlock, stack: ExitStack) -> list[Reference]:
    """Find the flats or darks in an HDF5 file of their own: named, by layout, or its only stack."""
    target = getattr(options.paths, kind) or (options.paths.image_key and options.paths.data)
    file = stack.enter_context(open_hdf5(path))
    if target and target in file:
        return NamedReader(file, options).references(kind)
    alone = InputBlock(mirrored=options.mirrored)
    layout, entries = _layout_of(file, alone)
    if entries and layout.has_references(file, kind):
        result = _own_references(layout.reader(file, alone, entries), file, kind)
        is_turned = options.axes.index("row") > options.axes.index("col")
        return [_turned(part, kind, options.axes) for part in result] if is_turned else result
    datasets = datasets_in(file)
    stacks = [dataset.name for dataset in datasets if len(dataset.shape) == 3]
    images = [] if stacks else _images(datasets, kind)
    if entries or (len(stacks) != 1 and not images):
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


def _own_references(reader: Reader, file: "h5py.File", kind: Kind) -> list[Reference]:
    """Return the flats or darks that a layout marks; say how to take all frames if it has none."""
    try:
        return reader.references(kind)
    except ScanFaultError as error:
        stacks = [dataset.name for dataset in datasets_in(file) if len(dataset.shape) == 3]
        hint = (
            f"; or, if its frames are {kind}, input.paths.{kind} to {stacks[0]}" if stacks else ""
        )
        raise ScanFaultError(f"{error}{hint}") from error


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
