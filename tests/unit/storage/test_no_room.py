"""A full file system and a quota that is used up are said by name, with what to do."""

import errno
import os

import numpy as np
import pytest

from tests.unit.conftest import limited
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
