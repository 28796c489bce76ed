"""What a simulated scan records, and how it is written, whatever the format of its file."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray


@dataclass(frozen=True)
class ScanFile:
    """How a simulated scan is written."""

    format: str = "dxchange"  # of the file: dxchange or nxtomo
    write_theta: bool = True  # false leaves the angles out
    # leading projections taken before the scan was aborted; theta keeps all angles
    n_frames: int | None = None
    # of DXchange files: by default one frame each; False: contiguous
    chunks: tuple[int, int, int] | bool | None = None
    n_written: int | None = None  # leading frames really written there; others stay unallocated
    dtype: DTypeLike = np.uint16  # of all frames; integers are rounded and clipped to their range
    compression: str | None = None  # of h5py, for the frames
    # written where given
    pixel_size_um: float | None = None
    energy_kev: float | None = None


@dataclass(frozen=True)
class Exposure:
    """The frames of a scan."""

    blocks: Iterator[NDArray[Any]]  # (some, n_rows, n_cols): consecutive projections
    shape: tuple[int, int, int]  # (n_angles, n_rows, n_cols): projections taken
    # (n, n_rows, n_cols): None of them where n is 0
    flats: NDArray[Any]
    darks: NDArray[Any]
    # angles of the projections planned, in degrees; a scan aborted after fewer has no more frames
    theta_deg: NDArray[np.float64]
    file: ScanFile
