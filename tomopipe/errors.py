"""Errors for users, with file, value found, expected value and remedy."""

import errno
import glob
import json
import os
import re
import resource
import shlex
import socket
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar


class TomopipeError(Exception):
    """An error the user can act on; the command line prints it without a traceback."""


class ScanError(TomopipeError):
    """A scan that cannot be used; the message is the reason written to the inventory."""


class PixelsError(ScanError):
    """Pixels of a scan that cannot be read: who needs them fails alike."""


class ScanFaultError(ScanError):
    """What is wrong with a scan, without its path: who opened the scan adds it (`naming`)."""


class DeviceError(TomopipeError):
    """A missing or unusable GPU: not the fault of a scan; another machine may have one."""


class LibraryError(TomopipeError):
    """A library that this machine cannot load: not the fault of a scan; another machine may."""


class RunEndedError(TomopipeError):
    """The run that a job belongs to has ended, or a newer one has begun."""


class NoRoomError(TomopipeError, OSError):
    """A full file system or quota (bytes or files), or an exceeded file size limit."""

    def __str__(self) -> str:
        return str(self.strerror)


class FolderInPlaceError(TomopipeError, OSError):
    """A folder in the place of a file that is to be written."""

    def __str__(self) -> str:
        text = f"{self.filename}: a folder, expected a file or nothing"
        return f"{text}. Move it away, and run again."


class PipeInPlaceError(TomopipeError, OSError):
    """A pipe, a device or a socket in the place of a file: to open it may wait for ever."""

    def __str__(self) -> str:
        return f"{self.filename}: {self.strerror}"


@contextmanager
def room_for(
    path: str | os.PathLike[str],
    advice: str = "Remove there what is no longer needed, or ask for more, and run again.",
) -> Iterator[None]:
    """Raise NoRoomError, with a remedy, if the block fails because there is no room.

    `path` is the file written, or its folder. NoRoomError replaces the OSError of a full file
    system or quota, or of an exceeded file size limit.
    """
    try:
        yield
    except OSError as error:
        # NumPy's tofile loses the errno
        number = errno.ENOSPC if _OF_NUMPY.fullmatch(str(error)) else error.errno
        if isinstance(error, NoRoomError) or number not in _NO_ROOM:
            raise
        used_up = f"{os.strerror(number).lower()} ({_SEE})"
        text = f"{os.fspath(path)}: cannot be written: {used_up}. {advice}"
        raise NoRoomError(number, text) from error


@contextmanager
def on_os_error(what: str, advice: str = "") -> Iterator[None]:
    """Raise TomopipeError with `what`, such as "scans.tsv: cannot be read", on an OSError."""
    try:
        yield
    except NoRoomError:
        raise  # complete already
    except OSError as error:
        raise TomopipeError(f"{what} ({error.strerror}).{advice}") from error


@contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Add the path of the file that is read to each ScanFaultError of the block."""
    try:
        yield
    except ScanFaultError as fault:
        raise ScanError(f"{path}: {fault}") from fault


_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_SEE = "`df -h`, `df -i`, `quota -s` and `ulimit -f` show limits of bytes and files"
_PROBE_BYTES = 2**20
_OF_NUMPY = re.compile(r"\d+ requested and \d+ written")


def write_for_a_moment(folder: str | os.PathLike[str]) -> None:
    """Write a temporary file; raises OSError if the folder cannot be written."""
    with tempfile.TemporaryFile(dir=folder) as probe:
        probe.write(bytes(_PROBE_BYTES))
        probe.flush()


def full_disk(folder: str | os.PathLike[str]) -> str:
    """Say that a folder's disk or quota is full; "" if it is not."""
    try:
        with room_for(folder):
            write_for_a_moment(folder)
    except NoRoomError as error:
        return str(error)
    except OSError:
        pass
    return ""


def file_limit() -> int | None:
    """Return the largest file size of this process (bytes, `ulimit -f`); None: no limit."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    return None if limit == resource.RLIM_INFINITY else limit


# h5py gives no errno for a damaged file
_OF_THE_FILE = (
    None,
    0,
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ELOOP,
    errno.EINVAL,
    errno.ENAMETOOLONG,
)


def is_of_the_system(error: BaseException | None) -> bool:
    """Tell whether an error is of disk, network or permission, perhaps temporary, not of a file."""
    while error is not None:
        if isinstance(error, OSError) and error.errno not in _OF_THE_FILE:
            return True
        error = error.__cause__
    return False


def is_of_the_scan(error: BaseException | None) -> bool:
    """Tell whether another attempt helps only after a change of the file or the options.

    That excludes errors of the system, a GPU or a library, lack of memory, and missing files.
    """
    if is_of_the_system(error) or library_error(error):
        return False
    while error is not None:
        if isinstance(error, MemoryError | FileNotFoundError | DeviceError):
            return False
        error = error.__cause__
    return True


# ctypes and llvmlite raise an OSError without a number
_NOT_LOADED = re.compile(r"shared object|\.so\b|undefined symbol|GLIBC|static TLS block")


def library_error(error: BaseException | None) -> LibraryError | None:
    """Return the error of a library that this machine cannot load; None for any other.

    An error that was worded for users, such as of a package to be installed, is another one.
    """
    while error is not None and not isinstance(error, TomopipeError):
        is_bare = isinstance(error, OSError) and error.errno is None
        if isinstance(error, ImportError) or (is_bare and _NOT_LOADED.search(str(error))):
            text = " ".join(str(error).split())
            return LibraryError(
                f"{socket.gethostname()}: a library cannot be loaded ({type(error).__name__}: "
                f"{text}). The scan is not at fault: install tomopipe again on this machine, or "
                "leave it out."
            )
        error = error.__cause__
    return error if isinstance(error, LibraryError) else None


_SLIPS = (TypeError, AttributeError, NameError, LookupError)
_PACKAGE = os.path.join(os.path.dirname(__file__), "")


def own_error(error: BaseException | None) -> str:
    """Describe an error in tomopipe's own code, and its line; "" for one of a broken file.

    Errors of programming count as ours if raised by our code, not by a library that reads a file.
    """
    while error is not None:
        frame = error.__traceback__
        while frame is not None and frame.tb_next is not None:
            frame = frame.tb_next
        file = frame.tb_frame.f_code.co_filename if frame else ""
        if isinstance(error, _SLIPS) and frame and file.startswith(_PACKAGE):
            text = " ".join(str(error).split())
            return (
                f"tomopipe's own error, please report it with the log ({type(error).__name__}: "
                f"{text}; {file.removeprefix(_PACKAGE)} line {frame.tb_lineno})"
            )
        error = error.__cause__
    return ""


def reason_of(error: Exception) -> str:
    """Return the text of an error in one line, after its type if it is not for users."""
    text = " ".join(str(error).split())
    if isinstance(error, TomopipeError):
        return text
    return own_error(error) or f"{type(error).__name__}: {text}".removesuffix(": ")


def unexpected(error: Exception) -> Exception | None:
    """Return an error whose traceback a log should have; None for one that is a message."""
    return None if isinstance(error, TomopipeError) else error


def some_of(names: Sequence[str], n_most: int) -> str:
    """Name the first of several things, as a part of a sentence, with dots for the others."""
    return ", ".join([*names[:n_most], *(["..."] if len(names) > n_most else [])])


K = TypeVar("K")
V = TypeVar("V")


def grouped(pairs: Iterable[tuple[K, V]]) -> dict[K, list[V]]:
    """Return the values of each key, both in their original order."""
    groups: dict[K, list[V]] = {}
    for key, value in pairs:
        groups.setdefault(key, []).append(value)
    return groups


def scan_word(name: str) -> str:
    """Return a scan as a word of a command to paste: quoted, and a pattern if it begins with -.

    After `--`, where other commands take such a name, `tomopipe run` has options of Snakemake.
    """
    is_option = name.startswith("-")
    return shlex.quote(f"[-]{glob.escape(name[1:])}" if is_option else name)


def scans_named(names: Sequence[str]) -> str:
    """Name scans: one by its name, several by their number and the first names."""
    return names[0] if len(names) == 1 else f"{len(names)} scans ({some_of(names, 3)})"


_SHAPE = re.compile(r" \(\d+,[\d, ]*\)")


def fault_lines(faults: Iterable[tuple[str, str]]) -> list[str]:
    """Return a line for each text and the scans that share it, from (text, scan).

    Texts that differ only in the name of the scan are combined, with {scan} in its place, and in
    lists of scans all names; so are those that differ in the sizes of datasets, with those of the
    first. Equal texts stay.
    """
    faults = list(faults)
    number = Counter(text for text, _ in faults)
    texts = {
        (text, scan): text
        if number[text] > 1
        else re.sub(rf"(?<![\w.]){re.escape(scan)}(?!\w)", "{scan}", text)
        for text, scan in faults
    }
    alike = grouped((_SHAPE.sub("", pattern), key) for key, pattern in texts.items())
    lines = []
    for entry in alike.values():
        scans = [scan for _, scan in entry]
        text = entry[0][0] if len(entry) == 1 else _of_all([texts[key] for key in entry])
        # advice to be copied into the configuration
        text = text.replace('["{scan}"]', json.dumps(scans, ensure_ascii=False))
        lines.append(f"{scans_named(scans)}: {text}")
    return lines


def _of_all(texts: Sequence[str]) -> str:
    """Return the first of texts, with a remark after sizes that are others in others."""
    sizes = zip(*map(_SHAPE.findall, texts), strict=True)
    remarks = iter([" and others" * (len({*each}) > 1) for each in sizes])
    return _SHAPE.sub(lambda size: size[0] + next(remarks), texts[0])
