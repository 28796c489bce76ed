"""Recognise the format of a scan from its content; find its flats and darks, or those elsewhere."""

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tomopipe.config import InputBlock
from tomopipe.config.blocks import PathsBlock
from tomopipe.errors import ScanError
from tomopipe.scans import dxchange, named, nxtomo
from tomopipe.scans.hdf5 import check_file, open_hdf5
from tomopipe.scans.layout import (
    Kind,
    Layout,
    Path,
    Reader,
    Reference,
    how_to_name,
    without_position,
)
from tomopipe.scans.metadata import ARE_SINOGRAMS
from tomopipe.scans.pixel_views import AXES, TransposedPixels, cut_columns, images_of
from tomopipe.scans.pixels import Frames, Hdf5Pixels, IndexRange
from tomopipe.scans.tree import brief_tree, datasets_in

ABSENT = "declared absent"
Sources = Path | Sequence[Path] | None
_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def open_reader(path: Path, known: InputBlock, stack: ExitStack) -> Reader:
    """Open a scan, a file or a folder, with the reader of its format; `stack` closes the file."""
    if _is_tiff(path):
        from tomopipe.scans.tiff_scan import TiffReader

        return TiffReader(path, known)
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


def _is_tiff(path: Path) -> bool:
    return os.path.isdir(path) or check_file(path)[:4] in _TIFF_MAGIC


def open_references(path: Path, kind: Kind, known: InputBlock, stack: ExitStack) -> list[Reference]:
    """Find the flats or darks in another file: of TIFF files, all that is there.

    A file that has what `known.paths` names is read as it says; of one whose layout is not
    recognised, its only 3-D dataset. In a DXchange file that could be projections: it is named.
    """
    if _is_tiff(path):
        from tomopipe.scans.tiff_scan import all_frames

        return [all_frames(path, kind, known.axes)]
    wanted = getattr(known.paths, kind) or (known.paths.image_key and known.paths.data)
    file = stack.enter_context(open_hdf5(path))
    if wanted and wanted in file:
        return named.NamedReader(file, path, known).references(kind)
    if dxchange.places(file, kind) or ("exchange" not in file and nxtomo.find_entries(file)):
        found = open_reader(path, InputBlock(), stack).references(kind)
        is_turned = known.axes.index("row") > known.axes.index("col")
        return [_turned(path, kind, one, known.axes) for one in found] if is_turned else found
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


@dataclass(frozen=True, eq=False)
class References:
    """Flats or darks of a scan that were really written; none if they are declared absent."""

    frames: tuple[Frames, ...]  # in one or several files, in the order in which they were taken
    # (n_frames in all,): projections taken before each; NaN: unknown
    positions: NDArray[np.float64]
    location: str

    def cut(self, columns: IndexRange) -> "References":
        """Return those of neighbouring columns, the last excluded."""
        return replace(self, frames=tuple(cut_columns(part, columns) for part in self.frames))


def find_references(
    path: Path,
    reader: Reader,
    kind: Kind,
    source: Sources,
    layout: Layout,
    *,
    known: InputBlock,
    stack: ExitStack,
) -> References:
    """Find the flats or darks, in the scan or elsewhere.

    `source` is as in `tomopipe.scans.exchange.read_metadata`; `stack` closes other files. A
    ScanError says that there are none, that flats were never written, or that their shape is not
    that of the projections.
    """
    pixels = layout.projections.pixels
    several = [source] if isinstance(source, str | os.PathLike) else source
    if several is None:
        found = [(path, part) for part in reader.references(kind)]
    elif isinstance(source, str | os.PathLike) and os.fspath(source) == "none":
        return References((Frames(pixels, np.arange(0)),), np.zeros(0), ABSENT)
    else:
        found = [
            (other, part)
            for other in several
            for part in open_references(other, kind, known, stack)
        ]
    expected = pixels.shape[1:]
    found = [(where, _as_images(part, expected)) for where, part in found]
    for where, part in found:
        shape = part.frames.pixels.shape[1:]
        if shape != expected:
            n_theta = -1 if layout.theta_deg is None else len(layout.theta_deg)
            is_sinogram = pixels.shape[0] in shape or n_theta == expected[0]
            raise ScanError(
                f"{where}: {part.location} has frames of {shape}; expected {expected} as in "
                f"{pixels.name}{f'; {ARE_SINOGRAMS}' * is_sinogram}"
            )
    if kind == "flats" and not any(part.frames.written.any() for _, part in found):
        where, part = found[0]
        unread = f"{where}: {part.location} was never written"
        if several is None and layout.missing_sources:
            unread = f"{where}: {part.location}: {layout.missing_sources[0]} cannot be opened"
        raise ScanError(f"{unread}; {how_to_name(kind)}")
    if several is not None:
        n_angles = len(layout.projections.index)
        taken = np.linspace(0, n_angles, len(found)).tolist() if len(found) > 1 else [np.nan]
        found = [
            (p, Reference(r.frames, f"{p}: {r.location}", np.full(len(r.positions), before)))
            for (p, r), before in zip(found, taken, strict=True)
        ]
    parts = [part for _, part in found]
    return References(
        tuple(Frames(part.frames.pixels, part.frames.index[part.frames.written]) for part in parts),
        np.concatenate([part.positions[part.frames.written] for part in parts]),
        ", ".join(dict.fromkeys(part.location for part in parts)),
    )


def _as_images(reference: Reference, expected: tuple[int, ...]) -> Reference:
    """Take flats or darks of sinograms as images where they have that shape only so."""
    pixels = reference.frames.pixels
    if not isinstance(pixels, TransposedPixels) or pixels.shape[1:] == expected:
        return reference
    images = without_position(pixels.as_stored, reference.location)
    return images if images.frames.pixels.shape[1:] == expected else reference
