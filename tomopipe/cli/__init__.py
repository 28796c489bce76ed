"""The command line: one module per group of commands."""

import logging
import sys
from importlib.metadata import entry_points

import typer

from tomopipe import __version__
from tomopipe.cli.clean import clean
from tomopipe.cli.cor import app as cor_app
from tomopipe.cli.plan import plan, retry
from tomopipe.cli.report import report
from tomopipe.cli.review import review
from tomopipe.cli.simulate import simulate
from tomopipe.cli.start import check, init
from tomopipe.cli.status import status
from tomopipe.cli.sweep import sweep
from tomopipe.cli.verify import verify
from tomopipe.errors import TomopipeError

cli = typer.Typer(
    name="tomopipe",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Find, check and repair the centres of rotation of a whole tomography campaign, "
    "reconstruct it, and export it for RELION.\n\n"
    "The work itself is a Snakemake workflow; these commands start a campaign, say what the next "
    "run will do, and change CORs.",
    epilog="A first try: `tomopipe simulate demo`, `tomopipe check demo`, then Snakemake as "
    "`tomopipe plan --help` shows.",
)
for command in (
    simulate,
    init,
    check,
    plan,
    retry,
    status,
    report,
    review,
    sweep,
    clean,
    verify,
):
    cli.command()(command)
cli.add_typer(cor_app, name="cor")


def _missing(context: typer.Context) -> None:
    raise TomopipeError(
        f"tomopipe {context.info_name} comes with tomopipe-lab, which is not installed here: "
        "`pip install ./lab` in a checkout of tomopipe."
    )


def _add_commands_of_the_lab() -> None:
    """Add what tomopipe-lab brings; without it the same names say how to get it."""
    brought = {entry.name: entry for entry in entry_points(group="tomopipe.commands")}
    for name in ("evaluate", "train", "bench"):
        command = brought[name].load() if name in brought else None
        if isinstance(command, typer.Typer):
            cli.add_typer(command, name=name)
        elif command:
            cli.command(name)(command)
        else:
            anything = {"allow_extra_args": True, "ignore_unknown_options": True}
            about = "Comes with tomopipe-lab, which is not installed here."
            cli.command(name, help=about, context_settings=anything)(_missing)


_add_commands_of_the_lab()


def _version(wanted: bool) -> None:
    if wanted:
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
    """Run the command line; an error meant for people is printed without a traceback."""
    # what a job's log would say is shown by the commands themselves, as a table
    logging.getLogger("tomopipe").setLevel(logging.ERROR)
    try:
        cli()
    except TomopipeError as error:
        print(f"tomopipe: {error}", file=sys.stderr)
        sys.exit(1)
