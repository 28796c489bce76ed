"""Input of the methods: sorted and cleaned sinograms of a scan, made once for all of them.

Also the match of projections after a sideways shift, and the test whether something rotates: lines
180 degrees apart must match better than others do.

Fixed structure that fades, such as dust in a drifting beam, can be symmetric about some column, and
then matches its mirror image at any two angles. A sample does so only 180 degrees apart: pairs of
other angles, mirrored about the same column, are the null hypothesis that a match has to beat.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from tomopipe.cor.answer import MIN_ANGLES, NO_SAMPLE
from tomopipe.cor.collected_rows import Rows
from tomopipe.cor.mass import has_air
from tomopipe.cor.registration import (
    OpposingLines,
    opposing_projections,
    opposing_sinograms,
    overlap_sums,
    products_at_shifts,
    subtract_counterparts,
)
from tomopipe.cor.sinograms import (
    Image,
    SortedAngles,
    bin_columns,
    binning_to,
    fill_dead_columns,
    finite,
    opposed_angles,
    remove_stripes,
    remove_zingers,
    rotating_share,
    rows_at,
    rows_beside,
    sort_angles,
)
from tomopipe.geometry import bin_cor
from tomopipe.prep.bad_pixels import find_empty_frames

# motion of the rim from one projection to the next: beyond it they differ too much
_MAX_STEP_PX = 10.0
_REACH = 1 / 16  # share of the columns: beyond it textures match by chance

Floats = NDArray[np.float64]
Numbers = NDArray[np.intp]
_COLS = 512  # columns left by binning, about
_SMOOTH_PX, _TREND = 1.5, 0.21  # the mean over this share of the columns is subtracted
_ALIKE_ROWS = 1.5  # standard deviation of the average over neighbouring angles
_MIN_ROTATING_SHARE = 0.2  # least value with a sample


@dataclass(frozen=True, eq=False)
class Prepared:
    """Rows of one scan, cleaned."""

    rows: Rows  # what try_recon kept

    @cached_property
    def angles(self) -> SortedAngles:
        """Sorted angles."""
        return sort_angles(self.rows.theta_rad)

    @property
    def n_cols(self) -> int:
        """Columns of the detector."""
        return int(self.rows.sinograms.shape[2])

    @property
    def match_binning(self) -> int:
        """Columns averaged into one before projections are matched."""
        return binning_to(_COLS, self.n_cols)

    @cached_property
    def empty_frames(self) -> Numbers:
        """Projections without the sample, such as flats among them, by their places."""
        return find_empty_frames(self.rows.sinograms)

    @cached_property
    def plain(self) -> list[Image]:
        """Sinograms in the order of the angles, finite, without zingers and dead columns."""
        ordered = (finite(s)[self.angles.order] for s in self.rows.sinograms)
        return [fill_dead_columns(remove_zingers(s)) for s in ordered]

    @cached_property
    def sinograms(self) -> list[Image]:
        """As `plain`, without stripes."""
        return [remove_stripes(sinogram) for sinogram in self.plain]

    @cached_property
    def smooth_lines(self) -> Image:
        """The rows (n_rows, n_angles, n_cols), binned and smoothed."""
        binned = bin_columns(np.array(self.sinograms, np.float32), self.match_binning)
        return np.asarray(ndimage.gaussian_filter1d(binned, _SMOOTH_PX, mode="nearest"))

    @cached_property
    def lines_to_match(self) -> Image:
        """As `smooth_lines`, without their trend."""
        lines = self.smooth_lines
        width = max(9, round(_TREND * lines.shape[2]))
        return np.asarray(lines - ndimage.uniform_filter1d(lines, width, mode="nearest"))

    @cached_property
    def has_air(self) -> bool:
        """Whether there is air on both sides of the sample, in the first row."""
        return has_air(self.plain[0])

    @cached_property
    def rotating_share(self) -> float:
        """Median share of the variation that rotates with the sample; 0 with one angle."""
        shares = [rotating_share(sinogram) for sinogram in self.sinograms if len(sinogram) > 1]
        return float(np.median(shares)) if shares else 0.0

    @cached_property
    def shows_sample(self) -> bool:
        """Whether something rotates: else there are only noise, drift or fixed patterns."""
        return self.rotating_share >= _MIN_ROTATING_SHARE

    @cached_property
    def projections(self) -> OpposingLines | None:
        """Opposing projections, None without any."""
        return opposing_projections(self.rows)

    @cached_property
    def opposing(self) -> dict[str, OpposingLines]:
        """Opposing lines of each kind of evidence that has some.

        Those of "pairs" are the projections closest to 180 degrees apart, those of "rows" of the
        sinograms; "difference" has rows, or projections 180 degrees apart to 1 px that hold more
        lines. "moving" has lines without fixed patterns: dust, rings, an outdated flat field. Over
        360 degrees the mean of all angles is subtracted, and neighbouring angles are averaged
        against noise. Over less, the mean of the sample is not the same on both sides of the axis:
        there each line is taken less its counterpart.
        """
        images = self.projections
        rows = opposing_sinograms(self.sinograms, self.angles)
        most = rows
        if rows is None or (
            images is not None and images.motion_px <= 1.0 and len(images.direct) > len(rows.direct)
        ):
            most = images
        if self.angles.full_rotation:
            first_rad = opposed_angles(self.angles)
            both_rad = np.concatenate([first_rad, first_rad + np.pi])
            used = np.unique(rows_beside(self.angles.theta_rad, both_rad))
            moving = [_moving(sinogram, used) for sinogram in self.sinograms]
            without = opposing_sinograms(moving, self.angles)
        else:
            without = most and subtract_counterparts(most)
        lines = {"pairs": images, "rows": rows, "difference": most, "moving": without}
        return {kind: of_kind for kind, of_kind in lines.items() if of_kind is not None}

    def lines_by_time(self, n_rows: int) -> Image:
        """Return up to `n_rows` rows to match, in the order of acquisition."""
        return self.lines_to_match[:n_rows, np.argsort(self.angles.order)]

    @property
    def median_step_rad(self) -> float:
        """Median step between projections; 0 if there is none, or it is too large."""
        steps_rad = np.abs(np.diff(self.rows.theta_rad))
        step_rad = float(np.median(steps_rad)) if len(steps_rad) else 0.0
        step_px = step_rad * self.n_cols / 2 / self.match_binning
        return step_rad if step_px <= _MAX_STEP_PX else 0.0

    @property
    def unusable_angles(self) -> str:
        """Why no axis can be found with these angles, or ""."""
        if len(self.rows.theta_rad) < MIN_ANGLES:
            return f"too few angles: {len(self.rows.theta_rad)}, at least {MIN_ANGLES} are needed"
        return "" if self.angles.step_rad else "all angles are the same: set input.angles"

    @property
    def no_signal(self) -> str:
        """Why no classical evidence can show the axis in these rows, or ""."""
        return self.unusable_angles or ("" if self.shows_sample else NO_SAMPLE)


def _moving(sinogram: Image, rows: Numbers) -> Image:
    """Return a sinogram less the mean of all angles, some rows averaged over those around them.

    These are as of `ndimage.gaussian_filter1d`, the others, which are not used, 0.
    """
    n, reach, mean = len(sinogram), int(4 * _ALIKE_ROWS + 0.5), sinogram.mean(axis=0)
    weight = np.exp(-0.5 * (np.arange(-reach, reach + 1) / _ALIKE_ROWS) ** 2)
    weight = (weight / weight.sum())[reach:]

    def at(away: int) -> Floats:
        return np.subtract(sinogram[(rows + away) % n], mean).astype(np.float64)

    total = weight[0] * at(0)
    for away in range(reach, 0, -1):
        total += weight[away] * (at(-away) + at(away))
    result = np.zeros_like(sinogram)
    result[rows] = total
    return result


def match(
    lines: Image, first: Numbers | slice, second: Numbers | slice, reach_share: float = _REACH
) -> Floats:
    """Normalised cross-correlation of some projections with others, all rows together.

    Shape (n_pairs, 2 * reach + 1): at shifts of the second one by -reach to reach columns to the
    right, over the columns that overlap; `reach_share` of the columns.
    """
    n_cols = lines.shape[2]
    reach = max(2, round(reach_share * n_cols))
    n_fft = fft.next_fast_len(n_cols + reach, real=True)
    waves = fft.rfft(lines, n_fft)
    cross = (waves[:, second] * waves[:, first].conj()).sum(axis=0)
    product = products_at_shifts(cross, n_fft, reach)
    inside = overlap_sums(np.einsum("rac,rac->ac", lines, lines, dtype=np.float64), reach)
    norm = np.sqrt(inside[second] * inside[first, ::-1])
    return np.asarray(product / np.maximum(norm, 1e-6 * inside.max() + 1e-30))


def overlapping(
    lines: NDArray[Any], partners: NDArray[Any], cor_px: float, binning: int, extra_lag: int = 0
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Columns of lines, and of their mirrored partners, that overlap about a COR.

    The lines are binned; the partners are shifted to the right by a few half columns more.
    """
    n_cols = lines.shape[-1]
    lag = round(2 * float(bin_cor(cor_px, binning=binning))) - (n_cols - 1) + extra_lag
    low = max(0, lag)
    high = max(low, min(n_cols, n_cols + lag))
    return lines[..., low:high], partners[..., ::-1][..., low - lag : high - lag]


_ROTATION_COLS = 320  # columns left by binning, about
_LAGS = 3  # searched on each side of the COR, half columns
_OTHER_DEG = (35.0, 50.0, 65.0, 80.0, 95.0, 110.0, 125.0, 140.0)
_STARTS = 4


def rotation_penalty(prepared: Prepared, cor_px: float) -> float:
    """Factor of the confidence, 0 to 1: 1 if lines 180 degrees apart match best, or are none."""
    gain = rotation_gain(prepared, cor_px)
    # In 95 % of 35 simulated scans with a sample the gain was above 1 (the worst 0.4) and at most
    # 16 % of the other pairs matched as well; the best gain of four fading structures was 0.81.
    return 1.0 if gain is None else ramp(gain[0], 0.5, 1.1) * ramp(gain[1], 0.3, 0.15)


def rotation_gain(prepared: Prepared, cor_px: float) -> tuple[float, float] | None:
    """Compare the match of lines 180 degrees apart with that of lines at other angles.

    Returns the median log of the mismatch of other pairs relative to that of pairs 180 degrees
    apart, and the share of other pairs that match as well. None over less than 180 degrees, or
    where next to nothing overlaps.
    """
    angles = prepared.angles
    short_rad = np.pi - angles.span_rad
    if angles.step_rad == 0 or short_rad > 1.05 * angles.step_rad:
        return None
    last_rad = np.pi if angles.full_rotation else max(0.0, -short_rad)
    n_starts = int(np.clip(last_rad / (5 * angles.step_rad), 0, 7)) + 1
    starts_rad = np.linspace(0, last_rad, n_starts) if last_rad else np.array([-short_rad / 2])
    true = _match_with(prepared, cor_px, starts_rad, np.pi)
    if true is None:
        return None
    others = []
    for apart_rad in np.deg2rad(_OTHER_DEG):
        starts_rad = np.linspace(0, angles.span_rad - apart_rad, _STARTS)
        matches = _match_with(prepared, cor_px, starts_rad, apart_rad)
        others.append(np.zeros(0) if matches is None else matches)
    other, half = np.concatenate(others), float(np.median(true))
    left = np.maximum(1 - other, 1e-6) / max(1 - half, 1e-6)
    return float(np.median(np.log(left))), float(np.mean(other >= half))


def _match_with(
    prepared: Prepared, cor_px: float, starts_rad: NDArray[np.float64], apart_rad: float
) -> NDArray[np.float64] | None:
    """Best match of lines with mirrored ones, (n_starts,); None: under 8 columns overlap."""
    binning, theta_rad = binning_to(_ROTATION_COLS, prepared.n_cols), prepared.angles.theta_rad
    both = []
    for at_rad in (starts_rad, starts_rad + apart_rad):
        rows = np.array([rows_at(s, theta_rad, at_rad) for s in prepared.sinograms], np.float32)
        binned = bin_columns(rows, binning).astype(np.float64)
        both.append(ndimage.gaussian_filter1d(binned, _SMOOTH_PX, axis=-1, mode="nearest"))
    lines, partners = both
    best = None
    for extra_lag in range(-_LAGS, _LAGS + 1):
        first, second = overlapping(lines, partners, cor_px, binning, extra_lag)
        if first.shape[-1] < 8:
            continue
        first = first - first.mean(axis=-1, keepdims=True)
        second = second - second.mean(axis=-1, keepdims=True)
        energy = np.sum(first**2, axis=(0, 2)) * np.sum(second**2, axis=(0, 2))
        matches = np.sum(first * second, axis=(0, 2)) / np.sqrt(np.maximum(energy, 1e-30))
        best = matches if best is None else np.maximum(best, matches)
    return best


def ramp(value: float, zero_at: float, one_at: float) -> float:
    """Rise linearly from 0 at `zero_at` to 1 at `one_at` (which may be the smaller), clipped."""
    return float(np.clip((value - zero_at) / (one_at - zero_at), 0.0, 1.0))
