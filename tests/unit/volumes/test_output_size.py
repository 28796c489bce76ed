import math

import pytest

from tomopipe.volumes.output_size import smallest_binning, try_bytes, volume_bytes, volume_shape
from tomopipe.volumes.volume_zarr import level_shapes


@pytest.mark.parametrize(
    ("limit_bytes", "binning"),
    # 1024 of header, and 7 x 11 x 20 x 4 = 6160 bytes, or 7 x 5 x 10 x 4 = 1400
    [(7185, 1), (7184, 2), (2425, 2), (2424, 3), (1000, 11)],
)
def test_smallest_binning_at_its_limits(limit_bytes, binning):
    assert smallest_binning(7, 11, 21, limit_bytes) == binning


def test_volumes_lose_incomplete_blocks_and_keep_one_voxel():
    assert volume_shape(65, 101, 2) == (32, 50, 50)
    crops = {"rows": [10, 10], "crop_y": [0, 8], "crop_x": [50, 100]}
    assert volume_shape(65, 101, 4, **crops) == (1, 2, 12)


@pytest.mark.parametrize("shape", [(64, 512, 512), (500, 501, 503)])
def test_ome_zarr_counts_its_levels(shape):
    levels = 2 * sum(map(math.prod, level_shapes(shape)))
    assert volume_bytes(shape, "uint16", "zarr") == pytest.approx(levels, rel=0.02)


def test_try_slices_are_binned_to_fit():
    assert try_bytes(3, 2048, 1024) == 3 * 2 * 1024**2
    assert try_bytes(3, 2049, 1024, n_full_rows=2) == 3 * (2 * 683**2 + 2 * 4 * 2049**2)
