"""Resolve a campaign: which results are up to date, which are to be made, and why.

The steps are visited in their order (docs/explanation/reruns.md). `plan` looks ahead: tables that
decide what follows are computed as the steps do, the inventory from the raw files, the CORs from
the predictions and the campaign table. A pending prediction is assumed to give the same COR.
"""

import gc
import os
import tempfile
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import chdir
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import chain
from pathlib import Path
from typing import Any

from tomopipe.campaign.campaign import Campaign
from tomopipe.campaign.files import LINKS, Files
from tomopipe.campaign.needed_files import refuse_missing_files, refuse_no_file
from tomopipe.campaign.option_fit import refuse_option_faults
from tomopipe.campaign.reading import inventory_entries
from tomopipe.campaign.results import InventoryRows, read_cor_json, read_fixes, read_inventory
from tomopipe.campaign.series import predicted_files, to_resolve
from tomopipe.campaign.stacks import find_stacks
from tomopipe.campaign.step_files import results_of, sidecar_of
from tomopipe.cor.outliers import Fix
from tomopipe.errors import TomopipeError, grouped, scans_named
from tomopipe.reruns.foreign import is_foreign
from tomopipe.reruns.needed import Needed, needed_for
from tomopipe.reruns.reasons import (
    CHANGED,
    FOLLOWS,
    IF_COR,
    IF_OTHER_COR,
    IF_OTHER_PAGE,
    MISSING,
    UNREADABLE,
    is_of_cor,
)
from tomopipe.reruns.receipts import State, content_of, digest
from tomopipe.reruns.target import Target
from tomopipe.steps import fix_cor, resolve_cor
from tomopipe.storage.json_files import json_or

_N_NAMED = 3  # differences in a reason
_PENDING_COR = {"cor_px": -1.0, "source": "default"}  # entry of a scan whose COR is pending


@dataclass(frozen=True)
class PlannedJob:
    """A job that the next run executes, or may execute."""

    rule: str
    # empty if the job is not of a scan or series
    scan: str
    series: str
    reason: str  # why it runs
    # False: it runs only if the COR of the scan changes, or if a comparison finds a difference
    certain: bool = True
    stack: str = ""

    @property
    def key(self) -> str:
        """The scan, stack or encoded series; `campaign` if the job has none."""
        return self.scan or self.stack or self.series or "campaign"

    @property
    def is_likely(self) -> bool:
        """Whether it is certain, or depends only on the first COR of a scan."""
        return self.certain or self.reason == IF_COR


FOLLOWS_FIX = "follows fix_cor"
REASONS: dict[tuple[str, str], str] = {}
"""Reasons of jobs by step and key, as last settled in this process."""


class Settled:
    """The jobs and up-to-date results of a campaign; raises if a run would stop at once.

    `looks_ahead`: pending tables are computed in memory, and what follows them is included;
    otherwise `pending` names the table, `inventory` or `resolve_cor`, after which to settle again.
    `made` are tables that this run has made: later changes count for the next run. `volumes_of`:
    scans of which the run makes the volumes, and what they need; by default it makes everything.
    `needed`, from the decision before a table was made, so that a run keeps to it.
    """

    def __init__(
        self,
        campaign: Campaign,
        *,
        looks_ahead: bool = True,
        made: Collection[str] = (),
        volumes_of: Sequence[str] = (),
        needed: Needed | None = None,
    ) -> None:
        self.campaign, self.out = campaign, campaign.outputs
        self.looks_ahead, self.made, self.volumes_of = looks_ahead, made, volumes_of
        self.jobs: list[PlannedJob] = []  # in the order of the steps
        self.target = Target(campaign)
        self.staleness = self.target.staleness
        self.receipts = self.staleness.receipts
        self.pending = ""
        self.predicting: set[str] = set()  # scans whose prediction is pending
        self._waiting_around: set[str] = set()  # series compared with those of such scans
        self.without_cor: list[str] = []  # scans that will have none
        self.blocked = ""  # why the run will stop before any volume
        self.cors: Mapping[str, Mapping[str, Any]] = {}  # cor.json after the run
        self._fixes: dict[str, Fix] = {}
        self._by_hand: set[str] = set()  # scans with a COR by hand
        self._tables_change = False  # whether a table shown in the report changes
        self._is_sure = False  # whether it changes with any prediction
        self._may_be_other = False  # whether a missing table may change
        self.rows: InventoryRows = {}  # the inventory after the run
        self.of_others: list[str] = []  # files of others in the places of what the jobs make
        self.needed = needed or Needed((), {})  # empty while the inventory is pending
        if looks_ahead:
            refuse_no_file(campaign)
        refuse_missing_files(campaign)
        collects = gc.isenabled()
        gc.disable()  # garbage collection would take a third of the time, and find nothing
        try:
            with self.receipts.looking():
                self._visit()
                self.of_others = list(self._of_others())
        finally:
            if collects:
                gc.enable()

    def _visit(self) -> None:
        """Visit the steps in their order."""
        self.rows = self.target.rows = self._inventory()
        if self.pending:
            return
        files, needed = self.campaign.files, self.needed
        if not (self.made and needed.scans):
            needed = self.needed = needed_for(self.target, self.volumes_of)
        scans = needed.scans
        if not needed.has_unknown_cors:
            self.cors, self.without_cor = needed.cors, [*needed.without_cor]
        elif "resolve_cor" in self.made:
            self._fixes = read_fixes(map(files.fix_table, needed.series))
            cors, present = {**read_cor_json(files.cor_table), **needed.cors}, set(scans)
            self.cors = {scan: entry for scan, entry in cors.items() if scan in present}
            self.without_cor = [scan for scan in scans if scan not in cors]
        else:
            for scan in self.target.to_search(chain.from_iterable(needed.series.values())):
                self._predict(scan)
            fixing = [self._fix(*item) for item in sorted(needed.series.items())]
            self._resolve(any(fixing))
        if not (self.blocked or self.pending):
            self._after_cor()

    def recorded(self, step: str, key: str) -> dict[str, State | None]:
        """Return the files that a job replaces, and their states by its last receipt."""
        receipt = self.receipts.last(step, key)
        paths = [*self.outputs(step, key), *[self.out.in_relion(LINKS)] * (step == "export_star")]
        return {path: receipt.files.get(path) if receipt else None for path in paths}

    def _of_others(self) -> Iterator[str]:
        """Yield files of others that jobs will keep aside; raise for a link to nothing."""
        for step, key in self.reasons:
            for path, state in self.recorded(step, key).items():
                where, now = self.receipts.path_of(path), self.receipts.state(path)
                if now is None and os.path.islink(where):
                    raise TomopipeError(
                        f"{where}: a link to {os.readlink(where)}, which does not exist: mount its "
                        "disk, or remove the link to have the result made again."
                    )
                if now not in (None, state) and is_foreign(where, state):
                    yield path

    def act(self) -> None:
        """Withdraw the receipts of results to be made, and write those of up-to-date results.

        While the inventory is pending, so are all tables that follow, until it settles again.
        """
        receipts, campaign = self.receipts, self.campaign
        REASONS.clear()
        REASONS.update(self.reasons)
        for step, key in REASONS:
            receipts.withdraw(step, key)
        if self.jobs and not self.needed.is_whole:  # the page will be older than its volumes
            receipts.withdraw("report", "campaign")
        # scans that a run does not predict by default
        selected = self.needed.scans if self.needed.is_whole else ()
        for scan in sorted({*selected} - {*self.target.to_search(selected)}):
            for step in ("try_recon", "predict_cor"):
                if receipts.of(step, scan) and self.target.why_step(step, scan, {}):
                    receipts.withdraw(step, scan)
        for (step, key), statement in self.staleness.up_to_date.items():
            if (step, key) not in REASONS and (step, key) not in self.staleness.confirmed:
                receipts.confirm(step, key, statement, self.outputs(step, key))
        if self.pending == "inventory":
            receipts.withdraw("resolve_cor", "campaign")
            for key in receipts.keys("fix_cor"):
                receipts.withdraw("fix_cor", key)
        if campaign.results.is_dir():
            receipts.save()

    def others_sidecars(self) -> list[str]:
        """Return the sidecars beside raw files that another campaign has written."""
        own = partial(sidecar_of, self.campaign)
        return [own(scan) for scan in self.cors if self.target.sidecar(scan) != own(scan)]

    @cached_property
    def reasons(self) -> dict[tuple[str, str], str]:
        """Reasons of jobs, by step and key."""
        return {(job.rule, job.key): job.reason for job in self.jobs}

    @property
    def others(self) -> resolve_cor.CorTable:
        """The entries of cor.json that a run for some volumes does not resolve: as they are."""
        if self.needed.is_whole:
            return {}
        before = json_or(self.campaign.files.cor_table, {})
        scans = {*self.campaign.selected_scans(self.rows)} - {*self.needed.scans}
        return {scan: before[scan] for scan in scans if scan in before} | self.needed.cors

    @property
    def totals(self) -> dict[str, int]:
        """The number of jobs of each step, as far as they are known."""
        return dict(Counter(job.rule for job in self.jobs))

    def outputs(self, step: str, key: str) -> list[str]:
        """Return the files of a result, relative to the campaign."""
        if step == "sidecar":
            return [self.target.sidecar(scan) for scan in self.cors]
        return results_of(self.campaign, step, key)

    def scans_of_fix(self, series: str) -> list[str]:
        """Return the scans whose predictions fix_cor of a series waits for.

        A table that stays, and has no estimated CORs, does not follow other series. A run for some
        volumes takes the other series as they are.
        """
        target, own = self.target, self.target.series().get(series, [])
        if not (("fix_cor", series) in self.reasons or target.uses_around(series)):
            return own
        in_run = {scan for scans in self.needed.series.values() for scan in scans}
        return [*own, *(scan for scan in target.scans_around(series) if scan in in_run)]

    @cached_property
    def waiting(self) -> set[str]:
        """The series that have a pending prediction, or are filled from series that have one."""
        scans = self.campaign.scans
        own = {scans[scan].series for scan in self.predicting if scan in scans}
        return own | self._waiting_around

    def _add(self, rule: str, reason: str, *, scan: str = "", **more: Any) -> None:
        series = self.campaign.scans[scan].series if scan else ""
        self.jobs.append(PlannedJob(rule, scan, **{"series": series} | more, reason=reason))

    # ---- up to cor.json ----------------------------------------------------------------------

    def _inventory(self) -> InventoryRows:
        """Return the inventory after the run."""
        campaign = self.campaign
        reason = "" if "inventory" in self.made else self.target.why_inventory()
        if not reason:
            rows = read_inventory(campaign.files.inventory)
            refuse_option_faults(campaign, rows)
            return rows
        self._add("inventory", reason)
        self._is_sure = not reason.startswith((MISSING, self.out.inventory))
        if not self.looks_ahead:
            self.pending = "inventory"
            return {}
        with tempfile.TemporaryDirectory(prefix="tomopipe-plan-") as name:
            rows = expected_inventory(campaign, Path(name))
            before = self._content(self.out.inventory)
            self._tables_change = content_of(Files(Path(name)).inventory) != before
        return rows

    def _predict(self, scan: str) -> None:
        if tried := self.staleness.why_stale(self.target.of_try_recon(scan), scan):
            self._add("try_recon", tried, scan=scan)
        reason = self.target.why_predict_cor(scan)
        if tried or reason:
            self.predicting.add(scan)
            self._tables_change = True
            self._add("predict_cor", reason or FOLLOWS, scan=scan)

    def _fix(self, series: str, scans: list[str]) -> bool:
        """Decide on the table of a series, and keep its future rows."""
        campaign, path = self.campaign, self.campaign.files.fix_table(series)
        reason, before = self.target.why_fix_cor(series), dict[str, Fix]()
        try:
            before |= read_fixes([path]) if path.is_file() else {}
        except TomopipeError:  # damaged: made again, it counts as empty
            if not reason:
                raise
        around = self.target.scans_around(series)
        is_pending = not self.predicting.isdisjoint(around)
        if not self.predicting.isdisjoint(scans) or (
            is_pending and self.target.uses_around(series)
        ):
            reason = reason or FOLLOWS
        if reason and is_pending:
            self._waiting_around.add(campaign.scans[scans[0]].series)
        fixes = before
        if reason:
            self._add("fix_cor", reason, series=series)
        if reason and self.looks_ahead:
            files = predicted_files(campaign, self.target.to_search([*scans, *around]))
            members, beside = self.target.members(series), self.target.members_around(series)
            try:
                fixes = fix_cor.compute(files, members, campaign.config.fix_cor, beside)
            except TomopipeError:  # of a prediction that is made again
                if self.predicting.isdisjoint([*scans, *around]):
                    raise
            is_whole = self._is_whole("fix_cor", self.out.fix_table(series))
            self._tables_change |= fixes != before and is_whole
            self._may_be_other |= not is_whole
        self._fixes |= fixes
        return bool(reason)

    def _resolve(self, follows: bool) -> None:
        """Decide on cor.json, and keep its future content, with stand-ins for pending CORs."""
        campaign, options = self.campaign, self.campaign.config.resolve_cor
        if follows and not self.looks_ahead:
            self._add("resolve_cor", FOLLOWS_FIX)
            self.pending = "resolve_cor"
            return
        before, known = json_or(campaign.files.cor_table, None), self.needed.cors
        scans = to_resolve(campaign, self.rows)
        if not self.needed.is_whole:
            scans = {scan: scans[scan] for scan in self.needed.scans if scan not in known}
            present = json_or(campaign.files.cor_table, {})
            before = {scan: present[scan] for scan in scans if scan in present}
        table, missing = resolve_cor.compute(self._fixes, scans, options.default_px)
        reason = self.staleness.why_stale(self.target.of_resolve_cor())
        if not reason and before != table:
            reason = resolve_cor.mismatch(self.out.cor_table)
        if missing and options.on_missing == "block":
            reason = reason or f"no COR for {', '.join(missing)}"
        if follows or reason:
            self._add("resolve_cor", FOLLOWS_FIX if follows else reason)
            self.pending = "" if self.looks_ahead else "resolve_cor"
        # a missing or damaged one is assumed to come out as before
        self._tables_change |= self._is_whole("resolve_cor", self.out.cor_table) and before != table
        self.without_cor = [s for s in missing if campaign.scans[s].series not in self.waiting]
        if self.without_cor and options.on_missing == "block":
            self.blocked = (
                f"no COR for {', '.join(self.without_cor)}: the run will stop before any volume is "
                "made. Set one with `tomopipe cor set SCAN VALUE`, give resolve_cor.default_px, "
                "take the scan out (select: no), or set resolve_cor.on_missing: skip."
            )
        guessed = {scan: _PENDING_COR for scan in missing if scan in self.predicting}
        self.cors = {**table, **known, **guessed}

    # ---- after cor.json ----------------------------------------------------------------------

    def _after_cor(self) -> None:
        """Go through volumes, sidecars, stacks, star and report; what may run is not certain."""
        campaign, target, cors = self.campaign, self.target, self.cors
        guessed = {scan for scan, entry in cors.items() if entry is _PENDING_COR}
        self._by_hand = {scan for scan in cors if cors[scan]["source"] == "manual"}
        scans = {*self.needed.scans} - self.needed.cors.keys() if self.waiting else set()
        pending = {scan for scan in scans if campaign.scans[scan].series in self.waiting}
        made = set()
        for scan in sorted({*cors, *pending}):
            reason = ""
            if scan in cors:
                statement = target.of_full_recon(scan, cors[scan]["cor_px"])
                reason = self.staleness.why_stale(statement, scan, source=cors[scan]["source"])
            if reason:
                made.add(scan)
                self._add_of_cor("full_recon", scan, reason, guessed)
            elif scan in pending:
                self._add("full_recon", IF_OTHER_COR, scan=scan, certain=False)
        if not self.needed.is_whole:
            return
        made |= self._stitch(pending, made)
        self._sidecars(guessed)
        if campaign.makes_star:
            self._star(guessed)
        if campaign.config.report.enabled:
            statement = target.of_report(cors, self._content, unknown=guessed)
            reason = self.staleness.why_stale(statement)
            reason = reason or (CHANGED["report"] if self._tables_change or made else "")
            self._add_of_all("report", reason, is_sure=self._is_sure, may_run=self._may_be_other)

    def _stitch(self, pending: Collection[str], made: Collection[str]) -> set[str]:
        """Decide on stitched volumes; return those that follow volumes that are made."""
        cors = self.cors
        perhaps = {job.scan for job in self.jobs if job.rule == "full_recon" and not job.certain}
        result = set()
        for stack in find_stacks(self.campaign, self.rows, {*cors, *pending}):
            scans, reason = set(stack.scans), ""
            if not stack.problem and scans <= cors.keys():
                reason = self.staleness.why_stale(self.target.of_stitch(stack, cors), stack.name)
                reason = reason or (FOLLOWS if scans.intersection(made) else "")
            if reason:
                result.add(stack.name)
                certain = reason == MISSING or scans.isdisjoint(perhaps)
                self._add("stitch", reason, stack=stack.name, certain=certain)
            elif not stack.problem and scans.intersection(pending):
                self._add("stitch", IF_OTHER_COR, stack=stack.name, certain=False)
        return result

    def _add_of_all(
        self, rule: str, reason: str, *, is_sure: bool = False, may_run: bool = False
    ) -> None:
        """Add a job of the whole campaign, which a pending prediction may make necessary."""
        if reason or may_run or self.waiting:
            certain = reason == MISSING or (bool(reason) and (is_sure or not self.waiting))
            self._add(rule, reason or IF_OTHER_PAGE, certain=certain)

    def _add_of_cor(self, rule: str, scan: str, reason: str, guessed: Collection[str]) -> None:
        """Add a job that a pending prediction of the series may make unnecessary."""
        is_known = scan in self._by_hand or scan in self.needed.cors
        of_cor = rule == "full_recon" and is_of_cor(reason) and not is_known
        if scan in guessed:
            self._add(rule, IF_COR, scan=scan, certain=False)
        elif of_cor and self.campaign.scans[scan].series in self.waiting:
            # a COR without the prediction is not the next one
            self._add(rule, IF_OTHER_COR, scan=scan, certain=False)
        else:
            self._add(rule, reason, scan=scan)

    def _sidecars(self, guessed: Collection[str]) -> None:
        """Decide on the sidecars, which one job writes."""
        step, key, statement = "sidecar", "campaign", self.target.of_sidecars(self.cors)
        receipt = self.receipts.of(step, key)
        is_right = receipt is not None and receipt.digest == digest(statement)
        if receipt and is_right:
            is_right = all(self.receipts.damage(receipt, path) == "" for path in receipt.files)
        texts = {} if is_right else self.target.sidecars(self.cors, self._fixes)
        why, scans = self.target.why_sidecar, self.campaign.scans
        reasons = {scan: reason for scan, text in texts.items() if (reason := why(scan, text))}
        damaged = [self.target.sidecar(scan) for scan in reasons if reasons[scan] == UNREADABLE]
        self.staleness.damaged += [f"{path}: {UNREADABLE}" for path in damaged]
        due = {
            scan: reason
            for scan, reason in reasons.items()
            if reason in (MISSING, UNREADABLE) or scans[scan].series not in self.waiting
        }
        sure = grouped((reason, scan) for scan, reason in due.items() if scan not in guessed)
        if sure:
            named = [text.replace("{scan}", scans_named(each)) for text, each in sure.items()]
            self._add(step, "; ".join(named[:_N_NAMED]))
        elif reasons or self.waiting:
            self._add(step, IF_COR if due else IF_OTHER_COR, certain=False)
        else:
            self.staleness.up_to_date[step, key] = statement

    def _star(self, guessed: Collection[str]) -> None:
        follows = ""
        for scan in sorted(self.cors):
            if reason := self.staleness.why_stale(self.target.of_export_stack(scan), scan):
                follows = CHANGED["export_star"]
                self._add_of_cor("export_stack", scan, reason, guessed)
        self._add_of_all("export_star", self.target.why_export_star(self.cors) or follows)

    def _content(self, path: str) -> str:
        """Return the checksum of a file; the last known one if it is missing or damaged."""
        receipts = self.receipts
        return receipts.last_content(path) if self.looks_ahead else receipts.content(path)

    def _is_whole(self, step: str, path: str) -> bool:
        """Tell whether a table is present and unchanged."""
        key = "campaign" if step != "fix_cor" else Path(path).stem
        receipt = self.receipts.last(step, key)
        return bool(receipt and path in receipt.files and not self.receipts.damage(receipt, path))


def expected_inventory(campaign: Campaign, folder: Path) -> InventoryRows:
    """Write the inventory of the present raw files into `folder`, and return its rows."""
    from tomopipe.steps import inventory  # slow to load

    entries = inventory_entries(campaign)
    with chdir(campaign.directory):  # as in a run: the paths in the config are relative to it
        inventory.inventory(entries, Files(folder).inventory, campaign.config)
    return read_inventory(Files(folder).inventory)
