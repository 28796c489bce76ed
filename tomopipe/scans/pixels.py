"""Frames as stored, and views of them: mirrored, cropped, of another type, with other axes."""

import os
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tomopipe.errors import PixelsError, ScanFaultError, is_of_the_system
from tomopipe.scans.chunks import (
    Chunks,
    IndexRange,
    Written,
    can_decode,
    chunks_of,
    ranges,
    read_block,
    written_frames,
)
from tomopipe.scans.hdf5 import one_line

if TYPE_CHECKING:
    import h5py

AXES = ("angle", "row", "col")
_BATCH_BYTES = 64 * 2**20  # of a view, on the way
_FRAMES = 64  # that a thread asks for at a time
# HDF5 goes through all chunks before the one it looks up; so many take as long as one for `note`
_PASSED = 30
# h5py raises the second for lost chunks; the others are of chunks beyond the dataset
_DAMAGED = (OSError, RuntimeError, IndexError, OverflowError)


class Pixels(Protocol):
    """A stack of frames of one shape."""

    name: str  # a path in the file, or the files
    shape: tuple[int, int, int]  # n_frames, n_rows, n_cols
    dtype: np.dtype  # in the byte order of this machine
    file: "h5py.File | None"  # of the scan; they may lie in one that it links; None: TIFF files

    @property
    def chunks(self) -> Chunks:
        """How frames lie in the file."""

    def read(self, out: NDArray, frames: IndexRange, rows: IndexRange, threads: int = 1) -> None:
        """Read rows of neighbouring frames into `out`, (n_frames, n_rows, n_cols), or ScanError."""

    def written(self) -> NDArray[np.bool_]:
        """Return which frames are really there, shape (n_frames,)."""


class Boxes(Pixels, Protocol):
    """A stack of which any part can be read; what its axes are need not be as in `Pixels`."""

    def read_box(self, box: tuple[IndexRange, IndexRange, IndexRange], threads: int = 1) -> NDArray:
        """Read a part, one span for each axis, the last of each excluded."""


@dataclass(frozen=True, eq=False)
class Frames:
    """Some frames of a stack: the projections, the flats or the darks of a scan."""

    pixels: Pixels
    index: NDArray[np.intp]  # (n_frames,): which of its frames, ascending

    @property
    def written(self) -> NDArray[np.bool_]:
        """Which of them are really there."""
        return self.pixels.written()[self.index]

    def read(
        self,
        which: IndexRange,
        rows: IndexRange,
        threads: int = 1,
        empty: Callable[..., NDArray] = np.empty,
    ) -> NDArray:
        """Read rows of some of `index`, raw, into what empty(shape, dtype) returns."""
        used = self.index[slice(*which)]
        raw = empty((len(used), rows[1] - rows[0], self.pixels.shape[2]), self.pixels.dtype)
        done = 0
        for run in np.split(used, np.flatnonzero(np.diff(used) != 1) + 1):
            if len(run):
                span = int(run[0]), int(run[-1]) + 1
                self.pixels.read(raw[done : done + len(run)], span, rows, threads)
                done += len(run)
        return raw


@dataclass(frozen=True, eq=False)
class AveragedFrames(Frames):
    """Means, float32, of each `n` neighbours in `index`."""

    n: int

    def read(
        self,
        which: IndexRange,
        rows: IndexRange,
        threads: int = 1,
        empty: Callable[..., NDArray] = np.empty,
    ) -> NDArray:
        """Read rows of some of the means, a part at a time."""
        shape = rows[1] - rows[0], self.pixels.shape[2]
        out = empty((which[1] - which[0], *shape), np.float32)
        group_bytes = self.n * shape[0] * shape[1] * self.pixels.dtype.itemsize
        for first, last in ranges(*which, max(1, _BATCH_BYTES // group_bytes)):
            raw = super().read((self.n * first, self.n * last), rows, threads)
            target = out[first - which[0] : last - which[0]]
            raw.reshape(-1, self.n, *shape).mean(axis=1, dtype=np.float32, out=target)
        return out


class Hdf5Pixels:
    """Frames of an HDF5 dataset of two (a single frame) or three dimensions."""

    def __init__(self, dataset: "h5py.Dataset", file: "h5py.File") -> None:
        self._dataset, self.file = dataset, file
        self.name = dataset.name
        shape = (1, *dataset.shape) if dataset.ndim == 2 else dataset.shape
        self.shape: tuple[int, int, int] = shape
        self.dtype = dataset.dtype.newbyteorder("=")

    @property
    def stored(self) -> "h5py.Dataset":
        """The dataset, whose first axis is that of the frames; a ScanFaultError for another one."""
        if getattr(self._dataset, "axes", (0,))[0] == 0:
            return getattr(self._dataset, "stored", self._dataset)
        raise ScanFaultError(f"{self.name}: frames are not along its first axis")

    @cached_property
    def chunks(self) -> Chunks:
        """How frames lie in the file, those of a virtual dataset in its first source."""
        return chunks_of(self._dataset) if self._dataset.ndim == 3 else Chunks()

    @cached_property
    def missing_sources(self) -> tuple[str, ...]:
        """Files that a virtual dataset is made of and that cannot be opened."""
        return self._written.missing_sources

    @cached_property
    def _written(self) -> Written:
        return written_frames(self._dataset)

    def written(self) -> NDArray[np.bool_]:
        """Return which frames are really there, shape (n_frames,)."""
        frames = self._written.frames
        return np.array([frames.all()]) if self._dataset.ndim == 2 else frames

    @cached_property
    def _starts(self) -> NDArray[np.int64] | None:
        """Byte of the file where each frame begins, as it is; None if one is in parts.

        0 is an absent frame; -1 one that was not looked up, as a file may have 100,000 of them.
        """
        import h5py

        dataset, plist = self._dataset, self._dataset.id.get_create_plist()
        if dataset.ndim != 3 or dataset.dtype != self.dtype or dataset.external:
            return None
        if plist.get_layout() == h5py.h5d.CONTIGUOUS:
            offset = dataset.id.get_offset()
            frame_bytes = self.dtype.itemsize * self.shape[1] * self.shape[2]
            return None if offset is None else offset + frame_bytes * np.arange(len(dataset))
        if (
            dataset.chunks != (1, *self.shape[1:])
            or len(plist.get_chunk()) != 3
            or plist.get_nfilters()
            or dataset.file.userblock_size  # which some versions of HDF5 do not count
        ):
            return None
        return np.full(len(dataset), -1, np.int64)

    def _starts_of(self, frames: IndexRange) -> NDArray[np.int64] | None:
        """Return where some frames begin; None if one is in parts or absent.

        An IndexError, or OverflowError, if it is absent as a chunk lies beyond the dataset.
        """
        if (every := self._starts) is None:
            return None
        starts: NDArray[np.int64] = every[slice(*frames)]

        def note(chunk: Any) -> None:
            every[chunk.chunk_offset[0]] = chunk.byte_offset

        if np.count_nonzero(starts < 0) * frames[0] > _PASSED * len(every):
            every[every < 0] = 0
            with suppress(IndexError, OverflowError):  # those beyond the dataset come last
                self._dataset.id.chunk_iter(note)
        for number in np.flatnonzero(starts < 0).tolist():
            info = self._dataset.id.get_chunk_info_by_coord((frames[0] + number, 0, 0))
            starts[number] = info.byte_offset or 0
        if starts.all():
            return starts
        self._dataset.id.chunk_iter(note)
        return None

    def read(self, out: NDArray, frames: IndexRange, rows: IndexRange, threads: int = 1) -> None:
        """Read rows of neighbouring frames, in threads where that can be done."""
        try:
            if can_decode(self._dataset):  # HDF5 itself accepts truncated chunks
                read_block(self._dataset, frames, rows, out, threads)
            elif self._read_whole_rows(out, frames, rows, threads):
                return
            elif self._dataset.ndim == 2:
                self._dataset.read_direct(out[0], np.s_[slice(*rows), :])
            else:
                self._dataset.read_direct(out, np.s_[slice(*frames), slice(*rows), :])
        except _DAMAGED as error:
            what = f"frames {frames[0]} to {frames[1] - 1}"
            if frames[1] - frames[0] == 1:
                what = f"frame {frames[0]}"
            raise self._unreadable(f"{what}, rows {rows[0]} to {rows[1] - 1}", error) from error

    def read_box(self, box: tuple[IndexRange, IndexRange, IndexRange], threads: int = 1) -> NDArray:
        """Read a part, one span for each axis."""
        spans = box if self._dataset.ndim == 3 else box[1:]
        try:
            result = self._dataset[tuple(slice(*span) for span in spans)]
        except _DAMAGED as error:
            raise self._unreadable(f"part {box}", error) from error
        return np.asarray(result).reshape([last - first for first, last in box])

    def _unreadable(self, part: str, error: BaseException) -> PixelsError:
        """Return the error for a part that cannot be read, with what to do if it is damaged."""
        again = "" if is_of_the_system(error) else ": copy it again from the acquisition computer"
        what = f"{self.name}, {part} cannot be read ({one_line(error)}){again}"
        return PixelsError(f"{self._dataset.file.filename}: {what}")

    def _read_whole_rows(
        self, out: NDArray, frames: IndexRange, rows: IndexRange, threads: int
    ) -> bool:
        """Read around HDF5, which waits for each frame; false if that cannot be done."""
        starts = self._starts_of(frames) if out[:1].flags.c_contiguous else None
        if starts is None:
            return False
        starts = starts + rows[0] * self.shape[2] * self.dtype.itemsize
        parts = [
            (frame.reshape(-1).view(np.uint8), start)
            for frame, start in zip(out, starts.tolist(), strict=True)
        ]

        def read(number: int) -> bool:
            few = parts[number : number + _FRAMES]
            if hasattr(os, "posix_fadvise"):  # a disk is fast with many requests at a time
                for part, start in few:
                    os.posix_fadvise(file.fileno(), start, part.size, os.POSIX_FADV_WILLNEED)
            return all(os.preadv(file.fileno(), [part], start) == part.size for part, start in few)

        numbers = range(0, len(parts), _FRAMES)
        with open(self._dataset.file.filename, "rb", buffering=0) as file:
            if min(threads, len(numbers)) <= 1:
                return all(map(read, numbers))
            with ThreadPoolExecutor(threads) as pool:
                return all(pool.map(read, numbers))


def stored_dataset(pixels: Pixels) -> "h5py.Dataset":
    """Return the dataset of an HDF5 file that frames are in, one after another; ScanFaultError."""
    while isinstance(pixels, PixelsView):
        if isinstance(pixels, TransposedPixels) and not pixels.has_frames:
            raise ScanFaultError(
                f"{pixels.name}: sinograms (input.axes): `turns` needs frames one after another"
            )
        pixels = pixels.pixels
    if not isinstance(pixels, Hdf5Pixels):
        raise ScanFaultError(f"{pixels.name}: no HDF5 file")
    return pixels.stored


class PixelsView:
    """A view of frames in another shape."""

    def __init__(self, pixels: Pixels, shape: tuple[int, int, int]) -> None:
        self.pixels, self.file = pixels, pixels.file
        self.name, self.shape, self.dtype = pixels.name, shape, pixels.dtype

    @property
    def chunks(self) -> Chunks:
        """How the frames that are read lie in the file."""
        return self.pixels.chunks

    def written(self) -> NDArray[np.bool_]:
        """Return which frames are really there, shape (n_frames,)."""
        return self.pixels.written()


class ConstantPixels(PixelsView):
    """A frame of a single value, of the shape of others."""

    def __init__(self, pixels: Pixels, name: str, value: float) -> None:
        super().__init__(pixels, (1, *pixels.shape[1:]))
        self.name, self.dtype, self._value = name, np.dtype(np.float32), value

    def read(self, out: NDArray, frames: IndexRange, rows: IndexRange, threads: int = 1) -> None:
        """Fill rows of the frame."""
        out[...] = self._value

    def written(self) -> NDArray[np.bool_]:
        """Return that the frame is there."""
        return np.ones(1, bool)


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
        self.pixels.read(out, frames, span, threads)
        for frame in out:  # one at a time: each is copied on the way
            frame[...] = frame[self._turn].copy()


def unsigned(frames: Frames) -> Frames:
    """Return frames with their integers read as unsigned."""
    return replace(frames, pixels=_UnsignedPixels(frames.pixels))


class _UnsignedPixels(PixelsView):
    """Frames of counts that a file has in a signed type."""

    def __init__(self, pixels: Pixels) -> None:
        super().__init__(pixels, pixels.shape)
        if self.dtype.kind == "i":
            self.dtype = np.dtype(f"u{self.dtype.itemsize}")

    def read(self, out: NDArray, frames: IndexRange, rows: IndexRange, threads: int = 1) -> None:
        """Read rows of neighbouring frames."""
        self.pixels.read(out.view(self.pixels.dtype), frames, rows, threads)


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
        width = self.pixels.shape[2]
        row_bytes = (rows[1] - rows[0]) * width * self.dtype.itemsize
        step = max(1, _BATCH_BYTES // (row_bytes * deep)) * deep
        for part in ranges(*frames, step):
            whole = np.empty((part[1] - part[0], rows[1] - rows[0], width), self.dtype)
            self.pixels.read(whole, part, rows, threads)
            out[part[0] - frames[0] : part[1] - frames[0]] = whole[:, :, slice(*self._columns)]


class TransposedPixels(PixelsView):
    """Frames of a stack whose `axes` are in another order, of sinograms for instance."""

    def __init__(self, pixels: Boxes, axes: Sequence[str]) -> None:
        self._axes, self._order = tuple(axes), tuple(axes.index(axis) for axis in AXES)
        n_angles, n_rows, n_cols = (pixels.shape[axis] for axis in self._order)
        super().__init__(pixels, (n_angles, n_rows, n_cols))
        self.as_stored = pixels
        self.has_frames = self._axes[0] == "angle"  # stored one after another

    @property
    def chunks(self) -> Chunks:
        """How they lie, in the order of frames, rows, columns."""
        shape, in_parts = self.pixels.chunks
        return Chunks(shape and tuple(shape[axis] for axis in self._order), in_parts)

    def written(self) -> NDArray[np.bool_]:
        """Which frames are really written; all or none unless they are stored one by one."""
        result = self.pixels.written()
        return result if self.has_frames else np.full(self.shape[0], result.all())

    def read(self, out: NDArray, frames: IndexRange, rows: IndexRange, threads: int = 1) -> None:
        """Read rows of neighbouring frames, part of the file's first axis at a time."""
        spans = dict(zip(AXES, (frames, rows, (0, self.shape[2])), strict=True))
        box = [spans[axis] for axis in self._axes]
        target = out.transpose([AXES.index(axis) for axis in self._axes])
        deep = (self.pixels.chunks.whole or (1,))[0]
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
