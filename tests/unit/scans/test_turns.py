"""Turns that a scan repeats, from its angles alone."""

import numpy as np
import pytest

from tomopipe.scans.turns import find_turns

HALF, RNG = np.arange(180.0), np.random.default_rng(0)


@pytest.mark.parametrize(
    ("theta_deg", "words", "skip"),
    [
        (np.tile(HALF, 4), "4 turns of 180 degrees", "[180, 719]"),
        (np.tile(np.linspace(0, 180, 181), 3), "3 turns of 180 degrees", "[181, 542]"),
        (np.tile(-HALF, 3), "3 turns of 180 degrees", "[180, 539]"),
        (np.r_[HALF, HALF[::-1], HALF], "3 turns of 180 degrees", "[180, 539]"),
        (np.tile(np.arange(0, 360, 0.5), 2), "2 turns of 360 degrees", "[720, 1439]"),
        (np.r_[np.tile(HALF, 2), HALF[:45]], "2 turns of 180 degrees", "[180, 404]"),
        (np.tile(HALF, 4) + RNG.normal(0, 0.05, 720), "4 turns of 180 degrees", "[180, 719]"),
        (np.linspace(0, 720, 721), "2 turns of 360 degrees", "[360, 720]"),
        (np.linspace(0, 1440, 720), "4 turns of 360 degrees", "[180, 719]"),
        (-np.arange(0, 1081, 0.7), "3 turns of 360 degrees", "[515, 1544]"),
        ((np.arange(720.0) + 30) % 360, "2 turns of 360 degrees", "[360, 719]"),
        (np.arange(540.0), "3 turns of 180 degrees", "[180, 539]"),
        (-np.arange(0, 541, 2.0), "3 turns of 180 degrees", "[90, 270]"),
    ],
)
def test_turns_are_counted_and_the_first_one_can_be_used_alone(theta_deg, words, skip):
    turns = find_turns(theta_deg)
    assert str(turns) == f"{words} in one file"
    numbers = np.arange(len(theta_deg))
    assert f"{{skip_projections: [{skip}]}}" in turns.first_alone(numbers)
    for members in turns.members:
        assert np.all(np.diff(turns.theta_deg[members]) > 0)


@pytest.mark.parametrize(
    ("theta_deg", "words", "skip"),
    [
        (np.arange(0, 540, 0.75), "1.5 turns of 360 degrees", "[480, 719]"),
        (-np.arange(0, 541, 2.0), "1.5 turns of 360 degrees", "[180, 270]"),
        (np.arange(720.0), "2 turns of 360 degrees", "[360, 719]"),
    ],
)
def test_of_half_acquisition_a_turn_is_360_degrees(theta_deg, words, skip):
    turns = find_turns(theta_deg, is_half=True)
    assert str(turns) == f"{words} in one file"
    assert f"{{skip_projections: [{skip}]}}" in turns.first_alone(np.arange(len(theta_deg)))


@pytest.mark.parametrize(
    "theta_deg",
    [
        np.arange(181.0),
        np.arange(361.0),
        np.arange(500.0),
        np.r_[0:180:2, 1:180:2].astype(float),  # interlaced
        np.concatenate([np.arange(k, 180, 4.0) for k in (0, 2, 1, 3)]),
        np.concatenate([np.arange(90) * 4.0 + 360 * k + k for k in range(4)]),
        (np.arange(400) * 111.246) % 180,  # golden ratio
        np.arange(400) * 111.246,
        (np.arange(400) * 137.508) % 360,
        RNG.permutation(HALF),
        np.r_[np.arange(181.0), 0, 90, 180],  # repeat projections
        np.r_[np.arange(181.0), np.arange(0, 181, 30)],
        np.r_[np.arange(90.0, 180), np.arange(90.0)],
        np.array([]),
        np.array([np.nan, 1.0, 2.0]),
        np.r_[HALF, np.inf, HALF],
        np.zeros(50),
    ],
)
def test_other_orders_are_no_turns(theta_deg):
    assert find_turns(np.asarray(theta_deg, float)) is None
