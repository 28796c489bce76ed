"""`tomopipe run --watch`: take each scan when it is complete, report its COR, then make the rest.

A loop of short runs of the same workflow in two lanes that share one run (`storage.run_folder`):
`arrivals` finds the CORs of new scans in parallel; `tail` runs the whole present campaign at low
priority when no scan arrives or `watch.every` has passed. Neither sees incomplete files. The scans
taken are listed in results/live/taken.json.
"""

import fcntl
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from tomopipe.campaign.arrivals import Arrival, Arrivals, fault_of_scan, state_of
from tomopipe.campaign.campaign import Campaign, make_campaign
from tomopipe.campaign.files import CONFIG, LOGS, TABLE, Files
from tomopipe.campaign.raw_files import find_scans, raw_paths
from tomopipe.campaign.state import ScanFacts
from tomopipe.config import Config, read_config
from tomopipe.errors import TomopipeError
from tomopipe.report.sources import parse_prediction
from tomopipe.run import launch
from tomopipe.run.decisions import Decisions
from tomopipe.run.hooks import Hooks
from tomopipe.run.live_page import picture, write_page
from tomopipe.storage import run_folder
from tomopipe.storage.atomic import write_json
from tomopipe.storage.processes import born
from tomopipe.storage.run_folder import ARRIVALS, TAIL
from tomopipe.storage.tables import read_tsv

_MOST_AT_ONCE = 8  # arrivals of a run; a new one waits for its end
_BACKLOG = 24  # scans waiting for a COR from which on the older ones go to the tail
_ATTEMPTS = 3
_AGAIN_S = 5.0  # after a run that failed before its jobs
_PART = 60.0  # pause between two checks, in durations of one
_ROOM_BYTES = 50e6
_STALE_S = 120.0
_MOST_LINES = 8


@dataclass
class _Lane:
    """A running Snakemake: its part of the run, and the raw files it sees."""

    process: "subprocess.Popen[bytes]"
    folder: Path
    paths: list[str]
    began_s: float
    began: float  # Unix seconds
    log: Path
    open: frozenset[str]  # paths without a COR when it began


@contextmanager
def only_watcher(directory: Path) -> Iterator[IO[str]]:
    """Hold the lock of the watcher of a campaign; its file names the holder.

    Raises
    ------
    TomopipeError
        If there is another one.
    """
    path = directory / LOGS.watch_lock
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+", encoding="utf-8") as stream:
        stream.seek(0)
        text = stream.read()
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            # if the file server has no locks, the file is used: its writer renews it
            fresh = time.time() - os.fstat(stream.fileno()).st_mtime < _STALE_S
            if isinstance(error, BlockingIOError) or (text and fresh):
                raise TomopipeError(
                    f"{path}: this campaign is watched{_by_whom(text)}. `tomopipe stop` ends it."
                ) from None
        yield stream


def _by_whom(text: str) -> str:
    """Read a watcher's lock; nothing while it is written."""
    try:
        about = json.loads(text)
        return f" since {about['start']} by process {about['pid']} on {about['host']}"
    except (ValueError, LookupError, TypeError):
        return ""


class Watcher:
    """Watches one campaign; its folder is the working directory."""

    def __init__(
        self,
        directory: Path,
        config: Path | None,
        options: Sequence[str],
        say: Callable[[str], None],
        lock: IO[str],
    ) -> None:
        self.directory, self._config_path = directory, config or directory / CONFIG
        self._own_config, self._options, self._say, self._lock = config, options, say, lock
        self._profile = launch.chosen_profile(directory)
        self._said: dict[str, str] = {}
        self._lanes: dict[str, _Lane] = {}
        self._n_runs, self._attempts = 0, dict[str, int]()
        self._next_s = dict.fromkeys((ARRIVALS, TAIL), 0.0)
        self._dirty, self._tail_took_s = True, 0.0
        self._tail_ended_s, self._news_s = time.monotonic(), -1e9
        self._n_pending = 0
        self._config: Config = read_config(self._config_path)
        self._edited = self._state_of_edits()
        self._files = Files(directory / self._config.campaign.results)
        self._taken: dict[str, dict[str, Any]] = self._known()
        self._paths: list[str] = []
        self._arrivals = Arrivals(directory, self._config.watch.settle_s, self._fault_of)
        self._hooks = Hooks(directory)
        self._run = self._begin()
        self._save()

    # ---- begin and end -----------------------------------------------------------------------

    def _known(self) -> dict[str, dict[str, Any]]:
        """Return the files taken before, by a watcher or a run."""
        with suppress(OSError, ValueError):
            found: dict[str, dict[str, Any]] = json.loads(self._files.taken.read_text("utf-8"))
            return found
        found = {}
        for scan in find_scans(self._config, self.directory):
            state = state_of(self.directory / scan.path)
            with suppress(OSError):
                made_ns = self._files.prediction(scan.name).stat().st_mtime_ns
                if state and made_ns > state[1]:
                    rule = "its COR was found before"
                    known = {"judged": True, "scan": scan.name}
                    found[scan.path] = _entry(Arrival(scan.path, state, rule)) | known
        return found

    def _begin(self) -> Path:
        """End earlier runs, and begin the run of all arrivals."""
        if TAIL in launch.kill_parts(self.directory):
            launch.unlock(self.directory)
        results = Path(self._config.campaign.results)
        results.mkdir(parents=True, exist_ok=True)
        launch.unlock_killed(self.directory, results)
        if launch.is_locked(self.directory):
            return results / "none"  # for now: another run is active
        self._take_said()
        run = run_folder.begin(results)
        self._tell_who()
        return run

    def _take_said(self) -> None:
        """Write the jobs' reports into the record."""
        decisions = Decisions(make_campaign(self._config, self.directory, taken=()))
        decisions.take_said()
        decisions.save()

    def _tell_who(self) -> None:
        """Write the watcher and its running lanes into the lock."""
        parts = {
            name: (lane.process.pid, born(lane.process.pid)) for name, lane in self._lanes.items()
        }
        about = {"host": socket.gethostname(), "pid": os.getpid(), "start": time.ctime()}
        self._lock.seek(0)
        self._lock.truncate()
        self._lock.write(json.dumps(about | {"parts": parts}))
        self._lock.flush()

    def end(self, *, finish: bool) -> None:
        """End the lanes, or let them finish, then end the run."""
        self._said["tail"] = "ends"
        for lane in self._lanes.values():
            with suppress(ProcessLookupError):
                if finish:
                    os.kill(lane.process.pid, signal.SIGTERM)
                else:
                    os.killpg(lane.process.pid, signal.SIGINT)
        while self._lanes:
            time.sleep(0.1)
            self._reap()
        self._hooks.end()
        if self._run.is_dir():
            self._take_said()
            run_folder.end_all(self._files.folder)

    @property
    def page(self) -> Path:
        """Path of the live page."""
        return self._files.live

    # ---- one step ----------------------------------------------------------------------------

    def step(self) -> float:
        """Check everything once, start what is possible; return seconds until the next check."""
        began_s = time.process_time()
        try:
            self._look()
            self._once("look", "")
        except (OSError, TomopipeError) as error:  # of the disk, for now: the rest goes on
            self._once("look", f"{error}; it is tried again.")
        os.utime(self._lock.fileno())
        pause_s = min(1.0, max(0.1, self._config.watch.settle_s / 5))
        return max(pause_s, _PART * (time.process_time() - began_s))

    def _look(self) -> None:
        self._hooks.look(self._once)
        self._reap()
        self._read_edits()
        paths, gone = raw_paths(self._config, self.directory)
        if self._is_there(paths, gone):
            self._take(paths)
            if self._may_start():
                self._start_arrivals()
                self._start_tail()

    def _once(self, what: str, text: str) -> None:
        """Report a message on a subject unless it was the last one on it."""
        # a slowly growing file has another number each time
        new = re.sub(r"\d+", "", text) if what.startswith("waits ") else text
        if self._said.get(what, "") != new:
            self._said[what] = new
            if text:
                self._say(f"{time.strftime('%H:%M:%S')} {text}")

    def _state_of_edits(self) -> tuple[Any, ...]:
        table = self.directory / (self._config.campaign.table or TABLE)
        return state_of(self._config_path), state_of(table)

    def _read_edits(self) -> None:
        """Read a changed configuration or table; the next tail makes what follows from it."""
        if (edited := self._state_of_edits()) == self._edited:
            return
        self._edited = edited
        try:
            self._config = read_config(self._config_path)
        except (TomopipeError, OSError) as error:
            self._once("config", f"{error} Until then the last good one counts for what is taken.")
            return
        self._once("config", "")
        self._arrivals.settle_s = self._config.watch.settle_s
        self._dirty = True
        self._next_s[TAIL] = self._tail_took_s = 0.0  # the edit may mend what failed

    def _is_there(self, paths: list[str], gone: list[str]) -> bool:
        """Tell whether the folders of the raw files exist, with their files."""
        lost = gone or ([] if paths or not self._paths else ["all raw files"])
        names = ", ".join(lost)
        back = "The raw files are there again." if "watch" in self._said else ""
        self._once(
            "watch", f"{names}: not there; nothing is run until it is back." if lost else back
        )
        if not lost:
            fewer, self._paths = not set(self._paths) <= set(paths), paths
            if fewer:
                self._dirty = True
                self._save()
        return not lost

    def _fault_of(self, path: str) -> str:
        campaign = make_campaign(self._config, self.directory, taken=(path,))
        if campaign.refused:
            return campaign.refused[0].refused
        return fault_of_scan(campaign, next(iter(campaign.scans)))

    def _take(self, paths: list[str]) -> None:
        """Take the files that are complete."""
        states = {path: tuple(entry["state"]) for path, entry in self._taken.items()}
        found, self._n_pending = self._arrivals.look(paths, states, time.monotonic())
        for path, why in self._arrivals.waiting.items():
            self._once(f"waits {path}", f"{path} waits: {why}")
        for arrival in found:
            self._taken[arrival.path] = _entry(arrival)
            self._attempts.pop(arrival.path, None)
            taken = " is taken" if arrival.complete else ""
            self._once(f"waits {arrival.path}", f"{arrival.path}{taken}: {arrival.rule}")
        if found:
            self._dirty |= not all(arrival.complete for arrival in found)
            self._news_s = time.monotonic()
            self._save()

    def _save(self) -> None:
        """Write the files taken, and the page."""
        try:
            self._files.live.parent.mkdir(parents=True, exist_ok=True)
            write_json(self._taken, self._files.taken)
            title = self._config.campaign.name or self.directory.name
            # of a renamed file only its present name
            shown = [one for one in self._taken.values() if one["path"] in self._paths]
            write_page(self._files, title, shown if self._paths else self._taken.values())
            self._once("save", "")
        except OSError as error:
            self._once("save", f"{error} What was taken is kept in memory.")

    # ---- lanes -------------------------------------------------------------------------------

    def _may_start(self) -> bool:
        """Tell whether runs may begin: there is disk space, and no other run is active."""
        free = shutil.disk_usage(self._files.folder).free
        full = f"less than {_ROOM_BYTES / 1e6:.0f} MB are free; nothing runs until there is room."
        self._once("room", f"{self._files.folder}: {full}" if free < _ROOM_BYTES else "")
        other = TAIL not in self._lanes and launch.is_locked(self.directory)
        self._once("other", f"Nothing runs: {launch.LOCKED}" if other else "")
        if not other and not self._lanes and not self._run.is_dir():
            self._run = self._begin()
        return free >= _ROOM_BYTES and not other

    def _start_arrivals(self) -> None:
        now_s = time.monotonic()
        if ARRIVALS in self._lanes or now_s < self._next_s[ARRIVALS]:
            return
        tail = self._lanes.get(TAIL)
        there = self._unchanged() - (tail.open if tail else set())
        queue = [path for path, one in self._taken.items() if not one["judged"] and path in there]
        queue.sort(key=lambda path: -self._taken[path]["at"])
        if len(queue) > _BACKLOG:
            for path in queue[_MOST_AT_ONCE:]:
                self._taken[path]["judged"] = self._dirty = True
            self._save()
        if queue:
            self._start(ARRIVALS, queue[:_MOST_AT_ONCE], ["--nolock", "predictions"])

    def _start_tail(self) -> None:
        now_s, watch = time.monotonic(), self._config.watch
        since_s = now_s - self._tail_ended_s
        waiting = any(not one["judged"] for one in self._taken.values())
        quiet_s = max(1.0, 2 * watch.settle_s)
        idle = not (self._n_pending or waiting or ARRIVALS in self._lanes)
        idle = idle and now_s - self._news_s >= quiet_s
        due_s = min(60 * watch.every, self._tail_took_s) if idle else 60 * watch.every
        if TAIL in self._lanes or not self._dirty or since_s < due_s or now_s < self._next_s[TAIL]:
            return
        there = self._unchanged()
        paths = [path for path, one in self._taken.items() if one["judged"] and path in there]
        if paths:
            self._dirty = False
            self._start(TAIL, paths, [])

    def _unchanged(self) -> set[str]:
        """Name the files that are unchanged since they were taken."""
        return set(self._paths) - self._arrivals.pending

    def _start(self, name: str, paths: list[str], more: list[str]) -> None:
        self._n_runs += 1
        folder = run_folder.add_part(self._run, f"{name}-{self._n_runs}", paths)
        options = [*self._options, *self._cores(name), *more]
        command = launch.run_command(self.directory, self._own_config, self._profile, options)
        if name == TAIL:
            command = ["nice", "-n", "10", *command]
        log = self.directory / LOGS.of_watch(name)
        log.parent.mkdir(parents=True, exist_ok=True)
        process = launch.spawn(self.directory, command, log, {run_folder.VARIABLE: str(folder)})
        clocks = time.monotonic(), time.time()
        unknown = frozenset(path for path in paths if "scan" not in self._taken[path])
        self._lanes[name] = _Lane(process, folder, paths, *clocks, log, unknown)
        self._tell_who()

    def _cores(self, name: str) -> list[str]:
        """Leave one core of this machine to the arrivals."""
        local = self._profile.endswith("workstation")
        if not local or any(one.split("=")[0] == "--profile" for one in self._options):
            return []
        n_cores = len(os.sched_getaffinity(0))
        if asked := re.search(r"--cores[ =](\d+)", " ".join(self._options)):
            n_cores = int(asked[1])
        return ["--cores", str(n_cores if name == ARRIVALS else max(1, n_cores - 1))]

    def _reap(self) -> None:
        for name, lane in list(self._lanes.items()):
            status = lane.process.poll()
            if status is None:
                continue
            del self._lanes[name]
            (self._end_arrivals if name == ARRIVALS else self._end_tail)(lane, status)
            run_folder.end_part(lane.folder)
            self._tell_who()

    def _end_tail(self, lane: _Lane, status: int) -> None:
        now_s = time.monotonic()
        self._tail_ended_s, self._tail_took_s = now_s, now_s - lane.began_s
        text = lane.log.read_text(encoding="utf-8", errors="replace")
        lines = [one for one in text.splitlines() if one.startswith("tomopipe: ")]
        if self._said.get("tail") == "ends":
            return
        if status in (0, 3):
            for path in lane.folder.parent.glob("said/record@*"):
                if path.stat().st_mtime < lane.folder.joinpath(run_folder.SCANS).stat().st_mtime:
                    path.unlink()  # it is in the record
            n = len(lane.paths)
            done = f"all that follows from {n} file{'s' * (n > 1)} is made: {self._files.report}"
            self._once("tail", "; ".join([*lines, done]))
            return
        self._dirty = True
        self._next_s[TAIL] = now_s + max(_AGAIN_S, 60 * self._config.watch.every)
        # without numbers and times, which differ each time
        failed = sorted({one for one in text.splitlines() if "Error" in one})
        said = "; ".join((lines or failed)[:_MOST_LINES])
        self._once("tail", f"{said}: not all is well, see {lane.log}; it is tried again.")

    def _end_arrivals(self, lane: _Lane, status: int) -> None:
        rows = {}
        with suppress(TomopipeError, OSError):
            table = Files(lane.folder).inventory
            rows = {row["path"]: row for row in read_tsv(table, ("path", "scan", "keep"))}
        campaign: Campaign | None = None
        with suppress(TomopipeError):
            campaign = make_campaign(self._config, self.directory, taken=lane.paths)
        for path in lane.paths:
            row = rows.get(path)
            verdict = self._verdict(campaign, row, lane, status) if campaign and row else None
            if verdict is not None:
                self._tell(path, verdict)
                continue
            n_attempts = self._attempts[path] = self._attempts.get(path, 0) + 1
            if n_attempts >= _ATTEMPTS:
                self._taken[path]["judged"] = True
                self._once(path, f"{path}: no verdict after {n_attempts} runs, see {lane.log}")
            self._next_s[ARRIVALS] = time.monotonic() + _AGAIN_S
        self._dirty, self._news_s = True, time.monotonic()
        self._save()

    def _verdict(
        self, campaign: Campaign, row: dict[str, str], lane: _Lane, status: int
    ) -> dict[str, Any] | None:
        """Return the verdict on a scan; None if its run did not get to it."""
        scan = row["scan"]
        if row["keep"] != "true":
            return {"scan": scan, "doubt": f"skipped: {row['reason']}"}
        path = self._files.prediction(scan)
        try:
            if status and path.stat().st_mtime < lane.began:
                return None  # belongs to the previous file
            prediction = parse_prediction(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError):
            return None
        known = campaign.scans[scan]
        facts = ScanFacts(
            select=known.select,
            manual=known.manual,
            row=row,
            min_confidence=self._config.predict_cor.min_confidence,
            prediction=prediction,
        )
        cor_px = prediction.cor_px if facts.manual_px is None else facts.manual_px
        doubt = "" if facts.manual_px is not None else facts.doubtful_prediction
        shown = picture(self._files, scan, prediction.best_cor_px if cor_px is None else cor_px)
        found = {"cor_px": cor_px, "confidence": prediction.confidence, "doubt": doubt}
        return {"scan": scan} | shown | found

    def _tell(self, path: str, verdict: dict[str, Any]) -> None:
        """Report a verdict, flag it if it is doubtful, and call the hook."""
        entry = self._taken[path]
        entry |= verdict | {"judged": True, "seconds": round(time.time() - entry["last_byte"], 1)}
        cor_px, doubt = verdict.get("cor_px"), verdict["doubt"]
        cor = "no COR" if cor_px is None else f"COR {cor_px:.2f}"
        flag = f"FLAG {verdict['scan']}: {cor}, {doubt}" if doubt else f"{verdict['scan']}: {cor}"
        self._say(f"{time.strftime('%H:%M:%S')} {flag} ({entry['seconds']:.0f} s)")
        if self._config.hooks.on_scan:
            page = {"page": str(self._files.live), "doubtful": bool(doubt)}
            self._hooks.call(self._config.hooks.on_scan, {"path": path} | entry | page)


def _entry(arrival: Arrival) -> dict[str, Any]:
    """Return the entry of a taken file; an aborted one does not wait for a verdict."""
    return {
        "path": arrival.path,
        "state": list(arrival.state),
        "rule": arrival.rule,
        "judged": not arrival.complete,
        "doubt": "" if arrival.complete else arrival.rule,
        "at": time.time(),
        "last_byte": arrival.last_byte,
    }


def watch(
    directory: Path, config: Path | None, options: Sequence[str], say: Callable[[str], None]
) -> None:
    """Watch a campaign until SIGINT or SIGTERM, which lets running jobs finish.

    Raises
    ------
    TomopipeError
        If it is already being watched or run.
    """
    ending: list[int] = []
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signal_number, lambda number, _: ending.append(number))
    folder = Path(os.path.abspath(directory))
    os.chdir(folder)
    with only_watcher(folder) as lock:
        launch.claim(folder, folder / LOGS.of_watch(TAIL))
        watcher = Watcher(folder, config, options, say, lock)
        say(f"Watching {folder.name}; Ctrl-C or `tomopipe stop` ends it. Page: {watcher.page}")
        try:
            while not ending:
                end_s = time.monotonic() + watcher.step()
                while not ending and time.monotonic() < end_s:
                    time.sleep(min(0.2, max(0.0, end_s - time.monotonic())))
        finally:
            watcher.end(finish=signal.SIGTERM in ending)
