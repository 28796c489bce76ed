"""How well projections match each other after a shift sideways."""

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from tomopipe.cor.clean_rows import Image
from tomopipe.cor.cross_correlation import overlap_sums, products_at_shifts
from tomopipe.cor.prepared import Prepared

_MAX_STEP_PX = 10.0  # of the rim: further apart, neighbouring projections are too different
_REACH = 1 / 16  # of the columns: textures match by chance further away

Floats = NDArray[np.float64]
Numbers = NDArray[np.intp]


def lines_as_taken(prepared: Prepared, n_rows: int) -> Image:
    """Return up to so many rows to match, in the order in which they were taken."""
    return prepared.lines_to_match[:n_rows, np.argsort(prepared.angles.order)]


def usual_step_rad(prepared: Prepared) -> float:
    """Return the median step between projections; 0: there is none, or they are too far apart."""
    steps_rad = np.abs(np.diff(prepared.rows.theta_rad))
    step_rad = float(np.median(steps_rad)) if len(steps_rad) else 0.0
    step_px = step_rad * prepared.n_cols / 2 / prepared.match_binning
    return step_rad if step_px <= _MAX_STEP_PX else 0.0


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
    inside = overlap_sums(np.sum(lines**2, axis=0, dtype=np.float64), reach)
    norm = np.sqrt(inside[second] * inside[first, ::-1])
    return np.asarray(product / np.maximum(norm, 1e-6 * inside.max() + 1e-30))
