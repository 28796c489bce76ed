"""Images in TIFF files: one in each, or pages of one file or several."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path as FilePath
from typing import Literal, NamedTuple

import numpy as np
import tifffile
from numpy.typing import NDArray

from tomopipe.errors import (
    LibraryError,
    PixelsError,
    ScanError,
    is_of_the_system,
    library_error,
    own_error,
)
from tomopipe.paths import no_pipe
from tomopipe.scans.chunks import Chunks
from tomopipe.scans.hdf5 import one_line
from tomopipe.scans.image_names import kinds_of
from tomopipe.scans.pixels import IndexRange, Pixels

# Compressions that tifffile decodes itself; the others need the package imagecodecs.
_DECODABLE = {1, 8, 32773, 32946}
_MOST_ODD = 8  # images that are opened for their names or sizes
_MUCH_LONGER = 1.9  # than most compressed images


@contextmanager
def _reading(path: FilePath) -> Iterator[None]:
    """Translate any exception of a broken TIFF file into a reason."""
    try:
        yield
    except (ScanError, LibraryError, MemoryError):
        raise
    except FileNotFoundError as error:
        # One of several is no cause to try again: the others would be taken for a scan.
        others = any(path.parent.glob("*"))
        raise ScanError(f"{path}: no longer exists") from (None if others else error)
    except Exception as error:
        if unloaded := library_error(error):
            raise unloaded from error
        again = "" if is_of_the_system(error) else ": copy it again"
        fault = own_error(error) or f"the TIFF image cannot be read ({one_line(error)}){again}"
        raise PixelsError(f"{path}: {fault}") from error


class _Contents(NamedTuple):
    """The images of a file: those of its first series, or of all where these are alike."""

    path: FilePath
    shape: tuple[int, ...]  # n_pages, rows, columns
    page: "tifffile.TiffPage"  # the first
    offset: int | None  # where they begin, if they follow one another as they are
    byteorder: Literal["<", ">"]


def _open(path: FilePath) -> tifffile.TiffFile:
    """Open a file for its own pages: metadata of OME may count those of other files."""
    return tifffile.TiffFile(no_pipe(path), is_ome=False, is_mmstack=False)


def _contents(path: FilePath) -> _Contents:
    with _reading(path), _open(path) as file:
        if not file.series:
            raise ScanError(f"{path}: the TIFF image cannot be read (no page)")
        first, n_series = file.series[0], len(file.series)
        shape, page = tuple(first.shape), first.keyframe
        if shape == page.shape:
            shape = (1, *shape)
            # a writer that appends pages one by one makes each a series
            if n_series > 1 and len({(series.shape, series.dtype) for series in file.series}) == 1:
                return _Contents(path, (n_series, *page.shape), page, None, file.byteorder)
        return _Contents(path, shape, page, first.dataoffset, file.byteorder)


def _check_page(result: _Contents) -> np.dtype:
    """Check that there are readable images; return their type in native byte order."""
    path, page, shape = result.path, result.page, result.shape[1:]
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
    file = None  # of HDF5

    def read_box(
        self: Pixels, box: tuple[IndexRange, IndexRange, IndexRange], threads: int = 1
    ) -> NDArray:
        """Read a part, one span for each axis."""
        (first, last), (top, end), columns = box
        whole = np.empty((last - first, end - top, self.shape[2]), self.dtype)
        self.read(whole, box[0], box[1], threads)
        return whole[:, :, slice(*columns)]


class ImageFiles(_Images):
    """Images in a file each; read whole, as one file is one request to a file server."""

    def __init__(self, files: list[FilePath], location: str = "images") -> None:
        self._files, self.location = files, location
        self.name = str(files[0].parent)
        self.stems: Sequence[str] = [path.stem for path in files]  # of one image each
        # That of the most images tells what to expect of the others: preview.tif may come first.
        self._kinds = kinds_of(self.stems)
        ((usual, _),) = Counter(self._kinds).most_common(1)
        self._typical = files[self._kinds.index(usual)]
        result = _contents(self._typical)
        self.n_pages, page = result.shape[0], result.page
        self.dtype = _check_page(result)
        self.shape = (len(files), page.shape[0], page.shape[1])
        # Uncompressed images are all as long as the first one.
        self._plain = int(page.compression) == 1
        self._n_bytes = page.dataoffsets[0] + page.nbytes if self._plain else 1
        self.chunks = Chunks((1, *self.shape[1:]))

    def sort(self, order: NDArray[np.intp]) -> None:
        """Take the images in another order."""
        self._files = [self._files[n] for n in order]
        self.stems, self._kinds = ([names[n] for n in order] for names in (self.stems, self._kinds))

    @cached_property
    def _sizes(self) -> NDArray[np.int64]:
        return np.array([_size(path) for path in self._files], np.int64)

    def written(self) -> NDArray[np.bool_]:
        """Return which files are long enough to hold their image, or are not empty."""
        return np.asarray(self._sizes >= self._n_bytes)

    def check_alike(self, unused: NDArray[np.bool_] | None = None) -> None:
        """Refuse images of another shape or type than most, but for those `unused`.

        Each header would be slow to read from a file server: one of each kind and size is read.
        """
        sizes = self._sizes
        if not self._plain:  # what is much longer may have several pages
            sizes = np.where(sizes > _MUCH_LONGER * np.median(sizes), sizes, 1)
        keys = list(zip(self._kinds, sizes.tolist(), strict=True))
        typical = keys[self._files.index(self._typical)]
        others = [key for key in dict.fromkeys(keys) if key != typical and key[1]]
        others.sort(key=lambda key: (key[0] == typical[0], -abs(key[1] - typical[1])))
        odd_keys = []
        for key in others[:_MOST_ODD]:
            with suppress(ScanError):  # cut short: not written
                if _shape_and_type(self._files[keys.index(key)]) != (self.shape[1:], self.dtype):
                    odd_keys.append(key)
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

    def read(self, out: NDArray, frames: IndexRange, rows: IndexRange, threads: int = 1) -> None:
        """Read rows of some of the images, several files at a time."""

        def read_image(number: int) -> None:
            path = self._files[frames[0] + number]
            with _reading(path), _open(path) as file:
                image = file.asarray()
                if image.shape != self.shape[1:]:
                    raise ScanError(
                        f"{path}: image of {image.shape}; expected {self.shape[1:]} as in "
                        f"{self._typical.name}"
                    )
                out[number] = image[slice(*rows)]

        with ThreadPoolExecutor(max(1, threads)) as pool:
            list(pool.map(read_image, range(len(out))))


class Pages(_Images):
    """The pages of a file, or of several, one file after the other."""

    def __init__(self, files: Sequence[FilePath], name: str, location: str = "pages") -> None:
        self.name, self.location = name, location
        self._files = [_contents(path) for path in files]
        self.dtype, *_ = map(_check_page, self._files)
        _, n_rows, n_cols = self._files[0].shape
        self.shape = (sum(file.shape[0] for file in self._files), n_rows, n_cols)
        self._page_bytes = n_rows * n_cols * self.dtype.itemsize
        # where all is contiguous rows can be read alone
        in_parts = all(file.offset is not None for file in self._files)
        self.chunks = Chunks(None if in_parts else (1, n_rows, n_cols))

    def written(self) -> NDArray[np.bool_]:
        """Return which pages the files are long enough for."""
        return np.concatenate([self._written(file) for file in self._files])

    def _written(self, file: _Contents) -> NDArray[np.bool_]:
        n_pages = n_there = file.shape[0]
        if file.offset is not None:
            n_there = max(0, _size(file.path) - file.offset) // self._page_bytes
        return np.arange(n_pages) < n_there

    def check_alike(self, unused: NDArray[np.bool_] | None = None) -> None:
        """Refuse pages of another shape or type than those of the first file."""
        first = self._files[0]
        for file in self._files:
            dtype = _check_page(file)
            if (file.shape[1:], dtype) != (self.shape[1:], self.dtype):
                raise ScanError(
                    f"{file.path}: pages of {file.shape[1:]}, {dtype}; expected "
                    f"{self.shape[1:]}, {self.dtype} as in {first.path}: move it away"
                )

    def read(self, out: NDArray, frames: IndexRange, rows: IndexRange, threads: int = 1) -> None:
        """Read rows of some of the pages."""
        before = 0
        for file in self._files:
            low, high = max(frames[0], before), min(frames[1], before + file.shape[0])
            if low < high:
                part = out[low - frames[0] : high - frames[0]]
                self._read_pages(file, part, low - before, rows)
            before += file.shape[0]

    def _read_pages(self, contents: _Contents, out: NDArray, first: int, rows: IndexRange) -> None:
        path, offset = contents.path, contents.offset
        with _reading(path):
            if offset is not None:
                start, shape = offset + first * self._page_bytes, (len(out), *self.shape[1:])
                dtype = self.dtype.newbyteorder(contents.byteorder)
                out[:] = np.memmap(no_pipe(path), dtype, "r", start, shape)[:, slice(*rows)]
                return
            with _open(path) as file:
                for page in range(len(out)):
                    out[page] = file.asarray(key=first + page)[slice(*rows)]


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


def open_images(files: list[FilePath], location: str = "images") -> ImageFiles | Pages:
    """Open images in a file each, or in files of several pages."""
    stack = ImageFiles(files, location)
    if stack.n_pages == 1:
        return stack
    location += f", {len(files)} file{'s' * (len(files) > 1)} of pages"
    return Pages(files, stack.name, location)
