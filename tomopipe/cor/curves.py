"""All evidence about the COR of one scan as curves on one grid, and its refinement near a COR.

The grid spans the whole detector in steps of half a binned column; binning leaves about 256 to 384
columns, whatever the detector. They are the input of the network; nothing is decided here.

The double wedge: a sinogram and its mirrored copy make 360 degrees only about the true axis.

The 2-D Fourier transform of a 360-degree sinogram of an object of radius R vanishes where
|v| > 2 pi R |f| (v: cycles per rotation, f: cycles per px). The mirrored copy for a wrong COR makes
a step where both are joined, which spills into that region [1]_. The sum of magnitudes there is
evaluated for every shift from partial sums of one transform, without transforming again:

    F(v, k; d) = A(v, k) + (-1)^v exp(-2 pi i k (N - 1 + d) / N) W + exp(pi i v / n) conj(C - W)

with P(v, u) the transform of the 180 degrees along the angles (zero-padded to 360, 2 n angles),
A(v, k) = sum_u P exp(-2 pi i k u / N), C = sum_u P exp(2 pi i k u / N) and W the part of C from the
columns which the mirrored copy, shifted by d, has. The last term is the fill of [1]_: where the
copy has no data, the 180 degrees themselves, in reverse order.

References
----------
.. [1] N. T. Vo et al., "Reliable method for calculating the center of rotation in parallel-beam
   tomography", Opt. Express 22, 19078 (2014).
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from tomopipe.cor.answer import prominence, refine_peak
from tomopipe.cor.kernels import add_up
from tomopipe.cor.mass import centre_of_mass
from tomopipe.cor.prepared import Prepared
from tomopipe.cor.registration import OpposingLines, difference_score, register, registration_score
from tomopipe.cor.sinograms import (
    MIN_OVERLAP,
    Image,
    SortedAngles,
    bin_columns,
    binning_to,
    resample_180,
    robust_sigma,
)
from tomopipe.cor.slices import (
    MEASURES,
    MinimumTotalVariation,
    coarse_slices,
    in_own_units,
    minimum_total_variation,
    refine_slices,
)
from tomopipe.geometry import unbin_cor

_RATIO = 0.5  # radius of the object over half the width, as in [1]
_COARSE_SIGMA, _FINE_SIGMA = 3.0, 1.5  # smoothing along the angle, rows
_ANGLES = 360  # angles over 180 degrees; more are averaged


def wedge_metric(
    half: NDArray[np.float32], shifts: NDArray[np.intp], angle_sigma: float = _COARSE_SIGMA
) -> NDArray[np.float64]:
    """Mean Fourier magnitude outside the double wedge for mirrored copies at given shifts.

    `half` is 180 degrees (n, n_cols), evenly spaced, without the end; the shifts are consecutive
    ascending d = 2 cor - (n_cols - 1), |d| < n_cols. Lowest at the COR; less smoothing is sharper
    and noisier.
    """
    n, n_cols = half.shape
    v, k, weight = _region(n, n_cols, angle_sigma)
    if weight.size == 0 or not weight.any():
        return np.zeros(len(shifts))
    spectrum = fft.rfft(half, 2 * n, axis=0)[v].astype(np.complex64)
    wave = _waves(np.arange(n_cols), k, n_cols)
    direct = spectrum @ np.conj(wave)
    whole = spectrum @ wave
    sign = np.where(v % 2 == 0, 1.0, -1.0).astype(np.float32)
    back = np.exp(1j * np.pi * v / n).astype(np.complex64)
    constant = direct + back[:, None] * np.conj(whole)
    low, high = max(0, int(shifts[0])), n_cols + min(0, int(shifts[0]))
    part = whole if high - low == n_cols else spectrum[:, low:high] @ wave[low:high]  # W
    # one column less or more from one shift to the next
    column = np.where(shifts > 0, shifts - 1, n_cols - 1 + shifts)
    change = np.where(shifts > 0, -1, 1).astype(np.float32)
    change[0] = 0
    phase = _waves(1 - shifts, k, n_cols)
    inside = weight > 0
    ends = inside.argmax(axis=1), len(k) - inside[:, ::-1].argmax(axis=1)
    metric = np.empty(len(shifts))
    fixed, moving = map(_planes, (constant, phase, wave)), (spectrum, column, change)
    add_up(*fixed, sign, back, weight, *ends, *moving, _planes(part), metric)
    return metric / weight.sum()


def _waves(column: NDArray[np.intp], k: NDArray[np.intp], n_cols: int) -> NDArray[np.complex64]:
    """Return exp(2 pi i k column / n_cols), (n_columns, n_k)."""
    turn = np.exp(2j * np.pi * np.arange(n_cols) / n_cols).astype(np.complex64)
    return turn[np.outer(column, k) % n_cols]


def _planes(values: NDArray[np.complex64]) -> NDArray[np.float32]:
    """Return real and imaginary parts, (2, ...)."""
    return np.array([values.real, values.imag])


def _region(
    n: int, n_cols: int, angle_sigma: float
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
    """Frequencies outside the double wedge: v > 0, k of both signs, and their weights.

    Rows and columns next to zero frequency are skipped (stripes and offsets live there); the
    weight is the transfer function of a Gaussian along the angle.
    """
    v_low = min(20, int(0.05 * 2 * n)) + 1
    v_high = min(n, int(0.84 * n / angle_sigma) + 8)
    v = np.arange(v_low, max(v_low, v_high))
    radius_px = 0.5 * _RATIO * n_cols
    limit = np.ceil(v * n_cols / (2 * np.pi * radius_px)).astype(int)
    k_high = min(int(limit.max(initial=0)), (n_cols - 1) // 2)
    k = np.concatenate([np.arange(-k_high, -1), np.arange(2, k_high + 1)])
    smooth = np.exp(-2 * (np.pi * angle_sigma * v / (2 * n)) ** 2)
    inside = np.abs(k)[None, :] <= limit[:, None]
    return v, k, (inside * smooth[:, None]).astype(np.float32)


def _wedge_score(
    sinograms: list[Image],
    angles: SortedAngles,
    shifts: NDArray[np.intp],
    angle_sigma: float = _COARSE_SIGMA,
) -> NDArray[np.float64]:
    """Return 1 less the metric over its mean (n_shifts,), averaged over halves of sinograms."""
    starts = [0.0, np.pi] if angles.full_rotation else [0.0]
    scores = []
    for sinogram in sinograms:
        # A drifting beam would make a step at the join, the smaller the nearer to the middle.
        level = sinogram - sinogram.mean(axis=1, keepdims=True)
        for start in starts:
            half = resample_180(level, angles, start, _ANGLES)
            metric = wedge_metric(half, shifts, angle_sigma)
            mean = float(metric.mean())
            scores.append(1 - metric / mean if mean > 0 else np.zeros_like(metric))
    return np.mean(scores, axis=0)


def refine_wedge(
    sinograms: list[Image], angles: SortedAngles, near_px: float, reach_px: float
) -> float:
    """Refine a COR at full width."""
    n_cols = sinograms[0].shape[1]
    middle = round(2 * near_px) - (n_cols - 1)
    reach = max(8, round(2 * reach_px))
    shifts = np.arange(max(middle - reach, 1 - n_cols), min(middle + reach, n_cols - 1) + 1)
    score = _wedge_score(sinograms, angles, shifts, _FINE_SIGMA)
    return float(n_cols - 1 + shifts[0] + refine_peak(score, int(np.argmax(score)), reach=2)) / 2


KINDS = ("pairs", "rows", "difference", "moving", "wedge", *MEASURES, "mass")
"""Order of the curves: projection pairs, opposing rows, the difference of either, the same without
fixed patterns, double wedge, entropy, edges and negativity of slices, centre of mass."""

_COLS = 320  # columns left by binning, about
_MAX_GAP_DEG = 30.0  # largest gap in 180 degrees for the double wedge
_FINE_ROWS = 2  # sinograms used to refine the double wedge
_MOVING_PX = 4.0  # smoothing
_MOVING_OVERLAP = {True: 0.5, False: 1.0}  # power of the overlap, in a full rotation and over less
_TREND = 8  # the running median spans this part of the detector


@dataclass(frozen=True, eq=False)
class CurveSet:
    """Evidence of several kinds about the COR, on one grid."""

    # (n_grid,): the whole detector, ascending in steps of half a binned column; unbinned
    cor_px: NDArray[np.float64]
    raw: NDArray[np.float32]  # (n_kinds, n_grid): higher is better; 0 where a kind has no answer
    # (n_kinds, n_grid): height above the running median in units of the mean absolute residual, z,
    # compressed to sign(z) log(1 + z**2 / 4)
    prominence: NDArray[np.float32]
    valid: NDArray[np.bool_]  # (n_kinds,): whether a kind has a signal
    texture: NDArray[np.float32]  # (n_grid,): its share in opposing rows that overlaps
    scan: dict[str, float]  # numbers that describe the scan (`describe`)


@dataclass(frozen=True, eq=False)
class Curves:
    """All evidence about the COR of one scan; each part is computed on first use."""

    prepared: Prepared  # the scan

    @property
    def binning(self) -> int:
        """Columns averaged into one."""
        return binning_to(_COLS, self.prepared.n_cols)

    @property
    def reach_px(self) -> float:
        """CORs closer than this are refined to the same one: 4 px, or 2 binned columns."""
        return max(4.0, 2.0 * self.binning)

    @property
    def cor_px(self) -> NDArray[np.float64]:
        """The grid, (n_grid,): the whole detector in steps of half a binned column; unbinned."""
        n_grid = 2 * (self.prepared.n_cols // self.binning) - 1
        return unbin_cor(np.arange(n_grid) / 2, binning=self.binning)

    @cached_property
    def measures(self) -> CurveSet:
        """All of `KINDS`; none valid where a scan has under 8 angles, or all angles are one."""
        cor_px = self.cor_px
        raw = np.zeros((len(KINDS), len(cor_px)))
        valid = np.zeros(len(KINDS), dtype=bool)
        height = np.zeros_like(raw)
        texture = np.zeros(len(cor_px))
        if not self.prepared.unusable_angles:
            evidence, texture = _evidence(self)
            for name, (curve_px, score) in evidence.items():
                i = KINDS.index(name)
                inside = (cor_px >= curve_px[0] - 1e-9) & (cor_px <= curve_px[-1] + 1e-9)
                valid[i] = bool(np.ptp(score) > 0)
                raw[i, inside] = np.interp(cor_px[inside], curve_px, score)
                # A bump has no trend.
                of_kind = raw[i, inside]
                trend = len(of_kind) // _TREND
                height[i, inside] = 10 * of_kind if name == "mass" else prominence(of_kind, trend)
        return CurveSet(
            cor_px=cor_px,
            raw=raw.astype(np.float32),
            prominence=(np.sign(height) * np.log1p(height**2 / 4)).astype(np.float32),
            valid=valid,
            texture=texture.astype(np.float32),
            scan=describe(self.prepared),
        )

    @cached_property
    def moving(self) -> NDArray[np.float64] | None:
        """Difference of opposing lines without fixed patterns; None without lines."""
        moving = self.prepared.opposing.get("moving")
        if moving is None:
            return None
        power = _MOVING_OVERLAP[self.prepared.angles.full_rotation]
        return difference_score(moving.binned(self.binning), _MOVING_PX, power)

    @cached_property
    def centre_of_mass(self) -> tuple[float, float] | None:
        """COR by the centre of mass of binned columns and its uncertainty, unbinned px, or None."""
        prepared, binning = self.prepared, self.binning
        if not prepared.rows.minus_log or not prepared.shows_sample:
            return None
        result = centre_of_mass([bin_columns(s, binning) for s in prepared.plain], prepared.angles)
        return result and (float(unbin_cor(result[0], binning=binning)), result[1] * binning)

    @cached_property
    def total_variation(self) -> MinimumTotalVariation | None:
        """Axis of minimum total variation, if there is one."""
        return minimum_total_variation(self.prepared)


Evidence = dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]


def _evidence(curves: Curves) -> tuple[Evidence, NDArray[np.float64]]:
    """CORs and scores of each kind that a scan has; the share of texture that overlaps."""
    prepared, binning, cor_px = curves.prepared, curves.binning, curves.cor_px
    result: Evidence = {}
    texture = np.zeros(len(cor_px))
    for name, lines in prepared.opposing.items():
        if name == "moving" and curves.moving is not None:
            result[name] = cor_px, curves.moving
        elif name == "difference":
            result[name] = cor_px, difference_score(lines.binned(binning))
        elif matched := registration_score(lines.binned(binning)):
            result[name] = cor_px, matched[0][-1]
            texture = matched[1][-1]
    if np.rad2deg(prepared.angles.gap_rad) <= _MAX_GAP_DEG:
        n_cols = prepared.n_cols // binning
        limit = int((1 - MIN_OVERLAP) * n_cols)
        shifts = np.arange(-limit, limit + 1)
        binned = [bin_columns(s, binning) for s in prepared.sinograms]
        score = _wedge_score(binned, prepared.angles, shifts)
        result["wedge"] = unbin_cor((n_cols - 1 + shifts) / 2, binning=binning), score
    slices_px, measures = coarse_slices(prepared)
    # Mean of the sinograms, each in units of its own spread: their contrasts differ.
    means = in_own_units(measures).mean(axis=0)
    result |= {name: (slices_px, mean) for name, mean in zip(MEASURES, means, strict=True)}
    if curves.centre_of_mass is not None:
        # A bump as wide as the uncertainty, no taller than that allows.
        centre_px, sigma_px = curves.centre_of_mass
        width_px = np.hypot(sigma_px, 0.5 * binning)
        bump = np.exp(-0.5 * ((cor_px - centre_px) / width_px) ** 2)
        result["mass"] = cor_px, bump * min(1.0, 1.5 * binning / width_px)
    return result, texture


def describe(prepared: Prepared) -> dict[str, float]:
    """Return numbers that describe how reliable each kind of evidence is in this scan.

    One of half_turn (180 degrees), full_turn (360) and short_turn (limited angles) is 1: the recipe
    of the network's input has these names. pair_motion_px is the possible motion of the rim between
    the two of a pair; contrast the range of values over the noise between neighbouring columns;
    turning is the share of the variation that rotates, air 1 where both sides of the sample show
    some.
    """
    rows, angles = prepared.rows, prepared.angles
    first = prepared.plain[0]
    noise = robust_sigma(np.diff(first[:: max(1, len(first) // 64)], axis=1)) / np.sqrt(2.0)
    extent = float(np.ptp(np.percentile(first[:: max(1, len(first) // 64)], [2, 98])))
    images = prepared.opposing.get("pairs")
    short = float(not angles.reaches_180 and angles.gap_rad > 0)
    return {
        "half_turn": 1.0 - short - float(angles.full_rotation),
        "full_turn": float(angles.full_rotation),
        "short_turn": short,
        "gap_deg": float(np.rad2deg(angles.gap_rad)),
        "step_deg": float(np.rad2deg(angles.step_rad)),
        "n_angles": float(len(rows.theta_rad)),
        "n_rows": float(len(rows.sinograms)),
        "n_pairs": float(len(rows.pairs)),
        "pair_motion_px": images.motion_px if images is not None else 0.0,
        "contrast": extent / max(float(noise), 1e-9 + 1e-6 * extent),
        "turning": prepared.rotating_share,
        "air": float(prepared.has_air),
        "theta_missing": float(rows.theta_missing),
        "minus_log": float(rows.minus_log),
    }


def refine(curves: Curves, near_px: float) -> dict[str, float]:
    """Refine a COR, unbinned px, at full size, by each kind of evidence that can.

    Kinds are "pairs", "rows", "difference", "moving", "wedge", "slices" and "mass"; the results
    are within about `Curves.reach_px` of `near_px`.
    """
    prepared = curves.prepared
    refined_px: dict[str, float] = {}
    if prepared.unusable_angles:
        return refined_px
    reach_px = curves.reach_px
    for name, lines in prepared.opposing.items():
        if name in ("difference", "moving"):
            refined_px[name] = _least_difference(lines, near_px, reach_px)
        elif registered := register(lines, near_px, reach_px):
            refined_px[name] = registered[0]
    if np.rad2deg(prepared.angles.gap_rad) <= _MAX_GAP_DEG:
        sinograms = prepared.sinograms[:_FINE_ROWS]
        refined_px["wedge"] = refine_wedge(sinograms, prepared.angles, near_px, reach_px)
    refined_px["slices"] = refine_slices(prepared, near_px, reach_px)
    mass = curves.centre_of_mass
    if mass is not None and abs(mass[0] - near_px) <= reach_px:
        refined_px["mass"] = mass[0]
    return {name: px for name, px in refined_px.items() if 0 <= px <= prepared.n_cols - 1}


def _least_difference(opposing: OpposingLines, near_px: float, reach_px: float) -> float:
    """COR near another where the lines differ least from their counterparts."""
    score = difference_score(opposing)
    middle, reach = round(2 * near_px), round(2 * reach_px)
    low, high = max(0, middle - reach), min(len(score), middle + reach + 1)
    best = low + int(np.argmax(score[low:high]))
    return refine_peak(score, best, reach=2) / 2
