"""Functions for NumPy and CuPy arrays alike: their module, transforms and filters.

The device is chosen in `tomopipe.recon.device`, the only import of CuPy.
"""

import functools
import importlib
import math
import weakref
from collections import defaultdict
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

PAGE_BYTES = 4096  # of memory, and of a file
NORMAL_PER_MAD = 1.4826
"""Standard deviation of normal noise, over its median absolute deviation."""


def module_of(array: Any) -> ModuleType:
    """Return the array module that an array belongs to: `numpy` or `cupy`."""
    return importlib.import_module(type(array).__module__.partition(".")[0])


def fft_of(xp: ModuleType) -> ModuleType:
    """Return the module with `rfft` and `next_fast_len` that keep single precision."""
    return importlib.import_module("scipy.fft" if xp is np else "cupyx.scipy.fft")


def ndimage_of(xp: ModuleType) -> ModuleType:
    """Return the module with `median_filter` and `uniform_filter1d`, for `module_of(array)`."""
    return importlib.import_module("scipy.ndimage" if xp is np else "cupyx.scipy.ndimage")


def sparse_of(xp: ModuleType) -> ModuleType:
    """Return the module with `csr_matrix`."""
    return importlib.import_module("scipy.sparse" if xp is np else "cupyx.scipy.sparse")


def on_host(array: Any) -> NDArray[Any]:
    """Copy an array to host memory if it is not there already."""
    return np.asarray(array.get() if hasattr(array, "get") else array)


def once(xp: ModuleType, make: Callable[..., tuple[Any, ...]], *args: Any) -> tuple[Any, ...]:
    """Return the host arrays of make(*args) as arrays of a module.

    They are copied to a GPU once and cached, as the host waits for such copies; `forget_copies`
    frees them.
    """
    if xp is np:
        return make(*args)
    return _copied(xp, xp.cuda.runtime.getDevice(), make, args)


@functools.lru_cache(maxsize=32)
def _copied(xp: ModuleType, device: int, make: Any, args: Any) -> tuple[Any, ...]:
    return tuple(map(xp.asarray, make(*args)))


forget_copies = _copied.cache_clear


def some(mask: Any) -> bool:
    """Tell whether a mask may have true elements, without waiting for a GPU."""
    return module_of(mask) is not np or bool(mask.any())


def percentile(values: NDArray[Any], percent: float, axis: int | None = None) -> Any:
    """As `numpy.percentile` of finite values, in a fifth of the time: partitioned at one value."""
    rows = values.reshape(-1) if axis is None else np.moveaxis(values, axis, -1)
    at = (rows.shape[-1] - 1) * percent / 100
    low, high = math.floor(at), math.ceil(at)
    rows = np.array(rows, order="C")
    rows.partition(low)
    share = at - low
    return (1 - share) * rows[..., low] + share * rows[..., high:].min(axis=-1)


def fade(n: int, xp: ModuleType = np) -> Any:
    """Return weights for n samples beyond an edge: a quarter of a cosine, both ends excluded."""
    return xp.cos(np.pi / 2 * (xp.arange(1, n + 1) / (n + 1)))


def ellipse(n: int, edge_px: float, edge_slope_per_px: float, xp: ModuleType = np) -> Any:
    """Return the shares of an edge value in n samples, one pixel apart, beyond an edge.

    The model is a uniform disk, cut off at `edge_px` from its centre, where its line integral loses
    the share `edge_slope_per_px`, above 0, of its edge value per pixel.
    """
    out_px = xp.arange(1, n + 1)
    return xp.sqrt(xp.maximum(1 - (2 * out_px + out_px**2 / edge_px) * edge_slope_per_px, 0))


def evenly_spread(n: int, n_most: int) -> NDArray[np.intp]:
    """Return at most `n_most` of n numbers, evenly spread, ends included."""
    return np.unique(np.linspace(0, n - 1, min(n, n_most)).round().astype(np.intp))


def theil_sen(x: ArrayLike, y: ArrayLike, least: float = 0.0) -> tuple[float, float] | None:
    """Return the median slope of all pairs at least `least` apart in x, and an intercept.

    As scipy.stats.theilslopes, which takes 0.6 s to import; None if there are no such pairs.
    """
    x, y = np.asarray(x), np.asarray(y, dtype=float)
    first, second = np.triu_indices(len(x), 1)
    run, rise = x[second] - x[first], y[second] - y[first]
    apart = (np.abs(run) >= least) & (run != 0)
    if not apart.any():
        return None
    slope = float(np.median(rise[apart] / run[apart]))
    return slope, float(np.median(y) - slope * np.median(x))


def aligned(n_bytes: int) -> NDArray[np.uint8]:
    """Return uninitialised memory that begins on a page, for direct file access."""
    memory = np.empty(n_bytes + PAGE_BYTES, np.uint8)
    first = -memory.ctypes.data % PAGE_BYTES
    return memory[first : first + n_bytes]


class Reused:
    """Host memory that is reused for arrays of the same kind.

    The system clears fresh pages, which takes a tenth of a second per GB or more. The memory of an
    array from `empty` is reused once neither it nor a view of it exists.
    """

    def __init__(self) -> None:
        self._free: defaultdict[str, list[memoryview]] = defaultdict(list)

    def empty(self, kind: str, shape: tuple[int, ...], dtype: Any = np.float32) -> NDArray[Any]:
        """Return an array, in free memory of the same kind if there is some."""
        n = math.prod(shape)
        n_bytes = n * np.dtype(dtype).itemsize
        try:
            memory = self._free[kind].pop()
        except IndexError:
            memory = memoryview(b"")
        if len(memory) < n_bytes:
            memory = aligned(n_bytes).data
        array = np.frombuffer(memory, dtype, n)  # the base of all views
        weakref.finalize(array, self._free[kind].append, memory).atexit = False
        return array.reshape(shape)
