"""Lists of angles, and frames that the camera dropped."""

import re

import h5py
import numpy as np
import pytest

from tomopipe.errors import ScanError
from tomopipe.scans.angle_lists import (
    by_number,
    count_periods,
    other_unit,
    planned_frames,
    read_angles,
    span_deg,
    unwrapped,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0\n0.5\n1\n", [0, 0.5, 1]),
        ("file,angle_deg\na.tif,0\nb.tif,90\n", [0, 90]),
        ("frame;Theta\n1;0\n2;90\n", [0, 90]),
        ("n\ttheta_rad\n1\t0\n2\t1.5707963267948966\n", [0, 90]),
        ("frame theta\n1 0.0\n2 90.0\n", [0, 90]),
        ("\ufeff0\r\n-1e1\r\n", [0, -10]),
        ("# index angle\n0 0.0\n1 90.0\n", [0, 90]),  # as numpy.savetxt writes it
        ("# by me\n# angle_rad, n\n0, 1\n1.5707963267948966, 2\n", [0, 90]),
        ("# angle_rad\n0\n90\n", [0, 90]),  # of one column a remark
        ("# the angle of each image\n0 0.0\n1 90.0\n", None),
        ("% n angle\n0 0.0\n1 90.0\n", [0, 90]),
        ("Nr;Angle\n1;0,5\n2;90,25\n", [0.5, 90.25]),
        ("Nr\tAngle\n1\t-0,5\n", [-0.5]),
        ("n,angle,remark\n1,0,\n2,90,late\n", [0, 90]),
        ("theta omega\n0 1\n", None),
        ("", None),
        ("# nothing\n", None),
    ],
)
def test_lists_of_angles(tmp_path, text, expected):
    path = tmp_path / "angles.txt"
    path.write_text(text, encoding="utf-8", newline="")
    if expected is None:
        with pytest.raises(ScanError, match=r"angles\.txt"):
            read_angles(path)
    else:
        assert np.allclose(read_angles(path), expected)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("0,000\n1,000\n", "line 1 is '0,000': write a decimal point, 0.000"),
        ("1 0.0\n2 90.0\n", "line 1 is '1 0.0'"),
        ("angle\n0\n\n0,5\n", "line 4 is '0,5'; expected one angle, a number with a decimal point"),
        ("n,angle\n1,0\n2,0,5\n", "line 3 is '2,0,5'; expected one angle in column angle, a num"),
        ("0\n% half way\n90 deg\n", "line 3 is '90 deg'; expected one angle, a number"),
    ],
)
def test_a_bad_line_is_named(tmp_path, text, reason):
    path = tmp_path / "angles.txt"
    path.write_text(text)
    with pytest.raises(ScanError, match=re.escape(reason)) as caught:
        read_angles(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_no_list(tmp_path):
    with pytest.raises(ScanError, match=r"cannot be read \(.*\): copy it there, or set"):
        read_angles(tmp_path / "gone.txt")
    with h5py.File(tmp_path / "angles.h5", "w") as file:
        file["angles"] = np.arange(5.0)
    with pytest.raises(ScanError, match=r"angles\.h5: a list of angles must be UTF-8 text; of an"):
        read_angles(tmp_path / "angles.h5")


@pytest.mark.parametrize(
    ("span", "n", "unit"),
    [
        (np.pi, 31, "rad"),
        (np.pi * 30 / 31, 31, "rad"),  # the last step is left out
        (-2 * np.pi, 720, "rad"),
        (648_000, 181, "arcsec"),
        (179_006, 181, "mdeg"),
    ],
)
def test_spans_that_are_turns_in_another_unit_cannot_be_degrees(span, n, unit):
    angles = np.linspace(10, 10 + span, n)
    angles[[1, 3]] = angles[[3, 1]]
    fault, warning = other_unit(np.append(angles, np.nan))
    assert fault.startswith(f"angles look like {unit} (span ")
    assert fault.endswith(f"set input.angle_unit: {unit}, or deg if they are degrees")
    assert not warning


@pytest.mark.parametrize("scale", [10, 100])
@pytest.mark.parametrize("n_angles", [180, 181, 361])
def test_tenths_and_hundredths_of_degrees_are_a_warning(scale, n_angles):
    even = np.linspace(0, 180, n_angles, endpoint=n_angles % 2 == 1)
    fault, warning = other_unit(scale * even)
    assert fault == ""
    assert f"if their unit is 1 / {scale} degree, set input.angles: {{start: 0, stop: " in warning
    assert warning.endswith("stop: 180} (stop: of the last projection)")


def test_turns_in_usual_steps_are_none():
    for theta_deg in (np.linspace(0, 1800, 1801), np.linspace(0, 1800, 61), 137.5 * np.arange(132)):
        assert "if their unit" not in other_unit(theta_deg)[1]


@pytest.mark.parametrize(
    ("spans", "warned"),
    [((0, 10, 60, 179, 180, 360, 720, 6120), ""), ((2.2, 3.3, 5.0), "rad"), ((170_000,), "mdeg")],
)
def test_spans_that_may_be_degrees(spans, warned):
    for span in spans:
        fault, warning = other_unit(np.linspace(0, span, 901))
        assert not fault
        assert warning.startswith("the angles cover ") == bool(warned)
        assert warned in warning


@pytest.mark.parametrize("step", [0.5, -0.25])
def test_one_jump_by_360_degrees_is_taken_out(step):
    even = 350 + step * np.arange(361)
    even[[0, 7]] = np.nan
    for lowest in (-180, 0):
        found = unwrapped((even - lowest) % 360 + lowest)
        assert np.ptp((found - even)[np.isfinite(even)]) == pytest.approx(0, abs=1e-9)
        assert np.isnan(found[7])


@pytest.mark.parametrize(
    "angles",
    [
        np.arange(0, 360.0),
        np.arange(0, 1080.0) % 360,
        111.246 * np.arange(50) % 360,
        np.concatenate([np.arange(first, 360, 8.0) for first in (0, 4, 2, 6)]),
        np.append(np.arange(0, 340.0), np.zeros(3)),
        [],
        [np.nan, 350],
    ],
    ids=["none", "three rotations", "golden", "interlaced", "aborted", "empty", "one"],
)
def test_other_angles_stay_as_they_are(angles):
    theta_deg = np.asarray(angles, float)
    assert unwrapped(theta_deg) is theta_deg


def test_odd_lists_have_no_span():
    for angles in ([], [np.nan], [3.0], [np.nan, 1.0]):
        assert other_unit(np.array(angles)) == ("", "")
        assert span_deg(np.array(angles)) == 0
    assert span_deg(np.array([0, np.nan, 60, 120])) == 180


@pytest.mark.parametrize(
    ("ids", "n_planned", "expected"),
    [
        ([0, 1, 3, 4], 5, [0, 1, 3, 4]),
        ([10, 11, 13, 14], 5, [0, 1, 3, 4]),
        ([0, 1, 2], 5, None),  # two of five at an end: aborted
        ([0, 1, 5], 5, None),  # beyond the last angle
        ([0, 2, 2], 4, None),
        ([], 4, None),
        ([0.0, np.nan], 4, None),
        (np.delete(np.arange(1000), [5, 500, 998, 999]), 1000, "as given"),
        (np.arange(989), 1000, None),
    ],
)
def test_place_of_frames_that_arrived(ids, n_planned, expected):
    found = planned_frames(ids, n_planned)
    if expected is None:
        assert found is None
    else:
        assert found.tolist() == list(ids if isinstance(expected, str) else expected)


EVEN_DEG = 10.0 * np.arange(6)


def test_frames_stored_in_another_order_have_the_angles_of_their_numbers():
    ids = np.array([8, 7, 9, 12, 10, 11])
    theta_deg, warning = by_number(EVEN_DEG, ids, [5, 6, *ids])
    assert theta_deg.tolist() == [10, 0, 20, 50, 30, 40]
    assert warning.startswith("frames stored in another order than taken (4 jumps of ")


def test_numbers_that_are_missing_beside_a_full_list_of_angles_are_a_warning():
    ids = [0, 1, 2, 5, 6, 7]
    theta_deg, warning = by_number(EVEN_DEG, ids, ids)
    assert theta_deg is EVEN_DEG
    assert warning.startswith("2 numbers of frames are missing, the first after projection 2, ")
    assert by_number(EVEN_DEG, ids, np.arange(8)) == (EVEN_DEG, "")  # those of flats


@pytest.mark.parametrize(
    ("theta_deg", "ids"),
    [
        (EVEN_DEG, np.arange(6)),
        (EVEN_DEG, np.arange(0, 12, 2)),  # every second one was written
        (EVEN_DEG, np.zeros(6)),
        (EVEN_DEG, [4, 5, 0, 1, 2, 9]),
        (EVEN_DEG, [0, 1, 2, 3, 4, 2**40]),
        (EVEN_DEG, [65534, 65535, 0, 1, 2, 3]),
        (EVEN_DEG, [0, 1, np.nan, 3, 4, 5]),
        (EVEN_DEG, np.arange(5)),
        (EVEN_DEG[[1, 0, 2, 5, 3, 4]], [1, 0, 2, 5, 3, 4]),  # recorded with each frame
        (np.zeros(0), []),
    ],
)
def test_angles_stay_as_they_are_whatever_the_numbers(theta_deg, ids):
    result, warning = by_number(theta_deg, ids, ids)
    assert (result is theta_deg, warning) == (True, "")


def test_periods_from_time_stamps():
    random = np.random.default_rng(0)
    times = 3e9 + 0.1 * np.arange(50) + random.uniform(-0.005, 0.005, 50)
    kept = np.delete(np.arange(50), [7, 8, 30])
    assert count_periods(times[kept]).tolist() == kept.tolist()
    for bad in ([0, 1], [0, 1, 2.4, 3], [0, 0, 0, 0], [3, 2, 1, 0], [0, 1, np.nan, 3]):
        assert count_periods(bad) is None
