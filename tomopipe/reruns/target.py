"""Targets: what each result of the steps should be made from now.

A statement, of a result or as its target, is a mapping of JSON values: the step, its revision, the
content of the raw files, the results of earlier steps, and the options in effect
(`tomopipe.config.base`).
"""

import json
from collections.abc import Callable, Hashable, Iterable, Mapping
from functools import wraps
from typing import Any, TypeVar, TypeVarTuple

from tomopipe.campaign.campaign import Campaign
from tomopipe.campaign.files import encode_series
from tomopipe.campaign.reading import inventory_entries
from tomopipe.campaign.results import N_STUCK, ROLL, InventoryRows
from tomopipe.campaign.series import PLACE, Selected, measures_roll, predicted_files
from tomopipe.campaign.stacks import Stack, find_stacks
from tomopipe.campaign.state.facts import not_selected
from tomopipe.campaign.step_files import sidecar_of
from tomopipe.config import FixCorBlock
from tomopipe.config.base import effective
from tomopipe.config.step_options import inventory_options, options_of, without_empty
from tomopipe.cor.outliers import Fix
from tomopipe.relion.mrc_volumes import mrc_sources
from tomopipe.relion.relion_set import assumed_numbers, failed_stacks, star_options
from tomopipe.reruns.receipts import Receipts, Result, digest, statement_in
from tomopipe.scans.formats import NOT_SQUARE
from tomopipe.scans.raw_identity import RAW
from tomopipe.scans.scan_files import companions
from tomopipe.steps import fix_cor, sidecar
from tomopipe.storage.json_files import in_file, number
from tomopipe.workflow_steps import STEPS

Statement = dict[str, Any]
Cors = Mapping[str, Mapping[str, Any]]  # cor.json: scan to `cor_px` and `source`

ALSO_READ = "also_read"
"""External raw-data files of HDF5 datasets, and the files that flats and darks elsewhere take data
from."""


Args = TypeVarTuple("Args")
R = TypeVar("R")


def _once(method: Callable[["Target", *Args], R]) -> Callable[["Target", *Args], R]:
    """Compute each value of a method once for an object, which is for one inventory."""

    @wraps(method)
    def computed(self: "Target", *args: *Args) -> R:
        key = (method.__name__, *args)
        if key not in self.cache:
            self.cache[key] = method(self, *args)
        value: R = self.cache[key]
        return value

    return computed


class Target:
    """What each result of a campaign should be made from: `statement` of a step and key.

    `rows` is the inventory, `cors` are the resolved CORs; empty before there are any. `receipts`,
    if this process has read them before.
    """

    def __init__(
        self,
        campaign: Campaign,
        rows: InventoryRows | None = None,
        cors: Cors | None = None,
        receipts: Receipts | None = None,
    ) -> None:
        self.campaign, self.out = campaign, campaign.outputs
        self.receipts = receipts or Receipts(campaign.directory, self.out)
        self.rows: InventoryRows = rows or {}
        self.cors: Cors = cors or {}
        self.looks_ahead = False  # tables that are missing or damaged count as they were
        self.cache: dict[Hashable, Any] = {}  # of methods that compute their values once

    def statement(self, step: str, key: str = "campaign") -> Statement:
        """State what the result of a step for a scan, series or stack should be made from."""
        of_step: Callable[[str], Statement] = getattr(self, f"of_{step}")
        return of_step(key)

    def outputs(self, step: str, key: str = "campaign") -> list[str]:
        """Return the files of a result, relative to the campaign; the first has the statement."""
        config, is_stack = self.campaign.config, STEPS[step].key == "stack"
        output = config.format_of(key) if is_stack else config.full_recon.output
        files = self.out.outputs(step, key, output)
        return files or [*map(self.sidecar, self.cors or self.campaign.scans)]

    def result(self, step: str, key: str) -> Result:
        """Return a result: what it should be made from, and its files."""
        target, outputs = self.statement(step, key), self.outputs(step, key)
        return Result(STEPS[step], key, target, outputs, STEPS[step].lasting(self.campaign))

    def content(self, path: str) -> str:
        """Return the checksum of a table; looking ahead the last one if it is gone or damaged."""
        receipts = self.receipts
        return receipts.last_content(path) if self.looks_ahead else receipts.content(path)

    # ---- scans, series, stacks ---------------------------------------------------------------

    @property
    @_once
    def selected(self) -> Selected:
        """The selected scans by series, as in the present inventory."""
        return Selected(self.campaign, self.rows, self._replaced)

    @_once
    def _replaced(self) -> set[str]:
        """Name the scans with `select: no` whose raw file changed after their sweep."""
        results = set()
        for scan, entry in self.campaign.scans.items():
            if entry.select != "no" or scan not in self.rows:
                continue
            swept = statement_in(self.campaign.files.sweep(scan))
            now = self.raw(scan), self._also_read(scan)
            if swept and (swept.get("raw"), swept.get(ALSO_READ, now[1])) != now:
                results.add(scan)
        return results

    def stacks(self) -> dict[str, Stack]:
        """Return the stacks whose scans all have a COR, by name."""
        return {stack.name: stack for stack in self.declared() if not stack.problem}

    def declared(self) -> list[Stack]:
        """Return all stacks, with the problems that prevent stitching."""
        if not self.campaign.config.stitch.names:
            return []
        rows, cors, stacks = self.cache.get("declared", (None, None, []))
        if rows is not self.rows or cors is not self.cors:  # asked for by each job
            stacks = find_stacks(self.campaign, self.rows, self.cors)
            self.cache["declared"] = self.rows, self.cors, stacks
        return list(stacks)

    @_once
    def sidecar(self, scan: str) -> str:
        """Return the sidecar's path: beside the data, unless another campaign wrote one there."""
        path, campaign = sidecar_of(self.campaign, scan), self.campaign
        return sidecar.place(path, self.out.sidecar(scan), campaign.directory)

    # ---- raw files ---------------------------------------------------------------------------

    def raw_files(self, scan: str) -> list[str]:
        """Name the files that a scan is read from; linked ones as in the inventory."""
        return self._raw_files(scan) + _names(self._cell(scan, ALSO_READ))

    def _raw_files(self, scan: str) -> list[str]:
        entry, shared = self.campaign.scans[scan], self.campaign.for_scan(scan).shared_files
        if entry.view:  # its content covers what it links to
            return [entry.path, *shared]
        beside = companions(entry.path, self.campaign.directory)
        return [entry.path, *beside, *shared, *_names(self._cell(scan, "linked"))]

    def raw(self, scan: str) -> list[str]:
        """Identify the content of all raw files of a scan, including linked and shared ones.

        Determined once: changes during a run count for the next.
        """
        return self._contents(scan, self._cell(scan, "linked"))

    @_once
    def _contents(self, scan: str, _linked: str) -> list[str]:
        first, *others = self._raw_files(scan)
        view, name = self.campaign.scans[scan].view, self.receipts.raw.name
        return [f"{RAW}{view.content}" if view else name(first), *map(name, others)]

    def _also_read(self, scan: str) -> list[str]:
        """Identify the further files of a scan that the inventory names (`ALSO_READ`)."""
        return self._contents_of(self._cell(scan, ALSO_READ))

    @_once
    def _contents_of(self, text: str) -> list[str]:  # of many scans the same
        return [*map(self.receipts.raw.name, _names(text))]

    def _cell(self, scan: str, column: str) -> str:
        """Return a cell of the inventory; "" if it is empty or missing."""
        return self.rows.get(scan, {}).get(column) or ""

    # ---- statements, up to cor.json ----------------------------------------------------------

    def _with_options(self, step: str, **parts: Any) -> Statement:
        """Return the statement of a step of all scans: these parts, and its options."""
        return _statement(step, **parts, **_options_once(step, self.campaign))

    def of_inventory(self, _: str) -> Statement:
        """State what inventory.tsv should be made from."""
        campaign, keys, entries = self.campaign, ("scan", "path", "series", "index", "reason"), []
        of_all = inventory_options(campaign.config)
        for entry in inventory_entries(campaign):
            entries.append({key: entry[key] for key in keys})
            for_scan = campaign if entry["reason"] else campaign.for_scan(entry["scan"])
            if for_scan is not campaign:
                extra = inventory_options(for_scan.config)
                if extra != of_all:
                    entries[-1]["options"] = extra
        everything = (*campaign.scans.values(), *campaign.refused)
        views = {s.part_path: RAW + s.view.content for s in everything if s.view}
        scans = [s.path for s in everything if not s.view]
        of_scans = [campaign.for_scan(scan) for scan in campaign.scans]
        shared = {path for of_scan in of_scans for path in of_scan.shared_files}
        shared -= {path for of_scan in of_scans for path in of_scan.config.preprocess.shift_files}
        raw = {path: self.receipts.raw.name(path) for path in {*scans, *shared}} | views
        return self._with_options("inventory", entries=entries, raw=raw)

    def of_try_recon(self, scan: str) -> Statement:
        """State what the sweep and rows of a scan should be made from."""
        return self._of_reading("try_recon", scan)

    @_once
    def _of_reading(self, step: str, scan: str) -> Statement:
        """State what the results of a step that reads a scan should be made from."""
        options = _options_once(step, self.campaign.for_scan(scan))
        target = _statement(step, raw=list(self.raw(scan)), **options)
        if also_read := self._also_read(scan):
            target[ALSO_READ] = also_read
        row = self.rows.get(scan, {})
        warnings = row.get("warnings", "").split("; ") if STEPS[step].metadata else ()
        if text := next((text for text in warnings if text.startswith(NOT_SQUARE)), ""):
            target["metadata"] = target["metadata"] | {"pixels": text}
        return target

    @_once
    def _of_reading_stuck(self, step: str, scan: str) -> Statement:
        """As `_of_reading`, for steps that also depend on stuck pixels and roll, by try_recon."""
        target = self._of_reading(step, scan)
        n_stuck = in_file(self.campaign.paths.sweep(scan), N_STUCK)
        found = {N_STUCK: n_stuck, ROLL: self.measured_roll_deg(scan)}
        return target | {key: value for key, value in found.items() if value}

    def measured_roll_deg(self, scan: str) -> float:
        """Return the roll that try_recon measured and corrected; 0 unless it is to do so."""
        if not measures_roll(self.campaign, scan):
            return 0.0
        return number(in_file(self.campaign.paths.sweep(scan), ROLL)) or 0.0

    @_once
    def of_predict_cor(self, scan: str) -> Statement:
        """State what a scan's prediction should be made from."""
        networks = self.campaign.config.predict_cor.own_networks
        return self._with_options(
            "predict_cor",
            rows=digest(self.of_try_recon(scan)),
            networks={path: self.receipts.raw.name(path) for path in networks},
        )

    def of_fix_cor(self, series: str) -> Statement:
        """State what the table of a series should be made from."""
        selected = self.selected
        scans = selected.with_prediction(selected.series[series])
        members = [
            {key: value for key, value in entry.items() if key not in PLACE}
            for entry in selected.members(series)
        ]
        parts: dict[str, Any] = {"members": members, "predictions": self._predictions(scans)}
        if self.campaign.config.fix_cor.fill == "best":  # else no other series counts
            parts["around"] = self.stated_around(series) if selected.uses_around(series) else ""
        return self._with_options("fix_cor", **parts)

    def next_fixes(self, series: str, options: FixCorBlock | None = None) -> dict[str, Fix]:
        """Compute the rows of a series as fix_cor will, by its present predictions."""
        selected = self.selected
        return fix_cor.compute(
            predicted_files(self.campaign, selected.searched(series)),
            selected.members(series),
            options or self.campaign.config.fix_cor,
            selected.members_around(series),
        )

    def stated_around(self, series: str) -> str:
        """Return a digest of what estimates of CORs in a series depend on, beyond its CORs."""
        scans = self.selected.with_prediction(self.selected.around(series))
        own = [{key: entry[key] for key in PLACE} for entry in self.selected.members(series)]
        entries, predictions = self.selected.members_around(series), self._predictions(scans)
        return digest({"own": own, "members": entries, "predictions": predictions})

    def _predictions(self, scans: Iterable[str]) -> dict[str, list[str]]:
        content = self.receipts.content
        return {
            scan: [content(path) for path in self.outputs("predict_cor", scan)] for scan in scans
        }

    def of_resolve_cor(self, _: str) -> Statement:
        """State the options of cor.json; its content is compared directly with the fix tables."""
        return self._with_options("resolve_cor")

    # ---- statements, after cor.json ----------------------------------------------------------

    def of_full_recon(self, scan: str) -> Statement:
        """State what a volume should be made from."""
        return self._of_reading_stuck("full_recon", scan) | {"cor_px": self.cors[scan]["cor_px"]}

    @_once
    def _digest_at(self, cor_px: float, scan: str) -> str:
        return digest(self._of_reading_stuck("full_recon", scan) | {"cor_px": cor_px})

    def of_stitch(self, name: str) -> Statement:
        """State what a stitched volume should be made from: its volumes, in order."""
        config, stack = self.campaign.config, self.stacks()[name]
        volumes = {scan: self.of_full_recon(scan) for scan in stack.with_volume}
        options, full = effective(config.stitch), effective(config.full_recon)
        for key in ("stacks", "time"):
            options.pop(key, None)
        stored = ["output", "zarr_version", "compression", "dtype", "value_range"]
        if stack.is_time:  # always OME-Zarr
            options = {}
            stored.remove("output")
            if config.full_recon.zarr_version != 3:
                full["zarr_version"] = config.full_recon.zarr_version
        parts = {
            part: {scan: volume[part] for scan, volume in volumes.items() if volume.get(part)}
            for part in ("metadata", ALSO_READ)
        }
        of_time = {"times_s": {**stack.times_s}, "gaps": [*stack.gaps]}
        voxels = {
            scan: digest({key: v for key, v in each.items() if key != ALSO_READ} | {"metadata": {}})
            for scan, each in volumes.items()
        }
        return _statement(
            "stitch",
            scans=[*stack.scans],
            volumes=[voxels.get(scan, "") for scan in stack.scans],
            options=({"stitch": options} if options else {})
            | {key: full[key] for key in stored if key in full},
            **without_empty(parts),
            **{key: value for key, value in of_time.items() if value},
        )

    def of_sidecar(self, _: str) -> Statement:
        """State what the sidecars should be made from."""
        cors, scans, content = self.cors, self.campaign.scans, self.receipts.content
        predictions = {
            scan: content(self.out.prediction(scan)) for scan in self.selected.not_failed(cors)
        }
        series = {encode_series(scans[scan].series) for scan in cors}
        paths = {scan: self.sidecar(scan) for scan in cors}
        is_elsewhere = any(map(sidecar.is_outside, paths.values()))
        return {
            # sidecars outside the campaign name its folder
            **({"campaign": str(self.campaign.directory)} if is_elsewhere else {}),
            "step": "sidecar",
            "cors": {scan: [paths[scan], entry] for scan, entry in cors.items()},
            "tables": {name: content(self.out.fix_table(name)) for name in sorted(series)},
            "predictions": predictions,
        }

    def of_export_stack(self, scan: str) -> Statement:
        """State what a stack for RELION should be made from."""
        return self._of_reading_stuck("export_stack", scan)

    def of_export_star(self, _: str) -> Statement:
        """State what the tomogram set should be made from."""
        metas = {scan: self.receipts.content(self.out.stack_meta(scan)) for scan in self.cors}
        options = self.star_options()
        return _statement("export_star", cor=dict(self.cors), metas=metas, options=options)

    def star_options(self) -> dict[str, Any]:
        """Return the options of the set, and the MRC volumes: it names those with a digest."""
        volumes = self._mrc_volumes()
        return star_options(self.campaign, self.cors) | ({"volumes": volumes} if volumes else {})

    def _mrc_volumes(self) -> dict[str, str]:
        """Return the target digest of each MRC volume's source; "" if its source differs."""
        result = {}
        for scan, source in mrc_sources(self.campaign, self.cors).items():
            target = self._digest_at(self.cors[scan]["cor_px"], scan)
            result[scan] = target if source == target else ""
        return result

    def of_report(self, _: str) -> Statement:
        """State what the report shows: tables and predictions by content, volumes by statement."""
        campaign, out, selected = self.campaign, self.out, self.selected
        files = [out.inventory, out.cor_table, *map(out.fix_table, selected.series)]
        scans = selected.with_prediction(campaign.selected_scans(self.rows))
        files += map(out.prediction, scans)
        files += map(out.shifts, self.stacks())
        volumes = {s: self._digest_at(cor["cor_px"], s) for s, cor in self.cors.items()}
        shown = {path: self.content(path) for path in files} | volumes
        if campaign.makes_star:
            notes = assumed_numbers(campaign, self.rows), self._mrc_volumes()
            shown |= {"relion": digest({"notes": notes})} if any(notes) else {}
        if failed := failed_stacks(campaign, self.cors):
            shown |= {"failed_stacks": digest({"reasons": failed})}
        problems = {stack.name: stack.problem for stack in self.declared() if stack.problem}
        if problems:  # which no file has
            shown |= {"stacks": digest({"problems": problems})}
        # `select: no` on scans that are skipped anyway shows in no result
        unselected = [
            scan
            for scan, row in self.rows.items()
            if scan in campaign.scans and campaign.scans[scan].select == "no"
            if not_selected("auto", row)
        ]
        if unselected:
            shown |= {"unselected": digest({"scans": unselected})}
        over_time = campaign.config.fix_cor.over_time  # a line in its plots
        drawn = {} if over_time == "none" else {"over_time": over_time}
        return self._with_options(
            "report", name=campaign.config.campaign.name, shown=shown, **drawn
        )


def _statement(step: str, **parts: Any) -> Statement:
    return {"step": step, "revision": STEPS[step].revision, **parts}


def _options_once(step: str, campaign: Campaign) -> dict[str, Any]:
    """Return the `options_of` a step, computed once for all scans of one configuration."""
    if step not in campaign.effective:
        campaign.effective[step] = options_of(step, campaign.config)
    return campaign.effective[step]


def _names(text: str) -> list[str]:
    return sorted(json.loads(text)) if text else []
