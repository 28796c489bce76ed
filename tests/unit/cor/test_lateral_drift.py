"""A sample that drifts sideways is detected, as is a stage that turns unevenly; others are not."""

import numpy as np
import pytest
from find_rows import rows_of, scan

from tomopipe.cor.lateral_drift import leaves_path, opposing_course, warn_of_drift
from tomopipe.cor.prepared import Prepared

pytestmark = pytest.mark.slow

N_COLS, COR_PX = 256, 131.3

THETA_DEG = np.linspace(0, 180, 181)
TURN_DEG = np.linspace(0, 360, 361)


def drifting(
    moved_px=0.0, theta_deg=THETA_DEG, *, more_deg=0.0, cut=0, dust=0.0, counts=20000, **options
):
    """Rows of a scan whose axis is so far right at each angle, a part of each side cut off.

    The stage is `more_deg` beyond the stated angles; `dust` is the strength of what stays in its
    columns.
    """
    true_deg = theta_deg + more_deg
    lines = scan(COR_PX, n_cols=N_COLS, theta_deg=true_deg, counts=counts, **options)
    columns = np.arange(N_COLS)
    off_px = np.broadcast_to(moved_px, len(theta_deg))
    for frame, right_px in zip(lines, off_px, strict=True):
        for row in frame:
            row[:] = np.interp(columns - right_px, columns, row)
    lines += np.float32(dust) * np.random.default_rng(1).normal(size=N_COLS // 8).repeat(8)
    return Prepared(rows_of(lines[..., cut : N_COLS - cut], theta_deg, pairs=False))


def off_path(theta_deg, moved_px):
    """How far 16 parts of a scan are off the path of the still sample that fits them best."""
    theta_rad = np.deg2rad(theta_deg)
    paths = np.stack([np.ones_like(theta_rad), np.cos(theta_rad), np.sin(theta_rad)], axis=1)
    off_px = moved_px - paths @ np.linalg.lstsq(paths, moved_px)[0]
    return [np.median(part) for part in np.array_split(off_px, 16)]


@pytest.mark.parametrize(
    ("theta_deg", "moved_px"),
    [
        (THETA_DEG, np.linspace(-16, 16, 181)),
        (180 - THETA_DEG, np.linspace(-16, 16, 181)),
        (THETA_DEG, 26 * np.clip(np.linspace(-1, 1, 181), 0, 1) - 13),
        (TURN_DEG, np.linspace(0, -8, 361)),
        (np.delete(TURN_DEG, range(60, 90)), 3 * np.sin(np.linspace(0, 15, 331))),
    ],
    ids=["steady", "backwards", "half of it", "360", "gap"],
)
def test_the_centre_of_mass_shows_what_no_still_sample_explains(theta_deg, moved_px):
    prepared = drifting(moved_px, theta_deg)
    found_px, true_px = leaves_path(prepared), off_path(theta_deg, moved_px)
    assert found_px == pytest.approx(true_px, abs=0.25)
    warning = warn_of_drift(prepared, COR_PX)
    assert warning.startswith("the sample or the axis drifted sideways during the scan")
    assert f"a still sample by up to {np.abs(found_px).max():.1f} px;" in warning


@pytest.mark.parametrize(("cut", "dust"), [(0, 0), (60, 0), (60, 0.3)])
def test_opposing_projections_show_an_axis_that_moves(cut, dust):
    prepared = drifting(np.linspace(0, 8, 361), TURN_DEG, cut=cut, dust=dust)
    course_px = opposing_course(prepared, COR_PX + 4 - cut).axis_px.mean(axis=0)
    # of t and t + 180 degrees it is the mean, in the middles of eight parts
    assert course_px == pytest.approx((np.arange(8) + 0.5) / 2 - 2, abs=0.35)
    if cut:
        assert leaves_path(prepared) is None
        warning = warn_of_drift(prepared, COR_PX + 4 - cut)
        assert "opposing projections match moves by 3." in warning


@pytest.mark.parametrize(("cut", "evidence"), [(0, "centre of mass"), (60, "axis about which")])
def test_a_drift_of_3_px_over_360_degrees_is_detected(cut, evidence):
    prepared = drifting(np.linspace(0, 3, 361), TURN_DEG, cut=cut)
    assert evidence in warn_of_drift(prepared, COR_PX + 1.5 - cut)


EVEN, LATER = TURN_DEG / 360, TURN_DEG > 246
UNEVEN_DEG = {"speed": 1.5 * np.sin(np.pi * EVEN), "missing": 2 * (LATER - EVEN)}


@pytest.mark.parametrize("more_deg", UNEVEN_DEG.values(), ids=UNEVEN_DEG)
@pytest.mark.parametrize("cut", [0, 60])
def test_opposing_projections_show_angles_that_are_off(more_deg, cut):
    prepared = drifting(theta_deg=TURN_DEG, more_deg=more_deg, cut=cut)
    found_deg = opposing_course(prepared, COR_PX - cut).angle_deg.mean(axis=0)
    # the later one of a pair is where it should be at another angle
    true_deg = more_deg[:180] - more_deg[180:360]
    parts_deg = [part.mean() for part in np.array_split(true_deg, 8)]
    assert found_deg == pytest.approx(parts_deg, abs=0.25)
    text = warn_of_drift(prepared, COR_PX - cut)
    assert text.startswith("the stage turned unevenly, or projections are missing")
    assert f" up to {np.abs(found_deg).max():.1f} degrees from 180 " in text


HARMLESS = {
    "still": {},
    "elsewhere": {"moved_px": 12 * np.cos(np.deg2rad(THETA_DEG))},  # the sample
    "nearly": {"moved_px": np.linspace(0, 8, 181)},  # as steady a drift is, over 180 degrees
    "little": {"moved_px": np.linspace(0, 1.5, 361), "theta_deg": TURN_DEG},
    "trembles": {"moved_px": np.random.default_rng(0).normal(0, 1, 181)},
    "noise": {"counts": 60},
    "noise, truncated": {"theta_deg": TURN_DEG, "cut": 60, "counts": 60},
    "truncated": {"theta_deg": TURN_DEG, "cut": 60},
    "truncated, 180": {"cut": 60},
    "uneven by little": {"theta_deg": TURN_DEG, "more_deg": 0.3 * np.sin(np.pi * EVEN)},
    "gap": {"theta_deg": np.delete(TURN_DEG, range(60, 90))},
    "few": {"moved_px": np.linspace(0, 20, 40), "theta_deg": np.linspace(0, 180, 40)},
    "golden": {"theta_deg": TURN_DEG * 137.5 % 360},
}


@pytest.mark.parametrize("options", HARMLESS.values(), ids=HARMLESS)
def test_what_does_no_harm_is_not_reported(options):
    prepared = drifting(**options)
    assert warn_of_drift(prepared, COR_PX - (60 if prepared.n_cols < N_COLS else 0)) == ""


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_projections_without_a_picture_are_no_drift(value):
    prepared = drifting(theta_deg=TURN_DEG)
    prepared.rows.sinograms[:, 60:66] = value
    assert warn_of_drift(prepared, COR_PX) == ""
    prepared.rows.sinograms[:] = value
    assert warn_of_drift(Prepared(prepared.rows), COR_PX) == ""
