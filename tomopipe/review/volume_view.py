"""A volume on the page: its facts, parts of planes, and its files over HTTP."""

import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from tomopipe.campaign.campaign import Campaign
from tomopipe.campaign.files import converted
from tomopipe.commands.conversion import find_volumes
from tomopipe.errors import TomopipeError
from tomopipe.review.grey16 import USUAL_PERCENT, Grey, scaled16
from tomopipe.volumes.volume_read import PLANES, Volume, open_volume


def volume_facts(campaign: Campaign, name: str) -> dict[str, Any]:
    """Return shape, levels and grey range of the volume of a scan or stack, as JSON."""
    path = find_volumes(campaign, [name])[name]
    with open_volume(path, check_sizes=False) as volume:
        coarsest = max(volume.arrays)
        middle = volume.read_plane("xy", volume.shape[0] // 2, coarsest, slice(None))
        low, high = _range(volume)
        usual = [float(value) for value in np.percentile(middle, USUAL_PERCENT)]
        size_um = volume.attributes.get("voxel_size_um")
        return {
            "name": name,
            "file": path.name,
            "shape": volume.shape,
            "levels": {factor: array.shape for factor, array in volume.arrays.items()},
            "low": low,
            "high": high,
            "usual": usual,
            "units": str(volume.attributes.get("units", "")),
            "voxel_size_um": float(size_um) if size_um else None,
            "zarr": zarr_folder(campaign, name) is not None,
        }


def plane(
    campaign: Campaign, name: str, which: str, position: tuple[int, int], part: slice
) -> Grey:
    """Return rows of a plane of a scan or stack in 16 bits of the whole volume's range.

    `which` is xy, xz or yz; `position` that of the plane, in voxels, and the factor of the level;
    `part` the rows of the plane at this level.
    """
    index, factor = position
    path = find_volumes(campaign, [name])[name]
    with open_volume(path, check_sizes=False) as volume:
        if which not in PLANES or factor not in volume.arrays:
            raise TomopipeError(
                f"{name}: expected a plane xy, xz or yz at a factor of "
                f"{', '.join(map(str, volume.arrays))}; got {which[:9]!r} at {factor}."
            )
        if not index < volume.shape[PLANES[which]]:
            raise TomopipeError(f"{name}: {which} {index} is beyond the volume {volume.shape}.")
        image = volume.read_plane(which, index, factor, part)
        if not image.size:
            raise TomopipeError(f"{name}: {which} has no rows {part.start} to {part.stop}.")
        low, high = _range(volume)
    return Grey(scaled16(image, low, high), low, high, (low, high))


def zarr_folder(campaign: Campaign, name: str) -> Path | None:
    """Return the OME-Zarr of a scan or stack, if it exists: its volume, or a conversion."""
    path = find_volumes(campaign, [name])[name]
    both = (path, converted(path, "zarr"))
    return next((folder for folder in both if (folder / "zarr.json").is_file()), None)


def file_below(folder: Path, below: str) -> Path | None:
    """Return a file of a folder, named by a browser; None if it is missing or outside."""
    parts = below.split("/")
    if any(part in ("", ".", "..") or "\0" in part for part in parts):
        return None
    path = folder.joinpath(*parts)
    real = os.path.realpath(path)
    inside = real.startswith(os.path.join(os.path.realpath(folder), ""))
    return path if inside and os.path.isfile(real) else None


def _range(volume: Volume) -> tuple[float, float]:
    low, high = (float(volume.attributes[key]) for key in ("min", "max"))
    if volume.encoding.is_whole:
        limits = volume.encoding.limits
        low, high = max(low, limits[0]), min(high, limits[1])
    return (low, high) if math.isfinite(high - low) and high > low else (low, low + 1)
