"""Roll of the detector: the COR changes along the rows, c(row) = c0 + row * slope.

Opposing projections are registered band by band near the COR of the scan; a robust line through
their CORs gives the slope. It is reported only if it is known well enough to act on.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tomopipe.arrays import NORMAL_PER_MAD, theil_sen
from tomopipe.cor.cross_correlation import register
from tomopipe.cor.opposing import OpposingLines, opposing_projections, opposing_sinograms
from tomopipe.cor.prepared import Prepared

_MAX_BANDS = 16
_MIN_BANDS = 4
_BAND_ROWS = 6  # at least
_MAX_ERROR = 0.05  # px per 100 rows
_FAR_PX = 0.5  # from the line, of a band that did not resolve
# Of the axis at the outermost rows: half a pixel from the COR is as far as a COR may be off before
# slices show it; two spoil them. It has to be known so many times better.
_TOLD_PX, _SPOILS_PX, _SIGNIFICANCE = 0.5, 2.0, 5.0


class UsedRows(NamedTuple):
    """What the configuration says of the rows of a volume."""

    roll_deg: float = 0.0  # by which they are corrected
    rows: Sequence[int] | Literal["all"] = "all"  # or the first and the last one


def measure_roll(prepared: Prepared, cor_px: float) -> tuple[float, float] | None:
    """Measure how the COR, known within a pixel, changes along the rows of a scan.

    In pixels per 100 detector rows, positive where the COR grows with the row, and its standard
    error; None where too few rows resolve, or the error is above 0.05 px per 100 rows.
    """
    banded = _banded(prepared)
    if banded is None:
        return None
    opposing, band_row = banded
    n_cols = opposing.direct.shape[1]
    _, each_px = register(opposing, round(2 * cor_px) - (n_cols - 1))
    fit = fit_line(band_row, each_px)
    if fit is None or 100 * fit[1] > _MAX_ERROR:
        return None
    return 100 * fit[0], 100 * fit[1]


def tilt_of(roll: tuple[float, float], used: UsedRows, n_rows: int) -> tuple[str, bool]:
    """Say in one sentence that a measured roll moves the axis off the COR; "" if not by much.

    Also whether it spoils the volume. The COR is that of the middle one of `n_rows`; a measured
    roll is what `used.roll_deg` left.
    """
    slope, error = np.array(roll) / 100
    first, last = (0, n_rows - 1) if used.rows == "all" else used.rows
    off_px = abs(slope) * max(abs(row - (n_rows - 1) / 2) for row in (first, last))
    if off_px < _TOLD_PX or abs(slope) < _SIGNIFICANCE * error:
        return "", False
    whole_deg = used.roll_deg + float(np.rad2deg(np.arctan(slope)))
    text = (
        f"the axis is tilted: {off_px:.1f} px off at the outermost rows; "
        f"`preprocess: {{roll_deg: {whole_deg:.2f}}}` corrects it"
    )
    now = f" (now {used.roll_deg:g})" if used.roll_deg else ""
    return text + now, bool(off_px >= _SPOILS_PX)


def fit_line(row: NDArray[np.float64], value: NDArray[np.float64]) -> tuple[float, float] | None:
    """Slope and standard error of a line through points of which less than half are wrong.

    None if fewer than four points, or less than two thirds of them, lie within 0.5 of one line.
    """
    line = theil_sen(row, value, 0.3 * np.ptp(row)) if len(row) >= _MIN_BANDS else None
    if line is None:
        return None
    residual = value - line[0] * row
    residual -= np.median(residual)
    sigma = NORMAL_PER_MAD * float(np.median(np.abs(residual)))
    keep = np.abs(residual) <= np.clip(3 * sigma, 0.02, _FAR_PX)
    if keep.sum() < max(_MIN_BANDS, 2 * len(row) / 3):
        return None
    design = np.stack([np.ones(keep.sum()), row[keep] - row[keep].mean()], axis=1)
    solution = np.linalg.lstsq(design, value[keep])[0]
    rest = value[keep] - design @ solution
    variance = np.sum(rest**2) / (keep.sum() - 2) / np.sum(design[:, 1] ** 2)
    return float(solution[1]), float(np.sqrt(variance))


def _banded(prepared: Prepared) -> tuple[OpposingLines, NDArray[np.float64]] | None:
    """Opposing lines whose groups are bands of rows, and the detector row of each band."""
    rows = prepared.rows
    n_pairs, n_pair_rows = rows.pairs.shape[0], rows.pairs.shape[2]
    n_bands = min(_MAX_BANDS, n_pair_rows // _BAND_ROWS)
    if n_pairs and n_bands >= _MIN_BANDS:
        exact = opposing_projections(rows, n_bands)
        if exact is not None and exact.motion_px <= 1.0:
            block = -(-rows.n_rows // n_pair_rows)
            line = np.minimum((np.arange(n_pair_rows) + 0.5) * block - 0.5, rows.n_rows - 1)
            band = np.arange(n_pair_rows) * n_bands // n_pair_rows
            return exact, np.array([line[band == b].mean() for b in range(n_bands)])
    if len(rows.sinograms) < _MIN_BANDS:
        return None
    if not prepared.angles.reaches_180:
        return None
    opposing = opposing_sinograms(prepared.sinograms, prepared.angles, 1)
    return None if opposing is None else (opposing, rows.row_index.astype(float))
