"""The windows of the DINOv2 classifiers, against the program that they were trained for."""

import numpy as np
import pytest

from tomopipe.cor.ai.dinov2_windows import cut_windows, window_corners


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size_px", "window_px", "corners"),
    [
        (600, 518, [(52, 81), (0, 81), (64, 0)]),
        (1001, 518, [(173, 64), (17, 209), (35, 266)]),
        (2048, 518, [(1059, 53), (0, 315), (1149, 956)]),
        (300, 224, [(0, 27), (75, 55), (9, 0)]),
    ],
)
def test_corners_are_those_that_tomo_center_draws(size_px, window_px, corners):
    """The truth is what `tomo-center find` drew for these sizes, with its seed 10."""
    assert window_corners(size_px, window_px, 3).tolist() == [list(corner) for corner in corners]


def test_the_global_generator_is_left_alone():
    before = np.random.get_state()[1].copy()
    window_corners(600, 224, 3)
    assert (np.random.get_state()[1] == before).all()


@pytest.mark.parametrize("size_px", [225, 301, 640])
def test_windows_lie_inside_and_about_points_of_the_circle(size_px):
    corners = window_corners(size_px, 224, 40)
    assert corners.min() >= 0
    assert corners.max() <= size_px - 224 - 1
    free = (corners > 0).all(axis=1) & (corners < size_px - 225).all(axis=1)
    middle = corners[free] + 112 - (size_px - 1) / 2
    assert (np.hypot(*middle.T) <= size_px / 2).all()


def test_a_single_window_is_in_the_middle():
    assert window_corners(600, 518, 1).tolist() == [[41, 41]]


def test_a_window_that_does_not_fit_is_an_error():
    with pytest.raises(ValueError, match="more than 518 px, got 518"):
        window_corners(518, 518, 3)


def test_grey_values_span_0_to_1_in_steps_of_1_255():
    image = np.linspace(-3, 7, 40 * 40).reshape(40, 40)
    windows = cut_windows(image, np.array([[0, 0], [12, 12]]), 28)
    assert windows.dtype == np.float32
    assert windows.shape == (2, 28, 28)
    assert (windows[0, 0, 0], windows[1, 27, 27]) == (0, pytest.approx(1, abs=1 / 254))
    assert windows * 255 == pytest.approx(np.round(windows * 255), abs=1e-4)
    # Rounded down, as by the cast of the original.
    share = (image[5, 9] + 3) / 10
    assert windows[0, 5, 9] == pytest.approx(np.floor(share * 255) / 255)


def test_a_constant_slice_is_black():
    assert not cut_windows(np.full((40, 40), 5.0), np.array([[0, 0]]), 28).any()
