"""The engines that a GPU is measured with, and the scan that they are given."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomopipe.arrays import module_of
from tomopipe.config import PreprocessBlock
from tomopipe.prep.correct import Corrections
from tomopipe.prep.flats import Beam
from tomopipe.prep.normalise import device_normaliser
from tomopipe.prep.recipe import Detector, steps_of
from tomopipe.recon.fbp import reconstruct
from tomopipe.recon.plan import make_plan
from tomopipe.volumes.encoding import Encoding, encoding_of
from tomopipe_lab.bench.cpu import cor_of
from tomopipe_lab.bench.fourierrec import fourierrec
from tomopipe_lab.bench.phantoms import sharp_sinogram

COUNTS = 40000.0  # of the open beam
CHAIN: dict[str, Any] = {
    "zingers": {"threshold": 0.2},
    "air_px": 1,
    "phase": {"method": "paganin"},
    "stripes": {"method": "sorting", "size_px": 9},
}
# a strength of Paganin's method of 1 px²
_PHASE = {"energy_kev": 25.0, "distance_mm": 0.2534, "pixel_size_um": 1.0}
_DENSITY = 2.0  # attenuation along the longest chord, so that counts stay well above 0

Compute = Callable[[Any], Any]  # from attenuation (n_rows, n_angles, n_cols) to slices
Prepare = Callable[[Any], Any]  # from raw values (n_angles, n_rows, n_cols) to attenuation


@dataclass(frozen=True)
class Scan:
    """A simulated scan of which all rows are the same.

    Attributes
    ----------
    theta_rad : ndarray, shape (n_angles,)
        Angles.
    cor_px : float
        Column of the axis.
    raw : ndarray of uint16, shape (n_angles, n_cols)
        Counts of one row.
    value : float
        Attenuation per pixel of 1 in the phantom.
    """

    theta_rad: NDArray[np.float64]
    cor_px: float
    raw: NDArray[np.uint16]
    value: float


@dataclass(frozen=True)
class Way:
    """What is done to a block on the GPU.

    Attributes
    ----------
    compute : callable
        From attenuation, (block_rows, n_angles, n_cols), to slices.
    prepare : callable
        From raw values to attenuation.
    encoding : Encoding, optional
        How slices are stored; None: as they are, without statistics.
    """

    compute: Compute
    prepare: Prepare
    encoding: Encoding | None = None


def simulated(n_angles: int, n_cols: int) -> Scan:
    """Return counts of the phantom with sharp edges."""
    theta_rad = np.linspace(0, np.pi, n_angles, endpoint=False)
    cor_px = cor_of(n_cols)
    sinogram = sharp_sinogram(n_cols, theta_rad, cor_px)
    value = _DENSITY / float(sinogram.max())
    raw = np.rint(COUNTS * np.exp(-value * sinogram)).astype(np.uint16)
    return Scan(theta_rad, cor_px, raw, value)


def _ours(xp: ModuleType, scan: Scan, block_rows: int) -> Way:
    plan = make_plan(scan.theta_rad, scan.raw.shape[1], xp=xp)
    compute = partial(reconstruct, plan=plan, cor_px=scan.cor_px)
    return Way(compute, normalised(block_rows), Encoding())


def _encoded(xp: ModuleType, scan: Scan, block_rows: int) -> Way:
    limits = (-scan.value, 2 * scan.value)
    return replace(_ours(xp, scan, block_rows), encoding=encoding_of("uint16", limits))


def _corrected(xp: ModuleType, scan: Scan, block_rows: int) -> Way:
    """Return a way with `CHAIN`; a block is taken for the whole detector."""
    n_angles, n_cols = scan.raw.shape
    recipe = PreprocessBlock.model_validate(CHAIN | {"air_px": max(1, n_cols // 100)})
    flat = np.full((block_rows, n_cols), COUNTS, np.float32)
    none = np.zeros((0, block_rows, n_cols), np.float32)
    beam = Beam(flat, np.zeros_like(flat), none, np.zeros((n_angles, 0), np.float32))
    steps = steps_of(recipe, Detector(block_rows, n_cols, **_PHASE), beam)
    corrections = Corrections(recipe, block_rows, beam, steps)
    prepare = partial(corrections.sinograms, rows=(0, block_rows))
    return replace(_ours(xp, scan, block_rows), prepare=prepare)


def normalised(block_rows: int) -> Prepare:
    """Return what corrects for flat and dark, which are sent once, and takes the logarithm."""
    beam: list[Beam] = []

    def prepare(raw: Any) -> Any:
        xp, (n_angles, n_rows, n_cols) = module_of(raw), raw.shape
        if not beam:
            flat = np.full((n_rows, n_cols), COUNTS, np.float32)
            weights = np.zeros((n_angles, 0), np.float32)
            beam.append(Beam(flat, np.zeros_like(flat), flat[None][:0], weights))
        correct = device_normaliser(xp, beam[0], slice(n_rows))
        return xp.ascontiguousarray(correct(raw).transpose(1, 0, 2))

    return prepare


def _tomocupy(xp: ModuleType, scan: Scan, block_rows: int) -> Way:
    """Return TomoCuPy's filter and fourierrec, put together as its own backprojection does."""
    importlib.import_module("tomocupy")
    filters = importlib.import_module("tomocupy.reconstruction.fbp_filter")
    fourierrec = importlib.import_module("tomocupy.reconstruction.fourierrec")
    n_angles, n_cols = scan.raw.shape
    n_padded = 4 * n_cols
    theta = xp.asarray(scan.theta_rad, dtype=np.float32)
    back = fourierrec.FourierRec(n_cols, n_angles, block_rows, theta, "float32")
    row_filter = filters.FBPFilter(n_padded, n_angles, block_rows, "float32")
    frequency = xp.fft.rfftfreq(n_padded).astype(np.float32)
    phase = xp.exp(xp.complex64(2j * np.pi) * (scan.cor_px - n_cols / 2) * frequency)
    response = (row_filter.calc_filter("ramp") * phase).astype(np.complex64)
    responses = xp.ascontiguousarray(xp.broadcast_to(response, (block_rows, len(response))))
    padded = xp.empty((block_rows, n_angles, n_padded), dtype=np.float32)
    pad = n_padded // 2 - n_cols // 2

    def compute(rows: Any) -> Any:
        stream = xp.cuda.get_current_stream()
        padded[:, :, pad : pad + n_cols] = rows
        padded[:, :, :pad], padded[:, :, pad + n_cols :] = rows[:, :, :1], rows[:, :, -1:]
        row_filter.filter(padded, responses, stream)
        slices = xp.zeros((block_rows, n_cols, n_cols), dtype=np.float32)
        filtered = xp.ascontiguousarray(padded[:, :, pad : pad + n_cols])
        back.backprojection(slices, filtered, stream)
        return slices

    return Way(compute, normalised(block_rows))


def _written_anew(xp: ModuleType, scan: Scan, block_rows: int) -> Way:
    compute = fourierrec(xp, scan.theta_rad, scan.raw.shape[1], scan.cor_px)
    return Way(compute, normalised(block_rows))


MAKERS: dict[str, Callable[[ModuleType, Scan, int], Way]] = {
    "tomopipe": _ours,
    "tomopipe, uint16 out": _encoded,
    f"tomopipe, {', '.join(CHAIN)}": _corrected,
    "TomoCuPy fourierrec": _tomocupy,
    "fourierrec written anew": _written_anew,
}
