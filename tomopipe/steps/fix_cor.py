"""Replace outlying CORs and fill missing ones, one filename series at a time."""

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tomopipe.campaign.prediction_json import parse_prediction
from tomopipe.campaign.results import read_center, read_prediction, write_tsv
from tomopipe.campaign.state.sentences import doubt_of
from tomopipe.cor.ai.model_card import shipped_sha256
from tomopipe.cor.cor_value import CorText, same_cor, shown
from tomopipe.cor.fill import Point
from tomopipe.cor.outliers import (
    EMPTIED,
    FIX_TABLE,
    NOT_ASKED,
    Fix,
    Member,
    fix_series,
    parse_fixes,
    uses_estimates,
)
from tomopipe.cor.series_fill import fix_best, point_of
from tomopipe.errors import TomopipeError, on_os_error
from tomopipe.storage.json_files import number, part

if TYPE_CHECKING:
    from tomopipe.config import FixCorBlock  # slow to load

log = logging.getLogger(__name__)


def fix_cor(
    predicted: Mapping[str, tuple[str, str]],
    output: str | os.PathLike[str],
    members: Sequence[Mapping[str, Any]],
    options: "FixCorBlock",
    around: Sequence[Mapping[str, Any]] = (),
) -> bool:
    """Write the table of fixed CORs of one series: `tomopipe.cor.outliers.FIX_TABLE`.

    `predicted`: the center_of_rotation.txt and prediction.json of each scan, without scans whose
    prediction failed finally. `members`, the scans of the series: `scan`, `index`, `n_cols`,
    `manual` (cell of the campaign table), `select` ("in", or "donor" for a scan that is not
    selected but may have a COR) and, for donors, `donor_px` (float or None); perhaps
    `no_cor_reason`, why there is no prediction. With `fill: best` also `position` and `length` of
    the series, `pixel_um` and stage `height` as in the inventory, and `min_confidence`; of views
    that have a model over time (`over_time`) also the `file`. `around`
    are scans of the series before and after it, each with its distance in file order (`order`);
    `predicted` has their files, too. CORs are in unbinned pixels, with two decimals. Returns
    whether the table depends on `around`.
    """
    fixes = compute(predicted, members, options, around)
    rows = [fix.cells() for fix in fixes.values()]
    for row in rows:
        change = f"{row['before_px'] or 'none'} -> {row['after_px'] or 'none'}"
        log.info("%s: %s %s; %s", row["scan"], change, row["source"], row["reason"] or "kept")
    if noted := sum(bool(row["reason"]) for row in rows):
        log.warning("%d of %d scans replaced, filled or reported: %s", noted, len(rows), output)
    write_tsv(rows, FIX_TABLE, output)
    return uses_estimates(fixes.values())


def compute(
    predicted: Mapping[str, tuple[str, str]],
    members: Sequence[Mapping[str, Any]],
    options: "FixCorBlock",
    around: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Fix]:
    """Return the rows that `fix_cor` writes, by scan; arguments as for `fix_cor`.

    A TomopipeError if a file in `predicted` cannot be read.
    """
    series = [_member(entry, predicted.get(entry["scan"]), options) for entry in members]
    if options.fill == "series":
        fixes = fix_series(
            series,
            max_delta_px=options.max_delta_px,
            protect_manual=options.protect_manual,
            protect_confident=options.protect_confident,
        )
    else:
        points = [_point(entry, predicted.get(entry["scan"]), options) for entry in around]
        fixes = fix_best(series, points, options)
    return parse_fixes(fix.cells() for fix in fixes)


def compute_protected(
    files: tuple[str, str] | None, entry: Mapping[str, Any], options: "FixCorBlock"
) -> Fix | None:
    """Return the row of a scan whose COR no other one of its series can change; None if one can.

    `files` is its element of `predicted`, `entry` that of `members`, as for `fix_cor`.
    """
    fix = compute({entry["scan"]: files} if files else {}, [entry], options)[entry["scan"]]
    if fix.after_px is None or fix.source == "manual":
        is_protected = fix.after_px is not None and options.protect_manual
    else:
        limit, member = options.protect_confident, _member(entry, files, options)
        is_protected = limit is not None and member.confidence >= limit
    return fix if is_protected else None


def _member(
    entry: Mapping[str, Any], files: tuple[str, str] | None, options: "FixCorBlock"
) -> Member:
    member = Member(
        scan=entry["scan"],
        index=int(entry["index"]),
        n_cols=int(entry["n_cols"]),
        manual=CorText(entry.get("manual") or ""),
        selected=entry["select"] != "donor",
        file=entry.get("file", ""),
        **_place(entry),
    )
    if not member.selected:
        return replace(member, predicted_px=entry.get("donor_px"))
    if files is None:  # scans with a COR in the table have no prediction
        has_cor = member.manual.px_on(member.n_cols) is not None
        if (reason := entry.get("no_cor_reason")) and not has_cor:
            return replace(member, no_cor_reason=reason)
        return member if has_cor else replace(member, note="the prediction failed")
    return _with_prediction(member, *files, options, entry.get("min_confidence", 0.0))


def _point(
    entry: Mapping[str, Any], files: tuple[str, str] | None, options: "FixCorBlock"
) -> Point:
    """Return a scan of another series; without COR if its prediction is missing or unreadable."""
    try:
        member = _member(entry, files, options)
    except TomopipeError:  # its own series says so
        member = _member(entry, None, options)
    return point_of(member, entry["order"])


def _place(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return where a scan is in its series, its pixels, and the height of the stage."""
    place = {name: entry[name] for name in ("position", "length", "pixel_um") if name in entry}
    return place | {"height": number(entry.get("height"))}


def _with_prediction(
    member: Member,
    center_path: str,
    prediction_path: str,
    options: "FixCorBlock",
    min_confidence: float,
) -> Member:
    """Add the COR of the prediction, or of its edited file, and a note."""
    name = Path(center_path).name
    with on_os_error(f"{center_path}: cannot be read", " Run predict_cor again."):
        center = read_center(center_path)
    cor_px, note = center.px, ""
    try:
        prediction = read_prediction(prediction_path)
    except TomopipeError as error:  # one damaged file must not stop the series
        if isinstance(error.__cause__, OSError):
            raise  # an error of the disk may pass, and the table would remain wrong
        prediction = {}
        note = f"{Path(prediction_path).name} is damaged: delete it and run again"
    source = "ai" if prediction.get("method") == "ai" else "auto"
    member = replace(member, predicted_source=source)
    is_edited = "cor_px" in prediction and not same_cor(cor_px, prediction["cor_px"])
    if cor_px is None and center.text:
        note = f"{name} holds {shown(center.text)}, not a number, ignored"
        cor_px = prediction.get("cor_px")
    elif is_edited and (fault := center.fault(member.n_cols)):
        note = f"{name}: {fault}, ignored"
        cor_px = prediction["cor_px"]
    elif is_edited and cor_px is None:
        return replace(member, note=EMPTIED)
    elif is_edited and cor_px is not None:
        return replace(member, predicted_px=cor_px, predicted_source="manual")
    if cor_px is not None:
        confidence = _confidence(prediction, options)
        is_trusted = not doubt_of(parse_prediction(prediction, points=False), min_confidence)
        member = replace(member, confidence=confidence, is_trusted=is_trusted)
        return replace(member, predicted_px=cor_px, note=note)
    reason = prediction.get("reason") or ""
    prefix = "" if reason in ("", NOT_ASKED) else "prediction: "
    return replace(member, note=note, no_cor_reason=prefix + reason)


def _confidence(prediction: Mapping[str, Any], options: "FixCorBlock") -> float:
    """Return the confidence; 0 if the default of protect_confident does not hold for the method."""
    counts = not options.is_measured or (
        prediction.get("method") == "ai"
        and part(prediction, "model").get("sha256") == shipped_sha256()
    )
    return prediction.get("confidence") or 0.0 if counts else 0.0
