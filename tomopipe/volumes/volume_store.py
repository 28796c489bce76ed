"""What the formats of a volume have in common: what they are given, and what they give back."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tomopipe.volumes.encoding import Encoding

MID_PLANES = ("mid_xy", "mid_xz", "mid_yz")
COMPRESSIONS = {
    "h5": ("none", "gzip", "lz4", "zstd", "bitshuffle"),
    "tiff": ("none", "gzip"),
    "zarr": ("none", "gzip", "lz4", "zstd", "bitshuffle"),
}
FORMATS = tuple(COMPRESSIONS)

Slices = NDArray[np.float32]


class Origin(NamedTuple):
    """Where a cropped volume begins.

    Attributes
    ----------
    number : int
        In the name of the first TIFF.
    voxel : tuple of float
        Centre of the first voxel (z, y, x) from that of the whole volume, in voxels; OME-Zarr
        states it.
    """

    number: int = 0
    voxel: tuple[float, float, float] = (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Layout:
    """What a volume is to hold.

    Attributes
    ----------
    name : str
        File name of the volume.
    shape : tuple of int
        (n_rows, n_y, n_x).
    encoding : Encoding
        Number type and scaling.
    compression : str
        One of `COMPRESSIONS` of the format.
    attributes, provenance : dict
        About the values; how the volume was made.
    origin : Origin
        Where a cropped volume begins.
    """

    name: str
    shape: tuple[int, int, int]
    encoding: Encoding = field(default_factory=Encoding)
    compression: str = "none"
    attributes: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    origin: Origin = Origin()

    @property
    def plane_shapes(self) -> dict[str, tuple[int, int]]:
        """Shapes of the three mid planes."""
        n_rows, n_y, n_x = self.shape
        return {"mid_xy": (n_y, n_x), "mid_xz": (n_rows, n_x), "mid_yz": (n_rows, n_y)}

    @property
    def scaling(self) -> dict[str, float]:
        """Offset and scale, as they are recorded."""
        return {"offset": self.encoding.offset, "scale": self.encoding.scale}


@dataclass(frozen=True)
class Store:
    """An open volume of some format.

    Attributes
    ----------
    put : callable
        put(first, slices): stores slices from row `first` on, encoding those of float32.
    planes : mapping
        Arrays that take rows of the mid planes, float32: planes["mid_xz"][first:last] = rows.
    finish : callable
        finish(summary): stores what is known only at the end.
    preview : callable
        preview(row, slice, sums): averages a slice, given once, into the preview; sums of its
        `SUMMED` by `SUMMED` pixels, if they are known.
    """

    put: Callable[[int, NDArray[Any]], None]
    planes: Mapping[str, Any]
    finish: Callable[[dict[str, Any]], None]
    preview: Callable[[int, NDArray[Any], Any], None] = lambda row, image, sums: None
