"""Whether a result is stale, and why: what it is made from is not what it should be made from.

A result states what it is made from, and so does its receipt (`tomopipe.reruns.receipts`); what it
should be made from is its target (`tomopipe.reruns.target`).
"""

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from tomopipe.campaign.campaign import Campaign
from tomopipe.campaign.failures import SEARCH_STEPS
from tomopipe.campaign.files import LINKS, NAMES, STACK
from tomopipe.campaign.reading import has_other_links
from tomopipe.campaign.relion_set import assumed_numbers
from tomopipe.campaign.results import (
    VOLUME_ROWS,
    InventoryRows,
    read_cor_json,
    read_fixes,
    read_inventory,
    read_tsv,
)
from tomopipe.campaign.series import predicted_files
from tomopipe.campaign.state.facts import is_looked_at_again
from tomopipe.campaign.step_files import volume_of
from tomopipe.errors import TomopipeError, some_of
from tomopipe.reruns.reasons import (
    METADATA_ALONE,
    MISSING,
    UNREADABLE,
    of_cor,
    of_difference,
    of_fixes,
    of_raw,
    of_scans,
    of_series,
)
from tomopipe.reruns.receipts import Receipt, Statement, digest, source_of, statement_in
from tomopipe.reruns.target import STEPS, Cors, Target, in_file
from tomopipe.steps import fix_cor
from tomopipe.storage.checksums import changed_links

if TYPE_CHECKING:
    from tomopipe.campaign.failures import Why

_N_NAMED = 3  # files in a reason


class Staleness:
    """Compares the results of a campaign with their targets."""

    def __init__(
        self, campaign: Campaign, rows: InventoryRows | None = None, cors: Cors | None = None
    ) -> None:
        self.campaign, self.target = campaign, Target(campaign, rows, cors)
        self.receipts = self.target.receipts
        self.up_to_date: dict[tuple[str, str], Statement] = {}
        """Statements of the results that are up to date, by step and key."""
        self.confirmed: set[tuple[str, str]] = set()  # those whose receipts state the same
        self.damaged: list[str] = []  # files changed after they were written, and how

    def why(self, step: str, key: str = "campaign") -> str:
        """Say why the results of a scan, series or stack are made; "" if they are up to date."""
        reason = self.why_stale(self.target.statement(step, key), key)
        more: dict[str, Callable[[str, str], str]] = {
            "inventory": lambda reason, _: self._why_inventory(reason),
            "predict_cor": self._why_predict_cor,
            "fix_cor": self._why_fix_cor,
            "export_star": lambda reason, _: reason or self._why_links(),
        }
        return more[step](reason, key) if step in more else reason

    # ---- what a result states, and what it should ----------------------------------------------

    def why_stale(self, target: Statement, key: str = "campaign") -> str:
        """Say why results do not agree with a statement; temporary ones may be missing."""
        step = target["step"]
        outputs = self.target.outputs(step, key)
        lasting = outputs[: STEPS[step].n_lasting(self.campaign)]
        self.up_to_date.pop((step, key), None)
        self.confirmed.discard((step, key))
        expected, receipt = digest(target), self.receipts.of(step, key)
        # as nearly all of thousands are
        is_same = receipt is not None and receipt.digest == expected
        if receipt and is_same and all(self.receipts.is_unchanged(receipt, p) for p in outputs):
            self.up_to_date[step, key] = target
            if len(receipt.files) == len(outputs):
                self.confirmed.add((step, key))
            return ""
        present = [path for path in outputs if os.path.lexists(self.receipts.path_of(path))]
        if any(path not in present for path in lasting):
            return MISSING
        receipt = self.receipts.last(step, key)
        damage = self._damage(step, key, receipt, present, expected) if receipt else None
        if damage:
            self.damaged.append(damage)
            return damage
        # copied, touched, or without a receipt: the statement in the result itself counts
        is_whole = damage == ""
        stated = receipt.digest if receipt and is_whole else ""
        statements = [] if stated else list(map(self._statement, present))
        if statements and statements[0]:
            others = {digest(statement) for statement in statements if statement is not None}
            # nothing, if others state something else
            stated = others.pop() if len(others) == 1 else ""
        if stated == expected:
            self.up_to_date[step, key] = target
            return ""
        if not stated:
            first, *further = zip(present, statements, strict=True)
            odd = [path for path, other in further if first[1] and other not in (None, first[1])]
            other = f"{odd[0]}: was not made with {first[0]}" if odd else ""
            return STEPS[step].changed or other or f"{outputs[0]}: {UNREADABLE}"
        return self._difference(step, key, outputs[0], target, is_whole=is_whole)

    def _damage(
        self, step: str, key: str, receipt: Receipt, present: Iterable[str], expected: str
    ) -> str | None:
        """Describe the damage of a file; "" if all are as in the receipt, None if that is open."""
        # what a killed job has made from other inputs since shows in its statement
        is_ours = self.receipts.of(step, key) or receipt.digest == expected
        result: str | None = ""
        for path in present:
            damage = self.receipts.damage(receipt, path) if path in receipt.files else None
            if damage and (is_ours or STEPS[step].changed):
                return f"{path}: {damage}"
            result = result if damage == "" else None
        return result

    def _statement(self, path: str) -> Statement | None:
        return statement_in(Path(self.receipts.path_of(path)))

    def _difference(
        self, step: str, key: str, path: str, target: Statement, *, is_whole: bool
    ) -> str:
        old, changed = self._statement(path), STEPS[step].changed
        if not old:
            return changed or "made from other inputs"
        lines = []
        if old.get("cor_px") != target.get("cor_px"):
            source = self.target.cors.get(key, {}).get("source", "")
            lines.append(of_cor(key, old.get("cor_px"), target.get("cor_px"), source))
        if old.get("raw") != target.get("raw"):
            lines.append(self._replaced_files(key, old.get("raw") or (), target.get("raw") or ()))
        lines += of_difference(old, target)
        # only unchanged results are read again
        only = f" ({METADATA_ALONE})" if is_whole and only_metadata_differ(old, target) else ""
        return "; ".join(dict.fromkeys(lines)) + only or changed or "written by no job"

    def _replaced_files(self, scan: str, old: Sequence[str], new: Sequence[str]) -> str:
        entry, receipts = self.campaign.scans[scan], self.receipts
        was = receipts.raw.path_of(os.path.basename(entry.path), old[0] if old else "")
        if was and os.path.abspath(receipts.path_of(was)) != entry.abspath:
            return f"raw file is another one: {entry.path}, was {was}"
        paths = [receipts.path_of(path) for path in self.target.raw_files(scan)]
        others = [path for path, was, now in zip(paths, old, new, strict=False) if was != now]
        return of_raw(others, paths[0])

    # ---- what more than the statement decides --------------------------------------------------

    def _why_inventory(self, reason: str) -> str:
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
        times = refused | {name: scan.mtime_ns for name, scan in campaign.scans.items()}
        return of_scans(rows, times, where.stat().st_mtime_ns) or STEPS["inventory"].changed

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
            before = read_fixes([campaign.files.fix_table(series)])
        except TomopipeError:
            return f"{target.out.fix_table(series)}: {UNREADABLE}"
        members = target.members(series)
        if why := of_series(before, members):
            return why
        scans = target.to_search([*target.series()[series], *target.scans_around(series)])
        predicted = predicted_files(campaign, scans)
        with suppress(TomopipeError):  # the job says what it cannot read
            around = target.members_around(series)
            after = fix_cor.compute(predicted, members, campaign.config.fix_cor, around)
            if len(predicted) == len(scans) and (why := of_fixes(before, after)):
                return why
        return reason

    def _why_links(self) -> str:
        """Say which links, through which RELION reads scans of other names, are missing."""
        try:
            names = read_tsv(self.campaign.files.in_relion(NAMES), ["scan", "rlnTomoName"])
        except (OSError, TomopipeError):
            return MISSING
        links = self.campaign.files.in_relion(LINKS)
        renamed = [row["rlnTomoName"] for row in names if row["rlnTomoName"] != row["scan"]]
        if any(not os.path.lexists(links / f"{name}{STACK}") for name in renamed):
            return MISSING
        changed = changed_links(links) if renamed else []
        path = self.target.out.in_relion(LINKS)
        return f"{path}: gone or changed: {some_of(changed, _N_NAMED)}" if changed else ""


def only_metadata_differ(old: Statement | None, target: Statement) -> bool:
    """Tell whether two statements differ only in their metadata."""
    ours = ("maker", "metadata")
    return (
        old is not None
        and old.get("metadata") != target.get("metadata")
        and {key: value for key, value in old.items() if key not in ours}
        == {key: value for key, value in target.items() if key not in ours}
    )


def relion_notes(campaign: Campaign, rows: InventoryRows) -> dict[str, list[str]]:
    """Return warnings about the set for RELION, and the scans that each concerns."""
    result = assumed_numbers(campaign, rows)
    for scan in campaign.selected_scans(rows) if campaign.makes_star else []:
        path, volume = campaign.outputs.mrc_volume(scan), volume_of(campaign, scan)
        source = source_of(campaign.directory / path)
        stated = None if source is None else statement_in(campaign.directory / volume)
        if stated is not None and source != digest(stated):
            result[
                f"{path} is not whole or not of the volume there is now: RELION's set does not "
                f"name it. `tomopipe convert mrc {scan}`, then `tomopipe run`"
            ] = [scan]
    return result


# ---- failed jobs ------------------------------------------------------------------------------


def why_again(campaign: Campaign) -> "Why":
    """Return a function that says why an existing result is stale, or "" if it is not.

    To be called only for failed jobs, as its first call takes time.
    """

    @cache
    def staleness() -> Staleness:
        return Staleness(campaign, read_inventory(campaign.files.inventory))

    @cache
    def why(step: str, key: str) -> str:
        try:
            return _why_failed(staleness(), step, key)
        except FileNotFoundError:  # the tables are to be made first
            return ""
        except (OSError, TomopipeError):
            return UNREADABLE

    return why


def _cors_for(campaign: Campaign, step: str, key: str) -> Cors:
    """Return cor.json; of a volume the COR by hand, which it may have before cor.json."""
    scan = campaign.scans[key] if step == "full_recon" else None
    if scan is None or scan.manual.px is None or not campaign.config.fix_cor.protect_manual:
        return read_cor_json(campaign.files.cor_table)
    return {key: {"cor_px": round(scan.manual.px, 2), "source": "manual"}}


def _why_failed(staleness: Staleness, step: str, key: str) -> str:
    campaign, target = staleness.campaign, staleness.target
    if step == "inventory":
        return staleness.why(step)
    if step != "stitch" and (key not in campaign.scans or key not in target.rows):
        return ""
    is_due = step in SEARCH_STEPS
    if step in ("full_recon", "stitch", "export_stack"):
        target.cors = _cors_for(campaign, step, key)
        keys = target.stacks() if step == "stitch" else target.cors
        is_due = key in keys and (step != "export_stack" or campaign.makes_star)
    reason = staleness.why(step, key) if is_due else ""
    return "another format" if (step, reason) == ("full_recon", MISSING) else reason
