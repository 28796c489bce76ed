"""`tomopipe convert`: volumes in another format, without reconstructing again."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from tomopipe.campaign.campaign import load_campaign
from tomopipe.campaign.files import STAR
from tomopipe.cli.options import CampaignOption, ConfigFile, DryRun
from tomopipe.cli.terminal import near, progress_bar
from tomopipe.commands.conversion import (
    MRC,
    convert_volume,
    find_volumes,
    plan_conversions,
)
from tomopipe.cost.disk import shown_size
from tomopipe.volumes.volume_read import clipped_text
from tomopipe.volumes.volume_store import FORMATS

Format = StrEnum("Format", ["mrc", "tiff", "zarr", "h5"])
Dtype = StrEnum("Dtype", ["float32", "float16", "uint16", "uint8"])


def convert(
    output_format: Annotated[
        Format, typer.Argument(metavar="FORMAT", help="mrc, tiff, zarr or h5.")
    ],
    scans: Annotated[
        list[str] | None,
        typer.Argument(help="Scans, or stacks of them.", show_default="all that have a volume"),
    ] = None,
    directory: CampaignOption = Path("."),
    config: ConfigFile = None,
    dtype: Annotated[
        Dtype | None, typer.Option(help="Number type.", show_default="that of the volume")
    ] = None,
    value_range: Annotated[
        tuple[float, float] | None,
        typer.Option(
            "--range", metavar="LOW HIGH", help="Values stored as 0 and as the largest integer."
        ),
    ] = None,
    dry_run: DryRun = False,
) -> None:
    """Write volumes in another format, beside those there are; nothing is reconstructed.

    mrc is SCAN_rec.mrc, float32 (x, detector row, y), which the set for RELION names; tiff
    SCAN_converted/, zarr SCAN_converted.zarr, h5 SCAN_converted.h5. With a range, or --dtype uint16
    or uint8, values are stored as value = offset + scale * stored; the range is found in each
    volume, unless --range says otherwise. What is there of the same volume is kept.

    Example: `tomopipe convert tiff --range -0.001 0.02`
    """
    campaign = load_campaign(directory, config)
    volumes = find_volumes(campaign, scans or [])
    if not volumes:
        typer.echo(f"No volume is in {near(campaign.results)} yet. Run: tomopipe run")
        return
    plan = plan_conversions(
        campaign, volumes, output_format,
        dtype=dtype and dtype.value,  # h5py writes no enumeration
        value_range=value_range,
    )  # fmt: skip
    todo = [conversion for conversion in plan if not conversion.is_there]
    with progress_bar(sum(conversion.shape[0] for conversion in todo)) as advance:
        for conversion in plan:
            what = "is there already" if conversion.is_there else "would be written"
            if conversion.is_there and not conversion.target.exists():
                what = "not needed"
            if conversion in todo and not dry_run:
                convert_volume(conversion, advance)
                what = "written"
            size = f"{shown_size(conversion.n_bytes)}{conversion.range_text}"
            typer.echo(f"{near(conversion.target)}, {size}: {what}")
            is_volume = not dry_run and conversion.output_format in FORMATS
            if is_volume and (clipped := clipped_text(conversion.target)):
                typer.echo(f"  {clipped} (--range sets another)")
    star = campaign.files.in_relion(STAR)
    if output_format == MRC and not dry_run and todo and star.exists():
        typer.echo("The set for RELION names them after the next `tomopipe run`.")
