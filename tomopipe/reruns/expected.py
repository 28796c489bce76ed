"""Jobs of the next run, and why, found without Snakemake.

The steps are visited in their order (docs/explanation/reruns.md), and each result is decided as in
a run (`tomopipe.reruns.decisions`). Tables that decide what follows are computed as the steps do:
the inventory from the raw files, the CORs from the predictions and the campaign table. A pending
prediction is assumed to give the same COR, and files that a run would compare to be unchanged.
"""

import tempfile
from collections.abc import Collection, Iterable, Mapping
from contextlib import chdir
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tomopipe.campaign.campaign import Campaign, InventoryRows, as_json, read_inventory
from tomopipe.campaign.files import Files
from tomopipe.campaign.stacks import find_stacks
from tomopipe.errors import TomopipeError
from tomopipe.reruns.decisions import Decisions
from tomopipe.reruns.foreign import refuse_foreign
from tomopipe.reruns.option_faults import refuse_missing_files, refuse_no_file, refuse_option_faults
from tomopipe.reruns.products import content_of
from tomopipe.reruns.wanted import Wanted
from tomopipe.reruns.words import (
    CHANGED,
    FOLLOWS,
    IF_COR,
    IF_OTHER_COR,
    IF_OTHER_PAGE,
    MISSING,
    UNREADABLE,
    is_of_cor,
)
from tomopipe.steps import fix_cor, inventory, resolve_cor, sidecar
from tomopipe.storage.json_files import json_or
from tomopipe.storage.tables import read_tsv

_STAND_IN = {"cor_px": -1.0, "source": "default"}  # of a scan whose COR is not known yet


@dataclass(frozen=True)
class PlannedJob:
    """A job that the next run executes, or may execute."""

    rule: str
    # empty if it is not of one
    scan: str
    series: str
    reason: str  # why it runs, in words
    # False: only if the COR of the scan changes, or if a comparison finds another content
    certain: bool = True
    stack: str = ""

    @property
    def is_likely(self) -> bool:
        """Whether it is certain, or only depends on a COR that a scan has not had yet."""
        return self.certain or self.reason == IF_COR


class Expected:
    """The jobs of the next run of the default target; raises if it stops before anything."""

    def __init__(self, campaign: Campaign) -> None:
        self.campaign, self.out = campaign, campaign.outputs
        self.jobs: list[PlannedJob] = []  # in the order of the steps
        self.decisions = Decisions(campaign, tell=lambda text: None)
        self.decisions.take_job_records()
        refuse_no_file(campaign)
        refuse_missing_files(campaign)
        refuse_foreign(campaign, self.decisions.record)
        self.predicting: set[str] = set()  # scans whose prediction is pending
        self.without_cor: list[str] = []  # scans that will have none
        self.blocked = ""  # why the run will stop before any volume
        self._fixed: dict[str, Mapping[str, str]] = {}
        self._by_hand: set[str] = set()  # scans with a COR by hand
        self._is_other = False  # a table shown in the report changes
        self._may_be_other = False  # a missing one comes out as it was, or not
        self.rows: InventoryRows = {}  # as the run will have them
        self.wanted = Wanted(campaign, self.decisions, lambda: self.rows)
        self.rows = self._inventory()
        to_search = self.wanted.to_search(campaign.selected_scans(self.rows))
        for scan in to_search:
            self._predict(scan)
        self.without_angles = [  # and so without a volume
            s for s in to_search if self.wanted.is_unproven(s) and s not in self.predicting
        ]
        fixing = [self._fix(*item) for item in sorted(self.wanted.series().items())]
        cors = self._resolve(any(fixing))
        if not self.blocked:
            self._after_cor(cors)

    @cached_property
    def waiting(self) -> set[str]:
        """The series that have a pending prediction."""
        scans = self.campaign.scans
        return {scans[scan].series for scan in self.predicting if scan in scans}

    def _add(self, rule: str, reason: str, *, scan: str = "", **more: Any) -> None:
        series = self.campaign.scans[scan].series if scan else ""
        self.jobs.append(PlannedJob(rule, scan, **{"series": series} | more, reason=reason))

    # ---- up to cor.json ----------------------------------------------------------------------

    def _inventory(self) -> InventoryRows:
        """Return the inventory as the run will have it."""
        campaign = self.campaign
        if not (reason := self.wanted.why_inventory(self.out.inventory)):
            rows = read_inventory(campaign.files.inventory)
            refuse_option_faults(campaign, rows)
            return rows
        self._add("inventory", reason)
        with tempfile.TemporaryDirectory(prefix="tomopipe-plan-") as name:
            rows = expected_inventory(campaign, Path(name))
            self._is_other = content_of(Files(Path(name)).inventory) != self._content(
                self.out.inventory
            )
        return rows

    def _predict(self, scan: str) -> None:
        if tried := self.wanted.why(self.wanted.of_try_recon(scan), scan):
            self._add("try_recon", tried, scan=scan)
        reason = self.wanted.why_predict_cor(scan)
        if tried or reason:
            self.predicting.add(scan)
            self._is_other = True
            self._add("predict_cor", reason or FOLLOWS, scan=scan)

    def _fix(self, series: str, scans: list[str]) -> bool:
        """Decide on the table of a series, and keep its future rows."""
        campaign, path = self.campaign, self.campaign.files.fix_table(series)
        reason = self.wanted.why_fix_cor(series)
        before = _rows_before(path, is_made=bool(reason))
        if not self.predicting.isdisjoint(scans):
            reason = reason or FOLLOWS
        rows: list[Mapping[str, str]] = list(before)
        if reason:
            self._add("fix_cor", reason, series=series)
            files = campaign.predicted_files(self.wanted.to_search(scans))
            members = self.wanted.members(series)
            rows = list(fix_cor.compute(files, members, campaign.config.fix_cor))
            is_whole = self._is_whole(self.out.fix_table(series))
            self._is_other |= rows != before and is_whole
            self._may_be_other |= not is_whole
        self._fixed |= {row["scan"]: row for row in rows}
        return bool(reason)

    def _resolve(self, follows: bool) -> dict[str, dict[str, Any]]:
        """Return the CORs as the run will have them, with stand-ins for those not known yet."""
        campaign, options = self.campaign, self.campaign.config.resolve_cor
        scans = campaign.to_resolve(self.rows)
        table, missing = resolve_cor.compute(list(self._fixed.values()), scans, options.default_px)
        before = json_or(campaign.files.cor_table, None)
        reason = self.wanted.why(self.wanted.of_resolve_cor())
        if not (reason or campaign.files.rot_cen.exists()):
            reason = MISSING
        if not reason and before != table:
            reason = resolve_cor.is_other(self.out.cor_table)
        if follows or reason:
            self._add("resolve_cor", "follows fix_cor" if follows else reason)
        # a missing or damaged one is assumed to come out as before
        self._is_other |= self._is_whole(self.out.cor_table) and before not in (None, table)
        self.without_cor = [s for s in missing if campaign.scans[s].series not in self.waiting]
        if self.without_cor and options.on_missing == "block":
            self.blocked = (
                f"no COR for {', '.join(self.without_cor)}: the run will stop before any volume is "
                "made. Set one with `tomopipe cor set SCAN VALUE`, give resolve_cor.default_px, "
                "take the scan out (select: no), or set resolve_cor.on_missing: skip."
            )
        return table | {scan: _STAND_IN for scan in missing if scan in self.predicting}

    # ---- after cor.json ----------------------------------------------------------------------

    def _after_cor(self, cors: Mapping[str, Mapping[str, Any]]) -> None:
        """Go through volumes, sidecars, stacks, star and report."""
        unproven = {scan for scan in cors if self.wanted.is_unproven(scan)}
        guessed = {scan for scan, entry in cors.items() if entry is _STAND_IN}
        guessed |= unproven & self.predicting
        known = {scan: cors[scan] for scan in cors if scan in guessed or scan not in unproven}
        self._by_hand = {scan for scan in known if known[scan]["source"] == "manual"}
        made = set()
        for scan in sorted(known):
            if reason := self.wanted.why_full_recon(scan, known[scan]):
                made.add(scan)
                self._add_of_cor("full_recon", scan, reason, guessed)
        for name, stack in self.wanted.stacks(known).items():
            volumes = [j for j in self.jobs if j.rule == "full_recon" and j.scan in stack.scans]
            follows = FOLLOWS if volumes else ""
            if reason := self.wanted.why(self.wanted.of_stitch(stack, known), name) or follows:
                made.add(name)
                is_due = reason == MISSING or not volumes or any(job.certain for job in volumes)
                self._add("stitch", reason, stack=name, certain=is_due)
        for scan in sorted(known):
            if reason := self._sidecar_reason(scan, known[scan]):
                self._add_of_cor("sidecar", scan, reason, guessed)
        if self.campaign.config.export_star.enabled:
            self._star(known, guessed)
        if self.campaign.config.report.enabled:
            follows = CHANGED["report"] if self._is_other or made else ""
            wanted = self.wanted.of_report(known, self._content, unknown=guessed)
            reason = self.wanted.why(wanted) or follows
            if reason or self._may_be_other:
                certain = self._is_due(reason, "full_recon", "stitch", "inventory")
                self._add("report", reason or CHANGED["report"], certain=certain)
        self._perhaps()

    def _add_of_cor(self, rule: str, scan: str, reason: str, guessed: Collection[str]) -> None:
        """Add a job that a pending prediction of the series may make unnecessary."""
        is_stale_sidecar = rule == "sidecar" and reason not in (MISSING, UNREADABLE)
        of_cor = rule == "full_recon" and is_of_cor(reason) and scan not in self._by_hand
        may_stay = (is_stale_sidecar or of_cor) and self.campaign.scans[scan].series in self.waiting
        if scan in guessed:
            self._add(rule, IF_COR, scan=scan, certain=False)
        elif may_stay:  # a COR without the prediction is not the next one
            self._add(rule, IF_OTHER_COR, scan=scan, certain=False)
        else:
            self._add(rule, reason, scan=scan)

    def _sidecar_reason(self, scan: str, entry: Mapping[str, Any]) -> str:
        row, prediction = self._fixed.get(scan), None
        if scan not in self.campaign.failures:
            prediction = json_or(self.campaign.files.prediction(scan), None)
        content = as_json(sidecar.sidecar_content(scan, entry, row, prediction))
        return self.wanted.why_sidecar(scan, content)

    def _star(self, known: Mapping[str, Any], guessed: Collection[str]) -> None:
        follows = ""
        for scan in sorted(known):
            if reason := self.wanted.why(self.wanted.of_export_stack(scan), scan):
                follows = CHANGED["export_star"]
                self._add_of_cor("export_stack", scan, reason, guessed)
        if reason := self.wanted.why_export_star(known) or follows:
            certain = self._is_due(reason, "export_stack")
            self._add("export_star", reason, certain=certain)

    def _is_due(self, reason: str, *rules: str) -> bool:
        """Tell whether what shows results of these rules is made whatever is predicted."""
        if not self.predicting:
            return bool(reason)
        before = (job for job in self.jobs if job.rule in rules and job.certain)
        return reason == MISSING or not all(map(self._comes_out_as_it_was, before))

    def _comes_out_as_it_was(self, job: PlannedJob) -> bool:
        """Tell whether a job replaces a missing or damaged file of before cor.json: no more."""
        if job.rule not in ("export_stack", "inventory"):
            return False
        return job.reason.startswith((MISSING, *self.campaign.results_of(job.rule, job.scan)))

    def _perhaps(self) -> None:
        """Add what a pending prediction of its series may make run, unless it runs anyway."""
        campaign, rows, waiting = self.campaign, self.rows, self.waiting
        planned = {(job.rule, job.scan or job.stack) for job in self.jobs}
        for scan in campaign.selected_scans(rows):
            for rule in ("full_recon", "sidecar"):
                if campaign.scans[scan].series in waiting and (rule, scan) not in planned:
                    self._add(rule, IF_OTHER_COR, scan=scan, certain=False)
        for stack in find_stacks(campaign, rows, rows) if waiting else ():
            is_waiting = any(campaign.scans[scan].series in waiting for scan in stack.scans)
            if not stack.problem and is_waiting and ("stitch", stack.name) not in planned:
                self._add("stitch", IF_OTHER_COR, stack=stack.name, certain=False)
        for rule in ("export_star", "report") if waiting else ():
            if getattr(campaign.config, rule).enabled and (rule, "") not in planned:
                self._add(rule, IF_OTHER_PAGE, certain=False)

    def _content(self, path: str) -> str:
        """Return the checksum of a file; the last known one if it is missing or damaged."""
        record = self.decisions.record
        if path in record and record.damage(path):
            return record.products[path].checksum
        return record.content(path)

    def _is_whole(self, path: str) -> bool:
        """Tell whether a table is there, as it was written."""
        record = self.decisions.record
        return path in record and not record.damage(path)


def _rows_before(path: Path, *, is_made: bool) -> list[dict[str, str]]:
    """Return the rows of a table; none of a damaged one that is made again."""
    try:
        return read_tsv(path, ("scan",)) if path.is_file() else []
    except TomopipeError:
        if is_made:
            return []
        raise


def expected_inventory(
    campaign: Campaign, folder: Path, wanted: Iterable[str] | None = None
) -> InventoryRows:
    """Write the inventory of the present raw files into `folder`, and return its rows.

    `wanted` names the scans to read; None: all.
    """
    entries = campaign.inventory_entries()
    if wanted is not None:
        entries = [entry for entry in entries if entry["scan"] in set(wanted)]
    with chdir(campaign.directory):  # as in a run: the paths in the config are relative to it
        inventory.inventory(entries, Files(folder).inventory, campaign.config)
    return read_inventory(Files(folder).inventory)
