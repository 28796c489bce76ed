"""Whole scans in DXchange files (in NXtomo files: `tomopipe.simulate.nxtomo_writer`).

Where things go, as in the files of the APS beamlines [1]_ [2]_: ``/exchange/data``,
``/exchange/data_white``, ``/exchange/data_dark`` (frame, row, column), ``/exchange/theta``
(degrees); the effective pixel size at the sample in micrometres in
``/measurement/instrument/detection_system/objective/resolution`` and the energy in keV in
``/measurement/instrument/monochromator/energy``, both of shape (1,) with the attribute ``units``.
``/measurement/instrument/detector/pixel_size``, which there is the pitch of the camera before the
magnification, is not written.

References
----------
.. [1] F. De Carlo et al., J. Synchrotron Rad. 21, 1224-1230 (2014), doi:10.1107/S160057751401604X.
.. [2] DXfile documentation, area detector attributes of APS 2-BM, https://dxfile.readthedocs.io.
"""

import os
from collections.abc import Iterator

import h5py
import numpy as np
from numpy.typing import ArrayLike, NDArray

from tomopipe.simulate.detector import Beam, Detector, to_dtype
from tomopipe.simulate.exposure import Exposure, ScanFile
from tomopipe.simulate.nxtomo_writer import write_number, write_nxtomo
from tomopipe.simulate.phantom import Phantom, project
from tomopipe.storage.atomic import whole

# Frames are made and written in blocks of about this size, so that large scans need little memory.
BLOCK_BYTES = 64 * 2**20


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

    exposure = Exposure(
        blocks(),
        (taken_deg.size, *size),
        flats=detector.flats(),
        darks=detector.darks(),
        theta_deg=angles_deg,
        file=file,
    )
    (write_nxtomo if file.format == "nxtomo" else write_exchange)(path, exposure)


def write_exchange(path: str | os.PathLike[str], scan: Exposure) -> None:
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
            write_number(file, "/exchange/theta", scan.theta_deg, "degrees")
        for value, dataset, units in [
            (how.pixel_size_um, "detection_system/objective/resolution", "microns"),
            (how.energy_kev, "monochromator/energy", "keV"),
        ]:
            if value is not None:
                write_number(
                    file, f"/measurement/instrument/{dataset}", np.array([value], float), units
                )
