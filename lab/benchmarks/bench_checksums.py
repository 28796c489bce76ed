"""What checksums cost: CPU time of a job with and without them, and of reading results again.

python lab/benchmarks/bench_checksums.py [--n 1024] [--rows 256] [--angles 900] [--rounds 5]
    [--step full_recon] [--output h5] [--compression none] [--threads 2] [--folder /tmp]

With and without alternate in one process, and so does which is first; each is the median of all
rounds but the first, which compiles. User and system time of the process are counted (getrusage),
and that of the threads within the functions that sum, which the noise of the rest does not hide.
"""

import argparse
import resource
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import numpy as np
from tomopipe_lab.bench.jobs import volume_job as reconstruct
from tomopipe_lab.bench.phantoms import scan_of_noise

from tomopipe.campaign.files import ROWS, SWEEP, TRY_STACK
from tomopipe.config import ExportStarBlock, FullReconBlock, TryReconBlock
from tomopipe.recon.jit import thread_count
from tomopipe.scans.raw_scan import RawScan
from tomopipe.steps.export_stack import export_stack
from tomopipe.steps.try_recon import TryFiles, try_recon
from tomopipe.storage import checksums
from tomopipe.stream.memory import Resources

SUMMING = ("written", "checksum_of", "checksum_of_bytes", "finish")


def cpu_seconds():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def measured(work):
    started = time.perf_counter(), cpu_seconds()
    result = work()
    return time.perf_counter() - started[0], cpu_seconds() - started[1], result


@contextmanager
def without_checksums():
    """Replace what sums by nothing."""
    none = "xxh3:0:p20:" + 32 * "0"
    with mock.patch.multiple(checksums, **{name: lambda *_: none for name in SUMMING}):
        yield


@contextmanager
def counted():
    """Yield a list that takes the CPU time spent in what sums."""
    spent = []

    def timed(function):
        def call(*args):
            started = time.thread_time()
            try:
                return function(*args)
            finally:
                spent.append(time.thread_time() - started)

        return call

    with mock.patch.multiple(
        checksums, **{name: timed(getattr(checksums, name)) for name in SUMMING}
    ):
        yield spent


def volume_job(raw, folder, args):
    volume = folder / {"h5": "v.h5", "tiff": "v", "zarr": "v.zarr"}[args.output]

    def job():
        reconstruct(
            RawScan(raw),
            volume,
            args.n / 2 + 1.3,
            FullReconBlock(device="cpu", output=args.output, compression=args.compression),
            Resources(threads=args.threads),
        )

    return job, [volume]


def try_job(raw, folder, args):
    results = [folder / name for name in (TRY_STACK, SWEEP, ROWS)]
    resources = Resources(threads=args.threads)

    def job():
        files = TryFiles(*results)
        try_recon(
            RawScan(raw), files, TryReconBlock(device="cpu"), resources=resources, made_from=None
        )

    return job, results


def stack_job(raw, folder, args):
    results = [folder / name for name in ("stack.mrcs", "stack.json")]
    usual = {"least_binning": None, "made_from": None, "pixels_of": None}
    return lambda: export_stack(
        RawScan(raw), *results, ExportStarBlock(binning=1), **usual
    ), results


JOBS = {"full_recon": volume_job, "try_recon": try_job, "export_stack": stack_job}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=1024, help="detector columns")
    parser.add_argument("--rows", type=int, default=256, help="detector rows")
    parser.add_argument("--angles", type=int, default=900)
    parser.add_argument(
        "--step", default="full_recon", choices=["full_recon", "try_recon", "export_stack"]
    )
    parser.add_argument("--output", default="h5", choices=["h5", "tiff", "zarr"])
    parser.add_argument("--compression", default="none")
    parser.add_argument("--threads", type=int, default=thread_count())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", help="where the scan and the volume go for a while")
    args = parser.parse_args()
    times, shares = {"without": [], "with": []}, []
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        raw = Path(folder) / "scan.h5"
        scan_of_noise(raw, args.angles, args.rows, args.n)
        job, results = JOBS[args.step](raw, Path(folder), args)

        for number in range(args.rounds + 1):
            for way in sorted(times, reverse=(args.rounds - number) % 2 == 0):
                with counted() if way == "with" else without_checksums() as spent:
                    times[way].append(measured(job)[:2])
                if spent:
                    shares.append(sum(spent) / times[way][-1][1])
        sums = {path: checksums.made()[path] for path in results}
        wall, cpu, found = measured(lambda: [checksums.matches(*each) for each in sums.items()])
        assert not any(found), found
    n_bytes = sum(int(checksum.split(":")[1]) for checksum in sums.values())
    print(
        f"{args.step}: {args.angles} projections, {args.rows} x {args.n}^2, {args.output}, "
        f"{args.compression}"
    )
    for name, found in times.items():
        wall_s, cpu_s = np.median(found[1:], axis=0)
        each = ", ".join(f"{spent_s:.2f}" for _, spent_s in found[1:])
        print(f"{name} checksums: {wall_s:.2f} s, {cpu_s:.2f} s of CPU ({each})")
    more = np.array(times["with"][1:])[:, 1] / np.array(times["without"][1:])[:, 1] - 1
    print(f"more CPU time with them: {100 * np.median(more):.2f} % (median of pairs)")
    print(f"of it spent in summing: {100 * np.median(shares[1:]):.2f} % of the CPU time")
    print(f"reading {n_bytes / 1e9:.2f} GB again: {wall:.2f} s, {cpu:.2f} s of CPU")


if __name__ == "__main__":
    main()
