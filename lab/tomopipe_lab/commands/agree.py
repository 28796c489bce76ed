"""`tomopipe lab agree`: slices of one sinogram by tomopipe and by other packages, side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tomopipe.errors import TomopipeError
from tomopipe.storage.atomic import whole, write_text


def agree(
    scans: Annotated[
        list[Path] | None,
        typer.Argument(metavar="SCAN...", help="Scans; without any only a phantom."),
    ] = None,
    row: Annotated[
        int | None, typer.Option(min=0, help="Detector row.", show_default="the middle")
    ] = None,
    cor_px: Annotated[
        float | None,
        typer.Option("--cor", metavar="PX", help="COR of the scans.", show_default="found"),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The page; its slices as a PNG beside it.")
    ] = Path("agree.html"),
    against: Annotated[
        list[str] | None,
        typer.Option(help="Only packages whose name contains this; repeat for more."),
    ] = None,
) -> None:
    """Compare slices by tomopipe, ASTRA, algotom, scikit-image and others where installed.

    One page: the slices of a known phantom and of your scans, their differences, how far any two
    are apart (RMS in percent), and where each package puts the axis (to 0.01 px).

    Examples: `tomopipe lab agree tooth.h5`, `tomopipe lab agree raw/a_1.h5 --cor 1023.4`
    """
    from tomopipe_lab.bench import agreement
    from tomopipe_lab.bench.agreement_page import agreement_rows, montage, page
    from tomopipe_lab.bench.engines import ENGINES, OURS
    from tomopipe_lab.bench.tables import machine

    engines = [
        engine
        for engine in ENGINES
        if engine is OURS or not against or any(each in engine.name for each in against)
    ]
    missing = {engine.name: why for engine in engines if (why := engine.missing())}
    engines = [engine for engine in engines if engine.name not in missing]
    if len(engines) < 2:
        lacking = ", ".join(f"{name} ({why})" for name, why in missing.items()) or "none asked for"
        raise TomopipeError(
            f"nothing to compare with: {lacking}. `pip install './lab[peers]'` in a checkout "
            "brings some."
        )

    def say(text: str) -> None:
        typer.echo(text, err=True)

    data = [agreement.phantom()]
    data += [agreement.data_set(str(path), row, cor_px) for path in scans or ()]
    results = [agreement.compare(each, engines, say) for each in data]
    offsets_px = {}
    for engine in engines:
        say(f"axis: {engine.name}")
        offsets_px[engine.name] = agreement.offsets_px(engine)
    write_text(page(results, offsets_px, missing, machine()), output)
    with whole(output.with_suffix(".png")) as temporary:
        montage(results).save(temporary, "PNG")
    for name, why in missing.items():
        typer.echo(f"{name}: {why}")
    for name, (on_px, off_px) in offsets_px.items():
        typer.echo(f"{name}: axis within {on_px:.4f} px, objects off it within {off_px:.4f} px")
    for result in results:
        head, rows = agreement_rows(result)
        typer.echo(f"\n{result.data.name}")
        for cells in (head, *rows):
            typer.echo("\t".join(cells))
    typer.echo(f"\n{output}")
