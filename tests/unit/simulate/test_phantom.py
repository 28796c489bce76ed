"""Projections and slices of phantoms against analytic values and brute force."""

import math

import numpy as np
import pytest

from tests.phantoms import slice_truth, sphere
from tomopipe.simulate.phantom import KINDS, Ellipsoid, Phantom, project

# Rotated, off the axis, overlapping, one a pore, one cut by the top of the detector.
SOME = Phantom(
    "some",
    (
        Ellipsoid(1.3, -2.1, 2.0, 11.0, 7.0, 9.0, 0.4, 0.02),
        Ellipsoid(4.2, 0.7, 1.4, 3.0, 1.5, 2.0, 2.0, -0.015),
        Ellipsoid(-6.1, 3.9, -1.0, 2.2, 4.1, 3.5, -0.7, 0.05),
    ),
)


def ellipsoid(*numbers: float) -> Phantom:
    return Phantom("one", (Ellipsoid(*numbers),))


@pytest.mark.parametrize(("row", "col"), [(10, 20), (3, 14), (10, 29), (16, 26), (10, 31)])
def test_pixels_of_a_sphere_are_means_of_its_chords(row, col):
    radius_px, cor_px, centre_row = 9.3, 20.2, 9.7
    phantom = ellipsoid(0, 0, centre_row, radius_px, radius_px, radius_px, 0, 1.0)
    fine = (np.arange(400) + 0.5) / 400 - 0.5
    squared = (col + fine[None] - cor_px) ** 2 + (row + fine[:, None] - centre_row) ** 2
    expected = 2 * np.sqrt(np.clip(radius_px**2 - squared, 0, None)).mean()
    projected = project(phantom, [0.3], cor_px, 20, 41)[0, row, col]
    # Along the columns the mean is exact; where the edge crosses a row its rule has 4 nodes.
    assert projected == pytest.approx(expected, abs=0.01 * 2 * radius_px)
    assert (projected == 0) == (expected == 0)


def test_centre_of_mass_follows_the_contract_in_even_and_odd_widths():
    theta_rad = np.deg2rad([0, 33.3, 90, 180, 271, -45, 400])
    for n, cor_px in [(64, 30.37), (65, 33.9)]:
        x, y = 41, 22  # the voxel
        phantom = Phantom("bead", (sphere(x - n // 2, y - (n // 2 - 1), 2.0, 4.0),))
        image = slice_truth(phantom, 2, n)
        at_y, at_x = (np.indices(image.shape) * image).sum(axis=(1, 2)) / image.sum()
        assert (at_x, at_y) == (pytest.approx(x, abs=1e-3), pytest.approx(y, abs=1e-3))
        line = project(phantom, theta_rad, cor_px, 5, n)[:, 2].astype(float)
        column = (line * np.arange(n)).sum(axis=1) / line.sum(axis=1)
        offset_px = (x - n // 2) * np.cos(theta_rad) - (y - (n // 2 - 1)) * np.sin(theta_rad)
        # The mean over a pixel moves a centre of mass a little, by where it falls in the pixel.
        np.testing.assert_allclose(column, cor_px + offset_px, atol=5e-3)


def test_slices_and_projections_agree_with_a_cloud_of_points():
    """Both against points counted inside the ellipsoids: nothing is shared with the formulas."""
    n, fine, row = 32, 16, 1
    position_px = (np.arange(n * fine) + 0.5) / fine - 0.5
    height = row + (np.arange(16) + 0.5) / 16 - 0.5
    y, x = np.meshgrid(position_px - (n // 2 - 1), position_px - n // 2, indexing="ij")
    density = np.zeros_like(x)
    for part in SOME.ellipsoids:
        cos, sin = math.cos(part.angle_rad), math.sin(part.angle_rad)
        u, v = x - part.x_px, y - part.y_px
        flat = ((u * cos + v * sin) / part.semi_x_px) ** 2
        flat += ((v * cos - u * sin) / part.semi_y_px) ** 2
        tall = ((height - part.row) / part.semi_z_px) ** 2
        density += part.mu_per_px * (flat[..., None] + tall < 1).mean(axis=-1)
    counted = density.reshape(n, fine, n, fine).mean(axis=(1, 3))
    np.testing.assert_allclose(slice_truth(SOME, row, n), counted, atol=0.02 * counted.max())
    cor_px, theta_rad = 14.8, np.array([0.0, 0.5, 1.9, 3.3, -0.8])
    lines = project(SOME, theta_rad, cor_px, 5, n)[:, row]
    for line, theta in zip(lines, theta_rad, strict=True):
        column = np.rint(cor_px + x * math.cos(theta) - y * math.sin(theta)).astype(int)
        inside = (column >= 0) & (column < n)
        summed = np.bincount(column[inside], density[inside], minlength=n) / fine**2
        np.testing.assert_allclose(line, summed, atol=0.02 * summed.max())


def test_an_object_beyond_the_detector_is_cut_not_folded():
    theta_rad = np.linspace(0, math.pi, 7)
    wide = project(SOME, theta_rad, 40.25, 5, 81)
    narrow = project(SOME, theta_rad, 40.25 - 34, 5, 9)
    np.testing.assert_allclose(narrow, wide[:, :, 34:43], atol=1e-6)
    for away in [sphere(0, 0, 30.0, 3.0), sphere(200, 0, 2.0, 3.0)]:
        assert not project(Phantom("away", (away,)), [0.0], 20.0, 5, 41).any()
        assert not slice_truth(Phantom("away", (away,)), 2, 41).any()


def test_threads_change_nothing():
    theta_rad = np.linspace(0, math.pi, 10)
    expected = project(SOME, theta_rad, 15.5, 4, 32, threads=1)
    for threads in (3, 40):
        assert np.array_equal(project(SOME, theta_rad, 15.5, 4, 32, threads=threads), expected)


def test_a_scaled_phantom_attenuates_less():
    half = project(SOME.scaled(0.5), [0.2], 15.0, 4, 32)
    np.testing.assert_allclose(half, 0.5 * project(SOME, [0.2], 15.0, 4, 32), rtol=1e-5)


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize(("n_cols", "n_rows"), [(160, 24), (65, 1)])
def test_objects_are_seeded_positive_and_on_the_detector(kind, n_cols, n_rows):
    phantom = KINDS[kind](n_cols, n_rows, 5)
    assert phantom == KINDS[kind](n_cols, n_rows, 5)
    assert phantom != KINDS[kind](n_cols, n_rows, 6)
    assert len(phantom.ellipsoids) > 15
    image = slice_truth(phantom, n_rows // 2, n_cols)
    assert image.min() > -1e-6
    assert len(np.unique(image.round(5))) > 20
    for side in (-0.06, 0.06):
        cor_px = (n_cols - 1) / 2 + side * n_cols
        projected = project(phantom, np.linspace(0, math.pi, 20), cor_px, n_rows, n_cols)
        assert 0.5 < projected.max() < 3.5
        assert not projected[..., [0, -1]].any()
    truncated = project(KINDS[kind](n_cols, n_rows, 5, size=1.6), [0.0, 1.0], cor_px, 1, n_cols)
    assert truncated[..., [0, -1]].min() > 0.3
