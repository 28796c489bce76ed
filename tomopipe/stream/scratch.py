"""Rows of a scan, written once in another order to a temporary file.

The file has no name: whatever happens to the process, its space is free again when it ends. So
nothing of a killed job is ever left to be found, or to be taken for data.
"""

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

_RAM = ("tmpfs", "ramfs")


class Scratch:
    """Raw values as (block of rows, angle, row in the block, column); made by `new_scratch`."""

    def __init__(
        self,
        file: BinaryIO,
        shape: tuple[int, int, int],
        first_row: int,
        height: int,
        dtype: np.dtype[Any],
    ) -> None:
        self._fd = file.fileno()
        self.n_angles, self.n_rows, self.n_cols = shape
        self.first_row, self.height, self.dtype = first_row, height, dtype

    def write_block(self, frame: int, row: int, values: NDArray[Any]) -> None:
        """Store values (n_frames, n_rows, n_cols) from a frame and a detector row on."""
        low, high = row - self.first_row, row - self.first_row + values.shape[1]
        for start, n_there, a, b in self._row_blocks(low, high):
            block = np.ascontiguousarray(values[:, a - low : b - low])
            if b - a == n_there:
                _write(self._fd, block.data.cast("B"), self._offset(start, n_there, frame))
                continue
            for angle, rows in enumerate(block, frame):
                offset = self._offset(start, n_there, angle, a - start)
                _write(self._fd, rows.data.cast("B"), offset)

    def read_rows(self, first: int, last: int) -> NDArray[Any]:
        """Read detector rows of all frames, shape (n_angles, last - first, n_cols)."""
        raw = np.empty((self.n_angles, last - first, self.n_cols), self.dtype)
        low, high = first - self.first_row, last - self.first_row
        for start, n_there, a, b in self._row_blocks(low, high):
            if b - a == n_there == last - first:
                _read(self._fd, raw.data.cast("B"), self._offset(start, n_there, 0))
                continue
            for angle in range(self.n_angles):
                block = raw[angle, a - low : b - low].data.cast("B")
                _read(self._fd, block, self._offset(start, n_there, angle, a - start))
        return raw

    def _row_blocks(self, low: int, high: int) -> Iterator[tuple[int, int, int, int]]:
        """Yield start and rows of the blocks that rows low ... high - 1 lie in, and which rows."""
        for start in range(low - low % self.height, high, self.height):
            n_there = min(self.height, self.n_rows - start)
            yield start, n_there, max(low, start), min(high, start + n_there)

    def _offset(self, start: int, n_there: int, angle: int, row: int = 0) -> int:
        """Return where a row of an angle lies, of the block of n_there rows from `start` on."""
        row_bytes = self.n_cols * self.dtype.itemsize
        return (start * self.n_angles + angle * n_there + row) * row_bytes


@contextmanager
def new_scratch(
    folder: str | None,
    shape: tuple[int, int, int],
    first_row: int,
    height: int,
    dtype: np.dtype[Any],
) -> Iterator[Scratch]:
    """Yield an empty scratch file in a folder; None: the system's for temporary files.

    It takes `shape` (n_angles, n_rows, n_cols), row 0 being the detector's `first_row`, in blocks
    of `height` rows, of which the last may have fewer.
    """
    with tempfile.TemporaryFile(dir=folder, prefix="tomopipe-", buffering=0) as file:
        yield Scratch(file, shape, first_row, height, dtype)


def scratch_folder(folder: str | None) -> str:
    """Return the folder that scratch files lie in."""
    return folder or tempfile.gettempdir()


def free_bytes(folder: str | None) -> int:
    """Return the free space for scratch files; 0 where there is none, or it is memory.

    A folder that was named by the user is taken even if it is memory.
    """
    path = scratch_folder(folder)
    try:
        if folder is None and _is_ram(path):
            return 0
        stat = os.statvfs(path)
    except OSError:
        return 0
    return stat.f_bavail * stat.f_frsize


def _is_ram(folder: str) -> bool:
    """Tell whether a folder's file system is kept in memory."""
    path, result = os.path.realpath(folder), ("", "")
    try:
        with open("/proc/self/mounts", encoding="utf-8", errors="replace") as mounts:
            for line in mounts:
                _, point, kind, *_ = line.split(" ")
                inside = os.path.join(path, "").startswith(os.path.join(point, ""))
                if inside and len(point) >= len(result[0]):
                    result = (point, kind)
    except OSError:
        return False
    return result[1] in _RAM


def _write(fd: int, data: memoryview, offset: int) -> None:
    while data:
        done = os.pwrite(fd, data, offset)
        data, offset = data[done:], offset + done


def _read(fd: int, data: memoryview, offset: int) -> None:
    while data:
        done = os.preadv(fd, [data], offset)
        if done == 0:
            raise OSError(errno.EIO, "the scratch file ends too early")
        data, offset = data[done:], offset + done
