"""Flats and darks of a scan: its own, or those of other files."""

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tomopipe.config import InputBlock
from tomopipe.errors import ScanError
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
from tomopipe.scans.pixel_views import TransposedPixels, cut_columns
from tomopipe.scans.pixels import Frames, IndexRange
from tomopipe.scans.readers import open_reference

Sources = Path | Sequence[Path] | None


@dataclass(frozen=True, eq=False)
class References:
    """Flats or darks of a scan that were really written."""

    frames: tuple[Frames, ...]  # in one or several files, in the order in which they were taken
    # (n_frames in all,): projections taken before each; NaN: unknown
    positions: NDArray[np.float64]

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
) -> tuple[References | None, str]:
    """Find the flats or darks, in the scan or elsewhere; return them and where they are.

    `source` is as in `tomopipe.scans.exchange.read_metadata`; None are returned if they are
    declared absent. `stack` closes other files. A ScanError says that there are none, that flats
    were never written, or that their shape is not that of the projections.
    """
    if isinstance(source, str | os.PathLike) and os.fspath(source) == "none":
        return None, "declared absent"
    several = [source] if isinstance(source, str | os.PathLike) else source
    if several is None:
        found = [(path, reader.reference(kind))]
    else:
        found = [(other, open_reference(other, kind, known, stack)) for other in several]
    n_angles, expected = len(layout.projections.index), layout.projections.pixels.shape[1:]
    found = [
        (where, _as_images(part, expected))
        for where, reference in found
        for part in (reference, *reference.more)
    ]
    for where, reference in found:
        shape = reference.frames.pixels.shape[1:]
        if shape != expected:
            n_theta = -1 if layout.theta_deg is None else len(layout.theta_deg)
            is_sinogram = layout.projections.pixels.shape[0] in shape or n_theta == expected[0]
            raise ScanError(
                f"{where}: {reference.location} has frames of {shape}; expected {expected} as in "
                f"{layout.projections.pixels.name}{f'; {ARE_SINOGRAMS}' * is_sinogram}"
            )
    frames = tuple(_only_written(reference.frames) for _, reference in found)
    if kind == "flats" and not any(len(part.index) for part in frames):
        where, reference = found[0]
        unread = f"{where}: {reference.location} was never written"
        if several is None and layout.missing_sources:
            unread = f"{where}: {reference.location}: {layout.missing_sources[0]} cannot be opened"
        raise ScanError(f"{unread}; {how_to_name(kind)}")
    if several is None:
        positions = np.concatenate([part.positions[part.frames.written] for _, part in found])
    elif len(found) == 1:
        positions = np.full(len(frames[0].index), np.nan)
    else:
        before = np.linspace(0, n_angles, len(found))
        positions = np.repeat(before, [len(part.index) for part in frames])
    names = [r.location if several is None else f"{p}: {r.location}" for p, r in found]
    return References(frames, positions), ", ".join(dict.fromkeys(names))


def _as_images(reference: Reference, expected: tuple[int, ...]) -> Reference:
    """Take flats or darks of sinograms as images where they have that shape only so."""
    pixels = reference.frames.pixels
    if not isinstance(pixels, TransposedPixels) or pixels.shape[1:] == expected:
        return reference
    images = pixels.as_stored
    if images.shape[1:] != expected:
        return reference
    return without_position(Frames(images, np.arange(images.shape[0])), reference.location)


def _only_written(frames: Frames) -> Frames:
    return Frames(frames.pixels, frames.index[frames.written])
