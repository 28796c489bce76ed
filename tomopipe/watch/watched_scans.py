"""The scans that a watcher has taken, and their verdicts: kept, shown on a page and reported."""

import heapq
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tomopipe.campaign.arrivals import Arrival
from tomopipe.campaign.campaign import Campaign
from tomopipe.campaign.files import Files
from tomopipe.campaign.raw_files import find_scans
from tomopipe.campaign.state import ACCEPTED, NOT_SELECTED, ScanFacts, State
from tomopipe.config import Config
from tomopipe.cor.cor_value import same_cor
from tomopipe.report.collected_records import collect_scans
from tomopipe.scans.raw_state import file_state
from tomopipe.storage.atomic import write_json
from tomopipe.storage.json_files import json_or
from tomopipe.watch.hooks import Hooks
from tomopipe.watch.live_page import MOST_ROWS, picture, write_page

_QUIET = (*ACCEPTED, State.UNSELECTED)
_MOST_PICTURES = 4  # made between two checks: scans that come do not wait for those of all others
_FOR_HOOKS = ("scan", "path", "cor_px", "confidence", "doubtful", "reason", "rule", "seconds")


@dataclass(frozen=True)
class Verdict:
    """The verdict on one scan."""

    # its name and state
    scan: str
    scan_state: str
    cor_px: float | None = None  # its COR, unbinned detector pixels
    confidence: float | None = None  # that of the prediction; None if the COR is another one
    doubtful: bool = False  # whether a person must look at it
    reason: str = ""  # why it is in its state; may be ""
    best_cor_px: float | None = None  # the COR of its picture: where it has none, the best estimate


def skipped(scan: str, reason: str) -> Verdict:
    """Return the verdict on a scan that cannot be used."""
    return Verdict(scan, State.SKIPPED, doubtful=True, reason=reason)


def _verdict(scan: str, facts: ScanFacts) -> Verdict | None:
    """Return the verdict on a scan; None if it is not predicted yet."""
    state, prediction = facts.state, facts.prediction
    if state is State.PENDING:
        return None
    if state is State.SKIPPED:
        return skipped(scan, f"skipped: {facts.reason}")
    if state in NOT_SELECTED:
        return Verdict(scan, state)
    cor_px = facts.shown[0]
    is_predicted = prediction is not None and same_cor(cor_px, prediction.cor_px)
    return Verdict(
        scan,
        state,
        cor_px,
        prediction.confidence if prediction and is_predicted else None,
        state not in _QUIET,
        facts.why,
        facts.best_px,
    )


def present_verdicts(
    campaign: Campaign, *, are_new: bool, since: float = 0.0
) -> dict[str, Verdict]:
    """Return the verdicts on the raw files of a campaign, by path, from its results.

    Where `are_new`, the tables are of earlier files: predictions alone count, made after `since`
    (Unix seconds).
    """
    result = {}
    for record in collect_scans(campaign):
        facts = record
        if are_new:
            path = campaign.files.prediction(record.name)
            is_old = path.exists() and path.stat().st_mtime < since
            facts = replace(record, cor_px=None, source="", fix=None, decided=False)
            facts = replace(facts, prediction=None) if is_old else facts
        if verdict := _verdict(record.name, facts):
            result[record.path] = verdict
    return result


class WatchedScans:
    """The scans in results/live/taken.json; a watcher replaces `config` when it was edited."""

    def __init__(
        self, config: Config, directory: Path, hooks: Hooks, say: Callable[[str], None]
    ) -> None:
        self.config, self._directory, self._hooks, self._print = config, directory, hooks, say
        self.files = Files(directory / config.campaign.results)
        # by path: how it was taken, its verdict, and whether one was reported (`has_verdict`)
        self.entries: dict[str, dict[str, Any]] = self._known()

    def _known(self) -> dict[str, dict[str, Any]]:
        """Return the files taken before, by a watcher or a run."""
        occupied = json_or(self.files.taken, None)
        if isinstance(occupied, dict):
            return occupied
        result = {}
        for scan in find_scans(self.config, self._directory):
            state = file_state(self._directory / scan.path)
            with suppress(OSError):
                made_ns = self.files.prediction(scan.name).stat().st_mtime_ns
                if state and made_ns > state[1]:
                    rule = "its COR was found before"
                    entry = _entry(Arrival(scan.path, state, rule=rule), scan.name)
                    result[scan.path] = entry | {"has_verdict": True}
        return result

    @property
    def states(self) -> dict[str, tuple[int, int, int]]:
        """The state of each file when it was taken."""
        return {path: tuple(entry["state"]) for path, entry in self.entries.items()}

    def take(self, arrival: Arrival, scan: str) -> None:
        """Add a file that has arrived, or has been written anew."""
        self.entries[arrival.path] = _entry(arrival, scan)

    def save(self, present: Collection[str], *, has_ended: bool = False) -> None:
        """Write the entries, and the page, which shows the files that are `present`."""
        self.files.live.parent.mkdir(parents=True, exist_ok=True)
        write_json(self.entries, self.files.taken)
        title = self.config.campaign.name or self._directory.name
        shown = [entry for path, entry in self.entries.items() if not present or path in present]
        write_page(self.files, title, shown, has_ended=has_ended)

    # ---- verdicts ----------------------------------------------------------------------------

    def compare(self, verdicts: Mapping[str, Verdict], began: float) -> None:
        """Take over the verdicts of a run that began then; report those that are news."""
        for path, verdict in verdicts.items():
            entry = self.entries[path]
            if entry["at"] > began:
                continue  # written again since
            is_other = entry["scan_state"] not in ("", verdict.scan_state)
            has_moved = not same_cor(entry["cor_px"], verdict.cor_px)
            is_news = is_other and verdict.doubtful and (has_moved or not entry["doubtful"])
            if is_news or not entry["has_verdict"]:
                self.report(path, verdict)
            else:
                self._note(path, verdict)

    def _note(self, path: str, verdict: Verdict) -> None:
        """Put a verdict into the entry of its scan; `picture` None: one is still to be made."""
        entry = self.entries[path]
        has_moved = not same_cor(entry["cor_px"], verdict.cor_px) or not entry["has_verdict"]
        if has_moved and verdict.scan_state != State.SKIPPED:
            entry |= {"picture": None, "picture_cor_px": None}
        entry |= asdict(verdict)

    def draw(self) -> bool:
        """Make some of the pictures that the page lacks, of the latest scans first."""
        shown = heapq.nlargest(MOST_ROWS, self.entries.values(), key=lambda entry: entry["at"])
        lacking = [entry for entry in shown if entry.get("picture", "") is None][:_MOST_PICTURES]
        for entry in lacking:
            made = picture(self.files, entry["scan"], entry["best_cor_px"])
            entry.update({"picture": "", **made})
        return bool(lacking)

    def report(self, path: str, verdict: Verdict) -> None:
        """Report a verdict, flag it if it is doubtful, and call the hook."""
        entry = self.entries[path]
        # a scan that had none says so in its reason
        remark = "" if entry["cor_px"] is None else f" (was {_cor(entry['cor_px'])})"
        self._note(path, verdict)
        if not entry["has_verdict"]:
            seconds = round(time.time() - entry["last_byte"], 1)
            entry |= {"has_verdict": True, "seconds": seconds}
            remark = f" ({seconds:.0f} s)"
        flag, why = ("FLAG ", f", {verdict.reason}") if verdict.doubtful else ("", "")
        text = f"{flag}{verdict.scan}: {_cor(verdict.cor_px)}{why}{remark}"
        self._print(f"{time.strftime('%H:%M:%S')} {text}")
        if self.config.hooks.on_scan:
            facts = {name: entry[name] for name in _FOR_HOOKS}
            doubt = entry["reason"] if verdict.doubtful else ""
            facts |= {"doubt": doubt, "page": str(self.files.live)}
            self._hooks.call(self.config.hooks.on_scan, facts)


def _cor(cor_px: float | None) -> str:
    return "no COR" if cor_px is None else f"COR {cor_px:.2f}"


def _entry(arrival: Arrival, scan: str) -> dict[str, Any]:
    """Return the entry of a taken file, without a verdict."""
    return {
        "path": arrival.path,
        "state": list(arrival.state),
        "rule": arrival.rule,
        "has_verdict": False,
        "seconds": None,
        "at": time.time(),
        "last_byte": arrival.last_byte,
        **asdict(Verdict(scan, "")),
    }
