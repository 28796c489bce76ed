"""CORs of earlier work: TomoGUI's tables, trees of center_of_rotation.txt, our sidecars."""

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

from tomopipe.campaign.campaign import Campaign
from tomopipe.campaign.files import CENTER, PREDICTION, SIDECAR, SIDECARS, TRY_CENTER, Files
from tomopipe.campaign.results import read_cor_json, read_json, read_prediction
from tomopipe.campaign.tomogui import read_entries
from tomopipe.cor.cor_value import format_cor, parse_cor, same_cor, shown
from tomopipe.errors import TomopipeError

_PREDICTED = "predicted, which the next run finds again (--predicted takes them)"
_FILLED = "filled or replaced in their series, which the next run does again"
_NONE = "without a COR"


class Found(NamedTuple):
    """CORs by entry: a path whose last part names the scan or its file."""

    cors: dict[str, float]  # in unbinned pixels
    junk: dict[str, str]  # texts that are not a COR
    passed_over: dict[str, str]  # why an entry is not taken


def find_cors(path: str | os.PathLike[str], *, predicted: bool = False) -> Found:
    """Read the CORs of a file or a folder in any of these forms; a TomopipeError if there are none.

    A file is rot_cen.json, batch_cor_values.csv, or a sidecar `<scan>.cor.json`; a folder has
    sidecars in it or in its folder `sidecars`, or `try_center/<scan>/center_of_rotation.txt`, or
    `<scan>/center_of_rotation.txt`. In a folder with cor.json this counts, not the sidecars of its
    scans: one may be of earlier.

    `predicted`: also take predictions of tomopipe, which a run finds again by itself. Otherwise a
    sidecar is taken if its source is manual, and center_of_rotation.txt if there is no
    prediction.json beside it (another program wrote it) or one with another COR (it was edited by
    hand).
    """
    place = Path(path)
    if not place.is_dir():
        if place.name.endswith(SIDECAR):
            return _collected(place, [_of_sidecar(place, predicted)])
        return Found(*read_entries(place), {})
    files = sorted([*place.glob(f"*{SIDECAR}"), *place.glob(f"{SIDECARS}/*{SIDECAR}")])
    texts = sorted([*place.glob(f"{TRY_CENTER}/*/{CENTER}"), *place.glob(f"*/{CENTER}")])
    table = Files(place).cor_table
    of_table = _of_table(table, predicted) if table.is_file() else []
    in_table = {Path(entry.name).name for entry in of_table}
    entries = [_of_sidecar(file, predicted) for file in files]
    entries = [entry for entry in entries if Path(entry.name).name not in in_table]
    entries += [_of_text(file, predicted) for file in texts]
    taken = {Path(entry.name).name for entry in entries if not entry.why_not}
    return _collected(place, entries + [e for e in of_table if Path(e.name).name not in taken])


def contradictions(campaign: Campaign, found: Found) -> list[str]:
    """Say where sidecars beside the data of a campaign state other CORs by hand than its cor.json.

    They stay as they were where the folder of the data has become read-only since.
    """
    try:
        table = read_cor_json(campaign.files.cor_table)
    except TomopipeError:  # lost, or damaged: the sidecars are all there is
        return []
    texts = []
    for entry in [*found.cors, *found.passed_over]:
        name, path = Path(entry).name, f"{entry}{SIDECAR}"
        scan, stated = campaign.scans.get(name), table.get(name)
        if scan and stated and _is_beside(campaign, scan.path, path):
            by_hand = stated["cor_px"] if stated["source"] == "manual" else None
            both = format_cor(found.cors.get(entry)), format_cor(by_hand)
            if both[0] != both[1]:
                sidecar, now = (text or "none" for text in both)
                texts.append(f"{name}: {sidecar} by hand in {path}, {now} in cor.json")
    return texts


def _is_beside(campaign: Campaign, raw: str, path: str) -> bool:
    beside = (campaign.directory / raw).parent / os.path.basename(path)
    return os.path.realpath(beside) == os.path.realpath(path) and os.path.isfile(path)


class _Entry(NamedTuple):
    name: str
    text: str  # of the COR
    why_not: str = ""


def _collected(path: Path, entries: list[_Entry]) -> Found:
    if not entries:
        raise TomopipeError(
            f"{path}: expected sidecars (*{SIDECAR}) or {TRY_CENTER}/<scan>/{CENTER}; found none."
        )
    found = Found({}, {}, {})
    for name, text, why_not in entries:
        if why_not:
            found.passed_over[name] = why_not
        elif (cor_px := parse_cor(text)) is None:
            found.junk[name] = shown(text)
        else:
            found.cors[name] = cor_px
    return found


def _of_sidecar(path: Path, predicted: bool) -> _Entry:
    try:
        data = read_json(path, "a sidecar of tomopipe")
    except TomopipeError as error:  # the others are fine
        return _Entry(str(path), "", f"damaged: {error}")
    scan, source = data.get("scan"), data.get("source")
    if not isinstance(scan, str) or not isinstance(source, str):
        return _Entry(str(path), "", f"no sidecar of tomopipe: {path}")
    name = f"{path.parent}/{scan}"
    return _Entry(name, _as_text(data.get("cor_px")), _why_not(source, predicted))


def _of_table(path: Path, predicted: bool) -> list[_Entry]:
    """Return the entries of cor.json that are taken; a damaged one holds none."""
    try:
        found = read_cor_json(path)
    except TomopipeError as error:
        return [_Entry(str(path), "", f"damaged: {error}")]
    texts = {scan: _as_text(entry["cor_px"]) for scan, entry in found.items()}
    return [
        _Entry(f"{path.parent}/{scan}", text, _why_not(found[scan]["source"], predicted))
        for scan, text in texts.items()
    ]


def _why_not(source: str, predicted: bool) -> str:
    if source in ("ai", "auto"):
        return "" if predicted else _PREDICTED
    return "" if source == "manual" else _FILLED


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _of_text(path: Path, predicted: bool) -> _Entry:
    name = str(path.parent)
    root = path.parent.parents[1]
    if path.parents[1].name == TRY_CENTER and root.name.endswith("_rec"):
        # TomoGUI's results of /data/raw are in /data/raw_rec
        name = f"{str(root.absolute())[:-4]}/{path.parent.name}"
    lines = path.read_bytes().decode("utf-8", "replace").split("\n")
    # tomo-center appends: the last one counts
    text = next((line.strip() for line in reversed(lines) if line.strip()), "")
    if not text:
        return _Entry(name, "", _NONE)
    prediction = path.with_name(PREDICTION)
    if not prediction.is_file():
        return _Entry(name, text)
    try:
        predicted_px = read_prediction(prediction).get("cor_px")
    except TomopipeError as error:
        return _Entry(name, "", f"damaged: {error}")
    is_ours = predicted_px is not None and same_cor(parse_cor(text), predicted_px)
    return _Entry(name, text, _PREDICTED if is_ours and not predicted else "")
