"""What a GPU does, part by part; a part goes on after another one failed.

python lab/benchmarks/gpu_measure.py [PART ...] [--n 2048] [--angles 3072] [--folder DIR]

Parts: start, correct, memory, speed, sweep, forked; all without a name. DIR/measured.json has the
figures; lab/gpu.md says what each must be. The exit status is 1 if a part failed.
"""

import argparse
import functools
import json
import math
import multiprocessing
import os
import time
import traceback
from pathlib import Path

import numpy as np
from tomopipe_lab.bench.gpu import copy_rates, stream_blocks
from tomopipe_lab.bench.gpu_passes import least_seconds
from tomopipe_lab.bench.gpu_ways import MAKERS, simulated

from tomopipe.arrays import fft_of
from tomopipe.recon import cuda
from tomopipe.recon.device import TOLERANCE, array_module
from tomopipe.recon.fbp import reconstruct, sweep_batches
from tomopipe.recon.gpu import CudaDevice
from tomopipe.recon.plan import BATCH_SIZE, make_plan
from tomopipe.resources.memory import MemoryInputs, gpu_bytes

N_COR = 101
CHILD_S = 120  # that a forked process may take


@functools.cache
def gpu():
    """Return the first device, which is not claimed: two of these processes run side by side."""
    return CudaDevice(array_module("cuda"), 0)


def half_turn(n_angles):
    return np.linspace(0, np.pi, n_angles, endpoint=False)


def noise(*shape):
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


def start(n, n_angles):
    """Return what the first call costs: import, context, kernels compiled, a slice compared."""
    began = time.perf_counter()
    xp = gpu().xp
    ready_s, began = time.perf_counter() - began, time.perf_counter()
    xp.zeros(1).sum().get()
    return {
        "name": gpu().name,
        "cupy": getattr(xp, "__version__", ""),
        "numpy": np.__version__,
        "cpus": len(os.sched_getaffinity(0)),
        "own_kernels": not cuda.is_plain,
        "ready_s": ready_s,
        "next_kernel_s": time.perf_counter() - began,
        "taken_MB": gpu().used_bytes() / 1e6,
    }


def correct(n, n_angles):
    """Compare slices with the CPU's, and those of two runs: the largest difference, over range."""
    cases = {
        "64": (64, 90, 16, math.pi),
        "odd": (301, 450, 5, math.pi),
        "one": (512, 768, 1, math.pi),
        "360": (512, 1000, 16, 2 * math.pi),
        "1024": (1024, 1536, 16, math.pi),
        "1280": (1280, 700, 16, math.pi),
        "whole": (n, n_angles, 16, math.pi),
    }
    result = {}
    for name, (n_cols, n_theta, n_slices, span_rad) in cases.items():
        if n_cols > n:
            continue
        theta_rad = np.linspace(0, span_rad, n_theta, endpoint=False)
        rows, cor_px = noise(n_slices, n_theta, n_cols), n_cols / 2 + np.linspace(-9, 7, n_slices)
        expected = reconstruct(rows, make_plan(theta_rad, n_cols), cor_px)
        xp = gpu().xp
        plan, there = make_plan(theta_rad, n_cols, xp=xp), xp.asarray(rows)
        first, second = (reconstruct(there, plan, cor_px).get() for _ in range(2))
        result[name] = {
            "to_cpu": float(np.abs(first - expected).max() / np.ptp(expected)),
            "rms": float(np.sqrt(np.mean((first - expected) ** 2)) / expected.std()),
            "again": float(np.abs(first - second).max() / np.ptp(expected)),
        }
    wrong = [name for name, case in result.items() if not case["to_cpu"] <= TOLERANCE]
    return result | ({"failed": f"to_cpu above {TOLERANCE}: {', '.join(wrong)}"} if wrong else {})


def memory(n, n_angles):
    """Return what streams of blocks take beside the formula, and slices where memory is short."""
    xp, result = gpu().xp, {}
    for n_cols, n_slices in ((n // 2, 16), (n, 16), (n, 4), (2 * n, 16)):
        scan = simulated(n_angles * n_cols // n, n_cols)
        gpu().release()
        before = gpu().used_bytes()
        stream_blocks(gpu(), scan, MAKERS["tomopipe"](xp, scan, n_slices), 4 * n_slices, n_slices)
        inputs = MemoryInputs(len(scan.theta_rad), n_cols, n_cols, itemsize=2)
        result[f"{n_cols} x {n_slices}"] = {
            "taken_GB": (gpu().used_bytes() - before) / 1e9,
            "formula_GB": gpu_bytes(inputs, n_slices) / 1e9,
        }
    small, few = n // 2, n_angles // 2
    rows, plan = xp.asarray(noise(16, few, small)), make_plan(half_turn(few), small, xp=xp)
    expected = reconstruct(rows, plan, small / 2).get()
    plan.cache.clear()
    gpu().release()
    pool = xp.get_default_memory_pool()
    pool.set_limit(size=pool.total_bytes() + cuda.sweep_gpu_bytes(few, small, BATCH_SIZE) // 2)
    try:
        slices = reconstruct(rows, plan, small / 2).get()
    finally:
        pool.set_limit(size=0)
    result["short"] = {
        "batch": plan.cache.get("batch_size", BATCH_SIZE),
        "difference": float(np.abs(slices - expected).max() / np.ptp(expected)),
    }
    return result


def speed(n, n_angles):
    """Return what blocks, the whole transforms of one of 16 slices, and copies take."""
    device, xp, result = gpu(), gpu().xp, {}
    stream, plan = device.stream(), make_plan(half_turn(n_angles), n, xp=xp)
    with stream:
        for n_slices in (16, 8, 4, 1):
            rows, images = (
                xp.asarray(noise(n_slices, n_angles, n)),
                xp.empty((n_slices, n, n), np.float32),
            )
            run = functools.partial(reconstruct, rows, plan, n / 2, out=images)
            run()
            result[f"block_{n_slices}_ms"] = 1e3 * least_seconds(stream, run)
            began = time.perf_counter()
            run()  # queued, not waited for: what Python takes
            result[f"queue_{n_slices}_ms"] = 1e3 * (time.perf_counter() - began)
            stream.synchronize()
        del rows, images, run
        padded = xp.zeros((16, n_angles, plan.n_padded), np.float32)
        half = xp.zeros((16, plan.n_grid, plan.n_grid // 2 + 1), np.complex64)
        for name, values in (("rfft", padded), ("irfft2", half)):
            run = functools.partial(getattr(fft_of(xp), name), values)
            run()
            result[f"{name}_ms"] = 1e3 * least_seconds(stream, run)
    rates = copy_rates(device)
    return result | {
        "to_device_GB_per_s": rates.to_device / 1e9,
        "to_host_GB_per_s": rates.to_host / 1e9,
    }


def sweep(n, n_angles):
    """Return what the slices of one sinogram at many CORs take."""
    xp, stream = gpu().xp, gpu().stream()
    cor_px = n / 2 + np.linspace(-50, 50, N_COR)
    with stream:
        plan, rows = make_plan(half_turn(n_angles), n, xp=xp), xp.asarray(noise(n_angles, n))

        def run():
            for _ in sweep_batches(rows, plan, cor_px):
                pass

        run()
        return {"n_cor": N_COR, "ms": 1e3 * least_seconds(stream, run)}


def forked(n, n_angles):
    """Reconstruct in a process forked from a server that has loaded the steps, as jobs are."""
    multiprocessing.set_forkserver_preload(
        ["tomopipe.steps.full_recon", "tomopipe.steps.try_recon"]
    )
    context = multiprocessing.get_context("forkserver")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_small_slice, args=(there,))
    process.start()
    there.close()
    try:
        if not here.poll(CHILD_S):
            return {"failed": f"no slice after {CHILD_S} s"}
        return here.recv()  # EOFError: its traceback is above
    finally:
        process.kill()
        process.join()


def _small_slice(pipe):
    xp, rows = array_module("auto"), noise(1, 90, 64)
    expected = reconstruct(rows, make_plan(half_turn(90), 64), 30.2)
    images = reconstruct(xp.asarray(rows), make_plan(half_turn(90), 64, xp=xp), 30.2)
    images = images if xp is np else images.get()
    difference = float(np.abs(images - expected).max() / np.ptp(expected))
    pipe.send({"array_module": xp.__name__, "to_cpu": difference})


PARTS = {part.__name__: part for part in (start, correct, memory, speed, sweep, forked)}


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--n", type=int, default=2048, help="detector columns")
    parser.add_argument("--angles", type=int, help="projections; 1.5 n")
    parser.add_argument("--folder", type=Path, default=Path(), help="of measured.json")
    args = parser.parse_args(arguments)
    if unknown := set(args.parts) - set(PARTS):
        parser.error(f"no part {', '.join(unknown)}: expected {', '.join(PARTS)}")
    result = {}
    for name in args.parts or PARTS:
        began = time.perf_counter()
        try:
            result[name] = PARTS[name](args.n, args.angles or 3 * args.n // 2)
        except Exception:
            result[name] = {"failed": traceback.format_exc()}
        result[name]["wall_s"] = round(time.perf_counter() - began, 2)
        print(name, json.dumps(result[name], indent=1).replace("\\n", "\n"), flush=True)
        (args.folder / "measured.json").write_text(json.dumps(result, indent=1))
    return int(any("failed" in part for part in result.values()))


if __name__ == "__main__":
    raise SystemExit(main())
