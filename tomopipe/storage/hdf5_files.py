"""Write HDF5 files: what cannot be written to its end is an OSError."""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import h5py


@contextmanager
def new_hdf5(path: str | os.PathLike[str], **options: Any) -> "Iterator[h5py.File]":
    """Yield a new HDF5 file; what cannot be written to its end is an OSError, and no crash."""
    import h5py

    # What is written here are whole chunks, which need no cache. With one, HDF5 keeps what a full
    # disk refused and crashes the process when it tries again.
    file = h5py.File(path, "w", rdcc_nbytes=0, **options)
    try:
        yield file
    except BaseException:
        with suppress(Exception):  # the first error is more informative than those of closing
            # Where a disk is full HDF5 crashes when closing: what it still writes goes to memory.
            nowhere = os.memfd_create("nowhere")
            os.dup2(nowhere, file.id.get_vfd_handle())
            os.close(nowhere)
            file.close()
        raise
    with _written(path):
        file.close()


def put(group: "h5py.Group", name: str, data: Any) -> None:
    """Write a dataset that nobody holds open; what the disk refuses is an OSError.

    HDF5 writes small data when a dataset is closed, and h5py loses an error of the closing of one
    that it lets go of: the file would be whole, with zeros in it.
    """
    with _written(group.file.filename):
        group.create_dataset(name, data=data).flush()


@contextmanager
def _written(path: str | os.PathLike[str]) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        match = re.search(r"errno = (\d+)", str(error))
        number = int(match[1]) if match else errno.EIO
        raise OSError(number, f"cannot be written to its end ({error})", str(path)) from error
