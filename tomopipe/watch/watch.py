"""`tomopipe run --watch`: scans as they come, in ordinary runs, one after the other.

A loop: find complete files; if there are new ones, start a run that sees only complete files
(`lock.complete_files`); sleep. A run finds the CORs of new scans before it makes volumes. Once
another scan has arrived, it starts no further job after its first volume, as with `tomopipe stop
--finish`: so a new COR waits for at most one volume.
"""

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from tomopipe.campaign.campaign import Campaign, make_campaign
from tomopipe.campaign.files import CONFIG, LOGS, TABLE, Logs, job_name
from tomopipe.campaign.raw_files import CampaignScan, growing_files, raw_paths
from tomopipe.campaign.reading import raw_scan
from tomopipe.campaign.state.signs import State as ScanState
from tomopipe.config import Config, read_config
from tomopipe.errors import RunEndedError, TomopipeError
from tomopipe.report.verdicts import Verdict, present_verdicts
from tomopipe.reruns.foreign import keep_others
from tomopipe.run import launch
from tomopipe.run.forecast import forecast
from tomopipe.run.progress import Progress, Step
from tomopipe.scans.hdf5 import StillWrittenError
from tomopipe.scans.metadata import incomplete
from tomopipe.scans.raw_identity import file_state
from tomopipe.storage import lock
from tomopipe.storage.atomic import write_json
from tomopipe.storage.lock import Run
from tomopipe.storage.processes import is_alive, named
from tomopipe.watch.watched_scans import WatchedScans
from tomopipe.workflow_steps import STEPS

State = tuple[int, ...]
"""State of a file: size, time of change (ns), inode."""
MARKER = ".done"
_OPEN = "still being written"
# number of settling times without change after which an incomplete file counts as aborted
_ABORTED = 6
_AGAIN_S, _MOST_AGAIN_S = 5.0, 300.0  # pause after a failed run, which grows with each
_PAUSE = 60.0  # pause between two checks, as a multiple of the CPU time of one
_PAGE_S = 60.0  # largest interval between two writings of the page
_SHOWN_S = 60.0  # interval between two lines on the progress of a run
_MOST_LINES = 8
_LONG = {  # steps for which a new scan does not wait
    name for name, step in STEPS.items() if step.is_after_cors and step.key != "campaign"
}
_SUCCESS = (0, 3)  # exit statuses


class Arrivals:
    """The raw files of a campaign that are not complete yet.

    A file is complete if it has not changed for `watch.settle_s`, or has its writer's marker; if it
    can be opened, which HDF5 refuses while a writer has it open; and if it has as many frames as
    angles, all written. A file of time points is accepted whenever another one of them is whole.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.waiting: dict[str, str] = {}  # why unchanged files are incomplete, by path
        # state of each file not accepted yet, and since when (s, monotonic clock)
        self.pending: dict[str, tuple[State, float]] = {}
        self._whole: dict[str, list[str]] = {}  # of each growing file, its time points by content

    @property
    def unusable(self) -> set[str]:
        """The files that have changed, and are not accepted again yet."""
        return self.pending.keys() - self._whole.keys()

    def look(
        self, config: Config, paths: Iterable[str], states: Mapping[str, State], now_s: float
    ) -> list[tuple[CampaignScan, State, str]]:
        """Return the files to accept now, of those whose present state is not in `states`.

        Each with its state, and why it counts as aborted; "" if it is complete.
        """
        before, self.pending, self.waiting = self.pending, {}, {}
        settled, settle_s = [], config.watch.settle_s
        growing = growing_files(config, self._directory)
        for path in paths:
            present = file_state(self._directory / path)
            if present is None or states.get(path) == present:
                continue
            earlier, since_s = before.get(path, (present, now_s))
            self.pending[path] = present, since_s if earlier == present else now_s
            is_marked = os.path.exists(self._directory / f"{path}{MARKER}")
            is_quiet = is_marked or now_s - self.pending[path][1] >= settle_s
            if is_quiet or path in growing:
                settled.append(path)
        if not settled:
            return []
        arrivals, campaign = [], make_campaign(config, self._directory, only=settled)
        scans = (*campaign.refused, *campaign.scans.values())
        for scan in {scan.path: scan for scan in scans}.values():
            state, since_s = self.pending[scan.path]
            if scan.path in growing and self._has_grown(campaign, scan.path):
                arrivals.append((scan, state, ""))
                continue
            if scan.path in growing and now_s - since_s < settle_s:
                continue
            if fault := scan.refused or _fault_of(campaign, scan):
                self.waiting[scan.path] = fault
                if fault == _OPEN or now_s - since_s < max(1.0, _ABORTED * settle_s):
                    continue
                fault = f"not complete after {now_s - since_s:.0f} s ({fault}): skipped"
            elif file_state(self._directory / scan.path) != state:
                continue  # it changed while it was read
            del self.pending[scan.path]
            arrivals.append((scan, state, fault))
        return arrivals

    def _has_grown(self, campaign: Campaign, path: str) -> bool:
        """Tell whether a file has other whole time points than before."""
        scans = campaign.scans.values()
        views = [scan.view.content for scan in scans if scan.path == path and scan.view]
        has_grown = bool(views) and views != self._whole.get(path)
        if has_grown:
            self._whole[path] = views
        return has_grown


def _fault_of(campaign: Campaign, scan: CampaignScan) -> str:
    """Return why a scan cannot be read, or lacks frames; "" if it is complete."""
    try:
        return incomplete(raw_scan(campaign, scan.name).metadata())
    except StillWrittenError:
        return _OPEN
    except (TomopipeError, OSError) as error:
        return str(error).removeprefix(f"{scan.path}: ")


@dataclass
class _CurrentRun:
    """The run in progress, and the raw files that it sees."""

    process: "subprocess.Popen[bytes]"
    run: Run
    progress: Progress
    paths: list[str]
    has_cors: bool = False  # whether it has determined CORs
    is_cut: bool = False  # whether it ends early for a scan that has arrived
    shown_s: float = field(default_factory=time.monotonic)  # time of the last line on its progress


class Watcher:
    """Watches one campaign; its folder is the working directory."""

    def __init__(
        self,
        directory: Path,
        config: Path | None,
        options: Sequence[str],
        report: Callable[[str], None],
        own: Run,
    ) -> None:
        self.directory, self._config_path = directory, config or directory / CONFIG
        self._own_config, self._options, self._print = config, options, report
        self._own = self._holder = own  # holder of the lock between runs, and at present
        self.is_stopped = False
        self._messages: dict[str, str] = {}  # last message on each subject
        self._current: _CurrentRun | None = None
        self._is_due, self._next_s, self._n_failed = True, 0.0, 0  # of the next run
        self._saved_s, self._paths = 0.0, list[str]()
        self._arrivals = Arrivals(directory)
        self._read_edits()
        self._save()

    @property
    def page(self) -> Path:
        """Path of the live page."""
        return self._scans.files.live

    def step(self) -> float:
        """Check everything once, start a run if possible; return seconds until the next check."""
        began_s = time.process_time()
        try:
            self._follow()
            began_s = time.process_time()  # without verdicts, which are rare
            self._check_files()
            self._once("fault", "")
        except RunEndedError as error:
            self._once("fault", str(error))
            self.is_stopped = True
        except (OSError, TomopipeError) as error:  # of the disk, config or table; perhaps temporary
            self._once("fault", f"{str(error).rstrip('.')}. No run starts until this is resolved.")
        pause_s = min(1.0, max(0.1, self._config.watch.settle_s / 5))
        return max(pause_s, _PAUSE * (time.process_time() - began_s))

    def _check_files(self) -> None:
        self._check_edits()
        paths, missing = raw_paths(self._config, self.directory)
        if time.monotonic() - self._saved_s >= _PAGE_S:
            self._save()
        if missing or (self._paths and not paths):
            names = ", ".join(missing) or "all raw files"
            self._once("gone", f"{names}: missing. No run starts until this is resolved.")
            return
        self._once("gone", "The raw files are back." * ("gone" in self._messages))
        self._is_due |= not set(self._paths) <= set(paths)
        self._paths = paths
        self._take(paths)
        if self._current:
            self._cut_short(self._current)
        elif self._is_due and time.monotonic() >= self._next_s and not self.is_stopped:
            self._start(sorted(self._ready()))

    def _once(self, subject: str, text: str, more: str = "") -> None:
        """Report a message unless it was the last one on its subject; `more` may differ."""
        # the numbers of a slowly growing file change each time
        new = re.sub(r"\d+", "", text) if subject.startswith("waits ") else text
        if self._messages.get(subject, "") != new:
            self._messages[subject] = new
            if text:
                self._print(f"{time.strftime('%H:%M:%S')} {text}{more}")

    def _report(self, lines: Iterable[str]) -> None:
        for line in lines:
            self._once(line, line)  # repeated by each run

    def _state_of_edits(self) -> tuple[Any, ...]:
        table = self.directory / (self._config.campaign.table or TABLE)
        return file_state(self._config_path), file_state(table)

    def _check_edits(self) -> None:
        """Read what was edited, unless a run is in progress, and report it."""
        names = (self._config_path.name, self._config.campaign.table or TABLE)
        states = zip(names, self._edited, self._state_of_edits(), strict=True)
        edited = " and ".join(name for name, before, state in states if before != state)
        if self._current:
            self._once("edits", f"{edited} changed: counts from the next run on" * bool(edited))
        elif edited:
            self._read_edits()
            self._messages.pop("run", None)  # the end of the next run is news
            self._messages.pop("edits", None)
            self._once("edits", f"{edited} changed: the next run begins")

    def _read_edits(self) -> None:
        """Read configuration and table again, for the next run."""
        self._config = read_config(self._config_path)
        edited = self._state_of_edits()
        scans = WatchedScans(self._config, self.directory, self._print)
        keep_others(scans.files.live, is_made_here=lambda _: scans.files.taken.exists())
        make_campaign(self._config, self.directory, only=scans.entries)
        self._scans, self._edited = scans, edited
        self._is_due, self._next_s, self._n_failed = True, 0.0, 0

    def _take(self, paths: list[str]) -> None:
        """Accept the files that are complete."""
        scans, now_s = self._scans, time.monotonic()
        arrivals = self._arrivals.look(self._config, paths, scans.states, now_s)
        for path, why in self._arrivals.waiting.items():
            self._once(f"waits {path}", f"waiting for {path}: {why}")
        for scan, state, fault in arrivals:
            scans.take(scan.path, scan.name, state)
            if fault:
                verdict = Verdict(
                    scan.name, ScanState.SKIPPED, doubtful=True, reason=fault, path=scan.path
                )
                scans.compare({scan.path: verdict})
            else:
                self._once(f"waits {scan.path}", f"{scan.path} is complete")
        if arrivals:
            self._is_due, self._next_s = True, 0.0
            self._save()

    def _ready(self) -> set[str]:
        """Return the files that were accepted and have not changed since."""
        return (set(self._paths) & set(self._scans.entries)) - self._arrivals.unusable

    def _save(self, *, has_ended: bool = False) -> None:
        self._saved_s = time.monotonic()
        try:
            self._scans.save(self._paths, has_ended=has_ended)
            self._once("save", "")
        except OSError as error:
            if not self._messages.get("save"):  # the name of the temporary file changes each time
                self._once("save", f"{error} The list of scans is kept in memory.")

    # ---- runs --------------------------------------------------------------------------------

    def _start(self, paths: list[str]) -> None:
        """Start a run that sees these files, if there are any."""
        if not paths:
            return
        self._next_s = time.monotonic() + _AGAIN_S  # if it does not start
        write_json(paths, self.directory / LOGS.watched_files)
        profile = launch.chosen_profile(self.directory)
        command = launch.run_command(self.directory, self._own_config, profile, self._options)
        process, run = launch.start(
            self.directory, command, force=True, watcher=self._holder, files=LOGS.watched_files
        )
        self._holder = run
        progress = Progress(run.events, Logs(self.directory / LOGS.folder))
        self._current, self._is_due = _CurrentRun(process, run, progress, paths), False

    def _cut_short(self, current: _CurrentRun) -> None:
        """Stop a run from starting jobs if it has begun long ones and a scan has arrived."""
        steps = current.progress.steps
        is_long = any(name in _LONG and step.jobs for name, step in steps.items())
        arrived_s = (self._scans.entries[path]["at"] for path in self._ready())
        if is_long and not current.is_cut and max(arrived_s, default=0.0) > current.run.start_s:
            current.is_cut = True
            current.process.terminate()

    def _follow(self) -> None:
        """Report the CORs of a run, once it has determined them and when it has ended."""
        if (current := self._current) is None:
            return
        status = current.process.poll()
        current.progress.read()
        for line in current.progress.facts.get("said", []):  # such as what it waits for
            self._once(f"tomopipe: {line}", f"tomopipe: {line}")
        if status is None and time.monotonic() - current.shown_s >= _SHOWN_S:
            current.shown_s = time.monotonic()
            self._once("jobs", "{} of {} jobs are done".format(*current.progress.counts))
        n, had_cors = current.progress.steps.get("resolve_cor", Step()).n, current.has_cors
        current.has_cors = status in _SUCCESS or bool(n["done"] or n["failed"])
        if status is not None:
            self._end_run(current, status)
        if status is None and current.has_cors > had_cors and (times := forecast(current.progress)):
            remark = f"; {times.remark}" if times.remark else ""
            self._once("time", f"CORs are there: {times.sentence}", remark)
        if current.has_cors and (status is not None or not had_cors):
            campaign = make_campaign(self._config, self.directory, only=current.paths)
            # without files that were written again meanwhile
            verdicts, ready = present_verdicts(campaign), self._ready()
            verdicts = {key: each for key, each in verdicts.items() if each.path in ready}
            self._scans.compare(verdicts, current.run.start_s)
            self._save()

    def _end_run(self, current: _CurrentRun, status: int) -> None:
        """Report the messages of a run that has ended, and schedule the next one."""
        self._current = None
        self.is_stopped |= bool(current.progress.facts.get("stopped"))
        with suppress(OSError):  # on a full disk: the next run takes the lock from the ended one
            left = lock.read(self.directory) or self._own
            before = left.before or (left.id if status < 0 else "")  # as `lock.take`, if killed
            self._own = replace(self._own, before=before)
            lock.hand_over(self.directory, self._holder, self._own)
            self._holder = self._own
        lines = dict.fromkeys(launch.own_lines(current.run))
        failed = current.progress.failed
        errors = dict.fromkeys(
            f"{job.step} {job_name(job.step, job.name)}: {job.error}" for job in failed
        )
        if status in _SUCCESS:
            self._n_failed = 0
            self._report(lines)
            n = len(current.paths)
            made = f"all results of {n} file{'s' * (n > 1)} are up to date"
            self._once("run", f"{made}: {self._scans.files.report}")
        elif current.is_cut or self.is_stopped:
            self._is_due = True
        else:
            self._n_failed = 0 if self._is_due else self._n_failed  # a scan arrived meanwhile
            wait_s = min(_MOST_AGAIN_S, _AGAIN_S * 4**self._n_failed)
            self._is_due, self._next_s = True, time.monotonic() + wait_s
            self._n_failed += 1
            if errors:  # lines such as those of hooks are not why it failed
                self._report(lines)
            message = "; ".join([*(errors or lines)][:_MOST_LINES] or ["an error"])
            log = f", see {current.run.log}. Another attempt follows."
            self._once("run", f"{message}: the run failed", log)

    def end(self, sending: signal.Signals | None = None) -> None:
        """Send a signal to the run in progress, if any; wait for its end."""
        if self._current and sending:
            launch.interrupt(self._current.run, sending=sending)
        self.is_stopped = True
        while self._current:
            time.sleep(0.1)
            with suppress(OSError, TomopipeError):  # of a full disk
                self._follow()
        self._save(has_ended=True)


def watch(
    directory: Path,
    config: Path | None,
    options: Sequence[str],
    report: Callable[[str], None],
    *,
    take_over: bool = False,
) -> bool:
    """Watch a campaign until SIGINT or SIGTERM; running jobs then finish.

    Waits first for a current run, such as that of a killed watcher. Tells whether it was SIGINT.
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
            report(f"Waiting for the current run to end: {run}.")
        waits_for = run
        time.sleep(_AGAIN_S / 10)
    own = lock.take(folder, own, take_over=take_over)
    with lock.held(folder, own):
        watcher = Watcher(folder, config, options, report, own)
        report(f"Watching {folder.name}; Ctrl-C or `tomopipe stop` ends it. Page: {watcher.page}")
        try:
            while not (ending or watcher.is_stopped):
                end_s = time.monotonic() + watcher.step()
                while not ending and time.monotonic() < end_s:
                    time.sleep(min(0.2, max(0.0, end_s - time.monotonic())))
        finally:
            default = None if watcher.is_stopped else signal.SIGINT  # a stopped run has its signal
            watcher.end(next(iter(ending), default))
    return ending[:1] == [signal.SIGINT]
