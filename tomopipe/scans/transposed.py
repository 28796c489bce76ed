"""Frames of a stack whose axes are in another order, sinograms for instance (`input.axes`)."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tomopipe.scans.chunks import ranges
from tomopipe.scans.pixels import Boxes, IndexRange, PixelsView

AXES = ("angle", "row", "col")
_BATCH_BYTES = 64 * 2**20  # on the way


class TransposedPixels(PixelsView):
    """Frames of a stack whose `axes` are angle, row and col in any order."""

    def __init__(self, pixels: Boxes, axes: Sequence[str]) -> None:
        self._axes, self._order = tuple(axes), tuple(axes.index(axis) for axis in AXES)
        n_angles, n_rows, n_cols = (pixels.shape[axis] for axis in self._order)
        super().__init__(pixels, (n_angles, n_rows, n_cols))
        self.as_stored = pixels

    @property
    def chunks(self) -> tuple[int, ...] | None:
        """Chunk shape in the order of frames, rows, columns."""
        return self._transposed(self._pixels.chunks)

    @property
    def stored_chunks(self) -> tuple[int, ...] | None:
        """Chunk shape in the order of frames, rows, columns."""
        return self._transposed(self._pixels.stored_chunks)

    def _transposed(self, chunks: tuple[int, ...] | None) -> tuple[int, ...] | None:
        return None if chunks is None else tuple(chunks[axis] for axis in self._order)

    def written(self) -> NDArray[np.bool_]:
        """Which frames are really written; all or none unless they are stored one by one."""
        found = self._pixels.written()
        return found if self._axes[0] == "angle" else np.full(self.shape[0], found.all())

    def read(self, out: NDArray, frames: IndexRange, rows: IndexRange, threads: int = 1) -> None:
        """Read rows of neighbouring frames, part of the file's first axis at a time."""
        spans = dict(zip(AXES, (frames, rows, (0, self.shape[2])), strict=True))
        box = [spans[axis] for axis in self._axes]
        target = out.transpose([AXES.index(axis) for axis in self._axes])
        deep = (self._pixels.chunks or (1,))[0]
        step = max(1, _BATCH_BYTES // (target[:1].nbytes * deep)) * deep
        first, last = box[0]
        for span in ranges(first, last, step):
            part = self.as_stored.read_box((span, box[1], box[2]), threads)
            target[span[0] - first : span[1] - first] = part


def transposed(pixels: Boxes, axes: Sequence[str]) -> Boxes | TransposedPixels:
    """Return a stack with its axes in the order frames, rows, columns."""
    return pixels if tuple(axes) == AXES else TransposedPixels(pixels, axes)
