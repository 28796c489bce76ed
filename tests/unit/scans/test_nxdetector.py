"""What an NXdetector says of its frames: mirrored, one of several, angles and frames elsewhere."""

import h5py
import numpy as np
import pytest

from tests.nxtomo_files import (
    ANGLES_DEG,
    DIAMOND,
    ESRF,
    KEYS,
    N_COLS,
    N_ROWS,
    PROJECTIONS,
    frames_of,
    group,
    write_nxtomo,
)
from tomopipe.errors import ScanError
from tomopipe.scans.exchange import open_scan, read_metadata

X, Y, Z = np.eye(3).tolist()
THETA_DEG = ANGLES_DEG[PROJECTIONS].tolist()


def rotated(*rotations, system=None, gravity=True, nx_class="NX_transformations"):
    """Return a change that states rotations (vector, value, unit) as the ESRF's library does."""

    def change(entry):
        if system:
            entry.attrs["NeXus_Coordinate_System"] = system
        below = group(entry["instrument/detector"], "transformations", nx_class)
        if gravity:
            below["gravity"] = 9.8
            below["gravity"].attrs["transformation_type"] = "gravity"
        for number, (vector, value, unit) in enumerate(rotations):
            step = below.create_dataset(f"r{number}", data=value)
            step.attrs.update(transformation_type="rotation", vector=vector, units=unit)

    return change


def flags(**values):
    def change(entry):
        for name, value in values.items():
            entry[f"instrument/detector/{name}"] = value

    return change


HALF = 180, "deg"
NONE, COLUMNS, ROWS, BOTH = (False, False), (False, True), (True, False), (True, True)


@pytest.mark.parametrize(
    ("change", "mirrored"),
    [
        (rotated((Y, *HALF), system="McStas"), COLUMNS),
        (rotated((X, *HALF), system="McStas"), ROWS),
        (rotated((X, *HALF), (Y, *HALF), system="McStas"), BOTH),
        (rotated((Z, *HALF), system="McStas"), BOTH),
        (rotated((Y, np.pi, "rad"), system="McStas"), COLUMNS),
        (rotated((Y, -180, "deg"), (Y, *HALF), system="McStas"), NONE),
        (rotated((Y, 0, "deg"), (X, 90, "deg"), system="McStas"), NONE),
        (rotated((Z, *HALF)), COLUMNS),
        (rotated((Y, *HALF), system="ESRF"), ROWS),
        (rotated((Y, *HALF), gravity=False, nx_class="NXtransformations"), COLUMNS),
        (rotated(([1, 1, 0], *HALF)), NONE),
        (flags(x_flipped=True, y_flipped=False), COLUMNS),
        (flags(x_flipped=True, y_flipped=True), BOTH),
        (flags(x_flipped=False), NONE),
    ],
)
def test_frames_are_mirrored_back(tmp_path, change, mirrored):
    rows, columns = (slice(None, None, -1 if flipped else 1) for flipped in mirrored)
    recorded = frames_of()
    path = write_nxtomo(tmp_path / "a.nx", change=change)
    with open_scan(path) as scan:
        expected = recorded[:, rows, columns]
        assert np.array_equal(scan.read_rows(0, N_ROWS), expected[PROJECTIONS])
        assert np.array_equal(scan.read_block((2, 4), (0, 2)), expected[PROJECTIONS[2:4], :2])
        assert np.array_equal(scan.read_frames([1]), expected[PROJECTIONS[1:2]])
        assert np.allclose(scan.flat, expected[KEYS == 1].mean(0))
        assert np.allclose(scan.dark, expected[KEYS == 2].mean(0))
    found = read_metadata(path).found
    sides = [side for side, is_so in zip(("rows", "columns"), mirrored, strict=True) if is_so]
    assert (f"; {' and '.join(sides)} mirrored back, /entry0000/" in found) is any(mirrored)


def test_frames_can_be_taken_as_they_were_recorded(tmp_path):
    path = write_nxtomo(tmp_path / "a.nx", change=flags(x_flipped=True))
    with open_scan(path, options={"mirrored": "no"}) as scan:
        assert np.array_equal(scan.read_rows(0, N_ROWS), frames_of()[PROJECTIONS])
    assert "mirrored" not in read_metadata(path, options={"mirrored": "no"}).found


def test_what_else_the_file_says_is_told(tmp_path):
    change = flags(
        field_of_view="Half", x_rotation_axis_pixel_position=-812.4, estimated_cor_from_motor=3.0
    )
    found = read_metadata(write_nxtomo(tmp_path / "a.nx", change=change)).found
    said = "; half acquisition, as the file says; COR hint -812.4 px (not used), /entry0000/"
    assert said in found  # no column of the detector
    assert found.endswith("/x_rotation_axis_pixel_position")


@pytest.mark.parametrize(("flipped", "column"), [(False, "1.0"), (True, "3.0")])
def test_the_hint_is_told_as_a_column_too(tmp_path, flipped, column):
    """nabu counts from the middle, here 2.0, of the frames as recorded."""
    change = flags(x_rotation_axis_pixel_position=-1.0, x_flipped=flipped)
    found = read_metadata(write_nxtomo(tmp_path / "a.nx", change=change)).found
    assert f"COR hint -1.0 px (column {column} if from the middle, as nabu) (not used)" in found


def test_the_magnified_pixel_goes_before_that_of_the_sensor(tmp_path):
    path = write_nxtomo(tmp_path / "a.nx", change=flags(x_magnified_pixel_size=3e-7))
    assert read_metadata(path).pixel_size_um == pytest.approx(0.3)


def two_detectors(data):
    """Return a change that adds another instrument with keys, as a fly scan at Diamond has it."""

    def change(entry):
        encoder = group(entry["instrument"], "encoder", "NXdetector")
        encoder["image_key"] = KEYS
        encoder["data"] = data

    return change


@pytest.mark.parametrize(
    "data",
    [h5py.ExternalLink("gone.h5", "/data"), np.zeros((14, 1, 6)), np.zeros(14)],
    ids=["missing", "lines", "numbers"],
)
def test_the_camera_among_instruments_with_keys(tmp_path, data):
    path = write_nxtomo(tmp_path / "a.nxs", entry=DIAMOND, change=two_detectors(data))
    with open_scan(path) as scan:
        assert np.array_equal(scan.read_rows(0, N_ROWS), frames_of()[PROJECTIONS])


def test_one_of_two_cameras_is_named(tmp_path):
    other = np.ones((14, N_ROWS, N_COLS + 1), "u2")
    path = write_nxtomo(tmp_path / "a.nxs", entry=DIAMOND, change=two_detectors(other))
    with pytest.raises(ScanError, match=r"set input\.entry to one of them"):
        read_metadata(path)
    for name, n_cols in (("pco", N_COLS), ("encoder", N_COLS + 1)):
        known = {"entry": f"{DIAMOND}/instrument/{name}"}
        assert read_metadata(path, options=known).n_cols == n_cols


def plotted_over(link):
    """Return a change that leaves the angles to the axis of NXdata, in another file."""

    def change(entry):
        del entry["sample/rotation_angle"]
        entry["data/gts_theta_set"] = link
        entry["data"].attrs["axes"] = np.array(["gts_theta_set", ".", "."], dtype=object)

    return change


LINK = h5py.ExternalLink("panda.h5", "/entry/theta")


def test_angles_in_another_file_without_a_unit(tmp_path):
    path = write_nxtomo(tmp_path / "a.nxs", entry=DIAMOND, change=plotted_over(LINK))
    with pytest.raises(ScanError, match=r"gts_theta_set is a link to panda\.h5:/entry/theta"):
        read_metadata(path)
    angles = tmp_path / "angles.txt"
    angles.write_text("\n".join(map(str, range(6))))
    known = {"angles": str(angles)}
    assert read_metadata(path, options=known).theta_deg.tolist() == list(range(6))
    with h5py.File(tmp_path / "panda.h5", "w") as file:
        file["entry/theta"] = ANGLES_DEG
    found = read_metadata(path)
    assert found.theta_deg.tolist() == THETA_DEG
    assert found.theta_location == f"{DIAMOND}/data/gts_theta_set"


def test_angles_that_were_measured_where_those_set_are_missing(tmp_path):
    def change(entry):
        plotted_over(LINK)(entry)
        entry["data/gts_theta"] = ANGLES_DEG
        entry["data"].attrs["gts_theta_indices"] = np.array([0])
        entry["data"].attrs["gone_theta_indices"] = np.array([0])

    found = read_metadata(write_nxtomo(tmp_path / "a.nxs", entry=DIAMOND, change=change))
    assert found.theta_deg.tolist() == THETA_DEG


def test_a_detector_and_a_sample_in_other_files(tmp_path):
    """Groups that are links have another name in their own file."""
    path = write_nxtomo(tmp_path / "a.nx")
    with h5py.File(path, "r+") as file, h5py.File(tmp_path / "raw.h5", "w") as raw:
        for name, source in (("instrument/detector", "camera"), ("sample", "stage")):
            file.copy(f"{ESRF}/{name}", raw, source)
            del file[f"{ESRF}/{name}"]
            file[f"{ESRF}/{name}"] = h5py.ExternalLink("raw.h5", f"/{source}")
    found = read_metadata(path)
    assert found.theta_deg.tolist() == THETA_DEG
    assert found.pixel_size_um == pytest.approx(0.65)
    with open_scan(path) as scan:
        assert np.array_equal(scan.read_rows(0, N_ROWS), frames_of()[PROJECTIONS])
