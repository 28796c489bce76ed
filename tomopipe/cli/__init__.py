"""The command line: one module per group of commands, loaded when one of them is called."""

import atexit
import errno
import gc
import io
import logging
import os
import sys
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand

from tomopipe import __version__
from tomopipe.cli.options import (
    CampaignCommand,
    CommandWithRest,
    Group,
    campaign_after,
)
from tomopipe.errors import TomopipeError

#: Commands of each group of the first page: module, function, and summary.
_GROUPS = {
    "Daily": {
        "init": ("start", "init", "Start a campaign folder."),
        "check": ("start", "check", "Check configuration, scans and disk before a run."),
        "plan": ("plan", "plan", "Show what the next run redoes, and why."),
        "run": ("run", "run", "Run the workflow, or make the volumes of some scans."),
        "stop": ("run", "stop", "Stop the current run; finished results stay."),
        "status": ("plan", "status", "Show the jobs: to do, running, done, failed."),
        "retry": ("plan", "retry", "Retry failed scans."),
    },
    "CORs": {
        "review": ("pages", "review", "Review scans in a browser, doubtful ones first."),
        "cor": ("cor", "app", "List, set, import and export CORs."),
    },
    "Data": {
        "view": ("pages", "view", "Show the volume of a scan in a browser."),
        "sweep": ("pages", "sweep", "Try values of an option on one slice."),
        "report": ("pages", "report", "Write the report of the existing results."),
        "convert": ("data", "convert", "Write volumes in another format."),
        "clean": ("data", "clean", "Remove temporary files of accepted scans."),
        "verify": ("data", "verify", "Compare results with their recorded checksums."),
    },
    "Laboratory": {
        "lab": ("laboratory", "app", "Simulate campaigns; measure and train the COR finders.")
    },
}
_COMMANDS = {
    name: (group, *command)
    for group, commands in _GROUPS.items()
    for name, command in commands.items()
}


class _Commands(Group):
    """The commands; each is imported on use, so that a run starts quickly."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        # names suggested for a wrong one
        self.commands = dict[str, Any](dict.fromkeys(_COMMANDS))
        self._of_page: dict[str, Any] = {}

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Accept `-C CAMPAIGN` before the command, too."""
        return super().parse_args(ctx, campaign_after(args))

    def list_commands(self, ctx: Any) -> list[str]:
        """Name all commands, in the order of the first page."""
        return list(_COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command; None if there is no such command."""
        of_page = self._of_page.get(cmd_name)
        return of_page or (_command(cmd_name) if cmd_name in _COMMANDS else None)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Show the first page, which imports no command."""
        self._of_page = {
            name: TyperCommand(name, help=text, rich_help_panel=group)
            for name, (group, _, _, text) in _COMMANDS.items()
        }
        super().format_help(ctx, formatter)
        self._of_page = {}


@cache
def _command(name: str) -> Any:
    _, module, attribute, _ = _COMMANDS[name]
    result = getattr(import_module(f"tomopipe.cli.{module}"), attribute)
    holder = typer.Typer(rich_markup_mode="markdown", add_completion=False)
    holder.callback()(lambda: None)  # otherwise a single command is not a group
    if isinstance(result, typer.Typer):
        holder.add_typer(result, name=name)
    else:
        kind = CommandWithRest if name == "run" else CampaignCommand
        holder.command(name, cls=kind)(result)
    group: Any = typer.main.get_command(holder)
    return group.commands[name]


cli = typer.Typer(
    name="tomopipe",
    cls=_Commands,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Example: `tomopipe run mycampaign`\n\n"
    "Find, check and repair the centres of rotation of a whole tomography campaign, "
    "reconstruct it, and export it for RELION.\n\n"
    "Every command works on the campaign of this folder, or of the nearest folder above it that "
    "has one; `-C CAMPAIGN`, before the command or after it, names another.",
)


def _version(target: bool) -> None:
    if target:
        typer.echo(f"tomopipe {__version__}")
        raise typer.Exit


@cli.callback()
def _options(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version and exit."
    ),
) -> None:
    pass


def app() -> None:
    """Run the command line; errors for people are printed without a traceback."""
    atexit.register(gc.freeze)  # no garbage collection at the end of the process
    # commands show the content of job logs themselves, as a table
    logging.getLogger("tomopipe").setLevel(logging.ERROR)
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:  # closed: the next file would get its number
            setattr(sys, name, open(os.devnull, "r+", encoding="utf-8"))  # noqa: SIM115
    is_raising = sys.stdout.errors == "strict" or sys.stdout.encoding == "ascii"
    if isinstance(sys.stdout, io.TextIOWrapper) and is_raising:
        sys.stdout.reconfigure(errors="replace")  # signs and names in a terminal of Latin-1
    try:
        cli()
    except TomopipeError as error:
        _end(str(error))
    except MemoryError as error:
        _end(f"not enough memory. {error}")
    except OSError as error:
        if error.errno is None:  # of HDF5
            raise
        if error.filename is None:
            _end(f"the output cannot be written ({error.strerror}).")
        path = Path(os.fsdecode(error.filename2 or error.filename)).absolute()
        place = path.parent if path.name.startswith(".") else path  # not a temporary name
        # the uppermost folder that this user cannot enter
        place = next((f for f in reversed(path.parents) if not _may_enter(f)), place)
        is_closed = isinstance(error, PermissionError) or error.errno == errno.EROFS
        advice = "Give yourself the right to, or work in a folder of your own." * is_closed
        _end(
            f"{place}: cannot be read or written ({error.strerror}). {advice or 'Check its path.'}"
        )


def _may_enter(folder: Path) -> bool:
    return os.access(folder, os.X_OK) or not os.path.lexists(folder)


def _end(text: str) -> None:
    print(f"tomopipe: {text}", file=sys.stderr)
    sys.exit(1)
