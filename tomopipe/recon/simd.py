"""What kernels do with vectors of float32; defined in `tomopipe.recon.vectors`, which loads numba.

``load(array, i, (0,) * 16)`` reads 16 floats, whose arithmetic is that of vector registers.
"""

from typing import Any

from tomopipe.recon.jit import Intrinsic, kernel

_NAMES = "load", "store", "splat", "halves", "finite_or_zero", "prefetch", "transpose"
_named: Any = map(Intrinsic, _NAMES)
load, store, splat, halves, finite_or_zero, prefetch, transpose = _named


@kernel
def load_pair(array: Any, index: int, lanes: Any) -> Any:
    """Load a record: the vector from index on, and the one after it."""
    return load(array, index, lanes), load(array, index + len(lanes), lanes)


@kernel
def store_pair(array: Any, index: int, re: Any, im: Any, lanes: Any) -> None:
    """Store a record."""
    store(array, index, re)
    store(array, index + len(lanes), im)
