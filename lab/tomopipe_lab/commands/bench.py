"""`tomopipe lab bench`: measure the engine on this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from tomopipe.cli.options import Command, Group
from tomopipe.errors import TomopipeError

app = typer.Typer(
    cls=Group,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    short_help="Measure the engine on this machine.",
    help="Example: `tomopipe lab bench cpu --quick`\n\n"
    "Measure speed, quality and memory here, against other packages where installed.",
)

_FILE_ROWS = 512  # of a scan that is written: 6 GB, and 9 GB of slices, of 2048 columns

Quick = Annotated[bool, typer.Option("--quick", help="A small size, three rounds: seconds.")]
Rounds = Annotated[
    int | None, typer.Option(min=1, help="Rounds, in each of which all run once, order rotated.")
]
Memory = Annotated[bool, typer.Option(help="Measure peak memory, in new processes.")]
Sizes = Annotated[
    list[int] | None, typer.Option("--n", min=32, help="Detector columns; repeat for more sizes.")
]


@app.command(cls=Command)
def cpu(
    *,
    n: Sizes = None,
    rounds: Rounds = None,
    against: Annotated[
        list[str] | None,
        typer.Option(help="Only engines whose name contains this; repeat for more."),
    ] = None,
    memory: Memory = True,
    quick: Quick = False,
) -> None:
    """Compare full reconstructions: CPU time per slice, PSNR, peak memory.

    Against finufft, gridrec (tomopy), algotom, scikit-image and ASTRA, one thread each.

    Example: `tomopipe lab bench cpu --n 512 --n 1024 --against finufft`
    """
    from tomopipe_lab.bench import cpu as bench
    from tomopipe_lab.bench.tables import cpu_table

    engines = [
        engine
        for engine in bench.ENGINES
        if not against or any(word.lower() in engine.name.lower() for word in against)
    ]
    if not engines:
        names = ", ".join(engine.name for engine in bench.ENGINES)
        raise TomopipeError(f"--against {', '.join(against or [])}: no such engine among {names}.")
    n_rounds = rounds or (3 if quick else 15)
    with _status() as tell:
        for n_cols in n or ([256] if quick else [512]):
            results = bench.compare(n_cols, n_rounds, engines, with_memory=memory, progress=tell)
            _show(cpu_table(n_cols, n_rounds, results))


@app.command(cls=Command)
def gpu(
    folder: Annotated[
        Path, typer.Argument(help="Where a scan is written.", exists=True, file_okay=False)
    ] = Path("."),
    *,
    n: Sizes = None,
    angles: Annotated[int | None, typer.Option(min=1, help="Projections; 1.5 n.")] = None,
    rows: Annotated[int | None, typer.Option(min=1, help="Detector rows; n.")] = None,
    block: Annotated[int, typer.Option(min=1, help="Rows copied and computed at a time.")] = 16,
    rounds: Rounds = None,
    quick: Quick = False,
) -> None:
    """Compare reconstruction on a GPU with the bounds of bus, memory and FFT.

    Each pass with the bandwidth it reaches; raw uint16 in pinned memory,
    staged by threads, and from a file in FOLDER, to float32 and uint16, also
    with a chain of corrections; TomoCuPy's fourierrec. Bandwidths are measured
    first. 1024 and 2048 columns.

    Example: `tomopipe lab bench gpu /scratch --n 2048 --angles 3072 --rows 2048`
    """
    from tomopipe_lab.bench import gpu as bench
    from tomopipe_lab.bench import gpu_passes, tables
    from tomopipe_lab.bench.gpu_ways import simulated

    with _status() as tell:
        for n_cols in n or ([512] if quick else [1024, 2048]):
            n_angles, n_rows = angles or 3 * n_cols // 2, rows or n_cols
            scan = simulated(n_angles, n_cols)
            with bench.device() as device:
                tell("bandwidth")
                copies, rate = bench.copy_rates(device), gpu_passes.memory_rate(device)
                tell("passes")
                passes = gpu_passes.measure_passes(device, scan, block)
                _show(tables.passes_table(block, passes, rate, f"n = {n_cols}"))
                _show(tables.tune_table(block, gpu_passes.tune(device, scan, block, tell)))
                results = bench.compare(device, scan, n_rows, block, rounds or 5, progress=tell)
                work_s = gpu_passes.bounds_s(passes, rate, -(-n_rows // block))
                shape = (n_angles, n_rows, n_cols)
                _show(tables.gpu_table(shape, copies, work_s, results))
                device.release()
            tell("from a file")
            n_rows = min(n_rows, _FILE_ROWS)
            seconds = bench.from_file(scan, n_rows, folder)
            typer.echo(f"{n_rows} rows from a file to a file: {seconds:.2f} s")


@contextmanager
def _status() -> Iterator[Callable[[str], None]]:
    """Print the machine, and yield a function that shows what is being done."""
    from rich.console import Console

    from tomopipe_lab.bench.tables import machine

    typer.echo(machine())
    with Console(stderr=True).status("") as status:
        yield status.update


def _show(table: object) -> None:
    from rich.console import Console

    # a table in a file or a log is not cut to 80 columns
    console = Console()
    (console if console.is_terminal else Console(width=160)).print(table)
