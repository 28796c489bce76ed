import os
import shutil
import zlib

import h5py
import numpy as np
import pytest

from tests.phantoms import write_scan
from tomopipe.errors import ScanError
from tomopipe.scans import chunks
from tomopipe.scans.chunks import chunks_of, written_frames
from tomopipe.scans.exchange import open_scan
from tomopipe.scans.hdf5 import StillWrittenError

SHAPE = (23, 18, 31)


def _dataset(path, dtype, **options):
    rng = np.random.default_rng(0)
    data = rng.integers(0, 250, SHAPE).astype(dtype) * np.array(3).astype(dtype)
    with h5py.File(path, "w") as file:
        file.create_dataset("data", data=data, dtype=dtype, **options)
    return data


@pytest.mark.parametrize("dtype", ["u1", "<u2", ">u2", "<f4", "i4"])
@pytest.mark.parametrize("shape", [(1, 18, 31), (4, 5, 8), (23, 18, 31), (64, 1, 31)])
@pytest.mark.parametrize("shuffle", [True, False])
def test_threads_read_what_hdf5_reads(tmp_path, dtype, shape, shuffle):
    shape = tuple(min(c, n) for c, n in zip(shape, SHAPE, strict=True))
    stored = {"chunks": shape, "compression": "gzip", "shuffle": shuffle}
    data = _dataset(tmp_path / "a.h5", dtype, **stored)
    with h5py.File(tmp_path / "a.h5") as file:
        assert chunks.can_decode(file["data"])
        for frames, rows in [((0, 23), (0, 18)), ((2, 9), (4, 11)), ((22, 23), (17, 18))]:
            expected = data[slice(*frames), slice(*rows)]
            out = np.full(expected.shape, 77, np.dtype(dtype).newbyteorder("="))
            chunks.read_block(file["data"], frames, rows, out, 3)
            np.testing.assert_array_equal(out, expected)


def test_chunks_never_written_hold_the_fill_value_and_some_are_stored_without_filters(tmp_path):
    stored = {"chunks": (1, 18, 31), "compression": "gzip", "shuffle": True, "fillvalue": 9}
    plain = np.arange(18 * 31, dtype="u2").reshape(18, 31)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        data = file.create_dataset("data", SHAPE, "u2", **stored)
        data[3] = 5
        data.id.write_direct_chunk((1, 0, 0), plain.tobytes(), filter_mask=3)
        out = np.zeros((5, 18, 31), np.uint16)
        chunks.read_block(data, (0, 5), (0, 18), out, 2)
    assert (out[3] == 5).all()
    np.testing.assert_array_equal(out[1], plain)
    assert (out[[0, 2, 4]] == 9).all()


@pytest.mark.parametrize("junk", [b"junk", None], ids=["not deflate", "too short"])
@pytest.mark.parametrize("threads", [1, 2])
def test_a_broken_chunk_names_the_file(tmp_path, junk, threads):
    truth = write_scan(
        tmp_path / "s_1.h5", n_angles=11, compression="gzip", dtype=np.uint16, counts=9e3
    )
    with h5py.File(truth.path, "r+") as file:
        data = file["exchange/data"]
        data.id.write_direct_chunk((0, 0, 0), junk or zlib.compress(b"12"))
    with open_scan(truth.path) as scan:
        scan.threads = threads
        broken = r"s_1\.h5: .*/data, frame.* 0.*, rows 0 to {} cannot be read \(the chunk at .*\): "
        broken += "copy it again from the acquisition computer"
        skip = r", or input: \{skip_projections: \[0\]\} leaves them out$"
        with pytest.raises(ScanError, match=broken.format(3) + skip):
            scan.read_rows(0, 4)
        with pytest.raises(ScanError, match=broken.format(scan.n_rows - 1) + skip):
            scan.read_frames([0])
    # and so it is
    with open_scan(truth.path, options={"skip_projections": [0]}) as scan:
        assert scan.read_rows(0, 4).shape[0] == 10
    # what is skipped already stays in the advice
    both = r"or input: \{skip_projections: \[7, 0\]\} leaves them out$"
    with (
        pytest.raises(ScanError, match=both),
        open_scan(truth.path, options={"skip_projections": [7]}) as scan,
    ):
        scan.read_rows(0, 4)


def test_a_block_beyond_the_scan_is_refused(tmp_path):
    truth = write_scan(tmp_path / "s_1.h5", n_angles=11, n_rows=9, compression="gzip")
    with open_scan(truth.path) as scan:
        for frames, rows in [((3, 12), (0, 1)), ((3, 3), (0, 1)), ((0, 1), (2, 10))]:
            with pytest.raises(ValueError, match="expected 0 <= first < last"):
                scan.read_block(frames, rows)


FRAMES = (6, 4, 5)


def frames_of(path, name="d"):
    with h5py.File(path) as file:
        return written_frames(file[name]).frames.astype(int).tolist()


@pytest.mark.parametrize("libver", ["earliest", "latest"])
@pytest.mark.parametrize("maxshape", [None, (None, 4, 5)], ids=["fixed", "resizable"])
@pytest.mark.parametrize("options", [{}, {"compression": "gzip"}], ids=["plain", "gzip"])
@pytest.mark.parametrize(
    ("chunks", "written", "expected"),
    [
        ((1, 4, 5), np.s_[:], [1] * 6),
        ((1, 4, 5), np.s_[:0], [0] * 6),
        ((1, 4, 5), np.s_[:4], [1, 1, 1, 1, 0, 0]),
        ((1, 4, 5), np.s_[3:5], [0, 0, 0, 1, 1, 0]),
        ((4, 4, 5), np.s_[:4], [1, 1, 1, 1, 0, 0]),
        ((4, 4, 5), np.s_[4:], [0, 0, 0, 0, 1, 1]),
        ((1, 3, 2), np.s_[:, :, :3], [0] * 6),
        ((2, 3, 2), np.s_[:3], [1, 1, 1, 1, 0, 0]),
        ((6, 1, 5), np.s_[:, :3], [0] * 6),
    ],
    ids=["all", "none", "leading", "hole", "thick", "last thick", "torn", "part", "rows"],
)
def test_chunks_present(tmp_path, libver, maxshape, options, chunks, written, expected):
    with h5py.File(tmp_path / "a.h5", "w", libver=libver) as file:
        data = file.create_dataset(
            "d", FRAMES, "u2", chunks=chunks, maxshape=maxshape, fillvalue=7, **options
        )
        data[written] = 1
    assert frames_of(tmp_path / "a.h5") == expected


def test_contiguous_is_written_once_it_has_a_place(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("d", FRAMES, "u2")
    assert frames_of(tmp_path / "a.h5") == [0] * 6
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        file["d"][0] = 1
    assert frames_of(tmp_path / "a.h5") == [1] * 6


def test_compact_and_raw_data_outside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # HDF5 looks for raw data from the working folder
    with h5py.File("a.h5", "w") as file:
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_layout(h5py.h5d.COMPACT)
        space = h5py.h5s.create_simple(FRAMES)
        h5py.h5d.create(file.id, b"compact", h5py.h5t.NATIVE_INT16, space, plist)
        outside = [("raw.bin", 0, 100), ("more.bin", 8, 2 * 6 * 4 * 5 - 100)]
        file.create_dataset("outside", FRAMES, "i2", external=outside)[...] = 3
    assert frames_of("a.h5", "compact") == [1] * 6
    assert frames_of("a.h5", "outside") == [1] * 6
    os.truncate("more.bin", 8 + 139)
    assert frames_of("a.h5", "outside") == [1, 1, 1, 1, 1, 0]
    os.truncate("raw.bin", 85)
    assert frames_of("a.h5", "outside") == [1, 1, 0, 1, 1, 0]
    (tmp_path / "raw.bin").unlink()
    assert frames_of("a.h5", "outside") == [0] * 6


def source(path, written=np.s_[:], shape=FRAMES):
    path.parent.mkdir(exist_ok=True)
    with h5py.File(path, "w") as file:
        data = file.create_dataset("d", shape, "u2", chunks=(1, *shape[1:]))
        data[written] = 1


def virtual(path, layout):
    with h5py.File(path, "w", libver="latest") as file:
        file.create_virtual_dataset("d", layout, fillvalue=9)
    return path


def hdf5_says(path):
    """What HDF5 itself gives: 1 where a source provides the frame, 9 or 0 where it fills."""
    with h5py.File(path) as file:
        return (file["d"][...] == 1).all(axis=(1, 2)).astype(int).tolist()


def test_virtual_frames_follow_those_of_the_sources(tmp_path):
    source(tmp_path / "even.h5", np.s_[:2], (3, 4, 5))
    source(tmp_path / "sub" / "odd.h5", np.s_[1:], (4, 4, 5))
    layout = h5py.VirtualLayout(FRAMES, "u2")
    layout[::2] = h5py.VirtualSource("even.h5", "d", (3, 4, 5))
    layout[1::2] = h5py.VirtualSource("sub/odd.h5", "d", (4, 4, 5))[:3]
    path = virtual(tmp_path / "v.h5", layout)
    assert frames_of(path) == hdf5_says(path) == [1, 0, 1, 1, 0, 1]


def test_virtual_of_single_images_and_of_halves(tmp_path):
    layout = h5py.VirtualLayout(FRAMES, "u2")
    for number in range(6):
        if number != 3:
            with h5py.File(tmp_path / f"image{number}.h5", "w") as file:
                file["d"] = np.ones(FRAMES[1:], "u2")
        layout[number] = h5py.VirtualSource(f"image{number}.h5", "d", FRAMES[1:])
    path = virtual(tmp_path / "v.h5", layout)
    assert frames_of(path) == hdf5_says(path) == [1, 1, 1, 0, 1, 1]

    layout = h5py.VirtualLayout(FRAMES, "u2")
    for number, n_written in enumerate((6, 4)):
        source(tmp_path / f"half{number}.h5", np.s_[:n_written], (6, 2, 5))
        half = h5py.VirtualSource(f"half{number}.h5", "d", (6, 2, 5))
        layout[:, 2 * number : 2 * number + 2] = half
    path = virtual(tmp_path / "w.h5", layout)
    assert frames_of(path) == hdf5_says(path) == [1, 1, 1, 1, 0, 0]


def test_virtual_finds_moved_sources_as_hdf5_does(tmp_path):
    source(tmp_path / "old" / "s.h5")
    layout = h5py.VirtualLayout(FRAMES, "u2")
    layout[...] = h5py.VirtualSource(str(tmp_path / "old" / "s.h5"), "d", FRAMES)
    path = virtual(tmp_path / "old" / "v.h5", layout)
    assert frames_of(path) == hdf5_says(path) == [1] * 6
    (tmp_path / "old").rename(tmp_path / "new")
    path = tmp_path / "new" / "v.h5"
    assert frames_of(path) == hdf5_says(path) == [1] * 6
    with h5py.File(path) as file:
        assert chunks_of(file["d"]).shape == (1, *FRAMES[1:])
    (tmp_path / "link.h5").symlink_to(path)
    assert frames_of(tmp_path / "link.h5") == hdf5_says(tmp_path / "link.h5") == [1] * 6


def test_virtual_of_a_growing_source_and_of_numbered_files(tmp_path):
    unlimited = h5py.h5s.UNLIMITED
    with h5py.File(tmp_path / "s.h5", "w") as file:
        data = file.create_dataset("d", FRAMES, "u2", maxshape=(None, 4, 5), chunks=(1, 4, 5))
        data[...] = 1
    layout = h5py.VirtualLayout(FRAMES, "u2", maxshape=(None, 4, 5))
    growing = h5py.VirtualSource("s.h5", "d", FRAMES, maxshape=(None, 4, 5))
    layout[:unlimited] = growing[:unlimited]
    path = virtual(tmp_path / "v.h5", layout)
    assert frames_of(path) == hdf5_says(path) == [1] * 6
    for number in (0, 2):
        source(tmp_path / f"n{number}.h5", shape=(2, 4, 5))
    virtual_space = h5py.h5s.create_simple(FRAMES, (unlimited, 4, 5))
    virtual_space.select_hyperslab((0, 0, 0), (unlimited, 1, 1), (2, 1, 1), (2, 4, 5))
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_virtual(virtual_space, b"n%b.h5", b"d", h5py.h5s.create_simple((2, 4, 5)))
    with h5py.File(tmp_path / "w.h5", "w", libver="latest") as file:
        space = h5py.h5s.create_simple(FRAMES, (unlimited, 4, 5))
        h5py.h5d.create(file.id, b"d", h5py.h5t.NATIVE_UINT16, space, plist)
    expected = hdf5_says(tmp_path / "w.h5")
    assert frames_of(tmp_path / "w.h5") == expected == [1, 1, 0, 0, 1, 1][: len(expected)]


def test_sources_that_cannot_be_opened_are_named(tmp_path):
    (tmp_path / "text.h5").write_text("not HDF5 at all")
    source(tmp_path / "s.h5")
    layout = h5py.VirtualLayout(FRAMES, "u2")
    names = [("s.h5", "d"), ("gone.h5", "d"), ("text.h5", "d"), ("s.h5", "nothing")]
    for number, (name, dataset) in enumerate(names):
        layout[number] = h5py.VirtualSource(name, dataset, FRAMES)[number]
    path = virtual(tmp_path / "v.h5", layout)
    with h5py.File(path) as file:
        written = written_frames(file["d"])
    assert written.frames.tolist() == [True] + [False] * 5
    assert written.missing_sources == ("gone.h5", "text.h5", "s.h5")


def test_virtual_of_virtual_and_in_a_circle(tmp_path):
    source(tmp_path / "s.h5", np.s_[:5])
    for name, of in [("a.h5", "s.h5"), ("b.h5", "a.h5"), ("c.h5", "c2.h5"), ("c2.h5", "c.h5")]:
        layout = h5py.VirtualLayout(FRAMES, "u2")
        layout[...] = h5py.VirtualSource(of, "d", FRAMES)
        virtual(tmp_path / name, layout)
    assert frames_of(tmp_path / "b.h5") == [1, 1, 1, 1, 1, 0]
    with pytest.raises(ScanError, match="in a circle"):
        frames_of(tmp_path / "c.h5")


def test_a_source_still_written_makes_the_scan_so(tmp_path):
    layout = h5py.VirtualLayout(FRAMES, "u2")
    layout[...] = h5py.VirtualSource("s.h5", "d", FRAMES)
    path = virtual(tmp_path / "v.h5", layout)
    with h5py.File(tmp_path / "open.h5", "w", libver="latest") as file:
        file["d"] = np.ones(FRAMES, "u2")
        file.flush()
        shutil.copy(file.filename, tmp_path / "s.h5")  # with the mark of its writer
    with pytest.raises(StillWrittenError):
        frames_of(path)
