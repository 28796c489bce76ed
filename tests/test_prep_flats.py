"""Flats: outliers, a beam that drifts between sets, files that do not tell when."""

import h5py
import numpy as np
import pytest

from tests.phantoms import write_scan
from tomopipe.config import PreprocessBlock
from tomopipe.errors import ScanError
from tomopipe.io.exchange import open_scan
from tomopipe.prep.correct import corrections_of
from tomopipe.prep.flats import hat_weights, read_beam

N_ROWS, N_COLS, N_ANGLES = 6, 40, 31


@pytest.fixture
def drifting(tmp_path):
    """A scan whose beam moves from one profile to another while it is taken."""
    truth = write_scan(tmp_path / "a.h5", n_rows=N_ROWS, n_cols=N_COLS, n_angles=N_ANGLES)
    x = np.arange(N_COLS) / N_COLS
    before = np.full((N_ROWS, N_COLS), 1.0) + 0.3 * np.sin(9 * x)
    after = np.full((N_ROWS, N_COLS), 0.8) + 0.3 * np.cos(7 * x)
    part = ((np.arange(N_ANGLES) + 0.5) / N_ANGLES)[:, None, None]
    beam = before + part * (after - before)
    with h5py.File(truth.path, "r+") as file:
        for name, frames in [
            ("data", beam * np.exp(-truth.projections())),
            ("data_white", np.repeat([before, after], 4, axis=0)),
            ("data_dark", np.zeros((2, N_ROWS, N_COLS))),
        ]:
            del file["exchange"][name]
            file["exchange"][name] = (100 + 1000 * frames).astype(np.float32)
    return truth


def line_integrals(scan, **options):
    corrections = corrections_of(scan, PreprocessBlock(**options))
    raw = scan.read_rows(0, N_ROWS)
    return corrections.projections(raw, (0, N_ANGLES), (0, N_ROWS))


def test_interpolated_flats_undo_a_drift(drifting):
    with open_scan(drifting.path) as scan:
        corrected = line_integrals(scan, flat_method="interpolate")
        mean = line_integrals(scan)
    assert np.abs(corrected - drifting.projections()).max() < 1e-5
    assert np.abs(mean - drifting.projections()).max() > 0.1


def test_interpolated_flats_are_the_same_in_any_block(drifting):
    with open_scan(drifting.path) as scan:
        corrections = corrections_of(scan, PreprocessBlock(flat_method="interpolate"))
        whole = corrections.projections(scan.read_rows(0, N_ROWS), (0, N_ANGLES), (0, N_ROWS))
        raw = scan.read_block((10, 20), (2, 4))
        part = corrections.projections(raw, (10, 20), (2, 4))
    assert np.array_equal(part, whole[10:20, 2:4])


def test_sets_that_the_file_dates_are_used_where_they_were_taken(drifting, monkeypatch):
    """A set half-way that equals the first: nothing drifts before it."""
    from tomopipe.io.scan import FlatSet, Scan

    with open_scan(drifting.path) as scan:
        flats = scan.read_flats(0, N_ROWS)
        first, last = flats[:4].mean(axis=0), flats[4:].mean(axis=0)
        sets = (FlatSet(0.0, 0, 2, first), FlatSet(15.0, 2, 4, first), FlatSet(31.0, 4, 8, last))
        monkeypatch.setattr(Scan, "flat_sets", sets)
        beam = read_beam(scan, PreprocessBlock(flat_method="interpolate"))
    at = beam.flat + (beam.flat - beam.dark) * np.tensordot(beam.weights, beam.shapes, axes=1)
    assert np.allclose(at[:15], first, rtol=1e-5)
    assert np.allclose(at[30], first + (last - first) * 15.5 / 16, rtol=1e-5)


def test_components_of_the_flats_follow_a_beam_that_flickers(tmp_path):
    """Two patterns of random strength in every flat and every projection, and photon noise."""
    n_rows, n_cols, n_angles, n_flats = 24, 64, 15, 20
    truth = write_scan(tmp_path / "a.h5", n_rows=n_rows, n_cols=n_cols, n_angles=n_angles)
    random = np.random.default_rng(0)
    y, x = np.mgrid[:n_rows, :n_cols]
    patterns = np.stack([np.sin(y / 1.5), np.cos(x / 2 + y / 3)])

    def beams(n):
        return 1 + np.tensordot(random.normal(0, 0.05, (n, 2)), patterns, axes=1)

    counts = {
        "data": 1e5 * beams(n_angles) * np.exp(-truth.projections()),
        "data_white": 1e5 * beams(n_flats),
        "data_dark": np.zeros((2, n_rows, n_cols)),
    }
    with h5py.File(truth.path, "r+") as file:
        for name, values in counts.items():
            del file["exchange"][name]
            file["exchange"][name] = (100 + random.poisson(values)).astype(np.float32)
    errors = {}
    with open_scan(truth.path) as scan:
        for method in ("mean", "pca"):
            recipe = PreprocessBlock(flat_method=method, flat_components=2)
            corrections = corrections_of(scan, recipe)
            raw = scan.read_rows(0, n_rows)
            got = corrections.projections(raw, (0, n_angles), (0, n_rows))
            errors[method] = np.std(got - truth.projections())
    noise = np.sqrt(np.mean(np.exp(truth.projections())) / 1e5)
    assert errors["pca"] < 1.5 * noise
    assert errors["mean"] > 8 * errors["pca"]


def test_one_flat_has_no_components(drifting):
    with h5py.File(drifting.path, "r+") as file:
        one = file["exchange/data_white"][:1]
        del file["exchange/data_white"]
        file["exchange/data_white"] = one
    recipe = PreprocessBlock(flat_method="pca")
    with open_scan(drifting.path) as scan, pytest.raises(ScanError, match="several flats"):
        read_beam(scan, recipe)


def test_median_ignores_an_outlier(drifting):
    with h5py.File(drifting.path, "r+") as file:
        file["exchange/data_white"][3, 2] = 60000
        file["exchange/data_white"][:, 4] = np.arange(8)[:, None] + 500
    with open_scan(drifting.path) as scan:
        beam = read_beam(scan, PreprocessBlock(flat_method="median"))
        flats = scan.read_flats(0, N_ROWS)
    assert np.array_equal(beam.flat, np.median(flats, axis=0).astype(np.float32))
    assert np.all(beam.flat[4] == 503.5)


def test_fewer_flats_than_sets_are_refused(drifting):
    recipe = PreprocessBlock(flat_method="interpolate", flat_sets=9)
    with open_scan(drifting.path) as scan, pytest.raises(ScanError, match="9 sets of flats"):
        read_beam(scan, recipe)


def test_no_flats_at_all(drifting):
    recipe = PreprocessBlock(flats="none", darks="none", flat_method="median")
    with open_scan(drifting.path, flats="none", darks="none") as scan:
        assert np.all(read_beam(scan, recipe).flat == 1)


def test_hat_weights():
    weights = hat_weights(4, np.array([1.0, 3.0]))
    assert np.allclose(weights[:, 1], [0, 0.25, 0.75, 1])
    assert np.allclose(weights.sum(axis=1), 1)
