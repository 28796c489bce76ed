"""Reconstruction on a GPU against the bound that copying sets, and against TomoCuPy.

Raw uint16 blocks lie in pinned host memory, slices of float32 go back to pinned host memory. Two
streams take turns, so that one block is copied while the other one is computed. A few blocks of
host memory are used over and over: the volume may be larger than memory, the copies are the same.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomopipe.bench.cpu import cor_of
from tomopipe.bench.measure import Interval, median_interval, rotate
from tomopipe.bench.phantoms import engine_axis, psnr_db, sharp_image, sharp_sinogram
from tomopipe.errors import TomopipeError
from tomopipe.prep.normalise import normalise
from tomopipe.recon.array import array_module, free_memory
from tomopipe.recon.fbp import reconstruct
from tomopipe.recon.plan import make_plan

_SLOTS = 2  # blocks under way
_COPY_BYTES = 2**28
_COUNTS = 40000.0  # of the open beam
_DENSITY = 2.0  # attenuation along the longest chord, so that counts stay well above 0

Compute = Callable[[Any], Any]  # from attenuation (n_rows, n_angles, n_cols) to slices


@dataclass(frozen=True)
class Scan:
    """A simulated scan of which all rows are the same.

    Attributes
    ----------
    theta_rad : ndarray, shape (n_angles,)
        Angles.
    cor_px : float
        Column of the axis.
    raw : ndarray of uint16, shape (n_angles, n_cols)
        Counts of one row.
    value : float
        Attenuation per pixel of 1 in the phantom.
    """

    theta_rad: NDArray[np.float64]
    cor_px: float
    raw: NDArray[np.uint16]
    value: float


@dataclass(frozen=True)
class Copies:
    """Bytes per second between host and device, one way at a time."""

    to_device: float
    to_host: float

    def bound_s(self, n_angles: int, n_rows: int, n_cols: int) -> float:
        """Return the least seconds for a volume: both ways at once, the slower one decides."""
        bytes_in, bytes_out = 2 * n_angles * n_rows * n_cols, 4 * n_rows * n_cols**2
        return max(bytes_in / self.to_device, bytes_out / self.to_host)


@dataclass(frozen=True)
class Result:
    """How one engine did: wall-clock seconds for all rows, PSNR of a slice, device memory."""

    name: str
    missing: str = ""
    seconds: Interval | None = None
    sharp_db: float = float("nan")
    device_bytes: int = 0


def simulated(n_angles: int, n_cols: int) -> Scan:
    """Return counts of the phantom with sharp edges."""
    theta_rad = np.linspace(0, np.pi, n_angles, endpoint=False)
    cor_px = cor_of(n_cols)
    sinogram = sharp_sinogram(n_cols, theta_rad, cor_px)
    value = _DENSITY / float(sinogram.max())
    raw = np.rint(_COUNTS * np.exp(-value * sinogram)).astype(np.uint16)
    return Scan(theta_rad, cor_px, raw, value)


def device() -> ModuleType:
    """Return CuPy, or raise TomopipeError saying that there is no GPU."""
    try:
        return array_module("cuda")
    except TomopipeError as error:
        raise TomopipeError(
            f"bench gpu: there is no GPU to measure. {error} `tomopipe bench cpu` needs none."
        ) from error


def copy_rates(xp: ModuleType, n_bytes: int = _COPY_BYTES, n_rounds: int = 8) -> Copies:
    """Measure how fast pinned memory is copied to the device and back; best of some rounds."""
    host, there = pinned(xp, (n_bytes,), np.uint8), xp.zeros(n_bytes, dtype=np.uint8)
    rates = []
    for copy in (lambda: upload(there, host), lambda: download(there, host)):
        best = np.inf
        for _ in range(n_rounds):
            _synchronise(xp)
            started = time.perf_counter()
            copy()
            _synchronise(xp)
            best = min(best, time.perf_counter() - started)
        rates.append(n_bytes / best)
    return Copies(*rates)


def stream_blocks(
    xp: ModuleType, scan: Scan, compute: Compute, n_rows: int, block_rows: int
) -> NDArray[np.float32]:
    """Reconstruct rows block by block, copying while computing.

    Parameters
    ----------
    xp : module
        NumPy or CuPy.
    scan : Scan
        What to reconstruct.
    compute : callable
        From attenuation, on the device, (block_rows, n_angles, n_cols), to slices.
    n_rows : int
        In all; rounded up to whole blocks.
    block_rows : int
        Per block.

    Returns
    -------
    ndarray of float32, shape (block_rows, n_cols, n_cols)
        The last block, in host memory.
    """
    n_angles, n_cols = scan.raw.shape
    shape = (n_angles, block_rows, n_cols)
    hosts = [pinned(xp, shape, np.uint16) for _ in range(_SLOTS)]
    outs = [pinned(xp, (block_rows, n_cols, n_cols), np.float32) for _ in range(_SLOTS)]
    raws = [xp.empty(shape, dtype=np.uint16) for _ in range(_SLOTS)]
    streams = [_stream(xp) for _ in range(_SLOTS)]
    flat = xp.full((block_rows, n_cols), _COUNTS, dtype=np.float32)
    dark = xp.zeros((block_rows, n_cols), dtype=np.float32)
    for host in hosts:
        host[...] = scan.raw[:, None]
    _synchronise(xp)
    slot = 0
    for block in range(-(-n_rows // block_rows)):
        slot = block % _SLOTS
        with streams[slot] as stream:
            _wait(stream)  # until the block that was here before is home
            upload(raws[slot], hosts[slot])
            rows = normalise(raws[slot], flat, dark).transpose(1, 0, 2)
            download(compute(xp.ascontiguousarray(rows)), outs[slot])
    _synchronise(xp)
    return outs[slot]


def compare(
    xp: ModuleType,
    scan: Scan,
    n_rows: int,
    block_rows: int,
    n_rounds: int,
    *,
    progress: Callable[[str], None] | None = None,
) -> list[Result]:
    """Compare our engine with TomoCuPy's fourierrec, where it is installed, in the same run.

    Parameters
    ----------
    xp : module
        CuPy; NumPy does the same, slowly, for tests.
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
    makers = {"tomopipe": _ours, "TomoCuPy fourierrec": _tomocupy}
    computes: dict[str, Compute] = {}
    results: dict[str, Result] = {}
    for name, make in makers.items():
        tell(f"{name}: first block")
        free_memory(xp)
        try:
            computes[name] = make(xp, scan, block_rows)
            results[name] = _judged(name, xp, scan, computes[name], block_rows)
        except Exception as error:  # of another package: a line of the table, not the end of it
            if name == "tomopipe":
                raise
            absent = isinstance(error, ModuleNotFoundError) and error.name == "tomocupy"
            results[name] = Result(name, "not installed" if absent else f"failed: {error}")
            computes.pop(name, None)
    runs = {
        name: partial(stream_blocks, xp, scan, compute, n_rows, block_rows)
        for name, compute in computes.items()
    }
    seconds = rotate(runs, n_rounds, clock=time.perf_counter, progress=tell)
    return [
        Result(name, "", median_interval(seconds[name]), result.sharp_db, result.device_bytes)
        if name in seconds
        else result
        for name, result in results.items()
    ]


def _judged(name: str, xp: ModuleType, scan: Scan, compute: Compute, block_rows: int) -> Result:
    """Compare one block with the truth, and see how much of the device it took."""
    slices = stream_blocks(xp, scan, compute, block_rows, block_rows)
    n_cols = slices.shape[2]
    axis = engine_axis(n_cols)
    decibels = psnr_db(slices[0] / np.float32(scan.value), sharp_image(n_cols, axis), axis)
    held = 0 if xp is np else int(xp.get_default_memory_pool().total_bytes())
    return Result(name, sharp_db=decibels, device_bytes=held)


def _ours(xp: ModuleType, scan: Scan, block_rows: int) -> Compute:
    plan = make_plan(scan.theta_rad, scan.raw.shape[1], xp=xp)
    return lambda rows: reconstruct(rows, plan, scan.cor_px)


def _tomocupy(xp: ModuleType, scan: Scan, block_rows: int) -> Compute:
    """Return TomoCuPy's filter and fourierrec, put together as its own backprojection does."""
    importlib.import_module("tomocupy")
    filters = importlib.import_module("tomocupy.reconstruction.fbp_filter")
    fourierrec = importlib.import_module("tomocupy.reconstruction.fourierrec")
    n_angles, n_cols = scan.raw.shape
    n_padded = 4 * n_cols
    theta = xp.asarray(scan.theta_rad, dtype=np.float32)
    back = fourierrec.FourierRec(n_cols, n_angles, block_rows, theta, "float32")
    row_filter = filters.FBPFilter(n_padded, n_angles, block_rows, "float32")
    turn = xp.fft.rfftfreq(n_padded).astype(np.float32)
    phase = xp.exp(xp.complex64(2j * np.pi) * (scan.cor_px - n_cols / 2) * turn)
    response = (row_filter.calc_filter("ramp") * phase).astype(np.complex64)
    pad = n_padded // 2 - n_cols // 2

    def compute(rows: Any) -> Any:
        stream = xp.cuda.get_current_stream()
        padded = xp.pad(rows, ((0, 0), (0, 0), (pad, n_padded - n_cols - pad)), mode="edge")
        row_filter.filter(padded, response, stream)
        slices = xp.zeros((block_rows, n_cols, n_cols), dtype=np.float32)
        filtered = xp.ascontiguousarray(padded[:, :, pad : pad + n_cols])
        back.backprojection(slices, filtered, stream)
        return slices

    return compute


def pinned(xp: ModuleType, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """Return host memory that the device can copy by itself; plain memory for NumPy."""
    if xp is np:
        return np.empty(shape, dtype=dtype)
    return np.asarray(importlib.import_module("cupyx").empty_pinned(shape, dtype))


def upload(there: Any, host: NDArray[Any]) -> None:
    """Copy host memory to the device, in the current stream."""
    if isinstance(there, np.ndarray):
        there[...] = host
    else:
        there.set(host)


def download(there: Any, host: NDArray[Any]) -> None:
    """Copy to host memory, in the current stream; CuPy does not wait for it."""
    if isinstance(there, np.ndarray):
        host[...] = there
    else:
        there.get(out=host, blocking=False)


def _stream(xp: ModuleType) -> Any:
    return nullcontext() if xp is np else xp.cuda.Stream(non_blocking=True)


def _wait(stream: Any) -> None:
    if stream is not None:
        stream.synchronize()


def _synchronise(xp: ModuleType) -> None:
    if xp is not np:
        xp.cuda.get_current_stream().synchronize()
        xp.cuda.runtime.deviceSynchronize()
