"""DXchange scans: flats and darks from elsewhere, and frames that the camera dropped."""

import h5py
import numpy as np
import pytest

from tests.exchange_files import (
    DARKS,
    DATA,
    FLATS,
    N_ANGLES,
    N_COLS,
    N_ROWS,
    THETA,
    raw_values,
    read_metadata,
    reason_of,
    replace,
    write,
)
from tomopipe.errors import ScanError
from tomopipe.scans.exchange import open_scan
from tomopipe.scans.metadata import incomplete

FIRST_AND_LAST, STEP = {"start": 0, "stop": 180}, {"start": 0, "step": 30}


def test_flats_and_darks_from_elsewhere_or_declared_absent(tmp_path):
    other = write(tmp_path / "flats.h5", replace(FLATS, np.full((4, N_ROWS, N_COLS), 77, "f4")))

    def bare(file):
        del file[FLATS], file[DARKS]

    path = write(tmp_path / "a.h5", bare)
    with open_scan(path, flats=str(other), darks="none") as scan:
        assert (scan.n_flats, scan.n_darks) == (4, 0)
        assert (scan.flat == 77).all()
        assert (scan.dark == 0).all()
    with open_scan(path, flats="none", darks=other) as scan:
        assert (scan.flat == 1).all()
        assert (scan.dark == 10.5).all()
    missing = tmp_path / "missing.h5"
    assert reason_of(path, flats=missing, darks="none") == f"{missing}: no such file"


def test_flats_never_written_are_missing_darks_a_warning(tmp_path):
    def unwritten(name, frame=np.s_[:0]):
        def change(file):
            del file[name]
            data = file.create_dataset(name, (2, N_ROWS, N_COLS), "u2", chunks=(1, N_ROWS, N_COLS))
            data[frame] = 500

        return change

    assert "data_white was never written" in reason_of(write(tmp_path / "f.h5", unwritten(FLATS)))
    path = write(tmp_path / "d.h5", unwritten(DARKS))
    assert read_metadata(path).warnings == ("darks never written: 0 assumed",)
    with open_scan(path) as scan:
        assert (scan.dark == 0).all()


@pytest.mark.parametrize("in_file", ["none", "zeros", "own"])
def test_a_level_of_the_darks_that_the_file_states(tmp_path, in_file):
    """As of 13-BM of the APS, which records no darks, or one of zeros."""

    def change(file):
        file["process/acquisition/dark_fields/dark_field_value"] = [104.0]
        if in_file != "own":
            del file[DARKS]
        if in_file == "zeros":
            file[DARKS] = np.zeros((1, N_ROWS, N_COLS), "u2")

    path = write(tmp_path / "a.h5", change)
    expected = 10.5 if in_file == "own" else 104
    stated = "darks /process/acquisition/dark_fields/dark_field_value, 104, 1 frame"
    assert (stated in read_metadata(path).found) == (in_file != "own")
    for options in ({}, {"columns": [1, N_COLS - 1]}):
        with open_scan(path, options=options) as scan:
            assert (scan.dark == expected).all()
            assert scan.dark.shape == scan.flat.shape
            assert scan.dark_levels == pytest.approx([expected] * scan.n_darks, abs=1)


@pytest.mark.parametrize("axis", range(4))
@pytest.mark.parametrize("names", [[DATA], [FLATS], [DARKS], [DATA, FLATS, DARKS]])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"chunks": True},
        {"chunks": True, "compression": "gzip"},
        {"chunks": (1, N_ROWS, N_COLS)},
    ],
)
def test_an_axis_of_length_one_does_not_count(tmp_path, axis, names, options):
    def longer(file):
        for name in names:
            values = np.expand_dims(file[name][()], axis)
            del file[name]
            stored = dict(options)
            if isinstance(chunks := options.get("chunks"), tuple):  # of a frame each
                stored["chunks"] = (*chunks[:axis], 1, *chunks[axis:])
            file.create_dataset(name, data=values, **stored)

    plain, path = write(tmp_path / "a.h5"), write(tmp_path / "b.h5", longer)
    named = {"paths": {"data": f"/{DATA}", "flats": f"/{FLATS}", "darks": f"/{DARKS}"}}
    for known in ({}, named):
        with open_scan(plain) as expected, open_scan(path, options=known) as scan:
            assert np.array_equal(scan.flat, expected.flat)
            assert np.array_equal(scan.dark, expected.dark)
            scan.threads = 2
            assert np.array_equal(scan.read_rows(1, 3), raw_values()[:, 1:3])
            assert np.array_equal(scan.read_frames([5, 2]), raw_values()[[5, 2]])


@pytest.mark.parametrize("options", [{}, {"chunks": (2, 2, N_COLS), "compression": "gzip"}])
def test_counts_in_a_signed_type_are_refused_or_read_as_those_of_the_camera(tmp_path, options):
    counts = {DATA: raw_values() + 40_000, FLATS: raw_values(4) + 50_000, DARKS: raw_values(2)}

    def signed(file):
        for name, values in counts.items():
            del file[name]
            file.create_dataset(name, data=values.astype("u2").view("i2"), **options)

    path = write(tmp_path / "a.h5", signed)
    with open_scan(path) as scan, pytest.raises(ScanError) as error:
        scan.flat  # noqa: B018
    for word in ("/exchange/data_white", "down to -15", "int16", "input.unsigned: true"):
        assert word in str(error.value)
    with open_scan(path, options={"unsigned": True}) as scan:
        scan.threads = 2
        assert scan.dtype == np.uint16
        assert np.array_equal(scan.read_rows(0, N_ROWS), counts[DATA])
        assert np.allclose(scan.flat, counts[FLATS].mean(axis=0))
        assert np.allclose(scan.dark, counts[DARKS].mean(axis=0))


def test_negative_numbers_of_a_camera_that_has_some_are_read(tmp_path):
    flats = np.full((3, N_ROWS, N_COLS), 900, "i2")
    flats[:, 0] = -20  # no beam there, darks taken off
    with open_scan(write(tmp_path / "a.h5", replace(FLATS, flats))) as scan:
        assert np.array_equal(scan.flat, flats[0])


def test_frames_of_four_axes_that_were_never_written_are_missing(tmp_path):
    def change(file):
        del file[DATA]
        shape = (N_ANGLES, 1, N_ROWS, N_COLS)
        file.create_dataset(DATA, shape, "u2", chunks=(1, *shape[1:]))[:4] = 7

    assert read_metadata(write(tmp_path / "a.h5", change)).n_written == 4


def test_an_empty_set_of_flats_beside_another_is_none(tmp_path):
    def change(file):
        file["exchange/data_white_pre"] = file[FLATS][:0]
        file["exchange/data_white_post"] = file[FLATS][()]
        del file[FLATS]

    with open_scan(write(tmp_path / "a.h5", change)) as scan:
        assert scan.n_flats == 3


# where each frame went: two darks, one flat, the projections planned, two flats
WHERE = np.array(
    [f"/{name}" for name in [DARKS] * 2 + [FLATS] + [DATA] * N_ANGLES + [FLATS] * 2], "S"
)


def dropped(gone, *, locations=True, ids=True, times=False, reset=True):
    """Return a change that takes frames away and leaves what areaDetector writes beside them.

    The camera counts all frames, or begins again (`reset`) with the projections.
    """
    taken = np.delete(np.arange(len(WHERE)), np.add(gone, 3))

    def change(file):
        del file[DATA], file[THETA]
        file[DATA] = np.delete(raw_values(), gone, axis=0)
        file[THETA] = np.linspace(0, 180, N_ANGLES)
        numbers = taken - 3 * reset * (taken >= 3)
        if locations:
            file["defaults/HDF5FrameLocation"] = WHERE[taken]
        else:
            numbers = numbers[WHERE[taken] == f"/{DATA}".encode()]
        if ids:
            file["defaults/NDArrayUniqueId"] = numbers
        if times:
            jitter = np.random.default_rng(0).uniform(-0.01, 0.01, len(numbers))
            file["defaults/NDArrayTimeStamp"] = 1e9 + 0.1 * (numbers + jitter)

    return change


@pytest.mark.parametrize(
    ("gone", "options"),
    [
        ([2, 4], {}),
        ([2, 4], {"locations": False}),
        ([2, 4], {"reset": False}),
        ([4], {"ids": False, "times": True}),
    ],
    ids=["numbers", "numbers of projections", "numbers of all", "times"],
)
def test_dropped_frames_take_their_angles_with_them(tmp_path, gone, options):
    path = write(tmp_path / "a.h5", dropped(gone, **options))
    found = read_metadata(path)
    assert incomplete(found) == ""
    text = f"frames dropped by the camera, skipped with their angles: {len(gone)}"
    assert found.warnings == (text,)
    with open_scan(path) as scan:
        assert np.allclose(np.rad2deg(scan.theta_rad), np.delete(30 * np.arange(7), gone))
        assert np.array_equal(scan.read_rows(0, 3), np.delete(raw_values(), gone, axis=0))
    for angles in (FIRST_AND_LAST, STEP):
        found = read_metadata(path, options={"angles": angles})
        assert incomplete(found) == ""
        assert found.theta_deg == pytest.approx(np.delete(30 * np.arange(7), gone))


@pytest.mark.parametrize("located", [True, False])
def test_frames_stored_in_another_order_keep_their_angles(tmp_path, located):
    stored = np.array([1, 0, 2, 4, 3, 5, 6])

    def change(file):
        dropped(np.array([], int), locations=located)(file)
        file[DATA][...] = raw_values()[stored]
        numbers = file["defaults/NDArrayUniqueId"]
        values = numbers[()]
        values[3 * located : 3 * located + N_ANGLES] = stored
        numbers[...] = values

    with open_scan(write(tmp_path / "a.h5", change)) as scan:
        assert np.rad2deg(scan.theta_rad) == pytest.approx(30 * stored)


@pytest.mark.parametrize("located", [True, False])
def test_angles_of_all_frames(tmp_path, located):
    """Flats and darks are taken at rest."""
    of_data = 30.0 * np.arange(N_ANGLES)

    def change(file):
        replace(THETA, np.concatenate([[0, 0, 0], of_data, [180, 180]]))(file)
        if located:
            file["defaults/HDF5FrameLocation"] = WHERE

    path = write(tmp_path / "a.h5", change)
    if located:
        assert incomplete(read_metadata(path)) == ""
        with open_scan(path) as scan:
            assert np.rad2deg(scan.theta_rad) == pytest.approx(of_data)
        return
    assert reason_of(path).startswith(f"{path}: /exchange/theta has 12 angles, as many as there")
    assert reason_of(path).endswith("give these alone, input.angles")
    given = {"angles": {"start": 0, "stop": 180}}
    assert read_metadata(path, options=given).theta_deg == pytest.approx(of_data)


@pytest.mark.parametrize(
    "change", [dropped([2], ids=False), dropped([3, 4, 5, 6])], ids=["no numbers", "aborted"]
)
def test_frames_missing_who_knows_where_are_never_shifted(tmp_path, change):
    found = read_metadata(write(tmp_path / "a.h5", change))
    assert incomplete(found).startswith("aborted: ")


@pytest.mark.parametrize("gone", [[6], [4, 5, 6], range(1, 7)], ids=["1 of 7", "3 of 7", "6 of 7"])
def test_an_aborted_scan_has_the_first_of_the_angles_of_a_range(tmp_path, gone):
    """180 degrees are those of the last frame planned, which was never taken."""
    path = write(tmp_path / "a.h5", dropped(gone, ids=False))
    there = N_ANGLES - len(gone)
    why = f"aborted: {there} frames for 7 angles in /exchange/theta"
    assert incomplete(read_metadata(path)).startswith(why)
    found = read_metadata(path, options={"angles": FIRST_AND_LAST})
    assert incomplete(found).startswith(f"{why} (if no frame is missing, input.angles: {{start,")
    assert "angles the configuration, 180 degrees" in found.found
    assert found.covered_deg == pytest.approx(210)
    with open_scan(path, options={"angles": FIRST_AND_LAST}, partial=True) as scan:
        assert np.rad2deg(scan.theta_rad) == pytest.approx(30 * np.arange(there))
    stepped = read_metadata(path, options={"angles": STEP})
    assert incomplete(stepped) == ""
    assert stepped.theta_deg == pytest.approx(30 * np.arange(there))


def test_a_range_covers_what_the_file_shows(tmp_path):
    """Spread over any frames it shows nothing itself."""
    known = {"angles": FIRST_AND_LAST}
    assert read_metadata(write(tmp_path / "a.h5"), options=known).covered_deg == pytest.approx(210)
    cut = write(tmp_path / "cut.h5", replace(THETA, 5.0 * np.arange(7)))
    assert read_metadata(cut, options=known).covered_deg == pytest.approx(35)
    bare = write(tmp_path / "bare.h5", replace(THETA, None))
    assert read_metadata(bare, options=known).covered_deg is None
    assert read_metadata(bare, options={"angles": STEP}).covered_deg == pytest.approx(210)


def test_sets_of_flats_from_where_each_frame_went(tmp_path):
    with open_scan(write(tmp_path / "a.h5", dropped([2]))) as scan:
        assert scan.flat_positions.tolist() == [0, 6, 6]
        assert [flat_set.position for flat_set in scan.flat_sets] == [0, 6]
        assert [flat_set.mean[0, 0] for flat_set in scan.flat_sets] == [1000, 1004.5]
        assert (scan.flat == 1003).all()
    with open_scan(write(tmp_path / "b.h5")) as scan:
        assert [(flat_set.position, flat_set.last) for flat_set in scan.flat_sets] == [(None, 3)]
    with open_scan(tmp_path / "b.h5", flats="none") as scan:
        assert (scan.flat_sets, scan.n_flats) == ((), 0)


def test_flats_before_and_after_the_scan(tmp_path):
    """As SLS, APS 1-ID and Sirius write them."""

    def change(file):
        file[f"{FLATS}_pre"] = file[FLATS][:1]
        file[f"{FLATS}_post"] = file[FLATS][1:]
        del file[FLATS]

    path = write(tmp_path / "a.h5", change)
    assert "white_pre, /exchange/data_white_post, 3 frames in 2 sets" in read_metadata(path).found
    with open_scan(path) as scan:
        assert scan.flat_positions.tolist() == [0, N_ANGLES, N_ANGLES]
        assert (scan.flat == 1003).all()
    bare = write(tmp_path / "b.h5", replace(FLATS, None))
    with open_scan(bare, flats=path) as scan:
        assert scan.flat_positions.tolist() == [0, N_ANGLES, N_ANGLES]
    with h5py.File(path, "r+") as file:
        del file[f"{FLATS}_post"], file[DATA]
    with open_scan(bare, flats=path) as scan:
        assert (scan.flat == 1000).all()
    with h5py.File(bare, "r+") as file:
        file["exchange/flats"] = raw_values()
    for word in ("no /exchange/data_white; ", "/exchange/flats (7, 3, 5)", "input.paths"):
        assert word in reason_of(bare)
