"""Errors that are meant for people: each names file, found, expected and what to do."""

import errno
from collections.abc import Sequence


class TomopipeError(Exception):
    """An error the user can act on; the command line prints it without a traceback."""


class ScanError(TomopipeError):
    """A scan that cannot be used; the message is the reason written to the inventory."""


class RunEndedError(TomopipeError):
    """The run that a job belongs to has ended, or a newer one has begun."""


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


def some_of(names: Sequence[str], n_most: int) -> str:
    """Name the first of several things, as a part of a sentence; dots stand for the others."""
    return ", ".join([*names[:n_most], *(["..."] if len(names) > n_most else [])])
