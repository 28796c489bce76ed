"""The command line: one module per group of commands."""

import logging
import sys

import typer

from tomopipe import __version__
from tomopipe.cli.bench import app as bench_app
from tomopipe.cli.clean import clean
from tomopipe.cli.cor import app as cor_app
from tomopipe.cli.evaluate import evaluate
from tomopipe.cli.plan import plan, retry
from tomopipe.cli.report import report
from tomopipe.cli.review import review
from tomopipe.cli.simulate import simulate
from tomopipe.cli.start import check, init
from tomopipe.cli.status import status
from tomopipe.cli.sweep import sweep
from tomopipe.cli.train import train
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
    evaluate,
    train,
):
    cli.command()(command)
cli.add_typer(cor_app, name="cor")
cli.add_typer(bench_app, name="bench")


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
