"""The same sum by finufft, called simply: the yardstick that anyone can install."""

from __future__ import annotations

import importlib
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tomopipe.recon.angular_sampling import angle_weights
from tomopipe.recon.plan import fast_even_size, filter_response

Spectra = NDArray[np.complex64]


def finufft_engine(
    theta_rad: NDArray[np.float64], n_cols: int
) -> Callable[[NDArray[np.float32], float], NDArray[np.float32]]:
    """Prepare the reconstruction of pairs of slices, two real ones in one complex one.

    Rows are padded with their edge values to twice their length. It gets fewer samples than our
    engine spreads: beyond a sixteenth of the spectrum every second bin, 1.25 n_cols per ray.

    Parameters
    ----------
    theta_rad : ndarray, shape (n_angles,)
        Projection angles.
    n_cols : int
        Detector columns.

    Returns
    -------
    callable
        run(sinograms (n_slices, n_angles, n_cols), cor_px) returns (n_slices, n_cols, n_cols).
    """
    finufft = importlib.import_module("finufft")
    n_padded = fast_even_size(2 * n_cols)
    k, gain = _bins(n_padded)
    frequency = 2 * np.pi * k / n_padded
    x = (np.cos(theta_rad)[:, None] * frequency).ravel().astype(np.float32)
    y = (-np.sin(theta_rad)[:, None] * frequency).ravel().astype(np.float32)
    weight = angle_weights(theta_rad)[:, None]
    n_made = n_cols + 1 + n_cols % 2
    # positions from -n_made // 2 on: the axis is at our voxel after this many
    first_y, first_x = n_made // 2 - (n_cols // 2 - 1), n_made // 2 - n_cols // 2

    def run(sinograms: NDArray[np.float32], cor_px: float) -> NDArray[np.float32]:
        n_slices = len(sinograms)
        if n_slices % 2:
            sinograms = np.concatenate([sinograms, np.zeros_like(sinograms[:1])])
        factor = (weight * (np.exp(2j * np.pi * k * cor_px / n_padded) * gain)).astype("c8")
        samples = np.empty((len(sinograms) // 2, len(x)), dtype=np.complex64)
        for i, row in enumerate(samples):
            row[:] = (_pair(sinograms[2 * i : 2 * i + 2], k, n_padded) * factor).ravel()
        images = finufft.nufft2d1(
            y, x, samples, (n_made, n_made), eps=1e-3, isign=1, upsampfac=1.25, nthreads=1
        )
        images = images[:, first_y : first_y + n_cols, first_x : first_x + n_cols]
        both = np.stack([images.real, images.imag], axis=1)
        return np.asarray(both.reshape(-1, n_cols, n_cols)[:n_slices])

    return run


def _bins(n_padded: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the bins used, of both signs, and their gain: filter, and weight of those skipped."""
    k = np.arange(-n_padded // 2 + 1, n_padded // 2)
    fade = np.clip(2 - abs(k) / (n_padded / 16), 0, 1)
    share = np.where(k % 2 == 0, 2 - fade, fade)
    k, share = k[share > 0], share[share > 0]
    return k, share * filter_response("ramp", n_padded)[abs(k)] / n_padded


def _pair(pair: NDArray[np.float32], k: NDArray[np.int64], n_padded: int) -> Spectra:
    """Return the spectra of two sinograms as that of one complex one."""
    rfft = importlib.import_module("scipy.fft").rfft
    n_cols = pair.shape[2]
    n_right = (n_padded - n_cols) // 2
    padded = np.empty((2, pair.shape[1], n_padded), dtype=np.float32)
    padded[..., :n_cols] = pair
    padded[..., n_cols : n_cols + n_right] = pair[..., -1:]
    padded[..., n_cols + n_right :] = pair[..., :1]
    spectra = rfft(padded)[..., abs(k)]
    spectra[..., k < 0] = spectra[..., k < 0].conj()
    return np.asarray(spectra[0] + 1j * spectra[1])
