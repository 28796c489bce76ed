"""TIFF scans: a folder of images or a file of pages, and a list of angles.

A folder `scan/` holds the projections, one file each or in files of several pages, in the order of
their names, or in that of the angles of the scan where the names hold these; or they lie in its
only other subfolder. Its subfolders `flats` and `darks` (or `Flat`, ...), if there are any, are
those of this scan; `angles.txt` (`.csv`), or the only text file, is its list of angles. Beside a
file `scan.tif` these are the folders `scan_flats`, `scan_darks` and the list `scan.txt` (`.csv`).
Images of a folder have names of one kind, unless `input.frames` counts them.
"""

import os
import re
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path as FilePath

import numpy as np
from numpy.typing import NDArray

from tomopipe.config import InputBlock
from tomopipe.config.base import is_dataset
from tomopipe.config.blocks import AngleRange
from tomopipe.errors import ScanError, ScanFaultError, some_of
from tomopipe.scans.angle_lists import TILTS, planned_by_range, read_angles
from tomopipe.scans.folder_hints import (
    first_part,
    is_cut,
    is_split,
    kind_of,
    n_unread,
    other_files,
    parts_of,
    projections_in,
    reference_lines,
    unknown_folders,
    unread_images,
)
from tomopipe.scans.formats import TIFF, Path
from tomopipe.scans.hdf5 import check_file, one_line
from tomopipe.scans.image_names import (
    Placed,
    in_order,
    missing_counts,
    places_by_angle,
    unclear_kinds,
)
from tomopipe.scans.layout import (
    COUNTED,
    INVALID,
    KEYS,
    PROJECTION,
    Kind,
    Layout,
    Reference,
    counted_keys,
    frames_of_kind,
    how_to_name,
    invalid_frames,
    why_aborted,
    without_position,
)
from tomopipe.scans.pixels import AXES, Frames, images_of, transposed
from tomopipe.scans.scan_files import LISTS, companions, folder_kind, in_order_of_time, visible
from tomopipe.scans.tiff_images import ImageFiles, Pages, open_images

_IS_LIST = re.compile("angle|theta", re.IGNORECASE)
_TILTS = (".rawtlt", ".tlt")  # of IMOD: as recorded, as aligned
_BY_ANGLE = "images ordered by the angles in their names"
_MOST_NAMED = 4  # missing images
_BY_FAR = 3  # times as many images as in the next folder


def open_reader(path: Path, options: InputBlock, _stack: ExitStack) -> "TiffReader":
    """Open a folder of images or a file of pages; no file stays open."""
    return TiffReader(path, options)


def references_in(
    path: Path, kind: Kind, options: InputBlock, _stack: ExitStack
) -> list[Reference]:
    """Return all images of a folder or file of flats or darks."""
    return [_all_frames(path, kind, options.axes)]


class TiffReader:
    """A scan in TIFF files: a folder, or a file of several pages; flats and darks are frames."""

    def __init__(self, path: Path, options: InputBlock) -> None:
        self._path, self._angle_unit = FilePath(path), options.angle_unit
        angles = options.angles
        if isinstance(angles, str) and is_dataset(angles):
            raise ScanFaultError(
                f"input.angles: {angles} would be a dataset of an HDF5 file; name a text file, or "
                "a range such as {start: 0, stop: 180}"
            )
        self._angles = FilePath(angles) if isinstance(angles, str) else None
        self._range = angles if isinstance(angles, AngleRange) else None
        self._order, self._axes = options.frames, tuple(options.axes)
        self._stack = _open_stack(self._path, counted=bool(self._order))
        self._frames = transposed(self._stack, options.axes)
        self._keys: NDArray[np.int64]  # (n_frames,): the kind of each, from `layout`

    def layout(self) -> Layout:
        """Find projections and angles; TIFF files do not tell the rest."""
        n_frames = self._frames.shape[0]
        if n_frames == 1 and not self._path.is_dir():
            raise ScanFaultError(
                "one image, no scan: for a scan of an image per projection give their folder in "
                f"campaign.scans, {self._path.parent}/"
            )
        source, theta_deg, warnings = self._find_angles()
        planned = np.full(n_frames, PROJECTION)
        if self._order:
            planned = counted_keys(self._order, n_frames)
        self._keys = planned[:n_frames]
        by_image = self._axes[0] == AXES[0]
        self._stack.check_alike(self._keys == INVALID if by_image else None)
        n_planned = int(np.count_nonzero(planned == PROJECTION))
        places = self._sort_by_angle(theta_deg)
        if theta_deg is not None:
            if self._order and len(theta_deg) == len(planned):
                theta_deg = theta_deg[planned == PROJECTION]
            elif places is not None and len(theta_deg) == len(places.theta_deg):
                theta_deg = theta_deg[places.positions]
        if places is None and (theta_deg is None or len(theta_deg) != n_frames):
            self._refuse_gaps()
        return Layout(
            file=None,
            format="TIFF",
            projections=Frames(self._frames, np.flatnonzero(self._keys == PROJECTION)),
            theta_deg=theta_deg,
            location=self._stack.location,
            theta_location="" if source is None else _without(self._path.stem, source.name),
            theta_listed=source is not None,
            theta_configured=self._angles is not None,
            warnings=(
                *(() if source else self._tilts()),
                *warnings,
                *_missing(places),
                *invalid_frames(self._keys),
                *self._beside(sure=True),
            ),
            aborted=why_aborted(n_frames, len(planned), COUNTED),
            positions=places.positions if places else None,
            n_planned=len(places.theta_deg) if places else n_planned,
            notes=(_BY_ANGLE,) * (places is not None),
        )

    def _beside(self, *, sure: bool = False) -> list[str]:
        """Warn of images that are not read, and other parts of a stack (`sure`: by its length)."""
        if self._path.is_dir():
            warning = unread_images(self._path, len(tiff_files(self._path)))
        else:
            warning = self._parts(sure=sure)
        return [warning] if warning else []

    def _named_images(self) -> ImageFiles | None:
        """Return the images if there is a file for each whose name may tell its number or angle."""
        is_named = not self._order and self._axes[0] == AXES[0]
        return self._stack if is_named and isinstance(self._stack, ImageFiles) else None

    def _sort_by_angle(self, listed: NDArray[np.float64] | None) -> Placed | None:
        """Put the images in the order of the angles if numbers in their names are these."""
        stack, in_range = self._named_images(), self._range
        if stack is None or (listed is None and in_range is None):
            return None
        n_frames = len(stack.stems)

        def planned(numbers: NDArray[np.float64]) -> Iterable[NDArray[np.float64]]:
            if in_range is None:
                return [np.asarray(listed)]
            return planned_by_range(in_range, numbers, n_frames)

        try:
            result = places_by_angle(stack.stems, planned)
        except ValueError as error:
            angles = "input.angles" if in_range or self._angles else "the list of angles"
            raise ScanFaultError(
                f"the names of the images hold other angles than {angles}: {error}; correct the "
                "angles or the names; if these numbers are no angles, and the order of the names "
                f"is right, set input.frames: [{n_frames} projections]"
            ) from None
        if result is None:
            return None
        stack.sort(np.argsort(result.positions))
        return result._replace(positions=np.sort(result.positions))

    def _refuse_gaps(self) -> None:
        """Raise if numbers are missing in the names of images that a list has no angle for each."""
        stack = self._named_images()
        if stack and (missing := missing_counts(stack.stems)):
            numbers = some_of([*map(str, missing)], _MOST_NAMED)
            raise ScanFaultError(
                f"images missing by the numbers in their names: {len(missing)} ({numbers}): set "
                "input.angles to a list of the angles of those that are there, or, if none is "
                f"missing, input.frames: [{len(stack.stems)} projections]"
            )

    def references(self, kind: Kind) -> list[Reference]:
        """Find the flats or darks among the projections, or beside them."""
        if self._order:
            result = frames_of_kind(kind, self._frames, self._keys, f"input.frames {KEYS[kind]}")
            if result:
                return result
        stem = self._path.with_suffix("")
        folder, shown = stem.parent / f"{stem.name}_{kind}", f"<scan>_{kind}"
        if self._path.is_dir():
            alike = [p for p in visible(self._path) if folder_kind(p.name) == kind and p.is_dir()]
            if len(alike) > 1:
                names = in_order_of_time(path.name for path in alike)
                listed = ", ".join(f'"{self._path.parent}/{{scan}}/{name}"' for name in names)
                raise ScanFaultError(
                    f"{len(names)} folders of {kind}, {', '.join(names)}: name them in the order "
                    f"in which they were taken: preprocess: {{{kind}: [{listed}]}}, or move them "
                    "away"
                )
            folder = next(iter(alike), self._path / kind)
            shown = folder.name
        if folder.is_dir():
            return [replace(_all_frames(folder, kind, self._axes), location=f"{shown}/")]
        images = FilePath(self._stack.name)
        lines, how = reference_lines(self._path, images, kind), how_to_name(kind)
        if lines:
            how = f"if these are they, set {lines}; else {how}"
        elif unknown := unknown_folders(self._path, images):
            line = f'preprocess: {{{kind}: "{self._path.parent}/{{scan}}/{unknown[0]}"}}'
            how = f"if they are in {' or '.join(unknown)}, set {line}; else {how}"
        raise ScanFaultError(
            f"no folder {shown} beside the projections; {how}, or say in input.frames which of the "
            f"images they are{'; '.join(['', *self._beside()])}"
        )

    def _parts(self, *, sure: bool) -> str:
        """Say that a file of pages may be a part of a stack (`sure`: is by its length), or ""."""
        is_alone = self._path.is_dir() or companions(str(self._path))
        parts = [] if is_alone else parts_of(self._path)
        if len(parts) < 2 or (sure and not is_cut(parts)):
            return ""
        names = some_of([part.name for part in parts], _MOST_NAMED)
        return (
            f"if {names} are parts of one stack: parts are joined only in a folder of their own, "
            "which is the scan then: move or link them into one, and give it in campaign.scans, "
            f"such as {self._path.parent}/*/"
        )

    def _find_angles(self) -> tuple[FilePath | None, NDArray[np.float64] | None, tuple[str, ...]]:
        """Return the list of angles, what is in it, and what a file was that is none."""
        source = self._angles
        try:
            source = source or self._list_of_angles()
            angles = None if source is None else read_angles(source, self._angle_unit)
            return source, angles, ()
        except ScanError as error:
            if self._range:
                return None, None, ()
            if source in (None, self._angles) or _IS_LIST.search(source.stem):
                raise
            return None, None, (f"no list of angles: {error}",)

    def _tilts(self) -> tuple[str, ...]:
        """Say how IMOD's list of tilts is read that lies beside the images, if there is one."""
        inside = visible(self._path) if self._path.is_dir() else []
        beside = [*inside, *map(self._path.with_suffix, _TILTS)]
        lists = [p for ending in _TILTS for p in beside if p.suffix == ending and p.is_file()]
        if not lists:
            return ()
        scan = self._path.name if self._path.is_dir() else self._path.stem
        name = ("{scan}" if lists[0].stem == scan else lists[0].stem) + lists[0].suffix
        within = "{scan}/" * (lists[0].parent == self._path)
        return (f"{TILTS}{self._path.parent / within / name}, which lies beside the images",)

    def _list_of_angles(self) -> FilePath | None:
        if not self._path.is_dir():
            beside = [self._path.with_suffix(ending) for ending in LISTS]
            return next((path for path in beside if path.is_file()), None)
        lists = [p for p in visible(self._path) if p.suffix.lower() in LISTS]
        angle_lists = [p for p in lists if _IS_LIST.search(p.stem)]
        if len(angle_lists or lists) > 1:
            names = ", ".join(path.name for path in angle_lists or lists)
            raise ScanFaultError(
                f"which is the list of angles? {names}; name one angles.txt alone, or set "
                "input.angles"
            )
        return next(iter(angle_lists or lists), None)


def _without(scan: str, name: str) -> str:
    """Write <scan> for the name of the scan, where it is a word, in that of a list."""
    return re.sub(rf"(?<![^\W_]){re.escape(scan)}(?![^\W_])", "<scan>", name)


def _missing(places: Placed | None) -> tuple[str, ...]:
    """Warn of images that are missing by the angles in their names, if there are any."""
    if places is None or len(places.positions) == len(places.theta_deg):
        return ()
    angles = [f"{angle:.6g}" for angle in np.delete(places.theta_deg, places.positions)]
    which = f"{len(angles)} (at {some_of(angles, _MOST_NAMED)} degrees)"
    return (f"missing images, skipped with their angles: {which}",)


def _all_frames(path: Path, kind: Kind, axes: Sequence[str]) -> Reference:
    """Return all images of a folder or file of flats or darks; `axes` as projections."""
    stack = _open_stack(FilePath(path), kind)
    stack.check_alike()
    return without_position(images_of(stack, axes), stack.location)


def tiff_files(folder: Path) -> list[FilePath]:
    """List the TIFF files of a folder in the order of their names."""
    try:
        with os.scandir(folder) as entries:
            results = [entry.name for entry in entries if entry.name.lower().endswith(TIFF.endings)]
    except OSError as error:
        raise ScanError(f"{folder}: cannot be read ({one_line(error)})") from error
    names = in_order([name for name in results if name[0] != "."])  # hidden ones are of macOS
    return [FilePath(folder, name) for name in names]


def _open_stack(
    path: FilePath, kind: Kind | None = None, *, counted: bool = False
) -> ImageFiles | Pages:
    """Open the images of a folder or file: of a scan, by name or `counted`, or all of a `kind`."""
    if not path.is_dir():
        check_file(path)
        return Pages([path], str(path))
    images = tiff_files(path)
    folders = [folder for folder in visible(path) if folder.is_dir()]
    others = [folder for folder in folders if kind or folder_kind(folder.name) is None]
    # a closed folder beside images is none of the scan
    counts = {f: len(tiff_files(f)) for f in others if not images or os.access(f, os.R_OK)}
    below = sorted((f for f in counts if counts[f]), key=lambda f: -counts[f])
    if images:
        _refuse_kinds(images, kind, counted=counted)
        if not (counted or kind) and below and counts[below[0]] > len(images):
            raise ScanError(
                f"{path}: images here ({images[0].name}, {len(images)} in all) and more of them in "
                f"{below[0].name}/ ({counts[below[0]]}): move flats and darks into flats/ and "
                f"darks/, or give {below[0]}/ in campaign.scans; if those here are the projections,"
                f" set input.frames: [{len(images)} projections]"
            )
        return open_images(images)
    if len(below) == 1 and not (counted or kind):
        (only,), n = below, counts[below[0]]
        if kind_of(only.name) or n_unread(path) >= n:
            raise ScanError(
                f"{path}: a folder without TIFF files, but for {n} in {only.name}/"
                f"{other_files(path)}; if those are the projections, give {only}/ in campaign.scans"
            )
    if len(below) != 1:
        names = some_of([folder.name for folder in below], 4) or "no subfolder either"
        hint = other_files(path) if not below else ""
        if not (below or hint):
            hint = f"; {how_to_name(kind)}" if kind else "; copy its images there, or remove it"
        if len(below) > 1:
            hint = f"; if each of these is a scan, give {path}/*/ in campaign.scans"
        scans = [folder for folder in below if kind_of(folder.name) is None]
        if kind and below:
            listed = ", ".join(f'"{path}/{n}"' for n in in_order_of_time(f.name for f in below))
            hint = f"; name them in the order of time: preprocess: {{{kind}: [{listed}]}}"
        elif len(scans) == 1 or (len(below) > 1 and counts[below[0]] >= _BY_FAR * counts[below[1]]):
            folder = scans[0] if len(scans) == 1 else below[0]
            hint = projections_in(folder, counts[folder], [f.name for f in folders])
        raise ScanError(f"{path}: a folder without TIFF files ({names} with any){hint}")
    images = tiff_files(below[0])
    _refuse_kinds(images, kind, counted=counted)
    return open_images(images, f"{below[0].name}/")


def _refuse_kinds(images: list[FilePath], kind: Kind | None, *, counted: bool) -> None:
    """Raise if names do not show that all images of a folder are of one kind."""
    if counted or not (unclear := unclear_kinds([path.stem for path in images])):
        return
    instead = (
        f"move those that are no {kind} away, or name a folder of each in preprocess.{kind}"
        if kind
        else "move flats and darks into subfolders flats/ and darks/, all other images "
        "away, or count all images, in the order of their names, in input.frames, such as [10 "
        "darks, 181 projections]"
    )
    if is_split(images):
        before, after = first_part(images)
        instead = (
            f"if these are parts of one stack, rename {before} to {after}: numbers tell their "
            f"order; else {instead}"
        )
    raise ScanError(f"{images[0].parent}: {unclear}: {instead}")
