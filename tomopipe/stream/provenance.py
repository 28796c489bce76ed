"""Provenance of a volume: parameters, geometry, origin and package versions."""

import os
import platform
from collections.abc import Mapping
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from tomopipe import __version__
from tomopipe.config import InputBlock
from tomopipe.geometry import axis_voxel
from tomopipe.prep.half_acquisition import FACTOR
from tomopipe.scans.exchange import RawScan
from tomopipe.stream.fit_options import VolumeOptions
from tomopipe.stream.recon_task import ReconTask
from tomopipe.volumes.volume_read import HEIGHT, Origin

_PACKAGES = ("numpy", "scipy", "numba", "h5py", "hdf5plugin", "tifffile", "zarr")


def notes_of(
    raw: RawScan,
    target: VolumeOptions,
    task: ReconTask,
    cor_source: Any,
    *,
    revision: int,
    versions: Mapping[str, str] | None,
) -> dict[str, Any]:
    """Return how a volume was made: of what, with which options, where it lies, by what.

    `versions` are those by which its voxels were made; None: those of this process.
    """
    of_sites = {c.package.name: c.package.version for c in target.preprocess.of_sites()}
    present = package_versions() | of_sites | {"array_module": task.plan.xp.__name__}
    return {
        "raw": os.path.abspath(raw.path),
        "scan": raw.name or Path(raw.path).stem,
        "cor": {"cor_px": target.cor_px, "source": cor_source},
        "parameters": _parameters(target, raw.input, partial=raw.partial) | {"revision": revision},
        "geometry": _geometry(task),
        "versions": present if versions is None else versions,
    }


def _parameters(target: VolumeOptions, options: InputBlock, *, partial: bool) -> dict[str, Any]:
    """Return all options: of the volume, and of how its scan was read."""
    full, block = target.full.model_dump(), target.preprocess
    device = full.pop("device")
    of_sites = {c.key: c.described(getattr(block, c.key)) for c in block.of_sites()}
    ours = {key: value for key, value in block.corrections().items() if key not in of_sites}
    return {
        "cor_px": target.cor_px,
        **full,
        "pixel_size_um": target.pixel_size_um,
        "device": device,
        "flats": block.flats,
        "darks": block.darks,
        "minus_log": block.minus_log,
        "partial": partial,
        "half_acquisition": block.half_acquisition,
        "known": _sorted(options.model_dump(exclude_defaults=True)),
        "corrections": _sorted(ours),
        **({"of_sites": _sorted(of_sites)} if of_sites else {}),
    }


def _sorted(value: Any) -> Any:
    """Return a mapping with sorted keys, also within, so that equal values give equal bytes."""
    if not isinstance(value, dict):
        return value
    return {key: _sorted(value[key]) for key in sorted(value)}


def _geometry(task: ReconTask) -> dict[str, Any]:
    """Describe the reconstructed region, and the position of the axis in the volume."""
    theta_deg = np.rad2deg(task.scan.theta_rad)
    y, x = task.crop
    axis_x, axis_y = axis_voxel(task.plan.n_cols)
    return {
        "n_angles": task.scan.n_angles,
        "n_rows": task.scan.n_rows,
        "n_cols": task.scan.n_cols,
        "columns": [task.scan.first_col, task.scan.first_col + task.scan.n_cols - 1],
        "rows": [task.first_row, task.last_row - 1],
        "first_voxel_xy": [x.start, y.start],
        "cor_in_volume_px": task.cor_px,
        "half_acquisition": task.half is not None,
        "axis_voxel_xy": [axis_x - x.start, axis_y - y.start],
        "theta_deg": [float(theta_deg[0]), float(theta_deg[-1])],
    }


def describe(task: ReconTask, target: VolumeOptions) -> dict[str, Any]:
    """Describe the values and voxels of the volume."""
    size_um = target.pixel_size_um or task.scan.pixel_size_um
    voxel = {"voxel_size_um": size_um * task.binning} if size_um else {}
    if size_um and task.scan.pixel_ratio != 1:
        voxel[HEIGHT] = voxel["voxel_size_um"] * task.scan.pixel_ratio
    return {"units": target.unit, "binning": task.binning, **voxel}


def origin_of(provenance: Mapping[str, Any], binning: int) -> Origin:
    """Return the position of the first voxel of a volume, from its provenance.

    Its centre is relative to that of the full volume, neither cropped nor binned; binning keeps the
    position of the axis, and of blocks of detector rows.

    Parameters
    ----------
    provenance : mapping
        As in the volume.
    binning : int
        Pixels averaged into one.

    Returns
    -------
    Origin
        Zero if the provenance lacks it.
    """
    if "made_of" in provenance:  # stitched, on the grid of its first scan
        first = provenance["scans"][0]
        z, y, x = origin_of(provenance["made_of"][first["scan"]], binning).voxel
        return Origin(voxel=(z - first["first_row"], y, x))
    if not (result := provenance.get("geometry")):
        return Origin()
    widening = FACTOR if result["half_acquisition"] else 1
    whole_x, whole_y = axis_voxel(widening * result["n_cols"])
    (axis_x, axis_y), (x, y) = result["axis_voxel_xy"], result["first_voxel_xy"]
    first_row, last_row = result["rows"]
    binning_rows = min(binning, last_row + 1 - first_row)
    voxel = (
        (first_row + (binning_rows - 1) / 2) / binning,
        whole_y / binning + y - (axis_y + y),
        whole_x / binning + x - (axis_x + x),
    )
    return Origin(first_row // binning, voxel)


def package_versions() -> dict[str, str]:
    """Return the versions of the packages that affect volumes, if installed.

    Returns
    -------
    dict of str to str
        By name of the package, with python and tomopipe.
    """
    result = {"python": platform.python_version(), "tomopipe": __version__}
    for package in _PACKAGES:
        with suppress(metadata.PackageNotFoundError):  # optional package
            result[package] = metadata.version(package)
    return result
