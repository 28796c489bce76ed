"""The tables of lab/results/benchmarks.md, one `tomopipe lab bench` after the other.

python lab/benchmarks/bench_cpu.py --n 512 1024 --rounds 15
"""

from __future__ import annotations

import argparse

from tomopipe_lab.commands.bench import cpu, try_


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, nargs="+", default=[512, 1024], help="detector columns")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    cpu(n=options.n, rounds=options.rounds, against=["finufft"])
    try_(n=options.n, rounds=options.rounds)


if __name__ == "__main__":
    main()
