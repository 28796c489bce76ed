"""Whether a result is stale, and why: what it was made from is not what it should be made from.

A result states what it was made from, and so does its receipt (`tomopipe.reruns.receipts`); what
it should be made from is in `tomopipe.reruns.target`.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tomopipe.campaign.campaign import Campaign
from tomopipe.campaign.files import PREDICTION, STACK, VOLUMES
from tomopipe.campaign.relion_set import assumed_numbers
from tomopipe.campaign.results import InventoryRows
from tomopipe.campaign.step_files import results_of, volume_of
from tomopipe.paths import no_pipe
from tomopipe.reruns.made_from import ALSO_READ, Statement
from tomopipe.reruns.reasons import (
    CHANGED,
    METADATA_ALONE,
    MISSING,
    UNREADABLE,
    of_cor,
    of_difference,
    of_raw,
)
from tomopipe.reruns.receipts import Receipts, digest
from tomopipe.scans.scan_files import companions

# tables contain no statement; to make them again does no harm
_TABLES = ("inventory", "fix_cor", "resolve_cor", "export_star", "report")


class Staleness:
    """Compares the results of a campaign with their target statements."""

    def __init__(self, campaign: Campaign) -> None:
        self.campaign = campaign
        self.receipts = Receipts(campaign.directory, campaign.outputs)
        self.up_to_date: dict[tuple[str, str], Statement] = {}
        """Statements of the results that are up to date, by step and key."""
        self.confirmed: set[tuple[str, str]] = set()  # those whose receipts state the same
        self.damaged: list[str] = []  # files changed after they were written, and how
        self._raw: dict[tuple[str, str], list[str]] = {}

    # ---- raw files ---------------------------------------------------------------------------

    def raw(self, scan: str, inventory: Mapping[str, Any] | None = None) -> list[str]:
        """Identify the content of all raw files of a scan, including linked and shared ones.

        Determined once: changes during a run count for the next.
        """
        linked = _text_in(inventory, scan, "linked")
        if (scan, linked) not in self._raw:
            files = self._raw_files(scan, linked)
            self._raw[scan, linked] = [self.receipts.raw.name(path) for path in files]
        return self._raw[scan, linked]

    def also_read(self, scan: str, inventory: Mapping[str, Any]) -> list[str]:
        """Identify the further files of a scan that the inventory names (`made_from.ALSO_READ`)."""
        key = ALSO_READ, (text := _text_in(inventory, scan, ALSO_READ))  # of many scans the same
        if key not in self._raw:
            self._raw[key] = [self.receipts.raw.name(path) for path in _names(text)]
        return self._raw[key]

    def raw_files(self, scan: str, inventory: Mapping[str, Any] | None = None) -> list[str]:
        """Name the files that a scan is read from; linked ones as in the inventory."""
        files = self._raw_files(scan, _text_in(inventory, scan, "linked"))
        return files + _names(_text_in(inventory, scan, ALSO_READ))

    def _raw_files(self, scan: str, linked: str) -> list[str]:
        raw_path = self.campaign.scans[scan].path
        shared = self.campaign.for_scan(scan).shared_files
        beside = companions(raw_path, self.campaign.directory)
        return [raw_path, *beside, *shared, *_names(linked)]

    def replaced(self, inventory: Mapping[str, Any]) -> set[str]:
        """Name the scans with `select: no` whose raw file changed after their sweep."""
        results = set()
        for scan, entry in self.campaign.scans.items():
            if entry.select != "no" or scan not in inventory:
                continue
            swept = statement_in(self.campaign.files.sweep(scan))
            now = self.raw(scan, inventory), self.also_read(scan, inventory)
            if swept and (swept.get("raw"), swept.get(ALSO_READ, now[1])) != now:
                results.add(scan)
        return results

    # ---- why a job runs ----------------------------------------------------------------------

    def why_stale(self, target: Statement, key: str = "campaign", *, source: str = "") -> str:
        """Say why the results of a scan, series or stack are made; "" if they are up to date.

        The first of them has the statement of all; temporary ones may be missing. `source` is that
        of the scan's COR at present.
        """
        step = target["step"]
        outputs, temporary = results_of(self.campaign, step, key), list[str]()
        if step == "try_recon":
            temporary = outputs[2:]
        elif step == "export_stack" and not self.campaign.config.storage.keep_stacks:
            temporary = outputs[1:]
        self.up_to_date.pop((step, key), None)
        self.confirmed.discard((step, key))
        expected, receipt = digest(target), self.receipts.of(step, key)
        is_same = receipt is not None and receipt.digest == expected
        # as nearly all of thousands are
        if receipt and is_same and all(self.receipts.is_unchanged(receipt, p) for p in outputs):
            self.up_to_date[step, key] = target
            if len(receipt.files) == len(outputs):
                self.confirmed.add((step, key))
            return ""
        present = [path for path in outputs if os.path.lexists(self.receipts.path_of(path))]
        if any(path not in present and path not in temporary for path in outputs):
            return MISSING
        receipt = self.receipts.last(step, key)
        is_same = receipt is not None
        for path in present:
            if receipt is None:
                break
            damage = self.receipts.damage(receipt, path) if path in receipt.files else None
            # what a killed job has made from other inputs since shows in its statement
            is_ours = self.receipts.of(step, key) or receipt.digest == expected
            if damage and (is_ours or step in _TABLES):
                self.damaged.append(f"{path}: {damage}")
                return self.damaged[-1]
            is_same = is_same and damage == ""
        # copied, touched, or without a receipt: the statement in the result itself counts
        made_from = receipt.digest if receipt and is_same else ""
        if not made_from:
            statements = list(map(self._statement, present))
            others = {digest(statement) for statement in statements if statement is not None}
            # nothing, if the first states nothing, or others state something else
            made_from = others.pop() if statements and statements[0] and len(others) == 1 else ""
        if made_from == expected:
            self.up_to_date[step, key] = target
            return ""
        if not made_from:
            first, *further = zip(present, statements, strict=True)
            odd = [path for path, stated in further if first[1] and stated not in (None, first[1])]
            other = f"{odd[0]}: was not made with {first[0]}" if odd else ""
            return CHANGED.get(step) or other or f"{outputs[0]}: {UNREADABLE}"
        return self._difference(step, key, outputs[0], target, source, is_whole=is_same)

    def _statement(self, path: str) -> Statement | None:
        return statement_in(Path(self.receipts.path_of(path)))

    def _difference(
        self, step: str, key: str, path: str, target: Statement, source: str, *, is_whole: bool
    ) -> str:
        old = self._statement(path)
        if not old:
            return CHANGED.get(step, "made from other inputs")
        lines = []
        if old.get("cor_px") != target.get("cor_px"):
            lines.append(of_cor(key, old.get("cor_px"), target.get("cor_px"), source))
        if old.get("raw") != target.get("raw"):
            lines.append(self._replaced_files(key, old.get("raw") or (), target.get("raw") or ()))
        lines += of_difference(old, target)
        # only unchanged results are read again
        only = f" ({METADATA_ALONE})" if is_whole and only_metadata_differ(old, target) else ""
        return "; ".join(dict.fromkeys(lines)) + only or CHANGED.get(step, "written by no job")

    def _replaced_files(self, scan: str, old: Sequence[str], new: Sequence[str]) -> str:
        entry = self.campaign.scans[scan]
        name, before = os.path.basename(entry.path), old[0] if old else ""
        was = self.receipts.raw.path_of(name, before)
        if was and os.path.abspath(self.receipts.path_of(was)) != entry.abspath:
            return f"raw file is another one: {entry.path}, was {was}"
        paths = [self.receipts.path_of(path) for path in self.raw_files(scan)]
        others = [path for path, was, now in zip(paths, old, new, strict=False) if was != now]
        return of_raw(others, paths[0])


def _text_in(inventory: Mapping[str, Any] | None, scan: str, column: str) -> str:
    """Return a cell of the inventory; "" if it is empty or missing."""
    return (inventory or {}).get(scan, {}).get(column) or ""


def _names(text: str) -> list[str]:
    return sorted(json.loads(text)) if text else []


def statement_in(path: Path) -> Statement | None:
    """Return the statement in a result; None if there is none or it cannot be read."""
    readers: dict[str, Callable[[Path], Statement | None]] = {
        ".json": _in_json,
        ".h5": _in_hdf5,
        STACK: _in_stack,
        ".tif": lambda stack: _in_json(stack.with_suffix(".json")),
        ".txt": lambda text: _in_json(text.with_name(PREDICTION)),
    }
    is_volume = path.name.endswith(tuple(VOLUMES.values()))
    read = _in_volume if is_volume else readers.get(path.suffix, lambda _: None)
    with suppress(Exception):  # of a damaged file
        return read(path)
    return None


def _in_json(path: Path) -> Statement | None:
    return _stated_in(json.loads(no_pipe(path).read_text(encoding="utf-8")))


def _stated_in(record: object) -> Statement | None:
    result = record.get("made_from") if isinstance(record, dict) else None
    return result if isinstance(result, dict) else None


def _in_stack(path: Path) -> Statement | None:
    """Read the statement beside a stack; {}, which no result has, if it is that of another."""
    from tomopipe.relion.mrc import has_statistics

    record = json.loads(no_pipe(path.with_suffix(".json")).read_text(encoding="utf-8"))
    # none of a scan that failed
    statistics = record.get("statistics") if isinstance(record, dict) else None
    return {} if statistics and not has_statistics(path, statistics) else _stated_in(record)


def _in_volume(path: Path) -> Statement | None:
    from tomopipe.volumes.volume_read import read_provenance

    text = read_provenance(path).get("made_from")
    return json.loads(text) if text else None


def _in_hdf5(path: Path) -> Statement | None:
    import h5py

    with h5py.File(no_pipe(path), "r") as file:
        text = file.attrs.get("made_from")
        return json.loads(text) if text else _in_volume(path)


def only_metadata_differ(old: Statement | None, target: Statement) -> bool:
    """Tell whether two statements differ only in their metadata."""
    ours = ("maker", "metadata")
    return (
        old is not None
        and old.get("metadata") != target.get("metadata")
        and {key: value for key, value in old.items() if key not in ours}
        == {key: value for key, value in target.items() if key not in ours}
    )


MADE_FROM = "made from "
"""Prefix of the label of an MRC volume, followed by a digest of the statement of its source."""


def source_of(path: str | Path) -> str | None:
    """Return the digest of the statement of the volume that an MRC volume was converted from.

    "" if `tomopipe convert` has not made it, or it is damaged; None if there is none.
    """
    if not os.path.exists(path):
        return None
    from tomopipe.relion.mrc import is_cut, labels_of  # few campaigns have such volumes

    try:
        label = "" if is_cut(path) else labels_of(path)[2]
    except Exception:  # of a damaged file
        return ""
    return label.removeprefix(MADE_FROM) if label.startswith(MADE_FROM) else ""


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
