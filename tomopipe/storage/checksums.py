"""Checksums of results, taken while they are written, and comparison with what is on disk.

A checksum is one line of text, `xxh3:<bytes>:<layout>:<digest>`, with XXH3 of 128 bits [1]_ in
hexadecimal. Layout `p20`: the file is cut into pieces of 2**20 bytes, and the digest is that of the
pieces' digests, one after the other; so pieces may be summed in any order, while the file is
written. Behind it 16 marks, of a letter each, tell in which part of the file damage lies. Layout
`d12`: a folder of 12 files, and the digest is that of the lines of its manifest
(`tomopipe.storage.manifest`), in order of name.

References
----------
.. [1] https://xxhash.com
"""

import os
import stat
import string
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from threading import Lock
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
    write_manifest,
)

PIECE_BITS = 20  # 1 MiB pieces; must never change, as checksums of folders do not record it
_BATCH = 16  # pieces that wait for each thread
_N_MARKS = 16
_LETTERS = string.ascii_letters + string.digits + "-_"

AnyPath = str | os.PathLike[str]
Progress = Callable[[int], None]


def checksum_of(path: AnyPath) -> str:
    """Read a finished file, or a folder with all that is below it, and return its checksum.

    Of links in a folder the text counts, not the target.
    """
    if os.path.isdir(path):
        return _of_all(_each_below(path))
    return _of_file(path, PIECE_BITS)


def checksum_of_bytes(content: Any) -> str:
    """Return the checksum of a file with this content, a contiguous buffer."""
    size, data = 1 << PIECE_BITS, memoryview(content).cast("B")
    pieces = (data[first : first + size] for first in range(0, len(data), size))
    return _text(len(data), PIECE_BITS, map(xxhash.xxh3_128_digest, pieces))


def matches(
    path: AnyPath, checksum: str, *, threads: int = 1, progress: Progress | None = None
) -> str:
    """Compare a file or folder with the checksum taken when it was written, as by `checksum_of`.

    Returns "" if nothing changed; else a description of the difference. A TomopipeError if
    `checksum` is not of this form. `threads` read and sum, with 1 MiB each; `progress` is called
    with the number of bytes read since the last call, from any of them.
    """
    try:
        return differs(path, checksum, threads=threads, progress=progress)
    except FileNotFoundError:
        return "missing"
    except OSError as error:
        return f"cannot be read ({error.strerror or error})"


def differs(
    path: AnyPath, checksum: str, *, threads: int = 1, progress: Progress | None = None
) -> str:
    """Compare as `matches` does, but raise OSError for what cannot be read."""
    n_bytes, layout = parse(checksum)
    status = os.stat(path)
    is_folder = stat.S_ISDIR(status.st_mode)
    if is_folder != layout.startswith("d"):
        return "a folder, a file is expected" if is_folder else "a file, a folder is expected"
    if is_folder:
        return _folder_differs(path, checksum, threads, progress)
    if status.st_size != n_bytes:
        return f"{status.st_size} bytes, {n_bytes} expected"
    result = _of_file(path, int(layout[1:]), threads, progress)
    return "" if result == checksum else f"its content differs{_differing_bytes(result, checksum)}"


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


class _Sums:
    """Digests of the finished pieces of a file being written."""

    def __init__(self) -> None:
        self._digests, self._done = bytearray(), bytearray()  # 17 bytes a piece: there are many
        # of incomplete pieces: number of bytes so far, and their sum if they came in order
        self._begun: dict[int, tuple[int, Any]] = {}
        self.rewritten = False

    def add(self, path: AnyPath, offset: int, n_bytes: int, data: memoryview | None) -> None:
        size, end = 1 << PIECE_BITS, offset + n_bytes
        for piece in range(offset // size, -(-end // size)):
            first, last = max(offset, piece * size), min(end, (piece + 1) * size)
            n_there, total = self._begun.pop(piece, (0, xxhash.xxh3_128()))
            if data is not None and total is not None and first == piece * size + n_there:
                total.update(data[first - offset : last - offset])
            else:
                total = None
            n_there += last - first
            if n_there < size:
                self._begun[piece] = n_there, total
            elif total:
                self._set(piece, total.digest())
            else:
                with open(path, "rb", buffering=0) as stream:
                    self._set(piece, _digest(stream.fileno(), size, piece))

    def get(self, piece: int) -> bytes | None:
        known = not self.rewritten and piece < len(self._done) and self._done[piece]
        return bytes(self._digests[16 * piece : 16 * piece + 16]) if known else None

    def _set(self, piece: int, digest: bytes) -> None:
        if piece >= len(self._done):
            more = piece + 1 - len(self._done)
            self._done += bytes(more)
            self._digests += bytes(16 * more)
        self._digests[16 * piece : 16 * piece + 16] = digest
        self._done[piece] = 1


_made: dict[str, str] = {}
_open: dict[str, _Sums] = {}
_lock = Lock()


def written(path: AnyPath, offset: int, n_bytes: int, data: Any = None) -> None:
    """Report bytes of a temporary file of `whole` that will not change any more, each once.

    They are summed at once, while they are in memory, from `data`, a contiguous buffer, or the
    file; bytes not reported are read when the file is finished. So a volume larger than the memory
    is not read again from the disk.
    """
    view = None if data is None else memoryview(data).cast("B")
    with _lock:
        _open.setdefault(_key(path), _Sums()).add(path, offset, n_bytes, view)


def rewritten(path: AnyPath) -> None:
    """Report that bytes given to `written` have changed: the whole file is read when finished."""
    with _lock:
        _open.setdefault(_key(path), _Sums()).rewritten = True


def finish(temporary: AnyPath) -> str:
    """Return the checksum of a temporary file or folder that is complete.

    Bytes reported to `written`, and files in a folder whose checksum is remembered, are not read
    again. A folder gets its manifest, unless it is empty.
    """
    if not os.path.isdir(temporary):
        with _lock:
            sums = _open.pop(_key(temporary), None)
        return _of_file(temporary, PIECE_BITS, sums=sums)
    each = _each_below(temporary, known=_taken(temporary))
    if size_of(each):
        write_manifest(temporary, each)
    return _of_all(each)


def remember(path: AnyPath, checksum: str) -> None:
    """Store the checksum of a result, or of a finished file in a folder that is being written."""
    with _lock:
        _made[_key(path)] = checksum


def forget(temporary: AnyPath) -> None:
    """Drop stored checksums of a temporary file or folder that will not be finished."""
    with _lock:
        _open.pop(_key(temporary), None)
    _taken(temporary)


def made(path: AnyPath) -> str:
    """Return the latest checksum of a file or folder that this process has finished; else ""."""
    with _lock:
        return _made.get(_key(path), "")


def _taken(folder: AnyPath) -> dict[str, str]:
    """Take the remembered checksums of the files of a temporary folder, by their names in it."""
    inside = os.path.join(_key(folder), "")
    with _lock:
        mine = [path for path in _made if path.startswith(inside)]
        return {path.removeprefix(inside): _made.pop(path) for path in mine}


def _key(path: AnyPath) -> str:
    return os.path.abspath(path)


def _of_file(
    path: AnyPath,
    bits: int,
    threads: int = 1,
    progress: Progress | None = None,
    sums: _Sums | None = None,
) -> str:
    """Sum a file in pieces of 2**bits bytes, except those known already."""
    with open(path, "rb", buffering=0) as stream:
        n_bytes = os.fstat(stream.fileno()).st_size
        pieces = _digests(stream.fileno(), n_bytes, bits, threads, progress, sums or _Sums())
        return _text(n_bytes, bits, pieces)


def _digests(
    descriptor: int, n_bytes: int, bits: int, threads: int, progress: Progress | None, known: _Sums
) -> Iterator[bytes]:
    """Yield the digests of all pieces of a file, in order."""
    size = 1 << bits
    n_pieces = -(-n_bytes // size)
    with _mapping(threads) as mapped:
        for first in range(0, n_pieces, _BATCH * threads):
            pieces = range(first, min(first + _BATCH * threads, n_pieces))
            missing = [piece for piece in pieces if known.get(piece) is None]
            summed = mapped(partial(_digest, descriptor, size), missing)
            read = dict(zip(missing, summed, strict=True))
            yield from (known.get(piece) or read[piece] for piece in pieces)
            if progress:
                progress(min(n_bytes, size * pieces.stop) - size * first)


def _text(n_bytes: int, bits: int, digests: Iterable[bytes]) -> str:
    """Return the checksum of a file from its pieces' digests."""
    total, parts = xxhash.xxh3_128(), [xxhash.xxh3_64() for _ in range(_N_MARKS)]
    n_pieces = -(-n_bytes >> bits)
    for piece, digest in enumerate(digests):
        total.update(digest)
        parts[piece * _N_MARKS // n_pieces].update(digest)
    marks = "".join(_LETTERS[part.intdigest() % len(_LETTERS)] for part in parts)
    return f"xxh3:{n_bytes}:p{bits}:{total.hexdigest()}:{marks}"


def _differing_bytes(result: str, checksum: str) -> str:
    """Say in which bytes files of equal size differ; "" if the marks do not show it."""
    (n_bytes, layout), *marks = parse(checksum), result[-_N_MARKS:], checksum[-_N_MARKS:]
    parts = [part for part, (a, b) in enumerate(zip(*marks, strict=True)) if a != b]
    bits = int(layout[1:])
    n_pieces = -(-n_bytes >> bits)
    if not parts or n_pieces < 2:
        return ""
    first, last = (-(-part * n_pieces // _N_MARKS) << bits for part in (parts[0], parts[-1] + 1))
    return f" within bytes {first} to {min(last, n_bytes)}"


def _digest(descriptor: int, size: int, piece: int) -> bytes:
    """Sum one piece, shorter at the end of the file. Network drives may read it in parts."""
    content = os.pread(descriptor, size, piece * size)
    while len(content) < size:
        more = os.pread(descriptor, size - len(content), piece * size + len(content))
        if not more:
            break
        content += more
    return xxhash.xxh3_128_digest(content)


def _each_below(
    folder: AnyPath,
    threads: int = 1,
    progress: Progress | None = None,
    known: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Return the checksum of each file below a folder, by name, reading those not known."""
    known = known or {}
    names = sorted((name for name, _ in files_below(folder)), key=os.fsencode)

    def checksum(name: str) -> str:
        path = os.path.join(folder, name)
        if name not in known and os.path.islink(path):
            return _of_link(os.readlink(path))
        return known.get(name) or _of_file(path, PIECE_BITS, progress=progress)

    with _mapping(threads) as mapped:
        return dict(zip(names, mapped(checksum, names), strict=True))


def _of_link(text: str) -> str:
    target = os.fsencode(text)
    return f"link:{len(target)}:l0:{xxhash.xxh3_128_hexdigest(target)}"


def _of_all(each: Mapping[str, str]) -> str:
    """Sum a folder from its files' checksums by name."""
    return f"xxh3:{size_of(each)}:d{len(each)}:{xxhash.xxh3_128_hexdigest(lines_of(each))}"


@contextmanager
def _mapping(threads: int) -> Iterator[Callable[..., Iterable[Any]]]:
    """Yield `map`, in threads if there are several."""
    if threads < 2:
        yield map
        return
    with ThreadPoolExecutor(threads) as pool:
        yield pool.map


def _folder_differs(folder: AnyPath, checksum: str, threads: int, progress: Progress | None) -> str:
    """Say what changed in a folder, by its manifest if that is unchanged."""
    found, recorded = _each_below(folder, threads, progress), read_manifest(folder)
    if _of_all(found) == checksum:
        return "" if recorded is None or recorded == found else DAMAGED
    if recorded is None or _of_all(recorded) != checksum:
        return "its content differs"
    return difference(recorded, found, "other content")
