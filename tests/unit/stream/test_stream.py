"""Rows cut into batches: each row is uploaded once, and every batch gets the rows around it."""

import numpy as np
import pytest

from tests.pretend_device import EVERY_MODULE
from tomopipe.arrays import on_host
from tomopipe.stream.stream import Window, cut, together

N_ROWS = 40


def _halo(n):
    return lambda rows: (max(rows[0] - n, 0), min(rows[1] + n, N_ROWS))


@pytest.mark.parametrize("halo", [0, 1, 5, 9, 100])
@pytest.mark.parametrize("rows", [(0, N_ROWS), (7, 31), (38, 40)], ids=str)
@pytest.mark.parametrize("height", [4, 16])
@EVERY_MODULE
def test_rows_around_are_kept(halo, rows, height, xp):
    raw = np.arange(3 * N_ROWS * 2).reshape(3, N_ROWS, 2)
    batches = cut(rows, height, _halo(halo))
    assert [batch.rows for batch in batches] == [
        (first, min(first + height, rows[1])) for first in range(rows[0], rows[1], height)
    ]
    read, window = [], Window()
    for new_rows, group in together(batches, 2):
        read += range(*new_rows)
        assert new_rows == (group[0].new[0], group[-1].new[1])
        for batch in group:
            new = xp.array(raw[:, slice(*batch.new)])
            whole = on_host(window.take(new, batch).copy())
            new[...] = -1  # the buffer is used again
            np.testing.assert_array_equal(whole, raw[:, slice(*batch.needed)])
    assert read == list(range(*_halo(halo)(rows)))  # each once, in order


def test_needed_rows_that_do_not_grow_evenly():
    """A lens moves rows: the next batch may reach less far down, and further up."""
    needed = {(0, 4): (0, 9), (4, 8): (2, 8), (8, 12): (1, 12)}
    batches = cut((0, 12), 4, lambda rows: needed[rows])
    raw = np.arange(12).reshape(1, 12, 1)
    window = Window()
    for batch in batches:
        whole = window.take(raw[:, slice(*batch.new)], batch)
        assert whole.ravel().tolist() == list(range(*needed[batch.rows]))
    assert [batch.new for batch in batches] == [(0, 9), (9, 9), (9, 12)]
