"""Errors that are meant for people, and the words for them: file, found, expected, what to do."""

import errno
import os
import re
import resource
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

RETIRED = {
    "a value as text": "write it into config.yaml, without quotes; of all that stands in braces in "
    "--config Snakemake makes texts",
    "an option as a column": "write it into config.yaml, as in overrides: "
    "[{scans: [a_1], full_recon: {filter: hann}}], and remove the column",
    "an import of a folder": "name its files, such as rot_cen.json or FOLDER/*.cor.json",
    "convert --one-range": "write --range LOW HIGH, which all volumes of the command get",
    "init --scans": "write files or patterns after the campaign folder",
    "--allow-run": "start the run with `tomopipe run`; the page shows its progress",
    "predict_cor.methods: sum": "write ai, or classical (without a network)",
    "predict_cor.methods: registration": "write classical, which compares opposing lines, too",
    "preprocess.stripes.method: titarenko": "write gated, or fourier-wavelet",
    "watch.every": "take the key out: each run makes everything, the CORs of new scans first",
    "preprocess.stripes.alpha": "take the key out: it was of the method titarenko",
}
"""Keys, `key: value`, ways to write them, options: each the end of a sentence."""


class TomopipeError(Exception):
    """An error the user can act on; the command line prints it without a traceback."""


class ScanError(TomopipeError):
    """A scan that cannot be used; the message is the reason written to the inventory."""


class ScanFaultError(ScanError):
    """What is wrong with a scan, without its path: who opened the scan adds it (`naming`)."""


class DeviceError(TomopipeError):
    """A GPU that a machine lacks, or cannot use: the fault of no scan, and another may have one."""


class RunEndedError(TomopipeError):
    """The run that a job belongs to has ended, or a newer one has begun."""


class NoRoomError(TomopipeError, OSError):
    """A file system, or a quota, of bytes or of files, that is used up; or a limit of a file."""

    def __str__(self) -> str:
        return str(self.strerror)


@contextmanager
def room_for(
    path: str | os.PathLike[str],
    advice: str = "Remove there what is no longer needed, or ask for more, and run again.",
) -> Iterator[None]:
    """Say what cannot be written for want of room, and what to do, when the block fails for that.

    `path` is what is written, or the folder that it lies in. NoRoomError replaces the OSError of a
    full file system or quota, or of a file that may not grow.
    """
    try:
        yield
    except OSError as error:
        # NumPy's tofile says how much it wrote, and loses the number
        number = errno.ENOSPC if _OF_NUMPY.fullmatch(str(error)) else error.errno
        if isinstance(error, NoRoomError) or number not in _NO_ROOM:
            raise
        used_up = f"{os.strerror(number).lower()} ({_SEE})"
        text = f"{os.fspath(path)}: cannot be written: {used_up}. {advice}"
        raise NoRoomError(number, text) from error


@contextmanager
def saying(what: str, advice: str = "") -> Iterator[None]:
    """Say what failed, such as "scans.tsv: cannot be read", where the block has an OSError."""
    try:
        yield
    except NoRoomError:
        raise  # it says all
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
    """Raise the OSError of a folder in which nothing can be written."""
    with tempfile.TemporaryFile(dir=folder) as probe:
        probe.write(bytes(_PROBE_BYTES))
        probe.flush()


def file_limit() -> int | None:
    """Return the bytes that a file of this process may have (`ulimit -f`); None: no limit."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    return None if limit == resource.RLIM_INFINITY else limit


# h5py says nothing of a damaged file; of one that is not there its state tells
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
    """Tell a fault of disk, network or permission, gone perhaps the next time, from a file's."""
    while error is not None:
        if isinstance(error, OSError) and error.errno not in _OF_THE_FILE:
            return True
        error = error.__cause__
    return False


def is_of_the_scan(error: BaseException | None) -> bool:
    """Tell an error for which another attempt helps only once the file or the options are others.

    Not one of the system or a GPU, nor for want of memory, or of the file, which may come back.
    """
    if is_of_the_system(error):
        return False
    while error is not None:
        if isinstance(error, MemoryError | FileNotFoundError | DeviceError):
            return False
        error = error.__cause__
    return True


_SLIPS = (TypeError, AttributeError, NameError, LookupError)
_PACKAGE = os.path.join(os.path.dirname(__file__), "")


def own_error(error: BaseException | None) -> str:
    """Say that tomopipe is to blame, and where; "" if it is what a broken file raises.

    Slips of programmers are ours where our code raised them, not a library that reads a file.
    """
    while error is not None:
        place = error.__traceback__
        while place is not None and place.tb_next is not None:
            place = place.tb_next
        file = place.tb_frame.f_code.co_filename if place else ""
        if isinstance(error, _SLIPS) and place and file.startswith(_PACKAGE):
            text = " ".join(str(error).split())
            return (
                f"tomopipe's own error, please report it with the log ({type(error).__name__}: "
                f"{text}; {file.removeprefix(_PACKAGE)} line {place.tb_lineno})"
            )
        error = error.__cause__
    return ""


def reason_of(error: Exception) -> str:
    """Return the text of an error in one line, after its type where it is not meant for people."""
    text = " ".join(str(error).split())
    if isinstance(error, TomopipeError):
        return text
    return own_error(error) or f"{type(error).__name__}: {text}"


def some_of(names: Sequence[str], n_most: int) -> str:
    """Name the first of several things, as a part of a sentence; dots stand for the others."""
    return ", ".join([*names[:n_most], *(["..."] if len(names) > n_most else [])])


K = TypeVar("K")
V = TypeVar("V")


def grouped(pairs: Iterable[tuple[K, V]]) -> dict[K, list[V]]:
    """Return the values of each key, both in the order in which they come."""
    groups: dict[K, list[V]] = {}
    for key, value in pairs:
        groups.setdefault(key, []).append(value)
    return groups


def scans_named(names: Sequence[str]) -> str:
    """Name the scans that share a fault: one by its name, several by their number and the first."""
    return names[0] if len(names) == 1 else f"{len(names)} scans ({some_of(names, 3)})"


def fault_lines(faults: Iterable[tuple[str, str]]) -> list[str]:
    """Return a line for each text and the scans that share it, from (text, scan).

    Texts that differ in the name of the scan alone are one, with {scan} in its place.
    """
    alike = grouped(
        (re.sub(rf"(?<!\w){re.escape(scan)}(?!\w)", "{scan}", text), (text, scan))
        for text, scan in faults
    )
    lines = []
    for pattern, entry in alike.items():
        text = pattern if len(entry) > 1 else entry[0][0]
        lines.append(f"{scans_named([scan for _, scan in entry])}: {text}")
    return lines
