"""Input of the network, curves along the COR axis and numbers of the scan; and its output.

A shipped network is only right for input made exactly as in its training. Its card holds the hash
of the recipe and loading checks it. Whoever changes a constant of the recipe, or what
`tomopipe.cor.curves` and this module make, bumps `version` and trains again: a test holds the input
of a fixed scan against numbers of this version. Nothing of a campaign's configuration goes in.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tomopipe.cor.curves import KINDS, Curves, CurveSet

TOTAL_VARIATION = "variation"
"""Name of the curve of minimum total variation, which only the network uses: it takes seconds."""


@dataclass(frozen=True)
class Recipe:
    """Constants of the input; lengths in samples of the grid or in binned pixels."""

    version: int = 9  # bumped with every change of the input
    kinds: tuple[str, ...] = (*KINDS, TOTAL_VARIATION)  # of evidence, one set of curves each
    # name in `Curves.scan`, "linear" or "log", and the values that become 0 and 1 (clipped)
    scalars: tuple[tuple[str, str, float, float], ...] = (
        ("half_turn", "linear", 0.0, 1.0),
        ("full_turn", "linear", 0.0, 1.0),
        ("short_turn", "linear", 0.0, 1.0),
        ("gap_deg", "linear", 0.0, 90.0),
        ("step_deg", "log", 0.3, 10.0),
        ("n_angles", "log", 25.0, 500.0),
        ("n_rows", "log", 1.0, 8.0),
        ("n_pairs", "linear", 0.0, 2.0),
        ("pair_motion_px", "linear", 0.0, 4.0),
        ("contrast", "log", 1.0, 1000.0),
        ("turning", "linear", 0.0, 1.0),
        ("air", "linear", 0.0, 1.0),
        ("theta_missing", "linear", 0.0, 1.0),
        ("minus_log", "linear", 0.0, 1.0),
    )
    # registration: these and the single ones are added (the hash holds the name)
    seam: tuple[str, ...] = ("pairs", "rows", "difference", "moving")
    slices: tuple[str, ...] = ("entropy", "edges")  # of these the highest counts
    single: tuple[str, ...] = ("wedge", "mass", TOTAL_VARIATION)
    clip_sigmas: float = 6.0  # standardised raw curves end there
    apart: int = 5  # least distance of two peaks, samples


RECIPE = Recipe()
_GONE = {
    "n_rivals": 5, "near": 2, "seam_lines": 32, "seam_cols": 96, "seam_long": 1 / 16,
    "slice_cols": 128, "slice_step": 2.0, "window": 40,
}  # fmt: skip
"""Removed inputs of version 9, hashed as before so that its weights still load."""


def recipe_hash(recipe: Recipe) -> str:
    """Return the sha256 of a recipe's canonical JSON, version included."""
    text = json.dumps(asdict(recipe) | _GONE, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


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
    spread_px: float  # expected error there, unbinned px


def all_curves(curves: Curves) -> CurveSet:
    """Evaluate all kinds of evidence: the classical ones, and last minimum total variation.

    They are not valid where they show nothing, or `minimum_total_variation` has no answer.
    """
    measures = curves.measures
    minimum = curves.total_variation if measures.valid.any() else None
    raw = prominence = np.zeros(len(measures.cor_px))
    if minimum is not None:
        excess = np.interp(measures.cor_px, minimum.cor_px, minimum.excess)
        height = _HEIGHT * np.exp(-excess / _WIDTH)
        raw, prominence = -np.log(_LEAST + excess), np.log1p(height**2 / 4)
    return replace(
        measures,
        raw=np.vstack([measures.raw, raw]).astype(np.float32),
        prominence=np.vstack([measures.prominence, prominence]).astype(np.float32),
        valid=np.append(measures.valid, minimum is not None),
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
    """Add the evidence of all kinds."""

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
