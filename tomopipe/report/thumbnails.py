"""Small pictures: the three mid planes of a volume, and the sweep around a COR."""

import base64
import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tomopipe.report.strips import Sweep, grey_window, in_grey

SIZE_PX = 200
#: Bytes of one picture; three of them and a strip, as base64, with the text of a scan stay under 25
#: KB.
MAX_BYTES = 3500
STRIP_BYTES = 3500
#: Side and bytes of a plane of a small campaign, which can be enlarged.
LARGE = (480, 24_000)
SMALL = (SIZE_PX, MAX_BYTES)
_URI = "data:image/webp;base64,"
_QUALITIES = (80, 65, 50, 35, 20)


@dataclass(frozen=True)
class Picture:
    """One mid plane: `src` is a data URI, or a path relative to the page."""

    plane: str
    src: str
    width: int
    height: int
    shape: tuple[int, int]
    low: float
    high: float


def to_grey(plane: NDArray[np.floating], *, max_px: int = SIZE_PX) -> NDArray[np.uint8]:
    """Shrink a plane, (n_y, n_x), by averaging, and map its grey window to 0..255.

    Non-finite values become black. `max_px` is the longest side of the picture.
    """
    from PIL import Image

    values = np.asarray(plane, dtype=np.float32)
    low, _ = grey_window(values)
    values = np.where(np.isfinite(values), values, np.float32(low))
    scale = min(1.0, max_px / max(values.shape))
    n_y, n_x = (max(1, round(n * scale)) for n in values.shape)
    small = np.asarray(Image.fromarray(values).resize((n_x, n_y), Image.Resampling.BOX))
    # The window is that of the small picture: averaging reduces noise, and so contrast.
    return in_grey(small, *grey_window(small))


def encode(grey: NDArray[np.uint8], *, max_bytes: int = MAX_BYTES) -> bytes:
    """Encode a picture as WebP, at the best quality within `max_bytes`.

    Noise hardly compresses: if the lowest quality is too large, the picture is halved.
    """
    from PIL import Image

    image = Image.fromarray(grey)
    while True:
        for quality in _QUALITIES:
            stream = io.BytesIO()
            image.save(stream, "WEBP", quality=quality, method=4)
            if stream.tell() <= max_bytes or max(image.size) <= 32:
                return stream.getvalue()
        image = image.reduce((min(2, image.width), min(2, image.height)))


def as_uri(_name: str, data: bytes) -> str:
    """Return a picture as a data URI."""
    return _URI + base64.b64encode(data).decode("ascii")


Source = Callable[[str, bytes], str]
"""Gives a picture, its name and bytes, the address that the page has for it."""


def make_picture(
    name: str,
    plane: NDArray[np.floating],
    size: tuple[int, int] = SMALL,
    source: Source = as_uri,
) -> Picture:
    """Make the picture of a plane, (n_y, n_x); `size`: its longest side (pixels), most bytes."""
    values = np.asarray(plane)
    if values.ndim != 2 or not values.size:
        raise ValueError(f"plane {name}: expected 2 dimensions, got shape {values.shape}")
    max_px, max_bytes = size
    grey = to_grey(values, max_px=max_px)
    low, high = grey_window(values)
    src = source(name, encode(grey, max_bytes=max_bytes))
    shape = (int(values.shape[0]), int(values.shape[1]))
    return Picture(name, src, grey.shape[1], grey.shape[0], shape, low, high)


@dataclass(frozen=True)
class Strip:
    """Crops of try slices side by side in one picture; `chosen` is the index of the chosen COR."""

    picture: Picture
    cor_px: tuple[float, ...]
    chosen: int


def make_strip(sweep: Sweep, source: Source = as_uri) -> Strip:
    """Make the picture of a sweep around a COR."""
    side_by_side = np.hstack(sweep.images)
    src = source("sweep", encode(side_by_side, max_bytes=STRIP_BYTES))
    n_y, n_x = side_by_side.shape
    picture = Picture("sweep", src, n_x, n_y, (n_y, n_x), 0.0, 255.0)
    return Strip(picture, sweep.cor_px, sweep.chosen)


def picture_stem(scan: str) -> str:
    """Make a valid file name from any scan's name."""
    return hashlib.sha256(scan.encode("utf-8", "surrogateescape")).hexdigest()[:16]
