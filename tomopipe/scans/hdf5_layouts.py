"""Recognise the layout of an HDF5 file from its content, of a scan or of flats and darks alone."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace

from tomopipe.config import InputBlock
from tomopipe.config.blocks import PathsBlock
from tomopipe.errors import ScanError
from tomopipe.scans import dxchange, named, nxtomo
from tomopipe.scans.hdf5 import open_hdf5
from tomopipe.scans.layout import Kind, Path, Reader, Reference
from tomopipe.scans.pixel_views import AXES, images_of
from tomopipe.scans.pixels import Hdf5Pixels
from tomopipe.scans.tree import Found, brief_tree, datasets_in


def open_layout(path: Path, known: InputBlock, stack: ExitStack) -> Reader:
    """Open an HDF5 file with the reader of its layout; `stack` closes it."""
    file = stack.enter_context(open_hdf5(path))
    if known.paths.data:
        return named.NamedReader(file, path, known)
    if tuple(known.axes) != AXES:
        if dxchange.DATA not in file:
            raise ScanError(
                f"{path}: input.axes: {', '.join(known.axes)} is of TIFF files, DXchange files, or "
                "datasets that input.paths names: set input.paths.data"
            )
        paths = dxchange.paths_of(file)
        return named.NamedReader(file, path, known.model_copy(update={"paths": paths}))
    if known.frames:
        raise ScanError(
            f"{path}: input.frames is of TIFF files, or datasets that input.paths names: set "
            "input.paths.data, or leave it to the file, which says of what kind its frames are"
        )
    if "exchange" not in file:
        names = nxtomo.find_entries(file)
        if names:
            chosen = nxtomo.choose_entry(names, known.entry, path)
            return nxtomo.NxtomoReader(file, path, known, *chosen)
    return dxchange.DxchangeReader(file, path, known)


def references_in(path: Path, kind: Kind, known: InputBlock, stack: ExitStack) -> list[Reference]:
    """Find the flats or darks in an HDF5 file of their own.

    One that has what `known.paths` names is read as it says; of one whose layout is not recognised,
    its only 3-D dataset, or its images. In a DXchange file that could be projections: it is named.
    """
    target = getattr(known.paths, kind) or (known.paths.image_key and known.paths.data)
    file = stack.enter_context(open_hdf5(path))
    if target and target in file:
        return named.NamedReader(file, path, known).references(kind)
    if dxchange.places(file, kind) or ("exchange" not in file and nxtomo.find_entries(file)):
        alone = InputBlock(mirrored=known.mirrored)
        result = open_layout(path, alone, stack).references(kind)
        is_turned = known.axes.index("row") > known.axes.index("col")
        return (
            [_turned(path, kind, reference, known.axes) for reference in result]
            if is_turned
            else result
        )
    datasets = datasets_in(file)
    stacks = [dataset.name for dataset in datasets if len(dataset.shape) == 3]
    images = [] if stacks else _images(datasets, kind)
    if "exchange" in file or (len(stacks) != 1 and not images):
        raise ScanError(
            f"{path}: which dataset has the {kind}? It has {brief_tree(file)}; name it in "
            f"input.paths.{kind}"
        )

    def read(name: str) -> Reference:
        alone = InputBlock(paths=PathsBlock(**{kind: name}), axes=known.axes)
        (result,) = named.NamedReader(file, path, alone).references(kind)
        folder, _, number = name.rpartition("/")
        if name in stacks or not number.isdecimal():
            return result
        return replace(result, location=f"{folder}/", n_before=int(number))

    return [read(name) for name in images or stacks]


def _images(datasets: Sequence[Found], kind: Kind) -> list[str]:
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


def _turned(path: Path, kind: Kind, reference: Reference, axes: Sequence[str]) -> Reference:
    """Return flats or darks of a file that is read by itself with the axes of the projections."""
    frames = reference.frames
    if not isinstance(frames.pixels, Hdf5Pixels):
        raise ScanError(f"{path}: mirrored {kind}, and input.axes: name them in input.paths.{kind}")
    return replace(reference, frames=replace(frames, pixels=images_of(frames.pixels, axes)))
