"""Cupping of objects wider than the detector: edge values that fade or stay, or zeros beyond it.

python benchmarks/bench_region.py

Error of the mean at each tenth of the radius, in percent of the true mean.
"""

import numpy as np

from tomopipe.recon.fbp import reconstruct
from tomopipe.recon.plan import make_plan
from tomopipe.simulate.objects import foam, rock
from tomopipe.simulate.phantom import project, slice_truth

N, N_ANGLES = 256, 402


def main():
    theta_rad = np.linspace(0, np.pi, N_ANGLES, endpoint=False)
    cor_px, half = (N - 1) / 2, N // 2
    y, x = np.indices((N, N))
    tenth = (20 * np.hypot(x - half, y - (half - 1)) / N).astype(int)
    for kind in (rock, foam):
        for size in (1.1, 1.25, 1.6, 2.0):
            body = kind(N, 3, 1, size=size)
            lines = project(body, theta_rad, cor_px, 3, N)[:, 1]
            truth = slice_truth(body, 1, N)
            faded, edges = (
                reconstruct(lines[None], make_plan(theta_rad, N, fade_edges=fade), cor_px)[0]
                for fade in (True, False)
            )
            wide = np.pad(lines, ((0, 0), (half, half)))[None]
            zeros = reconstruct(wide, make_plan(theta_rad, 2 * N), cor_px + half)[0]
            zeros = zeros[half:-half, half:-half]
            for name, image in (("faded", faded), ("edges", edges), ("zeros", zeros)):
                error = 100 * (image - truth) / truth[tenth < 10].mean()
                profile = [error[tenth == i].mean() for i in range(10)]
                mean = error[tenth < 9].mean()
                print(
                    f"{kind.__name__}, {size:g} x the field, {name}: inner 0.9 {mean:.0f} %;",
                    " ".join(f"{value:.0f}" for value in profile),
                )


if __name__ == "__main__":
    main()
