"""COR finders of other packages beside ours, on the same scans, given nothing but the angles.

    pip install nabu algotom scikit-image   (where tomopipe is installed)
    python lab/benchmarks/bench_cor_peers.py [--suite conditions|mixed|photographs] [--scans 180]

The suites are those of `tomopipe lab evaluate` (test split) and of bench_find.py. Finders of two
images are given the halves of a sinogram over 360 degrees, else the projections nearest to 180
degrees apart, all rows of them: those suites have few, where whole projections have hundreds.
"side" are given what nabu's users say: on which side the axis is. Printed are the shares within 1
and 0.5 px with the 95 % Wilson interval, no answer being a miss, and the seconds of the median scan
on one core.
"""

import argparse
import io
import logging
import os
import time
import warnings
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stdout
from functools import partial

import numpy as np
from algotom.prep.calculation import (
    find_center_360,
    find_center_based_phase_correlation,
    find_center_vo,
)
from nabu.estimation.cor import (
    CenterOfRotation,
    CenterOfRotationGrowingWindow,
    CenterOfRotationSlidingWindow,
)
from rich.progress import track
from tomopipe_lab.scores import wilson
from tomopipe_lab.suite import CONDITIONS, make_case

from tomopipe.cor import methods
from tomopipe.cor.curves import Curves
from tomopipe.cor.prepared import Prepared
from tomopipe.recon.angular_sampling import is_full_rotation


def opposing(rows):
    """Return two images, the second flipped, that match about the axis."""
    if is_full_rotation(rows.theta_rad):
        half = len(rows.theta_rad) // 2
        return rows.sinograms[0, :half], rows.sinograms[0, half : 2 * half, ::-1]
    if len(rows.pairs):
        return rows.pairs[0, 0], rows.pairs[0, 1, :, ::-1]
    last = int(np.argmin(abs(abs(rows.theta_rad - rows.theta_rad[0]) - np.pi)))
    return rows.sinograms[:, 0], rows.sinograms[:, last, ::-1]


def nabu(finder, rows, side):
    """Return the COR by one of nabu's finders of two images."""
    first, second = opposing(rows)
    return finder().find_shift(first, second, side=side, return_relative_to_middle=False)


def side_of(rows, cor_px):
    """Return where the axis is, as one would set it in nabu."""
    where = cor_px / (rows.sinograms.shape[2] - 1)
    return "left" if where < 0.3 else "right" if where > 0.7 else "center"


def vo(rows, cor_px):
    """Return the COR by Vo's double wedge, or his overlap over 360 degrees if it is off-centre."""
    sinogram = rows.sinograms[0]
    if not is_full_rotation(rows.theta_rad):
        return find_center_vo(sinogram, ncore=1)
    if cor_px is not None and side_of(rows, cor_px) != "center":
        return find_center_360(sinogram, sinogram.shape[1] // 8, ncore=1)[0]
    return find_center_vo(sinogram[: len(sinogram) // 2 + 1], ncore=1)


def ours(method, rows, grid_px):
    return methods.ask(method, Curves(Prepared(rows)), grid_px).best_cor_px


PEERS = {
    "tomopipe ai": lambda rows, cor_px: ours("ai", rows, grid_of(rows)),
    "tomopipe classical": lambda rows, cor_px: ours("classical", rows, grid_of(rows)),
    "nabu growing window": lambda rows, cor_px: nabu(CenterOfRotationGrowingWindow, rows, "center"),
    "nabu growing window, all sides": lambda rows, cor_px: nabu(
        CenterOfRotationGrowingWindow, rows, "all"
    ),
    "nabu growing window, side": lambda rows, cor_px: nabu(
        CenterOfRotationGrowingWindow, rows, side_of(rows, cor_px)
    ),
    "nabu sliding window, side": lambda rows, cor_px: nabu(
        CenterOfRotationSlidingWindow, rows, side_of(rows, cor_px)
    ),
    "nabu centered": lambda rows, cor_px: CenterOfRotation().find_shift(
        *opposing(rows), return_relative_to_middle=False
    ),
    "algotom vo": lambda rows, cor_px: vo(rows, None),
    "algotom vo, side": vo,
    "algotom phase correlation": lambda rows, cor_px: find_center_based_phase_correlation(
        *opposing(rows), flip=False
    ),
}


def grid_of(rows):
    return (rows.sinograms.shape[2] - 1) / 2 + np.arange(-50, 50.25, 0.5)


def scan_of(suite, number):
    """Return a scan, its COR and its kind."""
    if suite == "photographs":
        from bench_find import scan

        drawn, rows = scan(number)
        return rows, drawn.cor_px, drawn.mode + ", truncated" * drawn.truncated
    kinds = list(CONDITIONS)
    kind = kinds[number % len(kinds)] if suite == "conditions" else None
    seed = 40000 + number // len(kinds) if suite == "conditions" else 41000 + number
    case = make_case("test", seed, condition=kind)
    return case.rows, case.cor_px, kind or suite


def ask(number, suite):
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    rows, cor_px, kind = scan_of(suite, number)
    answers = {}
    for name, peer in PEERS.items():
        started = time.perf_counter()
        try:
            with redirect_stdout(io.StringIO()):
                found_px = peer(rows, cor_px)
        except Exception:  # of another package: a miss
            found_px = None
        away_px = np.inf if found_px is None else abs(float(found_px) - cor_px)
        answers[name] = away_px, time.perf_counter() - started
    return kind, answers


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--suite", choices=("conditions", "mixed", "photographs"), default="conditions"
    )
    parser.add_argument("--scans", type=int, default=180)
    parser.add_argument("--kinds", action="store_true", help="a table of every kind, too")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    options = parser.parse_args()
    with ProcessPoolExecutor(options.jobs) as pool:
        pending = pool.map(partial(ask, suite=options.suite), range(options.scans))
        answers = list(track(pending, "scans", options.scans))
    print("| finder | within 1 px | within 0.5 px | s |")
    print("|---|---|---|---|")
    by_kind = defaultdict(list)
    for kind, found in answers:
        by_kind[kind].append(found)
    for name in PEERS:
        away_px = np.array([found[name][0] for _, found in answers])
        near = wilson(int((away_px <= 1).sum()), len(away_px))
        seconds = np.median([found[name][1] for _, found in answers])
        share = f"{near.share:.3f} ({near.low:.2f} to {near.high:.2f})"
        print(f"| {name} | {share} | {(away_px <= 0.5).mean():.3f} | {seconds:.2f} |")
    if options.kinds:
        print(f"\n| kind | n | {' | '.join(PEERS)} |\n|---|---|{'---|' * len(PEERS)}")
        for kind, found in by_kind.items():
            shares = [np.mean([answer[name][0] <= 1 for answer in found]) for name in PEERS]
            print(f"| {kind} | {len(found)} | {' | '.join(f'{s:.2f}' for s in shares)} |")


if __name__ == "__main__":
    main()
