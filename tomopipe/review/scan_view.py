"""The data of one scan on the review page, without pictures."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from tomopipe.campaign.files import SWEEP
from tomopipe.campaign.prediction_json import parse_curves, parse_evidence
from tomopipe.campaign.results import Curve
from tomopipe.campaign.series import needs_search
from tomopipe.campaign.state.facts import NOT_SELECTED, TO_REVIEW
from tomopipe.campaign.state.sentences import earlier_options, not_accepted, shown_verdict
from tomopipe.campaign.state.signs import State
from tomopipe.campaign.table import EMPTY_ROW
from tomopipe.commands.history import read_history
from tomopipe.cor.cor_value import CorText
from tomopipe.errors import TomopipeError, scan_word
from tomopipe.geometry import pixels_per_cm
from tomopipe.prep.half_acquisition import FACTOR
from tomopipe.report.records import ScanRecord
from tomopipe.report.thumbnails import step_of
from tomopipe.review.in_use import is_of_volume
from tomopipe.review.queue import shown_cor, with_cells
from tomopipe.review.scan_images import grid_around
from tomopipe.review.store import Store
from tomopipe.storage.json_files import json_or, number

_NEIGHBOURS = 3  # neighbours in the series, on each side
_MOST_POINTS = 600


def scan_view(store: Store, name: str) -> dict[str, Any]:
    """Return everything about one scan as JSON."""
    record = store.scan(name)
    cells = store.cells().get(name, {})
    cor_px = shown_cor(replace(record, manual=CorText(cells.get("cor_px", ""))))
    is_filled = record.fix is not None and record.fix.before_px is None
    grid, problem = _grid(store, name, cor_px, is_centred=is_filled)
    if grid is None and record.state is State.SKIPPED:
        problem = f"{name} is skipped and has no slices: {record.reason}"
    if grid is None and record.state is State.UNSWEPT:
        every = store.campaign.for_scan(name).config.try_recon.every
        problem = (
            f"{name} has no sweep (try_recon.every: {every}), and no volume at this COR yet. "
            "`tomopipe run` makes its volume, "
            f"`tomopipe run --predict {scan_word(name)}` its sweep."
        )
    row = None if record.state in NOT_SELECTED else record.row
    # runs do not renew an outdated sweep if the COR is in the table
    is_not_renewed = row is not None and not needs_search(store.campaign, name, row)
    why_old = store.why("try_recon", name) if is_not_renewed else ""
    if grid is None and why_old:
        problem = f"No sweep of this scan; `tomopipe run --predict {scan_word(name)}` makes one."
    is_cut = bool(grid) and cor_px is not None and store.pictures.is_cut(name, cor_px)
    unreadable: list[str] = []
    history: list[dict[str, str]] = []  # changes of its row, the latest first
    try:
        entries = read_history(store.campaign.table_path)
        history = [entry._asdict() for entry in reversed(entries) if entry.scan == name]
    except TomopipeError as error:
        unreadable = [str(error)]
    return {
        "scan": name,
        "word": scan_word(name),  # in commands
        "series": record.series,
        "index": record.index,
        "shape": record.shape,
        "warnings": [
            *record.ignored_manual,
            *record.warnings,
            *([f"sweep of {earlier_options(why_old)}"] if grid and why_old else ()),
            *(_narrow_slices(store, name) if is_cut else ()),
            *unreadable,
        ],
        "reason": record.why,
        "to_do": record.to_do,
        "cells": {**EMPTY_ROW, **cells},
        "cor_px": cor_px,
        "known_px": record.shown[0],
        "known_text": record.shown_text,
        "source": record.shown[1],
        "fix": asdict(record.fix) if record.fix else None,
        "prediction": _prediction(store, record),
        "neighbours": _neighbours(store, record),
        "failures": [
            {"step": each.step, "reason": each.error, "log": each.log_tail}
            for each in record.failures
        ],
        "history": history,
        "grid": grid,
        "is_cut": is_cut,
        **_as_in_volumes(store, record),
        "candidates": _candidates(store, record, cells, grid) if grid else [],
        "problem": problem,
        "has_slice": is_of_volume(record, cor_px),  # of its volume, for a scan without a sweep
        "volume": store.campaign.volume(name).exists(),
    }


def _grid(
    store: Store, name: str, cor_px: float | None, *, is_centred: bool
) -> tuple[dict[str, Any] | None, str]:
    """Return CORs to browse and detector rows, or why there are none.

    `is_centred`: whether they are centred on the COR, if there are rows to make the slices from.
    """
    try:
        grid = store.pictures.grid(name)
        if "failed" in grid:
            return None, str(grid["failed"])
        result = {key: grid[key] for key in ("cor_px", "row", "binning")}
        details = store.pictures.details(name)
        columns = details["first_col"], details["first_col"] + details["n_cols"] - 1
        is_centred = is_centred and os.path.exists(store.campaign.files.rows(name))
        around = grid_around(grid["cor_px"], cor_px, columns, is_centred=is_centred)
        swept = around is grid["cor_px"] and store.pictures.has_pages(name)
        return result | details | {"cor_px": around, "step_px": step_of(around), "swept": swept}, ""
    except (KeyError, TypeError) as error:
        remedy = f"`tomopipe run --predict {scan_word(name)}` makes its sweep again."
        fault = f"has no {error}" if isinstance(error, KeyError) else f"is damaged ({error})"
        return None, f"{name}: {SWEEP} {fault}. {remedy}"
    except (TomopipeError, OSError, ValueError) as error:
        return None, str(error)


def _candidates(
    store: Store, record: ScanRecord, cells: Mapping[str, str], grid: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Return the CORs among which a person decides (measured, used, on the line), if needed."""
    if with_cells(record, cells).state not in TO_REVIEW:
        return []
    used_px, source = record.shown
    prediction, fix = record.prediction, record.fix
    near = ", ".join(fix.neighbours) if fix else ""
    if record.error_px is not None:
        near = ", ".join(filter(None, (near, f"{record.shown_text} px")))
    sources = [("used", used_px, source, near)]
    if prediction:
        value = prediction.of_method
        confidence = "" if value is None else f"confidence {value:.2f}"
        sources.insert(0, ("measured", prediction.best_cor_px, prediction.method, confidence))
    series_line = store.line(record.series, record.layout)
    line_px = series_line["on_line"].get(record.name)
    if line_px is not None and line_px == used_px:  # fix_cor's own: a second one would differ
        sources.append(("line", used_px, "", ""))
    elif line := series_line["line"]:
        spread = "" if line["spread_px"] is None else f"scatter {line['spread_px']:.2f} px"
        sources.append(("line", line_px, f"{len(series_line['trusted'])} scans", spread))
    last_px = grid["first_col"] + grid["n_cols"] - 1
    result: dict[float, dict[str, Any]] = {}
    for name, cor_px, source, remark in sources:
        if cor_px is None or not grid["first_col"] <= cor_px <= last_px:
            continue
        empty = {"names": [], "cor_px": round(cor_px, 4), "sources": []}
        candidate = result.setdefault(round(cor_px, 2), empty)
        candidate["names"].append(name)
        candidate["sources"] += [[source, remark]] if source else []
    return list(result.values())


def _narrow_slices(store: Store, name: str) -> list[str]:
    """Return the warning that the slices shown are narrower than the volume."""
    n_cols = store.pictures.details(name)["n_cols"]
    return [
        f"half acquisition: slices shown here are cut to {n_cols} columns, those of the volume "
        f"have {FACTOR * n_cols} (try_recon.center_px near the axis makes wide ones)"
    ]


def _as_in_volumes(store: Store, record: ScanRecord) -> dict[str, Any]:
    """Return the crops of full_recon, the pixel size, and by what grey values of slices differ."""
    config = store.campaign.for_scan(record.name).config
    full, recorded_um = config.full_recon, number((record.row or {}).get("pixel_size_um"))
    size_um = config.export_star.pixel_size_um or recorded_um
    is_per_cm = full.unit == "per_cm" and size_um
    units, factor = ("1/cm", pixels_per_cm(size_um)) if is_per_cm else ("1/pixel", 1.0)
    return {
        "crops": {"crop_x": full.crop_x, "crop_y": full.crop_y, "rows": full.rows},
        "pixel_size_um": recorded_um or size_um,
        "grey": {"units": units, "factor": factor},
    }


def _prediction(store: Store, record: ScanRecord) -> dict[str, Any] | None:
    prediction = record.prediction
    if prediction is None:
        return None
    data = json_or(store.campaign.files.prediction(record.name), {})
    return vars(prediction) | {
        "verdict": shown_verdict(prediction),
        "is_in_reason": not_accepted(prediction) in record.why,
        "model": asdict(prediction.model) if prediction.model else None,
        "curves": [_curve(curve) for curve in parse_curves(data)],
        "evidence": [_curve(curve) for curve in parse_evidence(data)],
    }


def _curve(curve: Curve) -> dict[str, Any]:
    return vars(curve) | {"cor_px": _thinned(curve.cor_px), "score": _thinned(curve.score)}


def _thinned(values: Sequence[float]) -> list[float]:
    step = -(-len(values) // _MOST_POINTS)
    return list(values[:: max(step, 1)])


def _neighbours(store: Store, record: ScanRecord) -> list[dict[str, Any]]:
    """Return the scans next to this one in its series, itself included."""
    members = store.series(record.series)
    number = next((i for i, point in enumerate(members) if point["scan"] == record.name), None)
    if number is None:
        return []
    return members[max(0, number - _NEIGHBOURS) : number + _NEIGHBOURS + 1]
