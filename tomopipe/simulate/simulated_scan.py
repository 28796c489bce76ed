"""Simulated scans: beam, detector and noise; whole DXchange and NXtomo files.

Layout of DXchange files, as at the APS beamlines [1]_ [2]_: ``/exchange/data``,
``/exchange/data_white``, ``/exchange/data_dark`` (frame, row, column), ``/exchange/theta``
(degrees); the effective pixel size at the sample in micrometres in
``/measurement/instrument/detection_system/objective/resolution`` and the energy in keV in
``/measurement/instrument/monochromator/energy``, both of shape (1,) with the attribute ``units``;
so is the height of the stage, ``/measurement/instrument/sample_motor_stack/setup/sample_y``.
``/measurement/instrument/detector/pixel_size``, the pitch of the camera before magnification, is
not written.

NXtomo files have the order of the ESRF: darks, half of the flats, projections, the other half.

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

from tomopipe.simulate.phantom import Phantom, project
from tomopipe.storage.atomic import whole

OPEN_BEAM_ADU = 30000.0
FULL_WELL_ADU = 65535.0


@dataclass(frozen=True)
class Beam:
    """Beam and detector of one scan."""

    # photons per pixel in the open beam where it is brightest; None: no noise at all
    counts: float | None = 20000.0
    # numbers of frames
    n_flats: int = 10
    n_darks: int = 10
    vignetting: float = 0.3  # loss of intensity at the corners of the detector, 0 to 1
    dust: int = 12  # spots on the scintillator, in flats and projections alike
    # columns whose gain differs between flats and projections: rings in the slices
    stripes: int = 0
    stripe_gain: float = 0.02  # standard deviation of that difference
    # column of symmetry of dust that is absent in the flats and does not rotate, as on the wall of
    # a furnace; methods may mistake it for the axis
    fixed_dust_px: float | None = None
    fixed_dust_depth: float = 0.3  # largest line integral of that dust
    # mean of the dark frames, and read noise
    dark_adu: float = 100.0
    read_noise_adu: float = 2.0


class Detector:
    """Detector that converts transmissions to counts, with random numbers of one seed."""

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


def to_dtype(dtype: np.dtype[Any]) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """Return a function that converts ADU to the type of a file."""
    if dtype.kind not in "iu":
        return lambda adu: adu.astype(dtype)
    limits = np.iinfo(dtype)
    low, high = max(0, limits.min), min(limits.max, FULL_WELL_ADU)
    # an 8-bit camera has a coarser scale for the same beam
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
    """Return the transmission (n_rows, n_cols) of the pattern that flats do not have."""
    fixed = np.ones((n_rows, n_cols))
    columns = rng.integers(0, n_cols, beam.stripes)
    fixed[:, columns] *= np.exp(rng.normal(0.0, beam.stripe_gain, beam.stripes))
    if beam.fixed_dust_px is not None:
        col = np.arange(n_cols)
        for _ in range(12):
            distance_px, sigma_px = rng.uniform(0, 0.45 * n_cols), rng.uniform(0.8, 2.5)
            depth = rng.uniform(0.3, 1.0) * beam.fixed_dust_depth
            for side in (-1, 1):
                position_px = beam.fixed_dust_px + side * distance_px
                fixed *= np.exp(-depth * np.exp(-(((col - position_px) / sigma_px) ** 2) / 2))
    return fixed


# Size of the blocks in which frames are simulated and written, to limit memory.
BLOCK_BYTES = 64 * 2**20
ENTRY = "entry0000"
_PROJECTION, _FLAT, _DARK = range(3)


@dataclass(frozen=True)
class ScanFile:
    """Options of the file of a simulated scan."""

    format: str = "dxchange"  # of the file: dxchange or nxtomo
    write_theta: bool = True  # false leaves the angles out
    # projections before the scan was aborted; None: all. Theta has all angles.
    n_frames: int | None = None
    # of DXchange files: by default one frame each; False: contiguous
    chunks: tuple[int, int, int] | bool | None = None
    n_written: int | None = None  # first frames that are written; others stay unallocated
    dtype: DTypeLike = np.uint16  # of all frames; integers are rounded and clipped to their range
    compression: str | None = None  # of h5py, for the frames
    # None: not written
    pixel_size_um: float | None = None
    energy_kev: float | None = None
    height_mm: float | None = None  # of the stage


@dataclass(frozen=True)
class _Exposure:
    """The frames of a scan."""

    blocks: Iterator[NDArray[Any]]  # (some, n_rows, n_cols): consecutive projections
    shape: tuple[int, int, int]  # (n_angles, n_rows, n_cols): recorded projections
    # (n, n_rows, n_cols), n may be 0
    flats: NDArray[Any]
    darks: NDArray[Any]
    # of all planned projections; an aborted scan has fewer frames
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
    """Simulate a scan and write it block by block as a DXchange or NXtomo file.

    An existing file is replaced. `theta_deg` (n_angles,) may be in any order; `size` is rows and
    columns of the detector; `seed` determines pattern and noise.
    """
    angles_deg = np.asarray(theta_deg, dtype=np.float64)
    recorded_deg = angles_deg[: file.n_frames]
    detector = Detector(beam, *size, seed)

    def blocks() -> Iterator[NDArray[np.float64]]:
        step = max(1, BLOCK_BYTES // (8 * size[0] * size[1]))
        for first in range(0, recorded_deg.size, step):
            theta_rad = np.deg2rad(recorded_deg[first : first + step])
            integrals = project(phantom, theta_rad, cor_px, *size)
            yield detector.frames(np.exp(-integrals.astype(np.float64)))

    exposure = _Exposure(
        blocks(),
        (recorded_deg.size, *size),
        flats=detector.flats(),
        darks=detector.darks(),
        theta_deg=angles_deg,
        file=file,
    )
    (_write_nxtomo if file.format == "nxtomo" else _write_exchange)(path, exposure)


def _write_exchange(path: str | os.PathLike[str], scan: _Exposure) -> None:
    """Write a DXchange file with the layout in the docstring of the module."""
    options, dtype, shape = scan.file, np.dtype(scan.file.dtype), scan.shape
    store = to_dtype(dtype)
    stop = shape[0] if options.n_written is None else options.n_written
    chunks = (1, *shape[1:]) if options.chunks is None else options.chunks or None
    with whole(path) as temporary, h5py.File(temporary, "w") as file:
        data = file.create_dataset(
            "/exchange/data", shape, dtype, chunks=chunks, compression=options.compression
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
        if options.write_theta:
            _write_number(file, "/exchange/theta", scan.theta_deg, "degrees")
        for value, dataset, units in [
            (options.pixel_size_um, "detection_system/objective/resolution", "microns"),
            (options.energy_kev, "monochromator/energy", "keV"),
            (options.height_mm, "sample_motor_stack/setup/sample_y", "mm"),
        ]:
            if value is not None:
                _write_number(
                    file, f"/measurement/instrument/{dataset}", np.array([value], float), units
                )


def _write_nxtomo(path: str | os.PathLike[str], scan: _Exposure) -> None:
    """Write an NXtomo file: darks, half of the flats, projections, the other half of the flats."""
    options, shape, flats, darks = scan.file, scan.shape, scan.flats, scan.darks
    dtype, n_planned = np.dtype(options.dtype), len(scan.theta_deg)
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
            compression=options.compression,
        )  # fmt: skip
        data[:first] = store(np.concatenate([darks, flats[:before]]))
        next_frame = first
        for block in scan.blocks:
            data[next_frame : next_frame + len(block)] = store(block)
            next_frame += len(block)
        if not aborted and len(flats) > before:
            data[next_frame:] = store(flats[before:])
        detector["image_key"] = detector["image_key_control"] = keys
        if options.write_theta:
            at_frame = first + np.arange(n_planned)
            angles = np.interp(np.arange(len(keys)), at_frame, scan.theta_deg)
            sample = _group(entry, "sample", "NXsample")
            _write_number(sample, "rotation_angle", angles, "degree")
            if options.height_mm is not None:
                heights = np.full(len(keys), options.height_mm * 1e-3)
                _write_number(sample, "z_translation", heights, "m")
        if options.pixel_size_um is not None:
            _write_number(detector, "x_pixel_size", options.pixel_size_um * 1e-6, "m")
        if options.energy_kev is not None:
            beam = _group(instrument, "beam", "NXbeam")
            _write_number(beam, "incident_energy", options.energy_kev, "keV")


def _group(parent: h5py.Group, name: str, nx_class: str) -> h5py.Group:
    group = parent.create_group(name)
    group.attrs["NX_class"] = nx_class
    return group


def _write_number(parent: h5py.Group, name: str, value: Any, units: str) -> None:
    """Write a number or an array with its unit."""
    parent[name] = value
    parent[name].attrs["units"] = units
