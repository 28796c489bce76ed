"""NXtomo scans of both dialects: what is read of good ones, what is said of others."""

import h5py
import numpy as np
import pytest

from tests.exchange_files import read_metadata, reason_of
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
from tomopipe.config import InputBlock
from tomopipe.errors import ScanError
from tomopipe.scans.exchange import open_scan
from tomopipe.scans.metadata import incomplete
from tomopipe.scans.nxtomo import find_entries
from tomopipe.scans.scan_files import source_files

BOTH = pytest.mark.parametrize("entry", [ESRF, DIAMOND], ids=["esrf", "diamond"])
THETA_DEG = [0, 30, 60, 90, 120, 150]


def detector_of(entry):
    return entry["instrument"]["detector" if "detector" in entry["instrument"] else "pco"]


def put(name, value, units=None):
    """Return a change that replaces a dataset of the entry."""

    def change(entry):
        group = entry if name.startswith(("sample", "instrument")) else detector_of(entry)
        if name in group:
            del group[name]
        if value is not None:
            group[name] = value
            if units:
                group[name].attrs["units"] = units

    return change


@pytest.mark.parametrize("odd", [0.5, 4, 99, -2, 1e300])
def test_frames_with_a_key_of_no_kind_are_skipped(tmp_path, odd):
    keys = np.where(np.arange(len(KEYS)) == 6, odd, KEYS)
    path = write_nxtomo(tmp_path / "a.nxs", change=put("image_key_control", keys))
    found = read_metadata(path)
    assert found.theta_deg.tolist() == np.delete(THETA_DEG, 2).tolist()
    assert found.warnings == ("frames marked as invalid, and skipped: 2",)
    with open_scan(path) as scan:
        assert np.array_equal(scan.read_rows(0, N_ROWS), frames_of()[np.delete(PROJECTIONS, 2)])


def test_the_height_of_the_stage_is_the_mean_of_its_translation(tmp_path):
    heights_m = np.linspace(0.011, 0.013, len(KEYS))
    change = put("sample/z_translation", heights_m, "m")
    found = read_metadata(write_nxtomo(tmp_path / "a.nxs", change=change))
    assert found.height_mm == pytest.approx(12.0)


@BOTH
def test_what_a_sound_file_says_and_pixels_of_each_kind(tmp_path, entry):
    path = write_nxtomo(tmp_path / "a.nxs", entry=entry)
    found = read_metadata(path)
    assert found.format == "NXtomo"
    assert (found.n_angles, found.n_rows, found.n_cols) == (6, N_ROWS, N_COLS)
    assert found.n_written == 6
    assert found.data_bytes == 6 * N_ROWS * N_COLS * 2
    assert found.theta_deg.tolist() == THETA_DEG
    assert found.pixel_size_um == pytest.approx(0.65)
    assert found.energy_kev == pytest.approx(25)
    assert found.distance_mm == pytest.approx(120)
    assert found.warnings == ("frames marked as invalid, and skipped: 1",)
    assert incomplete(found) == ""
    assert f"{entry}/instrument" in found.found
    assert "5 frames in 3 sets" in found.found
    frames = frames_of()
    with open_scan(path) as scan:
        assert np.allclose(np.rad2deg(scan.theta_rad), THETA_DEG)
        assert np.array_equal(scan.read_rows(1, 3), frames[PROJECTIONS, 1:3])
        assert (scan.n_flats, scan.n_darks) == (5, 2)
        assert np.array_equal(scan.read_block((2, 4), (0, 2)), frames[[6, 9], :2])
        assert np.array_equal(scan.read_frames([5, 0]), frames[[11, 4]])
        assert np.array_equal(scan.read_flats(0, 2), frames[KEYS == 1, :2])
        assert np.array_equal(scan.flat, frames[KEYS == 1].mean(axis=0))
        assert np.array_equal(scan.dark, frames[KEYS == 2].mean(axis=0))
        assert scan.flat_positions.tolist() == [0, 0, 3, 6, 6]
        sets = scan.flat_sets
        assert [(part.position, part.first, part.last) for part in sets] == [
            (0, 0, 2), (3, 2, 3), (6, 3, 5),
        ]  # fmt: skip
        for flats, numbers in zip(sets, ([2, 3], [7], [12, 13]), strict=True):
            assert np.array_equal(flats.mean, frames[numbers].mean(axis=0))


@pytest.mark.parametrize(
    ("of_flats", "words"),
    [(0.2, "2 times as long"), (0.05, "0.5 times"), (0.1, ""), (0.0, ""), (np.nan, "")],
)
def test_flats_of_another_exposure_are_named(tmp_path, of_flats, words):
    times = np.where(KEYS == 1, of_flats, 0.1)
    change = put("instrument/detector/count_time", times, "s")
    result = read_metadata(write_nxtomo(tmp_path / "a.nxs", change=change))
    warnings = [text for text in result.warnings if "flats of the file were exposed" in text]
    assert len(warnings) == bool(words)
    assert all(words in text for text in warnings)
    one = put("instrument/detector/count_time", 0.1, "s")
    assert len(read_metadata(write_nxtomo(tmp_path / "b.nxs", change=one)).warnings) == 1


def test_positions_follow_the_projections_in_use(tmp_path):
    angles = ANGLES_DEG.copy()
    angles[5] = np.nan  # the second projection
    with open_scan(write_nxtomo(tmp_path / "a.nxs", angles=angles), partial=True) as scan:
        assert scan.n_angles == 5
        assert scan.flat_positions.tolist() == [0, 0, 2, 5, 5]


@pytest.mark.parametrize(
    ("units", "owner", "per_degree"),
    [
        ("Radians", "auto", np.pi / 180),
        ("arcmin", "auto", 60),
        ("arcsec", "auto", 3600),
        ("mrad", "auto", 1000 * np.pi / 180),
        ("steps", "mdeg", 1000),
        (None, "auto", 1),
        ("deg", "rad", np.pi / 180),
        ("steps", "rad", np.pi / 180),
    ],
)
def test_angles_in_the_unit_of_the_file_or_of_its_owner(tmp_path, units, owner, per_degree):
    path = write_nxtomo(tmp_path / "a.nxs", angles=ANGLES_DEG * per_degree, units=units)
    metadata = read_metadata(path, options={"angle_unit": owner})
    assert np.allclose(metadata.theta_deg, THETA_DEG)
    assert owner == "auto" or not any("theta" in warning for warning in metadata.warnings)


def test_angles_in_an_unknown_unit_are_refused_until_somebody_says_what_they_are(tmp_path):
    path = write_nxtomo(tmp_path / "a.nxs", units="steps")
    for word in ("'steps'", "input.angle_unit", "input.angles", "sample/rotation_angle"):
        assert word in reason_of(path)
    listed = tmp_path / "angles.txt"
    listed.write_text("\n".join(map(str, THETA_DEG)))
    angles = {"start": 0, "stop": 150}, str(listed)
    for known in ({"angle_unit": "deg"}, *({"angles": given} for given in angles)):
        assert np.allclose(read_metadata(path, options=known).theta_deg, THETA_DEG)
    named = {"angles": "/entry0000/sample/rotation_angle"}
    assert "'steps'" in reason_of(path, options=named)


@pytest.mark.parametrize(
    ("name", "value", "units", "attribute", "expected"),
    [
        ("x_pixel_size", 6.5e-4, "mm", "pixel_size_um", 0.65),
        ("x_magnified_pixel_size", 3e-7, None, "pixel_size_um", 0.3),  # before that of the sensor
        ("sample/x_pixel_size", 3e-7, "m", "pixel_size_um", 0.3),  # before that of the camera
        ("instrument/beam/incident_energy", 4.00544e-15, None, "energy_kev", 25),
        ("distance", 0.05, None, "distance_mm", 50),
        ("sample/propagation_distance", 0.03, "m", "distance_mm", 30),
        ("distance", -1.0, "m", "distance_mm", None),
    ],
)
def test_numbers_in_their_units(tmp_path, name, value, units, attribute, expected):
    found = read_metadata(write_nxtomo(tmp_path / "a.nxs", change=put(name, value, units)))
    value = getattr(found, attribute)
    assert value is None if expected is None else value == pytest.approx(expected, rel=1e-4)


def test_alignment_frames_are_no_projections(tmp_path):
    keys = KEYS.copy()
    keys[11] = -1
    path = write_nxtomo(tmp_path / "a.nxs", keys=keys)
    assert read_metadata(path).theta_deg.tolist() == THETA_DEG[:5]
    with open_scan(path) as scan:
        assert np.array_equal(scan.read_rows(0, 3), frames_of()[PROJECTIONS[:5]])


def test_of_several_entries_one_is_chosen_by_name(tmp_path):
    for number in range(2):
        write_nxtomo(tmp_path / "a.nx", entry=f"/entry000{number}", angles=ANGLES_DEG + number)
    for word in ("2 NXtomo entries", "/entry0000, /entry0001: set input.entry"):
        assert word in reason_of(tmp_path / "a.nx")
    found = read_metadata(tmp_path / "a.nx", options={"entry": "entry0001"})
    assert found.theta_deg[0] == 1
    assert "no NXtomo entry /other" in reason_of(tmp_path / "a.nx", options={"entry": "other"})


@BOTH
def test_classes_tell_whatever_the_names(tmp_path, entry):
    path = write_nxtomo(tmp_path / "a.nxs", entry=entry)
    with h5py.File(path, "r+") as file:
        file.move(f"{entry}/sample", f"{entry}/fossil")
        file.move(f"{entry}/instrument", f"{entry}/hutch")
        del file[f"{entry}/definition"]
        file.move(entry, "/first/measured" if entry == DIAMOND else "/measured")
    assert read_metadata(path).theta_deg.tolist() == THETA_DEG


def test_keys_that_only_the_plotted_data_have(tmp_path):
    path = write_nxtomo(tmp_path / "a.nxs", entry=DIAMOND, change=put("image_key", None))
    with open_scan(path) as scan:
        assert scan.n_flats == 5


def test_angles_of_the_projections_alone_or_none(tmp_path):
    def without(entry):
        del entry["sample/rotation_angle"], entry["data/rotation_angle"]

    alone = write_nxtomo(tmp_path / "a.nxs", angles=np.array(THETA_DEG, float))
    assert read_metadata(alone).theta_deg.tolist() == THETA_DEG
    assert read_metadata(write_nxtomo(tmp_path / "c.nxs", change=without)).theta_deg is None


@pytest.mark.parametrize("how", ["external link", "virtual"])
def test_frames_in_other_files(tmp_path, how):
    """Of four axes, as Eiger's; virtual ones have a source for each part of the images."""
    shape = (len(KEYS), 1, N_ROWS, N_COLS)
    (tmp_path / "raw").mkdir()
    with h5py.File(tmp_path / "raw" / "camera.h5", "w") as file:
        file["frames"] = frames_of().reshape(shape)
    if how == "virtual":
        data = h5py.VirtualLayout(shape, "u2")
        for part in (slice(0, 8), slice(8, len(KEYS))):
            data[part] = h5py.VirtualSource("raw/camera.h5", "frames", shape)[part]
    else:
        data = h5py.ExternalLink("raw/camera.h5", "/frames")
    path = write_nxtomo(tmp_path / "a.nxs", data=data)
    with open_scan(path) as scan:
        assert np.array_equal(scan.read_rows(0, 3), frames_of()[PROJECTIONS])
    (tmp_path / "raw" / "camera.h5").unlink()
    if how == "virtual":
        found = read_metadata(path, flats="none", darks="none")
        assert incomplete(found).startswith("raw/camera.h5 cannot be opened: 6 of 6 frames")
        assert "(image_key_control 1): raw/camera.h5 cannot be opened; set" in reason_of(path)
    else:
        assert "is a link to raw/camera.h5:/frames, which is not there" in reason_of(path)


def without_frames(gone):
    """Return a change that takes frames away, as a camera that dropped them."""

    def change(entry):
        kept = np.delete(np.arange(len(KEYS)), gone)
        put("data", frames_of()[kept])(entry)
        attributes = group(entry["instrument"], "NDAttributes", "NXcollection")
        attributes["NDArrayUniqueId"] = 7 + kept

    return change


def test_dropped_frames_take_their_angles_and_keys_with_them(tmp_path):
    path = write_nxtomo(tmp_path / "a.nxs", entry=DIAMOND, change=without_frames([3, 5, 10]))
    found = read_metadata(path)
    assert incomplete(found) == ""
    assert "frames dropped by the camera, skipped with their angles: 3" in found.warnings
    assert found.theta_deg.tolist() == [0, 60, 90, 150]
    with open_scan(path) as scan:
        # the values tell which of the frames planned they are
        assert (scan.read_rows(0, 1)[:, 0, 0] // 100).tolist() == [4, 6, 9, 11]
        assert (scan.read_flats(0, 1)[:, 0, 0] // 100).tolist() == [2, 7, 12, 13]
        assert scan.flat_positions.tolist() == [0, 2, 4, 4]


def test_a_range_is_of_the_projections_planned(tmp_path):
    known = {"angles": {"start": 0, "stop": 150}}
    dropped = write_nxtomo(tmp_path / "a.nxs", entry=DIAMOND, change=without_frames([3, 5, 10]))
    found = read_metadata(dropped, options=known)
    assert incomplete(found) == ""
    assert found.theta_deg == pytest.approx([0, 60, 90, 150])

    for angles in (ANGLES_DEG, [0.0]):  # listed, or known by the keys alone
        cut = put("data", frames_of()[:9])
        path = write_nxtomo(tmp_path / f"{len(angles)}.nxs", angles=angles, change=cut)
        assert incomplete(read_metadata(path, options=known)).startswith("aborted: ")
        with open_scan(path, options=known, partial=True) as scan:
            assert np.rad2deg(scan.theta_rad) == pytest.approx([0, 30, 60])


def test_dropped_frames_without_numbers_are_an_aborted_scan(tmp_path):
    # the same number of projections and angles, but not of one another
    dropped = put("data", np.delete(frames_of(), 5, axis=0))
    path = write_nxtomo(tmp_path / "a.nxs", change=dropped)
    found = read_metadata(path)
    assert len(found.theta_deg) == found.n_angles
    assert incomplete(found).startswith("aborted: 13 frames for 14 keys in /entry0000")
    path = write_nxtomo(tmp_path / "b.nxs", change=put("data", frames_of()[:10]))
    assert incomplete(read_metadata(path)).startswith("aborted: 4 frames for 6 angles in /entry0")
    with open_scan(path, partial=True) as scan:
        assert np.rad2deg(scan.theta_rad) == pytest.approx(THETA_DEG[:4])


def test_an_aborted_scan_without_its_darks_is_called_so(tmp_path):
    keys = np.array([1, 1, 0, 0, 0, 0, 2, 2, 2])
    cut = put("data", frames_of()[:5])
    path = write_nxtomo(tmp_path / "a.nxs", keys=keys, angles=np.zeros(9), change=cut)
    reason = reason_of(path)
    assert reason.startswith(f"{path}: aborted: 5 frames for 9 keys in /entry0000/")
    assert "none of the 3 darks (2) was written; set preprocess.darks to a file" in reason


def without_keys(entry):
    del entry["instrument/detector/image_key"], entry["instrument/detector/image_key_control"]
    del entry["data/image_key"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (without_keys, "/entry0000 has no NXdetector with image_key (or groups lack"),
        (without_keys, "or input.paths to name its datasets"),
        (put("data", None), "no /entry0000/instrument/detector/data"),
        (put("data", np.ones((14, 5))), "has shape (14, 5); expected 3-D"),
        (put("data", np.ones((20, 3, 5))), "image_key_control has 14 keys for 20 frames"),
        (put("image_key_control", np.ones(14, int)), "or name its datasets in input.paths"),
        (put("image_key_control", np.where(KEYS == 1, 3, KEYS)), "marks no flats (1); set prepro"),
        (put("image_key_control", np.where(KEYS == 1, np.nan, KEYS)), "control: 5 of 14 keys"),
        (put("image_key_control", np.ones((7, 2))), "has shape (7, 2); expected one dimension"),
        (put("sample/rotation_angle", "text"), "rotation_angle has type object"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)
def test_unusable_scans_say_why(tmp_path, change, reason):
    path = write_nxtomo(tmp_path / "a.nxs", change=change)
    assert reason in reason_of(path)
    assert reason_of(path).startswith(f"{path}: ")


def test_a_monitor_of_all_frames_or_of_the_projections(tmp_path):
    def change(entry):
        entry["control/data"] = np.arange(14.0)
        entry["control/short"] = np.arange(6.0)

    with open_scan(write_nxtomo(tmp_path / "a.nxs", change=change)) as scan:
        assert scan.read_monitor("/entry0000/control/data").tolist() == PROJECTIONS.tolist()
        assert scan.read_monitor("/entry0000/control/short").tolist() == list(range(6))
        with pytest.raises(ScanError, match="no /nothing"):
            scan.read_monitor("/nothing")


def test_pixels_that_are_not_square_are_named_unless_somebody_says_that_they_are(tmp_path):
    path = write_nxtomo(tmp_path / "a.nxs", change=put("y_pixel_size", 1.3e-6, "m"))
    found = read_metadata(path)
    (warning,) = [text for text in found.warnings if text.startswith("pixels are not square")]
    words = ("0.65 um wide", "1.3 um high", "x_pixel_size", "input.pixel_size_um")
    assert all(word in warning for word in words)
    assert found.pixel_ratio == pytest.approx(2)
    for known, height in (({"pixel_size_um": 0.65}, 1.3e-6), ({}, 0.651e-6)):
        path = write_nxtomo(tmp_path / f"{len(known)}.nxs", change=put("y_pixel_size", height, "m"))
        found = read_metadata(path, options=known)
        assert found.pixel_ratio == 1
        assert not any("square" in text for text in found.warnings)


X, Y, Z = np.eye(3).tolist()


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


@pytest.mark.parametrize(
    ("rotation", "system", "is_told"),
    [(("Z", 90), "McStas", True), (("X", -90), "ESRF", True), (("X", 270), "McStas", False)],
)
def test_frames_turned_by_90_degrees_are_a_warning(tmp_path, rotation, system, is_told):
    axis, degrees = {"X": X, "Z": Z}[rotation[0]], rotation[1]
    path = write_nxtomo(tmp_path / "a.nx", change=rotated((axis, degrees, "deg"), system=system))
    texts = [text for text in read_metadata(path).warnings if "turns the frames by 90" in text]
    assert [text[:10] for text in texts] == ["/entry0000"] * is_told
    options = {"mirrored": "no"}
    assert not any("turns" in text for text in read_metadata(path, options=options).warnings)


def flags(**values):
    return lambda entry: entry["instrument/detector"].update(values)


HALF = 180, "deg"
NONE, COLUMNS, ROWS, ALL = (False, False), (False, True), (True, False), (True, True)


@pytest.mark.parametrize(
    ("change", "mirrored"),
    [
        (rotated((Y, *HALF), system="McStas"), COLUMNS),
        (rotated((X, *HALF), system="McStas"), ROWS),
        (rotated((X, *HALF), (Y, *HALF), system="McStas"), ALL),
        (rotated((Z, *HALF), system="McStas"), ALL),
        (rotated((Y, -180, "deg"), (Y, *HALF), system="McStas"), NONE),
        (rotated((Y, 0, "deg"), (X, 90, "deg"), system="McStas"), NONE),
        (rotated((Z, *HALF)), COLUMNS),
        (rotated((Y, *HALF), system="ESRF"), ROWS),
        (rotated((Y, *HALF), gravity=False, nx_class="NXtransformations"), COLUMNS),
        (rotated(([1, 1, 0], *HALF)), NONE),
        (flags(x_flipped=True, y_flipped=False), COLUMNS),
        (flags(x_flipped=True, y_flipped=True), ALL),
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
    with open_scan(path, options={"mirrored": "no"}) as scan:
        assert np.array_equal(scan.read_rows(0, N_ROWS), recorded[PROJECTIONS])
    found = read_metadata(path).found
    sides = [side for side, is_so in zip(("rows", "columns"), mirrored, strict=True) if is_so]
    assert (f"; {' and '.join(sides)} mirrored back, /entry0000/" in found) is any(mirrored)


@pytest.mark.parametrize(
    ("hint_px", "flipped", "column"),
    [
        (-812.4, False, ""),  # no column of the detector
        (-1.0, False, " (column 1.0 if from the middle, as nabu)"),  # which is 2.0
        (-1.0, True, " (column 3.0 if from the middle, as nabu)"),
    ],
)
def test_what_else_the_file_says_is_told(tmp_path, hint_px, flipped, column):
    change = flags(
        field_of_view="Half",
        x_rotation_axis_pixel_position=hint_px,
        estimated_cor_from_motor=3.0,
        x_flipped=flipped,
    )
    notes = read_metadata(write_nxtomo(tmp_path / "a.nx", change=change)).found
    hint = f"COR hint {hint_px} px{column} (not used), /entry0000/"
    assert f"; half acquisition, as the file says; {hint}" in notes
    assert notes.endswith("/x_rotation_axis_pixel_position")


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
    assert "set input.entry to one of them" in reason_of(path)
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
    assert "gts_theta_set is a link to panda.h5:/entry/theta" in reason_of(path)
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


def linked(tmp_path, way):
    """Write a file whose only entry is `entry0002` of another one, or a link to a link to it."""
    (tmp_path / "raw").mkdir()
    data = None
    if way == "virtual":
        with h5py.File(tmp_path / "raw" / "frames.h5", "w") as file:
            file["frames"] = frames_of()
        data = h5py.VirtualLayout(frames_of().shape, "u2")
        data[:] = h5py.VirtualSource("frames.h5", "frames", frames_of().shape)

    def change(entry):
        entry["machine/current"] = np.arange(len(KEYS)) / 8
        entry["instrument/detector/x_flipped"] = True

    for name in ("/entry0001", "/entry0002"):
        made = write_nxtomo(tmp_path / "raw" / "scan.nx", entry=name, data=data, change=change)
    target = h5py.ExternalLink("raw/scan.nx", "/entry0002")
    if way == "chain":
        with h5py.File(tmp_path / "raw" / "middle.nx", "w") as file:
            file["second"] = h5py.ExternalLink("scan.nx", "/entry0002")
        target = h5py.ExternalLink("raw/middle.nx", "/second")
    with h5py.File(tmp_path / "a.nx", "w") as file:
        if way == "soft":
            file["elsewhere"] = target
            target = h5py.SoftLink("/elsewhere")
        file["entry"] = target
    return made


@pytest.mark.parametrize("way", ["direct", "chain", "soft", "virtual"])
def test_an_entry_in_another_file_by_another_name(tmp_path, way):
    """Paths are those of the file that is given, and no other entry of its target is one."""
    linked(tmp_path, way)
    metadata = read_metadata(tmp_path / "a.nx")
    name = "elsewhere" if way == "soft" else "entry"
    assert metadata.theta_deg.tolist() == THETA_DEG
    assert metadata.theta_location == f"/{name}/sample/rotation_angle"
    assert metadata.pixel_size_um == pytest.approx(0.65)
    for path in ("instrument/detector/data", "instrument/detector/x_flipped", "instrument/beam"):
        assert f"/{name}/{path}" in metadata.found
    assert "entry0002" not in metadata.found
    for options in ({}, {"entry": "/entry"}, {"entry": "/entry/instrument/detector"}):
        with open_scan(tmp_path / "a.nx", options=options) as scan:
            assert np.array_equal(scan.read_rows(0, N_ROWS), frames_of()[PROJECTIONS, :, ::-1])
            assert (
                scan.read_monitor("/entry/machine/current").tolist() == (PROJECTIONS / 8).tolist()
            )
    sources = source_files(tmp_path / "a.nx")[0]
    names = {"scan.nx"} | {"chain": {"middle.nx"}, "virtual": {"frames.h5"}}.get(way, set())
    assert set(sources) == {str(tmp_path / "raw" / name) for name in names}


def test_links_to_entries_that_are_not_there(tmp_path):
    """The reason names the file that is missing, or what it lacks, also behind another link."""
    path = linked(tmp_path, "chain")
    path.rename(tmp_path / "raw" / "moved.nx")
    reason = reason_of(tmp_path / "a.nx")
    assert "/entry is a link to raw/middle.nx:/second, which is a link to scan.nx" in reason
    assert reason.endswith(
        "entry0002, which is not there: copy that file there, or write the link anew"
    )
    with h5py.File(tmp_path / "raw" / "scan.nx", "w") as file:
        file["entry0001"] = 1
    assert reason_of(tmp_path / "a.nx").endswith(
        "/entry0002, which does not exist in that file: write the link anew"
    )


@pytest.mark.slow
def test_every_entry_of_a_file_with_thousands_is_listed(tmp_path):
    with h5py.File(tmp_path / "many.nx", "w", libver="latest") as file:
        for number in range(2100):
            file.create_group(f"e{number:04d}")["definition"] = "NXtomo"
        assert len(find_entries(file, InputBlock())) == 2100
