"""Angles that the projections contradict: of another scale than those of the scan."""

import numpy as np

from tomopipe.cor.angular_range import wider_range_deg
from tomopipe.cor.clean_rows import bin_columns, binning_to
from tomopipe.cor.prepared import Prepared

_COLS = 256  # about so many columns are enough
_MIN_ANGLES = 30
_EVEN = 0.5  # of a step: as far as an angle may be from where even ones lie


def doubt_angles(prepared: Prepared, cor_px: float) -> str:
    """Say in one sentence that the projections show a wider range than the angles; else "".

    `cor_px` is the axis that was found with them. Only even angles over less than 360 degrees are
    judged.
    """
    angles = prepared.angles
    n_angles, stated_deg = len(angles.theta_rad), float(np.rad2deg(angles.span_rad))
    even_rad = np.linspace(0, angles.span_rad, n_angles)
    away_rad = np.abs(angles.theta_rad - even_rad).max()
    if n_angles < _MIN_ANGLES or not away_rad < _EVEN * angles.step_rad:
        return ""
    binning = binning_to(_COLS, prepared.n_cols)
    lines = bin_columns(np.array(prepared.sinograms), binning)
    shown_deg = wider_range_deg(lines, stated_deg, (cor_px - (binning - 1) / 2) / binning)
    if not shown_deg:
        return ""
    return (
        f"the angles cover {stated_deg:.0f} degrees, the projections show {shown_deg:g}: if so, "
        f"set input.angles: {{start: 0, stop: {shown_deg:g}}} (stop: of the last projection)"
    )
