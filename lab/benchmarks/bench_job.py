"""A whole full_recon beside the script that a user would write: CPU time, its parts, memory, wall.

python lab/benchmarks/bench_job.py [--sizes 900x256x1024 1200x64x2048] [--threads 1] [--rounds 5]

The script: h5py reads, numexpr corrects, TomoPy's gridrec (rows as they are, or --padded to 2 n
with their edge values) makes slices, h5py writes. Each job is a process of its own, from the start
of Python to its end; in each round every job runs once, the order rotating. Without TomoPy and
numexpr: ours alone. "files" reads and writes the same bytes and does nothing else: what the file
system asks of any job. --tree DIR: the tomopipe of another work tree takes part as well.
"""

import argparse
import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import h5py
import numpy as np

BATCH = 64  # rows that the script works on


def make_scan(path, n_angles, n_rows, n_cols):
    """An ellipse with a pin that goes round, 16 bits, with noise."""
    rng, x = np.random.default_rng(0), np.linspace(-1, 1, n_cols)
    body = np.exp(-0.8 * np.sqrt(np.clip(0.64 - x**2, 0, None)))
    angles = np.linspace(0, 180, n_angles, endpoint=False)
    with h5py.File(path, "w") as file:
        data = file.create_dataset("exchange/data", (n_angles, n_rows, n_cols), np.uint16)
        for i, angle in enumerate(np.deg2rad(angles)):
            pin = np.sqrt(np.clip(0.04 - (x - 0.3 * np.cos(angle)) ** 2, 0, None))
            noise = rng.normal(0, 100, (n_rows, n_cols))
            data[i] = 40000 * body * np.exp(-0.5 * pin) + noise
        file["exchange/data_white"] = np.full((10, n_rows, n_cols), 40000, np.uint16)
        file["exchange/data_dark"] = np.full((10, n_rows, n_cols), 100, np.uint16)
        file["exchange/theta"] = angles


def ours(raw, volume, cor_px, threads):
    """The job, and the CPU time of its engine, without corrections, where one thread computes.

    Garbage is collected as in the step's script: not while packages are loaded, nor at the end.
    """
    gc.disable()
    from tomopipe_lab.bench.jobs import volume_job

    from tomopipe.config import FullReconBlock
    from tomopipe.recon import compiled, jit  # noqa: F401
    from tomopipe.resources.memory import Resources
    from tomopipe.scans.exchange import RawScan
    from tomopipe.stream import recon_task

    if "numba" in sys.modules:  # in an older tree, whose kernels it runs
        getattr(jit, "load_tables", dict)()
    gc.freeze()
    gc.enable()
    spent = {"loading": time.process_time()}

    def timed(function, key):
        def call(*args, **more):
            start = time.thread_time()
            try:
                return function(*args, **more)
            finally:
                spent[key] = spent.get(key, 0) + time.thread_time() - start

        return call

    normaliser = getattr(recon_task, "normaliser", None)  # an older tree corrects before the engine
    if threads == 1:
        recon_task.reconstruct = timed(recon_task.reconstruct, "engine")
    if threads == 1 and normaliser:
        recon_task.normaliser = lambda *args, **more: timed(normaliser(*args, **more), "corrected")
    options, resources = FullReconBlock(device="cpu"), Resources(threads)
    volume_job(RawScan(raw), volume, cor_px, options, resources)
    gc.freeze()
    engine_s = spent["engine"] - spent.get("corrected", 0) if threads == 1 else float("nan")
    return engine_s, spent["loading"]


def script(raw, volume, cor_px, threads, padded=False):
    """What a user would write; values as ours: minus the logarithm of at least 1e-5."""
    import numexpr
    import tomopy

    numexpr.set_num_threads(threads)
    engine_s = 0.0
    with h5py.File(raw) as source, h5py.File(volume, "w") as target:
        flat = source["exchange/data_white"][:].mean(axis=0, dtype=np.float32)
        dark = source["exchange/data_dark"][:].mean(axis=0, dtype=np.float32)
        theta, data = np.deg2rad(source["exchange/theta"][:]), source["exchange/data"]
        n, (_, n_rows, n_cols) = n_cols_of(padded, data.shape), data.shape
        out = target.create_dataset(
            "exchange/data", (n_rows, n_cols, n_cols), np.float32, chunks=(1, n_cols, n_cols)
        )
        for first in range(0, n_rows, BATCH):
            rows = slice(first, first + BATCH)
            values = {"raw": data[:, rows], "flat": flat[rows], "dark": dark[rows]}
            share = numexpr.evaluate("(raw - dark) / (flat - dark)", values, casting="unsafe")
            numexpr.evaluate("-log(where(share < 1e-5, 1e-5, share))", out=share, casting="unsafe")
            if n:
                share = np.pad(share, ((0, 0), (0, 0), (n, n)), mode="edge")
            start = time.process_time()
            slices = tomopy.recon(
                share, theta, center=cor_px + n, algorithm="gridrec", filter_name="ramlak",
                ncore=threads, nchunk=-(-share.shape[1] // threads),
            )  # fmt: skip
            engine_s += time.process_time() - start
            out[rows] = slices[:, n : n + n_cols, n : n + n_cols]
    return engine_s


def n_cols_of(padded, shape):
    return shape[2] // 2 if padded else 0


def files(raw, volume, cor_px, threads):
    """The bytes that any such job reads and writes."""
    with open(raw, "rb") as source, h5py.File(raw) as scan:
        shape, buffer = scan["exchange/data"].shape, bytearray(2**20)
        while source.readinto(buffer):
            pass
    with open(volume, "wb") as target:
        for _ in range(4 * shape[1] * shape[2] ** 2 // len(buffer)):
            target.write(buffer)
        os.fsync(target.fileno())
    return 0.0


JOBS = {"ours": ours, "script": script, "files": files}


def run_job(name, raw, volume, n_cols, args, tree=None):
    """One process: CPU seconds (all, system, engine, loading packages), wall seconds, peak GB."""
    Path(volume).unlink(missing_ok=True)
    more = dict(os.environ, OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    # code is kept, as where packages are installed, whatever this machine's habit
    more.pop("PYTHONDONTWRITEBYTECODE", None)
    more["PYTHONPYCACHEPREFIX"] = str(Path(volume).parent / "bytecode")
    if tree:
        more["PYTHONPATH"] = os.pathsep.join([tree, more.get("PYTHONPATH", "")])
    command = [
        sys.executable,
        __file__,
        "--job",
        name,
        str(raw),
        str(volume),
        str(n_cols / 2 + 0.3),
    ]
    command += ["--threads", str(args.threads), *(["--padded"] if args.padded else [])]
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=more) as process:
        printed = process.stdout.read()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{name} failed")
    wall = time.perf_counter() - start
    cpu = used.ru_utime + used.ru_stime
    return cpu, used.ru_stime, *json.loads(printed), wall, used.ru_maxrss / 1e6


def show(size, found, n_threads):
    """A row per job, then ratios to the script's of the same round."""
    print(f"\n{size}, {n_threads} thread(s): medians\n")
    print(
        "| job | CPU s | system | engine | the rest | of it loading | wall s | GB |\n"
        "|---|---|---|---|---|---|---|---|"
    )
    for name, rounds in found.items():
        cpu, system, engine, loading, wall, memory = np.median(rounds, axis=0)
        rest = np.median(np.asarray(rounds)[:, 0] - np.asarray(rounds)[:, 2])
        print(
            f"| {name} | {cpu:.2f} | {system:.2f} ({100 * system / cpu:.0f} %) | {engine:.2f} | "
            f"{rest:.2f} | {loading:.2f} | {wall:.2f} | {memory:.2f} |"
        )
    if "script" in found:
        theirs = np.asarray(found["script"])
        for name in found:
            mine = np.asarray(found[name])
            if name in ("script", "files"):
                continue
            whole = np.median(mine[:, 0] / theirs[:, 0])
            rest = np.median((mine[:, 0] - mine[:, 2]) / theirs[:, 0])
            lean = np.median((mine[:, 0] - mine[:, 2] - mine[:, 3]) / theirs[:, 0])
            in_run = np.median((mine[:, 0] - mine[:, 3]) / theirs[:, 0])
            wall = np.median(mine[:, 4] / theirs[:, 4])
            print(
                f"{name} / script: CPU {whole:.3f}, without loading {in_run:.3f}, "
                f"not engine {rest:.3f} (nor loading {lean:.3f}), wall {wall:.3f}"
            )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", default=["900x256x1024", "1200x64x2048"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--padded", action="store_true", help="gridrec's rows, with edge values")
    parser.add_argument("--folder", help="where scans and volumes go for a while")
    parser.add_argument("--tree", help="another work tree of tomopipe, to compare with")
    parser.add_argument("--job", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.job:
        name, raw, volume, cor_px = args.job
        more = {"padded": args.padded} if name == "script" else {}
        result = JOBS[name](raw, volume, float(cor_px), args.threads, **more)
        print(json.dumps(result if isinstance(result, tuple) else (result, 0.0)))
        return
    lacks = [name for name in ("tomopy", "numexpr") if not find_spec(name)]
    if lacks:
        print(f"no script: {' and '.join(lacks)} cannot be imported")
    jobs = {"ours": None, "files": None} | ({} if lacks else {"script": None})
    jobs |= {"other tree": args.tree} if args.tree else {}
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        for size in args.sizes:
            shape = tuple(map(int, size.split("x")))
            raw, volume = Path(folder) / f"{size}.h5", Path(folder) / "volume.h5"
            make_scan(raw, *shape)
            found = {name: [] for name in jobs}
            for k in range(args.rounds + 1):  # the first one also loads compiled code
                order = list(jobs)[k % len(jobs) :] + list(jobs)[: k % len(jobs)]
                for name in order:
                    kind = "ours" if jobs[name] else name
                    numbers = run_job(kind, raw, volume, shape[2], args, jobs[name])
                    if k:
                        found[name].append(numbers)
            show(size, found, args.threads)


if __name__ == "__main__":
    main()
