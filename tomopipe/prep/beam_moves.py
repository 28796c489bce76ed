"""A beam whose stripes move up and down between flats and projections (`flat_method: register`).

Stripes of a monochromator or a multilayer are horizontal. The pattern that moves is what the flats
have in common once each is moved to the others, averaged over some columns; what stays on the
detector is not moved; flats of one place have both, and air shows which moves. No flat is moved
while rows are read: how the pattern changes by any move has a few principal components, and the
move of a projection sets their weights. Moves are fitted in air, to frames of all rows: one number
for each projection, with its brightness and its fall from the top to the bottom, which are
corrected, too.
"""

import logging
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tomopipe.prep.air import Averages, BeamFit
from tomopipe.prep.recipe import MOVED_SHAPES
from tomopipe.prep.wavelets import without_noise
from tomopipe.scans.scan import Scan

_MOST_COLS = 64  # of the averaged frames
_SPLINE_ROWS = 12  # beyond the rows, after which a cubic spline has forgotten its boundary
_STEP_PX, _FINER = 0.25, 25  # between moves whose change is computed; so many more are compared
_EXACT = 5e-4  # rms error of a change by its components
_MOST_SHAPES = MOVED_SHAPES - 2  # components
_LEAST_CHANGE = 1e-3  # of the beam, rms: less is no stripe
_TIMES = 5  # that moves of flats, their pattern, and what does not move are fitted in turn
_FIXED = 0.9  # of what seems not to move; the rest moves, as flats may not tell both apart
_LEVELS = (0.1, 0.02)  # usual changes of brightness, and of its fall
_LEAST_BEAM = 0.3  # of that of the flat: a projection with less gets the flat itself
# largest chi square per pixel that moves leave, as such or of what they explain, if air is air
_MOST_LEFT, _MOST_SHARE = 0.15, 0.03
_LEAST_AIR = 0.06  # of the pixels, unless it is stated
_WIDTHS = (1, 2, 4, 8)  # averaged columns: structures across, each with its share that moves
_ROUNDS, _USUAL = 3, 2.5  # in which these shares are fitted without dust; noise beyond which it is
_NO_AIR = "no pixels are certainly air at all angles, or the beam changes in other ways, too"
_ROWS_PER_PX = 6  # least number of rows for each pixel that the beam may move

logger = logging.getLogger(__name__)


class MovedBeam(NamedTuple):
    """The fields of `tomopipe.prep.flats.Beam`."""

    flat: NDArray[np.float32]
    shapes: NDArray[np.float32]
    weights: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class _Fit:
    """Changes of the beam by moves, fitted to the air of frames."""

    averages: Averages  # by the mean of the flats without their moves
    air: BeamFit  # its shapes: brightness, its fall, and components of the change by a move
    weights: NDArray[np.float32]  # of these shapes (n_frames, n_shapes)
    moves_px: NDArray[np.float64]  # (n_frames,)


def follow_beam(scan: Scan, most_px: float, n_air_px: int) -> MovedBeam | str:
    """Fit the moves of the beam, at most `most_px` from its middle; or tell why it cannot be.

    Air is so many columns at each side, or is looked for.
    """
    if not scan.n_flats or scan.n_rows < _ROWS_PER_PX * most_px:
        return f"{scan.n_flats} flats of {scan.n_rows} rows are too few for {most_px:g} px"
    wide = max(1, min(-(-scan.n_cols // _MOST_COLS), n_air_px or scan.n_cols))
    plain = Averages(scan, scan.flat, 1, wide)
    if not plain.lit.any():
        return "the flats are not above the darks"
    flats = plain.flats()
    pattern, of_flats_px = _align(_stripes(flats * plain.signal), 2 * most_px)
    first = _fit(plain, flats, pattern, of_flats_px, most_px, n_air_px)
    if isinstance(first, str):
        return first
    pattern = _moving_part(pattern, first)
    fit = _fit(plain, flats, pattern, of_flats_px, most_px, n_air_px, all_frames=True)
    if isinstance(fit, str):
        return fit
    n_far = np.count_nonzero(np.abs(fit.moves_px) > most_px - _STEP_PX)
    logger.info(
        "the beam moves by %.2f to %.2f px, flats by %.2f to %.2f px; %d components, %.0f %% air",
        *(f(px) for px in (fit.moves_px, of_flats_px) for f in (np.min, np.max)),
        len(fit.air.shapes) - 2,
        100 * fit.air.air.mean(),
    )
    if n_far:
        logger.warning(
            "preprocess.flat_method: register: in %d of %d projections the beam moves by %g px or "
            "more: raise preprocess.flat_shift_px",
            *(n_far, scan.n_angles, most_px),
        )
    return MovedBeam(fit.averages.flat, _widened(fit.air.shapes, wide, scan.n_cols), fit.weights)


def _fit(
    plain: Averages,
    flats: NDArray[np.float32],
    pattern: NDArray,
    of_flats_px: NDArray[np.float64],
    most_px: float,
    n_air_px: int,
    *,
    all_frames: bool = False,
) -> _Fit | str:
    """Find air by the pattern that moves, and fit the moves of all frames or those looked at.

    `flats` are averages by the `plain` mean.
    """
    scan, wide, margin = plain.scan, plain.wide, int(np.ceil(most_px))
    pattern = without_noise(np.asarray(pattern, np.float32), plain.signal.clip(0))
    moves_px = _grid(most_px)
    changes = _changes(pattern, moves_px)
    if np.sqrt(np.mean(changes[:, margin:-margin] ** 2)) < _LEAST_CHANGE:
        return "the flats have no stripes"
    curve, components = _components(changes)
    fall = np.linspace(-1, 1, scan.n_rows, dtype=np.float32)[:, None] + 0 * components[0]
    small = np.stack([np.ones_like(fall), fall, *components])
    of_flats = _changes(pattern, of_flats_px)
    averages = Averages(scan, _mean_flat(plain, of_flats), 1, wide, margin)
    with np.errstate(divide="ignore", invalid="ignore"):
        still = flats * (plain.signal / averages.signal) / (1 + of_flats)
    stated = None
    if n_air_px:
        left = wide * np.arange(fall.shape[1])
        aside = (left + wide <= n_air_px) | (left >= scan.n_cols - n_air_px)
        stated = np.broadcast_to(aside, fall.shape)
    spread = np.hstack([_LEVELS, np.sqrt(np.mean(curve**2, axis=0))])
    air = averages.beam_fit(still.astype(np.float32), small, spread, stated)
    if air is None or air.air.mean() <= (0 if n_air_px else _LEAST_AIR):
        return _NO_AIR
    weights = averages.weights(air) if all_frames else air.weights(averages.looked_at)
    on_curve = _on_curve(weights, curve, moves_px, air)
    return _Fit(averages, air, *on_curve) if on_curve else _NO_AIR


def _grid(most_px: float) -> NDArray[np.float64]:
    n = int(np.ceil(most_px / _STEP_PX))
    return np.linspace(-most_px, most_px, 2 * n + 1)


def _moved(image: NDArray, moves_px: NDArray) -> NDArray[np.float32]:
    """Move an image (n_rows, n_cols) down by each of `moves_px`, (n_moves, n_rows, n_cols).

    Between rows by a cubic spline; the first and the last row continue beyond.
    """
    from scipy import ndimage  # slow to load, and not needed to estimate memory

    n_rows, beyond = len(image), int(np.ceil(np.abs(moves_px).max())) + _SPLINE_ROWS
    padded = np.pad(image, [(beyond, beyond), (0, 0)], mode="edge")
    knots = ndimage.spline_filter1d(padded, 3, axis=0)
    result = np.empty((len(moves_px), *image.shape), np.float32)
    for moved, move_px in zip(result, moves_px.tolist(), strict=True):
        first = beyond - 1 - int(np.ceil(move_px))
        part = np.ceil(move_px) - move_px
        far = np.abs(np.arange(-1, 3) - part)
        near = (4 - 6 * far**2 + 3 * far**3) / 6
        taps = np.where(far < 1, near, (2 - far) ** 3 / 6)  # of the cubic B-spline
        moved[...] = sum(tap * knots[row : row + n_rows] for row, tap in enumerate(taps, first))
    return result


def _changes(pattern: NDArray, moves_px: NDArray) -> NDArray[np.float32]:
    """Return how moves change the beam, as a share of it, (n_moves, n_rows, n_cols)."""
    return np.expm1(_moved(pattern, moves_px) - pattern.astype(np.float32))


def _stripes(flats: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the logarithm of flats, less its mean, and a parabola along each column."""
    least = max(0.05 * float(np.median(flats)), 1e-30)
    logs = np.log(np.maximum(flats, least))
    logs -= logs.mean(axis=(1, 2), keepdims=True)
    smooth, _ = np.linalg.qr(np.vander(np.linspace(-1, 1, flats.shape[1]), 3))
    return np.asarray(logs - smooth @ (smooth.T @ logs.mean(axis=0)), np.float32)


def _align(flats: NDArray[np.float32], most_px: float) -> tuple[NDArray, NDArray[np.float64]]:
    """Return the pattern that moves in logarithms of flats, and the move of each; 0 on average.

    What does not move with it remains. Where flats do not tell them apart, all moves.
    """
    grid_px, margin = _grid(most_px), int(np.ceil(most_px))
    inner = slice(margin, -margin)
    fixed, pattern = np.zeros_like(flats[0]), flats[0]
    for _ in range(_TIMES):
        moved = _moved(pattern, grid_px)[:, inner].reshape(len(grid_px), -1)
        left = (flats - fixed)[:, inner].reshape(len(flats), -1)
        misfit = np.sum(moved**2, axis=1) - 2 * left @ moved.T
        moves_px = _least(misfit, grid_px)
        moves_px -= moves_px.mean()
        back = [_moved(f - fixed, -px)[0] for f, px in zip(flats, moves_px[:, None], strict=True)]
        pattern = np.mean(back, axis=0)
        fixed = _FIXED * np.mean(flats - _moved(pattern, moves_px), axis=0)
    return pattern, moves_px


def _moving_part(pattern: NDArray, fit: _Fit) -> NDArray:
    """Return what of a pattern moves, as the air of frames shows: a share of each width across.

    Stripes are wide, dust and pixels of another gain are not, and flats of one place have both.
    """
    from scipy import ndimage  # as above

    air = fit.air.air
    beam = 1 + np.tensordot(fit.weights[:, :2], fit.air.shapes[:2, air], 1)
    frames = fit.averages.looked_at[:, air] / np.maximum(beam, _LEAST_BEAM)
    logs = np.log(np.maximum(frames, _LEAST_BEAM)).ravel()
    precise = np.tile(1 / fit.air.noise[air] ** 2, len(frames))
    usual = pattern
    for _ in range(_ROUNDS):
        smooth = [ndimage.gaussian_filter1d(usual, px, mode="nearest") for px in _WIDTHS]
        parts = np.stack([*(a - b for a, b in pairwise([usual, *smooth])), smooth[-1]])
        by_move = np.stack([(_moved(part, fit.moves_px) - part)[:, air].ravel() for part in parts])
        weighed = by_move * precise
        # near 1 where moves do not show it
        normal = weighed @ by_move.T + np.eye(len(parts))
        shares = 1 + np.linalg.solve(normal, weighed @ (logs - by_move.sum(axis=0)))
        moving = np.tensordot(shares, parts, 1)
        rest = pattern - moving
        limit = _USUAL * np.median(np.abs(rest)) / 0.6745
        usual = moving + rest.clip(-limit, limit)
    return np.asarray(moving)


def _least(misfit: NDArray, grid_px: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return where each misfit (n, n_grid) is least, between the points by a parabola."""
    at = np.clip(np.argmin(misfit, axis=1), 1, len(grid_px) - 2)
    before, here, after = (misfit[np.arange(len(at)), at + step] for step in (-1, 0, 1))
    bend = before - 2 * here + after
    part = np.divide(before - after, 2 * bend, out=np.zeros(len(at)), where=bend > 0)
    return np.asarray(grid_px[at] + np.clip(part, -1, 1) * (grid_px[1] - grid_px[0]))


def _components(changes: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Return weights (n_moves, n) and components (n, n_rows, n_cols) that make up changes."""
    flat = changes.reshape(len(changes), -1)
    strengths, vectors = np.linalg.eigh(np.asarray(flat @ flat.T, np.float64) / flat.shape[1])
    strengths, vectors = strengths[::-1], vectors[:, ::-1]
    left = strengths.sum() - np.cumsum(strengths)  # by the first, the first two, ...
    n = min(1 + np.count_nonzero(left > len(changes) * _EXACT**2), _MOST_SHAPES)
    scale = np.sqrt(strengths[:n])
    components = (vectors[:, :n] / scale).T.astype(np.float32) @ flat
    return vectors[:, :n] * scale, components.reshape(n, *changes.shape[1:])


def _mean_flat(averages: Averages, changes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the mean of the flats, each divided by its change of the beam."""
    scan, flat = averages.scan, averages.scan.dark.copy()
    for first, last in averages.bands():
        above = scan.read_flats(first, last) - scan.dark[first:last]
        change = _widened(changes[:, first:last], averages.wide, scan.n_cols)
        flat[first:last] += np.mean(above / (1 + change), axis=0)
    return scan.without_stuck(flat)


def _widened(images: NDArray[np.float32], wide: int, n_cols: int) -> NDArray[np.float32]:
    """Return averages over `wide` columns as images (n, n_rows, n_cols), by straight lines."""
    at = (np.arange(n_cols) - (wide - 1) / 2) / wide
    at = at.clip(0, images.shape[-1] - 1).astype(np.float32)
    left = np.minimum(at.astype(int), max(images.shape[-1] - 2, 0))
    right = np.minimum(left + 1, images.shape[-1] - 1)
    result = np.empty((*images.shape[:-1], n_cols), np.float32)
    for image, wider in zip(images, result, strict=True):
        wider[...] = image[:, left] + (at - left) * (image[:, right] - image[:, left])
    return result


def _on_curve(
    weights: NDArray, curve: NDArray, moves_px: NDArray, fit: BeamFit
) -> tuple[NDArray[np.float32], NDArray[np.float64]] | None:
    """Return the weights of the moves that explain fitted weights best, and these moves.

    The first two weights are of brightness and its fall. Fitted ones are those of no move exactly,
    because of noise. None where they are far from all moves: a sample has other weights.
    """
    from scipy import ndimage  # as above

    at = np.linspace(0, len(moves_px) - 1, _FINER * (len(moves_px) - 1) + 1)
    grid_px = np.interp(at, np.arange(len(moves_px)), moves_px)
    splines = [ndimage.map_coordinates(line, [at], mode="nearest") for line in curve.T]
    fine = np.stack(splines, axis=1)
    shapes, precise = fit.shapes[:, fit.air].astype(np.float64), 1 / fit.noise[fit.air] ** 2
    normal = (shapes * precise) @ shapes.T
    normal[np.diag_indices_from(normal)] += 1 / fit.spread**2
    # of the components alone, whatever the other two weights are
    normal = np.linalg.inv(np.linalg.inv(normal)[2:, 2:])
    beam = 1 + weights[:, :1].astype(np.float64)
    is_lit = beam > _LEAST_BEAM
    fitted = np.divide(weights[:, 2:], beam, out=np.zeros_like(weights[:, 2:]), where=is_lit)
    misfit = np.sum(fine @ normal * fine, axis=1) - 2 * fitted @ normal @ fine.T
    best = np.argmin(misfit, axis=1)
    off = np.sum(fitted @ normal * fitted, axis=1) + misfit.min(axis=1)
    still = misfit[:, len(grid_px) // 2]
    left, explained = (np.median(x) / shapes.shape[1] for x in (off, still - misfit.min(axis=1)))
    if left > max(_MOST_LEFT, _MOST_SHARE * explained):
        logger.info("moves explain %.2g of chi square per pixel and leave %.2g", explained, left)
        return None
    result = np.hstack([weights[:, :2], beam * fine[best]])
    return np.where(is_lit, result, 0).astype(np.float32), grid_px[best] * is_lit[:, 0]
