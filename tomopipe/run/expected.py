"""Jobs that the next run is expected to execute, without Snakemake.

The steps are visited in their order (docs/explanation/reruns.md), and each result is decided as in
a run (`tomopipe.run.decisions`). Pending predictions are assumed to give the same CORs, and files
that a run would compare to be unchanged; `tomopipe plan` is exact.
"""

import json
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import chdir
from pathlib import Path
from typing import Any

from tomopipe.campaign.campaign import Campaign, InventoryRows, as_json, read_inventory
from tomopipe.campaign.files import NAMES, STAR, Files
from tomopipe.campaign.results import is_without_angles, proven_angles
from tomopipe.campaign.stacks import find_stacks
from tomopipe.campaign.state import LOOK_AGAIN, STILL_WRITTEN
from tomopipe.run import made_from
from tomopipe.run.decisions import Decisions
from tomopipe.run.products import digest
from tomopipe.run.relion_set import star_options
from tomopipe.steps import fix_cor, inventory, resolve_cor, sidecar
from tomopipe.storage.tables import read_tsv

Job = tuple[str, str]
"""A rule, and the scan, series or stack; "" for the campaign."""


def expected_jobs(campaign: Campaign) -> list[Job]:
    """List the jobs that the next run will execute, by the decisions alone.

    Parameters
    ----------
    campaign : Campaign
        The campaign as it is now.

    Returns
    -------
    list of (str, str)
        Rule, and scan, series or stack, in the order in which they run.
    """
    found = _Expected(campaign)
    found.up_to_cor()
    if not found.is_blocked:
        found.after_cor()
    return found.jobs


class _Expected:
    """The jobs found so far, and those that depend on them."""

    def __init__(self, campaign: Campaign) -> None:
        self.campaign, self.out, self.jobs = campaign, campaign.outputs, list[Job]()
        self.decisions = Decisions(campaign, tell=lambda text: None)
        self.decisions.take_said()
        self.rows = _rows(campaign)
        self.predicting: set[str] = set()
        self.fixed: dict[str, Mapping[str, str]] = {}
        self.changed: set[str] = set()  # scans with a changed row in a table
        self.is_other = False  # a table shown in the report changes
        self.is_blocked = False  # the run stops before any volume
        self.cors: dict[str, dict[str, Any]] = {}

    def add(self, rule: str, key: str = "") -> bool:
        self.jobs.append((rule, key))
        return True

    # ---- up to cor.json ----------------------------------------------------------------------

    def up_to_cor(self) -> None:
        """Go through the inventory, the chains of the scans, the series and cor.json."""
        if self._looks_again():
            self.is_other = self.add("inventory")
        selected = [scan for group in self._series().values() for scan in group]
        for scan in selected:
            files = self.out.of_try_recon(scan)
            tried = self._reason(
                "try_recon", scan, files, self._try_wanted(scan), may_be_gone=files[2:]
            )
            if tried:
                self.add("try_recon", scan)
            if scan not in self.campaign.failures and (
                tried or self._reason("predict_cor", scan, self.out.of_predict_cor(scan))
            ):
                self.predicting.add(scan)
                self.is_other = self.add("predict_cor", scan)
        fixing = [self._fix(*one) for one in sorted(self._series().items())]
        self._resolve(any(fixing))

    def _looks_again(self) -> bool:
        campaign, raw = self.campaign, self.decisions.record.raw
        paths = [scan.path for scan in (*campaign.scans.values(), *campaign.refused)]
        paths += [
            path for scan in campaign.scans for path in campaign.for_scan(scan).shared_files()
        ]
        wanted = made_from.of_inventory(campaign, {path: raw(path) for path in {*paths}}, "")
        still_written = any(
            row["reason"].startswith(STILL_WRITTEN) or row["reason"].endswith(LOOK_AGAIN)
            for row in self.rows.values()
        )
        reason = self.decisions.reason("inventory", "campaign", [self.out.inventory], wanted)
        return bool(reason) or still_written or campaign.has_other_links(self.rows)

    def _series(self) -> Mapping[str, list[str]]:
        return self.campaign.selected_series(self.rows)

    def _try_wanted(self, scan: str) -> made_from.Statement:
        wanted = made_from.of_try_recon(self.campaign, scan, self._raw(scan))
        return wanted | ({"angles": "proven"} if self._lacks_angles(scan) else {})

    def _raw(self, scan: str) -> list[str]:
        return self.decisions.raw(scan, self.rows)

    def _lacks_angles(self, scan: str) -> bool:
        return is_without_angles(self.rows[scan]["warnings"]) if scan in self.rows else False

    def _networks(self) -> dict[str, str]:
        return {
            path: self.decisions.record.raw(path)
            for path in self.campaign.config.predict_cor.own_networks
        }

    def _reason(
        self,
        step: str,
        key: str,
        files: Collection[str],
        wanted: made_from.Statement | None = None,
        **more: Any,
    ) -> str:
        if wanted is None:
            rows = digest(self._try_wanted(key))
            wanted = made_from.of_predict_cor(self.campaign, rows, self._networks())
        return self.decisions.reason(step, key, list(files), wanted, **more)

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
        pending = not self.predicting.isdisjoint(scans)
        runs = pending or bool(self._reason("fix_cor", series, [table], wanted))
        rows: list[Mapping[str, str]] = list(before)
        if runs:
            self.add("fix_cor", series)
            rows = list(
                fix_cor.compute(campaign.predicted_files(alive), members, campaign.config.fix_cor)
            )
            self.is_other |= rows != before
            known = {row["scan"]: row for row in before}
            self.changed |= {row["scan"] for row in rows if row != known.get(row["scan"])}
        self.fixed |= {row["scan"]: row for row in rows}
        return runs

    def _resolve(self, follows: bool) -> None:
        campaign = self.campaign
        options = campaign.config.resolve_cor
        table, missing = resolve_cor.compute(
            list(self.fixed.values()), campaign.to_resolve(self.rows), options.default_px
        )
        path = campaign.files.cor_table
        before = _read(path)
        wanted = made_from.of_resolve_cor(campaign)
        files = [self.out.cor_table, self.out.rot_cen]
        runs = self._reason("resolve_cor", "campaign", files[:1], wanted) or before != table
        if follows or runs:
            self.add("resolve_cor")
        # a missing one is assumed to come out as before
        self.is_other |= before not in (None, table)
        self.changed |= {scan for scan in table if table[scan] != (before or table).get(scan)}
        self.cors = table
        self.is_blocked = bool(missing) and options.on_missing == "block"

    # ---- after cor.json ----------------------------------------------------------------------

    def after_cor(self) -> None:
        """Go through volumes, sidecars, stacks, star and report."""
        known = {
            scan: entry
            for scan, entry in self.cors.items()
            if not (self._lacks_angles(scan) and self._angles(scan) is None)
        }
        wanted = {scan: self._volume_wanted(scan, entry["cor_px"]) for scan, entry in known.items()}
        volumes = {
            scan
            for scan in known
            if self._reason("full_recon", scan, [self.campaign.volume(scan)], wanted[scan])
        }
        self._add_all("full_recon", volumes)
        stitched = list(self._stitched(known, wanted, volumes))
        self._add_all("stitch", stitched)
        self._add_all("sidecar", {scan for scan in known if self._is_sidecar_due(scan)})
        self._star(known)
        other = self.is_other or volumes or stitched
        if self.campaign.config.report.enabled and (other or self._report_reason(wanted)):
            self.add("report")

    def _add_all(self, rule: str, keys: Collection[str]) -> None:
        for key in sorted(keys):
            self.add(rule, key)

    def _angles(self, scan: str) -> Any:
        return proven_angles(self.campaign.files.sweep(scan))

    def _with_angles(self, scan: str, wanted: made_from.Statement) -> made_from.Statement:
        return wanted | ({"angles": self._angles(scan)} if self._lacks_angles(scan) else {})

    def _volume_wanted(self, scan: str, cor_px: float) -> made_from.Statement:
        wanted = made_from.of_full_recon(self.campaign, scan, self._raw(scan), cor_px)
        return self._with_angles(scan, wanted)

    def _stitched(
        self,
        known: Mapping[str, Any],
        wanted: Mapping[str, made_from.Statement],
        volumes: Collection[str],
    ) -> Iterator[str]:
        output = self.campaign.config.full_recon.output
        for stack in find_stacks(self.campaign, self.rows, known):
            if stack.problem:
                continue
            files = [self.out.shifts(stack.name), self.out.stitched(stack.name, output)]
            volumes_wanted = {scan: wanted[scan] for scan in stack.scans}
            statement = made_from.of_stitch(self.campaign, volumes_wanted)
            if set(volumes) & set(stack.scans) or self._reason(
                "stitch", stack.name, files, statement
            ):
                yield stack.name

    def _is_sidecar_due(self, scan: str) -> bool:
        campaign, path = self.campaign, self.campaign.sidecar(scan)
        if path not in self.decisions.record and sidecar.is_of_another(
            campaign.directory / path, campaign.directory
        ):
            path = self.out.sidecar(scan)
        if not {scan} & (self.changed | self.predicting):  # reading predictions takes long
            return not (campaign.directory / path).exists()
        row, prediction = self.fixed.get(scan), _read(campaign.files.prediction(scan))
        content = sidecar.sidecar_content(scan, self.cors[scan], row, prediction)
        return bool(self.decisions.sidecar_reason(path, as_json(content)))

    def _star(self, known: Mapping[str, Any]) -> None:
        campaign = self.campaign
        if not campaign.config.export_star.enabled:
            return
        pending = set()
        for scan in known:
            files = self.out.of_export_stack(scan)
            gone = [] if campaign.config.storage.keep_stacks else files[1:]
            wanted = made_from.of_export_stack(campaign, scan, self._raw(scan))
            wanted = self._with_angles(scan, wanted)
            if self._reason("export_stack", scan, files, wanted, may_be_gone=gone):
                pending.add(scan)
        self._add_all("export_stack", pending)
        metas = {scan: self.decisions.content(self.out.stack_meta(scan)) for scan in known}
        wanted = made_from.of_export_star(star_options(campaign, known), known, metas)
        files = [self.out.in_relion(name) for name in (STAR, NAMES)]
        if pending or self._reason("export_star", "campaign", files, wanted):
            self.add("export_star")

    def _report_reason(self, volumes: Mapping[str, made_from.Statement]) -> str:
        alive = [
            scan
            for scan in self.campaign.selected_scans(self.rows)
            if scan not in self.campaign.failures
        ]
        paths = [self.out.inventory, self.out.cor_table]
        paths += [self.out.fix_table(series) for series in self._series()]
        paths += [self.out.prediction(scan) for scan in alive]
        paths += [
            self.out.shifts(stack.name)
            for stack in find_stacks(self.campaign, self.rows, self.cors)
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


def _rows(campaign: Campaign) -> InventoryRows:
    """Return the inventory, with new files added."""
    path = campaign.files.inventory
    rows = dict(read_inventory(path)) if path.is_file() else {}
    new = [entry for entry in campaign.inventory_entries() if entry["scan"] not in rows]
    if not any(not entry["reason"] for entry in new):
        return rows
    with tempfile.TemporaryDirectory(prefix="tomopipe-expected-") as folder:
        table = Files(Path(folder)).inventory
        with chdir(campaign.directory):  # as in a run: the paths in the config are relative to it
            inventory.inventory(new, table, campaign.config)
        return rows | dict(read_inventory(table))


def _read(path: Path) -> Any:
    """Read JSON; None if missing or unreadable."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
