"""Read DXchange scans: /exchange/data, data_white, data_dark and theta of an HDF5 file.

Files are opened read-only and never changed. What makes a scan unusable raises a ScanError whose
message is `path: reason`, in one line; what makes it incomplete is told by `incomplete`.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tomopipe.errors import ScanError
from tomopipe.io.frames import written_frames
from tomopipe.io.hdf5 import StillWrittenError, one_line, open_hdf5
from tomopipe.io.instrument import read_energy_kev, read_pixel_size_um, unit_of
from tomopipe.io.scan import Scan

if TYPE_CHECKING:
    import h5py

__all__ = ["Metadata", "Scan", "StillWrittenError", "incomplete", "open_scan", "read_metadata"]

NO_THETA = "no theta: linspace(0, 180) assumed"
_DATA, _FLATS, _DARKS = "/exchange/data", "/exchange/data_white", "/exchange/data_dark"
_THETA = "/exchange/theta"
_LONGEST = 10_000_000  # along any axis; damaged files claim more than memory holds
Path = str | os.PathLike[str]


@dataclass(frozen=True, eq=False)
class Metadata:
    """What is known of a scan without reading its pixels.

    Attributes
    ----------
    n_angles, n_rows, n_cols : int
        Shape of /exchange/data.
    dtype : str
        Type of the pixels, in the byte order of this machine.
    theta_deg : ndarray of float64, shape (n_theta,), or None
        Angles as in the file, in degrees: any number of them, finite or not. None: no theta.
    n_flats, n_darks : int
        Frames that there are, here or where the config says; 0 if declared absent.
    n_written : int
        Leading frames that were really written.
    n_bytes, data_bytes : int
        Size of the file; frames x rows x columns x item size.
    pixel_size_um : float or None
        Size of a pixel in the sample, micrometres.
    energy_kev : float or None
        Photon energy, keV.
    chunks : tuple of int or None
        Chunk shape of /exchange/data.
    warnings : tuple of str
        What was assumed.
    """

    n_angles: int
    n_rows: int
    n_cols: int
    dtype: str
    theta_deg: NDArray[np.float64] | None
    n_flats: int
    n_darks: int
    n_written: int
    n_bytes: int
    data_bytes: int
    pixel_size_um: float | None
    energy_kev: float | None
    chunks: tuple[int, ...] | None
    warnings: tuple[str, ...]


def read_metadata(path: Path, *, flats: Path | None = None, darks: Path | None = None) -> Metadata:
    """Read all there is to know of a scan but its pixels.

    Parameters
    ----------
    path : path-like
        An HDF5 file with /exchange/data, whatever its name.
    flats, darks : path-like or None
        Where the flats and darks are: None, in the file itself; "none", declared absent; else
        another DXchange file that has them.

    Raises
    ------
    StillWrittenError
        If another process is writing the file.
    ScanError
        If the scan cannot be used, whatever the cause; nothing else is raised.
    """
    with ExitStack() as stack:
        return _examine(path, flats, darks, stack)[0]


def incomplete(metadata: Metadata) -> str:
    """Say why a scan is not complete: as many finite angles as frames, all frames written.

    Returns
    -------
    str
        The first reason, "" for a complete scan.
    """
    n_angles, theta_deg = metadata.n_angles, metadata.theta_deg
    if theta_deg is not None:
        if len(theta_deg) > n_angles:
            return f"aborted: {n_angles} frames for {len(theta_deg)} angles in {_THETA}"
        if len(theta_deg) < n_angles:
            return f"{_THETA} has {len(theta_deg)} angles for {n_angles} frames"
        if bad := np.flatnonzero(~np.isfinite(theta_deg)).tolist():
            return f"{_THETA}: {len(bad)} of {n_angles} angles not finite, the first is {bad[0]}"
        if n_angles > 1 and np.ptp(theta_deg) == 0:
            return f"{_THETA}: all {n_angles} angles are {theta_deg[0]:g}"
    if metadata.n_written < n_angles:
        return f"aborted: the first {metadata.n_written} of {n_angles} frames were written"
    return ""


@contextmanager
def open_scan(
    path: Path, *, flats: Path | None = None, darks: Path | None = None, partial: bool = False
) -> Iterator[Scan]:
    """Open a scan to read its pixels.

    Parameters
    ----------
    path, flats, darks
        As in `read_metadata`.
    partial : bool
        Accept an incomplete scan; only the leading frames that were really written and have a
        finite angle are used, with their angles.

    Yields
    ------
    Scan
        To be used within the block.

    Raises
    ------
    ScanError
        If the scan cannot be used, or is incomplete and `partial` is False.
    """
    with ExitStack() as stack:
        metadata, data, references = _examine(path, flats, darks, stack)
        reason = incomplete(metadata)
        if reason and not partial:
            raise ScanError(f"{path}: {reason}; `select: yes` uses the frames that are there")
        frames = _usable_frames(metadata)
        if len(frames) == 0:
            raise ScanError(f"{path}: no frame can be used; {reason}")
        yield Scan(metadata, data, references, frames)


def _usable_frames(metadata: Metadata) -> NDArray[np.intp]:
    theta_deg = metadata.theta_deg
    if theta_deg is None:
        return np.arange(metadata.n_written)
    return np.flatnonzero(np.isfinite(theta_deg[: metadata.n_written]))


def _examine(
    path: Path, flats: Path | None, darks: Path | None, stack: ExitStack
) -> "tuple[Metadata, h5py.Dataset, tuple[h5py.Dataset | None, h5py.Dataset | None]]":
    """Open a scan, check all that is needed of it, return its metadata and datasets."""
    try:
        return _look(path, flats, darks, stack)
    except ScanError:
        raise
    except Exception as error:
        # Broken HDF5 raises nearly anything from nearly anywhere.
        raise ScanError(f"{path}: broken HDF5 file ({one_line(error)})") from error


def _look(
    path: Path, flats: Path | None, darks: Path | None, stack: ExitStack
) -> "tuple[Metadata, h5py.Dataset, tuple[h5py.Dataset | None, h5py.Dataset | None]]":
    file = stack.enter_context(open_hdf5(path))
    data = _dataset(file, _DATA, path)
    if data is None:
        raise ScanError(f"{path}: no {_DATA}; expected a DXchange file")
    if data.ndim != 3 or 0 in data.shape:
        raise ScanError(f"{path}: {_DATA} has shape {data.shape}; expected 3-D, not empty")
    n_angles, n_rows, n_cols = data.shape
    warnings: list[str] = []
    theta_deg = _theta_deg(file, path, warnings)
    flat, n_flats = _reference(file, path, _FLATS, flats, stack)
    dark, n_darks = _reference(file, path, _DARKS, darks, stack)
    for dataset, source in ((flat, flats), (dark, darks)):
        if dataset is not None and dataset.shape[-2:] != data.shape[1:]:
            raise ScanError(
                f"{source or path}: {dataset.name} has frames of {dataset.shape[-2:]}; "
                f"expected {data.shape[1:]} as in {_DATA}"
            )
    if flat is not None and n_flats == 0:
        raise ScanError(f"{flats or path}: {_FLATS} was never written; {_hint('flats')}")
    if dark is not None and n_darks == 0:
        warnings.append("darks never written: 0 assumed")
    written = written_frames(data)
    if gone := written.missing_sources:
        warnings.append(f"{len(gone)} source files cannot be opened, the first is {gone[0]}")
    metadata = Metadata(
        n_angles=n_angles,
        n_rows=n_rows,
        n_cols=n_cols,
        dtype=str(data.dtype.newbyteorder("=")),
        theta_deg=theta_deg,
        n_flats=n_flats,
        n_darks=n_darks,
        n_written=int(np.argmin(np.append(written.frames, False))),
        n_bytes=os.path.getsize(path),
        data_bytes=prod(data.shape) * data.dtype.itemsize,
        pixel_size_um=read_pixel_size_um(file),
        energy_kev=read_energy_kev(file),
        chunks=data.chunks,
        warnings=tuple(warnings),
    )
    return metadata, data, (flat, dark)


def _dataset(file: "h5py.File", name: str, path: Path) -> "h5py.Dataset | None":
    """Return a dataset of numbers that can be decoded; None if the file has nothing there."""
    import h5py

    try:
        found = file[name]
    except (KeyError, OSError) as error:
        link = _link(file, name)
        if link is None:
            return None
        raise ScanError(f"{path}: {name} {link}") from error
    if not isinstance(found, h5py.Dataset):
        raise ScanError(f"{path}: {name} is a group; expected a dataset")
    if found.shape is None or found.dtype.kind not in "uif":
        raise ScanError(f"{path}: {name} has type {found.dtype}; expected whole numbers or floats")
    if max(found.shape, default=0) > _LONGEST:
        raise ScanError(f"{path}: {name} has shape {found.shape}; the file must be broken")
    _check_filters(found, path)
    return found


def _link(file: "h5py.File", name: str) -> str | None:
    """Say why a name cannot be opened; None if it is not there at all."""
    import h5py

    for part in (name.rpartition("/")[0], name):
        try:
            link = file.get(part, getlink=True)
        except (KeyError, OSError):
            return None
        if isinstance(link, h5py.ExternalLink):
            return f"is a link to {link.filename}:{link.path}, which cannot be opened"
        if isinstance(link, h5py.SoftLink):
            return f"is a link to {link.path}, which cannot be opened"
    return "is damaged; copy the file again" if link is not None else None


def _check_filters(dataset: "h5py.Dataset", path: Path) -> None:
    """Load the compression plugins if, and only if, the dataset needs one."""
    import h5py

    plist = dataset.id.get_create_plist()
    filters = [plist.get_filter(i) for i in range(plist.get_nfilters())]
    if all(h5py.h5z.filter_avail(one[0]) for one in filters):
        return
    import hdf5plugin  # noqa: F401 - registers its filters

    for number, _, _, name in filters:
        if not h5py.h5z.filter_avail(number):
            raise ScanError(
                f"{path}: {dataset.name} is compressed with HDF5 filter {number} "
                f"({name.decode(errors='replace')}), which is not installed"
            )


def _theta_deg(file: "h5py.File", path: Path, warnings: list[str]) -> NDArray[np.float64] | None:
    theta = _dataset(file, _THETA, path)
    if theta is None:
        warnings.append(NO_THETA)
        return None
    if sum(n != 1 for n in theta.shape) > 1:
        raise ScanError(f"{path}: {_THETA} has shape {theta.shape}; expected one dimension")
    angles = np.asarray(theta[()], dtype=float).ravel()
    if unit_of(theta).startswith("rad"):
        warnings.append("theta in radians, as its units say")
        return np.rad2deg(angles)
    return angles


def _reference(
    file: "h5py.File", path: Path, name: str, source: Path | None, stack: ExitStack
) -> "tuple[h5py.Dataset | None, int]":
    """Return the flats or darks and how many of them were written."""
    key = "flats" if name == _FLATS else "darks"
    if source is not None and os.fspath(source) == "none":
        return None, 0
    if source is not None:
        file, path = stack.enter_context(open_hdf5(source)), source
    dataset = _dataset(file, name, path)
    if dataset is None:
        raise ScanError(f"{path}: no {name}; {_hint(key)}")
    if dataset.ndim not in (2, 3) or 0 in dataset.shape:
        raise ScanError(f"{path}: {name} has shape {dataset.shape}; expected 3-D, not empty")
    written = written_frames(dataset).frames
    return dataset, int(written.all()) if dataset.ndim == 2 else int(written.sum())


def _hint(key: str) -> str:
    return f"set preprocess.{key} to a file that has them, or to none"
