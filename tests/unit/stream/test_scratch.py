import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from tomopipe.stream import scratch
from tomopipe.stream.scratch import free_bytes, new_scratch

RAW = np.random.default_rng(0).integers(0, 60000, (13, 23, 10)).astype(np.uint16)


@pytest.mark.parametrize("height", [1, 4, 23, 50])
@pytest.mark.parametrize("ranges", [[(0, 23)], [(0, 8), (8, 23)], [(0, 5), (5, 7), (7, 23)]])
def test_rows_come_back_as_they_were(tmp_path, height, ranges):
    """Written by frames and spans of rows that are no blocks, read by blocks and by others."""
    with new_scratch(str(tmp_path), RAW.shape, 100, height, RAW.dtype) as file:
        for first in range(0, 13, 5):
            for low, high in ranges:
                file.write_block(first, 100 + low, RAW[first : first + 5, low:high])
        for low in range(0, 23, height):
            high = min(low + height, 23)
            np.testing.assert_array_equal(file.read_rows(100 + low, 100 + high), RAW[:, low:high])
        for low, high in [(0, 23), (3, 9), (22, 23), (7, 8)]:
            np.testing.assert_array_equal(file.read_rows(100 + low, 100 + high), RAW[:, low:high])


def test_it_leaves_nothing_behind(tmp_path):
    with new_scratch(str(tmp_path), RAW.shape, 0, 4, RAW.dtype) as file:
        file.write_block(0, 0, RAW)
        assert os.listdir(tmp_path) == []  # it never has a name


def test_nor_does_a_killed_process(tmp_path):
    script = (
        "import os, signal, sys\n"
        "import numpy as np\n"
        "from tomopipe.stream.scratch import new_scratch\n"
        "with new_scratch(sys.argv[1], (9, 9, 9), 0, 4, np.dtype('u2')) as file:\n"
        "    file.write_block(0, 0, np.ones((9, 9, 9), 'u2'))\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    result = subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False)
    assert result.returncode == -signal.SIGKILL
    assert os.listdir(tmp_path) == []


def test_a_file_cut_short_is_an_error(tmp_path):
    with new_scratch(str(tmp_path), RAW.shape, 0, 4, RAW.dtype) as file:
        file.write_block(0, 0, RAW[:5])
        with pytest.raises(OSError, match="ends too early"):
            file.read_rows(20, 23)


def test_free_space(tmp_path, monkeypatch):
    stat = os.statvfs(tmp_path)
    assert free_bytes(str(tmp_path)) == pytest.approx(stat.f_bavail * stat.f_frsize, rel=0.1)
    assert free_bytes(str(tmp_path / "absent")) == 0


def test_memory_is_no_place_for_scratch_unless_it_is_named(monkeypatch):
    monkeypatch.setattr(scratch.tempfile, "gettempdir", lambda: "/dev/shm")
    assert scratch._is_ram("/dev/shm")
    assert not scratch._is_ram("/proc")
    assert free_bytes(None) == 0
    assert free_bytes("/dev/shm") > 0
