"""The formats of raw scans: how files are named and begin, and who reads them.

What init and patterns look for, and which module reads a scan, or flats and darks elsewhere. The
readers are imported when they are used.
"""

import os
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType

from tomopipe.paths import no_pipe

NOT_SQUARE = "pixels are not square: "

Path = str | os.PathLike[str]


@dataclass(frozen=True)
class Format:
    """A format of raw scans."""

    name: str  # for people
    endings: tuple[str, ...]  # of its files, in lower case; its folders may have any name
    begins: tuple[bytes, ...]  # the first bytes of its files, 8 at most
    module: str  # with open_reader and references_in, as in `hdf5_scan.py`

    def load(self) -> ModuleType:
        """Return the module, which is imported only where a scan is opened."""
        return import_module(self.module)


HDF5 = Format(
    "HDF5",
    endings=(".h5", ".hdf5", ".hdf", ".nxs", ".nx"),
    begins=(b"\x89HDF\r\n\x1a\n",),
    module="tomopipe.scans.hdf5_scan",
)
TIFF = Format(
    "TIFF",
    endings=(".tif", ".tiff"),
    begins=(b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    module="tomopipe.scans.tiff_scan",
)
FORMATS = (HDF5, TIFF)
RAW_ENDINGS = tuple(ending for format_ in FORMATS for ending in format_.endings)


def format_of(path: Path) -> Format:
    """Recognise the format of a scan; HDF5 where none is: its reader explains what the file is."""
    if os.path.isdir(path):
        return TIFF
    first = b""
    with suppress(OSError, ValueError), open(no_pipe(path), "rb") as stream:
        first = stream.read(8)
    return next((format_ for format_ in FORMATS if first.startswith(format_.begins)), HDF5)
