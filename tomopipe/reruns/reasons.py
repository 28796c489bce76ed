"""Why a job runs, in the user's words, for plan, page, terminal and Snakemake's log."""

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from tomopipe.campaign.state.signs import source_named
from tomopipe.cor.cor_value import CorText, format_cor
from tomopipe.cor.outliers import Fix
from tomopipe.errors import grouped, scans_named

MISSING = "not there yet"
UNREADABLE = "cannot be read"
FOLLOWS = "its inputs are made again"
METADATA_ALONE = "metadata alone, nothing is computed"
#: Reasons for keys of statements whose values are digests, or otherwise unreadable.
_PLAIN = {
    "rows": "follows try_recon",
    "networks": "another network file",
    "volumes": "follows full_recon",
    "also_read": "a file that it takes data from was replaced",
    "n_stuck": "pixels at the largest number are interpolated",
    "roll_deg": "try_recon measured another roll",
    "not_read": "could not be read",
    "members": "a scan of the series, or a COR by hand, changed",
    "predictions": "a prediction of the series changed",
    "entries": "the scans of the campaign changed",
    "scans": "the scans of the stack changed",
    "gaps": "other scans of the stack have a COR",
    "times_s": "the times of its scans changed",
}


def of_cor(scan: str, old_px: float | None, new_px: float | None, source: str) -> str:
    """Say that a COR changed, and its source."""
    old, new = (format_cor(cor_px) or "none" for cor_px in (old_px, new_px))
    by, was = source_named(source).label, f"{old} -> " * (old != new)
    return f"COR of {scan}: {was}{new}" + (f", {by}" if by else "")


def of_statements(
    old: Mapping[str, Any], new: Mapping[str, Any], scan: str, source: str, files: str
) -> str:
    """Say how two statements differ: the COR, now from `source`, raw `files`, and all else."""
    lines = [files] if files else []
    if old.get("cor_px") != new.get("cor_px"):
        lines.insert(0, of_cor(scan, old.get("cor_px"), new.get("cor_px"), source))
    return "; ".join(dict.fromkeys([*lines, *of_difference(old, new)]))


def of_difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Say how two statements differ, such as `filter ramp -> hann`, without raw files and CORs."""
    lines, befores, afters = [], _by_path(old), _by_path(new)
    for path in sorted({*befores, *afters}):
        before, after = befores.get(path), afters.get(path)
        if before == after:
            continue
        if path in _PLAIN and path in {*old, *new}:
            lines.append(_PLAIN[path])
        elif path == "revision":
            lines.append("this version of tomopipe makes it differently")
        else:
            from tomopipe.config.parse import when_absent  # each 0.1 s of a run's start counts

            was, now = (when_absent(path) if v is None else v for v in (before, after))
            # the block repeats the key
            lines.append(f"{path.partition('.')[2] or path} {_shown(was)} -> {_shown(now)}")
    return lines


def _by_path(statement: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return what a statement has, by path; an option may be metadata or not, as by the unit."""
    result: dict[str, Any] = {}
    for key, value in statement.items():
        is_plain = not prefix and key in _PLAIN
        if not prefix and key in ("maker", "raw", "cor_px", "step"):
            continue
        if isinstance(value, Mapping) and not is_plain:
            inner = "" if key in ("options", "metadata") else f"{key}."
            result |= _by_path(value, prefix + inner)
        else:
            result[prefix + key] = value
    return result


def of_entries(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Say of which scans, in both statements of the inventory, the entries or options differ."""
    befores = {entry["scan"]: entry for entry in old.get("entries", ())}
    entries = [entry for entry in new.get("entries", ()) if entry["scan"] in befores]
    both = [(befores[entry["scan"]], entry) for entry in entries]
    changes = {
        key: [now["scan"] for before, now in both if before.get(key) != now.get(key)]
        for key in ("path", "series", "index")
    }
    lines = [f"{key} of {scans_named(scans)} changed" for key, scans in changes.items() if scans]
    of_all = of_difference({"options": old.get("options", {})}, {"options": new.get("options", {})})
    options = grouped(
        (line, now["scan"])
        for before, now in both
        if before.get("options") != now.get("options")
        for line in of_difference(_options_of(before, old), _options_of(now, new))
        if line not in of_all
    )
    return lines + [f"{scans_named(scans)}: {line}" for line, scans in options.items()]


def _options_of(entry: Mapping[str, Any], statement: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options by which the inventory reads a scan: its own, or those of all."""
    of_all = {k: v for k, v in statement.get("options", {}).items() if k != "inventory"}
    return {"options": entry.get("options", of_all)}


def only_metadata_differ(old: Mapping[str, Any], target: Mapping[str, Any]) -> bool:
    """Tell whether two statements differ only in their metadata."""
    ours = ("maker", "metadata")
    return old.get("metadata") != target.get("metadata") and {
        key: value for key, value in old.items() if key not in ours
    } == {key: value for key, value in target.items() if key not in ours}


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "default" if value is None else str(value)


def of_raw(paths: Sequence[str], raw_path: str) -> str:
    """Say which raw files of a scan were replaced."""
    names = {path: "raw file" if path == raw_path else path for path in paths}
    what = {path: "replaced" if os.path.exists(path) else "is gone" for path in paths}
    return ", ".join(f"{names[path]} {what[path]}" for path in paths) or "another set of raw files"


def of_series(
    fixes: Mapping[str, Fix],
    members: Iterable[Mapping[str, Any]],
    unselected: Collection[str] = (),
) -> str:
    """Say what scans and CORs by hand of a series changed; "" if none.

    `fixes` is the present table of fix_cor, by scan; `members` are as `members_of` returns
    them; `unselected` are the scans of the campaign with `select: no`.
    """
    now = {member["scan"]: member for member in members if member["select"] == "in"}
    lines = [f"{scan} is new in the series" for scan in now if scan not in fixes]
    lines += [
        f"{scan} is not selected any more" if scan in unselected else f"{scan} left the series"
        for scan in fixes
        if scan not in now
    ]
    for scan in now.keys() & fixes.keys():
        fix, by_hand = fixes[scan], CorText(now[scan]["manual"])
        by_hand_px = by_hand.px_on(now[scan]["n_cols"])
        if by_hand_px not in (None, fix.before_px):
            lines.append(of_cor(scan, fix.after_px, by_hand_px, "manual"))
        elif by_hand_px is None and fix.source == "manual" and not fix.is_by_file:
            lines.append(f"COR of {scan}: {format_cor(fix.before_px)}, by hand, removed")
    return "; ".join(sorted(lines))


def of_fixes(before: Mapping[str, Fix], after: Mapping[str, Fix], n_open: int = 0) -> str:
    """Say which CORs of a series, their sources or remarks will change in the table of fix_cor.

    `n_open`: how many more hang on predictions that are pending.
    """
    both = [(scan, fix, after[scan]) for scan, fix in before.items() if scan in after]
    changes = [
        of_cor(scan, fix.after_px, new.after_px, new.source)
        for scan, fix, new in both
        if (fix.after_px, fix.source) != (new.after_px, new.source)
    ]
    if n_open:
        are = "CORs are" if n_open > 1 else "COR is"
        return "; ".join([*changes, f"{n_open} {are} not known yet"])
    if not changes and (others := [scan for scan, fix, new in both if fix != new]):
        changes = [f"CORs stay; remarks or limits change: {scans_named(others)}"]
    return "; ".join(changes) or "predictions or options of the series changed, no COR does"


def of_scans(rows: Iterable[str], scans: Mapping[str, int | None], checked_ns: int) -> str:
    """Say why files are checked again; "" if that is not known.

    `rows` are the scans in the inventory, which was written at `checked_ns`; `scans` those of the
    campaign, with the modification time (ns) of each file.
    """
    old, now = set(rows), set(scans)
    newer = [scan for scan in old & now if (scans[scan] or 0) > checked_ns]
    result = {"new": now - old, "gone": old - now, "raw file replaced": newer}
    lines = [f"{what}: {', '.join(sorted(names))}" for what, names in result.items() if names]
    return "; ".join(lines)


def is_news(reason: str) -> bool:
    """Tell whether a reason is other than a missing result or one that follows another."""
    return reason not in ("", MISSING, FOLLOWS) and not reason.startswith("follows ")


def of_snakemake(reason: str) -> str:
    """Translate a reason of Snakemake's own."""
    if reason.startswith(("Missing output files", "Forced execution")):
        return MISSING
    return FOLLOWS if reason.startswith("Input files updated") else " ".join(reason.split())
