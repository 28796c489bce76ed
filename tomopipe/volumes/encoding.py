"""How values are stored: number types, and the scaling of the whole-number ones.

value = offset + scale * stored, whatever the type; offset 0 and scale 1 for floating point.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomopipe.arrays import module_of
from tomopipe.errors import TomopipeError

DTYPES = ("float32", "float16", "uint16", "uint8")
# The range of whole numbers: these quantiles of the samples, and this share of their span more on
# each side. 65536 steps leave room for what the samples did not show, 256 do not.
QUANTILES = (0.0005, 0.9995)
MARGINS = {"uint16": 0.5, "uint8": 0.05}
_SAMPLES = 2**19  # at most, of each slice


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
        """Whether whole numbers are stored."""
        return np.dtype(self.dtype).kind == "u"

    def encode(self, values: Any) -> Any:
        """Turn finite values into stored numbers; what is beyond the limits takes the limit.

        Values are float32 of NumPy or CuPy: the same operations, each correctly rounded, hence the
        same bits. Those of the stored type are encoded already, and returned as they are.
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
        """Tell which values are more than half a step beyond the limits."""
        low, high = self.limits
        half = self.scale / 2 if self.is_whole else 0.0
        return (values < low - half) | (values > high + half)


def encoding_of(dtype: str, value_range: Sequence[float] | None = None) -> Encoding:
    """Return the encoding of a number type, one of `DTYPES`.

    `value_range` are the values of the smallest and of the largest whole number; not needed for
    floating point. A ValueError if the type is unknown, or whole numbers have no range.
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
    """Choose the range (low, high) of whole numbers of a type from sample slices of one shape.

    The 0.05 % and 99.95 % quantiles of the values within the largest circle, widened on each side
    by `MARGINS` of their span, and rounded outwards to three digits of it: rounding errors of
    another block size then change nothing. Slices are taken one at a time, every k-th pixel of
    them. A TomopipeError if they hold a single value.
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
