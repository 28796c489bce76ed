"""Scans over more than a turn: false alarms of still samples, and how many helical ones are told.

    python lab/benchmarks/bench_turns.py [--scans 150] [--first 800000]

Still samples over 390 to 1080 degrees: of each kind mixed (tomopipe_lab.suite), one kind of damage
each, and photographs (bench_find.py). Helical ones, mixed: 720 degrees, by 4 to 64 px in a turn.
Printed with the false alarms: the largest share that is unmatched, and the largest over that of
neighbours among shares above 0.05.
"""

import argparse
from dataclasses import replace

import numpy as np
from bench_find import draw, photograph
from tomopipe_lab.suite import CONDITIONS, SPLITS, make_case

from tomopipe.cor.prepared import Prepared
from tomopipe.cor.sample_rotation import unmatched, warn_of_changes

KINDS = ("mixed", "one damage", "photographs")
SPANS_DEG = (390, 450, 540, 720, 1080)
CLIMBS_PX = (4, 8, 16, 32, 64)


def still(kind, seed):
    span_deg = SPANS_DEG[seed % len(SPANS_DEG)]
    if kind == "photographs":
        rng = np.random.default_rng(seed)
        drawn = replace(draw(rng), n_angles=round(rng.integers(120, 400) * span_deg / 180))
        theta_deg = np.linspace(0, span_deg, drawn.n_angles)
        return photograph(drawn, rng, theta_deg)
    condition = CONDITIONS[seed % len(CONDITIONS)] if kind == "one damage" else None
    return make_case(SPLITS[seed // 7 % 3], seed, condition=condition, span_deg=span_deg).rows


def print_still(kind, seeds):
    judged, told, shares, ratios = 0, [], [0.0], [0.0]
    for seed in seeds:
        prepared = Prepared(still(kind, seed))
        found = unmatched(prepared)
        judged += found is not None
        told += [seed] if warn_of_changes(prepared) else []
        if found:
            shares.append(found[0])
            ratios.append(found[0] / found[1] if found[0] > 0.05 else 0.0)
    worst = sorted(ratios)[-3:]
    print(
        f"| {kind} | {len(seeds)} | {judged} | {len(told)} {told or ''} | {max(shares):.2f} | "
        f"{', '.join(f'{ratio:.2f}' for ratio in worst)} |",
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scans", type=int, default=150, help="of each kind")
    parser.add_argument("--first", type=int, default=800000, help="number of the first scan")
    options = parser.parse_args()
    seeds = range(options.first, options.first + options.scans)
    print(
        "| still | n | judged | false alarms | unmatched | over neighbours |\n" + "|---" * 6 + "|"
    )
    for kind in KINDS:
        print_still(kind, seeds)
    print("| px in a turn | n | judged | told |\n|---|---|---|---|")
    for climb_px in CLIMBS_PX:
        judged, told = 0, 0
        for seed in seeds[: options.scans // 4]:
            rows = make_case(SPLITS[seed % 3], seed, span_deg=720, climb_px=climb_px).rows
            judged += unmatched(Prepared(rows)) is not None
            told += bool(warn_of_changes(Prepared(rows)))
        print(f"| {climb_px} | {options.scans // 4} | {judged} | {told} |", flush=True)


if __name__ == "__main__":
    main()
