"""Files that a campaign declares temporary, or of scans that it no longer has."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tomopipe.campaign.campaign import Campaign
from tomopipe.campaign.files import STACK, VOLUMES
from tomopipe.campaign.results import volume_cor_px
from tomopipe.campaign.state import ACCEPTED
from tomopipe.cor.cor_value import same_cor
from tomopipe.errors import TomopipeError
from tomopipe.report.collected_records import collect
from tomopipe.report.records import ScanRecord
from tomopipe.reruns.made_again import why_again
from tomopipe.storage.atomic import take_away
from tomopipe.storage.checksums import quick_state


@dataclass(frozen=True)
class Temporary:
    """A file that may be removed."""

    # name of the scan; `try stack`, `try slice`, `RELION stack` or `volume`
    scan: str
    kind: str
    path: Path  # the file
    n_bytes: int  # its size


def removable(campaign: Campaign, *, stacks: bool = True) -> list[Temporary]:
    """List the temporary files of accepted scans; `stacks`: also those for RELION."""
    storage = campaign.config.storage
    try_stacks, stacks = not storage.keep_try, stacks and not storage.keep_stacks
    if not (try_stacks or stacks):
        return []
    return [
        Temporary(scan, kind, path, path.lstat().st_size)
        for scan in accepted_scans(campaign)
        for kind, path in _files(campaign, scan, try_stacks=try_stacks, stacks=stacks)
        if path.is_file() and not path.is_symlink()
    ]


def of_gone_scans(campaign: Campaign) -> list[Temporary]:
    """List volumes and stacks for RELION of scans that are not in the campaign, as if renamed.

    And volumes of another format than the one that a scan has now: no run makes them again.
    """
    scans = {scan.name for scan in (*campaign.scans.values(), *campaign.refused)}

    def is_left(scan: str, path: Path, kind: str) -> bool:
        if scan not in scans:
            return True
        if kind != "volume" or scan not in campaign.scans:
            return False
        target = campaign.directory / campaign.volume(scan)
        return path != target and target.exists()

    places = [(campaign.results, ending, "volume") for ending in VOLUMES.values()]
    places.append((campaign.files.stack("").parent, STACK, "RELION stack"))
    return [
        Temporary(scan, kind, path, (quick_state(path) or (0,))[0])
        for folder, ending, kind in places
        for path in sorted(folder.glob(f"*{ending}"))
        if is_left(scan := path.name.removesuffix(ending), path, kind)
        and (kind != "volume" or volume_cor_px(path) is not None)  # it is none of others
    ]


def remove(files: list[Temporary]) -> int:
    """Remove files; return the bytes that became free."""
    for file in files:
        try:
            take_away(file.path)
        except OSError as error:
            raise TomopipeError(f"{file.path}: cannot be removed ({error})") from error
    return sum(file.n_bytes for file in files)


def accepted_scans(campaign: Campaign) -> list[str]:
    """Name the scans that need no more attention.

    Their COR was set by hand, or predicted, accepted without doubts and not replaced; their volume
    exists and was made at that COR.
    """
    record = collect(campaign, why=why_again(campaign))
    return [
        scan.name for scan in record.scans if scan.name in campaign.scans and _is_accepted(scan)
    ]


def _is_accepted(scan: ScanRecord) -> bool:
    if scan.state not in ACCEPTED or scan.failures or scan.is_edited:
        return False
    if scan.volume is None or scan.cor_px is None:
        return False
    return same_cor(volume_cor_px(scan.volume), scan.cor_px)  # last, as it opens the volume


def _files(
    campaign: Campaign, scan: str, *, try_stacks: bool, stacks: bool
) -> Iterator[tuple[str, Path]]:
    from tomopipe.volumes.tiff import is_ours, try_slice_paths

    if try_stacks:
        yield "try stack", campaign.files.try_stack(scan)
        for path in filter(is_ours, try_slice_paths(campaign.files.of_scan(scan))):
            yield "try slice", path
    if stacks:
        yield "RELION stack", campaign.files.stack(scan)
