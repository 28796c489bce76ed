"""Writing and reading volumes in every format, against writing the bare bytes."""

from __future__ import annotations

import importlib
import importlib.util
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tomopipe.volume_formats import COMPRESSIONS
from tomopipe.volumes.volume import new_volume
from tomopipe_lab.bench.measure import Interval, median_interval, rotated

BARE = "bare bytes"
_BLOCK = 16  # slices per call, as in full_recon


@dataclass(frozen=True)
class Result:
    """How one format did.

    Attributes
    ----------
    name : str
        Format and compression.
    missing : str
        Why there are no numbers, or an empty string.
    write, read : Interval or None
        Megabytes of float32 values per second of wall-clock time.
    stored : float
        Bytes on disk per byte of values.
    """

    name: str
    missing: str = ""
    write: Interval | None = None
    read: Interval | None = None
    stored: float = float("nan")


def compare(
    folder: Path,
    shape: tuple[int, int, int],
    n_rounds: int,
    *,
    progress: Callable[[str], None] | None = None,
) -> list[Result]:
    """Write and read one volume in each format and compression.

    Parameters
    ----------
    folder : Path
        Where: the file system that is measured. Nothing is left there.
    shape : tuple of int
        (n_rows, n_y, n_x).
    n_rounds : int
        Rounds in which each format is written and read once, in rotating order.
    progress : callable, optional
        Told what is done.

    Returns
    -------
    list of Result
        The bare bytes first. Writing ends when the bytes are on the disk; reading finds them in
        the system's cache.
    """
    tell = progress or (lambda _: None)
    values = values_of(shape)
    names = [BARE, *(f"{kind} {how}" for kind, hows in COMPRESSIONS.items() for how in hows)]
    missing = {name: _missing(name) for name in names}
    usable = [name for name in names if not missing[name]]
    writing = {name: np.zeros(n_rounds) for name in usable}
    reading = {name: np.zeros(n_rounds) for name in usable}
    stored: dict[str, float] = {}
    for number in range(n_rounds):
        for name in rotated(usable, number):
            tell(f"{name}, round {number + 1} of {n_rounds}")
            with tempfile.TemporaryDirectory(prefix="tomopipe-bench-", dir=folder) as fresh:
                path = Path(fresh) / "volume"
                writing[name][number] = _seconds(lambda: write(name, values, path))  # noqa: B023
                reading[name][number] = _seconds(lambda: read_checked(name, values, path))  # noqa: B023
                stored[name] = sum(_sizes(path)) / values.nbytes
    mega = values.nbytes / 1e6
    return [
        Result(name, missing[name])
        if missing[name]
        else Result(
            name,
            write=median_interval(mega / writing[name]),
            read=median_interval(mega / reading[name]),
            stored=stored[name],
        )
        for name in names
    ]


def values_of(shape: tuple[int, int, int]) -> NDArray[np.float32]:
    """Return a volume that compresses like a real one: smooth, with noise."""
    n_rows, n_y, n_x = shape
    x, y = np.linspace(-3, 3, n_x), np.linspace(-3, 3, n_y)
    image = np.exp(-(x**2) - (y**2)[:, None]).astype(np.float32)
    rng = np.random.default_rng(0)
    return image + rng.normal(0, 0.01, (n_rows, n_y, n_x)).astype(np.float32)


def write(name: str, values: NDArray[np.float32], path: Path) -> None:
    """Write a volume as full_recon does, until it is on the disk.

    Parameters
    ----------
    name : str
        `BARE`, or format and compression.
    values : ndarray of float32, shape (n_rows, n_y, n_x)
        The volume.
    path : Path
        Where it goes.
    """
    if name == BARE:
        values.tofile(path)
    else:
        kind, compression = name.split()
        with new_volume(path, values.shape, output_format=kind, compression=compression) as put:
            for first in range(0, len(values), _BLOCK):
                put(first, values[first : first + _BLOCK])
    for file in _files(path):
        with file.open("rb") as stream:
            os.fsync(stream.fileno())


def read_checked(name: str, values: NDArray[np.float32], path: Path) -> None:
    """Read a volume and raise RuntimeError if it is not the one that was written."""
    if not np.array_equal(read(name, path, values.shape), values):
        raise RuntimeError(f"{name}: what was read from {path} is not what was written")


def read(name: str, path: Path, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Read all values of a volume.

    Parameters
    ----------
    name : str
        `BARE`, or format and compression.
    path : Path
        Where it is.
    shape : tuple of int
        Its shape, which bare bytes do not tell.

    Returns
    -------
    ndarray of float32
        The values.
    """
    kind = name.partition(" ")[0]
    if name == BARE:
        return np.fromfile(path, dtype=np.float32).reshape(shape)
    if kind == "tiff":
        tifffile = importlib.import_module("tifffile")
        return np.stack([tifffile.imread(file) for file in sorted(path.glob("*.tif*"))])
    if kind == "zarr":
        zarr = importlib.import_module("zarr")
        return np.asarray(zarr.open_array(path / "0", mode="r")[:])
    h5py, _ = importlib.import_module("h5py"), importlib.import_module("hdf5plugin")
    with h5py.File(path) as file:
        return np.asarray(file["exchange/data"][:])


def _missing(name: str) -> str:
    absent = name.startswith("zarr") and importlib.util.find_spec("zarr") is None
    return "not installed" if absent else ""


def _files(path: Path) -> list[Path]:
    return [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]


def _sizes(path: Path) -> list[int]:
    return [file.stat().st_size for file in _files(path)]


def _seconds(work: Callable[[], None]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
