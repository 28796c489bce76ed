"""The formats of raw scans: how files are named and begin, who reads them; notes on angles.

The one place that knows: what init and patterns look for, which reader opens a scan or flats and
darks elsewhere, and where else their parts may stand. The readers are imported when they are used.
"""

import os
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from tomopipe.scans.hdf5 import check_file

if TYPE_CHECKING:
    from tomopipe.config import InputBlock
    from tomopipe.scans.layout import Kind, Reader, Reference


BY_ANGLE = "images ordered by the angles in their names"  # where earlier versions did not
COMMAS = "angles with decimal commas"  # earlier versions left out the decimals
NOT_SQUARE = "pixels are not square: "


Path = str | os.PathLike[str]


@dataclass(frozen=True)
class Format:
    """A format of raw scans."""

    name: str  # for people
    endings: tuple[str, ...]  # of its files, in lower case; its folders may have any name
    begins: tuple[bytes, ...]  # the first bytes of its files, 8 at most
    module: str  # with the functions open_reader and references_in, as below

    def open_reader(self, path: Path, options: "InputBlock", stack: ExitStack) -> "Reader":
        """Open a scan with the reader of its layout; what it opens is closed with the stack."""
        reader: Reader = import_module(self.module).open_reader(path, options, stack)
        return reader

    def references_in(
        self, path: Path, kind: "Kind", options: "InputBlock", stack: ExitStack
    ) -> "list[Reference]":
        """Find flats or darks in a file of their own, with the `input` of the scan they are for."""
        parts: list[Reference]
        parts = import_module(self.module).references_in(path, kind, options, stack)
        return parts


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
    """Recognise the format of a scan; HDF5 may begin further on, or says what is there instead."""
    if os.path.isdir(path):
        return TIFF
    first = check_file(path)
    return next((format_ for format_ in FORMATS if first.startswith(format_.begins)), HDF5)
