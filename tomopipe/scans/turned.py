"""Frames of a stack whose axes are in another order, sinograms for instance (`input.axes`)."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tomopipe.scans.pixels import Boxes, PixelsView, Span

AXES = ("angle", "row", "col")
_BATCH_BYTES = 64 * 2**20  # on the way


class TurnedPixels(PixelsView):
    """Frames of a stack of any order of axes.

    Parameters
    ----------
    pixels : Boxes
        As they lie in the file.
    axes : sequence of str
        What its axes are: angle, row and col in any order.
    """

    def __init__(self, pixels: Boxes, axes: Sequence[str]) -> None:
        self._axes, self._order = tuple(axes), tuple(axes.index(axis) for axis in AXES)
        n_angles, n_rows, n_cols = (pixels.shape[at] for at in self._order)
        super().__init__(pixels, (n_angles, n_rows, n_cols))
        self._boxes = pixels

    @property
    def chunks(self) -> tuple[int, ...] | None:
        """Chunk shape in the order of frames, rows, columns."""
        return self._turned(self._pixels.chunks)

    @property
    def stored_chunks(self) -> tuple[int, ...] | None:
        """Chunk shape in the order of frames, rows, columns."""
        return self._turned(self._pixels.stored_chunks)

    def _turned(self, chunks: tuple[int, ...] | None) -> tuple[int, ...] | None:
        return None if chunks is None else tuple(chunks[at] for at in self._order)

    def written(self) -> NDArray[np.bool_]:
        """Tell which frames are really there; of those that lie in parts all or none."""
        found = self._pixels.written()
        return found if self._axes[0] == "angle" else np.full(self.shape[0], found.all())

    def read(self, out: NDArray, frames: Span, rows: Span, threads: int = 1) -> None:
        """Read rows of neighbouring frames, some of the file's first axis at a time."""
        spans = dict(zip(AXES, (frames, rows, (0, self.shape[2])), strict=True))
        box = [spans[axis] for axis in self._axes]
        there = out.transpose([AXES.index(axis) for axis in self._axes])
        deep = (self._pixels.chunks or (1,))[0]
        step = max(1, _BATCH_BYTES // (there[:1].nbytes * deep)) * deep
        first, last = box[0]
        for start in range(first - first % deep, last, step):
            some = max(start, first), min(start + step, last)
            part = self._boxes.read_box((some, box[1], box[2]), threads)
            there[some[0] - first : some[1] - first] = part


def turned(pixels: Boxes, axes: Sequence[str]) -> Boxes | TurnedPixels:
    """Return frames, rows, columns of a stack whose axes are these."""
    return pixels if tuple(axes) == AXES else TurnedPixels(pixels, axes)
