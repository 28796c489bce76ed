"""Frames cropped to some columns of the detector."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tomopipe.scans.chunks import ranges
from tomopipe.scans.pixels import Frames, IndexRange, Pixels, PixelsView

_BATCH_BYTES = 64 * 2**20  # of frames of full width on the way


def cut_columns(frames: Frames, columns: IndexRange) -> Frames:
    """Return frames of neighbouring columns, the last one excluded."""
    if columns == (0, frames.pixels.shape[2]):
        return frames
    return replace(frames, pixels=_CutPixels(frames.pixels, columns))


class _CutPixels(PixelsView):
    """Neighbouring columns of frames."""

    def __init__(self, pixels: Pixels, columns: IndexRange) -> None:
        super().__init__(pixels, (*pixels.shape[:2], columns[1] - columns[0]))
        self._columns = columns

    def read(self, out: NDArray, frames: IndexRange, rows: IndexRange, threads: int = 1) -> None:
        """Read rows of neighbouring frames, whole chunks at a time."""
        deep = self.chunks[0] if self.chunks else 1
        width = self._pixels.shape[2]
        row_bytes = (rows[1] - rows[0]) * width * self.dtype.itemsize
        step = max(1, _BATCH_BYTES // (row_bytes * deep)) * deep
        for part in ranges(*frames, step):
            whole = np.empty((part[1] - part[0], rows[1] - rows[0], width), self.dtype)
            self._pixels.read(whole, part, rows, threads)
            out[part[0] - frames[0] : part[1] - frames[0]] = whole[:, :, slice(*self._columns)]
