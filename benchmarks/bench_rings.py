"""Rings removed against detail lost, for each stripe filter and several kinds of rings.

    python benchmarks/bench_rings.py [--cols 512] [--angles 720]

Sinograms are exact line integrals of a simulated rock with photon noise. "Removed" is the share of
the rings' energy that goes: the variance of the mean around the axis, at each radius, of the error
against the ring-free slice. Negative: rings were added. "Lost" is the rms change of a slice without
rings and noise, as a share of the slice's standard deviation.
"""

import argparse

import numpy as np
from scipy.ndimage import gaussian_filter1d

from tomopipe.prep import stripes, wavelets
from tomopipe.recon.fbp import reconstruct
from tomopipe.recon.plan import make_plan
from tomopipe.simulate.objects import KINDS
from tomopipe.simulate.phantom import project

FILTERS = {
    "sorting 21": lambda s: stripes.remove_by_sorting(s, size_px=21),
    "sorting 9": lambda s: stripes.remove_by_sorting(s, size_px=9),
    "vo": stripes.remove_by_combination,
    "fourier-wavelet": wavelets.remove_by_wavelets,
    "titarenko 5e-4": stripes.remove_by_regularisation,
    "titarenko 0.05": lambda s: stripes.remove_by_regularisation(s, alpha=0.05),
}


def rings(n_angles, n_cols, random):
    """What is added to line integrals; dead columns replace them."""
    none = np.zeros((n_angles, n_cols), np.float32)
    at = random.choice(np.arange(n_cols // 8, n_cols - n_cols // 8), 24, replace=False)
    offset = random.normal(0, 0.05, 24)
    thin, wide, partial, drifting, many = (none.copy() for _ in range(5))
    thin[:, at] = offset
    for first, value in zip(at[:8], offset, strict=False):
        wide[:, first : first + 7] += value
    partial[n_angles // 3 :, at] = offset
    drifting[:, at] = offset * np.linspace(0, 2, n_angles)[:, None]
    many[:] = random.normal(0, 0.01, n_cols)
    return {"thin": thin, "wide": wide, "partial": partial, "drifting": drifting, "many": many}


def ring_energy(error, axis):
    y, x = np.indices(error.shape)
    radius = np.hypot(x - axis[0], y - axis[1])
    inside = radius < min(error.shape) // 2 - 2
    bins = radius[inside].astype(int)
    sums = np.bincount(bins, error[inside])
    profile = sums / np.maximum(np.bincount(bins), 1)
    weight = np.bincount(bins)
    return float(np.sum(weight * (profile - gaussian_filter1d(profile, 15)) ** 2))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cols", type=int, default=512)
    parser.add_argument("--angles", type=int, default=720)
    options = parser.parse_args()
    n_angles, n_cols = options.angles, options.cols
    random = np.random.default_rng(0)
    theta_rad = np.linspace(0, np.pi, n_angles, endpoint=False)
    cor_px = (n_cols - 1) / 2 + 1.3
    plan = make_plan(theta_rad, n_cols)
    axis = n_cols // 2, n_cols // 2 - 1

    def slice_of(sinogram):
        return reconstruct(np.ascontiguousarray(sinogram[None], np.float32), plan, cor_px)[0]

    true = project(KINDS["rock"](n_cols, 5, 3), theta_rad, cor_px, 5, n_cols)[:, 2]
    noisy = -np.log(random.poisson(2e4 * np.exp(-true)).clip(1) / 2e4).astype(np.float32)
    kinds = {name: noisy + added for name, added in rings(n_angles, n_cols, random).items()}
    dead = noisy.copy()
    dead[:, random.choice(n_cols, 6, replace=False)] = 0.4
    kinds["dead"] = dead
    reference, clean = slice_of(noisy), slice_of(true)
    before = {name: ring_energy(slice_of(s) - reference, axis) for name, s in kinds.items()}
    print(f"{n_angles} angles, {n_cols} columns; % of ring energy removed; % of detail lost")
    print("| filter | " + " | ".join(kinds) + " | lost |\n" + "|---" * (len(kinds) + 2) + "|")
    for label, remove in FILTERS.items():
        lost = np.std(slice_of(remove(true)) - clean) / np.std(clean)
        cells = [
            f"{100 * (1 - ring_energy(slice_of(remove(s)) - reference, axis) / before[name]):.0f}"
            for name, s in kinds.items()
        ]
        print(f"| {label} | {' | '.join(cells)} | {100 * lost:.2f} |", flush=True)


if __name__ == "__main__":
    main()
