import numpy as np
import pytest

from tomopipe.arrays import Reused, percentile


def address(array):
    return array.__array_interface__["data"][0]


def test_memory_is_used_again_once_no_view_is_left():
    reused = Reused()
    first = reused.empty("slices", (4, 8), np.float32)
    view, place = first[1:, ::2], address(first)
    view[...] = 7
    del first
    assert address(reused.empty("slices", (4, 8), np.float32)) != place
    assert (view == 7).all()
    del view
    assert address(reused.empty("rows", (4, 8), np.float32)) != place  # of another kind
    smaller = reused.empty("slices", (3, 8), np.uint16)
    assert address(smaller) == place
    assert (smaller.shape, smaller.dtype) == ((3, 8), np.uint16)


def test_larger_arrays_get_memory_that_is_large_enough():
    reused = Reused()
    del (small := [reused.empty("rows", (2, 2))])[0]
    large = reused.empty("rows", (50, 50))
    large[...] = 1
    assert large.sum() == 2500
    assert not small


@pytest.mark.parametrize("shape", [(1, 3), (2, 5), (51, 4), (100, 3)])
@pytest.mark.parametrize("axis", [None, 0, 1])
def test_a_percentile_is_that_of_numpy(shape, axis):
    values = np.random.default_rng(5).normal(size=shape).astype(np.float32)
    before = values.copy()
    for percent in (0, 2, 50, 98, 100):
        expected = np.percentile(values, percent, axis=axis)
        assert percentile(values, percent, axis) == pytest.approx(expected, rel=2e-6, abs=1e-6)
    assert np.array_equal(percentile(values, 50, axis), np.median(values, axis=axis))
    assert np.array_equal(values, before)
