"""`tomopipe run` and `tomopipe stop`."""

import re
import signal
import subprocess
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from tomopipe.campaign.files import CONFIG, LOGS, TABLE, Logs
from tomopipe.cli.options import (
    CampaignOption,
    ConfigFile,
    Directory,
    DryRun,
    VolumesOf,
    campaign_and_scans,
    rest_of,
)
from tomopipe.cli.terminal import MOST_ROWS, Screen, near, print_left_out, say
from tomopipe.commands.stop import run_under_way, stop_run
from tomopipe.errors import full_disk, scan_word, scans_named
from tomopipe.paths import no_pipe
from tomopipe.run import command_line, launch
from tomopipe.run.progress import Progress, write
from tomopipe.storage import lock
from tomopipe.storage.lock import Run

_LOOK_S = 0.2
_PAUSE_S = 2.0  # by then Snakemake has said whether what failed is tried again
_MOST_LINES = 20
_INTERRUPTED = 128 + signal.SIGINT  # as shells have it
_TAIL_LINES = 25
_AFTER_HEADER = "Building DAG of jobs..."  # of Snakemake, below its versions and paths
# our errors, and Snakemake's, which follows its usage text
_ERRORS = ("tomopipe: ", "__main__.py: error: ", "Error: ")
_TRACEBACK = "Traceback (most recent call last):"
_NO_RULE = re.compile(r"No rule to produce (.+?)(?: \(|$)", re.MULTILINE)
_GOES_ON = "what was done stays, `tomopipe run` goes on from there."


def run(
    context: typer.Context,
    names: VolumesOf = None,
    directory: CampaignOption = Path("."),
    config: ConfigFile = None,
    dry_run: DryRun = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Process scans as they arrive, until stopped.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Start even if the disk is too small.")
    ] = False,
    take_over: Annotated[
        bool, typer.Option("--take-over", help="Continue a run that died on another host.")
    ] = False,
    gpus: Annotated[
        int | None,
        typer.Option(min=1, help="Jobs on GPUs at a time.", show_default="all of this machine"),
    ] = None,
    predict: Annotated[
        list[str] | None,
        typer.Option(
            "--predict",
            metavar="SCAN",
            help="Only sweep and predict this scan (or pattern), even if its COR is in the "
            "campaign table; may be repeated.",
        ),
    ] = None,
) -> None:
    """Run the workflow, or make the volumes of some scans, and show the progress.

    Uses the SLURM profile of the campaign if there is one. Options after `--` go to Snakemake,
    whose output is in logs/run/. The run outlives its terminal; Ctrl-C or `tomopipe stop` end it.
    Exit status: 0 done, 1 jobs failed or stopped, 130 stopped by Ctrl-C, 3 done but a selected scan
    has no COR, volume or stack; with -n as for `tomopipe plan`. With --watch 130 also after
    `tomopipe stop`.

    Examples: `tomopipe run`, `tomopipe run mycampaign -- --cores 8`,
    `tomopipe run sandA_001 'rock_*'`
    """
    directory, scans = campaign_and_scans(context, names or [], directory, config)
    if (predict or scans) and (watch or (predict and scans)):
        raise typer.BadParameter("--predict, names of scans and --watch exclude each other")
    if predict and dry_run:
        raise typer.BadParameter("--predict excludes --dry-run")
    if dry_run:
        from tomopipe.cli.plan import show_plan

        return show_plan(directory, config, scans)
    on_gpus = _limit_of_gpus(gpus, rest_of(context))
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the terminal may be closed
    config_path = config.absolute() if config else None
    launch.snakefile(directory, config_path)  # refuses what is no campaign
    if watch:
        from tomopipe.watch.watch import watch as watch_campaign

        options = [*rest_of(context), *on_gpus]
        by_sigint = watch_campaign(directory, config_path, options, say, take_over=take_over)
        raise typer.Exit(_INTERRUPTED if by_sigint else 1)
    profile, rest = launch.chosen_profile(directory), rest_of(context)
    planned: dict[str, Any] = {}
    if predict or scans:
        from tomopipe.campaign.campaign import load_campaign  # slow to load
        from tomopipe.commands.run_request import request_of

        request = request_of(load_campaign(directory, config), scans, predict or [])
        print_left_out(request.left_out)
        scans, planned, rest = request.scans, request.event, [*request.receipts, *rest]
    elif not rest and (status := _nothing_to_do(directory, config)) is not None:
        raise typer.Exit(status)
    command = launch.run_command(directory, config_path, profile, [*rest, *on_gpus])
    process, started = launch.start(directory, command, force=force, take_over=take_over)
    begun_s = Path(started.log).stat().st_mtime  # by the clock of the disk
    what = f"the volume{'s' * (len(scans) > 1)} of {scans_named(scans)}, and what is needed, in "
    say(
        f"Running {what if scans else ''}{directory.name}; what Snakemake says: {near(started.log)}"
    )
    progress = Progress(started.events, Logs(directory / LOGS.folder))
    if planned:
        write(Path(started.events), **planned)
    with _forward_signals(started, progress):
        _follow(process, progress, after_killed=bool(started.before))
    status = process.wait()
    if status >= 0:  # not killed; it may have ended before it read the Snakefile
        lock.release(directory, started)
    status = _print_end(directory, status, started, progress)
    _name_edits(directory, config_path, begun_s, progress)
    raise typer.Exit(_INTERRUPTED if status and progress.facts.get("interrupted") else status)


def _limit_of_gpus(gpus: int | None, rest: Sequence[str]) -> list[str]:
    """Return the option of Snakemake for `--gpus`."""
    if gpus and any(word.partition("=")[0] in command_line.RESOURCES for word in rest):
        raise typer.BadParameter(
            f"--gpus and --resources exclude each other: --resources gpu={gpus}"
        )
    return ["--resources", f"gpu={gpus}"] if gpus else []


def _nothing_to_do(directory: Path, config: Path | None) -> int | None:
    """Return the exit status of a run for which nothing is missing; None if a job is to run."""
    if lock.read(directory):
        return None
    from tomopipe.commands.run_request import finished_campaign  # slow to load

    if (campaign := finished_campaign(directory, config)) is None:
        return None
    from tomopipe.campaign.selection import table_faults
    from tomopipe.run.unfinished import unfinished_scans

    for fault in table_faults(campaign):
        say(f"tomopipe: {fault}")
    say("Nothing to do: every result is up to date.")
    if len(campaign.scans) <= MOST_ROWS:
        from tomopipe.cli import outcome  # slow to load

        outcome.show(campaign, is_whole=True)
    else:  # reading the records of thousands of scans takes longest
        say("CORs: tomopipe cor list")
    unfinished = unfinished_scans(campaign)
    for line in unfinished:
        say(f"tomopipe: {line}")
    return 3 if unfinished else 0


@contextmanager
def _forward_signals(started: Run, progress: Progress) -> Iterator[None]:
    """Forward Ctrl-C to the run, which has its own session."""

    def stop(number: int, _: Any) -> None:
        progress.facts["stopped"] = True  # on a full disk there is no event
        progress.facts["interrupted"] = number == signal.SIGINT
        say("\nStopping: its jobs are being ended, what is done stays.")
        launch.interrupt(started, sending=signal.SIGINT)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _follow(process: "subprocess.Popen[bytes]", progress: Progress, *, after_killed: bool) -> None:
    """Show the progress of a run until it ends; `after_killed`: the one before was killed."""
    from tomopipe.cli import outcome  # noqa: F401 (what the end needs, loaded meanwhile)

    screen = Screen()
    while True:
        with suppress(subprocess.TimeoutExpired):
            process.wait(_LOOK_S)
        at_end = process.returncode is not None
        progress.read(0.0 if at_end else _PAUSE_S)
        if progress.facts.get("executes"):  # a dry run announces jobs, too
            if after_killed:
                say("The last run was killed: this one goes on from there.")
                after_killed = False
            screen.show(progress, at_end=at_end)
        if at_end:
            return


def _print_end(directory: Path, status: int, started: Run, progress: Progress) -> int:
    """Print the outcome of a run; return the exit status."""
    stopped = bool(progress.facts.get("stopped"))
    text = Path(no_pipe(started.log)).read_text(encoding="utf-8", errors="replace")
    lines = text.splitlines()
    if stopped and not progress.facts.get("executes"):
        say("stopped before it began.")
        return 1
    if not progress.facts.get("executes"):
        # it did not begin, or ran no jobs: show Snakemake's text, or the error
        say("\n".join(_error(lines) if status else lines))
        return int(status != 0)
    if progress.facts.get("refused"):
        say("Not started. `tomopipe run --force` starts although the disk is too small.")
        return 1
    from tomopipe.campaign.campaign import campaign_from_data
    from tomopipe.campaign.failures import present_jobs
    from tomopipe.campaign.selection import table_faults
    from tomopipe.cli import outcome
    from tomopipe.commands.next_run import retry_hint
    from tomopipe.reruns.failed_results import why_again
    from tomopipe.run.unfinished import unfinished_scans

    (n_done, n_all), of_all = progress.counts, bool(progress.facts.get("is_whole"))
    campaign = campaign_from_data(progress.facts["campaign"], directory)
    reports = progress.facts.get("said", [])
    if status == 0 and not n_all and (of_all or {*reports} <= {*table_faults(campaign)}):
        what = "every result" if of_all else "what was asked for"
        say(f"Nothing to do: {what} is up to date.")
    shown = {f"tomopipe: {line}" for line in reports}
    steps = progress.steps.values()
    if status == 1 and not (stopped or any(step.jobs for step in steps)):
        say(_no_rule(text, campaign.scans) or "\n".join(_error(lines, without=shown)))
        _name_full_disk(campaign.results)
        say("no job began.")
        return 1
    with suppress(OSError):  # the terminal was closed
        step = progress.steps.get("resolve_cor")
        has_cors = of_all and (step is None or step.done == step.total > 0)
        outcome.show(campaign, is_whole=of_all and status in (0, 3), has_cors=has_cors)
    # whoever named targets is not told of other scans; a run that ended well has looked for them
    is_open = of_all and (status or not n_all)
    unfinished = [f"tomopipe: {line}" for line in unfinished_scans(campaign)] if is_open else []
    ours = [line for line in launch.own_lines(started) if line not in shown]
    for line in dict.fromkeys([*ours[:_MOST_LINES], *unfinished]):
        say(line)
    if status in (0, 3):
        return 3 if unfinished else status
    if not (stopped or status < 0 or any(step.n["failed"] or step.n["again"] for step in steps)):
        say("\n".join(lines[-_TAIL_LINES:]))
    _name_full_disk(campaign.results)
    how = "stopped" if stopped else "killed" if status < 0 else "some jobs failed"
    once = "once the cause is fixed, " * (how == "some jobs failed")
    say(f"{how}: {n_done} of {n_all} jobs are done; {once}`tomopipe run` goes on from there.")
    names = {job.name for job in progress.failed}
    why = why_again(campaign)
    failures = [job for job in present_jobs(campaign, why) if job.key in names]
    if retry := retry_hint(campaign, failures, why):
        say(retry)
    return 1


def _name_edits(directory: Path, config: Path | None, begun_s: float, progress: Progress) -> None:
    """Report that configuration or table changed after the run had begun to read them."""
    if not progress.facts.get("executes"):
        return
    table = progress.facts["campaign"]["campaign"].get("table") or TABLE
    for path in (config or directory / CONFIG, directory / table):
        with suppress(OSError):
            if path.stat().st_mtime > begun_s:
                say(f"{near(path)} changed during this run: the next `tomopipe run` follows it.")


def _error(lines: Sequence[str], without: Container[str] = ()) -> list[str]:
    """Return the error that ended Snakemake, without its header and a traceback."""
    first = next((n for n, line in enumerate(lines) if line.startswith(_ERRORS)), 0)
    if _AFTER_HEADER in lines:
        first = lines.index(_AFTER_HEADER) + 1
    elif not first and _TRACEBACK in lines:
        first = max(n for n, line in enumerate(lines) if line.startswith("  ")) + 1
    return [line for line in lines[first:] if line and line not in without][-_TAIL_LINES:]


def _no_rule(text: str, scans: Container[str]) -> str:
    """Say for which target there is no rule; "" if that is not the error."""
    if (target := _NO_RULE.search(text)) is None:
        return ""
    if target[1] in scans:
        return f"{target[1]} is a scan; its volume: tomopipe run {scan_word(target[1])}"
    return f"{target[1]}: Snakemake has no rule for this target."


def _name_full_disk(folder: Path) -> None:
    """Report a full disk or quota, of which failed jobs may have given another error."""
    if fault := full_disk(folder):
        say(f"tomopipe: {fault}")


def stop(
    directory: Directory = Path("."),
    finish: Annotated[
        bool, typer.Option("--finish", help="Finish running jobs; start no others.")
    ] = False,
    now: Annotated[
        bool, typer.Option("--now", help="Kill a run that does not end by itself.")
    ] = False,
) -> None:
    """Stop the current run, as Ctrl-C does: its jobs end, finished results stay.

    Examples: `tomopipe stop`, `tomopipe stop mycampaign --finish`
    """
    if finish and now:
        raise typer.BadParameter("--finish and --now exclude each other")
    run = run_under_way(directory)
    typer.echo(f"Stopping the run {run}.")
    stopped = stop_run(run, finish=finish, now=now)
    if finish:
        typer.echo("What runs, or is in SLURM's queue, finishes; `tomopipe status` shows it.")
    elif not stopped.has_ended:
        typer.echo("It is still ending its jobs; `tomopipe stop --now` kills it.")
    elif now:
        typer.echo(f"Killed; {_GOES_ON} On SLURM, scancel what squeue still shows.")
    else:
        typer.echo(f"Stopped; {_GOES_ON}")
    for line in stopped.not_cancelled:
        say(line)
    if stopped.not_cancelled:
        raise typer.Exit(1)
