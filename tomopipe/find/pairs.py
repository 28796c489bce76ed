"""Register projections half a turn apart: flipped left to right, one must cover the other.

With p the projection at t and q the one at t + pi, p(u) = q(2 cor - u). The flipped q matches p
after a shift by d = 2 cor - (n_cols - 1), found by normalised cross-correlation of band-passed
rows over the overlap only [1]_. Fixed patterns of the detector do not turn with the sample: they
are found unflipped, and removed.

In a full turn each row has its opposite, and all of them are registered over the whole detector.
That is all that half acquisition needs, where the axis is near an edge and opposed projections
share a narrow strip: many rows that find the same place make up for the little they share.

References
----------
.. [1] D. Padfield, "Masked object registration in the Fourier domain", IEEE Trans. Image Process.
   21, 2706 (2012).
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from tomopipe.find.angles import Turn, opposed_rows, turn_of
from tomopipe.find.clean import band_pass, clean_sinogram, remove_zingers, shows_sample
from tomopipe.find.evidence import (
    MIN_ANGLES,
    NO_SAMPLE,
    Evidence,
    Peak,
    find_peak,
    judge,
    nothing,
    ramp,
    refine_peak,
    search_range,
)
from tomopipe.io.rows import Rows

METHOD = "pairs"
_MIN_OVERLAP = 0.08  # of the columns
_TRIM_PX = 6  # columns next to an edge of the detector that the refinement leaves out
_LAGS = 4


@dataclass(frozen=True, eq=False)
class Opposed:
    """Lines and their counterparts half a turn later, flipped left to right.

    Attributes
    ----------
    here, flipped : ndarray of float32, shape (n_lines, n_cols)
        Line i of both shows the same matter, mirrored about the axis.
    group : ndarray of int, shape (n_lines,)
        Lines of one group vote together.
    motion_px : float
        How far the rim of the sample may have moved since exactly half a turn.
    """

    here: NDArray[np.float32]
    flipped: NDArray[np.float32]
    group: NDArray[np.intp]
    motion_px: float


def find_pairs(rows: Rows, candidates_px: NDArray[np.float64]) -> Evidence:
    """Find the COR from opposed projections, or from opposed rows of the sinograms.

    Parameters
    ----------
    rows : Rows
        What try_recon kept of the scan.
    candidates_px : ndarray of float, shape (n_candidates,)
        The try grid, unbinned px. All of the detector is looked at; a best match outside of the
        grid and its margin is reported as "edge".

    Returns
    -------
    Evidence
        Score: sqrt(-overlap * log(1 - r**2)) of the correlation r, the root of twice its
        log-likelihood ratio per column.
    """
    n_angles = len(rows.theta_rad)
    if n_angles < MIN_ANGLES:
        return nothing(METHOD, "flat", f"{n_angles} angles are too few", candidates_px)
    turn = turn_of(rows.theta_rad)
    sinograms = [clean_sinogram(sinogram[turn.order]) for sinogram in rows.sinograms]
    if not shows_sample(sinograms):
        return nothing(METHOD, "flat", NO_SAMPLE, candidates_px)
    opposed = _opposed(rows, sinograms, turn)
    if opposed is None:
        reason = "no two projections are half a turn apart"
        return nothing(METHOD, "flat", reason, candidates_px)
    n_cols = opposed.here.shape[1]
    here, flipped = _band(opposed, max(4.0, n_cols / 16))
    if not (here.any() and flipped.any()):
        return nothing(METHOD, "flat", "the projections show nothing", candidates_px)
    score = likelihood(*correlate(here, flipped, opposed.group))
    cor_px = np.arange(score.shape[1]) / 2
    usable = 1 - np.abs(2 * cor_px / (n_cols - 1) - 1) >= _MIN_OVERLAP
    cor_px, score = cor_px[usable], score[:, usable]
    inside = search_range(cor_px, candidates_px)
    if not inside.any():
        return nothing(METHOD, "flat", "the candidates leave too little overlap", candidates_px)
    peak = find_peak(score[-1], inside, apart=6)
    best_px, each_px = register(opposed, round(2 * cor_px[peak.best_index]) - (n_cols - 1))
    spread_px = float(np.median(np.abs(each_px - best_px)))
    own_px = cor_px[np.argmax(score[:-1], axis=1)]
    votes = float(np.mean(np.abs(own_px - cor_px[peak.best_index]) <= 2.0))
    many = turn.full and len(own_px) >= 5 and opposed.here.shape[0] >= 80
    doubts = _doubts(peak, n_cols, votes, spread_px, opposed.motion_px, many=many)
    doubts["the scan has no angles"] = 0.8 if rows.theta_missing else 1.0
    curve = np.interp(candidates_px, cor_px, score[-1])
    return judge(METHOD, best_px, peak, doubts, candidates_px, curve)


def _doubts(
    peak: Peak, n_cols: int, votes: float, spread_px: float, motion_px: float, *, many: bool
) -> dict[str, float]:
    """Factors for `judge`, set on 800 simulated scans with a sample and 500 without.

    Chance matches of one row shrink with the root of its length: noise, dirt and drift reached
    heights of 0.6 on 128 columns. Of the right matches 99 % were above 0.7, and 98 % had rivals
    under 0.52 of their height. Where the rim may have moved since half a turn, all wrong matches
    were lower than 1. Of `many` rows of a full turn, free of stripes, several groups that find the
    same place count as much as a high match.
    """
    significant = ramp(peak.height * np.sqrt(n_cols / 128), 0.55, 0.85)
    weak = significant * ramp(peak.height, 0.2, 0.4)
    if many:
        weak = max(weak, 0.9 * ramp(votes, 0.4, 0.8) * ramp(spread_px, 0.7, 0.3))
    still = 1.0 - 0.25 * max(0.0, motion_px - 0.5)
    return {
        "the match is weak": weak,
        "another place matches nearly as well": ramp(peak.rivalry, 0.8, 0.55),
        "rows disagree": ramp(votes, 0.0, 0.6) * ramp(spread_px, 2.0, 0.7),
        "the angles are not quite half a turn apart": max(
            0.4, still, 0.75 * ramp(peak.height, 1.0, 1.15)
        ),
    }


def likelihood(correlation: NDArray[np.float64], share: NDArray[np.float64]) -> NDArray[np.float64]:
    """Signed root of the log-likelihood ratio of a correlation that a share of the data supports.

    A square counts 0.95 times: a perfect match of one edge is hardly better than a good one.
    """
    square = 0.95 * np.minimum(correlation**2, 1.0)
    return np.asarray(np.sign(correlation) * np.sqrt(-share * np.log1p(-square)))


def correlate(
    here: NDArray[np.float32], flipped: NDArray[np.float32], group: NDArray[np.intp]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Normalised cross-correlation of lines over their overlap at every shift.

    Parameters
    ----------
    here, flipped : ndarray of float32, shape (n_lines, n_cols)
        Band-passed lines, so that their local mean is 0.
    group : ndarray of int, shape (n_lines,)
        Groups 0 to n_groups - 1.

    Returns
    -------
    correlation, share : ndarray of float, shape (n_groups + 1, 2 * n_cols - 1)
        At shifts -(n_cols - 1) to n_cols - 1 of `flipped` to the right, that is at a COR of
        0, 0.5, 1, ...; the last row is all groups together. The share is that of the texture
        (the energy of the lines) that lies in the overlap.
    """
    n_cols = here.shape[1]
    n_fft = fft.next_fast_len(2 * n_cols - 1, real=True)
    cross = fft.rfft(here, n_fft) * np.conj(fft.rfft(flipped, n_fft))
    n_groups = int(group.max()) + 1
    product = np.zeros((n_groups + 1, 2 * n_cols - 1))
    first, second = np.zeros((2, n_groups + 1, n_cols))
    for g in range(n_groups):
        some = group == g
        around = fft.irfft(cross[some].sum(axis=0, dtype=np.complex128), n_fft)
        product[g] = np.concatenate([around[-(n_cols - 1) :], around[:n_cols]])
        first[g] = np.sum(here[some].astype(float) ** 2, axis=0)
        second[g] = np.sum(flipped[some].astype(float) ** 2, axis=0)
    for sums in (product, first, second):
        sums[-1] = sums[:-1].sum(axis=0)
    share_first = _overlap_share(first)
    share_second = _overlap_share(second)[:, ::-1]
    norm = np.sqrt(first.sum(axis=1) * second.sum(axis=1))[:, None]
    share = np.sqrt(share_first * share_second)
    # The floor of a tenth of the average texture keeps empty overlaps from matching by chance.
    floor = 0.1 * (1 - np.abs(np.arange(1 - n_cols, n_cols)) / n_cols)
    weight = norm * np.sqrt((share_first + floor) * (share_second + floor))
    return product / np.maximum(weight, np.finfo(float).tiny), share


def _overlap_share(energy: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of the energy in the columns that overlap at each shift."""
    n_cols = energy.shape[1]
    sums = np.concatenate([np.zeros((len(energy), 1)), np.cumsum(energy, axis=1)], axis=1)
    lags = np.arange(-(n_cols - 1), n_cols)
    inside = sums[:, np.minimum(n_cols, n_cols + lags)] - sums[:, np.maximum(0, lags)]
    return inside / np.maximum(sums[:, -1:], np.finfo(float).tiny)


def remove_fixed(
    here: NDArray[np.float32], flipped: NDArray[np.float32], limit: float = 0.5
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Remove what lies at the same place in both projections before the flip.

    Parameters
    ----------
    here, flipped : ndarray of float32, shape (n_lines, n_cols)
        Band-passed lines.
    limit : float
        Correlation of the unflipped lines above which there is such a pattern.

    Returns
    -------
    tuple of ndarray
        Both lines less, at each place, the smaller of the two where they have one sign.
    """
    there = flipped[:, ::-1]
    norm = np.sqrt(np.sum(here.astype(float) ** 2) * np.sum(there.astype(float) ** 2))
    if norm == 0 or np.sum(here.astype(float) * there) / norm < limit:
        return here, flipped
    shared = np.where(
        here * there > 0, np.sign(here) * np.minimum(np.abs(here), np.abs(there)), 0
    ).astype(np.float32)
    return here - shared, (there - shared)[:, ::-1]


def _opposed(rows: Rows, sinograms: list[NDArray[np.float32]], turn: Turn) -> Opposed | None:
    """All rows of a full turn; else projection pairs half a turn apart to 1 px; else rows."""
    if turn.full or not (len(rows.pairs) and rows.pairs.shape[2]):
        return opposed_sinograms(sinograms, turn)
    motion_px = _motion_px(rows)
    exact = motion_px <= 1.0
    if exact.any():
        return _from_pairs(rows.pairs[exact], float(motion_px[exact].max()))
    return opposed_sinograms(sinograms, turn) or _from_pairs(rows.pairs, float(motion_px.max()))


def _motion_px(rows: Rows) -> NDArray[np.float64]:
    """How far the rim moves between exactly half a turn and each pair."""
    excess_rad = np.diff(rows.pair_theta_rad, axis=1)[:, 0]
    return np.abs(excess_rad % (2 * np.pi) - np.pi) * rows.pairs.shape[3] / 2


def opposed_images(rows: Rows, n_bands: int) -> Opposed | None:
    """Return the projection pairs half a turn apart to 1 px, grouped by bands of rows.

    Parameters
    ----------
    rows : Rows
        What try_recon kept of the scan.
    n_bands : int
        Groups; each holds its rows of all pairs.

    Returns
    -------
    Opposed or None
        None without such a pair.
    """
    motion_px = _motion_px(rows)
    exact = motion_px <= 1.0
    if not exact.any():
        return None
    opposed = _from_pairs(rows.pairs[exact], float(motion_px[exact].max()), n_bands)
    return replace(opposed, group=opposed.group % n_bands)


def _from_pairs(
    pairs: NDArray[np.float32], motion_px: float, n_bands: int | None = None
) -> Opposed:
    """Each pair votes in bands of rows: up to 8 in all, fewer where one would have under 8 rows."""
    n_pairs, _, n_rows, n_cols = pairs.shape
    if n_bands is None:
        n_bands = min(max(1, 8 // n_pairs), max(1, n_rows // 8))
    band = np.arange(n_rows) * n_bands // n_rows
    finite = np.nan_to_num(pairs, nan=0.0, posinf=0.0, neginf=0.0)
    lines = np.array([[remove_zingers(image) for image in pair] for pair in finite])
    return Opposed(
        here=lines[:, 0].reshape(-1, n_cols),
        flipped=lines[:, 1, :, ::-1].reshape(-1, n_cols),
        group=(np.arange(n_pairs)[:, None] * n_bands + band).reshape(-1),
        motion_px=motion_px,
    )


def opposed_sinograms(
    sinograms: list[NDArray[np.float32]], turn: Turn, max_parts: int | None = None
) -> Opposed | None:
    """Return opposed rows of sinograms, grouped by sinogram and part of the turn.

    Parameters
    ----------
    sinograms : list of ndarray, each of shape (n_angles, n_cols)
        Cleaned, in the order of `turn`.
    turn : Turn
        The angles.
    max_parts : int, optional
        Most parts of one sinogram; by default some 8 groups in all, of at least 8 rows each.

    Returns
    -------
    Opposed or None
        None where no two rows are half a turn apart.
    """
    most = max_parts or 8 // len(sinograms)
    here: list[NDArray[np.float32]] = []
    flipped: list[NDArray[np.float32]] = []
    group: list[NDArray[np.intp]] = []
    for sinogram in sinograms:
        first, second = opposed_rows(sinogram, turn)
        if not len(first):
            return None
        n_parts = max(1, min(len(first) // 8, most))
        group.append(np.arange(len(first)) * n_parts // len(first) + n_parts * len(group))
        here.append(first)
        flipped.append(second[:, ::-1])
    # An end that was extrapolated by half a step moves by up to step * n_cols / 4.
    motion_px = 0.0 if turn.closes else turn.step_rad * here[0].shape[1] / 4
    return Opposed(np.concatenate(here), np.concatenate(flipped), np.concatenate(group), motion_px)


def _band(opposed: Opposed, long_px: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Band-pass both sides and remove what does not turn; what is only rounding becomes 0."""
    sides = []
    for lines in (opposed.here, opposed.flipped):
        band = band_pass(lines, 1.0, long_px)
        rounding = 1e-5 * max(float(np.max(np.abs(lines))), 1e-12)
        sides.append(band if np.std(band) > rounding else np.zeros_like(band))
    here, flipped = sides
    return remove_fixed(here, flipped)


def register(opposed: Opposed, lag: int) -> tuple[float, NDArray[np.float64]]:
    """Find the COR near an integer shift to a fraction of a pixel.

    Only fine structure (1 to 6 px) counts, at least 6 px away from the edges of the detector,
    where the band-pass sees the repeated edge value.

    Parameters
    ----------
    opposed : Opposed
        Lines to register.
    lag : int
        2 cor - (n_cols - 1) to within 4.

    Returns
    -------
    best_px : float
        COR of all lines together.
    each_px : ndarray of float, shape (n_groups,)
        COR of each group alone.
    """
    n_cols = opposed.here.shape[1]
    low, high = max(0, lag), min(n_cols, n_cols + lag)
    trim = min(_TRIM_PX + _LAGS, max(_LAGS, (high - low) // 4))
    here, flipped = _band(opposed, 6.0)
    window = here[:, low + trim : high - trim].astype(np.float64)
    n_groups = int(opposed.group.max()) + 1
    product = np.zeros((n_groups, 2 * _LAGS + 1))
    energy = np.zeros_like(product)
    for i, extra in enumerate(range(-_LAGS, _LAGS + 1)):
        shift = lag + extra
        other = flipped[:, low + trim - shift : high - trim - shift]
        np.add.at(product[:, i], opposed.group, np.einsum("ij,ij->i", window, other))
        np.add.at(energy[:, i], opposed.group, np.einsum("ij,ij->i", other, other))
    match = product / np.sqrt(np.maximum(energy, 1e-30))
    total = product.sum(axis=0) / np.sqrt(np.maximum(energy.sum(axis=0), 1e-30))
    best = refine_peak(total, int(np.argmax(total)))
    each = np.array([refine_peak(m, int(np.argmax(m))) for m in match])
    first = (n_cols - 1 + lag - _LAGS) / 2
    return first + best / 2, first + each / 2
