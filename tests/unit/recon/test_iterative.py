from functools import partial

import numpy as np
import pytest
from tomopipe_lab.bench.phantoms import engine_axis, smooth_image, smooth_sinogram

from tomopipe.recon.fbp import reconstruct
from tomopipe.recon.iterative import (
    about,
    cgls,
    field_of_view,
    largest_gain,
    least_variation_near,
    make_projector,
    sirt,
    total_variation,
)
from tomopipe.recon.plan import filter_response, make_plan
from tomopipe.recon.projection import project_batch

GEOMETRIES = {
    "even": (64, np.linspace(0, np.pi, 40, endpoint=False), 31.2),
    "odd": (65, np.linspace(0, np.pi, 31, endpoint=False), 36.8),
    "descending, ends included": (50, np.linspace(np.pi, 0, 25), 22.3),
    "uneven 360 degrees": (64, np.random.default_rng(3).uniform(0, 2 * np.pi, 33), 30.1),
}


def _random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("name", GEOMETRIES)
def test_back_projection_is_the_adjoint_of_projection(name):
    n_cols, theta_rad, cor_px = GEOMETRIES[name]
    projector = make_projector(theta_rad, n_cols, cor_px)
    image, sinogram = _random(n_cols, n_cols), _random(len(theta_rad), n_cols, seed=1)
    projected = projector.project(image)
    there = np.vdot(projected.astype(float), sinogram)
    back = np.vdot(image.astype(float), projector.back_project(sinogram))
    scale = float(np.linalg.norm(projected) * np.linalg.norm(sinogram))
    assert there == pytest.approx(back, abs=1e-6 * scale)


@pytest.mark.parametrize("cor_px", [2.3, 15.5, 29.6])
def test_a_shorter_period_suffices_where_the_detector_sees_half_of_the_slice(cor_px):
    n_cols, theta_rad = 64, np.linspace(0, np.pi, 20, endpoint=False)
    usual = make_projector(theta_rad, n_cols, cor_px)
    short = make_projector(theta_rad, n_cols, cor_px, n_padded=96)
    image = field_of_view(usual)
    seen = usual.project(image)[:, : n_cols // 2]
    np.testing.assert_allclose(short.project(image)[:, : n_cols // 2], seen, atol=0.005 * n_cols)
    sinogram = np.zeros((len(theta_rad), n_cols), np.float32)
    sinogram[:, : n_cols // 2] = _random(len(theta_rad), n_cols // 2)
    there = np.vdot(short.project(image).astype(float), sinogram)
    back = np.vdot(image.astype(float), short.back_project(sinogram))
    assert there == pytest.approx(
        back, abs=1e-6 * float(np.linalg.norm(seen) * np.linalg.norm(sinogram))
    )


@pytest.mark.parametrize("name", list(GEOMETRIES)[:3])
def test_the_engine_is_the_adjoint_of_filtered_projection(name):
    """<reconstruct(y), x> = <w ramp(pad(y)), project(x)>: coded apart from each other."""
    n_cols, theta_rad, cor_px = GEOMETRIES[name]
    plan, projector = make_plan(theta_rad, n_cols), make_projector(theta_rad, n_cols, cor_px)
    image, sinogram = _random(n_cols, n_cols), _random(len(theta_rad), n_cols, seed=1)
    engine = np.vdot(reconstruct(sinogram[None], plan, cor_px)[0].astype(float), image)
    rows, n_right = sinogram[plan.angle_order], (plan.n_padded - n_cols) // 2
    right, left = rows[:, -1:] * plan.taper[:n_right], rows[:, :1] * plan.taper[n_right:]
    rows = np.concatenate([rows, right, left], axis=1)
    response = filter_response("ramp", plan.n_padded)
    filtered = np.fft.irfft(np.fft.rfft(rows) * response, n=plan.n_padded) * plan.weight[:, None]
    padded = np.empty((1, len(theta_rad), plan.n_padded), np.float32)
    project_batch(image[None], projector.plan, np.array([cor_px]), padded)
    projected = padded[0, plan.angle_order]
    scale = np.linalg.norm(filtered) * np.linalg.norm(projected)
    assert engine == pytest.approx(np.vdot(filtered, projected), abs=1e-6 * scale)


@pytest.mark.parametrize("name", GEOMETRIES)
def test_projections_are_the_line_integrals(name):
    n_cols, theta_rad, cor_px = GEOMETRIES[name]
    image = smooth_image(n_cols, engine_axis(n_cols)).astype(np.float32)
    found = make_projector(theta_rad, n_cols, cor_px).project(image)
    expected = smooth_sinogram(n_cols, theta_rad, cor_px)
    np.testing.assert_allclose(found, expected, atol=1e-3 * expected.max())


@pytest.mark.slow
def test_values_are_attenuation_per_pixel():
    theta_rad, cor_px = np.linspace(0, np.pi, 60, endpoint=False), 33.4
    sinogram = 0.01 * smooth_sinogram(64, theta_rad, cor_px)
    truth = 0.01 * smooth_image(64, engine_axis(64))
    projector = make_projector(theta_rad, 64, cor_px)
    for image in (
        sirt(sinogram, projector),
        cgls(sinogram, projector),
        total_variation(sinogram, projector, strength=1e-5),
    ):
        assert abs(image - truth)[field_of_view(projector) > 0].max() < 0.03 * truth.max()
        assert (image[field_of_view(projector) == 0] == 0).all()


@pytest.mark.slow
def test_what_is_given_no_weight_need_not_be_explained():
    theta_rad, cor_px = np.linspace(0, np.pi, 60, endpoint=False), 33.4
    sinogram = smooth_sinogram(64, theta_rad, cor_px)
    truth = smooth_image(64, engine_axis(64))
    projector = make_projector(theta_rad, 64, cor_px)
    dirty = sinogram.copy()
    dirty[:, 20:24] += 0.3 * sinogram.max()

    def without(misfit):
        weighted = misfit.copy()
        weighted[:, 20:24] = 0
        return weighted

    def off(weigh):
        image = total_variation(dirty, projector, strength=1e-4, weigh=weigh)
        return abs(image - truth)[field_of_view(projector) > 0].mean() / truth.max()

    assert off(without) < 0.005
    assert off(None) > 0.02
    assert off(np.copy) == off(None)


def test_slices_together_are_slices_one_by_one():
    """Each about its own axis, with a misfit weighed and one without any variation."""
    theta_rad, cor_px = np.linspace(0, np.pi, 40, endpoint=False), np.array([28.0, 33.4, 30.7])
    projector = make_projector(theta_rad, 64, 31.5)
    sinograms = np.stack([smooth_sinogram(64, theta_rad, cor) for cor in cor_px])
    sinograms[2] = 0
    how = {"strength": 1e-3, "n_iterations": 20, "gain": 1.2 * largest_gain(projector)}
    how["weigh"] = lambda misfit: 0.5 * misfit
    together = total_variation(sinograms, about(projector, cor_px), **how)
    for sinogram, cor, image in zip(sinograms, cor_px, together, strict=True):
        alone = total_variation(sinogram, about(projector, cor), **how)
        np.testing.assert_allclose(image, alone, atol=1e-5 * max(alone.max(), 1e-30))
    assert together[0].max() > 0.5
    assert (together[2] == 0).all()


def test_the_largest_gain_bounds_all_gains():
    projector = make_projector(np.linspace(0, np.pi, 20, endpoint=False), 40, 19.1)
    bound = largest_gain(projector)
    disk = field_of_view(projector)
    for seed in range(3):
        image = disk * _random(40, 40, seed=seed) + disk
        gain = np.linalg.norm(projector.project(image)) ** 2 / np.linalg.norm(image) ** 2
        assert gain < bound
    assert bound < 1.2 * np.linalg.norm(projector.project(disk)) ** 2 / disk.sum()


def test_nothing_projected_is_nothing_and_another_shape_is_refused():
    projector = make_projector(np.linspace(0, np.pi, 9), 32, 15.5)
    for method in (sirt, cgls, partial(total_variation, strength=1e-3)):
        np.testing.assert_array_equal(method(np.zeros((9, 32), np.float32), projector), 0)
        with pytest.raises(ValueError, match=r"expected shape \(9, 32\), got \(8, 32\)"):
            method(np.zeros((8, 32), np.float32), projector)
    for method in (sirt, cgls):
        with pytest.raises(ValueError, match=r"expected shape \(9, 32\), got \(2, 9, 32\)"):
            method(np.zeros((2, 9, 32), np.float32), projector)


def _variation(image):
    return np.hypot(np.diff(image, axis=0)[:, :-1], np.diff(image, axis=1)[:-1]).sum()


def test_a_step_loses_height():
    image = np.zeros((12, 20), dtype=np.float32)
    image[:, 10:] = 1
    found, dual = least_variation_near(image, 2.0)
    for _ in range(100):
        found, dual = least_variation_near(image, 2.0, dual)
    # each half of 10 columns moves by weight / 10 towards the other
    np.testing.assert_allclose(found[:, :10], 0.2, atol=1e-3)
    np.testing.assert_allclose(found[:, 10:], 0.8, atol=1e-3)


def test_no_image_nearby_is_better():
    """Half the squared distance plus the weighted variation is convex: the minimum is the least."""
    rng = np.random.default_rng(1)
    image, weight = rng.normal(size=(9, 14)).astype(np.float32), 0.2
    found, _ = least_variation_near(image, weight, n_steps=3000)

    def cost(other):
        edges = np.abs(np.diff(other[-1])).sum() + np.abs(np.diff(other[:, -1])).sum()
        return 0.5 * np.sum((other - image) ** 2) + weight * (_variation(other) + edges)

    least = cost(found)
    for _ in range(50):
        assert cost(found + rng.normal(size=image.shape) * 0.02) > least
    assert least < 0.8 * cost(image)
