"""Jobs of the next run, and why, found without Snakemake.

The steps are visited in their order (docs/explanation/reruns.md), and each result is decided as in
a run (`tomopipe.run.decisions`). The tables that decide what follows are computed as the steps do:
the inventory from the raw files, the CORs from the predictions and the campaign table. A pending
prediction is assumed to give the same COR, and files that a run would compare to be unchanged.
"""

import json
import tempfile
from collections.abc import Collection, Iterable, Mapping
from contextlib import chdir
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tomopipe.campaign.campaign import (
    Campaign,
    InventoryRows,
    as_json,
    read_inventory,
    refuse_vanished,
)
from tomopipe.campaign.files import NAMES, STAR, Files
from tomopipe.campaign.results import is_without_angles, proven_angles
from tomopipe.campaign.stacks import find_stacks
from tomopipe.campaign.state import LOOK_AGAIN, STILL_WRITTEN
from tomopipe.run import made_from
from tomopipe.run.decisions import Decisions
from tomopipe.run.foreign import foreign, refuse_foreign
from tomopipe.run.products import content_of, digest
from tomopipe.run.relion_set import star_options
from tomopipe.run.words import (
    CHANGED,
    FOLLOWS,
    IF_COR,
    MISSING,
    UNREADABLE,
    is_of_cor,
    of_scans,
    of_series,
)
from tomopipe.steps import fix_cor, inventory, resolve_cor, sidecar
from tomopipe.storage.tables import read_tsv

_STAND_IN = {"cor_px": -1.0, "source": "default"}  # of a scan whose COR is not known yet


@dataclass(frozen=True)
class PlannedJob:
    """A job that the next run executes, or may execute.

    Attributes
    ----------
    rule, scan, series, stack : str
        The rule and its scan, series or stack; empty if it does not apply.
    reason : str
        Why it runs, in words.
    certain : bool
        False: only if the COR of the scan changes, which a pending prediction decides.
    """

    rule: str
    scan: str
    series: str
    reason: str
    certain: bool = True
    stack: str = ""


class Expected:
    """The jobs of the next run of the default target.

    Parameters
    ----------
    campaign : Campaign
        The campaign as it is now.

    Attributes
    ----------
    jobs : list of PlannedJob
        Its jobs, in the order of the steps.
    rows : mapping
        The inventory, as the run will have it.
    predicting : set of str
        Scans whose prediction is pending.
    without_cor : list of str
        Scans that will have no COR.
    blocked : str
        Why the run will stop before any volume is made; "" if it will not.

    Raises
    ------
    TomopipeError
        If the run stops before anything.
    """

    def __init__(self, campaign: Campaign) -> None:
        self.campaign, self.out, self.jobs = campaign, campaign.outputs, list[PlannedJob]()
        self.decisions = Decisions(campaign, tell=lambda text: None)
        self.decisions.take_said()
        refuse_vanished(campaign)
        refuse_foreign(foreign(campaign, self.decisions.record))
        self.predicting: set[str] = set()
        self.without_cor: list[str] = []
        self.blocked = ""
        self._fixed: dict[str, Mapping[str, str]] = {}
        self._is_other = False  # a table shown in the report changes
        self.rows = self._inventory()
        for scan in campaign.selected_scans(self.rows):
            if scan not in campaign.failures:
                self._predict(scan)
        fixing = [self._fix(*one) for one in sorted(self._series.items())]
        cors = self._resolve(any(fixing))
        if not self.blocked:
            self._after_cor(cors)

    @cached_property
    def _series(self) -> Mapping[str, list[str]]:
        return self.campaign.selected_series(self.rows)

    @property
    def waiting(self) -> set[str]:
        """The series that have a pending prediction."""
        scans = self.campaign.scans
        return {scans[scan].series for scan in self.predicting if scan in scans}

    def _add(self, rule: str, reason: str, *, scan: str = "", **more: Any) -> None:
        series = self.campaign.scans[scan].series if scan else ""
        self.jobs.append(PlannedJob(rule, scan, **{"series": series} | more, reason=reason))

    def _reason(
        self,
        step: str,
        key: str,
        files: Collection[str],
        wanted: made_from.Statement,
        **more: Any,
    ) -> str:
        return self.decisions.reason(step, key, list(files), wanted, **more)

    # ---- up to cor.json ----------------------------------------------------------------------

    def _inventory(self) -> InventoryRows:
        """Return the inventory as the run will have it."""
        campaign, path = self.campaign, self.campaign.files.inventory
        scans = [scan.path for scan in (*campaign.scans.values(), *campaign.refused)]
        shared = [one for scan in campaign.scans for one in campaign.for_scan(scan).shared_files()]
        content = {one: self.decisions.record.raw(one) for one in {*scans, *shared}}
        wanted = made_from.of_inventory(campaign, content, "")
        reason = self._reason("inventory", "campaign", [self.out.inventory], wanted)
        rows = {} if reason else read_inventory(path)
        if not reason and (_is_looked_at_again(rows) or campaign.has_other_links(rows)):
            reason = CHANGED["inventory"]
        if not reason:
            return rows
        if reason == CHANGED["inventory"]:
            times = {name: scan.mtime_ns for name, scan in campaign.scans.items()}
            reason = of_scans(read_inventory(path), times, path.stat().st_mtime_ns)
        self._add("inventory", reason)
        with tempfile.TemporaryDirectory(prefix="tomopipe-plan-") as name:
            rows = foresee_inventory(campaign, Path(name))
            self._is_other = content_of(Files(Path(name)).inventory) != self._content(
                self.out.inventory
            )
        return rows

    def _raw(self, scan: str) -> list[str]:
        return self.decisions.raw(scan, self.rows)

    def _lacks_angles(self, scan: str) -> bool:
        return is_without_angles(self.rows[scan]["warnings"]) if scan in self.rows else False

    @cached_property
    def _networks(self) -> dict[str, str]:
        own = self.campaign.config.predict_cor.own_networks
        return {path: self.decisions.record.raw(path) for path in own}

    def _predict(self, scan: str) -> None:
        files = self.out.of_try_recon(scan)
        wanted = made_from.of_try_recon(self.campaign, scan, self._raw(scan))
        wanted |= {"angles": "proven"} if self._lacks_angles(scan) else {}
        tried = self._reason("try_recon", scan, files, wanted, may_be_gone=files[2:])
        if tried:
            self._add("try_recon", tried, scan=scan)
        files = self.out.of_predict_cor(scan)
        wanted = made_from.of_predict_cor(self.campaign, digest(wanted), self._networks)
        reason = self._reason("predict_cor", scan, files, wanted)
        if tried or reason:
            self.predicting.add(scan)
            self._is_other = True
            self._add("predict_cor", reason or FOLLOWS, scan=scan)

    def _fix(self, series: str, scans: list[str]) -> bool:
        """Decide on the table of a series, and keep its future rows."""
        campaign, table = self.campaign, self.out.fix_table(series)
        alive = [scan for scan in scans if scan not in campaign.failures]
        content = {
            scan: [self.decisions.content(path) for path in self.out.of_predict_cor(scan)]
            for scan in alive
        }
        members = campaign.members(series, self.rows, self.decisions.replaced(self.rows))
        wanted = made_from.of_fix_cor(campaign, members, content)
        path = campaign.files.fix_table(series)
        before = list(read_tsv(path, ("scan",))) if path.is_file() else []
        reason = self._reason("fix_cor", series, [table], wanted)
        if reason == CHANGED["fix_cor"]:
            reason = of_series({row["scan"]: row for row in before}, members)
        if not self.predicting.isdisjoint(scans):
            reason = reason or FOLLOWS
        rows: list[Mapping[str, str]] = list(before)
        if reason:
            self._add("fix_cor", reason, series=series)
            rows = list(
                fix_cor.compute(campaign.predicted_files(alive), members, campaign.config.fix_cor)
            )
            self._is_other |= rows != before
        self._fixed |= {row["scan"]: row for row in rows}
        return bool(reason)

    def _resolve(self, follows: bool) -> dict[str, dict[str, Any]]:
        """Return the CORs as the run will have them, with stand-ins for those not known yet."""
        campaign, options = self.campaign, self.campaign.config.resolve_cor
        scans = campaign.to_resolve(self.rows)
        table, missing = resolve_cor.compute(list(self._fixed.values()), scans, options.default_px)
        path = campaign.files.cor_table
        before = _read(path)
        wanted = made_from.of_resolve_cor(campaign)
        reason = self._reason("resolve_cor", "campaign", [self.out.cor_table], wanted)
        if not (reason or campaign.files.rot_cen.exists()):
            reason = MISSING
        if not reason and before != table:
            reason = f"{self.out.cor_table} is not what the tables of fix_cor make it"
        if follows or reason:
            self._add("resolve_cor", "follows fix_cor" if follows else reason)
        # a missing one is assumed to come out as before
        self._is_other |= before not in (None, table)
        waiting = self.waiting
        self.without_cor = [s for s in missing if campaign.scans[s].series not in waiting]
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
        guessed = {
            scan
            for scan, entry in cors.items()
            if entry is _STAND_IN or (scan in self.predicting and self._is_unproven(scan))
        }
        known = {
            scan: entry
            for scan, entry in cors.items()
            if scan in guessed or not self._is_unproven(scan)
        }
        volumes = {scan: self._volume_wanted(scan, known[scan]["cor_px"]) for scan in known}
        made = set()
        for scan in sorted(known):
            files, source = [self.campaign.volume(scan)], known[scan]["source"]
            reason = self._reason("full_recon", scan, files, volumes[scan], source=source)
            if reason:
                made.add(scan)
                self._add_of_cor("full_recon", scan, reason, guessed)
        made |= self._stitch(known, volumes, made)
        for scan in sorted(known):
            if reason := self._sidecar_reason(scan, known[scan]):
                self._add_of_cor("sidecar", scan, reason, guessed)
        self._star(known, guessed)
        if self.campaign.config.report.enabled:
            shown = {scan: wanted for scan, wanted in volumes.items() if scan not in guessed}
            follows = CHANGED["report"] if self._is_other or made else ""
            if reason := self._report_reason(known, shown) or follows:
                self._add("report", reason)

    def _add_of_cor(self, rule: str, scan: str, reason: str, guessed: Collection[str]) -> None:
        """Add a job that a pending prediction of the series may make unnecessary."""
        is_stale_sidecar = rule == "sidecar" and reason not in (MISSING, UNREADABLE)
        of_cor = is_stale_sidecar or (rule == "full_recon" and is_of_cor(reason))
        may_stay = of_cor and self.campaign.scans[scan].series in self.waiting
        if scan in guessed:
            self._add(rule, IF_COR, scan=scan, certain=False)
        else:
            self._add(rule, reason, scan=scan, certain=not may_stay)

    def _angles(self, scan: str) -> Any:
        return proven_angles(self.campaign.files.sweep(scan))

    def _is_unproven(self, scan: str) -> bool:
        return self._lacks_angles(scan) and self._angles(scan) is None

    def _with_angles(self, scan: str, wanted: made_from.Statement) -> made_from.Statement:
        return wanted | ({"angles": self._angles(scan)} if self._lacks_angles(scan) else {})

    def _volume_wanted(self, scan: str, cor_px: float) -> made_from.Statement:
        wanted = made_from.of_full_recon(self.campaign, scan, self._raw(scan), cor_px)
        return self._with_angles(scan, wanted)

    def _stitch(
        self,
        known: Mapping[str, Any],
        volumes: Mapping[str, made_from.Statement],
        made: Collection[str],
    ) -> set[str]:
        """Add the stacks to stitch, and return their names."""
        output, found = self.campaign.config.full_recon.output, set[str]()
        for stack in find_stacks(self.campaign, self.rows, known):
            if stack.problem:
                continue
            files = [self.out.shifts(stack.name), self.out.stitched(stack.name, output)]
            wanted = made_from.of_stitch(
                self.campaign, {scan: volumes[scan] for scan in stack.scans}
            )
            reason = self._reason("stitch", stack.name, files, wanted)
            if reason or not set(made).isdisjoint(stack.scans):
                found.add(stack.name)
                self._add("stitch", reason or FOLLOWS, stack=stack.name)
        return found

    def _sidecar_reason(self, scan: str, entry: Mapping[str, Any]) -> str:
        folder, path = self.campaign.directory, self.campaign.sidecar(scan)
        if path not in self.decisions.record and sidecar.is_of_another(folder / path, folder):
            path = self.out.sidecar(scan)
        row, prediction = self._fixed.get(scan), None
        if scan not in self.campaign.failures:
            prediction = _read(self.campaign.files.prediction(scan))
        content = as_json(sidecar.sidecar_content(scan, entry, row, prediction))
        return self.decisions.sidecar_reason(path, content)

    def _star(self, known: Mapping[str, Any], guessed: Collection[str]) -> None:
        campaign = self.campaign
        if not campaign.config.export_star.enabled:
            return
        follows = ""
        for scan in sorted(known):
            files = self.out.of_export_stack(scan)
            gone = [] if campaign.config.storage.keep_stacks else files[1:]
            wanted = made_from.of_export_stack(campaign, scan, self._raw(scan))
            wanted = self._with_angles(scan, wanted)
            reason = self._reason("export_stack", scan, files, wanted, may_be_gone=gone)
            if reason:
                follows = CHANGED["export_star"]
                self._add_of_cor("export_stack", scan, reason, guessed)
        metas = {scan: self.decisions.content(self.out.stack_meta(scan)) for scan in known}
        wanted = made_from.of_export_star(star_options(campaign, known), known, metas)
        files = [self.out.in_relion(name) for name in (STAR, NAMES)]
        if reason := self._reason("export_star", "campaign", files, wanted) or follows:
            self._add("export_star", reason)

    def _report_reason(
        self, known: Mapping[str, Any], volumes: Mapping[str, made_from.Statement]
    ) -> str:
        alive = [
            scan
            for scan in self.campaign.selected_scans(self.rows)
            if scan not in self.campaign.failures
        ]
        paths = [self.out.inventory, self.out.cor_table]
        paths += [self.out.fix_table(series) for series in self._series]
        paths += [self.out.prediction(scan) for scan in alive]
        paths += [
            self.out.shifts(stack.name)
            for stack in find_stacks(self.campaign, self.rows, known)
            if not stack.problem
        ]
        shown = {path: self._content(path) for path in paths}
        shown |= {scan: digest(wanted) for scan, wanted in volumes.items()}
        wanted = made_from.of_report(self.campaign, shown)
        return self._reason("report", "campaign", [self.out.report], wanted)

    def _content(self, path: str) -> str:
        """Return the checksum of a file; the last known one if it is missing."""
        known = self.decisions.record.products.get(path)
        return self.decisions.content(path) or (known.checksum if known else "")


def foresee_inventory(
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


def _is_looked_at_again(rows: InventoryRows) -> bool:
    """Tell whether a file was still being written, or could not be read."""
    reasons = [row["reason"] for row in rows.values()]
    return any(one.startswith(STILL_WRITTEN) or one.endswith(LOOK_AGAIN) for one in reasons)


def _read(path: Path) -> Any:
    """Read JSON; None if missing or unreadable."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
