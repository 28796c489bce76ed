"""Planes of a volume at each level, of every format."""

import numpy as np
import pytest

from tomopipe.errors import TomopipeError
from tomopipe.volume_formats import COMPRESSIONS, OUTPUTS
from tomopipe.volumes.encoding import encoding_of
from tomopipe.volumes.volume import new_volume
from tomopipe.volumes.volume_read import open_volume

DATA = np.random.default_rng(0).normal(1, 0.2, (21, 150, 269)).astype(np.float32)
CUTS = {"xy": DATA[9, 3:60], "xz": DATA[3:17, 9], "yz": DATA[3:17, :, 9]}
PARTS = {"xy": slice(3, 60), "xz": slice(3, 17), "yz": slice(3, 17)}


def write(path, **options):
    with new_volume(path, DATA.shape, **options) as put:
        put(0, DATA)
    return path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("output_format", "compression"), [(f, c) for f, cs in COMPRESSIONS.items() for c in cs[:2]]
)
def test_a_part_of_a_plane_holds_the_voxels(tmp_path, output_format, compression):
    path = write(tmp_path / "x", output_format=output_format, compression=compression)
    with open_volume(path) as volume:
        assert volume.shape == DATA.shape
        for name, expected in CUTS.items():
            np.testing.assert_array_equal(volume.read_plane(name, 9, 1, PARTS[name]), expected)


@pytest.mark.parametrize("output_format", OUTPUTS)
def test_the_averages_are_about_the_same_place(tmp_path, output_format, small):
    encoding = encoding_of("uint16", (0, 2))
    path = write(tmp_path / "x", output_format=output_format, encoding=encoding)
    with open_volume(path) as volume:
        found = volume.read_plane("xz", 9, 4, slice(None))
    expected = DATA[:20, 8:12, :268].reshape(5, 4, 4, 67, 4).mean((1, 2, 4))
    np.testing.assert_allclose(found[:5, :67], expected, atol=2 * encoding.scale)


def test_what_is_no_volume_is_refused(tmp_path):
    (tmp_path / "x.h5").write_bytes(b"no volume")
    said = pytest.raises(TomopipeError, match="expected a volume of tomopipe")
    with said, open_volume(tmp_path / "x.h5"):
        pass
