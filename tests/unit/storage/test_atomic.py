import errno
import json
import os
import pwd
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.rights import HEEDING
from tests.waiting import ended
from tomopipe.errors import FolderInPlaceError, TomopipeError
from tomopipe.storage.atomic import (
    giving_rights,
    is_protected,
    keep_aside,
    remove_stale,
    whole,
    why_not_replaced,
    write_json,
    write_text,
)
from tomopipe.storage.checksums import MANIFEST


def _fail_half_way(path, begin):
    with whole(path) as temporary:
        begin(temporary)
        raise RuntimeError("half way")


def test_a_file_is_replaced_only_at_the_end(tmp_path):
    path = tmp_path / "a" / "x.txt"
    write_text("old", path)
    with whole(path) as temporary:
        temporary.write_text("new")
        assert temporary.suffix == ".txt"
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert os.listdir(path.parent) == ["x.txt"]


@pytest.mark.parametrize("is_folder", [False, True])
def test_an_error_leaves_the_old_result_and_nothing_else(tmp_path, is_folder):
    path = tmp_path / "x"
    old = path / "old" if is_folder else path
    write_text("old", old)
    with pytest.raises(RuntimeError, match="half way"):
        _fail_half_way(path, Path.mkdir if is_folder else Path.touch)
    assert old.read_text() == "old"
    assert os.listdir(tmp_path) == ["x"]


def test_a_folder_in_the_place_of_a_file_is_kept_and_named(tmp_path):
    (tmp_path / "rows.h5").mkdir()
    (tmp_path / "rows.h5/mine.txt").write_text("mine")
    with pytest.raises(FolderInPlaceError, match=r"rows\.h5: a folder, expected a file or nothing"):
        write_text("new", tmp_path / "rows.h5")
    assert os.listdir(tmp_path) == ["rows.h5"]
    assert os.listdir(tmp_path / "rows.h5") == ["mine.txt"]


def test_a_folder_is_replaced_whole(tmp_path):
    for content in ["1", "2"]:
        with whole(tmp_path / "series") as temporary:
            temporary.mkdir()
            (temporary / f"file{content}").write_text(content)
    assert os.listdir(tmp_path) == ["series"]
    assert sorted(os.listdir(tmp_path / "series")) == [MANIFEST, "file2"]


def _make_series(path):
    with whole(path) as temporary:
        for number in range(20):
            file = temporary / str(number % 3) / str(number)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("x")


def test_every_file_of_a_folder_is_on_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    flushed = set()
    monkeypatch.setattr(os, "fsync", lambda number: flushed.add(os.fstat(number).st_ino))
    _make_series(tmp_path / "series")
    files = [path for path in (tmp_path / "series").rglob("*") if path.is_file()]
    assert len(files) == 20 + len([MANIFEST])
    assert flushed >= {path.stat().st_ino for path in files}


def test_a_folder_with_a_file_that_the_disk_refuses_is_not_kept(tmp_path, monkeypatch):
    def refuse(number):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="Input/output"):
        _make_series(tmp_path / "series")
    assert os.listdir(tmp_path) == []


def test_a_name_of_255_bytes_can_be_written(tmp_path):
    path = tmp_path / ("é" * 125 + ".json")
    write_json({"b": 1, "a": None}, path)
    assert list(json.loads(path.read_text())) == ["a", "b"]


@pytest.mark.slow
def test_leftovers_of_a_killed_writer_are_removed_those_of_others_kept(tmp_path):
    script = (
        "import os, signal, sys\n"
        "from tomopipe.storage.atomic import whole\n"
        "with whole(sys.argv[1]) as temporary:\n"
        "    temporary.write_text('half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    for name in ["mine.h5", "other.h5"]:
        killed = subprocess.run([sys.executable, "-c", script, str(tmp_path / name)], check=False)
        assert killed.returncode == -signal.SIGKILL
    assert len(os.listdir(tmp_path)) == 2
    assert all(name.startswith(".tmp-") for name in os.listdir(tmp_path))
    assert len(remove_stale(tmp_path / "mine.h5")) == 1
    assert len(os.listdir(tmp_path)) == 1
    assert len(remove_stale(tmp_path / "other.h5")) == 1
    assert os.listdir(tmp_path) == []
    assert remove_stale(tmp_path / "absent" / "x.h5") == []


def test_a_stale_folder_is_removed(tmp_path):
    names = []
    with pytest.raises(RuntimeError, match="half way"):
        _fail_half_way(tmp_path / "series", lambda temporary: names.append(temporary.name))
    name = names[0]
    (tmp_path / name / "deep").mkdir(parents=True)
    (tmp_path / "series").mkdir()
    assert remove_stale(tmp_path / "series") == [tmp_path / name]
    assert os.listdir(tmp_path) == ["series"]


def asked(what, *paths):
    """Ask a process that heeds modes: something of each path."""
    code = f"from tomopipe.storage.atomic import *; print(*map({what}, {list(map(str, paths))}))"
    env = {"PYTHONPATH": str(Path(__file__).parents[3])}
    return ended(*HEEDING, sys.executable, "-c", code, env=env)[1].strip()


def why(path):
    return asked("why_not_replaced", path)


@pytest.mark.slow
@pytest.mark.parametrize("is_folder", [False, True])
def test_a_write_protected_result_is_not_replaced(tmp_path, is_folder):
    path = tmp_path / "a b_rec"
    path.mkdir() if is_folder else path.touch()
    assert why(path) == why_not_replaced(path) == ""
    path.chmod(0o555)
    assert why(path).startswith(f"{path}: is write-protected and was left unchanged.")
    assert why(path).endswith(f"`chmod u+rwX '{path}'`")


@pytest.mark.slow
def test_a_result_of_a_closed_folder_cannot_be_made(tmp_path):
    path = tmp_path / "scan" / "rows.h5"
    path.parent.mkdir()
    path.parent.chmod(0o555)
    says = f"{path.parent}: cannot be written; for {path}: `chmod u+rwX {path.parent}`"
    assert why(path) == says
    path.parent.chmod(0o755)
    assert why(path) == why(path.parent / "new" / "rows.h5") == ""


@pytest.mark.slow
def test_links_are_replaced_whatever_they_lead_to(tmp_path):
    (tmp_path / "a").touch(0o444)
    (tmp_path / "link").symlink_to("a")
    paths = [tmp_path / name for name in ("a", "link", "none")]
    assert asked("is_protected", *paths) == "True False False"


@pytest.mark.parametrize(
    ("mode", "of_folder", "is_kept"),
    [(0o644, 0o775, False), (0o444, 0o775, True), (0o644, 0o555, True), (0o644, 0o1775, True)],
    ids=["plain", "protected", "in a closed folder", "in a sticky folder"],
)
def test_a_file_of_somebody_else_is_replaced_by_who_may(
    tmp_path, monkeypatch, mode, of_folder, is_kept
):
    path = tmp_path / "results" / "rows.h5"
    path.parent.mkdir()
    path.touch(mode)
    path.parent.chmod(of_folder)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    may = {path: False, path.parent: bool(of_folder & 0o020)}
    monkeypatch.setattr(os, "access", lambda path, _: may[Path(path)])
    assert is_protected(path) is is_kept
    path.parent.chmod(0o755)


def test_whose_right_it_is_to_give(tmp_path, monkeypatch):
    assert giving_rights([tmp_path]) == "ask the administrator of the disk for write access"
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    owner = pwd.getpwuid(os.getuid()).pw_name
    assert f"ask {owner} to type `chmod -R g+rwX {tmp_path}`" in giving_rights([tmp_path])


def test_files_of_others_are_kept_under_new_names(tmp_path, monkeypatch):
    """Two in a minute, a folder and a pipe; nothing is overwritten, or opened."""
    monkeypatch.setattr(time, "strftime", lambda _: "20261129-0530")
    path = tmp_path / "x.h5"
    for text in ("one", "two"):
        path.write_text(text)
        keep_aside(path)
    os.mkfifo(path)
    assert keep_aside(path).is_fifo()
    path.mkdir()
    (path / "notes").write_text("four")
    keep_aside(path)
    names = [f"x.h5.before-20261129-0530{end}" for end in ("", "-2", "-3", "-4")]
    assert sorted(os.listdir(tmp_path)) == names
    texts = [(tmp_path / name).read_text() for name in (*names[:2], f"{names[3]}/notes")]
    assert texts == ["one", "two", "four"]
    long = tmp_path / ("x" * 240)
    long.touch()
    with pytest.raises(TomopipeError, match=r"cannot be renamed .* Move it away"):
        keep_aside(long)
