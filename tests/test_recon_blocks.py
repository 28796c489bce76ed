import pytest

from tomopipe.recon.blocks import LANES, peak_bytes, rows_per_block


@pytest.mark.parametrize("binning", [1, 2, 4])
@pytest.mark.parametrize("memory_gb", [4, 16, 64])
def test_block_is_the_tallest_that_fits(binning, memory_gb):
    memory = memory_gb * 2**30
    rows = rows_per_block(3072, 2048, memory, 2, binning)
    assert peak_bytes(3072, 2048, rows, 2, binning) <= memory
    step = binning * (LANES if rows >= LANES * binning else 1)
    assert rows % step == 0
    assert peak_bytes(3072, 2048, rows + step, 2, binning) > memory


def test_one_row_at_least():
    assert rows_per_block(3072, 2048, 1000, 2) == 1
    assert rows_per_block(3072, 2048, 1000, 2, binning=4) == 4
