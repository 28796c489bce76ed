"""Identity of raw files: which changes a fingerprint sees, and how little it reads."""

import os
import shutil
import subprocess
import sys
from functools import partial

import h5py
import numpy as np
import pytest
import tifffile

from tests.unit.scans.test_bytes_read import bytes_read_so_far
from tomopipe.scans.raw_identity import entry_content, fingerprint, raw_content

N_FRAMES, N_ROWS, N_COLS = 60, 100, 100  # 1.2 MB: more than 64 blocks
KINDS = {"data": N_FRAMES, "data_white": 5, "data_dark": 5}
STORAGES = {
    "contiguous": {},
    "chunked": {"chunks": (1, N_ROWS, N_COLS)},
    "tiles": {"chunks": (4, 20, N_COLS)},
    "gzip": {"chunks": (1, N_ROWS, N_COLS), "compression": "gzip", "shuffle": True},
}

pytestmark = pytest.mark.slow

WAITS = """
import sys
from tomopipe.scans.raw_identity import fingerprint

try:
    fingerprint(sys.argv[1])
except Exception as error:
    print(type(error).__name__)
"""


def _frames(n, seed):
    return np.random.default_rng(seed).integers(1000, 60000, (n, N_ROWS, N_COLS)).astype(np.uint16)


def _write(path, **storage):
    with h5py.File(path, "w") as file:
        for seed, (name, n) in enumerate(KINDS.items()):
            file.create_dataset(f"exchange/{name}", data=_frames(n, seed), **storage)
        file["exchange/theta"] = np.linspace(0, 180, N_FRAMES)


def _add(kind, where, file):
    file[f"exchange/{kind}"][where] += 1


def _differs(path, change):
    """Tell whether the fingerprint sees a change made in place."""
    before, state = fingerprint(path), os.stat(path)
    with h5py.File(path, "r+") as file:
        change(file)
    assert os.stat(path).st_size == state.st_size
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    return fingerprint(path) != before


@pytest.mark.parametrize("storage", STORAGES)
def test_equal_content_has_one_fingerprint_wherever_and_whenever(tmp_path, storage):
    for name in ["a", "b"]:
        (tmp_path / name).mkdir()
        _write(tmp_path / name / f"scan_{name}.h5", **STORAGES[storage])
    os.utime(tmp_path / "b" / "scan_b.h5", ns=(1, 1))
    found = fingerprint(tmp_path / "a" / "scan_a.h5")
    assert found == fingerprint(tmp_path / "b" / "scan_b.h5")
    assert len(found) < 80


@pytest.mark.parametrize("storage", ["contiguous", "chunked", "tiles"])
def test_another_frame_of_any_kind_and_other_angles_are_seen(tmp_path, storage):
    path = tmp_path / "x.h5"
    _write(path, **STORAGES[storage])
    for kind, frame in (("data", 0), ("data", 37), ("data_white", 4), ("data_dark", 0)):
        assert _differs(path, partial(_add, kind, np.s_[frame]))
    assert _differs(path, lambda file: file["exchange/theta"].write_direct(np.arange(60.0)))


def test_a_corrected_unit_is_seen(tmp_path):
    path = tmp_path / "x.h5"
    _write(path)
    with h5py.File(path, "r+") as file:
        file["exchange/theta"].attrs["units"] = "deg"

    def correct(file):
        file["exchange/theta"].attrs.modify("units", "rad")

    assert _differs(path, correct)
    with h5py.File(path) as file:
        before = entry_content(file["exchange"])
    with h5py.File(path, "r+") as file:
        file["exchange/theta"].attrs.modify("units", "deg")
        assert entry_content(file["exchange"]) != before


def test_the_same_small_place_in_all_frames_is_seen(tmp_path):
    _write(tmp_path / "x.h5")
    for row in range(0, N_ROWS, 8):  # a tenth of each frame, wherever it lies
        assert _differs(tmp_path / "x.h5", partial(_add, "data", np.s_[:, row : row + 8]))


def test_of_deflated_chunks_a_single_pixel_is_seen(tmp_path):
    _write(tmp_path / "x.h5", **STORAGES["gzip"])
    contents = [fingerprint(tmp_path / "x.h5")]
    for kind in KINDS:
        with h5py.File(tmp_path / "x.h5", "r+") as file:
            _add(kind, np.s_[3, 40, 50], file)
        contents.append(fingerprint(tmp_path / "x.h5"))
    assert len(set(contents)) == 4


def _sparse(path, **storage):
    """Write a scan of 400 MB of which nearly all is a hole, with small flats, darks and angles."""
    with h5py.File(path, "w") as file:
        frames = file.create_dataset("exchange/data", (1000, 400, 500), np.uint16)
        frames[0], frames[-1] = 1, 1
        file["exchange/data_white"] = np.ones((5, 40, 500), np.uint16)
        file["exchange/data_dark"] = np.ones((2, 40, 500), np.uint16)
        file.create_dataset("exchange/theta", data=np.linspace(0, 180, 1000), **storage)


@pytest.mark.parametrize("storage", [{}, {"chunks": (100,), "compression": "gzip"}])
def test_flats_darks_and_angles_between_the_blocks_of_a_large_file_are_seen(tmp_path, storage):
    path = tmp_path / "x.h5"
    _sparse(path, **storage)
    for kind, where in (("data_white", np.s_[2]), ("data_dark", np.s_[1, 3, 7]), ("theta", 500)):
        before = fingerprint(path)
        with h5py.File(path, "r+") as file:
            _add(kind, where, file)
        assert fingerprint(path) != before


def test_a_file_of_a_tiff_scan_replaced_is_seen(tmp_path):
    scan = tmp_path / "scan"
    (scan / "flats").mkdir(parents=True)
    for number, frame in enumerate(_frames(20, 0)):
        tifffile.imwrite(scan / f"tomo_{number:04d}.tif", frame)
    for number, frame in enumerate(_frames(3, 1)):
        tifffile.imwrite(scan / "flats" / f"flat_{number}.tif", frame)
    (scan / "angles.txt").write_text("\n".join(f"{angle:08.3f}" for angle in range(20)))
    contents = {fingerprint(scan)}
    shutil.copytree(scan, tmp_path / "copy")
    assert {fingerprint(tmp_path / "copy")} == contents
    for image in ("tomo_0007.tif", "flats/flat_2.tif"):
        tifffile.imwrite(scan / image, _frames(1, 9)[0])
        contents.add(fingerprint(scan))
    (scan / "angles.txt").write_text("\n".join(f"{angle:08.3f}" for angle in range(1, 21)))
    assert len(contents | {fingerprint(scan)}) == 4


def test_a_tiff_stack(tmp_path):
    tifffile.imwrite(tmp_path / "x.tif", _frames(20, 0))
    before = fingerprint(tmp_path / "x.tif")
    tifffile.memmap(tmp_path / "x.tif", mode="r+")[11] = _frames(1, 9)[0]
    assert fingerprint(tmp_path / "x.tif") != before


def test_little_of_a_large_scan_is_read(tmp_path):
    _sparse(tmp_path / "x.h5")
    before = bytes_read_so_far()
    fingerprint(tmp_path / "x.h5")
    n_read, block_bytes = bytes_read_so_far() - before, 2**14
    assert 128 * block_bytes < n_read < 160 * block_bytes  # of 400 MB; the file, and its frames


def test_the_content_of_a_raw_file_that_cannot_be_read_is_unknown(tmp_path):
    path = tmp_path / "x.h5"
    path.write_bytes(b"frames")
    assert raw_content(path).startswith("xxh3:6:")
    os.truncate(path, 16_000_001)
    assert raw_content(path) == fingerprint(path)
    assert fingerprint(path).startswith("blocks:16000001:")
    path.unlink()
    assert raw_content(path) == ""


def test_a_broken_hdf5_file_still_has_one(tmp_path):
    _write(tmp_path / "x.h5")
    os.truncate(tmp_path / "x.h5", 100_000)
    before = fingerprint(tmp_path / "x.h5")
    assert before == fingerprint(tmp_path / "x.h5")
    os.truncate(tmp_path / "x.h5", 100_001)
    assert before != fingerprint(tmp_path / "x.h5")


def test_a_scan_that_is_still_written_has_none(tmp_path):
    with (
        h5py.File(tmp_path / "x.h5", "w", libver="latest", locking=True),
        subprocess.Popen([sys.executable, "-c", WAITS, tmp_path / "x.h5"], stdout=-1) as other,
    ):
        assert other.stdout.read() == b"StillWrittenError\n"


def test_a_scan_that_is_gone_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        fingerprint(tmp_path / "x.h5")
