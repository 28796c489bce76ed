"""Target statements: what each result must be made from now."""

import json
import os
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from contextlib import suppress
from functools import cache, partial
from typing import Any

from tomopipe.campaign.campaign import Campaign
from tomopipe.campaign.files import LINKS, NAMES, STACK
from tomopipe.campaign.raw_files import encode_series
from tomopipe.campaign.reading import has_other_links
from tomopipe.campaign.relion_set import assumed_numbers, failed_stacks, star_options
from tomopipe.campaign.results import (
    N_STUCK,
    VOLUME_ROWS,
    InventoryRows,
    read_cor_json,
    read_fixes,
    read_inventory,
    read_tsv,
)
from tomopipe.campaign.series import (
    PLACE,
    compared_series,
    members_of,
    needs_search,
    predicted_files,
    selected_series,
)
from tomopipe.campaign.stacks import Stack, find_stacks
from tomopipe.campaign.state.facts import is_looked_at_again, not_selected
from tomopipe.campaign.step_files import sidecar_of
from tomopipe.cor.outliers import Fix
from tomopipe.errors import TomopipeError, some_of
from tomopipe.paths import no_pipe
from tomopipe.reruns import made_from
from tomopipe.reruns.made_from import ALSO_READ, METADATA, Statement
from tomopipe.reruns.reasons import (
    CHANGED,
    MISSING,
    UNREADABLE,
    of_cor,
    of_fixes,
    of_scans,
    of_series,
)
from tomopipe.reruns.receipts import digest
from tomopipe.reruns.staleness import Staleness, source_of
from tomopipe.scans.formats import NOT_SQUARE
from tomopipe.steps import fix_cor, sidecar
from tomopipe.storage.atomic import remove_stale, why_not_replaced
from tomopipe.storage.checksums import changed_links
from tomopipe.storage.json_files import json_or, number

_N_NAMED = 3  # scans in a reason
Cors = Mapping[str, Mapping[str, Any]]  # cor.json: scan to `cor_px` and `source`


class Target:
    """Statements of up-to-date results (`of_<step>`), for `Staleness.why_stale`.

    `why_<step>` is for steps of which more than the statement decides. `rows` is the inventory,
    empty before there is one.
    """

    def __init__(self, campaign: Campaign, rows: InventoryRows | None = None) -> None:
        self.campaign, self.out = campaign, campaign.outputs
        self.rows: InventoryRows = rows or {}
        self.staleness = Staleness(campaign)
        self._cache: dict[Hashable, Any] = {}

    def _once(self, key: Hashable, compute: Callable[[], Any]) -> Any:
        """Compute a value once for this object, which is for one inventory."""
        if key not in self._cache:
            self._cache[key] = compute()
        return self._cache[key]

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

    def statement(self, step: str, key: str, cors: Cors) -> Statement:
        """State what the result of a step for a scan, series or stack must be made from."""
        of: dict[str, Callable[[], Statement]] = {
            "inventory": self.of_inventory,
            "try_recon": lambda: self.of_try_recon(key),
            "predict_cor": lambda: self.of_predict_cor(key),
            "fix_cor": lambda: self.of_fix_cor(key),
            "resolve_cor": self.of_resolve_cor,
            "full_recon": lambda: self.of_full_recon(key, cors[key]["cor_px"]),
            "stitch": lambda: self.of_stitch(self.stacks(cors)[key], cors),
            "sidecar": lambda: self.of_sidecars(cors),
            "export_stack": lambda: self.of_export_stack(key),
            "export_star": lambda: self.of_export_star(cors),
            "report": lambda: self.of_report(cors, self.staleness.receipts.content),
        }
        return of[step]()

    def why_step(self, step: str, key: str, cors: Cors) -> str:
        """Say why the result of a step that reads scans or volumes is made; "" if not."""
        if step == "predict_cor":
            return self.why_predict_cor(key)
        source = cors[key]["source"] if step == "full_recon" else ""
        return self.staleness.why_stale(self.statement(step, key, cors), key, source=source)

    # ---- up to cor.json ----------------------------------------------------------------------

    def of_inventory(self) -> Statement:
        """State what inventory.tsv must be made from."""
        campaign, receipts = self.campaign, self.staleness.receipts
        scans = [scan.path for scan in (*campaign.scans.values(), *campaign.refused)]
        shared = [path for scan in campaign.scans for path in campaign.for_scan(scan).shared_files]
        content = {path: receipts.raw.name(path) for path in {*scans, *shared}}
        return made_from.of_inventory(campaign, content)

    def why_inventory(self) -> str:
        """Say why the inventory is made; also for files still being written, and changed links."""
        campaign, where = self.campaign, self.campaign.files.inventory
        reason = self.staleness.why_stale(self.of_inventory())
        if reason not in ("", CHANGED["inventory"]):
            return reason
        try:
            rows = read_inventory(where)
        except TomopipeError:
            return f"{self.out.inventory}: {UNREADABLE}"
        if not reason and not is_looked_at_again(rows) and not has_other_links(campaign, rows):
            return ""
        refused = {scan.name: scan.mtime_ns for scan in campaign.refused}
        times = refused | {name: scan.mtime_ns for name, scan in campaign.scans.items()}
        return of_scans(rows, times, where.stat().st_mtime_ns)

    def of_try_recon(self, scan: str) -> Statement:
        """State what the sweep and rows of a scan must be made from."""
        return self._of_reading("try_recon", scan)

    def _of_reading(self, step: str, scan: str) -> Statement:
        """State what the results of a step that reads a scan must be made from."""

        def compute() -> Statement:
            raw = self.staleness.raw(scan, self.rows)
            target = made_from.of_reading(step, self.campaign, scan, raw)
            if also_read := self.staleness.also_read(scan, self.rows):
                target[ALSO_READ] = also_read
            row = self.rows.get(scan, {})
            warnings = row.get("warnings", "").split("; ") if METADATA.get(step) else ()
            if text := next((text for text in warnings if text.startswith(NOT_SQUARE)), ""):
                target["metadata"] = target["metadata"] | {"pixels": text}
            return target

        return self._once((step, scan), compute)

    def _of_reading_stuck(self, step: str, scan: str) -> Statement:
        """As `_of_reading`, for steps that also depend on the stuck pixels that try_recon found."""

        def compute() -> Statement:
            target = self._of_reading(step, scan)
            sweep = self.staleness.receipts.path_of(self.out.sweep(scan))
            n_stuck = _of_file(sweep, N_STUCK, _mtime_ns(sweep))
            return target | ({N_STUCK: n_stuck} if n_stuck else {})

        return self._once((step, scan, N_STUCK), compute)

    def of_predict_cor(self, scan: str) -> Statement:
        """State what a scan's prediction must be made from."""

        def compute() -> Statement:
            stated, receipts = self.of_try_recon(scan), self.staleness.receipts
            networks = self.campaign.config.predict_cor.own_networks
            return made_from.of_step(
                "predict_cor",
                self.campaign,
                rows=digest(stated),
                networks={path: receipts.raw.name(path) for path in networks},
            )

        return self._once(("predict_cor", scan), compute)

    def why_predict_cor(self, scan: str) -> str:
        """Say why a prediction is made; also if its verdict on a tilted axis is for other rows."""
        if reason := self.staleness.why_stale(self.of_predict_cor(scan), scan):
            return reason
        path = self.staleness.receipts.path_of(self.out.prediction(scan))
        before = _of_file(path, VOLUME_ROWS, _mtime_ns(path))
        rows = self.campaign.for_scan(scan).config.full_recon.rows
        return "" if before in (None, rows) else f"rows {before} -> {rows}"

    def why_search(self, scan: str) -> str:
        """Say why the sweep or the prediction of a scan is made; "" if both are up to date."""
        swept = self.staleness.why_stale(self.of_try_recon(scan), scan)
        return swept or self.why_predict_cor(scan)

    def series(self) -> dict[str, list[str]]:
        """Return the selected scans by encoded series name."""
        # called once per job: grouping 5000 scans each time would be quadratic
        return self._once("series", lambda: selected_series(self.campaign, self.rows))

    def members(self, series: str) -> list[dict[str, Any]]:
        """Return the input of fix_cor for the scans of a series, without predictions."""
        replaced = self._once("replaced", lambda: self.staleness.replaced(self.rows))
        return members_of(self.campaign, self.series()[series], self.rows, replaced)

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

    def stated_around(self, series: str) -> str:
        """Return a digest of what estimates of CORs in a series depend on, beyond its CORs."""
        scans = self.with_prediction(self.scans_around(series))
        own = [{key: entry[key] for key in PLACE} for entry in self.members(series)]
        entries, predictions = self.members_around(series), self._predictions(scans)
        return digest({"own": own, "members": entries, "predictions": predictions})

    def uses_around(self, series: str) -> bool:
        """Tell whether the present table of a series depends on the series around it."""

        def compute() -> bool:
            try:
                fixes = read_fixes([self.campaign.files.fix_table(series)])
            except (OSError, TomopipeError):  # made again anyway
                return False
            return fix_cor.uses_estimates(fixes.values())

        return self._once(("uses", series), compute)

    def _predictions(self, scans: Iterable[str]) -> dict[str, list[str]]:
        content = self.staleness.receipts.content
        return {scan: [content(path) for path in self.out.of_predict_cor(scan)] for scan in scans}

    def of_fix_cor(self, series: str) -> Statement:
        """State what the table of a series must be made from."""
        scans = self.with_prediction(self.series()[series])
        members = [
            {key: value for key, value in entry.items() if key not in PLACE}
            for entry in self.members(series)
        ]
        parts: dict[str, Any] = {"members": members, "predictions": self._predictions(scans)}
        if self.campaign.config.fix_cor.fill == "best":  # else no other series counts
            parts["around"] = self.stated_around(series) if self.uses_around(series) else ""
        return made_from.of_step("fix_cor", self.campaign, **parts)

    def of_resolve_cor(self) -> Statement:
        """State the options of cor.json; its content is compared directly with the fix tables."""
        return made_from.of_step("resolve_cor", self.campaign)

    def why_fix_cor(self, series: str) -> str:
        """Say why the table of a series is made; "" if not."""
        reason = self.staleness.why_stale(self.of_fix_cor(series), series)
        if reason != CHANGED["fix_cor"]:
            return reason
        try:
            before = read_fixes([self.campaign.files.fix_table(series)])
        except TomopipeError:
            return f"{self.out.fix_table(series)}: {UNREADABLE}"
        members = self.members(series)
        if reason := of_series(before, members):
            return reason
        scans = self.to_search([*self.series()[series], *self.scans_around(series)])
        predicted = predicted_files(self.campaign, scans)
        with suppress(TomopipeError):  # the job says what it cannot read
            around = self.members_around(series)
            after = fix_cor.compute(predicted, members, self.campaign.config.fix_cor, around)
            if len(predicted) == len(scans) and (reason := of_fixes(before, after)):
                return reason
        return CHANGED["fix_cor"]

    # ---- after cor.json ----------------------------------------------------------------------

    def of_full_recon(self, scan: str, cor_px: float) -> Statement:
        """State what a volume must be made from."""
        return self._of_reading_stuck("full_recon", scan) | {"cor_px": cor_px}

    def _digest_of_full_recon(self, scan: str, cor_px: float) -> str:
        key = "full_recon", scan, cor_px
        return self._once(key, lambda: digest(self.of_full_recon(scan, cor_px)))

    def stacks(self, cors: Cors) -> dict[str, Stack]:
        """Return the stacks whose scans all have a COR, by name."""
        return {stack.name: stack for stack in self.declared(cors) if not stack.problem}

    def declared(self, cors: Cors) -> list[Stack]:
        """Return all stacks, with the problems that prevent stitching."""
        declared = self.campaign.config.stitch.stacks
        return find_stacks(self.campaign, self.rows, cors) if declared else []

    def of_stitch(self, stack: Stack, cors: Cors) -> Statement:
        """State what a stitched volume must be made from."""
        volumes = {scan: self.of_full_recon(scan, cors[scan]["cor_px"]) for scan in stack.scans}
        return made_from.of_stitch(self.campaign, volumes)

    def sidecar(self, scan: str) -> str:
        """Return the sidecar's path: beside the data, unless another campaign wrote one there."""
        return self._once(("sidecar", scan), lambda: self._sidecar(scan))

    def _sidecar(self, scan: str) -> str:
        path, in_results = sidecar_of(self.campaign, scan), self.out.sidecar(scan)
        folder = self.campaign.directory
        owner = sidecar.owner(folder / path) if _is_outside(path) else None
        if path == in_results or owner is None or _is(owner, folder):
            return path
        # of another campaign, or of this one before it was moved; ours may be in results
        is_theirs = sidecar.is_campaign(owner, folder) or (folder / in_results).exists()
        return in_results if is_theirs else path

    def of_sidecars(self, cors: Cors) -> Statement:
        """State what the sidecars must be made from."""
        content, scans = self.staleness.receipts.content, self.campaign.scans
        predictions = {scan: content(self.out.prediction(scan)) for scan in self.not_failed(cors)}
        series = {encode_series(scans[scan].series) for scan in cors}
        paths = {scan: self.sidecar(scan) for scan in cors}
        is_elsewhere = any(map(_is_outside, paths.values()))
        return {
            # sidecars outside the campaign name its folder
            **({"campaign": str(self.campaign.directory)} if is_elsewhere else {}),
            "step": "sidecar",
            "cors": {scan: [paths[scan], entry] for scan, entry in cors.items()},
            "tables": {name: content(self.out.fix_table(name)) for name in sorted(series)},
            "predictions": predictions,
        }

    def sidecars(
        self,
        cors: Cors,
        fixes: Mapping[str, Fix],
        read: Callable[[str, Any], Any] = json_or,
    ) -> dict[str, str]:
        """Return the content of each scan's sidecar as JSON; `fixes` are rows of the fix tables."""
        result, path_of = {}, self.campaign.paths.prediction
        for scan, entry in cors.items():
            predicted = read(path_of(scan), None) if self.not_failed([scan]) else None
            content = sidecar.sidecar_content(scan, entry, fixes.get(scan), predicted)
            result[scan] = json.dumps(content, sort_keys=True)  # compared as text
        return result

    def why_sidecar(self, scan: str, content: str) -> str:
        """Say why the sidecar of {scan} is written; "" if it is ours and has these facts."""
        path, folder = self.sidecar(scan), self.campaign.directory
        if not os.path.exists(where := self.staleness.receipts.path_of(path)):
            return MISSING
        present, facts = json_or(where, {}), json.loads(content)
        others = [key for key, value in facts.items() if present.get(key, facts) != value]
        if not present:
            return UNREADABLE
        if "cor_px" in others:
            before_px, source = number(present.get("cor_px")), facts.get("source", "")
            return of_cor("{scan}", before_px, facts["cor_px"], source)
        if others:
            return f"{', '.join(others)} of {{scan}} changed"
        owner = sidecar.owner(where) if _is_outside(path) else None
        return "" if owner is None or _is(owner, folder) else f"the campaign was moved from {owner}"

    def of_export_stack(self, scan: str) -> Statement:
        """State what a stack for RELION must be made from."""
        return self._of_reading_stuck("export_stack", scan)

    def of_export_star(self, cors: Cors) -> Statement:
        """State what the tomogram set must be made from."""
        metas = {scan: self.staleness.receipts.content(self.out.stack_meta(scan)) for scan in cors}
        return made_from.of_export_star(self.star_options(cors), cors, metas)

    def star_options(self, cors: Cors) -> dict[str, Any]:
        """Return the options of the set, and the MRC volumes: it names those with a digest."""
        volumes = self._mrc_volumes(cors)
        return star_options(self.campaign, cors) | ({"volumes": volumes} if volumes else {})

    def _mrc_volumes(self, cors: Cors) -> dict[str, str]:
        """Return the target digest of each MRC volume's source; "" if its source differs."""
        result = {}
        for scan, entry in cors.items():
            path = self.staleness.receipts.path_of(self.out.mrc_volume(scan))
            if (source := source_of(path)) is not None:
                target = self._digest_of_full_recon(scan, entry["cor_px"])
                result[scan] = target if source == target else ""
        return result

    def why_export_star(self, cors: Cors) -> str:
        """Say why the tomogram set is made; "" if not."""
        if reason := self.staleness.why_stale(self.of_export_star(cors)):
            return reason
        # the links through which RELION reads scans of other names
        try:
            names = read_tsv(self.campaign.files.in_relion(NAMES), ["scan", "rlnTomoName"])
        except (OSError, TomopipeError):
            return MISSING
        links = self.campaign.files.in_relion(LINKS)
        renamed = [row["rlnTomoName"] for row in names if row["rlnTomoName"] != row["scan"]]
        if any(not os.path.lexists(links / f"{name}{STACK}") for name in renamed):
            return MISSING
        changed = changed_links(links) if renamed else []
        path = self.out.in_relion(LINKS)
        return f"{path}: gone or changed: {some_of(changed, _N_NAMED)}" if changed else ""

    def of_report(
        self, cors: Cors, content: Callable[[str], str], unknown: Collection[str] = ()
    ) -> Statement:
        """State what the report shows: by `content`, volumes (except `unknown`) by statement."""
        campaign, out = self.campaign, self.out
        files = [out.inventory, out.cor_table]
        files += map(out.fix_table, self.series())
        files += map(out.prediction, self.with_prediction(campaign.selected_scans(self.rows)))
        files += map(out.shifts, self.stacks(cors))
        volumes = {
            scan: self._digest_of_full_recon(scan, entry["cor_px"])
            for scan, entry in cors.items()
            if scan not in unknown
        }
        shown = {path: content(path) for path in files} | volumes
        if campaign.makes_star:
            notes = assumed_numbers(campaign, self.rows), self._mrc_volumes(cors)
            shown |= {"relion": digest({"notes": notes})} if any(notes) else {}
        if failed := failed_stacks(campaign, cors):
            shown |= {"failed_stacks": digest({"reasons": failed})}
        problems = {stack.name: stack.problem for stack in self.declared(cors) if stack.problem}
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
        return made_from.of_report(campaign, shown)


@cache  # called once per job, and predictions are large
def _of_file(path: str, key: str, _mtime_ns: int) -> Any:
    """Return the value of a rare key of a JSON file; None if it does not have the key."""
    with suppress(OSError), open(no_pipe(path), "rb") as file:
        if f'"{key}"'.encode() in file.read():  # parsing takes longer
            return json_or(path, {}).get(key)
    return None


def _mtime_ns(path: str | os.PathLike[str]) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return 0


def _is_outside(path: str) -> bool:
    """Tell whether a file does not lie in the campaign folder."""
    return os.path.isabs(path) or os.path.normpath(path).startswith("..")


def _is(folder: str, other: os.PathLike[str]) -> bool:
    return os.path.exists(folder) and os.path.samefile(folder, other)


def _read(path: str, default: Any) -> Any:
    """Read a JSON file that may be missing; one that cannot be read now is an error."""
    try:
        with open(no_pipe(path), "rb") as stream:
            return json.loads(stream.read())
    except FileNotFoundError:
        return default


def write_sidecars(campaign: Campaign) -> None:
    """Write the sidecars that are out of date; the others are not touched.

    Raises TomopipeError at the end if some cannot be written.
    """
    rows, cors = read_inventory(campaign.files.inventory), read_cor_json(campaign.files.cor_table)
    target = Target(campaign, rows)
    selected = set(campaign.selected_scans(rows))
    cors = {scan: cor for scan, cor in cors.items() if scan in selected}
    faults = []
    steps = {"preprocess", "try_recon", "predict_cor", "fix_cor", "resolve_cor"}
    tables = map(campaign.files.fix_table, target.series())
    contents = target.sidecars(cors, read_fixes(tables), _read)
    due = [scan for scan, content in contents.items() if target.why_sidecar(scan, content)]
    # beside the data they are not removed with a run
    remove_stale(*(campaign.directory / target.sidecar(scan) for scan in due))
    for scan in due:
        path, content = target.sidecar(scan), contents[scan]
        if fault := why_not_replaced(campaign.directory / path):
            faults.append(fault)
            continue
        parameters = json.loads(campaign.for_scan(scan).config.model_dump_json(include=steps))
        in_results = campaign.outputs.sidecar(scan)
        sidecar.sidecar(path, content=content, parameters=parameters, in_results=in_results)
    if faults:
        raise TomopipeError(some_of(faults, _N_NAMED))
