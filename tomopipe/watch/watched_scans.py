"""The scans that a watcher has accepted, and their verdicts: for the live page and the hook.

results/live/taken.json has the state of each file when it was accepted, and its verdict;
results/live/index.html shows the scans, the latest first, with a slice of each.
"""

import json
import math
import os
import subprocess
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader

from tomopipe.campaign.campaign import Campaign
from tomopipe.campaign.files import LOGS, Files
from tomopipe.campaign.raw_files import find_scans
from tomopipe.campaign.state.facts import ACCEPTED, NOT_SELECTED
from tomopipe.campaign.state.signs import State
from tomopipe.config import Config
from tomopipe.cor.cor_value import same_cor
from tomopipe.report.collected_records import collect_scans
from tomopipe.report.thumbnails import encode, picture_stem, slices_around, to_grey
from tomopipe.scans.raw_identity import file_state
from tomopipe.storage.atomic import whole, write_json, write_text
from tomopipe.storage.json_files import json_or

MOST_ROWS = 300
LIMIT_S = 30.0  # time limit of a call of a hook
_MOST_CALLS = 4  # largest number of simultaneous calls
_SIDE_PX, _BYTES = 240, 12_000
_QUIET = (*ACCEPTED, State.UNSWEPT, State.UNSELECTED)
_FOR_HOOKS = ("scan", "path", "cor_px", "confidence", "doubtful", "reason")


@dataclass(frozen=True)
class Verdict:
    """The verdict on one scan."""

    scan: str  # its name
    scan_state: str
    cor_px: float | None = None  # its COR, unbinned detector pixels
    confidence: float | None = None  # of the prediction; None if the COR is not the predicted one
    doubtful: bool = False  # whether a person has to check it
    reason: str = ""  # reason of its state, or ""
    best_cor_px: float | None = None  # COR of its picture: its own, else the best estimate
    path: str = ""  # of its file, as in the campaign


def present_verdicts(campaign: Campaign) -> dict[str, Verdict]:
    """Return the verdicts on the scans of a campaign that have results.

    By path of the file, of views with their suffix; not on time points that are not whole.
    """
    result = {}
    scans = {scan.name: scan for scan in (*campaign.refused, *campaign.scans.values())}
    for record in collect_scans(campaign):
        state, prediction, scan = record.state, record.prediction, scans.get(record.name)
        if state is State.PENDING or (scan and scan.view and scan.view.refused):
            continue
        cor_px = None if state in NOT_SELECTED else record.shown[0]
        is_predicted = prediction is not None and same_cor(cor_px, prediction.cor_px)
        result[scan.part_path if scan else record.path] = Verdict(
            record.name,
            state,
            cor_px,
            prediction.confidence if prediction and is_predicted else None,
            state not in _QUIET,
            f"skipped: {record.reason}" if state is State.SKIPPED else record.why,
            None if state in NOT_SELECTED else record.best_px,
            record.path,
        )
    return result


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
    """The scans in results/live/taken.json; `once` reports a message on a subject only once."""

    def __init__(
        self,
        config: Config,
        directory: Path,
        report: Callable[[str], None],
        once: Callable[[str, str], None],
    ) -> None:
        self._config, self._directory, self._print, self._once = config, directory, report, once
        self._calls, self._log = ThreadPoolExecutor(_MOST_CALLS), directory / LOGS.of_hooks
        self.files = Files(directory / config.campaign.results)
        for path in (self._log, self.files.live):
            path.parent.mkdir(parents=True, exist_ok=True)
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
        title = self._config.campaign.name or self._directory.name
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
        """Report a verdict, flag it if it is doubtful, and call the hook."""
        doubt = entry["reason"] if entry["doubtful"] else ""
        flag, why = ("FLAG ", f", {doubt}") if entry["doubtful"] else ("", "")
        text = f"{flag}{entry['scan']}: {_cor(entry['cor_px'])}{why}{remark}"
        self._print(f"{time.strftime('%H:%M:%S')} {text}")
        if command := self._config.hooks.on_scan:
            facts = {name: entry[name] for name in _FOR_HOOKS}
            facts |= {"doubt": doubt, "page": str(self.files.live)}
            self._calls.submit(self._call, command, facts)

    def _call(self, command: str, facts: Mapping[str, Any]) -> None:
        """Run a shell command, with JSON on its stdin, for a limited time."""
        try:
            with open(self._log, "ab", buffering=0) as log:
                log.write(f"{time.strftime('%H:%M:%S')} {facts['scan']}\n".encode())
                subprocess.run(
                    command,
                    shell=True,
                    cwd=self._directory,
                    input=json.dumps(facts).encode(),
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    timeout=LIMIT_S,
                    check=True,
                    start_new_session=True,
                )
        except (OSError, subprocess.SubprocessError) as error:
            is_timeout = isinstance(error, subprocess.TimeoutExpired)
            fault = f"{command}: killed after {LIMIT_S:g} s." if is_timeout else error
            self._once(f"hook {command}", f"hooks.on_scan: {fault} See {self._log}.")

    def end(self) -> None:
        """Wait for the calls of the hook, each up to its time limit."""
        self._calls.shutdown()


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
