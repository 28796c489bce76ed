"""The manifest of a folder: any damage of it is told, whatever the names of the files."""

import os

import pytest

from tomopipe.storage.atomic import whole
from tomopipe.storage.checksums import made, matches, quick_state
from tomopipe.storage.manifest import MANIFEST, read_manifest, sizes_match

NAMES = ["Probe ä_001.tiff", "a\tb", "a/b/c", os.fsdecode(b"undecodable \xff")]


@pytest.fixture
def folder(tmp_path):
    with whole(tmp_path / "x") as temporary:
        for number, name in enumerate(NAMES):
            (temporary / name).parent.mkdir(parents=True, exist_ok=True)
            (temporary / name).write_text("x" * number)
    return tmp_path / "x"


def test_the_manifest_tells_each_file_and_the_bytes_of_all(folder):
    assert sorted(read_manifest(folder)) == sorted(NAMES)
    assert (folder / MANIFEST).read_bytes().startswith(b"tomopipe-manifest-1\t6 bytes\t4 names\n")
    assert quick_state(folder)[0] == 6
    assert sizes_match(folder) == ""


@pytest.mark.slow
def test_a_damaged_manifest_is_told_and_taken_for_none(folder):
    content = (folder / MANIFEST).read_bytes()
    for offset in range(len(content)):
        (folder / MANIFEST).write_bytes(
            content[:offset] + bytes([content[offset] ^ 4]) + content[offset + 1 :]
        )
        assert matches(folder, made()[folder]) == f"its {MANIFEST} is damaged"
    (folder / MANIFEST).write_bytes(b"")
    assert quick_state(folder)[0] == 6
    assert sizes_match(folder) == f"its {MANIFEST} is damaged"


def test_a_folder_without_one_is_compared_by_its_files(folder):
    (folder / MANIFEST).unlink()
    assert read_manifest(folder) is None
    assert sizes_match(folder) == ""
    assert quick_state(folder)[::2] == (6, folder.stat().st_ino)
