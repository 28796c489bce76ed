"""CPU time per slice of full reconstructions, their quality and their memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tomopipe_lab.bench.engines import ENGINES, OURS, Engine, Run
from tomopipe_lab.bench.measure import (
    NO_INTERVAL,
    Interval,
    in_new_process,
    median_interval,
    peak_bytes_of,
    rotate,
)
from tomopipe_lab.bench.phantoms import (
    psnr_db,
    sharp_image,
    sharp_sinogram,
    smooth_image,
    smooth_sinogram,
)

_WARM_COLS = 64  # what an engine compiles and loads is not charged to it


@dataclass(frozen=True)
class Result:
    """How one engine did.

    Attributes
    ----------
    engine : Engine
        Which.
    missing : str
        Why there are no numbers, or an empty string.
    slice_s : float
        Median CPU seconds per slice.
    ratio : Interval
        Of our CPU time per slice to its, within rounds.
    sharp_db, smooth_db : float
        PSNR of the two phantoms.
    peak_bytes : int or None
        Memory of a call, slices included, its input not; None: not measured.
    plan_s : float
        CPU seconds of the first call beyond those of a later one.
    """

    engine: Engine
    missing: str = ""
    slice_s: float = float("nan")
    ratio: Interval = NO_INTERVAL
    sharp_db: float = float("nan")
    smooth_db: float = float("nan")
    peak_bytes: int | None = None
    plan_s: float = float("nan")


def angles_180(n_cols: int) -> NDArray[np.float64]:
    """Return 1.5 n angles over 180 degrees, the end excluded."""
    return np.linspace(0, np.pi, 3 * n_cols // 2, endpoint=False)


def cor_of(n_cols: int) -> float:
    """Return the COR of the phantoms: off the middle by a fraction of a pixel."""
    return n_cols / 2 + 3.3


def compare(
    n_cols: int,
    n_rounds: int,
    engines: Iterable[Engine] = ENGINES,
    *,
    with_memory: bool = True,
    progress: Callable[[str], None] | None = None,
) -> list[Result]:
    """Compare engines at one size.

    Parameters
    ----------
    n_cols : int
        Detector columns; 1.5 times as many angles.
    n_rounds : int
        Rounds in which each engine runs once, in rotating order.
    engines : iterable of Engine
        Ours is added if it is not among them.
    with_memory : bool
        Run each engine in a process of its own as well, to measure its memory.
    progress : callable, optional
        Told what is done.

    Returns
    -------
    list of Result
        In the order of the engines, ours first.
    """
    chosen = [OURS, *(engine for engine in engines if engine is not OURS)]
    tell = progress or (lambda _: None)
    theta_rad, sinograms = angles_180(n_cols), _sinograms(n_cols)
    results: dict[str, Result] = {}
    runs: dict[str, Callable[[], object]] = {}
    for engine in chosen:
        tell(f"{engine.name}: quality, n = {n_cols}")
        missing = engine.missing()
        try:
            run = None if missing else _warmed(engine)(theta_rad, n_cols)
            found = _measured(engine, run, n_cols) if run else Result(engine, missing)
            results[engine.name] = found
        except Exception as error:  # of another package: a line of the table, not the end of it
            if engine is OURS:
                raise
            results[engine.name] = Result(engine, f"failed: {error}")
            continue
        if run is not None:
            runs[engine.name] = _call(run, sinograms[: engine.n_slices], cor_of(n_cols))
    seconds = rotate(runs, n_rounds, progress=lambda name: tell(f"{name}: time, n = {n_cols}"))
    slices = {engine.name: engine.n_slices for engine in chosen}
    ours = seconds[OURS.name] / OURS.n_slices
    for name, values in seconds.items():
        tell(f"{name}: memory, n = {n_cols}")
        each = values / slices[name]
        results[name] = _with_times(
            results[name], each, ours, _memory(name, n_cols) if with_memory else None
        )
    return list(results.values())


def _measured(engine: Engine, run: Run, n_cols: int) -> Result:
    """Return the quality of an engine; the first call makes its plan."""
    theta_rad, cor_px, axis = angles_180(n_cols), cor_of(n_cols), engine.axis(n_cols)
    decibels, seconds = [], []
    for sinogram, truth in (
        (sharp_sinogram(n_cols, theta_rad, cor_px), sharp_image(n_cols, axis)),
        (smooth_sinogram(n_cols, theta_rad, cor_px), smooth_image(n_cols, axis)),
    ):
        started = time.process_time()
        image = run(sinogram[None], cor_px)[0]
        seconds.append(time.process_time() - started)
        decibels.append(psnr_db(image, truth, axis, fitted=engine.fitted))
    plan_s = max(seconds[0] - seconds[1], 0.0)
    return Result(engine, sharp_db=decibels[0], smooth_db=decibels[1], plan_s=plan_s)


def _with_times(
    result: Result, each_s: NDArray[np.float64], ours_s: NDArray[np.float64], peak_bytes: int | None
) -> Result:
    return Result(
        result.engine,
        slice_s=float(np.median(each_s)),
        ratio=median_interval(ours_s / each_s),
        sharp_db=result.sharp_db,
        smooth_db=result.smooth_db,
        peak_bytes=peak_bytes,
        plan_s=result.plan_s,
    )


def _warmed(engine: Engine) -> Callable[[NDArray[np.float64], int], Run]:
    """Return the engine's `make` after all that it compiles has been compiled."""
    run = engine.make(angles_180(_WARM_COLS), _WARM_COLS)
    for n_slices in {1, engine.n_slices}:
        run(_sinograms(_WARM_COLS)[:n_slices], cor_of(_WARM_COLS))
    return engine.make


def _memory(name: str, n_cols: int) -> int:
    return int(in_new_process(memory_of, name, n_cols))


def memory_of(name: str, n_cols: int) -> int:
    """Return the bytes that one call of an engine takes; to be called in a new process."""
    engine = next(engine for engine in ENGINES if engine.name == name)
    make, sinograms = _warmed(engine), _sinograms(n_cols)[: engine.n_slices]
    return peak_bytes_of(lambda: make(angles_180(n_cols), n_cols)(sinograms, cor_of(n_cols)))


def _sinograms(n_cols: int) -> NDArray[np.float32]:
    """Return sinograms of one phantom, each with noise of its own."""
    rng = np.random.default_rng(0)
    sinogram = sharp_sinogram(n_cols, angles_180(n_cols), cor_of(n_cols))
    noise = rng.normal(0, 0.01, (OURS.n_slices, 1, n_cols)).astype(np.float32)
    return sinogram + noise


def _call(run: Run, sinograms: NDArray[np.float32], cor_px: float) -> Callable[[], object]:
    return lambda: run(sinograms, cor_px)
