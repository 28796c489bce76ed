"""MRC image stacks and volumes of float32: written in parts, checked by their headers."""

import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress

import mrcfile
import numpy as np
from numpy.typing import NDArray

from tomopipe.errors import TomopipeError
from tomopipe.paths import no_pipe
from tomopipe.storage import checksums
from tomopipe.volumes.direct_io import direct_writer
from tomopipe.volumes.output_size import HEADER_BYTES, stack_bytes

LABEL = "tomopipe"
"""First label in the header of a stack."""


class StackFile:
    """An MRC stack (images, rows, columns) written part by part, with statistics in its header.

    `pixel_angstrom` is the pixel size, 0 if unknown. The header has ten lines of 80 characters for
    `labels`. The images of a volume (`is_volume`) are its sections.

    mrcfile creates the file and its header. Pixels are written without its memory map, which counts
    as memory of the job and ends it with a bus error on a full disk.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        shape: Sequence[int],
        pixel_angstrom: float | tuple[float, float, float],
        *,
        labels: Sequence[str] = (LABEL,),
        is_volume: bool = False,
    ) -> None:
        self.path, self.shape, self.labels = path, tuple(shape), labels
        with mrcfile.new_mmap(path, self.shape, mrc_mode=2, overwrite=True) as mrc:
            mrc.set_volume() if is_volume else mrc.set_image_stack()
            mrc.voxel_size = pixel_angstrom
        self.low, self.high = np.inf, -np.inf
        self.total = self.total_squares = 0.0

    def write(self, images: NDArray[np.float32], image: int, row: int) -> None:
        """Write rows of consecutive images, beginning at `image` and `row`."""
        _, n_rows, n_cols = self.shape
        parts = [images] if images.shape[1] == n_rows else list(images)
        with direct_writer(self.path) as write:
            for i, part in enumerate(parts):
                offset = HEADER_BYTES + 4 * n_cols * ((image + i) * n_rows + row)
                data = np.ascontiguousarray(part, "<f4")
                write(data, offset)
                checksums.written(self.path, offset, data)
        self.low, self.high = min(self.low, images.min()), max(self.high, images.max())
        self.total += float(images.sum(dtype=np.float64))
        self.total_squares += float(np.square(images, dtype=np.float64).sum())

    @property
    def is_finite(self) -> bool:
        """Whether all written values are finite."""
        return bool(np.isfinite([self.low, self.high, self.total]).all())

    @property
    def statistics(self) -> dict[str, float]:
        """Minimum, maximum, mean and standard deviation of all written values."""
        n_pixels = float(np.prod(self.shape, dtype=np.float64))
        mean = self.total / n_pixels
        variance = self.total_squares / n_pixels - mean**2
        # of constant images the difference is only rounding
        deviation = variance**0.5 if variance > 1e-12 * mean**2 else 0.0
        return {"max": float(self.high), "mean": mean, "min": float(self.low), "rms": deviation}

    def finish(self) -> None:
        """Write the statistics and the labels into the header."""
        with mrcfile.open(self.path, header_only=True) as mrc:
            header = mrc.header.copy()
        result = self.statistics
        header.dmin, header.dmax = result["min"], result["max"]
        header.dmean, header.rms = result["mean"], result["rms"]
        # mrcfile's label is a time stamp, with which equal stacks would be different files
        texts = [text.encode("ascii", "backslashreplace") for text in self.labels]
        lines = [text[i : i + 80] for text in texts for i in range(0, len(text), 80)][:10]
        header.label[:], header.nlabl = b"", len(lines)
        header.label[: len(lines)] = lines
        # mrcfile would truncate the data that it has not read
        with open(self.path, "r+b") as stream:
            stream.write(header.tobytes())


def check_stack(path: str | os.PathLike[str], shape: Sequence[int]) -> None:
    """Raise unless a file is an MRC stack of float32 images of this shape.

    Parameters
    ----------
    path : path
        The file.
    shape : sequence of int
        Images, rows and columns.


    Raises
    ------
    TomopipeError
        If they are not.
    """
    expected_bytes = stack_bytes(shape)
    with suppress(OSError), open(no_pipe(path), "rb") as stream:  # ten times as fast as mrcfile
        head, n_bytes = stream.read(HEADER_BYTES), os.fstat(stream.fileno()).st_size
        of_shape = struct.pack("<4i", *reversed(shape), 2)
        if (head[:16], head[208:214], n_bytes) == (of_shape, b"MAP DD", expected_bytes):
            return
    try:
        with mrcfile.open(no_pipe(path), header_only=True, permissive=False) as mrc:
            header = mrc.header
            results = [int(header.nz), int(header.ny), int(header.nx)]
            mode = int(header.mode)
    except (OSError, ValueError) as error:
        raise TomopipeError(
            f"{path}: not an MRC stack ({error}). Delete it and run again."
        ) from error
    n_bytes = os.path.getsize(path)
    if results != list(shape) or mode != 2 or n_bytes != expected_bytes:
        raise TomopipeError(
            f"{path}: expected images, rows, columns {list(shape)} in mode 2 and {expected_bytes} "
            f"bytes; found {results} in mode {mode} and {n_bytes} bytes. Delete it and run again."
        )


def labels_of(path: str | os.PathLike[str]) -> list[str]:
    """Return the ten labels of an MRC file; errors of mrcfile are passed on.

    Parameters
    ----------
    path : path
        The file, of which only the header is read.

    Returns
    -------
    list of str
        Ten texts, without blanks around.
    """
    with mrcfile.open(no_pipe(path), header_only=True) as mrc:
        return [label.decode("ascii", "replace").strip() for label in mrc.header.label]


def images_of(path: str | os.PathLike[str], shape: Sequence[int]) -> Iterator[NDArray[np.float32]]:
    """Yield the images (n_rows, n_cols) of a stack of `StackFile`; `shape` is that of the stack."""
    n_images, n_rows, n_cols = shape
    with open(no_pipe(path), "rb") as stream:
        stream.seek(HEADER_BYTES)
        for _ in range(n_images):
            yield np.fromfile(stream, "<f4", n_rows * n_cols).reshape(n_rows, n_cols)


def is_cut(path: str | os.PathLike[str]) -> bool:
    """Tell whether the size of a file differs from that of the float32 volume in its header."""
    return os.path.getsize(path) != stack_bytes(read_volume_size(path)[0])


def has_statistics(path: str | os.PathLike[str], statistics: Mapping[str, float]) -> bool:
    """Tell whether a file is a whole stack with these `StackFile.statistics` in its header."""
    try:
        with mrcfile.open(no_pipe(path), header_only=True) as mrc:
            header = mrc.header
            n_bytes = stack_bytes([int(header.nx), int(header.ny), int(header.nz)])
            in_header = {
                "max": header.dmax,
                "mean": header.dmean,
                "min": header.dmin,
                "rms": header.rms,
            }
    except (OSError, ValueError):
        return False
    expected = {name: np.float32(value) for name, value in statistics.items()}
    return in_header == expected and os.path.getsize(path) == n_bytes


def read_volume_size(path: str | os.PathLike[str]) -> tuple[tuple[int, int, int], float]:
    """Return the size (x, y, z) of an MRC volume and its voxel width (angstroms; 0: unknown).

    Raises TomopipeError if it is not an MRC file.
    """
    try:
        with mrcfile.open(no_pipe(path), header_only=True, permissive=False) as mrc:
            header = mrc.header
            return (int(header.nx), int(header.ny), int(header.nz)), float(mrc.voxel_size.x)
    except (OSError, ValueError) as error:
        raise TomopipeError(f"{path}: not an MRC volume ({error})") from error
