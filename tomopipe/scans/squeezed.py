"""HDF5 datasets of more than three dimensions, read without axes of length 1.

Detectors with one threshold or one module write images x 1 x rows x columns.
"""

from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from tomopipe.scans.datasets import kept_axes


class Squeezed(h5py.Dataset):
    """A dataset of which only three axes show; `stored` is as it lies in the file."""

    def __init__(self, bind: h5py.h5d.DatasetID) -> None:
        super().__init__(bind)
        self.stored = h5py.Dataset(bind)
        self.axes = kept_axes(self.stored.shape)

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the axes that show."""
        return tuple(self.stored.shape[axis] for axis in self.axes)

    @property
    def ndim(self) -> int:
        """Number of axes that show."""
        return len(self.axes)

    @property
    def chunks(self) -> tuple[int, ...] | None:
        """Chunks along them; None: contiguous."""
        chunks = self.stored.chunks
        return chunks and tuple(chunks[axis] for axis in self.axes)

    def __getitem__(self, selection: Any, new_dtype: Any = None) -> Any:
        """Read a part."""
        return self.stored[self._stored_selection(selection)]

    def read_direct(self, dest: NDArray, source_sel: Any = None, dest_sel: Any = None) -> None:
        """Read a part into an array."""
        self.stored.read_direct(dest, self._stored_selection(source_sel), dest_sel)

    def _stored_selection(self, selection: Any) -> tuple[Any, ...]:
        """Return a selection with 0 for the axes that do not show."""
        given = np.s_[:,] if selection is None or selection == () else selection
        parts = dict(zip(self.axes, given if isinstance(given, tuple) else (given,), strict=False))
        every = [slice(None) if axis in self.axes else 0 for axis in range(self.stored.ndim)]
        return tuple(parts.get(axis, every[axis]) for axis in range(self.stored.ndim))
