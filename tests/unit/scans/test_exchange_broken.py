"""DXchange scans that are cut, damaged or still written: what is said of them."""

import struct

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
from tests.nxtomo_files import write_nxtomo
from tomopipe.errors import ScanError
from tomopipe.scans.exchange import open_scan
from tomopipe.scans.metadata import incomplete


def with_holes(missing):
    def change(file):
        del file[DATA]
        data = file.create_dataset(DATA, (N_ANGLES, N_ROWS, N_COLS), "u2", chunks=(1, 2, N_COLS))
        for frame in set(range(N_ANGLES)) - set(missing):
            data[frame] = raw_values()[frame]

    return change


def test_full_shape_never_written_is_incomplete(tmp_path):
    path = write(tmp_path / "a.h5", with_holes([4, 5, 6]))
    assert read_metadata(path).n_written == 4
    assert incomplete(read_metadata(path)) == "aborted: the first 4 of 7 frames were written"
    with open_scan(path, partial=True) as scan:
        assert np.allclose(np.rad2deg(scan.theta_rad), [0, 30, 60, 90])
        assert np.array_equal(scan.read_rows(0, 3), raw_values()[:4])
    path = write(tmp_path / "b.h5", with_holes(range(N_ANGLES)))
    with pytest.raises(ScanError, match="no frame can be used"), open_scan(path, partial=True):
        pass


@pytest.mark.parametrize(
    ("missing", "reason", "skip"),
    [
        ([3], "frame 3 of 7 was not written: input: {skip_projections: [3]} leaves it out", [3]),
        ([0, 3, 4], "3 of 7 frames were not written: input: {skip_pro", [0, [3, 4]]),
        ([1, 3, 4, 5], "4 of 7 frames were not written", [1, [3, 5]]),
        ([5, 6], "aborted: the first 5 of 7 frames were written", [[5, 6]]),
    ],
)
def test_frames_that_were_not_written_can_be_left_out(tmp_path, missing, reason, skip):
    path = write(tmp_path / "a.h5", with_holes(missing))
    assert incomplete(read_metadata(path)).startswith(reason)
    known = {"skip_projections": skip}
    named = str(known).replace("'", "") in incomplete(read_metadata(path))
    assert named == ("skip_pro" in reason)
    assert incomplete(read_metadata(path, options=known)) == ""
    with open_scan(path, options=known) as scan:
        there = np.delete(raw_values(), missing, axis=0)
        assert np.array_equal(scan.read_rows(0, N_ROWS), there)


def test_an_incomplete_scan_has_the_frames_on_both_sides_of_a_hole(tmp_path):
    path = write(tmp_path / "a.h5", with_holes([1, 3, 4, 5]))
    with open_scan(path, partial=True) as scan:
        assert scan.numbers.tolist() == [0, 2, 6]
        assert scan.theta_deg == pytest.approx([0, 60, 180])
        assert np.array_equal(scan.read_rows(0, N_ROWS), raw_values()[[0, 2, 6]])


def test_the_frames_before_a_hole_are_counted_as_they_were_written(tmp_path):
    path = write(tmp_path / "a.h5", with_holes([1, 4, 5, 6]))
    found = read_metadata(path, options={"skip_projections": [1]})
    assert incomplete(found) == "aborted: the first 4 of 7 frames were written"
    with open_scan(path, options={"skip_projections": [1]}, partial=True) as scan:
        assert scan.numbers.tolist() == [0, 2, 3]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (replace(DATA, None), "no /exchange/data and no NXtomo entry; expected a DXchange or NX"),
        (replace(DATA, np.ones((7, 2, 3, 5))), "Set input.paths.data to another dataset"),
        (replace(DATA, np.ones((0, 3, 5))), "has shape (0, 3, 5); expected 3-D, not empty"),
        (replace(DATA, h5py.Empty("f4")), "/exchange/data is empty; expected whole numbers or fl"),
        (replace(FLATS, h5py.Empty("f4")), "/exchange/data_white is empty; expected whole numbers"),
        (replace(DARKS, h5py.SoftLink(f"/{DARKS}")), f"data_dark is a link to /{DARKS}, whi"),
        (replace(DATA, np.ones((7, 3, 5), "c8")), "type complex64; expected whole numbers"),
        (replace(FLATS, None), "no /exchange/data_white; set preprocess.flats"),
        (replace(DARKS, None), "no /exchange/data_dark; set preprocess.darks"),
        (replace(FLATS, np.ones((2, 3, 6))), "data_white has frames of (3, 6); expected (3, 5)"),
        (replace(FLATS, np.ones((0, 3, 5))), "data_white has no frames; set preprocess.flats"),
        (replace(DARKS, np.ones((0, 3, 5))), "data_dark has no frames; set preprocess.darks"),
        (replace(FLATS, np.ones(5)), "data_white has shape (5,)"),
        (
            replace(THETA, np.ones((7, 2))),
            "theta has shape (7, 2); expected one dimension; input.angles",
        ),
        (
            replace(DATA, h5py.SoftLink("/gone/away")),
            "/exchange/data is a link to /gone/away, which cannot be opened: write the link anew",
        ),
        (replace(DATA, h5py.ExternalLink("gone.h5", "/x")), "is a link to gone.h5:/x, which"),
        (replace("exchange", h5py.ExternalLink("gone.h5", "/e")), "is a link to gone.h5:/e"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_unusable_scans_say_why(tmp_path, change, reason):
    path = write(tmp_path / "a.h5", change)
    assert reason in reason_of(path)
    assert reason_of(path).startswith(f"{path}: ")
    with pytest.raises(ScanError), open_scan(path, partial=True):
        pass


def virtual_angles(*sources):
    """Return a change that takes the angles from other datasets: file, name and number of each."""

    def change(file):
        del file[THETA]
        layout, first = h5py.VirtualLayout((N_ANGLES,), "f8"), 0
        for path, name, n in sources:
            layout[first : first + n] = h5py.VirtualSource(path, name, shape=(n,))
            first += n
        file.create_virtual_dataset(THETA, layout)

    return change


def test_angles_that_were_not_written_are_not_0(tmp_path):
    with h5py.File(tmp_path / "first.h5", "w") as file:
        file["x"] = [0, 30, 60, 90.0]
    path = write(tmp_path / "a.h5", virtual_angles(("first.h5", "x", 4), ("gone.h5", "x", 3)))
    said = incomplete(read_metadata(path))
    assert "3 of 7 angles not finite or not written: input: {skip_projections: [[4, 6]]}" in said
    with open_scan(path, partial=True) as scan:
        assert scan.theta_deg.tolist() == [0, 30, 60, 90]


def test_angles_that_are_virtual_in_a_circle(tmp_path):
    path = write(tmp_path / "a.h5", virtual_angles((".", f"/{THETA}", N_ANGLES)))
    assert reason_of(path) == f"{path}: /{THETA}: virtual datasets in a circle"


def test_angles_as_text_are_those_of_the_configuration(tmp_path):
    path = write(tmp_path / "a.h5", replace(THETA, np.array([b"1.0"] * 7)))
    assert reason_of(path).endswith("whole numbers or floats; input.angles gives others")
    found = read_metadata(path, options={"angles": {"start": 0, "stop": 180}})
    assert found.theta_deg.tolist() == [0, 30, 60, 90, 120, 150, 180]


def test_a_shape_beyond_reason_is_not_believed(tmp_path):
    path = write(tmp_path / "a.h5", replace(DATA, None))
    with h5py.File(path, "a") as file:
        file.create_dataset(DATA, (2**36, N_ROWS, N_COLS), "u1", chunks=(1, N_ROWS, N_COLS))
    assert "has shape (68719476736, 3, 5)" in reason_of(path)


def test_a_damaged_dataset_is_not_a_missing_one(tmp_path):
    path = write(tmp_path / "a.h5")
    with h5py.File(path) as file:
        address = h5py.h5o.get_info(file[DATA].id).addr
    content = bytearray(path.read_bytes())
    content[address : address + 16] = b"\xff" * 16
    path.write_bytes(content)
    assert reason_of(path) == f"{path}: /exchange/data is damaged; copy the file again"


def test_an_unknown_compression_is_named(tmp_path):
    path = write(tmp_path / "a.h5", chunks=(1, N_ROWS, N_COLS), compression="gzip")
    # The message of filter 1 (deflate) in the object header, made filter 31999 of nobody.
    content = path.read_bytes()
    header = bytes([1, 0, 8, 0, 1, 0, 1, 0]) + b"deflate\0"
    assert content.count(header) == 1
    path.write_bytes(content.replace(header, (31999).to_bytes(2, "little") + header[2:]))
    assert "compressed with HDF5 filter 31999 (deflate), which is not installed" in reason_of(path)
    assert "upgrade hdf5plugin" in reason_of(path)


@pytest.mark.parametrize(
    ("options", "place"),
    [({}, (2**40, 0, 0, 0)), ({}, (2**63, 0, 0, 0)), ({"compression": "gzip"}, (3, 0, 0, 2**40))],
    ids=["beyond", "far beyond", "deflate"],
)
def test_a_chunk_whose_place_is_damaged(tmp_path, options, place):
    path = write(tmp_path / "a.h5", chunks=(1, N_ROWS, N_COLS), **options)
    content = path.read_bytes()
    of_frame_3, elsewhere = (struct.pack("<IQQQQ", 0, *key) for key in ((3, 0, 0, 0), place))
    assert content.count(of_frame_3) == 1
    path.write_bytes(content.replace(of_frame_3, elsewhere))
    with open_scan(path) as scan, pytest.raises(ScanError, match="/exchange/data, frames 0 to 6"):
        scan.read_rows(0, 1)


@pytest.mark.parametrize("write_scan", [write, write_nxtomo])
def test_broken_files_give_reasons_and_nothing_else(tmp_path, write_scan):
    """Cut and damage a file everywhere: it is read, or a ScanError says why not."""
    path = write_scan(tmp_path / "a.h5")
    content = path.read_bytes()
    random = np.random.default_rng(1)
    reasons = []
    for number in range(100):
        damaged = bytearray(content)
        if number % 3 == 0:
            del damaged[random.integers(len(content)) :]
        else:
            for position in random.integers(0, 3000, size=20):
                damaged[position] = random.integers(256)
        path.write_bytes(damaged)
        try:
            incomplete(read_metadata(path))
        except ScanError as error:
            reasons.append(str(error))
    assert len(reasons) > 50
    assert not any("\n" in reason for reason in reasons)


def test_a_file_whose_names_are_no_text(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_group(b"\xff\xe4")["gone"] = h5py.SoftLink("/nowhere")
    with pytest.raises(ScanError, match="expected a DXchange or NXtomo file"):
        read_metadata(path)
