"""Results of versions without statements: Snakemake's records translated into statements.

Up to commit c668ed3 results did not state what they were made from; Snakemake's record in
.snakemake/metadata holds the parameters of each job and the SHA-256 of its small inputs.
"""

import ast
import hashlib
import json
import os
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from tomopipe.campaign.files import COR_TABLE, SNAKEMAKE
from tomopipe.config import Config, PreprocessBlock
from tomopipe.config.blocks import EARLIER_METHODS
from tomopipe.config.effective import baselines
from tomopipe.config.model import merged
from tomopipe.reruns.made_from import METADATA, Statement, block_of, options_of
from tomopipe.storage.json_files import json_or

_SAME_TIME_S = 1.0
_HALF_AND_MORE_DEG = 270
_LONGEST = 254  # length of a name in Snakemake's record
_RENAMED = {"pairs": "registration"}
_PREPROCESS = ("flats", "darks", "minus_log", "half_acquisition")
_ENTRY = ("scan", "path", "series", "index", "reason")


def recorded(directory: Path, output: str) -> dict[str, Any] | None:
    """Return Snakemake's record of the job that made an output, named as in its rule."""
    name = urlsafe_b64encode(output.encode("utf-8", "surrogateescape")).decode()
    *folders, last = (name[first : first + _LONGEST] for first in range(0, len(name), _LONGEST))
    path = Path(directory, SNAKEMAKE, "metadata", *(f"@{part}" for part in folders), last)
    record = json_or(path, {})
    return record if not record.get("incomplete") and "params" in record else None


def statement(
    directory: Path, output: str, step: str, wanted: Mapping[str, Any], raw: str
) -> Statement | None:
    """Translate the record of an output into a statement like the wanted one; None if it has none.

    What the record does not show (raw files of equal size, existing results of earlier steps) is
    assumed to be as wanted. `raw` is the raw file of the scan, for steps that read one.
    """
    if (record := recorded(directory, output)) is None:
        return None
    params = [_value(text) for text in record["params"]]

    def first(kind: type) -> Any:
        return next(value for value in params if type(value) is kind)

    found = dict(wanted)
    try:
        same = _same_inputs(record, directory)
        found["revision"] = first(int)
        if step == "export_star":
            found["options"] = {"hand": first(dict)["hand"]}
            if _is_plain_set(record, directory):
                found["revision"] = wanted["revision"]
        elif step != "stitch":
            found |= _options(step, first(dict))
        if step in METADATA and not (
            same and _same_raw(record, first(list), directory / output, directory / raw)
        ):
            found["raw"] = ["of an earlier version, other size or time"]
        if step == "full_recon":
            found["cor_px"] = first(float)
        elif step == "fix_cor":
            found["members"] = first(list)
        elif step == "inventory":
            lists = [value for value in params if isinstance(value, list)]
            entries = _plain(next(each for each in lists if each and isinstance(each[0], dict)))
            if entries != _plain(wanted["entries"]):
                found["entries"] = entries
    except (LookupError, OSError, StopIteration, ValueError, TypeError):
        return None
    return found if same else found | {"inputs": "other content than now"}


def _plain(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: entry[key] for key in _ENTRY} for entry in entries]


def _value(text: Any) -> Any:
    """Return a parameter: Snakemake stores the repr() of JSON texts, or nothing."""
    try:
        value = ast.literal_eval(text) if isinstance(text, str) else text
        return json.loads(value) if isinstance(value, str) and value[:1] in "[{" else value
    except (ValueError, SyntaxError):
        return text


def _same_inputs(record: Mapping[str, Any], directory: Path) -> bool:
    """Tell whether the small inputs are unchanged; missing ones do not count."""
    for name, checksum in (record.get("input_checksums") or {}).items():
        is_table = os.path.basename(name) == COR_TABLE
        if is_table and record["rule"] in ("full_recon", "sidecar"):
            continue  # its relevant content is a parameter
        with suppress(OSError):
            content = Path(directory, name).read_bytes()
            if f"sha256:{hashlib.sha256(content).hexdigest()}" != checksum:
                return False
    return True


def _same_raw(record: Mapping[str, Any], signature: list[Any], output: Path, raw: Path) -> bool:
    """Tell whether the raw file has its old size, and was not replaced after the result."""
    if not raw.exists():
        return False
    if raw.is_dir():
        return True
    (n_bytes, mtime_ns), now = signature[:2], raw.stat()
    if n_bytes != now.st_size:
        return False
    if mtime_ns in (None, now.st_mtime_ns):
        return True
    # if the result's own time is not the recorded one, the campaign was copied or restored
    made = max(file.stat().st_mtime for file in (output, *output.glob(".snakemake_timestamp")))
    return abs(made - float(record.get("endtime") or 0)) > _SAME_TIME_S


def _is_plain_set(record: Mapping[str, Any], directory: Path) -> bool:
    """Tell whether a tomogram set without optics groups is equivalent: all scans of one kind."""
    # RELION then gives all of them one group. Sets of full rotations may be narrower than volumes.
    kinds = set()
    for name in [path for path in record["input"] if not path.endswith(COR_TABLE)]:
        meta = json.loads(Path(directory, name).read_text(encoding="utf-8"))
        pixel_um, theta_deg = meta["pixel_size_um"]["value"] * meta["binning"], meta["theta_deg"]
        is_full = max(theta_deg) - min(theta_deg) > _HALF_AND_MORE_DEG
        kinds.add((pixel_um, meta["energy_kev"]["value"], is_full))
    return len(kinds) == 1 and not next(iter(kinds))[2]


def _options(step: str, old: Mapping[str, Any]) -> dict[str, Any]:
    """Return effective options, and those of metadata, from the old parameters of a step."""
    block, rest = block_of(step), dict(old)
    preprocess = {key: rest.pop(key) for key in _PREPROCESS if key in rest}
    # a key that was not written had its default of that time
    preprocess = merged(baselines(PreprocessBlock), preprocess | rest.pop("corrections", {}))
    data = {"campaign": {"scans": ["*"]}, "input": rest.pop("known", {}), "preprocess": preprocess}
    if step == "full_recon":  # of volumes per cm
        data["export_star"] = {"pixel_size_um": rest.pop("pixel_size_um", None)}
    known = Config.model_fields[block].annotation.model_fields  # type: ignore[union-attr]
    data[block] = {key: value for key, value in rest.items() if key in known}
    found = options_of(step, Config.model_validate(data))
    methods = old.get("methods", ())
    if set(EARLIER_METHODS).intersection(methods):  # not what sum finds
        renamed = [_RENAMED.get(name, name) for name in methods]
        found["options"] = {block: found["options"].get(block, {}) | {"methods": renamed}}
    return found
