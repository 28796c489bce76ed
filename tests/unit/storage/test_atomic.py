import json
import os
import signal
import subprocess
import sys

import pytest

from tomopipe.storage.atomic import remove_stale, whole, write_json, write_text
from tomopipe.storage.manifest import MANIFEST


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


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "x.txt"
    write_text("old", path)
    with pytest.raises(RuntimeError, match="half way"):
        _fail_half_way(path, lambda temporary: temporary.write_text("new"))
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["x.txt"]


def test_a_folder_is_replaced_whole(tmp_path):
    for content in ["1", "2"]:
        with whole(tmp_path / "series") as temporary:
            temporary.mkdir()
            (temporary / f"file{content}").write_text(content)
    assert os.listdir(tmp_path) == ["series"]
    assert sorted(os.listdir(tmp_path / "series")) == [MANIFEST, "file2"]


def test_an_error_leaves_the_old_folder(tmp_path):
    (tmp_path / "series").mkdir()
    (tmp_path / "series" / "old").touch()
    with pytest.raises(RuntimeError, match="half way"):
        _fail_half_way(tmp_path / "series", lambda temporary: temporary.mkdir())
    assert os.listdir(tmp_path) == ["series"]
    assert os.listdir(tmp_path / "series") == ["old"]


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
    removed = remove_stale(tmp_path / "mine.h5")
    assert len(removed) == 1
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
