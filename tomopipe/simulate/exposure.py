"""What a simulated scan records, whatever the format of its file."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray


@dataclass(frozen=True)
class Exposure:
    """The frames of a scan, and what is known of them."""

    blocks: Iterator[NDArray[Any]]  # (some, n_rows, n_cols): consecutive projections
    shape: tuple[int, int, int]  # (n_angles, n_rows, n_cols): projections taken
    # (n, n_rows, n_cols): None of them where n is 0
    flats: NDArray[Any]
    darks: NDArray[Any]
    # angles of the projections planned, in degrees; None: not recorded
    theta_deg: NDArray[np.float64] | None
    n_planned: int  # projections planned. A scan aborted after fewer has no frames beyond.
    dtype: DTypeLike = np.uint16  # of all frames; integers are rounded and clipped to their range
    compression: str | None = None  # of h5py, for the frames
    # written where given
    pixel_size_um: float | None = None
    energy_kev: float | None = None
