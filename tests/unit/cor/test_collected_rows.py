"""Rows for finders: which are collected, true line integrals; in rows.h5 they come back."""

from dataclasses import replace

import h5py
import numpy as np
import pytest

from tests.find_rows import rows_of
from tests.phantoms import write_scan
from tomopipe.config import PreprocessBlock
from tomopipe.config.spans import row_numbers
from tomopipe.cor.collected_rows import (
    Rows,
    collect_rows,
    failed_rows,
    opposing_pairs,
    read_rows,
    spread_rows,
    write_rows,
)
from tomopipe.errors import ScanError, TomopipeError
from tomopipe.scans.exchange import open_scan

ARRAYS = ["sinograms", "row_index", "theta_rad", "pairs", "pair_theta_rad"]


@pytest.fixture
def rows() -> Rows:
    projections = np.random.default_rng(0).random((7, 9, 11), dtype=np.float32)
    return replace(
        rows_of(projections, np.linspace(0, 180, 7)), theta_missing=True, minus_log=False
    )


def test_round_trip_keeps_values_types_and_flags(rows, tmp_path):
    write_rows(rows, tmp_path / "rows.h5")
    back = read_rows(tmp_path / "rows.h5")
    for name in ARRAYS:
        assert getattr(back, name).dtype == getattr(rows, name).dtype
        np.testing.assert_array_equal(getattr(back, name), getattr(rows, name))
    assert (back.n_rows, back.theta_missing, back.minus_log, back.failed) == (9, True, False, "")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("bad_frames", {"saturated": (1, 5), "dark": (), "constant": ()}),
        ("flat_levels", [9.5, 8]),
        ("dark_levels", []),
        ("numbers", [3, 4, 5, 6, 7, 8, 9]),
        ("flat_positions", [0, 0, 7]),
        ("flat_parts", [[[1.0, 2]], [[3, 4]]]),
        ("image_parts", [[[0.5, 1]]]),
        ("flat_lines", [[0.5, 1]]),
    ],
)
def test_what_older_files_lack_is_none_or_comes_back(rows, tmp_path, name, value):
    path = tmp_path / "rows.h5"
    write_rows(rows, path)
    assert getattr(read_rows(path), name) is None
    given = value if isinstance(value, dict) else np.array(value)
    write_rows(replace(rows, **{name: given}), path)
    with h5py.File(path) as file:
        assert file.attrs["format"] == 2
    back = getattr(read_rows(path), name)
    assert (back if isinstance(value, dict) else back.tolist()) == value


def test_equal_rows_give_equal_bytes(rows, tmp_path):
    write_rows(rows, tmp_path / "a.h5")
    write_rows(rows, tmp_path / "b.h5")
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_no_pairs_and_one_row(rows, tmp_path):
    few = replace(rows, sinograms=rows.sinograms[:1], row_index=rows.row_index[:1])
    few = replace(few, pairs=rows.pairs[:0, :, :0], pair_theta_rad=np.zeros((0, 2)))
    write_rows(few, tmp_path / "rows.h5")
    assert read_rows(tmp_path / "rows.h5").pairs.shape == (0, 2, 0, 11)


def test_a_failed_scan_keeps_its_reason_as_written(tmp_path):
    reason = "größe\n\udcff: cannot read\0 raw data"
    write_rows(failed_rows(reason), tmp_path / "rows.h5")
    back = read_rows(tmp_path / "rows.h5")
    assert back.failed == reason
    assert back.sinograms.shape == (0, 0, 0)


def test_a_foreign_or_missing_file_is_named(rows, tmp_path):
    (tmp_path / "text.h5").write_text("not HDF5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["a"] = 1
    write_rows(rows, tmp_path / "cut.h5")
    with h5py.File(tmp_path / "cut.h5", "a") as file:
        del file["pairs"]
    for name in ["text.h5", "other.h5", "cut.h5", "missing.h5"]:
        with pytest.raises(TomopipeError, match=name):
            read_rows(tmp_path / name)


@pytest.mark.parametrize(
    ("row", "n_rows", "expected"),
    [
        (0.5, 1, [0]),
        (0.5, 5, [2]),
        (1.0, 512, [511]),
        (1, 512, [1]),
        (np.int64(7), 512, [7]),
        ([0.0, 3, 0.5, 3], 7, [0, 3]),
    ],
)
def test_row_numbers(row, n_rows, expected):
    assert row_numbers(row, n_rows) == expected


@pytest.mark.parametrize("row", [4, -1, [0, 9], 1.2])
def test_a_row_off_the_detector_is_refused(row):
    with pytest.raises(ScanError, match=r"is not a row of this scan \(0 to 3\)"):
        row_numbers(row, 4)


@pytest.mark.parametrize("n_rows", [1, 4, 29])
def test_spread_rows_are_five_different_rows_or_all(n_rows):
    kept = spread_rows([n_rows // 2], n_rows)
    assert kept[0] == n_rows // 2
    assert len(set(kept)) == len(kept) == min(5, n_rows)
    assert set(kept) <= set(range(n_rows))


def _angles(start, stop, n, endpoint=True):
    return np.linspace(start, stop, n, endpoint=endpoint)


@pytest.mark.parametrize(
    ("theta_deg", "expected_deg"),
    [
        (_angles(0, 180, 181), [(0, 180)]),
        (_angles(180, 0, 181), [(0, 180)]),
        (_angles(0, 180, 180, endpoint=False), []),
        (_angles(0, 179.6, 181), [(0, 179.6)]),
        (_angles(0, 360, 360, endpoint=False), [(0, 180), (60, 240), (120, 300)]),
        ([30.0], []),
    ],
    ids=["180 degrees", "descending", "end missing", "near", "360 degrees", "1"],
)
def test_opposing_pairs(theta_deg, expected_deg):
    theta_deg = np.asarray(theta_deg)
    pairs = opposing_pairs(np.deg2rad(theta_deg))
    assert pairs.shape == (len(expected_deg), 2)
    np.testing.assert_allclose(
        theta_deg[pairs], np.reshape(expected_deg, (-1, 2)).astype(float), atol=1e-9
    )


def test_opposing_pairs_of_shuffled_angles():
    theta_rad = np.random.default_rng(1).permutation(np.deg2rad(_angles(5, 365, 720, False)))
    pairs = opposing_pairs(theta_rad)
    assert len(pairs) == 3
    np.testing.assert_allclose(np.diff(theta_rad[pairs]), np.pi, atol=1e-9)
    assert np.ptp(theta_rad[pairs[:, 0]]) > np.pi / 2


LAYOUTS = [False, (1, 12, 48), (3, 6, 24)]


@pytest.mark.parametrize("chunks", LAYOUTS, ids=str)
def test_rows_and_pairs_are_the_true_line_integrals(tmp_path, chunks):
    truth = write_scan(
        tmp_path / "a.h5", n_rows=12, n_cols=48, n_angles=61, cor_px=22.3, chunks=chunks
    )
    true = truth.projections()
    with open_scan(truth.path) as scan:
        rows = collect_rows(scan, [4, 9], PreprocessBlock())
    assert rows.row_index.tolist()[:2] == [4, 9]
    assert len(rows.row_index) == 5
    np.testing.assert_allclose(
        rows.sinograms, true[:, rows.row_index].transpose(1, 0, 2), atol=1e-4
    )
    np.testing.assert_allclose(rows.pairs, true[[0, 60]][None], atol=1e-4)
    np.testing.assert_allclose(rows.pair_theta_rad, [[0, np.pi]])
    assert (rows.n_rows, rows.theta_missing, rows.minus_log) == (12, False, True)


def test_transmission_when_there_is_no_log(tmp_path):
    truth = write_scan(tmp_path / "a.h5", n_rows=2, n_cols=32, n_angles=21)
    with open_scan(truth.path) as scan:
        rows = collect_rows(scan, [0], PreprocessBlock(minus_log=False))
    np.testing.assert_allclose(rows.sinograms[0], np.exp(-truth.projections()[:, 0]), atol=1e-4)
    assert not rows.minus_log


def test_tall_projections_are_averaged_over_blocks_of_rows(tmp_path):
    truth = write_scan(tmp_path / "a.h5", n_rows=515, n_cols=24, n_angles=3)
    with open_scan(truth.path) as scan:
        pairs = collect_rows(scan, [200], PreprocessBlock()).pairs
    true = truth.projections()
    assert pairs.shape == (1, 2, 172, 24)
    np.testing.assert_allclose(pairs[0, 0, 100], true[0, 300:303].mean(axis=0), atol=1e-4)
    np.testing.assert_allclose(pairs[0, 1, 171], true[2, 513:].mean(axis=0), atol=1e-4)


def _overwrite(path, change):
    with h5py.File(path, "r+") as file:
        data = file["exchange/data"][:]
        change(data)
        file["exchange/data"][:] = data


def _set(index, value):
    def change(data):
        data[index] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_set(np.s_[:], 0), "constant frames: 41 of 41 frames hold a single value"),
        (_set(np.s_[:], np.nan), "constant frames: 41 of 41 frames hold only NaN"),
        (_set(np.s_[20:], 0), "leaves them out"),
        (_set(np.s_[39:], 0), "constant frames: 2 of 41"),
        (_set(np.s_[:, 2], 5.0), "no signal: row 2 .* to one that has some, such as 0, 1, 3"),
    ],
    ids=["zeros", "nan", "half", "tail", "dead row"],
)
def test_data_never_written_are_refused(tmp_path, change, message):
    truth = write_scan(tmp_path / "a.h5", n_rows=4, n_cols=32, n_angles=41)
    _overwrite(truth.path, change)
    with open_scan(truth.path) as scan, pytest.raises(ScanError, match=message):
        collect_rows(scan, [2], PreprocessBlock())


@pytest.mark.parametrize(
    "change",
    [
        _set(np.s_[7], 0),
        _set(np.s_[40], 0),
        _set(np.s_[3, 1, 5], np.nan),
        lambda data: np.copyto(data, np.random.default_rng(0).poisson(5000, data.shape)),
    ],
    ids=["one frame", "last frame", "one nan", "noise"],
)
def test_a_frame_dropped_and_pure_noise_are_data(tmp_path, change):
    truth = write_scan(tmp_path / "a.h5", n_rows=4, n_cols=32, n_angles=41)
    _overwrite(truth.path, change)
    with open_scan(truth.path) as scan:
        rows = collect_rows(scan, [2], PreprocessBlock())
    assert np.isfinite(rows.sinograms).all()
    assert np.isfinite(rows.pairs).all()
