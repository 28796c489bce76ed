"""What a simulated scan records, whatever the format of its file."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray


@dataclass(frozen=True)
class Exposure:
    """The frames of a scan, and what is known of them.

    Attributes
    ----------
    blocks : iterator of ndarray, shape (some, n_rows, n_cols)
        Consecutive projections.
    shape : (n_angles, n_rows, n_cols)
        Projections taken.
    flats, darks : ndarray, shape (n, n_rows, n_cols)
        None of them where n is 0.
    theta_deg : ndarray or None
        Angles of the projections planned, in degrees; None: not recorded.
    n_planned : int
        Projections planned. A scan aborted after fewer has no frames beyond.
    dtype : dtype
        Of all frames; integers are rounded and clipped to their range.
    compression : str or None
        Of h5py, for the frames.
    pixel_size_um, energy_kev : float or None
        Written where given.
    """

    blocks: Iterator[NDArray[Any]]
    shape: tuple[int, int, int]
    flats: NDArray[Any]
    darks: NDArray[Any]
    theta_deg: NDArray[np.float64] | None
    n_planned: int
    dtype: DTypeLike = np.uint16
    compression: str | None = None
    pixel_size_um: float | None = None
    energy_kev: float | None = None
