"""Rows of a scan with all corrections: a source for full_recon, of float32 values."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomopipe.prep.correct import Corrections
from tomopipe.stream.source import Source


def differ(raw: NDArray[Any]) -> bool:
    """Tell whether raw values, NaN apart, differ from each other."""
    return bool(np.fmin.reduce(raw, None) < np.fmax.reduce(raw, None))


class CorrectedSource:
    """Corrected rows: those asked for, made from them and the rows around them that they need."""

    def __init__(self, source: Source, corrections: Corrections, threads: int) -> None:
        self._source, self._corrections, self._threads = source, corrections, threads
        self.varies = False  # whether raw values differed from each other so far

    def read_rows(self, first: int, last: int) -> NDArray[np.float32]:
        """Read and correct detector rows, shape (n_angles, last - first, n_cols)."""
        raw: NDArray[Any] = self._source.read_rows(*self._corrections.rows_needed((first, last)))
        self.varies = self.varies or differ(raw)
        sinograms = self._corrections.sinograms(raw, (first, last), threads=self._threads)
        return np.asarray(sinograms.transpose(1, 0, 2))
