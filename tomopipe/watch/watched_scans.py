"""The scans that a watcher has taken, and their verdicts: kept, shown on a page, given to hooks.

The page of `tomopipe run --watch`: each scan in order of arrival, its COR, and a slice.
"""

import heapq
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Template

from tomopipe.campaign.campaign import Campaign
from tomopipe.campaign.files import Files
from tomopipe.campaign.raw_files import find_scans
from tomopipe.campaign.signs import State
from tomopipe.campaign.state import ACCEPTED, NOT_SELECTED, ScanFacts
from tomopipe.config import Config
from tomopipe.cor.cor_value import same_cor
from tomopipe.report.collected_records import collect_scans
from tomopipe.report.thumbnails import encode, picture_stem, slices_around, to_grey
from tomopipe.scans.raw_state import file_state
from tomopipe.storage.atomic import whole, write_json, write_text
from tomopipe.storage.json_files import json_or
from tomopipe.watch.arrivals import Arrival

MOST_ROWS = 300
_SIDE_PX, _BYTES = 240, 12_000
_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light dark">
<meta http-equiv="refresh" content="10"><title>{{ title }}</title><style>{{ style|safe }}
tr.flag, tr.flag:hover { background: var(--mark) }
img { display: block; width: clamp(80px, 20vw, 240px) }
small { color: var(--soft) } thead th { white-space: normal } tbody th { min-width: 9em }
tbody th small { display: block; font-weight: 400; overflow-wrap: normal }
.why { min-width: 12em; color: inherit; overflow-wrap: anywhere }</style>
<header><div class="wide"><h1>{{ title }}</h1>
<p class="sub">{{ rows|length }} taken, {{ rows|selectattr("doubtful")|list|length }} to be looked
at. As of {{ now }}: {{ since }}.
{%- if report %} <a href="{{ report }}">Report</a>{% endif %}</p></div></header>
<main class="wide"><section class="scroll"><table>
<thead><tr><th>slice<th>scan, taken by which rule<th>COR (px)<th>confidence<th>why
<th>seconds from the last byte</tr></thead>
<tbody>
{%- for row in rows[:n_most] %}
<tr{% if row.doubtful %} class="flag"{% endif %}><td>
{%- if row.picture %}<img src="{{ row.picture }}" alt="">{% endif %}
{%- if row.picture_cor_px is number -%}
<small>at COR {{ "%.2f"|format(row.picture_cor_px) }} px
{%- if row.best_cor_px is number and (row.best_cor_px - row.picture_cor_px)|abs >= 0.005 %} ≈
{{ "%.2f"|format(row.best_cor_px) }}{% endif %}</small>
{%- endif -%}
<th>{{ row.scan }}<small>{{ row.rule }}</small>
{%- for value in (row.cor_px, row.confidence) -%}
<td>{{ "%.2f"|format(value) if value is number }}
{%- endfor -%}
<td class="why">{{ row.reason or ("" if row.has_verdict else waits) -}}
<td>{{ "%.0f"|format(row.seconds) if row.seconds is number }}</tr>
{%- endfor %}</tbody></table></section></main></html>
"""
LIMIT_S = 30.0
END_S = 10.0  # at the end of a watch, all together
_MOST_AT_ONCE = 4
_LOG_BYTES = 10e6


def picture(files: Files[Path], scan: str, cor_px: float | None) -> dict[str, Any]:
    """Write the try slice at a COR, by default the middle one, beside the page.

    Returns the entries `picture`, its name, and `picture_cor_px`; nothing if there is no slice.
    """
    try:
        if cor_px is None:
            grid_px = json.loads(files.sweep(scan).read_bytes())["cor_px"]
            cor_px = float(grid_px[len(grid_px) // 2])
        result = slices_around(files.try_stack(scan), cor_px, max_size_px=2 * _SIDE_PX)
        if result is None:
            return {}
        image = result.images[result.chosen].astype(np.float32)
        data = encode(to_grey(image, max_px=_SIDE_PX), max_bytes=_BYTES)
        name = f"{picture_stem(scan)}.webp"
        with whole(files.live.parent / name) as temporary:
            temporary.write_bytes(data)
    except Exception:  # a damaged stack may raise anything; the page is made without it
        return {}
    return {"picture": name, "picture_cor_px": result.cor_px[result.chosen]}


@cache
def _template() -> Template:
    return Template(_PAGE, autoescape=True, keep_trailing_newline=True)


def write_page(
    files: Files[Path],
    title: str,
    entries: Iterable[Mapping[str, Any]],
    *,
    has_ended: bool = False,
) -> None:
    """Write the page of the scans taken, the latest first.

    Of each are given `path`, `rule`, `at` (Unix seconds), `has_verdict`, `seconds`, a verdict
    (`tomopipe.watch.watched_scans.Verdict`), and what `picture` returns.
    """
    page = os.path.relpath(files.report, files.live.parent)
    text = _template().render(
        title=title,
        now=time.strftime("%Y-%m-%d %H:%M:%S"),
        since="the watch has ended" if has_ended else "written each minute while scans are watched",
        waits="the watch ended before its COR was found" if has_ended else "its COR is being found",
        report=page if files.report.exists() else "",
        style=resources.files("tomopipe.report").joinpath("templates/style.css").read_text("utf-8"),
        rows=sorted(entries, key=lambda entry: -entry["at"]),
        n_most=MOST_ROWS,
    )
    write_text(text, files.live)


_QUIET = (*ACCEPTED, State.UNSELECTED)
_MOST_PICTURES = 4  # made between two checks: scans that come do not wait for those of all others
_FOR_HOOKS = ("scan", "path", "cor_px", "confidence", "doubtful", "reason", "rule", "seconds")


@dataclass(frozen=True)
class Verdict:
    """The verdict on one scan."""

    # its name and state
    scan: str
    scan_state: str
    cor_px: float | None = None  # its COR, unbinned detector pixels
    confidence: float | None = None  # that of the prediction; None if the COR is another one
    doubtful: bool = False  # whether a person must look at it
    reason: str = ""  # why it is in its state; may be ""
    best_cor_px: float | None = None  # the COR of its picture: where it has none, the best estimate


def skipped(scan: str, reason: str) -> Verdict:
    """Return the verdict on a scan that cannot be used."""
    return Verdict(scan, State.SKIPPED, doubtful=True, reason=reason)


def _verdict(scan: str, facts: ScanFacts) -> Verdict | None:
    """Return the verdict on a scan; None if it is not predicted yet."""
    state, prediction = facts.state, facts.prediction
    if state is State.PENDING:
        return None
    if state is State.SKIPPED:
        return skipped(scan, f"skipped: {facts.reason}")
    if state in NOT_SELECTED:
        return Verdict(scan, state)
    cor_px = facts.shown[0]
    is_predicted = prediction is not None and same_cor(cor_px, prediction.cor_px)
    return Verdict(
        scan,
        state,
        cor_px,
        prediction.confidence if prediction and is_predicted else None,
        state not in _QUIET,
        facts.why,
        facts.best_px,
    )


def present_verdicts(
    campaign: Campaign, *, are_new: bool, since: float = 0.0
) -> dict[str, Verdict]:
    """Return the verdicts on the raw files of a campaign, by path, from its results.

    Where `are_new`, the tables are of earlier files: predictions alone count, made after `since`
    (Unix seconds).
    """
    result = {}
    for record in collect_scans(campaign):
        facts = record
        if are_new:
            path = campaign.files.prediction(record.name)
            is_old = path.exists() and path.stat().st_mtime < since
            facts = replace(record, cor_px=None, source="", fix=None, decided=False)
            facts = replace(facts, prediction=None) if is_old else facts
        if verdict := _verdict(record.name, facts):
            result[record.path] = verdict
    return result


class Hooks:
    """Runs commands in threads, a few at once, each for a limited time.

    What they print goes to `log`, which is restarted when large. `once` reports, just once, each
    command that fails.
    """

    def __init__(
        self, directory: Path, log: Path, once: Callable[[str, str], None], limit_s: float = LIMIT_S
    ) -> None:
        self._directory, self._log, self._once, self._limit_s = directory, log, once, limit_s
        log.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            if log.stat().st_size > _LOG_BYTES:
                log.unlink()
        self._threads = ThreadPoolExecutor(_MOST_AT_ONCE)
        self._calls: list[Future[None]] = []
        self._running: set[subprocess.Popen[bytes]] = set()

    def call(self, command: str, facts: Mapping[str, Any]) -> None:
        """Queue a shell command, with JSON on its stdin."""
        self._calls = [call for call in self._calls if not call.done()]
        self._calls.append(self._threads.submit(self._run, command, facts))

    def _run(self, command: str, facts: Mapping[str, Any]) -> None:
        try:
            with open(self._log, "ab") as log:
                log.write(f"{time.strftime('%H:%M:%S')} {facts.get('scan', '')}\n".encode())
                log.flush()
                process = subprocess.Popen(
                    command,
                    shell=True,
                    cwd=self._directory,
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            self._running.add(process)
            with suppress(subprocess.TimeoutExpired):
                process.communicate(json.dumps(facts).encode(), timeout=self._limit_s)
            fault = f"failed: exit status {process.returncode}" * (process.returncode != 0)
            if process.returncode is None:
                _kill(process)
                fault = f"timed out and was killed after {self._limit_s:g} s"
            self._running.discard(process)
        except OSError as error:
            fault = f"failed: {error}"
        if fault:
            text = f"{fault}, see {self._log}; reported only once, the watch goes on."
            self._once(f"hook {command}", f"hooks.on_scan ({command}) {text}")

    def end(self, limit_s: float = END_S) -> None:
        """Call what is queued, for a limited time; end what runs then."""
        if left := wait(self._calls, limit_s).not_done:
            calls = f"{len(left)} call{'s' * (len(left) > 1)}"
            self._once("hooks", f"hooks.on_scan: {calls} killed or not run in {limit_s:g} s.")
        self._threads.shutdown(wait=False, cancel_futures=True)
        for process in list(self._running):
            _kill(process)


def _kill(process: "subprocess.Popen[bytes]") -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


class WatchedScans:
    """The scans in results/live/taken.json; a watcher replaces `config` when it was edited."""

    def __init__(
        self, config: Config, directory: Path, hooks: Hooks, say: Callable[[str], None]
    ) -> None:
        self.config, self._directory, self._hooks, self._print = config, directory, hooks, say
        self.files = Files(directory / config.campaign.results)
        # by path: how it was taken, its verdict, and whether one was reported (`has_verdict`)
        self.entries: dict[str, dict[str, Any]] = self._earlier()

    def _earlier(self) -> dict[str, dict[str, Any]]:
        """Return the files taken before, by a watcher or a run."""
        entries = json_or(self.files.taken, None)
        if isinstance(entries, dict):
            return entries
        result = {}
        for scan in find_scans(self.config, self._directory):
            state = file_state(self._directory / scan.path)
            with suppress(OSError):
                made_ns = self.files.prediction(scan.name).stat().st_mtime_ns
                if state and made_ns > state[1]:
                    rule = "its COR was found before"
                    entry = _entry(Arrival(scan.path, state, rule=rule), scan.name)
                    result[scan.path] = entry | {"has_verdict": True}
        return result

    @property
    def states(self) -> dict[str, tuple[int, int, int]]:
        """The state of each file when it was taken."""
        return {path: tuple(entry["state"]) for path, entry in self.entries.items()}

    def take(self, arrival: Arrival, scan: str) -> None:
        """Add a file that has arrived, or has been written anew."""
        self.entries[arrival.path] = _entry(arrival, scan)

    def save(self, present: Collection[str], *, has_ended: bool = False) -> None:
        """Write the entries, and the page, which shows the files that are `present`."""
        self.files.live.parent.mkdir(parents=True, exist_ok=True)
        write_json(self.entries, self.files.taken)
        title = self.config.campaign.name or self._directory.name
        shown = [entry for path, entry in self.entries.items() if not present or path in present]
        write_page(self.files, title, shown, has_ended=has_ended)

    # ---- verdicts ----------------------------------------------------------------------------

    def compare(self, verdicts: Mapping[str, Verdict], began: float) -> None:
        """Take over the verdicts of a run that began then; report those that are news."""
        for path, verdict in verdicts.items():
            entry = self.entries[path]
            if entry["at"] > began:
                continue  # written again since
            is_other = entry["scan_state"] not in ("", verdict.scan_state)
            has_moved = not same_cor(entry["cor_px"], verdict.cor_px)
            is_news = is_other and verdict.doubtful and (has_moved or not entry["doubtful"])
            if is_news or not entry["has_verdict"]:
                self.report(path, verdict)
            else:
                self._note(path, verdict)

    def _note(self, path: str, verdict: Verdict) -> None:
        """Put a verdict into the entry of its scan; `picture` None: one is still to be made."""
        entry = self.entries[path]
        has_moved = not same_cor(entry["cor_px"], verdict.cor_px) or not entry["has_verdict"]
        if has_moved and verdict.scan_state != State.SKIPPED:
            entry |= {"picture": None, "picture_cor_px": None}
        entry |= asdict(verdict)

    def draw(self) -> bool:
        """Make some of the pictures that the page lacks, of the latest scans first."""
        shown = heapq.nlargest(MOST_ROWS, self.entries.values(), key=lambda entry: entry["at"])
        lacking = [entry for entry in shown if entry.get("picture", "") is None][:_MOST_PICTURES]
        for entry in lacking:
            made = picture(self.files, entry["scan"], entry["best_cor_px"])
            entry.update({"picture": "", **made})
        return bool(lacking)

    def report(self, path: str, verdict: Verdict) -> None:
        """Report a verdict, flag it if it is doubtful, and call the hook."""
        entry = self.entries[path]
        # a scan that had none says so in its reason
        remark = "" if entry["cor_px"] is None else f" (was {_cor(entry['cor_px'])})"
        self._note(path, verdict)
        if not entry["has_verdict"]:
            seconds = round(time.time() - entry["last_byte"], 1)
            entry |= {"has_verdict": True, "seconds": seconds}
            remark = f" ({seconds:.0f} s)"
        flag, why = ("FLAG ", f", {verdict.reason}") if verdict.doubtful else ("", "")
        text = f"{flag}{verdict.scan}: {_cor(verdict.cor_px)}{why}{remark}"
        self._print(f"{time.strftime('%H:%M:%S')} {text}")
        if self.config.hooks.on_scan:
            facts = {name: entry[name] for name in _FOR_HOOKS}
            doubt = entry["reason"] if verdict.doubtful else ""
            facts |= {"doubt": doubt, "page": str(self.files.live)}
            self._hooks.call(self.config.hooks.on_scan, facts)


def _cor(cor_px: float | None) -> str:
    return "no COR" if cor_px is None else f"COR {cor_px:.2f}"


def _entry(arrival: Arrival, scan: str) -> dict[str, Any]:
    """Return the entry of a taken file, without a verdict."""
    return {
        "path": arrival.path,
        "state": list(arrival.state),
        "rule": arrival.rule,
        "has_verdict": False,
        "seconds": None,
        "at": time.time(),
        "last_byte": arrival.last_byte,
        **asdict(Verdict(scan, "")),
    }
