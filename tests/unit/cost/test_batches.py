"""CPU time and cores of jobs."""

from tomopipe.config import FullReconBlock
from tomopipe.cost.batches import (
    MOST_CORES,
    is_large,
    try_cores,
    volume_cores,
)

MB = 1_000_000


def test_cores_are_those_that_a_step_can_use():
    assert (try_cores(118 * MB), try_cores(900 * MB)) == (1, 2)
    small, large = (900, 64, 1024), (3000, 2048, 2048)
    assert volume_cores(small, FullReconBlock()) == 1
    assert volume_cores(large, FullReconBlock()) == MOST_CORES
    assert volume_cores(large, FullReconBlock(binning=4)) < 4
    for uses_all in ({"algorithm": "tv"}, {"device": "cuda"}):
        assert volume_cores(small, FullReconBlock(**uses_all)) == MOST_CORES
    assert volume_cores((40, 2, 128), FullReconBlock(algorithm="sirt")) == 1
    assert is_large(1000 * MB)
    assert not is_large(999 * MB)
