"""`tomopipe lab`: simulated campaigns, and the commands of tomopipe-lab."""

from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated

import typer

from tomopipe.cli.options import Command, Group
from tomopipe.errors import TomopipeError

app = typer.Typer(
    cls=Group,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Example: `tomopipe lab simulate demo`\n\n"
    "Simulate campaigns of known truth; measure and train the COR finders.",
)


@app.command(cls=Command)
def simulate(
    folder: Annotated[Path, typer.Argument(help="New or empty folder.", show_default=False)],
    *,
    series: Annotated[int, typer.Option(help="Number of series.")] = 2,
    scans: Annotated[int, typer.Option(help="Complete scans per series.")] = 4,
    cols: Annotated[int, typer.Option(help="Detector columns.")] = 160,
    rows: Annotated[int, typer.Option(help="Detector rows.")] = 24,
    angles: Annotated[int, typer.Option(help="Projections per scan, over 0 to 180 degrees.")] = 181,
    counts: Annotated[float, typer.Option(help="Photons per pixel in the open beam.")] = 20000,
    seed: Annotated[int, typer.Option(help="Same seed, same files.")] = 0,
    format: Annotated[str, typer.Option(help="dxchange or nxtomo.")] = "dxchange",
    heights: Annotated[
        int, typer.Option(help="Add a tall object, scanned at this many heights.", min=0)
    ] = 0,
) -> None:
    """Write a campaign of simulated scans with known CORs.

    FOLDER gets `raw/*.h5` (NXtomo: `raw/*.nx`), config.yaml, Snakefile, and truth.json with true
    CORs and objects, which the workflow never reads. The COR follows the height of the stage. One
    scan is aborted; one misleads methods that compare mirrored projections.

    Example: `tomopipe lab simulate demo --series 3 --scans 5 --seed 1`
    """
    from rich.console import Console

    from tomopipe.commands import compilation
    from tomopipe.commands.new_campaign import write_campaign
    from tomopipe.simulate.simulated_campaign import Simulation, simulate_campaign

    # On stderr, as only the last line is the output.
    with Console(stderr=True).status("simulate") as status:
        truth = simulate_campaign(
            folder,
            Simulation(
                n_series=series,
                n_scans=scans,
                n_cols=cols,
                n_rows=rows,
                n_angles=angles,
                counts=counts,
                seed=seed,
                format=format,
                n_heights=heights,
            ),
            progress=lambda n, total, name: status.update(f"simulate {name}: {n} of {total}"),
        )
    write_campaign(folder, (), {}, dry_run=False)  # config.yaml exists; `snakemake -n` works there
    compilation.compile_once(folder, partial(typer.echo, err=True))
    typer.echo(f"{folder}: {len(truth['scans'])} scans in raw/, config.yaml, truth.json")


def _missing(context: typer.Context) -> None:
    raise TomopipeError(
        f"tomopipe lab {context.info_name} comes with tomopipe-lab, which is not installed here: "
        "`pip install ./lab` in a checkout of tomopipe."
    )


def _add_commands_of_the_lab() -> None:
    """Add the commands of tomopipe-lab; without it these names say how to install it."""
    brought = {entry.name: entry for entry in entry_points(group="tomopipe.commands")}
    for name in ("evaluate", "train", "bench", "agree"):
        command = brought[name].load() if name in brought else None
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name)
        elif command:
            app.command(name, cls=Command)(command)
        else:
            anything = {"allow_extra_args": True, "ignore_unknown_options": True}
            about = "Comes with tomopipe-lab, which is not installed here.\n\n"
            about += f"Example: `tomopipe lab {name}`, after `pip install ./lab` in a checkout"
            app.command(name, cls=Command, help=about, context_settings=anything)(_missing)


_add_commands_of_the_lab()
