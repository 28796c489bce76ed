"""Targets: what each result should be made from now, and the table of all steps.

A statement, of a result or as its target, is a mapping of JSON values: the step, its revision, the
content of the raw files, the results of earlier steps, and the options in effect
(`tomopipe.config.base`).
"""

import json
import os
from collections.abc import Callable, Hashable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, cached_property, partial
from typing import Any

from tomopipe.campaign.campaign import Campaign
from tomopipe.campaign.raw_files import encode_series
from tomopipe.campaign.reading import inventory_entries
from tomopipe.campaign.relion_set import assumed_numbers, failed_stacks, star_options
from tomopipe.campaign.results import N_STUCK, InventoryRows, read_fixes
from tomopipe.campaign.series import (
    PLACE,
    compared_series,
    members_of,
    needs_search,
    selected_series,
)
from tomopipe.campaign.stacks import Stack, find_stacks
from tomopipe.campaign.state.facts import not_selected
from tomopipe.campaign.step_files import sidecar_of, volume_of
from tomopipe.config.base import effective
from tomopipe.config.step_options import METADATA, inventory_options, options_of, without_empty
from tomopipe.errors import TomopipeError
from tomopipe.paths import no_pipe
from tomopipe.reruns.receipts import Receipts, digest, source_of, statement_in
from tomopipe.scans.formats import NOT_SQUARE
from tomopipe.scans.scan_files import companions
from tomopipe.steps import REVISIONS, fix_cor, sidecar
from tomopipe.storage.json_files import json_or

Statement = dict[str, Any]
Cors = Mapping[str, Mapping[str, Any]]  # cor.json: scan to `cor_px` and `source`

ALSO_READ = "also_read"
"""External raw-data files of HDF5 datasets, and the files that flats and darks elsewhere take data
from."""


class Target:
    """What each result of a campaign should be made from: `statement` of a step and key.

    `rows` is the inventory, `cors` are the resolved CORs; empty before there are any.
    """

    def __init__(
        self, campaign: Campaign, rows: InventoryRows | None = None, cors: Cors | None = None
    ) -> None:
        self.campaign, self.out = campaign, campaign.outputs
        self.rows: InventoryRows = rows or {}
        self.cors: Cors = cors or {}
        self.looks_ahead = False  # tables that are missing or damaged count as they were
        self._cache: dict[Hashable, Any] = {}

    @cached_property
    def receipts(self) -> Receipts:
        """The receipts of the campaign."""
        return Receipts(self.campaign.directory, self.out)

    def statement(self, step: str, key: str = "campaign") -> Statement:
        """State what the result of a step for a scan, series or stack should be made from."""
        return STEPS[step].statement(self, key)

    def outputs(self, step: str, key: str = "campaign") -> list[str]:
        """Return the files of a result, relative to the campaign; the first has the statement."""
        return STEPS[step].outputs(self, key)

    def content(self, path: str) -> str:
        """Return the checksum of a table; looking ahead the last one if it is gone or damaged."""
        receipts = self.receipts
        return receipts.last_content(path) if self.looks_ahead else receipts.content(path)

    def _once(self, key: Hashable, compute: Callable[[], Any]) -> Any:
        """Compute a value once for this object, which is for one inventory."""
        if key not in self._cache:
            self._cache[key] = compute()
        return self._cache[key]

    # ---- scans, series, stacks ---------------------------------------------------------------

    def not_failed(self, scans: Iterable[str]) -> list[str]:
        """Return the scans whose jobs did not fail finally."""
        return [scan for scan in scans if scan not in self.campaign.failures]

    def to_search(self, scans: Iterable[str]) -> list[str]:
        """Return the scans for which the next run makes a sweep and a prediction."""
        rows = self.rows
        return [s for s in self.not_failed(scans) if needs_search(self.campaign, s, rows[s])]

    def with_prediction(self, scans: Iterable[str]) -> list[str]:
        """Return the scans to search, and those that keep an earlier prediction."""
        path_of, to_search = self.campaign.paths.prediction, set(self.to_search(scans))
        return [s for s in self.not_failed(scans) if s in to_search or os.path.exists(path_of(s))]

    def series(self) -> dict[str, list[str]]:
        """Return the selected scans by encoded series name."""
        # called once per job: grouping 5000 scans each time would be quadratic
        return self._once("series", lambda: selected_series(self.campaign, self.rows))

    def members(self, series: str) -> list[dict[str, Any]]:
        """Return the input of fix_cor for the scans of a series, without predictions."""
        replaced = self._once("replaced", self._replaced)
        return members_of(self.campaign, self.series()[series], self.rows, replaced)

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

    def _series_around(self, series: str) -> list[tuple[int, str]]:
        """Return the series with which one is compared, and their distances in file order."""

        def compute() -> dict[str, list[tuple[int, str]]]:
            return compared_series(self.campaign, self.series(), self.rows)

        return self._once("around", compute).get(series, [])

    def scans_around(self, series: str) -> list[str]:
        """Return the scans with which fix_cor compares those of a series."""
        return [scan for _, key in self._series_around(series) for scan in self.series()[key]]

    def members_around(self, series: str) -> list[dict[str, Any]]:
        """Return the input of fix_cor for the series around one, each scan with its distance."""

        def selected(key: str) -> list[dict[str, Any]]:
            return [entry for entry in self.members(key) if entry["select"] == "in"]

        return [
            entry | {"order": order}
            for order, key in self._series_around(series)
            for entry in self._once(("around", key), partial(selected, key))
        ]

    def uses_around(self, series: str) -> bool:
        """Tell whether the present table of a series depends on the series around it."""

        def compute() -> bool:
            try:
                fixes = read_fixes([self.campaign.files.fix_table(series)])
            except (OSError, TomopipeError):  # made again anyway
                return False
            return fix_cor.uses_estimates(fixes.values())

        return self._once(("uses", series), compute)

    def stacks(self) -> dict[str, Stack]:
        """Return the stacks whose scans all have a COR, by name."""
        return {stack.name: stack for stack in self.declared() if not stack.problem}

    def declared(self) -> list[Stack]:
        """Return all stacks, with the problems that prevent stitching."""
        declared = self.campaign.config.stitch.stacks
        return find_stacks(self.campaign, self.rows, self.cors) if declared else []

    def sidecar(self, scan: str) -> str:
        """Return the sidecar's path: beside the data, unless another campaign wrote one there."""
        return self._once(("sidecar", scan), lambda: self._sidecar(scan))

    def _sidecar(self, scan: str) -> str:
        path, in_results = sidecar_of(self.campaign, scan), self.out.sidecar(scan)
        folder = self.campaign.directory
        owner = sidecar.owner(folder / path) if is_outside(path) else None
        if path == in_results or owner is None or is_folder(owner, folder):
            return path
        # of another campaign, or of this one before it was moved; ours may be in results
        is_theirs = sidecar.is_campaign(owner, folder) or (folder / in_results).exists()
        return in_results if is_theirs else path

    # ---- raw files ---------------------------------------------------------------------------

    def raw_files(self, scan: str) -> list[str]:
        """Name the files that a scan is read from; linked ones as in the inventory."""
        return self._raw_files(scan) + _names(self._cell(scan, ALSO_READ))

    def _raw_files(self, scan: str) -> list[str]:
        raw_path = self.campaign.scans[scan].path
        shared = self.campaign.for_scan(scan).shared_files
        beside = companions(raw_path, self.campaign.directory)
        return [raw_path, *beside, *shared, *_names(self._cell(scan, "linked"))]

    def raw(self, scan: str) -> list[str]:
        """Identify the content of all raw files of a scan, including linked and shared ones.

        Determined once: changes during a run count for the next.
        """
        key = "raw", scan, self._cell(scan, "linked")
        return self._once(key, lambda: [self.receipts.raw.name(p) for p in self._raw_files(scan)])

    def _also_read(self, scan: str) -> list[str]:
        """Identify the further files of a scan that the inventory names (`ALSO_READ`)."""
        text = self._cell(scan, ALSO_READ)  # of many scans the same
        return self._once((ALSO_READ, text), lambda: [*map(self.receipts.raw.name, _names(text))])

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
        for entry in inventory_entries(campaign):
            entries.append({key: entry[key] for key in keys})
            for_scan = campaign if entry["reason"] else campaign.for_scan(entry["scan"])
            if for_scan is not campaign:
                extra = inventory_options(for_scan.config)
                if extra != inventory_options(campaign.config):
                    entries[-1]["options"] = extra
        scans = [scan.path for scan in (*campaign.scans.values(), *campaign.refused)]
        shared = [path for scan in campaign.scans for path in campaign.for_scan(scan).shared_files]
        raw = {path: self.receipts.raw.name(path) for path in {*scans, *shared}}
        return self._with_options("inventory", entries=entries, raw=raw)

    def of_try_recon(self, scan: str) -> Statement:
        """State what the sweep and rows of a scan should be made from."""
        return self._of_reading("try_recon", scan)

    def _of_reading(self, step: str, scan: str) -> Statement:
        """State what the results of a step that reads a scan should be made from."""

        def compute() -> Statement:
            options = _options_once(step, self.campaign.for_scan(scan))
            target = _statement(step, raw=list(self.raw(scan)), **options)
            if also_read := self._also_read(scan):
                target[ALSO_READ] = also_read
            row = self.rows.get(scan, {})
            warnings = row.get("warnings", "").split("; ") if METADATA[step] else ()
            if text := next((text for text in warnings if text.startswith(NOT_SQUARE)), ""):
                target["metadata"] = target["metadata"] | {"pixels": text}
            return target

        return self._once((step, scan), compute)

    def _of_reading_stuck(self, step: str, scan: str) -> Statement:
        """As `_of_reading`, for steps that also depend on the stuck pixels that try_recon found."""

        def compute() -> Statement:
            target = self._of_reading(step, scan)
            n_stuck = in_file(self.receipts.path_of(self.out.sweep(scan)), N_STUCK)
            return target | ({N_STUCK: n_stuck} if n_stuck else {})

        return self._once((step, scan, N_STUCK), compute)

    def of_predict_cor(self, scan: str) -> Statement:
        """State what a scan's prediction should be made from."""

        def compute() -> Statement:
            networks = self.campaign.config.predict_cor.own_networks
            return self._with_options(
                "predict_cor",
                rows=digest(self.of_try_recon(scan)),
                networks={path: self.receipts.raw.name(path) for path in networks},
            )

        return self._once(("predict_cor", scan), compute)

    def of_fix_cor(self, series: str) -> Statement:
        """State what the table of a series should be made from."""
        scans = self.with_prediction(self.series()[series])
        members = [
            {key: value for key, value in entry.items() if key not in PLACE}
            for entry in self.members(series)
        ]
        parts: dict[str, Any] = {"members": members, "predictions": self._predictions(scans)}
        if self.campaign.config.fix_cor.fill == "best":  # else no other series counts
            parts["around"] = self.stated_around(series) if self.uses_around(series) else ""
        return self._with_options("fix_cor", **parts)

    def stated_around(self, series: str) -> str:
        """Return a digest of what estimates of CORs in a series depend on, beyond its CORs."""
        scans = self.with_prediction(self.scans_around(series))
        own = [{key: entry[key] for key in PLACE} for entry in self.members(series)]
        entries, predictions = self.members_around(series), self._predictions(scans)
        return digest({"own": own, "members": entries, "predictions": predictions})

    def _predictions(self, scans: Iterable[str]) -> dict[str, list[str]]:
        content = self.receipts.content
        return {scan: [content(path) for path in self.out.of_predict_cor(scan)] for scan in scans}

    def of_resolve_cor(self, _: str) -> Statement:
        """State the options of cor.json; its content is compared directly with the fix tables."""
        return self._with_options("resolve_cor")

    # ---- statements, after cor.json ----------------------------------------------------------

    def of_full_recon(self, scan: str) -> Statement:
        """State what a volume should be made from."""
        return self._of_reading_stuck("full_recon", scan) | {"cor_px": self.cors[scan]["cor_px"]}

    def _digest_of_full_recon(self, scan: str) -> str:
        key = "full_recon", scan, self.cors[scan]["cor_px"]
        return self._once(key, lambda: digest(self.of_full_recon(scan)))

    def of_stitch(self, name: str) -> Statement:
        """State what a stitched volume should be made from: its volumes, in order."""
        config = self.campaign.config
        volumes = {scan: self.of_full_recon(scan) for scan in self.stacks()[name].scans}
        options, full = effective(config.stitch), effective(config.full_recon)
        options.pop("stacks", None)
        stored = ("output", "compression", "dtype", "value_range")
        parts = {
            part: {scan: volume[part] for scan, volume in volumes.items() if volume.get(part)}
            for part in ("metadata", ALSO_READ)
        }
        return _statement(
            "stitch",
            scans=list(volumes),
            volumes=[digest(without_also_read(v) | {"metadata": {}}) for v in volumes.values()],
            options=({"stitch": options} if options else {})
            | {key: full[key] for key in stored if key in full},
            **without_empty(parts),
        )

    def of_sidecar(self, _: str) -> Statement:
        """State what the sidecars should be made from."""
        cors, scans, content = self.cors, self.campaign.scans, self.receipts.content
        predictions = {scan: content(self.out.prediction(scan)) for scan in self.not_failed(cors)}
        series = {encode_series(scans[scan].series) for scan in cors}
        paths = {scan: self.sidecar(scan) for scan in cors}
        is_elsewhere = any(map(is_outside, paths.values()))
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
        for scan in self.cors:
            source = source_of(self.receipts.path_of(self.out.mrc_volume(scan)))
            if source is not None:
                target = self._digest_of_full_recon(scan)
                result[scan] = target if source == target else ""
        return result

    def of_report(self, _: str) -> Statement:
        """State what the report shows: tables and predictions by content, volumes by statement."""
        campaign, out = self.campaign, self.out
        files = [out.inventory, out.cor_table]
        files += map(out.fix_table, self.series())
        files += map(out.prediction, self.with_prediction(campaign.selected_scans(self.rows)))
        files += map(out.shifts, self.stacks())
        volumes = {s: self._digest_of_full_recon(s) for s in self.cors}
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
        return self._with_options("report", name=campaign.config.campaign.name, shown=shown)


# ---- the steps --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """A step of the workflow: what its results are, and what they are made from."""

    name: str
    key: str  # of what each result is: a scan, series or stack, or the campaign
    inputs: tuple[str, ...]  # the steps whose results it reads
    outputs: Callable[[Target, str], list[str]]  # relative to the campaign
    statement: Callable[[Target, str], Statement]
    changed: str = ""  # reason of a result that contains no statement: to make it again is cheap
    n_lasting: Callable[[Campaign], int] = lambda _: 9  # outputs after these may be removed


def _volume_of_stack(target: Target, stack: str) -> str:
    return target.out.stitched(stack, target.campaign.config.full_recon.output)


def _sidecars(target: Target) -> list[str]:
    return [target.sidecar(scan) for scan in target.cors or target.campaign.scans]


_STEPS = (
    Step("inventory", "campaign", (), lambda t, _: [t.out.inventory], Target.of_inventory,
         "files or options of the campaign changed"),
    Step("try_recon", "scan", ("inventory",), lambda t, scan: t.out.of_try_recon(scan),
         Target.of_try_recon, n_lasting=lambda _: 2),
    Step("predict_cor", "scan", ("try_recon",), lambda t, scan: t.out.of_predict_cor(scan),
         Target.of_predict_cor),
    Step("fix_cor", "series", ("predict_cor",), lambda t, series: [t.out.fix_table(series)],
         Target.of_fix_cor,
         "a prediction, a COR or an option of the series, or a COR beside it, changed"),
    Step("resolve_cor", "campaign", ("fix_cor",), lambda t, _: [t.out.cor_table, t.out.rot_cen],
         Target.of_resolve_cor, "options of resolve_cor changed"),
    Step("full_recon", "scan", ("resolve_cor",), lambda t, scan: [volume_of(t.campaign, scan)],
         Target.of_full_recon),
    Step("stitch", "stack", ("full_recon",),
         lambda t, stack: [t.out.shifts(stack), _volume_of_stack(t, stack)], Target.of_stitch),
    Step("sidecar", "campaign", ("resolve_cor",), lambda t, _: _sidecars(t), Target.of_sidecar),
    Step("export_stack", "scan", ("resolve_cor",), lambda t, scan: t.out.of_export_stack(scan),
         Target.of_export_stack, n_lasting=lambda c: 9 if c.config.storage.keep_stacks else 1),
    Step("export_star", "campaign", ("export_stack",), lambda t, _: t.out.of_export_star(),
         Target.of_export_star, "follows CORs, stacks, MRC volumes and options"),
    Step("report", "campaign", ("full_recon", "stitch", "predict_cor"),
         lambda t, _: [t.out.report], Target.of_report, "follows the results shown"),
)  # fmt: skip
STEPS = {step.name: step for step in _STEPS}
"""The steps by name, in the order of the work."""


def _statement(step: str, **parts: Any) -> Statement:
    return {"step": step, "revision": REVISIONS[step], **parts}


def without_also_read(statement: Mapping[str, Any]) -> Statement:
    """Return a statement without `also_read`, which a stitched volume lists separately."""
    return {key: value for key, value in statement.items() if key != ALSO_READ}


def _options_once(step: str, campaign: Campaign) -> dict[str, Any]:
    """Return the `options_of` a step, computed once for all scans of one configuration."""
    if step not in campaign.effective:
        campaign.effective[step] = options_of(step, campaign.config)
    return campaign.effective[step]


def in_file(path: str, key: str) -> Any:
    """Return the value of a rare key of a JSON file; None if it does not have the key."""
    return _in_file(path, key, _mtime_ns(path))


@cache  # called once per job, and predictions are large
def _in_file(path: str, key: str, _mtime_ns: int) -> Any:
    with suppress(OSError), open(no_pipe(path), "rb") as file:
        if f'"{key}"'.encode() in file.read():  # parsing takes longer
            return json_or(path, {}).get(key)
    return None


def _mtime_ns(path: str | os.PathLike[str]) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return 0


def is_outside(path: str) -> bool:
    """Tell whether a file does not lie in the campaign folder."""
    return os.path.isabs(path) or os.path.normpath(path).startswith("..")


def is_folder(folder: str, other: os.PathLike[str]) -> bool:
    """Tell whether a path is that of a folder which exists."""
    return os.path.exists(folder) and os.path.samefile(folder, other)


def _names(text: str) -> list[str]:
    return sorted(json.loads(text)) if text else []


def table_shown(campaign: Campaign) -> str:
    """Return a digest of the cells of the campaign table that the report shows."""
    rows = [(row.scan, row.select, row.cor.text) for row in campaign.table_rows]
    return digest({"rows": [row for row in rows if row[1:] != ("auto", "")]})


def withdraw_removed(campaign: Campaign, results: Iterable[tuple[str, str]]) -> None:
    """Withdraw the receipts of those results, by step and key, of which a command removed files."""
    target = Target(campaign)
    for result in results:
        paths = map(target.receipts.path_of, target.outputs(*result))
        if not all(map(os.path.lexists, paths)):
            target.receipts.withdraw(*result)
    target.receipts.save()
