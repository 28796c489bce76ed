"""The options of each step that change its results, as results state them."""

from collections.abc import Mapping
from typing import Any

from tomopipe.config.base import effective, plain
from tomopipe.config.blocks import NUMBERS
from tomopipe.config.parse import Config
from tomopipe.workflow_steps import READING_STEPS, STEPS


def options_of(step: str, config: Config) -> dict[str, Any]:
    """Return the `options` of a step by block; for steps that read scans also the `metadata`."""
    if step in READING_STEPS:
        return _reading_options(step, config)
    options = effective(getattr(config, step))
    if step == "predict_cor":  # without those of unused methods
        for key, method in {"model": "ai", "dinov2_checkpoint": "dinov2"}.items():
            if method not in config.predict_cor.methods:
                options.pop(key, None)
    extra = inventory_options(config) if step == "inventory" else {}
    return {"options": extra | without_empty({step: options})}


def inventory_options(config: Config) -> dict[str, Any]:
    """Return the options by which the inventory reads a scan."""
    preprocess = effective(config.preprocess)
    files = {key: value for key, value in preprocess.items() if key in ("flats", "darks")}
    return without_empty({"input": effective(config.input), "preprocess": files})


def _reading_options(step: str, config: Config) -> dict[str, Any]:
    metadata: dict[str, Any] = {}
    block, only_metadata = STEPS[step].block, STEPS[step].metadata
    read, preprocess = effective(config.input), effective(config.preprocess)
    options = effective(getattr(config, block))
    per_cm = step == "full_recon" and config.full_recon.unit == "per_cm"
    for key in NUMBERS if config.preprocess.phase.method == "none" else ():
        if key in read and not (per_cm and key == "pixel_size_um"):
            value = read.pop(key)
            metadata |= {f"input.{key}": value} if key in only_metadata else {}
    if step == "export_stack":
        # half acquisition widens slices, not projections; the other keys belong to the star file
        preprocess.pop("half_acquisition", None)
        if config.export_star.binning != "auto":
            options.pop("max_stack_gb", None)
        options.pop("enabled", None)
        options.pop("hand", None)
        metadata |= {f"export_star.{k}": options.pop(k) for k in only_metadata if k in options}
    blocks = {"input": read, "preprocess": preprocess, block: options}
    if per_cm and config.export_star.pixel_size_um is not None:
        blocks["export_star"] = {"pixel_size_um": plain(config.export_star.pixel_size_um)}
    return {"options": without_empty(blocks), "metadata": metadata}


def without_empty(blocks: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the blocks that have options."""
    return {name: block for name, block in blocks.items() if block}
