"""The sidecars beside the data: what they should contain, why one is written, and writing them."""

import json
import os
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from tomopipe.campaign.campaign import Campaign
from tomopipe.campaign.raw_files import encode_series
from tomopipe.campaign.results import read_cor_json, read_fixes, read_inventory
from tomopipe.campaign.step_files import sidecar_of
from tomopipe.cor.outliers import Fix
from tomopipe.errors import TomopipeError, grouped, scans_named, some_of
from tomopipe.paths import no_pipe
from tomopipe.reruns.reasons import MISSING, UNREADABLE, of_cor
from tomopipe.reruns.receipts import Result, digest, statement_in
from tomopipe.reruns.staleness import Staleness
from tomopipe.reruns.target import Target
from tomopipe.steps import sidecar
from tomopipe.storage.atomic import remove_stale, why_not_replaced
from tomopipe.storage.json_files import json_or, number, part

_N_NAMED = 3  # faults in an error, differences in a reason


def contents(
    target: Target,
    fixes: Mapping[str, Fix],
    scans: Iterable[str],
    read: Callable[[str, Any], Any] = json_or,
) -> dict[str, str]:
    """Return the content of the sidecar of scans as JSON; `fixes` are rows of the fix tables."""
    result, path_of = {}, target.campaign.paths.prediction
    for scan in scans:
        entry = target.cors[scan]
        predicted = read(path_of(scan), None) if target.selected.not_failed([scan]) else None
        content = sidecar.sidecar_content(scan, entry, fixes.get(scan), predicted)
        result[scan] = json.dumps(content, sort_keys=True)  # compared as text
    return result


def why(
    staleness: Staleness,
    result: Result,
    fixes: Mapping[str, Fix],
    *,
    predicting: Collection[str],
    fixing: Collection[str],
) -> tuple[str, list[str]]:
    """Say why sidecars are written, and of which scans.

    Not why of scans whose prediction is pending: it may confirm them. `fixes` are rows of the fix
    tables, `fixing` the series whose tables are made again.
    """
    which, target = (result.step.name, result.key), staleness.target
    receipts, expected = staleness.receipts, digest(result.target)
    receipt = receipts.of(*which)
    is_right = receipts.confirms(result, expected)
    if is_right:
        staleness.confirmed.add(which)
    elif receipt and receipt.digest == expected:
        is_right = all(receipts.damage(receipt, path) == "" for path in receipt.files)
    scans = [] if is_right else _changed(staleness, result, fixing)
    texts = contents(target, fixes, scans)
    reasons = {
        scan: why for scan, text in texts.items() if (why := why_written(target, scan, text))
    }
    damaged = [target.sidecar(scan) for scan in reasons if reasons[scan] == UNREADABLE]
    staleness.damaged += [f"{path}: {UNREADABLE}" for path in damaged]
    if not reasons:
        staleness.up_to_date[which] = result.target
    certain = grouped(
        (reason, scan)
        for scan, reason in reasons.items()
        if scan not in predicting or reason in (MISSING, UNREADABLE)
    )
    lines = [text.replace("{scan}", scans_named(each)) for text, each in certain.items()]
    return "; ".join(lines[:_N_NAMED]), [*reasons]


def _changed(staleness: Staleness, result: Result, fixing: Collection[str]) -> list[str]:
    """Return the scans whose sidecar, or what it is made from, is not as the receipt states."""
    target, receipts, now = staleness.target, staleness.receipts, result.target
    which = result.step.name, result.key
    receipt, where = receipts.of(*which), receipts.path_of(target.out.receipt(*which))
    old = statement_in(Path(where)) or {}
    if receipt is None or old.get("campaign") != now.get("campaign"):
        return [*target.cors]

    def is_as_stated(scan: str) -> bool:
        series, path = encode_series(target.campaign.scans[scan].series), target.sidecar(scan)
        parts = (("cors", scan), ("predictions", scan), ("tables", series))
        is_same = all(part(old, name).get(key) == part(now, name).get(key) for name, key in parts)
        is_there = path in receipt.files and receipt.files[path] == receipts.state(path)
        return is_same and is_there and series not in fixing

    return [scan for scan in target.cors if not is_as_stated(scan)]


def of_others(target: Target) -> list[str]:
    """Return the sidecars beside raw files that another campaign has written."""
    beside = {scan: sidecar_of(target.campaign, scan) for scan in target.cors}
    return [path for scan, path in beside.items() if target.sidecar(scan) != path]


def why_written(target: Target, scan: str, content: str) -> str:
    """Say why the sidecar of {scan} is written; "" if it is ours and has these facts."""
    path, folder = target.sidecar(scan), target.campaign.directory
    if not os.path.exists(where := target.receipts.path_of(path)):
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
    other = sidecar.other_owner(path, folder)
    return "" if other is None else f"the campaign was moved from {other}"


def write_sidecars(campaign: Campaign, scans: Collection[str] | None) -> None:
    """Write the sidecars that are out of date; the others are not touched.

    `scans`: those that were out of date when the run decided; None if it did not decide on them.
    Raises TomopipeError at the end if some cannot be written.
    """
    cors = read_cor_json(campaign.files.cor_table)
    if scans is None:
        scans = campaign.selected_scans(read_inventory(campaign.files.inventory))
    target = Target(campaign, cors={scan: cors[scan] for scan in scans if scan in cors})
    faults = []
    steps = {"preprocess", "try_recon", "predict_cor", "fix_cor", "resolve_cor"}
    series = {encode_series(campaign.scans[scan].series) for scan in target.cors}
    fixes = read_fixes(map(campaign.files.fix_table, sorted(series)))
    texts = contents(target, fixes, target.cors, _read)
    due = [scan for scan, content in texts.items() if why_written(target, scan, content)]
    # beside the data they are not removed with a run
    remove_stale(*(campaign.directory / target.sidecar(scan) for scan in due))
    for scan in due:
        path, content = target.sidecar(scan), texts[scan]
        if fault := why_not_replaced(campaign.directory / path):
            faults.append(fault)
            continue
        parameters = json.loads(campaign.for_scan(scan).config.model_dump_json(include=steps))
        in_results = campaign.outputs.sidecar(scan)
        sidecar.sidecar(path, content=content, parameters=parameters, in_results=in_results)
    if faults:
        raise TomopipeError(some_of(faults, _N_NAMED))


def _read(path: str, default: Any) -> Any:
    """Read a JSON file that may be missing; one that cannot be read now is an error."""
    try:
        with open(no_pipe(path), "rb") as stream:
            return json.loads(stream.read())
    except FileNotFoundError:
        return default
