"""Where full_recon takes its rows from: how often chunks are decoded, and what is said of it."""

import errno
import logging
import os
import tempfile

import numpy as np
import pytest

from tests.phantoms import write_scan
from tomopipe.errors import TomopipeError
from tomopipe.resources.memory import Blocks
from tomopipe.scans.exchange import open_scan
from tomopipe.stream import source as _source
from tomopipe.stream.source import (
    Scratch,
    count_decodes,
    free_bytes,
    open_source,
    read_ahead,
    read_spread,
)

N_ROWS = 64
RAW = np.random.default_rng(0).integers(0, 60000, (13, 23, 10)).astype(np.uint16)
LOW = Blocks(4, 8)  # for a scratch file


@pytest.fixture
def scan(tmp_path):
    truth = write_scan(
        tmp_path / "s_1.h5", n_angles=12, n_rows=N_ROWS, n_cols=20,
        compression="gzip", dtype=np.uint16, counts=9e3,
    )  # fmt: skip
    with open_scan(truth.path) as opened:
        assert opened.chunks == (1, N_ROWS, 20)
        yield opened


@pytest.mark.parametrize(
    ("chunks", "height", "expected"),
    [
        (None, 4, 1),
        ((1, 64, 20), 64, 1),
        ((1, 64, 20), 63, 2),
        ((1, 64, 20), 13, 5),
        ((1, 100, 20), 16, 4),  # more than there is
        ((1, 32, 20), 8, 4),
    ],
)
def test_decodes_are_counted(chunks, height, expected):
    assert count_decodes(chunks, 64, height) == expected


def _all(source, height):
    rows = range(0, N_ROWS, height)
    return np.concatenate([source.read_rows(a, min(a + height, N_ROWS)) for a in rows], axis=1)


class Counted:
    """A scan that notes the frames and rows of each read: it inflates frames of full height."""

    def __init__(self, scan):
        self._scan, self.reads = scan, []

    def __getattr__(self, name):
        return getattr(self._scan, name)

    def read_block(self, frames, rows):
        self.reads.append((frames[1] - frames[0], rows[1] - rows[0]))
        return self._scan.read_block(frames, rows)

    def read_rows(self, first, last):
        return self.read_block((0, self._scan.n_angles), (first, last))


@pytest.mark.parametrize("height", [64, 32, 12, 4])
@pytest.mark.parametrize("samples", [False, True])
def test_never_more_than_two_decodes_where_scratch_fits(tmp_path, scan, height, samples):
    raw = scan.read_rows(0, N_ROWS)
    scan = Counted(scan)
    with open_source(
        scan, (0, N_ROWS), Blocks(4, height), Blocks(4, 4), samples=samples, scratch=str(tmp_path)
    ) as (source, blocks):
        if samples:
            spread = read_spread(source, scan, [3, 30, 60], 2)
            np.testing.assert_array_equal(spread, raw[:, [3, 4, 30, 31, 60, 61]])
        np.testing.assert_array_equal(_all(source, blocks.height), raw)
    n_decodes = sum(n for n, _ in scan.reads) / scan.n_angles
    expected = 1 if height == 64 else 64 / height + samples
    assert n_decodes == (1 if expected > 2 else expected)


def test_without_room_it_decodes_again_and_says_so(tmp_path, scan, caplog):
    absent = str(tmp_path / "absent")
    caplog.set_level(logging.INFO)
    with open_source(scan, (0, N_ROWS), Blocks(4, 4), LOW, scratch=absent) as found:
        assert found == (scan, Blocks(4, 4))
    assert "every chunk is decoded 16 times" in caplog.text
    assert "storage.scratch" in caplog.text


def test_rows_and_blocks_of_a_scratch_file(tmp_path, scan):
    raw = scan.read_rows(0, N_ROWS)
    with open_source(scan, (7, 50), Blocks(4, 8), LOW, scratch=str(tmp_path)) as (source, blocks):
        assert isinstance(source, Scratch)
        assert os.listdir(tmp_path) == ["s_1.h5"]  # the file never has a name
        np.testing.assert_array_equal(source.read_rows(7, 15), raw[:, 7:15])
        np.testing.assert_array_equal(source.read_rows(40, 50), raw[:, 40:50])
        assert blocks.height == 8


def test_deep_chunks_are_transposed_in_spans_of_rows(tmp_path):
    """Many frames in one chunk: not even a layer of whole frames has to fit in memory."""
    truth = write_scan(
        tmp_path / "s_1.h5", n_angles=40, n_rows=96, n_cols=20, chunks=(16, 24, 20),
        compression="gzip", dtype=np.uint16, counts=9e3,
    )  # fmt: skip
    with open_scan(truth.path) as scan:
        raw, counted = scan.read_rows(0, 96), Counted(scan)
        with open_source(counted, (0, 96), Blocks(4, 4), LOW, scratch=str(tmp_path)) as (source, _):
            np.testing.assert_array_equal(source.read_rows(0, 96), raw)
        assert max(n * rows for n, rows in counted.reads) <= 16 * 24 * 2


def test_a_full_scratch_folder_is_named(tmp_path, scan, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Scratch, "write_block", full)
    with (
        pytest.raises(OSError, match=r"no space left .* Set storage\.scratch") as error,
        open_source(scan, (0, N_ROWS), Blocks(4, 4), LOW, scratch=str(tmp_path)),
    ):
        pass
    assert error.value.errno == errno.ENOSPC


def test_other_errors_are_left_as_they_are(tmp_path, scan):
    other = pytest.raises(OSError, match=r"^the volume$")
    with other, open_source(scan, (0, N_ROWS), Blocks(4, 4), LOW, scratch=str(tmp_path)):
        raise OSError("the volume")


def test_a_scratch_folder_that_was_named_must_be_there(tmp_path):
    _source.check_scratch(None)
    _source.check_scratch(str(tmp_path))
    with pytest.raises(TomopipeError, match="no folder with free space"):
        _source.check_scratch(str(tmp_path / "absent"))


def test_reading_ahead_keeps_the_order_and_stops_at_an_error():
    started = []

    def slow(i):
        started.append(i)
        if i == 3:
            raise ValueError("three")
        return np.array(i)

    found = []
    with pytest.raises(ValueError, match="three"):
        found.extend(map(int, read_ahead(slow, range(100), 1)))
    assert found == [0, 1, 2]
    assert max(started) <= 5


@pytest.mark.parametrize("height", [1, 4, 50])
@pytest.mark.parametrize("ranges", [[(0, 23)], [(0, 5), (5, 7), (7, 23)]])
def test_rows_come_back_as_they_were(tmp_path, height, ranges):
    """Written by frames and spans of rows that are no blocks, read by blocks and by others."""
    with tempfile.TemporaryFile(dir=tmp_path) as made:
        file = Scratch(made, RAW.shape, 100, height, RAW.dtype)
        for first in range(0, 13, 5):
            for low, high in ranges:
                file.write_block(first, 100 + low, RAW[first : first + 5, low:high])
        for low in range(0, 23, height):
            high = min(low + height, 23)
            np.testing.assert_array_equal(file.read_rows(100 + low, 100 + high), RAW[:, low:high])
        for low, high in [(0, 23), (3, 9), (22, 23), (7, 8)]:
            np.testing.assert_array_equal(file.read_rows(100 + low, 100 + high), RAW[:, low:high])


def test_a_file_cut_short_is_an_error(tmp_path):
    with tempfile.TemporaryFile(dir=tmp_path) as made:
        file = Scratch(made, RAW.shape, 0, 4, RAW.dtype)
        file.write_block(0, 0, RAW[:5])
        with pytest.raises(OSError, match="ends too early"):
            file.read_rows(20, 23)


def test_free_space_is_that_of_the_disk_and_of_memory_only_if_it_is_named(tmp_path, monkeypatch):
    stat = os.statvfs(tmp_path)
    assert free_bytes(str(tmp_path)) == pytest.approx(stat.f_bavail * stat.f_frsize, rel=0.1)
    assert free_bytes(str(tmp_path / "absent")) == 0
    monkeypatch.setattr("tempfile.tempdir", "/dev/shm")
    assert free_bytes(None) == 0
    assert free_bytes("/dev/shm") > 0
