"""The series of a campaign, and what the steps from prediction to resolved CORs get of them.

`Selected` has all of it for one inventory; functions take its rows, or the scan's `row`.
"""

import os
import re
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tomopipe.campaign.files import encode_series
from tomopipe.campaign.results import InventoryRows, read_center, read_fixes
from tomopipe.cor.cor_value import format_cor
from tomopipe.cor.fill import N_SERIES
from tomopipe.cor.outliers import NOT_ASKED, NOT_SWEPT, Fix, uses_estimates
from tomopipe.errors import TomopipeError, grouped

if TYPE_CHECKING:
    from tomopipe.campaign.campaign import Campaign
    from tomopipe.campaign.raw_files import CampaignScan

#: What `fix_cor.fill: best` compares scans by.
PLACE = ("position", "length", "pixel_um", "height", "min_confidence")


class Selected:
    """The selected scans of a campaign by series, by one inventory; each fact is computed once.

    Series are named as encoded. `replaced` names scans with `select: no` whose raw file changed
    after their prediction.
    """

    def __init__(
        self,
        campaign: "Campaign",
        rows: InventoryRows,
        replaced: Callable[[], Collection[str]] = tuple,
    ) -> None:
        self._campaign, self._rows, self._replaced = campaign, rows, replaced
        self._members: dict[str, list[dict[str, Any]]] = {}
        self._fixes: dict[str, dict[str, Fix]] = {}

    @cached_property
    def series(self) -> dict[str, list[str]]:
        """The selected scans by series."""
        campaign, selected = self._campaign, self._campaign.selected_scans(self._rows)
        return grouped((encode_series(campaign.scans[scan].series), scan) for scan in selected)

    def members(self, series: str) -> list[dict[str, Any]]:
        """Return the input of fix_cor for the scans of a series, without predictions."""
        if series not in self._members:
            self._members[series] = self._members_of(self.series[series])
        return self._members[series]

    def _members_of(self, selected: Sequence[str]) -> list[dict[str, Any]]:
        campaign, scans, rows = self._campaign, self._campaign.scans, self._rows
        file = file_over_time(campaign, selected)
        reasons = {
            scan: why if campaign.config.predict_cor.methods else NOT_ASKED
            for scan in selected
            if (why := why_not_swept(campaign, scan))
        }
        cells: list[tuple[str, str, str, float | None]] = [
            (scan, format_cor(cor.px) or cor.text.strip(), "in", None)
            for scan, cor in ((scan, scans[scan].manual) for scan in selected)
        ]
        donors = self._donors(scans[selected[0]].series)
        cells += [(scan, "", "donor", round(cor_px, 2)) for scan, cor_px in donors]
        return [
            {"scan": scan, "manual": text, "select": select, "donor_px": donor_px}
            | {"index": scans[scan].index, "n_cols": int(rows[scan]["n_cols"])}
            | _place(campaign, scan, rows[scan])
            | ({"file": file} if file else {})
            | ({"no_cor_reason": reasons[scan]} if scan in reasons else {})
            for scan, text, select, donor_px in cells
        ]

    def _donors(self, series: str) -> Iterator[tuple[str, float]]:
        """Yield the valid scans of a series that are `select: no`, with their CORs."""
        for scan in self._campaign.unselected:
            name, row = scan.name, self._rows.get(scan.name, {})
            if scan.series != series or row.get("keep") != "true":
                continue
            cor_px, path = scan.manual.px_on(int(row["n_cols"])), self._campaign.files.center(name)
            if cor_px is None and name not in self._replaced() and path.is_file():
                cor_px = read_center(path).px_on(int(row["n_cols"]))
            if cor_px is not None:
                yield name, cor_px

    @cached_property
    def _compared(self) -> dict[str, list[tuple[int, str]]]:
        """The series with which `fix_cor.fill: best` compares each, with their distance.

        They are of equal length, or have recorded heights of the stage, and are the nearest in file
        order. Views of a file with a model over time have none.
        """
        if self._campaign.config.fix_cor.fill == "series":
            return {}
        kinds: dict[str, list[Hashable]] = {}
        for key, scans in self.series.items():
            length = self._campaign.positions[scans[0]][1]
            has_height = any(self._rows[scan].get("height_mm") for scan in scans)
            is_apart = bool(file_over_time(self._campaign, scans))
            kinds[key] = [] if is_apart else [length, *(["height"] if has_height else [])]
        return series_around(kinds)

    def around(self, series: str) -> list[str]:
        """Return the scans of other series with which fix_cor compares those of a series."""
        return [scan for _, key in self._compared.get(series, ()) for scan in self.series[key]]

    def members_around(self, series: str) -> list[dict[str, Any]]:
        """Return the input of fix_cor for the series around one, each scan with its distance."""
        return [
            entry | {"order": order}
            for order, key in self._compared.get(series, ())
            for entry in self.members(key)
            if entry["select"] == "in"
        ]

    def fixes(self, series: str) -> dict[str, Fix]:
        """Return the rows of the present table of a series; none if it is missing."""
        if series not in self._fixes:
            path = self._campaign.files.fix_table(series)
            self._fixes[series] = read_fixes([path]) if path.is_file() else {}
        return self._fixes[series]

    def uses_around(self, series: str) -> bool:
        """Tell whether the present table of a series depends on the series around it."""
        try:
            return uses_estimates(self.fixes(series).values())
        except (OSError, TomopipeError):  # made again anyway
            return False

    def not_failed(self, scans: Iterable[str]) -> list[str]:
        """Return the scans whose jobs did not fail finally."""
        return [scan for scan in scans if scan not in self._campaign.failures]

    def to_search(self, scans: Iterable[str]) -> list[str]:
        """Return the scans for which the next run makes a sweep and a prediction."""
        rows = self._rows
        return [s for s in self.not_failed(scans) if needs_search(self._campaign, s, rows[s])]

    def searched(self, series: str) -> list[str]:
        """Return those of a series, and of the series around it, as `to_search`."""
        return self.to_search([*self.series[series], *self.around(series)])

    def with_prediction(self, scans: Iterable[str]) -> list[str]:
        """Return the scans to search, and those that keep an earlier prediction."""
        path_of, to_search = self._campaign.paths.prediction, set(self.to_search(scans))
        return [s for s in self.not_failed(scans) if s in to_search or os.path.exists(path_of(s))]


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


def file_over_time(campaign: "Campaign", scans: Iterable[str]) -> str:
    """Return the name of the file whose views a series is, if `fix_cor.over_time` concerns it."""
    options, entries = campaign.config.fix_cor, [campaign.scans[scan] for scan in scans]
    paths = {entry.path for entry in entries}
    if options.over_time == "none" or options.fill == "series" or len(paths) != 1:
        return ""
    is_views = any(entry.view and entry.view.suffix for entry in entries)
    return os.path.basename(*paths) if is_views else ""


def _place(campaign: "Campaign", scan: str, row: Mapping[str, str]) -> dict[str, Any]:
    """Return what scans have in common that `fix_cor.fill: best` compares."""
    if campaign.config.fix_cor.fill == "series":
        return {}
    numbers = row.get("pixel_size_um", ""), row.get("height_mm", "")
    min_confidence = campaign.for_scan(scan).config.predict_cor.min_confidence
    values = (*campaign.positions[scan], *numbers, min_confidence)
    return dict(zip(PLACE, values, strict=True))


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
