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
from tomopipe.scans.tree import brief_tree, datasets_in


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
    its only 3-D dataset. In a DXchange file that could be projections: it is named.
    """
    wanted = getattr(known.paths, kind) or (known.paths.image_key and known.paths.data)
    file = stack.enter_context(open_hdf5(path))
    if wanted and wanted in file:
        return named.NamedReader(file, path, known).references(kind)
    if dxchange.places(file, kind) or ("exchange" not in file and nxtomo.find_entries(file)):
        found = open_layout(path, InputBlock(), stack).references(kind)
        is_turned = known.axes.index("row") > known.axes.index("col")
        return (
            [_turned(path, kind, reference, known.axes) for reference in found]
            if is_turned
            else found
        )
    stacks = [dataset.name for dataset in datasets_in(file) if len(dataset.shape) == 3]
    if "exchange" in file or len(stacks) != 1:
        raise ScanError(
            f"{path}: which dataset has the {kind}? It has {brief_tree(file)}; name it in "
            f"input.paths.{kind}, and that of the projections in input.paths.data"
        )
    paths = PathsBlock(data=stacks[0], **{kind: stacks[0]})
    alone = InputBlock(paths=paths, axes=known.axes)
    return named.NamedReader(file, path, alone).references(kind)


def _turned(path: Path, kind: Kind, reference: Reference, axes: Sequence[str]) -> Reference:
    """Return flats or darks of a file that is read by itself with the axes of the projections."""
    frames = reference.frames
    if not isinstance(frames.pixels, Hdf5Pixels):
        raise ScanError(f"{path}: mirrored {kind}, and input.axes: name them in input.paths.{kind}")
    return replace(reference, frames=replace(frames, pixels=images_of(frames.pixels, axes)))
