"""Open HDF5 files of others read-only, with reasons for those that cannot be, and list objects."""

import errno
import os
import re
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from tomopipe.errors import ScanError
from tomopipe.paths import what_is_no_file

if TYPE_CHECKING:
    import h5py

# File systems without locks: reading without one is all that can be done there.
_NO_LOCKS = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS}
#: What h5py raises for what is damaged, not there, or of another kind than is looked for.
UNREADABLE = (OSError, KeyError, RuntimeError, ValueError, TypeError, MemoryError)
_RECENT_S = 60.0
_DRIVER = "tomopipe"


class StillWrittenError(ScanError):
    """A file that another process is writing."""


def open_hdf5(path: str | os.PathLike[str], *, may_grow: bool = False) -> "h5py.File":
    """Open an HDF5 file read-only, to be closed by the caller.

    With `may_grow` also one that another process writes so that others can read it (SWMR). Raises
    ScanError, `path: reason`, if it cannot be opened, StillWrittenError if another process
    is writing it.
    """
    import h5py

    check_file(path)
    options: dict[str, Any] = {"driver": _driver()}
    try:
        try:
            return h5py.File(path, "r", **options)
        except OSError as error:
            if "unable to lock file" not in str(error) or error.errno not in _NO_LOCKS:
                raise
            return h5py.File(path, "r", locking=False, **options)
    except OSError as error:
        if may_grow:
            with suppress(OSError, ValueError):
                return h5py.File(path, "r", swmr=True, **options)
        raise _explain(path, error) from error


def fault_of(item: "h5py.Group | h5py.Dataset", fault: str) -> ScanError:
    """Return the error for a fault of what a file has, or of the file."""
    return ScanError(f"{item.file.filename}: {fault}")


def source_path(name: str, virtual_path: str) -> str:
    """Return where HDF5 opens a source file: as given, or beside the virtual file.

    Where it looks first, if there is none.
    """
    homes = [os.path.dirname(path) for path in (virtual_path, os.path.realpath(virtual_path))]
    places = []
    for source in (name, name.replace("%%", "%")):
        is_absolute = os.path.isabs(source)
        places += [source] * is_absolute
        relative = os.path.basename(source) if is_absolute else source
        places += [os.path.join(folder, relative) for folder in homes]
    return next(filter(os.path.exists, places), places[0])


def check_file(path: str | os.PathLike[str]) -> bytes:
    """Return the first bytes of a file that is readable, no pipe, not empty, or ScanError."""
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            raise ScanError(f"{path}: a folder, not an HDF5 file")
        if kind := what_is_no_file(path):
            raise ScanError(f"{path}: {kind}")
        if status.st_size == 0:
            raise ScanError(f"{path}: empty file (0 bytes): copy it again, or delete it")
        with open(path, "rb") as stream:
            return stream.read(8)
    except FileNotFoundError as error:
        if os.path.islink(path):
            target = os.readlink(path)
            raise ScanError(
                f"{path}: dangling symbolic link to {target}: mount its disk, or link it again"
            ) from error
        raise ScanError(f"{path}: no such file") from error
    except PermissionError as error:
        raise ScanError(f"{path}: no permission to read it: its owner can `chmod +r` it") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL character in the path
        raise ScanError(f"{path}: cannot be read ({one_line(error)})") from error


def one_line(error: BaseException) -> str:
    """Return the text of an error as one line that is the same for the same file.

    HDF5 puts the time, file descriptors and addresses in memory into its messages; written to a
    table they would make it differ from run to run.
    """
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    text = re.sub(r"\b(time|file descriptor|buf) = [^,)]*(, )?", "", text)
    return " ".join(text.split()) or type(error).__name__


def _driver() -> str:
    """Return the driver of HDF5 that reads of contiguous data what is asked for, not 64 kB."""
    import h5py

    if _DRIVER not in h5py.registered_drivers():

        def choose(access: Any, **_: Any) -> None:
            access.set_fapl_sec2()
            access.set_sieve_buf_size(0)

        h5py.register_driver(_DRIVER, choose)
    return _DRIVER


def _explain(path: str | os.PathLike[str], error: OSError) -> ScanError:
    """Translate h5py's error on opening a file into a reason."""
    text = str(error)
    if "unable to lock file" in text:
        return StillWrittenError(f"{path}: still written (another process has it open for writing)")
    if "already open for write" in text:
        # one that died left its mark in the file: its last change tells
        if time.time() - os.stat(path).st_mtime < _RECENT_S:
            return StillWrittenError(f"{path}: still written (marked as open for writing)")
        return ScanError(
            f"{path}: its writer never closed it; repair a copy with h5clear -s, then use that"
        )
    if "signature not found" in text:
        first = check_file(path)
        return ScanError(
            f"{path}: not an HDF5 file (begins with {first!r}), nor TIFF: no other kind is read: "
            "convert it to TIFF or HDF5"
        )
    if sizes := re.search(r"truncated file: eof = (\d+),.*stored_eof = (\d+)", text):
        return ScanError(
            f"{path}: truncated HDF5 file, {sizes[1]} of {sizes[2]} bytes; copy it again"
        )
    return ScanError(f"{path}: broken HDF5 file ({one_line(error)}): copy it again")


def objects_in(file: "h5py.File") -> Iterator[tuple[str, Any, "h5py.HLObject | None"]]:
    """Yield path, link and object of all that is in a file, each object once, by name.

    None for an object that came before, as groups may be linked several times, also from groups
    below them, and for what other links lead to. Groups may be nested endlessly.
    """
    import h5py

    visited = set()
    # names are bytes where they are not UTF-8
    waiting = [(file, name) for name in sorted(file, key=os.fsencode, reverse=True)]
    while waiting:
        group, name = waiting.pop()
        is_hard = group.id.links.get_info(os.fsencode(name)).type == h5py.h5l.TYPE_HARD
        # h5py returns a link of a name in UTF-8 alone
        link, result = h5py.HardLink() if is_hard else group.get(name, getlink=True), None
        if is_hard:
            entry = group[name]
            address = h5py.h5o.get_info(entry.id).addr
            result = None if address in visited else entry
            visited.add(address)
        yield os.path.join(*map(os.fsdecode, (group.name, name))), link, result
        if isinstance(result, h5py.Group):
            below = sorted(result, key=os.fsencode, reverse=True)
            waiting += [(result, child) for child in below]
