"""Flats and darks of a scan: its own, or those of other files."""

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tomopipe.config import InputBlock
from tomopipe.errors import ScanError
from tomopipe.scans.columns import cut_columns
from tomopipe.scans.layout import Kind, Layout, Path, Reader, how_to_name
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
    for where, reference in found:
        if reference.frames.pixels.shape[1:] != expected:
            raise ScanError(
                f"{where}: {reference.location} has frames of {reference.frames.pixels.shape[1:]}; "
                f"expected {expected} as in {layout.projections.pixels.name}"
            )
    frames = tuple(_only_written(reference.frames) for _, reference in found)
    if kind == "flats" and not any(len(part.index) for part in frames):
        where, reference = found[0]
        raise ScanError(f"{where}: {reference.location} was never written; {how_to_name(kind)}")
    if several is None:
        positions = found[0][1].positions[found[0][1].frames.written]
    elif len(found) == 1:
        positions = np.full(len(frames[0].index), np.nan)
    else:
        before = np.linspace(0, n_angles, len(found))
        positions = np.repeat(before, [len(part.index) for part in frames])
    names = [r.location if several is None else f"{p}: {r.location}" for p, r in found]
    return References(frames, positions), ", ".join(dict.fromkeys(names))


def _only_written(frames: Frames) -> Frames:
    return Frames(frames.pixels, frames.index[frames.written])
