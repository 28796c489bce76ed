import contextlib
import errno
import json
import os
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import tifffile
import zarr

from tests.tiff_files import read_slices
from tomopipe.arrays import PAGE_BYTES
from tomopipe.errors import NoRoomError, TomopipeError
from tomopipe.storage import checksums
from tomopipe.volume_formats import COMPRESSIONS, OUTPUTS
from tomopipe.volumes import tiff
from tomopipe.volumes.encoding import Encoding, encoding_of
from tomopipe.volumes.volume import make_room, new_volume
from tomopipe.volumes.volume_read import Origin, read_mid_planes, read_provenance

DATA = np.random.default_rng(0).normal(size=(5, 6, 7)).astype(np.float32)
PROVENANCE = {
    "raw": "/data/Probe ä_001.h5",
    "cor": {"cor_px": 12.25, "source": "manual"},
    "rows": [0, 4],
    "threads": None,
    "minus_log": True,
}


def _write(path, data=DATA, blocks=((0, 2), (2, 5)), shape=None, **options):
    with new_volume(path, shape or data.shape, **options) as put:
        for first, last in blocks:
            put(first, data[first:last])


def test_hdf5_holds_slices_as_chunks_and_attributes(tmp_path):
    options = {"attributes": {"units": "1/px"}, "provenance": PROVENANCE}
    _write(tmp_path / "x_rec.h5", blocks=[(3, 5), (0, 3)], **options)
    with h5py.File(tmp_path / "x_rec.h5") as file:
        data = file["exchange/data"]
        np.testing.assert_array_equal(data[:], DATA)
        assert data.dtype == np.float32
        assert data.chunks == (1, 6, 7)
        assert data.attrs["units"] == "1/px"
        assert data.attrs["max"] == DATA.max()
        assert file["provenance/cor"].attrs["cor_px"] == 12.25
        assert file["provenance"].attrs["raw"] == PROVENANCE["raw"]
        assert file["provenance"].attrs["rows"] == "[0, 4]"
    assert os.listdir(tmp_path) == ["x_rec.h5"]


@pytest.mark.parametrize("output_format", OUTPUTS)
@pytest.mark.parametrize("blocks", [[(0, 1)], [(3, 5), (0, 3)]], ids=["one slice", "five"])
def test_mid_planes_and_provenance_come_back(tmp_path, output_format, blocks):
    data = DATA[: blocks[0][1]]
    _write(tmp_path / "x", data, blocks, output_format=output_format, provenance=PROVENANCE)
    planes = read_mid_planes(tmp_path / "x")
    np.testing.assert_array_equal(planes["mid_xy"], data[len(data) // 2])
    np.testing.assert_array_equal(planes["mid_xz"], data[:, 3])
    np.testing.assert_array_equal(planes["mid_yz"], data[:, :, 3])
    assert read_provenance(tmp_path / "x") == PROVENANCE


def _backwards(function, *columns):
    """Do the last first, as threads may."""
    return [function(*args) for args in list(zip(*columns, strict=True))[::-1]][::-1]


@pytest.mark.parametrize("output_format", OUTPUTS)
@pytest.mark.parametrize("dtype", ["float32", "uint16"])
@pytest.mark.parametrize("shape", [(6, 7), (600, 610)])
def test_the_order_in_which_threads_store_slices_changes_nothing(
    tmp_path, small, output_format, dtype, shape
):
    data = np.random.default_rng(0).normal(size=(9, *shape)).astype(np.float32)
    options = {"output_format": output_format, "encoding": encoding_of(dtype, (-4, 4))}
    for name, each in (("a", map), ("b", _backwards)):
        with new_volume(tmp_path / name / "x", data.shape, **options) as put:
            put(0, data[:5], each)
            put(5, data[5:], each)
    assert checksums.made(tmp_path / "a/x") == checksums.checksum_of(tmp_path / "b/x")
    assert checksums.made(tmp_path / "b/x") == checksums.checksum_of(tmp_path / "b/x")


@pytest.mark.parametrize(
    ("output_format", "side"), [("h5", 600), ("tiff", 6), ("tiff", 600), ("zarr", 6), ("zarr", 600)]
)
def test_after_an_error_in_a_thread_none_goes_on_and_nothing_is_left(
    tmp_path, monkeypatch, output_format, side
):
    data = np.random.default_rng(0).normal(size=(4, side, side)).astype(np.float32)
    encode, ended, late = Encoding.encode, threading.Event(), []

    def fail(encoding, image):
        if np.array_equal(image, data[0]):
            raise OSError(errno.ENOSPC, "No space left on device", "x")
        late.append(ended.wait(0.3))
        return encode(encoding, image)

    monkeypatch.setattr(Encoding, "encode", fail)
    with ThreadPoolExecutor(4) as pool:
        with (
            pytest.raises(NoRoomError, match="no space left"),
            new_volume(tmp_path / "x", data.shape, output_format=output_format) as put,
        ):
            put(0, data, pool.map)
        ended.set()
    assert late
    assert not any(late)
    assert os.listdir(tmp_path) == []


def test_a_thread_that_an_interrupt_leaves_behind_writes_to_no_other_file(tmp_path, monkeypatch):
    """Descriptors of closed files are given to the next ones."""
    data = np.random.default_rng(0).normal(size=(1, 600, 600)).astype(np.float32)
    path, threads, pwrite = tmp_path / "other", [], os.pwrite
    path.write_bytes(b"of somebody else")
    begun, go_on = threading.Event(), threading.Event()

    def wait(*args):
        begun.set()
        go_on.wait(10)
        return pwrite(*args)

    def interrupted(function, *columns):
        threads.append(threading.Thread(target=lambda: list(map(function, *columns))))
        threads[-1].start()
        begun.wait(10)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "pwrite", wait)
    with pytest.raises(KeyboardInterrupt), new_volume(tmp_path / "new" / "x", data.shape) as put:
        put(0, data, interrupted)
    with contextlib.ExitStack() as stack:
        for _ in range(40):
            stack.enter_context(path.open("r+b", buffering=0))
        go_on.set()
        threads[-1].join()
    assert path.read_bytes() == b"of somebody else"
    assert os.listdir(tmp_path / "new") == []


def test_tiff_series_replaces_the_old_one_whole(tmp_path):
    _write(tmp_path / "x_rec", output_format="tiff")
    _write(tmp_path / "x_rec", DATA[:2], [(0, 2)], output_format="tiff", origin=Origin(40))
    notes = {".tomopipe-manifest", "mid_planes.h5", "provenance.json"}
    slices = {"recon_00040.tiff", "recon_00041.tiff"}
    assert {*os.listdir(tmp_path / "x_rec")} == notes | slices
    notes = json.loads((tmp_path / "x_rec" / "provenance.json").read_text())
    assert notes["attributes"]["max"] == DATA[:2].max()
    slices = read_slices(tiff.slice_paths(tmp_path / "x_rec"))
    np.testing.assert_array_equal(slices, DATA[:2])
    assert os.listdir(tmp_path) == ["x_rec"]


def _with(value, index=(1, 2, 3)):
    data = DATA.copy()
    data[index] = value
    return data


@pytest.mark.parametrize("output_format", ["h5", "zarr"])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"blocks": [(0, 2), (3, 5)]}, "expected 5 slices, 1 were never stored"),
        ({"data": _with(np.nan)}, "rows 0 to 1: the reconstruction is not finite"),
        ({"data": _with(np.inf)}, "not finite"),
        ({"data": _with(-0.0, ...)}, "every value of the volume is 0. Look"),
    ],
    ids=["missing", "nan", "inf", "constant"],
)
def test_a_bad_volume_is_refused_and_leaves_nothing(tmp_path, options, message, output_format):
    with pytest.raises(TomopipeError, match=message):
        _write(tmp_path / "x", output_format=output_format, **options)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "slices", [DATA[:2, :3], DATA[:2].astype(float), DATA[:4]], ids=["shape", "dtype", "too many"]
)
def test_slices_that_do_not_fit_are_refused(tmp_path, slices):
    said = pytest.raises(ValueError, match="expected float32 slices")
    with said, new_volume(tmp_path / "x.h5", DATA.shape) as put:
        put(2, slices)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("output_format", OUTPUTS)
def test_what_does_not_read_back_is_refused(tmp_path, monkeypatch, output_format):
    owner, name = (h5py.Dataset, "__setitem__") if output_format == "h5" else (os, "pwrite")
    write = getattr(owner, name)

    def broken(target, *args):
        if output_format != "h5":
            return write(target, bytes(len(args[0])), args[1])
        values = args[1] + 1 if len(target.shape) == 3 else args[1]
        return write(target, args[0], values)

    monkeypatch.setattr(owner, name, broken)
    with pytest.raises(TomopipeError, match="reads back as it was written"):
        _write(tmp_path / "x", output_format=output_format)
    assert os.listdir(tmp_path) == []


def _read(path, output_format):
    """The stored numbers, and offset and scale as a stranger finds them."""
    if output_format == "h5":
        with h5py.File(path) as file:
            data = file["exchange/data"]
            return data[:], data.attrs["offset"], data.attrs["scale"]
    if output_format == "tiff":
        paths = tiff.slice_paths(path)
        with tifffile.TiffFile(paths[0]) as file:
            about = json.loads(file.pages.first.description)
        return read_slices(paths), about["offset"], about["scale"]
    assert output_format in ("zarr", "zarr2"), f"how others read {output_format} is missing here"
    group = zarr.open_group(path, mode="r")
    about = group.attrs["tomopipe"]["attributes"]
    return group["0"][:], about["offset"], about["scale"]


@pytest.mark.parametrize("output_format", OUTPUTS)
@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [("float32", 0), ("float16", 2e-3), ("uint16", 4.01 / 65535), ("uint8", 4.01 / 255)],
)
def test_every_type_in_every_format_gives_the_values_back(
    tmp_path, output_format, dtype, tolerance
):
    encoding = encoding_of(dtype, (-4, 4))
    _write(tmp_path / "x", output_format=output_format, encoding=encoding)
    stored, offset, scale = _read(tmp_path / "x", output_format)
    assert stored.dtype == dtype
    np.testing.assert_allclose(offset + scale * stored, DATA, atol=tolerance)
    # the picture of the report does not suffer from the rounding
    np.testing.assert_array_equal(read_mid_planes(tmp_path / "x")["mid_xz"], DATA[:, 3])


@pytest.mark.parametrize(
    ("output_format", "compression"),
    [(form, name) for form, names in COMPRESSIONS.items() for name in names],
)
def test_compression_loses_nothing_and_makes_smooth_data_smaller(
    tmp_path, output_format, compression
):
    z, y, x = np.indices((6, 128, 128))
    data = (0.01 * (np.hypot(y - 60, x - 70) < 40) + 0.001 * (z > 2)).astype(np.float32)
    encoding = encoding_of("uint16", (0, 0.02))
    _write(
        tmp_path / "x", data, [(0, 6)],
        output_format=output_format, compression=compression, encoding=encoding,
    )  # fmt: skip
    stored, _, _ = _read(tmp_path / "x", output_format)
    np.testing.assert_array_equal(stored, encoding.encode(data))
    if output_format == "h5":
        with h5py.File(tmp_path / "x") as file:
            size = file["exchange/data"].id.get_storage_size()
    elif output_format == "tiff":
        size = sum(path.stat().st_size for path in tiff.slice_paths(tmp_path / "x"))
    else:
        size = sum(p.stat().st_size for p in (tmp_path / "x" / "0").rglob("*") if p.is_file())
    assert (size < 0.3 * stored.nbytes) == (compression != "none")


def test_values_beyond_the_range_are_clipped_and_counted(tmp_path):
    _write(tmp_path / "x.h5", encoding=encoding_of("uint8", (-1, 1)))
    with h5py.File(tmp_path / "x.h5") as file:
        data = file["exchange/data"]
        half = 1 / 255
        assert data.attrs["clipped"] == np.count_nonzero(np.abs(DATA) > 1 + half)
        assert data.attrs["max"] == DATA.max()
        assert (data[:][DATA > 1] == 255).all()
        assert (data[:][DATA < -1] == 0).all()


@pytest.mark.parametrize("value_range", [(10, 20), (-20, -10), (-1e6, 1.1e6)])
def test_a_range_that_leaves_one_value_is_refused(tmp_path, value_range):
    with pytest.raises(TomopipeError, match=r"are stored as \d+ in uint8.*value_range"):
        _write(tmp_path / "x.h5", encoding=encoding_of("uint8", value_range))
    assert os.listdir(tmp_path) == []


@pytest.mark.slow
@pytest.mark.parametrize("output_format", ["h5", "zarr"])
def test_memory_does_not_grow_with_the_height(tmp_path, output_format):
    import tracemalloc

    peaks = []
    for n_rows in (64, 64, 512):  # the first one loads libraries
        slices = np.random.default_rng(0).normal(size=(16, 128, 128)).astype(np.float32)
        path = tmp_path / str(n_rows)
        tracemalloc.start()
        with new_volume(path, (n_rows, 128, 128), output_format=output_format) as put:
            for first in range(0, n_rows, 16):
                put(first, slices)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # 448 rows more are 29 MB of slices; OME-Zarr has two levels more, of a few slices each
    assert peaks[2] < peaks[1] + 2_000_000


@pytest.fixture
def leave(monkeypatch):
    """Call it with the bytes that the disk then has free."""
    return lambda free: monkeypatch.setattr(
        shutil, "disk_usage", lambda _: SimpleNamespace(total=10**9, used=10**9 - free, free=free)
    )


def test_a_disk_without_room_is_noticed_before_the_work(tmp_path, leave):
    needed = 2 * DATA.size
    for free in (needed - 1, needed):
        leave(free)
        if free < needed:
            with pytest.raises(OSError, match=r"x\.h5: the volume takes .* GB are free\. Remove"):
                _write(tmp_path / "x.h5", encoding=Encoding("float16"))
        else:
            _write(tmp_path / "x.h5", encoding=Encoding("float16"))


def test_an_earlier_volume_goes_first_only_where_there_is_no_room_for_both(tmp_path, leave):
    path, needed = tmp_path / "x.h5", DATA.nbytes
    _write(path)
    for free in (needed, needed - 1):
        leave(free)
        make_room(path, needed)
        assert path.exists() == (free == needed)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("output_format", "compression", "side"),
    [
        ("h5", "none", 400),
        ("h5", "none", 600),  # written past the file cache
        ("h5", "gzip", 400),
        ("h5", "bitshuffle", 400),
        ("tiff", "none", 400),
        ("zarr", "none", 400),
    ],
)
def test_a_file_that_can_grow_no_more_is_an_error_not_a_crash(
    tmp_path, output_format, compression, side
):
    script = (
        "import gc, resource, signal, sys\n"
        "import numpy as np\n"
        "from tomopipe.volumes.volume import new_volume\n"
        "from tomopipe.volumes.volume_read import Origin\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2**19, 2**19))\n"
        f"slices = np.random.default_rng(0).normal(size=(8, {side}, {side})).astype('f4')\n"
        "form = dict(output_format=sys.argv[2], compression=sys.argv[3])\n"
        "try:\n"
        f"    with new_volume(sys.argv[1], (40, {side}, {side}), **form) as put:\n"
        "        for first in range(0, 40, 8):\n"
        "            put(first, slices)\n"
        "except OSError as error:\n"
        "    print(error.errno)\n"
        "gc.collect()\n"
    )
    args = [sys.executable, "-c", script, str(tmp_path / "x"), output_format, compression]
    result = subprocess.run(args, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (0, f"{errno.EFBIG}\n"), result.stderr
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_tiff_tells_viewers_the_size_of_voxels_and_imagej_the_values(tmp_path, compression):
    about = {"units": "1/cm", "voxel_size_um": 0.65}
    options = {"output_format": "tiff", "attributes": about, "compression": compression}
    _write(tmp_path / "x", encoding=encoding_of("uint16", (-4, 4)), **options)
    with tifffile.TiffFile(tiff.slice_path(tmp_path / "x", 2)) as file:
        page = file.pages.first
        assert page.get_resolution("micrometer") == pytest.approx((1 / 0.65,) * 2)
        found = file.imagej_metadata
        assert (found["unit"], found["spacing"], found["vunit"]) == ("um", 0.65, "1/cm")
        values = found["c0"] + found["c1"] * page.asarray()
        np.testing.assert_allclose(values, DATA[2], atol=1e-4)
        assert json.loads(page.description)["scale"] == found["c1"]  # as before


def test_tiff_without_a_voxel_size_claims_none(tmp_path):
    _write(tmp_path / "x", output_format="tiff")
    with tifffile.TiffFile(tiff.slice_path(tmp_path / "x", 0)) as file:
        assert file.pages.first.resolutionunit == 1
        assert "unit" not in file.imagej_metadata
        np.testing.assert_array_equal(file.asarray(), DATA[0])


@pytest.mark.parametrize(("side", "dtype"), [(512, "float32"), (600, "float32"), (760, "uint16")])
def test_large_slices_written_past_the_file_cache_are_those_that_were_put(tmp_path, side, dtype):
    slices = np.random.default_rng(0).normal(size=(5, side, side)).astype(np.float32)
    path, encoding = tmp_path / "x.h5", encoding_of(dtype, (-4, 4))
    with new_volume(path, slices.shape, encoding=encoding) as put:
        for first, last in ((2, 4), (0, 2), (4, 5)):
            put(first, slices[first:last])
    with h5py.File(path) as file:
        stored = file["exchange/data"]
        np.testing.assert_array_equal(stored[()], [encoding.encode(plane) for plane in slices])
        offsets = [stored.id.get_chunk_info(i).byte_offset for i in range(len(slices))]
    size = side**2 * np.dtype(dtype).itemsize
    assert offsets == [offsets[0] + i * size for i in range(len(slices))]
    assert offsets[0] % PAGE_BYTES == 0 or size % PAGE_BYTES
    assert checksums.made(path) == checksums.checksum_of(path)
