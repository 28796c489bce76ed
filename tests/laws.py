"""Laws that hold for any data; each raises where it is broken. Functions take and return arrays.

`tests/unit/test_laws.py` asks them of the engines, on the CPU and the GPU, and of all corrections.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

Function = Callable[[Any], Any]


def is_linear(function: Function, first: np.ndarray, second: np.ndarray, share: float) -> None:
    """f(2 a - 3 b) = 2 f(a) - 3 f(b), to a share of the range."""
    parts = 2 * function(first) - 3 * function(second)
    _alike(function((2 * first - 3 * second).astype(first.dtype)), parts, share)


def is_adjoint(
    function: Function, adjoint: Function, value: np.ndarray, other: np.ndarray, share: float
) -> None:
    """<f(x), y> = <x, f*(y)>, to a share of the largest that it can be."""
    there, back = function(value), adjoint(other)
    products = np.vdot(there.astype(float), other), np.vdot(value.astype(float), back)
    largest = np.linalg.norm(there) * np.linalg.norm(other)
    assert abs(products[0] - products[1]) <= share * largest


def moves_with_its_axis(
    reconstruct: Callable[[np.ndarray, float], np.ndarray],
    sinograms: np.ndarray,
    cor_px: float,
    share: float,
) -> None:
    """Data and COR one column further right give the same slices; the data are 0 at both edges."""
    assert not sinograms[..., [0, -1]].any()
    moved = np.roll(sinograms, 1, axis=-1)
    _alike(reconstruct(moved, cor_px + 1), reconstruct(sinograms, cor_px), share)


def takes_rows_apart(function: Function, rows: np.ndarray, share: float) -> None:
    """The first axis together and one by one give the same."""
    _alike(np.concatenate([function(row[None]) for row in rows]), function(rows), share)


def does_not_know_the_exposure(
    correct: Callable[..., np.ndarray], raw: np.ndarray, flat: np.ndarray, dark: np.ndarray
) -> None:
    """Twice the counts above the dark, in flats and projections, is the same sample."""
    longer = [dark + 2 * (counts - dark) for counts in (raw, flat)]
    _alike(correct(*longer, dark), correct(raw, flat, dark), 1e-4)


def _alike(values: np.ndarray, expected: np.ndarray, share: float) -> None:
    assert values.shape == expected.shape
    assert np.abs(values - expected).max() <= share * np.ptp(expected)
