import numpy as np
import pytest
from test_recon_fbp import half_turn, project

from tomopipe.recon.fbp import reconstruct
from tomopipe.recon.plan import make_plan
from tomopipe.recon.sweep import sweep


@pytest.mark.parametrize("turn", [np.pi, 2 * np.pi], ids=["half turn", "full turn"])
def test_images_are_those_of_the_full_reconstruction(turn):
    theta_rad = half_turn(96, turn)
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
