"""The steps as tests call them: options by name, each put into its block."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from tomopipe.config import (
    ExportStarBlock,
    FullReconBlock,
    InputBlock,
    InventoryBlock,
    PredictCorBlock,
    PreprocessBlock,
    StepOptions,
    StitchBlock,
    TryReconBlock,
)
from tomopipe.resources.memory import Resources
from tomopipe.scans.exchange import RawScan
from tomopipe.steps.export_stack import export_stack as _export_stack
from tomopipe.steps.export_star import export_star as _export_star
from tomopipe.steps.full_recon import full_recon as _full_recon
from tomopipe.steps.inventory import inventory as _inventory
from tomopipe.steps.predict_cor import predict_cor as _predict_cor
from tomopipe.steps.stitch import stitch as _stitch
from tomopipe.steps.stitch_time import stitch_time as _stitch_time
from tomopipe.steps.try_recon import TryFiles
from tomopipe.steps.try_recon import try_recon as _try_recon

TRY_FILES = ("try.tif", "try.json", "rows.h5")


def _plain(value: Any) -> Any:
    """Return a value as YAML gives it."""
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        return value.item()
    return str(value) if isinstance(value, Path) else value


def block(model: Any, options: dict[str, Any], **more: Any) -> Any:
    """Take the options of a block out of all."""
    of_block = {key: options.pop(key) for key in list(options) if key in model.model_fields}
    return model(**{key: _plain(value) for key, value in (of_block | more).items()})


def raw_of(path: Any, options: dict[str, Any]) -> RawScan:
    """Take what concerns the raw scan out of all options: also `known` and `corrections`."""
    known = {key: _plain(value) for key, value in (options.pop("known", None) or {}).items()}
    return RawScan(
        path,
        InputBlock(**known),
        block(PreprocessBlock, options, **(options.pop("corrections", None) or {})),
        name=options.pop("scan", ""),
        partial=options.pop("partial", False),
    )


def _resources(options: dict[str, Any]) -> Resources:
    keys = ("threads", "memory_bytes", "scratch")
    return Resources(*(options.pop(key, None) for key in keys))


def full_recon(raw: Any, volume: Any, *, cor_px: float, source: Any = None, **options: Any) -> str:
    """Reconstruct a volume; pixel_size_um is that of attenuation per cm."""
    given = raw_of(raw, options)
    full, resources = block(FullReconBlock, options), _resources(options)
    cor = {"cor_px": cor_px, "source": source}
    options = {"pixel_size_um": None, "provenance": None, "voxels_of": None} | options
    return _full_recon(given, volume, cor, full, resources=resources, **options)


def volume_of(raw: Any, volume: Any, **options: Any) -> Any:
    """Reconstruct an HDF5 volume; return its stored numbers."""
    full_recon(raw, volume, **options)
    with h5py.File(volume) as file:
        return file["exchange/data"][()]


def try_recon(raw: Any, stack: Any, sweep: Any, rows: Any, **options: Any) -> dict[str, Any]:
    """Make a sweep."""
    given = raw_of(raw, options)
    grid, resources = block(TryReconBlock, options), _resources(options)
    files, options = TryFiles(stack, sweep, rows), {"made_from": None} | options
    return _try_recon(given, files, grid, resources=resources, **options)


def export_stack(raw: Any, stack: Any, meta: Any, **options: Any) -> dict[str, Any]:
    """Export a stack."""
    given = raw_of(raw, options)
    export = block(ExportStarBlock, options)
    options = {"least_binning": None, "made_from": None, "pixels_of": None} | options
    return _export_stack(given, stack, meta, export, **options)


def export_star(metas: Any, stacks: Any, cor: Any, output: Any, **options: Any) -> None:
    """Export a set."""
    usual = {"hand": -1, "half_acquisition": {}, "volumes": {}, "other_rows": ()}
    _export_star(metas, stacks, cor, output, **(usual | options))


def stitch(volumes: Any, volume: Any, shifts: Any, *, scans: Any, **options: Any) -> dict[str, Any]:
    """Stitch volumes."""
    stitching, stored = block(StitchBlock, options), block(FullReconBlock, options)
    named = dict(zip(scans, volumes, strict=True))
    options = {"made_from": None, "voxels_of": None} | options
    return _stitch(named, volume, shifts, stitching, stored, **options)


def stitch_time(volumes: Any, volume: Any, table: Any, **options: Any) -> dict[str, Any]:
    """Make a volume in time, of volumes by scan."""
    options = {"times_s": {}, "made_from": None, "stack": "growth"} | options
    return _stitch_time(volumes, volume, table, block(FullReconBlock, options), **options)


def inventory(entries: Any, output: Any, **options: Any) -> list[dict[str, Any]]:
    """Look at raw files."""
    raw = raw_of("", options)
    judged = block(InventoryBlock, options)
    assert not options
    given = StepOptions(inventory=judged, input=raw.input, preprocess=raw.preprocess)
    return _inventory(entries, output, given)


def predict_cor(rows: Any, sweep: Any, prediction: Any, center: Any, **options: Any) -> Any:
    """Predict a COR."""
    methods = block(PredictCorBlock, options)
    options = {"used": None, "made_from": None, "is_rewritten": lambda path: False} | options
    return _predict_cor(rows, sweep, prediction, center, methods, **options)


def try_in(folder: Path, raw: Any, **options: Any) -> dict[str, Any]:
    """Make a sweep whose files lie in a folder."""
    return try_recon(raw, *(folder / name for name in TRY_FILES), **options)


def predict_in(folder: Path, **options: Any) -> Any:
    """Predict a COR from the files of `try_in`."""
    names = ("rows.h5", "try.json", "prediction.json", "center_of_rotation.txt")
    return predict_cor(*(folder / name for name in names), **options)
