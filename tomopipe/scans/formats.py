"""The formats of raw scans: how files are named and begin, who reads them.

The one place that knows: what init and patterns look for, which reader opens a scan or flats and
darks elsewhere, and where else their parts may stand. The readers are imported when they are used.
"""

import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tomopipe.scans.hdf5 import check_file

if TYPE_CHECKING:
    from tomopipe.config import InputBlock
    from tomopipe.scans.layout import Kind, Reader, Reference

Path = str | os.PathLike[str]
OpenScan = Callable[[Path, "InputBlock", ExitStack], "Reader"]
OpenReferences = Callable[[Path, "Kind", "InputBlock", ExitStack], "list[Reference]"]


@dataclass(frozen=True)
class Format:
    """A format of raw scans."""

    name: str  # for people
    endings: tuple[str, ...]  # of its files, in lower case; its folders may have any name
    begins: tuple[bytes, ...]  # the first bytes of its files, 8 at most
    open: OpenScan  # a scan; what it opens is closed with the stack
    # flats or darks in a file of their own, read with the `input` of the scan that they are for
    references: OpenReferences


def _hdf5(path: Path, options: "InputBlock", stack: ExitStack) -> "Reader":
    from tomopipe.scans.hdf5_scan import open_layout

    return open_layout(path, options, stack)


def _in_hdf5(
    path: Path, kind: "Kind", options: "InputBlock", stack: ExitStack
) -> "list[Reference]":
    from tomopipe.scans.hdf5_scan import references_in

    return references_in(path, kind, options, stack)


def _tiff(path: Path, options: "InputBlock", _: ExitStack) -> "Reader":
    from tomopipe.scans.tiff_scan import TiffReader

    return TiffReader(path, options)


def _in_tiff(path: Path, kind: "Kind", options: "InputBlock", _: ExitStack) -> "list[Reference]":
    from tomopipe.scans.tiff_scan import all_frames

    return [all_frames(path, kind, options.axes)]


HDF5 = Format(
    "HDF5",
    endings=(".h5", ".hdf5", ".hdf", ".nxs", ".nx"),
    begins=(b"\x89HDF\r\n\x1a\n",),
    open=_hdf5,
    references=_in_hdf5,
)
TIFF = Format(
    "TIFF",
    endings=(".tif", ".tiff"),
    begins=(b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    open=_tiff,
    references=_in_tiff,
)
FORMATS = (HDF5, TIFF)
RAW_ENDINGS = tuple(ending for format_ in FORMATS for ending in format_.endings)


def format_of(path: Path) -> Format:
    """Recognise the format of a scan from its content; a ScanError if nothing can be read there.

    A folder is one of TIFF files. What no other format claims is handed to HDF5, which may begin
    further on, or says what is there instead.
    """
    if os.path.isdir(path):
        return TIFF
    first = check_file(path)
    return next((format_ for format_ in FORMATS if first.startswith(format_.begins)), HDF5)
