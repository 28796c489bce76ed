"""Windows that overlap: their frames are decoded once, and their rows are those of each alone."""

from dataclasses import replace

import h5py
import numpy as np
import pytest

from tests.corrections import EVERYTHING, KNOWN
from tests.phantoms import write_scan
from tomopipe.config import FullReconBlock, InputBlock, PreprocessBlock, TryReconBlock
from tomopipe.resources.memory import Resources
from tomopipe.scans import chunks
from tomopipe.scans.exchange import RawScan
from tomopipe.steps.full_recon import full_recon
from tomopipe.steps.shared_rows import shared_rows
from tomopipe.steps.try_recon import TryFiles, try_recon

pytestmark = pytest.mark.slow

N_ALL, N, N_ROWS, N_COLS = 120, 60, 40, 96
WINDOWS = [[0, 59], [15, 74], [30, 89], [45, 104], [60, 119]]
OPTIONS = TryReconBlock(width_px=4, step_px=1)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    truth = write_scan(
        tmp_path_factory.mktemp("raw") / "fast.h5", cor_px=48.5, n_angles=N_ALL, n_rows=N_ROWS,
        n_cols=N_COLS, counts=2e4, compression="gzip", chunks=(1, N_ROWS, N_COLS),
        beam={"n_flats": 6, "n_darks": 3},
    )  # fmt: skip
    with h5py.File(truth.path, "r+") as file:
        file["exchange/theta"][()] = 3 * np.arange(N_ALL)
    return truth.path


@pytest.fixture
def decoded(monkeypatch):
    """The chunks that are decoded, of all datasets."""
    corners, chunk = [], chunks._chunk

    def count(dataset, corner):
        corners.append((dataset.name, corner))
        return chunk(dataset, corner)

    monkeypatch.setattr(chunks, "_chunk", count)
    return corners


def sweeps(folder, raw, shared=None, windows=WINDOWS):
    """Make the sweep of each window; return the bytes of all files."""
    contents = []
    for window in windows:
        files = TryFiles(*(folder / name for name in ("try.tif", "try.json", "rows.h5")))
        of_window = raw.input.model_copy(update={"window": window})
        record = try_recon(
            replace(raw, input=of_window, shared=shared), files, OPTIONS,
            resources=Resources(1, None), made_from=None,
        )  # fmt: skip
        assert "failed" not in record
        contents += [path.read_bytes() for path in files]
    return contents


def share(folder, raw, windows=WINDOWS):
    output = folder / "shared.h5"
    shared_rows(raw, windows, output, OPTIONS, threads=2)
    return output


def test_each_frame_is_decoded_once_for_all_windows(path, tmp_path, decoded):
    raw = RawScan(path)
    alone = sweeps(tmp_path, raw)
    n_alone = len(decoded)
    decoded.clear()
    assert sweeps(tmp_path, raw, share(tmp_path, raw)) == alone
    projections = [corner[0] for name, corner in decoded if name == "/exchange/data"]
    assert {*projections} == {*range(N_ALL)}
    assert len(projections) == N_ALL + 2  # two of them to see which rows get light
    assert n_alone > len(WINDOWS) * N


@pytest.mark.parametrize(
    ("options", "preprocess"),
    [(KNOWN, EVERYTHING), ({}, {"minus_log": False}), ({"every": 3}, {})],
    ids=["all", "none", "every"],
)
def test_options_have_the_rows_that_they_need(path, tmp_path, decoded, options, preprocess):
    raw = RawScan(path, InputBlock(**options), PreprocessBlock(**preprocess))
    alone = sweeps(tmp_path, raw, windows=WINDOWS[:2])
    shared = share(tmp_path, raw, WINDOWS[:2])
    decoded.clear()
    assert sweeps(tmp_path, raw, shared, WINDOWS[:2]) == alone
    assert decoded == []


@pytest.mark.parametrize(
    "damage", ["absent", "cut", "damaged", "other frames", "other rows", "averaged"]
)
def test_what_is_not_shared_is_read_from_the_raw_file(path, tmp_path, damage):
    raw = RawScan(path)
    if damage == "averaged":
        raw = RawScan(path, InputBlock(average=2))
    windows = WINDOWS[:1] if damage == "other frames" else WINDOWS
    shared = share(tmp_path, raw, windows)
    if damage == "absent":
        shared.unlink()
    if damage == "cut":  # its job was killed
        with h5py.File(shared, "a") as file:
            del file.attrs["complete"]
    if damage == "damaged":
        shared.write_bytes(bytes(1000))
    if damage == "other rows":
        with h5py.File(shared, "a") as file:
            file["projections/row_numbers"][()] = np.arange(len(file["projections/row_numbers"]))
    assert sweeps(tmp_path, raw, shared, WINDOWS[2:3]) == sweeps(tmp_path, raw, None, WINDOWS[2:3])


def test_a_frame_that_cannot_be_decoded_costs_its_windows_alone(path, tmp_path):
    bad = tmp_path / "bad.h5"
    bad.write_bytes(path.read_bytes())
    with h5py.File(bad) as file:
        info = file["exchange/data"].id.get_chunk_info_by_coord((10, 0, 0))
    with open(bad, "r+b") as stream:
        stream.seek(info.byte_offset)
        stream.write(b"\0" * info.size)
    raw = RawScan(bad)
    assert sweeps(tmp_path, raw, share(tmp_path, raw), WINDOWS[1:2])


def test_rows_that_are_read_alone_are_not_shared(tmp_path):
    truth = write_scan(tmp_path / "a.h5", n_angles=N_ALL, n_rows=N_ROWS, n_cols=N_COLS)
    with h5py.File(share(tmp_path, RawScan(truth.path))) as file:
        assert len(file) == 0


def volumes(folder, raw, shared=None):
    """Return the voxels of the volume of each window, made in the smallest blocks."""
    result, path = [], folder / "v.h5"
    for window in WINDOWS:
        of_window = replace(raw, input=raw.input.model_copy(update={"window": window}))
        full_recon(
            replace(of_window, shared=shared), path, {"cor_px": 48.5}, FullReconBlock(device="cpu"),
            pixel_size_um=None, resources=Resources(2, 1), provenance=None, voxels_of=None,
        )  # fmt: skip
        with h5py.File(path) as file:
            result.append(file["exchange/data"][()])
    return result


@pytest.mark.parametrize(
    ("options", "preprocess", "storage"),
    [
        (KNOWN, EVERYTHING, {"compression": "gzip", "chunks": (1, N_ROWS, N_COLS)}),
        # chunks of several frames decide of which rows the edge slopes are measured
        ({}, {}, {"compression": "gzip", "chunks": (8, 2, N_COLS)}),
        ({"average": 2}, {}, {}),
    ],
    ids=["all corrections", "deep chunks", "means"],
)
def test_volumes_share_frames_that_are_read_once(tmp_path, decoded, options, preprocess, storage):
    truth = write_scan(
        tmp_path / "fast.h5", cor_px=48.5, theta_deg=3.0 * np.arange(N_ALL), n_rows=N_ROWS,
        n_cols=N_COLS, counts=2e4, beam={"n_flats": 6, "n_darks": 3}, **storage,
    )  # fmt: skip
    raw = RawScan(truth.path, InputBlock(**options), PreprocessBlock(**preprocess))
    alone = volumes(tmp_path, raw)
    decoded.clear()
    shared_rows(raw, WINDOWS, tmp_path / "shared.h5", None, threads=2)
    n_chunks = len({*decoded})
    assert len(decoded) == n_chunks
    with replace(raw, shared=tmp_path / "shared.h5").open() as scan:
        assert scan.chunks is None  # no frame is read whole for a few rows
    together = volumes(tmp_path, raw, tmp_path / "shared.h5")
    assert len(decoded) == n_chunks
    assert np.array_equal(together, alone)
