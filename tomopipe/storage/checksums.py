"""Checksums of results, taken while they are written, and comparison with what is on disk.

A checksum is one line of text, `xxh3:<bytes>:<layout>:<digest>`, with XXH3 of 128 bits [1]_ in
hexadecimal. Layout `p20`: the file is cut into pieces of 2**20 bytes, and the digest is that of the
pieces' digests, one after the other; so pieces may be summed in any order, while the file is
written. Layout `d12`: a folder of 12 files, and the digest is that of the lines of its manifest
(`tomopipe.storage.manifest`), in order of name. Earlier versions wrote 16 marks behind it.

References
----------
.. [1] https://xxhash.com
"""

import os
import stat
from collections.abc import Callable, Mapping
from typing import Any

import xxhash

from tomopipe.storage.manifest import (
    DAMAGED,
    difference,
    files_below,
    lines_of,
    parse,
    quick_size,
    read_manifest,
    size_of,
    without_marks,
    write_manifest,
)

_PIECE = 2**20  # bytes; must never change

AnyPath = str | os.PathLike[str]
Progress = Callable[[int], None]
Edges = list[tuple[int, bytes]]  # offsets and bytes


def checksum_of(path: AnyPath, progress: Progress | None = None) -> str:
    """Read a finished file, or a folder with all that is below it, and return its checksum.

    Of links in a folder the text counts, not the target. `progress` is called with the number of
    bytes read since the last call.
    """
    if os.path.isdir(path):
        return _of_all(_each_below(path, progress))
    return _of_file(path, progress)


def matches(path: AnyPath, checksum: str, progress: Progress | None = None) -> str:
    """Compare a file or folder with the checksum taken when it was written, as by `checksum_of`.

    Returns "" if nothing changed; else a description of the difference. A TomopipeError if
    `checksum` is not of this form. `progress` as in `checksum_of`.
    """
    try:
        return differs(path, checksum, progress)
    except FileNotFoundError:
        return "missing"
    except OSError as error:
        return f"cannot be read ({error.strerror or error})"


def differs(path: AnyPath, checksum: str, progress: Progress | None = None) -> str:
    """Compare as `matches` does, but raise OSError for what cannot be read."""
    n_bytes, layout = parse(checksum)
    status = os.stat(path)
    is_folder = stat.S_ISDIR(status.st_mode)
    if is_folder != layout.startswith("d"):
        return "a folder, a file is expected" if is_folder else "a file, a folder is expected"
    if is_folder:
        return _folder_differs(path, checksum, progress)
    if status.st_size != n_bytes:
        return f"{status.st_size} bytes, {n_bytes} expected"
    return "" if _of_file(path, progress) == without_marks(checksum) else "its content differs"


def quick_state(path: AnyPath) -> tuple[int, int, int, int] | None:
    """Return size (bytes), modification time (ns), inode and time of the inode's change (ns).

    As few system calls as possible: a file takes one stat; a folder with a manifest a stat, a short
    read and a listing, however many files it has: the bytes recorded in the manifest, its time and
    inode, and 0. Changes in subfolders or within files are not detected (`sizes_match` of
    `tomopipe.storage.manifest` and `matches` do). A folder without a manifest, or with other names
    at the top: bytes and latest time of all files, and the folder's inode. None if it does not
    exist.
    """
    try:
        status = os.stat(path)
        if not stat.S_ISDIR(status.st_mode):
            return status.st_size, status.st_mtime_ns, status.st_ino, status.st_ctime_ns
        if quick := quick_size(path):
            return quick[0], quick[1].st_mtime_ns, quick[1].st_ino, 0
        files = [entry for _, entry in files_below(path)]
    except (OSError, ValueError):  # ValueError: a NUL character in the path
        return None
    latest_ns = max((entry.st_mtime_ns for entry in files), default=status.st_mtime_ns)
    return sum(entry.st_size for entry in files), latest_ns, status.st_ino, 0


def changed_links(folder: AnyPath) -> list[str]:
    """Name what is gone of a folder's manifest, and the links that lead elsewhere.

    A file in the place of a link, as a copy that follows links has, counts as it is.
    """

    def is_changed(name: str, checksum: str) -> bool:
        try:
            return _of_link(os.readlink(os.path.join(folder, name))) != checksum
        except OSError as error:
            return isinstance(error, FileNotFoundError)

    recorded = read_manifest(folder) or {}
    return [name for name, checksum in recorded.items() if is_changed(name, checksum)]


class _Pieces:
    """Digests of the pieces of a file that is being written."""

    def __init__(self) -> None:
        self.digests: dict[int, bytes] = {}
        self._begun: dict[int, tuple[int, Any]] = {}  # bytes so far from its start, and their sum

    def add(self, offset: int, data: memoryview) -> None:
        """Take written bytes; a piece whose bytes do not come in order stays without a digest."""
        while data:
            piece, start = divmod(offset, _PIECE)
            part = data[: _PIECE - start]
            end = start + len(part)
            self.digests.pop(piece, None)  # it is written again
            n_before, total = self._begun.pop(piece, (0, None))
            if n_before == start:
                total = total or xxhash.xxh3_128()
                total.update(part)
                if end < _PIECE:
                    self._begun[piece] = end, total
                else:
                    self.digests[piece] = total.digest()
            offset, data = offset + len(part), data[len(part) :]


_made: dict[str, str] = {}
_open: dict[str, _Pieces] = {}


def written(path: AnyPath, offset: int, data: Any) -> None:
    """Sum bytes, a contiguous buffer, that were written into a temporary file of `whole`.

    What is not reported is read when the file is finished; so a volume larger than the memory is
    not read again from the disk.
    """
    _open.setdefault(_key(path), _Pieces()).add(offset, memoryview(data).cast("B"))


def written_apart(path: AnyPath, offset: int, data: Any) -> Edges:
    """Sum bytes as `written` does, where several threads write parts of a file in any order.

    Returns copies of the bytes of pieces that are shared with the parts around, for `written`, in
    the order of the file.
    """
    part = memoryview(data).cast("B")
    first = min(-offset % _PIECE, len(part))
    last = max(first, len(part) - (offset + len(part)) % _PIECE)
    written(path, offset + first, part[first:last])
    return [(offset + a, bytes(part[a:b])) for a, b in ((0, first), (last, len(part))) if a < b]


def finish(temporary: AnyPath) -> str:
    """Return the checksum of a temporary file or folder that is complete.

    Bytes reported to `written`, and files in a folder whose checksum is remembered, are not read
    again. A folder gets its manifest, unless it is empty.
    """
    if not os.path.isdir(temporary):
        pieces = _open.pop(_key(temporary), None)
        return _of_file(temporary, digests=pieces.digests if pieces else {})
    each = _each_below(temporary, sums=_take_remembered(temporary))
    if size_of(each):
        write_manifest(temporary, each)
    return _of_all(each)


def remember(path: AnyPath, checksum: str) -> None:
    """Store the checksum of a result, or of a finished file in a folder that is being written."""
    _made[_key(path)] = checksum


def forget(temporary: AnyPath) -> None:
    """Drop what is stored of a temporary file or folder that is given up."""
    _open.pop(_key(temporary), None)
    _take_remembered(temporary)


def made(path: AnyPath) -> str:
    """Return the latest checksum of a file or folder that this process has finished; else ""."""
    return _made.get(_key(path), "")


def _take_remembered(folder: AnyPath) -> dict[str, str]:
    """Take the remembered checksums of the files of a temporary folder, by their names in it."""
    inside = os.path.join(_key(folder), "")
    mine = [path for path in list(_made) if path.startswith(inside)]
    return {path.removeprefix(inside): _made.pop(path) for path in mine}


def _key(path: AnyPath) -> str:
    return os.path.abspath(path)


def _of_file(
    path: AnyPath, progress: Progress | None = None, digests: Mapping[int, bytes] | None = None
) -> str:
    """Sum a file, but for the pieces whose digests are given."""
    with open(path, "rb") as stream:  # buffered: network drives may read a piece in parts
        n_bytes = os.fstat(stream.fileno()).st_size
        total, buffer = xxhash.xxh3_128(), memoryview(bytearray(min(_PIECE, n_bytes)))
        for piece in range(-(-n_bytes // _PIECE)):
            if digests and piece in digests:
                total.update(digests[piece])
                continue
            stream.seek(piece * _PIECE)
            n_read = stream.readinto(buffer)
            total.update(xxhash.xxh3_128_digest(buffer[:n_read]))
            if progress:
                progress(n_read)
    return f"xxh3:{n_bytes}:p20:{total.hexdigest()}"


def _each_below(
    folder: AnyPath, progress: Progress | None = None, sums: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return the checksum of each file below a folder, by name, reading those without `sums`."""
    each = dict(sums or {})
    names = sorted((name for name, _ in files_below(folder)), key=os.fsencode)
    for name in names:
        path = os.path.join(folder, name)
        if name not in each:
            is_link = os.path.islink(path)
            each[name] = _of_link(os.readlink(path)) if is_link else _of_file(path, progress)
    return {name: each[name] for name in names}


def _of_link(text: str) -> str:
    target = os.fsencode(text)
    return f"link:{len(target)}:l0:{xxhash.xxh3_128_hexdigest(target)}"


def _of_all(each: Mapping[str, str]) -> str:
    """Sum a folder from its files' checksums by name."""
    return f"xxh3:{size_of(each)}:d{len(each)}:{xxhash.xxh3_128_hexdigest(lines_of(each))}"


def _folder_differs(folder: AnyPath, checksum: str, progress: Progress | None) -> str:
    """Say what changed in a folder, by its manifest if that is unchanged."""
    each, recorded = _each_below(folder, progress), read_manifest(folder)
    if recorded is not None and _of_all(recorded) == checksum:
        expected = {name: without_marks(text) for name, text in recorded.items()}
        return difference(expected, each, "other content")
    if _of_all(each) == checksum:
        return "" if recorded is None else DAMAGED
    return "its content differs"
