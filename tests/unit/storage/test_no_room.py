"""A full file system and a quota that is used up are said by name, with what to do."""

import errno
import io
import os
import re
import resource
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tomopipe.campaign.table import edit_table
from tomopipe.errors import NoRoomError, TomopipeError, is_of_the_system, room_for
from tomopipe.storage.atomic import whole, write_json
from tomopipe.storage.shared import update_file

_ADVICE = "Remove there what is no longer needed, or ask for more, and run again."
FULL = "/dev/full"  # a device that refuses every byte, as a full disk does


def _refuse(*_, **__):
    raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))


def _fill():
    with open(FULL, "wb", buffering=0) as full:
        full.write(b"a result")


def test_a_full_disk(tmp_path):
    with pytest.raises(NoRoomError) as found, whole(tmp_path / "x.json"):
        _fill()
    text = str(found.value)
    assert text.startswith(f"{tmp_path}/x.json: cannot be written: no space left in {tmp_path}, ")
    assert text.endswith("GB are free. " + _ADVICE)
    assert found.value.errno == errno.ENOSPC
    assert isinstance(found.value, TomopipeError)
    assert is_of_the_system(found.value)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_whose_error_numpy_hides(tmp_path):
    said = pytest.raises(NoRoomError, match=rf"x: cannot be written: no space left in {tmp_path}")
    with said, whole(tmp_path / "x"), open(FULL, "wb", buffering=0) as full:
        np.ones(10**5).tofile(full)


def test_a_quota_whose_error_numpy_hides(tmp_path, monkeypatch):
    class Probe(io.BytesIO):
        write = _refuse

    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: Probe())
    said = pytest.raises(NoRoomError, match=rf"your quota of bytes in {tmp_path} is used up")
    with said, whole(tmp_path / "x"), open(FULL, "wb", buffering=0) as full:
        np.ones(10**5).tofile(full)


def test_a_quota_of_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", _refuse)
    with pytest.raises(NoRoomError, match=rf"your quota of bytes in {tmp_path} is used up"):
        write_json({}, tmp_path / "x.json")


def test_a_quota_of_files(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "TemporaryFile", _refuse)
    monkeypatch.setattr(os, "mkdir", _refuse)
    with pytest.raises(NoRoomError, match=rf"your quota of files \(inodes\) in {tmp_path} is used"):
        write_json({}, tmp_path / "not there" / "x.json")


def test_a_file_system_without_inodes(tmp_path, monkeypatch):
    found = SimpleNamespace(f_files=1000, f_favail=0, f_bavail=10**9, f_frsize=4096)
    monkeypatch.setattr(os, "statvfs", lambda _: found)
    with pytest.raises(NoRoomError, match="no inodes left in"), whole(tmp_path / "x"):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_what_to_do_of_the_innermost_is_said_and_other_errors_stay_as_they_are():
    said = pytest.raises(NoRoomError, match=r"/tmp/a: .*\. Buy a disk$")
    with said, room_for("/tmp/b"), room_for("/tmp/a", "Buy a disk"):
        _fill()
    with pytest.raises(OSError, match=r"^the disk$") as found, room_for("/tmp/a"):
        raise OSError("the disk")
    assert not isinstance(found.value, NoRoomError)


@contextmanager
def limited():
    """Let a file of this process have 2000 bytes: no longer, as pytest itself may write to one."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("write", [Path.write_bytes, lambda path, data: data.tofile(path)])
def test_a_limit_of_files_is_no_full_disk(tmp_path, write):
    said = pytest.raises(NoRoomError)
    with said as found, limited(), whole(tmp_path / "x") as temporary:
        write(temporary, np.ones(10**4))
    assert str(found.value) == (
        f"{tmp_path}/x: cannot be written: a file may have 0.002 MB here (`ulimit -f`). Type "
        "`ulimit -f unlimited`, or work on another disk, and run again."
    )
    assert found.value.errno == errno.EFBIG


def test_no_room_for_a_lock(tmp_path, monkeypatch):
    path = tmp_path / "scans.tsv"
    monkeypatch.setattr(os, "fchmod", lambda *_: _fill())
    with pytest.raises(NoRoomError, match=f"^{path}: cannot be written: no space left"):
        update_file(path, lambda _: b"scan")
    with pytest.raises(NoRoomError, match=f"^{path}: cannot be written: no space left"):
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
    said = re.findall(r"x: cannot be written: (no \w+ left) in", done.stdout)
    assert said == ["no space left", "no space left", "no inodes left"]
    assert done.stderr == ""
