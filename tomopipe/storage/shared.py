"""Edit a small file that others edit too: one writer at a time, and no change is lost.

Writers of tomopipe wait for each other by a lock file beside the file, made exclusively, which
works on file servers where locks of the kernel do not. As that of a run it is never stale by its
age: it is taken over if the process that holds it is proven dead on this host. Editors and
spreadsheets ignore it: if they save meanwhile, the change is made again on the new content.
"""

import json
import logging
import os
import random
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tomopipe.errors import TomopipeError, room_for
from tomopipe.paths import no_pipe
from tomopipe.storage.atomic import flush, remove_stale, whole, why_not_replaced
from tomopipe.storage.json_files import json_or
from tomopipe.storage.processes import is_alive, named

WAIT_S = 10.0
_SETTLED_S = 0.03  # longer than an editor takes to write a small file it has begun to write
_EMPTIED_S = 2.0  # and than it leaves the file empty, on a slow file server, before it writes
_ATTEMPTS = 8

log = logging.getLogger(__name__)
log.setLevel(logging.WARNING)  # also shown where a command hides messages of the steps


class _AgainError(Exception):
    """The file has changed since it was read."""


def update_file(
    path: str | os.PathLike[str],
    change: Callable[[bytes], bytes],
    then: Callable[[], None] = lambda: None,
) -> bool:
    """Replace the content of a file by `change(content)`, atomically, under its lock.

    A file that does not exist is made, from b""; a link stays a link, and mode and group stay.
    `change` is called again if somebody saved the file meanwhile; if it raises, nothing is written.
    `then` is called after a change, still under the lock. Returns whether the file changed.
    Raises TomopipeError if the file is write-protected, another writer does not finish in time, or
    others keep saving; OSError if the file cannot be read or written.
    """
    real = Path(os.path.realpath(path))
    real.parent.mkdir(parents=True, exist_ok=True)
    for _ in range(_ATTEMPTS):
        with suppress(_AgainError), locked(real):
            remove_stale(real)
            before = _content(real)
            after = change(before)
            if after == before:
                return False
            if why := why_not_replaced(real):
                raise TomopipeError(why)
            _replace(real, before, after)
            then()
            return True
    raise TomopipeError(f"{path}: others keep changing it; nothing was written. Try again.")


def settled_content(path: str | os.PathLike[str]) -> bytes:
    """Return the content of a file while nobody is saving it: some editors empty it first.

    Raises OSError.
    """
    deadline_s = time.monotonic() + _EMPTIED_S
    text = None
    with open(no_pipe(path), "rb", buffering=0) as stream:
        while True:
            stream.seek(0)
            before, text = text, stream.read()
            age_s = abs(time.time() - os.fstat(stream.fileno()).st_mtime)
            if age_s > _EMPTIED_S or (text and text == before) or time.monotonic() > deadline_s:
                return text
            time.sleep(_SETTLED_S)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of a file, `<name>.lock` beside it, which need not exist; its folder must.

    Raises TomopipeError, which names the holder, if somebody else holds it for longer than
    `WAIT_S`, NoRoomError if there is no room for the lock.
    """
    lock = path.with_name(f"{path.name}.lock")
    since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    content = json.dumps(named(os.getpid()) | {"since": since}).encode()
    with room_for(path):
        _acquire(path, lock, content)
    try:
        yield
    finally:
        with suppress(FileNotFoundError):
            if no_pipe(lock).read_bytes() == content:
                lock.unlink()


def _acquire(path: Path, lock: Path, content: bytes) -> None:
    deadline = time.monotonic() + WAIT_S
    while not make_lock(lock, content):
        holder = json_or(lock, {})
        if is_alive(holder) is False and json_or(lock, {}) == holder:
            # of two that take it over at once, the second look before a rename finds the other
            lock.unlink(missing_ok=True)
            log.warning("%s: lock of %s taken over: it has ended", path, _describe(holder))
        elif time.monotonic() >= deadline:
            raise TomopipeError(
                f"{path}: is being changed by {_describe(holder)}; waited {WAIT_S:g} s, and "
                f"nothing was written. Try again; if nobody is editing it, remove {lock}."
            )
        else:
            time.sleep(random.uniform(0.005, 0.05))


def make_lock(lock: Path, content: bytes) -> bool:
    """Make a lock file with this content, exclusively; False if there is one."""
    try:
        descriptor = os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    except FileExistsError:
        return False
    try:
        with open(descriptor, "wb") as stream:
            os.fchmod(descriptor, 0o644)  # regardless of the umask, others must see who holds it
            stream.write(content)
    except OSError:
        lock.unlink(missing_ok=True)
        raise
    return True


def _describe(holder: Mapping[str, Any]) -> str:
    if "pid" not in holder:
        return "an unknown user"
    return (
        f"{holder.get('user')} on {holder.get('host')} (process {holder['pid']}, "
        f"since {holder.get('since')})"
    )


def _replace(path: Path, before: bytes, after: bytes) -> None:
    """Replace `before` by `after`; _AgainError if somebody else has saved meanwhile."""
    with whole(path) as temporary:
        temporary.write_bytes(after)
        with suppress(FileNotFoundError):
            take_mode(path, temporary)
        try:
            flush(temporary)  # slow, so done before the last check
        except FileNotFoundError:  # removed by whoever took our lock
            raise _AgainError from None
        if _content(path) != before:
            raise _AgainError


def take_mode(path: Path, new: Path) -> None:
    """Give a new file the group and the mode of an old one, as far as permitted."""
    with suppress(OSError):
        os.chown(new, -1, path.stat().st_gid)
    shutil.copymode(path, new)


def _content(path: Path) -> bytes:
    try:
        return settled_content(path)
    except FileNotFoundError:
        return b""
