"""Whether the sample turned all the time: a stage that stands still gives a COR, too."""

import numpy as np

from tomopipe.cor.prepared import Prepared

_MAX_ROWS = 5
_PARTS, _LEAST_IN_PART = 4, 8
# How much more projections half a part of the scan apart differ than neighbours, which differ by
# noise and one step: less on average, or in some parts where another part shows that noise is not
# all that there is (lab/benchmarks/bench_standing.py).
_CHANGES, _CLEARLY = 1.04, 5.0


def doubt_rotation(prepared: Prepared) -> str:
    """Say in one sentence at which angles nothing turned; "" if all did."""
    changes = change_in_parts(prepared)
    if not len(changes):
        return ""
    still = np.flatnonzero(changes < _CHANGES)
    if changes.mean() < _CHANGES:
        still = np.arange(_PARTS)
    elif not len(still) or changes.max() < _CLEARLY:
        return ""
    theta_deg = np.rad2deg(prepared.rows.theta_rad)[prepared.angles.order]
    parts = np.array_split(theta_deg, _PARTS)
    return (
        f"the projections do not change, but for noise, from {parts[still[0]][0]:.0f} to "
        f"{parts[still[-1]][-1]:.0f} degrees: did the stage turn? Or the sample is round about the "
        "axis, or out of view"
    )


def change_in_parts(prepared: Prepared) -> np.ndarray:
    """Return the change within each quarter of the angles over that between neighbours.

    Empty if there are too few projections.
    """
    parts = np.array_split(prepared.lines_to_match[:_MAX_ROWS], _PARTS, axis=1)
    if parts[-1].shape[1] < _LEAST_IN_PART:
        return np.array([])
    return np.array([_change(part, part.shape[1] // 2) / _change(part, 1) for part in parts])


def _change(lines: np.ndarray, n_steps: int) -> float:
    difference = lines[:, n_steps:] - lines[:, :-n_steps]
    return float(np.mean(difference**2, dtype=np.float64)) or np.finfo(float).tiny
