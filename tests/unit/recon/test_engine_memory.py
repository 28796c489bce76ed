import tracemalloc

import numpy as np
import pytest

from tomopipe.recon.engine_memory import engine_bytes, sweep_bytes
from tomopipe.recon.fbp import reconstruct
from tomopipe.recon.plan import make_plan
from tomopipe.recon.sweep import sweep_batches


def peak_of(work):
    work()  # loads what is loaded once
    tracemalloc.start()
    work()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


@pytest.mark.parametrize("batch_size", [4, 16])
def test_engine_takes_what_the_formula_says(batch_size):
    n_angles, n_cols = 300, 400
    theta_rad = np.linspace(0, np.pi, n_angles, endpoint=False)
    rows = np.ones((batch_size, n_angles, n_cols), np.float32)
    images_bytes = 4 * batch_size * n_cols**2

    def work():
        reconstruct(rows, make_plan(theta_rad, n_cols), 200.0, threads=2)

    used = peak_of(work) - images_bytes
    assert 0.5 * engine_bytes(n_angles, n_cols, batch_size) < used
    assert used < engine_bytes(n_angles, n_cols, batch_size)


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
