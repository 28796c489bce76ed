"""Sinograms that are computed while they are reconstructed."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Rows:
    """Sinograms computed on demand, some projections at a time; on the host."""

    shape: tuple[int, int, int]  # (n_slices, n_angles, n_cols)
    # of(angles) makes the rows of some projections, float32 of shape (n, n_slices, n_cols),
    # contiguous; called by several threads
    of: Callable[[NDArray[np.intp]], NDArray[np.float32]]
    ndim = 3

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, which: slice) -> "Rows":
        n_slices = len(range(*which.indices(len(self))))
        if n_slices == len(self):
            return self

        def of(angles: NDArray[np.intp]) -> NDArray[np.float32]:
            return np.ascontiguousarray(self.of(angles)[:, which])

        return Rows((n_slices, *self.shape[1:]), of)
