"""The preview of a volume: averages of its voxels, few bytes, made as slices come."""

import os

import h5py
import numpy as np
import pytest

from tests.unit.volumes.conftest import averaged
from tomopipe.volumes.encoding import encoding_of, with_statistics
from tomopipe.volumes.output_size import volume_bytes
from tomopipe.volumes.preview import level_shapes, preview_bytes
from tomopipe.volumes.volume import new_volume

DATA = np.random.default_rng(0).normal(1, 0.2, (67, 90, 101)).astype(np.float32)
NOTES = {"h5": "", "tiff": "mid_planes.h5"}


def write(path, output_format, ranges=((0, 20), (20, 67)), **options):
    with new_volume(path, DATA.shape, output_format=output_format, **options) as put:
        for first, last in ranges:
            put(first, DATA[first:last])
    return path / NOTES[output_format] if NOTES[output_format] else path


@pytest.mark.parametrize("output_format", ["h5", "tiff"])
@pytest.mark.parametrize("ranges", [((0, 20), (20, 67)), ((33, 67), (0, 33))])
def test_it_is_the_average_of_the_voxels_in_any_order(tmp_path, small, output_format, ranges):
    with h5py.File(write(tmp_path / "x", output_format, ranges)) as file:
        for factor in (4, 8):
            np.testing.assert_allclose(file[f"preview/{factor}"], averaged(DATA, factor), rtol=1e-5)


def test_it_is_the_same_bytes_in_any_order(tmp_path, small):
    found = []
    for name, ranges in (("a", [(0, 67)]), ("b", [(i, i + 1) for i in reversed(range(67))])):
        with h5py.File(write(tmp_path / name, "h5", ranges)) as file:
            found.append([file[f"preview/{factor}"][:].tobytes() for factor in (4, 8)])
    assert found[0] == found[1]


def test_it_is_stored_as_the_volume_is(tmp_path, small):
    encoding = encoding_of("uint8", (0, 2))
    with h5py.File(write(tmp_path / "x", "h5", encoding=encoding)) as file:
        assert file["preview/4"].dtype == np.uint8
        found = encoding.decode(file["preview/4"][:])
        np.testing.assert_allclose(found, averaged(DATA, 4), atol=0.51 * encoding.scale)


@pytest.mark.parametrize("dtype", ["float16", "uint16", "uint8"])
def test_slices_that_come_encoded_give_it_within_a_count(tmp_path, small, dtype):
    """A GPU encodes; then it is made of stored numbers, and of fewer pixels at the edges."""
    encoding = encoding_of(dtype, (0, 2))
    with new_volume(tmp_path / "x", DATA.shape, encoding=encoding) as put:
        put(0, with_statistics(DATA, encoding, len(DATA) // 2, encode=True))
    with h5py.File(tmp_path / "x") as file:
        for factor in (4, 8):
            step = encoding.scale if encoding.is_whole else 1e-3
            found = encoding.decode(file[f"preview/{factor}"][:])
            np.testing.assert_allclose(found, averaged(DATA, factor), atol=1.01 * step)


def test_a_small_volume_has_none_and_is_the_same_file_as_before(tmp_path):
    with h5py.File(write(tmp_path / "x", "h5")) as file:
        assert sorted(file) == ["entry", "exchange", "provenance"]


@pytest.mark.parametrize(
    "shape", [(2048, 2048, 2048), (2160, 2560, 2560), (500, 700, 701), (999, 4097, 4097)]
)
@pytest.mark.parametrize("itemsize", [1, 4])
def test_it_takes_at_most_a_fiftieth(shape, itemsize):
    n_bytes = itemsize * np.prod(shape, dtype=float)
    assert 0.0175 * n_bytes < preview_bytes(shape, itemsize) <= 0.02 * n_bytes


def test_a_thin_volume_has_none():
    assert level_shapes((2, 4096, 4096), 4) == {}


def test_the_file_is_no_larger_than_that(tmp_path, small):
    path = write(tmp_path / "x", "h5")
    with h5py.File(path) as file:
        stored = sum(file[f"preview/{factor}"].id.get_storage_size() for factor in (4, 8))
    assert stored == preview_bytes(DATA.shape, 4)
    assert volume_bytes(DATA.shape, "float32") == DATA.nbytes + stored
    assert volume_bytes(DATA.shape, "float32", "tiff") == DATA.nbytes + stored
    assert os.listdir(tmp_path) == ["x"]
