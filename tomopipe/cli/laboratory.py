"""`tomopipe lab`: simulated campaigns, and the commands of tomopipe-lab."""

from importlib.metadata import entry_points

import typer

from tomopipe.cli.simulate import simulate
from tomopipe.errors import TomopipeError

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Simulate campaigns of known truth; measure and train the COR finders.",
)
app.command()(simulate)


def _missing(context: typer.Context) -> None:
    raise TomopipeError(
        f"tomopipe lab {context.info_name} comes with tomopipe-lab, which is not installed here: "
        "`pip install ./lab` in a checkout of tomopipe."
    )


def _add_commands_of_the_lab() -> None:
    """Add the commands of tomopipe-lab; without it these names say how to install it."""
    brought = {entry.name: entry for entry in entry_points(group="tomopipe.commands")}
    for name in ("evaluate", "train", "bench"):
        command = brought[name].load() if name in brought else None
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name)
        elif command:
            app.command(name)(command)
        else:
            anything = {"allow_extra_args": True, "ignore_unknown_options": True}
            about = "Comes with tomopipe-lab, which is not installed here."
            app.command(name, help=about, context_settings=anything)(_missing)


_add_commands_of_the_lab()
