"""CPU time and cores of jobs."""

import pytest

from tomopipe.config import FullReconBlock
from tomopipe.cost.cost import MOST_CORES, is_large, job_s, try_cores, volume_cores, volume_s

MB = 1_000_000
SMALL, LARGE = (900, 64, 1024), (3000, 2048, 2048)


def test_cores_are_those_that_a_step_can_use():
    assert (try_cores(118 * MB), try_cores(900 * MB)) == (1, 2)
    assert volume_cores(SMALL, FullReconBlock()) == 1
    assert volume_cores(LARGE, FullReconBlock()) == MOST_CORES
    assert volume_cores(LARGE, FullReconBlock(binning=4)) < 4
    for uses_all in ({"algorithm": "tv"}, {"device": "cuda"}):
        assert volume_cores(SMALL, FullReconBlock(**uses_all)) == MOST_CORES
    assert volume_cores((40, 2, 128), FullReconBlock(algorithm="sirt")) == 1
    assert is_large(1000 * MB)
    assert not is_large(999 * MB)


def test_time_goes_with_the_size_and_the_iterations():
    assert volume_s(LARGE, FullReconBlock()) == pytest.approx(2048 * 0.07, rel=0.1)
    ten, twenty = (
        volume_s(LARGE, FullReconBlock(algorithm="sirt", iterations=n)) for n in (10, 20)
    )
    assert twenty == pytest.approx(2 * ten, rel=0.01)
    assert job_s("try_recon", 900 * MB) > job_s("export_stack", 900 * MB) > 0
