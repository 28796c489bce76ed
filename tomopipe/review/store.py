"""The campaign's data for the page: read in the background, available without waiting."""

import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from tomopipe.campaign.campaign import Campaign, load_campaign
from tomopipe.campaign.files import encode_series
from tomopipe.campaign.results import read_inventory
from tomopipe.campaign.series import file_over_time
from tomopipe.campaign.state.facts import ACCEPTED
from tomopipe.campaign.state.signs import State, source_named
from tomopipe.commands.next_run import folded, make_plan
from tomopipe.config import read_config
from tomopipe.cor.cor_value import CorText
from tomopipe.cor.outliers import Fix, finite_median, limit_source
from tomopipe.cor.over_time import OverTime, model_of
from tomopipe.cor.series_line import Line, robust_line
from tomopipe.errors import TomopipeError, grouped
from tomopipe.report.collected_records import collect
from tomopipe.report.plots import places_along
from tomopipe.report.records import CampaignRecord, ScanRecord
from tomopipe.reruns.failed_results import why_again
from tomopipe.reruns.target import Target
from tomopipe.review.queue import queue_entries, read_cells
from tomopipe.review.scan_images import Pictures

#: Age (s) after which the results are read again on request; longer if reading is slow.
FRESH_S = 5.0
_SHARE = 10  # reading takes at most a tenth of the time


class Store:
    """The files of one campaign, for the page."""

    def __init__(self, directory: Path, config: Path) -> None:
        self.directory = directory.absolute()
        self.config = config.absolute()
        self.campaign: Campaign = load_campaign(self.directory, self.config)
        self.why = why_again(self.campaign)  # returns why a result is stale
        full = self.campaign.config.full_recon
        self.pictures = Pictures(
            self.campaign.files.try_center,
            filter=full.filter,
            device=full.device,
            half_acquisition=self._half_acquisition,
        )
        self._record: CampaignRecord | None = None
        self._by_name: dict[str, ScanRecord] = {}
        self._began_at = self._read_at = 0.0
        self._reading = threading.Lock()
        # one plan at a time: it competes with the pictures for cores
        self._planning = threading.Lock()
        self.read_number = 0
        self.problem = self.table_problem = ""
        self._cells: dict[str, dict[str, str]] = {}

    def prepare(self) -> threading.Thread:
        """Read the results and make the first picture, in a thread, which is returned."""
        thread = threading.Thread(target=self._prepare, daemon=True)
        thread.start()
        return thread

    def _prepare(self) -> None:
        try:
            self.read()
            self.pictures.warm_up()
            self._make_first()
        except RuntimeError:
            if threading.main_thread().is_alive():  # the ending process starts no new thread
                raise

    def _make_first(self) -> None:
        """Make the slice that the page opens with; on failure the page says why."""
        with suppress(TomopipeError):
            cells = read_cells(self.campaign.table_path)
            queue = queue_entries(self.record().scans, cells, self.campaign.scans)
            first = next(iter(queue), None)
            if first and first["swept"] and first["cor_px"] is not None and not first["refused"]:
                self.pictures.slice(first["scan"], round(first["cor_px"], 2), 0)

    def _half_acquisition(self, scan: str) -> str:
        is_scan = scan in self.campaign.scans
        source = self.campaign.for_scan(scan) if is_scan else self.campaign
        return source.config.preprocess.half_acquisition

    def read(self) -> None:
        """Read the results again, or wait for another thread that is reading them."""
        start_s = time.monotonic()
        with self._reading:
            if self._began_at > start_s:
                return  # another thread began after this call: its result is new enough
            self._began_at = time.monotonic()
            try:
                campaign, problem = load_campaign(self.directory, self.config), ""
            # table or config may be incomplete while they are edited
            except TomopipeError as error:
                campaign, problem = self.campaign, str(error)
            self.why = why_again(campaign)
            record = collect(campaign, why=self.why)
            # tells the page to load the queue again
            self.read_number += (record, problem) != (self._record, self.problem)
            self.campaign, self._record, self.problem = campaign, record, problem
            self._by_name = {s.name: s for s in record.scans if s.name in campaign.scans}
            self._read_at = time.monotonic()

    def record(self, *, wait: bool = False) -> CampaignRecord:
        """Return the results, possibly slightly out of date."""
        if self._record is None or (wait and self._is_stale()):
            self.read()
        elif self._is_stale() and not self._reading.locked():
            threading.Thread(target=self.read, daemon=True).start()
        assert self._record is not None
        return self._record

    def _is_stale(self) -> bool:
        took_s = self._read_at - self._began_at
        return time.monotonic() - self._read_at > max(FRESH_S, _SHARE * took_s)

    def scan(self, name: str) -> ScanRecord:
        """Return the record of one scan."""
        self.record()
        if name not in self._by_name:
            raise TomopipeError(f"no scan {name!r} in this campaign.")
        return self._by_name[name]

    def cells(self) -> dict[str, dict[str, str]]:
        """Return the present campaign table; the last valid one while it has an error."""
        try:
            self._cells, self.table_problem = read_cells(self.campaign.table_path), ""
        except TomopipeError as error:
            self.table_problem = str(error)
        return self._cells

    def table_now(self) -> Path:
        """Return the campaign table that the configuration names now, or raise if it is broken."""
        return replace(self.campaign, config=read_config(self.config)).table_path

    def plan(self) -> dict[str, Any]:
        """Return the jobs of the next run, by the present campaign table."""
        with self._planning:
            plan = make_plan(load_campaign(self.directory, self.config), self.record())
        return {
            "jobs": [asdict(job) for job in plan.jobs],
            "summary": plan.summary,
            "counts": plan.counts,
            "rows": [asdict(row) for row in folded(plan.jobs)],
            "failures": list(plan.failures),
            "blocked": plan.blocked,
            "seconds": plan.cpu_s,
            "bytes": plan.n_bytes,
            "n_open": plan.n_open,
        }

    def series(self, key: str) -> list[dict[str, Any]]:
        """List the scans of a series in order, with the data of the page's series plot."""
        cells = self.cells()
        return [
            _point(scan, cells.get(scan.name, {}))
            for scan in sorted(self.record().scans, key=lambda s: (s.index, s.name))
            if scan.series == key and scan.name in self._by_name and scan.state is not State.SKIPPED
        ]

    def line(self, key: str, layout: tuple[int | None, str] | None = None) -> dict[str, Any]:
        """Return the robust line through the trusted scans of a series: states ok and manual.

        They are of one layout, without `layout` the one of most scans. Views of a file with
        `fix_cor.over_time` have that `model` instead. `on_line` has the COR of each scan on the
        line of its layout, or by which `fix_cor` has filled it.
        """
        scans = {scan.name: scan for scan in self.record().scans if scan.series == key}
        layouts = Counter(scan.layout for scan in scans.values())
        if layout is None and layouts:
            layout = layouts.most_common(1)[0][0]
        entries = queue_entries(self.record().scans, self.cells(), self.campaign.scans)
        entries = sorted((e for e in entries if e["series"] == key), key=lambda e: e["index"])
        trusted = grouped(
            (scans[entry["scan"]].layout, entry)
            for entry in entries
            if entry["state"] in ACCEPTED and entry["cor_px"] is not None
        )
        is_modelled = self.campaign.config.fix_cor.over_time != "none"
        model = self._fixes(key)[1] if is_modelled else None
        lines = {each: model.line() if model else _line(trusted.get(each, ())) for each in layouts}
        line = lines.get(layout) if layout else None
        return {
            "trusted": [e["scan"] for e in trusted.get(layout, ())] if layout else [],
            "line": asdict(line) if line else None,
            "model": model.name if model else "",
            "on_line": {e["scan"]: _on_line(e, scans[e["scan"]], lines) for e in entries},
            "along": self.along(key),
        }

    def along(self, key: str) -> dict[str, Any]:
        """Return the horizontal axis of a series, as in the report, and the place of each scan."""
        series = next((each for each in self.record().series if each.key == key), None)
        name, places = places_along(series) if series else ("index", {})
        return {"name": name, "places": places}

    def trial(self, key: str, *, max_delta_px: float, protect_manual: bool) -> dict[str, Any]:
        """Fix a series with other options of fix_cor, as the step does, without writing.

        Returns `rows` as of fix_cor, with the present values as `now_px`, the median, the `model`
        over time that replaces it for views of a file, and the limit with the option or rule that
        determines it.
        """
        if not max_delta_px > 0:
            raise TomopipeError(f"max_delta_px: expected more than 0, got {max_delta_px:g}.")
        options = {"max_delta_px": max_delta_px, "protect_manual": protect_manual}
        fixes, model = self._fixes(key, options)
        results = [_trial_row(fix, self._by_name.get(scan)) for scan, fix in fixes.items()]
        limit_px = next((fix.limit_px for fix in fixes.values()), None)
        line = model.line() if model else None
        return {
            "rows": results,
            "along": self.along(key),
            "model": asdict(line) | {"name": model.name} if model and line else None,
            "median_px": finite_median(row["before_px"] for row in results),
            "limit_px": limit_px,
            "limit_from": "" if limit_px is None else limit_source(limit_px, max_delta_px),
        }

    def _fixes(
        self, key: str, options: Mapping[str, Any] | None = None
    ) -> tuple[dict[str, Fix], OverTime | None]:
        """Fix a series with the present table; return also its model over time, if it has one."""
        campaign = load_campaign(self.directory, self.config)
        path = campaign.files.inventory
        inventory = read_inventory(path) if path.is_file() else {}
        series, target = encode_series(key), Target(campaign, inventory)
        if not (scans := target.selected.series.get(series)):
            return {}, None
        block = campaign.config.fix_cor
        fixes = target.next_fixes(series, block.model_copy(update=options))
        is_over_time = file_over_time(campaign, scans)
        return fixes, model_of(fixes.values(), block.over_time) if is_over_time else None


def _point(scan: ScanRecord, cells: Mapping[str, str]) -> dict[str, Any]:
    fix = scan.fix
    return {
        "scan": scan.name,
        "index": scan.index,
        "before_px": fix.before_px if fix else None,
        "after_px": fix.after_px if fix else scan.shown[0],
        "source": (fix.source if fix else "") or scan.shown[1],
        "manual": text if CorText(text := cells.get("cor_px", "")).px is not None else "",
    }


def _line(trusted: Sequence[Mapping[str, Any]]) -> Line | None:
    return robust_line([e["index"] for e in trusted], [e["cor_px"] for e in trusted])


def _on_line(
    entry: Mapping[str, Any], scan: ScanRecord, lines: Mapping[Any, Line | None]
) -> float | None:
    """Return the COR of a scan on its line; that of `fix_cor`, if it is filled from a line."""
    cor_px, source = scan.shown
    if source in ("line", "time") and entry["source"] != "manual":
        return cor_px
    line = lines[scan.layout]
    return None if line is None else line.start_px + line.slope_px * entry["index"]


def _trial_row(fix: Fix, scan: ScanRecord | None) -> dict[str, Any]:
    now_px = scan.fix.after_px if scan is not None and scan.fix is not None else None
    shown = ("scan", "index", "before_px", "after_px", "limit_px", "source", "reason")
    values = {name: getattr(fix, name) for name in shown}
    changes = fix.after_px != now_px
    state = scan.state if scan is not None and not changes else source_named(fix.source).state
    state = State.UNRESOLVED if fix.after_px is None else state
    return values | {"now_px": now_px, "changes": changes, "state": state}
