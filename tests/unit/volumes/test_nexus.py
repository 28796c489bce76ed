"""The HDF5 volume as NeXus, by the rules of its manual (punx 0.3.5: no note, warning or error)."""

import h5py
import numpy as np
import pytest

from tomopipe.volumes.encoding import encoding_of
from tomopipe.volumes.volume import new_volume
from tomopipe.volumes.volume_read import Origin, open_volume

DATA = np.random.default_rng(0).normal(1, 0.2, (4, 6, 7)).astype(np.float32)
PROVENANCE = {
    "raw": "/data/Probe ä_001.h5",
    "scan": "Probe ä_001",
    "parameters": {"cor_px": 3.25, "rows": [4, 7], "iterations": None, "partial": False},
    "versions": {"tomopipe": "9.8.7"},
}


def written(path, **options):
    options = {"provenance": PROVENANCE} | options
    with new_volume(path, DATA.shape, **options) as put:
        put(0, DATA)
    return h5py.File(path)


def default_plot(file):
    """Follow `default` from the root to the NXdata, as a reader does."""
    group, expected = file, ["NXroot", "NXentry", "NXdata"]
    for nx_class in expected:
        assert group.attrs["NX_class"] == nx_class
        if nx_class != expected[-1]:
            group = group[group.attrs["default"]]
    return group


def test_a_reader_comes_to_the_voxels_and_their_positions(tmp_path):
    about = {"voxel_size_um": 1.5, "voxel_height_um": 2.0, "units": "1/cm"}
    with written(
        tmp_path / "x_rec.h5", attributes=about, origin=Origin(4, (4.0, 1.5, 0.0))
    ) as file:
        plot = default_plot(file)
        signal = plot[plot.attrs["signal"]]
        np.testing.assert_array_equal(signal[:], DATA)
        assert signal == file["exchange/data"]  # one dataset, which says where it was first
        assert file[signal.attrs["target"]] == signal
        assert "axes" not in signal.attrs  # the older way, which would name others
        assert signal.attrs["units"] == "1/cm"
        axes = list(plot.attrs["axes"])
        assert axes == ["z", "y", "x"]
        for i, (axis, first, size_um) in enumerate(
            zip(axes, (4.0, 1.5, 0.0), (2.0, 1.5, 1.5), strict=True)
        ):
            assert plot.attrs[f"{axis}_indices"] == i
            assert plot[axis].shape == signal.shape[i : i + 1]
            assert plot[axis].attrs["units"] == "um"
            np.testing.assert_allclose(plot[axis], size_um * (first + np.arange(signal.shape[i])))


def test_without_a_pixel_size_positions_are_pixels(tmp_path):
    with written(tmp_path / "x_rec.h5") as file:
        x = default_plot(file)["x"]
        assert x.attrs["units"] == "pixel"
        np.testing.assert_array_equal(x, np.arange(7))


def test_whole_numbers_come_with_what_they_stand_for(tmp_path):
    """By the convention of NXdata: (stored + offset) * scaling factor."""
    with written(tmp_path / "x_rec.h5", encoding=encoding_of("uint16", (-1, 2))) as file:
        plot = default_plot(file)
        values = (plot["data"][:] + plot["data_offset"][()]) * plot["data_scaling_factor"][()]
        np.testing.assert_allclose(values, DATA, atol=0.51 * 3 / 65535)
    with written(tmp_path / "y_rec.h5") as file:
        assert "data_offset" not in default_plot(file)


def test_the_process_has_program_version_and_parameters(tmp_path):
    with written(tmp_path / "x_rec.h5") as file:
        entry = file["entry"]
        assert entry["title"].asstr()[()] == "Probe ä_001"
        process = entry["reconstruction"]
        assert process.attrs["NX_class"] == "NXprocess"
        assert process["program"].asstr()[()] == "tomopipe"
        assert process["version"].asstr()[()] == "9.8.7"
        parameters = process["parameters"]
        assert parameters["cor_px"][()] == 3.25
        assert parameters["rows"].asstr()[()] == "[4, 7]"
        assert parameters["raw_file"].asstr()[()] == "/data/Probe ä_001.h5"
        assert set(parameters) == {"cor_px", "rows", "raw_file", "partial"}
        assert process["provenance/data"] == file["provenance/json"]


@pytest.mark.parametrize("provenance", [{}, {"parameters": None, "stacks": {"a": 1}}])
def test_a_volume_without_a_known_origin_is_nexus_too_and_is_read(tmp_path, provenance):
    with written(tmp_path / "x_rec.h5", provenance=provenance) as file:
        np.testing.assert_array_equal(default_plot(file)["data"][:], DATA)
        assert file["entry/title"].asstr()[()] == "x_rec.h5"
    with open_volume(tmp_path / "x_rec.h5") as volume:
        np.testing.assert_array_equal(volume.read_slice(2), DATA[2])
        assert volume.provenance == provenance
