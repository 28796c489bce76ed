import numpy as np
import pytest

from tests.phantoms import make_phantom, project, sphere
from tomopipe.cor.angular_range import proven_stop_deg, wider_range_deg
from tomopipe.simulate.phantom import Phantom

pytestmark = pytest.mark.slow

N_COLS, N_ROWS = 128, 6


def rows_of(theta_deg, *, cor_px=66.4, phantom=None, noise=0.01, moved_px=None, seed=0):
    """Noisy rows (n_rows, n_angles, n_cols) of a rock; `moved_px` shifts each projection."""
    phantom = phantom or make_phantom("rock", N_COLS, N_ROWS, seed)
    lines = project(phantom, np.deg2rad(theta_deg), cor_px, N_ROWS, N_COLS, threads=1)
    if moved_px is not None:
        columns = np.arange(N_COLS)
        for image, by_px in zip(lines, moved_px, strict=True):
            image[:] = [np.interp(columns - by_px, columns, row) for row in image]
    lines = lines + np.random.default_rng(seed).normal(0, noise, lines.shape)
    return lines.transpose(1, 0, 2).astype(np.float32)


@pytest.mark.parametrize("endpoint", [True, False])
@pytest.mark.parametrize(
    ("range_deg", "n_angles"), [(180, 181), (360, 200), (540, 151), (720, 300)]
)
def test_ranges_with_and_without_their_end(range_deg, n_angles, endpoint):
    theta_deg = np.linspace(0, range_deg, n_angles, endpoint=endpoint)
    assert proven_stop_deg(rows_of(20 + theta_deg)) == pytest.approx(theta_deg[-1])


@pytest.mark.parametrize("range_deg", [180, 360])
def test_the_other_direction_says_the_same(range_deg):
    assert proven_stop_deg(rows_of(np.linspace(range_deg, 0, 181))) == range_deg


def test_a_region_of_interest_with_the_axis_off_the_middle():
    rock = make_phantom("rock", 220, N_ROWS, 3)
    for range_deg in (180, 360):
        theta_deg = np.linspace(0, range_deg, 240, endpoint=False)
        stop_deg = proven_stop_deg(rows_of(theta_deg, cor_px=70.0, phantom=rock))
        assert stop_deg == pytest.approx(theta_deg[-1]) or (stop_deg == 0 and range_deg == 180)


@pytest.mark.parametrize("range_deg", [140, 179.5, 200, 270, 450])
def test_other_ranges_are_not_proven(range_deg):
    assert proven_stop_deg(rows_of(np.linspace(0, range_deg, 221))) == 0


@pytest.mark.parametrize("seed", range(6))
def test_what_moved_is_proven_rightly_or_not_at_all(seed):
    """Drift by 1 px, which at the rim looks like one step or two."""
    rng = np.random.default_rng(seed)
    range_deg, endpoint = (180, 360, 540)[seed % 3], bool(seed % 2)
    n_angles = 360 + seed
    theta_deg = np.linspace(0, range_deg, n_angles, endpoint=endpoint)
    moved_px = rng.choice([-1, 1]) * np.linspace(0, 1, n_angles)
    stop_deg = proven_stop_deg(rows_of(theta_deg, moved_px=moved_px, seed=seed))
    assert stop_deg == 0 or stop_deg == pytest.approx(theta_deg[-1])


def test_a_sample_that_repeats_itself_is_not_proven():
    """Six equal beads about the axis look the same after 60 degrees: 180 may be 540."""
    angles = np.deg2rad(np.arange(0, 360, 60))
    beads = [sphere(40 * np.cos(a), 40 * np.sin(a), N_ROWS / 2, 8, 0.02) for a in angles]
    six = Phantom("six", (*beads, sphere(0, 0, N_ROWS / 2, 20, 0.005)))
    assert proven_stop_deg(rows_of(np.linspace(0, 180, 181), phantom=six)) == 0


def test_nothing_to_see_proves_nothing():
    noise = np.random.default_rng(0).normal(0, 0.01, (3, 120, 64)).astype(np.float32)
    assert proven_stop_deg(noise) == 0
    assert proven_stop_deg(np.zeros((2, 50, 64))) == 0
    assert proven_stop_deg(rows_of(np.linspace(0, 180, 10))) == 0  # too few


@pytest.mark.parametrize(("true_deg", "stated_deg"), [(180, 90), (360, 180), (360, 270)])
def test_a_range_wider_than_the_stated_one_is_found(true_deg, stated_deg):
    rows = rows_of(np.linspace(0, true_deg, 361))
    assert wider_range_deg(rows, stated_deg, 66.4) == true_deg
    assert wider_range_deg(rows, true_deg, 66.4) == 0


@pytest.mark.parametrize("noise", [0.0, 0.02])
@pytest.mark.parametrize("range_deg", [100, 135, 180, 200])
def test_a_stated_range_that_is_right_is_not_contradicted(range_deg, noise):
    """Not of samples that come again within it either."""
    angles = np.deg2rad(np.arange(0, 360, 90))
    parts = [sphere(40 * np.cos(a), 40 * np.sin(a), N_ROWS / 2, 8, 0.02) for a in angles]
    round_one = [sphere(0, 0, N_ROWS / 2, 50, 0.005)]
    for sample in (None, Phantom("beads", tuple(parts)), Phantom("ball", tuple(round_one))):
        for n_angles in (61, 361):
            theta_deg = np.linspace(0, range_deg, n_angles)
            rows = rows_of(theta_deg, phantom=sample, noise=noise)
            assert wider_range_deg(rows, range_deg, 66.4) == 0
