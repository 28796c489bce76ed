"""How a case is scanned and damaged: every single condition, and the mixed distribution."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Rng = np.random.Generator
Course = Callable[[NDArray[np.float64]], NDArray[np.float64]]


@dataclass(frozen=True)
class Settings:
    """One scan. Strengths are 0 where there is no such damage; px are detector pixels.

    Attributes
    ----------
    n_cols, n_rows : int
        Detector.
    n_angles : int
        Projections.
    span_deg, start_deg : float
        Angular range, negative if it runs backwards, and where it begins.
    end_point : bool
        The last angle is start + span.
    gap_share : float
        Share of the angles that is missing, in blocks.
    off : float
        COR minus the middle, over n_cols.
    fill : float
        Radius of the sample over the largest that stays on the detector (half acquisition: on its
        long side); above 1 it is truncated.
    depth : float
        Line integral through nearly the thickest part.
    counts : float
        Photons per pixel of the open beam.
    blur_px : float
        Of the detector.
    row_pitch_px : float
        Height of a row.
    thin_rings, wide_rings, partial_rings, drifting_rings : float
        Deviation of the gain, over 1.
    dead : int
        Dead columns.
    zingers : float
        Share of the pixels that are hit.
    drift, flat_shift_px, dust, fringes : float
        Walk of the beam's intensity; shift of the beam's pattern since the flats; depth of what
        stays in place and the flats lack; strength of propagation fringes.
    motion_px, jitter_px, swell, roll_deg : float
        Slow motion, random motion, change of size, roll of the detector.
    jump_px, jump_at : float
        The axis is so much further right from this share of the projections on.
    climb_px : float
        Of the sample along the axis, in a turn.
    wander : callable, optional
        How far the axis is off to the right, px, after these shares of the projections.
    ahead : callable, optional
        By how much the stage has turned further than stated, degrees, after these shares.
    theta_missing : bool
        The file has no angles.
    grid_width_px : float
        The try grid reaches so far to both sides of the middle.
    outside_grid : bool
        The answer is outside the try grid.
    smooth : bool
        Only nearly featureless families.
    """

    n_cols: int
    n_rows: int = 1
    n_angles: int = 181
    span_deg: float = 180.0
    start_deg: float = 0.0
    end_point: bool = True
    gap_share: float = 0.0
    off: float = 0.0
    fill: float = 0.8
    depth: float = 1.0
    counts: float = 10000.0
    blur_px: float = 0.4
    row_pitch_px: float = 1.0
    thin_rings: float = 0.0
    wide_rings: float = 0.0
    partial_rings: float = 0.0
    drifting_rings: float = 0.0
    dead: int = 0
    zingers: float = 0.0
    drift: float = 0.0
    flat_shift_px: float = 0.0
    dust: float = 0.0
    fringes: float = 0.0
    motion_px: float = 0.0
    jitter_px: float = 0.0
    swell: float = 0.0
    roll_deg: float = 0.0
    jump_px: float = 0.0
    jump_at: float = 0.5
    climb_px: float = 0.0
    wander: Course | None = None
    ahead: Course | None = None
    theta_missing: bool = False
    grid_width_px: float = 50.0
    outside_grid: bool = False
    smooth: bool = False

    @property
    def cor_px(self) -> float:
        """Where the axis is, in the middle row."""
        return (self.n_cols - 1) / 2 + self.off * self.n_cols

    @property
    def reach_px(self) -> float:
        """Radius of the largest sample about the axis within the field (half acquisition too)."""
        side = 1 if abs(self.span_deg) >= 350 and abs(self.off) > 0.15 else -1
        return self.n_cols * (0.5 + side * abs(self.off))


def log_uniform(rng: Rng, low: float, high: float) -> float:
    """Draw a number whose logarithm is uniform."""
    return float(np.exp(rng.uniform(math.log(low), math.log(high))))


def _either(rng: Rng) -> float:
    return float(rng.choice([-1.0, 1.0]))


def base(rng: Rng, n_cols: int) -> Settings:
    """Draw a scan without damage worth a name: 180 degrees, enough photons."""
    return Settings(
        n_cols=n_cols,
        n_rows=1 if rng.random() < 0.25 else int(rng.integers(2, 17)),
        n_angles=int(rng.integers(140, 362)),
        span_deg=180.0 * _either(rng),
        start_deg=rng.uniform(-180, 180) if rng.random() < 0.5 else 0.0,
        end_point=bool(rng.random() < 0.6),
        off=rng.uniform(-0.1, 0.1),
        fill=rng.uniform(0.4, 0.98),
        depth=log_uniform(rng, 0.3, 3.0),
        counts=log_uniform(rng, 2000, 50000),
        blur_px=rng.uniform(0, 0.9),
        row_pitch_px=log_uniform(rng, 1, 8),
        thin_rings=0.002,
        jitter_px=0.02,
    )


def _full(s: Settings, rng: Rng) -> Settings:
    return replace(s, span_deg=math.copysign(360, s.span_deg), n_angles=int(rng.integers(200, 500)))


def _half_acquisition(s: Settings, rng: Rng) -> Settings:
    full = _full(s, rng)
    return replace(full, off=_either(rng) * rng.uniform(0.18, 0.44), fill=rng.uniform(0.5, 1.05))


def _short(s: Settings, rng: Rng) -> Settings:
    return replace(s, span_deg=s.span_deg / 180 * rng.uniform(120, 176), end_point=True)


def _missing_theta(s: Settings, _: Rng) -> Settings:
    return replace(s, span_deg=180.0, start_deg=0.0, end_point=True, theta_missing=True)


def _outside_grid(s: Settings, rng: Rng) -> Settings:
    off = rng.uniform(0.08, 0.3)
    moved = replace(s, off=_either(rng) * off, outside_grid=True)
    moved = _half_acquisition(moved, rng) if rng.random() < 0.25 else moved
    away_px = abs(moved.off) * s.n_cols
    # A peak within 4 px of the grid still counts as inside.
    return replace(moved, grid_width_px=min(rng.uniform(0.3, 0.85) * away_px, away_px - 6))


CONDITIONS_BY_NAME: dict[str, Callable[[Settings, Rng], Settings]] = {
    "clean": lambda s, r: s,
    "few photons": lambda s, r: replace(s, counts=log_uniform(r, 30, 1000)),
    "thin rings": lambda s, r: replace(s, thin_rings=log_uniform(r, 0.01, 0.2)),
    "wide rings": lambda s, r: replace(s, wide_rings=log_uniform(r, 0.01, 0.15)),
    "partial rings": lambda s, r: replace(s, partial_rings=log_uniform(r, 0.02, 0.2)),
    "drifting rings": lambda s, r: replace(s, drifting_rings=log_uniform(r, 0.01, 0.1)),
    "dead pixels": lambda s, r: replace(s, dead=int(r.integers(1, 13))),
    "zingers": lambda s, r: replace(s, zingers=log_uniform(r, 1e-4, 1e-2)),
    "beam drift": lambda s, r: replace(s, drift=log_uniform(r, 0.02, 0.3)),
    "drifting flats": lambda s, r: replace(s, flat_shift_px=log_uniform(r, 0.3, 4)),
    "static dirt": lambda s, r: replace(s, dust=log_uniform(r, 0.02, 0.5)),
    "phase fringes": lambda s, r: replace(s, fringes=log_uniform(r, 0.3, 5)),
    "truncated": lambda s, r: replace(s, fill=r.uniform(1.05, 2.0), off=r.uniform(-0.06, 0.06)),
    "region of interest": lambda s, r: replace(s, fill=r.uniform(2, 4), off=r.uniform(-0.06, 0.06)),
    "few angles": lambda s, r: replace(s, n_angles=int(r.integers(25, 90))),
    "angle gaps": lambda s, r: replace(s, gap_share=r.uniform(0.05, 0.35)),
    "less than 180": _short,
    "full turn": _full,
    "half acquisition": _half_acquisition,
    "far axis": lambda s, r: replace(s, off=_either(r) * r.uniform(0.12, 0.42)),
    "sample motion": lambda s, r: replace(s, motion_px=log_uniform(r, 0.3, 1.5)),
    "deformation": lambda s, r: replace(s, swell=log_uniform(r, 0.003, 0.03)),
    "jitter": lambda s, r: replace(s, jitter_px=log_uniform(r, 0.2, 1.2)),
    "roll": lambda s, r: replace(
        s, n_rows=int(r.integers(6, 17)), roll_deg=_either(r) * log_uniform(r, 0.2, 2)
    ),
    "single row": lambda s, r: replace(s, n_rows=1),
    "binned": lambda s, r: replace(s, n_cols=max(64, s.n_cols // int(r.integers(2, 4)))),
    "missing theta": _missing_theta,
    "featureless": lambda s, r: replace(s, smooth=True),
    "grid misses": _outside_grid,
}
"""What each single condition changes in a clean scan."""

# the damages of the mixed distribution and how often each comes
_OFTEN = {
    "few photons": 0.3, "thin rings": 0.35, "wide rings": 0.15, "partial rings": 0.12,
    "drifting rings": 0.1, "dead pixels": 0.1, "zingers": 0.2, "beam drift": 0.25,
    "drifting flats": 0.15, "static dirt": 0.2, "phase fringes": 0.15, "few angles": 0.12,
    "angle gaps": 0.08, "sample motion": 0.1, "deformation": 0.06, "jitter": 0.1, "roll": 0.08,
    "single row": 0.2, "binned": 0.05, "featureless": 0.08,
}  # fmt: skip
_MODES = {
    "clean": 0.42, "less than 180": 0.12, "full turn": 0.14, "half acquisition": 0.18,
    "far axis": 0.1, "missing theta": 0.04,
}  # fmt: skip
_SIZES = {"clean": 0.65, "truncated": 0.25, "region of interest": 0.1}


def mixed(rng: Rng, n_cols: int) -> tuple[Settings, tuple[str, ...]]:
    """Draw a stressed scan: a mode, a size, and several kinds of damage at once."""
    mode = str(rng.choice(list(_MODES), p=list(_MODES.values())))
    size = str(rng.choice(list(_SIZES), p=list(_SIZES.values())))
    if mode in ("half acquisition", "far axis"):
        size = "clean"
    names = [size, mode, *(name for name, often in _OFTEN.items() if rng.random() < often)]
    if mode == "missing theta" and "angle gaps" in names:
        names.remove("angle gaps")  # made-up angles would be wrong: no answer
    settings = base(rng, n_cols)
    for name in names:
        settings = CONDITIONS_BY_NAME[name](settings, rng)
    named = tuple(name for name in names if name != "clean")
    return settings, named or ("clean",)
