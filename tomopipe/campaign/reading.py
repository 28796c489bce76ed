"""How the raw file of each scan is read: by its own options, where overrides or patterns differ."""

import json
from typing import TYPE_CHECKING, Any

from tomopipe.campaign.campaign import Campaign
from tomopipe.campaign.raw_files import CampaignScan
from tomopipe.campaign.results import InventoryRows

if TYPE_CHECKING:
    from tomopipe.scans.exchange import RawScan


def raw_scan(campaign: Campaign, scan: str) -> "RawScan":
    """Return a scan as its steps read it; `partial`, as it may be incomplete but selected."""
    from tomopipe.scans.exchange import RawScan  # slow to load

    config = campaign.for_scan(scan).config
    return RawScan(campaign.scans[scan].path, config.input, config.preprocess, partial=True)


def inventory_entries(campaign: Campaign) -> list[dict[str, Any]]:
    """Return the input of the inventory step for every file, refused ones included."""
    everything = [*campaign.scans.values(), *campaign.refused]
    return [
        {
            "scan": scan.name,
            "path": scan.path,
            "series": scan.series,
            "index": scan.index,
            "reason": scan.refused,
            **_own_sources(campaign, scan),
        }
        for scan in sorted(everything, key=lambda scan: (scan.name, scan.path))
    ]


def _own_sources(campaign: Campaign, scan: CampaignScan) -> dict[str, Any]:
    """Return the options for reading a scan that differ from the campaign's."""
    if scan.refused or campaign.for_scan(scan.name) is campaign:
        return {}
    reading = campaign.for_scan(scan.name).config.reading()
    return {} if reading == campaign.config.reading() else {"own": reading}


def has_other_links(campaign: Campaign, inventory: InventoryRows) -> bool:
    """Tell whether a file to which raw files link has changed since the inventory."""
    from tomopipe.scans.raw_identity import link_state

    states: dict[str, list[int] | None] = {}
    columns = ("linked", "also_read")
    for text in {row.get(name) or "{}" for row in inventory.values() for name in columns}:
        states |= json.loads(text)
    return any(link_state(campaign.directory / path) != was for path, was in states.items())
