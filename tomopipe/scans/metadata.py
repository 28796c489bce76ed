"""What is known of a scan without reading its pixels, whatever its format."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Metadata:
    """What is known of a scan without reading its pixels."""

    format: str  # DXchange, NXtomo, HDF5 (datasets that the configuration names) or TIFF
    n_angles: int
    n_rows: int
    n_cols: int
    columns: tuple[int, int]  # first and last column in use, the last excluded
    chosen: NDArray[np.intp]  # numbers of the projections in use, 0-based, ascending
    dtype: str  # of the pixels, in the byte order of this machine
    theta_deg: NDArray[np.float64] | None  # as found: any number of them, finite or not; None: none
    theta_location: str  # where they are in the file, or which list
    theta_listed: bool  # in a list apart from the frames, which may not fit to them
    n_flats: int  # in the scan or where the configuration says; 0 if declared absent
    n_darks: int  # likewise
    n_written: int  # leading projections that were really written
    n_bytes: int  # of the file or files
    data_bytes: int  # projections x rows x columns x item size
    pixel_size_um: float | None  # in the sample
    energy_kev: float | None  # of the photons
    distance_mm: float | None  # from sample to detector
    chunks: tuple[int, ...] | None  # what a read decodes at least: frames, rows, columns
    aborted: str  # why frames of whatever kind are missing, or ""
    found: str  # what was found where, for people; equal for scans recorded in the same way
    warnings: tuple[str, ...]  # what was assumed
