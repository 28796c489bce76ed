"""Rows without light are passed over; a row number that has none names those that have."""

import h5py
import numpy as np
import pytest

from tests.phantoms import write_scan
from tests.step_calls import predict_in, try_in
from tomopipe.cor.collected_rows import read_rows
from tomopipe.cor.illuminated_rows import choose_rows, illuminated_rows, warn_of_dark_rows
from tomopipe.cor.roll import UsedRows
from tomopipe.errors import ScanError
from tomopipe.scans.exchange import open_scan

N_ROWS, N_COLS, N_ANGLES = 20, 64, 61
KINDS = ("data", "data_white", "data_dark")


def darken(path, rows, how):
    """Take the light from rows as a camera does that did not write them, or as a detector's gap."""
    with h5py.File(path, "r+") as file:
        for seed, name in enumerate(KINDS):
            values = file[f"exchange/{name}"]
            if how == "projections alone" and name != "data":
                continue
            if how == "noise":  # the level of the darks, as for a row out of the beam
                shape = values[:, rows].shape
                values[:, rows] = np.random.default_rng(seed).normal(100, 4, shape).round()
            else:
                values[:, rows] = {"largest": 65535, "nan": np.nan}.get(how, 0)


@pytest.fixture
def scan_with(tmp_path):
    def write(rows, how, **options):
        is_float = how == "nan"
        truth = write_scan(
            tmp_path / "a.h5", n_rows=N_ROWS, n_cols=N_COLS, n_angles=N_ANGLES, cor_px=33.2,
            counts=None if is_float else 5000, **options,
        )  # fmt: skip
        darken(truth.path, rows, how)
        return truth

    return write


HOW = ["zeros", "noise", "largest", "nan", "projections alone"]


@pytest.mark.parametrize("how", HOW)
def test_which_rows_get_light(scan_with, how):
    truth = scan_with(slice(8, 20), how)
    with open_scan(truth.path) as scan:
        assert np.flatnonzero(illuminated_rows(scan)).tolist() == list(range(8))


@pytest.mark.parametrize("how", ["zeros", "largest"])
def test_which_rows_get_light_without_flats(scan_with, how):
    truth = scan_with(slice(8, 12), how)
    with open_scan(truth.path, flats="none", darks="none") as scan:
        assert np.flatnonzero(~illuminated_rows(scan)).tolist() == [8, 9, 10, 11]


def test_rows_count_as_lit_where_the_beam_fades_or_air_saturates_the_camera(scan_with):
    """A beam that falls to 2 % at the edges; one air row at the limit; a dropped projection."""
    truth = scan_with(slice(0, 0), "zeros")
    fade = np.linspace(0.02, 1, N_ROWS)[:, None]
    with h5py.File(truth.path, "r+") as file:
        for name in KINDS[:2]:
            values = file[f"exchange/{name}"]
            values[...] = 100 + (values[...] - 100.0) * fade
        file["exchange/data"][:, 19] = 65535
        file["exchange/data"][N_ANGLES // 3] = 0
    with open_scan(truth.path) as scan:
        assert illuminated_rows(scan).all()


def test_flats_that_are_no_brighter_than_darks_have_no_row(scan_with):
    truth = scan_with(slice(0, 0), "zeros")
    with open_scan(truth.path, flats=[truth.path], darks=[truth.path]) as scan:
        scan.dark[...] = scan.flat + 1
        assert not illuminated_rows(scan).any()


TOP, GAP = np.arange(10) > 3, ~np.isin(np.arange(10), (4, 5))


@pytest.mark.parametrize(
    ("row", "lit", "expected", "note"),
    [
        (0.5, np.ones(10, bool), [5], ""),
        (0.5, np.zeros(10, bool), [5], ""),
        (0.5, GAP, [6], "row 5 gets no light (rows 4 to 5 of 10 get no light): row 6 is taken"),
        (0.0, TOP, [4], "(try_recon.row: 0)"),
        (7, TOP, [7], ""),
        ([0.1, 0.2, 0.9], TOP, [4, 5, 8], "row 2 gets no light"),
        (
            [8, 2, 6],
            TOP,
            [8, 6],
            "row 2 gets no light (rows 0 to 3 of 10 get no light): it is left",
        ),
    ],
    ids=["all", "none", "gap", "top", "a number", "several", "one of several"],
)
def test_the_nearest_row_with_light(row, lit, expected, note):
    rows, notes = choose_rows(row, lit)
    assert rows == expected
    assert note in "; ".join(notes)
    assert bool(notes) == bool(note)


@pytest.mark.parametrize("row", [2, [2, 7]])
def test_a_row_number_without_light_names_those_that_have_some(row):
    with pytest.raises(
        ScanError, match=r"row 2 gets no light .*: set try_recon.row to one of 4 to"
    ):
        choose_rows(row, TOP)


@pytest.mark.parametrize(
    ("dark", "used", "text"),
    [
        (range(8, 20), "all", "8 to 19 of 20 get no light, so their slices show no sample; full_r"),
        (range(8, 20), "all", "full_recon.rows: [0, 7] leaves them out"),
        (range(8, 20), (0, 7), ""),
        (range(8, 20), (9, 12), "full_recon.rows: [0, 7] leaves"),
        ([8], "all", "row 8 of 20 gets no light, so"),
        ([8, 9], "all", "full_recon.rows: [10, 19] or [0, 7] leaves"),
        ([8, 9], (3, 15), "full_recon.rows: [10, 15] or [3, 7] leaves"),
    ],
)
def test_rows_of_the_volume_that_are_empty(dark, used, text):
    warning = warn_of_dark_rows(np.array(dark), 20, used)
    assert text in warning
    assert bool(warning) == bool(text)


def test_a_file_of_sinograms_whose_projections_alone_are_dark_names_rows_with_light(
    scan_with, tmp_path
):
    """No projection of such a file is read for itself; a file of frames takes the nearest row."""
    dark = np.s_[6:14]
    sinograms = {"chunks": (N_ANGLES, 1, N_COLS), "compression": "gzip"}
    truth = scan_with(dark, "projections alone", **sinograms)
    reason = try_in(tmp_path, truth.path, width_px=2)["failed"]
    assert reason.startswith("no signal: row 10 is")
    assert reason.endswith("set try_recon.row to one that has some, such as 2, 17")
    (tmp_path / "a.h5").unlink()
    truth = scan_with(dark, "projections alone")
    assert try_in(tmp_path, truth.path, width_px=2)["row"] in (5, 14)


@pytest.mark.slow
@pytest.mark.parametrize("how", HOW[:3])
def test_the_axis_is_that_of_the_rows_with_light(scan_with, how, tmp_path):
    """Rows are the true line integrals, the COR is right, and the volume's rows are named."""
    truth = scan_with(slice(8, 20), how)
    with h5py.File(truth.path) as file:
        before = file["exchange/data"][()]
    sweep = try_in(tmp_path, truth.path, width_px=8, device="cpu")
    rows = read_rows(tmp_path / "rows.h5")
    assert sweep["row"] == 7
    assert set(rows.row_index.tolist()) <= set(range(8))
    assert len(rows.row_index) == 5
    true = truth.projections()[:, rows.row_index].transpose(1, 0, 2)
    assert np.abs(rows.sinograms - true).mean() < 0.03
    options = {"methods": ["classical"], "min_confidence": 0.3}
    prediction = predict_in(tmp_path, **options)
    assert prediction["cor_px"] == pytest.approx(33.2, abs=0.5)
    (warning,) = prediction["warnings"]
    assert warning.startswith("rows 8 to 19 of 20 get no light")
    assert "doubts" not in prediction
    assert prediction["volume_rows"] == "all"
    within = predict_in(tmp_path, used=UsedRows(rows=[0, 7]), **options)
    assert (within["warnings"], within["volume_rows"]) == ([], [0, 7])
    failed = try_in(tmp_path, truth.path, row=10, device="cpu")["failed"]
    assert "flats" not in failed
    assert "set try_recon.row to one of 0 to 7" in failed
    with h5py.File(truth.path) as file:
        assert np.array_equal(file["exchange/data"][()], before, equal_nan=how == "nan")
