"""tomopipe in a notebook: a campaign's results, and pictures; `tomopipe.api` has the functions."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from tomopipe.campaign.campaign import Campaign, load_campaign
from tomopipe.campaign.files import find_campaign
from tomopipe.campaign.selection import scan_of
from tomopipe.commands.conversion import find_volumes
from tomopipe.resources.disk import known_cors
from tomopipe.volumes.volume_read import open_volume

__all__ = ["open_campaign", "show"]

_MOST_SHOWN = 25  # slices in a picture
_PICTURE_PX = 1600  # its width, at most
_WINDOW_PERCENT = (0.5, 99.5)


def show(slices: ArrayLike) -> Image.Image:
    """Return slices as one picture for the notebook.

    Parameters
    ----------
    slices : array_like, shape (n_y, n_x) or (n, n_y, n_x)
        One or several slices.

    Returns
    -------
    PIL.Image.Image
        Black to white cover 99 % of the values; of many slices 25 are shown, evenly spread.
        `tp.show(slices).save("slices.png")` writes it.

    Raises
    ------
    ValueError
        If these are no slices, or no value is finite.
    """
    shape = np.shape(slices)  # a volume on disk is not read for that
    if len(shape) not in (2, 3) or not math.prod(shape):
        raise ValueError(f"slices: expected shape (n_y, n_x) or (n, n_y, n_x), got {shape}")
    every: Any = np.asarray(slices)[None] if len(shape) == 2 else slices
    n = min(len(every), _MOST_SHOWN)
    n_wide = math.ceil(math.sqrt(n))
    factor = math.ceil(shape[-1] * n_wide / _PICTURE_PX)
    rows = np.linspace(0, len(every) - 1, n).round().astype(int)
    images = (Image.fromarray(np.asarray(every[row], np.float32)) for row in rows)
    parts = np.stack([np.asarray(image.reduce(factor)) for image in images])
    finite = parts[np.isfinite(parts)]
    if not finite.size:
        raise ValueError("slices: expected finite values; there are none")
    low, high = np.percentile(finite, _WINDOW_PERCENT)
    grey = np.nan_to_num((parts - low) / max(high - low, 1e-30), nan=0.0).clip(0, 1)
    _, n_y, n_x = parts.shape
    picture = Image.new("L", (n_wide * n_x, math.ceil(n / n_wide) * n_y))
    for k, part in enumerate(np.rint(255 * grey).astype(np.uint8)):
        picture.paste(Image.fromarray(part), (k % n_wide * n_x, k // n_wide * n_y))
    return picture


@dataclass(frozen=True)
class VolumeOnDisk:
    """A volume, [row, y, x]: slices are read as float32 when they are indexed."""

    path: Path
    shape: tuple[int, int, int]

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> NDArray[np.float32]:
        first, *rest = key if isinstance(key, tuple) else (key,)
        rows = range(len(self))[first]
        with open_volume(self.path, check_sizes=False) as volume:
            if isinstance(rows, int):
                return np.asarray(volume.read_slice(rows)[tuple(rest)])
            part = np.empty(self.shape[1:], np.float32)[tuple(rest)]
            slices = np.empty((len(rows), *part.shape), np.float32)
            for k, row in enumerate(rows):
                slices[k] = volume.read_slice(row)[tuple(rest)]
        return slices

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return self[:].astype(dtype or np.float32, copy=False)


@dataclass(frozen=True)
class ScanOfCampaign:
    """A scan of a campaign, and what the campaign has made of it."""

    name: str
    cor_px: float | None
    _campaign: Campaign

    @property
    def volume(self) -> VolumeOnDisk:
        """Its volume; an error where there is none yet."""
        path = find_volumes(self._campaign, [self.name])[self.name]
        with open_volume(path) as volume:
            return VolumeOnDisk(path, volume.shape)

    def __repr__(self) -> str:
        return f"{self.name}: " + ("no COR" if self.cor_px is None else f"{self.cor_px:.2f} px")


class OpenCampaign:
    """The scans of a campaign by name; iterating gives the names."""

    def __init__(self, campaign: Campaign, cors_px: Mapping[str, float]) -> None:
        self._campaign, self._cors_px = campaign, cors_px

    def __getitem__(self, name: str) -> ScanOfCampaign:
        scan = scan_of(self._campaign, [name])
        return ScanOfCampaign(scan, self._cors_px.get(scan), self._campaign)

    def __iter__(self) -> Iterator[str]:
        return iter(self._campaign.scans)

    def __len__(self) -> int:
        return len(self._campaign.scans)

    def __repr__(self) -> str:
        n, with_cor = len(self), len(self._cors_px.keys() & self._campaign.scans.keys())
        return f"{self._campaign.directory}: {n} scans, {with_cor} with a COR"


def open_campaign(folder: str | PathLike[str] = ".") -> OpenCampaign:
    """Open the results of a campaign, as they are now.

    Parameters
    ----------
    folder : path
        The campaign folder, or one in it.

    Returns
    -------
    OpenCampaign
        The scans by name: `campaign["rock_001"]` has `cor_px` (or None) and `volume`, whose slices
        [row, y, x] are read when it is indexed. `list(campaign)` gives the names.

    Raises
    ------
    TomopipeError
        If there is no campaign, scan or volume of that name.
    """
    campaign = load_campaign(find_campaign(Path(folder)), needs_raw=False)
    return OpenCampaign(campaign, known_cors(campaign))
