"""Temporary files of accepted scans: the try stacks and stacks for RELION that may be removed."""

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tomopipe.campaign.campaign import Campaign
from tomopipe.campaign.results import volume_cor_px
from tomopipe.campaign.state.facts import ACCEPTED
from tomopipe.cor.cor_value import same_cor
from tomopipe.errors import TomopipeError
from tomopipe.reruns.failed_results import why_again
from tomopipe.storage.atomic import take_away

if TYPE_CHECKING:
    from tomopipe.report.records import ScanRecord

_RELION = "RELION stack"


class Temporary(NamedTuple):
    """A file that may be removed: `try stack`, `try slice`, `RELION stack` or `volume`."""

    kind: str
    path: Path
    n_bytes: int


def removable(campaign: Campaign, *, stacks: bool = True) -> list[Temporary]:
    """List the temporary files of accepted scans; `stacks`: also those for RELION."""
    stacks = stacks and not campaign.config.storage.keep_stacks
    results = []
    # before records are read, which takes time in a large campaign
    existing = {name: _of_scan(campaign, name, stacks=stacks) for name in campaign.scans}
    for scan in accepted_scans(campaign) if any(existing.values()) else ():
        files = existing[scan.name]
        results += [file for file in files if file.kind != _RELION or has_its_volume(scan)]
    return results


def _of_scan(campaign: Campaign, scan: str, *, stacks: bool) -> list[Temporary]:
    from tomopipe.volumes.tiff import is_ours, try_slice_paths

    files, config = campaign.files, campaign.for_scan(scan).config
    paths: list[tuple[str, Path]] = []
    keeps_try = config.storage.keep_try
    keeps_try = config.try_recon.format == "tiff" if keeps_try is None else keeps_try
    if not keeps_try and _has_images(campaign.paths.of_scan(scan)):
        slices = filter(is_ours, try_slice_paths(files.of_scan(scan)))
        paths += [("try stack", files.try_stack(scan)), *(("try slice", p) for p in slices)]
    if stacks:
        paths.append((_RELION, files.stack(scan)))
    return [
        Temporary(kind, path, path.lstat().st_size)
        for kind, path in paths
        if path.is_file() and not path.is_symlink()
    ]


def _has_images(folder: str) -> bool:
    """Tell in a moment whether a folder of a scan has images, which a finished one has lost."""
    with suppress(OSError):
        return any(".tif" in name for name in os.listdir(folder))
    return False


def remove(files: list[Temporary]) -> int:
    """Remove files; return the number of bytes freed."""
    for file in files:
        try:
            take_away(file.path)
        except OSError as error:
            raise TomopipeError(f"{file.path}: cannot be removed ({error})") from error
    return sum(file.n_bytes for file in files)


def accepted_scans(campaign: Campaign) -> "list[ScanRecord]":
    """List the scans whose COR was set by hand, or predicted, accepted and not replaced."""
    from tomopipe.report.collected_records import collect_scans  # slow to load

    return [
        scan
        for scan in collect_scans(campaign, why=why_again(campaign))
        if scan.name in campaign.scans
        and scan.state in ACCEPTED
        and not (scan.failures or scan.is_edited)
        # not that of an earlier prediction: a run that failed decides on none
        and (scan.source == "manual" or _has_own_cor(scan))
    ]


def _has_own_cor(scan: "ScanRecord") -> bool:
    """Tell whether a scan has the COR of its prediction, by cor.json or so far by its series."""
    cor_px = scan.fix.after_px if scan.cor_px is None and scan.fix else scan.cor_px
    return scan.prediction is not None and same_cor(cor_px, scan.prediction.cor_px)


def has_its_volume(scan: "ScanRecord") -> bool:
    """Tell whether the volume of a scan exists and was made at its COR."""
    if scan.volume is None or scan.cor_px is None:
        return False
    return same_cor(volume_cor_px(scan.volume), scan.cor_px)
