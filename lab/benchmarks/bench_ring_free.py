"""What a stripe filter takes from slices without rings: many objects, noise levels, ways to scan.

    python lab/benchmarks/bench_ring_free.py --set looked-at [--seeds 2] [--filter gated]
    python lab/benchmarks/bench_ring_free.py --set held-out
    python lab/benchmarks/bench_ring_free.py --real FILE --rows 0 1 --cor 295.8
    python lab/benchmarks/bench_ring_free.py --defaults [--cols 384] [--angles 600]

Lost is the rms change of the slice, as a share of the standard deviation of the slice without
noise; within the circle that all angles see where the object leaves the detector. The sets have
neither objects nor seeds in common: gates were made on `looked-at`. `centred` are objects that the
filter cannot tell from rings: round about the axis to within a pixel or so, with thin walls.

Of a real scan a sinogram without rings is made thus: all of its line integrals filtered strongly
(Vo's combination, then sorting, both 31 px wide), photon noise added anew. So its structure is that
of the real object, less what such filters take, and no column differs from the others. Lost is then
measured against that slice.

`--defaults`: every correction at its default, or its usual value, on a cylinder with four rods: how
far the mean of the cylinder is from the truth, and the contrast of the worst rod. Both for a scan
with nothing to correct and, for all but stripes, for one with what the correction is for.
"""

import argparse
import collections
import tempfile
import zlib
from pathlib import Path

import h5py
import numpy as np
from bench_rings import FILTERS, MORE, OBJECTS, Slices, with_noise
from tomopipe_lab.suite import rasters, solids
from tomopipe_lab.suite._kernels import ELLIPSE, RECTANGLE
from tomopipe_lab.suite.sample import Solid, View

from tomopipe.config import PreprocessBlock
from tomopipe.config.preprocess import CORRECTIONS
from tomopipe.config.stripe_filters import STRIPE_FILTERS, StripesBlock
from tomopipe.prep import stripes
from tomopipe.prep.correct import corrections_of
from tomopipe.prep.half_acquisition import HalfAcquisition
from tomopipe.prep.normalise import normalise
from tomopipe.prep.phase import filter_strength
from tomopipe.prep.warp import Warp, apply_warp
from tomopipe.recon.angular_sampling import unpaired
from tomopipe.recon.fbp import reconstruct
from tomopipe.recon.plan import make_plan
from tomopipe.scans.exchange import open_scan
from tomopipe.simulate import phantom as objects
from tomopipe.simulate.phantom import Ellipsoid, Phantom, project

PHOTONS = (np.inf, 200000, 20000, 2000, 500)
PEAK = 1.8  # line integral through the thickest part


def tubes(body, rng):
    """Nested tubes, each about the axis to within 1.5 px, with walls from 1 px on."""
    shells = []
    for _ in range(int(rng.integers(1, 6))):
        outer = body.radius_px * rng.uniform(0.05, 1)
        inner = max(outer - rng.uniform(1, 0.3 * outer + 1), 0.1)
        x, y = rng.normal(0, 0.5, 2)
        mu = rng.uniform(0.3, 1.5)
        shells += [[ELLIPSE, x, y, outer, outer, 0, mu], [ELLIPSE, x, y, inner, inner, 0, -mu]]
    table = np.array(shells)
    return Solid(lambda height_px: table)


def cable(body, rng):
    """Wires in rings about the axis, as many-fold as there are wires in each, in a jacket."""
    shapes = [[ELLIPSE, 0, 0, body.radius_px, body.radius_px, 0, 0.2]]
    wire = body.radius_px / rng.integers(5, 16)
    for ring in range(int(0.45 * body.radius_px / wire)):
        n = max(1, 6 * ring)
        angle = 2 * np.pi * np.arange(n) / n + rng.uniform(0, 2 * np.pi)
        distance = 2 * wire * ring
        shapes += [
            [ELLIPSE, distance * np.cos(a), distance * np.sin(a), 0.9 * wire, 0.9 * wire, 0, 1.5]
            for a in angle
        ]
    table = np.array(shapes)
    return Solid(lambda height_px: table)


def board(body, rng):
    """Thin foils in a slab, with vias between them."""
    phi, half = rng.uniform(0, np.pi), 0.8 * body.radius_px
    shapes = [[RECTANGLE, body.x_px, body.y_px, half, 0.3 * half, phi, 0.3]]
    for height in rng.uniform(-0.3 * half, 0.3 * half, int(rng.integers(2, 9))):
        x, y = body.x_px - height * np.sin(phi), body.y_px + height * np.cos(phi)
        shapes.append([RECTANGLE, x, y, half, 0.6, phi, 2.0])
    for along in rng.uniform(-half, half, int(rng.integers(2, 20))):
        x, y = body.x_px + along * np.cos(phi), body.y_px + along * np.sin(phi)
        shapes.append([RECTANGLE, x, y, 1.0, 0.28 * half, phi, 2.0])
    table = np.array(shapes)
    return Solid(lambda height_px: table)


def straws(body, rng):
    """Thin-walled tubes side by side, none about the axis."""
    shapes = []
    for _ in range(int(rng.integers(5, 40))):
        distance_px, phi = (
            body.radius_px * np.sqrt(rng.uniform(0.01, 0.7)),
            rng.uniform(0, 2 * np.pi),
        )
        x, y = distance_px * np.cos(phi), distance_px * np.sin(phi)
        r = body.radius_px * rng.uniform(0.03, 0.15)
        inner = max(r - rng.uniform(1, 4), 0.1)
        shapes += [[ELLIPSE, x, y, r, r, 0, 1.0], [ELLIPSE, x, y, inner, inner, 0, -1.0]]
    table = np.array(shapes)
    return Solid(lambda height_px: table)


def lattice(body, rng):
    """Thin bars in two directions, evenly spaced."""
    phi, n = rng.uniform(0, np.pi), int(rng.integers(4, 20))
    thick, half = rng.uniform(0.5, 0.15 * body.radius_px), 0.68 * body.radius_px
    shapes = []
    for angle_rad in (phi, phi + np.pi / 2):
        for distance in np.linspace(-half, half, n):
            x, y = (
                body.x_px - distance * np.sin(angle_rad),
                body.y_px + distance * np.cos(angle_rad),
            )
            shapes.append([RECTANGLE, x, y, half, min(thick, 0.4 * half / n), angle_rad, 1.0])
    table = np.array(shapes)
    return Solid(lambda height_px: table)


def coins(body, rng):
    """Solid blocks of any orientation in a thin body, one of them far denser."""
    shapes = [[ELLIPSE, body.x_px, body.y_px, body.radius_px, 0.9 * body.radius_px, 0, 0.2]]
    for mu in np.append(rng.uniform(0.5, 1.5, int(rng.integers(2, 7))), 8.0):
        x, y = rng.uniform(-0.45, 0.45, 2) * body.radius_px
        half = body.radius_px * rng.uniform(0.1, 0.4)
        shapes.append([RECTANGLE, x, y, half, rng.uniform(0.05, 0.3) * half, rng.uniform(0, 3), mu])
    table = np.array(shapes)
    return Solid(lambda height_px: table)


def named(*families):
    return {family.__name__: family for family in families}


# Round about the axis to within a pixel or so, which filters take for rings.
CENTRED = named(tubes, cable)
HELD_OUT = named(
    *(solids.bubbles, solids.fibres, solids.crystals, solids.beads, solids.inclusions),
    *(solids.smooth, rasters.porous, rasters.clouds, objects.foam, objects.capillary),
    *(board, straws, lattice, coins),
)
# The first seed of each. Of held-out objects those from 1000 on were measured once, board's few
# angles then looked at.
SETS = {
    "looked-at": (OBJECTS | MORE, 10),
    "held-out": (HELD_OUT, 2000),
    "centred": (CENTRED, 2000),
}


def scan_of(way, rng):
    """Return angles (rad), columns, the COR (px) and the radius of the object (px) of one scan."""
    n_cols = int(rng.integers(180, 420))
    n_angles = int(n_cols * rng.uniform(0.9, 1.7))
    cor_px = (n_cols - 1) / 2 + rng.uniform(-0.04, 0.04) * n_cols
    range_rad, radius_px = np.pi, 0.4 * n_cols
    if way == "few angles":
        n_angles = int(rng.integers(24, 110))
    elif way == "360 degrees":
        range_rad = 2 * np.pi
    elif way == "half acquisition":
        range_rad, cor_px = 2 * np.pi, rng.uniform(0.06, 0.2) * n_cols
        radius_px = 0.9 * (n_cols - 1 - cor_px) - 0.06 * n_cols
    elif way == "truncated":
        radius_px = rng.uniform(0.6, 1.0) * n_cols
    return np.linspace(0, range_rad, n_angles, endpoint=False), n_cols, cor_px, radius_px


WAYS = ("whole", "few angles", "360 degrees", "half acquisition", "truncated")


def lines_of(family, seed, theta_rad, n_cols, cor_px, radius_px):
    """Return exact line integrals (n_angles, n_cols)."""
    if family.__module__ == objects.__name__:
        phantom = family(n_cols, 5, seed, size=2 * radius_px / n_cols)
        lines = project(phantom, theta_rad, cor_px, 5, n_cols)[:, 2]
    else:
        rng = np.random.default_rng([seed, 7])
        body = solids.Body(*rng.normal(0, 0.02 * n_cols, 2), radius_px, 5.0)
        column = np.ones((len(theta_rad), 1))
        view = View(theta_rad, cor_px * column, column[:, 0], np.zeros(1), n_cols)
        lines = family(body, rng).project(view)[:, 0]
    return (lines * (PEAK / lines.max())).astype(np.float32)


def slicer(way, theta_rad, n_cols, cor_px):
    """Return a function that makes a slice of a sinogram, and the pixels that count."""
    if way != "half acquisition":
        slices = Slices(theta_rad, n_cols, cor_px)
        where = slices.inside if way == "truncated" else slice(None)
        return lambda lines: slices.of(lines)[where]
    wide = HalfAcquisition(n_cols, cor_px, unpaired(theta_rad))
    plan = make_plan(theta_rad, 2 * n_cols, one_sided=True)
    return lambda lines: reconstruct(wide.widen(lines[None]), plan, wide.wide_cor_px)[0]


def simulated(options):
    families, first = SETS[options.set]
    first = options.first or first
    lost = []
    for label, family in families.items():
        for seed in range(first, first + options.seeds):
            for way in WAYS:
                rng = np.random.default_rng([seed, zlib.crc32(f"{label} {way}".encode())])
                theta_rad, n_cols, cor_px, radius_px = scan_of(way, rng)
                lines = lines_of(family, seed, theta_rad, n_cols, cor_px, radius_px)
                slice_of = slicer(way, theta_rad, n_cols, cor_px)
                spread = slice_of(lines).std()
                for photons in options.photons:
                    noisy = with_noise(lines, photons, rng)
                    change = np.ascontiguousarray(FILTERS[options.filter](noisy) - noisy)
                    share = 100 * slice_of(change).std() / spread if change.any() else 0.0
                    lost.append((share, way, photons, label, seed, lines.shape))
    n_first = f"seeds {first} to {first + options.seeds - 1}"
    print(f"{options.filter}, {options.set}: {len(families)} objects, {n_first}")
    report(lost, "way to scan", 1)
    report(lost, "photons", 2)
    report(lost, "object", 3)
    print("\nthe worst:")
    for share, way, photons, label, seed, shape in sorted(lost, reverse=True, key=lambda o: o[0])[
        :12
    ]:
        print(f"  {share:.2f} %: {label} {seed}, {way}, {shape[0]} x {shape[1]}, {photons:g}")


def report(lost, title, key):
    """Print a table of losses, a line for each value of one property."""
    print(f"\n| {title} | slices | changed | median % | worst % | from 1 % on |")
    print("|---" * 6 + "|")
    rows = collections.defaultdict(list)
    for loss in lost:
        rows[loss[key]].append(loss[0])
    for name, shares in [*rows.items(), ("all", [loss[0] for loss in lost])]:
        worst, above = max(shares), sum(share >= 1 for share in shares)
        changed = sum(share > 0 for share in shares)
        print(
            f"| {name} | {len(shares)} | {changed} | {np.median(shares):.2f} | {worst:.2f} "
            f"| {above} |"
        )


def real(options):
    lost = []
    for row in options.rows:
        with open_scan(options.real) as scan:
            theta_rad, raw = scan.theta_rad, scan.read_rows(row, row + 1)
            flat, dark = scan.flat[row : row + 1], scan.dark[row : row + 1]
            lines = np.ascontiguousarray(normalise(raw, flat, dark)[:, 0])
        lines = stripes.remove_by_combination(lines, StripesBlock(large_px=31, size_px=31))
        lines = stripes.remove_by_sorting(lines, StripesBlock(size_px=31))
        slice_of = slicer("whole", theta_rad, lines.shape[1], options.cor)
        spread = slice_of(lines).std()
        for photons in options.photons:
            for seed in range(options.seeds):
                noisy = with_noise(lines, photons, np.random.default_rng([seed, row]))
                change = np.ascontiguousarray(FILTERS[options.filter](noisy) - noisy)
                share = 100 * slice_of(change).std() / spread if change.any() else 0.0
                lost.append((share, "real", photons, f"row {row}", seed, lines.shape))
    print(f"{options.filter}, {options.real}: {lines.shape[0]} x {lines.shape[1]}")
    report(lost, "photons", 2)


# Of the cylinder: 0.4 of the columns wide. Of the rods: distance from the axis and radius, as
# shares of the columns, direction (rad), and what they add to the cylinder's 1.
RODS = (
    (0.2, 0.05, 0.3, 1.0),
    (0.22, 0.03, 2.4, 2.0),
    (0.18, 0.06, 4.2, -1.0),
    (0.3, 0.04, 5.4, 0.5),
)
N_ROWS, ROW, N_FLATS, COUNTS = 33, 16, 40, 20000
KNOWN = {"energy_kev": 25.0, "distance_mm": 50.0, "pixel_size_um": 1.0}
ROTATED = {"roll_deg": 0.5, "distortion": {"coefficients": [1.0, 0.0, 1e-7]}}
HARDER = [1.0, 0.05]  # of the line integral as measured: the true one
# name: (recipe, what is wrong with the scan that it is for)
DEFAULTS = {
    "flat_method: mean": ({}, ""),
    "flat_method: median": ({"flat_method": "median"}, "outlying flats"),
    "flat_method: interpolate": ({"flat_method": "interpolate"}, "drift"),
    "flat_method: pca": ({"flat_method": "pca"}, "flicker"),
    "bad_pixels: 0.3": ({"bad_pixels": {"threshold": 0.3}}, "bad pixels"),
    "zingers: 0.2": ({"zingers": {"threshold": 0.2}}, "zingers"),
    "ring_current": ({"ring_current": {"dataset": "/monitor"}}, "decay"),
    "air_px: 10": ({"air_px": 10}, "decay"),
    "distortion, roll_deg": (ROTATED, "rotated"),
    "hardening": ({"hardening": HARDER}, "hardened"),
    "phase: paganin": ({"phase": {"method": "paganin"}}, "refraction"),
    "phase: generalised": ({"phase": {"method": "generalised"}}, "refraction, by steps"),
    **{f"stripes: {method}": ({"stripes": {"method": method}}, "") for method in STRIPE_FILTERS},
}
DEFAULTS |= {
    key: ({key: entry.example}, "")
    for key, entry in CORRECTIONS.items()
    if not any(key in recipe for recipe, _ in DEFAULTS.values())
    and key not in ("minus_log", "shifts")
}
ONLY_MENDED = ("distortion, roll_deg", "hardening", "phase: paganin", "phase: generalised")


def rods(n_cols, centre_px):
    """Return a cylinder, off the axis, with rods at the same positions."""
    mu = PEAK / (0.8 * n_cols)

    def rod(x_px, y_px, radius_px, value):
        return Ellipsoid(x_px, y_px, 0, radius_px, radius_px, 1e5, 0.0, value)

    parts = [
        rod(far * n_cols * np.cos(phi), far * n_cols * np.sin(phi), wide * n_cols, gain * mu)
        for far, wide, phi, gain in RODS
    ]
    return Phantom("rods", (rod(*centre_px, 0.4 * n_cols, mu), *parts))


def write_rods(path, lines, theta_rad, fault):
    """Write a scan of line integrals (n_angles, n_cols) with something wrong, or nothing."""
    random = np.random.default_rng(1)
    (n_angles, n_cols), shape = lines.shape, (N_ROWS, lines.shape[1])
    lines = np.repeat(lines[:, None].astype(float), N_ROWS, axis=1)
    if fault == "hardened":
        c1, c2 = HARDER
        lines = (np.sqrt(c1**2 + 4 * c2 * lines) - c1) / (2 * c2)
    through = np.exp(-lines)
    if fault.startswith("refraction"):
        k = 2 * np.pi * np.fft.rfftfreq(2 * n_cols)
        square = 2 - 2 * np.cos(k) if "steps" in fault else k**2
        mirrored = np.fft.rfft(np.concatenate([through, through[..., ::-1]], axis=2))
        alpha = filter_strength(**KNOWN, delta_beta=PreprocessBlock().phase.delta_beta)
        through = np.fft.irfft(mirrored * (1 + alpha * square))[..., :n_cols]
    elif fault == "rotated":
        back = Warp(*shape, -ROTATED["roll_deg"], (1.0, 0.0, -1e-7))
        through = apply_warp(through.astype(np.float32), back, (0, N_ROWS), (0, N_ROWS))
    beam, flats = np.ones((n_angles, 1, 1)), np.ones((N_FLATS, *shape))
    if fault == "decay":
        beam = np.linspace(1.05, 0.95, n_angles)[:, None, None]
    elif fault == "drift":
        wave = 1 + 0.05 * np.sin(np.arange(n_cols) / 40)
        beam = 1 + np.linspace(0, 1, n_angles)[:, None, None] * (wave - 1)
        flats[N_FLATS // 2 :] = wave
    elif fault == "flicker":
        y, x = np.mgrid[:N_ROWS, :n_cols] / n_cols
        shapes = np.stack([np.cos(3 * x + 9 * y), np.sin(5 * x - 9 * y)])
        beam, flats = (
            1 + np.tensordot(random.normal(0, 0.05, (n, 2)), shapes, 1) for n in (n_angles, N_FLATS)
        )
    gain = np.where(random.random(shape) < 0.005, 0.3, 1) if fault == "bad pixels" else 1
    # what is a phase contrast here is no number of photons
    draw = np.asarray if fault.startswith("refraction") else random.poisson
    data, white = draw(COUNTS * beam * gain * through), random.poisson(COUNTS * gain * flats)
    if fault == "outlying flats":
        white[:3] //= 2
    elif fault == "zingers":
        data[random.random(data.shape) < 1e-3] += 2 * COUNTS
    with h5py.File(path, "w") as file:
        for name, values in [("data", data), ("data_white", white), ("data_dark", 0 * white[:2])]:
            file[f"exchange/{name}"] = values.astype(np.float32)
        file["exchange/theta"] = np.rad2deg(theta_rad)
        file["monitor"] = beam.mean(axis=(1, 2))


def slice_by(path, recipe, cor_px):
    """Return one slice of a scan, corrected as the workflow does it."""
    with open_scan(path, options=KNOWN) as scan:
        corrections = corrections_of(scan, PreprocessBlock(**recipe))
        first, last = corrections.rows_needed((ROW, ROW + 1))
        lines = corrections.sinograms(scan.read_rows(first, last), (ROW, ROW + 1))
        return reconstruct(lines, make_plan(scan.theta_rad, scan.n_cols), cor_px)[0]


def measured_rods(image, phantom):
    """Return the mean of the cylinder's matrix and the contrast of each rod over the truth."""
    y, x = np.indices(image.shape) - np.array([len(image) // 2 - 1, len(image) // 2])[:, None, None]
    body, *parts = phantom.ellipsoids
    far = [np.hypot(x - part.x_px, y - part.y_px) - part.semi_x_px for part in phantom.ellipsoids]
    matrix = image[(far[0] < -3) & (np.array(far[1:]) > 3).all(axis=0)].mean()
    inside = [image[distance_px < -2].mean() for distance_px in far[1:]]
    return matrix / body.mu_per_px, [
        (value - matrix) / part.mu_per_px for value, part in zip(inside, parts, strict=True)
    ]


def off(options, recipe, fault):
    """Return how far the mean and the worst contrast are from the truth, percent, as cells."""
    theta_rad = np.linspace(0, np.pi, options.angles, endpoint=False)
    cor_px = (options.cols - 1) / 2 + 1.3
    means, contrasts = [], []
    for centre_px in ((0, 0), (0.03 * options.cols, -0.02 * options.cols)):
        phantom = rods(options.cols, centre_px)
        lines = project(phantom, theta_rad, cor_px, 1, options.cols)[:, 0]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "rods.h5"
            write_rods(path, lines, theta_rad, fault)
            mean, contrast = measured_rods(slice_by(path, recipe, cor_px), phantom)
        means.append(mean)
        contrasts += contrast
    return [f"{100 * max(abs(np.array(v) - 1)):.2f}" for v in (means, contrasts)]


def defaults(options):
    print(f"{options.angles} angles, {options.cols} columns, {COUNTS} photons; % off the truth")
    print("| correction | undamaged scan: mean | contrast | what is wrong | mean | contrast |")
    print("|---" * 6 + "|")
    for name, (recipe, fault) in DEFAULTS.items():
        undamaged = ("", "") if name in ONLY_MENDED else off(options, recipe, "")
        mended = off(options, recipe, fault) if fault else ("", "")
        print("| " + " | ".join([name, *undamaged, fault, *mended]) + " |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--set", choices=SETS, default="looked-at")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--first", type=int, help="first seed; else that of the set")
    parser.add_argument("--photons", type=float, nargs="+", default=PHOTONS)
    parser.add_argument("--filter", choices=FILTERS, default="gated")
    parser.add_argument("--real", help="a scan that is made free of rings")
    parser.add_argument("--rows", type=int, nargs="+", default=[0])
    parser.add_argument("--cor", type=float, help="of the real scan (pixels)")
    parser.add_argument("--defaults", action="store_true", help="every correction, on rods")
    parser.add_argument("--cols", type=int, default=384, help="of --defaults")
    parser.add_argument("--angles", type=int, default=600, help="of --defaults")
    options = parser.parse_args()
    (defaults if options.defaults else real if options.real else simulated)(options)


if __name__ == "__main__":
    main()
