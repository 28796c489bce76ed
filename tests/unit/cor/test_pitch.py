"""The lean of the axis along the beam, on spheres that go up and down as they turn."""

import numpy as np
import pytest

from tests.phantoms import sphere
from tomopipe.cor.pitch import Pitch, pitch_of, quarter_frames
from tomopipe.simulate.phantom import Phantom, project

N_ROWS, N_COLS, COR_PX = 160, 128, 66.2


def spheres(reach_px=40, seed=0):
    rng = np.random.default_rng(seed)
    at = rng.uniform(-1, 1, (100, 2))
    at = at[np.hypot(*at.T) < 1] * reach_px
    rows = rng.uniform(0, N_ROWS, len(at))
    return [
        sphere(x, y, row, rng.uniform(3, 6), 0.03) for (x, y), row in zip(at, rows, strict=True)
    ]


def seen(pitch_deg, parts, theta_rad, roll_px=0.0, rows=0.0):
    """Line integrals of parts whose depth moves them up, on a detector that is rolled."""
    moved = []
    for part in parts:
        depth = -part.x_px * np.sin(theta_rad) - part.y_px * np.cos(theta_rad)
        column = part.x_px * np.cos(theta_rad) - part.y_px * np.sin(theta_rad)
        up = np.tan(np.deg2rad(pitch_deg)) * depth
        one = Phantom("", (part,)).moved(rows=rows - up + roll_px * column)
        moved += one.ellipsoids
    return project(Phantom("", tuple(moved)), [theta_rad], COR_PX, N_ROWS, N_COLS)[0]


def measured(pitch_deg, parts, noise=0.02, sign=1, **others):
    angles = (0.3, 0.3 + np.pi, 0.3 + sign * np.pi / 2)
    images = np.array([seen(pitch_deg, parts, theta, **others) for theta in angles], np.float32)
    images += np.random.default_rng(1).normal(0, noise, images.shape).astype(np.float32)
    return pitch_of(images[None, :2], images[2:], np.array([sign]), N_ROWS)


@pytest.mark.parametrize("pitch_deg", [0.3, -1.0, 3.0])
@pytest.mark.parametrize("others", [{}, {"roll_px": 0.01}, {"sign": -1}], ids=str)
def test_a_pitch_is_measured_with_its_error(pitch_deg, others):
    pitch = measured(pitch_deg, spheres(), **others)
    assert pitch.deg == pytest.approx(pitch_deg, abs=max(5 * pitch.error_deg, 0.1 * abs(pitch_deg)))
    assert pitch.error_deg < 0.2 * max(1, abs(pitch_deg))
    assert pitch.rim_px == pytest.approx(np.deg2rad(abs(pitch.deg)) * 45, rel=0.2)
    assert bool(pitch.doubt) == (abs(pitch_deg) >= 1)


@pytest.mark.parametrize("seed", range(5))
def test_an_upright_axis_does_not_lean(seed):
    pitch = measured(0.0, spheres(seed=seed), roll_px=0.005)
    assert abs(pitch.deg) < 5 * pitch.error_deg
    assert pitch.doubt == ""


def test_noise_does_not_hide_a_pitch_as_none():
    """Moments of noise make a slope smaller: then it is not known, or its error says so."""
    pitch = measured(2.0, spheres(), noise=0.5)
    assert pitch is None or abs(pitch.deg - 2.0) < 4 * pitch.error_deg


@pytest.mark.parametrize(
    "parts",
    [spheres(reach_px=75), [], [sphere(5, 3, N_ROWS / 2, 2000, 1e-5)]],
    ids=["beyond the field", "nothing", "the same in all rows"],
)
def test_where_it_cannot_be_measured_nothing_is_said(parts):
    assert measured(1.0, parts) is None


def test_the_sentence_has_what_moves():
    assert (
        "by 0.50 +- 0.01 degrees: the rim of the sample moves by 0.9 px"
        in Pitch(-0.5, 0.01, 0.9).doubt
    )
    assert Pitch(0.5, 0.11, 0.9).doubt == Pitch(0.2, 0.01, 0.4).doubt == ""


def test_frames_a_quarter_of_a_turn_later():
    theta_rad = np.deg2rad(np.arange(0, 181, 2))
    frames, signs = quarter_frames(theta_rad, np.deg2rad([[0, 180], [180, 360], [21, 201]]))
    assert frames.tolist() == [45, 45, 55]
    assert signs.tolist() == [1, -1, 1]
    assert quarter_frames(theta_rad[:30], np.deg2rad([[0, 180]]))[1].tolist() == [0]
