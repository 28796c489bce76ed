"""Stop the run that is under way, as Ctrl-C does: its jobs end, finished results stay."""

import signal
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from tomopipe.campaign.slurm import NOT_CANCELLED
from tomopipe.errors import TomopipeError
from tomopipe.run import launch
from tomopipe.run.progress import PREFIX
from tomopipe.storage import lock
from tomopipe.storage.lock import Run

_STOP_S = 60.0


class StoppedRun(NamedTuple):
    """What became of a run."""

    has_ended: bool
    not_cancelled: list[str]  # new messages about SLURM jobs that it could not cancel


def run_under_way(directory: Path) -> Run:
    """Return the run of a campaign; TomopipeError if there is none, or no campaign."""
    run = lock.under_way(directory)
    if run is None:
        from tomopipe.campaign.campaign import load_campaign  # slow to load

        load_campaign(directory, needs_raw=False)  # raises if this is no campaign
        raise TomopipeError(f"{directory}: no run is under way.")
    return run


def stop_run(run: Run, *, finish: bool = False, now: bool = False) -> StoppedRun:
    """Stop a run and wait for its end; `finish`: let its jobs finish, do not wait; `now`: kill."""
    sending = signal.SIGKILL if now else signal.SIGTERM if finish else signal.SIGINT
    before = _not_cancelled(run)
    launch.interrupt(run, sending=sending)
    has_ended = not finish and launch.has_ended(run, within_s=_STOP_S)
    return StoppedRun(has_ended, list(_not_cancelled(run) - before))


def _not_cancelled(run: Run) -> Counter[str]:
    """Count the messages of a run so far about SLURM jobs that it could not cancel."""
    return Counter(
        line for line in launch.own_lines(run) if line.startswith(f"{PREFIX}{NOT_CANCELLED}")
    )
