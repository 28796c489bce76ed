"""The slices of `tomopipe sweep` for the browser."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tomopipe.campaign.campaign import Campaign
from tomopipe.errors import TomopipeError
from tomopipe.paths import no_pipe
from tomopipe.report.thumbnails import binned
from tomopipe.review.scan_images import Grey, grey16
from tomopipe.storage.json_files import json_or


def sweep_views(campaign: Campaign) -> list[dict[str, Any]]:
    """Return all sweeps over options, by scan: keys, their values, and what the slices are."""
    return [
        facts | {"scan": scan, "version": str(stack.stat().st_mtime_ns)}
        for scan in campaign.scans
        for stack, facts in _sweeps(campaign, scan)
    ]


def _sweeps(campaign: Campaign, scan: str) -> Iterator[tuple[Path, dict[str, Any]]]:
    for folder in sorted(campaign.files.option_sweeps(scan).glob("*")):
        _, stack, about = campaign.files.option_sweep(scan, folder.name)
        if (facts := json_or(about, {})) and stack.is_file():
            yield stack, facts | {"name": folder.name}


def sweep_slice(campaign: Campaign, scan: str, name: str, number: int, factor: int) -> Grey:
    """Return one slice of a sweep, averaged over `factor` pixels, with the window of all."""
    import tifffile

    sweeps = {facts["name"]: (stack, facts) for stack, facts in _sweeps(campaign, scan)}
    if name not in sweeps:
        raise TomopipeError(f"{scan}: no sweep {name[:99]!r}; `tomopipe sweep` makes one.")
    stack, facts = sweeps[name]
    try:
        pages: np.ndarray = tifffile.memmap(no_pipe(stack), mode="r")
    except (ValueError, IndexError) as error:
        raise TomopipeError(f"{stack}: expected a stack of slices ({error}).") from None
    pages = pages.reshape(-1, *pages.shape[-2:])
    if not number < len(pages):
        raise TomopipeError(f"{stack}: expected a slice from 0 to {len(pages) - 1}, got {number}.")
    image = np.array(pages[number], dtype=np.float32)
    factor = min(factor, *image.shape)
    return grey16(binned(image, factor) if factor > 1 else image, facts["window"])
