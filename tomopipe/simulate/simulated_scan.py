"""Whole scans in DXchange and NXtomo files.

Where things go in DXchange files, as in those of the APS beamlines [1]_ [2]_: ``/exchange/data``,
``/exchange/data_white``, ``/exchange/data_dark`` (frame, row, column), ``/exchange/theta``
(degrees); the effective pixel size at the sample in micrometres in
``/measurement/instrument/detection_system/objective/resolution`` and the energy in keV in
``/measurement/instrument/monochromator/energy``, both of shape (1,) with the attribute ``units``.
``/measurement/instrument/detector/pixel_size``, which there is the pitch of the camera before the
magnification, is not written.

NXtomo files are laid out as at the ESRF: darks, half of the flats, projections, the other half.

References
----------
.. [1] F. De Carlo et al., J. Synchrotron Rad. 21, 1224-1230 (2014), doi:10.1107/S160057751401604X.
.. [2] DXfile documentation, area detector attributes of APS 2-BM, https://dxfile.readthedocs.io.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from tomopipe.simulate.detector import Beam, Detector, to_dtype
from tomopipe.simulate.phantom import Phantom, project
from tomopipe.storage.atomic import whole

# Frames are made and written in blocks of about this size, so that large scans need little memory.
BLOCK_BYTES = 64 * 2**20
ENTRY = "entry0000"
_PROJECTION, _FLAT, _DARK = range(3)


@dataclass(frozen=True)
class ScanFile:
    """How a simulated scan is written."""

    format: str = "dxchange"  # of the file: dxchange or nxtomo
    write_theta: bool = True  # false leaves the angles out
    # leading projections taken before the scan was aborted; theta keeps all angles
    n_frames: int | None = None
    # of DXchange files: by default one frame each; False: contiguous
    chunks: tuple[int, int, int] | bool | None = None
    n_written: int | None = None  # leading frames really written there; others stay unallocated
    dtype: DTypeLike = np.uint16  # of all frames; integers are rounded and clipped to their range
    compression: str | None = None  # of h5py, for the frames
    # written where given
    pixel_size_um: float | None = None
    energy_kev: float | None = None


@dataclass(frozen=True)
class _Exposure:
    """The frames of a scan."""

    blocks: Iterator[NDArray[Any]]  # (some, n_rows, n_cols): consecutive projections
    shape: tuple[int, int, int]  # (n_angles, n_rows, n_cols): projections taken
    # (n, n_rows, n_cols): None of them where n is 0
    flats: NDArray[Any]
    darks: NDArray[Any]
    # angles of the projections planned, in degrees; a scan aborted after fewer has no more frames
    theta_deg: NDArray[np.float64]
    file: ScanFile


def simulate_scan(
    path: str | os.PathLike[str],
    phantom: Phantom,
    theta_deg: ArrayLike,
    cor_px: float,
    size: tuple[int, int],
    *,
    beam: Beam,
    seed: int | tuple[int, ...],
    file: ScanFile,
) -> None:
    """Simulate one scan and write it as a DXchange or NXtomo file, whole, in little memory.

    An existing file is replaced. `theta_deg` (n_angles,) may be in any order; `size` is rows and
    columns of the detector; `seed` is that of pattern and noise.
    """
    angles_deg = np.asarray(theta_deg, dtype=np.float64)
    taken_deg = angles_deg[: file.n_frames]
    detector = Detector(beam, *size, seed)

    def blocks() -> Iterator[NDArray[np.float64]]:
        step = max(1, BLOCK_BYTES // (8 * size[0] * size[1]))
        for first in range(0, taken_deg.size, step):
            theta_rad = np.deg2rad(taken_deg[first : first + step])
            integrals = project(phantom, theta_rad, cor_px, *size)
            yield detector.frames(np.exp(-integrals.astype(np.float64)))

    exposure = _Exposure(
        blocks(),
        (taken_deg.size, *size),
        flats=detector.flats(),
        darks=detector.darks(),
        theta_deg=angles_deg,
        file=file,
    )
    (_write_nxtomo if file.format == "nxtomo" else _write_exchange)(path, exposure)


def _write_exchange(path: str | os.PathLike[str], scan: _Exposure) -> None:
    """Write a DXchange file, whole; the module says where each thing goes."""
    how, dtype, shape = scan.file, np.dtype(scan.file.dtype), scan.shape
    store = to_dtype(dtype)
    stop = shape[0] if how.n_written is None else how.n_written
    chunks = (1, *shape[1:]) if how.chunks is None else how.chunks or None
    with whole(path) as temporary, h5py.File(temporary, "w") as file:
        data = file.create_dataset(
            "/exchange/data", shape, dtype, chunks=chunks, compression=how.compression
        )
        data.attrs["axes"] = "theta:y:x"
        first = 0
        for block in scan.blocks:
            last = min(stop, first + len(block))
            if last <= first:
                break
            data[first:last] = store(block[: last - first])
            first = last
        for name, frames in [("data_white", scan.flats), ("data_dark", scan.darks)]:
            if len(frames):
                file[f"/exchange/{name}"] = store(frames)
        if how.write_theta:
            _write_number(file, "/exchange/theta", scan.theta_deg, "degrees")
        for value, dataset, units in [
            (how.pixel_size_um, "detection_system/objective/resolution", "microns"),
            (how.energy_kev, "monochromator/energy", "keV"),
        ]:
            if value is not None:
                _write_number(
                    file, f"/measurement/instrument/{dataset}", np.array([value], float), units
                )


def _write_nxtomo(path: str | os.PathLike[str], scan: _Exposure) -> None:
    """Write an NXtomo file: darks, half of the flats, projections, the other half of the flats."""
    how, shape, flats, darks = scan.file, scan.shape, scan.flats, scan.darks
    dtype, n_planned = np.dtype(how.dtype), len(scan.theta_deg)
    store = to_dtype(dtype)
    before = -(-len(flats) // 2)
    kinds = [(_DARK, len(darks)), (_FLAT, before), (_PROJECTION, n_planned)]
    keys = np.concatenate([np.full(n, kind) for kind, n in [*kinds, (_FLAT, len(flats) - before)]])
    first = len(darks) + before
    aborted = shape[0] < n_planned
    n_frames = first + shape[0] if aborted else len(keys)
    with whole(path) as temporary, h5py.File(temporary, "w") as file:
        entry = _group(file, ENTRY, "NXentry")
        entry["definition"] = "NXtomo"
        instrument = _group(entry, "instrument", "NXinstrument")
        detector = _group(instrument, "detector", "NXdetector")
        data = detector.create_dataset(
            "data", (n_frames, *shape[1:]), dtype, chunks=(1, *shape[1:]),
            compression=how.compression,
        )  # fmt: skip
        data[:first] = store(np.concatenate([darks, flats[:before]]))
        next_frame = first
        for block in scan.blocks:
            data[next_frame : next_frame + len(block)] = store(block)
            next_frame += len(block)
        if not aborted and len(flats) > before:
            data[next_frame:] = store(flats[before:])
        detector["image_key"] = detector["image_key_control"] = keys
        if how.write_theta:
            at_frame = first + np.arange(n_planned)
            angles = np.interp(np.arange(len(keys)), at_frame, scan.theta_deg)
            _write_number(_group(entry, "sample", "NXsample"), "rotation_angle", angles, "degree")
        if how.pixel_size_um is not None:
            _write_number(detector, "x_pixel_size", how.pixel_size_um * 1e-6, "m")
        if how.energy_kev is not None:
            beam = _group(instrument, "beam", "NXbeam")
            _write_number(beam, "incident_energy", how.energy_kev, "keV")


def _group(parent: h5py.Group, name: str, nx_class: str) -> h5py.Group:
    group = parent.create_group(name)
    group.attrs["NX_class"] = nx_class
    return group


def _write_number(parent: h5py.Group, name: str, value: Any, units: str) -> None:
    """Write a number, or several, and their unit."""
    parent[name] = value
    parent[name].attrs["units"] = units
