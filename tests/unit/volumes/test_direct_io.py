import errno
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tests.unit.conftest import limited
from tomopipe.arrays import PAGE_BYTES, aligned
from tomopipe.volumes import direct_io

MIB = 2**20  # smaller arrays go through the cache


def content(n_bytes, offset=0):
    """Bytes that lie in memory, and are found in a file, at any place."""
    memory = aligned(n_bytes + offset)[offset:]
    memory[:] = np.random.default_rng(n_bytes).integers(0, 256, n_bytes)
    return memory


@pytest.mark.parametrize("n_bytes", [0, MIB - 1, MIB + 3 * PAGE_BYTES + 17, 9 * MIB + 1])
@pytest.mark.parametrize("offset", [0, 2 * PAGE_BYTES - 3])
@pytest.mark.parametrize("in_memory", [0, 16])
def test_bytes_come_where_they_belong_and_others_stay(tmp_path, n_bytes, offset, in_memory):
    """Large arrays are copied in pieces."""
    path = tmp_path / "file"
    before = content(MIB + 8 * PAGE_BYTES).tobytes()
    path.write_bytes(before)
    data = content(n_bytes, in_memory)
    with direct_io.direct_writer(path) as write:
        write(data, offset)
    assert path.read_bytes() == before[:offset] + data.tobytes() + before[offset + n_bytes :]


@pytest.fixture
def direct(monkeypatch):
    """Call it for the set of files opened past the cache, or to have that refused."""

    def watch(refused=False):
        files, opened = set(), os.open

        def open_one(path, flags, *rest):
            if flags & os.O_DIRECT and refused:
                raise OSError(errno.EINVAL, "Invalid argument")
            file = opened(path, flags & ~os.O_DIRECT, *rest)  # a folder in memory does, too
            if flags & os.O_DIRECT:
                files.add(file)
            return file

        monkeypatch.setattr(os, "open", open_one)
        return files

    return watch


def test_threads_write_side_by_side(tmp_path):
    """Each with a buffer of its own: arrays that are not aligned in memory are copied."""
    path, parts = tmp_path / "file", [content(3 * MIB + i, 8) for i in range(6)]
    offsets = np.cumsum([0, *(part.size for part in parts)])[:-1].tolist()
    path.touch()
    with direct_io.direct_writer(path) as write, ThreadPoolExecutor(6) as pool:
        for _ in range(5):
            list(pool.map(write, parts, offsets))
    assert path.read_bytes() == b"".join(part.tobytes() for part in parts)


@pytest.mark.parametrize("refuses", ["to open", "to write"])
def test_a_file_system_without_direct_writing_is_written_through_the_cache(
    tmp_path, monkeypatch, direct, refuses
):
    files, pwrite = direct(refused=refuses == "to open"), os.pwrite

    def write_one(file, data, offset):
        if file in files:
            raise OSError(errno.EINVAL, "Invalid argument")
        return pwrite(file, data, offset)

    monkeypatch.setattr(os, "pwrite", write_one)
    path, data = tmp_path / "file", content(MIB)
    path.touch()
    with direct_io.direct_writer(path) as write:
        write(data, 0)
        write(data, data.size)
    assert path.read_bytes() == 2 * data.tobytes()


def test_what_cannot_be_written_is_an_error_that_names_the_file(tmp_path):
    path = tmp_path / "file"
    path.touch()
    said = pytest.raises(OSError, match=r"File too large.*file")
    with direct_io.direct_writer(path) as write, said as caught, limited(MIB // 2):
        write(content(MIB), 0)
    assert caught.value.errno == errno.EFBIG
