"""Results and folders that this user may not replace or write, and the command that changes it."""

import os
import shlex
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path

from tomopipe.paths import existing_folder
from tomopipe.storage.run_folder import user_name

_MAY_WRITE = 0o200  # of the owner


def closed(folders: Iterable[Path]) -> list[Path]:
    """Return the folders, or the nearest above that are there, that this user cannot write."""
    existing = dict.fromkeys(map(existing_folder, folders))
    return [folder for folder in existing if not os.access(folder, os.W_OK | os.X_OK)]


def is_protected(path: str | os.PathLike[str]) -> bool:
    """Tell whether a result is write-protected: it is not to be replaced. A link never is.

    Nor is a file that somebody else may write, in a folder where this user may rename it.
    """
    if not os.path.exists(path) or os.path.islink(path) or os.access(path, os.W_OK):
        return False
    state, folder = os.stat(path), os.path.dirname(os.path.abspath(path))
    theirs = state.st_uid != os.geteuid() and state.st_mode & _MAY_WRITE
    if not theirs or stat.S_ISDIR(state.st_mode) or not os.access(folder, os.W_OK | os.X_OK):
        return True
    status = os.stat(folder)  # in a sticky one only its owner, and that of a file, may
    return bool(status.st_mode & stat.S_ISVTX) and status.st_uid != os.geteuid()


def why_not_replaced(path: str | os.PathLike[str]) -> str:
    """Say why a result cannot be replaced, or made, and what to type; "" if it can."""
    shut = closed([Path(path).parent])
    if is_protected(path):
        return (
            f"{path}: is write-protected, so it stays as it is. To have it made again: "
            f"{giving_rights([Path(path), *shut])}"
        )
    return f"{shut[0]}: cannot be written; for {path}: {giving_rights(shut)}" if shut else ""


def giving_rights(paths: Sequence[Path]) -> str:
    """Return what gives this user the right to write these: a command, where there is one."""
    states = [path.stat() for path in paths]
    names = shlex.join(str(path.absolute()) for path in paths)
    if any(state.st_uid != os.geteuid() for state in states):
        return f"`sudo chown -R {user_name()} {names}`"
    if any(not state.st_mode & _MAY_WRITE for state in states):
        return f"`chmod u+rwX {names}`"
    return "ask who looks after the disk for the right to"
