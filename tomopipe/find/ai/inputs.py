"""What the networks see of a scan: curves along the COR axis, rivals, and pictures around them."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from tomopipe.find.ai.pictures import seam_pictures, window_pictures
from tomopipe.find.ai.recipe import Recipe
from tomopipe.find.curves import Curves
from tomopipe.find.seen import see
from tomopipe.find.slices import Reconstruct
from tomopipe.io.rows import Rows

_PER_KIND, _GENERAL = 5, 5  # channels


@dataclass(frozen=True, eq=False)
class Inputs:
    """The input of one scan.

    Attributes
    ----------
    cor_px : ndarray of float64, shape (n_grid,)
        The grid, unbinned px.
    grid : ndarray of float32, shape (n_channels, n_grid)
        Of each kind the standardised raw curve, the prominence, nearness and signed way to the
        kind's own best and whether it saw anything; then the sum of all evidence, overlap, texture,
        distance from the middle and nearness of the border.
    scan : ndarray of float32, shape (n_scalars,)
        What is known of the scan as a whole.
    rival_index : ndarray of int, shape (n_rivals,)
        Places on the grid, -1 where there are fewer.
    rival : ndarray of float32, shape (n_rivals, n_features)
        Evidence at each rival.
    seam, windows : ndarray of float16 or None
        As of `seam_pictures` and `window_pictures`.
    """

    cor_px: NDArray[np.float64]
    grid: NDArray[np.float32]
    scan: NDArray[np.float32]
    rival_index: NDArray[np.intp]
    rival: NDArray[np.float32]
    seam: NDArray[np.float16] | None = None
    windows: NDArray[np.float16] | None = None

    @property
    def rivals_px(self) -> NDArray[np.float64]:
        """COR of each rival, NaN where there are fewer."""
        there = self.rival_index >= 0
        return np.where(there, self.cor_px[self.rival_index], np.nan)


def make_inputs(curves: Curves, recipe: Recipe) -> Inputs:
    """Make what the networks see of the curves of one scan.

    Parameters
    ----------
    curves : Curves
        Of `tomopipe.find.ai.curves.all_curves`.
    recipe : Recipe
        Constants.

    Returns
    -------
    Inputs
        Without pictures.
    """
    valid = curves.valid.astype(np.float32)
    prominence = curves.prominence * valid[:, None]
    total = add_up(prominence, recipe)
    own = np.argmax(prominence, axis=1)
    place = np.arange(len(curves.cor_px))
    away = (place - own[:, None]).astype(np.float32)
    per_kind = np.stack(
        [
            _standardised(curves.raw, recipe.clip_sigmas) * valid[:, None],
            prominence,
            np.exp(-0.5 * (away / 4.0) ** 2) * valid[:, None],
            np.sign(away) * np.log1p(np.abs(away)) / 4.0 * valid[:, None],
            np.broadcast_to(valid[:, None], prominence.shape),
        ],
        axis=1,
    )
    middle = 2.0 * place / max(1, len(place) - 1) - 1.0
    border = np.exp(-np.minimum(place, place[::-1]) / 8.0)
    general = np.stack([total, curves.overlap, curves.texture, np.abs(middle), border])
    grid = np.concatenate([per_kind.reshape(-1, len(place)), general]).astype(np.float32)
    index = _rivals(prominence, total, own, valid, recipe)
    scan = scan_vector(curves, recipe)
    rival = _at_rivals(grid, curves, index, recipe)
    return Inputs(curves.cor_px, grid, scan, index, rival)


def with_pictures(
    inputs: Inputs, rows: Rows, binning: int, reconstruct: Reconstruct, recipe: Recipe, which: str
) -> Inputs:
    """Add the pictures that a network needs.

    Parameters
    ----------
    inputs : Inputs
        Of `make_inputs`.
    rows : Rows
        The scan.
    binning : int
        That of the curves.
    reconstruct : callable
        Makes slices of one sinogram at several CORs.
    recipe : Recipe
        Constants.
    which : str
        Holds "B" for the seam, "C" for the slices.

    Returns
    -------
    Inputs
        With what was asked for.
    """
    seen = see(rows)
    if "B" in which:
        seam = seam_pictures(seen, binning, inputs.rivals_px, recipe)
        inputs = replace(inputs, seam=seam)
    if "C" in which:
        windows = window_pictures(seen, inputs.rivals_px, reconstruct, recipe)
        inputs = replace(inputs, windows=windows)
    return inputs


def mirrored(inputs: Inputs, n_kinds: int) -> Inputs:
    """Return the input of the scan seen in a mirror: left and right exchanged.

    Parameters
    ----------
    inputs : Inputs
        Of a scan, pictures or not.
    n_kinds : int
        Kinds of evidence in the grid.

    Returns
    -------
    Inputs
        What the mirrored sinogram gives: its slices are turned by half a turn.
    """
    grid = inputs.grid[:, ::-1].copy()
    ways = 3 + _PER_KIND * np.arange(n_kinds)
    grid[ways] *= -1
    there = inputs.rival_index >= 0
    index = np.where(there, inputs.grid.shape[1] - 1 - inputs.rival_index, -1)
    last = inputs.cor_px[-1] + inputs.cor_px[0]
    seam, windows = inputs.seam, inputs.windows
    if seam is not None:
        seam = seam[..., ::-1]
    if windows is not None:
        sign = np.array([1, -1, 1], np.float16)[:, None, None]
        windows = windows[..., ::-1, ::-1] * sign
    return replace(
        inputs,
        cor_px=last - inputs.cor_px[::-1],
        grid=grid,
        rival_index=index,
        seam=seam,
        windows=windows,
    )


def scan_vector(curves: Curves, recipe: Recipe) -> NDArray[np.float32]:
    """Return what is told of a scan, each number from 0 to 1, and which kinds saw anything."""
    told = []
    for name, scale, low, high in recipe.scalars:
        value, zero, one = (
            float(np.log(max(number, 1e-9))) if scale == "log" else number
            for number in (curves.scan[name], low, high)
        )
        told.append(np.clip((value - zero) / (one - zero), 0.0, 1.0))
    return np.array([*told, *curves.valid], dtype=np.float32)


def add_up(prominence: NDArray[np.float32], recipe: Recipe) -> NDArray[np.float32]:
    """Add the evidence of all kinds; frozen, whatever becomes of `tomopipe.find.combine`."""

    def of(kinds: tuple[str, ...]) -> NDArray[np.float32]:
        return prominence[[recipe.kinds.index(kind) for kind in kinds]]

    total = of(recipe.seam + recipe.single).sum(axis=0) + of(recipe.slices).max(axis=0)
    return np.asarray(total / 6.0, dtype=np.float32)


def _standardised(raw: NDArray[np.float32], clip_sigmas: float) -> NDArray[np.float32]:
    """Curves less their median in units of their standard deviation, clipped and scaled."""
    away = raw - np.median(raw, axis=1, keepdims=True)
    unit = np.maximum(away.std(axis=1, keepdims=True), 1e-12)
    return np.asarray(np.clip(away / unit, -clip_sigmas, clip_sigmas) / 3.0, dtype=np.float32)


def _rivals(
    prominence: NDArray[np.float32],
    total: NDArray[np.float32],
    own: NDArray[np.intp],
    valid: NDArray[np.float32],
    recipe: Recipe,
) -> NDArray[np.intp]:
    """Best place of the sum, those of each kind from the most prominent, then the sum's others."""
    height = prominence[np.arange(len(own)), own] * valid
    kinds = [int(own[k]) for k in np.argsort(-height) if height[k] > 0]
    chosen: list[int] = []
    dips = np.flatnonzero(total == ndimage.maximum_filter1d(total, 2 * recipe.apart + 1))
    others = [int(i) for i in dips[np.argsort(-total[dips])]]
    pool = [int(np.argmax(total)), *kinds, *others]
    for index in pool:
        if len(chosen) < recipe.n_rivals and all(abs(index - c) >= recipe.apart for c in chosen):
            chosen.append(index)
    chosen += [-1] * (recipe.n_rivals - len(chosen))
    return np.array(chosen, dtype=np.intp)


def _at_rivals(
    grid: NDArray[np.float32], curves: Curves, index: NDArray[np.intp], recipe: Recipe
) -> NDArray[np.float32]:
    """Evidence at each rival, alone and where the turn is full, short or the sample truncated."""
    n_kinds = len(curves.valid)
    kinds = grid[: _PER_KIND * n_kinds].reshape(n_kinds, _PER_KIND, -1)
    prominence = kinds[:, 1]
    best = np.maximum(prominence.max(axis=1), 1e-6)
    rows = []
    for i in index:
        near = slice(max(0, i - recipe.near), i + recipe.near + 1)
        if i < 0:
            rows.append(np.zeros(7 * n_kinds + _GENERAL))
            continue
        height = prominence[:, near].max(axis=1)
        told = [curves.scan["full_turn"], curves.scan["short_turn"], 1.0 - curves.scan["air"]]
        rows.append(
            np.concatenate(
                [
                    height,
                    height / best,
                    kinds[:, 0, near].max(axis=1),
                    kinds[:, 2, near].max(axis=1),
                    grid[_PER_KIND * n_kinds :, i],
                    *(height * factor for factor in told),
                ]
            )
        )
    return np.array(rows, dtype=np.float32)
