"""Angles of the wrong scale: how many scans are told, and false alarms where they are right.

    python lab/benchmarks/bench_stated_range.py [--scans 300] [--first 700000]

Scans of tomopipe_lab.suite, mixed and one kind of damage in turn, from all splits, and objects that
come again within the range (rings of beads, a grid, balls and tubes about the axis), with and
without noise. Each with its own angles; those of the suite over 180 and 360 degrees with half,
three quarters and eleven twelfths of them, too. The axis is the true one; what finds none of it
accepts no scan anyway.
"""

import argparse
import time
from collections import Counter
from dataclasses import replace

import numpy as np
from tomopipe_lab.suite import CONDITIONS, SPLITS, make_case

from tomopipe.cor.angular_range import wider_range_deg
from tomopipe.cor.prepared import Prepared
from tomopipe.cor.stated_angles import warn_of_angles
from tomopipe.simulate.phantom import Ellipsoid, Phantom, project

N_COLS, N_ROWS = 160, 5


def ball(x_px, y_px, radius_px, mu):
    return Ellipsoid(x_px, y_px, N_ROWS / 2, radius_px, radius_px, radius_px, 0.0, mu)


def symmetric():
    """Yield objects that look alike from several sides."""
    yield "ball", [ball(0, 0, 50, 0.01)]
    yield "tube", [ball(0, 0, 50, 0.01), ball(0, 0, 44, -0.01)]
    yield "grid", [ball(x, y, 4, 0.02) for x in range(-40, 41, 16) for y in range(-40, 41, 16)]
    for n in (2, 3, 4, 6, 8, 12):
        rad = 2 * np.pi * np.arange(n) / n
        beads = [ball(40 * np.cos(a), 40 * np.sin(a), 8, 0.02) for a in rad]
        yield f"{n} beads", [*beads, ball(0, 0, 20, 0.005)]


def false_of_symmetric():
    n, told = 0, []
    for name, parts in symmetric():
        for span_deg, n_angles in ((180, 181), (180, 600), (150, 200), (120, 181), (100, 120)):
            theta_rad = np.deg2rad(np.linspace(0, span_deg, n_angles))
            lines = project(Phantom(name, tuple(parts)), theta_rad, 82.3, N_ROWS, N_COLS)
            for noise in (0, 0.01, 0.05):
                noisy = lines + np.random.default_rng(n).normal(0, noise, lines.shape)
                rows = noisy.transpose(1, 0, 2).astype(np.float32)
                n += 1
                if wider_range_deg(rows, span_deg, 82.3):
                    told.append((name, span_deg, n_angles, noise))
    return n, told


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scans", type=int, default=300)
    parser.add_argument("--first", type=int, default=700000, help="number of the first scan")
    options = parser.parse_args()
    n, told = false_of_symmetric()
    print(f"symmetric objects: {n}, false alarms: {len(told)} {told or ''}")
    counts, wrong, seconds = Counter(), [], []
    for seed in range(options.first, options.first + options.scans):
        condition = CONDITIONS[seed // 2 % len(CONDITIONS)] if seed % 2 else None
        case = make_case(SPLITS[seed % 3], seed, condition=condition)
        span_deg = np.rad2deg(np.ptp(case.rows.theta_rad))
        known = min(abs(span_deg - 180), abs(span_deg - 360)) < 5 and not case.rows.theta_missing
        for scale in (1, 0.5, 0.75, 165 / 180) if known else (1,):
            rows = replace(case.rows, theta_rad=scale * case.rows.theta_rad)
            prepared = Prepared(rows)
            assert len(prepared.sinograms)
            start_s = time.process_time()
            doubt = warn_of_angles(prepared, case.cor_px)
            seconds.append(time.process_time() - start_s)
            kind = (
                f"{360 if span_deg > 270 else 180} degrees, times {scale:.2f}"
                if scale < 1
                else "right"
            )
            counts[kind, bool(doubt)] += 1
            wrong += [case.name] if doubt and scale == 1 else []
    for kind in sorted({kind for kind, _ in counts}):
        told, silent = counts[kind, True], counts[kind, False]
        print(f"{kind}: {told} told of {told + silent} {wrong if kind == 'right' else ''}")
    print(f"CPU s: median {np.median(seconds):.3f}, most {max(seconds):.3f}")


if __name__ == "__main__":
    main()
