"""Direct writing: for large files the file cache costs more than the disk."""

import errno
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomopipe.arrays import PAGE_BYTES, aligned

LEAST_BYTES = 2**20  # bytes: smaller arrays are better collected by the cache
_COPIED_BYTES = 8 * 2**20  # bytes copied at once from arrays with another alignment than the file

Write = Callable[[NDArray[Any], int], None]


@contextmanager
def direct_writer(path: str | os.PathLike[str]) -> Iterator[Write]:
    """Yield write(array, offset), which writes a contiguous array into an existing file.

    Arrays below `LEAST_BYTES`, partly written pages, and everything on file systems without direct
    writing go through the cache. Several threads may write at a time. An OSError names the file.
    """
    past: int | None = None  # the file, without the cache
    is_refused = False
    own = threading.local()  # a buffer of each thread, if it needs one

    def write(array: NDArray[Any], offset: int) -> None:
        data = array.reshape(-1).view(np.uint8)
        if data.size < LEAST_BYTES:
            return _write_all(through, data, offset, path)
        first = min(-offset % PAGE_BYTES, data.size)
        last = max(first, data.size - (offset + data.size) % PAGE_BYTES)
        _write_all(through, data[:first], offset, path)
        _write_past(data[first:last], offset + first)
        _write_all(through, data[last:], offset + last, path)

    def _write_past(data: NDArray[np.uint8], offset: int) -> None:
        """Write pages directly, or through the cache where the file system refuses that."""
        nonlocal is_refused
        in_place = data.ctypes.data % PAGE_BYTES == 0
        step = data.size if in_place else _COPIED_BYTES
        for first in range(0, data.size, step or 1):
            part = data[first : first + step]
            if past is None or is_refused:
                _write_all(through, part, offset + first, path)
                continue
            if not in_place:
                if not hasattr(own, "buffer"):
                    own.buffer = aligned(_COPIED_BYTES)
                copy = own.buffer[: part.size]
                copy[:] = part
                part = copy
            try:
                _write_all(past, part, offset + first, path)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                is_refused = True
                _write_all(through, part, offset + first, path)

    with ExitStack() as stack:
        through = os.open(path, os.O_WRONLY)
        stack.callback(os.close, through)
        with suppress(OSError, AttributeError):
            past = os.open(path, os.O_WRONLY | os.O_DIRECT)
            stack.callback(os.close, past)
        yield write


def _write_all(file: int, data: NDArray[np.uint8], offset: int, path: Any) -> None:
    done = 0
    while done < data.size:
        try:
            done += os.pwrite(file, data[done:].data, offset + done)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from error
