"""Resolve a campaign: which results are up to date, which are to be made, and why.

The steps are visited in their order (docs/explanation/reruns.md). `plan` looks ahead: tables that
decide what follows are computed as the steps do, the inventory from the raw files, the CORs from
the predictions and the campaign table. CORs that hang on a pending prediction are not known yet:
what they may make is counted, and no job.
"""

import tempfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import chain, groupby, starmap
from operator import attrgetter
from pathlib import Path

from tomopipe.campaign import grey_range
from tomopipe.campaign.campaign import Campaign
from tomopipe.campaign.files import Files
from tomopipe.campaign.needed_files import refuse_missing_files, refuse_no_file
from tomopipe.campaign.option_fit import refuse_option_faults
from tomopipe.campaign.results import InventoryRows, read_cor_json, read_fixes, read_inventory
from tomopipe.campaign.series import to_resolve
from tomopipe.campaign.stacks import Stack
from tomopipe.cor.outliers import Fix
from tomopipe.errors import TomopipeError
from tomopipe.reruns import sidecars
from tomopipe.reruns.foreign import others_in_place
from tomopipe.reruns.needed import Needed, expected_inventory, known_fixes, needed_for
from tomopipe.reruns.reasons import FOLLOWS, MISSING, of_fixes
from tomopipe.reruns.receipts import Receipts, Result, State, content_of
from tomopipe.reruns.staleness import Staleness
from tomopipe.reruns.target import Cors, Target
from tomopipe.steps import resolve_cor
from tomopipe.storage.json_files import json_or
from tomopipe.storage.processes import without_garbage_collection
from tomopipe.workflow_steps import SEARCH_STEPS, STEPS, Step


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
    `before`: the decision before a table was made; the run keeps to what was needed then.
    """

    def __init__(
        self,
        campaign: Campaign,
        *,
        looks_ahead: bool = True,
        made: Collection[str] = (),
        volumes_of: Sequence[str] = (),
        before: "Settled | None" = None,
    ) -> None:
        self.target = Target(campaign, receipts=before.receipts if before else None)
        self.out = campaign.outputs
        self.looks_ahead, self.made, self.volumes_of = looks_ahead, made, volumes_of
        self.jobs: list[PlannedJob] = []  # in the order of the steps
        self.staleness = Staleness(self.target)
        self.receipts: Receipts = self.target.receipts
        self.predicting = self.staleness.predicting
        self.receipts_of = cache(lambda step: frozenset(self.receipts.keys(step)))  # at first
        self.target.looks_ahead = looks_ahead
        self.reasons: dict[tuple[str, str], str] = {}  # of jobs, by step and key
        self.pending = ""
        self.without_cor: list[str] = []  # scans that will have none
        self.blocked = ""  # why the run will stop before any volume
        self.with_sidecar: list[str] = []  # scans whose sidecars are written
        self.of_others: list[str] = []  # files of others in the places of what the jobs make
        # empty while the inventory is pending
        self.needed: Needed = before.needed if before else Needed((), {})
        self.open_scans: set[str] = set()  # scans whose CORs hang on a pending prediction
        self._missing: Collection[str] = ()  # scans without a COR
        self._fixes: dict[str, Fix] = {}
        self._new_range: grey_range.Frozen | None = None
        self._tables_change = False  # whether a table shown in the report changes
        self._is_sure = False  # whether it changes with any prediction
        if looks_ahead:
            refuse_no_file(campaign)
        refuse_missing_files(campaign)
        with without_garbage_collection(), self.receipts.looking():
            self._visit()
            replaced = starmap(self.recorded, self.reasons)
            self.of_others = others_in_place(self.receipts, replaced)

    def _visit(self) -> None:
        """Visit the steps in their order, and each result that the run needs.

        `_decide_<step>` decides by the tables of the run, too, `_after_<step>` reads a table.
        """
        for _, part in groupby(STEPS.values(), attrgetter("of_runs")):
            # first the facts: nothing decided in a part changes what its results are made from
            facts = {
                step: [self.target.result(step.name, key) for key in self._keys(step)]
                for step in part
            }
            for step, results in facts.items():
                for result in results:
                    self._decide(result)
                if read := getattr(self, f"_after_{step.name}", None):
                    read()  # what follows depends on its content
                if self.pending or self.blocked:
                    return

    @property
    def _has_cors(self) -> bool:
        """Whether the CORs that the run needs are known, or made."""
        return "resolve_cor" in self.made or not self.needed.has_unknown_cors

    def _keys(self, step: Step) -> Collection[str]:
        """Return the scans, series or stacks of which the run needs a result; or `campaign`."""
        is_needed = {
            "all": step.name not in self.made,
            "cors": not self._has_cors,
            "volumes": True,
            "whole": self.needed.is_whole,
        }
        if not (is_needed[step.of_runs] and step.is_enabled(self.campaign)):
            return ()
        if step.name in SEARCH_STEPS:
            return self.target.selected.to_search(chain.from_iterable(self.needed.series.values()))
        keys = {"scan": self.cors, "series": self.needed.series}
        return self._stacks if step.key == "stack" else sorted(keys.get(step.key, ["campaign"]))

    def _decide(self, result: Result) -> None:
        """Add the job of a result that is stale or made from results to be made."""
        step, key = result.step, result.key
        why = getattr(self, f"_decide_{step.name}", self.staleness.why_result)
        reason = why(result) or self._follows(step, key)
        if reason and (reason == MISSING or not self._is_open(step)):
            self._add(step, key, reason)

    def _is_open(self, step: Step) -> bool:
        """Tell whether the outcome of pending predictions may save a job of the whole campaign."""
        is_sure = step.shows_tables and self._is_sure
        return bool(step.changed and step.is_after_cors and self.predicting) and not is_sure

    def _follows(self, step: Step, key: str) -> str:
        """Say that a result is made again because a result of an input step is."""
        if step.key == "campaign":
            is_due = any(name in step.inputs for name, _ in self.reasons)
            return step.changed if is_due or (step.shows_tables and self._tables_change) else ""
        keys: Collection[str] = [key]
        if step.key == "stack":
            keys = self._stacks[key].scans
        elif step.key == "series":
            selected = self.target.selected
            keys = selected.series[key]
            if selected.uses_around(key):
                keys = [*keys, *selected.around(key)]
        return (
            FOLLOWS if any((name, k) in self.reasons for name in step.inputs for k in keys) else ""
        )

    def _add(self, step: Step, key: str, reason: str) -> None:
        scan, stack = (key if step.key == of else "" for of in ("scan", "stack"))
        series = key if step.key == "series" else self.campaign.scans[key].series if scan else ""
        job = PlannedJob(step.name, scan, series, reason, stack)
        self.jobs.append(job)
        self.reasons[step.name, job.key] = reason
        if step.name in SEARCH_STEPS:
            self.predicting.add(key)

    def recorded(self, step: str, key: str) -> dict[str, State | None]:
        """Return the files that a job replaces, and their states by its last receipt."""
        receipt, further = self.receipts.last(step, key), STEPS[step].replaces
        paths = self.target.outputs(step, key) + [self.out.named(name, key) for name in further]
        return {path: receipt.files.get(path) if receipt else None for path in paths}

    @property
    def campaign(self) -> Campaign:
        """The campaign, with the grey range of its volumes once that is known."""
        return self.target.campaign

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
        grey_range.freeze(campaign, self._new_range)
        REASONS.clear()
        REASONS.update(self.reasons)
        for result in REASONS:
            receipts.withdraw(*result)
        for step in STEPS.values() if self.jobs and not self.needed.is_whole else ():
            if step.shows_tables:  # the page will be older than its volumes
                receipts.withdraw(step.name, "campaign")
        # scans that a run does not predict by default
        selected = self.needed.scans if self.needed.is_whole else ()
        for scan in sorted({*selected} - {*self.target.selected.to_search(selected)}):
            for name in SEARCH_STEPS:
                if receipts.of(name, scan) and self.staleness.why(name, scan):
                    receipts.withdraw(name, scan)
        for result, statement in self.staleness.up_to_date.items():
            if result not in REASONS and result not in self.staleness.confirmed:
                receipts.write(*result, statement, self.target.outputs(*result))
        for step in STEPS.values() if self.pending == "inventory" else ():
            if step.of_runs == "cors" and step.name not in SEARCH_STEPS:
                for key in receipts.keys(step.name):
                    receipts.withdraw(step.name, key)
        if campaign.results.is_dir():
            receipts.save(of_raw=True)  # the rest at the end of the run
            campaign.views.save()

    @cached_property
    def _stacks(self) -> dict[str, Stack]:
        """The stacks whose scans all have a COR, or in time those that will have one."""
        stacks = self.target.stacks().items()
        return {name: stack for name, stack in stacks if self.open_scans.isdisjoint(stack.gaps)}

    # ---- steps that decide what follows ------------------------------------------------------

    def _after_inventory(self) -> None:
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

    def _decide_fix_cor(self, result: Result) -> str:
        """Say why the table of a series is made: by CORs that no pending prediction can change."""
        reason, series = self.staleness.why_result(result), result.key
        selected, changed = self.target.selected, result.step.changed
        if reason != changed or self.predicting.isdisjoint(selected.searched(series)):
            return reason
        scans = selected.series[series]
        fixes = known_fixes(self.staleness, series, scans)
        return of_fixes(selected.fixes(series), fixes, len(scans) - len(fixes))

    def _after_fix_cor(self) -> None:
        """Keep the rows of the tables of the series after the run."""
        if self._has_cors:
            return
        predicting, selected = self.predicting, self.target.selected
        for series, scans in self.needed.series.items():
            is_made, fixes = ("fix_cor", series) in self.reasons, dict[str, Fix]()
            try:
                fixes |= selected.fixes(series)
            except TomopipeError:  # damaged: made again, it counts as empty
                if not is_made:
                    raise
            is_next = is_made and self.looks_ahead
            if is_next and not predicting.isdisjoint([*scans, *selected.around(series)]):
                fixes = known_fixes(self.staleness, series, scans)
                self.open_scans |= {*scans} - {*fixes}
            elif is_next:
                before, fixes = fixes, self.target.next_fixes(series)
                self._tables_change |= fixes != before and self._is_whole("fix_cor", series)
            self._fixes |= fixes
        self._tables_change |= bool(predicting)

    def _decide_resolve_cor(self, result: Result) -> str:
        """Say why cor.json is made; keep its future content and the scans without a COR."""
        campaign, options = self.campaign, self.campaign.config.resolve_cor
        reason, step = self.staleness.why_result(result), result.step
        follows = any(name in step.inputs for name, _ in self.reasons)
        if follows and not self.looks_ahead:
            return FOLLOWS_FIX
        before, known = json_or(campaign.files.cor_table, None), self.needed.cors
        scans = to_resolve(campaign, self.rows)
        self.open_scans &= {*self.needed.scans} - known.keys()
        if self.open_scans or not self.needed.is_whole:
            others = self.open_scans | known.keys()
            scans = {scan: scans[scan] for scan in self.needed.scans if scan not in others}
            before = {scan: before[scan] for scan in scans if scan in (before or {})}
        table, self._missing = resolve_cor.compute(self._fixes, scans, options)
        if not reason and before != table:
            reason = resolve_cor.mismatch(self.out.cor_table)
        if self._missing and options.on_missing == "block":
            reason = reason or f"no COR for {', '.join(self._missing)}"
        # a missing or damaged one is assumed to come out as before
        self._tables_change |= self._is_whole(step.name, "campaign") and before != table
        self.target.cors = {**table, **known}
        return FOLLOWS_FIX if follows else reason

    def _after_resolve_cor(self) -> None:
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
        if self.cors and grey_range.is_open(self.campaign.config):
            self._measure_range()

    def _measure_range(self) -> None:
        """State volumes with the grey range of the campaign: the frozen one, or a new one.

        Looking ahead to the first sweeps of a campaign, it is not known yet.
        """
        try:
            campaign, self._new_range = grey_range.with_new(self.campaign, self.rows)
        except TomopipeError:
            if self.looks_ahead and self.predicting:
                return
            raise
        self.target.campaign = campaign
        self.target.cache.clear()

    def _decide_sidecar(self, result: Result) -> str:
        """Say why sidecars are written, which one job does."""
        fixing = {key for name, key in self.reasons if name == "fix_cor"}
        pending = {"predicting": self.predicting, "fixing": fixing}
        reason, self.with_sidecar = sidecars.why(self.staleness, result, self._fixes, **pending)
        return reason

    def _is_whole(self, step: str, key: str) -> bool:
        """Tell whether a table is present and unchanged."""
        receipt, path = self.receipts.last(step, key), self.target.outputs(step, key)[0]
        return bool(receipt and path in receipt.files and not self.receipts.damage(receipt, path))
