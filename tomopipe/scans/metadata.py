"""What is known of a scan without reading its pixels, whatever its format."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Metadata:
    """What is known of a scan without reading its pixels.

    Attributes
    ----------
    format : str
        DXchange, NXtomo, HDF5 (datasets that the configuration names) or TIFF.
    n_angles, n_rows, n_cols : int
        Projections, detector rows and columns.
    columns : (int, int)
        First and last column that the configuration leaves in use, the last excluded.
    chosen : ndarray of int
        Numbers of the projections that the configuration leaves in use, 0-based, ascending.
    dtype : str
        Type of the pixels, in the byte order of this machine.
    theta_deg : ndarray of float64, shape (n_theta,), or None
        Angles as found, in degrees: any number of them, finite or not. None: no theta.
    theta_location : str
        Where they stand.
    theta_listed : bool
        Whether that is a list apart from the frames, which may not fit to them.
    n_flats, n_darks : int
        Frames that there are, here or where the config says; 0 if declared absent.
    n_written : int
        Leading projections that were really written.
    n_bytes, data_bytes : int
        Size of the file or files; projections x rows x columns x item size.
    pixel_size_um : float or None
        Size of a pixel in the sample, micrometres.
    energy_kev : float or None
        Photon energy, keV.
    distance_mm : float or None
        Distance from sample to detector, millimetres.
    chunks : tuple of int or None
        What a read decodes at least: frames, rows, columns.
    aborted : str
        Why frames of whatever kind are missing, or "".
    found : str
        What was found where, for people; equal for scans recorded in the same way.
    warnings : tuple of str
        What was assumed.
    """

    format: str
    n_angles: int
    n_rows: int
    n_cols: int
    columns: tuple[int, int]
    chosen: NDArray[np.intp]
    dtype: str
    theta_deg: NDArray[np.float64] | None
    theta_location: str
    theta_listed: bool
    n_flats: int
    n_darks: int
    n_written: int
    n_bytes: int
    data_bytes: int
    pixel_size_um: float | None
    energy_kev: float | None
    distance_mm: float | None
    chunks: tuple[int, ...] | None
    aborted: str
    found: str
    warnings: tuple[str, ...]
