"""Cupping of objects wider than the detector: what rows are taken to be beyond its edges.

    python lab/benchmarks/bench_region.py [--seeds 3]

Simulated rocks and foams; round photographs about the axis, and oblong ones away from it, projected
by scikit-image (the rule was made without them: they are the test). Printed are the error of the
mean over 0.9 of the field's radius, and in brackets what the level falls by from the axis to there,
in percent of the true mean; then the mean over all objects of the root mean square error of the
profile.
"""

import argparse

import numpy as np
from skimage import data
from skimage.color import rgb2gray
from skimage.transform import radon, resize

from tomopipe.prep.edge_slopes import edge_slopes_of
from tomopipe.recon.fbp import reconstruct
from tomopipe.recon.plan import make_plan
from tomopipe.simulate.objects import foam, rock
from tomopipe.simulate.phantom import project, slice_truth

N, N_ANGLES = 256, 402
HALF = N // 2
THETA_RAD = np.linspace(0, np.pi, N_ANGLES, endpoint=False)
PICTURES = ("coins", "cell", "brick", "moon", "grass", "camera")
ROWS, COLS = np.indices((N, N))
TENTH = (20 * np.hypot(COLS - HALF, ROWS - (HALF - 1)) / N).astype(int)


def simulated(kind, size, seed):
    """Return sinogram, truth and axis of an ellipsoid's slice, `size` times the field."""
    body = kind(N, 3, seed, size=size)
    cor_px = (N - 1) / 2
    return project(body, THETA_RAD, cor_px, 3, N)[:, 1], slice_truth(body, 1, N), cor_px


def photographed(name, size, oblong):
    """Return the same of a picture; truth: the slice of the whole of it."""
    picture = getattr(data, name)()
    picture = rgb2gray(picture) if picture.ndim == 3 else picture / 255
    n = 2 * int(size * HALF)
    rows, cols = np.indices((n, n)) - n // 2
    kept = (
        (abs(rows) < 0.38 * n) & (abs(cols) < 0.45 * n)
        if oblong
        else np.hypot(rows, cols) < n // 2 - 1
    )
    n_wide = 2 * int(0.9 * n)
    down, right = (n_wide - n) // 2 + (np.array([0.12, -0.1]) * N * oblong).astype(int)
    wide = np.zeros((n_wide, n_wide))
    wide[down : down + n, right : right + n] = resize(picture, (n, n), anti_aliasing=True) * kept
    lines = radon(wide, np.rad2deg(THETA_RAD), circle=True).T.astype(np.float32)
    inner = slice(n_wide // 2 - HALF, n_wide // 2 + HALF)
    whole = reconstruct(lines[None], make_plan(THETA_RAD, n_wide), n_wide / 2)[0]
    return lines[:, inner], whole[inner, inner], HALF


def errors(lines, truth, cor_px):
    """Return the error of each tenth of the radius, percent of the mean, for each rule."""
    rules = {"measured": edge_slopes_of(lines.mean(axis=0)), "cosine": (0.0, 0.0), "constant": None}
    images = {
        name: reconstruct(lines[None], make_plan(THETA_RAD, N, edge_slopes_per_px=slopes), cor_px)[
            0
        ]
        for name, slopes in rules.items()
    }
    wide = np.pad(lines, ((0, 0), (HALF, HALF)))[None]
    zeros = reconstruct(wide, make_plan(THETA_RAD, 2 * N), cor_px + HALF)[0]
    images["zeros"] = zeros[HALF:-HALF, HALF:-HALF]
    mean = truth[TENTH < 9].mean()
    return {
        name: np.array([100 * (image - truth)[i == TENTH].mean() / mean for i in range(9)])
        for name, image in images.items()
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3, help="of each simulated object")
    n_seeds = parser.parse_args().seeds
    weights = np.arange(1, 18, 2) / 81
    for kinds, make, sizes, numbers in (
        ((rock, foam), simulated, (1.1, 1.25, 1.6, 2.0), range(1, 1 + n_seeds)),
        (PICTURES, photographed, (1.2, 1.7, 2.5), (0,)),
        (PICTURES, photographed, (1.3, 1.8, 2.5), (1,)),
    ):
        rms = {}
        for kind in kinds:
            for size in sizes:
                all_errors = [errors(*make(kind, size, number)) for number in numbers]
                parts = []
                for rule in all_errors[0]:
                    profiles = np.array([scan_errors[rule] for scan_errors in all_errors])
                    rms.setdefault(rule, []).extend(np.sqrt(profiles**2 @ weights))
                    profile = profiles.mean(axis=0)
                    parts.append(f"{rule} {profile @ weights:.0f} ({profile[0] - profile[-1]:.0f})")
                name = kind if isinstance(kind, str) else kind.__name__
                print(f"{name}, {size:g} x the field: " + ", ".join(parts))
        print("rms: " + ", ".join(f"{rule} {np.mean(v):.1f} %" for rule, v in rms.items()))


if __name__ == "__main__":
    main()
