"""Open every file of the campaign once and validate it, without reading pixels."""

import json
import logging
import math
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from itertools import chain
from typing import Any

import numpy as np

from tomopipe.campaign.results import write_tsv
from tomopipe.campaign.state.facts import LOOK_AGAIN, STILL_WRITTEN
from tomopipe.config import StepOptions
from tomopipe.config.blocks import NUMBERS
from tomopipe.errors import (
    ScanError,
    TomopipeError,
    grouped,
    is_of_the_system,
    library_error,
    own_error,
)
from tomopipe.paths import what_is_no_file
from tomopipe.recon.angular_sampling import (
    is_full_rotation,
    largest_gap_rad,
    missing_directions_deg,
    unpaired,
)
from tomopipe.scans.angle_lists import span_deg
from tomopipe.scans.exchange import RawScan
from tomopipe.scans.hdf5 import StillWrittenError, one_line
from tomopipe.scans.metadata import Metadata, incomplete
from tomopipe.scans.nxtomo import STATED_HALF
from tomopipe.scans.raw_identity import file_state, link_state
from tomopipe.scans.scan_files import source_files
from tomopipe.scans.turns import find_turns

COLUMNS = (
    "scan", "path", "series", "index", "n_angles", "n_rows", "n_cols", "bytes", "keep", "reason",
    "warnings", "found", "full_turn", "linked", *NUMBERS, "also_read",
    "height_mm", "time_s",
)  # fmt: skip

_Key = tuple[str, str]  # path and scan: a file may hold several
States = dict[str, list[int] | None]  # size and time of files

# Complete scans of a series differ at most by a few dropped frames in thousands; two scans aborted
# at random times are rarely this close.
_SAME_SIZE = 0.005
# Range of angles that a slice needs: 180 degrees, minus what may be missing at the ends.
_COVERS_DEG = 170.0

_RECENT_S = 60.0
_BETWEEN_LOOKS_S = 1.0
_REPORT_EVERY_S = 5.0
# HDF5 serves one thread at a time; the checks before it wait for the file server, several at once,
# but once for all views of a file
_THREADS = 8

log = logging.getLogger(__name__)


# cells of an unreadable file
_BLANK = dict.fromkeys(COLUMNS) | {
    "warnings": "", "found": "", "full_turn": False, "linked": "", "also_read": "",
}  # fmt: skip


@dataclass(frozen=True)
class _Look:
    """Findings on one file."""

    reason: str  # why it is skipped, or ""
    cells: Mapping[str, Any] = field(default_factory=dict)  # of its row
    n_frames: int = 0  # projections that exist
    n_planned: int = 0  # projections planned: an aborted scan may still list all its angles
    span_deg: float | None = None  # None: no angles, or a range divided among the frames
    is_spread: bool = False  # whether its angles are such a range


def inventory(
    entries: Sequence[dict[str, Any]], output: str | os.PathLike[str], options: StepOptions
) -> list[dict[str, Any]]:
    """Write one row per file: series, index, shape, and whether the scan is valid.

    A scan is kept if it (1) can be read, (2) has as many finite angles as frames, (3) was fully
    written, (4) is not undersized in its series: few projections over less than 180 degrees
    (`undersized`); the first condition that fails is the reason. Shape and size are empty if (1)
    fails or the file is still being written: such a scan cannot be selected by hand either.

    `entries`: `scan`, `path` (as in the config), `series` (key), `index`, and `reason`: why the
    name was refused when the campaign was read, or ""; `own`: the blocks input and preprocess of a
    scan for which they differ. Of `options` the series_pattern is already applied in them.

    The table has `COLUMNS`, in order of series, index, name: `n_angles` are the projections in use,
    `bytes` is all frames x rows x columns x item size, `found` the location of the data,
    `full_turn` whether the angles in use cover 360 degrees, `linked` size and time of each file
    that an HDF5 file takes data from, as JSON, then pixel size, energy and distance if known;
    `also_read` is like `linked`, for raw files without metadata, and for files that flats and darks
    named in the configuration take data from; `height_mm` is the recorded height of the stage,
    `time_s` the start since 1970. Returns its rows; `keep` is a bool, shape and size are int or
    None. Raises TomopipeError if all files are missing, as when a disk is not mounted.
    """
    overrides = {_key(entry): entry.get("own") for entry in entries if not entry["reason"]}
    keys = sorted(overrides)
    paths = [path for path, _ in keys]

    def raw(key: _Key) -> RawScan:
        override = overrides[key]
        own = options if override is None else StepOptions(**override)
        return RawScan(key[0], own.input, own.preprocess)

    sources_of = cache(_sources)  # many scans have the same flats, and views their file
    looks = _look_at_all(keys, lambda key: _look(raw(key), sources_of))
    if paths and not any(map(os.path.lexists, paths)):
        raise TomopipeError(
            f"{paths[0]}: no such file{', nor one of the other scans' * (len(paths) > 1)}. Mount "
            "the folder, move the files back, or correct campaign.scans, and run again."
        )
    members = grouped((e["series"], looks[_key(e)]) for e in entries if not e["reason"])
    references = {
        series: _reference_frames(series_looks) for series, series_looks in members.items()
    }
    rows = [
        _row(
            entry,
            looks.get(_key(entry)),
            references.get(entry["series"], 0.0),
            options.inventory.min_fraction,
        )
        for entry in sorted(entries, key=lambda e: (e["series"], e["index"], e["scan"], e["path"]))
    ]
    for row in rows:
        # logs cannot contain names that are not UTF-8
        name = f"{row['scan']} ({row['path']})".encode("utf-8", "backslashreplace").decode()
        if not row["keep"]:
            log.warning("%s is skipped: %s", name, row["reason"])
        elif row["warnings"]:
            log.warning("%s: %s", name, row["warnings"])
    log.info("%d of %d scans kept", sum(row["keep"] for row in rows), len(rows))
    write_tsv(rows, COLUMNS, output)
    return rows


def _key(entry: Mapping[str, Any]) -> _Key:
    return entry["path"], entry["scan"]


def _look_at_all(keys: Sequence[_Key], look_at: Callable[[_Key], _Look]) -> dict[_Key, _Look]:
    """Read each file; files that change meanwhile count as still being written."""
    first_s = time.monotonic()
    # size and time, as data written into reserved space do not grow the file
    paths = {path for path, _ in keys}
    before = {path: file_state(path) for path in paths if _is_recent(path)}
    looks: dict[_Key, _Look] = {}
    reported_s = first_s
    with ThreadPoolExecutor(max(1, min(_THREADS, len(paths)))) as pool:
        for key, look in zip(keys, pool.map(look_at, keys), strict=True):
            looks[key] = look
            if time.monotonic() - reported_s > _REPORT_EVERY_S:
                reported_s = time.monotonic()
                log.info("%d of %d scans read", len(looks), len(keys))
    if before:
        # one pause for all files, minus the elapsed time
        time.sleep(max(0.0, first_s + _BETWEEN_LOOKS_S - time.monotonic()))
    changed = {path for path, state in before.items() if file_state(path) != state}
    return looks | {key: _Look(STILL_WRITTEN) for key in keys if key[0] in changed}


def _is_recent(path: str) -> bool:
    """Tell whether a file was modified less than a minute ago, or in the future."""
    state = file_state(path)
    return state is not None and time.time() - state[1] / 1e9 < _RECENT_S


def _sources(path: str | os.PathLike[str]) -> tuple[States, States]:
    """Return the files that a file takes data from, and those that hold values of its datasets."""
    linked, stored = source_files(path)
    return {each: link_state(each) for each in linked}, {each: link_state(each) for each in stored}


def _look(raw: RawScan, sources_of: Callable[[str], tuple[States, States]]) -> _Look:
    """Validate a single file; any error of reading is its reason."""
    sources = None
    with suppress(Exception):  # whatever a damaged file does to its reader
        sources = sources_of(os.fspath(raw.path))
    try:
        for path in chain(*(sources or ())):  # before HDF5 opens one
            if kind := what_is_no_file(path):
                raise ScanError(f"{path}: {kind}")
        metadata = raw.metadata()
        full_rotation, warnings = _full_rotation(metadata)
        linked, also_read = sources or sources_of(os.fspath(raw.path))
        for path in raw.preprocess.reference_files:
            also_read = also_read | {k: v for entry in sources_of(path) for k, v in entry.items()}
        also_read = {path: was for path, was in also_read.items() if path not in linked}
        theta_deg = metadata.theta_deg
        cells = {name: getattr(metadata, name) for name in ("n_rows", "n_cols", "found", *NUMBERS)}
        cells |= {
            "n_angles": metadata.n_in_use,
            "height_mm": metadata.height_mm,
            "time_s": metadata.time_s,
            "bytes": metadata.data_bytes,
            "warnings": "; ".join(  # which separates them
                text.replace(";", ",")
                for text in (
                    *metadata.warnings,
                    *warnings,
                    *_turns(metadata, raw.input.entry),
                    *_lacking_angles(raw, metadata),
                    *_gap(metadata),
                )
            ),
            "full_turn": full_rotation,
            "linked": json.dumps(linked, sort_keys=True) if linked else "",
            "also_read": json.dumps(also_read, sort_keys=True) if also_read else "",
        }
        return _Look(
            incomplete(metadata),
            cells,
            n_frames=metadata.n_angles,
            n_planned=max(metadata.n_angles, 0 if theta_deg is None else len(theta_deg)),
            span_deg=metadata.covered_deg,
            is_spread=theta_deg is not None and metadata.covered_deg is None,
        )
    except StillWrittenError:
        return _Look(STILL_WRITTEN)
    except Exception as error:
        reason = str(error).removeprefix(f"{raw.path}: ")
        ours, unloaded = own_error(error), library_error(error)
        if unloaded:
            reason = str(unloaded)
        elif not isinstance(error, ScanError):
            reason = ours or f"cannot be read ({type(error).__name__}: {one_line(error)})"
        if ours:
            log.warning("%r: traceback, please report it", raw.path, exc_info=error)
        cells = {}
        if sources and sources[0]:  # of which one may be missing, and come
            cells = {"linked": json.dumps(sources[0], sort_keys=True)}
        is_passing = is_of_the_system(error) or unloaded is not None
        return _Look(reason.removesuffix(".") + LOOK_AGAIN if is_passing else reason, cells)


def _full_rotation(metadata: Metadata) -> tuple[bool, tuple[str, ...]]:
    """Tell whether the angles in use cover 360 degrees; warn of gaps, and of a turn cut short."""
    theta_deg = metadata.theta_deg
    if theta_deg is None or len(theta_deg) < metadata.n_angles:
        return False, ()
    used = np.deg2rad(theta_deg[metadata.chosen])
    if not (len(used) and np.isfinite(used).all()):
        return False, ()
    gap_deg = np.degrees(largest_gap_rad(used))
    if not is_full_rotation(used):
        if STATED_HALF not in metadata.found or gap_deg > 360 - _COVERS_DEG:
            return False, ()
        text = f"the angles in use cover {360 - gap_deg:.0f} of 360 degrees: slices are not widened"
        return False, (
            f"the file states half acquisition, and {text}, and wrong farther from the axis than "
            "the nearer edge of the detector. Measure again, or leave it out (`select: no`)",
        )
    if not unpaired(used).any():
        return True, ()
    text = f"the angles cover 360 degrees except {gap_deg:.0f}: with the axis off the middle"
    return True, (f"{text}, data that only these would show are extrapolated",)


def _turns(metadata: Metadata, entry: str | None) -> list[str]:
    """Warn, at most once, of turns of the stage that repeat the same angles."""
    theta_deg = metadata.theta_deg
    if theta_deg is None or len(theta_deg) != metadata.n_angles:
        return []
    in_use_deg = theta_deg[metadata.chosen]
    is_half = STATED_HALF in metadata.found
    turns = find_turns(in_use_deg, is_half=is_half)
    if turns is None:
        return []
    of_each = f"{turns.range_deg:.0f}" if turns.range_deg in (180.0, 360.0) else None
    of_each = of_each or f"{{n_angles: {len(turns.members[0])}}}"
    instead = " (in place of `entries`, with input.entry)" if entry else ""
    text = (
        f"{turns}: a time series? One volume is made of all of them; `turns: {of_each}` beside "
        f"`glob` in campaign.scans{instead} makes each a scan; "
        f"{turns.first_alone(metadata.chosen)}"
    )
    whole = find_turns(in_use_deg, is_half=True)
    if whole is not None and whole.range_deg == 2 * turns.range_deg:
        only = whole.first_alone(metadata.chosen)
        text += f". With the axis near an edge of the detector: `turns: 360`, or {only}"
    return [text]


def _lacking_angles(raw: RawScan, metadata: Metadata) -> list[str]:
    """Warn of less than 180 degrees, in the file or in use."""
    n, covered_deg, theta_deg = metadata.n_in_use, metadata.covered_deg, metadata.theta_deg
    if raw.input.window is None:
        of_file_deg = covered_deg or 0.0
        if theta_deg is not None:
            covered_deg = span_deg(theta_deg[: min(metadata.n_angles, metadata.n_written)])
        if 0 < (covered_deg or 0.0) < _COVERS_DEG:
            covered = f"the angles cover {covered_deg:.0f} of 180 degrees"
            return [f"{covered}, and slices lack the others"]
        if 0 < of_file_deg < _COVERS_DEG:
            return [
                f"the angles of the file cover {of_file_deg:.0f} degrees, those of input.angles "
                f"{covered_deg:.0f}: if the scan stopped early, its angles are wrong"
            ]
        is_cut = raw.input.skip_projections or raw.input.skip_angles
        if not is_cut or theta_deg is None or len(theta_deg) <= metadata.chosen.max(initial=0):
            return []
        used_deg = span_deg(theta_deg[metadata.chosen])
        return (used_deg < _COVERS_DEG) * [
            f"the {n} projections in use cover {used_deg:.0f} of 180 degrees, and slices lack the "
            "others (input.skip_projections, skip_angles)"
        ]
    if covered_deg is None or covered_deg >= _COVERS_DEG:
        return []
    enough = math.ceil(180 * n / covered_deg) if covered_deg > 0 else 0
    return [
        f"the {n} projections of this window cover {covered_deg:.0f} of 180 degrees, and its "
        f"slices lack the others, which {enough} would cover (turns: {{n_angles}})"
    ]


def _gap(metadata: Metadata) -> list[str]:
    """Warn of a gap within 180 degrees and more, in the file or in use."""
    theta_deg = metadata.theta_deg
    if theta_deg is None or len(theta_deg) != metadata.n_angles:
        return []
    in_use_deg = theta_deg[metadata.present]
    if not np.isfinite(in_use_deg).all() or span_deg(in_use_deg) < _COVERS_DEG:
        return []
    gap = missing_directions_deg(in_use_deg, least_deg=180 - _COVERS_DEG)
    text = "no projection has an angle between {:.0f} and {:.0f} degrees, or half a turn away"
    return [f"{text.format(*gap)}: slices lack these"] if gap else []


def _reference_frames(looks: Sequence[_Look]) -> float:
    """Return the number of projections of a complete scan of a series.

    All readable files count, with their planned number, also those skipped by rules 2 and 3: if
    most scans were aborted, these show it best. Files whose angles stop early (below 180 degrees,
    and clearly below the largest range of the series) do not count: if aborted at the same frame,
    they would confirm each other.
    """
    opened = [look for look in looks if "n_rows" in look.cells]
    largest = max(opened, key=lambda look: look.n_planned, default=_Look(""))
    needed_deg = 0.9 * min(180.0, largest.span_deg or 0.0)
    return reference_size(look.n_planned for look in opened if (look.span_deg or 0.0) >= needed_deg)


def _row(
    entry: dict[str, Any], look: _Look | None, reference: float, min_fraction: float
) -> dict[str, Any]:
    look = _Look(entry["reason"]) if entry["reason"] or look is None else look
    reason = look.reason
    covered_deg = look.span_deg
    if not reason and undersized(
        look.n_frames, covered_deg, reference=reference, min_fraction=min_fraction
    ):
        over = "with no angles but input.angles"
        over = over if covered_deg is None else f"over {covered_deg:.0f} degrees"
        reason = (
            f"undersized: {look.n_frames} projections {over}, less than {min_fraction:g} of the "
            f"{reference:.0f} of its series"
        )
    warnings = [look.cells["warnings"]] if look.cells.get("warnings") else []
    if not reason and look.is_spread and look.n_frames < (1 - _SAME_SIZE) * reference:
        warnings.append(
            f"{look.n_frames} projections, the series has {reference:.0f}: if the scan was "
            "aborted, use input.angles: {start, step} instead of {start, stop}"
        )
    return {
        **_BLANK,
        **look.cells,
        "warnings": "; ".join(warnings),
        **{name: entry[name] for name in ("scan", "path", "series", "index")},
        "keep": not reason,
        "reason": reason,
    }


def reference_size(sizes: Iterable[float]) -> float:
    """Return the size of a complete scan of a series: the largest size that several scans share.

    A size is a number of projections. Complete scans of a series follow one protocol and have the
    same size (here: within 0.5 %); aborted ones are smaller and end anywhere. The median is wrong
    as soon as half of the scans are aborted, and the largest if one scan is oversized (another
    protocol).

    The largest size shared by a tenth of the series (at least two scans) is right even with a
    majority of aborted scans, or a few long scans of another protocol in a large series. If no size
    is that frequent, two scans suffice; if no two agree, the largest is used, as aborted scans are
    never larger. Sizes alone cannot identify one complete scan among several aborted at the same
    frame; the caller omits scans known to be aborted. Sizes must be positive; 0 without sizes.
    """
    descending = sorted((float(size) for size in sizes if size > 0), reverse=True)
    if not descending:
        return 0.0
    for others in (max(1, len(descending) // 10), 1):
        for larger, smaller in zip(descending, descending[others:], strict=False):
            if smaller >= (1 - _SAME_SIZE) * larger:
                return larger
    return descending[0]


def undersized(
    n_frames: int, covered_deg: float | None, *, reference: float, min_fraction: float
) -> bool:
    """Tell whether a scan looks aborted in comparison with its series.

    That is, if it has few projections, and they do not cover the angles that a slice needs. Both
    are necessary: a coarse scan over 180 degrees is complete, and so is one over fewer degrees with
    as many projections as the others. Rows, columns and pixel type are not considered.

    `covered_deg` is the range of its angles, the last step included; None: there are no angles.
    `reference` is from `reference_size`; `min_fraction`, 0 to 1, is the least accepted fraction of
    it.
    """
    few = n_frames < min_fraction * reference
    return few and (covered_deg is None or covered_deg < _COVERS_DEG)
