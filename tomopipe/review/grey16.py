"""Pictures for the review page: values of 8 or 16 bits; the page sets the grey window."""

import io
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

USUAL_PERCENT = (0.1, 99.9)
_WIDER = 2  # a window may extend so many times the usual one on each side
_SAMPLES = 200_000  # pixels from which the usual window is taken
_MOST = 65535


@dataclass(frozen=True, eq=False)
class Grey:
    """A picture whose grey window is set in the browser."""

    values: NDArray[Any]  # (n_y, n_x): 0 stands for `low`, the largest number for `high`
    low: float
    high: float
    usual: tuple[float, float]  # initial window
    about: Mapping[str, Any] = field(default_factory=dict)  # further facts, as JSON

    @property
    def nbytes(self) -> int:
        """Memory of its pixels."""
        return int(self.values.nbytes)

    def facts(self) -> dict[str, Any]:
        """Describe the pixels."""
        n_y, n_x = self.values.shape
        bits = 8 * self.values.itemsize
        result = {"n_y": n_y, "n_x": n_x, "bits": bits, "low": self.low, "high": self.high}
        return {**result, "usual": self.usual, **self.about}


def grey16(image: NDArray[Any], usual: Sequence[float] | None) -> Grey:
    """Return an image in 16 bits, wider than `usual`; without: all but the outer thousandths."""
    sample = image.reshape(-1)[:: max(1, image.size // _SAMPLES)]
    finite = sample[np.isfinite(sample)]
    inner = np.percentile(finite, USUAL_PERCENT) if finite.size else (0.0, 0.0)
    first, last = (float(value) for value in usual or inner)
    if not last > first:
        last = first + 1.0
    # a few values far outside, as of a gold particle, must not reduce the resolution of the others
    span = _WIDER * (max(last, float(inner[1])) - min(first, float(inner[0])))
    low = min(first, max(float(np.nanmin(image)), float(inner[0]) - span))
    high = max(last, min(float(np.nanmax(image)), float(inner[1]) + span))
    return Grey(
        scaled16(np.nan_to_num(image, nan=low, copy=False), low, high), low, high, (first, last)
    )


def scaled16(image: NDArray[Any], low: float, high: float) -> NDArray[np.uint16]:
    """Scale an image to 16 bits, `low` to 0 and `high` to 65535."""
    scaled = np.subtract(image, np.float32(low), dtype=np.float32)
    scaled *= np.float32(_MOST / (high - low))
    scaled += np.float32(0.5)
    return np.clip(scaled, 0, _MOST, out=scaled).astype(np.uint16)


def png(image: NDArray[np.uint8]) -> bytes:
    """Encode quickly rather than small: the page is local."""
    from PIL import Image

    stream = io.BytesIO()
    # noise has no repeats: run-length coding alone is faster and smaller here
    Image.fromarray(image).save(stream, "PNG", compress_level=1, compress_type=zlib.Z_RLE)
    return stream.getvalue()


def part_around(
    shape: tuple[int, ...], middle: tuple[int, int], side_px: int
) -> tuple[slice, slice]:
    """Return a square crop of a picture around a position, entirely within the picture."""
    starts = [
        min(max(position - side_px // 2, 0), max(n - side_px, 0))
        for position, n in zip(middle, shape, strict=True)
    ]
    top, left = starts
    return slice(top, min(top + side_px, shape[0])), slice(left, min(left + side_px, shape[1]))


def in_range(
    picture: Grey, part: tuple[slice, slice], low: float, high: float
) -> NDArray[np.uint16]:
    """Return a crop of a picture in the grey range of another one."""
    values = picture.low + picture.values[part] * np.float32((picture.high - picture.low) / _MOST)
    return scaled16(values, low, high)
