"""Input of the network, curves along the COR axis and numbers of the scan; and its output."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tomopipe.cor.ai.input_recipe import RECIPE
from tomopipe.cor.curves import Curves, CurveSet

_PER_KIND = 5  # channels
# of the curve of minimum total variation
_LEAST = 0.003  # added to the excess in the raw curve, so that 0 has a logarithm
_WIDTH, _HEIGHT = 0.01, 10.0  # excess that halves the prominence, about, and its height


@dataclass(frozen=True, eq=False)
class Inputs:
    """The input of one scan."""

    cor_px: NDArray[np.float64]  # (n_grid,): the grid, unbinned px
    # (n_channels, n_grid): of each kind the standardised raw curve, the prominence, nearness and
    # signed distance to its best position and whether it is valid; then the sum of all evidence,
    # overlap, texture, distance from the middle and nearness of the border
    grid: NDArray[np.float32]
    scan: NDArray[np.float32]  # (n_scalars,): what is known of the scan as a whole


@dataclass(frozen=True, eq=False)
class NetworkOutput:
    """What the network makes of it: scores of all positions on the grid, and the best one."""

    score: NDArray[np.float64]  # (n_grid,): logit of each position, less that of "none of these"
    share: NDArray[np.float64]  # (n_grid,): probability of each position; with `none` they sum to 1
    none: float  # probability that no position is right
    index: int  # the best position
    # from the best position to the COR, and the expected error of that; unbinned px
    offset_px: float
    spread_px: float


def all_curves(curves: Curves) -> CurveSet:
    """Evaluate all kinds of evidence: the classical ones, and last minimum total variation.

    They are not valid where they show nothing, or `minimum_total_variation` has no answer.
    """
    classical = curves.classical
    minimum = curves.total_variation if classical.valid.any() else None
    raw = prominence = np.zeros(len(classical.cor_px))
    if minimum is not None:
        excess = np.interp(classical.cor_px, minimum.cor_px, minimum.excess)
        height = _HEIGHT * np.exp(-excess / _WIDTH)
        raw, prominence = -np.log(_LEAST + excess), np.log1p(height**2 / 4)
    return replace(
        classical,
        raw=np.vstack([classical.raw, raw]).astype(np.float32),
        prominence=np.vstack([classical.prominence, prominence]).astype(np.float32),
        valid=np.append(classical.valid, minimum is not None),
    )


def make_inputs(of_scan: Curves) -> Inputs:
    """Make the input of the network from `all_curves` of one scan."""
    curves = all_curves(of_scan)
    valid = curves.valid.astype(np.float32)
    prominence = curves.prominence * valid[:, None]
    total = add_up(prominence)
    best = np.argmax(prominence, axis=1)
    index = np.arange(len(curves.cor_px))
    away = (index - best[:, None]).astype(np.float32)
    per_kind = np.stack(
        [
            _standardised(curves.raw) * valid[:, None],
            prominence,
            np.exp(-0.5 * (away / 4.0) ** 2) * valid[:, None],
            np.sign(away) * np.log1p(np.abs(away)) / 4.0 * valid[:, None],
            np.broadcast_to(valid[:, None], prominence.shape),
        ],
        axis=1,
    )
    middle = 2.0 * index / max(1, len(index) - 1) - 1.0
    border = np.exp(-np.minimum(index, index[::-1]) / 8.0)
    general = np.stack([total, curves.overlap, curves.texture, np.abs(middle), border])
    grid = np.concatenate([per_kind.reshape(-1, len(index)), general]).astype(np.float32)
    return Inputs(curves.cor_px, grid, scan_vector(curves))


def mirrored(inputs: Inputs) -> Inputs:
    """Return the input of the mirrored scan: left and right exchanged."""
    grid = inputs.grid[:, ::-1].copy()
    signed = 3 + _PER_KIND * np.arange(len(RECIPE.kinds))
    grid[signed] *= -1
    last = inputs.cor_px[-1] + inputs.cor_px[0]
    return replace(inputs, cor_px=last - inputs.cor_px[::-1], grid=grid)


def scan_vector(curves: CurveSet) -> NDArray[np.float32]:
    """Return the numbers that describe a scan, from 0 to 1, and which kinds are valid."""
    features = []
    for name, scale, low, high in RECIPE.scalars:
        value, lowest, highest = (
            float(np.log(max(number, 1e-9))) if scale == "log" else number
            for number in (curves.scan[name], low, high)
        )
        features.append(np.clip((value - lowest) / (highest - lowest), 0.0, 1.0))
    return np.array([*features, *curves.valid], dtype=np.float32)


def add_up(prominence: NDArray[np.float32]) -> NDArray[np.float32]:
    """Add the evidence of all kinds; frozen, independent of `tomopipe.cor.evidence_sum`."""

    def of(kinds: tuple[str, ...]) -> NDArray[np.float32]:
        return prominence[[RECIPE.kinds.index(kind) for kind in kinds]]

    total = of(RECIPE.seam + RECIPE.single).sum(axis=0) + of(RECIPE.slices).max(axis=0)
    return np.asarray(total / 6.0, dtype=np.float32)


def _standardised(raw: NDArray[np.float32]) -> NDArray[np.float32]:
    """Curves less their median in units of their standard deviation, clipped and scaled."""
    away = raw - np.median(raw, axis=1, keepdims=True)
    unit = np.maximum(away.std(axis=1, keepdims=True), 1e-12)
    most = RECIPE.clip_sigmas
    return np.asarray(np.clip(away / unit, -most, most) / 3.0, dtype=np.float32)
