"""Find the flats and darks of a scan: its own, or those elsewhere."""

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tomopipe.config import InputBlock
from tomopipe.errors import ScanError
from tomopipe.scans.formats import format_of
from tomopipe.scans.layout import (
    Kind,
    Layout,
    Path,
    Reader,
    Reference,
    how_to_name,
    without_position,
)
from tomopipe.scans.metadata import axes_hint
from tomopipe.scans.pixels import (
    Frames,
    IndexRange,
    MirroredPixels,
    Pixels,
    TransposedPixels,
    cut_columns,
)

ABSENT = "declared absent"
Sources = Path | Sequence[Path] | None


@dataclass(frozen=True, eq=False)
class References:
    """Flats or darks of a scan that were really written; none if they are declared absent."""

    frames: tuple[Frames, ...]  # in one or several files, in the order in which they were taken
    # (n_frames in all,): projections taken before each; NaN: unknown
    positions: NDArray[np.float64]
    location: str

    def cut(self, columns: IndexRange) -> "References":
        """Return those of neighbouring columns, the last excluded."""
        return self.each(lambda part: cut_columns(part, columns))

    def each(self, view: Callable[[Frames], Frames]) -> "References":
        """Return all frames as seen through a view."""
        return replace(self, frames=tuple(map(view, self.frames)))


def find_references(
    reader: Reader,
    kind: Kind,
    source: Sources,
    layout: Layout,
    options: InputBlock,
    stack: ExitStack,
) -> References:
    """Find the flats or darks, in the scan or elsewhere.

    `source` is as in `tomopipe.scans.exchange.read_metadata`; `stack` closes other files. A
    ScanError says that there are none, that flats were never written, or that their shape is not
    that of the projections.
    """
    path, pixels = layout.path, layout.projections.pixels
    several = [source] if isinstance(source, str | os.PathLike) else source
    if several is None:
        if options.paths.data is None and (name := getattr(options.paths, kind)):
            raise ScanError(
                f"{path}: input.paths.{kind}: {name} is of the file that preprocess.{kind} names: "
                f"set preprocess.{kind}; where it is of the scan, input.paths.data"
            )
        paths: list[tuple[Path, Reference]] = [(path, part) for part in reader.references(kind)]
    elif isinstance(source, str | os.PathLike) and os.fspath(source) == "none":
        return References((Frames(pixels, np.arange(0)),), np.zeros(0), ABSENT)
    else:
        paths = [
            (other, part)
            for other in several
            for part in format_of(other).references_in(other, kind, options, stack)
        ]
    expected = pixels.shape[1:]
    paths = [(where, _as_images(_as_the_scan(part, pixels), expected)) for where, part in paths]
    for where, part in paths:
        shape = part.frames.pixels.shape[1:]
        if shape != expected:
            n_theta = -1 if layout.theta_deg is None else len(layout.theta_deg)
            is_sinogram = pixels.shape[0] in shape or n_theta == expected[0]
            other = f"; set preprocess.{kind} to frames of that size"
            raise ScanError(
                f"{where}: {part.location} has frames of {shape}; expected {expected} as in "
                f"{pixels.name}{axes_hint(options.axes) if is_sinogram else other}"
            )
    if kind == "flats" and not any(part.frames.written.any() for _, part in paths):
        where, part = paths[0]
        unread = f"{where}: {part.location} was never written"
        if several is None and layout.missing_sources:
            unread = f"{where}: {part.location}: {layout.missing_sources[0]} cannot be opened"
        raise ScanError(f"{unread}; {how_to_name(kind)}")
    if several is not None:
        n_angles = len(layout.projections.index)
        occupied = np.linspace(0, n_angles, len(paths)).tolist() if len(paths) > 1 else [np.nan]
        n_before = [part.n_before for _, part in paths if part.n_before is not None]
        if several == [source] and len(n_before) == len(paths) > 1:
            occupied = np.searchsorted(layout.projections.index, n_before).tolist()
        paths = [
            (p, Reference(r.frames, f"{p}: {r.location}", np.full(len(r.positions), before)))
            for (p, r), before in zip(paths, occupied, strict=True)
        ]
    parts = [part for _, part in paths]
    return References(
        tuple(Frames(part.frames.pixels, part.frames.index[part.frames.written]) for part in parts),
        np.concatenate([part.positions[part.frames.written] for part in parts]),
        ", ".join(dict.fromkeys(part.location for part in parts)),
    )


def _as_the_scan(reference: Reference, projections: Pixels) -> Reference:
    """Mirror images as the frames of a scan, unless their own file says how they lie."""
    if reference.states_mirror or not isinstance(projections, MirroredPixels):
        return reference
    frames = reference.frames
    mirrored = MirroredPixels(frames.pixels, projections.sides)
    return replace(reference, frames=replace(frames, pixels=mirrored))


def _as_images(reference: Reference, expected: tuple[int, ...]) -> Reference:
    """Take flats or darks of sinograms as images where they have that shape only so."""
    pixels = reference.frames.pixels
    if not isinstance(pixels, TransposedPixels) or pixels.shape[1:] == expected:
        return reference
    images = without_position(pixels.as_stored, reference.location)
    return images if images.frames.pixels.shape[1:] == expected else reference
