"""COR finders on whole files of another generator: one kind of damage or one way to scan each.

    python lab/benchmarks/bench_find_files.py [--scans 180] [--first 0] [--kind dust]

bench_find.py asks about single rows of line integrals; here each scan is a file with flats and
darks, 8 rows high, and the steps try_recon and predict_cor are run on it. One of two pictures of
scikit-image turns into the other from the first row to the last, `radon` projects each, and beam,
scintillator and stage are drawn here, in photons: nothing of `tomopipe.simulate` is used. 200 to
420 columns, angles of any start and direction, with and without the last one. Kinds take turns.
Where the sample moves, the axis is where it is on average. Printed is what bench_find.py prints.
"""

import argparse
import os
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import h5py
import numpy as np
from bench_find import (
    PICTURES,
    Drawn,
    add_zingers,
    ask_all,
    drift,
    dust,
    print_table,
    projected,
    rings,
    sample,
    scaled,
)
from scipy.ndimage import gaussian_filter, shift

from tomopipe.config import PredictCorBlock, TryReconBlock
from tomopipe.scans.raw_scan import RawScan
from tomopipe.steps.predict_cor import predict_cor
from tomopipe.steps.try_recon import TryFiles, try_recon
from tomopipe.stream.memory import Resources

N_ROWS = 8
DARK = 100


@dataclass(frozen=True)
class Kind:
    """How a kind of scan differs from an undamaged one; of what is drawn, the greatest."""

    span_deg: float = 180
    ends: bool | None = None  # None: either
    n_angles: tuple[int, int] = (150, 400)
    away: tuple[float, float] = (0, 0.07)  # of the axis from the middle, of the columns
    truncated: bool = False
    half_acquisition: bool = False
    absorbs: tuple[float, float] = (0.5, 2.5)
    faint: float = 1.0  # of a disc, how much is the picture
    log_photons: tuple[float, float] = (3.6, 4.5)
    roll_px: float = 0  # between first row and last
    moves_px: float = 0  # from first angle to last
    jitter_px: float = 0
    drifts: float = 0
    n_flats: int = 10
    flat_moves_px: float = 0
    dust: float = 0
    rings: float = 0
    zingers: float = 0


KINDS = {
    "undamaged": Kind(),
    "few photons": Kind(log_photons=(2.4, 3.2)),
    "drift": Kind(drifts=0.2),
    "one flat": Kind(n_flats=1),
    "flats moved": Kind(flat_moves_px=1.5),
    "dust": Kind(dust=0.4),
    "rings": Kind(rings=0.12),
    "zingers": Kind(zingers=3e-3),
    "truncated": Kind(truncated=True),
    "roll": Kind(roll_px=1.5),
    "sample moves": Kind(moves_px=2),
    "sample jitter": Kind(jitter_px=0.5),
    "few angles": Kind(n_angles=(30, 80)),
    "140 to 150 degrees": Kind(span_deg=150, ends=True),
    "160 to 170 degrees": Kind(span_deg=170, ends=True),
    "360 degrees": Kind(span_deg=360),
    "half acquisition": Kind(span_deg=360, away=(0.2, 0.42), half_acquisition=True),
    "far axis": Kind(away=(0.12, 0.35)),
    "no end point": Kind(ends=False),
    "faint": Kind(absorbs=(0.15, 0.6), faint=0.1),
}


def draw(kind, rng):
    """Return what `bench_find` wants to know, and the angles."""
    n_cols = int(rng.integers(200, 420))
    n_angles = int(rng.integers(*kind.n_angles))
    away = rng.choice([-1, 1]) * rng.uniform(*kind.away)
    drawn = Drawn(
        picture=str(rng.choice(PICTURES)),
        mode="half acquisition" if kind.half_acquisition else "180 degrees",
        truncated=kind.truncated,
        n_cols=n_cols,
        n_angles=n_angles,
        cor_px=(n_cols - 1) / 2 + away * n_cols,
    )
    ends = rng.random() < 0.6 if kind.ends is None else kind.ends
    span_deg = kind.span_deg - rng.uniform(0, 10) * (kind.span_deg < 180)
    range_deg = np.linspace(0, span_deg, n_angles, endpoint=bool(ends))
    return drawn, rng.choice([-1, 1]) * range_deg + rng.uniform(-180, 180)


def objects(drawn, kind, rng):
    """Slices (N_ROWS, n, n) from one picture to another, of one size."""
    first = sample(drawn, rng)
    last = shrunk(sample(drawn, rng), len(first))
    first = shrunk(first, len(last))
    y, x = np.mgrid[: len(first), : len(first)] - len(first) // 2
    disc = np.clip(len(first) / 2 - 2 - np.hypot(x, y), 0, 1)
    share = np.linspace(0, 1, N_ROWS)[:, None, None]
    return kind.faint * ((1 - share) * first + share * last) + (1 - kind.faint) * disc


def shrunk(image, n):
    """The middle of an image, n wide at most; both odd."""
    off = max(0, (len(image) - n) // 2)
    return image[off : len(image) - off, off : len(image) - off]


def line_integrals(drawn, kind, slices, theta_deg, rng):
    """Return projections (n_angles, N_ROWS, n_cols)."""
    moved_px = rng.uniform(-1, 1) * kind.moves_px * np.linspace(-0.5, 0.5, len(theta_deg))
    moved_px = moved_px + rng.normal(0, 1, len(theta_deg)) * kind.jitter_px
    roll_px = rng.choice([-1, 1]) * kind.roll_px * np.linspace(-0.5, 0.5, N_ROWS)
    lines = [
        projected(image, theta_deg, drawn.cor_px + roll + moved_px, drawn.n_cols)
        for image, roll in zip(slices, roll_px, strict=True)
    ]
    return scaled(np.stack(lines, axis=1), kind.absorbs, rng)


def exposed(drawn, kind, lines, rng):
    """Return counts of projections, flats and darks."""
    photons = 10 ** rng.uniform(*kind.log_photons)
    column = np.linspace(-1, 1, drawn.n_cols)
    speckle = gaussian_filter(rng.normal(0, 1, (N_ROWS, drawn.n_cols)), (3, 5))
    bright = 1 - 0.4 * (column - rng.uniform(-0.2, 0.2)) ** 2
    bright = bright * (1 + 0.05 * speckle / speckle.std())
    then = bright
    if kind.flat_moves_px:
        off_px = rng.uniform(-1, 1, 2) * kind.flat_moves_px
        then = shift(bright, off_px, order=1, mode="nearest")
    if kind.dust:
        then = then * dust(drawn.n_cols, (kind.dust / 4, kind.dust), rng)
    beam = np.exp(-lines)
    if kind.drifts:
        beam *= drift(len(beam), (kind.drifts / 4, kind.drifts), rng)[:, None]
    counts = rng.poisson(photons * beam * then).astype(float)
    if kind.rings:
        counts *= rings(drawn.n_cols, (kind.rings / 4, kind.rings), 0.2, rng)
    if kind.zingers:
        add_zingers(counts, kind.zingers, rng)
    counts += DARK + rng.normal(0, 2, counts.shape)
    flats = DARK + rng.poisson(photons * bright, (kind.n_flats, *bright.shape))
    return counts, flats, rng.poisson(DARK, (5, *bright.shape))


def write(path, frames, theta_deg):
    """Write a DXchange file."""
    with h5py.File(path, "w") as file:
        for name, counts in zip(("data", "data_white", "data_dark"), frames, strict=True):
            file[f"exchange/{name}"] = np.clip(np.rint(counts), 0, 65535).astype("u2")
        file["exchange/theta"] = theta_deg.astype("f4")


def ask(number, name, methods):
    """Return what was drawn, its kind, and what the methods say of the file."""
    name = name or list(KINDS)[number % len(KINDS)]
    kind, rng = KINDS[name], np.random.default_rng(number)
    drawn, theta_deg = draw(kind, rng)
    lines = line_integrals(drawn, kind, objects(drawn, kind, rng), theta_deg, rng)
    with tempfile.TemporaryDirectory() as folder:
        scan, *paths = (Path(folder) / n for n in ("s.h5", "t.tif", "t.json", "r.h5", "p.json"))
        write(scan, exposed(drawn, kind, lines, rng), theta_deg)
        grid, files = TryReconBlock(step_px=1, max_size_px=128), TryFiles(*paths[:3])
        try_recon(RawScan(scan), files, grid, resources=Resources(threads=1), made_from=None)
        found = predict_cor(
            paths[2], paths[1], paths[3], Path(folder) / "c.txt",
            PredictCorBlock(methods=list(methods)),
            used=None, made_from=None, is_rewritten=lambda path: False,
        )["methods"]  # fmt: skip
    answers = {m: (found[m]["best_cor_px"], found[m]["confidence"] or 0.0) for m in methods}
    return name, (drawn, answers)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scans", type=int, default=180)
    parser.add_argument("--first", type=int, default=0, help="number of the first scan")
    parser.add_argument("--kind", choices=KINDS, help="this kind for all")
    parser.add_argument("--method", action="append", default=None, help="ai, sum, registration")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    methods = arguments.method or ["ai", "sum"]
    numbers = range(arguments.first, arguments.first + arguments.scans)
    asked = partial(ask, name=arguments.kind, methods=methods)
    answered = ask_all(asked, numbers, arguments.jobs, "scans")
    groups = {"all": [answers for _, answers in answered]}
    for name in dict.fromkeys(name for name, _ in answered):
        groups[name] = [answers for kind, answers in answered if kind == name]
    print_table("scans", methods, groups)


if __name__ == "__main__":
    main()
