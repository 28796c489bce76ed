"""Roll of the detector: the COR changes along the rows, c(row) = c0 + row * slope.

Opposing projections are registered band by band near the COR of the scan, or near the straight axis
about which all of their rows match best if that is tilted more; a robust line through their CORs
gives the slope. It is reported only if it is known well enough to act on.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy import ndimage

from tomopipe.arrays import NORMAL_PER_MAD, theil_sen
from tomopipe.cor.collected_rows import Rows
from tomopipe.cor.prepared import Prepared
from tomopipe.cor.registration import (
    OpposingLines,
    opposing_sinograms,
    register,
    registration_score,
)

TILTED = "the axis is tilted"  # a warning begins so

_MAX_BANDS = 16
_MIN_BANDS, _FEW_BANDS = 4, 8
_BAND_ROWS = 6  # least height of a band
_MAX_ERROR = 0.05  # px per 100 rows
# If the outermost rows are further than this from the COR, bands may lie beyond the search near it;
# then the axis is searched for up to this roll, in steps of half a column, as the scores have.
_NEAR_PX, _MOST_DEG, _STEP_PX = 1.5, 6.0, 0.5
_ALONE = 0.6  # largest score of any other axis, relative to the best one
_FAR_PX = 0.5  # distance from the line from which a band counts as wrong
# Distance of the axis from the COR at the outermost rows: slices show half a pixel, and two pixels
# spoil them. Least ratio of that distance to its error.
_SHOWS_PX, _SPOILS_PX, _SIGNIFICANCE = 0.5, 2.0, 5.0
_PASSES, _EXACT_PX = 4, 0.02  # rotations of the pairs, until the outermost rows are so near
_MOST_ERROR_DEG = 0.02
# Of the fit of whole images: passes, smoothing, least size, and how far it may lead, in errors.
_REFINEMENTS, _BLUR_PX, _LEAST_COLS, _FAR_ERRORS = 3, 1.5, 32, 6.0


class UsedRows(NamedTuple):
    """Options that decide which rows a volume has, and their roll correction."""

    roll_deg: float | Literal["auto"] = 0.0  # roll correction in use; auto: that of try_recon
    rows: Sequence[int] | Literal["all"] = "all"  # or the first and the last row


def measure_roll(prepared: Prepared, cor_px: float) -> tuple[float, float] | None:
    """Measure how the COR changes along the rows of a scan whose COR is that of a row in between.

    Returns the slope in pixels per 100 detector rows, positive where the COR grows with the row,
    and its standard error; None if too few bands resolve, or the error is above 0.05 px per 100
    rows and a twentieth of the slope.
    """
    banded = _banded(prepared)
    if banded is None:
        return None
    opposing, row = banded
    from_middle = row - (row.min() + row.max()) / 2
    outermost = from_middle.max()
    fit = _fit_near(opposing, row, cor_px)
    if fit is None or 100 * fit[1] > _MAX_ERROR or abs(fit[0]) * outermost > _NEAR_PX:
        axis = _find_axis(opposing, from_middle, cor_px)
        if axis is not None:
            near_px = axis[0] + axis[1] * from_middle
            fit = _fit_near(opposing, row, near_px) or fit
    if fit is None or fit[1] > max(_MAX_ERROR / 100, abs(fit[0]) / 20):
        return None
    return 100 * fit[0], 100 * fit[1]


class Roll(NamedTuple):
    """A measured roll of the detector, degrees, as `preprocess.roll_deg`."""

    deg: float
    error_deg: float

    def correction_deg(self, n_rows: int, n_cols: int) -> float:
        """Return the roll to correct; 0 where it shows in no corner, or may be none."""
        return round(self.deg, 3) if self._shows(n_rows, n_cols) and self._is_exact else 0.0

    def remark(self, n_rows: int, n_cols: int) -> str:
        """Return a warning of a roll that shows, but has too large an error to be corrected."""
        if not self._shows(n_rows, n_cols) or self._is_exact:
            return ""
        return (
            f"a roll of {self.deg:.2f} ± {self.error_deg:.2f} degrees is not corrected, as its "
            f"error is too large: set `preprocess: {{roll_deg: {self.deg:.2f}}}` if it is right"
        )

    def _shows(self, n_rows: int, n_cols: int) -> bool:
        """Tell whether the roll is certain, and shows in a corner."""
        corner_px = abs(np.tan(np.deg2rad(self.deg))) * np.hypot(n_rows, n_cols) / 2
        return bool(corner_px > _SHOWS_PX and abs(self.deg) >= _SIGNIFICANCE * self.error_deg)

    @property
    def _is_exact(self) -> bool:
        return self.error_deg <= max(_MOST_ERROR_DEG, abs(self.deg) / 20)


def roll_of(rows: Rows) -> Roll | None:
    """Measure the roll of a scan whose COR is not known; None: too few bands of rows agree.

    Pairs are rotated until no roll remains: rows of a rolled detector see other parts of a sample
    after 180 degrees, the more so the further they are from the axis.
    """
    banded = _banded(Prepared(rows))
    if banded is None:
        return None
    opposing, row = banded
    from_middle = row - (row.min() + row.max()) / 2
    axis = _find_axis(opposing, from_middle, None)
    if axis is None:
        return None
    if not len(rows.pairs) or len(row) % len(rows.pairs[0, 0]):  # sinograms, which are not rotated
        fit = _fit_near(opposing, row, axis[0] + axis[1] * from_middle)
        return fit and _roll(*fit)
    slope = axis[1]
    for _ in range(_PASSES):
        fit = _fit_rotated(rows, slope, axis[0])
        if fit is None:
            return None
        slope += fit[0]
        if abs(fit[0]) * from_middle.max() < _EXACT_PX:
            return _roll(_refined(rows, slope, axis[0], fit[1]), fit[1])
    return None


def _roll(slope: float, error: float) -> Roll:
    return Roll(float(np.rad2deg(np.arctan(slope))), float(np.rad2deg(error)))


def _fit_rotated(rows: Rows, slope: float, cor_px: float) -> tuple[float, float] | None:
    """Return the slope that remains, and its error, after the pairs are rotated by one."""
    rotated = replace(rows, pairs=_rotated(rows.pairs, slope, rows.n_rows))
    banded = _banded(Prepared(rotated))
    return banded and _fit_near(*banded, cor_px)


def _refined(rows: Rows, slope: float, cor_px: float, error: float) -> float:
    """Return the slope at which whole images match best; the given one if that is far from it.

    Least squares of the difference of opposing images by what a turn, and a shift along each axis,
    change: bands of few rows see less of a sample.
    """
    n_high, n_cols = rows.pairs.shape[2:]
    block = -(-rows.n_rows // n_high)
    high, col = np.arange(n_high), np.arange(n_cols)
    from_row = ((high + 0.5) * block - rows.n_rows / 2)[:, None]
    from_col = col - (n_cols - 1) / 2
    edge_rows = 4 + round(abs(slope) * n_cols / 2 / block)  # that are turned into view
    edge_cols = 8 + round(abs(slope) * rows.n_rows / 2)
    first, last, down = slope, slope, 0.0
    for _ in range(_REFINEMENTS):
        left = max(0, round(2 * cor_px) - n_cols) + edge_cols
        right = min(n_cols, round(2 * cor_px)) - edge_cols
        if right - left < _LEAST_COLS or n_high - 2 * edge_rows < _LEAST_COLS:
            return first
        inner = np.s_[..., edge_rows : n_high - edge_rows, left:right]
        normal, vector = np.zeros((3, 3)), np.zeros(3)
        at = np.meshgrid(high + down, 2 * cor_px - col, indexing="ij")
        for direct, opposing in _rotated(rows.pairs, last, rows.n_rows):
            mirrored = ndimage.map_coordinates(opposing, at, order=1, mode="nearest")
            smooth = [
                ndimage.gaussian_filter(image.astype(np.float64), (_BLUR_PX / block, _BLUR_PX))
                for image in (direct, mirrored)
            ]
            by_row, by_col = np.gradient((smooth[0] + smooth[1]) / 2, block, 1)
            changes = np.stack([by_col * from_row - by_row * from_col, by_col, by_row])[inner]
            changes = changes.reshape(3, -1)
            normal += changes @ changes.T
            vector += changes @ (smooth[0] - smooth[1])[inner].ravel()
        turn, across_px, down_px = np.linalg.lstsq(normal, vector)[0]
        last, cor_px, down = last - turn / 2, cor_px - across_px / 2, down + down_px / block
    return float(last) if abs(last - first) <= _FAR_ERRORS * error else first


def _rotated(pairs: NDArray[np.float32], slope: float, n_rows: int) -> NDArray[np.float32]:
    """Rotate images of rows averaged in blocks, as `tomopipe.prep.warp` rotates the detector."""
    n_high, n_cols = pairs.shape[2:]
    block = -(-n_rows // n_high)
    row = (np.arange(n_high)[:, None] + 0.5) * block - n_rows / 2
    col = np.arange(n_cols) - (n_cols - 1) / 2
    cos = 1 / np.hypot(1, slope)
    sin = slope * cos
    at_row = (row * cos - col * sin + n_rows / 2) / block - 0.5
    at_col = col * cos + row * sin + (n_cols - 1) / 2
    turned = np.empty_like(pairs)
    for image, out in zip(
        pairs.reshape(-1, n_high, n_cols), turned.reshape(-1, n_high, n_cols), strict=True
    ):
        ndimage.map_coordinates(image, [at_row, at_col], out, order=1, mode="nearest")
    return turned


def tilt_of(roll: tuple[float, float], used: UsedRows, n_rows: int) -> tuple[str, bool]:
    """Return a warning that a measured roll moves the axis off the COR, or "".

    Also returns whether it spoils the volume. The COR is assumed to be that of the middle one of
    `n_rows`; `roll` is what remains after the correction by `used.roll_deg`.
    """
    slope, error = np.array(roll) / 100
    first, last = (0, n_rows - 1) if used.rows == "all" else used.rows
    off_px = abs(slope) * max(abs(row - (n_rows - 1) / 2) for row in (first, last))
    if off_px < _SHOWS_PX or abs(slope) < _SIGNIFICANCE * error:
        return "", False
    used_deg = 0.0 if used.roll_deg == "auto" else used.roll_deg
    whole_deg = used_deg + float(np.rad2deg(np.arctan(slope)))
    text = (
        f"{TILTED}: {off_px:.1f} px off at the outermost rows; "
        f"`preprocess: {{roll_deg: {whole_deg:.2f}}}` corrects it"
    )
    now = f" (now {used_deg:g})" if used_deg else ""
    return text + now, bool(off_px >= _SPOILS_PX)


def fit_line(row: NDArray[np.float64], value: NDArray[np.float64]) -> tuple[float, float] | None:
    """Slope and standard error of a line through points of which less than half are wrong.

    None if fewer than four points, or less than two thirds of them, lie within 0.5 of one line. Of
    fewer than eight all have to, and all count: four of five are on one by chance.
    """
    line = theil_sen(row, value, 0.3 * np.ptp(row)) if len(row) >= _MIN_BANDS else None
    if line is None:
        return None
    residual = value - line[0] * row
    residual -= np.median(residual)
    sigma = NORMAL_PER_MAD * float(np.median(np.abs(residual)))
    few = len(row) < _FEW_BANDS
    keep = np.abs(residual) <= (_FAR_PX if few else np.clip(3 * sigma, 0.02, _FAR_PX))
    if keep.sum() < (1 if few else 2 / 3) * len(row):
        return None
    design = np.stack([np.ones(keep.sum()), row[keep] - row[keep].mean()], axis=1)
    solution = np.linalg.lstsq(design, value[keep])[0]
    rest = value[keep] - design @ solution
    variance = np.sum(rest**2) / (keep.sum() - 2) / np.sum(design[:, 1] ** 2)
    return float(solution[1]), float(np.sqrt(variance))


def _fit_near(
    opposing: OpposingLines, row: NDArray[np.float64], near_px: float | NDArray[np.float64]
) -> tuple[float, float] | None:
    """Fit a line through the CORs of bands, searched near what is given for each of their lines."""
    registered = register(opposing, near_px)
    of_bands = np.bincount(opposing.group, row) / np.bincount(opposing.group)
    return registered and fit_line(of_bands, registered[1])


def _find_axis(
    opposing: OpposingLines, from_middle: NDArray[np.float64], cor_px: float | None
) -> tuple[float, float] | None:
    """Find the straight axis about which all lines match best: COR of the middle row, and slope.

    That COR is no further from `cor_px` than the axis may be tilted; None if another axis matches
    nearly as well. Without one it is any column.
    """
    rows, line = np.unique(from_middle, return_inverse=True)
    scored = registration_score(replace(opposing, group=line))
    if scored is None:
        return None
    # in half columns, as the scores are: how far the axis moves up to the outermost row
    most = round(np.tan(np.deg2rad(_MOST_DEG)) * rows[-1] / _STEP_PX)
    moves = np.arange(-most, most + 1)
    start, n_cors = 0, scored[0].shape[1]
    if cor_px is not None:
        start, n_cors = round(cor_px / _STEP_PX) - most, 2 * most + 1
    padded = np.pad(scored[0][:-1], ((0, 0), (2 * most, 2 * most)))  # nothing beyond the detector
    total = np.zeros((len(moves), n_cors))
    for score, part in zip(padded, rows / rows[-1], strict=True):
        first = start + 2 * most + np.round(moves * part).astype(int)
        total += sliding_window_view(score, n_cors)[first]
    best, middle = np.unravel_index(np.argmax(total), total.shape)
    height = total[best, middle]
    if cor_px is None:
        return int(middle) * _STEP_PX, float(moves[best] * _STEP_PX / rows[-1])
    total[max(0, best - 8) : best + 9, max(0, middle - 12) : middle + 13] = 0
    if total.max() > _ALONE * height:
        return None
    return (start + int(middle)) * _STEP_PX, float(moves[best] * _STEP_PX / rows[-1])


def _banded(prepared: Prepared) -> tuple[OpposingLines, NDArray[np.float64]] | None:
    """Opposing lines whose groups are bands of rows, and the detector row of each line."""
    rows = prepared.rows
    n_pairs, n_pair_rows = rows.pairs.shape[0], rows.pairs.shape[2]
    n_bands = min(_MAX_BANDS, n_pair_rows // _BAND_ROWS)
    if n_pairs and n_bands >= _MIN_BANDS:
        exact = prepared.projections
        if exact is not None and exact.motion_px <= 1.0:
            n_exact, number = len(exact.direct) // n_pair_rows, np.arange(n_pair_rows)
            block = -(-rows.n_rows // n_pair_rows)
            row = np.minimum((number + 0.5) * block - 0.5, rows.n_rows - 1)
            bands = np.tile(number * n_bands // n_pair_rows, n_exact)
            return exact.in_groups(bands), np.tile(row, n_exact)
    if len(rows.sinograms) < _MIN_BANDS or not prepared.angles.reaches_180:
        return None
    opposing = opposing_sinograms(prepared.sinograms, prepared.angles, 1)
    if opposing is None:
        return None
    return opposing, rows.row_index[opposing.group].astype(np.float64)
