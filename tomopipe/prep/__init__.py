"""Corrections of projections: arrays in, arrays out.

The same lines for NumPy and CuPy, but for `kernels_of`.
"""

import importlib
from types import ModuleType
from typing import Any

import numpy as np


def kernels_of(xp: ModuleType) -> ModuleType:
    """Return the module of compiled code for arrays of a module; loading it takes a second."""
    name = "host_kernels" if xp is np else "device_kernels"
    return importlib.import_module(f"tomopipe.prep.{name}")


def block_average(images: Any, rows: int, cols: int) -> Any:
    """Average blocks of `rows` by `cols` pixels of (n, n_rows, n_cols); incomplete ones go."""
    n, n_rows, n_cols = images.shape
    n_rows, n_cols = n_rows // rows, n_cols // cols
    whole = images[:, : n_rows * rows, : n_cols * cols]
    if rows == cols == 1:
        return whole
    blocks = whole.reshape(n, n_rows, rows, n_cols, cols)
    return blocks.mean(axis=(2, 4), dtype=np.float32)
