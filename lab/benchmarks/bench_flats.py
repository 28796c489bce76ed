"""Flats of which one set shows the sample: how many are detected, and false alarms.

    python lab/benchmarks/bench_flats.py [--scans 6] [--seed 0] [--cols 128 384 1024]

Scans of each condition of the suite (tomopipe_lab.suite) that concerns beam, detector or field of
view, and of flats that move, drift and get dust between the sets at once: up to 20 flats before,
after, and in two fifths of the scans amid the projections. Then one set shows the sample, which
turns or does not. Each is judged with flats of known and of unknown time.
"""

import argparse
import zlib
from collections import Counter
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from tomopipe_lab.suite import FAMILIES
from tomopipe_lab.suite.case import angles, body
from tomopipe_lab.suite.damage import Instrument, Part, fringes, motion, spots_of
from tomopipe_lab.suite.sample import Sample, View
from tomopipe_lab.suite.settings import CONDITIONS_BY_NAME, Rng, Settings, base, log_uniform

from tomopipe.arrays import evenly_spread
from tomopipe.cor.collected_rows import Rows, spread_rows
from tomopipe.cor.sample_in_flats import sample_in_flats
from tomopipe.scans.block_means import band_of, block_means, column_means

ALL_AT_ONCE = "moved, drifting, with dust"
KINDS = (
    "clean", "drifting flats", "beam drift", "static dirt", "few photons", "region of interest",
    "featureless", "wide rings", "thin rings", "truncated", "half acquisition", "phase fringes",
    ALL_AT_ONCE,
)  # fmt: skip
N_IMAGES, MOST_ANGLES, MOST_ROWS, MOST_FLATS = 48, 200, 33, 20
AMID, DUSTY, STILL = 0.4, 0.15, 0.5  # shares of scans, sets, and sets with a sample
Stack = NDArray[np.float32]


def make_scan(kind: str, n_cols: int, seed: int) -> tuple[list[Rows], list[Rows]]:
    """Simulate a sound scan, and one with a sample in a set of flats; dated and undated."""
    rng = np.random.default_rng([seed, n_cols, zlib.crc32(kind.encode())])
    s = base(rng, n_cols)
    s = CONDITIONS_BY_NAME.get(kind, lambda s, r: s)(s, rng)
    s = replace(s, n_cols=n_cols, n_angles=min(s.n_angles, MOST_ANGLES))
    s = replace(s, n_rows=max(s.n_rows, int(rng.integers(1, MOST_ROWS))))
    if kind == ALL_AT_ONCE:
        more = {"drift": log_uniform(rng, 0.02, 0.3), "dust": log_uniform(rng, 0.02, 0.5)}
        s = replace(s, flat_shift_px=log_uniform(rng, 0.3, 12), **more)
    theta_rad = angles(s, rng)
    n_angles, all_rows = len(theta_rad), np.arange(s.n_rows)
    families = [family for split in FAMILIES.values() for family in split]
    family = families[int(rng.integers(len(families)))]
    sample = family(body(s, s.row_pitch_px * (s.n_rows - 1) / 2, rng), rng)
    view = view_of(s, theta_rad, rng)
    row_index = np.array(spread_rows([(s.n_rows - 1) // 2], s.n_rows))
    every = Part(np.arange(n_angles), row_index)
    lines = project(sample, view, every)
    scale = np.float32(s.depth / max(float(np.percentile(lines, 98)), 1e-9))
    instrument = Instrument(s, n_angles, rng)
    raw = instrument.counts(fringes(lines * scale, s.fringes), every)
    flats, positions = sets_of_flats(s, instrument, n_angles, rng)
    n = int(np.count_nonzero(positions == positions[0]))
    last = n_angles - 1
    frames = np.full(n, last) if rng.random() < STILL else np.arange(n_angles - n, n_angles)
    part = Part(frames.clip(0), all_rows)
    shadow = instrument.counts(fringes(project(sample, view, part) * scale, s.fringes), part)
    wrong = flats.copy()
    wrong[slice(-n, None) if rng.random() < 0.5 else slice(n)] = shadow

    def rows_of(stack: Stack, at: NDArray[np.float64]) -> Rows:
        sinograms = instrument.corrected(raw, every, stack.mean(axis=0), instrument.dark)
        some = np.exp(-sinograms[evenly_spread(n_angles, N_IMAGES)])
        blocks = np.array([block_means(flat) - block_means(instrument.dark) for flat in stack])
        return Rows(
            sinograms=sinograms.transpose(1, 0, 2),
            row_index=row_index,
            theta_rad=theta_rad,
            pairs=np.zeros((0, 2, 1, 1), np.float32),
            pair_theta_rad=np.zeros((0, 2)),
            n_rows=s.n_rows,
            flat_parts=blocks[:, band_of(row_index, s.n_rows)].astype(np.float32),
            flat_positions=at,
            image_parts=column_means(some).astype(np.float32),
        )

    dates = positions, np.full(len(positions), np.nan)
    return [rows_of(flats, at) for at in dates], [rows_of(wrong, at) for at in dates]


def sets_of_flats(
    s: Settings, instrument: Instrument, n_angles: int, rng: Rng
) -> tuple[Stack, NDArray[np.float64]]:
    """Return flats (n, n_rows, n_cols) of two or three sets, and the projections before each."""
    n, all_rows = int(rng.integers(1, MOST_FLATS + 1)), np.arange(s.n_rows)
    at = [0, n_angles // 2, n_angles - 1] if rng.random() < AMID else [0, n_angles - 1]
    sets = []
    for frame in at:
        no_lines = np.zeros((n, s.n_rows, s.n_cols), np.float32)
        flats = instrument.counts(no_lines, Part(np.full(n, frame), all_rows))
        if rng.random() < DUSTY:
            dust = spots_of((s.n_rows, s.n_cols), rng, int(rng.integers(1, 12)))
            light = (flats - instrument.dark) * np.exp(-rng.uniform(0.05, 0.5) * dust)
            flats = (instrument.dark + light).astype(np.float32)
        sets.append(flats)
    positions = [float(frame + (frame > 0)) for frame in at]
    return np.concatenate(sets), np.repeat(positions, n)


def view_of(s: Settings, theta_rad: NDArray[np.float64], rng: Rng) -> View:
    """Return the angles and the axis of each projection."""
    x, y, swell, jitter = motion(s, len(theta_rad), rng)
    moved_px = x * np.cos(theta_rad) - y * np.sin(theta_rad) + jitter
    height_px = s.row_pitch_px * (np.arange(s.n_rows) - (s.n_rows - 1) / 2)
    cor_px = s.cor_px + moved_px[:, None] + np.tan(np.deg2rad(s.roll_deg)) * height_px
    return View(theta_rad, cor_px, swell, height_px, s.n_cols)


def project(sample: Sample, view: View, part: Part) -> Stack:
    """Return line integrals of some projections and rows."""
    return sample.project(view[part.frames, part.rows])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scans", type=int, default=6, help="of each kind and width")
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--cols", type=int, nargs="+", default=[128, 384, 1024])
    args = parser.parse_args()
    total: Counter[str] = Counter()
    print(
        "| scans | n | detected, of known time | of unknown time | false |\n|---|---|---|---|---|"
    )
    for kind in KINDS:
        count: Counter[str] = Counter()
        for n_cols in args.cols:
            for seed in range(args.seed, args.seed + args.scans):
                sound, with_sample = make_scan(kind, n_cols, seed)
                dated, undated = (int(sample_in_flats(rows).any()) for rows in with_sample)
                false = sum(int(sample_in_flats(rows).any()) for rows in sound)
                count.update(n=1, dated=dated, undated=undated, false=false)
        total += count
        print(line_of(kind, count), flush=True)
    print(line_of("all", total))


def line_of(kind: str, count: Counter[str]) -> str:
    """Return a line of the table."""
    return f"| {kind} | {count['n']} | {count['dated']} | {count['undated']} | {count['false']} |"


if __name__ == "__main__":
    main()
