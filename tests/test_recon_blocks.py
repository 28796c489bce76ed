import subprocess
import sys
import tracemalloc

import numpy as np
import pytest

from tomopipe.recon.blocks import (
    LANES,
    engine_bytes,
    peak_bytes,
    rows_per_block,
    sweep_bytes,
)
from tomopipe.recon.fbp import reconstruct
from tomopipe.recon.plan import make_plan
from tomopipe.recon.sweep import sweep_batches


@pytest.mark.parametrize("binning", [1, 2, 4])
@pytest.mark.parametrize("memory_gb", [8, 16, 64])
def test_block_is_the_tallest_that_fits(binning, memory_gb):
    memory = memory_gb * 2**30
    rows = rows_per_block(3072, 2048, memory, 2, binning)
    assert peak_bytes(3072, 2048, rows, 2, binning) <= memory
    assert rows % (binning * LANES) == 0
    assert peak_bytes(3072, 2048, rows + binning * LANES, 2, binning) > memory


def test_fewer_lanes_where_sixteen_do_not_fit():
    assert rows_per_block(6144, 4096, 4 * 2**30, 2) in (4, 8)
    assert peak_bytes(6144, 4096, rows_per_block(6144, 4096, 4 * 2**30, 2), 2) <= 4 * 2**30
    assert rows_per_block(3072, 2048, 1000, 2) == 1
    assert rows_per_block(3072, 2048, 1000, 2, binning=4) == 4


def peak_of(work):
    work()  # loads what is loaded once
    tracemalloc.start()
    work()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


@pytest.mark.parametrize("lanes", [4, 16])
def test_engine_takes_what_the_formula_says(lanes):
    n_angles, n_cols = 300, 400
    theta_rad = np.linspace(0, np.pi, n_angles, endpoint=False)
    rows = np.ones((lanes, n_angles, n_cols), np.float32)
    images_bytes = 4 * lanes * n_cols**2

    def work():
        reconstruct(rows, make_plan(theta_rad, n_cols), 200.0, threads=2)

    used = peak_of(work) - images_bytes
    assert 0.5 * engine_bytes(n_angles, n_cols, lanes) < used
    assert used < engine_bytes(n_angles, n_cols, lanes)


def test_sweep_does_not_grow_with_the_number_of_cors():
    theta_rad = np.linspace(0, np.pi, 100, endpoint=False)
    sinogram = np.ones((100, 200), np.float32)
    plan = make_plan(theta_rad, 200)

    def work(n_cor):
        for _ in sweep_batches(sinogram, plan, np.linspace(90, 110, n_cor), threads=1):
            pass

    few, many = peak_of(lambda: work(16)), peak_of(lambda: work(160))
    assert many < few + 2**20
    assert few < sweep_bytes(100, 200)


JOB = """
import resource
import numpy as np
from tomopipe.prep.normalise import normalise
from tomopipe.recon.fbp import reconstruct
from tomopipe.recon.plan import make_plan
raw = np.full((400, 16, 512), 1000, np.uint16)
flat = np.full((16, 512), 2000, np.float32)
plan = make_plan(np.linspace(0, np.pi, 400, endpoint=False), 512)
for _ in range(3):
    corrected = normalise(raw, flat, 0 * flat)
    images = reconstruct(np.ascontiguousarray(corrected.transpose(1, 0, 2)), plan, 256.0, threads=2)
print(1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_a_whole_job_stays_below_the_formula():
    done = subprocess.run(
        [sys.executable, "-c", JOB], capture_output=True, text=True, check=True, timeout=60
    )
    used, expected = int(done.stdout), peak_bytes(400, 512, 16, 2)
    assert 0.4 * expected < used < expected
