"""Where the workflow lies, beside the package in a checkout, inside it when installed; folders.

Also what stands where a file is to be opened: see `no_pipe`.
"""

import errno
import os
import stat
from pathlib import Path
from typing import TypeVar

from tomopipe.errors import PipeInPlaceError, TomopipeError

AnyPath = TypeVar("AnyPath", bound=str | os.PathLike[str])
_KINDS = {
    stat.S_IFIFO: "pipe",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
}


def workflow_folder() -> Path:
    """Return the folder that holds Snakefile, workflow/ and profiles/."""
    package = Path(__file__).parent
    for folder in (package.parent, package / "_workflow"):
        if (folder / "Snakefile").is_file() and (folder / "workflow").is_dir():
            return folder
    raise TomopipeError(f"{package}: no Snakefile beside or inside the package. Install it again.")


def existing_folder(path: Path) -> Path:
    """Return a folder, or the nearest above it that is there."""
    return next(folder for folder in (path, *path.parents) if folder.exists())


def what_is_no_file(path: str | os.PathLike[str]) -> str:
    """Say that a pipe, a socket or a device is in the place of a file; "" if none is."""
    try:
        kind = _KINDS.get(stat.S_IFMT(os.stat(path).st_mode))
    except (OSError, ValueError):  # who opens it says why
        return ""
    return f"is a {kind}, not a file: remove it" if kind else ""


def no_pipe(path: AnyPath) -> AnyPath:
    """Return a path that is to be opened; PipeInPlaceError for a pipe, a socket or a device.

    All files that others may have put there are opened through it: a pipe that nobody writes would
    hold the process for ever, also when it is asked to end.
    """
    if fault := what_is_no_file(path):
        raise PipeInPlaceError(errno.EINVAL, fault, str(path))
    return path
