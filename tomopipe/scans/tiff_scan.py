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
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path as FilePath
from typing import Literal, NamedTuple

import numpy as np
import tifffile
from numpy.typing import NDArray

from tomopipe.config import InputBlock
from tomopipe.config.base import is_dataset
from tomopipe.config.blocks import AngleRange
from tomopipe.errors import ScanError, own_error, some_of
from tomopipe.groups import grouped
from tomopipe.scans.angle_lists import (
    BY_ANGLE,
    TILTS,
    notes_on_list,
    planned_by_range,
    planned_frames,
    read_angles,
)
from tomopipe.scans.chunks import Chunks
from tomopipe.scans.formats import ALONE, IMAGES, format_named
from tomopipe.scans.hdf5 import check_file, one_line
from tomopipe.scans.image_names import (
    counts_of,
    in_earlier_order,
    in_order,
    kinds_of,
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
    Path,
    Reference,
    counted_keys,
    frames_of_kind,
    how_to_name,
    invalid_frames,
    without_position,
)
from tomopipe.scans.metadata import fewer_frames
from tomopipe.scans.pixels import AXES, Frames, IndexRange, Pixels, images_of, transposed
from tomopipe.scans.raw_state import (
    LISTS,
    folder_kind,
    in_order_of_time,
    visible,
)

# Compressions that tifffile decodes itself; the others need the package imagecodecs.
_DECODABLE = {1, 8, 32773, 32946}
_IS_LIST = re.compile("angle|theta", re.IGNORECASE)
_TILTS = (".rawtlt", ".tlt")  # of IMOD: as recorded, as aligned
_MOST_ODD = 8  # images that are opened for their names or sizes
_MOST_NAMED = 4  # missing images
_MUCH_LONGER = 1.9  # than most compressed images
_BY_FAR = 3  # times as many images as in the next folder


class TiffReader:
    """A scan in TIFF files: a folder, or a file of several pages; flats and darks are frames."""

    def __init__(self, path: Path, options: InputBlock) -> None:
        self._path, self._angle_unit = FilePath(path), options.angle_unit
        listed = isinstance(options.angles, str) and not is_dataset(options.angles)
        self._angles = FilePath(str(options.angles)) if listed else None
        self._range = options.angles if isinstance(options.angles, AngleRange) else None
        self._order, self._axes = options.frames, tuple(options.axes)
        self._stack = _open_stack(self._path, counted=bool(self._order))
        self._frames = transposed(self._stack, options.axes)
        self._keys: NDArray[np.int64]  # (n_frames,): the kind of each, from `layout`

    def layout(self) -> Layout:
        """Find projections and angles; TIFF files do not tell the rest."""
        n_frames = self._frames.shape[0]
        if n_frames == 1 and not self._path.is_dir():
            raise ScanError(
                f"{self._path}: one image, no scan: for a scan of an image per projection give "
                f"their folder in campaign.scans, {self._path.parent}/"
            )
        source, theta_deg, not_taken = self._find_angles()
        planned = np.full(n_frames, PROJECTION)
        if self._order:
            planned = counted_keys(self._order, n_frames, self._path)
        self._keys = planned[:n_frames]
        by_image = self._axes[0] == AXES[0]
        self._stack.check_alike(self._keys == INVALID if by_image else None)
        n_planned = int(np.count_nonzero(planned == PROJECTION))
        by_angle = self._sort_by_angle(theta_deg)
        places = by_angle or self._places_by_number(theta_deg)
        if theta_deg is not None:
            if self._order and len(theta_deg) == len(planned):
                theta_deg = theta_deg[planned == PROJECTION]
            elif places is not None and len(theta_deg) == places.n_planned:
                theta_deg = theta_deg[places.positions]
        is_fewer = len(planned) > n_frames
        is_reordered = isinstance(self._stack, _Files) and self._stack.is_reordered
        return Layout(
            path=str(self._path),
            format="TIFF",
            projections=Frames(self._frames, np.flatnonzero(self._keys == PROJECTION)),
            theta_deg=theta_deg,
            location=self._stack.location,
            theta_location="" if source is None else source.name.replace(self._path.stem, "<scan>"),
            theta_listed=source is not None,
            warnings=(
                *(() if source else self._tilts()),
                *not_taken,
                *(places.warnings if places else ()),
                *invalid_frames(self._keys),
            ),
            aborted=fewer_frames(n_frames, len(planned), COUNTED) if is_fewer else "",
            positions=places.positions if places else None,
            n_planned=places.n_planned if places else n_planned,
            notes=(
                *(() if source is None or self._range else notes_on_list(source)),
                *(BY_ANGLE,) * (bool(by_angle and by_angle.warnings) or is_reordered),
            ),
        )

    def _sort_by_angle(self, listed: NDArray[np.float64] | None) -> "_Places | None":
        """Put the images in the order of the angles if numbers in their names are these."""
        stack, in_range = self._stack, self._range
        if self._order or self._axes[0] != AXES[0] or not isinstance(stack, _Files):
            return None
        if listed is None and in_range is None:
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
            raise ScanError(
                f"{self._path}: the names of the images hold other angles than {angles}: {error}; "
                "correct the angles or the names; if these numbers are no angles, and the order of "
                f"the names is right, set input.frames: [{n_frames} projections]"
            ) from None
        if result is None:
            return None
        stack.sort(np.argsort(result.places))
        gone = [f"{angle:.6g}" for angle in np.delete(result.theta_deg, result.places)]
        which = f"at {some_of(gone, _MOST_NAMED)} degrees"
        return _Places(np.sort(result.places), len(result.theta_deg), which)

    def _places_by_number(self, listed: NDArray[np.float64] | None) -> "_Places | None":
        """Return which of the angles in a list images have of which a few are missing.

        Without a list of as many angles as images, missing numbers are a ScanError.
        """
        stack = self._stack
        if self._order or self._axes[0] != AXES[0] or not isinstance(stack, _Files):
            return None
        n_images = len(stack.stems)
        if (listed is not None and len(listed) == n_images) or n_images < 2:
            return None
        if (counts := counts_of(stack.stems)) is None:
            return None
        if listed is not None and not self._range:
            step = np.gcd.reduce(np.diff(counts))
            positions = planned_frames(counts // step, len(listed))
            if positions is None:
                return None
            gone = counts[0] + step * np.delete(np.arange(len(listed)), positions)
            which = f"images {some_of([*map(str, gone)], _MOST_NAMED)}"
            return _Places(positions, len(listed), which)
        # Flats and darks, which may be counted with the projections, are not missing.
        folders = [p for p in self._path.iterdir() if p.is_dir() and folder_kind(p.name)]
        others = (counts_of([image.stem for image in tiff_files(p)]) for p in folders)
        missing = missing_counts(counts, [{*n.tolist()} for n in others if n is not None])
        if missing:
            raise ScanError(
                f"{self._path}: images missing by the numbers in their names: {len(missing)} "
                f"({some_of([*map(str, missing)], _MOST_NAMED)}): set input.angles to a list, or, "
                f"if none is missing, input.frames: [{n_images} projections]"
            )
        return None

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
                raise ScanError(self._several(kind, names))
            folder = next(iter(alike), self._path / kind)
            shown = folder.name
        if folder.is_dir():
            return [replace(all_frames(folder, kind, self._axes), location=f"{shown}/")]
        raise ScanError(
            f"{self._path}: no folder {shown} beside the projections; {how_to_name(kind)}, or say "
            "in input.frames which of the images they are"
        )

    def _several(self, kind: Kind, names: list[str]) -> str:
        """Say how to name several folders of flats or darks, which are taken in an order."""
        listed = ", ".join(f'"{self._path.parent}/{{scan}}/{name}"' for name in names)
        return (
            f"{self._path}: {len(names)} folders of {kind}, {', '.join(names)}: name them in the "
            f"order in which they were taken: preprocess: {{{kind}: [{listed}]}}, or move them away"
        )

    def _find_angles(self) -> tuple[FilePath | None, NDArray[np.float64] | None, tuple[str, ...]]:
        """Return the list of angles and what is in it, and what a file was that is none.

        Notes and logs lie beside images, too: only a file that is called so must be a list.
        """
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
        named = [p for p in lists if _IS_LIST.search(p.stem)]
        if len(named or lists) > 1:
            names = ", ".join(path.name for path in named or lists)
            raise ScanError(
                f"{self._path}: which is the list of angles? {names}; name one angles.txt alone, "
                "or set input.angles"
            )
        return next(iter(named or lists), None)


class _Places(NamedTuple):
    """Images that are there, of those that were planned."""

    positions: NDArray[np.intp]  # (n_images,): which of the planned ones each is
    n_planned: int
    which: str  # those that are missing

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warn of missing images, if there are any."""
        if not (n_missing := self.n_planned - len(self.positions)):
            return ()
        return (f"missing images, skipped with their angles: {n_missing} ({self.which})",)


def all_frames(path: Path, kind: Kind, axes: Sequence[str] = AXES) -> Reference:
    """Return all images of a folder or file of flats or darks; `axes` as projections."""
    stack = _open_stack(FilePath(path), kind)
    stack.check_alike()
    return without_position(images_of(stack, axes), stack.location)


def tiff_files(folder: Path) -> list[FilePath]:
    """List the TIFF files of a folder in the order of their names."""
    try:
        with os.scandir(folder) as entries:
            results = [entry.name for entry in entries if entry.name.lower().endswith(IMAGES)]
    except OSError as error:
        raise ScanError(f"{folder}: cannot be read ({one_line(error)})") from error
    names = in_order([name for name in results if name[0] != "."])  # hidden ones are of macOS
    return [FilePath(folder, name) for name in names]


def _open_stack(
    path: FilePath, kind: Kind | None = None, *, counted: bool = False
) -> "_Files | _Stacks | _Pages":
    """Open the images of a folder or file: of a scan, or all of a `kind`.

    Those of a folder have names of one kind, unless they are `counted` in input.frames.
    """
    if not path.is_dir():
        check_file(path)
        return _Pages(path)
    images = tiff_files(path)
    folders = [folder for folder in visible(path) if folder.is_dir()]
    others = [folder for folder in folders if folder_kind(folder.name) is None]
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
        return _stack_of(images)
    if len(below) != 1:
        names = some_of([folder.name for folder in below], 4) or "no subfolder either"
        hint = _alone_in(path)
        if len(below) > 1 and not hint:
            hint = f"; if each of these is a scan, give {path}/*/ in campaign.scans"
        if len(below) > 1 and counts[below[0]] >= _BY_FAR * counts[below[1]]:
            hint = _projections_in(below[0], counts[below[0]], [f.name for f in folders])
        raise ScanError(f"{path}: a folder without TIFF files ({names} with any){hint}")
    images = tiff_files(below[0])
    _refuse_kinds(images, kind, counted=counted)
    return _stack_of(images, f"{below[0].name}/")


def _refuse_kinds(images: list[FilePath], kind: Kind | None, *, counted: bool) -> None:
    """Raise if names do not show that all images of a folder are of one kind."""
    if counted or not (unclear := unclear_kinds([path.stem for path in images])):
        return
    instead = (
        f"move those that are no {kind} away, or name a folder of each in preprocess.{kind}"
        if kind
        else "move flats and darks into subfolders flats/ and darks/, what is none of the scan "
        "away, or count all images, in the order of their names, in input.frames, such as [10 "
        "darks, 181 projections]"
    )
    raise ScanError(f"{images[0].parent}: {unclear}: {instead}")


def _projections_in(folder: FilePath, n_images: int, beside: Iterable[str]) -> str:
    """Say how to name projections in one of several subfolders, and flats and darks beside it."""
    kinds = grouped((kind, name) for name in beside if (kind := folder_kind(name)))
    parts = []
    for kind, names in sorted(kinds.items(), reverse=True):
        paths = ", ".join(f"{folder.parent}/{name}" for name in in_order_of_time(names))
        parts.append(f"{kind}: [{paths}]" if len(names) > 1 else f"{kind}: {paths}")
    named = f" and preprocess: {{{', '.join(parts)}}}" if parts else ""
    return (
        f"; the projections seem to be in {folder.name} ({n_images} images): give {folder}/ in "
        f"campaign.scans{named}"
    )


def _stack_of(files: list[FilePath], location: str = "images") -> "_Files | _Stacks | _Pages":
    """Open images in a file each, or in files of several pages."""
    stack = _Files(files, location)
    return _Stacks(files, location) if stack.n_pages > 1 else stack


def _alone_in(folder: FilePath) -> str:
    """Say how to name scans in files, in a folder that was taken for one of images, or below it."""
    paths = (
        f"; for its {format_.name} files give {folder}/{pattern}{path.suffix}"
        for pattern in ("*", "*/*")
        for path in folder.glob(pattern)
        if not path.name.startswith(".")
        and path.suffix.lower() in ALONE
        and (format_ := format_named(path.name))
    )
    return next(paths, "")


@contextmanager
def _reading(path: FilePath) -> Iterator[None]:
    """Turn whatever a broken TIFF file raises into its reason."""
    try:
        yield
    except (ScanError, MemoryError):
        raise
    except FileNotFoundError as error:
        # One of several is no cause to try again: the others would be taken for a scan.
        others = any(path.parent.glob("*"))
        raise ScanError(f"{path}: no such file any more") from (None if others else error)
    except Exception as error:
        fault = own_error(error) or f"the TIFF image cannot be read ({one_line(error)})"
        raise ScanError(f"{path}: {fault}") from error


class _Contents(NamedTuple):
    """The images of a file: those of its first series, or of all where these are alike."""

    shape: tuple[int, ...]  # n_pages, rows, columns
    page: "tifffile.TiffPage"  # the first
    offset: int | None  # where they begin, if they follow one another as they are
    byteorder: Literal["<", ">"]


def _contents(path: FilePath) -> _Contents:
    with _reading(path), tifffile.TiffFile(path) as file:
        if not file.series:
            raise ScanError(f"{path}: the TIFF image cannot be read (no page)")
        first, n_series = file.series[0], len(file.series)
        shape, page = tuple(first.shape), first.keyframe
        if shape == page.shape:
            shape = (1, *shape)
            # a writer that appends pages one by one makes each a series
            if n_series > 1 and len({(series.shape, series.dtype) for series in file.series}) == 1:
                return _Contents((n_series, *page.shape), page, None, file.byteorder)
        return _Contents(shape, page, first.dataoffset, file.byteorder)


def _check_page(result: _Contents, path: FilePath) -> np.dtype:
    """Check that there are images that can be read; return their type, as this machine has it."""
    page, shape = result.page, result.shape[1:]
    dtype = page.dtype
    if len(shape) != 2 or 0 in shape:
        raise ScanError(f"{path}: image of shape {shape}; expected rows x columns of one colour")
    if dtype is None or dtype.kind not in "uif":
        raise ScanError(f"{path}: pixels of type {dtype}; expected whole numbers or floats")
    if int(page.compression) not in _DECODABLE:
        try:
            import imagecodecs  # noqa: F401 - tifffile finds it by itself
        except ImportError:
            raise ScanError(
                f"{path}: compressed with {page.compression!r}; install imagecodecs to read it"
            ) from None
    return np.dtype(dtype).newbyteorder("=")


class _Images:
    """What images in TIFF files have in common."""

    name: str
    shape: tuple[int, int, int]
    dtype: np.dtype
    chunks: Chunks  # as far as parts of an image cannot be read
    stems: Sequence[str] = ()  # names of the files, of one image each
    file = None  # of HDF5

    def check_alike(self, unused: NDArray[np.bool_] | None = None) -> None:
        """Refuse images of another shape or type than most; pages of a file have one."""

    def read_box(
        self: Pixels, box: tuple[IndexRange, IndexRange, IndexRange], threads: int = 1
    ) -> NDArray:
        """Read a part, one span for each axis."""
        (first, last), (top, end), columns = box
        whole = np.empty((last - first, end - top, self.shape[2]), self.dtype)
        self.read(whole, box[0], box[1], threads)
        return whole[:, :, slice(*columns)]


class _Files(_Images):
    """Images in a file each; read whole, as one file is one request to a file server."""

    def __init__(self, files: list[FilePath], location: str = "images") -> None:
        self._files, self.location = files, location
        self.name = str(files[0].parent)
        self.stems = [path.stem for path in files]
        # That of the most images tells what to expect of the others: preview.tif may come first.
        self._kinds = kinds_of(self.stems)
        ((usual, _),) = Counter(self._kinds).most_common(1)
        self._typical = files[self._kinds.index(usual)]
        result = _contents(self._typical)
        self.n_pages, page = result.shape[0], result.page
        self.dtype = _check_page(result, self._typical)
        self.shape = (len(files), page.shape[0], page.shape[1])
        # Uncompressed images are all as long as the first one.
        self._plain = int(page.compression) == 1
        self._n_bytes = page.dataoffsets[0] + page.nbytes if self._plain else 1
        self.chunks = Chunks((1, *self.shape[1:]))

    def sort(self, order: NDArray[np.intp]) -> None:
        """Take the images in another order."""
        self._files = [self._files[n] for n in order]
        self.stems, self._kinds = ([names[n] for n in order] for names in (self.stems, self._kinds))

    @property
    def is_reordered(self) -> bool:
        """Whether earlier versions took the images in another order."""
        names = [path.name for path in self._files]
        return names != in_earlier_order(names)

    @cached_property
    def _sizes(self) -> NDArray[np.int64]:
        return np.array([_size(path) for path in self._files], np.int64)

    def written(self) -> NDArray[np.bool_]:
        """Tell which files are long enough to hold their image, or are not empty."""
        return np.asarray(self._sizes >= self._n_bytes)

    def check_alike(self, unused: NDArray[np.bool_] | None = None) -> None:
        """Refuse images of another shape or type than most, but for those `unused`.

        Each header would be slow to read from a file server: one is read of each kind of name and,
        of files that are not compressed, each size, those first that are least like the others.
        """
        sizes = self._sizes
        if not self._plain:  # what is much longer may have several pages
            sizes = np.where(sizes > _MUCH_LONGER * np.median(sizes), sizes, 1)
        keys = list(zip(self._kinds, sizes.tolist(), strict=True))
        typical = keys[self._files.index(self._typical)]
        others = [key for key in dict.fromkeys(keys) if key != typical and key[1]]
        others.sort(key=lambda key: (key[0] == typical[0], -abs(key[1] - typical[1])))
        odd_keys = [
            key for key in others[:_MOST_ODD] if not self._is_alike(self._files[keys.index(key)])
        ]
        odd = np.array([key in odd_keys for key in keys])
        used = odd if unused is None else odd & ~unused
        if used.any():
            path = self._files[int(np.argmax(used))]
            shape, dtype = _shape_and_type(path)
            raise ScanError(
                f"{path}: an image of {shape}, {dtype}; expected {self.shape[1:]}, {self.dtype} as "
                f"in {self._typical.name}: move it away, or, beside projections, count it as "
                "invalid in input.frames"
            )

    def _is_alike(self, path: FilePath) -> bool:
        """Tell whether an image has the shape and type of the others, or cannot be opened."""
        try:
            return _shape_and_type(path) == (self.shape[1:], self.dtype)
        except ScanError:
            return True  # cut short: not written

    def read(self, out: NDArray, frames: IndexRange, rows: IndexRange, threads: int = 1) -> None:
        """Read rows of some of the images, several files at a time."""

        def read_image(number: int) -> None:
            path = self._files[frames[0] + number]
            with _reading(path):
                image = tifffile.imread(path)
                if image.shape != self.shape[1:]:
                    raise ScanError(
                        f"{path}: image of {image.shape}; expected {self.shape[1:]} as in "
                        f"{self._typical.name}"
                    )
                out[number] = image[slice(*rows)]

        with ThreadPoolExecutor(max(1, threads)) as pool:
            list(pool.map(read_image, range(len(out))))


class _Pages(_Images):
    """The pages of one file."""

    location = "pages"

    def __init__(self, path: FilePath) -> None:
        self._path = path
        self.name = str(path)
        result = _contents(path)
        self.dtype = _check_page(result, path)
        # where all is contiguous rows can be read alone
        self._offset, shape = result.offset, result.shape
        self._raw_dtype = self.dtype.newbyteorder(result.byteorder)
        self.shape = (shape[0], shape[1], shape[2])
        self._page_bytes = shape[1] * shape[2] * self.dtype.itemsize
        self.chunks = Chunks(None if self._offset is not None else (1, *shape[1:]))

    def written(self) -> NDArray[np.bool_]:
        """Tell which pages the file is long enough for."""
        n_frames = self.shape[0]
        if self._offset is None:
            return np.ones(n_frames, bool)
        n_there = max(0, _size(self._path) - self._offset) // self._page_bytes
        return np.arange(n_frames) < n_there

    def read(self, out: NDArray, frames: IndexRange, rows: IndexRange, threads: int = 1) -> None:
        """Read rows of some of the pages."""
        with _reading(self._path):
            if self._offset is not None:
                start = self._offset + frames[0] * self._page_bytes
                shape = (len(out), *self.shape[1:])
                out[:] = np.memmap(self._path, self._raw_dtype, "r", start, shape)[:, slice(*rows)]
                return
            with tifffile.TiffFile(self._path) as file:
                for page in range(len(out)):
                    out[page] = file.asarray(key=frames[0] + page)[slice(*rows)]


class _Stacks(_Images):
    """The pages of several files, one file after the other."""

    def __init__(self, files: list[FilePath], location: str) -> None:
        self._parts, self.name = [*map(_Pages, files)], str(files[0].parent)
        self.location = f"{location}, {len(files)} file{'s' * (len(files) > 1)} of pages"
        first = self._parts[0]
        self.dtype = first.dtype
        self.shape = (sum(part.shape[0] for part in self._parts), *first.shape[1:])
        in_parts = all(part.chunks.whole is None for part in self._parts)
        self.chunks = Chunks(None if in_parts else (1, *self.shape[1:]))

    def written(self) -> NDArray[np.bool_]:
        """Tell which pages the files are long enough for."""
        return np.concatenate([part.written() for part in self._parts])

    def check_alike(self, unused: NDArray[np.bool_] | None = None) -> None:
        """Refuse pages of another shape or type than those of the first file."""
        for part in self._parts:
            if (part.shape[1:], part.dtype) != (self.shape[1:], self.dtype):
                raise ScanError(
                    f"{part.name}: pages of {part.shape[1:]}, {part.dtype}; expected "
                    f"{self.shape[1:]}, {self.dtype} as in {self._parts[0].name}: move it away"
                )

    def read(self, out: NDArray, frames: IndexRange, rows: IndexRange, threads: int = 1) -> None:
        """Read rows of some of the pages."""
        before = 0
        for part in self._parts:
            low, high = max(frames[0], before), min(frames[1], before + part.shape[0])
            if low < high:
                within = out[low - frames[0] : high - frames[0]]
                part.read(within, (low - before, high - before), rows, threads)
            before += part.shape[0]


def _shape_and_type(path: FilePath) -> tuple[tuple[int, ...], np.dtype]:
    """Return the shape of the only image of a file, or of all its pages, and their type."""
    result = _contents(path)
    shape = result.shape[1:] if result.shape[0] == 1 else result.shape
    return shape, np.dtype(result.page.dtype).newbyteorder("=")


def _size(path: FilePath) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0
