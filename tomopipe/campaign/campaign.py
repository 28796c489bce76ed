"""A campaign as the workflow and the command line see it: its scans and their results.

Everything a person may edit (config, campaign table) is read here, when the workflow is parsed,
without opening a raw file. The functions that need the inventory take its rows.
"""

import fnmatch
import glob
import json
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tomopipe.campaign.failures import Stat, read_failures
from tomopipe.campaign.files import CONFIG, LOGS, NAMES, SIDECAR, TABLE, Files, Logs
from tomopipe.campaign.lock import complete_files, has_watcher
from tomopipe.campaign.log import JobStatus
from tomopipe.campaign.raw_files import (
    CampaignScan,
    encode_series,
    find_scans,
    folders,
    missing_folders,
)
from tomopipe.campaign.results import (
    InventoryRows,
    present_inventory,
    read_center,
    read_inventory,
)
from tomopipe.campaign.series import positions, series_around
from tomopipe.campaign.state import not_selected
from tomopipe.campaign.table import Row, check_table, did_you_mean, has_table, read_table
from tomopipe.config import Config, not_carried, parse_config, read_config
from tomopipe.config.base import endless_tail
from tomopipe.cor.cor_value import format_cor
from tomopipe.errors import TomopipeError, grouped, some_of
from tomopipe.scans.formats import RAW_ENDINGS

if TYPE_CHECKING:
    from tomopipe.scans.exchange import RawScan


#: What `fix_cor.fill: best` compares scans by.
PLACE = ("position", "length", "pixel_um", "height", "min_confidence")


@dataclass(frozen=True, eq=False)
class Campaign:
    """The files, the table and the configuration of one campaign."""

    directory: Path
    config: Config
    scans: dict[str, CampaignScan]
    refused: tuple[CampaignScan, ...] = ()
    table_rows: tuple[Row, ...] = ()
    failures: dict[str, JobStatus] = field(default_factory=dict)
    # not copied by `replace`: it belongs to this configuration
    _for_scans: dict[str, "Campaign"] = field(default_factory=dict, init=False, repr=False)
    _are_writable: dict[str, bool] = field(default_factory=dict, init=False, repr=False)
    effective: dict[str, Any] = field(default_factory=dict, init=False, repr=False)
    """Cache of the effective options of this configuration, by step."""

    @property
    def name(self) -> str:
        """Title of the campaign."""
        return self.config.campaign.name or self.directory.name

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

    def table_faults(self, to_come: Iterable[str] = ()) -> list[str]:
        """Describe rows without a scan (present or in `to_come`), and cells that are not a COR."""
        faults = check_table(self.table_rows, {*self.scans, *to_come})
        return [f"{self.table_name}: {fault}" for fault in faults]

    def unmatched_overrides(self) -> tuple[list[str], list[str]]:
        """Describe overrides for missing scans or series: first unknown ones, then former ones."""
        return _unmatched_overrides(self.config, [*self.scans.values(), *self.refused], self.files)

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

    @cached_property
    def makes_star(self) -> bool:
        """Whether a set for RELION is made: `export_star.enabled`, with auto resolved."""
        star = self.config.export_star
        if star.enabled == "auto":
            return bool(star.model_fields_set - {"enabled"}) or self.files.in_relion(NAMES).exists()
        return star.enabled

    def volume(self, scan: str) -> str:
        """Return the path of a scan's volume, relative to the campaign folder."""
        return self.outputs.volume(scan, self.config.full_recon.output)

    def results_of(self, step: str, key: str = "campaign") -> list[str]:
        """Return the paths of a step's results for a scan, series or stack in the campaign folder.

        The first one has the provenance statement.
        """
        out, output = self.outputs, self.config.full_recon.output
        if step == "full_recon":
            return [out.volume(key, output)]
        if step in ("try_recon", "predict_cor", "export_stack"):
            result: list[str] = getattr(out, f"of_{step}")(key)
            return result
        paths: dict[str, Callable[[str], list[str]]] = {
            "inventory": lambda _: [out.inventory],
            "fix_cor": lambda series: [out.fix_table(series)],
            "resolve_cor": lambda _: [out.cor_table, out.rot_cen],
            "stitch": lambda stack: [out.shifts(stack), out.stitched(stack, output)],
            "sidecar": lambda _: [self.sidecar(scan) for scan in self.scans],
            "export_star": lambda _: out.of_export_star(),
            "report": lambda _: [out.report],
        }
        return paths[step](key)

    def has_other_links(self, inventory: InventoryRows) -> bool:
        """Tell whether a file to which raw files link has changed since the inventory."""
        from tomopipe.scans.raw_identity import link_state

        states: dict[str, list[int] | None] = {}
        columns = ("linked", "also_read")
        for text in {row.get(name) or "{}" for row in inventory.values() for name in columns}:
            states |= json.loads(text)
        return any(link_state(self.directory / path) != was for path, was in states.items())

    @cached_property
    def shared_files(self) -> list[str]:
        """The files of flats, darks or angles named in the configuration."""
        return [path for path in self.config.named_files() if "{" not in path]

    def sidecar(self, scan: str) -> str:
        """Return the path of the scan's sidecar, in a writable folder."""
        where = self.config.storage.sidecars
        if where != "beside":
            return f"{where.rstrip('/')}/{scan}{SIDECAR}"
        folder = os.path.dirname(self.scans[scan].path) or "."
        if folder not in self._are_writable:
            self._are_writable[folder] = self._writable(folder)
        is_beside = self._are_writable[folder]
        return f"{folder}/{scan}{SIDECAR}" if is_beside else self.outputs.sidecar(scan)

    def _writable(self, folder: str) -> bool:
        absolute = self.directory / folder
        is_closed = not os.access(absolute, os.W_OK | os.X_OK)
        if is_closed or not_carried(folder) or endless_tail(folder):
            return False
        return bool(absolute.stat().st_mode & 0o222)  # which root may ignore

    def for_scan(self, scan: str) -> "Campaign":
        """Return the campaign with the configuration of one scan: overrides and its own files."""
        if not self._has_own_options:
            return self
        if scan not in self._for_scans:
            config = self.config.for_scan(scan, self.scans[scan].series)
            self._for_scans[scan] = replace(self, config=config)
        return self._for_scans[scan]

    @cached_property
    def _has_own_options(self) -> bool:
        return bool(self.config.overrides or self.config.has_patterns)

    # ---- inventory ---------------------------------------------------------------------------

    def inventory_entries(self) -> list[dict[str, Any]]:
        """Return the input of the inventory step for every file, refused ones included."""
        everything = [*self.scans.values(), *self.refused]
        return [
            {
                "scan": scan.name,
                "path": scan.path,
                "series": scan.series,
                "index": scan.index,
                "reason": scan.refused,
                **self._own_sources(scan),
            }
            for scan in sorted(everything, key=lambda scan: (scan.name, scan.path))
        ]

    def _own_sources(self, scan: CampaignScan) -> dict[str, Any]:
        """Return the options for reading a scan that differ from the campaign's."""
        if scan.refused or self.for_scan(scan.name) is self:
            return {}
        reading = self.for_scan(scan.name).config.reading()
        return {} if reading == self.config.reading() else {"own": reading}

    def raw_scan(self, scan: str) -> "RawScan":
        """Return a scan as its steps read it; `partial`, as it may be incomplete but selected."""
        from tomopipe.scans.exchange import RawScan

        config = self.for_scan(scan).config
        return RawScan(self.scans[scan].path, config.input, config.preprocess, partial=True)

    @property
    def is_corrected(self) -> bool:
        """Whether there are corrections beyond flat, dark and logarithm."""
        return not self.config.preprocess.is_plain

    def correction_halo(self, row: Mapping[str, Any]) -> int | None:
        """Return the rows that corrections need around a block; None if there are no corrections.

        `row` is the scan's row of the inventory; without energy, distance or pixel size there and
        in the configuration, typical values are used.
        """
        from tomopipe.prep.recipe import USUAL, expected_halo

        result = {name: float(row[name]) for name in USUAL if row.get(name)}
        numbers = result | self.config.input.model_dump(exclude_defaults=True)
        return expected_halo(
            self.config.preprocess, int(row["n_rows"]), int(row["n_cols"]), numbers
        )

    def donors(
        self, series: str, inventory: InventoryRows, replaced: Collection[str] = ()
    ) -> dict[str, float]:
        """Return the CORs of valid scans of a series that are `select: no`.

        Predictions do not count for scans in `replaced`, whose raw file changed afterwards.
        """
        cors_px: dict[str, float] = {}
        for scan in self._not_selected:
            name, row = scan.name, inventory.get(scan.name, {})
            if scan.series != series or row.get("keep") != "true":
                continue
            cor_px, path = scan.manual.px_on(int(row["n_cols"])), self.files.center(name)
            if cor_px is None and name not in replaced and path.is_file():
                cor_px = read_center(path).px_on(int(row["n_cols"]))
            if cor_px is not None:
                cors_px[name] = cor_px
        return cors_px

    @cached_property
    def _not_selected(self) -> list[CampaignScan]:
        """The scans with `select: no`, few among thousands."""
        scans = [scan for scan in self.scans.values() if scan.select == "no"]
        return sorted(scans, key=lambda scan: scan.name)  # as in the inventory

    def is_selected(self, scan: str, row: Mapping[str, str]) -> bool:
        """Tell whether a scan is selected: valid, unless the campaign table overrides that."""
        return scan in self.scans and not not_selected(self.scans[scan].select, row)

    def selected_scans(self, inventory: InventoryRows) -> list[str]:
        """Return the names of the selected scans, in the order of the inventory."""
        return [scan for scan, row in inventory.items() if self.is_selected(scan, row)]

    def needs_search(self, scan: str, row: Mapping[str, str]) -> bool:
        """Tell whether runs find the COR of a scan: it is not in the table, or always predicted.

        `row` is the scan's row of the inventory.
        """
        is_unknown = self.scans[scan].manual.px_on(int(row["n_cols"])) is None
        return is_unknown or self.config.predict_cor.when == "always"

    def selected_series(self, inventory: InventoryRows) -> dict[str, list[str]]:
        """Return the selected scans by encoded series name."""
        selected = self.selected_scans(inventory)
        return grouped((encode_series(self.scans[scan].series), scan) for scan in selected)

    def members(
        self, selected: Sequence[str], inventory: InventoryRows, replaced: Collection[str] = ()
    ) -> list[dict[str, Any]]:
        """Return the input of fix_cor for the selected scans of a series, without predictions.

        `replaced` are scans whose raw file changed after their prediction.
        """
        manual = {scan: self.scans[scan].manual for scan in selected}
        donors = self.donors(self.scans[selected[0]].series, inventory, replaced)
        cells: list[tuple[str, str, str, float | None]] = [
            (scan, format_cor(cor.px) or cor.text.strip(), "in", None)
            for scan, cor in manual.items()
        ]
        cells += [(scan, "", "donor", round(cor_px, 2)) for scan, cor_px in donors.items()]
        return [
            {"scan": scan, "manual": text, "select": select, "donor_px": donor_px}
            | {"index": self.scans[scan].index, "n_cols": int(inventory[scan]["n_cols"])}
            | self._place(scan, inventory[scan])
            for scan, text, select, donor_px in cells
        ]

    def _place(self, scan: str, row: Mapping[str, str]) -> dict[str, Any]:
        """Return what scans have in common that `fix_cor.fill: best` compares."""
        if self.config.fix_cor.fill == "series":
            return {}
        numbers = row.get("pixel_size_um", ""), row.get("height_mm", "")
        min_confidence = self.for_scan(scan).config.predict_cor.min_confidence
        values = (*self._positions[scan], *numbers, min_confidence)
        return dict(zip(PLACE, values, strict=True))

    @cached_property
    def _positions(self) -> dict[str, tuple[int, int]]:
        return positions(self.scans.values())

    def series_around(
        self, series: Mapping[str, Sequence[str]], inventory: InventoryRows
    ) -> dict[str, list[tuple[int, str]]]:
        """Return the series with which `fix_cor.fill: best` compares each of `series`.

        They are of equal length, or have recorded heights of the stage, and are the nearest in file
        order, with their distance in it.
        """
        if self.config.fix_cor.fill == "series":
            return {}
        kinds = {}
        for key, scans in series.items():
            has_height = any(inventory[scan].get("height_mm") for scan in scans)
            kinds[key] = [self._positions[scans[0]][1], *(["height"] if has_height else [])]
        return series_around(kinds)

    def to_resolve(self, inventory: InventoryRows) -> dict[str, dict[str, Any]]:
        """Return the input of resolve_cor for each selected scan: its path and its columns."""
        return {
            scan: {"path": self.scans[scan].path, "n_cols": int(inventory[scan]["n_cols"])}
            for scan in self.selected_scans(inventory)
        }

    def predicted_files(self, scans: Iterable[str]) -> dict[str, tuple[str, str]]:
        """Return the accepted COR's file and the prediction of each scan that has both."""
        center, prediction = self.files.center, self.files.prediction
        return {
            scan: (str(center(scan)), str(prediction(scan)))
            for scan in scans
            if scan not in self.failures and center(scan).exists() and prediction(scan).exists()
        }


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
    result = find_scans(config, directory, only)
    table = directory / (config.campaign.table or TABLE)
    rows = read_table(table) if has_table(table) or config.campaign.table else []
    lines = grouped((row.scan, str(row.line)) for row in rows)
    if repeated := [
        f"{n} (lines {', '.join(numbers)})" for n, numbers in lines.items() if len(numbers) > 1
    ]:
        raise TomopipeError(
            f"{table}: {', '.join(repeated)} appears more than once. Keep one row per scan."
        )
    if only is None and not has_watcher(directory):  # a named scan may not have arrived yet
        files = Files(directory / config.campaign.results)
        for fault in _unmatched_overrides(config, result, files)[0]:
            raise TomopipeError(f"{source}: {fault}")
    cells = {row.scan: row for row in rows}
    scans = {scan.name: scan for scan in result if not scan.refused}
    scans |= {
        name: replace(scans[name], select=row.select, manual=row.cor, note=row.note)
        for name, row in cells.items()
        if name in scans
    }
    return Campaign(
        directory=directory,
        config=config,
        scans=scans,
        refused=tuple(scan for scan in result if scan.refused),
        table_rows=tuple(rows),
        failures=read_failures(directory / config.campaign.results, stats_of(scans.values())),
    )


def scans_of(
    campaign: Campaign, patterns: Iterable[str], among: Collection[str] | None = None
) -> list[str]:
    """Return the scans, or names in `among`, that match patterns, each once, in their order.

    A pattern is a name, a raw file, or has wildcards (rock_*), with or without the ending.
    TomopipeError for a pattern without a match.
    """
    among = campaign.scans if among is None else among
    files = {scan.abspath: name for name, scan in campaign.scans.items()}
    scans: dict[str, None] = {}
    for pattern in patterns:
        stem, ending = os.path.splitext(pattern)
        bare = stem if ending.lower() in RAW_ENDINGS else pattern
        exact = (pattern, files.get(os.path.abspath(pattern), pattern), bare)
        names = [name for name in exact if name in among][:1] or fnmatch.filter(among, bare)
        if not names:
            refuse_unknown(campaign, [pattern], among)
        scans |= dict.fromkeys(names)
    return list(scans)


def scan_of(
    campaign: Campaign, patterns: Iterable[str], among: Collection[str] | None = None
) -> str:
    """Return the one scan that patterns name, as `scans_of`; raise TomopipeError for several."""
    scans = scans_of(campaign, patterns, among)
    if len(scans) != 1:
        raise TomopipeError(f"expected one scan, got {some_of(scans, 4) or 'none'}.")
    return scans[0]


def refuse_unknown(
    campaign: Campaign, names: Iterable[str], among: Collection[str] | None = None
) -> None:
    """Raise if a name is not a scan of the campaign, or not in `among`."""
    among = campaign.scans if among is None else among
    for name in names:
        if name not in among:
            raise TomopipeError(
                f"no scan {name} in {campaign.directory}, which has "
                f"{some_of(sorted(among), 4) or 'none'}{did_you_mean(name, among)}"
            )


def _unmatched_overrides(
    config: Config, scans: Sequence[CampaignScan], files: Files[Path]
) -> tuple[list[str], list[str]]:
    """Describe overrides that name, without a pattern, missing scans; former ones separately."""
    present = {"scans": {scan.name for scan in scans}, "series": {scan.series for scan in scans}}
    missing = [
        (f"overrides {number}: {key}: ", key, name)
        for number, override in enumerate(config.overrides, start=1)
        for key, names in present.items()
        for name in getattr(override, key)
        if not glob.has_magic(name) and name not in names
    ]
    rows = present_inventory(files.inventory) if missing else {}
    series = {row["series"] for row in rows.values()}
    has_results = {
        "scans": lambda scan: scan in rows or files.of_scan(scan).is_dir(),
        "series": lambda name: name in series or files.fix_table(encode_series(name)).exists(),
    }
    unknown, former = list[str](), list[str]()
    for where, key, name in missing:
        if has_results[key](name):
            former.append(f"{where}{name} is no longer in the campaign")
        else:
            unknown.append(
                f"{where}there is no {name}{did_you_mean(name, present[key])}; expected a pattern, "
                f"or one of {some_of(sorted(present[key]), 4) or 'none'}"
            )
    return unknown, former


def stats_of(scans: Iterable[CampaignScan]) -> dict[str, Stat]:
    """Return size and time of each scan's raw file, which identify a record of failure."""
    return {scan.name: (scan.n_bytes, scan.mtime_ns) for scan in scans}


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
