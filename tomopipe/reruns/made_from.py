"""Statements: what each result is made from; stored in the result, compared to decide reruns.

A statement is a mapping of JSON values: the step, its revision, the content of the raw files, the
results of earlier steps, and the effective options (`tomopipe.config.base`).
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tomopipe.campaign.campaign import Campaign
from tomopipe.campaign.reading import inventory_entries
from tomopipe.config import Config
from tomopipe.config.base import effective, plain
from tomopipe.config.blocks import NUMBERS
from tomopipe.reruns.receipts import digest
from tomopipe.steps import REVISIONS

Statement = dict[str, Any]

ALSO_READ = "also_read"
"""External raw-data files of HDF5 datasets, and the files that flats and darks elsewhere take data
from."""
METADATA: dict[str, tuple[str, ...]] = {
    "try_recon": (),
    "full_recon": ("pixel_size_um",),
    "export_stack": ("pixel_size_um", "energy_kev"),
}
"""The steps that read scans, and their keys that are only metadata."""


def as_text(statement: Mapping[str, Any]) -> str:
    """Return a statement as stored in a result."""
    return json.dumps({"maker": "tomopipe", **statement}, sort_keys=True, allow_nan=False)


def _statement(step: str, **parts: Any) -> Statement:
    return {"step": step, "revision": REVISIONS[step], **parts}


def of_step(step: str, campaign: Campaign, **parts: Any) -> Statement:
    """State what a step makes its result from: these parts, and its options."""
    return _statement(step, **parts, **_options_once(step, campaign))


def of_inventory(campaign: Campaign, raw: Mapping[str, str]) -> Statement:
    """State what the inventory is made from; `raw` identifies the content of each file."""
    keys, entries = ("scan", "path", "series", "index", "reason"), []
    for entry in inventory_entries(campaign):
        entries.append({key: entry[key] for key in keys})
        for_scan = campaign if entry["reason"] else campaign.for_scan(entry["scan"])
        if for_scan is not campaign:
            extra = _inventory_options(for_scan.config)
            if extra != _inventory_options(campaign.config):
                entries[-1]["options"] = extra
    return of_step("inventory", campaign, entries=entries, raw=dict(raw))


def _inventory_options(config: Config) -> dict[str, Any]:
    preprocess = effective(config.preprocess)
    files = {key: value for key, value in preprocess.items() if key in ("flats", "darks")}
    return _without_empty({"input": effective(config.input), "preprocess": files})


def of_reading(step: str, campaign: Campaign, scan: str, raw: Sequence[str]) -> Statement:
    """State what try_recon, full_recon or export_stack makes its results of a scan from."""
    return _statement(step, raw=list(raw), **_options_once(step, campaign.for_scan(scan)))


def of_export_star(
    options: Mapping[str, Any], resolved: Mapping[str, Any], metas: Mapping[str, str]
) -> Statement:
    """State what the tomogram set is made from: the CORs, and the content of each stack's JSON.

    `options` are from `tomopipe.campaign.relion_set.star_options`.
    """
    return _statement("export_star", cor=dict(resolved), metas=dict(metas), options=dict(options))


def of_stitch(campaign: Campaign, volumes: Mapping[str, Statement]) -> Statement:
    """State what a stitched volume is made from: the statements of its volumes, in order."""
    options = effective(campaign.config.stitch)
    options.pop("stacks", None)
    full = effective(campaign.config.full_recon)
    stored = {
        key: full[key] for key in ("output", "compression", "dtype", "value_range") if key in full
    }
    parts = {
        name: {scan: volume[name] for scan, volume in volumes.items() if volume.get(name)}
        for name in ("metadata", ALSO_READ)
    }
    return _statement(
        "stitch",
        scans=list(volumes),
        volumes=[digest(without_also_read(v) | {"metadata": {}}) for v in volumes.values()],
        options=({"stitch": options} if options else {}) | stored,
        **_without_empty(parts),
    )


def of_report(campaign: Campaign, shown: Mapping[str, str]) -> Statement:
    """State what the report is made from: content or statement of each result."""
    name = campaign.config.campaign.name
    return of_step("report", campaign, name=name, shown=dict(shown))


def without_also_read(statement: Mapping[str, Any]) -> Statement:
    """Return a statement without `also_read`, which a stitched volume lists separately."""
    return {key: value for key, value in statement.items() if key != ALSO_READ}


def _options_once(step: str, campaign: Campaign) -> dict[str, Any]:
    """Return the `options_of` a step, computed once for all scans of one configuration."""
    if step not in campaign.effective:
        campaign.effective[step] = options_of(step, campaign.config)
    return campaign.effective[step]


def options_of(step: str, config: Config) -> dict[str, Any]:
    """Return the `options` of a step by block; for steps that read scans also the `metadata`."""
    if step in METADATA:
        return _reading_options(step, config)
    options = effective(getattr(config, step))
    if step == "predict_cor":  # without those of unused methods
        for key, method in {"model": "ai", "dinov2_checkpoint": "dinov2"}.items():
            if method not in config.predict_cor.methods:
                options.pop(key, None)
    extra = _inventory_options(config) if step == "inventory" else {}
    return {"options": extra | _without_empty({step: options})}


def _without_empty(blocks: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    return {name: block for name, block in blocks.items() if block}


def block_of(step: str) -> str:
    """Return the block with the options of a step."""
    return "export_star" if step == "export_stack" else step


def _reading_options(step: str, config: Config) -> dict[str, Any]:
    metadata: dict[str, Any] = {}
    read, preprocess = effective(config.input), effective(config.preprocess)
    options = effective(getattr(config, block_of(step)))
    per_cm = step == "full_recon" and config.full_recon.unit == "per_cm"
    for key in NUMBERS if config.preprocess.phase.method == "none" else ():
        if key in read and not (per_cm and key == "pixel_size_um"):
            value = read.pop(key)
            metadata |= {f"input.{key}": value} if key in METADATA[step] else {}
    if step == "export_stack":
        # half acquisition widens slices, not projections; the other keys belong to the star file
        preprocess.pop("half_acquisition", None)
        if config.export_star.binning != "auto":
            options.pop("max_stack_gb", None)
        options.pop("enabled", None)
        options.pop("hand", None)
        metadata |= {f"export_star.{k}": options.pop(k) for k in METADATA[step] if k in options}
    blocks = {"input": read, "preprocess": preprocess, block_of(step): options}
    if per_cm and config.export_star.pixel_size_um is not None:
        blocks["export_star"] = {"pixel_size_um": plain(config.export_star.pixel_size_um)}
    return {"options": _without_empty(blocks), "metadata": metadata}


def table_shown(campaign: Campaign) -> str:
    """Return a digest of the cells of the campaign table that the report shows."""
    rows = [(row.scan, row.select, row.cor.text) for row in campaign.table_rows]
    return digest({"rows": [row for row in rows if row[1:] != ("auto", "")]})
