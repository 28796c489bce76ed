"""Read small JSON files that may be missing or damaged."""

import json
import os
from pathlib import Path
from typing import Any


def json_or(path: str | os.PathLike[str], default: Any) -> Any:
    """Read a JSON file; `default` if it is missing, damaged, or not of the type of `default`."""
    try:
        found = json.loads(Path(path).read_bytes())
    except (OSError, ValueError, RecursionError):
        return default
    return found if default is None or isinstance(found, type(default)) else default
