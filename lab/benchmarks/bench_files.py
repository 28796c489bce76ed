"""File to file, with an engine that only copies, beside a plain parallel copy of the same bytes.

python lab/benchmarks/bench_files.py [--folder DIR] [--shape 2048x256x2048] [--threads 2]

A scan (contiguous HDF5) goes through the stream of full_recon into a volume: read into the memory
of a device, transposed in place of a reconstruction, written with checksum and preview, and
flushed. The device shares this machine's memory, and every value is copied once: the copies and the
statistics of a GPU take no CPU time. --cpu: the path without a device.
The copy: as many threads, each with parts of 8 MiB, pread and pwrite through the file cache or past
it (--direct), and fsync. Before each run the scan's pages are dropped from the cache. Pairs
in alternation; medians, and the median of the ratios.
"""

import argparse
import contextlib
import os
import tempfile
import threading
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np

from tomopipe.arrays import Reused, aligned
from tomopipe.recon.transfer import DeviceTransfer
from tomopipe.resources.memory import Blocks
from tomopipe.scans.exchange import open_scan
from tomopipe.stream import stream as stream_module
from tomopipe.stream.recon_task import ReconTask
from tomopipe.stream.stream import run
from tomopipe.volumes.encoding import Encoding, SliceStatistics
from tomopipe.volumes.volume import new_volume

PART_BYTES = 2**23


class Host:
    """Memory in place of a GPU, which reads it where it lies."""

    xp = SimpleNamespace(
        ascontiguousarray=np.ascontiguousarray, cuda=SimpleNamespace(Event=lambda **_: None)
    )
    name = "host"

    def __init__(self):
        self._reused, self._newest = Reused(), None

    def use(self):
        """There is one."""

    def release(self):
        """Nothing is kept."""

    def stream(self):
        """A stream, and an event of it, on which all is done."""
        stream = contextlib.nullcontext()
        done = SimpleNamespace(synchronize=lambda: None)
        stream.record, stream.wait_event, stream.synchronize = (
            lambda *_: done, lambda _: None, lambda: None
        )  # fmt: skip
        return stream

    def pinned(self, shape, dtype):
        """The same as that of the device."""
        return self._newest

    def empty(self, shape, dtype):
        """Memory of the device, for a batch."""
        self._newest = self._reused.empty("rows", shape, dtype)
        return self._newest

    def upload(self, host, target):
        """It is there."""


class Shared(DeviceTransfer):
    """Slices come back where they are."""

    def download(self, arrays):
        """Hand over what was computed."""
        return lambda: arrays


class Copies:
    """In place of corrections: slices are sinograms."""

    halo = 0

    def __init__(self):
        self._reused = Reused()

    def rows_needed(self, rows):
        """None around them."""
        return rows

    def sinograms(self, raw, rows):
        """In another order."""
        slices = self._reused.empty("slices", (raw.shape[1], raw.shape[0], raw.shape[2]), raw.dtype)
        np.copyto(slices, raw.transpose(1, 0, 2))
        return slices


def statistics_of(slices, encoding, middle, *, encode):
    """In place of those that a GPU takes: of a few rows."""
    few = slices[:, :: max(1, slices.shape[1] // 16)]
    return SliceStatistics(
        slices=slices,
        extremes=np.array([few.min(), few.max()], np.float32),
        clipped=np.zeros(len(slices), int),
        mid_xz=slices[:, slices.shape[1] // 2].copy(),
        mid_yz=slices[:, :, slices.shape[2] // 2].copy(),
        mid_xy=slices[middle].copy() if 0 <= middle < len(slices) else None,
    )


def make_scan(path, shape, dtype):
    """Noise, as no two frames are alike."""
    noise = np.random.default_rng(0).integers(0, 2**15, (2, *shape[1:])).astype(dtype)
    with h5py.File(path, "w") as file:
        data = file.create_dataset("exchange/data", shape, dtype)
        for i in range(shape[0]):
            data[i] = noise[0] + np.roll(noise[1], i)
        file["exchange/data_white"] = np.full((1, *shape[1:]), 2**15, dtype)
        file["exchange/data_dark"] = np.zeros((1, *shape[1:]), dtype)
        file["exchange/theta"] = np.linspace(0, 180, shape[0], endpoint=False)


def stream(raw, volume, threads, output, on_gpu):
    """The stream of full_recon, from file to file."""
    if on_gpu:
        stream_module.with_statistics = statistics_of
    with open_scan(raw) as scan:
        scan.threads = threads
        dtype = str(scan.dtype)
        task = ReconTask(
            scan=scan, plan=SimpleNamespace(xp=np, cache={}, batch_size=16, n_angles=scan.n_angles),
            cor_px=0.0, scale=1.0,
            first_row=0, last_row=scan.n_rows,
            crop=(slice(0, scan.n_angles), slice(0, scan.n_cols)), binning=1, binning_rows=1,
            minus_log=False, threads=threads, corrected=True,
            corrections=Copies() if on_gpu else None,
            iterative=lambda sinograms: sinograms,
            transfer=Shared(Host(), threads=threads) if on_gpu else None,
            encoding=Encoding(dtype) if on_gpu else None,
        )  # fmt: skip
        with new_volume(volume, task.shape, output_format=output, encoding=Encoding(dtype)) as put:
            run(task, scan, Blocks(16, 32, behind=1 + on_gpu), put)


def copy(raw, volume, threads, n_bytes, direct):
    """As many bytes, by a plain loop in each thread."""
    more = os.O_DIRECT if direct else 0
    source = os.open(raw, os.O_RDONLY | more)
    target = os.open(volume, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | more, 0o644)
    offsets, lock = iter(range(0, n_bytes, PART_BYTES)), threading.Lock()

    def work():
        part = aligned(PART_BYTES)
        while True:
            with lock:
                offset = next(offsets, None)
            if offset is None:
                return
            n = os.preadv(source, [part], offset)
            os.pwrite(target, part[:n], offset)

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    os.fsync(target)
    os.close(source)
    os.close(target)


def seconds_of(function, raw, folder):
    """Wall and CPU seconds of one run, the scan's pages dropped before, the result after."""
    descriptor = os.open(raw, os.O_RDONLY)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)
    volume = Path(folder) / "volume"
    start, cpu = time.perf_counter(), time.process_time()
    function(volume)
    seconds = time.perf_counter() - start, time.process_time() - cpu
    if volume.is_dir():
        for file in [path for path in volume.rglob("*") if path.is_file()]:
            file.unlink()
        for inner in sorted(volume.rglob("*"), reverse=True):
            inner.rmdir()
        volume.rmdir()
    else:
        volume.unlink()
    return seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", help="where scans and volumes go for a while")
    parser.add_argument(
        "--shape", default="2048x256x2048", help="of uint16; half the rows of float32"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dtypes", nargs="+", default=["uint16", "float32"])
    parser.add_argument("--outputs", nargs="+", default=["h5"])
    parser.add_argument("--direct", action="store_true", help="the copy goes past the file cache")
    parser.add_argument("--cpu", action="store_true", help="the path without a device")
    args = parser.parse_args()
    n_angles, n_rows, n_cols = map(int, args.shape.split("x"))
    print("| | stream s | its CPU s | copy s | its CPU s | copy / stream |\n" + 6 * "|---" + "|")
    for dtype in args.dtypes:
        with tempfile.TemporaryDirectory(dir=args.folder) as folder:
            raw = Path(folder) / "scan.h5"
            make_scan(raw, (n_angles, n_rows * 2 // np.dtype(dtype).itemsize, n_cols), dtype)
            n_bytes = raw.stat().st_size // PART_BYTES * PART_BYTES
            for output in args.outputs:
                more = {"threads": args.threads, "output": output, "on_gpu": not args.cpu}
                jobs = {
                    "stream": partial(stream, raw, **more),
                    "copy": partial(
                        copy, raw, threads=args.threads, n_bytes=n_bytes, direct=args.direct
                    ),
                }
                rounds = {name: [] for name in jobs}
                for k in range(args.rounds):
                    for name in list(jobs)[:: 1 - 2 * (k % 2)]:
                        rounds[name].append(seconds_of(jobs[name], raw, folder))
                mine, plain = (np.asarray(rounds[name]) for name in jobs)
                numbers = *np.median(mine, axis=0), *np.median(plain, axis=0)
                ratio = plain[:, 0] / mine[:, 0]
                print(
                    f"| {dtype} {output} | "
                    + " | ".join(f"{n:.2f}" for n in numbers)
                    + f" | {np.median(ratio):.2f} ({ratio.min():.2f} to {ratio.max():.2f}) |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
