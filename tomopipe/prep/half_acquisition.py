"""Half acquisition: 360 degrees with the axis near one edge of the detector give twice its width.

Each ray between the far edge and the mirror image of the near edge is measured once, each ray of
the overlap about the axis twice. Sinograms are laid into a detector of twice the width with
the axis in its middle; the two views of the overlap are blended smoothly to a sum of 2 and single
ones count twice [1]_. A 360-degree rotation of the doubled detector then gives the slice, without a
step, pairs of angles or interpolation. Projections are weighted by their gaps in the 360 degrees
(`one_sided` of the engine's plan). Where angles are missing, the opposing projections replace them:
they count twice, and beyond the near edge their last value fades out.

References
----------
.. [1] P. S. Cho et al., "Cone-beam CT for radiotherapy applications", Phys. Med. Biol. 40, 1863
   (1995): weights of a detector that is off centre.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomopipe.arrays import ellipse, fade, module_of, once
from tomopipe.errors import ScanError
from tomopipe.geometry import bin_cor
from tomopipe.recon.angular_sampling import is_full_rotation, largest_gap_rad
from tomopipe.recon.plan import Plan, make_plan

FACTOR = 2  # width of the slices over that of the detector
_NEAR_EDGE = 0.25  # share of the columns: auto is yes for an axis in these outer parts
# share of the columns beyond slices as wide as the detector, from which it warns
_MUCH_BEYOND = 0.05
# quantile of the columns beyond, and share of the mean row, below which they are air
_FILLED, _AIR = 0.75, 0.05
# share of the columns, at least two, that are an edge, and share of the mean row from which it is
# in the sample
_EDGE, _CUT = 1 / 64, 0.2


def is_half_acquisition(
    mode: str, *, full_rotation: bool, cor_px: float, n_cols: int, first_col: int
) -> bool:
    """Tell whether slices are to have twice the width of the detector.

    Parameters
    ----------
    mode : {"auto", "yes", "no"}
        auto: where the angles cover 360 degrees and the axis is in an outer quarter of the columns.
    full_rotation : bool
        Whether the angles cover 360 degrees (`is_full_rotation`).
    cor_px : float
        Column of the detector, unbinned.
    n_cols : int
        Columns in use.
    first_col : int
        The first of them, a column of the detector.

    Returns
    -------
    bool
        Whether rows are widened about the axis.

    Raises
    ------
    ScanError
        If the mode is yes and the angles do not cover 360 degrees.
    """
    if mode == "yes" and not full_rotation:
        raise ScanError(
            "preprocess.half_acquisition: yes needs angles over 360 degrees, which this scan does "
            "not have. Set auto or no."
        )
    column = float(bin_cor(cor_px, x0=first_col))
    return mode == "yes" or (mode == "auto" and full_rotation and is_near_edge(column, n_cols))


def is_near_edge(column: float, n_cols: int) -> bool:
    """Tell whether an axis is in an outer quarter of the columns."""
    return min(column, n_cols - 1 - column) < _NEAR_EDGE * n_cols


def warn_of_width(line_integrals: NDArray[np.float32], cor_px: float) -> list[str]:
    """Return warnings, at most one, that the detector recorded more of the sample than slices show.

    `line_integrals`, (n_rows, n_angles, n_cols), are of a full rotation. There is no warning for
    half acquisition, nor for an axis near the middle, where little is lost.
    """
    n_cols = line_integrals.shape[2]
    n_beyond = round(abs(cor_px - (n_cols - 1) / 2))
    if n_beyond < _MUCH_BEYOND * n_cols or is_half_acquisition(
        "auto", full_rotation=True, cor_px=cor_px, n_cols=n_cols, first_col=0
    ):
        return []
    line = line_integrals.mean(axis=(0, 1), dtype=float)
    beyond = line[:n_beyond] if cor_px > (n_cols - 1) / 2 else line[-n_beyond:]
    if not np.quantile(beyond, _FILLED) > _AIR * line.max():
        return []
    return [
        f"slices end {n_cols / 2:g} px from the axis, and the detector recorded more of the "
        f"sample, up to {n_cols / 2 + n_beyond:g} px: preprocess.half_acquisition: yes widens them"
    ]


def warn_of_one_side(
    line_integrals: NDArray[np.float32], theta_rad: NDArray[np.float64], cor_px: float
) -> tuple[str, bool]:
    """Return a warning that only 360 degrees would show all of the sample, and if it is a doubt.

    Over less, no opposing projection shows what is beyond the edge nearer to the axis. The warning
    is "" where there is air, where the axis is near the middle, and where the sample is beyond both
    edges; but in an outer quarter, where over 360 degrees `auto` widens slices, the nearer edge
    alone decides, and it is a doubt.

    Parameters
    ----------
    line_integrals : ndarray of float32, shape (n_rows, n_angles, n_cols)
        Rows of the detector.
    theta_rad : ndarray of float64, shape (n_angles,)
        Angles in any order.
    cor_px : float
        Column of the axis in them.
    """
    n_cols = line_integrals.shape[2]
    is_right = cor_px > (n_cols - 1) / 2
    if is_full_rotation(theta_rad) or abs(cor_px - (n_cols - 1) / 2) < _MUCH_BEYOND * n_cols:
        return "", False
    line = line_integrals.mean(axis=(0, 1), dtype=float)
    n_edge = max(2, round(_EDGE * n_cols))
    far, near = np.array([line[:n_edge].mean(), line[-n_edge:].mean()])[:: 1 if is_right else -1]
    is_outer = is_near_edge(cor_px, n_cols)
    if near < _CUT * line.max() or not (is_outer or far < _AIR * line.max()):
        return "", False
    within_px = min(cor_px, n_cols - 1 - cor_px) + 0.5
    covered_deg = 360 - np.degrees(largest_gap_rad(theta_rad))
    text = (
        f"the sample extends beyond the {'right' if is_right else 'left'} edge of the detector, "
        f"{within_px:.0f} px from the axis, and the angles cover {covered_deg:.0f} of 360 degrees: "
        "values are wrong, most of all farther from the axis. Measure 360 degrees (half "
        "acquisition)"
    )
    return text, is_outer


@dataclass(frozen=True, eq=False)
class HalfAcquisition:
    """Extends sinograms of one COR to twice the width."""

    n_cols: int  # columns of the sinograms
    cor_px: float  # column of the axis in them
    # (n_angles,): projections without an opposing one (`tomopipe.recon.angular_sampling.unpaired`)
    unpaired: NDArray[np.bool_]
    # edge slopes: share of their value that rows lose per column at both edges
    # (`tomopipe.prep.correct`); 0: unknown
    edge_slopes_per_px: tuple[float, float] = (0.0, 0.0)

    @property
    def first(self) -> int:
        """Column of the wide detector where the narrow one begins."""
        target = round((FACTOR * self.n_cols - 1) / 2 - self.cor_px)
        return min(max(target, 0), (FACTOR - 1) * self.n_cols)

    @property
    def wide_cor_px(self) -> float:
        """Column of the axis in the wide detector: within half a pixel of its middle."""
        return self.cor_px + self.first

    @property
    def far_is_left(self) -> bool:
        """Whether the edge far from the axis is the first column."""
        return self.cor_px > (self.n_cols - 1) / 2

    @property
    def _far(self) -> tuple[float, float, int]:
        """Slope at the far edge, its distance from the axis, columns from there to the wide end."""
        n_cols, first = self.n_cols, self.first
        if self.far_is_left:
            return self.edge_slopes_per_px[0], self.cor_px + 0.5, first
        return self.edge_slopes_per_px[1], n_cols - 0.5 - self.cor_px, (FACTOR - 1) * n_cols - first

    def wide_edge_slopes(self) -> tuple[float, float]:
        """Return the edge slopes of rows of the wide detector; 0: unknown."""
        edge_slope_per_px, edge_px, n_beyond = self._far
        if not edge_slope_per_px:
            return 0.0, 0.0
        end_px = edge_px + n_beyond
        room_px2 = edge_px**2 + edge_px / edge_slope_per_px - end_px**2  # to the end of the disk
        at_end = end_px / room_px2 if room_px2 > end_px else 1.0
        return at_end, at_end

    def weights(self) -> NDArray[np.float32]:
        """Return the weight of each column: 0 at the near edge, 2 beyond the overlap.

        A column and its mirror image weigh 2 together.
        """
        distance = np.arange(self.n_cols) - self.cor_px
        if self.far_is_left:
            distance = -distance
        # Measured from the edges of the pixels, half a pixel beyond their centres.
        overlap = min(self.cor_px, self.n_cols - 1 - self.cor_px) + 0.5
        step = np.clip((distance / overlap + 1) / 2, 0, 1) if overlap > 0 else distance > 0
        return (2 * np.sin(np.pi / 2 * step) ** 2).astype(np.float32)

    def widen(self, sinograms: Any) -> Any:
        """Weight sinograms and extend them to twice the width.

        They are (n_rows, n_angles, n_cols), NumPy or CuPy, and are not changed. Beyond the near
        edge the result is 0 (for unpaired projections the last value, fading by a cosine), beyond
        the far edge the extrapolation by `edge_slopes_per_px`.
        """
        xp = module_of(sinograms)
        wide = xp.zeros((*sinograms.shape[:2], FACTOR * self.n_cols), xp.float32)
        inner = slice(self.first, self.first + self.n_cols)
        weights, alone = once(xp, HalfAcquisition._tables, self)
        wide[:, :, inner] = sinograms * weights
        from_near = slice(None, None, -1 if self.far_is_left else 1)
        out, lines = wide[:, :, from_near], sinograms[:, :, from_near]
        edge_slope_per_px, edge_px, n_beyond = self._far
        shares = ellipse(n_beyond, edge_px, edge_slope_per_px, xp).astype(xp.float32)
        out[:, :, wide.shape[2] - n_beyond :] = 2 * lines[:, :, -1:] * shares
        if len(alone):
            wide[:, alone, inner] = 2 * sinograms[:, alone]
            n_near = wide.shape[2] - self.n_cols - n_beyond
            weights = (2 * fade(n_near, xp)).astype(xp.float32)
            out[:, alone, :n_near] = lines[:, alone, :1] * weights[::-1]
        return wide

    def _tables(self) -> tuple[NDArray[Any], ...]:
        """Return the weights, and the numbers of the projections without an opposing one."""
        return self.weights(), np.flatnonzero(self.unpaired)


def widen_for_each(
    sinogram: Any,
    cor_px: NDArray[np.float64],
    unpaired: NDArray[np.bool_],
    edge_slopes_per_px: tuple[float, float] = (0.0, 0.0),
) -> tuple[Any, NDArray[np.float64]]:
    """Extend one sinogram (n_angles, n_cols) to twice the width for each of several CORs.

    Returns the sinogram weighted for each COR, (n_cor, n_angles, 2 * n_cols), and the CORs in its
    columns; other arguments as for `HalfAcquisition`.
    """
    xp = module_of(sinogram)
    halves = [
        HalfAcquisition(sinogram.shape[1], float(value), unpaired, edge_slopes_per_px)
        for value in cor_px
    ]
    wide = xp.empty((len(halves), len(sinogram), FACTOR * sinogram.shape[1]), xp.float32)
    for out, half in zip(wide, halves, strict=True):
        out[...] = half.widen(sinogram[None])[0]
    return wide, np.array([half.wide_cor_px for half in halves])


def plan_of(
    theta_rad: NDArray[np.float64], half: HalfAcquisition, is_half: bool, **engine: Any
) -> Plan:
    """Plan slices as wide as the sinograms, or of half acquisition.

    Parameters
    ----------
    theta_rad : ndarray of float64, shape (n_angles,)
        Angles of the projections (rad).
    half : HalfAcquisition
        Width, axis and edge slopes of the sinograms.
    is_half : bool
        Whether slices are twice as wide as the sinograms.
    **engine
        Further parameters of `tomopipe.recon.plan.make_plan`.

    Returns
    -------
    Plan
        For `reconstruct`, of sinograms that are widened if `is_half`.
    """
    return make_plan(
        theta_rad,
        (FACTOR if is_half else 1) * half.n_cols,
        one_sided=is_half,
        edge_slopes_per_px=half.wide_edge_slopes() if is_half else half.edge_slopes_per_px,
        **engine,
    )
