"""MRC volumes (`tomopipe convert mrc`), which the set for RELION names: what each is made from."""

import os
from collections.abc import Iterable
from pathlib import Path

from tomopipe.campaign.campaign import Campaign

MADE_FROM = "made from "
"""Prefix of the label of an MRC volume, followed by a digest of the statement of its source."""


def source_of(path: str | Path) -> str | None:
    """Return the digest of the statement of the volume that an MRC volume was converted from.

    "" if `tomopipe convert` has not made it, or it is damaged; None if there is none.
    """
    if not os.path.exists(path):
        return None
    from tomopipe.relion.mrc import is_cut, labels_of  # few campaigns have such volumes

    try:
        label = "" if is_cut(path) else labels_of(path)[2]
    except Exception:  # of a damaged file
        return ""
    return label.removeprefix(MADE_FROM) if label.startswith(MADE_FROM) else ""


def mrc_sources(campaign: Campaign, scans: Iterable[str]) -> dict[str, str]:
    """Return `source_of` the MRC volume of each scan that has one."""
    present = {*os.listdir(campaign.results)} if campaign.results.is_dir() else set()
    path_of = campaign.paths.mrc_volume
    paths = {scan: path for scan in scans if os.path.basename(path := path_of(scan)) in present}
    sources = {scan: source_of(path) for scan, path in paths.items()}
    return {scan: source for scan, source in sources.items() if source is not None}
