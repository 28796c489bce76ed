"""Rolls as `preprocess.roll_deg: auto` measures and corrects them, of detectors of 512 x 512.

    python lab/benchmarks/bench_roll.py [--straight 100] [--rolled 50] [--pairs 1] [--seed 700000]
        [--photons 300 8000]

Spheres in a cylinder, seen exactly by a rotated detector; so many photons a pixel, 20 flats, axis
within 25 columns of the middle. In half of the straight scans the sample moves by up to 2 px
between opposing projections. A scan of 180 degrees has one pair of these, others have three.
"""

import argparse
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tomopipe.cor.collected_rows import Rows
from tomopipe.cor.roll import roll_of

N, N_FLATS, N_SPHERES, BLOCK = 512, 20, 60, 2  # pixels; rows are averaged as try_recon does
ABSORPTION = 1.2  # of the middle of the cylinder
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Scene:
    """A cylinder with spheres: centres (x, y, z), radii and strengths, in pixels."""

    radius: float
    centres: Floats
    radii: Floats
    strengths: Floats

    def image(
        self, theta_rad: float, off_px: float, roll_deg: float, by_px: tuple[float, float]
    ) -> Floats:
        """Line integrals on a detector that is rolled about its middle."""
        cos, sin = np.cos(np.deg2rad(roll_deg)), np.sin(np.deg2rad(roll_deg))
        row, col = np.mgrid[:N, :N] - (N - 1) / 2
        u = col * cos - row * sin - off_px - by_px[0]  # from the axis
        v = col * sin + row * cos - by_px[1]
        mu = ABSORPTION / (2 * self.radius)
        out = 2 * mu * np.sqrt(np.maximum(0, self.radius**2 - u**2))
        for (x, y, z), radius, strength in zip(
            self.centres, self.radii, self.strengths, strict=True
        ):
            at = x * np.cos(theta_rad) - y * np.sin(theta_rad)
            seen = (np.abs(u - at) < radius) & (np.abs(v - z) < radius)
            inside = np.maximum(0, radius**2 - (u[seen] - at) ** 2 - (v[seen] - z) ** 2)
            out[seen] += 2 * strength * mu * np.sqrt(inside)
        return out


def scene(rng: np.random.Generator) -> Scene:
    """Draw a scene within the field of view."""
    radius = rng.uniform(150, 230)
    angle = rng.uniform(0, 2 * np.pi, N_SPHERES)
    far = 0.93 * radius * np.sqrt(rng.uniform(0, 1, N_SPHERES))
    z = rng.uniform(-280, 280, N_SPHERES)
    centres = np.stack([far * np.cos(angle), far * np.sin(angle), z], axis=1)
    return Scene(radius, centres, rng.uniform(4, 22, N_SPHERES), rng.uniform(-0.5, 2, N_SPHERES))


def rows_of(
    rng: np.random.Generator,
    roll_deg: float,
    n_pairs: int,
    most_px: float,
    between: tuple[float, float],
) -> Rows:
    """Return the opposing projections of a scan, as try_recon keeps them."""
    sample, off_px = scene(rng), rng.uniform(-25, 25)
    photons = np.exp(rng.uniform(*np.log(between)))
    flat = rng.poisson(photons * N_FLATS, (N, N)) / N_FLATS
    pairs, angles = [], []
    for theta in (0.0, 0.4, 0.9)[:n_pairs]:
        moves = (0.0, 0.0), tuple(rng.uniform(-most_px, most_px, 2))
        for angle, move in zip((theta, theta + np.pi), moves, strict=True):
            counts = rng.poisson(photons * np.exp(-sample.image(angle, off_px, roll_deg, move)))
            lines = -np.log(np.maximum(counts, 0.5) / flat)
            pairs.append(lines.reshape(N // BLOCK, BLOCK, N).mean(axis=1))
            angles.append(angle)
    images = np.array(pairs, np.float32).reshape(n_pairs, 2, N // BLOCK, N)
    return Rows(
        sinograms=images[0][:, [128]].swapaxes(0, 1),
        row_index=np.array([256]),
        theta_rad=np.array(angles[:2]),
        pairs=images,
        pair_theta_rad=np.array(angles).reshape(n_pairs, 2),
        n_rows=N,
    )


def main() -> None:
    """Print how many are measured and corrected, and the errors."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    for name, default in (("straight", 100), ("rolled", 50), ("pairs", 1), ("seed", 700_000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--photons", type=float, nargs=2, default=(300.0, 8000.0))
    options = parser.parse_args()
    for kind, number in (("straight", options.straight), ("rolled", options.rolled)):
        true, corrections, n_measured = [], [], 0
        for i in range(number):
            rng = np.random.default_rng([options.seed, kind == "rolled", i])
            deg = rng.choice([-1, 1]) * np.exp(rng.uniform(np.log(0.08), np.log(3)))
            deg *= kind == "rolled"
            most_px = 2.0 if kind == "straight" and i % 2 else 0.0
            roll = roll_of(rows_of(rng, deg, options.pairs, most_px, options.photons))
            n_measured += roll is not None
            if roll and (by_deg := roll.correction_deg(N, N)):
                true.append(deg)
                corrections.append(by_deg)
        errors = np.abs(np.subtract(corrections, true))
        text = f"{number} {kind}: {n_measured} measured, {len(errors)} corrected"
        if len(errors):
            quantiles = np.quantile(errors, (0.5, 0.9, 1))
            text += ", errors (median, 90 %, largest) " + ", ".join(f"{q:.3f}" for q in quantiles)
            text += f" degrees, {np.sum(errors > 0.02)} above 0.02"
        print(text, flush=True)


if __name__ == "__main__":
    main()
