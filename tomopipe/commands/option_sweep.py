"""One slice with several values of one option, for `tomopipe sweep`.

Each slice is made by full_recon from the rows it needs, and equals the slice of a volume with the
same options.
"""

import base64
import html
import io
import tempfile
from collections.abc import Sequence
from contextlib import chdir
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tomopipe.campaign.campaign import Campaign
from tomopipe.campaign.selection import refuse_unknown
from tomopipe.config import OverrideBlock, load_yaml, problems_of
from tomopipe.config.spans import check_place, first_and_last
from tomopipe.errors import TomopipeError
from tomopipe.paths import no_pipe
from tomopipe.reruns.foreign import keep_others
from tomopipe.resources.disk import known_cors
from tomopipe.resources.memory import Resources
from tomopipe.scans.exchange import RawScan
from tomopipe.steps.full_recon import full_recon
from tomopipe.storage.atomic import write_text
from tomopipe.volumes.tiff import write_stack

_WINDOW_PERCENT = (0.5, 99.5)
_MAX_SHOWN_PX = 700  # width of a picture on the page
# Slices are compared in float32, as computed: these options have no effect.
_STORED = {"output": "h5", "compression": "none", "dtype": "float32", "value_range": "auto"}

Image = NDArray[np.float32]


def sweep_option(
    campaign: Campaign,
    scan: str,
    key: str,
    values: Sequence[str],
    *,
    cor_px: float,
    row: int | None = None,
    dry_run: bool = False,
) -> tuple[Path, list[Image]]:
    """Reconstruct one slice with each of several values of an option, as in the configuration.

    `cor_px` is in unbinned pixels, `row` a detector row, by default the middle one of the
    campaign's full_recon.rows. `dry_run`: only check key, values, COR and row.

    Returns the page in results/sweep/<scan>/<key>, which lies beside sweep.tif, and the slices in
    the order of `values`.
    """
    refuse_unknown(campaign, [scan])
    variants = [_with(campaign, scan, key, value) for value in values]
    page, stack = campaign.files.option_sweep(scan, key)
    with chdir(campaign.directory):
        if row is None:
            # the same for all variants, also if the option is full_recon.rows
            rows = campaign.for_scan(scan).config.full_recon.rows
            n_rows = _raw(variants[0], scan).metadata().n_rows
            row = sum(first_and_last("full_recon.rows", rows, n_rows)) // 2
        rows_of = [_rows(variant, scan, cor_px, row) for variant in variants]
        if dry_run:
            return page, []
        pairs = zip(variants, rows_of, strict=True)
        slices = [_slice(variant, scan, cor_px, rows) for variant, rows in pairs]
    if len({image.shape for image in slices}) > 1:
        sizes = ", ".join(
            f"{v}: {i.shape[0]} x {i.shape[1]}" for v, i in zip(values, slices, strict=True)
        )
        raise TomopipeError(
            f"{key}: expected slices of one size, got {sizes}. Omit the values that change the "
            "size."
        )
    labels = [f"{key}={value}" for value in values]
    keep_others(
        page, is_made_here=lambda path: stack.name in no_pipe(path).read_text(errors="replace")
    )
    keep_others(stack)
    write_stack(slices, labels, stack, shape=slices[0].shape, dtype=np.float32)
    title = f"{scan}, row {row}, COR {cor_px:g} px: {key}"
    write_text(_page(title, labels, slices), page)
    return page, slices


def cor_px_of(campaign: Campaign, scan: str) -> float:
    """Return the COR of a scan: from the campaign table, or cor.json."""
    if (cor_px := known_cors(campaign).get(scan)) is None:
        raise TomopipeError(f"{scan}: no COR yet. Give one with --cor, or run the campaign.")
    return cor_px


def first_with_cor(campaign: Campaign) -> tuple[str, float]:
    """Return the first scan with a COR, and the COR; scans with `select: no` are skipped."""
    cors_px = known_cors(campaign)
    for scan, entry in campaign.scans.items():
        if entry.select != "no" and scan in cors_px:
            return scan, cors_px[scan]
    raise TomopipeError(
        f"{campaign.directory}: no scan has a COR yet. Run the campaign, or give --scan and --cor."
    )


def _with(campaign: Campaign, scan: str, key: str, value: str) -> Campaign:
    """Return the campaign of a scan with one option changed."""
    if key in {f"full_recon.{name}" for name in _STORED}:
        raise TomopipeError(
            f"{key}: only changes how a volume is stored; slices are compared in float32, where "
            "all would be equal. Set it in config.yaml, or sweep another key."
        )
    block, *names = key.split(".")
    if block not in ("input", "preprocess", "full_recon") or not names:
        raise TomopipeError(
            f"{key}: expected a key of input, preprocess or full_recon, such as full_recon.filter: "
            "no other has an effect on a slice. A scan follows --scan."
        )
    options = load_yaml(value, f"{key}: {value}")
    for name in reversed(names):
        options = {name: options}
    override = OverrideBlock(scans=[scan], **{block: options})
    for_scan = campaign.for_scan(scan)
    if problems := problems_of(for_scan.config, override):
        raise TomopipeError("\n".join(problems))
    config = for_scan.config.with_options(override).named_for(scan, campaign.scans[scan].series)
    return replace(for_scan, config=config)


def _raw(campaign: Campaign, scan: str) -> RawScan:
    """Return a scan read with exactly this configuration, without overrides."""
    config = campaign.config
    return RawScan(campaign.scans[scan].path, config.input, config.preprocess, partial=True)


def _rows(campaign: Campaign, scan: str, cor_px: float, row: int) -> list[int]:
    """Return the rows of the slice that contains a detector row; raise if row or COR are off."""
    full, detector = campaign.config.full_recon, _raw(campaign, scan).metadata()
    check_place(cor_px, 0, detector.n_cols - 1, detector.n_cols)
    start, end = first_and_last("full_recon.rows", full.rows, detector.n_rows)
    if not start <= row <= end:
        raise TomopipeError(
            f"{scan}: expected a row from {start} to {end}, got {row}. Give another with --row."
        )
    first = row - (row - start) % full.binning
    return [first, min(first + full.binning - 1, end)]


def _slice(campaign: Campaign, scan: str, cor_px: float, rows: list[int]) -> Image:
    """Reconstruct the slice of these detector rows."""
    import h5py

    options = campaign.config.full_recon.model_copy(update={"rows": rows} | _STORED)
    size_um = campaign.config.volume_pixel_size_um
    with tempfile.TemporaryDirectory(dir=campaign.config.storage.scratch) as folder:
        volume = Path(folder) / "slice.h5"
        full_recon(
            _raw(campaign, scan),
            volume,
            {"cor_px": cor_px},
            options,
            pixel_size_um=size_um,
            resources=Resources(),
            provenance=None,
            voxels_of=None,
        )
        with h5py.File(no_pipe(volume)) as file:
            return np.asarray(file["exchange/data"][0], dtype=np.float32)


def _page(title: str, labels: Sequence[str], slices: Sequence[Image]) -> str:
    """Return a page of all slices in one grey window."""
    low, high = (float(v) for v in np.percentile(np.stack(slices), _WINDOW_PERCENT))
    figures = "\n".join(
        f'<figure><img alt="{html.escape(label)}" src="data:image/png;base64,'
        f'{_png(image, low, high)}"><figcaption>{html.escape(label)}</figcaption></figure>'
        for label, image in zip(labels, slices, strict=True)
    )
    return (
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{html.escape(title)}'
        "</title>\n<style>body{font-family:sans-serif;background:#222;color:#eee}"
        "main{display:flex;flex-wrap:wrap;gap:1em}figure{margin:0}"
        "figcaption{padding:.3em 0}img{max-width:100%}</style>\n"
        f"<h1>{html.escape(title)}</h1>\n<p>Grey from {low:.4g} to {high:.4g}; "
        f"full size and values: sweep.tif.</p>\n<main>\n{figures}\n</main></html>\n"
    )


def _png(image: Image, low: float, high: float) -> str:
    from PIL import Image as Picture

    grey = np.clip((image - low) * (255 / max(high - low, 1e-30)), 0, 255).astype(np.uint8)
    picture = Picture.fromarray(grey)
    picture.thumbnail((_MAX_SHOWN_PX, _MAX_SHOWN_PX))
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode("ascii")
