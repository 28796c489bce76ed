"""Iterative reconstruction from few angles: SIRT, CGLS, total variation.

For tens of projections; with many angles the filtered backprojection of `tomopipe.recon.fbp` is
equally good and a thousand times faster.

Backprojection is the engine, projection its adjoint (`tomopipe.recon.projection`). The object has
to lie inside the slice. Up to 16 slices that are projected together take little longer than 4.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tomopipe.recon.compiled import reconstruct_batch
from tomopipe.recon.fbp import checked_cor
from tomopipe.recon.jit import kernel
from tomopipe.recon.plan import Plan, image_positions, make_plan
from tomopipe.recon.projection import project_batch

Array = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Projector:
    """A scan's geometry as a linear map and its adjoint."""

    plan: Plan  # without filter: the engine sums rows over angles, nothing beyond their ends
    cor_px: NDArray[np.float64]  # () or (n_slices,): the axis, or that of each slice

    @property
    def sinogram_shape(self) -> tuple[int, int]:
        """(n_angles, n_cols)."""
        return self.plan.n_angles, self.plan.n_cols

    @property
    def slice_shape(self) -> tuple[int, int]:
        """(n_cols, n_cols)."""
        return self.plan.n_cols, self.plan.n_cols

    def project(self, images: Array) -> Array:
        """Return the line integrals (..., n_angles, n_cols) of slices (..., n_cols, n_cols)."""
        return self._batches(project_batch, images, self.slice_shape, self.sinogram_shape)

    def back_project(self, sinograms: Array) -> Array:
        """Sum unfiltered rows (..., n_angles, n_cols) over angles: the adjoint of `project`."""
        return self._batches(_sum_rows, sinograms, self.sinogram_shape, self.slice_shape)

    def _batches(
        self,
        function: Callable[..., None],
        values: Array,
        shape: tuple[int, int],
        result_shape: tuple[int, int],
    ) -> Array:
        """Call a function of slices and of what it fills, a batch of them at a time."""
        before, plan = values.shape[:-2], self.plan
        stack = np.ascontiguousarray(values.reshape(-1, *shape), np.float32)
        result = np.empty((len(stack), *result_shape), np.float32)
        cor_px = checked_cor(self.cor_px, len(stack))
        for first in range(0, len(stack), plan.batch_size):
            part = slice(first, first + plan.batch_size)
            function(stack[part], plan, cor_px[part], result[part])
        return result.reshape(*before, *result_shape)


def _sum_rows(sinograms: Array, plan: Plan, cor_px: NDArray[np.float64], images: Array) -> None:
    reconstruct_batch(sinograms, plan, cor_px, images, threads=1)


Solve = Callable[[Array, Projector], Array]


def make_projector(
    theta_rad: ArrayLike, n_cols: int, cor_px: float, *, n_padded: int | None = None
) -> Projector:
    """Plan projections of slices about a COR.

    Parameters
    ----------
    theta_rad : array_like of float, shape (n_angles,)
        In any order.
    n_cols : int
        Columns of the sinogram, and of the slices.
    cor_px : float
        Column of the sinogram.
    n_padded : int, optional
        Period of projections, columns, even: they repeat beyond it. None: no less than twice the
        columns, which is right wherever the axis lies; less takes less time.

    Returns
    -------
    Projector
        Forward and back projection, exact adjoints of each other.
    """
    plan = make_plan(theta_rad, n_cols)
    period = n_padded or plan.n_padded
    gain = np.full(period // 2 + 1, 1 / period)
    gain[[0, -1]] /= 2  # the engine's convention: the conjugate half repeats these
    plan = replace(
        plan,
        n_padded=period,
        taper=np.zeros(period - n_cols, np.float32),
        gain=gain,
        weight=np.ones(plan.n_angles),
        full_rotation=False,
        cache={},
    )
    return Projector(plan, np.asarray(cor_px, float))


def about(projector: Projector, cor_px: ArrayLike) -> Projector:
    """Return the projector of the same scan about another COR, or one COR for each slice.

    It shares the order of the samples.
    """
    return replace(projector, cor_px=np.asarray(cor_px, float))


_LEAST_SHARE = 0.05  # share of the median row or column sum below which it is not divided by


def solver(algorithm: str, projector: Projector, n_iterations: int, tv_strength: float) -> Solve:
    """Return solve(sinogram, projector) of an algorithm (sirt, cgls or tv), which gives the slice.

    Values are not below 0, except with cgls; `tv_strength` is the strength of `total_variation`.
    """
    if algorithm == "sirt":
        return partial(sirt, n_iterations=n_iterations, least=0.0)
    if algorithm == "cgls":
        return partial(cgls, n_iterations=n_iterations)
    gain = largest_gain(projector)
    return partial(
        total_variation, strength=tv_strength, n_iterations=n_iterations, least=0.0, gain=gain
    )


def solve_slices(sinograms: Array, projector: Projector, solve: Solve, threads: int) -> Array:
    """Reconstruct some slices (n_slices, n_cols, n_cols), each in one thread, by `solver`.

    Corrected sinograms are (n_slices, n_angles, n_cols); non-finite values count as 0.
    """
    finite = np.nan_to_num(sinograms, nan=0, posinf=0, neginf=0)
    with ThreadPoolExecutor(threads) as pool:
        return np.stack(list(pool.map(lambda sinogram: solve(sinogram, projector), finite)))


def sirt(
    sinogram: Array, projector: Projector, *, n_iterations: int = 200, least: float = -np.inf
) -> Array:
    """Reconstruct by the simultaneous iterative reconstruction technique [1]_.

    `sinogram` (n_angles, n_cols) is corrected, of an object entirely within the field of view;
    `least` is the smallest value of a voxel: 0 if nothing attenuates less than air. More iterations
    give sharper and noisier slices. Returns linear attenuation per pixel, (n_cols, n_cols).

    References
    ----------
    .. [1] A. H. Andersen, A. C. Kak, Ultrasonic Imaging 6, 81 (1984).
    """
    _check(sinogram.shape, projector)
    disk = field_of_view(projector)
    rows = _inverse(projector.project(disk))
    columns = disk * _inverse(projector.back_project(np.ones_like(sinogram)))
    image = np.zeros(projector.slice_shape, dtype=np.float32)
    for _ in range(n_iterations):
        missing = rows * (sinogram - projector.project(image))
        image += columns * projector.back_project(missing)
        np.maximum(image, np.float32(least), out=image)
    return image


def cgls(sinogram: Array, projector: Projector, *, n_iterations: int = 15) -> Array:
    """Reconstruct by conjugate gradients for least squares [1]_, regularised by stopping early.

    10 to 30 iterations; the rest is as for `sirt`.

    References
    ----------
    .. [1] M. R. Hestenes, E. Stiefel, J. Res. Natl. Bur. Stand. 49, 409 (1952).
    """
    _check(sinogram.shape, projector)
    disk = field_of_view(projector)
    image = np.zeros(projector.slice_shape, dtype=np.float32)
    residual = sinogram.astype(np.float32)
    gradient = disk * projector.back_project(residual)
    direction, power = gradient, _square(gradient)
    for _ in range(n_iterations):
        if power == 0:
            break
        step = disk * direction
        change = projector.project(step)
        length = np.float32(power / _square(change))
        image += length * step
        residual = residual - length * change
        gradient = disk * projector.back_project(residual)
        power, previous = _square(gradient), power
        direction = gradient + np.float32(power / previous) * direction
    return image


def total_variation(
    sinogram: Array,
    projector: Projector,
    *,
    strength: float,
    n_iterations: int = 100,
    least: float = -np.inf,
    gain: float | None = None,
    weigh: Callable[[Array], Array] | None = None,
    n_inner: int = 20,
) -> Array:
    """Reconstruct by least squares with a total-variation penalty (FISTA) [1]_.

    Parameters
    ----------
    sinogram : ndarray of float32, shape (n_angles, n_cols) or (n_slices, n_angles, n_cols)
        Corrected, of an object entirely within the field of view. Several slices are solved
        together, about one axis or each about its own (`tomopipe.recon.iterative.about`).
    strength : float
        Weight of the total variation against half the squared misfit, as a share of the largest
        value in the backprojected sinogram; larger for noisier data.
    gain : float, optional
        `largest_gain` of the projector; None: it is computed.
    weigh : callable, optional
        Linear weighting of the residuals (shape of `sinogram`), such as the inverse covariance of
        the noise, with values up to 1. None: equal weights.
    n_inner : int
        Steps of `least_variation_near` in each step.

    Other parameters as for `sirt`.

    References
    ----------
    .. [1] A. Beck, M. Teboulle, IEEE Trans. Image Process. 18, 2419 (2009).
    """
    _check(sinogram.shape[-2:], projector)
    disk = field_of_view(projector)
    weight = variation_weight(sinogram, projector, strength)
    step = np.float32(1 / (gain or largest_gain(projector)))
    image = np.zeros((*sinogram.shape[:-2], *projector.slice_shape), dtype=np.float32)
    ahead, momentum = image, 1.0
    dual = None
    for _ in range(n_iterations):
        misfit = projector.project(ahead) - sinogram
        misfit = misfit if weigh is None else weigh(misfit)
        lower = ahead - step * disk * projector.back_project(misfit)
        smooth, dual = least_variation_near(lower, weight * step, dual, n_inner)
        result = disk * np.maximum(smooth, np.float32(least))
        momentum, before = (1 + np.sqrt(1 + 4 * momentum**2)) / 2, momentum
        ahead = result + np.float32((before - 1) / momentum) * (result - image)
        image = result
    return image


def least_variation_near(
    images: Array, weight: ArrayLike, dual: Array | None = None, n_steps: int = 20
) -> tuple[Array, Array]:
    """Minimise half the squared distance to an image plus `weight` times the total variation [1]_.

    Images are (n_y, n_x) or (n_images, n_y, n_x), `weight` a number or (n_images,). `dual`
    (n_images, 2, n_y, n_x) is the start, as returned by an earlier call; it is overwritten. Returns
    an approximate minimum, and the dual for the next call.

    References
    ----------
    .. [1] A. Chambolle, J. Math. Imaging Vis. 20, 89 (2004).
    """
    stack = np.ascontiguousarray(images.reshape(-1, *images.shape[-2:]), np.float32)
    weights = np.broadcast_to(np.asarray(weight, np.float32), (len(stack),))
    if dual is None:
        dual = np.zeros((len(stack), 2, *stack.shape[1:]), np.float32)
    near = np.empty_like(stack)
    for image, share, (down, across), entry in zip(stack, weights, dual, near, strict=True):
        step = np.float32(1 / (8 * share)) if share > 0 else share
        _take_steps(image, share, step, n_steps if share > 0 else 0, down, across, entry)
    return near.reshape(images.shape), dual


@kernel
def _take_steps(
    image: Any, weight: Any, step: Any, n: int, down: Any, across: Any, result: Any
) -> None:
    for _ in range(n):
        _less_variation(image, weight, down, across, result)
        _climb(result, step, down, across)
    _less_variation(image, weight, down, across, result)


@kernel
def _less_variation(image: Any, weight: Any, down: Any, across: Any, result: Any) -> None:
    """Subtract the weighted adjoint of the differences (0 in the last row or column)."""
    n_y, n_x = image.shape
    for y in range(n_y):
        result[y, 0] = image[y, 0] + weight * (down[y, 0] + across[y, 0])
        for x in range(1, n_x):
            result[y, x] = image[y, x] + weight * (down[y, x] + across[y, x] - across[y, x - 1])
        if y > 0:
            for x in range(n_x):
                result[y, x] -= weight * down[y - 1, x]


@kernel
def _climb(image: Any, step: Any, down: Any, across: Any) -> None:
    """Move the dual along the differences of an image, no further than length 1."""
    n_y, n_x = image.shape
    unit = np.float32(1)
    for y in range(n_y):
        below = min(y + 1, n_y - 1)  # in the last row the difference is 0
        for x in range(n_x - 1):
            a = down[y, x] + step * (image[below, x] - image[y, x])
            b = across[y, x] + step * (image[y, x + 1] - image[y, x])
            shorter = unit / np.sqrt(max(unit, a * a + b * b))
            down[y, x] = a * shorter
            across[y, x] = b * shorter
        a = down[y, n_x - 1] + step * (image[below, n_x - 1] - image[y, n_x - 1])
        down[y, n_x - 1] = a / max(unit, abs(a))


def variation_weight(sinogram: Array, projector: Projector, strength: float) -> Array:
    """Return the weight of the variation in `total_variation` for a strength, per slice."""
    largest = abs(projector.back_project(sinogram)).max(axis=(-2, -1))
    return np.asarray(strength * largest, np.float32)


def field_of_view(projector: Projector) -> Array:
    """Return 1 in the circle inside the field of view at every angle, 0 outside it."""
    n_cols = projector.plan.n_cols
    x, y = image_positions(n_cols)
    return (x**2 + (y**2)[:, None] < (n_cols / 2 - 1) ** 2).astype(np.float32)


def largest_gain(projector: Projector, n_iterations: int = 20) -> float:
    """Return the largest eigenvalue of projection followed by its adjoint, plus 5 %."""
    disk = field_of_view(projector)
    images, gain = np.broadcast_to(disk, (*projector.cor_px.shape, *disk.shape)), np.ones(())
    for _ in range(n_iterations):
        images = disk * projector.back_project(projector.project(images))
        gain = np.linalg.norm(images, axis=(-2, -1))
        images = images / gain[..., None, None]
    return 1.05 * float(gain.max())


def _inverse(sums: Array) -> Array:
    """Return 1 / sums, and 0 for sums near 0."""
    enough = sums > _LEAST_SHARE * np.median(sums)
    return np.where(enough, 1 / np.where(enough, sums, 1), 0).astype(np.float32)


def _square(values: Array) -> float:
    return float(np.vdot(values, values))


def _check(shape: tuple[int, ...], projector: Projector) -> None:
    if shape != projector.sinogram_shape:
        raise ValueError(f"sinogram: expected shape {projector.sinogram_shape}, got {shape}")
