"""Where the sidecars of a campaign lie, and which of its folders cannot be written."""

import os
from typing import TYPE_CHECKING

from tomopipe.campaign.files import SIDECAR, SNAKEMAKE, STAR
from tomopipe.errors import some_of
from tomopipe.storage.atomic import closed, giving_rights

if TYPE_CHECKING:
    from tomopipe.campaign.campaign import Campaign

_N_NAMED = 4  # folders in an error


def sidecar_of(campaign: "Campaign", scan: str) -> str:
    """Return the path of a scan's sidecar, in a writable folder."""
    where = campaign.config.storage.sidecars
    if where != "beside":
        return f"{where.rstrip('/')}/{scan}{SIDECAR}"
    folder = os.path.dirname(campaign.scans[scan].path) or "."
    if folder not in campaign.writable:
        campaign.writable[folder] = _is_writable(campaign, folder)
    is_beside = campaign.writable[folder]
    return f"{folder}/{scan}{SIDECAR}" if is_beside else campaign.outputs.sidecar(scan)


def _is_writable(campaign: "Campaign", folder: str) -> bool:
    from tomopipe.config import not_carried  # slow to load
    from tomopipe.config.base import endless_tail

    absolute = campaign.directory / folder
    is_closed = not os.access(absolute, os.W_OK | os.X_OK)
    if is_closed or not_carried(folder) or endless_tail(folder):
        return False
    return bool(absolute.stat().st_mode & 0o222)  # which root may ignore


def closed_folders(campaign: "Campaign") -> str:
    """Say which folders a run cannot write; "" if it can."""
    files = campaign.files
    written = [campaign.directory / SNAKEMAKE, campaign.results, campaign.logs.folder]
    written += [files.try_center] * files.try_center.is_dir()
    below = files.in_relion(STAR), files.stack(""), files.report, files.shifts("")
    for folder in (*written, files.try_center, *(path.parent for path in below)):
        if folder.is_symlink() and not folder.exists():
            return (
                f"{folder}: a link to {os.readlink(folder)}, which does not exist: mount its disk, "
                "or remove the link"
            )
    # jobs of another user may have made the folders of some steps, for this user alone
    made, logs = files.receipt("step").parents[1], campaign.logs
    folders = (made, logs.folder, logs.status_folder)
    steps = [folder / path.name for path in made.glob("*/") for folder in folders]
    if not (shut := closed(written) or closed(steps)):
        return ""
    return (
        f"{some_of([*map(str, shut)], _N_NAMED)}: cannot be written, and a run does. To get the "
        f"right: {giving_rights(shut)}; or copy the campaign to a folder of your own"
    )
