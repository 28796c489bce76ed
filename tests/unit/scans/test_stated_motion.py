"""Positions of the sample that a file states: motion by more than a pixel is said."""

import numpy as np
import pytest
from exchange_files import N_ANGLES, write
from nxtomo_files import KEYS, PROJECTIONS, number, write_nxtomo

from tests.phantoms import write_scan
from tomopipe.config import InputBlock, PreprocessBlock
from tomopipe.cor.collected_rows import collect_rows, read_rows, write_rows
from tomopipe.errors import ScanError
from tomopipe.scans.exchange import RawScan

PIXEL_M = 6.5e-7  # of write_nxtomo


def of_nxtomo(tmp_path, name, values, units="m", options=InputBlock(), pixel=True):
    def change(entry):
        number(entry["sample"], name, values, units)
        if not pixel:
            del entry["instrument/detector/x_pixel_size"]

    path = write_nxtomo(tmp_path / "a.nx", change=change)
    return RawScan(path, options).metadata()


def every_frame(of_projections, elsewhere=0.0):
    values = np.full(len(KEYS), elsewhere)
    values[PROJECTIONS] = of_projections
    return values


def test_a_helical_scan_is_said_with_its_pixels(tmp_path):
    values = every_frame(np.linspace(0, 20, 6) * PIXEL_M)
    metadata = of_nxtomo(tmp_path, "z_translation", values)
    (text,) = metadata.stated_motion
    assert text.startswith("/entry0000/sample/z_translation: the sample moves by 20.0 px (1.3e-05")
    assert "helical scan" in text
    assert text in metadata.warnings


def test_a_sideways_jitter_is_no_helix(tmp_path):
    values = np.array([0, 6, -1, 3, 2, 5]) * PIXEL_M * 1e3
    (text,) = of_nxtomo(tmp_path, "x_translation", values, "mm").stated_motion
    assert "the sample moves by 7.0 px (0.00455 mm)" in text
    assert "helical" not in text


@pytest.mark.parametrize(
    "values",
    [
        every_frame(5.0, elsewhere=9.0),  # aside for the flats
        every_frame(np.linspace(0, 0.9, 6) * PIXEL_M),
        every_frame(np.nan),
        np.zeros(3),  # a list of something else
    ],
    ids=["aside", "small", "nan", "other"],
)
def test_nothing_is_said_of_a_sample_that_stays(tmp_path, values):
    metadata = of_nxtomo(tmp_path, "y_translation", values)
    assert metadata.stated_motion == ()
    assert not any("moves" in text for text in metadata.warnings)


@pytest.mark.parametrize(("units", "pixel"), [(None, True), ("steps", True), ("um", False)])
def test_what_cannot_be_turned_into_pixels_is_a_warning_alone(tmp_path, units, pixel):
    values = every_frame(np.linspace(0, 20, 6))
    metadata = of_nxtomo(tmp_path, "z_translation", values, units, pixel=pixel)
    assert metadata.stated_motion == ()
    assert any(f"moves by 20 {units or '(no unit)'}" in text for text in metadata.warnings)


def test_projections_that_are_skipped_do_not_count(tmp_path):
    values = every_frame(np.array([0, 0, 0, 0, 8, 8]) * PIXEL_M)
    options = InputBlock(skip_projections=[[4, 5]])
    assert of_nxtomo(tmp_path, "z_translation", values, options=options).stated_motion == ()


@pytest.mark.parametrize(
    ("name", "is_read"),
    [
        ("process/acquisition/sample_z", True),
        ("measurement/instrument/sample_motor_stack/setup/SampleTopX", True),
        ("measurement/sample/z", True),
        ("measurement/instrument/detector/x", False),
        ("measurement/sample/temperature", False),
    ],
)
def test_positions_of_a_dxchange_file(tmp_path, name, is_read):
    def change(file):
        file[name] = np.linspace(0, 0.012, N_ANGLES)
        file[name].attrs["units"] = "mm"

    raw = RawScan(write(tmp_path / "a.h5", change), InputBlock(pixel_size_um=2.0))
    assert len(raw.metadata().stated_motion) == is_read
    if is_read:
        assert "moves by 6.0 px (0.012 mm)" in raw.metadata().stated_motion[0]


def test_they_reach_rows_h5(tmp_path):
    from h5py import File

    truth = write_scan(tmp_path / "a.h5", n_angles=20, n_rows=4, n_cols=24)
    with File(truth.path, "r+") as file:
        file["measurement/sample/z"] = np.arange(20.0)
        file["measurement/sample/z"].attrs["units"] = "µm"
    with RawScan(truth.path, InputBlock(pixel_size_um=1.0)).open() as scan:
        rows = collect_rows(scan, [1], PreprocessBlock())
    write_rows(rows, tmp_path / "rows.h5")
    (text,) = read_rows(tmp_path / "rows.h5").stated_motion
    assert "/measurement/sample/z: the sample moves by 19.0 px (19 µm)" in text


SHIFTS_PX = np.array([[0, 0], [3, -2], [1, 4], [-6, 0], [2.5, 1], [-2, 0]], float)


@pytest.fixture
def shifted(tmp_path):
    """A scan whose sample is shifted by columns to the right and rows down, from 12 mm on."""

    def change(entry):
        right, down = SHIFTS_PX.T * PIXEL_M
        number(entry["sample"], "x_translation", every_frame(right * 1e3 + 12, 90.0), "mm")
        number(entry["sample"], "z_translation", every_frame(-down), "m")
        number(entry["sample"], "y_translation", every_frame(np.arange(6.0)), "mm")

    return write_nxtomo(tmp_path / "a.nx", change=change)


def test_stated_shifts_are_those_of_the_image(shifted):
    expected = SHIFTS_PX - np.median(SHIFTS_PX, axis=0)
    with RawScan(shifted).open() as scan:
        assert np.allclose(scan.stated_shifts_px(), expected, atol=1e-6)
    with RawScan(shifted, InputBlock(skip_projections=[0])).open() as scan:
        expected = SHIFTS_PX[1:] - np.median(SHIFTS_PX[1:], axis=0)
        assert np.allclose(scan.stated_shifts_px(), expected, atol=1e-6)


def test_motion_that_is_corrected_is_no_doubt(shifted, tmp_path):
    with RawScan(shifted).open() as scan:
        kept = collect_rows(scan, [0], PreprocessBlock())
        small = PreprocessBlock(shifts="stated", shifts_scale=[0.1, 0.1])  # for so few pixels
        (along_the_beam,) = collect_rows(scan, [0], small).stated_motion
    assert len(kept.stated_motion) == 3
    assert "/y_translation: " in along_the_beam


@pytest.mark.parametrize(
    ("units", "values", "pixel", "fault"),
    [
        ("steps", np.arange(6.0), True, "its unit 'steps' is not known"),
        ("um", np.arange(6.0), False, "set input.pixel_size_um"),
        ("um", np.array([0, 1, np.nan, 3, 4, 5]), True, "1 of its values are not finite"),
    ],
)
def test_stated_shifts_that_are_no_pixels_are_refused(tmp_path, units, values, pixel, fault):
    def change(entry):
        number(entry["sample"], "x_translation", every_frame(values), units)
        if not pixel:
            del entry["instrument/detector/x_pixel_size"]

    path = write_nxtomo(tmp_path / "a.nx", change=change)
    with RawScan(path).open() as scan, pytest.raises(ScanError) as error:
        scan.stated_shifts_px()
    assert str(error.value).startswith(f"{path}: preprocess.shifts: stated: /entry0000/sample/x_t")
    assert fault in str(error.value)
