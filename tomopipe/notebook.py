"""tomopipe in a notebook: a campaign's results, and pictures; `tomopipe.api` has the functions."""

import math
import os
from collections.abc import Iterator, Mapping, Sequence
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
from tomopipe.campaign.state.signs import State
from tomopipe.commands.conversion import find_volumes
from tomopipe.errors import TomopipeError, scan_word
from tomopipe.report.collected_records import collect_scans
from tomopipe.report.records import ScanRecord
from tomopipe.reruns.failed_results import why_again
from tomopipe.resources.disk import known_cors
from tomopipe.volume_formats import COMPRESSIONS
from tomopipe.volumes.encoding import encoding_of, robust_range
from tomopipe.volumes.volume import new_volume
from tomopipe.volumes.volume_read import open_volume

__all__ = ["open_campaign", "save_volume", "show"]

_N_SAMPLES = 8  # slices from which a range of integers is chosen

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
    _record: ScanRecord | None  # None: the inventory has not seen it yet

    @property
    def state(self) -> str:
        """Its state, as on the page: ok, manual, filled, doubtful, skipped and so on."""
        return str(self._record.state if self._record else State.PENDING)

    @property
    def source(self) -> str:
        """Where its COR comes from, as in results/cor.json: ai, manual, outlier and so on."""
        return self._record.shown[1] if self._record else ""

    @property
    def confidence(self) -> float | None:
        """Confidence of the prediction, 0 to 1; None without one, and for a COR set by hand."""
        prediction = self._record.prediction if self._record else None
        return prediction.confidence if prediction and self.source != "manual" else None

    @property
    def reason(self) -> str:
        """Why it is in its state; may be empty."""
        return self._record.why if self._record else ""

    @property
    def volume(self) -> VolumeOnDisk:
        """Its volume; a TomopipeError says why there is none, and what to do."""
        try:
            path = find_volumes(self._campaign, [self.name])[self.name]
        except TomopipeError as error:
            raise TomopipeError(self._why_no_volume() or str(error)) from None
        with open_volume(path) as volume:
            return VolumeOnDisk(path, volume.shape)

    def _why_no_volume(self) -> str:
        """Say why a scan has no volume, and what to do; "" if the next run makes it."""
        remedy = {
            State.SKIPPED: "Repair or complete the file, or correct an option that is named here; "
            "select: yes in scans.tsv includes a scan that is only incomplete or undersized.",
            State.UNSELECTED: "Clear select: no in scans.tsv, and type: tomopipe run",
            **dict.fromkeys(
                (State.UNRESOLVED, State.DOUBTFUL) if self.cor_px is None else (),
                f"Set its COR: tomopipe cor set {scan_word(self.name)} VALUE",
            ),
            State.FAILED: "Remove the cause, then: tomopipe run (tomopipe plan: is retry needed?)",
        }
        advice = {str(state): text for state, text in remedy.items()}.get(self.state)
        reason = f" ({self.reason})" * bool(self.reason)
        return (
            f"{self.name}: no volume: the scan is {self.state}{reason}. {advice}" if advice else ""
        )

    def __repr__(self) -> str:
        cor = "no COR" if self.cor_px is None else f"{self.cor_px:.2f} px"
        return f"{self.name}: {cor}, {self.state}"


class OpenCampaign:
    """The scans of a campaign by name; iterating gives the names."""

    def __init__(
        self, campaign: Campaign, cors_px: Mapping[str, float], records: Mapping[str, ScanRecord]
    ) -> None:
        self._campaign, self._cors_px, self._records = campaign, cors_px, records

    def __getitem__(self, name: str) -> ScanOfCampaign:
        scan = scan_of(self._campaign, [name])
        return ScanOfCampaign(
            scan, self._cors_px.get(scan), self._campaign, self._records.get(scan)
        )

    def __iter__(self) -> Iterator[str]:
        return iter(self._campaign.scans)

    def __len__(self) -> int:
        return len(self._campaign.scans)

    def __repr__(self) -> str:
        n, with_cor = len(self), len(self._cors_px.keys() & self._campaign.scans.keys())
        return f"{self._campaign.directory}: {n} scans, {with_cor} with a COR"

    def table(self) -> Any:
        """Return a row for each scan.

        Returns
        -------
        pandas.DataFrame, or list of dict where pandas cannot be imported
            Columns: scan, series, state, cor_px, error_px, source, confidence, reason, note, and
            volume, the path of the volume; empty numbers are None or NaN.
        """
        volumes = find_volumes(self._campaign)
        rows = []
        for name, entry in self._campaign.scans.items():
            scan, record = self[name], self._records.get(name)
            rows.append(
                {
                    "scan": name,
                    "series": entry.series,
                    "state": scan.state,
                    "cor_px": scan.cor_px,
                    "error_px": record.error_px if record else None,
                    "source": scan.source,
                    "confidence": scan.confidence,
                    "reason": scan.reason,
                    "note": entry.note,
                    "volume": str(volumes.get(name, "")),
                }
            )
        try:
            import pandas as pd
        except ImportError:
            return rows
        return pd.DataFrame(rows, columns=list(rows[0]) if rows else ["scan"])


def open_campaign(folder: str | PathLike[str] = ".") -> OpenCampaign:
    """Open the results of a campaign, as they are now.

    Parameters
    ----------
    folder : path
        The campaign folder, or one in it.

    Returns
    -------
    OpenCampaign
        The scans by name: `campaign["rock_001"]` has `cor_px` (or None), `state`, `source`,
        `confidence`, `reason`, and `volume`, whose slices [row, y, x] are read when it is indexed.
        `list(campaign)` gives the names, `campaign.table()` a pandas DataFrame of all scans (a list
        of dicts where pandas cannot be imported).

    Raises
    ------
    TomopipeError
        If there is no campaign, scan or volume of that name; for a volume with the reason, such as
        an aborted scan, and what to do.
    """
    campaign = load_campaign(find_campaign(Path(folder)), needs_raw=False)
    records = {scan.name: scan for scan in collect_scans(campaign, why=why_again(campaign))}
    return OpenCampaign(campaign, known_cors(campaign), records)


def save_volume(
    volume: ArrayLike,
    path: str | PathLike[str],
    *,
    voxel_size_um: float | None = None,
    dtype: str = "float32",
    value_range: Sequence[float] | None = None,
    compression: str = "none",
    overwrite: bool = False,
) -> Path:
    """Write slices as a volume, in a format of the workflow, whole or not at all.

    Parameters
    ----------
    volume : array_like, shape (n_rows, n_y, n_x)
        Slices, such as those of `reconstruct`, or the volume of a scan of a campaign, of which one
        slice at a time is read.
    path : path
        Ends with .h5 (HDF5), .zarr (OME-Zarr), or else is a folder for TIFF images.
    voxel_size_um : float, optional
        Width of a voxel, for other programs.
    dtype : str
        As `full_recon.dtype`.
    value_range : (float, float), optional
        Values of the smallest and of the largest integer, as `full_recon.value_range`; by default
        99.9 % of the values of 8 slices, and a margin.
    compression : str
        As `full_recon.compression`.
    overwrite : bool
        Replace what is there.

    Returns
    -------
    pathlib.Path
        The file or folder; napari, Fiji and `tomopipe` read it.

    Raises
    ------
    ValueError
        If it is no volume, or a type, range or compression is unknown.
    TomopipeError
        If something is there, the disk is full, or the values are not finite or all equal.
    """
    shape, target = np.shape(volume), Path(path)
    if len(shape) != 3 or not math.prod(shape):
        raise ValueError(f"volume: expected shape (n_rows, n_y, n_x), got {shape}")
    output = {".h5": "h5", ".hdf5": "h5", ".zarr": "zarr"}.get(target.suffix, "tiff")
    if compression not in COMPRESSIONS[output]:
        known = ", ".join(COMPRESSIONS[output])
        raise ValueError(f"compression: expected one of {known}; got {compression!r}")
    if os.path.lexists(target) and not overwrite:
        raise TomopipeError(f"{target}: exists. Give another name, or overwrite=True.")
    every: Any = volume if hasattr(volume, "__getitem__") else np.asarray(volume)
    if dtype.startswith("u") and value_range is None:
        rows = np.unique(np.linspace(0, shape[0] - 1, _N_SAMPLES).round().astype(int))
        value_range = robust_range((np.asarray(every[row], np.float32) for row in rows), dtype)
    size = {} if voxel_size_um is None else {"voxel_size_um": float(voxel_size_um)}
    with new_volume(
        target,
        (int(shape[0]), int(shape[1]), int(shape[2])),
        output_format=output,
        encoding=encoding_of(dtype, value_range),
        compression=compression,
        attributes={"units": "1/pixel", "binning": 1, **size},
        provenance={"written_by": "tomopipe.save_volume"},
    ) as put:
        for row in range(shape[0]):
            put(row, np.asarray(every[row], np.float32)[None])
    return target
