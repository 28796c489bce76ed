"""Step full_recon: the volume of a scan at its COR, block by block."""

import json
import logging
import math
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from tomopipe.errors import ScanError
from tomopipe.geometry import StackGeometry, axis_voxel, bin_cor
from tomopipe.io.atomic import remove_stale
from tomopipe.io.exchange import Scan, open_scan
from tomopipe.io.volume import FORMATS, new_volume
from tomopipe.recon.array import array_module
from tomopipe.recon.blocks import LANES
from tomopipe.recon.filters import FILTERS
from tomopipe.recon.plan import make_plan
from tomopipe.steps._stream import TALL, Progress, Work, choose_blocks, job_bytes, run

REVISION = 1

UNITS = {"per_pixel": "1/pixel", "per_cm": "1/cm"}
_MEMORY_BYTES = 4 * 2**30
_PACKAGES = ("tomopipe", "numpy", "scipy", "numba", "h5py", "hdf5plugin", "tifffile")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Options:
    """How a volume is made; see `full_recon`."""

    cor_px: float
    filter: str
    rows: str | tuple[int, int]
    binning: int
    output: str
    dtype: str
    unit: str
    pixel_size_um: float | None
    device: str
    flats: str | None
    darks: str | None
    minus_log: bool
    partial: bool


def full_recon(
    raw: str | os.PathLike[str],
    volume: str | os.PathLike[str],
    *,
    cor_px: float,
    scan: str | None = None,
    cor_json: str | os.PathLike[str] | None = None,
    filter: str = "ramp",
    rows: str | Sequence[int] = "all",
    binning: int = 1,
    output: str = "h5",
    dtype: str = "float32",
    unit: str = "per_pixel",
    pixel_size_um: float | None = None,
    device: str = "auto",
    flats: str | None = None,
    darks: str | None = None,
    minus_log: bool = True,
    partial: bool = False,
    threads: int | None = None,
    memory_bytes: int | None = None,
    provenance: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> None:
    """Reconstruct the volume of a scan and write it whole, verified.

    Reading, computing and writing overlap; memory does not depend on the height of the volume.

    Parameters
    ----------
    raw : path-like
        DXchange HDF5 file.
    volume : path-like
        HDF5 file, or folder of a TIFF series (recon_00000.tiff, numbered by detector row, with
        binning by binned row).
    cor_px : float
        Column of the rotation axis, unbinned detector pixels.
    scan : str, optional
        Name of the scan in `cor_json`; None: the stem of `raw`.
    cor_json : path-like, optional
        cor.json of the campaign, only to note where the COR comes from.
    filter, device
        As for `tomopipe.recon`.
    rows : "all" or sequence of int
        First and last detector row, both included.
    binning : int
        Blocks of `binning` x `binning` detector pixels are averaged first, an incomplete block at
        the edge being dropped; values stay per unbinned pixel.
    output : {"h5", "tiff"}
        One file or a series.
    dtype : {"float32"}
        Number type of the volume.
    unit : {"per_pixel", "per_cm"}
        Attenuation per unbinned pixel, or per cm.
    pixel_size_um : float, optional
        Unbinned pixel size in micrometres; None: the file's.
    flats, darks, partial
        As for `tomopipe.io.exchange.open_scan`.
    minus_log : bool
        Take -log of the transmission.
    threads : int, optional
        CPU threads; None: the cores this process may use.
    memory_bytes : int, optional
        Memory the job may take; None: 4 GiB.
    provenance : mapping, optional
        More to write into the volume.
    progress : callable, optional
        Called with the number of slices done and of all slices.

    Raises
    ------
    ScanError
        If the scan cannot be read, holds no signal, or does not fit the parameters.
    TomopipeError
        If the volume is not complete and finite.
    OSError
        If it cannot be written.
    """
    span = rows if isinstance(rows, str) else (int(rows[0]), int(rows[1]))
    options = Options(
        float(cor_px), filter, span, binning, output, dtype, unit, pixel_size_um, device,
        flats, darks, minus_log, partial,
    )  # fmt: skip
    _check(options)
    for leftover in remove_stale(volume):
        logger.info("removed %s, left by a killed job", leftover.name)
    name = scan or Path(raw).stem
    with open_scan(raw, flats=flats, darks=darks, partial=partial) as opened:
        work = _prepare(opened, options, threads, memory_bytes or _MEMORY_BYTES)
        notes = {
            "raw": os.path.abspath(raw),
            "scan": name,
            "cor": {"cor_px": options.cor_px, "source": _source(cor_json, name)},
            "parameters": asdict(options) | {"revision": REVISION},
            "geometry": _geometry(work),
            "versions": _versions(work),
        }
        with new_volume(
            volume,
            (work.n_slices, work.plan.n_cols, work.plan.n_cols),
            output_format=output,
            attributes=_attributes(work, options),
            provenance=notes | dict(provenance or {}),
            first_number=work.first_row // binning,
        ) as put:
            run(work, put, progress)


def memory_mb(n_angles: int, n_cols: int, binning: int = 1) -> int:
    """Return the megabytes (10^6 bytes) to ask for, of which the job uses four fifths.

    Parameters
    ----------
    n_angles, n_cols : int
        Projections and detector columns.
    binning : int
        Block-averaging factor.
    """
    return math.ceil(job_bytes(n_angles, n_cols, 4, binning, LANES, TALL * binning) / 0.8e6)


def _check(options: Options) -> None:
    """Raise for what is wrong with the options, not with the scan."""
    allowed: dict[str, Sequence[str]] = {
        "filter": FILTERS,
        "unit": tuple(UNITS),
        "output": FORMATS,
        "dtype": ("float32",),
    }
    for name, values in allowed.items():
        value = getattr(options, name)
        if value not in values:
            raise ValueError(f"{name}: expected one of {', '.join(values)}; got {value!r}")
    if options.binning < 1:
        raise ValueError(f"binning: expected 1 or more, got {options.binning}")
    if isinstance(options.rows, str) and options.rows != "all":
        raise ValueError(f"rows: expected all or [first, last], got {options.rows!r}")


def _prepare(scan: Scan, options: Options, threads: int | None, memory_bytes: int) -> Work:
    """Fit the options to the scan."""
    if not 0 <= options.cor_px <= scan.n_cols - 1:
        raise ScanError(
            f"COR {options.cor_px:g} px is off the detector (0 to {scan.n_cols - 1}); set another"
        )
    if scan.n_cols < options.binning:
        raise ScanError(f"binning {options.binning} is more than the {scan.n_cols} columns")
    first, last = (0, scan.n_rows - 1) if isinstance(options.rows, str) else options.rows
    if not 0 <= first <= last < scan.n_rows:
        raise ScanError(
            f"full_recon.rows: [{first}, {last}] are not rows of this scan (0 to {scan.n_rows - 1})"
        )
    binning, n_rows = options.binning, last + 1 - first
    size = StackGeometry(scan.n_cols, n_rows, binning)
    lanes, height = choose_blocks(scan, binning, memory_bytes)
    return Work(
        scan=scan,
        plan=make_plan(
            scan.theta_rad,
            size.volume_cols,
            filter=options.filter,
            xp=array_module(options.device),
            lanes=lanes,
        ),
        cor_px=float(bin_cor(options.cor_px, binning=binning)),
        scale=_scale(scan, options),
        first_row=first,
        last_row=first + size.rows * min(binning, n_rows),
        binning=binning,
        binning_rows=min(binning, n_rows),
        height=height,
        minus_log=options.minus_log,
        threads=threads,
    )


def _scale(scan: Scan, options: Options) -> float:
    """Return the factor from attenuation per binned pixel to the unit asked for."""
    if options.unit == "per_pixel":
        return 1 / options.binning
    size_um = options.pixel_size_um or scan.pixel_size_um
    if not size_um:
        raise ScanError("unit: per_cm needs the pixel size, which the file does not tell; set it")
    return 1 / options.binning / (size_um * 1e-4)


def _source(cor_json: str | os.PathLike[str] | None, scan: str) -> str | None:
    """Look up where the COR comes from."""
    if cor_json is None:
        return None
    return json.loads(Path(cor_json).read_text(encoding="utf-8")).get(scan, {}).get("source")


def _attributes(work: Work, options: Options) -> dict[str, Any]:
    """Describe the values and voxels of the volume."""
    size_um = options.pixel_size_um or work.scan.pixel_size_um
    voxel = {"voxel_size_um": size_um * work.binning} if size_um else {}
    return {"units": UNITS[options.unit], "binning": work.binning, **voxel}


def _geometry(work: Work) -> dict[str, Any]:
    """Describe what was reconstructed, and where the axis is in the volume."""
    theta_deg = np.rad2deg(work.scan.theta_rad)
    return {
        "n_angles": work.scan.n_angles,
        "n_rows": work.scan.n_rows,
        "n_cols": work.scan.n_cols,
        "rows": [work.first_row, work.last_row - 1],
        "cor_in_volume_px": work.cor_px,
        "axis_voxel_xy": list(axis_voxel(work.plan.n_cols)),
        "theta_deg": [float(theta_deg[0]), float(theta_deg[-1])],
        "theta_missing": work.scan.theta_missing,
    }


def _versions(work: Work) -> dict[str, str]:
    """Name what computed the volume."""
    versions = {"python": platform.python_version(), "array_module": work.plan.xp.__name__}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:  # run from a folder, not installed
            versions[package] = "unknown"
    return versions
