"""CPU seconds per slice of full_recon with and without a stripe filter, and the memory asked for.

    python lab/benchmarks/bench_stripe_cost.py [--cols 512 2048] [--rows 32] [--repeats 3]

A rock with thin rings at 20000 photons, 1.5 angles per column, each row with noise of its own;
one thread. Each repeat runs all methods one after another; the least of each counts.
"""

import argparse
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np
from bench_rings import line_integrals, rock, with_rings
from tomopipe_lab.bench.jobs import volume_job

from tomopipe.config import FullReconBlock, PreprocessBlock
from tomopipe.cost.job_memory import full_recon_mb
from tomopipe.scans.raw_scan import RawScan
from tomopipe.stream.memory import Resources

METHODS = ("none", "gated", "sorting", "vo")
PHOTONS = 20000


def write(path, n_cols, n_rows):
    theta_rad = np.linspace(0, np.pi, 3 * n_cols // 2, endpoint=False)
    cor_px = (n_cols - 1) / 2 + 1.3
    lines = line_integrals(rock, 1, theta_rad, cor_px, n_cols)
    lines = with_rings(lines, np.random.default_rng(1))["thin"]
    random = np.random.default_rng(2)
    mean = PHOTONS * np.exp(-lines.astype(float))
    with h5py.File(path, "w") as file:
        shape = (len(theta_rad), n_rows, n_cols)
        data = file.create_dataset("exchange/data", shape, np.uint16)
        for row in range(n_rows):
            data[:, row] = random.poisson(mean).clip(0, 65535)
        flat = np.full((5, n_rows, n_cols), PHOTONS, np.uint16)
        file["exchange/data_white"], file["exchange/data_dark"] = flat, np.zeros_like(flat)
        file["exchange/theta"] = np.rad2deg(theta_rad)
    return cor_px


def measure(path, target, cor_px, method):
    start = time.process_time()
    raw = RawScan(path, preprocess=PreprocessBlock(stripes={"method": method}))
    options = FullReconBlock(device="cpu")
    volume_job(raw, target, cor_px, options, Resources(threads=1))
    return time.process_time() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cols", type=int, nargs="+", default=[512, 2048])
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    print("| columns | method | CPU s per slice | over none, % | memory asked for, MB |")
    print("|---" * 5 + "|")
    for n_cols in options.cols:
        with tempfile.TemporaryDirectory() as folder:
            path, target = Path(folder) / "a.h5", Path(folder) / "a_rec.h5"
            cor_px = write(path, n_cols, options.rows)
            measure(path, target, cor_px, "vo")  # what is compiled and planned once
            best = dict.fromkeys(METHODS, np.inf)
            for _ in range(options.repeats):
                for method in METHODS:
                    best[method] = min(best[method], measure(path, target, cor_px, method))
        for method, seconds in best.items():
            halo = None if method == "none" else 0
            asked = full_recon_mb((3 * n_cols // 2, n_cols, n_cols), halo=halo)
            more = 100 * (seconds / best["none"] - 1)
            cells = f"{seconds / options.rows:.3f} | {more:.0f} | {asked}"
            print(f"| {n_cols} | {method} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
