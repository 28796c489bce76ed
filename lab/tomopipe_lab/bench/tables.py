"""The tables that `tomopipe lab bench` prints."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib import metadata
from pathlib import Path

from rich.table import Table

from tomopipe_lab.bench import cpu, gpu, gpu_passes

_PACKAGES = ("tomopipe", "numpy", "numba", "scipy")
_PEERS = ("finufft", "algotom", "scikit-image", "astra-toolbox", "tomopy", "tomocupy")


def machine() -> str:
    """Return a line about date, processor and versions, to go with any numbers."""
    versions = []
    for package in (*_PACKAGES, *_PEERS):
        try:
            versions.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            continue
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return (
        f"{datetime.now():%Y-%m-%d}, {_processor()}, {cores} cores, "
        f"Python {platform.python_version()}, {', '.join(versions)}"
    )


def cpu_table(n_cols: int, n_rounds: int, results: Sequence[cpu.Result]) -> Table:
    """Return the table of full reconstructions at one size."""
    table = Table(
        title=f"Full reconstruction, n = {n_cols}, {3 * n_cols // 2} angles, one thread, "
        f"{n_rounds} rounds",
        caption="ratio: our CPU time per slice to theirs, median and 95 % interval; "
        "PSNR inside 0.45 n; memory of one call, input not counted",
        title_justify="left",
        caption_justify="left",
    )
    for name in ("engine", "slices", "CPU ms per slice", "ours / theirs", "sharp dB", "smooth dB"):
        table.add_column(name, justify="left" if name == "engine" else "right")
    table.add_column("peak MB", justify="right")
    table.add_column("remark", overflow="fold")
    for result in results:
        engine = result.engine
        if result.missing:
            table.add_row(engine.name, *6 * ["-"], result.missing)
            continue
        ours = engine is cpu.OURS
        table.add_row(
            engine.name,
            str(engine.n_slices),
            f"{1e3 * result.slice_s:.2f}",
            "1" if ours else f"{result.ratio:.3f}",
            f"{result.sharp_db:.1f}",
            f"{result.smooth_db:.1f}",
            _mega(result.peak_bytes),
            f"first call {result.plan_s:.2f} s more" if ours else engine.remark,
        )
    return table


def gpu_table(
    shape: tuple[int, int, int],
    copies: gpu.Copies,
    work_s: Mapping[str, float],
    results: Sequence[gpu.Result],
) -> Table:
    """Return the table of a GPU.

    `shape` is (n_angles, n_rows, n_cols), `work_s` what bounds the work on the device.
    """

    def bounds_s(itemsize: int = 4) -> dict[str, float]:
        return {"bus": copies.bound_s(*shape, itemsize), **work_s}

    table = Table(
        title=f"{shape[0]} angles x {shape[1]} x {shape[2]} uint16 in host memory to "
        f"{shape[1]} slices in host memory",
        caption=f"bounds of float32: {', '.join(f'{k} {s:.2f} s' for k, s in bounds_s().items())}; "
        f"{copies.to_device / 1e9:.1f} GB/s to the device, "
        f"{copies.to_host / 1e9:.1f} GB/s to the host, both ways at once",
        title_justify="left",
        caption_justify="left",
    )
    table.add_column("engine")
    columns = ("s", "share of its bound", "times ours", "sharp dB", "peak device GB", "stated GB")
    for name in columns:
        table.add_column(name, justify="right")
    table.add_column("remark")
    ours = next(result.seconds for result in results if result.seconds is not None)
    for result in results:
        if result.seconds is None:
            table.add_row(result.name, *6 * ["-"], result.missing)
            continue
        name, bound_s = max(bounds_s(result.stored_itemsize).items(), key=lambda item: item[1])
        table.add_row(
            result.name,
            f"{result.seconds:.2f}",
            f"{bound_s / result.seconds.median:.0%} ({name})",
            f"{result.seconds.median / ours.median:.2f}",
            f"{result.sharp_db:.1f}",
            f"{result.device_bytes / 1e9:.1f}",
            f"{result.stated_bytes / 1e9:.1f}",
            "",
        )
    return table


def passes_table(
    n_slices: int, passes: Sequence[gpu_passes.Pass], memory_rate: float, title: str
) -> Table:
    """Return the table of the passes over a block, each with what memory bounds it by."""
    table = Table(
        title=f"{title}: passes over {n_slices} slices",
        caption=f"bound: the bytes at {memory_rate / 1e12:.2f} TB/s, read and written",
        title_justify="left",
        caption_justify="left",
    )
    table.add_column("pass")
    for name in ("launches", "GB", "Gflop", "bound ms", "ms", "share of its bound"):
        table.add_column(name, justify="right")
    total = gpu_passes.Pass(
        "all",
        sum(kernel.launches for kernel in passes),
        sum(kernel.n_bytes for kernel in passes),
        sum(kernel.operations for kernel in passes),
        sum(kernel.seconds for kernel in passes),
    )
    for kernel in [*passes, total]:
        bound_s = kernel.n_bytes / memory_rate
        table.add_row(
            kernel.name,
            str(kernel.launches),
            f"{kernel.n_bytes / 1e9:.2f}",
            f"{kernel.operations / 1e9:.1f}",
            f"{1e3 * bound_s:.2f}",
            f"{1e3 * kernel.seconds:.2f}",
            f"{bound_s / kernel.seconds:.0%}" if kernel.seconds > 0 else "-",
        )
    return table


def tune_table(n_slices: int, seconds: Mapping[tuple[int, int, int], float]) -> Table:
    """Return the milliseconds of a block as `gpu_passes.tune` found them."""
    runs = sorted({run for *_, run in seconds})
    table = Table(title=f"ms for {n_slices} slices", title_justify="left")
    table.add_column("cells of a tile", justify="right")
    table.add_column("angles of a chunk", justify="right")
    for run in runs:
        table.add_column(f"runs of {run} samples", justify="right")
    for tile, chunk in sorted({(tile, chunk) for tile, chunk, _ in seconds}):
        times = (f"{1e3 * seconds[tile, chunk, run]:.2f}" for run in runs)
        table.add_row(str(tile), str(chunk), *times)
    return table


def _mega(n_bytes: int | None) -> str:
    return "-" if n_bytes is None else f"{n_bytes / 1e6:.0f}"


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    if path.exists():
        for line in path.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
