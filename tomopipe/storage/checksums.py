"""Checksums of results, taken while they are written, and comparison with what is on disk.

A checksum is one line of text, `xxh3:<bytes>:<layout>:<digest>`, with XXH3 of 128 bits [1]_ in
hexadecimal. Layout `p20`: the file is cut into pieces of 2**20 bytes, and the digest is that of the
pieces' digests, one after the other; so pieces may be summed in any order, while the file is
written. Layout `d12`: a folder of 12 files, and the digest is that of the lines of its manifest
(`.tomopipe-manifest`, by which the folder is compared quickly, and different files are named),
in order of name.

References
----------
.. [1] https://xxhash.com
"""

import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import xxhash

from tomopipe.errors import TomopipeError, some_of
from tomopipe.paths import no_pipe

_PIECE = 2**20  # bytes; must never change

AnyPath = str | os.PathLike[str]
Progress = Callable[[int], None]
Edges = list[tuple[int, bytes]]  # offsets and bytes
MANIFEST = ".tomopipe-manifest"
DAMAGED = f"its {MANIFEST} is damaged"
_NOT_RESULTS = (MANIFEST, ".snakemake_timestamp")
_HEAD = re.compile(rb"tomopipe-manifest-1\t(\d+) bytes\t(\d+) names\n")
_LONGEST_HEAD = 100
_CHECKSUM = re.compile(r"(?:xxh3|link):(\d+):([pdl]\d+):[0-9a-f]{32}", re.A)
_N_NAMED = 3  # files that differ


def checksum_of(path: AnyPath) -> str:
    """Read a finished file, or a folder with all that is below it, and return its checksum.

    Links in a folder count by their text, not their target.
    """
    return _of_all(_each_below(path)) if os.path.isdir(path) else _of_file(path)


def matches(path: AnyPath, checksum: str, progress: Progress | None = None) -> str:
    """Compare a file or folder with the checksum taken when it was written, as by `checksum_of`.

    Returns "" if nothing changed; else a description of the difference. A TomopipeError if
    `checksum` is not of this form. `progress` is called with the number of bytes read since the
    last call.
    """
    n_bytes, layout = _parse(checksum)
    try:
        status = os.stat(path)
        is_folder = stat.S_ISDIR(status.st_mode)
        if is_folder != layout.startswith("d"):
            return "a folder, a file is expected" if is_folder else "a file, a folder is expected"
        if is_folder:
            return _folder_differs(path, checksum, progress)
        if status.st_size != n_bytes:
            return f"{status.st_size} bytes, {n_bytes} expected"
        return "" if _of_file(path, progress) == checksum else "its content differs"
    except FileNotFoundError:
        return "missing"
    except OSError as error:
        return f"cannot be read ({error.strerror or error})"


def quick_state(path: AnyPath) -> tuple[int, int, int, int] | None:
    """Return size (bytes), modification time (ns), inode and time of the inode's change (ns).

    As few system calls as possible: a file takes one stat; a folder with a manifest a stat, a short
    read and a listing, however many files it has: the bytes recorded in the manifest, its time and
    inode, and 0. Changes in subfolders or within files are not detected (`sizes_match` and
    `matches` detect them). A folder without a manifest, or with other names at the top: bytes and
    latest time of all files, and the folder's inode. None if it does not exist.
    """
    try:
        status = os.stat(path)
        if not stat.S_ISDIR(status.st_mode):
            return status.st_size, status.st_mtime_ns, status.st_ino, status.st_ctime_ns
        if quick := _quick_size(path):
            return quick[0], quick[1].st_mtime_ns, quick[1].st_ino, 0
        files = [entry for _, entry in files_below(path)]
    except (OSError, ValueError):  # ValueError: a NUL character in the path
        return None
    latest_ns = max((entry.st_mtime_ns for entry in files), default=status.st_mtime_ns)
    return sum(entry.st_size for entry in files), latest_ns, status.st_ino, 0


def changed_links(folder: AnyPath) -> list[str]:
    """Name the missing entries of a folder's manifest, and the links with another target.

    A file in place of a link, as in a copy that follows links, is accepted.
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
        """Add written bytes; a piece whose bytes come out of order gets no digest."""
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

    def of_all(self, n_bytes: int) -> dict[int, bytes]:
        """Return the digests of a file of so many bytes, with that of its last, shorter piece."""
        last, n_last = divmod(n_bytes, _PIECE)
        n_summed, total = self._begun.get(last, (0, None))
        return self.digests | ({last: total.digest()} if total and n_summed == n_last else {})


_made: dict[str, str] = {}
_open: dict[str, _Pieces] = {}


def written(path: AnyPath, offset: int, data: Any) -> None:
    """Sum bytes, a contiguous buffer, that were written into a temporary file of `whole`.

    Bytes that are not reported are read when the file is finished. So a volume larger than the
    memory need not be read again from the disk.
    """
    _open.setdefault(os.path.abspath(path), _Pieces()).add(offset, memoryview(data).cast("B"))


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
        pieces = _open.pop(os.path.abspath(temporary), None)
        digests = pieces.of_all(os.path.getsize(temporary)) if pieces else {}
        return _of_file(temporary, digests=digests)
    each = _each_below(temporary, sums=_take_remembered(temporary))
    if _size_of(each):
        write_manifest(temporary, each)
    return _of_all(each)


def remember(path: AnyPath, checksum: str) -> None:
    """Store the checksum of a result, or of a finished file in a folder that is being written."""
    _made[os.path.abspath(path)] = checksum


def forget(temporary: AnyPath) -> None:
    """Drop what is stored of a temporary file or folder that is given up."""
    for path in [os.path.abspath(temporary), *_inside(temporary, _open)]:
        _open.pop(path, None)
    _take_remembered(temporary)


def made(path: AnyPath) -> str:
    """Return the latest checksum of a file or folder that this process finished; "" if none."""
    return _made.get(os.path.abspath(path), "")


def _take_remembered(folder: AnyPath) -> dict[str, str]:
    """Take the remembered checksums of the files of a temporary folder, by their names in it."""
    n = len(os.path.join(os.path.abspath(folder), ""))
    return {path[n:]: _made.pop(path) for path in _inside(folder, _made)}


def _inside(folder: AnyPath, paths: Iterable[str]) -> list[str]:
    """Return the paths below a folder."""
    inside = os.path.join(os.path.abspath(folder), "")
    return [path for path in list(paths) if path.startswith(inside)]


def _of_file(
    path: AnyPath, progress: Progress | None = None, digests: Mapping[int, bytes] | None = None
) -> str:
    """Sum a file, without reading the pieces whose digests are given."""
    with open(no_pipe(path), "rb") as stream:  # buffered: network drives may read a piece in parts
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
    return f"xxh3:{_size_of(each)}:d{len(each)}:{xxhash.xxh3_128_hexdigest(_lines_of(each))}"


def _folder_differs(folder: AnyPath, checksum: str, progress: Progress | None) -> str:
    """Say what changed in a folder, by its manifest if that is unchanged."""
    each, recorded = _each_below(folder, progress), read_manifest(folder)
    if recorded is not None and _of_all(recorded) == checksum:
        return _difference(recorded, each, "other content")
    if _of_all(each) == checksum:
        return "" if recorded is None else DAMAGED
    return "its content differs"


def files_below(folder: AnyPath, prefix: str = "") -> Iterator[tuple[str, os.stat_result]]:
    """Yield name and status of everything below a folder that belongs to the result.

    Links are not followed.
    """
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from files_below(entry.path, f"{prefix}{entry.name}/")
            elif entry.name not in _NOT_RESULTS:
                yield prefix + entry.name, entry.stat(follow_symlinks=False)


def is_checksum(text: str) -> bool:
    """Tell whether a text has the form of a checksum."""
    return _CHECKSUM.fullmatch(text) is not None


def _parse(checksum: str) -> tuple[int, str]:
    """Return the bytes and the layout in a checksum of `tomopipe.storage.checksums`."""
    match = _CHECKSUM.fullmatch(checksum)
    if not match:
        raise TomopipeError(
            f"expected a checksum like xxh3:1024:p20:..., got {checksum!r}. "
            "Run again what made the file, or correct the record."
        )
    return int(match[1]), match[2]


def _lines_of(checksums: Mapping[str, str]) -> bytes:
    """Return the lines of a manifest from the files' checksums by name, in the order given."""
    return b"".join(b"%s\t%s\n" % (text.encode(), os.fsencode(n)) for n, text in checksums.items())


def _size_of(checksums: Mapping[str, str]) -> int:
    """Return the bytes of all files."""
    return sum(_parse(text)[0] for text in checksums.values())


def write_manifest(folder: AnyPath, checksums: Mapping[str, str]) -> None:
    """Write the manifest of a folder from its files' checksums by name."""
    Path(folder, MANIFEST).write_bytes(_content(checksums))


def read_manifest(folder: AnyPath) -> dict[str, str] | None:
    """Read the checksums in a folder's manifest, by name.

    None if there is no manifest; empty if it is damaged.
    """
    try:
        content = no_pipe(Path(folder, MANIFEST)).read_bytes()
    except FileNotFoundError:
        return None
    fields = [line.partition(b"\t") for line in content.split(b"\n")[1:-1]]
    recorded = {os.fsdecode(name): text.decode("ascii", "replace") for text, _, name in fields}
    valid = all(map(_CHECKSUM.fullmatch, recorded.values()))
    return recorded if valid and content == _content(recorded) else {}


def _quick_size(folder: AnyPath) -> tuple[int, os.stat_result] | None:
    """Return the bytes of all files, and the manifest's status: a short read and a listing.

    None if there is no manifest, or the names at the top are not those in it and files of others.
    """
    try:
        with open(no_pipe(os.path.join(folder, MANIFEST)), "rb", buffering=0) as stream:
            head, status = _HEAD.match(stream.read(_LONGEST_HEAD)), os.fstat(stream.fileno())
    except FileNotFoundError:
        return None
    if not head:
        return None
    n_more = sum(name not in _NOT_RESULTS for name in os.listdir(folder)) - int(head[2])
    is_whole = n_more == 0 or (n_more > 0 and n_more == len(names_of_others(folder)))
    return (int(head[1]), status) if is_whole else None


def states_digest(folder: AnyPath) -> int:
    """Return a number that changes when a file below a folder is changed, added or removed.

    From one stat of each file: size, time, inode and time of the inode's change.
    """
    lines = [
        f"{name}\0{entry.st_size}\0{entry.st_mtime_ns}\0{entry.st_ino}\0{entry.st_ctime_ns}\n"
        for name, entry in files_below(folder)
    ]
    text = "".join(sorted(lines)).encode("utf-8", "surrogateescape")
    return int(hashlib.sha256(text).hexdigest()[:16], 16) >> 2


def names_of_others(folder: AnyPath) -> list[str]:
    """Name foreign files at the top of a folder: those that are not in its manifest.

    Further slices of a TIFF series are not foreign, as they would be read. None without a manifest,
    or with a damaged one.
    """
    recorded = read_manifest(folder)
    if recorded is None or (
        not recorded and no_pipe(Path(folder, MANIFEST)).read_bytes() != _content(recorded)
    ):
        return []
    return sorted(_of_others(recorded, os.listdir(folder)))


def _of_others(recorded: Mapping[str, Any], result: Iterable[str]) -> set[str]:
    """Return the foreign names below a folder, which do not change the result."""
    ours = {name.partition("/")[0] for name in recorded}
    return {
        name
        for name in result
        if name not in recorded
        and name not in _NOT_RESULTS
        and (name.rpartition("/")[2].startswith(".") or name.partition("/")[0] not in ours)
        and not name.endswith(".tiff")
    }


def sizes_match(folder: AnyPath) -> str:
    """Compare the names and sizes of all files of a folder with its manifest, without reading them.

    Returns "" if they are equal, or there is no manifest; else a description of the difference.
    Foreign files are no difference.
    """
    recorded = read_manifest(folder)
    if not recorded:
        return "" if recorded is None else DAMAGED
    expected = {name: _parse(text)[0] for name, text in recorded.items()}
    result = {name: status.st_size for name, status in files_below(folder)}
    return _difference(expected, result, "another size")


def _difference(expected: Mapping[str, Any], result: Mapping[str, Any], what: str) -> str:
    """Name the files that are missing, new or different, a few of each kind; "" if none is."""
    new = result.keys() - expected.keys()
    kinds = {
        "missing": [name for name in expected if name not in result],
        "new": list(new - _of_others(expected, new)),
        what: [name for name in expected if name in result and expected[name] != result[name]],
    }
    return "; ".join(
        f"{kind}: {some_of(sorted(names), _N_NAMED)}" for kind, names in kinds.items() if names
    )


def _content(checksums: Mapping[str, str]) -> bytes:
    n_top = len({name.split("/", 1)[0] for name in checksums})
    head = f"tomopipe-manifest-1\t{_size_of(checksums)} bytes\t{n_top} names\n"
    return head.encode() + _lines_of(checksums)
