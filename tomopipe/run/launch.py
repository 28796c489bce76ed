"""Start and stop Snakemake on a campaign.

A run has its own session, so that it outlives the terminal. The lock of the campaign
(`tomopipe.storage.lock`) names its process and decides whether another one may begin.
"""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from tomopipe.campaign.files import CONFIG, LOGS, SNAKEMAKE
from tomopipe.campaign.slurm import unknown_names
from tomopipe.errors import TomopipeError
from tomopipe.paths import no_pipe, workflow_folder
from tomopipe.resources.gpus import gpu_count
from tomopipe.run import progress
from tomopipe.run.command_line import PROFILES, RESOURCES, executes, has_option, read_profile
from tomopipe.run.progress import FORCE, VARIABLE
from tomopipe.storage import lock
from tomopipe.storage.lock import FILES, Run
from tomopipe.storage.processes import is_alive, machine, named, user_name

_SNAKEFILES = ("Snakefile", "snakefile", "workflow/Snakefile", "workflow/snakefile")
_N_LOGS = 20  # runs whose logs are kept: a watcher's are short
_LOOK_S = 0.1
_SLURM_S = 3.0  # time limit of each of two queries of SLURM before a run
_EVENTS = ".jsonl"
# resets the signals: a shell that runs this in the background makes it ignore Ctrl-C
_WITH_SIGNALS = """
import os, signal, sys
signal.signal(signal.SIGHUP, signal.SIG_IGN)
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execvp(sys.argv[1], sys.argv[1:])
"""
# lines of Snakemake's log if a person ended the run: then no scan has failed
_ENDED_BY_HAND = re.compile("Terminating processes on user request|Will exit after finishing")


def snakefile(directory: Path, config: Path | None) -> Path:
    """Return the Snakefile of a campaign's runs; TomopipeError if the folder is no campaign.

    `config` is its configuration, if not config.yaml.
    """
    paths = [path for name in _SNAKEFILES if (path := directory / name).is_file()]
    if not (directory.is_dir() and (paths or config or (directory / CONFIG).is_file())):
        from tomopipe.config.parse import read_document  # slow to load

        read_document(directory / CONFIG)  # raises, as it is missing
    return paths[0] if paths else workflow_folder() / "Snakefile"


def chosen_profile(directory: Path) -> str:
    """Return the profile of a campaign: slurm if `tomopipe init` wrote it, else workstation."""
    slurm = directory / "slurm"
    if any((slurm / name).is_file() for name in PROFILES):
        return str(slurm)
    return str(workflow_folder() / "profiles" / "workstation")


def run_command(
    directory: Path, config: Path | None, profile: str, options: Sequence[str] = ()
) -> list[str]:
    """Return the command of the next run, from a campaign folder.

    `config` is its configuration, if not config.yaml. `profile` is workstation, the name of a
    user's profile, or the path of one; a `--profile` among the `options` for Snakemake takes
    precedence. TomopipeError for a folder without a campaign, or a profile with names that SLURM
    does not know.
    """
    _refuse_dots(options)
    if has_option(["--profile"], ["snakemake", *options]):
        profile = ""
    if profile == str(directory / "slurm"):
        for name in PROFILES:
            if unknown := unknown_names(directory / "slurm" / name, within_s=_SLURM_S):
                raise TomopipeError(unknown[0])
        read_profile(profile)  # raises, if it cannot be read
    workstation = str(workflow_folder() / "profiles" / "workstation")
    profile = workstation if profile == "workstation" else profile
    counts_gpus = profile == workstation and not has_option(RESOURCES, ["snakemake", *options])
    return [
        *(sys.executable, "-m", "snakemake", "--logger", "tomopipe", "--nolock"),
        *("--snakefile", str(snakefile(directory, config))),
        *(("--profile", profile) if profile else ()),
        # not last: it would take targets that follow, too
        *(("--configfile", str(config)) if config else ()),
        *(("--resources", f"gpu={max(1, gpu_count())}") if counts_gpus else ()),
        *("--directory", str(directory)),
        *options,
    ]


def _refuse_dots(options: Sequence[str]) -> None:
    """Raise for `--config a.b=1`, of which Snakemake shows a traceback."""
    name = ""
    for option in options:
        name, _, text = option.partition("=") if option.startswith("-") else (name, "", option)
        block, dot, key = text.partition("=")[0].partition(".")
        if name in ("--config", "-C") and dot:
            raise TomopipeError(
                f"--config {text}: Snakemake sets no key inside a block. Write it into {CONFIG}, "
                f"as {block}: {{{key}: {text.partition('=')[2]}}}"
            )


def start(
    directory: Path,
    command: Sequence[str],
    *,
    force: bool = False,
    take_over: bool = False,
    watcher: Run | None = None,
    files: str = "",
) -> tuple["subprocess.Popen[bytes]", Run]:
    """Start a run, which outlives this process and its terminal; refuse while one is in progress.

    It ends before any volume if the disk is too small, unless `force`. `take_over` is as in
    `lock.take`; a `watcher` that starts a run hands the lock over to it. `files` is the JSON file
    with the raw files that the run sees (default: all). A command without jobs takes no lock.
    """
    (directory / LOGS.of_runs).mkdir(parents=True, exist_ok=True)
    of_watcher = {name: getattr(watcher, name) for name in ("watcher", "before") if watcher}
    run = lock.new_run(directory, **of_watcher)
    log = directory / LOGS.of_runs / f"{run.id}.log"
    run = replace(run, log=str(log), events=str(log.with_suffix(_EVENTS)))
    runs_jobs = executes(command)
    if watcher:
        lock.hand_over(directory, watcher, run)
    elif runs_jobs:
        run = lock.take(directory, run, take_over=take_over)
    process = None
    try:
        # not beside a run under way, as a dry run may be
        for old in sorted(log.parent.glob("*.log"))[: 1 - _N_LOGS] if runs_jobs else ():
            old.unlink()
            old.with_suffix(_EVENTS).unlink(missing_ok=True)
        variables = {VARIABLE: run.events, FORCE: "yes" if force else "", FILES: files}
        process = spawn(directory, command, log, variables | {lock.VARIABLE: run.id})
        mine, run = run, replace(run, **named(process.pid))
        if runs_jobs:
            lock.hand_over(directory, mine, run)
    except BaseException:  # do not leave a run that nobody knows of
        if process:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if watcher:
            lock.hand_over(directory, run, watcher)
        lock.release(directory, run)
        raise
    return process, run


def spawn(
    directory: Path, command: Sequence[str], log: Path, environment: Mapping[str, str]
) -> "subprocess.Popen[bytes]":
    """Start a command in a new session, its output in a file."""
    # this Python's programs first: its environment may not be active
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    with open(log, "wb") as stream:
        return subprocess.Popen(
            [sys.executable, "-c", _WITH_SIGNALS, *command],
            cwd=directory,
            env=os.environ | {"PATH": path, **_other_cache(directory), **environment},
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _other_cache(directory: Path) -> dict[str, str]:
    """Return the variable of a cache in the campaign if the user's cannot be written, else {}.

    Snakemake ends without one.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
    with suppress(OSError):
        (folder := cache / "snakemake").mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK | os.X_OK):
            return {}
    return {"XDG_CACHE_HOME": str(directory.absolute() / SNAKEMAKE / "cache")}


def interrupt(run: Run, *, sending: signal.Signals) -> None:
    """Stop a run: SIGINT ends its jobs, too, SIGTERM lets them finish, SIGKILL kills it.

    One on another machine, or of another user, is refused.
    """
    if run.machine != machine():
        raise TomopipeError(
            f"the run is on another machine, or in another container: {run}. Type tomopipe stop "
            "there."
        )
    watcher = run.watcher.get("pid", 0)
    is_other = watcher not in (0, run.pid, os.getpid()) and bool(is_alive(run.watcher))
    try:
        if is_other and sending is not signal.SIGKILL:
            os.kill(watcher, sending)  # it ends its run, also the next, if this one has just ended
            return
        os.kill(run.pid, 0)  # raises before anything is recorded
        with suppress(OSError):  # stop it even if that cannot be recorded
            if run.events:
                by = {"user": user_name(), "at_s": time.time()}
                progress.write(Path(run.events), stopped=by)
        if sending is signal.SIGTERM or os.getpgid(run.pid) != run.pid:
            os.kill(run.pid, sending)  # not its jobs
        else:
            os.killpg(run.pid, sending)
    except PermissionError:
        raise TomopipeError(f"the run is not yours: {run}. Ask its user to stop it.") from None
    except ProcessLookupError:
        pass  # it has just ended


def in_thread(handler: Callable[..., Any]) -> Callable[..., None]:
    """Return a handler of a signal that lets another thread do what `handler` does.

    Snakemake's needs a lock that the main thread, where signals arrive, may hold: it would wait for
    ever.
    """
    return lambda *given: threading.Thread(target=handler, args=given).start()


def own_lines(run: Run) -> list[str]:
    """Return our own lines in the log of a run."""
    return [line for line in _text_of(run.log).splitlines() if line.startswith(progress.PREFIX)]


def ended_by_hand(logs: Iterable[str]) -> bool:
    """Tell from Snakemake's logs whether a person stopped the run."""
    return any(_ENDED_BY_HAND.search(_text_of(log)) for log in logs)


def _text_of(log: str) -> str:
    with suppress(OSError):
        return Path(no_pipe(log)).read_text(encoding="utf-8", errors="replace")
    return ""


def has_ended(run: Run, *, within_s: float) -> bool:
    """Wait for a run, and for its watcher if it has one; tell whether they have ended."""
    end = time.monotonic() + within_s
    while is_alive(asdict(run)) or (run.watcher and is_alive(run.watcher)):
        if time.monotonic() > end:
            return False
        time.sleep(_LOOK_S)
    return True
