import numpy as np
import pytest
from tomopipe_lab.bench.staged_sweep import coarse, least_variation, spread_over_peaks, staged_sweep

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


# whole: a disk well inside; truncated: it reaches beyond the detector on both sides
@pytest.mark.slow
@pytest.mark.parametrize("radius", [0.36, 0.8], ids=["whole", "truncated"])
def test_staged_sweep_finds_what_the_full_search_finds(radius):
    rng = np.random.default_rng(5)
    centres, size = rng.uniform(-0.2, 0.2, (12, 2)), rng.uniform(0.01, 0.05, 12)
    grains = [(*xy, r, 0.7) for xy, r in zip(centres, size, strict=True)]
    theta_rad, cor_px = even_angles(600), 267.3
    sinogram = project(512, theta_rad, cor_px, [(0, 0, radius, 0.3), *grains])
    sinogram += rng.normal(0, 0.005 * sinogram.max(), sinogram.shape).astype(np.float32)
    candidates = np.arange(247, 288, 0.5)
    plan = make_plan(theta_rad, 512)
    found = staged_sweep(sinogram, plan, candidates, least_variation)
    scores = [
        score
        for _, images in sweep_batches(sinogram, plan, candidates)
        for score in least_variation(images)
    ]
    assert abs(found.best_cor_px - candidates[np.argmax(scores)]) <= 0.5
    assert abs(found.best_cor_px - cor_px) <= 0.5
    assert len(found.fine_cor_px) == 16
    np.testing.assert_array_equal(found.coarse_cor_px, candidates)


def test_coarse_slices_keep_values_and_the_axis():
    theta_rad, cor_px = even_angles(240), 70.5
    plan = make_plan(theta_rad, 128)
    small, coarse_plan = coarse(project(128, theta_rad, cor_px), plan, 4)
    assert small.shape == (60, 32)
    image = reconstruct(small[None], coarse_plan, (cor_px - 1.5) / 4)[0]
    assert image[12:20, 13:16].mean() == pytest.approx(1, abs=0.03)
    assert coarse(project(128, theta_rad, cor_px), plan, 4)[1] is coarse_plan


def test_fine_candidates_surround_the_highest_peaks():
    score = np.zeros(40)
    score[[5, 20, 30]] = 1, 3, 2
    assert spread_over_peaks(score, 2, 6).tolist() == [19, 20, 21, 29, 30, 31]
    assert spread_over_peaks(score, 1, 3).tolist() == [19, 20, 21]
    assert spread_over_peaks(np.arange(3.0), 3, 16).tolist() == [0, 1, 2]


def test_no_candidate_is_refused():
    with pytest.raises(ValueError, match="candidate"):
        staged_sweep(np.ones((1, 8), np.float32), make_plan([0.0], 8), [], least_variation)
