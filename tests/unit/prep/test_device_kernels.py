"""Corrections on a GPU, pretended and real: the host's results."""

import shutil

import h5py
import numpy as np
import pytest

from tests.corrections import EVERYTHING, KNOWN, RING_CURRENT
from tests.phantoms import write_scan
from tomopipe.config import PreprocessBlock
from tomopipe.config.stripe_filters import STRIPE_FILTERS
from tomopipe.prep import correct, normalise
from tomopipe.prep.correct import corrections_of
from tomopipe.scans.exchange import open_scan

RNG = np.random.default_rng(5)
CHAIN = {key: EVERYTHING[key] for key in EVERYTHING if key != "stripes"} | RING_CURRENT
SENSITIVE = {"gated": {"threshold": 2.0}, "vo": {"size_px": 5, "large_px": 11, "snr": 2.0}}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    truth = write_scan(
        tmp_path_factory.mktemp("gpu") / "a.h5", n_rows=30, n_cols=48, n_angles=61,
        phantom="rock", cor_px=24.7, dtype=np.uint16, counts=2e4,
    )  # fmt: skip
    with h5py.File(truth.path, "r+") as file:
        data = file["exchange/data"]
        raw = data[:].astype(float)
        raw[5, 14, 20] *= 3  # a zinger
        raw[:, 16, 30] *= 1.3  # a stripe
        raw[:, 15, 8] = 0  # a dead column
        data[:] = raw.clip(0, 65535)
        file["exchange/data_white"][:, 13, 25] = 0  # a bad pixel
    return truth.path


@pytest.mark.parametrize("method", STRIPE_FILTERS)
def test_the_whole_chain_gives_the_sinograms_of_the_host(path, monkeypatch, method, xp):
    """To 1e-4 of the range; with more frames than one batch takes.

    Filters that sort may swap two angles whose values differ by rounding alone, and a column near
    the threshold of `gated` is a stripe for one of both.
    """
    factors = normalise.Factors(np.linspace(1.1, 0.9, 61, dtype=np.float32))
    monkeypatch.setattr(normalise, "monitor_of", lambda *fitted: factors)
    recipe = PreprocessBlock(**CHAIN, stripes={"method": method} | SENSITIVE.get(method, {}))
    with open_scan(path, options=KNOWN) as scan:
        corrections, rows = corrections_of(scan, recipe), (12, 18)
        raw = scan.read_rows(*corrections.rows_needed(rows))
    on_host_values = corrections.sinograms(raw, rows)
    plain = PreprocessBlock(**CHAIN)
    monkeypatch.setattr(correct, "GPU_BATCH_BYTES", 4 * 20 * raw[0].size)
    there = corrections.sinograms(xp.asarray(raw), rows)
    assert there.dtype == np.float32
    there = there.get()
    near = np.abs(there - on_host_values) < 1e-4 * np.ptp(on_host_values)
    if method in ("sorting", "vo"):
        assert near.mean() > 0.995
        on_host_values, there = np.sort(on_host_values, axis=1), np.sort(there, axis=1)
        near = np.abs(there - on_host_values) < 1e-4 * np.ptp(on_host_values)
    columns = near.all(axis=1)
    apart = f"{(~near).sum()} values differ, in (row, column) {np.argwhere(~columns).tolist()}"
    assert columns.mean() > 0.98 if method == "gated" else columns.all(), apart
    with open_scan(path, options=KNOWN) as scan:
        unfiltered = corrections_of(scan, plain).sinograms(raw, rows)
    assert np.abs(unfiltered - corrections.sinograms(raw, rows)).max() > 1e-2 * np.ptp(
        on_host_values
    )  # the filter does something


@pytest.mark.parametrize("n_angles", [15, 97, 200])
@pytest.mark.parametrize("method", STRIPE_FILTERS)
def test_filters_take_rows_together_as_the_host_takes_each(monkeypatch, method, n_angles, xp):
    """Each row has other damage, one has none, and one is constant: no row has a say in another."""
    monkeypatch.setattr(correct, "stripe_rows", lambda *_: 4)
    random = np.random.default_rng(2)
    x, theta = np.linspace(-1, 1, 128), np.linspace(0, np.pi, n_angles)[:, None]
    rows = np.exp(-(((x - 0.3 * np.cos(theta)) / 0.4) ** 2)) + random.normal(
        0, 0.01, (6, n_angles, 128)
    )
    for row, columns in zip(rows[:4], random.integers(6, 122, (4, 5)), strict=True):
        row[:, columns] += random.choice([-1, 1], 5) * random.uniform(0.05, 0.2, 5)
    rows[0, :, 40] = 0.3  # dead
    rows[1, :, 70:72] = random.normal(1, 1, (n_angles, 2))
    rows[2, : n_angles // 3, 90] += 0.1
    rows[3, :, 20:30] += 0.3
    rows[5] = 0.7
    rows = rows.astype(np.float32)
    recipe = PreprocessBlock(stripes={"method": method} | SENSITIVE.get(method, {}))
    corrections = correct.Corrections(recipe, 6, None, ())
    found, expected = xp.asarray(rows), rows.copy()
    corrections.remove_stripes(found)
    corrections.remove_stripes(expected)
    np.testing.assert_allclose(found.get(), expected, atol=1e-5 * np.ptp(rows))
    is_changed = (np.abs(expected - rows) > 0.02).any(axis=(1, 2))
    assert is_changed[:4].all() or n_angles == 15
    assert not is_changed[5]


def test_dynamic_flats_on_a_gpu(path, tmp_path, xp):
    recipe = PreprocessBlock(flat_method="pca", flat_components=2)
    flickering = tmp_path / "flickering.h5"
    shutil.copy(path, flickering)
    with h5py.File(flickering, "r+") as file:
        flats = file["exchange/data_white"]
        flats[0] = flats[0] * np.linspace(0.9, 1, flats.shape[2])
    with open_scan(flickering, options=KNOWN) as scan:
        corrections = corrections_of(scan, recipe)
        raw = scan.read_rows(3, 9)
    on_host_values = corrections.sinograms(raw, (3, 9))
    assert len(corrections.beam.shapes)
    there = corrections.sinograms(xp.asarray(raw), (3, 9)).get()
    np.testing.assert_allclose(there, on_host_values, atol=1e-5 * np.ptp(on_host_values))
