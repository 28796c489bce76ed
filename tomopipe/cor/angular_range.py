"""Prove from the projections that a scan covers another range of angles than the stated one.

The steps between the frames are equal, the range is 180, 360, 540 or 720 degrees, and the last
frame is at its end or one step before it. Let P(w, t) be the Fourier transform of a detector row at
the angle t and F = exp(i w cor) P. As rows 180 degrees apart are mirror images, the real part of F
has even harmonics of t alone and its imaginary part odd ones; a sample that reaches r px from the
axis has none above w r (Helgason-Ludwig) [1]_. So each hypothesis about the range is a linear model
of all frames, those in between included; what it leaves unexplained at each spatial frequency w is
its likelihood.

A sample that moves shifts rows, and a shift by as much as the rim moves in a step looks like a
step. The power spectrum of a row depends neither on shifts nor on the axis, and repeats every 180
degrees. So a result for more than 180 degrees must hold for the power spectra alone, too; within
180 degrees only the first and the last frames are compared, and a shift between them is the same as
another axis, which is fitted.

The direction of rotation cannot be known: a mirrored sample that rotates the other way looks the
same.

References
----------
.. [1] P. R. Edholm, R. M. Lewitt, B. Lindholm, Proc. SPIE 671, 8-18 (1986), doi:10.1117/12.966672.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tomopipe.arrays import evenly_spread
from tomopipe.cor.answer import refine_peak
from tomopipe.cor.registration import OpposingLines, registration_score
from tomopipe.cor.sinograms import Image, average_angles

SIGNIFICANCE = 4.5
"""Standard errors by which the second best hypothesis has to be worse."""
_SYMMETRIC_SIGNIFICANCE, _POWER_SIGNIFICANCE = 3.0, 3.5
_REPEATED = 0.8  # of simulated scans false multiples explained 0.6 at most, true ones 1.0

_N_180 = (1, 2, 3, 4)  # ranges of 180 degrees in the scan
_ENDS = np.array([0.0, 1.0])  # steps from the last frame to the end of the range
_NEAR_ENDS = np.arange(-1.5, 2.6, 0.5)
_FAR = 0.25  # share of the columns: largest distance of the axis from the middle
_MARGIN = 3  # harmonics beyond w r
_FILLED = 0.9  # parameters over frames
_HARMONICS = 80  # at most
_COUNTING_ROWS = 12
_BEYOND_DETECTOR = 1.6  # reach of a truncated sample, over half the columns
_FAINT = 0.01  # of the mean row: below that is air
_WIDER = 1.1  # reach that is assumed, over the measured one
_BLOCKS = 12  # at least, and at least 4 of each row, if there are as many frequencies
_MAX_ERROR = 0.3  # of the measured end, steps
_PAIRS = 24  # of frames 180 degrees apart, to find the axis of a truncated sample
# Against stated angles: ranges so much wider, by so many standard errors and such a mean logarithm
# of what is left. None of 1100 right scans is both (bench_stated_range.py at ef7c9bb8). What is
# left counts from a hundredth on: below it symmetric objects without noise differ.
_MUCH_WIDER, _STATED_SIGNIFICANCE, _STATED_EFFECT, _COUNTS = 1.15, 6.0, 0.08, 0.01
_PARTIAL_BASIS = 12  # parameters that less than 180 degrees have beyond their share
_SHIFTED = 0.1  # share of the columns: largest distance of another axis from the stated angles' one

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class _View:
    """Cleaned rows (n_rows, n_used, n_cols), columns of the sample."""

    lines: Image
    first_col: int
    last_col: int
    truncated: bool

    @property
    def n_cols(self) -> int:
        return int(self.lines.shape[2])

    def reach_px(self, cor_px: float | None = None) -> float:
        """Return how far the sample reaches from the axis; None: at least, wherever that is."""
        if self.truncated:
            return _BEYOND_DETECTOR * self.n_cols / 2
        if cor_px is None:
            return _WIDER * (self.last_col - self.first_col) / 2 + 1
        return _WIDER * max(cor_px - self.first_col, self.last_col - cor_px) + 1


@dataclass(frozen=True, eq=False)
class _Channels:
    """Fourier coefficients of rows (n_groups, n_rows, n_w).

    `numbers` are those of the frames, or of groups of neighbouring ones; `w` and the harmonics that
    a channel may have are of shape (n_w,).
    """

    values: NDArray[np.complex128]
    numbers: Floats
    w: Floats
    harmonics: NDArray[np.intp]
    n_frames: int


@dataclass(frozen=True, eq=False)
class _Fit:
    """Minus log-likelihood (n_ends, n_rows, n_w) and axis (n_ends,) of each assumed end."""

    misfit: Floats
    cor_px: Floats

    @property
    def best(self) -> int:
        return int(np.argmin(self.misfit.sum(axis=(1, 2))))


def proven_stop_deg(sinograms: Image) -> float:
    """Return the angle of the last frame, of 180, 360, 540 or 720 degrees; 0: not proven.

    `sinograms` (n_rows, n_frames, n_cols) are cleaned rows, -log, in the order in which they were
    taken, at equal steps. Standard errors are from the scatter of rows and spatial frequencies.
    """
    view = _find_sample(sinograms)
    if view is None:
        return 0.0
    few = replace(view, lines=view.lines[evenly_spread(len(view.lines), _COUNTING_ROWS)])
    fits = {}
    for n_180 in _N_180:
        if (fit := _fit_at_best_axis(few, n_180)) is None:
            return 0.0
        fits[n_180] = fit
    n_w = min(fit.misfit.shape[2] for fit in fits.values())  # those that all have
    misfits = {n_180: fit.misfit[fit.best][:, :n_w] for n_180, fit in fits.items()}
    n_180 = min(misfits, key=lambda n_180: misfits[n_180].sum())
    for other, misfit in misfits.items():
        # these need a sample that repeats itself within 180 degrees, too
        least = _SYMMETRIC_SIGNIFICANCE if n_180 % other == 0 else SIGNIFICANCE
        if other != n_180 and _margin(misfit - misfits[n_180]) < least:
            return 0.0
    cor_px = float(fits[n_180].cor_px[fits[n_180].best])
    # A sample that moved, or that is symmetric: its power spectra come again sooner.
    if _explained_by_multiples(few, n_180, cor_px) > _REPEATED:
        return 0.0
    steps = _steps_to_end(view, n_180, cor_px)
    return 0.0 if steps is None else 180.0 * n_180 * (1 - steps / view.lines.shape[1])


def wider_range_deg(sinograms: Image, stated_deg: float, cor_px: float) -> float:
    """Return the true range, 180 or 360 degrees, of a scan whose stated range is smaller.

    0: the stated range is not contradicted. `sinograms` (n_rows, n_angles, n_cols) are cleaned
    rows in the order of their angles, at equal steps, `cor_px` the axis that the stated angles
    give. Other ranges cannot be distinguished: the stated one has to fit much worse.
    """
    wider = [n_180 for n_180 in _N_180[:2] if 180 * n_180 >= _MUCH_WIDER * stated_deg]
    view = _find_sample(sinograms) if wider else None
    if view is None:
        return 0.0
    channels = _channels(view, cor_px, max(wider))
    if channels is None:
        return 0.0
    stated, far_px = stated_deg / 180, _SHIFTED * view.n_cols
    fit = _fit_rows(channels, stated, _ENDS[:1], cor_px + np.arange(-3, 3.1, 0.5))
    n_basis = 2 * channels.harmonics.astype(np.float64)
    n_partial: Floats = np.minimum(n_basis, n_basis * stated + _PARTIAL_BASIS)
    left = _left_over(channels, fit, n_partial + 3)
    result = {}
    for n_180 in wider:
        others_px = cor_px + np.arange(-far_px, far_px + 0.1, 0.5)
        fit = _fit_rows(channels, n_180, _ENDS, others_px)
        worse = left - _left_over(channels, fit, n_basis + 3)
        if worse.mean() >= _STATED_EFFECT and _margin(worse) >= _STATED_SIGNIFICANCE:
            result[180.0 * n_180] = float(worse.mean())
    return max(result, key=lambda range_deg: result[range_deg], default=0.0)


def _left_over(channels: _Channels, fit: _Fit, n_parameters: Floats) -> Floats:
    """Return the logarithm of the share of each channel that the best end leaves, (n_rows, n_w)."""
    n_data = 2 * len(channels.numbers)
    unbiased = np.exp(2 * fit.misfit[fit.best] / n_data)  # of all parameters
    unbiased *= (n_data - 2 * channels.harmonics - 3) / (n_data - n_parameters)
    return np.asarray(np.log(_COUNTS + unbiased))


def _steps_to_end(view: _View, n_180: int, cor_px: float) -> int | None:
    """Return how many steps the last frame is before the end, 0 or 1; None: neither."""
    channels = _channels(view, cor_px, n_180)
    if channels is None:
        return None
    near_px = cor_px + np.arange(-2, 2.1, 0.25)
    beyond, error = _measure(_fit_rows(channels, n_180, _NEAR_ENDS, near_px))
    end = int(np.clip(np.round(beyond), 0, 1))
    if not _decides(beyond, error, end):
        return None
    if n_180 > 1:
        power = _channels(view, cor_px, n_180, power=True)
        if power is None:
            return None
        measured = _measure(_fit_power(power, n_180, _NEAR_ENDS))
        if not _decides(*measured, end, _POWER_SIGNIFICANCE):
            return None
    return end


def _decides(beyond: float, error: float, end: float, least: float = SIGNIFICANCE) -> bool:
    """Tell whether a measured end is `end`, 0 or 1, and certainly not the other of both."""
    near = max(error, abs(beyond - end)) <= _MAX_ERROR
    return near and abs(beyond - (1 - end)) >= least * error


def _find_sample(lines: Image) -> _View | None:
    """Find where the sample is in cleaned rows; None where there is none."""
    mean = np.abs(lines.mean(axis=(0, 1)))
    filled = np.flatnonzero(mean > _FAINT * mean.max())
    if not mean.max() > 0:
        return None
    truncated = max(mean[:3].mean(), mean[-3:].mean()) > 0.05 * mean.max()
    return _View(
        lines,
        0 if truncated else int(filled[0]),
        lines.shape[2] - 1 if truncated else int(filled[-1]),
        bool(truncated),
    )


def _window(view: _View, cor_px: float | None) -> Floats:
    """Return weights of the columns: the same on both sides of the axis, where that matters."""
    if not view.truncated or cor_px is None:
        return np.ones(view.n_cols)
    half_px = (0.5 - _FAR) * view.n_cols
    half_px = max(half_px, min(cor_px, view.n_cols - 1 - cor_px))
    away = np.abs(np.arange(view.n_cols) - cor_px) / half_px
    return np.asarray(np.cos(np.clip((away - 0.55) / 0.45, 0, 1) * np.pi / 2) ** 2)


def _fit_at_best_axis(view: _View, n_180: int) -> _Fit | None:
    """Fit rows with both ends; first with the least possible reach, then about the axis."""
    middle, far = (view.n_cols - 1) / 2, _FAR * view.n_cols
    cors_px, cor_px = middle + np.arange(-far, far + 1), None
    if not view.truncated:
        # over 180 degrees a sample off the axis fills one side of it more, but not this much
        filled_px = (view.first_col + view.last_col) / 2
        cors_px = cors_px[np.abs(cors_px - filled_px) <= 0.35 * view.reach_px()]
        if len(cors_px) < 2:
            return None
    if view.truncated:
        cor_px = _registered(view, n_180)
        cors_px = cor_px + np.arange(-2, 2.1, 0.5)
    fit = None
    for _ in range(2):
        # for all ranges the frequencies that the largest one leaves
        channels = _channels(view, cor_px, max(_N_180))
        if channels is None:
            return None
        fit = _fit_rows(channels, n_180, _ENDS, cors_px)
        cor_px = float(np.clip(fit.cor_px[fit.best], middle - far, middle + far))
    return fit


def _registered(view: _View, n_180: int) -> float:
    """Find the axis by registering frames 180 degrees apart; the middle if they do not overlap."""
    n_frames, n_cols = view.lines.shape[1:]
    apart = round((n_frames - 0.5) / n_180) if n_180 > 1 else n_frames - 1
    n_pairs = min(_PAIRS, n_frames - apart)
    first = np.linspace(0, n_frames - 1 - apart, n_pairs).round().astype(int)
    lines, partners = (view.lines[:, frame].reshape(-1, n_cols) for frame in (first, first + apart))
    group = np.zeros(len(lines), dtype=np.intp)
    scored = registration_score(OpposingLines(lines, partners[:, ::-1], group, 0.0))
    middle_px, cors_px = (n_cols - 1) / 2, np.arange(2 * n_cols - 1) / 2
    if scored is None:
        return middle_px
    near = np.abs(cors_px - middle_px) <= _FAR * n_cols
    return float(cors_px[near][scored[0][-1][near].argmax()])


def _channels(
    view: _View, cor_px: float | None, n_180: int, *, power: bool = False
) -> _Channels | None:
    """Transform rows; keep the frequencies whose harmonics the frames of 180 degrees resolve.

    Of dense scans neighbouring frames are averaged. None where next to no frequency is left. Power
    spectra do not depend on where the axis is.
    """
    n_rows, n_frames, n_cols = view.lines.shape
    window, reach_px = _window(view, cor_px), view.reach_px(None if power else cor_px)
    w = 2 * np.pi * np.arange(1, n_cols // 2) / n_cols
    harmonics = (np.ceil(w * reach_px).astype(np.intp) + _MARGIN) * (2 if power else 1)
    usable = (harmonics + 2 <= _FILLED * n_frames / n_180) & (harmonics <= _HARMONICS)
    if usable.sum() < 2:
        return None
    coefficients = np.fft.rfft(view.lines * window, axis=-1)[:, :, 1 : n_cols // 2][:, :, usable]
    if power:
        coefficients = np.abs(coefficients) ** 2
    values, numbers = coefficients.swapaxes(0, 1), np.arange(n_frames, dtype=float)
    w, harmonics = w[usable], harmonics[usable]
    group = max(1, int(_FILLED / 2 * n_frames / (n_180 * harmonics.max())))
    half = n_frames // 2 // group * group  # what is left over lies in the middle of the scan
    if half:
        both = np.r_[0:half, n_frames - half : n_frames]
        values, numbers = average_angles(values[both].reshape(len(both), -1), numbers[both], group)
    return _Channels(values.reshape(-1, n_rows, len(w)), numbers, w, harmonics, n_frames)


def _fit_rows(channels: _Channels, n_180: float, ends: Floats, cors_px: Floats) -> _Fit:
    """Fit harmonics to rows, each end with the axis that suits it best."""
    n_data, n_parameters = 2 * len(channels.numbers), 2 * channels.harmonics + 3
    misfits, axes = [], []
    for end in ends:
        sums = _explained(channels, n_180, end)
        coarse = _misfit(_unexplained(sums, channels.w, cors_px), n_data, n_parameters)
        best_px = cors_px[coarse.sum(axis=(1, 2)).argmin()]
        fine_px = best_px + np.arange(-1, 1.001, 0.04) * (cors_px[1] - cors_px[0])
        fine = _misfit(_unexplained(sums, channels.w, fine_px), n_data, n_parameters)
        best = fine.sum(axis=(1, 2)).argmin()
        misfits.append(fine[best])
        axes.append(fine_px[best])
    return _Fit(np.array(misfits), np.array(axes))


def _explained(channels: _Channels, n_180: float, end: float) -> Floats:
    """Return the sums from which the fit at any axis follows, (7, n_rows, n_w).

    All energy; then of even and of odd harmonics the explained energy of the real part and of the
    imaginary part, and their product. A constant goes with the odd ones: that is no sample, but
    what does not rotate.
    """
    values = channels.values
    both = np.stack([values.real, values.imag], axis=1)
    sums = [np.sum(np.abs(values) ** 2, axis=0)]
    for first in (2, 1):
        coefficients, last = _coefficients(channels, both, n_180, end, first)
        real, imaginary = coefficients.swapaxes(0, 1)
        for product in (real**2, imaginary**2, real * imaginary):
            sums.append(_up_to(last, product))
    return np.array(sums)


def _unexplained(sums: Floats, w: Floats, cors_px: Floats) -> Floats:
    """Return the share of the energy that is left at some axes, (n_cors, n_rows, n_w)."""
    phase = np.outer(cors_px, w)[:, None]
    cos, sin = np.cos(phase), np.sin(phase)
    total, even_rr, even_ii, even_ri, odd_rr, odd_ii, odd_ri = sums
    even = even_rr * cos**2 + even_ii * sin**2 - 2 * even_ri * cos * sin
    odd = odd_rr * sin**2 + odd_ii * cos**2 + 2 * odd_ri * cos * sin
    return np.asarray(1 - (even + odd) / np.maximum(total, np.finfo(float).tiny))


def _misfit(left: Floats, n_data: int, n_parameters: NDArray[np.intp]) -> Floats:
    """Return minus the log-likelihood of a share of the energy that is left."""
    left = np.maximum(left, 1e-9)
    return np.asarray(n_data / 2 * np.log(left * n_data / (n_data - n_parameters)))


def _fit_power(channels: _Channels, n_180: int, ends: Floats) -> _Fit:
    """Fit harmonics of 180 degrees to power spectra."""
    values = channels.values.real - channels.values.real.mean(axis=0)
    n_data, n_parameters = len(values), channels.harmonics + 1
    total = np.maximum(np.sum(values**2, axis=0), np.finfo(float).tiny)
    misfits = []
    for end in ends:
        coefficients, last = _coefficients(channels, values, n_180, end, 2)
        explained = _up_to(last, coefficients**2)
        misfits.append(_misfit(1 - explained / total, n_data, n_parameters))
    return _Fit(np.array(misfits), np.zeros(len(ends)))


def _coefficients(
    channels: _Channels, values: Floats, n_180: float, end: float, first: int
) -> tuple[Floats, NDArray[np.intp]]:
    """Project on a constant and every second harmonic, made orthonormal in this order.

    Returns coefficients (n_basis, ...) of values (n_groups, ...), of which the sum of the squares
    of the first ones is what they explain, and the last one that a frequency may have (n_w,).
    """
    theta_rad = np.pi * n_180 * channels.numbers / (channels.n_frames - 1 + end)
    orders = np.arange(first, int(channels.harmonics.max()) + 1, 2)
    phase = np.outer(theta_rad, orders)
    basis = np.ones((len(theta_rad), 2 * len(orders) + 1))
    basis[:, 1::2], basis[:, 2::2] = np.cos(phase), np.sin(phase)
    gram = basis.T @ basis
    gram[np.diag_indices_from(gram)] *= 1 + 1e-7
    # an inverse, as the triangular solver is SciPy's, which takes long to import
    inverse = np.linalg.inv(np.linalg.cholesky(gram))
    coefficients = inverse @ (basis.T @ values.reshape(len(values), -1))
    last = 2 * np.searchsorted(orders, channels.harmonics, side="right")
    return coefficients.reshape(-1, *values.shape[1:]), last


def _up_to(last: NDArray[np.intp], products: Floats) -> Floats:
    """Add up products (n_basis, n_rows, n_w) to the last one of each frequency: (n_rows, n_w)."""
    return np.cumsum(products, axis=0)[last, :, np.arange(len(last))].T


def _explained_by_multiples(view: _View, n_180: int, cor_px: float) -> float:
    """Return the most that a multiple of n_180 explains of the power spectra, over what it does."""
    multiples = [m for m in _N_180 if m > n_180 and m % n_180 == 0]
    channels = _channels(view, cor_px, max(_N_180), power=True) if multiples else None
    if channels is None:
        return float(bool(multiples))
    explained = []
    for m in (n_180, *multiples):
        fit = _fit_power(channels, m, _ENDS)
        explained.append(np.sum(1 - np.exp(2 * fit.misfit[fit.best] / len(channels.numbers))))
    return float(max(explained[1:]) / explained[0]) if explained[0] > 0 else 1.0


def _margin(worse: Floats) -> float:
    """Return the mean over its standard error of (n_rows, n_w), all frequencies of a row as one.

    Of few rows there are several parts, each with frequencies from the lowest to the highest: what
    distinguishes the ranges are often the lowest ones alone.
    """
    n_parts = min(-(-_BLOCKS // len(worse)), worse.shape[1])
    parts = np.array([row[first::n_parts].sum() for row in worse for first in range(n_parts)])
    error = parts.std(ddof=1) / np.sqrt(len(parts))
    return float(parts.mean() / max(error, np.finfo(float).tiny))


def _measure(fit: _Fit) -> tuple[float, float]:
    """Return where between the ends the fit is best, and the standard error (jackknife)."""
    _, n_rows, n_w = fit.misfit.shape
    total = fit.misfit.sum(axis=(1, 2))
    bands = np.array_split(np.arange(n_w), min(n_w, max(4, _BLOCKS // n_rows)))
    without = np.array(
        [
            _lowest(total - fit.misfit[:, row, band].sum(axis=1))
            for row in range(n_rows)
            for band in bands
        ]
    )
    n = len(without)
    error = np.sqrt((n - 1) / n * np.sum((without - without.mean()) ** 2))
    return _lowest(total), float(error)


def _lowest(misfit: Floats) -> float:
    """Return the end of the lowest misfit, to a part of their step."""
    at = refine_peak(-misfit, int(np.argmin(misfit)))
    return float(_NEAR_ENDS[0] + at * (_NEAR_ENDS[1] - _NEAR_ENDS[0]))
