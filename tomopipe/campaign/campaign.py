"""A campaign as the workflow and the command line see it: its scans and their results.

Everything a person may edit (config, campaign table) is read here, when the workflow is parsed. Raw
files are opened only to find the scans of `entries` and `turns`. The functions that need the
inventory take its rows.
"""

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from tomopipe.campaign import grey_range
from tomopipe.campaign.failures import read_failures
from tomopipe.campaign.files import CONFIG, LOGS, NAMES, TABLE, VIEWS, Files, Logs
from tomopipe.campaign.log import JobStatus
from tomopipe.campaign.raw_files import CampaignScan, find_scans, folders, missing_folders
from tomopipe.campaign.results import InventoryRows, read_inventory
from tomopipe.campaign.selection import unmatched_overrides
from tomopipe.campaign.series import positions
from tomopipe.campaign.state.facts import not_selected
from tomopipe.campaign.table import Row, has_table, read_table
from tomopipe.campaign.views import Views
from tomopipe.config import Config, parse_config, read_config
from tomopipe.cor.cor_value import NO_TEXT
from tomopipe.errors import TomopipeError, grouped
from tomopipe.storage.lock import complete_files, has_watcher


@dataclass(frozen=True, eq=False)
class Campaign:
    """The files, the table and the configuration of one campaign."""

    directory: Path
    config: Config
    scans: dict[str, CampaignScan]
    refused: tuple[CampaignScan, ...] = ()
    table_rows: tuple[Row, ...] = ()
    failures: dict[str, JobStatus] = field(default_factory=dict)
    views: Views = field(default_factory=Views)
    # not copied by `replace`: they belong to this configuration
    _for_scans: dict[str, "Campaign"] = field(default_factory=dict, init=False, repr=False)
    writable: dict[str, bool] = field(default_factory=dict, init=False, repr=False)
    """Cache of `sidecar_of`: whether files can be written into folders of raw data."""
    effective: dict[str, Any] = field(default_factory=dict, init=False, repr=False)
    """Cache of the effective options of this configuration, by step."""

    @cached_property
    def results(self) -> Path:
        """Absolute path of the results folder."""
        return self.directory / self.config.campaign.results

    @property
    def table_path(self) -> Path:
        """Absolute path of the campaign table, which may not exist."""
        return self.directory / self.table_name

    @property
    def table_name(self) -> str:
        """The campaign table as the configuration names it."""
        return self.config.campaign.table or TABLE

    @cached_property
    def files(self) -> Files[Path]:
        """Absolute paths of the results."""
        return Files(self.results)

    @cached_property
    def paths(self) -> Files[str]:
        """The paths of `files` as text: ten times faster for thousands of scans."""
        return Files(str(self.results))

    @cached_property
    def outputs(self) -> Files[str]:
        """Paths of the results relative to the campaign folder, as in the rules and the record."""
        return Files(self.config.campaign.results)

    @property
    def logs(self) -> Logs[Path]:
        """Absolute paths of the logs."""
        return Logs(self.directory / LOGS.folder)

    def volume(self, scan: str) -> Path:
        """Absolute path of the volume of a scan."""
        return self.files.volume(scan, self.config.full_recon.output)

    @cached_property
    def makes_star(self) -> bool:
        """Whether a set for RELION is made: `export_star.enabled`, with auto resolved."""
        star = self.config.export_star
        if star.enabled == "auto":
            return bool(star.model_fields_set - {"enabled"}) or self.files.in_relion(NAMES).exists()
        return star.enabled

    @cached_property
    def shared_files(self) -> list[str]:
        """The files of flats, darks or angles named in the configuration."""
        return [path for path in self.config.named_files() if "{" not in path]

    def for_scan(self, scan: str) -> "Campaign":
        """Return the campaign with the configuration of one scan: overrides and its own files."""
        if scan not in self._for_scans:
            entry = self.scans[scan]
            config = self.config.for_scan(scan, entry.series)
            config = config.of_part(**entry.view.input) if entry.view else config
            is_own = config is not self.config
            self._for_scans[scan] = replace(self, config=config) if is_own else self
        return self._for_scans[scan]

    @cached_property
    def unselected(self) -> list[CampaignScan]:
        """The scans with `select: no`, few among thousands."""
        scans = [scan for scan in self.scans.values() if scan.select == "no"]
        return sorted(scans, key=lambda scan: scan.name)  # as in the inventory

    def is_selected(self, scan: str, row: Mapping[str, str]) -> bool:
        """Tell whether a scan is selected: valid, unless the campaign table overrides that."""
        return scan in self.scans and not not_selected(self.scans[scan].select, row)

    def selected_scans(self, inventory: InventoryRows) -> list[str]:
        """Return the names of the selected scans, in the order of the inventory."""
        return [scan for scan, row in inventory.items() if self.is_selected(scan, row)]

    @cached_property
    def positions(self) -> dict[str, tuple[int, int]]:
        """The position of each scan in its series, and the length of the series."""
        return positions(self.scans.values())


def load_campaign(
    directory: Path, config: Path | None = None, *, needs_raw: bool = True
) -> Campaign:
    """Read the campaign in `directory`, by default with the config.yaml in it.

    With `needs_raw`, a folder that has lost all its raw files is a TomopipeError.
    """
    folder = Path(os.path.abspath(directory))
    path = config or folder / CONFIG
    campaign = make_campaign(read_config(path), folder, source=str(path))
    if needs_raw:
        refuse_vanished(campaign)
    return campaign


def campaign_from_data(
    data: Mapping[str, Any], directory: Path, *, source: str = "config", with_scans: bool = True
) -> Campaign:
    """Make a campaign from a configuration that Snakemake has read, with scans or without."""
    config, folder = parse_config(data, source=source), Path(os.path.abspath(directory))
    if not with_scans:
        return Campaign(folder, config, {})
    return make_campaign(config, folder, source=source)


def make_campaign(
    config: Config, directory: Path, *, source: str = "config", only: Collection[str] | None = None
) -> Campaign:
    """Find the files and read the table of a campaign; errors name the config as `source`.

    `only`: paths of the raw files that count; None: all, or in a watcher's run the complete ones.
    """
    only = complete_files(directory) if only is None else only
    results = Files(directory / config.campaign.results)
    config = grey_range.with_frozen(config, results.value_range)
    views = Views(directory / config.campaign.results / VIEWS, directory)
    result = find_scans(config, directory, only, views)
    table = directory / (config.campaign.table or TABLE)
    rows = read_table(table) if has_table(table) or config.campaign.table else []
    lines = grouped((row.scan, str(row.line)) for row in rows)
    if repeated := [
        f"{n} (lines {', '.join(numbers)})" for n, numbers in lines.items() if len(numbers) > 1
    ]:
        raise TomopipeError(
            f"{table}: {', '.join(repeated)} appears more than once. Keep one row per scan."
        )
    cells = {row.scan: row for row in rows}
    scans = {scan.name: scan for scan in result if not scan.refused}
    scans |= {
        name: replace(scans[name], select=row.select, manual=row.cor, note=row.note)
        for name, row in cells.items()
        if name in scans and (row.select, row.cor, row.note) != ("auto", NO_TEXT, "")
    }
    campaign = Campaign(
        directory=directory,
        config=config,
        scans=scans,
        refused=tuple(scan for scan in result if scan.refused),
        table_rows=tuple(rows),
        failures=read_failures(directory / config.campaign.results, scans),
        views=views,
    )
    if only is None and not has_watcher(directory):  # a named scan may not have arrived yet
        for fault in unmatched_overrides(campaign)[0]:
            raise TomopipeError(f"{source}: {fault}")
    return campaign


def refuse_vanished(campaign: Campaign) -> None:
    """Raise if a folder has lost all raw files of the inventory, as when a disk is not mounted.

    Else CORs and star file would lose its scans.
    """
    scans = [scan.path for scan in (*campaign.scans.values(), *campaign.refused)]
    missing = missing_folders(campaign.config, campaign.directory)
    for folder in folders(campaign.config):
        if folder not in missing and any(Path(path).is_relative_to(folder) for path in scans):
            continue
        table = campaign.files.inventory
        rows = read_inventory(table).values() if table.exists() else ()
        if n := sum(Path(row["path"]).is_relative_to(folder) for row in rows):
            raise TomopipeError(
                f"{folder}: this folder has no raw files now, but the campaign has {n} "
                f"scan{'s' * (n > 1)} of it. Mount it or move it back, and run again; if the files "
                "are gone for good, or the pattern is wrong, correct campaign.scans."
            )
