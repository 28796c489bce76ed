"""Sorted angles, 180 degrees and opposing rows from angles of any start, order and direction."""

import numpy as np
import pytest

from tomopipe.cor.angle_order import opposing_rows, resample_180, sort_angles

START = 0.7


def sinogram(theta_rad):
    """One slow wave per column: its value at any angle is known."""
    return np.cos(theta_rad[:, None] + np.arange(5)).astype(np.float32)


def theta_of(kind):
    half, full = np.linspace(0, np.pi, 181), np.linspace(0, 2 * np.pi, 361)
    return (
        START
        + {
            "ascending": half,
            "descending": -half,
            "shuffled": np.random.default_rng(0).permutation(half),
            "no end point": half[:-1],
            "full": full,
            "720 degrees": np.arange(720) * np.pi / 180,
        }[kind]
    )


KINDS = ["ascending", "descending", "shuffled", "no end point", "full", "720 degrees"]


@pytest.mark.parametrize("kind", KINDS)
def test_order_and_step(kind):
    theta = theta_of(kind)
    angles = sort_angles(theta)
    assert angles.step_rad == pytest.approx(np.pi / 180, rel=1e-6)
    assert angles.theta_rad[0] == 0
    assert (np.diff(angles.theta_rad) >= 0).all()
    assert angles.gap_rad == 0
    # up to full rotations
    steps = np.exp(1j * (theta[angles.order] - theta.min() - angles.theta_rad))
    np.testing.assert_allclose(steps, 1, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_180_degrees_on_an_even_grid_without_its_end(kind):
    theta = theta_of(kind)
    angles = sort_angles(theta)
    half = resample_180(sinogram(theta)[angles.order], angles)
    assert len(half) == 180
    expected = sinogram(theta.min() + np.pi * np.arange(180) / 180)
    np.testing.assert_allclose(half, expected, atol=1e-3)


def test_a_dense_scan_is_averaged_to_the_rows_asked_for():
    theta = np.linspace(0, np.pi, 1801)
    half = resample_180(sinogram(theta), sort_angles(theta), n_max=300)
    assert len(half) == 300
    np.testing.assert_allclose(half, sinogram(np.pi * np.arange(300) / 300), atol=2e-3)


@pytest.mark.parametrize("kind", ["ascending", "descending", "shuffled", "full", "720 degrees"])
def test_opposing_rows_are_180_degrees_apart(kind):
    theta = theta_of(kind)
    angles = sort_angles(theta)
    assert angles.reaches_180
    first, second = opposing_rows(sinogram(theta)[angles.order], angles)
    assert len(first) == {"full": 96, "720 degrees": 96}.get(kind, 1)
    np.testing.assert_allclose(second, -first, atol=1e-3)


def test_one_missing_step_is_bridged_from_both_ends():
    theta = theta_of("no end point")
    angles = sort_angles(theta)
    assert not angles.reaches_180
    first, second = opposing_rows(sinogram(theta)[angles.order], angles)
    np.testing.assert_allclose(second, -first, atol=1e-3)
    np.testing.assert_allclose(first, sinogram(np.array([START - angles.step_rad / 2])), atol=1e-3)


def test_a_shorter_scan_has_no_opposing_rows_and_says_what_is_missing():
    theta = np.deg2rad(np.arange(0, 161))
    angles = sort_angles(theta)
    assert np.rad2deg(angles.gap_rad) == pytest.approx(19, abs=0.1)
    first, second = opposing_rows(sinogram(theta), angles)
    assert len(first) == len(second) == 0


@pytest.mark.parametrize("theta", [[1.0], [2.0, 2.0, 2.0]])
def test_a_single_angle_has_neither_step_nor_opposing_rows(theta):
    angles = sort_angles(np.array(theta))
    assert angles.step_rad == 0
    assert len(opposing_rows(sinogram(np.array(theta)), angles)[0]) == 0
