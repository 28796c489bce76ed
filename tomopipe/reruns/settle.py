"""Resolve a campaign: which results are up to date, which are to be made, and why.

The steps are visited in their order (docs/explanation/reruns.md). `plan` looks ahead: tables that
decide what follows are computed as the steps do, the inventory from the raw files, the CORs from
the predictions and the campaign table. CORs that hang on a pending prediction are not known yet:
what they may make is counted, and no job.
"""

import gc
import os
import tempfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import chdir
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import chain
from pathlib import Path

from tomopipe.campaign.campaign import Campaign
from tomopipe.campaign.failures import SEARCH_STEPS
from tomopipe.campaign.files import LINKS, Files
from tomopipe.campaign.needed_files import refuse_missing_files, refuse_no_file
from tomopipe.campaign.option_fit import refuse_option_faults
from tomopipe.campaign.reading import inventory_entries
from tomopipe.campaign.results import InventoryRows, read_cor_json, read_fixes, read_inventory
from tomopipe.campaign.series import predicted_files, to_resolve
from tomopipe.campaign.stacks import Stack
from tomopipe.campaign.step_files import sidecar_of
from tomopipe.cor.outliers import Fix
from tomopipe.errors import TomopipeError, grouped, scans_named
from tomopipe.reruns import sidecars
from tomopipe.reruns.foreign import is_foreign
from tomopipe.reruns.needed import Needed, known_fixes, needed_for
from tomopipe.reruns.reasons import FOLLOWS, MISSING, UNREADABLE
from tomopipe.reruns.receipts import State, content_of, digest
from tomopipe.reruns.staleness import Staleness
from tomopipe.reruns.target import STEPS, Cors, Step
from tomopipe.steps import fix_cor, resolve_cor
from tomopipe.storage.json_files import json_or

_N_NAMED = 3  # differences in a reason
_TO_CORS = (*SEARCH_STEPS, "fix_cor", "resolve_cor")


@dataclass(frozen=True)
class PlannedJob:
    """A job that the next run executes."""

    rule: str
    # empty if the job is not of a scan or series
    scan: str
    series: str
    reason: str  # why it runs
    stack: str = ""

    @property
    def key(self) -> str:
        """The scan, stack or encoded series; `campaign` if the job has none."""
        return self.scan or self.stack or self.series or "campaign"


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
        self.staleness = Staleness(campaign)
        self.target, self.receipts = self.staleness.target, self.staleness.receipts
        self.target.looks_ahead = looks_ahead
        self.reasons: dict[tuple[str, str], str] = {}  # of jobs, by step and key
        self.pending = ""
        self.without_cor: list[str] = []  # scans that will have none
        self.blocked = ""  # why the run will stop before any volume
        self.of_others: list[str] = []  # files of others in the places of what the jobs make
        self.needed = needed or Needed((), {})  # empty while the inventory is pending
        self.open_scans: set[str] = set()  # scans whose CORs hang on a pending prediction
        self._missing: Collection[str] = ()  # scans without a COR
        self._fixes: dict[str, Fix] = {}
        self._tables_change = False  # whether a table shown in the report changes
        self._is_sure = False  # whether it changes with any prediction
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
        """Visit the steps in their order, and each result that the run needs."""
        tables = {
            "inventory": self._read_inventory,
            "fix_cor": self._read_fixes,
            "resolve_cor": self._read_cors,
        }
        for step in STEPS.values():
            for key in self._keys(step):
                self._decide(step, key)
            if step.name in tables:  # what follows depends on its content
                tables[step.name]()
            if self.pending or self.blocked:
                return

    def _keys(self, step: Step) -> Collection[str]:
        """Return the scans, series or stacks of which the run needs a result; or `campaign`."""
        needed, config, name = self.needed, self.campaign.config, step.name
        if name == "inventory":
            return () if name in self.made else ("campaign",)
        if name in _TO_CORS:
            if not needed.has_unknown_cors or "resolve_cor" in self.made:
                return ()
            scans = chain.from_iterable(needed.series.values())
            keys = {"scan": self.target.to_search(scans), "series": sorted(needed.series)}
            return keys.get(step.key, ("campaign",))
        if name == "full_recon":
            return sorted(self.cors)
        is_enabled = self.campaign.makes_star if name.startswith("export_") else True
        if not (needed.is_whole and is_enabled) or (name == "report" and not config.report.enabled):
            return ()
        return {"scan": sorted(self.cors), "stack": self._stacks}.get(step.key, ("campaign",))

    def _decide(self, step: Step, key: str) -> None:
        """Add the job of a result that is stale or made from results to be made."""
        if step.name == "sidecar":
            self._sidecars(step)
            return
        reason = self.staleness.why(step.name, key)
        if step.name == "resolve_cor":
            reason = self._why_cors(reason)
        reason = reason or self._follows(step, key)
        if reason and (reason == MISSING or not self._is_open(step.name)):
            self._add(step, key, reason)

    def _is_open(self, step: str) -> bool:
        """Tell whether the outcome of pending predictions may save a job of the whole campaign."""
        is_sure = step == "report" and self._is_sure
        return step in ("export_star", "report") and bool(self.predicting) and not is_sure

    def _follows(self, step: Step, key: str) -> str:
        """Say that a result is made again because a result of an input step is."""
        if step.key == "campaign":
            is_due = any(name in step.inputs for name, _ in self.reasons)
            return step.changed if is_due or (step.name == "report" and self._tables_change) else ""
        keys: Collection[str] = [key]
        if step.key == "stack":
            keys = self._stacks[key].scans
        elif step.key == "series":
            keys = self.target.series()[key]
            if self.target.uses_around(key):
                keys = [*keys, *self.target.scans_around(key)]
        return (
            FOLLOWS if any((name, k) in self.reasons for name in step.inputs for k in keys) else ""
        )

    def _add(self, step: Step, key: str, reason: str) -> None:
        scan, stack = (key if step.key == of else "" for of in ("scan", "stack"))
        series = key if step.key == "series" else self.campaign.scans[key].series if scan else ""
        job = PlannedJob(step.name, scan, series, reason, stack)
        self.jobs.append(job)
        self.reasons[step.name, job.key] = reason

    def recorded(self, step: str, key: str) -> dict[str, State | None]:
        """Return the files that a job replaces, and their states by its last receipt."""
        receipt, links = self.receipts.last(step, key), self.out.in_relion(LINKS)
        paths = [*self.target.outputs(step, key), *[links] * (step == "export_star")]
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

    @property
    def rows(self) -> InventoryRows:
        """The inventory after the run."""
        return self.target.rows

    @property
    def cors(self) -> Cors:
        """The content of cor.json after the run."""
        return self.target.cors

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
            for step in SEARCH_STEPS:
                if receipts.of(step, scan) and self.staleness.why(step, scan):
                    receipts.withdraw(step, scan)
        for (step, key), statement in self.staleness.up_to_date.items():
            if (step, key) not in REASONS and (step, key) not in self.staleness.confirmed:
                receipts.confirm(step, key, statement, self.target.outputs(step, key))
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

    @property
    def others(self) -> resolve_cor.CorTable:
        """The entries of cor.json that a run for some volumes does not resolve: as they are."""
        if self.needed.is_whole:
            return {}
        before = json_or(self.campaign.files.cor_table, {})
        scans = {*self.campaign.selected_scans(self.rows)} - {*self.needed.scans}
        return {scan: before[scan] for scan in scans if scan in before} | self.needed.cors

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

    @property
    def predicting(self) -> set[str]:
        """The scans whose prediction is pending."""
        return {key for step, key in self.reasons if step == "predict_cor"}

    @cached_property
    def _stacks(self) -> dict[str, Stack]:
        """The stacks whose scans all have a COR."""
        return self.target.stacks()

    # ---- tables that decide what follows -----------------------------------------------------

    def _read_inventory(self) -> None:
        """Keep the inventory after the run, what the run needs, and CORs that are known now."""
        campaign, files = self.campaign, self.campaign.files
        reason = self.reasons.get(("inventory", "campaign"), "")
        if not reason:
            self.target.rows = read_inventory(files.inventory)
            refuse_option_faults(campaign, self.rows)
        elif not self.looks_ahead:
            self.pending = "inventory"
            return
        else:
            self._is_sure = not reason.startswith((MISSING, self.out.inventory))
            with tempfile.TemporaryDirectory(prefix="tomopipe-plan-") as name:
                self.target.rows = expected_inventory(campaign, Path(name))
                before = self.target.content(self.out.inventory)
                self._tables_change = content_of(Files(Path(name)).inventory) != before
        if not (self.made and self.needed.scans):
            self.needed = needed_for(self.staleness, self.volumes_of)
        needed = self.needed
        if not needed.has_unknown_cors:
            self.target.cors, self.without_cor = needed.cors, [*needed.without_cor]
        elif "resolve_cor" in self.made:
            self._fixes = read_fixes(map(files.fix_table, needed.series))
            cors, present = {**read_cor_json(files.cor_table), **needed.cors}, set(needed.scans)
            self.target.cors = {scan: entry for scan, entry in cors.items() if scan in present}
            self.without_cor = [scan for scan in needed.scans if scan not in cors]

    def _read_fixes(self) -> None:
        """Keep the rows of the tables of the series after the run."""
        if "resolve_cor" in self.made or not self.needed.has_unknown_cors:
            return
        predicting = self.predicting
        for series, scans in self.needed.series.items():
            around, path = self.target.scans_around(series), self.campaign.files.fix_table(series)
            is_made, fixes = ("fix_cor", series) in self.reasons, dict[str, Fix]()
            try:
                fixes |= read_fixes([path]) if path.is_file() else {}
            except TomopipeError:  # damaged: made again, it counts as empty
                if not is_made:
                    raise
            is_next = is_made and self.looks_ahead
            if is_next and not predicting.isdisjoint([*scans, *around]):
                fixes = known_fixes(self.staleness, series, scans)
                self.open_scans |= {*scans} - {*fixes}
            elif is_next:
                before, target = fixes, self.target
                files = predicted_files(self.campaign, target.to_search([*scans, *around]))
                beside, options = target.members_around(series), self.campaign.config.fix_cor
                fixes = fix_cor.compute(files, target.members(series), options, beside)
                self._tables_change |= fixes != before and self._is_whole("fix_cor", series)
            self._fixes |= fixes
        self._tables_change |= bool(predicting)

    def _why_cors(self, reason: str) -> str:
        """Say why cor.json is made; keep its future content and the scans without a COR."""
        campaign, options = self.campaign, self.campaign.config.resolve_cor
        follows = any(step == "fix_cor" for step, _ in self.reasons)
        if follows and not self.looks_ahead:
            return FOLLOWS_FIX
        before, known = json_or(campaign.files.cor_table, None), self.needed.cors
        scans = to_resolve(campaign, self.rows)
        self.open_scans &= {*self.needed.scans} - known.keys()
        if self.open_scans or not self.needed.is_whole:
            others = self.open_scans | known.keys()
            scans = {scan: scans[scan] for scan in self.needed.scans if scan not in others}
            before = {scan: before[scan] for scan in scans if scan in (before or {})}
        table, self._missing = resolve_cor.compute(self._fixes, scans, options.default_px)
        if not reason and before != table:
            reason = resolve_cor.mismatch(self.out.cor_table)
        if self._missing and options.on_missing == "block":
            reason = reason or f"no COR for {', '.join(self._missing)}"
        # a missing or damaged one is assumed to come out as before
        self._tables_change |= self._is_whole("resolve_cor", "campaign") and before != table
        self.target.cors = {**table, **known}
        return FOLLOWS_FIX if follows else reason

    def _read_cors(self) -> None:
        """Keep which scans have no COR after the run, and whether that stops it."""
        if ("resolve_cor", "campaign") in self.reasons and not self.looks_ahead:
            self.pending, self.target.cors = "resolve_cor", {}
            return
        self.without_cor = self.without_cor or [*self._missing]
        if self.without_cor and self.campaign.config.resolve_cor.on_missing == "block":
            self.blocked = (
                f"no COR for {', '.join(self.without_cor)}: the run will stop before any volume is "
                "made. Set one with `tomopipe cor set SCAN VALUE`, give resolve_cor.default_px, "
                "take the scan out (select: no), or set resolve_cor.on_missing: skip."
            )

    def _sidecars(self, step: Step) -> None:
        """Decide on the sidecars, which one job writes."""
        name, key = step.name, "campaign"
        statement, receipt = self.target.statement(name), self.receipts.of(name, key)
        is_right = receipt is not None and receipt.digest == digest(statement)
        if receipt and is_right:
            is_right = all(self.receipts.damage(receipt, path) == "" for path in receipt.files)
        texts = {} if is_right else sidecars.contents(self.target, self._fixes)
        written, predicting = sidecars.why_written, self.predicting
        reasons = {s: why for s, text in texts.items() if (why := written(self.target, s, text))}
        damaged = [self.target.sidecar(scan) for scan in reasons if reasons[scan] == UNREADABLE]
        self.staleness.damaged += [f"{path}: {UNREADABLE}" for path in damaged]
        certain = grouped(
            (reason, scan)
            for scan, reason in reasons.items()
            if scan not in predicting or reason in (MISSING, UNREADABLE)
        )
        if certain:
            lines = [text.replace("{scan}", scans_named(each)) for text, each in certain.items()]
            self._add(step, key, "; ".join(lines[:_N_NAMED]))
        elif not reasons:
            self.staleness.up_to_date[name, key] = statement

    def _is_whole(self, step: str, key: str) -> bool:
        """Tell whether a table is present and unchanged."""
        receipt, path = self.receipts.last(step, key), self.target.outputs(step, key)[0]
        return bool(receipt and path in receipt.files and not self.receipts.damage(receipt, path))


def expected_inventory(campaign: Campaign, folder: Path) -> InventoryRows:
    """Write the inventory of the present raw files into `folder`, and return its rows."""
    from tomopipe.steps import inventory  # slow to load

    entries = inventory_entries(campaign)
    with chdir(campaign.directory):  # as in a run: the paths in the config are relative to it
        inventory.inventory(entries, Files(folder).inventory, campaign.config)
    return read_inventory(Files(folder).inventory)
