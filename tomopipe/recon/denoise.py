"""Total variation denoising of slices, compiled: the inner step of `total_variation`."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tomopipe.recon.jit import kernel

Array = NDArray[np.float32]


def least_variation_near(
    images: Array, weight: ArrayLike, dual: Array | None = None, n_steps: int = 20
) -> tuple[Array, Array]:
    """Minimise half the squared distance to an image plus `weight` times the total variation [1]_.

    Images are (n_y, n_x) or (n_images, n_y, n_x), `weight` a number or (n_images,). `dual`
    (n_images, 2, n_y, n_x) is where to begin: what an earlier call returned; it is overwritten.
    Returns the minimum, nearly, and the dual for the next call.

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
        for _ in range(n_steps if share > 0 else 0):
            _less_variation(image, share, down, across, entry)
            _climb(entry, np.float32(1 / (8 * share)), down, across)
        _less_variation(image, share, down, across, entry)
    return near.reshape(images.shape), dual


@kernel
def _less_variation(image: Any, weight: Any, down: Any, across: Any, result: Any) -> None:
    """Take the adjoint of the differences, weighted, off an image.

    `down` and `across` belong to the differences to the next pixel: 0 in the last row or column.
    """
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
