"""Line integrals of whole numbers in one pass: flat, dark and logarithm."""

from functools import partial
from typing import Any

import numpy as np

from tomopipe.recon.jit import kernel

# log(1 + x) = x - x^2 / 2 + x^3 times this polynomial, highest power first, for 1 + x from
# 1 / sqrt(2) to sqrt(2): its largest relative error there, 6e-9, is the least of this degree
_POLYNOMIAL = (
    -0.07634507, 0.12761579, -0.13160180, 0.14201757, -0.16623357, 0.20001227, -0.25000820,
    0.33333331,
)  # fmt: skip
_ROOT = 0x3F3504F3  # bits of 1 / sqrt(2)
_LOG_2 = 0.6931471805599453


@partial(kernel, fastmath={"contract"})
def _minus_log(value: Any) -> Any:
    """Return -log of a float32 that is finite and not denormal, to 1e-7 of it."""
    bits = np.int32(np.float32(value).view(np.int32) - np.int32(_ROOT))
    exponent = np.float32(np.int32(bits >> np.int32(23)))
    mantissa = np.int32(np.int32(bits & np.int32(0x7FFFFF)) + np.int32(_ROOT))
    x = np.int32(mantissa).view(np.float32) - np.float32(1)
    rest = np.float32(0)
    for coefficient in _POLYNOMIAL:
        rest = rest * x + np.float32(coefficient)
    return -(exponent * np.float32(_LOG_2) + ((rest * x - np.float32(0.5)) * (x * x) + x))


@partial(kernel, fastmath={"contract"})
def to_line_integrals(
    counts: Any, start: int, pitch: int, dark: Any, gain: Any, least: float, out: Any
) -> None:
    """Set `out` to -log of (counts - dark) * gain, of at least `least`.

    `out` is (n, n_rows, n_cols), `dark` and `gain` (n_rows, n_cols). `counts` is flat, as its loop
    would not be vectorised otherwise; frame i begins at `start + i * pitch`.
    """
    n_cols = out.shape[2]
    for i in range(out.shape[0]):
        for row in range(out.shape[1]):
            first = start + i * pitch + row * n_cols
            line, target = counts[first : first + n_cols], out[i, row]
            for col in range(n_cols):
                share = (np.float32(line[col]) - dark[row, col]) * gain[row, col]
                target[col] = _minus_log(max(share, np.float32(least)))
