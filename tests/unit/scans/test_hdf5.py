"""Opening files of others: each that cannot be opened says why, in one line."""

import errno
import os
import shutil

import h5py
import numpy as np
import pytest

from tomopipe.errors import ScanError
from tomopipe.scans.hdf5 import StillWrittenError, one_line, open_hdf5


def good(path, **options):
    with h5py.File(path, "w", **options) as file:
        file["d"] = np.arange(1000)
    return path


def dangling(path):
    path.symlink_to("away/gone.h5")


def in_a_circle(path):
    path.symlink_to(path.name)


def truncated(path):
    content = good(path).read_bytes()
    path.write_bytes(content[:5000])


def no_superblock(path):
    content = good(path).read_bytes()
    path.write_bytes(content[:8] + b"\xff" * (len(content) - 8))


def left_open(path):
    """Copy a file while its writer is at work, and say it was long ago."""
    with h5py.File(path.with_suffix(".tmp"), "w", libver="latest") as file:
        file["d"] = 1
        file.flush()
        shutil.copy(file.filename, path)
    os.utime(path, (1e9, 1e9))


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: None, "no such file"),
        (dangling, "dangling symbolic link to away/gone.h5: mount its disk"),
        (in_a_circle, "cannot be read (Too many levels of symbolic links)"),
        (lambda path: path.mkdir(), "a folder, not an HDF5 file"),
        (os.mkfifo, "is a pipe, not a file: remove it"),
        (lambda path: path.touch(), "empty file (0 bytes): copy it again"),
        (lambda path: path.write_text("hello\n"), "not an HDF5 file (begins with b'hello"),
        (lambda path: path.write_bytes(b"\x89H"), "not an HDF5 file (begins with b'\\x89H')"),
        (truncated, "truncated HDF5 file, 5000 of 10048 bytes; copy it again"),
        (no_superblock, "broken HDF5 file (Unable to"),
        (left_open, "its writer never closed it; repair a copy with h5clear -s"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)
def test_what_cannot_be_opened_says_why(tmp_path, make, reason):
    path = tmp_path / "a b.h5"
    make(path)
    with pytest.raises(ScanError) as caught:
        open_hdf5(path)
    assert str(caught.value).startswith(f"{path}: {reason}")
    assert "broken" not in reason or str(caught.value).endswith("): copy it again")
    assert "\n" not in str(caught.value)
    assert not isinstance(caught.value, StillWrittenError)


def test_names_that_no_file_can_have():
    for path in ("a\0b.h5", "x" * 300 + ".h5"):
        with pytest.raises(ScanError, match="cannot be read"):
            open_hdf5(path)


def test_no_permission(tmp_path, refuse_to_open):
    """Root may read anything, so the refusal is made here."""
    path = good(tmp_path / "a.h5")
    refuse_to_open(path, errno.EACCES)
    with pytest.raises(ScanError, match=r"a\.h5: no permission to read it: .*chmod"):
        open_hdf5(path)


def test_a_writer_that_marked_the_file_a_moment_ago(tmp_path):
    left_open(tmp_path / "a.h5")
    os.utime(tmp_path / "a.h5")
    with pytest.raises(StillWrittenError, match="still written"):
        open_hdf5(tmp_path / "a.h5")


def test_a_file_system_without_locks_is_read_without(tmp_path, monkeypatch):
    path = good(tmp_path / "a.h5")
    real = h5py.File

    def without_locks(name, mode, locking=None, **_):
        if locking is not False:
            raise OSError(errno.ENOLCK, "Unable to open file (unable to lock file, errno = 37)")
        return real(name, mode, locking=False)

    monkeypatch.setattr(h5py, "File", without_locks)
    with open_hdf5(path) as file:
        assert file["d"][3] == 3
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(ScanError, match="truncated"):
        open_hdf5(path)


def test_a_user_block_before_the_file(tmp_path):
    with open_hdf5(good(tmp_path / "a.h5", userblock_size=1024)) as file:
        assert file["d"][3] == 3
        assert file.mode == "r"


def test_one_line_is_the_same_each_time():
    text = (
        "Unable to open (file read failed: time = Fri Nov 20 08:52:40 2026\n, "
        "filename = 'a', file descriptor = 4, errno = 5, buf = 0x7ffc1c09bfe8, size = 8)"
    )
    expected = "Unable to open (file read failed: filename = 'a', errno = 5, size = 8)"
    assert one_line(RuntimeError(text)) == expected
    assert one_line(OSError(errno.EIO, "Input/output error")) == "Input/output error"
    assert one_line(KeyError()) == "KeyError"
