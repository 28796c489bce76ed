"""Read small JSON files that may be missing or damaged, and their values."""

import json
import math
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from typing import Any

from tomopipe.paths import no_pipe
from tomopipe.storage.checksums import quick_state


def parsed(content: bytes) -> Any:
    """Parse JSON, three times as fast by pydantic's parser where that is loaded."""
    with suppress(KeyError, ValueError):  # ValueError: also of names that are not UTF-8
        return sys.modules["pydantic_core"].from_json(content)
    return json.loads(content)


def json_text(content: Any) -> str:
    """Write JSON without indent, four times as fast by pydantic's writer where that is loaded."""
    with suppress(KeyError, ValueError):  # as above
        return str(sys.modules["pydantic_core"].to_json(content), "utf-8")
    return json.dumps(content)


def json_or(path: str | os.PathLike[str], default: Any) -> Any:
    """Read a JSON file; `default` if it is missing, damaged, or not of the type of `default`."""
    try:
        with open(no_pipe(path), "rb") as stream:
            content = parsed(stream.read())
    except (OSError, ValueError, RecursionError):
        return default
    return content if default is None or isinstance(content, type(default)) else default


def in_file(path: str, key: str) -> Any:
    """Return the value of a rare key of a JSON file; None if it does not have the key."""
    return _in_file(path, key, quick_state(path))


@cache  # called once per job, and predictions are large
def _in_file(path: str, key: str, _state: object) -> Any:
    with suppress(OSError), open(no_pipe(path), "rb") as file:
        if f'"{key}"'.encode() in file.read():  # parsing takes longer
            return json_or(path, {}).get(key)
    return None


def number(value: object) -> float | None:
    """Read a finite number; None for anything else."""
    if type(value) is float:  # the usual case, thousands for each scan
        return value if math.isfinite(value) else None
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        result = float(value)
    except (ValueError, OverflowError):
        return None
    return result if math.isfinite(result) else None


def part(data: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Read an object within an object; {} for anything else."""
    result = data.get(name)
    return result if isinstance(result, Mapping) else {}


def text(value: object) -> str:
    """Read a text; "" if missing."""
    return "" if value is None else str(value)


def texts(value: object) -> tuple[str, ...]:
    """Read a list of texts; empty for anything else."""
    return tuple(map(text, value)) if isinstance(value, list) else ()
