"""Rows cut into pieces: each is read and uploaded once, and every piece gets the rows around it."""

import numpy as np
import pytest

from tests import pretend_cupy
from tests.pretend_cupy import XP
from tomopipe.arrays import on_host
from tomopipe.stream.pieces import Window, cut, together

N_ROWS = 40


def _halo(n):
    return lambda rows: (max(rows[0] - n, 0), min(rows[1] + n, N_ROWS))


@pytest.fixture(autouse=True)
def _gpu(monkeypatch):
    pretend_cupy.install(monkeypatch)


@pytest.mark.parametrize("halo", [0, 1, 5, 9, 100])
@pytest.mark.parametrize("rows", [(0, N_ROWS), (7, 31), (38, 40)], ids=str)
@pytest.mark.parametrize("height", [4, 16])
@pytest.mark.parametrize("xp", [np, XP], ids=["host", "gpu"])
def test_rows_around_are_kept(halo, rows, height, xp):
    raw = np.arange(3 * N_ROWS * 2).reshape(3, N_ROWS, 2)
    pieces = cut(rows, height, _halo(halo))
    assert [piece.rows for piece in pieces] == [
        (first, min(first + height, rows[1])) for first in range(rows[0], rows[1], height)
    ]
    read, window = [], Window()
    for span, some in together(pieces, 2):
        read += range(*span)
        assert (span[0], span[1]) == (some[0].new[0], some[-1].new[1])
        for piece in some:
            new = xp.array(raw[:, slice(*piece.new)])
            whole = on_host(window.take(new, piece).copy())
            new[...] = -1  # the buffer is used again
            np.testing.assert_array_equal(whole, raw[:, slice(*piece.span)])
    assert read == list(range(*_halo(halo)(rows)))  # each once, in order


def test_spans_that_do_not_grow_evenly():
    """A lens moves rows: the next piece may reach less far down, and further up."""
    spans = {(0, 4): (0, 9), (4, 8): (2, 8), (8, 12): (1, 12)}
    pieces = cut((0, 12), 4, lambda rows: spans[rows])
    raw = np.arange(12).reshape(1, 12, 1)
    window = Window()
    for piece in pieces:
        whole = window.take(raw[:, slice(*piece.new)], piece)
        assert whole.ravel().tolist() == list(range(*spans[piece.rows]))
    assert [piece.new for piece in pieces] == [(0, 9), (9, 9), (9, 12)]
