"""The results that a campaign has on record, and whether they are still what was made."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tomopipe.campaign import Campaign
from tomopipe.errors import TomopipeError
from tomopipe.io.checksums import matches, quick_state
from tomopipe.io.manifest import sizes_match
from tomopipe.io.tables import read_tsv

COLUMNS = ("path", "n_bytes", "mtime_ns", "inode", "checksum", "statement")


@dataclass(frozen=True)
class Product:
    """A file or folder that a job made.

    Attributes
    ----------
    path : str
        Relative to the campaign folder, or absolute.
    n_bytes, mtime_ns, inode : int
        `tomopipe.io.checksums.quick_state` when it was made.
    checksum : str
        `tomopipe.io.checksums.checksum_of` it, taken while it was written; "": none was.
    statement : str
        What it was made from.
    """

    path: str
    n_bytes: int
    mtime_ns: int
    inode: int
    checksum: str
    statement: str


def recorded(campaign: Campaign) -> list[Product]:
    """Read what is on record, in order of path; nothing where there is no record yet.

    Raises
    ------
    TomopipeError
        If the record cannot be read.
    """
    path = campaign.results / "products.tsv"
    if not path.exists():
        return []
    try:
        found = [
            Product(
                path=row["path"],
                n_bytes=int(row["n_bytes"]),
                mtime_ns=int(row["mtime_ns"]),
                inode=int(row["inode"]),
                checksum=row["checksum"],
                statement=row["statement"],
            )
            for row in read_tsv(path, COLUMNS)
        ]
    except ValueError as error:
        raise TomopipeError(f"{path}: expected whole numbers, got {error}. Restore it.") from error
    return sorted(found, key=lambda product: product.path)


def damaged(
    directory: Path,
    products: Sequence[Product],
    *,
    deep: bool,
    threads: int = 1,
    progress: Callable[[int], None] | None = None,
) -> Iterator[tuple[Product, str]]:
    """Yield what is not as it was made, and what differs of it, as it is found.

    Parameters
    ----------
    directory : Path
        The campaign folder.
    products : sequence of Product
        What to look at.
    deep : bool
        Read all content and compare checksums: neither time nor place counts. False: sizes and
        times alone, of folders the names and sizes of all files.
    threads : int
        Threads that read.
    progress : callable, optional
        Called with the number of bytes done since the last call, from any thread.
    """
    for product in products:
        path = directory / product.path
        if deep and product.checksum:
            what = matches(path, product.checksum, threads=threads, progress=progress)
        else:
            what = _differs(path, product, deep)
            if progress:
                progress(product.n_bytes)
        if what:
            yield product, what


def _differs(path: Path, product: Product, deep: bool) -> str:
    found = quick_state(path)
    if found is None:
        return "cannot be read" if os.path.lexists(path) else "missing"
    try:
        if path.is_dir() and (what := sizes_match(path)):
            return what
    except OSError as error:
        return f"cannot be read ({error.strerror or error})"
    if found[0] != product.n_bytes:
        return f"{found[0]} bytes, {product.n_bytes} expected"
    return "" if deep or found[1] == product.mtime_ns else "changed since it was made"
