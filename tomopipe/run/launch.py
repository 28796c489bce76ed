"""Start Snakemake on a campaign, identify the current run, stop it: from a terminal or the page.

A run has its own session, so that it outlives terminal and page; `logs/under_way.json` names its
process. Snakemake's lock decides whether a run may begin.
"""

import math
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

import yaml

from tomopipe.campaign.files import CONFIG, LOGS, SNAKEMAKE
from tomopipe.campaign.job_status import CLOCKS_S
from tomopipe.campaign.slurm import NOT_CANCELLED, unknown_names
from tomopipe.campaign.watch_lock import FILES, is_watched
from tomopipe.errors import TomopipeError
from tomopipe.paths import NO_FOLDER, workflow_folder
from tomopipe.run.progress import FORCE, VARIABLE
from tomopipe.storage import run_folder
from tomopipe.storage.atomic import write_json, write_text
from tomopipe.storage.json_files import json_or
from tomopipe.storage.processes import in_folder, is_alive, is_copied, machine, named
from tomopipe.storage.shared import locked

_SNAKEFILES = ("Snakefile", "snakefile", "workflow/Snakefile", "workflow/snakefile")
_PROFILES = ("profile.yaml", "config.yaml")
# settings of the executor slurm that ours has, too, and its groups
_OF_SLURM = {
    "slurm-init-seconds-before-status-checks": "seconds-between-status-checks",
    "slurm-keep-successful-logs": "tomopipe-keep-successful-logs",
    "slurm-qos": "tomopipe-qos",
    "slurm-reservation": "tomopipe-reservation",
}
_KINDS = {
    "try_recon": "try",
    "predict_cor": "try",
    "full_recon": "volume",
    "export_stack": "stack",
}
_N_LOGS = 20  # runs whose logs are kept: a watcher's are short
_LOOK_S = 0.1
_SLURM_S = 3.0  # that a run waits for SLURM before it begins, for each of two questions
_BEGINS_S = 120  # from its lock to its folder, at most, of a run
LOCKED = (
    "the campaign is locked, by a run that was started otherwise or by one that was killed: then "
    "`tomopipe run -- --unlock`, and run again."
)
_EVENTS = ".jsonl"
_SNAKEMAKE_LOG = ".snakemake.log"
# a shell that runs this in the background makes it ignore Ctrl-C
_HEEDING = """
import os, signal, sys
signal.signal(signal.SIGHUP, signal.SIG_IGN)
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execvp(sys.argv[1], sys.argv[1:])
"""


@dataclass(frozen=True)
class Run:
    """A run: its process, its log and its file of events."""

    # of the main process of Snakemake, which leads its session
    pid: int
    host: str
    user: str
    start_s: float  # when it began, Unix seconds
    # start time of the process, to recognise a later one of the same number; "" if unknown
    born: str
    # paths of Snakemake's text, and of what `tomopipe.run.progress` reads
    log: str
    events: str
    stopped: bool = False  # whether somebody has stopped it
    machine: str = ""  # its kernel and process namespace; "" if unknown
    # where its record is: one that was copied with the campaign names no run of the copy
    folder: str = ""
    inode: int = 0

    def __str__(self) -> str:
        """Describe when, by whom and where it was started."""
        when = time.strftime("%a %H:%M", time.localtime(self.start_s))
        return f"started {when} by {self.user} on {self.host}, process {self.pid}"


def chosen_profile(directory: Path) -> str:
    """Return the profile of a campaign: slurm if `tomopipe init` wrote it, else workstation."""
    slurm = directory / "slurm"
    if any((slurm / name).is_file() for name in _PROFILES):
        return str(slurm)
    return str(workflow_folder() / "profiles" / "workstation")


def run_command(
    directory: Path, config: Path | None, profile: str, options: Sequence[str] = ()
) -> list[str]:
    """Return the command of the next run, from a campaign folder.

    `config` is its configuration, if not config.yaml. `profile` is workstation, the name of a
    user's profile, or the path of one; a `--profile` among the `options` for Snakemake takes
    precedence. A folder without a campaign is refused, and names that SLURM does not have.
    """
    if any(option.split("=")[0] == "--profile" for option in options):
        profile = ""
    for name in _PROFILES if profile == str(directory / "slurm") else ():
        if unknown := unknown_names(directory / "slurm" / name, within_s=_SLURM_S):
            raise TomopipeError(unknown[0])
        profile = _of_our_executor(directory, name) or profile
    home = workflow_folder()
    snakefiles = [path for name in _SNAKEFILES if (path := directory / name).is_file()]
    if not (snakefiles or config or (directory / CONFIG).is_file()):
        if not directory.is_dir():
            raise TomopipeError(
                f"{directory}: {NO_FOLDER} One volume: tomopipe run -- results/SCAN_rec.h5"
            )
        raise TomopipeError(
            f"no {CONFIG} in {directory} or above, so this is no campaign. Type: tomopipe init "
            "mycampaign --scans 'FOLDER/*.h5', and tomopipe run mycampaign."
        )
    snakefile = snakefiles[0] if snakefiles else home / "Snakefile"
    if profile == "workstation":
        profile = str(home / "profiles" / profile)
    return [
        *(sys.executable, "-m", "snakemake", "--logger", "tomopipe", "--snakefile", str(snakefile)),
        *(("--profile", profile) if profile else ()),
        # not last: it would take targets that follow, too
        *(("--configfile", str(config)) if config else ()),
        *("--directory", str(directory)),
        *options,
    ]


def _of_our_executor(directory: Path, name: str) -> str:
    """Copy a profile of a campaign that names the executor slurm, and name ours; return the folder.

    "" for another profile.
    """
    source, unread = directory / "slurm" / name, list[str]()
    try:
        content = yaml.safe_load(source.read_text(encoding="utf-8"))
        if content["executor"] != "slurm":
            return ""
    except (OSError, TypeError, KeyError, yaml.YAMLError):  # Snakemake says what is wrong
        return ""
    profile: dict[str, Any] = {"executor": "tomopipe", "jobs": 2000}
    profile["tomopipe-submissions"] = content.pop("jobs", 100)
    for key, value in content.items():
        if key.startswith("slurm-") and key not in _OF_SLURM:
            unread.append(key)
        elif key not in ("executor", "group-components"):
            profile[_OF_SLURM.get(key, key)] = value
    groups = content.get("group-components") or ()
    sizes = dict(text.split("=") for text in groups if "=" in text)
    asked = profile.setdefault("set-resources", {})
    for rule, kind in _KINDS.items():
        if kind in sizes:
            asked[rule] = {"batch": int(sizes[kind])} | asked.get(rule, {})
    path = directory / SNAKEMAKE / "tomopipe-slurm" / "profile.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(yaml.safe_dump(profile, sort_keys=False), path)
    left = f", without {', '.join(unread)}" if unread else ""
    print(
        f"tomopipe: {source} names executor: slurm; it is read as of executor: tomopipe{left} "
        f"({path}). tomopipe init --force writes a new one.",
        file=sys.stderr,
    )
    return str(path.parent)


def start(
    directory: Path,
    command: Sequence[str],
    *,
    force: bool = False,
    watcher: Run | None = None,
    files: str = "",
) -> tuple["subprocess.Popen[bytes]", Run]:
    """Start a run, which outlives this process and its terminal; refuse if there is one.

    It ends before any volume if the disk is too small, unless `force`. The `watcher` that starts it
    hands over its place (`claim`); `files` lists the raw files that the run sees (default: all).
    """
    with _only_run(directory, unlocks="--unlock" in command, but=watcher):
        if watcher is None and is_watched(directory):  # which is between two runs
            raise TomopipeError(
                "a run of this campaign is under way: it is watched. `tomopipe status` shows it, "
                "`tomopipe stop` ends it."
            )
        log, events = _new_logs(directory)
        environment = {VARIABLE: str(events), FORCE: "yes" if force else "", FILES: files}
        process = spawn(directory, command, log, environment)
        try:
            run = _record(directory, process.pid, log, events)
        except BaseException:  # nobody would know of it
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
    return process, run


def claim(directory: Path, since_s: float) -> Run:
    """Record this process, a watcher since then, as the current run; refuse if there is one."""
    log = directory / LOGS.of_hooks
    with _only_run(directory):
        return _record(directory, os.getpid(), log, log.with_suffix(_EVENTS), start_s=since_s)


@contextmanager
def _only_run(directory: Path, *, unlocks: bool = False, but: Run | None = None) -> Iterator[None]:
    """Hold the lock of the record of the current run; refuse another, `unlocks` if it lives."""
    record = directory / LOGS.run_record
    record.parent.mkdir(parents=True, exist_ok=True)
    with locked(record):
        if (run := under_way(directory, heeds_lock=not unlocks)) not in (None, but):
            ends = "`tomopipe stop` ends it"
            if is_alive(asdict(run)) is None:
                watched = is_watched(directory, by=run.machine)
                again = "wait 2 minutes" if watched else "`tomopipe run -- --unlock`"
                ends += f" on {run.host}; if it was killed there: {again}"
            raise TomopipeError(
                f"a run of this campaign is under way: {run}. `tomopipe status` shows it, {ends}."
            )
        yield


def _record(directory: Path, pid: int, log: Path, events: Path, **more: float) -> Run:
    record = directory / LOGS.run_record
    process = named(pid) | in_folder(record.parent) | more
    run = Run(**process, user=run_folder.user_name(), log=str(log), events=str(events))
    write_json(asdict(run), record)
    return run


def spawn(
    directory: Path, command: Sequence[str], log: Path, environment: Mapping[str, str]
) -> "subprocess.Popen[bytes]":
    """Start a command in a new session, its output in a file."""
    cache = _other_cache(directory)
    # this Python's programs first: its environment may not be active
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    with open(log, "wb") as stream:
        for folder in cache.values():
            line = f"tomopipe: {_cache()} cannot be written: Snakemake's cache is in {folder}\n"
            stream.write(line.encode())
            stream.flush()
        return subprocess.Popen(
            [sys.executable, "-c", _HEEDING, *command],
            cwd=directory,
            env=os.environ | {"PATH": path, **cache, **environment},
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _cache() -> Path:
    """Return the folder in which Snakemake, which ends without one, has its cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))


def _other_cache(directory: Path) -> dict[str, str]:
    """Return the variable of a cache in the campaign if the user's cannot be written, else {}."""
    with suppress(OSError):
        (folder := _cache() / "snakemake").mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK | os.X_OK):
            return {}
    return {"XDG_CACHE_HOME": str(directory.absolute() / SNAKEMAKE / "cache")}


def _new_logs(directory: Path) -> tuple[Path, Path]:
    """Make the log of a new run, with a new name; remove those of old runs."""
    folder = directory / LOGS.of_runs
    folder.mkdir(exist_ok=True)
    for old in sorted(folder.glob("*.log"))[: 1 - _N_LOGS]:
        old.unlink()
        old.with_suffix(_EVENTS).unlink(missing_ok=True)
    stamp = time.strftime("%Y%m%d-%H%M%S")
    names = (f"{stamp}{f'-{n}' if n else ''}.log" for n in count())
    log = next(folder / name for name in names if not (folder / name).exists())
    return log, log.with_suffix(_EVENTS)


def under_way(directory: Path, *, heeds_lock: bool = True) -> Run | None:
    """Return the run that was started by `start` and has not ended; None if there is none.

    One that may live counts while a watcher renews its lock, or Snakemake's lock exists.
    """
    run = read_record(directory)
    alive = is_alive(asdict(run)) if run else False
    if alive is None:
        is_watcher = run is not None and is_watched(directory, by=run.machine)
        alive = is_watcher or (heeds_lock and is_locked(directory))
    return run if alive else None


def read_record(directory: Path) -> Run | None:
    """Return the last run of this folder that was started by `start`."""
    record = directory / LOGS.run_record
    try:
        run = Run(**json_or(record, {}))
    except TypeError:  # none, or of another version
        return None
    return None if is_copied(asdict(run), record.parent) else run


def unlock(directory: Path) -> None:
    """Remove Snakemake's lock of a run that has ended."""
    for lock in _locks(directory):
        lock.unlink(missing_ok=True)


def unlock_killed(directory: Path, results: Path) -> bool:
    """Remove the lock of a run that was killed here, or copied; tell whether there was one."""
    if found := is_killed(directory, results):
        unlock(directory)
    return found


def is_killed(directory: Path, results: Path) -> bool:
    """Tell whether the run that has locked the campaign was killed here, or copied with it."""
    if not (locks := _locks(directory)):
        return False
    locked_s = max(lock.stat().st_mtime for lock in locks)
    if copied_s := run_folder.copied_s(results):
        run = read_record(directory)  # which locks before it makes its folder
        if run is None and _last_began_s(directory) < copied_s - CLOCKS_S:
            return True  # a lock's own time may be that of the copying
        return locked_s < (run.start_s if run else time.time() - _BEGINS_S)
    # Snakemake locks before a run makes its folder: a younger lock is that of another run
    return run_folder.killed_here(results, locked_s)


def _last_began_s(directory: Path) -> float:
    """Return when the last run of Snakemake began, by the names of its logs; inf: not known."""
    logs = (directory / SNAKEMAKE / "log").glob(f"*{_SNAKEMAKE_LOG}")
    names = [log.name.removesuffix(_SNAKEMAKE_LOG) for log in logs]
    try:
        return max(datetime.fromisoformat(name).timestamp() for name in names)
    except ValueError:
        return math.inf


def is_locked(directory: Path) -> bool:
    """Tell whether Snakemake has locked the campaign: a run is under way, or one was killed."""
    return bool(_locks(directory))


def _locks(directory: Path) -> list[Path]:
    return list((directory / SNAKEMAKE / "locks").glob("*.lock"))


def interrupt(directory: Path, run: Run, *, sending: signal.Signals) -> None:
    """Stop a run: SIGINT ends its jobs, too, SIGTERM lets them finish, SIGKILL kills it.

    One on another machine, or of another user, is refused.
    """
    if run.machine != machine():
        raise TomopipeError(
            f"the run is on another machine, or in another container: {run}. Type `tomopipe stop` "
            "there."
        )
    try:
        os.kill(run.pid, 0)  # one that is refused has not been stopped
        with suppress(OSError):  # it ends, recorded or not
            _record_stop(run, directory / LOGS.run_record)
        if sending is signal.SIGTERM or os.getpgid(run.pid) != run.pid:
            os.kill(run.pid, sending)  # not its jobs
        else:
            os.killpg(run.pid, sending)
    except PermissionError:
        raise TomopipeError(f"the run is not yours: {run}. Ask them to stop it.") from None
    except ProcessLookupError:
        pass  # it has just ended


def _record_stop(run: Run, record: Path) -> None:
    try:
        write_json(asdict(replace(run, stopped=True)), record)
    except OSError:  # no room for another file: in place
        text = record.read_bytes().replace(b'"stopped": false', b'"stopped": true ')
        with open(record, "r+b") as stream:
            stream.write(text)


def not_cancelled(run: Run) -> Counter[str]:
    """Return what a run has said so far of SLURM jobs that it could not cancel, and how often."""
    lines = []
    with suppress(OSError):
        lines = Path(run.log).read_text(encoding="utf-8", errors="replace").splitlines()
    return Counter(line for line in lines if line.startswith(f"tomopipe: {NOT_CANCELLED}"))


def has_ended(run: Run, *, within_s: float, directory: Path | None = None) -> bool:
    """Wait for a run, and for the watcher of `directory`; tell whether they have ended."""
    end = time.monotonic() + within_s
    while is_alive(asdict(run)) or (directory and is_watched(directory, by=run.machine)):
        if time.monotonic() > end:
            return False
        time.sleep(_LOOK_S)
    return True
