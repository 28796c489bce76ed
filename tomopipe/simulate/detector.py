"""Beam and detector: from transmissions to frames of counts, with fixed pattern and noise."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

OPEN_BEAM_ADU = 30000.0
FULL_WELL_ADU = 65535.0


@dataclass(frozen=True)
class Beam:
    """Beam and detector of one scan."""

    # photons per pixel in the open beam where it is brightest; None: no noise at all
    counts: float | None = 20000.0
    # frames of each; 0 writes none
    n_flats: int = 10
    n_darks: int = 10
    vignetting: float = 0.3  # loss of intensity at the corners of the detector, 0 to 1
    dust: int = 12  # spots on the scintillator, in flats and projections alike
    # columns whose gain differs between flats and projections: rings in the slices
    stripes: int = 0
    stripe_gain: float = 0.02  # standard deviation of that difference
    # column about which dust, absent in the flats, lies mirrored, as on the wall of a furnace. It
    # does not rotate, and a finder of the COR may take that column for the axis.
    fixed_dust_px: float | None = None
    fixed_dust_depth: float = 0.3  # largest line integral of that dust
    # mean of the dark frames and noise of reading, in units of the detector
    dark_adu: float = 100.0
    read_noise_adu: float = 2.0


class Detector:
    """Converts transmissions to frames of counts; all random numbers come from one seed."""

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
    if beam.fixed_dust_px is not None:
        col = np.arange(n_cols)
        for _ in range(12):
            distance_px, sigma_px = rng.uniform(0, 0.45 * n_cols), rng.uniform(0.8, 2.5)
            depth = rng.uniform(0.3, 1.0) * beam.fixed_dust_depth
            for side in (-1, 1):
                position_px = beam.fixed_dust_px + side * distance_px
                fixed *= np.exp(-depth * np.exp(-(((col - position_px) / sigma_px) ** 2) / 2))
    return fixed
