"""The manifest of a folder that is a result: checksum and name of each file, one per line.

It is `.tomopipe-manifest` in the folder, so that the folder can be compared quickly, and different
files named. The first line has the bytes of all files, and the names at the top.
"""

import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tomopipe.errors import TomopipeError, some_of

MANIFEST = ".tomopipe-manifest"
DAMAGED = f"its {MANIFEST} is damaged"
_NOT_RESULTS = (MANIFEST, ".snakemake_timestamp")
_HEAD = re.compile(rb"tomopipe-manifest-1\t(\d+) bytes\t(\d+) names\n")
_LONGEST_HEAD = 100
_CHECKSUM = re.compile(r"(?:xxh3|link):(\d+):([pdl]\d+):[0-9a-f]{32}(?::[\w-]{16})?", re.A)
_N_NAMED = 3  # files that differ

AnyPath = str | os.PathLike[str]


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


def parse(checksum: str) -> tuple[int, str]:
    """Return the bytes and the layout in a checksum of `tomopipe.storage.checksums`."""
    match = _CHECKSUM.fullmatch(checksum)
    if not match:
        raise TomopipeError(
            f"expected a checksum like xxh3:1024:p20:..., got {checksum!r}. "
            "Run again what made the file, or correct the record."
        )
    return int(match[1]), match[2]


def without_marks(checksum: str) -> str:
    """Return a checksum without the marks that earlier versions wrote behind it."""
    return ":".join(checksum.split(":")[:4])


def lines_of(checksums: Mapping[str, str]) -> bytes:
    """Return the lines of a manifest from the files' checksums by name, in the order given."""
    return b"".join(b"%s\t%s\n" % (text.encode(), os.fsencode(n)) for n, text in checksums.items())


def size_of(checksums: Mapping[str, str]) -> int:
    """Return the bytes of all files."""
    return sum(parse(text)[0] for text in checksums.values())


def write_manifest(folder: AnyPath, checksums: Mapping[str, str]) -> None:
    """Write the manifest of a folder from its files' checksums by name."""
    Path(folder, MANIFEST).write_bytes(_content(checksums))


def read_manifest(folder: AnyPath) -> dict[str, str] | None:
    """Read the checksums in a folder's manifest, by name.

    None if there is no manifest; empty if it is damaged.
    """
    try:
        content = Path(folder, MANIFEST).read_bytes()
    except FileNotFoundError:
        return None
    fields = [line.partition(b"\t") for line in content.split(b"\n")[1:-1]]
    recorded = {os.fsdecode(name): text.decode("ascii", "replace") for text, _, name in fields}
    valid = all(map(_CHECKSUM.fullmatch, recorded.values()))
    return recorded if valid and content == _content(recorded) else {}


def quick_size(folder: AnyPath) -> tuple[int, os.stat_result] | None:
    """Return the bytes of all files, and the manifest's status: a short read and a listing.

    None if there is no manifest, or the names at the top are not those in it and files of others.
    """
    try:
        with open(os.path.join(folder, MANIFEST), "rb", buffering=0) as stream:
            head, status = _HEAD.match(stream.read(_LONGEST_HEAD)), os.fstat(stream.fileno())
    except FileNotFoundError:
        return None
    if not head:
        return None
    n_more = sum(name not in _NOT_RESULTS for name in os.listdir(folder)) - int(head[2])
    is_whole = n_more == 0 or (n_more > 0 and n_more == len(names_of_others(folder)))
    return (int(head[1]), status) if is_whole else None


def states_digest(folder: AnyPath) -> int:
    """Return a number that is another when a file below a folder changes, comes or goes.

    A stat for each: of size, time, inode and time of the inode's change.
    """
    lines = [
        f"{name}\0{entry.st_size}\0{entry.st_mtime_ns}\0{entry.st_ino}\0{entry.st_ctime_ns}\n"
        for name, entry in files_below(folder)
    ]
    text = "".join(sorted(lines)).encode("utf-8", "surrogateescape")
    return int(hashlib.sha256(text).hexdigest()[:16], 16) >> 2


def names_of_others(folder: AnyPath) -> list[str]:
    """Name what somebody else put into a folder, at its top: all that is not in its manifest.

    A further slice of a TIFF series is not of somebody else: it would be read. Without a manifest,
    or with a damaged one, nobody knows.
    """
    recorded = read_manifest(folder)
    if recorded is None or (
        not recorded and Path(folder, MANIFEST).read_bytes() != _content(recorded)
    ):
        return []
    return sorted(_of_others(recorded, os.listdir(folder)))


def _of_others(recorded: Mapping[str, Any], result: Iterable[str]) -> set[str]:
    """Return the names below a folder that are not of the result and do not change it."""
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
    What others put there is none.
    """
    recorded = read_manifest(folder)
    if not recorded:
        return "" if recorded is None else DAMAGED
    expected = {name: parse(text)[0] for name, text in recorded.items()}
    result = {name: status.st_size for name, status in files_below(folder)}
    return difference(expected, result, "another size")


def difference(expected: Mapping[str, Any], result: Mapping[str, Any], what: str) -> str:
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
    head = f"tomopipe-manifest-1\t{size_of(checksums)} bytes\t{n_top} names\n"
    return head.encode() + lines_of(checksums)
