"""Whether a result must be remade, and why: its statement differs from the wanted one.

Results state what they were made from, and the record (`tomopipe.reruns.products`) keeps digests
of these statements, with size, time and checksum of each file. Snakemake's own record is not used:
if a folder is copied, moved, restored or loses its .snakemake, the same results are remade.
"""

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tomopipe.campaign.campaign import Campaign
from tomopipe.campaign.results import read_json
from tomopipe.errors import TomopipeError, is_of_the_system
from tomopipe.reruns import compare, made_from
from tomopipe.reruns.made_from import ALSO_READ, Statement
from tomopipe.reruns.products import SMALL_BYTES, Product, Record, content_of, digest, made_state_of
from tomopipe.reruns.stated import only_metadata_differ, read_statement, statement_in, unreadable
from tomopipe.reruns.words import (
    CHANGED,
    METADATA_ALONE,
    MISSING,
    UNREADABLE,
    of_cor,
    of_difference,
    of_raw,
    of_snakemake,
)
from tomopipe.scans.raw_state import companions
from tomopipe.storage import run_folder
from tomopipe.storage.atomic import remove_stale
from tomopipe.storage.checksums import quick_state
from tomopipe.storage.json_files import json_or
from tomopipe.storage.tables import read_tsv

REASONS: dict[str, str] = {}
"""Why jobs run, in words, by their first output."""


def words_of(info: Mapping[str, Any]) -> str:
    """Say why a job runs: in our words, else in Snakemake's (`info`)."""
    outputs = [str(path) for path in info.get("output") or []]
    ours = next((REASONS[path] for path in outputs if path in REASONS), "")
    return ours or of_snakemake(str(info["reason"]))


# tables are only in the record; remaking them does no harm
_TABLES = ("inventory", "fix_cor", "resolve_cor", "export_star", "report")


def _to_stderr(text: str) -> None:
    print(text, file=sys.stderr)


class Decisions:
    """The reasons why results of a campaign are remade; `tell` is called with messages."""

    def __init__(self, campaign: Campaign, tell: Callable[[str], None] = _to_stderr) -> None:
        self.campaign, self._tell = campaign, tell
        self.record = Record(campaign.files.record, campaign.directory)
        self._shown: set[str] = set()
        self._raw: dict[tuple[str, str], list[str]] = {}
        self._fresh: set[tuple[str, str, str]] = set()
        self.n_comparisons = 0  # after one the raw files are checked again

    # ---- what there is -----------------------------------------------------------------------

    def raw(self, scan: str, inventory: Mapping[str, Any] | None = None) -> list[str]:
        """Identify the content of all raw files of a scan, including linked and shared ones.

        Determined once: changes during a run count for the next.
        """
        linked = _text_in(inventory, scan, "linked")
        if (scan, linked) not in self._raw:
            files = self._raw_files(scan, linked)
            self._raw[scan, linked] = [self.record.raw(path) for path in files]
        return self._raw[scan, linked]

    def also_read(self, scan: str, inventory: Mapping[str, Any]) -> list[str]:
        """Identify the further files of a scan that the inventory names (`made_from.ALSO_READ`)."""
        key = ALSO_READ, (text := _text_in(inventory, scan, ALSO_READ))  # of many scans the same
        if key not in self._raw:
            self._raw[key] = [self.record.raw(path) for path in _names(text)]
        return self._raw[key]

    def raw_files(self, scan: str, inventory: Mapping[str, Any] | None = None) -> list[str]:
        """Name the files that a scan is read from; linked ones as in the inventory."""
        files = self._raw_files(scan, _text_in(inventory, scan, "linked"))
        return files + _names(_text_in(inventory, scan, ALSO_READ))

    def _raw_files(self, scan: str, linked: str) -> list[str]:
        raw_path = self.campaign.scans[scan].path
        shared = self.campaign.for_scan(scan).shared_files()
        beside = companions(raw_path, self.campaign.directory)
        return [raw_path, *beside, *shared, *_names(linked)]

    def replaced(self, inventory: Mapping[str, Any]) -> set[str]:
        """Name the scans with `select: no` whose raw file changed after their sweep."""
        found = set()
        for scan, known in self.campaign.scans.items():
            if known.select != "no" or scan not in inventory:
                continue
            swept = statement_in(self.campaign.files.sweep(scan))
            now = self.raw(scan, inventory), self.also_read(scan, inventory)
            if swept and (swept.get("raw"), swept.get(ALSO_READ, now[1])) != now:
                found.add(scan)
        return found

    # ---- why a job runs ----------------------------------------------------------------------

    def reason(
        self,
        step: str,
        key: str,
        outputs: Sequence[str],
        wanted: Statement,
        *,
        may_be_gone: Sequence[str] = (),
        source: str = "",
    ) -> str:
        """Say why a job must run; "" if its results are up to date.

        `key` is the scan, series or stack. The first of `outputs`, relative to the campaign, has
        the statement of all; those in `may_be_gone` are removed later and not remade. `source` is
        that of the scan's COR at present.
        """
        asked = step, key, digest(wanted)
        if asked in self._fresh:
            return ""  # and the current run makes it as wanted
        there = [path for path in outputs if os.path.lexists(self.record.path_of(path))]
        if any(path not in there and path not in may_be_gone for path in outputs):
            return MISSING
        for path in there:
            if path not in self.record:
                self._take_from_run(step, key)
            if path not in self.record:
                self._adopt(step, path)
        for path in there:
            if path in self.record and self.record.damage(path):
                self._take_from_run(step, key)
                if damage := self.record.damage(path):
                    self._say(f"{path}: {damage}: made again")
                    return f"{path}: {damage}"
        for path in self.record.unknown.intersection(there):
            self._read_again(path)
        known = self.record.products.get(outputs[0])
        if known is None or known.statement == asked[2]:
            self._fresh.add(asked)
            return ""
        if self._take_from_run(step, key):
            return self.reason(step, key, outputs, wanted, may_be_gone=may_be_gone)
        return self._difference(step, key, outputs[0], wanted, source)

    def _take_from_run(self, step: str, key: str) -> bool:
        """Read what a job of this run has recorded meanwhile."""
        folder = os.environ.get(run_folder.VARIABLE, "")
        if not folder:
            return False
        path = run_folder.job_record_path(self.campaign.directory / folder, step, key)
        if not (record := json_or(path, {})):
            return False
        self._take(record)
        path.unlink(missing_ok=True)
        return True

    def _difference(self, step: str, key: str, path: str, wanted: Statement, source: str) -> str:
        old = self._stated(path)
        if not old:
            return CHANGED.get(step, "made from something else")
        lines = []
        if old.get("cor_px") != wanted.get("cor_px"):
            lines.append(of_cor(key, old.get("cor_px"), wanted.get("cor_px"), source))
        if old.get("raw") != wanted.get("raw"):
            lines.append(self._replaced_files(key, old.get("raw") or (), wanted.get("raw") or ()))
        lines += of_difference(old, wanted)
        only = f" ({METADATA_ALONE})" if only_metadata_differ(old, wanted) else ""
        return "; ".join(dict.fromkeys(lines)) + only or CHANGED.get(step, "written by no job")

    def is_unrecorded(self, step: str, path: str) -> bool:
        """Tell whether nothing says what a table was made from."""
        known = self.record.products.get(path)
        return known is not None and known.statement == digest(_unrecorded(step))

    def accept(self, path: str, wanted: Statement) -> None:
        """Record that a result made from something else is what the wanted one would be."""
        self.record.put(replace(self.record.products[path], statement=digest(wanted)))

    def _replaced_files(self, scan: str, old: Sequence[str], new: Sequence[str]) -> str:
        if scan not in self.campaign.scans:
            return "raw files changed"
        known = self.campaign.scans[scan]
        name, before = os.path.basename(known.path), old[0] if old else ""
        was = self.record.raw_paths.get((name, before), "")
        if was and os.path.abspath(self.record.path_of(was)) != known.abspath:
            return f"raw file is another one: {known.path}, was {was}"
        paths = [self.record.path_of(path) for path in self.raw_files(scan)]
        others = [path for path, was, now in zip(paths, old, new, strict=False) if was != now]
        return of_raw(others, paths[0])

    def _adopt(self, step: str, path: str) -> None:
        """Add a result to the record, by its statement."""
        where = Path(self.record.path_of(path))
        state = made_state_of(where)
        if state is None:
            return
        stated = self._stated(path)
        if stated is None:
            stated = _unrecorded(step)
            if step not in _TABLES and (fault := unreadable(where)):
                self._say(f"{path}: {fault}: made again")
                stated = {"step": step, "fault": fault}
        checksum = content_of(where) if state[0] <= SMALL_BYTES and not where.is_dir() else ""
        self.record.put(Product(path, state, digest(stated), checksum))

    def _read_again(self, path: str) -> None:
        """Take what a changed file states itself, as it has no checksum to compare with."""
        where, product = Path(self.record.path_of(path)), self.record.products[path]
        stated, state = statement_in(where), quick_state(where)
        if stated is None and (fault := unreadable(where)):
            self._say(f"{path}: {fault}: made again")
            stated = {"fault": fault}
        self.record.unknown.discard(path)
        if state is not None:
            statement = digest(stated) if stated else product.statement
            self.record.put(Product(path, state, statement))

    def _stated(self, path: str) -> Statement | None:
        """Return what a result was made from, by its statement."""
        try:
            return read_statement(Path(self.record.path_of(path)))
        except Exception as error:  # a damaged file may raise anything
            # if the system cannot read it, its origin is unknown
            return {"not_read": str(error)} if is_of_the_system(error) else None

    def sidecar_reason(self, path: str, content: str) -> str:
        """Say why a sidecar must be written; "" if it states the facts of `content`."""
        where = self.record.path_of(path)
        wanted = digest(made_from.of_text(content))
        known = self.record.products.get(path)
        now = quick_state(where)
        if now is None:
            return MISSING
        if known is not None and (known.state, known.statement) == (now, wanted):
            return ""
        try:
            found = read_json(where, "a sidecar")
        except TomopipeError:
            return UNREADABLE
        facts = json.loads(content)
        others = [key for key, value in facts.items() if found.get(key, facts) != value]
        if "cor_px" in others:
            return of_cor(
                facts["scan"], found.get("cor_px"), facts["cor_px"], facts.get("source", "")
            )
        if others:
            return f"{', '.join(others)} of the COR changed"
        self.record.put(Product(path, now, wanted, content_of(where)))
        return ""

    def take_compared(self, table: str) -> None:
        """Read what the job that compares files has found."""
        self._raw.clear()
        self._fresh.clear()
        self.n_comparisons += 1
        for row in read_tsv(self.record.path_of(table), compare.COLUMNS):
            state = tuple(json.loads(row["state"]))
            self.record.compared(row["path"], row["difference"], state)
            if row["difference"] and not self.record.products[row["path"]].is_raw:
                self._say(f"{row['path']}: {row['difference']}: made again")

    def _say(self, text: str) -> None:
        if text not in self._shown:
            self._shown.add(text)
            self._tell(f"tomopipe: {text}")

    # ---- the record --------------------------------------------------------------------------

    def _take(self, record: Mapping[str, Any]) -> None:
        self.record.take(_products(record))
        self.record.take_raw(record.get("raw", {}))

    def take_job_records(self) -> None:
        """Read what jobs of all runs have recorded, also of killed runs."""
        for record in run_folder.job_records(self.campaign.results):
            self._take(record)

    def save(self) -> None:
        """Write the record if it has changed."""
        if self.campaign.results.is_dir():
            # outside a run it is written beside itself; only the main process writes it
            remove_stale(self.record.file)
            self.record.save()


def _unrecorded(step: str) -> Statement:
    """Return the statement of a table that the record does not know."""
    return {"step": step, "unknown": True}


def _text_in(inventory: Mapping[str, Any] | None, scan: str, column: str) -> str:
    """Return what the inventory says of a scan; "" if nothing."""
    return (inventory or {}).get(scan, {}).get(column) or ""


def _names(text: str) -> list[str]:
    return sorted(json.loads(text)) if text else []


def _products(record: Mapping[str, Any]) -> list[Product]:
    try:
        return [
            Product(made["path"], tuple(made["state"]), made["statement"], made["checksum"])
            for made in record["products"]
        ]
    except (LookupError, TypeError):
        return []
