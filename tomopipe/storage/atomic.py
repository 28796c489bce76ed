"""Write a file whole or not at all: temporary name on the same file system, then rename.

Also tells which results this user may not replace.

In a run the temporary file lies in the folder of the run (`tomopipe.storage.run_folder`), which is
removed when a newer run begins: the rename then fails, so a job of an ended run cannot replace a
result.
"""

import hashlib
import json
import os
import pwd
import secrets
import shlex
import shutil
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from tomopipe.errors import FolderInPlaceError, grouped, on_os_error, room_for
from tomopipe.paths import existing_folder
from tomopipe.storage import checksums, run_folder
from tomopipe.storage.checksums import names_of_others, write_manifest

_MAY_WRITE = 0o200  # of the owner
_N_FLUSHED = 8  # files flushed at a time


@contextmanager
def whole(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path that becomes `path` when the block ends without an error.

    The temporary file (or folder) lies in the folder of the run, if there is one and it is on the
    file system of `path`; else in the folder of `path`, which is made if necessary. It has the
    suffix of `path`, since some writers use it. An existing file is replaced in one step; an
    existing folder is moved aside first. On an error the temporary one is removed and `path` is
    left as it was. Files of killed processes are removed with their run, or by `remove_stale`. The
    checksum is remembered (`tomopipe.storage.checksums`).

    Raises RunEndedError if the run of this job has ended, NoRoomError if the file system or a quota
    is full, FolderInPlaceError if `path` is a folder and the new result a file.
    """
    final = Path(path)
    with room_for(final):
        final.parent.mkdir(parents=True, exist_ok=True)
    temporary = _new_name(final, final.suffix[:16])
    try:
        with room_for(final):
            yield temporary
            checksum = checksums.finish(temporary)
            for check in before_rename:
                check()
            if temporary.is_dir():
                _flush_below(temporary)
                _replace_folder(temporary, final)
            else:
                flush(temporary)
                _replace_file(temporary, final)
            checksums.remember(final, checksum)
    except BaseException as error:
        checksums.forget(temporary)
        _remove(temporary)
        if isinstance(error, FileNotFoundError):
            run_folder.current()  # raises if the run has ended meanwhile
        raise


_TMP = ".tmp-"
before_rename: list[Callable[[], None]] = []
"""Functions called before the final rename; an exception leaves everything unchanged."""


def remove_stale(*paths: str | os.PathLike[str]) -> list[Path]:
    """Remove and return temporary files that killed writers of `paths` left beside them.

    To be called only where nobody else writes these paths: at the start of the job that makes them.
    """
    starts = grouped((final.parent, _prefix(final)) for final in map(Path, paths))
    stale = [
        folder / name
        for folder, prefixes in starts.items()
        for name in (sorted(os.listdir(folder)) if folder.is_dir() else ())
        if name.startswith(_TMP) and name.startswith(tuple(prefixes))
    ]
    for leftover in stale:
        _remove(leftover)
    return stale


def take_away(path: str | os.PathLike[str]) -> None:
    """Remove a result in one step, if it exists; RunEndedError in a job of an ended run."""
    final = Path(path)
    run_folder.current()
    if not os.path.lexists(final):
        return
    aside = _new_name(final, "-old")
    try:
        final.rename(aside)
    except FileNotFoundError:
        run_folder.current()
        return
    if aside.is_dir() and not aside.is_symlink() and (others := names_of_others(aside)):
        final.mkdir()
        write_manifest(final, {})  # marks the remaining files as foreign
        _move(others, aside, final)
    _remove(aside)


def keep_aside(path: str | os.PathLike[str]) -> Path:
    """Rename a file or folder of others to NAME.before-DATE beside it, a new name; return that.

    Nothing is opened or overwritten. RunEndedError in a job of an ended run.
    """
    final = Path(path)
    run_folder.current()
    start = f"{final.name}.before-{time.strftime('%Y%m%d-%H%M')}"
    names = (f"{start}-{number}" if number > 1 else start for number in count(1))
    kept = next(place for name in names if not os.path.lexists(place := final.with_name(name)))
    with on_os_error(f"{path}: is not tomopipe's, and cannot be renamed", " Move it away."):
        final.rename(kept)
    return kept


def write_text(text: str, path: str | os.PathLike[str]) -> None:
    """Write UTF-8 text whole, with LF line ends; bytes of undecodable file names are escaped."""
    with whole(path) as temporary:
        temporary.write_bytes(text.encode("utf-8", "backslashreplace"))


def write_json(data: Any, path: str | os.PathLike[str]) -> None:
    """Write `data` as sorted JSON, so that equal data give equal files."""
    write_text(json.dumps(data, indent=1, sort_keys=True, allow_nan=False) + "\n", path)


def _new_name(final: Path, ending: str) -> Path:
    """Return a temporary path, in the folder of the run if the file system is that of `final`."""
    folder = run_folder.current()
    if folder is None or os.stat(folder).st_dev != os.stat(final.parent).st_dev:
        folder = final.parent
    return folder / f"{_prefix(final)}{secrets.token_hex(4)}{ending}"


def _prefix(final: Path) -> str:
    """Return the beginning of all temporary names of `final`, and of no others."""
    # a hash: long names leave no room for a prefix (255 bytes at most)
    return f"{_TMP}{hashlib.sha256(os.fsencode(final.name)).hexdigest()[:16]}-"


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def flush(path: str | os.PathLike[str]) -> None:
    """Flush to disk: before a rename, so that a power cut leaves the old file or the new one."""
    with open(path, "rb") as stream:
        os.fsync(stream.fileno())


def _flush_below(folder: Path) -> None:
    """Flush the files of a folder, several at a time, so that the disk waits once for many."""
    paths = [os.path.join(top, name) for top, _, names in os.walk(folder) for name in names]
    states = [(path, os.lstat(path)) for path in paths]
    with ThreadPoolExecutor(_N_FLUSHED) as pool:
        # hard links are on disk already
        new = [path for path, of in states if stat.S_ISREG(of.st_mode) and of.st_nlink == 1]
        list(pool.map(flush, new))


def _replace_file(temporary: Path, final: Path) -> None:
    try:
        temporary.replace(final)
    except IsADirectoryError as error:
        raise FolderInPlaceError(error.errno, error.strerror, str(final)) from error


def _replace_folder(temporary: Path, final: Path) -> None:
    if final.exists():
        aside = temporary.with_name(temporary.name + "-old")
        final.rename(aside)
        temporary.rename(final)
        _move(names_of_others(aside), aside, final)
        shutil.rmtree(aside)
    else:
        temporary.rename(final)


def _move(names: Iterable[str], folder: Path, to: Path) -> None:
    for name in names:
        (folder / name).rename(to / name)


def closed(folders: Iterable[Path]) -> list[Path]:
    """Return the folders (if missing, the nearest above) that this user cannot write."""
    existing = dict.fromkeys(map(existing_folder, folders))
    return [folder for folder in existing if not os.access(folder, os.W_OK | os.X_OK)]


def is_protected(path: str | os.PathLike[str]) -> bool:
    """Tell whether a result is write-protected and so must not be replaced.

    Links are not, nor files of others that they may write, in a folder where this user may rename.
    """
    if not os.path.exists(path) or os.path.islink(path) or os.access(path, os.W_OK):
        return False
    state, folder = os.stat(path), os.path.dirname(os.path.abspath(path))
    theirs = state.st_uid != os.geteuid() and state.st_mode & _MAY_WRITE
    if not theirs or stat.S_ISDIR(state.st_mode) or not os.access(folder, os.W_OK | os.X_OK):
        return True
    status = os.stat(folder)  # in a sticky folder only its owner, or that of the file, may rename
    return bool(status.st_mode & stat.S_ISVTX) and status.st_uid != os.geteuid()


def why_not_replaced(path: str | os.PathLike[str]) -> str:
    """Say why a result cannot be replaced, or made, and what to type; "" if it can."""
    shut = closed([Path(path).parent])
    if is_protected(path):
        return (
            f"{path}: is write-protected and was left unchanged. To replace it: "
            f"{giving_rights([Path(path), *shut])}"
        )
    return f"{shut[0]}: cannot be written; for {path}: {giving_rights(shut)}" if shut else ""


def giving_rights(paths: Sequence[Path]) -> str:
    """Return what lets this user write these paths: a command, or whom to ask for it."""
    states = [path.stat() for path in paths]
    names = shlex.join(str(path.absolute()) for path in paths)
    if others := {state.st_uid for state in states} - {os.geteuid()}:
        owners = " and ".join(map(_user_name, sorted(others)))
        return (
            f"ask {owners} to type `chmod -R g+rwX {names}`, in a group of both of you "
            "(docs/how-to/edit-and-rerun.md, Several people)"
        )
    if any(not state.st_mode & _MAY_WRITE for state in states):
        return f"`chmod u+rwX {names}`"
    return "ask the administrator of the disk for write access"


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:  # not a user of this machine
        return f"user {uid}"
