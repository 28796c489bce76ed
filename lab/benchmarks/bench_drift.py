"""Scans whose axis drifts sideways: how many are accepted, and told; false alarms without a drift.

    python lab/benchmarks/bench_drift.py [--scans 200] [--drifts 12] [--first 500000]

Without a drift: as many scans of each kind, mixed (tomopipe_lab.suite), one kind of damage each,
and photographs (bench_find.py), a half of each over 360 degrees; the axis is the true one. With one
of 1 to 40 px, a third each steady over the whole scan, steady over half of it, and a smooth random
walk; samples in the field, larger than it, in half acquisition, and mixed. "spoils": accepted, and
wrong by more than 1 px from the COR that fits the moved projections best, or they are off it by
more than 0.7 px (standard deviation) whatever the position of the sample.
"""

import argparse
from collections import Counter
from dataclasses import replace

import numpy as np
from bench_find import MORE, ONE, draw, line_integrals, measured_with, rows_of, sample
from bench_jump import print_false_alarms
from tomopipe_lab.suite import CONDITIONS, SPLITS, make_case
from tomopipe_lab.suite.damage import random_walk

from tomopipe.cor.curves import Curves
from tomopipe.cor.drift import warn_of_drift
from tomopipe.cor.jump import reject_jump
from tomopipe.cor.methods import ask, choose
from tomopipe.cor.prepared import Prepared

DRIFTS_PX = (0, 1, 2, 5, 10, 20, 40)
SAMPLES = {
    180: {"in the field": "clean", "larger": "truncated", "mixed": None},
    360: {
        "in the field": "clean",
        "larger": "truncated",
        "half acquisition": "half acquisition",
        "mixed": None,
    },
}
WRONG_PX, SPREAD_PX = 1.0, 0.7
NO_FULL_TURN = ("less than 180", "missing theta")


def still(kind, seed):
    """Return rows and the axis."""
    full = seed % 2 == 1
    if kind == "photographs":
        rng = np.random.default_rng(seed)
        damage = (*ONE, *MORE)[seed // 2 % len(ONE + MORE)]
        drawn = replace(draw(rng), truncated=damage == "truncated")
        if not full and drawn.mode == "half acquisition":
            drawn = replace(
                drawn, mode="180 degrees", cor_px=(drawn.n_cols - 1) / 2 + rng.uniform(-20, 20)
            )
        span_deg = 360 if full or drawn.mode == "360 degrees" else 180
        theta_deg = np.linspace(0, span_deg, drawn.n_angles)
        lines = line_integrals(drawn, sample(drawn, rng), theta_deg, rng)
        return rows_of(measured_with(damage, lines, rng), theta_deg), drawn.cor_px
    usable = [name for name in CONDITIONS if not full or name not in NO_FULL_TURN]
    condition = usable[seed // 2 % len(usable)] if kind == "one damage" else None
    case = make_case(SPLITS[seed % 3], seed, condition=condition, span_deg=360 if full else None)
    return case.rows, case.cor_px


def is_told(kind, seed):
    rows, cor_px = still(kind, seed)
    return warn_of_drift(Prepared(rows), cor_px)


def course(seed, drift_px):
    """Return how far the axis is off after shares of the scan."""
    rng = np.random.default_rng(seed)
    to_px, start = drift_px * rng.choice([-1, 1]), rng.uniform(0, 0.5)
    return (
        lambda share: to_px * share,
        lambda share: to_px * np.clip((share - start) / 0.5, 0, 1),
        lambda share: to_px * random_walk(len(share), np.random.default_rng(seed), smooth=0.08),
    )[seed % 3]


def judge(seed, span_deg, condition, drift_px):
    """Return whether a scan is accepted, the drift spoils it, and is told."""
    wander = course(seed, drift_px)
    case = make_case(
        SPLITS[seed // 3 % 3], seed, condition=condition, span_deg=span_deg, wander=wander
    )
    curves = Curves(Prepared(case.rows))
    weights = {"ai": "shipped"}
    answers = [ask(name, curves, case.candidates_px, weights.get(name)) for name in ("ai", "sum")]
    decision, _ = reject_jump(choose(answers, 0.5, curves.reach_px), curves.prepared)
    if decision.cor_px is None:
        return False, False, False
    theta_rad = case.rows.theta_rad
    moved_px = wander(np.linspace(0, 1, len(theta_rad)))
    paths = np.stack([np.ones_like(theta_rad), np.cos(theta_rad), np.sin(theta_rad)], axis=1)
    best = np.linalg.lstsq(paths, moved_px)[0]
    wrong_px = abs(decision.cor_px - case.cor_px - best[0])
    spoils = wrong_px > WRONG_PX or np.std(moved_px - paths @ best) > SPREAD_PX
    return True, spoils, bool(warn_of_drift(curves.prepared, decision.cor_px))


def print_drifts(options):
    seeds = range(options.first, options.first + options.drifts)
    print("| degrees | sample | drift (px) | n | accepted | spoils | told of these | of others |")
    print("|---|---|---|---|---|---|---|---|")
    for span_deg, samples in SAMPLES.items():
        for name, condition in samples.items():
            for drift_px in DRIFTS_PX:
                counts = Counter(judge(seed, span_deg, condition, drift_px) for seed in seeds)
                spoilt = [counts[True, True, told] for told in (False, True)]
                fine = [counts[True, False, told] for told in (False, True)]
                cells = (
                    span_deg,
                    name,
                    drift_px,
                    len(seeds),
                    sum(spoilt + fine),
                    sum(spoilt),
                    spoilt[1],
                    fine[1],
                )
                print(f"| {' | '.join(map(str, cells))} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scans", type=int, default=200, help="of each kind without a drift")
    parser.add_argument("--drifts", type=int, default=12, help="scans of each kind with each drift")
    parser.add_argument("--first", type=int, default=500000, help="number of the first scan")
    options = parser.parse_args()
    print_false_alarms("drift", options, is_told)
    print_drifts(options)


if __name__ == "__main__":
    main()
