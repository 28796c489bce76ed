import numpy as np
import pytest

from tests.unit.recon.test_fbp import even_angles, project
from tomopipe.recon.fbp import reconstruct
from tomopipe.recon.plan import make_plan
from tomopipe.recon.sweep import sweep, sweep_batches


@pytest.mark.parametrize("last_rad", [np.pi, 2 * np.pi], ids=["180 degrees", "360 degrees"])
def test_images_are_those_of_the_full_reconstruction(last_rad):
    theta_rad = even_angles(96, last_rad)
    sinogram = project(64, theta_rad, 30.4)
    plan = make_plan(theta_rad, 64)
    cor_px = np.linspace(20, 40, 21)
    images = sweep(sinogram, plan, cor_px)
    assert images.shape == (21, 64, 64)
    expected = reconstruct(np.stack([sinogram] * 21), plan, cor_px)
    np.testing.assert_allclose(images, expected, atol=5e-5 * np.ptp(expected))


def test_wrong_shape_is_refused():
    with pytest.raises(ValueError, match="sinogram"):
        sweep(np.ones((2, 8), np.float32), make_plan([0.0], 8), [4])


def test_batches_reuse_their_buffer():
    theta_rad = even_angles(48)
    sinogram = project(32, theta_rad, 15.2)
    plan = make_plan(theta_rad, 32, batch_size=4)
    cor_px = np.linspace(10, 20, 11)
    expected = sweep(sinogram, plan, cor_px)
    where = set()
    for batch, images in sweep_batches(sinogram, plan, cor_px):
        where.add(images.ctypes.data)
        np.testing.assert_array_equal(images, expected[batch])
    assert len(where) == 1
