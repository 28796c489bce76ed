"""`tomopipe status`, `plan` and `retry`: what runs now, what will, and what is tried again."""

import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from tomopipe.campaign.campaign import Campaign, load_campaign
from tomopipe.campaign.log import JobStatus, position
from tomopipe.campaign.selection import scans_of
from tomopipe.campaign.state.signs import SIGNS, source_named
from tomopipe.cli.options import (
    CampaignOption,
    ConfigFile,
    DryRun,
    VolumesOf,
    campaign_and_scans,
)
from tomopipe.cli.terminal import (
    AS_WRITTEN,
    bar,
    console,
    print_columns,
    print_left_out,
    say,
    shortened,
    state_text,
)
from tomopipe.commands.next_run import Plan, folded, make_plan
from tomopipe.commands.retry import forget_failures
from tomopipe.commands.run_request import settled_for
from tomopipe.commands.status import Status, read_status
from tomopipe.errors import scan_word
from tomopipe.report.collected_records import collect_scans
from tomopipe.report.records import own_warnings
from tomopipe.reruns.failed_results import why_again
from tomopipe.reruns.settle import Settled
from tomopipe.resources.disk import shown_size
from tomopipe.run.forecast import duration
from tomopipe.run.unfinished import set_remarks, unfinished_scans
from tomopipe.storage import lock

_WIDE = 100  # columns of the terminal from which details are shown
_TAIL_LINES = 12


def status(
    context: typer.Context,
    words: Annotated[
        list[str] | None,
        typer.Argument(
            help="Campaign folder, scans (names or 'patterns') of which to show everything.",
            metavar="CAMPAIGN SCAN",
            show_default="this folder, no scan",
        ),
    ] = None,
    directory: CampaignOption = Path("."),
    config: ConfigFile = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show the jobs of a campaign: to do, running, done, failed, lost; or all about some scans.

    A job is lost after three minutes without a sign of life, or when its run or SLURM has ended
    it. After a stop or a kill, the jobs that the run has left are to do. Only status files are
    read, so this also works outside the cluster. The time left is that of the plan until jobs of
    this run have finished, and then follows from their CPU time.

    Examples: `tomopipe status mycampaign`, `watch -n 10 tomopipe status mycampaign`,
    `tomopipe status rock_003`
    """
    directory, names = campaign_and_scans(context, words or [], directory, config)
    campaign = load_campaign(directory, config, needs_raw=False)
    result = read_status(campaign)
    if names:
        scans = scans_of(campaign, names)
        result = replace(result, jobs=tuple(job for job in result.jobs if job.key in scans))
    if as_json:
        typer.echo(json.dumps(asdict(result), indent=1, ensure_ascii=False))
        return
    screen = Console(**AS_WRITTEN)
    with screen.capture() as capture:  # tables are padded with blanks
        if names:
            _show_scans(campaign, scans, result, screen)
        else:
            _show_campaign(campaign, result, screen)
    say("\n".join(line.rstrip() for line in capture.get().splitlines()))


def _show_campaign(campaign: Campaign, result: Status, screen: Console) -> None:
    if run := lock.under_way(campaign.directory):
        line = f"A run is under way: {run}."
    elif result.stopped:
        line = result.stopped
    elif lock.read(campaign.directory):
        line = "The last run ended without a word; `tomopipe run` goes on from there."
    else:
        line = "No run is under way."
    screen.print(Text(line), soft_wrap=True)
    _show_jobs(result, screen)
    if not (run or result.with_state("running")):  # during a run these may still be made
        for line in unfinished_scans(campaign):
            screen.print(Text(line, style=SIGNS["failed"].style))
        for remark in set_remarks(campaign):
            screen.print(f"for RELION: {remark}", markup=False, highlight=False, soft_wrap=True)


def _show_scans(campaign: Campaign, scans: Sequence[str], result: Status, screen: Console) -> None:
    """Print state, COR, remarks and jobs of scans, whole."""
    for scan in collect_scans(campaign, why=why_again(campaign)):
        if scan.name not in scans or scan.name not in campaign.scans:
            continue
        cor = f"COR {scan.shown_text} px, {source_named(scan.shown[1]).label}"
        screen.print(Text(f"{scan.name}  ").append(state_text(scan.state), SIGNS[scan.state].style))
        screen.print(Text(f"  {cor if scan.shown_text else 'no COR'}"))
        jobs = [job for job in result.jobs if job.key == scan.name]
        jobs.sort(key=lambda job: position(job.step))
        why = scan.why
        for error in (job.error for job in jobs if job.error):  # they follow below
            why = why.replace(f": {error}", " failed" * (f"failed: {error}" not in why))
        remarks = [*scan.for_next_run, *why.split("; "), *own_warnings(scan), scan.to_do]
        remarks += ["no prediction to compare it with"] if scan.is_unchecked else []
        for text in filter(None, (*remarks, campaign.scans[scan.name].note)):
            indented = Padding(Text(text), (0, 0, 0, 2)) if screen.is_terminal else f"  {text}"
            screen.print(indented, soft_wrap=not screen.is_terminal, highlight=False)
        for job in jobs:
            if job.state == "done":
                screen.print(Text(f"  {job.step} done in {duration(job.wall_s)}"))
            else:
                _print_job(job, screen)


def _show_jobs(result: Status, screen: Console) -> None:
    if not result.steps:
        screen.print("No job has run yet.")
        return
    wide = screen.width >= _WIDE
    table = Table(box=box.SIMPLE_HEAD, pad_edge=wide, padding=(0, 1 if wide else 0))
    table.add_column("step", no_wrap=True)
    table.add_column("progress", no_wrap=True)
    for column in ("to do", "running", "done", "failed", "lost"):
        table.add_column(column, justify="right", no_wrap=True)
    for step in result.steps:
        total = step.queued + step.running + step.done + step.failed + step.lost
        table.add_row(
            step.step,
            bar(step.done, total, 20 if wide else 10),
            *(str(n) if n else "" for n in (step.queued, step.running, step.done)),
            Text(str(step.failed or ""), style=SIGNS["failed"].style),
            Text(str(step.lost or ""), style=SIGNS["lost"].style),
        )
    screen.print(Text(f"{result.counted}."))
    screen.print(table)
    for line in filter(None, (result.time.get("sentence"), result.time.get("remark"))):
        screen.print(Text(line))
    jobs = result.with_state("running", "lost", "failed", "pending")
    room = screen.width if sys.stdout.isatty() else 0
    cut = [job.key for job in jobs if _print_job(job, screen, room)]
    if cut:
        screen.print(Text(f"The whole text: tomopipe status {scan_word(cut[0])}"))


def _print_job(job: JobStatus, screen: Console, room: int = 0) -> bool:
    """Print a job, in a line of `room` columns unless it is 0; tell whether it was cut."""
    where = f"{job.host} {f'job {job.slurm_job}' if job.slurm_job else ''}".strip()
    is_running = job.state == "running"
    parts = [f"{job.step} {job.name}", where]
    parts += [f"for {duration(time.time() - job.start_s)}"] * is_running
    parts += [job.error] * bool(job.error)
    text, sign = " ".join("  ".join(parts).splitlines()), f"{state_text(job.state):10}"
    shown = shortened(text, room - len(sign)) if room else text
    whole = Text(sign, SIGNS[job.state].style).append(shown, "default")
    screen.print(whole, soft_wrap=not screen.is_terminal)
    # names, errors and logs may look like markup
    tail = [f"see {job.log}"] if job.error else job.log_tail.splitlines()[-_TAIL_LINES:]
    for line in () if job.state in ("running", "pending") else tail:
        screen.print(Text(f"    {line}", style="dim"))
    return shown != text


def plan(
    context: typer.Context,
    names: VolumesOf = None,
    directory: CampaignOption = Path("."),
    config: ConfigFile = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what the next run will redo, and why, scan by scan.

    While predictions are pending, their CORs are not known: the volumes that may follow are
    counted, and count in the costs; steps after them are named. Exit status: 1 failed jobs, else
    2 pending jobs, 0 nothing to do.

    Examples: `tomopipe plan mycampaign`, `tomopipe plan 'sandA_*'`
    """
    directory, scans = campaign_and_scans(context, names or [], directory, config)
    show_plan(directory, config, scans, as_json=as_json)


def show_plan(
    directory: Path, config: Path | None, names: Sequence[str] = (), *, as_json: bool = False
) -> None:
    """Print what the next run will do, or one for the volumes of the named scans; exit."""
    campaign = load_campaign(directory, config)
    settled, left_out = settled_for(campaign, names) if names else (Settled(campaign), [])
    print_left_out(left_out)
    result = make_plan(campaign, settled=settled)
    if as_json:
        typer.echo(json.dumps([asdict(job) for job in result.jobs], indent=1, ensure_ascii=False))
        for line in filter(None, (*result.faults, result.blocked)):
            typer.echo(f"tomopipe: {line}", err=True)
    else:
        _show(result)
    raise typer.Exit(result.exit_status)


def _show(result: Plan) -> None:
    screen = console()
    for line in result.faults:
        screen.print(line, style="red", markup=False, soft_wrap=True)
    if result.jobs:
        rows = [(row.of, ", ".join(row.steps), row.why) for row in folded(result.jobs)]
        print_columns(("scan", "what runs", "why"), rows, remark="why")
        say("")
        screen.print(", ".join(result.counts))
        n_cores = len(os.sched_getaffinity(0))
        here = f"{duration(result.wall_s)} on the {n_cores} cores here"
        size = f"{shown_size(result.n_bytes)} of disk"
        about = "up to" if result.n_open else "about"
        screen.print(f"{about} {duration(result.cpu_s)} of one core ({here}), {size}")
    elif not result.blocked:
        screen.print("Nothing to do.")
    for line in result.notes:
        screen.print(line, markup=False)
    for line in result.failures:
        screen.print(f"failed: {line}", style="red", markup=False, soft_wrap=True)
    if result.retry:
        screen.print(result.retry, markup=False)
    if result.blocked:
        screen.print(result.blocked, style="red", markup=False)


def retry(
    context: typer.Context,
    words: Annotated[
        list[str] | None,
        typer.Argument(
            help="Campaign folder, scans (names or 'patterns').",
            metavar="CAMPAIGN SCAN",
            show_default="this folder",
        ),
    ] = None,
    directory: CampaignOption = Path("."),
    config: ConfigFile = None,
    every: Annotated[bool, typer.Option("--all", help="All failed scans.")] = False,
    dry_run: DryRun = False,
) -> None:
    """Let the next run try failed scans again.

    Removes their records in results/failed, and their predictions and stacks that failed.

    Examples: `tomopipe retry sample_007`, `tomopipe retry mycampaign --all`
    """
    directory, names = campaign_and_scans(context, words or [], directory, config)
    if bool(names) == every:
        raise typer.BadParameter("name the scans to try again, or give --all instead")
    campaign = load_campaign(directory, config)
    forgotten, remarks = forget_failures(campaign, names, dry_run=dry_run)
    for remark in remarks:
        typer.echo(remark)
    verb = "Would be" if dry_run else "Will be"
    again = f"{verb} tried again: {', '.join(forgotten)}"
    typer.echo(again if forgotten else "No scan is held back by a failure.")
