"""Draw the figures of docs/how-to, before and after, from phantoms of the demonstration.

`tomopipe lab simulate heights --heights 3`, `tomopipe run heights`, then
`python docs/figures/how_to.py heights`.
"""

import sys
from pathlib import Path

import h5py
import numpy as np
from explanations import below, beside, grey, panel, save

import tomopipe as tp
from tomopipe.prep.half_acquisition import HalfAcquisition, plan_of
from tomopipe.recon.angular_sampling import unpaired
from tomopipe.simulate.phantom import foam, project, rock
from tomopipe.stream.try_sweep import sweep_slices

N_COLS, N_ROWS = 256, 72
COR_PX = 125.0
COUNTS = 20000
THETA_DEG = np.linspace(0, 180, 361)


def noisy(transmission, rng):
    """Return counts of frames, and a flat and a dark without noise."""
    shape = transmission.shape[1:]
    frames = rng.poisson(COUNTS * transmission).astype(np.float32)
    return frames, np.full((1, *shape), COUNTS, np.float32), np.zeros((1, *shape), np.float32)


def slice_of(frames, flat, dark, **preprocess):
    """Return the middle slice of a scan, corrected."""
    sinograms = tp.correct(frames, flat, dark, **preprocess)
    return tp.reconstruct(sinograms[[len(sinograms) // 2]], THETA_DEG, COR_PX, device="cpu")[0]


def rings_figure(rng):
    """Columns of a wrong gain make rings, which a filter of stripes removes."""
    integrals = project(foam(N_COLS, 3, 1), np.deg2rad(THETA_DEG), COR_PX, 3, N_COLS)
    gain = np.ones(N_COLS)
    gain[rng.choice(N_COLS, 40, replace=False)] += rng.normal(0, 0.02, 40)
    scan = noisy(np.exp(-integrals) * gain, rng)
    images = {
        name: slice_of(*scan, stripes={"method": name}) for name in ("none", "gated", "sorting")
    }
    limits = np.percentile(images["gated"], (1, 99.5))
    save(beside(*(panel(grey(i, *limits), n, 1.1) for n, i in images.items())), "how-to-rings.png")


def phase_figure(rng):
    """Fringes of a coherent beam; retrieval turns them into the density, with less noise."""
    optics = {"energy_kev": 25.0, "distance_mm": 80.0, "pixel_size_um": 0.65}
    integrals = 0.4 * project(
        rock(N_COLS, N_ROWS, 1), np.deg2rad(THETA_DEG), COR_PX, N_ROWS, N_COLS
    )
    plain = np.exp(-integrals)
    wavelength_um = 1.239842e-3 / optics["energy_kev"]
    delta_beta = 20
    alpha = 1e3 * optics["distance_mm"] * wavelength_um * delta_beta / (4 * np.pi * 0.65**2)
    second = sum(np.roll(plain, by, axis) for axis in (1, 2) for by in (1, -1)) - 4 * plain
    scan = noisy(np.clip(plain - alpha * second, 0, None), rng)
    before = slice_of(*scan)
    after = slice_of(*scan, phase={"method": "paganin", "delta_beta": delta_beta}, **optics)
    pictures = (("none", before), (f"paganin, delta_beta {delta_beta}", after))
    save(beside(*(panel(grey(i), n, 1.5) for n, i in pictures)), "how-to-phase.png")


def half_figure(rng):
    """A full rotation about an axis near the edge of a detector that sees half of the sample."""
    theta_rad = np.deg2rad(np.linspace(0, 360, 721))[:-1]
    n_cols, cor_px = N_COLS // 2 + 16, 12.0
    wide = project(rock(N_COLS, 1, 3, size=0.85), theta_rad, cor_px, 1, n_cols)[:, 0]
    alone, slopes = unpaired(theta_rad), (0.0, 0.0)
    images = []
    for is_half in (False, True):
        half = HalfAcquisition(n_cols, cor_px, alone, slopes)
        plan = plan_of(theta_rad, half, is_half, filter="ramp", batch_size=4)
        made = list(sweep_slices(wide, plan, np.array([cor_px]), slopes))
        images.append(np.asarray(made[0][1])[0])
    names = ("half_acquisition: no", "auto: twice the width")
    limits = np.percentile(images[1], (1, 99.7))
    shown = zip(images, names, strict=True)
    save(beside(*(panel(grey(i, *limits), n, 1.3) for i, n in shown)), "how-to-half.png")


def stitching_figure(campaign):
    """Upright planes of scans at several heights, and of the volume that they give."""

    def plane(path):
        with h5py.File(path) as file:
            data = file["exchange/data"]
            return data[:, data.shape[1] // 2]

    parts = [plane(path) for path in sorted(campaign.glob("results/tall_*_rec.h5"))]
    whole = plane(campaign / "results/stitched/tall_rec.h5")
    limits = np.percentile(whole, (0.5, 99.5))
    pictures = [panel(grey(p, *limits), f"height {n}", 2) for n, p in enumerate(parts, start=1)]
    save(
        beside(below(*pictures), panel(grey(whole, *limits), "stitched", 2)), "how-to-stitching.png"
    )


def main():
    """Write the pictures beside this file."""
    rng = np.random.default_rng(0)
    rings_figure(rng)
    phase_figure(rng)
    half_figure(rng)
    stitching_figure(Path(sys.argv[1]))


if __name__ == "__main__":
    main()
