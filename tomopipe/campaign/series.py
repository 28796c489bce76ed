"""The series of a campaign, and what the steps from prediction to resolved CORs get of them.

Functions that need the inventory take its rows, or the scan's `row`.
"""

import os
import re
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tomopipe.campaign.raw_files import encode_series
from tomopipe.campaign.results import InventoryRows, read_center
from tomopipe.cor.cor_value import format_cor
from tomopipe.cor.fill import N_SERIES
from tomopipe.cor.outliers import NOT_ASKED, NOT_SWEPT
from tomopipe.errors import grouped

if TYPE_CHECKING:
    from tomopipe.campaign.campaign import Campaign
    from tomopipe.campaign.raw_files import CampaignScan

#: What `fix_cor.fill: best` compares scans by.
PLACE = ("position", "length", "pixel_um", "height", "min_confidence")


def needs_search(campaign: "Campaign", scan: str, row: Mapping[str, str]) -> bool:
    """Tell whether runs find the COR of a scan: it is not in the table, or always predicted.

    Views that `try_recon.every` leaves out have no sweep.
    """
    if why_not_swept(campaign, scan):
        return False
    if campaign.config.predict_cor.when == "always" or measures_roll(campaign, scan):
        return True
    return campaign.scans[scan].manual.px_on(int(row["n_cols"])) is None


def measures_roll(campaign: "Campaign", scan: str) -> bool:
    """Tell whether the volume of a scan needs the roll that its sweep measures."""
    config = campaign.for_scan(scan).config if campaign.config.overrides else campaign.config
    return config.preprocess.roll_deg == "auto"


def why_not_swept(campaign: "Campaign", scan: str) -> str:
    """Return why a view has no sweep and no prediction, by `try_recon.every`; "" if it has them.

    Which views have them does not change when others come at the end of their file.
    """
    config, view = campaign.config, campaign.scans[scan].view
    if not (view and view.suffix) or (config.try_recon.every == 1 and not config.overrides):
        return ""
    every = campaign.for_scan(scan).config.try_recon.every
    return f"{NOT_SWEPT}{every})" if (campaign.positions[scan][0] - 1) % every else ""


def predicted_files(campaign: "Campaign", scans: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Return the accepted COR's file and the prediction of each scan that has both."""
    center, prediction = campaign.files.center, campaign.files.prediction
    return {
        scan: (str(center(scan)), str(prediction(scan)))
        for scan in scans
        if scan not in campaign.failures and center(scan).exists() and prediction(scan).exists()
    }


def selected_series(campaign: "Campaign", inventory: InventoryRows) -> dict[str, list[str]]:
    """Return the selected scans by encoded series name."""
    selected = campaign.selected_scans(inventory)
    return grouped((encode_series(campaign.scans[scan].series), scan) for scan in selected)


def members_of(
    campaign: "Campaign",
    selected: Sequence[str],
    inventory: InventoryRows,
    replaced: Collection[str] = (),
) -> list[dict[str, Any]]:
    """Return the input of fix_cor for the selected scans of a series, without predictions.

    `replaced` are scans whose raw file changed after their prediction.
    """
    scans, file = campaign.scans, file_over_time(campaign, selected)
    donors_px = donors(campaign, scans[selected[0]].series, inventory, replaced)
    reasons = {
        scan: why if campaign.config.predict_cor.methods else NOT_ASKED
        for scan in selected
        if (why := why_not_swept(campaign, scan))
    }
    cells: list[tuple[str, str, str, float | None]] = [
        (scan, format_cor(cor.px) or cor.text.strip(), "in", None)
        for scan, cor in ((scan, scans[scan].manual) for scan in selected)
    ]
    cells += [(scan, "", "donor", round(cor_px, 2)) for scan, cor_px in donors_px.items()]
    return [
        {"scan": scan, "manual": text, "select": select, "donor_px": donor_px}
        | {"index": scans[scan].index, "n_cols": int(inventory[scan]["n_cols"])}
        | _place(campaign, scan, inventory[scan])
        | ({"file": file} if file else {})
        | ({"no_cor_reason": reasons[scan]} if scan in reasons else {})
        for scan, text, select, donor_px in cells
    ]


def file_over_time(campaign: "Campaign", scans: Iterable[str]) -> str:
    """Return the name of the file whose views a series is, if `fix_cor.over_time` concerns it."""
    options, entries = campaign.config.fix_cor, [campaign.scans[scan] for scan in scans]
    paths = {entry.path for entry in entries}
    if options.over_time == "none" or options.fill == "series" or len(paths) != 1:
        return ""
    is_views = any(entry.view and entry.view.suffix for entry in entries)
    return os.path.basename(*paths) if is_views else ""


def donors(
    campaign: "Campaign", series: str, inventory: InventoryRows, replaced: Collection[str] = ()
) -> dict[str, float]:
    """Return the CORs of valid scans of a series that are `select: no`.

    Predictions do not count for scans in `replaced`, whose raw file changed afterwards.
    """
    cors_px: dict[str, float] = {}
    for scan in campaign.unselected:
        name, row = scan.name, inventory.get(scan.name, {})
        if scan.series != series or row.get("keep") != "true":
            continue
        cor_px, path = scan.manual.px_on(int(row["n_cols"])), campaign.files.center(name)
        if cor_px is None and name not in replaced and path.is_file():
            cor_px = read_center(path).px_on(int(row["n_cols"]))
        if cor_px is not None:
            cors_px[name] = cor_px
    return cors_px


def _place(campaign: "Campaign", scan: str, row: Mapping[str, str]) -> dict[str, Any]:
    """Return what scans have in common that `fix_cor.fill: best` compares."""
    if campaign.config.fix_cor.fill == "series":
        return {}
    numbers = row.get("pixel_size_um", ""), row.get("height_mm", "")
    min_confidence = campaign.for_scan(scan).config.predict_cor.min_confidence
    values = (*campaign.positions[scan], *numbers, min_confidence)
    return dict(zip(PLACE, values, strict=True))


def compared_series(
    campaign: "Campaign", series: Mapping[str, Sequence[str]], inventory: InventoryRows
) -> dict[str, list[tuple[int, str]]]:
    """Return the series with which `fix_cor.fill: best` compares each of `series`.

    They are of equal length, or have recorded heights of the stage, and are the nearest in file
    order, with their distance in it. Views of a file with a model over time have none.
    """
    if campaign.config.fix_cor.fill == "series":
        return {}
    kinds: dict[str, list[Hashable]] = {}
    for key, scans in series.items():
        if file_over_time(campaign, scans):
            kinds[key] = []
            continue
        has_height = any(inventory[scan].get("height_mm") for scan in scans)
        kinds[key] = [campaign.positions[scans[0]][1], *(["height"] if has_height else [])]
    return series_around(kinds)


def to_resolve(campaign: "Campaign", inventory: InventoryRows) -> dict[str, dict[str, Any]]:
    """Return the input of resolve_cor for each selected scan: its path and its columns."""
    return {
        scan: {
            "path": entry.part_path,
            "n_cols": int(inventory[scan]["n_cols"]),
        }
        for scan in campaign.selected_scans(inventory)
        for entry in [campaign.scans[scan]]
    }


def positions(scans: Iterable["CampaignScan"]) -> dict[str, tuple[int, int]]:
    """Return the position of each scan in its series, from 1, and the length of the series.

    Scans that are skipped or not selected count, so that the others keep their positions.
    """
    series = grouped((scan.series, (scan.index, scan.name)) for scan in scans)
    return {
        name: (position, len(members))
        for members in series.values()
        for position, (_, name) in enumerate(sorted(members), start=1)
    }


def series_around(kinds: Mapping[str, Sequence[Hashable]]) -> dict[str, list[tuple[int, str]]]:
    """Return the series that each is compared with: the nearest before and after of its kinds.

    `kinds` are what a series may share with others, by name. Each comes with its distance in file
    order, in which numbers in names count as numbers: -1 for the series before.
    """
    ordered = sorted(kinds, key=_natural)
    at = {key: number for number, key in enumerate(ordered)}
    results: dict[str, dict[str, int]] = {key: {} for key in ordered}
    for alike in grouped((kind, key) for key in ordered for kind in kinds[key]).values():
        for number, key in enumerate(alike):
            for other in alike[max(0, number - N_SERIES) : number + N_SERIES + 1]:
                results[key][other] = at[other] - at[key]
    return {
        key: sorted((order, other) for other, order in each.items() if order)
        for key, each in results.items()
    }


def _natural(name: str) -> list[tuple[int, str]]:
    parts = re.split(r"(\d+)", name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]
