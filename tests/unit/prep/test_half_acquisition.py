"""Half acquisition, against phantoms that are wider than the detector."""

import numpy as np
import pytest

from tests.unit.recon.test_fbp import project as project_disks
from tomopipe.prep.half_acquisition import (
    HalfAcquisition,
    is_half_acquisition,
    warn_of_one_side,
    warn_of_width,
)
from tomopipe.recon.angular_sampling import unpaired
from tomopipe.recon.fbp import reconstruct
from tomopipe.recon.plan import image_positions, make_plan

N_COLS = 128
THETA_RAD = np.linspace(0, 2 * np.pi, 600, endpoint=False)
BODY_PX, BODY = 95.0, 0.01
BEADS = [(0, 0, 7, 0.02), (70, -40, 6, 0.02), (-30, 62, 8, -0.005), (13, 20, 5, 0.02)]


def project(cor_px, theta_rad=THETA_RAD):
    """Line integrals of the body and its beads."""
    disks = np.array([(0, 0, BODY_PX, BODY), *BEADS]) / [N_COLS, N_COLS, N_COLS, 1]
    return project_disks(N_COLS, theta_rad, cor_px, disks)


def slice_of(sinogram, cor_px, theta_rad=THETA_RAD):
    half = HalfAcquisition(sinogram.shape[1], cor_px, unpaired(theta_rad))
    plan = make_plan(theta_rad, 2 * sinogram.shape[1], one_sided=True)
    return reconstruct(half.widen(sinogram[None]), plan, half.wide_cor_px)[0]


def distance_px(image, x=0.0, y=0.0):
    columns, rows = image_positions(len(image))
    return np.hypot(columns[None, :] - x, rows[:, None] - y)


def centroid_px(image, x, y, radius, background):
    weight = np.where(distance_px(image, x, y) < 1.5 * radius, image - background, 0)
    columns, rows = image_positions(len(image))
    return (weight.sum(0) @ columns) / weight.sum(), (weight.sum(1) @ rows) / weight.sum()


def without(first_deg, last_deg):
    """The angles of 360 degrees but for a gap."""
    theta_deg = np.rad2deg(THETA_RAD)
    return THETA_RAD[(theta_deg < first_deg - 1e-6) | (theta_deg > last_deg + 1e-6)]


@pytest.mark.parametrize("cor_px", [20.3, 112.5])
@pytest.mark.parametrize(("gap_deg", "tolerance"), [(10.0, 0.015), (40.0, 0.045)])
def test_a_gap_in_the_turn_costs_little(cor_px, gap_deg, tolerance):
    """Beads to 0.3 px; values low by a few percent, without a step where the overlap ends."""
    theta_rad = without(200.0, 200.0 + gap_deg)
    whole = slice_of(project(cor_px), cor_px)
    image = slice_of(project(cor_px, theta_rad), cor_px, theta_rad)
    away = np.logical_and.reduce([distance_px(image, x, y) > 1.8 * r for x, y, r, _ in BEADS])
    means = []
    for radius in range(6, 84, 3):
        ring = away & (np.abs(distance_px(image) - radius) < 1.5)
        means += [image[ring].mean() / whole[ring].mean()] if ring.sum() > 50 else []
    assert min(means) > 1 - tolerance
    assert max(means) < 1.005
    assert np.abs(np.diff(means)).max() < 0.03
    for x, y, radius, _ in BEADS:
        near = distance_px(image, x, y) < 1.5 * radius
        found, expected = (centroid_px(i, x, y, radius, i[near].min()) for i in (image, whole))
        np.testing.assert_allclose(found, expected, atol=0.3)  # on a slope


def test_a_part_of_larger_steps_is_no_gap():
    """Steps of 2 degrees after those of 0.5: values to 1 %."""
    theta_rad = np.deg2rad(np.concatenate([np.arange(0, 270, 0.5), np.arange(270, 360, 2)]))
    assert not unpaired(theta_rad).any()
    image, whole = (
        slice_of(project(20.3, theta_rad), 20.3, theta_rad),
        slice_of(project(20.3), 20.3),
    )
    for radius in range(6, 84, 6):
        ring = np.abs(distance_px(image) - radius) < 3
        assert image[ring].mean() == pytest.approx(whole[ring].mean(), rel=0.01)


@pytest.mark.parametrize(
    ("mode", "full_rotation", "cor_px", "expected"),
    [
        ("auto", True, 31.0, True),
        ("auto", True, 97.0, True),
        ("auto", True, 40.0, False),
        ("auto", False, 10.0, False),
        ("yes", True, 60.0, True),
        ("no", True, 5.0, False),
    ],
)
def test_it_is_recognised_from_the_angles_and_the_axis(mode, full_rotation, cor_px, expected):
    found = is_half_acquisition(
        mode, full_rotation=full_rotation, cor_px=cor_px + 7, n_cols=N_COLS, first_col=7
    )
    assert found is expected


@pytest.mark.parametrize(
    ("cor_px", "radius_px", "up_to_px"),
    [(40.0, 95, "88"), (88.0, 95, "88"), (40, 75, "88"), (40, 55, ""), (64, 95, ""), (20, 95, "")],
    ids=["left", "right", "a little", "sample within", "axis in the middle", "half acquisition"],
)
def test_a_sample_recorded_beyond_the_slices_is_told(cor_px, radius_px, up_to_px):
    away = np.arange(N_COLS) - cor_px
    line = 0.01 * 2 * np.sqrt(np.clip(radius_px**2 - away**2, 0, None))
    noisy = line + np.random.default_rng(0).normal(0, 0.05, (2, 30, N_COLS))
    found = warn_of_width(noisy.astype(np.float32), cor_px)
    assert [text[-54:] for text in found] == (
        [f"to {up_to_px} px: preprocess.half_acquisition: yes widens them"] if up_to_px else []
    )


@pytest.mark.parametrize(
    ("cor_px", "radius_px", "covered_deg", "says", "is_doubt"),
    [
        (110.0, 70, 185, "right edge of the detector, 18 px", True),
        (20.0, 70, 250, "left edge of the detector, 20 px", True),
        (20.0, 150, 180, "left edge of the detector, 20 px", True),  # beyond both edges
        (90.0, 55, 180, "right edge of the detector, 38 px", False),
        (80.0, 200, 180, "", False),  # beyond both edges
        (66.0, 63, 180, "", False),
        (110.0, 12, 180, "", False),
        (110.0, 70, 310, "", False),
    ],
    ids=["right", "left", "wide", "inner", "middle part", "middle", "within", "turn"],
)
def test_a_sample_beyond_one_edge_is_told(cor_px, radius_px, covered_deg, says, is_doubt):
    away = np.arange(N_COLS) - cor_px
    line = 0.01 * 2 * np.sqrt(np.clip(radius_px**2 - away**2, 0, None))
    noisy = line + np.random.default_rng(0).normal(0, 0.05, (2, covered_deg + 1, N_COLS))
    theta_rad = np.deg2rad(np.arange(covered_deg + 1))
    text, spoils = warn_of_one_side(noisy.astype(np.float32), theta_rad, cor_px)
    assert bool(text) is bool(says)
    assert says in text
    assert not text or f"cover {covered_deg} of 360" in text
    assert spoils is is_doubt
