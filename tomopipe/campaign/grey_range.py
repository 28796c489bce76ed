"""`full_recon.value_range: campaign`: one range of integer volumes, from the sweeps of all scans.

It is measured when the first volumes are due, and frozen in results/value_range.json, so that later
scans remake no earlier volume. It is measured anew when the file is deleted, or when number type,
unit or corrections change, which remake all volumes anyway.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tomopipe.campaign.results import InventoryRows
from tomopipe.config import Config
from tomopipe.config.base import effective
from tomopipe.errors import TomopipeError
from tomopipe.storage.atomic import write_json
from tomopipe.storage.json_files import json_or

if TYPE_CHECKING:
    from tomopipe.campaign.campaign import Campaign

# scans, as shares, whose sweeps are darker or brighter than the range: some broken ones
_OUTLIERS = 0.02

Frozen = Mapping[str, Any]
"""Content of the file: `value_range`, `n_scans`, and `of`: what it is valid for."""


def is_open(config: Config) -> bool:
    """Tell whether volumes need a range of the campaign that the configuration does not have."""
    return config.full_recon.value_range == "campaign" and config.integer_dtype is not None


def with_frozen(config: Config, path: Path) -> Config:
    """Return the configuration with the frozen range, if it needs one and the file has it."""
    if not is_open(config):
        return config
    frozen = json_or(path, {})
    return with_range(config, frozen) if frozen.get("of") == _valid_for(config) else config


def with_range(config: Config, frozen: Frozen) -> Config:
    """Return the configuration with a range."""
    full = config.full_recon.model_copy(update={"value_range": [*frozen["value_range"]]})
    return config.model_copy(update={"full_recon": full})


def measure(campaign: "Campaign", rows: InventoryRows) -> Frozen | None:
    """Return the range of all selected scans that have a sweep with the present corrections.

    None if no scan has one. The darkest and the brightest `_OUTLIERS` of the scans do not count.
    """
    from tomopipe.volumes.encoding import widened  # NumPy: not when a run begins

    windows = [
        window
        for scan in campaign.selected_scans(rows)
        if (window := _window(campaign.for_scan(scan), scan, rows[scan]))
    ]
    if not windows:
        return None
    n_outliers = int(_OUTLIERS * len(windows))
    low = sorted(low for low, _ in windows)[n_outliers]
    high = sorted(high for _, high in windows)[-1 - n_outliers]
    value_range = [*widened(low, high, campaign.config.integer_dtype or "")]
    return {"value_range": value_range, "n_scans": len(windows), "of": _valid_for(campaign.config)}


def with_new(campaign: "Campaign", rows: InventoryRows) -> "tuple[Campaign, Frozen | None]":
    """Return the campaign with its range, and the range if it is measured now.

    A TomopipeError if no scan has a sweep.
    """
    config = with_frozen(campaign.config, campaign.files.value_range)
    if not is_open(config):
        return replace(campaign, config=config), None
    frozen = measure(campaign, rows)
    if frozen is None:
        raise TomopipeError(
            "full_recon.value_range: campaign is measured on sweeps, but no selected scan has one "
            "with the present corrections. Make sweeps (predict_cor.when: always), or set "
            "[low, high]."
        )
    return replace(campaign, config=with_range(config, frozen)), frozen


def freeze(campaign: "Campaign", frozen: Frozen | None) -> None:
    """Write a range, if it is a new one."""
    if frozen:
        write_json(frozen, campaign.files.value_range)


def _window(campaign: "Campaign", scan: str, row: Mapping[str, str]) -> tuple[float, float] | None:
    """Return the grey window of a sweep in the unit of volumes; None without a valid sweep."""
    config, sweep = campaign.config, json_or(campaign.files.sweep(scan), {})
    options = (sweep.get("made_from") or {}).get("options", {})
    if not sweep.get("window") or options.get("preprocess", {}) != effective(config.preprocess):
        return None
    low, high = map(float, sweep["window"])
    if config.full_recon.unit == "per_pixel":
        return low, high
    if not (size_um := config.volume_pixel_size_um or float(row.get("pixel_size_um") or 0)):
        return None  # which the job of its volume reports
    from tomopipe.geometry import pixels_per_cm  # NumPy

    factor = pixels_per_cm(size_um)
    return low * factor, high * factor


def _valid_for(config: Config) -> dict[str, Any]:
    full = config.full_recon
    return {
        "dtype": config.integer_dtype,
        "unit": full.unit,
        "preprocess": effective(config.preprocess),
    }
