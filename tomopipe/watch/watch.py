"""`tomopipe run --watch`: scans as they come, in ordinary runs, one after the other.

A loop: look which files are complete (`arrivals`); start the next run (`Watcher.choose`),
of the CORs of new scans, else of everything; sleep. A run sees complete files only
(`lock.complete_files`). Once a scan has come, a run of everything begins no further job, as
with `tomopipe stop --finish`: so a new COR waits for one volume at most.

The scans taken, and their verdicts, are listed in results/live/taken.json (`watched_scans`).
"""

import os
import re
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tomopipe.campaign import lock
from tomopipe.campaign.campaign import Campaign, make_campaign
from tomopipe.campaign.files import CONFIG, LOGS, TABLE, Logs
from tomopipe.campaign.lock import Run
from tomopipe.campaign.raw_files import raw_paths
from tomopipe.config import Config, read_config
from tomopipe.errors import TomopipeError
from tomopipe.run import launch
from tomopipe.run.progress import Progress
from tomopipe.scans.raw_state import file_state
from tomopipe.storage.atomic import write_json
from tomopipe.storage.processes import is_alive, named
from tomopipe.watch.arrivals import Arrivals, fault_of_scan
from tomopipe.watch.watched_scans import Hooks, WatchedScans, present_verdicts, skipped

_CORS_A_CORE = 4  # new scans of a run, for each core; the latest come first
_ATTEMPTS = 3
_AGAIN_S = 5.0  # after a run that failed
_PAUSE = 60.0  # between two checks, in durations of one
_PAGE_S = 60.0  # the page is written at least so often
_ROOM_BYTES = 50e6
_MOST_LINES = 8
_LONG = {"full_recon", "stitch", "export_stack"}  # steps that a new scan does not wait for
_WELL = (0, 3)


@dataclass
class _Turn:
    """A run under way: what it makes, and the raw files it sees."""

    process: "subprocess.Popen[bytes]"
    run: Run
    progress: Progress
    new: list[str]  # files whose CORs it finds; none: it makes everything
    paths: list[str]
    is_cut: bool = False  # whether it begins no further job, for a scan has come


class Watcher:
    """Watches one campaign; its folder is the working directory."""

    def __init__(
        self,
        directory: Path,
        config: Path | None,
        options: Sequence[str],
        say: Callable[[str], None],
        own: Run,
    ) -> None:
        self.directory, self._config_path = directory, config or directory / CONFIG
        self._own_config, self._options, self._print = config, options, say
        self._own = self._holder = own  # what holds the lock between two runs, and now
        self.is_stopped = False
        self._messages: dict[str, str] = {}  # the last one on each subject
        self._turn: _Turn | None = None
        self._dirty, self._next_s = True, 0.0  # whether, and when, everything is to be made
        self._all_s = time.monotonic()  # when a run of everything began
        self._cors_s = 0.0  # when the next run for CORs may begin
        self._attempts = Counter[str]()
        self._saved_s, self._paths = 0.0, list[str]()
        self._hooks = Hooks(directory, directory / LOGS.of_hooks, self._once)
        self._arrivals = Arrivals(directory, 0.0, self._fault_of)
        self._names: dict[str, str] = {}  # of scans, by path
        self._scans = WatchedScans(read_config(self._config_path), directory, self._hooks, say)
        self._read_edits()
        self._save()

    @property
    def config(self) -> Config:
        """The configuration as it was last read."""
        return self._scans.config

    @property
    def page(self) -> Path:
        """Path of the live page."""
        return self._scans.files.live

    def _campaign(self, paths: Collection[str]) -> Campaign:
        """Read the campaign with these raw files alone."""
        return make_campaign(self.config, self.directory, taken=paths)

    # ---- one step ----------------------------------------------------------------------------

    def step(self) -> float:
        """Check everything once, start what is possible; return seconds until the next check."""
        began_s = time.process_time()
        try:
            self._end_turn()
            if self._scans.draw():
                self._save()
            began_s = time.process_time()  # verdicts and pictures are rare
            self._look()
            self._once("look", "")
        except (OSError, TomopipeError) as error:  # of the disk, for now: the rest goes on
            self._once("look", f"{error}; will be tried again.")
            self._cors_s = time.monotonic() + _AGAIN_S
            self._next_s = max(self._next_s, self._cors_s)
        pause_s = min(1.0, max(0.1, self.config.watch.settle_s / 5))
        return max(pause_s, _PAUSE * (time.process_time() - began_s))

    def _look(self) -> None:
        if self._turn is None and self._state_of_edits() != self._edited:
            try:
                self._read_edits()
                readable = "Config and table can be read again: runs go on."
                self._once("config", readable * bool(self._messages.get("config")))
            except (TomopipeError, OSError) as error:
                self._once("config", f"{str(error).rstrip('.')}. Nothing runs until it is fixed.")
        paths, gone = raw_paths(self.config, self.directory)
        if time.monotonic() - self._saved_s >= _PAGE_S:
            self._save()
        if self.is_stopped or not self._is_there(paths, gone):
            return
        self._take(paths)
        if self._turn is not None:
            self._cut_short(self._turn)
        elif self.may_run() and (chosen := self.choose()):
            self._start(*chosen)

    def _once(self, what: str, text: str) -> None:
        """Report a message on a subject unless it was the last one on it."""
        # a slowly growing file has another number each time, and a run another log
        new = re.sub(r"\d+", "", text) if what.startswith(("waits ", "run")) else text
        if self._messages.get(what, "") != new:
            self._messages[what] = new
            if text:
                self._print(f"{time.strftime('%H:%M:%S')} {text}")

    def _state_of_edits(self) -> tuple[Any, ...]:
        table = self.directory / (self.config.campaign.table or TABLE)
        return file_state(self._config_path), file_state(table)

    def _read_edits(self) -> None:
        """Read configuration and table; what follows from them is made by the next runs."""
        self._edited, self._is_broken = self._state_of_edits(), True
        config, scans = read_config(self._config_path), self._scans
        if config.campaign.results != self.config.campaign.results:
            scans = WatchedScans(config, self.directory, self._hooks, self._print)
        make_campaign(config, self.directory, taken=scans.entries)
        scans.files.folder.mkdir(parents=True, exist_ok=True)
        self._scans, scans.config = scans, config
        self._arrivals.settle_s = config.watch.settle_s
        self._attempts.clear()
        self._dirty, self._is_broken = True, False
        self._next_s = self._cors_s = 0.0  # the edit may fix what failed

    def _is_there(self, paths: list[str], gone: list[str]) -> bool:
        """Tell whether the folders of the raw files exist, with their files."""
        lost = gone or ([] if paths or not self._paths else ["all raw files"])
        there = "The raw files are there again." * ("gone" in self._messages)
        names = f"{', '.join(lost)}: not there; nothing is run until it is back."
        self._once("gone", names if lost else there)
        if not lost:
            fewer, self._paths = not set(self._paths) <= set(paths), paths
            if fewer:
                self._dirty = True
                self._save()
        return not lost

    def _fault_of(self, path: str) -> str:
        campaign = self._campaign([path])
        scan = next(iter((*campaign.refused, *campaign.scans.values())))
        self._names[path] = scan.name
        return scan.refused or fault_of_scan(campaign, scan.name)

    def _take(self, paths: list[str]) -> None:
        """Take the files that are complete."""
        arrivals = self._arrivals.look(paths, self._scans.states, time.monotonic())
        for path, why in self._arrivals.waiting.items():
            self._once(f"waits {path}", f"{path} waits: {why}")
        for arrival in arrivals:
            path, name = arrival.path, self._names[arrival.path]
            self._scans.take(arrival, name)
            self._attempts.pop(path, None)
            self._once(f"waits {path}", "" if arrival.fault else f"{path} is taken: {arrival.rule}")
            if arrival.fault:
                self._scans.report(path, skipped(name, arrival.fault))
        if arrivals:
            self._dirty = True
            self._save()

    def _save(self, *, has_ended: bool = False) -> None:
        """Write the files taken, and the page."""
        self._saved_s = time.monotonic()
        try:
            # of a renamed file only its present name is shown
            self._scans.save(self._paths, has_ended=has_ended)
            self._once("save", "")
        except OSError as error:
            fault = self._messages.get("save") or f"{error} What was taken is kept in memory."
            self._once("save", fault)  # once: the name of the temporary file is another each time

    # ---- runs --------------------------------------------------------------------------------

    def may_run(self) -> bool:
        """Tell whether a run may begin: with disk space and a readable config."""
        folder = self._scans.files.folder
        free = shutil.disk_usage(folder).free
        full = f"less than {_ROOM_BYTES / 1e6:.0f} MB are free; nothing runs until there is room."
        self._once("room", f"{folder}: {full}" if free < _ROOM_BYTES else "")
        return free >= _ROOM_BYTES and not self._is_broken

    def _new(self) -> list[str]:
        """Name the complete files that wait for their COR, the latest first."""
        entries, ready = self._scans.entries, self._ready()
        paths = [path for path in ready if not entries[path]["has_verdict"]]
        paths = [path for path in paths if self._attempts[path] < _ATTEMPTS]
        return sorted(paths, key=lambda path: -entries[path]["at"])

    def _ready(self) -> set[str]:
        """Name the files that were taken and have not changed since."""
        return (set(self._paths) & set(self._scans.entries)) - self._arrivals.pending.keys()

    def choose(self) -> tuple[list[str], list[str], list[str]] | None:
        """Choose what runs next: targets, new files whose CORs it finds, and files it sees.

        No targets: everything. None: there is nothing to do.
        """
        now_s, waiting = time.monotonic(), self._new()
        others = self._ready() - set(waiting)
        due = bool(self._dirty and now_s >= self._next_s and others)
        overdue = due and now_s - self._all_s >= 60 * self.config.watch.every
        if waiting and now_s >= self._cors_s and not overdue:
            new = waiting[: _CORS_A_CORE * len(os.sched_getaffinity(0))]
            return ["predictions"], new, sorted({*others, *new})
        return ([], [], sorted(others)) if due else None

    def _start(self, targets: list[str], new: list[str], paths: list[str]) -> None:
        write_json(paths, self.directory / LOGS.watched_files)
        profile = launch.chosen_profile(self.directory)
        options = [*targets, *self._options]
        command = launch.run_command(self.directory, self._own_config, profile, options)
        process, run = launch.start(
            self.directory, command, force=True, watcher=self._holder, files=LOGS.watched_files
        )
        self._holder = run
        progress = Progress(run.events, Logs(self.directory / LOGS.folder))
        self._turn = _Turn(process, run, progress, new, paths)
        if not targets:
            self._dirty, self._all_s = False, time.monotonic()

    def _cut_short(self, turn: _Turn) -> None:
        """Let a run of everything begin no further job once a scan has come."""
        if turn.new or turn.is_cut or not self._new():
            return
        turn.progress.read()
        steps = turn.progress.steps
        if any(name in _LONG and step.jobs for name, step in steps.items()):
            turn.is_cut = True
            turn.process.terminate()

    def _end_turn(self) -> None:
        """Report what a run has made, if one has ended."""
        turn = self._turn
        if turn is None or (status := turn.process.poll()) is None:
            return
        self._turn, now_s = None, time.monotonic()
        self._dirty |= bool(turn.new) or status not in _WELL
        turn.progress.read(at_end=True)
        self.is_stopped |= bool(turn.progress.facts.get("stopped"))
        with suppress(OSError):  # of a full disk: the next run has it from the one that ended
            lock.hand_over(self.directory, self._holder, self._own)
            self._holder = self._own
        text = Path(turn.run.log).read_text(encoding="utf-8", errors="replace")
        lines = [line for line in text.splitlines() if line.startswith("tomopipe: ")]
        lines = [line for line in dict.fromkeys(lines) if line not in self._messages]
        self._report(turn, status)
        self._save()
        if status in _WELL:
            for line in lines:
                self._once(line, line)  # each run says it
            if not turn.new:
                n = len(turn.paths)
                made = f"all that follows from {n} file{'s' * (n > 1)} is made"
                self._once("run", f"{made}: {self._scans.files.report}")
        elif not (turn.is_cut or self.is_stopped):
            self._cors_s = now_s + _AGAIN_S
            if not turn.new:
                self._next_s = now_s + max(_AGAIN_S, 60 * self.config.watch.every)
            news = turn.progress.news
            errors = [
                f"{step} {scan}: {error}" for what, step, scan, error in news if what == "failed"
            ]
            message = "; ".join([*dict.fromkeys([*errors, *lines])][:_MOST_LINES] or ["an error"])
            failed = f"some jobs failed, see {turn.run.log}; will be tried again."
            self._once("run", f"{message}: {failed}")

    def _report(self, turn: _Turn, status: int) -> None:
        """Report what a run has found of its new scans, or of all, to whom it is news."""
        table, began = self._scans.files.cor_table, turn.run.start_s
        is_old = table.exists() and table.stat().st_mtime < began
        if status not in _WELL and not turn.new and is_old:
            return  # it did not get there
        campaign = self._campaign(turn.new or turn.paths)
        since = began if status else 0.0  # an older prediction may be of the previous file
        verdicts = present_verdicts(campaign, are_new=bool(turn.new), since=since)
        ready = self._ready()  # none that is written anew by now
        self._scans.compare({path: verdicts[path] for path in verdicts if path in ready}, began)
        for path in set(turn.new) & set(self._new()):
            self._attempts[path] += 1
            if self._attempts[path] == _ATTEMPTS:
                reason = f"no verdict after {_ATTEMPTS} runs, see {turn.run.log}"
                self._scans.entries[path] |= {"doubtful": True, "reason": reason}
                self._once(path, f"FLAG {self._scans.entries[path]['scan']}: {reason}")

    # ---- end ---------------------------------------------------------------------------------

    def end(self, sending: signal.Signals | None = None) -> None:
        """Send a signal to the run under way, if any; wait for its end, and that of the hooks."""
        if self._turn and sending:
            launch.interrupt(self._turn.run, sending=sending)
        self.is_stopped = True
        while self._turn:
            time.sleep(0.1)
            with suppress(OSError, TomopipeError):  # of a full disk
                self._end_turn()
        self._scans.draw()
        self._hooks.end()
        self._save(has_ended=True)


def watch(
    directory: Path,
    config: Path | None,
    options: Sequence[str],
    say: Callable[[str], None],
    *,
    take_over: bool = False,
) -> None:
    """Watch a campaign until SIGINT or SIGTERM, which lets running jobs finish.

    Wait first for a run under way, such as that of a watcher that was killed.
    """
    ending: list[signal.Signals] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: ending.append(signal.Signals(number)))
    folder = Path(os.path.abspath(directory))
    os.chdir(folder)
    own = lock.new_run(folder, log=str(folder / LOGS.of_hooks), watcher=named(os.getpid()))
    waits_for: Run | None = None
    while not (ending or lock.has_watcher(folder)) and (run := lock.read(folder)):
        if not is_alive(asdict(run)):  # dead, or perhaps on another host
            break
        if run != waits_for:
            say(f"Nothing is taken before the run under way has ended: {run}.")
        waits_for = run
        time.sleep(_AGAIN_S / 10)
    own = lock.take(folder, own, take_over=take_over)
    with lock.held(folder, own):
        watcher = Watcher(folder, config, options, say, own)
        say(f"Watching {folder.name}; Ctrl-C or `tomopipe stop` ends it. Page: {watcher.page}")
        try:
            while not (ending or watcher.is_stopped):
                end_s = time.monotonic() + watcher.step()
                while not ending and time.monotonic() < end_s:
                    time.sleep(min(0.2, max(0.0, end_s - time.monotonic())))
        finally:
            stopped = None if watcher.is_stopped else signal.SIGINT  # it has its signal
            watcher.end(next(iter(ending), stopped))
