"""Receipts: the declared outputs of the rules, one for each result of a step.

A receipt, `results/made/<step>/<key>.json`, holds the statement of what the result was made from,
and size, time and inode of its files. A job writes it last; `tomopipe.reruns.settle` withdraws it
if the result has to be made again. An index keeps the content of the last receipts, and the
identity of the raw files.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from operator import index
from pathlib import Path
from typing import Any, NamedTuple

from tomopipe.campaign.files import CENTER, PREDICTION, STACK, TILT_SERIES, VOLUMES, Files
from tomopipe.paths import no_pipe
from tomopipe.scans.raw_identity import RawFiles
from tomopipe.storage import checksums
from tomopipe.storage.atomic import write_text
from tomopipe.storage.checksums import is_checksum, quick_state, states_digest
from tomopipe.storage.json_files import json_or, json_text
from tomopipe.workflow_steps import Step

SMALL_BYTES = 1_000_000
"""Up to this size the content of a result is compared, above only size, time and inode."""

_ENCODE = json.JSONEncoder(sort_keys=True, allow_nan=False).encode

State = tuple[int, int, int, int]
Statement = Mapping[str, Any]


def as_text(statement: Statement) -> str:
    """Return a statement as stored in a result."""
    return json.dumps({"maker": "tomopipe", **statement}, sort_keys=True, allow_nan=False)


def digest(statement: Statement) -> str:
    """Return the digest of a statement."""
    if "maker" in statement:
        statement = {key: value for key, value in statement.items() if key != "maker"}
    return hashlib.sha256(_ENCODE(statement).encode()).hexdigest()[:16]


def state_of(path: str | os.PathLike[str]) -> State | None:
    """Return size (bytes), modification time (ns) and inode of a result; None if it is missing.

    RELION opens the files of tilt_series one by one, so the last number is a digest of the state of
    each; it is 0 for other results.
    """
    state = quick_state(path)
    if state is None:
        return None
    try:
        return (*state[:3], states_digest(path) if is_followed_within(path) else 0)
    except OSError:
        return None


def is_followed_within(path: str | os.PathLike[str]) -> bool:
    """Tell whether a result is a folder whose every file is checked for changes."""
    text = os.fspath(path)
    return text.endswith(f"/{TILT_SERIES}") and os.path.isdir(text)


def content_of(path: str | os.PathLike[str]) -> str:
    """Return the checksum of a small file; "" if it cannot be read."""
    try:
        return checksums.checksum_of(path)
    except OSError:
        return ""


def write_receipt(
    receipt: str | os.PathLike[str],
    statement: Statement,
    outputs: Iterable[str],
    raw: Mapping[str, Any] | None = None,
    sums: Mapping[str, str] | None = None,
    directory: str | os.PathLike[str] = "",
) -> None:
    """Write the receipt of existing results.

    `raw`: state and content of the files read; `sums`: the checksums in the last receipt.
    """
    paths = {path: os.path.join(directory, path) for path in outputs}
    files = {path: state for path, where in paths.items() if (state := state_of(where))}
    now = {path: _sum_of(paths[path], (sums or {}).get(path, "")) for path in files}
    content = {"made_from": statement, "files": files, "sums": now, "raw": raw or {}}
    place = Path(directory, receipt)
    place.parent.mkdir(parents=True, exist_ok=True)
    write_text(json.dumps(content, sort_keys=True), place)


def _sum_of(path: str, last: str) -> str:
    """Return the checksum of a result; a large one that others wrote is not read: the last one.

    "" for an edited center_of_rotation.txt, which its job keeps.
    """
    if checksum := checksums.made(path):
        return checksum
    if os.path.isdir(path) or os.path.getsize(path) > SMALL_BYTES:
        return last
    return "" if path.endswith(CENTER) else content_of(path)


@dataclass
class Receipt:
    """Content of a receipt, present or withdrawn."""

    stamp: list[int]  # size (bytes), time (ns) and inode of the receipt; links to it may go
    digest: str  # of the statement
    files: dict[str, State] = field(default_factory=dict)
    sums: dict[str, str] = field(default_factory=dict)


class Result(NamedTuple):
    """A result of a step: its target and its files, of which the first `lasting`, or all, stay."""

    step: Step
    key: str
    target: Statement
    outputs: list[str]
    lasting: int | None


@dataclass(frozen=True)
class Made:
    """What the files of a result are made from, by its receipt or their own statements."""

    agrees: bool = False  # whether they are made from its target
    is_confirmed: bool = False  # whether the present receipt says so of all files
    is_missing: bool = False  # whether a file is
    damage: str = ""  # of a file, and which
    is_whole: bool = False  # whether all files are as in the receipt
    statement: Statement | None = None  # if they do not agree, that of the first one, if known
    odd: str = ""  # a file that states something else than the first one


_CONFIRMED = Made(agrees=True, is_confirmed=True)  # as nearly all of thousands are


class Receipts:
    """The receipts of a campaign, its index, and the present states of files."""

    def __init__(self, directory: Path, files: Files[str]) -> None:
        self.directory, self.files = directory, files
        self._folder = str(directory)
        self._new: set[str] = set()  # receipts and files of which the saved index knows less
        self._present: dict[str, Receipt | None] = {}
        self._states: dict[str, State | None] | None = None

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Read the state of each file only once within this context, as nothing is written."""
        self.look_again()
        self._states = {}
        try:
            yield
        finally:
            self._states = None

    def state(self, path: str) -> State | None:
        """Return the present state of a file of the campaign (`state_of`)."""
        if self._states is None:
            return state_of(self.path_of(path))
        if path not in self._states:
            self._states[path] = state_of(self.path_of(path))
        return self._states[path]

    def path_of(self, path: str) -> str:
        """Return the absolute path of a file of the campaign (as text: there are many)."""
        return path if path.startswith("/") else f"{self._folder}/{path}"

    # ---- receipts ----------------------------------------------------------------------------

    @cached_property
    def _index(self) -> tuple[dict[str, Receipt], RawFiles, dict[str, tuple[State, str]]]:
        content = json_or(self.path_of(self.files.index), {})
        try:
            receipts = {path: _receipt(*entry) for path, entry in content["receipts"].items()}
            raw = RawFiles(self._folder, content["raw"])
            sums = {path: (_state(state), text) for path, (state, text) in content["sums"].items()}
            if not all(is_checksum(text) for _, text in sums.values() if text):
                raise ValueError("not the checksums of files")
        except (LookupError, TypeError, ValueError, AttributeError):
            return {}, RawFiles(self._folder), {}
        return receipts, raw, sums

    @property
    def raw(self) -> RawFiles:
        """The raw files of the campaign, whose identities are in the index."""
        return self._index[1]

    def of(self, step: str, key: str) -> Receipt | None:
        """Return the receipt of a result; None if there is none."""
        path = self.files.receipt(step, key)
        if path not in self._present:
            self._present[path] = self._read(path)
        return self._present[path]

    def last(self, step: str, key: str) -> Receipt | None:
        """Return the receipt of a result, else its last one; None if it never had one."""
        return self.of(step, key) or self._index[0].get(self.files.receipt(step, key))

    def _read(self, path: str) -> Receipt | None:
        try:
            status = os.stat(self.path_of(path))
        except OSError:
            return None
        stamp = [status.st_size, status.st_mtime_ns, status.st_ino]
        recorded = self._index[0].get(path)
        if recorded is not None and recorded.stamp == stamp:
            return recorded
        try:
            result = json_or(self.path_of(path), {})
            receipt = _receipt(stamp, digest(result["made_from"]), result["files"], result["sums"])
            for raw_path, (state, content) in result.get("raw", {}).items():
                self.raw.add_content(raw_path, state, content)
        except (ValueError, LookupError, TypeError, AttributeError):
            return None
        self._index[0][path] = receipt
        self._new.add(path)
        return receipt

    def write(self, step: str, key: str, statement: Statement, outputs: Sequence[str]) -> None:
        """Write the receipt of up-to-date results."""
        path, last = self.files.receipt(step, key), self.last(step, key)
        sums = last.sums if last else {}
        write_receipt(path, statement, outputs, sums=sums, directory=self.directory)
        self._present.pop(path, None)
        self.of(step, key)

    def keys(self, step: str) -> list[str]:
        """Return the keys of the existing receipts of a step."""
        folder = os.path.dirname(self.path_of(self.files.receipt(step)))
        names = os.listdir(folder) if os.path.isdir(folder) else []
        return sorted(name.removesuffix(".json") for name in names if name.endswith(".json"))

    def look_again(self) -> None:
        """Read the receipts that jobs have written; that of a page also if it was forced."""
        for path in [p for p, r in self._present.items() if r is None or "/report/" in p]:
            self._present[path] = self._read(path)

    def withdraw(self, step: str, key: str) -> None:
        """Remove the receipt of a result to be made; the saved index keeps its content."""
        self.of(step, key)
        path = self.files.receipt(step, key)
        if path in self._new:
            self.save()
        with suppress(FileNotFoundError):
            os.unlink(self.path_of(path))
        self._present[path] = None

    def save(self, *, of_raw: bool = False) -> None:
        """Write the index if it has changed; `of_raw`: if the identity of a raw file has."""
        if not (self.raw.is_changed or (self._new and not of_raw)):
            return
        receipts, raw, sums = self._index
        content = {
            "receipts": {p: (r.stamp, r.digest, r.files, r.sums) for p, r in receipts.items()},
            "raw": raw.as_json(),
            "sums": sums,
        }
        path = Path(self.path_of(self.files.index))
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(json_text(content), path)
        self._new.clear()
        raw.is_changed = False

    # ---- results -----------------------------------------------------------------------------

    def confirms(self, result: Result, expected: str) -> bool:
        """Tell whether the receipt of a result states what is expected, and its present files.

        Temporary files may have been removed since.
        """
        receipt = self.of(result.step.name, result.key)
        if receipt is None or receipt.digest != expected:
            return False
        outputs, n_lasting = result.outputs, result.lasting
        states = {path: state for path in outputs if (state := self.state(path))}
        is_there = len(states) == len(outputs) or all(map(states.get, outputs[:n_lasting]))
        return is_there and receipt.files.items() >= states.items()

    def made(self, result: Result) -> Made:
        """Return what a result is made from."""
        step, key, target, outputs, lasting = result
        if self.confirms(result, expected := digest(target)):
            return _CONFIRMED
        receipt = self.of(step.name, key)
        present = [path for path in outputs if os.path.lexists(self.path_of(path))]
        if any(path not in present for path in outputs[:lasting]):
            return Made(is_missing=True)
        if last := self.last(step.name, key):
            # what a killed job has made from other inputs since shows in its statement
            is_ours, is_whole = receipt or last.digest == expected or step.changed, True
            for path in present:
                damage = self.damage(last, path) if path in last.files else None
                if damage and is_ours:
                    return Made(damage=f"{path}: {damage}")
                is_whole &= damage == ""
            if is_whole:
                agrees = last.digest == expected
                statement = None if agrees else statement_in(Path(self.path_of(outputs[0])))
                return Made(agrees, is_whole=True, statement=statement)
        # copied, touched, or without a receipt: the statement in the result itself counts
        first, *further = (statement_in(Path(self.path_of(path))) for path in present)
        others = {path: s for path, s in zip(present[1:], further, strict=True) if s is not None}
        digests = {digest(first), *map(digest, others.values())} if first else set()
        if len(digests) == 1:
            return Made(expected in digests, statement=first)
        odd = next((path for path, other in others.items() if first and other != first), "")
        return Made(odd=f"{odd}: was not made with {present[0]}" if odd else "")

    def damage(self, receipt: Receipt, path: str) -> str | None:
        """Describe the damage of a file in a receipt; "" if it is unchanged.

        None if only time or inode of a large file differ: its own statement then counts.
        """
        was, now = receipt.files[path], self.state(path)
        if now is None:
            return "missing"
        if now == was or path.endswith(CENTER):
            return ""
        if now[0] != was[0]:
            return f"{now[0]} bytes, expected {was[0]}"
        is_read = now[0] <= SMALL_BYTES or is_followed_within(self.path_of(path))
        if not (is_read and receipt.sums.get(path)):
            return None
        return checksums.matches(self.path_of(path), receipt.sums[path])

    def last_content(self, path: str) -> str:
        """Return the last recorded checksum of a small file, else the present one."""
        return self._last_sums.get(path) or self.content(path)

    @cached_property
    def _last_sums(self) -> dict[str, str]:
        return {p: text for r in self._index[0].values() for p, text in r.sums.items()}

    def content(self, path: str) -> str:
        """Return the checksum of a small file, read only if its state changed; "" without one."""
        state = self.state(path)
        if state is None:
            return ""
        sums = self._index[2]
        if path not in sums or sums[path][0] != state:
            if not (content := content_of(self.path_of(path))):
                return ""  # this time it cannot be read
            sums[path] = state, content
            self._new.add(path)
        return sums[path][1]


def statement_in(path: Path) -> Statement | None:
    """Return the statement in a result; None if there is none or it cannot be read."""
    readers: dict[str, Callable[[Path], Statement | None]] = {
        ".json": _in_json,
        ".h5": _in_hdf5,
        STACK: _in_stack,
        ".tif": lambda stack: _in_json(stack.with_suffix(".json")),
        ".txt": lambda text: _in_json(text.with_name(PREDICTION)),
    }
    is_volume = path.name.endswith(tuple(VOLUMES.values()))
    read = _in_volume if is_volume else readers.get(path.suffix, lambda _: None)
    with suppress(Exception):  # of a damaged file
        return read(path)
    return None


def _in_json(path: Path) -> Statement | None:
    return _stated_in(json.loads(no_pipe(path).read_text(encoding="utf-8")))


def _stated_in(record: object) -> Statement | None:
    result = record.get("made_from") if isinstance(record, dict) else None
    return result if isinstance(result, dict) else None


def _in_stack(path: Path) -> Statement | None:
    """Read the statement beside a stack; {}, which no result has, if it is that of another."""
    from tomopipe.relion.mrc import has_statistics

    record = json.loads(no_pipe(path.with_suffix(".json")).read_text(encoding="utf-8"))
    # none of a scan that failed
    statistics = record.get("statistics") if isinstance(record, dict) else None
    return {} if statistics and not has_statistics(path, statistics) else _stated_in(record)


def _in_volume(path: Path) -> Statement | None:
    from tomopipe.volumes.volume_read import read_provenance

    text = read_provenance(path).get("made_from")
    return json.loads(text) if text else None


def _in_hdf5(path: Path) -> Statement | None:
    import h5py

    with h5py.File(no_pipe(path), "r") as file:
        text = file.attrs.get("made_from")
        return json.loads(text) if text else _in_volume(path)


def _receipt(
    stamp: Sequence[int], text: str, files: Mapping[str, Any], sums: Mapping[str, str]
) -> Receipt:
    if not all(map(is_checksum, filter(None, sums.values()))):
        raise ValueError("not the checksums of a receipt")
    return Receipt(list(stamp), text, {path: _state(s) for path, s in files.items()}, dict(sums))


def _state(numbers: Sequence[int]) -> State:
    n_bytes, mtime_ns, inode, last = map(index, numbers)
    return n_bytes, mtime_ns, inode, last
