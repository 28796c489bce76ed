"""Movement along the axis in whole scans of a generator outside of the project.

    python lab/benchmarks/bench_motion_frames.py GENERATOR.py [--still 300] [--moved 200] [--seed 1]

`bench_motion.py` simulates sums and end projections of scans of 640 projections and more; these are
frames of 80 to 360 projections, of which a step of the workflow reads what it needs. The generator
has base(rng, ...), which describes a sample, obj(rng, family, radius, height), render(sample), and
finish(seed, sample, det=...), which returns a scan as for `bench_troubles.py`. 128 to 512 px, 300
to 8,000 photons, a third larger than the field of view; moved ones jump, drift, or sink by 1 to 8
rows, and have a contrast of 5 % along the axis. Printed are scans that are missed, sizes that are
wrong by more than 0.3 row, false alarms, and counts.
"""

import argparse
import importlib
import re
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
from bench_troubles import write

from tomopipe.config import InputBlock, PreprocessBlock
from tomopipe.cor.axial_motion import warn_of_axial_motion
from tomopipe.cor.collected_rows import collect_rows
from tomopipe.scans.exchange import RawScan

CONTRAST, EXACT_ROWS, MOST_DRAWS, MOST_ANGLES = 0.05, 0.3, 40, 360


def draw(generator, rng):
    """Return a sample, and whether it is larger than the field of view."""
    n_cols = int(rng.choice([128, 256, 256, 384, 512]))
    n_rows = int(rng.choice([16, 32] if n_cols == 512 else [16, 24, 40, 64]))
    turns = rng.random() < 0.4
    n_angles = int(min(n_cols * rng.uniform(0.6, 1.0) * (1.4 if turns else 1), MOST_ANGLES))
    sample = generator.base(rng, turn=turns, NR=n_rows, W=n_cols, na=n_angles)
    is_truncated = rng.random() < 0.35
    if is_truncated:
        radius_px = rng.uniform(0.55, 1.2) * n_cols
        sample["E"], sample["B"] = generator.obj(rng, sample["fam"], radius_px, 4 * n_rows)
    return sample, is_truncated


def contrast(generator, sample):
    """Return the range of the profile along the axis, less a parabola, over its mean."""
    looks = sample["th"][:: max(1, sample["na"] // 6)]
    lines = generator.render(sample | {"th": looks, "na": len(looks)})
    profile, row = lines.mean(axis=(0, 2), dtype=float), np.arange(sample["nr"])
    return np.ptp(profile - np.polyval(np.polyfit(row, profile, 2), row)) / profile.mean()


def course(rng, number, n_angles, n_rows):
    """Return how far a sample has moved at each projection (rows)."""
    shift_rows = rng.choice([-1, 1]) * rng.uniform(1, min(8, n_rows / 4))
    time, first, tau = np.linspace(0, 1, n_angles), rng.uniform(0.1, 0.9), rng.uniform(0.2, 0.6)
    kinds = time >= first, time, (1 - np.exp(-time / tau)) / (1 - np.exp(-1 / tau))
    return shift_rows * kinds[number % 3]


def shown_rows(scan):
    """Return the shift that a warning states (rows, down), and the warning; 0 for none."""
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder, "scan.h5")
        write(scan, raw)
        with RawScan(raw, InputBlock(), PreprocessBlock(), name="scan").open() as frames:
            rows = collect_rows(frames, [frames.n_rows // 2], PreprocessBlock())
    text = warn_of_axial_motion(rows, scan["lo"])[0]
    match = re.search(r"moves ([\d.]+)(?: ± [\d.]+)? rows (down|up)", text)
    return (float(match[1]) * (1 if match[2] == "down" else -1) if match else 0.0), text


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("generator", type=Path)
    parser.add_argument("--still", type=int, default=300)
    parser.add_argument("--moved", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    sys.path.insert(0, str(arguments.generator.resolve().parent))
    generator = importlib.import_module(arguments.generator.stem)
    counts = Counter()
    for number in range(arguments.still + arguments.moved):
        is_moved = number >= arguments.still
        rng = np.random.default_rng([arguments.seed, number])
        for _ in range(MOST_DRAWS if is_moved else 1):
            sample, is_truncated = draw(generator, rng)
            if is_moved and (enough := contrast(generator, sample) >= CONTRAST):
                break
        moved_rows = np.zeros(sample["na"])
        if is_moved:
            moved_rows = course(rng, number, sample["na"], sample["nr"])
            counts["moved ones of less contrast, left out"] += not enough
            if not enough:
                continue
        det = {"counts": rng.choice([300.0, 2000.0, 8000.0]), "rings": rng.choice([0, 0.004, 0.02])}
        det |= {"flatshift": rng.choice([0, 0.05, 0.5]), "drift": rng.choice([0.004, 0.1])}
        seed = 1000 * arguments.seed + number
        size, text = shown_rows(generator.finish(seed, sample | {"dz": moved_rows}, det=det))
        where = "beyond the field" if is_truncated else "within the field"
        kind, true_rows = f"{'moved' if is_moved else 'still'}, {where}", moved_rows[-1]
        counts.update({kind: 1, f"{kind}: a warning": bool(text)})
        is_right = not text
        if is_moved:
            is_right = abs(size - true_rows) <= EXACT_ROWS
            counts[f"{kind}: to {EXACT_ROWS} row"] += is_right
        if not is_right:
            about = f"{sample['fam']}, {sample['nr']} x {sample['nc']}, {sample['na']} angles"
            print(f"{number}: {about}, {det['counts']:.0f} photons, {true_rows:.1f}: {text[:60]}")
    for name in sorted(counts):
        print(f"{name}: {counts[name]}")


if __name__ == "__main__":
    main()
