"""Notes on the set for RELION: assumed numbers, and volumes of other CORs."""

import os
from collections.abc import Mapping
from pathlib import Path

from tomopipe.campaign.campaign import Campaign
from tomopipe.campaign.results import InventoryRows
from tomopipe.config.blocks import ASSUMED
from tomopipe.errors import scans_named
from tomopipe.reruns.receipts import digest
from tomopipe.reruns.staleness import statement_in

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


def relion_notes(campaign: Campaign, rows: InventoryRows) -> dict[str, list[str]]:
    """Return warnings about the set for RELION, and the scans that each concerns."""
    result = assumed_numbers(campaign, rows)
    for scan in campaign.selected_scans(rows) if campaign.makes_star else []:
        path, volume = campaign.outputs.mrc_volume(scan), campaign.directory / campaign.volume(scan)
        source = source_of(campaign.directory / path)
        stated = None if source is None else statement_in(volume)
        if stated is not None and source != digest(stated):
            result[
                f"{path} is not whole or not of the volume there is now: RELION's set does not "
                f"name it. `tomopipe convert mrc {scan}`, then `tomopipe run`"
            ] = [scan]
    return result


def assumed_numbers(campaign: Campaign, rows: InventoryRows) -> dict[str, list[str]]:
    """Return warnings about numbers that neither file nor configuration has."""
    result: dict[str, list[str]] = {}
    for scan in campaign.selected_scans(rows) if campaign.makes_star else []:
        star = campaign.for_scan(scan).config.export_star
        for name, value in ASSUMED.items():
            if getattr(star, name) is None and rows[scan].get(name) == "":
                text = f"{name} is unknown: {value:g} assumed for RELION. Set export_star.{name}"
                result.setdefault(text, []).append(scan)
    return result


def note_lines(notes: Mapping[str, list[str]]) -> list[str]:
    """Return a line for each warning, with its scans."""
    return [f"{scans_named(scans)}: {note}" for note, scans in notes.items()]
