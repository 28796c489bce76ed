"""Whole volumes on the CPU: all threads on one batch of slices, or several batches side by side.

python lab/benchmarks/bench_full.py [--n 1024] [--rows 768] [--threads 2] [--rounds 3]

Reads and writes real files: 1.5 n projections of uint16 (n * 1.5 n * rows * 2 bytes), a volume of
float32.
"""

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from tomopipe_lab.bench.jobs import volume_job
from tomopipe_lab.bench.phantoms import scan_of_noise

from tomopipe.config import FullReconBlock
from tomopipe.recon.jit import thread_count
from tomopipe.scans.raw_scan import RawScan
from tomopipe.stream import fit_options as _fit
from tomopipe.stream.memory import Resources


def seconds(raw, volume, workers, threads, n_cols):
    """Wall-clock and CPU time of one volume."""
    choose = _fit.choose_blocks
    _fit.choose_blocks = lambda *args, **options: replace(choose(*args, **options), workers=workers)
    started = time.perf_counter(), time.process_time()
    try:
        volume_job(
            RawScan(raw),
            volume,
            n_cols / 2 + 1.3,
            FullReconBlock(device="cpu"),
            Resources(threads, 10**11),
        )
    finally:
        _fit.choose_blocks = choose
    return time.perf_counter() - started[0], time.process_time() - started[1]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=1024, help="detector columns")
    parser.add_argument("--rows", type=int, default=768, help="detector rows")
    parser.add_argument("--threads", type=int, default=thread_count())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", help="where the scan and the volume go for a while")
    args = parser.parse_args()
    times = {workers: [] for workers in (1, args.threads)}
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        raw, volume = Path(folder) / "scan.h5", Path(folder) / "volume.h5"
        scan_of_noise(raw, args.n * 3 // 2, args.rows, args.n)
        for _ in range(args.rounds + 1):  # the first one also loads compiled code
            for workers, found in times.items():
                found.append(seconds(raw, volume, workers, args.threads, args.n))
    for workers, found in times.items():
        wall, cpu = np.median(found[1:], axis=0)
        print(
            f"{args.rows} slices of {args.n}^2, {args.threads} threads, {workers} batches at once:"
            f" {1e3 * wall / args.rows:.2f} ms a slice, {1e3 * cpu / args.rows:.2f} ms of CPU"
        )
    alone, shared = (np.array([wall for wall, _ in found[1:]]) for found in times.values())
    print(f"side by side takes {np.median(shared / alone):.2f} of the time")


if __name__ == "__main__":
    main()
