"""The command line: one module per group of commands, loaded when one of them is called."""

import errno
import logging
import os
import sys
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from tomopipe import __version__
from tomopipe.cli.options import CampaignCommand, CommandWithRest, campaign_after, refuse_retired
from tomopipe.errors import TomopipeError, is_of_the_system

_DAILY = "Every day, such as: tomopipe run mycampaign"
_PAGES = "Looking, such as: tomopipe cor set rock_003 85.01"
_DATA = "Data, such as: tomopipe clean -n"
_LAB = "Laboratory, such as: tomopipe lab simulate demo"
#: Module, name in it and panel of each command; "": not on the first page.
_COMMANDS = {
    "init": ("start", "init", _DAILY),
    "check": ("start", "check", _DAILY),
    "plan": ("plan", "plan", _DAILY),
    "run": ("run", "run", _DAILY),
    "stop": ("run", "stop", _DAILY),
    "status": ("plan", "status", _DAILY),
    "review": ("pages", "review", _PAGES),
    "cor": ("cor", "app", _PAGES),
    "view": ("pages", "view", _PAGES),
    "sweep": ("pages", "sweep", _PAGES),
    "clean": ("data", "clean", _DATA),
    "convert": ("data", "convert", _DATA),
    "lab": ("laboratory", "app", _LAB),
    "retry": ("plan", "retry", ""),
    "report": ("pages", "report", ""),
    "verify": ("data", "verify", ""),
}


class _Commands(TyperGroup):
    """The commands; each is imported on use, so that a run starts quickly."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        # what a wrong name is compared with
        self.commands = dict[str, Any](dict.fromkeys(_COMMANDS))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Accept `-C CAMPAIGN` before the command, too."""
        args = campaign_after(args)
        refuse_retired(args)
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: Any) -> list[str]:
        """Name all commands, in the order of the first page."""
        return list(_COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command; None if there is no such command."""
        return _command(cmd_name) if cmd_name in _COMMANDS else None


@cache
def _command(name: str) -> Any:
    module, attribute, panel = _COMMANDS[name]
    result = getattr(import_module(f"tomopipe.cli.{module}"), attribute)
    holder = typer.Typer(rich_markup_mode="markdown", add_completion=False)
    holder.callback()(lambda: None)  # otherwise a single command is not a group
    if isinstance(result, typer.Typer):
        holder.add_typer(result, name=name, rich_help_panel=panel)
    else:
        kind = CommandWithRest if name == "run" else CampaignCommand
        holder.command(name, cls=kind, rich_help_panel=panel, hidden=not panel)(result)
    group: Any = typer.main.get_command(holder)
    return group.commands[name]


cli = typer.Typer(
    name="tomopipe",
    cls=_Commands,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Find, check and repair the centres of rotation of a whole tomography campaign, "
    "reconstruct it, and export it for RELION.\n\n"
    "Every command works on the campaign of this folder, or of the nearest folder above it that "
    "has one; `-C CAMPAIGN`, before the command or after it, names another.",
    epilog="Also: `tomopipe retry SCAN` tries a scan again that failed, `tomopipe report` writes "
    "the report of whatever exists, `tomopipe verify` compares results with the record.",
)


def _version(target: bool) -> None:
    if target:
        typer.echo(f"tomopipe {__version__}")
        raise typer.Exit


@cli.callback()
def _options(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version and stop."
    ),
) -> None:
    pass


def app() -> None:
    """Run the command line; errors for people are printed without a traceback."""
    # the commands show the content of job logs themselves, as a table
    logging.getLogger("tomopipe").setLevel(logging.ERROR)
    try:
        cli()
    except TomopipeError as error:
        _end(str(error))
    except OSError as error:
        if error.filename is None or not is_of_the_system(error):
            raise
        path = Path(os.fsdecode(error.filename)).absolute()
        place = path.parent if path.name.startswith(".") else path  # not a temporary name
        # of folders that this user cannot enter the uppermost
        place = next((f for f in reversed(path.parents) if not _may_enter(f)), place)
        _end(
            f"{place}: cannot be read or written ({error.strerror}). Give yourself the right to, "
            "or work in a folder of your own."
            if isinstance(error, PermissionError) or error.errno == errno.EROFS
            else f"{place}: {error.strerror}."
        )


def _may_enter(folder: Path) -> bool:
    return os.access(folder, os.X_OK) or not os.path.lexists(folder)


def _end(text: str) -> None:
    print(f"tomopipe: {text}", file=sys.stderr)
    sys.exit(1)
