"""Reconstruction by unequally spaced Fourier transforms with a Gaussian kernel, for comparison.

What TomoCuPy's fourierrec does, written anew from the papers: rows are padded, filtered and
transformed; each sample is added, atomically, to the cells of a grid of twice the size; that is
transformed and divided by the kernel's transform. Two slices ride in one complex one.

References
----------
.. [1] G. Beylkin, "On the fast Fourier transform of functions with singularities", Appl. Comput.
   Harmon. Anal. 2, 363 (1995).
.. [2] V. Nikitin, "TomocuPy - efficient GPU-based tomographic reconstruction with asynchronous data
   processing", J. Synchrotron Rad. 30, 179 (2023).
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomopipe.arrays import fft_of
from tomopipe.recon.cuda import kernel
from tomopipe.recon.plan import filter_response

ACCURACY = 1e-3  # of the transform
_THREADS = 256

SOURCE = r"""
// A thread for each sample; blocks of them along a row, for each angle and pair of slices.
extern "C" __global__ void scatter(
    const float2* __restrict__ rows, const float* __restrict__ theta, float2* grid,
    const int n, const int half_width, const float sharpness, const float weight)
{
    const int bin = blockIdx.x * blockDim.x + threadIdx.x, size = 2 * n;
    if (bin >= n) return;
    const float2 value = rows[((long long)blockIdx.z * gridDim.y + blockIdx.y) * n + bin];
    const int k = bin < n / 2 ? bin : bin - n;
    const float sign = k & 1 ? -weight : weight;  // the row's origin is its middle
    const float x = 2.0f * k * cosf(theta[blockIdx.y]), y = -2.0f * k * sinf(theta[blockIdx.y]);
    const int col = (int)floorf(x) - half_width, row = (int)floorf(y) - half_width;
    float2* half = grid + (long long)blockIdx.z * size * size;
    for (int i = 0; i <= 2 * half_width; ++i) {
        const float down = row + i - y;
        for (int j = 0; j <= 2 * half_width; ++j) {
            const float across = col + j - x;
            const float w = sign * expf(-sharpness * (down * down + across * across));
            float2* to = half + (long long)((row + i + size) % size) * size
                + (col + j + size) % size;
            atomicAdd(&to->x, w * value.x);
            atomicAdd(&to->y, w * value.y);
        }
    }
}
"""


def fourierrec(
    xp: ModuleType, theta_rad: NDArray[np.float64], n: int, cor_px: float
) -> Callable[[Any], Any]:
    """Return what makes slices of sinograms (n_rows, n_angles, n), n even, over 180 degrees."""
    spread = -np.log(ACCURACY) / (2 * n**2)
    half_width = int(
        np.ceil(2 * n / np.pi * np.sqrt(-spread * np.log(ACCURACY) + (spread * n) ** 2 / 4))
    )
    theta = xp.asarray(theta_rad.astype(np.float32))
    n_padded, pad = 4 * n, 3 * n // 2
    shift = np.exp(2j * np.pi * (cor_px - n / 2) * np.arange(n_padded // 2 + 1) / n_padded)
    response = xp.asarray((filter_response("ramp", n_padded) * shift).astype(np.complex64))
    columns, rows = np.arange(n) - n // 2, np.arange(n) - (n // 2 - 1)
    scale = np.pi / len(theta_rad) / n
    down, across = (xp.asarray(np.exp(spread * p**2).astype(np.float32)) for p in (rows, columns))
    rows, columns = xp.asarray(rows % (2 * n)), xp.asarray(columns % (2 * n))
    scatter = kernel(xp, SOURCE, "scatter")

    def compute(sinograms: Any) -> Any:
        fft, n_slices = fft_of(xp), len(sinograms)
        padded = xp.empty((*sinograms.shape[:2], n_padded), dtype=np.float32)
        padded[:, :, pad : pad + n] = sinograms
        padded[:, :, :pad], padded[:, :, pad + n :] = sinograms[:, :, :1], sinograms[:, :, -1:]
        filtered = fft.irfft(fft.rfft(padded) * response)[:, :, pad : pad + n]
        pairs = xp.zeros(((n_slices + 1) // 2, len(theta), n), dtype=np.complex64)
        pairs += filtered[0::2]
        pairs[: n_slices // 2] += np.complex64(1j) * filtered[1::2]
        grid = xp.zeros((len(pairs), 2 * n, 2 * n), dtype=np.complex64)
        weight = np.pi / spread / (2 * n) ** 2 * scale
        scatter(
            (-(-n // _THREADS), len(theta), len(pairs)), (_THREADS,),
            (xp.ascontiguousarray(fft.fft(pairs)), theta, grid, np.int32(n), np.int32(half_width),
             np.float32(np.pi**2 / spread / (2 * n) ** 2), np.float32(weight)),
        )  # fmt: skip
        images = fft.ifft2(grid, norm="forward")[:, rows][:, :, columns]
        images *= down[:, None] * across
        slices = xp.empty((n_slices, n, n), dtype=np.float32)
        slices[0::2], slices[1::2] = images.real, images[: n_slices // 2].imag
        return slices

    return compute
