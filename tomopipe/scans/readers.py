"""Recognise the format of a scan from its content."""

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from tomopipe.config.base import is_dataset
from tomopipe.scans import dxchange, nxtomo
from tomopipe.scans.hdf5 import check_file, open_hdf5
from tomopipe.scans.layout import Kind, Path, Reader, Reference

_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


@dataclass(frozen=True)
class Known:
    """What the configuration says about a scan where the file is silent, or wrong.

    Attributes
    ----------
    entry : str or None
        The NXtomo entry, of several, or the detector in one.
    angles : str, mapping or None
        In place of those of the file: a list of angles (`tomopipe.scans.angle_lists.read_angles`),
        a dataset of the file, or start and stop, or start and step (`tomopipe.config.AngleRange`).
    angle_unit : {"auto", "deg", "rad", "mrad", "mdeg"}
        Of the angles, wherever they stand and whatever stands beside them; auto: what stands there.
    pixel_size_um, energy_kev, distance_mm : float or None
        In place of those of the file.
    columns : "all" or (int, int)
        First and last column in use, both included.
    mirrored : {"file", "no"}
        Whether to mirror back what an NXtomo detector says that it mirrored.
    every, skip_angles, skip_projections
        As for `tomopipe.scans.selection.chosen_projections`.
    """

    entry: str | None = None
    angles: str | Mapping[str, float] | None = None
    angle_unit: str = "auto"
    pixel_size_um: float | None = None
    energy_kev: float | None = None
    distance_mm: float | None = None
    columns: str | Sequence[int] = "all"
    mirrored: str = "file"
    every: int = 1
    skip_angles: Sequence[Sequence[float]] = ()
    skip_projections: Sequence[int | Sequence[int]] = ()


def open_reader(path: Path, known: Known, stack: ExitStack) -> Reader:
    """Open a scan with the reader of its format.

    Parameters
    ----------
    path : path-like
        A file or folder.
    known : Known
        What the configuration says.
    stack : ExitStack
        Closes the file.

    Raises
    ------
    ScanError
        If it cannot be opened, or its frames cannot be found.
    """
    if os.path.isdir(path) or _begins_as_tiff(path):
        from tomopipe.scans.tiff_scan import TiffReader

        listed = isinstance(known.angles, str) and not is_dataset(known.angles)
        return TiffReader(path, str(known.angles) if listed else None, known.angle_unit)
    file = stack.enter_context(open_hdf5(path))
    if "exchange" not in file:
        names = nxtomo.find_entries(file)
        if names:
            chosen = nxtomo.choose_entry(names, known.entry, path)
            return nxtomo.NxtomoReader(
                file,
                path,
                *chosen,
                angles=known.angles is None,
                mirrors=known.mirrored == "file",
                angle_unit=known.angle_unit,
            )
    return dxchange.DxchangeReader(file, path, known.angle_unit)


def _begins_as_tiff(path: Path) -> bool:
    check_file(path)
    with open(path, "rb") as stream:
        return stream.read(4) in _TIFF_MAGIC


def open_reference(path: Path, kind: Kind, stack: ExitStack) -> Reference:
    """Find the flats or darks in another file: of TIFF files, all that is there."""
    if os.path.isdir(path) or _begins_as_tiff(path):
        from tomopipe.scans.tiff_scan import all_frames

        return all_frames(path, kind)
    return open_reader(path, Known(), stack).reference(kind)
