"""Fingerprints of raw scans: what they see, what they leave alone, and how little they read."""

import os
import shutil
import subprocess
import sys

import h5py
import numpy as np
import pytest
import tifffile

from tomopipe.scans import fingerprint as module
from tomopipe.scans.fingerprint import fingerprint

N_FRAMES, N_ROWS, N_COLS = 60, 80, 90
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
from tomopipe.scans.fingerprint import fingerprint

try:
    fingerprint(sys.argv[1])
except Exception as error:
    print(type(error).__name__)
"""


@pytest.fixture(params=["in full", "in samples"])
def _taken(request, monkeypatch):
    """As small datasets are taken, and as larger ones are."""
    if request.param == "in samples":
        monkeypatch.setitem(module.FULL_BYTES, module.VERSION, 1000)
        monkeypatch.setattr(module, "PIECE_BYTES", 64)


def _frames(n, seed):
    return np.random.default_rng(seed).integers(1000, 60000, (n, N_ROWS, N_COLS)).astype(np.uint16)


def _write(path, **storage):
    with h5py.File(path, "w") as file:
        for seed, (name, n) in enumerate(KINDS.items()):
            file.create_dataset(f"exchange/{name}", data=_frames(n, seed), **storage)
        file["exchange/theta"] = np.linspace(0, 180, N_FRAMES)
        file["measurement/sample"] = "bone"
        file["measurement"].attrs["energy"] = 25.5
        file["measurement/angles"] = h5py.SoftLink("/exchange/theta")


def _differs(path, change):
    """Tell whether the fingerprint sees a change made in place."""
    before, state = fingerprint(path), os.stat(path)
    with h5py.File(path, "r+") as file:
        change(file)
    assert os.stat(path).st_size == state.st_size
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    return fingerprint(path) != before


@pytest.mark.usefixtures("_taken")
@pytest.mark.parametrize("storage", STORAGES)
def test_equal_content_has_one_fingerprint_wherever_and_whenever(tmp_path, storage):
    for name in ["a", "b"]:
        (tmp_path / name).mkdir()
        _write(tmp_path / name / f"scan_{name}.h5", **STORAGES[storage])
    os.utime(tmp_path / "b" / "scan_b.h5", ns=(1, 1))
    found = fingerprint(tmp_path / "a" / "scan_a.h5")
    assert found == fingerprint(tmp_path / "b" / "scan_b.h5")
    assert len(found) < 80


@pytest.mark.usefixtures("_taken")
@pytest.mark.parametrize("kind", [*KINDS, "theta"])
@pytest.mark.parametrize("storage", ["contiguous", "chunked", "tiles"])
def test_other_frames_or_angles_of_equal_size_are_seen(tmp_path, storage, kind):
    _write(tmp_path / "x.h5", **STORAGES[storage])

    def change(file):
        data = file[f"exchange/{kind}"]
        data[...] = data[:][::-1] if kind == "theta" else _frames(len(data), 9)

    assert _differs(tmp_path / "x.h5", change)


@pytest.mark.usefixtures("_taken")
@pytest.mark.parametrize("storage", ["contiguous", "chunked", "tiles"])
@pytest.mark.parametrize(("kind", "frame"), [("data", 0), ("data", 37), ("data_white", 4)])
def test_one_other_frame_is_seen(tmp_path, storage, kind, frame):
    _write(tmp_path / "x.h5", **STORAGES[storage])

    def change(file):
        file[f"exchange/{kind}"][frame] = _frames(1, 9)[0]

    assert _differs(tmp_path / "x.h5", change)


@pytest.mark.usefixtures("_taken")
def test_the_same_small_place_in_all_frames_is_seen(tmp_path):
    _write(tmp_path / "x.h5")
    for row in range(0, N_ROWS, 8):  # a tenth of each frame, wherever it lies

        def change(file, row=row):
            file["exchange/data"][:, row : row + 8] += 1

        assert _differs(tmp_path / "x.h5", change)


@pytest.mark.usefixtures("_taken")
def test_of_deflated_chunks_a_single_pixel_is_seen(tmp_path):
    _write(tmp_path / "x.h5", **STORAGES["gzip"])
    before = fingerprint(tmp_path / "x.h5")
    for name in ["data", "data_white", "data_dark"]:
        with h5py.File(tmp_path / "x.h5", "r+") as file:
            file[f"exchange/{name}"][3, 40, 50] += 1
        assert fingerprint(tmp_path / "x.h5") != before
        before = fingerprint(tmp_path / "x.h5")


CHANGES = {
    "a number": lambda file: file["measurement"].attrs.modify("energy", 25.6),
    "a text": lambda file: file["measurement/sample"].write_direct(np.array("bane", object)),
    "a name": lambda file: file["exchange"].move("data_dark", "data_dusk"),
    "a link": lambda file: _relink(file, h5py.SoftLink("/exchange/thetb")),
}


def _relink(file, link):
    del file["measurement/angles"]
    file["measurement/angles"] = link


@pytest.mark.parametrize("what", CHANGES)
def test_what_is_beside_the_frames_counts(tmp_path, what):
    _write(tmp_path / "x.h5")
    assert _differs(tmp_path / "x.h5", CHANGES[what])


@pytest.mark.parametrize("how", ["external link", "virtual"])
def test_the_files_that_a_scan_takes_data_from_belong_to_it(tmp_path, how):
    _write(tmp_path / "source.h5")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        if how == "virtual":
            layout = h5py.VirtualLayout((N_FRAMES, N_ROWS, N_COLS), np.uint16)
            layout[:] = h5py.VirtualSource("source.h5", "exchange/data", layout.shape)
            file.create_virtual_dataset("exchange/data", layout)
        else:
            file["exchange/data"] = h5py.ExternalLink("source.h5", "/exchange/data")
    before = fingerprint(tmp_path / "x.h5")
    with h5py.File(tmp_path / "source.h5", "r+") as file:
        file["exchange/data"][7] += 1
    assert fingerprint(tmp_path / "x.h5") != before


def test_values_in_a_file_of_their_own_count(tmp_path):
    frames = _frames(N_FRAMES, 0)
    frames.tofile(tmp_path / "raw.bin")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        where = [(str(tmp_path / "raw.bin"), 0, frames.nbytes)]
        file.create_dataset("exchange/data", frames.shape, frames.dtype, external=where)
    before = fingerprint(tmp_path / "x.h5")
    frames[::-1].tofile(tmp_path / "raw.bin")
    assert fingerprint(tmp_path / "x.h5") != before


@pytest.mark.parametrize("replaced", ["tomo_0007.tif", "flats/flat_2.tif", "angles.txt"])
def test_a_file_of_a_tiff_scan_replaced_is_seen(tmp_path, replaced):
    scan = tmp_path / "scan"
    (scan / "flats").mkdir(parents=True)
    for number, frame in enumerate(_frames(20, 0)):
        tifffile.imwrite(scan / f"tomo_{number:04d}.tif", frame)
    for number, frame in enumerate(_frames(3, 1)):
        tifffile.imwrite(scan / "flats" / f"flat_{number}.tif", frame)
    (scan / "angles.txt").write_text("\n".join(f"{angle:08.3f}" for angle in range(20)))
    before = fingerprint(scan)
    shutil.copytree(scan, tmp_path / "copy")
    assert fingerprint(tmp_path / "copy") == before
    if replaced == "angles.txt":
        (scan / replaced).write_text("\n".join(f"{angle:08.3f}" for angle in range(1, 21)))
    else:
        tifffile.imwrite(scan / replaced, _frames(1, 9)[0])
    assert fingerprint(scan) != before


def test_a_tiff_stack_and_what_lies_beside_it(tmp_path):
    tifffile.imwrite(tmp_path / "x.tif", _frames(20, 0))
    (tmp_path / "x.txt").write_text("0 1 2")
    (tmp_path / "x_darks").mkdir()
    tifffile.imwrite(tmp_path / "x_darks" / "1.tif", _frames(1, 1)[0])
    found = {fingerprint(tmp_path / "x.tif")}
    (tmp_path / "x.txt").write_text("0 1 3")
    found.add(fingerprint(tmp_path / "x.tif"))
    tifffile.imwrite(tmp_path / "x_darks" / "1.tif", _frames(1, 2)[0])
    found.add(fingerprint(tmp_path / "x.tif"))
    frames = tifffile.memmap(tmp_path / "x.tif", mode="r+")
    frames[11] = _frames(1, 9)[0]
    frames.flush()
    found.add(fingerprint(tmp_path / "x.tif"))
    assert len(found) == 4


def test_little_of_a_large_scan_is_read(tmp_path, monkeypatch):
    shape = (1000, 400, 500)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        frames = file.create_dataset("exchange/data", shape, np.uint16)
        frames[0], frames[-1] = 1, 1  # the rest is a hole in the file
        file["exchange/data_white"] = np.ones((5, *shape[1:]), np.uint16)
    read = []
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda *which: read.append(which[1]) or pread(*which))
    fingerprint(tmp_path / "x.h5")
    assert 2 * 5 * 400 * 500 < sum(read) < 2 * 5 * 400 * 500 + 1001 * 4096


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
