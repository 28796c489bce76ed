"""`tomopipe run --watch`: take each scan when it is complete, report its COR, then make the rest.

A loop of short runs of the same workflow, of two kinds, which are parts of one run
(`storage.run_folder`): `arrivals` finds the CORs of new scans in parallel; `tail` runs the whole
present campaign at low priority when no scan arrives or `watch.every` has passed. Neither sees
incomplete files. The scans taken are listed in results/live/taken.json.

A scan (`watched_scans`) gets its verdict from the part that finds its COR, and is compared with the
results after each tail: what the series has replaced since is reported, once.
"""

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from tomopipe.campaign.arrivals import Arrivals, frames_of_scan
from tomopipe.campaign.campaign import make_campaign
from tomopipe.campaign.failures import plain_error
from tomopipe.campaign.files import CONFIG, LOGS, TABLE, Files
from tomopipe.campaign.job_status import CLOCKS_S, read_job
from tomopipe.campaign.raw_files import raw_paths
from tomopipe.campaign.watch_lock import only_watcher, write_holder
from tomopipe.config import read_config
from tomopipe.errors import TomopipeError
from tomopipe.reruns.decisions import Decisions
from tomopipe.run import launch
from tomopipe.scans.raw_state import file_state
from tomopipe.storage import run_folder
from tomopipe.storage.run_folder import ARRIVALS, TAIL
from tomopipe.storage.tables import read_tsv
from tomopipe.watch.hooks import Hooks
from tomopipe.watch.verdicts import Verdict, present_verdicts, skipped, verdict_of_arrival
from tomopipe.watch.watched_scans import WatchedScans

_MOST_AT_ONCE = 8  # arrivals of a run; a new one waits for its end
_BACKLOG = 24  # scans waiting for a COR from which on the older ones go to the tail
_ATTEMPTS = 3
_AGAIN_S = 5.0  # after a run that failed before its jobs
_PAUSE = 60.0  # between two checks, in durations of one
_PAGE_S = 60.0  # the page is written at least so often
_ROOM_BYTES = 50e6
_MOST_LINES = 8
# in Snakemake's text, of an error that no job has noted
_ERROR = re.compile(r"^(?:Error in rule \w+|\S*Error: *(?:\n +)?\S.*)", re.MULTILINE)


@dataclass
class _Part:
    """A part of the run: its Snakemake, and the raw files it sees."""

    process: "subprocess.Popen[bytes]"
    folder: Path
    paths: list[str]
    began_s: float
    began: float  # Unix seconds
    log: Path
    without_cor: frozenset[str]  # paths when it began


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
        self._messages: dict[str, str] = {}  # the last one on each subject
        self._parts: dict[str, _Part] = {}
        self._n_runs, self._attempts = 0, dict[str, int]()
        self._next_s = dict.fromkeys((ARRIVALS, TAIL), 0.0)
        self._dirty, self._tail_took_s = True, 0.0
        self._tail_ended_s, self._news_s = time.monotonic(), -1e9
        self._n_pending, self._saved_s = 0, 0.0
        self._config = read_config(self._config_path)
        self._moved: list[str] = []  # options for Snakemake that undo another campaign.results
        self._edited, self._is_broken = self._state_of_edits(), False
        self._paths: list[str] = []
        self._arrivals = Arrivals(directory, self._config.watch.settle_s, self._frames_of)
        self._hooks = Hooks(directory, directory / LOGS.of_watch("hook"))
        self._scans = WatchedScans(self._config, directory, self._hooks, say)
        self._files = self._scans.files
        self._run = self._begin()
        self._save()

    # ---- begin and end -----------------------------------------------------------------------

    def _begin(self) -> Path:
        """End earlier runs, and begin the run of all arrivals."""
        if TAIL in launch.kill_parts(self.directory):
            launch.unlock(self.directory)
        self._write_holder()  # which protects the watcher on other machines
        results = Path(self._config.campaign.results)
        results.mkdir(parents=True, exist_ok=True)
        launch.unlock_killed(self.directory, results)
        if launch.is_locked(self.directory):
            return results / "none"  # for now: another run is active
        self._take_job_records()
        return run_folder.begin(results)

    def _take_job_records(self) -> None:
        """Write the jobs' reports into the record."""
        decisions = Decisions(make_campaign(self._config, self.directory, taken=()))
        decisions.take_job_records()
        decisions.save()

    def _write_holder(self) -> None:
        """Write the watcher and the running parts into the lock."""
        write_holder(self._lock, {name: part.process.pid for name, part in self._parts.items()})

    def end(self, *, finish: bool) -> None:
        """End the parts, or let them finish, then the hooks and the run."""
        self._messages["tail"] = "ends"
        for part in self._parts.values():
            with suppress(ProcessLookupError):
                if finish:
                    os.kill(part.process.pid, signal.SIGTERM)
                else:
                    os.killpg(part.process.pid, signal.SIGINT)
        while self._parts:
            time.sleep(0.1)
            with suppress(OSError):  # of a full disk: all parts are waited for
                os.utime(self._lock.fileno())
                self._reap()
                self._hooks.look(self._once)
        self._scans.draw()
        self._hooks.end(self._once)
        self._save(has_ended=True)
        if self._run.is_dir():
            self._take_job_records()
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
            self._hooks.look(self._once)
            self._reap()
            if self._scans.draw():
                self._save()
            began_s = time.process_time()  # reports and pictures are rare
            self._look()
            self._once("look", "")
        except (OSError, TomopipeError) as error:  # of the disk, for now: the rest goes on
            self._once("look", f"{error}; will be tried again.")
        os.utime(self._lock.fileno())
        pause_s = min(1.0, max(0.1, self._config.watch.settle_s / 5))
        return max(pause_s, _PAUSE * (time.process_time() - began_s))

    def _look(self) -> None:
        self._read_edits()
        paths, gone = raw_paths(self._config, self.directory)
        if time.monotonic() - self._saved_s >= _PAGE_S:
            self._save()
        if self._is_there(paths, gone):
            self._take(paths)
            if self._may_start():
                self._start_arrivals()
                self._start_tail()

    def _once(self, what: str, text: str) -> None:
        """Report a message on a subject unless it was the last one on it."""
        # a slowly growing file has another number each time
        new = re.sub(r"\d+", "", text) if what.startswith("waits ") else text
        if self._messages.get(what, "") != new:
            self._messages[what] = new
            if text:
                self._say(f"{time.strftime('%H:%M:%S')} {text}")

    def _state_of_edits(self) -> tuple[Any, ...]:
        table = self.directory / (self._config.campaign.table or TABLE)
        return file_state(self._config_path), file_state(table)

    def _read_edits(self) -> None:
        """Read a changed configuration or table; the next tail makes what follows from it."""
        if (edited := self._state_of_edits()) == self._edited:
            return
        self._edited, self._is_broken = edited, True
        try:
            config = read_config(self._config_path)
            make_campaign(config, self.directory, taken=self._scans.entries)
        except (TomopipeError, OSError) as error:
            self._once("config", f"{str(error).rstrip('.')}. Nothing runs until it is fixed.")
            return
        results = self._config.campaign.results
        moved = config.campaign.results != results
        self._moved = ["--config", f"campaign={{'results': {results!r}}}"] if moved else []
        kept = config.campaign.model_copy(update={"results": results})
        self._config = self._scans.config = config.model_copy(update={"campaign": kept})
        self._is_broken = False
        readable = "Config and table can be read again: runs go on."
        self._once("config", readable if self._messages.get("config") else "")
        waits = "campaign.results takes effect when the watcher is started again; until then all"
        self._once("results", f"{waits} goes to {results}." if moved else "")
        self._attempts.clear()
        self._arrivals.settle_s = self._config.watch.settle_s
        self._dirty = True
        self._next_s[TAIL] = self._tail_took_s = 0.0  # the edit may fix what failed

    def _is_there(self, paths: list[str], gone: list[str]) -> bool:
        """Tell whether the folders of the raw files exist, with their files."""
        lost = gone or ([] if paths or not self._paths else ["all raw files"])
        names = ", ".join(lost)
        back = "The raw files are there again." if "watch" in self._messages else ""
        self._once(
            "watch", f"{names}: not there; nothing is run until it is back." if lost else back
        )
        if not lost:
            fewer, self._paths = not set(self._paths) <= set(paths), paths
            if fewer:
                self._dirty = True
                self._save()
        return not lost

    def _frames_of(self, path: str) -> tuple[str, bool]:
        campaign = make_campaign(self._config, self.directory, taken=(path,))
        if campaign.refused:
            return campaign.refused[0].refused, False
        return frames_of_scan(campaign, next(iter(campaign.scans)))

    def _take(self, paths: list[str]) -> None:
        """Take the files that are complete."""
        now_s = time.monotonic()
        found, self._n_pending = self._arrivals.look(paths, self._scans.states, now_s)
        for path, why in self._arrivals.waiting.items():
            self._once(f"waits {path}", f"{path} waits: {why}")
        if not found:
            return
        names = self._names({arrival.path for arrival in found})
        for arrival in found:
            path = arrival.path
            name = names.get(path) or os.path.splitext(os.path.basename(path))[0]
            self._scans.take(arrival, name)
            self._attempts.pop(path, None)
            self._once(f"waits {path}", "" if arrival.fault else f"{path} is taken: {arrival.rule}")
            if arrival.fault:
                self._dirty = True
                self._scans.report(path, skipped(name, arrival.fault))
        self._news_s = time.monotonic()
        self._save()

    def _names(self, paths: set[str]) -> dict[str, str]:
        """Name the scans of raw files."""
        with suppress(TomopipeError):
            campaign = make_campaign(self._config, self.directory, taken=paths)
            return {s.path: s.name for s in (*campaign.scans.values(), *campaign.refused)}
        return {}

    def _save(self, *, has_ended: bool = False) -> None:
        """Write the files taken, and the page."""
        self._saved_s = time.monotonic()
        try:
            # of a renamed file only its present name is shown
            self._scans.save(self._paths, has_ended=has_ended)
            self._once("save", "")
        except OSError as error:
            self._once("save", f"{error} What was taken is kept in memory.")

    # ---- parts of the run ----------------------------------------------------------------

    def _may_start(self) -> bool:
        """Tell whether runs may begin: with disk space, a readable config, and no other run."""
        free = shutil.disk_usage(self._files.folder).free
        full = f"less than {_ROOM_BYTES / 1e6:.0f} MB are free; nothing runs until there is room."
        self._once("room", f"{self._files.folder}: {full}" if free < _ROOM_BYTES else "")
        other = TAIL not in self._parts and launch.is_locked(self.directory)
        self._once("other", f"Nothing runs: {launch.LOCKED}" if other else "")
        if not other and not self._parts and not self._run.is_dir():
            self._run = self._begin()
        return free >= _ROOM_BYTES and not other and not self._is_broken

    def _start_arrivals(self) -> None:
        now_s = time.monotonic()
        if ARRIVALS in self._parts or now_s < self._next_s[ARRIVALS]:
            return
        tail, entries = self._parts.get(TAIL), self._scans.entries
        free = self._unchanged() - (tail.without_cor if tail else set())
        queue = self._scans.waiting(free, for_tail=False)
        queue.sort(key=lambda path: -entries[path]["at"])
        if len(queue) > _BACKLOG:
            for path in queue[_MOST_AT_ONCE:]:
                entries[path]["for_tail"] = self._dirty = True
            self._save()
        if queue:
            self._start(ARRIVALS, queue[:_MOST_AT_ONCE], ["--nolock", "predictions"])

    def _start_tail(self) -> None:
        now_s, watch = time.monotonic(), self._config.watch
        since_s = now_s - self._tail_ended_s
        waiting = self._scans.waiting(self._scans.entries, for_tail=False)
        quiet_s = max(1.0, 2 * watch.settle_s)
        idle = not (self._n_pending or waiting or ARRIVALS in self._parts)
        idle = idle and now_s - self._news_s >= quiet_s
        due_s = min(60 * watch.every, self._tail_took_s) if idle else 60 * watch.every
        if TAIL in self._parts or not self._dirty or since_s < due_s or now_s < self._next_s[TAIL]:
            return
        if paths := self._scans.waiting(self._unchanged(), for_tail=True):
            self._dirty = False
            self._start(TAIL, paths, [])

    def _unchanged(self) -> set[str]:
        """Name the files that are unchanged since they were taken."""
        return set(self._paths) - self._arrivals.pending

    def _start(self, name: str, paths: list[str], more: list[str]) -> None:
        self._n_runs += 1
        folder = run_folder.add_part(self._run, f"{name}-{self._n_runs}", paths)
        options = [*self._options, *self._cores(name), *self._moved, *more]
        command = launch.run_command(self.directory, self._own_config, self._profile, options)
        if name == TAIL:
            command = ["nice", "-n", "10", *command]
        log = self.directory / LOGS.of_watch(name)
        log.parent.mkdir(parents=True, exist_ok=True)
        process = launch.spawn(self.directory, command, log, {run_folder.VARIABLE: str(folder)})
        clocks = time.monotonic(), time.time()
        without_cor = frozenset(filter(self._scans.has_no_cor, paths))
        self._parts[name] = _Part(process, folder, paths, *clocks, log, without_cor)
        self._write_holder()

    def _cores(self, name: str) -> list[str]:
        """Leave one core of this machine to the arrivals."""
        local = self._profile.endswith("workstation")
        if not local or any(option.split("=")[0] == "--profile" for option in self._options):
            return []
        n_cores = len(os.sched_getaffinity(0))
        if asked := re.search(r"--cores[ =](\d+)", " ".join(self._options)):
            n_cores = int(asked[1])
        return ["--cores", str(n_cores if name == ARRIVALS else max(1, n_cores - 1))]

    def _reap(self) -> None:
        for name, part in list(self._parts.items()):
            status = part.process.poll()
            if status is None:
                continue
            del self._parts[name]
            (self._end_arrivals if name == ARRIVALS else self._end_tail)(part, status)
            run_folder.end_part(part.folder)
            self._write_holder()

    def _end_tail(self, part: _Part, status: int) -> None:
        now_s = time.monotonic()
        self._tail_ended_s, self._tail_took_s = now_s, now_s - part.began_s
        text = part.log.read_text(encoding="utf-8", errors="replace")
        lines = [line for line in text.splitlines() if line.startswith("tomopipe: ")]
        lines = [line for line in lines if line not in self._messages]
        self._compare(part, status)
        if self._messages.get("tail") == "ends":
            return
        if status in (0, 3):
            for path in part.folder.parent.glob("said/record@*"):
                if path.stat().st_mtime < part.folder.joinpath(run_folder.SCANS).stat().st_mtime:
                    path.unlink()  # it is in the record
            n = len(part.paths)
            done = f"all that follows from {n} file{'s' * (n > 1)} is made: {self._files.report}"
            for line in lines:
                self._once(line, line)  # each tail says it
            self._once("tail", done)
            return
        self._dirty = True
        self._next_s[TAIL] = now_s + max(_AGAIN_S, 60 * self._config.watch.every)
        errors = self._failed(part) or [" ".join(e.split()) for e in _ERROR.findall(text)]
        message = "; ".join(list(dict.fromkeys([*errors, *lines]))[:_MOST_LINES])
        self._once("tail", f"{message}: some jobs failed, see {part.log}; will be tried again.")

    def _failed(self, part: _Part) -> list[str]:
        """Name the jobs that failed since a part began, with their errors."""
        paths = sorted((self.directory / LOGS.status_folder).glob("*/*.json"))
        return [
            f"{job.step} {job.key}: {plain_error(job.error, job.step).rstrip('.')}"
            for job in map(read_job, paths)
            if job and job.state == "failed" and job.start_s > part.began - CLOCKS_S
        ]

    def _end_arrivals(self, part: _Part, status: int) -> None:
        verdicts = dict[str, Verdict | None]()
        with suppress(TomopipeError, OSError):
            rows = read_tsv(Files(part.folder).inventory, ("path", "scan", "keep", "reason"))
            campaign = make_campaign(self._config, self.directory, taken=part.paths)
            newer = part.began if status else 0.0  # an older one belongs to the previous file
            for row in rows:
                verdicts[row["path"]] = verdict_of_arrival(campaign, row, newer_than=newer)
        for path in part.paths:
            if verdict := verdicts.get(path):
                self._scans.report(path, verdict)
                continue
            n_attempts = self._attempts[path] = self._attempts.get(path, 0) + 1
            if n_attempts >= _ATTEMPTS:
                reason = f"no verdict after {n_attempts} runs, see {part.log}"
                self._scans.give_up(path, reason)
                self._once(path, f"FLAG {self._scans.entries[path]['scan']}: {reason}")
            self._next_s[ARRIVALS] = time.monotonic() + _AGAIN_S
        self._dirty, self._news_s = True, time.monotonic()
        self._save()

    def _compare(self, part: _Part, status: int) -> None:
        """Compare the verdicts of the scans of a tail with its results."""
        table = self._files.cor_table
        if status not in (0, 3) and table.exists() and table.stat().st_mtime < part.began:
            return  # it did not get there
        found = dict[str, Verdict]()
        with suppress(TomopipeError, OSError):
            found = present_verdicts(self._config, self.directory, frozenset(part.paths))
        self._scans.compare(found, part.began)
        self._save()


def watch(
    directory: Path, config: Path | None, options: Sequence[str], say: Callable[[str], None]
) -> None:
    """Watch a campaign until SIGINT or SIGTERM, which lets running jobs finish."""
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
            lock.truncate(0)  # its age counts no more
