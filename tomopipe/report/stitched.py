"""Stacks: scans at several heights, and the result of stitching them."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tomopipe.campaign.files import VOLUMES, Files
from tomopipe.report.records import PairRecord, StackRecord
from tomopipe.report.sources import Reader
from tomopipe.storage.json_files import number, text


def read_stacks(
    reader: Reader, files: Files[Path], declared: Iterable[Mapping[str, Any]]
) -> tuple[StackRecord, ...]:
    """Read the result of each stack; `declared` are their name, scans and problem."""
    found = []
    for entry in declared:
        name, problem = text(entry["name"]), text(entry["problem"])
        volume = next(
            (path for output in VOLUMES if (path := files.stitched(name, output)).exists()),
            None,
        )
        data = reader.json(files.shifts(name)) or {} if volume else {}
        shape = data.get("shape")
        if problem and volume:
            problem += f"; the volume shown was made before{_of_scans(data)}"
        found.append(
            StackRecord(
                name=name,
                scans=tuple(entry["scans"]),
                problem=problem or ("" if volume else "not stitched yet, or its job failed"),
                volume=volume,
                shape=tuple(shape) if isinstance(shape, list) else (),
                pairs=tuple(
                    _pair(pair) for pair in data.get("pairs", []) if isinstance(pair, dict)
                ),
            )
        )
    return tuple(found)


def _of_scans(data: Mapping[str, Any]) -> str:
    """Return the scans that a volume was stitched from, as the end of a sentence."""
    made_from = data.get("made_from")
    scans = made_from.get("scans") if isinstance(made_from, dict) else None
    return f", of {', '.join(map(text, scans))}" if isinstance(scans, list) else ""


def _pair(data: Mapping[str, Any]) -> PairRecord:
    first, second = (text(name) for name in [*(data.get("scans") or ()), "", ""][:2])
    keys = ("z_px", "y_px", "x_px", "overlap_rows", "correlation")
    return PairRecord(first, second, *(number(data.get(key)) for key in keys))
