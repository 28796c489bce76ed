"""All evidence about the COR of one scan as curves on one grid, and its refinement near a place.

The grid spans the whole detector in steps of half a binned column: the curves are made of columns
binned to some 256 to 384, whatever the detector. They are what `tomopipe.cor.combine` adds up and
what the network looks at; nothing is decided here.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from tomopipe.cor.clean_rows import bin_columns, robust_sigma
from tomopipe.cor.evidence import MIN_ANGLES, prominence, refine_peak
from tomopipe.cor.mass import centre_of_mass, sees_air
from tomopipe.cor.opposed import Opposed
from tomopipe.cor.register import difference_score, register, seam_score
from tomopipe.cor.rows_file import Rows
from tomopipe.cor.seen import Seen, see
from tomopipe.cor.sharpness import MEASURES
from tomopipe.cor.slices import Reconstruct, coarse_slices, refine_slices
from tomopipe.cor.wedge import coarse_wedge, refine_wedge
from tomopipe.geometry import unbin_cor

KINDS = ("pairs", "rows", "difference", "moving", "wedge", *MEASURES, "mass")
"""Order of the curves: projection pairs, opposed rows, the difference of either, that of what moves
alone, double wedge, entropy, edges and negativity of slices, centre of mass."""

_COLS = 320  # about so many columns are left by binning
_MAX_GAP_DEG = 30.0  # of half a turn, which the double wedge may lack
_FINE_ROWS, _FINE_ANGLES = 2, 360  # that refine the double wedge
_MOVING_PX = 4.0  # smoothing
_MOVING_OVERLAP = {True: 0.5, False: 1.0}  # power of the overlap, in a full turn and over less
_TREND = 8  # the running median spans this part of the detector


@dataclass(frozen=True, eq=False)
class Curves:
    """Evidence of each of `KINDS` about the COR.

    Attributes
    ----------
    cor_px : ndarray of float64, shape (n_grid,)
        The whole detector, ascending in even steps of half a binned column; unbinned px.
    binning : int
        Columns averaged into one.
    raw : ndarray of float32, shape (n_kinds, n_grid)
        Higher is better; 0 where a kind can say nothing.
    prominence : ndarray of float32, shape (n_kinds, n_grid)
        Height above the running median in units of the mean absolute residual, z, compressed to
        sign(z) log(1 + z**2 / 4).
    valid : ndarray of bool, shape (n_kinds,)
        Whether a kind saw anything.
    overlap, texture : ndarray of float32, shape (n_grid,)
        Share of the columns, and of the texture in opposed rows, that overlap about a COR.
    scan : dict
        Numbers that describe the scan (`describe`).
    """

    cor_px: NDArray[np.float64]
    binning: int
    raw: NDArray[np.float32]
    prominence: NDArray[np.float32]
    valid: NDArray[np.bool_]
    overlap: NDArray[np.float32]
    texture: NDArray[np.float32]
    scan: dict[str, float]


@lru_cache(maxsize=1)  # the sum and the network ask for the same
def evidence_curves(rows: Rows, reconstruct: Reconstruct) -> Curves:
    """Evaluate all kinds of evidence over the whole detector.

    Parameters
    ----------
    rows : Rows
        What try_recon kept of the scan.
    reconstruct : callable
        Makes slices of one sinogram at several CORs.

    Returns
    -------
    Curves
        None of them valid where a scan has under 8 angles, or all angles are one.
    """
    seen = see(rows)
    binning = max(1, round(seen.n_cols / _COLS))
    n_grid = 2 * (seen.n_cols // binning) - 1
    cor_px = unbin_cor(np.arange(n_grid) / 2, binning=binning)
    raw = np.zeros((len(KINDS), n_grid))
    valid = np.zeros(len(KINDS), dtype=bool)
    height = np.zeros_like(raw)
    texture = np.zeros(n_grid)
    if len(rows.theta_rad) >= MIN_ANGLES and seen.turn.step_rad > 0:
        found, texture = _seam_curves(seen, binning)
        found |= _wedge_curve(seen, binning) | _slice_curves(seen, reconstruct)
        found |= _mass_curve(seen, cor_px, binning)
        for name, (place_px, score) in found.items():
            i = KINDS.index(name)
            here = (cor_px >= place_px[0] - 1e-9) & (cor_px <= place_px[-1] + 1e-9)
            valid[i] = bool(np.ptp(score) > 0)
            raw[i, here] = np.interp(cor_px[here], place_px, score)
            # A bump has no trend.
            height[i, here] = 10 * raw[i, here] if name == "mass" else _height(raw[i, here])
    overlap = 1 - np.abs(np.linspace(-1, 1, n_grid))
    return Curves(
        cor_px=cor_px,
        binning=binning,
        raw=raw.astype(np.float32),
        prominence=(np.sign(height) * np.log1p(height**2 / 4)).astype(np.float32),
        valid=valid,
        overlap=overlap.astype(np.float32),
        texture=texture.astype(np.float32),
        scan=describe(seen),
    )


Found = dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]


def _height(score: NDArray[np.float64]) -> NDArray[np.float64]:
    return prominence(score, len(score) // _TREND)


def _seam_curves(seen: Seen, binning: int) -> tuple[Found, NDArray[np.float64]]:
    """Likelihood of registration; the share of texture that overlaps."""
    found: Found = {}
    n_cols = seen.n_cols // binning
    cor_px = unbin_cor(np.arange(2 * n_cols - 1) / 2, binning=binning)
    texture = np.zeros(len(cor_px))
    for name, opposed in (("pairs", seen.opposed_images), ("rows", seen.opposed_rows)):
        if opposed is None:
            continue
        binned = opposed.binned(binning)
        matched = seam_score(binned)
        if matched is not None:
            found[name] = cor_px, matched[0][-1]
            texture = matched[1][-1]
    if seen.most_lines is not None:
        found["difference"] = cor_px, difference_score(seen.most_lines.binned(binning))
    if seen.moving is not None:
        moving, power = seen.moving.binned(binning), _MOVING_OVERLAP[seen.turn.full]
        found["moving"] = cor_px, difference_score(moving, _MOVING_PX, power)
    return found, texture


def _wedge_curve(seen: Seen, binning: int) -> Found:
    if np.rad2deg(seen.turn.gap_rad) > _MAX_GAP_DEG:
        return {}
    cor_px, score = coarse_wedge(seen.sinograms, seen.turn, binning)
    return {"wedge": (cor_px, score.mean(axis=0))}


def _slice_curves(seen: Seen, reconstruct: Reconstruct) -> Found:
    """Mean of the sinograms, each in units of its own spread: their contrasts differ."""
    cor_px, measures = coarse_slices(seen, reconstruct)
    measures = measures - np.median(measures, axis=2, keepdims=True)
    measures /= np.maximum(np.abs(measures).mean(axis=2, keepdims=True), 1e-30)
    return {name: (cor_px, measures[:, i].mean(axis=0)) for i, name in enumerate(MEASURES)}


def _mass_curve(seen: Seen, cor_px: NDArray[np.float64], binning: int) -> Found:
    """A bump as wide as the uncertainty, no taller than that allows."""
    found = _mass(seen, binning)
    if found is None:
        return {}
    place_px, sigma_px = found
    width_px = np.hypot(sigma_px, 0.5 * binning)
    bump = np.exp(-0.5 * ((cor_px - place_px) / width_px) ** 2)
    return {"mass": (cor_px, bump * min(1.0, 1.5 * binning / width_px))}


@lru_cache(maxsize=1)  # the curve and the refinement ask for the same
def _mass(seen: Seen, binning: int) -> tuple[float, float] | None:
    """COR by the centre of mass and its uncertainty, unbinned px."""
    if not seen.rows.minus_log or not seen.shows_sample:
        return None
    found = centre_of_mass([bin_columns(s, binning) for s in seen.plain], seen.turn)
    if found is None:
        return None
    return float(unbin_cor(found[0], binning=binning)), found[1] * binning


def describe(seen: Seen) -> dict[str, float]:
    """Numbers that tell what can be expected of each kind of evidence in a scan.

    Parameters
    ----------
    seen : Seen
        The scan.

    Returns
    -------
    dict
        half_turn, full_turn, short_turn: one of them is 1; span_deg, gap_deg, step_deg; n_angles,
        n_cols, n_rows (kept), n_pairs, pair_motion_px; noise (between neighbouring columns),
        contrast (noise over the range of values), turning (whether something turns); air (on both
        sides of the sample), theta_missing, minus_log.
    """
    rows, turn = seen.rows, seen.turn
    first = seen.plain[0]
    noise = robust_sigma(np.diff(first[:: max(1, len(first) // 64)], axis=1)) / np.sqrt(2.0)
    extent = float(np.ptp(np.percentile(first[:: max(1, len(first) // 64)], [2, 98])))
    images = seen.opposed_images
    short = float(not turn.closes and turn.gap_rad > 0)
    return {
        "half_turn": 1.0 - short - float(turn.full),
        "full_turn": float(turn.full),
        "short_turn": short,
        "span_deg": float(np.rad2deg(turn.span_rad)),
        "gap_deg": float(np.rad2deg(turn.gap_rad)),
        "step_deg": float(np.rad2deg(turn.step_rad)),
        "n_angles": float(len(rows.theta_rad)),
        "n_cols": float(seen.n_cols),
        "n_rows": float(len(rows.sinograms)),
        "n_pairs": float(len(rows.pairs)),
        "pair_motion_px": images.motion_px if images is not None else 0.0,
        "noise": float(noise),
        "contrast": extent / max(float(noise), 1e-9 + 1e-6 * extent),
        "turning": seen.turning,
        "air": float(sees_air(seen)),
        "theta_missing": float(rows.theta_missing),
        "minus_log": float(rows.minus_log),
    }


def refine(rows: Rows, near_px: float, reconstruct: Reconstruct) -> dict[str, float]:
    """Estimate the COR around one place at full size, by each kind of evidence that can.

    Parameters
    ----------
    rows : Rows
        What try_recon kept of the scan.
    near_px : float
        The place, unbinned px; found within 4 px, or 2 binned columns where those are more.
    reconstruct : callable
        Makes slices of one sinogram at several CORs.

    Returns
    -------
    dict
        COR, unbinned px, of some of "pairs", "rows", "difference", "moving", "wedge", "slices",
        "mass".
    """
    seen = see(rows)
    places: dict[str, float] = {}
    if len(rows.theta_rad) < MIN_ANGLES or seen.turn.step_rad == 0:
        return places
    binning = max(1, round(seen.n_cols / _COLS))
    reach_px = max(4.0, 2.0 * binning)
    for name, opposed in (("pairs", seen.opposed_images), ("rows", seen.opposed_rows)):
        place_px = None if opposed is None else _register(opposed, near_px, reach_px)
        if place_px is not None:
            places[name] = place_px
    for name, lines in (("difference", seen.most_lines), ("moving", seen.moving)):
        if lines is not None:
            places[name] = _least_difference(lines, near_px, reach_px)
    if np.rad2deg(seen.turn.gap_rad) <= _MAX_GAP_DEG:
        some = seen.sinograms[:_FINE_ROWS]
        places["wedge"], _ = refine_wedge(some, seen.turn, near_px, reach_px, _FINE_ANGLES)
    places["slices"], _ = refine_slices(seen, near_px, reach_px, reconstruct)
    mass = _mass(seen, binning)
    if mass is not None and abs(mass[0] - near_px) <= reach_px:
        places["mass"] = mass[0]
    return {name: place for name, place in places.items() if 0 <= place <= seen.n_cols - 1}


def _register(opposed: Opposed, near_px: float, reach_px: float) -> float | None:
    """COR near a place; None where next to nothing overlaps."""
    n_cols = opposed.here.shape[1]
    lag = round(2 * near_px) - (n_cols - 1)
    n_lags = min(round(2 * reach_px), (n_cols - abs(lag)) // 4)
    return register(opposed, lag, n_lags)[0] if n_lags >= 4 else None


def _least_difference(opposed: Opposed, near_px: float, reach_px: float) -> float:
    """COR near a place where the lines differ least from their counterparts."""
    score = difference_score(opposed)
    middle, reach = round(2 * near_px), round(2 * reach_px)
    low, high = max(0, middle - reach), min(len(score), middle + reach + 1)
    best = low + int(np.argmax(score[low:high]))
    return refine_peak(score, best, reach=2) / 2
