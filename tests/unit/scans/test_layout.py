"""Pixel size and energy from DXchange files, in all units."""

import h5py
import numpy as np
import pytest

from tomopipe.scans.layout import read_numbers

OBJECTIVE = "measurement/instrument/detection_system/objective"
RESOLUTION, MAGNIFICATION = f"{OBJECTIVE}/resolution", f"{OBJECTIVE}/magnification"
PIXEL = "measurement/instrument/detector/pixel_size"
ENERGY = "measurement/instrument/monochromator/energy"


def read(tmp_path, key, *values):
    """Write (name, value, units) and read."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name, value, units in values:
            file[name] = value
            if units is not None:
                file[name].attrs["units"] = units
        found = read_numbers(file)[key]
    return None if found is None else found.value


@pytest.mark.parametrize(
    ("value", "units", "expected_um"),
    [
        (0.69, "microns", 0.69),
        ("0.69 um", None, 0.69),
        ("6.9e-4MM", None, 0.69),
        ("um", None, None),
        ([0.69], "um", 0.69),
        (0.00069, "mm", 0.69),
        (6.9e-7, b"Meters", 0.69),
        (6.9e-7, ["m"], 0.69),
        (6.9e-7, None, 0.69),
        (0.69, None, 0.69),
        (0.69, "pixels", None),
        (-1.0, "um", None),
        (np.nan, "um", None),
        ("five", "um", None),
    ],
)
def test_pixel_size_in_its_units(tmp_path, value, units, expected_um):
    found_um = read(tmp_path, "pixel_size_um", (RESOLUTION, value, units))
    assert found_um == (None if expected_um is None else pytest.approx(expected_um))


def test_pixel_size_in_the_sample_comes_before_that_of_the_sensor(tmp_path):
    sensor = [(PIXEL, 3.45, "um"), (MAGNIFICATION, 5.0, None)]
    assert read(tmp_path, "pixel_size_um", *sensor) == pytest.approx(0.69)
    assert read(tmp_path, "pixel_size_um", *sensor, (RESOLUTION, 0.7, "um")) == 0.7
    assert read(tmp_path, "pixel_size_um", *sensor, (RESOLUTION, 0.0, "um")) == pytest.approx(0.69)
    assert read(tmp_path, "pixel_size_um", (PIXEL, 3.45, "um")) == 3.45
    nexus = ("measurement/instrument/detector/x_pixel_size", 3.45e-6, "m")
    assert read(tmp_path, "pixel_size_um", nexus) == pytest.approx(3.45)
    assert read(tmp_path, "pixel_size_um") is None


@pytest.mark.parametrize(
    ("value", "units", "expected_kev"),
    [
        (25.5, "keV", 25.5),
        (25500.0, "eV", 25.5),
        (0.0255, "MeV", 25.5),
        (25.3, "meV", 2.53e-5),  # thermal neutrons
        (25.5, "A", None),
    ],
)
def test_energy_in_its_units(tmp_path, value, units, expected_kev):
    found_kev = read(tmp_path, "energy_kev", (ENERGY, value, units))
    assert found_kev == (None if expected_kev is None else pytest.approx(expected_kev))


def test_a_group_or_a_dangling_link_is_no_number(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_group(RESOLUTION)
        file[ENERGY] = h5py.SoftLink("/gone")
        assert not any(read_numbers(file).values())


SENSOR = "measurement/instrument/detector"


@pytest.mark.parametrize("name", ["{}_pixel_size", "pixel_size_{}"])
@pytest.mark.parametrize(
    ("value", "units", "ratio"),
    [(0.01, "mm", 2.0), (10, "um", 2.0), (5, "um", 1.0), (10, "K", 1.0), (None, "um", 1.0)],
)
def test_the_height_of_a_pixel_as_a_part_of_its_width(tmp_path, name, value, units, ratio):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for axis, number, unit in (("x", 5.0, "um"), ("y", value, units)):
            if number is not None:
                file[f"{SENSOR}/{name.format(axis)}"] = number
                file[f"{SENSOR}/{name.format(axis)}"].attrs["units"] = unit
        file[MAGNIFICATION] = 10.0
        found = read_numbers(file)["pixel_size_um"]
    assert found.value == pytest.approx(0.5)
    assert found.ratio == pytest.approx(ratio)
