import h5py
import numpy as np
import pytest

from tests.phantoms import write_scan
from tomopipe.errors import ScanError
from tomopipe.scans import chunks
from tomopipe.scans.exchange import open_scan

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
    data = _dataset(
        tmp_path / "a.h5", dtype, chunks=shape, compression="gzip", shuffle=shuffle
    )  # fmt: skip
    with h5py.File(tmp_path / "a.h5") as file:
        assert chunks.can_decode(file["data"])
        for frames, rows in [((0, 23), (0, 18)), ((2, 9), (4, 11)), ((22, 23), (17, 18))]:
            out = np.full(
                (frames[1] - frames[0], rows[1] - rows[0], 31),
                77,
                np.dtype(dtype).newbyteorder("="),
            )
            chunks.read_block(file["data"], frames, rows, out, 3)
            np.testing.assert_array_equal(out, data[slice(*frames), slice(*rows)])


def test_chunks_never_written_hold_the_fill_value(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        data = file.create_dataset(
            "data", SHAPE, "u2", chunks=(1, 18, 31), compression="gzip", fillvalue=9
        )
        data[3] = 5
        out = np.zeros((5, 18, 31), np.uint16)
        chunks.read_block(data, (0, 5), (0, 18), out, 2)
    assert (out[3] == 5).all()
    assert (out[[0, 1, 2, 4]] == 9).all()


def test_a_chunk_stored_without_its_filters(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        data = file.create_dataset(
            "data", SHAPE, "u2", chunks=(1, 18, 31), compression="gzip", shuffle=True
        )
        data[0] = 1
        plain = np.arange(18 * 31, dtype="u2").reshape(18, 31)
        data.id.write_direct_chunk((1, 0, 0), plain.tobytes(), filter_mask=3)
        out = np.zeros((2, 18, 31), np.uint16)
        chunks.read_block(data, (0, 2), (0, 18), out, 2)
    assert (out[0] == 1).all()
    np.testing.assert_array_equal(out[1], plain)


@pytest.mark.parametrize("junk", [b"junk", None], ids=["not deflate", "too short"])
def test_a_broken_chunk_names_the_file(tmp_path, junk):
    import zlib

    truth = write_scan(
        tmp_path / "s_1.h5", n_angles=11, compression="gzip", dtype=np.uint16, counts=9e3
    )
    with h5py.File(truth.path, "r+") as file:
        data = file["exchange/data"]
        data.id.write_direct_chunk((0, 0, 0), junk or zlib.compress(b"12"))
    with open_scan(truth.path) as scan:
        scan.threads = 2
        broken = r"s_1\.h5: .*, rows 0 to 4 cannot be read \(the chunk at"
        with pytest.raises(ScanError, match=broken):
            scan.read_rows(0, 4)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_scan_reads_the_same_with_threads(tmp_path, threads):
    truth = write_scan(
        tmp_path / "s_1.h5", n_angles=11, n_rows=9, compression="gzip", dtype=np.uint16, counts=9e3
    )
    with h5py.File(truth.path) as file:
        raw = file["exchange/data"][:]
    with open_scan(truth.path) as scan:
        scan.threads = threads
        np.testing.assert_array_equal(scan.read_rows(2, 7), raw[:, 2:7])
        np.testing.assert_array_equal(scan.read_block((3, 8), (0, 9)), raw[3:8])
        for frames, rows in [((3, 12), (0, 1)), ((3, 3), (0, 1)), ((0, 1), (2, 10))]:
            with pytest.raises(ValueError, match="expected 0 <= first < last"):
                scan.read_block(frames, rows)
