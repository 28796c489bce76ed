"""rows.h5: what is written comes back; what try_recon has not written is named."""

from dataclasses import replace

import h5py
import numpy as np
import pytest

from tests.find_rows import rows_of
from tomopipe.cor.collected_rows import Rows, failed_rows, read_rows, write_rows
from tomopipe.errors import TomopipeError

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
