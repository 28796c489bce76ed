"""What each pass over a block on a GPU moves and computes, and how long it takes there.

A pass is a kernel or a transform. The bytes are those that it cannot do without; a transform is
counted as one reading and one writing per axis.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from math import log2
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np

from tomopipe.arrays import fft_of
from tomopipe.recon import cuda
from tomopipe.recon.fbp import reconstruct
from tomopipe.recon.gpu import CudaDevice
from tomopipe.recon.plan import WIDTH, Plan, make_plan
from tomopipe_lab.bench.gpu_ways import Scan, normalised

_COPY_BYTES = 2**30
_ROUNDS = 5
TILES = (4, 8)  # cells
CHUNKS = (128, 512, 1024)  # angles
RUNS = (128, 512, 2048)  # samples


@dataclass(frozen=True)
class Pass:
    """A pass over a block: launches, bytes moved, floating-point operations, seconds."""

    name: str
    launches: int
    n_bytes: float
    operations: float
    seconds: float = float("nan")


def passes_of(plan: Plan, n_slices: int) -> list[Pass]:
    """Return what the passes over a block of so many slices move and compute, without seconds."""
    n, n_angles, padded, grid = plan.n_cols, plan.n_angles, plan.n_padded, plan.n_grid
    n_chunks = -(-n_angles // cuda.GPU_ANGLES)
    rows, bins = n_slices * n_angles, padded // 2 + 1
    samples = rows * bins
    cells = n_slices * int(np.prod(plan.half_grid_shape))
    half, image = n_slices * grid * (grid // 2 + 1), n_slices * n**2
    return [
        Pass("transmission", 1, 6 * rows * n, 4 * rows * n),
        Pass("pad", n_chunks, 4 * rows * (n + padded), rows * padded),
        Pass("rfft", n_chunks, 4 * rows * padded + 8 * samples, 2.5 * rows * padded * log2(padded)),
        Pass("centre", n_chunks, 16 * samples + 4 * samples / n_slices, 8 * samples),
        Pass(
            "spread",
            n_chunks,
            8 * samples + 44 * samples / n_slices + 16 * cells,
            4 * (WIDTH**2 + WIDTH) * samples,
        ),
        Pass("clear", 1, 8 * cells, 0),
        Pass("fold", 1, 8 * cells + 8 * half, 0),
        Pass(
            "irfft2",
            2,
            24 * half + 4 * n_slices * grid**2,
            2.5 * n_slices * grid**2 * log2(grid**2),
        ),
        Pass("crop", 1, 8 * image, 2 * image),
        Pass("range", 2, 8 * image, 2 * image),
    ]


def bounds_s(passes: Sequence[Pass], rate: float, n_blocks: int) -> dict[str, float]:
    """Return the seconds that memory, at a rate, and the transforms take for so many blocks."""
    n_bytes = sum(step.n_bytes for step in passes)
    transforms_s = sum(step.seconds for step in passes if "fft" in step.name)
    return {"memory": n_blocks * n_bytes / rate, "FFT": n_blocks * transforms_s}


def memory_rate(device: CudaDevice, n_bytes: int | None = None) -> float:
    """Measure the bytes per second that a copy within the device reads and writes."""
    device.use()
    n_bytes = n_bytes or _COPY_BYTES
    source, target = (device.empty((n_bytes,), np.uint8) for _ in range(2))
    stream = device.stream()

    def copy() -> None:
        target[...] = source

    with stream:
        copy()
        return 2 * n_bytes / least_seconds(stream, copy)


def least_seconds(stream: Any, run: Callable[[], Any]) -> float:
    """Return the least time that a run takes in a queue, of some rounds."""
    best = np.inf
    for _ in range(_ROUNDS):
        stream.synchronize()
        started = time.perf_counter()
        run()
        stream.synchronize()
        best = min(best, time.perf_counter() - started)
    return best


def measure_passes(device: CudaDevice, scan: Scan, n_slices: int) -> list[Pass]:
    """Time each pass over a block, all else waiting: what each call adds goes to its pass."""
    device.use()
    stream = device.stream()
    with stream:
        plan = make_plan(scan.theta_rad, scan.raw.shape[1], xp=device.xp)
        raw = device.xp.asarray(np.repeat(scan.raw[:, None], n_slices, axis=1))
        prepare = normalised(n_slices)
        images = device.xp.zeros((n_slices, plan.n_cols, plan.n_cols), np.float32)
        seconds: dict[str, float] = {
            "transmission": least_seconds(stream, partial(prepare, raw)),
            "range": least_seconds(stream, lambda: (images.min(), images.max())),
            "clear": least_seconds(
                stream, partial(device.xp.zeros, (*plan.half_grid_shape, n_slices), np.complex64)
            ),
        }
        sinograms = prepare(raw)
        reconstruct(sinograms, plan, scan.cor_px, out=images)  # tables and plans are made
        runs = []
        for _ in range(_ROUNDS):
            with _timed(stream) as spent:
                reconstruct(sinograms, plan, scan.cor_px, out=images)
            runs.append(spent)
        seconds |= {name: min(run[name] for run in runs) for name in runs[0]}
    return [
        Pass(step.name, step.launches, step.n_bytes, step.operations, seconds[step.name])
        for step in passes_of(plan, n_slices)
    ]


@contextmanager
def _timed(stream: Any) -> Iterator[dict[str, float]]:
    """Let each kernel and transform of the engine wait, and add up what they take."""
    spent: dict[str, float] = {}

    def timed(name: str, run: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            stream.synchronize()
            started = time.perf_counter()
            result = run(*args, **kwargs)
            stream.synchronize()
            spent[name] = spent.get(name, 0.0) + time.perf_counter() - started
            return result

        return call

    launch = cuda.launch

    def transforms(xp: Any) -> Any:
        fft = fft_of(xp)
        return SimpleNamespace(rfft=timed("rfft", fft.rfft), irfft2=timed("irfft2", fft.irfft2))

    def launched(xp: Any, name: str, *args: Any) -> None:
        timed(name, launch)(xp, name, *args)

    with mock.patch.object(cuda, "launch", launched), mock.patch.object(cuda, "fft_of", transforms):
        yield spent


def tune(
    device: CudaDevice, scan: Scan, n_slices: int, progress: Callable[[str], None]
) -> dict[tuple[int, int, int], float]:
    """Return the seconds of a block by cells of a tile, angles of a chunk, samples of a run."""
    device.use()
    stream, found = device.stream(), {}
    with stream:
        sinograms = normalised(n_slices)(
            device.xp.asarray(np.repeat(scan.raw[:, None], n_slices, axis=1))
        )
        for tile, n_chunk, n_run in itertools.product(TILES, CHUNKS, RUNS):
            progress(f"tiles of {tile} cells, {n_chunk} angles, {n_run} samples")
            plan = make_plan(scan.theta_rad, scan.raw.shape[1], xp=device.xp)
            changed: dict[str, Any] = {
                "TILE": tile,
                "GPU_ANGLES": n_chunk,
                "MAX_RUN": n_run,
                "SOURCE": cuda.SOURCE.replace(f"TILE {cuda.TILE}\n", f"TILE {tile}\n"),
            }
            with mock.patch.multiple(cuda, **changed):
                run = partial(reconstruct, sinograms, plan, scan.cor_px)
                run()
                found[tile, n_chunk, n_run] = least_seconds(stream, run)
    return found
