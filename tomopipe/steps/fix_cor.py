"""Replace outlying CORs and fill missing ones, one filename series at a time."""

import logging
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tomopipe.campaign.results import read_prediction
from tomopipe.config import FixCorBlock
from tomopipe.cor.ai.model_card import shipped_sha256
from tomopipe.cor.cor_value import format_cor, is_valid, off_detector, parse_cor, shown
from tomopipe.cor.outliers import EMPTIED, FIX_COLUMNS, NOT_ASKED, Fixed, Member, fix_series
from tomopipe.errors import TomopipeError, saying
from tomopipe.storage.json_files import part
from tomopipe.storage.tables import write_tsv

log = logging.getLogger(__name__)


def fix_cor(
    predicted: Mapping[str, tuple[str, str]],
    output: str | os.PathLike[str],
    members: Sequence[Mapping[str, Any]],
    options: FixCorBlock,
) -> None:
    """Write the table of fixed CORs of one series: `tomopipe.cor.outliers.FIX_COLUMNS`.

    `predicted`: the center_of_rotation.txt and prediction.json of each scan, unless its prediction
    failed finally. `members`, the scans of the series: `scan`, `index`, `n_cols`, `manual` (cell of
    the campaign table), `select` ("in", or "donor" for a scan that is not selected but may have a
    COR) and, for donors, `donor_px` (float or None). CORs are in unbinned pixels, with two
    decimals.
    """
    rows = compute(predicted, members, options)
    for row in rows:
        change = f"{row['before_px'] or 'none'} -> {row['after_px'] or 'none'}"
        log.info("%s: %s %s; %s", row["scan"], change, row["source"], row["reason"] or "kept")
    if noted := sum(bool(row["reason"]) for row in rows):
        log.warning("%d of %d scans replaced, filled or reported: %s", noted, len(rows), output)
    write_tsv(rows, FIX_COLUMNS, output)


def compute(
    predicted: Mapping[str, tuple[str, str]],
    members: Sequence[Mapping[str, Any]],
    options: FixCorBlock,
) -> list[dict[str, str]]:
    """Return the rows that `fix_cor` writes, as text, as read from the table; arguments as for it.

    A TomopipeError if a file named in `predicted` cannot be read.
    """
    series = [_member(entry, predicted.get(entry["scan"]), options) for entry in members]
    rows = fix_series(series, **options.model_dump())
    return [_cells(row) for row in rows]


def _member(
    entry: Mapping[str, Any], files: tuple[str, str] | None, options: FixCorBlock
) -> Member:
    member = Member(
        scan=entry["scan"],
        index=int(entry["index"]),
        n_cols=int(entry["n_cols"]),
        manual=str(entry.get("manual") or ""),
        selected=entry["select"] != "donor",
    )
    if not member.selected:
        donor_px = entry.get("donor_px")
        return replace(member, predicted_px=math.nan if donor_px is None else donor_px)
    if files is None:
        return replace(member, note="the prediction failed")
    return _with_prediction(member, *files, options)


def _with_prediction(
    member: Member, center_path: str, prediction_path: str, options: FixCorBlock
) -> Member:
    """Add the COR of a prediction, or of the file if a person changed it, and what to report.

    What is in the file and no COR is ignored, as in the campaign table.
    """
    name = Path(center_path).name
    with saying(f"{center_path}: cannot be read", " Run predict_cor again."):
        text = Path(center_path).read_bytes().decode("utf-8", "replace")
    cor_px, note = parse_cor(text), ""
    try:
        prediction = read_prediction(prediction_path)
    except TomopipeError as error:  # one damaged file must not stop the series
        if isinstance(error.__cause__, OSError):
            raise  # a fault of the disk, not of the file: the table would stay wrong
        prediction = {}
        note = f"{Path(prediction_path).name} is damaged: delete it and run again"
    source = "ai" if prediction.get("method") == "ai" else "auto"
    member = replace(member, predicted_source=source)
    is_edited = "cor_px" in prediction and format_cor(cor_px) != format_cor(prediction["cor_px"])
    if cor_px is None and text.strip():
        note = f"{name} holds {shown(text.strip())}, not a number, ignored"
        cor_px = prediction.get("cor_px")
    elif is_edited and cor_px is not None and not is_valid(cor_px, member.n_cols):
        note = f"{name}: {off_detector(cor_px, member.n_cols)}, ignored"
        cor_px = prediction["cor_px"]
    elif is_edited and cor_px is None:
        return replace(member, note=EMPTIED)
    elif is_edited and cor_px is not None:
        return replace(member, predicted_px=cor_px, predicted_source="manual")
    if cor_px is not None:
        confidence = _confidence(prediction, options)
        return replace(member, predicted_px=cor_px, note=note, confidence=confidence)
    reason = prediction.get("reason")
    why_not = reason if reason in (None, "", NOT_ASKED) else f"prediction: {reason}"
    return replace(member, note=note, no_cor_reason=why_not or "")


def _confidence(prediction: Mapping[str, Any], options: FixCorBlock) -> float:
    """Return the confidence as far as it protects; 0 of what the default is not measured for."""
    counts = options.protect_confident != FixCorBlock().protect_confident or (
        prediction.get("method") == "ai"
        and part(prediction, "model").get("sha256") == shipped_sha256()
    )
    return prediction.get("confidence") or 0.0 if counts else 0.0


def _cells(row: Fixed) -> dict[str, str]:
    return {
        "scan": row.scan,
        "index": str(row.index),
        "before_px": format_cor(row.before_px),
        "after_px": format_cor(row.after_px),
        "source": row.source,
        "flagged": "true" if row.flagged else "false",
        "reason": row.reason,
        "limit_px": format_cor(row.limit_px),
        "neighbours": ";".join(row.neighbours),
    }
