"""Statements in results, and results of which only the metadata are out of date."""

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from tomopipe.campaign.files import PREDICTION, STACK, VOLUMES

if TYPE_CHECKING:
    from tomopipe.reruns.made_from import Statement  # slow to load


def statement_in(path: Path) -> "Statement | None":
    """Return the statement in a result; None if there is none or it cannot be read."""
    with suppress(Exception):  # whatever a damaged file does to its reader
        return read_statement(path)
    return None


def read_statement(path: Path) -> "Statement | None":
    """Return the statement in a result; damaged files raise."""
    readers: dict[str, Callable[[Path], Statement | None]] = {
        ".json": _in_json,
        ".h5": _in_hdf5,
        STACK: lambda stack: _in_json(stack.with_suffix(".json")),
        ".tif": lambda stack: _in_json(stack.with_suffix(".json")),
        ".txt": lambda text: _in_json(text.with_name(PREDICTION)),
    }
    if path.is_dir() or path.name.endswith(VOLUMES["h5"]):
        return _in_volume(path)
    return readers.get(path.suffix, lambda _: None)(path)


def _in_json(path: Path) -> "Statement | None":
    record = json.loads(path.read_text(encoding="utf-8"))
    result = record.get("made_from") if isinstance(record, dict) else None
    return result if isinstance(result, dict) else None


def _in_volume(path: Path) -> "Statement | None":
    from tomopipe.volumes.volume_read import read_provenance

    text = read_provenance(path).get("made_from")
    return json.loads(text) if text else None


def _in_hdf5(path: Path) -> "Statement | None":
    import h5py

    with h5py.File(path, "r") as file:
        text = file.attrs.get("made_from")
        return json.loads(text) if text else _in_volume(path)


def only_metadata_differ(old: "Statement | None", target: "Statement") -> bool:
    """Tell whether a result differs from the wanted one only in its metadata."""
    ours = ("maker", "metadata")
    return (
        old is not None
        and old.get("metadata") != target.get("metadata")
        and {key: value for key, value in old.items() if key not in ours}
        == {key: value for key, value in target.items() if key not in ours}
    )
