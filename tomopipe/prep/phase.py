"""Paganin's phase retrieval, block by block: a kernel cut to a few rows and columns.

The filter 1 / (1 + alpha k^2) is the Fourier transform of a kernel that falls off as
exp(-r / sqrt(alpha)). It is cut where `TAIL` of it is left, and scaled to keep the mean, so that
a row depends on a fixed number of rows on either side, however the volume is divided. An unsharp
mask, (1 + coeff) image - coeff (image blurred by a Gaussian), is a factor of the same filter.

References
----------
.. [1] Paganin, Mayo, Gureyev, Miller, Wilkins, "Simultaneous phase and amplitude extraction from a
       single defocused image of a homogeneous object", J. Microsc. 206 (2002) 33.
.. [2] Paganin, Favre-Nicolin, Mirone, Rack, Villanova, Olbinado, Fernandez, da Silva, Pelliccia,
       "Boosting spatial resolution by incorporating periodic boundary conditions into single-
       distance hard-x-ray phase retrieval", J. Opt. 22 (2020) 115607.
"""

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tomopipe.arrays import fft_of, module_of, once
from tomopipe.config import PreprocessBlock
from tomopipe.config.preprocess import PhaseBlock
from tomopipe.errors import ScanError
from tomopipe.prep.recipe import USUAL, IndexRange, Part

TAIL = 1e-3  # share of the kernel neglected on either side
_HC_KEV_NM = 1.2398419843
_SIGMAS = 4  # at which a Gaussian is cut
_LEAST_HALO = 8  # for weak filters, whose response ends at the pixels' own frequency
_BATCH_BYTES = 2**26  # of transforms


def filter_strength(
    *, energy_kev: float, distance_mm: float, pixel_size_um: float, delta_beta: float
) -> float:
    """Return alpha of [1] in squared pixels: distance * wavelength * delta/beta / (4 pi).

    The distance is from the sample to the detector (divided by the magnification for a cone beam),
    the pixel size that in the sample; `delta_beta`: refraction over absorption of the material.
    """
    wavelength_um = _HC_KEV_NM * 1e-3 / energy_kev
    alpha_um2 = distance_mm * 1e3 * wavelength_um * delta_beta / (4 * math.pi)
    return alpha_um2 / pixel_size_um**2


class Mask(NamedTuple):
    """An unsharp mask; none by default."""

    coeff: float = 0.0
    sigma_px: float = 1.0


NO_MASK = Mask()


def kernel_halo(alpha_px2: float, mask: Mask = NO_MASK) -> int:
    """Return the pixels on each side that the cut kernel reaches."""
    if alpha_px2 <= 0:
        return 0
    own = max(_LEAST_HALO, math.ceil(-math.log(TAIL) * math.sqrt(alpha_px2)))
    return own + (math.ceil(_SIGMAS * mask.sigma_px) if mask.coeff else 0)


def phase_strength(recipe: PreprocessBlock, metadata: Mapping[str, float | None]) -> float:
    """Return the strength of phase retrieval (squared pixels), 0 for none.

    A ScanError names the numbers of `USUAL` that it needs and that are unknown.
    """
    if recipe.phase.method == "none":
        return 0.0
    numbers = {
        key: float(value)
        for key in USUAL
        if (value := metadata.get(key)) and math.isfinite(value) and value > 0
    }
    if lacking := [key for key in USUAL if key not in numbers]:
        raise ScanError(
            f"phase retrieval needs {', '.join(lacking)}, but the file has no usable value: "
            f"set {', '.join(f'input.{key}' for key in lacking)}"
        )
    return filter_strength(delta_beta=recipe.phase.delta_beta, **numbers)


def strength_of(recipe: PreprocessBlock, scan: Any, beam: Any) -> float:
    """Return the strength (squared pixels) of a scan, by the numbers that it has."""
    return phase_strength(recipe, {key: getattr(scan, key) for key in USUAL})


def rows_of_phase(rows: IndexRange, options: PhaseBlock, alpha_px2: float) -> IndexRange:
    """Return the rows that the cut kernel reaches."""
    halo = kernel_halo(alpha_px2, mask_of(options))
    return rows[0] - halo, rows[1] + halo


def mask_of(options: PhaseBlock) -> Mask:
    """Return coefficient and sigma (pixels) of the unsharp mask."""
    return Mask(options.unsharp_coeff, options.unsharp_sigma)


def filter_projections(projections: Any, options: PhaseBlock, part: Part) -> Any:
    """Apply `preprocess.phase`."""
    rows, generalised = (part.inner.start, part.inner.stop), options.method == "generalised"
    return retrieve_phase(
        projections, alpha_px2=part.fit, rows=rows, generalised=generalised, mask=mask_of(options)
    )


def retrieve_phase(
    transmission: Any,
    *,
    alpha_px2: float,
    rows: tuple[int, int],
    generalised: bool = False,
    mask: Mask = NO_MASK,
) -> Any:
    """Filter projections by Paganin's method; -log of the result is the projected attenuation.

    Projections (n, n_read, n_cols), of NumPy or CuPy, have up to `kernel_halo` rows more on either
    side than are wanted (`rows`, of those given, the last excluded); where there are fewer, and
    left and right, the edge is repeated. `generalised`: the filter of [2], which blurs less near
    the pixel's own frequency. `mask`: an unsharp mask of the result.
    """
    xp = module_of(transmission)
    halo = kernel_halo(alpha_px2, mask)
    n, n_read, n_cols = transmission.shape
    first, last = max(rows[0] - halo, 0), min(rows[1] + halo, n_read)
    missing = (halo - (rows[0] - first), halo - (last - rows[1]))
    fft = fft_of(xp)
    shape = (
        fft.next_fast_len(last - first + sum(missing), real=True),
        fft.next_fast_len(n_cols + 2 * halo, real=True),
    )
    if xp is np:
        transfer = _transfer(alpha_px2, generalised, mask, shape)
    else:  # shapes differ from batch to batch
        (kernel,) = once(xp, _kernel_of, alpha_px2, generalised, mask)
        transfer = _transform(kernel, shape)
    out = xp.empty((n, rows[1] - rows[0], n_cols), np.float32)
    step = max(1, _BATCH_BYTES // (4 * shape[0] * shape[1]))
    pad = ((0, 0), missing, (halo, shape[1] - n_cols - halo))
    for start in range(0, n, step):
        padded = xp.pad(transmission[start : start + step, first:last], pad, mode="edge")
        spectrum = fft.rfft2(padded, s=shape)
        spectrum *= transfer
        filtered = fft.irfft2(spectrum, s=shape)
        out[start : start + step] = filtered[:, halo : halo + out.shape[1], halo : halo + n_cols]
    return out


@lru_cache(maxsize=4)
def _transfer(
    alpha_px2: float, generalised: bool, mask: Mask, shape: tuple[int, int]
) -> NDArray[np.float32]:
    return np.asarray(_transform(cut_kernel(alpha_px2, generalised, mask), shape))


def _transform(kernel: Any, shape: tuple[int, int]) -> Any:
    """Return the transform of the cut kernel on a grid; real, as the kernel is even."""
    xp, halo = module_of(kernel), len(kernel) // 2
    placed = xp.zeros(shape)
    placed[: len(kernel), : len(kernel)] = kernel
    placed = xp.roll(placed, (-halo, -halo), axis=(0, 1))
    return xp.fft.rfft2(placed).real.astype(np.float32)


def _kernel_of(alpha_px2: float, generalised: bool, mask: Mask) -> tuple[NDArray[np.float64]]:
    return (cut_kernel(alpha_px2, generalised, mask),)


@lru_cache(maxsize=4)
def cut_kernel(alpha_px2: float, generalised: bool, mask: Mask = NO_MASK) -> NDArray[np.float64]:
    """Return the kernel, cut and of sum 1, shape (2 * halo + 1, 2 * halo + 1)."""
    halo = kernel_halo(alpha_px2, mask)
    n = 4 * halo + 4
    k = 2 * np.pi * np.fft.fftfreq(n)
    square = 2 - 2 * np.cos(k) if generalised else k**2
    response = 1 / (1 + alpha_px2 * (square[:, None] + square))
    if mask.coeff:
        blur = np.exp(-0.5 * (mask.sigma_px * k) ** 2)
        response *= 1 + mask.coeff * (1 - blur[:, None] * blur)
    kernel = np.fft.fftshift(np.fft.ifft2(response).real)
    middle = n // 2
    inner = slice(middle - halo, middle + halo + 1)
    cut = kernel[inner, inner]
    return np.asarray(cut / cut.sum())
