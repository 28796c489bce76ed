"""`tomopipe run` and `tomopipe stop`."""

import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from tomopipe.campaign.files import CONFIG, LOGS, Logs
from tomopipe.cli.options import ConfigFile, Directory, DryRun, rest_of
from tomopipe.cli.terminal import Screen, near, say
from tomopipe.errors import NoRoomError, TomopipeError, room_for, write_for_a_moment
from tomopipe.run import launch
from tomopipe.run.launch import Run
from tomopipe.run.progress import Progress

_LOOK_S = 0.2
_STOP_S = 60.0
_MOST_SAID = 20
_TAIL_LINES = 25
# ours, and that of Snakemake below a screen of its options
_ERRORS = ("tomopipe: ", "__main__.py: error: ")
_GOES_ON = "what was done stays, `tomopipe run` goes on from there."


def run(
    context: typer.Context,
    directory: Directory = Path("."),
    config: ConfigFile = None,
    dry_run: DryRun = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Take scans as they come, until it is stopped.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Start although the disk is too small.")
    ] = False,
    predict: Annotated[
        list[str] | None,
        typer.Option(
            "--predict",
            metavar="SCAN",
            help="Make only sweep and prediction of this scan, also if its COR is in the campaign "
            "table; may be repeated.",
        ),
    ] = None,
) -> None:
    """Run the workflow and show its progress; Snakemake's own text goes to logs/run/.

    Uses the profile `slurm` of the campaign if `tomopipe init` wrote one. What follows `--` goes
    to Snakemake as it is. The run outlives its terminal; Ctrl-C or `tomopipe stop` end it. Exit
    status: 0 done, 1 jobs failed, 3 done but a selected scan has no COR, volume or stack; with -n
    that of `tomopipe plan`.

    Examples: `tomopipe run`, `tomopipe run mycampaign -- --cores 8`
    """
    if predict and (dry_run or watch):
        raise typer.BadParameter("--predict excludes --dry-run and --watch")
    if dry_run:
        from tomopipe.cli.plan import plan

        return plan(directory, config)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the terminal may be closed
    config_path = config.absolute() if config else None
    if watch:
        from tomopipe.watch.watch import watch as watch_campaign

        return watch_campaign(directory, config_path, rest_of(context), say)
    profile, rest = launch.chosen_profile(directory), rest_of(context)
    if predict:
        rest = [*_predictions(directory, config, predict), *rest]
    command = launch.run_command(directory, config_path, profile, rest)
    results = _results(directory, config, rest)
    if launch.is_locked(directory) and launch.unlock_killed(directory, results):
        say("The last run was killed: this one goes on from there.")
    process, started = launch.start(directory, command, force=force)
    say(f"Running {directory.name}; what Snakemake says: {near(started.log)}")
    with _heeding(directory, started) as is_stopped:
        progress = _follow(process, started, directory, is_stopped)
    raise typer.Exit(_tell_end(directory, process.wait(), started, progress, is_stopped()))


def _predictions(directory: Path, config: Path | None, scans: Sequence[str]) -> list[str]:
    """Return the predictions of scans as targets; raise for a scan that is not selected."""
    from tomopipe.campaign.campaign import (  # slow to load
        InventoryRows,
        load_campaign,
        read_inventory,
        refuse_unknown,
    )
    from tomopipe.campaign.state import why_not_selected

    campaign = load_campaign(directory, config)
    rows: InventoryRows = {}
    refuse_unknown(campaign, scans)
    with suppress(OSError, TomopipeError):  # the next run makes it
        rows = read_inventory(campaign.files.inventory)
    for scan in scans:
        if why := why_not_selected(campaign.scans[scan].select, rows.get(scan)):
            raise TomopipeError(
                f"--predict {scan}: it is not selected ({why}). `select: yes` in "
                f"{campaign.table_name} selects it."
            )
    return [campaign.outputs.prediction(scan) for scan in scans]


def _results(directory: Path, config: Path | None, rest: Sequence[str]) -> Path:
    """Return the results folder; raise if the configuration is wrong, unless `rest` changes it."""
    from tomopipe.config import read_config

    path = config or directory / CONFIG
    try:
        return directory / read_config(path).campaign.results
    except TomopipeError:
        if path.is_file() and not any(option.startswith("--config") for option in rest):
            raise
        return directory  # Snakemake will tell


@contextmanager
def _heeding(directory: Path, started: Run) -> Iterator[Callable[[], bool]]:
    """Forward Ctrl-C to the run, which has its own session; yield whether somebody stopped it."""
    received: list[int] = []  # signals: the record may lack it, on a full disk

    def is_stopped() -> bool:
        return bool(received) or (launch.read_record(directory) or started).stopped

    def stop(number: int, _: Any) -> None:
        received.append(number)
        say("\nStopping: its jobs are being ended, what is done stays.")
        launch.interrupt(directory, started, sending=signal.SIGINT)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield is_stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _follow(
    process: "subprocess.Popen[bytes]",
    started: Run,
    directory: Path,
    is_stopped: Callable[[], bool],
) -> Progress:
    """Show the progress of a run until it ends."""
    from tomopipe.cli import outcome  # noqa: F401 (what the end needs, loaded meanwhile)

    progress = Progress(started.events, Logs(directory / LOGS.folder), is_stopped)
    screen = Screen()
    while True:
        with suppress(subprocess.TimeoutExpired):
            process.wait(_LOOK_S)
        at_end = process.returncode is not None
        progress.read(at_end=at_end)
        screen.show(progress, at_end=at_end)
        if at_end:
            return progress


def _tell_end(directory: Path, status: int, started: Run, progress: Progress, stopped: bool) -> int:
    """Print the outcome of a run; return the exit status."""
    text = Path(started.log).read_text(encoding="utf-8", errors="replace")
    lines = text.splitlines()
    if stopped and not progress.facts.get("executes"):
        say("stopped before it began.")
        return 1
    if not progress.facts.get("executes"):
        # it did not begin, or did not run jobs: only Snakemake's text is shown, or our error
        first = next((n for n, line in enumerate(lines) if line.startswith(_ERRORS)), 0)
        say("\n".join(lines if status == 0 else lines[first:][-_TAIL_LINES:]))
        if status and launch.is_locked(directory):
            raise TomopipeError(launch.LOCKED)
        return int(status != 0)
    if progress.facts.get("refused"):
        say("Not started. `tomopipe run --force` starts although the disk is too small.")
        return 1
    from tomopipe.campaign.campaign import campaign_from_data
    from tomopipe.cli import outcome
    from tomopipe.run.ending import volumes_of_before

    n_done, n_all = progress.counts
    if status == 0 and not n_all:
        say("Nothing to do: every result is up to date.")
    campaign = campaign_from_data(progress.facts["campaign"], directory)
    is_whole = status in (0, 3)
    with suppress(OSError):  # the terminal was closed
        outcome.show(campaign, is_whole=is_whole)
    of_before = [] if is_whole else volumes_of_before(campaign)
    unfinished = [*progress.facts.get("unfinished", []), *of_before]
    unfinished = [f"tomopipe: {line}" for line in unfinished]
    shown = {*unfinished, *(f"tomopipe: {line}" for line in progress.facts.get("said", []))}
    ours = [line for line in lines if line.startswith("tomopipe: ") and line not in shown]
    for line in (*dict.fromkeys(ours[:_MOST_SAID]), *unfinished):
        say(line)
    if status in (0, 3):
        return 3 if unfinished else status
    steps = progress.steps.values()
    if not (stopped or any(step.n["failed"] or step.n["again"] for step in steps)):
        say("\n".join(lines[-_TAIL_LINES:]))
    _say_if_full(campaign.results)
    how = "stopped" if stopped else "killed" if status < 0 else "some jobs failed"
    say(f"{how}: {n_done} of {n_all} jobs are done; `tomopipe run` goes on from there.")
    return 1


def _say_if_full(folder: Path) -> None:
    """Name a full disk, or quota, in which jobs failed perhaps with other words."""
    with suppress(OSError):
        try:
            with room_for(folder):
                write_for_a_moment(folder)
        except NoRoomError as error:
            say(f"tomopipe: {error}")


def stop(
    directory: Directory = Path("."),
    finish: Annotated[
        bool, typer.Option("--finish", help="Let the jobs that run finish; no other begins.")
    ] = False,
    now: Annotated[
        bool, typer.Option("--now", help="Kill it, where it does not end by itself.")
    ] = False,
) -> None:
    """Stop the current run, as Ctrl-C does: its jobs end, finished results stay.

    Examples: `tomopipe stop`, `tomopipe stop mycampaign --finish`
    """
    if finish and now:
        raise typer.BadParameter("--finish and --now exclude each other")
    if (run := launch.under_way(directory)) is None:
        locked = launch.is_locked(directory)
        raise TomopipeError(
            f"{directory}: "
            + (launch.LOCKED if locked else "no run is under way that `tomopipe run` has started.")
        )
    sending = signal.SIGKILL if now else signal.SIGTERM if finish else signal.SIGINT
    before = launch.not_cancelled(run)
    typer.echo(f"Stopping the run {run}.")
    launch.interrupt(directory, run, sending=sending)
    if finish:
        typer.echo("The jobs that run finish; no other begins. `tomopipe status` shows them.")
    elif not launch.has_ended(run, within_s=_STOP_S, directory=directory):
        typer.echo("It is still ending its jobs; `tomopipe stop --now` kills it.")
    elif now:
        typer.echo(f"Killed; {_GOES_ON} On SLURM, scancel what squeue still shows.")
    else:
        typer.echo(f"Stopped; {_GOES_ON}")
    left = list(launch.not_cancelled(run) - before)
    for line in left:
        say(line)
    if left:
        raise typer.Exit(1)
