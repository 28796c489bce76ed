"""Scans whose axis jumps sideways in mid-scan: how many are told, and false alarms without a jump.

    python lab/benchmarks/bench_jump.py [--scans 300] [--jumps 60] [--first 300000]

Without a jump: as many scans of each kind, mixed (tomopipe_lab.suite), one kind of damage each, and
photographs (bench_find.py). With one of 1 to 8 px, after 15 to 85 % of the projections, 512
columns: clean scans and mixed ones. "right": within 1 px and 1 projection.
"""

import argparse

import numpy as np
from bench_find import ONE
from bench_find import scan as photograph
from tomopipe_lab.suite import CONDITIONS, SPLITS, make_case

from tomopipe.cor.jump import find_jump
from tomopipe.cor.prepared import Prepared

JUMPS_PX = (1, 2, 3, 5, 8)


def without_jump(kind, seed):
    if kind == "photographs":
        return photograph(seed, (None, *ONE)[seed % (len(ONE) + 1)])[1]
    condition = CONDITIONS[seed % len(CONDITIONS)] if kind == "one damage" else None
    return make_case(SPLITS[seed // len(CONDITIONS) % 3], seed, condition=condition).rows


def judge(condition, seed, jump_px):
    """Return whether a jump is told, and whether it is the right one."""
    rng = np.random.default_rng(seed)
    share, jump_px = rng.uniform(0.15, 0.85), jump_px * rng.choice([-1, 1])
    split = SPLITS[seed % 3]
    rows = make_case(split, seed, condition=condition, n_cols=512, jump=(jump_px, share)).rows
    found = find_jump(Prepared(rows))
    if found is None:
        return False, False
    away = abs(found.after + 1 - round(share * len(rows.theta_rad)))
    return True, away <= 1 and abs(found.shift_px - jump_px) <= 1


def print_false_alarms(what, options, is_told):
    """Print which scans of each kind are told although nothing moves."""
    print(f"| without a {what} | n | false alarms |\n|---|---|---|", flush=True)
    for kind in ("mixed", "one damage", "photographs"):
        seeds = range(options.first, options.first + options.scans)
        told = [seed for seed in seeds if is_told(kind, seed)]
        print(f"| {kind} | {len(seeds)} | {len(told)} {told or ''} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scans", type=int, default=300, help="of each kind without a jump")
    parser.add_argument("--jumps", type=int, default=60, help="scans of each kind with each jump")
    parser.add_argument("--first", type=int, default=300000, help="number of the first scan")
    options = parser.parse_args()
    print_false_alarms(
        "jump", options, lambda kind, seed: find_jump(Prepared(without_jump(kind, seed)))
    )
    print(
        "| jump (px) | n | clean: told | right | mixed: told | right |\n|---|---|---|---|---|---|"
    )
    for jump_px in JUMPS_PX:
        seeds = range(options.first, options.first + options.jumps)
        cells = [
            count
            for condition in ("clean", None)
            for count in np.sum([judge(condition, seed, jump_px) for seed in seeds], axis=0)
        ]
        print(f"| {jump_px} | {len(seeds)} | {' | '.join(map(str, cells))} |", flush=True)


if __name__ == "__main__":
    main()
