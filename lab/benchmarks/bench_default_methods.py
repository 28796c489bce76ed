"""What `sum` beside `ai` changes, and how far apart two confident methods contradict each other.

    python lab/benchmarks/bench_default_methods.py [--split test] [--mixed 170] [--nulls 30]

Simulated scans of 96 to 160 columns, mixed and without an answer. Each method is asked once about
each scan; printed is what the decision comes to for several rules, at a confidence of 0.5: accepted
within 1 px of the truth, accepted and wrong, ambiguous, and how many that `ai` alone accepts right
are lost.
"""

import argparse
import os
from functools import partial

import numpy as np
from bench_find import ask_all
from tomopipe_lab.suite import NULLS, make_case

from tomopipe.cor import methods
from tomopipe.cor.curves import Curves
from tomopipe.cor.prepared import Prepared
from tomopipe.cor.slices import reconstruct

FIRST_NULL = 900


def ask(item, split):
    """Return the truth, what both methods say, and the distance that `predict_cor` takes."""
    seed, condition = item
    n_cols = int(np.random.default_rng(seed + 7919).integers(96, 161))
    case = make_case(split, seed, condition=condition, n_cols=n_cols)
    curves = Curves(Prepared(case.rows), partial(reconstruct, threads=1))
    found = [methods.ask(name, curves, case.candidates_px) for name in ("ai", "sum")]
    return case.cor_px, found, curves.reach_px


def outcome(truth_px, decision):
    if decision.cor_px is None:
        return "ambiguous" if decision.verdict == "ambiguous" else "none"
    right = truth_px is not None and abs(decision.cor_px - truth_px) <= 1
    return "right" if right else "wrong"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--split", default="test")
    parser.add_argument("--mixed", type=int, default=170)
    parser.add_argument("--nulls", type=int, default=30)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    items = [(seed, None) for seed in range(arguments.mixed)]
    items += [(FIRST_NULL + i, NULLS[i % len(NULLS)]) for i in range(arguments.nulls)]
    answers = ask_all(partial(ask, split=arguments.split), items, arguments.jobs, "scans")
    alone = [outcome(truth, methods.choose(given[:1], 0.5, 1.0)) for truth, given, _ in answers]
    print("| rule | right | wrong | ambiguous | right ones lost |\n|---|---|---|---|---|")
    print_line("`ai` alone", alone, alone)
    for confirms_px in (methods.CONFIRMS_PX, np.inf):
        methods.CONFIRMS_PX = confirms_px
        for apart_px in (None, 1.0, 2.0, 3.0, np.inf):
            found = [
                outcome(truth, methods.choose(given, 0.5, apart_px or reach_px))
                for truth, given, reach_px in answers
            ]
            apart = f"apart {apart_px or 'by the reach'}"
            rule = f"{apart}, `ai` without confidence within {confirms_px:g} px"
            print_line(rule, found, alone)


def print_line(rule, found, alone):
    lost = sum(a == "right" and b != "right" for a, b in zip(alone, found, strict=True))
    counts = [found.count(name) for name in ("right", "wrong", "ambiguous")]
    print(f"| {rule} | {' | '.join(map(str, counts))} | {lost} |")


if __name__ == "__main__":
    main()
