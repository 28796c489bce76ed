"""Try sweeps: many CORs of one sinogram, against as many slices by other engines."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from tomopipe.recon.fbp import reconstruct, sweep_batches
from tomopipe.recon.plan import Plan, make_plan
from tomopipe_lab.bench.cpu import angles_180, cor_of
from tomopipe_lab.bench.engines import ENGINES, Engine
from tomopipe_lab.bench.measure import (
    NO_INTERVAL,
    Interval,
    in_new_process,
    median_interval,
    peak_bytes_of,
    rotate,
)
from tomopipe_lab.bench.phantoms import sharp_sinogram

OURS = "all at full size"
N_CORS = 100
STEP_PX = 0.5
RIVALS = tuple(engine for engine in ENGINES if engine.package in ("finufft", "tomopy"))
_N_SLICES = 16  # that a peer computes; N_CORS are charged


@dataclass(frozen=True)
class Result:
    """How one way to see `N_CORS` CORs did.

    Attributes
    ----------
    name : str
        Which way.
    seconds : float
        Median CPU seconds, one thread.
    speed : dict of str to Interval
        Times faster than each peer.
    quality : str
        What was checked, and found.
    missing : str
        Why a peer has no numbers, or an empty string.
    peak_bytes : int or None
        Memory of a call, what it hands out included; None: not measured.
    """

    name: str
    seconds: float = float("nan")
    speed: dict[str, Interval] | None = None
    quality: str = ""
    missing: str = ""
    peak_bytes: int | None = None


def compare(
    n_cols: int,
    n_rounds: int,
    *,
    with_memory: bool = True,
    progress: Callable[[str], None] | None = None,
) -> list[Result]:
    """Time sweeps of one sinogram at one size.

    Parameters
    ----------
    n_cols : int
        Detector columns; 1.5 times as many angles.
    n_rounds : int
        Rounds in which each candidate runs once, in rotating order.
    with_memory : bool
        Run ours in a new process as well, to measure its memory.
    progress : callable, optional
        Told what is done.

    Returns
    -------
    list of Result
        Ours, and each peer.
    """
    tell = progress or (lambda _: None)
    theta_rad, cor_px = angles_180(n_cols), cor_of(n_cols)
    sinogram = sharp_sinogram(n_cols, theta_rad, cor_px)
    plan = make_plan(theta_rad, n_cols)
    candidates = candidates_of(n_cols)
    runs: dict[str, Callable[[], object]] = {OURS: partial(_drain, sinogram, plan, candidates)}
    peers = []
    for engine in RIVALS:
        peers.append(Result(engine.name, missing=engine.missing()))
        if not peers[-1].missing:
            runs[engine.name] = _peer(engine, theta_rad, sinogram, cor_px)
    for name, run in runs.items():
        tell(f"{name}: first call, n = {n_cols}")
        run()
    seconds = rotate(runs, n_rounds, progress=lambda name: tell(f"{name}: time, n = {n_cols}"))
    seconds |= {name: seconds[name] * N_CORS / _N_SLICES for name in seconds if name != OURS}
    tell(f"quality, n = {n_cols}")
    quality = f"differs from reconstruct by {difference(sinogram, plan, cor_px):.0e} of range"
    peak_bytes = in_new_process(memory_of, n_cols) if with_memory else None
    medians = {name: float(np.median(times)) for name, times in seconds.items()}
    speed = {
        peer.name: NO_INTERVAL if peer.missing else _speed(seconds, peer.name, OURS)
        for peer in peers
    }
    return [
        Result(OURS, medians[OURS], speed, quality, peak_bytes=peak_bytes),
        *(peer if peer.missing else Result(peer.name, medians[peer.name]) for peer in peers),
    ]


def candidates_of(n_cols: int) -> NDArray[np.float64]:
    """Return the CORs of a sweep, around the middle."""
    first_px = n_cols / 2 - STEP_PX * (N_CORS // 2)
    return np.linspace(first_px, first_px + STEP_PX * (N_CORS - 1), N_CORS)


def difference(sinogram: NDArray[np.float32], plan: Plan, cor_px: float) -> float:
    """Return the largest difference of a sweep's slices to full reconstructions, per range."""
    candidates = cor_px + np.linspace(-5, 5, 8)
    expected = reconstruct(np.repeat(sinogram[None], len(candidates), axis=0), plan, candidates)
    worst = 0.0
    for batch, images in sweep_batches(sinogram, plan, candidates):
        worst = max(worst, float(abs(images - expected[batch]).max()))
    return worst / float(np.ptp(expected))


def one_cor_seconds(n_cols: int, n_rounds: int) -> tuple[Interval, Interval]:
    """Return wall-clock and CPU seconds of one more COR on all cores, the plan warm.

    This is what the review page asks for.
    """
    theta_rad, cor_px = angles_180(n_cols), cor_of(n_cols)
    sinogram = sharp_sinogram(n_cols, theta_rad, cor_px)[None]
    plan, seconds = make_plan(theta_rad, n_cols), []
    for number in range(n_rounds + 1):
        before = np.array([time.perf_counter(), time.process_time()])
        reconstruct(sinogram, plan, cor_px + number / 7)
        seconds.append(np.array([time.perf_counter(), time.process_time()]) - before)
    wall, cpu = np.transpose(seconds[1:])
    return median_interval(wall), median_interval(cpu)


def _drain(sinogram: NDArray[np.float32], plan: Plan, cor_px: NDArray[np.float64]) -> None:
    deque(sweep_batches(sinogram, plan, cor_px, threads=1), maxlen=0)


def memory_of(n_cols: int) -> int:
    """Return the bytes that a sweep of ours takes; to be called in a new process."""
    for size in (64, n_cols):  # what is compiled and loaded is not charged
        theta_rad = angles_180(size)
        sinogram = sharp_sinogram(size, theta_rad, cor_of(size))
        plan, candidates = make_plan(theta_rad, size), candidates_of(size)
        peak = peak_bytes_of(partial(_drain, sinogram, plan, candidates))
    return peak


def _peer(
    engine: Engine, theta_rad: NDArray[np.float64], sinogram: NDArray[np.float32], cor_px: float
) -> Callable[[], object]:
    """Return a call that makes `_N_SLICES` slices, as many at once as may differ in their COR."""
    run = engine.make(theta_rad, sinogram.shape[1])
    n_cors = min(engine.n_cors, _N_SLICES)
    sinograms = np.repeat(sinogram[None], n_cors, axis=0)

    def call() -> None:
        for _ in range(_N_SLICES // n_cors):
            run(sinograms, cor_px)

    return call


def _speed(seconds: dict[str, NDArray[np.float64]], peer: str, ours: str) -> Interval:
    return median_interval(seconds[peer] / seconds[ours])
