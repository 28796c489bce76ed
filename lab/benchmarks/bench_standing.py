"""Stages that stand still: false alarms of those that turned, and how many are told.

    python lab/benchmarks/bench_standing.py [--scans 100] [--first 900000]

That turned: of each kind mixed, one kind of damage each (tomopipe_lab.suite), and photographs
(bench_find.py). That stood: photographs, all the time or from the middle on.
"""

import argparse

import numpy as np
from bench_find import draw, photograph
from tomopipe_lab.suite import CONDITIONS, SPLITS, make_case

from tomopipe.cor.prepared import Prepared
from tomopipe.cor.sample_rotation import change_in_parts, warn_of_standstill


def recorded(seed, turned=lambda theta_deg: theta_deg):
    rng = np.random.default_rng(seed)
    drawn = draw(rng)
    theta_deg = np.linspace(0, 180, drawn.n_angles)
    return photograph(drawn, rng, theta_deg, turned(theta_deg))


def suite(seed, *, damaged):
    condition = CONDITIONS[seed % len(CONDITIONS)] if damaged else None
    return make_case(SPLITS[seed // 7 % 3], seed, condition=condition).rows


KINDS = {
    "mixed": lambda seed: suite(seed, damaged=False),
    "one damage": lambda seed: suite(seed, damaged=True),
    "photographs": recorded,
    "stood": lambda seed: recorded(seed, lambda theta_deg: 0 * theta_deg),
    "stopped at 90": lambda seed: recorded(seed, lambda theta_deg: np.minimum(theta_deg, 90)),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scans", type=int, default=100, help="of each kind")
    parser.add_argument("--first", type=int, default=900000, help="number of the first scan")
    options = parser.parse_args()
    print("| scans | n | told | least change in a quarter, 5 % and 95 % |\n|---|---|---|---|")
    for kind, make in KINDS.items():
        told, least = [], []
        for seed in range(options.first, options.first + options.scans):
            prepared = Prepared(make(seed))
            told += [seed] * bool(warn_of_standstill(prepared))
            least.append(np.min(change_in_parts(prepared), initial=np.inf))
        shown = (
            f"{np.min(least):.3f}, {np.percentile(least, 5):.2f} and {np.percentile(least, 95):.3f}"
        )
        print(f"| {kind} | {options.scans} | {len(told)} {told[:5]} | {shown} |", flush=True)


if __name__ == "__main__":
    main()
