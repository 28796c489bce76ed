"""Read small JSON files that may be missing or damaged, and their values."""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def json_or(path: str | os.PathLike[str], default: Any) -> Any:
    """Read a JSON file; `default` if it is missing, damaged, or not of the type of `default`."""
    try:
        found = json.loads(Path(path).read_bytes())
    except (OSError, ValueError, RecursionError):
        return default
    return found if default is None or isinstance(found, type(default)) else default


def number(value: object) -> float | None:
    """Read a finite number; None for anything else."""
    if type(value) is float:  # the usual case, thousands for each scan
        return value if math.isfinite(value) else None
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def part(data: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Read an object within an object; {} for anything else."""
    found = data.get(name)
    return found if isinstance(found, Mapping) else {}


def text(value: object) -> str:
    """Read a text; "" if missing."""
    return "" if value is None else str(value)


def texts(value: object) -> tuple[str, ...]:
    """Read a list of texts; empty for anything else."""
    return tuple(map(text, value)) if isinstance(value, list) else ()
