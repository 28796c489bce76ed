"""The whole set for RELION: its binning, options that differ between scans, assumed numbers."""

import json
import os
from collections.abc import Collection, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tomopipe.campaign.failures import failed_stack
from tomopipe.campaign.files import BINNING
from tomopipe.campaign.results import InventoryRows, read_inventory
from tomopipe.config.step_blocks import ASSUMED
from tomopipe.errors import TomopipeError, scans_named
from tomopipe.paths import no_pipe
from tomopipe.storage.atomic import write_json
from tomopipe.storage.json_files import json_or

if TYPE_CHECKING:
    from tomopipe.campaign.campaign import Campaign  # slow to load

# of `input`: they change the size of a stack
_SIZE_KEYS = {"average", "columns", "every", "skip_angles", "skip_projections"}
_STAR_KEYS = {"max_stack_gb", "rows", "max_tilts"}


def campaign_binning(campaign: "Campaign") -> dict[str, Any] | None:
    """Return the content of binning.json, or the content to write if there is none.

    The binning is decided once, when the first stack is made: the smallest that keeps the stacks of
    all scans with a COR under `max_stack_gb`; a later scan may need a larger one. All jobs of a run
    get the same number from the same two tables. It is decided again if an option changes by which
    all stacks are made again.

    Returns `binning`, and the `options` and the number of `scans` from which it was decided; None
    if the binning is configured, or a table is missing.
    """
    if campaign.config.export_star.binning != "auto":
        return None
    options = binning_options(campaign)
    decided = read_binning(campaign.files.in_relion(BINNING))
    if decided is not None and decided["options"] == options:
        return decided
    try:
        tables = campaign.files.inventory, campaign.files.cor_table
        return _proposed(campaign, *(os.stat(table).st_mtime_ns for table in tables))
    except (OSError, ValueError, TomopipeError):
        return None


@lru_cache(maxsize=2)
def _proposed(campaign: "Campaign", *_mtimes_ns: int) -> dict[str, Any] | None:
    """Return the binning for all scans; cached, as every job needs it."""
    rows = read_inventory(campaign.files.inventory)
    cors = json.loads(no_pipe(campaign.files.cor_table).read_text(encoding="utf-8"))
    names = [scan for scan in sorted(cors) if scan in rows]
    needed = _needed(campaign, rows, [s for s in names if campaign.is_selected(s, rows[s])])
    if not needed:
        return None
    options = binning_options(campaign)
    return {"binning": max(needed.values()), "options": options, "scans": len(needed)}


def binning_options(campaign: "Campaign") -> dict[str, Any]:
    """Return the options that determine the size of a stack, for all scans."""
    config = campaign.config
    star = config.export_star.model_dump(include=_STAR_KEYS)
    return star | config.input.model_dump(include=_SIZE_KEYS, exclude_defaults=True)


def star_options(campaign: "Campaign", scans: Collection[str]) -> dict[str, Any]:
    """Return the options of `tomopipe.steps.export_star` for a set, with scans that differ."""
    star = campaign.config.export_star
    configs = {scan: campaign.for_scan(scan).config for scan in sorted(scans)}
    modes = {
        scan: config.full_recon.half_acquisition(config.preprocess.half_acquisition)
        for scan, config in configs.items()
    }
    unusual = {
        "half_acquisition": {scan: mode for scan, mode in modes.items() if mode != "auto"},
        "other_rows": [s for s, config in configs.items() if config.full_recon.rows != star.rows],
    }
    return {"hand": star.hand} | {key: value for key, value in unusual.items() if value}


def assumed_numbers(campaign: "Campaign", rows: InventoryRows) -> dict[str, list[str]]:
    """Return warnings about numbers that neither file nor configuration has."""
    result: dict[str, list[str]] = {}
    for scan in campaign.selected_scans(rows) if campaign.makes_star else []:
        star = campaign.for_scan(scan).config.export_star
        for name, value in ASSUMED.items():
            if getattr(star, name) is None and rows[scan].get(name) == "":
                text = f"{name} is unknown: {value:g} assumed for RELION. Set export_star.{name}"
                result.setdefault(text, []).append(scan)
    return result


def note_lines(notes: Mapping[str, list[str]]) -> list[str]:
    """Return a line for each warning, with its scans."""
    return [f"{scans_named(scans)}: {note}" for note, scans in notes.items()]


def failed_stacks(campaign: "Campaign", scans: Collection[str]) -> dict[str, str]:
    """Return why stacks could not be made.

    Parameters
    ----------
    campaign : Campaign
        Whose records of failures are read.
    scans : collection of str
        Those of which the set has, or should have, stacks.

    Returns
    -------
    dict of str to str
        The reasons, by scan; none of those that have a stack or are still to have one.
    """
    if not campaign.makes_star:
        return {}
    result = {scan: failed_stack(campaign.paths, scan) for scan in sorted(scans)}
    return {scan: reason for scan, reason in result.items() if reason}


def _needed(campaign: "Campaign", rows: InventoryRows, scans: list[str]) -> dict[str, int]:
    """Return the smallest binning of each scan, without scans too large at any binning."""
    from tomopipe.volumes.output_size import StackGeometry, smallest_binning

    limit_bytes = int(campaign.config.export_star.max_stack_gb * 1e9)
    needed = {}
    for scan in scans:
        n_images, n_rows, n_cols = stack_shape(campaign, rows[scan])
        binning = smallest_binning(n_images, n_rows, n_cols, limit_bytes)
        if StackGeometry(n_cols, n_rows, binning).cols >= 2:
            needed[scan] = binning
    return needed


def stack_shape(campaign: "Campaign", row: Mapping[str, str]) -> tuple[int, int, int]:
    """Return images, detector rows and columns of a scan's stack before binning."""
    star = campaign.config.export_star
    n_images, n_rows, n_cols = (int(row[key]) for key in ("n_angles", "n_rows", "n_cols"))
    columns = campaign.for_scan(row["scan"]).config.input.columns
    if star.max_tilts != "all":
        n_images = min(n_images, star.max_tilts)
    if not isinstance(star.rows, str):
        n_rows = min(n_rows, star.rows[1] + 1) - star.rows[0]
    if not isinstance(columns, str):
        n_cols = min(n_cols, columns[1] + 1) - columns[0]
    return n_images, max(0, n_rows), max(0, n_cols)


def decide_binning(
    path: str | os.PathLike[str], binning: int | Literal["auto"], proposed: Mapping[str, Any] | None
) -> int | None:
    """Store the binning of the campaign in binning.json, before the first stack is made.

    `proposed` is from `campaign_binning`, the same for all jobs of a run. If `binning` is a number,
    there is no decision, and an old one is removed.

    Returns the smallest binning of a stack; None: decided for each scan.
    """
    path = Path(path)
    if binning != "auto":
        path.unlink(missing_ok=True)
        return None
    if proposed is None:
        return None
    if read_binning(path) != proposed:
        write_json(dict(proposed), path)
    return int(proposed["binning"])


def read_binning(path: str | os.PathLike[str]) -> dict[str, Any] | None:
    """Read binning.json; None if it is missing or has another form."""
    content = json_or(path, {})
    is_number = isinstance(content.get("binning"), int)
    return content if is_number and content["binning"] >= 1 and "options" in content else None
