"""Sharpness of slices: the right COR gives few edges and few grey values.

A wrong COR turns each point into an arc or a ring. Two numbers of a slice see it at any angles,
also over less than half a turn and for truncated objects: the entropy of its grey values [1]_ and
the ratio of the L1 to the L2 norm of its gradient. Both change slowly with the COR on their own, so
that their best value over a wide sweep means little: what counts is the deepest dip below the
running median of the curve. A sweep on binned columns finds it, one at full size refines it.

References
----------
.. [1] T. Donath et al., "Toward optimal estimation of the center of rotation", J. Opt. Soc. Am. A
   23, 1048 (2006).
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from tomopipe.find.angles import turn_of
from tomopipe.find.clean import clean_sinogram, shows_sample
from tomopipe.find.evidence import (
    MIN_ANGLES,
    NO_SAMPLE,
    Evidence,
    Finder,
    Peak,
    find_peak,
    judge,
    nothing,
    prominence,
    ramp,
    refine_peak,
    search_range,
)
from tomopipe.geometry import bin_cor, unbin_cor
from tomopipe.io.rows import Rows

METHOD = "slices"
_COARSE_COLS, _FINE_COLS = 128, 448  # about so many columns are left by binning
_ANGLES_PER_COLUMN = 1.5
_MIN_OVERLAP = 0.08  # of the columns
_MAX_ROWS = 2  # sinograms that vote
_RADIUS = 0.45  # of the disc that is looked at, in columns
_COARSE_BLUR_PX, _FINE_BLUR_PX = 0.6, 1.8  # fine slices are noisier
_LEVELS = 64  # grey values of the entropy
_BATCH = 32  # slices held at a time

Image = NDArray[np.float32]
Reconstruct = Callable[[Image, NDArray[np.float64], NDArray[np.float64]], Image]
"""From a sinogram (n_angles, n_cols), angles in radians and CORs (n_cor,) in its pixels to slices
(n_cor, n_cols, n_cols), the axis at [n_cols // 2 - 1, n_cols // 2]."""


def slice_finder(reconstruct: Reconstruct) -> Finder:
    """Return the finder that judges slices made by `reconstruct`.

    Parameters
    ----------
    reconstruct : callable
        Makes slices of one sinogram at several CORs.

    Returns
    -------
    Finder
        `find_slices` with this reconstruction.
    """

    def find(rows: Rows, candidates_px: NDArray[np.float64]) -> Evidence:
        return find_slices(rows, candidates_px, reconstruct)

    return find


def find_slices(
    rows: Rows, candidates_px: NDArray[np.float64], reconstruct: Reconstruct
) -> Evidence:
    """Find the COR that gives the sharpest slices.

    Parameters
    ----------
    rows : Rows
        What try_recon kept of the scan; up to two of its sinograms vote.
    candidates_px : ndarray of float, shape (n_candidates,)
        The try grid, unbinned px. All of the detector is looked at; a best match outside of the
        grid and its margin is reported as "edge".
    reconstruct : callable
        Makes slices of one sinogram at several CORs.

    Returns
    -------
    Evidence
        Score: mean height of the two measures above their running medians, in units of the mean
        absolute residual.
    """
    n_angles = len(rows.theta_rad)
    if n_angles < MIN_ANGLES:
        return nothing(METHOD, "flat", f"{n_angles} angles are too few", candidates_px)
    turn = turn_of(rows.theta_rad)
    if turn.step_rad == 0:
        return nothing(METHOD, "flat", "all angles are the same", candidates_px)
    sinograms = [clean_sinogram(s[turn.order]) for s in rows.sinograms[:_MAX_ROWS]]
    if not shows_sample(sinograms):
        return nothing(METHOD, "flat", NO_SAMPLE, candidates_px)
    n_cols = sinograms[0].shape[1]
    binning = max(1, round(n_cols / _COARSE_COLS))
    n_binned = n_cols // binning
    places = np.arange(_MIN_OVERLAP * n_binned, (1 - _MIN_OVERLAP) * n_binned - 1, 0.5)
    coarse_px = unbin_cor(places, binning=binning)
    inside = search_range(coarse_px, candidates_px)
    if not inside.any():
        return nothing(METHOD, "flat", "the candidates leave too little overlap", candidates_px)
    curves = np.concatenate(
        [_curves(s, turn.theta_rad, coarse_px, binning, reconstruct) for s in sinograms]
    )
    heights = np.array([prominence(curve, len(places) // 8) for curve in curves])
    score = heights.mean(axis=0)
    peak = find_peak(score, inside, apart=6)
    near_px = float(coarse_px[peak.best_index])
    best_px, each_px = _refine(sinograms, turn.theta_rad, near_px, binning, reconstruct)
    own_px = coarse_px[np.argmax(np.where(inside, heights, -np.inf), axis=1)]
    doubts = _doubts(
        peak,
        votes=float(np.mean(np.abs(own_px - near_px) <= 2.0 * binning)),
        spread_px=float(np.median(np.abs(each_px - best_px))),
        same=abs(best_px - near_px) <= 2.5 * binning,
        gap_deg=np.rad2deg(turn.gap_rad) if turn.gap_rad > 0.5 * turn.step_rad else 0.0,
    )
    doubts["the scan has no angles"] = 0.8 if rows.theta_missing else 1.0
    curve = np.interp(candidates_px, coarse_px, score)
    return judge(METHOD, best_px, peak, doubts, candidates_px, curve)


def _doubts(
    peak: Peak, *, votes: float, spread_px: float, same: bool, gap_deg: float
) -> dict[str, float]:
    """Factors for `judge`, set on 224 simulated scans.

    Of the right dips 95 % were deeper than 11, had rivals under 0.4 and measures that agreed to
    0.6 px. Less than half a turn biases both measures alike, of truncated objects by 1 px and more
    where 17 degrees are missing: too much to accept, but the best there is.
    """
    short = gap_deg > 0
    depth = ramp(peak.height, 6.0, 16.0) if short else ramp(peak.height, 5.0, 11.0)
    agree = ramp(spread_px, 1.0, 0.4) if short else ramp(spread_px, 1.5, 0.6)
    return {
        "the dip is shallow": depth,
        "another place dips nearly as deep": ramp(peak.rivalry, 0.9, 0.55),
        "rows or measures disagree": ramp(votes, 0.0, 0.6) * agree,
        "the coarse and the fine search disagree": 1.0 if same else 0.0,
        f"half a turn lacks {gap_deg:.1f} degrees": max(0.4, ramp(gap_deg, 20.0, 3.0)),
    }


def sharpness(
    slices: Image, window: tuple[float, float], blur_px: float = _COARSE_BLUR_PX
) -> NDArray[np.float64]:
    """Measure how few edges and how few grey values slices have.

    Parameters
    ----------
    slices : ndarray of float32, shape (n_cor, n, n)
        Slices of one sinogram.
    window : (float, float)
        Grey values that the histogram spans, the same for all slices.
    blur_px : float
        Gaussian smoothing before, against noise.

    Returns
    -------
    ndarray of float, shape (2, n_cor)
        Minus the entropy of the grey values, and minus the L1 over the L2 norm of the gradient, in
        a disc about the axis; higher is sharper.
    """
    n = slices.shape[1]
    inside = np.flatnonzero(_disc(n))
    smooth = ndimage.gaussian_filter(slices, (0, blur_px, blur_px), truncate=3.0)
    values = smooth.reshape(len(slices), -1)
    here = np.take(values, inside, axis=1)
    across = np.take(values, inside + 1, axis=1) - here
    along = np.take(values, inside + n, axis=1) - here
    square = across * across + along * along
    norm1, norm2 = np.sqrt(square).mean(axis=1), np.sqrt(square.mean(axis=1))
    low, high = window
    scale = _LEVELS / max(high - low, 1e-30)
    level = np.clip((here - low) * scale, 0, _LEVELS - 1).astype(np.intp)
    entropy = np.empty(len(slices))
    for i, one in enumerate(level):
        share = np.bincount(one, minlength=_LEVELS) / len(one)
        entropy[i] = -np.sum(share * np.log(np.maximum(share, 1e-12)))
    return np.stack([-entropy, -norm1 / np.maximum(norm2, 1e-30)])


def _disc(n: int) -> NDArray[np.bool_]:
    place = np.arange(n) - n / 2
    return np.hypot(place, place[:, None]) < _RADIUS * n


def _curves(
    sinogram: Image,
    theta_rad: NDArray[np.float64],
    cor_px: NDArray[np.float64],
    binning: int,
    reconstruct: Reconstruct,
    blur_px: float = _COARSE_BLUR_PX,
) -> NDArray[np.float64]:
    """Both measures (2, n_cor) of slices of a binned sinogram, a few slices at a time."""
    binned, theta_rad = _bin(sinogram, theta_rad, binning)
    n = binned.shape[1]
    # The edge value goes on beyond the detector: a truncated object gets no bright rim.
    pad = max(4, n // 4)
    wide = np.pad(binned, ((0, 0), (pad, pad)), mode="edge")
    places = bin_cor(cor_px, binning=binning) + pad
    first = wide.shape[1] // 2 - n // 2
    inner = slice(first, first + n)
    window: tuple[float, float] | None = None
    parts = []
    # The first batch is spread over all places, for a grey window that serves them all.
    order = np.argsort(np.arange(len(places)) % max(1, -(-len(places) // _BATCH)), kind="stable")
    for start in range(0, len(places), _BATCH):
        some = order[start : start + _BATCH]
        slices = reconstruct(wide, theta_rad, places[some])[:, inner, inner]
        if window is None:
            low, high = np.percentile(slices[::4, _disc(n)], [0.5, 99.5])
            window = float(low), float(high)
        parts.append(sharpness(slices, window, blur_px))
    curves = np.empty((2, len(places)))
    curves[:, order] = np.concatenate(parts, axis=1)
    return curves


def _bin(
    sinogram: Image, theta_rad: NDArray[np.float64], binning: int
) -> tuple[Image, NDArray[np.float64]]:
    """Average neighbouring columns, and neighbouring angles where there are more than needed."""
    n_cols = sinogram.shape[1] // binning
    binned = sinogram[:, : n_cols * binning].reshape(len(sinogram), n_cols, binning).mean(axis=2)
    group = max(1, int(len(binned) / (_ANGLES_PER_COLUMN * n_cols)))
    n_angles = len(binned) // group
    return (
        binned[: n_angles * group].reshape(n_angles, group, n_cols).mean(axis=1),
        theta_rad[: n_angles * group].reshape(n_angles, group).mean(axis=1),
    )


def _refine(
    sinograms: list[Image],
    theta_rad: NDArray[np.float64],
    near_px: float,
    coarse: int,
    reconstruct: Reconstruct,
) -> tuple[float, NDArray[np.float64]]:
    """COR near a place from finer slices, of all measures together and of each alone."""
    binning = max(1, round(sinograms[0].shape[1] / _FINE_COLS))
    reach_px = 1.5 * coarse + 1.5 * binning
    cor_px = near_px + np.arange(-reach_px, reach_px + 0.25 * binning, 0.5 * binning)
    curves = np.concatenate(
        [_curves(s, theta_rad, cor_px, binning, reconstruct, _FINE_BLUR_PX) for s in sinograms]
    )
    heights = curves - np.median(curves, axis=1, keepdims=True)
    heights /= np.maximum(np.abs(heights).mean(axis=1, keepdims=True), 1e-30)
    each = [refine_peak(h, int(np.argmax(h)), reach=4) for h in (heights.mean(axis=0), *heights)]
    places_px = cor_px[0] + 0.5 * binning * np.array(each)
    return float(places_px[0]), places_px[1:]
