"""Scans without an answer: nothing rotates."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomopipe_lab.suite.damage import (
    FULL_WELL_ADU,
    READ_ADU,
    Instrument,
    Part,
    random_walk,
    spots_of,
)
from tomopipe_lab.suite.settings import Rng, log_uniform

Image = NDArray[np.float32]

NULLS_BY_NAME: dict[str, Callable[[Rng], dict[str, Any]]] = {
    "only noise": lambda r: {"counts": log_uniform(r, 30, 50000), "span_deg": _range_deg(r)},
    "only drift": lambda r: {
        "drift": log_uniform(r, 0.03, 0.4),
        "flat_shift_px": r.choice([0.0, log_uniform(r, 0.3, 4)]),
        "span_deg": _range_deg(r),
    },
    "only dust": lambda r: {
        "dust": log_uniform(r, 0.05, 1.0),
        "flat_shift_px": r.choice([0.0, log_uniform(r, 0.3, 4)]),
        "span_deg": _range_deg(r),
    },
    "fading blobs": lambda r: {"span_deg": _range_deg(r)},
    "only stripes": lambda r: {
        "thin_rings": log_uniform(r, 0.01, 0.3),
        "wide_rings": r.choice([0.0, 0.05]),
        "partial_rings": r.choice([0.0, 0.1]),
        "drifting_rings": r.choice([0.0, 0.1]),
        "span_deg": _range_deg(r),
    },
    "constant": lambda r: {"span_deg": _range_deg(r)},
    "saturated": lambda r: {"span_deg": _range_deg(r)},
    "beam off": lambda r: {"span_deg": _range_deg(r)},
}
"""What each kind changes in the settings of a clean scan."""


def _range_deg(rng: Rng) -> float:
    return float(rng.choice([180.0, 180.0, -180.0, 360.0, 150.0]))


def null_frames(
    kind: str, instrument: Instrument, every: Part, paired: Part
) -> tuple[Image, Image]:
    """Return raw rows (n_angles, n_kept, n_cols) and raw opposing frames (n, n_rows, n_cols)."""
    rng, n_cols = instrument.rng, instrument.settings.n_cols
    blobs = _fading(instrument) if kind == "fading blobs" else None
    camera = _CAMERAS.get(kind)
    level = rng.uniform(500, 30000)
    still = bool(rng.random() < 0.5)
    frames = []
    for part in (every, paired):
        shape = (len(part.frames), len(part.rows), n_cols)
        if camera is not None:
            raw = camera(shape, rng, level, still)
        else:
            lines = np.zeros(shape, dtype=np.float32)
            if blobs is not None:
                depth, spots = blobs
                lines = np.einsum("ab,brc->arc", depth[part.frames], spots[:, part.rows])
            raw = instrument.counts(lines.astype(np.float32), part)
        frames.append(raw.astype(np.float32))
    return frames[0], frames[1]


def _fading(instrument: Instrument) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return how deep each of several spots is at each angle, and the spots (n, rows, cols)."""
    rng, s = instrument.rng, instrument.settings
    n = int(rng.integers(2, 8))
    spots = np.stack([spots_of((s.n_rows, s.n_cols), rng, 1) for _ in range(n)])
    walks = np.stack([random_walk(instrument.n_angles, rng) for _ in range(n)], axis=1)
    return log_uniform(rng, 0.02, 0.5) * (1 + walks), spots


def _constant(shape: tuple[int, ...], rng: Rng, level: float, still: bool) -> Image:
    flicker = 0 if still else rng.integers(-1, 2, shape)
    return np.asarray(np.rint(level) + np.zeros(shape) + flicker, dtype=np.float32)


def _saturated(shape: tuple[int, ...], rng: Rng, level: float, still: bool) -> Image:
    raw = np.full(shape, FULL_WELL_ADU, dtype=np.float32)
    if not still:
        raw -= (rng.random(shape) < 0.02) * rng.exponential(level, shape)
    return np.maximum(np.rint(raw), 0).astype(np.float32)


def _beam_off(shape: tuple[int, ...], rng: Rng, level: float, still: bool) -> Image:
    noise = READ_ADU * (1 if still else level / 3000) * rng.standard_normal(shape)
    return np.maximum(np.rint(120 + noise), 0).astype(np.float32)


_CAMERAS: dict[str, Callable[[tuple[int, ...], Rng, float, bool], Image]] = {
    "constant": _constant,
    "saturated": _saturated,
    "beam off": _beam_off,
}
