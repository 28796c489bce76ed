"""CPU time of the corrections beside Algotom's in the same run: ratios of at most 1 are wanted.

    python lab/benchmarks/bench_prep.py [--cols 2048] [--angles 1501] [--rows 1024]

Both do the same work on the same numbers, one thread each; the least of three runs counts.
Corrections that Algotom does not have are compared with SciPy's.
"""

import argparse
import os
import time
from collections.abc import Callable

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from algotom.prep import correction, filtering, removal
from scipy.ndimage import median_filter

from tomopipe.config.preprocess import StripesBlock
from tomopipe.prep import bad_pixels as pixels
from tomopipe.prep import phase, stripes
from tomopipe.prep.intensity import correct_hardening
from tomopipe.prep.normalise import normalise
from tomopipe.prep.stripes_gated import remove_proven
from tomopipe.prep.warp import Warp, apply_warp

N_RUNS = 3


def cpu_seconds(function: Callable[[], object]) -> float:
    function()  # compiles, makes plans
    times = []
    for _ in range(N_RUNS):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return min(times)


def sinogram(n_angles, n_cols):
    random = np.random.default_rng(0)
    x = np.linspace(-1, 1, n_cols)
    theta = np.linspace(0, np.pi, n_angles)[:, None]
    blobs = np.exp(-(((x - 0.3 * np.cos(theta)) / 0.3) ** 2))
    stripe = np.where(random.random(n_cols) < 0.03, random.normal(0, 0.1, n_cols), 0)
    return (blobs + stripe + random.normal(0, 0.01, blobs.shape)).astype(np.float32)


def cases(n_angles, n_rows, n_cols):
    random = np.random.default_rng(1)
    sino = sinogram(n_angles, n_cols)
    raw = random.integers(2000, 40000, (8, n_rows, n_cols)).astype(np.uint16)
    flat = random.normal(45000, 300, (n_rows, n_cols)).astype(np.float32)
    dark = np.full((n_rows, n_cols), 100, np.float32)
    frame = random.normal(0.6, 0.01, (1, n_rows, n_cols)).astype(np.float32)
    frame[0, ::50, ::50] *= 3  # zingers
    alpha_px2 = 100.0
    ratio = 4 * np.pi**2 * alpha_px2
    factors = (1.0, 1e-5, -1e-9)
    warp = Warp(n_rows, n_cols, distortion=factors)
    middle = (n_cols - 1) / 2, (n_rows - 1) / 2
    rows = (0, n_rows)

    def algotom_flat():
        transmission = correction.flat_field_correction(raw, flat, dark)
        return -np.log(np.maximum(transmission, 1e-5))

    return {
        "flat, dark, log": (lambda: normalise(raw, flat, dark), algotom_flat, 1.0),
        "stripes: sorting": (
            lambda: stripes.remove_by_sorting(sino, StripesBlock(size_px=21)),
            lambda: removal.remove_stripe_based_sorting(sino, 21),
            1.0,
        ),
        "stripes: fourier-wavelet": (
            lambda: stripes.remove_by_wavelets(sino, StripesBlock(level=5)),
            lambda: removal.remove_stripe_based_wavelet_fft(sino),
            1.0,
        ),
        "stripes: vo": (
            lambda: stripes.remove_by_combination(sino, StripesBlock(large_px=51, size_px=21)),
            lambda: removal.remove_all_stripe(sino),
            1.5,
        ),
        "stripes: gated (beside Algotom's vo)": (
            lambda: remove_proven(sino),
            lambda: removal.remove_all_stripe(sino),
            0.5,
        ),
        "stripes: titarenko": (
            lambda: stripes.remove_by_regularisation(sino),
            lambda: removal.remove_stripe_based_regularization(sino, apply_log=False, sort=False),
            1.5,
        ),
        "phase: paganin": (
            lambda: phase.retrieve_phase(frame, alpha_px2=alpha_px2, rows=rows),
            lambda: filtering.fresnel_filter(frame[0], ratio, dim=2, pad=150, apply_log=False),
            1.0,
        ),
        "zingers": (
            lambda: pixels.remove_zingers(frame, threshold=0.2),
            lambda: removal.remove_zinger(frame[0], 0.2, size=1),
            1.5,
        ),
        "zingers, 5 px (SciPy's median)": (
            lambda: pixels.remove_zingers(frame, threshold=0.2, size_px=5),
            lambda: median_filter(frame, (1, 5, 5)),
            1.5,
        ),
        "distortion": (
            lambda: apply_warp(frame, warp, rows, rows),
            lambda: correction.unwarp_projection(frame[0], *middle, factors),
            1.5,
        ),
        "hardening (NumPy's polyval)": (
            lambda: correct_hardening(sino, [1.0, 0.1, 0.01]),
            lambda: np.polyval([0.01, 0.1, 1.0, 0.0], sino),
            1.5,
        ),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cols", type=int, default=2048)
    parser.add_argument("--angles", type=int, default=1501)
    parser.add_argument("--rows", type=int, default=1024)
    parser.add_argument("--only", default="", help="part of the names of the corrections")
    options = parser.parse_args()
    print(f"{options.angles} angles, {options.rows} rows, {options.cols} columns; CPU seconds")
    print("| correction | tomopipe | peer | ratio | allowed |\n|---|---|---|---|---|")
    for name, (ours, theirs, most) in cases(options.angles, options.rows, options.cols).items():
        if options.only not in name:
            continue
        mine, peer = cpu_seconds(ours), cpu_seconds(theirs)
        print(f"| {name} | {mine:.3f} | {peer:.3f} | {mine / peer:.2f} | {most:g} |", flush=True)


if __name__ == "__main__":
    main()
