"""Views: parts of a file that are scans of their own, by `entries` or `turns` of campaign.scans.

`results/views.json` keeps their names, so that a scan is called the same when others come.
"""

import fnmatch
import json
import os
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from tomopipe.config import Config, InputBlock, PreprocessBlock, ScanGlob
from tomopipe.config.blocks import Turns
from tomopipe.errors import ScanError
from tomopipe.scans.hdf5 import UNREADABLE
from tomopipe.storage.atomic import write_json
from tomopipe.storage.checksums import quick_state
from tomopipe.storage.json_files import json_or

VIEW = "@"
"""Between the name of a file and that of a view in it: sample@0003."""

_NUMBER = re.compile(r"(\d+)\D*$")


class View(NamedTuple):
    """An entry or a time point of a file."""

    suffix: str  # of the scan's name, such as @0003 or @t0003; "" of the only entry
    content: str  # a fingerprint
    input: Mapping[str, Any]  # keys of `input` that read it alone
    entry: str = ""  # path of the NXtomo entry, or group of DXchange
    refused: str = ""  # why it cannot be used
    is_only: bool = False  # whether the file has no other

    @property
    def number(self) -> int:
        """Number of the view in its file."""
        match = _NUMBER.search(self.suffix or self.entry)
        return int(match[1]) if match else 0


def time_point(number: int) -> str:
    """Return the suffix of a time point."""
    return f"{VIEW}t{number:04d}"


class _File(NamedTuple):
    """What is known of a file: its state and those of files it links to, and its views."""

    how: str  # turns and input with which it was looked at; "": its entries
    states: dict[str, list[int] | None]
    views: tuple[View, ...]


# files that this process has opened: a command may read a campaign more than once
_SEEN: dict[tuple[str, str], _File] = {}


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
                path: _File(str(how), dict(states), tuple(View(*view) for view in views))
                for path, (how, states, views) in json_or(self._file, {}).items()
            }
        except (TypeError, ValueError):
            return {}

    def of(self, path: str, scans: ScanGlob, config_of: Callable[[], Config]) -> list[View] | None:
        """Return the views of a file that an entry of campaign.scans makes scans; None if none.

        `config_of` returns the options with which time points are read.
        """
        if not (scans.entries or scans.turns):
            return None
        if path not in self._now:
            options = config_of() if scans.turns else None
            self._now[path] = self._look(path, scans, options)
        if not (views := self._now[path].views):
            return None
        if scans.turns:
            return [*views]
        wanted = ["*"] if scans.entries in ("all", None) else scans.entries
        chosen = [view for view in views if _is_one_of(view.entry, wanted)]
        return [view._replace(is_only=len(views) == 1) for view in chosen]

    def _look(self, path: str, scans: ScanGlob, config: Config | None) -> _File:
        """Return the views of a file, those of before if it has not changed or is unreadable."""
        options = config.input if config else None
        recipe = config.preprocess if config and scans.turns else PreprocessBlock()
        of_frames = recipe.ring_current.dataset, recipe.shifts == "stated"
        read_with = [scans.model_dump()["turns"], options.model_dump()] if options else []
        how = json.dumps([*read_with, *filter(None, of_frames)]) if options else ""
        before, where = self._before.get(path), os.path.join(self._directory, path)
        if before is None or before.how != how:
            before = _File(how, {}, ())
        for earlier in (before, _SEEN.get((where, how), before)):
            if self._is_as(earlier.states):
                return earlier
        from tomopipe.scans.scan_files import source_files

        lists = [options.angle_list] if options and options.angle_list else []
        try:
            states = {file: self._state(file) for file in [path, *source_files(where)[0], *lists]}
            if options and scans.turns:
                views = self._time_points(where, scans.turns, options, *of_frames)
            else:
                views = _entries(where, before.views)
        except (ScanError, *UNREADABLE) as error:
            if before.views or not options:  # the inventory says why
                return before
            return _File(
                how, {}, (View("", "", {}, refused=str(error).removeprefix(f"{where}: ")),)
            )
        _SEEN[where, how] = _File(how, states, tuple(views))
        return _SEEN[where, how]

    def _time_points(
        self,
        where: str,
        turns: Turns,
        options: InputBlock,
        monitor: str | None,
        uses_positions: bool,
    ) -> list[View]:
        from tomopipe.scans.time_points import time_points_of  # h5py

        if options.angle_list:
            at_home = os.path.join(self._directory, options.angle_list)
            options = options.model_copy(update={"angles": at_home})
        points = time_points_of(where, turns, options, monitor, uses_positions=uses_positions)
        return [
            View(time_point(number), point.content, {"window": [*point.span]}, "", point.refused)
            for number, point in enumerate(points)
        ]

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
                path: (file.how, file.states, [view[:-1] for view in file.views])
                for path, file in (self._before | self._now).items()
            }
            self._file.parent.mkdir(parents=True, exist_ok=True)
            write_json(content, self._file)


def _entries(where: str, before: Sequence[View]) -> list[View]:
    from tomopipe.scans.hdf5_scan import entries_of  # h5py

    entries = entries_of(where)
    names = named([*entries], {view.entry: view.suffix for view in before})
    return [View(names[entry], *parts, entry) for entry, parts in entries.items()]


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
