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
from pathlib import Path
from typing import Any

from tomopipe.campaign.files import COR_TABLE
from tomopipe.config import Config, PreprocessBlock
from tomopipe.config.blocks import EARLIER_METHODS
from tomopipe.config.effective import baselines, effective
from tomopipe.config.model import merged
from tomopipe.storage.json_files import json_or

_SAME_TIME_S = 1.0
_HALF_AND_MORE_DEG = 270
_LONGEST = 254  # length of a name in Snakemake's record
_RENAMED = {"pairs": "registration"}
_PREPROCESS = ("flats", "darks", "minus_log", "half_acquisition")


def recorded(directory: Path, output: str) -> dict[str, Any] | None:
    """Return Snakemake's record of the job that made an output; None if there is none.

    The output is named as in the rule.
    """
    name = urlsafe_b64encode(output.encode("utf-8", "surrogateescape")).decode()
    parts = [name[at : at + _LONGEST] for at in range(0, len(name), _LONGEST)]
    path = Path(
        directory, ".snakemake", "metadata", *(f"@{part}" for part in parts[:-1]), parts[-1]
    )
    record = json_or(path, {})
    return record if not record.get("incomplete") and "params" in record else None


def statement(
    record: Mapping[str, Any],
    step: str,
    wanted: Mapping[str, Any],
    directory: Path,
    output: str,
    raw: str,
) -> dict[str, Any] | None:
    """Translate Snakemake's record into a statement like the wanted one.

    Parameters
    ----------
    record : mapping
        From `recorded`.
    step : str
        Name of the step.
    wanted : mapping
        The statement that the result should have. What the record does not show (raw files of equal
        size, existing results of earlier steps) is assumed to be as wanted.
    directory : Path
        The campaign folder.
    output, raw : str
        The result, and the raw file of the scan, for steps that read one.

    Returns
    -------
    dict or None
        None if the record is not of that version.
    """
    params = [_value(text) for text in record["params"]]
    revisions = [value for value in params if type(value) is int]
    mappings = [value for value in params if isinstance(value, dict)]
    if any("step" in value or "maker" in value for value in mappings):
        return next(value for value in mappings if "step" in value)  # recorded by a later version
    if not revisions:
        return None
    found = dict(wanted) | {"revision": revisions[0]}
    try:
        same = _same_inputs(record, directory)
        if step in ("try_recon", "full_recon", "export_stack"):
            found["options"], found["metadata"] = _reading_options(step, mappings[0])
            if not (same and _same_raw(record, params, directory / output, directory / raw)):
                found["raw"] = ["of an earlier version, other size or time"]
        elif step == "fix_cor":
            found["members"] = next(value for value in params if isinstance(value, list))
            found["options"] = _of_block(step, mappings[0])
        elif step in ("predict_cor", "report", "resolve_cor"):
            found["options"] = _of_block(step, mappings[0])
        elif step == "export_star":
            found["options"] = {"hand": mappings[0]["hand"]}
            if _is_plain_set(record, directory):
                found["revision"] = wanted["revision"]
        elif step == "inventory":
            found |= _inventory(params, mappings, wanted)
    except (LookupError, OSError, StopIteration, ValueError, TypeError):
        return None
    if step == "full_recon":
        found["cor_px"] = next(value for value in params if isinstance(value, float))
    if not same:
        found["inputs"] = "other content than now"
    return found


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
        try:
            content = Path(directory, name).read_bytes()
        except OSError:
            continue
        if os.path.basename(name) == COR_TABLE and record["rule"] in ("full_recon", "sidecar"):
            continue  # its relevant content is a parameter
        if f"sha256:{hashlib.sha256(content).hexdigest()}" != checksum:
            return False
    return True


def _same_raw(record: Mapping[str, Any], params: list[Any], output: Path, raw: Path) -> bool:
    """Tell whether the raw file has its old size, and was not replaced after the result.

    Times are ignored if the result's own time is not the recorded one: the campaign was then copied
    or restored.
    """
    signature = next((value for value in params if isinstance(value, list)), [])
    try:
        status = os.stat(raw)
    except OSError:
        return False
    if raw.is_dir() or not signature:
        return True
    if signature[0] != status.st_size:
        return False
    old_time = signature[1]
    if old_time is None or old_time == status.st_mtime_ns:
        return True
    made = max(file.stat().st_mtime for file in (output, *output.glob(".snakemake_timestamp")))
    return abs(made - float(record.get("endtime") or 0)) > _SAME_TIME_S


def _is_plain_set(record: Mapping[str, Any], directory: Path) -> bool:
    """Tell whether a tomogram set without optics groups is equivalent: all scans of one kind.

    RELION then gives all of them one group. Sets of full rotations may be narrower than volumes.
    """
    kinds = set()
    for name in record["input"]:
        if name.endswith(COR_TABLE):
            continue
        meta = json.loads(Path(directory, name).read_text(encoding="utf-8"))
        pixel_um, theta_deg = meta["pixel_size_um"]["value"] * meta["binning"], meta["theta_deg"]
        is_full = max(theta_deg) - min(theta_deg) > _HALF_AND_MORE_DEG
        kinds.add((pixel_um, meta["energy_kev"]["value"], is_full))
    return len(kinds) == 1 and not next(iter(kinds))[2]


def _reading_options(step: str, old: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return effective options and metadata from the old parameters of a step that reads scans."""
    from tomopipe.run.made_from import reading_options

    rest = dict(old)
    preprocess = {key: rest.pop(key) for key in _PREPROCESS if key in rest}
    # a key that was not written had its default of that time
    preprocess = merged(baselines(PreprocessBlock), preprocess | rest.pop("corrections", {}))
    block = "export_star" if step == "export_stack" else step
    data = {
        "campaign": {"scans": ["*"]},
        "input": rest.pop("known", {}),
        "preprocess": preprocess,
    }
    if step == "full_recon":  # of volumes per cm
        data["export_star"] = {"pixel_size_um": rest.pop("pixel_size_um", None)}
    known = Config.model_fields[block].annotation.model_fields  # type: ignore[union-attr]
    data[block] = {key: value for key, value in rest.items() if key in known}
    return reading_options(step, Config.model_validate(data))


def _of_block(block: str, old: Mapping[str, Any]) -> dict[str, Any]:
    model = Config.model_fields[block].annotation
    known = {key: value for key, value in old.items() if key in model.model_fields}  # type: ignore[union-attr]
    found = effective(model.model_validate(known))  # type: ignore[union-attr]
    if block == "predict_cor":
        from tomopipe.run.made_from import used_options

        found = used_options(found, known.get("methods", ()))
        if set(EARLIER_METHODS) & set(known.get("methods", ())):  # not what sum finds
            found["methods"] = [_RENAMED.get(name, name) for name in known["methods"]]
    return {block: found} if found else {}


def _inventory(params: list[Any], mappings: list[Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parts of the inventory's statement that the old parameters contain."""
    old = dict(mappings[0])
    options = _of_block("inventory", old)
    read = effective(Config.model_fields["input"].annotation.model_validate(old.get("known", {})))  # type: ignore[union-attr]
    sources = effective(PreprocessBlock(flats=old.get("flats"), darks=old.get("darks")))
    options |= {"input": read} if read else {}
    options |= {"preprocess": sources} if sources else {}
    lists = [value for value in params if isinstance(value, list)]
    entries = next(entries for entries in lists if entries and isinstance(entries[0], dict))
    keys = ("scan", "path", "series", "index", "reason")
    plain = [{key: entry[key] for key in keys} for entry in entries]
    now = [{key: entry[key] for key in keys} for entry in wanted["entries"]]
    return {"options": options} | ({} if plain == now else {"entries": plain})
