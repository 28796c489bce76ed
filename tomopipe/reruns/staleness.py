"""Whether a result is stale, and why: what it is made from is not what it should be made from.

A result states what it is made from, and so does its receipt (`tomopipe.reruns.receipts`); what it
should be made from is its target (`tomopipe.reruns.target`).
"""

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from tomopipe.campaign.campaign import Campaign
from tomopipe.campaign.files import NAMES_COLUMNS, STACK
from tomopipe.campaign.reading import has_other_links
from tomopipe.campaign.results import VOLUME_ROWS, read_inventory, read_tsv
from tomopipe.campaign.series import predicted_files
from tomopipe.campaign.state.facts import is_looked_at_again
from tomopipe.errors import TomopipeError, scans_named, some_of
from tomopipe.reruns.reasons import (
    METADATA_ALONE,
    MISSING,
    UNREADABLE,
    of_difference,
    of_entries,
    of_fixes,
    of_raw,
    of_scans,
    of_series,
    of_statements,
    only_metadata_differ,
)
from tomopipe.reruns.receipts import Made, Result, Statement, statement_in
from tomopipe.reruns.target import Target
from tomopipe.storage.checksums import changed_links
from tomopipe.storage.json_files import in_file
from tomopipe.workflow_steps import STEPS

_N_NAMED = 3  # files in a reason


class Staleness:
    """Compares the results of a campaign with their targets."""

    def __init__(self, target: Target) -> None:
        self.target, self.receipts = target, target.receipts
        self.up_to_date: dict[tuple[str, str], Statement] = {}
        """Statements of the results that are up to date, by step and key."""
        self.confirmed: set[tuple[str, str]] = set()  # those whose receipts state the same
        self.predicting = set[str]()  # scans whose prediction is pending
        self.damaged: list[str] = []  # files changed after they were written, and how

    @property
    def campaign(self) -> Campaign:
        """The campaign, with the grey range of its volumes once that is known."""
        return self.target.campaign

    def why(self, step: str, key: str = "campaign") -> str:
        """Say why the results of a scan, series or stack are made; "" if they are up to date."""
        return self.why_result(self.target.result(step, key))

    def why_result(self, result: Result) -> str:
        """Say why a result is made."""
        reason, more = self.why_stale(result), getattr(self, f"_why_{result.step.name}", None)
        return more(reason, result.key) if more else reason

    # ---- what a result states, and what it should ----------------------------------------------

    def why_stale(self, result: Result) -> str:
        """Say why a result does not agree with its target; temporary files may be missing."""
        step, key, target, outputs, _ = result
        made, which = self.receipts.made(result), (step.name, key)
        self.up_to_date.pop(which, None)
        self.confirmed.discard(which)
        if made.agrees:
            self.up_to_date[which] = target
            if made.is_confirmed:
                self.confirmed.add(which)
            return ""
        if made.is_missing:
            return MISSING
        if made.damage:
            self.damaged.append(made.damage)
            return made.damage
        if not (made.is_whole or made.statement):
            return step.changed or made.odd or f"{outputs[0]}: {UNREADABLE}"
        if not made.statement:
            return step.changed or "made from other inputs"
        return self._difference(made, made.statement, result) or step.changed or "written by no job"

    def _difference(self, made: Made, old: Statement, result: Result) -> str:
        """Say how what a result states differs from its target."""
        key, target = result.key, result.target
        source = self.target.cors.get(key, {}).get("source", "")
        before, now = old.get("raw") or (), target.get("raw") or ()
        files = self._replaced_files(key, before, now) if before != now else ""
        # only unchanged results are read again
        only = f" ({METADATA_ALONE})" if made.is_whole and only_metadata_differ(old, target) else ""
        return of_statements(old, target, key, source, files) + only

    def _replaced_files(self, scan: str, old: Sequence[str], new: Sequence[str]) -> str:
        entry, receipts = self.campaign.scans[scan], self.receipts
        was = receipts.raw.path_of(os.path.basename(entry.path), old[0] if old else "")
        if was and os.path.abspath(receipts.path_of(was)) != entry.abspath:
            return f"raw file is another one: {entry.path}, was {was}"
        paths = [receipts.path_of(path) for path in self.target.raw_files(scan)]
        others = [path for path, was, now in zip(paths, old, new, strict=False) if was != now]
        return of_raw(others, paths[0])

    # ---- what more than the statement decides: `_why_<step>`, from its reason and the key --------

    def _why_inventory(self, reason: str, _: str) -> str:
        """Say why the inventory is made; also for files still being written, and changed links."""
        campaign, where = self.campaign, self.campaign.files.inventory
        if reason not in ("", STEPS["inventory"].changed):
            return reason
        try:
            rows = read_inventory(where)
        except TomopipeError:
            return f"{self.target.out.inventory}: {UNREADABLE}"
        if not reason and not is_looked_at_again(rows) and not has_other_links(campaign, rows):
            return ""
        refused = {scan.name: scan.mtime_ns for scan in campaign.refused}
        times = refused | dict.fromkeys(campaign.scans)  # the receipt has what was replaced
        of_files = of_scans(rows, times, where.stat().st_mtime_ns)
        lines = [of_files, *self._of_receipt("inventory")]
        return "; ".join(filter(None, lines)) or STEPS["inventory"].changed

    def _why_resolve_cor(self, reason: str, _: str) -> str:
        """Say why cor.json is made: the options that changed."""
        is_plain = reason == STEPS["resolve_cor"].changed
        return ("; ".join(self._of_receipt("resolve_cor")) if is_plain else "") or reason

    def _of_receipt(self, step: str) -> list[str]:
        """Say how the receipt of a table, which states nothing itself, differs from its target."""
        receipts, target = self.receipts, self.target.result(step, "campaign").target
        old = statement_in(Path(receipts.path_of(self.target.out.receipt(step))))
        if old is None:
            return []
        parts = "entries", "raw"
        before, now = ({k: v for k, v in each.items() if k not in parts} for each in (old, target))
        lines = of_difference(before, now)
        lines += of_entries(old, target)
        was, raw = old.get("raw", {}), target.get("raw", {})
        replaced = {path for path in was.keys() & raw.keys() if was[path] != raw[path]}
        scans = self.campaign.scans.values()
        own = {scan.part_path: scan.name for scan in scans}
        if names := sorted(own[path] for path in replaced & own.keys()):
            lines.append(f"raw file replaced: {', '.join(names)}")
        others = sorted(map(receipts.path_of, replaced - own.keys() - {s.path for s in scans}))
        return lines + ([of_raw(others, "")] if others else [])

    def _why_predict_cor(self, reason: str, scan: str) -> str:
        """Say why a prediction is made; also if its verdict on a tilted axis is for other rows."""
        path = self.receipts.path_of(self.target.out.prediction(scan))
        before = None if reason else in_file(path, VOLUME_ROWS)
        rows = self.campaign.for_scan(scan).config.full_recon.rows
        return reason if before in (None, rows) else f"rows {before} -> {rows}"

    def _why_fix_cor(self, reason: str, series: str) -> str:
        """Say why the table of a series is made: the scans and CORs that changed."""
        if reason != STEPS["fix_cor"].changed:
            return reason
        target, campaign = self.target, self.campaign
        try:
            before = target.selected.fixes(series)
        except TomopipeError:
            return f"{target.out.fix_table(series)}: {UNREADABLE}"
        members = target.selected.members(series)
        unselected = {scan.name for scan in campaign.unselected}
        if why := of_series(before, members, unselected):
            return why
        scans = target.selected.searched(series)
        predicted = predicted_files(campaign, scans)
        if due := [scan for scan in scans if not (scan in predicted or scan in campaign.failures)]:
            return f"no prediction yet: {scans_named(due)}"
        if self.predicting.isdisjoint(scans):  # earlier predictions say nothing
            with suppress(TomopipeError):  # the job says what it cannot read
                return of_fixes(before, target.next_fixes(series))
        return reason

    def _why_export_star(self, reason: str, _: str) -> str:
        """Say why the set is made; also if links, by which RELION reads scans, are missing."""
        if reason:
            return reason
        files = self.campaign.files
        try:
            names = read_tsv(files.tomogram_names, NAMES_COLUMNS)
        except (OSError, TomopipeError):
            return MISSING
        pairs = ((row[column] for column in NAMES_COLUMNS) for row in names)
        renamed = [name for scan, name in pairs if name != scan]
        if any(not os.path.lexists(files.links / f"{name}{STACK}") for name in renamed):
            return MISSING
        changed = changed_links(files.links) if renamed else []
        path = self.target.out.links
        return f"{path}: gone or changed: {some_of(changed, _N_NAMED)}" if changed else ""
