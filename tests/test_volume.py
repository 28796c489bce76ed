import errno
import json
import os
import shutil
import subprocess
import sys

import h5py
import numpy as np
import pytest

from tomopipe.errors import TomopipeError
from tomopipe.io import tiff
from tomopipe.io import volume as volume_module
from tomopipe.io.volume import new_volume, read_mid_planes, read_provenance

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
    _write(tmp_path / "x_rec.h5", attributes={"units": "1/px"}, provenance=PROVENANCE)
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


@pytest.mark.parametrize("output_format", ["h5", "tiff"])
def test_mid_planes_and_provenance_come_back(tmp_path, output_format):
    _write(tmp_path / "x", output_format=output_format, provenance=PROVENANCE)
    planes = read_mid_planes(tmp_path / "x")
    np.testing.assert_array_equal(planes["mid_xy"], DATA[2])
    np.testing.assert_array_equal(planes["mid_xz"], DATA[:, 3])
    np.testing.assert_array_equal(planes["mid_yz"], DATA[:, :, 3])
    assert read_provenance(tmp_path / "x") == PROVENANCE


def test_one_slice_is_a_volume(tmp_path):
    _write(tmp_path / "x.h5", DATA[:1], [(0, 1)])
    np.testing.assert_array_equal(read_mid_planes(tmp_path / "x.h5")["mid_xz"], DATA[:1, 3])


def test_slices_may_come_in_any_order(tmp_path):
    _write(tmp_path / "x.h5", blocks=[(3, 5), (0, 3)])
    with h5py.File(tmp_path / "x.h5") as file:
        np.testing.assert_array_equal(file["exchange/data"][:], DATA)
        np.testing.assert_array_equal(file["exchange/mid_xy"][:], DATA[2])


def test_equal_volumes_are_equal_files(tmp_path):
    for name in "ab":
        _write(tmp_path / name, provenance=PROVENANCE)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_tiff_series_replaces_the_old_one_whole(tmp_path):
    _write(tmp_path / "x_rec", output_format="tiff")
    _write(tmp_path / "x_rec", DATA[:2], [(0, 2)], output_format="tiff", first_number=40)
    names = ["mid_planes.h5", "provenance.json", "recon_00040.tiff", "recon_00041.tiff"]
    assert sorted(os.listdir(tmp_path / "x_rec")) == names
    slices = tiff.read_slices(tiff.slice_paths(tmp_path / "x_rec"))
    np.testing.assert_array_equal(slices, DATA[:2])
    assert os.listdir(tmp_path) == ["x_rec"]


def test_tiff_series_says_how_it_was_made_in_plain_text(tmp_path):
    _write(tmp_path / "x", output_format="tiff", attributes={"units": "1/cm"}, provenance={"a": 1})
    notes = json.loads((tmp_path / "x" / "provenance.json").read_text())
    assert notes == {"attributes": {"units": "1/cm"}, "provenance": {"a": 1}}


def _with(value, index=(1, 2, 3)):
    data = DATA.copy()
    data[index] = value
    return data


@pytest.mark.parametrize("output_format", ["h5", "tiff"])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"blocks": [(0, 2), (3, 5)]}, "expected 5 slices, 1 were never stored"),
        ({"data": _with(np.nan)}, "rows 0 to 1: the reconstruction is not finite"),
        ({"data": _with(np.inf)}, "not finite"),
        ({"data": _with(3, ...)}, "every value of the volume is 3.0"),
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
    with (
        pytest.raises(ValueError, match="expected float32 slices"),
        new_volume(tmp_path / "x.h5", DATA.shape) as put,
    ):
        put(2, slices)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("output_format", ["h5", "tiff"])
def test_what_does_not_read_back_is_refused(tmp_path, monkeypatch, output_format):
    if output_format == "h5":
        write, module, name = volume_module._write_notes, volume_module, "_write_notes"

        def broken(file, *others):
            write(file, *others)
            if "exchange/data" in file:
                file["exchange/data"][2, 0, 0] += 1
    else:
        write, module, name = tiff.write_slice, tiff, "write_slice"

        def broken(image, path):
            write(image + 1, path)

    monkeypatch.setattr(module, name, broken)
    with pytest.raises(TomopipeError, match="reads back as it was written"):
        _write(tmp_path / "x", output_format=output_format)
    assert os.listdir(tmp_path) == []


def test_an_unknown_format_is_refused(tmp_path):
    with pytest.raises(ValueError, match="expected one of h5, tiff; got 'zarr'"):
        _write(tmp_path / "x", output_format="zarr")


def test_a_disk_without_room_is_noticed_before_the_work(tmp_path, monkeypatch):
    needed = 4 * DATA.size
    for free in (needed - 1, needed):
        usage = shutil._ntuple_diskusage(10**9, 10**9 - free, free)
        monkeypatch.setattr(shutil, "disk_usage", lambda _, usage=usage: usage)
        if free < needed:
            with pytest.raises(OSError, match=r"the volume takes .* GB are free: .*x\.h5"):
                _write(tmp_path / "x.h5")
        else:
            _write(tmp_path / "x.h5")


def test_a_file_that_can_grow_no_more_is_an_error_not_a_crash(tmp_path):
    script = (
        "import gc, resource, signal, sys\n"
        "import numpy as np\n"
        "from tomopipe.io.volume import new_volume\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))\n"
        "slices = np.random.default_rng(0).normal(size=(8, 128, 128)).astype('f4')\n"
        "try:\n"
        "    with new_volume(sys.argv[1], (40, 128, 128)) as put:\n"
        "        for first in range(0, 40, 8):\n"
        "            put(first, slices)\n"
        "except OSError as error:\n"
        "    print(error.errno)\n"
        "gc.collect()\n"
    )
    args = [sys.executable, "-c", script, str(tmp_path / "x.h5")]
    result = subprocess.run(args, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (0, f"{errno.EFBIG}\n"), result.stderr
    assert os.listdir(tmp_path) == []
