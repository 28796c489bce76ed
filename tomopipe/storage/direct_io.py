"""Direct reading and writing: for large files the file cache costs more than the disk."""

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
LEAST_READ_BYTES = 2**16  # bytes: smaller parts share pages with the parts read next
_COPIED_BYTES = 8 * 2**20  # bytes copied at once from arrays with another alignment than the file

Read = Callable[[NDArray[Any], int], bool]
Write = Callable[[NDArray[Any], int], None]


@contextmanager
def _opened(path: str | os.PathLike[str], flags: int) -> Iterator[tuple[int, int | None]]:
    """Yield a file opened twice: with the cache, and without it (None where that is refused)."""
    with ExitStack() as stack:
        through = os.open(path, flags)
        stack.callback(os.close, through)
        past: int | None = None
        with suppress(OSError, AttributeError):
            past = os.open(path, flags | os.O_DIRECT)
            stack.callback(os.close, past)
        yield through, past


@contextmanager
def direct_reader(path: str | os.PathLike[str]) -> Iterator[Read]:
    """Yield read(out, offset), which fills a contiguous array; false if the file ends before.

    Cached parts are read from the cache, the rest directly, where the file system can distinguish
    them; network file systems cannot, and read normally. Several threads may read at a time.
    """
    is_refused = False
    own = threading.local()  # a buffer of each thread

    def read(out: NDArray[Any], offset: int) -> bool:
        nonlocal is_refused
        data = out.reshape(-1).view(np.uint8)
        if past is not None and not is_refused and data.size >= LEAST_READ_BYTES:
            try:
                return _read_large(data, offset)
            except OSError as error:
                if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
                    raise
                is_refused = True
        return os.preadv(through, [data.data], offset) == data.size

    def _read_large(data: NDArray[np.uint8], offset: int) -> bool:
        assert past is not None
        with suppress(BlockingIOError):
            if os.preadv(through, [data.data], offset, os.RWF_NOWAIT) == data.size:
                return True
        first = offset % PAGE_BYTES
        n_bytes = -(-(first + data.size) // PAGE_BYTES) * PAGE_BYTES
        if getattr(own, "buffer", data[:0]).size < n_bytes:
            own.buffer = aligned(n_bytes)
        n_read = os.preadv(past, [own.buffer[:n_bytes].data], offset - first)
        data[:] = own.buffer[first : first + data.size]
        return n_read >= first + data.size

    with _opened(path, os.O_RDONLY) as (through, past):
        yield read


@contextmanager
def direct_writer(path: str | os.PathLike[str]) -> Iterator[Write]:
    """Yield write(array, offset), which writes a contiguous array into an existing file.

    Arrays below `LEAST_BYTES`, partly written pages, and everything on file systems without direct
    writing go through the cache. Several threads may write at a time. An OSError names the file.
    """
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

    with _opened(path, os.O_WRONLY) as (through, past):
        yield write


def _write_all(file: int, data: NDArray[np.uint8], offset: int, path: Any) -> None:
    done = 0
    while done < data.size:
        try:
            done += os.pwrite(file, data[done:].data, offset + done)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from error
