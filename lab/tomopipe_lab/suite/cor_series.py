"""CORs of simulated series, with wrong ones: how an axis goes from scan to scan.

Each kind takes numbers of scans, ascending from 0, shape (n,), and returns their axis, pixels.
"""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Array = NDArray[np.float64]
Numbers = NDArray[np.int64]
LARGEST_STEP_PX = 80.0


@dataclass(frozen=True)
class Series:
    """Scans of a series: numbers, CORs to 0.01 px, and which of them are wrong."""

    index: Numbers
    cor_px: Array
    wrong: frozenset[int]


def still(rng: Generator, index: Numbers) -> Array:
    """The axis stays."""
    return np.zeros(len(index))


def drift(rng: Generator, index: Numbers) -> Array:
    """It moves by 0.02 to 5 px a scan."""
    return np.asarray(_signed(rng, 0.02, 5.0) * index)


def step(rng: Generator, index: Numbers) -> Array:
    """One step of 1 to 80 px, two scans or more on either side, and a drift."""
    return rng.uniform(-0.1, 0.1) * index + _levels(rng, len(index), 1)


def steps(rng: Generator, index: Numbers) -> Array:
    """Two steps or more, one in eight scans, three scans or more apart."""
    n = len(index)
    return _levels(rng, n, int(rng.integers(2, max(2, n // 8) + 1)))


def walk(rng: Generator, index: Numbers) -> Array:
    """A random walk of 0.2 to 1 px a scan: normal steps, or all of one size."""
    size_px, n = _log_uniform(rng, 0.2, 1.0), index[-1] + 1
    unit = rng.normal(0, 1, n) if rng.random() < 0.5 else rng.choice([-1, 1], n)
    return np.cumsum(size_px * unit)[index]


def two(rng: Generator, index: Numbers) -> Array:
    """Two positions that alternate, up to 160 px apart, and a drift."""
    return _alternating(rng, index, 2)


def three(rng: Generator, index: Numbers) -> Array:
    """Three positions that alternate."""
    return _alternating(rng, index, 3)


def sine(rng: Generator, index: Numbers) -> Array:
    """A sine of 1 to 8 px, with a period from six scans to the length of the series."""
    period = _log_uniform(rng, 6.0, float(index[-1] + 1))
    return rng.uniform(1, 8) * np.sin(2 * np.pi * (index / period + rng.random()))


KINDS = {kind.__name__: kind for kind in (still, drift, step, steps, walk, two, three, sine)}


def make_series(
    kind: str,
    seed: int,
    *,
    n: int | None = None,
    n_wrong: int = 1,
    error_px: float = 5.0,
    scatter_px: float = 0.2,
) -> Series:
    """Simulate a series of `n` scans (None: 12 to 60), up to three numbers missing between them.

    The scatter is normal or uniform. The first wrong COR is off by `error_px`, others by up to
    eight times as much.
    """
    rng = np.random.default_rng([[*KINDS].index(kind), seed])
    n = int(rng.integers(12, 61)) if n is None else n
    index = np.sort(rng.permutation(n + int(rng.integers(0, 4)))[:n])
    index -= index[0]
    unit = rng.normal(0, 1, n) if rng.random() < 0.5 else rng.uniform(-(3**0.5), 3**0.5, n)
    cor_px = 1000 + KINDS[kind](rng, index) + scatter_px * unit
    wrong = rng.choice(n, n_wrong, replace=False)
    for number, scan in enumerate(wrong):
        largest_px = 8 * error_px if number else error_px
        cor_px[scan] += rng.choice([-1, 1]) * rng.uniform(error_px, largest_px)
    return Series(index + 1, np.round(cor_px, 2), frozenset(map(int, wrong)))


def _log_uniform(rng: Generator, least: float, most: float) -> float:
    return float(np.exp(rng.uniform(np.log(least), np.log(most))))


def _signed(rng: Generator, least: float, most: float) -> float:
    return float(rng.choice([-1, 1])) * _log_uniform(rng, least, most)


def _levels(rng: Generator, n: int, n_steps: int) -> Array:
    """Return levels, with steps in between three scans apart where there is space."""
    for _ in range(50):
        first = np.sort(rng.integers(2, n - 1, n_steps))
        if np.all(np.diff(first) >= 3):
            break
    else:
        first = first[:1]
    steps_px = np.zeros(n)
    for scan in first:
        steps_px[scan] = _signed(rng, 1.0, LARGEST_STEP_PX)
    return np.cumsum(steps_px)


def _alternating(rng: Generator, index: Numbers, n_positions: int) -> Array:
    positions_px = [_signed(rng, 1.0, LARGEST_STEP_PX) for _ in range(n_positions)]
    return np.array(positions_px)[index % n_positions] + rng.uniform(-0.1, 0.1) * index
