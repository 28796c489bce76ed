"""Wrong CORs that a series names, and right ones that it names, on simulated series.

    python lab/benchmarks/bench_off_line.py [--n 300] [--seed 20000] [--scans 12]

A table for each number and size of wrong CORs: the share of wrong ones that are named, the share of
right ones named (false), and the share of series with a false one. Then the time.
"""

import argparse
import time

from tomopipe_lab.suite.cor_series import KINDS, Series, make_series

from tomopipe.cor.off_line import off_line

CASES = (
    ("one wrong by 5 px, scatter 0.2 px", {}),
    ("two wrong by 5 and 5 to 40 px, scatter 0.2 px", {"n_wrong": 2}),
    ("one wrong by 0.5 px, scatter 0.02 px", {"error_px": 0.5, "scatter_px": 0.02}),
    ("none wrong, scatter 0.2 px", {"n_wrong": 0}),
    ("none wrong, scatter 0.02 px", {"n_wrong": 0, "scatter_px": 0.02}),
)


def shares(all_series: list[Series]) -> tuple[float, float, float]:
    """Return the shares of wrong CORs named, of right ones named, and of series with such."""
    n_named = n_false = n_with_false = 0
    for series in all_series:
        named = set(off_line(series.index, series.cor_px))
        n_named += len(named & series.wrong)
        n_false += len(named - series.wrong)
        n_with_false += bool(named - series.wrong)
    n_wrong = sum(len(series.wrong) for series in all_series)
    n_right = sum(len(series.index) for series in all_series) - n_wrong
    return n_named / max(n_wrong, 1), n_false / n_right, n_with_false / len(all_series)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=300, help="series of each kind")
    parser.add_argument("--seed", type=int, default=20000, help="the first seed")
    parser.add_argument("--scans", type=int, help="in each series (12 to 60 by default)")
    args = parser.parse_args()
    seeds = range(args.seed, args.seed + args.n)
    for title, case in CASES:
        print(
            f"\n{title}\n\n| series | named | false | series with a false one |\n|---|---|---|---|"
        )
        for kind in KINDS:
            results = shares([make_series(kind, seed, n=args.scans, **case) for seed in seeds])
            print(f"| {kind} | " + " | ".join(f"{share:.4f}" for share in results) + " |")
    for n_scans in (12, 60):
        made = [make_series("walk", args.seed + k, n=n_scans) for k in range(50)]
        start = time.process_time()
        for series in made:
            off_line(series.index, series.cor_px)
        print(f"\n{n_scans} scans: {(time.process_time() - start) / 50 * 1e3:.1f} ms a series")


if __name__ == "__main__":
    main()
