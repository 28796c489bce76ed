"""Rings removed against detail lost, for each stripe filter, several kinds of rings and objects.

    python lab/benchmarks/bench_rings.py [--angles 720] [--seeds 3] [--first 1] [--filters gated vo]
    python lab/benchmarks/bench_rings.py --real FILE --row 1 --cor 295.9

Simulated sinograms are exact line integrals with photon noise. "Removed" is the share of the rings'
energy that goes: the sum of squares of the mean around the axis, at each radius, of the error
against the slice without rings, less what is slow along the radius. Negative: rings were added.
"Lost" is the rms change of a slice without rings, as a share of the standard deviation of the slice
without noise. Of both the median over objects, photons and seeds, and the worst.

Of a real scan nobody knows the truth. "Own rings" is the energy of the mean around the axis of the
filtered slice over that of the slice as it is: what is round in the object counts as rings.
"Changed" is the rms change of all the rest, over its standard deviation: detail lost, or rings of
parts of the scan removed. And known rings are put into its sinogram: "removed" as above, against
the filtered slice without them.
"""

import argparse
from pkgutil import resolve_name

import numpy as np
from scipy.ndimage import gaussian_filter1d
from tomopipe_lab.suite import rasters, solids
from tomopipe_lab.suite._kernels import ELLIPSE
from tomopipe_lab.suite.sample import Solid, View

from tomopipe.config.stripe_filters import STRIPE_FILTERS, StripesBlock
from tomopipe.prep import stripes
from tomopipe.prep.normalise import normalise
from tomopipe.recon.fbp import reconstruct
from tomopipe.recon.plan import make_plan
from tomopipe.scans.exchange import open_scan
from tomopipe.simulate.phantom import project, rock

FILTERS = {
    **{name: resolve_name(entry.function) for name, entry in STRIPE_FILTERS.items()},
    "sorting 21": lambda s: stripes.remove_by_sorting(s, StripesBlock(size_px=21)),
    "vo 51, 21": lambda s: stripes.remove_by_combination(s, StripesBlock(large_px=51, size_px=21)),
    "double-flat 9": lambda s: stripes.remove_by_double_flat(s, StripesBlock(size_px=9)),
    "double-flat 21": lambda s: stripes.remove_by_double_flat(s, StripesBlock(size_px=21)),
    "double-flat 21, no limit": lambda s: stripes.remove_by_double_flat(
        s, StripesBlock(size_px=21, limit=1e9)
    ),
    "fourier-wavelet 5": lambda s: stripes.remove_by_wavelets(s, StripesBlock(level=5)),
}
PEAK = 1.8  # line integral through the thickest part
PHOTONS = (np.inf, 200000, 20000, 2000)


def tree(body, rng):
    """Rings of growth about the axis, off by a third of a pixel: what filters take for rings."""
    radii_px = body.radius_px * np.append(1, np.sort(rng.uniform(0.1, 0.95, 7))[::-1])
    mu = np.diff(rng.uniform(0.3, 1.5, 8), prepend=0)
    shells = [[ELLIPSE, 0.3, 0.15, r, r, 0, m] for r, m in zip(radii_px, mu, strict=True)]
    table = np.array(shells)
    return Solid(lambda height_px: table)


# Both kinds of rings are removed from these; none but tree was looked at while gated was made.
OBJECTS = {
    "rock": rock,
    "cells": rasters.cellular,
    "layers": rasters.strata,
    "fibres": rasters.felt,
    "tree": tree,
}
MORE = {
    family.__name__: family
    for family in (
        *(*solids.VALIDATION, *rasters.VALIDATION, rasters.granular, rasters.foam),
        *(rasters.trabeculae, rasters.nodules, rasters.tooth, rasters.blank),
    )
}


class Slices:
    """Slices of one geometry, and the energy of their rings."""

    def __init__(self, theta_rad, n_cols, cor_px):
        self.cor_px, self.plan = cor_px, make_plan(theta_rad, n_cols)
        y, x = np.indices((n_cols, n_cols))
        radius = np.hypot(x - n_cols // 2, y - (n_cols // 2 - 1))
        reach = min(cor_px, n_cols - 1 - cor_px) - 1
        self.inside = radius < reach
        self.bins = radius[self.inside].astype(int)
        self.weight = np.bincount(self.bins)

    def of(self, sinogram):
        """Return the slice of a sinogram."""
        lines = np.ascontiguousarray(sinogram[None], np.float32)
        return reconstruct(lines, self.plan, self.cor_px)[0]

    def split(self, image):
        """Return the mean at each radius without what is slow, and the pixels less all of it."""
        pixels = image[self.inside]
        profile = np.bincount(self.bins, pixels) / np.maximum(self.weight, 1)
        return profile - gaussian_filter1d(profile, 15), pixels - profile[self.bins]

    def ring_energy(self, image):
        """Return the sum of squares of the mean at each radius."""
        return float(np.sum(self.weight * self.split(image)[0] ** 2))

    def detail(self, image):
        """Return the spread of all but the mean at each radius."""
        return float(self.split(image)[1].std())


def with_rings(sinogram, random):
    """Return the sinogram with each kind of rings; dead columns replace what was measured."""
    n_angles, n_cols = sinogram.shape
    n = n_cols // 32
    columns = random.choice(np.arange(n_cols // 8, n_cols - n_cols // 8), n, replace=False)
    offset = random.normal(0, 0.05, n)
    thin, wide, many = (np.zeros(n_cols, np.float32) for _ in range(3))
    thin[columns] = offset
    for first, value in zip(columns[: n // 3], offset, strict=False):
        wide[first : first + 7] += value
    many[:] = random.normal(0, 0.01, n_cols)
    partial = np.tile(thin, (n_angles, 1))
    partial[: n_angles // 3] = 0
    drifting = thin * np.linspace(0, 2, n_angles, dtype=np.float32)[:, None]
    dead = sinogram.copy()
    dead[:, random.choice(n_cols, 6, replace=False)] = 0.4
    kinds = {"thin": thin, "wide": wide, "partial": partial, "drifting": drifting, "many": many}
    return {kind: sinogram + added for kind, added in kinds.items()} | {"dead": dead}


def line_integrals(family, seed, theta_rad, cor_px, n_cols):
    if family is rock:
        lines = project(rock(n_cols, 5, seed), theta_rad, cor_px, 5, n_cols)[:, 2]
    else:
        random = np.random.default_rng([seed, 7])
        body = solids.Body(*random.normal(0, 0.02 * n_cols, 2), 0.4 * n_cols, 5.0)
        column = np.ones((len(theta_rad), 1))
        view = View(theta_rad, cor_px * column, column[:, 0], np.zeros(1), n_cols)
        lines = family(body, random).project(view)[:, 0]
    return (lines * (PEAK / lines.max())).astype(np.float32)


def with_noise(lines, photons, random):
    if np.isinf(photons):
        return lines
    counts = random.poisson(photons * np.exp(-lines.astype(float)))
    return -np.log(counts.clip(1) / photons).astype(np.float32)


def removed(slices, sinogram, filters, random):
    """Return {(filter, kind): share of the rings' energy that goes, percent}."""
    kinds = with_rings(sinogram, random)
    plain = slices.of(sinogram)
    out = {}
    for kind, striped in kinds.items():
        before = slices.ring_energy(slices.of(striped) - plain)
        for name, remove in filters.items():
            left = slices.ring_energy(slices.of(remove(striped)) - plain)
            out[name, kind] = 100 * (1 - left / before)
    return out


def cell(values):
    """Return the median and the lowest."""
    return f"{np.median(values):.0f} ({np.min(values):.0f})"


def simulated(options, filters):
    n_cols = options.cols
    theta_rad = np.linspace(0, np.radians(options.range), options.angles, endpoint=False)
    cor_px = (n_cols - 1) / 2 + 1.3
    slices = Slices(theta_rad, n_cols, cor_px)
    gone, lost = {}, {}
    for label, family in (OBJECTS | MORE).items():
        for seed in range(options.first, options.first + options.seeds):
            lines = line_integrals(family, seed, theta_rad, cor_px, n_cols)
            spread = slices.of(lines).std()
            for photons in PHOTONS:
                random = np.random.default_rng([seed, int(min(photons, 1e9))])
                noisy = with_noise(lines, photons, random)
                for name, remove in filters.items():
                    share = 100 * slices.of(remove(noisy) - noisy).std() / spread
                    lost.setdefault((name, photons, label), []).append(share)
                if label in OBJECTS and photons in options.rings_at:
                    for key, share in removed(slices, noisy, filters, random).items():
                        gone.setdefault((*key, label), []).append(share)
    scan = f"{options.angles} angles over {options.range:g} degrees, {n_cols} columns"
    print(f"{scan}, {options.seeds} seeds")
    report(filters, gone, lost)


def report(filters, gone, lost):
    kinds = list(dict.fromkeys(kind for _, kind, _ in gone))
    print("\nring energy removed, %: median (worst)\n| filter | " + " | ".join(kinds) + " |")
    print("|---" * (len(kinds) + 1) + "|")
    for name in filters:
        row = [np.concatenate([gone[name, kind, o] for o in OBJECTS]) for kind in kinds]
        print(f"| {name} | " + " | ".join(map(cell, row)) + " |")
    print(
        "\nring energy removed, %, by object (all kinds)\n| filter | " + " | ".join(OBJECTS) + " |"
    )
    print("|---" * (len(OBJECTS) + 1) + "|")
    for name in filters:
        row = [np.concatenate([gone[name, kind, o] for kind in kinds]) for o in OBJECTS]
        print(f"| {name} | " + " | ".join(map(cell, row)) + " |")
    print("\nlost, % of a slice without rings: median, worst\n| filter | photons | all objects |")
    print("|---|---|---|")
    for (name, photons), row in rows_of(lost).items():
        values = np.concatenate(list(row.values()))
        worst = max(row, key=lambda label: max(row[label]))
        above = np.count_nonzero(values >= 1)
        print(
            f"| {name} | {photons:g} | {np.median(values):.2f}, {values.max():.2f} ({worst}); "
            f"{above} of {len(values)} from 1 % on |"
        )


def rows_of(lost):
    rows = {}
    for (name, photons, label), values in lost.items():
        rows.setdefault((name, photons), {})[label] = values
    return dict(sorted(rows.items(), key=lambda item: list(FILTERS).index(item[0][0])))


def real(options, filters):
    with open_scan(options.real) as scan:
        theta_rad, row = scan.theta_rad, options.row
        raw = scan.read_rows(row, row + 1)
        flat, dark = scan.flat[row : row + 1], scan.dark[row : row + 1]
        sinogram = np.ascontiguousarray(normalise(raw, flat, dark)[:, 0])
    slices = Slices(theta_rad, sinogram.shape[1], options.cor)
    plain = slices.of(sinogram)
    injected = [with_rings(sinogram, np.random.default_rng(seed)) for seed in range(options.seeds)]
    kinds = list(injected[0])
    print(f"{options.real}, row {options.row}: {sinogram.shape[0]} x {sinogram.shape[1]}")
    print("| filter | own rings left | changed | " + " | ".join(kinds) + " |")
    print("|---" * (len(kinds) + 3) + "|")
    for name, remove in filters.items():
        filtered = slices.of(remove(sinogram))
        ring_share = slices.ring_energy(filtered) / slices.ring_energy(plain)
        changed = slices.detail(filtered - plain) / slices.detail(plain)
        cells = []
        for kind in kinds:
            shares = []
            for striped in (by_kind[kind] for by_kind in injected):
                before = slices.ring_energy(slices.of(striped) - plain)
                left = slices.ring_energy(slices.of(remove(striped)) - filtered)
                shares.append(100 * (1 - left / before))
            cells.append(cell(shares))
        print(f"| {name} | {100 * ring_share:.0f} | {100 * changed:.2f} | {' | '.join(cells)} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cols", type=int, default=512)
    parser.add_argument("--angles", type=int, default=720)
    parser.add_argument("--range", type=float, default=180, help="degrees (default 180)")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first", type=int, default=1, help="first seed (default 1)")
    parser.add_argument("--filters", nargs="+", choices=FILTERS, default=list(FILTERS))
    parser.add_argument("--rings-at", type=float, nargs="+", default=[20000, 2000])
    parser.add_argument("--real", help="a scan: rings are put into one of its rows")
    parser.add_argument("--row", type=int, default=0)
    parser.add_argument("--cor", type=float, help="of the real scan (pixels)")
    options = parser.parse_args()
    filters = {name: FILTERS[name] for name in options.filters}
    if options.real:
        real(options, filters)
    else:
        simulated(options, filters)


if __name__ == "__main__":
    main()
