"""Checksums: those taken while writing are those of the file; any damage is found and named."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile

from tomopipe.config.blocks import COMPRESSIONS
from tomopipe.cor.rows_file import Rows, write_rows
from tomopipe.errors import TomopipeError
from tomopipe.relion.mrc import StackFile
from tomopipe.storage import checksums
from tomopipe.storage.atomic import whole, write_text
from tomopipe.storage.checksums import changed_links, checksum_of, made, matches, quick_state
from tomopipe.storage.manifest import MANIFEST, sizes_match
from tomopipe.volumes.encoding import Encoding
from tomopipe.volumes.tiff import write_try_stack
from tomopipe.volumes.volume import new_volume

VOLUME = np.random.default_rng(0).normal(1, 0.2, (6, 40, 50)).astype(np.float32)


@pytest.fixture
def small_pieces(monkeypatch):
    """Pieces of 4 kB: slices of 8 kB begin and end within one."""
    monkeypatch.setattr(checksums, "PIECE_BITS", 12)


def _write_volume(path, volume=VOLUME, blocks=((0, 2), (4, 6), (2, 4)), **options):
    with new_volume(path, volume.shape, **options) as put:
        for first, last in blocks:
            put(first, volume[first:last])


def _write_rows(path):
    rng = np.random.default_rng(0)
    rows = Rows(
        sinograms=rng.random((3, 20, 90), dtype=np.float32),
        row_index=np.array([4, 0, 8]),
        theta_rad=np.linspace(0, np.pi, 20),
        pairs=rng.random((2, 2, 9, 90), dtype=np.float32),
        pair_theta_rad=np.array([[0, np.pi], [0.1, 3.2]]),
        n_rows=9,
        theta_missing=False,
        minus_log=True,
        failed="",
    )
    write_rows(rows, path)


def _write_stack(path):
    images = np.random.default_rng(0).normal(size=(5, 30, 40)).astype(np.float32)
    with whole(path) as temporary:
        stack = StackFile(temporary, images.shape, 2.0)
        for image, row in [(2, 0), (0, 15), (2, 15), (0, 0)]:
            stack.write(images[image : image + (3 if image else 2), row : row + 15], image, row)
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
@pytest.mark.usefixtures("small_pieces")
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
    _write_volume(path, output_format=output_format, compression=compression, encoding=encoding)
    assert made(path) == checksum_of(path)
    assert matches(path, made(path)) == ""


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("name", WRITERS)
def test_what_a_writer_remembers_is_what_is_on_disk(tmp_path, name):
    WRITERS[name](tmp_path / name)
    assert made(tmp_path / name) == checksum_of(tmp_path / name)


@pytest.mark.usefixtures("small_pieces")
def test_slices_of_a_volume_are_not_read_again(tmp_path, monkeypatch):
    read = []
    digest = checksums._digest
    monkeypatch.setattr(
        checksums, "_digest", lambda *which: read.append(which[2]) or digest(*which)
    )
    volume = np.random.default_rng(0).random((100, 64, 64), np.float32)
    _write_volume(tmp_path / "x.h5", volume, blocks=[(i, i + 10) for i in range(0, 100, 10)])
    n_pieces = -(-(tmp_path / "x.h5").stat().st_size // 4096)
    assert len(read) < 0.2 * n_pieces  # planes, and pieces that hold some of HDF5's own tables


@pytest.mark.usefixtures("small_pieces")
def test_a_drive_may_read_less_than_it_was_asked(tmp_path, monkeypatch):
    _write_volume(tmp_path / "x.h5")
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda file, n, offset: pread(file, min(n, 1000), offset))
    assert checksum_of(tmp_path / "x.h5") == made(tmp_path / "x.h5")


@pytest.mark.usefixtures("small_pieces")
def test_a_slice_may_be_stored_twice(tmp_path):
    with new_volume(tmp_path / "x.h5", VOLUME.shape) as put:
        put(0, 2 * VOLUME)
        put(0, VOLUME)
    assert made(tmp_path / "x.h5") == checksum_of(tmp_path / "x.h5")


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


@pytest.mark.usefixtures("small_pieces")
def test_pieces_may_be_told_of_in_any_order(tmp_path):
    rng = np.random.default_rng(0)
    content = rng.bytes(100_000)
    edges = np.unique(rng.integers(0, len(content), 60))
    spans = list(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True))
    with whole(tmp_path / "x") as temporary:
        temporary.write_bytes(content)
        for number in rng.permutation(len(spans)):
            first, last = spans[number]
            data = content[first:last] if number % 3 else None
            checksums.written(temporary, first, last - first, data)
    assert made(tmp_path / "x") == checksum_of(tmp_path / "x")
    assert made(tmp_path / "x") == checksums.checksum_of_bytes(content)


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("threads", [1, 3])
def test_threads_change_nothing_and_progress_counts_every_byte(tmp_path, threads):
    folder = tmp_path / "folder"
    folder.mkdir()
    for number in range(5):
        (folder / str(number)).write_bytes(np.random.default_rng(number).bytes(70_000 * number))
    for path, n_bytes in [(folder, 700_000), (folder / "4", 280_000), (folder / "0", 0)]:
        reported = []
        assert matches(path, checksum_of(path), threads=threads, progress=reported.append) == ""
        assert sum(reported) == n_bytes


def test_a_checksum_is_one_short_line_that_equal_content_shares(tmp_path):
    texts = set()
    for name in ["a", "b"]:
        write_text("equal", tmp_path / name)
        texts.add(made(tmp_path / name))
    assert texts == {checksum_of(tmp_path / "a")}
    text = texts.pop()
    assert text.startswith("xxh3:5:p20:")
    assert len(text.replace(":5:", f":{10**15}:")) <= 80


def test_what_differs_of_a_file_is_said(tmp_path):
    path = tmp_path / "x"
    write_text("content", path)
    checksum = made(path)
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


@pytest.mark.usefixtures("small_pieces")
def test_the_place_of_damage_is_told_to_a_sixteenth_of_the_file(tmp_path):
    content = np.random.default_rng(0).bytes(100 * 4096 + 7)
    (tmp_path / "x").write_bytes(content)
    checksum = checksum_of(tmp_path / "x")
    for offset in [0, 130_000, len(content) - 1]:
        damaged = content[:offset] + bytes([content[offset] ^ 255]) + content[offset + 1 :]
        (tmp_path / "x").write_bytes(damaged)
        words = matches(tmp_path / "x", checksum).split()
        assert words[:5] == ["its", "content", "differs", "within", "bytes"]
        first, last = int(words[5]), int(words[7])
        assert first <= offset < last
        assert last - first <= len(content) / 16 + 4096


def test_a_file_that_cannot_be_read_is_told_not_raised(tmp_path, monkeypatch):
    write_text("content", tmp_path / "x")

    def broken(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(checksums, "_digest", broken)
    found = matches(tmp_path / "x", made(tmp_path / "x"))
    assert found == "cannot be read (Input/output error)"


def test_the_files_that_differ_in_a_folder_are_named(tmp_path):
    series = tmp_path / "series"
    _write_volume(series, output_format="tiff")
    checksum = made(series)
    (series / ".snakemake_timestamp").touch()
    assert matches(series, checksum) == sizes_match(series) == ""
    damaged = tifffile.memmap(series / "recon_00003.tiff", mode="r+")
    damaged[7, 8] += 1
    damaged.flush()
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


def test_a_folder_copied_without_hidden_files_is_as_it_was(tmp_path):
    _write_volume(tmp_path / "x", output_format="zarr")
    (tmp_path / "x" / MANIFEST).unlink()
    assert matches(tmp_path / "x", made(tmp_path / "x")) == ""


def test_links_in_a_folder_count_by_what_they_say(tmp_path):
    (tmp_path / "large").write_text("of another result")
    with whole(tmp_path / "links") as temporary:
        temporary.mkdir()
        (temporary / "x").symlink_to("../large")
        (temporary / "nowhere").symlink_to("../gone")
    (tmp_path / "large").write_text("of another result, made anew")
    assert matches(tmp_path / "links", made(tmp_path / "links")) == ""
    (tmp_path / "links" / "x").unlink()
    (tmp_path / "links" / "x").symlink_to("../small")
    assert matches(tmp_path / "links", made(tmp_path / "links")) == "other content: x"


def test_links_that_are_gone_or_lead_elsewhere_are_named(tmp_path):
    links = tmp_path / "links"
    with whole(links) as temporary:
        temporary.mkdir()
        for name in "abc":
            (temporary / name).symlink_to(f"../{name}")
    assert changed_links(links) == []
    for name in "abc":
        (links / name).unlink()
    (links / "b").symlink_to("../c")
    (links / "c").write_text("copied")  # by a program that follows links
    (links / "d").symlink_to("../d")
    assert changed_links(links) == ["a", "b"]
    assert changed_links(tmp_path / "none") == []


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
    n_gone = sum(
        f.stat().st_size for f in [tmp_path / "aside", *tmp_path.rglob("aside/**/*")] if f.is_file()
    )
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
        checksums.written(temporary, 0, 4)

    def half_a_folder(temporary):
        temporary.mkdir()
        write_text("whole", temporary / "part")

    for write in [half_a_file, half_a_folder]:
        with pytest.raises(RuntimeError):
            _fail(tmp_path / "x", write)
    noted = [path for path in map(Path, checksums._open) if tmp_path in path.parents]
    assert made(tmp_path / "x") == ""
    assert not noted
