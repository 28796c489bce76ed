"""Jobs of SLURM: queued and running ones by squeue, ended ones by sacct; ended by scancel.

All are called with a time limit. Where they do not answer (no SLURM, no accounting, a controller
that is down) nothing is known, and they are left alone for a minute.
"""

import getpass
import math
import re
import shutil
import subprocess
import time
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import yaml

_SECONDS = 10.0
_LEFT_ALONE_S = 60.0
_CANCEL_S = 40.0  # less than `tomopipe stop` waits
_silent: dict[str, float] = {}  # paths of commands that did not answer, and when
_SHOW = ["sacctmgr", "--noheader", "--parsable2", "show"]
_LIMITS = "--format=%P|%l"
_BATCH = 500  # job numbers in one call: the length of a command is limited
#: Final states: no job runs again under the same number.
ENDED = frozenset(
    {
        *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL"),
        *("OUT_OF_MEMORY", "PREEMPTED", "TIMEOUT"),
    }
)
_HAS_ENDED = re.compile(r"job id (\d+)\S*: (?:Invalid job id|Job/step already complet)")
NOT_CANCELLED = "SLURM jobs could not be cancelled"  # a line of a run's log begins with it


def job_states(numbers: Sequence[str]) -> dict[str, str]:
    """Return states from squeue, and from sacct for jobs that it no longer knows."""
    states = _states(["squeue", "--noheader", "--states=all", "--format=%A|%T"], numbers)
    rest = [number for number in numbers if number not in states]
    sacct = ["sacct", "--noheader", "--allocations", "--parsable2", "--format=JobID,State"]
    return states | _states(sacct, rest)


def _states(command: list[str], numbers: Sequence[str]) -> dict[str, str]:
    rows = _ask_about(command, numbers, n_cells=2)
    # "CANCELLED by 1000"
    return {row[0]: row[1].split()[0] for row in rows if row[1].strip()}


def failed_on(number: str) -> str:
    """Return the node on which a job ended with an error of its own; "" if it did not."""
    squeue = ["squeue", "--noheader", "--states=all", "--format=%T|%N"]
    sacct = ["sacct", "--noheader", "--allocations", "--parsable2", "--format=State,NodeList"]
    rows = _ask_about(squeue, [number], n_cells=2) or _ask_about(sacct, [number], n_cells=2)
    return next((node for state, node in rows if state == "FAILED"), "")


def cancel(numbers: Sequence[str], *options: str) -> str:
    """Cancel jobs, those of `options` if there are none.

    Return which could not be cancelled, why, and what to type later; "" if all have ended.
    """
    if not (numbers or options):
        return ""
    try:
        done = subprocess.run(
            ["scancel", *options, *numbers],
            capture_output=True,
            text=True,
            check=False,
            timeout=_CANCEL_S,
        )
    except (OSError, subprocess.SubprocessError) as error:
        said = [str(error)]
    else:
        said = done.stderr.splitlines() if done.returncode else []
    ended = {number for line in said for number in _HAS_ENDED.findall(line)}
    left = [number for number in numbers or options if number not in ended]
    if not (said and left):
        return ""
    why = next((line for line in said if not _HAS_ENDED.search(line)), said[0])
    return f"{NOT_CANCELLED}: {why}. They may run on; end them later: scancel {' '.join(left)}"


@lru_cache(maxsize=4)
def sinfo(within_s: float | None, *options: str) -> list[list[str]]:
    """Return what sinfo says of each partition, its name first, asked once."""
    return _ask(["sinfo", "--noheader", *options], n_cells=2, within_s=within_s)


def time_limit_min(partition: str) -> int | None:
    """Return the time limit of a partition ("": the default one), minutes; None if unknown.

    Of several, with commas between them, the smallest: SLURM may refuse more.
    """
    limits_s = map(_seconds, _of_partition(sinfo(None, _LIMITS), partition))
    return min((int(limit_s // 60) for limit_s in limits_s if limit_s is not None), default=None)


def node_mb(partition: str) -> int | None:
    """Return the memory of the largest node of partitions ("": of the default one), MB."""
    cells = _of_partition(sinfo(None, "--Node", "--format=%P|%m"), partition)
    return max((int(cell) for cell in cells if cell.isdecimal()), default=None)


def _of_partition(rows: list[list[str]], partition: str) -> list[str]:
    """Return what sinfo says of partitions; the default one is marked by a star."""
    names = partition.split(",")
    return [
        cell
        for name, cell in rows
        if name.rstrip("*") in names or (not partition and name.endswith("*"))
    ]


def read_profile(path: Path) -> tuple[int, list[dict[str, str]]]:
    """Return the most submissions of a profile, and what its rules ask for; 0, [] if it is none."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        of_rules = (content.get("set-resources") or {}).values()
        resources = [content.get("default-resources") or {}, *of_rules]
        texts = [{key: str(value or "") for key, value in keys.items()} for keys in resources]
        return int(content.get("tomopipe-submissions", 100)), texts
    except (OSError, ValueError, AttributeError, TypeError, yaml.YAMLError):
        return 0, []


def unknown_names(profile: Path, *, within_s: float | None = None) -> list[str]:
    """Name what a profile asks for that SLURM does not have: partitions, the account.

    Submissions with them fail, or wait without a word. Nothing is said where SLURM does not answer.
    """
    sinfo.cache_clear()  # in a process that lives long
    _, asked = read_profile(profile)
    target = {
        key: {name for keys in asked if keys.get(key) for name in keys[key].split(",")}
        for key in ("slurm_partition", "slurm_account")
    }
    user, known = getpass.getuser(), dict[str, set[str]]()
    if target["slurm_partition"]:
        known["partition"] = {name.rstrip("*") for name, _ in sinfo(within_s, _LIMITS)}
    if target["slurm_account"]:
        command = [*_SHOW, "assoc", f"user={user}", "format=Account,User"]
        known["account"] = {name for name, _ in _ask(command, n_cells=2, within_s=within_s)}
    return [
        f"{profile}: SLURM has no {kind} {name}"
        + (f" for {user}" if kind == "account" else "")
        + f"; it has {', '.join(sorted(there))}. Change it there."
        for kind, there in known.items()
        for name in sorted(target[f"slurm_{kind}"] - there)
        if there
    ]


def submit_limit() -> int | None:
    """Return how many jobs this user, or the account, may have queued at once; None if unknown."""
    command = [
        *_SHOW,
        "assoc",
        f"user={getpass.getuser()}",
        "format=DefaultQOS,MaxSubmit,GrpSubmit",
    ]
    of_qos = [*_SHOW, "qos", "format=Name,MaxSubmitPU,MaxSubmitPA,GrpSubmit"]
    limits_of = {name: limits for name, *limits in _ask(of_qos, n_cells=4)}
    limits = [
        int(limit)
        for qos, *of_user in _ask(command, n_cells=3)
        for limit in (*of_user, *limits_of.get(qos or "normal", ()))
        if limit.isdecimal()
    ]
    return min(limits, default=None)


def _ask_about(command: list[str], numbers: Sequence[str], *, n_cells: int) -> list[list[str]]:
    batches = (numbers[first : first + _BATCH] for first in range(0, len(numbers), _BATCH))
    commands = ([*command, "--jobs", ",".join(batch)] for batch in batches)
    return [row for command in commands for row in _ask(command, n_cells=n_cells)]


def _ask(command: list[str], *, n_cells: int, within_s: float | None = None) -> list[list[str]]:
    path = shutil.which(command[0])
    if path is None or time.monotonic() - _silent.get(path, -math.inf) < _LEFT_ALONE_S:
        return []
    try:
        answer = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=within_s or _SECONDS
        )
    except (OSError, subprocess.SubprocessError):
        _silent[path] = time.monotonic()
        return []
    cells = [line.strip().split("|", n_cells - 1) for line in answer.stdout.splitlines()]
    return [row for row in cells if len(row) == n_cells]


def _seconds(text: str) -> float | None:
    """Read [days-][hours:]minutes:seconds as seconds; None for anything else, such as infinite."""
    match = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+(?:\.\d+)?)", text)
    if match is None:
        return None
    days, hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return 86400 * days + 3600 * hours + 60 * minutes + seconds
