import os

import numpy as np
import pytest
import tifffile

from tests.tiff_files import read_slices, read_try_stack
from tomopipe.volumes import tiff

PAGES = (np.arange(3 * 4 * 5, dtype=np.uint16) * 900).reshape(3, 4, 5)


@pytest.mark.parametrize("n", [1, 3])
def test_try_stack_is_one_imagej_stack_in_order_with_labels(tmp_path, n):
    cor_px = [10.0, 10.3333, 1000.5][:n]
    pages = (page for page in PAGES[:n])
    tiff.write_try_stack(pages, cor_px, tmp_path / "try.tif", shape=(4, 5))
    with tifffile.TiffFile(tmp_path / "try.tif") as file:
        assert (file.is_imagej, len(file.series)) == (True, 1)
        assert n == 1 or file.imagej_metadata["slices"] == n
    images, read_px = read_try_stack(tmp_path / "try.tif")
    assert images.dtype == np.uint16
    np.testing.assert_array_equal(images, PAGES[:n])
    np.testing.assert_allclose(read_px, cor_px, atol=1e-9)


def test_a_page_that_failed_is_labelled_so(tmp_path):
    labels = ["failed: constant frames, «x»"]
    tiff.write_stack(PAGES[:1], labels, tmp_path / "try.tif", shape=(4, 5))
    assert np.isnan(read_try_stack(tmp_path / "try.tif")[1]).tolist() == [True]
    with tifffile.TiffFile(tmp_path / "try.tif") as file:
        assert file.imagej_metadata["Labels"] == labels[0]


@pytest.mark.parametrize(
    ("row", "cor_px", "name"),
    [
        (7, 1024.5, "recon_slice0007_center1024.50.tiff"),
        (12345, 3, "recon_slice12345_center03.00.tiff"),
    ],
)
def test_try_slice_name_is_tomoguis(row, cor_px, name):
    assert tiff.try_slice_name(row, cor_px) == name


def test_try_slices_are_listed_by_cor_as_a_number(tmp_path):
    for row, cor_px in [(2, 1000.0), (2, 999.5), (10, 3.0), (2, 1000.5)]:
        tiff.write_slice(np.zeros((2, 2)), tmp_path / tiff.try_slice_name(row, cor_px))
    (tmp_path / "recon_00000.tiff").touch()
    expected = [(2, 999.5), (2, 1000.0), (2, 1000.5), (10, 3.0)]
    listed = [path.name for path in tiff.try_slice_paths(tmp_path)]
    assert listed == [tiff.try_slice_name(row, cor_px) for row, cor_px in expected]


def test_stale_try_slices_are_removed_foreign_ones_kept_on_request(tmp_path):
    tiff.write_slice(np.zeros((2, 2)), tmp_path / tiff.try_slice_name(1, 5))
    tifffile.imwrite(tmp_path / tiff.try_slice_name(1, 6), np.zeros((2, 2)), software="TomoCuPy")
    (tmp_path / tiff.try_slice_name(1, 7)).write_text("no TIFF")
    (tmp_path / "try.json").touch()
    tiff.remove_try_slices(tmp_path, foreign=False)
    names = [tiff.try_slice_name(1, cor_px) for cor_px in (6, 7)]
    assert sorted(os.listdir(tmp_path)) == [*names, "try.json"]
    tiff.remove_try_slices(tmp_path, foreign=True)
    kept = [path.name.partition(".before-")[0] for path in sorted(tmp_path.iterdir())]
    assert kept == [*names, "try.json"]
    assert tiff.try_slice_paths(tmp_path) == []


def test_volume_slices_are_float32_zero_padded_and_in_order(tmp_path):
    for row in [100000, 99999, 3]:
        tiff.write_slice(np.full((2, 3), row / 8), tiff.slice_path(tmp_path, row))
    names = [path.name for path in tiff.slice_paths(tmp_path)]
    assert names == ["recon_00003.tiff", "recon_99999.tiff", "recon_100000.tiff"]
    volume = read_slices(tiff.slice_paths(tmp_path))
    assert volume.dtype == np.float32
    assert volume[:, 1, 2].tolist() == [0.375, 99999 / 8, 12500.0]
