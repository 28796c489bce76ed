import numpy as np
import pytest

from tests import pretend_cupy
from tests.unit.recon.test_fbp import half_turn
from tomopipe.recon import cuda, fbp
from tomopipe.recon.array import array_module
from tomopipe.recon.fbp import reconstruct
from tomopipe.recon.plan import make_plan
from tomopipe.recon.portable import reconstruct_lanes
from tomopipe.recon.sparse import spreading_matrix


@pytest.mark.parametrize("n_slices", [1, 16])
def test_host_side_of_the_gpu_path_gives_the_images_of_the_cpu(monkeypatch, n_slices):
    pretend_cupy.install(monkeypatch)
    xp = pretend_cupy.XP
    theta_rad, cor_px = half_turn(50), np.linspace(20, 26, n_slices)
    rows = np.random.default_rng(6).normal(size=(n_slices, 50, 41)).astype(np.float32)
    plan = make_plan(theta_rad, 41)
    expected = reconstruct(rows, plan, cor_px)
    plan = make_plan(theta_rad, 41, xp=xp)
    for _ in range(2):  # the second time with the samples' order from the plan
        images = reconstruct_lanes(xp.asarray(rows), plan, cor_px, cuda.spread_cuda, n_chunk=32)
        images = images.get()
        np.testing.assert_allclose(images, expected, atol=1e-4 * np.ptp(expected))


def test_ordered_samples_state_the_spreading_matrix():
    plan, angles = make_plan(half_turn(9), 20), slice(2, 7)
    order, cell, weights = cuda.ordered_samples(plan, angles)
    assert (np.diff(cell) >= 0).all()
    matrix = spreading_matrix(plan, angles).toarray()
    for sample, first, weight in zip(order, cell, weights, strict=True):
        row, col = np.divmod(np.arange(25), 5)
        found = matrix[first + row * plan.half_grid_shape[1] + col, sample]
        np.testing.assert_allclose(found, weight[5 + row] * weight[col], atol=1e-5)
        assert np.count_nonzero(matrix[:, sample]) <= 25


@pytest.mark.parametrize("kind", [MemoryError, type("OutOfMemoryError", (Exception,), {})])
def test_out_of_memory_means_fewer_slices_at_a_time(monkeypatch, kind):
    theta_rad = half_turn(40)
    rows = np.random.default_rng(7).normal(size=(21, 40, 32)).astype(np.float32)
    plan = make_plan(theta_rad, 32)
    expected = reconstruct(rows, plan, 15.2)
    fill_lanes, sizes = fbp.fill_lanes, []

    def small_card(sinograms, *others):
        sizes.append(len(sinograms))
        if len(sinograms) > 4:
            raise kind
        fill_lanes(sinograms, *others)

    monkeypatch.setattr(fbp, "fill_lanes", small_card)
    np.testing.assert_allclose(reconstruct(rows, plan, 15.2), expected, atol=1e-5)
    assert sizes == [16, 8, 4, 4, 4, 4, 4, 1]


def test_other_errors_and_no_memory_at_all_are_raised(monkeypatch):
    plan = make_plan(half_turn(4), 8)
    for error in (MemoryError, RuntimeError):

        def fail(*_, error=error):
            raise error

        monkeypatch.setattr(fbp, "fill_lanes", fail)
        with pytest.raises(error):
            reconstruct(np.ones((3, 4, 8), np.float32), plan, 3.5)


@pytest.mark.gpu
def test_gpu_gives_the_images_of_the_cpu():
    xp = array_module("cuda")
    theta_rad, cor_px = half_turn(300), np.linspace(90, 110, 19)
    rows = np.random.default_rng(8).normal(size=(19, 300, 200)).astype(np.float32)
    expected = reconstruct(rows, make_plan(theta_rad, 200), cor_px)
    images = reconstruct(xp.asarray(rows), make_plan(theta_rad, 200, xp=xp), cor_px).get()
    np.testing.assert_allclose(images, expected, atol=1e-4 * np.ptp(expected))
