"""Detector counts from projections, and whole scans in DXchange files.

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
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from tomopipe.io.atomic import whole
from tomopipe.simulate.phantom import Phantom, project

# Frames are made and written in blocks of about this size, so that large scans need little memory.
BLOCK_BYTES = 64 * 2**20
OPEN_BEAM_ADU = 30000.0
FULL_WELL_ADU = 65535.0


@dataclass(frozen=True)
class Beam:
    """Beam and detector of one scan.

    Attributes
    ----------
    counts : float or None
        Photons per pixel in the open beam where it is brightest; None: no noise at all.
    n_flats, n_darks : int
        Frames of each; 0 writes none.
    vignetting : float
        Loss of intensity at the corners of the detector, 0 to 1.
    dust : int
        Spots on the scintillator, in flats and projections alike.
    stripes : int
        Columns whose gain differs between flats and projections: rings in the slices.
    stripe_gain : float
        Standard deviation of that difference.
    dirt_px : float or None
        Column about which dirt that the flats lack lies mirrored, as on the wall of a furnace. It
        does not turn, and a finder of the COR may take that column for the axis.
    dirt_depth : float
        Line integral of the darkest dirt.
    dark_adu, read_noise_adu : float
        Mean of the dark frames and noise of reading, in units of the detector.
    """

    counts: float | None = 20000.0
    n_flats: int = 10
    n_darks: int = 10
    vignetting: float = 0.3
    dust: int = 12
    stripes: int = 0
    stripe_gain: float = 0.02
    dirt_px: float | None = None
    dirt_depth: float = 0.3
    dark_adu: float = 100.0
    read_noise_adu: float = 2.0

    def __post_init__(self) -> None:
        """Refuse what no detector does."""
        if self.counts is not None and not self.counts > 0:
            raise ValueError(f"counts: expected photons above 0 or None, got {self.counts}")
        if min(self.n_flats, self.n_darks, self.dust, self.stripes) < 0:
            raise ValueError("n_flats, n_darks, dust, stripes: expected 0 or more")
        if not 0 <= self.vignetting < 1:
            raise ValueError(f"vignetting: expected 0 <= vignetting < 1, got {self.vignetting}")


class Detector:
    """Turns transmissions into frames of counts; every draw comes from one seed.

    Parameters
    ----------
    beam : Beam
        What it sees.
    n_rows, n_cols : int
        Size.
    seed : int or sequence of int
        Seed of the fixed pattern and of the noise.
    """

    def __init__(self, beam: Beam, n_rows: int, n_cols: int, seed: int | tuple[int, ...]) -> None:
        self.beam = beam
        self._rng = np.random.default_rng(seed)
        rng = self._rng
        self.open_beam = _open_beam(beam, n_rows, n_cols, rng)
        self.fixed = _fixed(beam, n_rows, n_cols, rng)
        self.offset_adu = beam.dark_adu * rng.uniform(0.9, 1.1, (n_rows, n_cols))

    def frames(self, transmission: NDArray[Any]) -> NDArray[np.float64]:
        """Return projections with the fixed pattern, shape of `transmission`, in ADU."""
        return self._read(transmission * (self.open_beam * self.fixed))

    def flats(self) -> NDArray[np.float64]:
        """Return n_flats frames of the open beam, in ADU."""
        return self._read(np.broadcast_to(self.open_beam, (self.beam.n_flats, *self.fixed.shape)))

    def darks(self) -> NDArray[np.float64]:
        """Return n_darks frames without beam, in ADU."""
        return self._read(np.zeros((self.beam.n_darks, *self.fixed.shape)))

    def _read(self, intensity: NDArray[np.float64]) -> NDArray[np.float64]:
        if self.beam.counts is None:
            return OPEN_BEAM_ADU * intensity + self.offset_adu
        photons = self._rng.poisson(self.beam.counts * intensity)
        adu = OPEN_BEAM_ADU / self.beam.counts * photons + self.offset_adu
        return adu + self._rng.normal(0.0, self.beam.read_noise_adu, adu.shape)


def simulate_scan(
    path: str | os.PathLike[str],
    phantom: Phantom,
    theta_deg: ArrayLike,
    cor_px: float,
    *,
    n_rows: int,
    n_cols: int,
    beam: Beam | None = None,
    seed: int | tuple[int, ...] = 0,
    write_theta: bool = True,
    n_frames: int | None = None,
    **options: Any,
) -> None:
    """Simulate one scan and write it as a DXchange file, whole, in little memory.

    Parameters
    ----------
    path : path-like
        File to write; an existing one is replaced.
    phantom : Phantom
        The object.
    theta_deg : array_like of float, shape (n_angles,)
        Angles in degrees, in any order.
    cor_px : float
        Column of the rotation axis.
    n_rows, n_cols : int
        Size of the detector.
    beam : Beam, optional
        Beam and detector.
    seed : int or tuple of int, optional
        Seed of pattern and noise.
    write_theta : bool, optional
        False leaves /exchange/theta out.
    n_frames : int, optional
        Leading projections taken before the scan was aborted; theta keeps all angles.
    **options
        dtype, chunks, compression, pixel_size_um, energy_kev, n_written of `write_exchange`.
    """
    angles_deg = np.asarray(theta_deg, dtype=np.float64)
    taken_deg = angles_deg[:n_frames]
    detector = Detector(beam or Beam(), n_rows, n_cols, seed)
    flats, darks = detector.flats(), detector.darks()

    def blocks() -> Iterator[NDArray[np.float64]]:
        step = max(1, BLOCK_BYTES // (8 * n_rows * n_cols))
        for first in range(0, taken_deg.size, step):
            theta_rad = np.deg2rad(taken_deg[first : first + step])
            integrals = project(phantom, theta_rad, cor_px, n_rows, n_cols)
            yield detector.frames(np.exp(-integrals.astype(np.float64)))

    write_exchange(
        path,
        blocks(),
        (taken_deg.size, n_rows, n_cols),
        flats=flats if len(flats) else None,
        darks=darks if len(darks) else None,
        theta_deg=angles_deg if write_theta else None,
        **options,
    )


def write_exchange(
    path: str | os.PathLike[str],
    blocks: Iterator[NDArray[Any]],
    shape: tuple[int, int, int],
    *,
    flats: NDArray[Any] | None,
    darks: NDArray[Any] | None,
    theta_deg: ArrayLike | None,
    dtype: DTypeLike = np.uint16,
    chunks: tuple[int, int, int] | bool | None = None,
    compression: str | None = None,
    pixel_size_um: float | None = None,
    energy_kev: float | None = None,
    n_written: int | None = None,
) -> None:
    """Write a DXchange file, whole; the module says where each thing goes.

    Parameters
    ----------
    path : path-like
        File to write; an existing one is replaced.
    blocks : iterator of ndarray, shape (some, n_rows, n_cols)
        Consecutive projections.
    shape : (n_angles, n_rows, n_cols)
        Shape of /exchange/data.
    flats, darks : ndarray or None, shape (n, n_rows, n_cols)
        None leaves the dataset out.
    theta_deg : array_like or None
        Angles in degrees; None leaves them out; may be more than n_angles.
    dtype : dtype, optional
        Of data, flats and darks; integers are rounded and clipped to their range.
    chunks : tuple, bool or None, optional
        Chunks of /exchange/data; by default one frame each, False: contiguous.
    compression : str, optional
        Of h5py, for /exchange/data.
    pixel_size_um, energy_kev : float, optional
        Written where given.
    n_written : int, optional
        Leading frames really written; the rest of /exchange/data stays unallocated.
    """
    store = _to_dtype(np.dtype(dtype))
    stop = shape[0] if n_written is None else n_written
    layout = (1, *shape[1:]) if chunks is None else chunks or None
    with whole(path) as temporary, h5py.File(temporary, "w") as file:
        data = file.create_dataset(
            "/exchange/data", shape, np.dtype(dtype), chunks=layout, compression=compression
        )
        data.attrs["axes"] = "theta:y:x"
        first = 0
        for block in blocks:
            last = min(stop, first + len(block))
            if last <= first:
                break
            data[first:last] = store(block[: last - first])
            first = last
        for name, frames in [("data_white", flats), ("data_dark", darks)]:
            if frames is not None:
                file[f"/exchange/{name}"] = store(frames)
        if theta_deg is not None:
            file["/exchange/theta"] = np.asarray(theta_deg, dtype=np.float64)
            file["/exchange/theta"].attrs["units"] = "degrees"
        _write_instrument(file, pixel_size_um, energy_kev)


def _write_instrument(file: h5py.File, size_um: float | None, energy_kev: float | None) -> None:
    instrument = "/measurement/instrument"
    for value, place, units in [
        (size_um, "detection_system/objective/resolution", "microns"),
        (energy_kev, "monochromator/energy", "keV"),
    ]:
        if value is not None:
            file[f"{instrument}/{place}"] = np.array([value], dtype=np.float64)
            file[f"{instrument}/{place}"].attrs["units"] = units


def _to_dtype(dtype: np.dtype[Any]) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """Return how ADU become numbers of the file's type."""
    if dtype.kind not in "iu":
        return lambda adu: adu.astype(dtype)
    limits = np.iinfo(dtype)
    low, high = max(0, limits.min), min(limits.max, FULL_WELL_ADU)
    # A camera of 8 bits reads the same beam with a coarser scale.
    scale = min(1.0, limits.max / FULL_WELL_ADU)
    return lambda adu: np.clip(np.rint(adu * scale), low, high).astype(dtype)


def _open_beam(
    beam: Beam, n_rows: int, n_cols: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Return the open beam (n_rows, n_cols): smooth, at most 1, with spots of dust."""
    row = np.linspace(-1, 1, n_rows)[:, None] if n_rows > 1 else np.zeros((1, 1))
    col = np.linspace(-1, 1, n_cols)[None, :]
    skew = rng.uniform(-0.2, 0.2)
    smooth = 1 - beam.vignetting * (0.5 * row**2 + 0.5 * ((col - skew) / (1 + abs(skew))) ** 2)
    for _ in range(beam.dust):
        spot_row, spot_col = rng.uniform(0, n_rows), rng.uniform(0, n_cols)
        radius_px, depth = rng.uniform(0.7, 3.0), rng.uniform(0.02, 0.15)
        rows, cols = np.arange(n_rows)[:, None], np.arange(n_cols)[None, :]
        distance2 = (rows - spot_row) ** 2 + (cols - spot_col) ** 2
        smooth = smooth * (1 - depth * np.exp(-distance2 / (2 * radius_px**2)))
    return np.asarray(smooth / smooth.max())


def _fixed(beam: Beam, n_rows: int, n_cols: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return what the projections see and the flats do not (n_rows, n_cols), 1 where nothing."""
    fixed = np.ones((n_rows, n_cols))
    columns = rng.integers(0, n_cols, beam.stripes)
    fixed[:, columns] *= np.exp(rng.normal(0.0, beam.stripe_gain, beam.stripes))
    if beam.dirt_px is not None:
        col = np.arange(n_cols)
        for _ in range(12):
            distance_px, sigma_px = rng.uniform(0, 0.45 * n_cols), rng.uniform(0.8, 2.5)
            depth = rng.uniform(0.3, 1.0) * beam.dirt_depth
            for side in (-1, 1):
                place_px = beam.dirt_px + side * distance_px
                fixed *= np.exp(-depth * np.exp(-(((col - place_px) / sigma_px) ** 2) / 2))
    return fixed
