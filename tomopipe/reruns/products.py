"""The record of a campaign: every file read or made, with size, time and checksum.

`results/products.tsv` holds a line for each raw file and each result: size, time and inode when it
was last verified, the statement it was made from, and the checksum taken while it was written
(`tomopipe.storage.checksums`). Only the main process of a run writes it, from the jobs' records in
the folder of the run. It can be restored from the results, which contain their statements.
"""

import csv
import hashlib
import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from tomopipe.campaign.files import CENTER, PREDICTION, SWEEP, TILT_SERIES, Files
from tomopipe.errors import ScanError, TomopipeError
from tomopipe.scans.raw_state import folder_state
from tomopipe.storage import atomic, checksums, run_folder
from tomopipe.storage.atomic import write_text
from tomopipe.storage.checksums import quick_state
from tomopipe.storage.manifest import sizes_match, states_digest

COLUMNS = ("path", "n_bytes", "mtime_ns", "inode", "ctime_ns", "statement", "checksum")
SMALL_BYTES = 1_000_000
"""Up to this size a file is compared at once; above, in a job."""
SUMMED_BYTES = 16_000_000
"""Up to this size all of a raw file is summed when it has been read, above a part."""
RAW = "raw "
"""What the statement of a raw file begins with; its content follows, known by size and time."""

State = tuple[int, int, int, int]


@dataclass(frozen=True)
class Product:
    """One file or folder of the record."""

    path: str  # relative to the campaign folder, or absolute
    # size (bytes), modification time (ns), inode, time of the inode's change (ns) when it was last
    # verified; of a folder those of its manifest (`made_state_of`); of a folder of images the last
    # two are `folder_state`'s digests
    state: State
    statement: str = ""  # digest of its statement; of a raw file an identification of its content
    checksum: str = ""  # checksum when it was written or read; "" if unknown

    @property
    def is_raw(self) -> bool:
        """Whether this is a file that tomopipe only reads."""
        return self.statement.startswith(RAW)

    @property
    def n_bytes(self) -> int:
        """Its size."""
        return self.state[0]

    @property
    def mtime_ns(self) -> int:
        """Its time of change."""
        return self.state[1]


def raw_state_of(path: str | os.PathLike[str]) -> State | None:
    """Return the state of a raw file, or of a folder of images."""
    return folder_state(path) if os.path.isdir(path) else quick_state(path)


def made_state_of(path: str | os.PathLike[str]) -> State | None:
    """Return the state of a result: its `quick_state`.

    RELION opens the files of tilt_series one by one, so a digest of the state of each is the last
    number. Volumes that are folders have too many files for this.
    """
    state = quick_state(path)
    if state is None or not is_followed_within(path):
        return state
    try:
        return (*state[:3], states_digest(path))
    except OSError:
        return None


def is_followed_within(path: str | os.PathLike[str]) -> bool:
    """Tell whether a result is a folder of which a change of any file is noticed."""
    return os.path.basename(path) == TILT_SERIES and os.path.isdir(path)


def made_checksum(path: str | os.PathLike[str]) -> str:
    """Return the checksum of a result that is small or written by this process.

    "" for center_of_rotation.txt as somebody edited it, which its job left as it was.
    """
    known = checksums.made().get(Path(os.path.abspath(path)), "")
    by_job = known or not os.fspath(path).endswith(CENTER)
    small = by_job and not os.path.isdir(path) and os.path.getsize(path) <= SMALL_BYTES
    return known or (content_of(path) if small else "")


def content_of(path: str | os.PathLike[str]) -> str:
    """Return the checksum of a small file; "" if it cannot be read."""
    try:
        return checksums.checksum_of(path)
    except OSError:
        return ""


def recorded_in_run(path: str | os.PathLike[str]) -> Product | None:
    """Return in a job what the record has of a result."""
    run = run_folder.current()
    record = {} if run is None else read_products(Files(run_folder.results_of(run)).record)
    return record.get(os.fspath(path))


def is_rewritten(path: str | os.PathLike[str]) -> bool:
    """Tell in a job whether a small result is another than a job wrote, by the record."""
    known = recorded_in_run(path)
    return known is not None and content_of(path) not in ("", known.checksum)


def _stated(outputs: Sequence[str]) -> dict[str, Any]:
    """Return the statement in a sweep or prediction, if it exists."""
    for path in outputs:
        if os.path.basename(path) in (SWEEP, PREDICTION):
            record = json.loads(Path(path).read_text(encoding="utf-8"))
            found: dict[str, Any] = record.get("made_from", {})
            return found
    return {}


def raw_content(path: str | os.PathLike[str]) -> str:
    """Return a checksum of a raw file, a fingerprint if it is large or a folder; "" if neither.

    A fingerprint (`tomopipe.scans.fingerprint`) reads a small part of the file.
    """
    try:
        if os.path.isdir(path) or os.path.getsize(path) > SUMMED_BYTES:
            from tomopipe.scans.fingerprint import fingerprint

            return fingerprint(path)
        return checksums.checksum_of(path)
    except (OSError, ScanError):
        return ""


def _content_at(path: str, state: State | None) -> str:
    """Return `raw_content` of a file that has this state before and after; else ""."""
    content = raw_content(path) if raw_state_of(path) == state else ""
    return content if raw_state_of(path) == state else ""


def raw_differs(path: str | os.PathLike[str], content: str) -> bool | None:
    """Tell whether a raw file has changed since `raw_content`; None if it cannot be read."""
    try:
        if content.startswith("sample:"):
            from tomopipe.scans.fingerprint import fingerprint

            return fingerprint(path, content.split(":")[2]) != content
        return bool(checksums.differs(path, content))
    except (OSError, ScanError):
        return None


def digest(statement: Mapping[str, Any]) -> str:
    """Return the digest of a statement in the record."""
    plain = {key: value for key, value in statement.items() if key != "maker"}
    text = json.dumps(plain, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@contextmanager
def making(
    log: str | os.PathLike[str], outputs: Sequence[str], params: Any = None
) -> Iterator[dict[str, Any]]:
    """Report the results of a job, and their states and checksums, once it has succeeded.

    `log` is logs/<step>/<scan>.log, which identifies the job. Of `params` are used `made_from`, the
    statement of the results as JSON, and `raw_files`, a JSON list of the files that it reads: if
    one of these changes meanwhile, a volume or a stack is not written; the result of try_recon is
    kept, and made again by the next run.

    Entries put into the yielded mapping are stored beside `made_from`, so that the next run remakes
    the results.
    """
    step, key = Path(log).parent.name, Path(log).name.removesuffix(".log")
    raw = {path: raw_state_of(path) for path in json.loads(getattr(params, "raw_files", "[]"))}

    def is_as_it_was() -> None:
        for path, state in raw.items():
            if raw_state_of(path) not in (state, None):  # one that has gone was read, or is told
                raise TomopipeError(f"{path}: changed while it was read. Run again.")

    checks = [is_as_it_was] if step in ("full_recon", "export_stack") else []
    atomic.before_rename.extend(checks)
    more: dict[str, Any] = {}
    try:
        yield more
    finally:
        atomic.before_rename.clear()
    text = getattr(params, "made_from", "")
    statement = digest((_stated(outputs) or json.loads(text)) | more) if text else ""
    states = {str(path): made_state_of(path) for path in outputs}
    made = [
        Product(path, state, statement, made_checksum(path))
        for path, state in states.items()
        if state is not None
    ]
    summed = raw.items() if step == "try_recon" else ()
    read = {path: [state, _content_at(path, state)] for path, state in summed}
    record = {"products": [asdict(product) for product in made], "raw": read}
    run_folder.write_job_record(step, key, record)


class Record:
    """The lines of the record by path, relative to the campaign folder, and present states."""

    def __init__(self, file: Path, directory: Path) -> None:
        self.file, self.directory = file, directory
        self.is_changed = False
        self.different: dict[str, str] = {}  # large files that a job has found changed, and how
        self.unknown: set[str] = set()  # changed ones, without a checksum to compare with

    @cached_property
    def products(self) -> dict[str, Product]:
        """The lines, read on first use: nodes of a cluster do not need them."""
        return read_products(self.file)

    def __contains__(self, path: str) -> bool:
        return path in self.products

    def put(self, product: Product) -> None:
        """Add or replace a line."""
        if self.products.get(product.path) != product:
            self.products[product.path] = product
            self.is_changed = True

    def drop(self, path: str) -> None:
        """Forget a file."""
        self.is_changed |= self.products.pop(path, None) is not None

    def rewritten(self, path: str, statement: str | None = None) -> None:
        """Take a small result as it is now, written by no job.

        What it was made from stays; with `statement` "", or if it is new, the next run makes it.
        """
        product, now = self.products.get(path), quick_state(self.path_of(path))
        if now is None:
            return
        if statement is None:
            statement = product.statement if product else ""
        self.put(Product(path, now, statement, content_of(self.path_of(path))))

    def path_of(self, path: str) -> str:
        """Return the absolute path of a file (as text: there are many)."""
        return os.path.join(self.directory, path)

    def now(self, product: Product) -> State | None:
        """Return the present state of a file of the record."""
        return (raw_state_of if product.is_raw else made_state_of)(self.path_of(product.path))

    def _is_at(self, product: Product, now: State) -> bool:
        """Tell whether a file is in the state on record."""
        return product.state == now

    # ---- results -----------------------------------------------------------------------------

    def damage(self, path: str) -> str:
        """Say what a result of the record has become since it was written; "" if it is the same.

        A small file with another time is read; a large one counts as unchanged until a job has
        compared it (`suspects`).
        """
        product = self.products[path]
        now = self.now(product)
        if now is None:
            return "missing"
        if path.endswith(CENTER) or self._is_at(product, now):
            return ""
        if now[0] != product.n_bytes:
            return f"{now[0]} bytes, written were {product.n_bytes}"
        is_small = now[0] <= SMALL_BYTES
        difference = self.different.get(path, "")
        if not difference and is_followed_within(self.path_of(path)):
            difference = sizes_match(self.path_of(path))
        if not difference and is_small and product.checksum:
            difference = checksums.matches(self.path_of(path), product.checksum)
        if is_small and not difference:
            self.put(replace(product, state=now))
        if not (is_small or product.checksum):
            self.unknown.add(path)
        return difference

    def suspects(self) -> list[str]:
        """Name the large files whose time or inode changed, though not their size."""
        found = []
        for path, product in self.products.items():
            now = self.now(product)
            if now is None or self._is_at(product, now):
                continue
            if now[0] == product.n_bytes > SMALL_BYTES and product.checksum:
                found.append(path)
        return found

    def compared(self, path: str, difference: str, state: State) -> None:
        """Record the result of comparing a suspect, which had this state then.

        If it has changed since, it is a suspect again.
        """
        product = self.products.get(path)
        if product is None or state[0] != product.n_bytes:
            return
        if not difference:
            self.put(replace(product, state=state))
        elif product.is_raw:
            self.put(Product(path, state, _new_name(state, product)))
        else:
            self.different[path] = difference

    def content(self, path: str) -> str:
        """Return the present checksum of a small file, reading it only if its state has changed."""
        now = quick_state(self.path_of(path))
        if now is None:
            return ""
        product = self.products.get(path)
        if product is not None and product.state == now and product.checksum:
            return product.checksum
        return content_of(self.path_of(path))

    # ---- raw files ---------------------------------------------------------------------------

    def raw(self, path: str) -> str:
        """Return a text that identifies the content of a raw file.

        A file whose time or inode changed, but not its size, counts as unchanged if its checksum is
        equal, or until a job has compared it; without a checksum another time means another
        content.
        """
        now = raw_state_of(self.path_of(path))
        if now is None:
            return f"{RAW}none"
        product = self.products.get(path)
        if product is None or not product.is_raw:
            # of a known state: the same file, named otherwise then
            self.put(replace(self._by_state.get(now) or self._new_raw(path, now), path=path))
        elif not self._is_at(product, now) and not self._same_raw(product, now):
            self.put(self._new_raw(path, now, product))
        return self.products[path].statement

    @cached_property
    def _by_state(self) -> dict[State, Product]:
        """The raw files on record by state, which no two files share."""
        return {product.state: product for product in self.products.values() if product.is_raw}

    @cached_property
    def raw_paths(self) -> dict[tuple[str, str], str]:
        """The paths of the raw files on record by name and content."""
        raw = [product for product in self.products.values() if product.is_raw]
        return {(os.path.basename(p.path), p.statement): p.path for p in raw}

    def _new_raw(self, path: str, state: State, before: Product | None = None) -> Product:
        """Return the line of a new content; a large file is summed by the job that reads it."""
        content = raw_content(self.path_of(path)) if state[0] <= SMALL_BYTES else ""
        return Product(path, state, _new_name(state, before), content)

    def _same_raw(self, product: Product, now: State) -> bool:
        if now[0] != product.n_bytes:
            return False
        if not product.checksum:
            same = _new_name(now) == _new_name(product.state)
        elif now[0] > SMALL_BYTES:
            return True  # a suspect
        else:
            other = raw_differs(self.path_of(product.path), product.checksum)
            if other is None:
                return True  # provisionally; it is compared again
            same = not other
        if same:
            self.put(replace(product, state=now))
        return same

    # ---- the file ----------------------------------------------------------------------------

    def save(self) -> None:
        """Write the record if it has changed."""
        if not self.is_changed:
            return
        stream = io.StringIO(newline="")
        writer = csv.writer(stream, delimiter="\t", lineterminator="\n")
        writer.writerow(COLUMNS)
        for _, product in sorted(self.products.items()):
            writer.writerow((product.path, *product.state, product.statement, product.checksum))
        write_text(stream.getvalue(), self.file)
        self.is_changed = False

    def take_raw(self, read: Mapping[str, Sequence[Any]]) -> None:
        """Add the contents of raw files as a job has read them, with their present state."""
        for path, (state, content) in read.items():
            product = self.products.get(path)
            if product is not None and state is not None and product.state == tuple(state):
                # of a file shared by scans another job may have summed it before it changed
                self.put(replace(product, checksum=content or product.checksum))

    def take(self, products: Iterable[Product]) -> None:
        """Add the results that a job reports, if they still exist.

        Snakemake sets the time of every output when its job has ended, so only size and inode must
        be those that the job saw. A raw file may have been rewritten meanwhile.
        """
        for product in products:
            if product.is_raw:
                self.put(product)
            elif (now := self.now(product)) and now[0::2] == product.state[0::2]:  # bytes, inode
                self.different.pop(product.path, None)
                self.put(replace(product, state=now))


def _new_name(state: State, before: Product | None = None) -> str:
    """Return a name for the content of a raw file, unlike all that it has had."""
    # size and time suffice as long as the time goes on: results of an earlier content of the same
    # size and time may still be there
    is_folder = _is_folder(state)
    name = f"{RAW}{state[0]}:{state[1]}" + (f":{state[3]}" if is_folder else "")
    if before is None or (state[1] > before.mtime_ns and not _is_unlike(before)):
        return name
    return f"{name}:{-state[2] if is_folder else state[3]}"


def _is_unlike(product: Product) -> bool:
    """Tell whether size and time did not suffice to name a content."""
    return product.statement.count(":") > 1 + _is_folder(product.state)


def _is_folder(state: State) -> bool:
    return state[2] <= 0


def read_products(file: Path) -> dict[str, Product]:
    """Read the record; empty if there is none, an error if it is not such a table.

    One without a byte, as a power cut leaves it, is none: results state what they are made of.
    """
    try:
        text = file.read_bytes().decode("utf-8", "surrogateescape")
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise TomopipeError(
            f"{file}: cannot be read ({error.strerror}). Its owner, {file.owner()}, may `chmod "
            "g+rw` for it; or delete it: results state themselves what they were made from."
        ) from error
    return {product.path: product for product in _parsed(text, file)} if text else {}


def _parsed(text: str, file: Path) -> Iterator[Product]:
    rows = csv.reader(io.StringIO(text, newline=""), delimiter="\t")
    if tuple(next(rows, ())) != COLUMNS:
        raise TomopipeError(
            f"{file}: expected a table with the columns {', '.join(COLUMNS)}. Delete it and run "
            "again: results state themselves what they were made from."
        )
    for number, row in enumerate(rows, start=2):
        try:
            path, n_bytes, mtime_ns, inode, ctime_ns, statement, checksum = row
            state = int(n_bytes), int(mtime_ns), int(inode), int(ctime_ns)
        except ValueError:
            raise TomopipeError(
                f"{file}: line {number} is none of ours: {row}. Delete the file and run again."
            ) from None
        yield Product(path, state, statement, checksum)
