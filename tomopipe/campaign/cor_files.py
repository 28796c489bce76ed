"""CORs of earlier work: TomoGUI's tables, and our sidecars."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from tomopipe.campaign.files import SIDECAR
from tomopipe.campaign.results import read_json
from tomopipe.campaign.tomogui import read_entries
from tomopipe.cor.cor_value import parse_cor, shown
from tomopipe.errors import TomopipeError
from tomopipe.retired import RETIRED

_PREDICTED = "predicted, which the next run finds again (--predicted takes them)"
_FILLED = "filled or replaced in their series, which the next run does again"
_FOLDER = "an import of a folder"  # in RETIRED


class FileCors(NamedTuple):
    """CORs by entry: a path whose last part names the scan or its file."""

    cors: dict[str, float]  # in unbinned pixels
    junk: dict[str, str]  # texts that are not a COR
    passed_over: dict[str, str]  # why an entry is not taken


def read_cors(paths: Iterable[Path], *, predicted: bool = False) -> FileCors:
    """Read the CORs of files: rot_cen.json, batch_cor_values.csv, or sidecars `<scan>.cor.json`.

    Of one entry in several files the last counts. A sidecar is taken if its source is manual;
    `predicted`: also if it is a method, whose COR a run finds again by itself.
    """
    result = FileCors({}, {}, {})
    for path in paths:
        if path.is_dir():
            raise TomopipeError(f"{path}: {_FOLDER} is no longer there: {RETIRED[_FOLDER]}.")
        if path.name.endswith(SIDECAR):
            _add_sidecar(path, result, predicted=predicted)
        else:
            entries = read_entries(path)
            result.cors.update(entries.cors)
            result.junk.update(entries.junk)
    return result


def _add_sidecar(path: Path, result: FileCors, *, predicted: bool) -> None:
    try:
        data = read_json(path, "a sidecar of tomopipe")
    except TomopipeError as error:  # the others are fine
        result.passed_over[str(path)] = f"damaged: {error}"
        return
    scan, source, value = (data.get(key) for key in ("scan", "source", "cor_px"))
    if not isinstance(scan, str) or not isinstance(source, str):
        result.passed_over[str(path)] = f"no sidecar of tomopipe: {path}"
        return
    name, text = f"{path.parent}/{scan}", value if isinstance(value, str) else json.dumps(value)
    is_predicted = source in ("ai", "auto")
    if source != "manual" and not (is_predicted and predicted):
        result.passed_over[name] = _PREDICTED if is_predicted else _FILLED
    elif (cor_px := parse_cor(text)) is None:
        result.junk[name] = shown(text)
    else:
        result.cors[name] = cor_px
