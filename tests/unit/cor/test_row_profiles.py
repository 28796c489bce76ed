"""Row profiles: true means of line integrals, of enough projections, for few bytes."""

from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from phantoms import write_scan

from tomopipe.config import PreprocessBlock
from tomopipe.cor.collected_rows import (
    collect_rows,
    read_rows,
    reads_whole,
    whole_frames,
    write_rows,
)
from tomopipe.cor.row_profiles import RowProfiler
from tomopipe.scans.exchange import open_scan

BEAM = {"dust": 3, "n_flats": 2, "n_darks": 2}


def written(folder, n_angles=40, n_rows=32, n_cols=48, **options):
    options = {"counts": None, "beam": BEAM, "chunks": False} | options
    return write_scan(folder / "a.h5", n_angles=n_angles, n_rows=n_rows, n_cols=n_cols, **options)


@pytest.mark.parametrize("chunks", [False, (1, 32, 48), (8, 8, 48)])
@pytest.mark.parametrize("compression", [None, "gzip"])
def test_they_are_the_means_of_the_line_integrals(tmp_path, chunks, compression):
    compression = compression if chunks else None
    truth = written(tmp_path, chunks=chunks, compression=compression)
    with open_scan(truth.path) as scan:
        profiles = collect_rows(scan, [16], PreprocessBlock()).profiles
    assert profiles.frames.tolist() == list(range(40))  # few enough to be read whole
    assert profiles.rows.tolist() == list(range(32))
    means = truth.projections().mean(axis=2)
    # counts are rounded to whole numbers of 30,000
    np.testing.assert_allclose(profiles.values, means, atol=2e-4)


@pytest.mark.filterwarnings("error")
def test_a_scan_of_float16(tmp_path):
    truth = written(tmp_path)
    with h5py.File(truth.path, "r+") as file:
        for name in ("data", "data_white", "data_dark"):
            counts = file[f"exchange/{name}"][()]
            del file[f"exchange/{name}"]
            file[f"exchange/{name}"] = (counts / 32).astype(np.float16)
    with open_scan(truth.path) as scan:
        rows = collect_rows(scan, [16], PreprocessBlock())
    means = truth.projections().mean(axis=2)
    np.testing.assert_allclose(rows.profiles.values, means, atol=1e-3)


def test_dead_pixels_do_not_count_and_dead_rows_are_nan(tmp_path):
    truth = written(tmp_path)
    with h5py.File(truth.path, "r+") as file:
        for name in ("data", "data_white", "data_dark"):
            file[f"exchange/{name}"][:, 10] = 7
            file[f"exchange/{name}"][:, :, 20] = 7
    with open_scan(truth.path) as scan:
        profiles = collect_rows(scan, [16], PreprocessBlock()).profiles
    assert np.flatnonzero(np.isnan(profiles.values).any(axis=0)).tolist() == [10]
    others = np.delete(np.arange(48), 20)
    means = np.delete(truth.projections()[:, :, others].mean(axis=2), 10, axis=1)
    np.testing.assert_allclose(np.delete(profiles.values, 10, axis=1), means, atol=2e-4)


@pytest.mark.parametrize("chunks", [None, (1, 1, 512), (1500, 2, 512), (16, 16, 128)])
@pytest.mark.parametrize("n_more", [0, 2])  # frames that are read besides
def test_a_fiftieth_of_a_large_scan_is_read_for_them(chunks, n_more):
    n_angles, n_rows, n_cols = 1500, 200, 512
    read_bytes = []

    def read_block(frames, rows):
        ranges = zip((frames, rows), (chunks or (1, 1))[:2], strict=True)
        deep, high = (-(-last // n) * n - first // n * n for (first, last), n in ranges)
        read_bytes.append(2 * n_cols * deep * high)
        return np.ones((frames[1] - frames[0], rows[1] - rows[0], n_cols), "u2")

    flat = np.full((n_rows, n_cols), 2.0)
    scan = SimpleNamespace(
        n_angles=n_angles, n_rows=n_rows, n_cols=n_cols, dtype=np.dtype("u2"), chunks=chunks,
        flat=flat, dark=0 * flat, read_block=read_block,
    )  # fmt: skip
    profiles = RowProfiler(scan, minus_log=True).read({}, n_more)
    assert profiles is None or len(profiles.frames) >= 64
    besides = n_more * (chunks or (1,))[0] * n_rows
    assert sum(read_bytes) <= 2 * n_cols * (0.02 * n_angles * n_rows - (besides if profiles else 0))
    if chunks in (None, (1, 1, 512)):
        assert len(profiles.rows) >= 80
        assert np.ptp(profiles.frames) > 0.95 * n_angles
        np.testing.assert_allclose(profiles.values, np.log(2), rtol=1e-6)


def test_the_rows_are_read_that_differ_most(tmp_path, monkeypatch):
    monkeypatch.setattr("tomopipe.cor.row_profiles.FREE_BYTES", 0)
    monkeypatch.setattr("tomopipe.cor.row_profiles._MOST_READ", 0.4)
    truth = written(tmp_path)
    with open_scan(truth.path) as scan:
        flat = scan.flat
        image = flat.copy()
        image[20:26] *= np.linspace(1, 0.5, 6)[:, None]
        image[26:] *= 0.5
        profiles = RowProfiler(scan, minus_log=True).read({0: image, 20: image})
    assert 12 <= len(profiles.rows) < 32
    assert {20, 25} <= set(profiles.rows.tolist())


def test_they_come_back_from_rows_h5(tmp_path):
    truth = written(tmp_path)
    with open_scan(truth.path) as scan:
        rows = collect_rows(scan, [16], PreprocessBlock())
    write_rows(rows, tmp_path / "rows.h5")
    back = read_rows(tmp_path / "rows.h5").profiles
    for name, values in vars(rows.profiles).items():
        np.testing.assert_array_equal(getattr(back, name), values)
        assert getattr(back, name).dtype == values.dtype


def test_rows_are_averaged_so_that_the_file_stays_small(tmp_path, monkeypatch):
    monkeypatch.setattr("tomopipe.cor.row_profiles._MOST_VALUES", 40 * 10)
    monkeypatch.setattr("tomopipe.cor.row_profiles._LEAST_BINS", 8)
    truth = written(tmp_path)
    with open_scan(truth.path) as scan:
        profiles = collect_rows(scan, [16], PreprocessBlock()).profiles
    assert profiles.rows.tolist() == [1.5, 5.5, 9.5, 13.5, 17.5, 21.5, 25.5, 29.5]
    means = truth.projections().mean(axis=2).reshape(40, 8, 4).mean(axis=2)
    np.testing.assert_allclose(profiles.values, means, atol=2e-4)


@pytest.mark.parametrize(
    ("span_deg", "n_angles", "frames"),
    [
        (180, 601, [0, 600, 1, 599, 2, 598]),
        (180, 401, [0, 400, 1, 399]),
        (180, 241, [0, 240]),
        (180, 90, [0, 89]),
        (150, 241, []),
    ],
)
def test_the_end_projections_are_kept_where_they_see_the_same(tmp_path, span_deg, n_angles, frames):
    theta_deg = np.linspace(0, span_deg * (1 - 1 / n_angles), n_angles)
    truth = written(tmp_path, n_angles=n_angles, theta_deg=theta_deg)
    with open_scan(truth.path) as scan:
        rows = collect_rows(scan, [16], PreprocessBlock())
    if not frames:  # they see other sides
        assert rows.ends is None
        return
    np.testing.assert_allclose(rows.ends, truth.projections()[frames], atol=5e-3)
    write_rows(rows, tmp_path / "rows.h5")
    np.testing.assert_array_equal(read_rows(tmp_path / "rows.h5").ends, rows.ends)


@pytest.mark.parametrize(("n_angles", "n_ends"), [(190, 0), (210, 2), (401, 4)])
def test_of_large_frames_that_are_not_read_anyway_the_ends_are_few(
    tmp_path, monkeypatch, n_angles, n_ends
):
    monkeypatch.setattr("tomopipe.cor.collected_rows.FREE_BYTES", 0)
    theta_deg = np.arange(n_angles) * 180 / n_angles
    truth = written(tmp_path, n_angles=n_angles, theta_deg=theta_deg)
    with open_scan(truth.path) as scan:
        assert len(whole_frames(scan, [16])[1]) == n_ends


def test_ends_that_have_turned_too_far_are_not_kept_though_they_are_read(tmp_path):
    options = {"theta_deg": np.arange(190) * 180 / 190, "chunks": (1, 32, 48)}
    truth = written(tmp_path, n_angles=190, compression="gzip", **options)
    with open_scan(truth.path) as scan:
        assert reads_whole(scan, [16, 17])
        assert whole_frames(scan, [16, 17])[1] == [0, 189]
