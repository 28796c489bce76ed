"""Means of blocks of frames, and which of them a row lies in."""

import numpy as np
import pytest

from tomopipe.scans.block_means import band_of, block_means, column_means


@pytest.mark.parametrize("shape", [(1, 3), (5, 17), (24, 256), (515, 640), (1200, 70)])
def test_bands_have_the_rows_and_columns_near_them(shape):
    row, col = np.mgrid[: shape[0], : shape[1]].astype(float)
    rows, columns = block_means(row), block_means(col)
    assert rows.shape == columns.shape == (min(16, shape[0]), max(1, min(64, shape[1] // 4)))
    assert np.allclose(columns, column_means(col)[0])
    every = np.arange(shape[0])
    bands = band_of(every, shape[0])
    assert np.array_equal(np.unique(bands), np.arange(len(rows)))
    assert np.abs(rows[bands, 0] - every).max() <= shape[0] / 16 + 2


def test_means_of_integers_do_not_overflow():
    assert np.array_equal(
        block_means(np.full((300, 300), 65535, np.uint16)), np.full((16, 64), 65535)
    )
