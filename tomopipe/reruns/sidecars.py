"""The sidecars beside the data: what they should contain, and why one is written."""

import json
import os
from collections import ChainMap
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from tomopipe.campaign.campaign import Campaign
from tomopipe.campaign.files import encode_series
from tomopipe.campaign.step_files import sidecar_of
from tomopipe.cor.outliers import Fix
from tomopipe.errors import grouped, scans_named
from tomopipe.reruns.reasons import MISSING, UNREADABLE, of_cor
from tomopipe.reruns.receipts import Result, digest, statement_in
from tomopipe.reruns.staleness import Staleness
from tomopipe.reruns.target import Target
from tomopipe.steps import sidecar
from tomopipe.storage.json_files import json_or, number, part

_N_NAMED = 3  # differences in a reason
_OPTIONS = {"preprocess", "try_recon", "predict_cor", "fix_cor", "resolve_cor"}


def contents(target: Target, fixes: Mapping[str, Fix], scans: Iterable[str]) -> dict[str, str]:
    """Return the content of the sidecar of scans as JSON; `fixes` are rows of the fix tables."""
    result, path_of = {}, target.campaign.paths.prediction
    for scan in scans:
        entry = target.cors[scan]
        predicted = json_or(path_of(scan), None) if target.selected.not_failed([scan]) else None
        content = sidecar_content(scan, entry, fixes.get(scan), predicted)
        result[scan] = json.dumps(content, sort_keys=True)  # compared as text
    return result


def sidecar_content(
    scan: str,
    cor: Mapping[str, Any],
    fix: Fix | None,
    prediction: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Return the content of a scan's sidecar, without a time stamp.

    It is made from the scan's entry in cor.json, its row in the table of fix_cor, and its
    prediction.json (None if the prediction failed finally): `cor_px` and `source` as resolved;
    `method`, `confidence`, `verdict` and `predicted_px` of the prediction, whether it was used or
    not (no method and no confidence if a person edited center_of_rotation.txt); `before_px`
    before fixing (None if there was none), `flagged`, `limit_px` (of a flagged COR), `neighbours`
    and `reason` of fix_cor; `fill_error_px` of a COR that is filled or replaced, if known.
    """
    result = prediction or {}
    by_file = fix is not None and fix.is_by_file
    return {
        "scan": scan,
        "cor_px": cor["cor_px"],
        "source": cor["source"],
        "method": None if by_file else result.get("method"),
        "confidence": None if by_file else result.get("confidence"),
        "verdict": result.get("verdict"),
        "predicted_px": result.get("best_cor_px"),
        "before_px": fix and fix.before_px,
        "flagged": fix is not None and fix.flagged,
        # only of outliers, as the limit changes with every COR of the series
        "limit_px": fix.limit_px if fix and fix.flagged else None,
        "neighbours": list(fix.neighbours) if fix else [],
        "reason": fix.reason if fix else "",
        # only of filled and replaced CORs
        **({"fill_error_px": fix.error_px} if fix and fix.error_px is not None else {}),
    }


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
    n_more = len(lines) - _N_NAMED
    more = [f"{n_more} more changes"] if n_more > 0 else []
    return "; ".join([*lines[:_N_NAMED], *more]), [*reasons]


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


def to_write(target: Target, scans: Iterable[str] | None) -> dict[str, dict[str, Any]]:
    """Return the sidecars that a job writes: the arguments of `sidecar` by path.

    `scans`: those of which the run has found the sidecar out of date; None: it did not look.
    """
    campaign = target.campaign
    chosen = target.cors if scans is None else [scan for scan in scans if scan in target.cors]
    series = {encode_series(campaign.scans[scan].series) for scan in chosen}
    fixes, result = dict(ChainMap(*map(target.selected.fixes, series))), {}
    for scan, content in contents(target, fixes, chosen).items():
        if scans is not None or why_written(target, scan, content):
            result[target.sidecar(scan)] = {
                "content": content,
                "parameters": _parameters(campaign.for_scan(scan)),
                "in_results": campaign.outputs.sidecar(scan),
            }
    return result


def _parameters(campaign: Campaign) -> dict[str, Any]:
    """Return the options that a sidecar names, once for all scans of one configuration."""
    if "sidecar" not in campaign.effective:
        content = campaign.config.model_dump_json(include=_OPTIONS)
        campaign.effective["sidecar"] = json.loads(content)
    options: dict[str, Any] = campaign.effective["sidecar"]
    return options
