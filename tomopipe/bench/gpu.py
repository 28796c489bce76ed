"""Reconstruction on a GPU against the bound that copying sets, and against TomoCuPy.

Raw uint16 blocks lie in pinned host memory, slices of float32 go back to pinned host memory, by the
same queues as in a job (`tomopipe.recon.carry`): one block is copied in and one back while another
one is computed. A few blocks of host memory are used over and over: the volume may be larger than
memory, the copies are the same.
"""

from __future__ import annotations

import importlib
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
from tomopipe.recon.array import array_module
from tomopipe.recon.carry import Card, Carried, Home
from tomopipe.recon.cuda_card import claimed_card
from tomopipe.recon.fbp import reconstruct
from tomopipe.recon.plan import make_plan

_SLOTS = 2  # blocks on their way back
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


@contextmanager
def device() -> Iterator[Card]:
    """Yield a GPU that no job holds, or raise TomopipeError saying that there is none."""
    try:
        xp = array_module("cuda")
    except TomopipeError as error:
        raise TomopipeError(
            f"bench gpu: there is no GPU to measure. {error} `tomopipe bench cpu` needs none."
        ) from error
    with claimed_card(xp) as card:
        yield card


def copy_rates(card: Card, n_bytes: int = _COPY_BYTES, n_rounds: int = 8) -> Copies:
    """Measure how fast pinned memory is copied to the card and back; best of some rounds."""
    card.use()
    host, there = card.pinned((n_bytes,), np.uint8), card.empty((n_bytes,), np.uint8)
    host[...] = 1
    stream, rates = card.stream(), []
    for copy in (partial(card.upload, host, there), partial(card.download, there, host)):
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
    card: Card, scan: Scan, compute: Compute, n_rows: int, block_rows: int
) -> NDArray[np.float32]:
    """Reconstruct rows block by block, copying while computing.

    Parameters
    ----------
    card : Card
        What computes.
    scan : Scan
        What to reconstruct.
    compute : callable
        From attenuation, on the card, (block_rows, n_angles, n_cols), to slices.
    n_rows : int
        In all; rounded up to whole blocks.
    block_rows : int
        Per block.

    Returns
    -------
    ndarray of float32, shape (block_rows, n_cols, n_cols)
        The last block, in host memory.
    """
    xp, (n_angles, n_cols) = card.xp, scan.raw.shape
    host = card.pinned((n_angles, block_rows, n_cols), np.uint16)
    host[...] = scan.raw[:, None]
    carrier = Carried(card, staged=False)
    homes: deque[Home] = deque()
    flat = dark = None
    n_blocks = -(-n_rows // block_rows)
    ahead = [carrier.send(host)]
    for block in range(n_blocks):
        if block + 1 < n_blocks:
            ahead.append(carrier.send(host))
        with carrier.computing(ahead.pop(0)) as raw:
            if flat is None:
                flat = xp.full((block_rows, n_cols), _COUNTS, dtype=np.float32)
                dark = xp.zeros((block_rows, n_cols), dtype=np.float32)
            rows = normalise(raw, flat, dark).transpose(1, 0, 2)
            slices = compute(xp.ascontiguousarray(rows))
        homes.append(carrier.bring([slices]))
        if len(homes) > _SLOTS:
            homes.popleft()()
    return [home()[0] for home in homes][-1]


def compare(
    card: Card,
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
    card : Card
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
    makers = {"tomopipe": _ours, "TomoCuPy fourierrec": _tomocupy}
    computes: dict[str, Compute] = {}
    results: dict[str, Result] = {}
    for name, make in makers.items():
        tell(f"{name}: first block")
        card.release()
        try:
            computes[name] = make(card.xp, scan, block_rows)
            results[name] = _judged(name, card, scan, computes[name], block_rows)
        except Exception as error:  # of another package: a line of the table, not the end of it
            if name == "tomopipe":
                raise
            absent = isinstance(error, ModuleNotFoundError) and error.name == "tomocupy"
            results[name] = Result(name, "not installed" if absent else f"failed: {error}")
            computes.pop(name, None)
    runs = {
        name: partial(stream_blocks, card, scan, compute, n_rows, block_rows)
        for name, compute in computes.items()
    }
    seconds = rotate(runs, n_rounds, clock=time.perf_counter, progress=tell)
    return [
        Result(name, "", median_interval(seconds[name]), result.sharp_db, result.device_bytes)
        if name in seconds
        else result
        for name, result in results.items()
    ]


def _judged(name: str, card: Card, scan: Scan, compute: Compute, block_rows: int) -> Result:
    """Compare one block with the truth, and see how much of the card it took."""
    before = card.free_bytes()
    slices = stream_blocks(card, scan, compute, block_rows, block_rows)
    n_cols = slices.shape[2]
    axis = engine_axis(n_cols)
    decibels = psnr_db(slices[0] / np.float32(scan.value), sharp_image(n_cols, axis), axis)
    return Result(name, sharp_db=decibels, device_bytes=max(before - card.free_bytes(), 0))


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
    responses = xp.ascontiguousarray(xp.broadcast_to(response, (block_rows, len(response))))
    padded = xp.empty((block_rows, n_angles, n_padded), dtype=np.float32)
    pad = n_padded // 2 - n_cols // 2

    def compute(rows: Any) -> Any:
        stream = xp.cuda.get_current_stream()
        padded[:, :, pad : pad + n_cols] = rows
        padded[:, :, :pad], padded[:, :, pad + n_cols :] = rows[:, :, :1], rows[:, :, -1:]
        row_filter.filter(padded, responses, stream)
        slices = xp.zeros((block_rows, n_cols, n_cols), dtype=np.float32)
        filtered = xp.ascontiguousarray(padded[:, :, pad : pad + n_cols])
        back.backprojection(slices, filtered, stream)
        return slices

    return compute
