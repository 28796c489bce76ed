"""Write the COR of one scan, and where it comes from, next to its data."""

import json
import os
from collections.abc import Mapping
from typing import Any

from tomopipe.cor import parse_cor
from tomopipe.io.atomic import write_json

REVISION = 1  # bump when results change


def sidecar(output: str | os.PathLike[str], *, content: str) -> None:
    """Write the sidecar of one scan.

    Parameters
    ----------
    output : path-like
        The file to write.
    content : str
        All it says, as JSON made from `sidecar_content`. As the only parameter of the step it
        makes the file be written again when, and only when, it would say something else.
    """
    write_json(json.loads(content), output)


def sidecar_content(
    scan: str,
    cor: Mapping[str, Any],
    fixed_row: Mapping[str, str] | None,
    prediction: Mapping[str, Any] | None,
    parameters: Mapping[str, Any],
) -> dict[str, Any]:
    """Collect what the sidecar of a scan says; it holds no time stamp.

    Parameters
    ----------
    scan : str
        Name of the scan.
    cor : mapping
        Its entry in cor.json: `cor_px`, `source`.
    fixed_row : mapping or None
        Its row in the table of fix_cor, as text.
    prediction : mapping or None
        Its prediction.json; None where the prediction failed for good.
    parameters : mapping
        The options of the steps that led to the COR.

    Returns
    -------
    dict
        `cor_px` and `source` as resolved; `method`, `confidence`, `verdict` and `predicted_px` of
        the prediction, whether it was used or not; `before_px` before fixing (None if there was
        none), `flagged`, `limit_px`, `neighbours` and `reason` of fix_cor; `parameters`.
    """
    row = fixed_row or {}
    found = prediction or {}
    neighbours = row.get("neighbours", "")
    return {
        "scan": scan,
        "cor_px": cor["cor_px"],
        "source": cor["source"],
        "method": found.get("method"),
        "confidence": found.get("confidence"),
        "verdict": found.get("verdict"),
        "predicted_px": found.get("best_cor_px"),
        "before_px": parse_cor(row.get("before_px", "")),
        "flagged": row.get("flagged") == "true",
        "limit_px": parse_cor(row.get("limit_px", "")),
        "neighbours": neighbours.split(";") if neighbours else [],
        "reason": row.get("reason", ""),
        "parameters": dict(parameters),
    }
