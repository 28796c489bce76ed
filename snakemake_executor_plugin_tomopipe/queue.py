"""SLURM's queue: sbatch, sacct, squeue and scancel."""

import getpass
import re
import subprocess
from collections.abc import Sequence
from typing import Protocol

_SUBMIT_S, _ASK_S = 60.0, 30.0
_N_AT_ONCE = 500  # numbers in one call: the length of a command is limited
# the controller is busy, away or restarted; or the job may have been taken all the same
_AWAY = re.compile(
    "Socket timed out|Unable to contact|[Cc]onnection (refused|timed out|reset|failure)"
    "|[Tt]emporarily (unable|unavailable)|Zero Bytes were transmitted|Transport endpoint"
    "|Unexpected message"
)
_SUBMIT_LIMIT = re.compile(r"(Assoc|QOS)\w*Submit\w*Limit")
_LIMIT = re.compile(r"(Assoc|QOS)\w+Limit|QOS(Min|Max|Grp)\w+")
_POLICY = "Job violates accounting/QOS policy"
# answers about jobs, not failures to answer
_ANSWERS = ("Invalid job id", "accounting storage is disabled")
_SQUEUE = ["squeue", "--noheader", "--states=all"]
_QUEUED_AGAIN = ("BOOT_FAIL", "NODE_FAIL", "PREEMPTED")  # if the site, and the job, let SLURM
_SACCT = ["sacct", "--noheader", "--allocations", "--parsable2"]


class NotNowError(Exception):
    """SLURM takes no submission now, but may later."""


class NoAnswerError(Exception):
    """Neither sacct nor squeue says how jobs are."""


class Submission(Protocol):
    """The parts of a batch that its submission uses."""

    mark: str
    may_be_queued: bool


def submit(name: str, options: Sequence[str], script: str, batch: Submission) -> str:
    """Submit a script under the name of the run; return SLURM's number.

    Where an earlier call ended without an answer, the job may be in the queue: it is looked for by
    the mark in its comment first.
    """
    if batch.may_be_queued:
        try:
            named = ["--name", name, "--user", getpass.getuser(), "--format=%A %k"]
            done = _call([*_SQUEUE, *named], within_s=_ASK_S)
        except (OSError, subprocess.SubprocessError) as error:
            raise NotNowError(f"squeue: {error}") from error
        if done.returncode:
            raise NotNowError(_one_line(done.stderr))
        rows = map(str.split, done.stdout.splitlines())
        if number := next((row[0] for row in rows if batch.mark in row[1:2]), ""):
            return number
    batch.may_be_queued = True
    try:
        done = _call(["sbatch", "--parsable", *options], within_s=_SUBMIT_S, text=script)
    except subprocess.TimeoutExpired as error:
        raise NotNowError(f"sbatch gave no answer within {_SUBMIT_S:.0f} s") from error
    # sites print lines of their own
    answer = re.search(r"^(\d+)(;.*)?$", done.stdout, re.MULTILINE)
    if done.returncode == 0 and answer:
        return answer[1]
    text = _one_line(done.stderr or done.stdout)
    batch.may_be_queued = bool(_AWAY.search(text))
    if is_temporary(text):
        raise NotNowError(text)
    raise RuntimeError(text or f"sbatch ended with {done.returncode} and no message")


def is_temporary(text: str) -> bool:
    """Tell whether sbatch refused for a reason that passes: no controller, too many jobs."""
    if _AWAY.search(text) or _SUBMIT_LIMIT.search(text):
        return True
    # without a name of the limit it is, of those that it lists, most often the number of jobs
    return _POLICY in text and not _LIMIT.search(text)


def has_ended(state: str) -> bool:
    """Tell whether no job in this state runs again under its number."""
    from tomopipe.campaign.slurm import ENDED

    return state in ENDED


def states(numbers: Sequence[str], name: str) -> dict[str, str]:
    """Return the states of jobs of the run of this name; SLURM has forgotten the missing ones.

    The accounting may know an earlier job of the same number, where SLURM counts anew. One that its
    node failed has not ended if SLURM has queued it again, which squeue knows first.
    NoAnswerError if not even squeue answers, or sacct fails and squeue has forgotten a job.
    """
    found, no_answer = dict[str, str](), ""
    try:
        found = _states([*_SACCT, "--format=JobID,State", f"--name={name}"], numbers)
    except NoAnswerError as error:
        no_answer = str(error)
    ended = {number for number in found if has_ended(found[number])}
    again = {number for number in ended if found[number] in _QUEUED_AGAIN}
    rest = [number for number in numbers if number not in ended - again]
    found |= _states([*_SQUEUE, "--format=%A|%T"], rest)
    if no_answer and any(number not in found for number in numbers):
        raise NoAnswerError(no_answer)
    return found


def _states(command: Sequence[str], numbers: Sequence[str]) -> dict[str, str]:
    # "CANCELLED by 1000"
    rows = _ask(command, numbers)
    return {row[0]: row[1].split()[0] for row in rows if len(row) == 2 and row[1].strip()}


def _ask(command: Sequence[str], numbers: Sequence[str]) -> list[list[str]]:
    rows = []
    for first in range(0, len(numbers), _N_AT_ONCE):
        jobs = ",".join(numbers[first : first + _N_AT_ONCE])
        try:
            done = _call([*command, "--jobs", jobs], within_s=_ASK_S)
        except FileNotFoundError:
            return []
        except (OSError, subprocess.SubprocessError) as error:
            raise NoAnswerError(f"{command[0]}: {error}") from error
        if done.returncode and not any(answer in done.stderr for answer in _ANSWERS):
            raise NoAnswerError(f"{command[0]}: {_one_line(done.stderr)}")
        rows += [line.strip().split("|") for line in done.stdout.splitlines()]
    return rows


def cancel(numbers: Sequence[str], name: str = "") -> list[str]:
    """Cancel jobs by their numbers, and all of a run by its name; say which may run on."""
    from tomopipe.campaign import slurm

    of_run = [f"--name={name}", f"--user={getpass.getuser()}"] if name else []
    return list(filter(None, [slurm.cancel(numbers), slurm.cancel([], *of_run)]))


def _call(
    command: Sequence[str], *, within_s: float, text: str = ""
) -> "subprocess.CompletedProcess[str]":
    # in a session of its own: Ctrl-C in a terminal would reach an sbatch that is half done
    return subprocess.run(
        command,
        input=text,
        capture_output=True,
        text=True,
        check=False,
        timeout=within_s,
        start_new_session=True,
    )


def _one_line(text: str) -> str:
    """Return what a command said, in one line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    first, *more = lines or [""]
    return "; ".join([first, *(line.removeprefix("sbatch: error: ") for line in more)])
