"""A sample that shrinks or swells: opposing projections match better if one of them is widened.

p(u, t + pi) = p(2 cor - u, t) holds for any still sample, truncated ones included. Of one that
changed its size in between, one side is wider; a shift about another axis hides much of that, and
is taken for the COR. So sizes are tried, each about the axis at which it fits best, and with the
contrast at which it does: what the best size explains of what is left without one is compared with
the number of independent values. Only what is even about the axis counts, from which dust that
stays in place cancels, but not if one side is widened.
"""

from typing import NamedTuple

import numpy as np
from scipy import ndimage

from tomopipe.arrays import evenly_spread
from tomopipe.cor.prepared import Floats, Prepared
from tomopipe.cor.sinograms import Image
from tomopipe.geometry import bin_cor

_MOST_LINES, _LEAST_HALF_PX, _TRIM_PX = 24, 12, 3  # columns are binned
_AXES_PX, _SIZES = np.arange(-4, 4.01, 0.5), 0.02 * np.arange(-10, 11)  # sizes: logarithms
_FINER_PX, _MOST_CONTRAST = np.arange(-3, 4) / 8, 1.5
_SMOOTH_PX, _TREND = 1.5, 0.42  # the mean over this share of the columns is subtracted
# Detection thresholds: deviations of noise, of so many values at most, and how far the edges of the
# columns that overlap move.
_DEVIATIONS, _MOST_VALUES, _LEAST_PX = 7.0, 400.0, 1.0


class SizeChange(NamedTuple):
    """How much wider one of two opposing projections is than the earlier one."""

    share: float  # negative: narrower
    edge_px: float  # by so much it moves the edges of the columns that overlap
    score: float  # deviations of noise by which it is more likely than none


def warn_of_size(prepared: Prepared, cor_px: float) -> str:
    """Return a warning that the sample shrinks or swells, or ""."""
    change = size_change(prepared, cor_px)
    if change is None or change.score < _DEVIATIONS or abs(change.edge_px) < _LEAST_PX:
        return ""
    changes, wider = ("swells", "wider") if change.share > 0 else ("shrinks", "narrower")
    return (
        f"the sample {changes}, or changes otherwise, during the scan, the angles are wrong, or "
        "columns near the axis are dead: of opposing projections the later ones are "
        f"{abs(change.share):.0%} {wider}; no single COR fits all projections, and this one may be "
        "off by pixels"
    )


def size_change(prepared: Prepared, cor_px: float) -> SizeChange | None:
    """Measure how much the width differs between opposing projections, near a COR, px.

    None over less than 180 degrees, or where too few columns overlap.
    """
    opposing = prepared.opposing.get("difference")
    if opposing is None:
        return None
    binned = opposing.binned(prepared.match_binning)
    which = evenly_spread(len(binned.direct), _MOST_LINES)
    earlier, later = (
        ndimage.gaussian_filter1d(lines[which], _SMOOTH_PX, axis=1, mode="nearest")
        for lines in (binned.direct, binned.flipped[:, ::-1])
    )
    n_cols = earlier.shape[1]
    axes_px = float(bin_cor(cor_px, binning=prepared.match_binning)) + _AXES_PX
    half_px = np.floor(np.minimum(axes_px, n_cols - 1 - axes_px).min()) - _TRIM_PX
    half_px = np.floor(half_px / np.exp(_SIZES.max() / 2))
    if half_px < _LEAST_HALF_PX:
        return None
    from_axis_px = np.arange(half_px + 1)

    def left_at(axis_px: float, size: float) -> float:
        sides = (
            _even(lines, axis_px, from_axis_px * np.exp(way * size / 2))
            for lines, way in ((earlier, -1), (later, 1))
        )
        return max(_left(*sides), float(np.finfo(np.float32).tiny))

    at_axes = np.array([[left_at(axis_px, size) for axis_px in axes_px] for size in _SIZES])
    left, same = at_axes.min(axis=1), len(_SIZES) // 2
    # a part of a step is not taken for another size
    near_px = axes_px[np.argmin(at_axes[same])] + _FINER_PX
    left[same] = min(left_at(axis_px, 0.0) for axis_px in near_px)
    best = int(np.argmin(left))
    # smoothed values next to each other are alike
    n_values = min(len(which) * half_px / (2 * np.sqrt(np.pi) * _SMOOTH_PX), _MOST_VALUES)
    gain = np.log(left[same] / left[best])
    edge_px = float(_SIZES[best] * half_px * prepared.match_binning)
    return SizeChange(float(np.expm1(_SIZES[best])), edge_px, float(np.sqrt(n_values * gain)))


def _even(lines: Image, axis_px: float, from_axis_px: Floats) -> Image:
    """Return the part of lines that is even about an axis, at some columns, without its trend."""
    column = axis_px + np.stack([-from_axis_px, from_axis_px])
    low = np.clip(np.floor(column).astype(int), 0, lines.shape[1] - 2)
    part = (column - low).astype(np.float32)
    even = ((1 - part) * lines[:, low] + part * lines[:, low + 1]).sum(axis=1)
    width = max(9, round(_TREND * even.shape[1]))
    return np.asarray(even - ndimage.uniform_filter1d(even, width, axis=1, mode="nearest"))


def _left(earlier: Image, later: Image) -> float:
    """Return the energy of what is left of lines less others, whose contrast is fitted."""
    contrast = float(np.sum(earlier * later)) / max(float(np.sum(later**2)), 1e-30)
    contrast = float(np.clip(contrast, 1 / _MOST_CONTRAST, _MOST_CONTRAST))
    return float(np.sum((earlier - contrast * later) ** 2, dtype=np.float64))
