"""CPU time and cores of jobs."""

import pytest

from tomopipe.config import FullReconBlock
from tomopipe.cost.cost import job_s, volume_s

MB = 1_000_000
SMALL, LARGE = (900, 64, 1024), (3000, 2048, 2048)


def test_time_goes_with_the_size_and_the_iterations():
    assert volume_s(LARGE, FullReconBlock()) == pytest.approx(2048 * 0.07, rel=0.1)
    ten, twenty = (
        volume_s(LARGE, FullReconBlock(algorithm="sirt", iterations=n)) for n in (10, 20)
    )
    assert twenty == pytest.approx(2 * ten, rel=0.01)
    assert job_s("try_recon", 900 * MB) > job_s("export_stack", 900 * MB) > 0
