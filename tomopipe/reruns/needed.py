"""What a run is asked for, and needs: volumes, series to fix, known CORs, the future inventory.

A run of the whole campaign needs all of it. One for the volumes of some scans needs, besides them,
only the series of those whose COR another scan, or a pending prediction, may still change.
"""

import os
from collections.abc import Collection, Mapping
from contextlib import chdir, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tomopipe.campaign.campaign import Campaign
from tomopipe.campaign.files import Files
from tomopipe.campaign.reading import inventory_entries
from tomopipe.campaign.results import InventoryRows, read_inventory
from tomopipe.campaign.series import predicted_files, to_resolve
from tomopipe.cor.outliers import NOT_ASKED, Fix
from tomopipe.errors import TomopipeError
from tomopipe.reruns.staleness import Staleness
from tomopipe.steps import fix_cor, resolve_cor
from tomopipe.workflow_steps import SEARCH_STEPS


@dataclass(frozen=True)
class Needed:
    """The results that a run needs; jobs for those of them that are missing or stale."""

    scans: tuple[str, ...]  # scans whose volumes are made if they have a COR
    series: Mapping[str, list[str]]  # scans of the series to fix, by encoded name
    is_whole: bool = True  # whether all results are made, also those after the volumes
    # CORs that no series can change, as in cor.json, and scans that certainly have none
    cors: dict[str, dict[str, Any]] = field(default_factory=dict)
    without_cor: tuple[str, ...] = ()

    @property
    def has_unknown_cors(self) -> bool:
        """Whether cor.json is needed: not if all CORs are known without it."""
        return self.is_whole or bool(self.series)


def needed_for(staleness: Staleness, volumes_of: Collection[str]) -> Needed:
    """Return what the volumes of scans need; without scans, what a run of everything needs."""
    target, campaign = staleness.target, staleness.campaign
    series = target.selected.series
    selected = campaign.selected_scans(target.rows)
    if not volumes_of:
        return Needed(tuple(selected), series)
    asked, fixes = {*volumes_of}, dict[str, Fix]()
    scans = tuple(scan for scan in selected if scan in asked)
    of_series = {name: members for name, members in series.items() if not asked.isdisjoint(members)}
    for name in of_series:
        fixes |= known_fixes(staleness, name, asked)
    entries = {
        scan: row for scan, row in to_resolve(campaign, target.rows).items() if scan in fixes
    }
    cors, missing = resolve_cor.compute(fixes, entries, campaign.config.resolve_cor)
    unknown = {
        name: members
        for name, members in of_series.items()
        if any(scan in asked and scan not in fixes for scan in members)
    }
    return Needed(scans, unknown, False, cors, tuple(missing))


def known_fixes(staleness: Staleness, series: str, scans: Collection[str]) -> dict[str, Fix]:
    """Return the rows of fix_cor of those scans of a series that no pending job can change.

    Their COR is by hand, or a protected prediction that is up to date; or nothing is predicted.
    """
    target, campaign = staleness.target, staleness.campaign
    selected, options = target.selected, campaign.config.fix_cor
    entries, to_search = selected.members(series), {*selected.to_search(selected.series[series])}
    path_of = campaign.paths.prediction
    if not (
        campaign.config.predict_cor.methods or any(os.path.exists(path_of(s)) for s in to_search)
    ):
        reasons = {scan: {"no_cor_reason": NOT_ASKED} for scan in to_search}
        entries = [entry | reasons.get(entry["scan"], {}) for entry in entries]
        around = predicted_files(campaign, selected.to_search(selected.around(series)))
        fixes = fix_cor.compute(around, entries, options, selected.members_around(series))
        return {scan: fix for scan, fix in fixes.items() if scan in scans}
    result, present = {}, dict[str, Fix]()
    with suppress(TomopipeError):  # damaged: made again
        present = selected.fixes(series)
    for entry in entries:
        scan, files = entry["scan"], None
        if scan not in scans or entry["select"] == "donor":
            continue
        if scan in to_search and not any(staleness.why(step, scan) for step in SEARCH_STEPS):
            files = predicted_files(campaign, [scan]).get(scan)
        if fix := fix_cor.compute_protected(files, entry, options):
            # what else its row says hangs on the others: as now where its COR stays
            before = present.get(scan, fix)
            stays = (before.after_px, before.source) == (fix.after_px, fix.source)
            result[scan] = before if stays else fix
    return result


def expected_inventory(campaign: Campaign, folder: Path) -> InventoryRows:
    """Write the inventory of the present raw files into `folder`, and return its rows."""
    from tomopipe.steps import inventory  # slow to load

    entries = inventory_entries(campaign)
    with chdir(campaign.directory):  # as in a run: the paths in the config are relative to it
        inventory.inventory(entries, Files(folder).inventory, campaign.config)
    return read_inventory(Files(folder).inventory)
