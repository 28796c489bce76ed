"""The scans that a watcher has accepted, and their verdicts: for the live page.

results/live/taken.json has the state of each file when it was accepted, and its verdict;
results/live/index.html shows the scans, the latest first, with a slice of each.
"""

import math
import os
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader

from tomopipe.campaign.files import Files, title_of
from tomopipe.campaign.raw_files import find_scans
from tomopipe.config import Config
from tomopipe.cor.cor_value import same_cor
from tomopipe.report.thumbnails import encode, picture_stem, slices_around, to_grey
from tomopipe.report.verdicts import Verdict
from tomopipe.scans.raw_identity import file_state
from tomopipe.storage.atomic import whole, write_json, write_text
from tomopipe.storage.json_files import json_or

MOST_ROWS = 300
_SIDE_PX, _BYTES = 240, 12_000


def picture(files: Files[Path], scan: str, cor_px: float | None) -> dict[str, Any]:
    """Write the try slice at a COR beside the page; return its name and COR."""
    result, name = None, f"{picture_stem(scan)}.webp"
    with suppress(Exception):  # a damaged stack may raise anything; the page is made without it
        if cor_px is not None:
            result = slices_around(files.try_stack(scan), cor_px, max_size_px=2 * _SIDE_PX)
        if result is not None:
            grey = to_grey(result.images[result.chosen].astype(np.float32), max_px=_SIDE_PX)
            with whole(files.live.parent / name) as temporary:
                temporary.write_bytes(encode(grey, max_bytes=_BYTES))
            return {"picture": name, "picture_cor_px": result.cor_px[result.chosen]}
    return {"picture": "", "picture_cor_px": None}


def write_page(
    files: Files[Path], title: str, rows: Iterable[Mapping[str, Any]], *, has_ended: bool = False
) -> None:
    """Write the page of scans, the latest first.

    Each row has `at` (Unix seconds), `has_verdict`, the fields of a `Verdict`, and those that
    `picture` returns.
    """
    environment = Environment(loader=PackageLoader("tomopipe.report"), autoescape=True)
    text = environment.get_template("live.html.j2").render(
        title=title,
        now=time.strftime("%Y-%m-%d %H:%M:%S"),
        has_ended=has_ended,
        report=os.path.relpath(files.report, files.live.parent) if files.report.exists() else "",
        rows=sorted(rows, key=lambda row: -row["at"]),
        n_most=MOST_ROWS,
    )
    write_text(text, files.live)


class WatchedScans:
    """The scans in results/live/taken.json."""

    def __init__(
        self,
        config: Config,
        directory: Path,
        report: Callable[[str], None],
    ) -> None:
        self._config, self._directory, self._print = config, directory, report
        self.files = Files(directory / config.campaign.results)
        self.files.live.parent.mkdir(parents=True, exist_ok=True)
        # by path, of views with their suffix, too: the state of the file when it was accepted, and
        # when; its verdict, if it `has_verdict`
        self.entries: dict[str, dict[str, Any]] = self._read() or self._earlier()

    def _read(self) -> dict[str, dict[str, Any]]:
        """Read the entries; none if the file is missing or damaged."""
        entries = json_or(self.files.taken, {})
        return entries if all(map(_is_entry, entries.values())) else {}

    def _earlier(self) -> dict[str, dict[str, Any]]:
        """Return the files whose CORs were predicted before watching began."""
        result = {}
        for scan in find_scans(self._config, self._directory):
            state = file_state(self._directory / scan.path)
            with suppress(OSError):
                predicted_ns = self.files.prediction(scan.name).stat().st_mtime_ns
                if state and predicted_ns > state[1]:
                    entry = _entry(scan.path, scan.name, state) | {"has_verdict": True}
                    result[scan.path] = entry
                    result[scan.part_path] = {**entry}
        return result

    @property
    def states(self) -> dict[str, tuple[int, ...]]:
        """The state of each file when it was accepted."""
        files = ((key, entry) for key, entry in self.entries.items() if key == entry["path"])
        return {path: tuple(entry["state"]) for path, entry in files}

    def take(self, path: str, scan: str, state: tuple[int, ...]) -> None:
        """Add a file that is new, or was written again."""
        self.entries[path] = _entry(path, scan, state)

    def save(self, present: Collection[str], *, has_ended: bool = False) -> None:
        """Write the entries, and the page, which shows the files that are `present`."""
        write_json(self.entries, self.files.taken)
        with_views = {row["path"] for key, row in self.entries.items() if key != row["path"]}
        rows = [
            row
            for key, row in self.entries.items()
            if (not present or row["path"] in present) and key not in with_views
        ]
        title = title_of(self._config, self._directory)
        write_page(self.files, title, rows, has_ended=has_ended)

    def compare(self, verdicts: Mapping[str, Verdict], began: float = math.inf) -> None:
        """Store the verdicts of a run that began at `began` (Unix seconds); report changes."""
        for key, verdict in verdicts.items():
            of_file = self.entries[verdict.path]
            is_file = key == verdict.path
            entry = of_file if is_file else self.entries.get(key)
            if entry is None:
                entry = _entry(verdict.path, verdict.scan, of_file["state"])
                self.entries[key] = entry
            elif is_file and entry["at"] > began:
                continue  # written again since
            is_first, before_px = not entry["has_verdict"], entry["cor_px"]
            is_other_cor = not same_cor(before_px, verdict.cor_px)
            is_other_state = entry["scan_state"] not in ("", verdict.scan_state)
            is_worse = verdict.doubtful and (is_other_cor or not entry["doubtful"])
            if is_first or (is_other_cor and before_px is not None):
                entry |= picture(self.files, verdict.scan, verdict.best_cor_px)
            entry |= {"has_verdict": True, **asdict(verdict)}
            if is_first or (is_other_state and is_worse):
                self._report(entry, "" if before_px is None else f" (was {_cor(before_px)})")

    def _report(self, entry: Mapping[str, Any], remark: str) -> None:
        """Report a verdict, and flag it if it is doubtful."""
        flag, why = ("FLAG ", f", {entry['reason']}") if entry["doubtful"] else ("", "")
        text = f"{flag}{entry['scan']}: {_cor(entry['cor_px'])}{why}{remark}"
        self._print(f"{time.strftime('%H:%M:%S')} {text}")


def _entry(path: str, scan: str, state: Sequence[int]) -> dict[str, Any]:
    """Return the entry of a file without a verdict."""
    entry = {"state": [*state], "at": time.time(), "has_verdict": False}
    return entry | asdict(Verdict(scan, "", path=path))


def _is_entry(entry: Any) -> bool:
    """Tell whether an entry has what is compared with a new state and verdict."""
    names = {"path", "has_verdict", "scan_state", "cor_px", "doubtful"}
    if not isinstance(entry, dict) or not names <= entry.keys():
        return False
    return isinstance(entry.get("state"), list) and isinstance(entry.get("at"), float)


def _cor(cor_px: float | None) -> str:
    return "no COR" if cor_px is None else f"COR {cor_px:.2f}"
