"""Determine the COR of every scan: its own after fixing, else the default, else none."""

import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tomopipe.campaign.results import read_fixes
from tomopipe.cor.cor_value import format_cor, is_valid, off_detector
from tomopipe.cor.outliers import Fix
from tomopipe.errors import TomopipeError
from tomopipe.paths import no_pipe
from tomopipe.storage.atomic import remove_stale, write_json
from tomopipe.storage.json_files import json_or

if TYPE_CHECKING:
    from tomopipe.config import ResolveCorBlock  # slow to load

log = logging.getLogger(__name__)

CorTable = dict[str, dict[str, Any]]


def resolve_cor(
    tables: Sequence[str],
    cor_json: str | os.PathLike[str],
    rot_cen_json: str | os.PathLike[str],
    scans: Mapping[str, Mapping[str, Any]],
    options: "ResolveCorBlock",
    others: CorTable | None = None,
) -> None:
    """Write the COR of every scan, and TomoGUI's summary of them.

    `tables` are those of fix_cor, one per series; `scans`, the selected ones: name to `path` (as in
    the config) and `n_cols`. cor.json: scan to `cor_px` (unbinned pixels, rounded to 0.01) and
    `source`; rot_cen.json: absolute path of the scan to "1024.50". `others` are the entries of
    scans that a run for the volumes of some scans does not resolve. A TomopipeError with "block",
    if a scan has no COR; nothing is then written.
    """
    others = others or {}
    to_resolve = {scan: entry for scan, entry in scans.items() if scan not in others}
    table, missing = compute(read_fixes(tables), to_resolve, options)
    if missing and options.on_missing == "block":
        raise TomopipeError(_refusal(missing))
    for scan, reason in missing.items():
        log.warning("%s: skipped, %s", scan, reason)
    log.info("%d scans with a COR, %d without", len(table), len(missing))
    table = dict(sorted({**table, **others}.items()))
    write_json(table, cor_json)
    write_json(rot_cen(_by_path(table, scans)), rot_cen_json)


def mismatch(cor_json: str | os.PathLike[str]) -> str:
    """Return the reason to write again a cor.json that differs from the tables of fix_cor."""
    return f"{cor_json} does not match the tables of fix_cor"


def renew_paths(
    cor_json: str | os.PathLike[str],
    rot_cen_json: str | os.PathLike[str],
    scans: Mapping[str, Mapping[str, Any]],
) -> bool:
    """Rewrite the summary for TomoGUI if its paths are outdated; return whether it was."""
    try:
        table = json.loads(Path(no_pipe(cor_json)).read_text(encoding="utf-8"))
        cors_px = _by_path({scan: table[scan] for scan in scans if scan in table}, scans)
        os.stat(rot_cen_json)
    except (OSError, ValueError, LookupError, TypeError):
        return False  # the next run makes the files
    remove_stale(rot_cen_json)
    same = json_or(rot_cen_json, None) == (content := rot_cen(cors_px))
    if not same:
        write_json(content, rot_cen_json)
    return not same


def rot_cen(cors: Mapping[str, float]) -> dict[str, str]:
    """Return TomoGUI's rot_cen.json: absolute path of each scan to its COR as "1024.50"."""
    return {name: format_cor(cor_px) for name, cor_px in cors.items()}


def is_rot_cen_of(cors: Mapping[str, Mapping[str, Any]], content: Mapping[str, Any]) -> bool:
    """Tell whether a rot_cen.json has the CORs of a cor.json, in any folder."""
    texts = {scan: format_cor(entry["cor_px"]) for scan, entry in cors.items()}
    values = set(texts.values())

    def is_equal(path: str, text: Any) -> bool:
        name = os.path.splitext(os.path.basename(path))[0]
        return text == texts.get(name, text) and text in values

    return all(is_equal(path, text) for path, text in content.items())


def _by_path(table: CorTable, scans: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    return {os.path.abspath(scans[scan]["path"]): row["cor_px"] for scan, row in table.items()}


def compute(
    fixes: Mapping[str, Fix],
    scans: Mapping[str, Mapping[str, Any]],
    options: "ResolveCorBlock",
) -> tuple[CorTable, dict[str, str]]:
    """Return the content of cor.json, and why scans have no COR; both by scan.

    `fixes` are the rows of all tables of fix_cor; `scans` are as for `resolve_cor`.
    """
    table: CorTable = {}
    missing: dict[str, str] = {}
    default_px = options.default_px
    for scan in sorted(scans):
        n_cols = int(scans[scan]["n_cols"])
        fix, has_default = fixes.get(scan), is_valid(default_px, n_cols)
        own_px = None if fix is None or (has_default and fix.is_for_default) else fix.after_px
        if fix is not None and own_px is not None and is_valid(own_px, n_cols):
            table[scan] = {"cor_px": round(own_px, 2), "source": fix.source}
        elif default_px is not None and has_default:
            table[scan] = {"cor_px": round(default_px, 2), "source": "default"}
        else:
            missing[scan] = (fix.reason if fix else "") or "no COR"
            if default_px is not None:
                missing[scan] += f"; default_px {off_detector(default_px, n_cols)}"
    return table, missing


def _refusal(missing: Mapping[str, str]) -> str:
    lines = [f"  {scan}: {reason}" for scan, reason in missing.items()]
    count = "1 scan has" if len(missing) == 1 else f"{len(missing)} scans have"
    return "\n".join(
        [
            f"resolve_cor: {count} no centre of rotation; nothing is reconstructed:",
            *lines,
            "For each, set a COR (`tomopipe cor set SCAN VALUE`), set a default "
            "(resolve_cor: default_px), or skip the scan (`select: no` in the campaign table). "
            "Or process the others only (resolve_cor: on_missing: skip).",
        ]
    )
