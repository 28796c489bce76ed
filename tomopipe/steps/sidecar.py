"""Write the COR of a scan, and its source, beside its data."""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from tomopipe.campaign.files import CONFIG
from tomopipe.errors import TomopipeError, some_of
from tomopipe.storage.atomic import remove_stale, take_away, why_not_replaced, write_json
from tomopipe.storage.json_files import json_or

_N_NAMED = 3  # faults in an error


def sidecars(arguments: Mapping[str, Mapping[str, Any]]) -> None:
    """Write sidecars, the arguments of each by its path; the others are not touched.

    Raises TomopipeError at the end if some cannot be written.
    """
    remove_stale(*arguments)  # beside the data they are not removed with a run
    faults = []
    for path, each in arguments.items():
        if fault := why_not_replaced(os.path.abspath(path)):
            faults.append(fault)
        else:
            sidecar(path, **each)
    if faults:
        raise TomopipeError(some_of(faults, _N_NAMED))


def sidecar(
    output: str | os.PathLike[str],
    *,
    content: str,
    parameters: Mapping[str, Any],
    in_results: str | os.PathLike[str],
) -> None:
    """Write the sidecar of one scan, of the campaign in the working directory.

    `content`: its facts, as JSON. `parameters` are the options when these
    facts were established; an option that changes no fact rewrites no sidecar. `in_results` is its
    path if the folder of the data cannot be written; an old sidecar there is removed, as an import
    would bring back its COR.
    """
    about = {"campaign": os.getcwd(), "parameters": dict(parameters)}
    write_json(json.loads(content) | about, output)
    if os.path.realpath(in_results) != os.path.realpath(output):
        with suppress(OSError):  # may belong to another user
            take_away(in_results)


def owner(path: str | os.PathLike[str]) -> str | None:
    """Return the campaign folder that a sidecar names; None without a name or a sidecar."""
    content = json_or(path, {})
    return str(content["campaign"]) if "campaign" in content else None


def other_owner(path: str, folder: Path) -> str | None:
    """Return the folder that a sidecar outside the campaign's `folder` names, if it is another."""
    named = owner(folder / path) if is_outside(path) else None
    is_ours = named is None or (os.path.exists(named) and os.path.samefile(named, folder))
    return None if is_ours else named


def is_outside(path: str) -> bool:
    """Tell whether a file does not lie in the campaign folder."""
    return os.path.isabs(path) or os.path.normpath(path).startswith("..")


def place(path: str, in_results: str, folder: Path) -> str:
    """Return `path`, beside the data, unless another campaign wrote a sidecar there."""
    if path == in_results or (other := other_owner(path, folder)) is None:
        return path
    # of another campaign, or of this one before it was moved; ours may be in results
    is_theirs = is_campaign(other, folder) or (folder / in_results).exists()
    return in_results if is_theirs else path


def is_campaign(folder: str, other: str | os.PathLike[str]) -> bool:
    """Tell whether a folder is a campaign other than `other`."""
    try:
        return not os.path.samefile(folder, other) and Path(folder, CONFIG).exists()
    except (OSError, ValueError):  # ValueError: a NUL character
        return False
