"""Windows of slices for the APS family of DINOv2 classifiers [1]_.

A slice is scaled to 0..1 by its own smallest and largest value and quantised to 8 bits. Its windows
lie about points drawn evenly from the inscribed circle with NumPy's legacy generator; they are the
same for all slices of a sweep, so that slices are compared at the same positions.

References
----------
.. [1] X. Tang et al., tomo-center (github.com/xray-imaging/tomo-center), `tomo-center find`; the
   same in TomoCuPy's ``--rotation-axis-method ai``.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

SEED = 10
N_WINDOWS = 3

Image = NDArray[np.float32]


def window_corners(size_px: int, window_px: int, n_windows: int) -> NDArray[np.int64]:
    """Draw the upper left corners (n_windows, 2) of the windows; a single one is in the middle.

    A window is moved inside where it would leave the slice. ValueError if one does not fit.
    """
    if size_px <= window_px:
        raise ValueError(f"size_px: expected more than {window_px} px, got {size_px}")
    if n_windows == 1:
        return np.full((1, 2), size_px // 2 - window_px // 2)
    offset = np.arange(size_px) - (size_px - 1) / 2
    inside = offset**2 + offset[:, None] ** 2 <= ((size_px - 1) / 2) ** 2
    share = (inside / inside.sum()).ravel()
    # Normalised twice and drawn one by one, so that the random numbers are those of the original.
    share /= share.sum()
    random = np.random.RandomState(SEED)
    drawn = [int(np.argmax(random.multinomial(1, share))) for _ in range(n_windows)]
    corners = np.stack(np.unravel_index(drawn, inside.shape), axis=1) - window_px // 2
    # The last corner that fits is never used: the original stops one short of it.
    return np.asarray(np.clip(corners, 0, size_px - window_px - 1), dtype=np.int64)


def cut_windows(image: ArrayLike, corners: NDArray[np.int64], window_px: int) -> Image:
    """Scale a slice to 0..1, quantise it to 8 bits and cut its windows; a constant one gives 0."""
    image = np.asarray(image, dtype=np.float32)
    low, high = image.min(), image.max()
    scaled = (image - low) / (high - low + np.float32(1e-8))
    grey = (scaled * np.float32(255)).astype(np.uint8).astype(np.float32) / np.float32(255)
    return np.stack([grey[y : y + window_px, x : x + window_px] for y, x in corners])
