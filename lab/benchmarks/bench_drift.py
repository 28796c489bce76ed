"""Sideways drift and uneven angles: what is said of them, and of still scans.

    python lab/benchmarks/bench_drift.py [--still 500] [--moved 240] [--seed 300000]

Scans of the suite (tomopipe_lab.suite), 192 to 512 px wide, with doses of its own or 300, 2,000 and
20,000 photons a pixel. Still ones have every condition, or several; most cover 360 degrees. Moved
ones are clean, larger than the field of view, behind dirt, in a beam that drifts, or half
acquisitions. Their movements: a steady drift, a slow sine (its size is its range, px), a stage that
is ahead in the middle, and projections that are missing at one place, so that angles that are
stated evenly are off by up to half of the size (degrees).

What another position of the sample does not explain, or angles, spoil the volume: `spoilt` is the
standard deviation (px) of what is left, for angles at half the radius of the field.
"""

import argparse
from collections import Counter, defaultdict

import numpy as np
from tomopipe_lab.suite import CONDITIONS, SPLITS, make_case

from tomopipe.cor.lateral_drift import warn_of_drift
from tomopipe.cor.prepared import Prepared

SIZES = {"steady": (2, 3, 5), "sine": (2, 3, 5), "ahead": (0.5, 1, 2), "missing": (0.5, 1, 2)}
WIDTHS_PX, DOSES = (192, 256, 256, 320, 512), (None, 300.0, 2000.0, 20000.0)
DAMAGES = ("clean", "clean", "truncated", "half acquisition", "static dirt", "beam drift")
MOVING = ("sample motion", "deformation")
COR_ERROR_PX = 0.3


def course_of(kind, size, rng):
    """Return how far something is off after these shares of the projections."""
    at, phase = rng.uniform(0.3, 0.7), rng.uniform(0, 6.283)
    return {
        "steady": lambda time: size * time,
        "sine": lambda time: size / 2 * np.sin(3 * np.pi * time + phase),
        "ahead": lambda time: size * np.sin(np.pi * time),
        "missing": lambda time: size * ((time > at) - time),
    }[kind]


def left_of(course_px, theta_rad):
    """Return what is left of a course by the best position of a still sample, px."""
    still = np.stack([np.ones_like(theta_rad), np.cos(theta_rad), np.sin(theta_rad)], axis=1)
    return course_px - still @ np.linalg.lstsq(still, course_px)[0]


def dose(rng):
    """Draw a dose; with an empty one that of the suite remains."""
    counts = rng.choice(DOSES)
    return {"counts": counts} if counts else {}


def warning_of(case, cor_px, rng):
    """Return what is said of a scan whose COR was found about there."""
    near_px = cor_px + rng.normal(0, COR_ERROR_PX)
    return warn_of_drift(Prepared(case.rows.plain()), near_px)


def still(seed):
    """Return the name of a still scan, and what is said of it; None: it moves, or has no COR."""
    rng = np.random.default_rng([seed, 0])
    condition = None if rng.random() < 0.3 else str(rng.choice(CONDITIONS))
    own = condition in (None, "missing theta", "less than 180", "few angles")
    case = make_case(
        str(rng.choice(SPLITS)),
        seed,
        condition=condition,
        n_cols=int(rng.choice(WIDTHS_PX)),
        span_deg=None if own or rng.random() < 0.3 else 360.0,
        **dose(rng),
    )
    if case.cor_px is None or set(case.conditions) & set(MOVING):
        return None
    return f"{case.name} {case.conditions}", warning_of(case, case.cor_px, rng)


def moved(seed, kind, size):
    """Return where a sample moves, by how much it spoils, and what is said."""
    rng = np.random.default_rng([seed, 1])
    course, damage = course_of(kind, size, rng), str(rng.choice(DAMAGES))
    span_deg = 360.0 if damage == "half acquisition" else float(rng.choice([180, 360]))
    case = make_case(
        str(rng.choice(SPLITS)),
        seed,
        condition=damage,
        n_cols=int(rng.choice(WIDTHS_PX)),
        span_deg=span_deg,
        **dose(rng),
        **{"ahead" if kind in ("ahead", "missing") else "wander": course},
    )
    theta_rad = case.rows.theta_rad
    off = course(np.linspace(0, 1, len(theta_rad)))
    if kind in ("ahead", "missing"):
        spoilt_px = np.deg2rad((off - off.mean()).std()) * case.rows.sinograms.shape[2] / 4
        cor_px = case.cor_px
    else:
        left_px = left_of(off, theta_rad)
        spoilt_px, cor_px = left_px.std(), case.cor_px + np.mean(off)
    field = "larger" if damage in ("truncated", "half acquisition") else "within"
    return f"{span_deg:.0f}, {field}", spoilt_px, warning_of(case, cor_px, rng)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--still", type=int, default=500)
    parser.add_argument("--moved", type=int, default=240)
    parser.add_argument("--seed", type=int, default=300000)
    arguments = parser.parse_args()
    kinds = [(kind, size) for kind, sizes in SIZES.items() for size in sizes]
    table, spoils = defaultdict(Counter), defaultdict(list)
    for i in range(arguments.moved):
        kind, size = kinds[i % len(kinds)]
        where, spoilt_px, text = moved(arguments.seed + i, kind, size)
        table[kind, size].update({where: 1, f"{where} told": int(bool(text))})
        spoils[kind, size, where].append(spoilt_px)
    places = ("180, within", "180, larger", "360, within", "360, larger")
    print(f"| movement | {' | '.join(places)} |\n{'|---' * (len(places) + 1)}|")
    for (kind, size), counts in table.items():
        cells = [
            f"{counts[f'{where} told']} of {counts[where]} "
            f"({np.mean(spoils[kind, size, where] or [np.nan]):.2f})"
            for where in places
        ]
        print(f"| {kind} {size} | {' | '.join(cells)} |", flush=True)
    n_still, n_false, seed = 0, 0, arguments.seed + arguments.moved
    while n_still < arguments.still:
        result, seed = still(seed), seed + 1
        if result is None:
            continue
        n_still += 1
        if result[1]:
            n_false += 1
            print(f"still, but {result[0]}: {result[1]}", flush=True)
    print(f"false alarms: {n_false} of {n_still} still scans")


if __name__ == "__main__":
    main()
