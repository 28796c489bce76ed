"""Hooks: commands of a site that a run starts on its events, with JSON on their standard input.

The main process of a run looks every few seconds for CORs and volumes that are new. Those for which
its commands were called stand in results/.hooks.json: what a killed run, or a call that failed,
left out is called by the next run. A hook that fails costs a line of the log, never the run.
"""

import atexit
import json
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tomopipe.campaign.campaign import Campaign
from tomopipe.campaign.files import LOGS, title_of
from tomopipe.campaign.log import JobStatus
from tomopipe.campaign.results import present_inventory
from tomopipe.campaign.state.signs import State
from tomopipe.errors import TomopipeError
from tomopipe.reruns.failed_results import why_again
from tomopipe.run import progress
from tomopipe.storage.atomic import write_json
from tomopipe.storage.json_files import json_or, number, part

_LOOK_S = 5.0  # between two looks for new results
_MOST_CALLS = 4  # simultaneous calls
_MOST_FAULTS = 3  # calls of a hook in a row that fail, after which the run calls it no more
_MOST_OUTPUT = 100_000  # bytes of a call that the log keeps
_FLOOD, _LOOK_AT_OUTPUT_S = 100_000_000, 0.2  # bytes after which a call is killed; between looks
_MOST_JOBS = 50  # failed jobs that are listed
_NUMBERS = ("n_angles", "n_rows", "n_cols", "pixel_size_um", "time_s")  # of the inventory
# what a command reads as its `event`, of on_scan cor or volume
_EVENTS = {
    name: {"event": name.removeprefix("on_")} for name in ("on_doubtful", "on_failure", "on_end")
}
_present: "dict[Path, Hooks]" = {}  # of the run of this process, by campaign


def begin(campaign: Campaign) -> None:
    """Begin to call the hooks of a run, if there are any; once if Snakemake reads rules again."""
    if any(campaign.config.hooks.commands.values()) and not _present:
        _present[campaign.directory] = Hooks(campaign)
        _present[campaign.directory].start()


def end(status: str, failures: Sequence[JobStatus] = ()) -> None:
    """Call the hooks for what is left, and for the end of the run; wait for all calls.

    `status` is finished, unfinished (a scan needs a person), failed or stopped.
    """
    for hooks in _present.values():
        hooks.end(status, failures)


class HookError(Exception):
    """A command of a hook that failed."""


class Hooks:
    """The hooks of one run.

    Of each event, `cor` or `volume`, and scan: the result for which hooks are called (`_latest`),
    and that for which they were called without a fault (`_announced`).
    """

    def __init__(self, campaign: Campaign) -> None:
        self._campaign, self._began_s = campaign, time.time()
        self._over, self._lock = threading.Event(), threading.Lock()
        self._calls = ThreadPoolExecutor(_MOST_CALLS)
        self._faults: Counter[str] = Counter()  # calls in a row that failed, of each hook
        self._facts: dict[str, dict[str, Any]] = {}  # of each scan, as of the last CORs
        record = json_or(campaign.files.announced, {})
        self._announced = {event: dict(part(record, event)) for event in ("cor", "volume")}
        self._latest = {event: dict(each) for event, each in self._announced.items()}
        self._cors_ns, self._made = _mtime_ns(campaign.files.cor_table), self._receipts()

    def start(self) -> None:
        """Look in a thread; without a record, what there is already counts as announced."""
        if not self._campaign.files.announced.exists():
            self._facts = self._read()
            settled = json_or(self._campaign.files.cor_table, {})
            before = {  # a COR by hand is a result once a run has taken it
                scan: self._result("cor", scan)
                for scan, facts in self._facts.items()
                if scan in settled or facts["state"] != State.MANUAL
            }
            for results in (self._announced, self._latest):
                results["cor"] = dict(before)
                results["volume"] = {scan: self._result("volume", scan) for scan in self._made}
        self._save()
        atexit.register(self._save)
        threading.Thread(target=self._look_on, daemon=True).start()

    def end(self, status: str, failures: Sequence[JobStatus] = ()) -> None:
        """Announce what is new, then the end of the run; `failures` are its records.

        A stopped run may have left predictions that its tables do not have yet.
        """
        self._over.set()
        failed = {job.key: job for job in failures}
        self._campaign = replace(self._campaign, failures=self._campaign.failures | failed)
        self._guarded(lambda: self._look(at_end=status != "stopped"))
        facts = self._of_campaign | {"status": status}
        with suppress(OSError, TomopipeError):
            facts = self._summary(status)
        names = ("on_failure", "on_end") if status == "failed" else ("on_end",)
        self._calls.shutdown(cancel_futures=status == "stopped")
        for name in names:
            self._call(name, facts | _EVENTS[name])
        self._save()

    def _look_on(self) -> None:
        while not self._over.wait(_LOOK_S):
            self._guarded(self._look)

    def _guarded(self, look: Callable[[], None]) -> None:
        """Look; an error must not cost the run anything."""
        try:
            with self._lock:
                look()
            self._save()
        except Exception as error:
            self._fault("hooks", str(error))

    def _look(self, *, at_end: bool = False) -> None:
        """Announce the CORs of another table, and volumes with a new receipt; at the end, all.

        A scan that failed in an earlier run counts as failed from the end of this run on.
        """
        cors_ns, made = _mtime_ns(self._campaign.files.cor_table), self._receipts()
        volumes = made if at_end else made - self._made
        has_cors = at_end or cors_ns != self._cors_ns
        self._cors_ns, self._made = cors_ns, made
        if has_cors or any(self._has_failed(scan) for scan in volumes):
            self._facts = self._read()
            for scan in self._facts:
                if at_end or not self._has_failed(scan):
                    self._announce("cor", scan)
        for scan in sorted(volumes & self._facts.keys()):
            self._announce("volume", scan)

    def _has_failed(self, scan: str) -> bool:
        """Tell whether a scan had failed when the facts were read, or was not known."""
        return self._facts.get(scan, {}).get("state", State.FAILED) == State.FAILED

    def _receipts(self) -> set[str]:
        """Return the scans whose volume has a receipt."""
        folder = self._campaign.files.receipt("full_recon", "").parent
        with suppress(OSError):
            return {name.removesuffix(".json") for name in os.listdir(folder)}
        return set()

    def _read(self) -> dict[str, dict[str, Any]]:
        """Return the facts of all scans that have results."""
        from tomopipe.report.verdicts import present_verdicts  # loads numpy

        rows = present_inventory(self._campaign.files.inventory)
        return {
            verdict.scan: {
                "scan": verdict.scan,
                "path": os.path.abspath(self._campaign.directory / verdict.path),
                "state": str(verdict.scan_state),
                "cor_px": verdict.cor_px,
                "confidence": verdict.confidence,
                "doubtful": verdict.doubtful,
                "reason": verdict.reason,
                **_numbers(rows.get(verdict.scan, {})),
            }
            for verdict in present_verdicts(self._campaign, why_again(self._campaign)).values()
        }

    def _result(self, event: str, scan: str) -> Any:
        """Return what tells a result from the one before: the verdict, or the volume's time."""
        if event == "volume":
            return _mtime_ns(self._campaign.volume(scan))
        cor_px = self._facts[scan]["cor_px"]
        return [self._facts[scan]["state"], None if cor_px is None else round(cor_px, 2)]

    def _announce(self, event: str, scan: str) -> None:
        """Call the hooks for a result, unless they have been called for it."""
        result, volume = self._result(event, scan), self._campaign.volume(scan)
        if self._latest[event].get(scan) == result:
            return
        self._latest[event][scan] = result
        facts = {**self._of_campaign, **self._facts[scan], "event": event}
        facts["volume"] = str(volume) if volume.exists() else None
        is_doubtful = event == "cor" and facts["doubtful"]
        names = ("on_scan", "on_doubtful") if is_doubtful else ("on_scan",)

        def call() -> None:
            ended_well = [self._call(name, facts | _EVENTS.get(name, {})) for name in names]
            if all(ended_well):
                self._announced[event][scan] = result

        self._calls.submit(call)

    @property
    def _of_campaign(self) -> dict[str, Any]:
        directory = self._campaign.directory
        title = title_of(self._campaign.config, directory)
        report, now = str(self._campaign.files.report), datetime.now(UTC)
        at = now.isoformat(timespec="seconds")
        return {"campaign": title, "folder": str(directory), "report": report, "at": at}

    def _summary(self, status: str) -> dict[str, Any]:
        """Return the facts about the end of the run."""
        from tomopipe.report.collected_records import collect_failures  # loads numpy

        of_scans = self._facts or self._read()
        facts = of_scans.values()
        failures = collect_failures(self._campaign, why_again(self._campaign))
        jobs = [{"step": job.step, "name": job.key, "error": job.error} for job in failures]
        return {
            **self._of_campaign,
            "status": status,
            "wall_s": round(time.time() - self._began_s, 1),
            "scans": Counter(each["state"] for each in facts),
            "to_review": [each["scan"] for each in facts if each["doubtful"]],
            "n_volumes": len(self._made & of_scans.keys()),  # not of scans that are gone
            "failures": jobs[:_MOST_JOBS],
            "n_failures": len(jobs),
        }

    def _call(self, name: str, facts: Mapping[str, Any]) -> bool:
        """Run the command of a hook, if it has one; tell whether it ended well."""
        command = self._campaign.config.hooks.commands[name]
        if not command:
            return True
        if self._faults[name] >= _MOST_FAULTS:
            return False
        limit_s = self._campaign.config.hooks.time_limit_s
        try:
            _run(command, facts, self._campaign, limit_s)
        except (OSError, HookError) as error:
            self._faults[name] += 1
            self._fault(name, str(error) or type(error).__name__)
            return False
        self._faults[name] = 0
        return True

    def _fault(self, name: str, text: str) -> None:
        """Report the first fault of a hook, and the last."""
        n = self._faults[name]
        if n not in (0, 1, _MOST_FAULTS):
            return
        more = f" After {n} faults it is called no more in this run." if n == _MOST_FAULTS else ""
        line = f"hooks.{name}: {text.rstrip('.')}. See {LOGS.of_hooks}; the run goes on.{more}"
        progress.say(line, shown=True)

    def _save(self) -> None:
        present = {event: dict(each) for event, each in self._announced.items()}  # calls add to it
        with suppress(OSError):
            write_json(present, self._campaign.files.announced)


def _run(command: str, facts: Mapping[str, Any], campaign: Campaign, limit_s: float) -> None:
    """Run a shell command, with JSON on its standard input, its output in the log of hooks."""
    fault, log = "", campaign.directory / LOGS.of_hooks
    log.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            command,
            shell=True,
            cwd=campaign.directory,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        text, end_s = f"{json.dumps(facts)}\n".encode(), time.monotonic() + limit_s
        call = threading.Thread(target=process.communicate, args=(text,), daemon=True)
        call.start()
        while not fault:
            call.join(_LOOK_AT_OUTPUT_S)
            if not call.is_alive():
                break
            if time.monotonic() >= end_s:
                fault = f"killed after {limit_s:g} s"
            elif os.fstat(output.fileno()).st_size > _FLOOD:  # it would fill the disk
                fault = f"killed after {_FLOOD / 1e6:g} MB of output"
        if fault:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # also what the shell has started
        call.join()
        if process.returncode and not fault:
            fault = f"exit status {process.returncode}"
        output.seek(0)
        text = output.read(_MOST_OUTPUT).rstrip(b"\n")
    about = " ".join(str(facts[key]) for key in ("event", "scan") if key in facts)
    head = f"{time.strftime('%Y-%m-%d %H:%M:%S')} {about}: {fault or 'done'}\n".encode()
    with open(log, "ab", buffering=0) as stream:
        stream.write(head + (text + b"\n" if text else b""))
    if fault:
        raise HookError(fault)


def _numbers(row: Mapping[str, str]) -> dict[str, float | int | None]:
    cells = {name: number(row.get(name)) for name in _NUMBERS}
    return {
        name: int(cell) if cell and name.startswith("n_") else cell for name, cell in cells.items()
    }


def _mtime_ns(path: Path) -> int:
    """Return the time of a file or folder; 0 if there is none."""
    with suppress(OSError):
        return path.stat().st_mtime_ns
    return 0
