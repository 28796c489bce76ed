"""A volume for the browser: its facts, its planes, and where it is within its scan."""

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tomopipe.campaign.campaign import Campaign
from tomopipe.campaign.files import converted
from tomopipe.commands.conversion import find_volumes
from tomopipe.errors import TomopipeError
from tomopipe.review.scan_images import USUAL_PERCENT, Grey, scaled16
from tomopipe.volume_formats import FORMATS
from tomopipe.volumes.volume_read import HEIGHT, PLANES, Volume, open_volume


def volume_view(campaign: Campaign, name: str) -> dict[str, Any]:
    """Return the facts of the volume of a scan or stack as JSON."""
    path = find_volumes(campaign, [name])[name]
    with open_volume(path, check_sizes=False) as volume:
        coarsest = max(volume.arrays)
        middle = volume.read_plane("xy", volume.shape[0] // 2, coarsest, slice(None))
        low, high = _range(volume)
        size_um = volume.attributes.get("voxel_size_um")
        return {
            "name": name,
            "file": path.name,
            "shape": volume.shape,
            "levels": {factor: array.shape for factor, array in volume.arrays.items()},
            "low": low,
            "high": high,
            "usual": [float(value) for value in np.percentile(middle, USUAL_PERCENT)],
            "units": str(volume.attributes.get("units", "")),
            "voxel_size_um": float(size_um) if size_um else None,
            "height_um": float(volume.attributes.get(HEIGHT, size_um)) if size_um else None,
            "zarr": zarr_folder(campaign, name) is not None,
            "crop": _crop(volume) if name in campaign.scans else None,
        }


def _crop(volume: Volume) -> Mapping[str, Any] | None:
    """Return what turns voxels into crops of full_recon: binning, and the first voxel (z, y, x).

    The first voxel is in unbinned pixels: a detector row, and a position within uncropped slices.
    """
    if not (geometry := volume.provenance.get("geometry")):
        return None
    binning = int(volume.attributes.get("binning", 1))
    x, y = geometry["first_voxel_xy"]
    first = [int(geometry["rows"][0]), int(y) * binning, int(x) * binning]
    return {"binning": binning, "first": first, "last_row": int(geometry["rows"][1])}


def plane(campaign: Campaign, name: str, which: str, index: int, factor: int, part: slice) -> Grey:
    """Read rows of a plane of a scan or stack, in 16 bits of the whole volume's range."""
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
    marks = (FORMATS["zarr"].mark, FORMATS["zarr2"].mark)
    return next((f for f in both if any((f / mark).is_file() for mark in marks)), None)


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
