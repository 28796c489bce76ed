"""Encoding of values: number types, and the scaling of integer types.

value = offset + scale * stored for every type; offset 0 and scale 1 for floating point. Slices come
with statistics of their values before rounding; a GPU computes both, so that the download is what
is written.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomopipe.arrays import module_of
from tomopipe.errors import TomopipeError

DTYPES = ("float32", "float16", "uint16", "uint8")
# Range of integer types: these quantiles of the samples, widened by this share of their span on
# each side. 65536 steps leave room for values not in the samples, 256 do not.
QUANTILES = (0.0005, 0.9995)
MARGINS = {"uint16": 0.5, "uint8": 0.05}
SUMMED = 4  # pixels along each side of the blocks of `sums`
_SAMPLES = 2**19  # largest number in each slice


@dataclass(frozen=True)
class Encoding:
    """A number type and its scaling; value = offset + scale * stored."""

    dtype: str = "float32"
    offset: float = 0.0
    scale: float = 1.0

    @property
    def limits(self) -> tuple[float, float]:
        """Smallest and largest value that can be stored."""
        if self.is_whole:
            return self.offset, self.offset + self.scale * float(np.iinfo(self.dtype).max)
        largest = float(np.finfo(self.dtype).max)
        return -largest, largest

    @property
    def is_whole(self) -> bool:
        """Whether the type is an integer type."""
        return np.dtype(self.dtype).kind == "u"

    def encode(self, values: Any) -> Any:
        """Turn finite values into stored numbers; values beyond the limits are clipped.

        Values are float32, NumPy or CuPy: the same correctly rounded operations give the same bits.
        Values of the stored type are encoded already, and returned unchanged.
        """
        if values.dtype == self.dtype:
            return values
        xp = module_of(values)
        low, high = (np.float32(limit) for limit in self.limits)
        clipped = xp.clip(values, low, high)
        if self.is_whole:
            clipped -= low
            clipped *= np.float32(1 / self.scale)
            xp.rint(clipped, out=clipped)
            # the last bit of float32 may reach past the largest number
            xp.minimum(clipped, np.float32(np.iinfo(self.dtype).max), out=clipped)
        return clipped.astype(self.dtype)

    def decode(self, stored: NDArray[Any]) -> NDArray[np.float32]:
        """Turn stored numbers into values."""
        if not self.is_whole:
            return np.asarray(stored, np.float32)
        return (self.offset + self.scale * stored.astype(np.float64)).astype(np.float32)

    def beyond(self, values: Any) -> Any:
        """Return which values are more than half a step beyond the limits."""
        low, high = self.limits
        half = self.scale / 2 if self.is_whole else 0.0
        return (values < low - half) | (values > high + half)


def encoding_of(dtype: str, value_range: Sequence[float] | None = None) -> Encoding:
    """Return the encoding of a number type.

    Parameters
    ----------
    dtype : str
        One of `DTYPES`.
    value_range : (float, float), optional
        Values of the smallest and of the largest integer; not needed for floating point.

    Returns
    -------
    Encoding
        Type, offset and scale of the stored numbers.

    Raises
    ------
    ValueError
        If the type is unknown, or an integer type has no range.
    """
    if dtype not in DTYPES:
        raise ValueError(f"dtype: expected one of {', '.join(DTYPES)}; got {dtype!r}")
    if np.dtype(dtype).kind != "u":
        return Encoding(dtype)
    if value_range is None or not -np.inf < value_range[0] < value_range[1] < np.inf:
        raise ValueError(f"value_range: expected low < high for {dtype}; got {value_range}")
    low, high = float(value_range[0]), float(value_range[1])
    return Encoding(dtype, low, (high - low) / float(np.iinfo(dtype).max))


def robust_range(slices: Iterable[NDArray[np.float32]], dtype: str) -> tuple[float, float]:
    """Choose the range (low, high) of an integer type from sample slices of equal shape.

    The 0.05 % and 99.95 % quantiles of the values within the largest circle, widened on each side
    by `MARGINS` of their span, and rounded outwards to three digits of it, so that rounding errors
    of another block size change nothing. Every k-th pixel of a slice is used.

    Parameters
    ----------
    slices : iterable of ndarray of float32, shape (n_y, n_x)
        Sample slices.
    dtype : str
        "uint16" or "uint8".

    Returns
    -------
    (float, float)
        Values of the smallest and of the largest integer.

    Raises
    ------
    TomopipeError
        If the slices hold a single value.
    """
    images = list(map(_inside_circle, slices))
    values = np.concatenate(images)
    low, high = (float(value) for value in np.quantile(values, QUANTILES, method="nearest"))
    if low == high:
        low, high = float(values.min()), float(values.max())
    if not low < high:
        raise TomopipeError(
            f"full_recon.value_range: auto found the single value {low:g} in {len(images)} sample "
            "slices. Set [low, high]."
        )
    return widened(low, high, dtype)


def widened(low: float, high: float, dtype: str) -> tuple[float, float]:
    """Return the range of an integer type around quantiles: wider by `MARGINS`, and rounded."""
    margin = MARGINS[dtype] * (high - low)
    step = 10.0 ** np.floor(np.log10(high - low) - 2)
    low, high = np.floor((low - margin) / step) * step, np.ceil((high + margin) / step) * step
    return float(f"{low:.12g}"), float(f"{high:.12g}")  # 0.013, not 0.013000000000000001


def _inside_circle(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return every k-th pixel within the largest circle (ellipse)."""
    n_y, n_x = image.shape
    y = (2 * np.arange(n_y) + 1 - n_y) / n_y
    x = (2 * np.arange(n_x) + 1 - n_x) / n_x
    values = image[y[:, None] ** 2 + x**2 <= 1]
    return values[:: max(1, -(-len(values) // _SAMPLES))].copy()


@dataclass(frozen=True, eq=False)
class SliceStatistics:
    """Neighbouring slices and statistics of their values, on the host or on a GPU."""

    # array (n, n_y, n_x): of the stored number type, or float32 values that are not encoded yet
    slices: Any
    # array of float32 (2,): smallest and largest value; not finite if one of them is not
    extremes: Any
    clipped: Any  # array of int (n,): number of clipped values in each slice
    # array of float32 (n, n_x) and (n, n_y): middle row and column of each slice
    mid_xz: Any
    mid_yz: Any
    # array of float32 (n_y, n_x), or None: the volume's middle slice, if it is one of these
    mid_xy: Any = None
    # array of float32 (n, n_y / SUMMED, n_x / SUMMED), or None: sums of blocks of pixels, for the
    # preview, of slices on the host that are not encoded
    sums: Any = None

    @property
    def arrays(self) -> list[Any]:
        """All arrays, to be downloaded; `SliceStatistics(*arrays)` restores the object."""
        parts = [self.slices, self.extremes, self.clipped, self.mid_xz, self.mid_yz]
        return parts if self.mid_xy is None else [*parts, self.mid_xy]


def with_statistics(
    slices: Any, encoding: Encoding, middle: int, *, encode: bool = False
) -> SliceStatistics:
    """Compute statistics of slices, and encode them on demand, without waiting for a GPU.

    The slices (n, n_y, n_x) are float32 of NumPy or CuPy. Number `middle` is the volume's middle
    slice; below 0 or at least n: none of them. With `encode` they are encoded slice by slice.
    """
    xp = module_of(slices)
    n, n_y, n_x = slices.shape
    stored, sums = slices, None
    if encode and encoding.dtype != "float32":
        stored = xp.empty(slices.shape, encoding.dtype)
        for image, out in zip(slices, stored, strict=True):
            out[...] = encoding.encode(image)
    if xp is np and slices.dtype == np.float32 and not encode:
        from tomopipe.volumes.slice_kernels import extremes_and_sums

        extremes, sums = extremes_and_sums(slices, SUMMED)
    else:
        extremes = xp.stack([slices.min(), slices.max()])
    return SliceStatistics(
        slices=stored,
        extremes=extremes,
        clipped=xp.stack([xp.count_nonzero(encoding.beyond(image)) for image in slices])
        if encoding.dtype != "float32"
        else xp.zeros(n, int),
        mid_xz=slices[:, n_y // 2].copy(),
        mid_yz=slices[:, :, n_x // 2].copy(),
        mid_xy=slices[middle].copy() if 0 <= middle < n else None,
        sums=sums,
    )
