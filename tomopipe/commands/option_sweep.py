"""One slice with several values of one option, or of two as a grid, for `tomopipe sweep`.

Each slice is made by full_recon from the rows it needs, and equals the slice of a volume with the
same options.
"""

import base64
import html
import io
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import chdir
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomopipe.campaign.campaign import Campaign
from tomopipe.campaign.results import ROLL
from tomopipe.campaign.selection import refuse_unknown, why_none_yet
from tomopipe.config import (
    FullReconBlock,
    InputBlock,
    OverrideBlock,
    PreprocessBlock,
    load_yaml,
    problems_of,
)
from tomopipe.config.spans import check_place, first_and_last, with_spans
from tomopipe.errors import TomopipeError
from tomopipe.paths import no_pipe
from tomopipe.reruns.foreign import keep_others
from tomopipe.resources.disk import known_cors
from tomopipe.resources.memory import Resources
from tomopipe.scans.exchange import RawScan
from tomopipe.steps.full_recon import full_recon
from tomopipe.storage.atomic import write_json, write_text
from tomopipe.storage.json_files import json_or, number
from tomopipe.volumes.tiff import write_stack

_WINDOW_PERCENT = (0.5, 99.5)
_BLOCKS: Mapping[str, Any] = {
    "input": InputBlock,
    "preprocess": PreprocessBlock,
    "full_recon": FullReconBlock,
}
_MOST_KEYS = 2
_LEAST_SHOWN_PX, _MAX_SHOWN_PX = 420, 700  # the longer side of a picture on the page
# Slices are compared in float32, as computed: these options have no effect.
_STORED = {"output": "h5", "compression": "none", "dtype": "float32", "value_range": "auto"}

Image = NDArray[np.float32]


def keys_and_values(words: Sequence[str]) -> dict[str, list[str]]:
    """Return the values of each key among the words of a command: KEY VALUES [KEY2 VALUES2].

    The first word is a key; a later one is if it names an option of input, preprocess or
    full_recon. `10..150 20` are values as in `with_spans`.
    """
    starts = [at for at, word in enumerate(words) if at == 0 or _is_key(word)]
    ends = [*starts[1:], len(words)]
    keys = [words[at] for at in starts]
    if len(set(keys)) < len(keys) or len(keys) > _MOST_KEYS:
        raise TomopipeError(f"{' '.join(keys)}: expected one key, or two different ones.")
    result = {
        words[at]: with_spans(words[at + 1 : end]) for at, end in zip(starts, ends, strict=True)
    }
    if missing := [key for key, values in result.items() if not values]:
        raise TomopipeError(f"{missing[0]}: expected values after this key.")
    return result


def _is_key(word: str) -> bool:
    block, *names = word.split(".")
    return block in _BLOCKS and bool(names) and names[0] in _BLOCKS[block].model_fields


def sweep_option(
    campaign: Campaign,
    scan: str,
    values: Mapping[str, Sequence[str]],
    *,
    cor_px: float,
    row: int | None = None,
    dry_run: bool = False,
) -> tuple[Path, list[Image]]:
    """Reconstruct one slice with each of several values of an option, as in the configuration.

    `values` are those of each key, one or two; of two each value with each. `cor_px` is in unbinned
    pixels, `row` a detector row, by default the middle one of the campaign's full_recon.rows.
    `dry_run`: only check keys, values, COR and row.

    Returns the page in results/sweep/<scan>/<keys>, which lies beside sweep.tif, and the slices in
    the order of the values, the last key's first.
    """
    refuse_unknown(campaign, [scan])
    choices = [dict(zip(values, each, strict=True)) for each in product(*values.values())]
    variants = [_with(campaign, scan, choice) for choice in choices]
    page, stack, about = campaign.files.option_sweep(scan, "+".join(values))
    with chdir(campaign.directory):
        raw = _raw(variants[0], scan).metadata()
        if row is None:
            # the same for all variants, also if the option is full_recon.rows
            rows = campaign.for_scan(scan).config.full_recon.rows
            row = (sum(first_and_last("full_recon.rows", rows, raw.n_rows)) + 1) // 2
        rows_of = [_rows(variant, scan, cor_px, row) for variant in variants]
        if dry_run:
            return page, []
        pairs = zip(variants, rows_of, strict=True)
        slices = [_slice(variant, scan, cor_px, rows) for variant, rows in pairs]
    labels = [", ".join(f"{key}={value}" for key, value in each.items()) for each in choices]
    _refuse_sizes(values, choices, slices)
    keep_others(
        page, is_made_here=lambda path: stack.name in no_pipe(path).read_text(errors="replace")
    )
    keep_others(stack)
    write_stack(slices, labels, stack, shape=slices[0].shape, dtype=np.float32)
    low, high = (float(v) for v in np.percentile(np.stack(slices), _WINDOW_PERCENT))
    size_um = campaign.for_scan(scan).config.volume_pixel_size_um or raw.pixel_size_um
    binning = {variant.config.full_recon.binning for variant in variants}
    facts = {
        "keys": list(values),
        "values": [list(each) for each in values.values()],  # of each key
        "shape": slices[0].shape,
        "row": row,
        "cor_px": cor_px,
        "window": [low, max(high, low + 1e-30)],
        # with several binnings the slices would not have one size
        "pixel_size_um": size_um and size_um * binning.pop(),
        "units": campaign.for_scan(scan).config.full_recon.unit,
    }
    write_json(facts, about)
    title = f"{scan}, row {row}, COR {cor_px:g} px: {' and '.join(values)}"
    write_text(_page(title, labels, slices, (low, high), len([*values.values()][-1])), page)
    return page, slices


def _refuse_sizes(
    values: Mapping[str, Sequence[str]], choices: Sequence[Mapping[str, str]], slices: list[Image]
) -> None:
    """Raise if the slices have several sizes."""
    if len({image.shape for image in slices}) > 1:
        sizes = ", ".join(
            f"{' '.join(choice.values())}: {image.shape[0]} x {image.shape[1]}"
            for choice, image in zip(choices, slices, strict=True)
        )
        raise TomopipeError(
            f"{' '.join(values)}: expected slices of one size, got {sizes}. Omit the values that "
            "change the size."
        )


def cor_px_of(campaign: Campaign, scan: str) -> float:
    """Return the COR of a scan: from the campaign table, or cor.json."""
    if (cor_px := known_cors(campaign).get(scan)) is None:
        raise TomopipeError(
            f"{scan}: {why_none_yet(campaign, scan, 'COR')}; or give one with --cor"
        )
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


def _with(campaign: Campaign, scan: str, choice: Mapping[str, str]) -> Campaign:
    """Return the campaign of a scan with some options changed."""
    for_scan = campaign.for_scan(scan)
    overrides = [_override(scan, key, value) for key, value in choice.items()]
    config = for_scan.config
    for override in overrides:
        if problems := problems_of(config, override):
            raise TomopipeError("\n".join(problems))
        config = config.with_options(override)
    return replace(for_scan, config=config.named_for(scan, campaign.scans[scan].series))


def _override(scan: str, key: str, value: str) -> OverrideBlock:
    if key in {f"full_recon.{name}" for name in _STORED}:
        raise TomopipeError(
            f"{key}: only changes how a volume is stored; slices are compared in float32, where "
            "all would be equal. Set it in config.yaml, or sweep another key."
        )
    block, *names = key.split(".")
    if block not in _BLOCKS or not names:
        raise TomopipeError(
            f"{key}: expected a key of input, preprocess or full_recon, such as full_recon.filter: "
            "no other has an effect on a slice. A scan follows --scan."
        )
    options = load_yaml(value, f"{key}: {value}")
    for name in reversed(names):
        options = {name: options}
    return OverrideBlock(scans=[scan], **{block: options})


def _raw(campaign: Campaign, scan: str) -> RawScan:
    """Return a scan read with exactly this configuration, without overrides."""
    config = campaign.config
    roll_deg = number(json_or(campaign.paths.sweep(scan), {}).get(ROLL)) or 0.0
    preprocess = config.preprocess.with_roll(roll_deg)
    return RawScan(campaign.scans[scan].path, config.input, preprocess, partial=True)


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


def _page(
    title: str,
    labels: Sequence[str],
    slices: Sequence[Image],
    window: tuple[float, float],
    n_columns: int,
) -> str:
    """Return a page of all slices in one grey window, the values of the last key beside."""
    low, high = window
    figures = "\n".join(
        f'<figure><img alt="{html.escape(label)}" src="data:image/png;base64,'
        f'{_png(image, low, high)}"><figcaption>{html.escape(label)}</figcaption></figure>'
        for label, image in zip(labels, slices, strict=True)
    )
    is_grid = n_columns < len(slices)
    longest_px = max(slices[0].shape)
    is_small = longest_px < _LEAST_SHOWN_PX
    shown_px = min(max(longest_px, _LEAST_SHOWN_PX), _MAX_SHOWN_PX)
    width = f"{round(slices[0].shape[1] * shown_px / longest_px)}px"
    width, pixels = (
        (f"min({width},40vw)", ";image-rendering:pixelated") if is_small else (width, "")
    )
    main = f"display:grid;grid-template-columns:repeat({n_columns},minmax(0,{width}))"
    return (
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{html.escape(title)}'
        "</title>\n<style>body{font-family:sans-serif;background:#222;color:#eee}"
        f"main{{{main if is_grid else 'display:flex;flex-wrap:wrap'};gap:1em}}"
        f"figure{{margin:0;width:{width};max-width:100%}}img{{width:100%{pixels}}}"
        "figcaption{padding:.3em 0;overflow-wrap:anywhere}</style>\n"
        f"<h1>{html.escape(title)}</h1>\n<p>Grey from {low:.4g} to {high:.4g}; "
        "full size and values: sweep.tif. Linked zoom, and two side by side: tomopipe review, "
        f"Sweeps.</p>\n<main>\n{figures}\n</main></html>\n"
    )


def _png(image: Image, low: float, high: float) -> str:
    from PIL import Image as Picture

    grey = np.clip((image - low) * (255 / max(high - low, 1e-30)), 0, 255).astype(np.uint8)
    picture = Picture.fromarray(grey)
    picture.thumbnail((_MAX_SHOWN_PX, _MAX_SHOWN_PX))
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode("ascii")
