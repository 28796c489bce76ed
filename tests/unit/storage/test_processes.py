"""Processes that live, have ended, or wait to be taken note of."""

import os
import shutil
import subprocess
import sys

import pytest

from tomopipe.storage.processes import in_folder, is_alive, is_copied, machine, named


def test_a_copy_of_a_file_is_told_from_a_folder_with_a_new_name_or_new_inodes(tmp_path):
    (folder := tmp_path / "a").mkdir()
    about = named(os.getpid()) | in_folder(folder)
    copy, link, moved = shutil.copytree(folder, tmp_path / "b"), tmp_path / "c", tmp_path / "d"
    link.symlink_to(folder)
    assert [is_copied(about, path) for path in (folder, link, copy)] == [False, False, True]
    assert not is_copied(about | {"inode": 1}, folder)  # mounted anew
    assert not is_copied(about | {"machine": "another"}, copy)  # which may have other inodes
    folder.rename(moved)
    assert not is_copied(about, moved)


@pytest.fixture
def zombie():
    """A process that has ended, and for which nobody waits: it keeps its number."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    yield process.pid
    process.wait()


def test_this_process_and_that_of_another_user_live():
    assert is_alive(named(os.getpid()))
    assert is_alive(named(1))
    assert named(os.getpid())["born"] == named(os.getpid())["born"] != ""


def test_the_start_of_a_process_does_not_depend_on_the_clock():
    """It is that of the kernel, in seconds after boot."""
    with open("/proc/1/stat") as stat:
        ticks = int(stat.read().rpartition(")")[2].split()[19])
    assert float(named(1)["born"]) == pytest.approx(ticks / os.sysconf("SC_CLK_TCK"), abs=0.006)


def test_an_ended_process(zombie):
    os.kill(zombie, 0)  # nobody has waited for it: no error
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    for pid in (zombie, process.pid):
        assert is_alive(named(pid)) is False
        assert named(pid)["born"] == ""


HIDDEN = """
import os
from tomopipe.storage.processes import is_alive, named
name = named(os.getpid())
print(name["born"], is_alive(name), is_alive(name | {"born": "1"}))
"""


@pytest.mark.slow
@pytest.mark.namespaces
def test_a_process_that_other_users_may_not_see_is_unknown():
    """As with hidepid=2: the kernel takes a signal for it, but there is no /proc/PID."""
    mount = 'mount -t tmpfs none /proc && exec "$@"'
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", mount, "sh", sys.executable, "-c", HIDDEN],
        check=True, text=True, capture_output=True,
    )  # fmt: skip
    assert done.stdout == " True None\n"  # its number may be another's by now


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, True),
        ({"born": "1"}, False),  # its number is another's by now
        ({"pid": 2**40}, False),
        ({"machine": f"{machine()}0"}, None),  # a container of one hostname
        ({"machine": "other-kernel pid:[1]"}, None),  # a machine of one hostname, or it was booted
        ({"machine": "other-kernel pid:[1]", "start_s": 1.0}, False),  # long before it was booted
        ({"machine": f"{machine()}0", "start_s": 1.0}, None),
        ({"machine": "other-kernel pid:[1]", "start_s": 1.0, "host": "another"}, None),
    ],
)
def test_unknown_is_not_dead(changed, expected):
    assert is_alive(named(os.getpid()) | changed) is expected
    assert is_alive({}) is None
