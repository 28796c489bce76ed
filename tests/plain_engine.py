"""The engine as plain lines of NumPy: what the compiled stages and the kernels are held to."""

import numpy as np

from tomopipe.recon.angular_sampling import overlap_weights
from tomopipe.recon.portable import fold, padded_spectra, spreading_matrix, to_images


def centre(spectra, plan, cor_px, angles):
    """Filter, move the axis of each slice to 0, weigh angles, map them to the upper half plane."""
    cycles = (np.arange(plan.n_padded // 2 + 1) / plan.n_padded) * cor_px[:, None]
    samples = spectra * (np.exp(2j * np.pi * cycles) * plan.gain)[:, None, :]
    samples *= plan.weight[angles, None]
    return np.where(plan.flipped[angles, None], samples.conj(), samples).astype(np.complex64)


def spread(samples, plan, angles):
    """Return half grids (slice, row, column) of samples (slice, angle, bin)."""
    flat = samples.reshape(len(samples), -1)
    return (spreading_matrix(plan, angles) @ flat.T).T.reshape(-1, *plan.half_grid_shape)


def reconstruct(sinograms, plan, cor_px):
    """Return slices of sinograms (n_slices or 1, n_angles, n_cols)."""
    everything = slice(0, plan.n_angles)
    rows = sinograms[:, plan.angle_order]
    if plan.full_rotation:
        unpaired = plan.unpaired[plan.angle_order]
        rows = rows * overlap_weights(plan.n_cols, cor_px, unpaired)
    samples = centre(padded_spectra(rows, plan), plan, cor_px, everything)
    return to_images(fold(spread(samples, plan, everything)), plan)
