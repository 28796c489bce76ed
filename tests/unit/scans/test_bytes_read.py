"""How much of a raw file is read: of frames that nothing holds together, what is asked for."""

import os
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.phantoms import sphere, write_scan
from tomopipe.config import PreprocessBlock
from tomopipe.cor.collected_rows import collect_rows
from tomopipe.cor.illuminated_rows import illuminated_rows
from tomopipe.prep.correct import corrections_of, measure_edge_slopes
from tomopipe.scans.exchange import open_scan
from tomopipe.scans.pixels import Hdf5Pixels

pytestmark = pytest.mark.slow

N_ANGLES, N_ROWS, N_COLS = 61, 64, 256
ROW_BYTES = 2 * N_ANGLES * N_COLS
SCAN_BYTES = N_ROWS * ROW_BYTES


def bytes_read_so_far():
    """Return what this process has read so far, wherever the bytes came from."""
    return int(Path("/proc/self/io").read_text().split()[1])


STORED = [False, (1, N_ROWS, N_COLS), (8, 16, N_COLS), "virtual"]


@pytest.fixture(params=STORED, ids=str, scope="module")
def path(request, tmp_path_factory):
    chunks = (1, N_ROWS, N_COLS) if request.param == "virtual" else request.param
    truth = write_scan(
        tmp_path_factory.mktemp("raw") / "a.h5", n_angles=N_ANGLES, n_rows=N_ROWS, n_cols=N_COLS,
        chunks=chunks, counts=2e4, beam={"n_flats": 1, "n_darks": 1},
    )  # fmt: skip
    if request.param == "virtual":
        with h5py.File(truth.path, "r+") as file:
            file.move("exchange/data", "frames")
            layout = h5py.VirtualLayout(file["frames"].shape, "u2")
            layout[:] = h5py.VirtualSource(file["frames"])
            file.create_virtual_dataset("exchange/data", layout)
    return truth.path


@pytest.fixture
def scan(path):
    with open_scan(path) as opened:
        _ = opened.flat, opened.dark
        yield opened


def test_of_a_row_no_more_than_the_row(scan):
    before = bytes_read_so_far()
    scan.read_rows(20, 21)
    assert bytes_read_so_far() - before == pytest.approx(ROW_BYTES, rel=0.2)


def test_of_two_frames_to_see_which_rows_get_light(scan):
    """Or as many as their chunks hold."""
    before = bytes_read_so_far()
    assert illuminated_rows(scan).all()
    deep = (scan.stored_chunks or (1,))[0]
    assert bytes_read_so_far() - before <= 2.2 * deep * SCAN_BYTES / N_ANGLES


@pytest.mark.parametrize("n_angles", [30, 61])
def test_of_sinograms_none_to_see_which_rows_get_light(tmp_path, n_angles):
    truth = write_scan(
        tmp_path / "a.h5", n_angles=n_angles, n_rows=N_ROWS, n_cols=N_COLS,
        chunks=(n_angles, 1, N_COLS), compression="gzip", counts=2e4,
    )  # fmt: skip
    with h5py.File(truth.path, "r+") as file:
        file["exchange/data_white"][:, 40:] = file["exchange/data_dark"][:, 40:]
        file["exchange/data"][:, :8] = 0
    with open_scan(truth.path) as scan:
        _ = scan.flat, scan.dark
        before = bytes_read_so_far()
        lit = np.flatnonzero(illuminated_rows(scan))
        assert (bytes_read_so_far() - before < ROW_BYTES) == (n_angles > 32)
    assert lit.tolist() == list(range(8 if n_angles <= 32 else 0, 40))


def test_blocks_of_rows_are_the_scan_once(scan):
    whole = np.concatenate([scan.read_frames([frame]) for frame in range(N_ANGLES)])
    before = bytes_read_so_far()
    blocks = [scan.read_rows(first, first + 16) for first in range(0, N_ROWS, 16)]
    assert bytes_read_so_far() - before == pytest.approx(SCAN_BYTES, rel=0.02)
    np.testing.assert_array_equal(np.concatenate(blocks, axis=1), whole)


def test_a_sweep_reads_its_rows_a_pair_and_the_edges(scan):
    before = bytes_read_so_far()
    rows = collect_rows(scan, [32], PreprocessBlock())
    n_bytes = 5 * ROW_BYTES + 2 * SCAN_BYTES / N_ANGLES  # five rows, one pair
    n_edges = SCAN_BYTES / N_ANGLES * 8  # of eight frames, or 16 rows, at most
    n_profiles = 2**20  # for row profiles, or a fiftieth of a larger scan
    assert rows.pairs.shape[0] == 1
    most_bytes = 1.1 * n_bytes + max(n_edges, 16 * ROW_BYTES) + n_profiles
    assert n_bytes < bytes_read_so_far() - before < most_bytes


def test_a_sweep_of_compressed_frames_reads_each_once(tmp_path):
    truth = write_scan(
        tmp_path / "a.h5", n_angles=N_ANGLES, n_rows=N_ROWS, n_cols=N_COLS, counts=2e4,
        compression="gzip", beam={"n_flats": 1, "n_darks": 1},
        phantom=[sphere(40, 0, 32, 220, 0.002)],
    )  # fmt: skip
    with h5py.File(truth.path) as file:
        n_bytes = file["exchange/data"].id.get_storage_size()
    with open_scan(truth.path) as scan:
        _ = scan.flat, scan.dark
        before = bytes_read_so_far()
        slopes = collect_rows(scan, [32], PreprocessBlock()).edge_slopes_per_px
        assert bytes_read_so_far() - before == pytest.approx(n_bytes, rel=0.05)
        assert min(slopes) > 0
        assert slopes == measure_edge_slopes(scan, corrections_of(scan, PreprocessBlock()))


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(
    "options",
    [
        {"userblock_size": 512},
        {"userblock_size": 512, "chunks": (1, 6, 7)},
        {"chunks": (1, 6, 7), "fillvalue": 9},
        {"dtype": ">u2"},
        {"chunks": (1, 6, 7)},
        {"chunks": (1, 6, 7), "compression": "gzip", "fletcher32": True},
        {"chunks": (1, 6, 7), "compression": "gzip", "scaleoffset": 0},
        {"chunks": (1, 6, 7), "compression": "lzf"},
        None,
    ],
    ids=str,
)
def test_frames_are_read_however_they_are_stored(tmp_path, options, threads):
    path, frames = tmp_path / "a.h5", np.arange(150 * 6 * 7, dtype="u2").reshape(150, 6, 7)
    of_file = {key: value for key, value in (options or {}).items() if key == "userblock_size"}
    with h5py.File(path, "w", **of_file) as file:
        if options is None:  # never allocated
            frames[...] = 9
            file.create_dataset("data", frames.shape, "u2", fillvalue=9)
        else:
            of_data = {key: value for key, value in options.items() if key not in of_file}
            data = file.create_dataset("data", frames.shape, **{"dtype": "u2"} | of_data)
            for number, frame in enumerate(frames):  # one of them stays unwritten
                if number == 70 and "fillvalue" in options:
                    frame[...] = 9
                else:
                    data[number] = frame
    with h5py.File(path) as file:
        for first, last in ((5, 145), (60, 150)):
            out = np.zeros((last - first, 3, 7), np.uint16)
            Hdf5Pixels(file["data"], file).read(out, (first, last), (2, 5), threads=threads)
            np.testing.assert_array_equal(out, frames[first:last, 2:5])


def test_of_a_file_that_is_cut_meanwhile_hdf5_decides(tmp_path):
    path, out = tmp_path / "a.h5", np.full((50, 64, 64), 7, np.uint16)
    with h5py.File(path, "w") as file:
        file["data"] = np.ones((50, 64, 64), np.uint16)
    with h5py.File(path) as file:
        os.truncate(path, path.stat().st_size - 9000)
        Hdf5Pixels(file["data"], file).read(out, (0, 50), (0, 64), threads=3)
        np.testing.assert_array_equal(out, file["data"])
    assert (out[-1] == 0).any()
