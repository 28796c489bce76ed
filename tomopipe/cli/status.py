"""`tomopipe status`: what runs now."""

import json
import time
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tomopipe.campaign import lock
from tomopipe.campaign.campaign import load_campaign
from tomopipe.cli.options import ConfigFile, Directory
from tomopipe.cli.terminal import bar, duration
from tomopipe.commands.status import JobStatus, Status, as_record, read_status
from tomopipe.run.ending import set_remarks, unfinished_scans

_WIDE = 100  # columns of the terminal from which details are shown
_STYLE = {"running": "cyan", "failed": "red", "lost": "magenta"}


def status(
    directory: Directory = Path("."),
    config: ConfigFile = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Show the jobs of a campaign: to do, running, done, failed, lost.

    A job is lost when it has given no sign of life for three minutes, its run is over, or SLURM
    has ended it. Reads status files, so it also works on a machine outside the cluster.

    Examples: `tomopipe status mycampaign`, `watch -n 10 tomopipe status mycampaign`
    """
    campaign = load_campaign(directory, config, needs_raw=False)
    result = read_status(campaign)
    if as_json:
        typer.echo(json.dumps(as_record(result), indent=1, ensure_ascii=False))
        return
    console = Console()
    if run := lock.under_way(campaign.directory):
        console.print(Text(f"A run is under way: {run}."))
    elif lock.read(campaign.directory):
        console.print(Text("The last run was killed; `tomopipe run` goes on from there."))
    _show(result, console)
    if not (run or result.with_state("running")):  # else what lacks may be to come
        for line in unfinished_scans(campaign):
            console.print(Text(line, style=_STYLE["failed"]))
        for remark in set_remarks(campaign):
            console.print(f"for RELION: {remark}", markup=False, highlight=False, soft_wrap=True)


def _show(result: Status, console: Console) -> None:
    if not result.steps:
        console.print("No job has run yet.")
        return
    wide = console.width >= _WIDE
    table = Table(box=box.SIMPLE_HEAD, pad_edge=wide, padding=(0, 1 if wide else 0))
    table.add_column("step", no_wrap=True)
    table.add_column("progress", no_wrap=True)
    for column in ("to do", "running", "done", "failed", "lost", "left"):
        table.add_column(column, justify="right", no_wrap=True)
    for step in result.steps:
        total = step.queued + step.running + step.done + step.failed + step.lost
        table.add_row(
            step.step,
            bar(step.done, total, 20 if wide else 10),
            *(str(n) if n else "" for n in (step.queued, step.running, step.done)),
            Text(str(step.failed or ""), style=_STYLE["failed"]),
            Text(str(step.lost or ""), style=_STYLE["lost"]),
            duration(step.left_s),
        )
    console.print(table)
    for job in result.with_state("running", "lost", "failed"):
        _tell(job, console)


def _tell(job: JobStatus, console: Console) -> None:
    where = f"{job.host} {f'job {job.slurm_job}' if job.slurm_job else ''}".strip()
    is_running = job.state == "running"
    parts = [f"{job.step} {job.key}", where]
    parts += [f"for {duration(time.time() - job.start_s)}"] * is_running
    parts += [job.error] * bool(job.error)
    console.print(Text(f"{job.state:8}", _STYLE[job.state]).append("  ".join(parts), "default"))
    # names, errors and logs may look like markup
    for text in () if is_running else job.log_tail.splitlines():
        console.print(Text(f"    {text}", style="dim"))
