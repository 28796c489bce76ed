"""DXchange scans: what is read of good ones."""

import re

import h5py
import hdf5plugin
import numpy as np
import pytest
import yaml

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

PIXEL_SIZE, DISTANCE, ENERGY = (
    f"/measurement/instrument/{name}"
    for name in ("detector/pixel_size", "detector/distance", "monochromator/energy")
)


def with_number(name, value, units):
    """Write a number with its unit."""

    def change(file):
        file[name] = value
        if units:
            file[name].attrs["units"] = units

    return change


@pytest.mark.parametrize(
    ("dtype", "options"),
    [
        ("u1", {}),
        (">u2", {}),
        ("f4", {}),
        ("u2", {"chunks": (1, N_ROWS, N_COLS), "compression": "gzip"}),
        ("u2", {"chunks": (N_ANGLES, 1, N_COLS)}),
        ("i4", {"chunks": (2, 2, 2), **hdf5plugin.Blosc()}),
    ],
    ids=["contiguous", "big endian", "float", "gzip", "sinogram chunks", "blosc"],
)
def test_pixels_come_back_as_written(tmp_path, dtype, options):
    path = write(tmp_path / "a.h5", dtype=dtype, **options)
    raw = raw_values(dtype=dtype)
    metadata = read_metadata(path)
    assert (metadata.n_angles, metadata.n_rows, metadata.n_cols) == raw.shape
    assert metadata.data_bytes == raw.nbytes
    assert metadata.theta_deg.tolist() == [0, 30, 60, 90, 120, 150, 180]
    assert (metadata.n_written, metadata.warnings, incomplete(metadata)) == (N_ANGLES, (), "")
    with open_scan(path) as scan:
        assert (scan.n_flats, scan.n_darks) == (3, 2)
        rows = scan.read_rows(1, 3)
        assert np.array_equal(rows, raw[:, 1:3])
        assert rows.dtype == scan.dtype
        assert rows.dtype.isnative
        assert np.array_equal(scan.read_frames([4, 0, 4]), raw[[4, 0, 4]])
        assert scan.flat.dtype == scan.dark.dtype == np.float32
        assert np.array_equal(scan.flat, np.full((N_ROWS, N_COLS), 1003, np.float32))
        assert np.array_equal(scan.dark, np.full((N_ROWS, N_COLS), 10.5, np.float32))
        assert np.allclose(scan.theta_rad, np.linspace(0, np.pi, N_ANGLES), atol=1e-15)


def test_one_row_one_angle_one_flat(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file[DATA] = np.full((1, 1, 5), 3, "u1")
        file[FLATS], file[DARKS] = np.full((1, 5), 9, "u1"), np.zeros((1, 1, 5), "u1")
        file[THETA] = [12.0]
    assert incomplete(read_metadata(tmp_path / "a.h5")) == ""
    with open_scan(tmp_path / "a.h5") as scan:
        assert scan.read_rows(0, 1).tolist() == [[[3] * 5]]
        assert scan.flat.tolist() == [[9] * 5]


@pytest.mark.parametrize("partial", [False, True])
def test_without_theta_a_scan_is_incomplete_and_no_part_of_it_can_be_used(tmp_path, partial):
    path = write(tmp_path / "a.h5", replace(THETA, None))
    found = read_metadata(path)
    assert found.theta_deg is None
    assert incomplete(found) == "no angles: set input.angles: {start: 0, stop: 180}"
    said = pytest.raises(ScanError, match=r"a\.h5: no angles: set input\.angles")
    with said, open_scan(path, partial=partial):
        pass


@pytest.mark.parametrize(
    ("angles", "first_deg", "last_deg"),
    [
        ({"start": 0, "stop": 360}, 0, 360),
        ({"start": 10.0, "step": -0.5}, 10, 7),
        ("/measurement/my_angles", 0, 60),
    ],
)
def test_angles_that_the_configuration_tells(tmp_path, angles, first_deg, last_deg):
    def change(file):
        replace(THETA, None)(file)
        file["measurement/my_angles"] = np.deg2rad(np.arange(0, 70, 10))
        file["measurement/my_angles"].attrs["units"] = "rad"
        file["measurement/theta_too"] = np.arange(0, 140, 20.0)

    path = write(tmp_path / "a.h5", change)
    found = read_metadata(path, options={"angles": angles})
    assert incomplete(found) == ""
    with open_scan(path, options={"angles": angles}) as scan:
        assert np.rad2deg(scan.theta_rad)[[0, -1]] == pytest.approx([first_deg, last_deg])
    with pytest.raises(ScanError, match=r"no /nowhere \(input\.angles\)"):
        read_metadata(path, options={"angles": "/nowhere"})


def test_angles_elsewhere_in_the_file_are_found_by_name_unit_and_length(tmp_path):
    def write_with(**datasets):
        def change(file):
            replace(THETA, None)(file)
            file["instrument/sample_tilt_angle"] = np.arange(0, 70, 10.0)  # of something else
            file["instrument/temperature"] = np.arange(0, 70, 10.0)
            file["process/theta_planned"] = np.arange(0, 90, 10.0)  # too many
            for name, (values, unit) in datasets.items():
                file[f"process/{name}"] = values
                file[f"process/{name}"].attrs["units"] = unit

        return read_metadata(write(tmp_path / "a.h5", change))

    turn_deg = np.arange(0, 420, 60.0)
    assert write_with().theta_deg is None
    assert write_with(theta_of_nothing=(np.zeros(7), "")).theta_deg is None
    found = write_with(omega=(np.deg2rad(turn_deg), "rad"))
    np.testing.assert_allclose(found.theta_deg, turn_deg)
    assert "angles of /process/omega, by its name and length" in found.warnings
    assert "angles /process/omega, 360 degrees" in found.found
    assert write_with(position=(turn_deg, "deg")).theta_deg.tolist() == turn_deg.tolist()
    equal = write_with(rotation_set=(turn_deg, "deg"), rotation_is=(turn_deg + 2e-4, "deg"))
    assert equal.theta_deg is not None
    several = write_with(rotation=(turn_deg, "deg"), omega=(-turn_deg, "deg"))
    assert several.theta_deg is None
    assert any("/process/omega, /process/rotation, which differ" in w for w in several.warnings)


@pytest.mark.parametrize(
    ("n_planned", "reason"),
    [(None, ""), (N_ANGLES, ""), (N_ANGLES + 2, f"aborted: {N_ANGLES} frames for {N_ANGLES + 2} ")],
)
def test_angles_by_their_start_and_step(tmp_path, n_planned, reason):
    """Scans that were stopped have no theta; tomoscan states beforehand what is planned."""

    def change(file):
        replace(THETA, None)(file)
        group = file.create_group("process/acquisition/rotation")
        group["rotation_start"], group["rotation_step"] = [10.0], -20.0
        if n_planned:
            group["num_angles"] = [n_planned]

    path = write(tmp_path / "a.h5", change)
    result = read_metadata(path)
    assert incomplete(result).startswith(reason)
    assert bool(incomplete(result)) == bool(reason)
    assert result.theta_deg[:N_ANGLES] == pytest.approx(10 - 20.0 * np.arange(N_ANGLES))
    named = "angles of /process/acquisition/rotation/rotation_start and rotation_step"
    assert result.warnings == (named,)


def test_theta_as_a_column_and_in_radians(tmp_path):
    def change(file):
        replace(THETA, np.linspace(np.pi, 0, N_ANGLES)[:, None])(file)
        file[THETA].attrs["units"] = "radians"

    found = read_metadata(write(tmp_path / "a.h5", change))
    assert np.allclose(found.theta_deg, [180, 150, 120, 90, 60, 30, 0])
    assert found.warnings == ("theta in radians, as its units say",)


def test_angles_that_begin_again_at_360_degrees_go_on(tmp_path):
    angles = np.arange(300, 440, 20.0)
    found = read_metadata(write(tmp_path / "a.h5", replace(THETA, angles % 360)))
    assert found.theta_deg == pytest.approx(angles)
    assert "120 degrees" in found.found
    assert found.found.endswith("; a jump of the angles by 360 degrees taken out")


NOT_FINITE = [0, 1, np.nan, 3, 4, np.inf, 6]


@pytest.mark.parametrize(
    ("theta", "reason", "used"),
    [
        (np.arange(12.0), "aborted: 7 frames for 12 angles in /exchange/theta", 7),
        (np.arange(8.0), "8 angles in /exchange/theta; `select: yes` in scans.tsv takes", 7),
        (90 - np.arange(4.0) / 3, "{start: 0, stop: 180}, or to a file of 7 lines", 4),
        (np.zeros(0), "/exchange/theta has 0 angles for 7 frames, expected one for each: set ", 0),
        (NOT_FINITE, "2 of 7 angles not finite or not written: input: {skip_projections: [2, ", 5),
        (np.full(7, 90.0), "all 7 angles are 90", 7),
    ],
    ids=["longer", "by one", "shorter", "empty", "not finite", "constant"],
)
def test_theta_that_does_not_fit_is_incomplete(tmp_path, theta, reason, used):
    path = write(tmp_path / "a.h5", replace(THETA, theta))
    assert reason in incomplete(read_metadata(path))
    remedy = "skip_projections" if theta is NOT_FINITE else "select: yes"
    with pytest.raises(ScanError, match=remedy), open_scan(path):
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


@pytest.mark.parametrize(
    ("bad", "remedy"),
    [
        ([80, 81, 82, 83, 84, 85], "input: {skip_projections: [[80, 85]]} leaves them out, or set"),
        ([89], "input: {skip_projections: [89]} leaves it out, or set input.angles"),
        (np.arange(40, 90), ", the first is 40: set input.angles to {start: 0, stop: 180}"),
        (np.arange(0, 44, 2), ", the first is 0: `select: yes` in scans.tsv leaves them out, or"),
    ],
    ids=["a run", "the last", "most", "many runs"],
)
def test_angles_that_are_unknown_and_the_line_that_leaves_them_out(tmp_path, bad, remedy):
    """The option that the reason names makes the scan complete, with the other projections."""
    theta = np.linspace(0, 180, 90)
    theta[bad] = np.nan

    def change(file):
        for name, n in ((DATA, 90), (THETA, 90)):
            del file[name]
            file[name] = theta if name == THETA else np.ones((n, N_ROWS, N_COLS), "u2")

    path = write(tmp_path / "a.h5", change)
    reason = incomplete(read_metadata(path))
    assert f"{len(bad)} of 90 angles not finite or not written" in reason
    assert remedy in reason
    if "skip_projections" in reason:
        text = reason[reason.index("input: {") :].split("}")[0] + "}"
        options = yaml.safe_load(text)["input"]
        metadata = read_metadata(path, options=options)
        assert incomplete(metadata) == ""
        assert metadata.chosen.tolist() == np.delete(np.arange(90), bad).tolist()


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

    path, known = write(tmp_path / "a.h5", change), {"angles": {"start": 0, "stop": 180}}
    assert incomplete(read_metadata(path, options=known)) == ""
    with open_scan(path, options=known) as scan:
        assert np.array_equal(scan.read_rows(0, 3), raw_values()[:6])
    (tmp_path / "part1.h5").unlink()
    reason = incomplete(read_metadata(path, options=known))
    skipped = "skip_projections: [[2, 3]]"
    missing = "part1.h5 cannot be opened: 2 of 6 frames are missing; copy it there"
    assert reason == f"{missing}, or leave them out: input: {{{skipped}}}"
    with open_scan(path, options=known, partial=True) as scan:  # select: yes
        assert scan.numbers.tolist() == [0, 1, 4, 5]
    without = known | yaml.safe_load(skipped)
    assert incomplete(read_metadata(path, options=without)) == ""
    with open_scan(path, options=without) as scan:
        assert np.array_equal(scan.read_rows(0, 3), raw_values()[[0, 1, 4, 5]])
    (tmp_path / "part2.h5").unlink()
    reason = incomplete(read_metadata(path, options=known))
    assert (
        reason == "part1.h5 and 1 more cannot be opened: 4 of 6 frames are missing; copy it there"
    )


@pytest.mark.parametrize(("n", "end"), [(5, "the list"), (9, "unless the scan was aborted")])
def test_a_list_of_angles_that_does_not_fit_is_to_be_corrected(tmp_path, n, end):
    angles = tmp_path / "mine.txt"
    angles.write_text("\n".join(map(str, range(n))))
    known = {"angles": str(angles)}
    reason = incomplete(read_metadata(write(tmp_path / "a.h5"), options=known))
    assert reason.startswith(f"{angles} has {n} angles for 7 frames, expected one for each: corr")
    assert reason.endswith(end)


@pytest.mark.parametrize(
    ("values", "unit", "height_mm"),
    [(12.5, "mm", 12.5), ([1250.0, 1250.0], "um", 1.25), (3.0, None, 3.0), ("up", "mm", None)],
)
def test_the_height_of_the_stage_is_read(tmp_path, values, unit, height_mm):
    def change(file):
        file["measurement/instrument/sample_motor_stack/setup/y"] = values
        if unit:
            file["measurement/instrument/sample_motor_stack/setup/y"].attrs["units"] = unit

    assert read_metadata(write(tmp_path / "a.h5", change)).height_mm == height_mm
    assert read_metadata(write(tmp_path / "b.h5")).height_mm is None


def test_what_the_configuration_knows_comes_first(tmp_path):
    def change(file):
        file["measurement/instrument/monochromator/energy"] = 30.0
        file["measurement/instrument/detector_motor_stack/setup/z"] = 55.0

    path = write(tmp_path / "a.h5", change)
    (tmp_path / "angles.txt").write_text("\n".join(map(str, range(N_ANGLES))))
    found = read_metadata(path)
    assert (found.pixel_size_um, found.energy_kev, found.distance_mm) == (None, 30, 55)
    known = {"pixel_size_um": 1.5, "distance_mm": 60.0, "angles": str(tmp_path / "angles.txt")}
    found = read_metadata(path, options=known)
    assert (found.pixel_size_um, found.energy_kev, found.distance_mm) == (1.5, 30, 60)
    assert found.theta_deg.tolist() == list(range(N_ANGLES))
    assert "pixel size 1.5 um, the configuration; energy" in found.found
    assert "distance 60 mm, the configuration, where the file has 55" in found.found
    assert "other angles than those of the file, /exchange/theta" in found.found
    with open_scan(path, options=known) as scan:
        assert (scan.pixel_size_um, scan.energy_kev, scan.distance_mm) == (1.5, 30, 60)


@pytest.mark.parametrize(
    ("value", "units", "says"),
    [
        (0.65, "um/pixel", "pixel size 0.65 um/pixel (a unit that is not known), /meas"),
        (-0.65, "um", "pixel size -0.65 um (below 0), /meas"),
        (0.0, "um", "not found: pixel size, energy"),
    ],
)
def test_how_pixel_sizes_are_read(tmp_path, value, units, says):
    found = read_metadata(write(tmp_path / "a.h5", with_number(PIXEL_SIZE, value, units)))
    assert says in found.found
    assert found.warnings == ()


@pytest.mark.parametrize(
    ("key", "dataset", "value", "units", "fault"),
    [
        ("energy_kev", ENERGY, 25_000, "keV", "energy 25000 keV is implausible .* is it in eV"),
        ("energy_kev", ENERGY, 0.025, "keV", "energy 0.025 keV is implausible .* in MeV"),
        ("pixel_size_um", PIXEL_SIZE, 7e-7, "um", "pixel size 7e-07 um is implausible .* in m"),
        ("pixel_size_um", PIXEL_SIZE, 0.00065, "", "pixel size 650 um is implausible .* in nm"),
        ("distance_mm", DISTANCE, 0.05, "mm", "distance 0.05 mm is implausible .* in m"),
    ],
)
def test_implausible_numbers_skip_the_scan_until_the_configuration_has_others(
    tmp_path, key, dataset, value, units, fault
):
    path = write(tmp_path / "a.h5", with_number(dataset, value, units))
    right = {"energy_kev": 25.0, "pixel_size_um": 0.7, "distance_mm": 50.0}[key]
    assert re.search(rf"{fault}\? \({dataset}\); set input.{key}$", reason_of(path))
    assert getattr(read_metadata(path, options={key: right}), key) == right


def test_degrees_that_the_file_calls_radians_are_refused(tmp_path):
    path = write(tmp_path / "a.h5", lambda file: file[THETA].attrs.update(units="rad"))
    reason = reason_of(path)
    assert "angles look like deg (span 10313.2, about 180 degrees)" in reason
    assert "set input.angle_unit: deg, or rad if they are radians (/exchange/theta)" in reason
    assert read_metadata(path, options={"angle_unit": "deg"}).theta_deg[-1] == 180
    given = {"angles": {"start": 0, "stop": 10313.2}}
    assert read_metadata(path, options=given).theta_deg[-1] == 10313.2
