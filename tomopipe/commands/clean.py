"""Files that `tomopipe clean` removes: temporary ones, or what was made of scans now gone."""

import os
from collections.abc import Iterable
from itertools import product
from pathlib import Path

from tomopipe.campaign.campaign import Campaign
from tomopipe.campaign.files import CONVERTED, STACK, VOLUMES
from tomopipe.campaign.results import volume_cor_px
from tomopipe.commands.conversion import is_converted
from tomopipe.errors import TomopipeError
from tomopipe.reruns.target import Target
from tomopipe.run.temporary_files import Temporary, removable, remove
from tomopipe.storage.checksums import quick_state

_CONVERTED = "converted volume"
_ENDINGS = (*VOLUMES.values(), STACK)


def files_to_clean(campaign: Campaign, *, gone: bool) -> list[Temporary]:
    """List the files that the command removes; `gone`: those of removed scans instead."""
    storage = campaign.config.storage
    if storage.keep_try and storage.keep_stacks and not gone:
        raise TomopipeError(
            "this campaign has no temporary files: set storage.keep_try or storage.keep_stacks to "
            "no."
        )
    return _of_removed_scans(campaign) if gone else removable(campaign)


def clean_files(campaign: Campaign, files: list[Temporary], *, gone: bool) -> int:
    """Remove files, with the receipts of removed scans; return the number of bytes freed."""
    n_bytes = remove(files)
    if gone:
        scans = {file.path.name.removesuffix(end) for file in files for end in _ENDINGS}
        withdraw_removed(campaign, product(("full_recon", "export_stack"), scans))
    return n_bytes


def withdraw_removed(campaign: Campaign, results: Iterable[tuple[str, str]]) -> None:
    """Withdraw the receipts of those results, by step and key, of which a command removed files."""
    target = Target(campaign)
    for result in results:
        paths = map(target.receipts.path_of, target.outputs(*result))
        if not all(map(os.path.lexists, paths)):
            target.receipts.withdraw(*result)
    target.receipts.save()


def _of_removed_scans(campaign: Campaign) -> list[Temporary]:
    """List volumes, converted ones and stacks for RELION of scans no longer in the campaign.

    Also volumes in another format than the present one of a scan: no run makes them again.
    """
    scans = {scan.name for scan in (*campaign.scans.values(), *campaign.refused)}

    def is_leftover(path: Path, ending: str, kind: str) -> bool:
        scan = path.name.removesuffix(ending)
        if kind != "volume" or scan not in campaign.scans:
            return scan not in scans
        target = campaign.volume(scan)
        return path != target and target.exists()

    is_ours = {  # not of another program
        "volume": lambda path: volume_cor_px(path) is not None,
        _CONVERTED: is_converted,
    }
    folders = [(campaign.results, ending, "volume") for ending in VOLUMES.values()]
    folders += [(campaign.results, ending, _CONVERTED) for ending in sorted({*CONVERTED.values()})]
    folders.append((campaign.files.stack("").parent, STACK, "RELION stack"))
    return [
        Temporary(kind, path, (quick_state(path) or (0,))[0])
        for folder, ending, kind in folders
        for path in sorted(folder.glob(f"*{ending}"))
        if is_leftover(path, ending, kind) and is_ours.get(kind, os.path.lexists)(path)
    ]
