"""Slices as they are stored, with statistics of their values before rounding.

Where a GPU computes, both are made there, so that what is downloaded is what is written.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from tomopipe.arrays import module_of
from tomopipe.volumes.encoding import Encoding

SUMMED = 4  # pixels along each side of the blocks of `sums`


@dataclass(frozen=True, eq=False)
class SliceStatistics:
    """Neighbouring slices and statistics of their values, on the host or on a GPU."""

    # array (n, n_y, n_x): of the number type that is stored, or float32 values that are not encoded
    # yet
    slices: Any
    # array of float32 (2,): smallest and largest value; not finite if one of them is not
    extremes: Any
    clipped: Any  # array of int (n,): values of each slice that are beyond what can be stored
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
        """All arrays, to be downloaded: `SliceStatistics(*arrays)` is the same again."""
        parts = [self.slices, self.extremes, self.clipped, self.mid_xz, self.mid_yz]
        return parts if self.mid_xy is None else [*parts, self.mid_xy]


def with_statistics(
    slices: Any, encoding: Encoding, middle: int, *, encode: bool = False
) -> SliceStatistics:
    """Take statistics of slices, and encode them on demand; on a GPU nothing is waited for.

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
