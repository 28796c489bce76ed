"""Checksums: those taken while writing are those of the file; any damage is found and named."""

import os
import shutil
from itertools import pairwise

import numpy as np
import pytest

from tests.find_rows import rows_of
from tomopipe.cor.collected_rows import write_rows
from tomopipe.errors import TomopipeError
from tomopipe.relion.mrc import StackFile
from tomopipe.storage import checksums
from tomopipe.storage.atomic import take_away, whole, write_text
from tomopipe.storage.checksums import (
    MANIFEST,
    changed_links,
    checksum_of,
    made,
    matches,
    quick_state,
    read_manifest,
    sizes_match,
)
from tomopipe.volume_formats import COMPRESSIONS
from tomopipe.volumes.encoding import Encoding
from tomopipe.volumes.tiff import write_try_stack
from tomopipe.volumes.volume import new_volume

MIB = 2**20
VOLUME = np.random.default_rng(0).normal(1, 0.2, (6, 40, 50)).astype(np.float32)
# slices of 1.4 MiB, written past the cache, which begin and end within a piece
LARGE = np.random.default_rng(0).normal(1, 0.2, (5, 600, 610)).astype(np.float32)
NAMES = ["Probe ä_001.tiff", "a\tb", "a/b/c", os.fsdecode(b"undecodable \xff")]


def _write_volume(path, volume=VOLUME, blocks=((0, 2), (4, 6), (2, 4)), **options):
    with new_volume(path, volume.shape, **options) as put:
        for first, last in blocks:
            put(first, volume[first:last])


def _write_rows(path):
    projections = np.random.default_rng(0).random((20, 9, 90), dtype=np.float32)
    write_rows(rows_of(projections, np.linspace(0, 180, 20)), path)


def _write_stack(path, shape=(5, 30, 40)):
    images, half = np.random.default_rng(0).normal(size=shape).astype(np.float32), shape[1] // 2
    with whole(path) as temporary:
        stack = StackFile(temporary, images.shape, 2.0)
        for image, row in [(2, 0), (0, half), (2, half), (0, 0)]:
            part = images[image : image + (3 if image else 2), row : row + half]
            stack.write(part, image, row)
        stack.finish()


def _write_try_stack(path):
    images = np.random.default_rng(0).integers(0, 60000, (6, 40, 50)).astype(np.uint16)
    write_try_stack(images, np.arange(6), path, shape=(40, 50))


WRITERS = {
    "volume.h5": _write_volume,
    "rows.h5": _write_rows,
    "try.tif": _write_try_stack,
    "stack.mrcs": _write_stack,
    "series": lambda path: _write_volume(path, output_format="tiff"),
    "volume.zarr": lambda path: _write_volume(path, output_format="zarr"),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("output_format", "compression"),
    [(name, each) for name, several in COMPRESSIONS.items() for each in several],
)
@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_the_checksum_of_a_volume_is_taken_while_it_is_written(
    tmp_path, output_format, compression, dtype
):
    path = tmp_path / "volume"
    encoding = Encoding() if dtype == "float32" else Encoding(dtype, offset=0.0, scale=0.01)
    options = {"output_format": output_format, "compression": compression, "encoding": encoding}
    with new_volume(path, LARGE.shape, **options) as put:
        for first, last in [(0, 1), (1, 2), (3, 5), (2, 3)]:
            put(first, LARGE[first:last])
    assert made(path) == checksum_of(path)
    assert matches(path, made(path)) == ""


@pytest.mark.slow
def test_the_checksum_of_a_large_stack_is_taken_while_it_is_written(tmp_path):
    _write_stack(tmp_path / "x.mrcs", (5, 1000, 700))
    assert made(tmp_path / "x.mrcs") == checksum_of(tmp_path / "x.mrcs")


@pytest.mark.slow
@pytest.mark.parametrize("name", WRITERS)
def test_every_byte_counts(tmp_path, name):
    path = tmp_path / name
    WRITERS[name](path)
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    n_flipped = 0
    for file in files:
        content = file.read_bytes()
        for offset in [*range(0, len(content), 1000), len(content) - 1]:
            with open(file, "r+b") as stream:
                stream.seek(offset)
                stream.write(bytes([content[offset] ^ 1 << offset % 8]))
            assert matches(path, made(path)), f"byte {offset} of {file}"
            n_flipped += 1
        file.write_bytes(content)
    assert matches(path, made(path)) == ""
    assert n_flipped > 20


@pytest.mark.parametrize("n_bytes", [0, 1, MIB, 2 * MIB + 1])
def test_the_checksum_of_written_bytes_is_that_of_their_file(tmp_path, n_bytes):
    (tmp_path / "a").write_bytes(content := np.random.default_rng(1).bytes(n_bytes))
    checksums.written(tmp_path / "a", 0, content)
    assert checksums.finish(tmp_path / "a") == checksum_of(tmp_path / "a")


def test_parts_summed_apart_are_not_read_again(tmp_path):
    """Parts of 1.4 MiB come backwards, their edges in order: all pieces are summed."""
    content = LARGE[:4].tobytes()
    cuts = list(pairwise(range(0, len(content) + 1, LARGE[0].nbytes)))
    with whole(tmp_path / "x") as temporary:
        temporary.write_bytes(content)
        edges = {a: checksums.written_apart(temporary, a, content[a:b]) for a, b in cuts[::-1]}
        for a, _ in cuts:
            for offset, part in edges[a]:
                checksums.written(temporary, offset, part)
        temporary.write_bytes(bytes(len(content)))
    expected = tmp_path / "expected"
    expected.write_bytes(content)
    assert made(tmp_path / "x") == checksum_of(expected)


def test_bytes_may_be_reported_in_any_order_and_again(tmp_path):
    rng = np.random.default_rng(0)
    content = bytearray(rng.bytes(3 * MIB + 7))
    edges = [0, *np.unique(rng.integers(1, len(content), 20)).tolist(), len(content)]
    spans = list(pairwise(edges))
    with whole(tmp_path / "x") as temporary, open(temporary, "wb") as stream:
        for number in [*rng.permutation(len(spans)), *range(len(spans)), 3, 2]:
            first, last = spans[number]
            content[first:last] = rng.bytes(last - first)
            stream.seek(first)
            stream.write(content[first:last])
            checksums.written(temporary, first, content[first:last])
        stream.flush()
    assert (tmp_path / "x").read_bytes() == content
    assert made(tmp_path / "x") == checksum_of(tmp_path / "x")


def test_what_differs_of_a_file_is_said(tmp_path):
    path = tmp_path / "x"
    write_text("content", path)
    checksum = made(path)
    assert matches(path, checksum) == ""
    path.write_text("context")
    assert matches(path, checksum) == "its content differs"
    path.write_text("conten")
    assert matches(path, checksum) == "6 bytes, 7 expected"
    path.unlink()
    assert matches(path, checksum) == "missing"
    path.mkdir()
    assert matches(path, checksum) == "a folder, a file is expected"
    with pytest.raises(TomopipeError, match="expected a checksum like xxh3:"):
        matches(path, "md5:0123")


def test_links_in_a_folder_count_by_what_they_say(tmp_path):
    links = tmp_path / "links"
    with whole(links) as temporary:
        temporary.mkdir()
        for name in "abc":
            (temporary / name).symlink_to(f"../{name}")
    (tmp_path / "a").write_text("of another result")
    assert matches(links, made(links)) == ""
    assert changed_links(links) == []
    for name in "abc":
        (links / name).unlink()
    (links / "b").symlink_to("../c")
    (links / "c").write_text("copied")  # by a program that follows links
    (links / "d").symlink_to("../d")
    assert changed_links(links) == ["a", "b"]
    assert changed_links(tmp_path / "none") == []
    assert matches(links, made(links)) == "missing: a; other content: b, c"


@pytest.mark.parametrize("name", WRITERS)
def test_the_quick_state_changes_with_size_time_and_place(tmp_path, name):
    path = tmp_path / name
    assert quick_state(path) is None
    WRITERS[name](path)
    first = quick_state(path)
    assert first[0] == int(made(path).split(":")[1])
    if path.is_dir():  # what Snakemake does after the job
        (path / ".snakemake_timestamp").touch()
    assert quick_state(path) == first
    WRITERS[name](path)
    assert quick_state(path) != first
    assert quick_state(path)[0] == first[0]


@pytest.mark.parametrize("name", ["series", "volume.zarr"])
def test_the_quick_state_of_a_folder_sees_what_came_or_went_at_its_top(tmp_path, name):
    WRITERS[name](tmp_path / name)
    first = quick_state(tmp_path / name)
    chunk = min(tmp_path.glob(f"{name}/[r0]*"))
    shutil.move(chunk, tmp_path / "aside")
    gone = [path for path in tmp_path.rglob("aside*/**/*") if path.is_file()]
    n_gone = sum(path.stat().st_size for path in gone or [tmp_path / "aside"])
    assert quick_state(tmp_path / name)[0] == first[0] - n_gone
    shutil.move(tmp_path / "aside", chunk)
    assert quick_state(tmp_path / name) == first


def _fail(path, write):
    with whole(path) as temporary:
        write(temporary)
        raise RuntimeError


def test_what_fails_leaves_nothing_remembered(tmp_path):
    def half_a_file(temporary):
        temporary.write_text("half")
        checksums.written(temporary, 0, b"half")

    def half_a_folder(temporary):
        temporary.mkdir()
        write_text("whole", temporary / "part")

    for write in [half_a_file, half_a_folder]:
        with pytest.raises(RuntimeError):
            _fail(tmp_path / "x", write)
    assert made(tmp_path / "x") == ""


def test_what_is_given_up_is_forgotten_with_all_files_of_its_folder(tmp_path):
    """As if nothing had been reported: what lies there later is read."""
    path = tmp_path / "folder" / "file"
    path.parent.mkdir()
    checksums.written(path, 0, bytes(MIB))
    checksums.forget(path.parent)
    path.write_bytes(b"x" * MIB)
    assert checksums.finish(path) == checksum_of(path)


def test_the_files_that_differ_in_a_folder_are_named(tmp_path):
    series = tmp_path / "series"
    _write_volume(series, output_format="tiff")
    checksum = made(series)
    (series / ".snakemake_timestamp").touch()
    assert matches(series, checksum) == sizes_match(series) == ""
    with open(series / "recon_00003.tiff", "r+b") as stream:
        stream.seek(900)
        stream.write(b"damage")
    assert matches(series, checksum) == "other content: recon_00003.tiff"
    assert sizes_match(series) == ""
    shutil.copy(series / "recon_00000.tiff", series / "recon_00009.tiff")
    os.truncate(series / "recon_00004.tiff", 100)
    (series / "recon_00001.tiff").unlink()
    names = "missing: recon_00001.tiff; new: recon_00009.tiff; "
    assert matches(series, checksum) == names + "other content: recon_00003.tiff, recon_00004.tiff"
    assert sizes_match(series) == names + "another size: recon_00004.tiff"
    (series / MANIFEST).unlink()
    assert matches(series, checksum) == "its content differs"
    assert sizes_match(series) == ""


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
        damaged = bytearray(content)
        damaged[offset] ^= 4
        (folder / MANIFEST).write_bytes(damaged)
        assert matches(folder, made(folder)) == f"its {MANIFEST} is damaged"
    (folder / MANIFEST).write_bytes(b"")
    assert quick_state(folder)[0] == 6
    assert sizes_match(folder) == f"its {MANIFEST} is damaged"


def test_a_folder_copied_without_hidden_files_is_compared_by_its_files(folder):
    (folder / MANIFEST).unlink()
    assert read_manifest(folder) is None
    assert sizes_match(folder) == matches(folder, made(folder)) == ""
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
