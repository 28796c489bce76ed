"""A full file system and a quota that is used up are said by name, with what to do."""

import errno
import os
import re
import resource
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from tomopipe.campaign.table import edit_table
from tomopipe.errors import NoRoomError, TomopipeError, is_of_the_system, room_for
from tomopipe.storage.atomic import whole
from tomopipe.storage.shared import update_file

_ADVICE = "Remove there what is no longer needed, or ask for more, and run again."
FULL = "/dev/full"  # a device that refuses every byte, as a full disk does


def _fill():
    with open(FULL, "wb", buffering=0) as full:
        full.write(b"a result")


def _fill_by_numpy():  # which hides the error
    with open(FULL, "wb", buffering=0) as full:
        np.ones(10**5).tofile(full)


@pytest.mark.parametrize("fill", [_fill, _fill_by_numpy])
def test_a_full_disk(tmp_path, fill):
    with pytest.raises(NoRoomError) as found, whole(tmp_path / "x.json"):
        fill()
    text = str(found.value)
    assert text.startswith(f"{tmp_path}/x.json: cannot be written: no space left on device (`df")
    assert text.endswith(_ADVICE)
    assert found.value.errno == errno.ENOSPC
    assert isinstance(found.value, TomopipeError)
    assert is_of_the_system(found.value)
    assert list(tmp_path.iterdir()) == []


def test_a_quota(tmp_path):
    said = pytest.raises(NoRoomError, match=r"x\.json: .* disk quota exceeded .*`quota -s`")
    with said, whole(tmp_path / "x.json"):
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))


def test_what_to_do_of_the_innermost_is_said_and_other_errors_stay_as_they_are():
    said = pytest.raises(NoRoomError, match=r"/tmp/a: .*\. Buy a disk$")
    with said, room_for("/tmp/b"), room_for("/tmp/a", "Buy a disk"):
        _fill()
    with pytest.raises(OSError, match=r"^the disk$") as found, room_for("/tmp/a"):
        raise OSError("the disk")
    assert not isinstance(found.value, NoRoomError)


@contextmanager
def limited(n_bytes):
    """Let files of this process have so many bytes, for a moment: pytest writes to some."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_limit_of_files_is_no_full_disk(tmp_path):
    said = pytest.raises(NoRoomError, match=r"x: .* file too large .*`ulimit -f`")
    with said as found, limited(2000), whole(tmp_path / "x") as temporary:
        temporary.write_bytes(np.ones(10**4))
    assert found.value.errno == errno.EFBIG


def test_no_room_for_a_lock(tmp_path):
    path = tmp_path / "scans.tsv"
    said = f"^{path}: cannot be written: file too large"
    with pytest.raises(NoRoomError, match=said), limited(9):
        update_file(path, lambda _: b"scan")
    with pytest.raises(NoRoomError, match=said), limited(9):
        edit_table(path, {"a_1": {"cor_px": "5"}})
    assert list(tmp_path.iterdir()) == []


VOLUMES = """
import os, sys
import numpy as np
from tomopipe.volumes import volume

volume.check_space = lambda *_: None
data = np.random.default_rng(0).random((64, 128, 128), np.float32)
for form in sys.argv[1:]:
    try:
        with volume.new_volume("small/x", data.shape, output_format=form) as put:
            put(0, data)
    except OSError as error:
        print(form, error)
    assert os.listdir("small") == []
"""


@pytest.mark.slow
@pytest.mark.namespaces
def test_volumes_on_a_small_file_system(tmp_path):
    """It stays full while HDF5 closes, and a TIFF series takes more files than there may be."""
    (tmp_path / "small").mkdir()
    mount = 'mount -t tmpfs -o size=3m,nr_inodes=40 small small && exec "$@"'
    volumes = [sys.executable, "-c", VOLUMES, "h5", "zarr", "tiff"]
    done = subprocess.run(
        ["unshare", "-rnm", "sh", "-c", mount, "sh", *volumes],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])},
        check=True, text=True, capture_output=True,
    )  # fmt: skip
    said = re.findall(r"x: cannot be written: (no \w+ left) on", done.stdout)
    assert said == ["no space left"] * 3
    assert done.stderr == ""
