"""COR finders on scans that another package projected, of objects that are photographs.

    python lab/benchmarks/bench_find.py [--scans 150] [--method ai] [--method classical]
    python lab/benchmarks/bench_find.py --one-damage --first 480 --scans 480
    python lab/benchmarks/bench_find.py --damage hardening --first 40000 --scans 150

Nothing of `tomopipe.simulate` is used, which the finders and the network were made with: the
objects are the pictures that come with scikit-image, its `radon` projects them, and the damage is
drawn here: several kinds at once, or one kind in turn (`--one-damage`; an eighth each without any,
with 200 to 2000 photons, and truncated), or one kind for all (`--damage`, also a beam of two
energies and scattered light). One row per scan, 200 to 420 columns. Printed are the shares within
1 and 0.5 px, no estimate being a miss, with the 95 % Wilson interval, and what was accepted at a
confidence of 0.5.
"""

import argparse
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from rich.progress import track
from scipy.ndimage import gaussian_filter1d
from skimage import data
from skimage.transform import radon, resize
from tomopipe_lab.scores import wilson
from tomopipe_lab.train.pool import one_thread

from tomopipe.cor import methods as cor_methods
from tomopipe.cor.collected_rows import Rows
from tomopipe.cor.curves import Curves
from tomopipe.cor.prepared import Prepared

PICTURES = (
    "astronaut", "brick", "camera", "cell", "chelsea", "clock", "coffee", "coins", "grass",
    "gravel", "horse", "hubble_deep_field", "immunohistochemistry", "microaneurysms", "moon",
    "page", "rocket", "text",
)  # fmt: skip
ONE = ("none", "few photons", "jitter", "drift", "rings", "dust", "zingers", "truncated")
MORE = ("hardening", "scatter")
MODES = {"180 degrees": 180, "360 degrees": 360, "half acquisition": 360, "less than 180": None}


@dataclass(frozen=True)
class Drawn:
    """What was drawn for one scan."""

    picture: str
    mode: str
    truncated: bool
    n_cols: int
    n_angles: int
    cor_px: float
    damage: str = "several"


def draw(rng):
    n_cols = int(rng.integers(200, 420))
    mode = str(rng.choice(list(MODES), p=[0.4, 0.2, 0.2, 0.2]))
    away = rng.uniform(-0.08, 0.08)
    if mode == "half acquisition":
        away = rng.choice([-1, 1]) * rng.uniform(0.2, 0.42)
    return Drawn(
        picture=str(rng.choice(PICTURES)),
        mode=mode,
        truncated=bool(rng.random() < 0.3),
        n_cols=n_cols,
        n_angles=int(rng.integers(120, 400)),
        cor_px=(n_cols - 1) / 2 + away * n_cols,
    )


def sample(drawn, rng):
    """Return a disc cut from a picture, shape (n, n) with n odd: its middle is on the axis."""
    away_px = abs(drawn.cor_px - (drawn.n_cols - 1) / 2)
    side = 1 if drawn.mode == "half acquisition" else -1
    radius_px = 0.92 * (drawn.n_cols / 2 + side * away_px)
    if drawn.truncated:
        radius_px *= rng.uniform(1.1, 2.0)
    picture = np.asarray(getattr(data, drawn.picture)(), float)
    picture = picture.mean(axis=-1) if picture.ndim == 3 else picture
    square = picture[: min(picture.shape), : min(picture.shape)] / picture.max()
    n = int(radius_px) * 2 + 1
    image = resize(square, (n, n), anti_aliasing=True)
    bright = np.clip(image - np.median(image), 0, None)
    if rng.random() < 0.5 and (bright > 0.05).mean() > 0.1:
        image = bright  # an object with holes
    y, x = np.mgrid[:n, :n] - n // 2
    return image * np.clip((radius_px - 1 - np.hypot(x, y)) / 2, 0, 1)


def line_integrals(drawn, image, theta_deg, rng):
    return scaled(projected(image, theta_deg, drawn.cor_px, drawn.n_cols), (0.5, 2.5), rng)


def projected(image, theta_deg, cor_px, n_cols):
    """Project a slice whose middle is on the axis, at one COR or one for each angle."""
    whole = radon(image, theta_deg, circle=False)
    column = np.arange(len(whole))
    offset = np.arange(n_cols) - np.reshape(cor_px, (-1, 1)) + len(whole) // 2
    offset = np.broadcast_to(offset, (len(theta_deg), n_cols))
    return np.array(
        [
            np.interp(offset_px, column, values, left=0, right=0)
            for offset_px, values in zip(offset, whole.T, strict=True)
        ]
    )


def scaled(lines, absorbs, rng):
    """Let the thick parts of a sample absorb between so much and so much."""
    return lines * rng.uniform(*absorbs) / max(np.percentile(lines, 98), 0.05 * lines.max())


def measured(lines, rng):
    """Let a beam of 200 to 30 000 photons, a detector and a stage do their worst."""
    photons = 10 ** rng.uniform(2.3, 4.5)
    beam = np.exp(-lines)
    if rng.random() < 0.15:
        beam = jittered(beam, rng)
    if rng.random() < 0.3:
        beam *= drift(len(beam), (0.02, 0.2), rng)
    beam = rng.poisson(photons * beam) / photons
    if rng.random() < 0.4:
        beam *= rings(beam.shape[1], (0.01, 0.08), 0.15, rng)
    if rng.random() < 0.25:
        beam *= dust(beam.shape[1], (0.02, 0.3), rng)
    if rng.random() < 0.25:
        add_zingers(beam, 1e-3, rng)
    return to_lines(beam, photons)


def measured_with(kind, lines, rng):
    """Let one kind of damage, at most, do its worst."""
    photons = 10 ** (rng.uniform(2.3, 3.3) if kind == "few photons" else rng.uniform(3.5, 4.7))
    beam = np.exp(-lines)
    if kind == "jitter":
        beam = jittered(beam, rng)
    elif kind == "drift":
        beam *= drift(len(beam), (0.05, 0.3), rng)
    elif kind == "hardening":  # a part of the beam is attenuated less
        part, less = rng.uniform(0.2, 0.6, 2)
        beam = (1 - part) * beam + part * beam**less
    elif kind == "scatter":  # 5 to 20 % of what is taken out of the beam, far around
        reach_px = rng.uniform(0.1, 0.4) * beam.shape[1]
        around = gaussian_filter1d(1 - beam, reach_px, axis=1, mode="nearest")
        beam = beam + rng.uniform(0.05, 0.2) * around
    beam = rng.poisson(photons * beam) / photons
    if kind == "rings":
        beam *= rings(beam.shape[1], (0.02, 0.15), 0.2, rng)
    elif kind == "dust":
        beam *= dust(beam.shape[1], (0.1, 0.4), rng)
    elif kind == "zingers":
        add_zingers(beam, 3e-3, rng)
    return to_lines(beam, photons)


def jittered(beam, rng):
    column = np.arange(beam.shape[1])
    moved = [column - rng.normal(0, 0.5) for _ in beam]
    return np.array([np.interp(m, column, b) for m, b in zip(moved, beam, strict=True)])


def drift(n_angles, strength, rng):
    course = np.sin(np.linspace(0, rng.uniform(2, 12), n_angles))
    return 1 + rng.uniform(*strength) * course[:, None]


def rings(n_cols, strength, share, rng):
    return np.exp(rng.normal(0, rng.uniform(*strength), n_cols) * (rng.random(n_cols) < share))


def dust(n_cols, strength, rng):
    return np.exp(gaussian_filter1d(rng.normal(0, 1, n_cols), 4) * rng.uniform(*strength))


def add_zingers(beam, share, rng):
    hot = rng.random(beam.shape) < share
    beam[hot] *= rng.uniform(2, 10, hot.sum())


def to_lines(beam, photons):
    return -np.log(np.maximum(beam, 0.5 / photons)).astype(np.float32)


def scan(seed, kind=None):
    """Return what was drawn and its row; `kind` of damage None: several at once."""
    rng = np.random.default_rng(seed)
    drawn = draw(rng)
    damage = measured
    if kind:
        drawn = replace(drawn, truncated=kind == "truncated", damage=kind)
        damage = partial(measured_with, kind)
    span_deg = MODES[drawn.mode] or rng.uniform(130, 175)
    ends = drawn.mode == "less than 180" or rng.random() < 0.5
    theta_deg = np.linspace(0, span_deg, drawn.n_angles, endpoint=bool(ends))
    sinogram = damage(line_integrals(drawn, sample(drawn, rng), theta_deg, rng), rng)
    return drawn, rows_of(sinogram, theta_deg)


def photograph(drawn, rng, theta_deg, turned_deg=None):
    """A photograph recorded at the angles theta, where the stage was at `turned_deg`."""
    turned_deg = theta_deg if turned_deg is None else turned_deg
    lines = line_integrals(drawn, sample(drawn, rng), turned_deg, rng)
    return rows_of(measured(lines, rng), theta_deg)


def rows_of(sinogram, theta_deg):
    """Return one row of a scan as try_recon keeps it: line integrals (n_angles, n_cols) float32."""
    opposing = int(np.argmin(np.abs(theta_deg - 180)))
    pairs = np.array(
        [[0, opposing]] if abs(theta_deg[opposing] - 180) < 2 else np.zeros((0, 2)), int
    )
    theta_rad = np.deg2rad(theta_deg)
    return Rows(
        sinograms=sinogram[None],
        row_index=np.array([0]),
        theta_rad=theta_rad,
        pairs=sinogram[pairs].reshape(-1, 2, 1, sinogram.shape[1]),
        pair_theta_rad=theta_rad[pairs],
        n_rows=1,
    )


def ask(seed, methods, one_damage=False, kind=None):
    drawn, rows = scan(seed, ONE[seed % len(ONE)] if one_damage else kind)
    grid_px = (drawn.n_cols - 1) / 2 + np.arange(-50, 50.25, 0.5)
    curves = Curves(Prepared(rows))
    found = {name: cor_methods.ask(name, curves, grid_px) for name in methods}
    return drawn, {name: (answer.best_cor_px, answer.confidence) for name, answer in found.items()}


def ask_all(ask, cases, jobs, what):
    """Return what `ask` says of each case, in several processes."""
    with ProcessPoolExecutor(jobs, initializer=one_thread) as pool:
        return list(track(pool.map(ask, cases), what, len(cases)))


def print_table(what, methods, groups):
    """Print how each method did in each group, a dict of answers by name."""
    print(f"| {what} | method | n | within 1 px | within 0.5 px | accepted | of those wrong |")
    print("|---|---|---|---|---|---|---|")
    for method in methods:
        for name, answers in groups.items():
            print(line(name, method, answers))


def line(name, method, answers):
    error_px = [
        np.inf if answer[method][0] is None else abs(answer[method][0] - truth.cor_px)
        for truth, answer in answers
    ]
    right, close = np.array(error_px) <= 1, np.array(error_px) <= 0.5
    accepted = np.array([answer[method][1] >= 0.5 for _, answer in answers])
    share = wilson(int(right.sum()), len(right))
    cells = [
        name,
        method,
        len(right),
        f"{share.share:.3f} ({share.low:.2f} to {share.high:.2f})",
        f"{close.mean():.3f}",
        f"{accepted.mean():.2f}",
        int((accepted & ~right).sum()),
    ]
    return f"| {' | '.join(map(str, cells))} |"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scans", type=int, default=150)
    parser.add_argument("--first", type=int, default=0, help="number of the first scan")
    damage = parser.add_mutually_exclusive_group()
    damage.add_argument("--one-damage", action="store_true", help="one kind of it each")
    damage.add_argument("--damage", choices=ONE + MORE, help="this kind in all")
    parser.add_argument("--method", action="append", default=None, help="ai, classical")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    methods = arguments.method or ["ai", "classical"]
    asked = partial(ask, methods=methods, one_damage=arguments.one_damage, kind=arguments.damage)
    numbers = range(arguments.first, arguments.first + arguments.scans)
    answers = ask_all(asked, numbers, arguments.jobs, "scans")
    groups = {"all": answers}
    for kind in ONE if arguments.one_damage else ():
        groups[kind] = [a for a in answers if a[0].damage == kind]
    for mode in MODES:
        for truncated in (False, True):
            matching = [a for a in answers if (a[0].mode, a[0].truncated) == (mode, truncated)]
            if matching:
                groups[mode + ", truncated" * truncated] = matching
    print_table("scans", methods, groups)


if __name__ == "__main__":
    main()
