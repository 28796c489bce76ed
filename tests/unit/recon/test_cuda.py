"""The kernels on a GPU, and as C++ on the CPU in two orders of threads (`tests.cuda_on_cpu`)."""

import numpy as np
import pytest

from tests import pretend_cupy
from tests.out_of_memory import OUT_OF_MEMORY, Room, errors
from tests.pretend_cupy import XP
from tests.pretend_device import BOTH_ORDERS
from tests.unit.recon.test_fbp import GAP, even_angles
from tomopipe.recon import cuda, fbp, portable
from tomopipe.recon.device import array_module
from tomopipe.recon.fbp import reconstruct, sweep
from tomopipe.recon.gpu import CudaDevice, out_of_memory
from tomopipe.recon.plan import make_plan

HALF = even_angles(50)


def _difference(theta_rad=HALF, n_cols=41, n_slices=3, xp=XP):
    """Return by how much the slices of the kernels differ from plain lines, over the range."""
    cor_px = np.linspace(0.45, 0.6, n_slices) * n_cols
    rows = np.random.default_rng(6).normal(size=(n_slices, len(theta_rad), n_cols))
    rows = rows.astype(np.float32)
    rows[-1, 2, n_cols // 2] = np.nan
    expected = np.empty((n_slices, n_cols, n_cols), np.float32)
    portable.reconstruct_batch(rows, make_plan(theta_rad, n_cols), cor_px, expected)
    plan = make_plan(theta_rad, n_cols, xp=xp)
    for _ in range(2):  # the second time with the tables of the plan
        images = reconstruct(xp.asarray(rows), plan, cor_px).get()
    return np.abs(images - expected).max() / np.ptp(expected)


CASES = {
    "one slice": {"n_slices": 1},
    "16 slices": {"n_slices": 16},
    "360 degrees": {"theta_rad": GAP[::5]},
    "64 columns": {"n_cols": 64},
    "one column": {"n_cols": 1},
}


@BOTH_ORDERS
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_kernels_give_the_slices_of_plain_lines(monkeypatch, case, xp):
    monkeypatch.setattr(cuda, "GPU_ANGLES", 32)  # chunks, the last one smaller
    monkeypatch.setattr(cuda, "MAX_RUN", 20)
    assert _difference(**case, xp=xp) < 3e-5


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_without_own_kernels_a_gpu_gives_the_same(monkeypatch, case, xp, no_kernels):
    monkeypatch.setattr(portable, "ANGLES", 16)
    assert _difference(**case, xp=xp) < 3e-5


@pytest.mark.parametrize("theta_rad", [HALF, GAP[::5]], ids=["180", "360 degrees"])
def test_a_plan_forgets_the_cor_of_the_batch_before(monkeypatch, theta_rad):
    """What it keeps of a COR serves smaller batches with it, and no others."""
    pretend_cupy.install(monkeypatch)
    rows = np.random.default_rng(6).normal(size=(3, len(theta_rad), 41)).astype(np.float32)
    plan, on_host = (make_plan(theta_rad, 41, xp=xp) for xp in (XP, np))
    for n, cor_px in [(3, 18.4), (2, 18.4), (3, 18.4), (2, 25.3), (2, [25.3, 18.4]), (3, 25.3)]:
        expected = np.empty((n, 41, 41), np.float32)
        portable.reconstruct_batch(rows[:n], on_host, np.broadcast_to(cor_px, n), expected)
        found = reconstruct(XP.asarray(rows[:n]), plan, cor_px).get()
        np.testing.assert_allclose(found, expected, atol=3e-5 * np.ptp(expected))


@BOTH_ORDERS
@pytest.mark.parametrize("is_plain", [False, True])
def test_kernels_give_the_sweep_of_the_cpu(request, is_plain, xp):
    if is_plain:
        request.getfixturevalue("no_kernels")
    theta_rad, cor_px = even_angles(30), np.linspace(12, 20, 19)
    sinogram = np.random.default_rng(6).normal(size=(30, 32)).astype(np.float32)
    expected = sweep(sinogram, make_plan(theta_rad, 32), cor_px)
    found = sweep(xp.asarray(sinogram), make_plan(theta_rad, 32, xp=xp), cor_px).get()
    np.testing.assert_allclose(found, expected, atol=3e-5 * np.ptp(expected))


@pytest.mark.parametrize("kind", OUT_OF_MEMORY)
def test_out_of_memory_means_fewer_slices_at_a_time(monkeypatch, kind):
    theta_rad = even_angles(40)
    rows = np.random.default_rng(7).normal(size=(21, 40, 32)).astype(np.float32)
    plan = make_plan(theta_rad, 32)
    expected = reconstruct(rows, plan, 15.2)
    room = Room(OUT_OF_MEMORY[kind], most=4)
    room.limit(monkeypatch, fbp, "fill_batch", lambda rows, *_: len(rows))
    np.testing.assert_allclose(reconstruct(rows, plan, 15.2), expected, atol=1e-5)
    assert room.sizes == [16, 8, 4, 4, 4, 4, 4, 1]


@pytest.mark.parametrize("error", errors(number=3).values(), ids=str)
def test_a_number_of_another_fault_is_no_lack_of_memory(error):
    assert not out_of_memory(error)


@pytest.mark.gpu
def test_the_errors_of_cupy_tell_that_memory_ran_out():
    xp = array_module("cuda")
    gpu = CudaDevice(xp, 0)
    for make in (gpu.empty, gpu.pinned):
        with pytest.raises(Exception, match=r"(?i)out of memory") as caught:
            make((2**44,), np.uint8)
        assert out_of_memory(caught.value)
    for kind in (xp.cuda.runtime.CUDARuntimeError, xp.cuda.driver.CUDADriverError,
                 xp.cuda.cufft.CuFFTError):  # fmt: skip
        assert out_of_memory(kind(2))
        assert not out_of_memory(kind(3))


def test_other_errors_and_no_memory_at_all_are_raised(monkeypatch):
    plan = make_plan(even_angles(4), 8)
    for error in (MemoryError(), RuntimeError()):
        Room(error, most=0).limit(monkeypatch, fbp, "fill_batch", lambda rows, *_: len(rows))
        with pytest.raises(type(error)):
            reconstruct(np.ones((3, 4, 8), np.float32), plan, 3.5)
