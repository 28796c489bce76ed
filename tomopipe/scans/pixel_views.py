"""Frames read another way than they lie in a file: mirrored, cropped, or with other axes."""

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tomopipe.scans.chunks import Chunks, IndexRange, ranges
from tomopipe.scans.pixels import Boxes, Frames, Pixels

AXES = ("angle", "row", "col")
_BATCH_BYTES = 64 * 2**20  # on the way


class PixelsView:
    """Frames as they lie in a file, for those who read them another way, in another `shape`."""

    def __init__(self, pixels: Pixels, shape: tuple[int, int, int]) -> None:
        self._pixels, self.file = pixels, pixels.file
        self.name, self.shape, self.dtype = pixels.name, shape, pixels.dtype

    @property
    def chunks(self) -> Chunks:
        """As of the frames as they are, which are read."""
        return self._pixels.chunks

    def written(self) -> NDArray[np.bool_]:
        """Tell which frames are really there, shape (n_frames,)."""
        return self._pixels.written()


class MirroredPixels(PixelsView):
    """Frames upside down (rows), or with left and right exchanged (columns), turned back."""

    def __init__(self, pixels: Pixels, sides: Collection[str]) -> None:
        super().__init__(pixels, pixels.shape)
        self.sides = sides
        self._rows = "rows" in sides
        self._turn = np.s_[:: -1 if self._rows else 1, :: -1 if "columns" in sides else 1]

    def read(self, out: NDArray, frames: IndexRange, rows: IndexRange, threads: int = 1) -> None:
        """Read rows of neighbouring frames."""
        n_rows = self.shape[1]
        span = (n_rows - rows[1], n_rows - rows[0]) if self._rows else rows
        self._pixels.read(out, frames, span, threads)
        for frame in out:  # one at a time: each is copied on the way
            frame[...] = frame[self._turn].copy()


def unsigned(frames: Frames) -> Frames:
    """Return frames whose whole numbers are unsigned, whatever type the file states."""
    return replace(frames, pixels=_UnsignedPixels(frames.pixels))


class _UnsignedPixels(PixelsView):
    """Frames of counts that a file has in a signed type."""

    def __init__(self, pixels: Pixels) -> None:
        super().__init__(pixels, pixels.shape)
        if self.dtype.kind == "i":
            self.dtype = np.dtype(f"u{self.dtype.itemsize}")

    def read(self, out: NDArray, frames: IndexRange, rows: IndexRange, threads: int = 1) -> None:
        """Read rows of neighbouring frames."""
        self._pixels.read(out.view(self._pixels.dtype), frames, rows, threads)


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
        deep = (self.chunks.whole or (1,))[0]
        width = self._pixels.shape[2]
        row_bytes = (rows[1] - rows[0]) * width * self.dtype.itemsize
        step = max(1, _BATCH_BYTES // (row_bytes * deep)) * deep
        for part in ranges(*frames, step):
            whole = np.empty((part[1] - part[0], rows[1] - rows[0], width), self.dtype)
            self._pixels.read(whole, part, rows, threads)
            out[part[0] - frames[0] : part[1] - frames[0]] = whole[:, :, slice(*self._columns)]


class TransposedPixels(PixelsView):
    """Frames of a stack whose `axes` are in another order, of sinograms for instance."""

    def __init__(self, pixels: Boxes, axes: Sequence[str]) -> None:
        self._axes, self._order = tuple(axes), tuple(axes.index(axis) for axis in AXES)
        n_angles, n_rows, n_cols = (pixels.shape[axis] for axis in self._order)
        super().__init__(pixels, (n_angles, n_rows, n_cols))
        self.as_stored = pixels

    @property
    def chunks(self) -> Chunks:
        """How they lie, in the order of frames, rows, columns."""
        shape, in_parts = self._pixels.chunks
        return Chunks(shape and tuple(shape[axis] for axis in self._order), in_parts)

    def written(self) -> NDArray[np.bool_]:
        """Which frames are really written; all or none unless they are stored one by one."""
        result = self._pixels.written()
        return result if self._axes[0] == "angle" else np.full(self.shape[0], result.all())

    def read(self, out: NDArray, frames: IndexRange, rows: IndexRange, threads: int = 1) -> None:
        """Read rows of neighbouring frames, part of the file's first axis at a time."""
        spans = dict(zip(AXES, (frames, rows, (0, self.shape[2])), strict=True))
        box = [spans[axis] for axis in self._axes]
        target = out.transpose([AXES.index(axis) for axis in self._axes])
        deep = (self._pixels.chunks.whole or (1,))[0]
        step = max(1, _BATCH_BYTES // (target[:1].nbytes * deep)) * deep
        first, last = box[0]
        for span in ranges(first, last, step):
            part = self.as_stored.read_box((span, box[1], box[2]), threads)
            target[span[0] - first : span[1] - first] = part


def images_of(pixels: Boxes, axes: Sequence[str]) -> Boxes | TransposedPixels:
    """Return flats or darks, images all the same, with rows and columns as those of `axes`."""
    return transposed(pixels, (AXES[0], *(axis for axis in axes if axis != AXES[0])))


def transposed(pixels: Boxes, axes: Sequence[str]) -> Boxes | TransposedPixels:
    """Return a stack with its axes in the order frames, rows, columns."""
    return pixels if tuple(axes) == AXES else TransposedPixels(pixels, axes)
