"""Views: the entries of a file that are scans of their own (`entries` in campaign.scans).

`results/views.json` keeps their names, so that a scan is called the same when others come.
"""

import fnmatch
import os
import re
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from tomopipe.errors import ScanError
from tomopipe.scans.hdf5 import UNREADABLE
from tomopipe.storage.atomic import write_json
from tomopipe.storage.checksums import quick_state
from tomopipe.storage.json_files import json_or

VIEW = "@"
"""Between the name of a file and that of a view in it: sample@0003."""

_NUMBER = re.compile(r"(\d+)\D*$")


class View(NamedTuple):
    """One entry of a file, and its name after that of the file: "@0003", or "" of the only one."""

    suffix: str
    entry: str  # path of the NXtomo entry
    content: str  # a fingerprint
    is_only: bool = False  # whether the file has no other

    @property
    def number(self) -> int:
        """Number of the view in its file."""
        match = _NUMBER.search(self.suffix or self.entry)
        return int(match[1]) if match else 0


class _File(NamedTuple):
    """What is known of a file: its state and those of files it links to, and its views."""

    states: dict[str, list[int] | None]
    views: tuple[View, ...]


# files that this process has opened: a command may read a campaign more than once
_SEEN: dict[str, _File] = {}


class Views:
    """The views of the files of a campaign; a file is opened when it has changed since `save`."""

    def __init__(self, file: Path = Path(), directory: Path = Path()) -> None:
        """`file` is views.json, which may be missing; `directory` that of the campaign."""
        self._file, self._directory = file, directory
        self._now: dict[str, _File] = {}

    @cached_property
    def _before(self) -> dict[str, _File]:
        try:
            return {
                path: _File(dict(states), tuple(View(str(s), str(e), str(c)) for s, e, c in views))
                for path, (states, views) in json_or(self._file, {}).items()
            }
        except (TypeError, ValueError):
            return {}

    def of(self, path: str, wanted: str | Sequence[str]) -> list[View] | None:
        """Return the views of a file, those of `wanted` (all, or patterns); None if it has none."""
        if path not in self._now:
            self._now[path] = self._look(path)
        if not (views := self._now[path].views):
            return None
        chosen = [v for v in views if wanted == "all" or _is_one_of(v.entry, wanted)]
        return [view._replace(is_only=len(views) == 1) for view in chosen]

    def _look(self, path: str) -> _File:
        """Return the views of a file, those of before if it has not changed or is unreadable."""
        before, where = self._before.get(path, _File({}, ())), os.path.join(self._directory, path)
        if self._is_as(before.states):
            return before
        if self._is_as((seen := _SEEN.get(where, before)).states):
            return seen
        from tomopipe.scans.hdf5_scan import entries_of  # h5py
        from tomopipe.scans.scan_files import source_files

        try:
            states = {file: self._state(file) for file in [path, *source_files(where)[0]]}
            contents = entries_of(where)
        except (ScanError, *UNREADABLE):  # the inventory says why
            return before
        names = named([*contents], {view.entry: view.suffix for view in before.views})
        _SEEN[where] = _File(states, tuple(View(names[e], e, t) for e, t in contents.items()))
        return _SEEN[where]

    def _is_as(self, states: Mapping[str, list[int] | None]) -> bool:
        """Tell whether files, of which there are some, have these states now."""
        return bool(states) and all(self._state(file) == was for file, was in states.items())

    def _state(self, file: str) -> list[int] | None:
        state = quick_state(os.path.join(self._directory, file))
        return state and [*state]

    def save(self) -> None:
        """Write the views down if there are new ones, or some have changed."""
        if any(self._before.get(path) != file for path, file in self._now.items()):
            content = {
                path: (file.states, [view[:3] for view in file.views])
                for path, file in (self._before | self._now).items()
            }
            self._file.parent.mkdir(parents=True, exist_ok=True)
            write_json(content, self._file)


def named(entries: Sequence[str], before: Mapping[str, str]) -> dict[str, str]:
    """Return the suffix of each entry's scan: its number, else its name; "" for an only one.

    Entries keep the names that they had `before`.
    """
    if len(entries) == 1 and not before:
        return {entries[0]: ""}
    numbers = [match and int(match[1]) for match in map(_NUMBER.search, entries)]
    is_numbered = None not in numbers and len({*numbers}) == len(numbers)
    return {
        entry: before.get(entry, f"{VIEW}{number:04d}" if is_numbered else _text_of(entry))
        for entry, number in zip(entries, numbers, strict=True)
    }


def _text_of(entry: str) -> str:
    return VIEW + entry.strip("/").replace("/", "_")


def _is_one_of(entry: str, patterns: Collection[str]) -> bool:
    """Tell whether an entry, or its last part, matches one of some patterns."""
    path = entry.strip("/")
    names = path, path.rpartition("/")[2]
    return any(fnmatch.fnmatchcase(n, pattern.strip("/")) for n in names for pattern in patterns)
