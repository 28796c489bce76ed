import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import yaozarrs
import zarr

from tests.pipes import pipe_at
from tests.unit.volumes.conftest import averaged
from tomopipe.errors import PipeInPlaceError, TomopipeError
from tomopipe.storage import checksums
from tomopipe.volume_formats import COMPRESSIONS
from tomopipe.volumes import volume_zarr
from tomopipe.volumes.encoding import encoding_of, with_statistics
from tomopipe.volumes.volume import new_volume
from tomopipe.volumes.volume_read import Origin, open_volume, read_mid_planes

SHAPE = (21, 150, 269)
DATA = np.random.default_rng(0).normal(1, 0.2, SHAPE).astype(np.float32)


def _write(path, data=DATA, order=None, output_format="zarr", **options):
    ranges = [(first, min(first + 4, len(data))) for first in range(0, len(data), 4)]
    with new_volume(path, data.shape, output_format=output_format, **options) as put:
        for first, last in order(ranges) if order else ranges:
            put(first, data[first:last])
    return zarr.open_group(path, mode="r")


def test_it_is_ome_zarr_by_an_independent_validator(tmp_path):
    _write(tmp_path / "x_rec.zarr", attributes={"voxel_size_um": 1.5})
    yaozarrs.validate_zarr_store(str(tmp_path / "x_rec.zarr"))
    image = json.loads((tmp_path / "x_rec.zarr" / "zarr.json").read_text())["attributes"]["ome"]
    assert image["version"] == "0.5"
    multiscale = image["multiscales"][0]
    assert multiscale["name"] == "x_rec.zarr"
    assert [(a["name"], a["type"], a["unit"]) for a in multiscale["axes"]] == [
        (name, "space", "micrometer") for name in "zyx"
    ]


@pytest.mark.parametrize("compression", COMPRESSIONS["zarr2"])
def test_zarr_2_is_ome_zarr_0_4_with_the_same_voxels_and_levels(tmp_path, compression, request):
    request.getfixturevalue("_many_shards")
    about = {"voxel_size_um": 1.5, "units": "1/cm"}
    data = DATA.copy()
    data[:5, :70] = 0  # chunks that are not stored
    options = {"attributes": about, "compression": compression, "encoding": encoding_of("float32")}
    old = _write(tmp_path / "old_rec.zarr", data, output_format="zarr2", **options)
    new = _write(tmp_path / "new_rec.zarr", data, **options)
    assert (old.metadata.zarr_format, new.metadata.zarr_format) == (2, 3)
    assert not list((tmp_path / "old_rec.zarr").rglob("zarr.json"))
    yaozarrs.validate_zarr_store(str(tmp_path / "old_rec.zarr"))
    (image,) = old.attrs["multiscales"]
    assert image["version"] == "0.4"
    for key in ("axes", "datasets", "type"):
        assert image[key] == new.attrs["ome"]["multiscales"][0][key]
    for dataset in image["datasets"]:
        name = dataset["path"]
        assert old[name][:].tobytes() == new[name][:].tobytes()
        assert old[name].chunks == new[name].chunks
        assert old[name].dtype == np.float32
    np.testing.assert_array_equal(old["0"][:], data)
    chunks = {path.relative_to(tmp_path / "old_rec.zarr/0").parts
              for path in (tmp_path / "old_rec.zarr/0").glob("*/*/*")}  # fmt: skip
    assert ("1", "2", "4") in chunks
    assert ("0", "0", "0") not in chunks  # zeros
    assert checksums.made(tmp_path / "old_rec.zarr") == checksums.checksum_of(
        tmp_path / "old_rec.zarr"
    )
    with open_volume(tmp_path / "old_rec.zarr") as volume:
        np.testing.assert_array_equal(volume.read_slice(20), data[20])
        np.testing.assert_array_equal(
            volume.read_plane("yz", 268, 1, slice(3, 9)), data[3:9, :, 268]
        )
        assert volume.described == about
    for name, plane in read_mid_planes(tmp_path / "old_rec.zarr").items():
        np.testing.assert_array_equal(plane, read_mid_planes(tmp_path / "new_rec.zarr")[name])


@pytest.fixture
def _many_shards(monkeypatch):
    """As in large volumes: shards of several chunks each."""
    monkeypatch.setattr(volume_zarr, "_CHUNK_VOXELS", 2**14)  # 4 slices deep, 64 pixels wide
    monkeypatch.setattr(volume_zarr, "BUFFER_BYTES", 2**20)


def _files(path):
    return {p.relative_to(path): p.read_bytes() for p in path.rglob("*") if p.is_file()}


def test_a_volume_of_2048_is_a_few_hundred_files(tmp_path):
    def n_files(shape):
        levels = volume_zarr.level_shapes(shape)
        shards = [np.ceil(np.divide(s, volume_zarr.shard_shape(s))).prod() for s in levels]
        planes = 3
        return sum(shards) + len(levels) + 2 * planes + len(["zarr.json", "mid_planes/zarr.json"])

    assert n_files((2048,) * 3) < 300
    _write(tmp_path / "x")
    assert len(_files(tmp_path / "x")) == n_files(SHAPE) + len([".tomopipe-manifest"])


@pytest.mark.slow
@pytest.mark.usefixtures("_many_shards")
@pytest.mark.parametrize("compression", ["none", "bitshuffle"])
def test_a_volume_of_many_shards_is_the_same_whatever_the_blocks(tmp_path, compression):
    data = np.where(np.arange(21)[:, None, None] < 9, 0, DATA)  # zeros are not stored
    data[:, :40, :40] = 0
    group = _write(tmp_path / "x", data, compression=compression)
    np.testing.assert_array_equal(group["0"][:], data)
    np.testing.assert_array_equal(group["0"][7:15, 100, 31:33], data[7:15, 100, 31:33])
    np.testing.assert_allclose(group["1"][:], averaged(data, 2), atol=1e-6)
    shards = list((tmp_path / "x" / "0" / "c").glob("*/0/0"))
    assert len(shards) == 4  # of six; the first two are of zeros
    with new_volume(tmp_path / "y", SHAPE, output_format="zarr", compression=compression) as put:
        put(0, data)
    found, expected = _files(tmp_path / "y"), _files(tmp_path / "x")
    del found[Path("zarr.json")], expected[Path("zarr.json")]  # the name of the volume
    del found[Path(".tomopipe-manifest")], expected[Path(".tomopipe-manifest")]
    assert found == expected


@pytest.mark.slow
@pytest.mark.usefixtures("_many_shards")
@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_threads_write_shards_that_zarr_reads(tmp_path, dtype):
    """Offsets, sizes and the index's checksum, which zarr-python compares, are those of Zarr."""
    data = DATA.copy()
    data[4:8, 64:128, 128:192] = 0  # a chunk that is not stored
    data[8:12] = 0  # and a layer of them, but for -0.0
    data[9, 70, 80] = -0.0
    encoding = encoding_of(dtype, (0, 2))
    with (
        ThreadPoolExecutor(3) as pool,
        new_volume(tmp_path / "x", SHAPE, output_format="zarr", encoding=encoding) as put,
    ):
        put(0, data, pool.map)
    level = zarr.open_group(tmp_path / "x", mode="r")["0"]
    assert level[:].tobytes() == encoding.encode(data).tobytes()
    layers = {int(path.parts[-3]) for path in (tmp_path / "x" / "0" / "c").glob("*/0/0")}
    assert layers == {0, 1, 2, 3, 4, 5} - ({2} if dtype == "uint8" else set())
    n_bytes = np.dtype(dtype).itemsize * 4 * 64 * 64
    index_bytes = 15 * 16 + 4  # of 3 x 5 chunks
    assert (tmp_path / "x/0/c/0/0/0").stat().st_size == 15 * n_bytes + index_bytes
    assert (tmp_path / "x/0/c/1/0/0").stat().st_size == 14 * n_bytes + index_bytes
    last = (tmp_path / "x/0/c/5/0/0").read_bytes()  # one slice of four: nothing else is in it
    assert not any(last[n_bytes // 4 : n_bytes])
    assert checksums.made(tmp_path / "x") == checksums.checksum_of(tmp_path / "x")


@pytest.mark.slow
@pytest.mark.parametrize("order", [None, lambda ranges: ranges[::-1]], ids=["in order", "reversed"])
@pytest.mark.parametrize("shards", ["one", "many"])
def test_levels_are_averages(tmp_path, order, shards, request):
    if shards == "many":
        request.getfixturevalue("_many_shards")
    group = _write(tmp_path / "x", order=order)
    shapes = [group[str(level)].shape for level in range(3)]
    assert shapes == [SHAPE, (11, 75, 135), (6, 38, 68)]
    np.testing.assert_array_equal(group["0"][:], DATA)
    np.testing.assert_allclose(group["1"][:], averaged(DATA, 2), rtol=1e-6)
    # blocks of 4 that are whole; at the edges halves are averaged, not voxels
    whole = averaged(DATA[:20, :148, :268], 4)
    np.testing.assert_allclose(group["2"][:5, :37, :67], whole, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("first", [(0, 0, 0), (5, 17, 40)], ids=["whole", "part"])
def test_levels_lie_where_their_voxels_lie_in_the_whole(tmp_path, first):
    """A ramp along each axis has, at every level, the value of the position it is said to be at."""
    options = {"attributes": {"voxel_size_um": 0.5}, "origin": Origin(0, first)}
    part = tuple(slice(begin, begin + n) for begin, n in zip(first, (15, 133, 250), strict=True))
    for axis, ramp in enumerate(np.indices((20, 150, 290), dtype=np.float32)):
        group = _write(tmp_path / "x", np.ascontiguousarray(ramp[part]), **options)
        for dataset in group.attrs["ome"]["multiscales"][0]["datasets"]:
            scale, shift = (
                transform[transform["type"]][axis]
                for transform in dataset["coordinateTransformations"]
            )
            # the last one may average fewer
            data = np.moveaxis(group[dataset["path"]][:], axis, 0)[:-1, 0, 0]
            places_um = shift + scale * np.arange(len(data))
            np.testing.assert_allclose(places_um, 0.5 * data, atol=1e-4)


def test_a_thin_volume_is_averaged_along_the_long_sides_only(tmp_path):
    group = _write(tmp_path / "x", DATA[:1])
    assert [group[str(level)].shape for level in range(3)] == [
        (1, 150, 269),
        (1, 75, 135),
        (1, 38, 68),
    ]
    transforms = group.attrs["ome"]["multiscales"][0]["datasets"][2]["coordinateTransformations"]
    assert transforms[0]["scale"] == [1, 4, 4]
    np.testing.assert_allclose(group["1"][0], averaged(DATA[:1], 2)[0], rtol=1e-6)
    yaozarrs.validate_zarr_store(str(tmp_path / "x"))


def test_levels_of_whole_numbers_average_the_values_not_the_rounded(tmp_path):
    encoding = encoding_of("uint8", (0, 2))
    group = _write(tmp_path / "x", encoding=encoding)
    level = group["2"]
    assert level.dtype == np.uint8
    values = encoding.offset + encoding.scale * level[:5, :37, :67]
    np.testing.assert_allclose(values, averaged(DATA[:20, :148, :268], 4), atol=0.51 * 2 / 255)


@pytest.mark.parametrize("dtype", ["float32", "float16", "uint16", "uint8"])
def test_encoded_slices_are_averaged_along_one_axis_after_the_other(tmp_path, dtype):
    """To the bit: the same volume is the same file, whatever computes the averages."""
    encoding = encoding_of(dtype, (0.1, 2))
    slices = with_statistics(DATA, encoding, SHAPE[0] // 2, encode=True)
    assert slices.slices.dtype == dtype
    with new_volume(tmp_path / "x", SHAPE, output_format="zarr", encoding=encoding) as put:
        put(0, slices)
    values = encoding.decode(slices.slices)
    for axis in range(3):
        first, second = (np.moveaxis(values, axis, 0)[k::2] for k in (0, 1))
        first[: len(second)] = np.float32(0.5) * (first[: len(second)] + second)
        values = np.moveaxis(first, 0, axis)
    level = zarr.open_group(tmp_path / "x", mode="r")["1"][:]
    assert level.tobytes() == encoding.encode(values).tobytes()


@pytest.mark.parametrize("side", [2048, 4096])
def test_chunks_are_shallow_where_slices_are_large(side):
    chunks = volume_zarr.chunk_shape((side,) * 3)
    assert 4 * chunks[0] * side**2 <= volume_zarr.BUFFER_BYTES
    assert np.prod(chunks) == 2**20


def test_the_package_is_asked_for_where_it_is_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(TomopipeError, match=r"pip install 'tomopipe\[zarr\]'"):
        _write(tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_a_layer_of_chunks_is_read_once_for_its_rows(tmp_path, monkeypatch):
    _write(tmp_path / "x")
    taken = []
    getitem = zarr.Array.__getitem__
    monkeypatch.setattr(zarr.Array, "__getitem__", lambda a, i: taken.append(i) or getitem(a, i))
    with open_volume(tmp_path / "x") as volume:
        for row in (0, 15, 20, 16, 3):
            np.testing.assert_array_equal(volume.read_slice(row), DATA[row])
    assert taken == [slice(0, 16), slice(16, 32), slice(0, 16)]


@pytest.mark.parametrize("name", ["0/c/1/0/0", "1/zarr.json", "mid_planes/mid_xz/c/0/0"])
def test_a_pipe_in_the_place_of_a_chunk_or_of_a_description_is_not_opened(tmp_path, name):
    _write(tmp_path / "x")
    opened = tmp_path / "opened"

    def look():
        with open_volume(tmp_path / "x", check_sizes=False) as volume:
            np.testing.assert_array_equal(volume.read_slice(0), DATA[0])
            volume.read_slice(20)
        read_mid_planes(tmp_path / "x")

    says = f"{name}: is a pipe, not a file: remove it"
    with pipe_at(tmp_path / "x" / name, opened), pytest.raises(Exception, match=says) as caught:
        look()
    assert not opened.exists()
    assert isinstance(caught.value.__cause__ or caught.value, PipeInPlaceError)
