"""Half turns and opposing rows from angles of any start, order and direction."""

import numpy as np
import pytest

from tomopipe.cor.angle_order import half_turn, opposing_rows, turn_of

START = 0.7


def sinogram(theta_rad):
    """One slow wave per column: its value at any angle is known."""
    return np.cos(theta_rad[:, None] + np.arange(5)).astype(np.float32)


def angles(kind):
    half, full = np.linspace(0, np.pi, 181), np.linspace(0, 2 * np.pi, 361)
    return (
        START
        + {
            "ascending": half,
            "descending": -half,
            "shuffled": np.random.default_rng(0).permutation(half),
            "no end point": half[:-1],
            "full": full,
            "two turns": np.arange(720) * np.pi / 180,
        }[kind]
    )


KINDS = ["ascending", "descending", "shuffled", "no end point", "full", "two turns"]


@pytest.mark.parametrize("kind", KINDS)
def test_order_and_step(kind):
    theta = angles(kind)
    turn = turn_of(theta)
    assert turn.step_rad == pytest.approx(np.pi / 180, rel=1e-6)
    assert turn.theta_rad[0] == 0
    assert (np.diff(turn.theta_rad) >= 0).all()
    assert turn.gap_rad == 0
    # up to whole turns
    steps = np.exp(1j * (theta[turn.order] - theta.min() - turn.theta_rad))
    np.testing.assert_allclose(steps, 1, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_half_a_turn_on_an_even_grid_without_its_end(kind):
    theta = angles(kind)
    turn = turn_of(theta)
    half = half_turn(sinogram(theta)[turn.order], turn)
    assert len(half) == 180
    expected = sinogram(theta.min() + np.pi * np.arange(180) / 180)
    np.testing.assert_allclose(half, expected, atol=1e-3)


def test_a_dense_scan_is_averaged_to_the_rows_asked_for():
    theta = np.linspace(0, np.pi, 1801)
    half = half_turn(sinogram(theta), turn_of(theta), n_max=300)
    assert len(half) == 300
    np.testing.assert_allclose(half, sinogram(np.pi * np.arange(300) / 300), atol=2e-3)


@pytest.mark.parametrize("kind", ["ascending", "descending", "shuffled", "full", "two turns"])
def test_opposing_rows_are_half_a_turn_apart(kind):
    theta = angles(kind)
    turn = turn_of(theta)
    assert turn.closes
    first, second = opposing_rows(sinogram(theta)[turn.order], turn)
    assert len(first) == {"full": 96, "two turns": 96}.get(kind, 1)
    np.testing.assert_allclose(second, -first, atol=1e-3)


def test_one_missing_step_is_bridged_from_both_ends():
    theta = angles("no end point")
    turn = turn_of(theta)
    assert not turn.closes
    first, second = opposing_rows(sinogram(theta)[turn.order], turn)
    np.testing.assert_allclose(second, -first, atol=1e-3)
    np.testing.assert_allclose(first, sinogram(np.array([START - turn.step_rad / 2])), atol=1e-3)


def test_a_shorter_scan_has_no_opposing_rows_and_says_what_lacks():
    theta = np.deg2rad(np.arange(0, 161))
    turn = turn_of(theta)
    assert np.rad2deg(turn.gap_rad) == pytest.approx(19, abs=0.1)
    first, second = opposing_rows(sinogram(theta), turn)
    assert len(first) == len(second) == 0


@pytest.mark.parametrize("theta", [[1.0], [2.0, 2.0, 2.0]])
def test_a_single_angle_has_neither_step_nor_opposing_rows(theta):
    turn = turn_of(np.array(theta))
    assert turn.step_rad == 0
    assert len(opposing_rows(sinogram(np.array(theta)), turn)[0]) == 0
