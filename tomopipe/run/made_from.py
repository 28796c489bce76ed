"""Statements: what each result is made from; stored in the result, compared to decide reruns.

A statement is a mapping of JSON values: the step, its revision, the content of the raw files, the
results of earlier steps, and the effective options (`tomopipe.config.effective`). Results with
equal statements are equal, so a result is remade if, and only if, its statement is not the wanted
one.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tomopipe.campaign.campaign import Campaign
from tomopipe.config import Config
from tomopipe.config.effective import effective, plain
from tomopipe.run.products import digest
from tomopipe.steps.revisions import REVISIONS

Statement = dict[str, Any]

MAKER = "tomopipe"
ALSO_READ = "also_read"
"""Files of values alone that an HDF5 file names, and what flats and darks of other files take data
from. Statements of earlier versions lack them; where nothing else differs, the result stays."""
# keys of `input` that change voxels only through phase retrieval and attenuation per cm
_NUMBERS = ("pixel_size_um", "energy_kev", "distance_mm")
_METADATA = {
    "try_recon": (),
    "full_recon": ("pixel_size_um",),
    "export_stack": ("pixel_size_um", "energy_kev"),
}


def as_text(statement: Mapping[str, Any]) -> str:
    """Return a statement as stored in a result."""
    return json.dumps({"maker": MAKER, **statement}, sort_keys=True, allow_nan=False)


def _statement(step: str, **parts: Any) -> Statement:
    return {"step": step, "revision": REVISIONS[step], **parts}


def of_inventory(campaign: Campaign, raw: Mapping[str, str]) -> Statement:
    """State what the inventory is made from; `raw` identifies the content of each file."""
    keys = ("scan", "path", "series", "index", "reason")
    entries = [
        {key: entry[key] for key in keys} | _own_options(campaign, entry)
        for entry in campaign.inventory_entries()
    ]
    options = _looked_for(campaign.config) | _block("inventory", campaign.config)
    # `look_again` as in statements of earlier versions
    return _statement("inventory", entries=entries, raw=dict(raw), options=options, look_again="")


def _own_options(campaign: Campaign, entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return the inventory's options of one scan that differ from the campaign's."""
    if entry["reason"] or campaign.for_scan(entry["scan"]) is campaign:
        return {}
    looked_for = _looked_for(campaign.for_scan(entry["scan"]).config)
    return {"options": looked_for} if looked_for != _looked_for(campaign.config) else {}


def _looked_for(config: Any) -> dict[str, Any]:
    found = effective(config.preprocess)
    sources = {key: found[key] for key in ("flats", "darks") if key in found}
    return _block("input", config) | ({"preprocess": sources} if sources else {})


def of_reading(step: str, campaign: Campaign, scan: str, raw: Sequence[str]) -> Statement:
    """State what try_recon, full_recon or export_stack makes its results of a scan from."""
    for_scan = campaign.for_scan(scan)
    if step not in for_scan.effective:  # once for all scans of one configuration
        for_scan.effective[step] = reading_options(step, for_scan.config)
    options, metadata = for_scan.effective[step]
    return _statement(step, raw=list(raw), options=options, metadata=metadata)


def of_predict_cor(campaign: Campaign, rows: str, networks: Mapping[str, str]) -> Statement:
    """State what a prediction is made from: digest of rows.h5's statement, content of networks."""
    block = campaign.config.predict_cor
    options = used_options(effective(block), block.methods)
    options = {"predict_cor": options} if options else {}
    return _statement("predict_cor", rows=rows, options=options, networks=dict(networks))


def of_fix_cor(
    campaign: Campaign, members: Sequence[Mapping[str, Any]], predictions: Mapping[str, Any]
) -> Statement:
    """State what the table of a series is made from: members, and content of their predictions."""
    parts = {"members": list(members), "predictions": dict(predictions)}
    return _statement("fix_cor", **parts, options=_block("fix_cor", campaign.config))


def of_resolve_cor(campaign: Campaign) -> Statement:
    """State the options of cor.json; its content is compared directly with the fix tables."""
    return _statement("resolve_cor", options=_block("resolve_cor", campaign.config))


def of_export_star(
    options: Mapping[str, Any], resolved: Mapping[str, Any], metas: Mapping[str, str]
) -> Statement:
    """State what the tomogram set is made from: the CORs, and the content of each stack's JSON.

    `options` are from `tomopipe.run.relion_set.star_options`.
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
    metadata = {scan: stated for scan, volume in volumes.items() if (stated := volume["metadata"])}
    also_read = {scan: volume[ALSO_READ] for scan, volume in volumes.items() if ALSO_READ in volume}
    return _statement(
        "stitch",
        scans=list(volumes),
        volumes=[
            digest(without_also_read(volume) | {"metadata": {}}) for volume in volumes.values()
        ],
        options=({"stitch": options} if options else {}) | stored,
        **({"metadata": metadata} if metadata else {}),
        **({ALSO_READ: also_read} if also_read else {}),
    )


def of_report(campaign: Campaign, shown: Mapping[str, str]) -> Statement:
    """State what the report is made from: content or statement of each result."""
    name, options = campaign.config.campaign.name, _block("report", campaign.config)
    return _statement("report", name=name, shown=dict(shown), options=options)


def without_also_read(statement: Mapping[str, Any]) -> Statement:
    """Return what an earlier version stated."""
    return {key: value for key, value in statement.items() if key != ALSO_READ}


def of_text(content: str) -> Statement:
    """State a result that is made from a text only."""
    return {"content": content}


def _block(name: str, config: Any) -> dict[str, Any]:
    found = effective(getattr(config, name))
    return {name: found} if found else {}


def reading_options(step: str, config: Config) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the effective options of a step that reads scans, and separately those of metadata."""
    metadata: dict[str, Any] = {}
    read = effective(config.input)
    per_cm = step == "full_recon" and config.full_recon.unit == "per_cm"
    for key in _NUMBERS if config.preprocess.phase.method == "none" else ():
        if key in read and not (per_cm and key == "pixel_size_um"):
            value = read.pop(key)
            metadata |= {f"input.{key}": value} if key in _METADATA[step] else {}
    preprocess = effective(config.preprocess)
    options = effective(getattr(config, "export_star" if step == "export_stack" else step))
    if step == "export_stack":
        # half acquisition widens slices, not projections; the other keys belong to the star file
        preprocess.pop("half_acquisition", None)
        if config.export_star.binning != "auto":
            options.pop("max_stack_gb", None)
        options.pop("enabled", None)
        options.pop("hand", None)
        metadata |= {f"export_star.{k}": options.pop(k) for k in _METADATA[step] if k in options}
    blocks = {"input": read, "preprocess": preprocess}
    blocks["export_star" if step == "export_stack" else step] = options
    if per_cm and config.export_star.pixel_size_um is not None:
        blocks["export_star"] = {"pixel_size_um": plain(config.export_star.pixel_size_um)}
    return {name: block for name, block in blocks.items() if block}, metadata


def used_options(options: Mapping[str, Any], methods: Sequence[str]) -> dict[str, Any]:
    """Return options of predict_cor without those of unused methods."""
    needs = {"model": "ai", "dinov2_checkpoint": "dinov2"}
    idle = {key for key, method in needs.items() if method not in methods}
    return {key: value for key, value in options.items() if key not in idle}


def read(path: Path) -> Statement | None:
    """Read the statement in a JSON file of ours; None if there is none, an error if not JSON."""
    record = json.loads(path.read_text(encoding="utf-8"))
    found = record.get("made_from") if isinstance(record, dict) else None
    return found if isinstance(found, dict) else None
