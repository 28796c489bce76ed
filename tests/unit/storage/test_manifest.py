"""The manifest of a folder: any damage of it is reported, whatever the names of the files."""

import os

import pytest

from tomopipe.storage.atomic import take_away, whole
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
        assert matches(folder, made(folder)) == f"its {MANIFEST} is damaged"
    (folder / MANIFEST).write_bytes(b"")
    assert quick_state(folder)[0] == 6
    assert sizes_match(folder) == f"its {MANIFEST} is damaged"


def test_a_folder_without_one_is_compared_by_its_files(folder):
    (folder / MANIFEST).unlink()
    assert read_manifest(folder) is None
    assert sizes_match(folder) == ""
    assert quick_state(folder)[::2] == (6, folder.stat().st_ino)


@pytest.mark.parametrize("name", ["notes.txt", ".DS_Store", "a/.DS_Store", "figures/1.png"])
def test_what_others_put_there_is_no_damage_and_outlives_a_new_result(folder, name):
    state, checksum = quick_state(folder), made(folder)
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("mine")
    assert quick_state(folder) == state
    assert sizes_match(folder) == matches(folder, checksum) == ""
    with whole(folder) as temporary:
        temporary.mkdir()
        (temporary / "new.tiff").write_text("x")
    top = name.partition("/")[0]
    is_kept = top != "a"  # a folder of the result goes as a whole
    assert (folder / top).exists() == is_kept
    assert sizes_match(folder) == ""
    take_away(folder)
    assert [path.name for path in folder.glob("*") if path.name != MANIFEST] == [top] * is_kept
    assert quick_state(folder)[0] == 0 if is_kept else not folder.exists()
    with whole(folder) as temporary:
        temporary.mkdir()
        (temporary / "new.tiff").write_text("x")
    assert sizes_match(folder) == ""
    assert (folder / top).exists() == is_kept


def test_a_further_slice_and_a_missing_file_are_damage(folder):
    (folder / "recon_00009.tiff").write_text("x")
    assert quick_state(folder)[0] == 7
    assert sizes_match(folder) == "new: recon_00009.tiff"
    (folder / "recon_00009.tiff").unlink()
    (folder / NAMES[0]).unlink()
    (folder / "notes.txt").write_text("x")
    assert sizes_match(folder) == f"missing: {NAMES[0]}"
