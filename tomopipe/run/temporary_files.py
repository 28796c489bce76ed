"""Temporary files of accepted scans: the try stacks and stacks for RELION that may be removed."""

from pathlib import Path
from typing import NamedTuple

from tomopipe.campaign.campaign import Campaign
from tomopipe.campaign.results import volume_cor_px
from tomopipe.campaign.state.facts import ACCEPTED
from tomopipe.cor.cor_value import same_cor
from tomopipe.errors import TomopipeError
from tomopipe.reruns.staleness import why_again
from tomopipe.storage.atomic import take_away


class Temporary(NamedTuple):
    """A file that may be removed: `try stack`, `try slice`, `RELION stack` or `volume`."""

    kind: str
    path: Path
    n_bytes: int


def removable(campaign: Campaign, *, stacks: bool = True) -> list[Temporary]:
    """List the temporary files of accepted scans; `stacks`: also those for RELION."""
    from tomopipe.volumes.tiff import is_ours, try_slice_paths

    storage, files = campaign.config.storage, campaign.files
    try_stacks, stacks = not storage.keep_try, stacks and not storage.keep_stacks
    paths: list[tuple[str, Path]] = []
    for scan in accepted_scans(campaign) if try_stacks or stacks else ():
        if try_stacks:
            slices = filter(is_ours, try_slice_paths(files.of_scan(scan)))
            paths += [("try stack", files.try_stack(scan)), *(("try slice", p) for p in slices)]
        if stacks:
            paths.append(("RELION stack", files.stack(scan)))
    return [
        Temporary(kind, path, path.lstat().st_size)
        for kind, path in paths
        if path.is_file() and not path.is_symlink()
    ]


def remove(files: list[Temporary]) -> int:
    """Remove files; return the number of bytes freed."""
    for file in files:
        try:
            take_away(file.path)
        except OSError as error:
            raise TomopipeError(f"{file.path}: cannot be removed ({error})") from error
    return sum(file.n_bytes for file in files)


def accepted_scans(campaign: Campaign) -> list[str]:
    """List the scans that need no more attention.

    Their COR was set by hand, or predicted, accepted without doubts and not replaced; their volume
    exists and was made at that COR.
    """
    from tomopipe.report.collected_records import collect  # slow to load

    return [
        scan.name
        for scan in collect(campaign, why=why_again(campaign)).scans
        if scan.name in campaign.scans
        and scan.state in ACCEPTED
        and not (scan.failures or scan.is_edited or scan.volume is None or scan.cor_px is None)
        and same_cor(volume_cor_px(scan.volume), scan.cor_px)  # last, as it opens the volume
    ]
