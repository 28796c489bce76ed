"""SLURM: states of jobs (sacct, squeue), cancelling (scancel), partitions (sinfo), accounts.

All commands are called with a time limit.
"""

import os
import re
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import yaml

from tomopipe.paths import no_pipe
from tomopipe.storage.processes import user_name

_NO_NODE = "None assigned"  # of sacct
_SECONDS = 10.0  # time limit of calls for people
_ASK_S = 30.0  # time limit of calls about jobs
_CANCEL_S = 40.0  # less than `tomopipe stop` waits
_SHOW = ["sacctmgr", "--noheader", "--parsable2", "show"]
_SQUEUE = ["squeue", "--noheader", "--states=all", "--format=%A|%T %r||%N"]
_SQUEUE_AT_WORK = ["squeue", "--noheader", "--format=%A|%T"]
_SQUEUE_AT_WORK += ["--states=RUNNING,CONFIGURING,SUSPENDED"]
_SACCT = ["sacct", "--noheader", "--allocations", "--parsable2"]
_SACCT += ["--format=JobID,State,ExitCode,NodeList"]
_LIMITS = "--format=%P|%l"
_BATCH = 500  # job numbers in one call: the length of a command is limited
#: Final states: no job runs again under the same number.
ENDED = frozenset(
    {
        *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL"),
        *("OUT_OF_MEMORY", "PREEMPTED", "TIMEOUT"),
    }
)
_QUEUED_AGAIN = {"BOOT_FAIL", "NODE_FAIL", "PREEMPTED"}  # if site and job allow requeueing
# with reasons that do not pass by themselves
_STAYS_QUEUED = re.compile(
    r"(PENDING|SPECIAL_EXIT|\w+_HOLD) .*([Hh]eld|JobHold|BadConstraints|Invalid|NotAllowed"
    "|NeverSatisfied|Partition(Down|Inactive|TimeLimit|NodeLimit))"
)
# errors that are answers about jobs
_ANSWERS = ("Invalid job id", "accounting storage is disabled")
_HAS_ENDED = re.compile(r"job id (\d+)\S*: (?:Invalid job id|Job/step already complet)")
# a user's filters and formats; of a job within which a run was started, all but what finds SLURM
_OF_USER = ("SQUEUE_", "SACCT_", "SINFO_", "SCANCEL_")
_OF_SITE = {"SLURM_CONF", "SLURM_CLUSTERS", "SLURM_JWT"}
# lines of SLURM's log: what ended a process; why none of ours began
_KILLED = re.compile(
    "exceeded .*memory limit|oom.kill|out of memory|DUE TO .*|(?:died with <Signals[.])(SIG[A-Z]+)"
    "|segmentation fault|bus error|illegal instruction",
    re.IGNORECASE,
)
_NOT_BEGUN = re.compile(
    "not found|no module named|no such file|cannot open shared object|permission denied"
    "|ImportError|cannot execute|Stale file handle|Input/output error"
)
_BEFORE = re.compile(r"^(slurmstepd\S*: (error: )?|\S*slurm_script: (line )?(\d+: )?)+")
_DIED = "a process died with"
_MOST_LINE = 200  # characters of a line of a log
NOT_CANCELLED = "SLURM jobs could not be cancelled"  # a line of a run's log begins with it


class NoAnswerError(Exception):
    """SLURM did not answer."""


class JobState(NamedTuple):
    """State of a job in SLURM."""

    state: str = ""
    why_stays: str = ""  # in the queue until somebody acts
    exit_code: str = ""  # status and signal, 0:9
    node: str = ""

    @property
    def signal_name(self) -> str:
        """The signal that ended it, SIGKILL; "" if none did."""
        number = self.exit_code.partition(":")[2]
        with suppress(ValueError):
            return signal.Signals(int(number or 0)).name
        return ""

    def described(self, log: str, *, has_begun: bool) -> str:
        """Return what SLURM knows of its end: state, exit code, node, and a line of its log."""
        is_plain = self.exit_code in ("", "0:0", "1:0")  # Snakemake's, of a job that failed
        code = "" if is_plain else f"exit code {self.exit_code}"
        code += f" ({self.signal_name})" * bool(self.signal_name)
        state = (self.state or "no longer known") + f" on {self.node}" * bool(self.node)
        line = _line_in(log, has_begun=has_begun)
        if self.state == "CANCELLED" and line.startswith(_DIED):  # of what cancelled it
            line = ""
        return ", ".join(filter(None, [state, code, line]))


def call(
    command: Sequence[str], *, within_s: float, text: str = ""
) -> "subprocess.CompletedProcess[str]":
    """Call a command of SLURM; OSError or SubprocessError if it cannot answer.

    Variables that would filter the answer, or are of the job around this process, are left out.
    """
    left_out = (*_OF_USER, *(["SLURM_"] if "SLURM_JOB_ID" in os.environ else []))
    # in a session of its own, so that Ctrl-C does not interrupt an sbatch
    return subprocess.run(
        command,
        input=text,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        timeout=within_s,
        start_new_session=True,
        env={
            name: value
            for name, value in os.environ.items()
            if name in _OF_SITE or not name.startswith(left_out)
        },
    )


def one_line(text: str) -> str:
    """Return the message of a command as one line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    first, *more = lines or [""]
    return "; ".join([first, *(line.removeprefix("sbatch: error: ") for line in more)])


def states(numbers: Sequence[str], name: str, *options: str) -> dict[str, JobState]:
    """Return the states of jobs with this name; SLURM does not know the missing ones any more.

    `options` name another cluster. The name is needed as the accounting may have an earlier job of
    the same number. A job whose node failed has not ended if SLURM requeued it, which squeue shows
    first. Raises NoAnswerError if squeue does not answer, or if sacct fails and squeue does not
    know a job any more.
    """
    result, no_answer = dict[str, JobState](), ""
    try:
        result = _states([*_SACCT, f"--name={name}", *options], numbers)
    except NoAnswerError as error:
        no_answer = str(error)
    ended = {number for number, job in result.items() if job.state in ENDED - _QUEUED_AGAIN}
    result |= _states([*_SQUEUE, *options], [number for number in numbers if number not in ended])
    if no_answer and any(number not in result for number in numbers):
        raise NoAnswerError(no_answer)
    return result


def _states(command: list[str], numbers: Sequence[str]) -> dict[str, JobState]:
    rows = []
    for first in range(0, len(numbers), _BATCH):
        jobs = ",".join(numbers[first : first + _BATCH])
        rows += _ask([*command, "--jobs", jobs], _ASK_S)
    result = {}
    for number, text in rows:  # "CANCELLED by 1000", "PENDING JobHeldUser"
        status, exit_code, nodes, *_ = [*text.strip().split("|"), "", ""]
        state, _, reason = status.partition(" ")
        reason = reason if _STAYS_QUEUED.match(status) else ""
        result[number] = JobState(state, reason, exit_code, "" if nodes == _NO_NODE else nodes)
    return result


def _line_in(log: str, *, has_begun: bool) -> str:
    """Return the line of SLURM's log that says what happened; "" if none does."""
    for line in reversed(log.splitlines()):
        if killed := _KILLED.search(line):
            if killed[1]:
                return f"{_DIED} {killed[1]}"
        elif has_begun or not _NOT_BEGUN.search(line):
            continue
        return f"log: {_BEFORE.sub('', line.strip())[:_MOST_LINE]}"
    return ""


def running(*options: str) -> set[str]:
    """Return the numbers of the jobs that `options` select, without those that wait or end."""
    rows = _ask([*_SQUEUE_AT_WORK, *options], _ASK_S)
    return {number for number, _ in rows}


def _ask(command: list[str], within_s: float) -> list[list[str]]:
    """Return the rows of two cells that a command prints; none without SLURM."""
    try:
        done = call(command, within_s=within_s)
    except FileNotFoundError:
        return []
    except (OSError, subprocess.SubprocessError) as error:
        raise NoAnswerError(f"{command[0]}: {error}") from error
    if done.returncode and not any(answer in done.stderr for answer in _ANSWERS):
        raise NoAnswerError(f"{command[0]}: {one_line(done.stderr)}")
    rows = [line.strip().split("|", 1) for line in done.stdout.splitlines()]
    return [row for row in rows if len(row) == 2]


def cancel(numbers: Sequence[str], *options: str) -> str:
    """Cancel jobs; without numbers all that `options` select.

    Returns a line with the jobs that could not be cancelled, the reason, and what to type later; ""
    if all have ended.
    """
    if not (numbers or options):
        return ""
    try:
        done = call(["scancel", *options, *numbers], within_s=_CANCEL_S)
    except (OSError, subprocess.SubprocessError) as error:
        lines = [str(error)]
    else:
        lines = done.stderr.splitlines() if done.returncode else []
    ended = {number for line in lines for number in _HAS_ENDED.findall(line)}
    left = [number for number in numbers if number not in ended]
    if not lines or (numbers and not left):
        return ""
    why = next((line for line in lines if not _HAS_ENDED.search(line)), lines[0])
    command = " ".join(["scancel", *options, *left])
    return f"{NOT_CANCELLED}: {why}. They may still run; end them later: {command}"


@lru_cache(maxsize=4)
def sinfo(within_s: float | None, *options: str) -> list[list[str]]:
    """Return the rows of sinfo, partition name first, called once; [] without an answer."""
    return _rows(["sinfo", "--noheader", *options], within_s)


def _rows(command: list[str], within_s: float | None) -> list[list[str]]:
    try:
        return _ask(command, within_s or _SECONDS)
    except NoAnswerError:
        return []


def time_limit_min(partition: str) -> int | None:
    """Return the time limit of a partition ("": the default one), minutes; None if unknown.

    The smallest of several, separated by commas: SLURM may refuse more.
    """
    limits_s = map(_seconds, _of_partition(sinfo(None, _LIMITS), partition))
    return min((int(limit_s // 60) for limit_s in limits_s if limit_s is not None), default=None)


def node_mb(partition: str) -> int | None:
    """Return the memory of the largest node of partitions ("": the default one), MB; or None."""
    cells = _of_partition(sinfo(None, "--Node", "--format=%P|%m"), partition)
    return max((int(cell) for cell in cells if cell.isdecimal()), default=None)


def _of_partition(rows: list[list[str]], partition: str) -> list[str]:
    """Return the rows of sinfo for partitions; the default one is marked by a star."""
    names = partition.split(",")
    return [
        cell
        for name, cell in rows
        if name.rstrip("*") in names or (not partition and name.endswith("*"))
    ]


def _requested(profile: Path, resource: str) -> set[str]:
    """Return the values of a resource in a profile; none if the file is not a profile."""
    try:
        content = yaml.safe_load(no_pipe(profile).read_text(encoding="utf-8"))
        of_rules = (content.get("set-resources") or {}).values()
        resources = [content.get("default-resources") or {}, *of_rules]
        cells = [str(keys.get(resource) or "") for keys in resources]
    except (OSError, ValueError, AttributeError, TypeError, yaml.YAMLError):
        return set()
    return {name for cell in cells for name in cell.split(",") if name}


def unknown_names(profile: Path, *, within_s: float | None = None) -> list[str]:
    """Describe partitions and accounts of a profile that SLURM does not have.

    Submissions with them fail, or wait forever. Without an answer of SLURM nothing is reported.
    """
    sinfo.cache_clear()  # for long-lived processes
    user, lines = user_name(), list[str]()
    accounts = [*_SHOW, "assoc", f"user={user}", "format=Account,User"]
    for kind, whose in (("partition", ""), ("account", f" for {user}")):
        if not (names := _requested(profile, f"slurm_{kind}")):
            continue
        rows = sinfo(within_s, _LIMITS) if kind == "partition" else _rows(accounts, within_s)
        present = {name.rstrip("*") for name, _ in rows}
        lines += [
            f"{profile}: SLURM has no {kind} {name}{whose}; it has {', '.join(sorted(present))}. "
            "Correct it."
            for name in sorted(names - present if present else ())
        ]
    return lines


def _seconds(text: str) -> float | None:
    """Read [days-][hours:]minutes:seconds as seconds; None for anything else, such as infinite."""
    match = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+(?:\.\d+)?)", text)
    if match is None:
        return None
    days, hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return 86400 * days + 3600 * hours + 60 * minutes + seconds
