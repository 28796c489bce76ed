"""Reconstruction on a GPU against the bounds that copies, memory and transforms set, and TomoCuPy.

Raw uint16 blocks lie in pinned host memory, or in memory that threads stage from; slices (float32,
uint16) go back to pinned memory, by the streams of a job (`tomopipe.recon.transfer`): one block is
uploaded and one downloaded while another one is computed. A few blocks of host memory are used over
and over: the volume may be larger than memory, the copies are the same. From a file it is the step
full_recon as a job calls it.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from tomopipe.config import FullReconBlock
from tomopipe.errors import TomopipeError
from tomopipe.recon.device import array_module
from tomopipe.recon.gpu import CudaDevice, claimed_gpu
from tomopipe.recon.transfer import MOST_THREADS, DeviceTransfer, Download
from tomopipe.resources.memory import MemoryInputs, Resources, gpu_bytes
from tomopipe.scans.exchange import RawScan
from tomopipe.volumes.encoding import with_statistics
from tomopipe_lab.bench.gpu_ways import COUNTS, MAKERS, Scan, Way
from tomopipe_lab.bench.jobs import volume_job
from tomopipe_lab.bench.measure import Interval, median_interval, rotate
from tomopipe_lab.bench.phantoms import engine_axis, psnr_db, sharp_image

_SLOTS = 2  # blocks on their way back
_COPY_BYTES = 2**28


@dataclass(frozen=True)
class Copies:
    """Bytes per second between host and device, one way at a time."""

    to_device: float
    to_host: float

    def bound_s(self, n_angles: int, n_rows: int, n_cols: int, stored_itemsize: int = 4) -> float:
        """Return the least seconds for a volume: both ways at once, the slower one decides."""
        bytes_in, bytes_out = 2 * n_angles * n_rows * n_cols, stored_itemsize * n_rows * n_cols**2
        return max(bytes_in / self.to_device, bytes_out / self.to_host)


@dataclass(frozen=True)
class Result:
    """How one engine did: wall-clock seconds for all rows, PSNR of a slice, peak device memory."""

    name: str
    missing: str = ""
    seconds: Interval | None = None
    sharp_db: float = float("nan")
    device_bytes: int = 0
    stated_bytes: int = 0
    stored_itemsize: int = 4  # bytes per voxel that comes back


@contextmanager
def device() -> Iterator[CudaDevice]:
    """Yield a GPU that no job holds, or raise TomopipeError saying that there is none."""
    try:
        xp = array_module("cuda")
    except TomopipeError as error:
        raise TomopipeError(
            f"bench gpu: there is no GPU to measure. {error} `tomopipe lab bench cpu` needs none."
        ) from error
    with claimed_gpu(xp) as device:
        yield device


def copy_rates(device: CudaDevice, n_bytes: int | None = None, n_rounds: int = 8) -> Copies:
    """Measure how fast pinned memory is copied to the GPU and back; best of some rounds."""
    device.use()
    n_bytes = n_bytes or _COPY_BYTES
    host, there = device.pinned((n_bytes,), np.uint8), device.empty((n_bytes,), np.uint8)
    host[...] = 1
    stream, rates = device.stream(), []
    for copy in (partial(device.upload, host, there), partial(device.download, there, host)):
        best = np.inf
        for _ in range(n_rounds):
            started = time.perf_counter()
            with stream:
                copy()
            stream.synchronize()
            best = min(best, time.perf_counter() - started)
        rates.append(n_bytes / best)
    return Copies(*rates)


def stream_blocks(
    device: CudaDevice, scan: Scan, way: Way, n_rows: int, block_rows: int, threads: int = 0
) -> NDArray[np.float32]:
    """Reconstruct rows block by block, copying while computing.

    Parameters
    ----------
    device : CudaDevice
        What computes.
    scan : Scan
        What to reconstruct.
    way : Way
        What is done to each block.
    n_rows : int
        In all; rounded up to whole blocks.
    block_rows : int
        Per block.
    threads : int
        That copy raw rows to pinned memory; 0: they lie there.

    Returns
    -------
    ndarray of float32, shape (block_rows, n_cols, n_cols)
        The last block, in host memory.
    """
    n_angles, n_cols = scan.raw.shape
    shape = (n_angles, block_rows, n_cols)
    host = np.empty(shape, np.uint16) if threads else device.pinned(shape, np.uint16)
    host[...] = scan.raw[:, None]
    transfer = DeviceTransfer(device, staged=threads > 0, threads=threads or 1)
    downloads: deque[Download] = deque()
    n_blocks = -(-n_rows // block_rows)
    ahead = [transfer.upload(host)]
    for block in range(n_blocks):
        if block + 1 < n_blocks:
            ahead.append(transfer.upload(host))
        with transfer.computing(ahead.pop(0)) as raw:
            slices = way.compute(way.prepare(raw))
            arrays: list[Any] = [slices]
            if way.encoding is not None:
                arrays = list(with_statistics(slices, way.encoding, -1, encode=True).arrays)
        downloads.append(transfer.download(arrays))
        if len(downloads) > _SLOTS:
            downloads.popleft()()
    last = [download()[0] for download in downloads][-1]
    return np.asarray(last if way.encoding is None else way.encoding.decode(last))


def compare(
    device: CudaDevice,
    scan: Scan,
    n_rows: int,
    block_rows: int,
    n_rounds: int,
    *,
    progress: Callable[[str], None] | None = None,
) -> list[Result]:
    """Compare our engine with TomoCuPy's fourierrec, where it is installed, in the same run.

    Ours runs to float32, to uint16 encoded on the GPU, and with a chain of corrections there.

    Parameters
    ----------
    device : CudaDevice
        The GPU.
    scan : Scan
        What to reconstruct.
    n_rows, block_rows : int
        Rows in all, and per block.
    n_rounds : int
        Rounds in which each engine runs once, in rotating order.
    progress : callable, optional
        Told what is done.

    Returns
    -------
    list of Result
        Ours first.
    """
    tell = progress or (lambda _: None)
    ways: dict[str, Way] = {}
    results: dict[str, Result] = {}
    for name, make in MAKERS.items():
        tell(f"{name}: first block")
        device.release()
        try:
            ways[name] = make(device.xp, scan, block_rows)
            results[name] = _measured(name, device, scan, ways[name], block_rows)
        except Exception as error:  # of another package: a line of the table, not the end of it
            if name.startswith("tomopipe"):
                raise
            absent = isinstance(error, ModuleNotFoundError) and error.name == "tomocupy"
            results[name] = Result(name, "not installed" if absent else f"failed: {error}")
            ways.pop(name, None)
    runs = {
        name: partial(stream_blocks, device, scan, way, n_rows, block_rows)
        for name, way in ways.items()
    }
    ours, threads = next(iter(ways)), len(os.sched_getaffinity(0))
    for n in sorted({1, min(2, threads), min(threads, MOST_THREADS)}):
        name = f"{ours}, staged by {n} thread{'s' if n > 1 else ''}"
        runs[name] = partial(stream_blocks, device, scan, ways[ours], n_rows, block_rows, n)
        results[name] = replace(results[ours], name=name)
    seconds = rotate(runs, n_rounds, clock=time.perf_counter, progress=tell)
    return [
        replace(result, seconds=median_interval(seconds[name])) if name in seconds else result
        for name, result in results.items()
    ]


def from_file(scan: Scan, n_rows: int, folder: Path, n_rounds: int = 2) -> Interval:
    """Time full_recon on a GPU from a file to a file, once it has been read."""
    n_angles, n_cols = scan.raw.shape
    threads = len(os.sched_getaffinity(0))
    seconds = []
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        raw, volume = Path(temporary, "scan.h5"), Path(temporary, "volume.h5")
        with h5py.File(raw, "w") as file:
            data = file.create_dataset("exchange/data", (n_angles, n_rows, n_cols), np.uint16)
            for angle, row in enumerate(scan.raw):
                data[angle] = np.broadcast_to(row, (n_rows, n_cols))
            file["exchange/data_white"] = np.full((1, n_rows, n_cols), COUNTS, np.uint16)
            file["exchange/data_dark"] = np.zeros((1, n_rows, n_cols), np.uint16)
            file["exchange/theta"] = np.rad2deg(scan.theta_rad)
        for _ in range(n_rounds):
            started = time.perf_counter()
            options, resources = FullReconBlock(device="cuda"), Resources(threads, 64 * 2**30)
            volume_job(RawScan(raw), volume, scan.cor_px, options, resources)
            seconds.append(time.perf_counter() - started)
            volume.unlink()
    return median_interval(seconds)


def _measured(name: str, device: CudaDevice, scan: Scan, way: Way, block_rows: int) -> Result:
    """Compare a slice with the truth, and see how much of the GPU some blocks took at most."""
    before = device.used_bytes()
    slices = stream_blocks(device, scan, way, 4 * block_rows, block_rows)
    n_angles, n_cols = scan.raw.shape
    axis = engine_axis(n_cols)
    decibels = psnr_db(slices[0] / np.float32(scan.value), sharp_image(n_cols, axis), axis)
    stored = 4 if way.encoding is None else np.dtype(way.encoding.dtype).itemsize
    inputs = MemoryInputs(n_angles, n_cols, n_cols, itemsize=2, stored_itemsize=stored)
    return Result(
        name,
        sharp_db=decibels,
        device_bytes=max(device.used_bytes() - before, 0),
        stated_bytes=gpu_bytes(inputs, block_rows),
        stored_itemsize=stored,
    )
