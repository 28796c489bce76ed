"""`tomopipe clean`, `convert` and `verify`: the files that a campaign has made."""

from collections import Counter
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import DownloadColumn

from tomopipe.campaign.campaign import load_campaign
from tomopipe.campaign.files import STAR
from tomopipe.campaign.results import present_inventory
from tomopipe.campaign.selection import scans_of
from tomopipe.cli.options import CampaignOption, ConfigFile, Directory, DryRun, campaign_and_scans
from tomopipe.cli.terminal import near, progress_bar
from tomopipe.commands.clean import clean_files, files_to_clean
from tomopipe.commands.conversion import MRC, convert_volume, find_volumes, plan_conversions
from tomopipe.commands.slice_pictures import (
    PERCENTILES,
    PNG,
    Look,
    SlicePicture,
    plan_pictures,
    write_picture,
)
from tomopipe.commands.verify import OTHER_TIME, damaged, recorded
from tomopipe.errors import TomopipeError, some_of
from tomopipe.relion.relion_set import failed_stacks
from tomopipe.resources.disk import shown_size
from tomopipe.run.temporary_files import accepted_scans
from tomopipe.volume_formats import FORMATS
from tomopipe.volumes.volume_read import clipped_text


def verify(
    directory: Directory = Path("."),
    config: ConfigFile = None,
    deep: Annotated[bool, typer.Option("--deep", help="Compare checksums of all results.")] = False,
    threads: Annotated[int, typer.Option(min=1, help="Reading threads.")] = 4,
) -> None:
    """Compare the results on disk with the recorded checksums.

    Sizes and times are compared (TIFF and OME-Zarr: sizes), in seconds, and the content of results
    that have another time, as after a copy; with --deep, every byte.
    Use it after a restored backup, a full disk, a crash or a copy. Delete a result with another
    size or content: the next run makes it again.
    Exit status: 0 all equal, 1 something differs.

    Example: `tomopipe verify mycampaign --deep`
    """
    campaign = load_campaign(directory, config, needs_raw=False)
    products = recorded(campaign)
    if not products:
        typer.echo(f"No results are recorded in {campaign.results}.")
        return
    n_damaged, n_bytes = 0, sum(product.n_bytes for product in products)
    of_other_time = []
    with progress_bar(n_bytes, DownloadColumn()) as advance:
        changed = damaged(campaign.directory, products, advance, deep=deep, threads=threads)
        for product, what in changed:
            if what == OTHER_TIME:
                of_other_time.append(product.path)
                continue
            typer.echo(f"{product.path}: {what}")
            n_damaged += 1
    if n_damaged:
        typer.echo("Delete what differs: the next `tomopipe run` makes it again")
    if of_other_time:
        n_others = f"{len(of_other_time)} results, " * (len(of_other_time) > 1)
        typer.echo(f"{n_others}{some_of(of_other_time, 3)}: {OTHER_TIME}")
    how = "read and compared" if deep else "compared by size and time (TIFF and OME-Zarr by size)"
    and_times = f", {len(of_other_time)} have another time" * bool(of_other_time)
    typer.echo(
        f"{len(products)} results, {shown_size(n_bytes)}, {how}: {n_damaged} differ{and_times}"
    )
    if deep and (without := sum(not product.checksum for product in products)):
        typer.echo(f"{without} have no recorded checksum: only their sizes were compared")
    selected = [scan for scan, entry in campaign.scans.items() if entry.select != "no"]
    for scan, reason in failed_stacks(campaign, selected).items():
        typer.echo(f"{scan}: no stack for RELION was made: {reason}")
    if n_damaged or of_other_time:
        raise typer.Exit(1)


def clean(
    directory: Directory = Path("."),
    config: ConfigFile = None,
    dry_run: DryRun = False,
    gone: Annotated[
        bool,
        typer.Option(
            "--gone",
            help="Instead remove volumes, converted ones and stacks of scans no longer in the "
            "campaign, and volumes in another format than full_recon.output; pictures stay.",
        ),
    ] = False,
) -> None:
    """Remove try stacks, and temporary stacks for RELION, of accepted scans.

    Runs remove try stacks when they end, unless `storage.keep_try: yes`; `storage.keep_stacks: no`
    makes stacks temporary. A scan is accepted when its COR needs no review; a stack goes only
    where the volume was made with it. The next run does not make the files again; the review page
    makes slices from rows.h5.

    Example: `tomopipe clean mycampaign -n`
    """
    campaign = load_campaign(directory, config)
    files = files_to_clean(campaign, gone=gone)
    for file in files:
        typer.echo(file.path.relative_to(campaign.directory))
    n_bytes = (
        sum(file.n_bytes for file in files) if dry_run else clean_files(campaign, files, gone=gone)
    )
    kinds = Counter(file.kind for file in files)
    counts = (f"{n} {kind}{'s' * (n != 1)}" for kind, n in sorted(kinds.items()))
    did = "would be removed" if dry_run else "removed"
    removed = f"{', '.join(counts)}, {shown_size(n_bytes)}: {did}"
    typer.echo(removed if files else "Nothing to remove.")
    if not (files or gone):
        selected = campaign.selected_scans(present_inventory(campaign.files.inventory))
        if n := len({*selected} - {scan.name for scan in accepted_scans(campaign)}):
            typer.echo(f"{n} of {len(selected)} scans are not accepted; see tomopipe cor list.")
        if n and not campaign.files.cor_table.exists():
            typer.echo("A prediction counts once a run has compared its series.")


Format = StrEnum("Format", [MRC, *FORMATS, PNG])  # type: ignore[misc]
Dtype = StrEnum("Dtype", ["float32", "float16", "uint16", "uint8"])


def convert(
    context: typer.Context,
    output_format: Annotated[
        Format, typer.Argument(metavar="FORMAT", help=f"{', '.join(Format)}.")
    ],
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="CAMPAIGN SCAN",
            help="Campaign folder, scans or stitched stacks (names or 'patterns').",
            show_default="this folder, all that have a volume",
        ),
    ] = None,
    directory: CampaignOption = Path("."),
    config: ConfigFile = None,
    dtype: Annotated[
        Dtype | None,
        typer.Option(help="Number type.", show_default="that of the volume; with --range uint16"),
    ] = None,
    value_range: Annotated[
        tuple[float, float] | None,
        typer.Option(
            "--range",
            metavar="LOW HIGH",
            help="Values stored as 0 and the largest integer; of a PNG those of black and white.",
        ),
    ] = None,
    slices: Annotated[
        list[str] | None,
        typer.Option(
            "--slice",
            metavar="PLANE:VOXEL",
            help="PNG: a slice, such as xy:700, xz or yz (the middle). May be repeated.",
            show_default="xy",
        ),
    ] = None,
    percentiles: Annotated[
        tuple[float, float] | None,
        typer.Option(
            metavar="LOW HIGH",
            help="PNG: percentiles of a slice that are black and white.",
            show_default=f"{PERCENTILES[0]} {PERCENTILES[1]}",
        ),
    ] = None,
    bar_um: Annotated[
        float | None,
        typer.Option(
            "--bar",
            metavar="UM",
            help="PNG: length of the scale bar (micrometres), 0: none.",
            show_default="a round one",
        ),
    ] = None,
    dry_run: DryRun = False,
) -> None:
    """Write volumes in another format beside the existing ones, without reconstructing.

    Written are SCAN_rec.mrc (mrc: float32, axes x, detector row, y, for RELION), SCAN_converted/
    (tiff), SCAN_converted.zarr (zarr: OME-Zarr 0.5, zarr2: 0.4) or SCAN_converted.h5. For integers,
    value = offset + scale * stored; without --range each volume has its own range. Up-to-date
    conversions are skipped. A SCAN may also be a stitched stack.

    FORMAT png draws slices with a scale bar, SCAN_xy_0700.png, for slides and papers.

    Examples: `tomopipe convert tiff --range -0.001 0.02`, `tomopipe convert mrc 'rock_*'`,
    `tomopipe convert png rock_001 --slice xy:700 --slice xz`
    """
    directory, names = campaign_and_scans(context, words or [], directory, config)
    campaign = load_campaign(directory, config)
    volumes = find_volumes(campaign)
    if names:
        names = scans_of(campaign, names, [*campaign.config.stitch.names, *campaign.scans])
        lacking = [name for name in names if name not in volumes]
        volumes = find_volumes(campaign, [name for name in names if name in volumes] or names)
        for name in lacking:
            typer.echo(f"left out: {name} has no volume yet")
    else:
        in_time = campaign.config.stitch.time
        volumes = {name: path for name, path in volumes.items() if name not in in_time}
    if not volumes:
        typer.echo(f"No volumes in {near(campaign.results)} yet. Run: tomopipe run")
        return
    if output_format == PNG:
        if dtype:
            raise TomopipeError(f"--dtype {dtype.value}: PNG has 8 bits. Omit it.")
        look = Look(value_range, percentiles or PERCENTILES, bar_um)
        return _draw(plan_pictures(campaign, volumes, slices or (), look), dry_run=dry_run)
    if slices or percentiles or bar_um is not None:
        raise TomopipeError("--slice, --percentiles, --bar: only for `tomopipe convert png`.")
    plan = plan_conversions(
        campaign, volumes, output_format,
        dtype=dtype and dtype.value,  # h5py writes no enumeration
        value_range=value_range,
    )  # fmt: skip
    todo = [conversion for conversion in plan if not conversion.is_current]
    with progress_bar(sum(conversion.shape[0] for conversion in todo)) as advance:
        for conversion in plan:
            what = "up to date" if conversion.is_current else "would be written"
            if conversion.is_current and not conversion.target.exists():
                what = "not needed"
            if conversion in todo and not dry_run:
                convert_volume(conversion, advance)
                what = "written"
            size = f"{shown_size(conversion.n_bytes)}{conversion.range_text}"
            typer.echo(f"{near(conversion.target)}, {size}: {what}")
            is_volume = not dry_run and conversion.output_format in FORMATS
            if is_volume and (clipped := clipped_text(conversion.target)):
                typer.echo(f"  {clipped} (set another with --range)")
    star = campaign.files.in_relion(STAR)
    if output_format == MRC and not dry_run and todo and star.exists():
        typer.echo("The next `tomopipe run` adds them to the set for RELION.")


def _draw(pictures: list[SlicePicture], *, dry_run: bool) -> None:
    for picture in pictures:
        what = "up to date" if picture.is_current else "would be written"
        if not (picture.is_current or dry_run):
            what = write_picture(picture)
        typer.echo(f"{near(picture.target)}: {what}")
