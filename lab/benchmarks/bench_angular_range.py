"""How often the angles of scans without any are proven, and whether rightly.

    python lab/benchmarks/bench_angular_range.py [--scans 200] [--first 0] [--split test] [--jobs 2]

As many scans of samples that stay still, and as many of samples that move by 1 px in a smooth
random walk. The scans cover 180, 360, 540 and 720 degrees in turn, with the last projection at the
end or one step before it, in 91 to 1501 projections, odd and even, either direction and any start;
128 to 400 columns, 8 to 64 rows; the axis up to 15 % of the width off the middle; one in five is a
region of interest; 2000 to 50000 photons, line integrals up to 0.3 to 3. Samples are those of
`tomopipe_lab.suite`: what was set here was set on the split `train`, whose families and random
numbers are others than those of `test`. Rows are kept as try_recon looks at them, 32 at most.
"""

import argparse
import os
import time
from collections import Counter
from dataclasses import replace
from functools import partial
from multiprocessing import Pool

import numpy as np
from tomopipe_lab.suite.case import _sample, _view, is_answerable
from tomopipe_lab.suite.damage import Instrument, Part
from tomopipe_lab.suite.settings import Settings, log_uniform

from tomopipe.cor.angular_range import prove_range
from tomopipe.cor.collected_rows import spread_rows

CASES = [(span_deg, ends) for span_deg in (180, 360, 540, 720) for ends in (True, False)]
SPLITS = ("train", "validation", "test")


def draw(number, moves_px, rng):
    """Return how a scan is taken."""
    span_deg, ends = CASES[number % len(CASES)]
    region = rng.random() < 0.2
    return Settings(
        n_cols=int(rng.integers(128, 401)),
        n_rows=round(log_uniform(rng, 8, 64)),
        n_angles=int(rng.integers(91, 1502)),
        span_deg=float(span_deg) * rng.choice([-1, 1]),
        start_deg=rng.uniform(-180, 180),
        end_point=ends,
        off=rng.uniform(-0.06, 0.06) if region else rng.uniform(-0.15, 0.15),
        fill=rng.uniform(1.05, 1.8) if region else rng.uniform(0.4, 0.98),
        depth=log_uniform(rng, 0.3, 3),
        counts=log_uniform(rng, 2000, 50000),
        blur_px=rng.uniform(0, 0.9),
        row_pitch_px=log_uniform(rng, 1, 8),
        thin_rings=0.002,
        jitter_px=0.02,
        motion_px=moves_px,
    )


def sinograms(number, moves_px, split):
    """Return rows (n_rows, n_angles, n_cols) and how they were taken."""
    rng = np.random.default_rng([21, SPLITS.index(split), number])
    while True:
        s = draw(number, moves_px, rng)
        theta_deg = s.start_deg + np.linspace(0, s.span_deg, s.n_angles, endpoint=s.end_point)
        _, sample = _sample(split, replace(s, motion_px=0), rng)
        view = _view(s, np.deg2rad(theta_deg), rng)
        rows = np.array(spread_rows([(s.n_rows - 1) // 2], s.n_rows, 32))
        every = Part(np.arange(s.n_angles), rows)
        lines = sample.project(view[every.frames, every.rows])
        high = float(np.percentile(lines, 98))
        if not high > 0:
            continue
        lines = lines * np.float32(s.depth / high)
        if not is_answerable(lines, s.counts, np.deg2rad(theta_deg)):
            continue
        instrument = Instrument(s, s.n_angles, rng)
        raw = instrument.counts(lines, every)
        corrected = instrument.corrected(raw, every, *instrument.flat_and_dark())
        return np.ascontiguousarray(corrected.transpose(1, 0, 2)), s


def ask(number, moves_px, split):
    """Return what is proven of a scan, what is true, and the CPU seconds it took."""
    rows, s = sinograms(number, moves_px, split)
    start_s = time.process_time()
    proof = prove_range(rows)
    taken_s = time.process_time() - start_s
    true = (abs(s.span_deg), s.end_point)
    if not proof.range_deg:
        verdict = "unproven"
    else:
        verdict = "proven" if (proof.range_deg, proof.endpoint) == true else "WRONG"
    end = "in" if s.end_point else "out"
    line = (
        f"{number} {verdict}: {true[0]:g} degrees, end {end}, {rows.shape} rows, angles, columns; "
        f"{proof.beyond:.2f} +- {proof.beyond_error:.2f} {proof.reason} ({taken_s:.2f} s)"
    )
    return verdict, f"{true[0]:g} {end}", taken_s, line


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scans", type=int, default=200)
    parser.add_argument("--first", type=int, default=0, help="number of the first scan")
    parser.add_argument("--split", choices=SPLITS, default="test")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--each", action="store_true", help="print each scan")
    arguments = parser.parse_args()
    numbers = range(arguments.first, arguments.first + arguments.scans)
    kinds = [f"{span_deg:g} {'in' if ends else 'out'}" for span_deg, ends in CASES]
    print("| sample | scans | proven | wrong | unproven | CPU s, median, most |", *kinds, sep=" | ")
    for moves_px in (0.0, 1.0):
        with Pool(arguments.jobs) as pool:
            work = partial(ask, moves_px=moves_px, split=arguments.split)
            answers = list(pool.imap(work, numbers, chunksize=2))
        if arguments.each:
            print(*(line for *_, line in answers), sep="\n")
        counts = Counter(verdict for verdict, *_ in answers)
        seconds = [taken_s for _, _, taken_s, _ in answers]
        proven = Counter(kind for verdict, kind, *_ in answers if verdict == "proven")
        print(
            f"| moves {moves_px:g} px | {len(answers)} | {counts['proven']} | {counts['WRONG']} | "
            f"{counts['unproven']} | {np.median(seconds):.2f}, {max(seconds):.2f} |",
            *(proven[kind] for kind in kinds),
            sep=" | ",
        )


if __name__ == "__main__":
    main()
