"""A file that several edit: nothing is lost, holders are named, and the dead hold nothing."""

import os
import signal
import stat
import subprocess
import sys
import threading
import time
from contextlib import suppress

import pytest

from tomopipe.campaign.table import edit_table, read_table
from tomopipe.errors import TomopipeError
from tomopipe.storage.shared import locked, update_file

HOLD = (
    "import os, sys, time\n"
    "from pathlib import Path\n"
    "from tomopipe.storage.shared import locked\n"
    "with locked(Path(sys.argv[1])):\n"
    "    print('held', flush=True)\n"
    "    sys.stdin.read()\n"
)


@pytest.fixture
def holder(tmp_path):
    """Return the file, and a process that holds it until its standard input is closed."""
    path = tmp_path / "scans.tsv"
    path.write_text("scan\na\n")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], **pipes, text=True)
    assert process.stdout.readline() == "held\n"
    yield path, process
    process.kill()
    process.stdin.close()
    process.stdout.close()
    process.wait()


def add_line(before):
    return before + b"b\n"


class Editor(threading.Thread):
    """Saves in place: empties the file, and writes it some time later."""

    def __init__(self, path, text, gap_s=0.2):
        super().__init__()
        self.path, self.text, self.gap_s = path, text, gap_s
        self.emptied = threading.Event()

    def run(self):
        with self.path.open("wb", buffering=0) as stream:
            self.emptied.set()
            time.sleep(self.gap_s)
            stream.write(self.text)

    def begin(self):
        self.start()
        self.emptied.wait()


def test_what_an_editor_saves_in_place_is_never_taken_for_an_empty_file(tmp_path):
    path = tmp_path / "scans.tsv"
    path.write_bytes(b"scan\na\n")
    editor = Editor(path, b"scan\na\nc\n")
    editor.begin()
    assert update_file(path, add_line)
    editor.join()
    assert path.read_bytes() == b"scan\na\nc\nb\n"


def test_what_an_editor_saved_meanwhile_is_changed_again(tmp_path):
    path = tmp_path / "scans.tsv"
    path.write_bytes(b"scan\na\n")
    contents = []

    def slowly(before):
        if not contents:
            path.write_bytes(b"scan\na\nc\n")
        contents.append(before)
        return add_line(before)

    assert update_file(path, slowly)
    assert contents == [b"scan\na\n", b"scan\na\nc\n"]
    assert path.read_bytes() == b"scan\na\nc\nb\n"


def test_a_table_is_not_read_while_an_editor_has_emptied_it(tmp_path):
    path = tmp_path / "scans.tsv"
    editor = Editor(path, b"scan\na\n")
    editor.begin()
    assert [row.scan for row in read_table(path)] == ["a"]
    editor.join()


def test_an_empty_file_is_changed(tmp_path):
    path = tmp_path / "scans.tsv"
    path.touch()
    os.utime(path, (1, 1))  # no editor is about to write it
    assert update_file(path, add_line)
    assert path.read_bytes() == b"b\n"


def test_a_writer_that_does_not_finish_is_named_and_nothing_is_written(holder, at_once):
    path, process = holder
    message = rf"is being changed by .+ on .+ \(process {process.pid}, since 20.+UTC\)"
    with pytest.raises(TomopipeError, match=message):
        update_file(path, add_line)
    assert path.read_text() == "scan\na\n"
    process.stdin.close()
    assert process.wait(60) == 0
    assert update_file(path, add_line)
    assert path.read_text() == "scan\na\nb\n"
    assert os.listdir(path.parent) == ["scans.tsv"]


def test_the_lock_of_a_killed_process_is_taken_over_with_a_line(holder, caplog, at_once):
    path, process = holder
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert path.with_name("scans.tsv.lock").exists()
    assert update_file(path, add_line)
    assert f"process {process.pid}" in caplog.text
    assert "taken over: it has ended" in caplog.text
    assert os.listdir(path.parent) == ["scans.tsv"]


@pytest.mark.parametrize(
    "content", [b"", b"[" * 9999, b'{"pid": 1, "machine": "another", "host": "n7"}']
)
def test_a_lock_of_nobody_knows_whom_stays_however_old(tmp_path, content, at_once):
    path, lock = tmp_path / "scans.tsv", tmp_path / "scans.tsv.lock"
    lock.write_bytes(content)
    os.utime(lock, (1, 1))
    with pytest.raises(TomopipeError, match=r"nobody is editing it, remove .*scans\.tsv\.lock"):
        update_file(path, add_line)
    assert os.listdir(tmp_path) == ["scans.tsv.lock"]
    lock.unlink()
    assert update_file(path, add_line)


def test_a_lock_that_somebody_else_has_taken_is_left_to_them(tmp_path):
    path, lock = tmp_path / "scans.tsv", tmp_path / "scans.tsv.lock"
    with locked(path):
        lock.write_text("theirs")
    assert lock.read_text() == "theirs"


def test_what_a_killed_writer_left_is_removed_by_the_next(tmp_path):
    path = tmp_path / "scans.tsv"
    code = (
        "import os, signal, sys; from tomopipe.storage import shared\n"
        "shared.flush = lambda path: os.kill(os.getpid(), signal.SIGKILL)\n"
        "shared.update_file(sys.argv[1], lambda before: b'x')"
    )
    assert subprocess.run([sys.executable, "-c", code, path], check=False).returncode == -9
    assert len(os.listdir(tmp_path)) == 2  # the lock, and half a table
    assert update_file(path, add_line)
    assert os.listdir(tmp_path) == ["scans.tsv"]


def test_an_error_of_the_change_gives_the_lock_back(tmp_path):
    path = tmp_path / "scans.tsv"

    def broken(before):
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        update_file(path, broken)
    assert os.listdir(tmp_path) == []
    with locked(path):
        pass


def test_a_group_goes_on_writing(tmp_path):
    """With umask 002 what is made is the group's too, and a file that is keeps that."""
    before = os.umask(0o002)
    try:
        update_file(tmp_path / "new", add_line)
        (tmp_path / "old").write_text("")
        (tmp_path / "old").chmod(0o640)
        os.umask(0o022)
        for name in ("new", "old"):
            update_file(tmp_path / name, add_line)
    finally:
        os.umask(before)
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("new", "old")]
    assert modes == [0o664, 0o640]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be several users")
def test_two_users_edit_one_table(tmp_path):
    """Ada and Bob are in one group, and the folder is the group's."""
    group, path = 4242, tmp_path / "scans.tsv"
    edit_table(tmp_path / "loads_all.tsv", {"a_1": {"cor_px": "5"}})  # no user may get at Python
    for folder in tmp_path.parents[:-2]:
        folder.chmod(folder.stat().st_mode | 0o011)
    os.chown(tmp_path, 0, group)
    tmp_path.chmod(0o770)
    for user in (5001, 5002, 5001):
        if not (child := os.fork()):  # not a new process: it might not get at this Python
            with suppress(BaseException):
                os.setgroups([group])
                os.setgid(group)
                os.setuid(user)
                os.umask(0o002)
                edit_table(path, {f"user {user}, {path.exists()}": {"cor_px": "5"}})
                os._exit(0)
            os._exit(1)
        assert os.waitpid(child, 0)[1] == 0
    assert path.stat().st_uid == 5001
    assert stat.S_IMODE(path.stat().st_mode) == 0o664
    assert path.read_text().count("user 500") == 3
