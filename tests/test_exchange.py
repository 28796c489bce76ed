"""DXchange scans: what is read of good ones, what is said of others."""

import os
import subprocess
import sys

import h5py
import numpy as np
import pytest

from tomopipe.errors import ScanError
from tomopipe.io.exchange import (
    NO_THETA,
    StillWrittenError,
    incomplete,
    open_scan,
    read_metadata,
)

N_ANGLES, N_ROWS, N_COLS = 7, 3, 5
DATA, FLATS, DARKS, THETA = (
    f"exchange/{name}" for name in ("data", "data_white", "data_dark", "theta")
)


def raw_values(n_angles=N_ANGLES, dtype="u2"):
    return np.arange(n_angles * N_ROWS * N_COLS).reshape(n_angles, N_ROWS, N_COLS).astype(dtype)


def write(path, change=None, *, dtype="u2", **options):
    """Write a sound scan, then change the open file."""
    with h5py.File(path, "w") as file:
        file.create_dataset(DATA, data=raw_values(dtype=dtype), **options)
        file[FLATS] = np.stack([np.full((N_ROWS, N_COLS), v, "u2") for v in (1000, 1002, 1007)])
        file[DARKS] = np.stack([np.full((N_ROWS, N_COLS), v, "u2") for v in (10, 11)])
        file[THETA] = np.linspace(0, 180, N_ANGLES)
        if change:
            change(file)
    return path


def replace(name, value):
    def change(file):
        del file[name]
        if value is not None:
            file[name] = value

    return change


def reason_of(path, **options):
    with pytest.raises(ScanError) as caught:
        read_metadata(path, **options)
    text = str(caught.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize("dtype", ["u1", "u2", "i2", "i4", "f4", ">u2", "f8"])
def test_metadata_of_a_sound_scan(tmp_path, dtype):
    path = write(tmp_path / "a.h5", dtype=dtype)
    found = read_metadata(path)
    item_bytes = np.dtype(dtype).itemsize
    assert (found.n_angles, found.n_rows, found.n_cols) == (N_ANGLES, N_ROWS, N_COLS)
    assert (found.n_flats, found.n_darks, found.n_written) == (3, 2, N_ANGLES)
    assert np.dtype(found.dtype) == np.dtype(dtype).newbyteorder("=")
    assert found.data_bytes == N_ANGLES * N_ROWS * N_COLS * item_bytes
    assert found.n_bytes == path.stat().st_size
    assert found.theta_deg.tolist() == [0, 30, 60, 90, 120, 150, 180]
    assert (found.chunks, found.warnings, incomplete(found)) == (None, (), "")


def hdf5plugin_filter():
    import hdf5plugin

    return dict(hdf5plugin.Blosc())


@pytest.mark.parametrize(
    ("dtype", "options"),
    [
        ("u2", dict),
        (">u2", dict),
        ("f4", dict),
        ("u2", lambda: {"chunks": (1, N_ROWS, N_COLS), "compression": "gzip"}),
        ("u2", lambda: {"chunks": (N_ANGLES, 1, N_COLS)}),
        ("i4", lambda: {"chunks": (2, 2, 2), **hdf5plugin_filter()}),
    ],
    ids=["contiguous", "big endian", "float", "gzip", "sinogram chunks", "blosc"],
)
def test_pixels_come_back_as_written(tmp_path, dtype, options):
    path = write(tmp_path / "a.h5", dtype=dtype, **options())
    raw = raw_values(dtype=dtype)
    with open_scan(path) as scan:
        rows = scan.read_rows(1, 3)
        assert np.array_equal(rows, raw[:, 1:3])
        assert rows.dtype == scan.dtype
        assert rows.dtype.isnative
        assert np.array_equal(scan.read_frames([4, 0, 4]), raw[[4, 0, 4]])
        assert scan.flat.dtype == scan.dark.dtype == np.float32
        assert np.array_equal(scan.flat, np.full((N_ROWS, N_COLS), 1003, np.float32))
        assert np.array_equal(scan.dark, np.full((N_ROWS, N_COLS), 10.5, np.float32))
        assert np.allclose(scan.theta_rad, np.linspace(0, np.pi, N_ANGLES), atol=1e-15)
        assert (scan.n_angles, scan.theta_missing) == (N_ANGLES, False)


def test_rows_outside_are_refused(tmp_path):
    with open_scan(write(tmp_path / "a.h5")) as scan:
        for first, last in [(-1, 2), (0, 4), (2, 2)]:
            with pytest.raises(ValueError, match="expected 0 <= first"):
                scan.read_rows(first, last)


def test_one_row_one_angle_one_flat(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file[DATA] = np.full((1, 1, 5), 3, "u1")
        file[FLATS], file[DARKS] = np.full((1, 5), 9, "u1"), np.zeros((1, 1, 5), "u1")
        file[THETA] = [12.0]
    assert incomplete(read_metadata(tmp_path / "a.h5")) == ""
    with open_scan(tmp_path / "a.h5") as scan:
        assert scan.read_rows(0, 1).tolist() == [[[3] * 5]]
        assert scan.flat.tolist() == [[9] * 5]


def test_no_theta_is_a_warning_and_half_a_turn_inclusive(tmp_path):
    path = write(tmp_path / "a.h5", replace(THETA, None))
    found = read_metadata(path)
    assert found.theta_deg is None
    assert found.warnings == (NO_THETA,)
    assert incomplete(found) == ""
    with open_scan(path) as scan:
        assert scan.theta_missing
        assert np.allclose(np.rad2deg(scan.theta_rad), [0, 30, 60, 90, 120, 150, 180])


def test_theta_as_a_column_and_in_radians(tmp_path):
    def change(file):
        replace(THETA, np.linspace(np.pi, 0, N_ANGLES)[:, None])(file)
        file[THETA].attrs["units"] = "radians"

    found = read_metadata(write(tmp_path / "a.h5", change))
    assert np.allclose(found.theta_deg, [180, 150, 120, 90, 60, 30, 0])
    assert found.warnings == ("theta in radians, as its units say",)


@pytest.mark.parametrize(
    ("theta", "reason", "used"),
    [
        (np.arange(12.0), "aborted: 7 frames for 12 angles in /exchange/theta", 7),
        (np.arange(4.0), "/exchange/theta has 4 angles for 7 frames", 4),
        (np.zeros(0), "/exchange/theta has 0 angles for 7 frames", 0),
        ([0, 1, np.nan, 3, 4, np.inf, 6], "2 of 7 angles not finite, the first is 2", 5),
        (np.full(7, 90.0), "all 7 angles are 90", 7),
    ],
    ids=["longer", "shorter", "empty", "not finite", "constant"],
)
def test_theta_that_does_not_fit_is_incomplete(tmp_path, theta, reason, used):
    path = write(tmp_path / "a.h5", replace(THETA, theta))
    assert reason in incomplete(read_metadata(path))
    with pytest.raises(ScanError, match="select: yes"), open_scan(path):
        pass
    if used == 0:
        with pytest.raises(ScanError, match="no frame can be used"), open_scan(path, partial=True):
            pass
        return
    good = np.flatnonzero(np.isfinite(theta[:N_ANGLES]))
    with open_scan(path, partial=True) as scan:
        assert scan.n_angles == used == len(scan.theta_rad)
        assert np.allclose(np.rad2deg(scan.theta_rad), np.asarray(theta)[good])
        assert np.array_equal(scan.read_rows(0, 2), raw_values()[good, :2])
        assert np.array_equal(scan.read_frames([used - 1]), raw_values()[good[-1:]])


def full_shape_never_written(n_written):
    def change(file):
        del file[DATA]
        data = file.create_dataset(DATA, (N_ANGLES, N_ROWS, N_COLS), "u2", chunks=(1, 2, N_COLS))
        data[:n_written] = raw_values()[:n_written]

    return change


@pytest.mark.parametrize("has_theta", [True, False])
def test_full_shape_never_written_is_incomplete(tmp_path, has_theta):
    def change(file):
        full_shape_never_written(4)(file)
        if not has_theta:
            del file[THETA]

    path = write(tmp_path / "a.h5", change)
    found = read_metadata(path)
    assert found.n_written == 4
    assert incomplete(found) == "aborted: the first 4 of 7 frames were written"
    with open_scan(path, partial=True) as scan:
        # Without theta the step is that of the scan as planned, not of what is left of it.
        assert np.allclose(np.rad2deg(scan.theta_rad), [0, 30, 60, 90])
        assert np.array_equal(scan.read_rows(0, 3), raw_values()[:4])


def test_nothing_written_cannot_be_opened_at_all(tmp_path):
    path = write(tmp_path / "a.h5", full_shape_never_written(0))
    assert read_metadata(path).n_written == 0
    with pytest.raises(ScanError, match="no frame can be used"), open_scan(path, partial=True):
        pass


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            replace(DATA, None),
            "no /exchange/data and no NXtomo entry; expected a DXchange or NXtomo file",
        ),
        (lambda file: file.clear(), "no /exchange/data"),
        (replace(DATA, np.ones((N_ANGLES, N_COLS))), "has shape (7, 5); expected 3-D"),
        (replace(DATA, np.ones((1, 7, 3, 5))), "has shape (1, 7, 3, 5); expected 3-D"),
        (replace(DATA, np.ones((0, 3, 5))), "has shape (0, 3, 5); expected 3-D, not empty"),
        (replace(DATA, h5py.Empty("f4")), "expected whole numbers or floats"),
        (replace(DATA, "text"), "type object; expected whole numbers"),
        (replace(DATA, np.ones((7, 3, 5), "c8")), "type complex64; expected whole numbers"),
        (replace(DATA, np.full((7, 3, 5), b"ab")), "type |S2; expected whole numbers"),
        (replace(FLATS, None), "no /exchange/data_white; set preprocess.flats"),
        (replace(DARKS, None), "no /exchange/data_dark; set preprocess.darks"),
        (replace(FLATS, np.ones((2, 3, 6))), "data_white has frames of (3, 6); expected (3, 5)"),
        (replace(DARKS, np.ones((2, 4, 5))), "data_dark has frames of (4, 5); expected (3, 5)"),
        (replace(FLATS, np.ones((0, 3, 5))), "data_white has shape (0, 3, 5)"),
        (replace(FLATS, np.ones(5)), "data_white has shape (5,)"),
        (replace(THETA, "text"), "theta has type object"),
        (replace(THETA, np.ones((7, 2))), "theta has shape (7, 2); expected one dimension"),
        (replace(DATA, h5py.SoftLink("/gone/away")), "/exchange/data is a link to /gone/away"),
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


def test_data_as_a_group_and_exchange_as_a_dataset(tmp_path):
    with h5py.File(tmp_path / "group.h5", "w") as file:
        file.create_group(DATA)
    assert "/exchange/data is a group" in reason_of(tmp_path / "group.h5")
    with h5py.File(tmp_path / "dataset.h5", "w") as file:
        file["exchange"] = 1
    assert "no /exchange/data" in reason_of(tmp_path / "dataset.h5")


def test_a_shape_beyond_reason_is_not_believed(tmp_path):
    def change(file):
        del file[DATA]
        file.create_dataset(DATA, (2**36, N_ROWS, N_COLS), "u1", chunks=(1, N_ROWS, N_COLS))

    assert "has shape (68719476736, 3, 5)" in reason_of(write(tmp_path / "a.h5", change))


def test_a_damaged_dataset_is_not_a_missing_one(tmp_path):
    path = write(tmp_path / "a.h5")
    with h5py.File(path) as file:
        at = h5py.h5o.get_info(file[DATA].id).addr
    content = bytearray(path.read_bytes())
    content[at : at + 16] = b"\xff" * 16
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


def test_flats_and_darks_from_elsewhere_or_declared_absent(tmp_path):
    other = write(tmp_path / "flats.h5", replace(FLATS, np.full((4, N_ROWS, N_COLS), 77, "f4")))

    def bare(file):
        del file[FLATS], file[DARKS]

    path = write(tmp_path / "a.h5", bare)
    found = read_metadata(path, flats=other, darks="none")
    assert (found.n_flats, found.n_darks) == (4, 0)
    with open_scan(path, flats=str(other), darks="none") as scan:
        assert (scan.flat == 77).all()
        assert (scan.dark == 0).all()
    with open_scan(path, flats="none", darks=other) as scan:
        assert (scan.flat == 1).all()
        assert (scan.dark == 10.5).all()
    missing = tmp_path / "missing.h5"
    assert reason_of(path, flats=missing, darks="none") == f"{missing}: no such file"


def test_flats_never_written_are_missing_darks_a_warning(tmp_path):
    def unwritten(name):
        def change(file):
            del file[name]
            file.create_dataset(name, (2, N_ROWS, N_COLS), "u2", chunks=(1, N_ROWS, N_COLS))

        return change

    assert "data_white was never written" in reason_of(write(tmp_path / "f.h5", unwritten(FLATS)))
    path = write(tmp_path / "d.h5", unwritten(DARKS))
    assert read_metadata(path).warnings == ("darks never written: 0 assumed",)
    with open_scan(path) as scan:
        assert (scan.dark == 0).all()


def test_flats_not_written_stay_out_of_the_mean(tmp_path):
    def change(file):
        del file[FLATS]
        flats = file.create_dataset(FLATS, (4, N_ROWS, N_COLS), "u2", chunks=(1, N_ROWS, N_COLS))
        flats[1] = 500

    path = write(tmp_path / "a.h5", change)
    assert read_metadata(path).n_flats == 1
    with open_scan(path) as scan:
        assert (scan.flat == 500).all()


def test_an_external_link_inside_the_campaign(tmp_path):
    write(tmp_path / "raw.h5")
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        file["exchange"] = h5py.ExternalLink("raw.h5", "/exchange")
    with open_scan(tmp_path / "scan.h5") as scan:
        assert np.array_equal(scan.read_rows(0, 1), raw_values()[:, :1])


def test_a_virtual_scan_is_judged_by_its_sources(tmp_path):
    layout = h5py.VirtualLayout((6, N_ROWS, N_COLS), "u2")
    for number in range(3):
        name = f"part{number}.h5"
        layout[2 * number : 2 * number + 2] = h5py.VirtualSource(name, "d", (2, N_ROWS, N_COLS))
        with h5py.File(tmp_path / name, "w") as file:
            file["d"] = raw_values()[2 * number : 2 * number + 2]

    def change(file):
        del file[DATA], file[THETA]
        file.create_virtual_dataset(DATA, layout)

    path = write(tmp_path / "a.h5", change)
    assert incomplete(read_metadata(path)) == ""
    with open_scan(path) as scan:
        assert np.array_equal(scan.read_rows(0, 3), raw_values()[:6])
    (tmp_path / "part1.h5").unlink()
    found = read_metadata(path)
    assert incomplete(found) == "aborted: the first 2 of 6 frames were written"
    assert "1 source files cannot be opened, the first is part1.h5" in found.warnings


def test_a_broken_chunk_is_an_error_when_read(tmp_path):
    path = write(tmp_path / "a.h5", chunks=(1, N_ROWS, N_COLS), compression="gzip")
    with h5py.File(path) as file:
        chunk = file[DATA].id.get_chunk_info(3)
    with open(path, "r+b") as stream:
        stream.seek(chunk.byte_offset)
        stream.write(b"\xff" * chunk.size)
    with open_scan(path) as scan:
        for read in (lambda: scan.read_rows(0, 1), lambda: scan.read_frames([3])):
            with pytest.raises(ScanError, match="cannot be read"):
                read()


def test_broken_files_give_reasons_and_nothing_else(tmp_path):
    """Cut and damage a file everywhere: it is read, or a ScanError says why not."""
    path = write(tmp_path / "a.h5", chunks=(1, N_ROWS, N_COLS), compression="gzip")
    content = path.read_bytes()
    random = np.random.default_rng(1)
    reasons = []
    for number in range(150):
        damaged = bytearray(content)
        if number % 3 == 0:
            del damaged[random.integers(len(content)) :]
        else:
            for at in random.integers(0, 3000, size=20):
                damaged[at] = random.integers(256)
        path.write_bytes(damaged)
        try:
            incomplete(read_metadata(path))
        except ScanError as error:
            reasons.append(str(error))
    assert len(reasons) > 75
    assert not any("\n" in reason for reason in reasons)


def test_a_file_open_for_writing_is_still_written(tmp_path):
    path = write(tmp_path / "a.h5")
    program = "import h5py, sys; f = h5py.File(sys.argv[1], 'r+'); print(flush=True); input()"
    writer = subprocess.Popen(
        [sys.executable, "-c", program, path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "HDF5_USE_FILE_LOCKING": "TRUE"},
    )
    try:
        writer.stdout.readline()
        with pytest.raises(StillWrittenError, match="still written"):
            read_metadata(path)
    finally:
        writer.communicate(b"\n")
    assert incomplete(read_metadata(path)) == ""


def dropped(gone, *, n_planned=N_ANGLES, places=True, ids=True, times=False, reset=True):
    """Return a change that takes frames away and leaves what areaDetector writes beside them.

    Two darks, one flat, the projections planned, two flats; the camera counts them all, or begins
    anew (`reset`) with the projections.
    """
    where = [DARKS] * 2 + [FLATS] + [DATA] * n_planned + [FLATS] * 2
    taken = np.delete(np.arange(len(where)), np.add(gone, 3))

    def change(file):
        del file[DATA], file[THETA]
        file[DATA] = np.delete(raw_values(n_planned), gone, axis=0)
        file[THETA] = np.linspace(0, 180, n_planned)
        numbers = taken - 3 * reset * (taken >= 3)
        if places:
            file["defaults/HDF5FrameLocation"] = np.array(["/" + where[i] for i in taken], "S")
        else:
            is_data = [where[i] == DATA for i in taken]
            numbers = numbers[is_data]
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
        ([2, 4], {"places": False}),
        ([2, 4], {"reset": False}),
        ([4], {"ids": False, "times": True}),
    ],
    ids=["numbers", "numbers of projections", "numbers of all", "times"],
)
def test_dropped_frames_take_their_angles_with_them(tmp_path, gone, options):
    path = write(tmp_path / "a.h5", dropped(gone, **options))
    found = read_metadata(path)
    assert incomplete(found) == ""
    text = f"{len(gone)} frames dropped by the camera: their angles are left out"
    assert found.warnings == (text,)
    with open_scan(path) as scan:
        assert np.allclose(np.rad2deg(scan.theta_rad), np.delete(30 * np.arange(7), gone))
        assert np.array_equal(scan.read_rows(0, 3), np.delete(raw_values(), gone, axis=0))


@pytest.mark.parametrize(
    "change", [dropped([2], ids=False), dropped([3, 4, 5, 6])], ids=["no numbers", "aborted"]
)
def test_frames_missing_who_knows_where_are_never_shifted(tmp_path, change):
    found = read_metadata(write(tmp_path / "a.h5", change))
    assert incomplete(found).startswith("aborted: ")


def test_sets_of_flats_from_where_each_frame_went(tmp_path):
    with open_scan(write(tmp_path / "a.h5", dropped([2]))) as scan:
        assert scan.flat_positions.tolist() == [0, 6, 6]
        assert [one.position for one in scan.flat_sets] == [0, 6]
        assert [one.mean[0, 0] for one in scan.flat_sets] == [1000, 1004.5]
        assert (scan.flat == 1003).all()
    with open_scan(write(tmp_path / "b.h5")) as scan:
        assert [(one.position, one.last) for one in scan.flat_sets] == [(None, 3)]
    with open_scan(tmp_path / "b.h5", flats="none") as scan:
        assert scan.flat_sets == ()
        assert scan.n_flats == 0


def test_what_the_configuration_knows_comes_first(tmp_path):
    def change(file):
        file["measurement/instrument/monochromator/energy"] = 30.0
        file["measurement/instrument/detector_motor_stack/setup/z"] = 55.0

    path = write(tmp_path / "a.h5", change)
    (tmp_path / "angles.txt").write_text("\n".join(map(str, range(N_ANGLES))))
    found = read_metadata(path)
    assert (found.pixel_size_um, found.energy_kev, found.distance_mm) == (None, 30, 55)
    known = {"pixel_size_um": 1.5, "distance_mm": 60.0, "angles": str(tmp_path / "angles.txt")}
    found = read_metadata(path, known=known)
    assert (found.pixel_size_um, found.energy_kev, found.distance_mm) == (1.5, 30, 60)
    assert found.theta_deg.tolist() == list(range(N_ANGLES))
    assert "pixel size 1.5 um, the configuration" in found.found
    with open_scan(path, known=known) as scan:
        assert (scan.pixel_size_um, scan.energy_kev, scan.distance_mm) == (1.5, 30, 60)
