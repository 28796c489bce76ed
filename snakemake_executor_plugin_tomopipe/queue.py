"""Submissions to SLURM's queue, sent again where SLURM takes none now."""

import os
import re
import subprocess
from collections.abc import Sequence

from snakemake_executor_plugin_tomopipe.batches import Batch
from tomopipe.campaign import slurm

_SUBMIT_S, _ASK_S = 60.0, 30.0
# the controller is busy, away or restarted; or the job may have been taken all the same
_AWAY = re.compile(
    "Socket timed out|Unable to contact|[Cc]onnection (refused|timed out|reset|failure)"
    "|[Tt]emporarily (unable|unavailable)|Zero Bytes were transmitted|Transport endpoint"
    "|Unexpected message"
)
_SUBMIT_LIMIT = re.compile(r"(Assoc|QOS)\w*Submit\w*Limit")
_LIMIT = re.compile(r"(Assoc|QOS)\w+Limit|QOS(Min|Max|Grp)\w+")
_POLICY = "Job violates accounting/QOS policy"
# sites print lines of their own, or have an sbatch that knows no --parsable
_ANSWER = re.compile(
    r"^(?:Submitted batch job )?(\d+)(?:(?:;| on cluster )(\S+))?\s*$", re.MULTILINE
)
_SQUEUE = ["squeue", "--noheader", "--states=all", "--format=%A %k"]


class TemporaryRefusalError(Exception):
    """SLURM takes no submission now, but may later."""


def submit(name: str, options: Sequence[str], script: str, batch: Batch) -> str:
    """Submit a script under the name of the run; return SLURM's number.

    Where an earlier call ended without an answer, the job may be in the queue: it is looked for by
    the mark in its comment first.
    """
    if batch.may_be_queued and (number := _queued(name, batch)):
        return number
    batch.may_be_queued = True
    try:
        done = slurm.call(["sbatch", "--parsable", *options], within_s=_SUBMIT_S, text=script)
    except subprocess.TimeoutExpired as error:
        raise TemporaryRefusalError(f"sbatch gave no answer within {_SUBMIT_S:.0f} s") from error
    if done.returncode == 0:
        if answer := _ANSWER.search(done.stdout):
            batch.cluster = answer[2] or ""
            return answer[1]
        if number := _queued(name, batch):
            return number
    text = slurm.one_line(done.stderr or done.stdout)
    if done.returncode == 0:
        text = f"sbatch gave no job number, and the job is not in the queue: {text}".rstrip(": ")
    batch.may_be_queued = bool(_AWAY.search(text))
    if is_temporary(text):
        raise TemporaryRefusalError(text)
    raise RuntimeError(text or f"sbatch ended with {done.returncode} and no message")


def _queued(name: str, batch: Batch) -> str:
    """Return the number of a batch that is in the queue already; "" if it is not."""
    named = ["--name", name, "--user", str(os.getuid())]
    try:
        done = slurm.call([*_SQUEUE, *named], within_s=_ASK_S)
    except (OSError, subprocess.SubprocessError) as error:
        raise TemporaryRefusalError(f"squeue: {error}") from error
    if done.returncode:
        raise TemporaryRefusalError(slurm.one_line(done.stderr))
    rows = map(str.split, done.stdout.splitlines())
    return next((row[0] for row in rows if batch.mark in row[1:2]), "")


def is_temporary(text: str) -> bool:
    """Tell whether sbatch refused for a reason that passes: no controller, too many jobs."""
    if _AWAY.search(text) or _SUBMIT_LIMIT.search(text):
        return True
    # without a name of the limit it is, of those that it lists, most often the number of jobs
    return _POLICY in text and not _LIMIT.search(text)
