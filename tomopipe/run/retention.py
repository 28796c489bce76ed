"""Files that a campaign declares temporary, removable once their scan is accepted."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tomopipe.campaign.campaign import Campaign
from tomopipe.campaign.results import volume_cor_px
from tomopipe.campaign.state import ACCEPTED, NOT_SELECTED, State
from tomopipe.errors import TomopipeError
from tomopipe.groups import grouped
from tomopipe.report.collected_records import collect
from tomopipe.report.records import ScanRecord

_SAME_PX = 1e-6


@dataclass(frozen=True)
class Temporary:
    """A file that may be removed."""

    # name of the scan; `try stack`, `try slice` or `RELION stack`
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


def remove(files: list[Temporary]) -> int:
    """Remove files; return the bytes that became free."""
    for file in files:
        try:
            file.path.unlink(missing_ok=True)
        except OSError as error:
            raise TomopipeError(f"{file.path}: cannot be removed ({error})") from error
    return sum(file.n_bytes for file in files)


def accepted_scans(campaign: Campaign) -> list[str]:
    """Name the scans that need no more attention.

    Their COR was set by hand, or predicted, accepted without doubts and not replaced; their volume
    exists and was made at that COR.
    """
    return [scan for scan, why in _reasons(campaign).items() if not why]


def unaccepted_scans(campaign: Campaign) -> dict[str, list[str]]:
    """Name the scans that are not accepted, by reason, such as `doubtful`."""
    return grouped((why, scan) for scan, why in _reasons(campaign).items() if why)


def _reasons(campaign: Campaign) -> dict[str, str]:
    """Say for each scan why it is not accepted; "" if it is."""
    record = collect(campaign)
    return {scan.name: _why_not(scan) for scan in record.scans if scan.name in campaign.scans}


def _why_not(scan: ScanRecord) -> str:
    """Return the first reason why a scan is not accepted, or nothing."""
    reasons = (
        (scan.state, scan.state in NOT_SELECTED),
        ("failed", bool(scan.failures) or scan.state is State.FAILED),
        ("without a COR", scan.cor_px is None),
        ("edited since the run", scan.is_edited),
        (scan.state, scan.state not in ACCEPTED),
        ("without a volume", scan.volume is None),
    )
    why = next((why for why, is_so in reasons if is_so), "")
    if why or scan.volume is None or scan.cor_px is None:
        return why
    # last, as it opens the volume
    return "" if _made_at(scan.volume, scan.cor_px) else "with a volume of another COR"


def _made_at(volume: Path, cor_px: float) -> bool:
    """Tell whether a volume was made at a COR; False if it does not state one."""
    made_px = volume_cor_px(volume)
    return made_px is not None and abs(made_px - cor_px) < _SAME_PX


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
