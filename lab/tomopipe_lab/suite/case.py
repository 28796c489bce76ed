"""One simulated scan as the finders get it, with its truth."""

import math
import zlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomopipe.config import TryReconBlock
from tomopipe.cor.collected_rows import N_KEPT, Rows, opposing_pairs, spread_rows
from tomopipe.steps.try_recon import try_grid
from tomopipe_lab.suite import rasters, solids
from tomopipe_lab.suite.damage import Instrument, Part, fringes, motion
from tomopipe_lab.suite.nulls import NULLS_BY_NAME, null_frames
from tomopipe_lab.suite.sample import Sample, View
from tomopipe_lab.suite.settings import CONDITIONS_BY_NAME, Rng, Settings, base, mixed

SPLITS = ("train", "validation", "test")
CONDITIONS = tuple(CONDITIONS_BY_NAME)
NULLS = tuple(NULLS_BY_NAME)
OUTSIDE_GRID = "grid misses"  # the name seeds the cases
GRID_STEP_PX = 0.5

FAMILIES = {
    "train": (*solids.TRAIN, *rasters.TRAIN),
    "validation": (*solids.VALIDATION, *rasters.VALIDATION),
    "test": rasters.TEST,
}
_FEATURELESS = ("smooth", "plain", "tooth", "blank", "clouds")
_LEAST_COLS, _MOST_COLS = 192, 384
_MOST_DRAWS = 30
# What the answer needs: its bound from the visible edges (px) and the signal over the noise.
_LARGEST_BOUND_PX, _LEAST_SIGNAL = 0.15, 40.0


@dataclass(frozen=True, eq=False)
class Case:
    """One scan and its truth.

    Attributes
    ----------
    name : str
        Unique within a suite.
    family : str
        Kind of object, "" for a scan without an answer.
    conditions : tuple of str
        Mode and kinds of damage.
    rows : Rows
        As try_recon would keep them.
    cor_px : float or None
        Truth in unbinned px (with roll: of the first kept row); None: no answer exists.
    candidates_px : ndarray of float, shape (n_candidates,)
        The try grid.
    """

    name: str
    family: str
    conditions: tuple[str, ...]
    rows: Rows
    cor_px: float | None
    candidates_px: NDArray[np.float64]


def make_case(
    split: str,
    seed: int,
    *,
    condition: str | None = None,
    n_cols: int | None = None,
    jump: tuple[float, float] = (0.0, 0.5),
    span_deg: float | None = None,
    **changes: Any,
) -> Case:
    """Simulate one scan; equal arguments give equal cases.

    Parameters
    ----------
    split : {"train", "validation", "test"}
        Each has families of objects and random numbers of its own.
    seed : int
        Number of the case, 0 or more.
    condition : str, optional
        One of `CONDITIONS` or `NULLS`; None draws from the mixed, stressed distribution.
    n_cols : int, optional
        Detector columns; by default drawn from 192 to 384, above it there are more angles too.
    jump : (float, float)
        The axis moves by so many px after this share of the projections.
    span_deg : float, optional
        Angles, at the steps that were drawn; None: those that were drawn.
    **changes
        Other values of `Settings`, such as climb_px, wander, ahead or counts.

    Returns
    -------
    Case
        A scan whose answer is above the noise; signal that is not is drawn again.

    Raises
    ------
    ValueError
        If split or condition is unknown.
    """
    if split not in SPLITS:
        raise ValueError(f"split: expected one of {', '.join(SPLITS)}; got {split!r}")
    if condition is not None and condition not in (*CONDITIONS, *NULLS):
        raise ValueError(f"condition: expected one of CONDITIONS or NULLS; got {condition!r}")
    name = case_name(split, seed, condition, n_cols)
    for attempt in range(_MOST_DRAWS):
        stream = [SPLITS.index(split), seed, zlib.crc32((condition or "").encode()), attempt]
        rng = np.random.default_rng(stream)
        settings, conditions = _settings(condition, n_cols, rng)
        settings = replace(settings, jump_px=jump[0], jump_at=jump[1], **changes)
        if span_deg:
            n_angles = max(25, round(settings.n_angles * span_deg / abs(settings.span_deg)))
            signed_deg = math.copysign(span_deg, settings.span_deg)
            settings = replace(settings, span_deg=signed_deg, n_angles=n_angles)
            settings = replace(settings, theta_missing=False)
        if condition in NULLS:
            return _null(name, str(condition), settings, rng)
        case = _scan(name, split, settings, conditions, rng)
        if case is not None:
            return case
    raise RuntimeError(f"{name}: no signal above the noise in {_MOST_DRAWS} draws")


def case_name(split: str, seed: int, condition: str | None, n_cols: int | None) -> str:
    """Return the name of what `make_case` makes of these arguments."""
    return f"{split} {condition or 'mixed'} {seed}" + (f" {n_cols}" if n_cols else "")


def _settings(
    condition: str | None, n_cols: int | None, rng: Rng
) -> tuple[Settings, tuple[str, ...]]:
    drawn = int(rng.integers(_LEAST_COLS, _MOST_COLS + 1))
    size = n_cols or drawn
    if condition is None:
        settings, conditions = mixed(rng, size)
    else:
        change = CONDITIONS_BY_NAME.get(condition, lambda s, r: s)
        settings, conditions = change(base(rng, size), rng), (condition,)
    if n_cols:
        settings = replace(settings, n_cols=n_cols)
    if size > _MOST_COLS and "few angles" not in conditions:
        # As many angles as go with the columns, within reason.
        more = min(size / 288, 3.0)
        settings = replace(settings, n_angles=round(more * settings.n_angles))
    if not settings.outside_grid:
        # Wide enough for the answer, as of somebody who knows about it.
        away_px = abs(settings.off) * settings.n_cols
        needed_px = away_px * rng.uniform(1.15, 2.0) + 5
        settings = replace(settings, grid_width_px=max(settings.grid_width_px, needed_px))
    return settings, conditions


def angles(s: Settings, rng: Rng) -> NDArray[np.float64]:
    """Return the angles of a scan in radians, in the order they were taken."""
    theta_deg = s.start_deg + np.linspace(0, s.span_deg, s.n_angles, endpoint=s.end_point)
    if s.gap_share:
        kept = np.ones(s.n_angles, bool)
        n_gaps = int(rng.integers(1, 5))
        for _ in range(n_gaps):
            width = max(1, round(s.gap_share * s.n_angles / n_gaps))
            first = int(rng.integers(0, s.n_angles - width + 1))
            kept[first : first + width] = False
        theta_deg = theta_deg[kept]
    return np.deg2rad(theta_deg)


def _scan(name: str, split: str, s: Settings, conditions: tuple[str, ...], rng: Rng) -> Case | None:
    """Simulate one scan; None if its signal is under the noise."""
    theta_rad = angles(s, rng)
    family, sample = _sample(split, s, rng)
    view = _view(s, theta_rad, rng)
    kept = np.array(spread_rows([(s.n_rows - 1) // 2], s.n_rows, int(rng.integers(1, N_KEPT + 1))))
    pairs = opposing_pairs(theta_rad) if s.n_rows > 1 else np.zeros((0, 2), int)
    every = Part(np.arange(len(theta_rad)), kept)
    paired = Part(np.unique(pairs), np.arange(s.n_rows))
    lines = _shadow(sample, view[every.frames, every.rows], s.climb_px)
    high = float(np.percentile(lines, 98))
    if not high > 0:
        return None
    scale = np.float32(s.depth / high)
    lines = fringes(lines * scale, s.fringes)
    if not is_answerable(lines, s.counts, theta_rad):
        return None
    few = _shadow(sample, view[paired.frames, paired.rows], s.climb_px)
    few = fringes(few * scale, s.fringes)
    instrument = Instrument(s, len(theta_rad), rng)
    raw, raw_few = instrument.counts(lines, every), instrument.counts(few, paired)
    rows = keep(raw, raw_few, instrument, (every, paired, pairs), theta_rad)
    if s.theta_missing:
        rows = replace(rows, theta_rad=np.linspace(0, np.pi, s.n_angles), theta_missing=True)
    cor_px = s.cor_px + _roll(s, kept[:1].astype(float))[0]
    grid = TryReconBlock(width_px=s.grid_width_px, step_px=GRID_STEP_PX)
    grid_px = try_grid(grid, s.n_cols, first_col=0)
    return Case(name, family, conditions, rows, float(cor_px), grid_px)


def _shadow(sample: Sample, view: View, climb_px: float) -> NDArray[np.float32]:
    """Project a sample that climbs by so much in a turn, in steps of a px."""
    if not climb_px:
        return sample.project(view)
    climbed_px = np.round(climb_px * view.theta_rad / (2 * np.pi))
    every = np.arange(len(view.height_px))
    lines = np.zeros((*view.cor_px.shape, view.n_cols), np.float32)
    for height_px in np.unique(climbed_px):
        frames = np.flatnonzero(climbed_px == height_px)
        part = view[frames, every]
        lines[frames] = sample.project(replace(part, height_px=part.height_px + height_px))
    return lines


def _sample(split: str, s: Settings, rng: Rng) -> tuple[str, Sample]:
    families = FAMILIES[split]
    if s.smooth:
        families = tuple(f for f in families if f.__name__ in _FEATURELESS) or families
    family = families[int(rng.integers(len(families)))]
    return family.__name__, family(body(s, s.row_pitch_px * (s.n_rows - 1) / 2, rng), rng)


def body(s: Settings, half_height_px: float, rng: Rng) -> solids.Body:
    """Draw where a sample is, and how large."""
    radius_px = s.fill * s.reach_px
    room_px = max(0.0, s.reach_px - radius_px) if s.fill < 1 else 0.4 * radius_px
    away_px, direction = rng.uniform(0.1, 1) * min(room_px, 0.4 * radius_px), rng.uniform(0, 6.283)
    at_px = away_px * np.cos(direction), away_px * np.sin(direction)
    return solids.Body(*at_px, radius_px, half_height_px)


def _view(s: Settings, theta_rad: NDArray[np.float64], rng: Rng) -> View:
    x, y, swell, jitter = motion(s, len(theta_rad), rng)
    moved_px = x * np.cos(theta_rad) - y * np.sin(theta_rad) + jitter
    moved_px[round(s.jump_at * len(theta_rad)) :] += s.jump_px
    if s.wander:
        moved_px += s.wander(np.linspace(0, 1, len(theta_rad)))
    if s.ahead:
        turned_rad = np.deg2rad(s.ahead(np.linspace(0, 1, len(theta_rad))))
        theta_rad = theta_rad + math.copysign(1, s.span_deg) * turned_rad
    roll_px = _roll(s, np.arange(s.n_rows, dtype=float))
    height_px = s.row_pitch_px * (np.arange(s.n_rows, dtype=float) - (s.n_rows - 1) / 2)
    cor_px = s.cor_px + moved_px[:, None] + roll_px[None]
    return View(theta_rad, cor_px, swell, height_px, s.n_cols)


def _roll(s: Settings, row: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how far the axis is from its position in the middle row."""
    return np.asarray(np.tan(np.deg2rad(s.roll_deg)) * (row - (s.n_rows - 1) / 2))


def keep(
    raw: NDArray[np.float32],
    raw_few: NDArray[np.float32],
    instrument: Instrument,
    parts: tuple[Part, Part, NDArray[np.intp]],
    theta_rad: NDArray[np.float64],
) -> Rows:
    """Correct raw rows and opposing frames and keep them as try_recon does."""
    every, paired, pairs = parts
    for index, frame in enumerate(paired.frames):  # the same exposure, the same noise
        raw_few[index, every.rows] = raw[frame]
    flat, dark = instrument.flat_and_dark()
    sinograms = instrument.corrected(raw, every, flat, dark)
    images = instrument.corrected(raw_few, paired, flat, dark)
    where = np.searchsorted(paired.frames, pairs)
    return Rows(
        sinograms=np.ascontiguousarray(sinograms.transpose(1, 0, 2)),
        row_index=every.rows.astype(np.int64),
        theta_rad=theta_rad,
        pairs=images[where].reshape(-1, 2, *images.shape[1:]),
        pair_theta_rad=theta_rad[pairs],
        n_rows=images.shape[1],
    )


def is_answerable(
    lines: NDArray[np.float32], counts: float, theta_rad: NDArray[np.float64]
) -> bool:
    """Tell whether opposing rows can locate the axis under this photon noise.

    Two of noise sigma locate it to sigma / sqrt(2 sum(slope**2)) (Cramer-Rao); what does not rotate
    says nothing. Some ten pairs of rows are assumed to be alike enough.

    Parameters
    ----------
    lines : ndarray of float, shape (n_angles, n_rows, n_cols)
        True line integrals.
    counts : float
        Photons per pixel of the open beam.
    theta_rad : ndarray of float, shape (n_angles,)
        Angles.

    Returns
    -------
    bool
        Whether that bound is at most 0.15 px and what rotates is well above the noise.
    """
    rotating = lines - lines.mean(axis=0)
    weight = counts * np.exp(-np.clip(lines, 0, 12))
    share = min(1.0, 10 / len(theta_rad))
    slope2 = float((np.diff(rotating, axis=-1) ** 2 * weight[..., 1:]).sum()) * share
    signal = float((rotating**2 * weight).sum()) * share
    return slope2 > 0.5 / _LARGEST_BOUND_PX**2 and np.sqrt(signal) > _LEAST_SIGNAL


def _null(name: str, kind: str, s: Settings, rng: Rng) -> Case:
    """Simulate a scan without an answer."""
    s = replace(s, **NULLS_BY_NAME[kind](rng))
    theta_rad = angles(s, rng)
    kept = np.array(spread_rows([(s.n_rows - 1) // 2], s.n_rows))
    pairs = opposing_pairs(theta_rad) if s.n_rows > 1 else np.zeros((0, 2), int)
    every = Part(np.arange(len(theta_rad)), kept)
    paired = Part(np.unique(pairs), np.arange(s.n_rows))
    instrument = Instrument(s, len(theta_rad), rng)
    raw, raw_few = null_frames(kind, instrument, every, paired)
    rows = keep(raw, raw_few, instrument, (every, paired, pairs), theta_rad)
    grid_px = try_grid(TryReconBlock(step_px=GRID_STEP_PX), s.n_cols, first_col=0)
    return Case(name, "", (kind,), rows, None, grid_px)
