"""Geometry of a scan: the detector column of a voxel, and the conventions of other programs.

Conventions (docs/reference/conventions.md): columns, rows and voxels are counted from 0 and whole
numbers are pixel centres. `cor_px` is the column of the rotation axis in unbinned, uncropped
detector pixels. N is the number of columns, theta the angle in radians. Voxel (x, y) of a slice,
element [y, x] of the array, is seen at column

    cor + (x - N//2) cos(theta) - (y - (N//2 - 1)) sin(theta)

Binning is the factor of block averaging, 1 for none. Nothing here reads or writes a file.
"""

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tomopipe.errors import ScanError

Floats = NDArray[np.float64]
ANGSTROM_PER_UM = 1e4

# Position of the rotation axis in the slice of N columns, and column of that axis as the program
# expects it: these programs differ in nothing else. All rotate the same way.
_AXIS_VOXEL: dict[str, Callable[[int], tuple[float, float]]] = {
    "tomopipe": lambda n: (n // 2, n // 2 - 1),
    "tomopy": lambda n: (n // 2, n // 2 - 1),
    "tomocupy": lambda n: (n // 2, n // 2 - 1),
    "tomogui": lambda n: (n // 2, n // 2 - 1),
    "algotom-fbp": lambda n: ((n - 1) / 2, (n - 1) / 2),
    "algotom-dfi": lambda n: (n // 2, n // 2),
    "astra": lambda n: ((n - 1) / 2, (n - 1) / 2),
    "scikit-image": lambda n: (n // 2, n // 2),
}
# Programs that expect a shift of the detector or the sinogram instead of a column.
_CENTRE_COLUMN: dict[str, Callable[[int], float]] = {
    "astra": lambda n: (n - 1) / 2,
    "scikit-image": lambda n: n // 2,
}
# The axis of nabu's slices depends on the COR; where HTTomo puts it was not compared.
_COR_ALONE = ("nabu", "httomo")
PROGRAMS = (*_AXIS_VOXEL, *_COR_ALONE)


def bin_cor(cor_px: ArrayLike, *, x0: float = 0, binning: int = 1) -> Floats:
    """Convert a COR to the columns of cropped, then block-averaged data.

    Parameters
    ----------
    cor_px : array_like of float
        Column of the axis in unbinned, uncropped detector pixels.
    x0 : float
        First column kept, unbinned pixels.
    binning : int
        Columns averaged into one; >= 1.

    Returns
    -------
    ndarray of float64
        Column of the axis in the binned data, (cor - x0 - (b - 1)/2) / b; 0-d for a single COR.
    """
    return np.asarray((np.asarray(cor_px, float) - x0 - (binning - 1) / 2) / binning)


def unbin_cor(cor_px: ArrayLike, *, x0: float = 0, binning: int = 1) -> Floats:
    """Convert a COR of cropped and binned data to unbinned detector columns: undo `bin_cor`."""
    return np.asarray(np.asarray(cor_px, float) * binning + (binning - 1) / 2 + x0)


def pixels_per_cm(pixel_size_um: float | None) -> float:
    """Return the detector pixels per centimetre; a ScanError if their size is not known."""
    if not pixel_size_um:
        raise ScanError(
            "full_recon.unit: per_cm needs the pixel size, but the file has no usable value: "
            "set input.pixel_size_um"
        )
    return 1e4 / pixel_size_um


def axis_voxel(n_cols: int, program: str = "tomopipe") -> tuple[float, float]:
    """Return the voxel (x, y) of a slice where a program puts the rotation axis.

    Parameters
    ----------
    n_cols : int
        Width of the sinogram and of the slice.
    program : str
        One of `PROGRAMS` except nabu and httomo: N alone does not tell where their axis is.

    Returns
    -------
    tuple of float
        Column and row of the axis in the slice, 0-based.

    Notes
    -----
    Measured with even widths for tomopy (gridrec), algotom and ASTRA (FBP) and scikit-image
    (iradon); tests/unit/test_geometry.py repeats it for algotom and scikit-image, odd widths
    included.
    """
    _check_program(program, _AXIS_VOXEL)
    return _AXIS_VOXEL[program](n_cols)


def voxel_in(
    program: str, x: ArrayLike, y: ArrayLike, n_cols: int, *, source: str = "tomopipe"
) -> tuple[Floats | float, Floats | float]:
    """Find the voxel of one program's slice that is a voxel (x, y) of another's.

    Parameters
    ----------
    program, source : str
        Program that made the slice looked into, and the one `x`, `y` belong to; see `axis_voxel`.
    x, y : array_like of float
        Column and row in the slice of `source`.
    n_cols : int
        Width of both slices.

    Returns
    -------
    tuple of float, or of ndarray
        Column and row in the slice of `program`.
    """
    to_x, to_y = axis_voxel(n_cols, program)
    from_x, from_y = axis_voxel(n_cols, source)
    return _plain(np.asarray(x) - from_x + to_x), _plain(np.asarray(y) - from_y + to_y)


def cor_to(program: str, cor_px: ArrayLike, n_cols: int) -> Floats | float:
    """Convert a COR to the number another program asks for.

    Parameters
    ----------
    program : str
        One of `PROGRAMS`. Most take the 0-based column as it is, nabu and HTTomo that of the frames
        as recorded (N - 1 - cor where tomopipe mirrors them back); ASTRA takes the `factor` of
        `astra.geom_postalignment`, (N - 1)/2 - cor; scikit-image the number of columns by which
        the sinogram must be moved to the right before `iradon`, N//2 - cor.
    cor_px : array_like of float
        Column of the axis in the data given to that program (see `bin_cor`).
    n_cols : int
        Width of those data.

    Returns
    -------
    float, or ndarray of float64
        The program's number, in pixels.
    """
    _check_program(program, PROGRAMS)
    cor_px = np.asarray(cor_px, float)
    return _plain(_CENTRE_COLUMN[program](n_cols) - cor_px if program in _CENTRE_COLUMN else cor_px)


def cor_from(program: str, value_px: ArrayLike, n_cols: int) -> Floats | float:
    """Convert another program's number for the axis to a COR: undo `cor_to`."""
    # Each conversion is the identity or a reflection, so each is its own inverse.
    return cor_to(program, value_px, n_cols)


def relion4_matrices(theta_rad: ArrayLike, cor_px: float, axis_xz: tuple[float, float]) -> Floats:
    """Make the matrices that map RELION 4 world coordinates to image columns and rows.

    Parameters
    ----------
    theta_rad : array_like of float, shape (n_images,)
        Angle of each image, radians.
    cor_px : float
        Column of the axis in the stack (see `bin_cor`).
    axis_xz : tuple of float
        0-based voxel of the axis in the volume: column, and row of the slice (RELION's z).

    Returns
    -------
    ndarray of float64, shape (n_images, 4, 4)
        (column, row, depth, 1) = P (X, Y, Z, 1), with world = 0-based voxel + 1, depth 0 on the
        axis and a right-handed rotation (determinant 1).
    """
    theta_rad = np.asarray(theta_rad, float)
    cos, minus_sin = np.cos(theta_rad), -np.sin(theta_rad)
    axis_x, axis_z = axis_xz[0] + 1, axis_xz[1] + 1
    matrices = np.zeros((theta_rad.size, 4, 4))
    matrices[:, 0, 0], matrices[:, 0, 2] = cos, minus_sin
    matrices[:, 0, 3] = cor_px - cos * axis_x - minus_sin * axis_z
    matrices[:, 1, 1], matrices[:, 1, 3] = 1, -1
    matrices[:, 2, 0], matrices[:, 2, 2] = -minus_sin, cos
    matrices[:, 2, 3] = minus_sin * axis_x - cos * axis_z
    matrices[:, 3, 3] = 1
    return matrices


def relion5_alignment(
    theta_rad: ArrayLike,
    cor_px: float,
    axis_xz: tuple[float, float],
    *,
    image_size: tuple[int, int],
    tomogram_size: tuple[int, int, int],
) -> tuple[Floats, Floats, Floats]:
    """Compute the tilt angles and shifts with which RELION 5 sees what `relion4_matrices` say.

    RELION 5 rotates about voxel (W//2, H//2, D//2) and puts that point on image pixel
    (columns//2, rows//2) plus the shift; its world is the 0-based voxel.

    Parameters
    ----------
    theta_rad, cor_px, axis_xz
        As for `relion4_matrices`.
    image_size : tuple of int
        Columns and rows of the images.
    tomogram_size : tuple of int
        W, H, D as given to the program by --w --h --d.

    Returns
    -------
    y_tilt_deg, x_shift_px, y_shift_px : ndarray of float64, shape (n_images,)
        rlnTomoYTilt in degrees and the shifts in pixels of the stack; rlnTomoXTilt and
        rlnTomoZRot are 0.
    """
    theta_rad = np.asarray(theta_rad, float)
    (n_cols, n_rows), (width, height, depth) = image_size, tomogram_size
    x_shift_px = cor_px - n_cols // 2 + np.cos(theta_rad) * (width // 2 - axis_xz[0])
    x_shift_px = x_shift_px - np.sin(theta_rad) * (depth // 2 - axis_xz[1])
    y_shift_px = np.full(theta_rad.shape, float(height // 2 - n_rows // 2))
    return -np.degrees(theta_rad), x_shift_px, y_shift_px


def _plain(values: ArrayLike) -> Floats | float:
    """Return a float where there is one value, which is easier to read than an array."""
    values = np.asarray(values, float)
    return values if values.ndim else float(values)


def _check_program(program: str, programs: Iterable[str]) -> None:
    if program not in programs:
        raise ValueError(f"program: expected one of {', '.join(programs)}; got {program!r}")
